//! The local disk as a seam: everything else in the crate reaches it through these two traits.
//!
//! Paths are relative to the cache directory, with `/` between names: `data/ab/cdef`. All calls
//! block and are made on the kernel's thread or the blocking pool. What the traits promise about
//! durability is what POSIX promises and no more: bytes are durable after `sync_data` of their
//! file, a name after `sync_dir` of its directory. [`MemoryDisk`] loses the rest on purpose.

mod folder;
mod lock;
#[cfg(test)]
mod memory;
mod real;
mod suitable;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub(crate) use folder::{mark_damaged, open_or_set_aside, sync_folder};
pub use lock::{DirLock, Locked};
#[cfg(test)]
pub use memory::{DiskOp, Loan, MemoryDisk};
pub use real::RealDisk;
pub use suitable::suitable;
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

#[cfg(test)]
mod tests;

use crate::ranges::RangeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The disk below one cache directory.
pub trait Disk: Send + Sync {
    /// Opens a file for reading and writing. With `create` it is made if it is missing, and so are
    /// the directories above it, which are durable at once; the file's own name is not.
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a file; `NotFound` where there is none.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Renames a file, over an existing one too. Makes the directories above `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Whether there is a file of that name.
    fn exists(&self, path: &str) -> io::Result<bool>;
    /// Bytes the disk keeps for the file of that name, without opening it.
    fn allocated(&self, path: &str) -> io::Result<u64>;
    /// The files of a directory, in no order; with `recursive` those below it too. A directory that
    /// is missing has none.
    fn list(&self, dir: &str, recursive: bool) -> io::Result<Vec<Listed>>;
    /// Makes names in a directory durable: what was made, renamed and removed.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes everything durable, names too: cheaper than many `sync_data`, dearer than a few. An
    /// error where the disk cannot (`Abilities::syncs_at_once`).
    fn sync_all(&self) -> io::Result<()>;
    /// What it can do, and what has to be done another way.
    fn abilities(&self) -> Abilities;
    /// The file of that name for others to read (see `lend`); `None` where `held` cannot tell who does.
    fn lend(&self, path: &str) -> io::Result<Option<Readable>>;
    /// Who has the file of that name open, or in a mapping. We must not have it.
    fn held(&self, path: &str) -> io::Result<Held>;
    /// Size of the disk and what is free for us.
    fn space(&self) -> io::Result<DiskSpace>;
    /// A number that is the same until the machine starts again. Where that cannot be told it is
    /// another one at each start: needless doubt, never misplaced trust.
    fn boot_id(&self) -> u64;
    /// Where an index on disk may live; `None` for disks that are not the real one.
    fn index_path(&self) -> Option<PathBuf>;
    /// Replaces a small file whole and durably: after a crash it is the old one or the new one.
    fn write_small(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Reads a small file whole.
    fn read_small(&self, path: &str) -> io::Result<Vec<u8>>;
}

/// One open file. A removed file lives until its last handle is dropped.
#[allow(clippy::len_without_is_empty)]
pub trait DiskFile: Send + Sync {
    /// Reads until the buffer is full or the file ends; says how many bytes it read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of the bytes. After an error any part of them may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or extends (with a hole). Frees what was reserved past the new end.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes a hole; the length stays. Where the disk makes none (`Abilities::holes`) these are
    /// zeros that take room.
    fn punch(&self, range: Range<u64>) -> io::Result<()>;
    /// Allocates blocks, so that a later write there cannot fail for lack of room; the length
    /// stays, and what was not written still reads as zeros.
    fn reserve(&self, range: Range<u64>) -> io::Result<()>;
    /// Makes all bytes and the length durable (fdatasync). After an error nothing that was
    /// written since the last success can be trusted to become durable, ever (STYLE 18).
    fn sync_data(&self) -> io::Result<()>;
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Bytes the disk keeps for it, reserved ones too.
    fn allocated(&self) -> io::Result<u64>;
    /// When its bytes last changed, whoever changed them.
    fn modified(&self) -> io::Result<SystemTime>;
    /// The parts of a range that are not holes, rounded out to the disk's blocks and cut at the
    /// range and at the file's end. A disk that cannot tell says that all of it is data.
    fn data_ranges(&self, within: Range<u64>) -> io::Result<RangeSet>;
}

/// An open file for somebody else to read.
pub struct Readable {
    file: std::fs::File,
}

#[cfg(unix)]
impl std::os::fd::AsFd for Readable {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Readable {
    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Who has a file besides us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Nobody.
    Nobody,
    /// Programs that can only read it. Only Linux tells.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    Readers,
    /// Somebody who may write to it.
    Writers,
}

/// What a disk can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// A hole gives its blocks back. Else only a whole file does.
    pub holes: bool,
    /// One call makes all files durable.
    pub syncs_at_once: bool,
}

/// One file of a listing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listed {
    /// Its path, relative to the directory that was listed.
    pub path: String,
    /// Its length.
    pub len: u64,
    /// Bytes the disk keeps for it.
    pub allocated: u64,
}

/// Of the disk that a directory lies on.
pub fn space(dir: &Path) -> io::Result<DiskSpace> {
    system::space(dir)
}

/// Size of a disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpace {
    /// All of it.
    pub total: u64,
    /// What is free for us.
    pub free: u64,
}
