//! A path below the share's root, as bytes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Add;

/// Names joined by `/`, without a leading or trailing one; the root is empty. Names are bytes:
/// what a share cannot hold is refused by that share, not here.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct RemotePath(#[serde(with = "serde_bytes")] Vec<u8>);

impl RemotePath {
    /// The share's root.
    pub fn root() -> Self {
        RemotePath(Vec::new())
    }

    /// Reads `a/b/c`; empty names, and with them leading and doubled slashes, are dropped.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut path = Self::root();
        for name in bytes.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            path = path.join(name);
        }
        path
    }

    /// Whether this can be a name in a directory. What a server calls otherwise is nothing that it has.
    pub fn is_name(name: &[u8]) -> bool {
        !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
    }

    /// This path with one more name.
    pub fn join(&self, name: &[u8]) -> Self {
        debug_assert!(!name.is_empty() && !name.contains(&b'/'), "not a name");
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        RemotePath(bytes)
    }

    /// The directory above and the last name; `None` for the root.
    pub fn split(&self) -> Option<(RemotePath, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (RemotePath(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self::root(), &self.0[..]),
        })
    }

    /// The names from the root down.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// Whether this is the share's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is `dir` or lies below it.
    pub fn is_within(&self, dir: &RemotePath) -> bool {
        dir.is_root()
            || self.0 == dir.0
            || (self.0.starts_with(&dir.0) && self.0.get(dir.0.len()) == Some(&b'/'))
    }

    /// Where this is when `from` is at `to`; `None` of what is not in it.
    pub fn moved(&self, from: &RemotePath, to: &RemotePath) -> Option<RemotePath> {
        if !self.is_within(from) {
            return None;
        }
        let rest = RemotePath(self.0[from.0.len()..].to_vec());
        Some(rest.names().fold(to.clone(), |path, name| path.join(name)))
    }

    /// How long it is and how deep.
    pub fn length(&self) -> PathLength {
        self.names().map(PathLength::of).fold(PathLength::default(), Add::add)
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// How long a path is, as shares of Windows' kind count it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathLength {
    /// UTF-16 units, a slash before each name included.
    pub units: usize,
    /// Names.
    pub depth: usize,
}

impl PathLength {
    /// What one name adds.
    pub fn of(name: &[u8]) -> PathLength {
        PathLength { units: 1 + String::from_utf8_lossy(name).encode_utf16().count(), depth: 1 }
    }

    /// The longer and the deeper of both.
    pub fn max(self, other: PathLength) -> PathLength {
        let (units, depth) = (self.units.max(other.units), self.depth.max(other.depth));
        PathLength { units, depth }
    }

    /// What is left of it below something of this length.
    pub fn below(self, above: PathLength) -> PathLength {
        let units = self.units.saturating_sub(above.units);
        PathLength { units, depth: self.depth.saturating_sub(above.depth) }
    }

    /// Whether it is no longer and no deeper than `most`.
    pub fn fits(self, most: PathLength) -> bool {
        self.units <= most.units && self.depth <= most.depth
    }
}

impl Add for PathLength {
    type Output = PathLength;

    fn add(self, other: PathLength) -> PathLength {
        PathLength { units: self.units + other.units, depth: self.depth + other.depth }
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for RemotePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_moved_directory_moves_with_it() {
        let [from, to] = [b"a/b", b"c/d"].map(|path| RemotePath::parse(path));
        let moved = |path: &[u8]| RemotePath::parse(path).moved(&from, &to);
        assert_eq!(moved(b"a/b/e/f"), Some(RemotePath::parse(b"c/d/e/f")));
        assert_eq!(moved(b"a/b"), Some(to.clone()));
        assert_eq!(moved(b"a/bc"), None);
        assert_eq!(moved(b"a"), None);
    }

    #[test]
    fn split_undoes_join() {
        let path = RemotePath::root().join(b"a").join(b"b c");
        assert_eq!(path.as_bytes(), b"a/b c");
        let (parent, name) = path.split().unwrap();
        assert_eq!((parent.as_bytes(), name), (&b"a"[..], &b"b c"[..]));
        assert_eq!(RemotePath::parse(b"/a//b c/"), path);
        assert!(RemotePath::root().split().is_none());
    }

    #[test]
    fn lengths_count_units_and_names() {
        let path = RemotePath::parse("a/\u{1f600}b".as_bytes());
        assert_eq!(path.length(), PathLength { units: 2 + 4, depth: 2 });
        assert_eq!(RemotePath::root().length(), PathLength::default());
        let most = PathLength { units: 6, depth: 2 };
        assert!(path.length().fits(most) && !(path.length() + PathLength::of(b"")).fits(most));
        assert_eq!(
            most.below(PathLength { units: 9, depth: 1 }),
            PathLength { units: 0, depth: 1 }
        );
    }

    #[test]
    fn within_goes_by_whole_names() {
        let dir = RemotePath::parse(b"a/b");
        assert!(RemotePath::parse(b"a/b/c").is_within(&dir));
        assert!(dir.is_within(&dir));
        assert!(!RemotePath::parse(b"a/bc").is_within(&dir));
    }
}
