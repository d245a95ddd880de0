//! The tree of names: which node stands where for the user, and where the share has it.
//!
//! Nodes with a place are records of the index, keyed by directory and name, so that a directory
//! is one scan. Nodes without a place (removed here, not yet on the share; or removed and still
//! open) live in memory, and those that matter are in the journal. All of it is guarded by one
//! lock; see the lock order in `lib.rs`.

use crate::attr::Ino;
use crate::error::{Error, ErrorKind, Result};
use crate::fold::Folds;
use crate::index::{Index, Op, Pair, Tree as Table};
use crate::kept::Kept;
use crate::limits;
use crate::node::{Node, Place};
use covefs_remote::{Kind, RemotePath};
use lru::LruCache;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// What is known of a directory's listing, in memory only: after a start nothing is verified.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DirInfo {
    /// When the last complete listing began.
    pub verified: Option<tokio::time::Instant>,
    /// How long it took.
    pub took: std::time::Duration,
    /// More than one page: single names are asked for instead (K4).
    pub big: bool,
    /// When the share last failed to list it, though it can be reached: what is known goes on.
    pub failed: Option<tokio::time::Instant>,
    /// When somebody last asked for something in it.
    pub used: Option<tokio::time::Instant>,
    /// When a change there was last told: what was verified before may be old (X7).
    pub doubted: Option<tokio::time::Instant>,
}

/// The names and nodes of the mount.
pub(crate) struct Tree {
    index: Arc<dyn Index>,
    hot: LruCache<Ino, Node>,
    /// Nodes without a place.
    detached: HashMap<Ino, Node>,
    /// Where the share has nodes that are elsewhere, or nowhere, here.
    moved: BTreeMap<Place, Ino>,
    dirs: LruCache<Ino, DirInfo>,
    /// Names of big directories that were asked for one by one (K4).
    names: LruCache<Place, tokio::time::Instant>,
    /// Which content the kernel may have pages of.
    kernel_pages: LruCache<Ino, crate::attr::ContentId>,
    /// How many directories lie in a directory; counted once, then kept in step.
    subdirs: LruCache<Ino, u32>,
    /// When the share last spoke of a node's extended attributes.
    xattrs: LruCache<Ino, tokio::time::Instant>,
    folds: Folds,
    /// What the kernel keeps of listings.
    pub(crate) kept: Kept,
    /// When changes there were last missed: all that was verified before may be old.
    doubted: Option<tokio::time::Instant>,
}

fn capacity(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).expect("limits are not zero")
}

/// The directory in the key of an entry; the name follows.
const PARENT_BYTES: usize = 8;

fn entry_key(parent: Ino, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(PARENT_BYTES + name.len());
    key.extend_from_slice(&parent.0.to_be_bytes());
    key.extend_from_slice(name);
    key
}

/// Marks nodes that were stored dirty: only the journal may say that they are.
fn dirty_key(ino: Ino) -> Vec<u8> {
    [DIRTY, &ino.0.to_be_bytes()].concat()
}

const DIRTY: &[u8] = b"dirty ";

fn encode(node: &Node) -> Vec<u8> {
    postcard::to_stdvec(node).expect("a node is plain data")
}

