//! What the service's refusals mean: code and status to kind, and what to tell the user.
//!
//! Only the service's own words say that an entry is gone: a 404 without its code comes from
//! something in between and tells nothing (X1). A share that is missing says nothing of entries.

use crate::{Error, ErrorKind};
use std::fmt;

/// Refusals that somebody here decides by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Code {
    ResourceNotFound,
    ParentNotFound,
    ResourceAlreadyExists,
    ResourceTypeMismatch,
    InvalidRange,
    AuthenticationFailed,
    /// Somebody else has the lease.
    LeaseTaken,
    /// The lease that we named is not there any more.
    LeaseLost,
    Other,
}

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: Code,
    /// The service's name for it, and a hint.
    text: String,
    /// Whether the change may have been made nevertheless.
    is_unsure: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the share says {} {}", self.status, self.text)
    }
}

impl std::error::Error for Refusal {}

/// What the refusal beneath an error was, if it is one.
pub(super) fn code(error: &Error) -> Option<Code> {
    let source = error.source.as_ref()?;
    source.downcast_ref::<Refusal>().map(|refusal| refusal.code)
}

/// Whether a change may have been made although it failed so: the answer was lost, or the service
/// does not know itself.
pub(super) fn is_unsure(error: &Error) -> bool {
    match error.source.as_ref().and_then(|source| source.downcast_ref::<Refusal>()) {
        Some(refusal) => refusal.is_unsure,
        None => match error.source.as_ref().and_then(|source| source.downcast_ref::<Lost>()) {
            Some(lost) => lost.was_sent,
            None => false,
        },
    }
}

/// No answer.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) text: String,
    /// Whether the request may have arrived.
    pub(super) was_sent: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl std::error::Error for Lost {}

/// Kind and refusal of an answer. `hint` is added to what the user is told.
pub(super) fn refusal(status: u16, name: &str, hint: Option<String>) -> (ErrorKind, Refusal) {
    let kind = kind(status, name);
    // A timeout and trouble inside: nobody knows. What is `Busy` was refused before it was done.
    let is_unsure = kind == ErrorKind::Timeout || (status >= 500 && kind != ErrorKind::Busy);
    let name = if name.is_empty() { "without a reason" } else { name };
    let text = hint.map_or_else(|| name.to_string(), |hint| format!("{name}: {hint}"));
    (kind, Refusal { status, code: known(name), text, is_unsure })
}

fn known(name: &str) -> Code {
    match name {
        "ResourceNotFound" => Code::ResourceNotFound,
        "ParentNotFound" => Code::ParentNotFound,
        "ResourceAlreadyExists" => Code::ResourceAlreadyExists,
        "ResourceTypeMismatch" => Code::ResourceTypeMismatch,
        "InvalidRange" => Code::InvalidRange,
        "AuthenticationFailed" => Code::AuthenticationFailed,
        "LeaseAlreadyPresent"
        | "LeaseIdMissing"
        | "LeaseIdMismatchWithFileOperation"
        | "LeaseIdMismatchWithLeaseOperation"
        | "LeaseIsBreakingAndCannotBeAcquired"
        | "LeaseIsBreakingAndCannotBeChanged" => Code::LeaseTaken,
        "LeaseLost" | "LeaseNotPresentWithFileOperation" | "LeaseNotPresentWithLeaseOperation" => {
            Code::LeaseLost
        }
        _ => Code::Other,
    }
}

