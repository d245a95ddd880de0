//! The index as a seam: what is known of clean nodes, listings and present bytes, in four trees of
//! keys and values.
//!
//! It may be deleted at any time and nothing but warmth is lost (DESIGN.md section 4), so it is
//! never flushed in the hot path, and damage to it is answered by beginning a fresh one. After
//! kill -9 it is a state that it had at or after the last `flush_durable`; after a power cut the
//! same if the disk kept its promises, and damaged or older if not. sled 0.34.7 opens some damaged
//! files without a word, with keys missing and others old (`damage_begins_a_fresh_index`), so
//! whoever reads it allows for dangling keys, and compares what it says is present with the data
//! file (D3).

mod behind;
#[cfg(test)]
mod memory;
mod sled;

pub use self::behind::WriteBehind;
pub use self::sled::SledIndex;
#[cfg(test)]
pub use memory::MemoryIndex;

#[cfg(test)]
mod tests;

use crate::error::Result;
use std::ops::Bound;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The trees.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tree {
    /// Nodes by their number.
    Entries,
    /// Numbers by directory and name.
    Places,
    /// Present ranges, checksums and heat by content and extent.
    Extents,
    /// Numbers that belong to the index as a whole.
    Meta,
}

impl Tree {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Tree; 4] = [Tree::Entries, Tree::Places, Tree::Extents, Tree::Meta];
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Sets a key.
    Put(Tree, Vec<u8>, Vec<u8>),
    /// Removes a key, which may be missing.
    Delete(Tree, Vec<u8>),
}

impl Op {
    /// The tree it changes.
    #[cfg(test)]
    pub fn tree(&self) -> Tree {
        match self {
            Op::Put(tree, _, _) | Op::Delete(tree, _) => *tree,
        }
    }
}

/// Where a scan begins; see `Index::scan`.
fn begin<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> Bound<&'a [u8]> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}

/// Four sorted maps. Any error is the last word: the index has latched and answers every later
/// call with `Io`; the mount goes on without it, and the next start begins a fresh one.
pub trait Index: Send + Sync {
    /// The value of a key.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Makes changes in their order. They are seen, and survive a crash, all or none.
    fn apply(&self, ops: &[Op]) -> Result<()>;
    /// Up to `limit` pairs whose key begins with `prefix`, sorted by key; with `after` (a whole
    /// key, which need not exist) those behind it.
    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>>;
    /// Returns when everything applied before the call is on the disk, power cut or not.
    fn flush_durable(&self) -> Result<()>;
    /// Bytes it takes on the disk.
    fn size_bytes(&self) -> u64;
    /// Removes everything. Takes as long as it is big.
    fn clear(&self) -> Result<()>;
}
