//! Bytes of an upload that did not change: the server copies them from the file that is replaced, so
//! that they do not go over the line again.
//!
//! While it does, that file is held open so that nobody writes to it, and it is exactly the version
//! that the rest is known of (X4). It is let go then, as others may want it while the rest is sent:
//! whether it has changed since, the comparison before the end tells, as of any replacement.
//!
//! What the server does not copy is sent. One that cannot, or is too slow at it, is not asked again.

use super::fail::{Fail, Outcome};
use super::session::{Link, Session};
use super::wire::{self, CHAINED, Handle, Op, Open, access, options, share};
use crate::{ErrorKind, RemotePath, Source, Version};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use smb2::msg::copychunk::{
    RESUME_KEY_LEN, SrvCopychunk, SrvCopychunkCopy, SrvCopychunkResponse,
    SrvRequestResumeKeyResponse,
};
use smb2::msg::ioctl::{FSCTL_SRV_COPYCHUNK_WRITE, FSCTL_SRV_REQUEST_RESUME_KEY, IoctlResponse};
use smb2::pack::{Pack, ReadCursor, Unpack, WriteCursor};
use smb2::types::FileId;
use smb2::types::status::NtStatus;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// What takes less goes over the line sooner than the server is asked.
const WORTHWHILE_BYTES: u64 = 1 << 20;

/// What changed within a part is found by pieces of so many bytes: the cache's own unit of fetching.
const PIECE_BYTES: u64 = 64 << 10;

/// Requests on the way at a time: one is copied while the next one travels.
const REQUESTS_AT_ONCE: usize = 2;

/// Bytes of the key that names what is copied from, with what follows it.
const KEY_BYTES: u32 = 32;

/// How much the server copies in one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    pub(super) chunks: u32,
    pub(super) chunk_bytes: u64,
    pub(super) bytes: u64,
}

impl Bounds {
    /// What Windows and Samba take; another one says what it does.
    pub(super) fn usual(bytes: u64) -> Bounds {
        Bounds { chunks: 256, chunk_bytes: 1 << 20, bytes }
    }

    /// Both bounds hold; `None` where so little is left that nothing is won.
    fn and(self, other: Bounds) -> Option<Bounds> {
        let least = Bounds {
            chunks: self.chunks.min(other.chunks),
            chunk_bytes: self.chunk_bytes.min(other.chunk_bytes),
            bytes: self.bytes.min(other.bytes),
        };
        let is_useful = least.chunks > 0 && least.chunk_bytes.min(least.bytes) >= PIECE_BYTES;
        is_useful.then_some(least)
    }

    /// These ranges in requests of no more than the server takes.
    fn requests(self, ranges: &[Range<u64>]) -> Vec<Vec<Range<u64>>> {
        let (mut requests, mut left) = (vec![Vec::new()], self.bytes);
        for range in ranges {
            let mut at = range.start;
            while at < range.end {
                let is_full = requests.last().is_some_and(|it| it.len() >= self.chunks as usize);
                if is_full || left == 0 {
                    requests.push(Vec::new());
                    left = self.bytes;
                }
                let bytes = (range.end - at).min(self.chunk_bytes).min(left);
                requests.last_mut().expect("there is one").push(at..at + bytes);
                at += bytes;
                left -= bytes;
            }
        }
        requests.retain(|request| !request.is_empty());
        requests
    }
}

/// Of parts of a file, what did not change and what did; nothing did not where that is not worth it.
pub(super) fn split(
    source: &dyn Source,
    parts: Vec<Range<u64>>,
) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
    let (mut same, mut other) = (Vec::new(), Vec::new());
    for part in &parts {
        if source.is_unchanged(part) {
            same.push(part.clone());
            continue;
        }
        for at in (part.start..part.end).step_by(PIECE_BYTES as usize) {
            let piece = at..part.end.min(at + PIECE_BYTES);
            let to: &mut Vec<Range<u64>> =
                if source.is_unchanged(&piece) { &mut same } else { &mut other };
            match to.last_mut() {
                Some(last) if last.end == at && last.start >= part.start => last.end = piece.end,
                _ => to.push(piece),
            }
        }
    }
    let bytes: u64 = same.iter().map(|range| range.end - range.start).sum();
    if bytes < WORTHWHILE_BYTES { (Vec::new(), parts) } else { (same, other) }
}

