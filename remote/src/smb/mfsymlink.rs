//! Symlinks as the kernel's cifs keeps them with `mfsymlinks`, and macOS: a file of fixed size.
//!
//! ```text
//! XSym\n
//! 0017\n                                length of the target
//! 8b1a9953c4611296a827abf8c47804d7\n    its MD5
//! target\n                              and blanks up to 1067 bytes
//! ```

use super::fail::{Fail, Outcome};
use crate::ErrorKind;
use md5::{Digest, Md5};

/// Bytes of the file.
pub(super) const FILE_BYTES: usize = HEAD_BYTES + TARGET_BYTES_MAX;

const HEAD_BYTES: usize = 43;
const TARGET_BYTES_MAX: usize = 1024;

/// Whether it is worth to look inside.
pub(super) fn may_be(is_dir: bool, size: u64) -> bool {
    !is_dir && size == FILE_BYTES as u64
}

/// The file of a symlink to `target`.
pub(super) fn file(target: &[u8]) -> Outcome<Vec<u8>> {
    if target.is_empty() || target.contains(&0) {
        return Err(ErrorKind::NameInvalid.into());
    }
    if target.len() > TARGET_BYTES_MAX {
        let text = format!("a symlink on an SMB share holds {TARGET_BYTES_MAX} bytes");
        return Err(Fail::saying(ErrorKind::NameTooLong, text));
    }
    let mut file = head(target).into_bytes();
    file.extend_from_slice(target);
    if file.len() < FILE_BYTES {
        file.push(b'\n');
    }
    file.resize(FILE_BYTES, b' ');
    Ok(file)
}

/// The target, if this is such a file.
pub(super) fn parse(file: &[u8]) -> Option<Vec<u8>> {
    if file.len() != FILE_BYTES {
        return None;
    }
    let length = std::str::from_utf8(file.get(5..9)?).ok()?.parse::<usize>().ok()?;
    let target = file.get(HEAD_BYTES..HEAD_BYTES + length).filter(|it| !it.is_empty())?;
    (file[..HEAD_BYTES] == *head(target).as_bytes()).then(|| target.to_vec())
}

fn head(target: &[u8]) -> String {
    let sum: String = Md5::digest(target).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("XSym\n{:04}\n{sum}\n", target.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn a_target_comes_back() {
        for target in [&b"Hello"[..], b"/etc/passwd", b"nowhere/\xff\n", &[b'x'; 1024]] {
            let file = file(target).unwrap();
            assert_eq!((file.len(), parse(&file).as_deref()), (1067, Some(target)));
        }
        // As the kernel writes it.
        let hello = file(b"Hello").unwrap();
        assert!(hello.starts_with(b"XSym\n0005\n8b1a9953c4611296a827abf8c47804d7\nHello\n  "));
    }

    #[test]
    fn other_files_of_that_size_are_files() {
        assert_eq!(parse(&[b' '; FILE_BYTES]), None);
        let mut broken = file(b"target").unwrap();
        broken[HEAD_BYTES] ^= 1;
        assert_eq!(parse(&broken), None);
        assert_eq!(file(&[b'x'; 1025]).unwrap_err().kind, ErrorKind::NameTooLong);
        assert_eq!(file(b"").unwrap_err().kind, ErrorKind::NameInvalid);
    }

    proptest! {
        #[test]
        fn any_file_is_a_link_or_none(bytes in vec(any::<u8>(), 0..80), at in 0..1067_usize, byte: u8) {
            let _ = parse(&bytes);
            let mut damaged = file(b"a/target").unwrap();
            damaged[at] = byte;
            let _ = parse(&damaged);
        }
    }
}
