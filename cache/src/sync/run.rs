//! The workers: take what is due, look, plan, do one step, look again.

use super::plan::{Action, ContentView, View, plan, replaces};
use super::{Failure, Sync};
use crate::attr::Ino;
use crate::error::{Error, Result};
use crate::fetch::Reader;
use crate::journal::{Record, SentWhat};
use crate::limits;
use crate::names::OUR_PREFIX;
use crate::node::{DirtyAttrs, Node, Place};
use crate::tree::Tree;
use crate::vfs::Vfs;
use covefs_remote::{Attrs, Expect, Kind, Remote, RemotePath};
use std::collections::HashSet;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What one step led to.
pub(super) enum Outcome {
    /// It is done; there may be a next one.
    Again,
    /// Nothing more to do.
    Done,
    /// After another node, or after some time.
    WaitFor(Ino),
    Later(Duration),
}

impl Vfs {
    /// The background task: up to a few uploads at once, for ever.
    pub(crate) async fn sync_for_ever(&self) {
        let mut workers = JoinSet::new();
        loop {
            let wake = self.sync.wake.notified();
            tokio::pin!(wake);
            wake.as_mut().enable();
            while workers.len() < limits::UPLOADS && self.reach.is_online() {
                let Some((ino, urgent)) = self.sync.lock().pop(Instant::now()) else { break };
                let vfs = self.arc();
                workers.spawn(async move { vfs.work(ino, urgent).await });
            }
            let next = self.sync.lock().next().filter(|_| workers.len() < limits::UPLOADS);
            let far = Instant::now() + limits::RETRY_LAST;
            let next = if self.reach.is_online() { next.unwrap_or(far) } else { far };
            tokio::select! {
                () = &mut wake => {}
                () = self.reach.changed.notified() => {}
                () = tokio::time::sleep_until(next) => {}
                Some(ended) = workers.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "an upload ended in a panic; it is tried again");
                    }
                }
            }
        }
    }

    /// Steps of one node until nothing more can be done for it now.
    async fn work(&self, ino: Ino, urgent: bool) {
        let _active = Active { sync: &self.sync, ino };
        let urgent = urgent || self.sync.is_hurried();
        let outcome = loop {
            match self.step(ino, urgent).await {
                Ok(Outcome::Again) => {
                    self.sync.lock().failed.remove(&ino);
                }
                Ok(outcome) => break Ok(outcome),
                Err(error) => break Err(error),
            }
        };
        self.sync.lock().active.remove(&ino);
        match outcome {
            Ok(Outcome::Done | Outcome::Again) => {
                let waiters = {
                    let mut queue = self.sync.lock();
                    queue.failed.remove(&ino);
                    queue.waiters.remove(&ino)
                };
                for waiter in waiters.into_iter().flatten() {
                    self.sync.poke_now(waiter);
                }
            }
            Ok(Outcome::WaitFor(other)) => self.wait_for(ino, other, urgent),
            Ok(Outcome::Later(pause)) => self.sync.later(ino, pause, urgent),
            Err(error) => self.failed(ino, &error),
        }
        self.sync.finished.notify_waiters();
        self.sync.wake.notify_one();
    }

    fn wait_for(&self, ino: Ino, other: Ino, urgent: bool) {
        let known = {
            let mut queue = self.sync.lock();
            queue.waits(ino, Some(other));
            queue.at.contains_key(&other) || queue.active.contains(&other)
        };
        if urgent || !known {
            self.sync.poke_now(other);
        }
        // Should the other one never end, this one looks again by itself.
        let pause = if urgent { limits::RETRY_FIRST } else { limits::RETRY_FIRST * 5 };
        self.sync.later(ino, pause, urgent);
    }

    fn failed(&self, ino: Ino, error: &Error) {
        let pause = {
            let mut queue = self.sync.lock();
            let failure = queue.failed.entry(ino).or_insert_with(|| Failure {
                count: 0,
                error: String::new(),
                since: Instant::now(),
            });
            failure.count += 1;
            failure.error = error.to_string();
            let doubled = limits::RETRY_FIRST * (1 << failure.count.min(6).saturating_sub(1));
            doubled.min(limits::RETRY_LAST)
        };
        tracing::warn!(%error, ino = ino.0, "an upload failed; it is tried again");
        self.sync.later(ino, pause, false);
    }

    /// Looks at a node, plans, and does one step.
    async fn step(&self, ino: Ino, urgent: bool) -> Result<Outcome> {
        self.resolve_sent(ino).await?;
        let Some(view) = self.view(ino, urgent)? else { return Ok(Outcome::Done) };
        let action = self.decide(&view);
        tracing::debug!(ino = ino.0, ?action, "sync");
        let places: Vec<Place> = view
            .node
            .place
            .iter()
            .cloned()
            .chain(view.node.base.as_ref().map(|base| base.place.clone()))
            .collect();
        match action {
            Action::Done => return Ok(Outcome::Done),
            Action::WaitFor(other) => return Ok(Outcome::WaitFor(other)),
            Action::Later(pause) => return Ok(Outcome::Later(pause)),
            Action::Keep => return self.keep_open(&view.node).await,
            _ => {}
        }
        // A directory's rename and requests below it exclude each other (S4).
        let alone = view.node.kind == Kind::Dir
            && matches!(action, Action::Move(_) | Action::Detour | Action::Remove(_));
        let paths = self.paths_of(&view.node)?;
        let Some(_hold) = self.paths.try_take(&paths, alone) else {
            return Ok(Outcome::Later(limits::BUSY * 5));
        };
        // Another worker may have moved something while this one waited for its turn.
        let Some(view) = self.view(ino, urgent)? else { return Ok(Outcome::Done) };
        if self.decide(&view) != action || self.paths_of(&view.node)? != paths {
            return Ok(Outcome::Again);
        }
        // Whether another of ours arrived under this name is found out first (S4).
        let unknown = self.journal.live(|live| {
            let mut sent = live.sent.values();
            sent.find(|sent| sent.ino != ino && places.contains(&sent.place)).map(|sent| sent.ino)
        });
        if let Some(other) = unknown {
            return Ok(Outcome::WaitFor(other));
        }
        self.sync.begin(ino, &places);
        let done = self.act(&view, action).await;
        self.sync.end(ino, &places);
        done
    }

    /// The plan; but where nodes wait for each other in a ring, through the names they take or the
    /// directories they go to, one that the share has goes aside first (X2).
    fn decide(&self, view: &View) -> Action {
        let action = plan(view);
        let Action::WaitFor(other) = action else { return action };
        let aside = |base: &crate::node::Base| base.place.name.starts_with(OUR_PREFIX);
        let node = &view.node;
        let may_go = node.place.is_some() && node.base.as_ref().is_some_and(|base| !aside(base));
        let ring =
            may_go && node.is_moved() && self.sync.lock().waiting_for(node.ino).contains(&other);
        if ring { Action::Detour } else { action }
    }

    /// Where the share has the node, and where it is to have it.
    fn paths_of(&self, node: &Node) -> Result<Vec<RemotePath>> {
        let mut tree = self.tree();
        let mut paths = Vec::new();
        paths.extend(tree.base_path(node.ino)?);
        if let Some(place) = node.place.as_ref().filter(|_| node.ino != Ino::ROOT) {
            paths.extend(tree.remote_path_of(place)?);
        }
        Ok(paths)
    }

    async fn act(&self, view: &View, action: Action) -> Result<Outcome> {
        if let (Some(old), Action::Replace(_) | Action::Move(_)) = (&view.occupant, action) {
            self.keep_for_readers(old).await;
        }
        match action {
            Action::CreateDir | Action::Symlink => self.create_there(view).await,
            Action::Replace(expect) => self.upload(view, expect).await,
            Action::Move(expect) => self.move_there(view, expect).await,
            Action::Detour => self.detour(view).await,
            Action::SetAttrs => self.set_attrs_there(view).await,
            Action::Remove(version) => self.remove_there(view, version).await,
            Action::Done | Action::WaitFor(_) | Action::Later(_) | Action::Keep => {
                Ok(Outcome::Done)
            }
        }
    }

    /// Everything the plan depends on; `None` when the node is gone.
    fn view(&self, ino: Ino, urgent: bool) -> Result<Option<View>> {
        let mut tree = self.tree();
        let Some(node) = tree.get(ino)? else { return Ok(None) };
        let mut view = View {
            parent_there: true,
            occupant: None,
            cycle: false,
            blocker: None,
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
                    view.blocker = tree.base_children(ino)?.first().map(|child| child.ino);
                }
                view.successor = self.successor(&mut tree, &view.node)?;
                view.earlier = self.earlier_upload(&view.node);
            }
        }
        Ok(Some(view))
    }

    /// A change still to be made in this directory, which would move the times set for it.
    fn change_within(&self, dir: Ino) -> Option<Ino> {
        self.journal.live(|live| {
            let within = |node: &&Node| {
                let base = node.base.as_ref().map(|base| &base.place);
                let mut places = node.place.iter().chain(base);
                node.ino != dir && node.is_dirty() && places.any(|place| place.parent == dir)
            };
            live.nodes.values().find(within).map(|node| node.ino)
        })
    }

    fn content_view(&self, node: &Node) -> Result<Option<ContentView>> {
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
            whole: content.is_whole(),
        }))
    }

    /// What is about to take the removed node's name there, and puts an end to it by that (S3).
    fn successor(&self, tree: &mut Tree, node: &Node) -> Result<Option<Ino>> {
        let Some(base) = &node.base else { return Ok(None) };
        let next = tree.child(base.place.parent, &base.place.name)?;
        let next = next.filter(|next| replaces(next, node)).map(|next| next.ino);
        Ok(next.filter(|next| !self.sync.lock().waiting_for(node.ino).contains(next)))
    }

    /// An upload acknowledged before this delete that has not failed (S3).
    fn earlier_upload(&self, node: &Node) -> Option<Ino> {
        // What waits for this delete itself, for its name or below such, cannot come before it.
        let passed: HashSet<Ino> = {
            let queue = self.sync.lock();
            queue.failed.keys().copied().chain(queue.waiting_for(node.ino)).collect()
        };
        self.journal.live(|live| {
            let uploads = live.nodes.values().filter(|other| {
                other.change < node.change
                    && other.place.is_some()
                    && other.is_dirty()
                    && !passed.contains(&other.ino)
            });
            uploads.map(|other| (other.change, other.ino)).min().map(|(_, ino)| ino)
        })
    }

    /// Fetches what open handles may still want before the share's copy goes.
    async fn keep_open(&self, node: &Node) -> Result<Outcome> {
        let Some(file) = node.content.and_then(|id| self.files.get(id)) else {
            return Ok(Outcome::Again);
        };
        self.fetch_all(&file, Reader::User, &|_| ()).await?;
        // Too big to keep whole: it goes when it is closed.
        let kept = file.lock().is_whole();
        Ok(if kept { Outcome::Again } else { Outcome::Later(limits::RETRY_FIRST) })
    }

    /// The same for what is about to be replaced: as well as it goes, an edit waits for no reader.
    async fn keep_for_readers(&self, old: &Node) {
        let Some(file) = old.content.and_then(|id| self.files.get(id)) else { return };
        let wanted = {
            let content = file.lock();
            content.handles > 0 && content.size <= self.space.limit() / 4
        };
        if wanted && let Err(error) = self.fetch_all(&file, Reader::Sync, &|_| ()).await {
            tracing::warn!(%error, ino = old.ino.0, "open handles lose the bytes of a replaced file");
        }
    }

    /// Makes a directory or symlink.
    async fn create_there(&self, view: &View) -> Result<Outcome> {
        let node = &view.node;
        let place = node.place.clone().expect("the plan creates only what has a place");
        let Some(path) = self.tree().remote_path_of(&place)? else {
            return Ok(Outcome::WaitFor(place.parent));
        };
        let attrs = Attrs {
            mode: Some(node.mode),
            uid: Some(node.uid),
            gid: Some(node.gid),
            mtime: Some(node.mtime),
            atime: Some(node.atime),
            xattrs: node.xattrs.clone().filter(|xattrs| !xattrs.is_empty()),
        };
        let what = SentWhat::Made { target: node.target.clone(), mtime: node.mtime };
        self.will_send(node.ino, place.clone(), what)?;
        let made = match &node.target {
            Some(target) => self.remote.symlink(&path, target, &attrs).await,
            None => self.remote.create_dir(&path, &attrs).await,
        };
        match made {
            Ok(metadata) => {
                self.in_step(node, place, &metadata, None)?;
                self.times_come_last(node)?;
                Ok(Outcome::Again)
            }
            // Whether it was made nobody knows: the next step asks first.
            Err(error) if error.kind.is_transient() => {
                self.reach.failed(error.kind);
                Err(error.into())
            }
            Err(error) => {
                self.was_not_made(node.ino)?;
                self.resolve_creation(view, &place, &path, error).await
            }
        }
    }

    /// What is made in a new directory moves its times there: those that the user set are set
    /// again when all of it is made.
    pub(super) fn times_come_last(&self, before: &Node) -> Result<()> {
        if before.kind != Kind::Dir || !before.dirty_attrs.times {
            return Ok(());
        }
        let mut tree = self.tree();
        let Some(mut node) = tree.get(before.ino)?.filter(|node| node.place.is_some()) else {
            return Ok(());
        };
        node.dirty_attrs.times = true;
        self.commit(&mut tree, &[node], Vec::new(), true)
    }

    /// Renames on the share what was renamed here.
    async fn move_there(&self, view: &View, expect: Expect) -> Result<Outcome> {
        let node = &view.node;
        let place = node.place.clone().expect("the plan moves only what has a place");
        let base = node.base.clone().expect("the plan moves only what the share has");
        let (from, to) = {
            let mut tree = self.tree();
            (tree.base_path(node.ino)?, tree.remote_path_of(&place)?)
        };
        let (Some(from), Some(to)) = (from, to) else {
            return Ok(Outcome::WaitFor(place.parent));
        };
        self.will_send(node.ino, place.clone(), SentWhat::Move)?;
        self.durable().await?;
        match self.remote.rename(&from, &base.version, &to, expect).await {
            Ok(metadata) => {
                self.moved_there(node, place, &metadata, view.occupant.as_ref())?;
                Ok(Outcome::Again)
            }
            // Whether it was made nobody knows: the next step asks first.
            Err(error) if error.kind.is_transient() => {
                self.reach.failed(error.kind);
                Err(error.into())
            }
            Err(error) => self.resolve_move(view, &place, &from, &to, error).await,
        }
    }

    /// Moves one of a ring of names aside, under a name of ours in the same directory (X2).
    async fn detour(&self, view: &View) -> Result<Outcome> {
        let node = &view.node;
        let base = node.base.as_ref().expect("a ring is made of what the share has");
        let Some(from) = self.tree().base_path(node.ino)? else { return Ok(Outcome::Done) };
        let number = self.next_number();
        let name = format!(".~covefs-move-{}-{number}", self.site.cache_id).into_bytes();
        let aside = Place::new(self.aside_of(node, &from)?, &name);
        let to = self.tree().remote_path_of(&aside)?.unwrap_or_default();
        self.will_send(node.ino, aside.clone(), SentWhat::Move)?;
        self.durable().await?;
        match self.remote.rename(&from, &base.version, &to, Expect::Absent).await {
            Ok(moved) => {
                self.moved_there(node, aside, &moved, None)?;
                Ok(Outcome::Again)
            }
            Err(error) if error.kind.is_transient() => {
                self.reach.failed(error.kind);
                Err(error.into())
            }
            Err(error) => {
                self.was_not_made(node.ino)?;
                self.resolve_lost(node, &from, error).await
            }
        }
    }

    /// The directory for something in transit: the nearest one to where it goes that the share has
    /// outside of it. The one it comes from may be waiting to go.
    fn aside_of(&self, node: &Node, from: &RemotePath) -> Result<Ino> {
        let mut tree = self.tree();
        let mut at = node.place.as_ref().map_or(Ino::ROOT, |place| place.parent);
        while at != Ino::ROOT {
            if tree.base_path(at)?.is_some_and(|path| !path.is_within(from)) {
                break;
            }
            let above = tree.get(at)?.and_then(|dir| dir.place).map(|place| place.parent);
            at = above.unwrap_or(Ino::ROOT);
        }
        Ok(at)
    }

    /// Sets on the share what was set here.
    async fn set_attrs_there(&self, view: &View) -> Result<Outcome> {
        let node = &view.node;
        let base = node.base.clone().expect("the plan sets only what the share has");
        let Some(path) = self.tree().base_path(node.ino)? else { return Ok(Outcome::Done) };
        let dirty = node.dirty_attrs;
        let attrs = Attrs {
            mode: dirty.mode.then_some(node.mode),
            uid: dirty.owner.then_some(node.uid),
            gid: dirty.owner.then_some(node.gid),
            mtime: dirty.times.then_some(node.mtime),
            atime: dirty.times.then_some(node.atime),
            xattrs: node.xattrs.clone().filter(|_| dirty.xattrs),
        };
        if attrs.mtime.is_some() {
            // A time set over an edit there would hide it (S5).
            let found = match self.remote.stat(&path).await {
                Ok(found) => found,
                Err(error) => return self.resolve_lost(node, &path, error).await,
            };
            if !found.version.same_content(&base.version) {
                self.look_again(&base.place, &found)?;
                return Ok(Outcome::Later(limits::RETRY_FIRST));
            }
        }
        match self.remote.set_attrs(&path, &base.version, &attrs).await {
            Ok(metadata) => {
                self.in_step(node, base.place, &metadata, None)?;
                Ok(Outcome::Again)
            }
            Err(error) => self.resolve_lost(node, &path, error).await,
        }
    }

    /// Takes in an edit made there, though a change of ours to the node is under way.
    fn look_again(&self, place: &Place, found: &covefs_remote::Metadata) -> Result<()> {
        let mut tree = self.tree();
        if let Some(node) = tree.base_child(place)? {
            self.sync.end(node.ino, std::slice::from_ref(place));
        }
        let asked = self.sync.question();
        self.take(&mut tree, place.clone(), found, asked)
    }

    /// Removes from the share what was removed here.
    async fn remove_there(&self, view: &View, version: covefs_remote::Version) -> Result<Outcome> {
        let node = &view.node;
        let Some(path) = self.tree().base_path(node.ino)? else {
            self.forget_base(node.ino)?;
            return Ok(Outcome::Done);
        };
        if let Some(base) = node.base.as_ref().filter(|_| node.kind != Kind::Dir) {
            // Cut off in the middle, a removal may leave the bytes under a name of the share's.
            self.will_send(node.ino, base.place.clone(), SentWhat::Removed(version))?;
        }
        self.durable().await?;
        match self.remote.remove(&path, Expect::Version(version)).await {
            Ok(()) => {
                self.forget_base(node.ino)?;
                Ok(Outcome::Done)
            }
            // Whether it was made nobody knows: the next step asks first.
            Err(error) if error.kind.is_transient() => self.retry(error),
            Err(error) => {
                self.was_not_made(node.ino)?;
                self.resolve_removal(node, &path, error).await
            }
        }
    }

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

    /// The share has the node as it was when the step began; what changed since stays dirty.
    pub(super) fn in_step(
        &self,
        before: &Node,
        place: Place,
        metadata: &covefs_remote::Metadata,
        replaced: Option<&Node>,
    ) -> Result<()> {
        let mut tree = self.tree();
        let mut node = match tree.get(before.ino)? {
            Some(node) => node,
            // Removed here meanwhile: the share has something to remove.
            None => Node { place: None, content: None, ..before.clone() },
        };
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
        settle_attrs(&mut node, before);
        self.take_attrs(&mut node, metadata);
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
        let mut node = match tree.get(before.ino)? {
            Some(node) => node,
            None => Node { place: None, content: None, ..before.clone() },
        };
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
        node.base = Some(crate::node::Base { place, version, young: false });
        self.take_attrs(&mut node, metadata);
        let mut nodes = Vec::new();
        nodes.extend(gone(&mut tree, replaced)?);
        nodes.push(node);
        let known = vec![Record::SentGone(before.ino)];
        self.commit(&mut tree, &nodes, known, true)?;
        drop(tree);
        self.after_commit(&nodes);
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

/// The node whose place on the share another one has taken.
pub(super) fn gone(tree: &mut Tree, replaced: Option<&Node>) -> Result<Option<Node>> {
    let Some(replaced) = replaced else { return Ok(None) };
    let Some(mut node) = tree.get(replaced.ino)? else { return Ok(None) };
    node.base = None;
    node.dirty_content &= node.place.is_some();
    Ok(Some(node))
}

/// Attributes that nobody has set since the step began are on the share now. Set again to the same
/// counts too: a directory's times are moved by what was made in it meanwhile.
pub(super) fn settle_attrs(node: &mut Node, before: &Node) {
    if node.change == before.change {
        node.dirty_attrs = DirtyAttrs::default();
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

/// A worker's node is free again however the worker ends, a panic too.
struct Active<'a> {
    sync: &'a Sync,
    ino: Ino,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let mut queue = self.sync.lock();
        if queue.active.remove(&self.ino) {
            queue.put(self.ino, Instant::now() + limits::RETRY_LAST, false);
        }
        drop(queue);
        self.sync.finished.notify_waiters();
    }
}

impl Sync {
    /// Puts every dirty node in the queue, at a start.
    pub(crate) fn resume(&self, dirty: impl Iterator<Item = Ino>) {
        let now = Instant::now();
        let mut queue = self.lock();
        for ino in dirty {
            queue.put(ino, now, false);
        }
        drop(queue);
        self.wake.notify_one();
    }
}
