//! The life of a mount: started by `covefs mount`, ended by a signal or by an unmount from
//! outside.
//!
//! ```text
//!   decide -> open the cache -> log -> control socket -> mount -> ready -> ... -> unmount -> shut down
//! ```
//!
//! A failure before `ready` is told to whoever started the mount, and leaves nothing mounted.
//! Killed at any point, the cache is as the journal says: the next mount goes on from there.

use crate::cli::MountArgs;
use crate::control::{self, Server};
use crate::fail;
use crate::log::{self, Log};
use crate::mounts;
use crate::plan::{self, Plan, Request};
use crate::registry::{self, Note};
use crate::relay::{self, Relay};
use crate::remote;
use crate::secret;
use crate::size::format_size;
use crate::system::user::User;
use crate::system::{channel, daemon, terminal, unmount};
use anyhow::{Context, Result};
use covefs_cache::Vfs;
use covefs_mount::Mounted;
use covefs_remote::smb::SmbRemote;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// After a lazy unmount programs may keep files open for ever; they are not waited for longer.
const LINGER: Duration = Duration::from_secs(5);
/// Threads stuck in a share that hangs cannot be ended, only left behind.
const RUNTIME_LINGER: Duration = Duration::from_secs(2);

/// `covefs mount`. Returns the exit code.
pub(crate) fn mount(args: &MountArgs, arguments: &[OsString]) -> Result<u8> {
    let user = User::current();
    let mut request = plan::read(args, &user)?;
    if request.foreground {
        daemon::keep_memory_together(arguments);
    }
    if args.password_piped {
        request.typed = Some(terminal::read_line()?);
    } else if let Some(wanted) = request.missing()?.filter(|_| !args.relay) {
        // The command asks, in the session of whoever called it, and hands it to the daemon.
        request.typed = secret::find(&wanted, &mut |note| eprintln!("covefs: {note}"))?;
    }
    if !request.foreground {
        return relay::start_daemon(arguments, args.by_mount8, request.typed);
    }
    let relay = if args.relay {
        daemon::leave_terminal()?;
        Relay::Pipe
    } else {
        Relay::Terminal
    };
    match serve(request, args, &user, &relay, Arc::new(Notify::new())) {
        Ok(()) => Ok(0),
        Err(error) => {
            relay.failed(&error);
            Ok(fail::exit_code(&error))
        }
    }
}

/// Mounts, and returns when the drive has ended: `end` is one way to ask for that.
pub(crate) fn serve(
    request: Request,
    args: &MountArgs,
    user: &User,
    relay: &Relay,
    end: Arc<Notify>,
) -> Result<()> {
    let log = Log::new();
    daemon::allow_open_files();
    log::start(&log, matches!(relay, Relay::Terminal))?;
    let mut note = |text: String| {
        tracing::info!("{text}");
        relay.note(&text);
    };
    let mut plan = plan::decide(request, &args.mountpoint, user, &mut note)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("covefs")
        .build()
        .context("start the threads")?;
    let outcome = runtime.block_on(async {
        let drive = match start(&mut plan, &mut note).await {
            Ok(drive) => drive,
            Err(error) => {
                if plan.made_cache_dir {
                    // Only as long as nothing is in it.
                    let _ = std::fs::remove_dir(&plan.config.cache_dir);
                }
                return Err(error);
            }
        };
        let outcome = live(&plan, &drive, &log, relay, end).await;
        if let Err(error) = &outcome {
            tracing::error!("{error:#}");
        }
        drive.vfs.shutdown().await;
        outcome
    });
    leave(&plan, outcome.is_ok());
    runtime.shutdown_timeout(RUNTIME_LINGER);
    outcome
}

/// An open cache over its share.
struct Drive {
    vfs: Arc<Vfs>,
    /// The share, where it is one of an SMB server.
    smb: Option<Arc<SmbRemote>>,
}

async fn start(plan: &mut Plan, note: &mut dyn FnMut(String)) -> Result<Drive> {
    let (account, login) = (plan.account.clone(), plan.login.clone());
    let opened = remote::open(&plan.share, account, login, &plan.config, note).await?;
    if opened.share.limits().read_only && !plan.config.read_only {
        note(format!("{} is read-only, and so is the drive", plan.config.share));
        plan.config.read_only = true;
        plan.mount.read_only = true;
    }
    Ok(Drive { vfs: Vfs::start(plan.config.clone(), opened.share).await?, smb: opened.smb })
}

