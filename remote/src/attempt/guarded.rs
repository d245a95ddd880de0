//! Any share with every request made through `Attempts`: what the cache holds.

use super::{AttemptConfig, Attempts, CLASS, Class, Counters, Limit, Permit, Progress};
use super::{Repeat, Request};
use crate::{
    Attrs, ByteStream, ChangeStream, Error, ErrorKind, Expect, Limits, Metadata, Page, PageToken,
    Remote, RemotePath, Result, Round, ShareIdentity, Source, Usage, Version,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A share behind permits, deadlines and retries.
///
/// Reads are of users unless `in_background` says otherwise, changes of the background unless
/// `in_foreground` does. Changes whose outcome is unknown are never repeated (`Repeat::AskFirst`).
/// A read keeps its permit until its stream ends or is dropped.
pub struct Guarded {
    inner: Arc<dyn Remote>,
    attempts: Arc<Attempts>,
}

impl Guarded {
    /// `inner`, asked in the way of `config`.
    pub fn new(inner: Arc<dyn Remote>, config: AttemptConfig) -> Self {
        Guarded { inner, attempts: Arc::new(Attempts::new(config)) }
    }

    /// What was asked so far.
    pub fn counters(&self) -> Counters {
        self.attempts.counters()
    }

    fn request<'a>(
        &self,
        op: &'static str,
        path: &'a RemotePath,
        class: Class,
        repeat: Repeat,
    ) -> Request<'a> {
        let class = CLASS.try_with(|class| *class).unwrap_or(class);
        Request { op, path, deadline: self.attempts.config.timeout, class, repeat }
    }

    /// A request that only looks.
    async fn ask<T, Answer: Future<Output = Result<T>>>(
        &self,
        op: &'static str,
        path: &RemotePath,
        call: impl Fn() -> Answer,
    ) -> Result<T> {
        let request = self.request(op, path, Class::Interactive, Repeat::Safe);
        self.attempts.run(&request, |_| call()).await
    }

    /// A request that changes something.
    async fn change<T, Answer: Future<Output = Result<T>>>(
        &self,
        op: &'static str,
        path: &RemotePath,
        call: impl Fn() -> Answer,
    ) -> Result<T> {
        let request = self.request(op, path, Class::Background, Repeat::AskFirst);
        self.attempts.run(&request, |_| call()).await
    }

    /// The stream, each chunk of which must come in time; it keeps its permit.
    fn with_deadline(
        &self,
        stream: ByteStream,
        permit: Permit,
        deadline: Duration,
        path: &RemotePath,
    ) -> ByteStream {
        let (attempts, path) = (self.attempts.clone(), path.clone());
        stream::unfold(Some((stream, permit)), move |held| {
            let (attempts, path) = (attempts.clone(), path.clone());
            async move {
                let (mut stream, permit) = held?;
                let error = match tokio::time::timeout(deadline, stream.next()).await {
                    Ok(Some(Ok(chunk))) => return Some((Ok(chunk), Some((stream, permit)))),
                    Ok(Some(Err(error))) => error,
                    Ok(None) => return None,
                    Err(_) => Error::new(ErrorKind::Timeout, "read", &path),
                };
                Some((Err(attempts.failed(error)), None))
            }
        })
        .boxed()
    }
}

#[async_trait]
impl Remote for Guarded {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    fn introduce(&self, cache_id: &str) {
        self.inner.introduce(cache_id);
    }

    async fn identity(&self) -> Result<ShareIdentity> {
        self.ask("identity", &RemotePath::root(), || self.inner.identity()).await
    }

    async fn stat(&self, path: &RemotePath) -> Result<Metadata> {
        self.ask("stat", path, || self.inner.stat(path)).await
    }

    async fn stat_with_xattrs(&self, path: &RemotePath) -> Result<Metadata> {
        self.ask("stat", path, || self.inner.stat_with_xattrs(path)).await
    }

    async fn list(&self, dir: &RemotePath, after: Option<PageToken>) -> Result<Page> {
        self.ask("list", dir, || self.inner.list(dir, after.clone())).await
    }

