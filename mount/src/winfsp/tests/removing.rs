//! Removing: when the last handle closes, and only what was opened.

use super::rig::{Calls, LOOK, on_each, on_each_two};
use crate::ntstatus::Status;

#[test]
fn a_file_goes_when_it_is_closed_and_not_before() {
    on_each(|_, drive| {
        drive.make("\\a", b"bytes");
        let open = drive.open("\\a").unwrap();
        assert_eq!(drive.can_delete(&open, "\\a"), Ok(()));
        assert_eq!(drive.names("\\"), ["a"], "asked is not done");
        // The program changes its mind.
        drive.cleanup(&open, "\\a", false);
        drive.close(open);
        assert_eq!(drive.content("\\a").unwrap(), b"bytes");
        let open = drive.open("\\a").unwrap();
        drive.can_delete(&open, "\\a").unwrap();
        drive.cleanup(&open, "\\a", true);
        assert!(drive.is_missing("\\a"));
        // What is mapped is read until it is closed for good.
        assert_eq!(drive.read(&open, 0, 10).unwrap(), b"bytes");
        drive.close(open);
        assert!(drive.is_missing("\\a"));
        drive.make("\\a", b"another");
        assert_eq!(drive.content("\\a").unwrap(), b"another");
    });
}

#[test]
fn another_handle_keeps_the_bytes_of_a_removed_file() {
    on_each(|rig, drive| {
        drive.make("\\a", &[5; 200_000]);
        rig.upload(drive);
        let keeps = drive.open("\\A").unwrap();
        assert_eq!(drive.remove("\\a"), Ok(()));
        rig.upload(drive);
        assert!(drive.read(&keeps, 0, 200_000).unwrap() == [5; 200_000]);
        assert_eq!(drive.write(&keeps, 0, b"x"), Ok(1));
        drive.done(keeps, "\\a");
        assert_eq!(drive.names("\\"), [""; 0]);
    });
}

#[test]
fn directories_go_when_they_are_empty() {
    on_each_two(|rig, drive, other| {
        drive.mkdir("\\d");
        drive.make("\\d\\f", b"");
        assert_eq!(drive.remove("\\d"), Err(Status::DIRECTORY_NOT_EMPTY));
        assert_eq!(drive.names("\\d"), [".", "..", "f"]);
        assert_eq!(drive.remove("\\d\\f"), Ok(()));
        assert_eq!(drive.remove("\\D"), Ok(()));
        assert!(drive.is_missing("\\d"));
        assert_eq!(drive.remove("\\"), Err(Status::ACCESS_DENIED));
        drive.mkdir("\\e");
        rig.upload(drive);
        rig.until("there too", || (other.names("\\") == ["e"]).then_some(()));
    });
}

#[test]
fn what_took_the_name_of_an_open_file_is_not_removed_for_it() {
    on_each(|_, drive| {
        drive.make("\\a", b"old");
        let (old, _) = drive.open_as("\\a", None, LOOK).unwrap();
        drive.mv("\\a", "\\b", false).unwrap();
        drive.make("\\a", b"new");
        assert_eq!(drive.can_delete(&old, "\\a"), Err(Status::OBJECT_NAME_NOT_FOUND));
        assert_eq!(drive.rename(&old, "\\a", "\\c", false), Err(Status::OBJECT_NAME_NOT_FOUND));
        drive.cleanup(&old, "\\a", true);
        drive.close(old);
        assert_eq!(drive.content("\\a").unwrap(), b"new");
        assert_eq!(drive.content("\\b").unwrap(), b"old");
    });
}

#[test]
fn programs_save_as_they_do() {
    on_each_two(|rig, drive, other| {
        // Word: the new one beside, the old one aside, the new one in its place, the old one gone.
        drive.make("\\Report.docx", b"draft");
        rig.upload(drive);
        for round in 0..5 {
            let text = format!("version {round}");
            drive.make("\\~WRD0001.tmp", text.as_bytes());
            drive.mv("\\Report.docx", "\\~WRL0001.tmp", false).unwrap();
            drive.mv("\\~WRD0001.tmp", "\\Report.docx", false).unwrap();
            drive.remove("\\~WRL0001.tmp").unwrap();
        }
        // Notepad: emptied, written, closed.
        let open = drive.open("\\report.docx").unwrap();
        drive.size(&open, 0, false).unwrap();
        drive.write(&open, 0, b"final").unwrap();
        drive.done(open, "\\Report.docx");
        rig.upload(drive);
        assert_eq!(drive.names("\\"), ["Report.docx"]);
        rig.until("the other drive has the last one, and no copies", || {
            let is_last = other.content("\\Report.docx").ok()? == b"final";
            (is_last && other.names("\\") == ["Report.docx"]).then_some(())
        });
    });
}
