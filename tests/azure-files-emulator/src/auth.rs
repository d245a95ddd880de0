//! Who asks, and may they: account key, shared access signatures, tokens.

pub mod sas;
mod shared_key;
pub mod token;

use crate::call::Call;
use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::store::Share;
use crate::time::Ticks;
use std::sync::atomic::{AtomicU64, Ordering};

const SKEW_SECONDS_MAX: i64 = 15 * 60;

/// What the credentials of a request let it do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everything: the account key, or a token of a role that may do everything.
    All,
    /// What these letters stand for.
    Letters(String),
}

impl Access {
    /// Whether one of `letters` is granted.
    pub fn may(&self, letters: &str) -> bool {
        match self {
            Access::All => true,
            Access::Letters(granted) => letters.chars().any(|letter| granted.contains(letter)),
        }
    }

    /// The same, or the error.
    pub fn check(&self, letters: &str) -> Result<()> {
        match self.may(letters) {
            true => Ok(()),
            false => Err(Error::new("AuthorizationPermissionMismatch")),
        }
    }
}

/// The account that requests are checked against.
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its key, decoded.
    pub key: Vec<u8>,
    /// Tokens of earlier generations are refused.
    token_generation: AtomicU64,
}

/// What a SAS may be checked against besides itself.
pub struct Target<'a> {
    /// The share's name.
    pub share: &'a str,
    /// The share, if it is there: stored policies.
    pub stored: Option<&'a Share>,
    /// Below the share.
    pub path: &'a [String],
}

impl Account {
    /// An account of which no token was revoked.
    pub fn new(name: &str, key: Vec<u8>) -> Account {
        Account { name: name.to_owned(), key, token_generation: AtomicU64::new(0) }
    }

    /// Which tokens hold.
    pub fn token_generation(&self) -> u64 {
        self.token_generation.load(Ordering::Relaxed)
    }

    /// No token that was given until now holds any more.
    pub fn revoke_tokens(&self) {
        self.token_generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks a request's credentials for what it asks.
    pub fn authorize(
        &self,
        call: &Call,
        operation: Operation,
        target: &Target<'_>,
        now: Ticks,
    ) -> Result<Access> {
        let access = match call.header("authorization") {
            Some(text) if text.starts_with("SharedKey ") => {
                shared_key::check(self, call, &text["SharedKey ".len()..], now)?;
                Access::All
            }
            Some(text) if text.starts_with("Bearer ") => {
                self.check_bearer(call, operation, &text["Bearer ".len()..], now)?;
                Access::All
            }
            Some(_) => return Err(Error::new("InvalidAuthenticationInfo")),
            None if call.query("sig").is_some() => {
                sas::check(self, call, &call.query, operation, target, now)?
            }
            None => return Err(Error::new("NoAuthenticationInformation")),
        };
        let (_, letters) = operation.needs();
        if access != Access::All {
            access.check(letters)?;
        }
        Ok(access)
    }

    /// Checks the SAS of a URL that is a source: it must grant one of `letters`.
    pub fn authorize_source(
        &self,
        call: &Call,
        query: &[(String, String)],
        target: &Target<'_>,
        letters: &str,
        now: Ticks,
    ) -> Result<()> {
        sas::check(self, call, query, Operation::GetFile, target, now)?.check(letters)
    }

    fn check_bearer(
        &self,
        call: &Call,
        operation: Operation,
        text: &str,
        now: Ticks,
    ) -> Result<()> {
        if !call.secure {
            // The service's own gateway does the same: a token on a plain line is a lost token.
            return Err(Error::authentication("Bearer tokens need HTTPS.".to_owned()));
        }
        token::check(self, text, now).map_err(|_| Error::new("InvalidAuthenticationInfo"))?;
        if operation == Operation::GetUserDelegationKey {
            return Ok(());
        }
        if call.required("x-ms-file-request-intent")?.eq_ignore_ascii_case("backup") {
            let version = call.header("x-ms-version").unwrap_or_default();
            let least = if operation.is_management() { "2024-11-04" } else { "2022-11-02" };
            match version >= least {
                true => Ok(()),
                false => Err(Error::new("FileOAuthManagementApiRestrictedToSrp")),
            }
        } else {
            Err(Error::header("x-ms-file-request-intent", "backup"))
        }
    }
}

/// The version that a request speaks, which is answered with it. Versions newer than this server
/// are taken for what it knows.
pub fn version(call: &Call) -> Result<String> {
    let sent = call.header("x-ms-version").or_else(|| call.query("sv"));
    let version = sent.ok_or_else(|| Error::missing_header("x-ms-version"))?;
    let shape: String = version.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    match shape == "0000-00-00" {
        true => Ok(version.to_owned()),
        false => Err(Error::header("x-ms-version", version)),
    }
}
