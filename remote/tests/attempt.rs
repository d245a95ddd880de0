//! Permits, deadlines, retries: all by tokio's clock, which stands still but when nobody runs.
#![allow(clippy::unwrap_used)]

#[path = "contract/suite.rs"]
mod suite;

use covefs_remote::attempt::{
    AttemptConfig, Attempts, Class, Counters, Guarded, Repeat, Request, in_background,
};
use covefs_remote::fault::{Fault, FaultRemote, Gate, Rule};
use covefs_remote::memory::MemoryRemote;
use covefs_remote::{Error, ErrorKind, Expect, RemotePath};
use futures_util::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use suite::{Share, Upload, kind, path, pattern, put, send};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> AttemptConfig {
    AttemptConfig { seed: Some(1), ..AttemptConfig::default() }
}

fn guarded(config: AttemptConfig) -> (Arc<FaultRemote>, Arc<Guarded>, Share) {
    let fault = Arc::new(FaultRemote::new(Arc::new(MemoryRemote::new())));
    let guarded = Arc::new(Guarded::new(fault.clone(), config));
    (fault, guarded.clone(), guarded)
}

fn request(path: &RemotePath, repeat: Repeat) -> Request<'_> {
    Request { op: "stat", path, deadline: 30 * SECOND, class: Class::Interactive, repeat }
}

/// How many tries a request takes that fails in this way for the first `failures` of them.
async fn tries(kind: ErrorKind, repeat: Repeat, failures: u32) -> (u32, bool) {
    let (attempts, at, made) = (Attempts::new(config()), path("f"), AtomicU32::new(0));
    let done = attempts
        .run(&request(&at, repeat), |number| {
            made.store(number, Ordering::Relaxed);
            let error = Error::new(kind, "stat", &path("f"));
            async move { if number <= failures { Err(error) } else { Ok(()) } }
        })
        .await;
    (made.into_inner(), done.is_ok())
}

