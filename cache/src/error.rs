//! What went wrong with an operation of the filesystem, in words that any platform can decode.

use crate::broken::{Broken, is_broken};
use covefs_remote::{ErrorKind as RemoteKind, Existence};
use std::error::Error as StdError;
use std::fmt;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed. Adapters decode it to errno or NTSTATUS without a default arm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ErrorKind {
    /// No such file or directory.
    NotFound,
    /// The file was replaced by another version while it was read (R2).
    Stale,
    /// The name is taken.
    Exists,
    /// Not a directory.
    NotADirectory,
    /// Is a directory.
    IsADirectory,
    /// The directory has entries.
    NotEmpty,
    /// The share or the login refuses it.
    PermissionDenied,
    /// This kind of thing is not made here: hard links, devices, fifos, sockets.
    NotPermitted,
    /// The mount is read-only.
    ReadOnly,
    /// No room in the cache, on its disk, or on the share.
    NoSpace,
    /// The share cannot hold such a name.
    NameInvalid,
    /// The name is too long.
    NameTooLong,
    /// An argument makes no sense.
    Invalid,
    /// Too many links or levels, or a directory moved into itself.
    Loop,
    /// The file is too big.
    TooLarge,
    /// No such extended attribute.
    NoAttribute,
    /// The value does not fit where it should go.
    OutOfRange,
    /// Neither here nor on the share.
    Unsupported,
    /// No such handle.
    BadHandle,
    /// A seek past the last data.
    NoData,
    /// The bytes are not here and the share cannot be reached.
    Offline,
    /// No answer within the deadline.
    Timeout,
    /// What was asked for makes sense and cannot be done: the source says why, for people.
    Refused,
    /// The local disk failed, or anything else that must not happen.
    Io,
}

/// A failed operation: what kind, doing what, and why.
#[derive(Debug)]
pub struct Error {
    /// What callers branch on.
    pub kind: ErrorKind,
    /// What was being done, in the present tense: "append to the journal".
    pub op: &'static str,
    /// What it was done to, for people; may be empty.
    pub path: String,
    /// What lies beneath.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with nothing beneath.
    pub fn new(kind: ErrorKind, op: &'static str) -> Self {
        Error { kind, op, path: String::new(), source: None }
    }

    /// Refused, with the reason in words for whoever asked.
    pub fn refused(op: &'static str, why: String) -> Self {
        let (kind, path) = (ErrorKind::Refused, String::new());
        Error { kind, op, path, source: Some(why.into()) }
    }

    /// A failure of the local disk. A full disk is `NoSpace`, anything else `Io`.
    pub fn disk(op: &'static str, source: std::io::Error) -> Self {
        let full = matches!(
            source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        );
        let kind = if full { ErrorKind::NoSpace } else { ErrorKind::Io };
        Error { kind, op, path: String::new(), source: Some(Box::new(source)) }
    }

    /// What the share said, if this comes from it.
    pub(crate) fn of_share(&self) -> Option<RemoteKind> {
        let source = self.source.as_ref()?;
        source.downcast_ref::<covefs_remote::Error>().map(|error| error.kind)
    }

    /// The same, naming what it was done to.
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }
}

/// Whether the share says that there is nothing. Only its own word counts: no answer is none (X1).
pub(crate) fn is_gone(error: &covefs_remote::Error) -> bool {
    match error.kind.existence() {
        Existence::Gone => true,
        Existence::Unknown => is_broken(Broken::UnknownIsGone),
        Existence::Exists => false,
    }
}

impl From<covefs_remote::Error> for Error {
    fn from(error: covefs_remote::Error) -> Self {
        let kind = match error.kind {
            RemoteKind::NotFound => ErrorKind::NotFound,
            RemoteKind::Exists => ErrorKind::Exists,
            RemoteKind::VersionChanged => ErrorKind::Stale,
            RemoteKind::NotADirectory => ErrorKind::NotADirectory,
            RemoteKind::IsADirectory => ErrorKind::IsADirectory,
            RemoteKind::NotEmpty => ErrorKind::NotEmpty,
            RemoteKind::PermissionDenied => ErrorKind::PermissionDenied,
            RemoteKind::NoSpace => ErrorKind::NoSpace,
            RemoteKind::NameInvalid => ErrorKind::NameInvalid,
            RemoteKind::NameTooLong => ErrorKind::NameTooLong,
            RemoteKind::Unsupported => ErrorKind::Unsupported,
            RemoteKind::ReadOnly => ErrorKind::ReadOnly,
            RemoteKind::TooLarge => ErrorKind::TooLarge,
            RemoteKind::Unauthenticated | RemoteKind::Unreachable | RemoteKind::IdentityChanged => {
                ErrorKind::Offline
            }
            RemoteKind::Timeout => ErrorKind::Timeout,
            RemoteKind::Busy
            | RemoteKind::Locked
            | RemoteKind::Protocol
            | RemoteKind::Io
            | RemoteKind::Source => ErrorKind::Io,
        };
        let path = error.path.to_string();
        Error { kind, op: error.op, path, source: Some(Box::new(error)) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.op)?;
        if !self.path.is_empty() {
            write!(out, " {}", self.path)?;
        }
        write!(out, ": {:?}", self.kind)?;
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
