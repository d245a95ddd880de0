//! What a change costs on a long line.

use crate::line::{Counter, Line};
use crate::samba::{LONG, PLAIN, Samba};
use crate::suite::{Share, Upload, get, kind, path, pattern, put, send};
use bytes::Bytes;
use covefs_remote::smb::{Encrypt, SmbConfig, SmbRemote};
use covefs_remote::{ErrorKind, Expect, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A share behind a line that counts what goes over it.
fn counted(samba: &Samba) -> (Line<Counter>, Share) {
    let line = Line::to(samba.port, Counter::default());
    let config = SmbConfig { port: line.port, encrypt: Encrypt::Off, ..samba.config(PLAIN) };
    let share: Share = Arc::new(SmbRemote::new(config));
    (line, share)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_small_file_takes_three_round_trips() {
    let Some(samba) = Samba::start() else { return };
    let (line, share) = counted(&samba);
    share.stat(&path("")).await.unwrap();
    line.watcher.take();
    // The first two go together.
    line.watcher.hold_answers_until(2);
    send(&share, "f", Upload::of("small"), Expect::Absent).await.unwrap();
    line.watcher.hold_answers_until(0);
    let counted = line.watcher.take();
    // Made and filled, while it is asked whether nothing stands aside; attributes; the name, if it is free.
    assert_eq!((counted.round_trips, counted.packets), (3, 4), "{counted:?}");
    assert_eq!(get(&share, "f").await, b"small");
}

/// Eight small files cost the server one wake-up; one of them that is gone, or locked, no other's bytes.
#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_read_in_one_packet() {
    let Some(samba) = Samba::start() else { return };
    let (line, share) = counted(&samba);
    assert_eq!(share.limits().whole_files, 8);
    let mut files = Vec::new();
    for number in 0..8 {
        let name = format!("f{number}");
        let version = put(&share, &name, &pattern(4096, number)).await.version;
        files.push((path(&name), version));
    }
    let is_right = |number: usize, read: Result<Bytes>| {
        assert!(read.unwrap() == pattern(4096, number as u64), "{number}");
    };
    line.watcher.take();
    let read = share.read_whole(&files).await;
    let counted = line.watcher.take();
    assert_eq!((counted.round_trips, counted.packets), (1, 1), "{counted:?}");
    read.into_iter().enumerate().for_each(|(number, read)| is_right(number, read));
    std::fs::remove_file(samba.disk(PLAIN).join("f3")).unwrap();
    std::fs::write(samba.disk(PLAIN).join("f5"), b"shorter").unwrap();
    let read = share.read_whole(&files).await;
    for (number, read) in read.into_iter().enumerate() {
        match number {
            3 => assert_eq!(kind(read), ErrorKind::NotFound),
            5 => assert_eq!(kind(read), ErrorKind::VersionChanged),
            _ => is_right(number, read),
        }
    }
    let is_ours = |file: PathBuf| {
        let name = file.file_name().is_some_and(|name| name.as_bytes().starts_with(b"f"));
        file.starts_with(samba.disk(PLAIN)) && name
    };
    let end = Instant::now() + LONG;
    while open_files().any(is_ours) {
        assert!(Instant::now() < end, "a file stays open on the server");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What all processes have open.
fn open_files() -> impl Iterator<Item = PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let files = processes.filter_map(|process| std::fs::read_dir(process.path().join("fd")).ok());
    files.flatten().flatten().filter_map(|file| std::fs::read_link(file.path()).ok())
}
