//! What went wrong with a share, and what that says about the entry asked for.

use crate::RemotePath;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request failed. Callers branch on this, never on text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ErrorKind {
    /// No such entry.
    NotFound,
    /// Something is there that was expected not to be.
    Exists,
    /// What is there is not the expected version.
    VersionChanged,
    /// A file stands where a directory is needed.
    NotADirectory,
    /// A directory stands where a file is needed.
    IsADirectory,
    /// A directory still has entries.
    NotEmpty,
    /// The share refuses this to this login.
    PermissionDenied,
    /// The share, or its quota, is full.
    NoSpace,
    /// The share cannot hold such a name.
    NameInvalid,
    /// The name is too long for the share.
    NameTooLong,
    /// The share can't do that.
    Unsupported,
    /// The share is read-only.
    ReadOnly,
    /// The file is too big for the share.
    TooLarge,
    /// Login failed or expired.
    Unauthenticated,
    /// No connection.
    Unreachable,
    /// No answer in time; a change may or may not have been made.
    Timeout,
    /// The share asks us to slow down or reports trouble of its own.
    Busy,
    /// Another client keeps the file locked, and may do so for ever; nothing was changed.
    Locked,
    /// Another share stands where ours was (X1).
    IdentityChanged,
    /// An answer that makes no sense.
    Protocol,
    /// An I/O error on the share's side.
    Io,
    /// The bytes to upload could not be read on our side.
    Source,
}

impl ErrorKind {
    /// The same in words, for people who wonder why something is not on the share yet.
    pub fn says(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "it is not there",
            ErrorKind::Exists => "something of that name is there",
            ErrorKind::VersionChanged => "it was changed there",
            ErrorKind::NotADirectory => "a file stands where a directory is needed",
            ErrorKind::IsADirectory => "a directory stands there",
            ErrorKind::NotEmpty => "the directory there is not empty",
            ErrorKind::PermissionDenied => "the share does not let this login do that",
            ErrorKind::NoSpace => "the share is full, or its quota is reached",
            ErrorKind::NameInvalid => "the share cannot hold such a name",
            ErrorKind::NameTooLong => "the name is too long for the share",
            ErrorKind::Unsupported => "the share cannot do that",
            ErrorKind::ReadOnly => "the share is read-only",
            ErrorKind::TooLarge => "the file is too big for the share",
            ErrorKind::Unauthenticated => "the share no longer accepts the login",
            ErrorKind::Unreachable => "there is no connection",
            ErrorKind::Timeout => "no answer came in time",
            ErrorKind::Busy => "the share is busy",
            ErrorKind::Locked => "another client keeps it locked",
            ErrorKind::IdentityChanged => "another share stands in its place",
            ErrorKind::Protocol => "the share answers what makes no sense",
            ErrorKind::Io => "the share has an I/O error",
            ErrorKind::Source => "the bytes could not be read here",
        }
    }
}

/// What an error says of the entry it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existence {
    /// It is there.
    Exists,
    /// It is not there.
    Gone,
    /// Nobody knows; nothing cached may be dropped for it.
    Unknown,
}

impl ErrorKind {
    /// What this says of the entry that was asked for.
    pub fn existence(self) -> Existence {
        match self {
            ErrorKind::NotFound => Existence::Gone,
            ErrorKind::Exists
            | ErrorKind::VersionChanged
            | ErrorKind::IsADirectory
            | ErrorKind::NotEmpty
            | ErrorKind::TooLarge => Existence::Exists,
            ErrorKind::NotADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::NoSpace
            | ErrorKind::NameInvalid
            | ErrorKind::NameTooLong
            | ErrorKind::Unsupported
            | ErrorKind::ReadOnly
            | ErrorKind::Unauthenticated
            | ErrorKind::Unreachable
            | ErrorKind::Timeout
            | ErrorKind::Busy
            | ErrorKind::Locked
            | ErrorKind::IdentityChanged
            | ErrorKind::Protocol
            | ErrorKind::Io
            | ErrorKind::Source => Existence::Unknown,
        }
    }

    /// Whether the same request may succeed when it is made again.
    pub fn is_transient(self) -> bool {
        match self {
            ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Busy => true,
            ErrorKind::NotFound
            | ErrorKind::Exists
            | ErrorKind::VersionChanged
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::NotEmpty
            | ErrorKind::PermissionDenied
            | ErrorKind::NoSpace
            | ErrorKind::NameInvalid
            | ErrorKind::NameTooLong
            | ErrorKind::Unsupported
            | ErrorKind::ReadOnly
            | ErrorKind::TooLarge
            | ErrorKind::Unauthenticated
            | ErrorKind::Locked
            | ErrorKind::IdentityChanged
            | ErrorKind::Protocol
            | ErrorKind::Io
            | ErrorKind::Source => false,
        }
    }

    /// Whether it tells that the share as a whole cannot be used now.
    pub fn is_offline(self) -> bool {
        matches!(
            self,
            ErrorKind::Unreachable
                | ErrorKind::Timeout
                | ErrorKind::IdentityChanged
                | ErrorKind::Unauthenticated
        )
    }
}

/// A failed request: what kind, doing what, to which path, and why.
#[derive(Debug)]
pub struct Error {
    /// What callers branch on.
    pub kind: ErrorKind,
    /// What was being done, in the present tense: "read block".
    pub op: &'static str,
    /// What it was done to.
    pub path: RemotePath,
    /// How long the share asked us to wait before the next try.
    pub retry_after: Option<Duration>,
    /// What lies beneath.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with nothing beneath.
    pub fn new(kind: ErrorKind, op: &'static str, path: &RemotePath) -> Self {
        Error { kind, op, path: path.clone(), retry_after: None, source: None }
    }

    /// The same with the wait that the share asked for.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same with what lies beneath.
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}: {:?}", self.op, self.path, self.kind)?;
        match &self.source {
            Some(source) => write!(out, ": {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}
