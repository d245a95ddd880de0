//! Ending a drive from outside: its process is asked to.

use crate::client::{self, Found};
use crate::control::Request;
use crate::drive::{report_dirty, sync, wait_for_end};
use crate::registry::Note;
use crate::status;
use crate::system::table;
use anyhow::{Result, bail};
use covefs_mount::Unmounter;
use std::io;
use std::path::Path;

/// `covefs unmount`.
pub(crate) fn unmount(mountpoint: &Path, wait: bool, force: bool) -> Result<()> {
    let mount = client::mounted_at(mountpoint)?;
    let at = mount.mountpoint.as_path();
    let Found::Live(drive) = table::find(at) else {
        bail!("the covefs of {} has ended just now", at.display())
    };
    if wait {
        sync(at, true)?;
    }
    let asked = status::ask(&drive).and_then(|status| {
        client::ask(&drive, &Request::Unmount, &mut |_| {})?;
        Ok(status.pid)
    });
    match asked {
        Ok(pid) => wait_for_end(pid, &drive)?,
        Err(_) if force => return detach_dead(at),
        Err(error) => return Err(error),
    }
    report_dirty(&drive.cache_dir)
}

/// A process that hangs is not ours to end: only people know what else waits for it.
pub(crate) fn detach_dead(at: &Path) -> Result<()> {
    let pid = match table::find(at) {
        Found::Live(drive) => Note::read(&drive.cache_dir).map(|note| note.pid),
        _ => None,
    };
    let Some(pid) = pid else { return Ok(()) };
    bail!(
        "the covefs of {} does not answer; end it: taskkill /F /PID {pid}. What it has not uploaded \
         is safe in its cache: mount again",
        at.display()
    )
}

/// Ends this process's own drive. Programs that use it are cut off.
pub(crate) fn end(unmounter: &Unmounter) -> io::Result<()> {
    unmounter.unmount();
    Ok(())
}
