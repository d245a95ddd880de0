//! A disk in memory that crashes, loses power, fills up and fails when a test says so.
//!
//! It keeps less than a real one would: after a power cut a page of 4 KiB that no `sync_data`
//! covered is the old or the new one at random, and a name that no `sync_dir` covered is there or
//! not at random, each by itself. A failed `sync_data` leaves what it should have covered lost for
//! good, as Linux does. Handles from before a crash or a power cut answer every call with an error.

mod image;
mod state;

use super::{Abilities, Disk, DiskFile, DiskSpace, Held, Listed, Readable};
use crate::ranges::RangeSet;
use image::{Image, PAGE, Random};
use state::{Fault, NameChange, State};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// What can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum DiskOp {
    Create,
    Remove,
    Rename,
    SyncDir,
    Read,
    Write,
    SetLen,
    Punch,
    Reserve,
    SyncData,
}

/// The disk. Clones are the same disk; a test keeps one.
#[derive(Clone)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

impl MemoryDisk {
    /// An empty disk of so many bytes; `u64::MAX` never fills.
    pub fn new(capacity: u64) -> Self {
        let state = State {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            unsynced: Vec::new(),
            next: 1,
            boot: 1,
            life: 0,
            capacity,
            faults: Vec::new(),
            ops_left: None,
            bytes_left: None,
            killed: false,
            hides_holes: false,
            makes_no_holes: false,
            held: Held::Nobody,
            lends: false,
            writes: 0,
        };
        MemoryDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// kill -9: everything that was written stays, every handle dies.
    pub fn crash(&self) {
        self.state().begin_life();
    }

    /// A power cut: what was not synced is there or not, by the seed; the machine starts again.
    pub fn power_loss(&self, seed: u64) {
        let mut state = self.state();
        let mut random = Random(seed);
        let mut names = std::mem::take(&mut state.durable);
        for change in std::mem::take(&mut state.unsynced) {
            if random.coin() {
                change.apply(&mut names);
            }
        }
        state.names = names.clone();
        state.durable = names;
        let mut ids: Vec<u64> = state.files.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(image) = state.files.get_mut(&id) {
                image.power_loss(&mut random);
            }
        }
        state.boot += 1;
        state.files.values_mut().for_each(|image| (image.readers, image.writers) = (0, 0));
        state.begin_life();
    }

    /// The next call of this kind fails. A write that fails may have written some of its bytes.
    pub fn fail_next(&self, op: DiskOp, kind: io::ErrorKind) {
        self.fail_after(op, 0, kind);
    }

    /// So many calls of this kind succeed, then one fails.
    pub fn fail_after(&self, op: DiskOp, skip: u64, kind: io::ErrorKind) {
        self.state().faults.push(Fault { op, skip, kind });
    }

    /// From now on it is a disk that cannot tell holes from data.
    pub fn hide_holes(&self) {
        self.state().hides_holes = true;
    }

    /// From now on it is a disk that makes no holes, as FAT is: only whole files give room back.
    pub fn make_no_holes(&self) {
        let mut state = self.state();
        state.makes_no_holes = true;
        state.hides_holes = true;
    }

    /// From now on somebody has each file open or in a mapping.
    pub fn hold(&self, held: Held) {
        self.state().held = held;
    }

    /// From now on its files are lent.
    pub fn lend_files(&self) {
        self.state().lends = true;
    }

    /// Somebody has a file as it is now: open, or in a mapping.
    pub fn loan(&self, path: &str, writes: bool) -> io::Result<Loan> {
        let mut state = self.state();
        let (id, boot) = (state.find(path)?, state.boot);
        *state.files.get_mut(&id).expect("named files are kept").loans(writes) += 1;
        Ok(Loan { disk: self.clone(), id, boot, writes })
    }

    /// A mapping that somebody has writes a byte, unseen by whoever has the file open.
    pub fn write_unseen(&self, path: &str, byte: u8, offset: u64) {
        let mut state = self.state();
        let id = state.find(path).expect("a file of that name");
        let (free, now) = (state.free(), state.write());
        let image = state.files.get_mut(&id).expect("named files are kept");
        image.modified = Duration::from_secs(now);
        image.write(&[byte], offset, free).expect("a byte that is there");
    }

    /// The process dies at its so-many-th change of the disk from now (0: the next one); from then
    /// on every call fails until `crash` or `power_loss`.
    pub fn kill_after_ops(&self, ops: u64) {
        self.state().ops_left = Some(ops);
    }

