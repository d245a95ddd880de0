//! covefs itself: the tree of names, the cache of bytes, the journal of what the share does not
//! have yet, and the sync that brings it there. Free of platform.
//!
//! Lock order, outermost first; none of them is held over network, space or fsync:
//!
//! ```text
//!   paths -> tree -> files -> a handle's reading -> a content -> journal
//!         -> heat, walks, listings under way, sync's queue, what a flight brought
//! ```
//!
//! `evicting` and a file's `syncing` come before all of them and are held over fdatasync: only
//! threads of the blocking pool take them.

mod ahead;
mod arrivals;
mod attr;
mod broken;
mod check;
mod clock;
mod config;
mod control;
mod data;
mod dirs;
mod disk;
mod doubt;
mod error;
mod evict;
mod extents;
mod fetch;
mod file;
mod files;
mod fold;
mod freshness;
#[doc(hidden)]
pub mod fuzz;
mod handle;
mod index;
mod journal;
mod kept;
mod leftovers;
mod lend;
mod lengths;
mod limits;
mod listing;
mod metrics;
mod names;
mod node;
mod paths;
mod ranges;
mod readahead;
mod scrub;
mod settle;
mod space;
mod start;
mod status;
mod step;
mod sync;
mod tree;
mod vfs;
mod watch;
mod xattrs;

#[cfg(test)]
mod tests;

pub use attr::*;
pub use config::{Config, MinFree};
pub use covefs_remote::{Kind, Timestamp};
pub use disk::{DiskSpace, Readable, space as disk_space};
pub use error::{Error, ErrorKind, Result};
pub use journal::ConflictRecord;
pub use lend::Lent;
pub use limits::CACHE_FLOOR;
pub use start::{CacheSummary, CheckReport, StartError, check, summary};
pub use status::*;
pub use step::{Asked, Need, Step};
pub use vfs::Vfs;
