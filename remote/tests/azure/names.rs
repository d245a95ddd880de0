//! Names: odd ones, those that cannot be, and case.

use crate::harness::{SHARE, Server, failed, open, replace, temp};
use crate::suite::{entries, get, mkdir, names, path, put, version};
use azure_files_emulator::Config;
use covefs_remote::azure::AzureConfig;
use covefs_remote::{Attrs, ErrorKind, Expect, RemotePath};

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_go_there_and_back() {
    let server = Server::start();
    let share = server.share();
    mkdir(&share, "dir+ %41").await;
    for name in [
        "a b",
        " leading",
        "a+b%20c",
        "100%",
        "#;&=,@!$'()[]{}~^`",
        "r\u{e9}sum\u{e9}",
        "re\u{301}sume\u{301}",
        "\u{1f600}\u{4e2d}\u{6587}",
        "dots...",
        "x\u{ffff}y",
        "con.txt",
    ] {
        let at = path(&format!("dir+ %41/{name}"));
        let upload = std::sync::Arc::new(crate::suite::Upload::of(name));
        let made = share.replace(&at, upload, Expect::Absent, &temp(1, 1)).await.unwrap();
        assert_eq!(share.stat(&at).await.unwrap().version, made.version, "{name}");
        let listed = entries(&share, "dir+ %41").await;
        assert_eq!(listed.keys().collect::<Vec<_>>(), [name.as_bytes()]);
        let moved = path(&format!("{name}2"));
        share.rename(&at, &made.version, &moved, Expect::Absent).await.unwrap();
        assert_eq!(server.read(&format!("{name}2")).unwrap(), name.as_bytes());
        share.remove(&moved, Expect::Version(made.version)).await.unwrap();
    }
    assert_eq!(server.walk(), ["dir+ %41"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_names_are_refused_without_a_request() {
    let server = Server::start();
    let share = server.share();
    let file = put(&share, "f", b"x").await.version;
    server.emulator.reset_counts();
    let deep = RemotePath::parse("d/".repeat(251).as_bytes());
    let long = RemotePath::parse(
        format!("{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}", "n".repeat(250)).as_bytes(),
    );
    let name = |bytes: &[u8]| RemotePath::root().join(bytes);
    for (at, wanted) in [
        (name(b"a:b"), ErrorKind::NameInvalid),
        (name(b"a\\b"), ErrorKind::NameInvalid),
        (name(b"what?"), ErrorKind::NameInvalid),
        (name(b"\xff"), ErrorKind::NameInvalid),
        (name(b"tab\t"), ErrorKind::NameInvalid),
        (name("\u{20ac}".repeat(256).as_bytes()), ErrorKind::NameTooLong),
        (deep, ErrorKind::NameTooLong),
        (long, ErrorKind::NameTooLong),
    ] {
        let upload = std::sync::Arc::new(crate::suite::Upload::of("x"));
        let sent = share.replace(&at, upload, Expect::Absent, &temp(1, 1)).await;
        assert_eq!(failed(sent).kind, wanted, "{at}");
        assert_eq!(failed(share.create_dir(&at, &Attrs::default()).await).kind, wanted);
        let link = share.symlink(&at, b"x", &Attrs::default()).await;
        assert_eq!(failed(link).kind, wanted);
        let moved = share.rename(&path("f"), &file, &at, Expect::Absent).await;
        assert_eq!(failed(moved).kind, wanted);
        // Nothing has such a name: that is known without asking.
        assert_eq!(failed(share.stat(&at).await).kind, ErrorKind::NotFound);
    }
    assert!(server.emulator.log().is_empty(), "{:?}", server.emulator.log());
    put(&share, &"\u{20ac}".repeat(255), b"x").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_is_kept_and_means_nothing() {
    let server = Server::start();
    let share = server.share();
    let made = put(&share, "Read.Me", b"x").await.version;
    assert_eq!(version(&share, "READ.ME").await, made);
    let again = replace(&share, "read.me", b"y", Expect::Absent, &temp(1, 2)).await;
    assert_eq!(failed(again).kind, ErrorKind::Exists);
    assert_eq!(
        failed(share.create_dir(&path("READ.me"), &Attrs::default()).await).kind,
        ErrorKind::Exists
    );
    assert_eq!(names(&share, "").await, ["Read.Me"]);
    let dir = mkdir(&share, "Dir").await.version;
    let below = share.rename(&path("Dir"), &dir, &path("dir/x"), Expect::Absent).await;
    assert_eq!(failed(below).kind, ErrorKind::Unsupported);
    share.rename(&path("Dir"), &dir, &path("dir"), Expect::Absent).await.unwrap();
    share.rename(&path("Read.Me"), &made, &path("readme"), Expect::Absent).await.unwrap();
    share.rename(&path("readme"), &made, &path("README"), Expect::Absent).await.unwrap();
    assert_eq!(names(&share, "").await, ["README", "dir"]);
    assert_eq!(get(&share, "readme").await, b"x");
    server.assert_clean().await;
}

/// Where the service takes a change of case for a name that is taken, a third name helps; and who
/// is killed between the two steps goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_case_in_two_steps() {
    use azure_files_emulator::{Fault, Operation, Rule};
    let taken =
        || Fault::Answer { status: 409, code: "ResourceAlreadyExists".into(), retry_after: None };
    for kind in ["file", "dir"] {
        let operation =
            if kind == "file" { Operation::RenameFile } else { Operation::RenameDirectory };
        let server = Server::start();
        let share = server.share();
        let made =
            if kind == "file" { put(&share, "a", b"x").await } else { mkdir(&share, "a").await };
        server.fault(Rule::new(taken()).on(operation).times(1));
        share.rename(&path("a"), &made.version, &path("A"), Expect::Absent).await.unwrap();
        assert_eq!(names(&share, "").await, ["A"]);
        // Cut off after the first step.
        let aside = format!(".~covefs-move-case-{:016x}", made.version.content.file_id);
        assert!(server.emulator.rename(SHARE, "A", &aside));
        share.rename(&path("A"), &made.version, &path("a"), Expect::Absent).await.unwrap();
        assert_eq!(names(&share, "").await, ["a"]);
        server.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_shorter_than_asked_for_are_followed() {
    let server = Server::with(Config { page_entries_max: 3, ..Config::default() });
    for number in 0..20 {
        server.emulator.write(SHARE, &format!("f{number:02}"), b"x");
    }
    let share = open(AzureConfig { page_entries: 5000, ..server.config() });
    assert_eq!(names(&share, "").await.len(), 20);
    assert!(server.emulator.count(azure_files_emulator::Operation::ListDirectory) >= 7);
}
