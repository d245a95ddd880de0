//! A cache whose disk, journal and index lose power together, and the share beside it.
//!
//! Everything runs on one thread under a clock that waits for nobody, but for blocking disk work.

#[path = "../../tests/harness/values.rs"]
mod values;

use crate::attr::*;
use crate::config::{Config, MinFree};
use crate::disk::{DirLock, Locked, MemoryDisk};
use crate::error::{Error, ErrorKind, Result};
use crate::file::File;
use crate::index::{Index, MemoryIndex, Op, Pair, Tree};
use crate::start::Kept;
use crate::step::{Asked, Step};
use crate::vfs::{Site, Vfs};
use covefs_remote::attempt::{AttemptConfig, Guarded};
use covefs_remote::fault::FaultRemote;
use covefs_remote::local::LocalRemote;
use covefs_remote::memory::MemoryRemote;
use covefs_remote::{Remote, RemotePath};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;
pub use values::*;

/// By the clock of the test, which costs nothing.
const PATIENCE: Duration = Duration::from_secs(600);

/// A machine with a cache, and the share.
pub struct Rig {
    /// The share, if it is one of memory.
    pub memory: Arc<MemoryRemote>,
    share: Arc<dyn Remote>,
    pub remote: Arc<FaultRemote>,
    pub disk: MemoryDisk,
    pub index: Arc<MemoryIndex>,
    pub config: Config,
    starts: u64,
    lock: tempfile::TempDir,
    running: Option<(Runtime, Arc<Vfs>)>,
}

/// The index of a machine: it stops when the disk does.
struct Mortal {
    index: Arc<MemoryIndex>,
    disk: MemoryDisk,
}

impl Mortal {
    fn alive(&self) -> Result<&MemoryIndex> {
        match self.disk.is_killed() {
            true => Err(Error::new(ErrorKind::Io, "use the index of a dead machine")),
            false => Ok(&self.index),
        }
    }
}

impl Index for Mortal {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.alive()?.get(tree, key)
    }

    fn apply(&self, ops: &[Op]) -> Result<()> {
        self.alive()?.apply(ops)
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>> {
        self.alive()?.scan(tree, prefix, after, limit)
    }

    fn flush_durable(&self) -> Result<()> {
        self.alive()?.flush_durable()
    }

    fn size_bytes(&self) -> u64 {
        self.index.size_bytes()
    }

    fn clear(&self) -> Result<()> {
        self.alive()?.clear()
    }
}

impl Rig {
    /// Mounted on a share with these files.
    pub fn with(files: &[(&str, Vec<u8>)]) -> Rig {
        let memory = Arc::new(MemoryRemote::new());
        for (name, bytes) in files {
            memory.write_file(&path(name), bytes.clone());
        }
        Rig::over(memory.clone(), memory)
    }

    /// The same on a directory.
    pub fn on_dir(root: &Path) -> Rig {
        let local = LocalRemote::open(root.to_owned()).unwrap();
        Rig::over(Arc::new(local), Arc::default())
    }

    fn over(share: Arc<dyn Remote>, memory: Arc<MemoryRemote>) -> Rig {
        let mut rig = Rig {
            remote: Arc::new(FaultRemote::new(share.clone())),
            share,
            memory,
            disk: MemoryDisk::new(u64::MAX),
            index: Arc::new(MemoryIndex::new()),
            config: config(PathBuf::from("/nowhere")),
            starts: 0,
            lock: tempfile::tempdir().unwrap(),
            running: None,
        };
        rig.start();
        rig
    }

    pub fn start(&mut self) {
        self.start_with(true);
    }

