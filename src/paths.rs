//! Commands about files on a drive: hydrate, evict, pin, unpin, why, unlock.

use crate::client::{self, Drive};
use crate::control::{Answer, Request};
use crate::fail::{self, Silent};
use crate::mounts;
use crate::progress::Bar;
use crate::size::format_size;
use crate::system::{files, mountpoint};
use crate::text::{escaped, escaped_bytes, say};
use anyhow::{Context, Result, anyhow, bail};
use covefs_remote::RemotePath;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What to do with each path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub(crate) enum Verb {
    Hydrate,
    Evict,
    Pin,
    Unpin,
    Why,
    Unlock,
}

/// Does it to every path. One that fails is named and the others go on.
pub(crate) fn run(verb: Verb, paths: &[PathBuf]) -> Result<()> {
    let mut drives = HashMap::new();
    let mut failed = false;
    let mut freed = 0;
    for path in paths {
        match one(verb, path, &mut drives) {
            Ok(bytes) => freed += bytes,
            Err(error) => {
                failed = true;
                let path = escaped_bytes(&files::bytes(path.as_os_str()));
                let error = fail::one_line(&error);
                // Most errors name the path already.
                if error.contains(&path) {
                    eprintln!("covefs: {error}");
                } else {
                    eprintln!("covefs: {path}: {error}");
                }
            }
        }
    }
    if verb == Verb::Evict && !failed {
        say!("{} freed", format_size(freed));
    }
    if failed { Err(Silent.into()) } else { Ok(()) }
}

fn one(verb: Verb, path: &Path, drives: &mut HashMap<PathBuf, Drive>) -> Result<u64> {
    let shown = escaped_bytes(&files::bytes(path.as_os_str()));
    let (mountpoint, path) = locate(path)?;
    let drive = match drives.get(&mountpoint) {
        Some(drive) => drive.clone(),
        None => {
            let drive = client::drive(&mountpoint)?;
            drives.insert(mountpoint, drive.clone());
            drive
        }
    };
    let request = match verb {
        Verb::Hydrate => Request::Hydrate { path },
        Verb::Evict => Request::Evict { path },
        Verb::Pin => Request::Pin { path },
        Verb::Unpin => Request::Unpin { path },
        Verb::Why => Request::Why { path },
        Verb::Unlock => Request::Unlock { path },
    };
    let mut bar = Bar::new("fetching", true);
    let answer = client::ask(&drive, &request, &mut |now| bar.show(now));
    bar.finish();
    match answer? {
        Answer::Count(bytes) => Ok(bytes),
        Answer::Lines(lines) => {
            for line in lines {
                say!("{}", escaped(&line));
            }
            Ok(0)
        }
        _ if verb == Verb::Unlock => {
            say!("{}: its lock is gone; what waits for it goes up", shown);
            Ok(0)
        }
        _ => Ok(0),
    }
}

/// The drive that holds a path, and the path on it.
fn locate(path: &Path) -> Result<(PathBuf, RemotePath)> {
    let full = unfollowed(path)?;
    let mount = mounts::holding(&full)?.filter(covefs_mount::MountInfo::is_covefs);
    let Some(mount) = mount else {
        bail!("{} is not on a covefs drive; `covefs status` lists the drives", full.display());
    };
    let below = full.strip_prefix(&mount.mountpoint).context("find the path on the drive")?;
    Ok((mount.mountpoint.clone(), files::on_share(below)))
}

fn unfollowed(path: &Path) -> Result<PathBuf> {
    let asked = path.to_path_buf();
    let answer = mounts::within(mounts::PATIENCE, move || files::unfollowed(&asked));
    let shown = path.display();
    match answer {
        Some(Ok(full)) => Ok(full),
        Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{shown}: no such file or directory")
        }
        Some(Err(error)) if mountpoint::is_dead(&error) => {
            bail!("{shown} is on a drive whose covefs has died; mount the share again")
        }
        Some(Err(error)) => Err(anyhow!("{shown}: {error}")),
        None => bail!("{shown}: the drive does not answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_elsewhere_is_named() {
        let here = std::env::current_exe().unwrap();
        let error = locate(&here).unwrap_err().to_string();
        assert!(error.contains(" is not on a covefs drive; `covefs status`"), "{error}");
        let error = locate(Path::new("/nonexistent/a/b")).unwrap_err().to_string();
        assert!(error.contains("no such file"), "{error}");
    }
}
