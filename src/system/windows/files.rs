//! Files and directories that are their owner's alone, and names as bytes.

use super::win32;
use anyhow::{Context, Result, bail};
use covefs_remote::RemotePath;
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// A file of a login has a few lines.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The text of a file with a login. Who else may read it is not looked at: below a user's profile
/// nobody else can.
pub(crate) fn read_secret(path: &Path) -> Result<String> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("open the credentials {shown}"))?;
    if !file.metadata().with_context(|| format!("look at the credentials {shown}"))?.is_file() {
        bail!("the credentials {shown} are not a file");
    }
    let mut text = String::new();
    let read = file.take(SECRET_BYTES_MAX).read_to_string(&mut text);
    read.with_context(|| format!("read the credentials {shown}"))?;
    Ok(text)
}

/// A directory for its owner, administrators and the system only, with those above it that are
/// missing.
pub(crate) fn make_private_dir(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|above| !above.exists()).collect();
    let descriptor = covefs_mount::owner_only()?;
    for dir in missing.into_iter().rev() {
        match win32::create_dir(dir, &descriptor) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A file has the access list of its directory.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// A name as UTF-8; a file's name that is no text has a stand-in for what is none.
pub(crate) fn bytes(name: &OsStr) -> Cow<'_, [u8]> {
    match name.to_string_lossy() {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// A name from its bytes, or a part of them.
pub(crate) fn name(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// What a path below a mountpoint is called on the share.
pub(crate) fn on_share(below: &Path) -> RemotePath {
    let names = below.components().filter_map(|part| match part {
        Component::Normal(name) => {
            Some(covefs_mount::name_on_share(name).unwrap_or_else(|| bytes(name).into_owned()))
        }
        _ => None,
    });
    names.fold(RemotePath::root(), |path, name| path.join(&name))
}

/// The path without symlinks, as people write it.
pub(crate) fn canonical(path: &Path) -> io::Result<PathBuf> {
    dunce::canonicalize(path)
}

/// The path of something that is there, as it is written: what Windows says of a network drive is
/// not what it was mounted as.
pub(crate) fn unfollowed(path: &Path) -> io::Result<PathBuf> {
    path.symlink_metadata()?;
    std::path::absolute(path)
}

/// An entry of a list of directories: a file with its path.
pub(crate) fn write_entry(entry: &Path, dir: &Path) -> io::Result<()> {
    let text = dir.to_str().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path of the cache is no text")
    })?;
    std::fs::write(entry, text)
}

/// The directory that an entry names.
pub(crate) fn read_entry(entry: &Path) -> io::Result<PathBuf> {
    let path = PathBuf::from(std::fs::read_to_string(entry)?);
    // One that was being written when the machine stopped.
    if path.is_absolute() { Ok(path) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_on_the_drive_is_one_of_the_share() {
        let path = on_share(Path::new("\\a b\\c\u{f022}d\\"));
        assert_eq!(path.as_bytes(), b"a b/c:d");
        assert!(on_share(Path::new("\\")).is_root());
    }

    #[test]
    fn directories_are_made_with_all_above_them() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a").join("b");
        make_private_dir(&below).unwrap();
        make_private_dir(&below).unwrap();
        std::fs::write(below.join("file"), "x").unwrap();
        let entry = dir.path().join("entry");
        write_entry(&entry, &below).unwrap();
        assert_eq!(read_entry(&entry).unwrap(), below);
        std::fs::write(&entry, "").unwrap();
        assert!(read_entry(&entry).is_err());
    }
}
