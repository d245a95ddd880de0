//! A directory as a share. The disk may come later, and go: each request opens it anew then.

use crate::{place, smb};
use anyhow::Result;
use covefs_cache::Config;
use covefs_remote::local::LocalRemote;
use covefs_remote::{ErrorKind, Remote};
use std::path::Path;
use std::sync::Arc;

/// Opens it. Out of reach, it is an error without an earlier cache; with one it is opened later (U4).
pub(crate) async fn open(
    path: &Path,
    config: &Config,
    note: &mut dyn FnMut(String),
) -> Result<Arc<dyn Remote>> {
    let earlier = place::earlier(&config.cache_dir);
    let known = earlier.as_ref().and_then(|earlier| earlier.identity.clone());
    let remote = LocalRemote::late(path.to_path_buf(), known, config.read_only);
    let reason = |error: &covefs_remote::Error| match error.kind {
        ErrorKind::IdentityChanged => format!(
            "at {} is not the directory that the cache was made for: a disk that is not there, or a \
             new directory; for a new one give another --cache-dir than {}",
            path.display(),
            config.cache_dir.display()
        ),
        _ => error.source.as_ref().map_or_else(|| error.to_string(), ToString::to_string),
    };
    Ok(smb::begun(remote, earlier, config, &reason, note).await?)
}
