//! What the share tells unasked (X7), looked into: a change made there shows sooner than at the
//! next listing.
//!
//! Nothing rests on it. What is told is no word on what the share has: it makes us ask. Kernel
//! timeouts and the bound on freshness are the same without it, so changes that are told late,
//! twice or never do no harm.
//!
//! ```text
//!   share tells -> 200 ms -> not ours? -> directory doubted -> in use? -> asked for -> kernel told
//! ```
//!
//! A doubted directory is asked for before it is believed again. One that the kernel may know
//! something of is asked for at once, in rounds that take at most a fifth of the time.

use crate::attr::Ino;
use crate::error::Result;
use crate::limits;
use crate::names::OUR_PREFIX;
use crate::node::Place;
use crate::vfs::Vfs;
use covefs_remote::{Change, ChangeStream, Remote, RemotePath};
use futures_util::{FutureExt, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What was told and not looked into yet.
#[derive(Default)]
pub(crate) struct Watching {
    is_told: AtomicBool,
    noted: Mutex<BTreeMap<Ino, Names>>,
    some: Notify,
}

/// What changed in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Names {
    /// These names.
    Only(BTreeSet<Vec<u8>>),
    /// Any.
    All,
}

impl Default for Names {
    fn default() -> Self {
        Names::Only(BTreeSet::new())
    }
}

impl Names {
    fn add(&mut self, other: Names) {
        match (&mut *self, other) {
            (Names::Only(names), Names::Only(more)) => names.extend(more),
            _ => *self = Names::All,
        }
    }
}

/// What came at about the same time.
#[derive(Default)]
struct Batch {
    dirs: BTreeMap<RemotePath, Names>,
    count: usize,
    lost: bool,
}

impl Batch {
    fn add(&mut self, change: Change) {
        self.count += 1;
        match change {
            Change::Lost => self.lost = true,
            Change::In(dir) => self.dirs.entry(dir).or_default().add(Names::All),
            Change::At(path) => {
                // Of the root itself nothing is shown; uploads of any site are not news.
                let Some((dir, name)) = path.split() else { return };
                if !name.starts_with(OUR_PREFIX) {
                    let name = Names::Only(BTreeSet::from([name.to_vec()]));
                    self.dirs.entry(dir).or_default().add(name);
                }
            }
        }
    }
}

impl Watching {
    fn noted(&self) -> MutexGuard<'_, BTreeMap<Ino, Names>> {
        self.noted.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn note(&self, dir: Ino, names: Names) {
        let mut noted = self.noted();
        // What does not fit is doubted all the same.
        if noted.len() < limits::LOOKS_WAITING || noted.contains_key(&dir) {
            noted.entry(dir).or_default().add(names);
            self.some.notify_one();
        }
    }

    fn next_round(&self) -> BTreeMap<Ino, Names> {
        let mut noted = self.noted();
        let later = noted.keys().nth(limits::LOOKS).copied();
        let rest = later.map(|first| noted.split_off(&first)).unwrap_or_default();
        std::mem::replace(&mut *noted, rest)
    }

    /// Whether the share tells of changes now.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }
}

impl Vfs {
    /// Listens to the share for as long as it tells; asks anew when it stops, ever later.
    pub(crate) async fn watch_for_ever(&self) {
        let mut pause = limits::WATCH_FIRST;
        loop {
            self.reach.wait(true).await;
            let began = Instant::now();
            match self.remote.watch().await {
                Ok(None) => return tracing::debug!("the share does not tell of changes"),
                Ok(Some(changes)) => {
                    self.doubt_all();
                    // Last: of what somebody lists who knows this, he is told.
                    self.watching.is_told.store(true, Ordering::Relaxed);
                    self.listen(changes).await;
                    self.watching.is_told.store(false, Ordering::Relaxed);
                }
                Err(error) => {
                    tracing::debug!(%error, "the share was not asked to tell of changes");
                    self.reach.failed(error.kind);
                }
            }
            if began.elapsed() > limits::WATCH_LAST {
                pause = limits::WATCH_FIRST;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(limits::WATCH_LAST);
        }
    }

    /// Takes in what is told until that ends, or the share is out of reach.
    async fn listen(&self, changes: ChangeStream) {
        let mut changes = changes.fuse();
        // What we changed and ended before this question was told before it.
        let mut heard = self.sync.question();
        loop {
            let first = tokio::select! {
                biased;
                () = self.reach.wait(false) => return,
                first = changes.next() => first,
            };
            let Some(first) = first else { return };
            tokio::time::sleep(limits::WATCH_COLLECT).await;
            let now = self.sync.question();
            let mut batch = Batch::default();
            batch.add(first);
            let mut all = false;
            while batch.count < limits::WATCH_BATCH && !all {
                let next = tokio::task::unconstrained(changes.next()).now_or_never();
                match next {
                    Some(Some(change)) => batch.add(change),
                    Some(None) | None => all = true,
                }
            }
            if let Err(error) = self.note(batch, heard) {
                tracing::debug!(%error, "a change of the share is left to the next listing");
            }
            if all {
                heard = now;
            }
        }
    }

    /// Doubts what changed, and notes it to be looked into. Changes of ours since `heard` are none.
    fn note(&self, batch: Batch, heard: u64) -> Result<()> {
        if batch.lost {
            self.doubt_all();
        }
        for (path, mut names) in batch.dirs {
            let mut tree = self.tree();
            let Some(dir) = tree.base_resolve(&path)? else { continue };
            let info = tree.dir_info(dir.ino);
            if info.verified.is_none() {
                // It is asked for before it is believed, as it is.
                continue;
            }
            let mut few = false;
            if let Names::Only(names) = &mut names {
                names.retain(|name| !self.sync.is_ours_at(&Place::new(dir.ino, name), heard));
                few = names.len() <= limits::LOOK_NAMES;
                if names.is_empty() {
                    continue;
                }
            }
            if !info.big || !few {
                names = Names::All;
                tree.doubt(dir.ino);
            }
            drop(tree);
            self.watching.note(dir.ino, names);
        }
        Ok(())
    }

    /// Anything may have changed there.
    fn doubt_all(&self) {
        let mut tree = self.tree();
        tree.doubt_all();
        let used = tree.dirs_used(self.config.freshness, limits::LOOKS);
        drop(tree);
        used.into_iter().for_each(|dir| self.watching.note(dir, Names::All));
    }

    /// Looks into what was noted.
    pub(crate) async fn look_for_ever(&self) {
        loop {
            self.watching.some.notified().await;
            loop {
                let round = self.watching.next_round();
                if round.is_empty() {
                    break;
                }
                let began = Instant::now();
                for (dir, names) in round {
                    self.look_into(dir, names).await;
                }
                let rest = began.elapsed() * 4;
                tokio::time::sleep(rest.max(limits::LOOK_REST)).await;
            }
        }
    }

    async fn look_into(&self, dir: Ino, names: Names) {
        let info = self.tree().dir_info(dir);
        // Of others the kernel knows nothing any more: whoever asks for them next asks the share.
        let is_used = info.used.is_some_and(|at| at.elapsed() <= self.config.freshness);
        if !is_used || !self.reach.is_online() {
            return;
        }
        match names {
            Names::All => self.ask_anew(dir, None).await,
            Names::Only(names) => {
                for name in names {
                    self.ask_anew(dir, Some(name)).await;
                }
            }
        }
    }
}
