//! How old a believed fact may be, and whether the share can be reached.
//!
//! A name, and the attributes behind it, are as fresh as the last listing of their directory; in a
//! directory of more than one page as fresh as the share's last word on that name (K4). While the
//! share is out of reach everything is answered from here, and one probe at a time asks again (K3).

use crate::attr::Ino;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::node::{Node, Place};
use crate::step::{Asked, Need};
use crate::tree::{DirInfo, Tree};
use crate::vfs::Vfs;
use covefs_remote::attempt::in_background;
use covefs_remote::{ErrorKind as RemoteKind, Remote, ShareIdentity};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Whether the share answers.
#[derive(Default)]
pub(crate) struct Reach {
    offline: AtomicBool,
    /// When a revalidation last found out that there is no answer.
    gave_up: Mutex<Option<Instant>>,
    /// Somebody should probe, or the share is back.
    pub changed: Notify,
    last_error: Mutex<Option<String>>,
}

impl Reach {
    pub(crate) fn is_online(&self) -> bool {
        !self.offline.load(Ordering::SeqCst)
    }

    /// A request failed in a way that says that the share is out of reach.
    pub(crate) fn failed(&self, kind: RemoteKind) {
        if kind.is_offline() {
            self.give_up(kind.says());
        }
    }

    /// No answer in time: from now on everything is answered from here.
    pub(crate) fn give_up(&self, why: &str) {
        *self.gave_up.lock().unwrap_or_else(|p| p.into_inner()) = Some(Instant::now());
        *self.last_error.lock().unwrap_or_else(|p| p.into_inner()) = Some(why.to_owned());
        if !self.offline.swap(true, Ordering::SeqCst) {
            tracing::warn!(why, "the share is out of reach");
        }
        self.changed.notify_waiters();
    }

    fn back(&self) {
        if self.offline.swap(false, Ordering::SeqCst) {
            tracing::info!("the share answers again");
        }
        self.changed.notify_waiters();
    }

    /// Why the share is out of reach; `None` while it is not.
    pub(crate) fn trouble(&self) -> Option<String> {
        let why = self.last_error.lock().unwrap_or_else(|p| p.into_inner()).clone();
        why.filter(|_| !self.is_online())
    }

    pub(crate) fn gave_up_since(&self, since: Instant) -> bool {
        self.gave_up.lock().unwrap_or_else(|p| p.into_inner()).is_some_and(|at| at >= since)
    }

    /// Waits until the share is in reach, or out of it.
    pub(crate) async fn wait(&self, online: bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_online() == online {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the share answers again; false at the deadline.
    pub(crate) async fn wait_online(&self, deadline: Instant) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_online() {
                return true;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return self.is_online();
            }
        }
    }
}

/// Listings and questions under way: one each, whoever waits.
#[derive(Default)]
pub(crate) struct Listings {
    under_way: Mutex<HashMap<Place, Arc<Asking>>>,
}

/// One question to the share.
pub(crate) struct Asking {
    done: AtomicBool,
    error: Mutex<Option<ErrorKind>>,
    changed: Notify,
}

impl Listings {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Arc<Asking>>> {
        self.under_way.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Asking {
    /// Waits for the end of the question; `None` at the deadline.
    async fn wait(&self, deadline: Instant) -> Option<Option<ErrorKind>> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.done.load(Ordering::SeqCst) {
                return Some(*self.error.lock().unwrap_or_else(|p| p.into_inner()));
            }
            tokio::time::timeout_at(deadline, changed).await.ok()?;
        }
    }
}

impl Vfs {
    /// What has to be asked before the directory (or only this name in it) is believed.
    pub(crate) fn stale(
        &self,
        tree: &mut Tree,
        asked: Asked,
        dir: &Node,
        name: Option<&[u8]>,
    ) -> Result<Option<Need>> {
        if dir.base.is_none() || (!self.reach.is_online() && dir.listed) {
            return Ok(None);
        }
        if self.reach.gave_up_since(asked.since) {
            return match (dir.listed, name) {
                (false, None) => Err(Error::new(ErrorKind::Offline, "list a directory")),
                _ => Ok(None),
            };
        }
        let info = tree.use_dir(dir.ino);
        let least = info.took * 5;
        let bound = self.config.freshness.max(least);
        let fresh = |at: Instant| {
            let doubted = info.doubted.is_some_and(|doubted| doubted >= at);
            at >= asked.since || (at.elapsed() <= bound && !doubted)
        };
        let failed = info.failed.is_some_and(|at| at >= asked.since);
        // Doubted or not, listings take at most a fifth of the time (K4).
        let lately = |at: Instant| at.elapsed() <= least;
        if info.verified.is_some_and(|at| fresh(at) || lately(at)) || (failed && dir.listed) {
            return Ok(None);
        }
        match name {
            Some(name) if info.big && dir.listed => {
                let place = Place::new(dir.ino, name);
                let fresh = tree.name_verified(&place).is_some_and(fresh);
                Ok((!fresh).then(|| Need::Name(dir.ino, name.to_vec())))
            }
            _ => Ok(Some(Need::Listing(dir.ino))),
        }
    }

    /// How long the kernel may believe what it is told of a name of this directory.
    pub(crate) fn ttl(&self, tree: &mut Tree, dir: &Node, name: Option<&[u8]>) -> Duration {
        if dir.base.is_none() {
            return self.config.freshness;
        }
        let DirInfo { mut verified, big, .. } = tree.dir_info(dir.ino);
        if let Some(name) = name.filter(|_| big) {
            verified = verified.max(tree.name_verified(&Place::new(dir.ino, name)));
        }
        let age = verified.map_or(self.config.freshness, |at| at.elapsed());
        // Out of reach: soon enough to notice when it is back, not at every step.
        let least = if self.reach.is_online() { Duration::ZERO } else { limits::REVALIDATE };
        self.config.freshness.saturating_sub(age).max(least.min(self.config.freshness))
    }

