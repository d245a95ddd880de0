//! What the share has after a change of ours: the node is in step, but for what changed meanwhile.

use crate::attr::Ino;
use crate::error::{Error, Result};
use crate::journal::{Record, SentWhat};
use crate::node::{DirtyAttrs, Node, Place};
use crate::tree::Tree;
use crate::vfs::Vfs;
use crate::xattrs::{marked_all, refused, to_send};
use covefs_remote::{Kind, Metadata, Remote, RemotePath, XattrRule, Xattrs};

impl Vfs {
    /// The share no longer has the node; what is then nothing is dropped.
    pub(super) fn forget_base(&self, ino: Ino) -> Result<()> {
        let mut tree = self.tree();
        let Some(mut node) = tree.get(ino)? else { return Ok(()) };
        node.base = None;
        node.dirty_attrs = Default::default();
        if node.place.is_none() {
            node.dirty_content = false;
        }
        let removed = self.journal.live(|live| {
            live.sent.get(&ino).is_some_and(|sent| matches!(sent.what, SentWhat::Removed(_)))
        });
        let known = removed.then_some(Record::SentGone(ino)).into_iter().collect();
        self.commit(&mut tree, &[node.clone()], known, true)?;
        if let Some(id) = node.content.filter(|_| node.is_nothing()) {
            let open = self.files.get(id).is_some_and(|file| file.lock().handles > 0);
            if !open {
                tree.erase(ino)?;
                drop(tree);
                self.forget_content(id);
            }
        }
        Ok(())
    }

    /// The share no longer has a node under the name that another one wants. Elsewhere it may: a lost
    /// answer told of its rename meanwhile.
    pub(super) fn forget_occupant(&self, before: &Node) -> Result<()> {
        let node = self.tree().get(before.ino)?;
        match node.filter(|node| is_where(node, before)) {
            Some(_) => self.forget_base(before.ino),
            None => Ok(()),
        }
    }

    /// The share has the node as it was when the step began; what changed since stays dirty.
    pub(super) fn in_step(
        &self,
        before: &Node,
        place: Place,
        metadata: &covefs_remote::Metadata,
        replaced: Option<&Node>,
    ) -> Result<()> {
        let mut tree = self.tree();
        let mut node = since(&mut tree, before, self.next_change())?;
        let old = before.base.as_ref().map(|base| base.version);
        let mut version = metadata.version;
        let kept = old.is_none_or(|old| {
            old.same_object(&version)
                && old.content.size == version.content.size
                && (before.dirty_attrs.times || old.content.mtime == version.content.mtime)
        });
        if let (Kind::File, false, Some(old)) = (node.kind, kept, old) {
            // Edited there meanwhile: the mark of its bytes is not that of ours (S5).
            version = old;
        } else if let Some(file) = node.content.and_then(|id| self.files.get(id)) {
            file.lock().base = Some(version);
        }
        node.base = Some(crate::node::Base { place, version, young: false });
        if node.kind != Kind::File {
            node.dirty_content = false;
        }
        self.settle_attrs(&mut tree, &mut node, before, metadata)?;
        let mut nodes = Vec::new();
        nodes.extend(gone(&mut tree, replaced)?);
        nodes.push(node);
        self.commit(&mut tree, &nodes, vec![Record::SentGone(before.ino)], true)?;
        drop(tree);
        self.after_commit(&nodes);
        Ok(())
    }

