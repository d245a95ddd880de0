//! Every bound of this crate, with its reason.

use std::time::Duration;

/// Background requests (readahead, asynchronous reads) that the kernel keeps in flight. With
/// fuser's 16 a hundred cold readers stop every hot one for seconds (K1). It also bounds our tasks.
#[cfg(unix)]
pub(crate) const BACKGROUND_REQUESTS_MAX: u16 = 1024;

/// Above this the kernel calls the drive congested and holds its own guesses back: three quarters,
/// as the kernel's own default.
#[cfg(unix)]
pub(crate) const CONGESTED_REQUESTS: u16 = BACKGROUND_REQUESTS_MAX / 4 * 3;

/// Bytes of one write, and of one read: what `fs.fuse.max_pages_limit` allows anyway.
#[cfg(unix)]
pub(crate) const REQUEST_BYTES_MAX: u32 = 1 << 20;

/// Threads that read requests; each has a buffer of 16 MiB of address space.
#[cfg(unix)]
pub(crate) const THREADS_MAX: usize = 64;

/// All waits of one request together. The filesystem's own deadlines (K3) are far below: this is
/// what keeps a call from hanging when one of them is missing.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(120);

/// How long the end of a session waits for requests that are still being answered. Nobody hears
/// these answers any more, but what they write to the cache should be whole.
#[cfg(unix)]
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Bytes of one copy_file_range: the answer has 32 bits, and a call must end within its deadline
/// although the bytes may be cold. Callers go on after a short answer.
#[cfg(unix)]
pub(crate) const COPY_BYTES_MAX: u64 = 64 << 20;

/// What stat calls the best size of a read or write of a file: one block of the cache. Programs
/// that buffer by it (stdio) write through in 64 KiB instead of 4 KiB: 16 times fewer requests.
#[cfg(unix)]
pub(crate) const FILE_IO_BYTES: u32 = 64 << 10;

/// The same for directories and symlinks, and the unit that statfs counts in.
#[cfg(unix)]
pub(crate) const BLOCK_BYTES: u32 = 4096;

/// Threads that WinFsp answers requests with. One that waits for the share holds one (opens of cold
/// directories, cold reads); hot requests need one that does not.
#[cfg(windows)]
pub(crate) const WINDOWS_THREADS: u32 = 64;
/// A file that was changed within the last hour may be a log that somebody follows: what the kernel
/// reads by itself does not grow with the share's.
pub(crate) const PASSTHROUGH_AGE: Duration = Duration::from_secs(3600);
