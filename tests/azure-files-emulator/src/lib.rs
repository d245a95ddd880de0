//! A test server for Azure Files: the REST protocol of the service over memory, with faults on
//! request. See `README.md` for what it does and what it does not.
//!
//! ```
//! use azure_files_emulator::{Config, Emulator};
//! let emulator = Emulator::start(Config::default()).expect("a port of the loopback is free");
//! emulator.create_share("docs");
//! emulator.write("docs", "dir/file.txt", b"hello");
//! assert!(emulator.connection_string().contains("FileEndpoint=http://127.0.0.1:"));
//! assert_eq!(emulator.read("docs", "dir/FILE.txt").as_deref(), Some(&b"hello"[..]));
//! ```

mod api;
mod auth;
mod call;
mod config;
mod content;
mod control;
mod crypto;
mod emulator;
mod entra;
mod error;
mod faults;
mod names;
mod operation;
mod owner;
mod persist;
mod ranges;
mod serve;
mod server;
mod store;
mod time;
mod tls;
mod xml;

pub use auth::token::TENANT;
pub use config::{Config, DEVELOPMENT_ACCOUNT, DEVELOPMENT_KEY, EntraConfig};
pub use emulator::Emulator;
pub use faults::{Fault, Faults, Rule, RuleId};
pub use operation::Operation;
pub use owner::{Entry, LeaseState, Owner, Sharing};
pub use server::Logged;
