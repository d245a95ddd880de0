//! The index on disk: sled 0.34.7, guarded.
//!
//! sled answers damage with an error or a panic, and its flush is no fsync (`crates.md` section 4).
//! So every call runs under `catch_unwind`; the first error or panic latches the index and marks
//! its folder, and the next start sets the folder aside and begins a fresh one.

use super::{Index, Op, Pair, Tree, begin};
use crate::disk::{mark_damaged, open_or_set_aside, sync_folder};
use crate::error::{Error, ErrorKind, Result};
use sled::{Batch, Db};
use std::any::Any;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the trees hold, as one number: another one is a fresh index, never a conversion.
const SCHEMA: u32 = 2;
const SCHEMA_KEY: &[u8] = b"schema";
/// sled writes its buffers of 512 KiB in a pool of some seven threads. When all of them wait for
/// its allocator, and that waits for the pool to shorten the file, it hangs for ever (0.34.7,
/// `SegmentAccountant::bump_tip`): so never more than a few buffers are under way.
const UNFLUSHED_MAX: u64 = 256 << 10;

/// How long sled's own lock may be held by somebody who has nothing to do with it.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// A folder of sled's. Our four trees are one of its: only what changes one tree of sled's survives
/// a crash all or none. A byte in front of each key says which of ours it belongs to.
pub struct SledIndex {
    path: PathBuf,
    open: Open,
    /// Bytes applied since the last flush.
    unflushed: Mutex<u64>,
    /// Set by the first failure, for good: sled itself trusts nothing after one.
    latched: AtomicBool,
}

struct Open {
    db: Db,
    all: sled::Tree,
}

impl SledIndex {
    /// Opens the folder; where that fails, or it failed in the last run, sets it aside and begins a
    /// fresh one. Then the reason comes back: the caller's index is empty.
    pub fn open(path: &Path) -> Result<(Self, Option<String>)> {
        let opened = open_or_set_aside(path, open_on_own_thread);
        let (open, reason) = opened.map_err(|error| Error::disk("open the index", error))?;
        let (unflushed, latched) = (Mutex::default(), AtomicBool::new(false));
        let index = SledIndex { path: path.to_owned(), open, unflushed, latched };
        Ok((index, reason))
    }

    /// Runs one call of sled's. Nobody else sees what a panic leaves: the latch is set.
    fn guard<T>(&self, op: &'static str, call: impl FnOnce(&Open) -> sled::Result<T>) -> Result<T> {
        if self.latched.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Io, op).at("the index, which failed before"));
        }
        let reason = match catch_unwind(AssertUnwindSafe(|| call(&self.open))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_text(&*panic),
        };
        Err(self.latch(op, reason))
    }

    fn latch(&self, op: &'static str, reason: String) -> Error {
        if !self.latched.swap(true, Ordering::AcqRel) {
            let marked = mark_damaged(&self.path);
            tracing::error!(op, reason, ?marked, "the index failed; go on without it");
        }
        Error { source: Some(reason.into()), ..Error::new(ErrorKind::Io, op) }
    }
}

/// The key as sled has it.
fn key_in(tree: Tree, key: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(1 + key.len());
    all.push(tree as u8);
    all.extend_from_slice(key);
    all
}

/// sled may panic while it opens, and has been seen to leave its thread in odd states: one of its
/// own is thrown away with it.
fn open_on_own_thread(path: &Path) -> std::result::Result<Open, String> {
    let path = path.to_owned();
    let thread = std::thread::Builder::new().name("index open".to_owned());
    let running = thread.spawn(move || open(&path)).map_err(|error| error.to_string())?;
    match running.join() {
        Ok(opened) => opened,
        Err(panic) => Err(panic_text(&*panic)),
    }
}

/// The cache directory is ours alone; but a program that is just being started has our files for an
/// instant, and with them sled's lock.
pub(super) fn unlocked(mut open: impl FnMut() -> sled::Result<Db>) -> sled::Result<Db> {
    let start = Instant::now();
    loop {
        match open() {
            Err(sled::Error::Io(error))
                if error.to_string().starts_with("could not acquire lock")
                    && start.elapsed() < LOCK_WAIT =>
            {
                std::thread::sleep(LOCK_WAIT / 200);
            }
            opened => return opened,
        }
    }
}

