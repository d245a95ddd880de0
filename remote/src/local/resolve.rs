//! Finding entries below the root without ever leaving it: no symlink is followed, no other file
//! system is entered.
//!
//! A file system mounted somewhere below the root is refused (`Unsupported`): once unmounted it
//! would list empty, and nothing would tell that from a deletion (X1).

use super::fail::Outcome;
use super::root::View;
use crate::{ErrorKind, RemotePath};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{self, Errno};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Opens an entry without asking for the right to read it.
#[cfg(target_os = "linux")]
pub(super) const PIN: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
pub(super) const PIN: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);

/// Longer paths than the kernel takes at once are walked name by name.
#[cfg(target_os = "linux")]
const PATH_BYTES_MAX: usize = 4000;

/// A name in an open directory.
pub(super) struct Place<'a> {
    pub(super) dir: OwnedFd,
    pub(super) name: &'a [u8],
}

impl View {
    /// The directory that holds `path`, and its name there; the root has none: `Unsupported`.
    pub(super) fn place<'a>(&self, path: &'a RemotePath) -> Outcome<Place<'a>> {
        let (parent, name) = path.split().ok_or(ErrorKind::Unsupported)?;
        check_name(name)?;
        Ok(Place { dir: self.open(&parent, PIN | OFlags::DIRECTORY)?, name })
    }

    /// The directory or entry at `path`. A symlink at its end is itself opened by `PIN`, and
    /// refused (`NotADirectory`) otherwise.
    pub(super) fn open(&self, path: &RemotePath, flags: OFlags) -> Outcome<OwnedFd> {
        path.names().try_for_each(check_name)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if path.is_root() {
            return Ok(openat(&self.root, c".", flags, Mode::empty())?);
        }
        Ok(open_beneath(self.root.as_fd(), path, flags)?)
    }
}

/// Names that are no names, and those that would climb.
pub(super) fn check_name(name: &[u8]) -> Outcome<()> {
    let odd = name.is_empty() || name == b"." || name == b".." || name.contains(&0);
    if odd || name.contains(&b'/') { Err(ErrorKind::NameInvalid.into()) } else { Ok(()) }
}

#[cfg(target_os = "linux")]
fn open_beneath(root: BorrowedFd<'_>, path: &RemotePath, flags: OFlags) -> io::Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    if path.as_bytes().len() > PATH_BYTES_MAX {
        return walk(root, path, flags);
    }
    match openat2(root, path.as_bytes(), flags, Mode::empty(), resolve) {
        // An old kernel, or a sandbox that does not know the call; or a rename was in the way.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => walk(root, path, flags),
        other => other,
    }
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(root: BorrowedFd<'_>, path: &RemotePath, flags: OFlags) -> io::Result<OwnedFd> {
    walk(root, path, flags)
}

/// Name by name, each opened without following.
fn walk(root: BorrowedFd<'_>, path: &RemotePath, flags: OFlags) -> io::Result<OwnedFd> {
    let step = PIN | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names = path.names().peekable();
    let mut above: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let dir = above.as_ref().map_or(root, |dir| dir.as_fd());
        let flags = if names.peek().is_some() { step } else { flags };
        above = Some(openat(dir, name, flags, Mode::empty())?);
    }
    above.ok_or(Errno::INVAL)
}
