//! Power cuts at a chosen moment: each test tells one story.

use super::rig::*;
use covefs_remote::ErrorKind;
use covefs_remote::fault::{Fault, Gate, Rule};
use std::time::Duration;

/// So many power cuts, each with its own fate for what was not synced.
const FATES: u64 = 24;

fn each_fate(story: impl Fn(u64)) {
    (0..FATES).for_each(story);
}

#[track_caller]
fn same(read: &[u8], wanted: &[u8], seed: u64) {
    let at = read.iter().zip(wanted).position(|(a, b)| a != b);
    assert_eq!((at, read.len()), (None, wanted.len()), "fate {seed}: from there on it differs");
}

/// What stands on the share is what was written, but for what is said to be missing.
#[track_caller]
fn nothing_is_made_up(rig: &Rig, wrote: &[u8], seed: u64) {
    let conflicts = rig.vfs().conflicts();
    for name in rig.names() {
        let there = rig.there(&name).unwrap();
        let copy = conflicts.iter().find(|conflict| conflict.copy == Some(path(&name)));
        let missing = copy.map_or(Vec::new(), |copy| copy.missing.clone());
        let told = |at: usize| missing.iter().any(|gap| (gap.0..gap.1).contains(&(at as u64)));
        let bad = (0..there.len()).find(|at| there[*at] != wrote[*at] && !told(*at));
        assert_eq!(bad, None, "fate {seed}: {name} misses bytes and does not say so");
        assert!(there.iter().any(|byte| *byte != 0), "fate {seed}: nothing is left of it");
    }
}

/// A cached file was edited and the edit uploaded; then the power went. The index had forgotten
/// in memory what was present before the edit, not on the disk, and brought it back; the data
/// file had lost the new bytes: old ones were read, and uploaded, as the new version.
#[test]
fn an_uploaded_edit_is_not_undone_by_a_power_cut() {
    each_fate(|seed| {
        let old = pattern(1, 40_000);
        let mut rig = Rig::with(&[("f", old.clone())]);
        rig.read("f").unwrap();
        rig.settle().unwrap();
        rig.index_is_durable();
        let edit = pattern(2, 20_000);
        rig.edit("f", 5_000, &edit).unwrap();
        rig.sync().unwrap();
        rig.journal_is_durable();
        let mut new = old;
        new[5_000..25_000].copy_from_slice(&edit);
        same(&rig.there("f").unwrap(), &new, seed);
        rig.cut(seed);
        same(&rig.read("f").unwrap(), &new, seed);
    });
}

/// An upload was put in place, and its answer was lost with the power. The next start found it on
/// the share, and took what it had in its data file for the uploaded bytes.
#[test]
fn an_upload_found_on_the_share_is_read_from_there() {
    each_fate(|seed| {
        let mut rig = Rig::with(&[("f", pattern(1, 40_000))]);
        rig.read("f").unwrap();
        rig.settle().unwrap();
        let new = pattern(2, 40_000);
        rig.remote.inject(Rule::new("replace", Fault::After(ErrorKind::Timeout)).times(1));
        rig.edit("f", 0, &new).unwrap();
        rig.pause(Duration::from_millis(100));
        same(&rig.there("f").unwrap(), &new, seed);
        rig.journal_is_durable();
        rig.cut(seed);
        same(&rig.read("f").unwrap(), &new, seed);
        rig.sync().unwrap();
        assert_eq!(rig.vfs().conflicts(), [], "fate {seed}");
        same(&rig.there("f").unwrap(), &new, seed);
    });
}

