//! Two drives of one share, both used at random in the same few directories, one of them killed and
//! started again and again: what was acknowledged is on the share at the end, and
//! both show the same.
//!
//! `COVEFS_TWO_SITES_SECONDS=600 COVEFS_SEED=7 cargo test --test two_sites` for longer runs.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../remote/tests/samba/mod.rs"]
mod samba;

use common::{Drive, Random, env_number, wait};
use samba::{PLAIN, Samba};
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
/// The drives run with --freshness 1s; a slow machine gets the rest.
const FRESH: Duration = Duration::from_secs(15);

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
            14..17 => whole_lines(&path, &fs::read(&path)?).map(drop),
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
        // To the end: between the two somebody else may have appended to the new file.
        let made = File::options().append(true).create_new(true).open(path);
        made?.write_all(line.as_bytes())?;
        self.acknowledged.insert(line);
        Ok(())
    }
}

/// A reader never sees zeros, or a part of a line but for one: the kernel writes page by page, so the
/// site that is killed may have written the beginning of a line that nobody was told of.
fn whole_lines<'a>(path: &Path, bytes: &'a [u8]) -> io::Result<Vec<&'a str>> {
    let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
    let mut whole = Vec::new();
    for part in text.split_inclusive(';') {
        let start = if part.ends_with(';') { last_start(part).unwrap_or(0) } else { part.len() };
        let (torn, line) = part.split_at(start);
        let fields: Vec<&str> = line.trim_end_matches(';').split('-').collect();
        let is_whole = fields.len() == 3 && fields[2].bytes().all(|byte| byte == b'x');
        if !is_cut_off(torn) || !(line.is_empty() || is_whole) {
            let shown = &part[..part.len().min(80)];
            let text = format!("{}: a mixture: {shown:?}...", path.display());
            return Err(io::Error::other(text));
        }
        whole.extend((!line.is_empty()).then_some(line));
    }
    Ok(whole)
}

/// Where the last line in this begins.
fn last_start(text: &str) -> Option<usize> {
    ["first-", "second-"].iter().filter_map(|site| text.rfind(site)).max()
}

/// Whether these are beginnings of lines of the site that is killed; mostly there is none.
fn is_cut_off(text: &str) -> bool {
    let start = last_start(text).unwrap_or(0);
    let (before, line) = text.split_at(start);
    let Some(rest) = line.strip_prefix("second-") else {
        return before.is_empty() && "second-".starts_with(line);
    };
    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    rest.bytes().all(|byte| byte == b'x') && is_cut_off(before)
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

/// What is expected of drives here: conflicts are what this is about; a share that is away is noticed.
const USUAL: [&str; 7] = [
    "conflict",
    "upload failed",
    "out of reach",
    "incomplete",
    "lose the bytes",
    "outcome of a change",
    "the replaced file stays aside",
];

#[test]
fn two_drives_that_are_killed_lose_nothing_and_agree() {
    let first = Drive::new("site-first", &["--site", "first"]);
    let second = first.beside("site-second", &["--site", "second"]);
    lose_nothing_and_agree(first, second, |second, _| restart(second));
}

#[test]
fn two_drives_of_an_smb_server_that_is_killed_too_lose_nothing_and_agree() {
    let Some(mut server) = Samba::start() else { return };
    let named = format!("smb://127.0.0.1:{}/{PLAIN}", server.port);
    let (login, disk) = (server.login_file(), server.disk(PLAIN));
    let drive = |site: &str| {
        let args = ["--site", site, "--credentials", login.to_str().unwrap()];
        let mut drive = Drive::over(&format!("smb-site-{site}"), &named, &[], &args);
        drive.share = disk.clone();
        drive
    };
    lose_nothing_and_agree(drive("first"), drive("second"), |second, random| {
        match random.below(2) {
            0 => restart(second),
            _ => {
                server.kill();
                server.run();
            }
        }
    });
}

fn restart(drive: &mut Drive) {
    drive.kill();
    drive.detach();
    drive.start();
}

/// Work on both, while every few seconds something is killed.
fn lose_nothing_and_agree(
    mut first: Drive,
    mut second: Drive,
    mut kill: impl FnMut(&mut Drive, &mut Random),
) {
    let seed = common::seed("two-sites");
    let seconds = env_number("COVEFS_TWO_SITES_SECONDS", 12);
    let mut random = Random::new(seed);
    for drive in [&mut first, &mut second] {
        USUAL.iter().for_each(|text| drive.allow(text));
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
            kill(&mut second, &mut random);
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
                // The names agree; of a file that the other site has just replaced the bytes may be
                // those of before, or gone, for as long as --freshness lets them.
                let mut told = String::new();
                let same = wait::try_until(FRESH, || {
                    let here = fs::read(drive.mnt.join(&path));
                    let wrong = here.map(|here| common::first_difference(&bytes, &here));
                    told = format!("{wrong:?}");
                    matches!(wrong, Ok(None))
                });
                assert!(same, "{path} on {}: {told}", drive.mnt.display());
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
            let text = fs::read(&path).unwrap();
            there.extend(whole_lines(&path, &text).unwrap().into_iter().map(str::to_owned));
        }
    }
    acknowledged.difference(&there).cloned().collect()
}

#[test]
fn lines_and_what_a_kill_leaves_of_them_are_told_apart() {
    let lines = |text: &str| {
        let lines = whole_lines(Path::new("f"), text.as_bytes());
        lines.map(|lines| lines.join("")).map_err(|_| ())
    };
    let whole = "first-1-xx;second-2-;second-3-x;";
    assert_eq!(lines(whole), Ok(whole.into()));
    assert_eq!(lines(""), Ok(String::new()));
    for torn in ["s", "second-", "second-4", "second-4-", "second-4-xx", "second-4-xsecond-5"] {
        assert_eq!(lines(&format!("first-1-x;{torn}")), Ok("first-1-x;".into()), "{torn}");
        let followed = format!("{torn}first-6-xx;");
        assert_eq!(lines(&followed), Ok("first-6-xx;".into()), "{torn}");
    }
    for mixed in ["first-1-x", "xx;", "first-1-xfirst-2-x;", "first-1-x\0;", "second-1-x\0", "fi;"]
    {
        assert_eq!(lines(mixed), Err(()), "{mixed}");
    }
}
