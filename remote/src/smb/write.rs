//! One `replace`: a temporary file beside its place, filled, given what it takes over, made
//! durable, and put in place.
//!
//! Dropped at any moment before that, the temporary file is removed by a task. Once it is whole,
//! it is put in place by a task that nobody can stop in the middle.

use super::copy::{self, Old};
use super::extended::{self, Wanted};
use super::facts::{self, Facts};
use super::fail::{Fail, Outcome};
use super::keep;
use super::look::Seen;
use super::place::Ours;
use super::session::{Link, Session};
use super::wire::{self, Basic, CHAINED, Handle, Open, access, options, share};
use crate::{Attrs, Error, ErrorKind, Expect, Metadata, RemotePath, Round, Source, Version};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of one request.
pub(super) const PART_BYTES: u64 = 1 << 20;

/// Parts on the way at a time.
const PARTS_AT_ONCE: usize = 8;

/// A file of no more goes with the request that makes it: what one credit pays for.
const SMALL_BYTES: u64 = 64 << 10;

/// After a broken connection a temporary file is removed within so long, or at the next start.
const LEFTOVER_TRIES: u32 = 30;
const LEFTOVER_WAIT: Duration = Duration::from_secs(1);

/// A failure of ours, or of the source as it said it.
pub(super) enum Stop {
    Fail(Fail),
    Source(Error),
}

impl From<Fail> for Stop {
    fn from(fail: Fail) -> Stop {
        Stop::Fail(fail)
    }
}

impl From<ErrorKind> for Stop {
    fn from(kind: ErrorKind) -> Stop {
        Stop::Fail(kind.into())
    }
}

/// A file that is not in place yet.
struct Upload {
    session: Arc<Session>,
    path: RemotePath,
    temp: RemotePath,
    /// Taken when the file is whole.
    handle: Option<Handle>,
    /// What it is with all that was sent, and durable with it; `None` after another byte.
    written: Option<Facts>,
}

/// Makes `path` the whole content of `source`.
pub(super) async fn replace(
    session: &Arc<Session>,
    path: &RemotePath,
    source: &dyn Source,
    expect: Expect,
    temp: &[u8],
) -> Result<Metadata, Stop> {
    let first = small(source).await?;
    let mut upload = Upload::begin(session, path, expect, temp, first).await?;
    let ours = match upload.send(source, expect).await {
        Ok(ours) => ours,
        Err(stop) => {
            upload.abandon().await;
            return Err(stop);
        }
    };
    let put = tokio::spawn(async move {
        let placed = ours.put(expect).await;
        if placed.as_ref().is_err_and(|fail| !fail.is_unknown()) {
            // Of an unknown outcome it may be the only copy.
            discard_temp(&ours.session, &ours.temp, Some(ours.facts.id)).await;
        }
        placed
    });
    let placed = put.await.map_err(|error| Fail::saying(ErrorKind::Io, error.to_string()))?;
    Ok(placed?)
}

impl Upload {
    /// Makes the temporary file, all of a small one in the same packet. Whether it may have its place
    /// at all is asked meanwhile: better now than after ten gigabytes.
    async fn begin(
        session: &Arc<Session>,
        path: &RemotePath,
        expect: Expect,
        temp: &[u8],
        first: Option<Bytes>,
    ) -> Outcome<Upload> {
        let Some((dir, _)) = path.split() else {
            return Err(ErrorKind::IsADirectory.into());
        };
        let link = session.link().await?;
        session.wire(path)?;
        let (session, path, temp) = (session.clone(), path.clone(), dir.join(temp));
        let mut upload = Upload { session, path, temp, handle: None, written: None };
        let (session, path) = (upload.session.clone(), upload.path.clone());
        let is_small = first.is_some();
        let (placed, made) = tokio::join!(
            may_be_placed(&session, &link, &path, expect, is_small),
            upload.make(&link, first)
        );
        if let Err(fail) = placed.and(made) {
            upload.abandon().await;
            return Err(fail);
        }
        Ok(upload)
    }

