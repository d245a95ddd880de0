//! Where a cache is kept and how big it may be: the default directory (U1), paths that must not
//! contain one another (U2), the limit's bounds (E2).

use crate::fail;
use crate::share::{Share, resolved};
use crate::size::format_size;
use crate::system::files;
use anyhow::{Context, Result, bail};
use covefs_cache::CACHE_FLOOR;
use covefs_remote::ShareIdentity;
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// The default limit never exceeds this: a cache should not surprise its disk's owner.
const LIMIT_BYTES_DEFAULT_MAX: u64 = 20 << 30;

/// `NAME-HASH` below the state directory; the same share always gets the same one.
pub(crate) fn default_cache_dir(base: &Path, share: &Share) -> PathBuf {
    let fits = |symbol: char| symbol.is_ascii_alphanumeric() || matches!(symbol, '-' | '_' | '.');
    let name: String = share.short_name().chars().take(40).collect();
    let name: String = name.chars().map(|s| if fits(s) { s } else { '-' }).collect();
    let name = name.trim_start_matches('.');
    let hash = fnv1a(&share.identity_bytes());
    base.join(format!("{}-{:012x}", if name.is_empty() { "share" } else { name }, hash >> 16))
}

/// FNV-1a: it must stay the same for ever, or a cache with unsynced edits is not found again.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Refuses paths that lie inside one another: reading the drive would read the cache of the
/// drive, or the share would fill with the cache of itself.
pub(crate) fn check_apart(
    share: Option<&Path>,
    mountpoint: &Path,
    cache_dir: &Path,
    log: &Path,
) -> Result<()> {
    let cache_dir = resolved(cache_dir);
    let log = resolved(log);
    let places = [
        share.map(|path| ("the share", path)),
        Some(("the mountpoint", mountpoint)),
        Some(("the cache directory", cache_dir.as_path())),
    ];
    let places: Vec<_> = places.into_iter().flatten().collect();
    for (at, (outer, outer_path)) in places.iter().enumerate() {
        for (other, (inner, inner_path)) in places.iter().enumerate() {
            if at == other || !inner_path.starts_with(outer_path) {
                continue;
            }
            let how = if inner_path == outer_path { "is" } else { "lies inside" };
            bail!(
                "{inner} {} {how} {outer} {}; choose places apart from one another",
                inner_path.display(),
                outer_path.display()
            );
        }
        // The log's default place is in the cache directory, where the cache knows its name.
        if *outer != "the cache directory" && log.starts_with(outer_path) {
            bail!(
                "the log file {} lies inside {outer} {}; choose another --log",
                log.display(),
                outer_path.display()
            );
        }
    }
    if log == cache_dir {
        bail!("the log file {} is the cache directory; choose another --log", log.display());
    }
    Ok(())
}

/// All and free bytes of the disk that a path lies on, or will lie on.
pub(crate) fn disk_of(path: &Path) -> Result<(u64, u64)> {
    let there = path.ancestors().find(|upper| upper.exists()).unwrap_or(Path::new("/"));
    let disk = covefs_cache::disk_space(there)
        .with_context(|| format!("ask how big the disk of {} is", there.display()))?;
    Ok((disk.total, disk.free))
}

/// The limit to mount with: what was asked for if the disk can have it, else what was chosen
/// before for this cache, else the default.
pub(crate) fn choose_limit(
    asked: Option<u64>,
    earlier: Option<u64>,
    cache_dir: &Path,
    (total, free): (u64, u64),
) -> Result<u64> {
    let least = format_size(CACHE_FLOOR);
    let Some(asked) = asked else {
        // The free space that the default was made from holds the cache now, so it is not
        // computed anew.
        let limit = match earlier {
            Some(limit) if (CACHE_FLOOR..=total).contains(&limit) => limit,
            _ => LIMIT_BYTES_DEFAULT_MAX.min(free / 2),
        };
        if limit < CACHE_FLOOR {
            bail!(
                "only {} free on the disk of {}, and the cache needs at least {least}; free some, \
                 or give a --cache-dir on another disk",
                format_size(free),
                cache_dir.display()
            );
        }
        return Ok(limit);
    };
    if asked < CACHE_FLOOR {
        let asked = format_size(asked);
        return Err(fail::usage(format!("cache size {asked} is too small; the least is {least}")));
    }
    if asked > total {
        return Err(fail::usage(format!(
            "cache size {} is more than the disk of {} holds, {}; choose less",
            format_size(asked),
            cache_dir.display(),
            format_size(total)
        )));
    }
    Ok(asked)
}

