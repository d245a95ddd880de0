//! Drives that cannot change their share: one of a previous version, and one whose login may only read.

use crate::common::{Drive, first_difference, pattern, run, succeed};
use crate::samba::{PLAIN, READERS, SNAPS, Samba};
use std::fs;
use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

const COMMAND: Duration = Duration::from_secs(60);

/// A snapshot is found by its name and mounted as it was, for reading.
#[test]
fn a_snapshot_is_listed_and_mounted() {
    let Some(server) = Samba::start() else { return };
    let (old, new) = (pattern(1, 300_000), pattern(2, 200_000));
    let kept = server.disk(SNAPS).join(".snapshots/@GMT-2020.01.02-03.04.05/dir");
    let now = server.disk(SNAPS).join("dir");
    for (dir, bytes) in [(&kept, &old), (&now, &new)] {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("f"), bytes).unwrap();
    }
    let share = format!("smb://127.0.0.1:{}/{SNAPS}", server.port);
    let login = server.login_file();
    let login = ["--credentials", login.to_str().unwrap()];
    let covefs = || Command::new(env!("CARGO_BIN_EXE_covefs"));
    let listed = succeed(covefs().args(["snapshots", &share]).args(login), COMMAND);
    assert_eq!(listed.trim(), format!("{share}@GMT-2020.01.02-03.04.05"));
    let none = format!("smb://127.0.0.1:{}/{PLAIN}", server.port);
    let said = succeed(covefs().args(["snapshots", &none]).args(login), COMMAND);
    assert!(said.contains("has no snapshots"), "{said}");
    let mut was = Drive::over("smb-snapshot", listed.trim(), &[], &login);
    was.start();
    assert!(was.said().contains("is read-only, and so is the drive"), "{}", was.said());
    assert_eq!(first_difference(&old, &fs::read(was.mnt.join("dir/f")).unwrap()), None);
    let refused = fs::write(was.mnt.join("dir/f"), b"x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    was.unmount();
    let mut present = Drive::over("smb-present", &share, &[], &login);
    present.start();
    assert_eq!(first_difference(&new, &fs::read(present.mnt.join("dir/f")).unwrap()), None);
    present.unmount();
    let missing = format!("{share}@GMT-2001.01.01-00.00.00");
    let mut never = covefs();
    never.arg("mount").arg(missing).arg(&was.mnt).args(login);
    never.arg("--cache-dir").arg(was.scratch("never"));
    let said = String::from_utf8_lossy(&run(&mut never, COMMAND).stderr).into_owned();
    assert!(said.contains("there is no such snapshot"), "{said}");
}

/// What would be refused at the upload is refused when it is made.
#[test]
fn a_share_that_the_login_may_only_read_is_a_read_only_drive() {
    let Some(server) = Samba::start() else { return };
    fs::write(server.disk(PLAIN).join("f"), b"theirs").unwrap();
    let share = format!("smb://127.0.0.1:{}/{READERS}", server.port);
    let login = server.login_file();
    let login = ["--credentials", login.to_str().unwrap()];
    let mut drive = Drive::over("smb-readers", &share, &[], &login);
    drive.start();
    assert!(drive.said().contains("is read-only, and so is the drive"), "{}", drive.said());
    assert_eq!(fs::read(drive.mnt.join("f")).unwrap(), b"theirs");
    let at = |name: &str| drive.mnt.join(name);
    for refused in [
        fs::write(at("n"), b"x"),
        fs::write(at("f"), b"x"),
        fs::create_dir(at("d")),
        fs::remove_file(at("f")),
        fs::rename(at("f"), at("g")),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    drive.unmount();
}
