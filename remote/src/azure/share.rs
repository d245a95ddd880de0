//! What is asked of the share: one entry, a page of a directory, which share it is, how full.
//!
//! The service knows files and directories by different calls, so an entry is asked for as a file
//! first. That nothing is there is believed only while the root is still the one that we know
//! (X1): a directory that was mounted and then moved away answers "not found" to everything.

use super::facts::{Facts, Shape};
use super::fail::{self, Code};
use super::http::{Answer, Call, Http, Scope};
use super::lease::{Owner, Turns};
use super::listing::{self, Listing};
use super::name;
use super::posix::{self, Defaults, Posix};
use crate::{
    Error, ErrorKind, Existence, Metadata, Page, PageToken, RemotePath, Result, ShareIdentity,
    Timestamp, Usage,
};
use futures_util::StreamExt;
use reqwest::Method;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Entries of one page that are asked for one by one at a time.
const LOOKS_AT_ONCE: usize = 16;

/// States of entries whose metadata is kept at hand; then all are forgotten.
const POSIX_MAX: usize = 64 << 10;

/// Said of a share whose size this login may not ask for: the largest that there is, in GiB.
const QUOTA_UNKNOWN: u64 = 100 << 10;

/// A directory of a share, and everything that is needed to ask for what is in it.
pub(super) struct Share {
    pub(super) http: Http,
    name: String,
    /// What is shown as the root, below the share's own.
    pub(super) root: RemotePath,
    pub(super) defaults: Defaults,
    /// Entries of a page.
    page_entries: usize,
    known: Option<ShareIdentity>,
    root_id: OnceLock<u64>,
    posix: Mutex<HashMap<(u64, u128), Posix>>,
    pub(super) owner: Owner,
    pub(super) turns: Turns,
    /// Whether the service copies parts of files by itself, as far as is known.
    pub(super) copies: AtomicBool,
}

/// Where the next page begins.
struct Marker(String);

impl Share {
    pub(super) fn new(
        http: Http,
        (name, root): (String, RemotePath),
        defaults: Defaults,
        page_entries: usize,
        known: Option<ShareIdentity>,
    ) -> Share {
        Share {
            http,
            name,
            root,
            defaults,
            page_entries,
            known,
            root_id: OnceLock::new(),
            posix: Mutex::new(HashMap::new()),
            owner: Owner::default(),
            turns: Turns::default(),
            copies: AtomicBool::new(true),
        }
    }

    /// Which share it is: its name, and the number of the directory that is our root.
    pub(super) async fn identity(&self) -> Result<ShareIdentity> {
        let root = RemotePath::root();
        let facts = self.dir("identity", &root).await.map_err(root_is_away)?;
        // What is found may be another one than before: that is for the caller to see.
        let _ = self.check_root("identity", &root, facts.file_id);
        Ok(self.identity_of(facts.file_id))
    }

    fn identity_of(&self, root_id: u64) -> ShareIdentity {
        let account = self.http.account.name();
        let mut text = format!("azfiles:{account}/{}:{root_id}", self.name);
        if let Some(snapshot) = &self.http.snapshot {
            text.push_str(&format!("@{snapshot}"));
        }
        ShareIdentity(text)
    }

    /// Whether the root is the one that the cache was made for, or else the first one seen.
    fn check_root(&self, op: &'static str, path: &RemotePath, root_id: u64) -> Result<()> {
        let is_known = match &self.known {
            Some(known) => *known == self.identity_of(root_id),
            None => *self.root_id.get_or_init(|| root_id) == root_id,
        };
        if is_known {
            return Ok(());
        }
        let error = Error::new(ErrorKind::IdentityChanged, op, path);
        Err(error.caused_by("another directory stands at the root's path"))
    }

    async fn verify_root(&self, op: &'static str, path: &RemotePath) -> Result<()> {
        let found = self.dir(op, &RemotePath::root()).await.map_err(root_is_away)?;
        self.check_root(op, path, found.file_id)
    }

    /// An entry known to be a file, or an error that may say that it is none.
    pub(super) async fn file(&self, op: &'static str, path: &RemotePath) -> Result<Facts> {
        let answer = self.http.ask(&Call::new(Method::HEAD, Scope::File, op, path)).await?;
        let length = answer.headers.get("content-length").and_then(|text| text.to_str().ok());
        let size = length.and_then(|text| text.parse().ok());
        let facts = size.and_then(|size| Facts::of_headers(&answer.headers, Shape::File, size));
        let facts = facts.ok_or_else(|| no_sense(op, path))?;
        self.remember(&facts);
        Ok(facts)
    }

    /// The same of a directory.
    pub(super) async fn dir(&self, op: &'static str, path: &RemotePath) -> Result<Facts> {
        let answer = self.http.ask(&Call::new(Method::HEAD, Scope::Dir, op, path)).await?;
        Facts::of_headers(&answer.headers, Shape::Dir, 0).ok_or_else(|| no_sense(op, path))
    }

