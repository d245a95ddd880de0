//! One file, directory or link of a share.

use super::{Entry, FileLease};
use crate::call::Metadata;
use crate::content::Content;
use crate::error::{Error, Result};
use crate::time::Ticks;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// SMB's attribute bits, as the protocol names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attributes(pub u32);

const ATTRIBUTES: [(&str, u32); 9] = [
    ("ReadOnly", 0x1),
    ("Hidden", 0x2),
    ("System", 0x4),
    ("Directory", 0x10),
    ("Archive", 0x20),
    ("Temporary", 0x100),
    ("Offline", 0x1000),
    ("NotContentIndexed", 0x2000),
    ("NoScrubData", 0x20000),
];

impl Attributes {
    /// No attribute.
    pub const NONE: Attributes = Attributes(0);
    /// Must not be changed.
    pub const READ_ONLY: Attributes = Attributes(0x1);
    /// What each directory has.
    pub const DIRECTORY: Attributes = Attributes(0x10);
    /// What a new file has.
    pub const ARCHIVE: Attributes = Attributes(0x20);

    /// `ReadOnly|Hidden`, or `None`.
    pub fn parse(text: &str) -> Option<Attributes> {
        let mut bits = 0;
        for name in text.split('|').map(str::trim) {
            let known = ATTRIBUTES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            match known {
                Some((_, bit)) => bits |= bit,
                None if name.eq_ignore_ascii_case("None") && !text.contains('|') => {}
                None => return None,
            }
        }
        Some(Attributes(bits))
    }

    /// `ReadOnly | Hidden`, or `None`.
    pub fn text(self) -> String {
        let set = ATTRIBUTES.iter().filter(|(_, bit)| self.0 & bit != 0);
        let names: Vec<&str> = set.map(|(name, _)| *name).collect();
        if names.is_empty() { "None".to_owned() } else { names.join(" | ") }
    }

    /// Whether all of `other` are set.
    pub fn has(self, other: Attributes) -> bool {
        self.0 & other.0 == other.0
    }

    /// With `other`'s, too.
    pub fn and(self, other: Attributes) -> Attributes {
        Attributes(self.0 | other.0)
    }
}

/// The four times of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// When it was made.
    pub created: Ticks,
    /// When its bytes changed.
    pub written: Ticks,
    /// When anything of it changed.
    pub changed: Ticks,
    /// When it was last read, roughly.
    pub accessed: Ticks,
}

/// Headers that are stored with a file: as it is sent, as it is answered.
pub const CONTENT_HEADERS: [(&str, &str); 6] = [
    ("x-ms-content-type", "Content-Type"),
    ("x-ms-content-encoding", "Content-Encoding"),
    ("x-ms-content-language", "Content-Language"),
    ("x-ms-cache-control", "Cache-Control"),
    ("x-ms-content-md5", "Content-MD5"),
    ("x-ms-content-disposition", "Content-Disposition"),
];

/// Where a file that was a copy's target stands.
#[derive(Clone, Serialize, Deserialize)]
pub struct CopyState {
    /// The copy's GUID.
    pub id: String,
    /// The URL it was made from.
    pub source: String,
    /// How many bytes it has.
    pub size_bytes: u64,
    /// When it was done.
    pub completed: Ticks,
    /// Whether it was.
    pub status: CopyStatus,
    /// A pending one's bytes; none outlive the server.
    #[serde(skip)]
    pub rest: Option<Content>,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyStatus {
    Pending,
    Success,
    Aborted,
    Failed,
}

impl CopyStatus {
    /// As in `x-ms-copy-status`.
    pub fn text(self) -> &'static str {
        match self {
            CopyStatus::Pending => "pending",
            CopyStatus::Success => "success",
            CopyStatus::Aborted => "aborted",
            CopyStatus::Failed => "failed",
        }
    }
}

/// What only files have.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct FileData {
    /// Its bytes.
    pub content: Content,
    /// In the order of [`CONTENT_HEADERS`].
    pub headers: [Option<String>; 6],
    /// Counts how often the file was replaced as a whole: differences end there.
    pub generation: u64,
    /// The last copy to it.
    pub copy: Option<CopyState>,
}

