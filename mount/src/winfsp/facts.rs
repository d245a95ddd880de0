//! Attributes and times: what Windows shows of a file, and what it may set.

use covefs_cache::{Attr, Kind, SetAttr, SetTime, Timestamp};

/// FILE_ATTRIBUTE_* (winnt.h).
#[allow(missing_docs)]
pub(super) mod attribute {
    pub(in super::super) const READONLY: u32 = 0x1;
    pub(in super::super) const DIRECTORY: u32 = 0x10;
    pub(in super::super) const NORMAL: u32 = 0x80;
    pub(in super::super) const REPARSE_POINT: u32 = 0x400;
    pub(in super::super) const OFFLINE: u32 = 0x1000;
    pub(in super::super) const RECALL_ON_DATA_ACCESS: u32 = 0x40_0000;
    /// Nothing is to be set.
    pub(in super::super) const INVALID: u32 = u32::MAX;
}

/// IO_REPARSE_TAG_SYMLINK.
pub(super) const SYMLINK: u32 = 0xA000_000C;

/// Sizes are shown in such units.
pub(super) const UNIT: u64 = 4096;

/// Seconds from 1601, where Windows begins, to 1970.
const EPOCH_SECONDS: i64 = 11_644_473_600;
const TICKS: i64 = 10_000_000;

/// Bits of a mode that let anybody write.
const WRITABLE: u32 = 0o222;

/// What Windows shows of a file. Times are in units of 100 ns since 1601.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Info {
    pub attributes: u32,
    pub reparse_tag: u32,
    pub allocation: u64,
    pub size: u64,
    pub created: u64,
    pub accessed: u64,
    pub written: u64,
    pub changed: u64,
    pub index: u64,
}

/// What a program may set of it; zero times and INVALID attributes stay as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Basic {
    pub attributes: u32,
    pub accessed: u64,
    pub written: u64,
}

/// `leads_to_dir`: of a symlink, whether a directory is where it leads. `marks_cold`: what is not here
/// is said to be offline, so that nobody reads it in passing.
pub(super) fn info(attr: &Attr, leads_to_dir: bool, marks_cold: bool) -> Info {
    let mut attributes = match attr.kind {
        Kind::Dir => attribute::DIRECTORY,
        Kind::Symlink if leads_to_dir => attribute::REPARSE_POINT | attribute::DIRECTORY,
        Kind::Symlink => attribute::REPARSE_POINT,
        Kind::File | Kind::Special => 0,
    };
    if attr.kind == Kind::File {
        if attr.mode & WRITABLE == 0 {
            attributes |= attribute::READONLY;
        }
        if marks_cold && attr.blocks * 512 < attr.size {
            attributes |= attribute::OFFLINE | attribute::RECALL_ON_DATA_ACCESS;
        }
    }
    let size = if attr.kind == Kind::File { attr.size } else { 0 };
    Info {
        attributes: if attributes == 0 { attribute::NORMAL } else { attributes },
        reparse_tag: if attr.kind == Kind::Symlink { SYMLINK } else { 0 },
        allocation: size.next_multiple_of(UNIT),
        size,
        created: ticks(attr.btime),
        accessed: ticks(attr.atime),
        written: ticks(attr.mtime),
        changed: ticks(attr.ctime),
        index: attr.ino.0,
    }
}

/// What of the wish the filesystem can do, given the mode that the file has.
pub(super) fn changes(wish: &Basic, kind: Kind, mode: u32) -> SetAttr {
    let at = |ticks: u64| (ticks != 0).then(|| SetTime::At(timestamp(ticks)));
    let sets_mode = kind == Kind::File && wish.attributes != attribute::INVALID;
    let mode = sets_mode.then(|| with_readonly(mode, wish.attributes));
    SetAttr { mode, atime: at(wish.accessed), mtime: at(wish.written), ..SetAttr::default() }
}

/// The mode of a file that is to be read-only, or not.
pub(super) fn with_readonly(mode: u32, attributes: u32) -> u32 {
    match attributes & attribute::READONLY != 0 {
        true => mode & !WRITABLE,
        false if mode & WRITABLE == 0 => mode | 0o200,
        false => mode,
    }
}

