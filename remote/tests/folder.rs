//! A directory of Windows as a share: its root, others at its files, names, and what a killed site left.
#![cfg(windows)]
#![allow(clippy::unwrap_used)]

#[path = "contract/suite.rs"]
mod suite;

use covefs_remote::local::LocalRemote;
use covefs_remote::{Attrs, ErrorKind, Expect, Kind, Timestamp};
use std::fs;
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use suite::{Share, Upload, entries, get, kind, mkdir, names, path, put, send, version};

/// How long a test waits for what must come.
const LONG: Duration = Duration::from_secs(60);

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

/// Tries what others may be in the way of, for a while.
fn at_last<T>(mut call: impl FnMut() -> std::io::Result<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        match call() {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Every kind of request, each of which must fail in the same way.
async fn all_fail(share: &Share, wanted: ErrorKind) {
    let file = covefs_remote::Version::default();
    let attrs = Attrs::default();
    assert_eq!(kind(share.identity().await), wanted);
    assert_eq!(kind(share.stat(&path("f")).await), wanted);
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
async fn another_directory_than_the_known_one_is_not_touched() {
    // rule X1
    let Dir { keep: _keep, root, share } = local();
    put(&share, "f", b"x").await;
    let known = share.identity().await.unwrap();
    assert_eq!(open(&root).identity().await.unwrap(), known);
    let late = |root: &Path| -> Share {
        Arc::new(LocalRemote::late(root.to_owned(), Some(known.clone()), false))
    };
    let other = root.with_file_name("other");
    all_fail(&late(&other), ErrorKind::Unreachable).await;
    fs::write(&other, "a file").unwrap();
    all_fail(&late(&other), ErrorKind::IdentityChanged).await;
    fs::remove_file(&other).unwrap();
    fs::create_dir(&other).unwrap();
    let waiting = late(&other);
    all_fail(&waiting, ErrorKind::IdentityChanged).await;
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    // It is the directory that counts, not the path.
    drop(share);
    fs::remove_dir(&other).unwrap();
    at_last(|| fs::rename(&root, &other));
    assert_eq!(get(&waiting, "f").await, b"x");
    assert_eq!(waiting.identity().await.unwrap(), known);
}

#[tokio::test]
async fn a_missing_directory_is_an_error_that_says_so() {
    let keep = tempfile::tempdir().unwrap();
    let Err(error) = LocalRemote::open(keep.path().join("missing")) else { panic!("opened") };
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.source.is_some(), "{error}");
}

/// A site that builds on what it last saw, over and over; how often that was put in place.
async fn build(share: Share, site: usize, is_over: Arc<AtomicBool>) -> usize {
    let (temp, mut wins) = (format!(".~covefs-site{site}-1"), 0);
    while !is_over.load(Ordering::Relaxed) {
        let Ok(seen) = share.stat(&path("f")).await else { continue };
        let seen = seen.version;
        let Ok(mut bytes) = suite::read_range(&share, "f", 0..9999, &seen).await else {
            continue;
        };
        bytes.extend_from_slice(format!(".{site}").as_bytes());
        let (source, expect) = (Arc::new(Upload::of(bytes)), Expect::Version(seen));
        match share.replace(&path("f"), source, expect, temp.as_bytes()).await {
            Ok(_) => wins += 1,
            Err(error) => {
                let others = [ErrorKind::VersionChanged, ErrorKind::Busy, ErrorKind::NotFound];
                assert!(others.contains(&error.kind), "{error}");
            }
        }
    }
    wins
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_edit_of_others_is_lost_to_replaces() {
    // rule X4: two sites keep building on what they last saw, while somebody without manners writes into the
    // file, and puts other files in its place.
    const WRITES: usize = 60;
    let Dir { keep: _keep, root, share } = local();
    put(&share, "f", b"O0").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let sites: Vec<_> =
        (0..2).map(|site| tokio::spawn(build(open(&root), site, is_over.clone()))).collect();
    let writer = std::thread::spawn(move || {
        let kept = || -> Vec<Vec<u8>> {
            let files = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap());
            let kept =
                files.filter(|entry| entry.file_name().to_string_lossy().starts_with("f-kept-"));
            kept.filter_map(|entry| fs::read(entry.path()).ok()).collect()
        };
        for write in 1..=WRITES {
            let text = format!("O{write}");
            match write % 2 {
                0 => at_last(|| fs::write(root.join("f"), &text)),
                _ => {
                    fs::write(root.join("outside"), &text).unwrap();
                    at_last(|| fs::rename(root.join("outside"), root.join("f")));
                }
            }
            // What the newest edit left, or what was built on it.
            let is_built_on =
                |bytes: &[u8]| bytes.split(|byte| *byte == b'.').next() == Some(text.as_bytes());
            let end = Instant::now() + LONG;
            while !fs::read(root.join("f")).is_ok_and(|bytes| is_built_on(&bytes))
                && !kept().iter().any(|bytes| is_built_on(bytes))
            {
                assert!(Instant::now() < end, "write {write} is lost");
            }
            // Now and then the sites get a chance.
            let end = Instant::now() + LONG;
            while write % 10 == 0 && !fs::read(root.join("f")).is_ok_and(|it| it.contains(&b'.')) {
                assert!(Instant::now() < end, "nobody won");
            }
        }
    });
    let written = tokio::task::spawn_blocking(move || writer.join()).await.unwrap();
    is_over.store(true, Ordering::Relaxed);
    let mut wins = 0;
    for site in sites {
        wins += site.await.unwrap();
    }
    written.unwrap();
    assert!(wins >= WRITES / 10);
    assert!(names(&share, "").await.iter().all(|name| !name.starts_with(".~covefs-")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_is_replaced_is_never_missing() {
    // rule X1
    let Dir { keep: _keep, root, share } = local();
    let reader = open(&root);
    let mut seen = put(&share, "f", b"0").await.version;
    let looking = tokio::spawn(async move {
        let mut looks = 0;
        loop {
            match reader.stat(&path("f")).await {
                Ok(found) if found.size == 4 => return looks,
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind, ErrorKind::Busy, "{error}"),
            }
            looks += 1;
        }
    });
    for round in 0..60 {
        let upload = Upload::of(format!("{}", round % 10));
        seen = send(&share, "f", upload, Expect::Version(seen)).await.unwrap().version;
    }
    put(&share, "f", b"over").await;
    assert!(looking.await.unwrap() > 10);
}

#[tokio::test]
async fn who_has_a_file_open_is_waited_for() {
    // rule X4
    let Dir { keep: _keep, root, share } = local();
    let seen = put(&share, "f", b"old").await.version;
    // Everybody else may read it, and do no more.
    let held = fs::OpenOptions::new().read(true).share_mode(1).open(root.join("f")).unwrap();
    let holder = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(300));
        drop(held);
    });
    send(&share, "f", Upload::of("new"), Expect::Version(seen)).await.unwrap();
    holder.join().unwrap();
    assert_eq!(get(&share, "f").await, b"new");
    // Who shares all goes on with what was open.
    let seen = version(&share, "f").await;
    let held = fs::File::open(root.join("f")).unwrap();
    let next = send(&share, "f", Upload::of("next"), Expect::Version(seen)).await.unwrap();
    assert_eq!(std::io::read_to_string(held).unwrap(), "new");
    send(&share, "f", Upload::of("last"), Expect::Version(next.version)).await.unwrap();
    assert_eq!(names(&share, "").await, ["f"]);
}

#[tokio::test]
async fn reserved_names_and_symlinks_are_as_smb_shares_have_them() {
    let Dir { keep: _keep, root, share } = local();
    put(&share, "a:b.", b"x").await;
    assert_eq!(fs::read(root.join("a\u{f022}b\u{f029}")).unwrap(), b"x");
    assert_eq!(names(&share, "").await, ["a:b."]);
    share.symlink(&path("link"), b"Hello", &Attrs::default()).await.unwrap();
    let file = fs::read(root.join("link")).unwrap();
    assert!(file.len() == 1067 && file.starts_with(b"XSym\n0005\n"));
    let listed = entries(&share, "").await;
    assert_eq!(listed[&b"link"[..]].target.as_deref(), Some(&b"Hello"[..]));
    let made = put(&share, "Readme", b"x").await;
    assert_eq!(share.stat(&path("README")).await.unwrap().version, made.version);
}

#[tokio::test]
async fn what_a_file_has_passes_on() {
    // rule X6
    let Dir { keep: _keep, root, share } = local();
    let made = put(&share, "f", b"one").await;
    let time = Timestamp { seconds: 1_234_567_890, nanos: 123_456_700 };
    let attrs = Attrs { mtime: Some(time), mode: Some(0o444), ..Attrs::default() };
    let set = share.set_attrs(&path("f"), &made.version, &attrs).await.unwrap();
    assert_eq!((set.mtime, set.version.content.mtime, set.mode), (time, time, Some(0o444)));
    let expect = Expect::Version(set.version);
    let new = send(&share, "f", Upload::of("two"), expect).await.unwrap();
    assert_eq!(new.mode, Some(0o444));
    assert!(fs::metadata(root.join("f")).unwrap().permissions().readonly());
    share.remove(&path("f"), Expect::Version(new.version)).await.unwrap();
    assert!(names(&share, "").await.is_empty());
}

#[tokio::test]
async fn long_and_deep_paths_are_reached() {
    let Dir { keep: _keep, root: _root, share } = local();
    let mut deep = String::new();
    for _ in 0..8 {
        deep.push_str(&"d".repeat(100));
        mkdir(&share, &deep).await;
        deep.push('/');
    }
    deep.push('f');
    put(&share, &deep, b"down here").await;
    assert_eq!(get(&share, &deep).await, b"down here");
    assert_eq!(share.stat(&path(&deep)).await.unwrap().kind, Kind::File);
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
async fn edits_behind_its_back_change_the_version() {
    // rule S5
    let Dir { keep: _keep, root, share } = local();
    let old = put(&share, "f", b"one").await.version;
    fs::write(root.join("f"), "another").unwrap();
    // Young for longer than a slow machine takes to look.
    let file = fs::File::options().write(true).open(root.join("f")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(30)).unwrap();
    drop(file);
    let new = share.stat(&path("f")).await.unwrap();
    assert!(new.young && !new.version.same_content(&old) && new.version.same_object(&old));
    let lost = send(&share, "f", Upload::of("x"), Expect::Version(old)).await;
    assert_eq!(kind(lost), ErrorKind::VersionChanged);
    let lost = share.remove(&path("f"), Expect::Version(old)).await;
    assert_eq!(kind(lost), ErrorKind::VersionChanged);
    assert_eq!(get(&share, "f").await, b"another");
}

#[tokio::test]
async fn a_root_that_is_mounted_stays_where_it_is() {
    // rule X1
    let Dir { keep, root, share } = local();
    put(&share, "f", b"x").await;
    let moved = fs::rename(&root, root.with_file_name("away"));
    assert!(moved.is_err() || cfg!(windows) && is_wine(), "it was moved");
    drop(share);
    drop(keep);
}

/// Wine moves directories that are open.
fn is_wine() -> bool {
    std::env::var_os("WINELOADERNOEXEC").is_some() || Path::new(r"Z:\proc\self").exists()
}