    /// With the share in reach, or not.
    pub fn start_with(&mut self, online: bool) {
        self.remote.offline(!online);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        let Locked::Ours(lock) = DirLock::take(self.lock.path(), &self.config.mountpoint).unwrap()
        else {
            panic!("an earlier run still has the cache")
        };
        self.starts += 1;
        let kept = Kept {
            lock,
            disk: Arc::new(self.disk.clone()),
            index: Arc::new(Mortal { index: self.index.clone(), disk: self.disk.clone() }),
            fresh: self.starts == 1,
            site: Site { cache_id: "test".into(), start: self.starts },
        };
        let attempts = AttemptConfig { timeout: self.config.timeout, ..AttemptConfig::default() };
        let vfs = runtime.block_on(async {
            let guarded = Arc::new(Guarded::new(self.remote.clone(), attempts));
            let identity = self.share.identity().await.unwrap();
            let vfs = Vfs::start_on(kept, self.config.clone(), guarded, identity, online);
            let vfs = vfs.await.unwrap();
            while !vfs.space.is_ready() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            vfs
        });
        self.running = Some((runtime, vfs));
    }

    /// Everything stops where it stands.
    pub fn stop(&mut self) {
        let Some((runtime, vfs)) = self.running.take() else { return };
        let gone: Weak<Vfs> = Arc::downgrade(&vfs);
        drop(vfs);
        drop(runtime);
        while gone.strong_count() > 0 {
            std::thread::yield_now();
        }
    }

    /// The power goes, and comes again; what was not synced is there or not, by the seed.
    pub fn cut(&mut self, seed: u64) {
        self.stop();
        self.disk.power_loss(seed);
        self.index.lose_unflushed(Random::seeded(seed).next());
        self.start();
    }

