//! The command on Windows, as far as it goes without WinFsp's driver: under Wine, or on a machine that
//! has no WinFsp. The control pipe is tested beside its code.
#![cfg(windows)]
#![allow(clippy::unwrap_used)]

use azure_files_emulator::{Config, Emulator};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the command with its state below `home`: exit code, standard output, standard error.
fn covefs(program: &Path, home: &Path, words: &[&str], variables: &[(&str, &str)]) -> Told {
    let mut command = Command::new(program);
    command.args(words).env("LOCALAPPDATA", home).env("APPDATA", home).stdin(Stdio::null());
    for name in ["AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_KEY"] {
        command.env_remove(name);
    }
    let Output { status, stdout, stderr } =
        command.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told { code: status.code(), out: text(stdout), error: text(stderr) }
}

/// What the command said.
#[derive(Debug)]
struct Told {
    code: Option<i32>,
    out: String,
    error: String,
}

#[track_caller]
fn check(words: &[&str], code: i32, out: &str, error: &str) {
    let home = tempfile::tempdir().unwrap();
    let told = covefs(Path::new(env!("CARGO_BIN_EXE_covefs")), home.path(), words, &[]);
    assert_eq!(told.code, Some(code), "{words:?}: {told:?}");
    assert!(told.out.contains(out) && told.error.contains(error), "{words:?}: {told:?}");
    assert!(told.error.lines().count() <= 1, "{words:?}: {told:?}");
}

#[test]
fn help_and_versions_are_told() {
    check(&["--version"], 0, env!("CARGO_PKG_VERSION"), "");
    check(&["--help"], 0, "Exit codes: 0 done", "");
    check(&["mount", "--help"], 0, "--cache-size", "");
    check(&["service", "--help"], 0, "uninstall", "");
    check(&["completions", "powershell"], 0, "Register-ArgumentCompleter", "");
}

#[test]
fn where_nothing_is_mounted_it_is_said() {
    check(&["status"], 0, "no drive is mounted", "");
    check(&["status", "--json"], 0, "[]", "");
    check(&["status", "--all"], 0, "no drive is mounted", "");
    for verb in ["status", "unmount", "sync", "conflicts"] {
        check(&[verb, "x:\\"], 1, "", "X: does not exist; `covefs status` lists the drives");
    }
    check(&["why", "C:\\windows"], 1, "", "is not on a covefs drive");
    check(&["evict", "C:\\nothing"], 1, "", "no such file or directory");
    check(&["check", "C:\\windows"], 1, "", "is no cache directory");
}

#[test]
fn mistakes_are_one_line() {
    check(&["mount"], 2, "", "covefs mount --help");
    check(&["mount", "dir:", "X:"], 2, "", "dir: needs a path");
    check(&["mount", "dir:C:\\nowhere", "X:"], 1, "", "dir:C:\\nowhere does not exist");
    check(&["mount", "dir:C:\\windows\\win.ini", "X:"], 1, "", "is not a directory");
    check(&["mount", "azfiles://acme/docs", "X:"], 2, "", "no login for the storage account acme");
    check(&["service", "install", "azfiles://acme/docs", "X:"], 2, "", "--credentials FILE");
    check(&["service", "run", "azfiles://acme/docs", "X:"], 2, "", "what Windows calls");
}

const LOGIN: (&str, &str) =
    ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=acme;AccountKey=aHVudGVyMg==");

/// Whether WinFsp is there for a program at this place.
fn has_winfsp(program: &Path) -> bool {
    let beside = program.with_file_name("winfsp-x64.dll").exists();
    beside || Path::new(r"C:\Program Files (x86)\WinFsp").exists()
}

#[test]
fn without_winfsp_the_message_says_where_it_is() {
    let program = Path::new(env!("CARGO_BIN_EXE_covefs"));
    if has_winfsp(program) {
        println!("NOT RUN: WinFsp is installed");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    for words in [
        &["mount", "azfiles://acme/docs", "X:"][..],
        &["mount", "dir:C:\\users", "X:"],
        &["mount", "azfiles://acme/docs", "X:", "--foreground"],
        &["demo", "--check"],
    ] {
        let told = covefs(program, home.path(), words, &[LOGIN]);
        assert_eq!(told.code, Some(1), "{told:?}");
        assert!(told.error.contains("WinFsp is missing: install it from https://winfsp.dev"));
        assert!(told.error.contains("winget install WinFsp.WinFsp"), "{told:?}");
    }
    let left = std::fs::read_dir(home.path().join("covefs")).map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "something is left of what was refused");
}