/// What a node is.
#[derive(Clone, Serialize, Deserialize)]
pub enum Kind {
    /// By folded name.
    Directory(BTreeMap<String, Entry>),
    /// A file.
    File(Box<FileData>),
    /// A symbolic link's target.
    Link(String),
}

/// A file, directory or link.
#[derive(Clone, Serialize, Deserialize)]
pub struct Node {
    /// Unique in the account, for ever.
    pub id: u64,
    /// The directory it is in.
    pub parent: u64,
    /// What it is.
    pub kind: Kind,
    /// SMB attributes.
    pub attributes: Attributes,
    /// Times of 100 ns.
    pub times: Times,
    /// Which of the share's permissions.
    pub permission_key: String,
    /// Name and value pairs.
    pub metadata: Metadata,
    /// ETag and Last-Modified.
    pub stamp: Ticks,
    /// Files only.
    pub lease: FileLease,
    /// NFS: owner, group and mode (octal), as sent.
    pub posix: [Option<String>; 3],
    /// How many names it has.
    pub links: u64,
}

impl Node {
    /// A node as it is before anybody's wishes; whoever names it puts it in a tree first.
    pub fn new(id: u64, parent: u64, kind: Kind, attributes: Attributes, now: Ticks) -> Node {
        Node {
            id,
            parent,
            kind,
            attributes,
            times: Times { created: now, written: now, changed: now, accessed: now },
            permission_key: String::new(),
            metadata: Metadata::new(),
            stamp: now,
            lease: FileLease::default(),
            posix: [None, None, None],
            links: 1,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// What only files have.
    pub fn file(&self) -> Result<&FileData> {
        match &self.kind {
            Kind::File(file) => Ok(file),
            _ => Err(Error::new("ResourceTypeMismatch")),
        }
    }

    /// The same, to change.
    pub fn file_mut(&mut self) -> Result<&mut FileData> {
        match &mut self.kind {
            Kind::File(file) => Ok(file),
            _ => Err(Error::new("ResourceTypeMismatch")),
        }
    }

    /// How many bytes a read would give.
    pub fn size_bytes(&self) -> u64 {
        match &self.kind {
            Kind::File(file) => file.content.size_bytes(),
            Kind::Directory(_) => 0,
            Kind::Link(target) => target.len() as u64,
        }
    }

    /// It changed in any way at that moment.
    pub fn touch(&mut self, stamp: Ticks) {
        self.stamp = stamp;
        self.times.changed = stamp;
    }

    /// Refuses what must wait until a copy to the file is done.
    pub fn check_no_copy(&self) -> Result<()> {
        let copy = self.file().ok().and_then(|file| file.copy.as_ref());
        match copy.is_some_and(|copy| copy.status == CopyStatus::Pending) {
            true => Err(Error::new("PendingCopyOperation")),
            false => Ok(()),
        }
    }

    /// Ends a pending copy to the file, if there is one, as it should end.
    pub fn finish_copy(&mut self, stamp: Ticks) {
        let Kind::File(file) = &mut self.kind else { return };
        let Some(copy) = file.copy.as_mut().filter(|copy| copy.status == CopyStatus::Pending)
        else {
            return;
        };
        copy.completed = stamp;
        match copy.rest.take() {
            Some(content) => {
                copy.status = CopyStatus::Success;
                file.content = content;
            }
            None => copy.status = CopyStatus::Failed,
        }
        self.touch(stamp);
    }

    /// Refuses what a read-only file refuses.
    pub fn check_writable(&self) -> Result<()> {
        match self.attributes.has(Attributes::READ_ONLY) {
            true => Err(Error::new("ReadOnlyAttribute")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_with_and_without_blanks() {
        let both = Attributes::parse("ReadOnly| hidden").unwrap();
        assert_eq!(both.text(), "ReadOnly | Hidden");
        assert_eq!(Attributes::parse("None"), Some(Attributes::NONE));
        assert_eq!(Attributes::NONE.text(), "None");
        assert_eq!(Attributes::parse("None|Hidden"), None);
        assert_eq!(Attributes::parse("Odd"), None);
    }
}
