//! Rules of the cache, one scenario each, through its public interface.
#![allow(clippy::unwrap_used)]

mod harness;

use covefs_cache::*;
use covefs_remote::ErrorKind as RemoteKind;
use covefs_remote::fault::{Fault, Gate, Rule};
use harness::*;
use std::time::Duration;

const BLOCK: usize = 64 << 10;

// ---- the answer of an upload is lost

/// rule S4: an upload arrives, its answer is lost, and before anybody asks, the same bytes are
/// written again. Those are newer than what arrived.
#[test]
fn what_is_written_after_a_lost_answer_is_sent() {
    let rig = Rig::new();
    rig.save("a", &pattern(1, 1000)).unwrap();
    rig.sync();
    let lost = Fault::After(RemoteKind::Timeout);
    rig.remote.inject(Rule::new("replace", lost).times(1));
    rig.edit("a", 0, &pattern(2, 1000)).unwrap();
    rig.until("the upload arrived", |rig| rig.there("a") == Some(pattern(2, 1000)));
    rig.edit("a", 0, &pattern(3, 1000)).unwrap();
    rig.sync();
    same(&rig.there("a").unwrap(), &pattern(3, 1000));
    assert_eq!(rig.share_files(), ["a"]);
}

// ---- attributes here, bytes there

/// rule S5: a chmod here and an edit in place there are both kept, and the edit is seen.
#[test]
fn an_edit_there_is_seen_after_a_chmod_here() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), pattern(1, 1000));
        config.freshness = Duration::from_millis(300);
    });
    same(&rig.read("a").unwrap(), &pattern(1, 1000));
    rig.memory.write_file(&path("a"), pattern(2, 1000));
    rig.set("a", SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    rig.sync();
    rig.age();
    same(&rig.read("a").unwrap(), &pattern(2, 1000));
}

/// rule S5: the same, with an edit here after it: theirs is not overwritten unseen.
#[test]
fn an_edit_there_is_not_overwritten_after_a_chmod_here() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), pattern(1, 1000));
        config.freshness = Duration::from_secs(3600);
    });
    same(&rig.read("a").unwrap(), &pattern(1, 1000));
    rig.memory.write_file(&path("a"), pattern(2, 1000));
    rig.set("a", SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    rig.sync();
    rig.edit("a", 0, b"mine").unwrap();
    rig.sync();
    let all: Vec<_> = rig.share_files().iter().map(|name| rig.there(name).unwrap()).collect();
    assert!(all.contains(&pattern(2, 1000)), "{:?}", rig.share_files());
}

/// Our own utimes on a file that is open and not whole: the rest can still be read.
#[test]
fn a_cold_file_is_read_on_after_utimes() {
    let bytes = pattern(1, 40 * BLOCK);
    let rig = Rig::with(|memory, _| memory.write_file(&path("a"), bytes.clone()));
    let fh = rig.open("a", READ).unwrap();
    assert_eq!(rig.read_at(fh, 0, 10).unwrap(), bytes[..10]);
    let time = SetTime::At(Timestamp { seconds: 1_000_000_000, nanos: 0 });
    rig.set("a", SetAttr { mtime: Some(time), ..SetAttr::default() }).unwrap();
    rig.sync();
    let at = 30 * BLOCK;
    assert_eq!(rig.read_at(fh, at as u64, 10).unwrap(), bytes[at..at + 10]);
    rig.close(fh);
}

// ---- deleted there, edited here

/// rules D5, S6: a file that is edited here and not whole goes from the share. What we have of it
/// is made anew, and the gaps are told of.
#[test]
fn an_edited_file_that_is_not_whole_outlives_its_base() {
    for listed_first in [false, true] {
        let size = 40 << 20;
        let rig = Rig::with(|memory, config| {
            config.limit_bytes = 64 << 20;
            memory.write_file(&path("d/a"), pattern(1, size));
            config.debounce = Duration::from_millis(500);
        });
        rig.edit("d/a", 0, b"mine").unwrap();
        rig.memory.remove_path(&path("d/a"));
        if listed_first {
            rig.age();
            assert_eq!(rig.names("d").unwrap(), ["a"]);
        }
        rig.sync();
        let there = rig.there("d/a").unwrap();
        assert_eq!(there.len(), size);
        assert_eq!(&there[..4], b"mine");
        let conflicts = rig.conflicts();
        assert_eq!(conflicts.len(), 1, "listed first: {listed_first}");
        assert!(!conflicts[0].missing.is_empty(), "the gaps are told of");
    }
}

