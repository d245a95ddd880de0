//! What the account holds: shares, their snapshots and their trees, all in memory.

mod lease;
mod node;
mod share;
mod tree;

pub use lease::{FileLease, ShareLease};
pub use node::{Attributes, CONTENT_HEADERS, CopyState, CopyStatus, FileData, Kind, Node, Times};
pub use share::{Handle, Permission, Policy, SMB_DEFAULT_PERMISSION, Share, Snapshot};
pub use tree::{Entry, ROOT, Tree};

use crate::error::{Error, Result};
use crate::xml::Element;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything in the account.
#[derive(Default, Serialize, Deserialize)]
pub struct Store {
    /// By name.
    pub shares: BTreeMap<String, Share>,
    /// Deleted ones that can be brought back, with the version that names them.
    pub deleted: Vec<(String, Share)>,
    /// As it was set last.
    pub service_properties: Option<Element>,
    ids_given: u64,
}

impl Store {
    /// A share, which must be there.
    pub fn share(&self, name: &str) -> Result<&Share> {
        self.shares.get(name).ok_or_else(|| Error::new("ShareNotFound"))
    }

    /// A share to change, which must be there.
    pub fn share_mut(&mut self, name: &str) -> Result<&mut Share> {
        self.shares.get_mut(name).ok_or_else(|| Error::new("ShareNotFound"))
    }

    /// The trees of all shares, deleted ones too, and of their snapshots.
    pub fn trees(&self) -> impl Iterator<Item = &Tree> {
        let deleted = self.deleted.iter().map(|(_, share)| share);
        let shares = self.shares.values().chain(deleted);
        shares.flat_map(|share| {
            let snapshots = share.snapshots.values().map(|snapshot| &snapshot.tree);
            std::iter::once(&share.tree).chain(snapshots)
        })
    }

    /// The same, to change.
    pub fn trees_mut(&mut self) -> impl Iterator<Item = &mut Tree> {
        let deleted = self.deleted.iter_mut().map(|(_, share)| share);
        let shares = self.shares.values_mut().chain(deleted);
        shares.flat_map(|share| {
            let snapshots = share.snapshots.values_mut().map(|snapshot| &mut snapshot.tree);
            std::iter::once(&mut share.tree).chain(snapshots)
        })
    }

    /// A number for a new file or directory: no other has or had it. As the service's, too large
    /// for a signed number.
    pub fn new_id(&mut self) -> u64 {
        self.ids_given += 1;
        0xC000_4000_0000_0000 + (self.ids_given << 6)
    }
}
