//! Files and directories that are their owner's alone, and names as bytes.

use crate::fail;
use anyhow::{Context, Result, bail};
use covefs_remote::RemotePath;
use rustix::fs::OFlags;
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file of a login has a few lines.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The text of a file that nobody but its owner, who is us or root, can read or change.
pub(crate) fn read_secret(path: &Path) -> Result<String> {
    let shown = path.display();
    // Opened first and looked at then, so that it is the same file.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
    let file = File::from(opened.with_context(|| format!("open the credentials {shown}"))?);
    let found = file.metadata().with_context(|| format!("look at the credentials {shown}"))?;
    if !found.is_file() {
        bail!("the credentials {shown} are not a file");
    }
    let owner = rustix::process::geteuid().as_raw();
    if found.mode() & 0o077 != 0 || (found.uid() != owner && found.uid() != 0) {
        return Err(fail::usage(format!(
            "others can read or change the credentials {shown}; make them your own alone: \
             chmod 600 {shown}"
        )));
    }
    let mut text = String::new();
    let read = file.take(SECRET_BYTES_MAX).read_to_string(&mut text);
    read.with_context(|| format!("read the credentials {shown}"))?;
    Ok(text)
}

/// A directory for its owner only, with those above it that are missing.
pub(crate) fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A file that is made by this is its owner's only.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// The exact bytes of a name.
pub(crate) fn bytes(name: &OsStr) -> Cow<'_, [u8]> {
    name.as_bytes().into()
}

/// A name from its bytes, or a part of them.
pub(crate) fn name(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// What a path below a mountpoint is called on the share.
pub(crate) fn on_share(below: &Path) -> RemotePath {
    RemotePath::parse(below.as_os_str().as_bytes())
}

/// The path without symlinks.
pub(crate) fn canonical(path: &Path) -> io::Result<PathBuf> {
    path.canonicalize()
}

/// The path of something that is there, without symlinks; the last name is not followed: a
/// symlink on a drive is an entry of its own.
pub(crate) fn unfollowed(path: &Path) -> io::Result<PathBuf> {
    let Some((name, parent)) = path.file_name().zip(path.parent()) else {
        return path.canonicalize();
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    parent.canonicalize().map(|parent| parent.join(name))
}

/// An entry of a list of directories: it is made at once, needs no lock, and holds any name.
pub(crate) fn write_entry(entry: &Path, dir: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(dir, entry)
}

/// The directory that an entry names.
pub(crate) fn read_entry(entry: &Path) -> io::Result<PathBuf> {
    std::fs::read_link(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("a")).unwrap();
        std::os::unix::fs::symlink("/etc", real.join("a/link")).unwrap();
        std::os::unix::fs::symlink("a", real.join("b")).unwrap();
        assert_eq!(unfollowed(&real.join("a/link")).unwrap(), real.join("a/link"));
        assert_eq!(unfollowed(&real.join("b/link")).unwrap(), real.join("a/link"));
        assert_eq!(unfollowed(&real.join("a/../a/x")).unwrap(), real.join("a/x"));
        assert_eq!(unfollowed(&real.join("a/..")).unwrap(), real);
    }
}
