//! Reading directories, and the share's size.

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

impl Vfs {
    /// Opens a directory to be read.
    pub fn opendir(&self, asked: Asked, ino: Ino) -> Result<Step<OpenedDir>> {
        let mut tree = self.tree();
        let dir = tree.need_dir(ino)?;
        let is_cold = !matches!(self.stale(&mut tree, asked, &dir, None), Ok(None));
        self.opened_dir(&mut tree, ino, is_cold)?;
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
        if !with_attrs {
            let _ = items[first..].iter().any(add);
            return Ok(Step::Done(()));
        }
        // A few at a time: most answers hold no more, and nobody waits long for the tree. A directory
        // alone: what is in it may have to be counted.
        let is_file = |item: &DirItem| item.kind != Kind::Dir;
        let alike = items[first..].chunk_by(|one, other| is_file(one) && is_file(other));
        for items in alike.flat_map(|items| items.chunks(limits::SCAN_STATS)) {
            if self.with_attrs(handle.ino, items)?.iter().any(&mut *add) {
                break;
            }
        }
        Ok(Step::Done(()))
    }

    /// These lines with attributes of now, but for those that are gone.
    fn with_attrs(&self, dir: Ino, items: &[DirItem]) -> Result<Vec<DirItem>> {
        let (dots, named): (Vec<_>, Vec<_>) =
            items.iter().partition(|item| item.name == b"." || item.name == b"..");
        let names: Vec<&[u8]> = named.iter().map(|item| item.name.as_slice()).collect();
        let mut lines: Vec<DirItem> = dots.into_iter().cloned().collect();
        let mut tree = self.tree();
        let nodes = tree.children_at(dir, &names)?;
        // Gone meanwhile, with all that was in it.
        let Some(dir) = tree.get(dir)? else { return Ok(lines) };
        for (item, node) in named.into_iter().zip(nodes) {
            let Some(node) = node else { continue };
            let ttl = self.ttl(&mut tree, &dir, Some(&item.name));
            let entry = Some(Entry { attr: self.stat(&mut tree, &node)?, ttl });
            lines.push(DirItem { ino: node.ino, kind: node.kind, entry, ..item.clone() });
        }
        Ok(lines)
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
            let page = self.tree().lines(dir.ino, after.as_deref(), limits::SCAN)?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            page.into_iter().for_each(|line| push(line.ino, line.kind, line.name));
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
