//! What only Linux has: fallocate, syncfs, a number for each boot, file systems by magic number.

mod lease;

pub(in super::super) use lease::{held, lend};

use super::super::Abilities;
use super::super::suitable::Filesystem;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

/// File systems to advise.
pub(in super::super) const GOOD: &str = "ext4, xfs, btrfs";

/// What the disk below a directory can do; one that makes no holes is refused.
pub(in super::super) fn abilities(_dir: &Path) -> io::Result<Abilities> {
    Ok(Abilities { holes: true, syncs_at_once: true })
}

/// Makes a hole.
pub(in super::super) fn punch(file: &File, range: Range<u64>) -> io::Result<()> {
    allocate(file, FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE, range)
}

/// Allocates blocks; the length stays.
pub(in super::super) fn reserve(file: &File, range: Range<u64>) -> io::Result<()> {
    allocate(file, FallocateFlags::KEEP_SIZE, range)
}

fn allocate(file: &File, how: FallocateFlags, range: Range<u64>) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let len = range.end - range.start;
    loop {
        match rustix::fs::fallocate(file, how, range.start, len) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Makes everything on the disk below a directory durable.
pub(in super::super) fn sync_filesystem(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

/// The same until the machine starts again.
pub(in super::super) fn boot_id() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let whole = u128::from_str_radix(&digits, 16).ok()?;
    Some((whole as u64) ^ ((whole >> 64) as u64))
}

/// The machine, by a name of its own.
pub(in super::super) fn machine() -> Option<String> {
    Some(fs::read_to_string("/etc/machine-id").ok()?.trim().to_owned())
}

/// What a directory lies on.
pub(in super::super) fn filesystem(dir: &Path) -> io::Result<Filesystem> {
    // The type is 32 bits, sign-extended on some architectures.
    Ok(filesystem_of(rustix::fs::statfs(dir)?.f_type as u64 as u32))
}

/// The kernel's magic numbers (linux/magic.h, and the file systems' own sources).
fn filesystem_of(magic: u32) -> Filesystem {
    use Filesystem::{Far, Local, Memory};
    match magic {
        0x0102_1994 => Memory("tmpfs"),
        0x8584_58f6 => Memory("ramfs"),
        0x6969 => Far("nfs"),
        0x517b => Far("smb"),
        0xff53_4d42 => Far("cifs"),
        0xfe53_4d42 => Far("smb2"),
        0x564c => Far("ncp"),
        0x0102_1997 => Far("9p"),
        0x00c3_6400 => Far("ceph"),
        0x5346_414f | 0x6b41_4653 => Far("afs"),
        0x7375_7245 => Far("coda"),
        0x0bd0_0bd0 => Far("lustre"),
        0x4750_4653 => Far("gpfs"),
        0x786f_4256 => Far("vboxsf"),
        0x6573_5546 => Far("fuse"),
        0xef53 => Local("ext4".to_owned()),
        0x5846_5342 => Local("xfs".to_owned()),
        0x9123_683e => Local("btrfs".to_owned()),
        0xf2f5_2010 => Local("f2fs".to_owned()),
        0x2fc1_2fc1 => Local("zfs".to_owned()),
        0x794c_7630 => Local("overlayfs".to_owned()),
        0x4d44 => Local("vfat".to_owned()),
        0x2011_bab0 => Local("exfat".to_owned()),
        0x7366_746e => Local("ntfs".to_owned()),
        other => Local(format!("a file system of type {other:#x}")),
    }
}
