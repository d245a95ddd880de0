//! Changes of the share whose outcome nobody told us: the answer was lost, or we died before we
//! could write it down (S4). Each is journalled before it is made, and asked for before anything
//! else is believed of that node.

use super::conflict::{copy_bytes_max, copy_name};
use super::taken::gone;
use crate::attr::Ino;
use crate::error::{Result, is_gone};
use crate::journal::{Record, SentBytes, SentRecord, SentWhat};
use crate::limits;
use crate::node::{Node, Place};
use crate::tree::Tree;
use crate::vfs::Vfs;
use covefs_remote::{Expect, Kind, Metadata, Remote, RemotePath, Version};

impl Vfs {
    /// Notes what is about to be asked for.
    pub(super) fn will_send(&self, ino: Ino, place: Place, what: SentWhat) -> Result<()> {
        let sent = SentRecord { ino, place, what };
        self.journal.append_freeing(&[Record::Sent(Box::new(sent))])
    }

    /// Before the share changes, all that led to it is durable: a power cut must not take this site
    /// back to what the share no longer has, an old name or bytes that were replaced.
    pub(super) async fn durable(&self) -> Result<()> {
        self.on_disk(|vfs| vfs.journal.sync()).await?
    }

    /// The outcome is known: it was not made.
    pub(super) fn was_not_made(&self, ino: Ino) -> Result<()> {
        self.journal.append_freeing(&[Record::SentGone(ino)])
    }

    /// A directory that may stand elsewhere on the share than we know, because the answer to its
    /// rename was lost: this one, or one above it. What is asked for below it says nothing.
    pub(crate) fn unsure_above(&self, tree: &mut Tree, dir: Ino) -> Result<Option<Ino>> {
        let renamed: Vec<Ino> = self.journal.live(|live| {
            let moves = live.sent.values().filter(|sent| matches!(sent.what, SentWhat::Move));
            moves.map(|sent| sent.ino).collect()
        });
        if renamed.is_empty() {
            return Ok(None);
        }
        tree.topmost(dir, |ino| renamed.contains(&ino))
    }

    /// The same for all that a step of this node would be about.
    pub(super) fn unsure_of(&self, ino: Ino) -> Result<Option<Ino>> {
        let mut tree = self.tree();
        let node = tree.get(ino)?;
        let sent = self.journal.live(|live| live.sent.get(&ino).map(|sent| sent.place.clone()));
        let mut places: Vec<Place> = sent.into_iter().collect();
        if let Some(node) = node {
            places.extend(node.place);
            places.extend(node.base.map(|base| base.place));
        }
        for place in places {
            if let Some(above) = self.unsure_above(&mut tree, place.parent)?
                && above != ino
            {
                return Ok(Some(above));
            }
        }
        Ok(None)
    }

    /// Finds out about all of them.
    pub(crate) async fn resolve_all_sent(&self) {
        let mut sent: Vec<Ino> = self.journal.live(|live| live.sent.keys().copied().collect());
        while let Some(ino) = sent.pop() {
            // Directories before what lies in them.
            match self.unsure_of(ino) {
                Ok(Some(above)) if sent.contains(&above) => {
                    sent.retain(|other| *other != above);
                    sent.extend([ino, above]);
                    continue;
                }
                Ok(None) => {}
                // Its own worker asks again.
                _ => continue,
            }
            let Some(_ours) = self.sync.claim(ino) else { continue };
            if let Err(error) = self.resolve_sent(ino).await {
                tracing::warn!(%error, ino = ino.0, "the outcome of a change stays unknown");
            }
        }
    }

    /// Finds out where a directory is whose rename may have been made, or waits while others do.
    pub(crate) async fn resolve_renamed(&self, dir: Ino) -> Result<()> {
        let finished = self.sync.finished.notified();
        if let Some(_ours) = self.sync.claim(dir) {
            return self.resolve_sent(dir).await;
        }
        let _ = tokio::time::timeout(limits::BUSY * 5, finished).await;
        Ok(())
    }

    /// Finds out whether the last change of a node was made, if that is not known. Nobody else may
    /// be at it: the caller has its claim.
    pub(super) async fn resolve_sent(&self, ino: Ino) -> Result<()> {
        let Some(sent) = self.journal.live(|live| live.sent.get(&ino).cloned()) else {
            return Ok(());
        };
        let places = [sent.place.clone()];
        self.sync.begin(ino, &places);
        let resolved = self.resolve(ino, sent).await;
        self.sync.end(ino, &places);
        resolved
    }

