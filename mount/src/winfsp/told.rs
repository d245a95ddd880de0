//! What Explorer is told of changes that others made.

use super::path;
use covefs_cache::{Asked, Kind, Lookup, Notice, Step, Vfs};

/// FILE_ACTION_* and FILE_NOTIFY_CHANGE_* (winnt.h).
pub(super) const ADDED: u32 = 1;
pub(super) const REMOVED: u32 = 2;
pub(super) const MODIFIED: u32 = 3;
const FILE_NAME: u32 = 0x1;
const DIR_NAME: u32 = 0x2;
const ATTRIBUTES: u32 = 0x4;
const SIZE: u32 = 0x8;
const LAST_WRITE: u32 = 0x10;

/// One change, as it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Told {
    pub path: Vec<u16>,
    pub action: u32,
    pub filter: u32,
}

/// How Windows hears of a notice; `None` where its place is not known any more. Waits for nothing.
pub(super) fn told(vfs: &Vfs, notice: &Notice) -> Option<Told> {
    let path_of = |ino| vfs.names_to(ino).ok().flatten();
    match notice {
        Notice::Entry { parent, name } => {
            let mut names = path_of(*parent)?;
            names.push(name.clone());
            let path = path::join(names.iter().map(|name| &**name));
            let (action, filter) = match vfs.lookup(Asked::now(), *parent, name) {
                Ok(Step::Done(Lookup::Found(entry))) if entry.attr.kind == Kind::Dir => {
                    (ADDED, DIR_NAME)
                }
                Ok(Step::Done(Lookup::Found(_))) => (ADDED, FILE_NAME),
                Ok(Step::Done(Lookup::Missing(_))) => (REMOVED, FILE_NAME | DIR_NAME),
                // It is being asked for: whoever looks again sees what it has become.
                _ => (MODIFIED, SIZE | LAST_WRITE),
            };
            Some(Told { path, action, filter })
        }
        Notice::Inode(ino) | Notice::Attributes(ino) => {
            let names = path_of(*ino)?;
            let path = path::join(names.iter().map(|name| &**name));
            let filter = ATTRIBUTES | SIZE | LAST_WRITE;
            Some(Told { path, action: MODIFIED, filter })
        }
    }
}
