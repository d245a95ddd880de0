//! What the file system says of an entry, as metadata.

use super::fail::Outcome;
use super::resolve::Place;
use super::root::View;
use super::{node::Node, xattr};
use crate::{ContentMark, ErrorKind, Expect, Kind, Metadata, RemotePath, Timestamp, Version};
use rustix::fs::{AtFlags, FileType};
use rustix::io::{self, Errno};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The coarsest clock that stamps files: a tick of 10 ms at 100 Hz, and some room.
const GRAIN: Duration = Duration::from_millis(20);

/// A time so far ahead of ours was set by somebody; nearer ones come from a server's clock.
const SKEW_SECONDS_MAX: i64 = 60;

/// Which object of this host's file systems it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ObjectId {
    pub(super) dev: u64,
    pub(super) ino: u64,
    /// When it was made, where numbers of removed objects are used again (ext4 does so at once);
    /// else 0.
    pub(super) born: u64,
}

/// Whether a network file system is asked anew, or may answer from what it knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Server,
    Cache,
}

/// The answer of one stat call.
pub(super) struct Facts {
    pub(super) id: ObjectId,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) links: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) atime: Timestamp,
    pub(super) btime: Timestamp,
}

impl Facts {
    /// The number of the object within the share: the inode's, mixed with its birth, and with the
    /// device's where the root lies on another (subvolumes number their inodes each for itself).
    fn file_id(&self, root_dev: u64) -> u64 {
        let ObjectId { dev, ino, born } = self.id;
        let other = if dev == root_dev { 0 } else { dev.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        ino ^ other ^ born.wrapping_mul(0xff51_afd7_ed55_8ccd)
    }

    pub(super) fn version(&self, root_dev: u64) -> Version {
        let file_id = self.file_id(root_dev);
        let stamp = ((self.ctime.seconds as u64) << 30) | u64::from(self.ctime.nanos);
        let content = match self.kind {
            Kind::File | Kind::Symlink => {
                ContentMark { file_id, size: self.size, mtime: self.mtime }
            }
            Kind::Dir | Kind::Special => ContentMark { file_id, ..ContentMark::default() },
        };
        Version { object: (u128::from(file_id) << 64) | u128::from(stamp), content }
    }

    /// Whether it is the entry `version` names: of a directory the object, else the content.
    pub(super) fn is_version(&self, root_dev: u64, version: &Version) -> bool {
        let own = self.version(root_dev);
        match self.kind {
            Kind::Dir => own.same_object(version),
            Kind::File | Kind::Symlink | Kind::Special => own.same_content(version),
        }
    }

    fn is_young(&self, now: Timestamp) -> bool {
        let nanos =
            |time: Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        let age = nanos(now) - nanos(self.mtime);
        age < GRAIN.as_nanos() as i128 && age > -i128::from(SKEW_SECONDS_MAX) * 1_000_000_000
    }

    pub(super) fn metadata(&self, root_dev: u64, target: Option<Vec<u8>>) -> Metadata {
        Metadata {
            kind: self.kind,
            size: if matches!(self.kind, Kind::File | Kind::Symlink) { self.size } else { 0 },
            mtime: self.mtime,
            ctime: self.ctime,
            atime: self.atime,
            btime: self.btime,
            mode: Some(self.mode),
            uid: Some(self.uid),
            gid: Some(self.gid),
            target,
            xattrs: None,
            version: self.version(root_dev),
            young: self.kind == Kind::File && self.is_young(Timestamp::now()),
        }
    }
}

#[cfg(target_os = "linux")]
fn facts(dir: BorrowedFd<'_>, name: &[u8], ask: Ask) -> io::Result<Facts> {
    use rustix::fs::{StatxFlags, StatxTimestamp, makedev, statx};
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    let flags = if ask == Ask::Server { flags | AtFlags::STATX_FORCE_SYNC } else { flags };
    let found = statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    let time = |time: StatxTimestamp| Timestamp { seconds: time.tv_sec, nanos: time.tv_nsec };
    let has_btime = found.stx_mask & StatxFlags::BTIME.bits() != 0;
    // Those without a block device count on (btrfs, tmpfs), or do not always know (network).
    let is_reused = has_btime && found.stx_dev_major != 0;
    let at = found.stx_btime;
    let born = ((at.tv_sec as u64) << 30 | u64::from(at.tv_nsec)) * u64::from(is_reused);
    let dev = makedev(found.stx_dev_major, found.stx_dev_minor);
    Ok(Facts {
        id: ObjectId { dev, ino: found.stx_ino, born },
        kind: kind_of(FileType::from_raw_mode(u32::from(found.stx_mode))),
        size: found.stx_size,
        links: u64::from(found.stx_nlink),
        mode: u32::from(found.stx_mode) & 0o7777,
        uid: found.stx_uid,
        gid: found.stx_gid,
        mtime: time(found.stx_mtime),
        ctime: time(found.stx_ctime),
        atime: time(found.stx_atime),
        btime: time(if has_btime { found.stx_btime } else { found.stx_ctime }),
    })
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
fn facts(dir: BorrowedFd<'_>, name: &[u8], _: Ask) -> io::Result<Facts> {
    let found = match name.is_empty() {
        true => rustix::fs::fstat(dir)?,
        false => rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?,
    };
    let time = |seconds, nanos| Timestamp { seconds, nanos: nanos as u32 };
    let ctime = time(found.st_ctime as i64, found.st_ctime_nsec as i64);
    #[cfg(target_os = "macos")]
    let btime = time(found.st_birthtime as i64, found.st_birthtime_nsec as i64);
    #[cfg(not(target_os = "macos"))]
    let btime = ctime;
    Ok(Facts {
        id: ObjectId { dev: found.st_dev as u64, ino: found.st_ino as u64, born: 0 },
        kind: kind_of(FileType::from_raw_mode(found.st_mode)),
        size: found.st_size as u64,
        links: u64::from(found.st_nlink),
        mode: u32::from(found.st_mode) & 0o7777,
        uid: found.st_uid,
        gid: found.st_gid,
        mtime: time(found.st_mtime as i64, found.st_mtime_nsec as i64),
        ctime,
        atime: time(found.st_atime as i64, found.st_atime_nsec as i64),
        btime,
    })
}

fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    }
}