/// The clean bytes of an edited file whose base is gone are the only copy: they are not evicted.
#[test]
fn clean_bytes_of_an_edited_file_that_is_gone_there_stay() {
    let bytes = pattern(1, 8 << 20);
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("d/a"), bytes.clone());
        config.debounce = Duration::from_millis(800);
    });
    same(&rig.read("d/a").unwrap(), &bytes);
    rig.edit("d/a", 0, b"mine").unwrap();
    rig.memory.remove_path(&path("d/a"));
    rig.age();
    assert_eq!(rig.names("d").unwrap(), ["a"]);
    rig.evict("d");
    rig.sync();
    let there = rig.there("d/a").unwrap();
    assert_eq!(&there[..4], b"mine");
    assert!(there[4..] == bytes[4..], "bytes were lost");
}

// ---- order

/// rule S3: `mkdir new; touch new/f; rm -r old; mv new old` in one debounce: the delete waits for
/// the upload, the upload for the directory, the directory for the delete.
#[test]
fn a_new_directory_takes_the_name_of_a_removed_one() {
    for kind in ["file", "dir"] {
        let rig = Rig::with(|memory, config| {
            match kind {
                "file" => memory.write_file(&path("old"), "old"),
                _ => memory.write_dir(&path("old")),
            }
            config.debounce = Duration::from_millis(300);
        });
        rig.find("old").unwrap();
        rig.mkdir("new").unwrap();
        rig.save("new/f", b"bytes").unwrap();
        if kind == "file" { rig.unlink("old") } else { rig.rmdir("old") }.unwrap();
        rig.mv("new", "old").unwrap();
        rig.sync();
        assert_eq!(rig.there("old/f").unwrap(), b"bytes");
        assert_eq!(rig.share_files(), ["old/f"]);
    }
}

/// rule S3: a file that is renamed or written over another is never missing on the share.
#[test]
fn a_replaced_file_is_never_missing_there() {
    for how in ["rename", "save", "link"] {
        let rig = Rig::with(|memory, config| {
            memory.write_file(&path("a"), "old");
            memory.write_file(&path("b"), "new");
            config.debounce = Duration::from_millis(100);
        });
        assert_eq!(rig.names("").unwrap(), ["a", "b"]);
        match how {
            "rename" => rig.mv("b", "a").unwrap(),
            "save" => {
                rig.unlink("a").unwrap();
                rig.save("a", b"new").unwrap();
            }
            _ => {
                rig.symlink("t", b"target").unwrap();
                rig.sync();
                rig.mv("t", "a").unwrap();
            }
        }
        rig.until("it arrived", |rig| {
            assert!(rig.memory.tree().contains_key(&path("a")), "{how}");
            rig.there("a") != Some(b"old".to_vec())
        });
        rig.sync();
        assert_eq!(rig.remote.requests("remove"), 0, "{how}");
        assert_eq!(rig.share_files().len(), if how == "rename" { 1 } else { 2 });
    }
}

// ---- reading while versions come and go

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
    let (old, new) = (pattern(1, 4 * BLOCK), pattern(2, 5 * BLOCK));
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), old.clone());
        config.freshness = Duration::from_secs(3600);
    });
    rig.find("a").unwrap();
    let handles: Vec<Fh> = (0..8).map(|_| rig.open("a", READ).unwrap()).collect();
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

// ---- journal

