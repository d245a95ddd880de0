//! A cache on a disk that fails now and then, under the real process: what was acknowledged stays, what was
//! not is an error, nothing is wrong bytes, and after a new start all of it reaches the share (rules J6, STYLE 18).
//! The failing disk is a library that is loaded before the C library's.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Drive, Random, env_number, pattern, seed, succeed, until, within};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// No call waits longer, whatever the disk says.
const CALL: Duration = Duration::from_secs(60);
const OPERATIONS: u64 = 150;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Write,
    Read,
    Sync,
    Cut,
}
const KINDS: [Kind; 4] = [Kind::Write, Kind::Read, Kind::Sync, Kind::Cut];
const EIO: u32 = 5;
const ENOSPC: u32 = 28;

/// What fails, shared with the library (`struct rules`).
struct Faults(File);

impl Faults {
    const BYTES: u64 = 4 * (4 + 1 + 4) + 32;

    /// The library, built, and its rules, in which nothing fails yet.
    fn preload(drive: &mut Drive) -> Faults {
        let dir = drive.scratch("faults");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_disk/faults.c");
        let library = dir.join("faults.so");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
        succeed(&mut cc, CALL);
        let path = dir.join("rules");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(Self::BYTES).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let cache = text(&fs::canonicalize(&drive.cache).unwrap());
        drive.set_variables(&[
            ("LD_PRELOAD", &text(&library)),
            ("BAD_DISK_RULES", &text(&path)),
            ("BAD_DISK_DIRECTORY", &cache),
        ]);
        Faults(file)
    }

    /// Of 10,000 calls on files below `part` so many fail with this error.
    fn set(&self, kinds: &[Kind], chance: u32, error: u32, part: &str) {
        self.clear();
        let mut name = [0; 32];
        name[..part.len()].copy_from_slice(part.as_bytes());
        self.0.write_all_at(&name, Self::BYTES - 32).unwrap();
        self.0.write_all_at(&error.to_le_bytes(), 16).unwrap();
        for kind in kinds {
            self.0.write_all_at(&chance.to_le_bytes(), 4 * *kind as u64).unwrap();
        }
    }

    fn clear(&self) {
        self.0.write_all_at(&[0; 16], 0).unwrap();
    }

    /// Calls that failed so far.
    fn failed(&self) -> u32 {
        let mut counts = [0; 16];
        self.0.read_exact_at(&mut counts, 20).unwrap();
        counts.chunks(4).map(|count| u32::from_le_bytes(count.try_into().unwrap())).sum()
    }
}

/// What a program did and was told.
struct World {
    mnt: PathBuf,
    random: Random,
    next: u64,
    /// Written, closed and acknowledged.
    kept: BTreeMap<String, Vec<u8>>,
    /// Refused in the middle: any of these, or nothing.
    doubtful: BTreeMap<String, Vec<Option<Vec<u8>>>>,
    refused: u64,
}

impl World {
    fn step(&mut self) {
        let names: Vec<String> = self.kept.keys().cloned().collect();
        let name = self.random.pick(&names).cloned();
        match (self.random.below(10), name) {
            (0..=4, _) | (_, None) => self.make(),
            (5, Some(name)) => self.remove(&name),
            (6, Some(name)) => self.rename(&name),
            (7, Some(name)) => self.append(&name),
            (_, Some(name)) => self.read(&name),
        }
    }

    fn new_name(&mut self) -> String {
        self.next += 1;
        format!("f{}", self.next)
    }

    fn make(&mut self) {
        let name = self.new_name();
        let most = if self.random.percent(2000) { 400_000 } else { 9_000 };
        let len = self.random.below(most);
        let bytes = pattern(self.next, len as usize);
        let result = save(self.mnt.join(&name), bytes.clone(), self.random.percent(3000));
        match result {
            Ok(()) => drop(self.kept.insert(name, bytes)),
            Err(_) => {
                self.refused += 1;
                self.doubtful.insert(name, Vec::new());
            }
        }
    }

    fn remove(&mut self, name: &str) {
        let path = self.mnt.join(name);
        let removed = within("remove", CALL, move || fs::remove_file(path));
        let bytes = self.kept.remove(name).unwrap();
        match removed {
            Ok(()) => drop(self.doubtful.insert(name.to_owned(), vec![None])),
            Err(_) => self.doubt(name, vec![None, Some(bytes)]),
        }
    }

    fn rename(&mut self, name: &str) {
        let new = self.new_name();
        let (from, to) = (self.mnt.join(name), self.mnt.join(&new));
        let renamed = within("rename", CALL, move || fs::rename(from, to));
        let bytes = self.kept.remove(name).unwrap();
        match renamed {
            Ok(()) => drop(self.kept.insert(new, bytes)),
            Err(_) => {
                self.doubt(name, vec![None, Some(bytes.clone())]);
                self.doubtful.insert(new, vec![None, Some(bytes)]);
            }
        }
    }

