//! When the share is not what we had seen: no byte is overwritten, none of ours is lost.
//!
//! The remote keeps the name; ours becomes `name-SITE.ext`, `name-SITE-2.ext`, ... Edit beats delete
//! on either side. Equal bytes are no conflict: that also settles answers that were lost on the
//! way (S4). Each conflict is journalled, logged and listed until it is dismissed.

use super::plan::View;
use super::run::Outcome;
use super::sent::set_since;
use super::taken::gone;
use crate::attr::Notice;
use crate::error::{Result, is_gone};
use crate::fetch::Reader;
use crate::file::File;
use crate::journal::{ConflictRecord, Record};
use crate::limits::{self, NAME_UNITS_MAX};
use crate::node::{Node, Place};
use crate::ranges::RangeSet;
use crate::tree::Tree;
use crate::vfs::Vfs;
use covefs_remote::{
    Error as RemoteError, ErrorKind as RemoteKind, Kind, Limits, Metadata, NameRule, Remote,
    RemotePath,
};
use futures_util::StreamExt;
use std::ops::Range;
use std::sync::Arc;

/// Whether the share refused because it is not what we had seen.
fn is_mismatch(kind: RemoteKind) -> bool {
    matches!(
        kind,
        RemoteKind::Exists
            | RemoteKind::VersionChanged
            | RemoteKind::NotFound
            | RemoteKind::IsADirectory
            | RemoteKind::NotADirectory
            | RemoteKind::NotEmpty
    )
}

impl Vfs {
    /// An error that says nothing of the tree: tried again, later.
    pub(super) fn retry<T>(&self, error: RemoteError) -> Result<T> {
        self.reach.failed(error.kind);
        Err(error.into())
    }

    /// What the share has at a path: `None` when it has nothing there.
    pub(super) async fn look(&self, path: &RemotePath) -> Result<Option<Metadata>> {
        match self.remote.stat(path).await {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if is_gone(&error) => Ok(None),
            // A file stands where one of its directories was.
            Err(error) if error.kind == RemoteKind::NotADirectory => Ok(None),
            Err(error) => {
                self.reach.failed(error.kind);
                Err(error.into())
            }
        }
    }

    /// The directory of a place is gone from the share: its own listing sorts that out.
    async fn parent_is_gone(&self, place: &Place) -> Result<bool> {
        let path = self.tree().base_path(place.parent)?;
        let Some(path) = path else { return Ok(true) };
        if path.is_root() || self.look(&path).await?.is_some_and(|found| found.kind == Kind::Dir) {
            return Ok(false);
        }
        let mut tree = self.tree();
        if let Some(dir) = tree.get(place.parent)? {
            let asked = self.sync.question();
            self.take_gone(&mut tree, dir, asked)?;
        }
        Ok(true)
    }

    /// A replace was refused.
    pub(super) async fn resolve_replace(
        &self,
        view: &View,
        file: &Arc<File>,
        place: &Place,
        path: &RemotePath,
        error: RemoteError,
    ) -> Result<Outcome> {
        // Bytes of the base that are not here could not be had: gone, or just not now? Without a base
        // it was the local disk, which says nothing about the share.
        let base_failed = error.kind == RemoteKind::Source && view.node.base.is_some();
        if error.kind == RemoteKind::Locked {
            return self.resolve_locked(view, place, path, error).await;
        }
        if !is_mismatch(error.kind) && !base_failed {
            return self.retry(error);
        }
        let found = self.look(path).await?;
        let base = view.node.base.as_ref().map(|base| base.version);
        let same = |found: &Metadata| base.is_some_and(|base| base.same_content(&found.version));
        if base_failed && found.as_ref().is_some_and(same) {
            return self.retry(error);
        }
        let Some(found) = found else {
            if self.parent_is_gone(place).await? {
                return Ok(Outcome::Later(limits::RETRY_FIRST));
            }
            // Edit beats delete: what the share removed is made anew.
            if let Some(old) = &view.occupant {
                self.forget_occupant(old)?;
            }
            return self.make_anew(&view.node);
        };
        if found.kind == Kind::File {
            let compared = file.lock().last_change;
            if self.same_bytes(file, path, &found).await? {
                self.adopt(view, file, place, &found, compared)?;
                return Ok(Outcome::Again);
            }
        }
        self.step_aside(view, place, "changed on both sides", Some(&found)).await
    }

