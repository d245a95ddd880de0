//! What the server says of an entry, as metadata.

use super::fail::{Fail, Outcome};
use crate::{ContentMark, ErrorKind, Expect, Kind, Metadata, Timestamp, Version};
use smb2::msg::directory_info::DirectoryInfoEntry;

/// Ticks of 100 ns from 1601 to 1970.
const EPOCH_TICKS: i64 = 116_444_736_000_000_000;
const TICKS_PER_SECOND: i64 = 10_000_000;

/// 1985.
const MARKS_FROM_TICKS: i64 = EPOCH_TICKS + 15 * 365 * 86_400 * TICKS_PER_SECOND;

/// How late a server may be with a time of writing: Samba waits two seconds before it tells.
const GRAIN_TICKS: i64 = 25 * TICKS_PER_SECOND / 10;

/// A time so far ahead was set by somebody; nearer ones come from a clock.
const SKEW_TICKS_MAX: i64 = 60 * TICKS_PER_SECOND;

pub(super) const READ_ONLY: u32 = 0x1;
const HIDDEN: u32 = 0x2;
const SYSTEM: u32 = 0x4;
pub(super) const DIRECTORY: u32 = 0x10;
const ARCHIVE: u32 = 0x20;
pub(super) const NORMAL: u32 = 0x80;
const REPARSE_POINT: u32 = 0x400;

/// Attributes that people set and that a replacement keeps.
pub(super) const SETTABLE: u32 = READ_ONLY | HIDDEN | SYSTEM | ARCHIVE;

/// Tags of what leads elsewhere. Other reparse points are files that the server tiers or dedups.
const SYMLINK_TAG: u32 = 0xA000_000C;
const MOUNT_POINT_TAG: u32 = 0xA000_0003;

const WRITE_BITS: u32 = 0o222;

/// Owner and permission bits: the share keeps none that we read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Defaults {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits of files; the read-only attribute takes the write bits away.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub dir_mode: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults { uid: 0, gid: 0, file_mode: 0o644, dir_mode: 0o755 }
    }
}

/// The answer about one entry. Times in ticks of 100 ns since 1601.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) id: u64,
    pub(super) size: u64,
    pub(super) attributes: u32,
    pub(super) btime: i64,
    pub(super) atime: i64,
    pub(super) mtime: i64,
    pub(super) ctime: i64,
    /// How much its extended attributes take.
    extended_bytes: u32,
    /// Leads elsewhere on the server.
    is_way: bool,
}

impl Facts {
    /// Reads a `FileAllInformation`; its end, the name, may be cut off.
    pub(super) fn parse(bytes: &[u8]) -> Outcome<Facts> {
        let short = || Fail::saying(ErrorKind::Protocol, "an answer about a file is cut short");
        let bytes: &[u8; 76] = bytes.first_chunk().ok_or_else(short)?;
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        let attributes = number(32) as u32;
        let is_dir = bytes[61] != 0;
        Ok(Facts {
            id: number(64),
            size: if is_dir { 0 } else { number(48) },
            attributes: if is_dir { attributes | DIRECTORY } else { attributes & !DIRECTORY },
            btime: number(0) as i64,
            atime: number(8) as i64,
            mtime: number(16) as i64,
            ctime: number(24) as i64,
            extended_bytes: u32::from_le_bytes([bytes[72], bytes[73], bytes[74], bytes[75]]),
            is_way: false,
        })
    }

    /// Those of an entry of a listing.
    pub(super) fn of_entry(entry: &DirectoryInfoEntry) -> Facts {
        let is_dir = entry.file_attributes & DIRECTORY != 0;
        let is_reparse = entry.file_attributes & REPARSE_POINT != 0;
        Facts {
            id: entry.file_id.unwrap_or(0),
            size: if is_dir { 0 } else { entry.end_of_file },
            attributes: entry.file_attributes,
            btime: entry.creation_time.0 as i64,
            atime: entry.last_access_time.0 as i64,
            mtime: entry.last_write_time.0 as i64,
            ctime: entry.change_time.0 as i64,
            // Of a reparse point its tag stands there, never 0: they are asked for.
            extended_bytes: entry.ea_size,
            is_way: is_reparse && matches!(entry.ea_size, SYMLINK_TAG | MOUNT_POINT_TAG),
        }
    }

    /// The same of a file that stands aside: servers hide what begins with a dot.
    pub(super) fn shown(self) -> Facts {
        Facts { attributes: self.attributes & !HIDDEN, ..self }
    }

    /// The attributes that a new file under this name takes over; `None`: of nothing.
    pub(super) fn passed_on(old: Option<&Facts>, name: &[u8]) -> u32 {
        let is_dotted = name.starts_with(b".");
        let kept = old.map_or(ARCHIVE, |old| old.attributes & SETTABLE);
        if is_dotted { kept & !HIDDEN } else { kept }
    }

    /// A time of access that no clock gives, and that follows from which bytes these are: with it a
    /// file is marked of which a site has seen all, before it is moved aside. Who writes to it
    /// afterwards makes another file of it, that is not marked.
    pub(super) fn mark(&self) -> i64 {
        let parts = [self.id, self.size, self.mtime as u64];
        let bytes = parts.iter().flat_map(|part| part.to_le_bytes());
        // FNV: the same everywhere and for ever.
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        // Within 228 years from 1985: disks hold these.
        MARKS_FROM_TICKS + (hash >> 8) as i64
    }

    /// See `mark`.
    pub(super) fn is_marked(&self) -> bool {
        self.atime == self.mark()
    }

    /// Whether both times it was the same directory with the same last change.
    pub(super) fn same_change(&self, other: &Facts) -> bool {
        let mark = |facts: &Facts| (facts.id, facts.mtime, facts.ctime);
        mark(self) == mark(other)
    }

