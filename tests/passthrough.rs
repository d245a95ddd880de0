//! Files that the kernel reads by itself (rules P1, P2): that it does, that nobody who holds such a
//! file ever sees other bytes than its own, and that no change is lost that nobody tells of.
//! Passthrough takes root and Linux 6.9; elsewhere each test says that it was not run.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "passthrough/holder.rs"]
mod holder;

use common::{Drive, Random, pattern, try_until, until};
use holder::Holder;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

const SIZE: usize = 8 << 20;
/// Reads, looks and uploads of a slow machine.
const SOON: Duration = Duration::from_secs(30);

/// A drive with a file that is whole in its cache and is not open; `None` where the kernel reads no
/// data files.
fn drive_with_file(name: &str, args: &[&str]) -> Option<(Drive, PathBuf)> {
    let mut drive = Drive::new(name, args);
    write_old(&drive.share.join("file"), &pattern(1, SIZE));
    drive.start();
    let path = drive.mnt.join("file");
    assert_eq!(fs::read(&path).unwrap(), pattern(1, SIZE));
    until("the file is whole here", SOON, || allocated(&path) >= SIZE as u64);
    // The kernel refuses at the first try, and covefs knows from then on.
    fs::read(&path).unwrap();
    if drive.status()["passthrough"] == true {
        return Some((drive, path));
    }
    let _ = writeln!(std::io::stderr(), "NOT RUN: {name}: no passthrough (root, Linux 6.9)");
    None
}

/// A file that nobody changed since yesterday: what is new may be a log that somebody follows.
fn write_old(path: &Path, bytes: &[u8]) {
    let file = File::create(path).unwrap();
    (&file).write_all(bytes).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(86_400)).unwrap();
}

/// Bytes of it that are in the cache (R4).
fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

fn asked_of_covefs(drive: &Drive) -> u64 {
    drive.status()["reads"]["requested_bytes"].as_u64().unwrap()
}

fn evict(path: &Path) -> Output {
    common::run(Command::new(env!("CARGO_BIN_EXE_covefs")).arg("evict").arg(path), SOON)
}

fn sum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

// rule P1
#[test]
fn a_whole_file_is_read_without_us() {
    let Some((drive, path)) = drive_with_file("lent", &[]) else { return };
    let before = asked_of_covefs(&drive);
    assert_eq!(fs::read(&path).unwrap(), pattern(1, SIZE));
    assert_eq!(asked_of_covefs(&drive), before, "covefs was asked for bytes");
    // A second and third handle, one after the other and beside each other.
    let (one, two) = (File::open(&path).unwrap(), File::open(&path).unwrap());
    let mut bytes = [0; 4096];
    for (file, offset) in [(&one, 12_345), (&two, 4 << 20)] {
        file.read_exact_at(&mut bytes, offset).unwrap();
        assert_eq!(bytes, pattern(1, SIZE)[offset as usize..][..4096]);
    }
    assert_eq!(asked_of_covefs(&drive), before);
}

// rule P1
#[test]
fn it_is_switched_off() {
    let mut drive = Drive::new("not-lent", &["--no-passthrough"]);
    write_old(&drive.share.join("file"), &pattern(1, SIZE));
    drive.start();
    for _ in 0..2 {
        assert_eq!(fs::read(drive.mnt.join("file")).unwrap(), pattern(1, SIZE));
    }
    assert_eq!(drive.status()["passthrough"], false);
}

