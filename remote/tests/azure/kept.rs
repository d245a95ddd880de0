//! What a change keeps of an entry (X6), and what is kept in metadata.

use crate::harness::{SHARE, Server, open, replace, set_metadata, temp};
use crate::suite::{entries, mkdir, path, pattern, put, send, version};
use azure_files_emulator::Operation;
use covefs_remote::azure::{AzureConfig, Defaults};
use covefs_remote::{Attrs, Expect, Timestamp};

fn mode(mode: u32) -> Attrs {
    Attrs { mode: Some(mode), ..Attrs::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_passes_on_what_others_gave_it() {
    // rule X6
    let server = Server::start();
    let share = server.share();
    put(&share, "f", b"old").await;
    server.emulator.set_attributes(SHARE, "f", "Hidden | Archive | NotContentIndexed");
    set_metadata(&server, "f", "color", "red").await;
    let before = server.emulator.stat(SHARE, "f").unwrap();
    let base = version(&share, "f").await;
    let made = replace(&share, "f", b"new", Expect::Version(base), &temp(1, 1)).await.unwrap();
    let after = server.emulator.stat(SHARE, "f").unwrap();
    assert_eq!(after.attributes, before.attributes);
    assert_eq!(after.metadata, before.metadata);
    assert_eq!(after.created_ticks, before.created_ticks);
    let set = share.set_attrs(&path("f"), &made.version, &mode(0o711)).await.unwrap();
    let after = server.emulator.stat(SHARE, "f").unwrap();
    assert_eq!(after.metadata["color"], "red");
    assert_eq!(after.metadata["covefsmode"], "0711");
    let upload = crate::suite::Upload::of("newer").with(mode(0o644));
    send(&share, "f", upload, Expect::Version(set.version)).await.unwrap();
    assert_eq!(server.emulator.stat(SHARE, "f").unwrap().metadata, before.metadata);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_from_the_defaults_is_kept() {
    let server = Server::start();
    let defaults = Defaults { uid: 1000, gid: 1000, file_mode: 0o640, dir_mode: 0o750 };
    let share = open(AzureConfig { defaults, ..server.config() });
    let own =
        |mode, id| Attrs { mode: Some(mode), uid: Some(id), gid: Some(id), ..Attrs::default() };
    let make = async |name: &str, attrs: Attrs| {
        let upload = crate::suite::Upload::of("x").with(attrs);
        send(&share, name, upload, Expect::Absent).await.unwrap()
    };
    make("plain", own(0o640, 1000)).await;
    make("closed", own(0o440, 1000)).await;
    make("other", own(0o755, 33)).await;
    share.create_dir(&path("dir"), &own(0o750, 1000)).await.unwrap();
    share.create_dir(&path("sticky"), &own(0o1777, 1000)).await.unwrap();
    let entry = |name: &str| server.emulator.stat(SHARE, name).unwrap();
    for name in ["plain", "closed", "dir"] {
        assert!(entry(name).metadata.is_empty(), "{:?}", entry(name));
    }
    assert_eq!(entry("closed").attributes, "ReadOnly | Archive");
    assert_eq!(entry("plain").attributes, "Archive");
    server.emulator.reset_counts();
    let look = async || {
        let listed = entries(&share, "").await;
        let of = |name: &str| {
            let found = &listed[name.as_bytes()];
            (found.mode.unwrap(), found.uid.unwrap(), found.gid.unwrap())
        };
        assert_eq!(of("plain"), (0o640, 1000, 1000));
        assert_eq!(of("closed"), (0o440, 1000, 1000));
        assert_eq!(of("other"), (0o755, 33, 33));
        assert_eq!(of("sticky"), (0o1777, 1000, 1000));
    };
    look().await;
    look().await;
    // Only the marked ones are asked for, and files once for each state.
    assert_eq!(server.emulator.count(Operation::HeadFile), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_file_is_replaced_and_removed_as_posix_wants() {
    let server = Server::start();
    let share = server.share();
    let upload = crate::suite::Upload::of("old").with(mode(0o444));
    let base = send(&share, "f", upload, Expect::Absent).await.unwrap();
    let base =
        replace(&share, "f", b"new", Expect::Version(base.version), &temp(1, 1)).await.unwrap();
    assert_eq!((base.mode, server.read("f").unwrap()), (Some(0o444), b"new".to_vec()));
    // Metadata of a read-only file cannot be set as it is.
    let set = share.set_attrs(&path("f"), &base.version, &mode(0o555)).await.unwrap();
    assert_eq!(set.mode, Some(0o555));
    let over = put(&share, "g", b"g").await.version;
    let expect = Expect::Version(version(&share, "f").await);
    share.rename(&path("g"), &over, &path("f"), expect).await.unwrap();
    assert_eq!(server.read("f").unwrap(), b"g");
    let upload = crate::suite::Upload::of("x").with(mode(0o400));
    let closed = send(&share, "c", upload, Expect::Absent).await.unwrap().version;
    share.remove(&path("c"), Expect::Version(closed)).await.unwrap();
    assert_eq!(server.walk(), ["f"]);
    server.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_kept_to_100_ns() {
    let server = Server::start();
    let share = server.share();
    let mtime = Timestamp { seconds: 1_234_567_890, nanos: 123_456_789 };
    let rounded = Timestamp { nanos: 123_456_700, ..mtime };
    let attrs = Attrs { mtime: Some(mtime), ..Attrs::default() };
    let upload = crate::suite::Upload::of("x").with(attrs.clone());
    let made = send(&share, "f", upload, Expect::Absent).await.unwrap();
    let dir = share.create_dir(&path("d"), &attrs).await.unwrap();
    assert_eq!((made.mtime, dir.mtime), (rounded, rounded));
    let other = Timestamp { seconds: 0, nanos: 99 };
    let attrs = Attrs { mtime: Some(other), atime: Some(mtime), ..Attrs::default() };
    let set = share.set_attrs(&path("f"), &made.version, &attrs).await.unwrap();
    assert_eq!((set.mtime, set.atime), (Timestamp::default(), rounded));
    assert_eq!(share.stat(&path("f")).await.unwrap(), set);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_just_now_is_young() {
    let server = Server::start();
    let share = server.share();
    // Just now by the server's clock, when it answers.
    server.emulator.before(Operation::HeadFile, "f", |owner| owner.write(SHARE, "f", b"x"));
    assert!(share.stat(&path("f")).await.unwrap().young);
    server.emulator.before(Operation::ListDirectory, "", |owner| owner.write(SHARE, "f", b"y"));
    assert!(entries(&share, "").await[&b"f"[..]].young);
    let mtime = Some(Timestamp { seconds: 1_234_567_890, nanos: 0 });
    let base = version(&share, "f").await;
    let attrs = Attrs { mtime, ..Attrs::default() };
    assert!(!share.set_attrs(&path("f"), &base, &attrs).await.unwrap().young);
    assert!(!mkdir(&share, "d").await.young);
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_are_not_sent_and_big_files_go_in_parts() {
    let server = Server::start();
    let share = server.share();
    let mut bytes = vec![0; 40 << 20];
    bytes[9 << 20..10 << 20].copy_from_slice(&pattern(1 << 20, 1));
    bytes[(40 << 20) - 1] = 1;
    server.emulator.reset_counts();
    put(&share, "f", &bytes).await;
    assert_eq!(server.emulator.count(Operation::PutRange), 2);
    assert!(server.read("f").unwrap() == bytes);
    let all = pattern(10 << 20, 2);
    server.emulator.reset_counts();
    put(&share, "g", &all).await;
    assert_eq!(server.emulator.count(Operation::PutRange), 3);
    assert!(server.read("g").unwrap() == all);
}
