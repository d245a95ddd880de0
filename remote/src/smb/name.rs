//! Names on the wire: what Windows reserves is mapped to private characters, as `mapposix` of the
//! kernel's cifs does and as macOS does, so that all three read each other's names.

use super::fail::{Fail, Outcome};
use crate::{ErrorKind, RemotePath};

/// UTF-16 units of a name.
pub(super) const NAME_UNITS_MAX: usize = 255;

/// Bytes of the longest name: a unit may take three of UTF-8; and of a server that counts them.
pub(super) const NAME_BYTES_MAX: usize = 3 * NAME_UNITS_MAX;
pub(super) const NARROW_BYTES_MAX: usize = 255;

/// One unit, three bytes.
pub(super) const WIDEST: &str = "\u{20ac}";

/// A file that is being replaced stands under this and its own name (X2, X4); one with a long
/// name under its own name in a directory of that name.
const ASIDE: &str = ".~covefs-move-of-";
const HOLDER: &str = ".~covefs-move-in-";

/// Reserved characters, and what stands for each of them.
const MAPPED: [(char, char); 8] = [
    ('"', '\u{f020}'),
    ('*', '\u{f021}'),
    (':', '\u{f022}'),
    ('<', '\u{f023}'),
    ('>', '\u{f024}'),
    ('?', '\u{f025}'),
    ('\\', '\u{f026}'),
    ('|', '\u{f027}'),
];
/// Only as the last character.
const SPACE: char = '\u{f028}';
const DOT: char = '\u{f029}';

/// The path below `root` as it is sent.
pub(super) fn to_wire(root: &RemotePath, path: &RemotePath) -> Outcome<String> {
    let mut wire = String::new();
    for name in root.names().chain(path.names()) {
        if !wire.is_empty() {
            wire.push('\\');
        }
        wire.push_str(&name_to_wire(name)?);
    }
    Ok(wire)
}

/// One name as it is sent.
pub(super) fn name_to_wire(name: &[u8]) -> Outcome<String> {
    let invalid = || Fail::from(ErrorKind::NameInvalid);
    let text = std::str::from_utf8(name).map_err(|_| invalid())?;
    if matches!(text, "." | "..") || text.contains('\0') {
        return Err(invalid());
    }
    // They would come back as others.
    if text.contains(|symbol| ('\u{f001}'..='\u{f029}').contains(&symbol)) {
        return Err(invalid());
    }
    let mut wire: String = text.chars().map(mapped).collect();
    match wire.pop() {
        Some(' ') => wire.push(SPACE),
        Some('.') => wire.push(DOT),
        last => wire.extend(last),
    }
    match wire.encode_utf16().count() > NAME_UNITS_MAX {
        true => Err(ErrorKind::NameTooLong.into()),
        false => Ok(wire),
    }
}

fn mapped(symbol: char) -> char {
    if symbol < ' ' {
        return char::from_u32(0xf000 + symbol as u32).unwrap_or(symbol);
    }
    MAPPED.iter().find(|(plain, _)| *plain == symbol).map_or(symbol, |(_, private)| *private)
}

/// A name of a listing.
pub(super) fn from_wire(name: &str) -> Vec<u8> {
    let plain = |symbol: char| match symbol {
        SPACE => ' ',
        DOT => '.',
        '\u{f001}'..='\u{f01f}' => char::from_u32(symbol as u32 - 0xf000).unwrap_or(symbol),
        symbol => MAPPED
            .iter()
            .find(|(_, private)| *private == symbol)
            .map_or(symbol, |(plain, _)| *plain),
    };
    name.chars().map(plain).collect::<String>().into_bytes()
}

/// Where a file stands while another one takes its name. Known from the name alone, and the other
/// way round: so whoever misses the file finds it, and whoever finds it knows what it is.
pub(super) fn aside(path: &RemotePath) -> Option<RemotePath> {
    let (dir, name) = path.split()?;
    if let Some(holder) = holder(path) {
        return Some(holder.join(name));
    }
    Some(dir.join(&[ASIDE.as_bytes(), name].concat()))
}

