//! A file system that keeps nothing: what FUSE costs whatever is behind it. Names and sizes are in
//! memory, reads give zeros, what is written is dropped, and the kernel keeps all that it may.
//!
//! `stub MOUNTPOINT MIB FILES`: `big` of so many MiB, so many files in 20 directories of `many`; it
//! ends when it is unmounted.
#![allow(clippy::unwrap_used)]

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

const TTL: Duration = Duration::from_secs(10);
const GENERATION: Generation = Generation(0);
const REQUEST_BYTES: u32 = 1 << 20;
static ZEROS: [u8; REQUEST_BYTES as usize] = [0; REQUEST_BYTES as usize];
const SMALL_BYTES: u64 = 4096;
const DIRS: usize = 20;

/// A file or directory; its number is its place in the list, and one.
enum Node {
    File(u64),
    Dir(BTreeMap<OsString, u64>),
}

struct Tree(Vec<Node>);

impl Tree {
    fn add(&mut self, parent: u64, name: impl Into<OsString>, node: Node) -> u64 {
        self.0.push(node);
        let ino = self.0.len() as u64;
        self.names(parent).insert(name.into(), ino);
        ino
    }

    fn node(&mut self, ino: u64) -> &mut Node {
        &mut self.0[ino as usize - 1]
    }

    fn names(&mut self, ino: u64) -> &mut BTreeMap<OsString, u64> {
        match self.node(ino) {
            Node::Dir(names) => names,
            Node::File(_) => panic!("{ino} is no directory"),
        }
    }

    fn attr(&mut self, ino: u64) -> FileAttr {
        let (kind, perm, size) = match self.node(ino) {
            Node::File(size) => (FileType::RegularFile, 0o644, *size),
            Node::Dir(_) => (FileType::Directory, 0o755, 0),
        };
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 64 << 10,
            flags: 0,
        }
    }
}

struct Stub(Mutex<Tree>);

impl Stub {
    fn new(mib: u64, files: usize) -> Stub {
        let mut tree = Tree(vec![Node::Dir(BTreeMap::new())]);
        tree.add(1, "big", Node::File(mib << 20));
        let many = tree.add(1, "many", Node::Dir(BTreeMap::new()));
        let dirs: Vec<u64> = (0..DIRS)
            .map(|dir| tree.add(many, dir.to_string(), Node::Dir(BTreeMap::new())))
            .collect();
        for file in 0..files {
            tree.add(dirs[file % DIRS], file.to_string(), Node::File(SMALL_BYTES));
        }
        Stub(Mutex::new(tree))
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap()
    }

    /// The lines of a directory from `offset` on; the offset of a line is its number.
    fn lines(&self, ino: u64, offset: u64) -> Vec<(u64, OsString, FileAttr)> {
        let mut tree = self.tree();
        let names: Vec<_> = tree.names(ino).clone().into_iter().skip(offset as usize).collect();
        let lines = names.into_iter().zip(offset + 1..);
        lines.map(|((name, ino), line)| (line, name, tree.attr(ino))).collect()
    }
}

impl Filesystem for Stub {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ];
        for capability in wanted {
            let _ = config.add_capabilities(capability);
        }
        let _ = config.set_max_write(REQUEST_BYTES);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut tree = self.tree();
        match tree.names(parent.0).get(name).copied() {
            Some(ino) => reply.entry(&TTL, &tree.attr(ino), GENERATION),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.tree().attr(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree();
        if let (Node::File(old), Some(size)) = (tree.node(ino.0), size) {
            *old = size;
        }
        reply.attr(&TTL, &tree.attr(ino.0));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let mut tree = self.tree();
        let ino = tree.add(parent.0, name, Node::Dir(BTreeMap::new()));
        reply.entry(&TTL, &tree.attr(ino), GENERATION);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.tree().names(parent.0).remove(name);
        reply.ok();
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.tree().names(parent.0).remove(name);
        reply.ok();
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut tree = self.tree();
        match tree.names(parent.0).remove(name) {
            Some(ino) => {
                tree.names(new_parent.0).insert(new_name.to_owned(), ino);
                reply.ok();
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let end = self.tree().attr(ino.0).size;
        let len = end.saturating_sub(offset).min(size.into()) as usize;
        reply.data(&ZEROS[..len]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if let Node::File(size) = self.tree().node(ino.0) {
            *size = (*size).max(offset + data.len() as u64);
        }
        reply.written(data.len() as u32);
    }

    fn release(
        &self,
        _: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn opendir(&self, _: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        for (line, name, attr) in self.lines(ino.0, offset) {
            if reply.add(attr.ino, line, attr.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        for (line, name, attr) in self.lines(ino.0, offset) {
            if reply.add(attr.ino, line, name, &TTL, &attr, GENERATION) {
                break;
            }
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENODATA);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut tree = self.tree();
        let ino = tree.add(parent.0, name, Node::File(0));
        let (attr, flags) = (tree.attr(ino), FopenFlags::FOPEN_NOFLUSH);
        reply.created(&TTL, &attr, GENERATION, FileHandle(0), flags);
    }
}

fn main() {
    let usage = "stub MOUNTPOINT MIB FILES";
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mountpoint, mib, files] = &args[..] else { panic!("{usage}") };
    let stub = Stub::new(mib.parse().expect(usage), files.parse().expect(usage));
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::FSName("stub".into()), MountOption::DefaultPermissions];
    config.n_threads = Some(std::thread::available_parallelism().map_or(2, usize::from).max(2));
    config.clone_fd = true;
    fuser::mount(stub, mountpoint, &config).unwrap();
}
