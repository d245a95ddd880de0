//! Taking turns in a directory: sites that swap names there do so one at a time.
//!
//! It is a lock that only they look at (`flock`), held for the few calls of one swap. No byte
//! depends on it: without one, as where the directory may not be read or the file system has no
//! locks, sites still find their way past each other (`swap`). But then one of them may see, for
//! an instant, what another one is about to take back.

use super::resolve::Place;
use super::stat;
use crate::prng::Prng;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The longest wait: far longer than a swap, and no stranger's lock holds us up for good.
const WAIT: Duration = Duration::from_secs(2);

/// The longest pause between two looks.
const PAUSE_NANOS: u64 = 1_000_000;

/// The turn in some directories; it ends when dropped.
pub(super) struct Turn {
    _locks: Vec<OwnedFd>,
}

impl Turn {
    /// Waits for the turn in the directories of these places.
    pub(super) fn take(places: &[&Place<'_>]) -> Turn {
        let mut dirs: Vec<_> = places
            .iter()
            .filter_map(|place| Some((stat::object_id(place.dir.as_fd()).ok()?, *place)))
            .collect();
        // In one order, so that two who need the same two do not wait for each other.
        dirs.sort_by_key(|(id, _)| (id.dev, id.ino));
        dirs.dedup_by_key(|(id, _)| *id);
        Turn { _locks: dirs.into_iter().filter_map(|(_, place)| lock(place)).collect() }
    }
}

fn lock(place: &Place<'_>) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(&place.dir, c".", flags, Mode::empty()).ok()?;
    let (start, mut prng) = (Instant::now(), Prng::unseeded());
    loop {
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(dir),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < WAIT => {
                std::thread::sleep(Duration::from_nanos(prng.below(PAUSE_NANOS)));
            }
            Err(_) => return None,
        }
    }
}
