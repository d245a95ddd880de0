//! What happens behind everything, every few seconds: data files are synced, what is present
//! reaches the index, the journal lets go of what the index durably knows, and sizes are counted.

use crate::attr::{ContentId, Ino};
use crate::broken::{Broken, is_broken};
use crate::config::MinFree;
use crate::disk::Disk;
use crate::error::Result;
use crate::extents;
use crate::file::File;
use crate::index::Op;
use crate::journal::Record;
use crate::limits;
use crate::node::Node;
use crate::start::epoch_mark;
use crate::step::{Asked, Need, Step};
use crate::vfs::Vfs;
use covefs_remote::Kind;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Vfs {
    /// The content has bytes that are not synced, or presence that the index does not know.
    pub(crate) fn settle_later(&self, file: &Arc<File>) {
        if !file.settling.swap(true, Ordering::SeqCst) {
            let mut waiting = self.settling.lock().unwrap_or_else(|p| p.into_inner());
            waiting.push(file.clone());
        }
    }

    /// Whether more files wait to be settled than may be held open meanwhile.
    pub(crate) fn are_many_unsettled(&self) -> bool {
        let waiting = self.settling.lock().unwrap_or_else(|p| p.into_inner());
        waiting.len() > limits::UNSETTLED_OPEN
    }

    /// Makes everything durable here that was written so far: bytes and names. A file whose bytes
    /// cannot be synced says so itself, at its next flush.
    pub fn sync_disk(&self, asked: Asked) -> Result<Step<()>> {
        if !asked.may_block {
            return Ok(Step::Wait(Need::Thread));
        }
        self.settle(false)?;
        self.journal.sync()?;
        Ok(Step::Done(()))
    }

    /// The background task: one round every few seconds.
    pub(crate) async fn settle_for_ever(&self) {
        loop {
            tokio::time::sleep(limits::SETTLE).await;
            let round = self.on_disk(|vfs| vfs.settle(false)).await;
            if let Ok(Err(error)) | Err(error) = round {
                tracing::warn!(%error, "settling");
            }
        }
    }

    /// One round. `all`: whatever there is, before the mount ends.
    pub(crate) fn settle(&self, all: bool) -> Result<()> {
        if self.space.is_ready() {
            self.space.set_journal(self.journal.bytes_allocated());
        }
        self.watch_disk();
        if self.space.is_over() {
            drop(self.make_room(0));
        }
        self.look_at_use(all)?;
        self.sweep()?;
        let dirty = self.journal.live(|live| {
            live.contents.values().map(|content| content.dirty().total()).sum::<u64>()
        });
        if dirty > self.space.limit() / 2 {
            // Uploads go before everything that nobody waits for (E1, S2).
            self.sync.hurry();
        }
        let files = {
            let mut waiting = self.settling.lock().unwrap_or_else(|p| p.into_inner());
            std::mem::take(&mut *waiting)
        };
        let many = files.len() > limits::SETTLE_FILES;
        let together = many && self.disk.abilities().syncs_at_once;
        let mut before = Vec::with_capacity(files.len());
        for file in &files {
            file.settling.store(false, Ordering::SeqCst);
            let mut content = file.lock();
            let punches = file.punches.load(Ordering::SeqCst);
            before.push((content.present.clone(), punches));
            if together {
                content.logged = Default::default();
                content.unsynced = false;
            }
            // Under the lock: of what is written from here on the sync says nothing.
            if together && content.touched && !content.orphan {
                self.journal.append(&[Record::SyncBegan { content: file.id }])?;
            }
        }
        if together && let Err(error) = self.disk.sync_all() {
            for file in &files {
                file.lock().unsynced = true;
                self.settle_later(file);
            }
            return Err(crate::error::Error::disk("sync the disk", error));
        }
        for (file, (present, punches)) in files.iter().zip(before) {
            if together {
                let content = file.lock();
                if content.touched && !content.orphan {
                    self.journal.append(&[Record::Synced { content: file.id }])?;
                }
            } else if is_broken(Broken::PresentUnsynced) {
                // As if it had been.
            } else if let Err(error) = self.sync_data(file) {
                tracing::error!(%error, content = file.id.0, "a data file cannot be synced");
                continue;
            }
            self.index_presence(file, &present, punches)?;
        }
        // Bytes that nothing durable tells of are lost with the power all the same (J6).
        self.journal.sync()?;
        self.remove_dropped()?;
        self.forget_cleaned(all)?;
        self.journal.compact_if_due()?;
        for file in &files {
            self.unload_if_idle(file);
        }
        Ok(())
    }

    /// The sum of what data files take is kept in step with each change; now and then, when nothing
    /// changes, it is compared with what the disk says (E2).
    fn sweep(&self) -> Result<()> {
        let now = self.clock.now().seconds as u64;
        let last = self.swept.load(Ordering::SeqCst);
        if !self.space.is_ready() || now.abs_diff(last) < limits::SWEEP.as_secs() {
            return Ok(());
        }
        let before = self.space.data();
        let listed = self.disk.list("data", true);
        let listed = listed.map_err(|e| crate::error::Error::disk("list the data files", e))?;
        let found = listed.iter().map(|file| file.allocated).sum();
        if self.space.correct(before, found) {
            tracing::debug!(before, found, "counted the data files");
            self.swept.store(now, Ordering::SeqCst);
        }
        Ok(())
    }

    /// The time goes on: what nobody used for long may go, and the index learns of the rest.
    fn look_at_use(&self, all: bool) -> Result<()> {
        let now = self.clock.now().seconds as u64;
        let age = self.config.max_age.unwrap_or(limits::USE_LOOK);
        let unsaved = {
            let mut heat = self.space.heat();
            if !heat.set_now(now, limits::USE_LOOK.min(age / 10).as_secs()) && !all {
                return Ok(());
            }
            heat.unsaved(if all { 0 } else { limits::USE_GRAIN.as_secs() })
        };
        for some in unsaved.chunks(limits::SCAN) {
            let ops =
                some.iter().map(|(key, standing)| extents::restamp(&*self.index, *key, *standing));
            let ops: Vec<Option<Op>> = ops.collect::<Result<_>>()?;
            self.index.apply(&ops.into_iter().flatten().collect::<Vec<_>>())?;
        }
        match self.config.max_age {
            Some(age) if self.space.is_ready() => self.evict_unused(age),
            _ => Ok(()),
        }
    }

    /// Tells the index what was present before a sync and still is (D3).
    pub(crate) fn index_presence(
        &self,
        file: &Arc<File>,
        synced: &crate::ranges::RangeSet,
        punches: u64,
    ) -> Result<()> {
        let mut content = file.lock();
        if content.orphan {
            content.unindexed = false;
            return Ok(());
        }
        // What was evicted and fetched again meanwhile is not synced, nor what was written over and
        // uploaded: the next round knows.
        let same = file.punches.load(Ordering::SeqCst) == punches && content.present == *synced;
        if !same || content.unsynced {
            content.unindexed = true;
            content.unsynced = true;
            drop(content);
            self.settle_later(file);
            return Ok(());
        }
        let last = content.size.div_ceil(limits::EXTENT) as u32;
        let standing =
            |extent: u32| self.space.heat().standing(&(file.id, extent)).unwrap_or_default();
        let ops = extents::ops(file.id, &content, &content.indexable(), 0..last, standing);
        self.index.apply(&ops)?;
        content.unindexed = false;
        Ok(())
    }

    /// Makes the index durable and drops from the journal what only it was kept for.
    pub(crate) fn forget_cleaned(&self, all: bool) -> Result<()> {
        let cleaned: BTreeSet<Ino> = {
            let mut cleaned = self.cleaned.lock().unwrap_or_else(|p| p.into_inner());
            std::mem::take(&mut *cleaned).into_iter().collect()
        };
        let absent = self.journal.live(|live| !live.absent.is_empty());
        if cleaned.is_empty() && !absent && !all {
            return Ok(());
        }
        // As they are before the flush: what changes meanwhile is not covered by it.
        let before: Vec<Node> = self
            .journal
            .live(|live| cleaned.iter().filter_map(|ino| live.nodes.get(ino).cloned()).collect());
        let epoch = {
            // An eviction's record and its change of the index belong to one epoch.
            let _one = self.evicting.lock().unwrap_or_else(|p| p.into_inner());
            self.sync.index_epoch.fetch_add(1, Ordering::SeqCst)
        };
        self.index.apply(&[epoch_mark(epoch)])?;
        self.index.flush_durable()?;
        let mut records = Vec::new();
        records.push(Record::IndexFlushed { epoch });
        let tree = self.tree();
        self.journal.live(|live| {
            for node in &before {
                // A directory may be above a dirty node; compaction finds out.
                let gone = node.kind != Kind::Dir || node.is_nothing();
                if !node.is_dirty() && gone && live.nodes.get(&node.ino) == Some(node) {
                    records.push(Record::NodeGone(node.ino));
                }
            }
        });
        if !records.is_empty() {
            self.journal.append_freeing(&records)?;
        }
        drop(tree);
        Ok(())
    }

    /// Notes whether the disk has what the user wants kept free.
    pub(crate) fn watch_disk(&self) {
        let Ok(space) = self.disk.space() else { return };
        let keep = match self.config.min_free {
            MinFree::Bytes(bytes) => bytes,
            MinFree::Percent(percent) => (space.total as f64 * percent / 100.0) as u64,
        };
        self.space.set_disk_free(space.free, keep);
    }

    /// Counts what lies in `data/`, finds what nobody claims, and fills the heat; after that
    /// bytes may be stored. Blocks on the disk.
    pub(crate) fn take_stock(&self, journal_whole: bool) -> Result<()> {
        // The journal's claims first and last: what is uploaded meanwhile is in one of them.
        let mut claimed: HashSet<u64> =
            self.journal.live(|live| live.contents.keys().map(|id| id.0).collect());
        let listed = self.disk.list("data", true);
        let listed = listed.map_err(|e| crate::error::Error::disk("list the data files", e))?;
        let mut warm = Vec::new();
        let mut after = None;
        loop {
            let (found, last) = extents::warm(&*self.index, after.as_deref())?;
            claimed.extend(found.iter().map(|extent| extent.content.0));
            warm.extend(found);
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        self.journal.live(|live| claimed.extend(live.contents.keys().map(|id| id.0)));
        claimed.extend(self.files.ids());
        let mut bytes = 0;
        let mut all_kept = true;
        for file in &listed {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            let id = u64::from_str_radix(name, 16).ok();
            let ours = id.is_none_or(|id| {
                claimed.contains(&id) || id >> limits::NUMBER_BITS >= self.site.start
            });
            let disowned = id.filter(|_| !ours).and_then(|id| {
                // Held while it is removed: nobody opens it, or makes it dirty, meanwhile.
                let loaded = self.files.lock();
                let used = loaded.contains_key(&ContentId(id))
                    || self.journal.live(|live| live.contents.contains_key(&ContentId(id)));
                (!used).then(|| self.disown(&file.path, journal_whole))
            });
            match disowned {
                Some(kept) => all_kept &= kept,
                None => bytes += file.allocated,
            }
        }
        if !journal_whole && all_kept {
            self.journal.damage_settled()?;
        }
        self.repin();
        warm.sort_by_key(|extent| extent.standing.used);
        let mut heat = self.space.heat();
        heat.set_now(self.clock.now().seconds as u64, u64::MAX);
        for extent in warm {
            let key = (extent.content, extent.extent);
            heat.restored(key, extent.bytes.max(4096), extent.standing);
        }
        drop(heat);
        self.watch_disk();
        self.space.set_ready(bytes);
        self.space.set_journal(self.journal.bytes_allocated());
        self.swept.store(self.clock.now().seconds as u64, Ordering::SeqCst);
        Ok(())
    }

    /// A data file that nobody claims: deleted if the journal is whole, else kept for people (J7).
    fn disown(&self, path: &str, journal_whole: bool) -> bool {
        let from = format!("data/{path}");
        let done = if journal_whole {
            self.disk.remove(&from)
        } else {
            let to = format!("recovered/{}", path.replace('/', "-"));
            self.disk.rename(&from, &to)
        };
        if let Err(error) = done {
            tracing::warn!(%error, path, "an unclaimed data file stays");
            return false;
        }
        true
    }

    /// Files in `recovered/`, for `status`.
    pub(crate) fn recovered(disk: &dyn Disk) -> u64 {
        disk.list("recovered", true).map_or(0, |files| files.len() as u64)
    }
}
