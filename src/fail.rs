//! How the command fails: one line for people, and an exit code that scripts can tell apart.

use crate::text;
use std::fmt;

/// The command was not understood: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub String);

/// Something is not on the share yet, and stays safe in the cache: exit code 3.
#[derive(Debug)]
pub(crate) struct NotUploaded(pub String);

/// Everything was said already; only the exit code is left: 1.
#[derive(Debug)]
pub(crate) struct Silent;

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for NotUploaded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("failed")
    }
}

impl std::error::Error for Usage {}
impl std::error::Error for NotUploaded {}
impl std::error::Error for Silent {}

/// A usage error, ready to be returned.
pub(crate) fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// The exit code for this error (U6).
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Usage>().is_some() {
        2
    } else if error.downcast_ref::<NotUploaded>().is_some() {
        3
    } else {
        1
    }
}

/// The error with its causes on one line, safe to print on a terminal.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    text::escaped(&format!("{error:#}").replace('\n', " "))
}

/// Prints the error, unless everything was said already.
pub(crate) fn report(error: &anyhow::Error) {
    if error.downcast_ref::<Silent>().is_none() {
        eprintln!("covefs: {}", one_line(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn codes_survive_added_context() {
        let wrapped = Err::<(), _>(usage("no")).context("reading the options").unwrap_err();
        assert_eq!(exit_code(&wrapped), 2);
        assert_eq!(exit_code(&NotUploaded("3 files".into()).into()), 3);
        assert_eq!(exit_code(&anyhow::anyhow!("broken")), 1);
    }

    #[test]
    fn a_message_is_one_line_without_control_characters() {
        let error = anyhow::anyhow!("first\nsecond \x1b[31m");
        assert_eq!(one_line(&error), "first second \\x1b[31m");
    }
}
