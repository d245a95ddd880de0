//! An SMB 3 share.
//!
//! - Requests that belong together go in one packet: opening, asking and closing take one round
//!   trip (`wire`). Bytes go in parts, several at a time (`read`, `write`).
//! - Nothing on the share is overwritten or deleted unless it was compared by an open file that
//!   keeps everybody else from changing it (`place`, X4).
//! - "Not found" is believed with a witness: volume and root directory (`look`, X1).
//! - A broken connection is made anew by the next request (`session`). A change whose answer was
//!   lost is asked for by the file's number where that tells; else the outcome is told as unknown.
//! - What others change the server tells over a connection of its own (`watch`, X7).
//! - A future that is dropped leaves nothing open on the server.

mod change;
mod copy;
mod dial;
mod extended;
mod facts;
mod fail;
#[cfg(windows)]
pub mod folder;
mod keep;
mod list;
mod look;
mod mfsymlink;
mod name;
mod packets;
mod place;
mod read;
mod session;
mod snapshots;
mod socket;
mod ticket;
mod tree;
mod watch;
mod wire;
mod write;

pub use facts::Defaults;
pub use snapshots::Snapshot;
pub use ticket::Ticket;

use crate::{
    Attrs, ByteStream, Change, ChangeStream, Error, ErrorKind, Expect, Limits, Metadata, NameRule,
    Page, PageToken, Remote, RemotePath, Result, ShareIdentity, Source, Usage, Version, XattrRule,
};
use async_trait::async_trait;
use bytes::Bytes;
use change::Rename;
use fail::{Fail, Outcome};
use list::Rest;
use session::{Scope, Session};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use write::Stop;

/// Entries of a page: a directory is read whole, and handed out in pages.
const PAGE_ENTRIES: usize = 5000;

/// What Windows and Samba take.
const COPIED_BYTES: u64 = 16 << 20;

/// Who logs in. An empty name is a guest.
#[derive(Clone, Default)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The domain, where the server has such.
    pub domain: String,
    /// The password.
    pub password: String,
    /// Used instead of the password. The user's name may be empty then.
    pub ticket: Option<Ticket>,
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Login")
            .field("user", &self.user)
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// When requests are encrypted; signed they are always.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Encrypt {
    /// Where the server can.
    #[default]
    Auto,
    /// Or not at all: a server that cannot is refused.
    Required,
    /// Never: a share that wants it is refused.
    Off,
}

/// How the server is spoken to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spoken {
    /// "SMB 3.1.1".
    pub dialect: String,
    /// What signs requests that are not encrypted.
    pub signing: &'static str,
    /// What encrypts them, if anything does.
    pub cipher: Option<&'static str>,
}

/// Which share, and how it is looked at.
#[derive(Clone, Debug)]
pub struct SmbConfig {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The share's name.
    pub share: String,
    /// The directory of it that is the root.
    pub dir: RemotePath,
    /// Who logs in.
    pub login: Login,
    /// Owner and mode of all entries.
    pub defaults: Defaults,
    /// The identity that it must have (X1); `None`: the first one seen.
    pub known: Option<ShareIdentity>,
    /// When to encrypt.
    pub encrypt: Encrypt,
    /// Whether nothing is to be changed there, not even for good order.
    pub read_only: bool,
    /// The state of the share that is meant, where it is not the present one.
    pub snapshot: Option<Snapshot>,
    /// Entries of a page.
    pub page_entries: usize,
    /// Bytes that the server is asked to copy by itself at a time, until it says that it takes fewer.
    pub copied_bytes: u64,
}

impl SmbConfig {
    /// A whole share, any of that name.
    pub fn new(host: &str, share: &str, login: Login) -> SmbConfig {
        SmbConfig {
            host: host.into(),
            port: 445,
            share: share.into(),
            dir: RemotePath::root(),
            login,
            defaults: Defaults::default(),
            known: None,
            encrypt: Encrypt::Auto,
            read_only: false,
            snapshot: None,
            page_entries: PAGE_ENTRIES,
            copied_bytes: COPIED_BYTES,
        }
    }
}

/// An SMB 3 share, or a directory of one.
pub struct SmbRemote {
    /// By what the last connection found: names counted in bytes, nothing to be changed, extended
    /// attributes.
    limits: [[[Limits; 2]; 2]; 2],
    page_entries: usize,
    session: Arc<Session>,
}

impl SmbRemote {
    /// The way to a share; nothing is asked yet.
    pub fn new(config: SmbConfig) -> SmbRemote {
        let page_entries = config.page_entries.max(1);
        let session = Session::new(Scope::of(&config), Box::new(config));
        SmbRemote::of(session, page_entries, read::FILES_AT_ONCE)
    }

