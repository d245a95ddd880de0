//! The settings of a mount, gathered from where a user can put them (U6): flags, then `-o`, then
//! `COVEFS_...` variables, then `--config FILE`, `~/.config/covefs.toml` and `/etc/covefs.toml`.
//!
//! Each place is read into a layer of plain texts, the first layer that has a key wins, and only
//! then the winner is parsed: so every key means the same everywhere, and an error can say where
//! the bad value stands.

// Where it is said to be, `tests/fuzz` finds it too, to which this file is not in `src`.
#[path = "config/file.rs"]
pub(crate) mod file;

pub(crate) use file::{files, read_file};

use crate::fail;
use crate::size;
use anyhow::Result;
use covefs_cache::MinFree;
use covefs_remote::smb::Encrypt;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// Every key, as it is written in `-o` and in files; the flag is the same with `--` in front.
pub(crate) const KEYS: &[&str] = &[
    "cache-size",
    "cache-dir",
    "min-free",
    "max-age",
    "freshness",
    "watch",
    "site",
    "read-only",
    "sync",
    "allow-other",
    "uid",
    "gid",
    "file-mode",
    "dir-mode",
    "credentials",
    "smb-encrypt",
    "timeout",
    "log",
    "no-passthrough",
    "debounce",
    "lend-age",
    "threads",
];

/// Keys that stand for "yes" without a value.
pub(crate) const SWITCHES: &[&str] = &["read-only", "allow-other", "no-passthrough"];

/// Where a layer's values were written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// `--cache-size`.
    Flags,
    /// `-o cache-size=`.
    Options,
    /// `COVEFS_CACHE_SIZE`.
    Environment,
    /// A configuration file.
    File(PathBuf),
}

impl Origin {
    fn name(&self, key: &str) -> String {
        match self {
            Origin::Flags => format!("--{key}"),
            Origin::Options => format!("-o {key}"),
            Origin::Environment => variable(key),
            Origin::File(path) => format!("{key} in {}", path.display()),
        }
    }
}

/// The texts of one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layer {
    /// Which place.
    pub origin: Origin,
    /// Key and text.
    pub values: BTreeMap<&'static str, OsString>,
}

impl Layer {
    /// An empty layer.
    pub(crate) fn new(origin: Origin) -> Self {
        Layer { origin, values: BTreeMap::new() }
    }

    /// Adds a value where there is one.
    pub(crate) fn put(&mut self, key: &'static str, value: Option<impl Into<OsString>>) {
        debug_assert!(KEYS.contains(&key), "unknown key {key}");
        if let Some(value) = value {
            self.values.insert(key, value.into());
        }
    }

    /// What `COVEFS_...` variables say.
    pub(crate) fn of_environment(read: impl Fn(&str) -> Option<OsString>) -> Self {
        let mut layer = Layer::new(Origin::Environment);
        for key in KEYS {
            layer.put(key, read(&variable(key)).filter(|value| !value.is_empty()));
        }
        layer
    }
}

/// The key as the list has it; `_` is as good as `-`.
pub(crate) fn known_key(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-");
    KEYS.iter().find(|key| **key == name).copied()
}

/// `COVEFS_LOG` is the filter of what is logged, so the log file has another name.
fn variable(key: &str) -> String {
    match key {
        "log" => "COVEFS_LOG_FILE".into(),
        key => format!("COVEFS_{}", key.replace('-', "_").to_ascii_uppercase()),
    }
}

/// Everything a mount can be told; `None` where nobody said anything.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs)]
pub(crate) struct Settings {
    pub cache_size: Option<u64>,
    pub cache_dir: Option<PathBuf>,
    pub min_free: Option<MinFree>,
    pub max_age: Option<Duration>,
    pub freshness: Option<Duration>,
    pub watch: Option<bool>,
    pub site: Option<String>,
    pub read_only: bool,
    pub sync_share: bool,
    pub allow_other: Option<bool>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub file_mode: Option<u32>,
    pub dir_mode: Option<u32>,
    pub credentials: Option<PathBuf>,
    pub smb_encrypt: Encrypt,
    pub timeout: Option<Duration>,
    pub log: Option<PathBuf>,
    pub debounce: Option<Duration>,
    pub threads: Option<usize>,
    pub passthrough: bool,
    pub lend_age: Option<Duration>,
}

impl Settings {
    /// Parses the winners. The first layer has precedence.
    pub(crate) fn resolve(layers: &[Layer]) -> Result<Settings> {
        let winners = Winners(layers);
        let path = |key| Ok::<_, anyhow::Error>(winners.raw(key).map(|(_, value)| value.into()));
        Ok(Settings {
            cache_size: winners.parsed("cache-size", size::parse_size)?,
            cache_dir: path("cache-dir")?,
            min_free: winners.parsed("min-free", size::parse_min_free)?,
            max_age: winners.parsed("max-age", parse_max_age)?.flatten(),
            freshness: winners.parsed("freshness", size::parse_duration)?,
            watch: winners.parsed("watch", parse_switch)?,
            site: winners.parsed("site", parse_site)?,
            read_only: winners.parsed("read-only", parse_switch)?.unwrap_or(false),
            sync_share: winners.parsed("sync", parse_sync)?.unwrap_or(false),
            allow_other: winners.parsed("allow-other", parse_switch)?,
            uid: winners.parsed("uid", parse_id)?,
            gid: winners.parsed("gid", parse_id)?,
            file_mode: winners.parsed("file-mode", parse_mode)?,
            dir_mode: winners.parsed("dir-mode", parse_mode)?,
            credentials: path("credentials")?,
            smb_encrypt: winners.parsed("smb-encrypt", parse_encrypt)?.unwrap_or_default(),
            timeout: winners.parsed("timeout", parse_timeout)?,
            log: path("log")?,
            debounce: winners.parsed("debounce", size::parse_duration)?,
            passthrough: !winners.parsed("no-passthrough", parse_switch)?.unwrap_or(false),
            lend_age: winners.parsed("lend-age", size::parse_duration)?,
            threads: winners.parsed("threads", parse_threads)?,
        })
    }
}

