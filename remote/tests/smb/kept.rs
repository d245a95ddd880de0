//! What a replacement takes over from what it replaces (X6), and what a share does not keep.

use crate::samba::{DEPOT, PLAIN, READERS, STREAMS, Samba};
use crate::suite::{Share, Upload, path, put, send};
use covefs_remote::{Attrs, ErrorKind, Expect, Remote};
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
