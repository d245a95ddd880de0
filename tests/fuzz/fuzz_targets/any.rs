//! Any of the entry points: the one that this program is named after.
#![no_main]
// Of the command's files these are the ones that read; most of what they have is for others.
#![allow(dead_code)]

#[path = "../../../src/azure.rs"]
mod azure;
#[path = "../../../src/config.rs"]
mod config;
#[path = "../../../src/credentials.rs"]
mod credentials;
#[path = "../../../src/fail.rs"]
mod fail;
#[path = "../../../src/fuzz.rs"]
mod fuzz;
#[path = "../../../src/keyring.rs"]
mod keyring;
#[path = "../../../src/login.rs"]
mod login;
#[path = "../../../src/options.rs"]
mod options;
#[path = "../../../src/place.rs"]
mod place;
#[path = "../../../src/secret.rs"]
mod secret;
#[path = "../../../src/share.rs"]
mod share;
#[path = "../../../src/size.rs"]
mod size;
#[path = "../../../src/smb.rs"]
mod smb;
/// Of the rooms of each system.
mod system {
    #[path = "../../../../src/system/unix/files.rs"]
    pub(crate) mod files;
    #[path = "../../../../src/system/unix/terminal.rs"]
    pub(crate) mod terminal;
}
#[path = "../../../src/text.rs"]
mod text;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let all = fuzz::TARGETS.iter();
    all.chain(&covefs_cache::fuzz::TARGETS)
        .chain(&covefs_remote::fuzz::TARGETS)
        .find(|(name, _)| *name == env!("CARGO_BIN_NAME"))
        .map(|(_, target)| *target)
        .expect("a program is named after an entry point")
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
