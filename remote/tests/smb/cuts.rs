//! A site that is killed between any two of its packets: the next one finds every file, whole, at its
//! name, and puts in order what was left.

use crate::line::{Line, Next, Watcher};
use crate::samba::{LONG, PLAIN, Samba};
use crate::suite::{Share, Upload, get, names, path, put, send};
use covefs_remote::smb::{SmbConfig, SmbRemote};
use covefs_remote::{ErrorKind, Expect, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Where the line is cut: before a packet, or after the server has answered it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    Before,
    After,
}

/// Cuts it at a packet, for good.
struct Knife {
    cut: Cut,
    /// Packets that still pass; far away while it is not armed.
    left: AtomicI64,
}

impl Knife {
    fn new(cut: Cut) -> Knife {
        Knife { cut, left: AtomicI64::new(i64::MAX) }
    }

    fn arm(&self, packets: i64) {
        self.left.store(packets, Ordering::SeqCst);
    }
}

impl Watcher for Knife {
    fn request(&self, _: &[u8]) -> Next {
        match (self.left.fetch_sub(1, Ordering::SeqCst), self.cut) {
            (1.., _) | (0, Cut::After) => Next::Passes,
            (0, Cut::Before) => Next::Cut,
            // The answer to the last one is under way.
            _ => Next::Lost,
        }
    }

    fn answer(&self, _: &[u8]) -> Next {
        // Of several on their way the last one may not be answered yet; then this is another cut.
        if self.left.load(Ordering::SeqCst) < 0 { Next::Cut } else { Next::Passes }
    }
}

/// What the killed site was at.
#[derive(Clone, Copy, Debug)]
enum Change {
    Replace,
    RenameOver,
}

/// A site makes the change, and is killed with the line. Whether it was: it may be through before.
fn killed(samba: &Samba, name: &str, old: Version, change: Change, cut: Cut, packets: i64) -> bool {
    let line = Line::to(samba.port, Knife::new(cut));
    let site =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = SmbConfig { port: line.port, ..samba.config(PLAIN) };
    let share: Share = Arc::new(SmbRemote::new(config));
    site.block_on(share.stat(&path(name))).unwrap();
    let ours = path("ours");
    let moved = match change {
        Change::Replace => None,
        Change::RenameOver => Some(site.block_on(share.stat(&ours)).unwrap().version),
    };
    line.watcher.arm(packets);
    let name = name.to_owned();
    let changing = site.spawn(async move {
        match moved {
            None => drop(send(&share, &name, Upload::of("new"), Expect::Version(old)).await),
            Some(moved) => {
                let to = path(&name);
                drop(share.rename(&ours, &moved, &to, Expect::Version(old)).await);
            }
        }
    });
    let end = Instant::now() + LONG;
    while !line.is_cut() && !changing.is_finished() {
        assert!(Instant::now() < end, "neither cut nor through");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let is_cut = line.is_cut();
    site.shutdown_background();
    is_cut
}

async fn check(samba: &Samba, name: &str, change: Change, story: &str) {
    let next: Share = Arc::new(samba.remote(PLAIN));
    let listed = names(&next, "").await;
    assert!(listed.iter().any(|listed| listed == name), "{story}: listed {listed:?}");
    let found = get(&next, name).await;
    assert!(found == b"old" || found == b"new", "{story}: {found:?}");
    // Other clients find it too, as soon as the server has noticed the end of the killed one.
    let on_disk = samba.disk(PLAIN).join(name);
    let end = Instant::now() + LONG;
    while !on_disk.exists() {
        assert!(Instant::now() < end, "{story}: nobody put it back: {:?}", samba.names(PLAIN));
        names(&next, "").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(get(&next, name).await, found, "{story}");
    if let Change::RenameOver = change
        && found == b"old"
    {
        assert_eq!(get(&next, "ours").await, b"new", "{story}");
    }
    // What was replaced is not kept beside it, as an edit of somebody else would be.
    let now = next.stat(&path(name)).await.unwrap().version;
    send(&next, name, Upload::of("next"), Expect::Version(now)).await.expect(story);
    assert_eq!(get(&next, name).await, b"next", "{story}");
    for left in samba.names(PLAIN) {
        assert!(left == name || left == "ours", "{story}: left {left}");
    }
}

async fn cut_everywhere(name: &str, change: Change) {
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    for cut in [Cut::Before, Cut::After] {
        let mut packets = 0;
        loop {
            for left in samba.names(PLAIN) {
                std::fs::remove_file(samba.disk(PLAIN).join(left)).unwrap();
            }
            let old = put(&share, name, b"old").await.version;
            put(&share, "ours", b"new").await;
            let is_cut =
                tokio::task::block_in_place(|| killed(&samba, name, old, change, cut, packets));
            let story = format!("{change:?}, cut {cut:?} packet {packets}");
            check(&samba, name, change, &story).await;
            if !is_cut {
                break;
            }
            packets += 1;
        }
        println!("{change:?}: cut {cut:?} each of {packets} packets");
        assert!(packets >= 5, "{packets} packets");
    }
}

/// A site was killed behind its replacement, and the old file stood aside. The next site moved the
/// new one away, or removed it, without a listing before: whoever looked then put the old one back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_replaced_does_not_come_back_when_its_name_is_given_up() {
    // rule X4
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let mut given_up = 0;
    for is_moved in [false, true] {
        for packets in 0.. {
            for left in samba.names(PLAIN) {
                std::fs::remove_file(samba.disk(PLAIN).join(left)).unwrap();
            }
            let old = put(&share, "f", b"old").await.version;
            let is_cut = tokio::task::block_in_place(|| {
                killed(&samba, "f", old, Change::Replace, Cut::After, packets)
            });
            let next: Share = Arc::new(samba.remote(PLAIN));
            let found = next.stat(&path("f")).await.unwrap().version;
            if !found.same_content(&old) {
                given_up += 1;
                if is_moved {
                    next.rename(&path("f"), &found, &path("g"), Expect::Absent).await.unwrap();
                } else {
                    next.remove(&path("f"), Expect::Version(found)).await.unwrap();
                }
                let gone = next.stat(&path("f")).await.unwrap_err();
                assert_eq!(gone.kind, ErrorKind::NotFound, "packet {packets}");
                let wanted: &[&str] = if is_moved { &["g"] } else { &[] };
                assert_eq!(names(&next, "").await, wanted, "packet {packets}");
            }
            if !is_cut {
                break;
            }
        }
    }
    assert!(given_up > 2, "{given_up} times the new file was there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_cut_anywhere_loses_nothing() {
    // rule X4
    cut_everywhere("f", Change::Replace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_of_a_long_name_cut_anywhere_loses_nothing() {
    // rule X4
    cut_everywhere(&"n".repeat(255), Change::Replace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_over_another_file_cut_anywhere_loses_nothing() {
    // rule X4
    cut_everywhere("f", Change::RenameOver).await;
}
