//! A full share, and a login that is no longer good: states that `covefs status` explains, not losses.

use super::rig::*;
use covefs_remote::ErrorKind as RemoteKind;
use covefs_remote::fault::{Fault, Rule};
use std::time::Duration;

fn check(op: &'static str, kind: RemoteKind, online: bool, says: &str) {
    let rig = Rig::with(&[("old", pattern(1, 1000))]);
    let old = rig.read("old").unwrap();
    rig.remote.inject(Rule::new(op, Fault::Before(kind)));
    let fh = rig.create("new", WRITE).unwrap();
    rig.write_at(fh, 0, &pattern(2, 1000)).unwrap();
    rig.close(fh);
    rig.pause(Duration::from_secs(120));
    let status = rig.vfs().status();
    assert_eq!(status.online, online);
    assert!(status.messages.iter().any(|message| message.contains(says)), "{status:#?}");
    assert_eq!(status.uploads.waiting + status.uploads.active, 1);
    // Whoever waits for the upload is told, in time.
    assert!(rig.sync().is_err(), "the share has everything");
    assert_eq!(rig.read("old").unwrap(), old);
    assert_eq!(rig.read("new").unwrap(), pattern(2, 1000));
    assert_eq!(rig.there("new"), None);
    rig.remote.heal();
    rig.until_online();
    rig.sync().unwrap();
    assert_eq!(rig.there("new"), Some(pattern(2, 1000)));
    assert_eq!(rig.vfs().status().messages, [""; 0]);
}

#[test]
fn a_full_share_is_explained_and_loses_nothing() {
    check("replace", RemoteKind::NoSpace, true, "the share is full");
}

#[test]
fn an_expired_login_is_explained_and_loses_nothing() {
    check("*", RemoteKind::Unauthenticated, false, "no longer accepts the login");
}

/// `status` says how far the share is behind. A file that lay there for years and was written a minute ago
/// counted as years behind.
#[test]
fn the_oldest_change_is_as_old_as_the_change() {
    let rig = Rig::with(&[("old", pattern(1, 1000)), ("other", pattern(2, 1000))]);
    rig.memory.pass(Duration::from_secs(3600 * 24 * 365));
    rig.clock_jumps(Duration::from_secs(3600 * 24 * 365));
    rig.remote.inject(Rule::new("replace", Fault::Before(RemoteKind::NoSpace)));
    rig.edit("old", 0, b"text").unwrap();
    rig.pause(Duration::from_secs(40));
    rig.edit("other", 0, b"text").unwrap();
    rig.edit("old", 0, b"more").unwrap();
    rig.pause(Duration::from_secs(20));
    let age = rig.wait(async { rig.vfs().status() }).uploads.oldest_dirty_seconds;
    assert!((50..65).contains(&age), "{age}");
}
