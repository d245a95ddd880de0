//! Two drives of one share, both used at random in the same few directories, one of them killed or cut off and
//! started again and again: what was acknowledged is on the share at the end, and
//! both show the same.
//!
//! `COVEFS_TWO_SITES_SECONDS=600 COVEFS_SEED=7 cargo test --test two_sites` for longer runs.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../remote/tests/samba/mod.rs"]
mod samba;

use azure_files_emulator::{Config, Emulator};
use common::{Behaviour, Drive, Link, Random, env_number, wait};
use samba::{PLAIN, Samba};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
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

/// The Azure share's name.
const SHARE: &str = "docs";

/// What has the share, and a look at it past all drives.
enum Share<'a> {
    Disk(PathBuf),
    Azure(&'a Emulator),
}

impl Share<'_> {
    fn make_dir(&self, name: &str) {
        match self {
            Share::Disk(root) => fs::create_dir(root.join(name)).unwrap(),
            Share::Azure(server) => server.create_dir(SHARE, name),
        }
    }

    /// All names, sorted; those that covefs made for itself too.
    fn listed(&self) -> Vec<String> {
        match self {
            Share::Disk(root) => listed(root),
            Share::Azure(server) => {
                let mut names: Vec<String> =
                    server.walk(SHARE).into_iter().map(|entry| entry.name).collect();
                names.sort();
                names
            }
        }
    }

    /// The bytes of a file; `None` of a directory.
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        match self {
            Share::Disk(root) if root.join(path).is_dir() => None,
            Share::Disk(root) => Some(fs::read(root.join(path)).unwrap()),
            Share::Azure(server) => server.read(SHARE, path),
        }
    }
}

/// Zeros in copies of ours that both `conflicts` and the log own up to (D5), by path of the copy.
type Gaps = BTreeMap<String, Vec<Range<usize>>>;

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
const USUAL: [&str; 8] = [
    "conflict",
    "upload failed",
    "out of reach",
    "incomplete",
    "lose the bytes",
    "outcome of a change",
    "the replaced file stays aside",
    "a lease of ours stays until the next change",
];

#[test]
fn two_drives_that_are_killed_lose_nothing_and_agree() {
    let first = Drive::new("site-first", &["--site", "first"]);
    let second = first.beside("site-second", &["--site", "second"]);
    let share = Share::Disk(first.share.clone());
    lose_nothing_and_agree(&share, first, second, |second, _| restart(second));
}

#[test]
fn two_drives_of_an_azure_share_whose_line_breaks_lose_nothing_and_agree() {
    let server = Emulator::start(Config::default()).unwrap();
    server.create_share(SHARE);
    let link = Link::to(server.address().port());
    let drive = |site: &str, port: u16| {
        let own = format!(":{}/", server.address().port());
        let login = server.connection_string().replace(&own, &format!(":{port}/"));
        let login = [("AZURE_STORAGE_CONNECTION_STRING", &*login)];
        let named = format!("azfiles://{}/{SHARE}", server.account());
        Drive::over(&format!("azure-site-{site}"), &named, &login, &["--site", site])
    };
    let first = drive("first", server.address().port());
    let second = drive("second", link.port);
    let share = Share::Azure(&server);
    lose_nothing_and_agree(&share, first, second, |second, random| match random.below(2) {
        0 => restart(second),
        _ => {
            link.set(Behaviour::Gone);
            wait::try_until(Duration::from_millis(random.between(200, 3000)), || false);
            link.set(Behaviour::Answers);
        }
    });
}

