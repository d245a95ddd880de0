//! What has to be so before a drive is mounted: the mountpoint, and the kernel's side of FUSE.

use crate::mounts;
use crate::registry;
use crate::share::resolved;
use crate::system::user::User;
use anyhow::{Context, Result, bail};
use covefs_mount::Detach;
use std::io;
use std::path::{Path, PathBuf};

/// How to get fusermount3.
const INSTALL: &str = "install it: `sudo apt install fuse3` (Debian, Ubuntu), \
                       `sudo dnf install fuse3` (Fedora), `sudo pacman -S fuse3` (Arch)";

/// Looks at the mountpoint and makes it usable. A dead covefs mount there is detached, and
/// `note` is told (U4). Returns the resolved path.
pub(crate) fn prepare(
    mountpoint: &Path,
    nonempty: bool,
    base: &Path,
    note: &mut dyn FnMut(String),
) -> Result<PathBuf> {
    let path = std::path::absolute(mountpoint).context("find the mountpoint's path")?;
    let shown = path.display();
    match look(&path) {
        Err(error) if is_dead(&error) => {
            let dead = resolved(&path);
            match mounts::at(&dead)? {
                Some(mount) if mount.is_covefs() => {}
                Some(mount) => bail!(
                    "a dead mount of type {} is at {shown}; unmount it first: umount -l {shown}",
                    mount.fstype
                ),
                None => bail!("mountpoint {shown} lies on a dead mount; unmount that first"),
            }
            covefs_mount::unmount(&dead, Detach::Lazy)
                .with_context(|| format!("detach the dead covefs mount at {shown}"))?;
            note(format!("a dead covefs mount at {shown} was detached first"));
            look(&path)
        }
        looked => looked,
    }
    .map_err(|error| refused(&path, &error))?;
    let path = resolved(&path);
    if let Some(mount) = mounts::at(&path)?.filter(covefs_mount::MountInfo::is_covefs) {
        let shown = path.display();
        let pid = registry::of_mountpoint(base, &path).filter(|(_, note)| note.is_alive());
        let by = pid.map_or_else(String::new, |(_, note)| format!(" by process {}", note.pid));
        bail!("{} is already mounted at {shown}{by}; `covefs unmount {shown}` first", mount.source);
    }
    if !nonempty {
        check_empty(&path)?;
    }
    Ok(path)
}

/// Makes what a mountpoint needs.
pub(crate) fn make(mountpoint: &Path) -> io::Result<()> {
    std::fs::create_dir_all(mountpoint)
}

/// The path of a mountpoint that somebody names, as the mount table has it.
pub(crate) fn named(mountpoint: &Path) -> Result<PathBuf> {
    Ok(resolved(&std::path::absolute(mountpoint)?))
}

/// Whether the error says that the mount's daemon is gone, or went while it was asked.
pub(crate) fn is_dead(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::NOTCONN | Errno::CONNABORTED))
}

/// A directory is there and answers. Of a drive that was killed a moment ago the kernel still has what the
/// directory is, but not how full the share is.
fn look(path: &Path) -> io::Result<()> {
    let asked = path.to_path_buf();
    let look = move || -> io::Result<_> {
        let found = std::fs::metadata(&asked)?;
        match rustix::fs::statfs(&asked).map_err(io::Error::from) {
            Err(error) if is_dead(&error) => Err(error),
            _ => Ok(found),
        }
    };
    let found = mounts::within(mounts::PATIENCE, look)
        .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))??;
    if found.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

fn refused(path: &Path, error: &io::Error) -> anyhow::Error {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow::anyhow!("mountpoint {shown} does not exist; make it: mkdir -p {shown}")
        }
        io::ErrorKind::NotADirectory => {
            anyhow::anyhow!("mountpoint {shown} is not a directory; name an empty directory")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("no permission to use the mountpoint {shown}; name one of yours")
        }
        io::ErrorKind::TimedOut => anyhow::anyhow!(
            "mountpoint {shown} does not answer: what is mounted there hangs; unmount it first"
        ),
        _ => anyhow::anyhow!("cannot use the mountpoint {shown}: {error}"),
    }
}