    async fn make(&mut self, link: &Arc<Link>, first: Option<Bytes>) -> Outcome<()> {
        let wire = self.session.wire(&self.temp)?;
        let plain =
            access::WRITE | access::READ_ATTRIBUTES | access::WRITE_ATTRIBUTES | access::DELETE;
        let mut wanted = plain | access::READ_SECURITY | access::WRITE_SECURITY;
        let mut has_removed = false;
        loop {
            let mut ops = vec![Open::new(wanted, share::NONE, options::NO_DIRECTORY).op(&wire)];
            if let Some(bytes) = &first {
                ops.push(wire::write(CHAINED, 0, bytes.to_vec()));
                ops.extend([wire::flush(CHAINED), wire::query(CHAINED)]);
            }
            let made = match link.ask(ops).await {
                Ok(mut answers) => {
                    self.handle = answers.handle.take();
                    // A server that does not take all of it in one packet gets it step by step, and says
                    // what is wrong.
                    answers.done(0).map(|()| {
                        let is_sent = first.is_some() && answers.done(1).is_ok();
                        if is_sent && answers.done(2).is_ok() {
                            self.written = answers.facts(3).ok();
                        }
                    })
                }
                Err(fail) => Err(fail),
            };
            match made {
                Ok(()) => return Ok(()),
                // Names of this kind are one site's alone (X2): a leftover is of a try that failed.
                Err(fail) if fail.kind == ErrorKind::Exists && !has_removed => {
                    has_removed = true;
                    discard_temp(&self.session, &self.temp, None).await;
                }
                Err(fail) if fail.kind == ErrorKind::PermissionDenied && wanted != plain => {
                    wanted = plain;
                }
                Err(fail) if fail.kind == ErrorKind::NotFound => {
                    return Err(match self.session.missing(link, &self.path, fail).await {
                        Ok(_) => ErrorKind::Busy.into(),
                        Err(fail) => fail,
                    });
                }
                Err(fail) => {
                    if fail.is_unknown() {
                        // It may have been made.
                        discard_later(&self.session, &self.temp);
                    }
                    return Err(fail);
                }
            }
        }
    }

    /// Sends all of `source` until it settles.
    async fn send(&mut self, source: &dyn Source, expect: Expect) -> Result<Ours, Stop> {
        let (mut size, mut ranges) = (source.size(), source.data());
        let mut is_sent = self.written.is_some();
        if size > 0 && !is_sent {
            self.resize(size).await?;
        }
        let mut base = match expect {
            // Only of exactly this one the rest is known.
            Expect::Version(version) => Some(version),
            Expect::Any | Expect::Absent => None,
        };
        loop {
            if !is_sent {
                self.fill(source, &ranges, size, base.take()).await?;
            }
            match source.next_round().await.map_err(Stop::Source)? {
                Round::Resend { size: now, ranges: again } => {
                    (size, ranges) = (now, again);
                    (is_sent, self.written) = (false, None);
                    self.resize(size).await?;
                }
                Round::Settled(attrs) => return Ok(self.finish(expect, &attrs).await?),
            }
        }
    }

    /// Gives up: the temporary file goes, where the connection broke as soon as there is another.
    async fn abandon(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        let delete = wire::set_deleted(handle.id);
        let asked = handle.finish(vec![delete]).await;
        if asked.and_then(|mut answers| answers.done(0)).is_ok() {
            return;
        }
        discard_later(&self.session, &self.temp);
    }

    fn handle(&self) -> Outcome<&Handle> {
        self.handle.as_ref().ok_or_else(|| ErrorKind::Protocol.into())
    }

    async fn resize(&self, size: u64) -> Outcome<()> {
        let handle = self.handle()?;
        handle.ask(vec![wire::set_size(handle.id, size)]).await?.done(0)
    }

