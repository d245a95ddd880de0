//! Small files that nobody waits for, stored when it is quiet: making a file on the disk takes as long
//! as fetching one, and whoever goes through a directory waits for the next one. By one thread, many at a
//! time: a hand-over to another one costs more than storing a file, and several would wait for each
//! other at the same locks. Who comes for one meanwhile reads what has landed.
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
use tokio::time::Instant;

/// What has come and is to be stored soon.
pub(crate) struct Arrivals {
    state: Mutex<State>,
    /// It is time: much waits, or somebody does.
    is_due: Notify,
    /// In pages.
    room: Semaphore,
}

#[derive(Default)]
struct State {
    waiting: Vec<Arrival>,
    pages: u32,
    /// All that ever came.
    came: u64,
    /// Somebody stores what comes, until nothing waits.
    is_storing: bool,
}

impl Default for Arrivals {
    fn default() -> Self {
        let room = Semaphore::new(limits::ARRIVALS as usize);
        Arrivals { state: Mutex::default(), is_due: Notify::new(), room }
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits; where nothing does, whoever asks stores no more.
    fn take(&self) -> Option<Vec<Arrival>> {
        let mut state = self.lock();
        state.is_storing = !state.waiting.is_empty();
        state.pages = 0;
        state.is_storing.then(|| std::mem::take(&mut state.waiting))
    }

    /// Somebody waits until all is stored.
    pub(crate) fn hurry(&self) {
        self.is_due.notify_one();
    }

    /// Returns when nothing comes any more, or it cannot wait.
    async fn quiet(&self) {
        let mut came = self.lock().came;
        let until = Instant::now() + limits::QUIET_LAST;
        loop {
            tokio::select! {
                biased;
                () = self.is_due.notified() => return,
                () = tokio::time::sleep(limits::QUIET) => {}
            }
            let now = self.lock().came;
            if std::mem::replace(&mut came, now) == now || Instant::now() >= until {
                return;
            }
        }
    }
}

/// What bytes take of the room.
fn pages(chunks: &[Bytes]) -> u32 {
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    (bytes as u32).div_ceil(limits::ARRIVALS_PAGE).max(1)
}

impl Vfs {
    /// Has all that flights brought stored, and gives their permits back before; returns when that was
    /// tried.
    pub(crate) async fn store_soon(
        &self,
        brought: Vec<(&Arc<File>, &Arc<Flight>, Vec<Bytes>)>,
        permits: Vec<OwnedSemaphorePermit>,
    ) {
        if brought.is_empty() {
            return;
        }
        let pages: u32 = brought.iter().map(|(.., chunks)| pages(chunks)).sum();
        let _room = self.arrivals.room.acquire_many(pages).await.expect("it is never closed");
        drop(permits);
        let mut tries = Vec::with_capacity(brought.len());
        let (begins, is_much) = {
            let mut state = self.arrivals.lock();
            for (file, flight, chunks) in brought {
                let (_tried, tried) = oneshot::channel();
                let (file, flight) = (file.clone(), flight.clone());
                state.waiting.push(Arrival { file, flight, chunks, _tried });
                tries.push(tried);
            }
            state.came += tries.len() as u64;
            state.pages += pages;
            let begins = !std::mem::replace(&mut state.is_storing, true);
            (begins, state.pages > limits::ARRIVALS / 4 * 3)
        };
        if begins {
            let vfs = self.arc();
            self.spawn("store", async move {
                vfs.arrivals.quiet().await;
                if let Err(error) = vfs.on_disk(Vfs::store_arrivals).await {
                    // What came meanwhile was tried, too.
                    let dropped = std::mem::take(&mut *vfs.arrivals.lock());
                    tracing::warn!(%error, "fetched files are not stored");
                    drop(dropped);
                }
            });
        } else if is_much {
            self.arrivals.hurry();
        }
        for tried in tries {
            // Dropped without a word: it was tried all the same.
            let _ = tried.await;
        }
    }

    /// Stores all that waits.
    pub(crate) fn store_arrivals(&self) {
        while let Some(arrivals) = self.arrivals.take() {
            for arrival in arrivals {
                // Dropped last: whoever waits for it has the file alone then.
                let Arrival { _tried, file, flight, chunks } = arrival;
                self.store_now(&file, &flight, flight.range.start, &chunks);
            }
        }
    }
}
