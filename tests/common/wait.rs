//! Waiting, always with a deadline. The only place in the tests that sleeps (tidy.rs).

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);

/// Asks `holds` until it says yes; panics with `what` when `limit` has passed.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    assert!(try_until(limit, &mut holds), "not within {limit:?}: {what}");
}

/// Asks `holds` until it says yes, at least once; false when `limit` has passed.
pub fn try_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Runs `work` on a thread of its own and panics if it does not end in time: a call into a mount
/// that hangs cannot be interrupted, only left behind until the drive's process is killed.
pub fn within<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, answer) = mpsc::channel();
    let worker = thread::spawn(move || {
        let _ = done.send(work());
    });
    match answer.recv_timeout(limit) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs for more than {limit:?}: {what}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => panic!("ended without an answer: {what}"),
        },
    }
}
