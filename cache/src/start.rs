//! Opening a cache directory for a mount: every reason to refuse is one line for people.

use crate::attr::Ino;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::disk::{DirLock, Disk, Locked, RealDisk, suitable};
use crate::doubt::{self, Doubted};
use crate::error::Error;
use crate::file::data_dirs;
use crate::index::{Index, Op, SledIndex, Tree as Table, WriteBehind};
use crate::journal::{Journal, JournalLimits, Live, Replayed, is_torn};
use crate::limits;
use crate::node::{Base, DirtyAttrs, Node, Place};
use crate::tree::Tree;
use crate::vfs::{DiskWork, Parts, Site, Vfs};
use covefs_remote::attempt::{AttemptConfig, Guarded};
use covefs_remote::{Kind, Metadata, Remote, RemotePath, ShareIdentity, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Why a mount cannot start.
#[derive(Debug)]
pub enum StartError {
    /// Another process has this cache.
    InUse {
        /// The cache directory.
        dir: PathBuf,
        /// Its process id, where it is known.
        pid: Option<u32>,
        /// Where it mounted the share.
        mountpoint: Option<String>,
    },
    /// The cache belongs to another share.
    OtherShare {
        /// The cache directory.
        dir: PathBuf,
        /// The share it was made for.
        theirs: String,
    },
    /// A later covefs wrote it.
    NewerFormat {
        /// The cache directory.
        dir: PathBuf,
        /// Its format number.
        format: u32,
    },
    /// The directory, or what it lies on, cannot hold a cache; with what to do.
    Unsuitable {
        /// The cache directory.
        dir: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The share cannot be reached, and no earlier mount left anything to go on with.
    Unreachable(covefs_remote::Error),
    /// The limit is below the floor, or above the disk.
    Limit(String),
    /// The local disk failed.
    Disk {
        /// The cache directory.
        dir: PathBuf,
        /// What lies beneath.
        source: crate::error::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::InUse { dir, pid, mountpoint } => {
                write!(out, "cache {} is in use", dir.display())?;
                if let Some(pid) = pid {
                    write!(out, " by process {pid}")?;
                }
                match mountpoint {
                    Some(at) => write!(
                        out,
                        ", mounted at {at}; unmount it first, or give this mount its own --cache-dir"
                    )?,
                    None => write!(out, "; give this mount its own --cache-dir")?,
                }
                match pid {
                    Some(pid) => write!(out, " (a process that hangs is ended by kill -9 {pid})"),
                    None => Ok(()),
                }
            }
            StartError::OtherShare { dir, theirs } => write!(
                out,
                "cache {} belongs to the share {theirs}; give this mount its own --cache-dir",
                dir.display()
            ),
            StartError::NewerFormat { dir, format } => write!(
                out,
                "cache {} has format {format}, made by a later covefs; use that one, or another --cache-dir",
                dir.display()
            ),
            StartError::Unsuitable { dir, reason } => {
                write!(out, "cannot keep a cache in {}: {reason}", dir.display())
            }
            StartError::Unreachable(error) => write!(out, "the share cannot be used: {error}"),
            StartError::Limit(reason) => write!(out, "{reason}"),
            StartError::Disk { dir, source } => {
                write!(out, "cannot open the cache {}: {source}", dir.display())
            }
        }
    }
}

impl std::error::Error for StartError {}

/// What an unmounted cache holds, for `covefs status --all`.
#[derive(Clone, Debug)]
pub struct CacheSummary {
    /// The share it was made for.
    pub share: String,
    /// Where it was mounted last.
    pub mountpoint: String,
    /// The process that has it now, if any.
    pub pid: Option<u32>,
    /// Files and directories that the share does not have yet.
    pub dirty: u64,
    /// Bytes of them.
    pub dirty_bytes: u64,
}

/// What `covefs check` found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// Data files looked at.
    pub files: u64,
    /// Bytes whose checksums were compared.
    pub checked_bytes: u64,
    /// One line each, for people; empty when all is well.
    pub problems: Vec<String>,
    /// What `--repair` did about them.
    pub repaired: Vec<String>,
}

/// The format of the cache directory; docs/FORMAT.md.
const FORMAT: u32 = 1;
const CACHE_JSON: &str = "cache.json";
/// The last epoch that the index was durably flushed in, as it says itself.
const EPOCH: &[u8] = b"epoch";

