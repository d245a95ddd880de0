//! What the journal promises, against a plain sum of records, through crashes of every kind.

mod crash;
mod damage;
mod live;
mod space;

use super::*;
use crate::attr::{ContentId, Ino};
use crate::disk::MemoryDisk;
use crate::node::{Node, Place};
use covefs_remote::{RemotePath, Timestamp};
use proptest::prelude::*;
use std::ops::Range;

const TINY: JournalLimits =
    JournalLimits { ahead_bytes: 64 << 10, reserve_bytes: 16 << 10, fold_bytes: 0, fold_ratio: 0 };

fn open(disk: &MemoryDisk) -> (Journal, Replayed) {
    Journal::open_with(Arc::new(disk.clone()), TINY).unwrap()
}

/// What of a state must never be lost. Clean nodes may go at a fold.
fn essence(live: &Live) -> Live {
    let mut live = live.clone();
    live.nodes.retain(|_, node| node.is_dirty());
    live
}

fn state_of(journal: &Journal) -> Live {
    journal.live(essence)
}

fn sum<'a>(frames: impl IntoIterator<Item = &'a Vec<Record>>) -> Live {
    let mut live = Live::default();
    for record in frames.into_iter().flatten() {
        live.apply(record);
    }
    essence(&live)
}

fn after_power_cut(mut live: Live) -> Live {
    live.power_was_cut();
    live
}

fn node(ino: u64, parent: u64, dirty: bool) -> Node {
    let place = Place::new(Ino(parent), format!("name-{ino}").as_bytes());
    Node { dirty_content: dirty, ..Node::clean(Ino(ino), place) }
}

fn wrote(content: u64, generation: u64, range: Range<u64>, size: u64) -> Record {
    let mtime = Timestamp { seconds: 1_790_000_000, nanos: 123_456_789 };
    Record::Wrote { content: ContentId(content), generation, range: range.into(), size, mtime }
}

/// Any record; few numbers, so that they meet.
fn record() -> impl Strategy<Value = Record> {
    (0..20u8, 1..4u64, 1..4u64, 0..64u64, 0..64u64, any::<bool>()).prop_map(
        |(kind, id, generation, a, b, flag)| {
            let content = ContentId(id);
            let (range, mtime) = (a.min(b)..a.max(b), Timestamp { seconds: a as i64, nanos: 0 });
            let (size, path) = (range.end, RemotePath::parse(format!("d/{a}").as_bytes()));
            match kind {
                0 => Record::Node(Box::new(node(id, generation, flag))),
                1 => Record::NodeGone(Ino(id)),
                2 => Record::Touched { content, generation, base_end: a, size: b, mtime },
                3 | 4 => Record::Wrote {
                    content,
                    generation,
                    range: range.into(),
                    size: size + 9,
                    mtime,
                },
                5 => Record::Zeroed { content, generation, range: range.into(), size, mtime },
                6 => Record::Truncated { content, generation, size, mtime },
                7 => Record::SyncBegan { content },
                8 => Record::Synced { content },
                9 => Record::CleanUpTo { content, generation, base_end: a },
                10 => Record::ContentGone(content),
                11 => Record::Absent { content, epoch: generation, ranges: vec![range.into()] },
                12 => Record::IndexFlushed { epoch: generation },
                13 if flag => Record::Pin(path),
                13 => Record::Unpin(path),
                14 if flag => Record::ConflictDismissed(id),
                14 => Record::Conflict(ConflictRecord {
                    id,
                    at: mtime,
                    path,
                    copy: None,
                    reason: "both edited".to_owned(),
                    missing: vec![(a, a + 1)],
                }),
                15 if flag => Record::Temp(path),
                15 => Record::TempGone(path),
                16 => Record::Suspect(Ino(id)),
                17 => Record::Settled { content, lost: vec![range.into()] },
                18 if flag => Record::SentGone(Ino(id)),
                18 => Record::Sent(Box::new(SentRecord {
                    ino: Ino(id),
                    place: Place::new(Ino(1), b"sent"),
                    what: SentWhat::Bytes(SentBytes {
                        content,
                        generation,
                        size,
                        mtime,
                        temp: b"temp".to_vec(),
                    }),
                })),
                _ => Record::Wrote { content, generation, range: (0..0).into(), size: b, mtime },
            }
        },
    )
}

impl proptest::arbitrary::Arbitrary for Frames {
    type Parameters = ();
    type Strategy = BoxedStrategy<Frames>;

    fn arbitrary_with(_: ()) -> Self::Strategy {
        let frame = prop::collection::vec(record(), 1..4);
        prop::collection::vec(frame, 1..40).prop_map(Frames).boxed()
    }
}

/// What some calls append.
#[derive(Clone, Debug)]
pub(crate) struct Frames(pub Vec<Vec<Record>>);
