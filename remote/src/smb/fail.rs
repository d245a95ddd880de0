//! What a status of the server, or a broken connection, means: kind, and what to say about it.

use crate::{Error, ErrorKind, RemotePath};
use smb2::types::status::NtStatus;
use std::error::Error as StdError;

/// Statuses that the crate has no name for.
const OBJECT_PATH_INVALID: NtStatus = NtStatus(0xC000_0039);
const OBJECT_PATH_SYNTAX_BAD: NtStatus = NtStatus(0xC000_003B);
const NO_SUCH_DEVICE: NtStatus = NtStatus(0xC000_000E);
const QUOTA_EXCEEDED: NtStatus = NtStatus(0xC000_0044);
const PRIVILEGE_NOT_HELD: NtStatus = NtStatus(0xC000_0061);
const WRONG_PASSWORD: NtStatus = NtStatus(0xC000_006A);
const NO_SUCH_USER: NtStatus = NtStatus(0xC000_0064);
const LOGON_TYPE_NOT_GRANTED: NtStatus = NtStatus(0xC000_015B);
const MEDIA_WRITE_PROTECTED: NtStatus = NtStatus(0xC000_00A2);
const IO_TIMEOUT: NtStatus = NtStatus(0xC000_00B5);
const NAME_TOO_LONG: NtStatus = NtStatus(0xC000_0106);
const TOO_MANY_OPENED_FILES: NtStatus = NtStatus(0xC000_011F);
const LOCK_NOT_GRANTED: NtStatus = NtStatus(0xC000_0055);
const FILE_TOO_LARGE: NtStatus = NtStatus(0xC000_0904);
const NOT_SAME_DEVICE: NtStatus = NtStatus(0xC000_00D4);
const CONNECTION_DISCONNECTED: NtStatus = NtStatus(0xC000_020C);
const CONNECTION_RESET: NtStatus = NtStatus(0xC000_020D);
const RETRY: NtStatus = NtStatus(0xC000_022D);
const DEVICE_NOT_READY: NtStatus = NtStatus(0xC000_00A3);
/// A link stands in the way, and none is followed.
const REPARSE_POINT_ENCOUNTERED: NtStatus = NtStatus(0xC000_050B);
const NO_MEMORY: NtStatus = NtStatus(0xC000_0017);

/// A failure on its way up: the operation and, where nothing else is said, the path are added
/// when it becomes an `Error`.
#[derive(Debug)]
pub(super) struct Fail {
    pub(super) kind: ErrorKind,
    /// What the server said, where it said anything.
    pub(super) status: Option<NtStatus>,
    /// What came with that: some say there how much they would take.
    body: Vec<u8>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    path: Option<RemotePath>,
}

pub(super) type Outcome<T> = std::result::Result<T, Fail>;

impl Fail {
    pub(super) fn saying(kind: ErrorKind, text: impl Into<String>) -> Self {
        Fail { cause: Some(text.into().into()), ..Fail::from(kind) }
    }

    /// A status, and how people are told of it.
    pub(super) fn said(status: NtStatus, text: String) -> Self {
        Fail { status: Some(status), cause: Some(text.into()), ..Fail::from(kind(status)) }
    }

    /// The same about a path that is not the one asked for first.
    pub(super) fn about(mut self, path: &RemotePath) -> Self {
        self.path.get_or_insert_with(|| path.clone());
        self
    }

    /// Why, for people.
    pub(super) fn reason(&self) -> String {
        self.cause.as_ref().map_or_else(|| format!("{:?}", self.kind), ToString::to_string)
    }

    /// The same with another meaning.
    pub(super) fn of_kind(self, kind: ErrorKind) -> Self {
        Fail { kind, ..self }
    }

    /// The same with what came with the status.
    pub(super) fn with(self, body: Vec<u8>) -> Self {
        Fail { body, ..self }
    }

    pub(super) fn is(&self, status: NtStatus) -> bool {
        self.status == Some(status)
    }

    /// See `with`.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether what was asked for may have been done or not.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Timeout)
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
        Fail { kind, status: None, body: Vec::new(), cause: None, path: None }
    }
}

impl From<NtStatus> for Fail {
    fn from(status: NtStatus) -> Self {
        Fail::said(status, format!("the server says {status}"))
    }
}

impl From<smb2::Error> for Fail {
    fn from(error: smb2::Error) -> Self {
        use smb2::ErrorKind as Theirs;
        if let Some(status) = error.status() {
            return Fail::from(status);
        }
        let kind = match error.kind() {
            // Nothing was sent: the server lets us have fewer requests under way.
            _ if matches!(error, smb2::Error::CreditStarvation { .. }) => ErrorKind::Busy,
            Theirs::AuthRequired | Theirs::GuestSessionRefused => ErrorKind::Unauthenticated,
            Theirs::ConnectionLost | Theirs::SessionExpired | Theirs::Io => ErrorKind::Unreachable,
            Theirs::TimedOut | Theirs::Cancelled => ErrorKind::Timeout,
            Theirs::SigningRequired | Theirs::SignatureInvalid | Theirs::InvalidData => {
                ErrorKind::Protocol
            }
            Theirs::Unsupported | Theirs::DfsReferral => ErrorKind::Unsupported,
            _ => ErrorKind::Unreachable,
        };
        Fail { cause: Some(error.into()), ..Fail::from(kind) }
    }
}