    async fn resolve(&self, ino: Ino, sent: SentRecord) -> Result<()> {
        let path = self.tree().remote_path_of(&sent.place)?;
        let place = path.clone();
        if let SentWhat::Removed(version) = sent.what {
            return self.finish_removal(ino, path, version).await;
        }
        let found = match &path {
            Some(path) => match self.remote.stat(path).await {
                Ok(found) => Some(found),
                Err(error) if is_gone(&error) => None,
                Err(error) => {
                    self.reach.failed(error.kind);
                    return Err(error.into());
                }
            },
            None => None,
        };
        let node = self.tree().get(ino)?;
        let known = node.as_ref().and_then(|node| node.base.as_ref()).map(|base| base.version);
        let ours = found.filter(|found| match &sent.what {
            // Ours if size and time are those we set and it is not what was there before.
            SentWhat::Bytes(bytes) => {
                found.size == bytes.size
                    && bytes.mtime.may_read_back_as(found.mtime)
                    && known.is_none_or(|known| !known.same_content(&found.version))
            }
            SentWhat::Move => known.is_some_and(|known| known.same_object(&found.version)),
            SentWhat::Made { target: None, mtime } => {
                found.kind == Kind::Dir && mtime.may_read_back_as(found.mtime)
            }
            SentWhat::Made { target, .. } => found.target == *target,
            SentWhat::Removed(_) => false,
        });
        let (Some(path), Some(found)) = (path, ours) else {
            tracing::info!(ino = ino.0, "a change whose answer was lost had not been made");
            self.was_not_made(ino)?;
            if let (SentWhat::Made { target: Some(_), .. }, Some(path)) = (&sent.what, place) {
                self.remove_half_link(&path).await;
            }
            return Ok(());
        };
        tracing::info!(ino = ino.0, "a change whose answer was lost had been made");
        let replaced = self.tree().base_child(&sent.place)?.filter(|other| other.ino != ino);
        let old = replaced.as_ref().and_then(|old| old.base.as_ref()).map(|base| base.version);
        match (&sent.what, node) {
            (SentWhat::Move, node) => {
                self.finish_rename(ino, old).await?;
                match node {
                    Some(node) => self.moved_there(&node, sent.place, &found, replaced.as_ref()),
                    None => self.arrived_too_late(&sent, &found, replaced.as_ref()),
                }
            }
            (SentWhat::Bytes(bytes), node) => {
                self.finish_replace(&path, &bytes.temp, old.or(known)).await?;
                match node.filter(|node| node.content == Some(bytes.content)) {
                    Some(node) => self.arrived(&node, &sent, bytes, &found, replaced.as_ref()),
                    None => self.arrived_too_late(&sent, &found, replaced.as_ref()),
                }
            }
            (SentWhat::Made { .. }, Some(node)) if node.base.is_none() && !node.is_nothing() => {
                self.in_step(&set_since(&node), sent.place, &found, None)?;
                self.times_come_last(&node)
            }
            (SentWhat::Made { .. }, _) => self.arrived_too_late(&sent, &found, replaced.as_ref()),
            (SentWhat::Removed(_), _) => Ok(()),
        }
    }

    /// A symlink that takes the share two steps may have got as far as the first, which has a name that
    /// only the share knows (X2).
    async fn remove_half_link(&self, path: &RemotePath) {
        let Some((dir, _)) = path.split() else { return };
        if let Err(error) = self.empty_of_ours(&dir).await {
            tracing::debug!(%error, %dir, "what was broken off stays");
        }
    }

    /// Asks for the removal once more: only so goes what a cut-off one has moved aside, which
    /// neither a listing nor the name shows.
    async fn finish_removal(
        &self,
        ino: Ino,
        path: Option<RemotePath>,
        version: Version,
    ) -> Result<()> {
        let Some(path) = path else { return self.was_not_made(ino) };
        let made = match self.remote.remove(&path, Expect::Version(version)).await {
            Ok(()) => true,
            Err(error) if error.kind.is_transient() => return self.retry(error),
            Err(error) => is_gone(&error),
        };
        let node = self.tree().get(ino)?.filter(|node| node.place.is_none());
        match node.and_then(|node| node.base) {
            Some(base) if made && base.version == version => self.forget_base(ino),
            _ => self.was_not_made(ino),
        }
    }