/// The answer to an upload was lost, and a mode was set before anybody knew that it had arrived: it was taken for
/// sent with it.
#[test]
fn what_is_set_after_a_lost_answer_goes_up_too() {
    let rig = Rig::with(&[("f", pattern(1, 100)), ("d/f", pattern(2, 100))]);
    rig.find("f").unwrap();
    let lost = || Fault::After(ErrorKind::Timeout);
    rig.remote.inject(Rule::new("replace", lost()).times(1));
    rig.remote.inject(Rule::new("create_dir", lost()).times(1));
    rig.edit("f", 0, b"edit").unwrap();
    rig.mkdir("made").unwrap();
    while rig.remote.faults() < 2 {
        rig.pause(Duration::from_millis(100));
    }
    for (name, mode) in [("f", 0o640), ("made", 0o711)] {
        rig.chmod(name, mode).unwrap();
    }
    rig.sync().unwrap();
    for (name, mode) in [("f", 0o640), ("made", 0o711)] {
        assert_eq!(rig.mode_there(name).map(|mode| mode & 0o777), Some(mode), "{name}");
    }
    assert_eq!(rig.vfs().conflicts(), []);
}

/// A data file was removed by an eviction and made again by the next write; its name had been
/// made durable before, so that nobody did it again: the fsynced bytes had no name.
#[test]
fn a_data_file_made_again_is_durable_again() {
    each_fate(|seed| {
        let mut rig = Rig::with(&[("f", pattern(1, 9_000))]);
        rig.on("f", |fh| rig.write_at(fh, 0, &pattern(2, 9_000)).and_then(|()| rig.fsync(fh)))
            .unwrap();
        rig.sync().unwrap();
        rig.evict("f").unwrap();
        let new = pattern(3, 9_000);
        rig.on("f", |fh| rig.write_at(fh, 0, &new).and_then(|()| rig.fsync(fh))).unwrap();
        rig.cut(seed);
        same(&rig.read("f").unwrap(), &new, seed);
    });
}

/// The same for bytes that were fetched: without its name the new data file was gone, and the old
/// one of that name was back, with the bytes of an older version.
#[test]
fn fetched_bytes_are_present_once_their_data_file_has_a_durable_name() {
    each_fate(|seed| {
        let mut rig = Rig::with(&[("f", pattern(1, 9_000))]);
        rig.on("f", |fh| rig.write_at(fh, 0, &pattern(2, 9_000)).and_then(|()| rig.fsync(fh)))
            .unwrap();
        rig.sync().unwrap();
        let new = pattern(3, 9_000);
        rig.edit("f", 0, &new).unwrap();
        rig.sync().unwrap();
        rig.evict("f").unwrap();
        rig.read("f").unwrap();
        rig.settle().unwrap();
        rig.index_is_durable();
        rig.journal_is_durable();
        rig.cut(seed);
        same(&rig.read("f").unwrap(), &new, seed);
    });
}

/// A program saved by rename and did not fsync; the power took the new bytes. The old file was
/// removed from the share all the same.
#[test]
fn what_a_lost_file_was_to_replace_stays() {
    each_fate(|seed| {
        let old = pattern(1, 9_000);
        let mut rig = Rig::with(&[("f", old.clone())]);
        let fh = rig.create("tmp", TRUNCATE).unwrap();
        rig.write_at(fh, 0, &pattern(2, 5_000)).unwrap();
        rig.close(fh);
        rig.mv("tmp", "f").unwrap();
        rig.journal_is_durable();
        rig.cut(seed);
        rig.sync().unwrap();
        same(&rig.there("f").expect("the old file"), &old, seed);
        same(&rig.read("f").unwrap(), &old, seed);
    });
}

/// Bytes of a new file were lost: the zeros in its copy passed for its own.
#[test]
fn lost_bytes_of_a_copy_are_listed() {
    each_fate(|seed| {
        let new = pattern(1, 40_000);
        let mut rig = Rig::with(&[]);
        let fh = rig.create("f", TRUNCATE).unwrap();
        rig.write_at(fh, 0, &new).unwrap();
        rig.close(fh);
        rig.journal_is_durable();
        rig.cut(seed);
        rig.sync().unwrap();
        nothing_is_made_up(&rig, &new, seed);
    });
}

/// The settling syncs every two seconds what no program does. The journal was left out: bytes
/// were on the disk and nothing said whose.
#[test]
fn what_was_settled_survives() {
    each_fate(|seed| {
        let mut rig = Rig::with(&[("f", pattern(1, 9_000))]);
        let new = pattern(2, 9_000);
        let fh = rig.create("n", TRUNCATE).unwrap();
        rig.write_at(fh, 0, &new).unwrap();
        rig.close(fh);
        rig.settle().unwrap();
        rig.cut(seed);
        same(&rig.read("n").unwrap(), &new, seed);
    });
}

