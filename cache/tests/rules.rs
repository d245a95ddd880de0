//! Rules of the cache, one scenario each, through its public interface.
#![allow(clippy::unwrap_used)]

#[path = "rules/ahead.rs"]
mod ahead;
#[path = "rules/both_sides.rs"]
mod both_sides;
#[path = "rules/bytes.rs"]
mod bytes;
#[path = "rules/caches.rs"]
mod caches;
mod harness;
#[path = "rules/quiet.rs"]
mod quiet;
#[path = "rules/reading.rs"]
mod reading;
#[path = "rules/scrub.rs"]
mod scrub;
#[path = "rules/sent.rs"]
mod sent;

use covefs_cache::*;
use covefs_remote::fault::{Fault, Gate, Rule};
use covefs_remote::{Attrs, ErrorKind as RemoteKind};
use harness::*;
use std::time::Duration;

const BLOCK: usize = 64 << 10;
