//! What a mount is told: sizes, bounds and names. Only `src` reads them from the user.

use std::path::PathBuf;
use std::time::Duration;

/// How much of the disk stays free whatever the limit says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum MinFree {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the disk.
    Percent(f64),
}

/// The settings of one mount. Times are durations, sizes bytes.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cache directory; made if it is missing.
    pub cache_dir: PathBuf,
    /// The share as the user wrote it, for messages and `cache.json`.
    pub share: String,
    /// Where it is mounted, for messages and `status`.
    pub mountpoint: PathBuf,
    /// Hard limit on allocated bytes (E2).
    pub limit_bytes: u64,
    /// Kept free on the cache's disk.
    pub min_free: MinFree,
    /// Clean bytes not used for so long are evicted.
    pub max_age: Option<Duration>,
    /// How old a believed fact may be while the share can be reached.
    pub freshness: Duration,
    /// The share is asked to tell of changes, which show sooner then (X7).
    pub watch: bool,
    /// The site's short name, in conflict copies.
    pub site: String,
    /// Nothing can be changed through this mount.
    pub read_only: bool,
    /// fsync and close wait for the upload.
    pub sync_share: bool,
    /// The deadline of a request that somebody waits for (K3).
    pub timeout: Duration,
    /// Quiet time after the last write or close before an upload.
    pub debounce: Duration,
    /// Owner of files where the share has none.
    pub uid: u32,
    /// Group of files where the share has none.
    pub gid: u32,
    /// Permission bits of files where the share has none.
    pub file_mode: u32,
    /// Permission bits of directories where the share has none.
    pub dir_mode: u32,
}
