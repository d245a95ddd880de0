//! What every index promises, and what the one on disk does about damage.

use super::*;
use crate::tests::rig::Random;
use proptest::prelude::*;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

fn put(tree: Tree, key: &[u8], value: &[u8]) -> Op {
    Op::Put(tree, key.to_vec(), value.to_vec())
}

fn keys(index: &dyn Index, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<String> {
    let pairs = index.scan(Tree::Places, prefix, after, limit).unwrap();
    pairs.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

fn check_contract(index: &dyn Index) {
    assert_eq!(index.get(Tree::Meta, b"k").unwrap(), None);
    let mut ops: Vec<Op> =
        ["a", "b1", "b2", "b3", "c"].map(|key| put(Tree::Places, key.as_bytes(), b"v")).into();
    ops.extend([
        put(Tree::Meta, b"k", b"1"),
        put(Tree::Meta, b"k", b"2"),
        put(Tree::Meta, b"gone", b"x"),
        Op::Delete(Tree::Meta, b"gone".to_vec()),
        Op::Delete(Tree::Extents, b"never there".to_vec()),
    ]);
    index.apply(&ops).unwrap();
    assert_eq!(index.get(Tree::Meta, b"k").unwrap().unwrap(), b"2", "in order");
    assert_eq!(index.get(Tree::Meta, b"gone").unwrap(), None);
    assert_eq!(index.get(Tree::Entries, b"k").unwrap(), None, "trees are apart");
    assert_eq!(keys(index, b"", None, 9), ["a", "b1", "b2", "b3", "c"]);
    assert_eq!(keys(index, b"b", None, 2), ["b1", "b2"]);
    assert_eq!(keys(index, b"b", Some(b"b2"), 9), ["b3"]);
    assert_eq!(keys(index, b"b", Some(b"b11"), 9), ["b2", "b3"]);
    assert_eq!(keys(index, b"b", Some(b"a"), 9), ["b1", "b2", "b3"]);
    assert_eq!(keys(index, b"z", None, 9).len(), 0);
    index.flush_durable().unwrap();
    index.clear().unwrap();
    for tree in Tree::ALL {
        assert_eq!(index.scan(tree, b"", None, 9).unwrap(), []);
    }
}

#[test]
fn the_contract_holds_in_memory_and_on_disk() {
    check_contract(&MemoryIndex::new());
    let dir = tempfile::tempdir().unwrap();
    let (index, reason) = SledIndex::open(&dir.path().join("meta.sled")).unwrap();
    assert_eq!(reason, None);
    check_contract(&index);
    assert!(index.size_bytes() > 0);
    check_contract(&WriteBehind::new(Arc::new(index)).unwrap());
    check_contract(&WriteBehind::new(Arc::new(MemoryIndex::new())).unwrap());
}

/// What waits to be handed on is seen as if it had been, whichever part of it has.
#[test]
fn what_waits_is_seen() {
    proptest!(|(seed: u64)| {
        let mut random = Random::seeded(seed);
        let plain = MemoryIndex::new();
        let behind = WriteBehind::new(Arc::new(MemoryIndex::new())).unwrap();
        let key = |random: &mut Random| format!("{:02x}", random.below(40)).into_bytes();
        for step in 0..200 {
            let ops: Vec<Op> = (0..random.below(4)).map(|_| match random.below(3) {
                0 => Op::Delete(Tree::Places, key(&mut random)),
                // A few of the long ones fill a batch.
                _ => {
                    let value = vec![step; [1, 9000][random.below(2) as usize]];
                    put(Tree::Places, &key(&mut random), &value)
                }
            }).collect();
            plain.apply(&ops).unwrap();
            behind.apply(&ops).unwrap();
            if random.below(20) == 0 {
                behind.flush_durable().unwrap();
            }
            let (one, after) = (key(&mut random), key(&mut random));
            let get = |index: &dyn Index| index.get(Tree::Places, &one).unwrap();
            prop_assert_eq!(get(&plain), get(&behind));
            let after = (random.below(2) == 0).then_some(&after[..]);
            let (prefix, limit) = (&one[..random.below(2) as usize], random.below(12) as usize);
            let scan = |index: &dyn Index| index.scan(Tree::Places, prefix, after, limit).unwrap();
            prop_assert_eq!(scan(&plain), scan(&behind));
        }
    });
}

#[test]
fn what_waits_arrives_by_itself_and_at_the_end() {
    let kept = Arc::new(MemoryIndex::new());
    let behind = WriteBehind::new(kept.clone()).unwrap();
    behind.apply(&[put(Tree::Meta, b"a", b"1")]).unwrap();
    behind.settled();
    assert_eq!(kept.get(Tree::Meta, b"a").unwrap().unwrap(), b"1");
    behind.apply(&[put(Tree::Meta, b"b", b"2")]).unwrap();
    drop(behind);
    assert_eq!(kept.get(Tree::Meta, b"b").unwrap().unwrap(), b"2");
}

/// An index that takes nothing until it is let.
#[derive(Default)]
struct Held {
    kept: MemoryIndex,
    calls: Mutex<Vec<Vec<Op>>>,
    is_free: Mutex<bool>,
    freed: Condvar,
}

impl Held {
    fn let_go(&self) {
        *self.is_free.lock().unwrap() = true;
        self.freed.notify_all();
    }
}

impl Index for Held {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.kept.get(tree, key)
    }
    fn apply(&self, ops: &[Op]) -> Result<()> {
        let is_free = self.is_free.lock().unwrap();
        drop(self.freed.wait_while(is_free, |is_free| !*is_free).unwrap());
        self.calls.lock().unwrap().push(ops.to_vec());
        self.kept.apply(ops)
    }
    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>> {
        self.kept.scan(tree, prefix, after, limit)
    }
    fn flush_durable(&self) -> Result<()> {
        self.kept.flush_durable()
    }
    fn size_bytes(&self) -> u64 {
        self.kept.size_bytes()
    }
    fn clear(&self) -> Result<()> {
        self.kept.clear()
    }
}

/// A disk that is slow keeps nobody waiting who lists a directory, and what comes meanwhile reaches it
/// in its order, each call whole: else a crash could keep a later one without an earlier one.
#[test]
fn an_index_that_is_slow_gets_all_in_order() {
    let held = Arc::new(Held::default());
    let behind = WriteBehind::new(held.clone()).unwrap();
    let call = |number: u64| {
        let filler = vec![7; 100];
        let value = [&number.to_be_bytes()[..], &filler].concat();
        // One key that each call changes, and two of its own.
        let own = number.to_be_bytes();
        [
            put(Tree::Meta, b"last", &value),
            put(Tree::Entries, &own, &value),
            put(Tree::Places, &own, &value),
        ]
    };
    (0..5000).for_each(|number| behind.apply(&call(number)).unwrap());
    let last = behind.get(Tree::Meta, b"last").unwrap().unwrap();
    assert_eq!(last[..8], 4999u64.to_be_bytes());
    let (first, after) = (0u64.to_be_bytes(), 4u64.to_be_bytes());
    assert!(behind.get(Tree::Entries, &first).unwrap().is_some());
    let found = behind.scan(Tree::Places, b"", Some(&after), 3).unwrap();
    assert_eq!(found.iter().map(|(key, _)| key[7]).collect::<Vec<_>>(), [5, 6, 7]);
    held.let_go();
    behind.flush_durable().unwrap();
    let calls = held.calls.lock().unwrap();
    assert!(calls.len() > 10, "{} batches", calls.len());
    let numbers = |ops: &[Op], of: Tree| -> Vec<u64> {
        let value = |op: &Op| match op {
            Op::Put(tree, _, value) if *tree == of => {
                Some(u64::from_be_bytes(value[..8].try_into().unwrap()))
            }
            _ => None,
        };
        ops.iter().filter_map(value).collect()
    };
    let mut expected = 0..5000;
    for ops in calls.iter() {
        let entries = numbers(ops, Tree::Entries);
        assert_eq!(entries, expected.by_ref().take(entries.len()).collect::<Vec<_>>());
        assert_eq!(entries, numbers(ops, Tree::Places), "no call is split");
        assert_eq!(numbers(ops, Tree::Meta), [*entries.last().unwrap()], "nothing of a later call");
    }
    assert_eq!(expected.next(), None, "all came");
}

/// DESIGN.md section 9, 8: what waits has a bound.
#[test]
fn who_applies_more_than_may_wait_waits() {
    let held = Arc::new(Held::default());
    let behind = Arc::new(WriteBehind::new(held.clone()).unwrap());
    let (told, applied) = std::sync::mpsc::channel();
    let worker = behind.clone();
    let applying = std::thread::spawn(move || {
        for number in 0..1000u64 {
            let value = vec![7; 64 << 10];
            worker.apply(&[put(Tree::Entries, &number.to_be_bytes(), &value)]).unwrap();
            told.send(number).unwrap();
        }
    });
    // 62 MiB in all.
    let quiet = std::time::Duration::from_millis(500);
    let mut last = 0;
    while let Ok(number) = applied.recv_timeout(quiet) {
        last = number;
    }
    assert!((100..500).contains(&last), "{last} of 1000 were taken in");
    held.let_go();
    applying.join().unwrap();
    behind.flush_durable().unwrap();
    assert_eq!(held.kept.scan(Tree::Entries, b"", None, usize::MAX).unwrap().len(), 1000);
}

#[test]
fn a_crash_keeps_a_beginning_of_what_was_applied() {
    for seed in 0..6 {
        let index = MemoryIndex::new();
        index.apply(&[put(Tree::Meta, b"0", b"")]).unwrap();
        index.flush_durable().unwrap();
        index.apply(&[put(Tree::Meta, b"1", b""), put(Tree::Places, b"1", b"")]).unwrap();
        index.apply(&[put(Tree::Meta, b"2", b"")]).unwrap();
        index.lose_unflushed(seed);
        let has = |tree, key: &[u8]| index.get(tree, key).unwrap().is_some();
        assert!(has(Tree::Meta, b"0"));
        assert_eq!(has(Tree::Meta, b"1"), has(Tree::Places, b"1"));
        assert!(has(Tree::Places, b"1") || !has(Tree::Meta, b"2"));
    }
}

/// Where the process that is killed keeps its index.
const VICTIM: &str = "COVEFS_INDEX_VICTIM";

/// Of each call kill -9 leaves all or nothing, whichever trees it changed. Else a name could stay
/// whose node has gone on under another one.
#[test]
fn a_crash_splits_no_call() {
    for round in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.sled");
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim.args(["--exact", "index::tests::a_process_that_is_killed", "--nocapture"]);
        victim.env(VICTIM, &path).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut victim = victim.spawn().unwrap();
        let mut told = BufReader::new(victim.stdout.take().unwrap()).lines();
        let done = format!("{} calls", 2000 * (round + 1));
        assert!(told.any(|line| line.unwrap().ends_with(&done)), "it ended by itself");
        victim.kill().unwrap();
        victim.wait().unwrap();
        let (crashed, reason) = SledIndex::open(&path).unwrap();
        assert_eq!(reason, None);
        let of = |tree| crashed.scan(tree, b"", None, usize::MAX).unwrap();
        assert!(!of(Tree::Entries).is_empty());
        for tree in Tree::ALL {
            assert_eq!(of(tree), of(Tree::Entries), "round {round}, {tree:?}");
        }
    }
}

