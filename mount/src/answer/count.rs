//! What was answered, and how many requests are being answered away from the kernel's threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What was answered since the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Requests answered.
    pub answered: u64,
    /// Of them with an error, everyday ones (no such file) too.
    pub failed: u64,
    /// Of them with EIO, because of a panic.
    pub panicked: u64,
    /// Times that a request had to leave the kernel's thread.
    pub waited: u64,
    /// Requests that wait now.
    pub waiting: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    answered: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    waited: AtomicU64,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    number: Mutex<u64>,
    none: Condvar,
}

/// Held while a request is answered away from the kernel's thread.
pub(super) struct Answering(Arc<Waiting>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, u64> {
        // A number is whole whatever the panic interrupted.
        self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, by_panic: bool) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.panicked.fetch_add(u64::from(by_panic), Ordering::Relaxed);
    }

    pub(super) fn start_waiting(&self) -> Answering {
        self.waited.fetch_add(1, Ordering::Relaxed);
        *self.waiting.lock() += 1;
        Answering(self.waiting.clone())
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            panicked: self.panicked.load(Ordering::Relaxed),
            waited: self.waited.load(Ordering::Relaxed),
            waiting: *self.waiting.lock(),
        }
    }

    pub(super) fn drain(&self, within: Duration) -> bool {
        let number = self.waiting.lock();
        let waited = self.waiting.none.wait_timeout_while(number, within, |number| *number > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut number = self.0.lock();
        debug_assert!(*number > 0, "each request that waits was counted once");
        *number = number.saturating_sub(1);
        if *number == 0 {
            self.0.none.notify_all();
        }
    }
}