/// The file that is replaced, open so that nobody writes to it.
pub(super) struct Old<'a> {
    session: &'a Session,
    /// Closed when dropped.
    _held: Handle,
    key: [u8; RESUME_KEY_LEN],
}

impl<'a> Old<'a> {
    /// `None`: there is nothing to copy from, or not now.
    pub(super) async fn open(
        session: &'a Session,
        link: &Arc<Link>,
        path: &RemotePath,
        version: &Version,
    ) -> Outcome<Option<Old<'a>>> {
        if session.copies().is_none() {
            return Ok(None);
        }
        // Who only reads it is not in the way, nor another site that is about to replace it.
        let open = Open {
            share: share::READ | share::DELETE,
            options: options::NO_FOLLOW | options::NO_DIRECTORY,
            ..Open::existing(access::READ | access::READ_ATTRIBUTES)
        };
        let key = control(CHAINED, FSCTL_SRV_REQUEST_RESUME_KEY, Vec::new(), KEY_BYTES);
        let ops = vec![open.op(&session.wire(path)?), wire::query(CHAINED), key];
        let mut answers = link.ask(ops).await?;
        let asked = answers.done(0).and_then(|()| answers.facts(1));
        let key = answers
            .bytes(2)
            .and_then(|output| Ok(unpack::<SrvRequestResumeKeyResponse>(&output)?.resume_key));
        let handle = answers.handle;
        match (asked, key, handle) {
            // A mark that moved without the bytes, as of attributes, is looked at by somebody else.
            (Ok(facts), ..) if facts.version() != *version => Ok(None),
            (Ok(_), Ok(key), Some(handle)) => Ok(Some(Old { session, _held: handle, key })),
            (Ok(_), Err(fail), _) => {
                session.refused(&fail);
                no_copy(fail).map(|()| None)
            }
            (Err(fail), ..) => no_copy(fail).map(|()| None),
            (Ok(_), Ok(_), None) => Ok(None),
        }
    }

    /// Has the server copy these ranges to an open file; returns what it did not.
    pub(super) async fn copy(
        &self,
        to: &Handle,
        source: &dyn Source,
        ranges: Vec<Range<u64>>,
    ) -> Outcome<Vec<Range<u64>>> {
        let mut left = ranges;
        while let Some(bounds) = self.session.copies().filter(|_| !left.is_empty()) {
            let requests = stream::iter(bounds.requests(&left));
            let asked = requests.map(|request| self.ask(to, source, request));
            let asked = asked.buffer_unordered(REQUESTS_AT_ONCE);
            left = asked.try_collect::<Vec<_>>().await?.concat();
            // Only smaller requests are worth another try.
            if self.session.copies() == Some(bounds) {
                break;
            }
        }
        Ok(left)
    }

    /// One request; returns what was not copied.
    async fn ask(
        &self,
        to: &Handle,
        source: &dyn Source,
        ranges: Vec<Range<u64>>,
    ) -> Outcome<Vec<Range<u64>>> {
        // Asked anew, so that whoever watches over the upload sees that it goes on.
        if !ranges.iter().all(|range| source.is_unchanged(range)) {
            return Ok(ranges);
        }
        let chunks: Vec<SrvCopychunk> = ranges
            .iter()
            .map(|range| SrvCopychunk {
                source_offset: range.start,
                target_offset: range.start,
                length: (range.end - range.start) as u32,
            })
            .collect();
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let mut cursor = WriteCursor::new();
        SrvCopychunkCopy { source_key: self.key, chunks }.pack(&mut cursor);
        let answer_bytes = SrvCopychunkResponse::SIZE as u32;
        let op = control(to.id, FSCTL_SRV_COPYCHUNK_WRITE, cursor.into_inner(), answer_bytes);
        let copied = to.ask(vec![op]).await.and_then(|mut answers| {
            let answer = unpack::<SrvCopychunkResponse>(&answers.bytes(0)?)?;
            Ok(u64::from(answer.total_bytes_written))
        });
        match copied {
            Ok(copied) if copied == bytes => Ok(Vec::new()),
            Ok(_) => Ok(ranges),
            Err(fail) => {
                self.session.refused(&fail);
                no_copy(fail).map(|()| ranges)
            }
        }
    }
}

