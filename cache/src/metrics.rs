//! What is counted since the mount: names, units and meaning.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes, since the mount.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Answered from the cache.
    pub hit_bytes: AtomicU64,
    /// Received from the share, readahead included.
    pub fetched_bytes: AtomicU64,
    /// Asked for by readers.
    pub requested_bytes: AtomicU64,
}

impl Metrics {
    pub(crate) fn hit(&self, bytes: u64) {
        self.hit_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.requested_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn missed(&self, bytes: u64) {
        self.requested_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
