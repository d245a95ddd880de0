//! Names, faults and free room of a [`super::MemoryDisk`].

use super::image::Image;
use super::{DiskOp, Held, parent};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

pub(super) struct State {
    pub files: BTreeMap<u64, Image>,
    pub names: BTreeMap<String, u64>,
    /// What the names are after a power cut, but for the changes in `unsynced`.
    pub durable: BTreeMap<String, u64>,
    pub unsynced: Vec<NameChange>,
    pub next: u64,
    pub boot: u64,
    /// Counts crashes and power cuts; a handle of an earlier life is dead.
    pub life: u64,
    pub capacity: u64,
    pub faults: Vec<Fault>,
    pub ops_left: Option<u64>,
    pub bytes_left: Option<u64>,
    pub killed: bool,
    /// It tells of no holes: all of a file counts as data.
    pub hides_holes: bool,
    pub makes_no_holes: bool,
    /// Who has its files besides the one under test.
    pub held: Held,
    /// Its files may be lent.
    pub lends: bool,
    pub writes: u64,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Put(String, u64),
    Remove(String),
    Rename(String, String, u64),
}

pub(super) struct Fault {
    pub op: DiskOp,
    pub skip: u64,
    pub kind: io::ErrorKind,
}

impl NameChange {
    pub fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Put(name, id) => {
                names.insert(name, id);
            }
            NameChange::Remove(name) => {
                names.remove(&name);
            }
            NameChange::Rename(from, to, id) => {
                names.remove(&from);
                names.insert(to, id);
            }
        }
    }

    pub fn touches(&self, dir: &str) -> bool {
        match self {
            NameChange::Put(name, _) | NameChange::Remove(name) => parent(name) == dir,
            NameChange::Rename(from, to, _) => parent(from) == dir || parent(to) == dir,
        }
    }
}

impl State {
    /// Called first by every operation; `op` is `None` for those that change and fail nothing.
    pub fn enter(&mut self, op: Option<DiskOp>) -> io::Result<()> {
        if self.killed {
            return Err(io::Error::other("the process was killed"));
        }
        let Some(op) = op else { return Ok(()) };
        if op != DiskOp::Read
            && let Some(left) = &mut self.ops_left
        {
            if *left == 0 {
                self.killed = true;
                return Err(io::Error::other("the process was killed"));
            }
            *left -= 1;
        }
        if let Some(at) = self.faults.iter().position(|fault| fault.op == op) {
            if self.faults[at].skip == 0 {
                let fault = self.faults.remove(at);
                return Err(io::Error::new(fault.kind, "a failure played by the test"));
            }
            self.faults[at].skip -= 1;
        }
        Ok(())
    }

    pub fn begin_life(&mut self) {
        self.life += 1;
        self.faults.clear();
        (self.ops_left, self.bytes_left, self.killed) = (None, None, false);
        for image in self.files.values_mut() {
            image.handles = 0;
        }
        self.collect();
    }

    /// The number of a write.
    pub fn write(&mut self) -> u64 {
        self.writes += 1;
        self.writes
    }

    /// Drops files that neither a name, nor a name that a power cut may bring back, nor a handle
    /// leads to.
    pub fn collect(&mut self) {
        let mut kept: BTreeSet<u64> = self.names.values().copied().collect();
        kept.extend(self.durable.values());
        for change in &self.unsynced {
            if let NameChange::Put(_, id) | NameChange::Rename(_, _, id) = change {
                kept.insert(*id);
            }
        }
        self.files.retain(|id, image| image.is_open() || kept.contains(id));
    }

    pub fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.unsynced.push(change);
    }

    /// What the files that have a name or a handle leave of the capacity.
    pub fn free(&self) -> u64 {
        // Counting all files at every write is too slow for a test that does not fill the disk.
        if self.capacity == u64::MAX {
            return u64::MAX;
        }
        let named: BTreeSet<&u64> = self.names.values().collect();
        let counted = self.files.iter().filter(|(id, image)| image.is_open() || named.contains(id));
        self.capacity.saturating_sub(counted.map(|(_, image)| image.allocated()).sum())
    }

    pub fn find(&self, path: &str) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
