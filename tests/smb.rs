//! A drive of an SMB share: the real program over a Samba server of its own, with others who edit
//! the same share, a server that is killed, kills of the drive, and logins that fail.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "smb/extended.rs"]
mod extended;
#[path = "../remote/tests/samba/mod.rs"]
mod samba;
#[path = "smb/states.rs"]
mod states;
#[path = "smb/storm.rs"]
mod storm;
#[path = "smb/told.rs"]
mod told;

use common::{Drive, first_difference, pattern, until};
use rustix::io::Errno;
use samba::{PLAIN, SECRET, Samba};
use serde_json::Value::Null;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The drives here run with --freshness 1s; a slow machine gets the rest.
const FRESH: Duration = Duration::from_secs(30);

/// What a drive of a share that comes and goes may say in its log.
const AWAY: &[&str] = &[
    "the share is out of reach",
    "the outcome of a change stays unknown",
    "an upload failed; it is tried again",
    "the replaced file stays aside",
];

struct Site {
    /// First, so that it ends before its share does.
    drive: Drive,
    server: Samba,
    share: &'static str,
}

impl Site {
    fn over(name: &str, share: &'static str) -> Option<Site> {
        let server = Samba::start()?;
        let named = format!("smb://127.0.0.1:{}/{share}", server.port);
        let login = server.login_file();
        let args = ["--credentials", login.to_str().unwrap()];
        let mut drive = Drive::over(&format!("smb-{name}"), &named, &[], &args);
        AWAY.iter().for_each(|text| drive.allow(text));
        Some(Site { drive, server, share })
    }

    fn mounted(name: &str) -> Option<Site> {
        let mut site = Site::over(name, PLAIN)?;
        site.drive.start();
        Some(site)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.drive.mnt.join(name)
    }

    /// Another client gets these bytes.
    #[track_caller]
    fn same_there(&self, name: &str, expected: &[u8]) {
        let found = self.server.get(self.share, &name.replace('/', "\\"));
        assert_eq!(first_difference(expected, &found), None, "{name} on the share");
    }

    #[track_caller]
    fn same_here(&self, name: &str, expected: &[u8]) {
        let found = fs::read(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(first_difference(expected, &found), None, "{name} on the drive");
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.at(name)).unwrap().permissions().mode() & 0o7777
    }

    /// Nothing of ours is left on the share.
    #[track_caller]
    fn assert_clean(&self) {
        let names = self.server.names(self.share);
        assert!(!names.iter().any(|name| name.contains(".~covefs-")), "left: {names:?}");
    }
}

#[test]
fn files_are_browsed_read_once_and_then_from_here() {
    for share in [PLAIN, SECRET] {
        let Some(mut site) = Site::over("read", share) else { return };
        let (small, big) = (pattern(1, 70_000), pattern(2, 9 << 20));
        let disk = site.server.disk(share);
        fs::create_dir_all(disk.join("dir/sub")).unwrap();
        for (name, bytes) in [("dir/sub/small", &small), ("big", &big)] {
            fs::write(disk.join(name), bytes).unwrap();
            // What was written a moment ago is asked for once more (S5).
            let hour_ago = SystemTime::now() - Duration::from_secs(3600);
            let file = fs::File::options().write(true).open(disk.join(name)).unwrap();
            file.set_modified(hour_ago).unwrap();
        }
        site.drive.start();
        let names = fs::read_dir(&site.drive.mnt).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["big", "dir"]);
        site.same_here("dir/sub/small", &small);
        site.same_here("big", &big);
        let statfs = rustix::fs::statvfs(&site.drive.mnt).unwrap();
        assert!(statfs.f_blocks > 0 && statfs.f_bavail > 0);
        // Hot reads need no server.
        site.server.kill();
        site.same_here("big", &big);
        site.same_here("dir/sub/small", &small);
        site.server.run();
    }
}

