//! Extended attributes of an SMB share's files, as programs set and see them.

use super::*;
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};

fn get(path: &Path, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    getxattr(path, name, &mut buffer[..]).map(|len| buffer[..len].to_vec())
}

fn set(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    setxattr(path, name, value, XattrFlags::empty())
}

/// Those that users see.
fn names(path: &Path) -> Vec<String> {
    let mut buffer = vec![0; 4096];
    let len = listxattr(path, &mut buffer[..]).unwrap();
    let names = buffer[..len].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
    let mut names: Vec<String> =
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    // Samba keeps a file's attributes so.
    names.retain(|name| name != "user.DOSATTRIB");
    names.sort();
    names
}

#[test]
fn extended_attributes_are_seen_set_and_kept() {
    let Some(mut site) = Site::over("xattr", PLAIN) else { return };
    let disk = site.server.disk(PLAIN);
    fs::create_dir(disk.join("dir")).unwrap();
    for name in ["theirs", "plain"] {
        fs::write(disk.join(name), b"bytes").unwrap();
    }
    set(&disk.join("theirs"), "user.xdg.comment", b"from elsewhere").unwrap();
    site.drive.start();
    assert_eq!(names(&site.at("theirs")), ["user.xdg.comment"]);
    assert_eq!(get(&site.at("theirs"), "user.xdg.comment"), Ok(b"from elsewhere".to_vec()));
    assert_eq!(names(&site.at("plain")), [""; 0]);
    assert_eq!(get(&site.at("plain"), "user.a"), Err(Errno::NODATA));
    // Of what is there, of what is new, of directories of both kinds.
    fs::create_dir(site.at("made")).unwrap();
    fs::write(site.at("made/new"), b"new").unwrap();
    fs::write(site.at("empty"), b"").unwrap();
    let all = ["theirs", "plain", "dir", "made", "made/new", "empty"];
    for name in all {
        set(&site.at(name), "user.Colour", name.as_bytes()).unwrap();
        set(&site.at(name), "user.gone", &[7; 300]).unwrap();
        removexattr(site.at(name), "user.gone").unwrap();
    }
    // Case is folded, as the server folds it.
    set(&site.at("plain"), "user.COLOUR", b"plain").unwrap();
    assert_eq!(names(&site.at("plain")), ["user.Colour"]);
    let create = setxattr(site.at("plain"), "user.colour", b"x", XattrFlags::CREATE);
    assert_eq!(create, Err(Errno::EXIST));
    // What the server would refuse is refused at once.
    let colon = set(&site.at("plain"), "user.a:b", b"x");
    for refused in [colon, set(&site.at("plain"), "user.empty", b"")] {
        assert_eq!(refused, Err(Errno::OPNOTSUPP));
    }
    assert_eq!(set(&site.at("plain"), "user.much", &[1; 64_000]), Err(Errno::NOSPC));
    site.drive.sync();
    for name in all {
        assert_eq!(get(&disk.join(name), "user.Colour"), Ok(name.into()), "{name} on the server");
        assert_eq!(get(&disk.join(name), "user.gone"), Err(Errno::NODATA), "{name}");
    }
    // Bytes and attributes go up together, and what was there is kept.
    fs::write(site.at("theirs"), b"edited").unwrap();
    set(&site.at("theirs"), "user.more", b"yes").unwrap();
    site.drive.make_cold();
    assert_eq!(names(&site.at("theirs")), ["user.Colour", "user.more", "user.xdg.comment"]);
    site.same_there("theirs", b"edited");
    for name in all {
        assert_eq!(get(&site.at(name), "user.colour"), Ok(name.into()), "{name} after a mount");
    }
    // And what another client sets or takes away is seen.
    set(&disk.join("plain"), "user.Colour", b"other").unwrap();
    rustix::fs::removexattr(disk.join("empty"), "user.Colour").unwrap();
    until("another client's attributes", FRESH, || {
        get(&site.at("plain"), "user.colour") == Ok(b"other".to_vec())
            && names(&site.at("empty")).is_empty()
    });
    site.assert_clean();
}

/// What another client sets while an edit of ours waits is neither hidden by its upload nor removed by the next
/// attribute that is set here.
#[test]
fn attributes_of_others_outlive_our_edits() {
    let Some(mut site) = Site::over("xattr-others", PLAIN) else { return };
    let on_disk = site.server.disk(PLAIN).join("f");
    fs::write(&on_disk, b"old").unwrap();
    set(&on_disk, "user.old", b"1").unwrap();
    site.drive.start();
    let here = site.at("f");
    assert_eq!(names(&here), ["user.old"]);
    fs::write(&here, b"new").unwrap();
    set(&on_disk, "user.theirs", b"2").unwrap();
    site.drive.sync();
    site.same_there("f", b"new");
    until("theirs is seen", FRESH, || names(&here) == ["user.old", "user.theirs"]);
    fs::rename(&here, site.at("g")).unwrap();
    set(&on_disk, "user.later", b"3").unwrap();
    site.drive.sync();
    let (here, on_disk) = (site.at("g"), on_disk.with_file_name("g"));
    set(&here, "user.ours", b"4").unwrap();
    removexattr(&here, "user.old").unwrap();
    site.drive.sync();
    assert_eq!(names(&on_disk), ["user.later", "user.ours", "user.theirs"]);
    until("all are seen", FRESH, || names(&here) == names(&on_disk));
}

