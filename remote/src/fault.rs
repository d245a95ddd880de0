//! A share on which things go wrong as planned: it wraps any other, for tests.
//!
//! Without rules it passes everything on and counts.

mod body;
mod plan;
mod told;

pub use plan::{Fault, Gate, Odds, Rule};

use crate::prng::Prng;
use crate::{
    Attrs, ByteStream, ChangeStream, Error, ErrorKind, Expect, Limits, Metadata, Page, PageToken,
    Remote, RemotePath, Result, ShareIdentity, Source, Usage, Version,
};
use async_trait::async_trait;
use body::{Trouble, TroubledSource, wrap_stream};
use plan::Plan;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Any share, with faults put before it.
pub struct FaultRemote {
    inner: Arc<dyn Remote>,
    plan: Arc<Mutex<Plan>>,
    requests: Mutex<BTreeMap<&'static str, u64>>,
    counts: Arc<Counts>,
    torn: Mutex<Vec<Vec<u8>>>,
}

/// What the bodies of requests share with the remote.
#[derive(Default)]
struct Counts {
    offline: AtomicBool,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    faults: AtomicU64,
}

impl Counts {
    fn is_offline(&self) -> bool {
        self.offline.load(Ordering::SeqCst)
    }
}

impl FaultRemote {
    /// `inner`, with nothing going wrong yet.
    pub fn new(inner: Arc<dyn Remote>) -> Self {
        FaultRemote {
            inner,
            plan: Arc::default(),
            requests: Mutex::default(),
            counts: Arc::default(),
            torn: Mutex::default(),
        }
    }

    /// Adds a rule; earlier ones come first.
    pub fn inject(&self, rule: Rule) {
        self.plan().rules.push(rule);
    }

    /// From now on listings are of no one moment, and lack these names, as if their files had moved
    /// meanwhile; none: as they were.
    pub fn tear(&self, names: &[&[u8]]) {
        let mut torn = self.torn.lock().unwrap_or_else(PoisonError::into_inner);
        *torn = names.iter().map(|name| name.to_vec()).collect();
    }

    /// Forgets all rules and chance.
    pub fn heal(&self) {
        *self.plan() = Plan::default();
    }

    /// From now on things also go wrong by chance; the same seed and requests, the same faults.
    pub fn randomly(&self, seed: u64, odds: Odds) {
        self.plan().chance = Some((Prng::seeded(seed), odds));
    }

    /// Switches the connection off or on: off, every request and body fails as `Unreachable`.
    pub fn offline(&self, offline: bool) {
        self.counts.offline.store(offline, Ordering::SeqCst);
    }

    /// How many requests of this operation were made, failed ones too.
    pub fn requests(&self, op: &str) -> u64 {
        self.counted().get(op).copied().unwrap_or(0)
    }

    /// How many requests met a fault or were slow, those while it was offline aside.
    pub fn faults(&self) -> u64 {
        self.counts.faults.load(Ordering::Relaxed)
    }

    /// How many requests were made at all.
    pub fn requests_all(&self) -> u64 {
        self.counted().values().sum()
    }

    /// Bytes that reads have handed out.
    pub fn bytes_read(&self) -> u64 {
        self.counts.bytes_read.load(Ordering::Relaxed)
    }

    /// Bytes that replaces have taken from their sources.
    pub fn bytes_written(&self) -> u64 {
        self.counts.bytes_written.load(Ordering::Relaxed)
    }

    /// Counts from zero again.
    pub fn reset_counts(&self) {
        self.counted().clear();
        self.counts.bytes_read.store(0, Ordering::Relaxed);
        self.counts.bytes_written.store(0, Ordering::Relaxed);
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the request and draws its fault.
    fn begin(&self, op: &'static str, paths: &[&RemotePath]) -> Result<Option<Fault>> {
        *self.counted().entry(op).or_default() += 1;
        if self.counts.is_offline() {
            return Err(Error::new(ErrorKind::Unreachable, op, paths[0]));
        }
        let fault = self.plan().draw(op, paths);
        if fault.is_some() {
            self.counts.faults.fetch_add(1, Ordering::Relaxed);
        }
        Ok(fault)
    }

    /// Makes a request without a body, with whatever is to go wrong.
    async fn pass<T>(
        &self,
        op: &'static str,
        paths: &[&RemotePath],
        request: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let fault = self.begin(op, paths)?;
        if let Some(Fault::Short { kind, .. }) = &fault {
            return Err(Error::new(*kind, op, paths[0]));
        }
        if let Some(Fault::Stall { gate, .. }) = &fault {
            gate.pass().await;
        }
        suffer(op, paths[0], fault, request).await
    }
}

/// Makes the request with what goes wrong around it; bodies are not its business.
async fn suffer<T>(
    op: &'static str,
    path: &RemotePath,
    fault: Option<Fault>,
    request: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    match fault {
        Some(Fault::Before(kind)) => Err(Error::new(kind, op, path)),
        Some(Fault::After(kind)) => {
            // Done or not, nobody learns of it.
            drop(request.await);
            Err(Error::new(kind, op, path))
        }
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            request.await
        }
        Some(Fault::Late(delay)) => {
            let answer = request.await;
            tokio::time::sleep(delay).await;
            answer
        }
        Some(Fault::Short { .. } | Fault::Stall { .. }) | None => request.await,
    }
}

