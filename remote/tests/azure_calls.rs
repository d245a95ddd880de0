//! What the contract does not ask of an Azure share: lost answers, races, logins, names, leases.
#![allow(clippy::unwrap_used)]

#[path = "azure/copying.rs"]
mod copying;
#[path = "azure/harness.rs"]
mod harness;
#[path = "azure/kept.rs"]
mod kept;
#[path = "azure/leases.rs"]
mod leases;
#[path = "azure/login.rs"]
mod login;
#[path = "azure/lost.rs"]
mod lost;
#[path = "azure/names.rs"]
mod names;
#[path = "azure/reading.rs"]
mod reading;
#[path = "azure/snapshots.rs"]
mod snapshots;
#[path = "azure/trust.rs"]
mod trust;

#[path = "contract/suite.rs"]
mod suite;
