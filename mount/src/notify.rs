//! Tells the kernel what to forget, from a thread of its own.
//!
//! Never from a request's thread: the kernel may hold the lock that the notice needs until that
//! request is answered (K2). Nobody waits for a notice; the bound on how long an old fact is
//! believed is the kernel's timeout. A notice that fails is therefore no error.

use covefs_cache::Notice;
use fuser::{INodeNo, Notifier};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::thread::JoinHandle;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// The thread that tells. It ends with the session.
pub(crate) struct Notices {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Notices {
    /// Starts the thread; it ends at `stop`, when the filesystem sends no more, or when the kernel
    /// has gone.
    pub(crate) fn start(
        mut notices: mpsc::Receiver<Notice>,
        notifier: Notifier,
        runtime: Handle,
    ) -> io::Result<Notices> {
        let (stop, mut stopped) = oneshot::channel();
        let tell_all = move || {
            let mut next = || {
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        _ = &mut stopped => None,
                        notice = notices.recv() => notice,
                    }
                })
            };
            while let Some(notice) = next() {
                if let Err(error) = tell(&notifier, &notice) {
                    tracing::debug!(?notice, %error, "notice not taken");
                    if has_gone(&error) {
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("covefs-notify".into()).spawn(tell_all)?;
        Ok(Notices { stop, thread })
    }

    /// Ends the thread. Call it when the session has ended: only then no notice is stuck behind
    /// a request.
    pub(crate) fn stop(self) {
        // It may have ended by itself.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the thread that notifies the kernel panicked");
        }
    }
}

/// fuser swallows ENOENT: the kernel does not know the node or the name any more.
fn tell(notifier: &Notifier, notice: &Notice) -> io::Result<()> {
    match notice {
        Notice::Entry { parent, name } => {
            notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
        }
        // From 0 to the end.
        Notice::Inode(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
        // A negative offset: no pages.
        Notice::Attributes(ino) => notifier.inval_inode(INodeNo(ino.0), -1, 0),
    }
}

fn has_gone(error: &io::Error) -> bool {
    let gone = [rustix::io::Errno::NODEV, rustix::io::Errno::NOTCONN];
    gone.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
