//! `covefs status`: what the drives hold, for people and for programs.

use crate::client::{self, Drive, Found};
use crate::control::{Answer, Request};
use crate::fail;
use crate::mounts;
use crate::registry::{self, Note};
use crate::size::{format_age, format_size};
use crate::system::table;
use crate::system::user::User;
use crate::text::{count, escaped, print};
use anyhow::{Result, bail};
use covefs_cache::{CacheSummary, ConnectionStatus, Status};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One line of the list.
enum Shown {
    Live { status: Box<Status>, cache_dir: PathBuf },
    Silent { mountpoint: PathBuf, reason: String },
    Unmounted { cache_dir: PathBuf, summary: CacheSummary, note: Option<Note> },
}

/// Prints once, or again and again.
pub(crate) fn run(mountpoint: Option<&Path>, all: bool, json: bool, watch: bool) -> Result<()> {
    loop {
        let text = match mountpoint {
            Some(mountpoint) => one(mountpoint, json)?,
            None => list(all, json)?,
        };
        if watch && !json && std::io::stdout().is_terminal() {
            // Home, then clear what is left of the longer text before.
            print(format_args!("\x1b[H\x1b[J"));
        }
        print(format_args!("{text}"));
        if !watch {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn one(mountpoint: &Path, json: bool) -> Result<String> {
    let mount = client::mounted_at(mountpoint)?;
    match look_at(&mount.mountpoint)? {
        Shown::Silent { reason, .. } => bail!("{reason}"),
        shown if json => Ok(format!("{:#}\n", as_json(&shown))),
        shown => Ok(as_text(&shown)),
    }
}

fn list(all: bool, json: bool) -> Result<String> {
    let mut list = Vec::new();
    for mount in mounts::drives()? {
        list.push(look_at(&mount.mountpoint)?);
    }
    if all {
        list.extend(unmounted(&list));
    }
    if json {
        let list: Vec<Value> = list.iter().map(as_json).collect();
        return Ok(format!("{:#}\n", Value::from(list)));
    }
    if list.is_empty() {
        let example =
            if cfg!(windows) { "azfiles://ACCOUNT/SHARE X:" } else { "dir:/path /mountpoint" };
        return Ok(format!("no drive is mounted; mount one: covefs mount {example}\n"));
    }
    Ok(list.iter().map(as_text).collect::<Vec<_>>().join("\n"))
}

fn look_at(mountpoint: &Path) -> Result<Shown> {
    let shown = mountpoint.display();
    Ok(match table::find(mountpoint) {
        Found::Live(drive) | Found::Silent(Some(drive)) => match ask(&drive) {
            Ok(status) => Shown::Live { status, cache_dir: drive.cache_dir },
            Err(error) => {
                Shown::Silent { mountpoint: mountpoint.into(), reason: fail::one_line(&error) }
            }
        },
        Found::Dead => {
            let note = note_of(mountpoint);
            let last = note.as_ref().and_then(|note| registry::last_error(&note.log));
            let last = last.map_or_else(String::new, |last| format!("; its last error: {last}"));
            let log =
                note.map_or_else(String::new, |note| format!(" (log: {})", note.log.display()));
            let reason = format!(
                "the covefs of {shown} has died{last}{log}; mount the share again, the cache kept \
                 everything"
            );
            Shown::Silent { mountpoint: mountpoint.into(), reason }
        }
        Found::Foreign => Shown::Silent {
            mountpoint: mountpoint.into(),
            reason: format!("{shown} belongs to another user, who alone may use it"),
        },
        Found::Silent(None) => {
            Shown::Silent { mountpoint: mountpoint.into(), reason: client::hangs(mountpoint) }
        }
    })
}

/// The state of one drive, asked of its daemon.
pub(crate) fn ask(drive: &Drive) -> Result<Box<Status>> {
    match client::ask(drive, &Request::Status, &mut |_| {})? {
        Answer::Status(status) => Ok(status),
        other => bail!("the covefs of {} answered {other:?}", drive.mountpoint.display()),
    }
}

fn note_of(mountpoint: &Path) -> Option<Note> {
    let base = User::current().state_base().ok()?;
    registry::of_mountpoint(&base, mountpoint).map(|(_, note)| note)
}

/// Caches with edits that the share does not have, and no mount to bring them there.
fn unmounted(mounted: &[Shown]) -> Vec<Shown> {
    let Ok(base) = User::current().state_base() else { return Vec::new() };
    let live = |dir: &Path| {
        mounted
            .iter()
            .any(|shown| matches!(shown, Shown::Live { cache_dir, .. } if cache_dir == dir))
    };
    let caches = registry::known(&base).into_iter().filter(|dir| !live(dir));
    caches
        .filter_map(|cache_dir| match covefs_cache::summary(&cache_dir) {
            Ok(Some(summary)) if summary.dirty > 0 && summary.pid.is_none() => {
                let note = Note::read(&cache_dir);
                Some(Shown::Unmounted { cache_dir, summary, note })
            }
            Ok(_) => None,
            Err(error) => {
                eprintln!("covefs: {}", escaped(&error.to_string()));
                None
            }
        })
        .collect()
}

fn as_json(shown: &Shown) -> Value {
    match shown {
        Shown::Live { status, cache_dir } => {
            let mut value = serde_json::to_value(status).unwrap_or(Value::Null);
            if let Value::Object(fields) = &mut value {
                fields.insert("mounted".into(), true.into());
                fields.insert("cache_dir".into(), cache_dir.to_string_lossy().into());
            }
            value
        }
        Shown::Silent { mountpoint, reason } => json!({
            "mountpoint": mountpoint.to_string_lossy(),
            "mounted": false,
            "online": false,
            "error": reason,
        }),
        Shown::Unmounted { cache_dir, summary, note } => json!({
            "share": summary.share,
            "mountpoint": summary.mountpoint,
            "mounted": false,
            "online": false,
            "cache_dir": cache_dir.to_string_lossy(),
            "cache": { "dirty_bytes": summary.dirty_bytes },
            "uploads": { "waiting": summary.dirty },
            "log": note.as_ref().map(|note| note.log.to_string_lossy()),
        }),
    }
}

fn as_text(shown: &Shown) -> String {
    match shown {
        Shown::Live { status, cache_dir } => live_text(status, cache_dir),
        Shown::Silent { mountpoint, reason } => {
            format!("{}\n  {reason}\n", escaped(&mountpoint.to_string_lossy()))
        }
        Shown::Unmounted { cache_dir, summary, .. } => format!(
            "{} is not mounted, and does not have everything yet\n  waiting    {}, {}\n  \
             cache      {}\n  mount it   covefs mount {} {} --cache-dir {}\n",
            escaped(&summary.share),
            count(summary.dirty, "change"),
            format_size(summary.dirty_bytes),
            escaped(&cache_dir.to_string_lossy()),
            escaped(&summary.share),
            escaped(&summary.mountpoint),
            escaped(&cache_dir.to_string_lossy()),
        ),
    }
}

fn live_text(status: &Status, cache_dir: &Path) -> String {
    let cache = &status.cache;
    let percent = (cache.used_bytes * 100).checked_div(cache.limit_bytes).unwrap_or(0);
    let mut lines = vec![
        (
            "cache",
            format!(
                "{} of {} ({percent} %), {}, index {}",
                format_size(cache.used_bytes),
                format_size(cache.limit_bytes),
                count(cache.files, "file"),
                format_size(cache.index_bytes)
            ),
        ),
        ("uploads", uploads(status)),
        ("reads", reads(status)),
        (
            "requests",
            format!(
                "{}, {} failed, {} repeated",
                count(status.remote.requests, "request"),
                status.remote.errors,
                status.remote.retries
            ),
        ),
        ("connection", status.connection.as_ref().map_or_else(String::new, connection)),
        ("kept in", escaped(&cache_dir.to_string_lossy())),
        ("log", escaped(&status.log)),
        ("process", format!("{}, covefs {}", status.pid, escaped(&status.version))),
    ];
    if status.uploads.conflicts > 0 {
        let conflicts = count(status.uploads.conflicts, "conflict");
        let hint = format!("{conflicts}; see covefs conflicts {}", escaped(&status.mountpoint));
        lines.insert(2, ("conflicts", hint));
    }
    let state = match (status.online, status.watched) {
        (true, true) => "online, tells of changes",
        (true, false) => "online",
        (false, _) => "OFFLINE: the share cannot be reached",
    };
    let (mountpoint, share) = (escaped(&status.mountpoint), escaped(&status.share));
    let mut text = format!("{mountpoint}  {share}  {state}\n");
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        // A String takes every write.
        let _ = writeln!(text, "  {name:<10} {value}");
    }
    for message in &status.messages {
        let _ = writeln!(text, "  ! {}", escaped(message));
    }
    text
}

fn connection(connection: &ConnectionStatus) -> String {
    let ConnectionStatus { protocol, signing, cipher } = connection;
    match cipher {
        Some(cipher) => format!("{protocol}, encrypted and signed ({cipher})"),
        None => format!("{protocol}, signed ({signing}), not encrypted"),
    }
}

fn uploads(status: &Status) -> String {
    let uploads = &status.uploads;
    if uploads.waiting + uploads.active + uploads.failed == 0 && status.cache.dirty_bytes == 0 {
        return "the share has everything".into();
    }
    let mut text = format!(
        "{} waiting, {} under way, {} not on the share yet, the oldest for {}",
        uploads.waiting,
        uploads.active,
        format_size(status.cache.dirty_bytes),
        format_age(uploads.oldest_dirty_seconds)
    );
    if uploads.failed > 0 {
        let _ = write!(text, "; {} failed and will be tried again", uploads.failed);
    }
    text
}

fn reads(status: &Status) -> String {
    let reads = &status.reads;
    format!(
        "{} asked for, {} from the cache, {} fetched",
        format_size(reads.requested_bytes),
        format_size(reads.hit_bytes),
        format_size(reads.fetched_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use covefs_cache::{CacheStatus, ReadStatus, RemoteStatus, UploadStatus};

    fn status() -> Box<Status> {
        Box::new(Status {
            share: "dir:/srv/\x1b[31mshare".into(),
            mountpoint: "/mnt/x".into(),
            online: true,
            watched: false,
            cache: CacheStatus {
                limit_bytes: 10 << 30,
                used_bytes: 1 << 30,
                dirty_bytes: 0,
                index_bytes: 1 << 20,
                files: 1204,
            },
            uploads: UploadStatus {
                waiting: 0,
                active: 0,
                failed: 0,
                conflicts: 0,
                oldest_dirty_seconds: 0,
            },
            reads: ReadStatus { hit_bytes: 2048, fetched_bytes: 1024, requested_bytes: 3072 },
            remote: RemoteStatus { requests: 5, errors: 0, retries: 1 },
            connection: None,
            passthrough: false,
            pid: 42,
            version: "0.1.0".into(),
            log: "/l".into(),
            messages: Vec::new(),
        })
    }

    #[test]
    fn people_see_aligned_lines_and_no_control_characters() {
        let text = live_text(&status(), Path::new("/c"));
        assert!(text.starts_with("/mnt/x  dir:/srv/\\x1b[31mshare  online\n"), "{text}");
        assert!(text.contains("  cache      1.0 GiB of 10.0 GiB (10 %), 1,204 files"), "{text}");
        assert!(text.contains("  uploads    the share has everything\n"), "{text}");
        let mut watched = status();
        watched.watched = true;
        let text = live_text(&watched, Path::new("/c"));
        assert!(text.contains("share  online, tells of changes\n"), "{text}");
        assert!(!text.contains("connection"), "{text}");
        let mut served = status();
        let (protocol, signing) = ("SMB 3.1.1".into(), "AES-128-GMAC".into());
        served.connection = Some(ConnectionStatus { protocol, signing, cipher: None });
        let text = live_text(&served, Path::new("/c"));
        let line = "  connection SMB 3.1.1, signed (AES-128-GMAC), not encrypted\n";
        assert!(text.contains(line), "{text}");
        let mut busy = status();
        busy.online = false;
        busy.uploads.waiting = 3;
        busy.uploads.conflicts = 1;
        busy.messages.push("the share is full".into());
        let text = live_text(&busy, Path::new("/c"));
        assert!(text.contains("OFFLINE") && text.contains("3 waiting"), "{text}");
        assert!(text.contains("1 conflict; see covefs conflicts /mnt/x"), "{text}");
        assert!(text.contains("  ! the share is full\n"), "{text}");
    }

    #[test]
    fn programs_see_the_contract_s_fields() {
        let value = as_json(&Shown::Live { status: status(), cache_dir: "/c".into() });
        for field in
            ["share", "mountpoint", "online", "passthrough", "pid", "version", "log", "cache_dir"]
        {
            assert!(!value[field].is_null(), "{field}");
        }
        assert_eq!(value["cache"]["used_bytes"], 1 << 30);
        assert_eq!(value["uploads"]["oldest_dirty_seconds"], 0);
    }
}
