//! Taking in what the share says: a whole directory, one name, one node.
//!
//! A word from the share says nothing about a node with a change of ours under way, or finished
//! since the question was sent (S4). Place, attributes and content are compared apart (S5).
//! Nothing here makes anything dirty (S6).

use crate::attr::{ContentId, Ino, Notice};
use crate::error::{Error, ErrorKind, Result, is_gone};
use crate::file::File;
use crate::limits;
use crate::names::OUR_PREFIX;
use crate::node::{Base, DirtyAttrs, Node, Place};
use crate::paths::Hold;
use crate::tree::{DirInfo, Tree};
use crate::vfs::Vfs;
use crate::xattrs::as_told;
use covefs_remote::{Existence, Kind, Metadata, Remote, RemotePath, Version, XattrRule, Xattrs};
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use tokio::time::Instant;

/// A name of a directory and what the share says of it.
type Told = (Vec<u8>, Metadata);

/// Whether the share says of a node only what is known. (`take` would find out the same, slowly.)
fn is_no_news(rule: XattrRule, node: &Node, metadata: &Metadata) -> bool {
    let base = node.base.as_ref();
    !node.is_moved()
        && base.is_some_and(|base| base.version == metadata.version && !base.young)
        && has_as_told(rule, node, metadata)
}

/// Whether a node has extended attributes if the share says so. Samba does not count them as a change of the
/// file, so the version says nothing of them.
fn has_as_told(rule: XattrRule, node: &Node, metadata: &Metadata) -> bool {
    let has_some = |xattrs: &Option<Xattrs>| xattrs.as_ref().is_none_or(|all| !all.is_empty());
    rule != XattrRule::Windows
        || !matches!(metadata.kind, Kind::File | Kind::Dir)
        || node.dirty_attrs.xattrs
        || node.xattrs.is_none()
        || has_some(&node.xattrs) == has_some(&metadata.xattrs)
}

impl Vfs {
    /// The directory's path on the share, which stays its path until the hold is dropped, and the
    /// number of the question that begins now (S4).
    async fn still_path(&self, dir: Ino) -> Result<Option<(RemotePath, u64, Hold<'_>)>> {
        loop {
            let Some(path) = self.tree().base_path(dir)? else { return Ok(None) };
            let hold = self.paths.share(&path).await;
            let unsure = {
                let mut tree = self.tree();
                let unsure = self.unsure_above(&mut tree, dir)?;
                if unsure.is_none() && tree.base_path(dir)?.as_ref() == Some(&path) {
                    return Ok(Some((path, self.sync.question(), hold)));
                }
                unsure
            };
            drop(hold);
            if let Some(renamed) = unsure {
                self.resolve_renamed(renamed).await?;
            }
        }
    }

