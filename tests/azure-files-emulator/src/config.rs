//! What a server can be told when it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The account that Microsoft's documents give to emulators.
pub const DEVELOPMENT_ACCOUNT: &str = "devstoreaccount1";
/// Its key, which everybody knows.
pub const DEVELOPMENT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// How a server behaves; `Config::default()` is a plain one on a free port of the loopback.
#[derive(Clone, Debug)]
pub struct Config {
    /// The account's name.
    pub account: String,
    /// The account's key, base64.
    pub key: String,
    /// Where to listen; port 0 is any free one.
    pub listen: SocketAddr,
    /// HTTPS with a certificate made at start, in place of HTTP.
    pub tls: bool,
    /// Where the account is kept from run to run; in memory alone if None.
    pub root: Option<PathBuf>,
    /// Whether deleted shares can be brought back.
    pub soft_delete: bool,
    /// Whether a file that is created over another has a new id. Which one the service does is
    /// not documented.
    pub create_over_gives_new_id: bool,
    /// Whether copies stay pending until they are aborted or the owner ends them.
    pub copies_pending: bool,
    /// Pages of listings are never longer than this, however many entries are asked for.
    pub page_entries_max: usize,
    /// Whether `/-/faults` can be used to change faults over HTTP.
    pub control: bool,
    /// What the stand-in for Entra takes.
    pub entra: EntraConfig,
}

/// What the stand-in for Entra takes for good credentials.
#[derive(Clone, Debug)]
pub struct EntraConfig {
    /// The application's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// What the workload's token file holds.
    pub federated_token: String,
    /// How long tokens hold.
    pub token_seconds: i64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            account: DEVELOPMENT_ACCOUNT.to_owned(),
            key: DEVELOPMENT_KEY.to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: false,
            root: None,
            soft_delete: false,
            create_over_gives_new_id: false,
            copies_pending: false,
            page_entries_max: 5000,
            control: false,
            entra: EntraConfig::default(),
        }
    }
}

impl Default for EntraConfig {
    fn default() -> EntraConfig {
        EntraConfig {
            client_id: "99999999-8888-7777-6666-555555555555".to_owned(),
            client_secret: "a-secret-for-tests".to_owned(),
            federated_token: "a-federated-token-for-tests".to_owned(),
            token_seconds: 3600,
        }
    }
}
