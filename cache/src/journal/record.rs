//! What the journal says: the records of one call's changes.

use crate::attr::{ContentId, Ino};
use crate::journal::live::LiveContent;
use crate::node::{Node, Place};
use crate::ranges::RangeSet;
use covefs_remote::{RemotePath, Timestamp, Version};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A half-open range of bytes, as the journal writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ByteRange {
    pub start: u64,
    pub end: u64,
}

/// One fact. All records of one call are one frame (J2). `docs/FORMAT.md` names each; new ones
/// are added at the end only, since the number in front of each is its place in this list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// The node is dirty, or above a dirty one (J1): these are its facts now.
    Node(Box<Node>),
    /// The node is in step with the share, or neither here nor there.
    NodeGone(Ino),
    /// The content is about to change for the first time since it was in step (J6).
    /// `base_end`: the size of the share's version, 0 for a content that the share never had.
    Touched { content: ContentId, generation: u64, base_end: u64, size: u64, mtime: Timestamp },
    /// These bytes are ours, the size and time are these.
    Wrote { content: ContentId, generation: u64, range: ByteRange, size: u64, mtime: Timestamp },
    /// These bytes are ours and zero, with a hole in the data file.
    Zeroed { content: ContentId, generation: u64, range: ByteRange, size: u64, mtime: Timestamp },
    /// The content was cut; what lay past it is nobody's.
    Truncated { content: ContentId, generation: u64, size: u64, mtime: Timestamp },
    /// An fdatasync of the data file begins: what was written up to here is what it covers.
    SyncBegan { content: ContentId },
    /// That fdatasync succeeded.
    Synced { content: ContentId },
    /// The share has everything up to this generation; its version is `base_end` bytes long. What
    /// was cut off here since that generation was frozen is subtracted at replay.
    CleanUpTo { content: ContentId, generation: u64, base_end: u64 },
    /// The content is in step with the share, or its file was removed.
    ContentGone(ContentId),
    /// These bytes are about to be punched out (D3). Holds until the index knows (epoch).
    Absent { content: ContentId, epoch: u64, ranges: Vec<ByteRange> },
    /// The index durably knows all absences up to this epoch.
    IndexFlushed { epoch: u64 },
    /// Never evicted: this path and all below it.
    Pin(RemotePath),
    /// No longer pinned.
    Unpin(RemotePath),
    /// A conflict that nobody dismissed yet.
    Conflict(ConflictRecord),
    /// The user has seen the conflict with this number.
    ConflictDismissed(u64),
    /// We are about to make this temporary object on the share (X2).
    Temp(RemotePath),
    /// It is gone, or became what it was for.
    TempGone(RemotePath),
    /// The node's content may have lost bytes in a power cut: it never replaces, it goes up as a
    /// conflict copy (J6).
    Suspect(Ino),
    /// First in each segment: the one before it and where that ended, so that a lost end or a lost
    /// segment cannot pass for none.
    Follows { segment: u64, end: u64 },
    /// All that is known of a content, from folding (J3). Replaces what was.
    ContentState { content: ContentId, state: Box<LiveContent> },
    /// More ranges of a content that was too big for one record; after its `ContentState`.
    ContentRanges { content: ContentId, set: ContentSet, ranges: RangeSet },
    /// What a power cut may have taken from this content was looked at: these ranges are lost and
    /// are the base's again, the rest is here (J6).
    Settled { content: ContentId, lost: Vec<ByteRange> },
    /// An upload is about to be put in place, or a rename to be made; until it is known whether it
    /// was, this is how the share would show it (S4).
    Sent(Box<SentRecord>),
    /// The outcome of that is known.
    SentGone(Ino),
}

/// A change of the share whose outcome may be unknown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct SentRecord {
    pub ino: Ino,
    /// Where the node was to be.
    pub place: Place,
    pub what: SentWhat,
}

/// What was asked of the share.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum SentWhat {
    /// To rename it.
    Move,
    /// To put an upload in place.
    Bytes(SentBytes),
    /// To make a directory, or a symlink to this target.
    Made {
        #[serde(with = "serde_bytes")]
        target: Option<Vec<u8>>,
        mtime: Timestamp,
    },
    /// To remove it, if it is of this version.
    Removed(Version),
}

/// What an upload holds, and how the share would show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct SentBytes {
    pub content: ContentId,
    /// The last generation that it holds.
    pub generation: u64,
    pub size: u64,
    pub mtime: Timestamp,
    /// The name beside its place that it was written under, and that holds the old bytes for a
    /// moment afterwards.
    #[serde(with = "serde_bytes")]
    pub temp: Vec<u8>,
}

/// One of the sets of a content, in `ContentRanges`. The number is a generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum ContentSet {
    Dirty(u64),
    Zeros(u64),
    Unsynced,
    Syncing,
    Suspect,
}

impl ByteRange {
    pub(crate) fn range(self) -> Range<u64> {
        self.start..self.end
    }
}

impl From<Range<u64>> for ByteRange {
    fn from(range: Range<u64>) -> Self {
        ByteRange { start: range.start, end: range.end }
    }
}

/// One conflict, as `covefs conflicts` lists it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConflictRecord {
    /// Its number.
    pub id: u64,
    /// When it was found.
    pub at: Timestamp,
    /// The name both sides wanted, as a path in the mount.
    pub path: RemotePath,
    /// Where our side went; `None` when ours was dropped because theirs was an edit.
    pub copy: Option<RemotePath>,
    /// What happened, for people.
    pub reason: String,
    /// Ranges of our copy that are zeros because their bytes were never here (D5): start and end.
    pub missing: Vec<(u64, u64)>,
}
