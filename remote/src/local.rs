//! A directory as a share: the default for a demo, a mounted disk or an NFS export.
//!
//! - Every operation first verifies that the root is still the one that was opened (`root`, X1),
//!   and reaches entries only below it (`resolve`).
//! - Nothing on the share is overwritten or unlinked unless it was compared after it had been
//!   taken out of everybody's reach (`swap`, X5).
//! - Disk calls run on tokio's blocking pool, a bounded number at a time: a disk that hangs takes
//!   no more threads than that, then requests fail with `Timeout` (K3).
//! - A request whose future is dropped may still be carried out, as far as its present step.

mod change;
mod fail;
mod list;
mod node;
mod probe;
mod read;
mod resolve;
mod root;
mod stat;
mod swap;
mod turn;
mod upload;
#[cfg(target_os = "linux")]
mod watch;
#[cfg(not(target_os = "linux"))]
#[path = "local/unwatched.rs"]
mod watch;
mod xattr;

use crate::{
    Attrs, ByteStream, ChangeStream, Error, ErrorKind, Expect, Limits, Metadata, Page, PageToken,
    Remote, RemotePath, Result, Round, ShareIdentity, Source, Usage, Version,
};
use async_trait::async_trait;
use change::Rename;
use fail::Outcome;
use futures_util::stream::{self, StreamExt};
use list::Rest;
use read::{CHUNK_BYTES, Reading};
use root::{Root, View};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use upload::Upload;
use watch::Watchers;

/// Disk calls at a time: enough to keep a disk or an NFS server busy, few enough to hang.
const THREADS_MAX: usize = 32;

/// The longest wait for one of them: a third of what a foreground request has.
const THREAD_WAIT: Duration = Duration::from_secs(10);

/// A share in a directory of this host.
pub struct LocalRemote {
    limits: Limits,
    disk: Disk,
    /// Whoever watches: each listing arms for them what it lists.
    watchers: Watchers,
}

/// The way to the disk: a bounded number of blocking threads.
#[derive(Clone)]
struct Disk {
    root: Arc<Root>,
    threads: Arc<Semaphore>,
}

impl LocalRemote {
    /// Opens an existing directory; looks what its file system can do, with two short-lived files
    /// where it may. Blocks on the disk.
    pub fn open(root: PathBuf) -> Result<LocalRemote> {
        LocalRemote::open_only(root, None)
    }

    /// The same for the directory of this identity only: any other one is left untouched, and is
    /// `IdentityChanged` (X1).
    pub fn open_known(root: PathBuf, known: &ShareIdentity) -> Result<LocalRemote> {
        LocalRemote::open_only(root, Some(known))
    }

    /// Which directory was opened, whatever stands in its place now.
    pub fn root_identity(&self) -> &ShareIdentity {
        self.disk.root.identity()
    }

    fn open_only(root: PathBuf, known: Option<&ShareIdentity>) -> Result<LocalRemote> {
        let opened = Root::open(root, known).and_then(|root| {
            let limits = probe::limits(&root.enter()?)?;
            let threads = Arc::new(Semaphore::new(THREADS_MAX));
            let disk = Disk { root: Arc::new(root), threads };
            Ok(LocalRemote { limits, disk, watchers: Watchers::default() })
        });
        opened.map_err(|fail| fail.into_error("open", &RemotePath::root()))
    }
}

