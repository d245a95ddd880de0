//! The one place where a request is run, answered, logged and counted.
//!
//! ```text
//!   kernel's thread   attempt --> Done, Err --> reply
//!                        +--> Wait(need) --> task: wait --> blocking pool: attempt --> ...
//! ```
//!
//! Invariants: every request is answered exactly once, whatever happens: a panic is answered with
//! EIO and the drive lives on, and so is a wait that outlasts `WAIT_MAX`. A kernel's thread never
//! waits (K1). A runtime that ends drops what waits, and fuser answers a dropped reply with EIO.
//! The number of requests that wait is bounded by what the kernel keeps in flight.

mod call;
mod count;
mod drive;

use crate::errno::errno;
use crate::limits::WAIT_MAX;
pub(crate) use call::Call;
pub use count::Counts;
use count::{Answering, Counters};
use covefs_cache::{Asked, Error, Fh, Need, Result, Step};
use drive::Drive;
use fuser::Errno;
use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout_at;
use tracing::Instrument;

/// A reply that can say no.
pub(crate) trait Refuse: Send + 'static {
    /// Answers with an error.
    fn refuse(self, errno: Errno);
}

/// A reply that carries bytes.
pub(crate) trait Carry: Refuse {
    /// Answers with these bytes.
    fn carry(self, bytes: &[u8]);
}

/// Why a request is answered with an error.
enum Failure {
    Error(Error),
    Panic(String),
    /// It waited longer than `WAIT_MAX`, or for what it already had.
    Overdue(Need),
}

/// A request: what it is called, what it does, and how its answer is sent.
pub(crate) struct Ask<R, O, F> {
    pub(crate) call: Call,
    pub(crate) reply: R,
    pub(crate) op: O,
    pub(crate) finish: F,
}

/// Runs requests and answers them.
pub(crate) struct Answerer<D> {
    shared: Arc<Shared<D>>,
}

struct Shared<D> {
    drive: Arc<D>,
    runtime: Handle,
    counters: Counters,
}

impl<D> Clone for Answerer<D> {
    fn clone(&self) -> Self {
        Answerer { shared: self.shared.clone() }
    }
}

impl<D: Drive> Answerer<D> {
    pub(crate) fn new(drive: Arc<D>, runtime: Handle) -> Self {
        Answerer { shared: Arc::new(Shared { drive, runtime, counters: Counters::default() }) }
    }

    /// What was answered so far.
    pub(crate) fn counts(&self) -> Counts {
        self.shared.counters.counts()
    }

    /// Waits until no request is being answered away from the kernel's threads, at most so long.
    /// Says whether there is none.
    pub(crate) fn drain(&self, within: Duration) -> bool {
        self.shared.counters.drain(within)
    }

    /// Answers a request: here and now, or, if it has to wait, from a task. `op` may run several
    /// times, and gets the reply to fill; `finish` sends it.
    pub(crate) fn run<R, T, O, F>(&self, ask: Ask<R, O, F>)
    where
        R: Refuse,
        O: FnMut(&D, Asked, &mut R) -> Result<Step<T>> + Send + 'static,
        F: FnOnce(R, T) + Send + 'static,
    {
        if let Some((ask, need)) = self.attempt(ask, false) {
            self.later(ask, need);
        }
    }

    /// Answers a write. The bytes are the kernel's buffer, and copied only if it has to wait.
    pub(crate) fn write<R, O, F>(&self, ask: Ask<R, O, F>, data: &[u8])
    where
        R: Refuse,
        O: Fn(&D, Asked, &[u8]) -> Result<Step<usize>> + Send + 'static,
        F: FnOnce(R, usize) + Send + 'static,
    {
        let Ask { call, reply, op, finish } = ask;
        let borrowed = |drive: &D, asked: Asked, _: &mut R| op(drive, asked, data);
        let ask = Ask { call, reply, op: borrowed, finish };
        if let Some((Ask { call, reply, finish, .. }, need)) = self.attempt(ask, false) {
            let data = data.to_vec();
            let owned = move |drive: &D, asked: Asked, _: &mut R| op(drive, asked, &data);
            self.later(Ask { call, reply, op: owned, finish }, need);
        }
    }

