//! Opening the share that a name says, and going on where it cannot be reached yet.

use crate::place;
use crate::share::Share;
use anyhow::{Result, bail};
use async_trait::async_trait;
use covefs_cache::Config;
use covefs_remote::local::LocalRemote;
use covefs_remote::{
    Attrs, ByteStream, Error, ErrorKind, Expect, Limits, Metadata, NameRule, Page, PageToken,
    Remote, RemotePath, ShareIdentity, Source, Usage, Version,
};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

/// A directory on a disk that hangs is as good as unreachable.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries to open a share that was not there.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Opens the share. Out of reach, it is an error without an earlier cache, and opened later with
/// one (U4).
pub(crate) async fn open(share: &Share, config: &Config) -> Result<Arc<dyn Remote>> {
    let Share::Dir(path) = share;
    let late = LateDir::new(path.clone());
    if let Err(error) = late.opened("open", &RemotePath::root()).await {
        if !error.kind.is_offline() || !place::is_cache(&config.cache_dir) {
            bail!("the share {} cannot be used: {error}", config.share);
        }
        tracing::warn!(%error, "the share cannot be reached yet");
    }
    Ok(Arc::new(late))
}

/// A directory that may appear later: a disk that is not mounted yet. Until then every request
/// says that the share is unreachable.
struct LateDir {
    path: PathBuf,
    dir: OnceCell<LocalRemote>,
    /// When it was tried last; held while it is tried.
    tried: Mutex<Option<Instant>>,
    unknown: Limits,
}

impl LateDir {
    fn new(path: PathBuf) -> LateDir {
        // What a Linux disk can do; a share that cannot refuses by itself.
        let unknown = Limits {
            part_bytes: 4 << 20,
            page_entries: 1000,
            names: NameRule::Bytes,
            name_bytes_max: 255,
            case_sensitive: true,
            has_modes: true,
            has_symlinks: true,
            has_xattrs: true,
            exchange: false,
        };
        LateDir { path, dir: OnceCell::new(), tried: Mutex::new(None), unknown }
    }

    async fn opened(
        &self,
        op: &'static str,
        path: &RemotePath,
    ) -> covefs_remote::Result<&LocalRemote> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        let unreachable = || Error::new(ErrorKind::Unreachable, op, path);
        let mut tried = self.tried.lock().await;
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        if tried.is_some_and(|at| at.elapsed() < TRY_EVERY) {
            return Err(unreachable().caused_by("it is not there"));
        }
        let opened = open_dir(&self.path).await.unwrap_or_else(|| {
            Err(unreachable().caused_by("the disk of the share does not answer"))
        });
        *tried = Some(Instant::now());
        let dir = opened?;
        Ok(self.dir.get_or_init(|| std::future::ready(dir)).await)
    }
}

async fn open_dir(path: &Path) -> Option<covefs_remote::Result<LocalRemote>> {
    let path = path.to_path_buf();
    let opening = tokio::task::spawn_blocking(move || LocalRemote::open(path));
    tokio::time::timeout(OPEN_WITHIN, opening).await.ok()?.ok()
}

#[async_trait]
impl Remote for LateDir {
    fn limits(&self) -> &Limits {
        self.dir.get().map_or(&self.unknown, |dir| dir.limits())
    }

    async fn identity(&self) -> covefs_remote::Result<ShareIdentity> {
        self.opened("identity", &RemotePath::root()).await?.identity().await
    }

    async fn stat(&self, path: &RemotePath) -> covefs_remote::Result<Metadata> {
        self.opened("stat", path).await?.stat(path).await
    }

    async fn list(
        &self,
        dir: &RemotePath,
        after: Option<PageToken>,
    ) -> covefs_remote::Result<Page> {
        self.opened("list", dir).await?.list(dir, after).await
    }

    async fn read(
        &self,
        path: &RemotePath,
        range: Range<u64>,
        version: &Version,
    ) -> covefs_remote::Result<ByteStream> {
        self.opened("read", path).await?.read(path, range, version).await
    }

    async fn replace(
        &self,
        path: &RemotePath,
        source: Arc<dyn Source>,
        expect: Expect,
        temp: &[u8],
    ) -> covefs_remote::Result<Metadata> {
        self.opened("replace", path).await?.replace(path, source, expect, temp).await
    }

    async fn rename(
        &self,
        from: &RemotePath,
        version: &Version,
        to: &RemotePath,
        expect: Expect,
    ) -> covefs_remote::Result<Metadata> {
        self.opened("rename", from).await?.rename(from, version, to, expect).await
    }

    async fn remove(&self, path: &RemotePath, expect: Expect) -> covefs_remote::Result<()> {
        self.opened("remove", path).await?.remove(path, expect).await
    }

    async fn set_attrs(
        &self,
        path: &RemotePath,
        version: &Version,
        attrs: &Attrs,
    ) -> covefs_remote::Result<Metadata> {
        self.opened("set attributes", path).await?.set_attrs(path, version, attrs).await
    }

    async fn create_dir(
        &self,
        path: &RemotePath,
        attrs: &Attrs,
    ) -> covefs_remote::Result<Metadata> {
        self.opened("create directory", path).await?.create_dir(path, attrs).await
    }

    async fn symlink(
        &self,
        path: &RemotePath,
        target: &[u8],
        attrs: &Attrs,
    ) -> covefs_remote::Result<Metadata> {
        self.opened("symlink", path).await?.symlink(path, target, attrs).await
    }

    async fn usage(&self) -> covefs_remote::Result<Usage> {
        self.opened("usage", &RemotePath::root()).await?.usage().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_may_appear_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let late = LateDir::new(path.clone());
        let root = RemotePath::root();
        assert!(late.stat(&root).await.unwrap_err().kind.is_offline());
        std::fs::create_dir(&path).unwrap();
        assert!(late.stat(&root).await.unwrap_err().kind.is_offline(), "tried again too soon");
        *late.tried.lock().await = None;
        late.stat(&root).await.unwrap();
        late.identity().await.unwrap();
    }
}
