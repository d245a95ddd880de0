//! The steps but for uploads: one change of the share each. What is about to be asked for is
//! journalled first (S4), and what the answer says is taken in (`taken.rs`).

use super::plan::View;
use super::run::Outcome;
use crate::attr::{Ino, Notice};
use crate::error::{ErrorKind, Result};
use crate::fetch::Reader;
use crate::journal::SentWhat;
use crate::limits;
use crate::node::{Node, Place};
use crate::vfs::Vfs;
use crate::xattrs::to_send;
use covefs_remote::{Attrs, Expect, Kind, Remote, RemotePath, XattrRule};

impl Vfs {
    /// Fetches what open handles may still want before the share's copy goes.
    pub(super) async fn keep_open(&self, node: &Node) -> Result<Outcome> {
        let Some(file) = node.content.and_then(|id| self.files.get(id)) else {
            return Ok(Outcome::Again);
        };
        match self.fetch_all(&file, Reader::User, &|_| ()).await {
            // The share has another version: there is nothing left to keep.
            Err(error) if error.kind == ErrorKind::Stale => file.lock().rest_is_gone = true,
            fetched => fetched?,
        }
        // Too big to keep whole: it goes when it is closed.
        let kept = file.lock().is_kept();
        Ok(if kept { Outcome::Again } else { Outcome::Later(limits::RETRY_FIRST) })
    }

    /// The same for what is about to be replaced: as well as it goes, an edit waits for no reader.
    pub(super) async fn keep_for_readers(&self, old: &Node) {
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
    pub(super) async fn create_there(&self, view: &View) -> Result<Outcome> {
        let node = &view.node;
        let place = node.place.clone().expect("the plan creates only what has a place");
        let Some(path) = self.tree().remote_path_of(&place)? else {
            return Ok(Outcome::WaitFor(place.parent));
        };
        let rule = self.remote.limits().xattrs;
        let attrs = Attrs {
            mode: Some(node.mode),
            uid: Some(node.uid),
            gid: Some(node.gid),
            mtime: Some(node.mtime),
            atime: Some(node.atime),
            xattrs: to_send(rule, node).filter(|xattrs| !xattrs.is_empty()),
            xattrs_are_all: true,
        };
        let what = SentWhat::Made { target: node.target.clone(), mtime: node.mtime };
        self.will_send(node.ino, place.clone(), what)?;
        let made = match &node.target {
            Some(target) => self.remote.symlink(&path, target, &attrs).await,
            None => self.remote.create_dir(&path, &attrs).await,
        };
        match made {
            Ok(metadata) => {
                self.share_clock.learn(&metadata);
                self.in_step(node, place, &metadata, None)?;
                self.times_come_last(node)?;
                Ok(Outcome::Again)
            }
            // Whether it was made nobody knows: the next step asks first.
            Err(error) if error.kind.is_transient() => self.retry(error),
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
    pub(super) async fn move_there(&self, view: &View, expect: Expect) -> Result<Outcome> {
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
            Err(error) if error.kind.is_transient() => self.retry(error),
            Err(error) => self.resolve_move(view, &place, &from, &to, error).await,
        }
    }

    /// Moves one of a ring of names aside, under a name of ours in the same directory (X2).
    pub(super) async fn detour(&self, view: &View) -> Result<Outcome> {
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
            Err(error) if error.kind.is_transient() => self.retry(error),
            Err(error) => {
                self.was_not_made(node.ino)?;
                self.resolve_lost(node, &from, error).await
            }
        }
    }

    /// The directory for something in transit: the nearest one to where it goes that the share has
    /// outside of it. The one it comes from may be waiting to go.
    pub(super) fn aside_of(&self, node: &Node, from: &RemotePath) -> Result<Ino> {
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
    pub(super) async fn set_attrs_there(&self, view: &View) -> Result<Outcome> {
        let node = &view.node;
        let base = node.base.clone().expect("the plan sets only what the share has");
        let Some(path) = self.tree().base_path(node.ino)? else { return Ok(Outcome::Done) };
        let (dirty, rule) = (node.dirty_attrs, self.remote.limits().xattrs);
        let attrs = Attrs {
            mode: dirty.mode.then_some(node.mode),
            uid: dirty.owner.then_some(node.uid),
            gid: dirty.owner.then_some(node.gid),
            mtime: dirty.times.then_some(node.mtime),
            atime: dirty.times.then_some(node.atime),
            // A server may have been set up anew.
            xattrs: to_send(rule, node).filter(|_| rule != XattrRule::None),
            xattrs_are_all: false,
        };
        if attrs.mtime.is_some() {
            // A time set over an edit there would hide it (S5).
            let found = match self.remote.stat(&path).await {
                Ok(found) => found,
                Err(error) => return self.resolve_lost(node, &path, error).await,
            };
            if !found.version.same_object(&base.version) {
                return self.resolve_other(node, Some(&found));
            }
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
    pub(super) fn look_again(&self, place: &Place, found: &covefs_remote::Metadata) -> Result<()> {
        let mut tree = self.tree();
        if let Some(node) = tree.base_child(place)? {
            self.sync.end(node.ino, std::slice::from_ref(place));
        }
        let asked = self.sync.question();
        self.take(&mut tree, place.clone(), found, asked)
    }

    /// Removes from the share what was removed here.
    pub(super) async fn remove_there(
        &self,
        view: &View,
        version: covefs_remote::Version,
    ) -> Result<Outcome> {
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

    /// Shows a removed directory again, where the share has it; where that name is taken, beside it.
    pub(super) fn revive(&self, view: &View) -> Result<Outcome> {
        let mut tree = self.tree();
        let node = tree.get(view.node.ino)?.filter(|node| node.place.is_none());
        let Some(mut node) = node else { return Ok(Outcome::Again) };
        let Some(base) = node.base.clone() else { return Ok(Outcome::Again) };
        let mut place = base.place;
        if tree.child(place.parent, &place.name)?.is_some() {
            let name = self.free_name(&mut tree, &place)?;
            place = Place::new(place.parent, &name);
        }
        tracing::info!(ino = node.ino.0, "a removed directory got something new: it stays");
        node.place = Some(place.clone());
        self.commit(&mut tree, &[node], Vec::new(), false)?;
        drop(tree);
        self.notify(Notice::Entry { parent: place.parent, name: place.name });
        Ok(Outcome::Again)
    }
}
