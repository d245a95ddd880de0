//! How an operation says that it has to wait.
//!
//! Every operation of [`crate::Vfs`] runs to its end on the kernel's own thread or says what it
//! needs first (K1). The caller then waits for the need in a task of its own and asks again:
//!
//! ```text
//!   kernel thread   op --> Done(answer) --> reply
//!                    +---> Wait(need) -> task: vfs.wait(need).await -> op again (may block) -> ...
//! ```
//!
//! `Asked` stays the same over the repeats: what was verified since it began is fresh enough, so
//! each need is met once and the operation ends.

use crate::attr::{ContentId, Ino};
use tokio::time::Instant;

/// When an operation was first asked for, and where it runs now.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The first time it was asked for.
    pub since: Instant,
    /// Whether this thread may block on the local disk (a thread of the blocking pool).
    pub may_block: bool,
}

impl Asked {
    /// Asked for just now, on a thread that must not block.
    pub fn now() -> Self {
        Asked { since: Instant::now(), may_block: false }
    }

    /// The same operation, on a thread that may block.
    pub fn blocking(self) -> Self {
        Asked { may_block: true, ..self }
    }
}

/// An answer, or what has to be there first.
#[derive(Debug)]
#[must_use]
pub enum Step<T> {
    /// The answer.
    Done(T),
    /// Wait for this with `Vfs::wait`, then ask again from a thread that may block.
    Wait(Need),
}

/// What an operation waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Need {
    /// A thread that may block on the local disk; nothing else.
    Thread,
    /// A listing of this directory, or the certainty that the share is out of reach.
    Listing(Ino),
    /// The share's word on this one name of a directory (K4).
    Name(Ino, Vec<u8>),
    /// The whole metadata of this node, xattrs too.
    Node(Ino),
    /// These bytes of a content from the share.
    Bytes(ContentId, u64, u64),
    /// So many bytes of room in the cache.
    Space(u64),
    /// The end of an upload's last round, which holds writes to this content (S1).
    Unheld(ContentId),
    /// That everything of this node is on the share (`--sync share`).
    Uploaded(Ino),
}
