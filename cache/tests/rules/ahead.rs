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

#[test]
fn who_reads_directory_by_directory_finds_the_next_one_coming() {
    let rig = with_directories();
    rig.names("").unwrap();
    for dir in 0..4 {
        rig.names(&format!("{dir:03}")).unwrap();
        (0..10).for_each(|n| drop(rig.read(&in_dir(dir, n)).unwrap()));
    }
    rig.until("it is listed ahead", |rig| rig.remote.requests("list") >= 1 + 3 + 8);
    let before = rig.remote.requests("read");
    rig.names("004").unwrap();
    rig.until("its files are fetched", |rig| rig.remote.requests("read") >= before + 8);
    (0..10).for_each(|n| same(&rig.read(&in_dir(4, n)).unwrap(), &pattern(4, 1000)));
    // Who only looks into them gets no more than the first files of one.
    let before = rig.remote.requests("read");
    (5..15).for_each(|dir| drop(rig.names(&format!("{dir:03}")).unwrap()));
    rig.pause(Duration::from_millis(100));
    let fetched = rig.remote.requests("read") - before;
    assert!(fetched <= 8, "{fetched} files fetched that nobody opened");
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