fn undecodable() -> Error {
    Error::new(ErrorKind::Io, "decode a node of the index")
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Node> {
    postcard::from_bytes(bytes).map_err(|_| undecodable())
}

fn scan_of(
    index: &dyn Index,
    parent: Ino,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Pair>> {
    let from = after.map(|name| entry_key(parent, name));
    index.scan(Table::Entries, &parent.0.to_be_bytes(), from.as_deref(), limit)
}

/// One name of a directory, as a listing without attributes shows it: how a record begins, and the
/// end of its key.
pub(crate) struct Line {
    pub ino: Ino,
    pub kind: Kind,
    pub name: Vec<u8>,
}

fn line_of((mut key, bytes): Pair) -> Result<Line> {
    let head = postcard::take_from_bytes::<(Ino, Kind)>(&bytes);
    let ((ino, kind), _) = head.map_err(|_| undecodable())?;
    Ok(Line { ino, kind, name: key.split_off(PARENT_BYTES.min(key.len())) })
}

fn children_of(
    index: &dyn Index,
    parent: Ino,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Node>> {
    let found = scan_of(index, parent, after, limit)?;
    let nodes = found.iter().map(|(_, bytes)| decode(bytes));
    // The root is its own parent's only child, under the empty name.
    nodes.filter(|node| !matches!(node, Ok(node) if node.ino == parent)).collect()
}

impl Tree {
    pub(crate) fn new(index: Arc<dyn Index>) -> Self {
        Tree {
            index,
            hot: LruCache::new(capacity(limits::HOT_NODES)),
            detached: HashMap::new(),
            moved: BTreeMap::new(),
            dirs: LruCache::new(capacity(limits::DIR_INFOS)),
            names: LruCache::new(capacity(limits::DIR_INFOS)),
            xattrs: LruCache::new(capacity(limits::DIR_INFOS)),
            kernel_pages: LruCache::new(capacity(limits::KERNEL_PAGES)),
            subdirs: LruCache::new(capacity(limits::DIR_INFOS)),
            folds: Folds::new(),
            kept: Kept::new(),
            doubted: None,
        }
    }

    /// What it holds in memory, part by part.
    #[cfg(test)]
    pub(crate) fn held(&self) -> [(&'static str, usize); 9] {
        [
            ("hot nodes", self.hot.len()),
            ("detached nodes", self.detached.len()),
            ("moved nodes", self.moved.len()),
            ("looks at directories", self.dirs.len()),
            ("looks at names", self.names.len()),
            ("kernel's pages", self.kernel_pages.len()),
            ("counts of directories", self.subdirs.len()),
            ("times of attributes", self.xattrs.len()),
            ("lines of listings", self.kept.lines()),
        ]
    }

    /// The node with this number, with or without a place.
    pub(crate) fn get(&mut self, ino: Ino) -> Result<Option<Node>> {
        if let Some(node) = self.detached.get(&ino) {
            return Ok(Some(node.clone()));
        }
        if let Some(node) = self.hot.get(&ino) {
            return Ok(Some(node.clone()));
        }
        let Some(key) = self.index.get(Table::Places, &ino.0.to_be_bytes())? else {
            return Ok(None);
        };
        let Some(bytes) = self.index.get(Table::Entries, &key)? else { return Ok(None) };
        let node = decode(&bytes)?;
        // Two records are not one: an index that lost its tail may disagree with itself.
        if node.ino != ino {
            return Ok(None);
        }
        self.hot.put(ino, node.clone());
        Ok(Some(node))
    }

    /// The same, or `Stale`: the kernel may ask for a node that a remote change removed.
    pub(crate) fn need(&mut self, ino: Ino) -> Result<Node> {
        self.get(ino)?.ok_or_else(|| Error::new(ErrorKind::Stale, "find the node"))
    }

    /// The same, for a directory that still has a place.
    pub(crate) fn need_dir(&mut self, ino: Ino) -> Result<Node> {
        let node = self.get(ino)?;
        match node {
            Some(node) if node.kind != Kind::Dir => {
                Err(Error::new(ErrorKind::NotADirectory, "use the directory"))
            }
            Some(node) if node.place.is_some() => Ok(node),
            _ => Err(Error::new(ErrorKind::NotFound, "find the directory")),
        }
    }

    /// What the user sees under this name.
    pub(crate) fn child(&mut self, parent: Ino, name: &[u8]) -> Result<Option<Node>> {
        match self.index.get(Table::Entries, &entry_key(parent, name))? {
            Some(bytes) => Ok(Some(decode(&bytes)?)),
            None => Ok(None),
        }
    }

    /// What has this name in the directory but for case.
    pub(crate) fn twin(&mut self, parent: Ino, name: &[u8]) -> Result<Option<Node>> {
        let all = || children_of(&*self.index, parent, None, usize::MAX);
        match self.folds.twin(parent, name, all)? {
            Some(twin) => self.child(parent, &twin),
            None => Ok(None),
        }
    }

    /// What the user sees in this directory, by name, from after `after` on.
    pub(crate) fn children(
        &self,
        parent: Ino,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Node>> {
        children_of(&*self.index, parent, after, limit)
    }

    /// What the user sees under these names. They are sorted, each is there once, and they follow
    /// each other in the directory or nearly so: one scan finds most of them.
    pub(crate) fn children_at(
        &mut self,
        parent: Ino,
        names: &[&[u8]],
    ) -> Result<Vec<Option<Node>>> {
        let Some((first, rest)) = names.split_first() else { return Ok(Vec::new()) };
        let mut found = vec![self.child(parent, first)?];
        let mut scanned = self.children(parent, Some(first), rest.len())?.into_iter().peekable();
        let order = |node: &Node, name: &[u8]| {
            node.place.as_ref().map(|place| place.name.as_slice().cmp(name))
        };
        for name in rest {
            while scanned.next_if(|node| order(node, name) == Some(Ordering::Less)).is_some() {}
            let here = scanned.next_if(|node| order(node, name) == Some(Ordering::Equal));
            found.push(match here {
                None if scanned.peek().is_none() => self.child(parent, name)?,
                here => here,
            });
        }
        Ok(found)
    }

    /// The names of this directory, from after `after` on.
    pub(crate) fn lines(
        &self,
        parent: Ino,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Line>> {
        let lines = scan_of(&*self.index, parent, after, limit)?.into_iter().map(line_of);
        lines.filter(|line| !matches!(line, Ok(line) if line.ino == parent)).collect()
    }

    pub(crate) fn has_children(&self, parent: Ino) -> Result<bool> {
        Ok(!self.children(parent, None, 2)?.is_empty())
    }

    /// The node that the share has at this place, wherever the user sees it.
    pub(crate) fn base_child(&mut self, place: &Place) -> Result<Option<Node>> {
        if let Some(ino) = self.moved.get(place).copied() {
            return self.get(ino);
        }
        let here = self.child(place.parent, &place.name)?;
        Ok(here.filter(|node| node.base.as_ref().is_some_and(|base| base.place == *place)))
    }

    /// All nodes that the share has in this directory.
    pub(crate) fn base_children(&mut self, parent: Ino) -> Result<Vec<Node>> {
        let mut found: Vec<Node> = self.children(parent, None, usize::MAX)?;
        found.retain(|node| node.base.is_some() && !node.is_moved());
        for ino in self.moved_out_of(parent) {
            found.extend(self.get(ino)?);
        }
        Ok(found)
    }

    /// Nodes that the share still has in this directory and the user elsewhere or nowhere.
    pub(crate) fn moved_out_of(&self, parent: Ino) -> Vec<Ino> {
        let from = Place { parent, name: Vec::new() };
        let all = self.moved.range(from..).take_while(|(place, _)| place.parent == parent);
        all.map(|(_, ino)| *ino).collect()
    }

    /// Stores nodes as they are now; those that are nothing any more are dropped.
    pub(crate) fn store(&mut self, nodes: &[Node]) -> Result<()> {
        let mut ops = Vec::with_capacity(nodes.len() * 3);
        // Old places first, so that a swap does not remove what it has just stored.
        for node in nodes {
            self.forget_old(node, &mut ops)?;
        }
        for node in nodes {
            self.store_new(node, &mut ops)?;
        }
        self.index.apply(&ops)
    }

    fn forget_old(&mut self, node: &Node, ops: &mut Vec<Op>) -> Result<()> {
        let old = self.get(node.ino)?;
        let stood = old.as_ref().and_then(|old| old.place.as_ref());
        if stood != node.place.as_ref() {
            [stood, node.place.as_ref()]
                .into_iter()
                .flatten()
                .for_each(|p| self.kept.forget(p.parent));
            // Its `..`.
            self.kept.forget(node.ino);
        }
        let Some(old) = old else { return Ok(()) };
        if let Some(base) = &old.base
            && self.moved.get(&base.place) == Some(&node.ino)
        {
            self.moved.remove(&base.place);
        }
        let Some(place) = old.place.filter(|place| node.place.as_ref() != Some(place)) else {
            return Ok(());
        };
        self.count_subdir(old.kind, &place, false);
        self.folds.remove(place.parent, &place.name);
        let key = entry_key(place.parent, &place.name);
        ops.push(Op::Delete(Table::Entries, key));
        ops.push(Op::Delete(Table::Places, node.ino.0.to_be_bytes().to_vec()));
        ops.push(Op::Delete(Table::Meta, dirty_key(node.ino)));
        Ok(())
    }

    fn count_subdir(&mut self, kind: Kind, place: &Place, more: bool) {
        if kind == Kind::Dir
            && let Some(count) = self.subdirs.get_mut(&place.parent)
        {
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    /// How many directories are in one, if somebody has counted them.
    pub(crate) fn known_subdirs(&self, dir: Ino) -> Option<u32> {
        self.subdirs.peek(&dir).copied()
    }

    /// How many names a directory has: its own, `.`, and the `..` of each directory in it.
    pub(crate) fn dir_links(&mut self, dir: &Node) -> Result<u32> {
        if !dir.listed {
            return Ok(2);
        }
        if let Some(count) = self.subdirs.get(&dir.ino) {
            return Ok(2 + *count);
        }
        let all = self.lines(dir.ino, None, usize::MAX)?;
        let count = all.iter().filter(|child| child.kind == Kind::Dir).count() as u32;
        self.subdirs.put(dir.ino, count);
        Ok(2 + count)
    }

    fn store_new(&mut self, node: &Node, ops: &mut Vec<Op>) -> Result<()> {
        let stood = match node.kind {
            Kind::Dir => self.get(node.ino)?.and_then(|old| old.place),
            _ => None,
        };
        self.hot.pop(&node.ino);
        self.detached.remove(&node.ino);
        if let Some(base) = &node.base
            && node.is_moved()
        {
            self.moved.insert(base.place.clone(), node.ino);
        }
        match &node.place {
            Some(place) => {
                if stood.as_ref() != Some(place) {
                    self.count_subdir(node.kind, place, true);
                }
                self.folds.add(place.parent, &place.name);
                let key = entry_key(place.parent, &place.name);
                let number = node.ino.0.to_be_bytes().to_vec();
                ops.push(Op::Put(Table::Entries, key.clone(), encode(node)));
                ops.push(match node.is_dirty() {
                    true => Op::Put(Table::Meta, dirty_key(node.ino), Vec::new()),
                    false => Op::Delete(Table::Meta, dirty_key(node.ino)),
                });
                ops.push(Op::Put(Table::Places, number, key));
                self.hot.put(node.ino, node.clone());
            }
            None => {
                self.detached.insert(node.ino, node.clone());
            }
        }
        Ok(())
    }

    /// Drops a node for good.
    pub(crate) fn erase(&mut self, ino: Ino) -> Result<()> {
        let Some(old) = self.get(ino)? else { return Ok(()) };
        let mut ops = Vec::new();
        if let Some(base) = &old.base
            && self.moved.get(&base.place) == Some(&ino)
        {
            self.moved.remove(&base.place);
        }
        if let Some(place) = &old.place {
            self.count_subdir(old.kind, place, false);
            self.folds.remove(place.parent, &place.name);
            self.kept.forget(place.parent);
            ops.push(Op::Delete(Table::Entries, entry_key(place.parent, &place.name)));
            ops.push(Op::Delete(Table::Places, ino.0.to_be_bytes().to_vec()));
            ops.push(Op::Delete(Table::Meta, dirty_key(ino)));
        }
        self.hot.pop(&ino);
        self.detached.remove(&ino);
        self.dirs.pop(&ino);
        self.folds.forget(ino);
        self.kept.forget(ino);
        self.kernel_pages.pop(&ino);
        self.index.apply(&ops)
    }

    /// At a start: nodes that the index has as dirty and the journal does not know. The index got
    /// further than a journal that lost its end; what it says of them is not believed: they are
    /// what the share has, or nothing.
    pub(crate) fn distrust(&mut self, known: impl Fn(Ino) -> bool) -> Result<usize> {
        let marked = self.index.scan(Table::Meta, DIRTY, None, usize::MAX)?;
        let mut lost = Vec::new();
        for (key, _) in marked {
            let Ok(number) = <[u8; 8]>::try_from(&key[DIRTY.len()..]) else { continue };
            let ino = Ino(u64::from_be_bytes(number));
            if known(ino) {
                continue;
            }
            match self.get(ino)? {
                Some(node) => lost.push(node),
                None => self.index.apply(&[Op::Delete(Table::Meta, key)])?,
            }
        }
        // In this order: what a crash leaves of it is found again, or asked for again.
        for node in &lost {
            for place in node.place.iter().chain(node.base.as_ref().map(|base| &base.place)) {
                if let Some(mut dir) = self.get(place.parent)? {
                    dir.listed = false;
                    self.store(&[dir])?;
                }
            }
        }
        for node in &lost {
            self.erase(node.ino)?;
        }
        let count = lost.len();
        for mut node in lost {
            let Some(base) = &mut node.base else { continue };
            if self.child(base.place.parent, &base.place.name)?.is_some() {
                continue;
            }
            // Another version than any: the next listing brings everything anew.
            base.version = Default::default();
            node.place = Some(base.place.clone());
            node.content = None;
            node.xattrs = None;
            node.listed = false;
            node.dirty_content = false;
            node.dirty_attrs = Default::default();
            self.store(&[node])?;
        }
        Ok(count)
    }

    /// Where the share has this node; `None` where it does not have it or a directory above it.
    pub(crate) fn base_path(&mut self, ino: Ino) -> Result<Option<RemotePath>> {
        self.walk(ino, |node| node.base.as_ref().map(|base| base.place.clone()))
    }

    /// The topmost of a directory and those above it, where the share has them, that is `wanted`.
    pub(crate) fn topmost(
        &mut self,
        dir: Ino,
        wanted: impl Fn(Ino) -> bool,
    ) -> Result<Option<Ino>> {
        let mut found = None;
        let mut at = dir;
        for _ in 0..limits::PATH_DEPTH {
            if wanted(at) {
                found = Some(at);
            }
            match self.get(at)?.and_then(|node| node.base) {
                Some(base) if at != Ino::ROOT => at = base.place.parent,
                _ => break,
            }
        }
        Ok(found)
    }

    /// Where the user sees this node; `None` when it is removed.
    pub(crate) fn path(&mut self, ino: Ino) -> Result<Option<RemotePath>> {
        self.walk(ino, |node| node.place.clone())
    }

    /// Where the share is to have something at this place: below the base of its directory.
    pub(crate) fn remote_path_of(&mut self, place: &Place) -> Result<Option<RemotePath>> {
        Ok(self.base_path(place.parent)?.map(|dir| dir.join(&place.name)))
    }

    fn walk(
        &mut self,
        ino: Ino,
        up: impl Fn(&Node) -> Option<Place>,
    ) -> Result<Option<RemotePath>> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let Some(place) = self.get(at)?.as_ref().and_then(&up) else { return Ok(None) };
            names.push(place.name);
            at = place.parent;
            if names.len() > limits::PATH_DEPTH {
                return Err(Error::new(ErrorKind::Loop, "walk up the tree"));
            }
        }
        Ok(Some(names.iter().rev().fold(RemotePath::root(), |path, name| path.join(name))))
    }

    /// Whether `ino` is `dir` or lies below it, as the user sees it.
    pub(crate) fn is_within(&mut self, ino: Ino, dir: Ino) -> Result<bool> {
        let mut at = ino;
        for _ in 0..limits::PATH_DEPTH {
            if at == dir {
                return Ok(true);
            }
            match self.get(at)?.and_then(|node| node.place) {
                Some(place) if at != Ino::ROOT => at = place.parent,
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// The node at a path of the mount, by what is known here.
    pub(crate) fn resolve(&mut self, path: &RemotePath) -> Result<Option<Node>> {
        let mut node = self.get(Ino::ROOT)?;
        for name in path.names() {
            let Some(dir) = node else { return Ok(None) };
            node = self.child(dir.ino, name)?;
        }
        Ok(node)
    }

    /// What the share has at a path of its own, by what is known here.
    pub(crate) fn base_resolve(&mut self, path: &RemotePath) -> Result<Option<Node>> {
        let mut node = self.get(Ino::ROOT)?;
        for name in path.names() {
            let Some(dir) = node else { return Ok(None) };
            node = self.base_child(&Place::new(dir.ino, name))?;
        }
        Ok(node)
    }

    pub(crate) fn dir_info(&mut self, ino: Ino) -> DirInfo {
        self.dirs.get(&ino).copied().unwrap_or_default()
    }

    /// When it was used and doubted stays known.
    pub(crate) fn set_dir_info(&mut self, ino: Ino, info: DirInfo) {
        let DirInfo { used, doubted, .. } = self.dir_info(ino);
        self.dirs.put(ino, DirInfo { used, doubted, ..info });
    }

    /// Somebody asks for something in this directory; what is known of it.
    pub(crate) fn use_dir(&mut self, ino: Ino) -> DirInfo {
        let info = self.dirs.get_or_insert_mut(ino, DirInfo::default);
        info.used = Some(tokio::time::Instant::now());
        DirInfo { doubted: info.doubted.max(self.doubted), ..*info }
    }

    /// Directories that were used lately, the last ones first.
    pub(crate) fn dirs_used(&self, lately: std::time::Duration, limit: usize) -> Vec<Ino> {
        let used = |info: &DirInfo| info.used.is_some_and(|at| at.elapsed() <= lately);
        let dirs = self.dirs.iter().filter(|(_, info)| info.verified.is_some() && used(info));
        dirs.map(|(ino, _)| *ino).take(limit).collect()
    }

    /// Something in this directory was changed there.
    pub(crate) fn doubt(&mut self, ino: Ino) {
        if let Some(info) = self.dirs.peek_mut(&ino) {
            info.doubted = Some(tokio::time::Instant::now());
        }
    }

    /// Anything may have been changed there.
    pub(crate) fn doubt_all(&mut self) {
        self.doubted = Some(tokio::time::Instant::now());
    }

    /// When the share last spoke of this one name (K4).
    pub(crate) fn name_verified(&mut self, place: &Place) -> Option<tokio::time::Instant> {
        self.names.get(place).copied()
    }

    pub(crate) fn set_name_verified(&mut self, place: Place, at: tokio::time::Instant) {
        self.names.put(place, at);
    }

    /// When the share last spoke of the extended attributes of this node.
    pub(crate) fn xattrs_verified(&mut self, ino: Ino) -> Option<tokio::time::Instant> {
        self.xattrs.get(&ino).copied()
    }

    pub(crate) fn set_xattrs_verified(&mut self, ino: Ino, at: tokio::time::Instant) {
        self.xattrs.put(ino, at);
    }

    /// Nothing is verified any more: the share was out of reach.
    pub(crate) fn forget_verified(&mut self) {
        self.dirs.clear();
        self.names.clear();
        self.xattrs.clear();
    }

    /// Notes that the kernel gets pages of this content; whether those it has are of the same.
    pub(crate) fn kernel_reads(&mut self, ino: Ino, content: crate::attr::ContentId) -> bool {
        self.kernel_pages.put(ino, content) == Some(content)
    }

    /// The kernel's pages of this node are not true any more.
    pub(crate) fn kernel_forgets(&mut self, ino: Ino) {
        self.kernel_pages.pop(&ino);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::MemoryIndex;

    const NAMES: [&str; 5] = ["a", "c", "ca", "e", "g"];
    const DIR: Ino = Ino(7);

    fn tree() -> Tree {
        let mut tree = Tree::new(Arc::new(MemoryIndex::new()));
        let file = |ino, dir, name: &str| Node::clean(Ino(ino), Place::new(dir, name.as_bytes()));
        let here = (100..).zip(NAMES).map(|(ino, name)| file(ino, DIR, name));
        let around = [file(200, Ino(6), "z"), file(201, Ino(8), "a")];
        tree.store(&here.chain(around).collect::<Vec<_>>()).unwrap();
        tree
    }

    /// Names between, before and after those that are there, and none at all.
    #[test]
    fn many_names_are_found_as_each_alone() {
        let mut tree = tree();
        let all: Vec<&[u8]> = "a b c ca d e f g h".split(' ').map(str::as_bytes).collect();
        for from in 0..=all.len() {
            for to in from..=all.len() {
                for step in 1..4 {
                    let names: Vec<&[u8]> = all[from..to].iter().step_by(step).copied().collect();
                    let alone: Vec<_> =
                        names.iter().map(|name| tree.child(DIR, name).unwrap()).collect();
                    assert_eq!(tree.children_at(DIR, &names).unwrap(), alone, "{names:?}");
                }
            }
        }
    }

    /// A line is read from the beginning of a record, whatever stands behind.
    #[test]
    fn lines_are_the_names_and_kinds_of_the_nodes() {
        let tree = tree();
        let line = |line: Line| (line.ino, line.kind, line.name);
        let of = |node: Node| (node.ino, node.kind, node.place.unwrap().name);
        let lines = tree.lines(DIR, Some(b"a"), 3).unwrap();
        let nodes = tree.children(DIR, Some(b"a"), 3).unwrap();
        assert_eq!(lines.len(), 3);
        assert!(lines.into_iter().map(line).eq(nodes.into_iter().map(of)));
    }
}
