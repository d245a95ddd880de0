//! Several sites and somebody without manners change one file of a directory at once (rule X5).
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "contract/suite.rs"]
mod suite;

use covefs_remote::local::LocalRemote;
use covefs_remote::{ErrorKind, Expect};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use suite::{Share, Upload, get, names, path, put, version};

fn open(root: &Path) -> Share {
    Arc::new(LocalRemote::open(root.to_path_buf()).unwrap())
}

/// What the newest outside write left, or what was built on it: "O7" or "O7.3.4".
fn is_built_on(content: &[u8], write: usize) -> bool {
    let text = String::from_utf8_lossy(content);
    text.split('.').next() == Some(&*format!("O{write}"))
}

/// What was put beside `f` because its name could not be given back.
fn kept(root: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
    files
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("f-kept-"))
        .map(|entry| fs::read(entry.path()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_outside_write_is_lost_to_replaces() {
    // rule X5: two sites keep building on what they last saw, while somebody without manners puts
    // file after file in the same place.
    const WRITES: usize = 150;
    let dir = tempfile::tempdir().unwrap();
    let (root, share) = (dir.path().to_path_buf(), open(dir.path()));
    put(&share, "f", b"O0").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let sites: Vec<_> = (0..2)
        .map(|site| {
            let (share, is_over) = (open(&root), is_over.clone());
            tokio::spawn(async move {
                let temp = format!(".~covefs-site{site}-1");
                let mut wins = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let seen = version(&share, "f").await;
                    let Ok(mut bytes) = suite::read_range(&share, "f", 0..9999, &seen).await else {
                        continue;
                    };
                    bytes.extend_from_slice(format!(".{site}").as_bytes());
                    let source = Arc::new(Upload::of(bytes));
                    let expect = Expect::Version(seen);
                    match share.replace(&path("f"), source, expect, temp.as_bytes()).await {
                        Ok(_) => wins += 1,
                        Err(error) => assert_eq!(error.kind, ErrorKind::VersionChanged, "{error}"),
                    }
                }
                wins
            })
        })
        .collect();
    let writer = std::thread::spawn(move || {
        for write in 1..=WRITES {
            let text = format!("O{write}");
            fs::write(root.join("outside"), &text).unwrap();
            fs::rename(root.join("outside"), root.join("f")).unwrap();
            // For an instant a site that failed may show its own file, built on an older one.
            let is_there = || is_built_on(&fs::read(root.join("f")).unwrap(), write);
            let is_kept = || kept(&root).iter().any(|bytes| is_built_on(bytes, write));
            let found = (0..1_000_000).any(|_| is_there() || is_kept());
            assert!(found, "write {write} is lost");
            // Now and then the sites get a chance.
            let is_answered = || fs::read(root.join("f")).unwrap().contains(&b'.');
            assert!(write % 10 != 0 || (0..1_000_000).any(|_| is_answered()), "nobody won");
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
async fn sites_that_race_keep_every_edit() {
    // rule X5: each edit builds on the one before, so a lost one would be missing in the end, and
    // one that was refused is in none.
    const EDITS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let (root, share) = (dir.path().to_path_buf(), open(dir.path()));
    put(&share, "f", b"").await;
    let sites: Vec<_> = (0..4)
        .map(|site| {
            let share = open(&root);
            tokio::spawn(async move {
                let temp = format!(".~covefs-site{site}-1");
                let mut made = 0;
                while made < EDITS {
                    let seen = version(&share, "f").await;
                    let Ok(mut bytes) = suite::read_range(&share, "f", 0..9999, &seen).await else {
                        continue;
                    };
                    bytes.push(b'a' + site);
                    let source = Arc::new(Upload::of(bytes));
                    let expect = Expect::Version(seen);
                    match share.replace(&path("f"), source, expect, temp.as_bytes()).await {
                        Ok(_) => made += 1,
                        Err(error) => assert_eq!(error.kind, ErrorKind::VersionChanged, "{error}"),
                    }
                }
            })
        })
        .collect();
    for site in sites {
        site.await.unwrap();
    }
    let bytes = get(&share, "f").await;
    for site in b"abcd" {
        assert_eq!(bytes.iter().filter(|byte| *byte == site).count(), EDITS);
    }
    assert_eq!(names(&share, "").await, ["f"]);
}
