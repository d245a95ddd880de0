//! The harness of the product tests: a share, a cache and a mountpoint on a real disk, the real
//! `covefs` process between them, and words to watch, kill, restart and compare.
//!
//! Invariants: a `Drive` that goes out of scope leaves no process and no mount, and no files
//! unless its test failed; what a killed test run left is removed by the next one; nothing waits
//! without a deadline.

// Each test file uses its own part of the harness.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

pub mod drive;
pub mod link;
mod machine;
mod random;
mod run;
mod tree;
pub mod wait;

pub use drive::Drive;
pub use link::{Behaviour, Link};
pub use machine::{connections_to, detach, is_mounted, is_root};
pub use random::{Random, env_number, seed};
pub use run::{run, succeed};
pub use tree::{Entry, Tree, first_difference, pattern, read_tree, same_trees};
pub use wait::{try_until, until, within};
