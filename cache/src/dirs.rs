//! Reading directories, extended attributes, and the share's size.

use crate::attr::*;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::DirHandle;
use crate::kept::Items;
use crate::limits;
use crate::names::{fresh, ready};
use crate::node::Node;
use crate::step::{Asked, Need, Step};
use crate::vfs::Vfs;
use covefs_remote::{Kind, Remote};
use std::sync::Arc;

/// Attributes of ours: what the cache knows of a file.
const OURS: &[u8] = b"user.covefs.";

impl Vfs {
    /// Opens a directory to be read.
    pub fn opendir(&self, asked: Asked, ino: Ino) -> Result<Step<OpenedDir>> {
        let mut tree = self.tree();
        let dir = tree.need_dir(ino)?;
        let is_cold = !matches!(self.stale(&mut tree, asked, &dir, None), Ok(None));
        if let Some(place) = dir.place.clone().filter(|_| ino != Ino::ROOT) {
            self.walked(&mut tree, &place, Kind::Dir, is_cold)?;
        }
        if is_cold || !dir.listed {
            tree.kept.forget(ino);
        }
        let handle = self.handles.add_dir(ino);
        // No longer than attributes are believed: a listing anew brings all of them at once.
        let items = tree.kept.opened(ino, handle.fh, self.config.freshness);
        let keep_cache = items.is_some();
        handle.keep(items);
        Ok(Step::Done(OpenedDir { fh: handle.fh, keep_cache }))
    }

    /// Calls `add` for each item from `offset` on until it says that it is full (true). Names are
    /// those at the first read of the handle, or at a rewind; attributes those of now.
    pub fn readdir(
        &self,
        asked: Asked,
        fh: Fh,
        offset: u64,
        with_attrs: bool,
        add: &mut dyn FnMut(&DirItem) -> bool,
    ) -> Result<Step<()>> {
        let handle = self.handles.dir(fh)?;
        let items = ready!(self.lines(asked, &handle, offset)?);
        let first = usize::try_from(offset).unwrap_or(usize::MAX).min(items.len());
        for item in &items[first..] {
            let named = item.name != b"." && item.name != b"..";
            if !with_attrs || !named {
                if add(item) {
                    break;
                }
                continue;
            }
            let mut tree = self.tree();
            let Some(node) = tree.child(handle.ino, &item.name)? else { continue };
            let dir = tree.need_dir(handle.ino)?;
            let ttl = self.ttl(&mut tree, &dir, Some(&item.name));
            let attr = self.stat(&mut tree, &node)?;
            drop(tree);
            let entry = Some(Entry { attr, ttl });
            if add(&DirItem { ino: node.ino, kind: node.kind, entry, ..item.clone() }) {
                break;
            }
        }
        Ok(Step::Done(()))
    }

    /// The lines that a handle reads from `offset` on.
    fn lines(&self, asked: Asked, handle: &DirHandle, offset: u64) -> Result<Step<Items>> {
        let mut tree = self.tree();
        if let Some(items) = handle.items().filter(|_| offset > 0) {
            if offset < items.len() as u64 {
                tree.kept.goes_on(handle.ino, handle.fh, &items);
            } else {
                tree.kept.ended(handle.ino, handle.fh);
            }
            return Ok(Step::Done(items));
        }
        let dir = tree.need_dir(handle.ino)?;
        fresh!(self, tree, asked, &dir, None);
        if !tree.need_dir(handle.ino)?.listed {
            return Err(Error::new(ErrorKind::Offline, "list a directory"));
        }
        let kept = tree.kept.is_read(handle.ino, handle.fh);
        drop(tree);
        let items = match kept {
            Some(items) => items,
            None => {
                let items = Arc::new(self.items(&dir)?);
                self.tree().kept.was_read(handle.ino, handle.fh, &items);
                items
            }
        };
        handle.keep(Some(items.clone()));
        Ok(Step::Done(items))
    }