/// What an open descriptor is of.
pub(super) fn of_fd(fd: BorrowedFd<'_>) -> io::Result<Facts> {
    facts(fd, b"", Ask::Server)
}

pub(super) fn object_id(fd: BorrowedFd<'_>) -> io::Result<ObjectId> {
    facts(fd, b"", Ask::Cache).map(|facts| facts.id)
}

impl Place<'_> {
    /// What has this name now.
    pub(super) fn facts(&self) -> io::Result<Facts> {
        facts(self.dir.as_fd(), self.name, Ask::Server)
    }

    /// The same; `None` where nothing has it.
    pub(super) fn facts_if_any(&self) -> io::Result<Option<Facts>> {
        match self.facts() {
            Ok(facts) => Ok(Some(facts)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// Name and metadata of one entry of a listing, without xattrs.
pub(super) fn entry(dir: BorrowedFd<'_>, name: &[u8], root_dev: u64) -> io::Result<Metadata> {
    let mut facts = facts(dir, name, Ask::Cache)?;
    let target = match facts.kind {
        Kind::Symlink => Some(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes()),
        Kind::File | Kind::Dir | Kind::Special => None,
    };
    // Some file systems do not know it before it was read.
    facts.size = target.as_ref().map_or(facts.size, |target| target.len() as u64);
    Ok(facts.metadata(root_dev, target))
}

/// Everything of one entry.
pub(super) fn stat(view: &View, path: &RemotePath) -> Outcome<Metadata> {
    if path.is_root() {
        return full(view, &Node::open_root(view)?);
    }
    let place = view.place(path)?;
    if place.facts()?.kind == Kind::Symlink {
        return Ok(entry(place.dir.as_fd(), place.name, view.dev)?);
    }
    full(view, &Node::open(&place)?)
}

/// Everything of an open entry that is no symlink.
pub(super) fn full(view: &View, node: &Node) -> Outcome<Metadata> {
    let facts = of_fd(node.fd())?;
    let mut metadata = facts.metadata(view.dev, None);
    metadata.xattrs = match facts.kind {
        Kind::File | Kind::Dir => xattr::read_user(node)?,
        Kind::Symlink | Kind::Special => None,
    };
    Ok(metadata)
}

/// Whether what is at a name is what `expect` says; `missing` is the answer where a version is
/// expected and nothing is there.
pub(super) fn check(
    facts: Option<&Facts>,
    root_dev: u64,
    expect: Expect,
    missing: ErrorKind,
) -> Outcome<()> {
    match (expect, facts) {
        (Expect::Any, _) | (Expect::Absent, None) => Ok(()),
        (Expect::Absent, Some(_)) => Err(ErrorKind::Exists.into()),
        (Expect::Version(_), None) => Err(missing.into()),
        (Expect::Version(version), Some(facts)) => match facts.is_version(root_dev, &version) {
            true => Ok(()),
            false => Err(ErrorKind::VersionChanged.into()),
        },
    }
}
