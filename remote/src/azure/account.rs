//! The storage account: its address, and who we are to it.

use super::auth::Credential;
use super::entra::{Entra, Tokens};
use super::url;
use crate::{Error, ErrorKind, RemotePath, Result};
use std::sync::Arc;

/// Where accounts of the public cloud are.
const SUFFIX: &str = "core.windows.net";

/// A storage account that may be asked.
#[derive(Clone, Debug)]
pub struct Account {
    name: String,
    /// `https://ACCOUNT.file.core.windows.net`, or with a path below it: without a last slash.
    endpoint: String,
    pub(super) credential: Credential,
}

fn wrong(text: impl Into<String>) -> Error {
    let error = Error::new(ErrorKind::Unauthenticated, "read the credentials", &RemotePath::root());
    error.caused_by(text.into())
}

impl Account {
    /// An account of the public cloud, by its key.
    pub fn with_key(name: &str, key: &str) -> Result<Account> {
        Account::new(name, None, Credential::key(key).map_err(wrong)?)
    }

    /// An account of the public cloud, by a shared access signature.
    pub fn with_sas(name: &str, token: &str) -> Result<Account> {
        Account::new(name, None, Credential::sas(token).map_err(wrong)?)
    }

    /// An account of the public cloud, by tokens of Entra ID.
    pub fn with_tokens(name: &str, entra: Entra) -> Result<Account> {
        let tokens = Tokens::new(entra).map_err(wrong)?;
        Account::new(name, None, Credential::Tokens(Arc::new(tokens)))
    }

    /// What a connection string says: the portal's, or one with a `FileEndpoint` of its own.
    pub fn from_connection_string(text: &str) -> Result<Account> {
        let value = |wanted: &str| {
            text.split(';').find_map(|part| {
                let (name, value) = part.split_once('=')?;
                let is_it = name.trim().eq_ignore_ascii_case(wanted);
                Some(value.trim()).filter(|value| is_it && !value.is_empty())
            })
        };
        let credential = match (value("AccountKey"), value("SharedAccessSignature")) {
            (Some(key), _) => Credential::key(key).map_err(wrong)?,
            (None, Some(token)) => Credential::sas(token).map_err(wrong)?,
            (None, None) => {
                return Err(wrong(
                    "the connection string has neither AccountKey nor SharedAccessSignature",
                ));
            }
        };
        let protocol = value("DefaultEndpointsProtocol").unwrap_or("https");
        let suffix = value("EndpointSuffix").unwrap_or(SUFFIX);
        let endpoint = match (value("FileEndpoint"), value("AccountName")) {
            (Some(endpoint), _) => endpoint.to_string(),
            (None, Some(name)) => format!("{protocol}://{name}.file.{suffix}"),
            (None, None) => {
                return Err(wrong(
                    "the connection string has neither AccountName nor FileEndpoint",
                ));
            }
        };
        let named = value("AccountName").map(str::to_string);
        let name = named.or_else(|| name_in(&endpoint)).ok_or_else(|| {
            wrong("the connection string's FileEndpoint tells no account; add AccountName")
        })?;
        Account::new(&name, Some(&endpoint), credential)
    }

    /// The same account at another address.
    pub fn at(self, endpoint: &str) -> Result<Account> {
        Account::new(&self.name, Some(endpoint), self.credential)
    }

    /// The account's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address, without a last slash.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn new(name: &str, endpoint: Option<&str>, credential: Credential) -> Result<Account> {
        let fits = |symbol: char| symbol.is_ascii_lowercase() || symbol.is_ascii_digit();
        if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
            return Err(wrong(format!(
                "'{name}' is no account name: small letters and digits, like acmefiles"
            )));
        }
        let endpoint = endpoint.map_or_else(
            || format!("https://{name}.file.{SUFFIX}"),
            |endpoint| endpoint.trim_end_matches('/').to_string(),
        );
        // What reads addresses leaves these out; what is compared and shown is what is asked.
        let is_plain =
            !endpoint.contains(|symbol: char| symbol.is_whitespace() || symbol.is_control());
        let parsed = reqwest::Url::parse(&endpoint).ok().filter(|url| {
            is_plain
                && matches!(url.scheme(), "http" | "https")
                && url.host().is_some()
                && url.query().is_none()
        });
        if parsed.is_none() {
            return Err(wrong(format!("'{endpoint}' is no address of a file service")));
        }
        if matches!(credential, Credential::Tokens(_)) && !endpoint.starts_with("https://") {
            return Err(wrong(format!(
                "a token is never sent to {endpoint}, which is no https://"
            )));
        }
        Ok(Account { name: name.into(), endpoint, credential })
    }

    /// Whether the login may change anything, as far as it says so itself: a token tells what it is
    /// good for, unless a policy of the share does.
    pub(super) fn may_write(&self) -> bool {
        match &self.credential {
            Credential::Key(_) | Credential::Tokens(_) => true,
            Credential::Sas(parameters) => {
                let mut permissions = parameters.iter().filter(|(name, _)| name == "sp");
                permissions.all(|(_, value)| value.contains('w'))
            }
        }
    }

    /// The token's parameters, where every URL carries them.
    pub(super) fn token(&self) -> Option<String> {
        match &self.credential {
            Credential::Key(_) | Credential::Tokens(_) => None,
            Credential::Sas(parameters) => Some(url::query(
                parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            )),
        }
    }
}

