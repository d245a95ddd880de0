//! The workers: take what is due, look, plan, do one step, look again.

use super::Failure;
use super::Sync;
use super::plan::{Action, View, plan};
use crate::attr::Ino;
use crate::error::{Error, Result};
use crate::journal::SentRecord;
use crate::limits;
use crate::names::OUR_PREFIX;
use crate::node::{Node, Place};
use crate::vfs::Vfs;
use covefs_remote::{ErrorKind as RemoteKind, Kind, Remote, RemotePath};
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
            let next = {
                let mut queue = self.sync.lock();
                let can_start = workers.len() < limits::UPLOADS && self.reach.is_online();
                let due = queue.next().filter(|_| can_start);
                let next = due.unwrap_or_else(|| Instant::now() + limits::RETRY_LAST);
                queue.sleeps_until = Some(next);
                next
            };
            tokio::select! {
                biased;
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
        let mut active = Active { sync: &self.sync, ino, ended: false };
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
        active.end();
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
        // What is in step ends at once, and this one would ask again and again.
        let ends = matches!(self.tree().get(other), Ok(Some(node)) if node.is_dirty())
            || self.journal.live(|live| live.sent.contains_key(&other));
        if !ends {
            return self.sync.later(ino, limits::RETRY_FIRST, urgent);
        }
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
                kind: None,
                since: Instant::now(),
                locked: None,
            });
            failure.count += 1;
            failure.error = error.to_string();
            failure.kind = error.of_share();
            match failure.kind {
                Some(RemoteKind::Locked) => {
                    failure.locked.get_or_insert_with(Instant::now);
                }
                // No answer says nothing of the lock.
                Some(kind) if kind.is_transient() || kind.is_offline() => {}
                _ => failure.locked = None,
            }
            let doubled = limits::RETRY_FIRST * (1 << failure.count.min(6).saturating_sub(1));
            doubled.min(limits::RETRY_LAST)
        };
        tracing::warn!(%error, ino = ino.0, "an upload failed; it is tried again");
        self.sync.later(ino, pause, false);
    }

    /// Looks at a node, plans, and does one step.
    async fn step(&self, ino: Ino, urgent: bool) -> Result<Outcome> {
        if let Some(above) = self.unsure_of(ino)? {
            return Ok(Outcome::WaitFor(above));
        }
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
        let _turn = match matches!(action, Action::Replace(_)) && self.is_big(&view.node)? {
            true => self.big_uploads.acquire().await.ok(),
            false => None,
        };
        // A directory's rename and requests below it exclude each other (S4).
        let alone = view.node.kind == Kind::Dir
            && matches!(action, Action::Move(_) | Action::Detour | Action::Remove(_));
        let paths = self.paths_of(&view.node)?;
        let Some(_hold) = self.paths.try_take(&paths, alone) else {
            return Ok(Outcome::Later(limits::BUSY * 5));
        };
        // Another worker may have moved something while this one waited for its turn.
        let Some(view) = self.view(ino, urgent)? else { return Ok(Outcome::Done) };
        let moved = self.paths_of(&view.node)? != paths || self.unsure_of(ino)?.is_some();
        if self.decide(&view) != action || moved {
            return Ok(Outcome::Again);
        }
        // Whether another of ours arrived under this name is found out first (S4).
        // And so is where the one is that stands there.
        let occupant = view.occupant.as_ref().map(|other| other.ino);
        let unknown = self.journal.live(|live| {
            let mut sent = live.sent.values().filter(|sent| sent.ino != ino);
            let about =
                |sent: &&SentRecord| places.contains(&sent.place) || Some(sent.ino) == occupant;
            sent.find(about).map(|sent| sent.ino)
        });
        if let Some(other) = unknown {
            return Ok(Outcome::WaitFor(other));
        }
        self.sync.begin(ino, &places);
        let done = self.act(&view, action).await;
        self.sync.end(ino, &places);
        done
    }

    /// Whether its bytes take longer than the round trips of an upload.
    fn is_big(&self, node: &Node) -> Result<bool> {
        let file = self.bytes_of(&mut self.tree(), node)?;
        Ok(file.is_some_and(|file| file.lock().size > limits::SMALL))
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
        if self.remote.limits().quick_stat && self.looks_again(view).await? {
            return Ok(Outcome::Again);
        }
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
            Action::Revive => self.revive(view),
            Action::Done | Action::WaitFor(_) | Action::Later(_) | Action::Keep => {
                Ok(Outcome::Done)
            }
        }
    }
}

/// A node that no worker touches until this is dropped.
pub(super) struct Claim<'a> {
    sync: &'a Sync,
    ino: Ino,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.sync.lock().active.remove(&self.ino);
        self.sync.wake.notify_one();
        self.sync.finished.notify_waiters();
    }
}

/// A worker's node is free again however the worker ends, a panic too.
struct Active<'a> {
    sync: &'a Sync,
    ino: Ino,
    ended: bool,
}

impl Active<'_> {
    /// From here on another worker may take the node.
    fn end(&mut self) {
        self.ended = true;
        self.sync.lock().active.remove(&self.ino);
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut queue = self.sync.lock();
        queue.active.remove(&self.ino);
        queue.put(self.ino, Instant::now() + limits::RETRY_LAST, false);
        drop(queue);
        self.sync.finished.notify_waiters();
    }
}

impl Sync {
    /// Keeps workers from a node; `None` while one is at it.
    pub(super) fn claim(&self, ino: Ino) -> Option<Claim<'_>> {
        let free = self.lock().active.insert(ino);
        // Made only if it is ours: a claim that is dropped gives the node back.
        if free { Some(Claim { sync: self, ino }) } else { None }
    }

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
