//! An Azure file share over its REST interface, port 443.
//!
//! - The service has no conditional requests. What a change must not lose is leased, compared and
//!   then changed (`lease`, X3); a new name is taken by a rename that refuses a taken one.
//! - A change whose answer was lost is asked for by the file's number, which no other file gets
//!   (`write`, `moving`); what cannot be asked so is left to the caller as an unknown outcome.
//! - "Not found" is believed with a witness: the root directory's number (`share`, X1).
//! - One request is made in `http`, repeated through `Attempts`; a future that is dropped leaves
//!   at most what its last request did: leases and temporary files of it are taken back by a task.

mod account;
mod auth;
mod change;
mod entra;
mod facts;
mod fail;
mod http;
mod lease;
mod listing;
mod moving;
mod name;
mod posix;
mod read;
mod share;
mod snapshots;
mod time;
mod url;
mod write;
mod xml;

pub use account::Account;
pub use entra::{AUTHORITY, Entra, Identity, MACHINE};
pub use posix::Defaults;

use crate::{
    Attrs, ByteStream, ChangeStream, Error, ErrorKind, Expect, Limits, Metadata, NameRule, Page,
    PageToken, Remote, RemotePath, Result, ShareIdentity, Source, Usage, Version, XattrRule,
};
use async_trait::async_trait;
use facts::{Facts, Shape};
use http::Http;
use posix::Posix;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use share::Share;
use std::ops::Range;
use std::sync::Arc;

/// The most entries that the service puts on a page.
const PAGE_ENTRIES: usize = 5000;

/// Which share, and how it is looked at.
#[derive(Clone, Debug)]
pub struct AzureConfig {
    /// The storage account.
    pub account: Account,
    /// The share's name.
    pub share: String,
    /// The directory of it that is the root.
    pub dir: RemotePath,
    /// Owner and mode of what says nothing of them.
    pub defaults: Defaults,
    /// The identity that it must have (X1); `None`: the first one seen.
    pub known: Option<ShareIdentity>,
    /// Entries of a page, at most 5000.
    pub page_entries: usize,
    /// Only this state of the share is looked at, and nothing changed.
    pub snapshot: Option<String>,
}

impl AzureConfig {
    /// A whole share, any of that name.
    pub fn new(account: Account, share: &str) -> AzureConfig {
        AzureConfig {
            account,
            share: share.into(),
            dir: RemotePath::root(),
            defaults: Defaults::default(),
            known: None,
            page_entries: PAGE_ENTRIES,
            snapshot: None,
        }
    }
}

/// An Azure file share, or a directory of one.
pub struct AzureRemote {
    limits: Limits,
    share: Arc<Share>,
}

impl AzureRemote {
    /// The way to a share; nothing is asked yet.
    pub fn new(config: AzureConfig) -> Result<AzureRemote> {
        let AzureConfig { account, share, dir, defaults, known, page_entries, snapshot } = config;
        let page_entries = page_entries.clamp(1, PAGE_ENTRIES);
        let limits = Limits {
            part_bytes: write::PART_BYTES,
            page_entries,
            names: NameRule::Windows,
            name_bytes_max: name::NAME_BYTES_MAX,
            path_max: Some(name::path_max(&dir)),
            case_sensitive: false,
            has_modes: true,
            has_symlinks: true,
            xattrs: XattrRule::None,
            exchange: true,
            quick_stat: false,
            whole_files: 1,
            read_only: snapshot.is_some() || !account.may_write(),
        };
        let http = Http::new(account, &share, &dir, snapshot)?;
        let share = Share::new(http, (share, dir), defaults, page_entries, known);
        Ok(AzureRemote { limits, share: Arc::new(share) })
    }

    /// The ids of a share's snapshots, oldest first. `NotFound`: there is no such share.
    pub async fn snapshots(account: Account, share: &str) -> Result<Vec<String>> {
        snapshots::list(account, share).await
    }

