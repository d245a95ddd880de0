//! The bytes of one content: which are here, which are ours, and the order in which journal and
//! data file change so that neither a crash nor a power cut mixes them up.
//!
//! ```text
//!   0                     base_end        size
//!   |--present--|..absent..|---- ours ----|      absent: only below base_end, fetched from the base
//!       |dirty|    |zeros|                       both within present; zeros are holes in the data file
//! ```
//!
//! Every set changes under the content's lock only (D2). Nothing here waits for the share: what is
//! absent is the caller's business. After a failed write of the data file the content is latched.

use crate::attr::ContentId;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, ErrorKind, Result};
use crate::fetch::Flight;
use crate::journal::{ByteRange, Journal, Record};
use crate::lend::Lent;
use crate::limits;
use crate::node::Place;
use crate::ranges::RangeSet;
use crate::space::Space;
use covefs_remote::{Timestamp, Version};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::SystemTime;
use tokio::sync::Notify;
use tokio::time::Instant;

/// One content while it is in use.
pub(crate) struct File {
    pub id: ContentId,
    /// The node that has it; 0 while only eviction has loaded it.
    pub ino: AtomicU64,
    pub(crate) disk: Arc<dyn Disk>,
    data: Mutex<Option<Arc<dyn DiskFile>>>,
    state: Mutex<Content>,
    /// Counts evictions from it: a read that saw the count move reads again (D2).
    pub punches: AtomicU64,
    /// Something that somebody may wait for has changed: an upload's hold, the last handle.
    pub changed: Notify,
    /// One fdatasync of the data file at a time, so that its two records enclose just one.
    pub syncing: Mutex<()>,
    /// It waits for the next round of settling.
    pub settling: AtomicBool,
    /// The data file's name is durable.
    named: AtomicBool,
}

/// The sets and numbers of one content.
pub(crate) struct Content {
    pub size: u64,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// Bytes that a read takes from the data file.
    pub present: RangeSet,
    /// Bytes that the share does not have and no upload has frozen.
    pub dirty: RangeSet,
    /// Bytes that the share does not have, journalled under generations before this one: a failed
    /// upload's, or an earlier run's. A write to them is journalled again (S1).
    pub older: RangeSet,
    /// Zero, with a hole in the data file: ours, or the share's since an upload.
    pub zeros: RangeSet,
    /// What was dirty when the upload under way began.
    pub frozen: Option<RangeSet>,
    /// The smallest size since an upload settled on what it sends; the next base ends there.
    pub cut_since: Option<u64>,
    /// What the next change is journalled under (S1).
    pub generation: u64,
    /// The smallest size since the base: what lies past it is ours (J5).
    pub base_end: u64,
    /// The share's version that absent bytes come from.
    pub base: Option<Version>,
    /// How often it has begun again: what was asked for before is not for it.
    pub begun: u64,
    /// The journal knows that it is dirty (J6).
    pub touched: bool,
    /// And knows it durably; before that no byte of the data file changes.
    pub touch_durable: bool,
    /// An upload sends its last round: writes wait (S1).
    pub held: bool,
    /// A cut or hole is in the journal and not yet in the data file: writes wait.
    pub cutting: bool,
    /// Allocated bytes of the data file, as the space room counts them.
    pub allocated: u64,
    /// Checksums of whole blocks as the share has them (D1).
    pub crcs: BTreeMap<u64, u32>,
    pub flights: Vec<Arc<Flight>>,
    pub handles: u32,
    pub writers: u32,
    /// Of these those that the kernel serves from pages of its own (P1).
    pub in_pages: u32,
    /// The kernel reads the data file for handles that have this (P1).
    pub lent: Weak<Lent>,
    /// Somebody may have the data file past all handles: a mapping, a program that outlived us.
    pub shared: bool,
    /// And may write to it, which nobody tells of (P2).
    pub unseen: bool,
    /// When the data file last changed, at the last look for that.
    pub seen: Option<SystemTime>,
    /// The data file has bytes that no fdatasync covers.
    pub unsynced: bool,
    /// The index does not know yet what is present.
    pub unindexed: bool,
    pub last_change: Option<Instant>,
    pub oldest_dirty: Option<Instant>,
    pub fsynced: bool,
    /// A read returned bytes to somebody who still has it open (R2).
    pub delivered: bool,
    /// A write of the data file failed: nothing of it is trusted any more.
    pub latched: bool,
    /// The name and the share have gone on without it; it lives until its last close.
    pub orphan: bool,
    /// The share no longer has the bytes that are not here.
    pub rest_is_gone: bool,
    /// Where it was when the share took its name away; a write gives it one again (S6).
    pub lost: Option<Place>,
    /// Journalled under this generation since the last sync began: may be written over without a
    /// word (J6).
    pub logged: RangeSet,
    /// When the journal last heard of its time.
    pub logged_at: Option<Instant>,
}

