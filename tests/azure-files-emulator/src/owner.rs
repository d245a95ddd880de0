//! What a server's owner may see and do without asking over HTTP.

use crate::auth::{sas, token};
use crate::content::Content;
use crate::crypto;
#[cfg(unix)]
use crate::entra;
use crate::error::Result;
use crate::faults::Faults;
use crate::operation::Operation;
use crate::server::{Logged, Server};
use crate::store::{Attributes, FileData, FileLease, Handle, Kind, Node, ROOT, Share, Store, Tree};
use crate::time::Ticks;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// A file or directory as the server's owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, with its case; its path in a walk.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// 0 for directories.
    pub size_bytes: u64,
    /// Unique in the account.
    pub file_id: u64,
    /// As in the header `ETag`, with quotes.
    pub etag: String,
    /// `Archive | ReadOnly`
    pub attributes: String,
    /// 100 ns since 1970.
    pub created_ticks: i64,
    /// 100 ns since 1970.
    pub written_ticks: i64,
    /// 100 ns since 1970.
    pub changed_ticks: i64,
    /// By lower-cased name.
    pub metadata: BTreeMap<String, String>,
    /// Files only.
    pub lease: LeaseState,
}

/// A file's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Nobody's.
    Available,
    /// Of whoever knows this id.
    Leased(String),
    /// It was broken.
    Broken,
}

/// What an SMB client that has a file open lets others do meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// They may write.
    pub write: bool,
    /// They may delete and rename.
    pub delete: bool,
}

/// The owner's side of a server. Clones are of the same server, and do not keep it running.
#[derive(Clone)]
pub struct Owner {
    server: Arc<Server>,
}

impl Owner {
    pub(crate) fn of(server: Arc<Server>) -> Owner {
        Owner { server }
    }

    /// The account's name.
    pub fn account(&self) -> &str {
        &self.server.account.name
    }

    /// The account's key, base64.
    pub fn key(&self) -> &str {
        &self.server.config.key
    }

    /// What goes wrong on request.
    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    /// Sets how far the server's clock is ahead of the true time (behind, if negative).
    pub fn set_clock_skew_seconds(&self, seconds: i64) {
        self.server.clock.set_skew_seconds(seconds);
    }

    /// A bearer token that holds for `seconds` (has expired, if negative).
    pub fn token(&self, seconds: i64) -> String {
        let now = self.server.clock.now();
        let expires = Ticks(now.0 + Ticks::from_seconds(seconds).0);
        let resource = "https://storage.azure.com";
        token::issue(&self.server.account, "the-owner", resource, now, expires)
    }

    /// Has all tokens that were given until now refused.
    pub fn revoke_tokens(&self) {
        self.server.account.revoke_tokens();
    }

    /// An account SAS (without `?`) with these permissions (`rwdlc`), good for `seconds` for all
    /// resource types.
    pub fn account_sas(&self, permissions: &str, seconds: i64) -> String {
        sas::issue_account(&self.server.account, permissions, &self.expiry(seconds))
    }

    /// A SAS (without `?`) of one share with these permissions (`rcwdl`), good for `seconds`.
    pub fn share_sas(&self, share: &str, permissions: &str, seconds: i64) -> String {
        sas::issue_share(&self.server.account, share, permissions, &self.expiry(seconds))
    }

    /// That many seconds from now, to the second, as tokens say it.
    fn expiry(&self, seconds: i64) -> String {
        let then = Ticks::from_seconds(self.server.clock.now().seconds() + seconds);
        format!("{}Z", &then.iso()[..19])
    }

    /// How often each call was asked for since the start or the last reset.
    pub fn counts(&self) -> BTreeMap<Operation, u64> {
        self.server.counts()
    }

    /// How often one call was asked for.
    pub fn count(&self, operation: Operation) -> u64 {
        self.counts().get(&operation).copied().unwrap_or_default()
    }

    /// The newest requests, oldest first; the oldest are forgotten beyond 10,000.
    pub fn log(&self) -> Vec<Logged> {
        self.server.log()
    }

    /// Forgets counts and log.
    pub fn reset_counts(&self) {
        self.server.reset_counts();
    }

