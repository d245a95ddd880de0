//! Tests of the decoding.

use super::*;
use covefs_cache::{Ino, Timestamp};

fn open(flags: OFlags) -> OpenMode {
    open_mode(flags.bits() as i32)
}

#[test]
fn open_flags_are_told_apart() {
    let none = OpenMode::default();
    assert_eq!(open(OFlags::RDONLY), OpenMode { read: true, ..none });
    assert_eq!(open(OFlags::WRONLY), OpenMode { write: true, ..none });
    assert_eq!(open(OFlags::RDWR), OpenMode { read: true, write: true, ..none });
    let write = OpenMode { write: true, ..none };
    let with = |flag| open(OFlags::WRONLY | flag);
    assert_eq!(with(OFlags::TRUNC), OpenMode { truncate: true, ..write });
    assert_eq!(with(OFlags::APPEND), OpenMode { append: true, ..write });
    assert_eq!(with(OFlags::CREATE | OFlags::EXCL), OpenMode { exclusive: true, ..write });
    assert_eq!(with(OFlags::SYNC), OpenMode { sync: true, ..write });
    assert_eq!(with(OFlags::DSYNC), OpenMode { sync: true, ..write });
    assert_eq!(with(OFlags::NOFOLLOW | OFlags::NONBLOCK), write);
}

#[test]
fn renames_that_make_no_sense_are_refused() {
    assert!(matches!(rename_mode(0), Ok(RenameMode::Replace)));
    assert!(matches!(rename_mode(1), Ok(RenameMode::NoReplace)));
    assert!(matches!(rename_mode(2), Ok(RenameMode::Exchange)));
    for flags in [3, 4, 5, 8] {
        assert!(matches!(rename_mode(flags), Err(Errno::EINVAL)), "{flags}");
    }
}

#[test]
fn only_these_modes_of_fallocate_are_known() {
    assert!(matches!(allocate(0), Ok(Allocate::Grow)));
    assert!(matches!(allocate(0x01), Ok(Allocate::Reserve)));
    assert!(matches!(allocate(0x03), Ok(Allocate::Punch)));
    assert!(matches!(allocate(0x10), Ok(Allocate::Zero)));
    assert!(matches!(allocate(0x11), Ok(Allocate::ZeroKeep)));
    // A punch without KEEP_SIZE, COLLAPSE_RANGE, INSERT_RANGE, UNSHARE_RANGE.
    for mode in [0x02, 0x08, 0x20, 0x40, 0x12] {
        assert!(matches!(allocate(mode), Err(Errno::EOPNOTSUPP)), "{mode}");
    }
}

#[test]
fn seeks_before_the_start_find_nothing() {
    assert!(matches!(seek(7, SEEK_DATA), Ok((7, Seek::Data))));
    assert!(matches!(seek(0, SEEK_HOLE), Ok((0, Seek::Hole))));
    assert!(matches!(seek(-1, SEEK_DATA), Err(Errno::ENXIO)));
    for whence in [0, 1, 2, 5] {
        assert!(matches!(seek(0, whence), Err(Errno::EINVAL)), "{whence}");
    }
}

#[test]
fn xattr_flags_exclude_each_other() {
    assert!(matches!(xattr_mode(0), Ok(XattrMode::Any)));
    assert!(matches!(xattr_mode(1), Ok(XattrMode::Create)));
    assert!(matches!(xattr_mode(2), Ok(XattrMode::Replace)));
    assert!(matches!(xattr_mode(3), Err(Errno::EINVAL)));
}

#[test]
fn mknod_makes_ordinary_files_only() {
    for mode in [0o644, 0o100644] {
        assert!(is_regular(mode), "{mode:o}");
    }
    // Fifo, character device, block device, socket.
    for mode in [0o010644, 0o020644, 0o060644, 0o140644] {
        assert!(!is_regular(mode), "{mode:o}");
    }
}

#[test]
fn setattr_keeps_the_type_bits_out() {
    let change = set_attr(Some(0o104755), (Some(1), None), Some(9), (Some(TimeOrNow::Now), None));
    let expected = SetAttr {
        mode: Some(0o4755),
        uid: Some(1),
        gid: None,
        size: Some(9),
        atime: Some(SetTime::Now),
        mtime: None,
        drops_set_id: false,
    };
    assert_eq!(change, expected);
}