/// The other process of the test above; by itself it does nothing.
#[test]
fn a_process_that_is_killed() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let (index, _) = SledIndex::open(Path::new(&path)).unwrap();
    let index = WriteBehind::new(Arc::new(index)).unwrap();
    for call in 0..u64::MAX {
        let (key, value) = ((call % 50).to_be_bytes(), call.to_be_bytes());
        let filler = vec![7; (call % 900) as usize];
        let put = |tree| put(tree, &key, &[&value[..], &filler].concat());
        index.apply(&Tree::ALL.map(put)).unwrap();
        if call == 0 {
            index.flush_durable().unwrap();
        }
        if call % 500 == 0 {
            println!("{call} calls");
        }
    }
}

/// sled hangs when too many of its buffers are under way: this many changes, and it returns.
#[test]
fn heavy_load_does_not_hang() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = SledIndex::open(&dir.path().join("meta.sled")).unwrap();
    for call in 0..20_000u64 {
        let key = (call % 50).to_be_bytes();
        let filler = vec![7; (call % 900) as usize];
        index.apply(&Tree::ALL.map(|tree| put(tree, &key, &filler))).unwrap();
    }
}

/// An index with some pages on disk, closed.
fn filled(path: &Path) {
    let (index, reason) = SledIndex::open(path).unwrap();
    assert_eq!(reason, None);
    let value = vec![7; 300];
    for batch in 0..40u32 {
        let ops: Vec<Op> = (0..100u32)
            .map(|n| put(Tree::Entries, &(batch * 100 + n).to_be_bytes(), &value))
            .collect();
        index.apply(&ops).unwrap();
    }
    index.flush_durable().unwrap();
}