/// rule J4: bytes written into what is absent and what is present survive a crash, and what lies
/// around them is still the base's.
#[test]
fn writes_into_absent_and_present_bytes_survive_a_crash() {
    for (index, cold) in
        [(Index::Kept, true), (Index::Kept, false), (Index::Deleted, true), (Index::Deleted, false)]
    {
        let mut wanted = pattern(1, 20 << 20);
        let mut rig = Rig::with(|memory, config| {
            memory.write_file(&path("a"), wanted.clone());
            config.limit_bytes = 64 << 20;
            config.debounce = Duration::from_secs(3600);
        });
        rig.find("a").unwrap();
        if !cold {
            same(&rig.read("a").unwrap(), &wanted);
        }
        rig.remote.offline(true);
        for (n, at) in [100, 5 * BLOCK - 50, 19 << 20, (20 << 20) - 10].into_iter().enumerate() {
            let mine = pattern(10 + n as u64, 3000);
            rig.edit("a", at as u64, &mine).unwrap();
            wanted.resize(wanted.len().max(at + 3000), 0);
            wanted[at..at + 3000].copy_from_slice(&mine);
        }
        rig.crash(index);
        rig.remote.offline(false);
        rig.start();
        same(&rig.read("a").unwrap(), &wanted);
        rig.sync();
        same(&rig.there("a").unwrap(), &wanted);
        assert_eq!(rig.conflicts(), []);
    }
}

/// A file that was here whole and is edited while the share is away is still whole after a restart.
#[test]
fn an_edited_file_stays_readable_offline() {
    for crash in [false, true] {
        let mut wanted = pattern(1, 300_000);
        let mut rig = Rig::with(|memory, _| memory.write_file(&path("a"), wanted.clone()));
        same(&rig.read("a").unwrap(), &wanted);
        // The index learns of it.
        rig.pause(Duration::from_millis(2500));
        rig.remote.offline(true);
        rig.edit("a", 100_000, &pattern(2, 1000)).unwrap();
        wanted[100_000..101_000].copy_from_slice(&pattern(2, 1000));
        for _ in 0..2 {
            if crash {
                rig.crash(Index::Kept)
            } else {
                rig.stop()
            }
            rig.start();
            same(&rig.read("a").unwrap(), &wanted);
        }
        rig.remote.offline(false);
        rig.sync();
        same(&rig.there("a").unwrap(), &wanted);
    }
}

/// rule J5: what was cut off does not come back when the file grows again, not even by a fetch
/// that was under way.
#[test]
fn what_was_cut_off_does_not_come_back() {
    for (crash, grow_late) in [(false, false), (true, false), (false, true), (true, true)] {
        let old = pattern(1, 10 * BLOCK);
        let mut rig = Rig::with(|memory, config| {
            memory.write_file(&path("a"), old.clone());
            config.debounce = Duration::from_millis(400);
        });
        let gate = Gate::new();
        let stall = Fault::Stall { bytes: 0, gate: gate.clone() };
        rig.remote.inject(Rule::new("read", stall).times(1));
        let fh = rig.open("a", READ).unwrap();
        let (vfs, runtime) = (rig.arc(), rig.handle().clone());
        let reader = std::thread::spawn(move || {
            let _ = read_at(&vfs, &runtime, fh, 0, 10 * BLOCK);
        });
        rig.wait(gate.arrived(1));
        rig.resize("a", 1000).unwrap();
        if !grow_late {
            rig.resize("a", 10 * BLOCK as u64).unwrap();
        }
        gate.open();
        reader.join().unwrap();
        rig.resize("a", 10 * BLOCK as u64).unwrap();
        let mut wanted = old[..1000].to_vec();
        wanted.resize(10 * BLOCK, 0);
        same(&rig.read_at(fh, 0, 10 * BLOCK).unwrap(), &wanted);
        if crash {
            rig.crash(Index::Kept);
            rig.start();
        }
        same(&rig.read("a").unwrap(), &wanted);
        rig.sync();
        same(&rig.there("a").unwrap(), &wanted);
        rig.evict("a");
        same(&rig.read("a").unwrap(), &wanted);
    }
}

