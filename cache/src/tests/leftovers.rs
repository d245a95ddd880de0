//! rule X2: names of covefs on the share that no site is at any more go, or are shown, by the share's clock.

use super::rig::*;
use covefs_remote::ErrorKind;
use covefs_remote::fault::{Fault, Rule};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
const TEMPORARY: &str = ".~covefs-feedface-1";
const MOVING: &str = ".~covefs-move-feedface-2";

/// The drive makes a change, by which it learns what time it is there, and looks again.
fn look(rig: &Rig, change: &str) -> Vec<String> {
    let fh = rig.create(change, WRITE).unwrap();
    rig.write_at(fh, 0, b"text").unwrap();
    rig.close(fh);
    rig.sync().unwrap();
    rig.pause(rig.config.freshness * 2);
    let mut names = rig.names();
    rig.pause(Duration::from_secs(10));
    names.retain(|name| name.starts_with('.'));
    names
}

#[test]
fn what_was_abandoned_goes_after_a_week_and_what_was_stranded_is_shown_after_a_day() {
    let rig = Rig::with(&[(TEMPORARY, pattern(1, 100)), (MOVING, pattern(2, 100))]);
    let none: [&str; 0] = [];
    assert_eq!(rig.names(), none);
    assert_eq!(look(&rig, "first"), none);
    rig.memory.pass(DAY * 2);
    assert_eq!(look(&rig, "second"), [MOVING]);
    assert_eq!(rig.there(TEMPORARY), Some(pattern(1, 100)), "it may still be somebody's");
    rig.memory.pass(DAY * 6);
    assert_eq!(look(&rig, "third"), [MOVING]);
    assert_eq!(rig.there(TEMPORARY), None);
    rig.mv(MOVING, "rescued").unwrap();
    rig.sync().unwrap();
    assert_eq!(rig.there("rescued"), Some(pattern(2, 100)));
}

/// A clock here that is far ahead removes nothing.
#[test]
fn a_wrong_clock_here_takes_no_upload_for_an_old_one() {
    let rig = Rig::with(&[(TEMPORARY, pattern(1, 100))]);
    rig.clock_jumps(DAY * 30);
    rig.names();
    rig.memory.write_file(&path(TEMPORARY), pattern(3, 100));
    look(&rig, "first");
    assert_eq!(rig.there(TEMPORARY), Some(pattern(3, 100)));
}

/// A site was killed between the two steps of a new symlink. Its directory was emptied and removed later,
/// by all that anybody saw, and came back: what the share had in it was nobody's.
#[test]
fn a_removed_directory_goes_with_what_this_site_left_in_it() {
    let rig = Rig::with(&[("ours/f", pattern(1, 100)), ("theirs/f", pattern(1, 100))]);
    for (dir, left) in [("ours", ".~covefs-here0-77"), ("theirs", TEMPORARY)] {
        rig.rm(&format!("{dir}/f")).unwrap();
        rig.sync().unwrap();
        rig.memory.write_file(&path(&format!("{dir}/{left}")), Vec::new());
        rig.rmdir(dir).unwrap();
    }
    rig.sync().unwrap();
    assert_eq!(
        rig.listed_there(),
        ["theirs", &format!("theirs/{TEMPORARY}")].map(Into::into).into()
    );
}

/// Whoever looks into a directory that stays removes what this site left there, at once.
#[test]
fn what_this_site_left_goes_when_its_directory_is_listed() {
    let rig = Rig::with(&[(".~covefs-here0-77", Vec::new()), (TEMPORARY, Vec::new())]);
    rig.names();
    rig.pause(Duration::from_secs(1));
    assert_eq!(rig.listed_there(), [TEMPORARY.to_owned()].into());
}

/// The line breaks in the middle of an upload of this file; a part of it has arrived.
fn break_off(rig: &Rig, at: &str) {
    let broken = Fault::Before(ErrorKind::Timeout);
    rig.remote.inject(Rule::new("replace", broken).times(1));
    rig.edit(at, 0, b"edit").unwrap();
    while rig.remote.faults() == 0 {
        rig.pause(Duration::from_millis(100));
    }
    let temps = rig.vfs().journal.live(|live| live.temps.clone());
    let [temp] = &temps.into_iter().collect::<Vec<_>>()[..] else { panic!("it is noted") };
    rig.memory.write_file(temp, pattern(2, 50));
}

/// The line broke in the middle of an upload, and with it the removal of what had arrived: that stayed on
/// the share until the drive was mounted anew, seen by all others, and kept its directory from going.
#[test]
fn what_an_upload_left_that_broke_off_goes_when_the_share_answers_again() {
    for is_removed in [false, true] {
        let rig = Rig::with(&[("dir/f", pattern(1, 100))]);
        break_off(&rig, "dir/f");
        if is_removed {
            rig.rm("dir/f").unwrap();
            rig.rmdir("dir").unwrap();
        }
        rig.sync().unwrap();
        rig.pause(Duration::from_secs(1));
        let left = if is_removed { &[][..] } else { &["dir", "dir/f"] };
        let there: Vec<String> = rig.listed_there().into_iter().collect();
        assert_eq!(there, left, "removed: {is_removed}");
        let noted = rig.vfs().journal.live(|live| live.temps.len());
        assert_eq!(noted, 0, "removed: {is_removed}");
    }
}

/// The site was killed in the middle of an upload, and the renames that it had yet to send took the directory
/// of the upload elsewhere before the share had been rid of it; or the rename alone was made, and its answer
/// lost.
#[test]
fn what_an_upload_left_goes_from_a_directory_that_is_renamed_meanwhile() {
    for is_answer_lost in [false, true] {
        let rig = Rig::with(&[("dir/sub/f", pattern(1, 100))]);
        // Not before the directory is elsewhere.
        let broken = Fault::Before(ErrorKind::Timeout);
        rig.remote.inject(Rule::new("remove", broken).times(2));
        break_off(&rig, "dir/sub/f");
        if is_answer_lost {
            let lost = Fault::After(ErrorKind::Timeout);
            rig.remote.inject(Rule::new("rename", lost).times(1));
        }
        rig.mv("dir", "other").unwrap();
        rig.sync().unwrap();
        rig.pause(Duration::from_secs(60));
        let there: Vec<String> = rig.listed_there().into_iter().collect();
        assert_eq!(there, ["other", "other/sub", "other/sub/f"], "lost: {is_answer_lost}");
        let noted = rig.vfs().journal.live(|live| live.temps.len());
        assert_eq!(noted, 0, "lost: {is_answer_lost}");
    }
}
