//! What happens to machines: a full disk, a clock that jumps, a process that stands still, a cache that
//! comes back from a backup. Nothing that was acknowledged is lost, nothing newer is overwritten.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Drive, is_root, pattern, read_tree, run, same_trees, succeed, until, within};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const PROGRAM: Duration = Duration::from_secs(60);
/// The drives here run with --freshness 1s; a slow machine gets the rest.
const FRESH: Duration = Duration::from_secs(15);

fn not_run(why: &str) {
    // Past the capture of the test runner: test.sh collects it.
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {why}");
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    succeed(cp.args(["-a", "--sparse=always"]).arg(from).arg(to), PROGRAM);
}

/// rules S1, S5: a cache directory is put back from a backup, older than what the same site has
/// uploaded since. Its edits are as good as anybody's, and overwrite nothing that they had not seen.
#[test]
fn a_cache_from_a_backup_overwrites_nothing() {
    let mut drive = Drive::mounted("backup", &["--debounce", "1h"]);
    drive.allow("conflict");
    for name in ["edited", "removed", "kept"] {
        fs::write(drive.mnt.join(name), b"first").unwrap();
    }
    drive.sync();
    fs::write(drive.mnt.join("edited"), b"only in the backup").unwrap();
    drive.unmount_dirty();
    let backup = drive.scratch("backup").join("cache");
    copy(&drive.cache, &backup);
    drive.start();
    fs::write(drive.mnt.join("edited"), b"newer than the backup").unwrap();
    fs::write(drive.mnt.join("made"), b"newer than the backup").unwrap();
    fs::remove_file(drive.mnt.join("removed")).unwrap();
    drive.sync();
    drive.unmount();
    fs::remove_dir_all(&drive.cache).unwrap();
    fs::rename(&backup, &drive.cache).unwrap();
    drive.start();
    drive.sync();
    let there = |name: &str| fs::read(drive.share.join(name)).ok();
    assert_eq!(there("edited").unwrap(), b"newer than the backup");
    assert_eq!(there("made").unwrap(), b"newer than the backup");
    assert_eq!(there("kept").unwrap(), b"first");
    assert_eq!(there("removed"), None);
    assert_eq!(there("edited-testsite").unwrap(), b"only in the backup");
    until("both show the same", FRESH, || {
        run(Command::new("ls").arg("-l").arg(&drive.mnt), PROGRAM);
        read_tree(&drive.mnt).len() == read_tree(&drive.share).len()
    });
    same_trees("the drive", &read_tree(&drive.share), &read_tree(&drive.mnt));
    drive.drain_and_wipe();
}

/// Two processes with one cache directory, each a copy of the other: as two sites.
#[test]
fn a_copied_cache_is_another_site() {
    let mut drive = Drive::mounted("copied", &["--debounce", "200ms"]);
    drive.allow("conflict");
    fs::write(drive.mnt.join("common"), b"first").unwrap();
    drive.drain_and_keep();
    let mut other = drive.beside("copy", &["--debounce", "200ms"]);
    other.allow("conflict");
    fs::remove_dir_all(&other.cache).unwrap();
    copy(&drive.cache, &other.cache);
    drive.start();
    other.start();
    for round in 0..20 {
        for (site, name) in [(&drive, "a"), (&other, "b")] {
            fs::write(site.mnt.join(format!("{name}-{round}")), pattern(round, 3000)).unwrap();
        }
    }
    drive.sync();
    other.sync();
    for round in 0..20 {
        for name in ["a", "b"] {
            let there = fs::read(drive.share.join(format!("{name}-{round}"))).unwrap();
            assert_eq!(there, pattern(round, 3000), "{name}-{round}");
        }
    }
    drive.drain_and_wipe();
    other.drain_and_wipe();
}