/// What a start finds unclaimed is not taken from under whoever opened it meanwhile: crash, edit
/// while the stock is taken, crash again.
#[test]
fn a_start_takes_no_data_file_that_is_in_use() {
    for round in 0..12 {
        let mut rig = Rig::new();
        rig.save("a", &pattern(1, 10_000)).unwrap();
        rig.sync();
        // Before the index learns what is present: nobody claims the data file at the next start.
        rig.crash(Index::Kept);
        rig.start();
        rig.edit("a", 5000, &pattern(2, 10_000)).unwrap();
        rig.pause(Duration::from_millis(round));
        rig.crash(Index::Kept);
        rig.start();
        let wanted = [&pattern(1, 10_000)[..5000], &pattern(2, 10_000)].concat();
        same(&rig.read("a").unwrap(), &wanted);
        rig.sync();
        same(&rig.there("a").unwrap(), &wanted);
    }
}

// ---- readers against eviction

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

// ---- one state that existed

/// rule S1: what arrives is one state that the file had, however it is written meanwhile.
#[test]
fn an_upload_is_one_state_that_existed() {
    let size = 24 * BLOCK;
    let rig = Rig::new();
    rig.save("a", &vec![1; size]).unwrap();
    rig.sync();
    let fh = rig.open("a", WRITE).unwrap();
    // Front to back, each time: a state is some of the new number, then the old one.
    for number in 2..40_u8 {
        for at in (0..size).step_by(BLOCK) {
            rig.write_at(fh, at as u64, &vec![number; BLOCK]).unwrap();
            if at == 3 * BLOCK {
                rig.ask(|vfs, asked| vfs.fsync(asked, fh)).unwrap();
                rig.vfs().sync_now();
            }
            let there = rig.there("a").unwrap();
            let ends: Vec<u8> = there.chunks(BLOCK).map(|block| block[0]).collect();
            let falls = ends.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(falls <= 1 && ends[0] >= ends[23] && ends[0] - ends[23] <= 1, "{ends:?}");
        }
    }
    rig.close(fh);
    rig.sync();
    same(&rig.there("a").unwrap(), &vec![39; size]);
    assert!(rig.remote.requests("replace") > 3, "uploads ran while it was written");
}

// ---- space

/// rules E1, E2: whatever is read and written, what lies in the cache stays below the limit.
#[test]
fn the_limit_holds() {
    let limit = 64 << 20;
    let rig = Rig::with(|memory, config| {
        config.limit_bytes = limit;
        (0..8).for_each(|n| memory.write_file(&path(&format!("r{n}")), pattern(n, 16 << 20)));
    });
    let mut most = 0;
    for n in 0..8 {
        let fh = rig.open(&format!("r{n}"), READ).unwrap();
        for at in (0..16 << 20).step_by(1 << 20) {
            rig.read_at(fh, at, 128 << 10).unwrap();
            most = most.max(rig.allocated());
        }
        rig.close(fh);
        let fh = rig.create(&format!("w{n}"), WRITE).unwrap();
        for at in (0..16 << 20).step_by(256 << 10) {
            rig.write_at(fh, at, &pattern(n, 256 << 10)).unwrap();
            most = most.max(rig.allocated());
        }
        rig.close(fh);
    }
    rig.sync();
    assert!(most <= limit + (4 << 20), "{} MiB of {}", most >> 20, limit >> 20);
    for n in 0..8 {
        same(&rig.there(&format!("w{n}")).unwrap()[..256 << 10], &pattern(n, 256 << 10));
    }
}

/// A copy of bytes that there is no room to keep ends; the kernel then reads and writes.
#[test]
fn a_copy_without_room_ends() {
    let rig = Rig::with(|memory, config| {
        config.limit_bytes = 64 << 20;
        memory.write_file(&path("pinned"), pattern(1, 60 << 20));
        memory.write_file(&path("cold"), pattern(2, 8 << 20));
    });
    rig.wait(rig.vfs().pin(&path("pinned"))).unwrap();
    rig.wait(rig.vfs().hydrate(&path("pinned"), &|_| ())).unwrap();
    let (from, to) = (rig.open("cold", READ).unwrap(), rig.create("copy", WRITE).unwrap());
    let mut asked = Asked::now();
    let ended = (0..20).any(|_| match rig.vfs().copy_range(asked, from, 0, to, 0, 8 << 20) {
        Ok(Step::Done(copied)) => copied > 0,
        Ok(Step::Wait(need)) => {
            rig.wait(rig.vfs().wait(asked, need)).unwrap();
            asked = asked.blocking();
            false
        }
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Unsupported);
            true
        }
    });
    assert!(ended, "it asks for the same bytes again and again");
    rig.close(from);
    rig.close(to);
}

