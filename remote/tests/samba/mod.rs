//! A Samba server of the test's own: a free port of the loopback, everything it keeps in a
//! temporary directory, ended by its process group.
#![allow(dead_code)]

use covefs_remote::smb::{Login, SmbConfig, SmbRemote};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(30);

/// The password of the one account.
pub const PASSWORD: &str = "hunter2 %&'\"";

/// The shares: as any is; encrypted only; with snapshots; with streams beside the bytes of files, in
/// extended attributes and in files; the first one again, for readers.
pub const PLAIN: &str = "plain";
pub const SECRET: &str = "secret";
pub const SNAPS: &str = "snaps";
pub const STREAMS: &str = "streams";
pub const DEPOT: &str = "depot";
pub const READERS: &str = "readers";

pub struct Samba {
    dir: tempfile::TempDir,
    pub port: u16,
    user: String,
    server: Option<Child>,
}

impl Samba {
    /// A running server; `None`, said aloud, where there can be none.
    pub fn start() -> Option<Samba> {
        Samba::start_with("")
    }

    /// The same with these lines among its global settings.
    pub fn start_with(settings: &str) -> Option<Samba> {
        if let Some(why) = unable() {
            not_run(&why);
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut samba = Samba { dir, port, user: "root".into(), server: None };
        samba.prepare(settings);
        samba.run();
        Some(samba)
    }

    fn prepare(&self, settings: &str) {
        let at = |name: &str| self.dir.path().join(name);
        for name in [
            PLAIN, SECRET, SNAPS, STREAMS, DEPOT, "state", "private", "lock", "cache", "pid", "rpc",
        ] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let root = self.dir.path().display();
        let port = self.port;
        let config = format!(
            "[global]\n\
             server role = standalone server\nworkgroup = TEST\nnetbios name = COVEFS\n\
             smb ports = {port}\ninterfaces = 127.0.0.1/8\nbind interfaces only = yes\n\
             disable netbios = yes\nload printers = no\ndisable spoolss = yes\n\
             map to guest = never\nserver min protocol = SMB3\n\
             passdb backend = tdbsam:{root}/private/passdb.tdb\n\
             private dir = {root}/private\nlock directory = {root}/lock\n\
             state directory = {root}/state\ncache directory = {root}/cache\n\
             pid directory = {root}/pid\nncalrpc dir = {root}/rpc\n\
             log file = {root}/log\nlog level = 1\nmax log size = 0\n{settings}\n\
             [{PLAIN}]\npath = {root}/{PLAIN}\nread only = no\n\
             [{SECRET}]\npath = {root}/{SECRET}\nread only = no\nsmb encrypt = required\n\
             [{SNAPS}]\npath = {root}/{SNAPS}\nread only = no\nvfs objects = shadow_copy2\n\
             shadow:mountpoint = {root}/{SNAPS}\nshadow:snapdir = .snapshots\nshadow:sort = desc\nshadow:localtime = no\n\
             shadow:format = @GMT-%Y.%m.%d-%H.%M.%S\n\
             [{STREAMS}]\npath = {root}/{STREAMS}\nread only = no\nvfs objects = streams_xattr\n\
             [{DEPOT}]\npath = {root}/{DEPOT}\nread only = no\nvfs objects = streams_depot\n\
             [{READERS}]\npath = {root}/{PLAIN}\nread only = yes\n"
        );
        std::fs::write(at("smb.conf"), config).unwrap();
        let login = format!("username = {}\npassword = {PASSWORD}\ndomain = TEST\n", self.user);
        std::fs::write(at("login"), login).unwrap();
        std::fs::set_permissions(at("login"), PermissionsExt::from_mode(0o600)).unwrap();
        let mut add = Command::new("pdbedit")
            .args(["--create", "--password-from-stdin", "--user", &self.user, "--configfile"])
            .arg(at("smb.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = format!("{PASSWORD}\n{PASSWORD}\n");
        add.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(add.wait().unwrap().success(), "no account was made");
    }

    /// Adds these lines to its global settings, for the next start.
    pub fn set(&self, settings: &str) {
        let file = self.dir.path().join("smb.conf");
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, config.replace("[global]\n", &format!("[global]\n{settings}\n")))
            .unwrap();
    }

    /// Starts the server, again on the same port where one was.
    pub fn run(&mut self) {
        assert!(self.server.is_none(), "it runs");
        // It ends with us, whatever ends us.
        let server = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "smbd"])
            .args(["--foreground", "--no-process-group", "--configfile"])
            .arg(self.dir.path().join("smb.conf"))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.server = Some(server);
        let end = Instant::now() + LONG;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "smbd does not start: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// The whole server is gone at once, as by a power cut.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut server) = self.server.take() else { return };
        let group = Pid::from_child(&server);
        let _ = kill_process_group(group, signal);
        let end = Instant::now() + LONG;
        while server.try_wait().unwrap().is_none() && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        // Those that serve one connection each.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = server.wait();
    }

