//! SMB over a server of its own: what the protocol's crate can do, races, restarts, names.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "smb/copying.rs"]
mod copying;
#[path = "smb/cuts.rs"]
mod cuts;
#[path = "smb/kept.rs"]
mod kept;
#[path = "smb/line.rs"]
mod line;
#[path = "smb/lost.rs"]
mod lost;
#[path = "smb/names.rs"]
mod names;
#[path = "smb/packets.rs"]
mod packets;
#[path = "smb/races.rs"]
mod races;
mod samba;
#[path = "smb/snapshots.rs"]
mod snapshots;
#[path = "contract/suite.rs"]
mod suite;
#[path = "smb/ticket.rs"]
mod ticket;
#[path = "smb/watch.rs"]
mod watch;
#[path = "smb/wire.rs"]
mod wire;
