//! A named pipe for each cache, which its owner, administrators and the system may open.
//!
//! Its name holds the cache's id, which nobody knows who cannot read the cache. Whoever has the
//! name first keeps it: a daemon refuses to start beside another one, and a client asks only the
//! process that the cache says is its own.

use super::win32::{create_pipe, server_process};
use crate::registry::Note;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer};
use tokio::time::Instant;
use windows_sys::Win32::Foundation::ERROR_PIPE_BUSY;

/// What somebody else can do.
pub(crate) const BE_THE_OWNER: &str = "try it as an administrator";

/// For so long an instance of the pipe may be missing: the server makes the next one in an instant.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// Between two looks whether there is one.
const BUSY_EVERY: Duration = Duration::from_millis(20);

/// A connection, at the server.
pub(crate) type Stream = NamedPipeServer;

/// Waits for clients.
pub(crate) struct Listener {
    name: String,
    descriptor: Vec<u8>,
    /// The instance that the next client opens.
    next: NamedPipeServer,
}

/// Opens the pipe. The caller holds the cache's lock, so who has its name already is no daemon of ours.
pub(crate) fn listen(cache_dir: &Path) -> Result<Listener> {
    let name = pipe_of(cache_dir).context("find the name of the control pipe")?;
    let descriptor = covefs_mount::owner_only().context("find out who runs this")?;
    let next = create_pipe(&name, true, &descriptor)
        .with_context(|| format!("open the control pipe {name}; does another program have it?"))?;
    Ok(Listener { name, descriptor, next })
}

impl Listener {
    /// The next one.
    pub(crate) async fn accept(&mut self) -> io::Result<Stream> {
        self.next.connect().await?;
        match create_pipe(&self.name, false, &self.descriptor) {
            Ok(next) => Ok(std::mem::replace(&mut self.next, next)),
            Err(error) => {
                self.next.disconnect()?;
                Err(error)
            }
        }
    }
}

/// Connects to the daemon of this cache.
pub(crate) async fn connect(cache_dir: &Path) -> io::Result<NamedPipeClient> {
    let name = pipe_of(cache_dir)?;
    let deadline = Instant::now() + BUSY_MAX;
    let pipe = loop {
        match ClientOptions::new().open(&name) {
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                tokio::time::sleep(BUSY_EVERY).await;
            }
            opened => break opened?,
        }
    };
    let owner = Note::read(cache_dir).map(|note| note.pid);
    if owner != Some(server_process(&pipe)?) {
        return Err(io::Error::other("another program has its control pipe"));
    }
    Ok(pipe)
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32)
}

/// The pipe's access list lets nobody else open it.
pub(crate) fn check_caller(_: &Stream) -> Result<()> {
    Ok(())
}

/// A pipe ends with its process.
pub(crate) fn clear(_: &Path) {}

/// The pipe of a cache.
fn pipe_of(cache_dir: &Path) -> io::Result<String> {
    /// What `cache.json` says of it.
    #[derive(Deserialize)]
    struct Cache {
        cache_id: String,
    }
    let text = std::fs::read(cache_dir.join("cache.json"))?;
    let cache: Cache = serde_json::from_slice(&text)?;
    Ok(format!(r"\\.\pipe\covefs-{}", cache.cache_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{self, Drive};
    use crate::control::{self, Request, Server};
    use covefs_cache::{Config, MinFree, Vfs};
    use covefs_remote::memory::MemoryRemote;
    use std::path::PathBuf;
    use std::process::{Command, Output};
    use std::sync::Arc;
    use tokio::sync::Notify;

    const SECOND: Duration = Duration::from_secs(1);

    fn config(cache_dir: &Path) -> Config {
        Config {
            cache_dir: cache_dir.into(),
            share: "memory".into(),
            mountpoint: "X:".into(),
            limit_bytes: 1 << 30,
            min_free: MinFree::Percent(1.0),
            max_age: None,
            freshness: SECOND,
            watch: false,
            site: "site".into(),
            read_only: false,
            sync_share: false,
            timeout: 30 * SECOND,
            debounce: SECOND,
            uid: 0,
            gid: 0,
            file_mode: 0o644,
            dir_mode: 0o755,
        }
    }

    /// The command, as another process that keeps its state below `home`.
    fn covefs(home: &Path, words: &[&str]) -> Output {
        let here = std::env::current_exe().unwrap();
        let program = here.ancestors().nth(2).unwrap().join("covefs.exe");
        assert!(program.exists(), "built with --test windows");
        Command::new(program).args(words).env("LOCALAPPDATA", home).output().unwrap()
    }

    async fn serve(cache_dir: &Path, end: &Arc<Notify>) -> (Arc<Vfs>, tokio::task::JoinHandle<()>) {
        let share = Arc::new(MemoryRemote::new());
        let vfs = Vfs::start(config(cache_dir), share).await.unwrap();
        let note = Note {
            share: "memory".into(),
            mountpoint: "X:".into(),
            pid: std::process::id(),
            log: "covefs.log".into(),
            limit_bytes: 1 << 30,
            running: true,
        };
        note.write(cache_dir).unwrap();
        let server = Server {
            vfs: vfs.clone(),
            cache_dir: cache_dir.into(),
            log: "covefs.log".into(),
            smb: None,
            end: end.clone(),
        };
        let serving = control::serve(listen(cache_dir).unwrap(), Arc::new(server));
        (vfs, tokio::spawn(serving))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_drive_is_found_and_asked_by_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let cache_dir: PathBuf = dir.path().join("covefs").join("memory-1");
        std::fs::create_dir_all(&cache_dir).unwrap();
        let end = Arc::new(Notify::new());
        let (vfs, serving) = serve(&cache_dir, &end).await;

        let output = covefs(dir.path(), &["status", "x:\\", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(status["pid"], std::process::id());
        assert_eq!((&status["mountpoint"], &status["mounted"]), (&"X:".into(), &true.into()));
        let output = covefs(dir.path(), &["status"]);
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("X:  memory  online"));
        for words in
            [&["sync", "X:", "--wait"][..], &["conflicts", "X:"], &["resize", "X:", "128M"]]
        {
            let output = covefs(dir.path(), words);
            assert!(output.status.success(), "{words:?}: {output:?}");
        }
        assert_eq!(Note::read(&cache_dir).unwrap().limit_bytes, 128 << 20);
        // Many at once: each finds an instance of the pipe.
        let home = dir.path().to_path_buf();
        let asked = (0..8).map(|_| {
            let home = home.clone();
            tokio::task::spawn_blocking(move || covefs(&home, &["sync", "X:"]).status.success())
        });
        for asked in asked.collect::<Vec<_>>() {
            assert!(asked.await.unwrap());
        }

        let drive = Drive { mountpoint: "X:".into(), cache_dir: cache_dir.clone() };
        let ask = move || client::ask(&drive, &Request::Unmount, &mut |_| {}).map(drop);
        tokio::task::spawn_blocking(ask).await.unwrap().unwrap();
        tokio::time::timeout(30 * SECOND, end.notified()).await.unwrap();

        // Another process in the daemon's place is not believed.
        let note = Note::read(&cache_dir).unwrap();
        Note { pid: note.pid + 4, ..note }.write(&cache_dir).unwrap();
        let error = connect(&cache_dir).await.unwrap_err();
        assert!(error.to_string().contains("another program"), "{error}");

        serving.abort();
        let _ = serving.await;
        vfs.shutdown().await;
    }
}
