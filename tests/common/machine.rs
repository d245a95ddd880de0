//! What the machine offers: FUSE, a real disk, the mount table.

use super::run;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Panics where no FUSE filesystem can be mounted: a test that cannot run here says so aloud.
pub fn require_fuse() {
    let fuse = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if let Err(error) = fuse {
        panic!("this test mounts a drive and cannot run here: /dev/fuse: {error}");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join("fusermount3").exists());
    assert!(
        is_root() || found,
        "this test mounts a drive and cannot run here: no fusermount3 \
         (apt-get install fuse3, or run as root)"
    );
}

/// Panics on a filesystem in memory: the cache refuses it (U1), and st_blocks mean nothing there.
pub fn require_disk(dir: &Path) {
    const TMPFS: u64 = 0x0102_1994;
    let kind = rustix::fs::statfs(dir).unwrap().f_type as u64;
    assert!(kind != TMPFS, "{} is in memory: set CARGO_TARGET_DIR to a disk", dir.display());
}

/// All mountpoints below `dir`, deepest last.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap();
    let points = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescape(field))))
    });
    points.filter(|point| point.starts_with(dir)).collect()
}

pub fn is_mounted(dir: &Path) -> bool {
    mounts_below(dir).iter().any(|point| point == dir)
}

/// Takes a mount out of the tree, whether or not anybody serves it.
pub fn detach(dir: &Path) {
    while is_mounted(dir) {
        if is_root() {
            rustix::mount::unmount(dir, rustix::mount::UnmountFlags::DETACH).unwrap();
        } else {
            let mut command = Command::new("fusermount3");
            run::succeed(command.args(["-u", "-z", "--"]).arg(dir), Duration::from_secs(30));
        }
    }
}

/// Ends the connection of a mount: every request still open fails. The mount stays if it is in use.
pub fn abort(dir: &Path) {
    if is_root() {
        let _ = rustix::mount::unmount(dir, rustix::mount::UnmountFlags::FORCE);
    }
}

/// Connections to a server of this machine that it may still take requests from: those whose client has
/// gone, and those that it has not accepted yet, among them. Only the kernel knows of these.
pub fn connections_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    const CLOSE_WAIT: &str = "08";
    let port = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let is_one = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&port))
            && matches!(words.nth(1), Some(ESTABLISHED | CLOSE_WAIT))
    };
    table.lines().filter(is_one).count()
}

/// The mount table writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| first == b'\\');
        let octal =
            digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    bytes
}
