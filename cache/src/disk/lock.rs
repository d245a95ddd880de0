//! One owner of a cache directory: an exclusive lock on its file `lock`, which says who has it.

use super::system;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// [`DirLock::holder`] of another process has the lock for a moment; that is no owner.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(10);

/// The directory is this process's until this is dropped, or the process ends however it ends.
#[derive(Debug)]
pub struct DirLock {
    /// Closing it unlocks. The file stays: removing it would let two owners lock two files.
    _file: File,
}

/// Who has a directory. What the file says may be missing if its owner was just taking it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: Option<u32>,
    /// Where it mounted the share.
    pub mountpoint: Option<String>,
}

/// The outcome of asking for a directory.
#[derive(Debug)]
pub enum Locked {
    /// It is ours.
    Ours(DirLock),
    /// It is another's.
    Held(Holder),
}

impl DirLock {
    /// Takes a directory, which must exist, or says who has it.
    pub fn take(dir: &Path, mountpoint: &Path) -> Result<Locked> {
        let failed = |e| Error::disk("lock the cache directory", e).at(dir.display().to_string());
        let file = open(dir, true).map_err(failed)?;
        let mut tries = TRIES;
        loop {
            match system::try_lock(&file, true).map_err(failed)? {
                false if tries > 0 => std::thread::sleep(PAUSE),
                false => return Ok(Locked::Held(read(&file))),
                true => break,
            }
            tries -= 1;
        }
        let holder = Holder {
            pid: Some(std::process::id()),
            mountpoint: Some(mountpoint.to_string_lossy().into_owned()),
        };
        let text = serde_json::to_vec(&holder).map_err(|e| failed(e.into()))?;
        let written = file.set_len(0).and_then(|()| system::write_at(&file, &text, 0));
        written.map_err(failed)?;
        Ok(Locked::Ours(DirLock { _file: file }))
    }

    /// Who has a directory now, without taking it; `None`: nobody.
    pub fn holder(dir: &Path) -> Result<Option<Holder>> {
        let failed = |e| Error::disk("look at the lock of", e).at(dir.display().to_string());
        let file = match open(dir, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        match system::try_lock(&file, false).map_err(failed)? {
            true => Ok(None),
            false => Ok(Some(read(&file))),
        }
    }
}

fn open(dir: &Path, create: bool) -> io::Result<File> {
    system::options().write(create).create(create).truncate(false).open(dir.join("lock"))
}

fn read(mut file: &File) -> Holder {
    let mut text = Vec::new();
    match file.read_to_end(&mut text) {
        Ok(_) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(_) => Holder::default(),
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "in use")?;
        if let Some(pid) = self.pid {
            write!(out, " by process {pid}")?;
        }
        match &self.mountpoint {
            Some(mountpoint) => write!(out, ", mounted at {mountpoint}"),
            None => Ok(()),
        }
    }
}
