//! Real programs on the drive: what they wrote is byte-identical on the share afterwards, with
//! the cache wiped, and they can go on from there.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Drive, Random, pattern, read_tree, same_trees, succeed};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Runs a program in a directory; it must succeed. Git sees no settings but those here.
fn at(dir: &Path, program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "covefs test");
        command.env(format!("GIT_{who}_EMAIL"), "test@localhost");
    }
    succeed(&mut command, LIMIT)
}

/// Source trees as people have them: many small files, a few big ones, links, odd modes.
fn make_sources(root: &Path, files: u64) {
    let mut random = Random::new(files);
    for number in 0..files {
        let dir = root.join(format!("dir-{}/sub-{}", number % 20, number % 100));
        fs::create_dir_all(&dir).unwrap();
        let len = if number % 500 == 0 { 2 << 20 } else { random.below(6000) };
        fs::write(dir.join(format!("file-{number}.rs")), random.bytes(len as usize)).unwrap();
    }
    std::os::unix::fs::symlink("dir-0/sub-0/file-0.rs", root.join("link")).unwrap();
    succeed(Command::new("chmod").arg("755").arg(root.join("dir-0/sub-0/file-0.rs")), LIMIT);
}

/// What the drive shows now must be on the share when the cache is gone, and be shown again.
fn identical_on_the_share(drive: &mut Drive) {
    let seen = read_tree(&drive.mnt);
    drive.drain_and_wipe();
    same_trees("the share beside what the drive showed", &seen, &read_tree(&drive.share));
    drive.start();
    same_trees("the drive with an empty cache", &seen, &read_tree(&drive.mnt));
}

#[test]
fn git_clone_fsck_commit() {
    let mut drive = Drive::mounted("git", &[]);
    let origin = drive.scratch("origin");
    at(&origin, "git", &["init", "-q", "-b", "main", "."]);
    for commit in 0..3 {
        make_sources(&origin.join(format!("part-{commit}")), 1050);
        at(&origin, "git", &["add", "."]);
        at(&origin, "git", &["commit", "-q", "-m", &format!("part {commit}")]);
    }
    at(&origin, "git", &["repack", "-q", "-a", "-d"]);
    at(&drive.mnt, "git", &["clone", "-q", "--no-local", origin.to_str().unwrap(), "clone"]);
    let clone = drive.mnt.join("clone");
    let files = at(&clone, "git", &["ls-files"]).lines().count();
    assert!(files >= 3000, "{files} files");
    at(&clone, "git", &["fsck", "--full", "--strict"]);
    assert_eq!(at(&clone, "git", &["status", "--porcelain"]), "");
    identical_on_the_share(&mut drive);
    at(&clone, "git", &["fsck", "--full", "--strict"]);
    assert_eq!(at(&clone, "git", &["status", "--porcelain"]), "");
    fs::write(clone.join("new"), b"new").unwrap();
    at(&clone, "git", &["add", "-A"]);
    at(&clone, "git", &["commit", "-q", "-m", "on the drive"]);
    at(&clone, "git", &["gc", "-q"]);
    at(&clone, "git", &["checkout", "-q", "HEAD~2"]);
    assert_eq!(at(&clone, "git", &["status", "--porcelain"]), "");
    identical_on_the_share(&mut drive);
    at(&clone, "git", &["fsck", "--full", "--strict"]);
}