/// `touch -d 1969-12-31T23:59:58.8Z` came out as 23:59:57.2: fuser counts the nanoseconds of
/// times before 1970 backward.
#[test]
fn times_before_1970_are_set_as_they_were_meant() {
    let as_fuser_says = |seconds: u64, nanos| UNIX_EPOCH - Duration::new(seconds, nanos);
    let cases = [
        (as_fuser_says(2, 800_000_000), (-2, 800_000_000)),
        (as_fuser_says(1, 0), (-1, 0)),
        (as_fuser_says(1, 1), (-1, 1)),
        (UNIX_EPOCH + Duration::new(3, 5), (3, 5)),
        (UNIX_EPOCH, (0, 0)),
    ];
    for (arrived, (seconds, nanos)) in cases {
        let set = set_time(TimeOrNow::SpecificTime(arrived));
        assert_eq!(set, SetTime::At(Timestamp { seconds, nanos }), "{arrived:?}");
    }
}

#[test]
fn times_go_out_as_they_are() {
    for (seconds, nanos) in [(0, 0), (-2, 800_000_000), (1_700_000_000, 999_999_999), (-1, 0)] {
        let shown: Timestamp = system_time(seconds, nanos).into();
        assert_eq!((shown.seconds, shown.nanos), (seconds, nanos));
    }
    // Nothing that a share says may take the drive down.
    system_time(i64::MIN, 0);
    system_time(i64::MAX, 999_999_999);
}

fn attr(kind: Kind, mode: u32) -> Attr {
    let time = Timestamp { seconds: 1, nanos: 2 };
    let (size, blocks) = (10, 1);
    let (atime, mtime, ctime, btime) = (time, time, time, time);
    let (uid, gid, nlink) = (7, 8, 1);
    Attr { ino: Ino(5), kind, size, blocks, mode, uid, gid, nlink, atime, mtime, ctime, btime }
}

#[test]
fn attributes_are_shown_whole() {
    let shown = file_attr(&attr(Kind::File, 0o4755));
    assert_eq!(shown.ino, INodeNo(5));
    assert_eq!((shown.size, shown.blocks, shown.perm), (10, 1, 0o4755));
    assert_eq!((shown.uid, shown.gid, shown.nlink), (7, 8, 1));
    assert_eq!(shown.mtime, UNIX_EPOCH + Duration::new(1, 2));
    assert_eq!(shown.blksize, FILE_IO_BYTES);
    assert_eq!(file_attr(&attr(Kind::Dir, 0o755)).blksize, BLOCK_BYTES);
}

/// A fifo of the share shown as a fifo would make `cat` hang for ever.
#[test]
fn special_files_are_shown_as_sockets() {
    assert_eq!(file_type(Kind::Special), FileType::Socket);
    assert_eq!(file_attr(&attr(Kind::Special, 0o600)).kind, FileType::Socket);
}

#[test]
fn listings_show_the_dots_without_attributes_and_nothing_else() {
    let entry = Entry { attr: attr(Kind::File, 0o644), ttl: Duration::from_secs(3) };
    let (ttl, shown) = listed(b"a", 5, Kind::File, Some(&entry)).unwrap();
    assert_eq!((ttl, shown.ino), (Duration::from_secs(3), INodeNo(5)));
    for dots in [&b"."[..], b".."] {
        let (ttl, shown) = listed(dots, 1, Kind::Dir, None).unwrap();
        // A number of 0 would hide the line: readdir(3) skips such.
        assert_eq!((ttl, shown.ino), (Duration::ZERO, INodeNo(1)));
    }
    assert!(listed(b"a", 5, Kind::File, None).is_none());
}

#[test]
fn attribute_names_end_with_nul() {
    assert_eq!(name_list(&[b"user.a".to_vec(), b"user.bc".to_vec()]), b"user.a\0user.bc\0");
    assert_eq!(name_list(&[]), b"");
}
