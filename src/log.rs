//! The log file: text lines in UTC, rotated at 10 MiB, three files at most (U3).
//!
//! Until the cache is opened, lines are kept in memory: a mount that is refused must not write
//! into another mount's log.

use crate::fail;
use crate::system::files;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A log grows to this, then it is put aside.
const FILE_BYTES_MAX: u64 = 10 << 20;
/// The current one and two older ones.
const FILES: u32 = 3;
/// What a start may say before it has a file; more is dropped.
const PENDING_BYTES_MAX: usize = 256 << 10;

/// A log that can be given its file later. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<State>>);

enum State {
    Pending(Vec<u8>),
    Open { path: PathBuf, file: File, bytes: u64 },
}

impl Log {
    pub(crate) fn new() -> Log {
        Log(Arc::new(Mutex::new(State::Pending(Vec::new()))))
    }

    /// From here on lines go to this file; those kept so far go first.
    pub(crate) fn open(&self, path: &Path) -> Result<()> {
        let (mut file, mut bytes) =
            open(path).with_context(|| format!("cannot open the log file {}", path.display()))?;
        let mut state = self.lock();
        if let State::Pending(kept) = &*state {
            file.write_all(kept).with_context(|| format!("write the log {}", path.display()))?;
            bytes += kept.len() as u64;
        }
        *state = State::Open { path: path.to_path_buf(), file, bytes };
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while logging leaves the state usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.lock() {
            State::Pending(kept) => {
                if kept.len() + line.len() <= PENDING_BYTES_MAX {
                    kept.extend_from_slice(line);
                }
            }
            State::Open { path, file, bytes } => {
                if *bytes > 0 && *bytes + line.len() as u64 > FILE_BYTES_MAX {
                    rotate(path)?;
                    (*file, *bytes) = open(path)?;
                }
                file.write_all(line)?;
                *bytes += line.len() as u64;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = files::private(File::options().create(true).append(true)).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn rotate(path: &Path) -> io::Result<()> {
    let older = |number: u32| {
        let mut name = path.as_os_str().to_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..FILES - 1).rev() {
        match std::fs::rename(older(number), older(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, older(1))
}

/// Starts logging of this process; `COVEFS_LOG` filters it. In the foreground the terminal gets
/// the lines too.
pub(crate) fn start(log: &Log, foreground: bool) -> Result<()> {
    let filter = match std::env::var("COVEFS_LOG") {
        Ok(text) if !text.trim().is_empty() => EnvFilter::builder()
            .with_default_directive(LevelFilter::INFO.into())
            .parse(&text)
            .map_err(|error| {
                fail::usage(format!("COVEFS_LOG: '{text}' is no filter ({error}); try debug"))
            })?,
        _ => EnvFilter::new("info,sled=off,smb2=off"),
    };
    let writer = log.clone();
    let file =
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    let terminal = foreground
        .then(|| tracing_subscriber::fmt::layer().with_ansi(false).with_writer(io::stderr));
    tracing_subscriber::registry()
        .with(filter)
        .with(file)
        .with(terminal)
        .try_init()
        .context("start logging")?;
    log_panics();
    Ok(())
}

/// A panic in one handler answers EIO and the drive lives on; the log must tell of it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_string())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into());
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_string();
        let backtrace = std::backtrace::Backtrace::capture();
        match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => {
                tracing::error!(place, thread = name, "panic: {message}\n{backtrace}");
            }
            _ => tracing::error!(place, thread = name, "panic: {message}"),
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wait_for_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("covefs.log");
        let mut log = Log::new();
        log.write_all(b"early\n").unwrap();
        assert!(!path.exists());
        log.open(&path).unwrap();
        log.write_all(b"late\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"early\nlate\n");
    }

    #[test]
    fn three_files_of_bounded_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("covefs.log");
        let mut log = Log::new();
        log.open(&path).unwrap();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..45 {
            log.write_all(&line).unwrap();
        }
        let mut sizes: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len() >> 20)
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [5, 10, 10]);
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_named() {
        let error = Log::new().open(Path::new("/nonexistent/c.log")).unwrap_err();
        assert!(fail::one_line(&error).contains("/nonexistent/c.log"));
    }
}
