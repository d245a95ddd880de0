//! What programs may expect of files on the drive: each test holds a promise of
//! docs/SEMANTICS.md, through a real mount, and looks at the share afterwards.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Drive, first_difference, pattern};
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

const PROGRAM: Duration = Duration::from_secs(120);

fn read_write(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

#[track_caller]
fn same(expected: &[u8], path: &Path) {
    let found = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let wrong = first_difference(expected, &found);
    assert_eq!(wrong, None, "{}", path.display());
}

#[track_caller]
fn fails<T>(result: rustix::io::Result<T>, errno: Errno) {
    assert_eq!(result.err(), Some(errno));
}

#[test]
fn an_unlinked_file_lives_until_closed() {
    let mut drive = Drive::new("unlinked", &[]);
    fs::write(drive.share.join("cold"), pattern(1, 300_000)).unwrap();
    drive.start();
    let cold = read_write(&drive.mnt.join("cold"));
    let mut fresh = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(drive.mnt.join("fresh"))
        .unwrap();
    fresh.write_all(b"before").unwrap();
    fs::remove_file(drive.mnt.join("cold")).unwrap();
    fs::remove_file(drive.mnt.join("fresh")).unwrap();
    assert!(!drive.mnt.join("cold").exists());
    fresh.write_all(b" and after").unwrap();
    fresh.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    fresh.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before and after");
    // Another file may take the name meanwhile.
    fs::write(drive.mnt.join("cold"), b"another").unwrap();
    // The unlinked one has its bytes as long as the share still has them or they are here.
    let mut start = vec![0; 1000];
    cold.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(start, pattern(1, 1000));
    assert_eq!(fresh.metadata().unwrap().len(), 16);
    drop((cold, fresh));
    drive.drain_and_wipe();
    assert!(!drive.share.join("fresh").exists());
    same(b"another", &drive.share.join("cold"));
}

#[test]
fn rename_noreplace_and_exchange() {
    let mut drive = Drive::mounted("rename-flags", &[]);
    let at = |name: &str| drive.mnt.join(name);
    fs::write(at("a"), b"A").unwrap();
    fs::write(at("b"), b"B").unwrap();
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("dir/inside"), b"I").unwrap();
    let flags = RenameFlags::NOREPLACE;
    fails(rustix::fs::renameat_with(CWD, at("a"), CWD, at("b"), flags), Errno::EXIST);
    rustix::fs::renameat_with(CWD, at("a"), CWD, at("c"), flags).unwrap();
    let flags = RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(CWD, at("b"), CWD, at("c"), flags).unwrap();
    same(b"A", &at("b"));
    same(b"B", &at("c"));
    // A file and a directory change places too.
    rustix::fs::renameat_with(CWD, at("b"), CWD, at("dir"), flags).unwrap();
    same(b"I", &at("b/inside"));
    same(b"A", &at("dir"));
    fails(rustix::fs::renameat_with(CWD, at("c"), CWD, at("none"), flags), Errno::NOENT);
    drive.drain_and_wipe();
    same(b"I", &drive.share.join("b/inside"));
    same(b"A", &drive.share.join("dir"));
    same(b"B", &drive.share.join("c"));
    assert_eq!(fs::read_dir(&drive.share).unwrap().count(), 3);
}

