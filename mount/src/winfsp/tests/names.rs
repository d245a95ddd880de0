//! Finding, making and renaming: case aside, and never over what should stay.

use super::rig::{ALL, Calls, LOOK, on_each, on_each_two};
use crate::ntstatus::Status;
use crate::winfsp::facts::attribute;
use std::io::Write;

#[test]
fn names_are_found_whatever_their_case() {
    on_each(|_, drive| {
        drive.mkdir("\\Photos");
        drive.make("\\Photos\\Sommer \u{c4}.JPG", b"jpg");
        for path in [
            "\\Photos\\Sommer \u{c4}.JPG",
            "\\photos\\SOMMER \u{e4}.jpg",
            "\\PHOTOS\\sommer \u{e4}.Jpg",
        ] {
            assert_eq!(drive.content(path).unwrap(), b"jpg", "{path}");
        }
        assert_eq!(drive.names("\\PHOTOS"), [".", "..", "Sommer \u{c4}.JPG"]);
        let one = drive.look("\\Photos").unwrap();
        assert_eq!(drive.look("\\photos"), Ok(one), "one and the same");
        // What differs in case alone is taken.
        let taken = Some(Status::OBJECT_NAME_COLLISION);
        assert_eq!(drive.create_as("\\PHOTOS", true, 0).err(), taken);
        assert_eq!(drive.create_as("\\photos\\sommer \u{e4}.jpg", false, 0).err(), taken);
        assert_eq!(drive.create_as("\\", true, 0).err(), taken);
        assert!(drive.is_missing("\\Photo"));
    });
}

#[test]
fn windows_is_told_how_a_name_is_spelled() {
    on_each(|_, drive| {
        drive.mkdir("\\Photos");
        drive.make("\\Photos\\A.jpg", b"");
        assert_eq!(drive.normalized("\\photos\\a.JPG"), "\\Photos\\A.jpg");
        assert_eq!(drive.normalized("\\Photos\\A.jpg"), "", "nothing to say");
    });
}

#[test]
fn missing_names_and_missing_directories_are_told_apart() {
    on_each(|_, drive| {
        drive.make("\\file", b"");
        let look = |path| drive.look(path).unwrap_err();
        assert_eq!(look("\\none"), Status::OBJECT_NAME_NOT_FOUND);
        assert_eq!(look("\\none\\a"), Status::OBJECT_PATH_NOT_FOUND);
        assert_eq!(look("\\file\\a"), Status::OBJECT_PATH_NOT_FOUND);
        let make = |path: &str| drive.create_as(path, false, 0).err().unwrap();
        assert_eq!(make("\\none\\a"), Status::OBJECT_PATH_NOT_FOUND);
        for path in ["\\a:b", "\\a*", "\\a<b", "\\a\\\\b", "a", "\\a|b", "\\a\"b", "\\a?"] {
            assert_eq!(make(path), Status::OBJECT_NAME_INVALID, "{path}");
        }
        assert_eq!(make(&format!("\\{}", "x".repeat(256))), Status::OBJECT_NAME_INVALID);
        assert_eq!(make("\\.~covefs-mine"), Status::OBJECT_NAME_INVALID);
    });
}

#[test]
fn files_and_directories_are_not_taken_for_one_another() {
    on_each(|_, drive| {
        drive.mkdir("\\dir");
        drive.make("\\file", b"x");
        let as_dir = |path| drive.open_as(path, Some(true), LOOK).err();
        let as_file = |path| drive.open_as(path, Some(false), LOOK).err();
        assert_eq!(as_dir("\\file"), Some(Status::NOT_A_DIRECTORY));
        assert_eq!(as_file("\\dir"), Some(Status::FILE_IS_A_DIRECTORY));
        assert_eq!(as_file("\\"), Some(Status::FILE_IS_A_DIRECTORY));
        let (dir, _) = drive.open_as("\\dir", None, ALL).unwrap();
        assert_eq!(drive.read(&dir, 0, 1), Err(Status::FILE_IS_A_DIRECTORY));
        assert_eq!(drive.write(&dir, 0, b"x"), Err(Status::FILE_IS_A_DIRECTORY));
        drive.done(dir, "\\dir");
        let (file, _) = drive.open_as("\\file", None, ALL).unwrap();
        assert_eq!(drive.page(&file, None, None), Err(Status::NOT_A_DIRECTORY));
        drive.done(file, "\\file");
    });
}

