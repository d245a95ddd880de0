//! The reference share: the whole contract in memory, and a hand for tests to edit it from outside.
//!
//! Every change ticks its clock, so no two states have the same mark and nothing is `young`, unless
//! a test says so (`write_file_again`, `set_young`).
//! It forgets all when it is dropped.

mod outside;
mod told;
mod tree;

pub use outside::Entry;

use crate::{
    Attrs, ByteStream, Change, ChangeStream, Error, ErrorKind, Expect, Limits, Metadata, NameRule,
    Page, PageToken, Remote, RemotePath, Result, Round, ShareIdentity, Source, Usage, Version,
    XattrRule,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast::Sender;
use tree::{Body, Outcome, ROOT, Tree};

/// Bytes in one chunk of a read.
const CHUNK_BYTES: usize = 1 << 20;

/// What it says of its size: enough that no test fills it by accident.
const TOTAL_BYTES: u64 = 1 << 50;

/// A share in memory.
pub struct MemoryRemote {
    limits: Limits,
    state: Mutex<State>,
    changes: Sender<Change>,
}

struct State {
    identity: String,
    tree: Tree,
    /// Files that somebody keeps locked.
    locked: BTreeSet<RemotePath>,
}

impl Default for MemoryRemote {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryRemote {
    /// An empty share that holds whatever a Linux file system does.
    pub fn new() -> Self {
        Self::with_limits(Limits {
            part_bytes: CHUNK_BYTES as u64,
            page_entries: 4096,
            names: NameRule::Bytes,
            name_bytes_max: 255,
            path_max: None,
            case_sensitive: true,
            has_modes: true,
            has_symlinks: true,
            xattrs: XattrRule::Any,
            exchange: true,
            quick_stat: true,
            whole_files: 4,
            read_only: false,
        })
    }

    /// An empty share with these limits, all of which it enforces.
    pub fn with_limits(limits: Limits) -> Self {
        let tree = Tree::new(limits.clone());
        let state =
            Mutex::new(State { identity: "memory:1".into(), tree, locked: BTreeSet::new() });
        MemoryRemote { limits, state, changes: Sender::new(crate::watch::CHANGES_MAX) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the tree is made after its checks: a panic leaves no half of one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        op: &'static str,
        path: &RemotePath,
        change: impl FnOnce(&mut Tree) -> Outcome<T>,
    ) -> Result<T> {
        change(&mut self.state().tree).map_err(|kind| Error::new(kind, op, path))
    }

    /// A change, which everybody who watches hears of.
    fn change<T>(
        &self,
        op: &'static str,
        path: &RemotePath,
        change: impl FnOnce(&mut Tree) -> Outcome<T>,
    ) -> Result<T> {
        let done = self.with(op, path, change)?;
        self.tell(Change::At(path.clone()));
        Ok(done)
    }

    /// Nobody else keeps it locked.
    fn check_free(&self, op: &'static str, path: &RemotePath) -> Result<()> {
        match self.state().locked.contains(path) {
            true => Err(Error::new(ErrorKind::Locked, op, path)),
            false => Ok(()),
        }
    }

    fn put(
        &self,
        path: &RemotePath,
        bytes: Bytes,
        attrs: &Attrs,
        expect: Expect,
    ) -> Result<Metadata> {
        self.change("replace", path, |tree| {
            let (parent, name, held) = tree.slot(path)?;
            if held.is_some_and(|id| tree.is_dir(id)) {
                return Err(if expect == Expect::Absent {
                    ErrorKind::Exists
                } else {
                    ErrorKind::IsADirectory
                });
            }
            tree.check(held, expect, ErrorKind::NotFound)?;
            tree.check_name(&name)?;
            let new = tree.insert(Body::File(bytes));
            if let Some(old) = held {
                tree.carry_over(old, new);
            }
            tree.link(parent, &name, new);
            tree.set_attrs(new, attrs);
            Ok(tree.metadata(new, true))
        })
    }

    fn make(
        &self,
        op: &'static str,
        path: &RemotePath,
        body: Body,
        attrs: &Attrs,
    ) -> Result<Metadata> {
        self.change(op, path, |tree| {
            if path.is_root() {
                return Err(ErrorKind::Exists);
            }
            let (parent, name, held) = tree.slot(path)?;
            tree.check(held, Expect::Absent, ErrorKind::NotFound)?;
            tree.check_name(&name)?;
            let id = tree.insert(body);
            tree.link(parent, &name, id);
            tree.set_attrs(id, attrs);
            Ok(tree.metadata(id, true))
        })
    }
}

/// Reads all of `source` until it settles.
/// Reads a source to its end; what is unchanged is taken from the old content.
async fn drain(
    path: &RemotePath,
    source: &dyn Source,
    mut old: Option<Bytes>,
) -> Result<(Vec<u8>, Attrs)> {
    let too_large = || Error::new(ErrorKind::TooLarge, "replace", path);
    let mut size = source.size();
    let mut ranges = source.data();
    let mut bytes = Vec::<u8>::new();
    loop {
        let length = usize::try_from(size).map_err(|_| too_large())?;
        bytes.resize(length, 0);
        for range in ranges {
            let mut from = range.start;
            while from < range.end.min(size) {
                let to = range.end.min(size).min(from + CHUNK_BYTES as u64);
                let range = from as usize..to as usize;
                let copied = old.as_ref().filter(|_| source.is_unchanged(&(from..to)));
                let part = match copied.filter(|old| range.end <= old.len()) {
                    Some(old) => old.slice(range),
                    None => source.read(from..to).await?,
                };
                if part.len() as u64 != to - from {
                    return Err(Error::new(ErrorKind::Source, "replace", path));
                }
                bytes[from as usize..to as usize].copy_from_slice(&part);
                from = to;
            }
        }
        match source.next_round().await? {
            Round::Resend { size: grown, ranges: again } => {
                (size, ranges, old) = (grown, again, None);
            }
            Round::Settled(attrs) => return Ok((bytes, attrs)),
        }
    }
}

#[async_trait]
impl Remote for MemoryRemote {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn introduce(&self, _cache_id: &str) {}

    async fn identity(&self) -> Result<ShareIdentity> {
        Ok(ShareIdentity(self.state().identity.clone()))
    }

    async fn stat(&self, path: &RemotePath) -> Result<Metadata> {
        self.with("stat", path, |tree| Ok(tree.metadata(tree.resolve(path)?, true)))
    }

    async fn list(&self, dir: &RemotePath, after: Option<PageToken>) -> Result<Page> {
        let after = match &after {
            Some(PageToken(token)) => Some(
                token
                    .downcast_ref::<Vec<u8>>()
                    .ok_or_else(|| Error::new(ErrorKind::Protocol, "list", dir))?,
            ),
            None => None,
        };
        let count = self.limits.page_entries;
        let (entries, last) = self.with("list", dir, |tree| {
            tree.entries(tree.resolve(dir)?, after.map(Vec::as_slice), count)
        })?;
        Ok(Page { entries, next: last.map(|last| PageToken(Arc::new(last))), one_moment: true })
    }

    async fn read(
        &self,
        path: &RemotePath,
        range: Range<u64>,
        version: &Version,
    ) -> Result<ByteStream> {
        let bytes = self.with("read", path, |tree| {
            let id = tree.resolve(path)?;
            let bytes = tree.content(id)?;
            match tree.version(id).same_content(version) {
                true => Ok(bytes),
                false => Err(ErrorKind::VersionChanged),
            }
        })?;
        let end = range.end.min(bytes.len() as u64) as usize;
        let start = range.start.min(end as u64) as usize;
        let chunks: Vec<Result<Bytes>> = (start..end)
            .step_by(CHUNK_BYTES)
            .map(|from| Ok(bytes.slice(from..end.min(from + CHUNK_BYTES))))
            .collect();
        Ok(stream::iter(chunks).boxed())
    }

    async fn replace(
        &self,
        path: &RemotePath,
        source: Arc<dyn Source>,
        expect: Expect,
        temp: &[u8],
    ) -> Result<Metadata> {
        self.with("replace", path, |tree| tree.check_name(temp))?;
        if path.is_root() {
            return Err(Error::new(ErrorKind::IsADirectory, "replace", path));
        }
        let old = self.with("replace", path, |tree| Ok(tree.expected_content(path, expect)))?;
        let (bytes, attrs) = drain(path, &*source, old).await?;
        self.check_free("replace", path)?;
        self.put(path, bytes.into(), &attrs, expect)
    }

    async fn rename(
        &self,
        from: &RemotePath,
        version: &Version,
        to: &RemotePath,
        expect: Expect,
    ) -> Result<Metadata> {
        self.check_free("rename", from)?;
        self.check_free("rename", to)?;
        let id = self.with("rename", from, |tree| {
            let id = tree.slot(from)?.2.ok_or(ErrorKind::NotFound)?;
            tree.check_object(id, version)?;
            Ok(id)
        })?;
        let moved = self.change("rename", to, |tree| {
            let (parent, name, held) = tree.slot(to)?;
            tree.check_name(&name)?;
            // Another task may have moved it since; then its old name holds something else.
            let (old_parent, old_name, still) = tree.slot(from)?;
            if still != Some(id) {
                return Err(ErrorKind::VersionChanged);
            }
            if to != from && to.is_within(from) {
                return Err(ErrorKind::Unsupported);
            }
            // A case-only rename finds itself: that is nothing to replace.
            let held = held.filter(|held| *held != id || expect != Expect::Absent || to == from);
            tree.check(held, expect, ErrorKind::VersionChanged)?;
            if let Some(held) = held.filter(|held| *held != id) {
                match (tree.is_dir(id), tree.is_dir(held)) {
                    (false, true) => return Err(ErrorKind::IsADirectory),
                    (true, false) => return Err(ErrorKind::NotADirectory),
                    (true, true) if !tree.is_empty_dir(held) => return Err(ErrorKind::NotEmpty),
                    (true, true) | (false, false) => {}
                }
            }
            tree.unlink(old_parent, &old_name);
            tree.link(parent, &name, id);
            Ok(tree.metadata(id, true))
        })?;
        self.tell(Change::At(from.clone()));
        Ok(moved)
    }

    async fn remove(&self, path: &RemotePath, expect: Expect) -> Result<()> {
        self.check_free("remove", path)?;
        self.change("remove", path, |tree| {
            let (parent, name, held) = tree.slot(path)?;
            let id = held.ok_or(ErrorKind::NotFound)?;
            tree.check(held, expect, ErrorKind::NotFound)?;
            if tree.is_dir(id) && !tree.is_empty_dir(id) {
                return Err(ErrorKind::NotEmpty);
            }
            tree.unlink(parent, &name);
            tree.forget(id);
            Ok(())
        })
    }

    async fn set_attrs(
        &self,
        path: &RemotePath,
        version: &Version,
        attrs: &Attrs,
    ) -> Result<Metadata> {
        self.check_free("set_attrs", path)?;
        self.change("set_attrs", path, |tree| {
            let id = tree.resolve(path)?;
            tree.check_object(id, version)?;
            tree.set_attrs(id, attrs);
            Ok(tree.metadata(id, true))
        })
    }

    async fn create_dir(&self, path: &RemotePath, attrs: &Attrs) -> Result<Metadata> {
        self.make("create_dir", path, Body::Dir(BTreeMap::new()), attrs)
    }

    async fn symlink(&self, path: &RemotePath, target: &[u8], attrs: &Attrs) -> Result<Metadata> {
        if !self.limits.has_symlinks {
            return Err(Error::new(ErrorKind::Unsupported, "symlink", path));
        }
        self.make("symlink", path, Body::Symlink(target.to_vec()), attrs)
    }

    async fn unlock(&self, path: &RemotePath) -> Result<bool> {
        self.with("unlock", path, |tree| tree.resolve(path))?;
        Ok(self.state().locked.remove(path))
    }

    async fn usage(&self) -> Result<Usage> {
        let mut used = 0;
        self.state().tree.walk(ROOT, &RemotePath::root(), &mut |_, body| {
            used += if let Body::File(bytes) = body { bytes.len() as u64 } else { 0 };
        });
        let free_bytes = TOTAL_BYTES.saturating_sub(used);
        Ok(Usage { total_bytes: TOTAL_BYTES, free_bytes, total_files: 0, free_files: 0 })
    }

    async fn watch(&self) -> Result<Option<ChangeStream>> {
        Ok(Some(crate::watch::stream(self.changes.subscribe())))
    }
}
