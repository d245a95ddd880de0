//! The journal: an append-only log of everything the share does not have yet (J1-J9).
//!
//! `append` returns once the records are written, which survives kill -9; `append_durable` and
//! `sync` once they are synced, which survives a power cut. [`Live`] is the sum of all records,
//! kept beside the log by the code that replays it. `Journal::open` leaves either the state after
//! the last good frame or, where frames that somebody was told of may be missing, the state before
//! the damage, says so, and says so again at every start until `damage_settled` is called.
//!
//! A failed write or sync latches: every later append fails with `Io` (STYLE 18). A full disk does
//! not: blocks are allocated ahead, and an append that finds none left writes nothing (J9).
//!
//! Lock order: `folding`, then `syncs`, then `state`; `state` alone is held while a frame is
//! written, and no fsync is made under it (K1).

mod fold;
mod frame;
mod live;
mod record;
mod replay;
mod segment;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::Frames;

#[allow(unused_imports)]
pub(crate) use live::{GenRanges, Live, LiveContent};
pub use record::ConflictRecord;
pub(crate) use record::{ByteRange, ContentSet, Record, SentBytes, SentRecord, SentWhat};
pub(crate) use replay::is_torn;

use crate::broken::{Broken, is_broken};
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use frame::Frame;
use segment::{Room, Segment};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// The bounds of a journal; tests shrink them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalLimits {
    /// Kept allocated ahead of the last frame.
    pub ahead_bytes: u64,
    /// The last of it, for records that free space.
    pub reserve_bytes: u64,
    /// A smaller log is not folded.
    pub fold_bytes: u64,
    /// A log of less than so many times its live set is not folded.
    pub fold_ratio: u64,
}

impl Default for JournalLimits {
    fn default() -> Self {
        JournalLimits {
            ahead_bytes: limits::JOURNAL_AHEAD,
            reserve_bytes: limits::JOURNAL_RESERVE,
            fold_bytes: limits::JOURNAL_FOLD_BYTES,
            fold_ratio: limits::JOURNAL_FOLD_RATIO,
        }
    }
}

/// Reads a segment from its begin to its end, whatever it has; for fuzzing.
pub(crate) fn read_segment(file: Arc<dyn DiskFile>, boot: u64) -> io::Result<()> {
    let mut reader = frame::Reader::open(file, 1)?;
    reader.header()?;
    let mut at = frame::SEGMENT_HEADER;
    while let frame::Found::Frame { next, .. } = reader.frame(at)? {
        at = next;
    }
    reader.tail(at, boot).map(drop)
}

/// A segment of frames with any payloads and right checksums; for fuzzing.
pub(crate) fn segment_of<'a>(payloads: impl Iterator<Item = &'a [u8]>, boot: u64) -> Vec<u8> {
    let mut bytes = frame::Header { number: 1, kind: frame::Kind::Log }.encode().to_vec();
    for payload in payloads {
        let at = bytes.len() as u64;
        bytes.extend_from_slice(frame::Frame::of(payload).seal(1, at, boot));
    }
    bytes
}

impl JournalLimits {
    /// A small cache has room for a small journal only, which counts towards its limit (E2).
    pub(crate) fn beside(limit_bytes: u64) -> Self {
        let usual = JournalLimits::default();
        let ahead_bytes = (limit_bytes / 32).clamp(1 << 20, usual.ahead_bytes);
        JournalLimits {
            ahead_bytes,
            reserve_bytes: (ahead_bytes / 4).min(usual.reserve_bytes),
            fold_bytes: (limit_bytes / 8).min(usual.fold_bytes),
            ..usual
        }
    }
}

/// What opening the journal found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Replayed {
    /// Nothing that was acknowledged and survived can be missing: an unclaimed data file is
    /// nobody's (J7). Stays false from the damage on until `damage_settled`.
    pub whole: bool,
    /// Good frames.
    pub frames: u64,
    /// Files of `journal/` that were set aside now.
    pub set_aside: Vec<String>,
    /// The machine was started anew since the last frame: `LiveContent::suspect` and `power_cut`
    /// say for each content what that may have cost (J6).
    pub other_boot: bool,
}

/// The log and what it stands for.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    limits: JournalLimits,
    boot: u64,
    state: Mutex<State>,
    syncs: Mutex<Syncs>,
    /// A sync ended.
    synced: Condvar,
    /// Held through a fold.
    folding: Mutex<()>,
    /// Allocated in `journal/`, as of the last time that it can have changed.
    allocated: AtomicU64,
}

struct State {
    current: Segment,
    /// Numbers and lengths of the segments before it.
    closed: Vec<(u64, u64)>,
    /// Segments before it that hold frames no sync has covered.
    unsynced: Vec<Arc<dyn DiskFile>>,
    live: Live,
    /// Frames appended since the start.
    written: u64,
    /// The log is not looked at for folding before it is so long.
    look_again: u64,
    failed: bool,
}

