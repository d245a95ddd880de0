//! A mounted cache without a kernel: operations by path, restarts, crashes, and the share beside it.
#![allow(dead_code)]

mod values;

use covefs_cache::*;
use covefs_remote::fault::FaultRemote;
use covefs_remote::memory::{Entry as Held, MemoryRemote};
use covefs_remote::{Remote, RemotePath};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
pub use values::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A share in memory, with faults, and a cache of it.
pub struct Rig {
    pub memory: Arc<MemoryRemote>,
    pub remote: Arc<FaultRemote>,
    pub config: Config,
    dir: tempfile::TempDir,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    vfs: Arc<Vfs>,
}

/// What happens to the index between a crash and the next start.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Index {
    Kept,
    Deleted,
}

/// Bytes, said in short when they differ.
#[track_caller]
pub fn same(left: &[u8], right: &[u8]) {
    if left != right {
        let at = left.iter().zip(right).position(|(a, b)| a != b);
        let at = at.unwrap_or(left.len().min(right.len()));
        let show = |bytes: &[u8]| format!("{:?}", &bytes[at..bytes.len().min(at + 8)]);
        panic!(
            "{} bytes, {} expected; from {at} on {}, expected {}",
            left.len(),
            right.len(),
            show(left),
            show(right)
        );
    }
}

impl Rig {
    /// Mounted on an empty share; quick to upload, quick to look again.
    pub fn new() -> Rig {
        Rig::with(|_, _| ())
    }

    /// The same with a share and settings prepared.
    pub fn with(prepare: impl FnOnce(&MemoryRemote, &mut Config)) -> Rig {
        let memory = Arc::new(MemoryRemote::new());
        Rig::over(memory.clone(), memory, prepare)
    }

    /// The same on any share; `memory` is what tests of a share in memory look at.
    pub fn over(
        share: Arc<dyn Remote>,
        memory: Arc<MemoryRemote>,
        prepare: impl FnOnce(&MemoryRemote, &mut Config),
    ) -> Rig {
        let remote = Arc::new(FaultRemote::new(share));
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut config = config(dir.path().join("cache"));
        prepare(&memory, &mut config);
        let mut rig = Rig { memory, remote, config, dir, running: None };
        rig.start();
        rig
    }

    pub fn start(&mut self) {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let vfs = runtime.block_on(Vfs::start(self.config.clone(), self.remote.clone())).unwrap();
        self.running = Some(Running { runtime, vfs });
        self.until("the cache is counted", |rig| rig.vfs().status().cache.used_bytes > 0);
    }