/// Whether a file is read-only.
pub(super) fn is_readonly(attr: &Attr) -> bool {
    attr.kind == Kind::File && attr.mode & WRITABLE == 0
}

/// Before 1601 there is nothing.
fn ticks(time: Timestamp) -> u64 {
    let ticks = (i128::from(time.seconds) + i128::from(EPOCH_SECONDS)) * i128::from(TICKS)
        + i128::from(time.nanos / 100);
    ticks.clamp(0, i128::from(i64::MAX)) as u64
}

fn timestamp(ticks: u64) -> Timestamp {
    let ticks = ticks.min(i64::MAX as u64) as i64;
    let nanos = (ticks % TICKS) as u32 * 100;
    Timestamp { seconds: ticks / TICKS - EPOCH_SECONDS, nanos }
}

#[cfg(test)]
mod tests {
    use super::*;
    use covefs_cache::Ino;
    use proptest::prelude::*;

    fn attr(kind: Kind, size: u64, blocks: u64, mode: u32) -> Attr {
        let time = Timestamp { seconds: 1, nanos: 234_567_800 };
        let (uid, gid, nlink) = (0, 0, 1);
        let (atime, mtime, ctime, btime) = (time, time, time, time);
        let ino = Ino(7);
        Attr { ino, kind, size, blocks, mode, uid, gid, nlink, atime, mtime, ctime, btime }
    }

    #[test]
    fn attributes_say_what_is_here() {
        let of = |attr: &Attr| info(attr, false, true).attributes;
        assert_eq!(of(&attr(Kind::File, 5000, 16, 0o644)), attribute::NORMAL);
        let cold = attribute::OFFLINE | attribute::RECALL_ON_DATA_ACCESS;
        assert_eq!(of(&attr(Kind::File, 5000, 1, 0o644)), cold);
        assert_eq!(of(&attr(Kind::File, 5000, 1, 0o444)), cold | attribute::READONLY);
        assert_eq!(of(&attr(Kind::File, 0, 0, 0o644)), attribute::NORMAL);
        assert_eq!(of(&attr(Kind::Dir, 0, 0, 0o555)), attribute::DIRECTORY);
        let link = info(&attr(Kind::Symlink, 3, 0, 0o777), true, true);
        assert_eq!(link.attributes, attribute::REPARSE_POINT | attribute::DIRECTORY);
        assert_eq!((link.reparse_tag, link.size), (SYMLINK, 0));
        let fixed = info(&attr(Kind::File, 5000, 1, 0o644), false, false);
        assert_eq!((fixed.attributes, fixed.allocation), (attribute::NORMAL, 8192));
    }

    #[test]
    fn only_what_is_asked_for_is_set() {
        let wish = Basic { attributes: attribute::INVALID, accessed: 0, written: 0 };
        assert_eq!(changes(&wish, Kind::File, 0o644), SetAttr::default());
        let wish = Basic { attributes: attribute::READONLY, ..wish };
        assert_eq!(changes(&wish, Kind::File, 0o755).mode, Some(0o555));
        assert_eq!(changes(&wish, Kind::Dir, 0o755).mode, None);
        let wish = Basic { attributes: attribute::NORMAL, ..wish };
        assert_eq!(changes(&wish, Kind::File, 0o444).mode, Some(0o644));
        assert_eq!(changes(&wish, Kind::File, 0o640).mode, Some(0o640));
        let written = 116_444_736_012_345_678;
        let set = changes(&Basic { written, ..wish }, Kind::File, 0o644).mtime;
        assert_eq!(set, Some(SetTime::At(Timestamp { seconds: 1, nanos: 234_567_800 })));
    }

    proptest! {
        #[test]
        fn times_come_back_to_the_100_ns(ticks in 1..i64::MAX as u64) {
            prop_assert_eq!(super::ticks(timestamp(ticks)), ticks);
        }

        #[test]
        fn any_time_of_a_share_is_some_time(seconds: i64, nanos in 0..1_000_000_000_u32) {
            let ticks = super::ticks(Timestamp { seconds, nanos });
            prop_assert!(ticks <= i64::MAX as u64);
        }
    }
}
