//! A login from the keyring: the real program, a Secret Service of the test's own (gnome-keyring on a
//! bus of its own), and keyrings that are locked, missing, or never answer.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../remote/tests/samba/mod.rs"]
mod samba;

use azure_files_emulator::{Config, Emulator};
use common::{Drive, pattern, succeed, until};
use samba::{PASSWORD, PLAIN, Samba, not_run};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A session without anything in it but a bus, and maybe a keyring.
struct Session {
    dir: tempfile::TempDir,
    bus: Child,
    keyring: Option<Child>,
    address: String,
}

impl Session {
    /// With a bus alone; `None`, said aloud, where there can be none.
    fn start() -> Option<Session> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).exists());
        let needed = ["dbus-daemon", "dbus-send", "gnome-keyring-daemon"];
        if let Some(missing) = needed.into_iter().find(|name| !is_there(name)) {
            not_run(&format!("no {missing} (apt-get install dbus gnome-keyring)"));
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::set_permissions(dir.path().join("run"), PermissionsExt::from_mode(0o700)).unwrap();
        // It starts no service by itself, so that none of this machine's is.
        let config = format!(
            "<busconfig><type>session</type><listen>unix:dir={}</listen>\
             <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
             <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy>\
             </busconfig>",
            dir.path().display()
        );
        fs::write(dir.path().join("bus.conf"), config).unwrap();
        let mut bus = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "dbus-daemon", "--nofork", "--print-address=1"])
            .arg("--config-file")
            .arg(dir.path().join("bus.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Session { dir, bus, keyring: None, address: address.trim().to_owned() })
    }

    /// With a keyring that is unlocked.
    fn with_keyring() -> Option<Session> {
        let mut session = Session::start()?;
        session.run_keyring(&["--unlock"]);
        Some(session)
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let at = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        vec![
            ("DBUS_SESSION_BUS_ADDRESS", self.address.clone()),
            ("XDG_RUNTIME_DIR", at("run")),
            ("XDG_DATA_HOME", at("data")),
            ("HOME", at("")),
        ]
    }

    fn run_keyring(&mut self, how: &[&str]) {
        let mut keyring = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "gnome-keyring-daemon", "--foreground"])
            .arg("--components=secrets")
            .args(how)
            .envs(self.variables())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        keyring.stdin.take().unwrap().write_all(b"of the keyring").unwrap();
        self.keyring = Some(keyring);
        until("the keyring is on the bus", LONG, || {
            let mut ask = Command::new("dbus-send");
            ask.arg(format!("--bus={}", self.address)).args([
                "--print-reply",
                "--dest=org.freedesktop.DBus",
                "/",
            ]);
            ask.args(["org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets"]);
            succeed(&mut ask, LONG).contains("true")
        });
    }

    /// The keyring is there, and nobody has unlocked it.
    fn lock(&mut self) {
        end(self.keyring.take());
        self.run_keyring(&[]);
    }
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        end(self.keyring.take());
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

/// Runs the command in a session, with a line to read; its exit code and all that it said.
fn covefs(variables: &[(&str, String)], words: &[&str], line: &str) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_covefs"))
        .args(words)
        .env_remove("PASSWD")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(line.as_bytes());
    let Output { status, stdout, stderr } =
        common::within("the command", LONG, move || child.wait_with_output().unwrap());
    let said = [stdout, stderr].concat();
    (status.code(), String::from_utf8(said).unwrap())
}

#[track_caller]
fn expect(session: &Session, words: &[&str], line: &str, code: i32, wanted: &str) {
    let (ended, said) = covefs(&session.variables(), words, line);
    assert_eq!(ended, Some(code), "{words:?}: {said}");
    assert!(said.contains(wanted), "{words:?}: {said}");
    assert!(!said.contains("hunter2") && !said.contains("AccountKey"), "{words:?}: {said}");
}

/// No file below a directory has this text.
fn assert_nowhere(dir: &Path, secret: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere(&path, secret);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let has = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!has, "{} has a secret", path.display());
        }
    }
}