    /// Has `act` done once, right before the next such call to a path that contains `path` is
    /// carried out: what another client does at the worst moment.
    pub fn before(
        &self,
        operation: Operation,
        path: &str,
        act: impl FnOnce(&Owner) + Send + 'static,
    ) {
        self.server.add_hook(operation, path, false, Box::new(act));
    }

    /// Has `act` done once, right after such a call was carried out and before it is answered.
    pub fn after(
        &self,
        operation: Operation,
        path: &str,
        act: impl FnOnce(&Owner) + Send + 'static,
    ) {
        self.server.add_hook(operation, path, true, Box::new(act));
    }

    /// How many connections were accepted since the start.
    pub fn connections(&self) -> u64 {
        self.server.connections()
    }

    /// Puts a stand-in for the program `az` into a directory, for `az account get-access-token`;
    /// its token holds for `seconds` from now.
    #[cfg(unix)]
    pub fn install_az(&self, dir: &std::path::Path, seconds: i64) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let now = self.server.clock.now().seconds();
        let script = entra::az_script(&self.token(seconds), Ticks::from_seconds(now + seconds));
        let program = dir.join("az");
        std::fs::write(&program, script)?;
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))
    }

    /// Writes the account to the directory it is kept in, if there is one.
    pub fn save(&self) -> io::Result<()> {
        self.server.save()
    }
}

/// What the owner does "from outside". Paths are below the share, with `/`; what a path needs is
/// made. A share that is not there is a mistake of the caller's, and panics.
impl Owner {
    fn with<T>(&self, share: &str, act: impl FnOnce(&mut Share) -> T) -> T {
        let mut store = self.server.store();
        let found = store.shares.get_mut(share);
        act(found.unwrap_or_else(|| panic!("there is no share {share}")))
    }

    /// Makes a share, if there is none of that name.
    pub fn create_share(&self, name: &str) {
        self.create_share_of(name, "SMB");
    }

    /// Makes an NFS share, if there is none of that name.
    pub fn create_nfs_share(&self, name: &str) {
        self.create_share_of(name, "NFS");
    }

    fn create_share_of(&self, name: &str, protocols: &str) {
        let mut store = self.server.store();
        let stamp = self.server.clock.stamp();
        let new = || Share::new(stamp, protocols);
        store.shares.entry(name.to_owned()).or_insert_with(new);
    }

    /// Lets a share hold so many bytes and no more; None: its quota. Puts are refused then.
    pub fn limit(&self, share: &str, bytes: Option<u64>) {
        self.with(share, |share| share.limit_bytes = bytes);
    }

    /// The names of all shares.
    pub fn shares(&self) -> Vec<String> {
        self.server.store().shares.keys().cloned().collect()
    }

    /// Makes a directory and those it is in.
    pub fn create_dir(&self, share: &str, path: &str) {
        let mut store = self.server.store();
        let stamp = self.server.clock.stamp();
        make_dirs(&mut store, share, &split(path), stamp);
    }

    /// Makes a file hold `bytes`, whole, as a client would that creates over what is there; leases
    /// and attributes are not in the way.
    pub fn write(&self, share: &str, path: &str, bytes: &[u8]) {
        let mut content = Content::zeros(bytes.len() as u64);
        let path = split(path);
        let (name, dirs) = path.split_last().expect("a file has a name");
        let mut store = self.server.store();
        let stamp = self.server.clock.stamp();
        let parent = make_dirs(&mut store, share, dirs, stamp);
        let id = store.new_id();
        let share = store.shares.get_mut(share).expect("directories were just made in it");
        content.write(0, bytes, share.epoch);
        match share.tree.child(parent, name).map(|entry| entry.id) {
            Some(old) => {
                let node = share.tree.node_mut(old);
                let file = node.file_mut().expect("a directory is not written to");
                file.content = content;
                file.generation += 1;
                node.touch(stamp);
                node.times.written = stamp;
            }
            None => {
                let data = FileData { content, ..FileData::default() };
                let file = Kind::File(Box::new(data));
                put_node(&mut share.tree, parent, name, id, file, stamp);
            }
        }
    }

