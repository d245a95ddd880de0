//! A drive over an SMB share beside other clients of the same server, in one run: `smbclient` gets
//! a file, and so does the bare remote; `rclone mount` reads small files. A Samba server of its own
//! on the loopback. The caches lie on a file system of their own, made anew: on one without a journal
//! ext4 looks at each file that was removed within minutes before it makes another one, and each round
//! would pay for the one before. Numbers of a busy machine differ by half; ratios less.
//!
//! `cargo bench --bench smb`, as root; `COVEFS_BENCH_FILES=10000 COVEFS_BENCH_MIB=256` are what it does. Debian's
//! `rclone` is left out where it is not installed.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;
mod measure;
#[path = "../remote/tests/samba/mod.rs"]
mod samba;

use common::{Drive, Random, detach, env_number, is_mounted, succeed, until};
use covefs_remote::smb::{Encrypt, SmbConfig, SmbRemote};
use covefs_remote::{Remote, RemotePath};
use futures_util::StreamExt;
use measure::{ROUNDS, middle, read_file, show_each, show_rate, time, write_file};
use samba::{PASSWORD, PLAIN, Samba};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// No step of the preparation takes longer.
const STEP: Duration = Duration::from_secs(60);
const SMALL_BYTES: u64 = 4096;
const FILES_OF_A_DIRECTORY: usize = 100;

fn main() {
    // `cargo test --benches` only wants to know that it can run.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let Some(server) = Samba::start() else { return };
    let (disk, mut random) = (server.disk(PLAIN), Random::new(1));
    let block = random.bytes(1 << 20);
    let bytes = env_number("COVEFS_BENCH_MIB", 256) << 20;
    // One for each round: none is read twice.
    (0..ROUNDS).for_each(|round| write_file(&disk.join(format!("big{round}")), bytes, &block));
    println!("{:<44} {:>10} {:>10} {:>7}", "", "smbclient", "covefs", "ratio");
    for (how, encrypt) in [("sign", Encrypt::Off), ("encrypt", Encrypt::Required)] {
        sequential(&server, how, encrypt, bytes);
    }
    let files = env_number("COVEFS_BENCH_FILES", 10_000) as usize;
    for number in 0..files {
        let dir = disk.join(format!("small/{}", number / FILES_OF_A_DIRECTORY));
        fs::create_dir_all(&dir).unwrap();
        write_file(&dir.join(number.to_string()), SMALL_BYTES, &block[..SMALL_BYTES as usize]);
    }
    println!("{:<44} {:>10} {:>10} {:>7}", "", "rclone", "covefs", "ratio");
    small_files(&server, files);
}

fn drive_of(server: &Samba, name: &str, encrypt: &str) -> Drive {
    let (named, login) = (format!("smb://127.0.0.1:{}/{PLAIN}", server.port), server.login_file());
    let args = ["--credentials", login.to_str().unwrap(), "--smb-encrypt", encrypt];
    let args = [&args[..], &["--cache-size", "2GiB", "--freshness", "10s"]].concat();
    Drive::over(name, &named, &[], &args)
}

/// One file from begin to end by three clients in turn, each the first to read it.
fn sequential(server: &Samba, how: &str, encrypt: Encrypt, bytes: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let word = if encrypt == Encrypt::Off { "off" } else { "required" };
    let mut drive = drive_of(server, &format!("bench-smb-{how}"), word);
    drive.start();
    let into = drive.scratch("got").join("big");
    let [mut theirs, mut bare, mut ours] = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        let name = format!("big{round}");
        let remote = SmbRemote::new(SmbConfig { encrypt, ..server.config(PLAIN) });
        let get = format!("get {name} {}", into.display());
        theirs.push(time(|| drop(server.client(PLAIN, how, &get).unwrap())));
        bare.push(time(|| assert_eq!(runtime.block_on(read_bare(&remote, &name)), bytes)));
        ours.push(time(|| assert_eq!(read_file(&drive.mnt.join(&name)), bytes)));
    }
    let theirs = middle(theirs);
    show_rate(&format!("read, cold, {how}: the bare remote"), bytes, theirs, middle(bare));
    show_rate(&format!("read, cold, {how}: the drive"), bytes, theirs, middle(ours));
    drive.unmount();
}

