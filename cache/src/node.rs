//! The facts of one file, directory or symlink: what the user sees, and what the share had.
//!
//! A clean node is one record for all three trees: `place` is `base.place` and nothing is dirty.
//! Everything that sync has to do follows from the difference (DESIGN.md section 4).

use crate::attr::{ContentId, Ino};
use covefs_remote::{Kind, Metadata, Timestamp, Version, Xattrs};
use serde::{Deserialize, Serialize};

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The directory.
    pub parent: Ino,
    /// The name in it; empty for the root.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
}

impl Place {
    pub(crate) fn new(parent: Ino, name: &[u8]) -> Self {
        Place { parent, name: name.to_vec() }
    }
}

/// What the share had when the node was last in step with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Base {
    /// Where the share has it. The path follows from the bases of the directories above, so a
    /// renamed directory moves all below it at once.
    pub place: Place,
    /// The share's mark of it.
    pub version: Version,
    /// The mark was younger than the share's clock can tell apart (S5).
    pub young: bool,
}

/// One file, directory or symlink.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    // These two come first: a listing reads no more of the record (`Tree::lines`).
    pub ino: Ino,
    pub kind: Kind,
    /// Where the user sees it; `None` once it is removed here.
    pub place: Option<Place>,
    /// What the share had; `None` for what was made here and is not there yet.
    pub base: Option<Base>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of a file: its size when it has no content loaded; else the content knows better.
    pub size: u64,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub btime: Timestamp,
    pub target: Option<Vec<u8>>,
    /// `None`: not asked for yet.
    pub xattrs: Option<Xattrs>,
    /// The data file; `None` before the first byte is stored or written.
    pub content: Option<ContentId>,
    /// The share does not have these attributes yet.
    pub dirty_attrs: DirtyAttrs,
    /// The share does not have this content yet (or, of a new node, not the node itself).
    pub dirty_content: bool,
    /// A directory of which all names are known.
    pub listed: bool,
    /// The number of our last change to it; orders deletes after earlier uploads (S3).
    pub change: u64,
}

/// Which attributes the share does not have yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct DirtyAttrs {
    pub mode: bool,
    pub owner: bool,
    pub times: bool,
    pub xattrs: bool,
}

impl DirtyAttrs {
    pub(crate) fn any(self) -> bool {
        self != DirtyAttrs::default()
    }
}

impl Node {
    /// Its permission bits once somebody without privileges wrote to it, or it was given away.
    pub(crate) fn mode_after_change(&self) -> u32 {
        const SET_UID: u32 = 0o4000;
        const SET_GID: u32 = 0o2000;
        // Without execution for the group it stands for mandatory locks.
        let set_gid = if self.mode & 0o010 != 0 { SET_GID } else { 0 };
        let lost = if self.kind == Kind::File { SET_UID | set_gid } else { 0 };
        self.mode & !lost
    }

    /// Whether the user sees it elsewhere than the share has it, or only one of the two has it.
    /// Its content, if all that the share does not have of it are bytes.
    pub(crate) fn lacks_only(&self) -> Option<ContentId> {
        let rest_is_there = self.base.is_some() && !self.is_moved() && !self.dirty_attrs.any();
        self.content.filter(|_| rest_is_there)
    }

    pub(crate) fn is_moved(&self) -> bool {
        self.place.as_ref() != self.base.as_ref().map(|base| &base.place)
    }

    /// Whether the share does not have all of it yet.
    pub(crate) fn is_dirty(&self) -> bool {
        // Attributes set before a removal say whose mark the share's is, and no more than that.
        let attrs = self.dirty_attrs.any() && !self.is_nothing();
        self.is_moved() || self.dirty_content || attrs
    }

    /// Whether the share's mark of a file moved and nothing else that it tells: its bytes may have
    /// been written over, and its time set back (S5).
    pub(crate) fn is_in_doubt(&self, found: &Metadata) -> bool {
        let Some(base) = &self.base else { return false };
        let dirty = self.dirty_attrs;
        // Set there; or set here, and the answer was lost.
        let explained = is_set(dirty.mode, &Some(self.mode), &found.mode)
            || is_set(dirty.owner, &Some(self.uid), &found.uid)
            || is_set(dirty.owner, &Some(self.gid), &found.gid)
            || is_set(dirty.xattrs, &self.xattrs, &found.xattrs);
        self.kind == Kind::File
            && base.version.same_content(&found.version)
            && base.version.object != found.version.object
            && !explained
    }

    /// Whether it is neither here nor there.
    pub(crate) fn is_nothing(&self) -> bool {
        self.place.is_none() && self.base.is_none()
    }
}

/// Whether an attribute that both sides know was set: there, or by us, whom nobody told that it was.
fn is_set<T: PartialEq>(dirty: bool, ours: &Option<T>, theirs: &Option<T>) -> bool {
    ours.is_some() && theirs.is_some() && (ours == theirs) == dirty
}

#[cfg(test)]
impl Node {
    /// A clean file that the share has at this place.
    pub(crate) fn clean(ino: Ino, place: Place) -> Node {
        let time = Timestamp { seconds: 1_790_000_000, nanos: 123_456_789 };
        Node {
            ino,
            kind: Kind::File,
            place: Some(place.clone()),
            base: Some(Base { place, version: Default::default(), young: false }),
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            size: 4096,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            target: None,
            xattrs: None,
            content: None,
            dirty_attrs: Default::default(),
            dirty_content: false,
            listed: false,
            change: 0,
        }
    }
}
