//! An index that takes changes into memory and hands them on a little later, many as one.
//!
//! ```text
//!   apply -> newest: the last word on each key
//!        \-> open batch --(BATCH_BYTES)--> closed batches --(DELAY, many, flush_durable)--> behind
//! ```
//!
//! sled writes and syncs a piece of its file for each batch; a new file is several, and the tree's
//! lock was held for all of them: the first listing of a directory took 60 us for each name. Batches
//! are handed on in their order, so that a crash still keeps a beginning of the calls; it loses the
//! last `DELAY` of them more, or the last `WAITING_BYTES` while more comes than sled takes.

use super::{Index, Op, Pair, Tree, begin};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// So long changes gather. Many come in bursts (a listing, files that are fetched), and who is in the
/// middle of one would have to wait for sled: it lets nobody read while it takes a batch.
const DELAY: Duration = Duration::from_secs(2);
/// So many bytes are handed on as one batch: about a millisecond.
const BATCH_BYTES: usize = 48 << 10;
/// What one takes besides its bytes, in two maps.
const CHANGE_BYTES: usize = 128;
/// What is read at once where some of it may have been removed since.
const PAGE: usize = 256;
/// So many wait; who applies more waits for them, and half of them wait for no delay. 40,000 names of
/// a listing.
const WAITING_BYTES: usize = 16 << 20;

/// See the head of this file.
pub struct WriteBehind {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    behind: Arc<dyn Index>,
    state: Mutex<State>,
    /// Something waits, or it ends.
    wake: Condvar,
    /// A batch has arrived.
    handed: Condvar,
    /// One batch is handed on at a time.
    handing: Mutex<()>,
}

type Key = (Tree, Vec<u8>);
/// `None` where the key was removed.
type Value = Option<Arc<[u8]>>;

#[derive(Default)]
struct State {
    /// The last word on each key in a batch that has not arrived, and the number of that batch.
    newest: BTreeMap<Key, (u64, Value)>,
    open: Batch,
    closed: VecDeque<Batch>,
    /// Number of the open batch; the closed ones have those before it.
    number: u64,
    bytes: usize,
    ends: bool,
}

/// The last word on some keys, of calls that follow each other.
#[derive(Default)]
struct Batch {
    changes: BTreeMap<Key, Value>,
    bytes: usize,
    /// When the first of them came.
    begun: Option<Instant>,
}

impl State {
    fn take(&mut self, op: &Op) {
        let (tree, key, value) = match op {
            Op::Put(tree, key, value) => (*tree, key, Some(Arc::from(value.as_slice()))),
            Op::Delete(tree, key) => (*tree, key, None),
        };
        let bytes =
            CHANGE_BYTES + key.len() + value.as_ref().map_or(0, |value: &Arc<[u8]>| value.len());
        self.open.bytes += bytes;
        self.bytes += bytes;
        self.open.begun.get_or_insert_with(Instant::now);
        self.newest.insert((tree, key.clone()), (self.number, value.clone()));
        self.open.changes.insert((tree, key.clone()), value);
    }

    /// What comes from here on is another batch's.
    fn close(&mut self) {
        if !self.open.changes.is_empty() {
            self.closed.push_back(std::mem::take(&mut self.open));
            self.number += 1;
        }
    }

    /// The number of the first batch that has not arrived.
    fn first(&self) -> u64 {
        self.number - self.closed.len() as u64
    }

    /// The first closed batch has arrived.
    fn arrived(&mut self) {
        let first = self.first();
        let Some(batch) = self.closed.pop_front() else { return };
        self.bytes -= batch.bytes;
        for key in batch.changes.into_keys() {
            if self.newest.get(&key).is_some_and(|(number, _)| *number == first) {
                self.newest.remove(&key);
            }
        }
    }

    fn waits(&self) -> bool {
        !self.closed.is_empty() || !self.open.changes.is_empty()
    }

    /// How much longer the first batch may wait; `None` where it goes now.
    fn patience(&self) -> Option<Duration> {
        let first = self.closed.front().unwrap_or(&self.open);
        let is_urgent = self.ends || self.bytes > WAITING_BYTES / 2;
        let begun = first.begun.filter(|_| !is_urgent)?;
        DELAY.checked_sub(begun.elapsed())
    }

    fn get(&self, tree: Tree, key: &[u8]) -> Option<&Value> {
        // Mostly nothing waits: no key is made then.
        let newest = (!self.newest.is_empty()).then(|| self.newest.get(&(tree, key.to_vec())))?;
        newest.map(|(_, value)| value)
    }

    /// The changes of keys with this prefix, behind `after`.
    fn within<'a>(
        &'a self,
        tree: Tree,
        prefix: &'a [u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Value)> {
        let from = begin(prefix, after).map(|key| (tree, key.to_vec()));
        let found = self.newest.range((from, Bound::Unbounded));
        let found = found.map(|((tree, key), (_, value))| (*tree, key, value));
        found
            .take_while(move |(found, key, _)| *found == tree && key.starts_with(prefix))
            .map(|(_, key, value)| (key, value))
    }
}

