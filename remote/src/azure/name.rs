//! Names that the service can hold, found out before it is asked.

use crate::{Error, ErrorKind, PathLength, RemotePath, Result};

/// UTF-16 units of a name.
const NAME_UNITS_MAX: usize = 255;

/// Bytes of the longest name: three for each unit.
pub(super) const NAME_BYTES_MAX: usize = 3 * NAME_UNITS_MAX;

/// The longest path, share excluded.
const PATH_MAX: PathLength = PathLength { units: 2048, depth: 250 };

/// What is wrong with a name, if anything.
fn fault(name: &[u8]) -> Option<ErrorKind> {
    let Ok(text) = std::str::from_utf8(name) else { return Some(ErrorKind::NameInvalid) };
    let is_odd = |symbol: char| {
        symbol < ' ' || ('\u{7f}'..='\u{9f}').contains(&symbol) || "\"\\/:|<>*?".contains(symbol)
    };
    if text.is_empty() || text == "." || text == ".." || text.contains(is_odd) {
        return Some(ErrorKind::NameInvalid);
    }
    (text.encode_utf16().count() > NAME_UNITS_MAX).then_some(ErrorKind::NameTooLong)
}

/// What is wrong with a path below `root`, if anything.
fn path_fault(root: &RemotePath, path: &RemotePath) -> Option<ErrorKind> {
    if let Some(kind) = root.names().chain(path.names()).find_map(fault) {
        return Some(kind);
    }
    let is_long = !(root.length() + path.length()).fits(PATH_MAX);
    is_long.then_some(ErrorKind::NameTooLong)
}

/// The longest path below a root.
pub(super) fn path_max(root: &RemotePath) -> PathLength {
    PATH_MAX.below(root.length())
}

/// For what is made: refuses a path that cannot be.
pub(super) fn check(op: &'static str, root: &RemotePath, path: &RemotePath) -> Result<()> {
    match path_fault(root, path) {
        Some(kind) => Err(Error::new(kind, op, path)),
        None => Ok(()),
    }
}

/// For what is looked at: nothing has a name that cannot be.
pub(super) fn look(op: &'static str, root: &RemotePath, path: &RemotePath) -> Result<()> {
    match path_fault(root, path) {
        Some(_) => Err(Error::new(ErrorKind::NotFound, op, path)),
        None => Ok(()),
    }
}

/// Whether two paths are one to a share that does not tell `A` from `a`.
pub(super) fn is_same(one: &RemotePath, other: &RemotePath) -> bool {
    fold(one) == fold(other)
}

/// Whether `path` is `dir` or lies below it, whatever the case.
pub(super) fn is_within(path: &RemotePath, dir: &RemotePath) -> bool {
    RemotePath::parse(fold(path).as_bytes()).is_within(&RemotePath::parse(fold(dir).as_bytes()))
}

fn fold(path: &RemotePath) -> String {
    String::from_utf8_lossy(path.as_bytes()).to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_as_the_service_does() {
        for good in ["a", "a.", " ", "r\u{e9}sum\u{e9}", ".~covefs-1", "a%b+c", "\u{1f600}"] {
            assert_eq!(fault(good.as_bytes()), None, "{good}");
        }
        for bad in ["", ".", "..", "a:b", "a\\b", "a?", "\t", "\u{81}", "a\"b"] {
            assert_eq!(fault(bad.as_bytes()), Some(ErrorKind::NameInvalid), "{bad}");
        }
        assert_eq!(fault(b"\xff"), Some(ErrorKind::NameInvalid));
        for (symbol, fits) in [("n", 255), ("\u{e9}", 255), ("\u{20ac}", 255), ("\u{1f600}", 127)] {
            assert_eq!(fault(symbol.repeat(fits).as_bytes()), None, "{symbol}");
            let long = symbol.repeat(fits + 1);
            assert_eq!(fault(long.as_bytes()), Some(ErrorKind::NameTooLong), "{symbol}");
        }
    }

    #[test]
    fn paths_have_a_length_and_a_depth() {
        let root = RemotePath::parse(b"r");
        let path =
            |name: &str, times: usize| RemotePath::parse([name; 300][..times].join("/").as_bytes());
        assert!(check("stat", &root, &path("a", 249)).is_ok());
        let deep = check("stat", &root, &path("a", 250)).unwrap_err();
        assert_eq!(deep.kind, ErrorKind::NameTooLong);
        let long = "n".repeat(255);
        assert!(check("stat", &root, &path(&long, 7)).is_ok());
        assert!(check("stat", &root, &path(&long, 8)).is_err());
        assert_eq!(look("stat", &root, &path(&long, 8)).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn case_is_no_difference() {
        let path = |text: &str| RemotePath::parse(text.as_bytes());
        assert!(is_same(&path("A/\u{c9}"), &path("a/\u{e9}")) && !is_same(&path("a"), &path("b")));
        assert!(is_within(&path("D/x"), &path("d")) && !is_within(&path("dx"), &path("d")));
    }
}
