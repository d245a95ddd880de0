//! Two drives of one share, both used at random in the same few directories, one of them killed and
//! started again and again: what was acknowledged is on the share at the end, and
//! both show the same.
//!
//! `COVEFS_TWO_SITES_SECONDS=600 COVEFS_SEED=7 cargo test --test two_sites` for longer runs.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Drive, Random, env_number, wait};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WORKERS: u64 = 3;
/// Below a directory of the share's own: where a drive is not mounted, there is none of them.
const DIRS: [&str; 4] = ["work", "work/p", "work/q", "work/p/q"];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Both have looked again, and agree.
const AGREE: Duration = Duration::from_secs(120);

/// What was acknowledged: lines, each written once.
struct Work<'a> {
    mnt: PathBuf,
    site: &'a str,
    random: Random,
    stop: &'a AtomicBool,
    next: &'a AtomicU64,
    acknowledged: BTreeSet<String>,
    done: u64,
    refused: u64,
}

impl Work<'_> {
    fn run(&mut self) -> Result<(), String> {
        while !self.stop.load(Ordering::SeqCst) {
            match self.step() {
                Ok(()) => self.done += 1,
                Err(error) if is_usual(&error) => self.refused += 1,
                Err(error) => return Err(format!("{}: {error}", self.site)),
            }
        }
        Ok(())
    }

    fn path(&mut self) -> PathBuf {
        let dir = self.random.pick(&DIRS).unwrap();
        let name = self.random.pick(&NAMES).unwrap();
        self.mnt.join(dir).join(name)
    }

    fn step(&mut self) -> io::Result<()> {
        let path = self.path();
        match self.random.below(20) {
            0..8 => self.append(&path),
            8..11 => self.create(&path),
            11..14 => {
                let to = self.path();
                if path == to {
                    return Ok(());
                }
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                Ok(renameat_with(CWD, &path, CWD, &to, RenameFlags::NOREPLACE)?)
            }
            14..17 => whole_lines(&path, &fs::read(&path)?),
            17 => fs::create_dir(self.mnt.join(self.random.pick(&DIRS[1..]).unwrap())),
            18 => fs::read_dir(self.mnt.join(self.random.pick(&DIRS).unwrap()))?
                .try_for_each(|entry| entry.map(drop)),
            _ => File::open(&path)?.sync_all(),
        }
    }

    fn line(&mut self) -> String {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let more = "x".repeat(self.random.below(3000) as usize);
        format!("{}-{number}-{more};", self.site)
    }

    fn append(&mut self, path: &Path) -> io::Result<()> {
        let line = self.line();
        // Only at the close is it certain that a name has it.
        File::options().append(true).open(path)?.write_all(line.as_bytes())?;
        self.acknowledged.insert(line);
        Ok(())
    }

    fn create(&mut self, path: &Path) -> io::Result<()> {
        let line = self.line();
        File::options().write(true).create_new(true).open(path)?.write_all(line.as_bytes())?;
        self.acknowledged.insert(line);
        Ok(())
    }
}

/// A reader never sees a part of a line, or zeros.
fn whole_lines(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
    let is_whole = |line: &str| line.split('-').count() == 3;
    if (text.is_empty() || text.ends_with(';')) && text.split_terminator(';').all(is_whole) {
        return Ok(());
    }
    let shown = &text[..text.len().min(80)];
    Err(io::Error::other(format!("{}: a mixture: {shown:?}...", path.display())))
}

/// What two users in one place do to one another, and what a drive that was killed says.
fn is_usual(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let usual = [
        Errno::NOENT,
        Errno::EXIST,
        Errno::NOTDIR,
        Errno::ISDIR,
        Errno::NOTCONN,
        Errno::CONNABORTED,
        Errno::STALE,
        Errno::IO,
        Errno::INTR,
        Errno::INVAL,
    ];
    Errno::from_io_error(error).is_some_and(|errno| usual.contains(&errno))
}