#[test]
fn two_drives_of_an_smb_server_that_is_killed_too_lose_nothing_and_agree() {
    let Some(mut server) = Samba::start() else { return };
    let named = format!("smb://127.0.0.1:{}/{PLAIN}", server.port);
    let (login, disk) = (server.login_file(), server.disk(PLAIN));
    let drive = |site: &str| {
        let args = ["--site", site, "--credentials", login.to_str().unwrap()];
        Drive::over(&format!("smb-site-{site}"), &named, &[], &args)
    };
    let share = Share::Disk(disk);
    lose_nothing_and_agree(&share, drive("first"), drive("second"), |second, random| match random
        .below(2)
    {
        0 => restart(second),
        _ => {
            server.kill();
            server.run();
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
    share: &Share<'_>,
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
    share.make_dir("work");
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
    agree(share, &first, &second);
    let mut acknowledged = BTreeSet::new();
    for worker in &workers {
        acknowledged.extend(worker.acknowledged.iter().cloned());
    }
    let (mut conflicts, mut gaps) = (0, Gaps::new());
    for drive in [&first, &second] {
        conflicts += note_gaps(drive, &mut gaps);
    }
    first.drain_and_wipe();
    second.drain_and_wipe();
    let lost = missing(share, &acknowledged, &gaps);
    let done: u64 = workers.iter().map(|worker| worker.done).sum();
    let refused: u64 = workers.iter().map(|worker| worker.refused).sum();
    println!(
        "{} lines acknowledged, {done} operations done, {refused} refused, {kills} kills, {conflicts} conflicts, \
         {} copies incomplete",
        acknowledged.len(),
        gaps.len()
    );
    assert!(lost.is_empty(), "COVEFS_SEED={seed}: {} lines are lost: {:?}", lost.len(), &lost[0]);
    assert!(acknowledged.len() > 50, "too little work to mean anything");
}

/// Adds what a drive says of its copies; returns how many conflicts it has.
fn note_gaps(drive: &Drive, gaps: &mut Gaps) -> usize {
    let conflicts: Vec<serde_json::Value> =
        serde_json::from_str(&drive.covefs("conflicts", &["--json"])).unwrap();
    for conflict in &conflicts {
        let missing: Vec<(usize, usize)> =
            serde_json::from_value(conflict["missing"].clone()).unwrap();
        if missing.is_empty() {
            continue;
        }
        let copy = conflict["copy"].as_str().expect("what is incomplete is a copy");
        let log = fs::read_to_string(drive.log_file()).unwrap();
        assert!(log.contains("our copy is incomplete"), "the log says nothing of {copy}");
        let ranges = missing.into_iter().map(|(start, end)| start..end);
        gaps.entry(copy.trim_start_matches('/').to_owned()).or_default().extend(ranges);
    }
    conflicts.len()
}

/// Uploads all, until both drives show what the share has.
fn agree(has: &Share<'_>, first: &Drive, second: &Drive) {
    let mut told = String::new();
    let agreed = wait::try_until(AGREE, || {
        first.sync();
        second.sync();
        let share = has.listed();
        let shown = [listed(&first.mnt), listed(&second.mnt)];
        told = format!("the share has {share:?}, the drives show {shown:?}");
        shown.iter().all(|tree| *tree == share)
    });
    assert!(agreed, "they never agree: {told}");
    for path in has.listed() {
        if let Some(bytes) = has.read(&path) {
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
fn missing(share: &Share<'_>, acknowledged: &BTreeSet<String>, gaps: &Gaps) -> Vec<String> {
    let mut there = BTreeSet::new();
    for path in share.listed() {
        let Some(bytes) = share.read(&path) else { continue };
        let gaps = gaps.get(&path).map_or(&[][..], Vec::as_slice);
        for text in between(&bytes, gaps).unwrap_or_else(|wrong| panic!("{path}: {wrong}")) {
            let lines = whole_lines(Path::new(&path), text).unwrap();
            there.extend(lines.into_iter().map(str::to_owned));
        }
    }
    acknowledged.difference(&there).cloned().collect()
}

/// What lies between gaps, without the lines that a gap cuts. Where there is a gap, all is zero; where
/// there is none, nothing.
fn between<'a>(bytes: &'a [u8], gaps: &[Range<usize>]) -> Result<Vec<&'a [u8]>, String> {
    let mut gaps = gaps.to_vec();
    gaps.sort_by_key(|gap| gap.start);
    let mut found = Vec::new();
    let mut at = 0;
    for gap in gaps {
        let (start, end) = (gap.start.clamp(at, bytes.len()), gap.end.clamp(at, bytes.len()));
        if let Some(byte) = bytes[start..end].iter().find(|byte| **byte != 0) {
            return Err(format!("{byte} in the gap {gap:?}"));
        }
        found.push((at > 0, &bytes[at..start], true));
        at = end;
    }
    found.push((at > 0, &bytes[at..], false));
    let is_end = |byte: &u8| *byte == b';';
    let whole = found.into_iter().map(|(cut_before, part, cut_after)| {
        if part.contains(&0) {
            return Err("zeros beside a gap".to_owned());
        }
        let start = part.iter().position(is_end).map_or(part.len(), |at| at + 1);
        // What was appended begins where the base ended: behind the gap may be a whole line.
        let is_cut = cut_before && !is_line(&part[..start]);
        let part = if is_cut { &part[start..] } else { part };
        let end = part.iter().rposition(is_end).map_or(0, |at| at + 1);
        Ok(if cut_after { &part[..end] } else { part })
    });
    whole.collect()
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

/// Whether this is a line of one of the sites from its beginning to its end.
fn is_line(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some(line) = text.strip_suffix(';') else { return false };
    let fields: Vec<&str> = line.split('-').collect();
    matches!(fields[..], ["first" | "second", number, rest]
        if number.parse::<u64>().is_ok() && rest.bytes().all(|byte| byte == b'x'))
}

#[test]
fn zeros_are_let_be_only_where_a_copy_says_that_they_are() {
    let bytes = b"first-1-xx;first-2-\0\0\0\0x;second-3-x;";
    let lines = |gaps: &[Range<usize>]| -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        for text in between(bytes, gaps)? {
            let found = whole_lines(Path::new("f"), text).map_err(|error| error.to_string())?;
            lines.extend(found.into_iter().map(str::to_owned));
        }
        Ok(lines)
    };
    let (named, short, wide) = (19..23, 19..22, 18..23);
    assert_eq!(lines(&[named.clone(), 23..25]).unwrap_err(), "120 in the gap 23..25");
    assert_eq!(lines(&[named]).unwrap(), ["first-1-xx;", "second-3-x;"]);
    assert!(lines(&[]).unwrap_err().contains("zeros beside"));
    assert!(lines(&[short]).unwrap_err().contains("zeros beside"));
    assert!(lines(&[wide]).unwrap_err().contains("in the gap"));
    let gap = std::slice::from_ref(&(0..3));
    assert_eq!(between(b"\0\0\0second-3-x;", gap), Ok(vec![&b""[..], b"second-3-x;"]));
    assert_eq!(between(b"\0\0\0cond-3-x;", gap), Ok(vec![&b""[..], b""]));
}
