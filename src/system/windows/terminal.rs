//! Asking a person for a secret in the console.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, IsTerminal, Read};

/// No secret is longer.
const BYTES_MAX: u64 = 4096;

/// Whether there is somebody to ask.
pub(crate) fn is_there() -> bool {
    std::io::stdin().is_terminal()
}

/// One line that is not shown while it is typed.
pub(crate) fn ask_secret(prompt: &str) -> Result<String> {
    let typed = rpassword::prompt_password(prompt).context("read the password")?;
    if typed.is_empty() {
        bail!("no password was given");
    }
    Ok(typed)
}

/// One line of standard input.
pub(crate) fn read_line() -> Result<String> {
    let mut line = Vec::new();
    let read = std::io::stdin().lock().take(BYTES_MAX).read_until(b'\n', &mut line);
    read.context("read the password")?;
    let line = String::from_utf8(line).context("a password is text, in UTF-8")?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        bail!("no password was given");
    }
    Ok(line.to_string())
}
