//! One mount, from mount(2) to its end.
//!
//! ```text
//!   mount -> Session (handshake) -> threads fuser-0 ... -> unmounted from outside, or by Unmounter
//!                                                            +> destroy -> wait returns
//! ```
//!
//! fuser's own unmounting is never used: it is lazy, and (0.18) it takes a mount that has ended
//! for a live one, so that it would end whatever was mounted at the same place since.

use crate::answer::{Answerer, Counts};
use crate::detach::{self, Detach};
use crate::error::{MountError, check, from_fuser};
use crate::fuse::{End, Fuse};
use crate::limits::{DRAIN_MAX, THREADS_MAX};
use crate::mounts::Device;
use crate::notify::Notices;
use crate::options::MountOptions;
use covefs_cache::Vfs;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use std::io;
use std::os::fd::{AsFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use tokio::runtime::Handle;

/// Mounts `vfs`. The drive answers when this returns. Tasks run on `runtime`, which must outlive
/// the mount.
pub fn mount(
    vfs: Arc<Vfs>,
    runtime: Handle,
    options: &MountOptions,
) -> Result<Mounted, MountError> {
    let is_root = rustix::process::geteuid().is_root();
    let mountpoint = check(options)?;
    occupy_standard_fds().map_err(MountError::Other)?;
    let answerer = Answerer::new(vfs.clone(), runtime.clone());
    let (sender, ended) = channel();
    let flag = Arc::new(AtomicBool::new(false));
    let end = End { flag: flag.clone(), sender };
    let fuse = Fuse::new(answerer.clone(), vfs.clone(), options.passthrough, end);
    let session = Session::new(fuse, &mountpoint, &config(options, is_root))
        .map_err(|error| from_fuser(error, &mountpoint))?;
    let device = detach::mounted(&mountpoint).and_then(|found| found.device);
    let unmounter = Unmounter { mountpoint, device, ended: flag };
    let background = session.spawn().map_err(MountError::Other)?;
    let notifier = background.notifier();
    let mut mounted =
        Mounted { background: Some(background), notices: None, ended, answerer, unmounter };
    if let Some(notices) = vfs.take_notices() {
        let started = Notices::start(notices, notifier, runtime).map_err(MountError::Other)?;
        mounted.notices = Some(started);
    }
    tracing::info!(mountpoint = %mounted.mountpoint().display(), ?device, "mounted");
    Ok(mounted)
}

/// A mounted share. Dropped, it is unmounted.
pub struct Mounted {
    /// `None` once it has ended.
    background: Option<BackgroundSession>,
    notices: Option<Notices>,
    ended: Receiver<()>,
    answerer: Answerer<Vfs>,
    unmounter: Unmounter,
}

/// Unmounts from any thread, any number of times.
#[derive(Clone, Debug)]
pub struct Unmounter {
    mountpoint: PathBuf,
    device: Option<Device>,
    ended: Arc<AtomicBool>,
}

impl Mounted {
    /// Where, without symlinks.
    pub fn mountpoint(&self) -> &Path {
        &self.unmounter.mountpoint
    }

    /// `st_dev` of what is in it, where the system says so.
    pub fn device(&self) -> Option<Device> {
        self.unmounter.device
    }

    /// What was answered so far.
    pub fn counts(&self) -> Counts {
        self.answerer.counts()
    }

    /// Ends the mount from elsewhere, so that `wait` returns.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Waits until it is unmounted: by `umount`, `fusermount3 -u` or an `Unmounter`, after a lazy
    /// one when its last user has gone. Then until no request is being answered any more, so that
    /// what follows has the filesystem for itself.
    pub fn wait(mut self) -> io::Result<()> {
        // Either way it has ended: told, or dropped without.
        let _ = self.ended.recv();
        self.finish()
    }

    /// `wait` for at most so long; says whether it has ended. Then call `wait` for how.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        !matches!(self.ended.recv_timeout(timeout), Err(RecvTimeoutError::Timeout))
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(mut background) = self.background.take() else { return Ok(()) };
        let idle = std::thread::Builder::new().spawn(|| Ok(()))?;
        let guard = std::mem::replace(&mut background.guard, idle);
        let result = guard.join();
        // Its end would unmount whatever is at the mountpoint now (see above). What leaks is one
        // descriptor of a connection that has ended.
        std::mem::forget(background);
        let result =
            result.unwrap_or_else(|_| Err(io::Error::other("the session's thread panicked")));
        if result.is_err() {
            // It ended by itself and is still in the mount table, dead.
            self.unmounter.unmount_ours(Detach::Lazy)?;
        }
        if let Some(notices) = self.notices.take() {
            notices.stop();
        }
        if !self.answerer.drain(DRAIN_MAX) {
            tracing::error!(counts = ?self.counts(), "requests still run after the unmount");
        }
        tracing::info!(mountpoint = %self.mountpoint().display(), "unmounted");
        result
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.background.is_none() {
            return;
        }
        let unmounted = self.unmounter.unmount(Detach::Lazy);
        let ended = unmounted.is_ok() && self.wait_timeout(DRAIN_MAX);
        let result = if ended { self.finish() } else { unmounted };
        if !ended || result.is_err() {
            let mountpoint = self.mountpoint().display();
            tracing::error!(%mountpoint, ?result, "mount did not end when it was dropped");
        }
    }
}

