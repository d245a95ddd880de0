//! Names as Windows has them, 16 bits a unit, and as the filesystem has them, in bytes.
//!
//! What Windows does not allow in a name is shown as a private character in its place, as the room of
//! SMB shares stores it there. Bytes that are no UTF-8 become units that no text has.

use super::Answer;
use crate::ntstatus::Status;

/// Units of a name.
pub(super) const NAME_UNITS_MAX: usize = 255;

const SEPARATOR: u16 = b'\\' as u16;
/// Where a byte that is no UTF-8 goes: 0xdc80 to 0xdcff.
const LONE: u16 = 0xdc00;

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
const SPACE: char = '\u{f028}';
const DOT: char = '\u{f029}';

/// One name of a path. It may be spelled in two ways where the share itself has private characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name {
    plain: Vec<u8>,
    as_is: Option<Vec<u8>>,
}

impl Name {
    /// How the share may have it, likelier first.
    pub(super) fn spellings(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&*self.plain).chain(self.as_is.as_deref())
    }
}

/// The names of a path from the root, which is `\`.
pub(super) fn split(path: &[u16]) -> Answer<Vec<Name>> {
    let Some((&SEPARATOR, rest)) = path.split_first() else {
        return Err(Status::OBJECT_NAME_INVALID);
    };
    let rest = rest.strip_suffix(&[SEPARATOR]).unwrap_or(rest);
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    rest.split(|unit| *unit == SEPARATOR).map(name).collect()
}

/// A path from its names.
pub(super) fn join<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<u16> {
    let mut path = Vec::new();
    for name in names {
        path.push(SEPARATOR);
        path.extend(units(name));
    }
    if path.is_empty() { vec![SEPARATOR] } else { path }
}

/// One name that a program says.
pub(super) fn name(units: &[u16]) -> Answer<Name> {
    let invalid = Err(Status::OBJECT_NAME_INVALID);
    if units.is_empty() || units.len() > NAME_UNITS_MAX {
        return invalid;
    }
    let (mut plain, mut as_is, mut mapped) = (Vec::new(), Vec::new(), false);
    let push = |bytes: &mut Vec<u8>, symbol: char| {
        bytes.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
    };
    for symbol in char::decode_utf16(units.iter().copied()) {
        match symbol {
            Ok(symbol) if symbol < ' ' || "\\/:*?\"<>|".contains(symbol) => return invalid,
            Ok(symbol) => {
                let meant = unmapped(symbol);
                mapped |= meant != symbol;
                push(&mut plain, meant);
                push(&mut as_is, symbol);
            }
            Err(lone) if (LONE + 0x80..=LONE + 0xff).contains(&lone.unpaired_surrogate()) => {
                let byte = (lone.unpaired_surrogate() - LONE) as u8;
                plain.push(byte);
                as_is.push(byte);
            }
            Err(_) => return invalid,
        }
    }
    if plain == b"." || plain == b".." {
        return invalid;
    }
    Ok(Name { plain, as_is: mapped.then_some(as_is) })
}

/// The likeliest name on the share of what a person calls so; `None` where no name is like this.
#[cfg(windows)]
pub fn name_on_share(said: &std::ffi::OsStr) -> Option<Vec<u8>> {
    use std::os::windows::ffi::OsStrExt;
    let units: Vec<u16> = said.encode_wide().collect();
    name(&units).ok().map(|name| name.plain)
}

/// A name of the share as programs see it.
pub(super) fn units(name: &[u8]) -> Vec<u16> {
    let mut units = Vec::with_capacity(name.len());
    // Private characters of the share's own beside those that we need: told apart as bytes.
    let is_private = |symbol: char| unmapped(symbol) != symbol;
    let symbols = || name.utf8_chunks().flat_map(|chunk| chunk.valid().chars());
    let is_odd = |symbol: char| mapped(symbol) != symbol;
    let ends_odd = matches!(name.last(), Some(b'.' | b' '));
    let is_mixed = symbols().any(is_private) && (ends_odd || symbols().any(is_odd));
    for chunk in name.utf8_chunks() {
        for symbol in chunk.valid().chars() {
            if is_mixed && is_private(symbol) {
                let mut bytes = [0; 4];
                let bytes = symbol.encode_utf8(&mut bytes).bytes();
                units.extend(bytes.map(|byte| LONE + u16::from(byte)));
            } else {
                push(&mut units, mapped(symbol));
            }
        }
        units.extend(chunk.invalid().iter().map(|byte| LONE + u16::from(*byte)));
    }
    // Windows takes them off a name that it is told.
    let last = match units.last().copied() {
        Some(last) if last == u16::from(b' ') => SPACE,
        Some(last) if last == u16::from(b'.') => DOT,
        _ => return units,
    };
    units.pop();
    push(&mut units, last);
    units
}