/// In a user namespace root may mount, and the kernel takes no data files of it.
#[test]
fn without_the_privilege_files_are_read_through_us() {
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        common::run(command.args(["-U", "-r", "-m", "sh", "-c", script]), 4 * SOON)
    };
    if !common::is_root() || !unshared("true").status.success() {
        let why = "NOT RUN: without_the_privilege: no user namespaces";
        return drop(writeln!(std::io::stderr(), "{why}"));
    }
    let drive = Drive::new("unprivileged", &[]);
    write_old(&drive.share.join("file"), &pattern(1, SIZE));
    let root = drive.scratch("own");
    let script = format!(
        "set -e
        mkdir {root}/mnt
        {covefs} mount {share} {root}/mnt --cache-dir {root}/cache --cache-size 256MiB
        trap '{covefs} unmount {root}/mnt' EXIT
        for round in 1 2 3 4; do cmp {root}/mnt/file {there}/file; sleep 1; done
        {covefs} status {root}/mnt --json",
        root = root.display(),
        covefs = env!("CARGO_BIN_EXE_covefs"),
        share = drive.share_name(),
        there = drive.share.display(),
    );
    let output = unshared(&script);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("\"passthrough\": false"), "{said}");
}

/// Whatever order a file is opened in, and to whatever end, all see the same bytes (P1).
#[test]
fn writers_beside_a_reader_are_seen_at_once() {
    let Some((mut drive, path)) = drive_with_file("beside", &[]) else { return };
    let mut expected = pattern(1, SIZE);
    let reader = File::open(&path).unwrap();
    let mut mapped = Holder::map("r", &path);
    let check = |expected: &[u8], mapped: &mut Holder, what: &str| {
        let mut bytes = vec![0; expected.len() + 1];
        let read = reader.read_at(&mut bytes, 0).unwrap();
        assert_eq!(sum(&bytes[..read]), sum(expected), "read by a handle after {what}");
        assert_eq!(sum(&fs::read(&path).unwrap()), sum(expected), "read anew after {what}");
        let old = &expected[..SIZE.min(expected.len())];
        assert_eq!(mapped.sum(), sum(old), "mapped, after {what}");
    };
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    writer.write_all_at(b"over", 70_000).unwrap();
    expected[70_000..70_004].copy_from_slice(b"over");
    check(&expected, &mut mapped, "a write");
    let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    both.write_all_at(b"both", 1 << 20).unwrap();
    expected[1 << 20..][..4].copy_from_slice(b"both");
    check(&expected, &mut mapped, "a write to what is open to read too");
    let mut bytes = [0; 4];
    both.read_exact_at(&mut bytes, 70_000).unwrap();
    assert_eq!(&bytes, b"over");
    let mut append = OpenOptions::new().append(true).open(&path).unwrap();
    append.write_all(b"the end").unwrap();
    expected.extend_from_slice(b"the end");
    check(&expected, &mut mapped, "an append");
    assert_eq!(fs::metadata(&path).unwrap().len(), expected.len() as u64);
    drop((writer, both, append, reader, mapped));
    assert_eq!(fs::read(&path).unwrap(), expected);
    drive.drain_and_wipe();
    assert_eq!(fs::read(drive.share.join("file")).unwrap(), expected);
}

/// Writers first: then nothing is lent, and a mapping to write is as anywhere (P1).
#[test]
fn readers_beside_a_writer_see_what_it_writes() {
    let Some((mut drive, path)) = drive_with_file("writer", &[]) else { return };
    let mut expected = pattern(1, SIZE);
    let mut writer = Holder::map("rw", &path);
    let reader = File::open(&path).unwrap();
    writer.does("put 5000 mapped");
    expected[5000..5006].copy_from_slice(b"mapped");
    let mut bytes = [0; 6];
    reader.read_exact_at(&mut bytes, 5000).unwrap();
    assert_eq!(&bytes, b"mapped");
    writer.does("sync");
    drop((writer, reader));
    assert_eq!(fs::read(&path).unwrap(), expected);
    drive.drain_and_wipe();
    assert_eq!(fs::read(drive.share.join("file")).unwrap(), expected);
}

