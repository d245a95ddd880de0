//! Trees of files, read whole and compared byte by byte.

use super::Random;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// What a path holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Entry {
    Dir,
    File(Vec<u8>),
    Link(PathBuf),
    Special,
}

/// Everything below a directory, by relative path.
pub type Tree = BTreeMap<PathBuf, Entry>;

pub fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for name in names(&root.join(&dir)) {
            let relative = dir.join(&name);
            let path = root.join(&relative);
            let kind = fs::symlink_metadata(&path)
                .unwrap_or_else(|error| panic!("stat {}: {error}", path.display()))
                .file_type();
            let entry = if kind.is_dir() {
                dirs.push(relative.clone());
                Entry::Dir
            } else if kind.is_file() {
                let bytes = fs::read(&path);
                Entry::File(bytes.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
            } else if kind.is_symlink() {
                Entry::Link(fs::read_link(&path).unwrap())
            } else {
                Entry::Special
            };
            tree.insert(relative, entry);
        }
    }
    tree
}

fn names(dir: &Path) -> Vec<OsString> {
    let list = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    list.map(|entry| entry.unwrap().file_name()).collect()
}

/// Panics at the first path or byte that differs; `what` says which two trees these are.
pub fn same_trees(what: &str, expected: &Tree, actual: &Tree) {
    let paths = expected.keys().chain(actual.keys());
    let wrong = paths.filter_map(|path| {
        let says = match (expected.get(path), actual.get(path)) {
            (Some(_), None) => "is missing".to_owned(),
            (None, Some(_)) => "should not be there".to_owned(),
            (Some(Entry::File(old)), Some(Entry::File(new))) => first_difference(old, new)?,
            (old, new) if old == new => return None,
            _ => "is of another kind, or points elsewhere".to_owned(),
        };
        Some(format!("{}: {says}", path.display()))
    });
    let wrong: Vec<String> = wrong.take(10).collect();
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

/// Where two contents part, in words; `None` if they are the same.
pub fn first_difference(expected: &[u8], actual: &[u8]) -> Option<String> {
    let offset = expected.iter().zip(actual).position(|(old, new)| old != new);
    match offset {
        Some(offset) => {
            let shown =
                |bytes: &[u8]| format!("{:02x?}", &bytes[offset..bytes.len().min(offset + 8)]);
            Some(format!(
                "differs at offset {offset} (block {}): expected {}, found {}; sizes {} and {}",
                offset >> 16,
                shown(expected),
                shown(actual),
                expected.len(),
                actual.len()
            ))
        }
        None if expected.len() != actual.len() => {
            Some(format!("is {} bytes long, expected {}", actual.len(), expected.len()))
        }
        None => None,
    }
}

/// Bytes that are the same for the same seed and differ everywhere for another.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d)).bytes(len)
}
