//! Entry points for fuzzing: what reads what people write, in files and on the command line. Each takes
//! any bytes, and panics where something that must hold does not. Used by `tests/fuzz` and, bounded,
//! by the tests below.

use crate::share::Share;
use crate::{config, credentials, login, options, size};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// What it reads, and how.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: [Target; 4] = [
    ("config-file", config_file),
    ("mount-options", mount_options),
    ("share-names", share_names),
    ("login-lines", login_lines),
];

fn config_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let layers = config::file::parse(text, Path::new("covefs.toml"), &["dir:/srv/share".into()]);
    let _ = layers.and_then(|layers| config::Settings::resolve(&layers));
    let _ = (size::parse_size(text), size::parse_duration(text), size::parse_min_free(text));
}

fn mount_options(bytes: &[u8]) {
    let argument = [OsString::from_vec(bytes.to_vec())];
    for sloppy in [false, true] {
        let words = options::parse(&argument, sloppy);
        let _ = words.and_then(|words| config::Settings::resolve(&[words.layer]));
    }
}

/// The name that a share has in messages means the same share.
fn share_names(bytes: &[u8]) {
    let Ok(share) = Share::parse(OsStr::from_bytes(bytes)) else { return };
    let name = share.canonical();
    if share.local_path().is_none_or(|path| path.to_str().is_some()) {
        let again = Share::parse(OsStr::new(&name)).map(|share| share.canonical());
        assert_eq!(again.ok(), Some(name));
    }
    assert!(!share.short_name().is_empty());
}

fn login_lines(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (login::value(text, &["password", "pass"]), login::value(text, &["user"]));
    let _ = credentials::of_variables("account", "a file", |name| credentials::line(text, name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..200), text: String, word in "[a-zA-Z:/@;=.%\\[\\]\\\\ -]*") {
            for (_, target) in TARGETS {
                target(&bytes);
                target(text.as_bytes());
                target(word.as_bytes());
            }
        }
    }

    #[test]
    fn what_fuzzing_found_interesting_is_read() {
        for (name, target) in TARGETS {
            let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
            let kept: Vec<_> = std::fs::read_dir(kept).unwrap().collect();
            assert!(!kept.is_empty(), "{name}");
            kept.into_iter().for_each(|file| target(&std::fs::read(file.unwrap().path()).unwrap()));
        }
    }
}