#[test]
fn rename_of_a_directory_with_cold_and_dirty_files() {
    let mut drive = Drive::new("rename-dir", &[]);
    fs::create_dir_all(drive.share.join("old/deep")).unwrap();
    fs::write(drive.share.join("old/deep/cold"), pattern(2, 100_000)).unwrap();
    drive.start();
    fs::write(drive.mnt.join("old/dirty"), b"dirty").unwrap();
    let open = read_write(&drive.mnt.join("old/dirty"));
    fs::rename(drive.mnt.join("old"), drive.mnt.join("new")).unwrap();
    open.write_all_at(b"later", 5).unwrap();
    drop(open);
    same(&pattern(2, 100_000), &drive.mnt.join("new/deep/cold"));
    let error = fs::rename(drive.mnt.join("new"), drive.mnt.join("new/deep/self")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    drive.drain_and_wipe();
    assert!(!drive.share.join("old").exists());
    same(b"dirtylater", &drive.share.join("new/dirty"));
    same(&pattern(2, 100_000), &drive.share.join("new/deep/cold"));
}

#[test]
fn appends_go_to_the_end() {
    let mut drive = Drive::new("append", &[]);
    fs::write(drive.share.join("log"), b"first\n").unwrap();
    drive.start();
    let append = || File::options().append(true).open(drive.mnt.join("log")).unwrap();
    let (mut one, mut other) = (append(), append());
    for _ in 0..100 {
        one.write_all(b"one\n").unwrap();
        other.write_all(b"other\n").unwrap();
    }
    drop((one, other));
    let expected = format!("first\n{}", "one\nother\n".repeat(100));
    same(expected.as_bytes(), &drive.mnt.join("log"));
    drive.drain_and_wipe();
    same(expected.as_bytes(), &drive.share.join("log"));
}

// rules J4 and J5: what lies past a truncation is zero, and small writes into a cold file do not
// carry zeros along.
#[test]
fn truncates_holes_and_small_writes_of_cold_files() {
    let mut drive = Drive::new("truncate", &[]);
    let mut expected = pattern(3, 1 << 20);
    fs::write(drive.share.join("f"), &expected).unwrap();
    drive.start();
    let file = read_write(&drive.mnt.join("f"));
    file.write_all_at(b"small", 700_001).unwrap();
    expected[700_001..700_006].copy_from_slice(b"small");
    file.set_len(300_000).unwrap();
    file.set_len(900_000).unwrap();
    expected.truncate(300_000);
    expected.resize(900_000, 0);
    file.write_all_at(b"beyond", 1_200_000).unwrap();
    expected.resize(1_200_000, 0);
    expected.extend_from_slice(b"beyond");
    file.write_all_at(b"X", 65_535).unwrap();
    expected[65_535] = b'X';
    same(&expected, &drive.mnt.join("f"));
    drop(file);
    drive.drain_and_wipe();
    same(&expected, &drive.share.join("f"));
}

#[test]
fn open_with_truncate_and_exclusive_create() {
    let mut drive = Drive::new("open-flags", &[]);
    fs::write(drive.share.join("f"), pattern(4, 200_000)).unwrap();
    drive.start();
    let path = drive.mnt.join("f");
    let error = File::options().write(true).create_new(true).open(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    let mut file = File::options().write(true).truncate(true).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    file.write_all(b"new").unwrap();
    drop(file);
    drive.drain_and_wipe();
    same(b"new", &drive.share.join("f"));
}

#[test]
fn a_program_that_runs_is_not_overwritten() {
    let mut drive = Drive::new("busy", &[]);
    drive.start();
    let path = drive.mnt.join("program");
    fs::copy("/bin/sleep", &path).unwrap();
    let expected = fs::read(&path).unwrap();
    let mut running = Command::new(&path).arg("60").spawn().unwrap();
    for mode in [OFlags::WRONLY, OFlags::RDWR | OFlags::TRUNC, OFlags::RDONLY | OFlags::TRUNC] {
        fails(rustix::fs::open(&path, mode, Mode::empty()), Errno::TXTBSY);
    }
    assert_eq!(running.try_wait().unwrap(), None);
    same(&expected, &path);
    running.kill().unwrap();
    running.wait().unwrap();
    drop(File::options().write(true).truncate(true).open(&path).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn fallocate_grows_punches_and_zeroes() {
    let mut drive = Drive::new("fallocate", &[]);
    let mut expected = pattern(5, 400_000);
    fs::write(drive.share.join("f"), &expected).unwrap();
    drive.start();
    let file = read_write(&drive.mnt.join("f"));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 70_000, 130_000).unwrap();
    expected[70_000..200_000].fill(0);
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 390_000, 20_000).unwrap();
    expected.truncate(390_000);
    expected.resize(410_000, 0);
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 500_000).unwrap();
    expected.resize(500_000, 0);
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 500_000, 50_000).unwrap();
    same(&expected, &drive.mnt.join("f"));
    // A punch that reaches past the end leaves the size.
    rustix::fs::fallocate(&file, punch, 480_000, 100_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 500_000);
    drop(file);
    drive.drain_and_wipe();
    same(&expected, &drive.share.join("f"));
}

