//! Bringing to the share what only we have: a queue of dirty nodes, a few workers, no order but
//! the one that the plan asks for. It retries for ever, and everything it does or cannot do is
//! visible in `covefs status`.

mod change;
mod conflict;
mod locked;
mod plan;
mod quiet;
mod run;
mod sent;
mod source;
mod taken;
mod upload;
mod view;

use crate::attr::Ino;
use crate::limits;
use crate::node::Place;
use covefs_remote::ErrorKind as RemoteKind;
use lru::LruCache;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The state of sync.
pub(crate) struct Sync {
    queue: Mutex<Queue>,
    wake: Notify,
    /// A step ended.
    pub finished: Notify,
    /// When room was last wanted: for a while nothing waits for its debounce (E1).
    hurry: Mutex<Option<Instant>>,
    debounce_ms: AtomicU64,
    /// Counts durable flushes of the index (D3).
    pub index_epoch: AtomicU64,
    questions: AtomicU64,
    ours: Mutex<Ours>,
}

/// What waits, runs and failed.
#[derive(Default)]
struct Queue {
    due: BTreeSet<(Instant, Ino)>,
    at: BTreeMap<Ino, Queued>,
    active: BTreeSet<Ino>,
    failed: BTreeMap<Ino, Failure>,
    /// Who waits for whom, both ways.
    waiters: BTreeMap<Ino, BTreeSet<Ino>>,
    waits_for: BTreeMap<Ino, Ino>,
    /// Until when the task that starts the workers sleeps: what is due later need not wake it. A
    /// change at a time would, thousands in a second, for a step that is due in seconds.
    sleeps_until: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Queued {
    at: Instant,
    first: Instant,
    urgent: bool,
}

/// What went wrong with a node, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub count: u32,
    pub error: String,
    /// What the share said, if it was the share.
    pub kind: Option<RemoteKind>,
    pub since: Instant,
    /// Since when another client has kept the file locked, as far as the share answered.
    pub locked: Option<Instant>,
}

impl Failure {
    /// Whether the share will go on refusing until somebody does something about it.
    fn is_lasting(&self) -> bool {
        match self.kind {
            Some(RemoteKind::Locked) => self.locked_for() > Some(limits::LOCKED_LONG),
            kind => matches!(
                kind,
                Some(
                    RemoteKind::NoSpace
                        | RemoteKind::PermissionDenied
                        | RemoteKind::ReadOnly
                        | RemoteKind::NameInvalid
                        | RemoteKind::NameTooLong
                        | RemoteKind::TooLarge
                        | RemoteKind::Unsupported
                )
            ),
        }
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.kind == Some(RemoteKind::Locked)
    }

    /// For how long another client has kept the file locked.
    pub(crate) fn locked_for(&self) -> Option<Duration> {
        self.locked.map(|since| since.elapsed())
    }
}

/// Which nodes and places a change of ours is under way at, or when it ended (S4).
struct Ours {
    nodes: LruCache<Ino, u64>,
    places: LruCache<Place, u64>,
}

impl Default for Sync {
    fn default() -> Self {
        let many = NonZeroUsize::new(limits::DIR_INFOS).expect("limits are not zero");
        Sync {
            queue: Mutex::default(),
            wake: Notify::new(),
            finished: Notify::new(),
            hurry: Mutex::new(None),
            debounce_ms: AtomicU64::new(3000),
            index_epoch: AtomicU64::new(1),
            questions: AtomicU64::new(1),
            ours: Mutex::new(Ours { nodes: LruCache::new(many), places: LruCache::new(many) }),
        }
    }
}

impl Sync {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn ours(&self) -> MutexGuard<'_, Ours> {
        self.ours.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn set_debounce(&self, debounce: Duration) {
        self.debounce_ms.store(debounce.as_millis() as u64, Ordering::Relaxed);
    }

    fn debounce(&self) -> Duration {
        Duration::from_millis(self.debounce_ms.load(Ordering::Relaxed))
    }