    /// Answers a read: through a buffer that each kernel's thread keeps, or, where bytes have to
    /// be fetched, from a task.
    pub(crate) fn read<R: Carry>(&self, call: Call, fh: Fh, range: (u64, usize), reply: R) {
        thread_local! {
            // Grows to REQUEST_BYTES_MAX.
            static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        let op = |drive: &D, asked: Asked, _: &mut R| {
            let mut bytes = BUFFER.take();
            match drive.read(asked, fh, range, &mut bytes) {
                Ok(Step::Done(())) => Ok(Step::Done(bytes)),
                Ok(Step::Wait(need)) => {
                    BUFFER.set(bytes);
                    Ok(Step::Wait(need))
                }
                Err(error) => {
                    BUFFER.set(bytes);
                    Err(error)
                }
            }
        };
        let finish = |reply: R, bytes: Vec<u8>| {
            reply.carry(&bytes);
            BUFFER.set(bytes);
        };
        let ask = Ask { call, reply, op, finish };
        if let Some((Ask { mut call, reply, .. }, need)) = self.attempt(ask, false) {
            let answering = self.shared.counters.start_waiting();
            let span = call.span();
            let task = self.clone().read_later(call, fh, range, reply, need, answering);
            self.shared.runtime.spawn(task.instrument(span));
        }
    }

    /// Tells the filesystem something that has no answer.
    pub(crate) fn tell(&self, mut call: Call, op: impl FnOnce(&D)) {
        let _entered = call.span().entered();
        match caught(|| op(&self.shared.drive)) {
            Ok(()) => call.log_answered(),
            Err(failure) => self.failed(&call, &failure),
        }
        self.shared.counters.answered();
    }

    /// Runs the operation here. `None` if that answered it, else it back and what it waits for.
    fn attempt<R, T, O, F>(
        &self,
        mut ask: Ask<R, O, F>,
        may_block: bool,
    ) -> Option<(Ask<R, O, F>, Need)>
    where
        R: Refuse,
        O: FnMut(&D, Asked, &mut R) -> Result<Step<T>>,
        F: FnOnce(R, T),
    {
        let asked = Asked { may_block, ..ask.call.asked };
        let span = ask.call.span();
        let _entered = span.enter();
        let step = guarded(|| (ask.op)(&self.shared.drive, asked, &mut ask.reply));
        let outcome = match step {
            Ok(Step::Wait(need)) if asked.may_block && need == Need::Thread => {
                Err(Failure::Overdue(need))
            }
            Ok(Step::Wait(need)) => return Some((ask, need)),
            Ok(Step::Done(answer)) => Ok(answer),
            Err(failure) => Err(failure),
        };
        self.settle(&ask.call, ask.reply, outcome, ask.finish);
        None
    }

    /// Waits for the need in a task, then runs the operation on the blocking pool, until it is
    /// answered.
    fn later<R, T, O, F>(&self, mut ask: Ask<R, O, F>, need: Need)
    where
        R: Refuse,
        O: FnMut(&D, Asked, &mut R) -> Result<Step<T>> + Send + 'static,
        F: FnOnce(R, T) + Send + 'static,
    {
        let me = self.clone();
        let answering = self.shared.counters.start_waiting();
        if need == Need::Thread {
            self.shared.runtime.spawn_blocking(move || {
                if let Some((ask, need)) = me.attempt(ask, true) {
                    me.later(ask, need);
                }
                drop(answering);
            });
            return;
        }
        let span = ask.call.span();
        let asked = ask.call.asked;
        let task = async move {
            match me.met(asked, need).await {
                Ok(()) => me.later(ask, Need::Thread),
                Err(failure) => me.settle(&ask.call, ask.reply, Err(failure), ask.finish),
            }
            drop(answering);
        };
        self.shared.runtime.spawn(task.instrument(span));
    }

    /// The rest of a read that could not be answered at once.
    async fn read_later<R: Carry>(
        self,
        call: Call,
        fh: Fh,
        range: (u64, usize),
        reply: R,
        mut need: Need,
        _answering: Answering,
    ) {
        let asked = call.asked;
        let outcome = loop {
            if let Need::Bytes(..) = need {
                let drive = self.shared.drive.clone();
                let cold = async move { drive.read_cold(asked, fh, range).await };
                break in_time(asked, need, cold).await;
            }
            if need != Need::Thread
                && let Err(failure) = self.met(asked, need).await
            {
                break Err(failure);
            }
            match self.read_blocking(asked, fh, range).await {
                Ok(Step::Wait(Need::Thread)) => break Err(Failure::Overdue(Need::Thread)),
                Ok(Step::Wait(next)) => need = next,
                Ok(Step::Done(bytes)) => break Ok(bytes),
                Err(failure) => break Err(failure),
            }
        };
        self.settle(&call, reply, outcome, |reply, bytes: Vec<u8>| reply.carry(&bytes));
    }

    async fn read_blocking(
        &self,
        asked: Asked,
        fh: Fh,
        range: (u64, usize),
    ) -> std::result::Result<Step<Vec<u8>>, Failure> {
        let drive = self.shared.drive.clone();
        let read = move || {
            let mut bytes = Vec::new();
            let step = guarded(|| drive.read(asked.blocking(), fh, range, &mut bytes))?;
            Ok(match step {
                Step::Done(()) => Step::Done(bytes),
                Step::Wait(need) => Step::Wait(need),
            })
        };
        let ran = self.shared.runtime.spawn_blocking(read).await;
        ran.unwrap_or_else(|ended| Err(Failure::Panic(ended.to_string())))
    }

    /// Waits until the need is met.
    async fn met(&self, asked: Asked, need: Need) -> std::result::Result<(), Failure> {
        let drive = self.shared.drive.clone();
        let waited_for = need.clone();
        in_time(asked, need, async move { drive.wait(asked, waited_for).await }).await
    }

    /// Logs, counts and answers.
    fn settle<R: Refuse, T>(
        &self,
        call: &Call,
        reply: R,
        outcome: std::result::Result<T, Failure>,
        finish: impl FnOnce(R, T),
    ) {
        self.shared.counters.answered();
        match outcome {
            Ok(answer) => {
                call.log_answered();
                // A panic here drops the reply, which fuser answers with EIO.
                if let Err(failure) = caught(|| finish(reply, answer)) {
                    self.failed(call, &failure);
                }
            }
            Err(failure) => {
                self.failed(call, &failure);
                reply.refuse(failure.errno());
            }
        }
    }

    fn failed(&self, call: &Call, failure: &Failure) {
        self.shared.counters.failed(matches!(failure, Failure::Panic(_)));
        match failure {
            Failure::Error(error) => call.log_error(error, failure.errno()),
            Failure::Panic(message) => call.log_bug("panicked", message),
            Failure::Overdue(need) => call.log_bug("waited in vain", &format!("{need:?}")),
        }
    }
}

impl Failure {
    fn errno(&self) -> Errno {
        match self {
            Failure::Error(error) => errno(error.kind),
            Failure::Panic(_) | Failure::Overdue(_) => Errno::EIO,
        }
    }
}

/// Runs `work`; a panic in it is a failure like any other. What it left half done is the
/// filesystem's to notice (its locks are poisoned); the request is answered in any case.
fn caught<T>(work: impl FnOnce() -> T) -> std::result::Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Failure::Panic(message(&*payload)))
}

/// The same for work that may fail.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, Failure> {
    caught(work)?.map_err(Failure::Error)
}

/// Runs `work` until `WAIT_MAX` after the request was asked; panics are caught.
async fn in_time<T>(
    asked: Asked,
    need: Need,
    work: impl Future<Output = Result<T>>,
) -> std::result::Result<T, Failure> {
    let mut work = pin!(work);
    let work = std::future::poll_fn(move |context| match caught(|| work.as_mut().poll(context)) {
        Ok(polled) => polled.map(|result| result.map_err(Failure::Error)),
        Err(failure) => std::task::Poll::Ready(Err(failure)),
    });
    match timeout_at(asked.since + WAIT_MAX, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::Overdue(need)),
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