impl Content {
    pub(crate) fn new(size: u64, mtime: Timestamp, base: Option<Version>) -> Self {
        Content {
            size,
            mtime,
            ctime: mtime,
            present: RangeSet::new(),
            dirty: RangeSet::new(),
            older: RangeSet::new(),
            zeros: RangeSet::new(),
            frozen: None,
            cut_since: None,
            generation: 1,
            base_end: if base.is_some() { size } else { 0 },
            base,
            begun: 0,
            touched: false,
            touch_durable: false,
            held: false,
            cutting: false,
            allocated: 0,
            crcs: BTreeMap::new(),
            flights: Vec::new(),
            handles: 0,
            writers: 0,
            in_pages: 0,
            lent: Weak::new(),
            shared: false,
            unseen: false,
            seen: None,
            unsynced: false,
            unindexed: false,
            last_change: None,
            oldest_dirty: None,
            fsynced: false,
            delivered: false,
            latched: false,
            orphan: false,
            rest_is_gone: false,
            lost: None,
            logged: RangeSet::new(),
            logged_at: None,
        }
    }

    /// Whether no byte has to come from the share.
    pub(crate) fn is_whole(&self) -> bool {
        self.present.contains(&(0..self.size))
    }

    /// Whether all is here that open handles can ever have of it.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_whole() || self.rest_is_gone
    }

    /// Whether the share does not have all of it.
    pub(crate) fn is_dirty(&self) -> bool {
        self.touched
    }

    /// From now on all of it is ours: the share has none.
    fn lose_base(&mut self, gaps: &[Range<u64>]) {
        for gap in gaps {
            self.present.insert(gap.clone());
            self.zeros.insert(gap.clone());
        }
        if self.size > 0 {
            self.dirty.insert(0..self.size);
        }
        self.base = None;
        self.base_end = 0;
        self.touched = true;
        self.touch_durable = true;
        self.orphan = false;
        self.lost = None;
        self.seen = None;
        self.oldest_dirty.get_or_insert_with(Instant::now);
    }

    /// Whether a range has bytes that the share does not have.
    pub(crate) fn has_dirty(&self, range: &Range<u64>) -> bool {
        self.unsent().any(|ours| ours.overlaps(range))
    }

    /// The sets of bytes that the share does not have.
    fn unsent(&self) -> impl Iterator<Item = &RangeSet> {
        [&self.dirty, &self.older].into_iter().chain(&self.frozen)
    }

    /// Whether a change has to wait for another one to end.
    pub(crate) fn is_held(&self) -> bool {
        self.held || self.cutting
    }

    /// What lies between the old size and a new, larger one is ours and zero (J5).
    fn take_zeros(&mut self, size: u64) {
        if size > self.size {
            let gap = self.size..size;
            self.crcs.remove(&(self.size / limits::BLOCK));
            self.present.insert(gap.clone());
            self.dirty.insert(gap.clone());
            self.zeros.insert(gap);
            self.size = size;
        }
    }

    /// The next changes belong to a new generation (S1).
    pub(crate) fn next_generation(&mut self) -> u64 {
        let generation = self.generation;
        self.generation += 1;
        self.logged = RangeSet::new();
        generation
    }

    /// The clean bytes of a range that eviction may drop.
    pub(crate) fn evictable(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut clean = RangeSet::new();
        for part in self.present.intersect(range) {
            clean.insert(part);
        }
        self.unsent().for_each(|ours| clean.subtract(ours));
        clean.subtract(&self.zeros);
        clean.iter().filter_map(|part| whole_pages(part, self.size)).collect()
    }

    /// What the index may say is present: bytes as the share has them. Of the rest the journal
    /// knows. After a power cut nothing of it counts while the content is dirty (J6).
    pub(crate) fn indexable(&self) -> RangeSet {
        let mut clean = self.present.clone();
        if self.touched {
            self.unsent().for_each(|ours| clean.subtract(ours));
            clean.truncate(self.base_end);
        }
        clean
    }

    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.unsent().map(RangeSet::total).sum()
    }

    fn check_invariants(&self) {
        debug_assert!(self.base_end <= self.size, "base_end {} > {}", self.base_end, self.size);
        let dirty = !self.dirty.is_empty() || !self.older.is_empty();
        debug_assert!(self.touched || !dirty, "dirty but not touched");
        if cfg!(debug_assertions) {
            for range in self.dirty.iter().chain(self.zeros.iter()) {
                debug_assert!(self.present.contains(&range), "dirty {range:?} is not present");
            }
        }
    }
}