    /// Writes these ranges, several parts at a time; what is in the version that is replaced the server
    /// copies from there.
    async fn fill(
        &self,
        source: &dyn Source,
        ranges: &[Range<u64>],
        size: u64,
        base: Option<Version>,
    ) -> Result<(), Stop> {
        let handle = self.handle()?;
        let part_bytes = PART_BYTES.min(u64::from(handle.link().write_bytes_max)).max(1);
        let mut parts = Vec::new();
        for range in ranges {
            let end = range.end.min(size);
            parts.extend(cut(range.start..end, part_bytes));
        }
        if let Some(base) = base {
            let (same, other) = copy::split(source, parts);
            parts = other;
            parts.extend(self.copied(source, same, &base).await?);
            // What is left of a request may be larger than a write.
            parts = parts.into_iter().flat_map(|part| cut(part, part_bytes)).collect();
        }
        let writes = stream::iter(parts).map(|part| async move {
            let bytes = source.read(part.clone()).await.map_err(Stop::Source)?;
            if bytes.len() as u64 != part.end - part.start {
                return Err(miscounted());
            }
            let write = wire::write(handle.id, part.start, bytes.into());
            handle.ask(vec![write]).await?.done(0)?;
            Ok(())
        });
        writes.buffer_unordered(PARTS_AT_ONCE).try_collect::<()>().await
    }

    /// Has the server copy these ranges from the version that is replaced; returns what it did not.
    async fn copied(
        &self,
        source: &dyn Source,
        ranges: Vec<Range<u64>>,
        base: &Version,
    ) -> Result<Vec<Range<u64>>, Stop> {
        if ranges.is_empty() {
            return Ok(ranges);
        }
        let handle = self.handle()?;
        let old = Old::open(&self.session, handle.link(), &self.path, base).await?;
        Ok(match old {
            Some(old) => old.copy(handle, source, ranges).await?,
            None => ranges,
        })
    }

    /// Durability and attributes; the file is closed and whole then, under its temporary name.
    async fn finish(&mut self, expect: Expect, attrs: &Attrs) -> Outcome<Ours> {
        let handle = self.handle()?;
        let link = handle.link().clone();
        let written = match self.written.clone() {
            Some(written) => written,
            None => {
                let ops = vec![wire::flush(handle.id), wire::query(CHAINED)];
                let mut answers = handle.ask(ops).await?;
                answers.done(0)?;
                answers.facts(1)?
            }
        };
        let old = match expect {
            // Whether something is there the last step tells.
            Expect::Absent => None,
            Expect::Any | Expect::Version(_) => seen(&self.session, &link, &self.path).await?,
        };
        check(old.as_ref(), expect)?;
        let old = old.map(|old| old.facts);
        if old.is_some() {
            keep::carry_over(&self.session, &link, &self.path, &self.temp, handle).await?;
        }
        let wanted = Wanted::of(attrs).filter(|_| self.session.has_xattrs());
        let xattrs = match wanted.filter(|wanted| old.is_some() || !wanted.xattrs.is_empty()) {
            Some(wanted) => {
                let wire = self.session.wire(&self.temp)?;
                Some(extended::put(&link, &wire, written.id, wanted).await?)
            }
            None => None,
        };
        if old.is_some() || xattrs.is_some() {
            // Durable is what was taken over or given, too.
            handle.ask(vec![wire::flush(handle.id)]).await?.done(0)?;
        }
        let name = self.path.split().map_or(&b""[..], |(_, name)| name);
        let kept = Facts::passed_on(old.as_ref(), name);
        let attributes = attrs.mode.map_or(kept, |mode| facts::with_mode(kept, mode));
        let basic = Basic {
            btime: old.as_ref().map_or(0, |old| old.btime.max(0)),
            atime: attrs.atime.map_or(0, facts::to_ticks),
            // Set, a time stays; else Samba may move it for seconds after the last write.
            mtime: attrs.mtime.map_or(written.mtime, facts::to_ticks),
            attributes: if attributes == 0 { facts::NORMAL } else { attributes },
        };
        let handle = self.handle.take().ok_or(ErrorKind::Protocol)?;
        let ops = vec![wire::set_basic(handle.id, basic), wire::query(CHAINED)];
        let finished = async {
            let mut answers = handle.finish(ops).await?;
            answers.done(0)?;
            answers.facts(1)
        };
        let facts = match finished.await {
            Ok(facts) => facts,
            Err(fail) => {
                if !discard_temp(&self.session, &self.temp, Some(written.id)).await {
                    discard_later(&self.session, &self.temp);
                }
                return Err(fail);
            }
        };
        let (session, path) = (self.session.clone(), self.path.clone());
        let attributes = basic.attributes;
        Ok(Ours { session, path, temp: self.temp.clone(), facts, attributes, xattrs })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (session, path, temp) =
                (self.session.clone(), self.path.clone(), self.temp.clone());
            runtime.spawn(async move {
                let handle = Some(handle);
                Upload { session, path, temp, handle, written: None }.abandon().await;
            });
        }
    }
}