// rule R4: SEEK_DATA and SEEK_HOLE speak of the share's file, not of what is local.
#[test]
fn seek_data_and_hole_speak_of_the_share() {
    let mut drive = Drive::new("seek", &[]);
    fs::write(drive.share.join("dense"), pattern(6, 3 << 20)).unwrap();
    let sparse = File::create(drive.share.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(&pattern(7, 4096), 5 << 20).unwrap();
    drive.start();
    let seek = |file: &File, from| rustix::fs::seek(file, from);
    let dense = File::open(drive.mnt.join("dense")).unwrap();
    assert_eq!(seek(&dense, rustix::fs::SeekFrom::Data(0)), Ok(0));
    assert_eq!(seek(&dense, rustix::fs::SeekFrom::Data(1 << 20)), Ok(1 << 20));
    assert_eq!(seek(&dense, rustix::fs::SeekFrom::Hole(0)), Ok(3 << 20));
    fails(seek(&dense, rustix::fs::SeekFrom::Data(3 << 20)), Errno::NXIO);
    let sparse = File::open(drive.mnt.join("sparse")).unwrap();
    let data = seek(&sparse, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert!(data <= 5 << 20, "data at 5 MiB is skipped: {data}");
    let data = seek(&sparse, rustix::fs::SeekFrom::Data(5 << 20)).unwrap();
    assert_eq!(data, 5 << 20);
    let hole = seek(&sparse, rustix::fs::SeekFrom::Hole(5 << 20)).unwrap();
    assert!(hole >= (5 << 20) + 4096, "a hole in the data: {hole}");
    // st_blocks is never 0 for a file with bytes, else archivers take it for a hole.
    for name in ["dense", "sparse"] {
        assert!(fs::metadata(drive.mnt.join(name)).unwrap().blocks() > 0, "{name}");
    }
    assert!(drive.share.join("sparse").metadata().unwrap().blocks() < 1000, "still sparse");
}

#[test]
fn copy_file_range_between_cold_files() {
    let mut drive = Drive::new("copy-range", &[]);
    let from = pattern(8, 700_000);
    let mut expected = pattern(9, 500_000);
    fs::write(drive.share.join("from"), &from).unwrap();
    fs::write(drive.share.join("to"), &expected).unwrap();
    drive.start();
    let source = File::open(drive.mnt.join("from")).unwrap();
    let target = read_write(&drive.mnt.join("to"));
    let (mut start, mut end, mut left) = (100_001, 300_003, 250_000);
    while left > 0 {
        let copied =
            rustix::fs::copy_file_range(&source, Some(&mut start), &target, Some(&mut end), left);
        let copied = copied.unwrap();
        assert!(copied > 0, "no progress with {left} bytes left");
        left -= copied;
    }
    expected.resize(550_003, 0);
    expected[300_003..550_003].copy_from_slice(&from[100_001..350_001]);
    same(&expected, &drive.mnt.join("to"));
    drop((source, target));
    drive.drain_and_wipe();
    same(&expected, &drive.share.join("to"));
}

#[test]
fn xattrs_are_set_listed_removed_and_uploaded() {
    let mut drive = Drive::mounted("xattr", &[]);
    let path = drive.mnt.join("f");
    fs::write(&path, b"f").unwrap();
    let get = |path: &Path, name: &str| {
        let mut buffer = vec![0; 4096];
        rustix::fs::getxattr(path, name, &mut buffer[..]).map(|len| buffer[..len].to_vec())
    };
    rustix::fs::setxattr(&path, "user.kept", b"value", XattrFlags::CREATE).unwrap();
    rustix::fs::setxattr(&path, "user.gone", b"value", XattrFlags::empty()).unwrap();
    fails(rustix::fs::setxattr(&path, "user.kept", b"x", XattrFlags::CREATE), Errno::EXIST);
    fails(rustix::fs::setxattr(&path, "user.none", b"x", XattrFlags::REPLACE), Errno::NODATA);
    assert_eq!(get(&path, "user.kept"), Ok(b"value".to_vec()));
    rustix::fs::removexattr(&path, "user.gone").unwrap();
    fails(rustix::fs::removexattr(&path, "user.gone"), Errno::NODATA);
    fails(get(&path, "user.gone"), Errno::NODATA);
    let mut buffer = vec![0; 4096];
    let len = rustix::fs::listxattr(&path, &mut buffer[..]).unwrap();
    assert!(buffer[..len].split(|byte| *byte == 0).any(|name| name == b"user.kept"));
    // covefs' own, read-only and never on the share.
    assert!(get(&path, "user.covefs.state").is_ok_and(|state| !state.is_empty()));
    drive.drain_and_wipe();
    let shared = drive.share.join("f");
    assert_eq!(get(&shared, "user.kept"), Ok(b"value".to_vec()));
    fails(get(&shared, "user.gone"), Errno::NODATA);
    fails(get(&shared, "user.covefs.state"), Errno::NODATA);
}

#[test]
fn symlinks_modes_and_times() {
    let mut drive = Drive::mounted("attributes", &[]);
    let at = |name: &str| drive.mnt.join(name);
    fs::write(at("f"), b"f").unwrap();
    std::os::unix::fs::symlink("f", at("link")).unwrap();
    std::os::unix::fs::symlink("no/such/place", at("dangling")).unwrap();
    same(b"f", &at("link"));
    assert_eq!(fs::read_link(at("dangling")).unwrap(), Path::new("no/such/place"));
    fs::set_permissions(at("f"), fs::Permissions::from_mode(0o751)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_001, 123_456_700);
    read_write(&at("f")).set_modified(time).unwrap();
    let check = |dir: &Path| {
        let metadata = fs::metadata(dir.join("f")).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o751);
        assert_eq!(metadata.modified().unwrap(), time);
        assert_eq!(fs::read_link(dir.join("link")).unwrap(), Path::new("f"));
        assert_eq!(fs::read_link(dir.join("dangling")).unwrap(), Path::new("no/such/place"));
    };
    check(&drive.mnt);
    drive.drain_and_wipe();
    check(&drive.share);
    drive.start();
    check(&drive.mnt);
}

/// As on any disk: who writes to a program without privileges, or gives it away, leaves it no more rights
/// than others have.
#[test]
fn set_id_bits_go_with_a_change() {
    let mut drive = Drive::new("set-id", &[]);
    fs::write(drive.share.join("program"), b"runs").unwrap();
    drive.start();
    let program = drive.mnt.join("program");
    let set = |mode| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    let mode = || fs::metadata(&program).unwrap().permissions().mode() & 0o7777;
    let is_root = rustix::process::geteuid().is_root();
    for change in ["echo more >>", "truncate -s 2", ":>"] {
        set(0o6777);
        let change = format!("{change} '{}'", program.display());
        let mut shell = Command::new("setpriv");
        if is_root {
            shell.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        }
        shell.args(["sh", "-c", &change]);
        common::succeed(&mut shell, Duration::from_secs(30));
        assert_eq!(mode(), 0o777, "{change}");
    }
    set(0o6755);
    rustix::fs::chown(&program, Some(rustix::process::getuid()), None).unwrap();
    assert_eq!(mode(), 0o755, "chown");
    set(0o6755);
    if is_root {
        // Root may do what it likes.
        fs::write(&program, b"more").unwrap();
        assert_eq!(mode(), 0o6755);
    }
    drive.sync();
    let there = fs::metadata(drive.share.join("program")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(there, mode());
    drive.drain_and_wipe();
}

#[test]
fn hard_links_and_special_files_are_refused() {
    let mut drive = Drive::new("special", &[]);
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(CWD, drive.share.join("fifo"), fifo, mode, 0).unwrap();
    // A socket's address holds 108 bytes, so its directory is named by a descriptor.
    let dir = File::open(&drive.share).unwrap();
    let address = format!("/proc/self/fd/{}/socket", dir.as_raw_fd());
    let _socket = std::os::unix::net::UnixListener::bind(address).unwrap();
    drive.start();
    fs::write(drive.mnt.join("f"), b"f").unwrap();
    let refused = |result: rustix::io::Result<()>| fails(result, Errno::PERM);
    refused(rustix::fs::link(drive.mnt.join("f"), drive.mnt.join("g")));
    for kind in [fifo, rustix::fs::FileType::Socket] {
        refused(rustix::fs::mknodat(CWD, drive.mnt.join("n"), kind, mode, 0));
    }
    // Those which the share already holds are listed, and cannot be opened.
    let listed: Vec<_> =
        fs::read_dir(&drive.mnt).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for name in ["fifo", "socket"] {
        assert!(listed.iter().any(|listed| listed == name), "{name} is not in {listed:?}");
        let path = drive.mnt.join(name);
        fs::symlink_metadata(&path).unwrap();
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let opened = File::options().read(true).custom_flags(nonblock).open(&path);
        assert!(opened.is_err(), "{name} could be opened");
    }
    drive.drain_and_wipe();
    assert!(fs::symlink_metadata(drive.share.join("fifo")).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(drive.share.join("socket")).unwrap().file_type().is_socket());
}

/// Shared mappings, read and written, from a program of its own: `unsafe` stays out of the tests.
#[test]
fn shared_mappings_read_and_write() {
    let mut drive = Drive::new("mmap", &[]);
    let mut expected = pattern(10, 2_000_123);
    fs::write(drive.share.join("f"), &expected).unwrap();
    drive.start();
    let program = "
import mmap, os, sys
f = os.open(sys.argv[1], os.O_RDWR)
size = os.fstat(f).st_size
m = mmap.mmap(f, size)
assert m[1500000] == int(sys.argv[2]), 'cold byte through a mapping'
m[1000:1006] = b'mapped'
m[size-3:size] = b'end'
m.flush()
assert os.pread(f, 6, 1000) == b'mapped', 'read after a mapped write'
os.pwrite(f, b'written', 600000)
assert m[600000:600007] == b'written', 'mapping after a write'
m[400000:400005] = b'after'
m.close()
os.close(f)
";
    let mut command = Command::new("python3");
    command.args(["-c", program]).arg(drive.mnt.join("f")).arg(expected[1_500_000].to_string());
    common::succeed(&mut command, PROGRAM);
    expected[1000..1006].copy_from_slice(b"mapped");
    expected[2_000_120..].copy_from_slice(b"end");
    expected[600_000..600_007].copy_from_slice(b"written");
    expected[400_000..400_005].copy_from_slice(b"after");
    same(&expected, &drive.mnt.join("f"));
    drive.drain_and_wipe();
    same(&expected, &drive.share.join("f"));
}

// rule R4: archivers that look for holes must not take cold bytes for one.
#[test]
fn archivers_of_cold_files_find_every_byte() {
    let mut drive = Drive::new("archive", &[]);
    fs::write(drive.share.join("dense"), pattern(11, 3_000_001)).unwrap();
    fs::write(drive.share.join("small"), pattern(12, 10)).unwrap();
    let sparse = File::create(drive.share.join("sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
    sparse.write_all_at(&pattern(13, 5000), 3 << 20).unwrap();
    sparse.write_all_at(&pattern(14, 5000), 8 << 20).unwrap();
    drop(sparse);
    let expected = common::read_tree(&drive.share);
    for archiver in ["tar", "cp", "rsync"] {
        drive.start();
        let to = drive.scratch(archiver);
        let mut command = match archiver {
            "tar" => {
                let mut command = Command::new("sh");
                command.args(["-c", "tar -C \"$0\" -cSf - . | tar -C \"$1\" -xf -"]);
                command
            }
            "cp" => {
                let mut command = Command::new("cp");
                command.args(["-r", "--sparse=always", "-T"]);
                command
            }
            _ => {
                let mut command = Command::new("rsync");
                command.args(["-rS", "--exclude=none"]);
                command
            }
        };
        // rsync takes the contents of a directory named with a slash.
        let from = drive.mnt.join(if archiver == "rsync" { "" } else { "." });
        common::succeed(command.arg(from).arg(&to), PROGRAM);
        common::same_trees(
            &format!("{archiver} of cold files"),
            &expected,
            &common::read_tree(&to),
        );
        drive.drain_and_wipe();
    }
    common::same_trees("the share", &expected, &common::read_tree(&drive.share));
}

#[test]
fn statfs_is_the_shares() {
    let drive = Drive::mounted("statfs", &[]);
    let here = rustix::fs::statvfs(&drive.mnt).unwrap();
    let share = rustix::fs::statvfs(&drive.share).unwrap();
    let bytes = |of: &rustix::fs::StatVfs| of.f_blocks * of.f_frsize;
    assert_eq!(bytes(&here), bytes(&share));
    assert!(here.f_bavail > 0);
    assert_eq!(here.f_namemax, 255);
}

#[test]
fn directories_say_no_as_they_should() {
    let mut drive = Drive::mounted("directories", &[]);
    let at = |name: &str| drive.mnt.join(name);
    let errno = |result: std::io::Result<()>| {
        Errno::from_raw_os_error(result.unwrap_err().raw_os_error().unwrap())
    };
    fs::create_dir_all(at("full/inside")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("file"), b"f").unwrap();
    assert_eq!(errno(fs::remove_dir(at("full"))), Errno::NOTEMPTY);
    assert_eq!(errno(fs::remove_dir(at("file"))), Errno::NOTDIR);
    assert_eq!(errno(fs::remove_file(at("empty"))), Errno::ISDIR);
    assert_eq!(errno(fs::create_dir(at("file"))), Errno::EXIST);
    assert_eq!(errno(fs::create_dir(at("file/below"))), Errno::NOTDIR);
    assert_eq!(errno(fs::create_dir(at("none/below"))), Errno::NOENT);
    assert_eq!(errno(fs::rename(at("file"), at("empty"))), Errno::ISDIR);
    assert_eq!(errno(fs::rename(at("empty"), at("file"))), Errno::NOTDIR);
    assert_eq!(errno(fs::rename(at("empty"), at("full"))), Errno::NOTEMPTY);
    fs::rename(at("full"), at("empty")).unwrap();
    let long = "x".repeat(256);
    assert_eq!(errno(fs::create_dir(at(&long))), Errno::NAMETOOLONG);
    drive.drain_and_wipe();
    assert!(drive.share.join("empty/inside").is_dir());
    assert!(!drive.share.join("full").exists());
}
