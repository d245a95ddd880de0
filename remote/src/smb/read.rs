//! Reading a file of exactly one version: its mark is asked for in the same packet as the bytes,
//! after them, so no chunk of other bytes is handed out.

use super::facts::Facts;
use super::fail::{Fail, Outcome};
use super::session::Session;
use super::wire::{self, CHAINED, Handle, Open, access};
use crate::{ByteStream, ErrorKind, RemotePath, Version};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, StreamExt};
use smb2::types::status::NtStatus;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of one request. An answer is copied several times on its way up, each time into memory that
/// the allocator takes anew from the system where it is large: with 1 MiB half of the time went there.
const CHUNK_BYTES: u64 = 256 << 10;

/// Chunks of one read on the way at a time.
const CHUNKS_AT_ONCE: usize = 32;

/// Files of one packet. Each costs server and client a wake-up, a cipher and a few calls of the system:
/// as much as what is done for a small file itself.
pub(super) const FILES_AT_ONCE: usize = 8;

/// Small files whole, in one packet.
pub(super) async fn read_whole(
    session: &Arc<Session>,
    files: &[(RemotePath, Version)],
) -> Vec<Outcome<Bytes>> {
    let asked = match session.read_apart.load(Ordering::Relaxed) < APART_MAX {
        true => at_once(session, files).await,
        false => Ok(vec![None; files.len()]),
    };
    let found = match asked {
        Ok(found) => found,
        Err(fail) if fail.is_unknown() => {
            let same = |_| Err(Fail::saying(fail.kind, fail.reason()));
            return files.iter().map(same).collect();
        }
        Err(_) => vec![None; files.len()],
    };
    // What is not plainly right is asked for by itself: a chain may end at its first refusal.
    let right: Vec<bool> = found.iter().map(Option::is_some).take(2).collect();
    let each = files.iter().zip(found).map(|((path, version), found)| async move {
        match found {
            Some(bytes) => Ok(bytes),
            None => alone(session, path, version).await,
        }
    });
    let read = join_all(each).await;
    // A server that says of the first two alone what it does not say of them together, again and again,
    // does not do what we mean.
    if right.iter().all(|right| *right) {
        session.read_apart.store(0, Ordering::Relaxed);
    } else if read.iter().take(2).all(Result::is_ok) {
        session.read_apart.fetch_add(1, Ordering::Relaxed);
    }
    read
}

/// The same; `None` where the answer is no, or another content's.
async fn at_once(
    session: &Arc<Session>,
    files: &[(RemotePath, Version)],
) -> Outcome<Vec<Option<Bytes>>> {
    let link = session.link().await?;
    let mut ops = Vec::with_capacity(files.len() * OPS_OF_A_FILE);
    for (path, version) in files {
        let size = u32::try_from(version.content.size).unwrap_or(u32::MAX);
        if path.is_root() || size > link.read_bytes_max {
            return Ok(vec![None; files.len()]);
        }
        ops.push(Open::existing(access::READ | access::READ_ATTRIBUTES).op(&session.wire(path)?));
        ops.extend([wire::read(CHAINED, 0, size), wire::query(CHAINED), wire::close(CHAINED)]);
    }
    let mut answers = link.ask(ops).await?;
    if link.carrier.is_broken() {
        return Err(ErrorKind::Unreachable.into());
    }
    let read = files.iter().enumerate().map(|(number, (_, version))| {
        let at = number * OPS_OF_A_FILE;
        answers.done(at).ok()?;
        let bytes = taken(answers.bytes(at + 1)).ok()?;
        verify(&answers.facts(at + 2).ok()?, version).ok()?;
        (bytes.len() as u64 == version.content.size).then_some(bytes)
    });
    Ok(read.collect())
}

/// After so many packets in a row that were of no use, no more of them.
pub(super) const APART_MAX: u32 = 3;

/// Open, read, query, close.
const OPS_OF_A_FILE: usize = 4;

async fn alone(session: &Arc<Session>, path: &RemotePath, version: &Version) -> Outcome<Bytes> {
    crate::gather(chunks(session, path, 0..version.content.size, version).await?).await
}

/// Opens `path` if it has the content of `version`, and reads `range` of it. The first chunk comes
/// with the opening: most reads are no longer than one.
pub(super) async fn read(
    session: &Arc<Session>,
    path: &RemotePath,
    range: Range<u64>,
    version: &Version,
) -> Outcome<ByteStream> {
    let all = chunks(session, path, range, version).await?;
    let path = path.clone();
    Ok(all.map(move |chunk| chunk.map_err(|fail| fail.into_error("read", &path))).boxed())
}

async fn chunks(
    session: &Arc<Session>,
    path: &RemotePath,
    range: Range<u64>,
    version: &Version,
) -> Outcome<BoxStream<'static, Outcome<Bytes>>> {
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
    let first = stream::iter((!bytes.is_empty()).then_some(Ok(bytes)));
    Ok(first.chain(rest).boxed())
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
