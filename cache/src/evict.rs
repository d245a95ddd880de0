//! Dropping clean bytes: what goes, in which order, and why none of it can come back as zeros.
//!
//! ```text
//!   victims (heat) -> journal "absent", fdatasync -> lock -> present loses them -> hole -> index
//! ```
//!
//! The absence is durable before the hole is (D3); presence is lost before the hole is made, under
//! the content's lock (D2). Contents whose lock is held are skipped (E1).
//!
//! On a disk that makes no holes (`Abilities::holes`) a content goes whole, and only while it is
//! clean.

use crate::attr::{ContentId, Ino};
use crate::broken::{Broken, is_broken};
use crate::error::{Error, ErrorKind, Result};
use crate::extents;
use crate::file::{Content, File};
use crate::journal::{ByteRange, Record};
use crate::limits;
use crate::ranges::RangeSet;
use crate::space::{ExtentKey, Reservation, Space, Standing};
use crate::vfs::Vfs;
use covefs_remote::{Kind, RemotePath};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Vfs {
    /// Evicts until `bytes` more fit; `None` when everything left is dirty, pinned or in use.
    pub(crate) fn evict_for(&self, bytes: u64) -> Option<Reservation> {
        let _one = self.evicting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if matches!(self.remove_dropped(), Ok(true))
            && let Some(reservation) = self.space.reserve(bytes)
        {
            return Some(reservation);
        }
        // Two passes: what is being edited keeps its clean bytes until nothing else is left (D5).
        for edited_too in [false, true] {
            let mut kept = Vec::new();
            let found = loop {
                self.watch_disk();
                if let Some(reservation) = self.space.reserve(bytes) {
                    break Some(reservation);
                }
                let wanted = self.space.shortfall(bytes).max(limits::EVICT_BATCH);
                let victims = self.space.heat().victims(wanted, self.space.limit());
                if victims.is_empty() {
                    break None;
                }
                match self.evict_extents(&victims, edited_too, &mut kept) {
                    Ok(freed) => tracing::debug!(freed, extents = victims.len(), "evicted"),
                    Err(error) => {
                        tracing::warn!(%error, "eviction failed");
                        break None;
                    }
                }
            };
            let mut heat = self.space.heat();
            for key in kept {
                heat.stored(key, limits::EXTENT as u32);
            }
            drop(heat);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Evicts what nobody used for so long (`--max-age`), but for what is being edited.
    pub(crate) fn evict_unused(&self, age: Duration) -> Result<()> {
        let _one = self.evicting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let since = (self.clock.now().seconds as u64).saturating_sub(age.as_secs());
        let old = self.space.heat().unused_since(since);
        let mut kept = Vec::new();
        for some in old.chunks(limits::SCAN) {
            let freed = self.evict_extents(some, false, &mut kept)?;
            tracing::debug!(freed, extents = some.len(), "evicted what nobody used");
        }
        let mut heat = self.space.heat();
        kept.into_iter().for_each(|key| heat.stored(key, limits::EXTENT as u32));
        Ok(())
    }

    /// Evicts these extents; those that cannot go now are added to `kept`.
    fn evict_extents(
        &self,
        victims: &[ExtentKey],
        edited_too: bool,
        kept: &mut Vec<ExtentKey>,
    ) -> Result<u64> {
        let mut going: BTreeMap<ContentId, (Arc<File>, Vec<u32>)> = BTreeMap::new();
        let edited_too = edited_too && self.disk.abilities().holes;
        for key in victims {
            if self.space.heat().pinned.contains(&key.0) {
                kept.push(*key);
                continue;
            }
            let file = match going.get(&key.0) {
                Some((file, _)) => file.clone(),
                None => self.load(key.0)?,
            };
            let Some(mut content) = file.try_lock() else {
                kept.push(*key);
                continue;
            };
            let edited = content.touched;
            let range = extent_range(key.1);
            let nothing = content.evictable(&range).is_empty();
            let stays = !nothing && (edited && !edited_too || !file.is_ours_alone(&mut content));
            drop(content);
            if nothing || stays {
                // Dirty or in use: it comes back. Gone already: nothing to do.
                if !nothing {
                    kept.push(*key);
                }
                self.unload_if_idle(&file);
                continue;
            }
            going.entry(key.0).or_insert_with(|| (file, Vec::new())).1.push(key.1);
        }
        self.evict_batch(going.into_values().collect())
    }

    /// Makes the absence of whole extents durable, then makes it so.
    fn evict_batch(&self, going: Vec<(Arc<File>, Vec<u32>)>) -> Result<u64> {
        if going.is_empty() {
            return Ok(0);
        }
        if !self.disk.abilities().holes {
            return self.evict_whole(going);
        }
        let epoch = self.sync.index_epoch.load(Ordering::SeqCst);
        let records: Vec<Record> = going
            .iter()
            .map(|(file, extents)| {
                let ranges = extents.iter().map(|extent| {
                    let range = extent_range(*extent);
                    ByteRange { start: range.start, end: range.end }
                });
                Record::Absent { content: file.id, epoch, ranges: ranges.collect() }
            })
            .collect();
        if !is_broken(Broken::HoleFirst) {
            self.journal.append_freeing(&records)?;
            self.journal.sync()?;
        }
        let mut freed = 0;
        for (file, extents) in going {
            {
                let mut content = file.lock();
                for extent in &extents {
                    freed += file.evict(&mut content, &self.space, &extent_range(*extent))?;
                }
                let present = content.indexable();
                let standing = |_| Standing::default();
                let extents = extents.into_iter();
                let ops = extents::ops(file.id, &content, &present, extents, standing);
                self.index.apply(&ops)?;
            }
            self.unload_if_idle(&file);
        }
        if is_broken(Broken::HoleFirst) {
            self.journal.append_freeing(&records)?;
        }
        Ok(freed)
    }

    /// The same of whole contents, where the disk makes no holes. One that is edited stays: what
    /// the journal says of it then costs no more than to ask the share once more after a crash.
    fn evict_whole(&self, going: Vec<(Arc<File>, Vec<u32>)>) -> Result<u64> {
        let epoch = self.sync.index_epoch.load(Ordering::SeqCst);
        let all = ByteRange { start: 0, end: u64::MAX };
        let absent =
            |file: &Arc<File>| Record::Absent { content: file.id, epoch, ranges: vec![all] };
        let records: Vec<Record> = going.iter().map(|(file, _)| absent(file)).collect();
        self.journal.append_freeing(&records)?;
        self.journal.sync()?;
        let mut freed = 0;
        for (file, _) in going {
            {
                let mut content = file.lock();
                if !content.is_dirty() {
                    freed += file.evict_whole(&mut content, &self.space)?;
                    self.index.apply(&extents::keys(&*self.index, file.id)?)?;
                }
            }
            self.unload_if_idle(&file);
        }
        Ok(freed)
    }

    /// Drops all clean bytes of a content; returns the bytes freed.
    pub(crate) fn evict_content(&self, id: ContentId) -> Result<u64> {
        let _one = self.evicting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let file = self.load(id)?;
        let extents = extents_of(&file.lock().present);
        self.evict_batch(vec![(file, extents)])
    }

    /// Drops the clean bytes of the extents in which these bytes of a content lie.
    pub(crate) fn drop_extents(&self, id: ContentId, ranges: &RangeSet) -> Result<u64> {
        let _one = self.evicting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.evict_batch(vec![(self.load(id)?, extents_of(ranges))])
    }

    /// The files at or below a path of the mount, as far as they are known here.
    pub(crate) fn files_below(&self, path: &RemotePath) -> Result<Vec<(Ino, Option<ContentId>)>> {
        let top = self
            .tree()
            .resolve(path)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "find").at(path.to_string()))?;
        let mut found = Vec::new();
        let mut dirs = Vec::new();
        let mut sort = |node: &crate::node::Node, dirs: &mut Vec<Ino>| match node.kind {
            Kind::Dir => dirs.push(node.ino),
            Kind::File => found.push((node.ino, node.content)),
            Kind::Symlink | Kind::Special => {}
        };
        sort(&top, &mut dirs);
        while let Some(dir) = dirs.pop() {
            for node in self.tree().children(dir, None, usize::MAX)? {
                sort(&node, &mut dirs);
            }
        }
        Ok(found)
    }
}

