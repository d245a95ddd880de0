//! Who runs the program, and where that user keeps state (U1).

use anyhow::{Result, bail};
use std::path::PathBuf;

/// The user, and what the environment says of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct User {
    /// `LOCALAPPDATA`: what does not follow the user to other machines.
    pub local: Option<PathBuf>,
    /// `APPDATA`: settings.
    pub roaming: Option<PathBuf>,
}

impl User {
    /// Of this process.
    pub(crate) fn current() -> User {
        let dir = |name| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        User { local: dir("LOCALAPPDATA").or_else(system_local), roaming: dir("APPDATA") }
    }

    /// Whether others use the drive by default; a service is told so when it is installed.
    pub(crate) fn is_root(&self) -> bool {
        false
    }

    /// Numbers of owners mean nothing here: access is by one list for all.
    pub(crate) fn file_owner(&self) -> (u32, u32) {
        (0, 0)
    }

    /// The configuration files that need not be named. None for all users: anybody may create it.
    pub(crate) fn config_files(&self) -> Vec<PathBuf> {
        self.roaming.iter().map(|dir| dir.join("covefs.toml")).collect()
    }

    /// Where caches are kept by default: they hold the only copy of edits not uploaded yet.
    pub(crate) fn state_base(&self) -> Result<PathBuf> {
        match &self.local {
            Some(dir) => Ok(dir.join("covefs")),
            None => bail!("no place for the cache: LOCALAPPDATA is not set; give --cache-dir"),
        }
    }
}

/// `LOCALAPPDATA` of the system's account, which services of it are not always told.
pub(crate) fn system_local() -> Option<PathBuf> {
    let root = PathBuf::from(std::env::var_os("SystemRoot")?);
    Some(root.join(r"System32\config\systemprofile\AppData\Local"))
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}