    /// Refuses a change of what can't change, or not by this login.
    fn check_writable(&self, op: &'static str, path: &RemotePath) -> Result<()> {
        match self.limits.read_only {
            true => Err(Error::new(ErrorKind::ReadOnly, op, path)),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Remote for AzureRemote {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn introduce(&self, cache_id: &str) {
        self.share.owner.is(cache_id);
    }

    async fn identity(&self) -> Result<ShareIdentity> {
        self.share.identity().await
    }

    async fn stat(&self, path: &RemotePath) -> Result<Metadata> {
        let facts = self.share.look("stat", path).await?;
        if facts.is_leased && !self.limits.read_only {
            self.share.let_go(path, &facts).await;
        }
        Ok(self.share.metadata(&facts))
    }

    async fn list(&self, dir: &RemotePath, after: Option<PageToken>) -> Result<Page> {
        self.share.list(dir, after).await
    }

    async fn read(
        &self,
        path: &RemotePath,
        range: Range<u64>,
        version: &Version,
    ) -> Result<ByteStream> {
        read::read(&self.share, path, range, version).await
    }

    async fn replace(
        &self,
        path: &RemotePath,
        source: Arc<dyn Source>,
        expect: Expect,
        temp: &[u8],
    ) -> Result<Metadata> {
        self.check_writable("replace", path)?;
        write::replace(&self.share, path, &*source, expect, temp).await
    }

    async fn rename(
        &self,
        from: &RemotePath,
        version: &Version,
        to: &RemotePath,
        expect: Expect,
    ) -> Result<Metadata> {
        self.check_writable("rename", from)?;
        moving::rename(&self.share, from, version, to, expect).await
    }

    async fn remove(&self, path: &RemotePath, expect: Expect) -> Result<()> {
        self.check_writable("remove", path)?;
        change::remove(&self.share, path, expect).await
    }

    async fn set_attrs(
        &self,
        path: &RemotePath,
        version: &Version,
        attrs: &Attrs,
    ) -> Result<Metadata> {
        self.check_writable("set_attrs", path)?;
        change::set_attrs(&self.share, path, version, attrs).await
    }

    async fn create_dir(&self, path: &RemotePath, attrs: &Attrs) -> Result<Metadata> {
        self.check_writable("create_dir", path)?;
        change::create_dir(&self.share, path, attrs).await
    }

    async fn symlink(&self, path: &RemotePath, target: &[u8], attrs: &Attrs) -> Result<Metadata> {
        self.check_writable("symlink", path)?;
        change::symlink(&self.share, path, target, attrs).await
    }

    async fn unlock(&self, path: &RemotePath) -> Result<bool> {
        self.check_writable("unlock", path)?;
        lease::break_foreign(&self.share, path).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.share.usage().await
    }

    async fn watch(&self) -> Result<Option<ChangeStream>> {
        // The service tells of changes by SMB alone.
        Ok(None)
    }
}

/// Reads any bytes as each kind of answer's body; for fuzzing.
pub(crate) fn read_any_body(bytes: &[u8]) {
    for (name, facts) in listing::parse(bytes, None).unwrap_or_default().entries {
        assert!(RemotePath::is_name(&name), "{name:?}");
        let _ = (facts.version(), facts.is_young());
    }
    let _ = (snapshots::parse(bytes), entra::parse(bytes));
    let _ = xml::number(bytes, "ShareUsageBytes");
}

/// Reads any text as each kind of header; for fuzzing.
pub(crate) fn read_any_header(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(time) = time::parse_iso(text) {
        assert_eq!(time::parse_iso(&time::iso(time)), Some(time::rounded(time)), "{text}");
    }
    let _ = (time::parse_http(text), facts::etag(text), facts::attributes(text));
    // A line for each header.
    let headers = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((HeaderName::try_from(name).ok()?, HeaderValue::from_str(value.trim()).ok()?))
    });
    let headers: HeaderMap = headers.collect();
    for shape in [Shape::File, Shape::Dir] {
        let Some(facts) = Facts::of_headers(&headers, shape, u64::MAX) else { continue };
        let metadata = Posix::of(&facts).metadata(&facts, &Defaults::default());
        assert!(metadata.version.same_object(&facts.version()));
        let _ = facts.is_young();
    }
}

/// Reads any text as what says who we are: a connection string, a signature, a key; for fuzzing.
pub(crate) fn read_any_login(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let logins = [
        Account::from_connection_string(text),
        Account::with_sas("account", text),
        Account::with_key("account", text),
    ];
    for login in logins.into_iter().flatten() {
        let endpoint = login.endpoint().to_ascii_lowercase();
        assert!(endpoint.starts_with("http"), "{login:?}");
    }
}
