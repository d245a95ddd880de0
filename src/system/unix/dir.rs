//! A directory as a share, and going on where it is not there yet.

use crate::place;
use anyhow::{Result, bail};
use async_trait::async_trait;
use covefs_cache::{Config, StartError};
use covefs_remote::local::LocalRemote;
use covefs_remote::{
    Attrs, ByteStream, ChangeStream, Error, ErrorKind, Expect, Limits, Metadata, NameRule, Page,
    PageToken, Remote, RemotePath, ShareIdentity, Source, Usage, Version, XattrRule,
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

/// Opens it. Out of reach, it is an error without an earlier cache; with one it is opened later (U4).
pub(crate) async fn open(
    path: &Path,
    config: &Config,
    note: &mut dyn FnMut(String),
) -> Result<Arc<dyn Remote>> {
    let dir = &config.cache_dir;
    let earlier = place::earlier(dir);
    let known = earlier.as_ref().and_then(|earlier| earlier.identity.clone());
    let late = LateDir::new(path.to_path_buf(), known);
    let Err(error) = late.opened("open", &RemotePath::root()).await else {
        return Ok(Arc::new(late));
    };
    let is_another = error.kind == ErrorKind::IdentityChanged;
    match earlier {
        Some(earlier) if is_another && earlier.share != config.share => {
            return Err(StartError::OtherShare { dir: dir.clone(), theirs: earlier.share }.into());
        }
        _ if !error.kind.is_offline() || !place::is_cache(dir) => {
            bail!("the share {} cannot be used: {error}", config.share);
        }
        _ => {}
    }
    tracing::warn!(%error, "the share cannot be reached yet");
    if is_another {
        note(format!(
            "at {} is not the directory that the cache was made for: a disk that is not mounted, \
             or a new directory; for a new one give another --cache-dir than {}",
            path.display(),
            dir.display()
        ));
    }
    Ok(Arc::new(late))
}

/// A directory that may appear later: a disk that is not mounted yet. Until then every request
/// says that the share is unreachable; or `IdentityChanged`, where it is known which directory it
/// has to be and another one stands there (X1).
///
/// Once opened it stays open, whatever stands in its place for a while: `LocalRemote` looks before
/// every request, and what it holds open keeps the inode's number from going to a directory that
/// is made anew.
struct LateDir {
    path: PathBuf,
    /// The identity that the cache was made for; none in a new cache.
    known: Option<ShareIdentity>,
    dir: OnceCell<LocalRemote>,
    /// The last try; held while it is tried.
    tried: Mutex<Option<Tried>>,
    unknown: Limits,
}

/// A try to open the directory that failed.
struct Tried {
    at: Instant,
    kind: ErrorKind,
    reason: String,
}

impl LateDir {
    fn new(path: PathBuf, known: Option<ShareIdentity>) -> LateDir {
        // What a Linux disk can do; a share that cannot refuses by itself.
        let unknown = Limits {
            part_bytes: 4 << 20,
            page_entries: 1000,
            names: NameRule::Bytes,
            name_bytes_max: 255,
            path_max: None,
            case_sensitive: true,
            has_modes: true,
            has_symlinks: true,
            xattrs: XattrRule::Any,
            exchange: false,
            quick_stat: true,
            whole_files: 1,
            read_only: false,
        };
        LateDir { path, known, dir: OnceCell::new(), tried: Mutex::new(None), unknown }
    }

    async fn opened(
        &self,
        op: &'static str,
        path: &RemotePath,
    ) -> covefs_remote::Result<&LocalRemote> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        let mut tried = self.tried.lock().await;
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        let failed = match tried.take() {
            Some(last) if last.at.elapsed() < TRY_EVERY => last,
            _ => match open_once(&self.path, self.known.clone()).await {
                Ok(dir) => return Ok(self.dir.get_or_init(|| std::future::ready(dir)).await),
                Err(failed) => failed,
            },
        };
        let error = Error::new(failed.kind, op, path).caused_by(failed.reason.clone());
        *tried = Some(failed);
        Err(error)
    }
}

async fn open_once(
    path: &Path,
    known: Option<ShareIdentity>,
) -> std::result::Result<LocalRemote, Tried> {
    let path = path.to_path_buf();
    let opening = tokio::task::spawn_blocking(move || match known {
        Some(known) => LocalRemote::open_known(path, &known),
        None => LocalRemote::open(path),
    });
    let (kind, reason) = match tokio::time::timeout(OPEN_WITHIN, opening).await {
        Ok(Ok(Ok(dir))) => return Ok(dir),
        Ok(Ok(Err(error))) => {
            (error.kind, error.source.map_or_else(|| "it is not there".into(), |s| s.to_string()))
        }
        Ok(Err(_)) | Err(_) => {
            (ErrorKind::Unreachable, "the disk of the share does not answer".into())
        }
    };
    Err(Tried { at: Instant::now(), kind, reason })
}

#[async_trait]
impl Remote for LateDir {
    fn limits(&self) -> &Limits {
        self.dir.get().map_or(&self.unknown, |dir| dir.limits())
    }

    /// Leases are Azure's.
    fn introduce(&self, _cache_id: &str) {}

