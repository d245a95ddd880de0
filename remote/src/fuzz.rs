//! Entry points for fuzzing: what reads bytes that a server sends. Each takes any bytes, and panics where
//! something that must hold does not. Used by `tests/fuzz` and, bounded, by the test below.

use crate::{azure, smb};

/// What it reads, and how.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 5] = [
    ("azure-bodies", azure::read_any_body),
    ("azure-headers", azure::read_any_header),
    ("azure-logins", azure::read_any_login),
    ("smb-answers", smb::read_any_answer),
    ("smb-names", smb::read_any_name),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..400), text: String) {
            for (_, target) in TARGETS {
                target(&bytes);
                target(text.as_bytes());
            }
        }
    }

    #[test]
    fn what_fuzzing_found_interesting_is_read() {
        for (name, target) in TARGETS {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let kept: Vec<_> =
                std::fs::read_dir(root.join("../tests/fuzz/corpus").join(name)).unwrap().collect();
            assert!(!kept.is_empty(), "{name}");
            kept.into_iter().for_each(|file| target(&std::fs::read(file.unwrap().path()).unwrap()));
        }
    }
}
