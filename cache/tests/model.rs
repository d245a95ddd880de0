//! Random operations against a plain model: what is read, listed and stat'ed is what the model
//! says, through evictions, restarts, crashes, a lost index and edits from outside; in the end the
//! share has just that, and no conflict. Over a share in memory, and over an Azure share.
//!
//! `COVEFS_MODEL_ROUNDS=200 COVEFS_SEED=7 cargo test -p covefs-cache --test model` for longer runs.
#![allow(clippy::unwrap_used)]

mod harness;
#[path = "model/share.rs"]
mod share;

use covefs_cache::*;
use covefs_remote::Remote;
use covefs_remote::fault::FaultRemote;
use covefs_remote::memory::Entry as Held;
use covefs_remote::memory::MemoryRemote;
use harness::*;
use share::Share;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ROUNDS: u64 = 8;
const STEPS: u64 = 220;
const LIMIT: u64 = 64 << 20;
/// Directories at the top; only the last two are ever edited from outside.
const TOPS: [&str; 4] = ["a", "b", "x", "y"];

#[derive(Clone, Debug, PartialEq)]
enum Kept {
    File(u64),
    Dir,
    Symlink(Vec<u8>),
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    bytes: Vec<u8>,
    mode: u32,
    /// Set by utimes, until the next write.
    mtime: Option<Timestamp>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug)]
struct Open {
    fh: Fh,
    id: u64,
    how: OpenMode,
}

struct World {
    /// First, so that it ends before its share does.
    rig: Rig,
    share: Share,
    random: Random,
    names: BTreeMap<String, Kept>,
    files: BTreeMap<u64, Bytes>,
    open: Vec<Open>,
    /// Directories at the top that belong to the outside now.
    theirs: Vec<&'static str>,
    next: u64,
    log: Vec<String>,
}