    pub fn vfs(&self) -> &Vfs {
        &self.running.as_ref().unwrap().1
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(PATIENCE, future).await };
        self.running.as_ref().unwrap().0.block_on(limited).expect("it never ends")
    }

    /// By the clock of the test.
    pub fn now(&self) -> Instant {
        self.wait(async { Instant::now() })
    }

    pub fn pause(&self, time: Duration) {
        self.wait(async { tokio::time::sleep(time).await });
    }

    /// Runs an operation to its end, as the mount does.
    pub fn ask<T>(&self, mut op: impl FnMut(&Vfs, Asked) -> Result<Step<T>>) -> Result<T> {
        let runtime = &self.running.as_ref().unwrap().0;
        let _clock = runtime.enter();
        let mut asked = Asked::now();
        loop {
            match op(self.vfs(), asked)? {
                Step::Done(answer) => return Ok(answer),
                Step::Wait(need) => {
                    self.wait(self.vfs().wait(asked, need))?;
                    asked = asked.blocking();
                }
            }
        }
    }

    /// What the background does every two seconds.
    pub fn settle(&self) -> Result<()> {
        let _clock = self.running.as_ref().unwrap().0.enter();
        self.vfs().settle(false)
    }

    /// As the index does by itself every half a second.
    pub fn index_is_durable(&self) {
        self.index.flush_durable().unwrap();
    }

    /// As any fsync does, of whatever file.
    pub fn journal_is_durable(&self) {
        self.vfs().journal.sync().unwrap();
    }

    pub fn find(&self, name: &str) -> Result<Attr> {
        match self.ask(|vfs, asked| vfs.lookup(asked, Ino::ROOT, name.as_bytes()))? {
            Lookup::Found(entry) => Ok(entry.attr),
            Lookup::Missing(_) => Err(Error::new(ErrorKind::NotFound, "look")),
        }
    }

    /// The content of a file that was just opened.
    pub fn file(&self, name: &str) -> Arc<File> {
        let mut tree = self.vfs().tree();
        let node = tree.child(Ino::ROOT, name.as_bytes()).unwrap().unwrap();
        self.vfs().file_of(&mut tree, node).unwrap()
    }

    pub fn open(&self, name: &str, how: OpenMode) -> Result<Fh> {
        let ino = self.find(name)?.ino;
        Ok(self.ask(|vfs, asked| vfs.open(asked, ino, how))?.fh)
    }

    pub fn create(&self, name: &str, how: OpenMode) -> Result<Fh> {
        let make =
            |vfs: &Vfs, asked| vfs.create(asked, OWNER, Ino::ROOT, name.as_bytes(), 0o644, how);
        Ok(self.ask(make)?.1.fh)
    }

    pub fn close(&self, fh: Fh) {
        // A machine that died answers nothing.
        let _ = self.ask(|vfs, asked| vfs.flush(asked, fh));
        let _clock = self.running.as_ref().unwrap().0.enter();
        self.vfs().release(fh);
    }

    pub fn write_at(&self, fh: Fh, offset: u64, bytes: &[u8]) -> Result<()> {
        self.ask(|vfs, asked| vfs.write(asked, fh, offset, bytes)).map(drop)
    }

    pub fn fsync(&self, fh: Fh) -> Result<()> {
        self.ask(|vfs, asked| vfs.fsync(asked, fh))
    }

    /// Opens, acts and closes.
    pub fn on(&self, name: &str, act: impl FnOnce(Fh) -> Result<()>) -> Result<()> {
        let fh = self.open(name, WRITE)?;
        let done = act(fh);
        self.close(fh);
        done
    }

    pub fn edit(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        self.on(name, |fh| self.write_at(fh, offset, bytes))
    }

    pub fn resize(&self, name: &str, size: u64) -> Result<()> {
        let ino = self.find(name)?.ino;
        let change = SetAttr { size: Some(size), ..SetAttr::default() };
        self.ask(|vfs, asked| vfs.setattr(asked, ino, None, &change)).map(drop)
    }

    pub fn read_at(&self, fh: Fh, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let asked = Asked::now();
        let clock = self.running.as_ref().unwrap().0.enter();
        let step = self.vfs().read(asked, fh, offset, len, &mut out)?;
        drop(clock);
        match step {
            Step::Done(()) => Ok(out),
            Step::Wait(_) => self.wait(self.vfs().read_cold(asked, fh, offset, len)),
        }
    }

    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let fh = self.open(name, READ)?;
        let bytes = self.read_at(fh, 0, 4 << 20);
        self.close(fh);
        bytes
    }

    pub fn mv(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (from.as_bytes(), to.as_bytes());
        let mode = RenameMode::Replace;
        self.ask(|vfs, asked| vfs.rename(asked, Ino::ROOT, from, Ino::ROOT, to, mode))
    }

    pub fn rm(&self, name: &str) -> Result<()> {
        self.ask(|vfs, asked| vfs.unlink(asked, Ino::ROOT, name.as_bytes()))
    }

    pub fn evict(&self, name: &str) -> Result<u64> {
        self.wait(self.vfs().evict(&path(name)))
    }

    /// Everything is on the share, unless the machine dies first.
    pub fn sync(&self) -> Result<()> {
        let dead = async {
            while !self.disk.is_killed() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        self.wait(async {
            tokio::select! {
                synced = self.vfs().sync_wait(&|_| ()) => synced,
                () = dead => Err(Error::new(ErrorKind::Io, "wait for a dead machine")),
            }
        })
    }

    /// All names but directories, as the user sees them.
    pub fn names(&self) -> Vec<String> {
        let fh = self.ask(|vfs, asked| vfs.opendir(asked, Ino::ROOT)).unwrap();
        let mut names = Vec::new();
        let read = self.ask(|vfs, asked| {
            names.clear();
            vfs.readdir(asked, fh, 0, true, &mut |item| {
                names.push(String::from_utf8(item.name.clone()).unwrap());
                false
            })
        });
        self.vfs().releasedir(fh);
        read.unwrap();
        names.retain(|name| name != "." && name != "..");
        names
    }

    /// The bytes the share has under a name.
    pub fn there(&self, name: &str) -> Option<Vec<u8>> {
        self.memory.read_file(&path(name)).map(|bytes| bytes.to_vec())
    }

    /// All names in the share's root.
    pub fn listed_there(&self) -> BTreeSet<String> {
        let tree = self.memory.tree();
        let paths = tree.keys().filter(|path| !path.is_root());
        paths.map(|path| path.to_string().trim_start_matches('/').to_owned()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}
