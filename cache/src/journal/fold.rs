//! Folding: from what the journal stands for back to records, as few as it takes (J3).

use super::live::{Live, LiveContent};
use super::record::{ByteRange, Record};
use crate::attr::{ContentId, Ino};
use crate::node::Node;
use crate::ranges::RangeSet;
use std::collections::HashSet;

/// Ranges in one record: about 80 KiB.
const RANGES: usize = 4096;

impl Live {
    /// Drops clean nodes that are above no dirty one: only these had to outlive the index (J1).
    pub(super) fn prune(&mut self) {
        let mut kept = HashSet::new();
        let needed = |node: &&Node| {
            let content = node.content.and_then(|content| self.contents.get(&content));
            node.is_dirty()
                || content.is_some_and(LiveContent::is_dirty)
                || self.suspects.contains(&node.ino)
        };
        let mut waiting: Vec<Ino> =
            self.nodes.values().filter(needed).map(|node| node.ino).collect();
        while let Some(ino) = waiting.pop() {
            let Some(node) = self.nodes.get(&ino) else { continue };
            if kept.insert(ino) {
                waiting.extend(node.place.iter().map(|place| place.parent));
                waiting.extend(node.base.iter().map(|base| base.place.parent));
            }
        }
        self.nodes.retain(|ino, _| kept.contains(ino));
    }

    /// Records that stand for the same, one by one.
    pub(crate) fn into_records(self) -> impl Iterator<Item = Record> {
        let nodes = self.nodes.into_values().map(|node| Record::Node(Box::new(node)));
        let contents = self.contents.into_iter().flat_map(|(id, state)| state.into_records(id));
        let flushed = Record::IndexFlushed { epoch: self.index_epoch };
        let absent = self.absent.into_iter().flat_map(|(epoch, contents)| {
            contents.into_iter().flat_map(move |(content, ranges)| {
                pieces(&ranges).into_iter().map(move |piece| Record::Absent {
                    content,
                    epoch,
                    ranges: piece.iter().map(ByteRange::from).collect(),
                })
            })
        });
        nodes
            .chain(contents)
            .chain([flushed])
            .chain(absent)
            .chain(self.pins.into_iter().map(Record::Pin))
            .chain(self.conflicts.into_values().map(Record::Conflict))
            .chain(self.temps.into_iter().map(Record::Temp))
            .chain(self.suspects.into_iter().map(Record::Suspect))
            .chain(self.sent.into_values().map(|sent| Record::Sent(Box::new(sent))))
    }

    /// About how many bytes its records take.
    pub(super) fn weight(&self) -> u64 {
        let nodes: usize = self.nodes.values().map(node_weight).sum();
        let ranges = |sets: usize| 12 * sets;
        let contents: usize = self
            .contents
            .values()
            .map(|state| 64 + ranges(state.sets().map(|(_, set)| set.range_count()).sum()))
            .sum();
        let absent = self.absent.values().flat_map(|epoch| epoch.values());
        let absent: usize = absent.map(|set| 16 + ranges(set.range_count())).sum();
        let paths = self.pins.iter().chain(&self.temps);
        let paths: usize = paths.map(|path| 4 + path.as_bytes().len()).sum();
        let rest = 256 * self.conflicts.len() + 12 * self.suspects.len() + 64 * self.sent.len();
        (nodes + contents + absent + paths + rest) as u64
    }
}

impl LiveContent {
    fn into_records(mut self, content: ContentId) -> Vec<Record> {
        let count: usize = self.sets().map(|(_, set)| set.range_count()).sum();
        if count <= RANGES {
            return vec![Record::ContentState { content, state: Box::new(self) }];
        }
        let sets: Vec<_> = self.sets().map(|(set, ranges)| (set, pieces(ranges))).collect();
        for (set, _) in &sets {
            self.set_mut(*set).clear();
        }
        let mut records = vec![Record::ContentState { content, state: Box::new(self) }];
        for (set, pieces) in sets {
            let more = |ranges| Record::ContentRanges { content, set, ranges };
            records.extend(pieces.into_iter().map(more));
        }
        records
    }
}

/// A set in pieces that fit a record.
fn pieces(ranges: &RangeSet) -> Vec<RangeSet> {
    let all: Vec<_> = ranges.iter().collect();
    all.chunks(RANGES).map(|piece| piece.iter().cloned().collect()).collect()
}

fn node_weight(node: &Node) -> usize {
    let names = [node.place.as_ref(), node.base.as_ref().map(|base| &base.place)];
    let names: usize = names.iter().flatten().map(|place| 12 + place.name.len()).sum();
    let xattrs = node.xattrs.iter().flatten();
    let xattrs: usize = xattrs.map(|(name, value)| 4 + name.len() + value.len()).sum();
    120 + names + xattrs + node.target.as_ref().map_or(0, Vec::len)
}

impl Record {
    /// About how many bytes it takes in a frame.
    pub(super) fn weight(&self) -> usize {
        match self {
            Record::Node(node) => node_weight(node),
            Record::Absent { ranges, .. } => 20 + 20 * ranges.len(),
            Record::ContentRanges { ranges, .. } => 20 + 20 * ranges.range_count(),
            Record::ContentState { state, .. } => {
                let count: usize = state.sets().map(|(_, set)| set.range_count()).sum();
                100 + 20 * count
            }
            Record::Conflict(conflict) => 400 + 20 * conflict.missing.len(),
            Record::Pin(path) | Record::Temp(path) => 8 + path.as_bytes().len(),
            _ => 64,
        }
    }
}
