//! What can be wrong with a request, in the protocol's codes.

/// A refusal: the service's code, and elements that its XML body has besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// `ResourceNotFound` and the like.
    pub code: &'static str,
    /// Elements after `Message`.
    pub details: Vec<(&'static str, String)>,
    /// In place of the code's usual status.
    pub status: Option<u16>,
}

/// A handler's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A refusal that says no more than its code.
    pub fn new(code: &'static str) -> Error {
        Error { code, details: Vec::new(), status: None }
    }

    /// A header that cannot be used.
    pub fn header(name: &str, value: &str) -> Error {
        let details = vec![("HeaderName", name.to_owned()), ("HeaderValue", value.to_owned())];
        Error { code: "InvalidHeaderValue", details, status: None }
    }

    /// A header that must be there.
    pub fn missing_header(name: &str) -> Error {
        let details = vec![("HeaderName", name.to_owned())];
        Error { code: "MissingRequiredHeader", details, status: None }
    }

    /// A query parameter that cannot be used.
    pub fn query(code: &'static str, name: &str, value: &str, reason: &str) -> Error {
        let details = vec![
            ("QueryParameterName", name.to_owned()),
            ("QueryParameterValue", value.to_owned()),
            ("Reason", reason.to_owned()),
        ];
        Error { code, details, status: None }
    }

    /// Credentials that do not hold; the service says what it made of them.
    pub fn authentication(detail: String) -> Error {
        let details = vec![("AuthenticationErrorDetail", detail)];
        Error { code: "AuthenticationFailed", details, status: None }
    }

    /// The same refusal with another status.
    pub fn with_status(self, status: u16) -> Error {
        Error { status: Some(status), ..self }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status.unwrap_or_else(|| status(self.code))
    }
}

fn status(code: &str) -> u16 {
    match code {
        "NoAuthenticationInformation" | "InvalidAuthenticationInfo" => 401,
        "AuthenticationFailed"
        | "AuthorizationFailure"
        | "AuthorizationPermissionMismatch"
        | "AuthorizationProtocolMismatch"
        | "AuthorizationResourceTypeMismatch"
        | "AuthorizationServiceMismatch"
        | "AuthorizationSourceIPMismatch"
        | "FileOAuthManagementApiRestrictedToSrp" => 403,
        "ShareNotFound"
        | "ShareSnapshotNotFound"
        | "ParentNotFound"
        | "ResourceNotFound"
        | "CannotVerifyCopySource" => 404,
        "UnsupportedHttpVerb" => 405,
        "ShareAlreadyExists"
        | "ShareBeingDeleted"
        | "ShareHasSnapshots"
        | "ShareSnapshotCountExceeded"
        | "DeleteShareWhenSnapshotLeased"
        | "ResourceAlreadyExists"
        | "ResourceTypeMismatch"
        | "DirectoryNotEmpty"
        | "CannotDeleteFileOrDirectory"
        | "DeletePending"
        | "SharingViolation"
        | "FileLockConflict"
        | "ReadOnlyAttribute"
        | "FileGenerationMismatch"
        | "PendingCopyOperation"
        | "NoPendingCopyOperation"
        | "PreviousSnapshotNotFound"
        | "LeaseAlreadyPresent"
        | "LeaseIdMismatchWithLeaseOperation"
        | "LeaseNotPresentWithLeaseOperation"
        | "LeaseIsBreakingAndCannotBeAcquired"
        | "LeaseIsBreakingAndCannotBeChanged"
        | "LeaseIsBrokenAndCannotBeRenewed"
        | "ShareSizeLimitReached" => 409,
        "MissingContentLengthHeader" => 411,
        "ConditionNotMet"
        | "SourceConditionNotMet"
        | "LeaseIdMissing"
        | "LeaseIdMismatchWithFileOperation"
        | "LeaseIdMismatchWithShareOperation"
        | "LeaseNotPresentWithFileOperation"
        | "LeaseNotPresentWithShareOperation"
        | "LeaseLost" => 412,
        "RequestBodyTooLarge" => 413,
        "InvalidRange" => 416,
        "InternalError" | "OperationTimedOut" | "ClientCacheFlushDelay" => 500,
        "ServerBusy" => 503,
        _ => 400,
    }
}

/// A sentence for people.
pub fn message(code: &str) -> String {
    let known = match code {
        "AuthenticationFailed" => {
            "Server failed to authenticate the request. Make sure the value of Authorization \
             header is formed correctly including the signature."
        }
        "ResourceNotFound" => "The specified resource does not exist.",
        "ParentNotFound" => "The specified parent path does not exist.",
        "ShareNotFound" => "The specified share does not exist.",
        "ShareAlreadyExists" => "The specified share already exists.",
        "ResourceAlreadyExists" => "The specified resource already exists.",
        "LeaseIdMissing" => {
            "There is currently a lease on the resource and no lease ID was specified in the \
             request."
        }
        "InvalidRange" => "The range specified is invalid for the current size of the resource.",
        "ServerBusy" => "The server is busy.",
        "ReadOnlyAttribute" => "The specified resource is read-only and cannot be modified.",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let mut words = String::new();
    for (at, letter) in code.chars().enumerate() {
        if at > 0 && letter.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(if at > 0 { letter.to_ascii_lowercase() } else { letter });
    }
    words + "."
}
