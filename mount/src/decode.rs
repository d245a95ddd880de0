//! From the kernel's numbers and flags to the filesystem's words, and attributes back. All pure.

use crate::limits::{BLOCK_BYTES, FILE_IO_BYTES};
use covefs_cache::{
    Allocate, Attr, Entry, Kind, OpenMode, RenameMode, Seek, SetAttr, SetTime, XattrMode,
};
use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use rustix::fs::OFlags;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The bits of a mode that chmod sets.
pub(crate) const PERMISSION_BITS: u32 = 0o7777;

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;

const FALLOC_KEEP_SIZE: i32 = 0x01;
const FALLOC_PUNCH_HOLE: i32 = 0x02;
const FALLOC_ZERO_RANGE: i32 = 0x10;

const XATTR_CREATE: i32 = 1;
const XATTR_REPLACE: i32 = 2;

#[cfg(not(target_vendor = "apple"))]
const SEEK_DATA: i32 = 3;
#[cfg(not(target_vendor = "apple"))]
const SEEK_HOLE: i32 = 4;
#[cfg(target_vendor = "apple")]
const SEEK_DATA: i32 = 4;
#[cfg(target_vendor = "apple")]
const SEEK_HOLE: i32 = 3;

const TYPE_BITS: u32 = 0o170000;
const TYPE_REGULAR: u32 = 0o100000;

/// The flags of open and create.
pub(crate) fn open_mode(flags: i32) -> OpenMode {
    let flags = OFlags::from_bits_retain(flags as u32 as _);
    let access = flags & OFlags::RWMODE;
    OpenMode {
        read: access == OFlags::RDONLY || access == OFlags::RDWR,
        write: access == OFlags::WRONLY || access == OFlags::RDWR,
        truncate: flags.contains(OFlags::TRUNC),
        append: flags.contains(OFlags::APPEND),
        exclusive: flags.contains(OFlags::EXCL),
        // O_SYNC contains O_DSYNC on Linux; elsewhere they are two bits.
        sync: flags.intersects(OFlags::SYNC | OFlags::DSYNC),
    }
}

/// The flags of renameat2. WHITEOUT, and both others together, make no sense here.
pub(crate) fn rename_mode(flags: u32) -> Result<RenameMode, Errno> {
    match flags {
        0 => Ok(RenameMode::Replace),
        RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
        RENAME_EXCHANGE => Ok(RenameMode::Exchange),
        _ => Err(Errno::EINVAL),
    }
}

/// The mode of fallocate.
pub(crate) fn allocate(mode: i32) -> Result<Allocate, Errno> {
    const PUNCH: i32 = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;
    const ZERO_KEEP: i32 = FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE;
    match mode {
        0 => Ok(Allocate::Grow),
        FALLOC_KEEP_SIZE => Ok(Allocate::Reserve),
        PUNCH => Ok(Allocate::Punch),
        FALLOC_ZERO_RANGE => Ok(Allocate::Zero),
        ZERO_KEEP => Ok(Allocate::ZeroKeep),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// What and where lseek looks for; the kernel answers the other kinds itself.
pub(crate) fn seek(offset: i64, whence: i32) -> Result<(u64, Seek), Errno> {
    let what = match whence {
        SEEK_DATA => Seek::Data,
        SEEK_HOLE => Seek::Hole,
        _ => return Err(Errno::EINVAL),
    };
    let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
    Ok((offset, what))
}

/// The flags of setxattr.
pub(crate) fn xattr_mode(flags: i32) -> Result<XattrMode, Errno> {
    match flags {
        0 => Ok(XattrMode::Any),
        XATTR_CREATE => Ok(XattrMode::Create),
        XATTR_REPLACE => Ok(XattrMode::Replace),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether mknod asks for an ordinary file; 0 means that too (mknod(2)).
pub(crate) fn is_regular(mode: u32) -> bool {
    matches!(mode & TYPE_BITS, 0 | TYPE_REGULAR)
}

/// What setattr is to change.
pub(crate) fn set_attr(
    mode: Option<u32>,
    (uid, gid): (Option<u32>, Option<u32>),
    size: Option<u64>,
    (atime, mtime): (Option<TimeOrNow>, Option<TimeOrNow>),
) -> SetAttr {
    SetAttr {
        mode: mode.map(|mode| mode & PERMISSION_BITS),
        uid,
        gid,
        size,
        atime: atime.map(set_time),
        mtime: mtime.map(set_time),
        drops_set_id: false,
    }
}

fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(true_time(time).into()),
    }
}

/// Undoes a mistake of fuser 0.18: nanoseconds count forward in the kernel's times, before 1970
/// too, but fuser takes them off there: -2 s + 800 ms arrives as -2.8 s instead of -1.2 s.
fn true_time(time: SystemTime) -> SystemTime {
    let Err(before) = time.duration_since(UNIX_EPOCH) else { return time };
    let before = before.duration();
    let nanos = Duration::from_nanos(u64::from(before.subsec_nanos()));
    let seconds = Duration::from_secs(before.as_secs());
    UNIX_EPOCH.checked_sub(seconds).map_or(time, |whole| whole + nanos)
}

/// What readdir shows of a kind. Special files are shown as sockets: opening one fails at once
/// (ENXIO), where a fifo would hang and a device would do who knows what.
pub(crate) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Special => FileType::Socket,
    }
}

/// What stat shows.
pub(crate) fn file_attr(attr: &Attr) -> FileAttr {
    let is_file = attr.kind == Kind::File;
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime.seconds, attr.atime.nanos),
        mtime: system_time(attr.mtime.seconds, attr.mtime.nanos),
        ctime: system_time(attr.ctime.seconds, attr.ctime.nanos),
        crtime: system_time(attr.btime.seconds, attr.btime.nanos),
        kind: file_type(attr.kind),
        perm: (attr.mode & PERMISSION_BITS) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: if is_file { FILE_IO_BYTES } else { BLOCK_BYTES },
        flags: 0,
    }
}

/// Attributes for a place of the protocol where the kernel looks only at number and kind: `.` and
/// `..` in a listing, and, with number 0, "there is no such name".
pub(crate) fn bare_attr(ino: u64, kind: Kind) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// What a listing with attributes says of one item: how long it holds, and the attributes.
/// `None` for an item that is neither `.` nor `..` and has none: the kernel counts each other
/// item as a lookup, so there is no way to show it.
pub(crate) fn listed(
    name: &[u8],
    ino: u64,
    kind: Kind,
    entry: Option<&Entry>,
) -> Option<(Duration, FileAttr)> {
    match entry {
        Some(entry) => Some((entry.ttl, file_attr(&entry.attr))),
        None if name == b"." || name == b".." => Some((Duration::ZERO, bare_attr(ino, kind))),
        None => None,
    }
}

/// Names as listxattr gives them: each ended by a NUL.
pub(crate) fn name_list(names: &[Vec<u8>]) -> Vec<u8> {
    names.iter().flat_map(|name| name.iter().copied().chain([0])).collect()
}

/// What the platform's clock cannot hold is shown as 1970 instead of a panic.
fn system_time(seconds: i64, nanos: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start =
        if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    let nanos = Duration::from_nanos(u64::from(nanos));
    start.and_then(|start| start.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