/// What `cache.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CacheJson {
    format: u32,
    share: String,
    identity: Option<ShareIdentity>,
    mountpoint: String,
    site: String,
    /// Random, in temporary names on the share (X2).
    cache_id: String,
    /// Raised before each mount (J8).
    start: u64,
    /// The machine and directory it was made in: a copy is noticed by another one.
    home: String,
}

fn disk_error(dir: &Path) -> impl Fn(Error) -> StartError {
    let dir = dir.to_owned();
    move |source| StartError::Disk { dir: dir.clone(), source }
}

fn io_error(dir: &Path, op: &'static str) -> impl Fn(std::io::Error) -> StartError {
    let dir = dir.to_owned();
    move |error| StartError::Disk { dir: dir.clone(), source: Error::disk(op, error) }
}

fn read_json(disk: &dyn Disk, dir: &Path) -> Result<Option<CacheJson>, StartError> {
    let bytes = match disk.read_small(CACHE_JSON) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(dir, "read cache.json")(error)),
    };
    decode(dir, &bytes).map(Some)
}

/// What the bytes of a `cache.json` say.
fn decode(dir: &Path, bytes: &[u8]) -> std::result::Result<CacheJson, StartError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let unreadable = |_| StartError::Unsuitable {
        dir: dir.to_owned(),
        reason: "its cache.json cannot be read; move the directory away, it may hold edits that \
                 the share does not have"
            .to_owned(),
    };
    let Format { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if format > FORMAT {
        return Err(StartError::NewerFormat { dir: dir.to_owned(), format });
    }
    serde_json::from_slice(bytes).map_err(unreadable)
}

/// Reads any bytes as a `cache.json`; for fuzzing.
pub(crate) fn read_any(bytes: &[u8]) -> bool {
    decode(Path::new("cache"), bytes).is_ok()
}

fn random_id() -> String {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds each of these from the system's randomness.
    let draw = || std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{:016x}", draw() ^ draw().rotate_left(32))
}

/// An opened cache directory.
struct Opened {
    lock: DirLock,
    disk: Arc<RealDisk>,
    json: Option<CacheJson>,
}

/// What a run goes on with.
pub(crate) struct Kept {
    pub lock: DirLock,
    pub disk: Arc<dyn Disk>,
    pub index: Arc<dyn Index>,
    /// The index has nothing of an earlier run.
    pub fresh: bool,
    pub site: Site,
    pub clock: Arc<dyn Clock>,
    pub disk_work: DiskWork,
}

fn open_dir(dir: &Path, mountpoint: &Path) -> Result<Opened, StartError> {
    let disk = RealDisk::open(dir.to_owned()).map_err(disk_error(dir))?;
    let lock = match DirLock::take(dir, mountpoint).map_err(disk_error(dir))? {
        Locked::Ours(lock) => lock,
        Locked::Held(holder) => {
            return Err(StartError::InUse {
                dir: dir.to_owned(),
                pid: holder.pid,
                mountpoint: holder.mountpoint,
            });
        }
    };
    let json = read_json(&disk, dir)?;
    Ok(Opened { lock, disk: Arc::new(disk), json })
}

fn open_index(disk: &RealDisk, dir: &Path) -> Result<(Arc<dyn Index>, bool), StartError> {
    let path = disk.index_path().expect("the real disk has a place for an index");
    let fresh = !path.exists();
    let (index, reason) = SledIndex::open(&path).map_err(disk_error(dir))?;
    if let Some(reason) = &reason {
        tracing::warn!(reason, "the index was damaged: set aside, a fresh one is begun");
    }
    let index = WriteBehind::new(Arc::new(index)).map_err(disk_error(dir))?;
    Ok((Arc::new(index), fresh || reason.is_some()))
}

/// Reads what an unmounted cache holds; `None` where there is none.
pub fn summary(cache_dir: &Path) -> Result<Option<CacheSummary>, StartError> {
    if !cache_dir.join(CACHE_JSON).exists() {
        return Ok(None);
    }
    let holder = DirLock::holder(cache_dir).map_err(disk_error(cache_dir))?;
    let disk = Arc::new(RealDisk::open(cache_dir.to_owned()).map_err(disk_error(cache_dir))?);
    let Some(json) = read_json(&*disk, cache_dir)? else { return Ok(None) };
    let mut summary = CacheSummary {
        share: json.share,
        mountpoint: json.mountpoint.clone(),
        pid: None,
        dirty: 0,
        dirty_bytes: 0,
    };
    if let Some(holder) = holder {
        summary.pid = holder.pid;
        return Ok(Some(summary));
    }
    // Opening a journal may set damage aside: nobody else may do it at the same time.
    let opened = open_dir(cache_dir, Path::new(&json.mountpoint))?;
    let (journal, _) = Journal::open(opened.disk).map_err(disk_error(cache_dir))?;
    journal.live(|live| {
        summary.dirty = live.nodes.values().filter(|node| node.is_dirty()).count() as u64;
        summary.dirty_bytes = live.contents.values().map(|c| c.dirty().total()).sum();
    });
    Ok(Some(summary))
}

