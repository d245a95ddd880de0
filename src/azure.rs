//! Azure file shares: their names, and opening one.

use crate::credentials;
use crate::fail;
use crate::place;
use crate::secret;
use crate::text::say;
use anyhow::{Result, bail};
use covefs_cache::{Config, StartError};
use covefs_remote::azure::{Account, AzureConfig, AzureRemote, Defaults};
use covefs_remote::{ErrorKind, Remote, RemotePath};
use std::sync::Arc;
use std::time::Duration;

/// The suffix of accounts in the public cloud.
const SUFFIX: &str = ".file.core.windows.net";

/// A share that does not answer for so long is as good as unreachable.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

/// A share of a storage account, or a directory of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AzureShare {
    /// The account's name.
    pub account: String,
    /// Its address, where that is not the public cloud's.
    pub endpoint: Option<String>,
    /// The share's name.
    pub share: String,
    /// The directory in it, without slashes at its ends.
    pub dir: String,
    /// The snapshot of it that is meant.
    pub snapshot: Option<String>,
}

impl AzureShare {
    /// Reads `azfiles://ACCOUNT/SHARE[/DIR]` and `https://ACCOUNT.file.core.windows.net/SHARE...`;
    /// `None` where it is neither.
    pub(crate) fn parse(text: &str) -> Option<Result<AzureShare>> {
        let (scheme, rest) = text.split_once("://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = host.to_ascii_lowercase();
        match scheme.to_ascii_lowercase().as_str() {
            "azfiles" => Some(AzureShare::of(&host, None, path, text)),
            "https" if host.contains(".file.") => {
                let account = host.split('.').next().unwrap_or_default().to_string();
                let is_usual = host == format!("{account}{SUFFIX}");
                let endpoint = (!is_usual).then(|| format!("https://{host}"));
                let path = unescaped(path);
                Some(AzureShare::of(&account, endpoint, &path, text))
            }
            _ => None,
        }
    }

    fn of(account: &str, endpoint: Option<String>, path: &str, text: &str) -> Result<AzureShare> {
        let wanted = "write azfiles://ACCOUNT/SHARE or azfiles://ACCOUNT/SHARE/DIRECTORY";
        let fits = |symbol: char| symbol.is_ascii_lowercase() || symbol.is_ascii_digit();
        if account.is_empty() || !account.chars().all(fits) {
            return Err(fail::usage(format!("'{text}' names no storage account; {wanted}")));
        }
        let (path, snapshot) = match path.rsplit_once('@') {
            Some((path, id)) if is_snapshot(id) => (path, Some(id.to_string())),
            _ => (path, None),
        };
        let path = path.trim_matches('/');
        let (share, dir) = path.split_once('/').unwrap_or((path, ""));
        let is_share = (3..=63).contains(&share.len())
            && share.chars().all(|symbol| fits(symbol) || symbol == '-')
            && !share.starts_with('-')
            && !share.ends_with('-')
            && !share.contains("--");
        if !is_share {
            return Err(fail::usage(format!(
                "'{text}' names no share: 3 to 63 small letters, digits and single hyphens; {wanted}"
            )));
        }
        let dir: Vec<&str> = dir.split('/').filter(|name| !name.is_empty()).collect();
        if dir.iter().any(|name| *name == "." || *name == "..") {
            return Err(fail::usage(format!("'{text}': a directory is named without . and ..")));
        }
        let (account, share, dir) = (account.to_string(), share.to_string(), dir.join("/"));
        Ok(AzureShare { account, endpoint, share, dir, snapshot })
    }

    /// The one name it has however it was written.
    pub(crate) fn canonical(&self) -> String {
        let start = match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/{}", self.share),
            None => format!("azfiles://{}/{}", self.account, self.share),
        };
        // In an address a sign of percent stands for another one.
        let dir = match self.endpoint {
            Some(_) => self.dir.replace('%', "%25"),
            None => self.dir.clone(),
        };
        let start = if dir.is_empty() { start } else { format!("{start}/{dir}") };
        match &self.snapshot {
            Some(snapshot) => format!("{start}@{snapshot}"),
            None => start,
        }
    }

    /// Another state of the same directory.
    fn with_snapshot(&self, snapshot: Option<String>) -> AzureShare {
        AzureShare { snapshot, ..self.clone() }
    }

    /// The last part of the name.
    pub(crate) fn short_name(&self) -> String {
        let last = self.dir.rsplit('/').next().filter(|name| !name.is_empty());
        last.unwrap_or(&self.share).to_string()
    }
}

/// `2026-01-02T03:04:05.0000000Z`: no directory is called so by accident.
fn is_snapshot(text: &str) -> bool {
    let form = "dddd-dd-ddTdd:dd:dd.dddddddZ";
    let fits = |(symbol, wanted): (char, char)| match wanted {
        'd' => symbol.is_ascii_digit(),
        _ => symbol == wanted,
    };
    text.len() == form.len() && text.chars().zip(form.chars()).all(fits)
}

/// `covefs snapshots`: one on each line, oldest first.
pub(crate) fn snapshots(share: &AzureShare, file: Option<&std::path::Path>) -> Result<()> {
    let endpoint = share.endpoint.as_deref();
    let set = |name: &str| std::env::var(name).ok();
    let kept = match credentials::missing(&share.account, file, set) {
        Some(wanted) => secret::find(&wanted, &mut |note| eprintln!("covefs: {note}"))?,
        None => None,
    };
    let account = credentials::read(&share.account, endpoint, file, set, kept.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async {
        tokio::time::timeout(OPEN_WITHIN, AzureRemote::snapshots(account, &share.share)).await
    });
    let whole = AzureShare { dir: String::new(), snapshot: None, ..share.clone() };
    match asked {
        Ok(Ok(found)) if found.is_empty() => say!("{} has no snapshots", whole.canonical()),
        Ok(Ok(found)) => {
            for id in found {
                say!("{}@{id}", share.with_snapshot(None).canonical());
            }
        }
        Ok(Err(error)) if error.kind == ErrorKind::NotFound => {
            bail!("the account {} has no share {}", share.account, share.share)
        }
        Ok(Err(error)) => {
            bail!("the snapshots of {}: {}", whole.canonical(), reason(share, &error))
        }
        Err(_) => bail!("the share {} does not answer", whole.canonical()),
    }
    Ok(())
}

