//! Reading a file of exactly one version: its mark is asked for in the same packet as the bytes,
//! after them, so no chunk of other bytes is handed out.

use super::facts::Facts;
use super::fail::{Fail, Outcome};
use super::session::Session;
use super::wire::{self, CHAINED, Handle, Open, access};
use crate::{ByteStream, ErrorKind, RemotePath, Version};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use smb2::types::status::NtStatus;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one request. An answer is copied several times on its way up, each time into memory that
/// the allocator takes anew from the system where it is large: with 1 MiB half of the time went there.
const CHUNK_BYTES: u64 = 256 << 10;

/// Chunks of one read on the way at a time.
const CHUNKS_AT_ONCE: usize = 32;

/// Opens `path` if it has the content of `version`, and reads `range` of it. The first chunk comes
/// with the opening: most reads are no longer than one.
pub(super) async fn read(
    session: &Arc<Session>,
    path: &RemotePath,
    range: Range<u64>,
    version: &Version,
) -> Outcome<ByteStream> {
    if path.is_root() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let link = session.link().await?;
    let end = range.end.min(version.content.size);
    let left = range.start.min(end)..end;
    let chunk_bytes = CHUNK_BYTES.min(u64::from(link.read_bytes_max)).max(1);
    let first = left.start..left.end.min(left.start + chunk_bytes);
    let wire = session.wire(path)?;
    let is_all = first.end == left.end;
    let opened = match open(&link, &wire, &first, is_all).await {
        Err(fail) if fail.kind == ErrorKind::NotFound => {
            let there = session.missing(&link, path, fail).await?;
            let there = session.wire(&there)?;
            open(&link, &there, &first, is_all).await.map_err(moved)?
        }
        // Samba says so too where another file took the name while it looked.
        Err(fail) if fail.kind == ErrorKind::PermissionDenied => {
            open(&link, &wire, &first, is_all).await.map_err(moved)?
        }
        opened => opened?,
    };
    let Opened { handle, facts, bytes } = opened;
    verify(&facts, version)?;
    let bytes = bytes?;
    if bytes.len() as u64 != first.end - first.start {
        return Err(ErrorKind::VersionChanged.into());
    }
    let rest = rest(handle, first.end..left.end, chunk_bytes, *version);
    let path = path.clone();
    let first = stream::iter((!bytes.is_empty()).then_some(Ok(bytes)));
    let all = first.chain(rest);
    Ok(all.map(move |chunk| chunk.map_err(|fail: Fail| fail.into_error("read", &path))).boxed())
}

/// The chunks after the first, several on their way at a time; the first failure is the last.
fn rest(
    handle: Option<Handle>,
    left: Range<u64>,
    chunk_bytes: u64,
    version: Version,
) -> impl futures_util::Stream<Item = Outcome<Bytes>> + Send + 'static {
    let handle = handle.map(Arc::new);
    let starts = (left.start..left.end).step_by(chunk_bytes as usize);
    let chunks = stream::iter(starts).map(move |at| {
        let (handle, end) = (handle.clone(), left.end.min(at + chunk_bytes));
        async move {
            let handle = handle.ok_or(ErrorKind::Protocol)?;
            let ops = vec![wire::read(handle.id, at, (end - at) as u32), wire::query(CHAINED)];
            let mut answers = handle.ask(ops).await?;
            let bytes = taken(answers.bytes(0));
            verify(&answers.facts(1)?, &version)?;
            let bytes = bytes?;
            match bytes.len() as u64 == end - at {
                true => Ok(bytes),
                false => Err(ErrorKind::VersionChanged.into()),
            }
        }
    });
    chunks.buffered(CHUNKS_AT_ONCE).scan(false, |has_failed, chunk| {
        let goes_on = !*has_failed;
        *has_failed = chunk.is_err();
        std::future::ready(goes_on.then_some(chunk))
    })
}

struct Opened {
    handle: Option<Handle>,
    facts: Facts,
    bytes: Outcome<Bytes>,
}

async fn open(
    link: &Arc<super::session::Link>,
    wire: &str,
    first: &Range<u64>,
    is_all: bool,
) -> Outcome<Opened> {
    let is_read = !first.is_empty();
    let mut ops = vec![Open::existing(access::READ | access::READ_ATTRIBUTES).op(wire)];
    if is_read {
        ops.push(wire::read(CHAINED, first.start, (first.end - first.start) as u32));
    }
    ops.push(wire::query(CHAINED));
    if is_all {
        ops.push(wire::close(CHAINED));
    }
    // What closes what it opens leaves nothing open, whoever goes away: it needs no task of its own.
    let asked = if is_all { link.clone().send(ops).await } else { link.ask(ops).await };
    let mut answers = asked?;
    answers.done(0)?;
    let bytes = if is_read { taken(answers.bytes(1)) } else { Ok(Bytes::new()) };
    let facts = match answers.facts(1 + usize::from(is_read)) {
        Ok(facts) => facts,
        // Some servers end a chain at its first refusal.
        Err(fail) => match &answers.handle {
            Some(handle) => handle.ask(vec![wire::query(handle.id)]).await?.facts(0)?,
            None => return Err(fail),
        },
    };
    Ok(Opened { handle: answers.handle, facts, bytes })
}

/// What lies past the end is nothing.
fn taken(bytes: Outcome<Bytes>) -> Outcome<Bytes> {
    match bytes {
        Err(fail) if fail.is(NtStatus::END_OF_FILE) => Ok(Bytes::new()),
        bytes => bytes,
    }
}

/// It was there an instant ago: what it is now takes another look.
fn moved(fail: Fail) -> Fail {
    match fail.kind {
        ErrorKind::NotFound => fail.of_kind(ErrorKind::Busy),
        _ => fail,
    }
}

fn verify(facts: &Facts, version: &Version) -> Outcome<()> {
    match (facts.is_dir(), facts.is_version(version)) {
        (true, _) => Err(ErrorKind::IsADirectory.into()),
        (false, false) => Err(ErrorKind::VersionChanged.into()),
        (false, true) => Ok(()),
    }
}
