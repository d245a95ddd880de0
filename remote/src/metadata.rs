//! What a share says of an entry: its kind, times, attributes and version.

use crate::PathLength;
use serde::{Deserialize, Serialize};

/// Seconds and nanoseconds since 1970, UTC.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999, always counted forward.
    pub nanos: u32,
}

impl Timestamp {
    /// The wall clock's time now.
    pub fn now() -> Self {
        std::time::SystemTime::now().into()
    }

    /// Whether a share that was told this time may say `kept`: some keep only 100 ns.
    pub fn may_read_back_as(self, kept: Timestamp) -> bool {
        let coarse = Timestamp { nanos: self.nanos / 100 * 100, ..self };
        kept == self || kept == coarse
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Timestamp { seconds: after.as_secs() as i64, nanos: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                let nanos = before.subsec_nanos();
                let seconds = -(before.as_secs() as i64) - i64::from(nanos > 0);
                Timestamp { seconds, nanos: if nanos > 0 { 1_000_000_000 - nanos } else { 0 } }
            }
        }
    }
}

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A device, fifo or socket: listed, never opened.
    Special,
}

/// Says which content a file has: two equal marks, same bytes. (S5)
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default, Serialize, Deserialize)]
pub struct ContentMark {
    /// The share's number of the object; 0 where it has none.
    pub file_id: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last write.
    pub mtime: Timestamp,
}

/// The share's mark of one state of one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default, Serialize, Deserialize)]
pub struct Version {
    /// Object part: moves with every change, of attributes too (an ETag, a change time).
    pub object: u128,
    /// Content part: moves when the bytes may be others.
    pub content: ContentMark,
}

impl Version {
    /// Whether both name the same bytes.
    pub fn same_content(&self, other: &Version) -> bool {
        self.content == other.content
    }

    /// The same object, with bytes that nobody has seen: no content is the same.
    pub fn in_doubt(self) -> Version {
        let never = Timestamp { seconds: i64::MIN, nanos: 0 };
        Version { content: ContentMark { mtime: never, ..self.content }, ..self }
    }

    /// Whether both name the same object, whatever was written to it.
    pub fn same_object(&self, other: &Version) -> bool {
        self.content.file_id == other.content.file_id
    }
}

/// Extended attributes: name (with its namespace, `user.x`) and value, sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Everything a share says of one entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Bytes of a file; length of a symlink's target; 0 otherwise.
    pub size: u64,
    /// Last write.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// Last access, as far as the share keeps it.
    pub atime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
    /// Permission bits (07777) where the share has such.
    pub mode: Option<u32>,
    /// Owner's number where the share has such.
    pub uid: Option<u32>,
    /// Group's number where the share has such.
    pub gid: Option<u32>,
    /// What a symlink holds.
    pub target: Option<Vec<u8>>,
    /// Extended attributes; `None` when not asked for or not held.
    pub xattrs: Option<Xattrs>,
    /// Its mark. Of a directory: `file_id` with size 0 and time 0 as content part.
    pub version: Version,
    /// The last write lies within the grain of the share's clock: the same mark may later stand
    /// for other bytes, so what is fetched under it is asked for once more.
    pub young: bool,
}

/// What a change sets; `None` leaves it as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Attrs {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last write.
    pub mtime: Option<Timestamp>,
    /// Last access.
    pub atime: Option<Timestamp>,
    /// The whole set of extended attributes in the `user.` namespace, but for `XattrRule::Windows`.
    pub xattrs: Option<Xattrs>,
    /// There are no others than those, whatever the rule.
    pub xattrs_are_all: bool,
}

impl Attrs {
    /// Whether nothing is to be set.
    pub fn is_empty(&self) -> bool {
        *self == Attrs::default()
    }
}

/// What must be on the share for a change to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Whatever it is.
    Any,
    /// Nothing of that name.
    Absent,
    /// An entry with this content part (of a directory: this file id).
    Version(Version),
}

/// Which share it is: two equal ones, the same tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShareIdentity(pub String);

/// Size and free space of a share, in bytes and entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// All bytes.
    pub total_bytes: u64,
    /// Bytes left for this login.
    pub free_bytes: u64,
    /// Entries it can hold; 0 where there is no such bound.
    pub total_files: u64,
    /// Entries left.
    pub free_files: u64,
}

/// Which names a share can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameRule {
    /// Any bytes but `/` and NUL.
    Bytes,
    /// What Windows allows, in UTF-8.
    Windows,
    /// The same with its reserved characters too, which are stored as private ones.
    Mapped,
}

/// Which extended attributes a share keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XattrRule {
    /// None.
    None,
    /// Any of the `user.` namespace; how much of them, it says when they are set.
    Any,
    /// What Windows allows: names of ASCII that fold case, no empty value, 64 KiB in all. `Attrs` name those to
    /// set, and with an empty value those to remove; others stay.
    Windows,
}

/// What a share can hold and what it promises.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The size of one request that moves bytes quickly.
    pub part_bytes: u64,
    /// Entries of one listing page.
    pub page_entries: usize,
    /// Which names it holds.
    pub names: NameRule,
    /// Bytes of the longest name.
    pub name_bytes_max: usize,
    /// The longest path below its root; `None`: none that anybody comes to.
    pub path_max: Option<PathLength>,
    /// Whether `A` and `a` are two files.
    pub case_sensitive: bool,
    /// Whether it keeps owner and permission bits.
    pub has_modes: bool,
    /// Whether it holds symlinks.
    pub has_symlinks: bool,
    /// Which extended attributes it keeps.
    pub xattrs: XattrRule,
    /// Whether `replace` compares and puts in place in one step (X5).
    pub exchange: bool,
    /// Whether `stat` costs next to nothing: then a file is looked at before it is changed (S5).
    pub quick_stat: bool,
    /// Whether nothing on it can be changed by anybody.
    pub read_only: bool,
    /// Files that one `read_whole` asks for best.
    pub whole_files: usize,
}

impl Limits {
    /// Whether it keeps extended attributes.
    pub fn has_xattrs(&self) -> bool {
        self.xattrs != XattrRule::None
    }
}
