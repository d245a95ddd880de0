//! What a share tells of changes that others make (X7), and what it does when it cannot keep up.
#![allow(clippy::unwrap_used)]

#[path = "contract/suite.rs"]
mod suite;

use covefs_remote::attempt::{AttemptConfig, Guarded};
use covefs_remote::azure::{Account, AzureConfig, AzureRemote};
use covefs_remote::fault::{Fault, FaultRemote, Rule};
use covefs_remote::memory::MemoryRemote;
use covefs_remote::{Change, ChangeStream, ErrorKind, Remote};
use futures_util::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use suite::path;
use suite::watching::at;
#[cfg(unix)]
use suite::watching::told;

async fn stream(share: &dyn Remote) -> ChangeStream {
    share.watch().await.unwrap().expect("it tells")
}

/// All that waits to be told.
fn waiting(changes: &mut ChangeStream) -> Vec<Change> {
    let next = |changes: &mut ChangeStream| changes.next().now_or_never().flatten();
    std::iter::from_fn(|| next(changes)).collect()
}

#[tokio::test]
async fn a_share_in_memory_tells_what_others_do() {
    let memory = MemoryRemote::new();
    let mut changes = stream(&memory).await;
    memory.write_file(&path("d/f"), "one");
    assert_eq!(waiting(&mut changes), [at("d"), at("d/f")]);
    memory.write_file(&path("d/f"), "two");
    assert_eq!(waiting(&mut changes), [at("d/f")]);
    memory.write_dir(&path("e"));
    memory.move_path(&path("d/f"), &path("e/f"));
    assert_eq!(waiting(&mut changes), [at("e"), at("d/f"), at("e/f")]);
    memory.remove_path(&path("e"));
    assert_eq!(waiting(&mut changes), [at("e")]);
    memory.clear();
    assert_eq!(waiting(&mut changes), [Change::Lost]);
    drop(memory);
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn who_is_too_slow_hears_that_something_was_lost() {
    let memory = MemoryRemote::new();
    let mut changes = stream(&memory).await;
    for number in 0..10_000 {
        memory.write_file(&path("f"), number.to_string());
    }
    assert_eq!(changes.next().await, Some(Change::Lost));
    assert_eq!(changes.next().await, Some(at("f")));
}

#[tokio::test(start_paused = true)]
async fn changes_are_late_forgotten_or_the_last_as_planned() {
    let memory = Arc::new(MemoryRemote::new());
    let fault = FaultRemote::new(memory.clone());
    let mut changes = stream(&fault).await;
    fault.inject(Rule::new("told", Fault::Before(ErrorKind::Timeout)).at(&path("never")));
    fault.inject(Rule::new("told", Fault::Late(Duration::from_secs(7))).at(&path("late")));
    memory.write_file(&path("never"), "x");
    memory.write_file(&path("late"), "x");
    let began = tokio::time::Instant::now();
    assert_eq!(changes.next().await, Some(at("late")));
    assert_eq!(began.elapsed(), Duration::from_secs(7));
    fault.offline(true);
    assert_eq!(fault.watch().await.err().unwrap().kind, ErrorKind::Unreachable);
    memory.write_file(&path("last"), "x");
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn whoever_stands_before_a_share_passes_on_what_it_tells() {
    let memory = Arc::new(MemoryRemote::new());
    let fault = Arc::new(FaultRemote::new(memory.clone()));
    let guarded = Guarded::new(fault.clone(), AttemptConfig::default());
    let mut changes = stream(&guarded).await;
    memory.write_file(&path("f"), "x");
    assert_eq!(changes.next().await, Some(at("f")));
    assert_eq!(fault.requests("watch"), 1);
}

#[tokio::test]
async fn an_azure_file_share_cannot_tell() {
    let server = azure_files_emulator::Emulator::start(Default::default()).unwrap();
    server.create_share("docs");
    let account = Account::from_connection_string(&server.connection_string()).unwrap();
    let share = AzureRemote::new(AzureConfig::new(account, "docs")).unwrap();
    assert!(share.watch().await.unwrap().is_none());
}

#[cfg(target_os = "linux")]
mod directory {
    use super::*;
    use covefs_remote::local::LocalRemote;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use suite::entries;

    fn open(root: &Path) -> suite::Share {
        Arc::new(LocalRemote::open(root.to_owned()).unwrap())
    }

    /// What is told until this is.
    async fn until(changes: &mut ChangeStream, last: Change) -> Vec<Change> {
        let mut heard = Vec::new();
        let hear = async {
            while heard.last() != Some(&last) {
                heard.push(changes.next().await.expect("it goes on"));
            }
        };
        let soon = tokio::time::timeout(Duration::from_secs(20), hear).await;
        assert!(soon.is_ok(), "not told: {last:?}, but {heard:?}");
        heard
    }

    #[tokio::test]
    async fn tells_what_others_do_in_directories_that_were_listed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let share = open(root);
        fs::create_dir_all(root.join("d/unlisted")).unwrap();
        fs::write(root.join("d/old"), "x").unwrap();
        let mut changes = stream(&*share).await;
        entries(&share, "").await;
        entries(&share, "d").await;
        fs::write(root.join("d/unlisted/f"), "x").unwrap();
        fs::write(root.join("d/new"), "x").unwrap();
        assert!(!until(&mut changes, at("d/new")).await.contains(&at("d/unlisted/f")));
        fs::write(root.join("d/old"), "longer").unwrap();
        told(&mut changes, at("d/old")).await;
        fs::set_permissions(root.join("d/old"), fs::Permissions::from_mode(0o600)).unwrap();
        told(&mut changes, at("d/old")).await;
        fs::rename(root.join("d/old"), root.join("moved")).unwrap();
        let heard = until(&mut changes, at("moved")).await;
        assert!(heard.contains(&at("d/old")), "{heard:?}");
        fs::remove_file(root.join("moved")).unwrap();
        told(&mut changes, at("moved")).await;
        fs::remove_dir_all(root.join("d")).unwrap();
        told(&mut changes, at("d")).await;
    }

    /// rule X7: armed before the names are read. Each new file is in the listing or told.
    #[tokio::test]
    async fn nothing_falls_between_watch_and_listing() {
        let dir = tempfile::tempdir().unwrap();
        let share = open(dir.path());
        for round in 0..300 {
            let name = format!("d{round}");
            let at_disk = dir.path().join(&name);
            fs::create_dir(&at_disk).unwrap();
            for number in 0..20 {
                fs::write(at_disk.join(format!("n{number}")), "").unwrap();
            }
            let mut changes = stream(&*share).await;
            let maker = std::thread::spawn(move || {
                for number in 0..20 {
                    fs::write(at_disk.join(format!("new{number}")), "").unwrap();
                }
            });
            let listed = entries(&share, &name).await;
            maker.join().unwrap();
            fs::write(dir.path().join(&name).join("mark"), "").unwrap();
            let told = until(&mut changes, at(&format!("{name}/mark"))).await;
            for number in 0..20 {
                let new = format!("new{number}");
                let seen = listed.contains_key(new.as_bytes());
                assert!(seen || told.contains(&at(&format!("{name}/{new}"))), "{name}/{new}");
            }
        }
    }

    /// A watch stays on a directory that moves: its path would be a lie.
    #[tokio::test]
    async fn a_directory_that_moves_is_told_and_counts_from_its_next_listing_on() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let share = open(root);
        fs::create_dir_all(root.join("d/sub")).unwrap();
        let mut changes = stream(&*share).await;
        for listed in ["", "d", "d/sub"] {
            entries(&share, listed).await;
        }
        fs::rename(root.join("d"), root.join("e")).unwrap();
        let mut wanted = vec![at("d"), at("e"), Change::In(path("d")), Change::In(path("d/sub"))];
        while !wanted.is_empty() {
            let change = tokio::time::timeout(Duration::from_secs(20), changes.next()).await;
            let change = change.unwrap_or_else(|_| panic!("not told: {wanted:?}")).unwrap();
            wanted.retain(|other| *other != change);
        }
        fs::write(root.join("e/sub/f"), "x").unwrap();
        fs::write(root.join("mark"), "x").unwrap();
        let heard = until(&mut changes, at("mark")).await;
        assert!(!heard.iter().any(|change| *change == at("d/sub/f")), "{heard:?}");
        entries(&share, "e/sub").await;
        fs::write(root.join("e/sub/f"), "y").unwrap();
        told(&mut changes, at("e/sub/f")).await;
    }

    #[tokio::test]
    async fn what_the_system_could_not_keep_is_lost_and_it_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let share = open(dir.path());
        let mut changes = stream(&*share).await;
        entries(&share, "").await;
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let most: usize = most.trim().parse().unwrap();
        // Of the same event twice in a row one is kept.
        let files = ["one", "other"].map(|name| fs::File::create(dir.path().join(name)).unwrap());
        for number in 0..most + 10 {
            std::io::Write::write_all(&mut &files[number % 2], b"x").unwrap();
        }
        until(&mut changes, Change::Lost).await;
        fs::write(dir.path().join("later"), "x").unwrap();
        told(&mut changes, at("later")).await;
    }

    #[tokio::test]
    async fn of_too_many_directories_those_listed_last_are_watched() {
        const MANY: usize = 4096;
        let dir = tempfile::tempdir().unwrap();
        let share = open(dir.path());
        let mut changes = stream(&*share).await;
        for number in 0..=MANY {
            let name = format!("d{number}");
            fs::create_dir(dir.path().join(&name)).unwrap();
            entries(&share, &name).await;
        }
        fs::write(dir.path().join("d0/f"), "x").unwrap();
        fs::write(dir.path().join("d1/f"), "x").unwrap();
        let heard = until(&mut changes, at("d1/f")).await;
        assert!(!heard.contains(&at("d0/f")), "the first is still watched");
        // Of the most that anything here watches, as the system counts.
        let of = |file: fs::DirEntry| fs::read_to_string(file.path()).unwrap_or_default();
        let all = fs::read_dir("/proc/self/fdinfo").unwrap().map(|file| of(file.unwrap()));
        let watched = all.map(|text| text.matches("inotify wd:").count()).max();
        assert_eq!(watched, Some(MANY));
    }

    #[tokio::test]
    async fn a_disk_that_is_gone_tells_no_more_lies() {
        let dir = tempfile::tempdir().unwrap();
        let (root, away) = (dir.path().join("disk"), dir.path().join("away"));
        fs::create_dir_all(root.join("d")).unwrap();
        let share = open(&root);
        let mut changes = stream(&*share).await;
        entries(&share, "").await;
        entries(&share, "d").await;
        fs::rename(&root, &away).unwrap();
        until(&mut changes, Change::In(path("d"))).await;
        fs::write(away.join("d/f"), "x").unwrap();
        fs::rename(&away, &root).unwrap();
        entries(&share, "d").await;
        fs::write(root.join("d/g"), "x").unwrap();
        assert!(!until(&mut changes, at("d/g")).await.contains(&at("d/f")));
    }
}
