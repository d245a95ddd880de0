//! What every disk promises, and what the one in memory does when a test says so.

use super::*;

const PAGE: u64 = 4096;

/// Runs a check on the real disk (where this system has holes) and on the one in memory.
fn on_each(check: impl Fn(&dyn Disk)) {
    check(&MemoryDisk::new(1 << 30));
    let dir = tempfile::tempdir().unwrap();
    match suitable(dir.path()) {
        Ok(()) => check(&RealDisk::open(dir.path().join("cache")).unwrap()),
        Err(error) => {
            let text = error.to_string();
            let can = ["it is on ext4,", "it is on xfs,", "it is on btrfs,"];
            assert!(!can.iter().any(|name| text.contains(name)), "{text}");
            eprintln!("the real disk is not tested here: {text}");
        }
    }
}

/// The same, of holes: Wine's disk has none.
fn on_each_with_holes(check: impl Fn(&dyn Disk)) {
    on_each(|disk| match disk.abilities().holes {
        true => check(disk),
        false => eprintln!("NOT RUN: holes on the real disk: it makes none here"),
    });
}

fn read(file: &dyn DiskFile, range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![7; (range.end - range.start) as usize];
    let count = file.read_at(&mut bytes, range.start).unwrap();
    bytes.truncate(count);
    bytes
}

#[test]
fn bytes_come_back_and_end_with_the_file() {
    on_each(|disk| {
        let file = disk.open("data/ab/cd", true).unwrap();
        file.write_at(b"hello", 3).unwrap();
        assert_eq!(read(&*file, 0..100), b"\0\0\0hello");
        assert_eq!(read(&*file, 8..9), b"");
        file.set_len(5).unwrap();
        file.set_len(7).unwrap();
        assert_eq!(read(&*file, 0..9), b"\0\0\0he\0\0");
        assert_eq!(file.len().unwrap(), 7);
        file.sync_data().unwrap();
        disk.sync_dir("data/ab").unwrap();
        let together = disk.abilities().syncs_at_once;
        assert_eq!(disk.sync_all().is_ok(), together);
    });
}

#[test]
fn names_are_made_listed_renamed_and_removed() {
    on_each(|disk| {
        let missing = disk.open("data/ab/cd", false).err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.list("data", true).unwrap(), []);
        let file = disk.open("data/ab/cd", true).unwrap();
        file.write_at(&[1; 5000], 0).unwrap();
        file.sync_data().unwrap();
        disk.open("data/e", true).unwrap();
        let mut listed = disk.list("data", true).unwrap();
        listed.sort();
        let paths: Vec<_> = listed.iter().map(|file| (&*file.path, file.len)).collect();
        assert_eq!(paths, [("ab/cd", 5000), ("e", 0)]);
        assert_eq!(listed[0].allocated, 2 * PAGE);
        assert_eq!(disk.allocated("data/ab/cd").unwrap(), 2 * PAGE);
        assert_eq!(disk.allocated("data/x").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.list("data", false).unwrap().len(), 1);
        disk.rename("data/ab/cd", "recovered/cd").unwrap();
        assert!(!disk.exists("data/ab/cd").unwrap() && disk.exists("recovered/cd").unwrap());
        disk.remove("recovered/cd").unwrap();
        assert_eq!(disk.remove("recovered/cd").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read(&*file, 4998..9999), [1, 1], "a removed file lives while it is open");
    });
}

#[test]
fn holes_give_their_blocks_back_and_read_as_zeros() {
    on_each_with_holes(|disk| {
        let file = disk.open("f", true).unwrap();
        file.write_at(&[1; 64 << 10], 0).unwrap();
        file.sync_data().unwrap();
        file.punch(PAGE + 1..4 * PAGE + 1).unwrap();
        assert_eq!(file.allocated().unwrap(), 14 * PAGE);
        assert_eq!(file.len().unwrap(), 64 << 10);
        let data = file.data_ranges(0..1 << 30).unwrap();
        assert_eq!(data, [0..2 * PAGE, 4 * PAGE..64 << 10].into_iter().collect());
        assert_eq!(file.data_ranges(3 * PAGE..4 * PAGE + 9).unwrap().total(), 9);
        assert_eq!(read(&*file, PAGE..PAGE + 2), [1, 0]);
        assert_eq!(read(&*file, 4 * PAGE..4 * PAGE + 2), [0, 1]);
        assert!(read(&*file, 2 * PAGE..4 * PAGE).iter().all(|byte| *byte == 0));
    });
}

#[test]
fn reserved_blocks_are_allocated_holes() {
    on_each(|disk| {
        let file = disk.open("f", true).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.reserve(0..1 << 20).unwrap();
        file.sync_data().unwrap();
        assert_eq!((file.len().unwrap(), file.allocated().unwrap()), (1, 1 << 20));
        assert_eq!(file.data_ranges(0..1 << 20).unwrap(), (0..1).into());
        file.set_len(1).unwrap();
        assert_eq!(file.allocated().unwrap(), PAGE, "the end of a segment is given back so");
    });
}