/// Makes the cache directory, for its owner only; says whether it is new. An existing one must be
/// empty or a cache.
pub(crate) fn make_cache_dir(dir: &Path) -> Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            let mut foreign = entries.flatten().filter(|entry| !is_ours(&entry.file_name()));
            match foreign.next() {
                Some(entry) if !is_cache(dir) => bail!(
                    "cache directory {} holds something else ({}); name an empty directory",
                    dir.display(),
                    crate::text::escaped(&entry.file_name().to_string_lossy())
                ),
                _ => check_whole(dir).map(|()| false),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = files::make_private_dir(dir);
            made.map(|()| true).map_err(|error| refused(dir, &error))
        }
        Err(error) => Err(refused(dir, &error)),
    }
}

/// Refuses what is left of a cache that lost its `cache.json`: a new one in its place would give
/// the numbers of its files to others, and the edits in it would go.
fn check_whole(dir: &Path) -> Result<()> {
    // A mount that failed early leaves empty directories.
    let holds =
        |name: &str| std::fs::read_dir(dir.join(name)).is_ok_and(|mut it| it.next().is_some());
    let left = ["data", "journal", "meta.sled"].into_iter().find(|name| holds(name));
    match left {
        Some(name) if !is_cache(dir) => bail!(
            "cache directory {} holds {name} of an earlier cache but no cache.json; move it away, \
             it may hold edits that the share does not have",
            dir.display()
        ),
        _ => Ok(()),
    }
}

/// What a cache was made for, as its `cache.json` says.
#[derive(Deserialize)]
pub(crate) struct Earlier {
    /// The share's name.
    pub share: String,
    /// The share itself.
    pub identity: Option<ShareIdentity>,
}

