//! `covefs`: mounts a file share as a local drive with a size-limited cache. This is wiring: the
//! filesystem is in `cache`, the kernel's side in `mount`, the shares in `remote`.
#![cfg_attr(not(windows), forbid(unsafe_code))]

mod azure;
mod cli;
mod client;
mod config;
mod control;
mod credentials;
mod demo;
mod drive;
mod fail;
#[cfg(all(test, unix))]
mod fuzz;
mod keyring;
mod log;
mod login;
mod mounts;
mod options;
mod paths;
mod place;
mod plan;
mod progress;
mod registry;
mod relay;
mod remote;
mod run;
mod secret;
mod share;
mod size;
mod smb;
mod status;
mod system;
mod text;

use crate::cli::{Cli, Command};
use crate::paths::Verb;
use anyhow::Result;
use clap::CommandFactory;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let code = begin().unwrap_or_else(|error| {
        fail::report(&error);
        fail::exit_code(&error)
    });
    ExitCode::from(code)
}

fn begin() -> Result<u8> {
    let Some(arguments) = system::command_line(std::env::args_os().collect())? else {
        return Ok(0);
    };
    match cli::parse(&arguments) {
        Ok(cli) => dispatch(cli, &arguments),
        Err(code) => Ok(code),
    }
}

fn dispatch(cli: Cli, arguments: &[OsString]) -> Result<u8> {
    match cli.command {
        Command::Mount(args) => return run::mount(&args, arguments),
        Command::Unmount { mountpoint, wait, force } => {
            system::unmount::unmount(&mountpoint, wait, force)?;
        }
        Command::Sync { mountpoint, wait } => drive::sync(&mountpoint, wait)?,
        Command::Status { mountpoint, all, json, watch } => {
            status::run(mountpoint.as_deref(), all, json, watch)?;
        }
        Command::Conflicts { mountpoint, dismiss, json } => {
            drive::conflicts(&mountpoint, dismiss.as_deref(), json)?;
        }
        Command::Hydrate(paths) => paths::run(Verb::Hydrate, &paths.paths)?,
        Command::Evict(paths) => paths::run(Verb::Evict, &paths.paths)?,
        Command::Pin(paths) => paths::run(Verb::Pin, &paths.paths)?,
        Command::Unpin(paths) => paths::run(Verb::Unpin, &paths.paths)?,
        Command::Why { path } => paths::run(Verb::Why, &[path])?,
        Command::Unlock(paths) => paths::run(Verb::Unlock, &paths.paths)?,
        Command::Resize { mountpoint, size } => drive::resize(&mountpoint, &size)?,
        Command::Check { path, scrub: true, .. } => drive::scrub(&path)?,
        Command::Check { path, repair, .. } => drive::check(&path, repair)?,
        Command::Snapshots { share, credentials } => {
            share::snapshots(&share, credentials.as_deref())?
        }
        Command::Login { share } => secret::login(&share)?,
        Command::Logout { share } => secret::logout(&share)?,
        Command::Demo { check, azure } => demo::run(check, azure)?,
        #[cfg(windows)]
        Command::Service { what } => return system::service::run(&what, arguments),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "covefs", &mut text);
            crate::text::print(format_args!("{}", String::from_utf8_lossy(&text)));
        }
    }
    Ok(0)
}
