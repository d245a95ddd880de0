//! Readers while versions come and go, and while bytes do.

use super::*;

/// rules R1, R2: the same file of the same size, rewritten in place while it is read: never a
/// mixture.
#[test]
fn a_reader_never_gets_a_mixture() {
    let (old, new) = (pattern(1, 20 * BLOCK), pattern(2, 20 * BLOCK));
    let rig = Rig::with(|memory, _| memory.write_file(&path("a"), old.clone()));
    let fh = rig.open("a", READ).unwrap();
    assert_eq!(rig.read_at(fh, 0, 100).unwrap(), old[..100]);
    rig.memory.write_file(&path("a"), new.clone());
    rig.age();
    rig.names("").unwrap();
    let at = 15 * BLOCK;
    match rig.read_at(fh, at as u64, 100) {
        Ok(bytes) => assert!(bytes == old[at..at + 100], "bytes of another version"),
        Err(error) => assert_eq!(error.kind, ErrorKind::Stale),
    }
    rig.close(fh);
    assert!(rig.read("a").unwrap() == new);
}

/// rule R2: many readers of a cold file that changed meanwhile all move on to the newest.
#[test]
fn readers_that_got_nothing_yet_follow_to_the_newest() {
    // Written in place there, or replaced by a new file, as editors and other sites do it.
    [false, true].into_iter().for_each(follow);
}

fn follow(replaced: bool) {
    let (old, new) = (pattern(1, 4 * BLOCK), pattern(2, 5 * BLOCK));
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), old.clone());
        config.freshness = Duration::from_secs(3600);
    });
    rig.find("a").unwrap();
    let handles: Vec<Fh> = (0..8).map(|_| rig.open("a", READ).unwrap()).collect();
    if replaced {
        rig.memory.remove_path(&path("a"));
    }
    rig.memory.write_file(&path("a"), new.clone());
    let vfs = rig.arc();
    std::thread::scope(|scope| {
        for (n, fh) in handles.iter().enumerate() {
            let (vfs, runtime, fh, new) = (vfs.clone(), rig.handle().clone(), *fh, &new);
            scope.spawn(move || {
                let at = n % 4 * BLOCK;
                let bytes = read_at(&vfs, &runtime, fh, at as u64, 1000).unwrap();
                assert!(bytes == new[at..at + 1000]);
            });
        }
    });
    handles.into_iter().for_each(|fh| rig.close(fh));
}

/// rule R2: what a reader wants of a file that is being uploaded comes, before and after, and while
/// nobody knows whether it arrived.
#[test]
fn a_cold_file_is_read_on_while_it_is_uploaded() {
    for lost in [false, true] {
        let old = pattern(1, 40 << 20);
        let rig = Rig::with(|memory, config| {
            config.limit_bytes = 64 << 20;
            memory.write_file(&path("a"), old.clone());
        });
        let fh = rig.open("a", READ).unwrap();
        if lost {
            rig.remote.inject(Rule::new("replace", Fault::After(RemoteKind::Timeout)).times(1));
        } else {
            rig.remote.inject(Rule::new("replace", Fault::Late(Duration::from_millis(200))));
        }
        rig.edit("a", 0, b"mine").unwrap();
        let mut random = Random::seeded(1);
        for _ in 0..150 {
            let at = 100 + random.below(old.len() as u64 - 5000) as usize;
            same(&rig.read_at(fh, at as u64, 1000).unwrap(), &old[at..at + 1000]);
            rig.pause(Duration::from_millis(5));
            rig.evict("a");
        }
        rig.close(fh);
        rig.sync();
        assert_eq!(&rig.there("a").unwrap()[..4], b"mine");
    }
}

/// rule R2: the same while it is renamed, or its times are set.
#[test]
fn a_cold_file_is_read_on_while_it_is_renamed() {
    for op in ["rename", "set_attrs"] {
        let bytes = pattern(1, 1000);
        let rig = Rig::with(|memory, _| memory.write_file(&path("a"), bytes.clone()));
        let fh = rig.open("a", READ).unwrap();
        rig.remote.inject(Rule::new(op, Fault::Late(Duration::from_millis(400))));
        if op == "rename" {
            rig.mv("a", "b").unwrap();
        } else {
            let time = SetTime::At(Timestamp { seconds: 1_000_000_000, nanos: 0 });
            rig.set("a", SetAttr { mtime: Some(time), ..SetAttr::default() }).unwrap();
        }
        rig.until("it is asked for", |rig| rig.remote.requests(op) > 0);
        rig.pause(Duration::from_millis(100));
        same(&rig.read_at(fh, 0, 1000).unwrap(), &bytes);
        rig.close(fh);
    }
}

