//! A directory as a share: identity, escapes, and edits made behind its back.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "contract/suite.rs"]
mod suite;

use covefs_remote::local::LocalRemote;
use covefs_remote::{Attrs, ErrorKind, Expect, Kind};
use futures_util::StreamExt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use suite::{Share, Upload, entries, get, kind, names, path, put, send, version};

struct Dir {
    keep: tempfile::TempDir,
    root: PathBuf,
    share: Share,
}

fn open(root: &Path) -> Share {
    Arc::new(LocalRemote::open(root.to_path_buf()).unwrap())
}

/// A share in `above/root`.
fn local() -> Dir {
    let keep = tempfile::tempdir().unwrap();
    let root = keep.path().join("above/root");
    fs::create_dir_all(&root).unwrap();
    let share = open(&root);
    Dir { keep, root, share }
}

/// Every kind of request, each of which must fail in the same way.
async fn all_fail(share: &Share, wanted: ErrorKind) {
    let file = covefs_remote::Version::default();
    let attrs = Attrs::default();
    assert_eq!(kind(share.stat(&path("f")).await), wanted);
    assert_eq!(kind(share.stat(&path("missing")).await), wanted);
    assert_eq!(kind(share.list(&path(""), None).await), wanted);
    assert_eq!(kind(share.read(&path("f"), 0..1, &file).await), wanted);
    assert_eq!(kind(send(share, "f", Upload::of("x"), Expect::Any).await), wanted);
    assert_eq!(kind(share.rename(&path("f"), &file, &path("g"), Expect::Any).await), wanted);
    assert_eq!(kind(share.remove(&path("f"), Expect::Any).await), wanted);
    assert_eq!(kind(share.set_attrs(&path("f"), &file, &attrs).await), wanted);
    assert_eq!(kind(share.create_dir(&path("d"), &attrs).await), wanted);
    assert_eq!(kind(share.symlink(&path("l"), b"f", &attrs).await), wanted);
    assert_eq!(kind(share.usage().await), wanted);
}

#[tokio::test]
async fn another_directory_in_the_roots_place_is_another_share() {
    // rule X1
    let Dir { keep: _keep, root, share } = local();
    put(&share, "f", b"x").await;
    let identity = share.identity().await.unwrap();
    fs::rename(&root, root.with_file_name("away")).unwrap();
    fs::create_dir(&root).unwrap();
    all_fail(&share, ErrorKind::IdentityChanged).await;
    assert_ne!(share.identity().await.unwrap(), identity);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    fs::remove_dir(&root).unwrap();
    fs::write(&root, "a file").unwrap();
    all_fail(&share, ErrorKind::IdentityChanged).await;
    fs::remove_file(&root).unwrap();
    fs::rename(root.with_file_name("away"), &root).unwrap();
    assert_eq!(share.identity().await.unwrap(), identity);
    assert_eq!(get(&share, "f").await, b"x");
    assert_eq!(open(&root).identity().await.unwrap(), identity);
}

#[tokio::test]
async fn another_directory_than_the_known_one_is_not_touched() {
    // rule X1
    let Dir { keep: _keep, root, share } = local();
    let known = share.identity().await.unwrap();
    fs::rename(&root, root.with_file_name("away")).unwrap();
    let opened = || LocalRemote::open_known(root.clone(), &known).map(drop);
    assert_eq!(opened().unwrap_err().kind, ErrorKind::Unreachable);
    fs::create_dir(&root).unwrap();
    let made = fs::metadata(&root).unwrap().modified().unwrap();
    assert_eq!(opened().unwrap_err().kind, ErrorKind::IdentityChanged);
    assert_eq!(fs::metadata(&root).unwrap().modified().unwrap(), made);
    fs::remove_dir(&root).unwrap();
    fs::rename(root.with_file_name("away"), &root).unwrap();
    assert_eq!(*LocalRemote::open_known(root, &known).unwrap().root_identity(), known);
}

#[tokio::test]
async fn a_missing_root_says_nothing_of_what_was_below() {
    // rule X1
    let Dir { keep, root, share } = local();
    put(&share, "f", b"x").await;
    fs::rename(keep.path().join("above"), keep.path().join("moved")).unwrap();
    all_fail(&share, ErrorKind::Unreachable).await;
    assert_eq!(kind(share.identity().await), ErrorKind::Unreachable);
    fs::rename(keep.path().join("moved"), keep.path().join("above")).unwrap();
    assert_eq!(get(&share, "f").await, b"x");
    fs::remove_dir_all(&root).unwrap();
    all_fail(&share, ErrorKind::Unreachable).await;
    assert!(LocalRemote::open(root).is_err());
}

