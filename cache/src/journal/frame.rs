//! How the journal lies on the disk: segments of frames, frames of records. Little-endian.
//!
//! ```text
//!   segment  magic 8 | format u32 | kind u32 | number u64 | end u64 | 0 u32 | crc u32 | frame, ...
//!   frame    length u32 | crc u32 | boot u64 | length bytes of postcard: Vec<Record>
//! ```
//!
//! A frame's crc covers segment number, offset, length, boot and payload, so a frame counts only
//! in its own place. A length of 0 is the end. The crc is IEEE's, not Castagnoli's as RULES J2
//! says: `crc32fast` is what blocks are checked with already and as fast, and at the length of
//! these frames the two differ only in how many scattered flipped bits they surely notice.

use super::record::Record;
use crate::disk::DiskFile;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use std::io;

/// Bytes before a segment's first frame.
pub(super) const SEGMENT_HEADER: u64 = 40;
/// Bytes before a frame's payload.
pub(super) const FRAME_HEADER: usize = 16;
const MAGIC: [u8; 8] = *b"covefsJ\n";
const FORMAT: u32 = 1;
/// What is read of a segment at once.
const WINDOW: usize = 1 << 20;

/// What a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Frames as they were appended.
    Log,
    /// A folded log: stands for all segments of lower numbers. Ends exactly at `end`.
    Fold { end: u64 },
}

/// The beginning of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub number: u64,
    pub kind: Kind,
}

impl Header {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let (kind, end) = match self.kind {
            Kind::Log => (0u32, 0),
            Kind::Fold { end } => (1, end),
        };
        let mut bytes = [0; SEGMENT_HEADER as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&kind.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&end.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..SEGMENT_HEADER as usize)?;
        if bytes[..8] != MAGIC
            || u32_at(bytes, 8) != FORMAT
            || u32_at(bytes, 36) != crc32fast::hash(&bytes[..36])
        {
            return None;
        }
        let kind = match u32_at(bytes, 12) {
            0 => Kind::Log,
            1 => Kind::Fold { end: u64_at(bytes, 24) },
            _ => return None,
        };
        Some(Header { number: u64_at(bytes, 16), kind })
    }
}

/// A frame that is encoded, but has no place yet.
pub(super) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    pub fn encode(records: &[Record]) -> Result<Frame> {
        debug_assert!(!records.is_empty(), "a frame of length 0 is the end");
        let bytes = postcard::to_extend(records, vec![0; FRAME_HEADER]).map_err(|error| Error {
            source: Some(Box::new(error)),
            ..Error::new(ErrorKind::Invalid, "encode for the journal")
        })?;
        if (bytes.len() - FRAME_HEADER) as u64 > limits::JOURNAL_FRAME {
            return Err(Error::new(ErrorKind::TooLarge, "append so much to the journal at once"));
        }
        Ok(Frame { bytes })
    }

    /// Of a payload that is encoded already.
    pub fn of(payload: &[u8]) -> Frame {
        Frame { bytes: [&[0; FRAME_HEADER], payload].concat() }
    }

    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The bytes to write at this place.
    pub fn seal(&mut self, segment: u64, offset: u64, boot: u64) -> &[u8] {
        let (header, payload) = self.bytes.split_at_mut(FRAME_HEADER);
        header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&checksum(segment, offset, boot, payload).to_le_bytes());
        header[8..].copy_from_slice(&boot.to_le_bytes());
        &self.bytes
    }
}

fn checksum(segment: u64, offset: u64, boot: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [segment, offset, payload.len() as u64, boot] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(payload);
    hasher.finalize()
}

/// What lies at a place of a segment.
pub(super) enum Found {
    /// A good frame, and where the next one begins.
    Frame { boot: u64, records: Vec<Record>, next: u64 },
    /// No frame: zeros, or the file ends.
    End,
    /// Something that is no good frame.
    Bad,
}

/// What follows the last good frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tail {
    /// Zeros, or nothing.
    Clean,
    /// One frame that was being written when the process or the machine stopped: nobody was told
    /// that it is there.
    Torn,
    /// Anything else: frames that somebody was told of may be gone.
    Damage,
}

/// Reads one segment from its begin to its end.
pub(super) struct Reader {
    file: std::sync::Arc<dyn DiskFile>,
    number: u64,
    len: u64,
    buffer: Vec<u8>,
    /// Where the buffer lies in the file.
    start: u64,
}

