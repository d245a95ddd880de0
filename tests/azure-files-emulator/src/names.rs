//! Names: what is allowed, which are the same, and how they stand in URLs.

use crate::error::{Error, Result};

const COMPONENT_UNITS_MAX: usize = 255;
const PATH_UNITS_MAX: usize = 2048;
const DEPTH_MAX: usize = 250;

/// Whether a share may be called that.
pub fn share_name_is_valid(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
        && plain(bytes[0])
        && plain(bytes[bytes.len() - 1])
        && !name.contains("--")
}

/// The components of a path below a share; trailing dots go, unless they are allowed.
pub fn components(path: &[String], allow_trailing_dot: bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in path {
        let name = if allow_trailing_dot { name } else { name.trim_end_matches('.') };
        check_component(name)?;
        names.push(name.to_owned());
    }
    let units: usize = names.iter().map(|name| name.encode_utf16().count() + 1).sum();
    if units > PATH_UNITS_MAX + 1 || names.len() > DEPTH_MAX {
        return Err(Error::new("InvalidResourceName"));
    }
    Ok(names)
}

fn check_component(name: &str) -> Result<()> {
    let forbidden = |c: char| {
        matches!(c, '"' | '\\' | '/' | ':' | '|' | '<' | '>' | '*' | '?')
            || (c as u32) < 0x20
            || matches!(c as u32, 0x80..=0x9f)
    };
    let units = name.encode_utf16().count();
    if units == 0 || units > COMPONENT_UNITS_MAX || name == "." || name == ".." {
        return Err(Error::new("InvalidResourceName"));
    }
    if name.contains(forbidden) {
        return Err(Error::new("InvalidFileOrDirectoryPathName"));
    }
    Ok(())
}

/// The text by which names are the same: upper case where one letter has one, as NTFS does.
pub fn fold(name: &str) -> String {
    let upper = |letter: char| {
        let mut upper = letter.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(one), None) => one,
            _ => letter,
        }
    };
    name.chars().map(upper).collect()
}

/// Whether an identifier may name metadata.
pub fn metadata_name_is_valid(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Undoes percent escapes; `+` is a plus. None if what comes out is no UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        // from_str_radix() would take a sign, too.
        let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

/// Escapes all but the letters, digits and marks that no URL reserves.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_names_follow_the_rules() {
        for good in ["abc", "a-b-c", "0ab", &"a".repeat(63)] {
            assert!(share_name_is_valid(good), "{good}");
        }
        for bad in ["ab", "-ab", "ab-", "a--b", "Abc", "a_b", "a.b", &"a".repeat(64)] {
            assert!(!share_name_is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn names_are_checked_and_lose_their_trailing_dots() {
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let stripped = components(&path(&["a.", "b..", "c.d"]), false).unwrap();
        assert_eq!(stripped, ["a", "b", "c.d"]);
        assert_eq!(components(&path(&["a."]), true).unwrap(), ["a."]);
        let long = "x".repeat(256);
        for bad in ["a:b", "a\\b", "a?", "\u{1}", "...", "", &long] {
            assert!(components(&path(&[bad]), false).is_err(), "{bad}");
        }
        assert!(components(&path(&[".."]), true).is_err());
        assert!(components(&vec!["n".to_owned(); 251], false).is_err());
        assert!(components(&vec!["n".repeat(250); 9], false).is_err());
        assert!(components(&path(&[&"x".repeat(255), "a b+c%", "\u{e9}"]), false).is_ok());
    }

    #[test]
    fn escapes_are_undone_and_made() {
        assert_eq!(percent_decode("a%20b+c%2Fd%").unwrap(), "a b+c/d%");
        assert_eq!(percent_encode("a b/\u{e9}"), "a%20b%2F%C3%A9");
        assert_eq!(percent_decode("%ff"), None);
        assert_eq!(fold("stra\u{df}e \u{e9}"), "STRA\u{df}E \u{c9}");
    }
}
