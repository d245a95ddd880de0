//! The login of an Azure storage account: from a file that only its owner can read, or from the
//! variables that Microsoft's own tools use. It is handed to the remote and written nowhere.

use crate::fail;
use crate::keyring::Place;
use crate::secret::Wanted;
use crate::system::files;
use anyhow::Result;
use covefs_remote::azure::{AUTHORITY, Account, Entra, Identity, MACHINE};
use std::path::Path;

const CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
const ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";
const KEY: &str = "AZURE_STORAGE_KEY";
const SAS: &str = "AZURE_STORAGE_SAS_TOKEN";
const ENDPOINT: &str = "AZURE_STORAGE_FILE_ENDPOINT";
const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT: &str = "AZURE_CLIENT_ID";
const SECRET: &str = "AZURE_CLIENT_SECRET";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const KIND: &str = "AZURE_TOKEN_CREDENTIALS";
const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";
const MACHINE_HOST: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// What to do where there is none.
const HOW: &str = "set AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY, \
                   AZURE_STORAGE_SAS_TOKEN or, for Entra ID, AZURE_TOKEN_CREDENTIALS; or write \
                   one of them as NAME=VALUE into a file that only you can read (chmod 600) and \
                   name that with --credentials FILE; covefs login azfiles://ACCOUNT/SHARE keeps a key \
                   in your keyring";

/// The login for the account of this name, which a share names; a file is stronger than the
/// environment. `endpoint` is the account's address, where the share's name tells another than
/// the usual one; `kept` is what a keyring has.
pub(crate) fn read(
    account: &str,
    endpoint: Option<&str>,
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
    kept: Option<&str>,
) -> Result<Account> {
    let (login, place) = match file {
        Some(path) => {
            let text = files::read_secret(path)?;
            let place = path.display().to_string();
            (of_variables(account, &place, |name| line(&text, name))?, place)
        }
        None => {
            let set = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
            match (of_variables(account, "the environment", set)?, kept) {
                (None, Some(kept)) => {
                    let login = of_text(account, kept, set(ENDPOINT))?;
                    (Some(login), "the keyring".to_string())
                }
                (login, _) => (login, "the environment".to_string()),
            }
        }
    };
    let Some(login) = login else {
        return Err(fail::usage(match file {
            Some(_) => format!("no login for the storage account {account} in {place}; {HOW}"),
            None => format!("no login for the storage account {account}; {HOW}"),
        }));
    };
    match endpoint {
        Some(endpoint) => login.at(endpoint).map_err(|error| said(&place, &error)),
        None => Ok(login),
    }
}

/// What a keyring may have for an account.
pub(crate) fn secret(account: &str) -> Wanted {
    Wanted {
        place: Place { service: format!("covefs azfiles://{account}"), user: account.into() },
        what: format!("account key, SAS token or connection string of {account}"),
        is_typed: false,
    }
}

/// What a keyring has to be asked for; `None` where the login is said somewhere, or a file is
/// named that should say it.
pub(crate) fn missing(
    account: &str,
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
) -> Option<Wanted> {
    let set = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
    // What is wrong with it is said when it is used.
    let is_said = file.is_some() || !matches!(of_variables(account, "", set), Ok(None));
    (!is_said).then(|| secret(account))
}

/// A login by the text alone: a key, a SAS token or a connection string, as the portal shows them.
/// `endpoint` is the account's address, where the environment tells another than the usual one.
pub(crate) fn of_text(account: &str, text: &str, endpoint: Option<String>) -> Result<Account> {
    let text = text.trim();
    let has = |part: &str| text.to_ascii_lowercase().contains(part);
    let name = if has("accountname=") || has("accountkey=") || has("sharedaccesssignature=") {
        CONNECTION_STRING
    } else if has("sig=") {
        SAS
    } else {
        KEY
    };
    let get = |wanted: &str| match wanted {
        ENDPOINT => endpoint.clone(),
        _ => (wanted == name).then(|| text.to_string()),
    };
    match of_variables(account, "the keyring", get)? {
        Some(login) => Ok(login),
        None => Err(fail::usage(format!("no login for the storage account {account}; {HOW}"))),
    }
}

