//! The way to a share: a connection, and making it anew when it broke.

use super::fail::{Fail, Outcome, ends_session};
use super::name;
use super::snapshots::Snapshot;
use super::wire::Carrier;
use super::{Defaults, SmbConfig, Spoken, copy};
use crate::{ErrorKind, RemotePath, ShareIdentity, Timestamp};
use async_trait::async_trait;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

/// The longest a login takes, the connection included.
const DIAL_WITHIN: Duration = Duration::from_secs(15);

/// One connection, logged in, with its share.
pub(super) struct Link {
    pub(super) carrier: Box<dyn Carrier>,
    /// What identities begin with.
    pub(super) scheme: &'static str,
    /// The state of the share that is meant.
    pub(super) snapshot: Option<Snapshot>,
    /// How a server is spoken to.
    pub(super) spoken: Option<Spoken>,
    /// Nothing can be changed here: by this login, or by anybody.
    pub(super) is_read_only: bool,
    /// Bytes of one read and one write.
    pub(super) read_bytes_max: u32,
    pub(super) write_bytes_max: u32,
    /// The server's clock less ours, in ticks.
    pub(super) clock_ahead: i64,
}

/// What makes connections.
#[async_trait]
pub(super) trait Dial: Send + Sync {
    async fn dial(&self) -> Outcome<Link>;
}

/// How a share is looked at, whatever it is on.
pub(super) struct Scope {
    /// The directory of it that is the root.
    pub(super) dir: RemotePath,
    pub(super) defaults: Defaults,
    /// The identity that it must have (X1); `None`: the first one seen.
    pub(super) known: Option<ShareIdentity>,
    /// Nothing is to be changed there, not even for good order.
    pub(super) read_only: bool,
    /// It is a state that was, and stays so.
    pub(super) is_past: bool,
    /// How much the server is asked to copy in one request; `None`: nothing.
    pub(super) copied_bytes: Option<u64>,
}

impl Scope {
    pub(super) fn of(config: &SmbConfig) -> Scope {
        Scope {
            dir: config.dir.clone(),
            defaults: config.defaults,
            known: config.known.clone(),
            read_only: config.read_only,
            is_past: config.snapshot.is_some(),
            copied_bytes: Some(config.copied_bytes),
        }
    }
}

impl Link {
    /// The server's clock, in ticks.
    pub(super) fn now(&self) -> i64 {
        super::facts::to_ticks(Timestamp::now()).saturating_add(self.clock_ahead)
    }

    /// Notes what a failure says about the connection itself.
    pub(super) fn note(&self, fail: &Fail) {
        if fail.is_unknown() || fail.status.is_some_and(ends_session) {
            self.carrier.give_up();
        }
    }
}

/// The last connection, and the last failure to make one.
#[derive(Default)]
struct Dialled {
    link: Option<Arc<Link>>,
    failed: Option<(Instant, ErrorKind, String)>,
}

/// The way to a share: the present connection, and what makes another one.
pub(super) struct Session {
    pub(super) scope: Scope,
    dialler: Box<dyn Dial>,
    dialled: AsyncMutex<Dialled>,
    identity: OnceLock<ShareIdentity>,
    spoken: Mutex<Option<Spoken>>,
    is_narrow: AtomicBool,
    is_read_only: AtomicBool,
    has_xattrs: AtomicBool,
    /// The server says how much a file has of them.
    pub(super) counts_xattrs: AtomicBool,
    /// How often in a row a packet that reads several files was of no use.
    pub(super) read_apart: AtomicU32,
    /// How much the server copies by itself at a time; `None`: nothing.
    pub(super) copies: Mutex<Option<copy::Bounds>>,
}

impl Session {
    /// Nothing is asked yet.
    pub(super) fn new(scope: Scope, dialler: Box<dyn Dial>) -> Session {
        let identity = scope.known.clone().map_or_else(OnceLock::new, OnceLock::from);
        let is_read_only = AtomicBool::new(scope.is_past);
        let copies = Mutex::new(scope.copied_bytes.map(copy::Bounds::usual));
        Session {
            scope,
            dialler,
            dialled: AsyncMutex::default(),
            identity,
            spoken: Mutex::default(),
            is_narrow: AtomicBool::new(false),
            is_read_only,
            has_xattrs: AtomicBool::new(true),
            counts_xattrs: AtomicBool::new(true),
            read_apart: AtomicU32::new(0),
            copies,
        }
    }

