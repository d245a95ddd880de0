//! Exclusion: races of sites and outsiders, and leases that outlive whoever took them (X3).

use crate::harness::{LONG, SHARE, Server, failed, replace, temp};
use crate::suite::{Share, path, pattern, put, version};
use azure_files_emulator::{LeaseState, Operation, Rule, Sharing};
use covefs_remote::{Attrs, ErrorKind, Expect};
use std::sync::mpsc;
use tokio::sync::oneshot;

/// A rename that has come to the server and stands still there.
struct HeldRename {
    has_come: oneshot::Receiver<()>,
    /// Dropped, it goes on.
    gate: mpsc::Sender<()>,
}

impl HeldRename {
    /// The next one that makes a new `f`.
    fn of_f(server: &Server) -> HeldRename {
        let (come, has_come) = oneshot::channel();
        let (gate, opened) = mpsc::channel();
        server.emulator.before(Operation::RenameFile, "docs/f", move |_| {
            let _ = come.send(());
            // What others ask meanwhile is answered.
            let _ = tokio::task::block_in_place(|| opened.recv());
        });
        HeldRename { has_come, gate }
    }

    /// Waits until it has come.
    async fn come(self) -> mpsc::Sender<()> {
        tokio::time::timeout(LONG, self.has_come).await.expect("it comes in time").unwrap();
        self.gate
    }
}

/// An outsider's edit after the first look and before the lease: it is seen, and stays.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_between_look_and_lease_is_not_lost() {
    for what in ["replace", "remove", "rename over"] {
        let server = Server::start();
        let share = server.share();
        let base = put(&share, "f", b"seen").await.version;
        let other = put(&share, "other", b"o").await.version;
        // A rename's own lease is taken first.
        let leased = if what == "rename over" { "docs/f" } else { "" };
        server.emulator.before(Operation::LeaseFile, leased, |owner| {
            owner.write(SHARE, "f", b"theirs");
        });
        let (f, expect) = (path("f"), Expect::Version(base));
        let change = match what {
            "replace" => replace(&share, "f", b"ours", expect, &temp(1, 1)).await.map(drop),
            "remove" => share.remove(&f, expect).await,
            _ => share.rename(&path("other"), &other, &f, expect).await.map(drop),
        };
        let error = failed(change);
        assert_eq!(error.kind, ErrorKind::VersionChanged, "{what}: {error}");
        assert_eq!(server.read("f").unwrap(), b"theirs", "{what}");
        assert_eq!(server.read("other").unwrap(), b"o", "{what}");
        server.assert_clean().await;
    }
}

/// Sites that do not know of each other want the same version: one wins each time.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_sites_exactly_one_replaces() {
    let server = Server::start();
    let sites: Vec<Share> = (0..3).map(|_| server.share()).collect();
    for round in 0..8 {
        let base = put(&sites[0], "f", &[round]).await.version;
        let tasks: Vec<_> = (1..)
            .zip(&sites)
            .map(|(site, share)| {
                let share = share.clone();
                tokio::spawn(async move {
                    let bytes = [round, site as u8];
                    let temp = temp(site, u64::from(round));
                    replace(&share, "f", &bytes, Expect::Version(base), &temp).await
                })
            })
            .collect();
        let mut winners = Vec::new();
        for (site, task) in (1..).zip(tasks) {
            match task.await.unwrap() {
                Ok(_) => winners.push(site),
                Err(error) => assert!(
                    matches!(error.kind, ErrorKind::VersionChanged | ErrorKind::Locked),
                    "{error}"
                ),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert_eq!(server.read("f").unwrap(), [round, winners[0]]);
        server.assert_clean().await;
    }
}

/// While one site compares and renames, no other client can write, however often it tries.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_between_compare_and_rename() {
    let server = Server::start();
    let ours = server.share();
    let base = put(&ours, "f", b"seen").await.version;
    let rename = HeldRename::of_f(&server);
    let change = {
        let share = ours.clone();
        tokio::spawn(async move {
            replace(&share, "f", b"ours", Expect::Version(base), &temp(1, 1)).await
        })
    };
    let gate = rename.come().await;
    let theirs = [server.share(), server.share(), server.share()];
    let closed = Attrs { mode: Some(0), ..Attrs::default() };
    let (at, to) = (path("f"), path("g"));
    let (removed, set, moved) = tokio::join!(
        theirs[0].remove(&at, Expect::Any),
        theirs[1].set_attrs(&at, &base, &closed),
        theirs[2].rename(&at, &base, &to, Expect::Absent),
    );
    for outcome in [removed.err(), set.err(), moved.err()] {
        let error = outcome.unwrap();
        assert_eq!(error.kind, ErrorKind::Locked, "{error}");
        assert!(error.to_string().contains("another client holds a lease"), "{error}");
    }
    drop(gate);
    let now = change.await.unwrap().unwrap().version;
    assert_eq!(version(&theirs[0], "f").await, now);
    assert_eq!(server.read("f").unwrap(), b"ours");
}