/// Verifies an unmounted cache; with `repair`, drops what is wrong and can be fetched again, and
/// never an unsynced byte.
pub fn check(cache_dir: &Path, repair: bool) -> Result<CheckReport, StartError> {
    let opened = open_dir(cache_dir, Path::new("covefs check"))?;
    if opened.json.is_none() {
        return Err(StartError::Unsuitable {
            dir: cache_dir.to_owned(),
            reason: "there is no cache in it (no cache.json)".to_owned(),
        });
    }
    let failed = disk_error(cache_dir);
    let (journal, replayed) = Journal::open(opened.disk.clone()).map_err(&failed)?;
    let (index, _) = open_index(&opened.disk, cache_dir)?;
    let report = crate::check::check(&*opened.disk, &*index, &journal, &replayed, repair);
    drop(opened.lock);
    report.map_err(failed)
}

impl Vfs {
    /// Opens the cache, replays what is not on the share yet, and starts the background tasks on
    /// the runtime it is called from.
    pub async fn start(config: Config, remote: Arc<dyn Remote>) -> Result<Arc<Vfs>, StartError> {
        let dir = config.cache_dir.clone();
        if config.limit_bytes < limits::CACHE_FLOOR {
            return Err(StartError::Limit(
                "the cache size is below the floor of 64 MiB; give a larger --cache-size".into(),
            ));
        }
        let attempts = AttemptConfig { timeout: config.timeout, ..AttemptConfig::default() };
        let guarded = Arc::new(Guarded::new(remote, attempts));
        let opened = open_dir(&dir, &config.mountpoint)?;
        if opened.json.is_none() {
            suitable(&dir).map_err(|error| StartError::Unsuitable {
                dir: dir.clone(),
                reason: error.source.map_or(error.path, |source| source.to_string()),
            })?;
        }
        check_limit(&config, &opened.disk)?;
        let found = guarded.identity().await;
        let known = opened.json.as_ref().and_then(|json| json.identity.clone());
        let (online, identity) = match (found, known) {
            (Ok(found), Some(known)) if found != known => {
                let theirs = opened.json.map_or_else(String::new, |json| json.share);
                return Err(StartError::OtherShare { dir, theirs });
            }
            (Ok(found), _) => (true, found),
            (Err(_), Some(known)) => (false, known),
            (Err(error), None) => return Err(StartError::Unreachable(error)),
        };
        let (json, copied) = next_json(&config, &opened, identity.clone(), &dir)?;
        let (index, fresh) = open_index(&opened.disk, &dir)?;
        if let Err(error) = opened.disk.make_dirs("data", data_dirs()) {
            // Each is made with its first file, too.
            tracing::debug!(%error, "the directories of data files");
        }
        let kept = Kept {
            lock: opened.lock,
            disk: opened.disk,
            index,
            fresh: fresh || copied,
            site: Site { cache_id: json.cache_id, start: json.start },
            clock: Arc::new(SystemClock),
            disk_work: DiskWork::Pool,
        };
        Vfs::start_on(kept, config, guarded, identity, online).await.map_err(disk_error(&dir))
    }

    /// The same on what earlier runs kept, wherever that lies.
    pub(crate) async fn start_on(
        kept: Kept,
        config: Config,
        remote: Arc<Guarded>,
        identity: ShareIdentity,
        online: bool,
    ) -> crate::error::Result<Arc<Vfs>> {
        let Kept { lock, disk, index, fresh, site, clock, disk_work } = kept;
        let journal_limits = JournalLimits::beside(config.limit_bytes);
        let (journal, replayed) = Journal::open_with(disk.clone(), journal_limits)?;
        let fresh = fresh || is_behind(&*index, &journal)?;
        if fresh {
            begin_index(&*index, &journal)?;
        }
        let root = if online { remote.stat(&RemotePath::root()).await.ok() } else { None };
        let mut tree = Tree::new(index.clone());
        overlay(&mut tree, &journal, fresh, root.as_ref(), &config)?;
        let parts = Doubted { disk: &*disk, index: &*index, journal: &journal };
        doubt::settle(parts, &mut tree)?;
        let change = journal.live(|live| live.nodes.values().map(|n| n.change).max());
        let vfs = Vfs::new(Parts {
            remote,
            clock,
            disk_work,
            disk,
            index,
            journal,
            site,
            tree,
            change: change.unwrap_or(0),
            lock,
            config,
        });
        vfs.remote.introduce(&vfs.site.cache_id);
        vfs.find_leftovers();
        if online {
            vfs.resolve_all_sent().await;
        }
        vfs.drop_unchanged()?;
        vfs.begin(identity, online, replayed);
        Ok(vfs)
    }