fn below(path: &str, dir: &str) -> bool {
    path.len() > dir.len() && path.starts_with(dir) && path.as_bytes()[dir.len()] == b'/'
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl World {
    fn new(seed: u64, share: Share) -> World {
        TOPS.iter().for_each(|top| share.write_dir(top));
        let memory = match &share {
            Share::Memory(memory) => memory.clone(),
            Share::Azure(_) => Arc::new(MemoryRemote::new()),
        };
        let rig = Rig::over(share.remote(), memory, |_, config| {
            config.limit_bytes = LIMIT;
            config.debounce = Duration::from_millis(seed % 3 * 15);
        });
        let names = TOPS.iter().map(|top| ((*top).to_owned(), Kept::Dir)).collect();
        World {
            rig,
            share,
            random: Random::seeded(seed),
            names,
            files: BTreeMap::new(),
            open: Vec::new(),
            theirs: vec!["y"],
            next: 1,
            log: Vec::new(),
        }
    }

    fn is_theirs(&self, path: &str) -> bool {
        self.theirs.iter().any(|top| path == *top || below(path, top))
    }

    fn say(&mut self, what: String) {
        if std::env::var_os("COVEFS_VERBOSE").is_some() {
            eprintln!("{what}");
        }
        self.log.push(what);
    }

    /// Paths of a kind that the local side may change (or the outside, with `theirs`).
    fn paths(&self, theirs: bool, wanted: impl Fn(&Kept) -> bool) -> Vec<String> {
        let all =
            self.names.iter().filter(|(path, kept)| wanted(kept) && self.is_theirs(path) == theirs);
        all.map(|(path, _)| path.clone()).collect()
    }

    fn file(&mut self) -> Option<(String, u64)> {
        let files = self.paths(false, |kept| matches!(kept, Kept::File(_)));
        let path = self.random.pick(&files)?;
        let Kept::File(id) = self.names[&path] else { unreachable!() };
        Some((path, id))
    }

    fn dir(&mut self) -> String {
        let dirs = self.paths(false, |kept| *kept == Kept::Dir);
        self.random.pick(&dirs).unwrap()
    }

    /// A path in a directory of ours, taken or not, not too deep.
    fn spot(&mut self, names: &str) -> String {
        let mut dir = self.dir();
        while dir.matches('/').count() >= 3 {
            dir = parent(&dir).to_owned();
        }
        format!("{dir}/{names}{}", self.random.below(5))
    }

    fn some_bytes(&mut self) -> Vec<u8> {
        let len = match self.random.below(20) {
            0 => 200 << 10,
            1..4 => 70 << 10,
            4..8 => 5000,
            _ => 100,
        };
        let len = 1 + self.random.below(len) as usize;
        pattern(self.random.next(), len)
    }

    fn some_offset(&mut self, size: u64) -> u64 {
        match self.random.below(8) {
            0 => size,
            1 => size + self.random.below(200_000),
            2 if self.random.one_in(4) => size + self.random.below(6 << 20),
            _ => self.random.below(size + 1),
        }
    }

    fn content(&mut self, id: u64) -> &mut Bytes {
        self.files.get_mut(&id).unwrap()
    }

    fn wrote(&mut self, id: u64, at: u64, data: &[u8]) {
        let file = self.content(id);
        let end = at as usize + data.len();
        if file.bytes.len() < end {
            file.bytes.resize(end, 0);
        }
        file.bytes[at as usize..end].copy_from_slice(data);
        file.mtime = None;
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..10 => self.save(),
            10..24 => self.write(),
            24..30 => self.resize(),
            30..36 => self.allocate(),
            36..47 => self.rename(),
            47..50 => self.exchange(),
            50..56 => self.remove(),
            56..61 => self.make_dir(),
            61..63 => self.link(),
            63..67 => self.attributes(),
            67..70 => self.xattr(),
            70..74 => self.open_one(),
            74..78 => self.close_one(),
            78..82 => self.read_handle(),
            82..88 => self.look(),
            88..90 => self.fsync(),
            90..92 => self.evict(),
            92..94 => self.sync(),
            94..95 => self.restart(),
            95..97 => self.outside(),
            97 => self.hand_over(),
            98 => self.resize_cache(),
            _ => {
                let pause = self.random.below(40);
                self.rig.pause(Duration::from_millis(pause));
            }
        }
    }

    fn save(&mut self) {
        let spot = self.spot("f");
        let data = self.some_bytes();
        self.say(format!("save {spot} {}", data.len()));
        let result = self.rig.save(&spot, &data);
        match self.names.get(&spot) {
            None => {
                result.unwrap();
                let id = self.next;
                self.next += 1;
                self.files.insert(id, Bytes { bytes: data, mode: 0o644, ..Bytes::default() });
                self.names.insert(spot, Kept::File(id));
            }
            Some(Kept::File(id)) => {
                result.unwrap();
                let id = *id;
                self.content(id).bytes.clear();
                self.wrote(id, 0, &data);
            }
            Some(Kept::Dir) => assert_eq!(result.unwrap_err().kind, ErrorKind::IsADirectory),
            Some(Kept::Symlink(_)) => assert_eq!(result.unwrap_err().kind, ErrorKind::Invalid),
        }
    }

    /// Through a handle that is open, or by path.
    fn write(&mut self) {
        let writable: Vec<Open> = self.open.iter().filter(|open| open.how.write).cloned().collect();
        let data = self.some_bytes();
        if let Some(open) = self.random.pick(&writable).filter(|_| self.random.one_in(2)) {
            let size = self.files[&open.id].bytes.len() as u64;
            let at = if open.how.append { size } else { self.some_offset(size) };
            self.say(format!("write {:?} of {} at {at} {}", open.fh, open.id, data.len()));
            self.rig.write_at(open.fh, at, &data).unwrap();
            self.wrote(open.id, at, &data);
        } else if let Some((path, id)) = self.file() {
            let size = self.files[&id].bytes.len() as u64;
            let at = self.some_offset(size);
            self.say(format!("edit {path} ({id}) at {at} {}", data.len()));
            self.rig.edit(&path, at, &data).unwrap();
            self.wrote(id, at, &data);
        }
    }

    fn resize(&mut self) {
        let Some((path, id)) = self.file() else { return };
        let size = self.files[&id].bytes.len() as u64;
        let to = self.some_offset(size);
        self.say(format!("resize {path} ({id}) {size} to {to}"));
        self.rig.resize(&path, to).unwrap();
        let file = self.content(id);
        file.bytes.resize(to as usize, 0);
        file.mtime = None;
    }

    fn allocate(&mut self) {
        let Some((path, id)) = self.file() else { return };
        let size = self.files[&id].bytes.len() as u64;
        let how = [Allocate::Grow, Allocate::Punch, Allocate::Zero, Allocate::ZeroKeep];
        let how = self.random.pick(&how).unwrap();
        let at = self.random.below(size + 1);
        let len = 1 + self.random.below(100_000);
        self.say(format!("{how:?} {path} ({id}) {at} {len} of {size}"));
        self.rig.allocate(&path, at, len, how).unwrap();
        let file = self.content(id);
        let end = (at + len) as usize;
        if matches!(how, Allocate::Grow | Allocate::Zero) && end > file.bytes.len() {
            file.bytes.resize(end, 0);
        }
        if how != Allocate::Grow {
            let end = end.min(file.bytes.len());
            file.bytes[(at as usize).min(end)..end].fill(0);
        }
        file.mtime = None;
    }

    /// What a rename onto an existing name answers; `None`: it is made.
    fn refused(&self, from: &str, to: &str, mode: RenameMode) -> Option<ErrorKind> {
        let (moving, target) = (self.names.get(from)?, self.names.get(to));
        if from == to {
            return None;
        }
        if below(to, from) {
            return Some(ErrorKind::Loop);
        }
        let target = target?;
        if mode == RenameMode::NoReplace {
            return Some(ErrorKind::Exists);
        }
        match (*moving == Kept::Dir, *target == Kept::Dir) {
            (true, false) => Some(ErrorKind::NotADirectory),
            (false, true) => Some(ErrorKind::IsADirectory),
            (true, true) if self.names.keys().any(|path| below(path, to)) => {
                Some(ErrorKind::NotEmpty)
            }
            _ => None,
        }
    }

    fn rename(&mut self) {
        let all = self.paths(false, |_| true);
        let all: Vec<String> = all.into_iter().filter(|path| path.contains('/')).collect();
        let Some(from) = self.random.pick(&all) else { return };
        let names = if self.names[&from] == Kept::Dir { "d" } else { "f" };
        let to =
            if self.random.one_in(6) { self.random.pick(&all).unwrap() } else { self.spot(names) };
        let mode = [RenameMode::Replace, RenameMode::Replace, RenameMode::NoReplace];
        let mode = self.random.pick(&mode).unwrap();
        self.say(format!("rename {from} {to} {mode:?}"));
        let refused = self.refused(&from, &to, mode);
        match (self.rig.rename(&from, &to, mode), refused) {
            (Ok(()), None) => {}
            (Err(error), Some(kind)) if error.kind == kind => return,
            // A directory above itself is not empty either.
            (Err(error), Some(_)) if below(&from, &to) && error.kind == ErrorKind::NotEmpty => {
                return;
            }
            (result, refused) => panic!("rename: {result:?}, the model says {refused:?}"),
        }
        if from != to {
            self.moved(&from, &to);
        }
    }

    fn moved(&mut self, from: &str, to: &str) {
        self.names.remove(to);
        let moving: Vec<String> =
            self.names.keys().filter(|path| *path == from || below(path, from)).cloned().collect();
        for path in moving {
            let kept = self.names.remove(&path).unwrap();
            self.names.insert(format!("{to}{}", &path[from.len()..]), kept);
        }
    }

    fn exchange(&mut self) {
        let all = self.paths(false, |_| true);
        let all: Vec<String> = all.into_iter().filter(|path| path.contains('/')).collect();
        let (Some(one), Some(two)) = (self.random.pick(&all), self.random.pick(&all)) else {
            return;
        };
        if one == two || below(&one, &two) || below(&two, &one) {
            return;
        }
        self.say(format!("exchange {one} {two}"));
        self.rig.rename(&one, &two, RenameMode::Exchange).unwrap();
        self.moved(&one, "swap");
        self.moved(&two, &one);
        self.moved("swap", &two);
    }

    fn remove(&mut self) {
        let all = self.paths(false, |_| true);
        let all: Vec<String> = all.into_iter().filter(|path| path.contains('/')).collect();
        let Some(path) = self.random.pick(&all) else { return };
        self.say(format!("remove {path}"));
        if self.names[&path] == Kept::Dir {
            let result = self.rig.rmdir(&path);
            if self.names.keys().any(|other| below(other, &path)) {
                assert_eq!(result.unwrap_err().kind, ErrorKind::NotEmpty);
                return;
            }
            result.unwrap();
        } else {
            self.rig.unlink(&path).unwrap();
        }
        self.names.remove(&path);
    }

    fn make_dir(&mut self) {
        let spot = self.spot("d");
        self.say(format!("mkdir {spot}"));
        let result = self.rig.mkdir(&spot);
        if self.names.contains_key(&spot) {
            assert_eq!(result.unwrap_err().kind, ErrorKind::Exists);
            return;
        }
        result.unwrap();
        self.names.insert(spot, Kept::Dir);
    }

    fn link(&mut self) {
        let spot = self.spot("f");
        let target = format!("to {}", self.random.below(100)).into_bytes();
        self.say(format!("symlink {spot}"));
        let result = self.rig.symlink(&spot, &target);
        if self.names.contains_key(&spot) {
            assert_eq!(result.unwrap_err().kind, ErrorKind::Exists);
            return;
        }
        result.unwrap();
        self.names.insert(spot, Kept::Symlink(target));
    }

    fn attributes(&mut self) {
        let Some((path, id)) = self.file() else { return };
        let mut change = SetAttr::default();
        let time = Timestamp { seconds: 1_000_000 + self.random.below(1000) as i64, nanos: 500 };
        if self.random.one_in(2) {
            change.mode = Some(0o600 + self.random.below(0o100) as u32);
        } else {
            change.mtime = Some(SetTime::At(time));
        }
        self.say(format!("setattr {path} ({id}) {change:?}"));
        self.rig.set(&path, change).unwrap();
        let file = self.content(id);
        file.mode = change.mode.unwrap_or(file.mode);
        if change.mtime.is_some() {
            file.mtime = Some(time);
        }
    }

    fn xattr(&mut self) {
        if !self.rig.remote.limits().has_xattrs() {
            return;
        }
        let Some((path, id)) = self.file() else { return };
        let name = format!("user.{}", self.random.below(3)).into_bytes();
        let value = pattern(self.random.next(), 10);
        self.say(format!("xattr {path} ({id})"));
        self.rig.set_xattr(&path, &name, &value).unwrap();
        self.content(id).xattrs.insert(name, value);
    }

    fn open_one(&mut self) {
        let Some((path, id)) = self.file() else { return };
        if self.open.len() >= 6 {
            return;
        }
        let how = self.random.pick(&[READ, WRITE, WRITE, APPEND]).unwrap();
        let fh = self.rig.open(&path, how).unwrap();
        self.say(format!("open {path} ({id}) {fh:?} write {} append {}", how.write, how.append));
        self.open.push(Open { fh, id, how });
    }

    fn close_one(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.random.below(self.open.len() as u64) as usize;
        let open = self.open.remove(at);
        self.say(format!("close {:?} of {}", open.fh, open.id));
        self.rig.close(open.fh);
    }

    fn read_handle(&mut self) {
        let Some(open) = self.random.pick(&self.open) else { return };
        let size = self.files[&open.id].bytes.len() as u64;
        let at = self.random.below(size + 1);
        let len = 1 + self.random.below(200_000) as usize;
        self.say(format!("read {:?} of {} at {at} {len}", open.fh, open.id));
        let read = self.rig.read_at(open.fh, at, len).unwrap();
        let wanted = &self.files[&open.id].bytes;
        same(&read, &wanted[at as usize..wanted.len().min(at as usize + len)]);
    }

    /// One file or directory, all of it.
    fn look(&mut self) {
        let all: Vec<String> = self.names.keys().cloned().collect();
        let path = self.random.pick(&all).unwrap();
        self.say(format!("look {path}"));
        self.check(&path);
    }

    fn check(&self, at: &str) {
        match &self.names[at] {
            Kept::File(id) => {
                let file = &self.files[id];
                let attr = self.rig.find(at).unwrap();
                assert_eq!(attr.size, file.bytes.len() as u64, "size of {at}");
                if !self.is_theirs(at) {
                    assert_eq!(attr.mode, file.mode, "mode of {at}");
                }
                if let Some(mtime) = file.mtime {
                    assert_eq!(attr.mtime, mtime, "mtime of {at}");
                }
                assert!(attr.blocks > 0 || attr.size == 0, "rule R4: {at} has no blocks");
                let read = self.rig.read(at).unwrap();
                if read != file.bytes {
                    let state = self.rig.xattr(at, b"user.covefs.state").unwrap();
                    let there = self.rig.there(at);
                    eprintln!(
                        "{at} is {}; as read there: {}, as wanted there: {}",
                        String::from_utf8(state).unwrap(),
                        there.as_ref() == Some(&read),
                        there.as_ref() == Some(&file.bytes),
                    );
                }
                same(&read, &file.bytes);
                for (name, value) in &file.xattrs {
                    assert_eq!(&self.rig.xattr(at, name).unwrap(), value, "xattr of {at}");
                }
            }
            Kept::Dir => {
                let mut wanted: Vec<String> = self
                    .names
                    .keys()
                    .filter(|path| path.contains('/') && parent(path) == at)
                    .map(|path| path.rsplit_once('/').unwrap().1.to_owned())
                    .collect();
                wanted.sort();
                assert_eq!(self.rig.names(at).unwrap(), wanted, "names in {at}");
            }
            Kept::Symlink(target) => {
                let ino = self.rig.find(at).unwrap().ino;
                let held = self.rig.ask(|vfs, asked| vfs.readlink(asked, ino)).unwrap();
                assert_eq!(&held, target, "target of {at}");
            }
        }
    }

    fn check_all(&mut self) {
        let all: Vec<String> = self.names.keys().cloned().collect();
        all.iter().for_each(|path| self.check(path));
        let limit = self.rig.vfs().status().cache.limit_bytes;
        let allocated = self.rig.allocated();
        assert!(allocated <= limit + (4 << 20), "rule E2: {allocated} of {limit}");
    }

    fn fsync(&mut self) {
        let Some((path, id)) = self.file() else { return };
        self.say(format!("fsync {path} ({id})"));
        self.rig.fsync(&path).unwrap();
    }

    fn evict(&mut self) {
        let top = self.random.pick(&TOPS).unwrap();
        self.say(format!("evict {top}"));
        self.rig.evict(top);
    }

    fn sync(&mut self) {
        self.say("sync".to_owned());
        self.rig.sync();
        self.compare_share();
        self.scrub();
    }

    /// Nothing rots here: every checksum of what was fetched and sent is that of its bytes (D1).
    fn scrub(&self) -> u64 {
        let report = self.rig.wait(self.rig.vfs().scrub(&|_| ())).unwrap();
        assert_eq!(report.problems, [""; 0]);
        report.checked_bytes
    }

    fn restart(&mut self) {
        self.open.clear();
        match self.random.below(4) {
            0 => {
                self.say("restart".to_owned());
                self.rig.stop();
            }
            1 => {
                self.say("crash, index deleted".to_owned());
                self.rig.crash(Index::Deleted);
            }
            _ => {
                self.say("crash".to_owned());
                self.rig.crash(Index::Kept);
            }
        }
        self.rig.remote = Arc::new(FaultRemote::new(self.share.remote()));
        self.rig.start();
        self.check_all();
    }

    /// Somebody else edits in a directory that is theirs now.
    fn outside(&mut self) {
        let Some(top) = self.random.pick(&self.theirs.clone()) else { return };
        let spot = format!("{top}/f{}", self.random.below(5));
        if matches!(self.names.get(&spot), Some(Kept::Dir | Kept::Symlink(_))) {
            return;
        }
        if self.names.contains_key(&spot) && self.random.one_in(3) {
            self.say(format!("outside removes {spot}"));
            assert!(self.share.remove(&spot));
            self.names.remove(&spot);
        } else {
            let data = self.some_bytes();
            self.say(format!("outside writes {spot} {}", data.len()));
            self.share.write(&spot, &data);
            let mode = match self.names.get(&spot) {
                Some(Kept::File(id)) => (self.files[id].mode, self.files[id].xattrs.clone()),
                _ => (0o644, BTreeMap::new()),
            };
            let id = self.next;
            self.next += 1;
            let file = Bytes { bytes: data, mode: mode.0, mtime: None, xattrs: mode.1 };
            self.files.insert(id, file);
            self.names.insert(spot, Kept::File(id));
        }
        self.rig.age();
    }

    /// A directory changes hands, when all of it is in step and nothing of it is open.
    fn hand_over(&mut self) {
        let top = ["x", "y"][self.random.below(2) as usize];
        self.say(format!("hand over {top}"));
        for open in std::mem::take(&mut self.open) {
            self.rig.close(open.fh);
        }
        self.rig.sync();
        if self.theirs.contains(&top) {
            self.theirs.retain(|theirs| *theirs != top);
            self.rig.age();
        } else {
            self.theirs.push(top);
        }
    }

    fn resize_cache(&mut self) {
        let bytes = LIMIT + (self.random.below(64) << 20);
        self.say(format!("resize the cache to {bytes}"));
        // Too much may be dirty for it.
        let _ = self.rig.wait(self.rig.vfs().resize(bytes));
    }

    /// The share has just what the model has, attributes too.
    fn compare_share(&self) {
        self.rig.until("nothing passing is left", |_| self.share.is_at_rest());
        let there = self.rig.wait(self.share.tree());
        let (mine, theirs): (Vec<_>, Vec<_>) =
            (self.names.keys().cloned().collect(), there.keys().cloned().collect());
        assert_eq!(theirs, mine, "names on the share, names in the model");
        for (at, (held, found)) in &there {
            match (held, &self.names[at]) {
                (Held::Dir, Kept::Dir) => {}
                (Held::Symlink(there), Kept::Symlink(here)) => assert_eq!(there, here),
                (Held::File(there), Kept::File(id)) => {
                    let file = &self.files[id];
                    same(there, &file.bytes);
                    assert_eq!(found.mode, Some(file.mode), "mode of {at} on the share");
                    if let Some(mtime) = file.mtime {
                        assert_eq!(found.mtime, mtime, "mtime of {at} on the share");
                    }
                    let xattrs: Vec<_> = file.xattrs.clone().into_iter().collect();
                    let kept = self.rig.remote.limits().has_xattrs().then_some(xattrs);
                    assert_eq!(found.xattrs, kept, "xattrs of {at} on the share");
                }
                (there, here) => panic!("{at} is {there:?} on the share, {here:?} in the model"),
            }
        }
        assert_eq!(self.rig.conflicts(), [], "a conflict with nobody");
    }
}

