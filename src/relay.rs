//! The daemon and the command that started it: a pipe carries notes, the error, or "ready" (U3).
//!
//! ```text
//!   covefs mount --spawn--> covefs mount ... --foreground --relay   (own session, stdout = pipe)
//!        | <-- note TEXT -------|  prints it
//!        | <-- error CODE TEXT -|  or this: prints it, exits with CODE
//!        | <-- ready TEXT ------|  or this: exits with 0; the daemon closes the pipe
//! ```

use crate::fail;
use crate::system::daemon;
use crate::text::say;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

/// The daemon's end.
pub(crate) enum Relay {
    /// In the foreground: people read standard error.
    Terminal,
    /// Standard output is the pipe.
    Pipe,
    /// Of a service: it is told when the drive is usable, all else is in the log.
    #[cfg(windows)]
    Service(Box<dyn Fn()>),
}

impl Relay {
    /// Something the user should know, although the mount goes on.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Relay::Terminal => eprintln!("covefs: {text}"),
            // Whether the parent still listens shows at `ready`.
            Relay::Pipe => drop(tell(&format!("note {}", text.replace('\n', " ")))),
            #[cfg(windows)]
            Relay::Service(_) => {}
        }
    }

    /// The mount failed; the error is the parent's to print.
    pub(crate) fn failed(&self, error: &anyhow::Error) {
        match self {
            // The service says it to those who install it.
            #[cfg(windows)]
            Relay::Service(_) => {}
            Relay::Terminal => fail::report(error),
            Relay::Pipe => {
                let line = fail::one_line(error);
                drop(tell(&format!("error {} {line}", fail::exit_code(error))));
            }
        }
    }

    /// The drive is usable. Lets go of the caller's terminal and directory. An error when the
    /// parent is gone: whoever interrupted it does not want the drive.
    pub(crate) fn ready(&self, text: &str) -> Result<()> {
        match self {
            Relay::Terminal => return Ok(()),
            #[cfg(windows)]
            Relay::Service(ready) => {
                ready();
                return Ok(());
            }
            Relay::Pipe => {}
        }
        tell(&format!("ready {text}")).context("the command that started the mount is gone")?;
        daemon::let_go()
    }
}

fn tell(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// What came through the pipe.
#[derive(PartialEq, Eq, Debug)]
enum Outcome {
    Ready(String),
    Failed { code: u8, line: String },
    Ended,
}

/// The parent: starts the daemon with the same command line, returns the exit code when the
/// drive is usable or refused.
pub(crate) fn start_daemon(
    arguments: &[OsString],
    silent: bool,
    password: Option<String>,
) -> Result<u8> {
    let program = std::env::current_exe().context("find this program's file")?;
    let mut command = Command::new(program);
    daemon::detach(&mut command);
    let mut child = command
        .args(daemon_arguments(arguments, password.is_some()))
        .stdin(if password.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the daemon")?;
    if let (Some(password), Some(mut stdin)) = (password, child.stdin.take()) {
        // Whether it was understood shows in what the daemon says.
        let _ = writeln!(stdin, "{password}");
    }
    let pipe = child.stdout.take().context("open the pipe to the daemon")?;
    match follow(BufReader::new(pipe), &mut |note| eprintln!("covefs: {note}")) {
        Outcome::Ready(text) => {
            if !silent {
                say!("{text}");
            }
            Ok(0)
        }
        Outcome::Failed { code, line } => {
            eprintln!("covefs: {line}");
            // It has nothing left to do but to end; its state is known already.
            let _ = child.wait();
            Ok(code)
        }
        Outcome::Ended => {
            let how = how_it_ended(&mut child)?;
            anyhow::bail!("the daemon ended before the drive was usable ({how})")
        }
    }
}

/// The options come before what the user wrote: a `--` there ends the options.
fn daemon_arguments(arguments: &[OsString], has_password: bool) -> Vec<OsString> {
    let mut out: Vec<OsString> = arguments.iter().skip(1).take(1).cloned().collect();
    out.extend(["--foreground".into(), "--relay".into()]);
    out.extend(has_password.then(|| "--password-piped".into()));
    out.extend(arguments.iter().skip(2).cloned());
    out
}

fn follow(pipe: impl BufRead, note: &mut dyn FnMut(&str)) -> Outcome {
    for line in pipe.lines().map_while(io::Result::ok) {
        if let Some(text) = line.strip_prefix("ready ") {
            return Outcome::Ready(text.into());
        } else if let Some(text) = line.strip_prefix("note ") {
            note(text);
        } else if let Some(rest) = line.strip_prefix("error ") {
            let (code, line) = rest.split_once(' ').unwrap_or(("1", rest));
            return Outcome::Failed { code: code.parse().unwrap_or(1), line: line.into() };
        }
    }
    Outcome::Ended
}

fn how_it_ended(child: &mut Child) -> Result<String> {
    let status = child.wait().context("wait for the daemon")?;
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What it could not say through the pipe, such as a failed allocation.
        let _ = stderr.read_to_string(&mut said);
    }
    let how = daemon::how_it_ended(status);
    let last = said.trim().lines().last().unwrap_or_default().to_string();
    Ok(if last.is_empty() { how } else { format!("{how}: {last}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(text: &str) -> (Outcome, Vec<String>) {
        let mut notes = Vec::new();
        let outcome = follow(text.as_bytes(), &mut |note| notes.push(note.to_string()));
        (outcome, notes)
    }

    #[test]
    fn the_parent_understands_the_daemon() {
        assert_eq!(
            followed("note a b\nready at /m\n"),
            (Outcome::Ready("at /m".into()), vec!["a b".into()])
        );
        let failed = Outcome::Failed { code: 2, line: "no such share".into() };
        assert_eq!(followed("error 2 no such share\n").0, failed);
        assert_eq!(followed("").0, Outcome::Ended);
        assert_eq!(followed("note x\n").0, Outcome::Ended);
    }

    #[test]
    fn the_daemon_s_options_come_first() {
        let words = ["covefs", "mount", "-o", "ro", "--", "dir:/s", "/m"].map(OsString::from);
        let out = daemon_arguments(&words, false);
        assert_eq!(out, ["mount", "--foreground", "--relay", "-o", "ro", "--", "dir:/s", "/m"]);
        assert_eq!(daemon_arguments(&words, true)[3], "--password-piped");
    }
}
