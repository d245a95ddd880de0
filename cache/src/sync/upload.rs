//! One file to the share: freeze, send under a temporary name, put in place, be in step.

use super::plan::View;
use super::run::Outcome;
use super::source::Upload;
use super::taken::gone;
use crate::attr::Ino;
use crate::broken::{Broken, is_broken};
use crate::error::{ErrorKind, Result};
use crate::fetch::Reader;
use crate::file::File;
use crate::journal::Record;
use crate::lend::Unseen;
use crate::limits;
use crate::node::{Base, Node, Place};
use crate::vfs::Vfs;
use covefs_remote::{Expect, Metadata, Remote, RemotePath};
use std::sync::Arc;

impl Vfs {
    /// Makes the share's file what ours is.
    pub(super) async fn upload(&self, view: &View, expect: Expect) -> Result<Outcome> {
        let expect = if is_broken(Broken::VersionCheck) { Expect::Any } else { expect };
        let node = &view.node;
        let place = node.place.clone().expect("the plan uploads only what has a place");
        let path = self.remote_path(&place)?;
        if self.journal.live(|live| live.suspects.contains(&node.ino)) {
            // A power cut may have taken bytes of it: it never replaces (J6).
            if !self.complete(node).await? {
                return Ok(Outcome::Later(limits::RETRY_FIRST));
            }
            return self.step_aside(view, &place, "lost bytes in a power cut", None).await;
        }
        let file = {
            let mut tree = self.tree();
            let Some(now) = tree.get(node.ino)? else { return Ok(Outcome::Done) };
            self.file_of(&mut tree, now)?
        };
        let Unseen::Send(changed) = self.changed_unseen(&file).await? else {
            return self.without_bytes(view).await;
        };
        let (temp, temp_path) = self.temporary(&path)?;
        // Of a young version the share may have other bytes by now.
        let replaced = match expect {
            Expect::Version(version) if !node.base.as_ref().is_some_and(|base| base.young) => {
                Some(version)
            }
            Expect::Version(_) | Expect::Any | Expect::Absent => None,
        };
        let change = self.next_change();
        let begun = Upload::begin(self.arc(), file.clone(), place.clone(), temp.clone(), replaced);
        let upload = Arc::new(begun.await);
        let mut thaw = Thaw(Some(upload.clone()));
        let sent = self.remote.replace(&path, upload.clone(), expect, &temp).await;
        // Its directory may have been renamed meanwhile.
        let now = self.tree().remote_path_of(&Place::new(place.parent, &temp))?;
        let (noted, temp_path) = (temp_path.clone(), now.unwrap_or(temp_path));
        match (sent, upload.settled()) {
            (Ok(metadata), Some(generation)) => {
                thaw.0 = None;
                self.share_clock.learn(&metadata);
                let (replaced, gone) = (view.occupant.as_ref(), vec![Record::TempGone(temp_path)]);
                self.uploaded(node, &file, place, &metadata, generation, replaced, gone)?;
                file.lock().seen = changed;
                self.rest_is_of(node.ino, change)?;
                Ok(Outcome::Again)
            }
            (Ok(_), None) => {
                self.leave(temp_path);
                Ok(Outcome::Later(limits::RETRY_FIRST))
            }
            (Err(error), _) => {
                drop(thaw);
                if error.kind.is_transient() {
                    self.leave(temp_path);
                    // Whether it was put in place nobody knows: the next step asks first.
                    self.reach.failed(error.kind);
                    return Err(error.into());
                }
                self.was_not_made(node.ino)?;
                match temp_path != noted || self.is_unsure_of(&temp_path) {
                    true => self.leave(temp_path),
                    false => self.journal.append_freeing(&[Record::TempGone(temp_path)])?,
                }
                self.resolve_replace(view, &file, &place, &path, error).await
            }
        }
    }

    /// The upload of what only counts as changed.
    async fn without_bytes(&self, view: &View) -> Result<Outcome> {
        match view.node.dirty_attrs.any() {
            true => self.set_attrs_there(view).await,
            false => Ok(Outcome::Later(limits::UNSEEN_LOOK)),
        }
    }

    /// A temporary name beside the file, and its path: known before it is made, so that a crash leaves nothing
    /// for ever (X2).
    fn temporary(&self, path: &RemotePath) -> Result<(Vec<u8>, RemotePath)> {
        let number = self.next_number();
        let temp = format!(".~covefs-{}-{number}", self.site.cache_id).into_bytes();
        let (parent, _) = path.split().expect("a file is not the root");
        let temp_path = parent.join(&temp);
        self.journal.append_freeing(&[Record::Temp(temp_path.clone())])?;
        Ok((temp, temp_path))
    }