impl Unmounter {
    /// Unmounts; `Ok` also if it was unmounted before, `ResourceBusy` if somebody uses it.
    pub fn unmount(&self, how: Detach) -> io::Result<()> {
        // The next mount of this place may well have got our device's number.
        if self.ended.load(Ordering::Acquire) {
            return Ok(());
        }
        self.unmount_ours(how)
    }

    fn unmount_ours(&self, how: Detach) -> io::Result<()> {
        let is_ours = detach::mounted(&self.mountpoint).is_some_and(|m| m.device == self.device);
        if cfg!(target_os = "linux") && !is_ours {
            return Ok(());
        }
        detach::unmount(&self.mountpoint, how)
    }
}

/// What fuser and the kernel are told.
fn config(options: &MountOptions, is_root: bool) -> Config {
    // mount(2) takes the name as it is, fusermount3 a list with commas.
    let escaped = options.source.replace('\\', "\\\\").replace(',', "\\,");
    let source = if is_root { options.source.clone() } else { escaped };
    let extra = |name: &str| options.extra.iter().any(|option| option == name);
    let read_only = options.read_only || extra("ro");
    // A set-user-id program on a share that others can write to is theirs.
    let suid = is_root && extra("suid");
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(source),
        // As `Subtype` it would not reach the kernel.
        MountOption::CUSTOM("subtype=covefs".into()),
        MountOption::DefaultPermissions,
        MountOption::NoDev,
        if suid { MountOption::Suid } else { MountOption::NoSuid },
        if read_only { MountOption::RO } else { MountOption::RW },
    ];
    let flags = [
        ("noexec", MountOption::NoExec),
        ("noatime", MountOption::NoAtime),
        ("dirsync", MountOption::DirSync),
        ("sync", MountOption::Sync),
    ];
    let wanted = flags.into_iter().filter(|(name, _)| extra(name)).map(|(_, option)| option);
    config.mount_options.extend(wanted);
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let is_linux = cfg!(target_os = "linux");
    let threads = if is_linux { options.threads.clamp(1, THREADS_MAX) } else { 1 };
    config.n_threads = Some(threads);
    config.clone_fd = is_linux;
    config
}

/// Opens `/dev/null` on whichever of the descriptors 0-2 are closed: fuser panics when `/dev/fuse`
/// lands there, and a stray print would be a reply to the kernel (K5).
fn occupy_standard_fds() -> io::Result<()> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        if rustix::io::fcntl_getfd(fd) == Err(rustix::io::Errno::BADF) {
            // It gets the lowest free number: this one, as those below it are open.
            let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
            rustix::io::fcntl_setfd(&null, rustix::io::FdFlags::empty())?;
            let _stays_open = null.into_raw_fd();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options_for(extra: &[&str], is_root: bool) -> Vec<MountOption> {
        let mut options = MountOptions::new("/m", "a,b");
        options.extra = extra.iter().map(|option| option.to_string()).collect();
        config(&options, is_root).mount_options
    }

    // rule K5
    #[test]
    fn what_is_always_said() {
        let said = options_for(&[], true);
        assert!(said.contains(&MountOption::DefaultPermissions));
        assert!(said.contains(&MountOption::CUSTOM("subtype=covefs".into())));
        assert!(said.contains(&MountOption::NoDev) && said.contains(&MountOption::NoSuid));
        assert!(said.contains(&MountOption::RW));
        assert!(!said.iter().any(|option| matches!(option, MountOption::Subtype(_))));
    }

    #[test]
    fn suid_is_roots_to_give() {
        assert!(options_for(&["suid"], true).contains(&MountOption::Suid));
        assert!(options_for(&["suid"], false).contains(&MountOption::NoSuid));
    }

    #[test]
    fn flags_reach_the_kernel() {
        let said = options_for(&["ro", "noexec", "noatime"], true);
        for flag in [MountOption::RO, MountOption::NoExec, MountOption::NoAtime] {
            assert!(said.contains(&flag), "{flag:?}");
        }
        assert!(!said.contains(&MountOption::RW));
    }

    #[test]
    fn commas_in_the_name_are_escaped_for_the_helper_only() {
        assert!(options_for(&[], true).contains(&MountOption::FSName("a,b".into())));
        assert!(options_for(&[], false).contains(&MountOption::FSName("a\\,b".into())));
    }

    #[test]
    fn threads_are_bounded() {
        let mut options = MountOptions::new("/m", "s");
        for (asked, given) in [(0, 1), (4, 4), (10_000, THREADS_MAX)] {
            options.threads = asked;
            let expected = if cfg!(target_os = "linux") { given } else { 1 };
            assert_eq!(config(&options, true).n_threads, Some(expected));
        }
    }
}
