//! Dialling a server, logging in, encryption.
//!
//! The crate does not tell the server that it can encrypt, although it can (0.39): `Offer` says it
//! on the wire, and the hash that the keys are made from is taken over what was really sent.

use super::fail::{Fail, Outcome};
use super::packets::Server;
use super::session::{Dial, Link};
use super::socket::Socket;
use super::{Encrypt, Login, SmbConfig, Spoken, ticket, tree};
use crate::{ErrorKind, Timestamp};
use async_trait::async_trait;
use smb2::client::connection::{Connection, NegotiatedParams};
use smb2::client::session::Session as Keys;
use smb2::crypto::encryption::Cipher;
use smb2::crypto::kdf::PreauthHasher;
use smb2::crypto::signing::SigningAlgorithm;
use smb2::transport::{ReceiveProgress, TransportReceive, TransportSend};
use smb2::types::Dialect;
use smb2::types::flags::Capabilities;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A server that takes no connection for so long is away.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A server silent for so long, with a request before it, is away: well within the 30 s that a
/// foreground request has (K3).
const SILENT_MAX: Duration = Duration::from_secs(12);

/// Where the capabilities stand in a NEGOTIATE request, and the server's clock in the answer.
const COMMAND_AT: usize = 12;
const CAPABILITIES_AT: usize = 64 + 8;
const SERVER_TIME_AT: usize = 64 + 40;
const CAN_ENCRYPT: u8 = 0x40;

#[async_trait]
impl Dial for SmbConfig {
    async fn dial(&self) -> Outcome<Link> {
        let SmbConfig { host, port, share, login, snapshot, .. } = self;
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
        let cipher = self.start_encryption(&mut connection, &keys, &params)?;
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
        Ok(Link {
            carrier: Box::new(Server { connection, tree: tree.id, snapshot: snapshot.clone() }),
            scheme: "smb",
            snapshot: snapshot.clone(),
            spoken: Some(spoken),
            is_read_only: tree.is_read_only || snapshot.is_some(),
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

impl SmbConfig {
    /// Encrypts from here on, as it is wanted and can be: before the share is named. Says with
    /// what.
    fn start_encryption(
        &self,
        connection: &mut Connection,
        keys: &Keys,
        params: &NegotiatedParams,
    ) -> Outcome<Option<Cipher>> {
        let is_asked_for = connection.should_encrypt();
        let cipher = cipher_of(params).filter(|_| self.encrypt != Encrypt::Off);
        let have = (cipher, keys.encryption_key.clone(), keys.decryption_key.clone());
        let (Some(cipher), Some(ours), Some(theirs)) = have else {
            if is_asked_for || self.encrypt == Encrypt::Required {
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
        let text = match self.encrypt {
            Encrypt::Off => "the share is encrypted only, and encryption is switched off here",
            Encrypt::Auto | Encrypt::Required => "encryption is required, and the server has none",
        };
        Fail::saying(ErrorKind::Unsupported, text)
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