    /// The share holds the bytes that we wanted to send: in step.
    fn adopt(
        &self,
        view: &View,
        file: &Arc<File>,
        place: &Place,
        found: &Metadata,
        compared: Option<tokio::time::Instant>,
    ) -> Result<()> {
        let generation = {
            let mut content = file.lock();
            let generation = content.generation;
            content.generation += 1;
            content.cut_since = Some(content.size);
            // What was written since the comparison began is not on the share; nor may be what nobody
            // tells of (P2).
            let told = content.last_change == compared && !content.unseen;
            let same = content.size == found.size && told;
            if same && !content.cutting {
                content.dirty = Default::default();
                content.older = Default::default();
            }
            generation
        };
        let occupant = view.occupant.as_ref();
        // What is set beside the bytes was not compared: it goes up as a change of its own.
        let before = set_since(&view.node);
        self.uploaded(&before, file, place.clone(), found, generation, occupant, Vec::new())?;
        let mut tree = self.tree();
        if let Some(mut node) = tree.get(view.node.ino)?.filter(|node| node.place.is_some()) {
            node.dirty_attrs.times |= node.mtime != found.mtime;
            self.commit(&mut tree, &[node], Vec::new(), false)?;
        }
        Ok(())
    }

    /// The node is dirty and the share has nothing of it: it is created there.
    fn make_anew(&self, node: &Node) -> Result<Outcome> {
        let mut tree = self.tree();
        let Some(node) = tree.get(node.ino)? else { return Ok(Outcome::Done) };
        if node.place.is_none() {
            drop(tree);
            self.forget_base(node.ino)?;
            return Ok(Outcome::Done);
        }
        self.live_on(&mut tree, node, "removed there while it was changed here")?;
        Ok(Outcome::Again)
    }

    /// The record of a conflict, logged too.
    pub(crate) fn conflict(
        &self,
        path: RemotePath,
        copy: Option<RemotePath>,
        why: &str,
        missing: &[Range<u64>],
    ) -> Record {
        tracing::warn!(%path, ?copy, why, "conflict");
        if !missing.is_empty() {
            tracing::warn!(%path, ?missing, "our copy is incomplete: zeros stand for bytes");
        }
        Record::Conflict(ConflictRecord {
            id: self.next_number(),
            at: self.clock.now(),
            path,
            copy,
            reason: why.to_owned(),
            missing: missing.iter().map(|gap| (gap.start, gap.end)).collect(),
        })
    }

    /// The same for a node that moves on to `copy`. A copy whose name was taken too before it
    /// reached the share is one conflict: what it is a copy of, and what is missing in it, stays.
    fn conflict_again(
        &self,
        node: &Node,
        path: RemotePath,
        copy: Option<RemotePath>,
        why: &str,
        mut missing: RangeSet,
    ) -> Vec<Record> {
        let at_path =
            |conflict: &&ConflictRecord| *conflict.copy.as_ref().unwrap_or(&conflict.path) == path;
        let earlier = self.journal.live(|live| live.conflicts.values().find(at_path).cloned());
        let Some(earlier) = earlier.filter(|_| node.base.is_none()) else {
            return vec![self.conflict(path, copy, why, &missing.iter().collect::<Vec<_>>())];
        };
        missing.union_with(&earlier.missing.iter().map(|gap| gap.0..gap.1).collect());
        let missing: Vec<Range<u64>> = missing.iter().collect();
        let record = self.conflict(earlier.path, copy, &earlier.reason, &missing);
        vec![Record::ConflictDismissed(earlier.id), record]
    }

