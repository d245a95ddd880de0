//! The cache's limit is hard: allocated bytes are sampled while writers and readers push against
//! it (DESIGN.md 9.5; rules E1, E2), and one scan does not flush a working set (rule E3).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Drive, Random, env_number, first_difference, pattern};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 256 * MIB;
const EXTENT: u64 = 4 * MIB;
const WRITERS: u64 = 16;
const READERS: u64 = 16;
const SAMPLE: Duration = Duration::from_millis(50);
/// Each file of the readers' set and of the writers' output; both sets are 1.5 times the limit.
const FILE: usize = 8 << 20;
const FILES_EACH: u64 = 3;

/// Allocated bytes of what the limit counts (E2). Files come and go meanwhile.
fn allocated(cache: &Path) -> u64 {
    let mut sum = 0;
    let mut dirs = vec![cache.join("data"), cache.join("journal")];
    while let Some(dir) = dirs.pop() {
        let Ok(list) = fs::read_dir(dir) else { continue };
        for entry in list.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            sum += metadata.blocks() * 512;
            if metadata.is_dir() {
                sum -= metadata.blocks() * 512;
                dirs.push(entry.path());
            }
        }
    }
    sum
}

/// Samples until the sender is dropped; the highest sum and the number of samples.
fn sample(cache: PathBuf, end: mpsc::Receiver<()>) -> (u64, u64) {
    let (mut peak, mut count) = (0, 0);
    loop {
        peak = peak.max(allocated(&cache));
        count += 1;
        if end.recv_timeout(SAMPLE) != Err(RecvTimeoutError::Timeout) {
            return (peak, count);
        }
    }
}

fn write_files(mnt: &Path, writer: u64, seed: u64) {
    let mut random = Random::new(seed ^ writer);
    for number in 0..FILES_EACH {
        let name = format!("written-{writer}-{number}");
        let bytes = pattern(seed ^ (writer << 8) ^ number, FILE);
        let mut file = File::create(mnt.join(&name)).unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let len = random.between(1, 300 << 10).min(rest.len() as u64) as usize;
            file.write_all(&rest[..len]).unwrap_or_else(|error| panic!("write {name}: {error}"));
            rest = &rest[len..];
        }
    }
}

fn read_files(mnt: &Path, seed: u64, writing: &AtomicBool, reader: u64) {
    let mut random = Random::new(seed ^ (reader << 32));
    let mut buffer = vec![0; 256 << 10];
    while writing.load(Ordering::SeqCst) {
        let number = random.below(READERS * FILES_EACH);
        let expected = pattern(seed ^ (number << 20), FILE);
        let file = File::open(mnt.join(format!("cold-{number}"))).unwrap();
        for _ in 0..8 {
            let offset = random.below((FILE - buffer.len()) as u64);
            file.read_exact_at(&mut buffer, offset).unwrap();
            let start = offset as usize;
            let wrong = first_difference(&expected[start..start + buffer.len()], &buffer);
            assert_eq!(wrong, None, "cold-{number} from offset {offset}");
        }
    }
}

// rules E1, E2
#[test]
fn allocated_bytes_stay_below_the_limit() {
    let seed = common::seed("limit");
    let mut drive = Drive::new("limit", &["--cache-size", "256MiB"]);
    for number in 0..READERS * FILES_EACH {
        let bytes = pattern(seed ^ (number << 20), FILE);
        fs::write(drive.share.join(format!("cold-{number}")), bytes).unwrap();
    }
    drive.start();
    let (end, ended) = mpsc::channel();
    let writing = AtomicBool::new(true);
    let (mnt, cache) = (&drive.mnt, drive.cache.clone());
    let (peak, samples) = std::thread::scope(|scope| {
        let sampler = scope.spawn(move || sample(cache, ended));
        let writing = &writing;
        let readers: Vec<_> = (0..READERS)
            .map(|reader| scope.spawn(move || read_files(mnt, seed, writing, reader)))
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || write_files(mnt, writer, seed)))
            .collect();
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        writing.store(false, Ordering::SeqCst);
        let read: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        drop(end);
        let sampled = sampler.join().unwrap();
        written.into_iter().chain(read).for_each(|ended| ended.unwrap());
        sampled
    });
    println!("peak {} MiB of {} MiB in {samples} samples", peak / MIB, LIMIT / MIB);
    assert!(peak <= LIMIT + WRITERS * EXTENT, "{peak} bytes allocated, the limit is {LIMIT}");
    assert!(peak > LIMIT / 2, "the limit was never pressed: {peak}");
    drive.drain_and_wipe();
    for (writer, number) in (0..WRITERS).flat_map(|w| (0..FILES_EACH).map(move |n| (w, n))) {
        let name = format!("written-{writer}-{number}");
        let expected = pattern(seed ^ (writer << 8) ^ number, FILE);
        let found = fs::read(drive.share.join(&name)).unwrap();
        assert_eq!(first_difference(&expected, &found), None, "{name} on the share");
    }
}

