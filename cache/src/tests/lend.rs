//! Data files that programs have past all handles (P2): what may not happen to their bytes, and how
//! changes that nobody tells of are found. That the kernel gives them out, tests/passthrough.rs shows.

use super::rig::*;
use crate::attr::{Allocate, OpenMode};
use crate::disk::Held;
use crate::file::{File, data_path};
use covefs_remote::ErrorKind;
use covefs_remote::fault::{Fault, Rule};
use std::sync::Arc;
use std::time::Duration;

const SIZE: usize = 200_000;
/// Longer than a file rests that may be changed unseen.
const WHILE: Duration = Duration::from_secs(30);

/// A file that is whole here, and that somebody has as said.
fn held(rig: &Rig, held: Held) -> Arc<File> {
    rig.read("f").unwrap();
    let file = rig.file("f");
    file.lock().shared = true;
    rig.vfs().lending.given().insert(file.id);
    rig.disk.hold(held);
    file
}

// rules P2, D2
#[test]
fn bytes_that_somebody_has_stay() {
    for who in [Held::Readers, Held::Writers] {
        let rig = Rig::with(&[("f", pattern(1, SIZE))]);
        let file = held(&rig, who);
        assert_eq!(rig.evict("f").unwrap(), 0, "{who:?}");
        assert!(file.lock().is_whole(), "{who:?}");
        rig.disk.hold(Held::Nobody);
        assert!(rig.evict("f").unwrap() >= SIZE as u64, "{who:?}");
        assert!(!file.lock().is_whole(), "{who:?}");
    }
}

/// rules P2, D1: what rotted of it cannot be dropped, and nobody is told that it was.
#[test]
fn what_rotted_of_what_somebody_has_is_told_and_not_called_repaired() {
    let rig = Rig::with(&[("f", pattern(1, SIZE))]);
    let file = held(&rig, Held::Readers);
    rig.disk.write_unseen(&data_path(file.id), !pattern(1, SIZE)[100], 100);
    let report = rig.wait(rig.vfs().scrub(&|_| ())).unwrap();
    assert_eq!((report.problems.len(), report.repaired.len()), (1, 0), "{report:?}");
    assert!(report.problems[0].contains("a program has the file open"), "{report:?}");
    rig.disk.hold(Held::Nobody);
    let report = rig.wait(rig.vfs().scrub(&|_| ())).unwrap();
    assert_eq!((report.problems.len(), report.repaired.len()), (1, 1), "{report:?}");
    assert!(rig.read("f").unwrap() == pattern(1, SIZE));
}

/// rules P2, R1: a file that was not read through the handle that is open follows the share, but not
/// in place.
#[test]
fn a_new_version_is_not_put_into_what_somebody_has() {
    let rig = Rig::with(&[("f", pattern(1, SIZE))]);
    let file = held(&rig, Held::Readers);
    let fh = rig.open("f", READ).unwrap();
    rig.memory.write_file(&path("f"), pattern(2, 2 * SIZE));
    rig.pause(WHILE);
    assert_eq!(rig.read("f").unwrap(), pattern(2, 2 * SIZE));
    let mut bytes = Vec::new();
    file.read_data(&(0..SIZE as u64), &mut bytes).unwrap();
    assert!(bytes == pattern(1, SIZE), "the data file has other bytes");
    rig.close(fh);
}

