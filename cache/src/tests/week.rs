//! A drive that is up for long: what it remembers is bounded by what there is, not by what was.
//!
//! `COVEFS_WEEK_ROUNDS=60480 cargo test -p covefs-cache --lib week` for a whole week of looks, ten seconds
//! apart.

use super::rig::*;
use crate::attr::{ContentId, Fh};
use crate::disk::Disk;
use crate::index::{Index, Tree};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const FRESHNESS: Duration = Duration::from_secs(10);
const DIRS: [&str; 4] = ["a", "b", "b/c", "d"];
const NAMES: u64 = 8;
/// What there is at a time, at most, conflict copies and all.
const ENTRIES: usize = 64;
/// What the drive keeps in tables that forget what is used least, and counts of rounds.
const FORGETFUL: usize = 64 << 10;
/// Copies are cleared away, and conflicts dismissed, so often.
const CLEARED: u64 = 50;

/// What is held at the moment, in memory and on the disk, by what it is.
fn held(rig: &Rig) -> BTreeMap<&'static str, usize> {
    let vfs = rig.vfs();
    let mut held = BTreeMap::new();
    held.extend(vfs.tree().held());
    held.extend(vfs.sync.held());
    held.insert("loaded contents", vfs.files.ids().len());
    held.insert("contents with bytes", vfs.space.heat().contents() as usize);
    held.insert("contents to remove", vfs.dropping.lock().unwrap().len());
    held.insert("contents to settle", vfs.settling.lock().unwrap().len());
    held.insert("nodes to forget", vfs.cleaned.lock().unwrap().len());
    held.insert("messages", vfs.messages().len());
    vfs.journal.live(|live| {
        held.insert("live nodes", live.nodes.len());
        held.insert("live contents", live.contents.len());
        held.insert("live conflicts", live.conflicts.len());
        held.insert("live uploads", live.temps.len() + live.sent.len());
        held.insert("live absences", live.absent.values().map(BTreeMap::len).sum());
    });
    let files = |dir| rig.disk.list(dir, true).unwrap().len();
    held.insert("data files", files("data"));
    held.insert("files of the journal", files("journal"));
    let mut records = 0;
    for tree in Tree::ALL {
        records += rig.index.scan(tree, b"", None, usize::MAX).unwrap().len();
    }
    held.insert("records of the index", records);
    held
}

/// The most that this may be.
fn bound(what: &str) -> usize {
    match what {
        "hot nodes"
        | "looks at directories"
        | "looks at names"
        | "kernel's pages"
        | "counts of directories"
        | "changed nodes"
        | "changed places" => FORGETFUL,
        "files of the journal" | "messages" => 8,
        // A name, a node and its bytes, for each.
        "records of the index" => 6 * ENTRIES,
        _ => 2 * ENTRIES,
    }
}

fn any(random: &mut Random) -> String {
    format!("{}/n{}", random.pick(&DIRS).unwrap(), random.below(NAMES))
}

/// Somebody else does something on the share.
fn there(rig: &Rig, random: &mut Random) {
    let at = any(random);
    match random.below(8) {
        0..4 => rig.memory.write_file(&path(&at), pattern(random.next(), 20_000)),
        4..6 => drop(rig.memory.remove_path(&path(&at))),
        _ => drop(rig.memory.move_path(&path(&at), &path(&any(random)))),
    }
}

/// A user does something here. What was done on the share in that moment may refuse it.
fn here(rig: &Rig, random: &mut Random, open: &mut Vec<Fh>) {
    let at = any(random);
    match random.below(12) {
        0..3 => drop(rig.edit(&at, random.below(20_000), &pattern(random.next(), 3000))),
        3..5 => {
            if let Ok(fh) = rig.create(&at, WRITE) {
                let _ = rig.write_at(fh, 0, &pattern(random.next(), 9000));
                rig.close(fh);
            }
        }
        5 => drop(rig.rm(&at)),
        6 => drop(rig.mv(&at, &any(random))),
        7 => drop(rig.chmod(&at, 0o600)),
        8..10 => drop(rig.read(&at)),
        _ => {
            // It stays open for some rounds.
            open.extend(rig.open(&at, READ));
            if open.len() > 6 {
                rig.close(open.remove(0));
            }
        }
    }
}

