//! What the plan for a node depends on, as it is now.

use super::plan::{ContentView, View, replaces};
use crate::attr::Ino;
use crate::broken::{Broken, is_broken};
use crate::error::Result;
use crate::limits;
use crate::node::Node;
use crate::tree::Tree;
use crate::vfs::Vfs;
use covefs_remote::Kind;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;
use tokio::time::Instant;

impl Vfs {
    /// Everything the plan depends on; `None` when the node is gone.
    pub(super) fn view(&self, ino: Ino, urgent: bool) -> Result<Option<View>> {
        let mut tree = self.tree();
        let Some(node) = tree.get(ino)? else { return Ok(None) };
        let mut view = View {
            parent_there: true,
            occupant: None,
            cycle: false,
            blocker: None,
            unseen: false,
            successor: None,
            earlier: None,
            content: self.content_view(&node)?,
            urgent: urgent || self.sync.is_hurried(),
            debounce: self.config.debounce,
            open_upload: limits::OPEN_UPLOAD,
            node,
        };
        match view.node.place.clone() {
            Some(place) => {
                let parent = tree.get(place.parent)?;
                view.parent_there = parent.is_some_and(|parent| parent.base.is_some());
                view.occupant = tree.base_child(&place)?.filter(|other| other.ino != ino);
                if let Some(occupant) = &view.occupant {
                    view.cycle = ring(&mut tree, occupant.ino, ino)?;
                }
                if view.node.kind == Kind::Dir {
                    view.blocker = match view.node.is_moved() {
                        true => moved_above(&mut tree, place.parent, ino)?,
                        false => self.change_within(ino),
                    };
                }
            }
            None => {
                if view.node.kind == Kind::Dir {
                    let children = tree.base_children(ino)?;
                    view.blocker = children.first().map(|child| child.ino);
                    view.unseen = children
                        .iter()
                        .any(|child| child.place.as_ref().is_some_and(|place| place.parent == ino));
                }
                view.successor = self.successor(&mut tree, &view.node)?;
                view.earlier =
                    self.earlier_upload(&view.node).filter(|_| !is_broken(Broken::DeleteFirst));
            }
        }
        Ok(Some(view))
    }

    /// A change still to be made in this directory, which would move the times set for it.
    pub(super) fn change_within(&self, dir: Ino) -> Option<Ino> {
        self.journal.live(|live| {
            let within = |node: &&Node| {
                let base = node.base.as_ref().map(|base| &base.place);
                let mut places = node.place.iter().chain(base);
                node.ino != dir && node.is_dirty() && places.any(|place| place.parent == dir)
            };
            live.nodes.values().find(within).map(|node| node.ino)
        })
    }

    pub(super) fn content_view(&self, node: &Node) -> Result<Option<ContentView>> {
        if node.kind != Kind::File || !(node.dirty_content || node.place.is_none()) {
            return Ok(None);
        }
        let Some(file) = node.content.and_then(|id| self.files.get(id)) else {
            // Nobody has it open and nothing of it changed lately.
            return Ok(Some(ContentView { since_change: limits::OPEN_UPLOAD, ..quiet() }));
        };
        let content = file.lock();
        let age = |at: Option<Instant>| at.map_or(limits::OPEN_UPLOAD, |at| at.elapsed());
        Ok(Some(ContentView {
            since_change: age(content.last_change),
            since_oldest: content.oldest_dirty.map_or(Duration::ZERO, |at| at.elapsed()),
            writers: content.writers,
            handles: content.handles,
            fsynced: content.fsynced,
            whole: content.is_kept(),
        }))
    }

    /// What is about to take the removed node's name there, and puts an end to it by that (S3).
    pub(super) fn successor(&self, tree: &mut Tree, node: &Node) -> Result<Option<Ino>> {
        let Some(base) = &node.base else { return Ok(None) };
        let next = tree.child(base.place.parent, &base.place.name)?;
        let next = next.filter(|next| replaces(next, node)).map(|next| next.ino);
        Ok(next.filter(|next| !self.sync.lock().waiting_for(node.ino).contains(next)))
    }

    /// An upload acknowledged before this delete that has not failed (S3).
    pub(super) fn earlier_upload(&self, node: &Node) -> Option<Ino> {
        // What waits for this delete itself, for its name or below such, cannot come before it.
        let passed: BTreeSet<Ino> = {
            let queue = self.sync.lock();
            queue.failed.keys().copied().chain(queue.waiting_for(node.ino)).collect()
        };
        let mut earlier: BinaryHeap<_> = self.journal.live(|live| {
            let uploads = live.nodes.values().filter(|other| {
                other.change < node.change
                    && other.place.is_some()
                    && other.is_dirty()
                    && !passed.contains(&other.ino)
            });
            uploads.map(|other| Reverse((other.change, other.ino, other.lacks_only()))).collect()
        });
        // What is in a mapping counts as changed as long as it is.
        std::iter::from_fn(|| earlier.pop())
            .find(|Reverse((_, _, content))| !self.is_sent(*content))
            .map(|Reverse((_, ino, _))| ino)
    }
}

fn quiet() -> ContentView {
    ContentView { since_oldest: limits::OPEN_UPLOAD, whole: true, ..ContentView::default() }
}

/// Whether `from`'s wish for a place ends, by the occupants of the places wished for, at `to`.
fn ring(tree: &mut Tree, from: Ino, to: Ino) -> Result<bool> {
    let mut at = from;
    for _ in 0..limits::PATH_DEPTH {
        let Some(place) = tree.get(at)?.and_then(|node| node.place) else { return Ok(false) };
        match tree.base_child(&place)? {
            Some(next) if next.ino == to => return Ok(true),
            Some(next) if next.ino != at => at = next.ino,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// The first directory above `parent` on the share that is moved here and lies below `dir` there.
fn moved_above(tree: &mut Tree, parent: Ino, dir: Ino) -> Result<Option<Ino>> {
    let mut at = parent;
    let mut moved = None;
    for _ in 0..limits::PATH_DEPTH {
        if at == dir {
            return Ok(moved);
        }
        let Some(node) = tree.get(at)? else { return Ok(None) };
        if node.is_moved() {
            moved = moved.or(Some(at));
        }
        match node.base {
            Some(base) if at != Ino::ROOT => at = base.place.parent,
            _ => return Ok(None),
        }
    }
    Ok(None)
}
