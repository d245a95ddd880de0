//! Contents in use: loading one from journal, index and disk; letting it go when nobody needs it.

use crate::attr::{ContentId, Ino, Notice};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::extents;
use crate::fetch::Reader;
use crate::file::{Content, File, data_path};
use crate::journal::{ByteRange, Record, SentWhat};
use crate::limits;
use crate::node::{Node, Place};
use crate::ranges::RangeSet;
use crate::tree::Tree;
use crate::vfs::Vfs;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::time::Instant;

/// All contents in use.
#[derive(Default)]
pub(crate) struct Files {
    loaded: Mutex<BTreeMap<ContentId, Arc<File>>>,
}

impl Files {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<ContentId, Arc<File>>> {
        self.loaded.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The content, if it is in use. What only eviction has loaded knows neither size nor time.
    pub(crate) fn get(&self, id: ContentId) -> Option<Arc<File>> {
        self.lock().get(&id).filter(|file| file.node().0 != 0).cloned()
    }

    /// The numbers of all contents in use.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.lock().keys().map(|id| id.0).collect()
    }

    /// Bytes that a content not in use takes on the disk.
    pub(crate) fn allocated(&self, disk: &dyn Disk, id: ContentId) -> u64 {
        disk.allocated(&data_path(id)).unwrap_or(0)
    }
}

/// A content that counts as open.
pub(crate) struct Pinned {
    vfs: Arc<Vfs>,
    pub file: Arc<File>,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.file.lock().handles -= 1;
        self.vfs.closed(&self.file);
    }
}

impl Vfs {
    /// The content of a node, which gets one if it has none yet.
    pub(crate) fn file_of(&self, tree: &mut Tree, mut node: Node) -> Result<Arc<File>> {
        if node.kind != covefs_remote::Kind::File {
            return Err(Error::new(ErrorKind::Invalid, "use the bytes of what is no file"));
        }
        let file = match node.content {
            Some(id) => self.load(id)?,
            None => {
                let id = ContentId(self.next_number());
                node.content = Some(id);
                self.commit(tree, std::slice::from_ref(&node), Vec::new(), false)?;
                self.load_new(id)
            }
        };
        if file.ino.swap(node.ino.0, Ordering::Relaxed) == 0 {
            let mut content = file.lock();
            content.base = node.base.as_ref().map(|base| base.version);
            content.orphan = node.place.is_none();
            self.pin_if_asked(tree, &node, file.id)?;
            if !content.touched {
                content.size = node.size;
                content.mtime = node.mtime;
                content.ctime = node.ctime;
                content.base_end = if content.base.is_some() { node.size } else { 0 };
                let size = content.size;
                content.present.truncate(size);
            }
        }
        Ok(file)
    }

    /// The same, kept from being dropped for as long as the pin lives.
    pub(crate) fn keep_loaded(&self, tree: &mut Tree, node: Node) -> Result<Pinned> {
        let file = self.file_of(tree, node)?;
        file.lock().handles += 1;
        Ok(Pinned { vfs: self.arc(), file })
    }

    /// The content of a node that has one, whole with what the node knows of it.
    pub(crate) fn bytes_of(&self, tree: &mut Tree, node: &Node) -> Result<Option<Arc<File>>> {
        let has = node.kind == covefs_remote::Kind::File && node.content.is_some();
        has.then(|| self.file_of(tree, node.clone())).transpose()
    }

    /// The content with this number, loaded if it is not in use. Without a node nothing but its
    /// local bytes is known; `file_of` adds the rest.
    pub(crate) fn load(&self, id: ContentId) -> Result<Arc<File>> {
        let mut loaded = self.files.lock();
        if let Some(file) = loaded.get(&id) {
            return Ok(file.clone());
        }
        let (live, sent) = self.journal.live(|live| {
            let sent = live.sent.values().filter_map(|sent| match &sent.what {
                SentWhat::Bytes(bytes) if bytes.content == id => Some(bytes.generation),
                _ => None,
            });
            (live.contents.get(&id).cloned(), sent.max())
        });
        let mut content = Content::new(0, Default::default(), None);
        let (mut present, crcs) = extents::load(&*self.index, id)?;
        // What is absent by the journal may be present by an index that is behind (D3).
        let absent = self.journal.live(|live| live.absent_ranges(id));
        present.subtract(&absent);
        let file = File::new(id, self.disk.clone(), Content::new(0, Default::default(), None));
        if let Some(data) = file.data(false)? {
            let stored = (|| {
                let len = data.len()?;
                Ok((len, data.data_ranges(0..len)?, data.allocated()?))
            })();
            let (len, stored, allocated) =
                stored.map_err(|error| Error::disk("look at a data file", error))?;
            present = present.intersection(&stored);
            content.allocated = allocated;
            drop(data);
            if len >= limits::LEND {
                (content.shared, content.unseen) = self.was_left(&file);
            }
        } else {
            present = RangeSet::new();
        }
        content.crcs = crcs;
        content.size = present.iter().last().map_or(0, |range| range.end);
        if let Some(live) = live {
            content.size = live.size;
            content.mtime = live.mtime;
            content.ctime = live.mtime;
            content.base_end = live.base_end.min(live.size);
            present.truncate(content.base_end);
            content.touched = true;
            content.touch_durable = live.base_end == 0;
            for (generation, ranges) in &live.generations {
                content.older.union_with(&ranges.dirty);
                content.zeros.union_with(&ranges.zeros);
                content.generation = content.generation.max(generation + 1);
            }
            // What is written from here on is not in an upload that may have arrived (S1).
            content.generation = content.generation.max(sent.map_or(0, |sent| sent + 1));
            // Later generations may have written over earlier zeros; the journal says so.
            present.union_with(&content.older);
            content.oldest_dirty = Some(Instant::now());
            for range in live.generations.values().flat_map(|ranges| ranges.dirty.iter()) {
                let blocks = range.start / limits::BLOCK..range.end.div_ceil(limits::BLOCK);
                content.crcs.retain(|block, _| !blocks.contains(block));
            }
        }
        // What is written through a mapping was claimed before (P2): one of a clean file is none of ours.
        content.unseen &= content.touched;
        content.present = present;
        *file.lock() = content;
        let file = Arc::new(file);
        loaded.insert(id, file.clone());
        Ok(file)
    }