    async fn identity(&self) -> covefs_remote::Result<ShareIdentity> {
        let dir = self.opened("identity", &RemotePath::root()).await?;
        let found = dir.identity().await?;
        if found == *dir.root_identity() {
            return Ok(found);
        }
        let error = Error::new(ErrorKind::IdentityChanged, "identity", &RemotePath::root());
        Err(error.caused_by("another directory stands at the root's path"))
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

    async fn unlock(&self, path: &RemotePath) -> covefs_remote::Result<bool> {
        self.opened("unlock", path).await?.unlock(path).await
    }

    async fn usage(&self) -> covefs_remote::Result<Usage> {
        self.opened("usage", &RemotePath::root()).await?.usage().await
    }

    async fn watch(&self) -> covefs_remote::Result<Option<ChangeStream>> {
        self.opened("watch", &RemotePath::root()).await?.watch().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_may_appear_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let late = LateDir::new(path.clone(), None);
        let root = RemotePath::root();
        assert!(late.stat(&root).await.unwrap_err().kind.is_offline());
        std::fs::create_dir(&path).unwrap();
        assert!(late.stat(&root).await.unwrap_err().kind.is_offline(), "tried again too soon");
        *late.tried.lock().await = None;
        late.stat(&root).await.unwrap();
        late.identity().await.unwrap();
    }

    /// What every kind of request ends with.
    async fn kinds(late: &LateDir) -> Vec<ErrorKind> {
        let root = RemotePath::root();
        let results = [
            late.identity().await.err(),
            late.stat(&root).await.err(),
            late.list(&root, None).await.err(),
            late.remove(&root.join(b"f"), Expect::Any).await.err(),
            late.create_dir(&root.join(b"d"), &Attrs::default()).await.err(),
            late.usage().await.err(),
        ];
        results.into_iter().map(|error| error.unwrap().kind).collect()
    }

    // rule X1: an empty mountpoint is not the disk that belongs there.
    #[tokio::test]
    async fn another_directory_is_never_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("disk"), dir.path().join("away"));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("f"), "x").unwrap();
        let known = LocalRemote::open(path.clone()).unwrap().root_identity().clone();
        let late = LateDir::new(path.clone(), Some(known.clone()));
        let root = RemotePath::root();
        // At the start, before the share was seen; then after.
        for _ in 0..2 {
            std::fs::rename(&path, &away).unwrap();
            std::fs::create_dir(&path).unwrap();
            for _ in 0..3 {
                assert!(kinds(&late).await.iter().all(|kind| *kind == ErrorKind::IdentityChanged));
                if let Some(tried) = &mut *late.tried.lock().await {
                    tried.at -= TRY_EVERY;
                }
            }
            assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
            std::fs::remove_dir(&path).unwrap();
            std::fs::rename(&away, &path).unwrap();
            late.stat(&root.join(b"f")).await.unwrap();
            assert_eq!(late.identity().await.unwrap(), known);
        }
        // Made anew again and again, it never gets the old one's number.
        for _ in 0..20 {
            std::fs::remove_dir_all(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
            assert!(kinds(&late).await.iter().all(|kind| *kind == ErrorKind::IdentityChanged));
        }
    }

    #[tokio::test]
    async fn a_cache_of_another_share_says_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other, cache] = ["one", "other", "cache"].map(|name| dir.path().join(name));
        for dir in [&one, &other, &cache] {
            std::fs::create_dir(dir).unwrap();
        }
        let identity = LocalRemote::open(one.clone()).unwrap().root_identity().clone();
        let json = serde_json::json!({ "format": 1, "share": "dir:/one", "identity": identity });
        std::fs::write(cache.join("cache.json"), json.to_string()).unwrap();
        let opened = async |path: &Path, name: &str| {
            let mut notes = Vec::new();
            let config = config(&cache, name);
            let opened = open(path, &config, &mut |text| notes.push(text)).await;
            opened.map(|_| notes).map_err(|error| error.to_string())
        };
        assert_eq!(opened(&one, "dir:/one").await, Ok(vec![]));
        // The same directory at another path.
        assert_eq!(opened(&one, "dir:/moved").await, Ok(vec![]));
        let refused = opened(&other, "dir:/other").await.unwrap_err();
        assert!(refused.contains("belongs to the share dir:/one"), "{refused}");
        let notes = opened(&other, "dir:/one").await.unwrap();
        assert!(notes[0].contains("a disk that is not mounted"), "{notes:?}");
        std::fs::remove_file(cache.join("cache.json")).unwrap();
        assert_eq!(opened(&other, "dir:/one").await, Ok(vec![]));
    }

    fn config(cache_dir: &Path, share: &str) -> Config {
        Config {
            cache_dir: cache_dir.into(),
            share: share.into(),
            mountpoint: "/nonexistent".into(),
            limit_bytes: 1 << 30,
            min_free: covefs_cache::MinFree::Percent(5.0),
            max_age: None,
            freshness: TRY_EVERY,
            watch: false,
            site: "site".into(),
            read_only: false,
            sync_share: false,
            timeout: TRY_EVERY,
            debounce: TRY_EVERY,
            uid: 0,
            gid: 0,
            file_mode: 0o644,
            dir_mode: 0o755,
        }
    }
}
