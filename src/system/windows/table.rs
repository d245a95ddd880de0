//! Which drives there are. Windows has no table that says whose a drive is: the caches know.

use crate::client::{Drive, Found};
use crate::registry;
use crate::system::user::{User, system_local};
use covefs_mount::MountInfo;
use std::io;
use std::path::{Path, PathBuf};

/// All drives of this user, and of the service as far as this user may see them.
pub(crate) fn all() -> io::Result<Vec<MountInfo>> {
    Ok(bases().iter().flat_map(|base| registry::mounted(base)).collect())
}

/// What is at a mountpoint that was in the table.
pub(crate) fn find(mountpoint: &Path) -> Found {
    let found = bases().iter().find_map(|base| registry::of_mountpoint(base, mountpoint));
    match found {
        Some((cache_dir, note)) if note.is_alive() => {
            Found::Live(Drive { mountpoint: mountpoint.to_path_buf(), cache_dir })
        }
        Some(_) => Found::Dead,
        None => Found::Silent(None),
    }
}

/// Where caches are listed: the user's own place, and that of the system's account.
fn bases() -> Vec<PathBuf> {
    let own = User::current().state_base().ok();
    let system = system_local().map(|local| local.join("covefs"));
    let mut bases: Vec<PathBuf> = own.into_iter().chain(system).collect();
    bases.dedup();
    bases
}