/// Whether the server has ended what requests go by: the login or the connection to the share.
pub(super) fn ends_session(status: NtStatus) -> bool {
    matches!(
        status,
        NtStatus::USER_SESSION_DELETED
            | NtStatus::NETWORK_SESSION_EXPIRED
            | NtStatus::NETWORK_NAME_DELETED
            | CONNECTION_DISCONNECTED
            | CONNECTION_RESET
    )
}

/// What a status says. Those of the list say something of an entry; every other one says that
/// nothing is known of it.
pub(super) fn kind(status: NtStatus) -> ErrorKind {
    match status {
        NtStatus::OBJECT_NAME_NOT_FOUND
        | NtStatus::OBJECT_PATH_NOT_FOUND
        | NtStatus::NO_SUCH_FILE
        | NtStatus::NOT_FOUND
        | NtStatus::DELETE_PENDING => ErrorKind::NotFound,
        NtStatus::OBJECT_NAME_COLLISION => ErrorKind::Exists,
        NtStatus::FILE_IS_A_DIRECTORY => ErrorKind::IsADirectory,
        NtStatus::NOT_A_DIRECTORY => ErrorKind::NotADirectory,
        NtStatus::DIRECTORY_NOT_EMPTY => ErrorKind::NotEmpty,
        NtStatus::ACCESS_DENIED | NtStatus::CANNOT_DELETE | PRIVILEGE_NOT_HELD => {
            ErrorKind::PermissionDenied
        }
        NtStatus::DISK_FULL | QUOTA_EXCEEDED => ErrorKind::NoSpace,
        NtStatus::OBJECT_NAME_INVALID | OBJECT_PATH_INVALID | OBJECT_PATH_SYNTAX_BAD => {
            ErrorKind::NameInvalid
        }
        NAME_TOO_LONG => ErrorKind::NameTooLong,
        FILE_TOO_LARGE | NtStatus::FILE_SYSTEM_LIMITATION => ErrorKind::TooLarge,
        MEDIA_WRITE_PROTECTED => ErrorKind::ReadOnly,
        NtStatus::SHARING_VIOLATION
        | NtStatus::FILE_LOCK_CONFLICT
        | LOCK_NOT_GRANTED
        | RETRY
        | NO_MEMORY
        | TOO_MANY_OPENED_FILES
        | NtStatus::INSUFFICIENT_RESOURCES
        | NtStatus::INSUFF_SERVER_RESOURCES
        | NtStatus::REQUEST_NOT_ACCEPTED => ErrorKind::Busy,
        NtStatus::LOGON_FAILURE
        | NtStatus::ACCOUNT_RESTRICTION
        | NtStatus::INVALID_LOGON_HOURS
        | NtStatus::INVALID_WORKSTATION
        | NtStatus::PASSWORD_EXPIRED
        | NtStatus::ACCOUNT_DISABLED
        | NtStatus::ACCOUNT_EXPIRED
        | NtStatus::PASSWORD_MUST_CHANGE
        | NtStatus::ACCOUNT_LOCKED_OUT
        | WRONG_PASSWORD
        | NO_SUCH_USER
        | LOGON_TYPE_NOT_GRANTED => ErrorKind::Unauthenticated,
        NtStatus::BAD_NETWORK_NAME | NtStatus::BAD_NETWORK_PATH => ErrorKind::IdentityChanged,
        NtStatus::NOT_SUPPORTED
        | NtStatus::NOT_IMPLEMENTED
        | NtStatus::INVALID_DEVICE_REQUEST
        | NtStatus::INVALID_INFO_CLASS
        | NtStatus::STOPPED_ON_SYMLINK
        | NtStatus::PATH_NOT_COVERED
        | REPARSE_POINT_ENCOUNTERED
        | NOT_SAME_DEVICE => ErrorKind::Unsupported,
        IO_TIMEOUT => ErrorKind::Timeout,
        NO_SUCH_DEVICE | DEVICE_NOT_READY => ErrorKind::Unreachable,
        status if ends_session(status) => ErrorKind::Unreachable,
        NtStatus::INVALID_PARAMETER => ErrorKind::Protocol,
        _ => ErrorKind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Existence;

    #[test]
    fn only_a_few_statuses_say_that_something_is_gone() {
        // rule X1
        let gone = [
            NtStatus::OBJECT_NAME_NOT_FOUND,
            NtStatus::OBJECT_PATH_NOT_FOUND,
            NtStatus::NO_SUCH_FILE,
            NtStatus::NOT_FOUND,
            NtStatus::DELETE_PENDING,
        ];
        // Every error there could be.
        for code in (0xC000_0000..=0xC000_0FFF_u32).chain(0x8000_0000..=0x8000_0FFF) {
            let is_gone = kind(NtStatus(code)).existence() == Existence::Gone;
            assert_eq!(is_gone, gone.contains(&NtStatus(code)), "{code:08x}");
        }
    }

    #[test]
    fn a_broken_connection_leaves_the_outcome_unknown() {
        for error in [smb2::Error::Disconnected, smb2::Error::Timeout, smb2::Error::SessionExpired]
        {
            assert!(Fail::from(error).is_unknown());
        }
        assert!(Fail::from(NtStatus::USER_SESSION_DELETED).is_unknown());
        assert!(!Fail::from(NtStatus::SHARING_VIOLATION).is_unknown());
    }
}