#[tokio::test(start_paused = true)]
async fn transient_failures_of_reads_are_tried_again() {
    for kind in [ErrorKind::Unreachable, ErrorKind::Timeout, ErrorKind::Busy] {
        assert_eq!(tries(kind, Repeat::Safe, 2).await, (3, true));
        assert_eq!(tries(kind, Repeat::Safe, 99).await, (5, false));
    }
    for kind in [ErrorKind::NotFound, ErrorKind::Io, ErrorKind::IdentityChanged] {
        assert_eq!(tries(kind, Repeat::Safe, 2).await, (1, false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_with_unknown_outcome_is_not_made_again() {
    // rule S4
    assert_eq!(tries(ErrorKind::Busy, Repeat::AskFirst, 2).await, (3, true));
    assert_eq!(tries(ErrorKind::Timeout, Repeat::AskFirst, 1).await, (1, false));
    assert_eq!(tries(ErrorKind::Unreachable, Repeat::AskFirst, 1).await, (1, false));
    let (fault, guarded, share) = guarded(config());
    fault.inject(Rule::new("*", Fault::After(ErrorKind::Timeout)));
    let sent = send(&share, "f", Upload::of("x"), Expect::Absent).await;
    assert_eq!(kind(sent), ErrorKind::Timeout);
    assert_eq!(guarded.counters(), Counters { requests: 1, errors: 1, retries: 0 });
    assert_eq!(fault.requests("replace"), 1);
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_for_good_counts_as_an_error() {
    let (fault, guarded, share) = guarded(config());
    let made = |requests, errors, retries| Counters { requests, errors, retries };
    // What a share says of its entries are answers.
    assert_eq!(kind(share.stat(&path("f")).await), ErrorKind::NotFound);
    let version = put(&share, "f", b"x").await.version;
    let sent = send(&share, "f", Upload::of("y"), Expect::Absent).await;
    assert_eq!(kind(sent), ErrorKind::Exists);
    put(&share, "f", b"other").await;
    let sent = send(&share, "f", Upload::of("y"), Expect::Version(version)).await;
    assert_eq!(kind(sent), ErrorKind::VersionChanged);
    assert_eq!(guarded.counters(), made(5, 0, 0));
    // In the end it went well.
    fault.inject(Rule::new("stat", Fault::Before(ErrorKind::Unreachable)).times(2));
    assert!(share.stat(&path("f")).await.is_ok());
    assert_eq!(guarded.counters(), made(8, 0, 2));
    // It never did: one error, however many tries.
    fault.inject(Rule::new("stat", Fault::Before(ErrorKind::Unreachable)));
    assert_eq!(kind(share.stat(&path("f")).await), ErrorKind::Unreachable);
    assert_eq!(guarded.counters(), made(13, 1, 6));
    fault.inject(Rule::new("list", Fault::Before(ErrorKind::PermissionDenied)));
    assert_eq!(kind(share.list(&path(""), None).await), ErrorKind::PermissionDenied);
    assert_eq!(guarded.counters(), made(14, 2, 6));
}

#[tokio::test(start_paused = true)]
async fn waits_double_with_jitter_up_to_the_cap() {
    let config = AttemptConfig { tries_max: 12, ..config() };
    let (attempts, at) = (Attempts::new(config), path("f"));
    let slow = Request { deadline: 1000 * SECOND, ..request(&at, Repeat::Safe) };
    let (mut last, mut waits) = (None::<Instant>, Vec::new());
    let failed = attempts.run(&slow, |_| {
        waits.extend(last.map(|last| last.elapsed()));
        last = Some(Instant::now());
        async { Err::<(), _>(Error::new(ErrorKind::Busy, "stat", &RemotePath::root())) }
    });
    assert!(failed.await.is_err());
    let mut bound = Duration::from_millis(100);
    for wait in &waits {
        // tokio's timers count milliseconds.
        assert!(*wait <= bound + Duration::from_millis(2), "{waits:?}");
        bound = (bound * 2).min(10 * SECOND);
    }
    assert_eq!(waits.len(), 11);
    assert!(waits.iter().sum::<Duration>() > 2 * SECOND, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn the_share_says_when_to_come_back() {
    let (attempts, at) = (Attempts::new(config()), path("f"));
    let start = Instant::now();
    let busy = || Error::new(ErrorKind::Busy, "stat", &path("f")).with_retry_after(7 * SECOND);
    let done = attempts
        .run(&request(&at, Repeat::AskFirst), |number| {
            let error = busy();
            async move { if number == 1 { Err(error) } else { Ok(()) } }
        })
        .await;
    assert!(done.is_ok() && start.elapsed() >= 7 * SECOND);
    let start = Instant::now();
    let short = Request { deadline: 5 * SECOND, ..request(&at, Repeat::Safe) };
    let late = attempts.run(&short, |_| async { Err::<(), _>(busy()) }).await;
    assert_eq!((kind(late), start.elapsed()), (ErrorKind::Busy, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn nothing_takes_longer_than_its_deadline() {
    // rule K3
    let (fault, guarded, share) = guarded(config());
    fault.inject(Rule::new("*", Fault::Stall { bytes: 0, gate: Gate::new() }));
    let start = Instant::now();
    assert_eq!(kind(share.stat(&path("f")).await), ErrorKind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(kind(share.remove(&path("f"), Expect::Any).await), ErrorKind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_eq!(guarded.counters(), Counters { requests: 2, errors: 2, retries: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_a_deadline_for_each_chunk() {
    // rule K3
    let (fault, guarded, share) = guarded(config());
    let version = put(&share, "f", &pattern(3 << 20, 1)).await.version;
    fault.inject(Rule::new("read", Fault::Stall { bytes: 1 << 20, gate: Gate::new() }));
    let mut stream = share.read(&path("f"), 0..3 << 20, &version).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    let start = Instant::now();
    assert_eq!(kind(stream.next().await.unwrap()), ErrorKind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 30);
    assert!(stream.next().await.is_none());
    assert_eq!(guarded.counters(), Counters { requests: 2, errors: 1, retries: 0 });
}

#[tokio::test(start_paused = true)]
async fn an_upload_may_take_long_but_not_stand_still() {
    // rule K3
    struct Slow(Upload);
    #[async_trait::async_trait]
    impl covefs_remote::Source for Slow {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn data(&self) -> Vec<std::ops::Range<u64>> {
            self.0.data()
        }
        fn is_unchanged(&self, range: &std::ops::Range<u64>) -> bool {
            self.0.is_unchanged(range)
        }
        async fn read(&self, range: std::ops::Range<u64>) -> covefs_remote::Result<bytes::Bytes> {
            tokio::time::sleep(100 * SECOND).await;
            self.0.read(range).await
        }
        async fn next_round(&self) -> covefs_remote::Result<covefs_remote::Round> {
            self.0.next_round().await
        }
    }
    let (fault, _, share) = guarded(config());
    let source = Arc::new(Slow(Upload::of(pattern(5 << 20, 1))));
    let start = Instant::now();
    share.replace(&path("f"), source, Expect::Absent, suite::TEMP).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 500);
    let stall = Fault::Stall { bytes: 1 << 20, gate: Gate::new() };
    fault.inject(Rule::new("replace", stall));
    let start = Instant::now();
    let stuck = send(&share, "f", Upload::of(pattern(5 << 20, 1)), Expect::Any).await;
    assert_eq!((kind(stuck), start.elapsed().as_secs()), (ErrorKind::Timeout, 120));
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_sent_again_only_from_a_fresh_source() {
    let (fault, _, share) = guarded(config());
    fault.inject(Rule::new("replace", Fault::Before(ErrorKind::Busy)).times(2));
    put(&share, "f", b"x").await;
    assert_eq!(fault.requests("replace"), 3);
    fault.inject(Rule::new("replace", Fault::After(ErrorKind::Busy)).times(1));
    let sent = send(&share, "f", Upload::of("y"), Expect::Any).await;
    assert_eq!((kind(sent), fault.requests("replace")), (ErrorKind::Busy, 4));
}

#[tokio::test(start_paused = true)]
async fn users_go_before_the_background() {
    // rule E1
    let config = AttemptConfig { permits: 4, permits_reserved: 1, ..config() };
    let (fault, _, share) = guarded(config);
    let version = put(&share, "f", b"x").await.version;
    let gate = Gate::new();
    fault.inject(Rule::new("list", Fault::Stall { bytes: 0, gate: gate.clone() }));
    let readahead: Vec<_> = (0..10)
        .map(|_| {
            let share = share.clone();
            tokio::spawn(in_background(async move { share.list(&path(""), None).await.is_ok() }))
        })
        .collect();
    gate.arrived(3).await;
    for _ in 0..10 {
        assert!(share.stat(&path("f")).await.is_ok());
    }
    // A stream keeps its permit until it is dropped.
    let stream = share.read(&path("f"), 0..1, &version).await.unwrap();
    assert_eq!(kind(share.stat(&path("f")).await), ErrorKind::Timeout);
    drop(stream);
    assert!(share.stat(&path("f")).await.is_ok());
    assert_eq!(fault.requests("list"), 3);
    gate.open();
    for task in readahead {
        task.await.unwrap();
    }
}