/// From the open cache to the unmount.
async fn live(
    plan: &Plan,
    drive: &Drive,
    log: &Log,
    relay: &Relay,
    end: Arc<Notify>,
) -> Result<()> {
    let vfs = &drive.vfs;
    let config = &plan.config;
    log.open(&plan.log)?;
    registry::remember(&plan.base, &config.cache_dir)?;
    note_of(plan).write(&config.cache_dir)?;
    let mut ends = daemon::Ends::new()?;
    let server = Arc::new(Server {
        vfs: vfs.clone(),
        cache_dir: config.cache_dir.clone(),
        log: plan.log.clone(),
        smb: drive.smb.clone(),
        end: end.clone(),
    });
    let control = tokio::spawn(control::serve(channel::listen(&config.cache_dir)?, server));
    let mounted = {
        let vfs = vfs.clone();
        let options = plan.mount.clone();
        let handle = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || covefs_mount::mount(vfs, handle, &options)).await??
    };
    let unmounter = mounted.unmounter();
    let mut ended = wait_for_end(mounted)?;
    tracing::info!(
        share = config.share,
        mountpoint = %config.mountpoint.display(),
        cache = %config.cache_dir.display(),
        limit_bytes = config.limit_bytes,
        version = env!("CARGO_PKG_VERSION"),
        "{}",
        registry::MOUNTED
    );
    if !vfs.status().online {
        relay.note(&format!(
            "{} cannot be reached; mounted with what the cache has, the rest follows when it can",
            config.share
        ));
    }
    let ready = relay.ready(&format!(
        "{} is mounted at {} (cache up to {} in {})",
        config.share,
        config.mountpoint.display(),
        format_size(config.limit_bytes),
        config.cache_dir.display()
    ));
    let signal = match &ready {
        Err(_) => Some("the start was given up"),
        Ok(()) => tokio::select! {
            reason = ends.next() => Some(reason),
            () = end.notified() => Some("covefs unmount"),
            _ = &mut ended => None,
        },
    };
    if let Some(reason) = signal {
        tracing::info!(reason, "unmounting");
        end_mount(move || unmount::end(&unmounter)).await;
        // The session ends when the last open file is closed.
        let _ = tokio::time::timeout(LINGER, ended).await;
    }
    control.abort();
    let _ = control.await;
    ready
}

/// Runs what may wait for the kernel.
async fn end_mount(end: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
    match tokio::task::spawn_blocking(end).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "unmount"),
        Err(error) => tracing::error!(%error, "unmount"),
    }
}

/// A thread waits for the kernel's side: it ends when somebody unmounts.
fn wait_for_end(mounted: Mounted) -> Result<oneshot::Receiver<()>> {
    let (sender, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("covefs-session".into())
        .spawn(move || {
            if let Err(error) = mounted.wait() {
                tracing::error!(%error, "the kernel's side ended");
            }
            // The receiver may have given up waiting.
            let _ = sender.send(());
        })
        .context("start a thread")?;
    Ok(ended)
}

fn note_of(plan: &Plan) -> Note {
    Note {
        share: plan.config.share.clone(),
        mountpoint: plan.config.mountpoint.to_string_lossy().into_owned(),
        pid: std::process::id(),
        log: plan.log.clone(),
        limit_bytes: plan.config.limit_bytes,
        running: true,
    }
}

/// The last traces of a mount that ended in good order. Touches nothing of a cache that another
/// process has: such a mount never got this far.
fn leave(plan: &Plan, in_order: bool) {
    let dir = &plan.config.cache_dir;
    match Note::read(dir) {
        Some(note) if note.pid == std::process::id() => {
            channel::clear(dir);
            if let Err(error) = (Note { running: !in_order, ..note }).write(dir) {
                tracing::warn!(%error, "note the end");
            }
        }
        _ => {}
    }
    if in_order {
        tracing::info!("ended");
    }
    let still = mounts::at(&plan.config.mountpoint).ok().flatten();
    if still.is_some_and(|mount| mount.is_covefs()) {
        tracing::warn!("the drive is still in the mount table");
    }
}