/// rule E2: a journal that takes what a small limit has would leave nothing for files.
#[test]
fn the_journal_stays_small_beside_a_small_limit() {
    let rig = Rig::with(|_, config| {
        config.limit_bytes = 64 << 20;
        config.debounce = Duration::from_secs(3600);
    });
    let fh = rig.create("log", APPEND).unwrap();
    for _ in 0..400_000 {
        rig.write_at(fh, 0, b"one more line\n").unwrap();
    }
    rig.until("the journal was folded", |rig| rig.allocated() < 16 << 20);
    rig.close(fh);
}

/// `--max-age`: what nobody uses goes, what is used stays, also when the mount was stopped between.
#[test]
fn what_nobody_uses_goes() {
    let mut rig = Rig::with(|memory, config| {
        config.max_age = Some(Duration::from_secs(4));
        config.freshness = Duration::from_secs(3600);
        ["used", "unused", "edited"].iter().for_each(|at| {
            memory.write_file(&path(at), pattern(1, 300_000));
        });
    });
    for at in ["used", "unused", "edited"] {
        assert_eq!(rig.read(at).unwrap().len(), 300_000);
    }
    rig.remote.offline(true);
    rig.edit("edited", 7, b"mine").unwrap();
    rig.pause(Duration::from_millis(2500));
    rig.stop();
    rig.start();
    let here = |rig: &Rig, at: &str| {
        let why = rig.wait(rig.vfs().why(&path(at))).unwrap();
        why.iter().find_map(|line| line.strip_prefix("here: ")).unwrap().starts_with("300000 ")
    };
    rig.until("what nobody uses has gone", |rig| {
        assert_eq!(rig.read("used").unwrap().len(), 300_000);
        !here(rig, "unused")
    });
    rig.pause(Duration::from_millis(2500));
    assert!(here(&rig, "used"));
    assert_eq!(&rig.read("edited").unwrap()[7..11], b"mine");
    rig.remote.offline(false);
    rig.sync();
    same(&rig.read("unused").unwrap(), &pattern(1, 300_000));
}

// ---- conflicts

/// A file changed on both sides: what the share has keeps the name, ours goes beside it.
fn conflict(here: impl Fn(&Rig), there: impl Fn(&Rig), wanted: &[(&str, &str)], conflicts: usize) {
    for seen in [false, true] {
        let rig = Rig::with(|memory, config| {
            memory.write_file(&path("d/a"), "base");
            memory.write_dir(&path("d/empty"));
            config.debounce = Duration::from_millis(300);
        });
        assert_eq!(rig.read("d/a").unwrap(), b"base");
        here(&rig);
        there(&rig);
        if seen {
            rig.age();
            rig.names("d").unwrap();
        }
        rig.sync();
        rig.age();
        let names: Vec<_> = wanted.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(rig.share_files(), names, "seen before the upload: {seen}");
        for (name, text) in wanted {
            assert_eq!(rig.there(name).unwrap(), text.as_bytes(), "{name}, seen: {seen}");
            assert_eq!(rig.read(name).unwrap(), text.as_bytes(), "{name}, seen: {seen}");
        }
        assert_eq!(rig.conflicts().len(), conflicts, "seen: {seen}: {:?}", rig.conflicts());
    }
}

#[test]
fn edit_and_edit() {
    conflict(
        |rig| rig.save("d/a", b"mine").unwrap(),
        |rig| rig.memory.write_file(&path("d/a"), "theirs"),
        &[("d/a", "theirs"), ("d/a-here", "mine")],
        1,
    );
    conflict(
        |rig| rig.save("d/a", b"same").unwrap(),
        |rig| rig.memory.write_file(&path("d/a"), "same"),
        &[("d/a", "same")],
        0,
    );
}