    async fn read(
        &self,
        path: &RemotePath,
        range: Range<u64>,
        version: &Version,
    ) -> Result<ByteStream> {
        let request = self.request("read", path, Class::Interactive, Repeat::Safe);
        let limit = Limit::At(Instant::now() + request.deadline);
        let open = |_| self.inner.read(path, range.clone(), version);
        let may_repeat = |kind| request.repeat.allows(kind);
        let (stream, permit) = self.attempts.run_held(&request, &limit, may_repeat, open).await?;
        Ok(self.with_deadline(stream, permit, request.deadline, path))
    }

    async fn read_whole(&self, files: &[(RemotePath, Version)]) -> Vec<Result<Bytes>> {
        let Some((first, _)) = files.first() else { return Vec::new() };
        let asked = self.ask("read", first, || async { Ok(self.inner.read_whole(files).await) });
        asked.await.unwrap_or_else(|error| {
            files.iter().map(|(path, _)| Err(Error::new(error.kind, "read", path))).collect()
        })
    }

    async fn replace(
        &self,
        path: &RemotePath,
        source: Arc<dyn Source>,
        expect: Expect,
        temp: &[u8],
    ) -> Result<Metadata> {
        // Big files take as long as they take, as long as they move.
        let progress = Progress::new();
        let source = Arc::new(WatchedSource {
            inner: source,
            progress: progress.clone(),
            has_advanced: AtomicBool::new(false),
        });
        let request = self.request("replace", path, Class::Background, Repeat::AskFirst);
        let limit = Limit::Stalled(self.attempts.config.stall, progress);
        // A source that has told of changes cannot be read from its start again.
        let is_fresh = || !source.has_advanced.load(Ordering::Relaxed);
        let may_repeat = |kind| is_fresh() && request.repeat.allows(kind);
        let send = |_| self.inner.replace(path, source.clone(), expect, temp);
        let sent = self.attempts.run_held(&request, &limit, may_repeat, send).await;
        sent.map(|(metadata, _)| metadata)
    }

    async fn rename(
        &self,
        from: &RemotePath,
        version: &Version,
        to: &RemotePath,
        expect: Expect,
    ) -> Result<Metadata> {
        self.change("rename", from, || self.inner.rename(from, version, to, expect)).await
    }

    async fn remove(&self, path: &RemotePath, expect: Expect) -> Result<()> {
        self.change("remove", path, || self.inner.remove(path, expect)).await
    }

    async fn set_attrs(
        &self,
        path: &RemotePath,
        version: &Version,
        attrs: &Attrs,
    ) -> Result<Metadata> {
        self.change("set_attrs", path, || self.inner.set_attrs(path, version, attrs)).await
    }

    async fn create_dir(&self, path: &RemotePath, attrs: &Attrs) -> Result<Metadata> {
        self.change("create_dir", path, || self.inner.create_dir(path, attrs)).await
    }

    async fn symlink(&self, path: &RemotePath, target: &[u8], attrs: &Attrs) -> Result<Metadata> {
        self.change("symlink", path, || self.inner.symlink(path, target, attrs)).await
    }

    async fn unlock(&self, path: &RemotePath) -> Result<bool> {
        self.change("unlock", path, || self.inner.unlock(path)).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.ask("usage", &RemotePath::root(), || self.inner.usage()).await
    }

    async fn watch(&self) -> Result<Option<ChangeStream>> {
        self.ask("watch", &RemotePath::root(), || self.inner.watch()).await
    }
}

/// A source that notes when it was last asked and when it answered.
struct WatchedSource {
    inner: Arc<dyn Source>,
    progress: Arc<Progress>,
    /// Whether `next_round` was asked.
    has_advanced: AtomicBool,
}

#[async_trait]
impl Source for WatchedSource {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn data(&self) -> Vec<Range<u64>> {
        self.inner.data()
    }

    fn is_unchanged(&self, range: &Range<u64>) -> bool {
        self.progress.note();
        self.inner.is_unchanged(range)
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.progress.note();
        let bytes = self.inner.read(range).await;
        self.progress.note();
        bytes
    }

    async fn next_round(&self) -> Result<Round> {
        self.has_advanced.store(true, Ordering::Relaxed);
        self.progress.note();
        let round = self.inner.next_round().await;
        self.progress.note();
        round
    }
}