/// Two drives set different attributes of one file, and one removes a third: all of it counts.
#[test]
fn two_drives_set_attributes_of_one_file() {
    let Some(mut site) = Site::over("xattr-two", PLAIN) else { return };
    let on_disk = site.server.disk(PLAIN).join("f");
    fs::write(&on_disk, b"bytes").unwrap();
    for (name, value) in [("user.a", b"1"), ("user.b", b"2"), ("user.c", b"3")] {
        set(&on_disk, name, value).unwrap();
    }
    let named = format!("smb://127.0.0.1:{}/{PLAIN}", site.server.port);
    let login = site.server.login_file();
    let args = ["--credentials", login.to_str().unwrap(), "--site", "other"];
    let mut other = Drive::over("smb-xattr-other", &named, &[], &args);
    site.drive.start();
    other.start();
    let (ours, theirs) = (site.at("f"), other.mnt.join("f"));
    for path in [&ours, &theirs] {
        assert_eq!(names(path), ["user.a", "user.b", "user.c"]);
    }
    set(&ours, "user.a", b"ours").unwrap();
    removexattr(&ours, "user.c").unwrap();
    set(&theirs, "user.b", b"theirs").unwrap();
    site.drive.sync();
    other.sync();
    for path in [&on_disk, &ours, &theirs] {
        until("all that was set", FRESH, || {
            names(path) == ["user.a", "user.b"]
                && get(path, "user.a") == Ok(b"ours".to_vec())
                && get(path, "user.b") == Ok(b"theirs".to_vec())
        });
    }
    // A value that another drive changed is seen, and not set back by the next attribute.
    set(&theirs, "user.a", b"later").unwrap();
    other.sync();
    until("what the other one set", FRESH, || get(&ours, "user.a") == Ok(b"later".to_vec()));
}

/// A new file of an old name has the attributes that it was given, as on any disk.
#[test]
fn a_new_file_has_no_attributes_of_the_one_that_it_replaces() {
    let Some(site) = Site::mounted("xattr-new") else { return };
    for name in ["removed", "renamed"] {
        fs::write(site.at(name), b"old").unwrap();
        set(&site.at(name), "user.old", b"1").unwrap();
    }
    site.drive.sync();
    fs::remove_file(site.at("removed")).unwrap();
    fs::write(site.at("removed"), b"new").unwrap();
    fs::write(site.at("other"), b"new").unwrap();
    set(&site.at("other"), "user.new", b"2").unwrap();
    fs::rename(site.at("other"), site.at("renamed")).unwrap();
    site.drive.sync();
    let disk = site.server.disk(PLAIN);
    for (name, wanted) in [("removed", &[][..]), ("renamed", &["user.new"])] {
        assert_eq!(names(&site.at(name)), wanted, "{name}");
        assert_eq!(names(&disk.join(name)), wanted, "{name} on the server");
    }
}

/// What is hydrated is copied without the share, attributes too; what nobody fetched is refused at once.
#[test]
fn attributes_of_a_hydrated_file_are_there_without_the_share() {
    let Some(mut site) = Site::over("xattr-offline", PLAIN) else { return };
    let disk = site.server.disk(PLAIN);
    for name in ["here", "cold"] {
        fs::write(disk.join(name), b"bytes").unwrap();
        set(&disk.join(name), "user.Colour", b"red").unwrap();
    }
    site.drive.start();
    fs::read_dir(&site.drive.mnt).unwrap().for_each(drop);
    let mut hydrate = std::process::Command::new(env!("CARGO_BIN_EXE_covefs"));
    hydrate.arg("hydrate").arg(site.at("here"));
    assert!(common::run(&mut hydrate, FRESH).status.success());
    site.server.kill();
    until("the drive knows", FRESH, || site.drive.status()["online"] == false);
    let asked = std::time::Instant::now();
    assert_eq!(names(&site.at("here")), ["user.Colour"]);
    assert_eq!(get(&site.at("here"), "user.colour"), Ok(b"red".to_vec()));
    assert_eq!(get(&site.at("cold"), "user.colour"), Err(Errno::IO));
    assert!(asked.elapsed() < Duration::from_secs(20), "nobody waits for the share");
    set(&site.at("here"), "user.more", b"1").unwrap();
    site.server.run();
    site.drive.sync();
    assert_eq!(names(&disk.join("here")), ["user.Colour", "user.more"]);
}

/// The server is set up anew while attributes wait for their upload: bytes arrive, and the user is told.
#[test]
fn attributes_that_a_server_refuses_hold_nothing_up_and_are_told_of() {
    let Some(mut site) = Site::mounted("xattr-refused") else { return };
    site.drive.allow("did not take extended attributes");
    for name in ["old", "other"] {
        fs::write(site.at(name), b"old").unwrap();
    }
    site.drive.sync();
    site.server.kill();
    set(&site.at("other"), "user.Colour", b"red").unwrap();
    fs::write(site.at("old"), b"new").unwrap();
    set(&site.at("old"), "user.Colour", b"red").unwrap();
    site.server.set("ea support = no");
    site.server.run();
    site.drive.sync();
    site.same_there("old", b"new");
    for name in ["old", "other"] {
        assert_eq!(set(&site.at(name), "user.Colour", b"x"), Err(Errno::OPNOTSUPP));
        assert_eq!(names(&site.at(name)), [""; 0]);
        let messages = site.drive.status()["messages"].to_string();
        assert!(messages.contains(&format!("extended attributes of /{name}")), "{messages}");
    }
}