/// The name of a site's cache.
fn id(site: u64) -> String {
    format!("{site:016x}")
}

/// Leaves the lease of `f` with a site that was killed while it replaced it.
fn kill_in_the_middle(server: &Server, site: u64) {
    // Its only try: it sleeps until it is killed.
    let rule = server.fault(Rule::busy(Some(60)).on(Operation::RenameFile));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let share = server.share();
    share.introduce(&id(site));
    runtime.spawn(async move {
        let base = version(&share, "f").await;
        let _ = replace(&share, "f", b"lost", Expect::Version(base), &temp(site, 1)).await;
    });
    runtime.block_on(server.befallen(rule));
    // As a kill does: nothing that runs comes to its end.
    runtime.shutdown_background();
    server.emulator.faults().remove(rule);
    let entry = server.emulator.stat(SHARE, "f").unwrap();
    assert!(matches!(entry.lease, LeaseState::Leased(_)), "{entry:?}");
}

#[test]
fn a_killed_site_goes_on_with_its_own_lease() {
    // rule X3; DESIGN.md section 9, 7
    for next in ["replace", "remove", "rename", "set", "look"] {
        let server = Server::start();
        server.emulator.write(SHARE, "f", b"old");
        kill_in_the_middle(&server, 1);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let other = server.share();
            let base = version(&other, "f").await;
            let theirs = replace(&other, "f", b"x", Expect::Version(base), &temp(2, 1)).await;
            assert_eq!(failed(theirs).kind, ErrorKind::Locked);
            let again = server.share();
            again.introduce(&id(1));
            match next {
                "replace" => {
                    let expect = Expect::Version(base);
                    replace(&again, "f", b"new", expect, &temp(1, 2)).await.unwrap();
                }
                "remove" => again.remove(&path("f"), Expect::Version(base)).await.unwrap(),
                "rename" => {
                    again.rename(&path("f"), &base, &path("g"), Expect::Absent).await.unwrap();
                }
                "set" => {
                    let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
                    again.set_attrs(&path("f"), &base, &attrs).await.unwrap();
                }
                _ => {
                    again.stat(&path("f")).await.unwrap();
                }
            }
            // What a start does with the temporary names in the journal.
            let left = format!(".~covefs-{}-1", id(1));
            let _ = again.remove(&path(&left), Expect::Any).await;
            server.assert_clean().await;
        });
    }
}

/// What another site left is cleared away without taking its leases for ours.
#[test]
fn a_stranger_s_leftover_makes_nobody_its_owner() {
    let server = Server::start();
    server.emulator.write(SHARE, "f", b"old");
    kill_in_the_middle(&server, 1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let share = server.share();
        let left = format!(".~covefs-{:016x}-1", 1);
        let abandoned = version(&share, &left).await;
        share.remove(&path(&left), Expect::Version(abandoned)).await.unwrap();
        let held = share.remove(&path("f"), Expect::Any).await;
        assert_eq!(failed(held).kind, ErrorKind::Locked);
        assert_eq!(server.read("f").unwrap(), b"old");
    });
}

