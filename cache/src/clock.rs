//! The wall clock, as a seam: the simulation brings its own. Durations come from tokio's clock.

use covefs_remote::Timestamp;

/// What time it is, for what users see.
pub(crate) trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
