//! The root directory and its identity (rule X1): nothing is looked for below a root that is not
//! the one that was opened.
//!
//! A descriptor of the root is held all the time: while it is, the file system cannot give the
//! root's inode number to another directory.

use super::fail::{self, Fail, Outcome};
use super::resolve;
use super::stat::{self, ObjectId};
use crate::{ErrorKind, Existence, RemotePath, ShareIdentity};
use rustix::fs::{CWD, Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The root of a share, by path.
pub(super) struct Root {
    path: PathBuf,
    identity: ShareIdentity,
    /// The directory last seen to be the share's, and the descriptor that pins it.
    held: Mutex<(ObjectId, OwnedFd)>,
}

/// The root as verified for one operation: everything is resolved from its descriptor, so an
/// unmount in the middle cannot put another tree under it.
pub(super) struct View {
    pub(super) root: OwnedFd,
    /// The device of the root.
    pub(super) dev: u64,
}

impl Root {
    /// The directory at `path`; where an identity is known, no other one.
    pub(super) fn open(path: PathBuf, known: Option<&ShareIdentity>) -> Outcome<Root> {
        // A daemon changes its directory.
        let path = std::path::absolute(&path)
            .map_err(|error| Fail::saying(ErrorKind::Unreachable, error.to_string()))?;
        let fd = open_dir(&path)?;
        let id = stat::object_id(fd.as_fd())?;
        let identity = identity_of(fd.as_fd(), id)?;
        if known.is_some_and(|known| *known != identity) {
            return Err(another());
        }
        Ok(Root { path, identity, held: Mutex::new((id, fd)) })
    }

    /// Of the directory that was opened.
    pub(super) fn identity(&self) -> &ShareIdentity {
        &self.identity
    }

    /// What stands at the root's path now.
    pub(super) fn identity_now(&self) -> Outcome<ShareIdentity> {
        let fd = open_dir(&self.path)?;
        identity_of(fd.as_fd(), stat::object_id(fd.as_fd())?)
    }

    /// The root, if it is still the one that was opened; else `IdentityChanged`.
    pub(super) fn enter(&self) -> Outcome<View> {
        let root = open_dir(&self.path)?;
        let id = stat::object_id(root.as_fd())?;
        let known = self.held.lock().unwrap_or_else(PoisonError::into_inner).0;
        if id != known {
            // Mounted anew, the same file system may have another device number.
            if identity_of(root.as_fd(), id)? != self.identity {
                return Err(another());
            }
            let pinned = root.as_fd().try_clone_to_owned().map_err(cannot_hold)?;
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = (id, pinned);
        }
        Ok(View { root, dev: id.dev })
    }
}

fn another() -> Fail {
    let text = "another directory stands at the root's path".to_string();
    Fail::saying(ErrorKind::IdentityChanged, text)
}

fn cannot_hold(error: std::io::Error) -> Fail {
    Fail::saying(ErrorKind::Busy, error.to_string())
}

fn open_dir(path: &std::path::Path) -> Outcome<OwnedFd> {
    let flags = resolve::PIN | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
        let fail = Fail::from(errno);
        let kind = match fail.kind {
            ErrorKind::NotADirectory => ErrorKind::IdentityChanged,
            // No root tells nothing of what is on the share.
            kind if kind.existence() != Existence::Unknown => ErrorKind::Unreachable,
            kind => kind,
        };
        fail.of_kind(kind).about(&RemotePath::root())
    })
}

/// File-system id and inode of the root. The device number is no part of it: it may change with
/// every boot, and the identity is compared with one from before.
fn identity_of(root: std::os::fd::BorrowedFd<'_>, id: ObjectId) -> Outcome<ShareIdentity> {
    let fsid = rustix::fs::fstatvfs(root).map_err(|errno| match fail::kind(errno) {
        ErrorKind::NotFound => Fail::from(ErrorKind::Unreachable),
        _ => Fail::from(errno),
    })?;
    let file_system = match fsid.f_fsid {
        // NFS and FUSE have none.
        0 => mount_source(root).unwrap_or_else(|| format!("dev {:x}", id.dev)),
        fsid => format!("{fsid:016x}"),
    };
    Ok(ShareIdentity(format!("dir:{file_system}:{}", id.ino)))
}

/// What is mounted where the root lies (`server:/export`), the mark of a file system without id.
#[cfg(target_os = "linux")]
fn mount_source(root: std::os::fd::BorrowedFd<'_>) -> Option<String> {
    use rustix::fs::{AtFlags, StatxFlags};
    let found = rustix::fs::statx(root, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let wanted = found.stx_mnt_id.to_string();
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(&*wanted))?;
    // "36 35 98:0 /root /mountpoint options - type source options": the root within the source
    // is told by the inode.
    let (_, after) = line.split_once(" - ")?;
    let mut words = after.split(' ');
    let (kind, source) = (words.next()?, words.next()?);
    (source != "none").then(|| format!("{kind} {source}"))
}

#[cfg(not(target_os = "linux"))]
fn mount_source(_: std::os::fd::BorrowedFd<'_>) -> Option<String> {
    None
}
