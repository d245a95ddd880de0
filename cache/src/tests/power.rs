//! Power cuts at random moments of random work: what was synced is on the share afterwards, and
//! whatever else is there was once written, or is said to be missing (rules J4-J6, D3, D5).
//!
//! `COVEFS_SEED=7 COVEFS_SEEDS=1000 cargo test -p covefs-cache power` for other and more runs.

use super::rig::*;
use crate::attr::{Fh, OpenMode};
use crate::error::{ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const CUTS: usize = 3;
const SIZE: u64 = 200_000;

/// What a file may hold, since it was last looked at on the share.
#[derive(Clone, Default)]
struct Lineage {
    /// As it is here.
    now: Vec<u8>,
    /// As it was when it was last made durable; `None`: never.
    durable: Option<Vec<u8>>,
    /// Written, or zeroed, from the first bytes on; the share may have any of it.
    layers: Vec<(usize, Vec<u8>)>,
    /// So many of them are durable.
    durable_layers: usize,
    /// Lengths that it had.
    sizes: BTreeSet<usize>,
}

impl Lineage {
    fn of(bytes: Vec<u8>) -> Lineage {
        let mut lineage = Lineage::default();
        lineage.write(0, &bytes);
        lineage.synced();
        lineage
    }

    /// All of it is durable now.
    fn synced(&mut self) {
        self.durable = Some(self.now.clone());
        self.durable_layers = self.layers.len();
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if offset > self.now.len() {
            self.resize(offset);
        }
        let end = offset + bytes.len();
        self.now.resize(self.now.len().max(end), 0);
        self.now[offset..end].copy_from_slice(bytes);
        self.layers.push((offset, bytes.to_vec()));
        self.sizes.insert(self.now.len());
    }

    fn resize(&mut self, size: usize) {
        let (from, to) = (size.min(self.now.len()), size.max(self.now.len()));
        self.layers.push((from, vec![0; to - from]));
        self.now.resize(size, 0);
        self.sizes.insert(size);
    }

    /// The first byte that it never had there, and that is not said to be missing.
    fn foreign(&self, found: &[u8], missing: &[Range<u64>]) -> Option<String> {
        if !self.sizes.contains(&found.len()) {
            return Some(format!("{} bytes long, never so", found.len()));
        }
        let had = |at: usize| {
            let had = self.layers.iter().any(|(offset, bytes)| {
                at.checked_sub(*offset).and_then(|at| bytes.get(at)) == Some(&found[at])
            });
            let told = || missing.iter().any(|gap| gap.contains(&(at as u64)));
            had || (found[at] == 0 && told())
        };
        let at = (0..found.len()).find(|at| !had(*at))?;
        Some(format!("byte {:#04x} at {at}, never there", found[at]))
    }

    /// The first byte that was durable and not touched since, and is not there.
    fn lost(&self, found: &[u8]) -> Option<usize> {
        let durable = self.durable.as_deref()?;
        let touched = |at: usize| {
            let mut since = self.layers[self.durable_layers..].iter();
            since.any(|(offset, bytes)| (*offset..offset + bytes.len()).contains(&at))
        };
        (0..durable.len()).find(|at| found.get(*at) != Some(&durable[*at]) && !touched(*at))
    }
}

type Files = BTreeMap<String, Vec<u8>>;
type Checked = std::result::Result<(), String>;

struct Power {
    rig: Rig,
    random: Random,
    next: u64,
    lineages: BTreeMap<u64, Lineage>,
    names: BTreeMap<String, u64>,
    /// What the names were, since the share was last looked at.
    states: Vec<BTreeMap<String, u64>>,
    /// From this one on they may be after a cut.
    durable_state: usize,
    story: Vec<String>,
}

impl Power {
    fn new(seed: u64) -> Power {
        let mut random = Random::seeded(seed);
        let mut files = Vec::new();
        for (n, name) in NAMES.iter().enumerate().take(3) {
            files.push((*name, pattern(seed * 100 + n as u64, random.below(SIZE) as usize)));
        }
        let rig = Rig::with(&files);
        let mut power = Power {
            rig,
            random,
            next: 0,
            lineages: BTreeMap::new(),
            names: BTreeMap::new(),
            states: Vec::new(),
            durable_state: 0,
            story: Vec::new(),
        };
        for (name, bytes) in files {
            power.found(name, bytes);
        }
        power.states = vec![power.names.clone()];
        power
    }

    fn found(&mut self, name: &str, bytes: Vec<u8>) {
        self.next += 1;
        self.lineages.insert(self.next, Lineage::of(bytes));
        self.names.insert(name.to_owned(), self.next);
    }

    fn note(&mut self, what: String) {
        self.story.push(what);
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.next += 1;
        let len = match self.random.below(3) {
            0 => self.random.below(200),
            1 => self.random.below(10_000),
            _ => self.random.below(90_000),
        };
        pattern(self.next, 1 + len as usize)
    }

    /// One thing that a program does, or that happens by itself.
    fn act(&mut self) -> Result<()> {
        let names: Vec<String> = self.names.keys().cloned().collect();
        let some = self.random.pick(&names);
        let any = self.random.pick(&NAMES).expect("not empty").to_owned();
        match (self.random.below(20), some) {
            (0..7, Some(name)) => self.write(&name),
            (7, Some(name)) => self.resize(&name),
            (8, Some(name)) => self.fsync(&name),
            (9, Some(name)) => self.mv(&name, &any),
            (10, Some(name)) => self.rm(&name),
            (11..13, Some(name)) => {
                self.note(format!("read {name}"));
                let read = self.rig.read(&name)?;
                let known = &self.lineages[&self.names[&name]].now;
                assert!(read == *known, "{name} reads wrong before any cut");
                Ok(())
            }
            (13, Some(name)) => {
                self.note(format!("evict {name}"));
                // Dirty bytes stay, and say so.
                let _ = self.rig.evict(&name);
                Ok(())
            }
            (14, _) => {
                self.note("index flushed".into());
                self.rig.index_is_durable();
                Ok(())
            }
            (15, _) => {
                self.note("pause".into());
                let time = self.random.below(3000);
                self.rig.pause(Duration::from_millis(time));
                Ok(())
            }
            (16, _) => {
                self.note("settle".into());
                self.rig.settle()?;
                self.all_names_durable();
                self.all_bytes_durable();
                Ok(())
            }
            (17, _) => {
                self.note("sync".into());
                self.rig.sync()?;
                self.all_bytes_durable();
                self.all_names_durable();
                Ok(())
            }
            _ if !self.names.contains_key(&any) => self.create(&any),
            (_, Some(name)) => self.save(&name),
            (_, None) => Ok(()),
        }
    }

    fn all_bytes_durable(&mut self) {
        self.lineages.values_mut().for_each(Lineage::synced);
    }

    fn all_names_durable(&mut self) {
        self.durable_state = self.states.len() - 1;
    }

    fn renamed(&mut self) {
        self.states.push(self.names.clone());
    }

    fn lineage(&mut self, name: &str) -> &mut Lineage {
        self.lineages.get_mut(&self.names[name]).expect("named")
    }

    fn write(&mut self, name: &str) -> Result<()> {
        let bytes = self.bytes();
        let len = self.lineage(name).now.len() as u64;
        let offset = self.random.below(len + len / 10 + 1);
        self.note(format!("write {name} {offset}+{}", bytes.len()));
        let fsync = self.random.one_in(4);
        let fh = self.rig.open(name, WRITE)?;
        let done = self.write_to(name, fh, offset, &bytes, fsync);
        self.rig.close(fh);
        done
    }

    fn write_to(
        &mut self,
        name: &str,
        fh: Fh,
        offset: u64,
        bytes: &[u8],
        fsync: bool,
    ) -> Result<()> {
        // Before it is acknowledged it may be there as well.
        self.lineage(name).write(offset as usize, bytes);
        self.rig.write_at(fh, offset, bytes)?;
        if fsync {
            self.note(format!("fsync {name}"));
            self.rig.fsync(fh)?;
            self.lineage(name).synced();
            self.all_names_durable();
        }
        Ok(())
    }

    fn resize(&mut self, name: &str) -> Result<()> {
        let size = self.random.below(SIZE);
        self.note(format!("resize {name} {size}"));
        self.lineage(name).resize(size as usize);
        self.rig.resize(name, size)
    }

    fn fsync(&mut self, name: &str) -> Result<()> {
        self.note(format!("fsync {name}"));
        let rig = &self.rig;
        rig.on(name, |fh| rig.fsync(fh))?;
        self.lineage(name).synced();
        self.all_names_durable();
        Ok(())
    }

    fn made(&mut self, name: &str) {
        self.next += 1;
        let lineage = Lineage { sizes: [0].into(), ..Lineage::default() };
        self.lineages.insert(self.next, lineage);
        self.names.insert(name.to_owned(), self.next);
        self.renamed();
    }

    fn create(&mut self, name: &str) -> Result<()> {
        self.note(format!("create {name}"));
        let how = OpenMode { exclusive: true, ..WRITE };
        // Before it is acknowledged it may be there as well.
        self.made(name);
        let fh = self.rig.create(name, how)?;
        let bytes = self.bytes();
        let fsync = self.random.one_in(3);
        let done = self.write_to(name, fh, 0, &bytes, fsync);
        self.rig.close(fh);
        done
    }

    /// As an editor does: a new file, then renamed over the old one.
    fn save(&mut self, name: &str) -> Result<()> {
        let temporary = format!("{name}.tmp");
        if self.names.contains_key(&temporary) {
            return Ok(());
        }
        self.create(&temporary)?;
        self.mv(&temporary, name)
    }

    fn mv(&mut self, from: &str, to: &str) -> Result<()> {
        if from == to {
            return Ok(());
        }
        self.note(format!("mv {from} {to}"));
        let lineage = self.names.remove(from).expect("named");
        self.names.insert(to.to_owned(), lineage);
        self.renamed();
        self.rig.mv(from, to)
    }

    fn rm(&mut self, name: &str) -> Result<()> {
        self.note(format!("rm {name}"));
        self.names.remove(name);
        self.renamed();
        self.rig.rm(name)
    }

    /// Works, loses power, uploads, and looks at the share.
    fn round(&mut self) -> Checked {
        let work = 5 + self.random.below(40);
        if self.random.one_in(3) {
            self.rig.disk.kill_after_ops(self.random.below(60));
        }
        for _ in 0..work {
            match self.act() {
                Ok(()) => {}
                Err(_) if self.rig.disk.is_killed() => break,
                Err(error) if error.kind == ErrorKind::NoSpace => {}
                Err(error) => return Err(format!("{error}")),
            }
        }
        let fate = self.random.next();
        self.note(format!("cut {fate:#x}"));
        self.rig.cut(fate);
        self.rig.sync().map_err(|error| format!("sync: {error}"))?;
        self.check()
    }

    /// The lineages that may have had this name.
    fn candidates(&self, name: &str) -> BTreeSet<u64> {
        let names = originals(name);
        let ids = |state: &'_ BTreeMap<String, u64>| -> Vec<u64> {
            names.iter().filter_map(|name| state.get(name).copied()).collect()
        };
        self.states.iter().flat_map(ids).collect()
    }

    fn check(&mut self) -> Checked {
        let there = self.same_here_and_there()?;
        self.nothing_foreign(&there)?;
        self.nothing_lost(&there)?;
        self.begin_anew(there)
    }

    fn same_here_and_there(&self) -> std::result::Result<Files, String> {
        let names = self.rig.names();
        let listed = self.rig.listed_there();
        if listed != names.iter().cloned().collect() {
            return Err(format!("here {names:?}, there {listed:?}"));
        }
        let mut there = Files::new();
        for name in names {
            let bytes = self.rig.there(&name).ok_or(format!("{name} is gone"))?;
            let here = self.rig.read(&name).map_err(|error| format!("read {name}: {error}"))?;
            if here != bytes {
                return Err(format!("{name} is not the share's here"));
            }
            there.insert(name, bytes);
        }
        Ok(there)
    }

    /// What is on the share was once in one of the files that had its name.
    fn nothing_foreign(&self, there: &Files) -> Checked {
        let conflicts = self.rig.vfs().conflicts();
        for (name, bytes) in there {
            let mut missing = Vec::new();
            for conflict in &conflicts {
                if *conflict.copy.as_ref().unwrap_or(&conflict.path) == path(name) {
                    missing.extend(conflict.missing.iter().map(|gap| gap.0..gap.1));
                }
            }
            let foreign = |id: &u64| {
                let why = self.lineages[id].foreign(bytes, &missing)?;
                Some(format!("{id}: {why}"))
            };
            let wrong: Option<Vec<String>> = self.candidates(name).iter().map(foreign).collect();
            if let Some(wrong) = wrong {
                return Err(format!("{name} is nothing that was: {wrong:?}; {conflicts:?}"));
            }
        }
        Ok(())
    }

    /// Of each file that was durable, and that nobody removed since, the durable bytes are there.
    fn nothing_lost(&self, there: &Files) -> Checked {
        let since = &self.states[self.durable_state..];
        for (name, id) in &since[0] {
            if !since.iter().all(|state| state.values().any(|other| other == id)) {
                continue;
            }
            let lineage = &self.lineages[id];
            let Some(durable) = &lineage.durable else { continue };
            let had: BTreeSet<&String> = self
                .states
                .iter()
                .flat_map(|state| state.iter().filter(|(_, other)| *other == id))
                .map(|(name, _)| name)
                .collect();
            let places = there
                .iter()
                .filter(|(name, _)| originals(name).iter().any(|name| had.contains(name)));
            let lost: Option<Vec<String>> = places
                .map(|(name, bytes)| lineage.lost(bytes).map(|at| format!("{name} at {at}")))
                .collect();
            if let Some(lost) = lost {
                let len = durable.len();
                return Err(format!("of {name} ({id}) {len} bytes were durable: {lost:?}"));
            }
        }
        Ok(())
    }

    /// The next round begins with what is on the share.
    fn begin_anew(&mut self, there: Files) -> Checked {
        let mut lineages = BTreeMap::new();
        self.names.clear();
        for (name, bytes) in there {
            // Bytes that lost their page may be older than this look.
            let mut lineage = Lineage::default();
            for id in self.candidates(&name) {
                lineage.layers.extend(self.lineages[&id].layers.iter().cloned());
            }
            lineage.write(0, &bytes);
            lineage.synced();
            self.next += 1;
            lineages.insert(self.next, lineage);
            self.names.insert(name, self.next);
        }
        self.lineages = lineages;
        self.states = vec![self.names.clone()];
        self.durable_state = 0;
        for conflict in self.rig.vfs().conflicts() {
            self.rig.vfs().dismiss(&conflict.path).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// A name, and the names of what it may be a conflict copy of: `name-here`, `name-here-2.ext`.
fn originals(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    while let Some((stem, rest)) = names[names.len() - 1].rsplit_once("-here") {
        let rest = rest.trim_start_matches(|sign: char| sign == '-' || sign.is_numeric());
        names.push(format!("{stem}{rest}"));
    }
    names
}

#[test]
fn power_cuts_at_random_moments_lose_nothing_that_was_synced() {
    let first = number("COVEFS_SEED", 1);
    let count = number("COVEFS_SEEDS", 200);
    let mut failed = Vec::new();
    for seed in first..first + count {
        let mut power = Power::new(seed);
        for cut in 0..CUTS {
            if let Err(wrong) = power.round() {
                let story = power.story.join("; ");
                eprintln!("COVEFS_SEED={seed}, cut {cut}: {wrong}\n    {story}\n");
                failed.push(seed);
                break;
            }
        }
    }
    assert!(failed.is_empty(), "COVEFS_SEED=... of {failed:?}");
}