    fn items(&self, dir: &Node) -> Result<Vec<DirItem>> {
        let parent = dir.place.as_ref().map_or(Ino::ROOT, |place| place.parent);
        let mut items = Vec::new();
        let mut push = |ino: Ino, kind: Kind, name: Vec<u8>| {
            let next_offset = items.len() as u64 + 1;
            items.push(DirItem { ino, kind, name, next_offset, entry: None });
        };
        push(dir.ino, Kind::Dir, b".".to_vec());
        push(parent, Kind::Dir, b"..".to_vec());
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.tree().children(dir.ino, after.as_deref(), limits::SCAN)?;
            let Some(last) = page.last() else { break };
            after = last.place.as_ref().map(|place| place.name.clone());
            for node in page {
                if let Some(place) = node.place {
                    push(node.ino, node.kind, place.name);
                }
            }
        }
        Ok(items)
    }

    /// Closes a directory.
    pub fn releasedir(&self, fh: Fh) {
        if let Some(handle) = self.handles.remove_dir(fh) {
            self.tree().kept.closed(handle.ino, fh);
        }
    }

    /// Makes names durable here.
    pub fn fsyncdir(&self, asked: Asked, fh: Fh) -> Result<Step<()>> {
        self.handles.dir(fh)?;
        if !asked.may_block {
            return Ok(Step::Wait(Need::Thread));
        }
        self.journal.sync()?;
        Ok(Step::Done(()))
    }

    /// The node with its xattrs known, or what to wait for.
    fn with_xattrs(&self, ino: Ino) -> Result<Step<Node>> {
        let mut node = self.tree().need(ino)?;
        if node.xattrs.is_none() {
            if node.base.is_some() && self.remote.limits().has_xattrs && node.place.is_some() {
                return Ok(Step::Wait(Need::Node(ino)));
            }
            node.xattrs = Some(Vec::new());
        }
        Ok(Step::Done(node))
    }

    fn check_xattr(&self, name: &[u8]) -> Result<()> {
        if !name.starts_with(b"user.") || name.len() > 255 {
            return Err(Error::new(ErrorKind::Unsupported, "use the extended attribute"));
        }
        Ok(())
    }

    /// The value of an extended attribute. `user.covefs.state` says how much of a file is here;
    /// on the root `user.covefs.cache_dir` where its cache lies.
    pub fn getxattr(&self, _asked: Asked, ino: Ino, name: &[u8]) -> Result<Step<Vec<u8>>> {
        self.check_xattr(name)?;
        if let Some(of_ours) = name.strip_prefix(OURS) {
            return self.our_xattr(ino, of_ours).map(Step::Done);
        }
        let node = match self.with_xattrs(ino)? {
            Step::Done(node) => node,
            Step::Wait(need) => return Ok(Step::Wait(need)),
        };
        let found = node.xattrs.into_iter().flatten().find(|(known, _)| known == name);
        let missing = || Error::new(ErrorKind::NoAttribute, "read the extended attribute");
        Ok(Step::Done(found.ok_or_else(missing)?.1))
    }

    fn our_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let missing = Error::new(ErrorKind::NoAttribute, "read the extended attribute");
        let node = self.tree().need(ino)?;
        let text = match name {
            b"state" => self.state_of(&node).to_owned(),
            b"version" => match &node.base {
                Some(base) => format!("{:x}", base.version.object),
                None => return Err(missing),
            },
            b"cache_dir" if ino == Ino::ROOT => {
                self.config.cache_dir.to_string_lossy().into_owned()
            }
            _ => return Err(missing),
        };
        Ok(text.into_bytes())
    }

    /// In one word what is here of a node, and whether the share has it.
    pub(crate) fn state_of(&self, node: &Node) -> &'static str {
        if node.is_dirty() {
            return "dirty";
        }
        if node.kind != Kind::File {
            return "clean";
        }
        let Some(id) = node.content else { return if node.size == 0 { "local" } else { "cold" } };
        let Ok(file) = self.load(id) else { return "unknown" };
        let state = {
            let content = file.lock();
            if content.present.contains(&(0..node.size)) {
                "local"
            } else if content.present.is_empty() {
                "cold"
            } else {
                "partial"
            }
        };
        self.unload_if_idle(&file);
        state
    }

    /// The names of the extended attributes; ours are left out, so that no copy takes them along.
    pub fn listxattr(&self, _asked: Asked, ino: Ino) -> Result<Step<Vec<Vec<u8>>>> {
        let node = match self.with_xattrs(ino)? {
            Step::Done(node) => node,
            Step::Wait(need) => return Ok(Step::Wait(need)),
        };
        Ok(Step::Done(node.xattrs.into_iter().flatten().map(|(name, _)| name).collect()))
    }

    /// Sets an extended attribute of the `user.` namespace.
    pub fn setxattr(
        &self,
        _asked: Asked,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<Step<()>> {
        self.change_xattr(ino, name, |xattrs| {
            let at = xattrs.binary_search_by(|(known, _)| known.as_slice().cmp(name));
            match (at, mode) {
                (Ok(_), XattrMode::Create) => {
                    return Err(Error::new(ErrorKind::Exists, "make the extended attribute"));
                }
                (Err(_), XattrMode::Replace) => {
                    return Err(Error::new(ErrorKind::NoAttribute, "set the extended attribute"));
                }
                (Ok(at), _) => xattrs[at].1 = value.to_vec(),
                (Err(at), _) => xattrs.insert(at, (name.to_vec(), value.to_vec())),
            }
            Ok(())
        })
    }

    /// Removes an extended attribute of the `user.` namespace.
    pub fn removexattr(&self, _asked: Asked, ino: Ino, name: &[u8]) -> Result<Step<()>> {
        self.change_xattr(ino, name, |xattrs| {
            let at = xattrs.binary_search_by(|(known, _)| known.as_slice().cmp(name));
            let missing = |_| Error::new(ErrorKind::NoAttribute, "remove the attribute");
            xattrs.remove(at.map_err(missing)?);
            Ok(())
        })
    }

    fn change_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        change: impl FnOnce(&mut covefs_remote::Xattrs) -> Result<()>,
    ) -> Result<Step<()>> {
        self.check_writable()?;
        self.check_xattr(name)?;
        if name.starts_with(OURS) {
            return Err(Error::new(ErrorKind::NotPermitted, "set an attribute of covefs"));
        }
        if !self.remote.limits().has_xattrs {
            return Err(Error::new(ErrorKind::Unsupported, "set an attribute on this share"));
        }
        let mut node = match self.with_xattrs(ino)? {
            Step::Done(node) => node,
            Step::Wait(need) => return Ok(Step::Wait(need)),
        };
        let mut tree = self.tree();
        // Nothing is lost between: xattrs change under the tree's lock only.
        let now = tree.need(ino)?;
        let mut xattrs = now.xattrs.clone().or(node.xattrs.take()).unwrap_or_default();
        xattrs.sort();
        change(&mut xattrs)?;
        let mut node = now;
        node.xattrs = Some(xattrs);
        node.dirty_attrs.xattrs = true;
        node.ctime = self.clock.now();
        self.changed(&mut tree, vec![node], Vec::new(), false)?;
        Ok(Step::Done(()))
    }

    /// Size and free space of the share, as last known (U8).
    pub fn statfs(&self, _asked: Asked) -> Result<Step<Statfs>> {
        let usage = *self.usage.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Ok(Step::Done(Statfs {
            total_bytes: usage.total_bytes,
            free_bytes: usage.free_bytes,
            total_files: usage.total_files,
            free_files: usage.free_files,
            name_bytes_max: self.remote.limits().name_bytes_max as u32,
        }))
    }

    /// Keeps the share's size at hand.
    pub(crate) async fn watch_usage(&self) {
        loop {
            if self.reach.is_online()
                && let Ok(usage) = self.remote.usage().await
            {
                *self.usage.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = usage;
            }
            tokio::time::sleep(self.config.freshness.max(limits::SETTLE)).await;
        }
    }
}
