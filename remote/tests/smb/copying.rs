//! Bytes that did not change: the server takes them from the file that is replaced (X4).

use crate::line::{Counter, Line};
use crate::samba::{LONG, PLAIN, SECRET, Samba};
use crate::suite::{Share, TEMP, Upload, path, pattern, put};
use crate::wire::{READ, Raw, SHARE_ALL, WRITE};
use covefs_remote::smb::{Encrypt, SmbConfig, SmbRemote};
use covefs_remote::{Attrs, ErrorKind, Expect, Metadata, Result, Version};
use smb2::msg::lock::{LockElement, LockRequest};
use smb2::types::Command;
use smb2::types::status::NtStatus;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

const SIZE: usize = (22 << 20) + 77;

/// The one place that changes, and what of it has to be sent: by pieces of 64 KiB.
const EDIT: Range<usize> = (9 << 20) + 5..(9 << 20) + 4101;
const SENT: Range<u64> = 9 << 20..(9 << 20) + (64 << 10);

fn before() -> Vec<u8> {
    pattern(SIZE, 1)
}

fn after() -> Vec<u8> {
    let mut bytes = before();
    bytes[EDIT].fill(9);
    bytes
}

/// The source has other bytes where it says that nothing changed, so that whatever was read from there
/// shows.
fn edit() -> Upload {
    let mut bytes = vec![0xee; SIZE];
    let sent = SENT.start as usize..SENT.end as usize;
    bytes[sent.clone()].copy_from_slice(&after()[sent]);
    Upload::of(bytes).unchanged_in(unchanged())
}

fn unchanged() -> Vec<Range<u64>> {
    vec![0..EDIT.start as u64, EDIT.end as u64..SIZE as u64]
}

async fn send(share: &Share, upload: Upload, base: Version) -> (Arc<Upload>, Result<Metadata>) {
    let upload = Arc::new(upload);
    let sent = share.replace(&path("f"), upload.clone(), Expect::Version(base), TEMP).await;
    (upload, sent)
}

/// A share by a line that counts, with the file as it was.
struct Stage {
    samba: Arc<Samba>,
    line: Line<Counter>,
    share: Share,
    base: Version,
}

impl Stage {
    async fn set() -> Option<Stage> {
        Stage::with(|config| config).await
    }

    async fn with(change: impl FnOnce(SmbConfig) -> SmbConfig) -> Option<Stage> {
        let samba = Arc::new(Samba::start()?);
        let line = Line::to(samba.port, Counter::default());
        let config = SmbConfig { port: line.port, encrypt: Encrypt::Off, ..samba.config(PLAIN) };
        let share: Share = Arc::new(SmbRemote::new(change(config)));
        let base = put(&share, "f", &before()).await.version;
        line.watcher.take();
        Some(Stage { samba, line, share, base })
    }

    fn on_disk(&self) -> Vec<u8> {
        std::fs::read(self.samba.disk(PLAIN).join("f")).unwrap()
    }
}

