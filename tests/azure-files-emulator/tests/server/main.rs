//! The server from both sides: what clients see on the wire, what its owner does without it.
#![allow(clippy::unwrap_used)]

mod faults;
mod http;
mod owner;
mod wire;