    /// What was asked while the share was out of reach, or from when on it was, may have been
    /// answered by another one in its place (X1).
    fn believe_since(&self, began: Instant) -> Result<()> {
        if self.reach.is_online() && !self.reach.gave_up_since(began) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Offline, "believe an answer of before the share was away"))
    }

    /// Asks for all names of a directory and takes them in.
    pub(crate) async fn list_dir(&self, dir: Ino) -> Result<()> {
        self.reach.wait_online(Instant::now() + self.config.timeout).await;
        let Some((path, asked, _still)) = self.still_path(dir).await? else { return Ok(()) };
        let began = Instant::now();
        let mut entries = Vec::new();
        let (mut pages, mut one_moment) = (0, true);
        let mut after = None;
        loop {
            let page = match self.remote.list(&path, after).await {
                Ok(page) => page,
                Err(error) if is_gone(&error) => {
                    self.believe_since(began)?;
                    // What is dirty in it lives on, and is found by whoever asked.
                    let mut tree = self.tree();
                    if let Some(node) = tree.get(dir)? {
                        self.take_gone(&mut tree, node, asked)?;
                    }
                    drop(tree);
                    self.forget_above(dir);
                    return Ok(());
                }
                Err(error) => {
                    self.reach.failed(error.kind);
                    return Err(error.into());
                }
            };
            entries.extend(page.entries);
            pages += 1;
            one_moment &= page.one_moment;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        // Of several pages, or moments, a name may have slipped between two: gone only by its own
        // word (X1).
        let is_sure = pages == 1 && one_moment;
        let (mut news, gone) = self.compare(dir, &entries)?;
        let (found, gone) = match is_sure {
            true => (Vec::new(), gone),
            // Left to the next listing.
            false if pages == 1 && gone.len() > limits::STATS_MAX => (Vec::new(), Vec::new()),
            false => self.ask_for_each(&path, gone).await,
        };
        news.extend(&found);
        let took = began.elapsed();
        let info = DirInfo { verified: Some(began), took, big: pages > 1, ..DirInfo::default() };
        self.believe_since(began)?;
        self.take_listing(dir, &news, gone, asked, info)
    }

    /// Asks for single names of a directory: what was found, and which nodes are gone.
    async fn ask_for_each(&self, dir: &RemotePath, nodes: Vec<Node>) -> (Vec<Told>, Vec<Node>) {
        let asked_for = nodes.into_iter().filter_map(|node| {
            let name = node.base.as_ref()?.place.name.clone();
            let path = dir.join(&name);
            Some(async move { (node, name, self.remote.stat(&path).await) })
        });
        let mut asked_for = stream::iter(asked_for).buffer_unordered(limits::STATS);
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        while let Some((node, name, answer)) = asked_for.next().await {
            match answer {
                Ok(metadata) => found.push((name, metadata)),
                Err(error) if is_gone(&error) => gone.push(node),
                Err(_) => {}
            }
        }
        (found, gone)
    }

    fn forget_above(&self, dir: Ino) {
        let mut tree = self.tree();
        if let Ok(Some(Node { base: Some(base), .. })) = tree.get(dir) {
            tree.set_dir_info(base.place.parent, DirInfo::default());
        }
    }

    /// What a complete listing says that is not known: names that are new or changed there, and
    /// nodes that the share had in this directory and has no more.
    fn compare<'a>(&self, dir: Ino, entries: &'a [Told]) -> Result<(Vec<&'a Told>, Vec<Node>)> {
        let mut sorted: Vec<&Told> = entries.iter().collect();
        sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut told = sorted.iter().copied().peekable();
        let rule = self.remote.limits().xattrs;
        let (mut news, mut gone) = (Vec::new(), Vec::new());
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.tree().children(dir, after.as_deref(), limits::SCAN)?;
            let Some(last) = page.last() else { break };
            after = last.place.as_ref().map(|place| place.name.clone());
            for node in page {
                let Some(Place { name, .. }) = &node.place else { continue };
                news.extend(std::iter::from_fn(|| told.next_if(|told| told.0 < *name)));
                let mut is_told = false;
                while let Some(same) = told.next_if(|told| told.0 == *name) {
                    is_told = true;
                    news.extend((!is_no_news(rule, &node, &same.1)).then_some(same));
                }
                if !is_told && node.base.is_some() && !node.is_moved() {
                    gone.push(node);
                }
            }
        }
        news.extend(told);
        let mut tree = self.tree();
        for ino in tree.moved_out_of(dir) {
            let Some(node) = tree.get(ino)? else { continue };
            let name = node.base.as_ref().map(|base| &base.place.name);
            let is_told = |name| sorted.binary_search_by_key(&name, |told| &told.0).is_ok();
            if name.is_some_and(|name| !is_told(name)) {
                gone.push(node);
            }
        }
        Ok((news, gone))
    }

    /// Takes the news of a complete listing in, one step of the tree's lock for so many names.
    fn take_listing(
        &self,
        dir: Ino,
        news: &[&Told],
        gone: Vec<Node>,
        asked: u64,
        info: DirInfo,
    ) -> Result<()> {
        for news in news.chunks(limits::SCAN) {
            let mut tree = self.tree();
            for (name, metadata) in news {
                let place = Place::new(dir, name);
                // Names of ours are hidden, but one of them may be a user's object in transit.
                if !name.starts_with(OUR_PREFIX)
                    || tree.base_child(&place)?.is_some()
                    || self.is_stranded(name, metadata)
                {
                    self.take(&mut tree, place, metadata, asked)?;
                } else if let Some(path) = tree.remote_path_of(&place)? {
                    self.put_back(&path, metadata);
                    self.remove_abandoned(path, metadata);
                }
            }
        }
        let mut tree = self.tree();
        for node in gone {
            let Some(base) = node.base else { continue };
            // What another question found there since is no news of this one.
            let now = tree.base_child(&base.place)?.filter(|now| now.ino == node.ino);
            if let Some(now) = now {
                self.take_gone(&mut tree, now, asked)?;
            }
        }
        let Some(mut node) = tree.get(dir)? else { return Ok(()) };
        if !node.listed {
            node.listed = true;
            self.commit(&mut tree, &[node], Vec::new(), false)?;
        }
        tree.set_dir_info(dir, info);
        Ok(())
    }

    /// Asks for one name of a big directory (K4).
    pub(crate) async fn look_at(&self, dir: Ino, name: &[u8]) -> Result<()> {
        self.reach.wait_online(Instant::now() + self.config.timeout).await;
        let Some((path, asked, _still)) = self.still_path(dir).await? else { return Ok(()) };
        let began = Instant::now();
        let place = Place::new(dir, name);
        let answer = self.remote.stat(&path.join(name)).await;
        if !answer.as_ref().is_err_and(|error| error.kind.existence() == Existence::Unknown) {
            self.believe_since(began)?;
        }
        match answer {
            Ok(metadata) if self.is_twin(&place, &metadata)? => {
                self.tree().set_name_verified(place, began);
            }
            Ok(metadata) => {
                let mut tree = self.tree();
                self.take(&mut tree, place.clone(), &metadata, asked)?;
                tree.set_name_verified(place, began);
            }
            Err(error) if is_gone(&error) => {
                let mut tree = self.tree();
                if let Some(node) = tree.base_child(&place)? {
                    self.take_gone(&mut tree, node, asked)?;
                }
                tree.set_name_verified(place, began);
            }
            Err(error) => {
                self.reach.failed(error.kind);
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Whether the share speaks of an entry whose name differs in case, which it folds.
    fn is_twin(&self, place: &Place, found: &Metadata) -> Result<bool> {
        if self.remote.limits().case_sensitive {
            return Ok(false);
        }
        let mut tree = self.tree();
        let base = tree.twin(place.parent, &place.name)?.and_then(|twin| twin.base);
        Ok(tree.base_child(place)?.is_none()
            && base.is_some_and(|base| base.version.same_object(&found.version)))
    }

    /// Asks for the whole metadata of one node, its xattrs among it.
    pub(crate) async fn wait_node(&self, ino: Ino) -> Result<()> {
        let began = Instant::now();
        let Some(before) = self.tree().get(ino)? else { return Ok(()) };
        let Some(base) = &before.base else { return Ok(()) };
        let _still = self.still_path(base.place.parent).await?;
        let path = self.tree().base_path(ino)?;
        let stale = || Error::new(ErrorKind::Stale, "ask for the attributes");
        let path = path.ok_or_else(stale)?;
        let deadline = Instant::now() + self.config.timeout;
        let found = loop {
            match self.remote.stat_with_xattrs(&path).await {
                Ok(found) => break found,
                Err(error) if error.kind.is_offline() => {
                    self.reach.failed(error.kind);
                    if before.xattrs.is_some() {
                        // They are older than they may be, and all that there is.
                        self.tree().set_xattrs_verified(ino, began);
                        return Ok(());
                    }
                    if !self.reach.wait_online(deadline).await {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        let mut tree = self.tree();
        let Some(mut node) = tree.get(ino)? else { return Ok(()) };
        if ino == Ino::ROOT {
            self.set_attrs_of(&mut node, &found);
        }
        // Of another state of it than the one that was asked about, the next question says more.
        let is_same = node.base == before.base && node.xattrs == before.xattrs;
        if is_same && !node.dirty_attrs.xattrs && self.remote.limits().has_xattrs() {
            node.xattrs = Some(found.xattrs.unwrap_or_default());
            tree.set_xattrs_verified(ino, began);
        }
        self.commit(&mut tree, &[node], Vec::new(), false)
    }

    /// Takes in that the share has this at this place.
    pub(crate) fn take(
        &self,
        tree: &mut Tree,
        place: Place,
        metadata: &Metadata,
        asked: u64,
    ) -> Result<()> {
        let Some(node) = tree.base_child(&place)? else {
            return self.take_new(tree, place, metadata, asked);
        };
        if self.is_ours(node.ino, asked) {
            return Ok(());
        }
        let Some(base) = node.base.clone() else { return Ok(()) };
        if base.version == metadata.version && !base.young {
            if has_as_told(self.remote.limits().xattrs, &node, metadata) {
                return Ok(());
            }
            let node = Node { xattrs: metadata.xattrs.clone(), ..node };
            return self.commit(tree, &[node], Vec::new(), false);
        }
        let same_object = base.version.same_object(&metadata.version);
        if node.kind == metadata.kind && !same_object && self.is_unread(&node) {
            // Open handles that have read nothing yet follow the name (R2).
            return self.take_changed(tree, node, base, metadata);
        }
        if node.kind != metadata.kind || (!same_object && !node.is_dirty()) {
            // Another object took the name, as a rename over it would: another number.
            self.take_gone(tree, node, asked)?;
            return self.take_new(tree, place, metadata, asked);
        }
        if node.dirty_content || (!same_object && node.kind != Kind::Dir) {
            // An edit on both sides, or a removal here against one: sync compares them.
            return Ok(());
        }
        self.take_changed(tree, node, base, metadata)
    }

    /// Whether a clean file is open and no handle has any of its bytes.
    fn is_unread(&self, node: &Node) -> bool {
        let file = node.content.and_then(|id| self.files.get(id));
        let is_clean = node.kind == Kind::File && !node.is_dirty();
        is_clean
            && file.is_some_and(|file| {
                let content = file.lock();
                content.handles > 0 && !content.delivered && !content.is_dirty()
            })
    }

    /// The same object, or another in its place, has changed there.
    pub(crate) fn take_changed(
        &self,
        tree: &mut Tree,
        mut node: Node,
        base: Base,
        metadata: &Metadata,
    ) -> Result<()> {
        let same_content = base.version.same_content(&metadata.version)
            && !base.young
            && !node.is_in_doubt(metadata);
        let removed = node.place.is_none();
        if !same_content && removed {
            // Removed here, edited there: sync finds out and lets the edit win.
            return Ok(());
        }
        if !same_content && node.kind == Kind::File && node.content.is_some() {
            let file = node.content.and_then(|id| self.files.get(id));
            let (open, delivered, alone) = file.as_ref().map_or((false, false, false), |file| {
                let mut content = file.lock();
                let open = content.handles > 0;
                (open, content.delivered, open && file.is_ours_alone(&mut content))
            });
            let grown = metadata.size > base.version.content.size
                && base.version.same_object(&metadata.version);
            // Only its bytes may be older than they look (S5): that waits for its last close. Whoever
            // is in the middle of it would lose what is here, or be told of another version.
            if open && delivered && base.version == metadata.version {
                return Ok(());
            }
            match file {
                // What others have of the data file stays as it is.
                Some(file) if alone && (grown || !delivered) => self.restart(&file, metadata),
                Some(_) if open => return self.replace_open(tree, node, metadata),
                _ => self.drop_clean_content(&mut node),
            }
            tree.kernel_forgets(node.ino);
        }
        node.base =
            Some(Base { place: base.place, version: metadata.version, young: metadata.young });
        self.set_attrs_of(&mut node, metadata);
        if let Some(file) = node.content.and_then(|id| self.files.get(id)) {
            let mut content = file.lock();
            content.base = Some(metadata.version);
            content.mtime = node.mtime;
            content.ctime = node.ctime;
        }
        if !node.dirty_attrs.xattrs {
            node.xattrs = as_told(self.remote.limits().xattrs, node.xattrs.take(), metadata);
        }
        let notice =
            if same_content { Notice::Attributes(node.ino) } else { Notice::Inode(node.ino) };
        self.commit(tree, &[node], Vec::new(), false)?;
        self.notify(notice);
        Ok(())
    }

    /// The same object grew while it is open (a log): its handles go on with the new bytes, as
    /// those of a local file would.
    fn restart(&self, file: &Arc<File>, metadata: &Metadata) {
        // The index has to learn of it: until then the content stays in memory.
        self.settle_later(file);
        let mut content = file.lock();
        let forgotten = self.presence_forgotten(file.id);
        if let Err(error) = forgotten.and_then(|record| self.journal.append_freeing(&[record])) {
            tracing::warn!(%error, "the index keeps a version that is gone");
        }
        if let Err(error) = file.restart(&mut content, &self.space, metadata) {
            tracing::warn!(%error, "old bytes of a grown file stay allocated");
        }
    }

    /// Another version of a file that is open: the name gets a node of its own, the open one keeps
    /// its bytes until its last close (R1).
    fn replace_open(&self, tree: &mut Tree, mut node: Node, metadata: &Metadata) -> Result<()> {
        let Some(place) = node.place.take() else { return Ok(()) };
        node.base = None;
        if let Some(file) = node.content.and_then(|id| self.files.get(id)) {
            let mut content = file.lock();
            content.orphan = true;
            content.lost = Some(place.clone());
        }
        let mut fresh = self.node_from(place.clone(), metadata);
        // What was set here beside the bytes is the name's, not theirs.
        let dirty = std::mem::take(&mut node.dirty_attrs);
        if dirty.mode {
            fresh.mode = node.mode;
        }
        if dirty.owner {
            (fresh.uid, fresh.gid) = (node.uid, node.gid);
        }
        if dirty.xattrs {
            fresh.xattrs.clone_from(&node.xattrs);
        }
        fresh.dirty_attrs = DirtyAttrs { times: false, ..dirty };
        let fresh_ino = fresh.ino;
        self.commit(tree, &[node, fresh], Vec::new(), true)?;
        self.sync.poke(fresh_ino);
        self.notify(Notice::Entry { parent: place.parent, name: place.name });
        Ok(())
    }

    /// The node forgets its clean bytes: they are of a version that the share no longer has.
    fn drop_clean_content(&self, node: &mut Node) {
        if let Some(id) = node.content.take() {
            self.forget_content(id);
        }
    }

    /// Drops a content that no node has any more, in use or not.
    pub(crate) fn forget_content(&self, id: ContentId) {
        match self.files.get(id) {
            Some(file) => {
                file.lock().orphan = true;
                let vfs = self.arc();
                // `closed` takes the tree's lock, which the caller holds.
                self.spawn("drop content", async move { vfs.closed(&file) });
            }
            None => self.drop_content(id),
        }
    }

    /// Takes mode and owner over where ours are not newer: after a change of ours the share says
    /// what it has. Times stay those that the user set or saw.
    pub(crate) fn take_attrs(&self, node: &mut Node, metadata: &Metadata) {
        if !node.dirty_attrs.mode {
            node.mode = metadata.mode.unwrap_or(node.mode);
        }
        if !node.dirty_attrs.owner {
            node.uid = metadata.uid.unwrap_or(node.uid);
            node.gid = metadata.gid.unwrap_or(node.gid);
        }
        if !node.dirty_attrs.xattrs {
            // What is not told is asked for when somebody wants it.
            node.xattrs = as_told(self.remote.limits().xattrs, node.xattrs.take(), metadata);
        }
    }

    pub(crate) fn set_attrs_of(&self, node: &mut Node, metadata: &Metadata) {
        let dirty = node.dirty_attrs;
        if !node.dirty_content {
            node.size = metadata.size;
        }
        if !dirty.mode {
            let fallback = match node.kind {
                Kind::Dir => self.config.dir_mode,
                _ => self.config.file_mode,
            };
            node.mode = metadata.mode.unwrap_or(fallback);
        }
        if !dirty.owner {
            node.uid = metadata.uid.unwrap_or(self.config.uid);
            node.gid = metadata.gid.unwrap_or(self.config.gid);
        }
        if !dirty.times && !node.dirty_content {
            node.mtime = metadata.mtime;
            node.atime = metadata.atime;
        }
        node.ctime = metadata.ctime;
        node.btime = metadata.btime;
        node.target = metadata.target.clone();
    }

    /// A clean node for what the share has.
    pub(crate) fn node_from(&self, place: Place, metadata: &Metadata) -> Node {
        let mut node = Node {
            ino: Ino(self.next_number()),
            kind: metadata.kind,
            place: Some(place.clone()),
            base: Some(Base { place, version: metadata.version, young: metadata.young }),
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            atime: metadata.atime,
            mtime: metadata.mtime,
            ctime: metadata.ctime,
            btime: metadata.btime,
            target: None,
            xattrs: metadata.xattrs.clone(),
            content: None,
            dirty_attrs: DirtyAttrs::default(),
            dirty_content: false,
            listed: false,
            change: 0,
        };
        self.set_attrs_of(&mut node, metadata);
        node
    }

    /// The share has something that we never saw there.
    fn take_new(
        &self,
        tree: &mut Tree,
        place: Place,
        metadata: &Metadata,
        asked: u64,
    ) -> Result<()> {
        let occupied = tree.child(place.parent, &place.name)?.is_some();
        // A name of ours stands there: its upload finds theirs and sorts it out. And what moved or
        // was made by us since the question was sent is no news; what may have been is asked for.
        let may_be_ours =
            || self.journal.live(|live| live.sent.values().any(|sent| sent.place == place));
        if occupied || self.sync.is_ours_at(&place, asked) || may_be_ours() {
            return Ok(());
        }
        let node = self.node_from(place.clone(), metadata);
        self.commit(tree, &[node], Vec::new(), false)?;
        // Of a directory that is listed for the first time it was never told that a name is missing: a
        // notice would only take from it what it has just learned.
        let listed = tree.get(place.parent)?.is_some_and(|dir| dir.listed);
        if listed || tree.dir_info(place.parent).big {
            self.notify(Notice::Entry { parent: place.parent, name: place.name });
        }
        Ok(())
    }

    /// Whether a listing says nothing of this node: a change of ours ended since the question was
    /// sent, or we do not know yet whether one was made (S4).
    fn is_ours(&self, ino: Ino, asked: u64) -> bool {
        self.sync.is_ours(ino, asked) || self.journal.live(|live| live.sent.contains_key(&ino))
    }

    /// The share no longer has this node where it had it. What is dirty, or above something
    /// dirty, lives on as made here (S6); the rest goes with all below it.
    pub(crate) fn take_gone(&self, tree: &mut Tree, node: Node, asked: u64) -> Result<()> {
        if self.is_ours(node.ino, asked) || node.ino == Ino::ROOT {
            return Ok(());
        }
        if self.is_left(tree, &node, asked)? {
            return Ok(());
        }
        self.gone(tree, node).map(drop)
    }

    /// Whether something is on its way out of this directory, by a rename of ours: it may have
    /// left, and then it does not go with the directory (S4).
    fn is_left(&self, tree: &mut Tree, dir: &Node, asked: u64) -> Result<bool> {
        if dir.kind != Kind::Dir {
            return Ok(false);
        }
        for child in tree.base_children(dir.ino)? {
            let leaves = child.place.is_some() && child.is_moved();
            if leaves && self.is_ours(child.ino, asked) || self.is_left(tree, &child, asked)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether the node is still here.
    fn gone(&self, tree: &mut Tree, mut node: Node) -> Result<bool> {
        let mut keep = node.dirty_content;
        if node.kind == Kind::Dir {
            for child in tree.base_children(node.ino)? {
                keep |= self.gone(tree, child)?;
            }
            // What was made or moved here is still in it.
            keep |= node.place.is_some() && tree.has_children(node.ino)?;
        }
        let place = node.place.clone();
        if keep && place.is_some() {
            return self.live_on(tree, node, "removed there while it was changed here");
        }
        node.base = None;
        let (node, records) = self.without_place(node);
        self.commit(tree, std::slice::from_ref(&node), records, true)?;
        if let Some(id) = node.content {
            match self.files.get(id) {
                Some(file) => {
                    // Should somebody still write to it, it gets a name again (S6).
                    file.lock().lost = place.clone();
                    self.forget_content(id);
                }
                None => {
                    self.drop_content(id);
                    tree.erase(node.ino)?;
                }
            }
        }
        if let Some(place) = place {
            self.notify(Notice::Entry { parent: place.parent, name: place.name });
        }
        Ok(false)
    }

    /// What the share removed and we changed is from now on made here, with all that is in it.
    /// Bytes that only the share had are zeros, which is said (D5).
    pub(crate) fn live_on(&self, tree: &mut Tree, mut node: Node, why: &str) -> Result<bool> {
        let file = self.bytes_of(tree, &node)?;
        node.base = None;
        // Of what has no bytes the name alone says it; a rename under way may give it a base again.
        node.dirty_content = node.kind == Kind::File;
        node.listed = true;
        node.change = self.next_change();
        let ino = node.ino;
        let path = tree.path(ino)?.unwrap_or_default();
        let Some(file) = file else {
            self.commit(tree, &[node], Vec::new(), false)?;
            self.sync.poke(ino);
            return Ok(true);
        };
        let mut content = file.lock();
        let (mut records, gaps) = file.without_base(&content);
        if !gaps.is_empty() {
            records.push(self.conflict(path, None, why, &gaps));
        }
        self.commit(tree, &[node], records, false)?;
        file.lose_base(&mut content, &self.space, &gaps)?;
        self.sync.poke(ino);
        Ok(true)
    }

    /// The version that a fetch wanted is gone from the share (R2).
    pub(crate) async fn follow_version(
        &self,
        file: &crate::file::File,
        why: covefs_remote::ErrorKind,
        before: Option<Version>,
    ) -> Result<()> {
        let stale = || Error::new(ErrorKind::Stale, "read a version that the share replaced");
        let place = {
            let mut tree = self.tree();
            let node = tree.get(file.node())?;
            let node = node.filter(|node| node.content == Some(file.id));
            node.and_then(|node| node.base).map(|base| base.place).ok_or_else(stale)?
        };
        tracing::debug!(?why, content = file.id.0, "a version moved on");
        if file.lock().base != before {
            // Another reader has found out already.
            return Ok(());
        }
        if let Some((dir, _, _still)) = self.still_path(place.parent).await?
            && let Ok(found) = self.remote.stat(&dir.join(&place.name)).await
            && before.is_some_and(|before| before.same_content(&found.version))
        {
            // Only its path was another one for a moment: a rename of ours.
            return Ok(());
        }
        self.look_at(place.parent, &place.name).await?;
        let node = self.tree().get(file.node())?.filter(|node| node.content == Some(file.id));
        let mut content = file.lock();
        if let Some(base) = node.and_then(|node| node.base) {
            // A change of ours may have given it another mark since it was loaded.
            content.base = Some(base.version);
        }
        let moved_on = content.base != before && !content.orphan;
        // Open handles that have read nothing yet follow the name to its new version.
        if moved_on { Ok(()) } else { Err(stale()) }
    }

    /// A path of the mount as the share has it now; asks for what is not known.
    pub(crate) async fn find(&self, path: &RemotePath) -> Result<Node> {
        let mut at = Ino::ROOT;
        for name in path.names() {
            let asked = crate::step::Asked::now();
            let need = {
                let mut tree = self.tree();
                let dir = tree.need_dir(at)?;
                self.stale(&mut tree, asked, &dir, Some(name))?
            };
            if let Some(need) = need {
                self.wait(asked, need).await?;
            }
            let node = self.tree().child(at, name)?;
            let node =
                node.ok_or_else(|| Error::new(ErrorKind::NotFound, "find").at(path.to_string()))?;
            at = node.ino;
        }
        self.tree().need(at)
    }
}