/// rule D1: a bad disk changes bytes of the cache. A mounted drive finds them and fetches them again,
/// while it is read and written to; an unmounted cache is mended by `check --repair`.
#[test]
fn bytes_that_rot_are_noticed_and_fetched_again() {
    let mut drive = Drive::mounted("rotten", &["--debounce", "200ms"]);
    drive.allow("is not what was stored");
    let (theirs, ours) = (pattern(1, 6_000_000), pattern(2, 700_000));
    fs::write(drive.share.join("theirs"), &theirs).unwrap();
    until("their file shows", FRESH, || drive.mnt.join("theirs").exists());
    assert_eq!(fs::read(drive.mnt.join("theirs")).unwrap(), theirs);
    fs::write(drive.mnt.join("ours"), &ours).unwrap();
    drive.sync();
    let rot = |cache: &Path| {
        for (len, at) in [(theirs.len(), 5_000_000), (ours.len(), 650_000)] {
            let mut dirs = read_files(&cache.join("data"));
            dirs.retain(|file| fs::metadata(file).unwrap().len() == len as u64);
            let file = fs::File::options().read(true).write(true).open(&dirs[0]).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[!byte[0]], at).unwrap();
        }
    };
    rot(&drive.cache);
    let writer = std::thread::spawn({
        let dir = drive.mnt.clone();
        move || {
            for round in 0..50 {
                fs::write(dir.join(format!("new-{}", round % 5)), pattern(round, 200_000)).unwrap();
            }
        }
    });
    let said = drive.covefs("check", &["--scrub"]);
    assert!(said.contains("2 problems found, 2 repaired"), "{said}");
    writer.join().unwrap();
    assert_eq!(fs::read(drive.mnt.join("theirs")).unwrap(), theirs);
    assert_eq!(fs::read(drive.mnt.join("ours")).unwrap(), ours);
    drive.sync();
    let said = drive.covefs("check", &["--scrub"]);
    assert!(said.contains("7 files looked at") && said.contains("0 problems found"), "{said}");
    drive.unmount();

    rot(&drive.cache);
    let check = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_covefs"));
        run(command.arg("check").arg(&drive.cache).args(args), PROGRAM)
    };
    assert_eq!(check(&[]).status.code(), Some(1));
    assert_eq!(check(&["--repair"]).status.code(), Some(0));
    drive.start();
    assert_eq!(fs::read(drive.mnt.join("theirs")).unwrap(), theirs);
    assert_eq!(fs::read(drive.mnt.join("ours")).unwrap(), ours);
    drive.drain_and_wipe();
}

/// All files below a directory.
fn read_files(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files
}

/// The clock goes back two days, and a month ahead, under a drive in use.
#[test]
fn a_clock_that_jumps_loses_nothing() {
    let preload =
        format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    if !Path::new(&preload).exists() {
        return not_run("no libfaketime");
    }
    let mut drive = Drive::new("clock", &["--debounce", "200ms"]);
    let clock = drive.scratch("clock").join("offset");
    let set = |offset: &str| fs::write(&clock, format!("{offset}\n")).unwrap();
    set("+0d");
    drive.set_variables(&[
        ("LD_PRELOAD", &preload),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]);
    drive.start();
    let mut content = Vec::new();
    for (round, days) in [0, -2, 30, 0, -3650, 0].into_iter().enumerate() {
        set(&format!("{days:+}d"));
        content = pattern(round as u64, 20_000 + round);
        fs::write(drive.mnt.join("ours"), &content).unwrap();
        let new = drive.mnt.join(format!("new-{round}"));
        fs::write(&new, &content).unwrap();
        let shown = fs::metadata(&new).unwrap().mtime() - now();
        assert!((shown - days * 86_400).abs() < 3600, "the clock did not jump: {shown} s");
        fs::write(drive.share.join("theirs"), &content).unwrap();
        until("their edit shows", FRESH, || {
            fs::read(drive.mnt.join("theirs")).is_ok_and(|found| found == content)
        });
        drive.sync();
        assert_eq!(fs::read(drive.share.join("ours")).unwrap(), content, "{days} days");
    }
    assert_eq!(drive.covefs("conflicts", &[]).lines().count(), 1, "there are none");
    drive.make_cold();
    assert_eq!(fs::read(drive.mnt.join("ours")).unwrap(), content);
    drive.drain_and_wipe();
}

