//! Bytes, sizes, attributes and times.

use super::rig::{ALL, Calls, LOOK, on_each, on_each_as, on_each_two};
use crate::ntstatus::Status;
use crate::winfsp::facts::{Basic, attribute};

const COLD: u32 = attribute::OFFLINE | attribute::RECALL_ON_DATA_ACCESS;
const SAME: Basic = Basic { attributes: attribute::INVALID, accessed: 0, written: 0 };

#[test]
fn what_is_written_is_read() {
    on_each(|_, drive| {
        let (open, info) = drive.create_as("\\a.txt", false, attribute::NORMAL).unwrap();
        assert_eq!((info.size, info.allocation, info.attributes), (0, 0, attribute::NORMAL));
        assert_eq!(drive.read(&open, 0, 10), Err(Status::END_OF_FILE));
        assert_eq!(drive.write(&open, 0, b"hello"), Ok(5));
        assert_eq!(drive.write(&open, 3, b"p!"), Ok(2));
        assert_eq!(drive.read(&open, 0, 100).unwrap(), b"help!");
        assert_eq!(drive.read(&open, 3, 1).unwrap(), b"p");
        assert_eq!(drive.read(&open, 5, 1), Err(Status::END_OF_FILE));
        assert_eq!(drive.read(&open, 0, 0).unwrap(), b"");
        // To the end, wherever that is.
        assert_eq!(drive.put(&open, b" again", None, false), Ok(6));
        assert_eq!(drive.read(&open, 0, 100).unwrap(), b"help! again");
        // Past the end: zeros between.
        assert_eq!(drive.write(&open, 20, b"x"), Ok(1));
        let bytes = drive.read(&open, 0, 100).unwrap();
        assert_eq!((bytes.len(), &bytes[11..]), (21, &b"\0\0\0\0\0\0\0\0\0x"[..]));
        let info = drive.info(&open).unwrap();
        assert_eq!((info.size, info.allocation), (21, 4096));
        assert_eq!(drive.flush(Some(&open)), Ok(()));
        assert_eq!(drive.flush(None), Ok(()));
        drive.done(open, "\\a.txt");
        assert_eq!(drive.content("\\a.txt").unwrap().len(), 21);
    });
}

#[test]
fn mapped_pages_do_not_extend_a_file() {
    on_each(|_, drive| {
        drive.make("\\a", b"0123456789");
        let open = drive.open("\\a").unwrap();
        assert_eq!(drive.put(&open, &[b'x'; 4096], Some(0), true), Ok(10));
        assert_eq!(drive.put(&open, &[b'y'; 4096], Some(10), true), Ok(0));
        assert_eq!(drive.put(&open, &[b'y'; 4096], Some(5000), true), Ok(0));
        assert_eq!(drive.read(&open, 0, 100).unwrap(), [b'x'; 10]);
        assert_eq!(drive.info(&open).unwrap().size, 10);
        drive.done(open, "\\a");
    });
}

#[test]
fn a_size_is_set_and_room_is_none() {
    on_each(|_, drive| {
        drive.make("\\a", b"0123456789");
        let open = drive.open("\\a").unwrap();
        assert_eq!(drive.size(&open, 4, false).unwrap().size, 4);
        assert_eq!(drive.size(&open, 6, false).unwrap().size, 6);
        assert_eq!(drive.read(&open, 0, 100).unwrap(), b"0123\0\0");
        // Room for more leaves the size; room for less cuts it.
        assert_eq!(drive.size(&open, 1 << 20, true).unwrap().size, 6);
        assert_eq!(drive.size(&open, 6, true).unwrap().size, 6);
        assert_eq!(drive.size(&open, 2, true).unwrap().size, 2);
        assert_eq!(drive.read(&open, 0, 100).unwrap(), b"01");
        drive.done(open, "\\a");
    });
}

#[test]
fn any_handle_reads_and_writes_for_the_cache_manager() {
    on_each(|_, drive| {
        drive.make("\\a", b"0123456789");
        let (looks, _) = drive.open_as("\\a", None, LOOK).unwrap();
        let (reads, _) = drive.open_as("\\a", None, 0x1).unwrap();
        assert_eq!(drive.write(&reads, 0, b"x"), Ok(1));
        assert_eq!(drive.read(&looks, 0, 2).unwrap(), b"x1");
        drive.done(reads, "\\a");
        drive.done(looks, "\\a");
    });
}

#[test]
fn overwriting_empties_a_file_and_keeps_who_it_is() {
    on_each(|_, drive| {
        drive.make("\\a", b"0123456789");
        let before = drive.look("\\a").unwrap();
        let open = drive.open("\\a").unwrap();
        let info = drive.overwrite(&open, attribute::NORMAL, false).unwrap();
        assert_eq!((info.size, info.index), (0, before.index));
        assert_eq!(drive.write(&open, 0, b"new"), Ok(3));
        let info = drive.overwrite(&open, attribute::READONLY, true).unwrap();
        assert_eq!((info.size, info.attributes), (0, attribute::READONLY));
        let info = drive.overwrite(&open, attribute::NORMAL, false).unwrap();
        assert_eq!(info.attributes, attribute::READONLY, "added to, not replaced");
        let info = drive.overwrite(&open, attribute::NORMAL, true).unwrap();
        assert_eq!(info.attributes, attribute::NORMAL);
        drive.done(open, "\\a");
    });
}