/// A URL's path is escaped where somebody copied it from.
fn unescaped(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, escaped) {
            (b'%', Some(escaped)) => {
                bytes.push(escaped);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Opens the share. Out of reach, it is an error without an earlier cache; with one the drive
/// begins with what that has (U4). `note` is told why.
pub(crate) async fn open(
    share: &AzureShare,
    account: Account,
    config: &Config,
    note: &mut dyn FnMut(String),
) -> Result<Arc<dyn Remote>> {
    let dir = &config.cache_dir;
    let earlier = place::earlier(dir);
    let known = earlier.as_ref().and_then(|earlier| earlier.identity.clone());
    let remote = AzureRemote::new(AzureConfig {
        dir: RemotePath::parse(share.dir.as_bytes()),
        defaults: Defaults {
            uid: config.uid,
            gid: config.gid,
            file_mode: config.file_mode,
            dir_mode: config.dir_mode,
        },
        known: known.clone(),
        snapshot: share.snapshot.clone(),
        ..AzureConfig::new(account, &share.share)
    })?;
    let asked = tokio::time::timeout(OPEN_WITHIN, remote.identity()).await;
    let (kind, why) = match asked {
        Ok(Ok(found)) => match earlier {
            Some(earlier) if earlier.share != config.share && known != Some(found) => {
                let error = StartError::OtherShare { dir: dir.clone(), theirs: earlier.share };
                return Err(error.into());
            }
            _ => return Ok(Arc::new(remote)),
        },
        Ok(Err(error)) => (error.kind, reason(share, &error)),
        Err(_) => (ErrorKind::Timeout, "it does not answer".to_string()),
    };
    if !kind.is_offline() || !place::is_cache(dir) {
        bail!("the share {} cannot be used: {why}", config.share);
    }
    tracing::warn!(why, "the share cannot be reached yet");
    note(format!("the share {} cannot be used yet: {why}", config.share));
    Ok(Arc::new(remote))
}

/// What to tell a person, on one line.
fn reason(share: &AzureShare, error: &covefs_remote::Error) -> String {
    let beneath = error.source.as_ref().map_or_else(|| error.to_string(), ToString::to_string);
    match error.kind {
        ErrorKind::IdentityChanged if share.snapshot.is_some() => {
            "there is no such snapshot, or no such directory in it; covefs snapshots lists them"
                .into()
        }
        ErrorKind::IdentityChanged if share.dir.is_empty() => {
            format!("the account {} has no share {}", share.account, share.share)
        }
        ErrorKind::IdentityChanged => format!(
            "the account {} has no share {}, or no directory {} in it",
            share.account, share.share, share.dir
        ),
        _ => beneath,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> AzureShare {
        AzureShare::parse(text).unwrap().unwrap()
    }

    #[test]
    fn one_share_has_one_name() {
        for text in [
            "azfiles://acme/docs/a b",
            "azfiles://ACME/docs/a b/",
            "AZFILES://acme/docs//a b",
            "https://acme.file.core.windows.net/docs/a%20b",
            "https://Acme.File.core.windows.net/docs/a%20b/",
        ] {
            let share = parsed(text);
            assert_eq!(share.canonical(), "azfiles://acme/docs/a b", "{text}");
            assert_eq!(share.short_name(), "a b");
        }
        let share = parsed("https://acme.file.core.chinacloudapi.cn/docs");
        assert_eq!(share.canonical(), "https://acme.file.core.chinacloudapi.cn/docs");
        assert_eq!((&*share.account, &*share.short_name()), ("acme", "docs"));
        let id = "2026-01-02T03:04:05.0000000Z";
        for name in ["azfiles://acme/docs", "azfiles://acme/docs/a@b"] {
            let share = parsed(&format!("{name}@{id}"));
            assert_eq!(share.snapshot.as_deref(), Some(id));
            assert_eq!(share.canonical(), format!("{name}@{id}"));
        }
        assert_eq!(parsed("azfiles://acme/docs/a@b").dir, "a@b");
        // What it is called is what it can be named by.
        for name in ["azfiles://acme/docs/50%20b", "https://acme.file.core.local/docs/50%2520b"] {
            let share = parsed(name);
            assert_eq!((&*share.canonical(), &*share.dir), (name, "50%20b"));
        }
    }

    #[test]
    fn mistakes_are_told_by_their_form() {
        for text in [
            "azfiles://",
            "azfiles://acme",
            "azfiles://acme/",
            "azfiles://ac_me/docs",
            "azfiles://acme/Docs",
            "azfiles://acme/-docs",
            "azfiles://acme/do--cs",
            "azfiles://acme/do",
            "azfiles://acme/docs/../x",
        ] {
            let error = AzureShare::parse(text).unwrap().unwrap_err();
            assert_eq!(fail::exit_code(&error), 2, "{text}");
        }
        for text in ["https://example.com/docs", "dir:/x", "smb://nas/x", "azure:x"] {
            assert!(AzureShare::parse(text).is_none(), "{text}");
        }
    }
}