#[derive(Default)]
struct Syncs {
    /// So many of the frames appended since the start are durable.
    durable: u64,
    running: bool,
}

impl Journal {
    /// Opens the journal in `journal/`, making it if there is none.
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Result<(Journal, Replayed)> {
        Self::open_with(disk, JournalLimits::default())
    }

    /// The same with other bounds.
    pub(crate) fn open_with(
        disk: Arc<dyn Disk>,
        limits: JournalLimits,
    ) -> Result<(Journal, Replayed)> {
        let boot = disk.boot_id();
        let opened = replay::open(&*disk, boot, &limits);
        let opened = opened.map_err(|error| error.at("the journal"))?;
        let state = State {
            current: opened.current,
            closed: opened.closed,
            unsynced: Vec::new(),
            live: opened.live,
            written: 0,
            look_again: 0,
            failed: false,
        };
        let journal = Journal {
            disk,
            limits,
            boot,
            state: Mutex::new(state),
            syncs: Mutex::new(Syncs::default()),
            synced: Condvar::new(),
            folding: Mutex::new(()),
            allocated: AtomicU64::new(0),
        };
        journal.recount();
        Ok((journal, opened.replayed))
    }

    /// Appends what one call changes as one frame: after kill -9 all of it is there or none.
    /// Nothing is appended after an error, but for `Io`: then it may or may not be there.
    pub(crate) fn append(&self, records: &[Record]) -> Result<()> {
        self.append_within(records, Room::Usual)
    }

    /// The same for records that free space: a full disk has still room for them (J9).
    pub(crate) fn append_freeing(&self, records: &[Record]) -> Result<()> {
        self.append_within(records, Room::Last)
    }

    /// The same, and waits until it survives a power cut, with all that was appended before.
    #[cfg(test)]
    pub(crate) fn append_durable(&self, records: &[Record]) -> Result<()> {
        self.append(records)?;
        self.sync()
    }

