//! One share, one cache, one mountpoint, and the process that joins them.

use super::machine::{self, is_mounted};
use super::{run, wait};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// From the start of the process to a mount that answers.
const START: Duration = Duration::from_secs(30);
/// From SIGKILL to the end of a process that no request of the kernel holds.
const KILL: Duration = Duration::from_secs(3);
/// From the request to end to the end of the process.
const STOP: Duration = Duration::from_secs(60);
/// An upload of all that a test wrote; a `dir:` share takes hundreds of MB a second.
const DRAIN: Duration = Duration::from_secs(120);
/// The site's name, as conflict copies show it.
pub const SITE: &str = "testsite";

/// The running process. A thread waits for its end, so that nobody who looks at its id takes a
/// process that ended for one that runs.
struct Daemon {
    id: u32,
    /// Means this very process even when its number is used again.
    handle: OwnedFd,
    ended: JoinHandle<ExitStatus>,
}

impl Daemon {
    fn of(mut child: Child) -> Daemon {
        let id = child.id();
        let pid = Pid::from_child(&child);
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let ended = std::thread::spawn(move || child.wait().unwrap());
        Daemon { id, handle, ended }
    }

    /// SIGKILL, unless it ended before.
    fn kill(self, mnt: &Path) -> ExitStatus {
        let _ = rustix::process::pidfd_send_signal(&self.handle, Signal::KILL);
        // A thread of it that has a name forgotten waits in the kernel for the directory's lock,
        // whose holder waits for an answer of ours: only the connection's end frees them.
        if !wait::try_until(KILL, || self.ended.is_finished()) {
            machine::abort(mnt);
        }
        self.status()
    }

    /// Waits for its end.
    fn status(self) -> ExitStatus {
        self.ended.join().unwrap()
    }
}

pub struct Drive {
    root: PathBuf,
    pub share: PathBuf,
    pub cache: PathBuf,
    pub mnt: PathBuf,
    /// Another share than `share`, as `covefs mount` is told it.
    named: Option<String>,
    environment: Vec<(String, String)>,
    args: Vec<String>,
    daemon: Option<Daemon>,
    allowed: Vec<&'static str>,
}

impl Drive {
    /// Makes the directories; nothing is mounted yet. `args` go to each `covefs mount`, and stand
    /// after the harness's own, so that they win.
    pub fn new(name: &str, args: &[&str]) -> Drive {
        machine::require_fuse();
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(&home).unwrap();
        machine::require_disk(&home);
        sweep(&home);
        let root = home.join(format!("{name}.{}", std::process::id()));
        let drive = Drive {
            share: root.join("share"),
            cache: root.join("cache"),
            mnt: root.join("mnt"),
            named: None,
            environment: Vec::new(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            daemon: None,
            allowed: Vec::new(),
            root,
        };
        fs::create_dir_all(&drive.share).unwrap();
        fs::create_dir_all(&drive.mnt).unwrap();
        drive.make_cache();
        drive
    }

    /// The drive of another share than its own directory, with these variables set.
    pub fn over(name: &str, share: &str, environment: &[(&str, &str)], args: &[&str]) -> Drive {
        let mut drive = Drive::new(name, args);
        drive.named = Some(share.to_owned());
        drive.set_variables(environment);
        drive
    }

    /// Variables of each `covefs mount`.
    pub fn set_variables(&mut self, variables: &[(&str, &str)]) {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment = variables.iter().map(pair).collect();
    }

    /// One more argument of each `covefs mount`.
    pub fn add_argument(&mut self, argument: &str) {
        self.args.push(argument.to_owned());
    }

    /// Another site of the same share.
    pub fn beside(&self, name: &str, args: &[&str]) -> Drive {
        let mut drive = Drive::new(name, args);
        drive.share = self.share.clone();
        drive
    }

    /// As `new`, and mounted.
    pub fn mounted(name: &str, args: &[&str]) -> Drive {
        let mut drive = Drive::new(name, args);
        drive.start();
        drive
    }

    /// Lines of WARN and ERROR that hold this text are expected; any other in the log fails the
    /// test at its end.
    pub fn allow(&mut self, text: &'static str) {
        self.allowed.push(text);
    }

    /// A place on the same disk for what a test needs besides share and mount.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Starts the process and returns when the mount answers.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "already started");
        let log = fs::File::options().create(true).append(true).open(self.output()).unwrap();
        // If this test process is killed, nobody else would end the daemon.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_covefs"), "mount"]);
        command.arg(self.share_name()).arg(&self.mnt);
        command.args(["--foreground", "--freshness", "1s", "--site", SITE]);
        if !self.args.iter().any(|arg| arg == "--cache-size") {
            command.args(["--cache-size", "256MiB"]);
        }
        command.arg("--cache-dir").arg(&self.cache).arg("--log").arg(self.log_file());
        // With 0s the kernel reads by itself whatever it can: any test can be run that way.
        if let Some(age) = std::env::var_os("COVEFS_LEND_AGE") {
            command.arg("--lend-age").arg(age);
        }
        command.args(&self.args).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect("setpriv (package util-linux) runs");
        self.daemon = Some(Daemon::of(child));
        wait::until("the drive is mounted", START, || {
            self.assert_alive();
            is_mounted(&self.mnt)
        });
        let mnt = self.mnt.clone();
        wait::within("stat of the mount's root", START, move || fs::metadata(mnt).unwrap());
    }

