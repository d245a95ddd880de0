//! Names that differ in case alone: for shares to which they are one (S6), and for systems.

use crate::attr::{Entry, Ino};
use crate::error::Result;
use crate::limits;
use crate::names::fresh;
use crate::node::Node;
use crate::step::{Asked, Step};
use crate::vfs::Vfs;
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;

/// The names of a directory, by what they have in common.
type Names = HashMap<Vec<u8>, Vec<Vec<u8>>>;

/// A name as the directory spells it, and what has it.
pub type Spelled = (Vec<u8>, Entry);

/// The names of the directories in which something was made lately; read once, then kept in step.
pub(crate) struct Folds(LruCache<Ino, Names>);

impl Folds {
    /// Knows nothing.
    pub(crate) fn new() -> Folds {
        let capacity = NonZeroUsize::new(limits::FOLDED_DIRS).expect("limits are not zero");
        Folds(LruCache::new(capacity))
    }

    /// A name that is the same as this one but for case. `children`: those of the directory, where
    /// they have to be read.
    pub(crate) fn twin(
        &mut self,
        parent: Ino,
        name: &[u8],
        children: impl FnOnce() -> Result<Vec<Node>>,
    ) -> Result<Option<Vec<u8>>> {
        if !self.0.contains(&parent) {
            self.0.put(parent, Names::new());
            for place in children()?.into_iter().filter_map(|node| node.place) {
                self.add(parent, &place.name);
            }
        }
        let names = self.0.get(&parent).and_then(|names| names.get(&folded(name)));
        Ok(names.and_then(|names| names.iter().find(|twin| *twin != name)).cloned())
    }

    /// A name was given.
    pub(crate) fn add(&mut self, parent: Ino, name: &[u8]) {
        let Some(names) = self.0.peek_mut(&parent) else { return };
        let alike = names.entry(folded(name)).or_default();
        if !alike.iter().any(|known| known == name) {
            alike.push(name.to_vec());
        }
    }

    /// A name was taken away.
    pub(crate) fn remove(&mut self, parent: Ino, name: &[u8]) {
        let Some(names) = self.0.peek_mut(&parent) else { return };
        let key = folded(name);
        if let Some(alike) = names.get_mut(&key) {
            alike.retain(|known| known != name);
            if alike.is_empty() {
                names.remove(&key);
            }
        }
    }

    /// The directory is no more.
    pub(crate) fn forget(&mut self, dir: Ino) {
        self.0.pop(&dir);
    }
}

impl Vfs {
    /// What of a directory has this name but for case, and how it is spelled there; not what has
    /// the very name, which `lookup` finds. Of several any one.
    pub fn lookup_folded(
        &self,
        asked: Asked,
        parent: Ino,
        name: &[u8],
    ) -> Result<Step<Option<Spelled>>> {
        let mut tree = self.tree();
        let dir = tree.need_dir(parent)?;
        fresh!(self, tree, asked, &dir, None);
        let Some(node) = tree.twin(parent, name)? else { return Ok(Step::Done(None)) };
        let Some(place) = node.place.clone() else { return Ok(Step::Done(None)) };
        let ttl = self.ttl(&mut tree, &dir, Some(&place.name));
        let attr = self.stat(&mut tree, &node)?;
        Ok(Step::Done(Some((place.name, Entry { attr, ttl }))))
    }
}

/// What names that differ in case alone have in common: each character by itself in capitals, as
/// Windows has it, so that no name gets longer.
fn folded(name: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(name) else { return name.to_vec() };
    let capital = |symbol: char| {
        let mut capitals = symbol.to_uppercase();
        capitals.next().filter(|_| capitals.next().is_none()).unwrap_or(symbol)
    };
    text.chars().map(capital).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_alone_are_found() {
        let mut folds = Folds::new();
        let dir = Ino(7);
        let none = || Ok(Vec::new());
        assert_eq!(folds.twin(dir, b"A", none).unwrap(), None);
        folds.add(dir, b"a");
        folds.add(dir, "stra\u{df}e".as_bytes());
        let again = || panic!("read twice");
        assert_eq!(folds.twin(dir, b"A", again).unwrap(), Some(b"a".to_vec()));
        assert_eq!(folds.twin(dir, b"a", again).unwrap(), None, "itself is no twin");
        assert_eq!(folds.twin(dir, b"STRASSE", again).unwrap(), None);
        folds.remove(dir, b"a");
        assert_eq!(folds.twin(dir, b"A", again).unwrap(), None);
    }
}