impl Reader {
    pub fn open(file: std::sync::Arc<dyn DiskFile>, number: u64) -> io::Result<Reader> {
        let len = file.len()?;
        Ok(Reader { file, number, len, buffer: Vec::new(), start: 0 })
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn header(&mut self) -> io::Result<Option<Header>> {
        Ok(Header::decode(self.bytes(0, SEGMENT_HEADER as usize)?))
    }

    /// The bytes at `offset`, fewer than asked for where the file ends.
    pub fn bytes(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let end = offset.saturating_add(count as u64).min(self.len);
        if offset >= end {
            return Ok(&[]);
        }
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            self.start = offset;
            self.buffer.resize(count.max(WINDOW).min((self.len - offset) as usize), 0);
            let got = self.file.read_at(&mut self.buffer, offset)?;
            self.buffer.truncate(got);
        }
        let from = (offset - self.start) as usize;
        let to = (from + (end - offset) as usize).min(self.buffer.len());
        Ok(&self.buffer[from..to])
    }

    pub fn frame(&mut self, offset: u64) -> io::Result<Found> {
        let header = self.bytes(offset, FRAME_HEADER)?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(Found::End);
        }
        if header.len() < FRAME_HEADER {
            return Ok(Found::Bad);
        }
        let (length, crc, boot) = (u32_at(header, 0), u32_at(header, 4), u64_at(header, 8));
        if length == 0 || u64::from(length) > limits::JOURNAL_FRAME {
            return Ok(Found::Bad);
        }
        let (number, from) = (self.number, offset + FRAME_HEADER as u64);
        let payload = self.bytes(from, length as usize)?;
        if payload.len() < length as usize || crc != checksum(number, offset, boot, payload) {
            return Ok(Found::Bad);
        }
        match postcard::take_from_bytes::<Vec<Record>>(payload) {
            Ok((records, [])) => Ok(Found::Frame { boot, records, next: from + u64::from(length) }),
            _ => Ok(Found::Bad),
        }
    }

    /// Judges what lies from `offset` on, where there is no good frame.
    ///
    /// A torn frame is the last thing that was written: nothing but zeros lies past the end it
    /// claims, and no good frame lies within (else a flipped bit in a length would swallow all that
    /// follows and pass for torn). If this boot wrote it, no power cut can have taken its pages, so
    /// then the file has to end before it does. Whatever is not surely torn is damage: wrong that
    /// way round, some files end up in `recovered/`; the other way round, some are deleted.
    pub fn tail(&mut self, offset: u64, this_boot: u64) -> io::Result<Tail> {
        let Some(end) = self.last_byte(offset)? else { return Ok(Tail::Clean) };
        if end <= offset + FRAME_HEADER as u64 {
            return Ok(Tail::Torn);
        }
        let header = self.bytes(offset, FRAME_HEADER)?;
        let (length, boot) = (u64::from(u32_at(header, 0)), u64_at(header, 8));
        let claimed = offset + FRAME_HEADER as u64 + length;
        let fits = length > 0 && length <= limits::JOURNAL_FRAME && end <= claimed;
        if !fits || (boot == this_boot && self.len >= claimed) {
            return Ok(Tail::Damage);
        }
        Ok(if self.frame_within(offset + 1..end)? { Tail::Damage } else { Tail::Torn })
    }

    /// The end of the last byte from `offset` on that is not zero.
    fn last_byte(&mut self, offset: u64) -> io::Result<Option<u64>> {
        let mut found = None;
        let mut at = offset;
        while at < self.len {
            let bytes = self.bytes(at, WINDOW)?;
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len() as u64;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                found = Some(at + last as u64 + 1);
            }
            at += count;
        }
        Ok(found)
    }

    /// Whether a good frame begins in the range, or it would take too long to be sure that none
    /// does.
    fn frame_within(&mut self, range: std::ops::Range<u64>) -> io::Result<bool> {
        // A payload made to look like many frames must not stop a mount.
        let mut budget = 16 * limits::JOURNAL_FRAME;
        for at in range {
            let header = self.bytes(at, FRAME_HEADER)?;
            if header.len() < FRAME_HEADER {
                break;
            }
            let length = u64::from(u32_at(header, 0));
            let room = self.len - at - FRAME_HEADER as u64;
            if length == 0 || length > room.min(limits::JOURNAL_FRAME) {
                continue;
            }
            if length > budget || matches!(self.frame(at)?, Found::Frame { .. }) {
                return Ok(true);
            }
            budget -= length;
        }
        Ok(false)
    }

    /// Whether its header was never written whole.
    pub fn is_unbegun(&mut self) -> io::Result<bool> {
        Ok(self.len < SEGMENT_HEADER || self.last_byte(0)?.is_none())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
