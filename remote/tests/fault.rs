//! Faults come when, where and as often as planned.
#![allow(clippy::unwrap_used)]

#[path = "contract/suite.rs"]
mod suite;

use covefs_remote::fault::{Fault, FaultRemote, Gate, Odds, Rule};
use covefs_remote::memory::{Entry, MemoryRemote};
use covefs_remote::{ErrorKind, Expect, Limits, Remote};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use suite::{Share, Upload, get, kind, path, pattern, put, read_range, send};

fn faulty() -> (Arc<MemoryRemote>, Arc<FaultRemote>, Share) {
    let memory = Arc::new(MemoryRemote::new());
    let fault = Arc::new(FaultRemote::new(memory.clone()));
    (memory, fault.clone(), fault)
}

#[tokio::test]
async fn rules_go_by_operation_path_and_count() {
    let (_, fault, share) = faulty();
    put(&share, "f", b"x").await;
    put(&share, "g", b"x").await;
    let rule = Rule::new("stat", Fault::Before(ErrorKind::Busy)).at(&path("f"));
    fault.inject(rule.skip(1).times(2));
    assert!(share.stat(&path("f")).await.is_ok());
    assert!(share.stat(&path("g")).await.is_ok());
    assert_eq!(kind(share.stat(&path("f")).await), ErrorKind::Busy);
    assert!(share.list(&path(""), None).await.is_ok());
    assert_eq!(kind(share.stat(&path("f")).await), ErrorKind::Busy);
    assert!(share.stat(&path("f")).await.is_ok());
    assert_eq!((fault.requests("stat"), fault.requests("list")), (5, 1));
    fault.inject(Rule::new("*", Fault::Before(ErrorKind::Io)));
    assert_eq!(kind(share.usage().await), ErrorKind::Io);
    assert_eq!(kind(share.identity().await), ErrorKind::Io);
    fault.heal();
    assert!(share.usage().await.is_ok());
    fault.reset_counts();
    assert_eq!(fault.requests_all(), 0);
}

#[tokio::test]
async fn an_answer_is_lost_after_the_change_was_made() {
    let (memory, fault, share) = faulty();
    fault.inject(Rule::new("*", Fault::After(ErrorKind::Timeout)).times(3));
    let sent = send(&share, "f", Upload::of("x"), Expect::Absent).await;
    assert_eq!(kind(sent), ErrorKind::Timeout);
    assert_eq!(memory.tree()[&path("f")], Entry::File("x".into()));
    let made = share.create_dir(&path("d"), &Default::default()).await;
    assert_eq!(kind(made), ErrorKind::Timeout);
    let removed = share.remove(&path("f"), Expect::Any).await;
    assert_eq!(kind(removed), ErrorKind::Timeout);
    assert_eq!(memory.tree().into_keys().collect::<Vec<_>>(), [path("d")]);
}

#[tokio::test]
async fn a_body_breaks_off_where_planned() {
    let (memory, fault, share) = faulty();
    let bytes = pattern(3 << 20, 1);
    let version = put(&share, "f", &bytes).await.version;
    let short = Fault::Short { bytes: (1 << 20) + 7, kind: ErrorKind::Unreachable };
    fault.inject(Rule::new("read", short.clone()).times(1));
    fault.reset_counts();
    let mut stream = share.read(&path("f"), 0..3 << 20, &version).await.unwrap();
    let mut got = Vec::new();
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(chunk) => got.extend_from_slice(&chunk),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(stream.next().await.is_none());
    assert!(got == bytes[..(1 << 20) + 7]);
    assert_eq!(fault.bytes_read(), (1 << 20) + 7);
    assert!(get(&share, "f").await == bytes);
    fault.inject(Rule::new("replace", short).times(1));
    let sent = send(&share, "f", Upload::of(pattern(3 << 20, 2)), Expect::Version(version)).await;
    assert_eq!(kind(sent), ErrorKind::Unreachable);
    assert!(memory.read_file(&path("f")).unwrap() == bytes);
}