/// A database with a write-ahead log, written by several processes at once.
#[test]
fn sqlite_with_concurrent_transactions() {
    const PROGRAM: &str = "
import multiprocessing, sqlite3, sys
def work(worker):
    db = sqlite3.connect(sys.argv[1], timeout=120, isolation_level=None)
    for n in range(150):
        db.execute('BEGIN IMMEDIATE')
        db.execute('INSERT INTO t VALUES (?, ?, ?)', (worker, n, bytes([n % 256]) * (n * 20)))
        if n % 3 == 0:
            db.execute('UPDATE t SET data = ? WHERE worker = ? AND n = ?', (b'u', worker, n // 2))
        db.execute('ROLLBACK' if n % 10 == 9 else 'COMMIT')
    db.close()
if __name__ == '__main__':
    db = sqlite3.connect(sys.argv[1])
    assert db.execute('PRAGMA journal_mode=WAL').fetchone() == ('wal',)
    db.execute('CREATE TABLE t (worker INT, n INT, data BLOB, PRIMARY KEY (worker, n))')
    db.commit()
    processes = [multiprocessing.Process(target=work, args=(w,)) for w in range(4)]
    [p.start() for p in processes]
    [p.join() for p in processes]
    assert all(p.exitcode == 0 for p in processes)
    db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    db.execute('DELETE FROM t WHERE n % 7 = 0')
    db.commit()
    db.execute('VACUUM')
    db.close()
";
    const CHECK: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
assert db.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
print(db.execute('SELECT count(*), sum(length(data)) FROM t').fetchone())
";
    let mut drive = Drive::mounted("sqlite", &[]);
    let native = drive.scratch("native");
    let mut counts = Vec::new();
    for dir in [native.clone(), drive.mnt.clone()] {
        at(&dir, "python3", &["-c", PROGRAM, "data.db"]);
        counts.push(at(&dir, "python3", &["-c", CHECK, "data.db"]));
    }
    assert_eq!(counts[0], counts[1], "rows on a plain disk and on the drive");
    identical_on_the_share(&mut drive);
    assert_eq!(at(&drive.mnt.clone(), "python3", &["-c", CHECK, "data.db"]), counts[0]);
    drive.drain_and_wipe();
    assert_eq!(at(&drive.share, "python3", &["-c", CHECK, "data.db"]), counts[0]);
}

/// Dates all directories. One of the second in which it is copied rsync takes for in step, though
/// it dates from the upload on the share (docs/SEMANTICS.md, times of directories).
fn date_dirs(root: &Path, date: &str) {
    at(root, "find", &[".", "-type", "d", "-exec", "touch", "-d", date, "{}", "+"]);
}

#[test]
fn rsync_there_and_back() {
    let mut drive = Drive::mounted("rsync", &[]);
    let from = drive.scratch("from");
    make_sources(&from, 600);
    date_dirs(&from, "2020-02-02 02:02:02.222222222 UTC");
    let source = format!("{}/", from.display());
    let target = drive.mnt.join("copy");
    // What rsync would still do; a dot in front of each name if only times or modes differ.
    let differences = |one: &str, other: &Path| {
        at(&from, "rsync", &["-anc", "--delete", "--itemize-changes", one, other.to_str().unwrap()])
    };
    at(&from, "rsync", &["-a", &source, target.to_str().unwrap()]);
    assert_eq!(differences(&source, &target), "");
    // A second run with changes, renames and deletes.
    fs::rename(from.join("dir-1"), from.join("dir-moved")).unwrap();
    fs::remove_dir_all(from.join("dir-2")).unwrap();
    let big = File::options().write(true).open(from.join("dir-0/sub-0/file-500.rs")).unwrap();
    big.write_all_at(b"changed in the middle", 1 << 20).unwrap();
    date_dirs(&from, "2021-01-01 01:01:01.111111111 UTC");
    at(&from, "rsync", &["-a", "--delete", &source, target.to_str().unwrap()]);
    at(&from, "rsync", &["-a", "--inplace", "--no-W", &source, target.to_str().unwrap()]);
    drive.drain_and_wipe();
    assert_eq!(differences(&source, &drive.share.join("copy")), "", "on the share");
    drive.start();
    let back = drive.scratch("back");
    at(&from, "rsync", &["-a", &format!("{}/", target.display()), back.to_str().unwrap()]);
    assert_eq!(differences(&source, &back), "", "there and back");
}

#[test]
fn cp_and_tar() {
    let mut drive = Drive::mounted("cp-tar", &[]);
    let from = drive.scratch("from");
    make_sources(&from, 600);
    let expected = read_tree(&from);
    at(&from, "cp", &["-r", "-P", ".", drive.mnt.join("copied").to_str().unwrap()]);
    let archive = drive.mnt.join("archive.tar");
    at(&from, "tar", &["-cf", archive.to_str().unwrap(), "."]);
    fs::create_dir(drive.mnt.join("unpacked")).unwrap();
    at(&drive.mnt.join("unpacked"), "tar", &["-xf", "../archive.tar"]);
    at(&drive.mnt, "cp", &["-a", "unpacked", "again"]);
    for name in ["copied", "unpacked", "again"] {
        same_trees(name, &expected, &read_tree(&drive.mnt.join(name)));
    }
    identical_on_the_share(&mut drive);
    for name in ["copied", "unpacked", "again"] {
        same_trees(name, &expected, &read_tree(&drive.share.join(name)));
    }
    let back = drive.scratch("back");
    at(&back, "tar", &["-xf", archive.to_str().unwrap()]);
    same_trees("from the archive on the drive", &expected, &read_tree(&back));
    at(&drive.mnt, "rm", &["-r", "copied", "unpacked", "again"]);
    drive.drain_and_wipe();
    assert_eq!(fs::read_dir(&drive.share).unwrap().count(), 1);
}

/// vim: a swap file, the old one moved to a backup, the new one written under the name, fsync,
/// the backup removed.
fn save_like_vim(path: &Path, bytes: &[u8]) {
    let beside = |end: &str| {
        let name = path.file_name().unwrap().to_str().unwrap();
        path.with_file_name(format!(".{name}{end}"))
    };
    fs::write(beside(".swp"), vec![7; 12288]).unwrap();
    fs::rename(path, path.with_extension("txt~")).unwrap();
    let mut file = File::options().write(true).create_new(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    drop(file);
    fs::remove_file(path.with_extension("txt~")).unwrap();
    fs::remove_file(beside(".swp")).unwrap();
}

/// Office: an owner file, the new one under a temporary name, the old one renamed away, the new
/// one renamed in, the old one and the owner file removed.
fn save_like_office(path: &Path, bytes: &[u8]) {
    let owner = path.with_file_name("~$report.docx");
    fs::write(&owner, b"somebody").unwrap();
    let (new, old) = (path.with_file_name("A1B2C3D4.tmp"), path.with_file_name("E5F6.tmp"));
    fs::write(&new, bytes).unwrap();
    fs::rename(path, &old).unwrap();
    fs::rename(&new, path).unwrap();
    fs::remove_file(&old).unwrap();
    fs::remove_file(&owner).unwrap();
}

// rule S3: a new file under the name of an old one is one replace, no conflict.
#[test]
fn editors_save_again_and_again() {
    let mut drive = Drive::new("editors", &[]);
    fs::write(drive.share.join("notes.txt"), b"first").unwrap();
    fs::write(drive.share.join("report.docx"), pattern(1, 300_000)).unwrap();
    drive.start();
    for round in 0..10 {
        save_like_vim(&drive.mnt.join("notes.txt"), format!("round {round}").as_bytes());
        save_like_office(&drive.mnt.join("report.docx"), &pattern(round, 200_000));
        if round % 4 == 3 {
            drive.sync();
        }
    }
    drive.sync();
    assert_eq!(drive.status()["uploads"]["conflicts"], 0);
    drive.drain_and_wipe();
    assert_eq!(fs::read(drive.share.join("notes.txt")).unwrap(), b"round 9");
    assert_eq!(fs::read(drive.share.join("report.docx")).unwrap(), pattern(9, 200_000));
    assert_eq!(fs::read_dir(&drive.share).unwrap().count(), 2);
}
