//! The kernel's requests: decoded, asked of the filesystem through `answer`, replied to.
//!
//! Nothing is decided here and no state is kept. What the kernel was promised:
//! umask is applied by the kernel (no DONT_MASK); locks stay this host's (K5); permissions are
//! checked by the kernel (`default_permissions`), so no request is refused for its caller here.

mod reply;

use crate::answer::{Answerer, Ask, Call, Carry, Refuse};
use crate::decode::{self, PERMISSION_BITS};
use crate::limits::{
    BACKGROUND_REQUESTS_MAX, CONGESTED_REQUESTS, COPY_BYTES_MAX, REQUEST_BYTES_MAX,
};
use covefs_cache::{Asked, Fh, Ino, OpenMode, OpenedDir, Owner, Result, Step, Vfs};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags,
    PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use reply::{attr, created, done, entry, found, listing, listing_plus, opened, passed, xattr};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

/// Asked of the kernel where it knows them. Not asked, with the reason: POSIX_LOCKS, FLOCK_LOCKS
/// (locks stay this host's), WRITEBACK_CACHE (its sizes and times would win over the share's),
/// CACHE_SYMLINKS (no timeout bounds it), AUTO_INVAL_DATA (we invalidate, K2), EXPLICIT_INVAL_DATA (a size
/// that it is told before our notice arrives would show zeros behind the old end), DONT_MASK,
/// OVER_IO_URING (fuser has no rings: every call would hang), ATOMIC_O_TRUNC (a program that runs
/// would be emptied before the kernel says ETXTBSY).
const CAPABILITIES: [InitFlags; 4] = [
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    // Else it asks for security.capability before each write. Set-id bits are ours to take away then.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// The filesystem as the kernel asks it.
pub(crate) struct Fuse {
    answerer: Answerer<Vfs>,
    vfs: Arc<Vfs>,
    passthrough: Option<Duration>,
    end: End,
}

/// Told when the kernel asks no more; see `session`.
pub(crate) struct End {
    pub(crate) flag: Arc<AtomicBool>,
    pub(crate) sender: Sender<()>,
}

impl Fuse {
    pub(crate) fn new(
        answerer: Answerer<Vfs>,
        vfs: Arc<Vfs>,
        passthrough: Option<Duration>,
        end: End,
    ) -> Self {
        Fuse { answerer, vfs, passthrough, end }
    }

    /// Runs `op`, then `finish`; see `Answerer::run`.
    fn ask<R, T>(
        &self,
        call: Call,
        reply: R,
        op: impl FnMut(&Vfs, Asked, &mut R) -> Result<Step<T>> + Send + 'static,
        finish: impl FnOnce(R, T) + Send + 'static,
    ) where
        R: Refuse,
    {
        self.answerer.run(Ask { call, reply, op, finish });
    }
}

fn call(op: &'static str, request: &Request, ino: INodeNo) -> Call {
    Call::new(op, request.unique().0, ino.0)
}

fn owner(request: &Request) -> Owner {
    Owner { uid: request.uid(), gid: request.gid() }
}

impl Filesystem for Fuse {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            if config.add_capabilities(capability).is_err() {
                tracing::debug!(?capability, "not known to this kernel");
            }
        }
        let refused = |nearest| io::Error::other(format!("limit refused, nearest is {nearest}"));
        config.set_max_background(BACKGROUND_REQUESTS_MAX).map_err(refused)?;
        config.set_congestion_threshold(CONGESTED_REQUESTS).map_err(refused)?;
        let refused = |nearest| io::Error::other(format!("limit refused, nearest is {nearest}"));
        config.set_max_write(REQUEST_BYTES_MAX).map_err(refused)?;
        // 1: data files lie on a disk's file system, on none that is stacked on others.
        let can = self.passthrough.is_some()
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(1).is_ok();
        self.vfs.may_lend(self.passthrough.filter(|_| can));
        let abi = config.kernel_abi();
        tracing::debug!(major = abi.0, minor = abi.1, offered = ?config.capabilities(), "kernel");
        Ok(())
    }

    fn destroy(&mut self) {
        self.end.flag.store(true, Ordering::Release);
        // Nobody listens when the mount failed: then there is nothing to end either.
        let _ = self.end.sender.send(());
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (parent_ino, name) = (Ino(parent.0), name.as_bytes().to_vec());
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.lookup(asked, parent_ino, &name);
        self.ask(call("lookup", request, parent), reply, op, found);
    }

    // batch_forget comes here too, one by one: fuser 0.18 does not export the type it would need.
    fn forget(&self, request: &Request, ino: INodeNo, lookups: u64) {
        self.answerer.tell(call("forget", request, ino), |vfs| vfs.forget(Ino(ino.0), lookups));
    }

    fn getattr(&self, request: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let fh = fh.map(|fh| Fh(fh.0));
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.getattr(asked, Ino(ino.0), fh);
        self.ask(call("getattr", request, ino), reply, op, attr);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let fh = fh.map(|fh| Fh(fh.0));
        let mut change = decode::set_attr(mode, (uid, gid), size, (atime, mtime));
        // The kernel's own word on it (CAP_FSETID) is not handed on by fuser.
        change.drops_set_id = size.is_some() && request.uid() != 0;
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.setattr(asked, Ino(ino.0), fh, &change);
        self.ask(call("setattr", request, ino), reply, op, attr);
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.readlink(asked, Ino(ino.0));
        let finish = |reply: ReplyData, target: Vec<u8>| reply.carry(&target);
        self.ask(call("readlink", request, ino), reply, op, finish);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        if !decode::is_regular(mode) {
            return reply.error(Errno::EPERM);
        }
        let (parent_ino, name, owner) = (Ino(parent.0), name.as_bytes().to_vec(), owner(request));
        let how = OpenMode { exclusive: true, ..OpenMode::default() };
        let op = move |vfs: &Vfs, asked, _: &mut _| {
            let mode = mode & PERMISSION_BITS;
            Ok(match vfs.create(asked, owner, parent_ino, &name, mode, how)? {
                Step::Done((entry, opened)) => {
                    // mknod only makes the file.
                    vfs.release(opened.fh);
                    Step::Done(entry)
                }
                Step::Wait(need) => Step::Wait(need),
            })
        };
        self.ask(call("mknod", request, parent), reply, op, entry);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (parent_ino, name, owner) = (Ino(parent.0), name.as_bytes().to_vec(), owner(request));
        let mode = mode & PERMISSION_BITS;
        let op =
            move |vfs: &Vfs, asked, _: &mut _| vfs.mkdir(asked, owner, parent_ino, &name, mode);
        self.ask(call("mkdir", request, parent), reply, op, entry);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent_ino, name) = (Ino(parent.0), name.as_bytes().to_vec());
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.unlink(asked, parent_ino, &name);
        self.ask(call("unlink", request, parent), reply, op, done);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent_ino, name) = (Ino(parent.0), name.as_bytes().to_vec());
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.rmdir(asked, parent_ino, &name);
        self.ask(call("rmdir", request, parent), reply, op, done);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (parent_ino, name, owner) = (Ino(parent.0), name.as_bytes().to_vec(), owner(request));
        let target = target.as_os_str().as_bytes().to_vec();
        let op = move |vfs: &Vfs, asked, _: &mut _| {
            vfs.symlink(asked, owner, parent_ino, &name, &target)
        };
        self.ask(call("symlink", request, parent), reply, op, entry);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match decode::rename_mode(flags.bits()) {
            Ok(mode) => mode,
            Err(errno) => return reply.error(errno),
        };
        let (from, name) = (Ino(parent.0), name.as_bytes().to_vec());
        let (to, new_name) = (Ino(new_parent.0), new_name.as_bytes().to_vec());
        let op =
            move |vfs: &Vfs, asked, _: &mut _| vfs.rename(asked, from, &name, to, &new_name, mode);
        self.ask(call("rename", request, parent), reply, op, done);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let how = decode::open_mode(flags.0);
        let op = move |vfs: &Vfs, asked, reply: &mut ReplyOpen| {
            let open = || vfs.open(asked, Ino(ino.0), how);
            passed(vfs, |file| reply.open_backing(file), open, |opened| opened)
        };
        self.ask(call("open", request, ino), reply, op, opened);
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let call = call("read", request, ino).fh(fh.0).offset(offset).len(size.into());
        self.answerer.read(call, Fh(fh.0), (offset, size as usize), reply);
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let call = call("write", request, ino).fh(fh.0).offset(offset).len(data.len() as u64);
        let drops_set_id = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let op = move |vfs: &Vfs, asked: Asked, data: &[u8]| {
            let written = vfs.write(asked, Fh(fh.0), offset, data)?;
            if drops_set_id && let Step::Done(_) = written {
                vfs.drop_set_id(Ino(ino.0))?;
            }
            Ok(written)
        };
        // At most REQUEST_BYTES_MAX.
        let finish = |reply: ReplyWrite, written: usize| reply.written(written as u32);
        self.answerer.write(Ask { call, reply, op, finish }, data);
    }

    fn flush(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.flush(asked, Fh(fh.0));
        self.ask(call("flush", request, ino).fh(fh.0), reply, op, done);
    }

    fn release(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.answerer.tell(call("release", request, ino).fh(fh.0), |vfs| vfs.release(Fh(fh.0)));
        reply.ok();
    }

    fn fsync(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.fsync(asked, Fh(fh.0));
        self.ask(call("fsync", request, ino).fh(fh.0), reply, op, done);
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.opendir(asked, Ino(ino.0));
        let finish = |reply: ReplyOpen, opened: OpenedDir| {
            let mut flags = FopenFlags::FOPEN_CACHE_DIR;
            flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
            reply.opened(FileHandle(opened.fh.0), flags);
        };
        self.ask(call("opendir", request, ino), reply, op, finish);
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let op = move |vfs: &Vfs, asked, reply: &mut _| listing(vfs, asked, fh, offset, reply);
        let call = call("readdir", request, ino).fh(fh.0).offset(offset);
        self.ask(call, reply, op, |reply, ()| reply.ok());
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let op = move |vfs: &Vfs, asked, reply: &mut _| listing_plus(vfs, asked, fh, offset, reply);
        let call = call("readdirplus", request, ino).fh(fh.0).offset(offset);
        self.ask(call, reply, op, |reply, ()| reply.ok());
    }

    fn releasedir(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let call = call("releasedir", request, ino).fh(fh.0);
        self.answerer.tell(call, |vfs| vfs.releasedir(Fh(fh.0)));
        reply.ok();
    }

    fn fsyncdir(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.fsyncdir(asked, Fh(fh.0));
        self.ask(call("fsyncdir", request, ino).fh(fh.0), reply, op, done);
    }

    fn statfs(&self, request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let op = |vfs: &Vfs, asked, _: &mut _| vfs.statfs(asked);
        self.ask(call("statfs", request, ino), reply, op, reply::statfs);
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let mode = match decode::xattr_mode(flags) {
            Ok(mode) => mode,
            Err(errno) => return reply.error(errno),
        };
        let call = call("setxattr", request, ino).len(value.len() as u64);
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        let op =
            move |vfs: &Vfs, asked, _: &mut _| vfs.setxattr(asked, Ino(ino.0), &name, &value, mode);
        self.ask(call, reply, op, done);
    }

    fn getxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let name = name.as_bytes().to_vec();
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.getxattr(asked, Ino(ino.0), &name);
        let finish = move |reply: ReplyXattr, value: Vec<u8>| xattr(reply, &value, size);
        self.ask(call("getxattr", request, ino), reply, op, finish);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.listxattr(asked, Ino(ino.0));
        let finish = move |reply: ReplyXattr, names: Vec<Vec<u8>>| {
            xattr(reply, &decode::name_list(&names), size);
        };
        self.ask(call("listxattr", request, ino), reply, op, finish);
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.removexattr(asked, Ino(ino.0), &name);
        self.ask(call("removexattr", request, ino), reply, op, done);
    }

    /// Never asked with `default_permissions`; ENOSYS tells the kernel to answer yes itself.
    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (parent_ino, name, owner) = (Ino(parent.0), name.as_bytes().to_vec(), owner(request));
        let (mode, how) = (mode & PERMISSION_BITS, decode::open_mode(flags));
        let op = move |vfs: &Vfs, asked, reply: &mut ReplyCreate| {
            let create = || vfs.create(asked, owner, parent_ino, &name, mode, how);
            passed(vfs, |file| reply.open_backing(file), create, |(_, opened)| opened)
        };
        self.ask(call("create", request, parent), reply, op, created);
    }

    /// ENOSYS: the kernel finds blocks of a swap file no other way, and is not to find them here.
    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    /// ENOSYS: the kernel then says "ready" itself, as for files of any disk.
    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let how = match decode::allocate(mode) {
            Ok(how) => how,
            Err(errno) => return reply.error(errno),
        };
        let call = call("fallocate", request, ino).fh(fh.0).offset(offset).len(len);
        let op =
            move |vfs: &Vfs, asked, _: &mut _| vfs.fallocate(asked, Fh(fh.0), offset, len, how);
        self.ask(call, reply, op, done);
    }

    fn lseek(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let (from, what) = match decode::seek(offset, whence) {
            Ok(decoded) => decoded,
            Err(errno) => return reply.error(errno),
        };
        let op = move |vfs: &Vfs, asked, _: &mut _| vfs.lseek(asked, Fh(fh.0), from, what);
        let finish = |reply: ReplyLseek, found: u64| match i64::try_from(found) {
            Ok(found) => reply.offset(found),
            Err(_) => reply.error(Errno::EOVERFLOW),
        };
        self.ask(call("lseek", request, ino).fh(fh.0).offset(from), reply, op, finish);
    }

    fn copy_file_range(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        _to_ino: INodeNo,
        to_fh: FileHandle,
        to_offset: u64,
        len: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let len = len.min(COPY_BYTES_MAX);
        let (from, to) = (Fh(fh.0), Fh(to_fh.0));
        let op = move |vfs: &Vfs, asked, _: &mut _| {
            vfs.copy_range(asked, from, offset, to, to_offset, len)
        };
        let call = call("copy_file_range", request, ino).fh(fh.0).offset(offset).len(len);
        // At most COPY_BYTES_MAX.
        let finish = |reply: ReplyWrite, copied: u64| reply.written(copied as u32);
        self.ask(call, reply, op, finish);
    }
}