/// What a mapping shows stays, whatever is done to make room (P2, D2): of a closed file, and across
/// the death of the process.
#[test]
fn a_mapping_keeps_its_bytes() {
    let Some((mut drive, path)) = drive_with_file("mapping", &["--cache-size", "64MiB"]) else {
        return;
    };
    let expected = sum(&pattern(1, SIZE));
    let mut mapped = Holder::map("r", &path);
    assert_eq!(mapped.sum(), expected);
    for round in 0..2 {
        let evicted = evict(&path);
        assert!(evicted.status.success(), "{evicted:?}");
        assert_eq!(mapped.sum(), expected, "evicted by hand, round {round}");
        for number in 0..12 {
            let name = format!("other-{round}-{number}");
            fs::write(drive.share.join(&name), pattern(number, SIZE)).unwrap();
            until("the other file is seen", SOON, || drive.mnt.join(&name).exists());
            assert_eq!(fs::read(drive.mnt.join(&name)).unwrap(), pattern(number, SIZE));
        }
        assert_eq!(mapped.sum(), expected, "pushed by others, round {round}");
        drive.kill();
        assert_eq!(mapped.sum(), expected, "killed, round {round}");
        drive.detach();
        drive.start();
    }
    assert!(allocated(&path) >= SIZE as u64, "it was held all the time");
    drop(mapped);
    until("it can go once nobody has it", SOON, || {
        evict(&path);
        allocated(&path) < 4096
    });
    assert_eq!(fs::read(&path).unwrap(), pattern(1, SIZE));
}

/// Another version on the share is another file to who has the old one open (R1), also where it
/// is written in place there and no longer than before.
#[test]
fn another_version_leaves_open_files_alone() {
    let Some((drive, path)) = drive_with_file("version", &[]) else { return };
    let reader = File::open(&path).unwrap();
    let mut mapped = Holder::map("r", &path);
    for (round, size) in [(2, SIZE), (3, SIZE + 100_000), (4, 1000)] {
        fs::write(drive.share.join("file"), pattern(round, size)).unwrap();
        until("the new version is seen", SOON, || fs::read(&path).unwrap() == pattern(round, size));
        let mut bytes = vec![0; SIZE];
        reader.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(sum(&bytes), sum(&pattern(1, SIZE)), "by the old handle, round {round}");
        assert_eq!(mapped.sum(), sum(&pattern(1, SIZE)), "by the old mapping, round {round}");
    }
}