    /// The process dies in the middle of a write, after so many more bytes.
    pub fn kill_after_bytes(&self, bytes: u64) {
        self.state().bytes_left = Some(bytes);
    }

    /// Whether the process died.
    pub fn is_killed(&self) -> bool {
        self.state().killed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.enter(None)?;
        let id = match state.find(path) {
            Err(_) if create => {
                state.enter(Some(DiskOp::Create))?;
                let id = state.next;
                state.next += 1;
                state.files.insert(id, Image::default());
                state.change(NameChange::Put(path.to_owned(), id));
                id
            }
            other => other?,
        };
        let life = state.life;
        state.files.get_mut(&id).expect("named files are kept").handles += 1;
        Ok(Arc::new(MemoryFile { disk: self.clone(), id, life }))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.enter(Some(DiskOp::Remove))?;
        state.find(path)?;
        state.change(NameChange::Remove(path.to_owned()));
        state.collect();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.enter(Some(DiskOp::Rename))?;
        let id = state.find(from)?;
        state.change(NameChange::Rename(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let mut state = self.state();
        state.enter(None)?;
        Ok(state.names.contains_key(path))
    }

    fn allocated(&self, path: &str) -> io::Result<u64> {
        let mut state = self.state();
        state.enter(None)?;
        let id = state.find(path)?;
        Ok(state.files[&id].allocated())
    }

    fn list(&self, dir: &str, recursive: bool) -> io::Result<Vec<Listed>> {
        let mut state = self.state();
        state.enter(None)?;
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let below = state.names.iter().filter_map(|(name, id)| {
            let path = name.strip_prefix(&prefix)?;
            (recursive || !path.contains('/')).then_some((path, id))
        });
        Ok(below
            .map(|(path, id)| {
                let image = &state.files[id];
                Listed { path: path.to_owned(), len: image.len(), allocated: image.allocated() }
            })
            .collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.enter(Some(DiskOp::SyncDir))?;
        let changes = std::mem::take(&mut state.unsynced).into_iter();
        let (now, later): (Vec<_>, Vec<_>) = changes.partition(|change| change.touches(dir));
        state.unsynced = later;
        for change in now {
            change.apply(&mut state.durable);
        }
        state.collect();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.state();
        state.enter(Some(DiskOp::SyncData))?;
        state.unsynced.clear();
        state.durable = state.names.clone();
        state.files.values_mut().for_each(Image::sync);
        state.collect();
        Ok(())
    }

    fn abilities(&self) -> Abilities {
        Abilities { holes: !self.state().makes_no_holes, syncs_at_once: true }
    }

    /// What a kernel would read shows in the loans.
    fn lend(&self, path: &str) -> io::Result<Option<Readable>> {
        let mut state = self.state();
        state.enter(None)?;
        if !state.lends {
            return Ok(None);
        }
        let id = state.find(path)?;
        let file = tempfile::tempfile()?;
        file.set_len(state.files[&id].len())?;
        Ok(Some(Readable { file }))
    }

    fn held(&self, path: &str) -> io::Result<Held> {
        let state = self.state();
        let Some(image) = state.find(path).ok().and_then(|id| state.files.get(&id)) else {
            return Ok(state.held);
        };
        Ok(match (image.writers, image.readers) {
            (0, 0) => state.held,
            (0, _) => Held::Readers,
            _ => Held::Writers,
        })
    }

    fn space(&self) -> io::Result<DiskSpace> {
        let mut state = self.state();
        state.enter(None)?;
        Ok(DiskSpace { total: state.capacity, free: state.free() })
    }

    fn boot_id(&self) -> u64 {
        self.state().boot
    }

    fn index_path(&self) -> Option<PathBuf> {
        None
    }

    fn write_small(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{path}.tmp");
        let file = self.open(&temporary, true)?;
        file.set_len(0)?;
        file.write_at(bytes, 0)?;
        file.sync_data()?;
        self.rename(&temporary, path)?;
        self.sync_dir(parent(path))
    }

    fn read_small(&self, path: &str) -> io::Result<Vec<u8>> {
        let file = self.open(path, false)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// A file that somebody has past the process under test: it survives that, but no power cut.
pub struct Loan {
    disk: MemoryDisk,
    id: u64,
    boot: u64,
    writes: bool,
}

impl Loan {
    /// All of it.
    pub fn read(&self) -> Vec<u8> {
        let state = self.disk.state();
        let image = &state.files[&self.id];
        let mut bytes = vec![0; image.len() as usize];
        image.read(&mut bytes, 0);
        bytes
    }

    /// Writes over bytes that it has, at this time; whether it has them.
    pub fn write(&self, bytes: &[u8], offset: u64, time: Duration) -> bool {
        let mut state = self.disk.state();
        let free = state.free();
        let image = state.files.get_mut(&self.id).expect("lent files are kept");
        if image.len() < offset + bytes.len() as u64 {
            return false;
        }
        image.modified = time;
        image.write(bytes, offset, free).is_ok()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot == self.boot {
            *state.files.get_mut(&self.id).expect("lent files are kept").loans(self.writes) -= 1;
            state.collect();
        }
    }
}

/// A handle.
struct MemoryFile {
    disk: MemoryDisk,
    id: u64,
    life: u64,
}

impl MemoryFile {
    /// Runs `act` on the file with the bytes that are free on the disk.
    fn on<T>(
        &self,
        op: Option<DiskOp>,
        act: impl FnOnce(&mut Image, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.disk.state();
        self.check_life(&state)?;
        state.enter(op)?;
        let free = if op == Some(DiskOp::Reserve) { state.free() } else { 0 };
        act(state.files.get_mut(&self.id).expect("open files are kept"), free)
    }

    fn check_life(&self, state: &State) -> io::Result<()> {
        if state.life == self.life {
            return Ok(());
        }
        Err(io::Error::other("a handle from before the crash"))
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.on(Some(DiskOp::Read), |image, _| Ok(image.read(buffer, offset)))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        self.check_life(&state)?;
        let was_killed = state.killed;
        let entered = state.enter(Some(DiskOp::Write));
        let mut allowed = match &entered {
            Ok(()) => bytes.len(),
            Err(_) if was_killed => 0,
            Err(_) => bytes.len() / 2,
        };
        if let Some(left) = state.bytes_left {
            state.killed |= left < bytes.len() as u64;
            allowed = allowed.min(left as usize);
            state.bytes_left = Some(left - allowed as u64);
        }
        let (free, now) = (state.free(), state.write());
        let image = state.files.get_mut(&self.id).expect("open files are kept");
        image.modified = Duration::from_secs(now);
        let written = image.write(&bytes[..allowed], offset, free);
        entered?;
        if allowed < bytes.len() {
            return Err(io::Error::other("the process was killed"));
        }
        written
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.on(Some(DiskOp::SetLen), |image, _| {
            image.set_len(len);
            Ok(())
        })
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        if self.disk.state().makes_no_holes {
            let end = range.end.min(self.len()?);
            let zeros = vec![0; end.saturating_sub(range.start) as usize];
            return self.write_at(&zeros, range.start);
        }
        self.on(Some(DiskOp::Punch), |image, _| {
            image.punch(range);
            Ok(())
        })
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.on(Some(DiskOp::Reserve), |image, free| image.reserve(range, free))
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.on(Some(DiskOp::SyncData), |image, _| {
            image.sync();
            Ok(())
        });
        if synced.is_err() {
            let mut state = self.disk.state();
            if !state.killed
                && state.life == self.life
                && let Some(image) = state.files.get_mut(&self.id)
            {
                image.lose();
            }
        }
        synced
    }

    fn len(&self) -> io::Result<u64> {
        self.on(None, |image, _| Ok(image.len()))
    }

    fn allocated(&self) -> io::Result<u64> {
        self.on(None, |image, _| Ok(image.allocated()))
    }

    /// Each write of any file is a second.
    fn modified(&self) -> io::Result<SystemTime> {
        self.on(None, |image, _| Ok(SystemTime::UNIX_EPOCH + image.modified))
    }

    fn data_ranges(&self, within: Range<u64>) -> io::Result<RangeSet> {
        let hides = self.disk.state().hides_holes;
        self.on(None, |image, _| match hides {
            true => Ok(std::iter::once(within).collect()),
            false => Ok(image.data_ranges(within)),
        })
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life
            && let Some(image) = state.files.get_mut(&self.id)
        {
            image.handles -= 1;
            if image.handles == 0 {
                state.collect();
            }
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

const _: () = assert!(PAGE == 4096, "what st_blocks counts in");
