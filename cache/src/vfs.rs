//! The filesystem: what all rooms of this crate share, and how an operation waits.

use crate::ahead::Ahead;
use crate::arrivals::Arrivals;
use crate::attr::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::{DirLock, Disk};
use crate::error::{Error, ErrorKind, Result};
use crate::fetch::Reader;
use crate::file::File;
use crate::files::Files;
use crate::freshness::{Listings, Reach};
use crate::handle::Handles;
use crate::index::Index;
use crate::journal::{Journal, Record};
use crate::leftovers::{Leftovers, ShareClock};
use crate::lend::Lending;
use crate::limits;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::paths::Paths;
use crate::space::{Reservation, Space};
use crate::step::{Asked, Need};
use crate::sync::Sync;
use crate::tree::Tree;
use crate::watch::Watching;
use covefs_remote::Usage;
use covefs_remote::attempt::Guarded;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The mounted share. Every operation may be called from any thread; see [`crate::Step`] for how
/// one waits.
pub struct Vfs {
    me: Weak<Vfs>,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    disk_work: DiskWork,
    pub(crate) remote: Arc<Guarded>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) index: Arc<dyn Index>,
    pub(crate) journal: Journal,
    pub(crate) space: Arc<Space>,
    pub(crate) files: Files,
    pub(crate) handles: Handles,
    pub(crate) lending: Lending,
    pub(crate) reach: Reach,
    pub(crate) share_clock: ShareClock,
    pub(crate) leftovers: Leftovers,
    pub(crate) listings: Listings,
    pub(crate) watching: Watching,
    pub(crate) sync: Sync,
    pub(crate) metrics: Metrics,
    pub(crate) site: Site,
    pub(crate) fetch_permits: Arc<Semaphore>,
    pub(crate) readahead_permits: Arc<Semaphore>,
    pub(crate) small_permits: Arc<Semaphore>,
    pub(crate) big_uploads: Semaphore,
    pub(crate) ahead: Ahead,
    pub(crate) arrivals: Arrivals,
    /// One eviction at a time: each makes one durable record for many extents.
    pub(crate) evicting: Mutex<()>,
    pub(crate) settling: Mutex<Vec<Arc<File>>>,
    /// Contents without a node, and what their data files take, to be removed.
    pub(crate) dropping: Mutex<Vec<(ContentId, u64)>>,
    /// When the data files were last counted, in seconds since 1970.
    pub(crate) swept: AtomicU64,
    /// Nodes in step with the share whose records the journal drops once the index is durable.
    pub(crate) cleaned: Mutex<Vec<Ino>>,
    pub(crate) usage: Mutex<Usage>,
    /// Requests to the share against renames of directories, which change the paths of many (S4).
    pub(crate) paths: Paths,
    tree: Mutex<Tree>,
    numbers: AtomicU64,
    changes: AtomicU64,
    notices: mpsc::Sender<Notice>,
    notices_taken: Mutex<Option<mpsc::Receiver<Notice>>>,
    /// What each is about, and what is said of it.
    messages: Mutex<Vec<(String, String)>>,
    /// The cache directory is ours for as long.
    _lock: DirLock,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

/// Who this cache is among all that use the share.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Random, per cache directory (X2).
    pub cache_id: String,
    /// Raised before each mount: numbers of it are never used again (J8).
    pub start: u64,
}

/// Where work runs that may block on the local disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DiskWork {
    /// On the blocking pool.
    Pool,
    /// Where it is asked for: in the simulation, so that a seed replays exactly.
    #[cfg(test)]
    AtOnce,
}

/// What a `Vfs` is made of.
pub(crate) struct Parts {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub disk_work: DiskWork,
    pub remote: Arc<Guarded>,
    pub disk: Arc<dyn Disk>,
    pub index: Arc<dyn Index>,
    pub journal: Journal,
    pub site: Site,
    pub tree: Tree,
    pub change: u64,
    pub lock: DirLock,
}

