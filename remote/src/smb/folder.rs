//! A directory of Windows as a share: on a disk of this machine, or on one that Windows reaches.
//!
//! What SMB carries to a server are the calls that Windows has for files. So a directory is asked as a
//! server is, but for the way: each request is a call (`calls`), made below the root by handles. What keeps a
//! replacement safe there keeps it so here (`place`, X4): share modes, and names that are taken only
//! where they are free. Sites that reach the same directory by SMB find what a killed one left, and
//! the other way round.
//!
//! - The root is held open, shared with all but those who want to move or remove it: it stays what it
//!   is while it is mounted. When its disk is taken away, it is opened anew, and has to be the same (X1).
//! - No link below the root is followed: what it leads to is another tree.
//! - Calls run on tokio's blocking pool, a bounded number at a time (K3). A chain runs to its end,
//!   whoever goes away meanwhile.
//! - Names are durable as soon as they are changed (`WRITE_THROUGH`).

mod calls;

use super::fail::{Fail, Outcome};
use super::session::{Dial, Link, Scope, Session};
use super::wire::{Answer, Carrier, Op};
use super::{Defaults, PAGE_ENTRIES, SmbRemote, write};
use crate::{ErrorKind, RemotePath, Result, ShareIdentity};
use async_trait::async_trait;
use calls::Tree;
use smb2::types::status::NtStatus;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Chains of calls at a time: enough to keep a disk busy, few enough to hang.
const THREADS_MAX: usize = 32;

/// The longest wait for one of them: a third of what a foreground request has.
const THREAD_WAIT: Duration = Duration::from_secs(10);

/// The whole of a share's directory, as a server has it.
pub type LocalRemote = SmbRemote;

/// What says that the disk or the server behind the root is away, and the root's handle with it.
const AWAY: [NtStatus; 11] = [
    NtStatus::BAD_NETWORK_PATH,
    NtStatus::BAD_NETWORK_NAME,
    NtStatus::FILE_CLOSED,
    // No media; file invalid; device does not exist; unexpected network error.
    NtStatus(0xC000_0013),
    NtStatus(0xC000_0098),
    NtStatus(0xC000_00C0),
    NtStatus(0xC000_00C4),
    // Network and host unreachable; volume dismounted; device removed.
    NtStatus(0xC000_023C),
    NtStatus(0xC000_023D),
    NtStatus(0xC000_026E),
    NtStatus(0xC000_02B6),
];

impl SmbRemote {
    /// Opens an existing directory. Blocks on the disk.
    pub fn open(root: PathBuf) -> Result<LocalRemote> {
        match Tree::open(&root).map_err(no_root) {
            Ok(_) => Ok(LocalRemote::late(root, None, false)),
            Err(fail) => Err(fail.into_error("open", &RemotePath::root())),
        }
    }

    /// A directory that is opened when it is first asked for; where it is known, it has to be the one of
    /// this identity (X1). `read_only`: nothing is to be changed there, not even for good order.
    pub fn late(root: PathBuf, known: Option<ShareIdentity>, read_only: bool) -> LocalRemote {
        let threads = Arc::new(Semaphore::new(THREADS_MAX));
        let folder = Box::new(Folder { root, threads });
        SmbRemote::of(Session::new(Self::scope(known, read_only), folder), PAGE_ENTRIES, 1)
    }

    fn scope(known: Option<ShareIdentity>, read_only: bool) -> Scope {
        let (dir, defaults) = (RemotePath::root(), Defaults::default());
        Scope { dir, defaults, known, read_only, is_past: false, copied_bytes: None }
    }
}

/// Where the directory is.
struct Folder {
    root: PathBuf,
    threads: Arc<Semaphore>,
}

/// The directory, open.
struct Disk {
    tree: Arc<Tree>,
    threads: Arc<Semaphore>,
    is_broken: AtomicBool,
}

/// A thread of those that may be at the disk, for as long as this is held.
async fn thread(threads: &Arc<Semaphore>) -> Outcome<OwnedSemaphorePermit> {
    let hangs = || Fail::saying(ErrorKind::Timeout, "the disk hangs");
    let taken = tokio::time::timeout(THREAD_WAIT, threads.clone().acquire_owned()).await;
    taken.map_err(|_| hangs())?.map_err(|_| hangs())
}

/// Runs `call` on such a thread. It is the thread that is bounded, not who waits for it.
async fn block<T: Send + 'static>(
    threads: &Arc<Semaphore>,
    call: impl FnOnce() -> T + Send + 'static,
) -> Outcome<T> {
    let permit = thread(threads).await?;
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        call()
    });
    done.await.map_err(|error| Fail::saying(ErrorKind::Io, error.to_string()))
}

/// Why there is no root; that tells nothing of what is on the share.
fn no_root(error: io::Error) -> Fail {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::NotADirectory => ErrorKind::IdentityChanged,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Unreachable,
    };
    Fail::saying(kind, error.to_string()).about(&RemotePath::root())
}

#[async_trait]
impl Dial for Folder {
    async fn dial(&self) -> Outcome<Link> {
        let root = self.root.clone();
        let opened = block(&self.threads, move || Tree::open(&root)).await?;
        let tree = Arc::new(opened.map_err(no_root)?);
        let is_read_only = tree.is_read_only;
        let (threads, is_broken) = (self.threads.clone(), AtomicBool::new(false));
        Ok(Link {
            carrier: Box::new(Disk { tree, threads, is_broken }),
            scheme: "dir",
            snapshot: None,
            spoken: None,
            is_read_only,
            read_bytes_max: write::PART_BYTES as u32,
            write_bytes_max: write::PART_BYTES as u32,
            clock_ahead: 0,
        })
    }
}

#[async_trait]
impl Carrier for Disk {
    async fn carry(&self, ops: Vec<Op>) -> Outcome<Vec<Outcome<Answer>>> {
        if let [Op::Notify { file, filter, bytes }] = ops[..] {
            // At once, before anything that is asked for after it.
            let told = match self.tree.watch(file, filter, bytes) {
                Ok(watching) => watching.next().await,
                Err(error) => Err(error),
            };
            return Ok(vec![told.map(Answer::Bytes).map_err(untold)]);
        }
        let tree = self.tree.clone();
        let came = block(&self.threads, move || tree.run(ops)).await?;
        Ok(came.into_iter().map(|answer| answer.map_err(meant)).collect())
    }

    fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    fn give_up(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }
}

fn meant(status: NtStatus) -> Fail {
    let fail = Fail::said(status, format!("Windows says {status}"));
    if AWAY.contains(&status) { fail.of_kind(ErrorKind::Unreachable) } else { fail }
}

/// A file system that tells of nothing says so.
fn untold(error: io::Error) -> Fail {
    let kind = match error.kind() {
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    };
    Fail::saying(kind, error.to_string())
}

#[cfg(test)]
mod tests;
