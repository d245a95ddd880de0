//! What the service has no place for: permission bits, owner, access time, symlinks.
//!
//! They are kept in metadata, and only where they differ from what every entry has by default. A
//! file that nobody may write to has the attribute `ReadOnly`, which Windows sees too; the
//! attribute wins. Listings have no metadata: an entry that has any of ours which a listing must
//! tell is marked by the attribute `NoScrubData`, which means nothing to this service.
//!
//! A symlink is an empty file of this kind.

use super::facts::{Facts, Pairs, Shape};
use super::time;
use crate::{Attrs, Kind, Metadata, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{HeaderName, HeaderValue};

const MODE: &str = "covefsmode";
const UID: &str = "covefsuid";
const GID: &str = "covefsgid";
const ATIME: &str = "covefsatime";
const LINK: &str = "covefslink";

/// Of an entry that metadata of ours belongs to.
const MARK: &str = "NoScrubData";
const READ_ONLY: &str = "ReadOnly";
const WRITE_BITS: u32 = 0o222;

/// Owner and permission bits of what does not say otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Defaults {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits of files.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub dir_mode: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults { uid: 0, gid: 0, file_mode: 0o644, dir_mode: 0o755 }
    }
}

/// What metadata says of an entry; `None`: nothing but the default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Posix {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    atime: Option<Timestamp>,
    link: Option<Vec<u8>>,
}

impl Posix {
    /// A symlink.
    pub(super) fn link(target: &[u8]) -> Posix {
        Posix { link: Some(target.to_vec()), ..Posix::default() }
    }

    /// Reads metadata. What makes no sense is not ours.
    pub(super) fn of(facts: &Facts) -> Posix {
        let number = |name| facts.meta(name).and_then(|text| text.parse().ok());
        let mode = facts.meta(MODE).and_then(|text| u32::from_str_radix(text, 8).ok());
        Posix {
            mode: mode.map(|mode| mode & 0o7777),
            uid: number(UID),
            gid: number(GID),
            atime: facts.meta(ATIME).and_then(time::parse_iso),
            link: facts.meta(LINK).and_then(|text| BASE64.decode(text).ok()),
        }
    }

    /// Whether it makes a file a symlink.
    pub(super) fn is_link(&self) -> bool {
        self.link.is_some()
    }

    /// The same of new bytes: nobody has read them.
    pub(super) fn without_atime(self) -> Posix {
        Posix { atime: None, ..self }
    }

    /// Sets what `attrs` names; what is the default is not kept.
    pub(super) fn set(&mut self, attrs: &Attrs, shape: Shape, defaults: &Defaults) {
        if let Some(mode) = attrs.mode.map(|mode| mode & 0o7777) {
            let default = default_mode(shape, defaults);
            let is_default = mode == default || (shape == Shape::File && mode == closed(default));
            self.mode = (!is_default).then_some(mode);
        }
        if let Some(uid) = attrs.uid {
            self.uid = (uid != defaults.uid).then_some(uid);
        }
        if let Some(gid) = attrs.gid {
            self.gid = (gid != defaults.gid).then_some(gid);
        }
    }

    /// Keeps a time of access; the service's own cannot be set.
    pub(super) fn set_atime(&mut self, atime: Timestamp) {
        self.atime = Some(time::rounded(atime));
    }

    /// Whether a listing has to tell of it.
    fn needs_mark(&self) -> bool {
        self.mode.is_some() || self.uid.is_some() || self.gid.is_some() || self.link.is_some()
    }

    /// The metadata of an entry: others' as it was, ours as this says.
    pub(super) fn into_pairs(self, old: &Pairs) -> Pairs {
        let is_ours = |name: &HeaderName| [MODE, UID, GID, ATIME, LINK].contains(&name.as_str());
        let mut pairs: Pairs = old.iter().filter(|(name, _)| !is_ours(name)).cloned().collect();
        let mut put = |name: &'static str, text: Option<String>| {
            let value = text.and_then(|text| HeaderValue::try_from(text).ok());
            pairs.extend(value.map(|value| (HeaderName::from_static(name), value)));
        };
        put(MODE, self.mode.map(|mode| format!("{mode:04o}")));
        put(UID, self.uid.map(|uid| uid.to_string()));
        put(GID, self.gid.map(|gid| gid.to_string()));
        put(ATIME, self.atime.map(time::iso));
        put(LINK, self.link.map(|link| BASE64.encode(link)));
        pairs
    }

    /// The attributes that go with it, as they are sent.
    pub(super) fn attributes(&self, old: &[String], attrs: &Attrs, shape: Shape) -> String {
        let kept = |name: &str| {
            // A file's `Normal` and a directory's `Directory` are understood.
            let is_ours = name.eq_ignore_ascii_case(MARK)
                || (shape == Shape::File
                    && attrs.mode.is_some()
                    && name.eq_ignore_ascii_case(READ_ONLY));
            !is_ours && !name.eq_ignore_ascii_case("None")
        };
        let mut names: Vec<&str> =
            old.iter().map(String::as_str).filter(|name| kept(name)).collect();
        let is_closed = attrs.mode.is_some_and(|mode| mode & WRITE_BITS == 0);
        if shape == Shape::File && is_closed {
            names.push(READ_ONLY);
        }
        if self.needs_mark() {
            names.push(MARK);
        }
        if names.is_empty() { "None".into() } else { names.join("|") }
    }

    /// Everything that the share says of an entry.
    pub(super) fn metadata(&self, facts: &Facts, defaults: &Defaults) -> Metadata {
        let mode = self.mode.unwrap_or(default_mode(facts.shape, defaults));
        let (kind, mode) = match (facts.shape, &self.link) {
            (Shape::Dir, _) => (Kind::Dir, mode),
            (Shape::File, Some(_)) => (Kind::Symlink, 0o777),
            (Shape::File, None) if facts.has(READ_ONLY) => (Kind::File, closed(mode)),
            // Somebody on Windows opened it for writing.
            (Shape::File, None) if mode & WRITE_BITS == 0 => (Kind::File, mode | 0o200),
            (Shape::File, None) => (Kind::File, mode),
        };
        let target = self.link.clone().filter(|_| kind == Kind::Symlink);
        let mut version = facts.version();
        if let Some(target) = &target {
            version.content.size = target.len() as u64;
        }
        Metadata {
            kind,
            size: version.content.size,
            mtime: facts.mtime,
            ctime: facts.ctime,
            atime: self.atime.or(facts.atime).unwrap_or(facts.mtime),
            btime: facts.btime,
            mode: Some(mode),
            uid: Some(self.uid.unwrap_or(defaults.uid)),
            gid: Some(self.gid.unwrap_or(defaults.gid)),
            target,
            xattrs: None,
            version,
            young: kind == Kind::File && facts.is_young(),
        }
    }
}

