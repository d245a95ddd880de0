//! The control socket in the cache directory, for the owner of the drive and root.

use anyhow::{Context, Result};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// The socket's name in the cache directory.
const SOCKET: &str = "control";

/// What somebody else can do.
pub(crate) const BE_THE_OWNER: &str = "try sudo";

/// A connection.
pub(crate) type Stream = UnixStream;

/// Waits for clients.
pub(crate) struct Listener(UnixListener);

impl Listener {
    /// The next one.
    pub(crate) async fn accept(&mut self) -> io::Result<Stream> {
        Ok(self.0.accept().await?.0)
    }
}

/// Opens the socket, usable by its owner only. The caller holds the cache's lock, so a socket
/// that is there already is a dead daemon's.
pub(crate) fn listen(cache_dir: &Path) -> Result<Listener> {
    let path = cache_dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove the old {}", path.display()));
        }
        _ => {}
    }
    let short = ShortPath::new(cache_dir)?;
    let listener = UnixListener::bind(&short.socket)
        .with_context(|| format!("open the control socket {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("protect the control socket {}", path.display()))?;
    Ok(Listener(listener))
}

/// Connects to the daemon of this cache.
pub(crate) async fn connect(cache_dir: &Path) -> io::Result<Stream> {
    let short = ShortPath::new(cache_dir).map_err(io::Error::other)?;
    UnixStream::connect(&short.socket).await
}

/// Refuses other users, who may have been given the socket's directory.
pub(crate) fn check_caller(stream: &Stream) -> Result<()> {
    let caller = stream.peer_cred()?.uid();
    let me = rustix::process::geteuid().as_raw();
    if caller != me && caller != 0 {
        anyhow::bail!("user {caller} may not ask");
    }
    Ok(())
}

/// Takes away what a daemon that ends in good order leaves.
pub(crate) fn clear(cache_dir: &Path) {
    // An old socket is replaced by the next mount.
    let _ = std::fs::remove_file(cache_dir.join(SOCKET));
}

/// A socket's path may have 107 bytes only; a longer one goes by way of an open directory.
struct ShortPath {
    /// What to bind or connect to.
    socket: PathBuf,
    _dir: Option<std::fs::File>,
}

impl ShortPath {
    /// Of the socket in this cache directory.
    fn new(cache_dir: &Path) -> Result<ShortPath> {
        let plain = cache_dir.join(SOCKET);
        if plain.as_os_str().as_bytes().len() <= 100 {
            return Ok(ShortPath { socket: plain, _dir: None });
        }
        use std::os::fd::AsRawFd;
        let dir = std::fs::File::open(cache_dir)
            .with_context(|| format!("open the cache directory {}", cache_dir.display()))?;
        let socket = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()).into();
        Ok(ShortPath { socket, _dir: Some(dir) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_its_owner_s_even_at_a_long_path() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        for dir in [dir.path(), &long] {
            let listener = listen(dir).unwrap();
            let mode = std::fs::metadata(dir.join(SOCKET)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            drop(listener);
            // A dead daemon's socket is replaced.
            let _listener = listen(dir).unwrap();
            connect(dir).await.unwrap();
        }
    }
}