    fn begin(&self, identity: ShareIdentity, online: bool, replayed: Replayed) {
        self.sync.set_debounce(self.config.debounce);
        let epoch = self
            .journal
            .live(|live| live.index_epoch.max(live.absent.keys().last().copied().unwrap_or(0)));
        self.sync.index_epoch.store(epoch + 1, Ordering::SeqCst);
        if !online {
            self.reach.give_up("no answer at the start");
        }
        for name in &replayed.set_aside {
            match is_torn(name) {
                // As a kill in the middle of a write leaves it; nobody was told that it was done.
                true => tracing::info!(name, "the journal's unfinished end was set aside"),
                false => {
                    let text = format!("a damaged part of the journal was set aside as {name}");
                    self.message(name, text);
                }
            }
        }
        let vfs = self.arc();
        let whole = replayed.whole;
        self.spawn("take stock", async move {
            match vfs.on_disk(move |vfs| vfs.take_stock(whole)).await {
                Ok(Ok(())) => tracing::debug!(used = vfs.space.used(), "counted the cache"),
                Ok(Err(error)) | Err(error) => tracing::error!(%error, "cannot count the cache"),
            }
        });
        let dirty = self.journal.live(|live| {
            let dirty = live.nodes.values().filter(|node| node.is_dirty());
            dirty.map(|node| node.ino).collect::<Vec<Ino>>()
        });
        self.sync.resume(dirty.into_iter());
        let vfs = self.arc();
        self.spawn("sync", async move { vfs.sync_for_ever().await });
        let vfs = self.arc();
        self.spawn("settle", async move { vfs.settle_for_ever().await });
        let vfs = self.arc();
        self.spawn("probe", async move { vfs.probe(identity).await });
        let vfs = self.arc();
        self.spawn("leftovers", async move { vfs.remove_leftovers_for_ever().await });
        let vfs = self.arc();
        self.spawn("usage", async move { vfs.watch_usage().await });
        if self.config.watch {
            let vfs = self.arc();
            self.spawn("watch", async move { vfs.watch_for_ever().await });
            let vfs = self.arc();
            self.spawn("look", async move { vfs.look_for_ever().await });
        }
    }

    /// Stops all tasks, makes index and journal durable. Uploads under way end or are given up;
    /// nothing is lost by either.
    pub async fn shutdown(&self) {
        self.join_tasks().await;
        let settled = self.on_disk(|vfs| {
            vfs.store_arrivals();
            vfs.settle(true)?;
            vfs.settle(true)?;
            vfs.journal.sync()
        });
        match settled.await {
            Ok(Ok(())) => tracing::info!("the cache is closed"),
            Ok(Err(error)) | Err(error) => tracing::error!(%error, "closing the cache"),
        }
    }
}

/// The limit must fit on the disk.
fn check_limit(config: &Config, disk: &RealDisk) -> Result<(), StartError> {
    let dir = &config.cache_dir;
    let space = disk.space().map_err(io_error(dir, "look at the disk"))?;
    if config.limit_bytes > space.total {
        return Err(StartError::Limit(format!(
            "the cache size is above the disk of {} MiB that {} lies on; give a smaller \
             --cache-size",
            space.total >> 20,
            dir.display()
        )));
    }
    Ok(())
}