/// An fsynced file was cut short without an fsync. The data file lost its end at once, and the
/// journal's record of it was lost: zeros passed for synced bytes.
#[test]
fn synced_bytes_that_a_truncation_took_are_listed() {
    each_fate(|seed| {
        let new = pattern(1, 40_000);
        let mut rig = Rig::with(&[]);
        let fh = rig.create("f", TRUNCATE).unwrap();
        rig.write_at(fh, 0, &new).unwrap();
        rig.fsync(fh).unwrap();
        rig.close(fh);
        rig.resize("f", 100).unwrap();
        rig.cut(seed);
        rig.sync().unwrap();
        nothing_is_made_up(&rig, &new, seed);
    });
}

/// An edit was made and uploaded while the bytes of before were being synced: the index was told
/// that the new ones are.
#[test]
fn bytes_written_during_a_sync_are_not_told_to_the_index() {
    each_fate(|seed| {
        let mut rig = Rig::with(&[("f", pattern(1, 40_000))]);
        let fh = rig.open("f", READ).unwrap();
        rig.read_at(fh, 0, 40_000).unwrap();
        let file = rig.vfs().handles.file(fh).unwrap().file.clone();
        let before = file.lock().present.clone();
        rig.vfs().sync_data(&file).unwrap();
        let new = pattern(2, 40_000);
        rig.edit("f", 0, &new).unwrap();
        rig.sync().unwrap();
        rig.vfs().index_presence(&file, &before, 0).unwrap();
        rig.index_is_durable();
        rig.vfs().forget_cleaned(false).unwrap();
        rig.journal_is_durable();
        drop(file);
        rig.close(fh);
        rig.cut(seed);
        same(&rig.read("f").unwrap(), &new, seed);
    });
}

/// An open log was replaced on the share by a longer one, and what was here of it began again.
/// The index lost that, and took the new bytes for the old version's.
#[test]
fn what_began_again_is_not_taken_for_the_old_version() {
    let old = pattern(1, 40_000);
    let mut rig = Rig::with(&[("f", old.clone())]);
    let fh = rig.open("f", READ).unwrap();
    rig.read_at(fh, 0, 40_000).unwrap();
    rig.settle().unwrap();
    rig.index_is_durable();
    let new = pattern(2, 50_000);
    rig.memory.write_file(&path("f"), new.clone());
    rig.pause(Duration::from_millis(50));
    rig.find("f").unwrap();
    same(&rig.read_at(fh, 0, 50_000).unwrap(), &new, 0);
    rig.stop();
    rig.disk.crash();
    rig.index.lose_unflushed(0);
    rig.start_with(false);
    let read = rig.read("f");
    assert!(read.as_ref().is_err() || read.as_ref().unwrap() == &old, "bytes of two versions");
}

/// A file lost bytes of an edit in a power cut, and was changed on the share meanwhile. The sync
/// waited for its own step to end before it believed that, half a minute, and all others with it.
#[test]
fn a_copy_does_not_wait_for_a_base_that_is_gone() {
    each_fate(|seed| {
        let mut rig = Rig::with(&[("f", pattern(1, 300_000))]);
        rig.find("f").unwrap();
        rig.remote.offline(true);
        rig.edit("f", 100_000, &pattern(2, 9_000)).unwrap();
        rig.journal_is_durable();
        rig.stop();
        rig.disk.power_loss(seed);
        rig.index.lose_unflushed(seed);
        rig.memory.write_file(&path("f"), pattern(3, 200_000));
        rig.start();
        let before = rig.now();
        rig.sync().unwrap();
        assert!(rig.now() - before < rig.config.timeout / 2, "fate {seed}: it waited");
        same(&rig.there("f").unwrap(), &pattern(3, 200_000), seed);
    });
}

