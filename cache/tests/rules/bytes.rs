//! Bytes written here survive, and the limit holds.

use super::*;

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
        same(&rig.read_in("a"), &wanted);
        if crash {
            // The index learns of it.
            rig.stop();
            rig.start();
        }
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

/// A pin of more than the cache holds is refused, in words that say what to do.
#[test]
fn a_pin_that_cannot_be_kept_is_refused() {
    let rig = Rig::with(|memory, config| {
        config.limit_bytes = 64 << 20;
        memory.write_file(&path("d/half"), pattern(1, 40 << 20));
        memory.write_file(&path("other"), pattern(2, 40 << 20));
    });
    rig.wait(rig.vfs().pin(&path("d"))).unwrap();
    // A pin within a pin takes nothing more.
    rig.wait(rig.vfs().pin(&path("d/half"))).unwrap();
    let refused = rig.wait(rig.vfs().pin(&path("other"))).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Refused);
    let words = refused.source.unwrap().to_string();
    assert!(words.contains("80 MiB") && words.contains("covefs unpin"), "{words}");
    rig.wait(rig.vfs().unpin(&path("d"))).unwrap();
    rig.wait(rig.vfs().hydrate(&path("d/half"), &|_| ())).unwrap();
    for _ in 0..2 {
        same(&rig.read("other").unwrap(), &pattern(2, 40 << 20));
    }
    assert!(rig.is_here("d/half"), "the inner pin still holds");
    rig.wait(rig.vfs().unpin(&path("d/half"))).unwrap();
    rig.wait(rig.vfs().pin(&path("other"))).unwrap();
}

/// A file read from one end to the other is fetched once, also where none of it can be kept.
#[test]
fn a_reader_without_room_fetches_what_it_reads() {
    const SIZE: usize = 128 << 20;
    let rig = Rig::with(|memory, config| {
        config.limit_bytes = 64 << 20;
        memory.write_file(&path("pinned"), pattern(1, 61 << 20));
        memory.write_file(&path("cold"), pattern(2, SIZE));
    });
    rig.wait(rig.vfs().pin(&path("pinned"))).unwrap();
    // Its last bytes may not fit.
    let _ = rig.wait(rig.vfs().hydrate(&path("pinned"), &|_| ()));
    let fetched = || rig.vfs().status().reads.fetched_bytes;
    let before = fetched();
    let fh = rig.open("cold", READ).unwrap();
    let expected = pattern(2, SIZE);
    for at in (0..SIZE).step_by(128 << 10) {
        same(&rig.read_at(fh, at as u64, 128 << 10).unwrap(), &expected[at..at + (128 << 10)]);
    }
    rig.close(fh);
    let times = (fetched() - before) as f64 / SIZE as f64;
    eprintln!("{times:.2}");
    // 1.1 to 1.55 on a machine with more to do; 1.9 and more when the window did not shrink.
    assert!(times < 1.8, "{times:.2} bytes for each byte read");
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
        config.max_age = Some(Duration::from_secs(6));
        config.freshness = Duration::from_secs(3600);
        ["used", "unused", "edited"].iter().for_each(|at| {
            memory.write_file(&path(at), pattern(1, 300_000));
        });
    });
    for at in ["used", "unused", "edited"] {
        assert_eq!(rig.read_in(at).len(), 300_000);
    }
    rig.remote.offline(true);
    rig.edit("edited", 7, b"mine").unwrap();
    rig.pause(Duration::from_millis(2500));
    rig.stop();
    rig.start();
    rig.until("what nobody uses has gone", |rig| {
        assert_eq!(rig.read("used").unwrap().len(), 300_000);
        !rig.is_here("unused")
    });
    rig.pause(Duration::from_millis(2500));
    assert!(rig.is_here("used"));
    assert_eq!(&rig.read("edited").unwrap()[7..11], b"mine");
    rig.remote.offline(false);
    rig.sync();
    same(&rig.read("unused").unwrap(), &pattern(1, 300_000));
}

/// rules X3, J5: of a big file only what changed goes over the line, where the share has the rest as we know it.
#[test]
fn what_did_not_change_is_not_sent_again() {
    const SIZE: usize = 12 << 20;
    let mut expected = pattern(1, SIZE);
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("f"), expected.clone());
        config.debounce = Duration::from_secs(3600);
    });
    let sent = |rig: &Rig, expected: &[u8], most: u64| {
        let before = rig.remote.bytes_written();
        rig.sync();
        same(&rig.there("f").unwrap(), expected);
        let sent = rig.remote.bytes_written() - before;
        assert!((1..=most).contains(&sent), "{sent}");
    };
    rig.edit("f", 5 << 20, &[7; 10]).unwrap();
    expected[5 << 20..(5 << 20) + 10].fill(7);
    sent(&rig, &expected, 1 << 20);
    // Cut and grown again: what lies past the cut is zeros, not what the share has there.
    rig.resize("f", (3 << 20) + 100).unwrap();
    rig.resize("f", 9 << 20).unwrap();
    rig.edit("f", 8 << 20, &[8; 10]).unwrap();
    expected.truncate((3 << 20) + 100);
    expected.resize(9 << 20, 0);
    expected[8 << 20..(8 << 20) + 10].fill(8);
    sent(&rig, &expected, 2 << 20);
    // A hole of ours.
    rig.allocate("f", 1 << 20, 100_000, Allocate::Punch).unwrap();
    rig.edit("f", 0, b"x").unwrap();
    expected[1 << 20..(1 << 20) + 100_000].fill(0);
    expected[0] = b'x';
    sent(&rig, &expected, 2 << 20);
    let report = rig.wait(rig.vfs().scrub(&|_| ())).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert!(rig.evict("f") > 0);
    same(&rig.read("f").unwrap(), &expected);
}

/// rule S1: what is written while the rest is taken from the share is sent too.
#[test]
fn what_changes_during_an_upload_is_sent_though_it_was_the_shares_before() {
    const SIZE: usize = 12 << 20;
    let mut expected = pattern(1, SIZE);
    let rig = Rig::with(|memory, _| {
        memory.write_file(&path("f"), expected.clone());
    });
    let gate = Gate::new();
    rig.remote.inject(Rule::new("replace", Fault::Stall { bytes: 1, gate: gate.clone() }));
    rig.edit("f", 5 << 20, &[7; 10]).unwrap();
    rig.until("the upload is under way", |rig| rig.remote.faults() > 0);
    rig.edit("f", 100, &[9; 10]).unwrap();
    rig.resize("f", (11 << 20) + 1).unwrap();
    expected[5 << 20..(5 << 20) + 10].fill(7);
    expected[100..110].fill(9);
    expected.truncate((11 << 20) + 1);
    gate.open();
    rig.remote.heal();
    rig.sync();
    same(&rig.there("f").unwrap(), &expected);
    same(&rig.read("f").unwrap(), &expected);
}

// Systems allow a process 1024 descriptors or less, and a file that just changed is not settled yet.
#[cfg(target_os = "linux")]
#[test]
fn a_burst_of_new_files_holds_few_descriptors() {
    const FILES: usize = 500;
    let rig = Rig::with(|_, config| config.debounce = Duration::from_secs(3600));
    for number in 0..FILES {
        rig.save(&number.to_string(), &pattern(number as u64, 100)).unwrap();
    }
    let ours = rig.config.cache_dir.join("data");
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let open = open.filter(|target| target.starts_with(&ours)).count();
    assert!(open < 300, "{open} of {FILES} are held open");
    rig.sync();
    for number in 0..FILES {
        let expected = pattern(number as u64, 100);
        same(&rig.there(&number.to_string()).unwrap(), &expected);
    }
}