    /// The content with a number that was never used (J8): neither journal, index nor disk has any of it.
    fn load_new(&self, id: ContentId) -> Arc<File> {
        let content = Content::new(0, Default::default(), None);
        let file = Arc::new(File::new(id, self.disk.clone(), content));
        let other = self.files.lock().insert(id, file.clone());
        debug_assert!(other.is_none(), "{id:?} is in use");
        file
    }

    /// Makes a content dirty for the first time since it was in step: one frame says so, durable
    /// before a byte changes if the share has bytes of it (J6).
    pub(crate) fn touch(&self, file: &Arc<File>) -> Result<()> {
        let durable = {
            let mut tree = self.tree();
            let mut content = file.lock();
            if content.touched {
                // Another writer's record may not be durable yet.
                content.touch_durable
            } else {
                self.touch_node(&mut tree, file, &mut content)?
            }
        };
        if !durable {
            self.journal.sync()?;
        }
        let mut content = file.lock();
        // In step again meanwhile, the next touch has a record of its own to make durable.
        content.touch_durable = content.touched;
        if !durable && !content.is_whole() {
            drop(content);
            self.fetch_base(file);
        }
        Ok(())
    }

    /// Journals node and content as dirty; says whether that may wait for the next fsync.
    fn touch_node(&self, tree: &mut Tree, file: &File, content: &mut Content) -> Result<bool> {
        let node = tree.get(file.node())?;
        let Some(mut node) =
            node.filter(|node| node.content == Some(file.id) && !node.is_nothing())
        else {
            if let Some(place) = content.lost.clone() {
                self.name_again(tree, file, content, place)?;
                return Ok(true);
            }
            // A version that only its open handles still see.
            content.orphan = true;
            content.touched = true;
            return Ok(true);
        };
        let touched = Record::Touched {
            content: file.id,
            generation: content.generation,
            base_end: content.base_end,
            size: content.size,
            mtime: content.mtime,
        };
        node.dirty_content = true;
        node.size = content.size;
        self.changed(tree, vec![node], vec![touched], false)?;
        content.touched = true;
        content.oldest_dirty = Some(Instant::now());
        Ok(content.base.is_none())
    }

    /// Nothing that the index has of a content counts before its next durable flush: it may bring
    /// back what was present before an edit whose bytes the data file then loses. The record goes
    /// into the frame that makes the content clean, from where on the index is asked again (D3).
    pub(crate) fn presence_forgotten(&self, id: ContentId) -> Result<Record> {
        self.index.apply(&extents::keys(&*self.index, id)?)?;
        // Counted after the change: the flush that ends this epoch has it.
        let epoch = self.sync.index_epoch.load(Ordering::SeqCst);
        let all = ByteRange { start: 0, end: u64::MAX };
        Ok(Record::Absent { content: id, epoch, ranges: vec![all] })
    }

    /// The share took the name of an open file away, and it is written to all the same: it gets a
    /// name again, beside what may stand there now, and goes up under it (S6).
    fn name_again(
        &self,
        tree: &mut Tree,
        file: &File,
        content: &mut Content,
        place: Place,
    ) -> Result<()> {
        let wanted = place.clone();
        let there = tree.get(place.parent)?.is_some_and(|dir| dir.place.is_some());
        let parent = if there { place.parent } else { Ino::ROOT };
        let mut place = Place { parent, ..place };
        if tree.child(place.parent, &place.name)?.is_some() || !there {
            place.name = self.free_name(tree, &place)?;
        }
        let mut node = self.made_here(place.clone(), file.node(), content);
        node.content = Some(file.id);
        let (mut records, gaps) = file.without_base(content);
        let path = tree.path(wanted.parent)?.unwrap_or_default().join(&wanted.name);
        let copy = tree.path(place.parent)?.unwrap_or_default().join(&place.name);
        let why = "replaced or removed there while it was open for writing here";
        records.push(self.conflict(path, Some(copy), why, &gaps));
        self.changed(tree, vec![node], records, false)?;
        file.lose_base(content, &self.space, &gaps)?;
        self.notify(Notice::Entry { parent: place.parent, name: place.name });
        Ok(())
    }