#[test]
fn small_files_are_replaced_whole() {
    on_each(|disk| {
        disk.write_small("cache.json", b"long text").unwrap();
        disk.write_small("cache.json", b"short").unwrap();
        assert_eq!(disk.read_small("cache.json").unwrap(), b"short");
        assert_eq!(disk.list("", false).unwrap().len(), 1, "no temporary file stays");
        assert_eq!(disk.boot_id(), disk.boot_id());
        assert!(disk.space().unwrap().free <= disk.space().unwrap().total);
    });
}

#[test]
fn small_files_survive_every_crash() {
    for ops in 0..6 {
        for seed in 0..16 {
            let disk = MemoryDisk::new(u64::MAX);
            disk.write_small("f", b"old").unwrap();
            disk.kill_after_ops(ops);
            let done = disk.write_small("f", b"new!").is_ok();
            disk.power_loss(seed);
            let text = disk.read_small("f").unwrap();
            assert!(text == b"new!" || (text == b"old" && !done), "{ops} {seed} {text:?}");
        }
    }
}

#[test]
fn a_power_cut_takes_only_what_was_not_synced() {
    let mut fates = std::collections::HashSet::new();
    for seed in 0..64 {
        let disk = MemoryDisk::new(u64::MAX);
        let file = disk.open("d/f", true).unwrap();
        file.write_at(&[1; 3 * PAGE as usize], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir("d").unwrap();
        file.write_at(&[2; PAGE as usize], PAGE).unwrap();
        disk.open("d/g", true).unwrap();
        let boot = disk.boot_id();
        disk.power_loss(seed);
        assert_ne!(disk.boot_id(), boot);
        assert!(file.len().is_err(), "old handles are dead");
        let file = disk.open("d/f", false).unwrap();
        let kept = read(&*file, 0..3 * PAGE);
        assert_eq!((kept[0], kept[2 * PAGE as usize]), (1, 1));
        fates.insert((kept[PAGE as usize], disk.exists("d/g").unwrap()));
    }
    assert_eq!(fates.len(), 4, "each page and name has its own fate");
}

#[test]
fn a_failed_sync_loses_its_bytes_for_good() {
    for seed in 0..16 {
        let disk = MemoryDisk::new(u64::MAX);
        let file = disk.open("f", true).unwrap();
        file.write_at(&[1], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir("").unwrap();
        file.write_at(&[2], 0).unwrap();
        disk.fail_next(DiskOp::SyncData, io::ErrorKind::Other);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        disk.power_loss(seed);
        assert_eq!(read(&*disk.open("f", false).unwrap(), 0..9), [1]);
    }
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = MemoryDisk::new(4 * PAGE);
    let file = disk.open("f", true).unwrap();
    file.reserve(0..2 * PAGE).unwrap();
    assert_eq!(file.reserve(0..5 * PAGE).unwrap_err().kind(), io::ErrorKind::StorageFull);
    let error = file.write_at(&[1; 6 * PAGE as usize], 0).unwrap_err();
    assert_eq!((error.kind(), file.len().unwrap()), (io::ErrorKind::StorageFull, 4 * PAGE));
    drop(file);
    disk.remove("f").unwrap();
    assert_eq!(disk.space().unwrap().free, 4 * PAGE);
}

#[test]
fn a_killed_process_writes_a_part_and_nothing_more() {
    let disk = MemoryDisk::new(u64::MAX);
    let file = disk.open("f", true).unwrap();
    disk.kill_after_bytes(3);
    file.write_at(b"ab", 0).unwrap();
    file.write_at(b"cd", 2).unwrap_err();
    file.write_at(b"ef", 4).unwrap_err();
    assert!(disk.is_killed() && disk.open("f", false).is_err());
    disk.crash();
    assert_eq!(disk.read_small("f").unwrap(), b"abc");
}

#[test]
fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(DirLock::holder(dir.path()).unwrap(), None);
    let take = || DirLock::take(dir.path(), std::path::Path::new("/mnt/a")).unwrap();
    let Locked::Ours(lock) = take() else { panic!("nobody has it") };
    let Locked::Held(holder) = take() else { panic!("it is taken") };
    let text = format!("in use by process {}, mounted at /mnt/a", std::process::id());
    assert_eq!(holder.to_string(), text);
    assert_eq!(DirLock::holder(dir.path()).unwrap(), Some(holder));
    drop(lock);
    assert_eq!(DirLock::holder(dir.path()).unwrap(), None);
    assert!(matches!(take(), Locked::Ours(_)));
}

#[cfg(unix)]
#[test]
fn memory_and_network_are_refused_by_name() {
    let shm = std::path::Path::new("/dev/shm");
    match suitable(shm) {
        Err(error) if error.to_string().contains("tmpfs") => {
            assert!(error.to_string().contains("--cache-dir"), "{error}");
        }
        other => eprintln!("no tmpfs at /dev/shm here, so nothing to refuse: {other:?}"),
    }
}
