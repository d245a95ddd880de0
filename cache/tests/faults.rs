//! A share on which things go wrong: nothing is lost, nothing is there twice, nothing comes back,
//! and what is here can be used without it.
//!
//! `COVEFS_FAULT_ROUNDS=100 COVEFS_SEED=7 cargo test -p covefs-cache --test faults` for more.
#![allow(clippy::unwrap_used)]

mod harness;

use covefs_cache::*;
use covefs_remote::ErrorKind as RemoteKind;
use covefs_remote::fault::{Fault, Odds, Rule};
use harness::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Every way for one request to fail.
fn faults() -> Vec<Fault> {
    let kinds = [RemoteKind::Timeout, RemoteKind::Unreachable, RemoteKind::Busy];
    let before = kinds.iter().map(|kind| Fault::Before(*kind));
    let after = kinds[..2].iter().map(|kind| Fault::After(*kind));
    before.chain(after).collect()
}

/// Runs a change with each fault of each request that it makes: the share ends as `wanted`.
fn each_fault(op: &'static str, change: impl Fn(&Rig), wanted: &[(&str, &[u8])]) {
    for fault in faults() {
        for restart in [false, true] {
            let mut rig = Rig::with(|memory, _| {
                memory.write_file(&path("d/old"), "old");
                memory.write_file(&path("d/other"), "other");
            });
            assert_eq!(rig.read("d/old").unwrap(), b"old");
            rig.names("d").unwrap();
            rig.remote.inject(Rule::new(op, fault.clone()).times(1));
            change(&rig);
            rig.until("it failed", |rig| rig.remote.requests(op) > 0);
            if restart {
                rig.crash(Index::Kept);
                rig.start();
            }
            rig.sync();
            let there: BTreeMap<String, Vec<u8>> = rig
                .share_files()
                .into_iter()
                .map(|at| (at.clone(), rig.there(&at).unwrap_or_default()))
                .collect();
            let wanted: BTreeMap<String, Vec<u8>> =
                wanted.iter().map(|(at, bytes)| ((*at).to_owned(), bytes.to_vec())).collect();
            assert_eq!(there, wanted, "{op} {fault:?} restart {restart}");
            assert_eq!(rig.conflicts(), [], "{op} {fault:?} restart {restart}");
            rig.age();
            for (at, bytes) in &wanted {
                let read = rig.read(at);
                assert!(
                    read.as_ref().is_ok_and(|read| read == bytes),
                    "{op} {fault:?} restart {restart}: {read:?}"
                );
            }
        }
    }
}

#[test]
fn a_replace_that_fails_loses_and_doubles_nothing() {
    let change = |rig: &Rig| rig.edit("d/old", 0, b"new").unwrap();
    each_fault("replace", change, &[("d/old", b"new"), ("d/other", b"other")]);
    let change = |rig: &Rig| rig.save("d/fresh", b"fresh").unwrap();
    let wanted: &[(&str, &[u8])] =
        &[("d/old", b"old"), ("d/other", b"other"), ("d/fresh", b"fresh")];
    each_fault("replace", change, wanted);
    // As an editor saves.
    let change = |rig: &Rig| {
        rig.save("d/temp", b"saved").unwrap();
        rig.mv("d/temp", "d/old").unwrap();
    };
    each_fault("replace", change, &[("d/old", b"saved"), ("d/other", b"other")]);
}

#[test]
fn a_rename_that_fails_loses_and_doubles_nothing() {
    let change = |rig: &Rig| rig.mv("d/old", "d/moved").unwrap();
    each_fault("rename", change, &[("d/moved", b"old"), ("d/other", b"other")]);
    let change = |rig: &Rig| rig.mv("d/old", "d/other").unwrap();
    each_fault("rename", change, &[("d/other", b"old")]);
    let change = |rig: &Rig| rig.mv("d", "e").unwrap();
    each_fault("rename", change, &[("e/old", b"old"), ("e/other", b"other")]);
    let change = |rig: &Rig| rig.rename("d/old", "d/other", RenameMode::Exchange).unwrap();
    each_fault("rename", change, &[("d/other", b"old"), ("d/old", b"other")]);
}

#[test]
fn a_removal_that_fails_brings_nothing_back() {
    let change = |rig: &Rig| rig.unlink("d/old").unwrap();
    each_fault("remove", change, &[("d/other", b"other")]);
    let change = |rig: &Rig| {
        rig.unlink("d/old").unwrap();
        rig.unlink("d/other").unwrap();
        rig.rmdir("d").unwrap();
    };
    each_fault("remove", change, &[]);
}