fn check_empty(path: &Path) -> Result<()> {
    let shown = path.display();
    let mut entries = std::fs::read_dir(path).map_err(|error| refused(path, &error))?;
    if entries.next().is_some() {
        bail!(
            "mountpoint {shown} is not empty; its files would be hidden: choose an empty \
             directory, or give -o nonempty"
        );
    }
    Ok(())
}

/// Refuses early, and in words, where the kernel or fusermount3 would only say EPERM.
pub(crate) fn check_driver(user: &User, allow_other: bool) -> Result<()> {
    if cfg!(target_vendor = "apple") {
        return check_macfuse(Path::new("/Library/Filesystems/macfuse.fs"));
    }
    check_device(Path::new("/dev/fuse"))?;
    if user.is_root() {
        return Ok(());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain(["/bin".into(), "/sbin".into()]);
    if !places.any(|dir| ["fusermount3", "fusermount"].iter().any(|n| dir.join(n).is_file())) {
        bail!("fusermount3 is missing, without it only root can mount; {INSTALL}");
    }
    if allow_other {
        check_conf(&std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default())?;
    }
    Ok(())
}

fn check_macfuse(installed: &Path) -> Result<()> {
    if installed.exists() {
        return Ok(());
    }
    bail!(
        "macFUSE is missing: install it from https://macfuse.github.io (brew install --cask macfuse), \
         then mount again"
    )
}

fn check_device(device: &Path) -> Result<()> {
    let shown = device.display();
    match std::fs::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
            "no permission to open {shown}; make it usable for all: sudo chmod 666 {shown} \
             (in a container: run it with --device {shown} --cap-add SYS_ADMIN)"
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "{shown} is missing; load it: sudo modprobe fuse (in a container: run it with \
             --device {shown} --cap-add SYS_ADMIN); if fuse is not there, {INSTALL}"
        ),
        Err(error) => bail!("cannot open {shown}: {error}; try: sudo modprobe fuse"),
    }
}

fn check_conf(text: &str) -> Result<()> {
    if text.lines().any(|line| line.trim() == "user_allow_other") {
        return Ok(());
    }
    bail!(
        "--allow-other needs the line `user_allow_other` in /etc/fuse.conf; add it: \
         echo user_allow_other | sudo tee -a /etc/fuse.conf"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, nonempty: bool) -> String {
        prepare(path, nonempty, Path::new("/nonexistent"), &mut |_| {}).unwrap_err().to_string()
    }

    #[test]
    fn a_bad_mountpoint_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let gone = dir.path().join("gone");
        assert!(refusal(&gone, false).contains(&format!("mkdir -p {}", gone.display())));
        assert!(refusal(&file, false).contains("is not a directory"));
        assert!(refusal(&file.join("below"), false).contains("is not a directory"));
        assert!(refusal(dir.path(), false).contains("-o nonempty"));
        let resolved = prepare(dir.path(), true, Path::new("/nonexistent"), &mut |_| {}).unwrap();
        assert_eq!(resolved, dir.path().canonicalize().unwrap());
    }

    #[test]
    fn a_missing_device_says_how_to_get_it() {
        let error = check_device(Path::new("/nonexistent/fuse")).unwrap_err().to_string();
        assert!(error.contains("modprobe fuse") && error.contains("apt install"), "{error}");
    }

    #[test]
    fn a_missing_macfuse_says_where_it_is() {
        let error = check_macfuse(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("https://macfuse.github.io"), "{error}");
        check_macfuse(Path::new("/")).unwrap();
    }

    #[test]
    fn the_line_for_fuse_conf_is_quoted() {
        for text in ["", "#user_allow_other\n", "mount_max = 1000"] {
            let error = check_conf(text).unwrap_err().to_string();
            assert!(error.contains("`user_allow_other` in /etc/fuse.conf"), "{error}");
        }
        check_conf("# all\n user_allow_other \n").unwrap();
    }
}