fn push(units: &mut Vec<u16>, symbol: char) {
    units.extend_from_slice(symbol.encode_utf16(&mut [0; 2]));
}

fn mapped(symbol: char) -> char {
    if symbol < ' ' {
        return char::from_u32(0xf000 + symbol as u32).unwrap_or(symbol);
    }
    MAPPED.iter().find(|(plain, _)| *plain == symbol).map_or(symbol, |(_, private)| *private)
}

fn unmapped(symbol: char) -> char {
    match symbol {
        SPACE => ' ',
        DOT => '.',
        '\u{f001}'..='\u{f01f}' => char::from_u32(symbol as u32 - 0xf000).unwrap_or(symbol),
        _ => MAPPED
            .iter()
            .find(|(_, private)| *private == symbol)
            .map_or(symbol, |(plain, _)| *plain),
    }
}

/// What names have in common that differ in case alone; also the order of a listing.
pub(super) fn folded(units: &[u16]) -> Vec<u16> {
    let mut folded = Vec::with_capacity(units.len());
    for symbol in char::decode_utf16(units.iter().copied()) {
        match symbol {
            Ok(symbol) => {
                let mut capitals = symbol.to_uppercase();
                let capital = capitals.next().filter(|_| capitals.next().is_none());
                push(&mut folded, capital.unwrap_or(symbol));
            }
            Err(lone) => folded.push(lone.unpaired_surrogate()),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wide(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    fn plain(path: &str) -> Answer<Vec<Vec<u8>>> {
        Ok(split(&wide(path))?.into_iter().map(|name| name.plain).collect())
    }

    #[test]
    fn paths_are_taken_apart() {
        assert_eq!(plain("\\"), Ok(vec![]));
        assert_eq!(plain("\\a\\B c\\d."), Ok(vec![b"a".to_vec(), b"B c".to_vec(), b"d.".to_vec()]));
        assert_eq!(plain("\\a\\"), Ok(vec![b"a".to_vec()]));
        for bad in ["", "a", "\\a\\\\b", "\\a:b", "\\a*", "\\a/b", "\\a\u{1}", "\\.", "\\a\\..\\b"]
        {
            assert_eq!(plain(bad), Err(Status::OBJECT_NAME_INVALID), "{bad:?}");
        }
        assert_eq!(plain(&format!("\\{}", "x".repeat(255))).unwrap()[0].len(), 255);
        assert!(plain(&format!("\\{}", "x".repeat(256))).is_err());
        // The whole may be long.
        assert_eq!(plain(&"\\abcdefgh".repeat(400)).unwrap().len(), 400);
    }

    #[test]
    fn what_windows_cannot_say_stands_as_private_characters() {
        assert_eq!(units(b"a:b?"), wide("a\u{f022}b\u{f025}"));
        assert_eq!(units(b"dot."), wide("dot\u{f029}"));
        assert_eq!(units(b"a\xffb"), [97, 0xdcff, 98]);
        let both = name(&wide("a\u{f022}b")).unwrap();
        let spellings: Vec<_> = both.spellings().collect();
        assert_eq!(spellings, ["a:b".as_bytes(), "a\u{f022}b".as_bytes()]);
        assert_eq!(name(&wide("a")).unwrap().spellings().count(), 1);
        let mixed = "a:\u{f022}".as_bytes();
        assert_eq!(units(mixed), [97, 0xf022, 0xdcef, 0xdc80, 0xdca2]);
        assert_eq!(name(&units(mixed)).unwrap().spellings().next(), Some(mixed));
    }

    #[test]
    fn a_path_is_put_together() {
        assert_eq!(join([].into_iter()), wide("\\"));
        assert_eq!(join([&b"a"[..], b"b:"].into_iter()), wide("\\a\\b\u{f022}"));
    }

    #[test]
    fn case_is_folded_symbol_by_symbol() {
        assert_eq!(
            folded(&wide("Stra\u{df}e \u{e4}\u{1f600}")),
            wide("STRA\u{df}E \u{c4}\u{1f600}")
        );
    }

    proptest! {
        #[test]
        fn every_name_of_a_share_comes_back(bytes in prop::collection::vec(1_u8.., 1..60)) {
            prop_assume!(!bytes.contains(&b'/') && bytes != b"." && bytes != b"..");
            let shown = units(&bytes);
            let back = name(&shown).unwrap();
            prop_assert!(back.spellings().any(|spelling| spelling == bytes));
        }
    }
}
