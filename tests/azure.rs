//! A drive of an Azure file share: the real program over a server on the loopback, with others who
//! edit the same share, a share that is away, lost answers, kills, and logins that fail.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use azure_files_emulator::{
    Config, Emulator, EntraConfig, Fault, LeaseState, Operation, Rule, TENANT,
};
use common::{Drive, first_difference, pattern, run, until};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const SHARE: &str = "docs";

/// The drives here run with --freshness 1s; a slow machine gets the rest.
const FRESH: Duration = Duration::from_secs(10);

/// What a drive of a share that comes and goes may say in its log.
const AWAY: &[&str] = &["the share is out of reach", "the outcome of a change stays unknown"];

struct Site {
    /// First, so that it ends before its share does.
    drive: Drive,
    server: Emulator,
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

impl Site {
    fn new(name: &str, args: &[&str]) -> Site {
        let server = Emulator::start(Config::default()).unwrap();
        server.create_share(SHARE);
        let share = format!("azfiles://{}/{SHARE}", server.account());
        let login = server.connection_string();
        let login = [("AZURE_STORAGE_CONNECTION_STRING", &*login)];
        let drive = Drive::over(&format!("azure-{name}"), &share, &login, args);
        Site { drive, server }
    }

    fn mounted(name: &str) -> Site {
        let mut site = Site::new(name, &[]);
        site.drive.start();
        site
    }

    fn at(&self, name: &str) -> PathBuf {
        self.drive.mnt.join(name)
    }

    fn names(&self) -> Vec<String> {
        self.server.walk(SHARE).into_iter().map(|entry| entry.name).collect()
    }