impl Batch {
    fn ops(&self) -> Vec<Op> {
        let op = |((tree, key), value): (&Key, &Value)| match value {
            Some(value) => Op::Put(*tree, key.clone(), value.to_vec()),
            None => Op::Delete(*tree, key.clone()),
        };
        self.changes.iter().map(op).collect()
    }
}

impl WriteBehind {
    /// Goes on from what `behind` holds.
    pub fn new(behind: Arc<dyn Index>) -> Result<Self> {
        let shared = Arc::new(Shared {
            behind,
            state: Mutex::default(),
            wake: Condvar::new(),
            handed: Condvar::new(),
            handing: Mutex::new(()),
        });
        let worker = shared.clone();
        let thread = std::thread::Builder::new().name("index".to_owned());
        let started = thread.spawn(move || worker.hand_on_for_ever());
        let thread = started.map_err(|error| Error::disk("start the index's thread", error))?;
        Ok(WriteBehind { shared, thread: Some(thread) })
    }
}

#[cfg(test)]
impl WriteBehind {
    /// Returns when what waits now was handed on by itself.
    pub fn settled(&self) {
        const LONG: Duration = Duration::from_secs(20);
        let state = self.shared.state();
        let (_state, waited) =
            self.shared.handed.wait_timeout_while(state, LONG, |state| state.waits()).unwrap();
        assert!(!waited.timed_out(), "nothing was handed on");
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        self.shared.state().ends = true;
        self.shared.wake.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the index's thread panicked");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn hand_on_for_ever(&self) {
        loop {
            let mut state = self.state();
            while !state.waits() && !state.ends {
                state = self.wake.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            while let Some(patience) = state.patience() {
                let waited = self.wake.wait_timeout(state, patience);
                state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            }
            let ends = state.ends;
            if ends || state.closed.is_empty() {
                state.close();
            }
            let until = if ends { state.number } else { state.first() + 1 };
            drop(state);
            if let Err(error) = self.hand_on(until) {
                // The index has latched: whoever asks it next is told.
                tracing::error!(%error, "changes of the index were lost");
            }
            if ends {
                return;
            }
        }
    }

    /// Hands on what was closed before the batch with this number.
    fn hand_on(&self, until: u64) -> Result<()> {
        let mut failed = None;
        loop {
            let _one = self.handing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let ops = {
                let state = self.state();
                match state.closed.front().filter(|_| state.first() < until) {
                    Some(first) => first.ops(),
                    None => return failed.map_or(Ok(()), Err),
                }
            };
            failed = failed.or(self.behind.apply(&ops).err());
            self.state().arrived();
            self.handed.notify_all();
        }
    }

    /// Hands on all that was applied up to now.
    fn hand_on_all(&self) -> Result<()> {
        let until = {
            let mut state = self.state();
            state.close();
            state.number
        };
        self.hand_on(until)
    }
}

impl Index for WriteBehind {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(value) = self.shared.state().get(tree, key) {
            return Ok(value.as_ref().map(|value| value.to_vec()));
        }
        self.shared.behind.get(tree, key)
    }

    fn apply(&self, ops: &[Op]) -> Result<()> {
        let mut state = self.shared.state();
        let waited = state.waits();
        ops.iter().for_each(|op| state.take(op));
        if state.open.bytes > BATCH_BYTES {
            state.close();
        }
        if !waited || state.bytes > WAITING_BYTES / 2 {
            self.shared.wake.notify_one();
        }
        while state.bytes > WAITING_BYTES && state.closed.len() > 1 {
            state = self.shared.handed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        Ok(())
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>> {
        // Held throughout: what waits must not arrive between one look and the other.
        let state = self.shared.state();
        let mut changes = state.within(tree, prefix, after).peekable();
        let mut below = Vec::new().into_iter().peekable();
        let (mut from, mut is_more) = (after.map(<[u8]>::to_vec), true);
        let mut found = Vec::new();
        while found.len() < limit {
            if is_more && below.peek().is_none() {
                // Of many that were removed few are left: not one look for each of them.
                let wanted = limit - found.len();
                let wanted = if changes.peek().is_some() { wanted.max(PAGE) } else { wanted };
                let page = self.shared.behind.scan(tree, prefix, from.as_deref(), wanted)?;
                is_more = page.len() == wanted;
                from = page.last().map(|(key, _)| key.clone()).or(from);
                below = page.into_iter().peekable();
            }
            let next = below.peek().map(|(key, _): &Pair| key);
            let is_next = |(key, _): &(&Vec<u8>, &Value)| next.is_none_or(|next| *key <= next);
            match changes.next_if(is_next) {
                Some((key, value)) => {
                    below.next_if(|(same, _)| same == key);
                    found.extend(value.as_ref().map(|value| (key.clone(), value.to_vec())));
                }
                None => match below.next() {
                    Some(pair) => found.push(pair),
                    None => break,
                },
            }
        }
        Ok(found)
    }

    fn flush_durable(&self) -> Result<()> {
        self.shared.hand_on_all()?;
        self.shared.behind.flush_durable()
    }

    fn size_bytes(&self) -> u64 {
        self.shared.behind.size_bytes()
    }

    fn clear(&self) -> Result<()> {
        self.shared.hand_on_all()?;
        self.shared.behind.clear()
    }
}
