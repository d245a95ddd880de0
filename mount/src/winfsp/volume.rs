//! The one place where a request runs, waits and is logged; finding, opening and making by path.
//!
//! WinFsp's threads may wait: there are enough of them (`threads` of `host`). Each wait has the
//! filesystem's deadline, and `WAIT_MAX` above it.

use super::Answer;
use super::facts::{self, Info, attribute};
use super::list::Item;
use super::path::{self, Name};
use super::reparse;
use crate::limits::WAIT_MAX;
use crate::ntstatus::{Status, status};
use covefs_cache::{
    Asked, Attr, Error, ErrorKind, Fh, Ino, Kind, Lookup, Need, OpenMode, Owner, Step, Vfs,
};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::time::timeout_at;
use tracing::{debug, error};

/// Links that may lead to one another; more is a circle.
const LINKS_MAX: usize = 16;

/// FILE_READ_DATA, FILE_WRITE_DATA, FILE_APPEND_DATA, FILE_EXECUTE (winnt.h).
const READS: u32 = 0x1 | 0x20;
const WRITES: u32 = 0x2 | 0x4;

/// How the drive is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    /// Its name in Explorer, of at most 32 units.
    pub label: String,
    /// Files that are not here are said to be offline.
    pub marks_cold: bool,
    /// No change is asked of the filesystem.
    pub read_only: bool,
    /// Who has what is made, where the share keeps owners.
    pub owner: Owner,
}

/// A mounted share by path.
pub(super) struct Volume {
    pub(super) vfs: Arc<Vfs>,
    pub(super) runtime: Handle,
    pub(super) settings: Settings,
}

/// One open file or directory. Windows may read and write through any handle of a file, whatever
/// it was opened for: the cache manager has its own mind.
pub(super) struct Open {
    pub(super) ino: Ino,
    pub(super) kind: Kind,
    /// The directory that it was found in; the root is in none.
    dir: Option<Ino>,
    held: Mutex<Held>,
    /// The names of a directory since its listing last began.
    pub(super) items: Mutex<Option<Arc<Vec<Item>>>>,
}

#[derive(Default)]
struct Held {
    reads: Option<Fh>,
    writes: Option<Fh>,
}

/// What opening ends with: the path as it is spelled there, too.
pub(super) struct Opened {
    pub open: Open,
    pub info: Info,
    pub path: Vec<u16>,
}

/// What is found at a path.
pub(super) struct Found {
    pub attr: Attr,
    /// The directory it is in, and its name as the share has it; the root has none.
    pub place: Option<(Ino, Vec<u8>)>,
    pub path: Vec<u16>,
}

/// What is to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Making {
    pub is_dir: bool,
    pub attributes: u32,
}

impl Volume {
    /// Runs an operation to its end.
    pub(super) fn ask<T>(
        &self,
        op: &'static str,
        mut run: impl FnMut(&Vfs, Asked) -> covefs_cache::Result<Step<T>>,
    ) -> Answer<T> {
        let asked = Asked::now().blocking();
        loop {
            match run(&self.vfs, asked) {
                Ok(Step::Done(answer)) => return Ok(answer),
                Ok(Step::Wait(need)) => self.met(op, asked, need)?,
                Err(error) => return Err(refuse(op, &error)),
            }
        }
    }

    /// Waits until the need is met.
    pub(super) fn met(&self, op: &'static str, asked: Asked, need: Need) -> Answer<()> {
        if need == Need::Thread {
            error!(op, "request waits for what it has");
            return Err(Status::IO_DEVICE_ERROR);
        }
        self.in_time(op, asked, self.vfs.wait(asked, need))
    }

    /// Waits for something of the filesystem's, within bounds.
    pub(super) fn in_time<T>(
        &self,
        op: &'static str,
        asked: Asked,
        work: impl Future<Output = covefs_cache::Result<T>>,
    ) -> Answer<T> {
        let limited = async { timeout_at(asked.since + WAIT_MAX, work).await };
        match self.runtime.block_on(limited) {
            Ok(done) => done.map_err(|error| refuse(op, &error)),
            Err(_) => {
                error!(op, "request waited in vain");
                Err(Status::IO_TIMEOUT)
            }
        }
    }

    /// What a program is shown of a file.
    pub(super) fn info(&self, attr: &Attr, place: Option<Ino>) -> Info {
        let is_link = attr.kind == Kind::Symlink;
        let leads = is_link && place.is_some_and(|dir| self.leads_to_dir(dir, attr.ino));
        facts::info(attr, leads, self.settings.marks_cold)
    }

    /// The same of an open one, which may have to be asked for.
    pub(super) fn info_of(&self, open: &Open) -> Answer<Info> {
        let attr = self.ask("getattr", |vfs, asked| vfs.getattr(asked, open.ino, None))?.attr;
        Ok(self.info(&attr, open.dir))
    }

    /// The same of one that was changed just now: by what is known here, so that no change waits for
    /// the share.
    pub(super) fn changed(&self, open: &Open) -> Answer<Info> {
        Ok(self.info(&self.attr(open)?, open.dir))
    }