#[test]
fn edit_and_delete() {
    conflict(
        |rig| rig.save("d/a", b"mine").unwrap(),
        |rig| assert!(rig.memory.remove_path(&path("d/a"))),
        &[("d/a", "mine")],
        0,
    );
    conflict(
        |rig| rig.save("d/a", b"mine").unwrap(),
        |rig| assert!(rig.memory.remove_path(&path("d"))),
        &[("d/a", "mine")],
        0,
    );
    conflict(
        |rig| rig.unlink("d/a").unwrap(),
        |rig| rig.memory.write_file(&path("d/a"), "theirs"),
        &[("d/a", "theirs")],
        0,
    );
}

#[test]
fn create_and_create() {
    conflict(
        |rig| rig.save("d/b", b"mine").unwrap(),
        |rig| rig.memory.write_file(&path("d/b"), "theirs"),
        &[("d/a", "base"), ("d/b", "theirs"), ("d/b-here", "mine")],
        1,
    );
    conflict(
        |rig| rig.save("d/b", b"same").unwrap(),
        |rig| rig.memory.write_file(&path("d/b"), "same"),
        &[("d/a", "base"), ("d/b", "same")],
        0,
    );
    conflict(
        |rig| {
            rig.mkdir("d/e").unwrap();
            rig.save("d/e/mine", b"mine").unwrap();
        },
        |rig| rig.memory.write_file(&path("d/e/theirs"), "theirs"),
        &[("d/a", "base"), ("d/e/mine", "mine"), ("d/e/theirs", "theirs")],
        0,
    );
    conflict(
        |rig| rig.save("d/e", b"mine").unwrap(),
        |rig| rig.memory.write_file(&path("d/e/theirs"), "theirs"),
        &[("d/a", "base"), ("d/e-here", "mine"), ("d/e/theirs", "theirs")],
        1,
    );
}

#[test]
fn rename_and_edit() {
    conflict(
        |rig| rig.mv("d/a", "d/b").unwrap(),
        |rig| rig.memory.write_file(&path("d/a"), "theirs"),
        &[("d/b", "theirs")],
        0,
    );
    conflict(
        |rig| rig.save("d/a", b"mine").unwrap(),
        |rig| assert!(rig.memory.move_path(&path("d/a"), &path("d/b"))),
        &[("d/a", "mine"), ("d/b", "base")],
        0,
    );
}

/// A directory that is removed here and filled there stays, with what is in it.
#[test]
fn rmdir_and_fill() {
    conflict(
        |rig| rig.rmdir("d/empty").unwrap(),
        |rig| rig.memory.write_file(&path("d/empty/theirs"), "theirs"),
        &[("d/a", "base"), ("d/empty/theirs", "theirs")],
        0,
    );
}

// ---- our own changes are not taken for somebody else's

/// rule S4: an upload arrives and its answer is lost; the file is removed and another made under
/// its name before anybody asks. There is no conflict with ourselves.
#[test]
fn a_lost_upload_is_no_conflict_for_the_next_file_of_its_name() {
    for link in [false, true] {
        let rig = Rig::new();
        rig.remote.inject(Rule::new("replace", Fault::After(RemoteKind::Timeout)).times(1));
        rig.save("a", b"first").unwrap();
        rig.until("it arrived", |rig| rig.there("a").is_some());
        rig.unlink("a").unwrap();
        if link { rig.symlink("a", b"target") } else { rig.save("a", b"second") }.unwrap();
        rig.sync();
        assert_eq!(rig.share_files(), ["a"], "link: {link}");
        assert_eq!(rig.there("a"), if link { None } else { Some(b"second".to_vec()) });
        assert_eq!(rig.conflicts(), []);
    }
}