/// Before anything could be stored, a start sent the copies of what a power cut had damaged: what
/// the share has of them was left out.
#[test]
fn a_copy_holds_what_the_share_still_has() {
    each_fate(|seed| {
        let old = pattern(1, 300_000);
        let mut rig = Rig::with(&[("f", old.clone())]);
        rig.find("f").unwrap();
        rig.remote.offline(true);
        rig.edit("f", 100_000, &pattern(2, 9_000)).unwrap();
        rig.journal_is_durable();
        rig.cut(seed);
        rig.sync().unwrap();
        let copy = rig.there("f-here").unwrap_or_else(|| rig.there("f").unwrap());
        same(&copy[..100_000], &old[..100_000], seed);
        same(&copy[109_000..], &old[109_000..], seed);
    });
}

/// A new file had reached the index and not the journal. The next start forgot it in two steps, and
/// the power went between them: a name that the share never had stayed for good.
#[test]
fn what_the_index_alone_knew_is_forgotten_in_spite_of_a_second_cut() {
    each_fate(|seed| {
        let mut rig = Rig::with(&[("f", pattern(1, 9_000))]);
        assert_eq!(rig.names(), ["f"]);
        rig.remote.offline(true);
        let fh = rig.create("new", WRITE).unwrap();
        rig.close(fh);
        rig.index_is_durable();
        rig.cut(seed);
        rig.cut(seed + 1);
        rig.sync().unwrap();
        for name in rig.names() {
            assert!(rig.there(&name).is_some(), "fate {seed}: {name} is nowhere");
        }
    });
}

/// Killed in the middle of a removal, whose file stood aside for a moment. The next start listed the
/// directory, took the name for gone and had nothing more to remove: the file stayed there, hidden.
#[cfg(unix)] // On Windows a removal moves nothing aside.
#[test]
fn a_removal_that_was_cut_off_is_finished() {
    use crate::limits;
    use covefs_remote::Remote;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    std::fs::write(&file, pattern(1, 9_000)).unwrap();
    let mut rig = Rig::on_dir(dir.path());
    let id = rig.wait(rig.remote.stat(&path("f"))).unwrap().version.content.file_id;
    rig.find("f").unwrap();
    rig.remote.inject(Rule::new("remove", Fault::Before(ErrorKind::Busy)));
    rig.rm("f").unwrap();
    rig.pause(Duration::from_secs(20));
    assert!(rig.remote.requests("remove") > 0);
    rig.stop();
    std::fs::rename(&file, dir.path().join(format!(".~covefs-move-rm-{id:016x}"))).unwrap();
    rig.start();
    // Between two attempts.
    rig.pause(rig.config.timeout + limits::RETRY_FIRST / 2);
    assert_eq!(rig.names(), [""; 0]);
    rig.remote.heal();
    rig.sync().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A hole is called zeros, then that is made durable, then it is made. An upload began in between
/// and sent what the hole was to take.
#[test]
fn an_upload_does_not_send_what_a_hole_is_about_to_take() {
    for early in [true, false] {
        let rig = Rig::with(&[("f", pattern(1, 100))]);
        let gate = Gate::new();
        if early {
            gate.open();
        }
        let stall = Fault::Stall { bytes: 1 << 20, gate: gate.clone() };
        rig.remote.inject(Rule::new("replace", stall));
        let all = pattern(2, 2 << 20);
        rig.edit("f", 0, &all).unwrap();
        let file = rig.file("f");
        if !early {
            rig.wait(gate.arrived(1));
        }
        let (journal, now) = (&rig.vfs().journal, rig.vfs().clock.now());
        let hole = {
            let mut content = file.lock();
            let hole = file.log_hole(&mut content, journal, 0..50_000, false, now).unwrap();
            content.cutting = true;
            hole
        };
        gate.open();
        rig.pause(Duration::from_secs(5));
        {
            let mut content = file.lock();
            file.punch(&mut content, &rig.vfs().space, hole, now).unwrap();
            content.cutting = false;
        }
        file.changed.notify_waiters();
        rig.sync().unwrap();
        let there = rig.there("f").unwrap();
        assert!(there[..50_000].iter().all(|byte| *byte == 0), "early: {early}");
        assert!(there[50_000..] == all[50_000..]);
    }
}
