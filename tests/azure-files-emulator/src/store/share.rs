//! A share: its settings, its tree, its snapshots, and what SMB clients have open in it.

use super::{ShareLease, Tree};
use crate::call::Metadata;
use crate::error::{Error, Result};
use crate::time::Ticks;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Key of the permission that each share has from the start.
pub const SMB_DEFAULT_PERMISSION: &str = "12501538048846835188*422928105932735866";
const DEFAULT_SDDL: &str = "O:SYG:SYD:(A;;FA;;;BA)(A;;FA;;;SY)(A;;0x1200a9;;;BU)(A;;0x1301bf;;;AU)";

/// A share that may hold less is counted at each put.
const COUNTED_BYTES: u64 = 64 << 30;

/// A stored access policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// At most 64 characters.
    pub id: String,
    /// Empty where the token says it.
    pub start: String,
    /// Empty where the token says it.
    pub expiry: String,
    /// Empty where the token says it.
    pub permission: String,
}

/// A security descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// The text, SDDL or base64.
    pub text: String,
    /// `Sddl` or `Binary`.
    pub format: String,
}

/// A file or directory that an SMB client has open (REST clients open none).
#[derive(Clone, Debug)]
pub struct Handle {
    /// Unique in the share.
    pub id: u64,
    /// What is open.
    pub node: u64,
    /// Its path when it was opened.
    pub path: String,
    /// When it was opened.
    pub opened: Ticks,
    /// Whether others may write meanwhile.
    pub shares_write: bool,
    /// Whether others may delete or rename meanwhile.
    pub shares_delete: bool,
}

/// The share as it was.
#[derive(Serialize, Deserialize)]
pub struct Snapshot {
    /// The tree.
    pub tree: Tree,
    /// The share's metadata, or what the snapshot was given.
    pub metadata: Metadata,
    /// The share's stamp.
    pub stamp: Ticks,
    /// The last epoch whose changes are in it.
    pub epoch: u64,
    /// A snapshot has a lease of its own.
    pub lease: ShareLease,
}

/// A share.
#[derive(Serialize, Deserialize)]
pub struct Share {
    /// Name and value pairs.
    pub metadata: Metadata,
    /// GiB.
    pub quota: u64,
    /// Fewer bytes than the quota, in whole GiB, can say.
    #[serde(default)]
    pub limit_bytes: Option<u64>,
    /// `TransactionOptimized`, `Hot`, `Cool`, `Premium`.
    pub tier: String,
    /// When that was last set.
    pub tier_changed: Ticks,
    /// `SMB` or `NFS`.
    pub protocols: String,
    /// NFS shares only.
    pub root_squash: Option<String>,
    /// Stored access policies.
    pub policies: Vec<Policy>,
    /// Guards the share itself, not what is in it.
    pub lease: ShareLease,
    /// ETag and Last-Modified.
    pub stamp: Ticks,
    /// What is in it.
    pub tree: Tree,
    /// By id, which sorts by time.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// Counts snapshots: changes of files are kept apart by it.
    pub epoch: u64,
    /// By key.
    pub permissions: BTreeMap<String, Permission>,
    /// What SMB clients have open: none outlives the server.
    #[serde(skip)]
    pub handles: Vec<Handle>,
}

impl Share {
    /// An empty share.
    pub fn new(now: Ticks, protocols: &str) -> Share {
        let default = Permission { text: DEFAULT_SDDL.to_owned(), format: "Sddl".to_owned() };
        Share {
            metadata: Metadata::new(),
            quota: 5120,
            limit_bytes: None,
            tier: "TransactionOptimized".to_owned(),
            tier_changed: now,
            protocols: protocols.to_owned(),
            root_squash: None,
            policies: Vec::new(),
            lease: ShareLease::default(),
            stamp: now,
            tree: Tree::new(now, protocols == "NFS"),
            snapshots: BTreeMap::new(),
            epoch: 1,
            permissions: BTreeMap::from([(SMB_DEFAULT_PERMISSION.to_owned(), default)]),
            handles: Vec::new(),
        }
    }

    /// Whether `more` bytes fit. Nobody fills a big one in memory: it is not counted.
    pub fn check_room(&self, more: u64) -> Result<()> {
        let limit = self.limit_bytes.unwrap_or(u64::MAX).min(self.quota << 30);
        match limit < COUNTED_BYTES && self.tree.allocated_bytes() + more > limit {
            true => Err(Error::new("ShareSizeLimitReached")),
            false => Ok(()),
        }
    }

    /// Whether it is an NFS share.
    pub fn is_nfs(&self) -> bool {
        self.protocols == "NFS"
    }

    /// The tree as it is or, if a snapshot is named, as it was.
    pub fn tree_at(&self, snapshot: Option<&str>) -> Result<&Tree> {
        match snapshot {
            None => Ok(&self.tree),
            Some(id) => Ok(&self.snapshot(id)?.tree),
        }
    }

    /// A snapshot, which must be there. Clients send ids back as they had them.
    pub fn snapshot(&self, id: &str) -> Result<&Snapshot> {
        self.snapshots.get(id).ok_or_else(|| Error::new("ShareSnapshotNotFound"))
    }

    /// The key of a permission, which the share keeps from now on.
    pub fn add_permission(&mut self, permission: Permission) -> String {
        let known = self.permissions.iter().find(|(_, known)| **known == permission);
        if let Some((key, _)) = known {
            return key.clone();
        }
        let number = self.permissions.len() as u64;
        let key = format!("{}*{number}", 7_316_420_893_377_540_163 + number * 97);
        self.permissions.insert(key.clone(), permission);
        key
    }

    /// Takes a snapshot; its id is the time in whole seconds, moved on where that one is taken.
    pub fn take_snapshot(&mut self, now: Ticks, metadata: Metadata) -> String {
        let mut second = now.seconds();
        let last = self.snapshots.keys().next_back().and_then(|id| Ticks::parse_iso(id));
        if let Some(last) = last.filter(|last| last.seconds() >= second) {
            second = last.seconds() + 1;
        }
        let id = Ticks::from_seconds(second).iso();
        let metadata = if metadata.is_empty() { self.metadata.clone() } else { metadata };
        let tree = self.tree.clone();
        let (stamp, epoch, lease) = (self.stamp, self.epoch, ShareLease::default());
        self.snapshots.insert(id.clone(), Snapshot { tree, metadata, stamp, epoch, lease });
        self.epoch += 1;
        id
    }

    /// Refuses what SMB clients that have `node` open do not share.
    pub fn check_handles(&self, node: u64, deletes: bool) -> Result<()> {
        let in_the_way = |handle: &&Handle| {
            let shared = if deletes { handle.shares_delete } else { handle.shares_write };
            handle.node == node && !shared
        };
        match self.handles.iter().find(in_the_way) {
            None => Ok(()),
            Some(_) => Err(Error::new("SharingViolation")),
        }
    }
}