    /// Ours leaves the name to what the share has there, and goes up beside it.
    pub(super) async fn step_aside(
        &self,
        view: &View,
        place: &Place,
        why: &str,
        found: Option<&Metadata>,
    ) -> Result<Outcome> {
        let mut tree = self.tree();
        let Some(mut node) = tree.get(view.node.ino)? else { return Ok(Outcome::Done) };
        if node.place.as_ref() != Some(place) {
            // Renamed here meanwhile: nothing stands in its way any more, or something else does.
            return Ok(Outcome::Again);
        }
        let file = self.bytes_of(&mut tree, &node)?;
        let name = self.free_name(&mut tree, place)?;
        let path = tree.path(node.ino)?.unwrap_or_default();
        let copy = path.split().map(|(dir, _)| dir.join(&name));
        let before = node.clone();
        node.place = Some(Place::new(place.parent, &name));
        node.change = self.next_change();
        node.base = None;
        node.dirty_content |= file.is_some();
        let mut nodes = Vec::new();
        // Nothing replaces it now, and nobody removed it.
        nodes.extend(gone(&mut tree, view.occupant.as_ref())?);
        nodes.push(node.clone());
        match file {
            Some(file) => {
                let mut content = file.lock();
                let (mut records, gaps) = file.without_base(&content);
                let lost = self.journal.live(|live| Some(live.contents.get(&file.id)?.missing()));
                let mut missing = lost.unwrap_or_default();
                missing.union_with(&gaps.iter().cloned().collect());
                records.extend(self.conflict_again(&before, path, copy, why, missing));
                self.commit(&mut tree, &nodes, records, false)?;
                file.lose_base(&mut content, &self.space, &gaps)?;
            }
            None => {
                let records = self.conflict_again(&before, path, copy, why, RangeSet::default());
                self.commit(&mut tree, &nodes, records, false)?;
            }
        }
        self.no_longer_suspect(&mut tree, node.ino)?;
        match found {
            Some(found) => {
                let theirs = self.node_from(place.clone(), found);
                self.commit(&mut tree, &[theirs], Vec::new(), false)?;
            }
            // The next listing brings it as it is now.
            None => tree.set_dir_info(place.parent, Default::default()),
        }
        drop(tree);
        self.notify(Notice::Entry { parent: place.parent, name: place.name.clone() });
        self.notify(Notice::Entry { parent: place.parent, name });
        self.after_commit(&nodes);
        Ok(Outcome::Again)
    }

    pub(super) fn no_longer_suspect(&self, tree: &mut Tree, ino: crate::attr::Ino) -> Result<()> {
        if !self.journal.live(|live| live.suspects.contains(&ino)) {
            return Ok(());
        }
        // `NodeGone` takes the suspicion with it; the node itself is recorded right after.
        let node = tree.need(ino)?;
        self.journal.append(&[Record::NodeGone(ino), Record::Node(Box::new(node))])
    }

    /// `name-SITE.ext`, `name-SITE-2.ext`, ...: the first that is free here, cut to fit.
    pub(crate) fn free_name(&self, tree: &mut Tree, place: &Place) -> Result<Vec<u8>> {
        let limit = copy_bytes_max(self.remote.limits());
        for number in 1.. {
            let name = copy_name(&place.name, &self.config.site, number, limit);
            let candidate = Place::new(place.parent, &name);
            let taken = tree.child(place.parent, &name)?.is_some()
                || tree.base_child(&candidate)?.is_some();
            if !taken {
                return Ok(name);
            }
        }
        unreachable!("numbers do not end")
    }

    /// Whether the share's file has the bytes of ours.
    async fn same_bytes(
        &self,
        file: &Arc<File>,
        path: &RemotePath,
        found: &Metadata,
    ) -> Result<bool> {
        {
            let content = file.lock();
            if content.size != found.size || !content.is_whole() {
                return Ok(false);
            }
        }
        let read = self.remote.read(path, 0..found.size, &found.version).await;
        let mut theirs = read.map_err(crate::error::Error::from)?;
        let mut at = 0;
        while let Some(chunk) = theirs.next().await {
            let chunk = chunk.map_err(crate::error::Error::from)?;
            let ours = self.read_content(file, at, chunk.len() as u64, Reader::Sync).await?;
            if ours != chunk[..] {
                return Ok(false);
            }
            at += chunk.len() as u64;
        }
        Ok(at == found.size)
    }

    /// A directory or symlink could not be made.
    pub(super) async fn resolve_creation(
        &self,
        view: &View,
        place: &Place,
        path: &RemotePath,
        error: RemoteError,
    ) -> Result<Outcome> {
        if !is_mismatch(error.kind) {
            return self.retry(error);
        }
        match self.look(path).await? {
            // The same new directory twice is one (S6); a link of the same target is the same.
            Some(found)
                if found.kind == view.node.kind
                    && (found.kind == Kind::Dir || found.target == view.node.target) =>
            {
                self.in_step(&view.node, place.clone(), &found, None)?;
                let mut tree = self.tree();
                if let Some(mut node) = tree.get(view.node.ino)?.filter(|n| n.kind == Kind::Dir) {
                    node.listed = false;
                    tree.set_dir_info(node.ino, Default::default());
                    self.commit(&mut tree, &[node], Vec::new(), false)?;
                }
                Ok(Outcome::Again)
            }
            Some(found) => self.step_aside(view, place, "made on both sides", Some(&found)).await,
            None => {
                self.parent_is_gone(place).await?;
                Ok(Outcome::Later(limits::RETRY_FIRST))
            }
        }
    }