/// The account in `https://ACCOUNT.file.core.windows.net`, or in the path of a test server's
/// `http://127.0.0.1:10004/ACCOUNT`.
fn name_in(endpoint: &str) -> Option<String> {
    let url = reqwest::Url::parse(endpoint).ok()?;
    let first = url.path_segments()?.next().filter(|name| !name.is_empty());
    let host = url.host_str()?.split_once(".file.").map(|(name, _)| name);
    first.or(host).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "aHVudGVyMg==";

    #[test]
    fn connection_strings_tell_name_address_and_login() {
        for (text, name, endpoint) in [
            (
                "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=aHVudGVyMg==;\
                 EndpointSuffix=core.windows.net",
                "acme",
                "https://acme.file.core.windows.net",
            ),
            (
                "accountname=acme;ACCOUNTKEY=aHVudGVyMg==;EndpointSuffix=core.chinacloudapi.cn",
                "acme",
                "https://acme.file.core.chinacloudapi.cn",
            ),
            (
                "AccountName=dev;AccountKey=aHVudGVyMg==;FileEndpoint=http://127.0.0.1:1/dev/;",
                "dev",
                "http://127.0.0.1:1/dev",
            ),
            (
                "FileEndpoint=https://acme.file.core.windows.net/;\
                 SharedAccessSignature=sv=2025-01-05&sig=a%3D",
                "acme",
                "https://acme.file.core.windows.net",
            ),
            (
                "FileEndpoint=http://127.0.0.1:1/dev;SharedAccessSignature=sv=2025-01-05&sig=a",
                "dev",
                "http://127.0.0.1:1/dev",
            ),
        ] {
            let account = Account::from_connection_string(text).unwrap();
            assert_eq!((account.name(), account.endpoint()), (name, endpoint), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for text in [
            "",
            "AccountName=acme",
            "AccountKey=aHVudGVyMg==",
            "AccountName=Ac_me;AccountKey=aHVudGVyMg==",
            "AccountName=acme;AccountKey=aHVudGVyMg=;hunter2",
            "AccountName=acme;SharedAccessSignature=aHVudGVyMg==",
            "AccountName=acme;AccountKey=aHVudGVyMg==;FileEndpoint=ftp://x",
            "AccountName=acme;AccountKey=aHVudGVyMg==;FileEndpoint=\0https://x",
            "AccountName=acme;AccountKey=aHVudGVyMg==;FileEndpoint=ht\ntps://x",
        ] {
            let error = Account::from_connection_string(text).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("aHVudGVy") && !said.contains("hunter2"), "{said}");
        }
        let entra = Entra {
            identity: super::super::Identity::Machine { client: None },
            authority: super::super::AUTHORITY.into(),
            machine: super::super::MACHINE.into(),
        };
        let account = Account::with_tokens("acme", entra).unwrap();
        assert!(account.at("http://127.0.0.1:1/acme").is_err(), "a token over plain http");
        let account = Account::with_key("acme", KEY).unwrap();
        assert!(!format!("{account:?}").contains("hunter2"));
        assert_eq!(account.token(), None);
        let account = Account::with_sas("acme", "?sv=1&sig=a%2Bb").unwrap();
        assert_eq!(account.token().unwrap(), "sv=1&sig=a%2Bb");
        assert!(account.may_write());
        for (permissions, may) in [("rl", false), ("rcwdl", true)] {
            let token = format!("sv=1&sp={permissions}&sig=a");
            assert_eq!(Account::with_sas("acme", &token).unwrap().may_write(), may);
        }
    }
}
