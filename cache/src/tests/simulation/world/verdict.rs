//! How a run ends: everything is in reach again, the sites come to rest, and are looked at.

use super::model::Tree;
use super::{LOOKS, Mode, Outcome, Tokens, World};
use covefs_remote::memory::Entry;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

impl World {
    /// Everything is in reach again; the sites come to rest, and are looked at.
    pub fn end(&mut self) -> Outcome<()> {
        for site in 0..2 {
            let rig = &self.sites[site];
            self.online[site] = true;
            self.told.failed += rig.remote.faults();
            rig.heal();
            rig.remote.offline(false);
            rig.disk.kill_after_ops(u64::MAX);
            self.revived(site);
            while !self.held[site].is_empty() {
                self.let_go(site, 0);
            }
            self.unmap_all(site);
        }
        let share = self.agreed()?;
        (0..2).for_each(|site| self.note_missing(site));
        if let Some(path) = share.keys().find(|path| path.contains(".~covefs")) {
            return Err(format!("{path} was left on the share"));
        }
        self.nothing_lost(&share)?;
        let conflicts = self.sites.iter().map(|site| site.vfs().conflicts().len());
        self.told.conflicts = conflicts.sum();
        self.told.digest = self.digest(&share);
        self.told.writes = self.tokens.iter().filter(|token| token.wanted).count();
        match self.mode {
            Mode::Apart => self.exactly_so(&share),
            Mode::Together => Ok(()),
        }
    }

    /// What the share has once both sites show the same.
    fn agreed(&mut self) -> Outcome<BTreeMap<String, Entry>> {
        let mut told = String::new();
        for look in 0..LOOKS {
            for site in &self.sites {
                site.until_online();
                site.sync().map_err(|error| format!("sync at the end: {error}"))?;
            }
            // What failed is asked again, ever later.
            for site in &self.sites {
                site.pause(site.config.freshness * 3 + Duration::from_secs(look * look));
            }
            let share: BTreeMap<String, Entry> = self.sites[0]
                .memory
                .tree()
                .into_iter()
                .filter(|(path, _)| !path.is_root())
                .map(|(path, entry)| (path.to_string().trim_start_matches('/').to_owned(), entry))
                .collect();
            // Both look, whatever the first one sees: a look mends what only that site can.
            let [first, second] = [0, 1].map(|site| self.shows(site, &share));
            match first.and(second) {
                Ok(()) => return Ok(share),
                Err(wrong) => told = wrong,
            }
        }
        Err(format!("they never agree: {told}"))
    }

    /// Whether a site has what the share has.
    fn shows(&self, number: usize, share: &BTreeMap<String, Entry>) -> Outcome<()> {
        let site = &self.sites[number];
        let shown = site.paths().map_err(|error| format!("list at {number}: {error}"))?;
        let there: BTreeMap<String, bool> =
            share.iter().map(|(path, entry)| (path.clone(), *entry == Entry::Dir)).collect();
        if shown != there {
            return Err(format!("{number} has {shown:?}, the share {there:?}"));
        }
        for (path, entry) in share {
            let (mode, there) = (site.mode(path), site.mode_there(path));
            if mode != there {
                return Err(format!(
                    "{path} has mode {mode:?} at {number}, {there:?} on the share"
                ));
            }
            let Entry::File(bytes) = entry else { continue };
            let read = site.read(path).map_err(|error| format!("{path} at {number}: {error}"))?;
            if read != *bytes {
                return Err(format!("{path} is another file at {number} than on the share"));
            }
        }
        Ok(())
    }

    /// Equal for two runs that did the same.
    fn digest(&self, share: &BTreeMap<String, Entry>) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{share:?}").hash(&mut hasher);
        for site in &self.sites {
            site.remote.requests_all().hash(&mut hasher);
            site.looks_at_the_clock().hash(&mut hasher);
        }
        hasher.finish()
    }

    fn nothing_lost(&self, share: &BTreeMap<String, Entry>) -> Outcome<()> {
        let mut there = Tokens::new();
        for entry in share.values() {
            if let Entry::File(bytes) = entry {
                there.extend(self.parse(bytes)?);
            }
        }
        let lost: Vec<String> = self
            .tokens
            .iter()
            .enumerate()
            .filter(|(number, token)| token.wanted && !there.contains(number))
            .map(|(number, token)| format!("write {number} of site {}", token.site))
            .collect();
        match lost.is_empty() {
            true => Ok(()),
            false => Err(format!("lost: {lost:?} of {:?}", share.keys())),
        }
    }

    fn exactly_so(&self, share: &BTreeMap<String, Entry>) -> Outcome<()> {
        if self.told.conflicts > 0 {
            let all: Vec<_> = self.sites.iter().map(|site| site.vfs().conflicts()).collect();
            return Err(format!("nobody was in anybody's way: {all:?}"));
        }
        let mut made = Tree::new();
        for (path, entry) in share {
            made.insert(
                path.clone(),
                match entry {
                    Entry::File(bytes) => Some(self.parse(bytes)?),
                    _ => None,
                },
            );
        }
        for (site, models) in self.models.iter().enumerate() {
            let own: Tree = made
                .iter()
                .filter(|(path, _)| {
                    path.split('/').next().is_some_and(|top| top.contains(&site.to_string()))
                })
                .map(|(path, held)| (path.clone(), held.clone()))
                .collect();
            if !models.contains(&own) {
                return Err(format!("site {site} made {models:?}, the share has {own:?}"));
            }
        }
        Ok(())
    }
}
