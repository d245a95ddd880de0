//! What a disk hands back: journal, index, cache.json. The first byte says who reads the rest.
#![no_main]

use covefs_cache::fuzz::TARGETS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let (_, target) = TARGETS[usize::from(*which) % TARGETS.len()];
    target(bytes);
});