#[test]
fn what_is_written_reaches_the_share_byte_for_byte() {
    let Some(mut site) = Site::mounted("write") else { return };
    let (one, two) = (pattern(1, 100_000), pattern(2, 13 << 20));
    fs::create_dir_all(site.at("a/b")).unwrap();
    fs::write(site.at("a/b/one"), &one).unwrap();
    fs::write(site.at("two"), &two).unwrap();
    std::os::unix::fs::symlink("a/b/one", site.at("link")).unwrap();
    fs::write(site.at("closed"), b"x").unwrap();
    fs::set_permissions(site.at("closed"), PermissionsExt::from_mode(0o444)).unwrap();
    // As git makes its objects.
    let mut made =
        fs::File::options().mode(0o444).write(true).create_new(true).open(site.at("made")).unwrap();
    made.write_all(b"once").unwrap();
    drop(made);
    assert_eq!(site.mode("made"), 0o444);
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_700);
    fs::File::options().write(true).open(site.at("two")).unwrap().set_modified(time).unwrap();
    site.drive.sync();
    site.same_there("a/b/one", &one);
    site.same_there("two", &two);
    // An editor's way: a new file is renamed over the old one. And one rewritten in place.
    fs::write(site.at("a/b/.one.tmp"), &two).unwrap();
    fs::rename(site.at("a/b/.one.tmp"), site.at("a/b/one")).unwrap();
    fs::write(site.at("a/short"), b"short").unwrap();
    fs::rename(site.at("a/short"), site.at("moved")).unwrap();
    site.drive.make_cold();
    site.same_there("a/b/one", &two);
    site.same_here("a/b/one", &two);
    site.same_here("moved", b"short");
    site.same_here("link", &two);
    assert_eq!(fs::read_link(site.at("link")).unwrap(), Path::new("a/b/one"));
    assert_eq!(fs::metadata(site.at("two")).unwrap().modified().unwrap(), time);
    assert_eq!((site.mode("made"), site.mode("closed"), site.mode("moved")), (0o444, 0o444, 0o644));
    fs::remove_file(site.at("two")).unwrap();
    fs::remove_dir_all(site.at("a")).unwrap();
    site.drive.sync();
    assert_eq!(site.server.names(PLAIN), ["closed", "link", "made", "moved"]);
    site.assert_clean();
}

#[test]
fn edits_of_other_clients_are_seen_and_conflicts_keep_both() {
    let Some(mut site) = Site::over("edits", PLAIN) else { return };
    site.drive.add_argument("--debounce=1h");
    site.drive.allow("changed on both sides");
    site.drive.start();
    fs::write(site.at("f"), b"base").unwrap();
    fs::write(site.at("g"), b"base of g").unwrap();
    site.drive.sync();
    site.server.put(PLAIN, "f", b"edited by another client");
    site.server.put(PLAIN, "new", b"new");
    let reads = |name: &str, bytes: &[u8]| fs::read(site.at(name)).is_ok_and(|it| it == bytes);
    until("an edit is seen", FRESH, || reads("f", b"edited by another client"));
    until("a new file is seen", FRESH, || reads("new", b"new"));
    // Both change g: theirs keeps the name. Ours first: once theirs shows, it is what ours edits.
    fs::write(site.at("g"), b"ours, of another size").unwrap();
    site.server.put(PLAIN, "g", b"theirs");
    site.drive.sync();
    until("theirs has the name", FRESH, || reads("g", b"theirs"));
    let copy = site.server.names(PLAIN).into_iter().find(|name| name.starts_with("g-testsite"));
    site.same_there(&copy.expect("a conflict copy"), b"ours, of another size");
    site.same_there("g", b"theirs");
    site.server.smbclient(PLAIN, "rm new");
    until("a removed file is gone", FRESH, || !site.at("new").exists());
    site.assert_clean();
}

#[test]
fn a_server_that_is_killed_and_a_drive_that_is_killed_lose_nothing() {
    let Some(mut site) = Site::mounted("kills") else { return };
    let bytes = |number: u64| pattern(number, 300_000 + number as usize);
    for number in 0..10 {
        fs::write(site.at(&format!("f{number}")), bytes(number)).unwrap();
    }
    site.server.kill();
    // The drive goes on without the share.
    fs::write(site.at("offline"), b"written while the server was away").unwrap();
    site.same_here("f3", &bytes(3));
    site.drive.kill();
    site.drive.detach();
    site.server.run();
    site.drive.start();
    for number in 0..10 {
        site.same_here(&format!("f{number}"), &bytes(number));
    }
    site.server.kill();
    site.server.run();
    site.drive.wait_online(true);
    site.drive.sync();
    for number in 0..10 {
        site.same_there(&format!("f{number}"), &bytes(number));
    }
    site.same_there("offline", b"written while the server was away");
    assert!(fs::metadata(site.at("offline")).unwrap().size() > 0);
    let is_clean = || site.server.names(PLAIN).iter().all(|name| !name.contains(".~covefs-"));
    until("nothing of ours is left on the share", Duration::from_secs(30), is_clean);
}

/// What a mount says, on one line, that must be refused.
fn refused(server: &Samba, share: &str, login: &Path, args: &[&str]) -> String {
    let place = tempfile::tempdir().unwrap();
    let mnt = place.path().join("mnt");
    fs::create_dir(&mnt).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_covefs"));
    command.arg("mount").arg(format!("smb://127.0.0.1:{}/{share}", server.port)).arg(&mnt);
    command.arg("--credentials").arg(login);
    command.arg("--cache-dir").arg(place.path().join("cache")).args(args);
    let done = common::run(&mut command, Duration::from_secs(60));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.trim().lines().count() == 1, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    said
}

