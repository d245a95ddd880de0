//! What a system call's failure means: errno to kind, and what to say about it.

use crate::{Error, ErrorKind, RemotePath};
use rustix::io::Errno;
use std::error::Error as StdError;

/// A failure on its way up: the operation and, where nothing else is said, the path are added
/// when it becomes an `Error`.
#[derive(Debug)]
pub(super) struct Fail {
    pub(super) kind: ErrorKind,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    path: Option<RemotePath>,
}

pub(super) type Outcome<T> = std::result::Result<T, Fail>;

impl Fail {
    pub(super) fn saying(kind: ErrorKind, text: String) -> Self {
        Fail { kind, cause: Some(text.into()), path: None }
    }

    /// The same about a path that is not the one asked for first.
    pub(super) fn about(mut self, path: &RemotePath) -> Self {
        self.path.get_or_insert_with(|| path.clone());
        self
    }

    /// The same with another meaning.
    pub(super) fn of_kind(self, kind: ErrorKind) -> Self {
        Fail { kind, ..self }
    }

    pub(super) fn into_error(self, op: &'static str, path: &RemotePath) -> Error {
        let error = Error::new(self.kind, op, self.path.as_ref().unwrap_or(path));
        match self.cause {
            Some(cause) => error.caused_by(cause),
            None => error,
        }
    }
}

impl From<ErrorKind> for Fail {
    fn from(kind: ErrorKind) -> Self {
        Fail { kind, cause: None, path: None }
    }
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Self {
        let cause = std::io::Error::from_raw_os_error(errno.raw_os_error());
        Fail { kind: kind(errno), cause: Some(cause.into()), path: None }
    }
}

/// What an errno says of an entry below a verified root.
pub(super) fn kind(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOENT => ErrorKind::NotFound,
        Errno::EXIST => ErrorKind::Exists,
        // A symlink in the middle of a path is not followed: it is no directory of this share.
        Errno::NOTDIR | Errno::LOOP => ErrorKind::NotADirectory,
        Errno::ISDIR => ErrorKind::IsADirectory,
        Errno::NOTEMPTY => ErrorKind::NotEmpty,
        Errno::ACCESS | Errno::PERM => ErrorKind::PermissionDenied,
        Errno::NOSPC | Errno::DQUOT | Errno::MLINK => ErrorKind::NoSpace,
        Errno::ILSEQ | Errno::INVAL => ErrorKind::NameInvalid,
        Errno::NAMETOOLONG => ErrorKind::NameTooLong,
        Errno::ROFS => ErrorKind::ReadOnly,
        Errno::FBIG | Errno::OVERFLOW | Errno::TOOBIG => ErrorKind::TooLarge,
        Errno::NOSYS | Errno::OPNOTSUPP | Errno::XDEV => ErrorKind::Unsupported,
        Errno::TIMEDOUT => ErrorKind::Timeout,
        // A dead network or FUSE mount below the root says these.
        Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::CONNREFUSED
        | Errno::CONNRESET
        | Errno::CONNABORTED
        | Errno::NOTCONN => ErrorKind::Unreachable,
        // Short of something of ours, or interrupted: the same call may succeed.
        Errno::BUSY
        | Errno::AGAIN
        | Errno::INTR
        | Errno::MFILE
        | Errno::NFILE
        | Errno::NOMEM
        | Errno::NOBUFS
        | Errno::TXTBSY
        | Errno::DEADLK
        | Errno::NOLCK => ErrorKind::Busy,
        errno if is_unsupported(errno) => ErrorKind::Unsupported,
        // EIO, ESTALE and all that nobody thought of: never "gone".
        _ => ErrorKind::Io,
    }
}

/// Whether the file system has no such thing at all.
pub(super) fn is_unsupported(errno: Errno) -> bool {
    errno == Errno::NOTSUP || errno == Errno::OPNOTSUPP || errno == Errno::NOSYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Existence;

    #[test]
    fn only_enoent_says_gone() {
        // rule X1
        for raw in 1..200 {
            let errno = Errno::from_raw_os_error(raw);
            let gone = kind(errno).existence() == Existence::Gone;
            assert_eq!(gone, errno == Errno::NOENT, "{errno:?}");
        }
    }
}
