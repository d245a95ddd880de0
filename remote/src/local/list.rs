//! Listing a directory in pages: all names are read at the start, each page asks for its own
//! metadata.

use super::fail::Outcome;
use super::root::View;
use super::stat::{self, ObjectId};
use super::watch::Watchers;
use crate::{ErrorKind, Metadata, RemotePath};
use rustix::fs::{Dir, OFlags};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Entries of one page.
pub(super) const PAGE_ENTRIES: usize = 4096;

/// What the following pages are made of.
#[derive(Clone)]
pub(super) struct Rest {
    names: Arc<Vec<Vec<u8>>>,
    at: usize,
    dir: ObjectId,
}

type Entries = Vec<(Vec<u8>, Metadata)>;

/// One page, and what is left. An entry that went since its name was read is left out.
pub(super) fn list(
    view: &View,
    path: &RemotePath,
    after: Option<Rest>,
    watchers: &Watchers,
) -> Outcome<(Entries, Option<Rest>)> {
    let dir = view.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let id = stat::object_id(dir.as_fd())?;
    let mut rest = match after {
        // The names are another directory's: the listing starts again.
        Some(rest) if rest.dir != id => return Err(ErrorKind::VersionChanged.into()),
        Some(rest) => rest,
        None => {
            // Before its names are read (X7): no change falls between.
            watchers.arm(dir.as_fd(), path);
            Rest { names: Arc::new(names(dir.as_fd())?), at: 0, dir: id }
        }
    };
    let end = rest.names.len().min(rest.at + PAGE_ENTRIES);
    let mut entries = Vec::with_capacity(end - rest.at);
    for name in &rest.names[rest.at..end] {
        match stat::entry(dir.as_fd(), name, view.dev) {
            Ok(metadata) => entries.push((name.clone(), metadata)),
            // EINVAL: a symlink that became something else before it was read.
            Err(Errno::NOENT | Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    rest.at = end;
    let more = end < rest.names.len();
    Ok((entries, more.then_some(rest)))
}

fn names(dir: std::os::fd::BorrowedFd<'_>) -> Outcome<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Whether a directory has no entries.
pub(super) fn is_empty(dir: std::os::fd::BorrowedFd<'_>, name: &[u8]) -> Outcome<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(dir, name, flags, rustix::fs::Mode::empty())?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            return Ok(false);
        }
    }
    Ok(true)
}