#[test]
fn attributes_and_times_are_set_to_the_100_ns() {
    on_each_two(|rig, drive, other| {
        drive.make("\\a", b"1");
        let open = drive.open("\\a").unwrap();
        let written = 133_000_000_012_345_678;
        let info = drive.basic(&open, Basic { written, ..SAME }).unwrap();
        assert_eq!(info.written, written);
        let accessed = written + 1;
        let info = drive.basic(&open, Basic { accessed, ..SAME }).unwrap();
        assert_eq!((info.written, info.accessed), (written, accessed));
        let readonly = Basic { attributes: attribute::READONLY, ..SAME };
        assert_eq!(drive.basic(&open, readonly).unwrap().attributes, attribute::READONLY);
        assert_eq!(drive.basic(&open, SAME).unwrap().attributes, attribute::READONLY);
        drive.done(open, "\\a");
        rig.upload(drive);
        let there = rig.until("it is there", || other.look("\\a").ok());
        assert_eq!((there.written, there.size), (written, 1));
        assert_ne!(there.attributes & attribute::READONLY, 0);
        let open = drive.open("\\a").unwrap();
        let normal = Basic { attributes: attribute::NORMAL, ..SAME };
        assert_eq!(drive.basic(&open, normal).unwrap().attributes, attribute::NORMAL);
        drive.done(open, "\\a");
    });
}

#[test]
fn what_is_not_here_is_offline_until_it_is_read() {
    on_each(|rig, drive| {
        let bytes: Vec<u8> = (0..300_000).map(|n| (n % 251) as u8).collect();
        drive.make("\\a", &bytes);
        assert_eq!(drive.look("\\a").unwrap().attributes, attribute::NORMAL);
        rig.evict(drive, "\\a");
        assert_eq!(drive.look("\\a").unwrap().attributes, COLD);
        // To look at it fetches nothing.
        let (dir, _) = drive.open_as("\\", Some(true), ALL).unwrap();
        let page = drive.page(&dir, None, None).unwrap();
        assert_eq!((&*page[0].0, page[0].1.attributes, page[0].1.size), ("a", COLD, 300_000));
        drive.done(dir, "\\");
        assert_eq!(drive.look("\\a").unwrap().attributes, COLD);
        assert!(drive.content("\\a").unwrap() == bytes);
        rig.until("its bytes are kept", || {
            (drive.look("\\a").unwrap().attributes == attribute::NORMAL).then_some(())
        });
    });
}

#[test]
fn a_fixed_disk_calls_nothing_offline() {
    let fixed = |options: &mut crate::options::MountOptions| {
        options.extra.push("fixed-disk".into());
    };
    on_each_as(fixed, |rig, drive| {
        drive.make("\\a", &[7; 100_000]);
        rig.evict(drive, "\\a");
        assert_eq!(drive.look("\\a").unwrap().attributes, attribute::NORMAL);
        assert!(drive.content("\\a").unwrap() == [7; 100_000]);
    });
}

#[test]
fn a_cold_file_is_read_from_any_place_and_written_into() {
    on_each_two(|rig, drive, other| {
        let mut bytes: Vec<u8> = (0..400_000).map(|n| (n % 241) as u8).collect();
        drive.make("\\big", &bytes);
        rig.evict(drive, "\\big");
        let open = drive.open("\\big").unwrap();
        assert!(drive.read(&open, 200_000, 5000).unwrap() == bytes[200_000..205_000]);
        assert_eq!(drive.write(&open, 100_000, b"here"), Ok(4));
        bytes[100_000..100_004].copy_from_slice(b"here");
        assert!(drive.read(&open, 0, 400_000).unwrap() == bytes);
        drive.done(open, "\\big");
        rig.upload(drive);
        rig.until("the other drive has it", || {
            other.content("\\big").ok().filter(|found| *found == bytes)
        });
    });
}

#[test]
fn a_read_only_drive_refuses_changes() {
    on_each_as(
        |options| options.read_only = true,
        |_, drive| {
            let denied = Status::MEDIA_WRITE_PROTECTED;
            assert_eq!(drive.create_as("\\a", false, 0).err(), Some(denied));
            assert_eq!(drive.create_as("\\a", true, 0).err(), Some(denied));
            let (root, _) = drive.open_as("\\", Some(true), LOOK).unwrap();
            assert_eq!(drive.basic(&root, SAME).err(), Some(denied));
            assert_eq!(drive.can_delete(&root, "\\"), Err(denied));
            drive.done(root, "\\");
            assert_eq!(drive.names("\\"), [""; 0]);
        },
    );
}

#[test]
fn the_share_s_space_is_the_drive_s() {
    on_each(|rig, drive| {
        let (total, free) =
            rig.until("the share is asked", || drive.space().ok().filter(|(total, _)| *total > 0));
        assert!(free <= total && free > 0, "{free} of {total}");
    });
}
