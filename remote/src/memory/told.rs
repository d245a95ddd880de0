//! Telling of changes, in the order in which they were made.

use super::MemoryRemote;
use crate::{Change, ChangeStream};
use futures_util::stream::{self, StreamExt};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Changes that wait for who watches; of more the oldest are lost.
pub(super) const CHANGES_MAX: usize = 4096;

impl MemoryRemote {
    pub(super) fn tell(&self, change: Change) {
        // Nobody may be watching.
        let _ = self.changes.send(change);
    }
}

pub(super) fn stream(changes: Receiver<Change>) -> ChangeStream {
    let next = |mut changes: Receiver<Change>| async {
        match changes.recv().await {
            Ok(change) => Some((change, changes)),
            Err(RecvError::Lagged(_)) => Some((Change::Lost, changes)),
            Err(RecvError::Closed) => None,
        }
    };
    stream::unfold(changes, next).boxed()
}