fn open(path: &Path) -> std::result::Result<Open, String> {
    let text = |error: sled::Error| error.to_string();
    // `mode` is left alone: nothing in 0.34.7 reads it. Flushing twice a second bounds what a
    // crash costs in warmth; the default cache of 1 GiB would be more than all of covefs.
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(crate::limits::INDEX_CACHE)
        .flush_every_ms(Some(500));
    let db = unlocked(|| config.open()).map_err(text)?;
    let schema = db.get(SCHEMA_KEY).map_err(text)?;
    match schema {
        Some(schema) if *schema == SCHEMA.to_le_bytes() => {}
        // One that was never written to is as good as a fresh one.
        None if !db.was_recovered() || db.tree_names().len() == 1 && db.is_empty() => {
            db.insert(SCHEMA_KEY, &SCHEMA.to_le_bytes()).map_err(text)?;
        }
        other => return Err(format!("its schema is {other:?}, not {SCHEMA}")),
    }
    let all = db.open_tree("all").map_err(text)?;
    Ok(Open { db, all })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_default())
}

impl Index for SledIndex {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.guard("read the index", |open| {
            Ok(open.all.get(key_in(tree, key))?.map(|value| value.to_vec()))
        })
    }

    fn apply(&self, ops: &[Op]) -> Result<()> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        for op in ops {
            match op {
                Op::Put(tree, key, value) => {
                    bytes += (key.len() + value.len()) as u64;
                    batch.insert(key_in(*tree, key), value.as_slice());
                }
                Op::Delete(tree, key) => {
                    bytes += key.len() as u64;
                    batch.remove(key_in(*tree, key));
                }
            }
        }
        let mut unflushed = self.unflushed.lock().unwrap_or_else(|p| p.into_inner());
        self.guard("write the index", |open| {
            if *unflushed + bytes > UNFLUSHED_MAX {
                open.db.flush()?;
                *unflushed = 0;
            }
            *unflushed += bytes;
            open.all.apply_batch(batch)
        })
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>> {
        let prefix = key_in(tree, prefix);
        let after = after.map(|after| key_in(tree, after));
        let from = begin(&prefix, after.as_deref());
        self.guard("scan the index", |open| {
            let mut found = Vec::new();
            for pair in open.all.range::<&[u8], _>((from, Bound::Unbounded)).take(limit) {
                let (key, value) = pair?;
                if !key.starts_with(&prefix) {
                    break;
                }
                found.push((key[1..].to_vec(), value.to_vec()));
            }
            Ok(found)
        })
    }

    fn flush_durable(&self) -> Result<()> {
        self.guard("flush the index", |open| open.db.flush().map(drop))?;
        sync_folder(&self.path).map_err(|error| self.latch("sync the index", error.to_string()))
    }

    fn size_bytes(&self) -> u64 {
        self.guard("size up the index", |open| open.db.size_on_disk()).unwrap_or(0)
    }

    fn clear(&self) -> Result<()> {
        self.guard("clear the index", |open| open.all.clear())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_latches_and_the_next_start_is_fresh() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.sled");
        let (index, _) = SledIndex::open(&path).unwrap();
        index.apply(&[Op::Put(Tree::Meta, b"k".to_vec(), b"v".to_vec())]).unwrap();
        let error = index.guard("play", |_| -> sled::Result<()> { panic!("as sled does") });
        assert!(error.unwrap_err().to_string().contains("as sled does"));
        assert_eq!(index.get(Tree::Meta, b"k").unwrap_err().kind, ErrorKind::Io);
        drop(index);
        let (index, reason) = SledIndex::open(&path).unwrap();
        assert!(reason.is_some());
        assert_eq!(index.get(Tree::Meta, b"k").unwrap(), None);
    }
}
