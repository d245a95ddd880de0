//! Logins that fail, and what is said of them: what to do, and no secret.

use crate::harness::{SHARE, Server, failed, open, replace, said, sas, temp};
use crate::suite::{get, path, put};
use covefs_remote::azure::{Account, AzureConfig};
use covefs_remote::{ErrorKind, Existence, Expect};

fn by_token(server: &Server, token: &str) -> AzureConfig {
    let account = Account::with_sas(server.emulator.account(), token).unwrap();
    AzureConfig::new(account.at(&server.emulator.endpoint()).unwrap(), SHARE)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_what_a_key_does() {
    let server = Server::start();
    let share = open(by_token(&server, &sas(&server, "rwdlc", "2099-01-01T00:00:00Z")));
    let base = put(&share, "odd name+%.txt", b"one").await.version;
    let bytes = b"two".to_vec();
    let expect = Expect::Version(base);
    let base = replace(&share, "odd name+%.txt", &bytes, expect, &temp(1, 2)).await.unwrap();
    share.rename(&path("odd name+%.txt"), &base.version, &path("b"), Expect::Absent).await.unwrap();
    assert_eq!(get(&share, "b").await, b"two");
    share.usage().await.unwrap();
    share.remove(&path("b"), Expect::Any).await.unwrap();
    server.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_only_read_says_no() {
    let server = Server::start();
    server.emulator.write(SHARE, "f", b"x");
    let share = open(by_token(&server, &sas(&server, "rl", "2099-01-01T00:00:00Z")));
    assert_eq!(get(&share, "f").await, b"x");
    let sent = replace(&share, "g", b"y", Expect::Absent, &temp(1, 1)).await;
    assert_eq!(failed(sent).kind, ErrorKind::ReadOnly);
    let removed = share.remove(&path("f"), Expect::Any).await;
    assert_eq!(failed(removed).kind, ErrorKind::ReadOnly);
    assert!(share.limits().read_only);
    // What a token does not tell by itself the service does.
    let share = open(by_token(&server, &sas(&server, "rwl", "2099-01-01T00:00:00Z")));
    assert!(!share.limits().read_only);
    let removed = share.remove(&path("f"), Expect::Any).await;
    assert_eq!(failed(removed).kind, ErrorKind::PermissionDenied);
    assert_eq!(server.walk(), ["f"]);
    server.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_login_is_said_without_it() {
    let server = Server::start();
    server.emulator.write(SHARE, "f", b"x");
    let account = Account::with_key(server.emulator.account(), "aHVudGVyMg==").unwrap();
    let account = account.at(&server.emulator.endpoint()).unwrap();
    let wrong_key = AzureConfig::new(account, SHARE);
    let expired = by_token(&server, &sas(&server, "rwl", "2020-01-01T00:00:00Z"));
    let mut altered = sas(&server, "rl", "2099-01-01T00:00:00Z");
    altered = altered.replace("sp=rl", "sp=rwdl");
    for config in [wrong_key, expired, by_token(&server, &altered)] {
        let share = open(config);
        for error in [
            failed(share.stat(&path("f")).await),
            failed(share.list(&path(""), None).await),
            failed(replace(&share, "f", b"y", Expect::Any, &temp(1, 1)).await),
            failed(share.identity().await),
        ] {
            assert_eq!(error.kind, ErrorKind::Unauthenticated, "{error}");
            assert_eq!(error.kind.existence(), Existence::Unknown);
            let said = said(&error);
            assert!(said.contains("key or the token"), "{said}");
            for secret in ["hunter2", "aHVudGVy", "sig=", server.emulator.key()] {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_named() {
    let server = Server::start();
    let share = server.share();
    for (ahead, wanted) in [(3600, "59 minutes behind"), (-3600, "60 minutes ahead of")] {
        server.emulator.set_clock_skew_seconds(ahead);
        let error = failed(share.stat(&path("")).await);
        let said = error.to_string();
        // The two clocks are read a moment apart.
        let hint = said.contains(wanted) || said.contains(&wanted.replace("59", "60"));
        assert!(error.kind == ErrorKind::Unauthenticated && hint, "{said}");
    }
    server.emulator.set_clock_skew_seconds(0);
    share.stat(&path("")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_tells_no_url() {
    let server = Server::start();
    let share = open(by_token(&server, &sas(&server, "rl", "2099-01-01T00:00:00Z")));
    drop(server);
    let error = failed(share.stat(&path("f")).await);
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(!said(&error).contains("sig="), "{error:?}");
}