    /// What is still dirty was written after this change: removals of before need not wait for it, or somebody
    /// who never stops writing would keep them all from the share (S3).
    fn rest_is_of(&self, ino: Ino, change: u64) -> Result<()> {
        let mut tree = self.tree();
        let Some(mut node) =
            tree.get(ino)?.filter(|node| node.dirty_content && node.change < change)
        else {
            return Ok(());
        };
        node.change = change;
        self.commit(&mut tree, &[node], Vec::new(), true)
    }

    /// Fetches what the share has of a file that is about to lose its base; `false`: there is no
    /// room for it now. What the share no longer has, and what is too big, stays missing.
    pub(super) async fn complete(&self, node: &Node) -> Result<bool> {
        let file = self.bytes_of(&mut self.tree(), node)?;
        let Some(file) = file else { return Ok(true) };
        if file.lock().size > self.space.limit() / 4 {
            return Ok(true);
        }
        self.until_ready().await;
        match self.fetch_all(&file, Reader::Sync, &|_| ()).await {
            Ok(()) => Ok(file.lock().is_whole()),
            Err(error) if error.kind == ErrorKind::Offline => Err(error),
            Err(error) => {
                tracing::warn!(%error, ino = node.ino.0, "the rest of a file is not to be had");
                Ok(true)
            }
        }
    }

    /// The share has what the upload settled on; what was written since stays dirty.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn uploaded(
        &self,
        before: &Node,
        file: &Arc<File>,
        place: Place,
        metadata: &Metadata,
        generation: u64,
        replaced: Option<&Node>,
        mut records: Vec<Record>,
    ) -> Result<()> {
        let mut tree = self.tree();
        let current = tree.get(before.ino)?.filter(|node| !node.is_nothing());
        // Removed here meanwhile: the share has something to remove.
        let removed = || {
            let change = self.next_change();
            Node { place: None, content: None, change, ..before.clone() }
        };
        let mut node = current.unwrap_or_else(removed);
        let mut nodes = Vec::new();
        nodes.extend(gone(&mut tree, replaced)?);
        records.push(Record::SentGone(before.ino));
        let always = records.len();
        {
            let mut content = file.lock();
            content.frozen = None;
            content.held = false;
            content.base = Some(metadata.version);
            let size = metadata.size;
            let unsent = !content.dirty.is_empty() || !content.older.is_empty();
            let clean = !unsent && content.size == size;
            let cut = content.cut_since.take().unwrap_or(size);
            if clean {
                content.touched = false;
                content.touch_durable = false;
                content.base_end = content.size;
                content.oldest_dirty = None;
                content.fsynced = false;
                content.unindexed = true;
                content.unsynced = true;
                records.push(self.presence_forgotten(file.id)?);
                records.push(Record::ContentGone(file.id));
                node.size = content.size;
                node.mtime = content.mtime;
                node.ctime = node.ctime.max(content.ctime);
            } else {
                content.base_end = size.min(cut).min(content.size);
                content.oldest_dirty = Some(tokio::time::Instant::now());
                let id = file.id;
                records.push(Record::CleanUpTo { content: id, generation, base_end: size });
            }
            if !content.orphan {
                node.dirty_content = !clean;
            } else {
                node.dirty_content = false;
                records.truncate(always);
            }
        }
        node.base = Some(Base { place, version: metadata.version, young: false });
        self.settle_attrs(&mut tree, &mut node, before, metadata)?;
        nodes.push(node);
        self.commit(&mut tree, &nodes, records, true)?;
        drop(tree);
        self.warm_up(file);
        self.settle_later(file);
        self.after_commit(&nodes);
        file.changed.notify_waiters();
        self.space.freed.notify_waiters();
        Ok(())
    }

    /// What became clean may be evicted from now on.
    fn warm_up(&self, file: &File) {
        let extents: Vec<u32> = {
            let content = file.lock();
            let ranges = content.present.iter();
            let mut all: Vec<u32> = ranges
                .flat_map(|range| range.start / limits::EXTENT..=(range.end - 1) / limits::EXTENT)
                .map(|extent| extent as u32)
                .collect();
            all.dedup();
            all
        };
        let mut heat = self.space.heat();
        for extent in extents {
            heat.stored((file.id, extent), limits::EXTENT as u32);
        }
    }
}

/// Gives a failed or cancelled upload's bytes back.
struct Thaw(Option<Arc<Upload>>);

impl Drop for Thaw {
    fn drop(&mut self) {
        if let Some(upload) = self.0.take() {
            upload.thaw();
        }
    }
}
