//! The one way a request is made: permit, deadline, retry with full-jitter backoff, span, count.
//!
//! A request that may have changed something and whose outcome is unknown is not made again here:
//! its caller resolves that by asking (`Repeat::AskFirst`).

mod guarded;

pub use guarded::Guarded;

use crate::prng::Prng;
use crate::{Error, ErrorKind, RemotePath, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::Instrument;

/// How requests are made.
#[derive(Clone, Debug)]
pub struct AttemptConfig {
    /// Requests at a time, reads until their stream ends.
    pub permits: usize,
    /// How many of these background requests never take; at least one is left to them.
    pub permits_reserved: usize,
    /// The longest a request may take, all its tries and waits together; of a read, until its
    /// first and between its chunks.
    pub timeout: Duration,
    /// The longest an upload may go on without asking for more bytes: a part on a slow line.
    pub stall: Duration,
    /// Tries of one request.
    pub tries_max: u32,
    /// The first wait before another try is up to this, each next up to twice as long.
    pub backoff_base: Duration,
    /// No wait is longer, but one that the share asks for.
    pub backoff_cap: Duration,
    /// Where jitter starts; `None`: anywhere.
    pub seed: Option<u64>,
}

impl Default for AttemptConfig {
    fn default() -> Self {
        AttemptConfig {
            permits: 112,
            permits_reserved: 16,
            timeout: Duration::from_secs(30),
            stall: Duration::from_secs(120),
            // Under a second in the mean: a share that refuses at once is soon known to be away.
            tries_max: 5,
            backoff_base: Duration::from_millis(100),
            backoff_cap: Duration::from_secs(10),
            seed: None,
        }
    }
}

/// Who waits for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A user.
    Interactive,
    /// Nobody: uploads, readahead, hydration.
    Background,
}

/// Whether a request may simply be made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    /// It only reads: after every transient failure.
    Safe,
    /// It changes something: only when the share said that it did not do it (`Busy`, `Locked`:
    /// another site locks a file for an instant). After a timeout or a lost connection its outcome is unknown, and the caller asks first.
    AskFirst,
}

impl Repeat {
    fn allows(self, kind: ErrorKind) -> bool {
        match self {
            Repeat::Safe => kind.is_transient(),
            Repeat::AskFirst => matches!(kind, ErrorKind::Busy | ErrorKind::Locked),
        }
    }
}

/// What is asked of `Attempts::run`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it does: "read".
    pub op: &'static str,
    /// What it is about.
    pub path: &'a RemotePath,
    /// The longest it may take.
    pub deadline: Duration,
    /// Who waits.
    pub class: Class,
    /// Whether it may be made again.
    pub repeat: Repeat,
}

/// How many requests were made, failed for good, and were made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Tries, each counted.
    pub requests: u64,
    /// Requests that failed for good: after their last try, or in the middle of their stream. What
    /// the share says of its entries (`NotFound`, `VersionChanged`, ...) is an answer, no failure.
    pub errors: u64,
    /// Tries after the first.
    pub retries: u64,
}

/// Makes requests of one share.
pub struct Attempts {
    config: AttemptConfig,
    all: Arc<Semaphore>,
    /// A background request holds one of these too: the rest of `all` is left to users.
    background: Arc<Semaphore>,
    jitter: Mutex<Prng>,
    requests: AtomicU64,
    errors: AtomicU64,
    retries: AtomicU64,
}

/// The right to one request; given back when dropped.
struct Permit {
    _all: OwnedSemaphorePermit,
    _background: Option<OwnedSemaphorePermit>,
}

/// When a request has taken too long.
enum Limit {
    At(Instant),
    /// So long after the last sign of progress.
    Stalled(Duration, Arc<Progress>),
}

/// When something last moved.
struct Progress(Mutex<Instant>);

