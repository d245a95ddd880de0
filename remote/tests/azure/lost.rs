//! Answers that are lost after the change was made, storms of refusals, cut answers.

use crate::harness::{LONG, SHARE, Server, failed, is_unknown, replace, temp};
use crate::suite::{get, mkdir, path, pattern, put, send, version};
use azure_files_emulator::{Fault, Operation, Rule};
use covefs_remote::attempt::{AttemptConfig, Guarded};
use covefs_remote::{Attrs, ErrorKind, Expect, Remote, Timestamp};
use std::sync::Arc;
use std::time::Duration;

fn mtime() -> Timestamp {
    Timestamp { seconds: 1_400_000_000, nanos: 7_000_100 }
}

/// Loses one answer to each call that a replace makes: it ends as if none had been lost, or says
/// that it does not know and leaves all as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_replace_finds_out_what_was_done() {
    let (old, new) = (pattern(1000, 1), pattern(9 << 20, 2));
    for operation in [
        Operation::HeadFile,
        Operation::CreateFile,
        Operation::PutRange,
        Operation::LeaseFile,
        Operation::RenameFile,
    ] {
        let server = Server::start();
        let share = server.share();
        let base = put(&share, "f", &old).await.version;
        let lost = server.lose(operation);
        let sent = replace(&share, "f", &new, Expect::Version(base), &temp(1, 2)).await;
        assert_eq!(server.fired(lost), 1, "{operation:?}");
        server.assert_clean().await;
        match sent {
            Ok(metadata) => {
                assert!(server.read("f").unwrap() == new, "{operation:?}");
                assert_eq!(version(&share, "f").await, metadata.version);
            }
            Err(error) => {
                assert!(is_unknown(error.kind), "{operation:?}: {error}");
                // Arriving twice, it would wipe out the bytes: it is not sent again.
                assert_eq!(operation, Operation::CreateFile);
                assert!(server.read("f").unwrap() == old, "{operation:?}");
                replace(&share, "f", &new, Expect::Version(base), &temp(1, 3)).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_is_not_taken_for_somebody_else_s() {
    let server = Server::start();
    let share = server.share();
    let lost = server.lose(Operation::RenameFile);
    let made = send(&share, "f", crate::suite::Upload::of("x"), Expect::Absent).await.unwrap();
    assert_eq!((server.fired(lost), version(&share, "f").await), (1, made.version));
    // Somebody else's is told from ours although it holds the same.
    server.emulator.write(SHARE, "g", b"x");
    let lost = server.fault(Rule::new(Fault::Refuse).on(Operation::RenameFile).times(1));
    let taken = send(&share, "g", crate::suite::Upload::of("x"), Expect::Absent).await;
    assert_eq!((failed(taken).kind, server.fired(lost)), (ErrorKind::Exists, 1));
    server.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_changes_find_out_too() {
    for operation in [Operation::LeaseFile, Operation::RenameFile] {
        let server = Server::start();
        let share = server.share();
        let base = put(&share, "f", b"x").await.version;
        let lost = server.lose(operation);
        share.rename(&path("f"), &base, &path("g"), Expect::Absent).await.unwrap();
        assert_eq!((server.fired(lost), server.walk()), (1, vec!["g".into()]));
        server.assert_clean().await;
    }
    for operation in [Operation::LeaseFile, Operation::DeleteFile] {
        let server = Server::start();
        let share = server.share();
        let base = put(&share, "f", b"x").await.version;
        let lost = server.lose(operation);
        share.remove(&path("f"), Expect::Version(base)).await.unwrap();
        assert_eq!((server.fired(lost), server.walk().len()), (1, 0), "{operation:?}");
    }
    for operation in
        [Operation::LeaseFile, Operation::SetFileMetadata, Operation::SetFileProperties]
    {
        let server = Server::start();
        let share = server.share();
        let base = put(&share, "f", b"x").await.version;
        let lost = server.lose(operation);
        let attrs = Attrs { mode: Some(0o751), mtime: Some(mtime()), ..Attrs::default() };
        let set = share.set_attrs(&path("f"), &base, &attrs).await.unwrap();
        assert_eq!((set.mode, set.mtime, server.fired(lost)), (Some(0o751), mtime(), 1));
        server.assert_clean().await;
    }
    let server = Server::start();
    let share = server.share();
    let dir = mkdir(&share, "d").await.version;
    let lost = server.lose(Operation::RenameDirectory);
    share.rename(&path("d"), &dir, &path("e"), Expect::Absent).await.unwrap();
    let gone = server.lose(Operation::DeleteDirectory);
    share.remove(&path("e"), Expect::Version(dir)).await.unwrap();
    assert_eq!((server.fired(lost), server.fired(gone), server.walk().len()), (1, 1, 0));
}

/// A directory that was made has no number that we know beforehand: the outcome is the caller's
/// to find out, and it is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_may_have_been_made_is_unknown() {
    let server = Server::start();
    let share = server.guarded();
    server.lose(Operation::CreateDirectory);
    let attrs = Attrs { mtime: Some(mtime()), ..Attrs::default() };
    assert!(is_unknown(failed(share.create_dir(&path("d"), &attrs).await).kind));
    assert_eq!(share.stat(&path("d")).await.unwrap().mtime, mtime());
}

/// Half of all calls are refused, for a while: nothing is lost, nothing is done twice.
#[tokio::test(flavor = "multi_thread")]
async fn storms_are_waited_out() {
    let server = Server::start();
    let share = server.guarded();
    server.emulator.faults().seed(7);
    let storm = server.fault(Rule::busy(None).with_probability(0.4));
    let bytes = pattern(9 << 20, 1);
    let mut base = put(&share, "f", &bytes).await;
    for round in 0..5 {
        let next = pattern(1000, round);
        let expect = Expect::Version(base.version);
        base = replace(&share, "f", &next, expect, &temp(1, round)).await.unwrap();
        assert_eq!(get(&share, "f").await, next);
    }
    mkdir(&share, "d").await;
    share.rename(&path("f"), &base.version, &path("d/f"), Expect::Absent).await.unwrap();
    share.remove(&path("d/f"), Expect::Version(base.version)).await.unwrap();
    assert!(server.fired(storm) > 20);
    server.emulator.faults().clear();
    assert_eq!(server.walk(), ["d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_that_is_asked_for_is_told() {
    let server = Server::start();
    let share = server.share();
    server.fault(Rule::busy(Some(7)).times(1));
    let error = failed(share.stat(&path("f")).await);
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Busy, Some(Duration::from_secs(7))));
    server.fault(Rule::busy(Some(86_400)).times(1));
    let error = failed(share.stat(&path("f")).await);
    assert!(error.retry_after.unwrap() < Duration::from_secs(300), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_reported_as_what_it_is() {
    let server = Server::start();
    let share = server.share();
    let base = put(&share, "f", b"x").await.version;
    for (status, code, wanted) in [
        (500, "ClientCacheFlushDelay", ErrorKind::Busy),
        (409, "SharingViolation", ErrorKind::Busy),
        (409, "DeletePending", ErrorKind::Busy),
        (409, "FileLockConflict", ErrorKind::Busy),
        (500, "InternalError", ErrorKind::Timeout),
        (413, "ShareSizeLimitReached", ErrorKind::NoSpace),
        (403, "AuthorizationFailure", ErrorKind::Unauthenticated),
        (404, "ShareNotFound", ErrorKind::IdentityChanged),
        (404, "SomethingInBetween", ErrorKind::Protocol),
    ] {
        let fault = Fault::Answer { status, code: code.into(), retry_after: None };
        let rule = server.fault(Rule::new(fault).on(Operation::HeadFile));
        assert_eq!(failed(share.stat(&path("f")).await).kind, wanted, "{code}");
        let read = share.remove(&path("f"), Expect::Version(base)).await;
        assert_eq!(failed(read).kind, wanted, "{code}");
        server.emulator.faults().remove(rule);
    }
    assert_eq!(server.walk(), ["f"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_without_room_says_so() {
    let server = Server::start();
    let share = server.share();
    let full =
        Fault::Answer { status: 413, code: "ShareSizeLimitReached".into(), retry_after: None };
    server.fault(Rule::new(full).on(Operation::PutRange));
    let sent = replace(&share, "f", b"x", Expect::Absent, &temp(1, 1)).await;
    assert_eq!(failed(sent).kind, ErrorKind::NoSpace);
    server.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_or_stalled_answer_is_no_answer() {
    // rule R3
    let server = Server::start();
    let share = server.share();
    let bytes = pattern(100_000, 1);
    let base = put(&share, "f", &bytes).await.version;
    for operation in [Operation::GetFile, Operation::ListDirectory] {
        let cut = server.fault(Rule::new(Fault::CutBody(500)).on(operation).times(1));
        let error = match operation {
            Operation::GetFile => share.read(&path("f"), 0..100_000, &base).await.err().unwrap(),
            _ => share.list(&path(""), None).await.err().unwrap(),
        };
        assert_eq!((error.kind, server.fired(cut)), (ErrorKind::Unreachable, 1), "{operation:?}");
    }
    let stall = server.fault(Rule::new(Fault::Stall(500)).on(Operation::GetFile).times(1));
    let config = AttemptConfig {
        timeout: Duration::from_millis(300),
        tries_max: 1,
        ..AttemptConfig::default()
    };
    let hasty = Guarded::new(share.clone(), config);
    let read = tokio::time::timeout(LONG, hasty.read(&path("f"), 0..100_000, &base)).await.unwrap();
    assert_eq!(read.err().unwrap().kind, ErrorKind::Timeout);
    // It may not have got as far as the server.
    server.emulator.faults().remove(stall);
    let again: Arc<dyn Remote> = share;
    assert!(get(&again, "f").await == bytes);
}
