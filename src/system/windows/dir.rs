//! A directory as a share: on Windows there is none.

use anyhow::{Result, bail};
use covefs_cache::Config;
use covefs_remote::Remote;
use std::path::Path;
use std::sync::Arc;

/// Refused before, where the share's name is read.
pub(crate) async fn open(
    path: &Path,
    _: &Config,
    _: &mut dyn FnMut(String),
) -> Result<Arc<dyn Remote>> {
    bail!("{} can be no share on Windows", path.display())
}
