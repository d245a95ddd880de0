//! Asking a person for a secret on the terminal.

use anyhow::{Context, Result, bail};
use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::IsTerminal;

/// No secret is longer.
const BYTES_MAX: usize = 4096;

/// What Ctrl-C types while it sends no signal.
const CANCEL: u8 = 3;

/// The terminal as it was, once this is dropped.
struct Quiet(Termios);

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nobody can do more about a terminal that is gone.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Whether there is somebody to ask.
pub(crate) fn is_there() -> bool {
    std::io::stdin().is_terminal()
}

/// One line that is not shown while it is typed. As the C library's `getpass` has it, Ctrl-C sends
/// no signal meanwhile, which would leave the terminal dumb: it gives up, with the next Return.
pub(crate) fn ask_secret(prompt: &str) -> Result<String> {
    let before = tcgetattr(stdin()).context("look at the terminal")?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    quiet.local_modes.insert(LocalModes::ECHONL);
    let restored = Quiet(before);
    tcsetattr(stdin(), OptionalActions::Flush, &quiet).context("hide what is typed")?;
    eprint!("{prompt}");
    let line = read_line();
    drop(restored);
    line
}

/// One line of standard input, and no byte after it.
pub(crate) fn read_line() -> Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        let count = match rustix::io::read(stdin(), &mut byte) {
            Err(rustix::io::Errno::INTR) => continue,
            read => read.context("read the password")?,
        };
        match (count, byte[0]) {
            (0, _) if line.is_empty() => bail!("no password was given"),
            (0, _) | (_, b'\n') => break,
            (_, CANCEL) => bail!("given up"),
            (_, typed) => line.push(typed),
        }
        if line.len() > BYTES_MAX {
            bail!("a password has at most {BYTES_MAX} bytes");
        }
    }
    String::from_utf8(line).context("a password is text, in UTF-8")
}
