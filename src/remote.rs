//! Opening the share that a name says.

use crate::azure;
use crate::share::Share;
use crate::smb;
use crate::system::dir;
use anyhow::{Result, bail};
use covefs_cache::Config;
use covefs_remote::Remote;
use covefs_remote::azure::Account;
use covefs_remote::smb::{Encrypt, Login, SmbRemote};
use std::sync::Arc;

/// Opens the share. Out of reach, it is an error without an earlier cache, and opened later with
/// one (U4). `note` is told where another directory stands in its place.
pub(crate) async fn open(
    share: &Share,
    account: Option<Account>,
    login: Option<(Login, Encrypt)>,
    config: &Config,
    note: &mut dyn FnMut(String),
) -> Result<Opened> {
    match share {
        Share::Dir(path) => dir::open(path, config, note).await.map(Opened::of),
        Share::Azure(share) => match account {
            Some(account) => azure::open(share, account, config, note).await.map(Opened::of),
            None => bail!("no login for the account {}", share.account),
        },
        Share::Smb(share) => match login {
            Some((login, encrypt)) => {
                let smb = smb::open(share, login, encrypt, config, note).await?;
                Ok(Opened { share: smb.clone(), smb: Some(smb) })
            }
            None => bail!("no login for the server {}", share.host),
        },
    }
}

/// A share, ready to be asked.
pub(crate) struct Opened {
    /// The share.
    pub share: Arc<dyn Remote>,
    /// The same, where it is one of an SMB server.
    pub smb: Option<Arc<SmbRemote>>,
}

impl Opened {
    fn of(share: Arc<dyn Remote>) -> Opened {
        Opened { share, smb: None }
    }
}