    /// A proper end.
    pub fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.runtime.block_on(running.vfs.shutdown());
        end(running);
    }

    /// Everything stops where it stands; what was not journalled is gone.
    pub fn crash(&mut self, index: Index) {
        end(self.running.take().unwrap());
        if index == Index::Deleted {
            std::fs::remove_dir_all(self.config.cache_dir.join("meta.sled")).unwrap();
        }
    }

    pub fn vfs(&self) -> &Vfs {
        &self.running.as_ref().unwrap().vfs
    }

    pub fn arc(&self) -> Arc<Vfs> {
        self.running.as_ref().unwrap().vfs.clone()
    }

    pub fn handle(&self) -> &tokio::runtime::Handle {
        self.running.as_ref().unwrap().runtime.handle()
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle().block_on(future)
    }

    /// Runs an operation to its end, as the mount does.
    pub fn ask<T>(&self, op: impl FnMut(&Vfs, Asked) -> Result<Step<T>>) -> Result<T> {
        ask(self.vfs(), self.handle(), op)
    }

    pub fn until(&self, what: &str, mut done: impl FnMut(&Rig) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            self.pause(Duration::from_millis(5));
        }
    }

    pub fn pause(&self, time: Duration) {
        self.wait(async { tokio::time::sleep(time).await });
    }

    /// Nothing is fresh any more: the next look asks the share.
    pub fn age(&self) {
        self.wait(self.vfs().age());
    }

    pub fn find(&self, at: &str) -> Result<Attr> {
        let at = path(at);
        let mut attr = self.ask(|vfs, asked| vfs.getattr(asked, Ino::ROOT, None))?.attr;
        for name in at.names() {
            match self.ask(|vfs, asked| vfs.lookup(asked, attr.ino, name))? {
                Lookup::Found(entry) => attr = entry.attr,
                Lookup::Missing(_) => {
                    return Err(Error::new(ErrorKind::NotFound, "walk"));
                }
            }
        }
        Ok(attr)
    }

    fn parent(&self, at: &str) -> Result<(Ino, Vec<u8>)> {
        let at = path(at);
        let (dir, name) = at.split().unwrap();
        Ok((self.find(&dir.to_string())?.ino, name.to_vec()))
    }

    pub fn open(&self, at: &str, how: OpenMode) -> Result<Fh> {
        let ino = self.find(at)?.ino;
        Ok(self.ask(|vfs, asked| vfs.open(asked, ino, how))?.fh)
    }

    pub fn create(&self, at: &str, how: OpenMode) -> Result<Fh> {
        let (dir, name) = self.parent(at)?;
        Ok(self.ask(|vfs, asked| vfs.create(asked, OWNER, dir, &name, 0o644, how))?.1.fh)
    }

    pub fn close(&self, fh: Fh) {
        let _ = self.ask(|vfs, asked| vfs.flush(asked, fh));
        self.vfs().release(fh);
    }

    pub fn read_at(&self, fh: Fh, offset: u64, len: usize) -> Result<Vec<u8>> {
        read_at(self.vfs(), self.handle(), fh, offset, len)
    }

    pub fn write_at(&self, fh: Fh, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.ask(|vfs, asked| vfs.write(asked, fh, offset, bytes))?;
        assert_eq!(written, bytes.len(), "a write is all or an error");
        Ok(())
    }

    /// All bytes of a file.
    pub fn read(&self, at: &str) -> Result<Vec<u8>> {
        let fh = self.open(at, READ)?;
        let mut bytes = Vec::new();
        let result = loop {
            match self.read_at(fh, bytes.len() as u64, 128 << 10) {
                Ok(more) if more.is_empty() => break Ok(bytes),
                Ok(more) => bytes.extend(more),
                Err(error) => break Err(error),
            }
        };
        self.close(fh);
        result
    }

    /// Whether all bytes of a file are kept here.
    pub fn is_here(&self, at: &str) -> bool {
        let why = self.wait(self.vfs().why(&path(at))).unwrap();
        let here = why.iter().find_map(|line| line.strip_prefix("here: ")).unwrap_or("0 of 0");
        let numbers: Vec<&str> = here.split(' ').collect();
        numbers[0] == numbers[2] && numbers[0] != "0"
    }

    /// Reads all of a file, until it is kept: nothing is before the cache has been counted.
    pub fn read_in(&self, at: &str) -> Vec<u8> {
        let bytes = self.read(at).unwrap();
        self.until("it is kept here", |rig| {
            rig.is_here(at) || {
                rig.read(at).unwrap();
                false
            }
        });
        bytes
    }

    /// Makes it, or replaces all of it.
    pub fn save(&self, at: &str, bytes: &[u8]) -> Result<()> {
        let fh = self.create(at, TRUNCATE)?;
        let result = self.write_at(fh, 0, bytes);
        self.close(fh);
        result
    }

    /// Writes into it.
    pub fn edit(&self, at: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let fh = self.open(at, WRITE)?;
        let result = self.write_at(fh, offset, bytes);
        self.close(fh);
        result
    }

    pub fn set(&self, at: &str, change: SetAttr) -> Result<Attr> {
        let ino = self.find(at)?.ino;
        Ok(self.ask(|vfs, asked| vfs.setattr(asked, ino, None, &change))?.attr)
    }

    pub fn resize(&self, at: &str, size: u64) -> Result<()> {
        self.set(at, SetAttr { size: Some(size), ..SetAttr::default() }).map(drop)
    }

    pub fn allocate(&self, at: &str, offset: u64, len: u64, how: Allocate) -> Result<()> {
        let fh = self.open(at, WRITE)?;
        let result = self.ask(|vfs, asked| vfs.fallocate(asked, fh, offset, len, how));
        self.close(fh);
        result
    }

    pub fn mkdir(&self, at: &str) -> Result<()> {
        let (dir, name) = self.parent(at)?;
        self.ask(|vfs, asked| vfs.mkdir(asked, OWNER, dir, &name, 0o755)).map(drop)
    }

    pub fn symlink(&self, at: &str, target: &[u8]) -> Result<()> {
        let (dir, name) = self.parent(at)?;
        self.ask(|vfs, asked| vfs.symlink(asked, OWNER, dir, &name, target)).map(drop)
    }

    pub fn unlink(&self, at: &str) -> Result<()> {
        let (dir, name) = self.parent(at)?;
        self.ask(|vfs, asked| vfs.unlink(asked, dir, &name))
    }

    pub fn rmdir(&self, at: &str) -> Result<()> {
        let (dir, name) = self.parent(at)?;
        self.ask(|vfs, asked| vfs.rmdir(asked, dir, &name))
    }

    pub fn rename(&self, from: &str, to: &str, mode: RenameMode) -> Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        self.ask(|vfs, asked| vfs.rename(asked, from_dir, &from_name, to_dir, &to_name, mode))
    }

    pub fn mv(&self, from: &str, to: &str) -> Result<()> {
        self.rename(from, to, RenameMode::Replace)
    }

    pub fn set_xattr(&self, at: &str, name: &[u8], value: &[u8]) -> Result<()> {
        let ino = self.find(at)?.ino;
        self.ask(|vfs, asked| vfs.setxattr(asked, ino, name, value, XattrMode::Any))
    }

    pub fn xattr(&self, at: &str, name: &[u8]) -> Result<Vec<u8>> {
        let ino = self.find(at)?.ino;
        self.ask(|vfs, asked| vfs.getxattr(asked, ino, name))
    }

    pub fn names(&self, at: &str) -> Result<Vec<String>> {
        let ino = self.find(at)?.ino;
        let fh = self.ask(|vfs, asked| vfs.opendir(asked, ino))?.fh;
        let mut names = Vec::new();
        let result = self.ask(|vfs, asked| {
            names.clear();
            vfs.readdir(asked, fh, 0, true, &mut |item| {
                names.push(String::from_utf8(item.name.clone()).unwrap());
                false
            })
        });
        self.vfs().releasedir(fh);
        result?;
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    pub fn fsync(&self, at: &str) -> Result<()> {
        let fh = self.open(at, WRITE)?;
        let result = self.ask(|vfs, asked| vfs.fsync(asked, fh));
        self.close(fh);
        result
    }

    /// Drops the clean bytes of a path.
    pub fn evict(&self, at: &str) -> u64 {
        self.wait(self.vfs().evict(&path(at))).unwrap()
    }

    /// Everything is on the share, or the test fails.
    pub fn sync(&self) {
        let done = self
            .wait(async { tokio::time::timeout(PATIENCE, self.vfs().sync_wait(&|_| ())).await });
        match done {
            Ok(result) => result.unwrap(),
            Err(_) => panic!("sync never ends: {:#?}", self.vfs().status()),
        }
    }

    /// The bytes the share has at a path.
    pub fn there(&self, at: &str) -> Option<Vec<u8>> {
        self.memory.read_file(&path(at)).map(|bytes| bytes.to_vec())
    }

    /// All names of the share, without directories.
    pub fn share_files(&self) -> Vec<String> {
        let tree = self.memory.tree();
        let files = tree.iter().filter(|(_, held)| **held != Held::Dir);
        files.map(|(path, _)| path.to_string().trim_start_matches('/').to_owned()).collect()
    }

    pub fn conflicts(&self) -> Vec<ConflictRecord> {
        self.vfs().conflicts()
    }

    /// Allocated bytes of what the limit counts (E2).
    pub fn allocated(&self) -> u64 {
        let count = |name| allocated_below(&self.config.cache_dir.join(name));
        count("data") + count("journal")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            if std::thread::panicking() {
                running.runtime.shutdown_background();
            } else {
                end(running);
            }
        }
    }
}

