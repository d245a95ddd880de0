//! "Not found" needs a witness (X1): the share and the root that the cache was made for.

use crate::harness::{SHARE, Server, failed, open, replace, temp};
use crate::suite::{Share, names, path, put};
use azure_files_emulator::Operation;
use covefs_remote::azure::AzureConfig;
use covefs_remote::{Attrs, Error, ErrorKind, Existence, Expect};

/// What every kind of request says.
async fn all(share: &Share) -> Vec<Error> {
    let root = path("");
    let file = path("d/f");
    vec![
        failed(share.stat(&root).await),
        failed(share.stat(&file).await),
        failed(share.list(&root, None).await),
        failed(share.list(&path("d"), None).await),
        failed(share.remove(&file, Expect::Any).await),
        failed(share.create_dir(&path("d/e"), &Attrs::default()).await),
        failed(replace(share, "d/f", b"x", Expect::Any, &temp(1, 1)).await),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_is_away_tells_nothing_of_files() {
    let server = Server::start();
    server.emulator.write(SHARE, "d/f", b"x");
    let share = open(AzureConfig { share: "elsewhere".into(), ..server.config() });
    for error in all(&share).await {
        assert_eq!(error.kind, ErrorKind::IdentityChanged, "{error}");
        assert_eq!(error.kind.existence(), Existence::Unknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_was_moved_away_tells_nothing_of_files() {
    let server = Server::start();
    server.emulator.write(SHARE, "sub/d/f", b"x");
    let config = AzureConfig { dir: path("sub"), ..server.config() };
    let share = open(config.clone());
    let known = share.identity().await.unwrap();
    assert_eq!(names(&share, "d").await, ["f"]);
    // Another one in its place, and none at all; the first is known or was seen.
    let later = open(AzureConfig { known: Some(known.clone()), ..config });
    server.emulator.rename(SHARE, "sub", "away");
    for is_replaced in [false, true] {
        for share in [&share, &later] {
            for error in all(share).await {
                assert_eq!(error.kind, ErrorKind::IdentityChanged, "{is_replaced} {error}");
            }
        }
        server.emulator.create_dir(SHARE, "sub");
    }
    assert_ne!(share.identity().await.unwrap(), known);
    assert!(server.emulator.walk(SHARE).iter().all(|entry| !entry.name.starts_with("sub/")));
    server.emulator.remove(SHARE, "sub");
    server.emulator.rename(SHARE, "away", "sub");
    assert_eq!(share.identity().await.unwrap(), known);
    assert_eq!(names(&later, "d").await, ["f"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_is_one_request() {
    let server = Server::start();
    let share = server.share();
    for name in ["a", "b", "c"] {
        put(&share, name, b"x").await;
    }
    server.emulator.reset_counts();
    names(&share, "").await;
    let asked: Vec<_> = server.emulator.log().iter().map(|logged| logged.operation).collect();
    assert_eq!(asked, [Operation::ListDirectory]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_new_file_is_three_requests() {
    let server = Server::start();
    let share = server.share();
    server.emulator.reset_counts();
    replace(&share, "f", b"x", Expect::Absent, &temp(1, 1)).await.unwrap();
    let asked: Vec<_> = server.emulator.log().iter().map(|logged| logged.operation).collect();
    assert_eq!(asked, [Operation::CreateFile, Operation::PutRange, Operation::RenameFile]);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_the_share_s() {
    let server = Server::start();
    let share = server.share();
    put(&share, "f", &[1; 5000]).await;
    let usage = share.usage().await.unwrap();
    assert_eq!(usage.total_bytes % (1 << 30), 0);
    assert!(usage.total_bytes > 0 && usage.total_bytes - usage.free_bytes >= 5000, "{usage:?}");
}
