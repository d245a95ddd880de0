//! The crate as a whole on a disk and an index that lose power: what no test from outside can do.

mod cuts;
mod leftovers;
mod lend;
mod locked;
mod order;
mod power;
mod promises;
pub(crate) mod rig;
mod simulation;
mod trouble;
mod watch;
mod week;
mod young;
