//! Configuration files: `key = value` lines, and `[share."dir:/srv/share"]` sections for one
//! share.

use super::{Layer, Origin, known_key};
use crate::fail;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The files to read, strongest first. The one the user named must be there; the usual ones may.
pub(crate) fn files(named: Option<&Path>, usual: Vec<PathBuf>) -> Vec<(PathBuf, bool)> {
    let named = named.map(|path| (path.to_path_buf(), true));
    named.into_iter().chain(usual.into_iter().map(|path| (path, false))).collect()
}

/// Reads one file: the section of this share first, then what holds for all. `share` is every
/// way its name may be written.
pub(crate) fn read_file(path: &Path, required: bool, share: &[String]) -> Result<Vec<Layer>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if !required && error.kind() != io::ErrorKind::InvalidData => {
            // Another user's home or a missing file: nothing to read here.
            return match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::NotADirectory => Ok(Vec::new()),
                _ => Err(error).with_context(|| format!("read {}", path.display())),
            };
        }
        Err(error) => {
            return Err(fail::usage(format!("--config {}: {error}", path.display())));
        }
    };
    parse(&text, path, share)
}

pub(crate) fn parse(text: &str, path: &Path, share: &[String]) -> Result<Vec<Layer>> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        fail::usage(format!("{} line {line}: {}", path.display(), error.message()))
    })?;
    let mut layers = Vec::new();
    let mut general = Layer::new(Origin::File(path.to_path_buf()));
    for (key, value) in &table {
        if key != "share" {
            put(&mut general, path, key, value)?;
            continue;
        }
        let sections = value.as_table().ok_or_else(|| {
            fail::usage(format!(
                "{}: 'share' is a section: [share.\"dir:/srv/share\"]",
                path.display()
            ))
        })?;
        for (name, section) in sections {
            let layer = read_section(path, name, section)?;
            // Another share's section is checked too: a typo should not wait for its mount.
            if share.contains(name) {
                layers.push(layer);
            }
        }
    }
    layers.push(general);
    Ok(layers)
}

fn read_section(path: &Path, name: &str, section: &toml::Value) -> Result<Layer> {
    let table = section.as_table().ok_or_else(|| {
        fail::usage(format!("{}: [share.\"{name}\"] is not a section", path.display()))
    })?;
    let mut layer = Layer::new(Origin::File(path.to_path_buf()));
    for (key, value) in table {
        put(&mut layer, path, key, value)?;
    }
    Ok(layer)
}

fn put(layer: &mut Layer, path: &Path, key: &str, value: &toml::Value) -> Result<()> {
    let known = known_key(key).ok_or_else(|| {
        fail::usage(format!(
            "{}: unknown key '{key}'; `covefs mount --help` lists them, without the --",
            path.display()
        ))
    })?;
    let text: OsString = match value {
        toml::Value::String(text) => text.into(),
        // TOML has no octal with a leading zero; 0o644 arrives as a plain number.
        toml::Value::Integer(mode) if known.ends_with("-mode") => format!("{mode:o}").into(),
        toml::Value::Integer(number) => number.to_string().into(),
        toml::Value::Float(number) => number.to_string().into(),
        toml::Value::Boolean(switch) => switch.to_string().into(),
        _ => {
            return Err(fail::usage(format!(
                "{}: '{key}' must be a text, a number or true/false",
                path.display()
            )));
        }
    };
    if ["cache-dir", "log", "credentials"].contains(&known) && !Path::new(&text).is_absolute() {
        let shown = text.to_string_lossy();
        return Err(fail::usage(format!(
            "{}: '{key}' must be an absolute path, not '{shown}'",
            path.display()
        )));
    }
    layer.put(known, Some(text));
    Ok(())
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn refused(text: &str) -> String {
        let error = parse(text, Path::new("/etc/covefs.toml"), &[]).unwrap_err();
        assert_eq!(fail::exit_code(&error), 2);
        error.to_string()
    }

    #[test]
    fn a_share_s_own_section_is_stronger() {
        let text = "cache-size = \"1GiB\"\nallow-other = true\nfile-mode = 0o640\n\
                    [share.\"dir:/a\"]\ncache-size = 2147483648\n\
                    [share.\"dir:/b\"]\ncache-size = \"3GiB\"\n";
        let read = |share: &str| {
            let layers = parse(text, Path::new("c.toml"), &[share.into()]).unwrap();
            Settings::resolve(&layers).unwrap()
        };
        assert_eq!(read("dir:/a").cache_size, Some(2 << 30));
        assert_eq!(read("dir:/b").cache_size, Some(3 << 30));
        assert_eq!(read("dir:/c").cache_size, Some(1 << 30));
        assert_eq!(read("dir:/c").allow_other, Some(true));
        assert_eq!(read("dir:/c").file_mode, Some(0o640));
    }

    #[test]
    fn mistakes_name_the_file_and_the_key() {
        let line = refused("cache-sise = \"1GiB\"");
        assert!(line.starts_with("/etc/covefs.toml: unknown key 'cache-sise'"), "{line}");
        assert!(refused("[share.\"dir:/a\"]\nfoo = 1").contains("'foo'"));
        assert!(refused("share = 3").contains("section"));
        assert!(refused("site = [1]").contains("'site'"));
        assert!(refused("cache-dir = \"cache\"").contains("absolute"));
        assert!(refused("\n\nsite = ").starts_with("/etc/covefs.toml line 3:"));
    }

    #[test]
    fn only_the_named_file_must_exist() {
        let gone = Path::new("/nonexistent/covefs.toml");
        assert_eq!(read_file(gone, false, &[]).unwrap(), Vec::new());
        assert_eq!(fail::exit_code(&read_file(gone, true, &[]).unwrap_err()), 2);
        let files = files(Some(Path::new("mine.toml")), vec!["/etc/covefs.toml".into()]);
        let expected = [("mine.toml".into(), true), ("/etc/covefs.toml".into(), false)];
        assert_eq!(files, expected);
    }
}
