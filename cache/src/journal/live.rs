//! What the journal stands for: the sum of its records.
//!
//! Every record is applied here by the same code when it is appended and when it is replayed, so
//! the two cannot differ. Any sequence of records is accepted: the log may begin anywhere.

use super::record::{ConflictRecord, ContentSet, Record, SentRecord};
use crate::attr::{ContentId, Ino};
use crate::node::Node;
use crate::ranges::RangeSet;
use covefs_remote::{RemotePath, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The facts the share does not have yet, and what goes with them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Live {
    /// Dirty nodes and the directories above them (J1).
    pub nodes: BTreeMap<Ino, Node>,
    /// Contents that were touched since they were in step.
    pub contents: BTreeMap<ContentId, LiveContent>,
    pub pins: BTreeSet<RemotePath>,
    pub conflicts: BTreeMap<u64, ConflictRecord>,
    pub temps: BTreeSet<RemotePath>,
    pub suspects: BTreeSet<Ino>,
    /// Uploads and renames whose outcome may be unknown, by node.
    pub sent: BTreeMap<Ino, SentRecord>,
    /// What was punched out, by epoch, until the index knows (D3).
    pub absent: BTreeMap<u64, BTreeMap<ContentId, RangeSet>>,
    /// The last epoch the index is known to have flushed: one that says less is an older one.
    pub index_epoch: u64,
}

/// What is known of one content that is not in step.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LiveContent {
    /// A `Touched` record came before the first change.
    pub touched: bool,
    /// The machine went down while it was touched: what has no dirty record is absent (J6).
    pub power_cut: bool,
    /// The smallest size since the base (J5).
    pub base_end: u64,
    pub size: u64,
    pub mtime: Timestamp,
    /// What the share does not have, by generation; none: it is clean.
    pub generations: BTreeMap<u64, GenRanges>,
    /// The smallest size while each generation was the current one.
    pub size_min: BTreeMap<u64, u64>,
    /// Written since the last fdatasync of the data file began.
    pub unsynced: RangeSet,
    /// What the fdatasync under way covers.
    pub syncing: RangeSet,
    /// What no fdatasync covered when the machine went down (J6).
    pub suspect: RangeSet,
}

/// The ranges of one generation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GenRanges {
    /// Ours.
    pub dirty: RangeSet,
    /// Of these, ours and zero with a hole in the data file, which is to be punched again at start.
    pub zeros: RangeSet,
}

