//! Keeps the account in a directory from run to run.

use crate::store::Store;
use crate::time::{Clock, Ticks};
use std::io;
use std::path::Path;

/// Where the account is kept.
pub struct Disk;

impl Disk {
    /// Opens or makes the directory.
    pub fn open(_root: &Path) -> io::Result<Disk> {
        Err(io::Error::other("keeping the account in a directory is not built yet"))
    }

    /// What the last run left.
    pub fn load(&self, clock: &Clock) -> io::Result<Store> {
        clock.advance_past(Ticks::default());
        Ok(Store::default())
    }

    /// Writes what changed.
    pub fn save(&self, _store: &Store) -> io::Result<()> {
        Ok(())
    }
}
