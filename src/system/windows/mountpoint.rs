//! What has to be so before a drive is mounted: a free letter, directory or network name, and WinFsp.

use crate::mounts;
use crate::registry;
use crate::share::resolved;
use crate::system::user::User;
use anyhow::{Result, bail};
use std::io;
use std::path::{Path, PathBuf};

/// The forms of a mountpoint.
const FORMS: &str =
    r"name a free drive letter (X:), a directory that does not exist yet, or \\covefs\NAME";

/// Checks that the mountpoint is free; returns the one name it has.
pub(crate) fn prepare(
    mountpoint: &Path,
    _nonempty: bool,
    base: &Path,
    _note: &mut dyn FnMut(String),
) -> Result<PathBuf> {
    let path = named(mountpoint)?;
    let shown = path.display();
    if let Some(mount) = mounts::at(&path)? {
        let pid = registry::of_mountpoint(base, &path).filter(|(_, note)| note.is_alive());
        let by = pid.map_or_else(String::new, |(_, note)| format!(" by process {}", note.pid));
        bail!("{} is already mounted at {shown}{by}; `covefs unmount {shown}` first", mount.source);
    }
    match Form::of(&path) {
        Form::Letter(letter) => match std::fs::metadata(format!("{letter}:\\")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => bail!("the drive letter {shown} is in use; {FORMS}"),
        },
        Form::Network(name) if name.is_some() => {}
        Form::Network(_) => bail!("{shown} is no name that a drive can have; {FORMS}"),
        Form::Directory if path.symlink_metadata().is_ok() => {
            bail!("{shown} exists already; {FORMS}")
        }
        Form::Directory if !path.parent().is_some_and(Path::is_dir) => {
            bail!("the directory above {shown} does not exist; make it first")
        }
        Form::Directory => {}
    }
    Ok(path)
}

/// How a mountpoint is written.
#[derive(PartialEq, Eq, Debug)]
enum Form {
    Letter(char),
    /// `\\covefs\NAME`; `None`: another network name.
    Network(Option<String>),
    Directory,
}

impl Form {
    fn of(path: &Path) -> Form {
        let text = path.to_string_lossy().replace('/', "\\");
        if let Some(rest) = text.strip_prefix(r"\\").filter(|rest| !rest.starts_with(['?', '.'])) {
            let names: Vec<&str> = rest.trim_end_matches('\\').split('\\').collect();
            return Form::Network(match names[..] {
                [server, name] if server.eq_ignore_ascii_case("covefs") && is_plain(name) => {
                    Some(name.to_string())
                }
                _ => None,
            });
        }
        let mut symbols = text.trim_end_matches('\\').chars();
        match (symbols.next(), symbols.next(), symbols.next()) {
            (Some(letter), Some(':'), None) if letter.is_ascii_alphabetic() => {
                Form::Letter(letter.to_ascii_uppercase())
            }
            _ => Form::Directory,
        }
    }
}

fn is_plain(name: &str) -> bool {
    let fits = |symbol: char| symbol.is_alphanumeric() || matches!(symbol, '-' | '_' | '.' | ' ');
    !name.is_empty() && name.chars().all(fits)
}

/// Makes what a mountpoint needs: a directory above it, WinFsp makes the last one.
pub(crate) fn make(mountpoint: &Path) -> io::Result<()> {
    mountpoint.parent().map_or(Ok(()), std::fs::create_dir_all)
}

/// The one name of a mountpoint, however somebody writes it.
pub(crate) fn named(mountpoint: &Path) -> Result<PathBuf> {
    Ok(match Form::of(mountpoint) {
        Form::Letter(letter) => format!("{letter}:").into(),
        Form::Network(Some(name)) => format!(r"\\covefs\{name}").into(),
        Form::Network(None) => mountpoint.to_path_buf(),
        Form::Directory => resolved(&std::path::absolute(mountpoint)?),
    })
}

/// Refuses early where WinFsp is missing.
pub(crate) fn check_driver(_: &User, _allow_other: bool) -> Result<()> {
    Ok(covefs_mount::check_installed()?)
}

/// A drive whose process has ended is no drive any more.
pub(crate) fn is_dead(_: &io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountpoint_has_one_name() {
        for text in ["x:", "X:", "X:\\", "x:/"] {
            assert_eq!(named(Path::new(text)).unwrap(), Path::new("X:"), "{text}");
        }
        for text in [r"\\covefs\photos", r"\\CoveFS\photos\", "//covefs/photos"] {
            assert_eq!(named(Path::new(text)).unwrap(), Path::new(r"\\covefs\photos"), "{text}");
        }
        assert_eq!(Form::of(Path::new(r"\\nas\photos")), Form::Network(None));
        assert_eq!(Form::of(Path::new(r"\\covefs\a\b")), Form::Network(None));
        assert_eq!(Form::of(Path::new(r"\\?\C:\x")), Form::Directory);
        assert_eq!(Form::of(Path::new(r"C:\x")), Form::Directory);
    }

    #[test]
    fn what_is_taken_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |path: &Path| {
            let error = prepare(path, false, dir.path(), &mut |_| {}).unwrap_err();
            error.to_string()
        };
        assert!(refusal(Path::new("C:")).contains("is in use; name a free drive letter"));
        assert!(refusal(dir.path()).contains("exists already"));
        assert!(refusal(&dir.path().join("a").join("b")).contains("make it first"));
        assert!(refusal(Path::new(r"\\nas\photos")).contains("is no name"));
        prepare(&dir.path().join("a"), false, dir.path(), &mut |_| {}).unwrap();
    }
}