/// What a mapping changes in a file that was lent before reaches the share (P2): while it is held,
/// after the death of the process, and what is changed then.
#[test]
fn what_a_mapping_writes_is_found() {
    let Some((mut drive, path)) = drive_with_file("unseen", &[]) else { return };
    let there = drive.share.join("file");
    let mut expected = pattern(1, SIZE);
    let reader = File::open(&path).unwrap();
    let mut writer = Holder::map("rw", &path);
    drop(reader);
    let put = |writer: &mut Holder, at: usize, text: &str, expected: &mut Vec<u8>| {
        writer.does(&format!("put {at} {text}"));
        expected[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(&mut writer, 100_000, "first", &mut expected);
    assert_eq!(fs::read(&path).unwrap(), expected, "here at once");
    let arrives = |expected: &[u8]| try_until(SOON, || fs::read(&there).unwrap() == expected);
    assert!(arrives(&expected), "written before the upload");
    put(&mut writer, 3_000_000, "second", &mut expected);
    assert!(arrives(&expected), "written after the upload");
    drive.covefs("sync", &["--wait"]);
    drive.kill();
    put(&mut writer, 5_000_000, "third", &mut expected);
    drive.detach();
    drive.start();
    assert_eq!(fs::read(&path).unwrap(), expected, "here after the restart");
    assert!(arrives(&expected), "written while nobody was there");
    put(&mut writer, 6_000_000, "fourth", &mut expected);
    drop(writer);
    drive.drain_and_wipe();
    assert_eq!(fs::read(&there).unwrap(), expected, "all of it, at the end");
}

/// At most half of the limit is lent: the rest has to go on being a cache (E1).
#[test]
fn what_is_lent_leaves_room() {
    let Some((drive, path)) = drive_with_file("room", &["--cache-size", "128MiB"]) else { return };
    let mut open = vec![File::open(&path).unwrap()];
    for number in 2..13 {
        let name = format!("more-{number}");
        write_old(&drive.share.join(&name), &pattern(number, SIZE));
        until("it is seen", SOON, || drive.mnt.join(&name).exists());
        fs::read(drive.mnt.join(&name)).unwrap();
        open.push(File::open(drive.mnt.join(&name)).unwrap());
    }
    let before = asked_of_covefs(&drive);
    for (file, number) in open.iter().zip(1..) {
        let mut bytes = vec![0; SIZE];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == pattern(number, SIZE), "file {number}");
    }
    let ours = asked_of_covefs(&drive) - before;
    // 64 of 96 MiB; of the others the kernel has pages, of some of them perhaps all.
    assert!(ours <= 4 * SIZE as u64, "of what was lent {ours} bytes were asked of covefs");
    fs::write(drive.share.join("cold"), pattern(99, SIZE)).unwrap();
    until("it is seen", SOON, || drive.mnt.join("cold").exists());
    assert!(fs::read(drive.mnt.join("cold")).unwrap() == pattern(99, SIZE));
    until("it is cached", SOON, || allocated(&drive.mnt.join("cold")) == SIZE as u64);
}

/// Handles of all kinds, opened, used and closed at random beside each other, are as those of a local
/// file (P1).
#[test]
fn handles_of_all_kinds_agree_with_a_local_file() {
    let args = ["--lend-age", "0s", "--debounce", "200ms"];
    let Some((mut drive, path)) = drive_with_file("random", &args) else { return };
    let seed = common::seed("handles");
    let (local, mut random) = (drive.scratch("local").join("file"), Random::new(seed));
    fs::write(&local, pattern(1, SIZE)).unwrap();
    let mut open: Vec<(File, File)> = Vec::new();
    let mut bytes = (vec![0; 65_536], vec![0; 65_536]);
    for step in 0..common::env_number("COVEFS_HANDLE_STEPS", 3000) {
        let offset = random.below(SIZE as u64);
        let len = random.below(65_536) as usize;
        let what = random.below(20);
        match what {
            0..4 if open.len() < 8 => {
                let mut options = OpenOptions::new();
                match random.below(6) {
                    0..3 => options.read(true),
                    3 => options.write(true),
                    4 => options.append(true),
                    _ => options.read(true).write(true),
                };
                open.push((options.open(&path).unwrap(), options.open(&local).unwrap()));
            }
            0..6 if !open.is_empty() => {
                open.swap_remove(random.below(open.len() as u64) as usize);
            }
            18 => drop(evict(&path)),
            19 => {
                let size = SIZE as u64 - random.below(100_000);
                for name in [&path, &local] {
                    OpenOptions::new().write(true).open(name).unwrap().set_len(size).unwrap();
                }
            }
            _ if open.is_empty() => {}
            _ => {
                let (here, there) = &open[random.below(open.len() as u64) as usize];
                if what < 14 {
                    let (one, two) = (&mut bytes.0[..len], &mut bytes.1[..len]);
                    let read = (here.read_at(one, offset), there.read_at(two, offset));
                    assert_eq!(
                        read.0.as_ref().ok(),
                        read.1.as_ref().ok(),
                        "seed {seed}, step {step}"
                    );
                    let len = read.0.unwrap_or(0);
                    assert!(one[..len] == two[..len], "read at {offset}, seed {seed}, step {step}");
                } else {
                    let data = random.bytes(len);
                    let wrote =
                        (here.write_at(&data, offset).ok(), there.write_at(&data, offset).ok());
                    assert_eq!(wrote.0, wrote.1, "write, seed {seed}, step {step}");
                }
            }
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), fs::metadata(&local).unwrap().len());
    }
    drop(open);
    assert!(fs::read(&path).unwrap() == fs::read(&local).unwrap(), "at the end, seed {seed}");
    drive.drain_and_keep();
    assert!(fs::read(drive.share.join("file")).unwrap() == fs::read(&local).unwrap());
}
