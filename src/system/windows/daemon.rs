//! What a daemon asks of the system: a console of its own that nobody sees, and what ends it.

use super::win32;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::windows::process::CommandExt;
use std::process::{Command, ExitStatus};
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close,
    ctrl_logoff, ctrl_shutdown,
};
use windows_sys::Win32::System::Threading::{CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW};

/// Nothing is to be gained here.
pub(crate) fn keep_memory_together(_: &[OsString]) {}

/// The console of the daemon is its own, without a window: through it the end of the user's session is
/// heard of. What this program's caller reads is not the daemon's to hold open.
pub(crate) fn detach(command: &mut Command) {
    win32::keep_from_children();
    command.creation_flags(CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP);
}

/// Done by `detach`.
pub(crate) fn leave_terminal() -> Result<()> {
    Ok(())
}

/// Lets go of the caller's directory, which could not be removed otherwise.
pub(crate) fn let_go() -> Result<()> {
    let root = std::env::var_os("SystemRoot").unwrap_or_else(|| r"C:\".into());
    std::env::set_current_dir(root).context("leave the directory")
}

/// How a process ended, for people.
pub(crate) fn how_it_ended(status: ExitStatus) -> String {
    status.to_string()
}

/// There is no limit to raise.
pub(crate) fn allow_open_files() {}

/// Whether there is a process with this number that has not ended.
pub(crate) fn is_running(pid: u32) -> bool {
    win32::is_running(pid)
}

/// What ends a mount from outside: the console says so.
pub(crate) struct Ends {
    interrupt: CtrlC,
    stop: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
}

impl Ends {
    /// Listens from now on. Once the console is closed or the session ends, Windows leaves a process a
    /// few seconds, which are enough: nothing but the journal has to be made durable.
    pub(crate) fn new() -> Result<Ends> {
        let listen = || -> std::io::Result<Ends> {
            Ok(Ends {
                interrupt: ctrl_c()?,
                stop: ctrl_break()?,
                close: ctrl_close()?,
                logoff: ctrl_logoff()?,
                shutdown: ctrl_shutdown()?,
            })
        };
        listen().context("listen for the end of the console")
    }

    /// Waits for one, and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.stop.recv() => "Ctrl-Break",
            _ = self.close.recv() => "the console was closed",
            _ = self.logoff.recv() => "the user logs off",
            _ = self.shutdown.recv() => "the system shuts down",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_running_until_it_ends() {
        assert!(is_running(std::process::id()));
        let mut child = Command::new("cmd").args(["/c", "exit"]).spawn().unwrap();
        child.wait().unwrap();
        assert!(!is_running(child.id()));
    }
}
