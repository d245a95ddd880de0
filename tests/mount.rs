//! The drive and its share: what arrives from the other side and when, what happens while the
//! share is away, conflicts, names, and the mount itself.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Drive, pattern, try_until, until, within};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The drives here run with --freshness 1s; a slow machine gets the rest.
const FRESH: Duration = Duration::from_secs(30);

/// What the share tells of shows within about a second; a slow machine gets the rest.
const SOON: Duration = Duration::from_secs(30);

/// What the share tells of would have shown by then.
const QUIET: Duration = Duration::from_secs(5);

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn names(dir: &Path) -> Vec<String> {
    let list = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        list.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_mount_table_names_covefs() {
    let drive = Drive::mounted("table", &[]);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mnt = drive.mnt.to_str().unwrap();
    let line = table.lines().find(|line| line.contains(mnt)).unwrap();
    // rule K5
    assert!(line.contains(" - fuse.covefs "), "{line}");
    assert_eq!(drive.status()["pid"], drive.pid());
    assert_eq!(drive.status()["mountpoint"], mnt);
}

/// It starts anew once, for the C library's sake: still the process that was started, by its name.
#[test]
fn the_process_keeps_its_name_and_number() {
    let drive = Drive::mounted("process", &[]);
    let of = |file: &str| fs::read(format!("/proc/{}/{file}", drive.pid())).unwrap();
    assert_eq!(of("comm"), b"covefs\n");
    if cfg!(target_env = "gnu") {
        let variables = of("environ");
        assert!(variables.split(|byte| *byte == 0).any(|one| one == b"MALLOC_ARENA_MAX=2"));
    }
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let mut drive = Drive::mounted("restart", &[]);
    fs::create_dir(drive.mnt.join("dir")).unwrap();
    fs::write(drive.mnt.join("dir/file"), pattern(1, 100_000)).unwrap();
    drive.unmount_dirty();
    drive.start();
    assert_eq!(fs::read(drive.mnt.join("dir/file")).unwrap(), pattern(1, 100_000));
    drive.drain_and_wipe();
    assert_eq!(fs::read(drive.share.join("dir/file")).unwrap(), pattern(1, 100_000));
}

// DESIGN.md 8: whatever is changed behind our back is seen within the bound.
#[test]
fn edits_on_the_share_are_seen_within_freshness() {
    let mut drive = Drive::new("fresh", &[]);
    let share = drive.share.clone();
    fs::create_dir(share.join("dir")).unwrap();
    fs::write(share.join("dir/edited"), b"old").unwrap();
    fs::write(share.join("dir/same-size"), b"aaaa").unwrap();
    fs::write(share.join("dir/removed"), b"x").unwrap();
    fs::write(share.join("dir/renamed"), b"renamed").unwrap();
    drive.start();
    let at = |name: &str| drive.mnt.join("dir").join(name);
    for name in ["edited", "same-size", "removed", "renamed"] {
        fs::read(at(name)).unwrap();
    }
    // A negative entry: the kernel was told that there is no such file.
    assert!(!at("appeared").exists());
    fs::write(share.join("dir/edited"), b"new and longer").unwrap();
    fs::write(share.join("dir/same-size"), b"bbbb").unwrap();
    fs::write(share.join("dir/appeared"), b"hello").unwrap();
    fs::remove_file(share.join("dir/removed")).unwrap();
    fs::rename(share.join("dir/renamed"), share.join("dir/new-name")).unwrap();
    let reads = |name: &str, bytes: &[u8]| fs::read(at(name)).is_ok_and(|found| found == bytes);
    until("the edit is seen", FRESH, || reads("edited", b"new and longer"));
    until("an edit of the same size is seen", FRESH, || reads("same-size", b"bbbb"));
    until("a new file is seen", FRESH, || reads("appeared", b"hello"));
    until("a removed file is gone", FRESH, || !at("removed").exists());
    until("a renamed file is found", FRESH, || reads("new-name", b"renamed"));
    until("its old name is gone", FRESH, || !at("renamed").exists());
    assert_eq!(names(&drive.mnt.join("dir")), ["appeared", "edited", "new-name", "same-size"]);
}

/// rule X7: the bound is an hour here, but the share tells. Whatever the kernel has is forgotten.
#[test]
fn edits_on_the_share_are_seen_at_once_where_it_tells() {
    let mut drive = Drive::new("told", &["--freshness", "1h"]);
    let share = drive.share.clone();
    fs::create_dir(share.join("dir")).unwrap();
    for name in ["edited", "removed", "renamed", "mode", "log"] {
        fs::write(share.join("dir").join(name), b"old").unwrap();
    }
    drive.start();
    let dir = drive.mnt.join("dir");
    let at = |name: &str| dir.join(name);
    let reads = |name: &str, bytes: &[u8]| fs::read(at(name)).is_ok_and(|found| found == bytes);
    until("the share tells", FRESH, || drive.status()["watched"] == true);
    // What is listed from here on is watched.
    assert_eq!(names(&dir).len(), 5);
    let mut log = File::open(at("log")).unwrap();
    let mut tail = Vec::new();
    log.read_to_end(&mut tail).unwrap();
    assert!(reads("edited", b"old") && !at("appeared").exists());
    let soon = |what: &str, holds: &mut dyn FnMut() -> bool| {
        let asked = Instant::now();
        until(what, SOON, holds);
        eprintln!("{what}: after {:?}", asked.elapsed());
    };
    // In place, as a new file, and by a rename over it.
    fs::write(share.join("dir/edited"), b"in place").unwrap();
    soon("an edit", &mut || reads("edited", b"in place"));
    fs::write(share.join("dir/appeared"), b"hello").unwrap();
    soon("a new file", &mut || reads("appeared", b"hello") && names(&dir).len() == 6);
    fs::remove_file(share.join("dir/removed")).unwrap();
    soon("a removal", &mut || !at("removed").exists());
    fs::rename(share.join("dir/renamed"), share.join("dir/edited")).unwrap();
    soon("a rename over a file", &mut || reads("edited", b"old") && !at("renamed").exists());
    fs::set_permissions(share.join("dir/mode"), fs::Permissions::from_mode(0o600)).unwrap();
    soon("a mode", &mut || fs::metadata(at("mode")).unwrap().mode() & 0o777 == 0o600);
    let mut grown = File::options().append(true).open(share.join("dir/log")).unwrap();
    grown.write_all(b" and new").unwrap();
    soon("an open log that grows", &mut || {
        log.read_to_end(&mut tail).unwrap();
        tail == b"old and new"
    });
    fs::create_dir_all(share.join("dir/sub/deep")).unwrap();
    soon("a new directory", &mut || at("sub/deep").is_dir());
    fs::write(share.join("dir/sub/deep/f"), b"deep").unwrap();
    soon("a file in it", &mut || reads("sub/deep/f", b"deep"));
    fs::rename(share.join("dir/sub"), share.join("moved")).unwrap();
    let moved = drive.mnt.join("moved/deep/f");
    soon("a directory that moved", &mut || fs::read(&moved).is_ok() && !at("sub").exists());
    fs::write(share.join("moved/deep/f"), b"deeper").unwrap();
    soon("an edit in it", &mut || fs::read(&moved).is_ok_and(|found| found == b"deeper"));
}

/// Without it the kernel may believe for as long as the bound is.
#[test]
fn a_drive_that_does_not_watch_keeps_to_the_bound() {
    let mut drive = Drive::new("untold", &["--freshness", "1h", "-o", "watch=off"]);
    fs::write(drive.share.join("f"), b"old").unwrap();
    drive.start();
    assert_eq!(fs::read(drive.mnt.join("f")).unwrap(), b"old");
    fs::write(drive.share.join("f"), b"longer").unwrap();
    let seen = || fs::metadata(drive.mnt.join("f")).unwrap().len() == 6;
    assert!(!try_until(QUIET, seen), "it watches all the same");
    assert_eq!(drive.status()["watched"], false);
}

/// Our own uploads are told too, and are no reason to list what we have just sent.
#[test]
fn a_storm_of_uploads_does_not_list_its_directory() {
    const COUNT: usize = 1000;
    let mut drive = Drive::new("storm", &["--freshness", "60s", "--debounce", "200ms"]);
    fs::create_dir(drive.share.join("dir")).unwrap();
    drive.start();
    until("the share tells", FRESH, || drive.status()["watched"] == true);
    let dir = drive.mnt.join("dir");
    assert!(names(&dir).is_empty());
    let requests = || drive.status()["remote"]["requests"].as_u64().unwrap();
    let before = requests();
    for number in 0..COUNT {
        fs::write(dir.join(format!("n{number}")), number.to_string()).unwrap();
    }
    drive.sync();
    let spent = requests() - before;
    eprintln!("{spent} requests for {COUNT} new files");
    // One each; the rest is for what else goes on, and for an echo that came late.
    assert!(spent < COUNT as u64 + 100, "{spent} requests for {COUNT} new files");
}

// rule R1: an open file keeps its version, the name has the new one.
#[test]
fn an_open_file_never_mixes_versions() {
    let mut drive = Drive::new("versions", &[]);
    let (old, new) = (pattern(1, 3 << 20), pattern(2, 3 << 20));
    fs::write(drive.share.join("f"), &old).unwrap();
    drive.start();
    let open = File::open(drive.mnt.join("f")).unwrap();
    let mut start = vec![0; 4096];
    open.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(start, old[..4096]);
    // As an editor does it: the new version is another file under the name.
    fs::write(drive.share.join("f.tmp"), &new).unwrap();
    fs::rename(drive.share.join("f.tmp"), drive.share.join("f")).unwrap();
    until("the name has the new version", FRESH, || {
        fs::read(drive.mnt.join("f")).is_ok_and(|found| found == new)
    });
    // rule R2: the old bytes that were never fetched are gone from the share.
    let mut rest = vec![0; 4096];
    match open.read_exact_at(&mut rest, 2 << 20) {
        Ok(()) => assert_eq!(rest, old[2 << 20..(2 << 20) + 4096], "a mixture of two versions"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::STALE.raw_os_error())),
    }
}

