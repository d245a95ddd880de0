//! Reading a file of exactly one version: the mark is compared before the first and after every
//! chunk, so no chunk of other bytes is handed out.

use super::fail::Outcome;
use super::root::View;
use super::stat;
use crate::{ContentMark, ErrorKind, Kind, RemotePath, Version};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use rustix::io::{pread, retry_on_intr};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes of one chunk: enough for a disk's full speed, little enough to hold many.
pub(super) const CHUNK_BYTES: u64 = 1 << 20;

/// A read under way. The descriptor stays on its object when the name goes to another.
pub(super) struct Reading {
    file: OwnedFd,
    mark: ContentMark,
    root_dev: u64,
    left: Range<u64>,
}

impl Reading {
    /// Opens `path` if it has the content of `version`.
    pub(super) fn open(
        view: &View,
        path: &RemotePath,
        range: Range<u64>,
        version: &Version,
    ) -> Outcome<Reading> {
        if path.is_root() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let place = view.place(path)?;
        // What is no file must not even be opened: a device may act on it.
        match place.facts()?.kind {
            Kind::File => {}
            Kind::Dir => return Err(ErrorKind::IsADirectory.into()),
            Kind::Symlink | Kind::Special => return Err(ErrorKind::VersionChanged.into()),
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&place.dir, place.name, flags, Mode::empty())?;
        let end = range.end.min(version.content.size);
        let left = range.start.min(end)..end;
        let reading = Reading { file, mark: version.content, root_dev: view.dev, left };
        reading.verify()?;
        Ok(reading)
    }

    /// The next chunk; empty at the end.
    pub(super) fn next(&mut self) -> Outcome<Bytes> {
        let wanted = (self.left.end - self.left.start).min(CHUNK_BYTES) as usize;
        let mut bytes = Vec::with_capacity(wanted);
        while bytes.len() < wanted {
            let at = self.left.start + bytes.len() as u64;
            let count = retry_on_intr(|| pread(&self.file, spare_capacity(&mut bytes), at))?;
            if count == 0 {
                break;
            }
        }
        // The allocator may give more room than was asked for.
        bytes.truncate(wanted);
        if wanted > 0 {
            self.verify()?;
        }
        if bytes.len() < wanted {
            return Err(ErrorKind::VersionChanged.into());
        }
        self.left.start += wanted as u64;
        Ok(bytes.into())
    }

    pub(super) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    fn verify(&self) -> Outcome<()> {
        let facts = stat::of_fd(self.file.as_fd())?;
        let same = facts.kind == Kind::File && facts.version(self.root_dev).content == self.mark;
        if same { Ok(()) } else { Err(ErrorKind::VersionChanged.into()) }
    }
}