/// A caller that gives up leaves nothing locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_dropped_lets_go() {
    let server = Server::start();
    let share = server.share();
    let base = put(&share, "f", b"old").await.version;
    // Its only try: it sleeps until it is dropped.
    let storm = server.fault(Rule::busy(Some(60)).on(Operation::RenameFile));
    let change = {
        let share = share.clone();
        tokio::spawn(async move {
            replace(&share, "f", b"new", Expect::Version(base), &temp(1, 1)).await
        })
    };
    server.befallen(storm).await;
    change.abort();
    assert!(change.await.unwrap_err().is_cancelled());
    server.emulator.faults().clear();
    server.assert_clean().await;
    assert_eq!(server.read("f").unwrap(), b"old");
}

/// What a person broke, or another client holds, is neither guessed nor taken.
#[tokio::test(flavor = "multi_thread")]
async fn leases_of_others_are_respected_and_broken_ones_taken() {
    let server = Server::start();
    let share = server.share();
    let base = put(&share, "f", b"old").await.version;
    server.emulator.lease(SHARE, "f").unwrap();
    let sent = server.emulator.count(Operation::PutRange);
    let held = replace(&share, "f", b"new", Expect::Version(base), &temp(1, 1)).await;
    assert_eq!(failed(held).kind, ErrorKind::Locked);
    assert_eq!(server.emulator.count(Operation::PutRange), sent, "no bytes for a locked file");
    assert_eq!(failed(share.remove(&path("f"), Expect::Any).await).kind, ErrorKind::Locked);
    // It can be read all the time.
    assert_eq!(crate::suite::get(&share, "f").await, b"old");
    assert!(server.emulator.break_lease(SHARE, "f"));
    replace(&share, "f", b"new", Expect::Version(base), &temp(1, 2)).await.unwrap();
    server.assert_clean().await;
}

/// `unlock` takes away what another client holds, says whether there was anything, and leaves a
/// change of ours that is under way alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_another_client_is_broken_on_request() {
    // rule X3
    let server = Server::start();
    let share = server.share();
    let base = put(&share, "f", b"old").await.version;
    assert!(!share.unlock(&path("f")).await.unwrap());
    server.emulator.lease(SHARE, "f").unwrap();
    assert!(share.unlock(&path("f")).await.unwrap());
    assert!(!share.unlock(&path("f")).await.unwrap(), "a broken one holds nobody");
    replace(&share, "f", b"new", Expect::Version(base), &temp(1, 1)).await.unwrap();
    assert_eq!(failed(share.unlock(&path("gone")).await).kind, ErrorKind::NotFound);
    share.create_dir(&path("d"), &Attrs::default()).await.unwrap();
    assert_eq!(failed(share.unlock(&path("d")).await).kind, ErrorKind::IsADirectory);
    let rename = HeldRename::of_f(&server);
    let base = version(&share, "f").await;
    let ours = share.clone();
    let change = tokio::spawn(async move {
        replace(&ours, "f", b"newer", Expect::Version(base), &temp(1, 2)).await
    });
    let gate = rename.come().await;
    // Ours goes on once `unlock` has found a lease.
    server.emulator.after(Operation::HeadFile, "docs/f", move |_| drop(gate));
    assert!(!share.unlock(&path("f")).await.unwrap(), "what we hold is not another's");
    change.await.unwrap().unwrap();
    assert_eq!(server.read("f").unwrap(), b"newer");
    server.assert_clean().await;
}

/// A file that a program on Windows has open is left alone, and replaced when it is closed.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_file_is_busy_until_it_is_closed() {
    let server = Server::start();
    let share = server.share();
    let base = put(&share, "f", &pattern(100, 1)).await.version;
    let handle = server.emulator.open_handle(SHARE, "f", Sharing::default());
    let held = replace(&share, "f", b"new", Expect::Version(base), &temp(1, 1)).await;
    assert_eq!(failed(held).kind, ErrorKind::Busy);
    assert_eq!(failed(share.remove(&path("f"), Expect::Any).await).kind, ErrorKind::Busy);
    assert!(server.read("f").unwrap() == pattern(100, 1));
    assert!(server.emulator.close_handle(SHARE, handle));
    replace(&share, "f", b"new", Expect::Version(base), &temp(1, 2)).await.unwrap();
    server.assert_clean().await;
}
