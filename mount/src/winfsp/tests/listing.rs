//! Directories, name by name.

use super::rig::{ALL, Calls, on_each, on_each_two};
use crate::ntstatus::Status;
use crate::winfsp::facts::attribute;

#[test]
fn all_names_are_listed_once_in_order() {
    on_each(|_, drive| {
        assert_eq!(drive.names("\\"), [""; 0], "the root has no dots");
        drive.mkdir("\\d");
        assert_eq!(drive.names("\\d"), [".", ".."]);
        let mut expected = vec![".".to_owned(), "..".to_owned()];
        for number in 0..100 {
            let name = format!("File {number:03}.txt");
            drive.make(&format!("\\d\\{name}"), b"");
            expected.push(name);
        }
        drive.mkdir("\\d\\a sub");
        drive.make("\\d\\B file", b"");
        expected.splice(2..2, ["a sub".to_owned(), "B file".to_owned()]);
        assert_eq!(drive.names("\\d"), expected);
    });
}

#[test]
fn a_listing_goes_on_behind_any_name() {
    on_each(|_, drive| {
        for name in ["a", "B", "c", "D"] {
            drive.make(&format!("\\{name}"), b"");
        }
        let (dir, _) = drive.open_as("\\", Some(true), ALL).unwrap();
        let from = |marker| {
            let page = drive.page(&dir, marker, None).unwrap();
            page.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(from(None), ["a", "B", "c", "D"]);
        assert_eq!(from(Some("a")), ["B", "c", "D"]);
        assert_eq!(from(Some("B")), ["c", "D"]);
        assert_eq!(from(Some("bb")), ["c", "D"], "one that is not there");
        assert_eq!(from(Some("D")), [""; 0]);
        // A name that goes is in the listing until that begins again.
        drive.make("\\e", b"");
        drive.remove("\\c").unwrap();
        assert_eq!(from(Some("B")), ["c", "D"]);
        assert_eq!(from(None), ["a", "B", "D", "e"]);
        drive.done(dir, "\\");
    });
}

#[test]
fn a_pattern_chooses() {
    on_each(|_, drive| {
        drive.mkdir("\\d");
        for name in ["a.txt", "b.TXT", "c.jpg", "txt"] {
            drive.make(&format!("\\d\\{name}"), b"");
        }
        let (dir, _) = drive.open_as("\\d", Some(true), ALL).unwrap();
        let meant = |pattern| {
            let page = drive.page(&dir, None, Some(pattern)).unwrap();
            page.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(meant("*.txt"), ["a.txt", "b.TXT"]);
        assert_eq!(meant("?.jpg"), ["c.jpg"]);
        assert_eq!(meant("T*"), ["txt"]);
        assert_eq!(meant("*"), [".", "..", "a.txt", "b.TXT", "c.jpg", "txt"]);
        assert_eq!(meant("none"), [""; 0]);
        assert_eq!(drive.one(&dir, "A.TXT").unwrap(), "a.txt");
        assert_eq!(drive.one(&dir, "none"), Err(Status::OBJECT_NAME_NOT_FOUND));
        assert_eq!(drive.one(&dir, "a*"), Err(Status::OBJECT_NAME_INVALID));
        drive.done(dir, "\\d");
    });
}

#[test]
fn a_line_says_what_opening_says() {
    on_each(|_, drive| {
        drive.mkdir("\\d");
        drive.make("\\d\\f", &[1; 5000]);
        drive.mkdir("\\d\\s");
        let (dir, _) = drive.open_as("\\d", Some(true), ALL).unwrap();
        let page = drive.page(&dir, None, None).unwrap();
        drive.done(dir, "\\d");
        let names: Vec<_> = page.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, [".", "..", "f", "s"]);
        assert_eq!(page[0].1, drive.look("\\d").unwrap());
        assert_eq!(page[1].1.index, drive.look("\\").unwrap().index);
        assert_eq!(page[2].1, drive.look("\\d\\f").unwrap());
        assert_eq!((page[2].1.size, page[2].1.allocation), (5000, 8192));
        assert_eq!(page[3].1.attributes, attribute::DIRECTORY);
    });
}

#[test]
fn what_another_drive_makes_shows_and_what_it_removes_goes() {
    on_each_two(|rig, drive, other| {
        assert_eq!(drive.names("\\"), [""; 0]);
        other.make("\\theirs", b"theirs");
        other.mkdir("\\dir");
        rig.upload(other);
        rig.until("it shows", || (drive.names("\\") == ["dir", "theirs"]).then_some(()));
        assert_eq!(drive.content("\\THEIRS").unwrap(), b"theirs");
        other.remove("\\theirs").unwrap();
        rig.upload(other);
        rig.until("it goes", || (drive.names("\\") == ["dir"]).then_some(()));
        assert!(drive.is_missing("\\theirs"));
    });
}

/// Explorer hears of it: what the kernel would have to forget, by path.
#[test]
fn what_others_change_is_told() {
    use crate::winfsp::told::{ADDED, MODIFIED, REMOVED, told};
    use covefs_cache::{Ino, Notice};
    on_each(|_, drive| {
        drive.mkdir("\\Dir");
        drive.make("\\Dir\\f", b"1");
        let (dir, file) = (drive.look("\\Dir").unwrap(), drive.look("\\Dir\\f").unwrap());
        let say = |notice: &Notice| {
            let told = told(drive.vfs(), notice)?;
            Some((String::from_utf16(&told.path).unwrap(), told.action))
        };
        let entry = |name: &[u8]| Notice::Entry { parent: Ino(dir.index), name: name.to_vec() };
        // Within the freshness nothing is asked, and the answer is known.
        let known = ["\\Dir\\f", "\\Dir\\none"].map(String::from);
        let said = say(&entry(b"f")).unwrap();
        assert!(said.0 == known[0] && [ADDED, MODIFIED].contains(&said.1), "{said:?}");
        let said = say(&entry(b"none")).unwrap();
        assert!(said.0 == known[1] && [REMOVED, MODIFIED].contains(&said.1), "{said:?}");
        let said = say(&Notice::Inode(Ino(file.index)));
        assert_eq!(said, Some((known[0].clone(), MODIFIED)));
        assert_eq!(say(&Notice::Attributes(Ino(1 << 50))), None);
    });
}