impl Progress {
    fn new() -> Arc<Self> {
        Arc::new(Progress(Mutex::new(Instant::now())))
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limit {
    fn at(&self) -> Instant {
        match self {
            Limit::At(at) => *at,
            Limit::Stalled(limit, progress) => progress.last() + *limit,
        }
    }

    async fn pass(&self) {
        while Instant::now() < self.at() {
            tokio::time::sleep_until(self.at()).await;
        }
    }
}

impl Attempts {
    /// None made yet.
    pub fn new(config: AttemptConfig) -> Self {
        let permits = config.permits.max(1);
        let background = permits.saturating_sub(config.permits_reserved).max(1);
        let jitter = config.seed.map_or_else(Prng::unseeded, Prng::seeded);
        Attempts {
            config,
            all: Arc::new(Semaphore::new(permits)),
            background: Arc::new(Semaphore::new(background)),
            jitter: Mutex::new(jitter),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        }
    }

    /// What was made so far.
    pub fn counters(&self) -> Counters {
        Counters {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
        }
    }

    /// Makes a request: `call` gets the number of the try, from 1. The answer is the last try's,
    /// or `Timeout` when the deadline passes; the try under way is dropped then. Cancel-safe as
    /// far as `call` is.
    pub async fn run<T, Call, Answer>(&self, request: &Request<'_>, call: Call) -> Result<T>
    where
        Call: FnMut(u32) -> Answer,
        Answer: Future<Output = Result<T>>,
    {
        let limit = Limit::At(Instant::now() + request.deadline);
        let may_repeat = |kind| request.repeat.allows(kind);
        self.run_held(request, &limit, may_repeat, call).await.map(|(answer, _)| answer)
    }

    /// The same with any limit and any rule for another try; the permit goes with the answer.
    async fn run_held<T, Call, Answer>(
        &self,
        request: &Request<'_>,
        limit: &Limit,
        may_repeat: impl Fn(ErrorKind) -> bool,
        mut call: Call,
    ) -> Result<(T, Permit)>
    where
        Call: FnMut(u32) -> Answer,
        Answer: Future<Output = Result<T>>,
    {
        let Request { op, path, .. } = *request;
        let late = || Error::new(ErrorKind::Timeout, op, path);
        let mut tries = 0;
        loop {
            tries += 1;
            let Some(permit) = within(limit, self.permit(request.class)).await else {
                return Err(self.failed(late().caused_by("other requests took all permits")));
            };
            self.requests.fetch_add(1, Ordering::Relaxed);
            let span = tracing::debug_span!("attempt", op, path = %path, "try" = tries);
            let answer = within(limit, call(tries).instrument(span)).await;
            let error = match answer.unwrap_or_else(|| Err(late())) {
                Ok(answer) => return Ok((answer, permit)),
                Err(error) => error,
            };
            drop(permit);
            let wait = self.backoff(tries).max(error.retry_after.unwrap_or_default());
            let is_over = tries >= self.config.tries_max || Instant::now() + wait >= limit.at();
            if is_over || !may_repeat(error.kind) {
                return Err(self.failed(error));
            }
            tracing::debug!(op, %path, tries, ?wait, %error, "made again");
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
        }
    }

    /// Counts what a request ended with.
    fn failed(&self, error: Error) -> Error {
        if !is_answer(error.kind) {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        error
    }

    /// Background first takes its own kind of permit: at most so many of them ever queue for the
    /// others.
    async fn permit(&self, class: Class) -> Permit {
        const OPEN: &str = "the semaphores are never closed";
        let background = match class {
            Class::Interactive => None,
            Class::Background => Some(self.background.clone().acquire_owned().await.expect(OPEN)),
        };
        let all = self.all.clone().acquire_owned().await.expect(OPEN);
        Permit { _all: all, _background: background }
    }

    /// Anything up to the bound, which doubles: those that failed together do not come back so.
    fn backoff(&self, tries: u32) -> Duration {
        let bound = self
            .config
            .backoff_base
            .saturating_mul(1_u32.checked_shl(tries - 1).unwrap_or(u32::MAX))
            .min(self.config.backoff_cap);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mut jitter = self.jitter.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_nanos(jitter.below(nanos))
    }
}

/// Whether the share did what it was asked to do: it looked, and said what is there.
fn is_answer(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::NotFound
        | ErrorKind::Exists
        | ErrorKind::VersionChanged
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::NotEmpty => true,
        ErrorKind::PermissionDenied
        | ErrorKind::NoSpace
        | ErrorKind::NameInvalid
        | ErrorKind::NameTooLong
        | ErrorKind::Unsupported
        | ErrorKind::ReadOnly
        | ErrorKind::TooLarge
        | ErrorKind::Unauthenticated
        | ErrorKind::Unreachable
        | ErrorKind::Timeout
        | ErrorKind::Busy
        | ErrorKind::Locked
        | ErrorKind::IdentityChanged
        | ErrorKind::Protocol
        | ErrorKind::Io
        | ErrorKind::Source => false,
    }
}

/// What `future` gives, or `None` once the limit has passed.
async fn within<T>(limit: &Limit, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = limit.pass() => None,
    }
}

tokio::task_local! {
    static CLASS: Class;
}

/// Makes every request in `future` of `Guarded` a background one: readahead, hydration.
pub async fn in_background<T>(future: impl Future<Output = T>) -> T {
    CLASS.scope(Class::Background, future).await
}

/// Makes every request in `future` of `Guarded` one that a user waits for, changes too.
pub async fn in_foreground<T>(future: impl Future<Output = T>) -> T {
    CLASS.scope(Class::Interactive, future).await
}
