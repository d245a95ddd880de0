//! Small files that nobody waits for, stored many at a time: a hand-over to another thread costs more
//! than storing one. Who comes for one meanwhile reads what has landed.
//!
//! A disk that is slow for a moment, as each is while it syncs, holds up no fetch: the permit of one is
//! given back before its bytes are stored. What waits here has a bound of its own.

use crate::fetch::Flight;
use crate::file::File;
use crate::limits;
use crate::vfs::Vfs;
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

/// What has come and is to be stored soon.
pub(crate) struct Arrivals {
    waiting: Mutex<Vec<Arrival>>,
    are_many: Notify,
    room: Semaphore,
}

impl Default for Arrivals {
    fn default() -> Self {
        let room = Semaphore::new(limits::ARRIVALS);
        Arrivals { waiting: Mutex::default(), are_many: Notify::new(), room }
    }
}

struct Arrival {
    file: Arc<File>,
    flight: Arc<Flight>,
    chunks: Vec<Bytes>,
    /// Dropped when it was tried.
    _tried: oneshot::Sender<()>,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vfs {
    /// Stores all that a flight brought, with others that come within an instant, and gives its
    /// permits back before; returns when that was tried.
    pub(crate) async fn store_soon(
        &self,
        file: &Arc<File>,
        flight: &Arc<Flight>,
        chunks: Vec<Bytes>,
        permits: Vec<OwnedSemaphorePermit>,
    ) {
        let _room = self.arrivals.room.acquire().await.expect("it is never closed");
        drop(permits);
        let (_tried, tried) = oneshot::channel();
        let (file, flight) = (file.clone(), flight.clone());
        let many = {
            let mut waiting = self.arrivals.lock();
            waiting.push(Arrival { file, flight, chunks, _tried });
            waiting.len()
        };
        if many == 1 {
            let vfs = self.arc();
            self.spawn("store", async move {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(limits::GATHER) => {}
                    () = vfs.arrivals.are_many.notified() => {}
                }
                if let Err(error) = vfs.on_disk(Vfs::store_arrivals).await {
                    tracing::warn!(%error, "fetched files are not stored");
                }
            });
        } else if many == limits::GATHER_FILES {
            self.arrivals.are_many.notify_one();
        }
        // Dropped without a word: it was tried all the same.
        let _ = tried.await;
    }

    fn store_arrivals(&self) {
        let arrivals = std::mem::take(&mut *self.arrivals.lock());
        for arrival in arrivals {
            // Dropped last: whoever waits for it has the file alone then.
            let Arrival { _tried, file, flight, chunks } = arrival;
            self.store_now(&file, &flight, flight.range.start, &chunks);
        }
    }
}