/// The next `cache.json`, written; and whether the directory is a copy of another one.
fn next_json(
    config: &Config,
    opened: &Opened,
    identity: ShareIdentity,
    dir: &Path,
) -> Result<(CacheJson, bool), StartError> {
    let home = opened.disk.home();
    let old = opened.json.clone();
    let copied = old.as_ref().is_some_and(|old| old.home != home);
    let cache_id = match old.as_ref().filter(|_| !copied) {
        Some(old) => old.cache_id.clone(),
        None => random_id(),
    };
    let json = CacheJson {
        format: FORMAT,
        share: config.share.clone(),
        identity: Some(identity),
        mountpoint: config.mountpoint.to_string_lossy().into_owned(),
        site: config.site.clone(),
        cache_id,
        start: old.map_or(0, |old| old.start) + 1,
        home,
    };
    let bytes = serde_json::to_vec_pretty(&json).expect("plain data");
    opened.disk.write_small(CACHE_JSON, &bytes).map_err(io_error(dir, "write cache.json"))?;
    Ok((json, copied))
}

/// Empties the index; from here on it has lost nothing that the journal counts on.
fn begin_index(index: &dyn Index, journal: &Journal) -> crate::error::Result<()> {
    let epoch = journal.live(|live| live.index_epoch);
    index.clear()?;
    index.apply(&[epoch_mark(epoch)])?;
    index.flush_durable()
}

/// The change that makes the index say which epoch it was flushed in.
pub(crate) fn epoch_mark(epoch: u64) -> Op {
    Op::Put(Table::Meta, EPOCH.to_vec(), epoch.to_le_bytes().to_vec())
}

/// Whether the index is older than one that the journal knows to have been durable: sled may
/// lose its tail to damage without a word.
fn is_behind(index: &dyn Index, journal: &Journal) -> crate::error::Result<bool> {
    let known = journal.live(|live| live.index_epoch);
    let epoch = index.get(Table::Meta, EPOCH)?.and_then(|bytes| bytes.try_into().ok());
    let epoch = epoch.map_or(0, u64::from_le_bytes);
    if epoch < known {
        tracing::warn!(epoch, known, "the index lost its end: a fresh one is begun");
    }
    Ok(epoch < known)
}

/// Puts what the journal knows over what the index knows: the journal is the newer of the two.
fn overlay(
    tree: &mut Tree,
    journal: &Journal,
    fresh: bool,
    root: Option<&Metadata>,
    config: &Config,
) -> crate::error::Result<()> {
    if tree.get(Ino::ROOT)?.is_none() {
        tree.store(&[root_node(config)])?;
    }
    let distrusted = tree.distrust(|ino| journal.live(|live| live.nodes.contains_key(&ino)))?;
    if distrusted > 0 {
        tracing::warn!(nodes = distrusted, "the index knew of changes that the journal lost");
    }
    let (nodes, sizes) = journal.live(|live: &Live| {
        let sizes: std::collections::HashMap<_, _> =
            live.contents.iter().map(|(id, c)| (*id, (c.size, c.mtime))).collect();
        (live.nodes.values().cloned().collect::<Vec<Node>>(), sizes)
    });
    let mut nodes = nodes;
    for node in &mut nodes {
        if node.place.is_none() {
            node.content = None;
        }
        if let Some((size, mtime)) = node.content.and_then(|id| sizes.get(&id)) {
            (node.size, node.mtime) = (*size, *mtime);
        }
        // The names in it are the index's, which may have lost them: then they are asked for again.
        let indexed = !fresh && tree.get(node.ino)?.is_some_and(|known| known.listed);
        node.listed &= node.base.is_none() || indexed;
    }
    tree.store(&nodes)?;
    for node in nodes.iter().filter(|node| node.is_nothing()) {
        tree.erase(node.ino)?;
    }
    if let (Some(found), Some(mut node)) = (root, tree.get(Ino::ROOT)?) {
        node.mode = found.mode.unwrap_or(config.dir_mode);
        node.uid = found.uid.unwrap_or(config.uid);
        node.gid = found.gid.unwrap_or(config.gid);
        (node.mtime, node.ctime) = (found.mtime, found.ctime);
        (node.atime, node.btime) = (found.atime, found.btime);
        tree.store(&[node])?;
    }
    Ok(())
}

fn root_node(config: &Config) -> Node {
    let place = Place::new(Ino::ROOT, b"");
    let now = Timestamp::now();
    Node {
        ino: Ino::ROOT,
        kind: Kind::Dir,
        place: Some(place.clone()),
        base: Some(Base { place, version: Default::default(), young: false }),
        mode: config.dir_mode,
        uid: config.uid,
        gid: config.gid,
        size: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        target: None,
        xattrs: None,
        content: None,
        dirty_attrs: DirtyAttrs::default(),
        dirty_content: false,
        listed: false,
        change: 0,
    }
}
