//! Which drives are mounted, and questions to mounts that may never answer.

use crate::system::table;
use anyhow::{Context, Result};
use covefs_mount::MountInfo;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// How long a mount may take to answer before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// All mounts, in the order of the table: of two at one place the later one is on top.
fn all() -> Result<Vec<MountInfo>> {
    table::all().context("look which drives there are")
}

/// All drives.
pub(crate) fn drives() -> Result<Vec<MountInfo>> {
    Ok(all()?.into_iter().filter(MountInfo::is_covefs).collect())
}

/// What is mounted exactly there, on top. The path is a resolved one.
pub(crate) fn at(mountpoint: &Path) -> Result<Option<MountInfo>> {
    Ok(all()?.into_iter().rfind(|mount| mount.mountpoint == mountpoint))
}

/// The mount that holds a resolved path.
pub(crate) fn holding(path: &Path) -> Result<Option<MountInfo>> {
    let above = all()?.into_iter().filter(|mount| path.starts_with(&mount.mountpoint));
    // Of several deepest ones the last, which is on top.
    Ok(above.max_by_key(|mount| mount.mountpoint.components().count()))
}

/// Runs a question that may hang for ever in the kernel; `None` when it did not answer in time.
/// The thread is left behind then: nothing can end it.
pub(crate) fn within<T: Send + 'static>(
    patience: Duration,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = mpsc::channel();
    let asking = std::thread::Builder::new().name("covefs-ask".into()).spawn(move || {
        // Nobody listens any more when the time is over.
        let _ = answer.send(ask());
    });
    asking.ok()?;
    answered.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_root_holds_every_path() {
        let holding = holding(Path::new("/")).unwrap().unwrap();
        assert_eq!(holding.mountpoint, Path::new("/"));
    }

    #[test]
    fn a_question_that_hangs_is_given_up() {
        let (_keep, never) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(20), move || never.recv()), None);
        assert_eq!(within(PATIENCE, || 7), Some(7));
    }
}