    /// What the journal stands for. `look` is called with appends held up: it has to be short.
    pub(crate) fn live<T>(&self, look: impl FnOnce(&Live) -> T) -> T {
        // A panic of another thread leaves the sum of whole records, or latches in `state`.
        look(&self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).live)
    }

    /// Returns when everything appended before the call survives a power cut. Calls that come
    /// while a sync runs share the next one.
    pub(crate) fn sync(&self) -> Result<()> {
        let target = self.state()?.written;
        let Some(turn) = self.await_turn(target) else { return Ok(()) };
        let durable = self.sync_segments()?;
        debug_assert!(durable >= target, "a sync covers what was appended before it began");
        turn.end(durable);
        Ok(())
    }

    /// Allocated bytes in `journal/` (E2), what was set aside too.
    pub(crate) fn bytes_allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Length of the log.
    #[cfg(test)]
    pub(crate) fn len_bytes(&self) -> u64 {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).len()
    }

    /// Every data file that the journal did not claim was moved to `recovered/`: what damage there
    /// was is dealt with, and the next start may delete unclaimed files again (J7).
    pub(crate) fn damage_settled(&self) -> Result<()> {
        replay::unmark(&*self.disk)
    }

    /// Folds the log if it is long and mostly history; says whether it did. Blocks on the disk.
    pub(crate) fn compact_if_due(&self) -> Result<bool> {
        if !self.is_due()? {
            return Ok(false);
        }
        self.compact()?;
        Ok(true)
    }

    /// Folds the log: a segment that stands for all that was appended takes the place of those
    /// before it. Blocks on the disk, but holds appends up only to copy the live set.
    ///
    /// ```text
    ///   before      [ N ]
    ///   begin next  [ N ]               [ N+2 ]   empty, durable
    ///   switch      [ N ]               [ N+2 <-- appends      (under the append lock)
    ///   fold        [ N ]  [ N+1 fold ] [ N+2 <-- appends      durable, then renamed into place
    ///   remove             [ N+1 fold ] [ N+2 <-- appends
    /// ```
    ///
    /// A crash at any point leaves N and N+2, or the fold and N+2: the same state. After an error
    /// the log goes on in N+2 and the next fold takes all of it.
    pub(crate) fn compact(&self) -> Result<()> {
        let _folding = self.folding.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let last = self.state()?.current.number;
        let (fold, next) = (last + 1, last + 2);
        let segment = Segment::begin(&*self.disk, next, &self.limits)?;
        let (old, live) = self.switch(segment)?;
        // What was allocated ahead of the old segment is of no use; failing to free it is no harm.
        old.file.set_len(old.end).ok();
        self.recount();
        let end = segment::write_fold(&*self.disk, fold, self.boot, live)?;
        let removed = segment::remove_before(&*self.disk, fold)?;
        tracing::debug!(segments = removed, bytes = end, "folded the journal");
        self.folded(fold, end);
        self.recount();
        Ok(())
    }

    fn is_due(&self) -> Result<bool> {
        let mut state = self.state()?;
        let len = state.len();
        if len <= self.limits.fold_bytes.max(state.look_again) {
            return Ok(false);
        }
        // Weighing takes as long as there is much to weigh, and a fold may fail for lack of room:
        // neither is tried again before the log has grown by a quarter.
        state.look_again = len + len / 4;
        Ok(len > self.limits.fold_ratio.saturating_mul(state.live.weight()))
    }

    /// Lets appends go on in a new segment; returns the old one and the state at its end.
    fn switch(&self, next: Segment) -> Result<(Segment, Live)> {
        let mut state = self.state()?;
        let old = std::mem::replace(&mut state.current, next);
        state.closed.push((old.number, old.end));
        state.unsynced.push(old.file.clone());
        let follows = Record::Follows { segment: old.number, end: old.end };
        let frame = Frame::encode(std::slice::from_ref(&follows))?;
        // Never refused: a segment without it would pass for damage. There is room, it is new.
        self.write(&mut state, frame, &[follows], Room::Last)?;
        state.live.prune();
        Ok((old, state.live.clone()))
    }

    /// A fold is durable and stands for all segments before it.
    fn folded(&self, fold: u64, end: u64) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.closed = vec![(fold, end)];
        state.unsynced.clear();
        state.look_again = 0;
    }

    fn append_within(&self, records: &[Record], room: Room) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let frame = Frame::encode(records)?;
        let mut state = self.state()?;
        self.write(&mut state, frame, records, room)
    }

    fn write(&self, state: &mut State, frame: Frame, records: &[Record], room: Room) -> Result<()> {
        if state.current.make_room(frame.len(), room, &self.limits)? {
            self.recount();
        }
        if is_broken(Broken::Journal) {
            // Only this run knows of it.
        } else if let Err(error) = state.current.append(frame, self.boot) {
            state.failed = true;
            return Err(latched("append to the journal", error));
        }
        for record in records {
            state.live.apply(record);
        }
        state.written += 1;
        Ok(())
    }

    /// Whether a write or sync failed, after which nothing more is accepted.
    pub(crate) fn has_failed(&self) -> bool {
        self.state().is_err()
    }

    /// The append lock, if the journal can still be trusted.
    fn state(&self) -> Result<MutexGuard<'_, State>> {
        match self.state.lock() {
            Ok(state) if !state.failed => Ok(state),
            _ => Err(Error::new(ErrorKind::Io, "append to the journal, which failed before")),
        }
    }

    /// `None`: another thread's sync covered the target. Else it is this one's turn to sync.
    fn await_turn(&self, target: u64) -> Option<Turn<'_>> {
        let mut syncs = self.syncs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while syncs.durable < target {
            if !syncs.running {
                syncs.running = true;
                return Some(Turn { journal: self });
            }
            syncs = self.synced.wait(syncs).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        None
    }

    /// Syncs every segment with frames that may not be durable, oldest first; says how many frames
    /// are durable now.
    fn sync_segments(&self) -> Result<u64> {
        let (files, written) = {
            let state = self.state()?;
            let mut files = state.unsynced.clone();
            files.push(state.current.file.clone());
            (files, state.written)
        };
        let synced = files.iter().try_for_each(|file| file.sync_data());
        let mut state = self.state()?;
        if let Err(error) = synced {
            state.failed = true;
            return Err(latched("sync the journal", error));
        }
        state.unsynced.retain(|file| !files.iter().any(|synced| Arc::ptr_eq(file, synced)));
        Ok(written)
    }

    fn recount(&self) {
        // Counting may fail only where everything does; the old count stands until the next time.
        if let Ok(files) = self.disk.list(segment::DIR, false) {
            let sum = files.iter().map(|file| file.allocated).sum();
            self.allocated.store(sum, Ordering::Relaxed);
        }
    }
}

impl State {
    fn len(&self) -> u64 {
        self.current.end + self.closed.iter().map(|(_, end)| end).sum::<u64>()
    }
}

/// The right to sync; gives the next one its turn however it ends.
struct Turn<'a> {
    journal: &'a Journal,
}

impl Turn<'_> {
    fn end(self, durable: u64) {
        let syncs = self.journal.syncs.lock();
        let mut syncs = syncs.unwrap_or_else(|poisoned| poisoned.into_inner());
        syncs.durable = syncs.durable.max(durable);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let syncs = self.journal.syncs.lock();
        syncs.unwrap_or_else(|poisoned| poisoned.into_inner()).running = false;
        self.journal.synced.notify_all();
    }
}

/// A failure after which nothing more is appended. Never `NoSpace`, which promises that it was
/// not.
fn latched(op: &'static str, error: io::Error) -> Error {
    tracing::error!(op, %error, "the journal failed; nothing more is accepted");
    Error { source: Some(Box::new(error)), ..Error::new(ErrorKind::Io, op) }
}
