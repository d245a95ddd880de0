//! What people ask of a running mount besides files: status, sync, hydrate, evict, pin, why.

use crate::attr::{ContentId, Ino};
use crate::error::{Error, ErrorKind, Result};
use crate::fetch::Reader;
use crate::index::Tree as Table;
use crate::journal::{ConflictRecord, Record};
use crate::limits;
use crate::node::Node;
use crate::status::*;
use crate::tree::Tree;
use crate::vfs::Vfs;
use covefs_remote::{ErrorKind as RemoteKind, Kind, Remote, RemotePath, Timestamp};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use tokio::time::Instant;

impl Vfs {
    /// The state of the mount. Takes no lock that is held over the network.
    pub fn status(&self) -> Status {
        let (active, failed) = self.sync.counts();
        let (dirty, dirty_bytes, conflicts) = self.journal.live(|live| {
            let dirty = live.nodes.values().filter(|node| node.is_dirty()).count() as u64;
            let bytes = live.contents.values().map(|content| content.dirty().total()).sum();
            (dirty, bytes, live.conflicts.len() as u64)
        });
        let counters = self.remote.counters();
        let mut messages = self.messages();
        // Both answer nothing but errors from then on.
        if self.journal.has_failed() || self.index.get(Table::Meta, &[]).is_err() {
            let what = "the disk of the cache failed, the log says how: nothing can be changed any more; what was \
                        saved is kept; unmount, and mount the share again";
            messages.push(what.to_owned());
        }
        if let Some(why) = self.reach.trouble() {
            messages.push(format!("the share is out of reach: {why}"));
        }
        for (count, failure) in self.sync.failures() {
            let why = failure.kind.map_or("an upload failed", RemoteKind::says);
            messages.push(format!(
                "{why}: {count} waiting, kept here and tried again; last: {}",
                failure.error
            ));
        }
        messages.extend(self.locked_messages());
        let recovered = Self::recovered(&*self.disk);
        if recovered > 0 {
            messages.push(format!("{recovered} files that nobody claims lie in recovered/"));
        }
        Status {
            share: self.config.share.clone(),
            mountpoint: self.config.mountpoint.to_string_lossy().into_owned(),
            online: self.reach.is_online(),
            watched: self.watching.is_told(),
            cache: CacheStatus {
                limit_bytes: self.space.limit(),
                used_bytes: self.space.used(),
                dirty_bytes,
                index_bytes: self.index.size_bytes(),
                files: self.space.heat().contents(),
            },
            uploads: UploadStatus {
                waiting: dirty.saturating_sub(active),
                active,
                failed,
                conflicts,
                oldest_dirty_seconds: self.oldest_seconds(),
            },
            reads: ReadStatus {
                hit_bytes: self.metrics.hit_bytes.load(Ordering::Relaxed),
                fetched_bytes: self.metrics.fetched_bytes.load(Ordering::Relaxed),
                requested_bytes: self.metrics.requested_bytes.load(Ordering::Relaxed),
            },
            remote: RemoteStatus {
                requests: counters.requests,
                errors: counters.errors,
                retries: counters.retries,
            },
            connection: None,
            passthrough: self.lending.is_on(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log: String::new(),
            messages,
        }
    }

    /// The age of the oldest change that the share does not have.
    fn oldest_seconds(&self) -> u64 {
        let dirty: Vec<_> = self.journal.live(|live| {
            let dirty = live.nodes.values().filter(|node| node.is_dirty()).map(|node| {
                let written = node.content.and_then(|id| live.contents.get(&id));
                let last = written.map_or(node.ctime, |written| node.ctime.max(written.mtime));
                (node.ino, node.content.filter(|_| node.dirty_content), last)
            });
            dirty.collect()
        });
        let ages =
            dirty.into_iter().map(|(ino, content, last)| self.seconds_dirty(ino, content, last));
        ages.max().unwrap_or(0)
    }

    /// For how long the share has lacked what was changed here; what nobody has open counts from its last change
    /// on, or since the share first refused it.
    fn seconds_dirty(&self, ino: Ino, content: Option<ContentId>, last: Timestamp) -> u64 {
        let refused = self.sync.failure(ino).map_or(0, |failure| failure.since.elapsed().as_secs());
        let open = content.and_then(|id| self.files.get(id)).and_then(|file| {
            let content = file.lock();
            content.oldest_dirty.filter(|_| content.last_change.is_some())
        });
        let changed = match open {
            Some(since) => since.elapsed().as_secs(),
            None => self.clock.now().seconds.saturating_sub(last.seconds).max(0) as u64,
        };
        refused.max(changed)
    }

    /// Starts uploading now instead of after the debounce.
    pub fn sync_now(&self) {
        self.sync.hurry_once();
    }

    /// What the share does not have, as far as that can be seen (P2).
    fn dirty_nodes(&self) -> Vec<Ino> {
        let dirty: Vec<(Ino, Option<ContentId>)> = self.journal.live(|live| {
            let dirty = live.nodes.values().filter(|node| node.is_dirty());
            dirty.map(|node| (node.ino, node.lacks_only())).collect()
        });
        dirty.into_iter().filter(|(_, id)| !self.is_sent(*id)).map(|(ino, _)| ino).collect()
    }

    /// Whether a content is one that only counts as changed (P2).
    pub(crate) fn is_sent(&self, id: Option<ContentId>) -> bool {
        let file = id.and_then(|id| self.files.get(id));
        file.is_some_and(|file| self.is_sent_but_unseen(&file))
    }

    /// Returns when nothing is dirty; `progress` is called now and then. Error `Offline` when the
    /// share is out of reach for longer than the deadline.
    pub async fn sync_wait(&self, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<()> {
        let mut most = 0;
        let mut offline_since: Option<Instant> = None;
        let mut hurried = HashSet::new();
        let before = self.sync.failed_so_far();
        loop {
            let finished = self.sync.finished.notified();
            tokio::pin!(finished);
            finished.as_mut().enable();
            let dirty = self.dirty_nodes();
            most = most.max(dirty.len() as u64);
            progress(Progress { done: most - dirty.len() as u64, total: most });
            if dirty.is_empty() {
                // Whoever unmounts next, for good, leaves nothing half made there if that can be helped.
                let _ = tokio::time::timeout(limits::RETRY_FIRST * 5, self.clean_up()).await;
                return Ok(());
            }
            // Each once: whoever waits for another one is woken by it.
            for ino in dirty.iter().filter(|ino| hurried.insert(**ino)) {
                self.sync.poke_now(*ino);
            }
            if self.reach.is_online() {
                offline_since = None;
                if let Some(failure) = self.sync.refused(&dirty, &before) {
                    let why = failure.kind.map_or("it was refused", RemoteKind::says);
                    let why = format!("{why} ({})", failure.error);
                    return Err(Error::refused("upload everything", why));
                }
            } else if offline_since.get_or_insert_with(Instant::now).elapsed() > self.config.timeout
            {
                return Err(Error::new(ErrorKind::Offline, "upload everything"));
            }
            let _ = tokio::time::timeout(limits::RETRY_FIRST, finished).await;
            if dirty.len() > limits::SCAN {
                // To count so many after each of them would cost more than they do.
                tokio::time::sleep(limits::BUSY).await;
            }
        }
    }

    /// Conflicts nobody dismissed, oldest first.
    pub fn conflicts(&self) -> Vec<ConflictRecord> {
        self.journal.live(|live| live.conflicts.values().cloned().collect())
    }

    /// Dismisses the conflicts at this path (as listed: name or copy); how many there were.
    pub fn dismiss(&self, path: &RemotePath) -> Result<usize> {
        let at_path = |conflict: &&ConflictRecord| {
            conflict.path == *path || conflict.copy.as_ref() == Some(path)
        };
        let all = self.conflicts();
        let records: Vec<Record> =
            all.iter().filter(at_path).map(|c| Record::ConflictDismissed(c.id)).collect();
        if !records.is_empty() {
            self.journal.append(&records)?;
        }
        Ok(records.len())
    }

    /// Lists all directories at and below a path, so that all files below are known.
    async fn walk(&self, path: &RemotePath) -> Result<Node> {
        let top = self.find(path).await?;
        let mut dirs = vec![top.clone()];
        while let Some(dir) = dirs.pop() {
            if dir.kind != Kind::Dir {
                continue;
            }
            if dir.base.is_some() {
                self.wait_listing(None, dir.ino).await?;
            }
            let children = self.tree().children(dir.ino, None, usize::MAX)?;
            dirs.extend(children.into_iter().filter(|child| child.kind == Kind::Dir));
        }
        Ok(top)
    }

    /// Fetches all of a file, or of all files below a directory.
    pub async fn hydrate(
        &self,
        path: &RemotePath,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<()> {
        self.walk(path).await?;
        let files = self.files_below(path)?;
        let mut total = 0;
        for (ino, _) in &files {
            let size = self.tree().get(*ino)?.map_or(0, |node| node.size);
            total = size.saturating_add(total);
        }
        self.hydrate_fits(&files)?;
        let mut done = 0;
        for (ino, _) in files {
            let (file, size) = {
                let mut tree = self.tree();
                let Some(node) = tree.get(ino)? else { continue };
                let size = node.size;
                (self.file_of(&mut tree, node)?, size)
            };
            self.until_ready().await;
            self.fetch_all(&file, Reader::User, &|at| {
                progress(Progress { done: done + at, total })
            })
            .await?;
            done += size;
            progress(Progress { done, total });
            // What a copy takes along, too; that it has such is known from its directory.
            let lacks = |node: Node| node.xattrs.is_none() && node.base.is_some();
            if self.remote.limits().has_xattrs() && self.tree().get(ino)?.is_some_and(lacks) {
                match self.wait_node(ino).await {
                    Err(error) if error.kind == ErrorKind::Offline => return Err(error),
                    Err(error) => tracing::warn!(%error, "extended attributes are not fetched"),
                    Ok(()) => {}
                }
            }
            let whole = file.lock().is_whole();
            self.unload_if_idle(&file);
            if !whole {
                return Err(Error::new(ErrorKind::NoSpace, "keep all of it in the cache"));
            }
        }
        Ok(())
    }

    /// Before anything makes room for it.
    fn hydrate_fits(&self, files: &[(Ino, Option<ContentId>)]) -> Result<()> {
        let (limit, mut missing) = (self.space.limit(), 0_u64);
        for (ino, _) in files {
            let Some(node) = self.tree().get(*ino)? else { continue };
            let is_here = node.content.is_some() && self.state_of(&node) == "local";
            missing = missing.saturating_add(if is_here { 0 } else { node.size });
        }
        if missing <= limit {
            return Ok(());
        }
        let why = format!(
            "that would be {} MiB, and the cache holds {} MiB; `covefs resize` changes its limit",
            missing.div_ceil(1 << 20),
            limit >> 20
        );
        Err(Error::refused("hydrate", why))
    }

    /// Waits until used bytes are counted after a start: before that nothing is stored.
    pub(crate) async fn until_ready(&self) {
        let deadline = Instant::now() + self.config.timeout;
        while !self.space.is_ready() && Instant::now() < deadline {
            tokio::time::sleep(limits::BUSY).await;
        }
    }

    /// Drops the clean bytes of a file, or of all below a directory; returns how many.
    pub async fn evict(&self, path: &RemotePath) -> Result<u64> {
        self.find(path).await?;
        let path = path.clone();
        let evicted = self.on_disk(move |vfs| {
            let mut freed = 0;
            for (_, content) in vfs.files_below(&path)? {
                freed += content.map_or(Ok(0), |id| vfs.evict_content(id))?;
            }
            Ok(freed)
        });
        evicted.await?
    }

    fn contents_below(&self, path: &RemotePath) -> Result<Vec<ContentId>> {
        let mut contents = Vec::new();
        for (ino, _) in self.files_below(path)? {
            let mut tree = self.tree();
            if let Some(node) = tree.get(ino)? {
                contents.push(self.file_of(&mut tree, node)?.id);
            }
        }
        Ok(contents)
    }

    /// Never evicts this and all below it; fetches what is missing in the background. Error
    /// `Refused` when that and what is pinned already are more than the limit.
    pub async fn pin(&self, path: &RemotePath) -> Result<()> {
        self.walk(path).await?;
        self.pin_fits(path)?;
        self.journal.append(&[Record::Pin(path.clone())])?;
        let contents = self.contents_below(path)?;
        self.space.heat().pinned.extend(contents);
        let (vfs, path) = (self.arc(), path.clone());
        self.spawn("hydrate a pin", async move {
            match vfs.hydrate(&path, &|_| ()).await {
                Ok(()) => vfs.settled(&about_pin(&path)),
                Err(error) => {
                    let text = format!("{path} is pinned and not all of it is here: {error}");
                    vfs.message(&about_pin(&path), text);
                }
            }
        });
        Ok(())
    }

    fn pin_fits(&self, path: &RemotePath) -> Result<()> {
        let pins = self.journal.live(|live| live.pins.iter().cloned().collect::<Vec<_>>());
        let mut sizes = BTreeMap::new();
        for pinned in pins.iter().chain([path]) {
            for (ino, _) in self.files_below(pinned).unwrap_or_default() {
                sizes.insert(ino, self.tree().get(ino)?.map_or(0, |node| node.size));
            }
        }
        let (bytes, limit) = (sizes.values().sum::<u64>(), self.space.limit());
        if bytes <= limit {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let why = format!(
            "with what is pinned already that would be {} MiB, and the cache holds {} MiB; `covefs \
             resize` changes its limit, `covefs unpin` makes room",
            mib(bytes),
            mib(limit)
        );
        Err(Error::refused("pin", why))
    }

    /// Notes that a content just loaded lies at or below a pin.
    pub(crate) fn pin_if_asked(&self, tree: &mut Tree, node: &Node, id: ContentId) -> Result<()> {
        if self.journal.live(|live| live.pins.is_empty()) {
            return Ok(());
        }
        let Some(path) = tree.path(node.ino)? else { return Ok(()) };
        if self.journal.live(|live| live.pins.iter().any(|pin| path.is_within(pin))) {
            self.space.heat().pinned.insert(id);
        }
        Ok(())
    }

    /// After a start: what lies below the pins, as far as it is known.
    pub(crate) fn repin(&self) {
        let pins = self.journal.live(|live| live.pins.iter().cloned().collect::<Vec<_>>());
        for pin in pins {
            let files = self.files_below(&pin).unwrap_or_default();
            let contents = files.into_iter().filter_map(|(_, content)| content);
            self.space.heat().pinned.extend(contents);
        }
    }

    /// No longer pinned.
    pub async fn unpin(&self, path: &RemotePath) -> Result<()> {
        if !self.journal.live(|live| live.pins.contains(path)) {
            let why = format!("{path} is not pinned itself");
            return Err(Error::refused("unpin", why));
        }
        self.journal.append(&[Record::Unpin(path.clone())])?;
        let contents = self.contents_below(path).unwrap_or_default();
        let mut heat = self.space.heat();
        for content in contents {
            heat.pinned.remove(&content);
        }
        drop(heat);
        // Another pin may hold some of it.
        self.repin();
        self.settled(&about_pin(path));
        Ok(())
    }

    /// State, version, heat and what it waits for, in words, one line each.
    pub async fn why(&self, path: &RemotePath) -> Result<Vec<String>> {
        let node = self.find(path).await?;
        let mut lines = vec![format!("state: {}", self.state_of(&node))];
        match &node.base {
            Some(base) => lines.push(format!("version on the share: {:x}", base.version.object)),
            None => lines.push("version on the share: none, it is not there yet".to_owned()),
        }
        lines.extend(self.why_content(&node)?);
        if self.journal.live(|live| live.pins.iter().any(|pin| path.is_within(pin))) {
            lines.push("pinned: it is never evicted".to_owned());
        }
        if node.is_dirty() {
            let waits = match self.sync.failure(node.ino) {
                Some(failure) if failure.is_locked() => self.locked_in_words(node.ino, &failure),
                Some(failure) => {
                    format!("an upload failed {} times: {}", failure.count, failure.error)
                }
                None if !self.reach.is_online() => "the share to be reached".to_owned(),
                None if self.is_sent(node.content) => {
                    "programs to close it that may change it unseen; the share has it as it is now"
                        .to_owned()
                }
                None => "its turn to be uploaded".to_owned(),
            };
            lines.push(format!("waits for: {waits}"));
        }
        Ok(lines)
    }

    fn why_content(&self, node: &Node) -> Result<Vec<String>> {
        let Some(file) = self.bytes_of(&mut self.tree(), node)? else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        {
            let content = file.lock();
            lines.push(format!(
                "here: {} of {} bytes, {} of them not on the share",
                content.present.total(),
                content.size,
                content.dirty_bytes()
            ));
            let heat = self.space.heat();
            let extents = content.size.div_ceil(limits::EXTENT) as u32;
            let standings: Vec<_> =
                (0..extents).filter_map(|extent| heat.standing(&(file.id, extent))).collect();
            let often = standings.iter().filter(|standing| standing.protected).count();
            lines.push(format!(
                "heat: {often} extents used more than once, {} used once, of {extents}",
                standings.len() - often
            ));
            if let Some(used) = standings.iter().map(|standing| standing.used).max() {
                let age = (self.clock.now().seconds as u64).saturating_sub(used);
                lines.push(format!("last used: {} minutes ago", age / 60));
            }
        }
        self.unload_if_idle(&file);
        Ok(lines)
    }

    /// A new limit, in bytes; evicts down to it before it returns. Error `NoSpace` when more than
    /// that is dirty, `Invalid` below the floor.
    pub async fn resize(&self, limit_bytes: u64) -> Result<()> {
        if limit_bytes < limits::CACHE_FLOOR {
            return Err(Error::new(ErrorKind::Invalid, "set a limit below the floor of 64 MiB"));
        }
        let before = self.space.limit();
        self.space.set_limit(limit_bytes);
        let fits = self.on_disk(|vfs| vfs.make_room(0).is_some());
        if fits.await.unwrap_or(false) {
            return Ok(());
        }
        self.space.set_limit(before);
        Err(Error::new(
            ErrorKind::NoSpace,
            "evict down to the new limit: more than that is dirty or in use",
        ))
    }
}

/// What a message about a pin is about.
fn about_pin(path: &RemotePath) -> String {
    format!("pin {path}")
}
