//! Changes that the share tells of (X7) show at once, cost little, and nothing rests on them.

use super::rig::*;
use crate::attr::{Fh, Ino, Lookup};
use covefs_remote::ErrorKind as RemoteKind;
use covefs_remote::fault::{Fault, Rule};
use std::time::Duration;

/// Of the bound in these tests.
const FRESHNESS: Duration = Duration::from_secs(60);
/// A change shows so soon: it is collected, and a round may have to end before.
const SOON: Duration = Duration::from_millis(1500);

/// A drive that was told to listen, or not to, and has nothing else to do.
fn rig_with(watch: bool, files: &[(&str, Vec<u8>)]) -> Rig {
    let mut rig = Rig::with(files);
    rig.stop();
    rig.config.watch = watch;
    rig.config.freshness = FRESHNESS;
    rig.start();
    rig.pause(SOON);
    rig
}

fn rig(files: &[(&str, Vec<u8>)]) -> Rig {
    rig_with(true, files)
}

/// What the kernel was told to forget.
struct Kernel(tokio::sync::mpsc::Receiver<crate::attr::Notice>);

impl Kernel {
    fn of(rig: &Rig) -> Kernel {
        Kernel(rig.vfs().take_notices().expect("nobody else asked"))
    }

    fn forgot(&mut self) -> Vec<String> {
        let next = || self.0.try_recv().ok().map(|notice| format!("{notice:?}"));
        std::iter::from_fn(next).collect()
    }
}

/// The directory is in the kernel's mind.
fn look(rig: &Rig, at: &str) -> Option<u64> {
    rig.find(at).ok().map(|attr| attr.size)
}

/// What is known here, without asking.
fn known(rig: &Rig, at: &str) -> Option<u64> {
    let mut tree = rig.vfs().tree();
    tree.resolve(&path(at)).unwrap().map(|node| node.size)
}

fn asked(rig: &Rig) -> u64 {
    rig.remote.requests("list") + rig.remote.requests("stat")
}

#[test]
fn a_change_there_shows_at_once_though_the_bound_is_far() {
    let rig = rig(&[("d/edited", vec![1; 10]), ("d/removed", vec![1; 10]), ("d/from", vec![1; 3])]);
    assert!(rig.vfs().status().watched);
    let mut kernel = Kernel::of(&rig);
    look(&rig, "d/edited");
    kernel.forgot();
    rig.memory.write_file(&path("d/edited"), vec![2; 20]);
    rig.memory.write_file(&path("d/new"), vec![2; 30]);
    rig.memory.remove_path(&path("d/removed"));
    rig.memory.move_path(&path("d/from"), &path("d/to"));
    rig.pause(SOON);
    let sizes = ["d/edited", "d/new", "d/removed", "d/from", "d/to"].map(|at| known(&rig, at));
    assert_eq!(sizes, [Some(20), Some(30), None, None, Some(3)]);
    // The kernel believes for a minute what it was not told to forget.
    let forgot = kernel.forgot().join("\n");
    for name in ["new", "removed", "from", "to"] {
        let bytes = format!("{:?}", name.as_bytes());
        assert!(forgot.contains(&bytes), "{name} in {forgot}");
    }
    assert!(forgot.contains("Inode("), "{forgot}");
    assert_eq!(rig.read("d/edited").unwrap(), [2; 20]);
}

/// The same without: the bound is what it was.
#[test]
fn without_it_the_bound_is_what_counts() {
    let rig = rig_with(false, &[("d/edited", vec![1; 10])]);
    assert!(!rig.vfs().status().watched);
    look(&rig, "d/edited");
    rig.memory.write_file(&path("d/edited"), vec![2; 20]);
    rig.pause(FRESHNESS / 2);
    assert_eq!(look(&rig, "d/edited"), Some(10));
    rig.pause(FRESHNESS);
    assert_eq!(look(&rig, "d/edited"), Some(20));
    assert_eq!(rig.remote.requests("watch"), 0);
}

/// rule R1: a file that is open keeps its version, one that grows goes on, one that was not read
/// yet follows the name.
#[test]
fn files_that_are_open_meet_edits_at_once() {
    let (old, new) = (pattern(1, 1000), pattern(2, 1000));
    let rig = rig(&[("read", old.clone()), ("unread", old.clone()), ("log", old.clone())]);
    let open = |name: &str| -> Fh { rig.open(name, READ).unwrap() };
    let (read, unread, log) = (open("read"), open("unread"), open("log"));
    assert_eq!(rig.read_at(read, 0, 1000).unwrap(), old);
    assert_eq!(rig.read_at(log, 0, 2000).unwrap(), old);
    rig.memory.write_file(&path("read"), new.clone());
    rig.memory.write_file(&path("unread"), new.clone());
    let grown = [old.clone(), new.clone()].concat();
    rig.memory.write_file(&path("log"), grown.clone());
    rig.pause(SOON);
    assert_eq!(rig.read_at(read, 0, 1000).unwrap(), old);
    assert_eq!(rig.read("read").unwrap(), new);
    assert_eq!(rig.read_at(unread, 0, 1000).unwrap(), new);
    assert_eq!(rig.read_at(log, 0, 4000).unwrap(), grown);
    [read, unread, log].into_iter().for_each(|fh| rig.close(fh));
}

