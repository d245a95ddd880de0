//! A file of the share that another client keeps locked (X3): it is never changed by us, what is
//! written here is kept, said, and goes up beside it in the end.

use super::rig::*;
use covefs_remote::Remote;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn minutes(rig: &Rig, count: u64) {
    (0..count).for_each(|_| rig.pause(MINUTE));
}

fn save(rig: &Rig, name: &str, bytes: &[u8]) {
    let fh = rig.create(name, TRUNCATE).unwrap();
    rig.write_at(fh, 0, bytes).unwrap();
    rig.close(fh);
}

fn said(rig: &Rig) -> String {
    // Under the clock of the test; and in paths of Windows too.
    rig.wait(async { rig.vfs().status().messages.join("\n") }).replace('\\', "/")
}

// rule X3
#[test]
fn after_a_quarter_of_an_hour_ours_goes_up_beside_it() {
    let (theirs, ours) = (pattern(1, 1000), pattern(2, 5000));
    let rig = Rig::with(&[("f.txt", theirs.clone()), ("other", pattern(3, 10))]);
    rig.memory.lock_path(&path("f.txt"));
    save(&rig, "f.txt", &ours);
    // The first refusal is told: which file, for how long, what to do.
    minutes(&rig, 1);
    let first = said(&rig);
    for part in ["/f.txt", "for 0 minutes", "covefs unlock", "in 14 minutes"] {
        assert!(first.contains(part), "{part:?} in {first:?}");
    }
    // Others are not kept waiting.
    save(&rig, "other", b"new");
    minutes(&rig, 13);
    assert_eq!(rig.there("other").unwrap(), b"new");
    assert!(said(&rig).contains("for 13 minutes"), "{}", said(&rig));
    assert_eq!(rig.there("f.txt").unwrap(), theirs);
    assert_eq!(rig.read("f.txt").unwrap(), ours);
    assert_eq!(rig.vfs().conflicts(), []);
    minutes(&rig, 4);
    rig.sync().unwrap();
    assert_eq!(rig.there("f.txt").unwrap(), theirs);
    assert_eq!(rig.there("f-here.txt").unwrap(), ours);
    assert_eq!(rig.read("f.txt").unwrap(), theirs);
    assert_eq!(rig.read("f-here.txt").unwrap(), ours);
    let conflicts = rig.vfs().conflicts();
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert!(conflicts[0].reason.contains("locked"), "{conflicts:?}");
    assert_eq!(said(&rig), "");
}

/// As editors save: a new file under the old one's name, by a rename over it.
#[test]
fn a_file_renamed_over_a_locked_one_goes_beside_it_too() {
    for uploaded_before in [false, true] {
        let (theirs, ours) = (pattern(1, 1000), pattern(2, 5000));
        let rig = Rig::with(&[("f", theirs.clone())]);
        rig.memory.lock_path(&path("f"));
        save(&rig, "f.tmp", &ours);
        if uploaded_before {
            rig.sync().unwrap();
        }
        rig.mv("f.tmp", "f").unwrap();
        minutes(&rig, 14);
        assert_eq!(rig.there("f").unwrap(), theirs, "{uploaded_before}");
        minutes(&rig, 4);
        rig.sync().unwrap();
        assert_eq!(rig.there("f").unwrap(), theirs, "{uploaded_before}");
        assert_eq!(rig.there("f-here").unwrap(), ours, "{uploaded_before}");
        assert_eq!(rig.there("f.tmp"), None);
        assert_eq!(rig.read("f").unwrap(), theirs);
        assert_eq!(rig.vfs().conflicts().len(), 1);
    }
}