    /// The share has the node at this place now; nothing else of it was sent.
    pub(super) fn moved_there(
        &self,
        before: &Node,
        place: Place,
        metadata: &covefs_remote::Metadata,
        replaced: Option<&Node>,
    ) -> Result<()> {
        let mut tree = self.tree();
        let mut node = since(&mut tree, before, self.next_change())?;
        let old = node.base.as_ref().or(before.base.as_ref()).map(|base| base.version);
        let mut version = metadata.version;
        if let Some(old) = old
            && !old.same_content(&version)
        {
            // Edited there while it was renamed here: both stand, the next listing brings it.
            version = old;
        }
        if let Some(file) = node.content.and_then(|id| self.files.get(id)) {
            let mut content = file.lock();
            if content.base.is_some_and(|base| base.same_content(&version)) {
                content.base = Some(version);
            }
        }
        let mut known = vec![Record::SentGone(before.ino)];
        if node.kind == Kind::Dir
            && let Some(from) = tree.base_path(before.ino)?
            && let Some(to) = tree.remote_path_of(&place)?
        {
            known.extend(self.leftovers_move(&from, &to));
        }
        node.base = Some(crate::node::Base { place, version, young: false });
        self.take_attrs(&mut node, metadata);
        let mut nodes = Vec::new();
        nodes.extend(gone(&mut tree, replaced)?);
        nodes.push(node);
        self.commit(&mut tree, &nodes, known, true)?;
        drop(tree);
        self.after_commit(&nodes);
        Ok(())
    }

    /// Attributes that nobody has set since the step began are on the share now, as far as it took them. Set
    /// again to the same counts too: a directory's times are moved by what was made in it meanwhile.
    pub(super) fn settle_attrs(
        &self,
        tree: &mut Tree,
        node: &mut Node,
        before: &Node,
        metadata: &Metadata,
    ) -> Result<()> {
        if node.change == before.change {
            node.dirty_attrs = DirtyAttrs::default();
        }
        let is_new = before.base.is_none();
        let rule = self.remote.limits().xattrs;
        let sent =
            to_send(rule, before).filter(|sent| !sent.is_empty() && !node.dirty_attrs.xattrs);
        if let Some(sent) = sent {
            let none = Xattrs::new();
            let refused = refused(rule, &sent, metadata.xattrs.as_ref().unwrap_or(&none));
            let is_bare = is_new && before.kind == Kind::Dir && !refused.is_empty();
            let is_unknown = rule == XattrRule::Windows && metadata.xattrs.is_none();
            if rule != XattrRule::None && (is_bare || is_unknown) {
                // Made without them, or nobody says.
                node.dirty_attrs.xattrs = true;
                node.xattrs = Some(marked_all(rule, sent));
            } else {
                let path = tree.path(node.ino)?.unwrap_or_default().to_string();
                match refused.is_empty() {
                    true => self.settled(&path),
                    false => {
                        let names = refused.join(", ");
                        let text = format!(
                            "the share did not take extended attributes of {path}: {names}"
                        );
                        self.message(&path, text);
                    }
                }
            }
        }
        self.take_attrs(node, metadata);
        Ok(())
    }

    /// Drops bytes of what is nothing now, and queues what is still dirty.
    pub(super) fn after_commit(&self, nodes: &[Node]) {
        for node in nodes {
            if node.is_nothing() {
                self.dropped(node);
            } else if node.is_dirty() {
                self.sync.poke(node.ino);
            }
        }
    }

    pub(super) fn remote_path(&self, place: &Place) -> Result<RemotePath> {
        let path = self.tree().remote_path_of(place)?;
        path.ok_or_else(|| Error::new(crate::error::ErrorKind::Stale, "find the share's path"))
    }
}

/// The node as it is now. Removed here meanwhile, it is what the share has to remove, by a new change.
fn since(tree: &mut Tree, before: &Node, change: u64) -> Result<Node> {
    let removed = || Node { place: None, content: None, change, ..before.clone() };
    Ok(tree.get(before.ino)?.unwrap_or_else(removed))
}

/// Whether the share has a node where it had it before.
fn is_where(node: &Node, before: &Node) -> bool {
    let place = |node: &Node| node.base.as_ref().map(|base| base.place.clone());
    place(node) == place(before)
}

/// The node whose place on the share another one has taken.
pub(super) fn gone(tree: &mut Tree, replaced: Option<&Node>) -> Result<Option<Node>> {
    let Some(replaced) = replaced else { return Ok(None) };
    let Some(mut node) = tree.get(replaced.ino)? else { return Ok(None) };
    if !is_where(&node, replaced) {
        return Ok(None);
    }
    node.base = None;
    node.dirty_content &= node.place.is_some();
    Ok(Some(node))
}
