//! rule X2: names of covefs on the share that no site is at any more go, or are shown, by the share's clock.

use super::rig::*;
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