    /// The node is dirty, or changed again: it goes after the debounce.
    pub(crate) fn poke(&self, ino: Ino) {
        let debounce = self.debounce();
        let mut queue = self.lock();
        let now = Instant::now();
        let first = queue.at.get(&ino).map_or(now, |queued| queued.first);
        // Pokes do not put it off for ever.
        let at = (now + debounce).min(first + debounce * 10);
        queue.put(ino, at, false);
        let wakes = queue.sleeps_until.is_none_or(|until| at < until);
        drop(queue);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Somebody waits for it: it goes now.
    pub(crate) fn poke_now(&self, ino: Ino) {
        self.lock().put(ino, Instant::now(), true);
        self.wake.notify_one();
    }

    /// What was looked at goes again after the pause; sooner if somebody poked it meanwhile.
    fn later(&self, ino: Ino, pause: Duration, urgent: bool) {
        let mut queue = self.lock();
        let at = Instant::now() + pause;
        let at = queue.at.get(&ino).map_or(at, |poked| poked.at.min(at));
        queue.put(ino, at, urgent);
        drop(queue);
        self.wake.notify_one();
    }

    /// Room is wanted: everything goes now, and what becomes dirty in the next moments too.
    pub(crate) fn hurry(&self) {
        *self.hurry.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Instant::now());
        self.hurry_once();
    }

    /// Whether room was wanted in the last moments.
    pub(crate) fn is_hurried(&self) -> bool {
        let last = *self.hurry.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        last.is_some_and(|last| last.elapsed() < limits::SETTLE * 2)
    }