/// rule X5: where names are exchanged, a rename over another file that is cut off in the middle
/// leaves the old file under the name that ours had. It goes when the outcome is found out.
#[test]
fn a_rename_cut_off_after_the_exchange_leaves_nothing() {
    let rig = Rig::with(|memory, _| {
        memory.write_file(&path("a"), "ours");
        memory.write_file(&path("b"), "old");
    });
    assert_eq!(rig.names("").unwrap(), ["a", "b"]);
    rig.remote.inject(Rule::new("rename", Fault::Before(RemoteKind::Timeout)).times(1));
    rig.mv("a", "b").unwrap();
    rig.until("the rename failed", |rig| rig.remote.requests("rename") > 0);
    for (from, to) in [("b", "t"), ("a", "b"), ("t", "a")] {
        assert!(rig.memory.move_path(&path(from), &path(to)));
    }
    rig.sync();
    assert_eq!(rig.share_files(), ["b"]);
    assert_eq!(rig.there("b").unwrap(), b"ours");
    assert_eq!(rig.names("").unwrap(), ["b"]);
    assert_eq!(rig.conflicts(), []);
}

/// rule X5: an upload leaves what it replaced under its temporary name. When that is not what was
/// seen there before, it is somebody's edit: it gets a name.
#[test]
fn an_upload_cut_off_after_the_exchange_removes_only_what_was_seen() {
    let rig = Rig::with(|memory, _| memory.write_file(&path("d/a.txt"), "old"));
    assert_eq!(rig.read("d/a.txt").unwrap(), b"old");
    rig.remote.inject(Rule::new("replace", Fault::After(RemoteKind::Timeout)).times(1));
    rig.edit("d/a.txt", 0, b"new bytes").unwrap();
    rig.until("the upload arrived", |rig| rig.there("d/a.txt") == Some(b"new bytes".to_vec()));
    rig.memory.write_file(&path(&format!("d/{}", temporary_name(&rig))), "edited there");
    rig.sync();
    let files = rig.share_files();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[0].starts_with("d/a-kept-") && files[0].ends_with(".txt"), "{files:?}");
    assert_eq!(rig.there(&files[0]).unwrap(), b"edited there");
    assert_eq!(rig.there("d/a.txt").unwrap(), b"new bytes");
}

/// The name of the last upload's temporary file, from the journal.
fn temporary_name(rig: &Rig) -> String {
    let journal = std::fs::read_dir(rig.config.cache_dir.join("journal")).unwrap();
    let mut found = None;
    for segment in journal {
        let bytes = std::fs::read(segment.unwrap().path()).unwrap();
        for start in (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b".~covefs-")) {
            let name = bytes[start..]
                .iter()
                .take_while(|b| b.is_ascii_alphanumeric() || b".~-".contains(b));
            found = Some(name.map(|byte| char::from(*byte)).collect());
        }
    }
    found.expect("an upload was begun")
}

/// rule S4: the same while the upload is still under way.
#[test]
fn an_upload_under_way_is_no_conflict_for_the_next_file_of_its_name() {
    let rig = Rig::new();
    let gate = Gate::new();
    let stall = Fault::Stall { bytes: 2, gate: gate.clone() };
    rig.remote.inject(Rule::new("replace", stall).times(1));
    rig.save("a", b"first").unwrap();
    rig.wait(gate.arrived(1));
    // It would come after the upload and before the removal.
    rig.remote.inject(Rule::new("symlink", Fault::Delay(Duration::from_millis(150))).times(1));
    rig.remote.inject(Rule::new("remove", Fault::Delay(Duration::from_millis(300))).times(1));
    rig.unlink("a").unwrap();
    rig.symlink("a", b"target").unwrap();
    rig.pause(Duration::from_millis(50));
    gate.open();
    rig.sync();
    assert_eq!(rig.share_files(), ["a"]);
    assert_eq!(rig.there("a"), None);
    assert_eq!(rig.conflicts(), []);
}

