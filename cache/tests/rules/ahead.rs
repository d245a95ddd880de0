//! A long line is kept busy: what is small goes and comes many at a time, and before it is asked for.

use super::*;

const FILES: usize = 60;

fn numbered(number: usize) -> String {
    format!("dir/{number:03}")
}

/// A rig whose share has small files in one directory.
fn with_files() -> Rig {
    Rig::with(|memory, config| {
        (0..FILES).for_each(|n| memory.write_file(&path(&numbered(n)), pattern(n as u64, 1000)));
        config.freshness = Duration::from_secs(3600);
    })
}

#[test]
fn files_that_are_opened_in_order_are_fetched_ahead_many_at_a_time() {
    let rig = with_files();
    let gate = Gate::new();
    let stall = Fault::Stall { bytes: 0, gate: gate.clone() };
    // A guess may overtake the read that it was made for.
    let first: Vec<_> = (0..3).map(|n| path(&numbered(n))).collect();
    rig.remote.inject(Rule::new("read", stall).when(move |path| !first.contains(path)));
    // The third one proves the order.
    (0..3).for_each(|n| drop(rig.read(&numbered(n)).unwrap()));
    rig.wait(gate.arrived(8));
    gate.open();
    (3..FILES).for_each(|n| same(&rig.read(&numbered(n)).unwrap(), &pattern(n as u64, 1000)));
    assert_eq!(rig.remote.requests("read"), FILES as u64, "each is asked for once");
}

/// What waits to be stored until it is quiet is stored when the mount ends.
#[test]
fn what_came_ahead_is_kept_over_an_unmount() {
    let mut rig = with_files();
    (0..3).for_each(|n| drop(rig.read(&numbered(n)).unwrap()));
    rig.until("the next ones came", |rig| rig.vfs().status().reads.fetched_bytes >= 11 * 1000);
    rig.stop();
    rig.start();
    let before = rig.remote.requests("read");
    (0..11).for_each(|n| same(&rig.read(&numbered(n)).unwrap(), &pattern(n as u64, 1000)));
    assert_eq!(rig.remote.requests("read"), before, "asked for again");
}

#[test]
fn files_in_no_order_are_not_fetched_ahead() {
    let rig = with_files();
    let opened = [50, 7, 33, 20, 3, 41, 12];
    opened.iter().for_each(|n| drop(rig.read(&numbered(*n)).unwrap()));
    rig.pause(Duration::from_millis(100));
    assert_eq!(rig.remote.requests("read"), opened.len() as u64);
}

#[test]
fn directories_that_are_listed_in_order_are_listed_ahead_each_once() {
    let rig = Rig::with(|memory, config| {
        (0..FILES).for_each(|n| memory.write_file(&path(&format!("{n:03}/a")), "a"));
        config.freshness = Duration::from_secs(3600);
    });
    rig.names("").unwrap();
    let before = rig.remote.requests("list");
    (0..3).for_each(|n| assert_eq!(rig.names(&format!("{n:03}")).unwrap(), ["a"]));
    rig.until("others are listed too", |rig| rig.remote.requests("list") >= before + 3 + 8);
    (3..FILES).for_each(|n| assert_eq!(rig.names(&format!("{n:03}")).unwrap(), ["a"]));
    assert_eq!(rig.remote.requests("list"), before + FILES as u64, "one request for each");
}

/// A rig whose share has directories of small files.
fn with_directories() -> Rig {
    Rig::with(|memory, config| {
        for dir in 0..20 {
            (0..10).for_each(|n| memory.write_file(&path(&in_dir(dir, n)), pattern(dir, 1000)));
        }
        config.freshness = Duration::from_secs(3600);
    })
}

fn in_dir(dir: u64, number: u64) -> String {
    format!("{dir:03}/{number}")
}

fn read_dir(rig: &Rig, dir: u64) {
    rig.names(&format!("{dir:03}")).unwrap();
    (0..10).for_each(|n| same(&rig.read(&in_dir(dir, n)).unwrap(), &pattern(dir, 1000)));
}

#[test]
fn who_has_read_a_directory_and_looks_into_the_next_ones_gets_the_first_files_of_one() {
    let rig = with_directories();
    rig.names("").unwrap();
    (0..20).for_each(|dir| drop(rig.names(&format!("{dir:03}")).unwrap()));
    read_dir(&rig, 0);
    assert_eq!(rig.remote.requests("read"), 10);
    rig.names("001").unwrap();
    rig.until("its first files are fetched", |rig| rig.remote.requests("read") >= 10 + 8);
    (2..20).for_each(|dir| drop(rig.names(&format!("{dir:03}")).unwrap()));
    rig.pause(Duration::from_millis(100));
    assert_eq!(rig.remote.requests("read"), 10 + 8, "files that nobody opened");
}