fn round(seed: u64, steps: u64, share: Share) {
    let mut world = World::new(seed, share);
    let run = std::panic::AssertUnwindSafe(|| {
        for _ in 0..steps {
            world.step();
        }
        world.rig.age();
        world.check_all();
        world.rig.sync();
        world.compare_share();
        world.check_all();
        assert!(world.scrub() > 0, "checksums of nothing");
    });
    if let Err(panic) = std::panic::catch_unwind(run) {
        let last = world.log.len().saturating_sub(40);
        eprintln!("{}", world.log[last..].join("\n"));
        eprintln!("seed {seed}, after {} steps", world.log.len());
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn the_drive_is_as_the_model_and_so_is_the_share() {
    rounds(env_number("COVEFS_MODEL_ROUNDS", ROUNDS), Share::memory);
}

/// A quarter of the rounds: each change takes several requests.
#[test]
fn the_drive_is_as_the_model_and_so_is_an_azure_share() {
    rounds(env_number("COVEFS_MODEL_ROUNDS", ROUNDS).div_ceil(4), Share::azure);
}

fn rounds(count: u64, share: fn() -> Share) {
    let first = env_number("COVEFS_SEED", 1);
    let steps = env_number("COVEFS_MODEL_STEPS", STEPS);
    for seed in first..first + count {
        round(seed, steps, share());
    }
}