    fn made_here(&self, place: Place, ino: Ino, content: &Content) -> Node {
        Node {
            ino,
            kind: covefs_remote::Kind::File,
            place: Some(place),
            base: None,
            mode: self.config.file_mode,
            uid: self.config.uid,
            gid: self.config.gid,
            size: content.size,
            atime: content.mtime,
            mtime: content.mtime,
            ctime: content.ctime,
            btime: content.mtime,
            target: None,
            xattrs: Some(Vec::new()),
            content: None,
            dirty_attrs: Default::default(),
            dirty_content: true,
            listed: true,
            change: 0,
        }
    }

    /// Fetches the rest of what is being edited, so that the share may go without it (D5).
    fn fetch_base(&self, file: &Arc<File>) {
        let size = file.lock().size;
        // A file too big for the cache is streamed by its upload instead.
        if size > self.space.limit() / 4 {
            return;
        }
        let (vfs, file) = (self.arc(), file.clone());
        self.spawn("fetch base", async move {
            if let Err(error) = vfs.fetch_all(&file, Reader::User, &|_| ()).await {
                tracing::debug!(%error, content = file.id.0, "the rest of an edited file");
            }
        });
    }

    /// A handle was closed, or a name removed: drops what nobody can reach any more.
    pub(crate) fn closed(&self, file: &Arc<File>) {
        let ino = file.node();
        {
            let mut tree = self.tree();
            let content = file.lock();
            if content.handles > 0 {
                return;
            }
            let orphan = content.orphan;
            drop(content);
            let node = tree.get(ino).ok().flatten();
            let theirs = node.as_ref().is_some_and(|node| node.content == Some(file.id));
            if orphan || !theirs {
                if theirs && node.is_some_and(|node| node.is_nothing()) {
                    let _ = tree.erase(ino);
                }
                drop(tree);
                self.files.lock().remove(&file.id);
                self.drop_content(file.id);
                return;
            }
        }
        self.unload_if_idle(file);
    }

    /// Removes the data file of a content that no node has, and all that is known of it.
    pub(crate) fn drop_content(&self, id: ContentId) {
        let allocated = self.files.allocated(&*self.disk, id);
        let keys = match extents::keys(&*self.index, id) {
            Ok(keys) => keys,
            Err(error) => {
                tracing::warn!(%error, "an index record stays");
                Vec::new()
            }
        };
        // The bytes go once the journal durably knows that nobody wants them: else a power cut
        // could bring the name back without them.
        self.dropping.lock().unwrap_or_else(|p| p.into_inner()).push((id, allocated));
        if let Err(error) = self.index.apply(&keys) {
            tracing::warn!(%error, "an index record stays");
        }
        self.space.heat().forget_content(id);
    }

    /// Removes the data files of contents that are dropped; after an fdatasync of the journal.
    pub(crate) fn remove_dropped(&self) -> Result<bool> {
        let dropped = {
            let mut dropping = self.dropping.lock().unwrap_or_else(|p| p.into_inner());
            std::mem::take(&mut *dropping)
        };
        if dropped.is_empty() {
            return Ok(false);
        }
        self.journal.sync()?;
        for (id, allocated) in dropped {
            match self.disk.remove(&data_path(id)) {
                Ok(()) => self.space.account(allocated, 0),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // The next start finds it again.
                Err(error) => tracing::warn!(%error, content = id.0, "a data file stays"),
            }
        }
        Ok(true)
    }

    /// Lets a content go that has no handle, flight, upload, nor anything unsettled. A dirty one
    /// too: the journal has all of it.
    pub(crate) fn unload_if_idle(&self, file: &Arc<File>) {
        let mut tree = self.tree();
        let mut loaded = self.files.lock();
        let content = file.lock();
        let busy = content.handles > 0
            || !content.flights.is_empty()
            || content.frozen.is_some()
            || content.is_held()
            || content.latched;
        let unsettled = content.unsynced || content.unindexed;
        if !busy && unsettled && self.are_many_unsettled() {
            // Opened again for its sync or upload; held open, a burst of files would use up what a
            // process may have.
            file.close_data();
        }
        // The registry's own and the caller's; anybody else may be about to use it.
        if busy || unsettled || Arc::strong_count(file) > 2 {
            return;
        }
        // The node stands for it from now on.
        if let Ok(Some(mut node)) = tree.get(file.node())
            && node.content == Some(file.id)
            && (node.size, node.mtime) != (content.size, content.mtime)
        {
            node.size = content.size;
            node.mtime = content.mtime;
            node.ctime = node.ctime.max(content.ctime);
            if let Err(error) = tree.store(&[node]) {
                tracing::warn!(%error, "a content stays loaded");
                return;
            }
        }
        loaded.remove(&file.id);
    }
}