/// The bytes that we do not have are the share's and can be read all the time: no copy with holes.
#[test]
fn a_copy_is_whole() {
    let base = pattern(1, 3 << 20);
    let rig = Rig::with(&[("f", base.clone())]);
    rig.memory.lock_path(&path("f"));
    let fh = rig.open("f", WRITE).unwrap();
    rig.write_at(fh, 1 << 20, b"ours").unwrap();
    rig.close(fh);
    minutes(&rig, 18);
    rig.sync().unwrap();
    let mut wanted = base.clone();
    wanted[1 << 20..(1 << 20) + 4].copy_from_slice(b"ours");
    assert_eq!(rig.there("f-here").unwrap(), wanted);
    assert_eq!(rig.there("f").unwrap(), base);
    assert_eq!(rig.vfs().conflicts()[0].missing, []);
}

#[test]
fn unlock_lets_the_upload_go_on() {
    let rig = Rig::with(&[("f", pattern(1, 1000)), ("g", pattern(1, 10))]);
    for name in ["f", "g"] {
        rig.memory.lock_path(&path(name));
    }
    save(&rig, "f", b"ours");
    save(&rig, "h", b"over g");
    rig.rm("g").unwrap();
    rig.mv("h", "g").unwrap();
    minutes(&rig, 3);
    assert!(said(&rig).contains("/f:") && said(&rig).contains("/g:"), "{}", said(&rig));
    for name in ["f", "g"] {
        rig.wait(rig.vfs().unlock(&path(name))).unwrap();
    }
    minutes(&rig, 1);
    assert_eq!(said(&rig), "");
    assert_eq!(
        (rig.there("f").unwrap(), rig.there("g").unwrap()),
        (b"ours".to_vec(), b"over g".to_vec())
    );
    let again = rig.wait(rig.vfs().unlock(&path("f"))).unwrap_err();
    assert_eq!(again.kind, crate::error::ErrorKind::Refused);
    assert_eq!(rig.vfs().conflicts(), []);
}

/// A removal or a rename of a locked file waits, and says so; it makes no copy.
#[test]
fn what_uploads_nothing_waits() {
    let rig = Rig::with(&[("f", pattern(1, 1000)), ("g", pattern(2, 1000))]);
    for name in ["f", "g"] {
        rig.memory.lock_path(&path(name));
    }
    rig.rm("f").unwrap();
    rig.mv("g", "moved").unwrap();
    minutes(&rig, 20);
    assert_eq!(rig.listed_there().len(), 2);
    assert!(said(&rig).contains("/moved:") && said(&rig).contains("removed"), "{}", said(&rig));
    rig.wait(rig.vfs().unlock(&path("moved"))).unwrap();
    rig.wait(rig.vfs().unlock(&path("f"))).unwrap();
    minutes(&rig, 2);
    assert_eq!((rig.there("f"), rig.there("g")), (None, None));
    assert_eq!(rig.there("moved").unwrap(), pattern(2, 1000));
    assert_eq!(rig.vfs().conflicts(), []);
}

/// Fifteen minutes without a word from the share are not fifteen minutes of a lock.
#[test]
fn a_lock_that_ends_makes_no_copy() {
    let rig = Rig::with(&[("f", pattern(1, 1000))]);
    for wait in [10, 14, 14] {
        rig.memory.lock_path(&path("f"));
        save(&rig, "f", &pattern(wait, 2000));
        minutes(&rig, wait);
        assert!(rig.wait(rig.memory.unlock(&path("f"))).unwrap());
        minutes(&rig, 2);
        assert_eq!(rig.there("f").unwrap(), pattern(wait, 2000));
    }
    assert_eq!(rig.vfs().conflicts(), []);
    // Of another file that takes the name nothing is overwritten either.
    rig.memory.lock_path(&path("f"));
    save(&rig, "f", b"ours");
    minutes(&rig, 5);
    rig.memory.write_file(&path("f"), &b"theirs"[..]);
    assert!(rig.wait(rig.memory.unlock(&path("f"))).unwrap());
    minutes(&rig, 2);
    rig.sync().unwrap();
    assert_eq!(rig.there("f").unwrap(), b"theirs");
    assert_eq!(rig.there("f-here").unwrap(), b"ours");
}