    fn append(&mut self, name: &str) {
        let more = pattern(self.next + 7, 1 + self.random.below(5_000) as usize);
        let (path, bytes) = (self.mnt.join(name), more.clone());
        let appended = within("append", CALL, move || {
            File::options().append(true).open(path)?.write_all(&bytes)
        });
        match appended {
            Ok(()) => self.kept.get_mut(name).unwrap().extend(more),
            Err(_) => {
                // A part of it may be there.
                let old = self.kept.remove(name).unwrap();
                let longer = (0..=more.len())
                    .step_by(1)
                    .map(|part| Some([&old[..], &more[..part]].concat()));
                let all = longer.collect();
                self.doubt(name, all);
            }
        }
    }

    fn doubt(&mut self, name: &str, outcomes: Vec<Option<Vec<u8>>>) {
        self.refused += 1;
        self.doubtful.insert(name.to_owned(), outcomes);
    }

    /// The right bytes or an error.
    fn read(&mut self, name: &str) {
        let path = self.mnt.join(name);
        match within("read", CALL, move || fs::read(path)) {
            Ok(bytes) => assert_eq!(bytes, self.kept[name], "{name} on a bad disk"),
            Err(_) => self.refused += 1,
        }
    }

    /// Below `root` is all that was acknowledged, and of the rest what it may be.
    fn check(&self, root: &Path, what: &str) {
        for (name, bytes) in &self.kept {
            let found = fs::read(root.join(name));
            assert!(found.as_ref().is_ok_and(|found| found == bytes), "{what}: {name}: {found:?}");
        }
        for (name, outcomes) in self.doubtful.iter().filter(|(_, outcomes)| !outcomes.is_empty()) {
            let found = fs::read(root.join(name)).ok();
            assert!(outcomes.contains(&found), "{what}: {name} is neither old nor new");
        }
    }
}

fn save(path: PathBuf, bytes: Vec<u8>, durable: bool) -> io::Result<()> {
    within("save", CALL, move || {
        let mut file = File::create_new(path)?;
        bytes.chunks(100_000).try_for_each(|part| file.write_all(part))?;
        if durable { file.sync_all() } else { Ok(()) }
    })
}

fn round(name: &str, number: u64, kinds: &[Kind], error: u32, part: &str) {
    let mut drive = Drive::new(name, &["--debounce", "200ms"]);
    // It says so in many words.
    drive.allow("");
    let faults = Faults::preload(&mut drive);
    drive.start();
    let (mnt, random) = (drive.mnt.clone(), Random::new(seed(name) + number));
    let (kept, doubtful) = (BTreeMap::new(), BTreeMap::new());
    let mut world = World { mnt, random, next: 0, kept, doubtful, refused: 0 };
    (0..20).for_each(|_| world.make());
    assert_eq!(world.refused, 0, "nothing fails yet");
    // The index is written rarely.
    let often = if part == "/meta.sled/" { 3000 } else { 200 };
    faults.set(kinds, often + 900 * (number as u32 % 3), error, part);
    (0..OPERATIONS).for_each(|_| world.step());
    let said = || drive.status()["messages"].to_string();
    let is_told = || said().contains("mount the share again");
    if part == "/meta.sled/" {
        // It is written two seconds later, and takes a failure or two without a word.
        until("it is told", CALL, || {
            world.step();
            is_told()
        });
    }
    let (failed, refused) = (faults.failed(), world.refused);
    faults.clear();
    // Of a data file only that file suffers.
    let is_fatal = part != "/data/" && failed > 0;
    assert_eq!(is_told(), is_fatal, "{part}: {failed} failed: {}", said());
    eprintln!(
        "{name} {number}: {failed} calls failed, {refused} of {OPERATIONS} operations refused"
    );
    if number.is_multiple_of(2) {
        drive.kill();
        drive.detach();
    } else {
        drive.try_covefs("unmount", &[]);
        drive.kill();
        drive.detach();
    }
    drive.start();
    world.check(&drive.mnt, "after a new start");
    drive.sync();
    world.check(&drive.share, "on the share");
    assert_eq!(drive.covefs("conflicts", &[]).lines().count(), 1, "there are none");
    drive.drain_and_wipe();
    assert!(failed > 0 || number > 0, "nothing failed");
}

fn rounds(name: &str, kinds: &[Kind], error: u32, part: &str) {
    for number in 0..env_number("COVEFS_BAD_DISK_ROUNDS", 2) {
        round(name, number, kinds, error, part);
    }
}

#[test]
fn data_files_that_fail_lose_nothing_acknowledged() {
    rounds("bad-data", &KINDS, EIO, "/data/");
}

#[test]
fn a_journal_that_fails_loses_nothing_acknowledged() {
    rounds("bad-journal", &[Kind::Write, Kind::Sync], EIO, "/journal/");
}

#[test]
fn a_full_disk_that_says_so_now_and_then_loses_nothing_acknowledged() {
    rounds("full-disk", &[Kind::Write, Kind::Cut], ENOSPC, "/");
}

#[test]
fn an_index_that_fails_loses_nothing_acknowledged() {
    rounds("bad-index", &[Kind::Write, Kind::Read, Kind::Sync], EIO, "/meta.sled/");
}
