//! SMB shares: their names, and opening one.

use crate::fail;
use crate::login;
use crate::place::{self, Earlier};
use crate::secret;
use crate::text::say;
use anyhow::{Result, bail};
use covefs_cache::{Config, StartError};
use covefs_remote::smb::{Defaults, Encrypt, Login, SmbConfig, SmbRemote, Snapshot};
use covefs_remote::{ErrorKind, Remote, RemotePath};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The port of SMB.
const PORT: u16 = 445;

/// A share that does not answer for so long is as good as unreachable.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

/// A share of a server, or a directory of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SmbShare {
    /// The server, without the brackets of an IPv6 address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who logs in, where the name says it.
    pub user: Option<String>,
    /// The domain, where the name says it.
    pub domain: Option<String>,
    /// The share's name.
    pub share: String,
    /// The directory in it, without slashes at its ends.
    pub dir: String,
    /// The state of it that is meant, where it is not the present one.
    pub snapshot: Option<Snapshot>,
}

impl SmbShare {
    /// Reads `smb://[DOMAIN;][USER@]HOST[:PORT]/SHARE[/DIR]`, `//HOST/SHARE` and `\\HOST\SHARE`;
    /// `None` where it is none of them.
    pub(crate) fn parse(text: &str) -> Option<Result<SmbShare>> {
        let is_url = text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("smb://"));
        if is_url {
            return Some(SmbShare::of(&text[6..], text));
        }
        let slashes = text.replace('\\', "/");
        slashes.strip_prefix("//").map(|rest| SmbShare::of(rest, text))
    }

    fn of(rest: &str, text: &str) -> Result<SmbShare> {
        let wrong = |what: &str| {
            fail::usage(format!("'{text}' {what}; write smb://[USER@]HOST/SHARE[/DIRECTORY]"))
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (domain, user) = match login.map(|login| login.split_once(';').unwrap_or(("", login))) {
            Some((domain, user)) => (Some(domain), Some(user)),
            None => (None, None),
        };
        let given = |part: Option<&str>| part.filter(|part| !part.is_empty()).map(str::to_string);
        let (host, port) = host_and_port(place).ok_or_else(|| wrong("names no server"))?;
        let (path, snapshot) = match path.trim_end_matches('/').rsplit_once('@') {
            Some((rest, name)) if Snapshot::parse(name).is_some() => (rest, Snapshot::parse(name)),
            _ => (path, None),
        };
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let Some((share, dir)) = names.split_first() else {
            return Err(wrong("names no share"));
        };
        if dir.iter().any(|name| *name == "." || *name == "..") {
            return Err(fail::usage(format!("'{text}': a directory is named without . and ..")));
        }
        Ok(SmbShare {
            host,
            port,
            user: given(user),
            domain: given(domain),
            share: (*share).to_string(),
            dir: dir.join("/"),
            snapshot,
        })
    }

    /// The one name it has however it was written, and whoever logs in.
    pub(crate) fn canonical(&self) -> String {
        let start = format!("{}/{}", self.server(), self.share);
        let start = if self.dir.is_empty() { start } else { format!("{start}/{}", self.dir) };
        match &self.snapshot {
            Some(snapshot) => format!("{start}@{snapshot}"),
            None => start,
        }
    }

    /// The server, by the one name that it has.
    pub(crate) fn server(&self) -> String {
        let host = self.host.to_ascii_lowercase();
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = if self.port == PORT { String::new() } else { format!(":{}", self.port) };
        format!("smb://{host}{port}")
    }

    /// The last part of the name.
    pub(crate) fn short_name(&self) -> String {
        let last = self.dir.rsplit('/').next().filter(|name| !name.is_empty());
        last.unwrap_or(&self.share).to_string()
    }
}

fn host_and_port(place: &str) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port > 0))?;
    let is_odd = |symbol: char| symbol.is_whitespace() || symbol.is_control();
    (!host.is_empty() && !host.contains(is_odd)).then(|| (host.to_string(), port))
}