impl File {
    /// Drops the clean bytes of a range and punches them out. Their absence is durable in the
    /// journal already (D3). Returns the bytes freed.
    pub(crate) fn evict(
        &self,
        content: &mut Content,
        space: &Space,
        range: &Range<u64>,
    ) -> Result<u64> {
        let leaving = content.evictable(range);
        let before = content.allocated;
        if leaving.is_empty() || !self.is_ours_alone(content) {
            return Ok(0);
        }
        // Before the first hole: a reader that planned with these bytes reads again (D2).
        self.punches.fetch_add(1, Ordering::SeqCst);
        for part in &leaving {
            content.present.remove(part.clone());
        }
        if content.present.is_empty() && !content.is_dirty() && content.handles == 0 {
            content.crcs.clear();
            self.remove_data(content, space)?;
            return Ok(before);
        }
        if let Some(data) = self.data(false)? {
            for part in &leaving {
                let pages = part.start..part.end.next_multiple_of(4096);
                data.punch(pages).map_err(|error| Error::disk("punch a data file", error))?;
            }
        }
        self.recount(content, space);
        Ok(before.saturating_sub(content.allocated))
    }

    /// Drops all of a clean content, where the disk makes no holes. Its absence is durable in the
    /// journal already (D3). Returns the bytes freed.
    pub(crate) fn evict_whole(&self, content: &mut Content, space: &Space) -> Result<u64> {
        assert!(!content.is_dirty(), "an edit would go along");
        if !self.is_ours_alone(content) {
            return Ok(0);
        }
        let before = content.allocated;
        self.punches.fetch_add(1, Ordering::SeqCst);
        // Past the file's end they are zeros all the same.
        content.present = content.zeros.clone();
        content.crcs.clear();
        if content.present.is_empty() && content.handles == 0 {
            self.remove_data(content, space)?;
            return Ok(before);
        }
        if let Some(data) = self.data(false)? {
            data.set_len(0).map_err(|error| Error::disk("empty a data file", error))?;
        }
        self.recount(content, space);
        Ok(before.saturating_sub(content.allocated))
    }
}

/// The extents in which any of the bytes lie.
fn extents_of(present: &RangeSet) -> Vec<u32> {
    let mut extents = Vec::new();
    for range in present.iter() {
        let last = (range.end - 1) / limits::EXTENT;
        extents.extend((range.start / limits::EXTENT..=last).map(|extent| extent as u32));
    }
    extents.dedup();
    extents
}

fn extent_range(extent: u32) -> std::ops::Range<u64> {
    let start = u64::from(extent) * limits::EXTENT;
    start..start + limits::EXTENT
}