    /// The connection, made anew where it broke. Those who wait for one wait together, and fail
    /// together.
    pub(super) async fn link(self: &Arc<Self>) -> Outcome<Arc<Link>> {
        let asked = Instant::now();
        let mut held = self.dialled.lock().await;
        if let Some(link) = held.link.as_ref().filter(|link| !link.carrier.is_broken()) {
            return Ok(link.clone());
        }
        if let Some((_, kind, why)) = held.failed.as_ref().filter(|(at, ..)| *at > asked) {
            return Err(Fail::saying(*kind, why.clone()));
        }
        held.link = None;
        let dialled = self.another_link().await;
        match &dialled {
            Ok(link) => held.link = Some(link.clone()),
            Err(fail) => held.failed = Some((Instant::now(), fail.kind, fail.reason())),
        }
        dialled
    }

    /// A connection of the caller's own.
    pub(super) async fn another_link(&self) -> Outcome<Arc<Link>> {
        let late = || Fail::saying(ErrorKind::Unreachable, "the server does not answer");
        let dialled = tokio::time::timeout(DIAL_WITHIN, self.dial_known()).await;
        dialled.unwrap_or_else(|_| Err(late()))
    }

    /// Before anybody believes that something is not there: it is the same share (X1).
    async fn dial_known(&self) -> Outcome<Arc<Link>> {
        let link = Arc::new(self.dialler.dial().await?);
        *self.spoken.lock().unwrap_or_else(PoisonError::into_inner) = link.spoken.clone();
        let (found, is_narrow) =
            tokio::join!(super::look::identity(&link, &self.scope.dir), self.counts_bytes(&link));
        self.check(&found?)?;
        self.is_narrow.store(is_narrow?, Ordering::Relaxed);
        // Asked by a change, of none: of our share alone.
        let has_xattrs = self.keeps_xattrs(&link).await?;
        self.has_xattrs.store(has_xattrs, Ordering::Relaxed);
        self.is_read_only.store(link.is_read_only, Ordering::Relaxed);
        Ok(link)
    }

    /// Whether the server counts a name's bytes, as most disks of other systems than Windows do:
    /// it says then that there can be no such name, not that there is none.
    async fn counts_bytes(&self, link: &Arc<Link>) -> Outcome<bool> {
        let widest = RemotePath::root().join(name::WIDEST.repeat(name::NAME_UNITS_MAX).as_bytes());
        match super::look::look_plain(link, &self.wire(&widest)?).await {
            Err(fail) if fail.is_unknown() => Err(fail),
            Err(fail) => Ok(fail.kind != ErrorKind::NotFound),
            Ok(_) => Ok(false),
        }
    }

    /// See `counts_bytes`; as the last connection found it.
    pub(super) fn is_narrow(&self) -> bool {
        self.is_narrow.load(Ordering::Relaxed)
    }

    /// The share keeps extended attributes; as the last connection found it, before one that it does.
    pub(super) fn has_xattrs(&self) -> bool {
        self.has_xattrs.load(Ordering::Relaxed)
    }

    /// Nothing can be changed there; as the last connection found it.
    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only.load(Ordering::Relaxed)
    }

    /// Nothing is to be changed there, not even for good order.
    pub(super) fn leaves_all(&self) -> bool {
        self.scope.read_only || self.is_read_only()
    }

    /// Before anything is changed.
    pub(super) async fn check_writable(self: &Arc<Self>) -> Outcome<()> {
        match self.link().await?.is_read_only {
            true => Err(ErrorKind::ReadOnly.into()),
            false => Ok(()),
        }
    }

    /// The share is the one that it was.
    pub(super) fn check(&self, found: &ShareIdentity) -> Outcome<()> {
        match self.identity.get_or_init(|| found.clone()) == found {
            true => Ok(()),
            false => Err(Fail::saying(
                ErrorKind::IdentityChanged,
                "another share, or another directory, stands where ours was",
            )
            .about(&RemotePath::root())),
        }
    }

    /// How the server is spoken to, or was last.
    pub(super) fn spoken(&self) -> Option<Spoken> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