#[test]
fn a_rename_moves_and_replaces_files_only() {
    on_each(|_, drive| {
        drive.make("\\a", b"a");
        drive.make("\\b", b"b");
        drive.mkdir("\\dir");
        drive.mkdir("\\dir2");
        assert_eq!(drive.mv("\\a", "\\b", false), Err(Status::OBJECT_NAME_COLLISION));
        assert_eq!(drive.mv("\\a", "\\B", true), Ok(()));
        assert_eq!((drive.content("\\b").unwrap(), drive.is_missing("\\a")), (b"a".to_vec(), true));
        assert_eq!(drive.mv("\\b", "\\dir\\c", false), Ok(()));
        assert_eq!(drive.content("\\dir\\c").unwrap(), b"a");
        assert_eq!(drive.mv("\\dir\\c", "\\dir2", true), Err(Status::ACCESS_DENIED));
        assert_eq!(drive.mv("\\dir", "\\dir2", true), Err(Status::ACCESS_DENIED));
        drive.make("\\file", b"");
        assert_eq!(drive.mv("\\dir", "\\file", true), Err(Status::ACCESS_DENIED));
        assert_eq!(drive.mv("\\dir", "\\dir\\in", false), Err(Status::INVALID_PARAMETER));
        assert_eq!(drive.mv("\\dir", "\\none\\x", false), Err(Status::OBJECT_PATH_NOT_FOUND));
        assert_eq!(drive.mv("\\dir", "\\", true), Err(Status::ACCESS_DENIED));
        assert_eq!(drive.mv("\\", "\\x", true), Err(Status::ACCESS_DENIED));
        assert_eq!(drive.mv("\\dir", "\\dir2\\moved", false), Ok(()));
        assert_eq!(drive.content("\\DIR2\\MOVED\\C").unwrap(), b"a");
        assert_eq!(drive.mv("\\dir2\\moved\\c", "\\dir2\\moved\\c", false), Ok(()));
    });
}

#[test]
fn the_case_of_a_name_can_be_changed() {
    on_each_two(|rig, drive, other| {
        if !rig.changes_case() {
            // Past the capture of output: it is to be seen.
            let said = "NOT RUN: the_case_of_a_name_can_be_changed: dir: its disk keeps the case";
            let _ = writeln!(std::io::stderr(), "{said}");
            return;
        }
        drive.make("\\readme.txt", b"read");
        drive.mkdir("\\docs");
        rig.upload(drive);
        assert_eq!(drive.mv("\\readme.txt", "\\README.txt", false), Ok(()));
        assert_eq!(drive.mv("\\docs", "\\Docs", false), Ok(()));
        assert_eq!(drive.names("\\"), ["Docs", "README.txt"]);
        assert_eq!(drive.content("\\readme.TXT").unwrap(), b"read");
        rig.upload(drive);
        rig.until("the other drive sees it", || {
            (other.names("\\") == ["Docs", "README.txt"]).then_some(())
        });
    });
}

#[test]
fn an_open_file_is_renamed_and_goes_on() {
    on_each(|_, drive| {
        drive.make("\\a", b"one");
        drive.make("\\b", b"two");
        let target = drive.open("\\b").unwrap();
        let open = drive.open("\\a").unwrap();
        assert_eq!(drive.rename(&open, "\\a", "\\b", true), Ok(()));
        assert_eq!(drive.write(&open, 3, b"!"), Ok(1));
        assert_eq!(drive.read(&target, 0, 10).unwrap(), b"two", "what was replaced lives on");
        drive.done(target, "\\b");
        drive.done(open, "\\b");
        assert_eq!(drive.content("\\b").unwrap(), b"one!");
        assert_eq!(drive.names("\\"), ["b"]);
    });
}

#[test]
fn a_read_only_file_is_not_replaced_nor_removed() {
    on_each(|_, drive| {
        let (open, info) = drive.create_as("\\keep", false, attribute::READONLY).unwrap();
        assert_eq!(info.attributes, attribute::READONLY);
        assert_eq!(drive.write(&open, 0, b"once"), Ok(4), "who makes it writes it");
        drive.done(open, "\\keep");
        drive.make("\\new", b"new");
        assert_eq!(drive.mv("\\new", "\\keep", true), Err(Status::ACCESS_DENIED));
        assert_eq!(drive.remove("\\keep"), Err(Status::CANNOT_DELETE));
        assert_eq!(drive.content("\\keep").unwrap(), b"once");
        assert_eq!(drive.mv("\\keep", "\\kept", false), Ok(()));
    });
}

