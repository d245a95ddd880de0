//! Bodies that break off or stop: the stream of a read, the source of a replace.

use super::{Counts, Fault, Gate};
use crate::{ByteStream, Error, ErrorKind, RemotePath, Result, Round, Source};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// What happens to a body, and after how many bytes.
#[derive(Clone)]
pub(super) enum Trouble {
    None,
    Short { bytes: u64, kind: ErrorKind },
    Stall { bytes: u64, gate: Gate },
}

impl Trouble {
    /// What is left for the body once the request itself was let through.
    pub(super) fn of(fault: &Option<Fault>) -> Self {
        match fault {
            Some(Fault::Short { bytes, kind }) => Trouble::Short { bytes: *bytes, kind: *kind },
            Some(Fault::Stall { bytes, gate }) => {
                Trouble::Stall { bytes: *bytes, gate: gate.clone() }
            }
            Some(Fault::Before(_) | Fault::After(_) | Fault::Delay(_) | Fault::Late(_)) | None => {
                Trouble::None
            }
        }
    }

    /// How many of the `len` bytes next may pass now; waits at the gate.
    async fn admit(&mut self, len: u64) -> std::result::Result<u64, ErrorKind> {
        match self {
            Trouble::None => Ok(len),
            Trouble::Short { bytes: 0, kind } => Err(*kind),
            Trouble::Stall { bytes: 0, gate } => {
                gate.pass().await;
                *self = Trouble::None;
                Ok(len)
            }
            Trouble::Short { bytes, .. } | Trouble::Stall { bytes, .. } => {
                let passed = len.min(*bytes);
                *bytes -= passed;
                Ok(passed)
            }
        }
    }
}

struct Body {
    stream: ByteStream,
    held: Bytes,
    trouble: Trouble,
    counts: Arc<Counts>,
    path: RemotePath,
    ended: bool,
}

/// The stream, with its trouble; each chunk of it is counted, and fails once the share is offline.
pub(super) fn wrap_stream(
    stream: ByteStream,
    trouble: Trouble,
    counts: Arc<Counts>,
    path: &RemotePath,
) -> ByteStream {
    let held = Bytes::new();
    let body = Body { stream, held, trouble, counts, path: path.clone(), ended: false };
    stream::unfold(body, |mut body| async {
        if body.ended {
            return None;
        }
        let chunk = body.next().await?;
        body.ended = chunk.is_err();
        Some((chunk, body))
    })
    .boxed()
}

impl Body {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.counts.is_offline() {
            return Some(Err(Error::new(ErrorKind::Unreachable, "read", &self.path)));
        }
        if self.held.is_empty() {
            match self.stream.next().await {
                Some(Ok(chunk)) => self.held = chunk,
                other => return other,
            }
        }
        match self.trouble.admit(self.held.len() as u64).await {
            Ok(passed) => {
                self.counts.bytes_read.fetch_add(passed, Ordering::Relaxed);
                Some(Ok(self.held.split_to(passed as usize)))
            }
            Err(kind) => Some(Err(Error::new(kind, "read", &self.path))),
        }
    }
}

/// A source, with its trouble.
pub(super) struct TroubledSource {
    pub(super) inner: Arc<dyn Source>,
    pub(super) trouble: Mutex<Trouble>,
    pub(super) counts: Arc<Counts>,
    pub(super) path: RemotePath,
}

#[async_trait]
impl Source for TroubledSource {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn data(&self) -> Vec<Range<u64>> {
        self.inner.data()
    }

    fn is_unchanged(&self, range: &Range<u64>) -> bool {
        self.inner.is_unchanged(range)
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if self.counts.is_offline() {
            return Err(Error::new(ErrorKind::Unreachable, "replace", &self.path));
        }
        let wanted = range.end - range.start;
        // The source is read by one upload, part after part: nobody else waits for the trouble.
        let lock = || self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let mut trouble = lock().clone();
        let mut passed = 0;
        while passed < wanted {
            passed += trouble
                .admit(wanted - passed)
                .await
                .map_err(|kind| Error::new(kind, "replace", &self.path))?;
        }
        *lock() = trouble;
        self.counts.bytes_written.fetch_add(wanted, Ordering::Relaxed);
        self.inner.read(range).await
    }

    async fn next_round(&self) -> Result<Round> {
        self.inner.next_round().await
    }
}
