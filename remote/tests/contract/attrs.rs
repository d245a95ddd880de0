//! set_attrs, create_dir, symlink.

use super::*;
use covefs_remote::{Kind, Timestamp, XattrRule};

pub async fn only_what_is_named_is_set(share: Share) {
    for name in ["f", "d"] {
        let made =
            if name == "f" { put(&share, name, b"x").await } else { mkdir(&share, name).await };
        let atime = Timestamp { seconds: 1_500_000_000, nanos: 5_000_000 };
        let mtime = Timestamp { seconds: 1_400_000_000, nanos: 7_000_000 };
        let attrs = Attrs { atime: Some(atime), ..Attrs::default() };
        let set = share.set_attrs(&path(name), &made.version, &attrs).await.unwrap();
        assert_eq!((set.atime, set.mtime, set.mode), (atime, made.mtime, made.mode));
        let attrs = Attrs { mtime: Some(mtime), mode: Some(0o700), ..Attrs::default() };
        let set = share.set_attrs(&path(name), &made.version, &attrs).await.unwrap();
        assert_eq!((set.atime, set.mtime, set.uid), (atime, mtime, made.uid));
        if share.limits().has_modes {
            assert_eq!(set.mode, Some(0o700));
        }
        assert_eq!(share.stat(&path(name)).await.unwrap().version, set.version);
        let none = share.set_attrs(&path(name), &made.version, &Attrs::default()).await.unwrap();
        assert_eq!((none.mtime, none.mode), (mtime, set.mode));
    }
}

pub async fn another_object_is_not_touched(share: Share) {
    let old = put(&share, "f", b"x").await.version;
    let new = put(&share, "f", b"y").await;
    let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
    let lost = share.set_attrs(&path("f"), &old, &attrs).await;
    assert_eq!(kind(lost), ErrorKind::VersionChanged);
    assert_eq!(share.stat(&path("f")).await.unwrap().mode, new.mode);
    let gone = share.set_attrs(&path("x"), &old, &attrs).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
}

pub async fn xattrs_are_set_and_removed(share: Share) {
    // What it can hold, a server says when it is asked for anything.
    put(&share, "f", b"x").await;
    if !share.limits().has_xattrs() {
        return skip("has no xattrs");
    }
    mkdir(&share, "d").await;
    let is_windows = share.limits().xattrs == XattrRule::Windows;
    let empty = if is_windows { &b"0"[..] } else { b"" };
    for name in ["f", "d"] {
        let version = version(&share, name).await;
        for values in [
            vec![("user.a", &b"1"[..]), ("user.b", empty), ("user.c", &[0, 255, 10])],
            vec![("user.a", &b"2"[..]), ("user.d", &[b'x'; 2000])],
            vec![],
        ] {
            let wanted = xattrs(&values);
            let mut sent = wanted.clone();
            if is_windows {
                // Only what is named goes.
                let there = share.stat_with_xattrs(&path(name)).await.unwrap().xattrs.unwrap();
                let gone =
                    there.iter().filter(|(old, _)| !wanted.iter().any(|(new, _)| new == old));
                sent.extend(gone.map(|(name, _)| (name.clone(), Vec::new())));
            }
            let attrs = Attrs { xattrs: Some(sent), ..Attrs::default() };
            let set = share.set_attrs(&path(name), &version, &attrs).await.unwrap();
            assert_eq!(set.xattrs.as_ref(), Some(&wanted));
            let found = share.stat_with_xattrs(&path(name)).await.unwrap();
            assert_eq!(found.xattrs, Some(wanted));
            assert!(found.version.same_content(&version));
        }
    }
}

pub async fn a_new_directory_has_the_very_mode(share: Share) {
    let attrs = Attrs { mode: Some(0o1777), ..Attrs::default() };
    let made = share.create_dir(&path("d"), &attrs).await.unwrap();
    if share.limits().has_modes {
        assert_eq!(made.mode, Some(0o1777));
    }
    assert_eq!((made.kind, made.target), (Kind::Dir, None));
    for taken in ["d", ""] {
        let again = share.create_dir(&path(taken), &attrs).await;
        assert_eq!(kind(again), ErrorKind::Exists);
    }
    let nowhere = share.create_dir(&path("x/y"), &attrs).await;
    assert_eq!(kind(nowhere), ErrorKind::NotFound);
    put(&share, "f", b"x").await;
    let below = share.create_dir(&path("f/y"), &attrs).await;
    assert_eq!(kind(below), ErrorKind::NotADirectory);
}

pub async fn symlinks_hold_any_target(share: Share) {
    if !share.limits().has_symlinks {
        return skip("has no symlinks");
    }
    mkdir(&share, "d").await;
    put(&share, "d/f", b"x").await;
    let mtime = Timestamp { seconds: 1_400_000_000, nanos: 7_000_000 };
    for (name, target) in [("a", &b"d"[..]), ("b", b"nowhere/\xff"), ("c", b"/etc/passwd")] {
        let attrs = Attrs { mtime: Some(mtime), ..Attrs::default() };
        let made = share.symlink(&path(name), target, &attrs).await.unwrap();
        assert_eq!((made.kind, made.size), (Kind::Symlink, target.len() as u64));
        assert_eq!((made.target.as_deref(), made.mtime), (Some(target), mtime));
        let listed = entries(&share, "").await;
        assert_eq!(listed[name.as_bytes()].target.as_deref(), Some(target));
        assert_eq!(share.stat(&path(name)).await.unwrap().version, made.version);
        assert_eq!(kind(share.symlink(&path(name), target, &attrs).await), ErrorKind::Exists);
    }
    // They are entries, not ways.
    assert_eq!(kind(share.stat(&path("a/f")).await), ErrorKind::NotADirectory);
    assert_eq!(kind(share.list(&path("a"), None).await), ErrorKind::NotADirectory);
    let link = version(&share, "a").await;
    share.rename(&path("a"), &link, &path("moved"), Expect::Absent).await.unwrap();
    share.remove(&path("moved"), Expect::Version(link)).await.unwrap();
    assert_eq!(get(&share, "d/f").await, b"x");
    send(&share, "b", Upload::of("a file"), Expect::Version(version(&share, "b").await))
        .await
        .unwrap();
    assert_eq!(get(&share, "b").await, b"a file");
}