    /// Puts bytes into a file as it is, as a client would that puts a range.
    pub fn write_at(&self, share: &str, path: &str, offset: u64, bytes: &[u8]) {
        let stamp = self.server.clock.stamp();
        self.with(share, |share| {
            let epoch = share.epoch;
            let id = share.tree.file(&split(path)).expect("the file is there");
            let node = share.tree.node_mut(id);
            let content = &mut node.file_mut().expect("it is a file").content;
            content.write(offset, bytes, epoch);
            node.touch(stamp);
            node.times.written = stamp;
        });
    }

    /// What a file holds; None if there is none.
    pub fn read(&self, share: &str, path: &str) -> Option<Vec<u8>> {
        self.with(share, |share| {
            let id = share.tree.file(&split(path)).ok()?;
            let content = &share.tree.node(id).file().ok()?.content;
            Some(content.read(0, content.size_bytes()).concat())
        })
    }

    /// Removes a file or a directory with all that is in it; false if there was none.
    pub fn remove(&self, share: &str, path: &str) -> bool {
        self.with(share, |share| {
            let path = split(path);
            if share.tree.resolve(&path).is_err() {
                return false;
            }
            let parent = share.tree.parent(&path).expect("what is in it was just found");
            share.tree.unlink_tree(parent, path.last().expect("a share's root stays"));
            true
        })
    }

    /// Renames a file or directory; what a file's new name was before is replaced. False if there
    /// is nothing to rename.
    pub fn rename(&self, share: &str, from: &str, to: &str) -> bool {
        let (from, to) = (split(from), split(to));
        let mut store = self.server.store();
        let stamp = self.server.clock.stamp();
        let dirs = to.split_last().map_or(&to[..], |(_, dirs)| dirs);
        let parent = make_dirs(&mut store, share, dirs, stamp);
        let share = store.shares.get_mut(share).expect("directories were just made in it");
        let Ok(id) = share.tree.resolve(&from) else { return false };
        let name = to.last().expect("the new name is not the root's");
        let there = share.tree.child(parent, name).map(|entry| entry.id);
        if there.is_some_and(|there| there != id) {
            share.tree.unlink(parent, name);
        }
        let old = share.tree.parent(&from).expect("what is in it was just found");
        share.tree.rename((old, from.last().expect("the root stays")), (parent, name));
        share.tree.node_mut(id).touch(stamp);
        true
    }

    /// What a directory holds, in the share's order; empty if there is none.
    pub fn list(&self, share: &str, dir: &str) -> Vec<Entry> {
        self.with(share, |share| {
            let tree = &share.tree;
            let Ok(dir) = tree.directory(&split(dir)) else { return Vec::new() };
            let entries = tree.entries(dir).values();
            entries.map(|entry| describe(&entry.name, tree.node(entry.id))).collect()
        })
    }

    /// All that a share holds, by path.
    pub fn walk(&self, share: &str) -> Vec<Entry> {
        self.with(share, |share| {
            let found = share.tree.walk(ROOT).into_iter();
            let mut all: Vec<Entry> =
                found.map(|(path, id)| describe(&path, share.tree.node(id))).collect();
            all.sort_by(|one, other| one.name.cmp(&other.name));
            all
        })
    }

    /// A file or directory; None if there is none.
    pub fn stat(&self, share: &str, path: &str) -> Option<Entry> {
        self.with(share, |share| {
            let path = split(path);
            let id = share.tree.resolve(&path).ok()?;
            let name = match path.split_last() {
                None => String::new(),
                Some((name, _)) => {
                    let parent = share.tree.parent(&path).ok()?;
                    share.tree.child(parent, name)?.name.clone()
                }
            };
            Some(describe(&name, share.tree.node(id)))
        })
    }

    /// Gives a file or directory attributes, `ReadOnly | Hidden` for example.
    pub fn set_attributes(&self, share: &str, path: &str, attributes: &str) {
        let attributes = Attributes::parse(attributes).expect("the attributes are known ones");
        let stamp = self.server.clock.stamp();
        self.with(share, |share| {
            let id = share.tree.resolve(&split(path)).expect("the file is there");
            let node = share.tree.node_mut(id);
            node.attributes = attributes;
            node.touch(stamp);
        });
    }

