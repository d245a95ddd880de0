//! Who runs the program, and where that user keeps state (U1, U5).

use anyhow::{Result, bail};
use std::ffi::OsString;
use std::path::PathBuf;

/// The user, and what the environment says of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct User {
    /// The number that counts for permissions.
    pub uid: u32,
    /// The group's.
    pub gid: u32,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub state_home: Option<PathBuf>,
    /// Who called sudo, if anybody did.
    pub sudo: Option<(u32, u32)>,
}

impl User {
    /// Of this process.
    pub(crate) fn current() -> User {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
        User {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            home: std::env::var_os("HOME").and_then(absolute),
            state_home: std::env::var_os("XDG_STATE_HOME").and_then(absolute),
            sudo: number("SUDO_UID").zip(number("SUDO_GID")),
        }
    }

    /// Whether this is root.
    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Who owns the files of a share that knows no owners.
    pub(crate) fn file_owner(&self) -> (u32, u32) {
        match self.sudo {
            Some(caller) if self.is_root() => caller,
            _ => (self.uid, self.gid),
        }
    }

    /// The configuration files that need not be named, strongest first.
    pub(crate) fn config_files(&self) -> Vec<PathBuf> {
        let own = self.home.as_ref().map(|home| home.join(".config/covefs.toml"));
        own.into_iter().chain(["/etc/covefs.toml".into()]).collect()
    }

    /// Where caches are kept by default. Never below a cache directory of the system's: those
    /// are emptied by cleaners, and this holds the only copy of edits not uploaded yet.
    pub(crate) fn state_base(&self) -> Result<PathBuf> {
        if self.is_root() {
            return Ok("/var/lib/covefs".into());
        }
        if let Some(state) = &self.state_home {
            return Ok(state.join("covefs"));
        }
        match &self.home {
            Some(home) => Ok(home.join(".local/state/covefs")),
            None => bail!("no place for the cache: HOME is not set; set it, or give --cache-dir"),
        }
    }
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A relative path in these variables is to be ignored (XDG base directories).
fn absolute(text: OsString) -> Option<PathBuf> {
    Some(PathBuf::from(text)).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> User {
        let home = Some("/home/me".into());
        User { uid, gid: uid, home, state_home: None, sudo: Some((7, 8)) }
    }

    #[test]
    fn state_is_kept_where_no_cleaner_comes() {
        assert_eq!(user(0).state_base().unwrap(), PathBuf::from("/var/lib/covefs"));
        let mut me = user(1000);
        assert_eq!(me.state_base().unwrap(), PathBuf::from("/home/me/.local/state/covefs"));
        me.state_home = Some("/state".into());
        assert_eq!(me.state_base().unwrap(), PathBuf::from("/state/covefs"));
        me.state_home = None;
        me.home = None;
        assert!(me.state_base().unwrap_err().to_string().contains("--cache-dir"));
    }

    #[test]
    fn ones_own_settings_come_first() {
        let files = user(1000).config_files();
        assert_eq!(files, ["/home/me/.config/covefs.toml", "/etc/covefs.toml"].map(PathBuf::from));
    }

    #[test]
    fn sudo_s_caller_owns_the_files() {
        assert_eq!(user(0).file_owner(), (7, 8));
        assert_eq!(user(1000).file_owner(), (1000, 1000));
    }
}
