//! What `covefs status`, `conflicts` and `why` show.

use serde::{Deserialize, Serialize};

/// The state of one mount. Field names are the contract of `covefs status --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The share as the user wrote it.
    pub share: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// Whether the share answers.
    pub online: bool,
    /// Whether the share tells of changes that others make (X7).
    #[serde(default)]
    pub watched: bool,
    /// The local cache.
    pub cache: CacheStatus,
    /// What the share does not have yet.
    pub uploads: UploadStatus,
    /// What readers asked for since the mount.
    pub reads: ReadStatus,
    /// Requests to the share since the mount.
    pub remote: RemoteStatus,
    /// How the share's server is spoken to, where there is a choice; filled in by the program.
    #[serde(default)]
    pub connection: Option<ConnectionStatus>,
    /// Whether hot files are served by the kernel alone.
    pub passthrough: bool,
    /// The daemon's process id.
    pub pid: u32,
    /// covefs' version.
    pub version: String,
    /// The log file; filled in by the program.
    pub log: String,
    /// What a person should look at: the last sync error, recovered files, a full share.
    pub messages: Vec<String>,
}

/// Sizes in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CacheStatus {
    /// The hard limit.
    pub limit_bytes: u64,
    /// Allocated in `data/` and `journal/`.
    pub used_bytes: u64,
    /// Not on the share yet.
    pub dirty_bytes: u64,
    /// Size of the index.
    pub index_bytes: u64,
    /// Files of which bytes are here.
    pub files: u64,
}

/// Counts of nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UploadStatus {
    /// Dirty and waiting their turn.
    pub waiting: u64,
    /// Being sent now.
    pub active: u64,
    /// Failed at least once and tried again later.
    pub failed: u64,
    /// Conflicts nobody dismissed.
    pub conflicts: u64,
    /// Age of the oldest change the share does not have.
    pub oldest_dirty_seconds: u64,
}

/// Bytes since the mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReadStatus {
    /// Read from the cache.
    pub hit_bytes: u64,
    /// Fetched from the share.
    pub fetched_bytes: u64,
    /// Asked for by readers.
    pub requested_bytes: u64,
}

/// Counts since the mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemoteStatus {
    /// Requests sent.
    pub requests: u64,
    /// Requests that failed for good.
    pub errors: u64,
    /// Requests sent again.
    pub retries: u64,
}

/// How a server is spoken to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// The protocol and its version.
    pub protocol: String,
    /// What signs requests that are not encrypted.
    pub signing: String,
    /// What encrypts them; `null`: nothing.
    pub cipher: Option<String>,
}

/// How far a hydration or a sync is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes (hydrate) or nodes (sync) done.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}