impl LiveContent {
    /// Whether the share does not have all of it.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.generations.is_empty()
    }

    /// Whether the share has all of it although it is touched: no change followed.
    pub(crate) fn is_unchanged(&self) -> bool {
        !self.is_dirty() && self.suspect.is_empty() && self.size == self.base_end
    }

    /// All dirty ranges, whatever their generation.
    pub(crate) fn dirty(&self) -> RangeSet {
        let mut all = RangeSet::new();
        for ranges in self.generations.values() {
            all.union_with(&ranges.dirty);
        }
        all
    }

    /// What a power cut took for good: zeros stand for it.
    pub(crate) fn missing(&self) -> RangeSet {
        let mut zeros = RangeSet::new();
        for ranges in self.generations.values() {
            zeros.union_with(&ranges.zeros);
        }
        zeros.intersection(&self.suspect)
    }

    /// Every set it has.
    pub(super) fn sets(&self) -> impl Iterator<Item = (ContentSet, &RangeSet)> {
        let generations = self.generations.iter().flat_map(|(generation, ranges)| {
            let dirty = (ContentSet::Dirty(*generation), &ranges.dirty);
            [dirty, (ContentSet::Zeros(*generation), &ranges.zeros)]
        });
        generations.chain([
            (ContentSet::Unsynced, &self.unsynced),
            (ContentSet::Syncing, &self.syncing),
            (ContentSet::Suspect, &self.suspect),
        ])
    }

    pub(super) fn set_mut(&mut self, set: ContentSet) -> &mut RangeSet {
        match set {
            ContentSet::Dirty(generation) => {
                &mut self.generations.entry(generation).or_default().dirty
            }
            ContentSet::Zeros(generation) => {
                &mut self.generations.entry(generation).or_default().zeros
            }
            ContentSet::Unsynced => &mut self.unsynced,
            ContentSet::Syncing => &mut self.syncing,
            ContentSet::Suspect => &mut self.suspect,
        }
    }

    fn wrote(&mut self, generation: u64, range: Range<u64>) {
        for ranges in self.generations.values_mut() {
            ranges.zeros.remove(range.clone());
        }
        self.suspect.remove(range.clone());
        self.unsynced.insert(range.clone());
        self.generations.entry(generation).or_default().dirty.insert(range);
    }

    fn zeroed(&mut self, generation: u64, range: Range<u64>) {
        // Zeros need no data: the hole is punched again at start, so no sync has to cover it.
        for set in [&mut self.unsynced, &mut self.syncing, &mut self.suspect] {
            set.remove(range.clone());
        }
        let ranges = self.generations.entry(generation).or_default();
        ranges.dirty.insert(range.clone());
        ranges.zeros.insert(range);
    }

    fn truncated(&mut self, generation: u64, size: u64) {
        // With nothing cut it is still another size than the share's: dirty.
        self.generations.entry(generation).or_default();
        for ranges in self.generations.values_mut() {
            ranges.dirty.truncate(size);
            ranges.zeros.truncate(size);
        }
        for set in [&mut self.unsynced, &mut self.syncing, &mut self.suspect] {
            set.truncate(size);
        }
        self.base_end = self.base_end.min(size);
    }

    /// Notes size and time of a change made under a generation.
    fn resized(&mut self, generation: u64, size: u64, mtime: Timestamp) {
        // The first record of a generation finds the size that it began with.
        let least = self.size_min.entry(generation).or_insert(self.size);
        *least = (*least).min(size);
        self.size = size;
        self.mtime = mtime;
    }

    fn clean_up_to(&mut self, generation: u64, base_end: u64) {
        let later = generation.saturating_add(1);
        self.generations = self.generations.split_off(&later);
        self.size_min = self.size_min.split_off(&later);
        self.base_end = self.size_min.values().copied().fold(base_end, u64::min);
        self.suspect = self.suspect.intersection(&self.dirty());
    }

    fn settled(&mut self, lost: impl Iterator<Item = Range<u64>>) {
        for range in lost {
            for ranges in self.generations.values_mut() {
                ranges.dirty.remove(range.clone());
                ranges.zeros.remove(range.clone());
            }
        }
        self.suspect.clear();
        self.power_cut = false;
    }

    fn power_was_cut(&mut self) {
        self.suspect.union_with(&std::mem::take(&mut self.unsynced));
        self.suspect.union_with(&std::mem::take(&mut self.syncing));
        self.power_cut |= self.touched;
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        for (_, set) in self.sets() {
            set.check_invariants();
            assert!(set.end() <= self.size, "{set:?} past the end {}", self.size);
        }
    }
}