/// Stops all threads and waits until nobody holds the cache directory.
fn end(running: Running) {
    let gone: Weak<Vfs> = Arc::downgrade(&running.vfs);
    let Running { runtime, vfs } = running;
    drop(vfs);
    runtime.shutdown_timeout(PATIENCE);
    let deadline = Instant::now() + PATIENCE;
    while gone.strong_count() > 0 {
        assert!(Instant::now() < deadline, "somebody still holds the mount");
        std::thread::yield_now();
    }
}

fn allocated_below(dir: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let mut sum = 0;
    for entry in entries.flatten() {
        // A file may go while it is counted.
        let Ok(metadata) = entry.metadata() else { continue };
        sum +=
            if metadata.is_dir() { allocated_below(&entry.path()) } else { allocated(&metadata) };
    }
    sum
}

#[cfg(unix)]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(windows)]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

/// Runs an operation to its end, as the mount does: here, then from threads that may block.
pub fn ask<T>(
    vfs: &Vfs,
    runtime: &tokio::runtime::Handle,
    mut op: impl FnMut(&Vfs, Asked) -> Result<Step<T>>,
) -> Result<T> {
    let mut asked = Asked::now();
    loop {
        match op(vfs, asked)? {
            Step::Done(answer) => return Ok(answer),
            Step::Wait(need) => {
                let waited = runtime.block_on(async {
                    tokio::time::timeout(3 * PATIENCE, vfs.wait(asked, need.clone())).await
                });
                waited.unwrap_or_else(|_| panic!("waits for ever for {need:?}"))?;
                asked = asked.blocking();
            }
        }
    }
}

pub fn read_at(
    vfs: &Vfs,
    runtime: &tokio::runtime::Handle,
    fh: Fh,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let asked = Asked::now();
    match vfs.read(asked, fh, offset, len, &mut out)? {
        Step::Done(()) => Ok(out),
        Step::Wait(need) => runtime.block_on(async {
            let read = vfs.read_cold(asked, fh, offset, len);
            let read = tokio::time::timeout(2 * PATIENCE, read).await;
            read.unwrap_or_else(|_| panic!("a read waits for ever for {need:?}"))
        }),
    }
}

/// A number from the environment.
pub fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
