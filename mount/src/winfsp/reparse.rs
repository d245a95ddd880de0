//! Symlinks as Windows reads them: REPARSE_DATA_BUFFER with a SymbolicLinkReparseBuffer.

use super::facts::SYMLINK;
use super::path;

/// Relative to where the link stands, or to the drive's root.
const RELATIVE: u32 = 1;
/// In front of the names: tag, length; offsets and lengths of two names, flags.
const HEAD_BYTES: usize = 8;
const LINK_BYTES: usize = 12;

/// The target as Windows spells it. One that begins with `/` begins at the drive's root.
pub(super) fn target(target: &[u8]) -> Vec<u16> {
    let mut spelled = Vec::new();
    for (number, name) in target.split(|byte| *byte == b'/').enumerate() {
        if number > 0 {
            spelled.push(u16::from(b'\\'));
        }
        // `.` and `..` are no names, and stay.
        match name {
            b"." | b".." => spelled.extend(name.iter().map(|byte| u16::from(*byte))),
            name => spelled.extend(path::units(name)),
        }
    }
    spelled
}

/// What FSCTL_GET_REPARSE_POINT answers.
pub(super) fn buffer(link: &[u8]) -> Vec<u8> {
    let name = target(link);
    let name_bytes = (name.len() * 2) as u16;
    let mut buffer = Vec::with_capacity(HEAD_BYTES + LINK_BYTES + 2 * usize::from(name_bytes));
    buffer.extend(SYMLINK.to_le_bytes());
    buffer.extend((LINK_BYTES as u16 + 2 * name_bytes).to_le_bytes());
    buffer.extend([0; 2]);
    // What is followed, then what is shown.
    for number in [0, name_bytes, name_bytes, name_bytes] {
        buffer.extend(number.to_le_bytes());
    }
    buffer.extend(RELATIVE.to_le_bytes());
    for unit in name.iter().chain(&name) {
        buffer.extend(unit.to_le_bytes());
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_spelled_with_backslashes() {
        let text = |link: &[u8]| String::from_utf16(&target(link)).unwrap();
        assert_eq!(text(b"a/b"), "a\\b");
        assert_eq!(text(b"../x/./y"), "..\\x\\.\\y");
        assert_eq!(text(b"/from/root"), "\\from\\root");
        assert_eq!(text(b"a:b"), "a\u{f022}b");
    }

    #[test]
    fn a_buffer_says_how_long_it_is() {
        let bytes = buffer(b"d/e");
        assert_eq!(bytes.len(), 8 + 12 + 2 * 6);
        assert_eq!(bytes[..8], [0x0c, 0, 0, 0xa0, 24, 0, 0, 0]);
        assert_eq!(bytes[8..20], [0, 0, 6, 0, 6, 0, 6, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[20..26], bytes[26..]);
        assert_eq!(bytes[20..26], *b"d\0\\\0e\0");
    }
}