    /// A rename was refused.
    pub(super) async fn resolve_move(
        &self,
        view: &View,
        place: &Place,
        from: &RemotePath,
        to: &RemotePath,
        error: RemoteError,
    ) -> Result<Outcome> {
        self.was_not_made(view.node.ino)?;
        if error.kind == RemoteKind::Locked && error.path == *to {
            return self.resolve_locked(view, place, to, error).await;
        }
        if !is_mismatch(error.kind) {
            return self.retry(error);
        }
        let node = &view.node;
        let version = node.base.as_ref().map(|base| base.version).unwrap_or_default();
        let target = self.look(to).await?;
        if let Some(found) = target.as_ref().filter(|found| found.version.same_object(&version)) {
            // The answer was lost, or another site did the same.
            self.moved_there(node, place.clone(), found, view.occupant.as_ref())?;
            return Ok(Outcome::Again);
        }
        let source = self.look(from).await?;
        let still = source.is_some_and(|found| found.version.same_object(&version));
        if !still {
            // Moved or removed there: a place changed on both sides is the remote's (S6).
            return self.place_is_theirs(node);
        }
        match target {
            Some(found) => {
                let why = "the new name was taken on the share";
                self.beside(view, place, &found, why).await
            }
            None if self.parent_is_gone(place).await? => Ok(Outcome::Later(limits::RETRY_FIRST)),
            None => {
                if let Some(old) = &view.occupant {
                    self.forget_occupant(old)?;
                }
                Ok(Outcome::Again)
            }
        }
    }

    /// What we renamed is gone from where the share had it. Edited bytes are made anew here; the
    /// rest follows the share.
    fn place_is_theirs(&self, node: &Node) -> Result<Outcome> {
        if node.dirty_content && node.kind == Kind::File {
            return self.make_anew(node);
        }
        let mut tree = self.tree();
        if let Some(node) = tree.get(node.ino)? {
            // The change under way is our own; the question is newer than any of it.
            self.sync.end(node.ino, &[]);
            let asked = self.sync.question();
            self.take_gone(&mut tree, node, asked)?;
        }
        Ok(Outcome::Done)
    }

    /// The name that a rename wants is not to be had: ours goes beside it.
    pub(super) async fn beside(
        &self,
        view: &View,
        place: &Place,
        found: &Metadata,
        why: &str,
    ) -> Result<Outcome> {
        let mut tree = self.tree();
        let Some(mut node) = tree.get(view.node.ino)? else { return Ok(Outcome::Done) };
        if node.place.as_ref() != Some(place) {
            return Ok(Outcome::Again);
        }
        let name = self.free_name(&mut tree, place)?;
        let path = tree.path(node.ino)?.unwrap_or_default();
        let copy = path.split().map(|(dir, _)| dir.join(&name));
        node.place = Some(Place::new(place.parent, &name));
        let mut nodes = Vec::new();
        nodes.extend(gone(&mut tree, view.occupant.as_ref())?);
        nodes.push(node);
        let record = self.conflict(path, copy, why, &[]);
        self.commit(&mut tree, &nodes, vec![record], false)?;
        let theirs = self.node_from(place.clone(), found);
        self.commit(&mut tree, &[theirs], Vec::new(), false)?;
        drop(tree);
        self.notify(Notice::Entry { parent: place.parent, name: place.name.clone() });
        self.notify(Notice::Entry { parent: place.parent, name });
        self.after_commit(&nodes);
        Ok(Outcome::Again)
    }