#[tokio::test]
async fn a_body_stalls_until_the_gate_opens() {
    let (_, fault, share) = faulty();
    let version = put(&share, "f", b"hello world").await.version;
    let gate = Gate::new();
    fault.inject(Rule::new("read", Fault::Stall { bytes: 5, gate: gate.clone() }));
    let mut stream = share.read(&path("f"), 0..11, &version).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), "hello");
    let rest = tokio::spawn(async move { stream.next().await.unwrap().unwrap() });
    gate.arrived(1).await;
    assert!(!rest.is_finished());
    gate.open();
    assert_eq!(rest.await.unwrap(), " world");
    let gate = Gate::new();
    fault.inject(Rule::new("stat", Fault::Stall { bytes: 0, gate: gate.clone() }));
    let stat = tokio::spawn(async move { share.stat(&path("f")).await });
    gate.arrived(1).await;
    gate.open();
    assert!(stat.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_delay_goes_by_tokios_clock() {
    let (_, fault, share) = faulty();
    fault.inject(Rule::new("usage", Fault::Delay(Duration::from_secs(100))));
    let start = tokio::time::Instant::now();
    share.usage().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 100);
}

#[tokio::test]
async fn offline_everything_is_unreachable() {
    let (memory, fault, share) = faulty();
    let version = put(&share, "f", &pattern(3 << 20, 1)).await.version;
    let mut stream = share.read(&path("f"), 0..3 << 20, &version).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    fault.offline(true);
    assert_eq!(kind(stream.next().await.unwrap()), ErrorKind::Unreachable);
    assert_eq!(kind(share.stat(&path("f")).await), ErrorKind::Unreachable);
    let sent = send(&share, "g", Upload::of("x"), Expect::Any).await;
    assert_eq!(kind(sent), ErrorKind::Unreachable);
    assert_eq!(memory.tree().len(), 1);
    fault.offline(false);
    assert!(share.stat(&path("f")).await.is_ok());
}

#[tokio::test]
async fn chance_repeats_with_its_seed() {
    let run = |seed| async move {
        let (_, fault, share) = faulty();
        put(&share, "f", &[0; 1000]).await;
        fault.randomly(seed, Odds { before: 100, after: 100, short: 100, ..Odds::default() });
        let mut kinds = Vec::new();
        for _ in 0..300 {
            kinds.push(share.stat(&path("f")).await.err().map(|error| error.kind));
        }
        kinds
    };
    let one = run(1).await;
    assert_eq!(one, run(1).await);
    assert_ne!(one, run(2).await);
    let failed = one.iter().flatten().count();
    assert!((40..150).contains(&failed), "{failed} of 300");
}

#[tokio::test]
async fn memory_plays_other_kinds_of_share() {
    let limits = Limits {
        case_sensitive: false,
        names: covefs_remote::NameRule::Windows,
        has_symlinks: false,
        has_modes: false,
        ..MemoryRemote::new().limits().clone()
    };
    let memory = Arc::new(MemoryRemote::with_limits(limits));
    let share: Share = memory.clone();
    let made = put(&share, "Readme", b"x").await;
    assert_eq!(
        (made.mode, share.stat(&path("README")).await.unwrap().version),
        (None, made.version)
    );
    let again = send(&share, "readme", Upload::of("y"), Expect::Absent).await;
    assert_eq!(kind(again), ErrorKind::Exists);
    let to = path("README");
    share.rename(&path("Readme"), &made.version, &to, Expect::Absent).await.unwrap();
    assert_eq!(suite::names(&share, "").await, ["README"]);
    for odd in ["a:b", "a ", "a.", "a\u{1}"] {
        let sent = send(&share, odd, Upload::of("y"), Expect::Absent).await;
        assert_eq!(kind(sent), ErrorKind::NameInvalid, "{odd}");
    }
    let link = share.symlink(&path("l"), b"x", &Default::default()).await;
    assert_eq!(kind(link), ErrorKind::Unsupported);
    let before = share.identity().await.unwrap();
    memory.set_identity("another");
    assert_ne!(share.identity().await.unwrap(), before);
}

#[tokio::test]
async fn memory_is_edited_from_outside() {
    let memory = Arc::new(MemoryRemote::new());
    let share: Share = memory.clone();
    memory.write_file(&path("a/b/f"), "one");
    let old = suite::version(&share, "a/b/f").await;
    memory.write_file(&path("a/b/f"), "two");
    let new = suite::version(&share, "a/b/f").await;
    assert!(new.same_object(&old) && !new.same_content(&old));
    let read = read_range(&share, "a/b/f", 0..3, &old).await;
    assert_eq!(kind(read), ErrorKind::VersionChanged);
    assert!(memory.move_path(&path("a/b"), &path("b")));
    assert_eq!(memory.read_file(&path("b/f")).unwrap(), "two");
    assert!(memory.remove_path(&path("b")) && !memory.remove_path(&path("b")));
    assert_eq!(memory.tree().into_iter().collect::<Vec<_>>(), [(path("a"), Entry::Dir)]);
    memory.clear();
    assert!(memory.tree().is_empty());
}
