//! From the command line to everything a mount needs to know, checked before anything is touched.

use crate::cli::MountArgs;
use crate::config::{self, Layer, Settings};
use crate::credentials;
use crate::login;
use crate::options;
use crate::place;
use crate::registry::Note;
use crate::secret::Wanted;
use crate::share::Share;
use crate::system::user::{self, User};
use crate::system::{files, mountpoint};
use anyhow::Result;
use covefs_cache::{Config, MinFree};
use covefs_mount::MountOptions;
use covefs_remote::azure::Account;
use covefs_remote::smb::{Encrypt, Login};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A mount, decided.
pub(crate) struct Plan {
    /// The share.
    pub share: Share,
    /// The login of its account, where it has one.
    pub account: Option<Account>,
    /// Who logs in, where the share's server wants it.
    pub login: Option<(Login, Encrypt)>,
    /// For the cache.
    pub config: Config,
    /// For the kernel's side.
    pub mount: MountOptions,
    /// The log file.
    pub log: PathBuf,
    /// Whether the cache directory was made just now.
    pub made_cache_dir: bool,
    /// Where the list of caches is kept.
    pub base: PathBuf,
}

/// The command line, read but not checked against the machine yet.
pub(crate) struct Request {
    share: Share,
    source: String,
    settings: Settings,
    nonempty: bool,
    extra: Vec<String>,
    /// Stay in the foreground.
    pub foreground: bool,
    /// The secret that the keyring had, or a person typed.
    pub typed: Option<String>,
}

impl Request {
    /// The secret that stands nowhere; `None`: it does, or none is needed.
    pub(crate) fn missing(&self) -> Result<Option<Wanted>> {
        let file = self.settings.credentials.as_deref();
        match &self.share {
            Share::Smb(share) => login::missing(share, file, variable),
            Share::Azure(share) => Ok(credentials::missing(&share.account, file, variable)),
            Share::Dir(_) => Ok(None),
        }
    }
}

/// Reads flags, `-o`, environment and files. Only mistakes of the user fail here.
pub(crate) fn read(args: &MountArgs, user: &User) -> Result<Request> {
    let words = options::parse(&args.options, args.sloppy)?;
    let share_text: &OsStr = words.source.as_deref().unwrap_or(&args.share);
    let share = Share::parse(share_text)?;
    let names = [share_text.to_string_lossy().into_owned(), share.canonical()];
    let mut layers =
        vec![args.layer(), words.layer, Layer::of_environment(|name| std::env::var_os(name))];
    let named = args.config.clone().or_else(|| words.config.map(PathBuf::from));
    for (path, required) in config::files(named.as_deref(), user.config_files()) {
        layers.extend(config::read_file(&path, required, &names)?);
    }
    Ok(Request {
        source: if words.source.is_some() {
            args.share.to_string_lossy().into_owned()
        } else {
            share.canonical()
        },
        share,
        settings: Settings::resolve(&layers)?,
        nonempty: words.nonempty,
        extra: words.extra,
        foreground: args.foreground || words.foreground,
        typed: None,
    })
}

/// Checks the request against the machine; `note` is told what the user should know.
pub(crate) fn decide(
    request: Request,
    mountpoint: &Path,
    user: &User,
    note: &mut dyn FnMut(String),
) -> Result<Plan> {
    let Request { share, source, settings, nonempty, extra, typed, .. } = request;
    let base = user.state_base();
    let cache_dir = match &settings.cache_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => place::default_cache_dir(base.as_ref().map_err(again)?, &share),
    };
    // Without a home a given cache directory is enough; the list is then kept beside it.
    let base = base.unwrap_or_else(|_| cache_dir.parent().unwrap_or(&cache_dir).to_path_buf());
    let log = match &settings.log {
        Some(log) => std::path::absolute(log)?,
        None => cache_dir.join("covefs.log"),
    };
    share.check(place::is_cache(&cache_dir))?;
    let file = settings.credentials.as_deref();
    let account = account(&share, file, typed.as_deref())?;
    let login = login(&share, file, typed)?.map(|login| (login, settings.smb_encrypt));
    let allow_other = settings.allow_other.unwrap_or(user.is_root());
    mountpoint::check_driver(user, allow_other)?;
    let mountpoint = mountpoint::prepare(mountpoint, nonempty, &base, note)?;
    place::check_apart(share.local_path(), &mountpoint, &cache_dir, &log)?;
    let earlier = Note::read(&cache_dir).map(|note| note.limit_bytes);
    let disk = place::disk_of(&cache_dir)?;
    let limit_bytes = place::choose_limit(settings.cache_size, earlier, &cache_dir, disk)?;
    let made_cache_dir = place::make_cache_dir(&cache_dir)?;
    if let (Share::Dir(_), Some(file)) = (&share, &settings.credentials) {
        note(format!("--credentials {} is not used: a dir: share needs none", file.display()));
    }
    let defaults = MountOptions::new(&mountpoint, source);
    let mount = MountOptions {
        read_only: settings.read_only,
        allow_other,
        threads: settings.threads.unwrap_or_else(default_threads),
        passthrough: settings.lend_age.or(defaults.passthrough).filter(|_| settings.passthrough),
        extra,
        ..defaults
    };
    // The links of the way to the cache may change later; the cache stays where it is now.
    let cache_dir = files::canonical(&cache_dir).unwrap_or(cache_dir);
    let config = cache_config(&settings, user, &share, mountpoint, cache_dir, limit_bytes);
    Ok(Plan { share, account, login, config, mount, log, made_cache_dir, base })
}

