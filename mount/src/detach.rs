//! Looking for mounts and ending them, from whatever process: the daemon, or `covefs unmount`.

use crate::mounts::MountInfo;
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a mount is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detach {
    /// Only if nobody uses it; else `ResourceBusy`.
    Unused,
    /// Out of sight at once; it ends when the last user is gone.
    Lazy,
    /// As `Lazy`, and every call that waits for it fails at once. For a dead one; what runs in a
    /// live one is cut off.
    Force,
}

/// Ends the mount at `mountpoint`: by umount(2), or, for a user who may not, by `fusermount3 -u`.
/// `ResourceBusy` says that somebody uses it, `InvalidInput` that nothing is mounted there.
pub fn unmount(mountpoint: &Path, how: Detach) -> io::Result<()> {
    let mountpoint = resolve(mountpoint)?;
    match unmount_self(&mountpoint, how) {
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            unmount_by_helper(&mountpoint, how)
        }
        result => result,
    }
}

/// Whether a mount is there whose process is gone: every call on it fails.
pub fn is_dead(mountpoint: &Path) -> bool {
    let gone = Errno::NOTCONN.raw_os_error();
    std::fs::metadata(mountpoint).is_err_and(|error| error.raw_os_error() == Some(gone))
}

/// What is mounted at exactly this place; of several, the topmost, which is the one to be seen.
/// `None` also where the system keeps no table to look in.
pub fn mounted(path: &Path) -> Option<MountInfo> {
    let path = resolve(path).ok()?;
    mounts().ok()?.into_iter().rfind(|mount| mount.mountpoint == path)
}

/// All mounts that this process can see, in the order in which they were made.
#[cfg(target_os = "linux")]
pub fn mounts() -> io::Result<Vec<MountInfo>> {
    Ok(crate::mounts::parse_mountinfo(&std::fs::read("/proc/self/mountinfo")?))
}

/// All mounts that this process can see; there is no table to look in.
#[cfg(not(target_os = "linux"))]
pub fn mounts() -> io::Result<Vec<MountInfo>> {
    Ok(Vec::new())
}

/// The path without symlinks. The last part is only asked whether it is a symlink, which the
/// kernel answers for a mountpoint without its filesystem: stat of a dead mount is an error, of a
/// stuck one waits for ever, and of one that does not answer yet, by the thread that is to make it
/// answer, too.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    const SYMLINKS_MAX: usize = 40;
    // Without a trailing `/` or `/.`, which would look behind a symlink.
    let mut path: PathBuf = path.components().collect();
    for _ in 0..SYMLINKS_MAX {
        let Some(name) = path.file_name() else { return path.canonicalize() };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).canonicalize()?;
        let whole = parent.join(name);
        match std::fs::read_link(&whole) {
            Ok(target) => path = parent.join(target).components().collect(),
            Err(_) => return Ok(whole),
        }
    }
    Err(Errno::LOOP.into())
}

#[cfg(target_os = "linux")]
fn unmount_self(mountpoint: &Path, how: Detach) -> io::Result<()> {
    use rustix::mount::UnmountFlags;

    let flags = match how {
        Detach::Unused => UnmountFlags::NOFOLLOW,
        Detach::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
        Detach::Force => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH | UnmountFlags::FORCE,
    };
    Ok(rustix::mount::unmount(mountpoint, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn unmount_self(mountpoint: &Path, how: Detach) -> io::Result<()> {
    let mut command = Command::new("umount");
    if how != Detach::Unused {
        command.arg("-f");
    }
    run(command.arg("--").arg(mountpoint))
}

/// fusermount3 is allowed what its caller is not; older systems have it without the 3.
fn unmount_by_helper(mountpoint: &Path, how: Detach) -> io::Result<()> {
    let mut result = Ok(());
    for helper in ["fusermount3", "fusermount"] {
        let mut command = Command::new(helper);
        command.arg("-u");
        if how != Detach::Unused {
            command.arg("-z");
        }
        result = run(command.arg("--").arg(mountpoint));
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return result;
        }
    }
    result.map_err(|error| {
        let what = "fusermount3 is not installed: apt install fuse3, or unmount as root";
        io::Error::new(error.kind(), what)
    })
}

/// Runs a helper. What it says is all there is to know why it failed.
fn run(command: &mut Command) -> io::Result<()> {
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::new(helper_error(&said), said.trim().to_owned()))
}

fn helper_error(said: &str) -> io::ErrorKind {
    let said = said.to_ascii_lowercase();
    if said.contains("busy") {
        io::ErrorKind::ResourceBusy
    } else if said.contains("not found in") || said.contains("invalid argument") {
        io::ErrorKind::InvalidInput
    } else if said.contains("not permitted") || said.contains("permission denied") {
        io::ErrorKind::PermissionDenied
    } else {
        io::ErrorKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_mounted_and_alive() {
        if cfg!(target_os = "linux") {
            assert_eq!(mounted(Path::new("/")).unwrap().mountpoint, Path::new("/"));
            assert!(mounted(Path::new("/proc/self/nothing")).is_none());
        }
        assert!(!is_dead(Path::new("/")));
        assert!(!is_dead(Path::new("/no such directory")));
    }

    #[test]
    fn what_is_not_mounted_cannot_be_unmounted() {
        let directory = tempfile::tempdir().unwrap();
        assert!(unmount(directory.path(), Detach::Unused).is_err());
        assert!(mounted(directory.path()).is_none());
    }

    #[test]
    fn what_helpers_say_is_understood() {
        let busy = "fusermount3: failed to unmount /m: Device or resource busy\n";
        assert_eq!(helper_error(busy), io::ErrorKind::ResourceBusy);
        let absent = "fusermount3: entry for /m not found in /etc/mtab\n";
        assert_eq!(helper_error(absent), io::ErrorKind::InvalidInput);
        let foreign = "fusermount3: /m: Operation not permitted";
        assert_eq!(helper_error(foreign), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn symlinks_to_a_mountpoint_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("real")).unwrap();
        std::os::unix::fs::symlink("real", top.join("link")).unwrap();
        std::os::unix::fs::symlink("round", top.join("round")).unwrap();
        assert!(resolve(&top.join("round")).is_err());
        for name in ["real", "real/", "link", "link/.", "real/../real"] {
            assert_eq!(resolve(&top.join(name)).unwrap(), top.join("real"), "{name}");
        }
        assert_eq!(resolve(Path::new("/")).unwrap(), Path::new("/"));
    }
}