fn read_whole(path: &Path) {
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 128 << 10];
    while file.read(&mut buffer).unwrap() > 0 {}
}

// rules E3 and R4: st_blocks says how much of a file is local.
#[test]
fn a_working_set_survives_a_scan() {
    const SIZE: usize = 4 << 20;
    const LIMIT: u64 = 128 * MIB;
    let set = LIMIT / 2 / SIZE as u64;
    let scan = LIMIT * 2 / SIZE as u64;
    let mut drive = Drive::new("scan", &["--cache-size", "128MiB"]);
    for number in 0..set {
        fs::write(drive.share.join(format!("set-{number}")), pattern(number, SIZE)).unwrap();
    }
    for number in 0..scan {
        fs::write(drive.share.join(format!("scan-{number}")), pattern(!number, SIZE)).unwrap();
    }
    drive.start();
    let local = |start: &str, count: u64| -> u64 {
        let blocks = (0..count).map(|number| {
            let path = drive.mnt.join(format!("{start}-{number}"));
            (fs::metadata(path).unwrap().blocks() * 512).min(SIZE as u64)
        });
        blocks.sum()
    };
    for _ in 0..2 {
        (0..set).for_each(|number| read_whole(&drive.mnt.join(format!("set-{number}"))));
    }
    let before = local("set", set);
    assert!(before >= set * SIZE as u64 * 99 / 100, "only {before} bytes local after two reads");
    (0..scan).for_each(|number| read_whole(&drive.mnt.join(format!("scan-{number}"))));
    let after = local("set", set);
    let of_scan = local("scan", scan);
    println!("set: {after} bytes of {before} local; scan: {of_scan}");
    assert!(after >= set * SIZE as u64 * 90 / 100, "the scan left only {after} bytes of the set");
    assert!(after + of_scan <= LIMIT, "more is local than fits: {after} and {of_scan}");
}

/// So many descriptors, and MiB of memory, the drive's process has.
fn held(drive: &Drive) -> (usize, u64) {
    let process = PathBuf::from(format!("/proc/{}", drive.pid()));
    let status = fs::read_to_string(process.join("status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = memory.trim().trim_end_matches(" kB").parse().unwrap();
    (fs::read_dir(process.join("fd")).unwrap().count(), kib >> 10)
}

/// Opening and closing for hours takes nothing for good, and a thousand open files are no trouble.
#[test]
fn opened_files_are_let_go() {
    let mut drive = Drive::new("opened", &[]);
    for number in 0..1000 {
        fs::write(drive.share.join(number.to_string()), number.to_string()).unwrap();
    }
    drive.start();
    let at = |number: u64| drive.mnt.join((number % 1000).to_string());
    let cycles = env_number("COVEFS_OPEN_CYCLES", 20_000);
    let mut before = (0, 0);
    for number in 0..cycles {
        assert_eq!(fs::read(at(number)).unwrap(), (number % 1000).to_string().as_bytes());
        if number == cycles / 10 {
            before = held(&drive);
        }
    }
    let open: Vec<_> = (0..1000).map(|number| fs::File::open(at(number)).unwrap()).collect();
    assert_eq!(fs::read(at(7)).unwrap(), b"7");
    drop(open);
    // What changed lately is looked after for a while.
    common::until("descriptors are closed", Duration::from_secs(60), || {
        held(&drive).0 <= before.0 + 50
    });
    let after = held(&drive);
    println!("{cycles} times opened and closed: {before:?}, then {after:?} descriptors and MiB");
    assert!(after.1 <= before.1 + 24, "memory grew from {} to {} MiB", before.1, after.1);
    drive.unmount();
}