/// What we sent ourselves is no news.
#[test]
fn our_own_uploads_are_not_looked_into() {
    let rig = rig(&[("d/old", vec![1; 10])]);
    look(&rig, "d/old");
    rig.pause(SOON);
    rig.remote.reset_counts();
    for number in 0..500 {
        let name = format!("d/n{number}");
        let fh = rig.create(&name, WRITE).unwrap();
        rig.write_at(fh, 0, &pattern(number, 100)).unwrap();
        rig.close(fh);
    }
    rig.mkdir("d/sub").unwrap();
    rig.mv("d/n0", "d/sub/moved").unwrap();
    rig.rm("d/n1").unwrap();
    rig.chmod("d/n2", 0o600).unwrap();
    rig.sync().unwrap();
    rig.mv("d/sub", "e").unwrap();
    rig.edit("d/n3", 50, b"edited").unwrap();
    rig.sync().unwrap();
    rig.pause(SOON * 4);
    assert_eq!(rig.there("d/n3").map(|bytes| bytes[50]), Some(b'e'));
    // The new directories are listed by nobody; "d" was listed before.
    assert_eq!(rig.remote.requests("list"), 0, "{:?}", rig.remote.requests_all());
    assert!(rig.remote.requests("replace") >= 499);
}

/// But what somebody else does right after it is.
#[test]
fn an_edit_there_after_an_upload_of_ours_shows() {
    let rig = rig(&[("f", vec![1; 10])]);
    rig.edit("f", 0, b"mine").unwrap();
    rig.sync().unwrap();
    rig.pause(SOON);
    rig.memory.write_file(&path("f"), vec![2; 20]);
    rig.pause(SOON);
    assert_eq!(known(&rig, "f"), Some(20));
}

/// More at once than the share keeps for who listens: anything may have changed.
#[test]
fn when_changes_are_lost_everything_is_doubted() {
    let rig = rig(&[("d/f", vec![1; 10]), ("e/f", vec![1; 10])]);
    look(&rig, "d/f");
    look(&rig, "e/f");
    rig.memory.write_file(&path("d/f"), vec![2; 20]);
    rig.memory.write_file(&path("e/f"), vec![2; 20]);
    for number in 0..20_000 {
        rig.memory.write_file(&path("far/away"), vec![2; number % 100]);
    }
    rig.pause(SOON);
    assert_eq!([known(&rig, "d/f"), known(&rig, "e/f")], [Some(20); 2]);
}

/// What nobody uses costs nothing until somebody does.
#[test]
fn what_nobody_uses_is_asked_for_when_somebody_does() {
    let rig = rig(&[("d/f", vec![1; 10])]);
    look(&rig, "d/f");
    rig.pause(FRESHNESS * 5 / 6);
    rig.memory.write_file(&path("d/f"), vec![2; 20]);
    rig.pause(SOON);
    assert_eq!(known(&rig, "d/f"), Some(20));
    rig.pause(FRESHNESS / 3);
    // The root alone.
    rig.ask(|vfs, asked| vfs.lookup(asked, Ino::ROOT, b"d")).unwrap();
    let lists = rig.remote.requests("list");
    rig.memory.write_file(&path("d/f"), vec![2; 30]);
    rig.pause(SOON);
    assert_eq!((known(&rig, "d/f"), rig.remote.requests("list")), (Some(20), lists));
    // It was listed within the bound, but is doubted.
    assert_eq!(look(&rig, "d/f"), Some(30));
}

/// rule K4: a fifth of the time at most, though the share changes all the time and is slow.
#[test]
fn a_flood_of_changes_stays_bounded() {
    let mut rig = rig(&[("d/f", vec![1; 10]), ("e/f", vec![1; 10])]);
    rig.stop();
    rig.config.timeout = Duration::from_secs(30);
    rig.start();
    look(&rig, "d/f");
    let slow = Duration::from_secs(1);
    let lists = rig.remote.requests("list");
    let flood = |count: u64| {
        for number in 0..count {
            rig.memory.write_file(&path(&format!("d/n{}", number % 300)), vec![2; 20]);
            rig.pause(Duration::from_millis(10));
        }
    };
    flood(2000);
    let quick = rig.remote.requests("list") - lists;
    rig.remote.inject(Rule::new("list", Fault::Delay(slow)));
    flood(6000);
    let all = rig.remote.requests("list") - lists - quick;
    // 22 s of a round each 0.8 s; more than 60 s of which a fifth at most is spent.
    assert!((5..=28).contains(&quick), "{quick} listings in 20 s");
    assert!((3..=15).contains(&all), "{all} listings of a second in 60 s");
}

