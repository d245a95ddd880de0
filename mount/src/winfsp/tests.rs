//! What Windows programs may rely on: on a real cache over a real share, and on Windows (and Wine)
//! through the very calls that WinFsp makes.

#[cfg(windows)]
mod by_context;
#[cfg(unix)]
mod by_volume;
mod data;
#[path = "../../../remote/tests/samba/given.rs"]
mod given;
mod listing;
mod names;
mod removing;
mod rig;
