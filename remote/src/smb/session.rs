//! The connection to a share: dialling, logging in, encryption, and doing it again when it broke.
//!
//! The crate does not tell the server that it can encrypt, although it can (0.39): `Offer` says it
//! on the wire, and the hash that the keys are made from is taken over what was really sent.

use super::fail::{Fail, Outcome, ends_session};
use super::name;
use super::snapshots::Snapshot;
use super::socket::Socket;
use super::{Encrypt, Login, SmbConfig, Spoken, copy, ticket, tree};
use crate::{ErrorKind, RemotePath, ShareIdentity, Timestamp};
use async_trait::async_trait;
use smb2::client::connection::{Connection, NegotiatedParams};
use smb2::client::session::Session as Keys;
use smb2::crypto::encryption::Cipher;
use smb2::crypto::kdf::PreauthHasher;
use smb2::crypto::signing::SigningAlgorithm;
use smb2::transport::{ReceiveProgress, TransportReceive, TransportSend};
use smb2::types::flags::Capabilities;
use smb2::types::{Dialect, TreeId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

/// A server that takes no connection for so long is away.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The longest a login takes, the connection included.
const DIAL_WITHIN: Duration = Duration::from_secs(15);
/// A server silent for so long, with a request before it, is away: well within the 30 s that a
/// foreground request has (K3).
const SILENT_MAX: Duration = Duration::from_secs(12);

/// Where the capabilities stand in a NEGOTIATE request, and the server's clock in the answer.
const COMMAND_AT: usize = 12;
const CAPABILITIES_AT: usize = 64 + 8;
const SERVER_TIME_AT: usize = 64 + 40;
const CAN_ENCRYPT: u8 = 0x40;

/// One connection, logged in, with its share.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) tree: TreeId,
    /// The state of the share that is meant.
    pub(super) snapshot: Option<Snapshot>,
    /// Nothing can be changed here: by this login, or by anybody.
    pub(super) is_read_only: bool,
    /// Bytes of one read and one write.
    pub(super) read_bytes_max: u32,
    pub(super) write_bytes_max: u32,
    /// The server's clock less ours, in ticks.
    clock_ahead: i64,
}

impl Link {
    /// The server's clock, in ticks.
    pub(super) fn now(&self) -> i64 {
        super::facts::to_ticks(Timestamp::now()).saturating_add(self.clock_ahead)
    }

