//! What unix systems have beyond `std::fs`; where they differ, `linux` or `macos` says how.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_vendor = "apple")]
mod macos;

#[cfg(target_os = "linux")]
pub(super) use linux::*;
#[cfg(target_vendor = "apple")]
pub(super) use macos::*;

use super::DiskSpace;
use crate::ranges::RangeSet;
use rustix::fs::{FlockOperation, SeekFrom, flock, seek};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A directory on a file system that makes no holes is refused.
pub(super) const GOES_WITHOUT_HOLES: bool = false;

/// To read and write, for the owner only.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// A file of somebody else's, to make it durable.
pub(super) fn open_to_sync(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// A new directory, for the owner only.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)
}

/// Reads what one call reads; nobody's offset moves.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

/// Writes all; nobody's offset moves.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Cuts or extends.
pub(super) fn set_len(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)
}

/// Bytes that the disk keeps for a file.
pub(super) fn allocated(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

/// The same of one that was listed.
pub(super) fn allocated_at(_path: &Path, facts: &Metadata) -> io::Result<u64> {
    Ok(facts.blocks() * 512)
}

/// The parts of a range that are not holes.
pub(super) fn data_ranges(file: &File, within: Range<u64>) -> io::Result<RangeSet> {
    let mut found = RangeSet::new();
    let mut at = within.start;
    while at < within.end {
        // ENXIO: no data from here to the end. The descriptor's own offset moves; nobody uses it.
        let start = match seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            other => other?,
        };
        if start >= within.end {
            break;
        }
        let end = match seek(file, SeekFrom::Hole(start)) {
            // Cut meanwhile.
            Err(Errno::NXIO) => break,
            other => other?,
        };
        found.insert(start..end.min(within.end));
        at = end;
    }
    Ok(found)
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Size of the disk below a directory, and what is free for us.
pub(super) fn space(dir: &Path) -> io::Result<DiskSpace> {
    let facts = rustix::fs::statvfs(dir)?;
    let unit = facts.f_frsize.max(1);
    Ok(DiskSpace { total: facts.f_blocks * unit, free: facts.f_bavail * unit })
}

/// The directory's number on its disk.
pub(super) fn number(dir: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(dir)?.ino())
}

/// Takes a lock until the file is closed, alone or with others; says whether it did.
pub(super) fn try_lock(file: &File, alone: bool) -> io::Result<bool> {
    let how = match alone {
        true => FlockOperation::NonBlockingLockExclusive,
        false => FlockOperation::NonBlockingLockShared,
    };
    match flock(file, how) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}