struct Winners<'a>(&'a [Layer]);

impl Winners<'_> {
    fn raw(&self, key: &str) -> Option<(&Origin, &OsStr)> {
        self.0
            .iter()
            .find_map(|layer| layer.values.get(key).map(|value| (&layer.origin, value.as_os_str())))
    }

    fn parsed<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>> {
        let Some((origin, value)) = self.raw(key) else { return Ok(None) };
        let text = value
            .to_str()
            .ok_or_else(|| fail::usage(format!("{}: the value is no text", origin.name(key))))?;
        match parse(text.trim()) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => Err(fail::usage(format!("{}: {reason}", origin.name(key)))),
        }
    }
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("'{text}' is neither yes nor no")),
    }
}

fn parse_sync(text: &str) -> Result<bool, String> {
    match text {
        "local" => Ok(false),
        "share" => Ok(true),
        _ => Err(format!(
            "'{text}' is neither 'local' (fsync makes it safe on this disk) nor 'share' (fsync and \
             close wait for the upload)"
        )),
    }
}

fn parse_encrypt(text: &str) -> Result<Encrypt, String> {
    match text {
        "auto" => Ok(Encrypt::Auto),
        "required" => Ok(Encrypt::Required),
        "off" => Ok(Encrypt::Off),
        _ => Err(format!("'{text}' is none of auto, required, off")),
    }
}

fn parse_max_age(text: &str) -> Result<Option<Duration>, String> {
    if text == "none" { Ok(None) } else { size::parse_duration(text).map(Some) }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match size::parse_duration(text)? {
        Duration::ZERO => Err("0 would fail every request; 30s is usual".into()),
        timeout => Ok(timeout),
    }
}

fn parse_id(text: &str) -> Result<u32, String> {
    // The highest number means "unchanged" to chown.
    text.parse::<u32>()
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| format!("'{text}' is not a number of a user or group; `id` shows yours"))
}

fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text.trim_start_matches("0o"), 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("'{text}' is not an octal mode, like 0644"))
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=64) => Ok(number),
        _ => Err(format!("'{text}' is not a number from 1 to 64")),
    }
}

/// A site's name becomes part of file names: `report-SITE.txt`.
fn parse_site(text: &str) -> Result<String, String> {
    let fits = |symbol: char| symbol.is_alphanumeric() || matches!(symbol, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(fits) || text.starts_with('.') {
        return Err(format!("'{text}' is no site name: letters, digits, '-', '_', at most 64"));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(origin: Origin, values: &[(&'static str, &str)]) -> Layer {
        let mut layer = Layer::new(origin);
        for (key, value) in values {
            layer.put(key, Some(*value));
        }
        layer
    }

    #[test]
    fn the_first_place_wins() {
        let layers = [
            layer(Origin::Flags, &[("cache-size", "1G")]),
            layer(Origin::Options, &[("cache-size", "2G"), ("freshness", "1s")]),
            layer(Origin::Environment, &[("freshness", "2s"), ("site", "berlin")]),
        ];
        let settings = Settings::resolve(&layers).unwrap();
        assert_eq!(settings.cache_size, Some(1 << 30));
        assert_eq!(settings.freshness, Some(Duration::from_secs(1)));
        assert_eq!(settings.site.as_deref(), Some("berlin"));
        assert_eq!(settings.allow_other, None);
    }

    #[test]
    fn a_bad_value_is_named_with_its_place() {
        for (origin, key, value, start) in [
            (Origin::Flags, "cache-size", "big", "--cache-size: 'big'"),
            (Origin::Options, "sync", "often", "-o sync: 'often'"),
            (Origin::Environment, "min-free", "x", "COVEFS_MIN_FREE: 'x'"),
            (Origin::File("/etc/c.toml".into()), "uid", "joe", "uid in /etc/c.toml: 'joe'"),
            (Origin::Flags, "file-mode", "9", "--file-mode: '9'"),
            (Origin::Flags, "timeout", "0", "--timeout: 0"),
            (Origin::Options, "watch", "maybe", "-o watch: 'maybe'"),
            (Origin::Flags, "site", "a/b", "--site: 'a/b'"),
        ] {
            let error = Settings::resolve(&[layer(origin, &[(key, value)])]).unwrap_err();
            assert!(error.to_string().starts_with(start), "{error}");
            assert_eq!(fail::exit_code(&error), 2);
        }
    }

    #[test]
    fn variables_are_the_keys_in_capitals() {
        let read = |name: &str| match name {
            "COVEFS_CACHE_SIZE" => Some("3G".into()),
            "COVEFS_LOG" => Some("debug".into()),
            "COVEFS_LOG_FILE" => Some("/var/log/c.log".into()),
            _ => None,
        };
        let settings = Settings::resolve(&[Layer::of_environment(read)]).unwrap();
        assert_eq!(settings.cache_size, Some(3 << 30));
        assert_eq!(settings.log, Some("/var/log/c.log".into()));
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("0644"), Ok(0o644));
        assert_eq!(parse_mode("755"), Ok(0o755));
        assert!(parse_mode("10000").is_err());
    }
}
