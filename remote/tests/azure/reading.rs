//! Reads are of one version, whatever is written meanwhile (DESIGN.md section 9, 4).

use crate::harness::{SHARE, Server, failed};
use crate::suite::{path, pattern, put, read_range};
use azure_files_emulator::Operation;
use covefs_remote::{Attrs, ErrorKind, Timestamp};

/// Bytes are written while an answer is on its way: it is not passed on.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_during_a_read_is_seen_before_its_bytes_are_believed() {
    let server = Server::start();
    let share = server.share();
    let base = put(&share, "f", &pattern(1 << 20, 1)).await.version;
    server.emulator.after(Operation::GetFile, "f", |owner| {
        owner.write_at(SHARE, "f", 1000, b"edited");
    });
    let read = read_range(&share, "f", 0..1 << 20, &base).await;
    assert_eq!(failed(read).kind, ErrorKind::VersionChanged);
}

/// An attribute that changes meanwhile does not make it another content.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_attribute_during_a_read_is_no_edit() {
    let server = Server::start();
    let share = server.share();
    let bytes = pattern(1 << 20, 1);
    let base = put(&share, "f", &bytes).await.version;
    server.emulator.after(Operation::GetFile, "f", |owner| {
        owner.set_attributes(SHARE, "f", "Hidden");
    });
    assert!(read_range(&share, "f", 0..1 << 20, &base).await.unwrap() == bytes);
    // It was read once more, for the ETag alone does not tell one from the other.
    assert_eq!(server.emulator.count(Operation::GetFile), 2);
}

/// Bytes written with the old time set again are another content by the ETag alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_is_not_found_and_a_new_one_another() {
    let server = Server::start();
    let share = server.share();
    let base = put(&share, "f", &pattern(5 << 20, 1)).await.version;
    server.emulator.remove(SHARE, "f");
    let read = read_range(&share, "f", 0..10, &base).await;
    assert_eq!(failed(read).kind, ErrorKind::NotFound);
    server.emulator.write(SHARE, "f", &pattern(5 << 20, 1));
    let attrs = Attrs { mtime: Some(base.content.mtime), ..Attrs::default() };
    let now = share.stat(&path("f")).await.unwrap().version;
    let now = share.set_attrs(&path("f"), &now, &attrs).await.unwrap();
    assert_eq!((now.size, now.mtime), (base.content.size, base.content.mtime));
    let read = read_range(&share, "f", 0..10, &base).await;
    assert_eq!(failed(read).kind, ErrorKind::VersionChanged, "another file has the name");
    // Shorter than the version was.
    server.emulator.write(SHARE, "f", b"short");
    let read = read_range(&share, "f", 4 << 20..5 << 20, &base).await;
    assert_eq!(failed(read).kind, ErrorKind::VersionChanged);
    assert_ne!(base.content.mtime, Timestamp::default());
}

/// A read of many parts is of one version to its end.
#[tokio::test(flavor = "multi_thread")]
async fn parts_are_of_one_version() {
    use futures_util::StreamExt;
    let server = Server::start();
    let share = server.share();
    let bytes = pattern(9 << 20, 1);
    let base = put(&share, "f", &bytes).await.version;
    let mut stream = share.read(&path("f"), 0..9 << 20, &base).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert!(bytes.starts_with(&first) && first.len() < bytes.len());
    server.emulator.write_at(SHARE, "f", 8 << 20, b"edited");
    let mut read = first.to_vec();
    let end = loop {
        match stream.next().await {
            Some(Ok(chunk)) => read.extend_from_slice(&chunk),
            Some(Err(error)) => break error.kind,
            None => panic!("read to the end: a mixture"),
        }
    };
    // The next part may have come before the edit, no more.
    assert_eq!(end, ErrorKind::VersionChanged);
    assert!(bytes.starts_with(&read) && read.len() <= 2 * first.len(), "{} bytes", read.len());
}
