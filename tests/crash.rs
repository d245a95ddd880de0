//! The process is killed again and again under mixed load, restarted on the same cache, and what
//! was acknowledged must be on the share (DESIGN.md 9.1; rules J1-J9, D3). Also with the index
//! deleted or damaged, and with the journal cut.
//!
//! The same over an SMB server and over an Azure share, a few rounds each.
//!
//! `COVEFS_CRASH_ROUNDS=200 COVEFS_SEED=7 cargo test --test crash` for longer runs.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "crash/model.rs"]
mod model;
#[path = "../remote/tests/samba/mod.rs"]
mod samba;
#[path = "crash/share.rs"]
mod share;
#[path = "crash/worker.rs"]
mod worker;

use common::{Drive, Random, env_number};
use model::{History, Node, Tree, name_of};
use samba::{PLAIN, Samba};
use share::Share;
use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use worker::{Worker, list};

const WORKERS: u64 = 4;
/// More than the limit, so that eviction runs too.
const BIG_FILES: u64 = 3;
const BIG_SIZE: u64 = 6 << 20;
const SMALL_FILES: u64 = 12;

/// What happens to the cache between kill and restart.
#[derive(Clone, Copy, PartialEq)]
enum Damage {
    Nothing,
    IndexDeleted,
    IndexGarbage,
    JournalCut,
}

/// 20 rounds in all by default, 8 of them here.
#[test]
fn every_acknowledged_byte_survives_kill() {
    rounds("crash-kill", Damage::Nothing, 40);
}

// rule J1: the journal is complete without the index.
#[test]
fn nothing_is_lost_with_the_index() {
    rounds("crash-no-index", Damage::IndexDeleted, 20);
}

#[test]
fn nothing_is_lost_with_a_damaged_index() {
    rounds("crash-bad-index", Damage::IndexGarbage, 20);
}

// rule J7: a cut journal costs what stood in the cut, and nothing else.
#[test]
fn a_cut_journal_costs_only_what_was_cut() {
    rounds("crash-cut", Damage::JournalCut, 20);
}

// rule X4: also of a site that is killed while it puts a file in place, the next one finds all.
#[test]
fn every_acknowledged_byte_survives_kill_over_smb() {
    let name = "crash-smb";
    let Some(server) = Samba::start() else { return };
    let share = format!("smb://127.0.0.1:{}/{PLAIN}", server.port);
    let login = server.login_file();
    let args = ["--cache-size", "64MiB", "--credentials", login.to_str().unwrap()];
    let seed = common::seed(name);
    let mut drive = Drive::over(name, &share, &[], &args);
    // What a killed site had sent may be done after the next one has looked: it looks again.
    drive.allow("read the base of an upload: Stale");
    let share = Share::Dir(server.disk(PLAIN));
    let mut crash = Crash::over(drive, share, seed, Damage::Nothing);
    run(name, &mut crash, seed, 15);
    // Before its server ends.
    drop(crash);
}

// rule X3: also of a site that is killed with a lease in its hand, which the next one takes up.
#[test]
fn every_acknowledged_byte_survives_kill_over_azure() {
    let name = "crash-azure";
    let (share, named, login) = Share::azure();
    let login = [("AZURE_STORAGE_CONNECTION_STRING", &*login)];
    let seed = common::seed(name);
    let mut drive = Drive::over(name, &named, &login, &["--cache-size", "64MiB"]);
    // What a killed site had sent may be done after the next one has looked: it looks again.
    drive.allow("read the base of an upload: Stale");
    run(name, &mut Crash::over(drive, share, seed, Damage::Nothing), seed, 15);
}

fn rounds(name: &str, damage: Damage, percent: u64) {
    let seed = common::seed(name);
    let mut drive = Drive::new(name, &["--cache-size", "64MiB"]);
    // An upload that meets a rename of ours on its way is tried again.
    drive.allow("read the base of an upload: Stale");
    let share = Share::Dir(drive.share.clone());
    run(name, &mut Crash::over(drive, share, seed, damage), seed, percent);
}

