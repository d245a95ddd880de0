//! A running server: its sockets, its threads, its addresses.

use crate::config::Config;
use crate::owner::Owner;
use crate::serve;
use crate::server::Server;
use crate::tls::Tls;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle as RuntimeHandle, Runtime};

/// How long a server that is dropped waits for its connections.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// How often what changed is written to the disk, if there is one.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// A server on the loopback, with a thread pool of its own. It stops when it is dropped. What its
/// owner may do besides is in [`Owner`].
pub struct Emulator {
    owner: Owner,
    runtime: Option<Runtime>,
    address: SocketAddr,
    plain: SocketAddr,
    authority_pem: Option<String>,
}

impl Emulator {
    /// Starts a server. With TLS there is a plain port besides, for the machine identity.
    pub fn start(config: Config) -> io::Result<Emulator> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("azure-files-emulator")
            .enable_all()
            .build()?;
        let tls = if config.tls { Some(Tls::new()?) } else { None };
        let listen = config.listen;
        let server = Arc::new(Server::new(config)?);
        // Bound here, so that requests can be sent as soon as this returns.
        let bind = |address| -> io::Result<(TcpListener, SocketAddr)> {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let _entered = runtime.enter();
            Ok((TcpListener::from_std(listener)?, address))
        };
        let (listener, address) = bind(listen)?;
        let (acceptor, authority_pem) = match tls {
            Some(tls) => (Some(tls.acceptor), Some(tls.authority_pem)),
            None => (None, None),
        };
        let mut plain = address;
        if acceptor.is_some() {
            let (listener, address) = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            plain = address;
            runtime.spawn(serve::accept(listener, None, Arc::clone(&server)));
        }
        runtime.spawn(serve::accept(listener, acceptor, Arc::clone(&server)));
        if server.is_kept() {
            runtime.spawn(save_now_and_then(Arc::clone(&server)));
        }
        let (owner, runtime) = (Owner::of(server), Some(runtime));
        Ok(Emulator { owner, runtime, address, plain, authority_pem })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn scheme(&self) -> &'static str {
        if self.authority_pem.is_some() { "https" } else { "http" }
    }

    /// The account's address, path style, without a slash at the end.
    pub fn endpoint(&self) -> String {
        format!("{}/{}", self.origin(), self.account())
    }

    /// The same server without TLS. Bearer tokens are refused there.
    pub fn plain_endpoint(&self) -> String {
        format!("http://{}/{}", self.plain, self.account())
    }

    fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.address)
    }

    /// What `AZURE_AUTHORITY_HOST` is to be.
    pub fn authority_host(&self) -> String {
        self.origin()
    }

    /// What `AZURE_POD_IDENTITY_AUTHORITY_HOST` is to be: where the machine identity's endpoint
    /// is; plain HTTP, as on a real machine.
    pub fn imds_host(&self) -> String {
        format!("http://{}", self.plain)
    }

    /// What `AZURE_STORAGE_CONNECTION_STRING` is to be.
    pub fn connection_string(&self) -> String {
        format!(
            "DefaultEndpointsProtocol={};AccountName={};AccountKey={};FileEndpoint={};",
            self.scheme(),
            self.account(),
            self.key(),
            self.endpoint()
        )
    }

    /// The certificate that clients must trust, PEM; None without TLS.
    pub fn authority_pem(&self) -> Option<&str> {
        self.authority_pem.as_deref()
    }

    /// Serves until the process is told to stop; what changed is on the disk then.
    pub fn run_until_signal(&self) -> io::Result<()> {
        let runtime = self.runtime.as_ref().expect("a server that was not dropped runs");
        runtime.block_on(told_to_stop())?;
        self.save()
    }
}

impl Deref for Emulator {
    type Target = Owner;

    fn deref(&self) -> &Owner {
        &self.owner
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // Waiting is not possible where others are polled on this thread.
        match RuntimeHandle::try_current() {
            Ok(_) => runtime.shutdown_background(),
            Err(_) => runtime.shutdown_timeout(STOP_WAIT),
        }
        if let Err(error) = self.save() {
            eprintln!("azure-files-emulator: the account was not saved: {error}");
        }
    }
}

/// Saves a while after something changed, so that little is lost if the server is killed.
async fn save_now_and_then(server: Arc<Server>) {
    let mut saved = server.changes();
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        let changes = server.changes();
        if changes == saved {
            continue;
        }
        let saving = Arc::clone(&server);
        match tokio::task::spawn_blocking(move || saving.save()).await {
            Ok(Ok(())) => saved = changes,
            // It is tried again, and said each time: somebody counts on it.
            Ok(Err(error)) => eprintln!("azure-files-emulator: the account was not saved: {error}"),
            Err(_) => return,
        }
    }
}

#[cfg(unix)]
async fn told_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn told_to_stop() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