#[tokio::test]
async fn a_root_made_anew_is_another_share() {
    // rule X1: its inode number may not be used again while we run.
    let Dir { keep: _keep, root, share } = local();
    for _ in 0..20 {
        fs::remove_dir_all(&root).unwrap();
        fs::create_dir(&root).unwrap();
        all_fail(&share, ErrorKind::IdentityChanged).await;
    }
}

#[tokio::test]
async fn no_symlink_leads_out() {
    let Dir { keep, root, share } = local();
    let outside = keep.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "secret").unwrap();
    symlink(&outside, root.join("out")).unwrap();
    symlink("../../outside", root.join("up")).unwrap();
    symlink(outside.join("f"), root.join("link")).unwrap();
    let made = put(&share, "f", b"x").await.version;
    for dir in ["out", "up"] {
        let below = path(&format!("{dir}/f"));
        assert_eq!(kind(share.stat(&below).await), ErrorKind::NotADirectory);
        assert_eq!(kind(share.read(&below, 0..9, &made).await), ErrorKind::NotADirectory);
        assert_eq!(kind(share.list(&path(dir), None).await), ErrorKind::NotADirectory);
        let sent = send(&share, &format!("{dir}/f"), Upload::of("x"), Expect::Any).await;
        assert_eq!(kind(sent), ErrorKind::NotADirectory);
        let moved = share.rename(&path("f"), &made, &below, Expect::Any).await;
        assert_eq!(kind(moved), ErrorKind::NotADirectory);
        assert_eq!(kind(share.remove(&below, Expect::Any).await), ErrorKind::NotADirectory);
    }
    let link = version(&share, "link").await;
    assert_eq!(kind(share.read(&path("link"), 0..9, &link).await), ErrorKind::VersionChanged);
    let attrs = Attrs { mode: Some(0o777), ..Attrs::default() };
    share.set_attrs(&path("link"), &link, &attrs).await.unwrap();
    send(&share, "link", Upload::of("x"), Expect::Version(link)).await.unwrap();
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn a_directory_that_becomes_a_symlink_leads_nowhere() {
    let Dir { keep, root, share } = local();
    let outside = keep.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (root, outside, stop) = (root.clone(), outside.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                fs::create_dir(root.join("d")).unwrap();
                while fs::remove_dir_all(root.join("d")).is_err() {}
                symlink(&outside, root.join("d")).unwrap();
                fs::remove_file(root.join("d")).unwrap();
            }
        }
    });
    for number in 0..300 {
        let _ = send(&share, &format!("d/f{number}"), Upload::of("x"), Expect::Any).await;
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn edits_behind_its_back_change_the_version() {
    // rule S5
    let Dir { keep: _keep, root, share } = local();
    let old = put(&share, "f", &[1; 3 << 20]).await.version;
    let mut stream = share.read(&path("f"), 0..3 << 20, &old).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    let mut file = fs::OpenOptions::new().append(true).open(root.join("f")).unwrap();
    file.write_all(b"more").unwrap();
    // Young for longer than a slow machine takes to look.
    file.set_modified(SystemTime::now() + Duration::from_secs(30)).unwrap();
    assert_eq!(kind(stream.next().await.unwrap()), ErrorKind::VersionChanged);
    assert!(stream.next().await.is_none());
    let new = share.stat(&path("f")).await.unwrap();
    assert!(new.young && !new.version.same_content(&old) && new.version.same_object(&old));
    let lost = send(&share, "f", Upload::of("x"), Expect::Version(old)).await;
    assert_eq!(kind(lost), ErrorKind::VersionChanged);
    let lost = share.remove(&path("f"), Expect::Version(old)).await;
    assert_eq!(kind(lost), ErrorKind::VersionChanged);
    fs::set_permissions(root.join("f"), PermissionsExt::from_mode(0o600)).unwrap();
    let chmod = version(&share, "f").await;
    assert!(chmod.same_content(&new.version) && chmod.object != new.version.object);
}

#[tokio::test]
async fn a_leftover_temporary_file_is_no_obstacle() {
    // rule X2
    let Dir { keep: _keep, root, share } = local();
    fs::write(root.join(".~covefs-0123456789abcdef-1"), "half").unwrap();
    put(&share, "f", b"whole").await;
    assert_eq!(names(&share, "").await, ["f"]);
}

#[tokio::test]
async fn an_upload_that_is_dropped_leaves_nothing() {
    // rule X2
    let Dir { keep: _keep, root, share } = local();
    let gate = covefs_remote::fault::Gate::new();
    let slow = covefs_remote::fault::FaultRemote::new(share);
    let stall = covefs_remote::fault::Fault::Stall { bytes: 0, gate: gate.clone() };
    slow.inject(covefs_remote::fault::Rule::new("replace", stall));
    let slow: Share = Arc::new(slow);
    let upload = tokio::spawn({
        let slow = slow.clone();
        async move { send(&slow, "f", Upload::of("x"), Expect::Any).await }
    });
    gate.arrived(1).await;
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    upload.abort();
    assert!(upload.await.unwrap_err().is_cancelled());
    // It is removed on a thread of its own.
    let mut looks = 0;
    while fs::read_dir(&root).unwrap().count() > 0 {
        looks += 1;
        assert!(looks < 10_000_000, "the temporary file stays");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn owner_mode_acl_and_attributes_pass_on() {
    // rule X6
    let Dir { keep: _keep, root, share } = local();
    let file = root.join("f");
    let made = put(&share, "f", b"one").await;
    let is_root = fs::metadata(&file).unwrap().uid() == 0;
    if is_root {
        std::os::unix::fs::chown(&file, Some(1234), Some(2345)).unwrap();
    } else {
        suite::skip("is of a user who cannot give files away");
    }
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in [(1_u16, 6_u16, u32::MAX), (2, 4, 3456), (4, 4, u32::MAX)] {
        acl.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    for (tag, bits) in [(16_u16, 4_u16), (32, 0)] {
        acl.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
        acl.extend(u32::MAX.to_le_bytes());
    }
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(&file, name, value, rustix::fs::XattrFlags::empty())
    };
    let has_acl = set("system.posix_acl_access", &acl).is_ok();
    let has_user = set("user.note", b"kept").is_ok();
    let expect = Expect::Version(made.version);
    let new = send(&share, "f", Upload::of("two"), expect).await.unwrap();
    let after = fs::metadata(&file).unwrap();
    if is_root {
        assert_eq!((after.uid(), after.gid()), (1234, 2345));
    }
    if has_user {
        assert_eq!(new.xattrs, Some(vec![(b"user.note".to_vec(), b"kept".to_vec())]));
    } else {
        suite::skip("has no xattrs");
    }
    if has_acl {
        let mut held = [0; 100];
        let len = rustix::fs::getxattr(&file, "system.posix_acl_access", &mut held[..]).unwrap();
        assert_eq!(held[..len], acl);
        assert_eq!(after.mode() & 0o777, 0o640);
    } else {
        suite::skip("has no ACLs");
    }
}

/// More than ext4 has room for beside a file: its bytes arrive all the same, and the answer says what did not.
#[tokio::test]
async fn a_file_arrives_without_the_attributes_that_are_too_big_for_it() {
    let Dir { keep: _keep, root, share } = local();
    if !share.limits().has_xattrs() {
        return suite::skip("has no xattrs");
    }
    let small = (b"user.a".to_vec(), b"1".to_vec());
    let all = vec![small.clone(), (b"user.b".to_vec(), vec![7; 60_000])];
    let attrs = Attrs { xattrs: Some(all.clone()), ..Attrs::default() };
    let made = send(&share, "f", Upload::of("bytes").with(attrs.clone()), Expect::Absent);
    let made = made.await.unwrap();
    assert_eq!(fs::read(root.join("f")).unwrap(), b"bytes");
    let told = made.xattrs.clone().unwrap();
    assert!(told == all || told == [small], "{} told", told.len());
    let set = share.set_attrs(&path("f"), &made.version, &attrs).await.unwrap();
    assert_eq!(set.xattrs.unwrap(), told);
    assert_eq!(share.stat(&path("f")).await.unwrap().xattrs.unwrap(), told);
}

#[tokio::test]
async fn a_new_file_has_the_default_mode() {
    let Dir { keep: _keep, root, share } = local();
    fs::write(root.join("reference"), "").unwrap();
    let usual = fs::metadata(root.join("reference")).unwrap().mode() & 0o777;
    let made = put(&share, "f", b"x").await;
    assert_eq!(made.mode, Some(0o644 & usual));
    fs::set_permissions(root.join("f"), PermissionsExt::from_mode(0o400)).unwrap();
    assert_eq!(put(&share, "f", b"y").await.mode, Some(0o400));
}

#[tokio::test]
async fn holes_take_no_space() {
    let Dir { keep: _keep, root, share } = local();
    let upload = Upload::of(vec![0; 64 << 20]).sparse(std::iter::once(0..100).collect());
    send(&share, "f", upload, Expect::Absent).await.unwrap();
    let after = fs::metadata(root.join("f")).unwrap();
    assert_eq!(after.len(), 64 << 20);
    assert!(after.blocks() * 512 < 1 << 20);
}

#[tokio::test]
async fn special_files_are_listed_and_never_opened() {
    let Dir { keep: _keep, root, share } = local();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    );
    made.unwrap();
    let pipe = share.stat(&path("pipe")).await.unwrap();
    assert_eq!((pipe.kind, pipe.size), (Kind::Special, 0));
    assert_eq!(entries(&share, "").await[&b"pipe"[..]].kind, Kind::Special);
    let read = share.read(&path("pipe"), 0..1, &pipe.version).await;
    assert_eq!(kind(read), ErrorKind::VersionChanged);
    let attrs = Attrs { mode: Some(0o622), ..Attrs::default() };
    let set = share.set_attrs(&path("pipe"), &pipe.version, &attrs).await.unwrap();
    assert_eq!(set.mode, Some(0o622));
    share.remove(&path("pipe"), Expect::Version(pipe.version)).await.unwrap();
}

#[tokio::test]
async fn long_listings_come_in_pages() {
    let Dir { keep: _keep, root, share } = local();
    fs::create_dir(root.join("d")).unwrap();
    for number in 0..5000 {
        fs::write(root.join(format!("d/{number}")), "").unwrap();
    }
    let first = share.list(&path("d"), None).await.unwrap();
    assert_eq!(first.entries.len(), 4096);
    for number in 0..5000 {
        if first.entries.iter().all(|(name, _)| *name != number.to_string().into_bytes()) {
            // What goes before its page comes is left out.
            fs::remove_file(root.join(format!("d/{number}"))).unwrap();
            break;
        }
    }
    let second = share.list(&path("d"), first.next.clone()).await.unwrap();
    assert_eq!((second.entries.len(), second.next.is_none()), (903, true));
    fs::rename(root.join("d"), root.join("e")).unwrap();
    fs::create_dir(root.join("d")).unwrap();
    assert_eq!(kind(share.list(&path("d"), first.next).await), ErrorKind::VersionChanged);
    assert_eq!(entries(&share, "e").await.len(), 4999);
}

#[tokio::test]
async fn deep_and_long_paths_are_reached() {
    let Dir { keep: _keep, root: _, share } = local();
    let mut deep = String::new();
    for _ in 0..25 {
        deep.push_str(&"d".repeat(200));
        share.create_dir(&path(&deep), &Attrs::default()).await.unwrap();
        deep.push('/');
    }
    deep.push('f');
    put(&share, &deep, b"down here").await;
    assert_eq!(get(&share, &deep).await, b"down here");
}

#[tokio::test]
async fn the_probe_leaves_nothing() {
    let Dir { keep: _keep, root, share } = local();
    assert!(share.limits().case_sensitive && share.limits().has_modes);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

/// rule X5: a removal moves the file aside before it compares. Killed there, it is finished when it
/// is asked for again; what turned out to be another version has its name back.
#[tokio::test]
async fn a_removal_that_was_killed_is_finished() {
    for edited in [false, true] {
        let Dir { keep: _keep, root, share } = local();
        put(&share, "f", b"bytes").await;
        let seen = version(&share, "f").await;
        let aside = format!(".~covefs-move-rm-{:016x}", seen.content.file_id);
        fs::rename(root.join("f"), root.join(&aside)).unwrap();
        if edited {
            fs::write(root.join(&aside), "edited there").unwrap();
        }
        let removed = share.remove(&path("f"), Expect::Version(seen)).await;
        if edited {
            assert_eq!(kind(removed), ErrorKind::VersionChanged);
            assert_eq!(get(&share, "f").await, b"edited there");
        } else {
            removed.unwrap();
        }
        let left: Vec<_> = fs::read_dir(&root).unwrap().collect();
        assert_eq!(left.len(), usize::from(edited), "{left:?}");
    }
}

/// rule S5: a file made after another one was removed is another object, though ext4 gives it the
/// same number. Else a rename of ours would take it for the one that we knew.
#[tokio::test]
async fn a_number_that_is_used_again_is_another_object() {
    let Dir { keep: _keep, root, share } = local();
    let mut seen = Vec::new();
    for number in 0..20 {
        fs::write(root.join("f"), format!("{number}")).unwrap();
        seen.push(version(&share, "f").await.content.file_id);
        fs::remove_file(root.join("f")).unwrap();
    }
    let different: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(different.len(), seen.len(), "{seen:x?}");
}
