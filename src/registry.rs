//! Which cache directories there are, and what the last mount of each was told: so that `status`
//! finds custom ones, a dead daemon's log, and edits that wait in a cache nobody mounted.
//!
//! The list is a directory with an entry for each: adding one is atomic and needs no lock.

use crate::place::{fnv1a, is_cache};
use crate::system::{daemon, files};
use crate::text;
use anyhow::{Context, Result};
use covefs_mount::MountInfo;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIST: &str = "known";
const NOTE: &str = "mount.json";
const LOST_AFTER: Duration = Duration::from_secs(86_400);
/// What the log says once a mount is usable; errors above belong to an earlier one.
pub(crate) const MOUNTED: &str = "the drive is usable";

/// What the last mount of a cache was told; in the cache directory, for people and for `status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The share.
    pub share: String,
    /// Where it was mounted.
    pub mountpoint: String,
    /// The daemon.
    pub pid: u32,
    /// Its log.
    pub log: PathBuf,
    /// The cache's limit: the next mount without --cache-size keeps it.
    pub limit_bytes: u64,
    /// False once the daemon ended in good order.
    pub running: bool,
}

impl Note {
    /// Of this cache directory, if a mount left one.
    pub(crate) fn read(cache_dir: &Path) -> Option<Note> {
        let text = std::fs::read(cache_dir.join(NOTE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Replaces the note.
    pub(crate) fn write(&self, cache_dir: &Path) -> Result<()> {
        let temp = cache_dir.join("mount.json.new");
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(&temp, text)
            .and_then(|()| std::fs::rename(&temp, cache_dir.join(NOTE)))
            .with_context(|| format!("write {}", cache_dir.join(NOTE).display()))
    }

    /// Whether the daemon that wrote it is still there.
    pub(crate) fn is_alive(&self) -> bool {
        self.running && daemon::is_running(self.pid)
    }
}

/// Adds a cache directory to the list.
pub(crate) fn remember(base: &Path, cache_dir: &Path) -> Result<()> {
    let list = base.join(LIST);
    files::make_private_dir(&list).with_context(|| format!("make {}", list.display()))?;
    forget_lost(&list);
    let link = list.join(format!("{:016x}", fnv1a(&files::bytes(cache_dir.as_os_str()))));
    match files::write_entry(&link, cache_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("write {}", link.display()))
        }
        _ => Ok(()),
    }
}

/// Takes off the list what is gone for good. A cache may be on a disk that is not plugged in
/// today, so it must be gone with the directory it was in, and for a while.
fn forget_lost(list: &Path) {
    let entries = std::fs::read_dir(list).into_iter().flatten().flatten();
    for link in entries.map(|entry| entry.path()) {
        let Ok(cache_dir) = files::read_entry(&link) else { continue };
        let made = std::fs::symlink_metadata(&link).and_then(|link| link.modified()).ok();
        let age = made.and_then(|made| made.elapsed().ok()).unwrap_or_default();
        if age > LOST_AFTER && !cache_dir.exists() && !cache_dir.parent().is_some_and(Path::exists)
        {
            // Another process may have removed it already.
            let _ = std::fs::remove_file(&link);
        }
    }
}

/// All cache directories that this user has mounted from and that are still there, sorted.
pub(crate) fn known(base: &Path) -> Vec<PathBuf> {
    let names = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut found = names(base);
    found.extend(names(&base.join(LIST)).iter().filter_map(|link| files::read_entry(link).ok()));
    found.retain(|dir| is_cache(dir));
    found.sort();
    found.dedup();
    found
}

/// The cache whose last mount was at this place, the running one first.
pub(crate) fn of_mountpoint(base: &Path, mountpoint: &Path) -> Option<(PathBuf, Note)> {
    let shown = mountpoint.to_string_lossy();
    let notes = known(base).into_iter().filter_map(|dir| Note::read(&dir).map(|note| (dir, note)));
    let mut notes: Vec<_> = notes.filter(|(_, note)| note.mountpoint == shown).collect();
    notes.sort_by_key(|(_, note)| (!note.is_alive(), !note.running));
    notes.into_iter().next()
}

/// The drives that are mounted, as notes of the caches say: for systems without a mount table.
pub(crate) fn mounted(base: &Path) -> Vec<MountInfo> {
    let notes = known(base).into_iter().filter_map(|dir| Note::read(&dir));
    notes
        .filter(Note::is_alive)
        .map(|note| MountInfo::of_ours(note.mountpoint, note.share))
        .collect()
}

/// The last thing that the last mount of a log says a person must look at.
pub(crate) fn last_error(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let tail = &bytes[bytes.len().saturating_sub(256 << 10)..];
    let tail = String::from_utf8_lossy(tail);
    let last = tail.lines().rev().take_while(|line| !line.contains(MOUNTED));
    let line = last.into_iter().find(|line| line.contains(" ERROR "))?;
    let line = line.split_once(" ERROR ").map_or(line, |(_, message)| message);
    Some(text::escaped(line.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(mountpoint: &str, pid: u32, running: bool) -> Note {
        let share = "dir:/s".into();
        let log = "/l".into();
        Note { share, mountpoint: mountpoint.into(), pid, log, limit_bytes: 1, running }
    }

    #[test]
    fn custom_and_default_caches_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        for cache in ["base/default-1", "custom", "no-cache"] {
            std::fs::create_dir_all(dir.path().join(cache)).unwrap();
        }
        let custom = dir.path().join("custom");
        std::fs::write(base.join("default-1/cache.json"), "").unwrap();
        std::fs::write(custom.join("cache.json"), "").unwrap();
        remember(&base, &custom).unwrap();
        remember(&base, &custom).unwrap();
        remember(&base, &dir.path().join("no-cache")).unwrap();
        assert_eq!(known(&base), [base.join("default-1"), custom]);
    }

    #[test]
    fn a_drive_is_found_by_its_mountpoint() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id();
        for (name, note) in
            [("a", note("/m", me, false)), ("b", note("/m", me, true)), ("c", note("/n", me, true))]
        {
            let cache = dir.path().join(name);
            std::fs::create_dir(&cache).unwrap();
            std::fs::write(cache.join("cache.json"), "").unwrap();
            note.write(&cache).unwrap();
        }
        let (cache, found) = of_mountpoint(dir.path(), Path::new("/m")).unwrap();
        assert_eq!((cache, found.is_alive()), (dir.path().join("b"), true));
        assert!(of_mountpoint(dir.path(), Path::new("/o")).is_none());
        let mounted = mounted(dir.path()).into_iter().map(|mount| mount.mountpoint);
        assert_eq!(mounted.collect::<Vec<_>>(), [Path::new("/m"), Path::new("/n")]);
    }

    #[test]
    fn the_last_error_of_a_log_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("covefs.log");
        std::fs::write(
            &log,
            "T ERROR covefs: one\nT  INFO x: y\nT ERROR covefs: two\x07\nT INFO\n",
        )
        .unwrap();
        assert_eq!(last_error(&log).as_deref(), Some("covefs: two\\x07"));
        assert_eq!(last_error(&dir.path().join("gone")), None);
        std::fs::write(&log, format!("T ERROR a: old\nT INFO b: {MOUNTED}\n")).unwrap();
        assert_eq!(last_error(&log), None);
    }
}