    #[track_caller]
    fn same_there(&self, name: &str, expected: &[u8]) {
        let found = self.server.read(SHARE, name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(first_difference(expected, &found), None, "{name} on the share");
    }

    #[track_caller]
    fn same_here(&self, name: &str, expected: &[u8]) {
        let found = fs::read(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(first_difference(expected, &found), None, "{name} on the drive");
    }

    /// Nothing is locked and nothing of ours is left on the share.
    #[track_caller]
    fn assert_clean(&self) {
        for entry in self.server.walk(SHARE) {
            assert!(!entry.name.contains(".~covefs-"), "left: {entry:?}");
            assert!(!matches!(entry.lease, LeaseState::Leased(_)), "locked: {entry:?}");
        }
    }
}

#[test]
fn files_are_browsed_read_once_and_then_from_here() {
    let mut site = Site::new("read", &["--freshness", "1h"]);
    let (small, big) = (pattern(1, 70_000), pattern(2, 9 << 20));
    site.server.write(SHARE, "dir/sub/small", &small);
    site.server.write(SHARE, "big", &big);
    site.server.write(SHARE, "empty", b"");
    site.drive.start();
    let mut names: Vec<_> = fs::read_dir(&site.drive.mnt)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["big", "dir", "empty"]);
    assert_eq!(fs::metadata(site.at("big")).unwrap().len(), 9 << 20);
    site.same_here("dir/sub/small", &small);
    site.same_here("big", &big);
    site.same_here("empty", b"");
    let asked = site.server.count(Operation::GetFile);
    assert!(asked > 0);
    site.same_here("big", &big);
    site.same_here("dir/sub/small", &small);
    assert_eq!(site.server.count(Operation::GetFile), asked, "hot reads ask nobody");
    let statfs = rustix::fs::statvfs(&site.drive.mnt).unwrap();
    assert!(statfs.f_blocks > 0 && statfs.f_bavail > 0);
}

#[test]
fn what_is_written_reaches_the_share_byte_for_byte() {
    let mut site = Site::mounted("write");
    let (one, two) = (pattern(1, 100_000), pattern(2, 13 << 20));
    fs::create_dir_all(site.at("a/b")).unwrap();
    fs::write(site.at("a/b/one"), &one).unwrap();
    fs::write(site.at("two"), &two).unwrap();
    fs::write(site.at("odd name+%#.txt"), b"odd").unwrap();
    std::os::unix::fs::symlink("a/b/one", site.at("link")).unwrap();
    fs::set_permissions(site.at("a/b/one"), PermissionsExt::from_mode(0o751)).unwrap();
    fs::write(site.at("closed"), b"x").unwrap();
    fs::set_permissions(site.at("closed"), PermissionsExt::from_mode(0o444)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_700);
    fs::File::options().write(true).open(site.at("two")).unwrap().set_modified(time).unwrap();
    site.drive.sync();
    site.same_there("a/b/one", &one);
    site.same_there("two", &two);
    site.same_there("odd name+%#.txt", b"odd");
    assert!(site.server.stat(SHARE, "closed").unwrap().attributes.contains("ReadOnly"));
    // An editor's way: a new file is renamed over the old one. And one rewritten in place.
    fs::write(site.at("a/b/.one.tmp"), &two).unwrap();
    fs::rename(site.at("a/b/.one.tmp"), site.at("a/b/one")).unwrap();
    fs::write(site.at("odd name+%#.txt"), b"even").unwrap();
    site.drive.make_cold();
    site.same_there("a/b/one", &two);
    site.same_here("a/b/one", &two);
    site.same_here("odd name+%#.txt", b"even");
    site.same_here("link", &two);
    assert_eq!(fs::read_link(site.at("link")).unwrap(), Path::new("a/b/one"));
    assert_eq!(fs::metadata(site.at("two")).unwrap().modified().unwrap(), time);
    assert_eq!(fs::metadata(site.at("closed")).unwrap().mode() & 0o7777, 0o444);
    fs::remove_file(site.at("closed")).unwrap();
    fs::remove_file(site.at("two")).unwrap();
    site.drive.sync();
    assert_eq!(site.names(), ["a", "a/b", "a/b/one", "link", "odd name+%#.txt"]);
    site.assert_clean();
}

// DESIGN.md 8: whatever is changed behind our back is seen within the bound.
#[test]
fn edits_by_others_are_seen_within_freshness() {
    let mut site = Site::new("fresh", &[]);
    for name in ["edited", "same-size", "removed", "renamed"] {
        site.server.write(SHARE, &format!("dir/{name}"), b"aaaa");
    }
    site.drive.start();
    for name in ["edited", "same-size", "removed", "renamed"] {
        site.same_here(&format!("dir/{name}"), b"aaaa");
    }
    assert!(!site.at("dir/appeared").exists());
    site.server.write(SHARE, "dir/edited", b"new and longer");
    site.server.write_at(SHARE, "dir/same-size", 0, b"bbbb");
    site.server.write(SHARE, "dir/appeared", b"hello");
    site.server.remove(SHARE, "dir/removed");
    site.server.rename(SHARE, "dir/renamed", "dir/new-name");
    let reads = |name: &str, bytes: &[u8]| fs::read(site.at(name)).is_ok_and(|read| read == bytes);
    until("the edit is seen", FRESH, || reads("dir/edited", b"new and longer"));
    until("an edit of the same size is seen", FRESH, || reads("dir/same-size", b"bbbb"));
    until("a new file is seen", FRESH, || reads("dir/appeared", b"hello"));
    until("a removed file is gone", FRESH, || !site.at("dir/removed").exists());
    until("a renamed file is found", FRESH, || reads("dir/new-name", b"aaaa"));
    until("its old name is gone", FRESH, || !site.at("dir/renamed").exists());
}

// DESIGN.md section 9, 2: what we had not seen is never overwritten.
/// A snapshot is found by its name and mounted as it was, for reading.
#[test]
fn a_snapshot_is_listed_and_mounted() {
    let mut site = Site::new("snapshot", &[]);
    let (old, new) = (pattern(1, 300_000), pattern(2, 200_000));
    site.server.write(SHARE, "dir/f", &old);
    site.server.snapshot(SHARE);
    site.server.write(SHARE, "dir/f", &new);
    site.drive.start();
    let login = site.server.connection_string();
    let login = [("AZURE_STORAGE_CONNECTION_STRING", &*login)];
    let mut list = Command::new(env!("CARGO_BIN_EXE_covefs"));
    list.args(["snapshots", &site.drive.share_name()]).envs(login);
    let listed = common::succeed(&mut list, Duration::from_secs(60));
    let name = listed.lines().next().expect("there is one");
    assert!(name.starts_with(&site.drive.share_name()) && name.contains("@20"), "{listed}");
    let mut was = Drive::over("azure-snapshot-was", name, &login, &[]);
    was.start();
    assert!(was.said().contains("is read-only, and so is the drive"), "{}", was.said());
    assert_eq!(first_difference(&old, &fs::read(was.mnt.join("dir/f")).unwrap()), None);
    site.same_here("dir/f", &new);
    let refused = fs::write(was.mnt.join("dir/f"), b"x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    was.unmount();
    let mut never = Command::new(env!("CARGO_BIN_EXE_covefs"));
    let missing = format!("{}@2001-01-01T00:00:00.0000000Z", site.drive.share_name());
    never.arg("mount").arg(missing).arg(&was.mnt).envs(login).arg("--cache-dir").arg(&was.cache);
    let said = run(&mut never, Duration::from_secs(60));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("there is no such snapshot"), "{said}");
}

#[test]
fn a_conflict_keeps_both() {
    let mut site = Site::new("conflict", &["--debounce", "60s"]);
    site.drive.allow("conflict");
    site.server.write(SHARE, "report.txt", b"base");
    site.drive.start();
    site.same_here("report.txt", b"base");
    fs::write(site.at("report.txt"), b"ours, longer").unwrap();
    site.server.write(SHARE, "report.txt", b"theirs");
    site.drive.sync();
    site.same_there("report.txt", b"theirs");
    site.same_there("report-testsite.txt", b"ours, longer");
    let listed = site.drive.covefs("conflicts", &["--json"]);
    assert!(listed.contains("report-testsite.txt"), "{listed}");
    until("both are on the drive", FRESH, || {
        fs::read(site.at("report.txt")).is_ok_and(|read| read == b"theirs")
    });
    site.same_here("report-testsite.txt", b"ours, longer");
    site.assert_clean();
}

/// The command `covefs unlock PATH...`: exit code, and what it says.
fn unlock(paths: &[&Path]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_covefs"));
    let output = run(command.arg("unlock").args(paths), Duration::from_secs(60));
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

// rule X3: a lease that another client holds stops our upload, is told of, and can be broken.
#[test]
fn a_locked_file_is_told_of_and_unlocked() {
    let mut site = Site::new("unlock", &["--debounce", "0s"]);
    site.drive.allow("an upload failed; it is tried again");
    site.server.write(SHARE, "dir/f.txt", b"base");
    site.server.write(SHARE, "free", b"base");
    site.drive.start();
    site.same_here("dir/f.txt", b"base");
    site.server.lease(SHARE, "dir/f.txt").unwrap();
    fs::write(site.at("dir/f.txt"), b"ours, longer").unwrap();
    fs::write(site.at("free"), b"new").unwrap();
    let name = site.at("dir/f.txt").display().to_string();
    let messages = || site.drive.status()["messages"].to_string();
    until("status names it", FRESH, || messages().contains(&name));
    let said = messages();
    for part in ["another client has kept it locked for 0 minutes", "covefs unlock"] {
        assert!(said.contains(part), "{said}");
    }
    until("others go on", FRESH, || site.server.read(SHARE, "free").unwrap() == b"new");
    let mut why = Command::new(env!("CARGO_BIN_EXE_covefs"));
    let why = common::succeed(why.arg("why").arg(site.at("dir/f.txt")), Duration::from_secs(60));
    assert!(why.contains("another client has kept it locked"), "{why}");
    // Whoever waits for the upload is told.
    let waited = site.drive.try_covefs("sync", &["--wait"]);
    let said = String::from_utf8_lossy(&waited.stderr).into_owned();
    assert_eq!(waited.status.code(), Some(3), "{said}");
    assert!(said.contains("another client keeps it locked"), "{said}");
    site.same_there("dir/f.txt", b"base");
    let (code, said) = unlock(&[&site.at("dir/f.txt")]);
    assert!(code == 0 && said.contains("its lock is gone"), "{said}");
    until("it goes up", FRESH, || site.server.read(SHARE, "dir/f.txt").unwrap() == b"ours, longer");
    until("nothing is left to say", FRESH, || messages() == "[]");
    site.assert_clean();
}

#[test]
fn unlock_says_why_it_does_nothing() {
    let site = Site::mounted("unlock-no");
    fs::create_dir(site.at("dir")).unwrap();
    fs::write(site.at("free"), b"x").unwrap();
    site.drive.sync();
    let (code, said) = unlock(&[&site.at("free")]);
    assert!(code == 1 && said.contains("no other client keeps it locked"), "{said}");
    let (code, said) = unlock(&[&site.at("dir")]);
    assert!(code == 1 && said.contains("only files are locked"), "{said}");
    let (code, said) = unlock(&[&site.at("gone")]);
    assert!(code == 1 && said.contains("no such file"), "{said}");
    let (code, said) = unlock(&[Path::new("/etc/passwd")]);
    assert!(code == 1 && said.contains("is not on a covefs drive"), "{said}");
    let mut other = Drive::new("unlock-dir", &[]);
    fs::write(other.share.join("f"), b"x").unwrap();
    other.start();
    let (code, said) = unlock(&[&other.mnt.join("f")]);
    assert!(code == 1 && said.contains("this kind of share has no locks"), "{said}");
    let (code, _) = unlock(&[]);
    assert_eq!(code, 2);
}

// DESIGN.md section 9, 6.
#[test]
fn the_drive_goes_on_while_the_share_is_away() {
    let mut site = Site::new("away", &["--timeout", "3s"]);
    AWAY.iter().for_each(|text| site.drive.allow(text));
    site.server.write(SHARE, "hot", &pattern(1, 100_000));
    site.server.write(SHARE, "cold", &pattern(2, 100_000));
    site.drive.start();
    site.same_here("hot", &pattern(1, 100_000));
    let away = site.server.faults().add(Rule::new(Fault::Refuse));
    site.drive.wait_online(false);
    site.same_here("hot", &pattern(1, 100_000));
    assert_eq!(errno(fs::read(site.at("cold"))), Some(Errno::IO.raw_os_error()));
    fs::write(site.at("new"), b"written while away").unwrap();
    fs::rename(site.at("hot"), site.at("moved")).unwrap();
    // Mounted anew while it is away: with what is here.
    site.drive.unmount_dirty();
    site.drive.allow("the share cannot be reached yet");
    site.drive.start();
    site.same_here("new", b"written while away");
    site.same_here("moved", &pattern(1, 100_000));
    site.server.faults().remove(away);
    site.drive.wait_online(true);
    site.drive.sync();
    assert_eq!(site.names(), ["cold", "moved", "new"]);
    site.same_there("new", b"written while away");
    site.same_here("cold", &pattern(2, 100_000));
    site.assert_clean();
}

// DESIGN.md section 9, 1 and 7: killed in the middle of a replace, with the lease held.
#[test]
fn a_killed_drive_loses_nothing_and_locks_nothing() {
    let mut site = Site::new("kill", &["--debounce", "0s"]);
    AWAY.iter().for_each(|text| site.drive.allow(text));
    site.server.write(SHARE, "f", &pattern(1, 50_000));
    site.drive.start();
    site.same_here("f", &pattern(1, 50_000));
    let storm = site.server.faults().add(Rule::busy(None).on(Operation::RenameFile));
    fs::write(site.at("f"), pattern(2, 5 << 20)).unwrap();
    fs::write(site.at("g"), b"new").unwrap();
    until("the replace holds the lease", FRESH, || {
        matches!(site.server.stat(SHARE, "f").unwrap().lease, LeaseState::Leased(_))
    });
    site.drive.kill();
    site.drive.detach();
    site.same_there("f", &pattern(1, 50_000));
    site.server.faults().remove(storm);
    site.drive.start();
    site.same_here("f", &pattern(2, 5 << 20));
    site.same_here("g", b"new");
    site.drive.sync();
    site.same_there("f", &pattern(2, 5 << 20));
    site.same_there("g", b"new");
    assert_eq!(site.names(), ["f", "g"]);
    site.assert_clean();
}

/// The same in the middle of a rename, when no upload tells the next run who it was.
#[test]
fn a_drive_that_is_killed_in_a_rename_locks_nothing() {
    let mut site = Site::new("kill-rename", &["--debounce", "0s"]);
    AWAY.iter().for_each(|text| site.drive.allow(text));
    site.server.write(SHARE, "f", b"text");
    site.drive.start();
    site.same_here("f", b"text");
    let storm = site.server.faults().add(Rule::busy(None).on(Operation::RenameFile));
    fs::rename(site.at("f"), site.at("g")).unwrap();
    until("the rename holds the lease", FRESH, || {
        matches!(site.server.stat(SHARE, "f").unwrap().lease, LeaseState::Leased(_))
    });
    site.drive.kill();
    site.drive.detach();
    site.server.faults().remove(storm);
    site.drive.start();
    site.drive.sync();
    assert_eq!(site.names(), ["g"]);
    site.same_here("g", b"text");
    site.assert_clean();
}

/// One answer in seven is lost, after what was asked for was done: everything arrives, once, and
/// nothing of ours is taken for another's.
#[test]
fn lost_answers_make_no_copies() {
    let mut site = Site::new("lost", &["--debounce", "0s", "--timeout", "5s"]);
    AWAY.iter().for_each(|text| site.drive.allow(text));
    site.drive.allow("an upload failed; it is tried again");
    // The answer to a lease's release is lost like any other.
    site.drive.allow("a lease of ours stays until the next change");
    site.drive.start();
    site.server.faults().seed(11);
    let lost = Rule::new(Fault::LoseAnswer).with_probability(0.15);
    let lost = site.server.faults().add(lost);
    for number in 0..40_u64 {
        let dir = site.at(&format!("d{}", number % 4));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{number}")), pattern(number, 3000)).unwrap();
    }
    for number in 0..20_u64 {
        let dir = format!("d{}", number % 4);
        match number % 3 {
            0 => fs::write(site.at(&format!("{dir}/f{number}")), pattern(number, 500)).unwrap(),
            1 => fs::remove_file(site.at(&format!("{dir}/f{number}"))).unwrap(),
            _ => {
                let to = site.at(&format!("{dir}/m{number}"));
                fs::rename(site.at(&format!("{dir}/f{number}")), to).unwrap();
            }
        }
    }
    site.drive.sync();
    assert!(site.server.faults().fired(lost) > 5, "too few answers were lost");
    site.server.faults().remove(lost);
    let mut wanted = Vec::new();
    for number in 0..40_u64 {
        let dir = format!("d{}", number % 4);
        let (name, length) = match number {
            20.. => (format!("{dir}/f{number}"), 3000),
            _ if number % 3 == 0 => (format!("{dir}/f{number}"), 500),
            _ if number % 3 == 1 => continue,
            _ => (format!("{dir}/m{number}"), 3000),
        };
        site.same_there(&name, &pattern(number, length));
        wanted.push(name);
    }
    wanted.extend((0..4).map(|number| format!("d{number}")));
    wanted.sort();
    assert_eq!(site.names(), wanted);
    assert_eq!(site.drive.status()["uploads"]["conflicts"], 0);
    site.assert_clean();
}

// rule U7: found out when it is made, not when it is uploaded.
#[test]
fn names_that_the_share_cannot_hold_are_refused_at_once() {
    let site = Site::mounted("names");
    let long = "n".repeat(256);
    let wide = "\u{20ac}".repeat(255);
    for (name, wanted) in [
        ("a:b", Errno::INVAL),
        ("what?", Errno::INVAL),
        ("dot.", Errno::INVAL),
        ("con", Errno::INVAL),
        (&*long, Errno::NAMETOOLONG),
    ] {
        let wanted = Some(wanted.raw_os_error());
        assert_eq!(errno(fs::write(site.at(name), b"x")), wanted, "{name}");
        assert_eq!(errno(fs::create_dir(site.at(name))), wanted, "{name}");
    }
    fs::write(site.at(&wide), b"x").unwrap();
    site.drive.sync();
    assert_eq!(site.names(), [wide]);
}

// rule U7: 2048 characters and 250 names are the most, whoever makes or moves them.
#[test]
fn paths_that_the_share_cannot_hold_are_refused_at_once() {
    let site = Site::mounted("paths");
    let refused = Some(Errno::NAMETOOLONG.raw_os_error());
    let long = vec!["n".repeat(255); 7].join("/");
    fs::create_dir_all(site.at(&long)).unwrap();
    // Seven names of 255 leave room for 255 more; a passing name of ours fits in that too.
    let last = |length: usize| site.at(&long).join("m".repeat(length));
    assert_eq!(errno(fs::write(last(255), b"x")), None);
    let deep = vec!["d"; 249].join("/");
    fs::create_dir_all(site.at(&deep)).unwrap();
    fs::write(site.at(&deep).join("f"), b"x").unwrap();
    fs::create_dir(site.at(&deep).join("g")).unwrap();
    let too_deep = site.at(&deep).join("g/h");
    assert_eq!(errno(fs::write(&too_deep, b"x")), refused);
    assert_eq!(errno(fs::create_dir(&too_deep)), refused);
    assert_eq!(errno(std::os::unix::fs::symlink("x", &too_deep)), refused);
    fs::write(site.at("f"), b"x").unwrap();
    assert_eq!(errno(fs::rename(site.at("f"), &too_deep)), refused);
    // A directory takes along what is in it.
    fs::create_dir(site.at("e")).unwrap();
    assert_eq!(errno(fs::rename(site.at("d"), site.at("e/d"))), refused);
    let other = "n".repeat(255);
    fs::create_dir(site.at("e/e")).unwrap();
    assert_eq!(errno(fs::rename(site.at(&other), site.at("e/e").join(&other))), refused);
    site.drive.sync();
    let names = site.names();
    assert!(names.contains(&format!("{deep}/f")) && names.contains(&format!("{deep}/g")));
    assert!(names.contains(&format!("{long}/{}", "m".repeat(255))));
    assert_eq!(site.drive.status()["uploads"]["conflicts"], 0);
}

/// A login that may only read makes a drive that says so at once, not when something is uploaded.
#[test]
fn a_login_that_may_only_read_makes_a_read_only_drive() {
    let Site { drive, server } = Site::new("reader", &[]);
    drop(drive);
    server.write(SHARE, "dir/f", b"text");
    let login = format!(
        "AccountName={};FileEndpoint={};SharedAccessSignature={}",
        server.account(),
        server.endpoint(),
        server.account_sas("rl", 3600)
    );
    let share = format!("azfiles://{}/{SHARE}", server.account());
    let login = [("AZURE_STORAGE_CONNECTION_STRING", &*login)];
    let mut drive = Drive::over("azure-reader-mount", &share, &login, &[]);
    drive.start();
    assert!(drive.said().contains("is read-only, and so is the drive"), "{}", drive.said());
    let at = |name: &str| drive.mnt.join(name);
    assert_eq!(fs::read(at("dir/f")).unwrap(), b"text");
    let refused = Some(Errno::ROFS.raw_os_error());
    assert_eq!(errno(fs::write(at("dir/f"), b"x")), refused);
    assert_eq!(errno(fs::write(at("new"), b"x")), refused);
    assert_eq!(errno(fs::create_dir(at("d"))), refused);
    assert_eq!(errno(fs::remove_file(at("dir/f"))), refused);
    assert_eq!(errno(fs::rename(at("dir/f"), at("g"))), refused);
    assert_eq!(errno(fs::set_permissions(at("dir/f"), PermissionsExt::from_mode(0o600))), refused);
    server.lease(SHARE, "dir/f").unwrap();
    let (code, said) = unlock(&[&at("dir/f")]);
    assert!(code == 1 && said.contains("the drive is read-only"), "{said}");
    drive.unmount();
    // Nothing but looking was tried.
    for changes in
        [Operation::PutRange, Operation::CreateFile, Operation::RenameFile, Operation::LeaseFile]
    {
        assert_eq!(server.count(changes), 0, "{changes:?}");
    }
}

/// A share that is full loses nothing: `status` says why, and it goes on when there is room.
#[test]
fn a_full_share_loses_nothing() {
    let mut site = Site::new("full", &["--debounce", "0s"]);
    site.drive.allow("an upload failed; it is tried again");
    site.drive.start();
    fs::write(site.at("first"), pattern(1, 3 << 20)).unwrap();
    site.drive.sync();
    site.server.limit(SHARE, Some(8 << 20));
    for number in 2..6_u64 {
        fs::write(site.at(&format!("f{number}")), pattern(number, 3 << 20)).unwrap();
    }
    let messages = |site: &Site| site.drive.status()["messages"].to_string();
    until("status says why", FRESH, || messages(&site).contains("the share is full"));
    let waited = site.drive.try_covefs("sync", &["--wait"]);
    let said = String::from_utf8_lossy(&waited.stderr).into_owned();
    assert!(waited.status.code() == Some(3) && said.contains("the share is full"), "{said}");
    // All of it is here, also after a kill, and what is there is whole.
    site.drive.kill();
    site.drive.detach();
    site.drive.start();
    for number in 2..6_u64 {
        site.same_here(&format!("f{number}"), &pattern(number, 3 << 20));
    }
    site.same_there("first", &pattern(1, 3 << 20));
    // Removals make room; more room, and the rest goes up.
    fs::remove_file(site.at("first")).unwrap();
    until("what is removed goes", FRESH, || !site.names().contains(&"first".to_owned()));
    site.server.limit(SHARE, None);
    site.drive.sync();
    assert_eq!(site.names(), ["f2", "f3", "f4", "f5"]);
    for number in 2..6_u64 {
        site.same_there(&format!("f{number}"), &pattern(number, 3 << 20));
    }
    assert_eq!(messages(&site), "[]");
    site.assert_clean();
}

/// What a login of Entra ID needs besides its own variables.
struct Entra {
    server: Emulator,
    home: tempfile::TempDir,
    always: Vec<(&'static str, String)>,
}

impl Entra {
    /// A server over TLS that gives out tokens of so many seconds.
    fn start(token_seconds: i64) -> Entra {
        let entra = EntraConfig { token_seconds, ..EntraConfig::default() };
        let server = Emulator::start(Config { tls: true, entra, ..Config::default() }).unwrap();
        server.create_share(SHARE);
        let home = tempfile::tempdir().unwrap();
        let authority = home.path().join("authority.pem");
        fs::write(&authority, server.authority_pem().unwrap()).unwrap();
        server.install_az(home.path(), 3600).unwrap();
        let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
        let always = vec![
            ("SSL_CERT_FILE", authority.into_os_string().into_string().unwrap()),
            ("AZURE_STORAGE_FILE_ENDPOINT", server.endpoint()),
            ("AZURE_AUTHORITY_HOST", server.authority_host()),
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.imds_host()),
            ("PATH", path),
        ];
        Entra { server, home, always }
    }

    fn drive(&self, name: &str, login: &[(&str, &str)]) -> Drive {
        let share = format!("azfiles://{}/{SHARE}", self.server.account());
        let always = self.always.iter().map(|(name, value)| (*name, value.as_str()));
        let all: Vec<(&str, &str)> = always.chain(login.iter().copied()).collect();
        Drive::over(&format!("azure-entra-{name}"), &share, &all, &["--debounce", "0s"])
    }
}

#[test]
fn every_login_of_entra_works_over_tls() {
    let entra = Entra::start(3600);
    let EntraConfig { client_id, client_secret, federated_token, .. } = EntraConfig::default();
    let token = entra.home.path().join("token");
    fs::write(&token, format!("{federated_token}\n")).unwrap();
    let application = [("AZURE_TENANT_ID", TENANT), ("AZURE_CLIENT_ID", &*client_id)];
    let secret = ("AZURE_CLIENT_SECRET", &*client_secret);
    let file = ("AZURE_FEDERATED_TOKEN_FILE", token.to_str().unwrap());
    let kind = |name| ("AZURE_TOKEN_CREDENTIALS", name);
    for (name, login) in [
        ("secret", vec![application[0], application[1], secret]),
        ("workload", vec![application[0], application[1], file]),
        ("machine", vec![kind("ManagedIdentityCredential")]),
        ("az", vec![kind("AzureCliCredential")]),
    ] {
        let mut drive = entra.drive(name, &login);
        drive.start();
        fs::write(drive.mnt.join(name), name).unwrap();
        drive.sync();
        assert_eq!(entra.server.read(SHARE, name).unwrap(), name.as_bytes());
        // What did not change of a big file the service copies, by the same login.
        let mut bytes = pattern(1, 9 << 20);
        fs::write(drive.mnt.join("big"), &bytes).unwrap();
        drive.sync();
        let copies = entra.server.count(Operation::PutRangeFromUrl);
        bytes[100] ^= 1;
        let file = fs::File::options().write(true).open(drive.mnt.join("big")).unwrap();
        file.write_all_at(&bytes[100..101], 100).unwrap();
        drop(file);
        drive.sync();
        assert!(entra.server.read(SHARE, "big").unwrap() == bytes, "{name}");
        assert_eq!(entra.server.count(Operation::PutRangeFromUrl) - copies, 2, "{name}");
        drive.unmount();
    }
    let given = [Operation::GetToken, Operation::GetMachineToken].map(|op| entra.server.count(op));
    assert_eq!(given, [2, 1], "a token serves many requests");
    let wrong = entra.drive("wrong", &[]);
    let mut all: Vec<(&str, &str)> =
        entra.always.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.extend([application[0], application[1], ("AZURE_CLIENT_SECRET", "hunter2")]);
    let (code, said) = refused(&wrong, &all, &[]);
    assert!(code == 1 && said.contains("client secret is wrong"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

/// Tokens are fetched ahead of their end, and at once when one is refused.
#[test]
fn tokens_are_renewed() {
    let entra = Entra::start(6);
    let mut drive =
        entra.drive("renew", &[("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")]);
    drive.start();
    let given = || entra.server.count(Operation::GetMachineToken);
    until("a third token is fetched", Duration::from_secs(30), || {
        fs::read_dir(&drive.mnt).unwrap();
        given() >= 3
    });
    assert!(drive.status()["online"] == true);
    let before = given();
    entra.server.revoke_tokens();
    entra.server.write(SHARE, "f", b"x");
    until("the drive goes on with a new token", FRESH, || drive.mnt.join("f").exists());
    assert_eq!(fs::read(drive.mnt.join("f")).unwrap(), b"x");
    assert!(given() > before);
    let refused = entra.server.log().iter().filter(|logged| logged.status == 401).count();
    assert!(refused <= 3, "only the revoked one was refused: {refused}");
}

/// A mount that must fail; what it says on standard error, which must be one line.
fn refused(drive: &Drive, environment: &[(&str, &str)], args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_covefs"));
    command.arg("mount").arg(drive.share_name()).arg(&drive.mnt);
    command.arg("--cache-dir").arg(&drive.cache).args(args);
    command.envs(environment.iter().copied());
    let output = run(&mut command, Duration::from_secs(60));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    (output.status.code().unwrap(), said)
}

#[test]
fn a_login_that_does_not_work_is_said_in_one_line() {
    let site = Site::new("login", &[]);
    let Site { drive, server } = &site;
    let wrong = format!(
        "AccountName={};AccountKey=aHVudGVyMg==;FileEndpoint={}",
        server.account(),
        server.endpoint()
    );
    let right = server.connection_string();
    let string = "AZURE_STORAGE_CONNECTION_STRING";
    let (code, said) = refused(drive, &[], &[]);
    assert!(code == 2 && said.contains("set AZURE_STORAGE_CONNECTION_STRING"), "{said}");
    let (code, said) = refused(drive, &[(string, &wrong)], &[]);
    assert!(code == 1 && said.contains("the key or the token for the account"), "{said}");
    assert!(!said.contains("aHVudGVy"), "{said}");
    server.set_clock_skew_seconds(7200);
    let (code, said) = refused(drive, &[(string, &right)], &[]);
    assert!(code == 1 && said.contains("clock is"), "{said}");
    server.set_clock_skew_seconds(0);
    let file = drive.scratch("login").join("file");
    fs::write(&file, format!("{string}={right}\n")).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let named = ["--credentials", file.to_str().unwrap()];
    let (code, said) = refused(drive, &[], &named);
    assert!(code == 2 && said.contains("chmod 600"), "{said}");
    let elsewhere = format!("azfiles://{}/elsewhere", server.account());
    let missing = Drive::over("azure-missing", &elsewhere, &[], &[]);
    let (code, said) = refused(&missing, &[(string, &right)], &[]);
    assert!(code == 1 && said.contains("has no share elsewhere"), "{said}");
}

// Secrets are in no argument, log, status or cache.
#[test]
fn the_login_shows_nowhere() {
    let server = Emulator::start(Config::default()).unwrap();
    server.create_share(SHARE);
    let share = format!("azfiles://{}/{SHARE}", server.account());
    let mut drive = Drive::over("azure-secret", &share, &[], &["--debounce", "0s"]);
    let file = drive.scratch("login").join("file");
    let line = format!("AZURE_STORAGE_CONNECTION_STRING={}\n", server.connection_string());
    fs::write(&file, line).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    drive.add_argument(&format!("--credentials={}", file.display()));
    drive.start();
    fs::write(drive.mnt.join("f"), b"x").unwrap();
    drive.sync();
    let secret = server.key().as_bytes();
    let holds = |bytes: &[u8]| bytes.windows(20).any(|part| part == &secret[..20]);
    let arguments = fs::read(format!("/proc/{}/cmdline", drive.pid())).unwrap();
    assert!(!holds(&arguments));
    assert!(!holds(drive.status().to_string().as_bytes()));
    drive.unmount();
    assert!(!holds(&fs::read(drive.log_file()).unwrap()));
    let mut left = vec![drive.cache.clone()];
    let mut files = 0;
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => {
                    files += 1;
                    assert!(!holds(&fs::read(&path).unwrap()), "{}", path.display());
                }
            }
        }
    }
    assert!(files > 3);
}