    /// Where the share exchanges names, a replace that was cut off may have left the old bytes under
    /// the temporary name. What nobody had seen before is not ours to remove.
    async fn finish_replace(
        &self,
        path: &RemotePath,
        temp: &[u8],
        old: Option<Version>,
    ) -> Result<()> {
        let Some((dir, name)) = path.split() else { return Ok(()) };
        let temp = dir.join(temp);
        let left = match self.remote.stat(&temp).await {
            Ok(left) => left,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if old.is_some_and(|old| old.same_content(&left.version)) {
            self.remote.remove(&temp, Expect::Version(left.version)).await?;
        } else {
            let mark = format!("kept-{:08x}", self.next_number() as u32);
            let limit = copy_bytes_max(self.remote.limits());
            let kept = dir.join(&copy_name(name, &mark, 1, limit));
            self.remote.rename(&temp, &left.version, &kept, Expect::Absent).await?;
            let text = format!("an edit made on the share during an upload is kept as {kept}");
            self.message(&kept.to_string(), text);
        }
        self.journal.append_freeing(&[Record::TempGone(temp)])
    }

    /// The same for a rename over another file: the old one may stand at the name that ours left.
    async fn finish_rename(&self, ino: Ino, old: Option<Version>) -> Result<()> {
        let from = self.tree().base_path(ino)?;
        let (Some(from), Some(old)) = (from, old) else { return Ok(()) };
        match self.remote.remove(&from, Expect::Version(old)).await {
            Err(error) if error.kind.is_transient() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The share has the upload; what was written after it stays dirty.
    fn arrived(
        &self,
        node: &Node,
        sent: &SentRecord,
        bytes: &SentBytes,
        found: &Metadata,
        replaced: Option<&Node>,
    ) -> Result<()> {
        let file = {
            let mut tree = self.tree();
            self.file_of(&mut tree, node.clone())?
        };
        {
            let mut content = file.lock();
            // Under the lock: what is written later is in neither.
            let known = self.journal.live(|live| live.contents.get(&bytes.content).cloned());
            let mut known = known.unwrap_or_default();
            let later = known.generations.split_off(&(bytes.generation + 1));
            content.dirty = Default::default();
            content.older = Default::default();
            for ranges in later.values() {
                content.older.union_with(&ranges.dirty);
            }
            // The share has what a power cut may have taken from the data file.
            let mut doubtful = known.suspect;
            doubtful.subtract(&content.older);
            content.present.subtract(&doubtful);
            content.zeros.subtract(&doubtful);
            content.generation = content.generation.max(bytes.generation + 1);
            content.logged = Default::default();
            // The smallest size since: what lies below it and was not written since is the upload's.
            let sizes = known.size_min.range(bytes.generation + 1..).map(|(_, size)| *size);
            content.cut_since = Some(sizes.fold(content.size, u64::min));
        }
        let place = sent.place.clone();
        let before = set_since(node);
        self.uploaded(&before, &file, place, found, bytes.generation, replaced, Vec::new())?;
        if !file.lock().is_dirty() {
            self.no_longer_suspect(&mut self.tree(), node.ino)?;
        }
        Ok(())
    }

    /// The share has the upload of a node that was removed here meanwhile: something to remove.
    fn arrived_too_late(
        &self,
        sent: &SentRecord,
        found: &Metadata,
        replaced: Option<&Node>,
    ) -> Result<()> {
        let mut tree = self.tree();
        let ghost = self.node_from(sent.place.clone(), found);
        // Two that the share has at one place would be one too many.
        let known = tree.get(sent.ino)?.filter(|node| node.place.is_none());
        let mut ghost = match known {
            Some(node) => Node { base: ghost.base, ..node },
            None => Node { place: None, ..ghost },
        };
        ghost.change = self.next_change();
        let mut nodes = Vec::new();
        nodes.extend(gone(&mut tree, replaced)?);
        nodes.push(ghost);
        self.commit(&mut tree, &nodes, vec![Record::SentGone(sent.ino)], true)?;
        drop(tree);
        self.after_commit(&nodes);
        Ok(())
    }
}

/// A node as it was at a time that nobody knows: what is set of it now, may have been set since.
pub(super) fn set_since(node: &Node) -> Node {
    Node { change: 0, ..node.clone() }
}
