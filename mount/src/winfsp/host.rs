//! One mount, from WinFsp's first call to its end.

use super::context::Context;
use super::install;
use super::security::Descriptor;
use super::told::Told;
use super::volume::{Settings, Volume};
use crate::limits::WINDOWS_THREADS;
use crate::options::{FIXED_DISK, MountOptions};
use covefs_cache::{Owner, Vfs};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::runtime::Handle;
use winfsp::filesystem::FileSystemContext;
use winfsp::host::{DebugMode, FileSystemHost, FileSystemParams, FineGuard, VolumeParams};

/// Milliseconds between two looks for changes to tell Explorer of.
const TELL_MS: u32 = 500;
/// Milliseconds for which Windows may believe attributes: others change them too.
const BELIEVE_MS: u32 = 1000;

/// Why a share is not mounted.
#[derive(Debug)]
pub enum MountError {
    /// WinFsp is not installed.
    NoWinFsp,
    /// The place is taken, or is none.
    Place(PathBuf, String),
    /// Anything else.
    Other(io::Error),
}

impl fmt::Display for MountError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MountError::NoWinFsp => write!(
                out,
                "WinFsp is missing: install it from https://winfsp.dev (winget install \
                 WinFsp.WinFsp), then mount again"
            ),
            MountError::Place(place, why) => write!(
                out,
                "cannot mount at {}: {why}; give a free drive letter (X:) or a directory that does \
                 not exist yet",
                place.display()
            ),
            MountError::Other(error) => write!(out, "WinFsp: {error}"),
        }
    }
}

impl std::error::Error for MountError {}

/// A mounted share. Dropped, it is unmounted.
pub struct Mounted {
    host: FileSystemHost<Context, FineGuard>,
    mountpoint: PathBuf,
    ended: Receiver<()>,
    unmounter: Unmounter,
}

/// Ends a mount from any thread, any number of times.
#[derive(Clone, Debug)]
pub struct Unmounter {
    end: Sender<()>,
}

/// Whether a drive could be mounted, as far as that can be told before.
pub fn check_installed() -> Result<(), MountError> {
    if install::load() { Ok(()) } else { Err(MountError::NoWinFsp) }
}

/// Mounts `vfs`. The drive answers when this returns. Waits run on `runtime`, which must outlive the
/// mount.
pub fn mount(
    vfs: Arc<Vfs>,
    runtime: Handle,
    options: &MountOptions,
) -> Result<Mounted, MountError> {
    check_installed()?;
    let (end, ended) = channel();
    let context = context(vfs, runtime, options, end.clone()).map_err(MountError::Other)?;
    let parameters = FileSystemParams {
        use_dir_info_by_name: false,
        volume_params: parameters(options),
        debug_mode: DebugMode::none(),
    };
    let failed = |error: windows::core::Error| MountError::Other(io::Error::other(error));
    let mut host =
        FileSystemHost::<_, FineGuard>::new_with_timer::<Vec<Told>, TELL_MS>(parameters, context)
            .map_err(failed)?;
    let place = |error: windows::core::Error| {
        MountError::Place(options.mountpoint.clone(), error.message())
    };
    // A network name is there by the prefix alone.
    if network_name(options).is_none() {
        host.mount(options.mountpoint.as_os_str()).map_err(place)?;
    }
    host.start_with_threads(WINDOWS_THREADS).map_err(failed)?;
    let mountpoint = options.mountpoint.clone();
    tracing::info!(mountpoint = %mountpoint.display(), "mounted");
    Ok(Mounted { host, mountpoint, ended, unmounter: Unmounter { end } })
}

pub(super) fn context(
    vfs: Arc<Vfs>,
    runtime: Handle,
    options: &MountOptions,
    ended: Sender<()>,
) -> io::Result<Context> {
    let name = options.source.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next();
    let settings = Settings {
        label: name.unwrap_or("covefs").to_owned(),
        marks_cold: !is_fixed(options),
        read_only: options.read_only,
        owner: Owner { uid: 0, gid: 0 },
    };
    let notices = Mutex::new(vfs.take_notices());
    let security = Descriptor::new(options.allow_other)?;
    let volume = Volume { vfs, runtime, settings };
    Ok(Context { volume, security, notices, ended: Mutex::new(ended) })
}

/// A disk like any other: Windows indexes it and draws thumbnails.
fn is_fixed(options: &MountOptions) -> bool {
    options.extra.iter().any(|option| option == FIXED_DISK)
}

fn parameters(options: &MountOptions) -> VolumeParams {
    let mut parameters = VolumeParams::new();
    parameters
        .filesystem_name("covefs")
        .sector_size(512)
        .sectors_per_allocation_unit((super::facts::UNIT / 512) as u16)
        .max_component_length(super::path::NAME_UNITS_MAX as u16)
        .file_info_timeout(BELIEVE_MS)
        .case_sensitive_search(false)
        .case_preserved_names(true)
        .unicode_on_disk(true)
        .reparse_points(true)
        .persistent_acls(false)
        .read_only_volume(options.read_only)
        .post_cleanup_when_modified_only(false);
    // A directory can be no network drive.
    let is_letter = options.mountpoint.as_os_str().len() == 2;
    if let Some(name) = network_name(options) {
        parameters.prefix(name);
    } else if is_letter && !is_fixed(options) {
        parameters.prefix(format!("\\covefs\\{}", share_name(&options.source)));
    }
    parameters
}

/// `\\covefs\NAME`, with one backslash in front as WinFsp has it; `None` where the mountpoint is a
/// letter or a directory.
fn network_name(options: &MountOptions) -> Option<String> {
    let text = options.mountpoint.to_string_lossy();
    let name = text.strip_prefix(r"\\").filter(|rest| !rest.starts_with(['?', '.']))?;
    Some(format!(r"\{}", name.trim_end_matches('\\')))
}

/// The last part of `\\covefs\NAME`: of letters that any share name may have.
fn share_name(source: &str) -> String {
    let plain = |symbol: char| if symbol.is_ascii_alphanumeric() { symbol } else { '-' };
    let name: String = source.chars().map(plain).collect();
    name.trim_matches('-').chars().take(80).collect()
}

impl Mounted {
    /// Where.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Ends the mount from elsewhere, so that `wait` returns.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Waits until somebody ends it.
    pub fn wait(self) -> io::Result<()> {
        // Told, or WinFsp is gone.
        let _ = self.ended.recv();
        tracing::info!(mountpoint = %self.mountpoint.display(), "unmounted");
        drop(self.host);
        Ok(())
    }

    /// `wait` for at most so long; says whether it has ended. Then call `wait`.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        match self.ended.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => false,
            _ => {
                // For the `wait` that follows.
                let _ = self.unmounter.end.send(());
                true
            }
        }
    }
}

impl Unmounter {
    /// Ends the mount.
    pub fn unmount(&self) {
        // It has ended already where nobody hears it.
        let _ = self.end.send(());
    }
}

const _: fn() = || {
    fn many_threads<T: FileSystemContext + Sync>()
    where
        T::FileContext: Sync,
    {
    }
    many_threads::<Context>();
};
