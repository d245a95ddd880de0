//! Promises of docs/SEMANTICS.md that no mount is needed for: what fsync of a directory, close and the time that
//! a file stays open mean.

use super::rig::*;
use crate::disk::DiskOp;
use crate::error::ErrorKind;
use std::io;
use std::time::Duration;

fn rig(debounce: Duration, sync_share: bool) -> Rig {
    let mut rig = Rig::with(&[("old", pattern(1, 1000))]);
    rig.stop();
    rig.config.debounce = debounce;
    rig.config.sync_share = sync_share;
    rig.start();
    rig
}

#[test]
fn names_survive_a_power_cut_once_their_directory_was_synced() {
    for seed in 0..20 {
        let mut rig = rig(Duration::from_secs(3600), false);
        rig.mkdir("made").unwrap();
        rig.close(rig.create("made/empty", WRITE).unwrap());
        rig.mv("old", "made/moved").unwrap();
        rig.fsync_dir("made").unwrap();
        rig.mkdir("later").unwrap();
        rig.cut(seed);
        let paths = rig.paths().unwrap();
        let kept: Vec<&str> = paths.keys().map(String::as_str).collect();
        let kept: Vec<&str> = kept.into_iter().filter(|path| *path != "later").collect();
        assert_eq!(kept, ["made", "made/empty", "made/moved"], "seed {seed}");
    }
}

#[test]
fn a_close_says_that_a_write_failed_for_good() {
    let rig = rig(Duration::from_secs(3), false);
    let fh = rig.create("new", WRITE).unwrap();
    rig.write_at(fh, 0, &pattern(2, 1000)).unwrap();
    rig.disk.fail_next(DiskOp::Write, io::ErrorKind::Other);
    let kind = |result: crate::error::Result<()>| result.map_err(|error| error.kind);
    assert_eq!(kind(rig.write_at(fh, 1000, &pattern(3, 1000))), Err(ErrorKind::Io));
    assert_eq!(kind(rig.flush(fh)), Err(ErrorKind::Io));
    rig.close(fh);
}

#[test]
fn with_sync_share_close_and_fsync_wait_for_the_share() {
    let rig = rig(Duration::from_secs(3600), true);
    let fh = rig.create("new", WRITE).unwrap();
    rig.write_at(fh, 0, &pattern(2, 1000)).unwrap();
    rig.fsync(fh).unwrap();
    assert_eq!(rig.there("new"), Some(pattern(2, 1000)));
    rig.write_at(fh, 0, &pattern(3, 1000)).unwrap();
    rig.flush(fh).unwrap();
    assert_eq!(rig.there("new"), Some(pattern(3, 1000)));
    // Out of reach it is an error, in time; nothing is lost.
    rig.remote.offline(true);
    rig.write_at(fh, 0, &pattern(4, 1000)).unwrap();
    let began = rig.now();
    assert_eq!(rig.flush(fh).map_err(|error| error.kind), Err(ErrorKind::Offline));
    assert!(rig.now() - began < rig.config.timeout * 2);
    rig.remote.offline(false);
    rig.until_online();
    rig.sync().unwrap();
    assert_eq!(rig.there("new"), Some(pattern(4, 1000)));
    rig.close(fh);
}

/// What has no name any more is never uploaded: nobody waits for that.
#[test]
fn with_sync_share_files_without_a_name_wait_for_nothing() {
    let rig = rig(Duration::from_secs(3600), true);
    let (gone, replaced) = (rig.create("gone", WRITE).unwrap(), rig.open("old", WRITE).unwrap());
    rig.write_at(gone, 0, b"text").unwrap();
    rig.write_at(replaced, 0, b"text").unwrap();
    rig.close(rig.create("new", WRITE).unwrap());
    rig.rm("gone").unwrap();
    rig.mv("new", "old").unwrap();
    let began = rig.now();
    for fh in [gone, replaced] {
        rig.fsync(fh).unwrap();
        rig.flush(fh).unwrap();
        rig.close(fh);
    }
    assert!(rig.now() - began < Duration::from_secs(1));
}

/// rule S2
#[test]
fn a_file_that_stays_open_is_uploaded_all_the_same() {
    let rig = rig(Duration::from_secs(3), false);
    let fh = rig.create("log", WRITE).unwrap();
    for part in 0..70 {
        // Somebody writes every second: the debounce alone would never end.
        rig.write_at(fh, part * 10, &pattern(part, 10)).unwrap();
        rig.pause(Duration::from_secs(1));
        assert!(part > 10 || rig.there("log").is_none(), "not before it rests");
    }
    assert!(rig.there("log").is_some_and(|there| there.len() >= 500), "within a minute");
    rig.write_at(fh, 0, b"synced").unwrap();
    rig.fsync(fh).unwrap();
    rig.pause(Duration::from_secs(5));
    assert_eq!(&rig.there("log").unwrap()[..6], b"synced");
    rig.close(fh);
}

#[test]
fn an_upload_starts_a_debounce_after_the_last_close() {
    let rig = rig(Duration::from_secs(3), false);
    let fh = rig.create("new", WRITE).unwrap();
    rig.write_at(fh, 0, b"text").unwrap();
    rig.close(fh);
    rig.pause(Duration::from_millis(2500));
    assert_eq!(rig.there("new"), None);
    rig.pause(Duration::from_millis(1500));
    assert_eq!(rig.there("new"), Some(b"text".to_vec()));
}
