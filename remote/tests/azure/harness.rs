//! A server with one share, and sites that look at it.

use crate::suite::{Share, Upload, path};
use azure_files_emulator::{Config, Emulator, Fault, Operation, Rule, RuleId};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use covefs_remote::attempt::{AttemptConfig, Guarded};
use covefs_remote::azure::{Account, AzureConfig, AzureRemote};
use covefs_remote::{Error, ErrorKind, Expect, Metadata, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const SHARE: &str = "docs";

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(30);

pub struct Server {
    pub emulator: Emulator,
}

impl Server {
    pub fn start() -> Server {
        Server::with(Config::default())
    }

    pub fn with(config: Config) -> Server {
        let emulator = Emulator::start(config).unwrap();
        emulator.create_share(SHARE);
        Server { emulator }
    }

    pub fn account(&self) -> Account {
        Account::from_connection_string(&self.emulator.connection_string()).unwrap()
    }

    pub fn config(&self) -> AzureConfig {
        AzureConfig::new(self.account(), SHARE)
    }

    pub fn share(&self) -> Share {
        open(self.config())
    }

    /// What the program holds: with tries enough for any storm here.
    pub fn guarded(&self) -> Share {
        let config = AttemptConfig {
            tries_max: 50,
            backoff_base: Duration::from_millis(1),
            backoff_cap: Duration::from_millis(20),
            ..AttemptConfig::default()
        };
        Arc::new(Guarded::new(self.share(), config))
    }

    pub fn fault(&self, rule: Rule) -> RuleId {
        self.emulator.faults().add(rule)
    }

    /// The next answer to this call is lost after it was done.
    pub fn lose(&self, operation: Operation) -> RuleId {
        self.fault(Rule::new(Fault::LoseAnswer).on(operation).times(1))
    }

    pub fn fired(&self, rule: RuleId) -> u64 {
        self.emulator.faults().fired(rule)
    }

    /// Waits until the fault has befallen a request.
    pub async fn befallen(&self, rule: RuleId) {
        let end = Instant::now() + LONG;
        while self.fired(rule) == 0 {
            assert!(Instant::now() < end, "nobody asked");
            tokio::task::yield_now().await;
        }
    }

    /// All names below the root of the share, temporary ones among them.
    pub fn walk(&self) -> Vec<String> {
        self.emulator.walk(SHARE).into_iter().map(|entry| entry.name).collect()
    }

    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.emulator.read(SHARE, name)
    }

    /// Nothing is locked and nothing temporary is left.
    pub async fn assert_clean(&self) {
        let end = Instant::now() + LONG;
        loop {
            let entries = self.emulator.walk(SHARE);
            let dirty = entries.iter().find(|entry| {
                let is_leased = matches!(entry.lease, azure_files_emulator::LeaseState::Leased(_));
                is_leased || entry.name.contains(".~covefs-")
            });
            let Some(dirty) = dirty else { return };
            assert!(Instant::now() < end, "stays: {dirty:?}");
            tokio::task::yield_now().await;
        }
    }
}

pub fn open(config: AzureConfig) -> Share {
    Arc::new(AzureRemote::new(config).unwrap())
}

/// A temporary name of one site.
pub fn temp(site: u64, number: u64) -> Vec<u8> {
    format!(".~covefs-{site:016x}-{number}").into_bytes()
}

/// A replace by a site.
pub async fn replace(
    share: &Share,
    name: &str,
    bytes: &[u8],
    expect: Expect,
    temp: &[u8],
) -> Result<Metadata> {
    share.replace(&path(name), Arc::new(Upload::of(bytes)), expect, temp).await
}

pub fn failed<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("succeeded"),
        Err(error) => error,
    }
}

pub fn said(error: &Error) -> String {
    format!("{error} {error:?}")
}

/// The call had no known outcome: the caller has to ask.
pub fn is_unknown(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Timeout | ErrorKind::Unreachable)
}

/// A shared access signature of the whole account.
pub fn sas(server: &Server, permissions: &str, expires: &str) -> String {
    let (version, services, types) = ("2025-01-05", "f", "sco");
    let account = server.emulator.account();
    let text = format!(
        "{account}\n{permissions}\n{services}\n{types}\n\n{expires}\n\nhttps,http\n{version}\n\n"
    );
    let key = BASE64.decode(server.emulator.key()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(text.as_bytes());
    let signature = BASE64.encode(mac.finalize().into_bytes());
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!(
        "?sv={version}&ss={services}&srt={types}&sp={permissions}&se={expires}\
         &spr=https%2Chttp&sig={signature}"
    )
}

/// Gives a file metadata as another client does.
pub async fn set_metadata(server: &Server, name: &str, key: &str, value: &str) {
    let token = sas(server, "rwdlc", "2099-01-01T00:00:00Z");
    let endpoint = server.emulator.endpoint();
    let url = format!("{endpoint}/{SHARE}/{name}{token}&comp=metadata");
    let call = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap().put(url);
    let call = call.header(format!("x-ms-meta-{key}"), value).header("content-length", "0");
    let answer = call.header("x-ms-version", "2025-01-05").send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}