/// The login that an Azure share needs.
fn account(share: &Share, file: Option<&Path>, kept: Option<&str>) -> Result<Option<Account>> {
    match share {
        Share::Dir(_) | Share::Smb(_) => Ok(None),
        Share::Azure(share) => {
            let endpoint = share.endpoint.as_deref();
            credentials::read(&share.account, endpoint, file, variable, kept).map(Some)
        }
    }
}

/// The login that an SMB server needs.
fn login(share: &Share, file: Option<&Path>, typed: Option<String>) -> Result<Option<Login>> {
    match share {
        Share::Dir(_) | Share::Azure(_) => Ok(None),
        Share::Smb(share) => login::read(share, file, variable, typed).map(Some),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn cache_config(
    settings: &Settings,
    user: &User,
    share: &Share,
    mountpoint: PathBuf,
    cache_dir: PathBuf,
    limit_bytes: u64,
) -> Config {
    let (uid, gid) = user.file_owner();
    Config {
        cache_dir,
        share: share.canonical(),
        mountpoint,
        limit_bytes,
        min_free: settings.min_free.unwrap_or(MinFree::Percent(5.0)),
        max_age: settings.max_age,
        freshness: settings.freshness.unwrap_or(Duration::from_secs(10)),
        watch: settings.watch.unwrap_or(true),
        site: settings.site.clone().unwrap_or_else(host_name),
        read_only: settings.read_only,
        sync_share: settings.sync_share,
        timeout: settings.timeout.unwrap_or(Duration::from_secs(30)),
        debounce: settings.debounce.unwrap_or(Duration::from_secs(3)),
        uid: settings.uid.unwrap_or(uid),
        gid: settings.gid.unwrap_or(gid),
        file_mode: settings.file_mode.unwrap_or(0o644),
        dir_mode: settings.dir_mode.unwrap_or(0o755),
    }
}

fn again(error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// The first part of the host's name, as far as a file name can hold it.
fn host_name() -> String {
    let name = user::host_name();
    let fits = |symbol: &char| symbol.is_ascii_alphanumeric() || matches!(symbol, '-' | '_');
    let name: String = name.split('.').next().unwrap_or_default().chars().filter(fits).collect();
    if name.is_empty() { "site".into() } else { name.chars().take(64).collect() }
}

/// Two even on one core, so that a call that waits for the disk does not stop all others; more
/// than eight only fight over the kernel's queue.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    fn requested(line: &str) -> Result<Request> {
        use crate::cli::{Cli, Command};
        use clap::Parser;
        let user = User { uid: 1000, gid: 1000, home: None, state_home: None, sudo: None };
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Mount(args) => read(&args, &user),
            _ => panic!("not a mount"),
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_fuse_form_takes_its_share_from_source() {
        let request = requested("covefs mount photos /m -o source=dir:/srv/photos,ro").unwrap();
        assert_eq!(request.share.canonical(), "dir:/srv/photos");
        assert_eq!(request.source, "photos");
        assert!(request.settings.read_only);
        let request = requested("covefs mount dir:/srv/photos/ /m").unwrap();
        assert_eq!(request.source, "dir:/srv/photos");
    }

    #[cfg(unix)]
    #[test]
    fn flags_are_stronger_than_words() {
        let line = "covefs mount dir:/s /m --cache-size 1G -o cache-size=2G,freshness=5s,watch=off";
        let settings = requested(line).unwrap().settings;
        assert_eq!(settings.cache_size, Some(1 << 30));
        assert_eq!(settings.freshness, Some(Duration::from_secs(5)));
        assert_eq!(settings.watch, Some(false));
    }

    #[test]
    fn a_site_s_name_can_stand_in_a_file_name() {
        let name = host_name();
        assert!(!name.is_empty() && !name.contains(['.', '/']));
    }
}