#[test]
fn a_login_that_fails_is_one_clear_line() {
    let Some(server) = Samba::start() else { return };
    let place = tempfile::tempdir().unwrap();
    let login = place.path().join("login");
    let mount = |share: &str| refused(&server, share, &login, &[]);
    fs::write(&login, "username=root\npassword=hunter2 wrong\n").unwrap();
    fs::set_permissions(&login, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(mount(PLAIN).contains("chmod 600"));
    fs::set_permissions(&login, PermissionsExt::from_mode(0o600)).unwrap();
    assert!(mount(PLAIN).contains("refuses the login of 'root'"));
    fs::copy(server.login_file(), &login).unwrap();
    assert!(mount("nowhere").contains("has no share nowhere"));
}

/// What making a name says.
fn make(path: &Path) -> Option<Errno> {
    let made = fs::File::options().write(true).create_new(true).open(path);
    made.err().map(|error| Errno::from_io_error(&error).unwrap())
}

#[test]
fn reserved_characters_are_stored_as_other_systems_store_them() {
    let Some(mut site) = Site::mounted("reserved") else { return };
    let names = ["a:b", "trailing.", "trailing ", "...", "tab\tand\nline", r#"?*<>|"\"#];
    for name in names {
        fs::create_dir(site.at(&format!("d {name}"))).unwrap();
        fs::write(site.at(&format!("d {name}/{name}")), name).unwrap();
    }
    fs::rename(site.at("d a:b/a:b"), site.at("d a:b/b:a")).unwrap();
    site.drive.make_cold();
    for name in &names[1..] {
        site.same_here(&format!("d {name}/{name}"), name.as_bytes());
    }
    site.same_here("d a:b/b:a", b"a:b");
    // As the kernel's cifs maps them.
    let disk = site.server.disk(PLAIN);
    assert!(disk.join("d a\u{f022}b/b\u{f022}a").exists(), "{:?}", site.server.names(PLAIN));
    assert!(disk.join("d trailing\u{f029}/trailing\u{f029}").exists());
    assert!(disk.join("d tab\u{f009}and\u{f00a}line").exists());
    site.assert_clean();
}

#[test]
fn names_that_the_share_cannot_hold_are_refused_at_once() {
    let Some(site) = Site::mounted("names") else { return };
    let name = |bytes: &[u8]| site.drive.mnt.join(std::ffi::OsStr::from_bytes(bytes));
    for bad in [&b"\xff"[..], "\u{f022}".as_bytes(), b"aux", b"COM1", b".~covefs-1"] {
        assert_eq!(make(&name(bad)), Some(Errno::INVAL), "{bad:?}");
        assert_eq!(fs::create_dir(name(bad)).unwrap_err().raw_os_error(), Some(22), "{bad:?}");
    }
    // This server's disk counts bytes, and a reserved one takes three.
    for (fits, long) in
        [("n".repeat(255), "n".repeat(256)), ("\u{20ac}".repeat(85), "\u{20ac}".repeat(86))]
    {
        assert_eq!(make(&name(fits.as_bytes())), None);
        assert_eq!(make(&name(long.as_bytes())), Some(Errno::NAMETOOLONG));
    }
    assert_eq!(make(&name(":".repeat(85).as_bytes())), None);
    assert_eq!(make(&name(":".repeat(86).as_bytes())), Some(Errno::NAMETOOLONG));
    // All of them replaced too, and nothing is found out at the upload.
    site.drive.sync();
    for fits in ["n".repeat(255), "\u{20ac}".repeat(85), ":".repeat(85)] {
        fs::write(name(fits.as_bytes()), "again").unwrap();
    }
    site.drive.sync();
    let there = site.server.names(PLAIN);
    assert_eq!(there.len(), 3, "{there:?}");
    for found in there {
        assert_eq!(fs::read(site.server.disk(PLAIN).join(&found)).unwrap(), b"again", "{found}");
    }
}

#[test]
fn a_name_that_differs_in_case_alone_is_taken() {
    let Some(site) = Site::mounted("case") else { return };
    fs::write(site.at("Readme"), "Readme").unwrap();
    fs::create_dir(site.at("Dir")).unwrap();
    fs::write(site.at("other"), "other").unwrap();
    for _ in 0..2 {
        assert_eq!(make(&site.at("README")), Some(Errno::EXIST));
        let exists = std::io::ErrorKind::AlreadyExists;
        assert_eq!(fs::create_dir(site.at("dir")).unwrap_err().kind(), exists);
        let moved = fs::rename(site.at("other"), site.at("readme"));
        assert_eq!(moved.unwrap_err().kind(), exists);
        let link = std::os::unix::fs::symlink("x", site.at("OTHER"));
        assert_eq!(link.unwrap_err().kind(), exists);
        site.drive.sync();
    }
    // Its own name may change in case.
    fs::rename(site.at("Readme"), site.at("README")).unwrap();
    fs::rename(site.at("Dir"), site.at("DIR")).unwrap();
    assert_eq!(make(&site.at("Readme")), Some(Errno::EXIST));
    site.drive.sync();
    assert_eq!(site.server.names(PLAIN), ["DIR", "README", "other"]);
    // Away from it, or gone, the name is free.
    fs::rename(site.at("README"), site.at("DIR/README")).unwrap();
    fs::remove_file(site.at("other")).unwrap();
    site.drive.sync();
    assert_eq!(make(&site.at("readme")), None);
    assert_eq!(make(&site.at("OTHER")), None);
    site.drive.sync();
    assert_eq!(site.server.names(PLAIN), ["DIR", "OTHER", "readme"]);
    site.same_there("DIR/README", b"Readme");
}

#[test]
fn status_says_how_the_server_is_spoken_to() {
    let Some(mut site) = Site::mounted("spoken") else { return };
    let connection = site.drive.status()["connection"].clone();
    assert_eq!(connection["protocol"], "SMB 3.1.1");
    assert_eq!(connection["cipher"], "AES-128-GCM");
    let line = "connection SMB 3.1.1, encrypted and signed (AES-128-GCM)";
    assert!(site.drive.covefs("status", &[]).contains(line));
    site.drive.drain_and_wipe();
    site.drive.add_argument("-o");
    site.drive.add_argument("smb-encrypt=off");
    site.drive.start();
    let connection = site.drive.status()["connection"].clone();
    assert_eq!((&connection["signing"], &connection["cipher"]), (&"AES-128-GMAC".into(), &Null));
}

#[test]
fn encryption_that_is_required_and_missing_is_one_clear_line() {
    let Some(server) = Samba::start_with("server smb encrypt = off") else { return };
    let said = refused(&server, PLAIN, &server.login_file(), &["--smb-encrypt", "required"]);
    assert!(said.contains("encryption is required, and the server has none"), "{said}");
    let said = refused(&server, PLAIN, &server.login_file(), &["--smb-encrypt", "perhaps"]);
    assert!(said.contains("'perhaps' is none of auto, required, off"), "{said}");
}

/// A mount that was typed at a terminal, and ends with the test.
struct Typed {
    mnt: PathBuf,
    child: std::process::Child,
    /// Last: all else lies in it.
    _place: tempfile::TempDir,
}

impl Drop for Typed {
    fn drop(&mut self) {
        common::detach(&self.mnt);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_password_is_asked_for_on_a_terminal() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let Some(server) = Samba::start() else { return };
    // Not below /tmp, which may be in memory.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mnt = place.path().join("mnt");
    fs::create_dir(&mnt).unwrap();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let person = fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_covefs"));
    command.arg("mount").arg(format!("smb://TEST;root@127.0.0.1:{}/{PLAIN}", server.port));
    command.arg(&mnt).args(["--cache-size", "64MiB", "--cache-dir"]);
    command.arg(place.path().join("cache")).env_remove("PASSWD");
    command.stdin(person.try_clone().unwrap()).stdout(person.try_clone().unwrap());
    let child = command.stderr(person).spawn().unwrap();
    let mut typed = Typed { mnt, child, _place: place };
    let shown = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let (screen, mut reader) = (shown.clone(), fs::File::from(terminal));
    let mut keys = reader.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 1000];
        // The terminal ends with its last program.
        while let Ok(count @ 1..) = std::io::Read::read(&mut reader, &mut bytes) {
            screen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    let says = |text: &str| shown.lock().unwrap().contains(text);
    until("it asks", FRESH, || says("Password of root at 127.0.0.1: "));
    std::io::Write::write_all(&mut keys, format!("{}\n", samba::PASSWORD).as_bytes()).unwrap();
    until("the drive is mounted", FRESH, || says("is mounted at"));
    assert!(typed.child.wait().unwrap().success());
    assert!(!says("hunter2"), "what was typed is shown: {}", shown.lock().unwrap());
    fs::write(typed.mnt.join("f"), "over a login that was typed").unwrap();
    let mut unmount = std::process::Command::new(env!("CARGO_BIN_EXE_covefs"));
    let unmount = unmount.arg("unmount").arg(&typed.mnt).arg("--wait");
    assert!(common::run(unmount, Duration::from_secs(60)).status.success());
    assert_eq!(server.get(PLAIN, "f"), b"over a login that was typed");
}