/// The users look at their conflicts, and clear the copies away.
fn clear(rig: &Rig) {
    for conflict in rig.vfs().conflicts() {
        let _ = rig.vfs().dismiss(&conflict.path);
    }
    for (at, is_dir) in rig.paths().unwrap() {
        if !is_dir && at.contains("-here") {
            let _ = rig.rm(&at);
        }
    }
}

/// With nothing open and all on the share no content stays in memory; each is let go within a minute.
fn nothing_is_loaded(rig: &Rig, when: &str) {
    rig.sync().unwrap();
    rig.pause(FRESHNESS * 7);
    if let Some(id) = rig.vfs().files.ids().into_iter().next() {
        let file = rig.vfs().files.get(ContentId(id)).unwrap();
        let content = file.lock();
        let flags = [content.orphan, content.unsynced, content.unindexed, content.latched];
        let counts = [content.handles as usize, content.flights.len(), Arc::strong_count(&file)];
        let (ino, frozen, held) = (file.node(), content.frozen.is_some(), content.is_held());
        panic!("{when}: {id} of {ino:?} stays: {flags:?} {counts:?} {frozen} {held}");
    }
}

#[test]
fn a_week_of_looks_and_edits_leaves_nothing_behind() {
    let rounds = number("COVEFS_WEEK_ROUNDS", 3000);
    let seed = number("COVEFS_SEED", 1);
    let mut rig = Rig::with(&[("a/n0", pattern(1, 1000))]);
    rig.stop();
    (rig.config.freshness, rig.config.debounce) = (FRESHNESS, Duration::from_secs(3));
    rig.start();
    DIRS.iter().for_each(|dir| rig.memory.write_dir(&path(dir)));
    let mut random = Random::seeded(seed);
    let mut open = Vec::new();
    let mut most = BTreeMap::new();
    let mut journal = 0;
    for round in 0..rounds {
        rig.pause(FRESHNESS);
        for _ in 0..random.below(3) {
            there(&rig, &mut random);
        }
        for _ in 0..random.below(3) {
            here(&rig, &mut random, &mut open);
        }
        let shown = rig.paths().unwrap();
        assert!(shown.len() < ENTRIES, "round {round}: {} entries", shown.len());
        if round % CLEARED == 0 {
            open.drain(..).for_each(|fh| rig.close(fh));
            clear(&rig);
            nothing_is_loaded(&rig, &format!("round {round}, COVEFS_SEED={seed}"));
        }
        journal = journal.max(rig.vfs().journal.bytes_allocated());
        for (what, count) in held(&rig) {
            let most = most.entry(what).or_insert(0);
            *most = count.max(*most);
            assert!(count <= bound(what), "round {round}, COVEFS_SEED={seed}: {count} {what}");
        }
    }
    println!("{rounds} rounds, at most: {most:?}, {journal} bytes of journal");
    // What is kept ahead, and a fold that may be due (J3).
    assert!(journal <= 64 << 20, "{journal} bytes of journal");
    // With nothing open and all on the share, it holds what there is.
    open.into_iter().for_each(|fh| rig.close(fh));
    clear(&rig);
    rig.sync().unwrap();
    rig.pause(FRESHNESS);
    rig.paths().unwrap();
    nothing_is_loaded(&rig, "at the end");
    let (now, entries) = (held(&rig), rig.memory.tree().len());
    for what in ["detached nodes", "moved nodes", "live contents", "live uploads"] {
        assert_eq!(now[what], 0, "{what} in {now:?}");
    }
    assert!(now["data files"] <= entries, "{entries} entries, {now:?}");
    assert!(now["records of the index"] <= 6 * (entries + 1), "{entries} entries, {now:?}");
    assert_eq!(rig.listed_there(), rig.paths().unwrap().into_keys().collect());
}
