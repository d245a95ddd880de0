//! Parts that did not change: the service takes them from the file that is replaced (X3).

use crate::harness::{SHARE, Server, failed, open, sas, temp};
use crate::suite::{Share, Upload, path, pattern, put};
use azure_files_emulator::{Fault, Operation, Rule};
use covefs_remote::azure::{Account, AzureConfig};
use covefs_remote::{Attrs, ErrorKind, Expect, Metadata, Result, Version};
use std::sync::Arc;

const SIZE: usize = 22 << 20;

/// The one part that changes.
const PART: std::ops::Range<usize> = 8 << 20..12 << 20;

/// Of the file as it was; the source has other bytes where it says that nothing changed, so that whatever
/// was read from there shows.
fn before() -> Vec<u8> {
    pattern(SIZE, 1)
}

fn after() -> Vec<u8> {
    let mut bytes = before();
    bytes[PART.start + 5..PART.end - 5].fill(9);
    bytes
}

async fn patch(share: &Share, base: Version) -> (Arc<Upload>, Result<Metadata>) {
    let mut bytes = vec![0xee; SIZE];
    bytes[PART].copy_from_slice(&after()[PART]);
    let unchanged = vec![0..PART.start as u64, PART.end as u64..SIZE as u64];
    let upload = Arc::new(Upload::of(bytes).unchanged_in(unchanged));
    let (path, temp) = (path("d.e/f g"), temp(1, 1));
    let sent = share.replace(&path, upload.clone(), Expect::Version(base), &temp).await;
    (upload, sent)
}

async fn start() -> (Server, Share, Version) {
    let server = Server::start();
    let share = server.guarded();
    share.create_dir(&path("d.e"), &Attrs::default()).await.unwrap();
    let base = put(&share, "d.e/f g", &before()).await.version;
    (server, share, base)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_sent() {
    let (server, with_key, base) = start().await;
    let token = sas(&server, "rwdlc", "2099-01-01T00:00:00Z");
    let account = Account::with_sas(server.emulator.account(), &token).unwrap();
    let account = account.at(&server.emulator.endpoint()).unwrap();
    let with_token = open(AzureConfig::new(account, SHARE));
    let mut base = base;
    for share in [with_key, with_token] {
        let (upload, sent) = patch(&share, base).await;
        base = sent.unwrap().version;
        let sent: Vec<_> = std::iter::once(PART.start as u64..PART.end as u64).collect();
        assert_eq!(upload.was_read(), sent);
        assert!(server.read("d.e/f g").unwrap() == after());
        server.assert_clean().await;
    }
}

/// rule X3: what was copied may be of another state than what was sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_while_parts_are_copied_stays() {
    let (server, share, base) = start().await;
    server.emulator.before(Operation::PutRangeFromUrl, "", |owner| {
        owner.write(SHARE, "d.e/f g", &vec![3; SIZE]);
    });
    assert_eq!(failed(patch(&share, base).await.1).kind, ErrorKind::VersionChanged);
    assert!(server.read("d.e/f g").unwrap() == vec![3; SIZE]);
    server.assert_clean().await;
}

/// Attributes are no reason to give up ours, but copied parts may be of a state with another content and the
/// same time: it is done again.
#[tokio::test(flavor = "multi_thread")]
async fn new_attributes_while_parts_are_copied_make_it_begin_again() {
    let (server, share, base) = start().await;
    server.emulator.before(Operation::PutRangeFromUrl, "", |owner| {
        owner.set_attributes(SHARE, "d.e/f g", "Hidden");
    });
    let error = failed(patch(&share, base).await.1);
    assert_eq!(error.kind, ErrorKind::Busy, "{error}");
    assert!(error.kind.is_transient());
    assert!(server.read("d.e/f g").unwrap() == before());
    server.assert_clean().await;
    // Of another object than the one that the rest is known of nothing is copied.
    let mut whole = after();
    whole[0] = 77;
    let upload =
        Upload::of(whole.clone()).unchanged_in(std::iter::once(0..PART.start as u64).collect());
    let (path, temp) = (path("d.e/f g"), temp(1, 2));
    share.replace(&path, Arc::new(upload), Expect::Version(base), &temp).await.unwrap();
    assert!(server.read("d.e/f g").unwrap() == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_service_refuses_all_is_sent() {
    let (server, share, base) = start().await;
    let refuse = Rule::new(Fault::Answer {
        status: 403,
        code: "CannotVerifyCopySource".into(),
        retry_after: None,
    })
    .on(Operation::PutRangeFromUrl);
    server.fault(refuse);
    let upload =
        Upload::of(after()).unchanged_in(vec![0..PART.start as u64, PART.end as u64..SIZE as u64]);
    let upload = Arc::new(upload);
    share
        .replace(&path("d.e/f g"), upload.clone(), Expect::Version(base), &temp(1, 1))
        .await
        .unwrap();
    assert!(server.read("d.e/f g").unwrap() == after());
    let read: u64 = upload.was_read().iter().map(|range| range.end - range.start).sum();
    assert_eq!(read, SIZE as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_copy_is_asked_for_again() {
    let (server, share, base) = start().await;
    let lost = server.lose(Operation::PutRangeFromUrl);
    let (upload, sent) = patch(&share, base).await;
    sent.unwrap();
    assert_eq!(server.fired(lost), 1);
    assert_eq!(upload.was_read().len(), 1);
    assert!(server.read("d.e/f g").unwrap() == after());
    server.assert_clean().await;
}