#[test]
fn paths_of_far_more_than_260_characters_work() {
    on_each_two(|rig, drive, other| {
        let mut path = String::new();
        for number in 0..8 {
            path.push_str(&format!("\\{}{number}", "long-name-".repeat(12)));
            drive.mkdir(&path);
        }
        path.push_str("\\file");
        drive.make(&path, b"deep");
        assert!(path.len() > 900);
        assert_eq!(drive.content(&path.to_uppercase()).unwrap(), b"deep");
        rig.upload(drive);
        assert_eq!(other.content(&path).unwrap(), b"deep");
    });
}

#[test]
fn each_thing_has_a_number_of_its_own() {
    on_each(|_, drive| {
        drive.make("\\a", b"");
        drive.make("\\b", b"");
        drive.mkdir("\\c");
        let of = |path| drive.look(path).unwrap().index;
        let numbers = [of("\\"), of("\\a"), of("\\b"), of("\\c")];
        assert_eq!(numbers.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        drive.mv("\\a", "\\z", false).unwrap();
        assert_eq!(of("\\z"), numbers[1], "it goes along");
    });
}

/// Names that a unix user made. Where the share takes them, Windows can say them too.
#[cfg(unix)]
#[test]
fn names_that_windows_does_not_have_can_be_used() {
    use covefs_cache::{Asked, Ino, OpenMode, Owner};
    let how = OpenMode { write: true, ..OpenMode::default() };
    on_each(|_, drive| {
        let owner = Owner { uid: 0, gid: 0 };
        for (name, shown) in [(&b"a:b"[..], "\\a\u{f022}b"), (b"end.", "\\end\u{f029}")] {
            let made = drive.volume.ask("create", |vfs, _| {
                vfs.create(Asked::now(), owner, Ino::ROOT, name, 0o644, how)
            });
            // An Azure share has no such names, and says so.
            if made.as_ref().is_err_and(|why| *why == Status::OBJECT_NAME_INVALID) {
                assert_eq!(drive.create_as(shown, false, 0).err(), None, "as it is, it has");
                continue;
            }
            drive.volume.vfs.release(made.unwrap().1.fh);
            assert_eq!(drive.look(shown).unwrap().size, 0);
            assert_eq!(drive.remove(shown), Ok(()));
            drive.make(shown, b"again");
            assert_eq!(drive.content(shown).unwrap(), b"again");
        }
    });
}

#[test]
fn symlinks_are_reparse_points() {
    use covefs_cache::{Asked, Ino, Owner, Step};
    on_each(|_, drive| {
        drive.mkdir("\\dir");
        drive.make("\\dir\\f", b"");
        let owner = Owner { uid: 0, gid: 0 };
        for (name, target) in [("to-dir", "dir"), ("to-file", "dir/f"), ("to-none", "gone")] {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            let (vfs, asked) = (drive.vfs(), Asked::now().blocking());
            let (name, target) = (name.as_bytes(), target.as_bytes());
            let make = || vfs.symlink(asked, owner, Ino::ROOT, name, target).unwrap();
            let _inside = runtime.enter();
            while let Step::Wait(need) = make() {
                runtime.block_on(vfs.wait(asked, need)).unwrap();
            }
        }
        let of = |path| drive.look(path).unwrap().attributes;
        assert_eq!(of("\\to-dir"), attribute::REPARSE_POINT | attribute::DIRECTORY);
        assert_eq!(of("\\to-file"), attribute::REPARSE_POINT);
        assert_eq!(of("\\to-none"), attribute::REPARSE_POINT);
        let buffer = drive.reparse("\\to-file").unwrap();
        assert_eq!((&buffer[..4], buffer.len()), (&[0x0c, 0, 0, 0xa0][..], 20 + 2 * 2 * 5));
        assert_eq!(drive.reparse("\\dir"), Err(Status::NOT_A_REPARSE_POINT));
        assert_eq!(drive.reparse("\\none\\x"), Err(Status::NOT_A_REPARSE_POINT));
        // A link goes, what it leads to stays.
        assert_eq!(drive.remove("\\to-dir"), Ok(()));
        assert_eq!(drive.names("\\dir"), [".", "..", "f"]);
    });
}
