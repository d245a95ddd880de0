//! Finding the daemon behind a drive, and asking it.
//!
//! A mountpoint of FUSE tells itself where its cache is (an extended attribute of the root); where
//! it does not answer, and on Windows, the list of caches knows.

use crate::control::{Answer, BEAT, Request};
use crate::mounts;
use crate::system::{channel, mountpoint, table};
use anyhow::{Context, Result, bail};
use covefs_cache::Progress;
use covefs_mount::MountInfo;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// Longer than several signs of life: a busy machine is no dead daemon.
const SILENCE_MAX: Duration = Duration::from_secs(5 * BEAT.as_secs());

/// A mounted drive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Drive {
    /// Where, resolved.
    pub mountpoint: PathBuf,
    /// Its cache.
    pub cache_dir: PathBuf,
}

/// What is at a mountpoint.
#[derive(Debug)]
pub(crate) enum Found {
    /// A drive that answers.
    Live(Drive),
    /// A drive whose daemon is gone.
    Dead,
    /// A drive of another user, who alone may use it.
    #[cfg_attr(windows, expect(dead_code, reason = "other users' caches cannot be looked into"))]
    Foreign,
    /// A drive that does not answer; its cache, if the list knows it.
    Silent(Option<Drive>),
}

/// A request that the daemon refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Why, for people.
    pub message: String,
    /// Because the share cannot be reached.
    pub offline: bool,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

/// The drive mounted at exactly this path, as the mount table has it.
pub(crate) fn mounted_at(mountpoint: &Path) -> Result<MountInfo> {
    let path = mountpoint::named(mountpoint)?;
    if let Some(mount) = mounts::at(&path)?.filter(MountInfo::is_covefs) {
        return Ok(mount);
    }
    let shown = path.display();
    match mounts::holding(&path)?.filter(MountInfo::is_covefs) {
        Some(above) => {
            bail!("{shown} is inside a drive; name its mountpoint, {}", above.mountpoint.display())
        }
        None if !path.exists() => bail!("{shown} does not exist; `covefs status` lists the drives"),
        None => bail!("no drive is mounted at {shown}; `covefs status` lists the drives"),
    }
}

/// What to say of a drive that does not answer.
pub(crate) fn hangs(mountpoint: &Path) -> String {
    let shown = mountpoint.display();
    format!("the covefs of {shown} does not answer; if it hangs: covefs unmount --force {shown}")
}

/// The drive at this mountpoint, or why nobody answers there.
pub(crate) fn drive(mountpoint: &Path) -> Result<Drive> {
    let mount = mounted_at(mountpoint)?;
    let shown = mount.mountpoint.display();
    match table::find(&mount.mountpoint) {
        Found::Live(drive) | Found::Silent(Some(drive)) => Ok(drive),
        Found::Dead => bail!(
            "the covefs of {shown} has died; mount the share again, or `covefs unmount --force \
             {shown}`"
        ),
        Found::Foreign => bail!("{shown} belongs to another user, who alone may use it"),
        Found::Silent(None) => bail!("{}", hangs(&mount.mountpoint)),
    }
}

/// Asks and waits for the final answer; progress is passed on.
pub(crate) fn ask(
    drive: &Drive,
    request: &Request,
    progress: &mut dyn FnMut(Progress),
) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(converse(drive, request, progress))
}

async fn converse(
    drive: &Drive,
    request: &Request,
    progress: &mut dyn FnMut(Progress),
) -> Result<Answer> {
    let shown = drive.mountpoint.display();
    let stream = channel::connect(&drive.cache_dir).await;
    let stream = stream.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("{shown} belongs to another user; {}", channel::BE_THE_OWNER)
        }
        _ => anyhow::anyhow!("the covefs of {shown} cannot be asked: {error}"),
    })?;
    let (read, mut write) = tokio::io::split(stream);
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    write.write_all(&line).await.with_context(|| format!("ask the covefs of {shown}"))?;
    let mut lines = BufReader::new(read).lines();
    loop {
        let line = match tokio::time::timeout(SILENCE_MAX, lines.next_line()).await {
            Err(_) => bail!("the covefs of {shown} hangs; its log may say why"),
            Ok(Err(error)) => bail!("the covefs of {shown} went away: {error}"),
            Ok(Ok(None)) => break,
            Ok(Ok(Some(line))) => line,
        };
        match serde_json::from_str(&line) {
            Ok(Answer::Alive) => {}
            Ok(Answer::Progress(now)) => progress(now),
            Ok(Answer::Failed { message, offline }) => {
                return Err(Refused { message, offline }.into());
            }
            Ok(answer) => return Ok(answer),
            Err(_) => bail!("the covefs of {shown} is of another version; mount it again"),
        }
    }
    bail!("the covefs of {shown} ended without an answer; its log may say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_without_a_drive_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = drive(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("no drive is mounted at"), "{error}");
        let error = drive(&dir.path().join("gone")).unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
    }

    #[test]
    fn a_socket_without_a_daemon_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let drive = Drive { mountpoint: "/m".into(), cache_dir: dir.path().into() };
        let error = ask(&drive, &Request::Status, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("/m cannot be asked"), "{error}");
    }
}