/// The directory that a file with a long name stands aside in.
pub(super) fn holder(path: &RemotePath) -> Option<RemotePath> {
    let (dir, name) = path.split()?;
    let text = std::str::from_utf8(name).ok()?;
    // Bytes, which are never less than units: some servers count these.
    if ASIDE.len() + name_to_wire(name).ok()?.len() <= NARROW_BYTES_MAX {
        return None;
    }
    // FNV: the same everywhere and for ever.
    let folded = text.to_lowercase();
    let hash = folded.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Some(dir.join(format!("{HOLDER}{hash:016x}").as_bytes()))
}

/// The name of the file that stands aside under `name`.
pub(super) fn is_aside_of(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(ASIDE.as_bytes()).filter(|name| !name.is_empty())
}

/// Whether files with long names stand aside in a directory of this name.
pub(super) fn is_holder(name: &[u8]) -> bool {
    name.starts_with(HOLDER.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn reserved_names_come_back() {
        for name in ["a:b", "a*?", "\"<>|", r"a\b", "trailing.", "trailing ", "...", " ", "a\tb\n"]
        {
            let wire = name_to_wire(name.as_bytes()).unwrap();
            assert!(!wire.contains(|c: char| c < ' ' || r#"":*?<>|\"#.contains(c)), "{wire:?}");
            assert!(!wire.ends_with(['.', ' ']), "{wire:?}");
            assert_eq!(from_wire(&wire), name.as_bytes());
        }
        // As the kernel's cifs and macOS have them.
        assert_eq!(name_to_wire(b"a:b.").unwrap(), "a\u{f022}b\u{f029}");
        assert_eq!(name_to_wire("caf\u{e9} x.y".as_bytes()).unwrap(), "caf\u{e9} x.y");
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        let kind = |name: &[u8]| name_to_wire(name).unwrap_err().kind;
        for name in [&b"."[..], b"..", b"a\0", b"\xff", "\u{f022}".as_bytes()] {
            assert_eq!(kind(name), ErrorKind::NameInvalid, "{name:?}");
        }
        assert_eq!(kind(&[b'n'; 256]), ErrorKind::NameTooLong);
        assert!(name_to_wire(&[b'n'; 255]).is_ok());
        // Units count, not bytes.
        assert!(name_to_wire("\u{20ac}".repeat(255).as_bytes()).is_ok());
        assert_eq!(kind("\u{1f600}".repeat(128).as_bytes()), ErrorKind::NameTooLong);
    }

    #[test]
    fn a_file_aside_is_found_by_its_name() {
        let path = RemotePath::parse(b"d/f.txt");
        let aside = aside(&path).unwrap();
        assert_eq!(aside.split().and_then(|(_, name)| is_aside_of(name)), Some(&b"f.txt"[..]));
        let fits = RemotePath::parse(&[b'n'; 238]);
        let aside = super::aside(&fits).unwrap();
        assert!(to_wire(&RemotePath::root(), &aside).is_ok() && holder(&fits).is_none());
        let long = RemotePath::parse(&[b'n'; 239]);
        let aside = super::aside(&long).unwrap();
        assert!(to_wire(&RemotePath::root(), &aside).is_ok());
        let (holder, name) = aside.split().unwrap();
        assert_eq!((Some(&holder), name), (super::holder(&long).as_ref(), long.as_bytes()));
        assert!(is_holder(holder.as_bytes()) && is_aside_of(holder.as_bytes()).is_none());
        assert_eq!(super::aside(&RemotePath::root()), None);
        assert_eq!(is_aside_of(b".~covefs-0123-1"), None);
    }

    proptest! {
        #[test]
        fn any_name_is_refused_or_comes_back(name in vec(any::<u8>(), 1..80), text: String) {
            for name in [&name[..], text.as_bytes()] {
                if let Ok(wire) = name_to_wire(name) {
                    prop_assert_eq!(from_wire(&wire), name);
                }
            }
            let _ = (from_wire(&text), is_aside_of(&name), is_holder(&name));
        }
    }
}