    /// Whether its last change is old enough that another one from `now` on, by the server's clock,
    /// has another time.
    pub(super) fn is_settled(&self, now: i64) -> bool {
        now.saturating_sub(self.mtime.max(self.ctime)) >= GRAIN_TICKS
    }

    pub(super) fn is_dir(&self) -> bool {
        self.attributes & DIRECTORY != 0
    }

    /// The size of a symlink counts as it is stored: so a comparison needs no look inside.
    pub(super) fn version(&self) -> Version {
        let content = match self.is_dir() {
            true => ContentMark { file_id: self.id, ..ContentMark::default() },
            false => ContentMark { file_id: self.id, size: self.size, mtime: to_time(self.mtime) },
        };
        let object = (u128::from(self.ctime as u64) << 64) | u128::from(self.attributes & SETTABLE);
        Version { object, content }
    }

    /// Whether it has extended attributes.
    pub(super) fn has_xattrs(&self) -> bool {
        self.extended_bytes > 0
    }

    /// Whether it is the entry `version` names: of a directory the object, else the content.
    pub(super) fn is_version(&self, version: &Version) -> bool {
        self.version().same_content(version)
    }

    /// Everything that is said of it. `now`: by the server's clock.
    pub(super) fn metadata(
        &self,
        target: Option<Vec<u8>>,
        defaults: &Defaults,
        now: i64,
    ) -> Metadata {
        let is_read_only = self.attributes & READ_ONLY != 0;
        let (kind, mode) = match &target {
            _ if self.is_way => (Kind::Special, defaults.file_mode),
            _ if self.is_dir() => (Kind::Dir, defaults.dir_mode),
            Some(_) => (Kind::Symlink, 0o777),
            None if is_read_only => (Kind::File, defaults.file_mode & !WRITE_BITS),
            None => (Kind::File, defaults.file_mode),
        };
        let age = now.saturating_sub(self.mtime);
        Metadata {
            kind,
            size: target.as_ref().map_or(self.size, |target| target.len() as u64),
            mtime: to_time(self.mtime),
            ctime: to_time(self.ctime),
            atime: to_time(self.atime),
            btime: to_time(self.btime),
            mode: Some(mode),
            uid: Some(defaults.uid),
            gid: Some(defaults.gid),
            target: target.filter(|_| kind == Kind::Symlink),
            xattrs: None,
            version: self.version(),
            young: kind == Kind::File && age < GRAIN_TICKS && age > -SKEW_TICKS_MAX,
        }
    }
}

/// What stands there is as expected. `absent` is what to say when nothing does.
pub(super) fn check(held: Option<&Facts>, expect: Expect, absent: ErrorKind) -> Outcome<()> {
    match (held, expect) {
        (None, Expect::Version(_)) => Err(absent.into()),
        (Some(_), Expect::Absent) => Err(ErrorKind::Exists.into()),
        (Some(held), Expect::Version(version)) if !held.is_version(&version) => {
            Err(ErrorKind::VersionChanged.into())
        }
        _ => Ok(()),
    }
}

/// The attributes of a file whose permission bits become `mode`.
pub(super) fn with_mode(attributes: u32, mode: u32) -> u32 {
    match mode & WRITE_BITS {
        0 => attributes | READ_ONLY,
        _ => attributes & !READ_ONLY,
    }
}

pub(super) fn to_time(ticks: i64) -> Timestamp {
    let ticks = ticks.saturating_sub(EPOCH_TICKS);
    Timestamp {
        seconds: ticks.div_euclid(TICKS_PER_SECOND),
        nanos: (ticks.rem_euclid(TICKS_PER_SECOND) * 100) as u32,
    }
}

/// Never 0 or less: these mean "leave it" on the wire.
pub(super) fn to_ticks(time: Timestamp) -> i64 {
    let ticks = time.seconds.saturating_mul(TICKS_PER_SECOND).saturating_add(EPOCH_TICKS);
    ticks.saturating_add(i64::from(time.nanos / 100)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        for seconds in [-11_644_473_599, -1, 0, 1, 1_234_567_890, 253_402_300_799] {
            let time = Timestamp { seconds, nanos: 123_456_700 };
            assert_eq!(to_time(to_ticks(time)), time);
        }
        assert_eq!(to_ticks(Timestamp { seconds: i64::MIN, nanos: 0 }), 1);
    }

    #[test]
    fn the_read_only_attribute_is_the_write_bits() {
        let mut facts = Facts::parse(&[0; 80]).unwrap();
        facts.attributes = with_mode(ARCHIVE, 0o444);
        assert_eq!(facts.metadata(None, &Defaults::default(), 0).mode, Some(0o444));
        facts.attributes = with_mode(facts.attributes, 0o600);
        assert_eq!(facts.metadata(None, &Defaults::default(), 0).mode, Some(0o644));
        assert_eq!(facts.attributes, ARCHIVE);
    }

    #[test]
    fn a_mark_is_of_these_bytes_alone() {
        let mut facts = Facts::parse(&[0; 80]).unwrap();
        facts.atime = facts.mark();
        let limit = EPOCH_TICKS + 250 * 365 * 86_400 * TICKS_PER_SECOND;
        assert!(facts.is_marked() && (EPOCH_TICKS..limit).contains(&facts.atime));
        for other in [
            Facts { mtime: 1, ..facts.clone() },
            Facts { size: 1, ..facts.clone() },
            Facts { id: 1, ..facts.clone() },
            Facts { atime: facts.atime + 1, ..facts.clone() },
        ] {
            assert!(!other.is_marked());
        }
    }

    #[test]
    fn a_short_answer_is_none() {
        assert_eq!(Facts::parse(&[0; 75]).unwrap_err().kind, ErrorKind::Protocol);
    }
}
