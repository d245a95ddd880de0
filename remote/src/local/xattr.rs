//! Extended attributes of an open entry: the user's as a whole, the system's as far as they go.

use super::fail::{Outcome, is_unsupported};
use super::node::{Node, Way};
use crate::{ErrorKind, Xattrs};
use rustix::buffer::spare_capacity;
use rustix::fs::{self, XattrFlags};
use rustix::io::{self, Errno};

/// Tries at a list or value that grows while it is read.
const TRIES_MAX: usize = 8;

/// With less than this left, a disk is full.
const FULL_BYTES: u64 = 16 << 20;

/// What outside of us is called `user.NAME`; on a Mac there are no namespaces.
const PREFIX: &[u8] = b"user.";

/// The `user.` attributes, sorted; `None` where the file system has no such, or we may not read
/// them.
pub(super) fn read_user(node: &Node) -> Outcome<Option<Xattrs>> {
    let mut found = Vec::new();
    let names = match names(node) {
        Ok(names) => names,
        Err(errno) if is_hidden(errno) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    for name in names.into_iter().filter(|name| name.starts_with(PREFIX)) {
        match value(node, &name) {
            Ok(Some(value)) => found.push((name, value)),
            Ok(None) => {}
            Err(errno) if is_hidden(errno) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
    found.sort();
    Ok(Some(found))
}

fn is_hidden(errno: Errno) -> bool {
    is_unsupported(errno) || errno == Errno::ACCESS || errno == Errno::PERM
}

/// Makes the `user.` attributes exactly these, but for what a file cannot have there.
pub(super) fn write_user(node: &Node, wanted: &Xattrs) -> Outcome<()> {
    if wanted.iter().any(|(name, _)| !name.starts_with(PREFIX) || name.len() == PREFIX.len()) {
        return Err(ErrorKind::NameInvalid.into());
    }
    let held = match names(node) {
        Err(errno) if is_unsupported(errno) => {
            if !wanted.is_empty() {
                tracing::warn!("extended attributes are refused: there can be none");
            }
            return Ok(());
        }
        names => names?,
    };
    for name in held.iter().filter(|name| name.starts_with(PREFIX)) {
        if wanted.iter().all(|(kept, _)| kept != name) {
            remove(node, name)?;
        }
    }
    for (name, new) in wanted {
        if !held.contains(name) || value(node, name)?.as_ref() != Some(new) {
            match set(node, name, new) {
                Err(errno) if is_refused(node, errno) => {
                    let name = String::from_utf8_lossy(name);
                    tracing::warn!(%errno, %name, "an extended attribute is refused");
                }
                set => set?,
            }
        }
    }
    Ok(())
}

/// Whether it would be refused again: some file systems (ext4) say "no space" of what one file may have.
fn is_refused(node: &Node, errno: Errno) -> bool {
    let has_room = || {
        let found = node.reach(|way| match way {
            Way::Fd(fd) => fs::fstatvfs(fd),
            Way::Path(path) => fs::statvfs(path),
        });
        found.is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) >= FULL_BYTES)
    };
    is_unsupported(errno) || errno == Errno::TOOBIG || errno == Errno::NOSPC && has_room()
}

/// X6: copies the attributes of a replaced file. The user's must all arrive; of the others what
/// the system lets us copy, and nothing that vouches for the old bytes.
pub(super) fn carry_over(old: &Node, new: &Node) -> Outcome<()> {
    let names = match names(old) {
        Ok(names) => names,
        Err(errno) if is_hidden(errno) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    for name in names.into_iter().filter(|name| !is_of_content(name)) {
        let copied = match value(old, &name) {
            Ok(Some(value)) => set(new, &name, &value),
            Ok(None) => Ok(()),
            Err(errno) => Err(errno),
        };
        match copied {
            Err(errno) if name.starts_with(PREFIX) && !is_hidden(errno) => return Err(errno.into()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Signatures, hashes and capabilities go with the bytes: a write would have dropped them too.
fn is_of_content(name: &[u8]) -> bool {
    matches!(name, b"security.capability" | b"security.ima" | b"security.evm")
        || name.starts_with(b"trusted.overlay.")
}

/// All names, in our words.
fn names(node: &Node) -> io::Result<Vec<Vec<u8>>> {
    let mut list = Vec::new();
    grow(&mut list, |list| {
        node.reach(|way| match way {
            Way::Fd(fd) => fs::flistxattr(fd, spare_capacity(list)),
            Way::Path(path) => fs::listxattr(path, spare_capacity(list)),
        })
    })?;
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(ours).collect())
}

/// One value; `None` where it has just gone.
fn value(node: &Node, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let name = native(name);
    let mut value = Vec::new();
    let read = grow(&mut value, |value| {
        node.reach(|way| match way {
            Way::Fd(fd) => fs::fgetxattr(fd, name, spare_capacity(value)),
            Way::Path(path) => fs::getxattr(path, name, spare_capacity(value)),
        })
    });
    match read {
        Ok(()) => Ok(Some(value)),
        Err(errno) if errno == GONE => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(target_os = "linux")]
const GONE: Errno = Errno::NODATA;
#[cfg(not(target_os = "linux"))]
const GONE: Errno = Errno::from_raw_os_error(93);

/// Reads into `buffer`, with more room each time it was too small.
fn grow(
    buffer: &mut Vec<u8>,
    mut read: impl FnMut(&mut Vec<u8>) -> io::Result<usize>,
) -> io::Result<()> {
    let mut room = 1 << 10;
    for _ in 0..TRIES_MAX {
        buffer.clear();
        buffer.reserve(room);
        match read(buffer) {
            Err(Errno::RANGE) => room *= 4,
            other => return other.map(drop),
        }
    }
    Err(Errno::RANGE)
}

fn set(node: &Node, name: &[u8], value: &[u8]) -> io::Result<()> {
    let (name, flags) = (native(name), XattrFlags::empty());
    node.reach(|way| match way {
        Way::Fd(fd) => fs::fsetxattr(fd, name, value, flags),
        Way::Path(path) => fs::setxattr(path, name, value, flags),
    })
}

fn remove(node: &Node, name: &[u8]) -> io::Result<()> {
    let name = native(name);
    let removed = node.reach(|way| match way {
        Way::Fd(fd) => fs::fremovexattr(fd, name),
        Way::Path(path) => fs::removexattr(path, name),
    });
    if removed == Err(GONE) { Ok(()) } else { removed }
}

#[cfg(target_os = "linux")]
fn ours(name: &[u8]) -> Vec<u8> {
    name.to_vec()
}

#[cfg(target_os = "linux")]
fn native(name: &[u8]) -> &[u8] {
    name
}

#[cfg(not(target_os = "linux"))]
fn ours(name: &[u8]) -> Vec<u8> {
    [PREFIX, name].concat()
}

#[cfg(not(target_os = "linux"))]
fn native(name: &[u8]) -> &[u8] {
    name.strip_prefix(PREFIX).unwrap_or(name)
}