#[test]
fn a_creation_that_fails_is_made_once() {
    let change = |rig: &Rig| {
        rig.mkdir("d/e").unwrap();
        rig.save("d/e/f", b"f").unwrap();
    };
    let wanted: &[(&str, &[u8])] = &[("d/old", b"old"), ("d/other", b"other"), ("d/e/f", b"f")];
    each_fault("create_dir", change, wanted);
    for fault in faults() {
        let rig = Rig::new();
        rig.remote.inject(Rule::new("symlink", fault).times(1));
        rig.symlink("link", b"target").unwrap();
        rig.sync();
        assert_eq!(rig.share_files(), ["link"]);
        assert_eq!(rig.conflicts(), []);
    }
}

#[test]
fn attributes_that_fail_arrive() {
    let change = |rig: &Rig| {
        rig.set("d/old", SetAttr { mode: Some(0o640), ..SetAttr::default() }).unwrap();
    };
    each_fault("set_attrs", change, &[("d/old", b"old"), ("d/other", b"other")]);
}

/// A body that breaks off is no shorter file.
#[test]
fn a_body_that_breaks_off_is_read_again() {
    let bytes = pattern(1, 300_000);
    let rig = Rig::with(|memory, _| memory.write_file(&path("a"), bytes.clone()));
    let short = |bytes| Fault::Short { bytes, kind: RemoteKind::Unreachable };
    rig.remote.inject(Rule::new("read", short(100_000)).times(1));
    same(&rig.read("a").unwrap(), &bytes);
    rig.remote.inject(Rule::new("replace", short(10)).times(2));
    rig.edit("a", 5, b"edit").unwrap();
    rig.sync();
    same(&rig.there("a").unwrap(), &[&bytes[..5], b"edit", &bytes[9..]].concat());
}

/// rule K3: without the share hot bytes are read, cold ones end in `Offline` in time.
#[test]
fn without_the_share_what_is_here_goes_on() {
    let bytes = pattern(1, 4 << 20);
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("d/hot"), bytes.clone());
        memory.write_file(&path("d/cold"), bytes.clone());
        config.timeout = Duration::from_secs(1);
    });
    same(&rig.read_in("d/hot"), &bytes);
    rig.remote.offline(true);
    rig.age();
    same(&rig.read("d/hot").unwrap(), &bytes);
    assert_eq!(rig.names("d").unwrap(), ["cold", "hot"]);
    rig.save("d/new", b"made offline").unwrap();
    let begin = Instant::now();
    assert_eq!(rig.read("d/cold").unwrap_err().kind, ErrorKind::Offline);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let asked = || ["list", "stat", "read"].map(|op| rig.remote.requests(op));
    let before = asked();
    same(&rig.read("d/hot").unwrap(), &bytes);
    assert_eq!(asked(), before, "the share is asked for what is here");
    rig.remote.offline(false);
    rig.sync();
    assert_eq!(rig.there("d/new").unwrap(), b"made offline");
    same(&rig.read("d/cold").unwrap(), &bytes);
}

/// rule X1: another share stands in its place, and it is empty: nothing is dropped, nothing is
/// sent there.
#[test]
fn an_unmounted_disk_is_not_an_empty_share() {
    let bytes = pattern(1, 100_000);
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("d/a"), bytes.clone());
        config.timeout = Duration::from_secs(1);
    });
    same(&rig.read_in("d/a"), &bytes);
    rig.remote.offline(true);
    rig.age();
    rig.names("d").unwrap();
    rig.until("it is noticed", |rig| !rig.vfs().status().online);
    rig.save("d/new", b"mine").unwrap();
    rig.memory.clear();
    rig.memory.set_identity("another");
    rig.remote.offline(false);
    rig.pause(Duration::from_millis(1500));
    same(&rig.read("d/a").unwrap(), &bytes);
    assert_eq!(rig.names("d").unwrap(), ["a", "new"]);
    assert_eq!(rig.share_files(), [""; 0], "sent to another share");
}

/// An error is not an empty directory.
#[test]
fn a_listing_that_fails_drops_nothing() {
    for kind in
        [RemoteKind::Timeout, RemoteKind::PermissionDenied, RemoteKind::Io, RemoteKind::Protocol]
    {
        let rig = Rig::with(|memory, _| memory.write_file(&path("d/a"), "bytes"));
        assert_eq!(rig.read_in("d/a"), b"bytes");
        rig.remote.inject(Rule::new("list", Fault::Before(kind)));
        rig.remote.inject(Rule::new("stat", Fault::Before(kind)));
        rig.age();
        let _ = rig.names("d");
        rig.remote.offline(true);
        rig.remote.heal();
        rig.until("it is read from here", |rig| rig.read("d/a").is_ok_and(|read| read == b"bytes"));
    }
}