fn kind(status: u16, name: &str) -> ErrorKind {
    match name {
        "ResourceNotFound" | "ParentNotFound" => ErrorKind::NotFound,
        "ShareNotFound" | "ShareSnapshotNotFound" | "ShareBeingDeleted" => {
            ErrorKind::IdentityChanged
        }
        "ResourceAlreadyExists" => ErrorKind::Exists,
        // Asked for a file; who asks for a directory says so.
        "ResourceTypeMismatch" => ErrorKind::IsADirectory,
        "DirectoryNotEmpty" => ErrorKind::NotEmpty,
        "ReadOnlyAttribute" => ErrorKind::PermissionDenied,
        "FileGenerationMismatch" => ErrorKind::VersionChanged,
        "InvalidResourceName"
        | "InvalidFileOrDirectoryPathName"
        | "InvalidUri"
        | "RequestUrlFailedToParse"
        | "OutOfRangeInput" => ErrorKind::NameInvalid,
        "ShareSnapshotOperationNotSupported" => ErrorKind::ReadOnly,
        "InvalidMetadata" | "EmptyMetadataKey" | "MetadataTooLarge" => ErrorKind::Unsupported,
        "ShareSizeLimitReached" | "ShareQuotaExceeded" | "AccountLimitExceeded" => {
            ErrorKind::NoSpace
        }
        // Refused before anything was done, and only for now: SMB clients that have the file
        // open, leases, a copy under way, bytes that were damaged on the way.
        "SharingViolation"
        | "DeletePending"
        | "FileLockConflict"
        | "FileOpenBySmbClient"
        | "CannotDeleteFileOrDirectory"
        | "ClientCacheFlushDelay"
        | "PendingCopyOperation"
        | "HandleLimitExceeded"
        | "Md5Mismatch"
        | "ServerBusy" => ErrorKind::Busy,
        "AuthorizationPermissionMismatch"
        | "AuthorizationResourceTypeMismatch"
        | "InsufficientAccountPermissions" => ErrorKind::PermissionDenied,
        _ if known(name) == Code::LeaseTaken => ErrorKind::Locked,
        _ if known(name) == Code::LeaseLost => ErrorKind::Busy,
        _ => match status {
            401 | 403 => ErrorKind::Unauthenticated,
            429 | 503 => ErrorKind::Busy,
            413 => ErrorKind::TooLarge,
            507 => ErrorKind::NoSpace,
            408 | 500..=599 => ErrorKind::Timeout,
            _ => ErrorKind::Protocol,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Existence;

    /// Every code that the service is known to answer with, and its status.
    const CODES: &[(u16, &str)] = &[
        (400, "InvalidHeaderValue"),
        (400, "InvalidQueryParameterValue"),
        (400, "OutOfRangeInput"),
        (400, "MissingRequiredHeader"),
        (400, "InvalidResourceName"),
        (400, "InvalidFileOrDirectoryPathName"),
        (400, "InvalidMetadata"),
        (400, "Md5Mismatch"),
        (400, "FeatureVersionMismatch"),
        (400, "ConditionHeadersNotSupported"),
        (400, "ShareSnapshotOperationNotSupported"),
        (400, "HandleLimitExceeded"),
        (401, "NoAuthenticationInformation"),
        (401, "InvalidAuthenticationInfo"),
        (403, "AuthenticationFailed"),
        (403, "AuthorizationFailure"),
        (403, "AuthorizationPermissionMismatch"),
        (403, "ShareDisabled"),
        (403, "AccountIsDisabled"),
        (404, "ShareNotFound"),
        (404, "ShareSnapshotNotFound"),
        (404, ""),
        (405, "UnsupportedHttpVerb"),
        (409, "ShareBeingDeleted"),
        (409, "CannotDeleteFileOrDirectory"),
        (409, "DeletePending"),
        (409, "SharingViolation"),
        (409, "FileLockConflict"),
        (409, "ReadOnlyAttribute"),
        (409, "LeaseAlreadyPresent"),
        (411, "MissingContentLengthHeader"),
        (412, "ConditionNotMet"),
        (412, "LeaseIdMissing"),
        (412, "LeaseLost"),
        (413, "RequestBodyTooLarge"),
        (416, "InvalidRange"),
        (500, "InternalError"),
        (500, "OperationTimedOut"),
        (500, "ClientCacheFlushDelay"),
        (502, ""),
        (503, "ServerBusy"),
        (504, ""),
    ];

    #[test]
    fn only_the_service_s_word_says_gone() {
        // rule X1
        for (status, name) in CODES {
            let (kind, _) = refusal(*status, name, None);
            assert_ne!(kind.existence(), Existence::Gone, "{status} {name}");
        }
        for name in ["ResourceNotFound", "ParentNotFound"] {
            assert_eq!(refusal(404, name, None).0.existence(), Existence::Gone);
        }
    }

    #[test]
    fn what_may_have_been_done_is_not_busy() {
        for (status, name) in CODES {
            let (kind, refusal) = refusal(*status, name, None);
            assert_eq!(refusal.is_unsure, kind == ErrorKind::Timeout, "{status} {name}");
            assert!(!refusal.is_unsure || *status >= 500, "{status} {name}");
        }
        for name in ["ServerBusy", "ClientCacheFlushDelay"] {
            assert_eq!(refusal(503, name, None).0, ErrorKind::Busy);
        }
        assert_eq!(refusal(408, "ClientCacheFlushDelay", None).0, ErrorKind::Busy);
    }

    #[test]
    fn a_login_that_fails_says_nothing_of_entries() {
        for (status, name) in CODES.iter().filter(|(status, _)| matches!(status, 401 | 403)) {
            let (kind, _) = refusal(*status, name, None);
            let wanted = match *name {
                "AuthorizationPermissionMismatch" => ErrorKind::PermissionDenied,
                _ => ErrorKind::Unauthenticated,
            };
            assert_eq!(kind, wanted, "{name}");
        }
    }
}