/// rule R1: a file that is open keeps its bytes when another is renamed over it here.
#[test]
fn an_open_file_keeps_its_bytes_when_it_is_replaced_here() {
    let old = pattern(1, 40 * BLOCK);
    let rig = Rig::with(|memory, _| memory.write_file(&path("a"), old.clone()));
    let fh = rig.open("a", READ).unwrap();
    assert_eq!(rig.read_at(fh, 0, 10).unwrap(), old[..10]);
    rig.save("b", b"new").unwrap();
    rig.mv("b", "a").unwrap();
    rig.sync();
    assert_eq!(rig.there("a").unwrap(), b"new");
    let at = 35 * BLOCK;
    assert_eq!(rig.read_at(fh, at as u64, 10).unwrap(), old[at..at + 10]);
    rig.close(fh);
}

/// Single-flight: many readers of one cold range make one request.
#[test]
fn readers_of_one_cold_range_share_a_request() {
    let bytes = pattern(1, BLOCK);
    let rig = Rig::with(|memory, _| memory.write_file(&path("a"), bytes.clone()));
    let gate = Gate::new();
    rig.remote.inject(Rule::new("read", Fault::Stall { bytes: 0, gate: gate.clone() }));
    let fh = rig.open("a", READ).unwrap();
    let vfs = rig.arc();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let (vfs, runtime, bytes) = (vfs.clone(), rig.handle().clone(), &bytes);
            scope.spawn(move || {
                assert_eq!(&read_at(&vfs, &runtime, fh, 0, BLOCK).unwrap(), bytes);
            });
        }
        rig.wait(gate.arrived(1));
        rig.pause(Duration::from_millis(50));
        gate.open();
    });
    assert_eq!(rig.remote.requests("read"), 1);
    rig.close(fh);
}

/// rule D2: readers of a file that is evicted all the time never get zeros.
#[test]
fn readers_against_eviction_get_no_zeros() {
    let bytes = pattern(1, 9 << 20);
    let rig = Rig::with(|memory, _| memory.write_file(&path("a"), bytes.clone()));
    let fh = rig.open("a", READ).unwrap();
    let vfs = rig.arc();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (vfs, runtime, bytes, done) = (vfs.clone(), rig.handle().clone(), &bytes, &done);
            scope.spawn(move || {
                let mut random = Random::seeded(reader);
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let at = random.below(bytes.len() as u64 - 5000) as usize;
                    same(
                        &read_at(&vfs, &runtime, fh, at as u64, 5000).unwrap(),
                        &bytes[at..at + 5000],
                    );
                }
            });
        }
        for _ in 0..150 {
            rig.evict("a");
            rig.pause(Duration::from_millis(3));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    rig.close(fh);
}

/// What eviction is at work on still has its size and time.
#[test]
fn stat_against_eviction_shows_the_truth() {
    let rig = Rig::with(|memory, config| {
        (0..40).for_each(|n| memory.write_file(&path(&format!("{n}")), pattern(n, 2_500_000)));
        config.freshness = Duration::from_secs(3600);
        config.limit_bytes = 64 << 20;
    });
    let all: Vec<_> = (0..40).map(|n| rig.find(&n.to_string()).unwrap()).collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..20).for_each(|n| drop(rig.read(&n.to_string()).unwrap()));
            // Settled and let go of: from here on only eviction loads them.
            rig.pause(Duration::from_millis(4500));
            (20..40).for_each(|n| drop(rig.read(&n.to_string()).unwrap()));
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            for attr in &all {
                let now = rig.ask(|vfs, asked| vfs.getattr(asked, attr.ino, None)).unwrap().attr;
                assert_eq!((now.size, now.mtime), (attr.size, attr.mtime));
            }
        }
    });
}
