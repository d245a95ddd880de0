//! Data files that programs have past all handles (P2): what may not happen to their bytes, and how
//! changes that nobody tells of are found. That the kernel gives them out, tests/passthrough.rs shows.

use super::rig::*;
use crate::attr::OpenMode;
use crate::disk::Held;
use crate::file::{File, data_path};
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