fn run(name: &str, crash: &mut Crash, seed: u64, percent: u64) {
    let count = (env_number("COVEFS_CRASH_ROUNDS", 20) * percent / 100).max(1);
    for round in 0..count {
        if let Err(wrong) = crash.round() {
            let calls = crash.share.calls_about(&wrong);
            panic!("COVEFS_SEED={seed}, round {round} of {name}: {wrong}{calls}");
        }
    }
    let acknowledged: u64 = crash.workers.iter().map(|worker| worker.acknowledged).sum();
    println!("{name}: {count} rounds, {acknowledged} operations acknowledged");
    assert!(acknowledged > count * 50, "too little load to mean anything: {acknowledged}");
}

struct Crash {
    drive: Drive,
    share: Share,
    workers: Vec<Worker>,
    random: Random,
    damage: Damage,
}

impl Crash {
    fn over(mut drive: Drive, share: Share, seed: u64, damage: Damage) -> Crash {
        match damage {
            Damage::Nothing | Damage::IndexDeleted => {}
            Damage::IndexGarbage => drive.allow("index"),
            // What was cut may be missed anywhere.
            Damage::JournalCut => drive.allow(""),
        }
        let mut random = Random::new(seed);
        let workers = (0..WORKERS).map(|number| {
            let tree = populate(&mut random);
            let name = format!("t{number}");
            share.lay_out(&name, &tree);
            Worker::new(name, &drive.mnt, tree, Random::new(random.next()))
        });
        let workers = workers.collect();
        Crash { drive, share, workers, random, damage }
    }

    fn round(&mut self) -> Result<(), String> {
        let cut = self.damage == Damage::JournalCut;
        self.drive.start();
        if cut {
            for worker in &mut self.workers {
                worker.history = Some(History::of(&worker.tree));
            }
            self.load(Duration::from_millis(300), false)?;
            self.drive.sync();
            // Nobody else writes to the share.
            let conflicts = self.conflicts();
            if !conflicts.is_empty() {
                return Err(format!("conflicts before anything was cut: {conflicts:#?}"));
            }
            for worker in &mut self.workers {
                worker.history.as_mut().unwrap().all_synced();
            }
        }
        let kills = if cut { 1 } else { self.random.between(1, 3) };
        for _ in 0..kills {
            let moment = Duration::from_millis(self.random.between(50, 1000));
            self.load(moment, true)?;
            self.harm();
            self.share.until_quiet();
            self.drive.start();
            if !cut {
                self.settle()?;
            }
        }
        if !cut && self.random.percent(40) {
            self.kill_during_uploads();
            self.settle()?;
        }
        if !cut {
            self.drive.drain_and_wipe();
            return self.check();
        }
        self.drive.sync();
        let gaps = self.gaps();
        self.drive.drain_and_wipe();
        self.check_cut(&gaps)
    }

