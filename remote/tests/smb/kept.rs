//! What a replacement takes over from what it replaces (X6), and what a share does not keep.

use crate::samba::{DEPOT, PLAIN, READERS, STREAMS, Samba};
use crate::suite::{Share, Upload, entries, path, put, send, xattrs};
use covefs_remote::{Attrs, ErrorKind, Expect, Remote, XattrRule};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn access_attributes_and_birth_are_kept() {
    // rule X6
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let old = put(&share, "f", b"old").await;
    put(&share, "g", b"as all are").await;
    let on_disk = samba.disk(PLAIN).join("f");
    std::fs::set_permissions(&on_disk, PermissionsExt::from_mode(0o600)).unwrap();
    samba.smbclient(PLAIN, "setmode f +h");
    let new = send(&share, "f", Upload::of("new"), Expect::Version(old.version)).await.unwrap();
    assert_eq!(new.btime, old.btime);
    assert_eq!(std::fs::read(&on_disk).unwrap(), b"new");
    assert_eq!(std::fs::metadata(&on_disk).unwrap().permissions().mode() & 0o007, 0);
    assert_ne!(
        std::fs::metadata(samba.disk(PLAIN).join("g")).unwrap().permissions().mode() & 0o007,
        0
    );
    // Nothing else is hidden for the temporary name that it had.
    for (name, is_hidden) in [("f", true), ("g", false)] {
        let said = samba.smbclient(PLAIN, &format!("allinfo {name}"));
        let line = said.lines().find(|line| line.starts_with("attributes:")).unwrap();
        assert_eq!(line.contains('H'), is_hidden, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_file_is_replaced_moved_and_removed() {
    // As on any local drive: who may write the directory may.
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let attrs = Attrs { mode: Some(0o444), ..Attrs::default() };
    let one = send(&share, "f", Upload::of("one").with(attrs), Expect::Absent).await.unwrap();
    assert_eq!(one.mode, Some(0o444));
    let two = send(&share, "f", Upload::of("two"), Expect::Version(one.version)).await.unwrap();
    assert_eq!(two.mode, Some(0o444));
    share.rename(&path("f"), &two.version, &path("g"), Expect::Absent).await.unwrap();
    share.remove(&path("g"), Expect::Version(two.version)).await.unwrap();
    assert!(samba.names(PLAIN).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_extended_attributes_and_the_owner_are_kept() {
    // rule X6
    let Some(samba) = Samba::start() else { return };
    // What ext4 holds as an attribute; and more than goes in one piece.
    for (name, bytes) in [(STREAMS, 1500), (DEPOT, 700_000)] {
        streams_are_kept(&samba, name, bytes).await;
    }
}

async fn streams_are_kept(samba: &Samba, name: &str, bytes: u32) {
    let share: Share = Arc::new(samba.remote(name));
    let old = put(&share, "f", b"old").await;
    let long: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    samba.put(name, "f:Zone.Identifier", b"from elsewhere");
    samba.put(name, "f:long", &long);
    let on_disk = samba.disk(name).join("f");
    setxattr(&on_disk, "user.Colour", b"red", XattrFlags::empty()).unwrap();
    std::os::unix::fs::chown(&on_disk, Some(1), Some(2)).unwrap();
    let seen = share.stat(&path("f")).await.unwrap();
    // To Samba a stream that is written is a write to the file.
    let late = send(&share, "f", Upload::of("x"), Expect::Version(old.version)).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::VersionChanged);
    let new = send(&share, "f", Upload::of("new"), Expect::Version(seen.version)).await.unwrap();
    assert_eq!(share.stat(&path("f")).await.unwrap().version, new.version);
    assert_eq!(std::fs::read(&on_disk).unwrap(), b"new");
    assert_eq!(samba.get(name, "f:Zone.Identifier"), b"from elsewhere");
    assert!(samba.get(name, "f:long") == long);
    let mut value = [0; 16];
    let length = getxattr(&on_disk, "user.Colour", &mut value).unwrap();
    assert_eq!(&value[..length], b"red");
    let owner = std::fs::metadata(&on_disk).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (1, 2));
    // A new file has none of them.
    put(&share, "g", b"new").await;
    let said = samba.smbclient(name, "allinfo g");
    assert!(!said.contains("Zone.Identifier"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_login_may_only_read_is_known_before_anything_is_sent() {
    let Some(samba) = Samba::start() else { return };
    std::fs::write(samba.disk(PLAIN).join("f"), "old").unwrap();
    let remote = samba.remote(READERS);
    remote.identity().await.unwrap();
    assert!(remote.limits().read_only);
    let share: Share = Arc::new(remote);
    let seen = share.stat(&path("f")).await.unwrap();
    let attrs = Attrs { mode: Some(0o444), ..Attrs::default() };
    for refused in [
        send(&share, "n", Upload::of("x"), Expect::Absent).await.map(drop),
        share.remove(&path("f"), Expect::Any).await,
        share.rename(&path("f"), &seen.version, &path("g"), Expect::Absent).await.map(drop),
        share.set_attrs(&path("f"), &seen.version, &attrs).await.map(drop),
        share.create_dir(&path("d"), &attrs).await.map(drop),
        share.symlink(&path("l"), b"x", &attrs).await.map(drop),
    ] {
        assert_eq!(refused.unwrap_err().kind, ErrorKind::ReadOnly);
    }
    let usual = samba.remote(PLAIN);
    usual.identity().await.unwrap();
    assert!(!usual.limits().read_only);
}

fn attrs(values: &[(&str, &[u8])]) -> Attrs {
    Attrs { xattrs: Some(xattrs(values)), ..Attrs::default() }
}

/// The server's own names; and who has none, is not asked for them.
#[tokio::test(flavor = "multi_thread")]
async fn extended_attributes_are_those_of_the_server() {
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let made = put(&share, "f", b"x").await;
    assert_eq!((made.xattrs, share.limits().xattrs), (Some(vec![]), XattrRule::Windows));
    setxattr(samba.disk(PLAIN).join("f"), "user.Colour", b"red", XattrFlags::empty()).unwrap();
    let seen = share.stat(&path("f")).await.unwrap();
    assert_eq!((seen.xattrs, &entries(&share, "").await[&b"f"[..]].xattrs), (None, &None));
    let seen = share.stat_with_xattrs(&path("f")).await.unwrap();
    let red = attrs(&[("user.Colour", b"red")]);
    assert_eq!(seen.xattrs, red.xattrs);
    // The server folds case in them: it stays one.
    let green = attrs(&[("user.colour", b"green"), ("user.shape", b"round")]);
    let set = share.set_attrs(&path("f"), &seen.version, &green).await.unwrap();
    assert!(set.version.same_content(&seen.version));
    let mut value = [0; 16];
    let length = getxattr(samba.disk(PLAIN).join("f"), "user.Colour", &mut value).unwrap();
    assert_eq!(&value[..length], b"green");
    assert_eq!(samba.get(PLAIN, "f"), b"x");
    // All of them go, and that is seen by a look that asks for nothing more.
    let none = attrs(&[("user.colour", b""), ("user.shape", b"")]);
    let set = share.set_attrs(&path("f"), &set.version, &none).await.unwrap();
    assert_eq!(
        (set.xattrs, share.stat(&path("f")).await.unwrap().xattrs),
        (Some(vec![]), Some(vec![]))
    );
    let mkdir = share.create_dir(&path("d"), &green).await.unwrap();
    assert_eq!(mkdir.xattrs, Some(vec![]), "they are set once it is there");
    let set = share.set_attrs(&path("d"), &mkdir.version, &green).await.unwrap();
    assert_eq!(set.xattrs, green.xattrs);
}

/// More than the server's disk takes: the bytes arrive all the same, and what is missing is told.
#[tokio::test(flavor = "multi_thread")]
async fn refused_extended_attributes_hold_nothing_up() {
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let old = put(&share, "f", b"old").await;
    // One is refused, and takes no other with it.
    let some = attrs(&[("user.a/b", b"1"), ("user.good", b"2")]);
    let good = Some(xattrs(&[("user.good", b"2")]));
    let set = share.set_attrs(&path("f"), &old.version, &some).await.unwrap();
    assert_eq!(set.xattrs, good);
    let upload = Upload::of("new").with(some.clone());
    let new = send(&share, "f", upload, Expect::Version(set.version)).await.unwrap();
    assert_eq!((&new.xattrs, samba.get(PLAIN, "f")), (&good, b"new".to_vec()));
    let made = send(&share, "g", Upload::of("new").with(some), Expect::Absent).await.unwrap();
    assert_eq!((made.xattrs, samba.get(PLAIN, "g")), (good, b"new".to_vec()));
    // What has no others loses those of what it replaces.
    let all = Attrs { xattrs_are_all: true, ..attrs(&[("user.other", b"3")]) };
    let expect = Expect::Version(new.version);
    let new = send(&share, "f", Upload::of("all").with(all.clone()), expect).await.unwrap();
    assert_eq!(new.xattrs, all.xattrs);
    assert_eq!(share.stat_with_xattrs(&path("f")).await.unwrap().xattrs, all.xattrs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_extended_attributes_is_known_by_its_answer() {
    let Some(samba) = Samba::start_with("ea support = no") else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let made = put(&share, "f", b"x").await;
    assert_eq!((made.xattrs, share.limits().xattrs), (None, XattrRule::None));
    let refused = share.set_attrs(&path("f"), &made.version, &attrs(&[("user.a", b"1")])).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Unsupported);
    let none = share.set_attrs(&path("f"), &made.version, &attrs(&[])).await.unwrap();
    assert_eq!(none.xattrs, None);
    let readers: Share = Arc::new(samba.remote(READERS));
    assert_eq!(readers.stat_with_xattrs(&path("f")).await.unwrap().size, 1);
}