    pub(super) fn attr(&self, open: &Open) -> Answer<Attr> {
        self.vfs.known(open.ino).map_err(|error| refuse("getattr", &error))
    }

    /// One name of a directory: as it is said, else the one that differs in case alone.
    pub(super) fn child(&self, dir: Ino, name: &Name) -> Answer<Option<(Vec<u8>, Attr)>> {
        for spelling in name.spellings() {
            let found = self.ask("lookup", |vfs, asked| vfs.lookup(asked, dir, spelling));
            match found {
                Ok(Lookup::Found(entry)) => return Ok(Some((spelling.to_vec(), entry.attr))),
                Ok(Lookup::Missing(_)) | Err(Status::OBJECT_NAME_INVALID) => {}
                Err(status) => return Err(status),
            }
        }
        for spelling in name.spellings() {
            let folded =
                self.ask("lookup", |vfs, asked| vfs.lookup_folded(asked, dir, spelling))?;
            if let Some((name, entry)) = folded {
                return Ok(Some((name, entry.attr)));
            }
        }
        Ok(None)
    }

    fn root(&self) -> Answer<Found> {
        let attr = self.ask("getattr", |vfs, asked| vfs.getattr(asked, Ino::ROOT, None))?.attr;
        Ok(Found { attr, place: None, path: path::join(std::iter::empty()) })
    }

    /// What stands at a path. `Err` says whether its name or its directory is missing.
    pub(super) fn find(&self, path: &[u16]) -> Answer<Found> {
        let names = path::split(path)?;
        let (dir, last) = self.walk(&names)?;
        let Some(last) = last else { return Ok(dir) };
        match self.child(dir.attr.ino, last)? {
            Some((name, attr)) => Ok(below(&dir, name, attr)),
            None => Err(Status::OBJECT_NAME_NOT_FOUND),
        }
    }

