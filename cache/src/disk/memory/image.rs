//! One file of a [`super::MemoryDisk`]: what is written, and what a power cut leaves of it.

use crate::ranges::RangeSet;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Unit of allocation and of loss.
pub(super) const PAGE: u64 = 4096;

type Page = Arc<[u8; PAGE as usize]>;

/// A file. Pages that are missing are holes.
#[derive(Default)]
pub(super) struct Image {
    pages: BTreeMap<u64, Page>,
    len: u64,
    /// Numbers of pages the disk keeps: written ones and reserved ones.
    blocks: RangeSet,
    durable: BTreeMap<u64, Page>,
    durable_len: u64,
    /// Pages changed since the last sync: each may be lost.
    unsynced: BTreeSet<u64>,
    /// Pages a failed sync should have covered: all lost, unless they are written again.
    lost: BTreeSet<u64>,
    pub handles: usize,
    /// How many have it past the process under test: to read only, and to write too.
    pub readers: usize,
    pub writers: usize,
    /// When it was written to last, since 1970: that write's number in seconds, or the time of a write unseen.
    pub modified: Duration,
}

impl Image {
    /// Those who have it to write, or to read only.
    pub fn loans(&mut self, writes: bool) -> &mut usize {
        if writes { &mut self.writers } else { &mut self.readers }
    }

    /// Whether it lives without a name.
    pub fn is_open(&self) -> bool {
        self.handles + self.readers + self.writers > 0
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn allocated(&self) -> u64 {
        self.blocks.total() * PAGE
    }

    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = (self.len.saturating_sub(offset)).min(buffer.len() as u64) as usize;
        for (page, part, within) in spans(offset, count) {
            match self.pages.get(&page) {
                Some(bytes) => buffer[part].copy_from_slice(&bytes[within]),
                None => buffer[part].fill(0),
            }
        }
        count
    }

    /// Writes until the disk is full; `free` bytes are left on it.
    pub fn write(&mut self, bytes: &[u8], offset: u64, mut free: u64) -> io::Result<()> {
        for (page, part, within) in spans(offset, bytes.len()) {
            if !self.blocks.contains(&(page..page + 1)) {
                free = free.checked_sub(PAGE).ok_or(io::ErrorKind::StorageFull)?;
                self.blocks.insert(page..page + 1);
            }
            self.len = self.len.max(page * PAGE + within.end as u64);
            self.change(page)[within].copy_from_slice(&bytes[part]);
        }
        Ok(())
    }

    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            for page in self.pages.split_off(&len.div_ceil(PAGE)).into_keys() {
                self.unsynced.insert(page);
            }
            self.zero_tail(len);
        }
        self.blocks.truncate(len.div_ceil(PAGE));
        self.len = len;
    }

    pub fn punch(&mut self, range: Range<u64>) {
        let whole = range.start.div_ceil(PAGE)..range.end / PAGE;
        for page in [range.start / PAGE, range.end / PAGE] {
            let bytes = page * PAGE..(page + 1) * PAGE;
            let part = range.start.max(bytes.start)..range.end.min(bytes.end);
            if !part.is_empty() && !whole.contains(&page) && self.pages.contains_key(&page) {
                let within = (part.start - bytes.start) as usize..(part.end - bytes.start) as usize;
                self.change(page)[within].fill(0);
            }
        }
        if whole.is_empty() {
            return;
        }
        let gone: Vec<u64> = self.pages.range(whole.clone()).map(|(page, _)| *page).collect();
        for page in gone {
            self.pages.remove(&page);
            self.unsynced.insert(page);
            self.lost.remove(&page);
        }
        self.blocks.remove(whole);
    }

    pub fn reserve(&mut self, range: Range<u64>, free: u64) -> io::Result<()> {
        let pages = range.start / PAGE..range.end.div_ceil(PAGE);
        let new: u64 = self.blocks.missing(&pages).iter().map(|gap| gap.end - gap.start).sum();
        if new * PAGE > free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.blocks.insert(pages);
        Ok(())
    }

    pub fn data_ranges(&self, within: Range<u64>) -> RangeSet {
        let within = within.start..within.end.min(self.len);
        let pages = within.start / PAGE..within.end.div_ceil(PAGE);
        if pages.is_empty() {
            return RangeSet::new();
        }
        let bytes = self.pages.range(pages).map(|(page, _)| page * PAGE..(page + 1) * PAGE);
        bytes.collect::<RangeSet>().intersect(&within).into_iter().collect()
    }

    pub fn sync(&mut self) {
        for page in std::mem::take(&mut self.unsynced) {
            match self.pages.get(&page) {
                Some(bytes) => self.durable.insert(page, bytes.clone()),
                None => self.durable.remove(&page),
            };
        }
        self.durable_len = self.len;
    }

    /// A sync failed: the kernel forgets that these pages were to be written.
    pub fn lose(&mut self) {
        self.lost.append(&mut self.unsynced);
    }

    pub fn power_loss(&mut self, random: &mut Random) {
        if random.coin() {
            self.len = self.durable_len;
        }
        let lost = std::mem::take(&mut self.lost);
        for page in std::mem::take(&mut self.unsynced) {
            if !lost.contains(&page) && random.coin() {
                match self.pages.get(&page) {
                    Some(bytes) => self.durable.insert(page, bytes.clone()),
                    None => self.durable.remove(&page),
                };
            }
        }
        self.pages = std::mem::take(&mut self.durable);
        self.pages.split_off(&self.len.div_ceil(PAGE));
        self.zero_tail(self.len);
        self.unsynced.clear();
        self.durable = self.pages.clone();
        self.durable_len = self.len;
        self.blocks = self.pages.keys().map(|page| *page..page + 1).collect();
    }

    fn zero_tail(&mut self, len: u64) {
        let within = (len % PAGE) as usize;
        if within > 0 && self.pages.contains_key(&(len / PAGE)) {
            self.change(len / PAGE)[within..].fill(0);
        }
    }

    /// A page to be changed.
    fn change(&mut self, page: u64) -> &mut [u8; PAGE as usize] {
        self.unsynced.insert(page);
        self.lost.remove(&page);
        Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize])))
    }
}

/// Cuts `count` bytes at `offset` at page borders: page, range of the bytes, range in the page.
fn spans(offset: u64, count: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == count {
            return None;
        }
        let at = offset + done as u64;
        let start = (at % PAGE) as usize;
        let step = (PAGE as usize - start).min(count - done);
        let span = (at / PAGE, done..done + step, start..start + step);
        done += step;
        Some(span)
    })
}

/// splitmix64: enough to play dice with.
pub(super) struct Random(pub u64);

impl Random {
    pub fn coin(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}
