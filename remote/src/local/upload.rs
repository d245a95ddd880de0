//! One `replace`: a temporary file beside its place, filled, given its attributes, made durable,
//! and put in place.
//!
//! Dropped at any moment before that, it removes its temporary file. Each step runs on a blocking
//! thread that shares the upload while it lasts: a caller that goes away in the middle of a step
//! cannot have the file removed under it.

use super::fail::{Fail, Outcome};
use super::node::Node;
use super::resolve::{Place, check_name};
use super::root::View;
use super::stat::{self, Facts, ObjectId};
use super::swap::{self, Ours};
use super::xattr;
use crate::{Attrs, ErrorKind, Expect, Kind, Metadata, RemotePath};
use rustix::fs::{AtFlags, Mode, OFlags, unlinkat};
use rustix::io::{Errno, pwrite, retry_on_intr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Permission bits of a new file that nobody named any for, less the umask.
const MODE_DEFAULT: u32 = 0o644;

/// Permission bits while it is being written: the file to be replaced may be private.
const MODE_WRITING: u32 = 0o600;

/// A file that is not in place yet.
pub(super) struct Upload {
    dir: OwnedFd,
    dir_id: ObjectId,
    temp: Vec<u8>,
    node: Node,
    id: ObjectId,
    /// What `MODE_DEFAULT` came to under the umask and the directory's rules.
    mode: u32,
    /// In place, or removed: the temporary name is no business of ours any more.
    is_over: AtomicBool,
}

impl Upload {
    /// Makes the temporary file, `size` bytes of nothing.
    pub(super) fn begin(
        view: &View,
        path: &RemotePath,
        temp: &[u8],
        expect: Expect,
        size: u64,
    ) -> Outcome<Upload> {
        check_name(temp)?;
        if path.is_root() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let place = view.place(path)?;
        // Better now than after ten gigabytes.
        check(place.facts_if_any()?.as_ref(), view.dev, expect)?;
        let dir_id = stat::object_id(place.dir.as_fd())?;
        // Names of this kind are one site's alone (X2): a leftover is from a try that failed.
        match unlinkat(&place.dir, temp, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(MODE_DEFAULT as rustix::fs::RawMode);
        let file = rustix::fs::openat(&place.dir, temp, flags | OFlags::CLOEXEC, mode)?;
        let facts = stat::of_fd(file.as_fd())?;
        let upload = Upload {
            dir: place.dir,
            dir_id,
            temp: temp.to_vec(),
            node: Node::of(file),
            id: facts.id,
            mode: facts.mode,
            is_over: AtomicBool::new(false),
        };
        upload.node.set_mode(MODE_WRITING)?;
        upload.resize(size)?;
        Ok(upload)
    }

    pub(super) fn resize(&self, size: u64) -> Outcome<()> {
        match rustix::fs::ftruncate(self.node.fd(), size) {
            Err(Errno::INVAL) => Err(ErrorKind::TooLarge.into()),
            done => Ok(done?),
        }
    }

    pub(super) fn write(&self, mut bytes: &[u8], mut at: u64) -> Outcome<()> {
        while !bytes.is_empty() {
            let count = retry_on_intr(|| pwrite(self.node.fd(), bytes, at))?;
            if count == 0 {
                return Err(ErrorKind::NoSpace.into());
            }
            bytes = &bytes[count..];
            at += count as u64;
        }
        Ok(())
    }

    /// Attributes, durability, and the place.
    pub(super) fn finish(
        &self,
        view: &View,
        path: &RemotePath,
        expect: Expect,
        attrs: &Attrs,
    ) -> Outcome<Metadata> {
        let to = view.place(path)?;
        if stat::object_id(to.dir.as_fd())? != self.dir_id {
            let text = "its directory was moved meanwhile".to_string();
            return Err(Fail::saying(ErrorKind::Busy, text));
        }
        let old = to.facts_if_any()?;
        check(old.as_ref(), view.dev, expect)?;
        match &old {
            Some(old) if old.kind == Kind::File => self.carry_over(&Node::open(&to)?, old)?,
            Some(_) | None => self.node.set_mode(self.mode)?,
        }
        self.node.set_attrs(attrs)?;
        retry_on_intr(|| rustix::fs::fsync(self.node.fd()))?;
        let temp = Place { dir: self.dir.try_clone().map_err(busy)?, name: &self.temp };
        if temp.facts_if_any()?.is_none_or(|facts| facts.id != self.id) {
            let text = "somebody took the temporary file".to_string();
            return Err(Fail::saying(ErrorKind::Io, text));
        }
        let version = stat::of_fd(self.node.fd())?.version(view.dev);
        let file = self.node.fd();
        let ours = Ours { temp, file, id: self.id, version, root_dev: view.dev };
        ours.put(&to, expect)?;
        drop(ours);
        self.is_over.store(true, Ordering::Relaxed);
        swap::sync_dir(&to)?;
        stat::full(view, &self.node)
    }

    /// Gives up: the temporary file goes.
    pub(super) fn abandon(&self) -> Outcome<()> {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            discard(self.dir.try_clone().map_err(busy)?, &self.temp, self.id);
        }
        Ok(())
    }

    /// X6: owner, permission bits, ACL and attributes of what is replaced.
    fn carry_over(&self, old: &Node, facts: &Facts) -> Outcome<()> {
        let own = stat::of_fd(self.node.fd())?;
        let mut mode = facts.mode;
        let uid = Some(facts.uid).filter(|uid| *uid != own.uid);
        let gid = Some(facts.gid).filter(|gid| *gid != own.gid);
        if uid.is_some() || gid.is_some() {
            // Only root may give a file away; in a group of one's own, the group alone can be kept.
            let is_given = self.node.set_owner(uid, gid).is_ok();
            if !is_given {
                // Set-id bits stand for an owner that it does not have now.
                mode &= 0o1777;
                let _ = self.node.set_owner(None, gid);
            }
        }
        self.node.set_mode(mode)?;
        xattr::carry_over(old, &self.node)
    }
}

/// What stands at the place is as expected, and no directory.
fn check(held: Option<&Facts>, root_dev: u64, expect: Expect) -> Outcome<()> {
    if expect != Expect::Absent && held.is_some_and(|facts| facts.kind == Kind::Dir) {
        return Err(ErrorKind::IsADirectory.into());
    }
    stat::check(held, root_dev, expect, ErrorKind::NotFound)
}

fn busy(error: std::io::Error) -> Fail {
    Fail::saying(ErrorKind::Busy, error.to_string())
}

/// Removes the temporary name if what has it is ours; anything else there is somebody's bytes.
fn discard(dir: OwnedFd, temp: &[u8], id: ObjectId) {
    let place = Place { dir, name: temp };
    if place.facts_if_any().is_ok_and(|facts| facts.is_some_and(|facts| facts.id == id)) {
        let _ = unlinkat(&place.dir, place.name, AtFlags::empty());
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(dir) = self.dir.try_clone() else { return };
        let (temp, id) = (std::mem::take(&mut self.temp), self.id);
        match tokio::runtime::Handle::try_current() {
            // Dropped by a caller that gave up: the disk may hang, its thread must not.
            Ok(runtime) => drop(runtime.spawn_blocking(move || discard(dir, &temp, id))),
            Err(_) => discard(dir, &temp, id),
        }
    }
}