    /// Everything that waits goes now.
    pub(crate) fn hurry_once(&self) {
        let mut queue = self.lock();
        let all: Vec<Ino> = queue.at.keys().copied().collect();
        for ino in all {
            queue.put(ino, Instant::now(), true);
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// What it holds in memory, part by part.
    #[cfg(test)]
    pub(crate) fn held(&self) -> [(&'static str, usize); 5] {
        let (queue, ours) = (self.lock(), self.ours());
        [
            ("nodes in the queue", queue.due.len() + queue.at.len()),
            ("nodes that failed", queue.failed.len()),
            ("nodes that wait", queue.waiters.len() + queue.waits_for.len()),
            ("changed nodes", ours.nodes.len()),
            ("changed places", ours.places.len()),
        ]
    }

    /// The number of a question to the share that begins now.
    pub(crate) fn question(&self) -> u64 {
        self.questions.fetch_add(1, Ordering::SeqCst)
    }

    /// Whether a change of ours to this node is under way, or ended after the question began.
    pub(crate) fn is_ours(&self, ino: Ino, asked: u64) -> bool {
        self.ours().nodes.get(&ino).is_some_and(|ended| *ended > asked)
    }

    /// The same for a place.
    pub(crate) fn is_ours_at(&self, place: &Place, asked: u64) -> bool {
        self.ours().places.get(place).is_some_and(|ended| *ended > asked)
    }

    /// Whether a change of ours to this node is under way.
    pub(crate) fn is_under_way(&self, ino: Ino) -> bool {
        self.is_ours(ino, u64::MAX - 1)
    }

    fn begin(&self, ino: Ino, places: &[Place]) {
        let mut ours = self.ours();
        ours.nodes.put(ino, u64::MAX);
        for place in places {
            ours.places.put(place.clone(), u64::MAX);
        }
    }

    fn end(&self, ino: Ino, places: &[Place]) {
        let now = self.questions.load(Ordering::SeqCst);
        let mut ours = self.ours();
        ours.nodes.put(ino, now);
        for place in places {
            ours.places.put(place.clone(), now);
        }
    }

    /// Nodes that are being sent, and those that failed at least once.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let queue = self.lock();
        (queue.active.len() as u64, queue.failed.len() as u64)
    }

    /// What went wrong with a node last.
    pub(crate) fn failure(&self, ino: Ino) -> Option<Failure> {
        self.lock().failed.get(&ino).cloned()
    }

    /// How often each node failed so far.
    pub(crate) fn failed_so_far(&self) -> BTreeMap<Ino, u32> {
        self.lock().failed.iter().map(|(ino, failure)| (*ino, failure.count)).collect()
    }

    /// Why none of these will reach the share, as it is: since `before` it refused all of them again
    /// and again.
    pub(crate) fn refused(&self, dirty: &[Ino], before: &BTreeMap<Ino, u32>) -> Option<Failure> {
        let queue = self.lock();
        let mut last = None;
        for ino in dirty {
            match queue.failed.get(ino) {
                Some(failure)
                    if failure.count > 1 + before.get(ino).copied().unwrap_or(0)
                        && failure.is_lasting() =>
                {
                    last = Some(failure.clone());
                }
                _ if queue.waits_for.contains_key(ino) => {}
                _ => return None,
            }
        }
        last
    }

    /// All that others keep locked.
    fn locked(&self) -> Vec<(Ino, Failure)> {
        let queue = self.lock();
        let locked = queue.failed.iter().filter(|(_, failure)| failure.is_locked());
        locked.map(|(ino, failure)| (*ino, failure.clone())).collect()
    }

    /// What went wrong, with how many nodes, and the last error of each kind; `Locked` aside.
    pub(crate) fn failures(&self) -> Vec<(usize, Failure)> {
        let mut kinds: Vec<(usize, Failure)> = Vec::new();
        for failure in self.lock().failed.values().filter(|failure| !failure.is_locked()) {
            match kinds.iter_mut().find(|(_, other)| other.kind == failure.kind) {
                Some((count, last)) => {
                    *count += 1;
                    if last.since < failure.since {
                        *last = failure.clone();
                    }
                }
                None => kinds.push((1, failure.clone())),
            }
        }
        kinds
    }
}

impl Queue {
    fn put(&mut self, ino: Ino, at: Instant, urgent: bool) {
        let old = self.at.get(&ino).copied();
        if let Some(old) = old {
            self.due.remove(&(old.at, ino));
        }
        let urgent = urgent || old.is_some_and(|old| old.urgent);
        let at = if urgent { at.min(old.map_or(at, |old| old.at)) } else { at };
        let first = old.map_or_else(Instant::now, |old| old.first);
        self.due.insert((at, ino));
        self.at.insert(ino, Queued { at, first, urgent });
    }

    fn pop(&mut self, now: Instant) -> Option<(Ino, bool)> {
        let ready = self.due.iter().take_while(|(at, _)| *at <= now);
        let mut ready = ready.filter(|(_, ino)| !self.active.contains(ino));
        let (at, ino) = ready.next().copied()?;
        self.due.remove(&(at, ino));
        let queued = self.at.remove(&ino)?;
        self.waits(ino, None);
        self.active.insert(ino);
        Some((ino, queued.urgent))
    }

    /// A node waits for another one from now on, or for none.
    fn waits(&mut self, ino: Ino, other: Option<Ino>) {
        if let Some(old) = self.waits_for.remove(&ino)
            && let Some(waiters) = self.waiters.get_mut(&old)
        {
            waiters.remove(&ino);
            if waiters.is_empty() {
                self.waiters.remove(&old);
            }
        }
        if let Some(other) = other {
            self.waiters.entry(other).or_default().insert(ino);
            self.waits_for.insert(ino, other);
        }
    }

    /// Nodes that wait for this one, or for one that does.
    fn waiting_for(&self, ino: Ino) -> BTreeSet<Ino> {
        let mut found = BTreeSet::new();
        let mut at = vec![ino];
        while let Some(ino) = at.pop() {
            let waiters = self.waiters.get(&ino).into_iter().flatten().copied();
            at.extend(waiters.filter(|waiter| found.insert(*waiter)));
        }
        found
    }

    fn next(&self) -> Option<Instant> {
        let mut waiting = self.due.iter().filter(|(_, ino)| !self.active.contains(ino));
        waiting.next().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file was closed while a worker decided to wait for just that: it was left for a minute.
    #[tokio::test]
    async fn a_poke_in_the_middle_of_a_step_is_not_forgotten() {
        let sync = Sync::default();
        sync.set_debounce(Duration::from_millis(10));
        sync.poke_now(Ino(7));
        assert!(sync.lock().pop(Instant::now()).is_some());
        sync.poke(Ino(7));
        sync.later(Ino(7), Duration::from_secs(60), false);
        let soon = Instant::now() + Duration::from_secs(1);
        assert!(sync.lock().at.get(&Ino(7)).is_some_and(|queued| queued.at < soon));
    }
}
