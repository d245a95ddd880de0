//! The drive as Windows sees it: by path, case aside, with attributes and times of its own.
//!
//! ```text
//!   WinFsp -> context (decode) -> volume, data, change, list (run, wait, log) -> covefs_cache::Vfs
//!      <----- ntstatus, facts <--+                       told <-- Vfs::take_notices
//! ```
//!
//! Only `context`, `host`, `install` and `security` speak to WinFsp, and exist on Windows alone. All the rest is
//! pure and tested on every system. It keeps no state but open files.

mod change;
#[cfg(windows)]
mod context;
mod data;
mod facts;
#[cfg(windows)]
mod host;
#[cfg(windows)]
mod install;
mod list;
mod path;
mod pattern;
mod reparse;
#[cfg(windows)]
mod security;
mod told;
mod volume;

#[cfg(windows)]
pub use host::{MountError, Mounted, Unmounter, check_installed, mount};
#[cfg(windows)]
pub use path::name_on_share;
#[cfg(windows)]
pub use security::owner_only;

use crate::ntstatus::Status;

/// What a request ends with.
type Answer<T> = Result<T, Status>;

#[cfg(test)]
mod tests;
