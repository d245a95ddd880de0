//! Entry points for fuzzing: what reads bytes that a server sends. Each takes any bytes, and panics where
//! something that must hold does not. Used by `tests/fuzz` and, bounded, by the test below.

use crate::{azure, smb};

/// What it reads, and how.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 4] = [
    ("azure-bodies", azure::read_any_body),
    ("azure-headers", azure::read_any_header),
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
}