    /// For tests: nothing that was asked for until now is fresh any more.
    #[doc(hidden)]
    pub async fn age(&self) {
        // What is under way would count as fresh when it ends.
        let under_way: Vec<Arc<Asking>> = self.listings.lock().values().cloned().collect();
        let deadline = Instant::now() + self.config.timeout;
        for asking in under_way {
            asking.wait(deadline).await;
        }
        self.tree().forget_verified();
    }

    /// Waits for a listing of the directory, or for the certainty that there is no answer. What
    /// was `asked` may have become fresh since, by a guess that ended: then there is no other one.
    pub(crate) async fn wait_listing(&self, asked: Option<Asked>, dir: Ino) -> Result<()> {
        let (asking, known) = {
            // Held until it is asked for: no guess ends in between.
            let mut tree = self.tree();
            let node = tree.get(dir)?;
            if let (Some(asked), Some(node)) = (asked, &node)
                && let Ok(None) = self.stale(&mut tree, asked, node, None)
            {
                return Ok(());
            }
            (self.ask_for(dir, None).0, node.is_some_and(|node| node.listed))
        };
        self.wait_asking(&asking, dir, known).await
    }

    /// Waits for the share's word on one name.
    pub(crate) async fn wait_name(&self, dir: Ino, name: Vec<u8>) -> Result<()> {
        let (asking, _) = self.ask_for(dir, Some(name));
        self.wait_asking(&asking, dir, true).await
    }

    /// Asks for a directory, or a name in it, though nobody waits for it. A question that is under
    /// way may be older than the reason to ask: another one follows it.
    pub(crate) async fn ask_anew(&self, dir: Ino, name: Option<Vec<u8>>) {
        for _ in 0..2 {
            let (asking, is_new) = self.ask_for(dir, name.clone());
            asking.wait(Instant::now() + self.config.timeout).await;
            if is_new {
                return;
            }
        }
    }

    /// Lists a directory that somebody may come to soon.
    pub(crate) fn ask_ahead(&self, dir: Ino) {
        let place = Place::new(dir, b"");
        self.ask(place, move |vfs| async move { in_background(vfs.list_dir(dir)).await });
    }

    fn ask_for(&self, dir: Ino, name: Option<Vec<u8>>) -> (Arc<Asking>, bool) {
        let place = Place::new(dir, name.as_deref().unwrap_or_default());
        match name {
            None => self.ask(place, move |vfs| async move { vfs.list_dir(dir).await }),
            Some(name) => self.ask(place, move |vfs| async move { vfs.look_at(dir, &name).await }),
        }
    }

    async fn wait_asking(&self, asking: &Asking, dir: Ino, known: bool) -> Result<()> {
        let patience = if known { limits::REVALIDATE } else { self.config.timeout };
        match asking.wait(Instant::now() + patience).await {
            Some(None) => Ok(()),
            Some(Some(ErrorKind::Offline | ErrorKind::Timeout | ErrorKind::Io)) if known => {
                let mut tree = self.tree();
                let info = tree.dir_info(dir);
                tree.set_dir_info(dir, DirInfo { failed: Some(Instant::now()), ..info });
                Ok(())
            }
            Some(Some(kind)) => Err(Error::new(kind, "list a directory")),
            None => {
                self.reach.give_up("no answer to a listing in time");
                if known { Ok(()) } else { Err(Error::new(ErrorKind::Offline, "list a directory")) }
            }
        }
    }

    /// The question under way for this place, or a new one in a task of its own; whether it is new.
    fn ask<F, Fut>(&self, place: Place, question: F) -> (Arc<Asking>, bool)
    where
        F: FnOnce(Arc<Vfs>) -> Fut,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let mut under_way = self.listings.lock();
        if let Some(asking) = under_way.get(&place) {
            return (asking.clone(), false);
        }
        let asking = Arc::new(Asking {
            done: AtomicBool::new(false),
            error: Mutex::new(None),
            changed: Notify::new(),
        });
        under_way.insert(place.clone(), asking.clone());
        drop(under_way);
        let (vfs, answer, end) = (self.arc(), question(self.arc()), asking.clone());
        self.spawn("ask the share", async move {
            let how = answer.await;
            if let Err(error) = &how {
                tracing::debug!(%error, "no word from the share");
                *end.error.lock().unwrap_or_else(|p| p.into_inner()) = Some(error.kind);
            }
            vfs.listings.lock().remove(&place);
            end.done.store(true, Ordering::SeqCst);
            end.changed.notify_waiters();
        });
        (asking, true)
    }

    /// Asks again and again while the share is out of reach, ever later; checks that it is the
    /// same share before anything is believed (X1).
    pub(crate) async fn probe(&self, identity: ShareIdentity) {
        loop {
            let changed = self.reach.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.reach.is_online() {
                changed.await;
                continue;
            }
            let mut pause = limits::PROBE_FIRST;
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::PROBE_LAST);
                match self.remote.identity().await {
                    Ok(found) if found == identity => break,
                    Ok(found) => {
                        let why = format!("another share stands in its place ({})", found.0);
                        self.reach.give_up(&why);
                    }
                    Err(error) => self.reach.give_up(&error.to_string()),
                }
            }
            self.resolve_all_sent().await;
            self.tree().forget_verified();
            self.reach.back();
            self.sync.hurry_once();
        }
    }
}
