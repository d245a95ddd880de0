//! What a daemon asks of the system: a session of its own, signals that end it, open files.

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// glibc gives threads pools of memory of their own, and what one frees serves no other: a million known
/// files took twice the memory (420 instead of 220 MB after two `find`). It reads the number of
/// pools when a process starts, so this one starts anew, as the same process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_memory_together(arguments: &[OsString]) {
    use std::os::unix::process::CommandExt;
    const VARIABLE: &str = "MALLOC_ARENA_MAX";
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let (name, rest) = arguments.split_first().expect("a program has a name");
    // Not /proc/self/exe: `ps` would show the process as "exe".
    let error = std::env::current_exe().map(|program| {
        std::process::Command::new(program).arg0(name).args(rest).env(VARIABLE, "2").exec()
    });
    tracing::debug!(?error, "more memory is used than need be");
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_memory_together(_: &[OsString]) {}

/// A daemon leaves its caller by itself: see `leave_terminal`.
pub(crate) fn detach(_: &mut Command) {}

/// Away from the terminal: its Ctrl-C and its end are not the drive's.
pub(crate) fn leave_terminal() -> Result<()> {
    rustix::process::setsid().map(drop).context("start a session of its own")
}

/// Lets go of what the caller's programs may wait for: its standard output and its directory.
pub(crate) fn let_go() -> Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// How a process ended, for people.
pub(crate) fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "for an unknown reason".into(),
    }
}

/// Each file that changed a moment ago is held open: the 1024 that many systems begin with are
/// soon used up, and more are there for the asking.
pub(crate) fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where even that is refused, it goes on with what there is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Whether there is a process with this id that still does something: one that has ended and was
/// not waited for yet holds no lock and no file.
pub(crate) fn is_running(pid: u32) -> bool {
    let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(number) = number else { return false };
    // Not permitted to signal it: it is there, and somebody else's.
    if let Err(rustix::io::Errno::SRCH) = rustix::process::test_kill_process(number) {
        return false;
    }
    // `pid (name) state ...`, where the name may hold anything.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    !state.starts_with(['Z', 'X'])
}

/// What ends a mount from outside: signals.
pub(crate) struct Ends {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Ends {
    /// Listens from now on.
    pub(crate) fn new() -> Result<Ends> {
        let open = |kind| signal(kind).context("listen for signals");
        Ok(Ends {
            term: open(SignalKind::terminate())?,
            interrupt: open(SignalKind::interrupt())?,
            hangup: open(SignalKind::hangup())?,
        })
    }

    /// Waits for one, and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_process_is_running_until_it_ends() {
        assert!(is_running(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while is_running(child.id()) {
            // Not waited for: it stays as a zombie, which counts as ended.
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!is_running(0));
    }
}