/// Writes and reads through a drive that a keyring's login has mounted.
fn check_drive(drive: &mut Drive, secret: &str) {
    let bytes = pattern(7, 100_000);
    fs::write(drive.mnt.join("file"), &bytes).unwrap();
    drive.sync();
    assert_eq!(fs::read(drive.mnt.join("file")).unwrap(), bytes);
    for of in ["cmdline", "environ"] {
        let text = fs::read(format!("/proc/{}/{of}", drive.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(secret), "{of} has the secret");
    }
    drive.unmount();
    assert_nowhere(drive.cache.parent().unwrap(), secret);
}

#[test]
fn a_password_in_the_keyring_mounts_shares_of_that_server() {
    let Some(session) = Session::with_keyring() else { return };
    let Some(server) = Samba::start() else { return };
    let share = format!("smb://root@127.0.0.1:{}/{PLAIN}", server.port);
    let refused = ["mount", &share, "/nowhere"];
    expect(&session, &refused, "", 2, "covefs login smb://USER@HOST/SHARE");
    let other = share.replace(PLAIN, "any");
    let kept = "the password of root at 127.0.0.1 is in the keyring";
    expect(&session, &["login", &other], "wrong\n", 0, kept);
    expect(&session, &["login", &other], &format!("{PASSWORD}\n"), 0, kept);
    expect(&session, &["snapshots", &share], "", 0, "has no snapshots");
    let variables = session.variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
    let mut drive = Drive::over("keyring-smb", &share, &variables, &[]);
    drive.start();
    check_drive(&mut drive, PASSWORD);
    expect(&session, &["logout", &share], "", 0, "no longer in the keyring");
    expect(&session, &["logout", &share], "", 1, "the keyring has no password of root");
    expect(&session, &refused, "", 2, "no password for 127.0.0.1");
}

#[test]
fn a_key_in_the_keyring_mounts_shares_of_that_account() {
    let Some(session) = Session::with_keyring() else { return };
    let server = Emulator::start(Config::default()).unwrap();
    server.create_share("docs");
    let share = format!("azfiles://{}/docs", server.account());
    let string = server.connection_string();
    let key = string.split("AccountKey=").nth(1).unwrap().split(';').next().unwrap().to_owned();
    expect(&session, &["login", &share], "no key!\n", 2, "AZURE_STORAGE_KEY in the keyring");
    expect(&session, &["login", &share], &format!("{string}\n"), 0, "is in the keyring");
    let variables = session.variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
    let mut drive = Drive::over("keyring-azure", &share, &variables, &[]);
    drive.start();
    check_drive(&mut drive, &key);
    // In the background, the command asks the keyring and hands the key to the daemon.
    let (mnt, cache) = (drive.mnt.to_str().unwrap(), drive.cache.to_str().unwrap());
    expect(&session, &["mount", &share, mnt, "--cache-dir", cache], "", 0, "is mounted at");
    assert_eq!(fs::read(drive.mnt.join("file")).unwrap(), pattern(7, 100_000));
    expect(&session, &["unmount", mnt], "", 0, "");
    assert_nowhere(drive.cache.parent().unwrap(), &key);
}

#[test]
fn a_locked_keyring_is_said_and_gone_past() {
    let Some(mut session) = Session::with_keyring() else { return };
    let Some(server) = Samba::start() else { return };
    let share = format!("smb://root@127.0.0.1:{}/{PLAIN}", server.port);
    expect(&session, &["login", &share], &format!("{PASSWORD}\n"), 0, "is in the keyring");
    session.lock();
    let words = ["mount", &share, "/nowhere"];
    expect(&session, &words, "", 2, "was not found in the keyring: it is locked");
    let login = server.login_file();
    let file = ["snapshots", &share, "--credentials", login.to_str().unwrap()];
    expect(&session, &file, "", 0, "has no snapshots");
    expect(
        &session,
        &["login", &share],
        "other\n",
        1,
        "cannot be kept in the keyring: it is locked",
    );
}

#[test]
fn without_a_keyring_nothing_is_waited_for() {
    let Some(mut session) = Session::start() else { return };
    let mount = ["mount", "smb://me@127.0.0.1:1/x", "/nowhere"];
    let login = ["login", "smb://me@127.0.0.1:1/x"];
    expect(&session, &mount, "", 2, "no password for 127.0.0.1");
    expect(&session, &login, "hunter2\n", 1, "cannot be kept in the keyring: there is none");
    session.address = "unix:path=/nowhere/bus".into();
    expect(&session, &mount, "", 2, "no password for 127.0.0.1");
    expect(&session, &login, "hunter2\n", 1, "cannot be kept in the keyring: there is none");
    expect(&session, &["login", "dir:/srv"], "", 2, "a directory needs no login");
}

#[test]
fn a_bus_that_never_answers_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    let _silent = UnixListener::bind(&socket).unwrap();
    let variables = [("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", socket.display()))];
    let begin = Instant::now();
    let (code, said) = covefs(&variables, &["mount", "smb://me@127.0.0.1:1/x", "/nowhere"], "");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("in the keyring: it does not answer"), "{said}");
    assert!(said.contains("no password for 127.0.0.1"), "{said}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}