#[async_trait]
impl Remote for FaultRemote {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    fn introduce(&self, cache_id: &str) {
        self.inner.introduce(cache_id);
    }

    async fn identity(&self) -> Result<ShareIdentity> {
        self.pass("identity", &[&RemotePath::root()], self.inner.identity()).await
    }

    async fn stat(&self, path: &RemotePath) -> Result<Metadata> {
        self.pass("stat", &[path], self.inner.stat(path)).await
    }

    async fn stat_with_xattrs(&self, path: &RemotePath) -> Result<Metadata> {
        self.pass("stat", &[path], self.inner.stat_with_xattrs(path)).await
    }

    async fn list(&self, dir: &RemotePath, after: Option<PageToken>) -> Result<Page> {
        let mut page = self.pass("list", &[dir], self.inner.list(dir, after)).await?;
        let torn = self.torn.lock().unwrap_or_else(PoisonError::into_inner);
        let count = page.entries.len();
        page.entries.retain(|(name, _)| !torn.contains(name));
        page.one_moment &= page.entries.len() == count && torn.is_empty();
        Ok(page)
    }

    async fn read(
        &self,
        path: &RemotePath,
        range: Range<u64>,
        version: &Version,
    ) -> Result<ByteStream> {
        let fault = self.begin("read", &[path])?;
        let trouble = Trouble::of(&fault);
        let stream = suffer("read", path, fault, self.inner.read(path, range, version)).await?;
        Ok(wrap_stream(stream, trouble, self.counts.clone(), path))
    }

    async fn replace(
        &self,
        path: &RemotePath,
        source: Arc<dyn Source>,
        expect: Expect,
        temp: &[u8],
    ) -> Result<Metadata> {
        let fault = self.begin("replace", &[path])?;
        let trouble = Mutex::new(Trouble::of(&fault));
        let counts = self.counts.clone();
        let source =
            Arc::new(TroubledSource { inner: source, trouble, counts, path: path.clone() });
        suffer("replace", path, fault, self.inner.replace(path, source, expect, temp)).await
    }

    async fn rename(
        &self,
        from: &RemotePath,
        version: &Version,
        to: &RemotePath,
        expect: Expect,
    ) -> Result<Metadata> {
        self.pass("rename", &[from, to], self.inner.rename(from, version, to, expect)).await
    }

    async fn remove(&self, path: &RemotePath, expect: Expect) -> Result<()> {
        self.pass("remove", &[path], self.inner.remove(path, expect)).await
    }

    async fn set_attrs(
        &self,
        path: &RemotePath,
        version: &Version,
        attrs: &Attrs,
    ) -> Result<Metadata> {
        self.pass("set_attrs", &[path], self.inner.set_attrs(path, version, attrs)).await
    }

    async fn create_dir(&self, path: &RemotePath, attrs: &Attrs) -> Result<Metadata> {
        self.pass("create_dir", &[path], self.inner.create_dir(path, attrs)).await
    }

    async fn symlink(&self, path: &RemotePath, target: &[u8], attrs: &Attrs) -> Result<Metadata> {
        self.pass("symlink", &[path], self.inner.symlink(path, target, attrs)).await
    }

    async fn unlock(&self, path: &RemotePath) -> Result<bool> {
        self.pass("unlock", &[path], self.inner.unlock(path)).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.pass("usage", &[&RemotePath::root()], self.inner.usage()).await
    }

    async fn watch(&self) -> Result<Option<ChangeStream>> {
        let inner = self.pass("watch", &[&RemotePath::root()], self.inner.watch()).await?;
        Ok(inner.map(|changes| told::troubled(changes, self.plan.clone(), self.counts.clone())))
    }
}
