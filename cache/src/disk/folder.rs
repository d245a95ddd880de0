//! Whole folders on the real disk that belong to others: the index's.

use super::system;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Damaged folders kept for whoever wants to look; each may be as big as the index.
const BAD_FOLDERS: usize = 2;

/// Makes every file below a folder durable, and the names in it. sled's own flush asks for
/// `sync_file_range`, which leaves the drive's cache and the file's length out.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let synced = if entry.file_type()?.is_dir() {
            sync_folder(&entry.path())
        } else {
            system::open_to_sync(&entry.path()).and_then(|file| file.sync_data())
        };
        match synced {
            // sled replaces its snapshots; a name that is gone holds nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    system::sync_directory(dir)
}

/// Notes that a folder is damaged, for [`open_or_set_aside`] of the next start.
pub(crate) fn mark_damaged(dir: &Path) -> io::Result<()> {
    File::create(beside(dir, ".damaged"))?.sync_all()
}

/// Opens what lies in a folder. If it was marked, or `open` fails, the folder is renamed to
/// `NAME.bad-N` and a fresh one is opened; the reason comes back with it.
pub(crate) fn open_or_set_aside<T>(
    dir: &Path,
    open: impl Fn(&Path) -> Result<T, String>,
) -> io::Result<(T, Option<String>)> {
    let mark = beside(dir, ".damaged");
    let reason = if mark.try_exists()? {
        "it failed while it was in use".to_owned()
    } else {
        match open(dir) {
            Ok(opened) => return Ok((opened, None)),
            Err(reason) => reason,
        }
    };
    if let Some(aside) = set_aside(dir)? {
        tracing::warn!(folder = %dir.display(), aside = %aside.display(), reason, "begin a fresh index");
    }
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let opened = open(dir).map_err(io::Error::other)?;
    Ok((opened, Some(reason)))
}

/// Renames a folder out of the way and removes all but the newest of those that were before it.
fn set_aside(dir: &Path) -> io::Result<Option<PathBuf>> {
    if !dir.try_exists()? {
        return Ok(None);
    }
    let mut earlier = bad_numbers(dir)?;
    let number = earlier.last().map_or(1, |last| last + 1);
    let aside = beside(dir, &format!(".bad-{number}"));
    fs::rename(dir, &aside)?;
    earlier.push(number);
    for old in &earlier[..earlier.len().saturating_sub(BAD_FOLDERS)] {
        let old = beside(dir, &format!(".bad-{old}"));
        if old.is_dir() {
            fs::remove_dir_all(old)?
        } else {
            fs::remove_file(old)?
        };
    }
    Ok(Some(aside))
}

fn bad_numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let prefix = format!("{}.bad-", name(dir));
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir.parent().unwrap_or(Path::new(".")))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(number) = name.strip_prefix(&prefix).and_then(|tail| tail.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    dir.with_file_name(format!("{}{suffix}", name(dir)))
}

fn name(dir: &Path) -> String {
    dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
