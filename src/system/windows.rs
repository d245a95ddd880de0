//! Windows: a named pipe for each cache, drives by letter, directory or network name, a service.

pub(crate) mod channel;
pub(crate) mod daemon;
pub(crate) mod dir;
pub(crate) mod files;
pub(crate) mod mountpoint;
pub(crate) mod service;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod unmount;
pub(crate) mod user;
mod win32;

use anyhow::Result;
use std::ffi::OsString;

/// The command line to run.
pub(crate) fn command_line(arguments: Vec<OsString>) -> Result<Option<Vec<OsString>>> {
    Ok(Some(arguments))
}
