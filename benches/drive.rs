//! A drive over a `dir:` share beside a plain directory of the same disk, in one run: what each
//! step took, and the ratio. Numbers of a busy machine differ by half; ratios less.
//!
//! `cargo bench --bench drive`; `COVEFS_BENCH_FILES=200000` for the restart, `COVEFS_BENCH_MIB=256`.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;
mod measure;

use common::{Drive, Random, env_number};
use measure::{median, read_file, show_each, show_rate, write_file};
use rustix::fs::Advice;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SMALL_FILES: usize = 2000;
const RANDOM_READS: usize = 20_000;

fn main() {
    // `cargo test --benches` only wants to know that it can run.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let bytes = env_number("COVEFS_BENCH_MIB", 256) << 20;
    let mut drive = Drive::new("bench", &["--cache-size", "2GiB"]);
    let plain = drive.scratch("plain");
    let mut random = Random::new(1);
    let block = random.bytes(1 << 20);
    for dir in [&plain, &drive.share] {
        write_file(&dir.join("big"), bytes, &block);
    }
    drive.start();
    println!("{:<44} {:>10} {:>10} {:>7}", "", "plain", "drive", "ratio");
    let mnt = drive.mnt.clone();
    let cold = Instant::now();
    read_file(&mnt.join("big"));
    let native = median(|| {
        forget(&plain.join("big"));
        read_file(&plain.join("big"))
    });
    show_rate("read, cold (from the share)", bytes, native, cold.elapsed());
    compare("read, hot, kernel pages dropped", bytes, [&plain, &mnt], |dir| {
        forget(&dir.join("big"));
        read_file(&dir.join("big"))
    });
    compare("read, hot, again", bytes, [&plain, &mnt], |dir| read_file(&dir.join("big")));
    compare_each("read of 4 KiB at random, hot, dropped", RANDOM_READS, [&plain, &mnt], |dir| {
        forget(&dir.join("big"));
        read_randomly(&dir.join("big"), bytes)
    });
    compare("write, 1 MiB each", bytes, [&plain, &mnt], |dir| {
        write_file(&dir.join("new"), bytes, &block);
    });
    compare("write, 4 KiB each", bytes / 8, [&plain, &mnt], |dir| {
        write_file(&dir.join("new"), bytes / 8, &block[..4096]);
    });
    compare_each("new file of 100 bytes", SMALL_FILES, [&plain, &mnt], |dir| {
        let _ = fs::remove_dir_all(dir.join("small"));
        fs::create_dir(dir.join("small")).unwrap();
        for number in 0..SMALL_FILES {
            fs::write(dir.join(format!("small/{number}")), &block[..100]).unwrap();
        }
    });
    drive.sync();
    compare_each("file listed and looked at (ls -l)", SMALL_FILES, [&plain, &mnt], |dir| {
        for entry in fs::read_dir(dir.join("small")).unwrap() {
            entry.unwrap().metadata().unwrap();
        }
    });
    compare_each("file read whole, 100 bytes", SMALL_FILES, [&plain, &mnt], |dir| {
        (0..SMALL_FILES).map(|n| read_file(&dir.join(format!("small/{n}")))).sum::<u64>()
    });
    compare_each("write and fsync, 4 KiB", 200, [&plain, &mnt], |dir| {
        let file = File::create(dir.join("synced")).unwrap();
        for at in 0..200 {
            file.write_all_at(&block[..4096], at * 4096).unwrap();
            file.sync_all().unwrap();
        }
    });
    drive.drain_and_wipe();
    restart(&mut drive);
}

/// A start with many known files: from the command to a mount that answers, and its memory.
fn restart(drive: &mut Drive) {
    let files = env_number("COVEFS_BENCH_FILES", 20_000);
    for dir in 0..files.div_ceil(2000) {
        let dir = drive.share.join(format!("many/{dir}"));
        fs::create_dir_all(&dir).unwrap();
        (0..2000.min(files)).for_each(|n| drop(File::create(dir.join(n.to_string())).unwrap()));
    }
    drive.start();
    let begin = Instant::now();
    common::succeed(Command::new("find").arg(&drive.mnt), Duration::from_secs(600));
    println!("first listing of {files} files: {:.1?}, {}", begin.elapsed(), memory(drive));
    drive.unmount();
    let begin = Instant::now();
    drive.start();
    println!("restart with {files} known files: {:.1?}, {}", begin.elapsed(), memory(drive));
    drive.unmount();
}

fn memory(drive: &Drive) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", drive.pid())).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<u64>().unwrap() / 1024
    };
    format!("{} MiB of memory, {} MiB at most", line("VmRSS"), line("VmHWM"))
}

fn read_randomly(path: &Path, bytes: u64) {
    let (file, mut random) = (File::open(path).unwrap(), Random::new(7));
    let mut buffer = [0; 4096];
    for _ in 0..RANDOM_READS {
        file.read_exact_at(&mut buffer, random.below(bytes / 4096) * 4096).unwrap();
    }
}

/// The kernel drops its pages of a file. The drive's own data file keeps its pages.
fn forget(path: &Path) {
    rustix::fs::fadvise(File::open(path).unwrap(), 0, None, Advice::DontNeed).unwrap();
}

fn compare<T>(what: &str, bytes: u64, dirs: [&Path; 2], step: impl Fn(&Path) -> T) {
    let [plain, drive] = dirs.map(|dir| median(|| step(dir)));
    show_rate(what, bytes, plain, drive);
}

fn compare_each<T>(what: &str, count: usize, dirs: [&Path; 2], step: impl Fn(&Path) -> T) {
    let [plain, drive] = dirs.map(|dir| median(|| step(dir)));
    show_each(what, count, plain, drive);
}