/// What the variables say, if anything.
pub(crate) fn of_variables(
    account: &str,
    place: &str,
    get: impl Fn(&str) -> Option<String>,
) -> Result<Option<Account>> {
    let other = |theirs: &str| {
        fail::usage(format!(
            "the login in {place} is for the storage account {theirs}, the share is in {account}; \
             name the share of that account, or give the login of {account}"
        ))
    };
    if let Some(text) = get(CONNECTION_STRING) {
        let login = Account::from_connection_string(&text);
        let login =
            login.map_err(|error| said(&format!("{CONNECTION_STRING} in {place}"), &error))?;
        return if login.name() == account { Ok(Some(login)) } else { Err(other(login.name())) };
    }
    let named = get(ACCOUNT);
    let (login, name) = match (get(KEY), get(SAS)) {
        (Some(key), _) => (Account::with_key(account, &key), KEY),
        (None, Some(token)) => (Account::with_sas(account, &token), SAS),
        (None, None) => match entra(place, &get)? {
            Some(entra) => (Account::with_tokens(account, entra), KIND),
            None => return Ok(None),
        },
    };
    if let Some(named) = named.filter(|named| named.trim() != account) {
        return Err(other(named.trim()));
    }
    let login = login.map_err(|error| said(&format!("{name} in {place}"), &error))?;
    match get(ENDPOINT) {
        Some(endpoint) => {
            let login = login.at(endpoint.trim());
            login.map(Some).map_err(|error| said(&format!("{ENDPOINT} in {place}"), &error))
        }
        None => Ok(Some(login)),
    }
}

/// A login by Entra ID, chosen as Microsoft's own libraries do: by the variables that are set, or
/// by the name of a kind where one needs none.
fn entra(place: &str, get: &impl Fn(&str) -> Option<String>) -> Result<Option<Entra>> {
    let need = |name: &str| {
        let missing = || fail::usage(format!("{place}: this login needs {name}"));
        get(name).ok_or_else(missing)
    };
    let kind = match get(KIND) {
        Some(kind) => kind.trim().to_ascii_lowercase(),
        None if get(SECRET).is_some() => "environmentcredential".into(),
        None if get(TOKEN_FILE).is_some() => "workloadidentitycredential".into(),
        None => return Ok(None),
    };
    let identity = match kind.as_str() {
        "environmentcredential" => {
            Identity::Secret { tenant: need(TENANT)?, client: need(CLIENT)?, secret: need(SECRET)? }
        }
        "workloadidentitycredential" => Identity::Workload {
            tenant: need(TENANT)?,
            client: need(CLIENT)?,
            file: need(TOKEN_FILE)?.into(),
        },
        "managedidentitycredential" => Identity::Machine { client: get(CLIENT) },
        "azureclicredential" => Identity::Cli { program: "az".into(), tenant: get(TENANT) },
        _ => {
            return Err(fail::usage(format!(
                "{KIND} in {place}: '{kind}' is none of EnvironmentCredential, \
                 WorkloadIdentityCredential, ManagedIdentityCredential and AzureCliCredential"
            )));
        }
    };
    Ok(Some(Entra {
        identity,
        authority: get(AUTHORITY_HOST).unwrap_or_else(|| AUTHORITY.into()),
        machine: get(MACHINE_HOST).unwrap_or_else(|| MACHINE.into()),
    }))
}

fn said(place: &str, error: &covefs_remote::Error) -> anyhow::Error {
    let why = error.source.as_ref().map_or_else(|| error.to_string(), ToString::to_string);
    fail::usage(format!("{place}: {why}"))
}

