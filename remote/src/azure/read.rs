//! Reading a file: ranges of exactly one content, or an error.
//!
//! An answer's headers are of the moment when it began, and whether a writer can get in between
//! its bytes nobody promises. So a part is passed on only after the service said once more, when
//! all of it was here, that the file is as it was at the start. In one place this holds too little:
//! somebody who writes bytes and sets the old time again is seen by the ETag alone, which also
//! moves with every attribute; such a part is read again.

use super::facts::{Facts, Shape};
use super::fail::{self, Code};
use super::http::{self, Call, Scope};
use super::posix::Posix;
use super::share::{Share, is_gone, no_sense};
use crate::{ByteStream, ContentMark, Error, ErrorKind, Kind, RemotePath, Result, Version};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt};
use reqwest::Method;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

/// Bytes of one request: two round trips for each are little beside them, and on a line of
/// 1 Mbit/s one comes within a request's 30 seconds.
const PART_BYTES: u64 = 2 << 20;

/// Reads of a part whose file changes all the time.
const TRIES: usize = 4;

/// Parts of one read under way: the bytes of the next one come while the service is asked about the
/// one before.
const PARTS: usize = 2;

/// What is read.
struct Reading {
    share: Arc<Share>,
    path: RemotePath,
    mark: ContentMark,
}

/// The bytes of `range` of the content that `version` names. The first part comes with the call.
pub(super) async fn read(
    share: &Arc<Share>,
    path: &RemotePath,
    range: Range<u64>,
    version: &Version,
) -> Result<ByteStream> {
    let end = range.end.min(version.content.size);
    let start = range.start.min(end);
    let (share, path, mark) = (share.clone(), path.clone(), version.content);
    let reading = Arc::new(Reading { share, path, mark });
    if start == end {
        let facts = reading.share.look("read", &reading.path).await?;
        reading.check(&facts)?;
        return Ok(stream::empty().boxed());
    }
    // The bytes of one part come after those of the one before.
    let (_, mut turn) = oneshot::channel();
    let parts = (start..end).step_by(PART_BYTES as usize).map(move |start| {
        let (begun, part) = (reading.clone(), start..end.min(start + PART_BYTES));
        let (done, next) = oneshot::channel();
        let turn = std::mem::replace(&mut turn, next);
        // A task: who stores one part does not hold up the next one in the middle.
        let whole = AbortOnDropHandle::new(tokio::spawn(async move {
            // It ends by being dropped.
            let _ = turn.await;
            begun.whole(part, done).await
        }));
        let reading = reading.clone();
        async move { whole.await.unwrap_or_else(|error| Err(reading.broken(error))) }
    });
    let mut parts = stream::iter(parts).buffered(PARTS).boxed();
    let first = match parts.next().await {
        Some(first) => first?,
        None => return Ok(parts),
    };
    Ok(stream::iter([Ok(first)]).chain(parts).boxed())
}

impl Reading {
    /// One part, as it was before and after; says when its bytes have come.
    async fn whole(&self, part: Range<u64>, done: oneshot::Sender<()>) -> Result<Bytes> {
        let mut done = Some(done);
        for _ in 0..TRIES {
            let (bytes, before) = self.part(&part).await?;
            drop(done.take());
            let after = self.now().await?;
            if before.etag == after.etag {
                return Ok(bytes);
            }
        }
        let error = Error::new(ErrorKind::Busy, "read", &self.path);
        Err(error.caused_by("the file changes all the time"))
    }

    fn broken(&self, error: JoinError) -> Error {
        Error::new(ErrorKind::Io, "read", &self.path).caused_by(error)
    }

    /// One part, and what the file was when its bytes began to come.
    async fn part(&self, part: &Range<u64>) -> Result<(Bytes, Facts)> {
        let call = Call::new(Method::GET, Scope::File, "read", &self.path)
            .header("x-ms-range", &format!("bytes={}-{}", part.start, part.end - 1));
        let mut response = match self.share.http.open(&call).await {
            Ok(response) => response,
            Err(error) => return Err(self.not_read(error).await),
        };
        let headers = response.headers();
        // "bytes 0-9/1234"
        let range = headers.get("content-range").and_then(|text| text.to_str().ok());
        let size = range.and_then(|text| text.rsplit_once('/')?.1.parse().ok());
        let facts = size.and_then(|size| Facts::of_headers(headers, Shape::File, size));
        let facts = facts.ok_or_else(|| no_sense("read", &self.path))?;
        self.check(&facts)?;
        let wanted = (part.end - part.start) as usize;
        let mut bytes = BytesMut::with_capacity(wanted);
        while bytes.len() <= wanted {
            match response.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Err(http::lost(&call, &error)),
            }
        }
        if bytes.len() != wanted {
            let error = Error::new(ErrorKind::Unreachable, "read", &self.path);
            return Err(error.caused_by("the answer was cut off"));
        }
        Ok((bytes.freeze(), facts))
    }

    /// What the file is now.
    async fn now(&self) -> Result<Facts> {
        let found = self.share.file("read", &self.path).await;
        let facts = match self.share.witnessed(&self.path, found).await {
            // It had just been there: its name went to something else.
            Err(error) if is_gone(&error) => {
                Err(Error { kind: ErrorKind::VersionChanged, ..error })
            }
            found => found,
        }?;
        self.check(&facts)?;
        Ok(facts)
    }

    /// Whether it is the content that was asked for.
    fn check(&self, facts: &Facts) -> Result<()> {
        if facts.shape == Shape::Dir {
            return Err(Error::new(ErrorKind::IsADirectory, "read", &self.path));
        }
        let kind = Posix::of(facts).metadata(facts, &self.share.defaults).kind;
        match kind == Kind::File && facts.version().content == self.mark {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::VersionChanged, "read", &self.path)),
        }
    }

    /// What a refused read says of the entry.
    async fn not_read(&self, error: Error) -> Error {
        match fail::code(&error) {
            // Shorter than it should be.
            Some(Code::InvalidRange) => Error::new(ErrorKind::VersionChanged, "read", &self.path),
            Some(Code::ResourceNotFound | Code::ParentNotFound | Code::ResourceTypeMismatch) => {
                match self.share.look("read", &self.path).await {
                    Ok(facts) => self.check(&facts).err().unwrap_or_else(|| {
                        // There again.
                        Error { kind: ErrorKind::Busy, ..error }
                    }),
                    Err(missing) => missing,
                }
            }
            _ => error,
        }
    }
}
