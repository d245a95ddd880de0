//! An index in memory: the test double, and what a disk without an index folder gets.

use super::{Index, Op, Pair, Tree, begin};
use crate::error::Result;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

type Trees = BTreeMap<Tree, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Four sorted maps under a lock.
#[derive(Default)]
pub struct MemoryIndex {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    trees: Trees,
    flushed: Trees,
    /// What was applied since the flush, call by call.
    unflushed: Vec<Vec<Op>>,
}

impl MemoryIndex {
    /// An empty index.
    pub fn new() -> Self {
        MemoryIndex::default()
    }

    /// A crash: some of the latest calls since the flush are gone, how many says the seed.
    pub fn lose_unflushed(&self, seed: u64) {
        let mut state = self.state();
        let parts = std::mem::take(&mut state.unflushed);
        let kept = (seed % (parts.len() as u64 + 1)) as usize;
        state.trees = state.flushed.clone();
        for part in &parts[..kept] {
            change(&mut state.trees, part);
        }
        state.flushed = state.trees.clone();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn change(trees: &mut Trees, ops: &[Op]) {
    for op in ops {
        let tree = trees.entry(op.tree()).or_default();
        match op {
            Op::Put(_, key, value) => tree.insert(key.clone(), value.clone()),
            Op::Delete(_, key) => tree.remove(key),
        };
    }
}

impl Index for MemoryIndex {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.state().trees.get(&tree).and_then(|tree| tree.get(key).cloned()))
    }

    fn apply(&self, ops: &[Op]) -> Result<()> {
        let mut state = self.state();
        change(&mut state.trees, ops);
        state.unflushed.push(ops.to_vec());
        Ok(())
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>> {
        let state = self.state();
        let Some(tree) = state.trees.get(&tree) else { return Ok(Vec::new()) };
        let found = tree.range::<[u8], _>((begin(prefix, after), Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn flush_durable(&self) -> Result<()> {
        let mut state = self.state();
        state.flushed = state.trees.clone();
        state.unflushed.clear();
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        let state = self.state();
        let pairs = state.trees.values().flatten();
        pairs.map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    fn clear(&self) -> Result<()> {
        let state = self.state();
        let keys =
            state.trees.iter().flat_map(|(tree, pairs)| pairs.keys().map(|key| (*tree, key)));
        let ops: Vec<Op> = keys.map(|(tree, key)| Op::Delete(tree, key.clone())).collect();
        drop(state);
        self.apply(&ops)
    }
}
