//! What an upload sends: a file that may be written to meanwhile, as one state that it really had.
//!
//! ```text
//!   freeze -> send all -> changed meanwhile? - yes -> send that -> ... -> small: hold writes, send
//!                              +- no -> settled: from here on changes are the next upload's (S1)
//! ```

use crate::broken::{Broken, is_broken};
use crate::fetch::Reader;
use crate::file::{Content, File, block_range};
use crate::journal::{Record, SentBytes, SentRecord, SentWhat};
use crate::limits;
use crate::node::{Node, Place};
use crate::ranges::RangeSet;
use crate::vfs::Vfs;
use crate::xattrs::to_send;
use async_trait::async_trait;
use bytes::Bytes;
use covefs_remote::{
    Attrs, Error, ErrorKind, Remote, Result, Round, Source, Timestamp, Version, XattrRule,
};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// One upload of one content.
pub(super) struct Upload {
    pub vfs: Arc<Vfs>,
    pub file: Arc<File>,
    /// Where it is to be, and the name that it is written under.
    place: Place,
    temp: Vec<u8>,
    size: u64,
    data: Vec<Range<u64>>,
    /// What is as the version has it that is to be replaced.
    unchanged: RangeSet,
    state: Mutex<Sending>,
}

struct Sending {
    rounds: usize,
    sent_size: u64,
    /// The last generation that is sent, once that is certain.
    settled: Option<u64>,
}

impl Upload {
    /// Freezes what is dirty now. The rest is as this version has it, if it is the content's.
    pub(super) async fn begin(
        vfs: Arc<Vfs>,
        file: Arc<File>,
        place: Place,
        temp: Vec<u8>,
        replaced: Option<Version>,
    ) -> Self {
        let (size, data, unchanged) = loop {
            // Called zeros already, a hole may still have its bytes.
            vfs.wait_file(&file, |content| !content.cutting).await;
            let mut content = file.lock();
            if content.cutting {
                continue;
            }
            let mut ranges = std::mem::take(&mut content.dirty);
            ranges.union_with(&std::mem::take(&mut content.older));
            content.next_generation();
            let mut unchanged = RangeSet::new();
            if replaced.is_some() && content.base == replaced {
                unchanged = ranges.missing(&(0..content.base_end)).into_iter().collect();
            }
            content.frozen = Some(ranges);
            // What is read is summed anew.
            let size = content.size;
            content.crcs.retain(|block, _| unchanged.contains(&block_range(*block, size)));
            break (size, content.zeros.missing(&(0..size)), unchanged);
        };
        let state = Mutex::new(Sending { rounds: 0, sent_size: size, settled: None });
        Upload { vfs, file, place, temp, size, data, unchanged, state }
    }

    /// The last generation that was sent, if the share asked to the end.
    pub(super) fn settled(&self) -> Option<u64> {
        self.state.lock().unwrap_or_else(|p| p.into_inner()).settled
    }

    /// The upload failed: what was frozen is dirty as before, writes go on.
    pub(super) fn thaw(&self) {
        let mut content = self.file.lock();
        if let Some(frozen) = content.frozen.take() {
            content.older.union_with(&frozen);
        }
        content.held = false;
        content.cut_since = None;
        drop(content);
        self.file.changed.notify_waiters();
    }

    /// `None` while a hole is made.
    fn round(&self) -> Result<Option<Round>> {
        let mut tree = self.vfs.tree();
        let mut content = self.file.lock();
        if content.cutting {
            return Ok(None);
        }
        let mut state = self.state.lock().unwrap_or_else(|p| p.into_inner());
        if is_broken(Broken::WriteDuringUpload) {
            content.dirty = RangeSet::new();
            state.sent_size = content.size;
        }
        if content.dirty.is_empty() && content.size == state.sent_size {
            let node = tree.get(self.file.node()).ok().flatten();
            let attrs = attrs_of(node, content.mtime, self.vfs.remote.limits().xattrs);
            let generation = content.generation;
            content.next_generation();
            if content.unseen {
                // Changed since it was read, nobody would have told (P2).
                self.file.claim(&mut content, &self.vfs.journal).map_err(unsaid)?;
            }
            // Known before it is in place: a crash or a lost answer finds it again (S4).
            self.journal_sent(&content, generation)?;
            content.cut_since = Some(content.size);
            content.held = false;
            state.settled = Some(generation);
            drop(content);
            self.file.changed.notify_waiters();
            return Ok(Some(Round::Settled(attrs)));
        }
        let again: RangeSet = std::mem::take(&mut content.dirty);
        content.next_generation();
        state.rounds += 1;
        state.sent_size = content.size;
        // The last round is small, or there were enough: writes wait until it is sent.
        content.held = again.total() <= limits::HELD_ROUND || state.rounds >= limits::ROUNDS;
        let ranges = again.iter().collect();
        if let Some(frozen) = &mut content.frozen {
            frozen.union_with(&again);
        }
        Ok(Some(Round::Resend { size: content.size, ranges }))
    }

    fn journal_sent(&self, content: &Content, generation: u64) -> Result<()> {
        let sent = Record::Sent(Box::new(SentRecord {
            ino: self.file.node(),
            place: self.place.clone(),
            what: SentWhat::Bytes(SentBytes {
                content: self.file.id,
                generation,
                size: content.size,
                mtime: content.mtime,
                temp: self.temp.clone(),
            }),
        }));
        self.vfs.journal.append_freeing(&[sent]).map_err(unsaid)
    }
}

/// The journal does not know of an upload, so it is not made.
fn unsaid(error: crate::error::Error) -> Error {
    Error::new(ErrorKind::Source, "journal an upload", &Default::default()).caused_by(error)
}

/// What the upload sets beside the bytes: all of a new node, else what is dirty.
fn attrs_of(node: Option<Node>, mtime: Timestamp, rule: XattrRule) -> Attrs {
    let Some(node) = node else { return Attrs { mtime: Some(mtime), ..Attrs::default() } };
    let new = node.base.is_none();
    let dirty = node.dirty_attrs;
    Attrs {
        mode: (new || dirty.mode).then_some(node.mode),
        uid: (new || dirty.owner).then_some(node.uid),
        gid: (new || dirty.owner).then_some(node.gid),
        mtime: Some(mtime),
        atime: (new || dirty.times).then_some(node.atime),
        xattrs: to_send(rule, &node),
        xattrs_are_all: new,
    }
}

#[async_trait]
impl Source for Upload {
    fn size(&self) -> u64 {
        self.size
    }

    fn data(&self) -> Vec<Range<u64>> {
        self.data.clone()
    }

    fn is_unchanged(&self, range: &Range<u64>) -> bool {
        self.unchanged.contains(range)
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let len = range.end - range.start;
        let read = self.vfs.read_content(&self.file, range.start, len, Reader::Sync).await;
        let mut bytes = read.map_err(|error| {
            Error::new(ErrorKind::Source, "read what to upload", &Default::default())
                .caused_by(error)
        })?;
        // Cut meanwhile: the next round says so, until then zeros keep the place.
        bytes.resize(len as usize, 0);
        self.file.note_sent(range.start, &bytes);
        Ok(bytes.into())
    }

    async fn next_round(&self) -> Result<Round> {
        let round = loop {
            match self.round()? {
                Some(round) => break round,
                None => self.vfs.wait_file(&self.file, |content| !content.cutting).await,
            }
        };
        if matches!(round, Round::Settled(_)) {
            self.vfs.durable().await.map_err(unsaid)?;
        }
        Ok(round)
    }
}
