//! Putting one name in another's place without losing what others wrote meanwhile (rule X5).
//!
//! ```text
//!            temp   name                      temp   name
//!   before   ours   old           expected:   (old removed), ours stays
//!   exchange old    ours          unexpected: exchange back as soon as ours is at the name
//! ```
//!
//! Others may put their own file at `name` at any moment, and other sites do the same exchanges.
//! So nothing is ever unlinked but ours and what was expected; bytes that can get their name back
//! no more get a visible name beside it.
//!
//! Sites take turns (`turn`). Those that do not, and fail at once, unwind like a stack: the last to exchange finds its own file at the
//! name and goes first, which brings the next one's file back to it.

use super::fail::{Fail, Outcome, is_unsupported};
use super::resolve::Place;
use super::stat::{self, Facts, ObjectId};
use super::turn::Turn;
use crate::prng::Prng;
use crate::{ErrorKind, Expect, Kind, Version};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::fs::{fsync, linkat, openat, renameat, renameat_with, unlinkat};
use rustix::io::{self, Errno};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Looks before we give up: a site that was killed in the middle never puts our file back.
const LOOKS_MAX: usize = 64;

/// The first wait for another site is up to this, each next up to twice as long, six times.
const WAIT_NANOS: u64 = 500_000;

/// A name is cut to this, so that a suffix fits.
const NAME_BYTES_KEPT: usize = 200;

/// Whether the file system refused the flag rather than the change.
pub(super) fn is_refused(errno: Errno) -> bool {
    errno == Errno::INVAL || is_unsupported(errno)
}

pub(super) fn exchange(one: &Place<'_>, other: &Place<'_>) -> io::Result<()> {
    renameat_with(&one.dir, one.name, &other.dir, other.name, RenameFlags::EXCHANGE)
}

/// Moves to a name that nothing has (`EXIST`).
pub(super) fn rename_absent(from: &Place<'_>, to: &Place<'_>) -> io::Result<()> {
    match renameat_with(&from.dir, from.name, &to.dir, to.name, RenameFlags::NOREPLACE) {
        Err(errno) if is_refused(errno) => {}
        done => return done,
    }
    // NFS and others know no flags. A link refuses a taken name too; directories have none.
    if from.facts()?.kind != Kind::Dir {
        match linkat(&from.dir, from.name, &to.dir, to.name, AtFlags::empty()) {
            Ok(()) => return unlinkat(&from.dir, from.name, AtFlags::empty()),
            Err(errno) if is_refused(errno) || errno == Errno::PERM => {}
            Err(errno) => return Err(errno),
        }
    }
    match to.facts_if_any()? {
        Some(_) => Err(Errno::EXIST),
        None => renameat(&from.dir, from.name, &to.dir, to.name),
    }
}

/// Our finished file, on its way from `temp` to a name in the same directory.
pub(super) struct Ours<'a> {
    pub(super) temp: Place<'a>,
    pub(super) file: std::os::fd::BorrowedFd<'a>,
    pub(super) id: ObjectId,
    pub(super) version: Version,
    pub(super) root_dev: u64,
}

impl Ours<'_> {
    /// Puts it at `to` if that is as expected; else all is as it was.
    pub(super) fn put(&self, to: &Place<'_>, expect: Expect) -> Outcome<()> {
        let turn = Turn::take(&[to]);
        let version = match expect {
            Expect::Any => return Ok(renameat(&self.temp.dir, self.temp.name, &to.dir, to.name)?),
            Expect::Absent => return Ok(rename_absent(&self.temp, to)?),
            Expect::Version(version) => version,
        };
        // Nearly always this tells, and what is not expected keeps its name all the time.
        let held = to.facts_if_any()?;
        stat::check(held.as_ref(), self.root_dev, expect, ErrorKind::NotFound)?;
        self.swap(to, &version, turn)
    }

    /// Exchanges, and takes that back unless what comes out is of this version.
    fn swap(&self, to: &Place<'_>, version: &Version, turn: Turn) -> Outcome<()> {
        match exchange(&self.temp, to) {
            Ok(()) => {}
            Err(errno) if is_refused(errno) => {
                // The comparison just made is as near as it gets; `Limits` says so.
                return Ok(renameat(&self.temp.dir, self.temp.name, &to.dir, to.name)?);
            }
            Err(errno) => return Err(errno.into()),
        }
        let old = self.temp.facts()?;
        if old.kind != Kind::Dir && old.is_version(self.root_dev, version) {
            // To free a big file takes a while.
            drop(turn);
            return remove_old(&self.temp);
        }
        self.take_back(to)?;
        Err(match old.kind {
            Kind::Dir => ErrorKind::IsADirectory.into(),
            Kind::File | Kind::Symlink | Kind::Special => ErrorKind::VersionChanged.into(),
        })
    }

    /// Undoes an exchange: what is at `temp` gets its name back, and ours returns there.
    fn take_back(&self, to: &Place<'_>) -> Outcome<()> {
        let mut prng = Prng::unseeded();
        for round in 0..LOOKS_MAX {
            match to.facts_if_any()? {
                // Ours was removed from there: what it stood for goes back.
                None => match rename_absent(&self.temp, to) {
                    Err(Errno::EXIST) => continue,
                    done => return Ok(done?),
                },
                Some(there) if there.id == self.id => {}
                Some(_) => {
                    // Another site has ours and is about to put it back; unless it waits for its
                    // own, which we hold: then one of us has to go on unasked.
                    self.wait_for_ours(to, prng.below(WAIT_NANOS << round.min(6)));
                    if self.is_replaced() {
                        break;
                    }
                }
            }
            match exchange(&self.temp, to) {
                Ok(()) => {}
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let came = self.temp.facts()?;
            if came.id == self.id {
                return self.keep_if_edited(to, &came);
            }
        }
        // Somebody put their own file over ours. They may have meant to replace what we hold, or
        // never have seen it.
        keep(&self.temp, to.name).map(drop)
    }

    /// Whether ours has no name any more.
    fn is_replaced(&self) -> bool {
        stat::of_fd(self.file).is_ok_and(|facts| facts.links == 0)
    }

    /// Waits until ours is at the name, nowhere, or so long.
    fn wait_for_ours(&self, to: &Place<'_>, nanos_max: u64) {
        let start = Instant::now();
        let is_there = || to.facts().is_ok_and(|facts| facts.id == self.id);
        while start.elapsed() < Duration::from_nanos(nanos_max) {
            if is_there() || self.is_replaced() {
                break;
            }
            std::thread::sleep(Duration::from_nanos(WAIT_NANOS / 8));
        }
    }

    /// For an instant others could open and write to ours: then it is no longer ours alone.
    fn keep_if_edited(&self, to: &Place<'_>, held: &Facts) -> Outcome<()> {
        match held.is_version(self.root_dev, &self.version) {
            true => Ok(()),
            false => keep(&self.temp, to.name).map(drop),
        }
    }
}

