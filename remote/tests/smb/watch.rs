//! Changes as the server tells of them, and servers that stop telling.

use crate::samba::{LONG, PLAIN, SECRET, Samba};
use crate::suite::watching::{at, told};
use crate::suite::{Share, get, path, put};
use covefs_remote::{Change, ChangeStream, Remote};
use futures_util::StreamExt;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

async fn watch(share: &Share) -> ChangeStream {
    share.watch().await.unwrap().expect("it tells")
}

/// Waits for its end; returns how long that took.
async fn ended(mut changes: ChangeStream) -> Duration {
    let from = Instant::now();
    let rest = async { while changes.next().await.is_some() {} };
    tokio::time::timeout(LONG, rest).await.expect("it ends");
    from.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_clients_do_is_told_wherever_it_is() {
    let Some(samba) = Samba::start() else { return };
    for name in [PLAIN, SECRET] {
        fs::create_dir_all(samba.disk(name).join("d/e")).unwrap();
        let share: Share = Arc::new(samba.remote(name));
        let mut changes = watch(&share).await;
        samba.put(name, "d\\e\\f", b"one");
        told(&mut changes, at("d/e/f")).await;
        samba.smbclient(name, "rename d\\e\\f d\\g");
        told(&mut changes, at("d/g")).await;
        samba.smbclient(name, "rm d\\g");
        told(&mut changes, at("d/g")).await;
        samba.smbclient(name, "mkdir d\\e\\new");
        told(&mut changes, at("d/e/new")).await;
        // Of its own disk the server tells in the root.
        fs::write(samba.disk(name).join("on-its-disk"), "x").unwrap();
        told(&mut changes, at("on-its-disk")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_as_root_hears_of_itself_alone() {
    let Some(samba) = Samba::start() else { return };
    fs::create_dir_all(samba.disk(PLAIN).join("sub/d")).unwrap();
    let mut config = samba.config(PLAIN);
    config.dir = path("sub");
    let share: Share = Arc::new(covefs_remote::smb::SmbRemote::new(config));
    let mut changes = watch(&share).await;
    samba.put(PLAIN, "outside", b"x");
    samba.put(PLAIN, "sub\\d\\inside", b"x");
    assert_eq!(changes.next().await, Some(at("d/inside")));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_anybody_listens_to_is_told_as_lost() {
    // rule X7
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let mut changes = watch(&share).await;
    let disk = samba.disk(PLAIN);
    (0..5000).for_each(|number| fs::write(disk.join(format!("n{number}")), "x").unwrap());
    put(&share, "last", b"x").await;
    told(&mut changes, Change::Lost).await;
    // The first one may be among the lost.
    let again = async {
        loop {
            put(&share, "last", b"x").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = told(&mut changes, at("last")) => {}
        () = again => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_ends_the_watch_and_tells_again_when_it_is_back() {
    let Some(mut samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    for round in ["a", "b"] {
        let changes = watch(&share).await;
        samba.kill();
        assert!(ended(changes).await < Duration::from_secs(5), "who watches hears late of it");
        assert!(share.watch().await.is_err(), "a server that is away does not tell");
        samba.run();
        let mut changes = watch(&share).await;
        samba.put(PLAIN, round, b"x");
        told(&mut changes, at(round)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_ends_the_watch() {
    // rule K3: no answer is no news for a watch, so it is asked for a sign of life.
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let changes = watch(&share).await;
    samba.freeze(true);
    let silent = ended(changes).await;
    samba.freeze(false);
    assert!(silent < Duration::from_secs(25), "after {silent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_nobody_listens_to_is_in_nobodys_way_and_ends_with_its_stream() {
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    put(&share, "f", b"x").await;
    assert_eq!(samba.connections(), 1);
    let changes = [watch(&share).await, watch(&share).await];
    assert_eq!(samba.connections(), 3);
    assert_eq!(get(&share, "f").await, b"x");
    drop(changes);
    let end = Instant::now() + LONG;
    while samba.connections() > 1 {
        assert!(Instant::now() < end, "{} connections are left", samba.connections());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(get(&share, "f").await, b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_tell_is_not_asked_for_ever() {
    let Some(samba) = Samba::start_with("change notify = no") else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    assert!(share.watch().await.unwrap().is_none());
    let error = samba.remote("nowhere").watch().await.err();
    assert!(error.is_some_and(|error| error.kind.existence() == covefs_remote::Existence::Unknown));
}