// rule P2
#[test]
fn what_is_changed_unseen_goes_up_until_nobody_can() {
    let mut expected = pattern(1, SIZE);
    let rig = Rig::with(&[("f", expected.clone())]);
    let file = held(&rig, Held::Writers);
    rig.ask(|vfs, asked| vfs.claim(asked, &file)).unwrap();
    let mut change = |at: usize, byte: u8| {
        rig.disk.write_unseen(&data_path(file.id), byte, at as u64);
        expected[at] = byte;
        expected.clone()
    };
    for (at, byte) in [(5, 1), (70_000, 2)] {
        let expected = change(at, byte);
        rig.pause(WHILE);
        assert!(rig.there("f").unwrap() == expected, "change at {at}");
    }
    // Asked whether all is on the share, it says yes, though it still counts as ours.
    rig.sync().unwrap();
    assert!(file.lock().is_dirty(), "who has it may change it again");
    let uploads = rig.remote.requests("replace");
    rig.pause(WHILE);
    assert_eq!(rig.remote.requests("replace"), uploads, "nothing new is not sent again");
    let expected = change(150_000, 3);
    rig.disk.hold(Held::Nobody);
    rig.pause(WHILE);
    assert!(rig.there("f").unwrap() == expected, "the last change");
    assert!(!file.lock().is_dirty(), "nobody can change it unseen");
}

// rule P2
#[test]
fn what_is_changed_unseen_outlives_us() {
    let mut expected = pattern(1, SIZE);
    let mut rig = Rig::with(&[("f", expected.clone())]);
    let file = held(&rig, Held::Writers);
    rig.ask(|vfs, asked| vfs.claim(asked, &file)).unwrap();
    let data = data_path(file.id);
    drop(file);
    rig.pause(WHILE);
    rig.stop();
    rig.disk.write_unseen(&data, 7, 100);
    rig.disk.crash();
    rig.start();
    rig.disk.write_unseen(&data, 8, 199_000);
    (expected[100], expected[199_000]) = (7, 8);
    assert!(rig.read("f").unwrap() == expected, "here");
    rig.pause(WHILE);
    assert!(rig.there("f").unwrap() == expected, "there");
}

/// rule P2: that the share happens to have the same bytes now does not make it clean.
#[test]
fn equal_bytes_there_are_not_the_end_of_it() {
    let mut expected = pattern(1, SIZE);
    let rig = Rig::with(&[("f", expected.clone())]);
    let file = held(&rig, Held::Writers);
    rig.ask(|vfs, asked| vfs.claim(asked, &file)).unwrap();
    rig.memory.write_file(&path("f"), expected.clone());
    rig.pause(WHILE);
    assert!(file.lock().is_dirty(), "who has it may change it yet");
    rig.disk.write_unseen(&data_path(file.id), 9, 12_345);
    expected[12_345] = 9;
    rig.pause(WHILE);
    assert!(rig.there("f").unwrap() == expected);
}

/// rule P2: a program that has it open to write may map it a moment later.
#[test]
fn who_has_it_open_may_map_it_yet() {
    let mut expected = pattern(1, SIZE);
    let rig = Rig::with(&[("f", expected.clone())]);
    let file = held(&rig, Held::Nobody);
    rig.ask(|vfs, asked| vfs.claim(asked, &file)).unwrap();
    let fh = rig.open("f", OpenMode { read: true, ..WRITE }).unwrap();
    rig.pause(3 * WHILE);
    rig.disk.write_unseen(&data_path(file.id), 9, 12_345);
    expected[12_345] = 9;
    rig.close(fh);
    rig.pause(WHILE);
    assert!(rig.there("f").unwrap() == expected);
}

/// rules P2, S3: what a program has in a mapping counts as changed for days. What was removed beside it waited
/// for its upload for as long.
#[test]
fn what_is_mapped_keeps_no_removal_from_the_share() {
    let rig = Rig::with(&[("f", pattern(1, SIZE)), ("other", pattern(2, 100))]);
    let file = held(&rig, Held::Writers);
    rig.ask(|vfs, asked| vfs.claim(asked, &file)).unwrap();
    rig.disk.write_unseen(&data_path(file.id), 7, 100);
    rig.rm("other").unwrap();
    rig.sync().unwrap();
    assert_eq!(rig.there("other"), None);
    assert_eq!(rig.there("f").unwrap()[100], 7, "what was written before goes first");
}

