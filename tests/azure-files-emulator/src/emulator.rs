//! A running server, and what its owner may do to the account without asking over HTTP.

use crate::auth::{sas, token};
use crate::config::Config;
use crate::content::Content;
use crate::crypto;
use crate::error::Result;
use crate::faults::Faults;
use crate::operation::Operation;
use crate::serve;
use crate::server::{Logged, Server};
use crate::store::{Attributes, FileData, FileLease, Handle, Kind, Node, ROOT, Share, Store, Tree};
use crate::time::Ticks;
use crate::tls::Tls;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle as RuntimeHandle, Runtime};

/// How long a server that is dropped waits for its connections.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// How often what changed is written to the disk, if there is one.
const SAVE_EVERY: Duration = Duration::from_secs(2);

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

/// A server on the loopback, with a thread pool of its own. It stops when it is dropped.
pub struct Emulator {
    server: Arc<Server>,
    runtime: Option<Runtime>,
    address: SocketAddr,
    plain: SocketAddr,
    authority_pem: Option<String>,
}

impl Emulator {
    /// Starts a server. With TLS there is a plain port besides, for the machine identity.
    pub fn start(config: Config) -> io::Result<Emulator> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("azure-files-emulator")
            .enable_all()
            .build()?;
        let tls = if config.tls { Some(Tls::new()?) } else { None };
        let listen = config.listen;
        let server = Arc::new(Server::new(config)?);
        // Bound here, so that requests can be sent as soon as this returns.
        let bind = |address| -> io::Result<(TcpListener, SocketAddr)> {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let _entered = runtime.enter();
            Ok((TcpListener::from_std(listener)?, address))
        };
        let (listener, address) = bind(listen)?;
        let (acceptor, authority_pem) = match tls {
            Some(tls) => (Some(tls.acceptor), Some(tls.authority_pem)),
            None => (None, None),
        };
        let mut plain = address;
        if acceptor.is_some() {
            let (listener, address) = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            plain = address;
            runtime.spawn(serve::accept(listener, None, Arc::clone(&server)));
        }
        runtime.spawn(serve::accept(listener, acceptor, Arc::clone(&server)));
        if server.is_kept() {
            runtime.spawn(save_now_and_then(Arc::clone(&server)));
        }
        Ok(Emulator { server, runtime: Some(runtime), address, plain, authority_pem })
    }

    /// The account's name.
    pub fn account(&self) -> &str {
        &self.server.account.name
    }

    /// The account's key, base64.
    pub fn key(&self) -> &str {
        &self.server.config.key
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn scheme(&self) -> &'static str {
        if self.authority_pem.is_some() { "https" } else { "http" }
    }

    /// The account's address, path style, without a slash at the end.
    pub fn endpoint(&self) -> String {
        format!("{}/{}", self.origin(), self.account())
    }

    /// The same server without TLS. Bearer tokens are refused there.
    pub fn plain_endpoint(&self) -> String {
        format!("http://{}/{}", self.plain, self.account())
    }

    fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.address)
    }

    /// What `AZURE_AUTHORITY_HOST` is to be.
    pub fn authority_host(&self) -> String {
        self.origin()
    }

    /// What `AZURE_POD_IDENTITY_AUTHORITY_HOST` is to be: where the machine identity's endpoint
    /// is; plain HTTP, as on a real machine.
    pub fn imds_host(&self) -> String {
        format!("http://{}", self.plain)
    }

    /// What `AZURE_STORAGE_CONNECTION_STRING` is to be.
    pub fn connection_string(&self) -> String {
        format!(
            "DefaultEndpointsProtocol={};AccountName={};AccountKey={};FileEndpoint={};",
            self.scheme(),
            self.account(),
            self.key(),
            self.endpoint()
        )
    }

    /// The certificate that clients must trust, PEM; None without TLS.
    pub fn authority_pem(&self) -> Option<&str> {
        self.authority_pem.as_deref()
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

    /// An account SAS (without `?`) with these permissions (`rwdlc`), good for `seconds` for all
    /// resource types.
    pub fn account_sas(&self, permissions: &str, seconds: i64) -> String {
        sas::issue_account(&self.server.account, permissions, &self.after(seconds))
    }

    /// A SAS (without `?`) of one share with these permissions (`rcwdl`), good for `seconds`.
    pub fn share_sas(&self, share: &str, permissions: &str, seconds: i64) -> String {
        sas::issue_share(&self.server.account, share, permissions, &self.after(seconds))
    }

    /// That many seconds from now, to the second, as tokens say it.
    fn after(&self, seconds: i64) -> String {
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

    /// Serves until the process is told to stop; what changed is on the disk then.
    pub fn run_until_signal(&self) -> io::Result<()> {
        let runtime = self.runtime.as_ref().expect("a server that was not dropped runs");
        runtime.block_on(told_to_stop())?;
        self.save()
    }

    /// Writes the account to the directory it is kept in, if there is one.
    pub fn save(&self) -> io::Result<()> {
        self.server.save()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // Waiting is not possible where others are polled on this thread.
        match RuntimeHandle::try_current() {
            Ok(_) => runtime.shutdown_background(),
            Err(_) => runtime.shutdown_timeout(STOP_WAIT),
        }
        if let Err(error) = self.save() {
            eprintln!("azure-files-emulator: the account was not saved: {error}");
        }
    }
}

/// Saves a while after something changed, so that little is lost if the server is killed.
async fn save_now_and_then(server: Arc<Server>) {
    let mut saved = server.changes();
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        let changes = server.changes();
        if changes == saved {
            continue;
        }
        let saving = Arc::clone(&server);
        match tokio::task::spawn_blocking(move || saving.save()).await {
            Ok(Ok(())) => saved = changes,
            // It is tried again, and said each time: somebody counts on it.
            Ok(Err(error)) => eprintln!("azure-files-emulator: the account was not saved: {error}"),
            Err(_) => return,
        }
    }
}

#[cfg(unix)]
async fn told_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn told_to_stop() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// What the owner does "from outside". Paths are below the share, with `/`; what a path needs is
/// made. A share that is not there is a mistake of the caller's, and panics.
impl Emulator {
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
            let Ok(id) = share.tree.resolve(&path) else { return false };
            if share.tree.node(id).is_directory() {
                let below = share.tree.walk(id);
                for (_, id) in &below {
                    share.tree.forget(*id);
                }
            }
            let parent = share.tree.parent(&path).expect("what is in it was just found");
            share.tree.unlink(parent, path.last().expect("a share's root stays"));
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
