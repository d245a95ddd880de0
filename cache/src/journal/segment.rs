//! The files of the journal: the segment that is appended to, and folded ones.

use super::JournalLimits;
use super::frame::{Frame, Header, Kind, SEGMENT_HEADER};
use super::live::Live;
use super::record::Record;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, ErrorKind, Result};
use std::io;
use std::sync::Arc;

/// Where the journal lies in the cache directory.
pub(super) const DIR: &str = "journal";
/// Records of a fold in one frame, by weight.
const FOLD_FRAME: usize = 1 << 20;

/// Which of the room allocated ahead an append may take (J9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    /// All but the reserve.
    Usual,
    /// The reserve too.
    Last,
}

/// The segment that is appended to.
pub(super) struct Segment {
    pub file: Arc<dyn DiskFile>,
    pub number: u64,
    /// Where the next frame goes.
    pub end: u64,
    /// Blocks are allocated up to here.
    allocated: u64,
    /// The disk was full; it is not asked again before the log has come so far.
    ask_again: u64,
}

pub(super) fn path(number: u64) -> String {
    format!("{DIR}/{number:016x}.log")
}

/// The number in a segment's file name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

impl Segment {
    /// Makes an empty segment, durably, with blocks allocated ahead.
    pub fn begin(disk: &dyn Disk, number: u64, limits: &JournalLimits) -> Result<Segment> {
        let path = path(number);
        let failed = |error| Error::disk("begin a segment of the journal", error);
        let begin = || -> io::Result<Arc<dyn DiskFile>> {
            let file = disk.open(&path, true)?;
            file.set_len(0)?;
            file.reserve(0..SEGMENT_HEADER + limits.ahead_bytes)?;
            file.write_at(&Header { number, kind: Kind::Log }.encode(), 0)?;
            file.sync_data()?;
            disk.sync_dir(DIR)?;
            Ok(file)
        };
        let file = begin().map_err(|error| {
            // A leftover without frames is removed at the next start at the latest.
            disk.remove(&path).ok();
            failed(error)
        })?;
        let allocated = SEGMENT_HEADER + limits.ahead_bytes;
        Ok(Segment { file, number, end: SEGMENT_HEADER, allocated, ask_again: 0 })
    }

    /// Goes on in a segment that ends at `end`.
    pub fn resume(
        file: Arc<dyn DiskFile>,
        number: u64,
        end: u64,
        limits: &JournalLimits,
    ) -> Result<Segment> {
        let mut segment = Segment { file, number, end, allocated: end, ask_again: 0 };
        // On a full disk the blocks of the last run are still there: steps find how many.
        let step = (limits.ahead_bytes / 16).max(1);
        while segment.allocated < end + limits.ahead_bytes {
            let next = segment.allocated + step;
            match segment.file.reserve(segment.allocated..next) {
                Ok(()) => segment.allocated = next,
                Err(error) if is_full(&error) => break,
                Err(error) => return Err(Error::disk("allocate room for the journal", error)),
            }
        }
        Ok(segment)
    }

    /// Makes sure that a frame can be written; says whether blocks were allocated.
    pub fn make_room(&mut self, len: u64, room: Room, limits: &JournalLimits) -> Result<bool> {
        let ahead = self.allocated.saturating_sub(self.end);
        let kept = if room == Room::Usual { limits.reserve_bytes } else { 0 };
        let fits = ahead >= len + kept;
        if fits && (ahead >= limits.ahead_bytes / 4 * 3 || self.end < self.ask_again) {
            return Ok(false);
        }
        let wanted = self.end + len + limits.ahead_bytes;
        match self.file.reserve(self.allocated..wanted) {
            Ok(()) => {
                self.allocated = wanted;
                Ok(true)
            }
            Err(error) if fits && is_full(&error) => {
                self.ask_again = self.end + limits.ahead_bytes / 16;
                Ok(false)
            }
            Err(error) => Err(Error::disk("allocate room for the journal", error)),
        }
    }

    /// Writes a frame at the end.
    pub fn append(&mut self, mut frame: Frame, boot: u64) -> io::Result<()> {
        let bytes = frame.seal(self.number, self.end, boot);
        self.file.write_at(bytes, self.end)?;
        self.end += frame.len();
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes a folded segment and makes it durable before it gets its name (J7); says how long it is.
pub(super) fn write_fold(disk: &dyn Disk, number: u64, boot: u64, live: Live) -> Result<u64> {
    let path = path(number);
    let temporary = format!("{path}.tmp");
    let written = write_fold_file(disk, &temporary, number, boot, live).and_then(|end| {
        let place = || {
            disk.rename(&temporary, &path)?;
            disk.sync_dir(DIR)
        };
        place().map_err(|error| Error::disk("put a folded journal in its place", error))?;
        Ok(end)
    });
    if written.is_err() {
        // If it got its name it is whole, and stands for what it was made from.
        disk.remove(&temporary).ok();
    }
    written
}

fn write_fold_file(disk: &dyn Disk, path: &str, number: u64, boot: u64, live: Live) -> Result<u64> {
    let failed = |error| Error::disk("fold the journal", error);
    let file = disk.open(path, true).map_err(failed)?;
    file.set_len(0).map_err(failed)?;
    let mut end = SEGMENT_HEADER;
    let mut write = |records: &mut Vec<Record>| -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut frame = Frame::encode(records)?;
        file.write_at(frame.seal(number, end, boot), end).map_err(failed)?;
        end += frame.len();
        records.clear();
        Ok(())
    };
    let (mut records, mut weight) = (Vec::new(), 0);
    for record in live.into_records() {
        let more = record.weight();
        if weight + more > FOLD_FRAME {
            write(&mut records)?;
            weight = 0;
        }
        weight += more;
        records.push(record);
    }
    write(&mut records)?;
    let header = Header { number, kind: Kind::Fold { end } }.encode();
    file.write_at(&header, 0).and_then(|()| file.sync_data()).map_err(failed)?;
    Ok(end)
}

/// Removes the segments that a durable fold stands for; says how many there were.
pub(super) fn remove_before(disk: &dyn Disk, fold: u64) -> Result<usize> {
    let remove = || -> io::Result<usize> {
        let mut count = 0;
        for file in disk.list(DIR, false)? {
            if number_of(&file.path).is_some_and(|number| number < fold) {
                disk.remove(&format!("{DIR}/{}", file.path))?;
                count += 1;
            }
        }
        disk.sync_dir(DIR)?;
        Ok(count)
    };
    remove().map_err(|error| Error::disk("remove old segments of the journal", error))
}

/// Damage that the disk itself reports is no place to go on from.
pub(super) fn unreadable(error: io::Error) -> Error {
    Error { source: Some(Box::new(error)), ..Error::new(ErrorKind::Io, "read the journal") }
}