/// The value of a line `NAME=VALUE`, with quotes or without, after `export` or not.
pub(crate) fn line(text: &str, wanted: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let (name, value) = line.split_once('=')?;
        let value = value.trim();
        let bare = ['"', '\''].iter().find_map(|quote| {
            value.strip_prefix(*quote).and_then(|rest| rest.strip_suffix(*quote))
        });
        let value = bare.unwrap_or(value);
        (name.trim_end() == wanted && !value.is_empty()).then(|| value.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET_KEY: &str = "aHVudGVyMg==";

    fn from(set: &[(&str, &str)], account: &str) -> Result<Account> {
        read(
            account,
            None,
            None,
            |name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string())
            },
            None,
        )
    }

    fn line_of(outcome: Result<Account>) -> (u8, String) {
        let error = outcome.unwrap_err();
        let line = fail::one_line(&error);
        assert!(!line.contains("aHVudGVy") && !line.contains("hunter2"), "{line}");
        (fail::exit_code(&error), line)
    }

    #[test]
    fn the_environment_names_the_login() {
        let string = format!("AccountName=acme;AccountKey={SECRET_KEY}");
        for set in [
            &[(CONNECTION_STRING, &*string)][..],
            &[(KEY, SECRET_KEY)],
            &[(ACCOUNT, "acme"), (KEY, SECRET_KEY)],
            &[(SAS, "?sv=1&sig=hunter2")],
            &[(TENANT, "t"), (CLIENT, "c"), (SECRET, "hunter2")],
            &[(TENANT, "t"), (CLIENT, "c"), (TOKEN_FILE, "/f")],
            &[(KIND, "ManagedIdentityCredential")],
            &[(KIND, "azureclicredential")],
        ] {
            assert_eq!(from(set, "acme").unwrap().name(), "acme", "{set:?}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_said_with_what_to_do() {
        let string = format!("AccountName=other;AccountKey={SECRET_KEY}");
        for (set, wanted) in [
            (&[][..], "set AZURE_STORAGE_CONNECTION_STRING"),
            (&[(ACCOUNT, "acme")], "set AZURE_STORAGE_CONNECTION_STRING"),
            (&[(KEY, " ")], "no login for the storage account acme"),
            (&[(CONNECTION_STRING, &*string)], "for the storage account other"),
            (&[(ACCOUNT, "other"), (KEY, SECRET_KEY)], "for the storage account other"),
            (&[(KEY, "hunter2!")], "AZURE_STORAGE_KEY in the environment: the account key"),
            (&[(SAS, "hunter2")], "AZURE_STORAGE_SAS_TOKEN in the environment: the SAS token"),
            (&[(CONNECTION_STRING, "hunter2")], "AZURE_STORAGE_CONNECTION_STRING in the env"),
            (&[(SECRET, "hunter2"), (CLIENT, "c")], "needs AZURE_TENANT_ID"),
            (&[(TOKEN_FILE, "/f"), (TENANT, "t")], "needs AZURE_CLIENT_ID"),
            (&[(KIND, "prod")], "none of EnvironmentCredential"),
            (&[(KEY, SECRET_KEY), (ENDPOINT, "x")], "AZURE_STORAGE_FILE_ENDPOINT in the env"),
            (
                &[(KIND, "ManagedIdentityCredential"), (ENDPOINT, "http://127.0.0.1:1/acme")],
                "never sent to http://",
            ),
        ] {
            let (code, line) = line_of(from(set, "acme"));
            assert!(code == 2 && line.contains(wanted), "{line}");
        }
    }

    #[test]
    fn a_keyring_is_asked_for_what_stands_nowhere() {
        let nothing = |_: &str| None;
        let key = |name: &str| (name == KEY).then(|| SECRET_KEY.to_string());
        assert_eq!(missing("acme", None, nothing).unwrap(), secret("acme"));
        assert!(missing("acme", None, key).is_none());
        assert!(missing("acme", Some(Path::new("/login")), nothing).is_none());
        let string = format!("AccountName=acme;AccountKey={SECRET_KEY}");
        for kept in [SECRET_KEY, "?sv=1&sig=hunter2", &string] {
            let login = read("acme", None, None, nothing, Some(kept)).unwrap();
            assert_eq!(login.name(), "acme");
            let shown = format!("{login:?}");
            assert!(!shown.contains("hunter2") && !shown.contains("aHVu"), "{shown}");
        }
        let (code, line) = line_of(read("other", None, None, nothing, Some(&string)));
        assert!(code == 2 && line.contains("the login in the keyring is for"), "{line}");
        let elsewhere = |name: &str| (name == ENDPOINT).then(|| "x".to_string());
        let (_, line) = line_of(read("acme", None, None, elsewhere, Some(SECRET_KEY)));
        assert!(line.contains("AZURE_STORAGE_FILE_ENDPOINT in the keyring"), "{line}");
        let (_, line) = line_of(read("acme", None, None, nothing, Some("hunter2!")));
        assert!(line.contains("AZURE_STORAGE_KEY in the keyring"), "{line}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_must_be_its_owner_s_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login");
        let text = format!("# acme\nexport AZURE_STORAGE_KEY=\"{SECRET_KEY}\"\n");
        std::fs::write(&path, text).unwrap();
        let from_file = |mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let none = |_: &str| Some("another".to_string());
            read("acme", None, Some(&path), none, None)
        };
        assert_eq!(from_file(0o600).unwrap().name(), "acme");
        assert_eq!(from_file(0o400).unwrap().name(), "acme");
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let (code, line) = line_of(from_file(mode));
            assert!(code == 2 && line.contains("chmod 600"), "{mode:o} {line}");
        }
        std::fs::write(&path, "AZURE_STORAGE_ACCOUNT=acme\n").unwrap();
        assert!(line_of(from_file(0o600)).1.contains("no login"));
        let gone = read("acme", None, Some(&dir.path().join("gone")), |_| None, None);
        assert!(line_of(gone).1.contains("open the credentials"));
        assert!(
            line_of(read("acme", None, Some(dir.path()), |_| None, None)).1.contains("not a file")
        );
    }
}
