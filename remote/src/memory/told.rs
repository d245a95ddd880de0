//! Telling of changes, in the order in which they were made.

use super::MemoryRemote;
use crate::Change;

impl MemoryRemote {
    pub(super) fn tell(&self, change: Change) {
        // Nobody may be watching.
        let _ = self.changes.send(change);
    }
}