/// rule R1, for programs that have a file open or mapped when it is edited there: theirs stays one
/// version, whoever looks at the name gets the new one, and a log that grows goes on.
#[test]
fn files_that_are_open_or_mapped_meet_edits_there() {
    let mut drive = Drive::new("mapped", &[]);
    let (old, new) = (pattern(3, 300_000), pattern(4, 300_000));
    fs::write(drive.share.join("edited"), &old).unwrap();
    fs::write(drive.share.join("log"), b"first\n").unwrap();
    drive.start();
    let program = "
import mmap, sys, time
drive, share, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
def until(what, holds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)
def read(path):
    with open(path, 'rb') as f:
        return f.read()
def mapped(f):
    return mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
old, new = read(share + '/edited'), read(share + '/new')
edited, log = open(drive + '/edited', 'rb'), open(drive + '/log', 'rb')
view = mapped(edited)
assert view[:] == old and log.read() == b'first\\n'
with open(share + '/edited', 'r+b') as f:
    f.write(new)
with open(share + '/log', 'ab') as f:
    f.write(b'second\\n')
until('the name has the edit', lambda: read(drive + '/edited') == new)
again = open(drive + '/edited', 'rb')
assert mapped(again)[:] == new, 'a new mapping has the edit'
assert view[:] == old, 'the old mapping is one version'
edited.seek(0)
assert edited.read() == old, 'so is the open file'
grown = b''
def grows():
    global grown
    grown += log.read()
    return grown == b'second\\n'
until('an open log grows', grows)
";
    fs::write(drive.share.join("new"), &new).unwrap();
    let mut command = std::process::Command::new("python3");
    command.args(["-c", program]).arg(&drive.mnt).arg(&drive.share);
    command.arg(FRESH.as_secs().to_string());
    common::succeed(&mut command, Duration::from_secs(120));
}

