//! Entry points for fuzzing: what reads bytes that a disk hands back. Each takes any bytes, and panics
//! where something that must hold does not. Used by `tests/fuzz` and, bounded, by the tests below.

use crate::disk::DiskFile;
use crate::journal::{Live, Record, read_segment, segment_of};
use crate::ranges::RangeSet;
use crate::{extents, start, tree};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What it reads, and how.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 4] = [
    ("journal-records", journal_records),
    ("journal-segment", journal_segment),
    ("index-records", index_records),
    ("cache-json", cache_json),
];

/// Any sequence of records is accepted, and a fold of their sum stands for it.
fn journal_records(bytes: &[u8]) {
    let Ok((records, _)) = postcard::take_from_bytes::<Vec<Record>>(bytes) else { return };
    let sum = |records: Vec<Record>| {
        let mut live = Live::default();
        records.iter().for_each(|record| live.apply(record));
        live
    };
    let live = sum(records);
    assert_eq!(sum(live.clone().into_records().collect()), live, "folded");
}

/// A segment is read to its end, whatever it has.
fn journal_segment(bytes: &[u8]) {
    let file: Arc<dyn DiskFile> = Arc::new(Held(bytes.to_vec()));
    read_segment(file, 7).expect("no disk fails here");
    // No luck finds a checksum: the same bytes as payloads of frames, each behind its length.
    let mut rest = bytes;
    let payloads = std::iter::from_fn(|| {
        let (length, after) = rest.split_first()?;
        let (payload, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        Some(payload)
    });
    let file: Arc<dyn DiskFile> = Arc::new(Held(segment_of(payloads, 7)));
    read_segment(file, 7).expect("no disk fails here");
}

fn index_records(bytes: &[u8]) {
    let _ = (extents::decode(bytes), tree::decode(bytes));
}

fn cache_json(bytes: &[u8]) {
    start::read_any(bytes);
}

/// A file that is only read.
struct Held(Vec<u8>);

impl DiskFile for Held {
    fn modified(&self) -> io::Result<std::time::SystemTime> {
        Ok(std::time::SystemTime::UNIX_EPOCH)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn punch(&self, _: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn reserve(&self, _: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn data_ranges(&self, within: Range<u64>) -> io::Result<RangeSet> {
        Ok(std::iter::once(within).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Frames;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) {
        TARGETS.iter().for_each(|(_, target)| target(bytes));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..400)) {
            all(&bytes);
        }

        /// What covefs wrote, with bytes changed, taken out and put in.
        #[test]
        fn damaged_records_are_read(
            frames: Frames,
            damage in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..6),
        ) {
            for frame in &frames.0 {
                let mut bytes = postcard::to_stdvec(frame).unwrap();
                for (at, byte, how) in &damage {
                    let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
                    match how {
                        0 if !bytes.is_empty() => bytes[at] = *byte,
                        1 if !bytes.is_empty() => drop(bytes.remove(at)),
                        _ => bytes.insert(at, *byte),
                    }
                }
                all(&bytes);
            }
        }
    }

    #[test]
    fn what_fuzzing_found_interesting_is_read() {
        for (name, target) in TARGETS {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let kept: Vec<_> =
                std::fs::read_dir(root.join("../tests/fuzz/corpus").join(name)).unwrap().collect();
            assert!(!kept.is_empty(), "{name}");
            kept.into_iter().for_each(|file| target(&std::fs::read(file.unwrap().path()).unwrap()));
        }
    }
}