fn bytes_read(upload: &Upload) -> u64 {
    upload.was_read().iter().map(|range| range.end - range.start).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_sent() {
    let Some(stage) = Stage::set().await else { return };
    let (upload, sent) = send(&stage.share, edit(), stage.base).await;
    let made = sent.unwrap();
    let sent: Vec<_> = std::iter::once(SENT).collect();
    assert_eq!(upload.was_read(), sent);
    assert!(stage.on_disk() == after());
    assert_eq!(stage.share.stat(&path("f")).await.unwrap().version, made.version);
    let counted = stage.line.watcher.take();
    println!("{counted:?}");
    assert!(counted.bytes < 80 << 10, "{counted:?}");
    // 16 MiB each.
    assert_eq!(counted.copies, 2, "{counted:?}");
    assert_eq!(stage.samba.names(PLAIN), ["f"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_is_encrypted_copies_too() {
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(SECRET));
    let base = put(&share, "f", &before()).await.version;
    let (upload, sent) = send(&share, edit(), base).await;
    sent.unwrap();
    assert_eq!(bytes_read(&upload), SENT.end - SENT.start);
    assert!(std::fs::read(samba.disk(SECRET).join("f")).unwrap() == after());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_fewer_bytes_gets_smaller_requests() {
    let all = |config| SmbConfig { copied_bytes: 1 << 30, ..config };
    let Some(stage) = Stage::with(all).await else { return };
    let mut base = stage.base;
    // It is asked for too much once.
    for copies in [2 + 1, 2] {
        let (upload, sent) = send(&stage.share, edit(), base).await;
        base = sent.unwrap().version;
        assert_eq!(bytes_read(&upload), SENT.end - SENT.start);
        assert!(stage.on_disk() == after());
        let counted = stage.line.watcher.take();
        assert_eq!(counted.copies, copies, "{counted:?}");
    }
}

/// rule X4: what was copied may be of another state than what was sent.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_to_it_while_it_is_copied() {
    let Some(stage) = Stage::set().await else { return };
    let (samba, said) = (stage.samba.clone(), Arc::new(Mutex::new(None)));
    let tried = said.clone();
    stage.line.watcher.before_copy(move || {
        let theirs = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(theirs.path(), vec![3; SIZE]).unwrap();
        let put = samba.tries(PLAIN, &format!("put {} f", theirs.path().display()));
        *tried.lock().unwrap() = Some(put);
        // Who only reads it may.
        assert!(samba.get(PLAIN, "f") == before());
    });
    let (_, sent) = send(&stage.share, edit(), stage.base).await;
    sent.unwrap();
    let said = said.lock().unwrap().take().expect("it was copied").unwrap_err();
    assert!(said.contains("SHARING_VIOLATION"), "{said}");
    assert!(stage.on_disk() == after());
}

/// rule X4
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_after_it_was_copied_stays() {
    let Some(stage) = Stage::set().await else { return };
    let on_disk = stage.samba.disk(PLAIN).join("f");
    // On the server's own disk nobody is kept off.
    stage.line.watcher.before_copy(move || std::fs::write(on_disk, vec![3; SIZE]).unwrap());
    let (_, sent) = send(&stage.share, edit(), stage.base).await;
    assert_eq!(sent.unwrap_err().kind, ErrorKind::VersionChanged);
    assert!(stage.on_disk() == vec![3; SIZE]);
    assert_eq!(stage.samba.names(PLAIN), ["f"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_copied_from_another_object_than_the_one_that_is_known() {
    let Some(stage) = Stage::set().await else { return };
    let attrs = Attrs { mode: Some(0o444), ..Attrs::default() };
    stage.share.set_attrs(&path("f"), &stage.base, &attrs).await.unwrap();
    let whole = Upload::of(after()).unchanged_in(unchanged());
    let (upload, sent) = send(&stage.share, whole, stage.base).await;
    sent.unwrap();
    assert_eq!(bytes_read(&upload), SIZE as u64);
    assert!(stage.on_disk() == after());
    assert_eq!(stage.line.watcher.take().copies, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_client_writes_to_is_not_copied() {
    let Some(stage) = Stage::set().await else { return };
    let raw = Raw::connect(&stage.samba, PLAIN).await.unwrap();
    let writer = raw.open("f", WRITE, SHARE_ALL).await.unwrap();
    let whole = Upload::of(after()).unchanged_in(unchanged());
    let sending = send(&stage.share, whole, stage.base);
    let closing = async {
        // It goes away while the end waits for it.
        let end = Instant::now() + LONG;
        while stage.line.watcher.bytes() < SIZE {
            assert!(Instant::now() < end, "not all of it was sent");
            tokio::task::yield_now().await;
        }
        assert_eq!(raw.close(writer).await, NtStatus::SUCCESS);
    };
    let ((upload, sent), ()) = tokio::join!(sending, closing);
    sent.unwrap();
    assert_eq!(bytes_read(&upload), SIZE as u64);
    assert!(stage.on_disk() == after());
    assert_eq!(stage.line.watcher.take().copies, 0);
}

/// The server refuses: what it does not copy is sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_not_copy_is_sent() {
    let Some(stage) = Stage::set().await else { return };
    let raw = Raw::connect(&stage.samba, PLAIN).await.unwrap();
    let reader = raw.open("f", READ, SHARE_ALL).await.unwrap();
    const ALONE_AT_ONCE: u32 = 0x2 | 0x10;
    let locks = vec![LockElement { offset: 20 << 20, length: 10, flags: ALONE_AT_ONCE }];
    let lock = LockRequest { lock_sequence: 0, file_id: reader, locks };
    assert_eq!(raw.ask(Command::Lock, &lock).await.0, NtStatus::SUCCESS);
    let whole = Upload::of(after()).unchanged_in(unchanged());
    let (upload, sent) = send(&stage.share, whole, stage.base).await;
    sent.unwrap();
    assert!(stage.on_disk() == after());
    let sent = bytes_read(&upload);
    // The request with the locked bytes, and the edit.
    assert!(((2 << 20)..(8 << 20)).contains(&sent), "{sent} bytes were sent");
    assert_eq!(stage.line.watcher.take().copies, 2);
}

/// What is asked first costs a round trip.
#[tokio::test(flavor = "multi_thread")]
async fn a_little_is_sent_without_asking() {
    let Some(stage) = Stage::set().await else { return };
    let bytes = pattern(300 << 10, 2);
    let base = put(&stage.share, "f", &bytes).await.version;
    stage.line.watcher.take();
    let upload = Upload::of(bytes.clone()).unchanged_in(std::iter::once(0..200 << 10).collect());
    let (upload, sent) = send(&stage.share, upload, base).await;
    sent.unwrap();
    assert_eq!(bytes_read(&upload), 300 << 10);
    assert!(stage.on_disk() == bytes);
    assert_eq!(stage.line.watcher.take().copies, 0);
}