    /// All workers work for `moment`, uploads running for a part of it; then the process is
    /// killed, or the workers are told to stop.
    fn load(&mut self, moment: Duration, kill: bool) -> Result<(), String> {
        let (stop, dying) = (AtomicBool::new(false), AtomicBool::new(false));
        let until_upload = moment.mul_f64(self.random.below(100) as f64 / 100.0);
        let drive = &mut self.drive;
        let workers = &mut self.workers;
        let ended: Vec<Result<(), String>> = std::thread::scope(|scope| {
            let (ended, early) = mpsc::channel();
            let (stop, dying) = (&stop, &dying);
            let threads = workers.iter_mut().map(|worker| {
                let ended = ended.clone();
                scope.spawn(move || {
                    let result = worker.work(stop, dying);
                    let _ = ended.send(());
                    result
                })
            });
            let threads: Vec<_> = threads.collect();
            // A worker that ends early has found something.
            if early.recv_timeout(until_upload).is_err() {
                drive.covefs("sync", &[]);
                let _ = early.recv_timeout(moment - until_upload);
            }
            if kill {
                dying.store(true, Ordering::SeqCst);
                drive.kill();
            }
            stop.store(true, Ordering::SeqCst);
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        if kill {
            self.drive.detach();
        }
        ended.into_iter().collect()
    }

    /// No load, only uploads: a kill between an upload's steps must not lose or double it.
    fn kill_during_uploads(&mut self) {
        self.drive.covefs("sync", &[]);
        let (_open, nothing) = mpsc::channel::<()>();
        let _ = nothing.recv_timeout(Duration::from_millis(self.random.below(300)));
        self.drive.kill();
        self.drive.detach();
        self.share.until_quiet();
        self.drive.start();
    }

    fn settle(&mut self) -> Result<(), String> {
        for worker in &mut self.workers {
            worker.settle()?;
            worker.compare(&self.drive.mnt, false).map_err(|wrong| format!("mounted: {wrong}"))?;
        }
        Ok(())
    }

    /// The whole share, byte by byte, nothing else on it.
    fn check(&self) -> Result<(), String> {
        self.share.check_unlocked()?;
        let there = self.share.look();
        let mut top: Vec<String> = names(&there);
        top.sort();
        let expected: Vec<&str> = self.workers.iter().map(|worker| &*worker.name).collect();
        if top != expected {
            return Err(format!("the share's root holds {top:?}"));
        }
        let compare = |worker: &Worker| worker.compare(&there, true);
        self.workers.iter().try_for_each(compare).map_err(|wrong| format!("on the share: {wrong}"))
    }

    fn conflicts(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.drive.covefs("conflicts", &["--json"])).unwrap()
    }

    /// Where zeros stand for bytes that were gone from the share, by path from the mount on: each
    /// is a conflict, and says so (rule D5).
    fn gaps(&self) -> Gaps {
        let mut gaps = Gaps::new();
        for conflict in self.conflicts() {
            let missing: Vec<(u64, u64)> =
                serde_json::from_value(conflict["missing"].clone()).unwrap();
            let path = conflict["copy"].as_str().or(conflict["path"].as_str()).unwrap();
            let path = path.trim_start_matches('/').to_owned();
            gaps.entry(path)
                .or_default()
                .extend(missing.into_iter().map(|(start, end)| start..end));
        }
        gaps
    }

    /// What no operation touched since it was last in step is intact; all else is bytes that were
    /// once written to that file, at that offset. What is there becomes the model.
    fn check_cut(&mut self, gaps: &Gaps) -> Result<(), String> {
        let there = self.share.look();
        for worker in &mut self.workers {
            let root = there.join(&worker.name);
            let history = worker.history.take().expect("kept in these rounds");
            let untouched = worker.tree.0.iter().filter(|(path, _)| history.is_untouched(path));
            for (path, node) in untouched {
                if let Node::File { bytes, .. } = node {
                    let found = fs::read(root.join(path))
                        .map_err(|error| format!("untouched {}/{path}: {error}", worker.name))?;
                    if let Some(wrong) = common::first_difference(bytes, &found) {
                        return Err(format!("untouched {}/{path} {wrong}", worker.name));
                    }
                }
            }
            worker.tree = explained(&root, &worker.name, &history, gaps)?;
        }
        Ok(())
    }

    /// Damages the cache of the dead process.
    fn harm(&mut self) {
        let index = self.drive.cache.join("meta.sled");
        match self.damage {
            Damage::Nothing => {}
            Damage::IndexDeleted => fs::remove_dir_all(index).unwrap(),
            Damage::IndexGarbage => {
                for file in files_below(&index) {
                    spoil(&file, &mut self.random);
                }
            }
            Damage::JournalCut => {
                let mut segments = files_below(&self.drive.cache.join("journal"));
                segments.sort_by_key(|file| fs::metadata(file).unwrap().modified().unwrap());
                let last = segments.last().expect("a journal");
                let bytes = fs::read(last).unwrap();
                // The room kept ahead is zeros (J9): cut where something stands.
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let size = self.random.below(end as u64 + 1);
                fs::File::options().write(true).open(last).unwrap().set_len(size).unwrap();
            }
        }
    }
}

/// What a thread begins with: big files that will be cold, small ones, some directories.
fn populate(random: &mut Random) -> Tree {
    let mut tree = Tree::default();
    for path in ["a", "a/b", "c"] {
        tree.0.insert(path.to_owned(), Node::Dir);
    }
    let mut add = |path: String, size: u64| {
        let bytes = Arc::new(random.bytes(size as usize));
        tree.0.insert(path, Node::File { lineage: random.next(), bytes });
    };
    for number in 0..BIG_FILES {
        add(format!("big{number}.bin"), BIG_SIZE + number * 1000);
    }
    for number in 0..SMALL_FILES {
        let dir = ["", "a/", "a/b/", "c/"][number as usize % 4];
        add(format!("{dir}small{number}.txt"), number * 3000);
    }
    tree
}

/// Ranges of zeros that covefs owns up to, by path.
type Gaps = HashMap<String, Vec<Range<u64>>>;

/// Reads what is at `root` and demands of each entry that it once stood there. Temporary names
/// whose record was cut are nobody's any more (X2): removed, as covefs does after a week.
fn explained(root: &Path, top: &str, history: &History, gaps: &Gaps) -> Result<Tree, String> {
    let mut tree = Tree::default();
    for path in list(root) {
        let at = root.join(&path);
        if path.contains(".~covefs-") {
            fs::remove_file(at).unwrap();
            continue;
        }
        let kind = fs::symlink_metadata(&at).unwrap().file_type();
        let names = originals(name_of(&path));
        if !names.iter().any(|name| history.knows(name)) {
            return Err(format!("{}: nothing of this name ever was", at.display()));
        }
        let node = if kind.is_dir() {
            Node::Dir
        } else if kind.is_symlink() {
            Node::Link(fs::read_link(&at).unwrap().to_str().unwrap().to_owned())
        } else {
            let bytes = fs::read(&at).unwrap();
            let mut gaps = gaps.get(&format!("{top}/{path}")).cloned().unwrap_or_default();
            let mut found = history.explains(&names[0], &bytes, &gaps);
            // A copy has zeros too where its bytes went with a data file (J6).
            gaps = std::iter::once(0..bytes.len() as u64).collect();
            for original in &names[1..] {
                found = found.or_else(|_| history.explains(original, &bytes, &gaps));
            }
            found.map_err(|wrong| format!("{}: {wrong}", at.display()))?;
            Node::File { lineage: tree.0.len() as u64, bytes: Arc::new(bytes) }
        };
        tree.0.insert(path, node);
    }
    Ok(tree)
}

/// A name, and the names of what it may be a conflict copy of: `name-SITE.ext`,
/// `name-SITE-2.ext` (DESIGN.md 6), and copies of these.
fn originals(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    while let Some((start, rest)) = names[names.len() - 1].rsplit_once("-testsite") {
        let number = rest.strip_prefix('-').map(|rest| rest.trim_start_matches(char::is_numeric));
        let original = format!("{start}{}", number.unwrap_or(rest));
        names.push(original);
    }
    names
}

fn names(dir: &Path) -> Vec<String> {
    let list = fs::read_dir(dir).unwrap();
    list.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let paths = list(dir).into_iter().map(|path| dir.join(path));
    let mut files: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Overwrites pieces of a file, or cuts it, or both.
fn spoil(path: &Path, random: &mut Random) {
    let mut bytes = fs::read(path).unwrap();
    if random.percent(30) {
        bytes.truncate(random.below(bytes.len() as u64) as usize);
    }
    for _ in 0..random.between(1, 6) {
        let start = random.below(bytes.len() as u64) as usize;
        let end = bytes.len().min(start + random.between(1, 5000) as usize);
        let garbage = random.bytes(end - start);
        bytes[start..end].copy_from_slice(&garbage);
    }
    fs::write(path, bytes).unwrap();
}