fn count(index: &SledIndex) -> usize {
    index.scan(Tree::Entries, b"", None, usize::MAX).unwrap().len()
}

#[test]
fn what_was_applied_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.sled");
    filled(&path);
    let (index, reason) = SledIndex::open(&path).unwrap();
    assert_eq!((reason, count(&index)), (None, 4000));
}

/// A child that was being started had sled's lock for an instant, and the whole index was set aside.
#[test]
fn a_lock_that_soon_goes_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.sled");
    filled(&path);
    let other = std::fs::File::open(path.join("db")).unwrap();
    other.lock().unwrap();
    let mut refused = 0;
    let opened = sled::unlocked(|| {
        let opened = ::sled::open(&path);
        if opened.is_err() {
            refused += 1;
            other.unlock().unwrap();
        }
        opened
    });
    drop(opened.unwrap());
    assert_eq!(refused, 1);
    let (index, reason) = SledIndex::open(&path).unwrap();
    assert_eq!((reason, count(&index)), (None, 4000));
}

/// sled 0.34.7 answers some damage with an error and some with a panic (crates.md 4): either way
/// the mount gets a fresh index, and the damaged one is kept for a while.
#[test]
fn damage_begins_a_fresh_index() {
    let db = |path: &Path| path.join("db");
    type Damage = fn(&Path, &Path);
    let damages: [Damage; 4] = [
        |_, db| fs::write(db, b"garbage ".repeat(9000)).unwrap(),
        |_, db| {
            let len = fs::metadata(db).unwrap().len();
            fs::OpenOptions::new().write(true).open(db).unwrap().set_len(len / 10 * 9).unwrap();
        },
        |_, db| {
            let mut bytes = fs::read(db).unwrap();
            bytes[4096..12288].fill(0);
            fs::write(db, bytes).unwrap();
        },
        |path, _| {
            fs::remove_dir_all(path).unwrap();
            fs::write(path, b"a file").unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.sled");
        filled(&path);
        damage(&path, &db(&path));
        let (index, reason) = SledIndex::open(&path).unwrap();
        // Where sled finds nothing wrong there is nothing to be told; it must still work.
        if reason.is_none() {
            eprintln!("damage {number}: sled opened it, {} keys", count(&index));
        }
        let kept = dir.path().join("meta.sled.bad-1").exists();
        assert_eq!(reason.is_some(), kept, "damage {number}: {reason:?}");
        index.apply(&[put(Tree::Meta, b"k", b"v")]).unwrap();
        index.flush_durable().unwrap();
        assert_eq!(index.get(Tree::Meta, b"k").unwrap().unwrap(), b"v");
    }
}

#[test]
fn a_deleted_folder_is_a_fresh_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.sled");
    filled(&path);
    fs::remove_dir_all(&path).unwrap();
    let (index, reason) = SledIndex::open(&path).unwrap();
    assert_eq!((reason, count(&index)), (None, 0));
}

#[test]
fn two_damaged_folders_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.sled");
    for round in 0..4 {
        let (index, reason) = SledIndex::open(&path).unwrap();
        assert_eq!(reason.is_some(), round > 0, "marked in the round before");
        drop(index);
        crate::disk::mark_damaged(&path).unwrap();
    }
    drop(SledIndex::open(&path).unwrap());
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["meta.sled", "meta.sled.bad-3", "meta.sled.bad-4"]);
}