#[test]
fn who_reads_directory_by_directory_finds_the_next_ones_coming() {
    let rig = with_directories();
    rig.names("").unwrap();
    (0..20).for_each(|dir| drop(rig.names(&format!("{dir:03}")).unwrap()));
    (0..2).for_each(|dir| read_dir(&rig, dir));
    // He has not come there yet.
    rig.until("the next ones are fetched", |rig| rig.remote.requests("read") >= 20 + 8);
    (2..20).for_each(|dir| read_dir(&rig, dir));
    assert_eq!(rig.remote.requests("read"), 200, "each is asked for once");
}

/// The same where he opens no directory: `find` has gone before him.
#[test]
fn files_of_directory_after_directory_are_fetched_ahead_by_their_names_alone() {
    let rig = with_directories();
    rig.names("").unwrap();
    (0..20).for_each(|dir| drop(rig.names(&format!("{dir:03}")).unwrap()));
    let gate = Gate::new();
    let stall = Fault::Stall { bytes: 0, gate: gate.clone() };
    let next: Vec<_> = (0..10).map(|n| path(&in_dir(2, n))).collect();
    rig.remote.inject(Rule::new("read", stall).when(move |path| next.contains(path)));
    for dir in 0..2 {
        (0..10).for_each(|n| same(&rig.read(&in_dir(dir, n)).unwrap(), &pattern(dir, 1000)));
    }
    rig.wait(gate.arrived(8));
    gate.open();
    same(&rig.read(&in_dir(2, 0)).unwrap(), &pattern(2, 1000));
}

/// Levels of directories below the first one, four in each, with files beside and below them.
const LEVELS: usize = 3;

fn with_a_tree() -> Rig {
    Rig::with(|memory, config| {
        for dir in dirs_in_order() {
            (0..6).for_each(|n| memory.write_file(&path(&format!("{dir}/f{n}")), pattern(n, 1000)));
        }
        config.freshness = Duration::from_secs(3600);
    })
}

/// All of it, each directory before what is below it.
fn dirs_in_order() -> Vec<String> {
    let mut dirs = vec!["t".to_owned()];
    let mut at = 0;
    while at < dirs.len() {
        let above = dirs[at].clone();
        if above.split('/').count() <= LEVELS {
            let below = (0..4).map(|n| format!("{above}/d{n}"));
            dirs.splice(at + 1..at + 1, below);
        }
        at += 1;
    }
    dirs
}

#[test]
fn who_lists_a_tree_finds_what_he_comes_to_listed() {
    let rig = with_a_tree();
    let dirs = dirs_in_order();
    rig.names("").unwrap();
    dirs[..3].iter().for_each(|dir| drop(rig.names(dir).unwrap()));
    // Below the third one nothing is known yet; beside and above it six are.
    rig.until("those beside and above are listed", |rig| rig.remote.requests("list") >= 4 + 6);
    dirs[3..].iter().for_each(|dir| drop(rig.names(dir).unwrap()));
    assert_eq!(rig.remote.requests("list"), 1 + dirs.len() as u64, "one request for each");
    // And so it is once all of that is too old.
    rig.age();
    let before = rig.remote.requests("list");
    rig.names("").unwrap();
    dirs[..3].iter().for_each(|dir| drop(rig.names(dir).unwrap()));
    rig.until("others are listed anew", |rig| rig.remote.requests("list") >= before + 4 + 6);
    dirs[3..].iter().for_each(|dir| drop(rig.names(dir).unwrap()));
    let asked = rig.remote.requests("list") - before;
    assert_eq!(asked, 1 + dirs.len() as u64, "one request for each");
}

/// More files in each than one look holds.
#[test]
fn directories_of_many_files_are_looked_past() {
    let rig = Rig::with(|memory, config| {
        for (dir, n) in (0..40).flat_map(|dir| (0..100).map(move |n| (dir, n))) {
            memory.write_file(&path(&format!("{dir:03}/{n:03}")), "a");
        }
        config.freshness = Duration::from_secs(3600);
    });
    rig.names("").unwrap();
    for n in 0..8 {
        rig.names(&format!("{n:03}")).unwrap();
        // What was asked for ahead is here when he comes to it.
        rig.pause(Duration::from_millis(200));
    }
    rig.until("more are listed", |rig| rig.remote.requests("list") >= 1 + 8 + 12);
}

/// As `grep -r` and `cp -r` go through it, by name, and as `rsync` does, files first.
#[test]
fn who_reads_a_tree_finds_the_files_of_the_next_directories_coming() {
    for files_first in [false, true] {
        let rig = with_a_tree();
        rig.names("").unwrap();
        let dirs = dirs_in_order();
        let mut order = Vec::new();
        read_tree("t", files_first, &mut order);
        assert_eq!(order.len(), 6 * dirs.len());
        dirs.iter().for_each(|dir| drop(rig.names(dir).unwrap()));
        let ahead = |rig: &Rig, read: u64| rig.remote.requests("read") - read;
        let mut most = 0;
        for (count, file) in (1..).zip(&order) {
            rig.read(file).unwrap();
            rig.pause(Duration::from_millis(1));
            most = most.max(ahead(&rig, count));
        }
        assert!(most > 3 * 6, "{most} at most came ahead, files first: {files_first}");
        assert_eq!(ahead(&rig, order.len() as u64), 0, "each is asked for once");
    }
}

