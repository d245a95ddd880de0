//! What a replacement takes over from what it replaces (X6), and what a share does not keep.

use crate::samba::{PLAIN, Samba};
use crate::suite::{Share, Upload, path, put, send};
use covefs_remote::{Attrs, Expect};
use std::os::unix::fs::PermissionsExt;
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
