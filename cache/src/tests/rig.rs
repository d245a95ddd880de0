//! A cache whose disk, journal and index lose power together, and the share beside it.
//!
//! Everything runs on one thread under a clock that waits for nobody, so that a run repeats exactly.

#[path = "../../tests/harness/values.rs"]
mod values;

use crate::attr::*;
use crate::clock::Clock;
use crate::config::{Config, MinFree};
use crate::disk::{DirLock, Disk, Loan, Locked, MemoryDisk};
use crate::error::{Error, ErrorKind, Result};
use crate::file::{File, data_path};
use crate::index::{Index, MemoryIndex, Op, Pair, Tree};
use crate::start::Kept;
use crate::step::{Asked, Step};
use crate::vfs::{DiskWork, Site, Vfs};
use covefs_remote::attempt::{AttemptConfig, Guarded};
use covefs_remote::fault::{FaultRemote, Odds};
#[cfg(unix)]
use covefs_remote::local::LocalRemote;
use covefs_remote::memory::MemoryRemote;
use covefs_remote::{Kind, Limits, Remote, RemotePath, Timestamp};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;
pub use values::*;

/// By the clock of the test, which costs nothing.
const PATIENCE: Duration = Duration::from_secs(600);

/// No operation waits so often.
const WAITS: u32 = 1000;

/// A share that takes its time, now and then.
pub const SLOW: Odds = Odds { before: 0, after: 0, short: 0, slow: 300 };

/// A number that the person who runs the test may set.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A machine with a cache, and the share.
pub struct Rig {
    /// The share, if it is one of memory.
    pub memory: Arc<MemoryRemote>,
    share: Arc<dyn Remote>,
    pub remote: Arc<FaultRemote>,
    pub disk: MemoryDisk,
    pub index: Arc<MemoryIndex>,
    pub config: Config,
    clock: Arc<Ticks>,
    /// A file, and when it was changed last: operations go on only while that is so.
    seen: RefCell<Option<(String, Option<Timestamp>)>>,
    starts: u64,
    /// Caches that it had before this one.
    lives: u64,
    /// Whole files are given to the kernel, which `MemoryDisk::loan` plays.
    pub lends: bool,
    lock: tempfile::TempDir,
    running: Option<(Runtime, Arc<Vfs>)>,
}

/// A wall clock that no two looks find the same.
#[derive(Default)]
struct Ticks(AtomicU64);

impl Ticks {
    /// Later than whatever a share in memory says, and past by the machine's own clock.
    const START_SECONDS: i64 = 1_700_000_000;

    fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        let micros = 1 + self.0.fetch_add(1, Ordering::SeqCst);
        let seconds = Self::START_SECONDS + (micros / 1_000_000) as i64;
        Timestamp { seconds, nanos: (micros % 1_000_000) as u32 * 1000 }
    }
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

    /// On an empty share that lists so many names at once.
    pub fn paged(entries: usize) -> Rig {
        let limits = MemoryRemote::new().limits().clone();
        let memory = MemoryRemote::with_limits(Limits { page_entries: entries, ..limits });
        let memory = Arc::new(memory);
        Rig::over(memory.clone(), memory)
    }

    /// The same on a directory.
    #[cfg(unix)]
    pub fn on_dir(root: &Path) -> Rig {
        let local = LocalRemote::open(root.to_owned()).unwrap();
        Rig::over(Arc::new(local), Arc::default())
    }

    /// Another site of the same share.
    pub fn beside(&self, site: &str) -> Rig {
        let mut rig = Rig::off(self.share.clone(), self.memory.clone());
        rig.config.site = site.into();
        (rig.config.watch, rig.config.freshness) = (self.config.watch, self.config.freshness);
        rig.lends = self.lends;
        rig.clock = self.clock.clone();
        rig.start();
        rig
    }

    fn over(share: Arc<dyn Remote>, memory: Arc<MemoryRemote>) -> Rig {
        let mut rig = Rig::off(share, memory);
        rig.start();
        rig
    }

    fn off(share: Arc<dyn Remote>, memory: Arc<MemoryRemote>) -> Rig {
        Rig {
            remote: Arc::new(FaultRemote::new(share.clone())),
            share,
            memory,
            disk: MemoryDisk::new(u64::MAX),
            index: Arc::new(MemoryIndex::new()),
            config: config(PathBuf::from("/nowhere")),
            clock: Arc::default(),
            seen: RefCell::default(),
            starts: 0,
            lives: 0,
            lends: false,
            lock: tempfile::tempdir().unwrap(),
            running: None,
        }
    }

    pub fn start(&mut self) {
        self.start_with(true);
    }

    /// Nothing goes wrong any more, but requests pass one another.
    pub fn heal(&self) {
        self.remote.heal();
        self.remote.randomly(self.starts, SLOW);
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
            site: Site {
                cache_id: format!("{}{}", self.config.site, self.lives),
                start: self.starts,
            },
            clock: self.clock.clone(),
            disk_work: DiskWork::AtOnce,
        };
        let attempts = AttemptConfig {
            timeout: self.config.timeout,
            seed: Some(self.starts),
            ..AttemptConfig::default()
        };
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
        if self.lends {
            self.disk.lend_files();
            vfs.may_lend(Some(Duration::ZERO));
        }
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

    /// How often anything here asked what time it is, and how long it was let be.
    pub fn looks_at_the_clock(&self) -> u64 {
        self.clock.0.load(Ordering::SeqCst)
    }

    /// By the clock of the test.
    pub fn now(&self) -> Instant {
        self.wait(async { Instant::now() })
    }

    /// The wall clock is set forward.
    pub fn clock_jumps(&self, time: Duration) {
        self.clock.pass(time);
    }

    /// A time that nothing else has, since 1970.
    pub fn tick(&self) -> Duration {
        let now = self.clock.now();
        Duration::new(now.seconds as u64, now.nanos)
    }

    pub fn pause(&self, time: Duration) {
        self.clock.pass(time);
        self.wait(async { tokio::time::sleep(time).await });
    }

    /// Runs an operation to its end, as the mount does.
    pub fn ask<T>(&self, mut op: impl FnMut(&Vfs, Asked) -> Result<Step<T>>) -> Result<T> {
        let runtime = &self.running.as_ref().unwrap().0;
        let _clock = runtime.enter();
        let mut asked = Asked::now();
        for _ in 0..WAITS {
            if self.has_changed() {
                return Err(Error::new(ErrorKind::Stale, "go on with what was seen"));
            }
            match op(self.vfs(), asked)? {
                Step::Done(answer) => return Ok(answer),
                Step::Wait(need) => {
                    self.wait(self.vfs().wait(asked, need))?;
                    asked = asked.blocking();
                }
            }
        }
        panic!("an operation never ends: it waits again and again");
    }

    /// Does something only while a file is what was seen of it: the word of the share that it is
    /// another may come at any moment. `None` when it did.
    pub fn while_seen<T>(
        &self,
        at: &str,
        changed: Option<Timestamp>,
        act: impl FnOnce(&Rig) -> Result<T>,
    ) -> Option<Result<T>> {
        *self.seen.borrow_mut() = Some((at.to_owned(), changed));
        let done = act(self);
        let stopped = done.is_err() && self.has_changed();
        *self.seen.borrow_mut() = None;
        (!stopped).then_some(done)
    }

    fn has_changed(&self) -> bool {
        // A dead machine knows nothing: whether it was done shows later.
        let seen = self.seen.borrow();
        !self.disk.is_killed()
            && seen.as_ref().is_some_and(|(at, changed)| self.mtime(at) != *changed)
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

    pub fn find(&self, at: &str) -> Result<Attr> {
        let mut found = None;
        let mut ino = Ino::ROOT;
        for name in at.split('/') {
            match self.ask(|vfs, asked| vfs.lookup(asked, ino, name.as_bytes()))? {
                Lookup::Found(entry) => (ino, found) = (entry.attr.ino, Some(entry.attr)),
                Lookup::Missing(_) => return Err(Error::new(ErrorKind::NotFound, "look")),
            }
        }
        Ok(found.expect("a path has a name"))
    }

    /// The kernel looks before it makes anything.
    pub fn is_free(&self, at: &str) -> Result<()> {
        match self.find(at) {
            Ok(_) => Err(Error::new(ErrorKind::Exists, "make")),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The directory and the name in it.
    fn split<'a>(&self, at: &'a str) -> Result<(Ino, &'a [u8])> {
        match at.rsplit_once('/') {
            Some((dir, name)) => Ok((self.find(dir)?.ino, name.as_bytes())),
            None => Ok((Ino::ROOT, at.as_bytes())),
        }
    }

    /// When a file was changed last, by what is known here.
    pub fn mtime(&self, at: &str) -> Option<Timestamp> {
        let node = self.vfs().tree().resolve(&path(at)).ok().flatten()?;
        Some(self.vfs().attr(&node).mtime)
    }

    /// What the data files and the journal take of the disk.
    pub fn allocated(&self) -> u64 {
        let of =
            |dir| self.disk.list(dir, true).unwrap().iter().map(|file| file.allocated).sum::<u64>();
        of("data") + of("journal")
    }

    /// The cache directory is deleted; it must not run.
    pub fn wipe(&mut self) {
        assert!(self.running.is_none(), "not under a running cache");
        self.disk = MemoryDisk::new(u64::MAX);
        self.index = Arc::new(MemoryIndex::new());
        self.starts = 0;
        self.lives += 1;
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
        let (dir, name) = self.split(name)?;
        let make = |vfs: &Vfs, asked| vfs.create(asked, OWNER, dir, name, 0o644, how);
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

    /// What every close does first.
    pub fn flush(&self, fh: Fh) -> Result<()> {
        self.ask(|vfs, asked| vfs.flush(asked, fh))
    }

    pub fn fsync_dir(&self, at: &str) -> Result<()> {
        let ino = self.find(at)?.ino;
        let fh = self.ask(|vfs, asked| vfs.opendir(asked, ino))?.fh;
        let synced = self.ask(|vfs, asked| vfs.fsyncdir(asked, fh));
        self.vfs().releasedir(fh);
        synced
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
        self.find(from)?;
        match self.find(to) {
            Err(error) if error.kind != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let ((dir, from), (to_dir, to)) = (self.split(from)?, self.split(to)?);
        let mode = RenameMode::Replace;
        self.ask(|vfs, asked| vfs.rename(asked, dir, from, to_dir, to, mode))
    }

    pub fn exchange(&self, one: &str, other: &str) -> Result<()> {
        self.find(one)?;
        self.find(other)?;
        let ((dir, one), (to_dir, other)) = (self.split(one)?, self.split(other)?);
        let mode = RenameMode::Exchange;
        self.ask(|vfs, asked| vfs.rename(asked, dir, one, to_dir, other, mode))
    }

    pub fn chmod(&self, at: &str, mode: u32) -> Result<()> {
        let ino = self.find(at)?.ino;
        let change = SetAttr { mode: Some(mode), ..SetAttr::default() };
        self.ask(|vfs, asked| vfs.setattr(asked, ino, None, &change)).map(drop)
    }

    /// Permission bits here, and on the share.
    pub fn mode(&self, at: &str) -> Option<u32> {
        self.find(at).ok().map(|attr| attr.mode)
    }

    pub fn mode_there(&self, at: &str) -> Option<u32> {
        self.wait(self.share.stat(&path(at))).ok()?.mode
    }

    /// The data file that the kernel reads for a handle, or writes to from a mapping of it.
    pub fn lent(&self, fh: Fh, writes: bool) -> Option<Loan> {
        let handle = self.vfs().handles.file(fh).ok()?;
        handle.lent.as_ref()?;
        self.disk.loan(&data_path(handle.file.id), writes).ok()
    }

    /// What holds the bytes of the file of this name.
    pub fn content_at(&self, at: &str) -> Option<ContentId> {
        let ino = self.find(at).ok()?.ino;
        self.vfs().tree().get(ino).ok()??.content
    }

    /// Where an open file is, as the user sees it.
    pub fn place_of(&self, fh: Fh) -> Option<String> {
        let file = self.vfs().handles.file(fh).ok()?.file.clone();
        let path = self.vfs().tree().path(file.node()).ok()??;
        Some(path.to_string().trim_start_matches('/').to_owned())
    }

    /// The user removed an open file, or replaced it.
    pub fn is_removed(&self, fh: Fh) -> bool {
        let Ok(handle) = self.vfs().handles.file(fh) else { return true };
        self.place_of(fh).is_none() && handle.file.lock().lost.is_none()
    }

    pub fn rm(&self, at: &str) -> Result<()> {
        self.find(at)?;
        let (dir, name) = self.split(at)?;
        self.ask(|vfs, asked| vfs.unlink(asked, dir, name))
    }

    pub fn mkdir(&self, at: &str) -> Result<()> {
        self.is_free(at)?;
        let (dir, name) = self.split(at)?;
        self.ask(|vfs, asked| vfs.mkdir(asked, OWNER, dir, name, 0o755)).map(drop)
    }

    pub fn rmdir(&self, at: &str) -> Result<()> {
        self.find(at)?;
        let (dir, name) = self.split(at)?;
        self.ask(|vfs, asked| vfs.rmdir(asked, dir, name))
    }

    pub fn evict(&self, name: &str) -> Result<u64> {
        self.wait(self.vfs().evict(&path(name)))
    }

    /// It has noticed that the share can be reached.
    pub fn until_online(&self) {
        let online = async {
            while !self.vfs().reach.is_online() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        self.wait(online);
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
                biased;
                synced = self.vfs().sync_wait(&|_| ()) => synced,
                () = dead => Err(Error::new(ErrorKind::Io, "wait for a dead machine")),
            }
        })
    }

    /// All names in the root, as the user sees them.
    pub fn names(&self) -> Vec<String> {
        self.list(Ino::ROOT).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    fn list(&self, dir: Ino) -> Result<Vec<(String, Attr)>> {
        let fh = self.ask(|vfs, asked| vfs.opendir(asked, dir))?.fh;
        let mut items = Vec::new();
        let read = self.ask(|vfs, asked| {
            items.clear();
            vfs.readdir(asked, fh, 0, true, &mut |item| {
                let name = String::from_utf8(item.name.clone()).unwrap();
                items.extend(item.entry.as_ref().map(|entry| (name, entry.attr)));
                false
            })
        });
        self.vfs().releasedir(fh);
        read?;
        Ok(items)
    }

    /// All paths, with whether they are directories, as the user sees them.
    pub fn paths(&self) -> Result<BTreeMap<String, bool>> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![(String::new(), Ino::ROOT)];
        while let Some((path, ino)) = dirs.pop() {
            for (name, attr) in self.list(ino)? {
                let at = format!("{path}{name}");
                let is_dir = attr.kind == Kind::Dir;
                if is_dir {
                    dirs.push((format!("{at}/"), attr.ino));
                }
                found.insert(at, is_dir);
            }
        }
        Ok(found)
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
