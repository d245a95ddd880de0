//! The bytes of one file: sparse, cheap to copy for a snapshot, and aware of what changed since.

use crate::ranges::{Mark, Ranges};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Unit of storage and of sharing between snapshots.
const CHUNK_BYTES: u64 = 64 * 1024;
/// What the share allocates and releases as one; smaller edges are zeros that stay allocated.
pub const BLOCK_BYTES: u64 = 512;

static LAST_VERSION: AtomicU64 = AtomicU64::new(0);

fn new_version() -> u64 {
    LAST_VERSION.fetch_add(1, Ordering::Relaxed) + 1
}

/// Makes later versions later than `version`: for contents that an earlier run left.
pub fn advance_versions_past(version: u64) {
    LAST_VERSION.fetch_max(version, Ordering::Relaxed);
}

static ZEROS: [u8; CHUNK_BYTES as usize] = [0; CHUNK_BYTES as usize];

/// A part of a chunk that outlives changes to the file.
struct Piece(Arc<Vec<u8>>);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The content of a file. Chunks that are not there are zeros.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Content {
    size_bytes: u64,
    /// Which bytes these are: no others, in any file, have or
    /// had the number.
    version: u64,
    #[serde(skip)]
    chunks: BTreeMap<u64, Arc<Vec<u8>>>,
    /// What holds data, in whole blocks.
    allocated: Ranges,
    /// What each epoch (the time between two snapshots of the share) changed.
    changes: BTreeMap<u64, Ranges>,
}

impl Content {
    /// A file of zeros.
    pub fn zeros(size_bytes: u64) -> Content {
        Content { size_bytes, version: new_version(), ..Content::default() }
    }

    /// The file's size.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Which bytes these are.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The parts that are not all holes: where they begin, and their bytes.
    pub fn parts(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.chunks.iter().map(|(chunk, bytes)| {
            let start = chunk * CHUNK_BYTES;
            let length = CHUNK_BYTES.min(self.size_bytes.saturating_sub(start));
            (start, &bytes[..length as usize])
        })
    }

    /// Puts back bytes that an earlier run left; nothing else of the content changes.
    pub fn restore(&mut self, start: u64, bytes: &[u8]) {
        assert_eq!(start % CHUNK_BYTES, 0, "parts begin where chunks do");
        let mut chunk = ZEROS.to_vec();
        chunk[..bytes.len()].copy_from_slice(bytes);
        self.chunks.insert(start / CHUNK_BYTES, Arc::new(chunk));
    }

    /// Takes the bytes of `other`, which is the same version, without copying them.
    pub fn share_bytes(&mut self, other: &Content) {
        assert_eq!(self.version, other.version, "bytes are shared by one version alone");
        self.chunks.clone_from(&other.chunks);
    }