/// A range in parts of so many bytes.
fn cut(range: Range<u64>, part_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let starts = (range.start..range.end).step_by(part_bytes as usize);
    starts.map(move |at| at..range.end.min(at + part_bytes))
}

/// All bytes of a file that is small and has no holes.
async fn small(source: &dyn Source) -> Result<Option<Bytes>, Stop> {
    let all = 0..source.size();
    if all.is_empty() || all.end > SMALL_BYTES || source.data() != [all.clone()] {
        return Ok(None);
    }
    let bytes = source.read(all.clone()).await.map_err(Stop::Source)?;
    match bytes.len() as u64 == all.end {
        true => Ok(Some(bytes)),
        false => Err(miscounted()),
    }
}

fn miscounted() -> Stop {
    Stop::Fail(Fail::saying(ErrorKind::Source, "the source gave another number of bytes"))
}

/// Whether what is at the place is what is expected, as it is before anything is sent. A small file is
/// sent anyhow: whether its name is free, its last step tells. (Samba looks through the whole
/// directory for each name that is not there.)
async fn may_be_placed(
    session: &Session,
    link: &Arc<Link>,
    path: &RemotePath,
    expect: Expect,
    is_small: bool,
) -> Outcome<()> {
    let is_new = match expect {
        Expect::Absent if is_small => session.has_none_aside(link, path).await?,
        Expect::Absent => session.seems_free(link, path).await?,
        Expect::Any | Expect::Version(_) => false,
    };
    let first = if is_new { None } else { seen(session, link, path).await? };
    check(first.as_ref(), expect)
}

async fn seen(session: &Session, link: &Arc<Link>, path: &RemotePath) -> Outcome<Option<Seen>> {
    match session.look(link, path).await {
        Ok(seen) => Ok(Some(seen)),
        Err(fail) if fail.kind == ErrorKind::NotFound => Ok(None),
        Err(fail) => Err(fail),
    }
}

/// What stands at the place is as expected, and no directory.
fn check(held: Option<&Seen>, expect: Expect) -> Outcome<()> {
    if expect != Expect::Absent && held.is_some_and(|held| held.facts.is_dir()) {
        return Err(ErrorKind::IsADirectory.into());
    }
    facts::check(held.map(|held| &held.facts), expect, ErrorKind::NotFound)
}

/// Removes a temporary file once there is a connection again.
fn discard_later(session: &Arc<Session>, temp: &RemotePath) {
    let (session, temp) = (session.clone(), temp.clone());
    tokio::spawn(async move {
        for _ in 0..LEFTOVER_TRIES {
            tokio::time::sleep(LEFTOVER_WAIT).await;
            if discard_temp(&session, &temp, None).await {
                return;
            }
        }
    });
}

/// Removes a temporary file; of a known number, only that one. Whether it is gone; what is not, is
/// removed at a start.
async fn discard_temp(session: &Arc<Session>, temp: &RemotePath, id: Option<u64>) -> bool {
    let removed = async {
        let link = session.link().await?;
        let (held, facts): (Handle, Facts) =
            super::place::hold(&link, &session.wire(temp)?).await?;
        match id.is_none_or(|id| id == facts.id) {
            true => super::place::discard(held, &facts).await,
            false => Ok(()),
        }
    };
    match removed.await {
        Err(fail) if fail.kind != ErrorKind::NotFound => {
            tracing::debug!(%temp, kind = ?fail.kind, "a temporary file stays");
            false
        }
        _ => true,
    }
}
