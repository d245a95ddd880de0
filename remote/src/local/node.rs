//! One open entry, and setting its attributes by its descriptor: whatever happens to its name
//! meanwhile, no other entry is touched.
//!
//! On Linux the descriptor is `O_PATH`, which needs no right to read the file and has no effect on
//! a device; what such a descriptor cannot do itself goes through `/proc/self/fd`.

use super::fail::{Fail, Outcome};
use super::resolve::{PIN, Place};
use super::root::View;
use super::{stat, xattr};
use crate::{Attrs, ErrorKind, Kind, Timestamp};
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::{self, Errno};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a call reaches an open entry.
pub(super) enum Way<'a> {
    Fd(BorrowedFd<'a>),
    Path(&'a str),
}

/// An open entry that is no symlink.
pub(super) struct Node {
    fd: OwnedFd,
    /// Whether it was opened by `PIN`.
    pinned: bool,
}

impl Node {
    pub(super) fn open(place: &Place<'_>) -> Outcome<Node> {
        let flags = PIN | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&place.dir, place.name, flags, Mode::empty())?;
        Ok(Node { fd, pinned: true })
    }

    pub(super) fn open_root(view: &View) -> Outcome<Node> {
        let flags = PIN | OFlags::CLOEXEC;
        let fd = fs::openat(&view.root, c".", flags, Mode::empty())?;
        Ok(Node { fd, pinned: true })
    }

    /// One that may be read or written.
    pub(super) fn of(fd: OwnedFd) -> Node {
        Node { fd, pinned: false }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Makes `call` with what leads to this entry and no other.
    pub(super) fn reach<T>(&self, call: impl FnOnce(Way<'_>) -> io::Result<T>) -> io::Result<T> {
        use std::os::fd::AsRawFd;
        if !self.pinned || cfg!(not(target_os = "linux")) {
            return call(Way::Fd(self.fd.as_fd()));
        }
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        call(Way::Path(&path)).map_err(|errno| match errno {
            // Without /proc: that must not read as if the entry were gone.
            Errno::NOENT => Errno::IO,
            errno => errno,
        })
    }

    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode((mode & 0o7777) as fs::RawMode);
        self.reach(|way| match way {
            Way::Fd(fd) => fs::fchmod(fd, mode),
            Way::Path(path) => fs::chmod(path, mode),
        })
    }

    pub(super) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        self.reach(|way| match way {
            Way::Fd(fd) => fs::fchown(fd, uid, gid),
            Way::Path(path) => fs::chown(path, uid, gid),
        })
    }

    fn set_times(&self, times: &Timestamps) -> io::Result<()> {
        self.reach(|way| match way {
            Way::Fd(fd) => fs::futimens(fd, times),
            Way::Path(path) => fs::utimensat(fs::CWD, path, times, AtFlags::empty()),
        })
    }

    /// Sets what `attrs` names. Times come last: the other changes would move them.
    pub(super) fn set_attrs(&self, attrs: &Attrs) -> Outcome<()> {
        let facts = stat::of_fd(self.fd())?;
        // Setting an owner anew is refused to most and clears set-id bits.
        let uid = attrs.uid.filter(|uid| *uid != facts.uid);
        let gid = attrs.gid.filter(|gid| *gid != facts.gid);
        if uid.is_some() || gid.is_some() {
            check_owner(uid, gid)?;
            self.set_owner(uid, gid)?;
        }
        if let Some(mode) = attrs.mode {
            self.set_mode(mode)?;
        }
        let holds_xattrs = matches!(facts.kind, Kind::File | Kind::Dir);
        if let Some(xattrs) = attrs.xattrs.as_ref().filter(|list| holds_xattrs || !list.is_empty())
        {
            xattr::write_user(self, xattrs)?;
        }
        match times(attrs) {
            Some(times) => Ok(self.set_times(&times)?),
            None => Ok(()),
        }
    }
}

/// The numbers that mean "leave it" to the kernel are no owners.
fn check_owner(uid: Option<u32>, gid: Option<u32>) -> Outcome<()> {
    match uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        true => Err(Fail::saying(ErrorKind::PermissionDenied, "no such owner".to_string())),
        false => Ok(()),
    }
}

/// Sets what a symlink can have: owner and times.
pub(super) fn set_symlink_attrs(place: &Place<'_>, attrs: &Attrs) -> Outcome<()> {
    let facts = place.facts()?;
    let uid = attrs.uid.filter(|uid| *uid != facts.uid);
    let gid = attrs.gid.filter(|gid| *gid != facts.gid);
    if uid.is_some() || gid.is_some() {
        check_owner(uid, gid)?;
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        fs::chownat(&place.dir, place.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if attrs.xattrs.as_ref().is_some_and(|xattrs| !xattrs.is_empty()) {
        return Err(ErrorKind::Unsupported.into());
    }
    if let Some(times) = times(attrs) {
        fs::utimensat(&place.dir, place.name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn times(attrs: &Attrs) -> Option<Timestamps> {
    if attrs.mtime.is_none() && attrs.atime.is_none() {
        return None;
    }
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let time = |time: Option<Timestamp>| {
        time.map_or(omit, |time| Timespec {
            tv_sec: time.seconds,
            tv_nsec: i64::from(time.nanos.min(999_999_999)) as _,
        })
    };
    Some(Timestamps { last_access: time(attrs.atime), last_modification: time(attrs.mtime) })
}
