//! Two sites of one share, random work on both, and everything that can go wrong: faults and lost
//! answers, the share out of reach, processes killed at any moment and at any change of the disk,
//! power cuts, indexes that are behind, caches thrown away, changes made by others.
//!
//! Afterwards both sites show what the share has; every acknowledged byte is there, unless somebody
//! who had it before them removed or replaced it; and where the sites kept out of each other's way,
//! the share is exactly what they made of it, with no conflict.
//!
//! `COVEFS_SEED=7 COVEFS_SEEDS=1000 cargo test -p covefs-cache simulation` for other and more runs.
//! A run that fails is shortened to the steps that matter, and printed.

mod world;

use super::rig::{Random, number};
use serde::{Deserialize, Serialize};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Told, World};

/// One thing that happens, at one of the sites.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Step {
    site: usize,
    act: Act,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Act {
    User(User),
    Held(Held),
    Machine(Machine),
    /// Somebody else changes a file on the share.
    WriteOutside(String, usize),
    RemoveOutside(String),
}

/// What a program does.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum User {
    Create(String),
    /// So many bytes, where no other write of the run writes.
    Write(String, usize),
    /// What the first holds and so many bytes more become the second.
    Copy(String, String, usize),
    /// To where a write ended.
    Truncate(String, u64),
    Move(String, String),
    Exchange(String, String),
    Remove(String),
    MakeDir(String),
    RemoveDir(String),
    Chmod(String, u32),
    Read(String),
    Evict(String),
    Fsync(String),
    List,
}

/// What a program does with files that it has open for long; but for opening, with the last one.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Held {
    Open(String),
    OpenToRead(String),
    Write(usize),
    Read,
    Fsync,
    Close,
    /// Maps a file to write so many bytes to it.
    Map(String, usize),
    WriteMapped,
    Unmap,
}

/// What happens to a site, its line or its machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Machine {
    Pause(u64),
    Settle,
    Sync,
    IndexFlushed,
    Online(bool),
    /// Requests fail from now on, by chance.
    Faults(u64),
    /// The share has no room.
    Full,
    /// The login is no longer good.
    Expired,
    /// All is well again.
    Heal,
    Kill,
    /// At the so-many-th change of the disk from now.
    KillLater(u64),
    /// Killed, and the index loses what it had not flushed.
    IndexBehind(u64),
    PowerCut(u64),
    /// The cache directory is deleted, if the share has everything.
    Wipe,
}

/// How the sites share the work.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
enum Mode {
    /// Each has its own names.
    Apart,
    /// Both use the same.
    Together,
}