    /// The share as `covefs mount` is told it.
    pub fn share_name(&self) -> String {
        if let Some(named) = &self.named {
            return named.clone();
        }
        format!("dir:{}", self.share.to_str().expect("the target directory's path is UTF-8"))
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("started").id
    }

    fn assert_alive(&mut self) {
        if self.daemon.as_ref().expect("started").ended.is_finished() {
            let status = self.daemon.take().expect("started").status();
            panic!("covefs mount ended with {status}:\n{}", self.said());
        }
    }

    /// Ends the process with SIGKILL; its mount stays, dead.
    pub fn kill(&mut self) {
        self.daemon.take().expect("started").kill(&self.mnt);
    }

    /// Takes a dead mount out of the way.
    pub fn detach(&self) {
        machine::detach(&self.mnt);
    }

    /// `covefs SUBCOMMAND MOUNTPOINT ARGS`, whatever its end.
    pub fn try_covefs(&self, subcommand: &str, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_covefs"));
        command.arg(subcommand).arg(&self.mnt).args(args);
        run::run(&mut command, DRAIN)
    }

    /// The same, which must succeed; returns what it printed.
    pub fn covefs(&self, subcommand: &str, args: &[&str]) -> String {
        let output = self.try_covefs(subcommand, args);
        assert!(
            output.status.success(),
            "covefs {subcommand} {args:?} ended with {}:\n{}{}\nThe drive says:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.said()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Uploads everything; afterwards nothing is dirty.
    pub fn sync(&self) {
        self.covefs("sync", &["--wait"]);
        let status = self.status();
        assert_eq!(status["cache"]["dirty_bytes"], 0, "dirty after sync --wait: {status:#}");
        assert_eq!(status["uploads"]["waiting"], 0, "waiting after sync --wait: {status:#}");
    }

    pub fn status(&self) -> serde_json::Value {
        let text = self.covefs("status", &["--json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in status: {text}"))
    }

    /// Waits until `status` says online, or offline. Somebody must ask the share for something to
    /// learn that it is away: here, what is in the root, in a process of its own that may hang.
    pub fn wait_online(&self, online: bool) {
        let what = if online { "the share is online" } else { "the share is offline" };
        wait::until(what, Duration::from_secs(30), || {
            run::run(Command::new("ls").arg("-l").arg(&self.mnt), Duration::from_secs(30));
            self.status()["online"] == online
        });
    }

    /// `covefs unmount` of a drive with nothing dirty; the process must end by itself, with
    /// success.
    pub fn unmount(&mut self) {
        self.covefs("unmount", &[]);
        self.wait_for_end();
    }

    /// The same of a drive with something dirty, which is said by the exit code (rule U6).
    pub fn unmount_dirty(&mut self) {
        let output = self.try_covefs("unmount", &[]);
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        self.wait_for_end();
    }

    fn wait_for_end(&mut self) {
        let daemon = self.daemon.as_ref().expect("started");
        if !wait::try_until(STOP, || daemon.ended.is_finished()) {
            panic!("the process still runs {STOP:?} after unmount:\n{}", self.said());
        }
        let status = self.daemon.take().expect("started").status();
        assert!(!is_mounted(&self.mnt), "unmounted");
        assert!(status.success(), "ended with {status}:\n{}", self.said());
    }

    /// Uploads, unmounts and removes the cache: what counts now is the share alone.
    pub fn drain_and_wipe(&mut self) {
        self.drain_and_keep();
        self.wipe_cache();
    }

    /// Uploads and unmounts; the cache stays.
    pub fn drain_and_keep(&mut self) {
        self.sync();
        self.unmount();
    }

    /// Unmounts and mounts again with an empty cache: every file is cold.
    pub fn make_cold(&mut self) {
        self.drain_and_wipe();
        self.start();
    }

    pub fn wipe_cache(&self) {
        assert!(self.daemon.is_none(), "not under a running drive");
        fs::remove_dir_all(&self.cache).unwrap();
        self.make_cache();
    }

    fn make_cache(&self) {
        fs::create_dir_all(&self.cache).unwrap();
        fs::set_permissions(&self.cache, fs::Permissions::from_mode(0o700)).unwrap();
    }

    pub fn log_file(&self) -> PathBuf {
        self.root.join("covefs.log")
    }

    /// Warnings and errors that the test did not list, and panics, which nobody may list.
    fn unexpected(&self) -> Vec<String> {
        let read = |file| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        let log = read(self.log_file());
        let unlisted = log.lines().filter(|line| {
            let level = line.contains(" WARN ") || line.contains(" ERROR ");
            // The kernel took the question back before it was answered: whoever asked was killed.
            let taken_back = line.contains("Failed to send FUSE reply: No such file or directory");
            level && !taken_back && !self.allowed.iter().any(|text| line.contains(text))
        });
        let output = read(self.output());
        let panics = output.lines().filter(|line| line.contains("panicked at"));
        let bad = unlisted.chain(panics);
        bad.take(20).map(str::to_owned).collect()
    }

    fn output(&self) -> PathBuf {
        self.root.join("output")
    }

    /// The last lines of the process's own output; in the foreground they hold its log too.
    pub fn said(&self) -> String {
        let bytes = fs::read(self.output()).unwrap_or_default();
        let all = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill(&self.mnt);
        }
        self.detach();
        let unexpected = self.unexpected();
        if std::thread::panicking() || !unexpected.is_empty() {
            eprintln!("The drive said:\n{}", self.said());
            // The name of a failed one has no process id: `sweep` leaves it.
            let kept = self.root.with_extension("failed");
            let _ = fs::remove_dir_all(&kept);
            let _ = fs::rename(&self.root, &kept);
            eprintln!("kept: {}", kept.display());
        } else if machine::mounts_below(&self.root).is_empty() {
            let _ = fs::remove_dir_all(&self.root);
        }
        let fine = std::thread::panicking() || unexpected.is_empty();
        assert!(fine, "the log has what this test did not list:\n{}", unexpected.join("\n"));
    }
}

/// Removes what a killed test run left: its directories end with its process id.
fn sweep(home: &Path) {
    for entry in fs::read_dir(home).unwrap().flatten() {
        let pid = entry.path().extension().and_then(OsStr::to_str).map(str::to_owned);
        let Some(pid) = pid.filter(|pid| pid.parse::<u32>().is_ok()) else { continue };
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        let mounts = machine::mounts_below(&entry.path());
        mounts.iter().rev().for_each(|mount| machine::detach(mount));
        if machine::mounts_below(&entry.path()).is_empty() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
