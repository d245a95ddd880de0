//! An index that takes changes into memory and hands them on a little later, many as one.
//!
//! ```text
//!   apply -> waiting --(DELAY, or LAYER_BYTES, or flush_durable)--> leaving -> the index behind
//! ```
//!
//! sled writes and syncs a piece of its file for each batch; a new file is several, and the tree's
//! lock was held for all of them. What waits is handed on as one batch, so that a crash still
//! keeps a beginning of the calls; it loses the last `DELAY` of them more.

use super::{Index, Op, Pair, Tree, begin};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// So long changes gather.
const DELAY: Duration = Duration::from_millis(50);
/// So many bytes are handed on as one batch; who applies more waits for it.
const LAYER_BYTES: usize = 192 << 10;

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
    #[cfg(test)]
    handed: Condvar,
    /// One batch is handed on at a time.
    handing: Mutex<()>,
}

#[derive(Default)]
struct State {
    waiting: Layer,
    leaving: Layer,
    ends: bool,
}

/// The last word on some keys; `None` where it was removed.
#[derive(Default)]
struct Layer {
    changes: BTreeMap<(Tree, Vec<u8>), Option<Vec<u8>>>,
    bytes: usize,
}

impl Layer {
    fn take(&mut self, op: &Op) {
        let (tree, key, value) = match op {
            Op::Put(tree, key, value) => (*tree, key, Some(value.clone())),
            Op::Delete(tree, key) => (*tree, key, None),
        };
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.changes.insert((tree, key.clone()), value);
    }

    fn ops(&self) -> Vec<Op> {
        let op = |((tree, key), value): (&(Tree, Vec<u8>), &Option<Vec<u8>>)| match value {
            Some(value) => Op::Put(*tree, key.clone(), value.clone()),
            None => Op::Delete(*tree, key.clone()),
        };
        self.changes.iter().map(op).collect()
    }

    /// The changes of keys with this prefix, behind `after` and up to `last`.
    fn within<'a>(
        &'a self,
        tree: Tree,
        prefix: &'a [u8],
        after: Option<&[u8]>,
        last: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)> {
        let from = begin(prefix, after).map(|key| (tree, key.to_vec()));
        let found = self.changes.range((from, Bound::Unbounded));
        let found = found.map(|((tree, key), value)| (*tree, key, value));
        found
            .take_while(move |(found, key, _)| {
                *found == tree
                    && key.starts_with(prefix)
                    && last.is_none_or(|l| key.as_slice() <= l)
            })
            .map(|(_, key, value)| (key, value))
    }
}

impl WriteBehind {
    /// Goes on from what `behind` holds.
    pub fn new(behind: Arc<dyn Index>) -> Result<Self> {
        let shared = Arc::new(Shared {
            behind,
            state: Mutex::default(),
            wake: Condvar::new(),
            #[cfg(test)]
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
        let state = self.shared.state();
        let waits = |state: &mut State| {
            !state.waiting.changes.is_empty() || !state.leaving.changes.is_empty()
        };
        let (_state, waited) =
            self.shared.handed.wait_timeout_while(state, Duration::from_secs(20), waits).unwrap();
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
            while state.waiting.changes.is_empty() && !state.ends {
                state = self.wake.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            if !state.ends {
                let ends = |state: &mut State| !state.ends;
                let waited = self.wake.wait_timeout_while(state, DELAY, ends);
                state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            }
            let ends = state.ends;
            drop(state);
            if let Err(error) = self.hand_on() {
                // The index has latched: whoever asks it next is told.
                tracing::error!(%error, "changes of the index were lost");
            }
            if ends {
                return;
            }
        }
    }

    fn hand_on(&self) -> Result<()> {
        let _one = self.handing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let ops = {
            let mut state = self.state();
            state.leaving = std::mem::take(&mut state.waiting);
            state.leaving.ops()
        };
        if ops.is_empty() {
            return Ok(());
        }
        let applied = self.behind.apply(&ops);
        self.state().leaving = Layer::default();
        #[cfg(test)]
        self.handed.notify_all();
        applied
    }
}

impl Index for WriteBehind {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        {
            let state = self.shared.state();
            let key = (tree, key.to_vec());
            let layers = [&state.waiting, &state.leaving];
            if let Some(value) = layers.iter().find_map(|layer| layer.changes.get(&key)) {
                return Ok(value.clone());
            }
        }
        self.shared.behind.get(tree, key)
    }

    fn apply(&self, ops: &[Op]) -> Result<()> {
        let mut state = self.shared.state();
        if state.waiting.changes.is_empty() {
            self.shared.wake.notify_one();
        }
        ops.iter().for_each(|op| state.waiting.take(op));
        let is_full = state.waiting.bytes > LAYER_BYTES;
        drop(state);
        if is_full { self.shared.hand_on() } else { Ok(()) }
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>> {
        // Held throughout: what leaves must not arrive between one look and the other.
        let state = self.shared.state();
        let mut found = Vec::new();
        let mut from = after.map(<[u8]>::to_vec);
        while found.len() < limit {
            let wanted = limit - found.len();
            let below = self.shared.behind.scan(tree, prefix, from.as_deref(), wanted)?;
            // Behind its last key it may go on: what waits there comes in the next round.
            let last =
                if below.len() == wanted { below.last().map(|(key, _)| key.clone()) } else { None };
            let mut merged: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
                below.into_iter().map(|(key, value)| (key, Some(value))).collect();
            for layer in [&state.leaving, &state.waiting] {
                let changes = layer.within(tree, prefix, from.as_deref(), last.as_deref());
                merged.extend(changes.map(|(key, value)| (key.clone(), value.clone())));
            }
            let there = merged.into_iter().filter_map(|(key, value)| Some((key, value?)));
            found.extend(there.take(wanted));
            if last.is_none() {
                break;
            }
            from = last;
        }
        Ok(found)
    }

    fn flush_durable(&self) -> Result<()> {
        self.shared.hand_on()?;
        self.shared.behind.flush_durable()
    }

    fn size_bytes(&self) -> u64 {
        self.shared.behind.size_bytes()
    }

    fn clear(&self) -> Result<()> {
        self.shared.hand_on()?;
        self.shared.behind.clear()
    }
}