impl Disk {
    /// Runs `call` on a blocking thread.
    async fn block<T: Send + 'static>(
        &self,
        op: &'static str,
        path: &RemotePath,
        call: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        let threads = self.threads.clone().acquire_owned();
        let permit = match tokio::time::timeout(THREAD_WAIT, threads).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => {
                return Err(Error::new(ErrorKind::Timeout, op, path).caused_by("the disk hangs"));
            }
        };
        let done = tokio::task::spawn_blocking(move || {
            // Held by the thread, not by the caller: it is the thread that is bounded.
            let _permit = permit;
            call()
        });
        match done.await {
            Ok(done) => done.map_err(|fail| fail.into_error(op, path)),
            Err(error) => Err(Error::new(ErrorKind::Io, op, path).caused_by(error)),
        }
    }

    /// The same, below the verified root.
    async fn enter<T: Send + 'static>(
        &self,
        op: &'static str,
        path: &RemotePath,
        call: impl FnOnce(&View, &RemotePath) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        let (root, owned) = (self.root.clone(), path.clone());
        self.block(op, path, move || call(&root.enter()?, &owned)).await
    }

    /// One step of an upload.
    async fn step(
        &self,
        path: &RemotePath,
        upload: &Arc<Upload>,
        call: impl FnOnce(&Upload) -> Outcome<()> + Send + 'static,
    ) -> Result<()> {
        let upload = upload.clone();
        self.block("replace", path, move || call(&upload)).await
    }

    /// Sends all of `source` until it settles, and puts it in place.
    async fn send(
        &self,
        path: &RemotePath,
        upload: &Arc<Upload>,
        source: &dyn Source,
        start: (u64, Vec<Range<u64>>),
        expect: Expect,
    ) -> Result<Metadata> {
        let (mut size, mut ranges) = start;
        loop {
            for range in ranges {
                self.fill(path, upload, source, range.start..range.end.min(size)).await?;
            }
            match source.next_round().await? {
                Round::Resend { size: now, ranges: again } => {
                    (size, ranges) = (now, again);
                    self.step(path, upload, move |upload| upload.resize(now)).await?;
                }
                Round::Settled(attrs) => {
                    let upload = upload.clone();
                    let finish = move |view: &View, path: &RemotePath| {
                        upload.finish(view, path, expect, &attrs)
                    };
                    return self.enter("replace", path, finish).await;
                }
            }
        }
    }

    /// Writes this range of `source`, part by part.
    async fn fill(
        &self,
        path: &RemotePath,
        upload: &Arc<Upload>,
        source: &dyn Source,
        range: Range<u64>,
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let part = at..range.end.min(at + CHUNK_BYTES);
            at = part.end;
            let bytes = source.read(part.clone()).await?;
            if bytes.len() as u64 != part.end - part.start {
                let error = Error::new(ErrorKind::Source, "replace", path);
                return Err(error.caused_by("the source gave another number of bytes"));
            }
            self.step(path, upload, move |upload| upload.write(&bytes, part.start)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Remote for LocalRemote {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn introduce(&self, _cache_id: &str) {}

    async fn identity(&self) -> Result<ShareIdentity> {
        let root = self.disk.root.clone();
        self.disk.block("identity", &RemotePath::root(), move || root.identity_now()).await
    }

    async fn stat(&self, path: &RemotePath) -> Result<Metadata> {
        self.disk.enter("stat", path, stat::stat).await
    }

    async fn list(&self, dir: &RemotePath, after: Option<PageToken>) -> Result<Page> {
        let after = match &after {
            Some(PageToken(token)) => Some(
                token
                    .downcast_ref::<Rest>()
                    .cloned()
                    .ok_or_else(|| Error::new(ErrorKind::Protocol, "list", dir))?,
            ),
            None => None,
        };
        let watchers = self.watchers.clone();
        let list = move |view: &View, dir: &RemotePath| list::list(view, dir, after, &watchers);
        let (entries, rest) = self.disk.enter("list", dir, list).await?;
        Ok(Page { entries, next: rest.map(|rest| PageToken(Arc::new(rest))), one_moment: true })
    }

    async fn read(
        &self,
        path: &RemotePath,
        range: Range<u64>,
        version: &Version,
    ) -> Result<ByteStream> {
        let version = *version;
        // The first chunk comes with the opening: most reads are no longer than one.
        let open = move |view: &View, path: &RemotePath| {
            let mut reading = Reading::open(view, path, range, &version)?;
            let first = reading.next()?;
            Ok((reading, first))
        };
        let (reading, first) = self.disk.enter("read", path, open).await?;
        let (disk, path) = (self.disk.clone(), path.clone());
        let rest = stream::unfold(Some(reading), move |reading| {
            let (disk, path) = (disk.clone(), path.clone());
            async move {
                let mut reading = reading.filter(|reading| !reading.is_done())?;
                let next = move || reading.next().map(|bytes| (bytes, reading));
                Some(match disk.block("read", &path, next).await {
                    Ok((bytes, reading)) => (Ok(bytes), Some(reading)),
                    Err(error) => (Err(error), None),
                })
            }
        });
        let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
        Ok(first.chain(rest).boxed())
    }

    async fn replace(
        &self,
        path: &RemotePath,
        source: Arc<dyn Source>,
        expect: Expect,
        temp: &[u8],
    ) -> Result<Metadata> {
        let (size, ranges) = (source.size(), source.data());
        let temp = temp.to_vec();
        let begin =
            move |view: &View, path: &RemotePath| Upload::begin(view, path, &temp, expect, size);
        let upload = Arc::new(self.disk.enter("replace", path, begin).await?);
        let sent = self.disk.send(path, &upload, &*source, (size, ranges), expect).await;
        if sent.is_err() {
            // The error that counts is the first one.
            let _ = self.disk.step(path, &upload, Upload::abandon).await;
        }
        sent
    }

    async fn rename(
        &self,
        from: &RemotePath,
        version: &Version,
        to: &RemotePath,
        expect: Expect,
    ) -> Result<Metadata> {
        let folds_case = !self.limits.case_sensitive;
        let (version, to) = (*version, to.clone());
        let rename = move |view: &View, from: &RemotePath| {
            let from = from.clone();
            change::rename(view, &Rename { from, version, to, expect, folds_case })
        };
        self.disk.enter("rename", from, rename).await
    }

    async fn remove(&self, path: &RemotePath, expect: Expect) -> Result<()> {
        self.disk.enter("remove", path, move |view, path| change::remove(view, path, expect)).await
    }

    async fn set_attrs(
        &self,
        path: &RemotePath,
        version: &Version,
        attrs: &Attrs,
    ) -> Result<Metadata> {
        let (version, attrs) = (*version, attrs.clone());
        let set =
            move |view: &View, path: &RemotePath| change::set_attrs(view, path, &version, &attrs);
        self.disk.enter("set_attrs", path, set).await
    }

    async fn create_dir(&self, path: &RemotePath, attrs: &Attrs) -> Result<Metadata> {
        let attrs = attrs.clone();
        let create = move |view: &View, path: &RemotePath| change::create_dir(view, path, &attrs);
        self.disk.enter("create_dir", path, create).await
    }

    async fn symlink(&self, path: &RemotePath, target: &[u8], attrs: &Attrs) -> Result<Metadata> {
        let (target, attrs) = (target.to_vec(), attrs.clone());
        let create =
            move |view: &View, path: &RemotePath| change::symlink(view, path, &target, &attrs);
        self.disk.enter("symlink", path, create).await
    }

    async fn unlock(&self, path: &RemotePath) -> Result<bool> {
        Err(Error::new(ErrorKind::Unsupported, "unlock", path))
    }

    async fn usage(&self) -> Result<Usage> {
        self.disk.enter("usage", &RemotePath::root(), |view, _| probe::usage(view)).await
    }

    async fn watch(&self) -> Result<Option<ChangeStream>> {
        Ok(self.watchers.stream())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hung_disk_takes_so_many_threads_and_no_more() {
        // rule K3
        let dir = tempfile::tempdir().unwrap();
        let share = LocalRemote::open(dir.path().to_path_buf()).unwrap();
        let root = RemotePath::root();
        let (hang, hung) = std::sync::mpsc::channel::<()>();
        let hung = Arc::new(std::sync::Mutex::new(hung));
        let mut stuck = Vec::new();
        for _ in 0..THREADS_MAX {
            let (disk, hung, root) = (share.disk.clone(), hung.clone(), root.clone());
            stuck.push(tokio::spawn(async move {
                let call = move || {
                    let _ = hung.lock().unwrap().recv();
                    Ok(())
                };
                disk.block("stat", &root, call).await
            }));
        }
        while share.disk.threads.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let (late, ()) = tokio::join!(share.stat(&root), async {
            tokio::task::yield_now().await;
            tokio::time::advance(THREAD_WAIT).await;
        });
        assert_eq!(late.unwrap_err().kind, ErrorKind::Timeout);
        drop(hang);
        for stuck in stuck {
            stuck.await.unwrap().unwrap();
        }
        share.stat(&root).await.unwrap();
    }
}