/// rule S4: an upload arrives, another file is renamed over it here, and the process is killed
/// before it knows of the upload. There is no conflict with ourselves.
#[test]
fn a_lost_upload_is_no_conflict_for_what_is_renamed_over_it() {
    for round in 0..8 {
        let mut rig = Rig::with(|memory, _| memory.write_file(&path("a"), "old"));
        assert_eq!(rig.read("a").unwrap(), b"old");
        rig.remote.inject(Rule::new("replace", Fault::Late(Duration::from_secs(60))).times(1));
        rig.edit("a", 0, b"first").unwrap();
        rig.until("it arrived", |rig| rig.there("a") == Some(b"first".to_vec()));
        rig.save("t", b"second").unwrap();
        rig.mv("t", "a").unwrap();
        // Found out at the first start, gone on with at the second.
        rig.config.debounce = Duration::from_secs(3600);
        for _ in 0..2 {
            rig.crash(Index::Deleted);
            rig.start();
        }
        rig.sync();
        assert_eq!(rig.share_files(), ["a"], "round {round}");
        assert_eq!(rig.there("a").unwrap(), b"second");
        assert_eq!(rig.conflicts(), []);
    }
}

/// rule S4: a directory or link is made on the share, the process is killed before it knows, and
/// what it was made for was removed or renamed meanwhile. Nothing of it stays or comes back.
#[test]
fn what_was_made_before_a_crash_does_not_come_back() {
    for (kind, then) in [("dir", "rm"), ("dir", "mv"), ("link", "rm"), ("link", "mv")] {
        let mut rig = Rig::with(|memory, _| memory.write_file(&path("d/other"), "x"));
        assert_eq!(rig.names("d").unwrap(), ["other"]);
        let op = if kind == "dir" { "create_dir" } else { "symlink" };
        rig.remote.inject(Rule::new(op, Fault::Late(Duration::from_secs(60))).times(1));
        if kind == "dir" { rig.mkdir("d/a") } else { rig.symlink("d/a", b"target") }.unwrap();
        rig.until("it was made", |rig| rig.memory.tree().contains_key(&path("d/a")));
        match (kind, then) {
            ("dir", "rm") => rig.rmdir("d/a"),
            (_, "rm") => rig.unlink("d/a"),
            _ => rig.mv("d/a", "d/b"),
        }
        .unwrap();
        rig.crash(Index::Deleted);
        rig.start();
        rig.sync();
        rig.age();
        let wanted: &[&str] = if then == "rm" { &["other"] } else { &["b", "other"] };
        assert_eq!(rig.names("d").unwrap(), wanted, "{kind} {then}");
        let there = rig.memory.tree();
        assert!(!there.contains_key(&path("d/a")), "{kind} {then}");
        assert_eq!(rig.conflicts(), [], "{kind} {then}");
    }
}

/// `mv a t; mkdir a; mv t a/old` in one debounce: the new directory waits for the name, the old
/// one for its new directory. And the same one level deeper.
#[test]
fn a_directory_moves_into_a_new_one_of_its_own_name() {
    for deeper in [false, true] {
        let mut rig = Rig::with(|memory, config| {
            memory.write_file(&path("a/sub/f"), "bytes");
            config.debounce = Duration::from_millis(200);
        });
        rig.names("a/sub").unwrap();
        rig.mv("a", "t").unwrap();
        rig.mkdir("a").unwrap();
        let wanted = if deeper {
            rig.mv("t/sub", "a/sub").unwrap();
            rig.mv("t", "a/sub/old").unwrap();
            "a/sub/f"
        } else {
            rig.mv("t", "a/old").unwrap();
            "a/old/sub/f"
        };
        rig.sync();
        assert_eq!(rig.share_files(), [wanted]);
        rig.crash(Index::Deleted);
        rig.start();
        assert_eq!(rig.read(wanted).unwrap(), b"bytes");
        assert_eq!(rig.names("").unwrap(), ["a"]);
    }
}

/// `mv d/sub t; rmdir d; mv t d` in one debounce: the directory waits for the name, and the one
/// that has it for its last child to go.
#[test]
fn a_directory_is_replaced_by_one_of_its_own() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("d/sub/f"), "bytes");
        config.debounce = Duration::from_millis(200);
    });
    rig.names("d/sub").unwrap();
    rig.mv("d/sub", "t").unwrap();
    rig.rmdir("d").unwrap();
    rig.mv("t", "d").unwrap();
    rig.sync();
    assert_eq!(rig.share_files(), ["d/f"]);
    assert_eq!(rig.read("d/f").unwrap(), b"bytes");
    assert_eq!(rig.names("").unwrap(), ["d"]);
}