/// Work ends with the test, however that does.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn two_drives_that_are_killed_lose_nothing_and_agree() {
    let seed = common::seed("two-sites");
    let seconds = env_number("COVEFS_TWO_SITES_SECONDS", 12);
    let mut random = Random::new(seed);
    let mut first = Drive::new("site-first", &["--site", "first"]);
    let mut second = first.beside("site-second", &["--site", "second"]);
    for drive in [&mut first, &mut second] {
        // Conflicts are what this is about; a share that is away is noticed.
        for text in ["conflict", "upload failed", "out of reach", "incomplete", "lose the bytes"] {
            drive.allow(text);
        }
        drive.start();
    }
    fs::create_dir(first.share.join("work")).unwrap();
    let (stop, next) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut workers: Vec<Work> = Vec::new();
    for number in 0..2 * WORKERS {
        let (mnt, site) = match number % 2 {
            0 => (first.mnt.clone(), "first"),
            _ => (second.mnt.clone(), "second"),
        };
        let random = Random::new(random.next());
        let acknowledged = BTreeSet::new();
        let (stop, next) = (&stop, &next);
        workers.push(Work { mnt, site, random, stop, next, acknowledged, done: 0, refused: 0 });
    }
    let mut kills = 0;
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            workers.iter_mut().map(|worker| scope.spawn(move || worker.run())).collect();
        let _stops = Stop(&stop);
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end && !threads.iter().any(|thread| thread.is_finished()) {
            let moment = Duration::from_millis(random.between(500, 3000));
            wait::try_until(moment, || threads.iter().any(|thread| thread.is_finished()));
            kills += 1;
            second.kill();
            second.detach();
            second.start();
        }
        stop.store(true, Ordering::SeqCst);
        threads.into_iter().filter_map(|thread| thread.join().unwrap().err()).collect()
    });
    assert!(wrong.is_empty(), "COVEFS_SEED={seed}: {wrong:?}");
    agree(&first, &second);
    let mut acknowledged = BTreeSet::new();
    for worker in &workers {
        acknowledged.extend(worker.acknowledged.iter().cloned());
    }
    let conflicts: usize = [&first, &second]
        .iter()
        .map(|drive| drive.covefs("conflicts", &["--json"]).matches("\"reason\"").count())
        .sum();
    first.drain_and_wipe();
    second.drain_and_wipe();
    let lost = missing(&first.share, &acknowledged);
    let done: u64 = workers.iter().map(|worker| worker.done).sum();
    let refused: u64 = workers.iter().map(|worker| worker.refused).sum();
    println!(
        "{} lines acknowledged, {done} operations done, {refused} refused, {kills} kills, {conflicts} conflicts",
        acknowledged.len()
    );
    assert!(lost.is_empty(), "COVEFS_SEED={seed}: {} lines are lost: {:?}", lost.len(), &lost[0]);
    assert!(acknowledged.len() > 50, "too little work to mean anything");
}

/// Uploads all, until both drives show what the share has.
fn agree(first: &Drive, second: &Drive) {
    let mut told = String::new();
    let agreed = wait::try_until(AGREE, || {
        first.sync();
        second.sync();
        let share = listed(&first.share);
        let shown = [listed(&first.mnt), listed(&second.mnt)];
        told = format!("the share has {share:?}, the drives show {shown:?}");
        shown.iter().all(|tree| *tree == share)
    });
    assert!(agreed, "they never agree: {told}");
    for path in listed(&first.share) {
        let there = first.share.join(&path);
        if there.is_file() {
            let bytes = fs::read(&there).unwrap();
            for drive in [first, second] {
                let here = fs::read(drive.mnt.join(&path)).unwrap();
                let wrong = common::first_difference(&bytes, &here);
                assert_eq!(wrong, None, "{path} on {}", drive.mnt.display());
            }
        }
    }
}

/// All names below, sorted; those that covefs made for itself too.
fn listed(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(root.join(&dir)) else { continue };
        for entry in entries.flatten() {
            let path = dir.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(path.clone());
            }
            found.push(path.to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// Acknowledged lines that no file of the share has.
fn missing(share: &Path, acknowledged: &BTreeSet<String>) -> Vec<String> {
    let mut there = BTreeSet::new();
    for path in listed(share) {
        let path = share.join(path);
        if path.is_file() {
            let text = fs::read_to_string(&path).unwrap();
            whole_lines(&path, text.as_bytes()).unwrap();
            there.extend(text.split_inclusive(';').map(str::to_owned));
        }
    }
    acknowledged.difference(&there).cloned().collect()
}