/// The whole pages of a range; a range that ends the file ends its last page.
fn whole_pages(range: Range<u64>, size: u64) -> Option<Range<u64>> {
    const PAGE: u64 = 4096;
    let start = range.start.div_ceil(PAGE) * PAGE;
    let end = if range.end >= size { range.end } else { range.end / PAGE * PAGE };
    (start < end).then_some(start..end)
}

/// Where the data file of a content lies in the cache directory.
pub(crate) fn data_path(id: ContentId) -> String {
    // The low byte spreads consecutive numbers over 256 directories.
    format!("data/{:02x}/{:016x}", id.0 & 0xff, id.0)
}

/// The directories of all data files, in `data`.
pub(crate) fn data_dirs() -> impl Iterator<Item = String> {
    (0..=0xff).map(|low| format!("{low:02x}"))
}

impl File {
    pub(crate) fn new(id: ContentId, disk: Arc<dyn Disk>, content: Content) -> Self {
        File {
            id,
            ino: AtomicU64::new(0),
            disk,
            data: Mutex::new(None),
            state: Mutex::new(content),
            punches: AtomicU64::new(0),
            changed: Notify::new(),
            syncing: Mutex::new(()),
            settling: AtomicBool::new(false),
            named: AtomicBool::new(false),
        }
    }

    /// The content's lock. Held for memory and the local disk, never for fsync, space or network.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Content> {
        // A panic under the lock leaves sets that are each valid; the latch covers the data file.
        let guard = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        guard.check_invariants();
        guard
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Content>> {
        self.state.try_lock().ok()
    }

    pub(crate) fn node(&self) -> crate::attr::Ino {
        crate::attr::Ino(self.ino.load(Ordering::Relaxed))
    }

    /// The data file; `None` where there is none and `create` is not asked for.
    pub(crate) fn data(&self, create: bool) -> Result<Option<Arc<dyn DiskFile>>> {
        let mut slot = self.data.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if slot.is_none() {
            match self.disk.open(&data_path(self.id), create) {
                Ok(file) => *slot = Some(file),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !create => {}
                Err(error) => return Err(Error::disk("open a data file", error)),
            }
        }
        Ok(slot.clone())
    }

    /// Lets our own descriptor of the data file go; says whether nobody uses it.
    pub(crate) fn close_data(&self) -> bool {
        let mut slot = self.data.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let in_use = slot.as_ref().is_some_and(|data| Arc::strong_count(data) > 1);
        if !in_use {
            *slot = None;
        }
        !in_use
    }