/// WinFsp's library without its driver, as it is under Wine: what was begun is taken back.
#[test]
fn without_winfsp_s_driver_nothing_is_left_behind() {
    let Ok(library) = std::env::var("WINE_DLLS") else {
        println!("NOT RUN: only under Wine is there no driver beside WinFsp's library");
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("covefs.exe");
    std::fs::copy(env!("CARGO_BIN_EXE_covefs"), &program).unwrap();
    for name in ["winfsp-x64.dll", "bcryptprimitives.dll"] {
        std::fs::copy(Path::new(&library).join(name), home.path().join(name)).unwrap();
    }
    let server = Emulator::start(Config::default()).unwrap();
    server.create_share("docs");
    let share = format!("azfiles://{}/docs", server.account());
    let login = server.connection_string();
    let variables = [("AZURE_STORAGE_CONNECTION_STRING", &*login)];
    for end in [&["--foreground"][..], &[]] {
        let words = [&["mount", &share, "X:"][..], end].concat();
        let told = covefs(&program, home.path(), &words, &variables);
        assert_eq!(told.code, Some(1), "{told:?}");
        assert!(told.error.contains("WinFsp"), "{told:?}");
        let told = covefs(&program, home.path(), &["status"], &[]);
        assert!(told.out.contains("no drive is mounted"), "{told:?}");
    }
    // The cache that was made is whole, and nobody has it.
    let caches = std::fs::read_dir(home.path().join("covefs")).unwrap();
    let cache =
        caches.map(|entry| entry.unwrap().path()).find(|dir| dir.join("cache.json").exists());
    let told = covefs(&program, home.path(), &["check", cache.unwrap().to_str().unwrap()], &[]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.contains("0 problems found"), "{told:?}");
}

/// Runs the command with a line to read.
fn told_a_line(words: &[&str], line: &str) -> Told {
    let mut child = Command::new(env!("CARGO_BIN_EXE_covefs"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told { code: status.code(), out: text(stdout), error: text(stderr) }
}

#[test]
fn logins_are_kept_in_the_credential_manager() {
    let server = Emulator::start(Config::default()).unwrap();
    server.create_share("docs");
    let azure = format!("azfiles://{}/docs", server.account());
    let string = server.connection_string();
    let smb = "smb://me@127.0.0.1:1/docs";
    for (share, secret, code) in [(&*azure, &*string, 0), (smb, "hunter2 \u{e4}", 1)] {
        let snapshots = ["snapshots", share];
        check(&snapshots, 2, "", "covefs login");
        let told = told_a_line(&["login", share], &format!("{secret}\r\n"));
        assert_eq!(told.code, Some(0), "{told:?}");
        assert!(told.out.contains("is in the keyring"), "{told:?}");
        let home = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_covefs"));
        // With a login it goes on to the server, of which the second one is not there.
        let told = covefs(program, home.path(), &snapshots, &[]);
        assert_eq!(told.code, Some(code), "{told:?}");
        assert!(!told.error.contains("hunter2") && !told.error.contains("login"), "{told:?}");
        check(&["logout", share], 0, "no longer in the keyring", "");
        check(&["logout", share], 1, "", "the keyring has no");
        check(&snapshots, 2, "", "covefs login");
    }
    let told = told_a_line(&["login", &azure], "no key!\n");
    assert_eq!(told.code, Some(2), "{told:?}");
    let told = told_a_line(&["login", smb], &format!("{}\n", "x".repeat(3000)));
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.error.contains("it keeps at most"), "{told:?}");
}

/// A service without WinFsp ends at once, and whoever installs it reads why.
#[test]
fn a_service_is_installed_and_taken_away() {
    let program = Path::new(env!("CARGO_BIN_EXE_covefs"));
    if has_winfsp(program) {
        println!("NOT RUN: WinFsp is installed");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let login = home.path().join("login");
    std::fs::write(&login, format!("{}={}", LOGIN.0, LOGIN.1)).unwrap();
    let login = login.to_str().unwrap();
    let ask = |words: &[&str]| covefs(program, home.path(), words, &[]);
    // What an earlier run may have left.
    ask(&["service", "uninstall", "Q:"]);
    let install = ["service", "install", "azfiles://acme/docs", "Q:", "--credentials", login];
    let told = ask(&install);
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.error.contains("ended at once: WinFsp is missing"), "{told:?}");
    let told = ask(&install);
    assert!(told.error.contains("covefs service uninstall Q:"), "{told:?}");
    let told = ask(&["service", "uninstall", "q:"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let told = ask(&["service", "uninstall", "Q:"]);
    assert!(told.error.contains("there is no service covefs-Q"), "{told:?}");
}