/// What was expected came out: it may go. The change itself is made, so a failure is no error.
fn remove_old(temp: &Place<'_>) -> Outcome<()> {
    if let Err(errno) = unlinkat(&temp.dir, temp.name, AtFlags::empty()) {
        let name = String::from_utf8_lossy(temp.name);
        tracing::warn!(%name, %errno, "replaced file could not be removed");
    }
    Ok(())
}

/// Gives bytes that nobody asked for a visible name beside `name`.
fn keep(held: &Place<'_>, name: &[u8]) -> Outcome<String> {
    let mut prng = Prng::unseeded();
    for _ in 0..LOOKS_MAX {
        let cut = &name[..name.len().min(NAME_BYTES_KEPT)];
        let kept = [cut, format!("-kept-{:08x}", prng.next() as u32).as_bytes()].concat();
        let place = Place { dir: held.dir.try_clone().map_err(busy)?, name: &kept };
        match rename_absent(held, &place) {
            Ok(()) => {
                let kept = String::from_utf8_lossy(&kept).into_owned();
                tracing::warn!(name = %kept, "an edit made during a change is kept beside it");
                return Ok(kept);
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EXIST.into())
}

fn busy(error: std::io::Error) -> Fail {
    Fail::saying(ErrorKind::Busy, error.to_string())
}

/// Removes what has this name if it is as expected. A file is moved aside first, so that what is
/// unlinked is what was compared; the aside name is of the kind that nobody cleans up (X2). Whoever
/// is killed in between finds it there again when the removal is asked for once more.
pub(super) fn remove(place: &Place<'_>, root_dev: u64, expect: Expect) -> Outcome<()> {
    remove_in(Some(Turn::take(&[place])), place, root_dev, expect)
}

/// The same; a turn given ends as soon as the name is free.
pub(super) fn remove_in(
    turn: Option<Turn>,
    place: &Place<'_>,
    root_dev: u64,
    expect: Expect,
) -> Outcome<()> {
    let held = place.facts_if_any()?;
    let checked = stat::check(held.as_ref(), root_dev, expect, ErrorKind::NotFound);
    let is_dir = held.is_some_and(|held| held.kind == Kind::Dir);
    let version = match expect {
        Expect::Version(version) if !is_dir => version,
        _ => return checked.and_then(|()| unlink(place, is_dir)),
    };
    let name = format!(".~covefs-move-rm-{:016x}", version.content.file_id);
    let aside = Place { dir: place.dir.try_clone().map_err(busy)?, name: name.as_bytes() };
    if checked.is_ok() {
        rename_absent(place, &aside)?;
    }
    let Some(came) = aside.facts_if_any()? else { return checked };
    if came.kind != Kind::Dir && came.is_version(root_dev, &version) {
        drop(turn);
        return unlink(&aside, false);
    }
    put_back(&aside, place)?;
    Err(ErrorKind::VersionChanged.into())
}

fn unlink(place: &Place<'_>, is_dir: bool) -> Outcome<()> {
    let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    unlinkat(&place.dir, place.name, flags).map_err(not_empty)
}

/// Undoes a move; where the name was taken meanwhile, both stay.
pub(super) fn put_back(aside: &Place<'_>, place: &Place<'_>) -> Outcome<()> {
    match rename_absent(aside, place) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            let kept = keep(aside, place.name)?;
            let text = format!("its name was taken meanwhile; it is kept as {kept}");
            Err(Fail::saying(ErrorKind::VersionChanged, text))
        }
        Err(errno) => {
            let name = String::from_utf8_lossy(aside.name);
            Err(Fail::saying(ErrorKind::Io, format!("it is kept as {name}: {errno}")))
        }
    }
}

/// `rmdir` and `rename` may say either.
pub(super) fn not_empty(errno: Errno) -> Fail {
    if errno == Errno::EXIST { ErrorKind::NotEmpty.into() } else { errno.into() }
}

/// Makes the names in a directory durable. One that may not be read cannot be; nor can those of
/// some file systems.
pub(super) fn sync_dir(place: &Place<'_>) -> Outcome<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let synced = openat(place.dir.as_fd(), c".", flags, Mode::empty()).and_then(fsync);
    match synced {
        Err(errno) if errno == Errno::ACCESS || is_refused(errno) => Ok(()),
        synced => Ok(synced?),
    }
}

#[cfg(test)]
mod tests;
