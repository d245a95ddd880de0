//! What a share tells unasked (X7). It is never believed, only looked into: it makes changes visible
//! sooner than the next listing would.

use crate::RemotePath;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Changes that wait for who watches; of more the oldest are lost.
pub(crate) const CHANGES_MAX: usize = 4096;

/// Something that somebody did to the share, maybe ourselves. It is told once what was done can be
/// seen; more may have been done than is told.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Change {
    /// To this entry: it was made, changed, moved or removed.
    At(RemotePath),
    /// In this directory, and nobody says to what; or it is not watched any more.
    In(RemotePath),
    /// Some were missed: anything may have changed.
    Lost,
}

/// Changes as they come. It waits in bounds: who is too slow hears `Lost`. When it ends, the share
/// has to be asked for a new one.
pub type ChangeStream = BoxStream<'static, Change>;

/// What is sent, until its sender goes.
pub(crate) fn stream(changes: Receiver<Change>) -> ChangeStream {
    let next = |mut changes: Receiver<Change>| async {
        match changes.recv().await {
            Ok(change) => Some((change, changes)),
            Err(RecvError::Lagged(_)) => Some((Change::Lost, changes)),
            Err(RecvError::Closed) => None,
        }
    };
    stream::unfold(changes, next).boxed()
}