    /// Where chunks that hold data begin, and how long they are within the file.
    pub fn places(&self) -> Vec<(u64, u64)> {
        let mut places: Vec<(u64, u64)> = Vec::new();
        for (start, end, _) in self.allocated.within(0, self.size_bytes) {
            for chunk in start / CHUNK_BYTES..end.div_ceil(CHUNK_BYTES) {
                let start = chunk * CHUNK_BYTES;
                let place = (start, CHUNK_BYTES.min(self.size_bytes - start));
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        places
    }

    /// How many bytes hold data.
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated.bytes()
    }

    /// The same bytes in a file that has no past.
    pub fn without_history(&self) -> Content {
        Content { changes: BTreeMap::new(), ..self.clone() }
    }

    /// The bytes of `start..end`, which must lie within the file, without copying them.
    pub fn read(&self, start: u64, end: u64) -> Vec<Bytes> {
        assert!(start <= end && end <= self.size_bytes, "a read stays within the file");
        let mut pieces = Vec::new();
        let mut at = start;
        while at < end {
            let chunk = at / CHUNK_BYTES;
            let stop = end.min((chunk + 1) * CHUNK_BYTES);
            let part = (at % CHUNK_BYTES) as usize..((stop - 1) % CHUNK_BYTES + 1) as usize;
            pieces.push(match self.chunks.get(&chunk) {
                Some(bytes) => Bytes::from_owner(Piece(Arc::clone(bytes))).slice(part),
                None => Bytes::from_static(&ZEROS).slice(part),
            });
            at = stop;
        }
        pieces
    }

    /// Puts `bytes` at `start`; they must lie within the file.
    pub fn write(&mut self, start: u64, bytes: &[u8], epoch: u64) {
        let end = start + bytes.len() as u64;
        assert!(end <= self.size_bytes, "a write never makes the file larger");
        let mut at = start;
        while at < end {
            let chunk = at / CHUNK_BYTES;
            let stop = end.min((chunk + 1) * CHUNK_BYTES);
            let from = &bytes[(at - start) as usize..(stop - start) as usize];
            let stored = self.chunks.entry(chunk).or_insert_with(|| Arc::new(ZEROS.to_vec()));
            let offset = (at % CHUNK_BYTES) as usize;
            Arc::make_mut(stored)[offset..offset + from.len()].copy_from_slice(from);
            at = stop;
        }
        let (first, last) = (start / BLOCK_BYTES * BLOCK_BYTES, end.next_multiple_of(BLOCK_BYTES));
        if start < end {
            self.version = new_version();
            self.allocated.mark(first, last, Mark::Written);
            self.changes.entry(epoch).or_default().mark(first, last, Mark::Written);
        }
    }

    /// Makes `start..end` zeros. Whole blocks are released; a file's last block counts as whole
    /// if the range reaches the end of the file.
    pub fn clear(&mut self, start: u64, end: u64, epoch: u64) {
        self.zero(start, end);
        self.version = new_version();
        let first = start.next_multiple_of(BLOCK_BYTES);
        let to_the_end = end == self.size_bytes;
        let last = if to_the_end {
            end.next_multiple_of(BLOCK_BYTES)
        } else {
            end / BLOCK_BYTES * BLOCK_BYTES
        };
        let changes = self.changes.entry(epoch).or_default();
        // Edges that were no data before need no zeros written.
        for (at, stop) in [(start, first.min(end)), (last.max(start), end)] {
            for (at, stop, _) in self.allocated.within(at, stop) {
                let at = at / BLOCK_BYTES * BLOCK_BYTES;
                changes.mark(at, stop.next_multiple_of(BLOCK_BYTES), Mark::Written);
            }
        }
        if first < last {
            self.allocated.remove(first, last);
            changes.mark(first, last, Mark::Cleared);
        }
    }

    fn zero(&mut self, start: u64, end: u64) {
        let Some(chunk_end) = end.checked_sub(1).map(|last| last / CHUNK_BYTES + 1) else { return };
        let touched: Vec<u64> =
            self.chunks.range(start / CHUNK_BYTES..chunk_end).map(|(at, _)| *at).collect();
        for chunk in touched {
            let base = chunk * CHUNK_BYTES;
            let (from, to) = (start.max(base) - base, end.min(base + CHUNK_BYTES) - base);
            if from == 0 && to == CHUNK_BYTES {
                self.chunks.remove(&chunk);
            } else if let (true, Some(bytes)) = (from < to, self.chunks.get_mut(&chunk)) {
                Arc::make_mut(bytes)[from as usize..to as usize].fill(0);
            }
        }
    }

    /// Cuts off what is beyond `size_bytes`, or adds zeros.
    pub fn resize(&mut self, size_bytes: u64, epoch: u64) {
        self.version = new_version();
        if size_bytes < self.size_bytes {
            self.zero(size_bytes, self.size_bytes);
            let first = size_bytes.next_multiple_of(BLOCK_BYTES);
            let last = self.size_bytes.next_multiple_of(BLOCK_BYTES);
            self.allocated.remove(first, last);
            self.changes.entry(epoch).or_default().mark(first, last, Mark::Cleared);
        }
        self.size_bytes = size_bytes;
    }

    /// What holds data within `start..end` and the file; ends exclusive.
    pub fn allocated(&self, start: u64, end: u64) -> Vec<(u64, u64, Mark)> {
        self.allocated.within(start, end.min(self.size_bytes))
    }

    /// What the epochs after `since` changed within `start..end` and the file; ends exclusive.
    pub fn changed_since(&self, since: u64, start: u64, end: u64) -> Vec<(u64, u64, Mark)> {
        let mut all = Ranges::default();
        for (_, changes) in self.changes.range(since + 1..) {
            all.overlay(changes);
        }
        all.within(start, end.min(self.size_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mark::{Cleared, Written};

    fn bytes(content: &Content) -> Vec<u8> {
        content.read(0, content.size_bytes()).concat()
    }

    #[test]
    fn a_write_over_several_chunks_is_read_back_and_a_copy_keeps_the_old_bytes() {
        let mut content = Content::zeros(200_000);
        let copy = content.clone();
        let data: Vec<u8> = (0..150_000u32).map(|at| at as u8).collect();
        content.write(10_000, &data, 0);
        let mut expected = vec![0; 200_000];
        expected[10_000..160_000].copy_from_slice(&data);
        assert_eq!(bytes(&content), expected);
        assert!(bytes(&copy).iter().all(|byte| *byte == 0));
        assert_eq!(content.allocated(0, u64::MAX), [(9728, 160_256, Written)]);
    }

    #[test]
    fn clearing_releases_whole_blocks_and_zeroes_the_edges() {
        let mut content = Content::zeros(4000);
        content.write(0, &[7; 4000], 0);
        content.clear(100, 1500, 1);
        let all = bytes(&content);
        assert!(all[..100].iter().chain(&all[1500..]).all(|byte| *byte == 7));
        assert!(all[100..1500].iter().all(|byte| *byte == 0));
        assert_eq!(content.allocated(0, 4000), [(0, 512, Written), (1024, 4000, Written)]);
        assert_eq!(
            content.changed_since(0, 0, 4000),
            [(0, 512, Written), (512, 1024, Cleared), (1024, 1536, Written)]
        );
        content.clear(3584, 4000, 1);
        assert_eq!(content.allocated(2000, 4000), [(2000, 3584, Written)]);
    }

    #[test]
    fn what_was_cut_off_comes_back_as_zeros() {
        let mut content = Content::zeros(3000);
        content.write(0, &[1; 3000], 0);
        content.resize(1000, 0);
        content.resize(3000, 0);
        let all = bytes(&content);
        assert!(all[..1000].iter().all(|byte| *byte == 1));
        assert!(all[1000..].iter().all(|byte| *byte == 0));
        assert_eq!(content.allocated(0, 3000), [(0, 1024, Written)]);
    }
}