/// A refusal is no reason to fail.
fn no_copy(fail: Fail) -> Outcome<()> {
    if fail.is_unknown() {
        return Err(fail);
    }
    tracing::debug!(kind = ?fail.kind, why = fail.reason(), "nothing is copied by the server");
    Ok(())
}

impl Session {
    /// How much the server copies; `None`: it does not.
    fn copies(&self) -> Option<Bounds> {
        *self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a refusal says of all requests to come.
    fn refused(&self, fail: &Fail) {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let told = bounds_told(fail);
        match (*copies, told) {
            (Some(known), Some(told)) => *copies = known.and(told),
            // Silent for so long, it is given up with its connection: not each time anew.
            _ if matches!(fail.kind, ErrorKind::Unsupported | ErrorKind::Timeout) => *copies = None,
            _ => return,
        }
        tracing::info!(copies = ?*copies, "how much the server copies by itself");
    }
}

/// What a server that is asked for too much says that it takes.
fn bounds_told(fail: &Fail) -> Option<Bounds> {
    if !fail.is(NtStatus::INVALID_PARAMETER) {
        return None;
    }
    let answer: SrvCopychunkResponse = unpack(&output(fail.body()).ok()?).ok()?;
    Some(Bounds {
        chunks: answer.chunks_written,
        chunk_bytes: answer.chunk_bytes_written.into(),
        bytes: answer.total_bytes_written.into(),
    })
}

fn control(file: FileId, code: u32, input: Vec<u8>, bytes: u32) -> Op {
    Op::Control { file, code, input, bytes }
}

fn output(body: &[u8]) -> Outcome<Vec<u8>> {
    Ok(unpack::<IoctlResponse>(body)?.output_data)
}

fn unpack<T: Unpack>(bytes: &[u8]) -> Outcome<T> {
    Ok(T::unpack(&mut ReadCursor::new(bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn requests_are_no_more_than_the_server_takes_and_cover_all() {
        let bounds = Bounds { chunks: 3, chunk_bytes: MIB, bytes: 2 * MIB + 5 };
        let ranges = [0..5 * MIB + 7, 9 * MIB..9 * MIB + 1, 20 * MIB..21 * MIB];
        let requests = bounds.requests(&ranges);
        for request in &requests {
            let bytes: u64 = request.iter().map(|chunk| chunk.end - chunk.start).sum();
            assert!(request.len() <= 3 && bytes <= bounds.bytes, "{request:?}");
            assert!(request.iter().all(|chunk| (1..=MIB).contains(&(chunk.end - chunk.start))));
        }
        let mut joined: Vec<Range<u64>> = Vec::new();
        for chunk in requests.concat() {
            match joined.last_mut() {
                Some(last) if last.end == chunk.start => last.end = chunk.end,
                _ => joined.push(chunk),
            }
        }
        assert_eq!(joined, ranges);
        assert!(bounds.requests(&[]).is_empty());
    }

    #[test]
    fn what_a_server_takes_is_believed_while_it_is_of_use() {
        let usual = Bounds::usual(16 * MIB);
        let told = |chunks: u32, chunk_bytes: u32, bytes: u32| {
            let mut output = WriteCursor::new();
            SrvCopychunkResponse {
                chunks_written: chunks,
                chunk_bytes_written: chunk_bytes,
                total_bytes_written: bytes,
            }
            .pack(&mut output);
            let mut body = WriteCursor::new();
            IoctlResponse {
                ctl_code: FSCTL_SRV_COPYCHUNK_WRITE,
                file_id: CHAINED,
                flags: 0,
                output_data: output.into_inner(),
            }
            .pack(&mut body);
            bounds_told(&Fail::from(NtStatus::INVALID_PARAMETER).with(body.into_inner()))
        };
        let less = told(4, 512 << 10, 1 << 20).unwrap();
        let less = Bounds { chunks: 4, ..less };
        assert_eq!(usual.and(less), Some(less));
        assert_eq!(less.and(usual), Some(less), "bounds only become smaller");
        assert_eq!(usual.and(told(0, 1 << 20, 1 << 20).unwrap()), None);
        assert_eq!(usual.and(told(4, 4096, 1 << 20).unwrap()), None);
        // A refusal that says nothing.
        assert_eq!(bounds_told(&Fail::from(NtStatus::INVALID_PARAMETER)), None);
        assert_eq!(bounds_told(&Fail::from(NtStatus::NOT_SUPPORTED)), None);
    }
}
