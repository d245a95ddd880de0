//! Ending a drive from outside: umount(2) or fusermount3, then the daemon ends by itself.

use crate::client::{self, Found};
use crate::drive::{report_dirty, sync, wait_for_end};
use crate::fail::NotUploaded;
use crate::registry;
use crate::status;
use crate::system::table;
use crate::system::user::User;
use crate::text::escaped;
use anyhow::{Context, Result, bail};
use covefs_mount::{Detach, Unmounter};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// One that was detached by force may hang; it is not waited for longer.
const FORCED_END_WITHIN: Duration = Duration::from_secs(5);

/// `covefs unmount`.
pub(crate) fn unmount(mountpoint: &Path, wait: bool, force: bool) -> Result<()> {
    let mount = client::mounted_at(mountpoint)?;
    let at = mount.mountpoint.as_path();
    let shown = at.display();
    let drive = match table::find(at) {
        Found::Live(drive) => drive,
        Found::Dead if force => return detach_dead(at),
        Found::Dead => bail!(
            "the covefs of {shown} has died; detach it: covefs unmount --force {shown}, or just \
             mount the share again"
        ),
        Found::Silent(Some(drive)) if !force => drive,
        Found::Silent(_) if force => return detach_dead(at),
        Found::Silent(_) => bail!("{}", client::hangs(at)),
        Found::Foreign if !User::current().is_root() || wait => {
            bail!("{shown} belongs to another user, who alone may do that")
        }
        Found::Foreign => return unmount_foreign(at),
    };
    if wait {
        sync(at, true)?;
    }
    let pid = status::ask(&drive).ok().map(|status| status.pid);
    covefs_mount::unmount(at, Detach::Unused).map_err(|error| busy(at, error))?;
    if let Some(pid) = pid {
        wait_for_end(pid, &drive)?;
    }
    report_dirty(&drive.cache_dir)
}

/// Root may unmount any drive, but not look into one that is its owner's alone.
fn unmount_foreign(at: &Path) -> Result<()> {
    covefs_mount::unmount(at, Detach::Unused).map_err(|error| busy(at, error))?;
    eprintln!("covefs: what is not uploaded yet, its owner's `covefs status --all` says");
    Ok(())
}

fn busy(at: &Path, error: io::Error) -> anyhow::Error {
    let shown = at.display();
    match error.kind() {
        io::ErrorKind::ResourceBusy => {
            let users = users_of(at);
            let who = if users.is_empty() { "a program".into() } else { users.join(", ") };
            anyhow::anyhow!("{shown} is busy: in use by {who}; close it and try again")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("no permission to unmount {shown}: it is another user's; try sudo")
        }
        _ => anyhow::anyhow!("cannot unmount {shown}: {error}"),
    }
}

/// Processes with a file or a working directory on the mount, as far as this user may see. Only
/// the links are read: the mount itself may hang.
fn users_of(at: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut users = Vec::new();
    for process in processes {
        let dir = process.path();
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let files = std::fs::read_dir(dir.join("fd")).into_iter().flatten().flatten();
        let mut links = files.map(|file| file.path()).chain([dir.join("cwd"), dir.join("root")]);
        let uses = links.any(|link| std::fs::read_link(link).is_ok_and(|to| to.starts_with(at)));
        if uses {
            let name = std::fs::read_to_string(dir.join("comm")).unwrap_or_default();
            users.push(format!("{} (process {pid})", escaped(name.trim())));
        }
        if users.len() == 5 {
            break;
        }
    }
    users
}

/// Takes a drive away whose daemon is gone or hangs.
pub(crate) fn detach_dead(at: &Path) -> Result<()> {
    let base = User::current().state_base().ok();
    let cache = base.and_then(|base| registry::of_mountpoint(&base, at));
    covefs_mount::unmount(at, Detach::Force)
        .with_context(|| format!("cannot detach {}", at.display()))?;
    let Some((cache_dir, note)) = cache else { return Ok(()) };
    let deadline = Instant::now() + FORCED_END_WITHIN;
    while note.is_alive() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    if note.is_alive() {
        return Err(NotUploaded(format!(
            "{} is detached, but its process {pid} does not end and keeps the cache; what it has not \
             uploaded is safe in {}: `kill -9 {pid}`, then mount again",
            at.display(),
            cache_dir.display(),
            pid = note.pid
        ))
        .into());
    }
    report_dirty(&cache_dir)
}

/// Unmounts for a signal: in good order if nobody is in the way, else lazily.
pub(crate) fn end(unmounter: &Unmounter) -> io::Result<()> {
    unmounter.unmount(Detach::Unused).or_else(|error| {
        tracing::warn!(%error, "the drive is in use; detaching it");
        unmounter.unmount(Detach::Lazy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_said_in_words() {
        let error = std::io::Error::from_raw_os_error(rustix::io::Errno::BUSY.raw_os_error());
        let text = busy(Path::new("/nonexistent"), error).to_string();
        assert_eq!(text, "/nonexistent is busy: in use by a program; close it and try again");
    }
}
