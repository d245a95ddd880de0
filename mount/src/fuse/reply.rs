//! How the filesystem's answers are put into the kernel's replies.

use crate::answer::{Carry, Refuse};
use crate::decode::{bare_attr, file_attr, file_type, listed};
use crate::limits::BLOCK_BYTES;
use covefs_cache::{
    Asked, Entry, Error, ErrorKind, Fh, Kind, Lookup, Opened, Readable, Result, Statfs, Step, Vfs,
};
use fuser::{
    BackingId, Errno, FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// Numbers are never used again (J8), so there is one generation of each.
const GENERATION: Generation = Generation(0);

macro_rules! refuse {
    ($($reply:ty),*) => {
        $(impl Refuse for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

refuse!(ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty);
refuse!(ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr);

impl Carry for ReplyData {
    fn carry(self, bytes: &[u8]) {
        self.data(bytes);
    }
}

pub(super) fn done(reply: ReplyEmpty, (): ()) {
    reply.ok();
}

/// Number 0 with a time is "there is no such name, and will be none for so long".
pub(super) fn found(reply: ReplyEntry, lookup: Lookup) {
    match lookup {
        Lookup::Found(entry) => self::entry(reply, entry),
        Lookup::Missing(ttl) if ttl.is_zero() => reply.error(Errno::ENOENT),
        Lookup::Missing(ttl) => reply.entry(&ttl, &bare_attr(0, Kind::File), GENERATION),
    }
}

pub(super) fn entry(reply: ReplyEntry, entry: Entry) {
    reply.entry(&entry.ttl, &file_attr(&entry.attr), GENERATION);
}

pub(super) fn attr(reply: ReplyAttr, entry: Entry) {
    reply.attr(&entry.ttl, &file_attr(&entry.attr));
}

pub(super) fn opened(reply: ReplyOpen, opened: Opened) {
    let (fh, flags) = (FileHandle(opened.fh.0), open_flags(&opened));
    match opened.lent {
        None => reply.opened(fh, flags),
        // Dropped unsent where it is not registered, which `passed` sees to: EIO.
        Some(lent) => {
            lent.registered(|id: &BackingId| reply.opened_passthrough(fh, flags, id));
        }
    }
}

pub(super) fn created(reply: ReplyCreate, (entry, opened): (Entry, Opened)) {
    let (fh, flags) = (FileHandle(opened.fh.0), open_flags(&opened));
    let (ttl, attr) = (&entry.ttl, &file_attr(&entry.attr));
    match opened.lent {
        None => reply.created(ttl, attr, GENERATION, fh, flags),
        Some(lent) => {
            lent.registered(|id: &BackingId| {
                reply.created_passthrough(ttl, attr, GENERATION, fh, flags, id);
            });
        }
    }
}

/// Opens a file, and registers its data file with the kernel where that is to read it. A kernel that
/// takes none (it needs CAP_SYS_ADMIN) is not asked again.
pub(super) fn passed<T>(
    vfs: &Vfs,
    register: impl FnOnce(&Readable) -> io::Result<BackingId>,
    open: impl Fn() -> Result<Step<T>>,
    opened: impl FnOnce(&T) -> &Opened,
) -> Result<Step<T>> {
    let answer = match open()? {
        Step::Done(answer) => answer,
        wait => return Ok(wait),
    };
    let Opened { fh, lent, .. } = opened(&answer);
    let (fh, registered) = (*fh, lent.as_ref().map(|lent| lent.register(register)));
    let Some(Err(error)) = registered else { return Ok(Step::Done(answer)) };
    tracing::info!(%error, "cached files are read through covefs");
    vfs.may_lend(None);
    vfs.release(fh);
    // As long as anybody has what was to be lent, it counts as lent.
    drop(answer);
    open()
}

fn open_flags(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_NOFLUSH, opened.no_flush);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct);
    flags
}

pub(super) fn statfs(reply: ReplyStatfs, statfs: Statfs) {
    // Block and fragment are one size: programs mix the two up.
    let blocks = |bytes: u64| bytes / u64::from(BLOCK_BYTES);
    let free = blocks(statfs.free_bytes);
    let (files, free_files) = (statfs.total_files, statfs.free_files);
    let (block, name_max) = (BLOCK_BYTES, statfs.name_bytes_max);
    reply.statfs(blocks(statfs.total_bytes), free, free, files, free_files, block, name_max, block);
}

/// A room of 0 bytes asks how many it would take.
pub(super) fn xattr(reply: ReplyXattr, value: &[u8], room: u32) {
    match u32::try_from(value.len()) {
        Ok(len) if room == 0 => reply.size(len),
        Ok(len) if len <= room => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

/// Fills the reply with lines from `offset` on.
pub(super) fn listing(
    vfs: &Vfs,
    asked: Asked,
    fh: FileHandle,
    offset: u64,
    reply: &mut ReplyDirectory,
) -> Result<Step<()>> {
    let mut any = false;
    let step = vfs.readdir(asked, Fh(fh.0), offset, false, &mut |item| {
        any = true;
        let name = OsStr::from_bytes(&item.name);
        reply.add(INodeNo(item.ino.0), item.next_offset, file_type(item.kind), name)
    });
    never_refill(step, any)
}

/// The same with attributes. Each line but `.` and `..` that went in is a lookup to the kernel,
/// which it forgets one day.
pub(super) fn listing_plus(
    vfs: &Vfs,
    asked: Asked,
    fh: FileHandle,
    offset: u64,
    reply: &mut ReplyDirectoryPlus,
) -> Result<Step<()>> {
    let (mut any, mut bare) = (false, false);
    let step = vfs.readdir(asked, Fh(fh.0), offset, true, &mut |item| {
        let Some((ttl, attr)) = listed(&item.name, item.ino.0, item.kind, item.entry.as_ref())
        else {
            bare = true;
            return true;
        };
        any = true;
        let name = OsStr::from_bytes(&item.name);
        reply.add(attr.ino, item.next_offset, name, &ttl, &attr, GENERATION)
    });
    if bare && !any {
        return Err(Error::new(ErrorKind::Io, "list with attributes: an item has none"));
    }
    never_refill(step, any)
}

/// Waiting comes before the first line. If it ever does not, what is there is a right answer: the
/// kernel asks for the rest. A second filling would show lines twice.
fn never_refill(step: Result<Step<()>>, any: bool) -> Result<Step<()>> {
    match step {
        Ok(Step::Wait(_)) if any => Ok(Step::Done(())),
        step => step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use covefs_cache::{Ino, Need};

    #[test]
    fn a_listing_that_has_begun_is_sent_instead_of_waiting() {
        let wait = || Ok(Step::Wait(Need::Listing(Ino::ROOT)));
        assert!(matches!(never_refill(wait(), false), Ok(Step::Wait(_))));
        assert!(matches!(never_refill(wait(), true), Ok(Step::Done(()))));
    }
}