    /// Whatever has this name.
    pub(super) async fn look(&self, op: &'static str, path: &RemotePath) -> Result<Facts> {
        name::look(op, &self.root, path)?;
        if path.is_root() {
            let facts = self.dir(op, path).await.map_err(root_is_away)?;
            self.check_root(op, path, facts.file_id)?;
            return Ok(facts);
        }
        match self.file(op, path).await {
            Err(error) if is_no_file(&error) => {}
            found => return self.witnessed(path, found).await,
        }
        let found = self.dir(op, path).await;
        self.witnessed(path, found).await
    }

    /// The same; `None` where nothing has it.
    pub(super) async fn look_if_any(
        &self,
        op: &'static str,
        path: &RemotePath,
    ) -> Result<Option<Facts>> {
        match self.look(op, path).await {
            Ok(facts) => Ok(Some(facts)),
            Err(error) if error.kind.existence() == Existence::Gone => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The answer; of one that says that nothing is there, what is really the matter.
    pub(super) async fn witnessed<T>(&self, path: &RemotePath, answer: Result<T>) -> Result<T> {
        match answer {
            Err(error) => Err(self.why(path, error).await),
            answer => answer,
        }
    }

    /// What an error about this path really says: "not found" only with a witness.
    pub(super) async fn why(&self, path: &RemotePath, error: Error) -> Error {
        let error = Error { path: path.clone(), ..error };
        match is_gone(&error) || is_other_shape(&error) {
            true => self.missing(path, error).await.unwrap_or_else(|unknown| unknown),
            false => error,
        }
    }

    /// Why `error` came: the root is not ours, a file stands where a directory is needed, or
    /// nothing is there. `Err` is an answer that tells nothing.
    async fn missing(&self, path: &RemotePath, error: Error) -> Result<Error> {
        self.verify_root(error.op, path).await?;
        if fail::code(&error) == Some(Code::ResourceNotFound) {
            return Ok(error);
        }
        let mut above = path.split().map(|(parent, _)| parent);
        while let Some(dir) = above.filter(|dir| !dir.is_root()) {
            match self.dir(error.op, &dir).await {
                Ok(_) => break,
                Err(missing) if missing.kind == ErrorKind::NotADirectory || is_gone(&missing) => {}
                Err(other) => return Ok(Error { path: path.clone(), ..other }),
            }
            match self.file(error.op, &dir).await {
                Ok(_) => return Ok(Error::new(ErrorKind::NotADirectory, error.op, path)),
                Err(missing) if is_no_file(&missing) || is_gone(&missing) => {}
                Err(other) => return Ok(Error { path: path.clone(), ..other }),
            }
            above = dir.split().map(|(parent, _)| parent);
        }
        Ok(match error.kind {
            ErrorKind::NotFound => error,
            _ => Error { kind: ErrorKind::Busy, ..error },
        })
    }

    /// Everything of what was found, its metadata at hand.
    pub(super) fn metadata(&self, facts: &Facts) -> Metadata {
        Posix::of(facts).metadata(facts, &self.defaults)
    }

    /// One page of a directory.
    pub(super) async fn list(&self, dir: &RemotePath, after: Option<PageToken>) -> Result<Page> {
        let marker = match &after {
            Some(PageToken(token)) => Some(
                token
                    .downcast_ref::<Marker>()
                    .ok_or_else(|| Error::new(ErrorKind::Protocol, "list", dir))?,
            ),
            None => None,
        };
        name::look("list", &self.root, dir)?;
        let asked = self.page(dir, marker.map(|marker| marker.0.as_str()));
        let listing = match self.root.is_root() || dir.is_root() {
            true => asked.await,
            // The listing of a part says nothing of the root, which others can move at any time.
            false => {
                let (listing, root) = tokio::join!(asked, self.verify_root("list", dir));
                root?;
                listing
            }
        };
        let listing = match listing {
            Err(error) if is_gone(&error) || error.kind == ErrorKind::NotADirectory => {
                return Err(self.no_listing(dir, error).await);
            }
            listing => listing?,
        };
        if dir.is_root() {
            match listing.dir_id {
                Some(id) => self.check_root("list", dir, id)?,
                None => self.verify_root("list", dir).await?,
            }
        }
        let next = listing.next.map(|marker| PageToken(Arc::new(Marker(marker))));
        let entries = futures_util::stream::iter(listing.entries)
            .map(|(name, facts)| self.completed(dir, name, facts))
            .buffered(LOOKS_AT_ONCE)
            .filter_map(|entry| std::future::ready(entry.transpose()))
            .collect::<Vec<_>>()
            .await;
        let entries = entries.into_iter().collect::<Result<_>>()?;
        Ok(Page { entries, next, one_moment: true })
    }

    async fn page(&self, dir: &RemotePath, marker: Option<&str>) -> Result<Listing> {
        let mut call = Call::new(Method::GET, Scope::Dir, "list", dir)
            .query("comp", "list")
            .query("maxresults", self.page_entries.to_string())
            .query("include", "Timestamps,Etag,Attributes,PermissionKey")
            .header("x-ms-file-extended-info", "true");
        if let Some(marker) = marker {
            call = call.query("marker", marker);
        }
        let answer = self.http.send(&call).await?;
        let asked = asked(&answer);
        listing::parse(&answer.body, asked)
            .map_err(|why| Error::new(ErrorKind::Protocol, "list", dir).caused_by(why))
    }

    async fn no_listing(&self, dir: &RemotePath, error: Error) -> Error {
        match self.look("list", dir).await {
            Ok(facts) if facts.shape == Shape::File => {
                Error::new(ErrorKind::NotADirectory, "list", dir)
            }
            // There again.
            Ok(_) => Error { kind: ErrorKind::Busy, ..error },
            Err(error) => error,
        }
    }

    /// A listed entry with what the listing leaves out; `None` where it went meanwhile.
    async fn completed(
        &self,
        dir: &RemotePath,
        name: Vec<u8>,
        facts: Facts,
    ) -> Result<Option<(Vec<u8>, Metadata)>> {
        if !posix::is_marked(&facts) {
            return Ok(Some((name, Posix::default().metadata(&facts, &self.defaults))));
        }
        let key = (facts.file_id, facts.etag);
        let known = self.posix().get(&key).cloned();
        if let Some(posix) = known {
            return Ok(Some((name, posix.metadata(&facts, &self.defaults))));
        }
        let path = dir.join(&name);
        let found = match facts.shape {
            Shape::File => self.file("list", &path).await,
            Shape::Dir => self.dir("list", &path).await,
        };
        match found {
            Ok(found) => {
                self.remember(&found);
                Ok(Some((name, self.metadata(&found))))
            }
            Err(error) if is_gone(&error) || is_other_shape(&error) => {
                match self.look_if_any("list", &path).await? {
                    Some(found) => Ok(Some((name, self.metadata(&found)))),
                    None => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps the metadata of this state at hand: the next listing need not ask for it.
    fn remember(&self, facts: &Facts) {
        if !posix::is_marked(facts) {
            return;
        }
        let mut known = self.posix();
        if known.len() >= POSIX_MAX {
            known.clear();
        }
        known.insert((facts.file_id, facts.etag), Posix::of(facts));
    }

    fn posix(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u128), Posix>> {
        self.posix.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How full the share is. A login for files only may not ask.
    pub(super) async fn usage(&self) -> Result<Usage> {
        let root = RemotePath::root();
        let properties = Call::new(Method::GET, Scope::Share, "usage", &root);
        let stats = properties.clone().query("comp", "stats");
        let (properties, stats) = tokio::join!(self.http.send(&properties), self.http.send(&stats));
        let is_refused =
            |kind| matches!(kind, ErrorKind::PermissionDenied | ErrorKind::Unauthenticated);
        let quota = match properties {
            Ok(answer) => answer
                .headers
                .get("x-ms-share-quota")
                .and_then(|quota| quota.to_str().ok()?.parse::<u64>().ok()),
            Err(error) if is_refused(error.kind) => None,
            Err(error) => return Err(error),
        };
        let used = match stats {
            Ok(answer) => super::xml::number(&answer.body, "ShareUsageBytes").unwrap_or(0),
            Err(error) if is_refused(error.kind) => 0,
            Err(error) => return Err(error),
        };
        let total_bytes = quota.unwrap_or(QUOTA_UNKNOWN) << 30;
        let free_bytes = total_bytes.saturating_sub(used);
        Ok(Usage { total_bytes, free_bytes, total_files: 0, free_files: 0 })
    }
}

/// Whether this says that no file, but perhaps a directory, has the name.
fn is_no_file(error: &Error) -> bool {
    fail::code(error) == Some(Code::ResourceNotFound) || is_other_shape(error)
}

fn is_other_shape(error: &Error) -> bool {
    fail::code(error) == Some(Code::ResourceTypeMismatch)
}

pub(super) fn is_gone(error: &Error) -> bool {
    error.kind.existence() == Existence::Gone
}

/// No root tells nothing of what is on the share.
fn root_is_away(error: Error) -> Error {
    match error.kind {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Error { kind: ErrorKind::IdentityChanged, ..error }
        }
        _ => error,
    }
}

pub(super) fn no_sense(op: &'static str, path: &RemotePath) -> Error {
    Error::new(ErrorKind::Protocol, op, path).caused_by("the answer misses what it must say")
}

fn asked(answer: &Answer) -> Option<Timestamp> {
    answer.headers.get("date").and_then(|date| super::time::parse_http(date.to_str().ok()?))
}
