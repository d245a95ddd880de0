//! Snapshots: which there are, and looking at one.

use crate::harness::{SHARE, Server, failed, open, replace, temp};
use crate::suite::{get, names, path, put, version};
use covefs_remote::azure::{AzureConfig, AzureRemote};
use covefs_remote::{Attrs, ErrorKind, Expect};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_stays_as_it_was() {
    let server = Server::start();
    let share = server.share();
    server.emulator.create_share("docs2");
    server.emulator.snapshot("docs2");
    assert!(AzureRemote::snapshots(server.account(), SHARE).await.unwrap().is_empty());
    put(&share, "f", b"old").await;
    put(&share, "gone", b"x").await;
    let first = server.emulator.snapshot(SHARE);
    put(&share, "f", b"new").await;
    share.remove(&path("gone"), Expect::Any).await.unwrap();
    let second = server.emulator.snapshot(SHARE);
    let all = AzureRemote::snapshots(server.account(), SHARE).await.unwrap();
    assert_eq!(all, [first.clone(), second]);
    let missing = AzureRemote::snapshots(server.account(), "elsewhere").await;
    assert_eq!(failed(missing).kind, ErrorKind::NotFound);
    let config = AzureConfig { snapshot: Some(first.clone()), ..server.config() };
    let old = open(config.clone());
    assert_eq!(names(&old, "").await, ["f", "gone"]);
    assert_eq!(get(&old, "f").await, b"old");
    assert_eq!(get(&share, "f").await, b"new");
    old.usage().await.unwrap();
    assert_ne!(old.identity().await.unwrap(), share.identity().await.unwrap());
    let base = version(&old, "f").await;
    let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
    for refused in [
        replace(&old, "f", b"x", Expect::Any, &temp(1, 1)).await.map(drop),
        old.remove(&path("f"), Expect::Any).await,
        old.rename(&path("f"), &base, &path("g"), Expect::Absent).await.map(drop),
        old.set_attrs(&path("f"), &base, &attrs).await.map(drop),
        old.create_dir(&path("d"), &attrs).await.map(drop),
        old.symlink(&path("l"), b"x", &attrs).await.map(drop),
    ] {
        assert_eq!(failed(refused).kind, ErrorKind::ReadOnly);
    }
    let never = AzureConfig { snapshot: Some("2001-01-01T00:00:00.0000000Z".into()), ..config };
    assert_eq!(failed(open(never).identity().await).kind, ErrorKind::IdentityChanged);
}