/// `None` where there is no cache, or one that this version cannot read: the cache's to say.
pub(crate) fn earlier(cache_dir: &Path) -> Option<Earlier> {
    let text = std::fs::read(cache_dir.join("cache.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Whether a cache was made here before.
pub(crate) fn is_cache(dir: &Path) -> bool {
    dir.join("cache.json").exists()
}

/// Files that a mount which failed half-way leaves in a directory that is no cache yet.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    ["covefs.log", "mount.json", "lock", "cache.json"].iter().any(|ours| name.starts_with(ours))
        || ["control", "data", "journal", "meta.sled", "recovered", "lost+found"].contains(&&*name)
}

fn refused(dir: &Path, error: &io::Error) -> anyhow::Error {
    let dir = dir.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "no permission to keep a cache in {dir}; give --cache-dir a directory of yours"
        ),
        io::ErrorKind::NotADirectory => {
            anyhow::anyhow!("cache directory {dir} is not a directory; name another --cache-dir")
        }
        io::ErrorKind::StorageFull => {
            anyhow::anyhow!("the disk of the cache directory {dir} is full; free some space")
        }
        _ => anyhow::anyhow!("cannot use the cache directory {dir}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_share_s_default_directory_never_changes() {
        let share = Share::Dir("/srv/my share".into());
        let dir = default_cache_dir(Path::new("/var/lib/covefs"), &share);
        assert_eq!(dir, Path::new("/var/lib/covefs/my-share-bf8f10a529fd"));
        let other = default_cache_dir(Path::new("/v"), &Share::Dir("/srv2/my share".into()));
        assert_ne!(dir.file_name(), other.file_name());
    }

    #[cfg(unix)]
    #[test]
    fn paths_must_lie_apart() {
        let check = |share: &str, mountpoint: &str, cache: &str, log: &str| {
            let paths = [share, mountpoint, cache, log].map(Path::new);
            check_apart(Some(paths[0]), paths[1], paths[2], paths[3])
                .map_err(|error| error.to_string())
        };
        assert_eq!(check("/s", "/m", "/c", "/c/covefs.log"), Ok(()));
        assert_eq!(check("/s", "/share", "/c", "/l"), Ok(()));
        for (paths, wanted) in [
            (["/s", "/s/m", "/c", "/l"], "the mountpoint /s/m lies inside the share /s"),
            (["/m/s", "/m", "/c", "/l"], "the share /m/s lies inside the mountpoint /m"),
            (["/s", "/m", "/s/c", "/l"], "the cache directory /s/c lies inside the share"),
            (["/s", "/m", "/m/c", "/l"], "the cache directory /m/c lies inside the mountpoint"),
            (["/s", "/s", "/c", "/l"], "the mountpoint /s is the share /s"),
            (["/s", "/m", "/c", "/s/l"], "the log file /s/l lies inside the share"),
            (["/s", "/m", "/c", "/m/l"], "the log file /m/l lies inside the mountpoint"),
            (["/s", "/m", "/c", "/c"], "the log file /c is the cache directory"),
        ] {
            let error = check(paths[0], paths[1], paths[2], paths[3]).unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn the_limit_fits_the_disk() {
        let dir = Path::new("/c");
        let limit = |asked, earlier, disk| {
            choose_limit(asked, earlier, dir, disk).map_err(|error| error.to_string())
        };
        assert_eq!(limit(None, None, (100 * GIB, 10 * GIB)), Ok(5 * GIB));
        assert_eq!(limit(None, None, (100 * GIB, 90 * GIB)), Ok(20 * GIB));
        assert_eq!(limit(None, Some(15 * GIB), (100 * GIB, 2 * GIB)), Ok(15 * GIB));
        assert_eq!(limit(Some(GIB), Some(GIB * 2), (100 * GIB, 2 * GIB)), Ok(GIB));
        assert!(limit(None, None, (GIB, 1 << 20)).unwrap_err().contains("only 1.0 MiB free"));
        let error = limit(Some(1 << 20), None, (GIB, GIB)).unwrap_err();
        assert!(error.contains("too small; the least is 64.0 MiB"), "{error}");
        let error = limit(Some(2 * GIB), None, (GIB, GIB)).unwrap_err();
        assert!(error.contains("more than the disk of /c holds, 1.0 GiB"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_with_other_things_is_no_cache() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("a/b");
        make_cache_dir(&cache).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&cache.metadata().unwrap());
        assert_eq!(mode & 0o777, 0o700);
        std::fs::write(cache.join("covefs.log"), "").unwrap();
        make_cache_dir(&cache).unwrap();
        std::fs::write(cache.join("thesis.txt"), "").unwrap();
        let error = make_cache_dir(&cache).unwrap_err().to_string();
        assert!(error.contains("thesis.txt"), "{error}");
        std::fs::write(cache.join("cache.json"), "").unwrap();
        make_cache_dir(&cache).unwrap();
        let error = make_cache_dir(&cache.join("thesis.txt")).unwrap_err().to_string();
        assert!(error.contains("not a directory"), "{error}");
    }

    #[test]
    fn the_rest_of_a_cache_is_not_built_upon() {
        for part in ["data", "journal", "meta.sled"] {
            let dir = tempfile::tempdir().unwrap();
            let cache = dir.path();
            std::fs::create_dir(cache.join(part)).unwrap();
            make_cache_dir(cache).unwrap();
            std::fs::write(cache.join(part).join("1"), "x").unwrap();
            let error = make_cache_dir(cache).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("move it away"), "{error}");
            std::fs::write(cache.join("cache.json"), "{}").unwrap();
            make_cache_dir(cache).unwrap();
        }
    }
}