impl Vfs {
    pub(crate) fn new(parts: Parts) -> Arc<Vfs> {
        let (notices, taken) = mpsc::channel(limits::NOTICES);
        Arc::new_cyclic(|me| Vfs {
            me: me.clone(),
            space: Arc::new(Space::new(parts.config.limit_bytes)),
            files: Files::default(),
            handles: Handles::default(),
            lending: Lending::default(),
            reach: Reach::default(),
            share_clock: ShareClock::default(),
            leftovers: Leftovers::default(),
            listings: Listings::default(),
            watching: Watching::default(),
            sync: Sync::default(),
            metrics: Metrics::default(),
            fetch_permits: Arc::new(Semaphore::new(limits::FLIGHTS)),
            readahead_permits: Arc::new(Semaphore::new(limits::READAHEAD_FLIGHTS)),
            small_permits: Arc::new(Semaphore::new(limits::SMALL_FLIGHTS)),
            big_uploads: Semaphore::new(limits::BIG_UPLOADS),
            ahead: Ahead::default(),
            arrivals: Arrivals::default(),
            evicting: Mutex::new(()),
            settling: Mutex::new(Vec::new()),
            cleaned: Mutex::new(Vec::new()),
            swept: AtomicU64::new(0),
            dropping: Mutex::new(Vec::new()),
            usage: Mutex::new(Usage::default()),
            paths: Paths::default(),
            tree: Mutex::new(parts.tree),
            numbers: AtomicU64::new(2),
            changes: AtomicU64::new(parts.change + 1),
            notices,
            notices_taken: Mutex::new(Some(taken)),
            messages: Mutex::new(Vec::new()),
            _lock: parts.lock,
            runtime: tokio::runtime::Handle::current(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            config: parts.config,
            clock: parts.clock,
            disk_work: parts.disk_work,
            remote: parts.remote,
            disk: parts.disk,
            index: parts.index,
            journal: parts.journal,
            site: parts.site,
        })
    }

    pub(crate) fn arc(&self) -> Arc<Vfs> {
        self.me.upgrade().expect("self is alive, so is the arc that holds it")
    }

    /// The tree's lock; first in the lock order.
    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Starts a task that ends with the mount.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stopping = self.stopping.clone();
        let task = async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => tracing::debug!(name, "task stopped"),
                () = task => {}
            }
        };
        self.tasks.spawn_on(task, &self.runtime);
    }

    pub(crate) async fn join_tasks(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Does what may block on the local disk. Goes on to its end when the caller is cancelled.
    pub(crate) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Vfs) -> T + Send + 'static,
    ) -> Result<T> {
        let vfs = self.arc();
        let done = match self.disk_work {
            DiskWork::Pool => tokio::task::spawn_blocking(move || work(&vfs)).await,
            #[cfg(test)]
            DiskWork::AtOnce => Ok(work(&vfs)),
        };
        done.map_err(|error| {
            let failed = Error::new(ErrorKind::Io, "work on the local disk");
            Error { source: Some(Box::new(error)), ..failed }
        })
    }

    /// Something that a person should look at, in `covefs status`. Said again of the same thing, it
    /// takes the place of what was said before. Of very many the oldest go; the log has all of them.
    pub(crate) fn message(&self, about: &str, text: String) {
        tracing::warn!("{text}");
        let mut messages = self.told();
        messages.retain(|(other, _)| other != about);
        if messages.len() >= limits::MESSAGES {
            messages.remove(0);
        }
        messages.push((about.to_owned(), text));
    }

    /// There is nothing more to say about it.
    pub(crate) fn settled(&self, about: &str) {
        self.told().retain(|(other, _)| other != about);
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        self.told().iter().map(|(_, text)| text.clone()).collect()
    }

    fn told(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.messages.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A number that no node, content or temporary name ever had (J8).
    pub(crate) fn next_number(&self) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        assert!(number < 1 << limits::NUMBER_BITS, "2^40 nodes made in one run");
        self.site.start << limits::NUMBER_BITS | number
    }

    /// The number of a change of ours (S3, S4).
    pub(crate) fn next_change(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::SeqCst)
    }

    /// Tells the kernel to forget something, from a thread of its own (K2).
    pub(crate) fn notify(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            // The kernel's timeouts are the bound; this only makes it sooner.
            tracing::debug!("notice dropped");
        }
    }

    /// What the kernel has to forget. There is one receiver: the first call gets it.
    pub fn take_notices(&self) -> Option<mpsc::Receiver<Notice>> {
        self.notices_taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }

    /// Stores nodes as they are now, with the records of the same call: one frame in the journal
    /// (J2), then the tree. Directories above a dirty node get a record too (J1).
    pub(crate) fn commit(
        &self,
        tree: &mut Tree,
        nodes: &[Node],
        extra: Vec<Record>,
        freeing: bool,
    ) -> Result<()> {
        let mut records = Vec::new();
        for node in nodes {
            let known = self.journal.live(|live| live.nodes.contains_key(&node.ino));
            if node.is_dirty() {
                self.anchor(tree, nodes, node, &mut records)?;
                records.push(Record::Node(Box::new(node.clone())));
            } else if known {
                // Not gone from the journal before the index durably knows it as it is now: else
                // a crash would show an old name or a removed file again.
                records.push(Record::Node(Box::new(node.clone())));
                self.cleaned.lock().unwrap_or_else(|p| p.into_inner()).push(node.ino);
            }
        }
        records.extend(extra);
        if !records.is_empty() {
            if freeing {
                self.journal.append_freeing(&records)?;
            } else {
                self.journal.append(&records)?;
            }
        }
        // A fold may have dropped a clean ancestor between the look and the append.
        let mut missing = Vec::new();
        for node in nodes.iter().filter(|node| node.is_dirty()) {
            self.anchor(tree, nodes, node, &mut missing)?;
        }
        if !missing.is_empty() {
            self.journal.append_freeing(&missing)?;
        }
        tree.store(nodes)?;
        for node in nodes.iter().filter(|node| node.is_nothing() && node.content.is_none()) {
            tree.erase(node.ino)?;
        }
        Ok(())
    }

    /// Records for the directories above `node`, here and on the share, that have none yet.
    fn anchor(
        &self,
        tree: &mut Tree,
        changing: &[Node],
        node: &Node,
        records: &mut Vec<Record>,
    ) -> Result<()> {
        let here = node.place.as_ref().map(|place| place.parent);
        let there = node.base.as_ref().map(|base| base.place.parent);
        for mut at in [here, there].into_iter().flatten() {
            for _ in 0..limits::PATH_DEPTH {
                if self.journal.live(|live| live.nodes.contains_key(&at)) {
                    break;
                }
                if records.iter().any(|r| matches!(r, Record::Node(node) if node.ino == at)) {
                    break;
                }
                let current = changing.iter().find(|changing| changing.ino == at).cloned();
                let Some(dir) = current.map_or_else(|| tree.get(at), |node| Ok(Some(node)))? else {
                    break;
                };
                let above = dir.place.as_ref().or(dir.base.as_ref().map(|base| &base.place));
                let above = above.map(|place| place.parent);
                records.push(Record::Node(Box::new(dir)));
                match above {
                    Some(parent) if at != Ino::ROOT => at = parent,
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Waits until `need` is met or its deadline is over; then ask again. An error is the
    /// operation's answer.
    pub async fn wait(&self, asked: Asked, need: Need) -> Result<()> {
        match need {
            Need::Thread => Ok(()),
            Need::Listing(dir) => self.wait_listing(Some(asked), dir).await,
            Need::Name(dir, name) => self.wait_name(dir, name).await,
            Need::Node(ino) => self.wait_node(ino).await,
            Need::Bytes(content, offset, len) => {
                let file = self.files.get(content);
                let file = file.ok_or_else(|| Error::new(ErrorKind::Stale, "find the content"))?;
                self.read_content(&file, offset, len.min(limits::FLIGHT), Reader::User)
                    .await
                    .map(drop)
            }
            Need::Space(bytes) => self.wait_space(asked, bytes).await,
            Need::Unheld(content) => {
                if let Some(file) = self.files.get(content) {
                    self.wait_file(&file, |content| !content.is_held()).await;
                }
                Ok(())
            }
            Need::Uploaded(ino) => self.wait_uploaded(asked, ino).await,
        }
    }

    /// Waits until the content is as `wanted`, at most the deadline of a request.
    pub(crate) async fn wait_file(
        &self,
        file: &File,
        wanted: impl Fn(&crate::file::Content) -> bool,
    ) {
        let deadline = Instant::now() + self.config.timeout;
        loop {
            let changed = file.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if wanted(&file.lock()) {
                return;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return;
            }
        }
    }

    /// Waits for room: eviction first, then uploads that turn dirty bytes into clean ones (E1).
    async fn wait_space(&self, asked: Asked, bytes: u64) -> Result<()> {
        let deadline = asked.since + limits::SPACE_WAIT;
        loop {
            let freed = self.space.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let made = self.on_disk(move |vfs| vfs.make_room(bytes).is_some()).await;
            if made.unwrap_or(false) || Instant::now() >= deadline {
                // At the deadline the operation asks once more and gets its error.
                return Ok(());
            }
            self.sync.hurry();
            let soon = (Instant::now() + limits::BUSY * 10).min(deadline);
            let _ = tokio::time::timeout_at(soon, freed).await;
        }
    }

    async fn wait_uploaded(&self, asked: Asked, ino: Ino) -> Result<()> {
        self.sync.poke_now(ino);
        let deadline = asked.since + self.config.timeout;
        loop {
            let done = self.sync.finished.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            let ended = |node: Node| !node.is_dirty() || node.place.is_none();
            let clean = self.tree().get(ino)?.is_none_or(ended);
            if clean {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, done).await.is_err() {
                return Err(Error::new(ErrorKind::Offline, "wait for the upload; it goes on"));
            }
        }
    }

    /// Room for a store, evicting as needed; blocks on the local disk. `None` when nothing more
    /// can go.
    pub(crate) fn make_room(&self, bytes: u64) -> Option<Reservation> {
        if let Some(reservation) = self.space.reserve(bytes) {
            return Some(reservation);
        }
        if !self.space.is_ready() || bytes > self.space.limit() {
            return None;
        }
        self.evict_for(bytes)
    }
}
