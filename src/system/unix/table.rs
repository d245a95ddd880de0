//! Which drives there are: as the mount table says, where there is one.

use crate::client::{Drive, Found};
use crate::mounts::{self, PATIENCE};
use crate::registry;
use crate::system::mountpoint::is_dead;
use crate::system::user::User;
use covefs_mount::MountInfo;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The root's attribute that names the cache directory.
const ATTRIBUTE: &str = "user.covefs.cache_dir";

/// All mounts, in the order of the table: of two at one place the later one is on top.
pub(crate) fn all() -> io::Result<Vec<MountInfo>> {
    if cfg!(target_os = "linux") {
        return covefs_mount::mounts();
    }
    // Without a table, as the list of caches says.
    let base = User::current().state_base().ok();
    Ok(base.map_or_else(Vec::new, |base| registry::mounted(&base)))
}

/// Asks the mountpoint, then the list.
pub(crate) fn find(mountpoint: &Path) -> Found {
    let asked = mountpoint.to_path_buf();
    let answer = mounts::within(PATIENCE, move || read_attribute(&asked));
    match answer {
        Some(Ok(cache_dir)) => {
            Found::Live(Drive { mountpoint: mountpoint.to_path_buf(), cache_dir })
        }
        Some(Err(error)) if is_dead(&error) => Found::Dead,
        Some(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Found::Foreign,
        Some(Err(_)) | None => {
            let base = User::current().state_base().ok();
            let listed = base.and_then(|base| registry::of_mountpoint(&base, mountpoint));
            let drive = listed
                .filter(|(_, note)| note.is_alive())
                .map(|(cache_dir, _)| Drive { mountpoint: mountpoint.to_path_buf(), cache_dir });
            Found::Silent(drive)
        }
    }
}

fn read_attribute(mountpoint: &Path) -> io::Result<PathBuf> {
    let mut value = vec![0u8; 4096];
    let length = rustix::fs::getxattr(mountpoint, ATTRIBUTE, &mut value[..])?;
    value.truncate(length);
    Ok(OsString::from_vec(value).into())
}