/// The machine sleeps: the process stands still in the middle of its work, and goes on.
#[test]
fn a_process_that_stood_still_goes_on() {
    let mut drive = Drive::mounted("sleep", &["--debounce", "200ms"]);
    for round in 0..5 {
        for number in 0..40 {
            let name = format!("{round}-{number}");
            fs::write(drive.mnt.join(name), pattern(number, 30_000)).unwrap();
        }
        let pid = Pid::from_raw(drive.pid() as i32).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        let path = drive.mnt.join(format!("{round}-0"));
        let reader = std::thread::spawn(move || fs::metadata(path).map(|found| found.len()));
        // What others do meanwhile.
        fs::write(drive.share.join(format!("theirs-{round}")), b"meanwhile").unwrap();
        kill_process(pid, Signal::CONT).unwrap();
        assert_eq!(within("stat", PROGRAM, || reader.join().unwrap()).unwrap(), 30_000);
        until("their edit shows", FRESH, || drive.mnt.join(format!("theirs-{round}")).exists());
    }
    drive.sync();
    same_trees("the drive", &read_tree(&drive.share), &read_tree(&drive.mnt));
    drive.drain_and_wipe();
}

/// A small file system of the test's own for the cache, mounted from a file.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(drive: &Drive, mib: u64) -> Option<SmallDisk> {
        if !is_root() || !Path::new("/dev/loop-control").exists() {
            not_run("a file system is mounted from a file as root only");
            return None;
        }
        let image = drive.scratch("disk").join("image");
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        succeed(Command::new("mkfs.ext4").arg("-q").arg(&image), PROGRAM);
        let mut mount = Command::new("mount");
        succeed(mount.args(["-o", "loop"]).arg(&image).arg(&drive.cache), PROGRAM);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&drive.cache, mode).unwrap();
        Some(SmallDisk(drive.cache.clone()))
    }

    /// Takes all that is free.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut filler = fs::File::create(&path).unwrap();
        for size in [1 << 20, 4096] {
            while filler.write_all(&vec![1; size]).is_ok() {}
            // What was not on the disk yet has its blocks now or never.
            let _ = filler.sync_all();
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        common::detach(&self.0);
    }
}

/// rule J9: somebody else fills the disk that the cache lies on. Writers are told, names can still be
/// changed, and with room again all goes on.
#[test]
fn a_full_disk_loses_nothing() {
    let mut drive = Drive::new("full-disk", &["--cache-size", "100MiB", "--debounce", "1h"]);
    let Some(disk) = SmallDisk::mount(&drive, 200) else { return };
    drive.allow("No space left");
    drive.allow("no space");
    drive.start();
    let at = |name: &str| drive.mnt.join(name);
    let kept = pattern(1, 3 << 20);
    for name in ["kept", "renamed", "removed"] {
        fs::write(at(name), &kept).unwrap();
        fs::File::open(at(name)).unwrap().sync_all().unwrap();
    }
    let filler = disk.fill();
    let big = at("big");
    let written = within("a write on a full disk", PROGRAM * 2, move || {
        let mut file = fs::File::create(big)?;
        for number in 0..40 {
            file.write_all(&pattern(number, 1 << 20))?;
        }
        file.sync_all()
    });
    let error = written.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "{error}");
    fs::rename(at("renamed"), at("moved")).unwrap();
    fs::remove_file(at("removed")).unwrap();
    assert_eq!(fs::read(at("kept")).unwrap(), kept);
    fs::remove_file(filler).unwrap();
    let again = pattern(2, 20 << 20);
    fs::write(at("again"), &again).unwrap();
    fs::remove_file(at("big")).unwrap();
    drive.sync();
    drive.unmount();
    for (name, bytes) in [("kept", &kept), ("moved", &kept), ("again", &again)] {
        assert_eq!(&fs::read(drive.share.join(name)).unwrap(), bytes, "{name}");
    }
    assert!(!drive.share.join("renamed").exists() && !drive.share.join("removed").exists());
}