impl Live {
    /// Adds one record to the sum.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Node(node) => {
                self.nodes.insert(node.ino, (**node).clone());
            }
            Record::NodeGone(ino) => {
                self.nodes.remove(ino);
                self.suspects.remove(ino);
            }
            Record::Absent { content, epoch, ranges } => {
                let ranges: RangeSet = ranges.iter().map(|range| range.range()).collect();
                if !ranges.is_empty() {
                    let epoch = self.absent.entry(*epoch).or_default();
                    epoch.entry(*content).or_default().union_with(&ranges);
                }
            }
            Record::IndexFlushed { epoch } => {
                self.absent = self.absent.split_off(&epoch.saturating_add(1));
                self.index_epoch = self.index_epoch.max(*epoch);
            }
            Record::Suspect(ino) => {
                self.suspects.insert(*ino);
            }
            Record::Pin(path) => {
                self.pins.insert(path.clone());
            }
            Record::Unpin(path) => {
                self.pins.remove(path);
            }
            Record::Conflict(conflict) => {
                self.conflicts.insert(conflict.id, conflict.clone());
            }
            Record::ConflictDismissed(id) => {
                self.conflicts.remove(id);
            }
            Record::Temp(path) => {
                self.temps.insert(path.clone());
            }
            Record::TempGone(path) => {
                self.temps.remove(path);
            }
            Record::Sent(sent) => {
                self.sent.insert(sent.ino, (**sent).clone());
            }
            Record::SentGone(ino) => {
                self.sent.remove(ino);
            }
            Record::Follows { .. } => {}
            _ => self.apply_to_content(record),
        }
    }

    fn apply_to_content(&mut self, record: &Record) {
        match record {
            Record::Touched { content, generation, base_end, size, mtime } => {
                let known = self.contents.entry(*content).or_insert_with(|| LiveContent {
                    base_end: *base_end,
                    size: *size,
                    ..LiveContent::default()
                });
                known.touched = true;
                known.base_end = known.base_end.min(*base_end);
                known.resized(*generation, *size, *mtime);
            }
            Record::Wrote { content, generation, range, size, mtime } => {
                let known = self.content(*content, *size);
                known.wrote(*generation, range.range());
                known.resized(*generation, *size, *mtime);
            }
            Record::Zeroed { content, generation, range, size, mtime } => {
                let known = self.content(*content, *size);
                known.zeroed(*generation, range.range());
                known.resized(*generation, *size, *mtime);
            }
            Record::Truncated { content, generation, size, mtime } => {
                let known = self.content(*content, *size);
                known.truncated(*generation, *size);
                known.resized(*generation, *size, *mtime);
            }
            Record::ContentGone(content) => {
                self.contents.remove(content);
            }
            Record::ContentState { content, state } => {
                self.contents.insert(*content, (**state).clone());
            }
            _ => self.apply_to_known(record),
        }
    }

    /// Records that say nothing of a content that is not known to have changed.
    fn apply_to_known(&mut self, record: &Record) {
        let (Record::SyncBegan { content }
        | Record::Synced { content }
        | Record::CleanUpTo { content, .. }
        | Record::ContentRanges { content, .. }
        | Record::Settled { content, .. }) = record
        else {
            debug_assert!(false, "a record that nothing applies: {record:?}");
            return;
        };
        let Some(known) = self.contents.get_mut(content) else { return };
        match record {
            Record::SyncBegan { .. } => {
                let unsynced = std::mem::take(&mut known.unsynced);
                known.syncing.union_with(&unsynced);
            }
            Record::Synced { .. } => known.syncing.clear(),
            Record::CleanUpTo { generation, base_end, .. } => {
                known.clean_up_to(*generation, *base_end);
            }
            Record::ContentRanges { set, ranges, .. } => known.set_mut(*set).union_with(ranges),
            Record::Settled { lost, .. } => known.settled(lost.iter().map(|range| range.range())),
            _ => {}
        }
    }

    /// The content, or a new one that nothing was cut from.
    fn content(&mut self, id: ContentId, size: u64) -> &mut LiveContent {
        let new = || LiveContent { base_end: size, size, ..LiveContent::default() };
        self.contents.entry(id).or_insert_with(new)
    }

    /// What was punched out of a content and the index may not know.
    pub(crate) fn absent_ranges(&self, content: ContentId) -> RangeSet {
        let mut all = RangeSet::new();
        for ranges in self.absent.values().filter_map(|epoch| epoch.get(&content)) {
            all.union_with(ranges);
        }
        all
    }

    /// The records from here on were written in another boot.
    pub(super) fn power_was_cut(&mut self) {
        self.contents.values_mut().for_each(LiveContent::power_was_cut);
    }
}