/// rule S3: the same of a program that never stops writing.
#[test]
fn who_writes_all_the_time_keeps_no_removal_from_the_share() {
    let rig = Rig::with(&[("log", Vec::new()), ("other", pattern(2, 100))]);
    let fh = rig.open("log", WRITE).unwrap();
    rig.remote.inject(Rule::new("replace", Fault::Late(Duration::from_secs(2))));
    rig.write_at(fh, 0, b"begin").unwrap();
    rig.rm("other").unwrap();
    for number in 0..1200 {
        rig.write_at(fh, number, b"line").unwrap();
        rig.pause(Duration::from_secs(1));
    }
    assert_eq!(rig.there("other"), None);
    rig.close(fh);
}

/// rule P2: a hole that is made in a file that somebody has in a mapping is one for nobody: what was written
/// into it unseen stayed here, and the next start made zeros of it.
#[test]
fn what_is_written_unseen_into_a_new_part_goes_up_and_outlives_us() {
    let make: [fn(&Rig, crate::attr::Fh); 3] = [
        |rig, _| rig.resize("f", 2 * SIZE as u64).unwrap(),
        |rig, fh| rig.write_at(fh, 2 * SIZE as u64 - 1, &[0]).unwrap(),
        |rig, fh| {
            rig.resize("f", 2 * SIZE as u64).unwrap();
            let how = Allocate::Punch;
            let range = (SIZE as u64, SIZE as u64);
            rig.ask(|vfs, asked| vfs.fallocate(asked, fh, range.0, range.1, how)).unwrap();
        },
    ];
    for (number, make) in make.into_iter().enumerate() {
        let mut expected = pattern(1, SIZE);
        let mut rig = Rig::with(&[("f", expected.clone())]);
        let file = held(&rig, Held::Writers);
        rig.ask(|vfs, asked| vfs.claim(asked, &file)).unwrap();
        let fh = rig.open("f", WRITE).unwrap();
        make(&rig, fh);
        rig.close(fh);
        expected.resize(2 * SIZE, 0);
        let data = data_path(file.id);
        drop(file);
        rig.disk.write_unseen(&data, 7, SIZE as u64 + 100);
        expected[SIZE + 100] = 7;
        rig.pause(WHILE);
        assert!(rig.there("f").unwrap() == expected, "there, by way {number}");
        rig.stop();
        rig.disk.write_unseen(&data, 8, SIZE as u64 + 50_000);
        expected[SIZE + 50_000] = 8;
        rig.disk.crash();
        rig.start();
        assert!(rig.read("f").unwrap() == expected, "here, by way {number}");
        rig.pause(WHILE);
        assert!(rig.there("f").unwrap() == expected, "after a crash, by way {number}");
        assert_eq!(rig.vfs().conflicts().len(), 0, "by way {number}");
    }
}

/// rules P2, S3: of what is in a mapping only bytes count as sent. Its new name goes before a later removal,
/// a mode goes up though no byte was changed, and when the share has lost it, it gets all of it again.
#[test]
fn what_is_mapped_is_sent_but_for_its_name_and_its_mode() {
    let rig = Rig::with(&[("f", pattern(1, SIZE)), ("other", pattern(2, 100))]);
    let file = held(&rig, Held::Writers);
    rig.ask(|vfs, asked| vfs.claim(asked, &file)).unwrap();
    rig.pause(WHILE);
    rig.chmod("f", 0o640).unwrap();
    rig.sync().unwrap();
    assert_eq!(rig.mode_there("f"), Some(0o640));
    rig.remote.inject(Rule::new("rename", Fault::Before(ErrorKind::Locked)).times(1));
    rig.mv("f", "kept").unwrap();
    rig.rm("other").unwrap();
    rig.sync().unwrap();
    assert_eq!((rig.there("other"), rig.there("kept").unwrap().len()), (None, SIZE));
    rig.memory.remove_path(&path("kept"));
    rig.pause(WHILE * 2);
    rig.names();
    rig.pause(WHILE * 2);
    rig.sync().unwrap();
    assert_eq!(rig.there("kept").map(|bytes| bytes.len()), Some(SIZE));
}