    /// The server falls silent with all its connections open, or goes on.
    pub fn freeze(&self, is_frozen: bool) {
        let group = Pid::from_child(self.server.as_ref().expect("it runs"));
        let signal = if is_frozen { Signal::STOP } else { Signal::CONT };
        kill_process_group(group, signal).unwrap();
    }

    /// Connections of clients that stand.
    pub fn connections(&self) -> usize {
        const ESTABLISHED: &str = "01";
        let port = format!(":{:04X}", self.port);
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let is_one = |line: &&str| {
            let mut words = line.split_whitespace().skip(1);
            words.next().is_some_and(|local| local.ends_with(&port))
                && words.nth(1) == Some(ESTABLISHED)
        };
        table.lines().filter(is_one).count()
    }

    /// What the server wrote down.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Where a share lies on the server's disk.
    pub fn disk(&self, share: &str) -> PathBuf {
        self.dir.path().join(share)
    }

    /// A `mount.cifs` file with the login.
    pub fn login_file(&self) -> PathBuf {
        self.dir.path().join("login")
    }

    pub fn login(&self) -> Login {
        let (user, domain) = (self.user.clone(), "TEST".into());
        Login { user, domain, password: PASSWORD.into(), ticket: None }
    }

    pub fn config(&self, share: &str) -> SmbConfig {
        SmbConfig { port: self.port, ..SmbConfig::new("127.0.0.1", share, self.login()) }
    }

    pub fn remote(&self, share: &str) -> SmbRemote {
        SmbRemote::new(self.config(share))
    }

    /// What another client does with a share; its output.
    pub fn smbclient(&self, share: &str, commands: &str) -> String {
        self.tries(share, commands).unwrap_or_else(|said| panic!("smbclient {commands}: {said}"))
    }

    /// The same where it may be refused.
    pub fn tries(&self, share: &str, commands: &str) -> Result<String, String> {
        self.client(share, "encrypt", commands)
    }

    /// The same by a client that only signs ("sign") or encrypts ("encrypt").
    pub fn client(&self, share: &str, how: &str, commands: &str) -> Result<String, String> {
        let done = Command::new("smbclient")
            .arg(format!("//127.0.0.1/{share}"))
            .args(["--port", &self.port.to_string(), "--authentication-file"])
            .arg(self.login_file())
            .arg("--configfile")
            .arg(self.dir.path().join("smb.conf"))
            .arg(format!("--client-protection={how}"))
            .args(["--max-protocol=SMB3", "--command", commands])
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        match done.status.success() {
            true => Ok(text),
            false => Err(text + &String::from_utf8_lossy(&done.stderr)),
        }
    }

    /// Another client puts these bytes at a name.
    pub fn put(&self, share: &str, name: &str, bytes: &[u8]) {
        let mut file = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        file.write_all(bytes).unwrap();
        self.smbclient(share, &format!("put {} {name}", file.path().display()));
    }

    /// What another client gets under a name.
    pub fn get(&self, share: &str, name: &str) -> Vec<u8> {
        let into = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        self.smbclient(share, &format!("get {name} {}", into.path().display()));
        std::fs::read(into.path()).unwrap()
    }

    /// All names on the disk of a share, ours too.
    pub fn names(&self, share: &str) -> Vec<String> {
        names(&self.disk(share))
    }
}

/// Why there can be no server here.
fn unable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("smbd has to be started as root".into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| std::env::split_paths(&path).any(|dir| dir.join(name).exists());
    let missing = ["smbd", "pdbedit", "smbclient"].into_iter().find(|name| !is_there(name))?;
    Some(format!("no {missing} (apt-get install samba samba-vfs-modules smbclient)"))
}

/// Says it past the harness, which keeps to itself what a test that passes prints; `test.sh` looks
/// for such lines.
pub fn not_run(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {why}");
}

/// A port that no connection of a client gets by chance: those are given from 32768 on.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(37);
    loop {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = 10_000 + number as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

impl Drop for Samba {
    fn drop(&mut self) {
        self.end(Signal::TERM);
    }
}