/// rule S5: a program that writes over bytes and sets the file's time back (encrypted containers do
/// so) is noticed, read and not overwritten.
#[test]
fn an_edit_there_that_sets_its_time_back_is_seen_and_kept() {
    let mut drive = Drive::new("quiet", &["--debounce", "1h"]);
    drive.allow("conflict");
    let versions = [1, 2, 3].map(|seed| pattern(seed, 300_000));
    let there = drive.share.join("vault");
    fs::write(&there, &versions[0]).unwrap();
    let edit = |bytes: &[u8]| {
        let file = File::options().write(true).open(&there).unwrap();
        let before = file.metadata().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let times = fs::FileTimes::new().set_modified(before.modified().unwrap());
        file.set_times(times).unwrap();
    };
    drive.start();
    let here = drive.mnt.join("vault");
    assert_eq!(fs::read(&here).unwrap(), versions[0]);
    edit(&versions[1]);
    until("the edit is seen", FRESH, || fs::read(&here).unwrap() == versions[1]);
    File::options().write(true).open(&here).unwrap().write_all_at(b"mine", 0).unwrap();
    edit(&versions[2]);
    drive.sync();
    let mut mine = versions[1].clone();
    mine[..4].copy_from_slice(b"mine");
    assert!(fs::read(&there).unwrap() == versions[2], "theirs keeps the name");
    let copy = drive.share.join(format!("vault-{}", common::drive::SITE));
    assert!(fs::read(copy).unwrap() == mine, "ours is kept beside it");
}