    fn of(session: Session, page_entries: usize, whole_files: usize) -> SmbRemote {
        let limits = Limits {
            part_bytes: write::PART_BYTES,
            page_entries,
            names: NameRule::Mapped,
            name_bytes_max: name::NAME_BYTES_MAX,
            path_max: None,
            case_sensitive: false,
            has_modes: false,
            has_symlinks: true,
            xattrs: XattrRule::None,
            exchange: true,
            quick_stat: false,
            whole_files,
            read_only: false,
        };
        let narrow = Limits { name_bytes_max: name::NARROW_BYTES_MAX, ..limits.clone() };
        let limits = [limits, narrow].map(|limits| {
            [false, true].map(|read_only| {
                [XattrRule::None, XattrRule::Windows].map(|xattrs| Limits {
                    read_only,
                    xattrs,
                    ..limits.clone()
                })
            })
        });
        if whole_files == 1 {
            session.read_apart.store(read::APART_MAX, Ordering::Relaxed);
        }
        SmbRemote { limits, page_entries, session: Arc::new(session) }
    }

    /// The states of a share that the server keeps, oldest first.
    pub async fn snapshots(config: SmbConfig) -> Result<Vec<Snapshot>> {
        let session = Arc::new(Session::new(Scope::of(&config), Box::new(config)));
        let listed = snapshots::list(&session).await;
        listed.map_err(|fail| fail.into_error("snapshots", &RemotePath::root()))
    }

    async fn check_writable(&self, op: &'static str, path: &RemotePath) -> Result<()> {
        let checked = self.session.check_writable().await;
        checked.map_err(|fail| fail.into_error(op, path))
    }

    /// How the server is spoken to, or was last.
    pub fn spoken(&self) -> Option<Spoken> {
        self.session.spoken()
    }
}

/// Runs a change to its end, whoever asked for it: it has steps that must not be left half done.
async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Outcome<T>> + Send + 'static,
) -> Outcome<T> {
    match tokio::spawn(change).await {
        Ok(done) => done,
        Err(error) => Err(Fail::saying(ErrorKind::Io, error.to_string())),
    }
}

#[async_trait]
impl Remote for SmbRemote {
    fn limits(&self) -> &Limits {
        let session = &self.session;
        let limits = &self.limits[usize::from(session.is_narrow())];
        &limits[usize::from(session.is_read_only())][usize::from(session.has_xattrs())]
    }

    fn introduce(&self, _cache_id: &str) {}

    async fn identity(&self) -> Result<ShareIdentity> {
        let asked = async {
            let link = self.session.link().await?;
            look::identity(&link, &self.session.scope.dir).await
        };
        asked.await.map_err(|fail| fail.into_error("identity", &RemotePath::root()))
    }

    async fn stat(&self, path: &RemotePath) -> Result<Metadata> {
        let asked = async {
            let link = self.session.link().await?;
            let seen = self.session.look(&link, path).await?;
            Ok(self.session.metadata(&link, &seen))
        };
        asked.await.map_err(|fail: Fail| fail.into_error("stat", path))
    }

    async fn stat_with_xattrs(&self, path: &RemotePath) -> Result<Metadata> {
        let asked = async {
            let link = self.session.link().await?;
            self.session.look_whole(&link, path).await
        };
        asked.await.map_err(|fail: Fail| fail.into_error("stat", path))
    }

    async fn list(&self, dir: &RemotePath, after: Option<PageToken>) -> Result<Page> {
        let mut rest = match &after {
            Some(PageToken(token)) => token
                .downcast_ref::<Rest>()
                .cloned()
                .ok_or_else(|| Error::new(ErrorKind::Protocol, "list", dir))?,
            None => {
                let asked = async {
                    let link = self.session.link().await?;
                    self.session.entries(&link, dir).await
                };
                asked.await.map_err(|fail: Fail| fail.into_error("list", dir))?
            }
        };
        let end = rest.entries.len().min(rest.at + self.page_entries);
        let entries = rest.entries[rest.at..end].to_vec();
        rest.at = end;
        let one_moment = rest.one_moment;
        let next = (end < rest.entries.len()).then(|| PageToken(Arc::new(rest)));
        Ok(Page { entries, next, one_moment })
    }

    async fn read(
        &self,
        path: &RemotePath,
        range: Range<u64>,
        version: &Version,
    ) -> Result<ByteStream> {
        let opened = read::read(&self.session, path, range, version).await;
        opened.map_err(|fail| fail.into_error("read", path))
    }