    /// A removal was refused.
    pub(super) async fn resolve_removal(
        &self,
        node: &Node,
        path: &RemotePath,
        error: RemoteError,
    ) -> Result<Outcome> {
        match error.kind {
            RemoteKind::NotFound => {
                self.forget_base(node.ino)?;
                Ok(Outcome::Done)
            }
            RemoteKind::NotEmpty if self.empty_of_ours(path).await? => Ok(Outcome::Again),
            kind if is_mismatch(kind) => {
                let found = self.look(path).await?;
                let place = node.base.as_ref().map(|base| base.place.clone());
                self.forget_base(node.ino)?;
                // Edited or filled there: that beats our delete, and the name shows it again.
                if let (Some(found), Some(place)) = (found, place) {
                    let mut tree = self.tree();
                    if tree.child(place.parent, &place.name)?.is_none() {
                        let theirs = self.node_from(place.clone(), &found);
                        self.commit(&mut tree, &[theirs], Vec::new(), false)?;
                    }
                    drop(tree);
                    self.notify(Notice::Entry { parent: place.parent, name: place.name });
                }
                Ok(Outcome::Done)
            }
            _ => self.retry(error),
        }
    }

    /// A file was saved there as a new one under the old name: what was set here is set on that.
    fn follow_replacement(&self, node: &Node, found: &Metadata) -> Result<bool> {
        let mut tree = self.tree();
        let node = tree.get(node.ino)?.filter(|node| !node.dirty_content && !node.is_moved());
        let Some((node, base)) = node.and_then(|node| node.base.clone().map(|base| (node, base)))
        else {
            return Ok(false);
        };
        self.take_changed(&mut tree, node, base, found)?;
        Ok(true)
    }

    /// What we wanted to set attributes of is not what we had seen.
    pub(super) async fn resolve_lost(
        &self,
        node: &Node,
        path: &RemotePath,
        error: RemoteError,
    ) -> Result<Outcome> {
        if !is_mismatch(error.kind) {
            return self.retry(error);
        }
        let version = node.base.as_ref().map(|base| base.version).unwrap_or_default();
        match self.look(path).await? {
            Some(found) if found.version.same_object(&version) => {
                Ok(Outcome::Later(limits::RETRY_FIRST))
            }
            found => self.resolve_other(node, found.as_ref()),
        }
    }

    /// Another object stands where the share had the node, or nothing.
    pub(super) fn resolve_other(&self, node: &Node, found: Option<&Metadata>) -> Result<Outcome> {
        match found {
            Some(found) if found.kind == node.kind && self.follow_replacement(node, found)? => {
                Ok(Outcome::Again)
            }
            _ => self.place_is_theirs(node),
        }
    }
}

/// Bytes of the longest name of a copy: a share that counts characters holds so many of any kind.
pub(super) fn copy_bytes_max(limits: &Limits) -> usize {
    match limits.names {
        NameRule::Bytes => limits.name_bytes_max,
        NameRule::Windows | NameRule::Mapped => limits.name_bytes_max.min(NAME_UNITS_MAX),
    }
}

/// The name of a copy: a mark, as the site, before the extension, a number from the second one on.
pub(super) fn copy_name(name: &[u8], mark: &str, number: u32, limit: usize) -> Vec<u8> {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let mark = if number == 1 { format!("-{mark}") } else { format!("-{mark}-{number}") };
    let room = limit.saturating_sub(mark.len() + extension.len());
    let mut cut = stem.len().min(room);
    // Not in the middle of a character.
    while cut > 0 && cut < stem.len() && stem[cut] & 0xc0 == 0x80 {
        cut -= 1;
    }
    [&stem[..cut], mark.as_bytes(), extension].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_named_after_the_site_and_fit() {
        assert_eq!(copy_name(b"a.txt", "north", 1, 255), b"a-north.txt");
        assert_eq!(copy_name(b"a.txt", "north", 2, 255), b"a-north-2.txt");
        assert_eq!(copy_name(b".bashrc", "north", 1, 255), b".bashrc-north");
        assert_eq!(copy_name(b"Makefile", "north", 3, 255), b"Makefile-north-3");
        let long = [b"x".repeat(250), b".txt".to_vec()].concat();
        let copy = copy_name(&long, "north", 1, 255);
        assert_eq!(copy.len(), 255);
        assert!(copy.ends_with(b"x-north.txt"));
        let umlauts = "\u{e4}".repeat(127);
        assert!(std::str::from_utf8(&copy_name(umlauts.as_bytes(), "n", 1, 255)).is_ok());
    }
}