/// A share that nobody can change is said to be such at the start, not by every upload.
#[test]
fn a_read_only_share_makes_a_read_only_drive() {
    if !common::is_root() {
        eprintln!("only root can mount something read-only: not tested");
        return;
    }
    let mut drive = Drive::new("read-only", &[]);
    let bound = Bound::read_only(&drive.share, drive.scratch("bound"));
    fs::write(drive.share.join("f"), b"text").unwrap();
    drive.allow("No such file");
    let mut over = Drive::over("over-read-only", &format!("dir:{}", bound.0.display()), &[], &[]);
    over.start();
    assert!(over.said().contains("is read-only, and so is the drive"), "{}", over.said());
    assert_eq!(fs::read(over.mnt.join("f")).unwrap(), b"text");
    let refused = fs::write(over.mnt.join("f"), b"x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    over.unmount();
}

/// A directory mounted at another place, until this is dropped.
struct Bound(PathBuf);

impl Bound {
    fn read_only(dir: &Path, at: PathBuf) -> Bound {
        rustix::mount::mount_bind(dir, &at).unwrap();
        let bound = Bound(at);
        let flags = rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount_remount(&bound.0, flags, c"").unwrap();
        bound
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A process that hangs: the way out is named, and what was not uploaded is still there.
#[test]
fn a_drive_whose_process_hangs_is_detached_and_mounted_again() {
    let mut drive = Drive::mounted("hanging", &["--debounce", "1h"]);
    fs::write(drive.mnt.join("f"), pattern(1, 10_000)).unwrap();
    File::open(drive.mnt.join("f")).unwrap().sync_all().unwrap();
    let pid = rustix::process::Pid::from_raw(drive.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let forced = drive.try_covefs("unmount", &["--force"]);
    let said = String::from_utf8_lossy(&forced.stderr).into_owned();
    assert_eq!(forced.status.code(), Some(3), "{said}");
    assert!(said.contains(&format!("kill -9 {}", drive.pid())), "{said}");
    let mut again = std::process::Command::new(env!("CARGO_BIN_EXE_covefs"));
    again.args(["mount", &drive.share_name()]).arg(&drive.mnt);
    again.arg("--cache-dir").arg(&drive.cache);
    let refused = common::run(&mut again, Duration::from_secs(30));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("kill -9"), "{said}");
    drive.kill();
    drive.start();
    assert_eq!(fs::read(drive.mnt.join("f")).unwrap(), pattern(1, 10_000));
    drive.drain_and_wipe();
    assert_eq!(fs::read(drive.share.join("f")).unwrap(), pattern(1, 10_000));
}

#[test]
fn a_directory_of_ten_thousand_files() {
    const COUNT: usize = 10_000;
    let mut drive = Drive::new("many", &[]);
    let dir = drive.share.join("dir");
    fs::create_dir(&dir).unwrap();
    for number in 0..COUNT {
        fs::write(dir.join(format!("file-{number:05}")), number.to_string()).unwrap();
    }
    drive.start();
    let dir = drive.mnt.join("dir");
    let expected: Vec<String> = (0..COUNT).map(|number| format!("file-{number:05}")).collect();
    assert_eq!(names(&dir), expected);
    assert_eq!(fs::read(dir.join("file-07777")).unwrap(), b"7777");
    assert!(!dir.join("file-10000").exists());
    for number in 0..COUNT / 10 {
        fs::remove_file(dir.join(format!("file-{number:05}"))).unwrap();
        fs::write(dir.join(format!("new-{number:05}")), b"new").unwrap();
    }
    assert_eq!(names(&dir).len(), COUNT);
    drive.drain_and_wipe();
    let found = names(&drive.share.join("dir"));
    assert_eq!(found.len(), COUNT);
    assert_eq!(found[0], "file-01000");
    assert_eq!(found[COUNT - 1], "new-00999");
}

/// Requests of an operation so far, by the log.
fn asked(drive: &Drive, op: &str) -> usize {
    let log = fs::read_to_string(drive.log_file()).unwrap();
    log.lines().filter(|line| line.contains(&format!("op=\"{op}"))).count()
}

#[test]
fn a_listing_is_the_kernels_to_keep_until_a_name_changes() {
    let mut drive = Drive::new("kept", &["--freshness", "60s"]);
    drive.set_variables(&[("COVEFS_LOG", "debug")]);
    fs::create_dir(drive.share.join("dir")).unwrap();
    let mut expected: Vec<String> = (100..400).map(|number| format!("f{number}")).collect();
    for name in &expected {
        fs::write(drive.share.join("dir").join(name), name).unwrap();
    }
    drive.start();
    until("the share tells", FRESH, || drive.status()["watched"] == true);
    let (mnt, share) = (drive.mnt.join("dir"), drive.share.join("dir"));
    assert_eq!(names(&mnt), expected);
    let before = asked(&drive, "readdir");
    assert!(before > 0, "the log tells of requests");
    for _ in 0..5 {
        assert_eq!(names(&mnt), expected);
    }
    assert_eq!(asked(&drive, "readdir"), before);
    // Here: at once.
    fs::write(mnt.join("new"), b"new").unwrap();
    expected.push("new".into());
    assert_eq!(names(&mnt), expected);
    fs::rename(mnt.join("f100"), mnt.join("a100")).unwrap();
    expected[0] = "a100".into();
    assert_eq!(names(&mnt), expected);
    fs::remove_file(mnt.join("a100")).unwrap();
    expected.remove(0);
    assert_eq!(names(&mnt), expected);
    drive.sync();
    // There: as soon as the share tells.
    fs::write(share.join("their"), b"their").unwrap();
    fs::remove_file(share.join("f200")).unwrap();
    expected.retain(|name| name != "f200");
    expected.push("their".into());
    until("a change there is seen", SOON, || names(&mnt) == expected);
    drive.drain_and_wipe();
}

/// Ends the other threads, also when this one fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Of many that read a directory at once, each finds what was there when it began.
#[test]
fn a_listing_that_the_kernel_keeps_is_never_an_old_one() {
    let mut drive = Drive::new("kept-by-many", &["--freshness", "60s"]);
    fs::create_dir(drive.share.join("dir")).unwrap();
    for number in 0..300 {
        fs::write(drive.share.join(format!("dir/stays-{number}")), b"x").unwrap();
    }
    drive.start();
    let dir = drive.mnt.join("dir");
    let over = AtomicBool::new(false);
    let listings: usize = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut listings = 0;
                    while !over.load(Ordering::Relaxed) {
                        let found = names(&dir);
                        let staying = found.iter().filter(|name| name.starts_with("stays-"));
                        assert_eq!(staying.count(), 300, "each once: {found:?}");
                        listings += 1;
                    }
                    listings
                })
            })
            .collect();
        let ending = Ending(&over);
        for number in 0..300 {
            let name = format!("passing-{number}");
            fs::write(dir.join(&name), b"x").unwrap();
            assert!(names(&dir).contains(&name), "{name} was made");
            fs::remove_file(dir.join(&name)).unwrap();
            assert!(!names(&dir).contains(&name), "{name} was removed");
        }
        drop(ending);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert!(listings > 100, "{listings}");
    drive.drain_and_wipe();
}