    fn data_for_write(&self) -> Result<Arc<dyn DiskFile>> {
        Ok(self.data(true)?.expect("opened to create"))
    }

    /// Makes the data file's own name durable, once.
    pub(crate) fn sync_name(&self) -> Result<()> {
        if self.named.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let path = data_path(self.id);
        let dir = path.rsplit_once('/').map_or("data", |(dir, _)| dir);
        self.disk.sync_dir(dir).map_err(|error| {
            self.named.store(false, Ordering::SeqCst);
            Error::disk("sync a data directory", error)
        })
    }

    /// Removes the data file of a content that nobody has open.
    pub(crate) fn remove_data(&self, content: &mut Content, space: &Space) -> Result<()> {
        *self.data.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
        self.named.store(false, Ordering::SeqCst);
        match self.disk.remove(&data_path(self.id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::disk("remove a data file", error));
            }
            _ => {}
        }
        space.account(content.allocated, 0);
        content.allocated = 0;
        Ok(())
    }

    /// Counts what the data file takes now.
    pub(crate) fn recount(&self, content: &mut Content, space: &Space) {
        let data = self.data.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        if let Some(now) = data.and_then(|data| data.allocated().ok()) {
            space.account(content.allocated, now);
            content.allocated = now;
        }
    }

    /// Reads present bytes into `out` (appended). What the file has as a hole reads as zeros.
    pub(crate) fn read_data(&self, range: &Range<u64>, out: &mut Vec<u8>) -> Result<()> {
        let len = (range.end - range.start) as usize;
        let begin = out.len();
        out.resize(begin + len, 0);
        let Some(data) = self.data(false)? else { return Ok(()) };
        let mut done = 0;
        while done < len {
            let at = range.start + done as u64;
            match data.read_at(&mut out[begin + done..], at) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) => return Err(Error::disk("read a data file", error)),
            }
        }
        Ok(())
    }

    /// Writes bytes of ours: present parts are journalled before, absent ones after (J4).
    pub(crate) fn write(
        &self,
        content: &mut Content,
        journal: &Journal,
        space: &Space,
        offset: u64,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<()> {
        let range = offset..offset + bytes.len() as u64;
        let heard = content.logged_at.is_some_and(|at| at.elapsed() < limits::TIME_GRAIN);
        if heard && content.logged.contains(&range) && !content.zeros.overlaps(&range) {
            self.write_data(content, offset, bytes)?;
            self.note_change(content, now);
            return Ok(());
        }
        let size = content.size.max(range.end);
        // A hole of ours counts as absent here: said to be data before it is, it would be taken for
        // lost bytes after a crash.
        let mut present: RangeSet = content.present.intersect(&range).into_iter().collect();
        present.subtract(&content.zeros);
        let absent = !present.contains(&range);
        if !present.is_empty() {
            // Still the size of before: cut off here, these are the old bytes, said to be ours.
            let old = content.size;
            let before: Vec<Record> =
                present.iter().map(|part| self.wrote(content, part, old, now)).collect();
            log(content, journal, &before)?;
            content.dirty.union_with(&present);
        }
        if range.start > content.size {
            self.end_data(content.size)?;
        }
        self.write_data(content, offset, bytes)?;
        if absent {
            // One frame (J2): the gap before the write appears with it or not at all.
            let mut after = Vec::new();
            if range.start > content.size {
                after.push(self.zeroed(content, content.size..range.start, range.start, now));
            }
            after.push(self.wrote(content, range.clone(), size, now));
            log(content, journal, &after)?;
            content.take_zeros(range.start);
        }
        content.logged.insert(range.clone());
        content.logged_at = Some(Instant::now());
        content.present.insert(range.clone());
        content.dirty.insert(range.clone());
        content.zeros.remove(range.clone());
        content.size = size;
        let blocks = range.start / limits::BLOCK..range.end.div_ceil(limits::BLOCK);
        content.crcs.retain(|block, _| !blocks.contains(block));
        if absent {
            self.recount(content, space);
        }
        self.note_change(content, now);
        Ok(())
    }

    /// Journals that all of it is ours from now on, under this generation; of holes it says that already.
    pub(crate) fn claim(&self, content: &mut Content, journal: &Journal) -> Result<()> {
        let (all, size, mtime) = (0..content.size, content.size, content.mtime);
        if all.is_empty() {
            return Ok(());
        }
        let data = content.zeros.missing(&all);
        let records: Vec<Record> =
            data.into_iter().map(|part| self.wrote(content, part, size, mtime)).collect();
        log(content, journal, &records)?;
        content.dirty.insert(all);
        content.crcs.clear();
        content.oldest_dirty.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Writes zeros in place of the first hole, as far as one piece goes; says which they were. The caller has
    /// reserved the room.
    pub(crate) fn fill_hole(
        &self,
        content: &mut Content,
        space: &Space,
    ) -> Result<Option<Range<u64>>> {
        let Some(hole) = content.zeros.iter().next() else { return Ok(None) };
        let part = hole.start..hole.end.min(hole.start + limits::EXTENT);
        self.write_data(content, part.start, &vec![0; (part.end - part.start) as usize])?;
        content.zeros.remove(part.clone());
        self.recount(content, space);
        Ok(Some(part))
    }

    /// Journals bytes of ours that are in the data file already.
    pub(crate) fn log_found(
        &self,
        content: &mut Content,
        journal: &Journal,
        range: Range<u64>,
    ) -> Result<()> {
        let (size, mtime) = (content.size, content.mtime);
        log(content, journal, &[self.wrote(content, range.clone(), size, mtime)])?;
        content.dirty.insert(range);
        Ok(())
    }

    fn wrote(&self, content: &Content, range: Range<u64>, size: u64, mtime: Timestamp) -> Record {
        let range = ByteRange { start: range.start, end: range.end };
        Record::Wrote { content: self.id, generation: content.generation, range, size, mtime }
    }

    fn zeroed(&self, content: &Content, range: Range<u64>, size: u64, mtime: Timestamp) -> Record {
        let range = ByteRange { start: range.start, end: range.end };
        Record::Zeroed { content: self.id, generation: content.generation, range, size, mtime }
    }

    /// What the journal says when the content loses its base: all of it is ours, and what is
    /// neither here nor there any more is zeros. Returns these ranges too.
    pub(crate) fn without_base(&self, content: &Content) -> (Vec<Record>, Vec<Range<u64>>) {
        let gaps = content.present.missing(&(0..content.size));
        let (size, mtime) = (content.size, content.mtime);
        let generation = content.generation;
        let mut records =
            vec![Record::Touched { content: self.id, generation, base_end: 0, size, mtime }];
        if size > 0 {
            records.push(self.wrote(content, 0..size, size, mtime));
        }
        let holes = content.zeros.iter().chain(gaps.iter().cloned());
        records.extend(holes.map(|hole| self.zeroed(content, hole, size, mtime)));
        (records, gaps)
    }

    /// The content goes on without its base. What was absent may still lie in the data file, which a
    /// crash made the index forget: it has to be the zeros that it is said to be.
    pub(crate) fn lose_base(
        &self,
        content: &mut Content,
        space: &Space,
        gaps: &[Range<u64>],
    ) -> Result<()> {
        content.lose_base(gaps);
        let Some(data) = self.data(false)? else { return Ok(()) };
        let punched = gaps.iter().try_for_each(|gap| data.punch(gap.clone()));
        self.recount(content, space);
        punched.map_err(|error| {
            content.latched = true;
            Error::disk("punch a data file", error)
        })
    }

    /// A power cut may have left the data file longer than the content: what comes to lie between
    /// its end and a larger size has to be a hole.
    fn end_data(&self, size: u64) -> Result<()> {
        let Some(data) = self.data(false)? else { return Ok(()) };
        let ended = data.len().and_then(|len| match len > size {
            true => data.set_len(size),
            false => Ok(()),
        });
        ended.map_err(|error| Error::disk("cut a data file", error))
    }

    fn write_data(&self, content: &mut Content, offset: u64, bytes: &[u8]) -> Result<()> {
        if content.latched {
            return Err(Error::new(ErrorKind::Io, "write a data file that failed before"));
        }
        content.unsynced = true;
        self.data_for_write()?.write_at(bytes, offset).map_err(|error| {
            let error = Error::disk("write a data file", error);
            content.latched = error.kind != ErrorKind::NoSpace;
            error
        })
    }

    pub(crate) fn note_change(&self, content: &mut Content, now: Timestamp) {
        content.mtime = now;
        content.ctime = now;
        let instant = Instant::now();
        content.last_change = Some(instant);
        content.oldest_dirty.get_or_insert(instant);
    }

    /// Journals a cut. What lies past it is nobody's, but still in the data file.
    pub(crate) fn log_cut(
        &self,
        content: &mut Content,
        journal: &Journal,
        size: u64,
        now: Timestamp,
    ) -> Result<()> {
        let generation = content.generation;
        let cut = Record::Truncated { content: self.id, generation, size, mtime: now };
        log_freeing(content, journal, &[cut])?;
        self.cut(content, size);
        Ok(())
    }

    /// Sets the size: a cut is journalled, then made; growth is ours and zero.
    pub(crate) fn truncate(
        &self,
        content: &mut Content,
        journal: &Journal,
        space: &Space,
        size: u64,
        now: Timestamp,
    ) -> Result<()> {
        if size < content.size {
            self.log_cut(content, journal, size, now)?;
        } else if size > content.size {
            log(content, journal, &[self.zeroed(content, content.size..size, size, now)])?;
            self.end_data(content.size)?;
            content.take_zeros(size);
        }
        let set = self.data_for_write()?.set_len(size);
        self.recount(content, space);
        self.note_change(content, now);
        set.map_err(|error| match error.kind() {
            // The cache's file system holds no file of that size.
            std::io::ErrorKind::FileTooLarge => Error::new(ErrorKind::TooLarge, "set the size"),
            _ => Error::disk("set the size of a data file", error),
        })
    }

    /// What lies past `size` is nobody's any more.
    fn cut(&self, content: &mut Content, size: u64) {
        content.present.truncate(size);
        content.logged.truncate(size);
        content.dirty.truncate(size);
        content.older.truncate(size);
        content.zeros.truncate(size);
        if let Some(frozen) = &mut content.frozen {
            frozen.truncate(size);
        }
        content.base_end = content.base_end.min(size);
        content.cut_since = content.cut_since.map(|smallest| smallest.min(size));
        content.size = size;
        content.unsynced = true;
        content.crcs.retain(|block, _| (block + 1) * limits::BLOCK <= size);
    }

    /// Journals a hole: below the size, or with `grow` up to its own end. Returns what of the range
    /// is zeros now, though the data file may still have its bytes.
    pub(crate) fn log_hole(
        &self,
        content: &mut Content,
        journal: &Journal,
        range: Range<u64>,
        grow: bool,
        now: Timestamp,
    ) -> Result<Range<u64>> {
        let size = if grow { content.size.max(range.end) } else { content.size };
        let range = range.start.min(content.size)..range.end.min(size);
        if range.is_empty() {
            return Ok(range);
        }
        log_freeing(content, journal, &[self.zeroed(content, range.clone(), size, now)])?;
        content.present.insert(range.clone());
        content.dirty.insert(range.clone());
        content.zeros.insert(range.clone());
        content.size = size;
        content.unsynced = true;
        let blocks = range.start / limits::BLOCK..range.end.div_ceil(limits::BLOCK);
        content.crcs.retain(|block, _| !blocks.contains(block));
        Ok(range)
    }

    /// Makes zeros of what `log_hole` said.
    pub(crate) fn punch(
        &self,
        content: &mut Content,
        space: &Space,
        range: Range<u64>,
        now: Timestamp,
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let punched = self.data_for_write()?.punch(range.clone());
        self.recount(content, space);
        self.note_change(content, now);
        punched.map_err(|error| {
            content.latched = true;
            Error::disk("punch a data file", error)
        })
    }

    /// Stores fetched bytes where nothing is present or ours yet (D4). The caller has reserved
    /// the room. Errors leave the bytes absent.
    pub(crate) fn store_fetched(
        &self,
        content: &mut Content,
        space: &Space,
        flight: &Flight,
        offset: u64,
        bytes: &[u8],
    ) -> Result<bool> {
        if !flight.is_of(content) || content.latched {
            return Ok(false);
        }
        let end = (offset + bytes.len() as u64).min(content.base_end).min(content.size);
        if offset >= end {
            return Ok(false);
        }
        let gaps = content.present.missing(&(offset..end));
        if gaps.is_empty() {
            return Ok(false);
        }
        let data = self.data_for_write()?;
        content.unsynced = true;
        // A block in the middle of which the base ends, and ours goes on, has no checksum.
        let end = if content.base_end == content.size { content.size } else { u64::MAX };
        for gap in gaps {
            let part = &bytes[(gap.start - offset) as usize..(gap.end - offset) as usize];
            data.write_at(part, gap.start).map_err(|e| Error::disk("store fetched bytes", e))?;
            content.present.insert(gap.clone());
            note_crcs(&mut content.crcs, &gap, part, end);
        }
        content.unindexed = true;
        self.recount(content, space);
        Ok(true)
    }

    /// Begins again with a newer version of a clean content: all its bytes are absent, and those under
    /// way are dropped.
    pub(crate) fn restart(
        &self,
        content: &mut Content,
        space: &Space,
        metadata: &covefs_remote::Metadata,
    ) -> Result<()> {
        debug_assert!(!content.touched, "only clean contents begin again");
        self.punches.fetch_add(1, Ordering::SeqCst);
        content.present = RangeSet::new();
        content.zeros = RangeSet::new();
        content.crcs.clear();
        content.size = metadata.size;
        content.base_end = metadata.size;
        content.mtime = metadata.mtime;
        content.ctime = metadata.ctime;
        content.base = Some(metadata.version);
        content.begun += 1;
        content.unindexed = true;
        let cut = match self.data(false)? {
            Some(data) => data.set_len(0),
            None => Ok(()),
        };
        self.recount(content, space);
        cut.map_err(|error| Error::disk("cut a data file", error))
    }
}

/// Journals a change of a content, unless its name is gone: then nothing of it outlives us.
fn log(content: &Content, journal: &Journal, records: &[Record]) -> Result<()> {
    if content.orphan { Ok(()) } else { journal.append(records) }
}

/// The same for what frees room (J9).
fn log_freeing(content: &Content, journal: &Journal, records: &[Record]) -> Result<()> {
    if content.orphan { Ok(()) } else { journal.append_freeing(records) }
}

/// The bytes of a block of a content that ends at `size`; not a range where it ends before.
pub(crate) fn block_range(block: u64, size: u64) -> Range<u64> {
    let start = block * limits::BLOCK;
    start..(start + limits::BLOCK).min(size)
}

/// Notes the checksums of the blocks that `bytes` fills whole; the last one may be short.
pub(crate) fn note_crcs(
    crcs: &mut BTreeMap<u64, u32>,
    range: &Range<u64>,
    bytes: &[u8],
    size: u64,
) {
    let mut block = range.start.div_ceil(limits::BLOCK);
    while block * limits::BLOCK < range.end {
        let Range { start, end } = block_range(block, size);
        // Or it was cut to less meanwhile.
        if end > range.end || end <= start {
            break;
        }
        let part = &bytes[(start - range.start) as usize..(end - range.start) as usize];
        crcs.insert(block, crc32fast::hash(part));
        block += 1;
    }
}