    async fn read_whole(&self, files: &[(RemotePath, Version)]) -> Vec<Result<Bytes>> {
        let read = read::read_whole(&self.session, files).await.into_iter().zip(files);
        read.map(|(read, (path, _))| read.map_err(|fail| fail.into_error("read", path))).collect()
    }

    async fn replace(
        &self,
        path: &RemotePath,
        source: Arc<dyn Source>,
        expect: Expect,
        temp: &[u8],
    ) -> Result<Metadata> {
        self.check_writable("replace", path).await?;
        let sent = write::replace(&self.session, path, &*source, expect, temp).await;
        sent.map_err(|stop| match stop {
            Stop::Source(error) => error,
            Stop::Fail(fail) => fail.into_error("replace", path),
        })
    }

    async fn rename(
        &self,
        from: &RemotePath,
        version: &Version,
        to: &RemotePath,
        expect: Expect,
    ) -> Result<Metadata> {
        self.check_writable("rename", from).await?;
        let wanted = Rename { from: from.clone(), version: *version, to: to.clone(), expect };
        let renamed = to_its_end(change::rename(self.session.clone(), wanted)).await;
        renamed.map_err(|fail| fail.into_error("rename", from))
    }

    async fn remove(&self, path: &RemotePath, expect: Expect) -> Result<()> {
        self.check_writable("remove", path).await?;
        let removed = to_its_end(change::remove(self.session.clone(), path.clone(), expect)).await;
        removed.map_err(|fail| fail.into_error("remove", path))
    }

    async fn set_attrs(
        &self,
        path: &RemotePath,
        version: &Version,
        attrs: &Attrs,
    ) -> Result<Metadata> {
        self.check_writable("set_attrs", path).await?;
        let set = change::set_attrs(&self.session, path, version, attrs).await;
        set.map_err(|fail| fail.into_error("set_attrs", path))
    }

    async fn create_dir(&self, path: &RemotePath, attrs: &Attrs) -> Result<Metadata> {
        self.check_writable("create_dir", path).await?;
        let made = change::create_dir(&self.session, path, attrs).await;
        made.map_err(|fail| fail.into_error("create_dir", path))
    }

    async fn symlink(&self, path: &RemotePath, target: &[u8], attrs: &Attrs) -> Result<Metadata> {
        self.check_writable("symlink", path).await?;
        let made = change::symlink(&self.session, path, target, attrs).await;
        made.map_err(|fail| fail.into_error("symlink", path))
    }

    async fn unlock(&self, path: &RemotePath) -> Result<bool> {
        Err(Error::new(ErrorKind::Unsupported, "unlock", path))
    }

    async fn usage(&self) -> Result<Usage> {
        let asked = async {
            let link = self.session.link().await?;
            self.session.space(&link).await
        };
        asked.await.map_err(|fail: Fail| fail.into_error("usage", &RemotePath::root()))
    }

    async fn watch(&self) -> Result<Option<ChangeStream>> {
        if self.session.scope.is_past {
            // Nothing changes there.
            return Ok(None);
        }
        let armed = watch::watch(&self.session).await;
        armed.map_err(|fail| fail.into_error("watch", &RemotePath::root()))
    }
}

/// Reads any bytes as each kind of answer; for fuzzing.
pub(crate) fn read_any_answer(bytes: &[u8]) {
    if let Ok(facts) = facts::Facts::parse(bytes) {
        let _ = (facts.metadata(None, &Defaults::default(), 0), facts.is_marked());
    }
    for change in watch::parse(bytes).unwrap_or_default() {
        let Change::At(path) = change else { continue };
        path.names().for_each(|name| assert!(RemotePath::is_name(name), "{path:?}"));
    }
    for name in list::names(bytes) {
        assert!(RemotePath::is_name(&name), "{name:?}");
    }
    let _ = (snapshots::parse(bytes).is_ok(), extended::parse(bytes).is_ok());
    if let Some(target) = mfsymlink::parse(bytes) {
        assert!(mfsymlink::file(&target).is_ok_and(|file| mfsymlink::parse(&file) == Some(target)));
    }
}

/// Reads any bytes as a name, here and there; for fuzzing.
pub(crate) fn read_any_name(bytes: &[u8]) {
    if let Ok(wire) = name::name_to_wire(bytes) {
        assert_eq!(name::from_wire(&wire), bytes, "{wire:?}");
    }
    let _ = name::from_wire(&String::from_utf8_lossy(bytes));
}