fn read_tree(dir: &str, files_first: bool, order: &mut Vec<String>) {
    let files = || (0..6).map(|n| format!("{dir}/f{n}"));
    if files_first {
        order.extend(files());
    }
    if dir.split('/').count() <= LEVELS {
        (0..4).for_each(|n| read_tree(&format!("{dir}/d{n}"), files_first, order));
    }
    if !files_first {
        order.extend(files());
    }
}

#[test]
fn bytes_that_have_come_are_read_before_they_are_stored() {
    let bytes = pattern(1, 60 << 10);
    let rig = Rig::with(|memory, _| memory.write_file(&path("a"), bytes.clone()));
    let gate = Gate::new();
    rig.remote.inject(Rule::new("read", Fault::Stall { bytes: 8192, gate: gate.clone() }));
    let fh = rig.open("a", READ).unwrap();
    same(&rig.read_at(fh, 0, 4096).unwrap(), &bytes[..4096]);
    rig.wait(gate.arrived(1));
    let (mut out, asked) = (Vec::new(), Asked::now());
    let step = rig.vfs().read(asked, fh, 4096, 4096, &mut out).unwrap();
    assert!(matches!(step, Step::Done(())), "it waits for what is here");
    same(&out, &bytes[4096..8192]);
    assert!(matches!(rig.vfs().read(asked, fh, 8000, 4096, &mut out), Ok(Step::Wait(_))));
    gate.open();
    same(&rig.read_at(fh, 8000, 4096).unwrap(), &bytes[8000..12096]);
    rig.close(fh);
}

/// rule E3: one pass over small files that are fetched ahead does not drive out what is in use.
#[test]
fn what_was_fetched_ahead_and_read_once_counts_as_read_once() {
    const MIB: usize = 1 << 20;
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("hot"), pattern(1, 24 * MIB));
        (0..150).for_each(|n| memory.write_file(&path(&numbered(n)), pattern(2, MIB)));
        config.freshness = Duration::from_secs(3600);
        config.limit_bytes = 64 << 20;
    });
    (0..2).for_each(|_| drop(rig.read_in("hot")));
    (0..150).for_each(|n| drop(rig.read(&numbered(n)).unwrap()));
    assert!(rig.is_here("hot"), "driven out by files that were read once");
}

/// Whoever comes to bytes in order that have just arrived goes on reading ahead.
#[test]
fn bytes_that_arrived_just_now_do_not_end_readahead() {
    let bytes = pattern(1, 16 << 20);
    let rig = Rig::with(|memory, _| memory.write_file(&path("a"), bytes.clone()));
    let fh = rig.open("a", READ).unwrap();
    for at in (0..bytes.len()).step_by(128 << 10) {
        // As after `Need::Bytes`, though the flight has ended before this is called.
        let cold = rig.vfs().read_cold(Asked::now(), fh, at as u64, 128 << 10);
        same(&rig.wait(cold).unwrap(), &bytes[at..at + (128 << 10)]);
        rig.pause(Duration::from_millis(2));
    }
    rig.close(fh);
    let requests = rig.remote.requests("read");
    assert!(requests < 24, "{requests} requests for 16 MiB read in order");
}

#[test]
fn small_files_are_uploaded_many_at_a_time_and_big_ones_few() {
    for (bytes, least, most) in [(1000, 32, FILES), (2 << 20, 4, 4)] {
        let rig = Rig::new();
        let gate = Gate::new();
        rig.remote.inject(Rule::new("replace", Fault::Stall { bytes: 0, gate: gate.clone() }));
        rig.mkdir("dir").unwrap();
        (0..FILES).for_each(|n| rig.save(&numbered(n), &pattern(n as u64, bytes)).unwrap());
        let vfs = rig.arc();
        let syncing = rig.handle().spawn(async move { vfs.sync_wait(&|_| ()).await });
        rig.wait(gate.arrived(least));
        rig.pause(Duration::from_millis(100));
        let under_way = rig.remote.requests("replace") as usize;
        assert!((least..=most).contains(&under_way), "{under_way} under way of {bytes} bytes");
        gate.open();
        rig.wait(syncing).unwrap().unwrap();
        rig.sync();
        (0..FILES).for_each(|n| same(&rig.there(&numbered(n)).unwrap(), &pattern(n as u64, bytes)));
    }
}