/// Out of reach there is nothing to listen to; back again, everything is asked for.
#[test]
fn out_of_reach_and_back() {
    let rig = rig(&[("d/f", vec![1; 10])]);
    look(&rig, "d/f");
    rig.remote.offline(true);
    rig.memory.write_file(&path("d/f"), vec![2; 20]);
    rig.pause(Duration::from_secs(20));
    assert!(!rig.vfs().reach.is_online(), "what broke off was asked for again");
    let asked_to_tell = rig.remote.requests("watch");
    rig.pause(Duration::from_secs(300));
    assert_eq!(rig.remote.requests("watch"), asked_to_tell, "the probe alone asks");
    assert!(!rig.vfs().status().watched);
    rig.remote.offline(false);
    rig.until_online();
    rig.pause(Duration::from_secs(3));
    assert!(rig.vfs().status().watched);
    assert_eq!(look(&rig, "d/f"), Some(20));
    rig.memory.write_file(&path("d/f"), vec![2; 30]);
    rig.pause(SOON);
    assert_eq!(known(&rig, "d/f"), Some(30));
}

/// A share that breaks off is asked to go on, and what it did not tell is found.
#[test]
fn when_it_stops_telling_it_is_asked_again() {
    let rig = rig(&[("d/f", vec![1; 10])]);
    look(&rig, "d/f");
    let broken = Fault::Short { bytes: 0, kind: RemoteKind::Unreachable };
    rig.remote.inject(Rule::new("told", broken).times(1));
    rig.memory.write_file(&path("d/f"), vec![2; 20]);
    rig.pause(Duration::from_secs(3));
    assert_eq!(known(&rig, "d/f"), Some(20));
    assert_eq!(rig.remote.requests("watch"), 2);
}

/// Never told, told late: the bound holds.
#[test]
fn what_is_told_wrongly_does_no_harm() {
    let rig = rig(&[("d/f", vec![1; 10])]);
    look(&rig, "d/f");
    let never = Fault::Before(RemoteKind::Timeout);
    rig.remote.inject(Rule::new("told", never).times(1));
    rig.memory.write_file(&path("d/f"), vec![2; 20]);
    rig.pause(SOON);
    assert_eq!(look(&rig, "d/f"), Some(10));
    rig.pause(FRESHNESS);
    assert_eq!(look(&rig, "d/f"), Some(20));
    rig.remote.inject(Rule::new("told", Fault::Late(FRESHNESS * 3)).times(1));
    rig.memory.write_file(&path("d/f"), vec![2; 30]);
    rig.memory.remove_path(&path("d/f"));
    rig.memory.write_file(&path("d/f"), vec![2; 40]);
    rig.pause(FRESHNESS * 4);
    assert_eq!(look(&rig, "d/f"), Some(40));
}

/// rule K4: of a directory of many pages the names that were told are asked for, not all.
#[test]
fn in_a_big_directory_names_are_asked_for() {
    let mut rig = Rig::paged(10);
    rig.stop();
    (rig.config.watch, rig.config.freshness) = (true, FRESHNESS);
    rig.start();
    for number in 0..100 {
        rig.memory.write_file(&path(&format!("d/n{number}")), vec![1; 10]);
    }
    rig.pause(SOON);
    look(&rig, "d/n1");
    rig.pause(SOON);
    rig.remote.reset_counts();
    rig.memory.write_file(&path("d/n1"), vec![2; 20]);
    rig.memory.remove_path(&path("d/n2"));
    rig.memory.write_file(&path("d/new"), vec![2; 30]);
    rig.pause(SOON);
    let sizes = ["d/n1", "d/n2", "d/new"].map(|at| known(&rig, at));
    assert_eq!(sizes, [Some(20), None, Some(30)]);
    assert_eq!((rig.remote.requests("list"), asked(&rig)), (0, 3));
    for number in 0..100 {
        rig.memory.write_file(&path(&format!("d/n{number}")), vec![3; 40]);
    }
    rig.pause(SOON);
    assert_eq!(known(&rig, "d/n99"), Some(40));
    assert!(rig.remote.requests("list") > 0, "the many are listed");
}

/// rule X1: another share that stands in its place tells of nothing that is believed.
#[test]
fn nothing_is_gone_because_it_was_told() {
    let rig = rig(&[("d/f", vec![1; 10])]);
    look(&rig, "d/f");
    rig.remote.inject(Rule::new("list", Fault::Before(RemoteKind::Io)));
    rig.memory.write_file(&path("d/f"), vec![1; 20]);
    rig.pause(SOON);
    assert_eq!(known(&rig, "d/f"), Some(10));
    let found = rig.ask(|vfs, asked| {
        let dir = vfs.tree().resolve(&path("d")).unwrap().unwrap().ino;
        vfs.lookup(asked, dir, b"f")
    });
    assert!(matches!(found, Ok(Lookup::Found(_))), "a share that fails says nothing");
}
