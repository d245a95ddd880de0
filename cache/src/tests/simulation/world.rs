//! The share, the two sites, and what must come of their work.

mod files;
mod held;
mod model;
mod verdict;

use super::{Act, Machine, Mode, Step, Story};
use crate::error::Result;
use crate::ranges::RangeSet;
use crate::tests::rig::*;
use covefs_remote::fault::{Fault, Odds, Rule};
use covefs_remote::{ErrorKind as RemoteKind, Timestamp};
use held::{HeldFile, Mapping};
use model::{Tree, is_usual};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Outcome<T> = std::result::Result<T, String>;
type Tokens = BTreeSet<usize>;
/// How often both sites may sync and look before they agree.
const LOOKS: u64 = 20;

/// The bytes of one write; no two overlap.
struct Token {
    offset: u64,
    bytes: Vec<u8>,
    site: usize,
    /// It was answered, and nobody who had it before them removed it.
    wanted: bool,
    /// An fsync was answered after it, or the share had it.
    durable: bool,
    /// A part of it may be somewhere.
    torn: bool,
}

pub struct World {
    mode: Mode,
    sites: [Rig; 2],
    online: [bool; 2],
    tokens: Vec<Token>,
    /// What a file holds that was changed then, wherever it is.
    states: BTreeMap<Timestamp, Tokens>,
    /// What a site wrote and may lose in a power cut.
    unsafe_puts: [Tokens; 2],
    /// What conflicts said to be missing in a copy: no two writes overlap, so it says which.
    missing: RangeSet,
    /// What a file was changed at before it was written to unseen: what it holds shows only when it is read.
    unseen: BTreeSet<Timestamp>,
    /// Files that programs have open for long, and such that they have in a mapping.
    held: [Vec<HeldFile>; 2],
    mapped: [Vec<Mapping>; 2],
    /// How often somebody at a site cut a file.
    cuts: [u64; 2],
    /// What each site may have made; more than one where nobody knows whether a step was done.
    models: [Vec<Tree>; 2],
    /// What happened, to see that a run means anything.
    pub told: Told,
}

#[derive(Default)]
pub struct Told {
    pub writes: usize,
    pub mapped: usize,
    pub deaths: usize,
    pub cuts: usize,
    pub failed: u64,
    pub conflicts: usize,
    /// Of all that the share has and was asked for.
    pub digest: u64,
}

impl Told {
    pub fn add(&mut self, other: &Told) {
        self.writes += other.writes;
        self.mapped += other.mapped;
        self.deaths += other.deaths;
        self.cuts += other.cuts;
        self.failed += other.failed;
        self.conflicts += other.conflicts;
    }
}

impl World {
    /// A share with some directories and files, that lists so many names at once.
    pub fn new(story: &Story) -> World {
        let Story { mode, page, watch, lend, .. } = *story;
        let mut first = Rig::paged(page);
        first.stop();
        if watch {
            first.config.watch = true;
            // So long that what is told is seen first.
            first.config.freshness = Duration::from_secs(20);
        }
        first.lends = lend;
        first.start();
        let second = first.beside("there");
        let mut world = World {
            mode,
            sites: [first, second],
            online: [true; 2],
            tokens: Vec::new(),
            states: BTreeMap::new(),
            unsafe_puts: Default::default(),
            missing: RangeSet::new(),
            unseen: BTreeSet::new(),
            held: Default::default(),
            mapped: Default::default(),
            cuts: [0; 2],
            models: [vec![Tree::new()], vec![Tree::new()]],
            told: Told::default(),
        };
        for site in 0..2 {
            world.sites[site].heal();
            for dir in ["p", "q"] {
                let dir = mode.name(site, dir);
                world.sites[0].memory.write_dir(&path(&dir));
                world.models[site][0].insert(dir, None);
            }
            for (number, file) in ["a", "p/a", "q/a"].iter().enumerate() {
                let file = mode.name(site, file);
                let token = world.write_outside(&file, 1 + number * 7_000);
                let held = token.into_iter().collect();
                world.models[site][0].insert(file, Some(held));
            }
        }
        world
    }

    pub fn step(&mut self, step: &Step) -> Outcome<()> {
        let site = step.site;
        let done = self.act(site, &step.act);
        tracing::info!(answer = ?done.as_ref().map_err(ToString::to_string), "step");
        if self.revived(site) {
            return Ok(());
        }
        match done {
            Ok(()) => Ok(()),
            Err(error) if is_usual(error.kind) => Ok(()),
            Err(error) => Err(format!("{} {:?}: {error}", step.site, step.act)),
        }
    }

    /// Starts again what was killed in the middle of something.
    fn revived(&mut self, site: usize) -> bool {
        let killed = self.sites[site].disk.is_killed();
        if killed {
            self.die(site, None);
        }
        killed
    }