// rule U7
#[test]
fn names_are_bytes_and_ours_are_refused() {
    let mut drive = Drive::mounted("names", &[]);
    let strange: [&[u8]; 6] =
        [b"caf\xe9", b"\xff\xfe", b"new\nline", b"a b\\c:*?\"<>|", b"~$doc.docx", b".DS_Store"];
    for name in strange {
        fs::write(drive.mnt.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let ours = Some(Errno::INVAL.raw_os_error());
    assert_eq!(errno(fs::write(drive.mnt.join(".~covefs-x"), b"")), ours);
    assert_eq!(errno(fs::create_dir(drive.mnt.join(".~covefs-x"))), ours);
    let strange_name = drive.mnt.join(OsStr::from_bytes(strange[0]));
    assert_eq!(errno(fs::rename(strange_name, drive.mnt.join(".~covefs-x"))), ours);
    let link = std::os::unix::fs::symlink("x", drive.mnt.join(".~covefs-x"));
    assert_eq!(errno(link), ours);
    drive.make_cold();
    for name in strange {
        let path = OsStr::from_bytes(name);
        assert_eq!(fs::read(drive.mnt.join(path)).unwrap(), name);
        assert_eq!(fs::read(drive.share.join(path)).unwrap(), name);
    }
    assert_eq!(names(&drive.share).len(), strange.len());
}

/// Takes the share away, with or without an empty directory left in its place: a disk that is
/// not mounted lists empty (rule X1).
fn offline(name: &str, empty_stands_in: bool) {
    let mut drive = Drive::new(name, &["--timeout", "5s"]);
    let expected = ["out of reach", "cannot be reached", "an upload failed", "request failed"];
    for expected in expected {
        drive.allow(expected);
    }
    let away = drive.scratch("away").join("share");
    fs::create_dir(drive.share.join("dir")).unwrap();
    fs::write(drive.share.join("dir/hot"), pattern(1, 200_000)).unwrap();
    fs::write(drive.share.join("dir/cold"), pattern(2, 200_000)).unwrap();
    fs::write(drive.share.join("dir/doomed"), b"doomed").unwrap();
    drive.start();
    assert_eq!(names(&drive.mnt.join("dir")), ["cold", "doomed", "hot"]);
    fs::read(drive.mnt.join("dir/hot")).unwrap();
    let open = File::open(drive.mnt.join("dir/hot")).unwrap();
    fs::rename(&drive.share, &away).unwrap();
    if empty_stands_in {
        fs::create_dir(&drive.share).unwrap();
    }
    drive.wait_online(false);

    let mnt = drive.mnt.clone();
    within("the drive without its share", Duration::from_secs(60), move || use_offline(&mnt));
    drop(open);
    // Nothing of ours may have gone to what stands in for the share.
    assert!(!empty_stands_in || names(&drive.share).is_empty());
    // Also after a restart: rule U4, mounted offline.
    drive.kill();
    drive.detach();
    drive.start();
    assert_eq!(names(&drive.mnt.join("dir")), ["cold", "hot", "moved", "new"]);
    assert_eq!(fs::read(drive.mnt.join("dir/moved")).unwrap(), b"kept");

    if empty_stands_in {
        fs::remove_dir(&drive.share).unwrap();
    }
    fs::rename(&away, &drive.share).unwrap();
    drive.wait_online(true);
    let cold = drive.mnt.join("dir/cold");
    until("a cold read works again", FRESH, || {
        fs::read(&cold).is_ok_and(|found| found == pattern(2, 200_000))
    });
    drive.drain_and_wipe();
    assert_eq!(names(&drive.share.join("dir")), ["cold", "hot", "moved", "new"]);
    let mut hot = pattern(1, 200_000);
    hot[1000..1004].copy_from_slice(b"edit");
    assert_eq!(fs::read(drive.share.join("dir/hot")).unwrap(), hot);
    assert_eq!(fs::read(drive.share.join("dir/cold")).unwrap(), pattern(2, 200_000));
    assert_eq!(fs::read(drive.share.join("dir/new")).unwrap(), b"offline");
    assert_eq!(fs::read(drive.share.join("dir/moved")).unwrap(), b"kept");
}

/// What must work, and what must fail in time, while the share is away.
fn use_offline(mnt: &Path) {
    let dir = mnt.join("dir");
    assert_eq!(names(&dir), ["cold", "doomed", "hot"]);
    assert_eq!(fs::read(dir.join("hot")).unwrap(), pattern(1, 200_000));
    assert_eq!(fs::metadata(dir.join("cold")).unwrap().len(), 200_000);
    // rule K3: a read of bytes that are not here ends with EIO, in time.
    let begin = Instant::now();
    assert_eq!(errno(fs::read(dir.join("cold"))), Some(Errno::IO.raw_os_error()));
    assert!(begin.elapsed() < Duration::from_secs(20), "took {:?}", begin.elapsed());
    fs::write(dir.join("new"), b"offline").unwrap();
    let hot = File::options().write(true).open(dir.join("hot")).unwrap();
    hot.write_all_at(b"edit", 1000).unwrap();
    hot.sync_all().unwrap();
    fs::write(dir.join("temporary"), b"kept").unwrap();
    fs::rename(dir.join("temporary"), dir.join("moved")).unwrap();
    fs::remove_file(dir.join("doomed")).unwrap();
    assert_eq!(names(&dir), ["cold", "hot", "moved", "new"]);
}

#[test]
fn the_drive_goes_on_without_its_share() {
    offline("offline", false);
}

#[test]
fn an_empty_directory_is_not_the_share() {
    offline("impostor", true);
}

/// Both sides change a file at the same time; the drive, and what `covefs conflicts` lists.
fn conflict(name: &str, ours: &[u8], theirs: &[u8]) -> (Drive, String) {
    let mut drive = Drive::new(name, &["--debounce", "1h"]);
    drive.allow("conflict");
    fs::write(drive.share.join("report.txt"), b"base").unwrap();
    drive.start();
    assert_eq!(fs::read(drive.mnt.join("report.txt")).unwrap(), b"base");
    // Within the debounce both sides change it.
    fs::write(drive.mnt.join("report.txt"), ours).unwrap();
    fs::write(drive.share.join("report.txt"), theirs).unwrap();
    drive.sync();
    let listed = drive.covefs("conflicts", &["--json"]);
    (drive, listed)
}

#[test]
fn an_edit_on_both_sides_keeps_both() {
    let (mut drive, listed) = conflict("conflict", b"ours, longer", b"theirs");
    assert!(listed.contains("report-testsite.txt"), "conflicts: {listed}");
    assert_eq!(drive.status()["uploads"]["conflicts"], 1);
    until("the drive shows both", FRESH, || {
        names(&drive.mnt) == ["report-testsite.txt", "report.txt"]
            && fs::read(drive.mnt.join("report.txt")).is_ok_and(|found| found == b"theirs")
    });
    drive.drain_and_wipe();
    assert_eq!(names(&drive.share), ["report-testsite.txt", "report.txt"]);
    assert_eq!(fs::read(drive.share.join("report.txt")).unwrap(), b"theirs");
    assert_eq!(fs::read(drive.share.join("report-testsite.txt")).unwrap(), b"ours, longer");
}

// DESIGN.md 6: equal bytes are no conflict.
#[test]
fn the_same_edit_on_both_sides_is_no_conflict() {
    let (mut drive, listed) = conflict("same-edit", b"the same", b"the same");
    assert!(!listed.contains("report"), "conflicts: {listed}");
    drive.drain_and_wipe();
    assert_eq!(names(&drive.share), ["report.txt"]);
    assert_eq!(fs::read(drive.share.join("report.txt")).unwrap(), b"the same");
}

// DESIGN.md 6: edit beats delete, on either side.
#[test]
fn an_edit_beats_a_delete() {
    let mut drive = Drive::new("edit-delete", &["--debounce", "1h"]);
    drive.allow("conflict");
    fs::write(drive.share.join("we-edit"), b"base").unwrap();
    fs::write(drive.share.join("they-edit"), b"base").unwrap();
    drive.start();
    assert_eq!(names(&drive.mnt), ["they-edit", "we-edit"]);
    fs::write(drive.mnt.join("we-edit"), b"our edit").unwrap();
    fs::remove_file(drive.share.join("we-edit")).unwrap();
    fs::remove_file(drive.mnt.join("they-edit")).unwrap();
    fs::write(drive.share.join("they-edit"), b"their edit").unwrap();
    drive.drain_and_wipe();
    assert_eq!(names(&drive.share), ["they-edit", "we-edit"]);
    assert_eq!(fs::read(drive.share.join("we-edit")).unwrap(), b"our edit");
    assert_eq!(fs::read(drive.share.join("they-edit")).unwrap(), b"their edit");
}

#[test]
fn a_read_only_drive_refuses_changes() {
    let mut drive = Drive::new("read-only", &["--read-only"]);
    fs::write(drive.share.join("f"), b"f").unwrap();
    drive.start();
    assert_eq!(fs::read(drive.mnt.join("f")).unwrap(), b"f");
    let refused = Some(Errno::ROFS.raw_os_error());
    assert_eq!(errno(fs::write(drive.mnt.join("f"), b"g")), refused);
    assert_eq!(errno(fs::write(drive.mnt.join("g"), b"g")), refused);
    assert_eq!(errno(fs::remove_file(drive.mnt.join("f"))), refused);
    assert_eq!(errno(fs::create_dir(drive.mnt.join("d"))), refused);
    assert_eq!(errno(fs::rename(drive.mnt.join("f"), drive.mnt.join("g"))), refused);
    drive.unmount();
    assert_eq!(names(&drive.share), ["f"]);
}

// A file stands where our directory was: whoever steps aside and when, no byte is lost.
#[test]
fn a_file_where_our_directory_was_costs_nothing() {
    let mut drive = Drive::mounted("kind-change", &[]);
    drive.allow("conflict");
    drive.allow("an upload failed");
    fs::create_dir(drive.mnt.join("dir")).unwrap();
    drive.sync();
    let away = drive.scratch("away").join("dir");
    fs::write(drive.mnt.join("dir/f"), b"kept").unwrap();
    fs::rename(drive.share.join("dir"), &away).unwrap();
    fs::write(drive.share.join("dir"), b"theirs").unwrap();
    drive.covefs("sync", &[]);
    let has = |path: PathBuf, bytes: &[u8]| fs::read(path).is_ok_and(|found| found == bytes);
    let anywhere = |top: &Path, below: &str, bytes: &[u8]| {
        names(top).iter().any(|name| has(top.join(name).join(below), bytes))
    };
    until("the other side was seen", FRESH, || {
        let status = drive.status();
        status["uploads"]["failed"] != 0 || status["uploads"]["waiting"] == 0
    });
    assert!(names(&drive.share).iter().any(|name| has(drive.share.join(name), b"theirs")));
    assert!(anywhere(&drive.mnt, "f", b"kept"), "{:?}", names(&drive.mnt));
    let on_share = anywhere(&drive.share, "f", b"kept");
    assert!(on_share || drive.status()["cache"]["dirty_bytes"] != 0, "neither there nor dirty");
}