    /// Notes what a failure says about the connection itself.
    pub(super) fn note(&self, fail: &Fail) {
        if fail.is_unknown() || fail.status.is_some_and(ends_session) {
            self.connection.mark_dead();
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
    pub(super) config: SmbConfig,
    dialled: AsyncMutex<Dialled>,
    identity: OnceLock<ShareIdentity>,
    spoken: Mutex<Option<Spoken>>,
    is_narrow: AtomicBool,
    is_read_only: AtomicBool,
    /// How much the server copies by itself at a time; `None`: nothing.
    pub(super) copies: Mutex<Option<copy::Bounds>>,
}

impl Session {
    /// Nothing is asked yet.
    pub(super) fn new(config: SmbConfig) -> Session {
        let identity = config.known.clone().map_or_else(OnceLock::new, OnceLock::from);
        let is_read_only = AtomicBool::new(config.snapshot.is_some());
        let copies = Mutex::new(Some(copy::Bounds::usual(config.copied_bytes)));
        Session {
            config,
            dialled: AsyncMutex::default(),
            identity,
            spoken: Mutex::default(),
            is_narrow: AtomicBool::new(false),
            is_read_only,
            copies,
        }
    }

    /// The connection, made anew where it broke. Those who wait for one wait together, and fail
    /// together.
    pub(super) async fn link(self: &Arc<Self>) -> Outcome<Arc<Link>> {
        let asked = Instant::now();
        let mut held = self.dialled.lock().await;
        if let Some(link) = held.link.as_ref().filter(|link| !link.connection.is_disconnected()) {
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
        let link = Arc::new(self.dial().await?);
        let (found, is_narrow) =
            tokio::join!(super::look::identity(&link, &self.config.dir), self.counts_bytes(&link));
        self.check(&found?)?;
        self.is_narrow.store(is_narrow?, Ordering::Relaxed);
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

    /// Nothing can be changed there; as the last connection found it.
    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only.load(Ordering::Relaxed)
    }

    /// Nothing is to be changed there, not even for good order.
    pub(super) fn leaves_all(&self) -> bool {
        self.config.read_only || self.is_read_only()
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

    async fn dial(&self) -> Outcome<Link> {
        let SmbConfig { host, port, share, login, snapshot, .. } = &self.config;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address =
            if bare.contains(':') { format!("[{bare}]:{port}") } else { format!("{bare}:{port}") };
        let socket = Socket::connect(&address, CONNECT_WITHIN).await.map_err(|error| {
            Fail::saying(ErrorKind::Unreachable, format!("no connection to {address}: {error}"))
        })?;
        let offer = Arc::new(Offer { socket, seen: Mutex::default() });
        let (sender, receiver) = (Box::new(Half(offer.clone())), Box::new(Half(offer.clone())));
        let mut connection = Connection::from_transport(sender, receiver, bare);
        connection.set_response_timeout(Some(SILENT_MAX));
        connection.set_credit_wait_timeout(SILENT_MAX);
        connection.negotiate().await.map_err(|error| Fail::from(error).about_server())?;
        let clock_ahead = offer.settle(&connection)?;
        let params = connection.params().ok_or(ErrorKind::Protocol)?;
        if params.dialect < Dialect::Smb3_0 {
            let text = format!("the server speaks {} only; SMB 3 is needed", params.dialect);
            return Err(Fail::saying(ErrorKind::Unsupported, text));
        }
        let Login { user, domain, password, ticket } = login;
        let keys = match ticket {
            Some(ticket) => ticket::log_in(&mut connection, ticket, user, bare).await?,
            None => Keys::setup(&mut connection, user, password, domain).await?,
        };
        let cipher = self.encrypt(&mut connection, &keys, &params)?;
        let tree = tree::connect(&connection, share).await?;
        if tree.is_encrypted && cipher.is_none() {
            return Err(self.no_cipher());
        }
        let spoken = Spoken {
            dialect: params.dialect.to_string(),
            signing: signing_name(keys.signing_algorithm),
            cipher: cipher.map(cipher_name),
        };
        tracing::info!(%address, share, dialect = spoken.dialect, signing = spoken.signing,
            cipher = spoken.cipher, "connected");
        *self.spoken.lock().unwrap_or_else(PoisonError::into_inner) = Some(spoken);
        Ok(Link {
            connection,
            tree: tree.id,
            is_read_only: tree.is_read_only || snapshot.is_some(),
            snapshot: snapshot.clone(),
            read_bytes_max: params.max_read_size,
            write_bytes_max: params.max_write_size,
            clock_ahead,
        })
    }
}

/// The cipher that both sides have. Before 3.1.1 it is not agreed on: there is only one.
fn cipher_of(params: &NegotiatedParams) -> Option<Cipher> {
    let is_able = params.capabilities.contains(Capabilities::ENCRYPTION);
    let is_early = params.dialect < Dialect::Smb3_1_1;
    params.cipher.or((is_early && is_able).then_some(Cipher::Aes128Ccm))
}

fn cipher_name(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Aes128Ccm => "AES-128-CCM",
        Cipher::Aes128Gcm => "AES-128-GCM",
        Cipher::Aes256Ccm => "AES-256-CCM",
        Cipher::Aes256Gcm => "AES-256-GCM",
    }
}

fn signing_name(algorithm: SigningAlgorithm) -> &'static str {
    match algorithm {
        SigningAlgorithm::HmacSha256 => "HMAC-SHA256",
        SigningAlgorithm::AesCmac => "AES-128-CMAC",
        SigningAlgorithm::AesGmac => "AES-128-GMAC",
    }
}

impl Session {
    /// Encrypts from here on, as it is wanted and can be: before the share is named. Says with
    /// what.
    fn encrypt(
        &self,
        connection: &mut Connection,
        keys: &Keys,
        params: &NegotiatedParams,
    ) -> Outcome<Option<Cipher>> {
        let is_asked_for = connection.should_encrypt();
        let cipher = cipher_of(params).filter(|_| self.config.encrypt != Encrypt::Off);
        let have = (cipher, keys.encryption_key.clone(), keys.decryption_key.clone());
        let (Some(cipher), Some(ours), Some(theirs)) = have else {
            if is_asked_for || self.config.encrypt == Encrypt::Required {
                return Err(self.no_cipher());
            }
            if !keys.should_sign {
                let text = "the server signs nothing for this login: a guest's";
                return Err(Fail::saying(ErrorKind::Unsupported, text));
            }
            return Ok(None);
        };
        if !is_asked_for {
            connection.activate_encryption(ours, theirs, cipher);
        }
        Ok(Some(cipher))
    }

    fn no_cipher(&self) -> Fail {
        let text = match self.config.encrypt {
            Encrypt::Off => "the share is encrypted only, and encryption is switched off here",
            Encrypt::Auto | Encrypt::Required => "encryption is required, and the server has none",
        };
        Fail::saying(ErrorKind::Unsupported, text)
    }

    /// How the server is spoken to, or was last.
    pub(super) fn spoken(&self) -> Option<Spoken> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Fail {
    /// The same of a server that does not even greet.
    fn about_server(self) -> Fail {
        match self.kind {
            ErrorKind::Protocol => self.of_kind(ErrorKind::Unreachable),
            _ => self,
        }
    }
}

/// A transport that says of us that we can encrypt.
struct Offer {
    socket: Socket,
    seen: Mutex<Seen>,
}

/// The greeting, as it went over the wire.
#[derive(Default)]
struct Seen {
    sent: Option<Vec<u8>>,
    received: Option<Vec<u8>>,
}

impl Offer {
    /// Makes the keys come from what was really said; returns the server's clock less ours.
    fn settle(&self, connection: &Connection) -> Outcome<i64> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let (Some(sent), Some(received)) = (seen.sent, seen.received) else {
            return Err(Fail::saying(ErrorKind::Protocol, "no greeting was seen"));
        };
        let mut hasher = PreauthHasher::new();
        hasher.update(&sent);
        hasher.update(&received);
        connection.with_preauth_hasher_mut(|held| *held = hasher);
        let time = received.get(SERVER_TIME_AT..).and_then(|rest| rest.first_chunk());
        let time = time.map_or(0, |time| i64::from_le_bytes(*time));
        let ours = super::facts::to_ticks(Timestamp::now());
        Ok(if time > 0 { time.saturating_sub(ours) } else { 0 })
    }
}

/// One half of it: both are the same.
struct Half(Arc<Offer>);

#[async_trait]
impl TransportSend for Half {
    async fn send(&self, data: &[u8]) -> smb2::Result<()> {
        let is_greeting = data.starts_with(&smb2::msg::PROTOCOL_ID)
            && data.get(COMMAND_AT..COMMAND_AT + 2) == Some(&[0, 0])
            && data.len() > CAPABILITIES_AT;
        if !is_greeting {
            return self.0.socket.send(data).await;
        }
        let mut data = data.to_vec();
        data[CAPABILITIES_AT] |= CAN_ENCRYPT;
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).sent = Some(data.clone());
        self.0.socket.send(&data).await
    }
}

#[async_trait]
impl TransportReceive for Half {
    async fn receive(&self) -> smb2::Result<Vec<u8>> {
        let frame = self.0.socket.receive().await?;
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.sent.is_some() && seen.received.is_none() {
            seen.received = Some(frame.clone());
        }
        drop(seen);
        Ok(frame)
    }

    fn receive_progress(&self) -> Option<Arc<ReceiveProgress>> {
        self.0.socket.receive_progress()
    }
}