/// Whether a listing tells too little of this entry.
pub(super) fn is_marked(facts: &Facts) -> bool {
    facts.has(MARK)
}

/// Whether nobody may change a file as it is.
pub(super) fn is_read_only(facts: &Facts) -> bool {
    facts.shape == Shape::File && facts.has(READ_ONLY)
}

fn default_mode(shape: Shape, defaults: &Defaults) -> u32 {
    match shape {
        Shape::File => defaults.file_mode,
        Shape::Dir => defaults.dir_mode,
    }
}

fn closed(mode: u32) -> u32 {
    mode & !WRITE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(attributes: &str, pairs: Pairs) -> Facts {
        Facts {
            shape: Shape::File,
            file_id: 7,
            size: 0,
            etag: 1,
            attributes: super::super::facts::attributes(attributes),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            btime: Timestamp::default(),
            atime: None,
            permission_key: None,
            pairs,
            content_headers: Vec::new(),
            is_leased: false,
            asked: None,
        }
    }

    /// What a file of this mode looks like, and the mode that is read back.
    fn round(mode: u32, old: &str) -> (String, Pairs, u32) {
        let (attrs, defaults) =
            (Attrs { mode: Some(mode), ..Attrs::default() }, Defaults::default());
        let mut posix = Posix::default();
        posix.set(&attrs, Shape::File, &defaults);
        let old = super::super::facts::attributes(old);
        let attributes = posix.attributes(&old, &attrs, Shape::File);
        let pairs = posix.into_pairs(&Vec::new());
        let facts = facts(&attributes, pairs.clone());
        let read = Posix::of(&facts).metadata(&facts, &defaults).mode.unwrap();
        (attributes, pairs, read)
    }

    #[test]
    fn every_mode_comes_back() {
        for mode in 0..=0o7777 {
            assert_eq!(round(mode, "Archive").2, mode, "{mode:o}");
            assert_eq!(round(mode, "Archive | ReadOnly").2, mode, "{mode:o}");
        }
    }

    #[test]
    fn a_default_leaves_no_trace() {
        assert_eq!(round(0o644, "Archive"), ("Archive".into(), vec![], 0o644));
        assert_eq!(round(0o644, "None"), ("None".into(), vec![], 0o644));
        assert_eq!(round(0o444, "Archive"), ("Archive|ReadOnly".into(), vec![], 0o444));
        let (attributes, pairs, _) = round(0o755, "Hidden | Archive");
        assert_eq!((&*attributes, pairs.len()), ("Hidden|Archive|NoScrubData", 1));
    }

    #[test]
    fn the_attribute_wins() {
        let pairs = round(0o444 | 0o111, "Archive").1;
        let opened = facts("Archive", pairs);
        let mode = Posix::of(&opened).metadata(&opened, &Defaults::default()).mode;
        assert_eq!(mode, Some(0o755));
        let closed = facts("Archive | ReadOnly", round(0o755, "Archive").1);
        let mode = Posix::of(&closed).metadata(&closed, &Defaults::default()).mode;
        assert_eq!(mode, Some(0o555));
    }

    #[test]
    fn others_metadata_stays() {
        let color = (HeaderName::from_static("color"), HeaderValue::from_static("red"));
        let old: Pairs = vec![color.clone(), (HeaderName::from_static(UID), "7".parse().unwrap())];
        assert_eq!(Posix::default().into_pairs(&old), [color]);
        let target = b"nowhere/\xff\n";
        let link = facts("NoScrubData", Posix::link(target).into_pairs(&old));
        let metadata = Posix::of(&link).metadata(&link, &Defaults::default());
        assert_eq!((metadata.kind, metadata.target.as_deref()), (Kind::Symlink, Some(&target[..])));
        assert_eq!((metadata.size, metadata.version.content.size), (10, 10));
    }
}
