//! Why a mount fails, in one line that says what to do about it.

use crate::detach;
use crate::options::MountOptions;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

const DEVICE: &str = "/dev/fuse";

/// Why a share was not mounted. `Display` is the one line for the user.
#[derive(Debug)]
pub enum MountError {
    /// There is no `/dev/fuse`.
    DeviceMissing,
    /// `/dev/fuse` may not be opened.
    DeviceForbidden,
    /// A user's mount needs `fusermount3`.
    HelperMissing,
    /// The system does not let this user (or, in a container, root) mount.
    NotPermitted(String),
    /// A user's mount for all needs `user_allow_other`.
    AllowOtherForbidden,
    /// There is no such directory.
    MountpointMissing(PathBuf),
    /// The mountpoint may not be looked at, or is not the user's.
    MountpointForbidden(PathBuf),
    /// The mountpoint is something else.
    NotADirectory(PathBuf),
    /// A mount is there whose process is gone.
    Dead(PathBuf),
    /// Something is mounted there.
    Busy(PathBuf, String),
    /// Anything else.
    Other(io::Error),
}

impl fmt::Display for MountError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MountError::DeviceMissing => write!(
                out,
                "{DEVICE} is missing: run `modprobe fuse`, or install it: `apt install fuse3`"
            ),
            MountError::DeviceForbidden => {
                write!(out, "{DEVICE} may not be opened: run `chmod 666 {DEVICE}` as root")
            }
            MountError::HelperMissing => {
                write!(out, "to mount without root fusermount3 is needed: run `apt install fuse3`")
            }
            MountError::NotPermitted(why) if why.is_empty() => {
                write!(out, "the system does not permit mounting (in a container: CAP_SYS_ADMIN)")
            }
            MountError::NotPermitted(why) => write!(out, "mounting is not permitted: {why}"),
            MountError::AllowOtherForbidden => write!(
                out,
                "allowing other users needs this line in /etc/fuse.conf: user_allow_other"
            ),
            MountError::MountpointMissing(path) => {
                write!(out, "mountpoint {} does not exist: create it first", path.display())
            }
            MountError::MountpointForbidden(path) => {
                write!(out, "mountpoint {} is not yours to mount on", path.display())
            }
            MountError::NotADirectory(path) => {
                write!(out, "mountpoint {} is not a directory", path.display())
            }
            MountError::Dead(path) => write!(
                out,
                "a mount at {} has lost its process: run `covefs unmount --force` on it first",
                path.display()
            ),
            MountError::Busy(path, what) => {
                write!(out, "mountpoint {} is in use: {what}", path.display())
            }
            MountError::Other(error) => write!(out, "mount: {error}"),
        }
    }
}

impl std::error::Error for MountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MountError::Other(error) => Some(error),
            _ => None,
        }
    }
}

/// Looks before leaping: these would fail later, with fewer words. The mountpoint without symlinks.
pub(crate) fn check(options: &MountOptions) -> Result<PathBuf, MountError> {
    let mountpoint = check_mountpoint(&options.mountpoint)?;
    if cfg!(target_os = "linux") {
        // A missing helper is noticed when fuser looks for it: where, only the caller's PATH says.
        check_device()?;
    }
    Ok(mountpoint)
}

fn check_mountpoint(path: &Path) -> Result<PathBuf, MountError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => MountError::MountpointMissing(path.to_owned()),
        io::ErrorKind::PermissionDenied => MountError::MountpointForbidden(path.to_owned()),
        io::ErrorKind::NotADirectory => MountError::NotADirectory(path.to_owned()),
        _ if detach::is_dead(path) => MountError::Dead(path.to_owned()),
        _ => MountError::Other(error),
    };
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Err(MountError::NotADirectory(path.to_owned()));
    }
    // Over another drive like this one it would hide that: surely a mistake.
    if let Some(there) = detach::mounted(path)
        && there.fstype.starts_with("fuse")
    {
        let what = format!("{} ({}) is mounted there", there.source, there.fstype);
        return Err(MountError::Busy(path.to_owned(), what));
    }
    path.canonicalize().map_err(failed)
}

fn check_device() -> Result<(), MountError> {
    match std::fs::OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(MountError::DeviceForbidden)
        }
        // ENOENT; ENODEV or ENXIO where the node is there and the module is not.
        Err(_) => Err(MountError::DeviceMissing),
    }
}

/// What fuser's error means. It has only words for what mount(2) and fusermount3 said.
pub(crate) fn from_fuser(error: io::Error, mountpoint: &Path) -> MountError {
    let said = error.to_string();
    let contains = |text: &str| said.contains(text);
    if contains("user_allow_other") {
        MountError::AllowOtherForbidden
    } else if contains("EBUSY") || contains("resource busy") {
        MountError::Busy(mountpoint.to_owned(), "the system says it is busy".into())
    } else if contains("ENODEV") || contains("No such device") {
        MountError::DeviceMissing
    } else if contains("has no write access to mountpoint") {
        MountError::MountpointForbidden(mountpoint.to_owned())
    } else if error.kind() == io::ErrorKind::NotFound {
        // Mountpoint and device were there: what is not is the helper, asked after an EPERM.
        MountError::HelperMissing
    } else if error.kind() == io::ErrorKind::PermissionDenied
        || contains("Operation not permitted")
        || contains("EACCES")
    {
        MountError::NotPermitted(first_line(&said))
    } else {
        MountError::Other(error)
    }
}

fn first_line(said: &str) -> String {
    said.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_words(kind: io::ErrorKind, said: &str, expected: &str) {
        let error = from_fuser(io::Error::new(kind, said), Path::new("/m"));
        let line = error.to_string();
        assert!(line.contains(expected), "{said:?} became {line:?}");
        assert_eq!(line.lines().count(), 1);
    }

    // rule U5
    #[test]
    fn what_the_system_said_becomes_what_to_do() {
        let other = io::ErrorKind::Other;
        let conf = "fusermount3: option allow_other only allowed if 'user_allow_other' is set in \
                    /etc/fuse.conf\n";
        check_words(io::ErrorKind::PermissionDenied, conf, "/etc/fuse.conf: user_allow_other");
        check_words(
            other,
            "Error calling mount() at \"/m\": EBUSY: Device or resource busy",
            "use",
        );
        check_words(other, "Error calling mount(): ENODEV: No such device", "modprobe fuse");
        check_words(io::ErrorKind::NotFound, "No such file", "apt install fuse3");
        check_words(other, "fusermount3: mount failed: Operation not permitted\n", "permitted");
        let access = "fusermount3: user has no write access to mountpoint /m\n";
        check_words(other, access, "not yours");
    }

    #[test]
    fn mountpoints_are_looked_at_first() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(check_mountpoint(top.path()).is_ok());
        let missing = check_mountpoint(&top.path().join("no"));
        assert!(matches!(missing, Err(MountError::MountpointMissing(_))));
        assert!(matches!(check_mountpoint(&file), Err(MountError::NotADirectory(_))));
        let below = check_mountpoint(&file.join("x"));
        assert!(matches!(below, Err(MountError::NotADirectory(_))));
    }
}