/// Missing names that are asked for one by one; as the crate's limits have it.
const ASKED_FOR: usize = 64;

/// rule X1: what a listing lacks that is of no one moment is asked for before it is gone.
#[test]
fn a_listing_of_no_one_moment_drops_nothing() {
    let many = ASKED_FOR + 1;
    let rig = Rig::with(|memory, _| {
        for number in 0..many {
            memory.write_file(&path(&format!("d/f{number}")), "bytes");
        }
        memory.write_file(&path("d/gone"), "bytes");
    });
    let all = rig.names("d").unwrap();
    assert_eq!(all.len(), many + 1);
    rig.memory.remove_path(&path("d/gone"));
    rig.remote.tear(&[b"f1", b"f2"]);
    rig.age();
    assert_eq!(rig.names("d").unwrap().len(), many);
    // Of so many not each is asked for: they stay for this time.
    let names: Vec<String> = (0..many).map(|number| format!("f{number}")).collect();
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    rig.remote.tear(&names);
    rig.age();
    assert_eq!(rig.names("d").unwrap().len(), many);
    rig.remote.tear(&[]);
    rig.memory.remove_path(&path("d/f0"));
    rig.age();
    assert_eq!(rig.names("d").unwrap().len(), many - 1);
}

/// Everything at random: in the end the share has what was done here, once.
#[test]
fn random_faults_lose_nothing() {
    let first = env_number("COVEFS_SEED", 1);
    for seed in first..first + env_number("COVEFS_FAULT_ROUNDS", 6) {
        let done = std::panic::catch_unwind(|| random_round(seed));
        if let Err(panic) = done {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn random_round(seed: u64) {
    let mut random = Random::seeded(seed);
    let mut rig = Rig::with(|memory, config| {
        memory.write_dir(&path("d"));
        config.timeout = Duration::from_secs(3);
    });
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    rig.names("d").unwrap();
    rig.remote.randomly(seed, Odds { before: 60, after: 100, short: 40, ..Odds::default() });
    for step in 0..60 {
        random_step(&mut rig, &mut random, &mut files, seed + step);
        let names: Vec<String> = files.keys().map(|at| at[2..].to_owned()).collect();
        // A directory that was never listed in this run may not be listed offline.
        if let Ok(seen) = rig.names("d") {
            assert_eq!(seen, names, "step {step}");
        }
    }
    rig.remote.heal();
    rig.remote.offline(false);
    rig.sync();
    let there: Vec<String> = rig.share_files();
    assert_eq!(there, files.keys().cloned().collect::<Vec<_>>());
    for (at, bytes) in &files {
        same(&rig.there(at).unwrap(), bytes);
    }
    assert_eq!(rig.conflicts(), []);
    rig.age();
    for (at, bytes) in &files {
        same(&rig.read(at).unwrap(), bytes);
    }
}

/// One thing that a user, the line or the power does.
fn random_step(
    rig: &mut Rig,
    random: &mut Random,
    files: &mut BTreeMap<String, Vec<u8>>,
    seed: u64,
) {
    let at = format!("d/f{}", random.below(6));
    let data = pattern(random.next(), 1 + random.below(100_000) as usize);
    match random.below(12) {
        0..3 => {
            rig.save(&at, &data).unwrap();
            files.insert(at, data);
        }
        3..6 => {
            if let Some(bytes) = files.get_mut(&at) {
                let from = random.below(bytes.len() as u64) as usize;
                let data = &data[..data.len().min(bytes.len() - from)];
                rig.edit(&at, from as u64, data).unwrap();
                bytes[from..from + data.len()].copy_from_slice(data);
            }
        }
        6..8 => {
            let to = format!("d/f{}", random.below(6));
            if at != to && files.contains_key(&at) {
                rig.mv(&at, &to).unwrap();
                let bytes = files.remove(&at).unwrap();
                files.insert(to, bytes);
            }
        }
        8 => {
            if files.remove(&at).is_some() {
                rig.unlink(&at).unwrap();
            }
        }
        9 => {
            rig.remote.offline(random.one_in(2));
        }
        10 if random.one_in(3) => {
            rig.remote.offline(false);
            rig.remote.heal();
            rig.crash(Index::Kept);
            rig.remote
                .randomly(seed, Odds { before: 30, after: 100, short: 40, ..Odds::default() });
            rig.start();
        }
        _ => {
            let pause = random.below(60);
            rig.pause(Duration::from_millis(pause));
        }
    }
}
