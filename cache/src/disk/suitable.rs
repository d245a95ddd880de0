//! Which directories can hold a cache (U1).

use super::DiskFile;
use super::real::{RealFile, show};
use crate::error::{Error, ErrorKind, Result};
use crate::ranges::RangeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Refuses a directory that cannot hold a cache (U1): what cleaners or a reboot empty, what lies
/// on a network or on another FUSE file system, and what cannot punch holes.
pub fn suitable(dir: &Path) -> Result<()> {
    let refuse = |reason: String| {
        Err(Error {
            source: Some(reason.into()),
            ..Error::new(ErrorKind::Unsupported, "use the cache directory").at(show(dir))
        })
    };
    let failed = |e| Error::disk("look at the cache directory", e).at(show(dir));
    let name = filesystem(dir).map_err(failed)?;
    let advice = "choose a directory on a local disk (ext4, xfs, btrfs) with --cache-dir";
    match name {
        Filesystem::Memory(name) => {
            refuse(format!("it is on {name}, which a reboot empties; {advice}"))
        }
        Filesystem::Far(name) => {
            refuse(format!("it is on {name}, which is no local disk; {advice}"))
        }
        Filesystem::Local(name) => match probe(dir) {
            Ok(true) => Ok(()),
            Ok(false) => refuse(format!("it is on {name}, which cannot punch holes; {advice}")),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                refuse(format!("it is on {name}, which cannot punch holes; {advice}"))
            }
            Err(error) => Err(failed(error)),
        },
    }
}

/// What a directory lies on, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Filesystem {
    Memory(&'static str),
    Far(&'static str),
    Local(String),
}

#[cfg(target_os = "linux")]
fn filesystem(dir: &Path) -> io::Result<Filesystem> {
    // The type is 32 bits, sign-extended on some architectures.
    Ok(filesystem_of(rustix::fs::statfs(dir)?.f_type as u64 as u32))
}

#[cfg(not(target_os = "linux"))]
fn filesystem(_dir: &Path) -> io::Result<Filesystem> {
    Ok(Filesystem::Local("this system's file system".to_owned()))
}

/// The kernel's magic numbers (linux/magic.h, and the file systems' own sources).
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
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

/// Whether a punched file shows the hole and gives its blocks back.
fn probe(dir: &Path) -> io::Result<bool> {
    const SIZE: u64 = 4 << 20;
    let path = dir.join(format!("probe-{}.tmp", std::process::id()));
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    let tried = (|| {
        let file = RealFile { file };
        file.write_at(&vec![1; SIZE as usize], 0)?;
        file.reserve(SIZE..2 * SIZE)?;
        // Some file systems allocate when they write back, and count only then.
        file.sync_data()?;
        let full = file.allocated()?;
        file.punch(0..SIZE / 2)?;
        file.sync_data()?;
        let holes = file.data_ranges(0..SIZE)? == RangeSet::from(SIZE / 2..SIZE);
        Ok(holes && file.allocated()? < full)
    })();
    fs::remove_file(&path)?;
    tried
}