impl Mode {
    /// The path that a site uses.
    fn name(self, site: usize, path: &str) -> String {
        match self {
            Mode::Apart => {
                let names: Vec<String> =
                    path.split('/').map(|name| format!("{name}{site}")).collect();
                names.join("/")
            }
            Mode::Together => path.to_owned(),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Story {
    /// What went wrong in it once.
    told: String,
    mode: Mode,
    /// How many names the share lists at once.
    page: usize,
    /// Whether the share tells the sites of changes.
    #[serde(default)]
    watch: bool,
    /// Whether the kernel gets whole files.
    #[serde(default)]
    lend: bool,
    steps: Vec<Step>,
}

impl Story {
    fn of(seed: u64) -> Story {
        let mut random = Random::seeded(seed);
        let mode = if random.one_in(3) { Mode::Apart } else { Mode::Together };
        let page = if random.one_in(3) { 2 } else { 1000 };
        let count = 10 + random.below(60);
        let steps = (0..count).flat_map(|_| steps(&mut random, mode)).collect();
        let (watch, lend) = (!random.one_in(3), random.one_in(2));
        Story { told: String::new(), mode, page, watch, lend, steps }
    }
}

/// The next step, or a few that belong together.
fn steps(random: &mut Random, mode: Mode) -> Vec<Step> {
    let site = random.below(2) as usize;
    let own = |path: &str| mode.name(site, path);
    let files = ["a", "b", "p/a", "p/b", "q/a", "p/q/a"].map(own);
    let file = random.pick(&files).expect("some");
    let len = 1 + match random.below(3) {
        0 => random.below(40),
        1 => random.below(5_000),
        _ => random.below(70_000),
    } as usize;
    let act = match random.below(100) {
        // As editors save.
        0..8 => {
            let temporary = format!("{file}.tmp");
            let copy = User::Copy(file.clone(), temporary.clone(), len);
            let fsync = User::Fsync(temporary.clone());
            let acts = [copy, fsync, User::Move(temporary, file)];
            return acts.map(|act| Step { site, act: Act::User(act) }).into();
        }
        // As databases and linkers write; whatever else happens before they do. Smaller files the kernel
        // does not get.
        8..11 => {
            let held = |act| Step { site, act: Act::Held(act) };
            let mut all = vec![held(Held::Map(file, crate::limits::LEND as usize + len))];
            all.extend(steps(random, mode));
            all.push(held(Held::WriteMapped));
            return all;
        }
        11..62 => Act::User(user(random, &files, mode, site)),
        62..72 => Act::Held(match random.below(13) {
            0..3 => Held::Open(file),
            3..6 => Held::Write(len),
            6 => Held::Read,
            7 => Held::Fsync,
            8 => Held::Close,
            9 => Held::OpenToRead(file),
            10 => Held::WriteMapped,
            _ => Held::Unmap,
        }),
        72..97 => Act::Machine(machine(random, mode)),
        97..99 if mode == Mode::Together => Act::WriteOutside(file, len),
        99 if mode == Mode::Together => Act::RemoveOutside(file),
        _ => Act::Machine(Machine::Pause(random.below(60_000))),
    };
    vec![Step { site, act }]
}

fn user(random: &mut Random, files: &[String], mode: Mode, site: usize) -> User {
    let dirs = ["p", "q", "p/q"].map(|path| mode.name(site, path));
    let mut file = || random.pick(files).expect("some");
    let (one, other) = (file(), file());
    let mut dir = || random.pick(&dirs).expect("some");
    let (folder, other_folder) = (dir(), dir());
    let len = 1 + random.below(70_000) as usize;
    match random.below(54) {
        0..7 => User::Create(one),
        7..25 => User::Write(one, len),
        25..28 => User::Copy(one, other, len),
        28..31 => User::Truncate(one, random.next()),
        31..36 => User::Move(one, other),
        36 => User::Exchange(one, other),
        37..39 => User::Move(folder, other_folder),
        39..43 => User::Remove(one),
        43..46 => User::MakeDir(folder),
        46..48 => User::RemoveDir(folder),
        48 => User::Chmod(one, 0o600 + random.below(64) as u32),
        49..51 => User::Read(one),
        51 => User::Evict(one),
        52 => User::Fsync(one),
        _ => User::List,
    }
}

fn machine(random: &mut Random, mode: Mode) -> Machine {
    match random.below(25) {
        0..6 => Machine::Pause(random.below(5_000)),
        6..8 => Machine::Settle,
        8..11 => Machine::Sync,
        11 => Machine::IndexFlushed,
        12..14 => Machine::Online(random.one_in(2)),
        14..16 => Machine::Faults(random.next()),
        16 => match random.below(3) {
            0 => Machine::Full,
            1 => Machine::Expired,
            _ => Machine::Heal,
        },
        17..19 => Machine::Heal,
        19..21 => Machine::Kill,
        21..23 => Machine::KillLater(random.below(40)),
        23 if mode == Mode::Together && random.one_in(2) => Machine::PowerCut(random.next()),
        23 => Machine::IndexBehind(random.next()),
        _ => Machine::Wipe,
    }
}

/// With `COVEFS_LOG=debug` a run tells what the caches say; best with one seed.
fn show_log() {
    if let Ok(level) = std::env::var("COVEFS_LOG") {
        let log = tracing_subscriber::fmt().with_env_filter(level).without_time().with_ansi(false);
        drop(log.with_test_writer().try_init());
    }
}

/// A panic is a failure like others, to be shortened too.
fn run(story: &Story) -> Result<World, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| live_through(story)));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn live_through(story: &Story) -> Result<World, String> {
    let mut world = World::new(story);
    for (number, step) in story.steps.iter().enumerate() {
        tracing::info!(number, ?step, "step");
        world.step(step).map_err(|wrong| format!("step {number}: {wrong}"))?;
    }
    world.end()?;
    Ok(world)
}

/// Leaves out what is not needed to fail, in ever smaller parts.
fn shortened(mut story: Story) -> Story {
    let mut size = story.steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < story.steps.len() {
            let mut fewer = story.clone();
            fewer.steps.drain(at..(at + size).min(story.steps.len()));
            if run(&fewer).is_err() {
                story = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    story
}

/// A seed that fails has to fail again.
#[test]
fn a_seed_replays_exactly() {
    for seed in 1..=20 {
        let digests = [0, 1].map(|_| run(&Story::of(seed)).map(|world| world.told.digest));
        assert_eq!(digests[0], digests[1], "of seed {seed}");
    }
}

/// What runs found once, each shortened by it: stories of `simulation/found`.
#[test]
fn what_was_found_stays_mended() {
    show_log();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/simulation/found");
    let mut failed = Vec::new();
    for entry in fs::read_dir(dir).expect("it comes with the source") {
        let path = entry.expect("it comes with the source").path();
        let text = fs::read_to_string(&path).expect("it comes with the source");
        let story: Story = serde_json::from_str(&text).expect("a story");
        if let Err(wrong) = run(&story) {
            failed.push(format!("{}: {wrong}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn two_sites_lose_nothing_and_agree() {
    let first = number("COVEFS_SEED", 1);
    let count = number("COVEFS_SEEDS", 100);
    show_log();
    let mut failed = Vec::new();
    let (mut steps, mut told) = (0, Told::default());
    for seed in first..first + count {
        let story = Story::of(seed);
        steps += story.steps.len();
        match run(&story) {
            Ok(world) => told.add(&world.told),
            Err(wrong) => {
                let mut fewer = shortened(story);
                fewer.told = run(&fewer).err().unwrap_or_default();
                let json = serde_json::to_string(&fewer).expect("plain data");
                eprintln!(
                    "COVEFS_SEED={seed}: {wrong}\n{}",
                    json.replace("{\"site", "\n  {\"site")
                );
                failed.push(seed);
                if std::env::var_os("COVEFS_BROKEN").is_some() {
                    // One is enough to find it, and others may never end.
                    break;
                }
            }
        }
    }
    println!(
        "{count} runs, {steps} steps, {} writes kept, {} written in mappings, {} deaths, {} power cuts, {} faults, \
         {} conflicts",
        told.writes, told.mapped, told.deaths, told.cuts, told.failed, told.conflicts
    );
    assert!(failed.is_empty(), "COVEFS_SEED=... of {failed:?}");
}
