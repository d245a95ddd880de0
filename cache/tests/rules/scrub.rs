//! Cached bytes that rot on the local disk are noticed by their checksums (D1), and fetched again.

use super::*;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};

/// Changes one bit of a data file of this length, as a bad disk does.
fn rot(rig: &Rig, len: usize, at: u64) {
    let mut dirs = vec![rig.config.cache_dir.join("data")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_dir() {
                dirs.push(entry.path());
            } else if entry.metadata().unwrap().len() == len as u64 {
                let mut file =
                    fs::File::options().read(true).write(true).open(entry.path()).unwrap();
                let mut byte = [0];
                file.seek(SeekFrom::Start(at)).unwrap();
                file.read_exact(&mut byte).unwrap();
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&[byte[0] ^ 4]).unwrap();
                return;
            }
        }
    }
    panic!("no data file of {len} bytes");
}

fn scrub(rig: &Rig) -> CheckReport {
    rig.wait(rig.vfs().scrub(&|_| ())).unwrap()
}

/// A fetched file of several extents and an edited one, both as the share has them.
fn with_two() -> (Rig, Vec<u8>, Vec<u8>) {
    let theirs = pattern(1, 5_000_000);
    let rig = Rig::with(|memory, _| {
        memory.write_file(&path("fetched"), theirs.clone());
        memory.write_file(&path("edited"), pattern(2, 200_000));
    });
    same(&rig.read_in("fetched"), &theirs);
    rig.edit("edited", 70_000, &[7; 230_000]).unwrap();
    let mut ours = pattern(2, 70_000);
    ours.extend([7; 230_000]);
    rig.sync();
    (rig, theirs, ours)
}

#[test]
fn what_was_fetched_and_what_was_sent_is_compared() {
    let (mut rig, theirs, ours) = with_two();
    for _ in 0..2 {
        let report = scrub(&rig);
        assert_eq!(report.problems, [""; 0]);
        assert_eq!(report.files, 2);
        // A block that came in two pieces has none.
        let most = (theirs.len() + ours.len()) as u64;
        assert!((most - 3 * BLOCK as u64..=most).contains(&report.checked_bytes), "{report:?}");
        // The checksums are still known after a restart.
        rig.stop();
        rig.start();
    }
}

#[test]
fn what_rotted_is_fetched_again() {
    let (mut rig, theirs, ours) = with_two();
    for restart in [false, true] {
        if restart {
            rig.stop();
            rig.start();
        }
        rot(&rig, theirs.len(), 4_500_000);
        rot(&rig, ours.len(), 299_999);
        let report = scrub(&rig);
        assert_eq!((report.problems.len(), report.repaired.len()), (2, 2), "{report:?}");
        assert!(report.problems.iter().any(|line| line.starts_with("/fetched: ")), "{report:?}");
        same(&rig.read("fetched").unwrap(), &theirs);
        same(&rig.read("edited").unwrap(), &ours);
        assert_eq!(scrub(&rig).problems, [""; 0]);
    }
}

/// Away from the share it is dropped all the same: an error is better than wrong bytes.
#[test]
fn what_rotted_is_not_read_while_the_share_is_away() {
    let (rig, theirs, _) = with_two();
    rot(&rig, theirs.len(), 100);
    rig.remote.inject(Rule::new("*", Fault::Before(RemoteKind::Unreachable)));
    let report = scrub(&rig);
    assert_eq!((report.problems.len(), report.repaired.len()), (1, 1), "{report:?}");
    let fh = rig.open("fetched", READ).unwrap();
    rig.read_at(fh, 0, 4096).unwrap_err();
    same(&rig.read_at(fh, 4 << 20, 4096).unwrap(), &theirs[4 << 20..][..4096]);
    rig.close(fh);
    rig.remote.heal();
}

/// What only we have is left as it is, whatever became of it.
#[test]
fn what_the_share_does_not_have_is_never_dropped() {
    let (rig, _, mut ours) = with_two();
    rig.remote.inject(Rule::new("*", Fault::Before(RemoteKind::Unreachable)));
    rig.edit("edited", 0, b"not there yet").unwrap();
    ours[..13].copy_from_slice(b"not there yet");
    rot(&rig, ours.len(), 1);
    assert_eq!(scrub(&rig).problems, [""; 0]);
    ours[1] ^= 4;
    same(&rig.read("edited").unwrap(), &ours);
    rig.remote.heal();
    rig.sync();
    same(&rig.there("edited").unwrap(), &ours);
}