    /// Takes a snapshot; its id.
    pub fn snapshot(&self, share: &str) -> String {
        let now = self.server.clock.now();
        self.with(share, |share| share.take_snapshot(now, BTreeMap::new()))
    }

    /// Ends all copies that are pending (`Config::copies_pending`): each file has its bytes then.
    pub fn finish_copies(&self) {
        let mut store = self.server.store();
        for share in store.shares.values_mut() {
            for id in share.tree.ids() {
                let stamp = self.server.clock.stamp();
                share.tree.node_mut(id).finish_copy(stamp);
            }
        }
    }

    /// Leases a file as another client would; the lease's id.
    pub fn lease(&self, share: &str, path: &str) -> Option<String> {
        self.with_lease(share, path, |lease| lease.acquire(None, crypto::guid()))
    }

    /// Breaks a file's lease; false if there was none.
    pub fn break_lease(&self, share: &str, path: &str) -> bool {
        self.with_lease(share, path, FileLease::break_now).is_some()
    }

    fn with_lease<T>(
        &self,
        share: &str,
        path: &str,
        act: impl FnOnce(&mut FileLease) -> Result<T>,
    ) -> Option<T> {
        self.with(share, |share| {
            let id = share.tree.file(&split(path)).ok()?;
            act(&mut share.tree.node_mut(id).lease).ok()
        })
    }

    /// Opens a file or directory as an SMB client would; the handle's number.
    pub fn open_handle(&self, share: &str, path: &str, sharing: Sharing) -> u64 {
        let opened = self.server.clock.now();
        self.with(share, |share| {
            let node = share.tree.resolve(&split(path)).expect("the file is there");
            let id = share.handles.iter().map(|handle| handle.id).max().unwrap_or(0) + 1;
            let path = split(path).join("/");
            let Sharing { write: shares_write, delete: shares_delete } = sharing;
            share.handles.push(Handle { id, node, path, opened, shares_write, shares_delete });
            id
        })
    }

    /// Closes a handle; false if it was closed before.
    pub fn close_handle(&self, share: &str, id: u64) -> bool {
        self.with(share, |share| {
            let before = share.handles.len();
            share.handles.retain(|handle| handle.id != id);
            share.handles.len() < before
        })
    }
}

fn split(path: &str) -> Vec<String> {
    path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn put_node(tree: &mut Tree, parent: u64, name: &str, id: u64, kind: Kind, stamp: Ticks) {
    let attributes = match kind {
        Kind::Directory(_) => Attributes::DIRECTORY,
        _ => Attributes::ARCHIVE,
    };
    let permission_key = tree.node(parent).permission_key.clone();
    let node = Node::new(id, parent, kind, attributes, stamp);
    tree.put(Node { permission_key, ..node });
    tree.link(parent, name, id);
}

/// The last of `path`'s directories, all of which are made if they are not there.
fn make_dirs(store: &mut Store, share: &str, path: &[String], stamp: Ticks) -> u64 {
    let mut dir = ROOT;
    for name in path {
        let new = store.new_id();
        let found = store.shares.get_mut(share);
        let tree = &mut found.unwrap_or_else(|| panic!("there is no share {share}")).tree;
        dir = match tree.child(dir, name).map(|entry| entry.id) {
            Some(id) => id,
            None => {
                put_node(tree, dir, name, new, Kind::Directory(BTreeMap::new()), stamp);
                new
            }
        };
    }
    assert!(store.shares.contains_key(share), "there is no share {share}");
    dir
}

fn describe(name: &str, node: &Node) -> Entry {
    let lease = match &node.lease {
        FileLease::Available => LeaseState::Available,
        FileLease::Leased(id) => LeaseState::Leased(id.clone()),
        FileLease::Broken(_) => LeaseState::Broken,
    };
    Entry {
        name: name.to_owned(),
        is_directory: node.is_directory(),
        size_bytes: node.size_bytes(),
        file_id: node.id,
        etag: format!("\"{}\"", node.stamp.etag()),
        attributes: node.attributes.text(),
        created_ticks: node.times.created.0,
        written_ticks: node.times.written.0,
        changed_ticks: node.times.changed.0,
        metadata: node.metadata.clone(),
        lease,
    }
}