    /// The directory of a path, and the last name; the root has none.
    pub(super) fn walk<'a>(&self, names: &'a [Name]) -> Answer<(Found, Option<&'a Name>)> {
        let mut at = self.root()?;
        let Some((last, above)) = names.split_last() else { return Ok((at, None)) };
        for name in above {
            at = match self.child(at.attr.ino, name)? {
                Some((name, attr)) if attr.kind == Kind::Dir => below(&at, name, attr),
                _ => return Err(Status::OBJECT_PATH_NOT_FOUND),
            };
        }
        Ok((at, Some(last)))
    }

    /// Opens what is there.
    pub(super) fn open(
        &self,
        path: &[u16],
        wants_dir: Option<bool>,
        access: u32,
    ) -> Answer<Opened> {
        let found = self.find(path)?;
        let dir = found.dir();
        let info = self.info(&found.attr, dir);
        let is_dir = info.attributes & attribute::DIRECTORY != 0;
        match wants_dir {
            Some(true) if !is_dir => return Err(Status::NOT_A_DIRECTORY),
            Some(false) if is_dir => return Err(Status::FILE_IS_A_DIRECTORY),
            _ => {}
        }
        let writes = access & WRITES != 0;
        if writes && self.settings.read_only {
            return Err(Status::MEDIA_WRITE_PROTECTED);
        }
        let open = Open::new(&found.attr, dir, Held::default());
        // Who only looks at attributes is no reader, and nothing is fetched for it.
        if found.attr.kind == Kind::File && access & (READS | WRITES) != 0 {
            self.bytes(&open, writes)?;
        }
        Ok(Opened { open, info, path: found.path })
    }

    /// Makes a file or directory of a name that is free.
    pub(super) fn create(&self, path: &[u16], making: &Making) -> Answer<Opened> {
        if self.settings.read_only {
            return Err(Status::MEDIA_WRITE_PROTECTED);
        }
        let names = path::split(path)?;
        let (dir, last) = self.walk(&names)?;
        let Some(last) = last else { return Err(Status::OBJECT_NAME_COLLISION) };
        if self.child(dir.attr.ino, last)?.is_some() {
            return Err(Status::OBJECT_NAME_COLLISION);
        }
        let mut outcome = Err(Status::OBJECT_NAME_INVALID);
        for spelling in last.spellings() {
            outcome = self.make(&dir, spelling, making);
            if outcome.as_ref().err() != Some(&Status::OBJECT_NAME_INVALID) {
                break;
            }
        }
        outcome
    }

    fn make(&self, dir: &Found, name: &[u8], making: &Making) -> Answer<Opened> {
        let (parent, owner) = (dir.attr.ino, self.settings.owner);
        let (attr, held) = if making.is_dir {
            let made = self.ask("mkdir", |vfs, asked| vfs.mkdir(asked, owner, parent, name, 0o755));
            (made?.attr, Held::default())
        } else {
            let mode = facts::with_readonly(0o644, making.attributes);
            let how = OpenMode { read: true, write: true, exclusive: true, ..OpenMode::default() };
            let (entry, opened) =
                self.ask("create", |vfs, asked| vfs.create(asked, owner, parent, name, mode, how))?;
            (entry.attr, Held { reads: None, writes: Some(opened.fh) })
        };
        let found = below(dir, name.to_vec(), attr);
        let info = self.info(&found.attr, Some(parent));
        Ok(Opened { open: Open::new(&found.attr, Some(parent), held), info, path: found.path })
    }

    /// A handle to the bytes of an open file.
    pub(super) fn bytes(&self, open: &Open, writes: bool) -> Answer<Fh> {
        if open.kind == Kind::Dir {
            return Err(Status::FILE_IS_A_DIRECTORY);
        }
        let mut held = open.held();
        let known = if writes { held.writes } else { held.writes.or(held.reads) };
        if let Some(fh) = known {
            return Ok(fh);
        }
        let how = OpenMode { read: true, write: writes, ..OpenMode::default() };
        let opened = self.ask("open", |vfs, asked| vfs.open(asked, open.ino, how))?;
        *if writes { &mut held.writes } else { &mut held.reads } = Some(opened.fh);
        Ok(opened.fh)
    }

    /// The last close.
    pub(super) fn close(&self, open: Open) {
        let held = std::mem::take(&mut *open.held());
        [held.reads, held.writes].into_iter().flatten().for_each(|fh| self.vfs.release(fh));
    }

    /// What a symlink holds, as Windows reads it.
    pub(super) fn reparse_point(&self, path: &[u16]) -> Answer<Vec<u8>> {
        let found = match self.find(path) {
            Err(Status::OBJECT_NAME_NOT_FOUND | Status::OBJECT_PATH_NOT_FOUND) => {
                return Err(Status::NOT_A_REPARSE_POINT);
            }
            found => found?,
        };
        if found.attr.kind != Kind::Symlink {
            return Err(Status::NOT_A_REPARSE_POINT);
        }
        let ino = found.attr.ino;
        let link = self.ask("readlink", |vfs, asked| vfs.readlink(asked, ino))?;
        Ok(reparse::buffer(&link))
    }

    /// Whether a link ends at a directory of this drive.
    fn leads_to_dir(&self, dir: Ino, link: Ino) -> bool {
        let (mut dir, mut link) = (dir, link);
        for _ in 0..LINKS_MAX {
            match self.followed(dir, link) {
                Ok((_, attr)) if attr.kind == Kind::Dir => return true,
                Ok((beside, attr)) if attr.kind == Kind::Symlink => {
                    (dir, link) = (beside, attr.ino)
                }
                _ => return false,
            }
        }
        false
    }

    /// One step along a link from the directory that it is in: where it leads, and in which
    /// directory that is.
    fn followed(&self, dir: Ino, link: Ino) -> Answer<(Ino, Attr)> {
        let target = self.ask("readlink", |vfs, asked| vfs.readlink(asked, link))?;
        let mut at = if target.starts_with(b"/") { Ino::ROOT } else { dir };
        let mut above = at;
        let mut attr = self.ask("getattr", |vfs, asked| vfs.getattr(asked, at, None))?.attr;
        for name in target.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if name == b"." {
                continue;
            }
            above = at;
            attr = if name == b".." {
                let path = self.vfs.names_to(at).map_err(|error| refuse("follow", &error))?;
                let path = path.ok_or(Status::OBJECT_NAME_NOT_FOUND)?;
                let names = path.split_last().map(|(_, above)| above).unwrap_or_default();
                self.find(&path::join(names.iter().map(|name| &**name)))?.attr
            } else {
                match self.ask("lookup", |vfs, asked| vfs.lookup(asked, at, name))? {
                    Lookup::Found(entry) => entry.attr,
                    Lookup::Missing(_) => return Err(Status::OBJECT_NAME_NOT_FOUND),
                }
            };
            at = attr.ino;
        }
        Ok((above, attr))
    }
}

impl Found {
    /// The directory it is in.
    pub(super) fn dir(&self) -> Option<Ino> {
        self.place.as_ref().map(|(dir, _)| *dir)
    }
}

impl Open {
    fn new(attr: &Attr, dir: Option<Ino>, held: Held) -> Open {
        let (ino, kind) = (attr.ino, attr.kind);
        Open { ino, kind, dir, held: Mutex::new(held), items: Mutex::new(None) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The handle that it was written through, if it was.
    pub(super) fn written(&self) -> Option<Fh> {
        self.held().writes
    }
}

fn below(dir: &Found, name: Vec<u8>, attr: Attr) -> Found {
    let mut path = dir.path.clone();
    if dir.place.is_some() {
        path.push(u16::from(b'\\'));
    }
    path.extend(path::units(&name));
    Found { attr, place: Some((dir.attr.ino, name)), path }
}

/// Logs why an operation is refused, once: most is everyday, an I/O error is for a person.
pub(super) fn refuse(op: &'static str, error: &Error) -> Status {
    let status = status(error.kind);
    if error.kind == ErrorKind::Io {
        error!(op, %error, "request failed");
    } else {
        debug!(op, %error, status = status.0, "refused");
    }
    status
}