    fn start(&mut self, site: usize) {
        let online = self.online[site];
        self.sites[site].start_with(online);
    }

    fn act(&mut self, site: usize, act: &Act) -> Result<()> {
        match act {
            Act::User(act) => self.use_it(site, act),
            Act::Held(act) => self.use_held(site, act),
            Act::Machine(act) => self.happen(site, act),
            Act::WriteOutside(path, len) => {
                self.write_outside(path, *len);
                Ok(())
            }
            Act::RemoveOutside(path) => self.remove_outside(path),
        }
    }

    /// What happens to a site, its line or its machine.
    fn happen(&mut self, site: usize, act: &Machine) -> Result<()> {
        let rig = &self.sites[site];
        match act {
            Machine::Pause(time) => rig.pause(Duration::from_millis(*time)),
            Machine::Settle => rig.settle()?,
            Machine::Sync => self.sync(site)?,
            Machine::IndexFlushed => rig.index_is_durable(),
            Machine::Online(online) => {
                self.online[site] = *online;
                rig.remote.offline(!online);
            }
            Machine::Faults(seed) => {
                rig.remote.randomly(*seed, Odds { before: 100, after: 100, short: 50, ..SLOW });
            }
            Machine::Full => {
                let full = Fault::Before(RemoteKind::NoSpace);
                for op in ["replace", "create_dir"] {
                    rig.remote.inject(Rule::new(op, full.clone()));
                }
            }
            Machine::Expired => {
                let refused = Fault::Before(RemoteKind::Unauthenticated);
                rig.remote.inject(Rule::new("*", refused));
            }
            Machine::Heal => rig.heal(),
            Machine::Kill => self.die(site, None),
            Machine::KillLater(ops) => rig.disk.kill_after_ops(*ops),
            Machine::IndexBehind(seed) => self.die(site, Some(*seed)),
            Machine::PowerCut(fate) => self.power_cut(site, *fate),
            Machine::Wipe => self.wipe(site)?,
        }
        Ok(())
    }

    /// Killed, and started again; the index may lose what it had not flushed.
    fn die(&mut self, site: usize, index: Option<u64>) {
        self.told.deaths += 1;
        self.held[site].clear();
        // A mapping lives on.
        self.mapped[site].iter_mut().for_each(|mapping| mapping.fh = None);
        let rig = &mut self.sites[site];
        rig.stop();
        rig.disk.crash();
        if let Some(seed) = index {
            rig.index.lose_unflushed(seed);
        }
        self.start(site);
    }

    /// Bytes for a write that no other write of the run overlaps.
    fn token(&mut self, site: usize, len: usize) -> usize {
        let offset = self.tokens.last().map_or(0, |last| last.offset + last.bytes.len() as u64);
        let bytes = pattern(self.tokens.len() as u64 + 1, len);
        let (wanted, durable, torn) = (false, false, false);
        self.tokens.push(Token { offset, bytes, site, wanted, durable, torn });
        self.tokens.len() - 1
    }

    fn sync(&mut self, site: usize) -> Result<()> {
        if !self.online[site] {
            return Ok(());
        }
        self.sites[site].heal();
        self.sites[site].sync()?;
        let own = self.tokens.iter_mut().filter(|token| token.site == site);
        own.for_each(|token| token.durable = true);
        self.unsafe_puts[site].clear();
        Ok(())
    }

    /// Keeps in mind what the conflicts of a site say to be missing.
    fn note_missing(&mut self, site: usize) {
        for conflict in self.sites[site].vfs().conflicts() {
            for gap in conflict.missing {
                self.missing.insert(gap.0..gap.1);
            }
        }
    }

    fn power_cut(&mut self, site: usize, fate: u64) {
        self.told.cuts += 1;
        self.held[site].clear();
        self.mapped[site].clear();
        let rig = &mut self.sites[site];
        rig.stop();
        rig.disk.power_loss(fate);
        rig.index.lose_unflushed(Random::seeded(fate).next());
        for number in &self.unsafe_puts[site] {
            let token = &mut self.tokens[*number];
            token.torn = true;
            token.wanted &= token.durable || token.site != site;
        }
        // What files hold may be less than it was.
        self.states.clear();
        self.start(site);
    }

    /// Throws the cache away. What it alone had would be gone: not before everything is on the share.
    fn wipe(&mut self, site: usize) -> Result<()> {
        if !self.online[site] {
            return Ok(());
        }
        self.unmap_all(site);
        self.sync(site)?;
        self.note_missing(site);
        self.held[site].clear();
        let rig = &mut self.sites[site];
        rig.stop();
        rig.wipe();
        self.start(site);
        Ok(())
    }
}
