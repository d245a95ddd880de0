//! What the kernel's side is told and tells: numbers, attributes, entries, flags.

use crate::lend::Lent;
use covefs_remote::{Kind, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// One file, directory or symlink, by a number of ours that is never used again (J8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ino(pub u64);

impl Ino {
    /// The mount's root.
    pub const ROOT: Ino = Ino(1);
}

/// The bytes of one version of one file plus our edits; names one data file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ContentId(pub u64);

/// An open file or directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fh(pub u64);

/// What stat shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Size in bytes.
    pub size: u64,
    /// 512-byte units that are here; never 0 for a file with bytes (R4).
    pub blocks: u64,
    /// Permission bits (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names of it: 1, of a directory 2.
    pub nlink: u32,
    /// Last access.
    pub atime: Timestamp,
    /// Last write.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
}

/// A name that was found, with how long the kernel may believe it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What stat shows.
    pub attr: Attr,
    /// For name and attributes.
    pub ttl: Duration,
}

/// The answer to a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// There is such a name.
    Found(Entry),
    /// There is none, and will be none for so long.
    Missing(Duration),
}

/// One line of a directory listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirItem {
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Its name; `.` and `..` come first.
    pub name: Vec<u8>,
    /// Where the next item begins.
    pub next_offset: u64,
    /// Attributes, when they were asked for; `None` for `.` and `..`.
    pub entry: Option<Entry>,
}

/// Who makes a new entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Cut to nothing first.
    pub truncate: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Creating must fail where the name exists.
    pub exclusive: bool,
    /// Every write is durable before it is answered (O_SYNC, O_DSYNC).
    pub sync: bool,
}

/// An opened file.
#[derive(Clone)]
pub struct Opened {
    /// Its handle.
    pub fh: Fh,
    /// Whether pages that the kernel has of it are still true.
    pub keep_cache: bool,
    /// Whether closing it waits for nothing and so can tell of nothing.
    pub no_flush: bool,
    /// The data file, where the kernel has to know it: for this handle, or for others of the file.
    pub lent: Option<Arc<Lent>>,
    /// Whether reads and writes come to us although it knows it.
    pub direct: bool,
}

/// An opened directory.
#[derive(Clone, Copy, Debug)]
pub struct OpenedDir {
    /// Its handle.
    pub fh: Fh,
    /// Whether the listing that the kernel has of it is still true.
    pub keep_cache: bool,
}

/// What setattr changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttr {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last write.
    pub mtime: Option<SetTime>,
    /// Somebody without privileges changes a file: it loses its set-id bits.
    pub drops_set_id: bool,
}

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// The clock's.
    Now,
    /// This one.
    At(Timestamp),
}

impl SetTime {
    /// The time it means.
    pub(crate) fn or(self, now: Timestamp) -> Timestamp {
        match self {
            SetTime::Now => now,
            SetTime::At(time) => time,
        }
    }
}

/// What a rename may do to its destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameMode {
    /// Replace it.
    Replace,
    /// Fail with `Exists` if it is there.
    NoReplace,
    /// Swap the two.
    Exchange,
}

/// What fallocate does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocate {
    /// Make room; the size grows to the range's end.
    Grow,
    /// Make room, keep the size.
    Reserve,
    /// Zeros without blocks; the size stays.
    Punch,
    /// Zeros; the size grows to the range's end.
    Zero,
    /// Zeros; the size stays.
    ZeroKeep,
}

/// What lseek looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// The next byte of data.
    Data,
    /// The next hole, or the end.
    Hole,
}

/// How setxattr treats an attribute that is or is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XattrMode {
    /// Either way.
    Any,
    /// It must be new.
    Create,
    /// It must be there.
    Replace,
}

/// Size and free space, in bytes and entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statfs {
    /// All bytes.
    pub total_bytes: u64,
    /// Bytes left.
    pub free_bytes: u64,
    /// Entries it can hold.
    pub total_files: u64,
    /// Entries left.
    pub free_files: u64,
    /// Bytes of the longest name.
    pub name_bytes_max: u32,
}

/// What the kernel has to forget (K2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// This name means something else now.
    Entry {
        /// The directory.
        parent: Ino,
        /// The name in it.
        name: Vec<u8>,
    },
    /// Attributes and all pages of this file are others now.
    Inode(Ino),
    /// Only the attributes are.
    Attributes(Ino),
}