async fn read_bare(remote: &SmbRemote, name: &str) -> u64 {
    let path = RemotePath::parse(name.as_bytes());
    let found = remote.stat(&path).await.unwrap();
    let mut chunks = remote.read(&path, 0..found.size, &found.version).await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        bytes += chunk.unwrap().len() as u64;
    }
    bytes
}

/// Every small file, directory by directory, as `tar` would read them.
fn read_all(dir: &Path, files: usize) {
    let mut bytes = 0;
    for dir in fs::read_dir(dir).unwrap() {
        for file in fs::read_dir(dir.unwrap().path()).unwrap() {
            bytes += read_file(&file.unwrap().path());
        }
    }
    assert_eq!(bytes, files as u64 * SMALL_BYTES);
}

fn small_files(server: &Samba, files: usize) {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut drive = drive_of(server, &format!("bench-smb-small{round}"), "auto");
        let _disk = FreshDisk::mount(&drive);
        drive.start();
        if let Some(rclone) = Rclone::mount(server, &drive) {
            theirs.push(time(|| read_all(&rclone.mnt.join("small"), files)));
        }
        ours.push(time(|| read_all(&drive.mnt.join("small"), files)));
        drive.unmount();
    }
    let theirs = if theirs.is_empty() { Duration::ZERO } else { middle(theirs) };
    show_each("small file read whole, cold, 4 KiB", files, theirs, middle(ours));
}

/// A file system for the caches of both clients.
struct FreshDisk(Vec<PathBuf>);

impl FreshDisk {
    fn mount(drive: &Drive) -> FreshDisk {
        let (image, disk) = (drive.scratch("image").join("disk"), drive.scratch("disk"));
        fs::File::create(&image).unwrap().set_len(4 << 30).unwrap();
        succeed(Command::new("mkfs.ext4").arg("-q").arg(&image), STEP);
        succeed(Command::new("mount").args(["-o", "loop"]).args([&image, &disk]), STEP);
        let ours = disk.join("covefs");
        fs::create_dir(&ours).unwrap();
        fs::create_dir(disk.join("rclone")).unwrap();
        fs::set_permissions(&ours, PermissionsExt::from_mode(0o700)).unwrap();
        succeed(Command::new("mount").arg("--bind").args([&ours, &drive.cache]), STEP);
        FreshDisk(vec![drive.cache.clone(), disk])
    }
}

impl Drop for FreshDisk {
    fn drop(&mut self) {
        self.0.iter().for_each(|mount| detach(mount));
    }
}

/// The same share by `rclone`, which ends with this.
struct Rclone {
    mnt: PathBuf,
    process: Child,
}

impl Rclone {
    fn mount(server: &Samba, beside: &Drive) -> Option<Rclone> {
        let obscured = Command::new("rclone").args(["obscure", PASSWORD]).output().ok();
        let Some(obscured) = obscured.filter(|done| done.status.success()) else {
            println!("no rclone (apt-get install rclone)");
            return None;
        };
        let (mnt, cache) =
            (beside.scratch("rclone"), beside.cache.with_file_name("disk").join("rclone"));
        let process = Command::new("rclone")
            .args([
                "mount",
                &format!(":smb:{PLAIN}"),
                "--smb-host",
                "127.0.0.1",
                "--smb-user",
                "root",
            ])
            .args(["--smb-port", &server.port.to_string(), "--smb-domain", "TEST", "--smb-pass"])
            .arg(String::from_utf8(obscured.stdout).unwrap().trim())
            .args(["--config", "/dev/null", "--vfs-cache-mode", "full", "--cache-dir"])
            .args([&cache, &mnt])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let rclone = Rclone { mnt, process };
        until("rclone has mounted", Duration::from_secs(30), || is_mounted(&rclone.mnt));
        Some(rclone)
    }
}

impl Drop for Rclone {
    fn drop(&mut self) {
        common::detach(&self.mnt);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