/// `covefs snapshots`: one on each line, oldest first.
pub(crate) fn snapshots(share: &SmbShare, file: Option<&Path>) -> Result<()> {
    let set = |name: &str| std::env::var(name).ok();
    let typed = match login::missing(share, file, set)? {
        Some(wanted) => secret::find(&wanted, &mut |note| eprintln!("covefs: {note}"))?,
        None => None,
    };
    let login = login::read(share, file, set, typed)?;
    let user = login.user.clone();
    let config = SmbConfig { port: share.port, ..SmbConfig::new(&share.host, &share.share, login) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime
        .block_on(async { tokio::time::timeout(OPEN_WITHIN, SmbRemote::snapshots(config)).await });
    let now = SmbShare { snapshot: None, ..share.clone() };
    match asked {
        Ok(Ok(found)) if found.is_empty() => say!("{} has no snapshots", now.canonical()),
        Ok(Ok(found)) => {
            for snapshot in found {
                say!("{}@{snapshot}", now.canonical());
            }
        }
        Ok(Err(error)) => {
            bail!("the snapshots of {}: {}", now.canonical(), reason(share, &user, &error))
        }
        Err(_) => bail!("the share {} does not answer", now.canonical()),
    }
    Ok(())
}

/// Opens the share. Out of reach, it is an error without an earlier cache; with one the drive
/// begins with what that has (U4). `note` is told why.
pub(crate) async fn open(
    share: &SmbShare,
    login: Login,
    encrypt: Encrypt,
    config: &Config,
    note: &mut dyn FnMut(String),
) -> Result<Arc<SmbRemote>> {
    let earlier = place::earlier(&config.cache_dir);
    let known = earlier.as_ref().and_then(|earlier| earlier.identity.clone());
    let user = login.user.clone();
    let remote = SmbRemote::new(SmbConfig {
        port: share.port,
        dir: RemotePath::parse(share.dir.as_bytes()),
        defaults: Defaults {
            uid: config.uid,
            gid: config.gid,
            file_mode: config.file_mode,
            dir_mode: config.dir_mode,
        },
        known,
        encrypt,
        read_only: config.read_only,
        snapshot: share.snapshot.clone(),
        ..SmbConfig::new(&share.host, &share.share, login)
    });
    begun(remote, earlier, config, &|error| reason(share, &user, error), note).await
}

/// A share to begin with, once it was looked at: out of reach, only with an earlier cache of it.
pub(crate) async fn begun(
    remote: SmbRemote,
    earlier: Option<Earlier>,
    config: &Config,
    reason: &dyn Fn(&covefs_remote::Error) -> String,
    note: &mut dyn FnMut(String),
) -> Result<Arc<SmbRemote>> {
    let dir = &config.cache_dir;
    let of_another = earlier.filter(|earlier| earlier.share != config.share);
    let asked = tokio::time::timeout(OPEN_WITHIN, remote.identity()).await;
    let (kind, why) = match asked {
        Ok(Ok(found)) => match of_another {
            Some(earlier) if earlier.identity != Some(found) => {
                let error = StartError::OtherShare { dir: dir.clone(), theirs: earlier.share };
                return Err(error.into());
            }
            _ => return Ok(Arc::new(remote)),
        },
        Ok(Err(error)) => match of_another {
            Some(earlier) if error.kind == ErrorKind::IdentityChanged => {
                let error = StartError::OtherShare { dir: dir.clone(), theirs: earlier.share };
                return Err(error.into());
            }
            _ => (error.kind, reason(&error)),
        },
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
fn reason(share: &SmbShare, user: &str, error: &covefs_remote::Error) -> String {
    let beneath = error.source.as_ref().map_or_else(|| error.to_string(), ToString::to_string);
    match error.kind {
        ErrorKind::IdentityChanged if share.snapshot.is_some() => {
            "there is no such snapshot, or no such directory in it; covefs snapshots lists them"
                .into()
        }
        ErrorKind::Unauthenticated if user.is_empty() => {
            format!("{} refuses the Kerberos ticket: {beneath}", share.host)
        }
        ErrorKind::Unauthenticated => {
            format!(
                "{} refuses the login of '{user}'; look at user, password and domain",
                share.host
            )
        }
        ErrorKind::PermissionDenied => {
            format!("'{user}' may not use the share {} of {}", share.share, share.host)
        }
        _ => beneath,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> SmbShare {
        SmbShare::parse(text).unwrap().unwrap()
    }

    #[test]
    fn a_share_has_one_name_however_it_is_written() {
        for text in
            ["smb://nas/photos", "SMB://me@NAS:445/photos/", "//nas/photos", r"\\nas\photos"]
        {
            assert_eq!(parsed(text).canonical(), "smb://nas/photos", "{text}");
        }
        let share = parsed("smb://WORK;me@nas:4450/photos/2024/june");
        let login = (share.domain.as_deref(), share.user.as_deref());
        assert_eq!((login, share.port), ((Some("WORK"), Some("me")), 4450));
        assert_eq!(share.canonical(), "smb://nas:4450/photos/2024/june");
        assert_eq!(
            (share.short_name(), parsed("//nas/photos").short_name()),
            ("june".into(), "photos".into())
        );
        let at = "GMT-2020.01.02-03.04.05";
        for name in ["smb://nas/photos", "smb://nas/photos/june@home"] {
            let share = parsed(&format!("{name}@{at}"));
            assert_eq!(share.snapshot.as_ref().map(ToString::to_string).as_deref(), Some(at));
            assert_eq!(share.canonical(), format!("{name}@{at}"));
        }
        assert_eq!(parsed("smb://nas/photos@GMT-2020.01.02").share, "photos@GMT-2020.01.02");
        let six = parsed("smb://[fe80::1]:4450/x");
        assert_eq!((&*six.host, six.canonical()), ("fe80::1", "smb://[fe80::1]:4450/x".into()));
        assert!(SmbShare::parse("dir:/x").is_none() && SmbShare::parse("/x/y").is_none());
    }

    #[test]
    fn what_is_missing_is_said() {
        for (text, wanted) in [
            ("smb://nas", "names no share"),
            ("//nas/", "names no share"),
            ("smb:///x", "names no server"),
            ("smb://nas:0/x", "names no server"),
            ("smb://nas:port/x", "names no server"),
            ("smb://nas/x/../y", "without . and .."),
        ] {
            let error = SmbShare::parse(text).unwrap().unwrap_err();
            assert_eq!(fail::exit_code(&error), 2);
            assert!(fail::one_line(&error).contains(wanted), "{error}");
        }
    }
}
