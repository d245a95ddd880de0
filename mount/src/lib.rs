//! The kernel's side of covefs: decodes requests, asks the filesystem, replies.
//!
//! ```text
//!   kernel -> fuse (decode) -> answer (run, wait, log, count) -> covefs_cache::Vfs
//!      <----- fuse/reply, errno <--+             notify <-- Vfs::take_notices
//! ```
//!
//! It touches no disk and no network and keeps no state but the session. When the process dies,
//! the kernel answers every call on the mount with ENOTCONN: see `is_dead` and `unmount`.

#[cfg(unix)]
mod answer;
#[cfg(unix)]
mod decode;
#[cfg(unix)]
mod detach;
#[cfg(unix)]
mod errno;
#[cfg(unix)]
mod error;
#[cfg(unix)]
mod fuse;
mod limits;
mod mounts;
#[cfg(unix)]
mod notify;
#[cfg(any(windows, test))]
mod ntstatus;
mod options;
#[cfg(unix)]
mod session;
#[cfg(any(windows, test))]
mod winfsp;

#[cfg(unix)]
pub use answer::Counts;
#[cfg(unix)]
pub use detach::{Detach, is_dead, mounted, mounts, unmount};
#[cfg(unix)]
pub use error::MountError;
pub use mounts::{Device, MountInfo};
pub use options::{MountOptions, filter_options};
#[cfg(unix)]
pub use session::{Mounted, Unmounter, mount};
#[cfg(windows)]
pub use winfsp::{
    MountError, Mounted, Unmounter, check_installed, mount, name_on_share, owner_only,
};
