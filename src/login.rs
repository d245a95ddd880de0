//! The login of an SMB server: from a file as `mount.cifs` has it, which only its owner can read,
//! from the environment, the keyring, or a person who is asked. It is handed to the remote and written nowhere.

use crate::fail;
use crate::keyring::Place;
use crate::secret::Wanted;
use crate::smb::SmbShare;
use crate::system::files;
use anyhow::Result;
use covefs_remote::smb::{Login, Ticket};
use std::path::Path;

/// What to do where there is none.
const HOW: &str = "write username=, password= and, if need be, domain= on lines of a file that only \
                   you can read (chmod 600) and name that with --credentials FILE, or set PASSWD, or keep \
                   the password in your keyring with covefs login smb://USER@HOST/SHARE, or get a \
                   Kerberos ticket with kinit and set KRB5CCNAME=FILE:...";

/// What is said of a login, in any place.
struct Said {
    user: Option<String>,
    domain: Option<String>,
    password: Option<String>,
}

/// The share's own name is stronger than a file, a file stronger than the environment.
fn gather(
    share: &SmbShare,
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Said> {
    let text = file.map(files::read_secret).transpose()?;
    let line = |names: &[&str]| text.as_deref().and_then(|text| value(text, names));
    let user = share.user.clone().or_else(|| line(&["username", "user"]));
    let user = user.or_else(|| environment("USER")).filter(|user| !user.is_empty());
    let password = match &text {
        Some(_) => line(&["password", "pass"]),
        None => environment("PASSWD"),
    };
    let domain = share.domain.clone().or_else(|| line(&["domain", "dom", "workgroup"]));
    Ok(Said { user, domain, password })
}

/// What a keyring or a person may know: the password of whom the share's name or the environment
/// says.
pub(crate) fn secret(
    share: &SmbShare,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Wanted> {
    let said = gather(share, None, environment)?;
    match &said.user {
        Some(user) => Ok(wanted(share, user, said.domain.as_deref())),
        None => Err(nobody(share)),
    }
}

/// The password that has to come from a keyring or a person; `None` where it is said somewhere, or
/// nobody is named whose it could be.
pub(crate) fn missing(
    share: &SmbShare,
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<Wanted>> {
    let said = gather(share, file, &environment)?;
    let is_said = said.password.is_some() || ticket(&environment).is_some();
    let user = said.user.filter(|_| !is_said);
    Ok(user.map(|user| wanted(share, &user, said.domain.as_deref())))
}

fn wanted(share: &SmbShare, user: &str, domain: Option<&str>) -> Wanted {
    let what = format!("password of {user} at {}", share.host);
    let (within, user) = parts(user);
    let user = match domain.or(within) {
        Some(domain) => format!("{domain}\\{user}"),
        None => user.to_string(),
    };
    // Windows and Samba fold the case of users and domains.
    let place = Place { service: format!("covefs {}", share.server()), user: user.to_lowercase() };
    Wanted { place, what, is_typed: true }
}

/// As `mount.cifs` has it: `DOMAIN\user` or `DOMAIN/user`.
fn parts(user: &str) -> (Option<&str>, &str) {
    match user.split_once(['\\', '/']) {
        Some((domain, user)) => (Some(domain), user),
        None => (None, user),
    }
}

fn nobody(share: &SmbShare) -> anyhow::Error {
    fail::usage(format!("no user for {}; write smb://USER@HOST/SHARE", share.host))
}

/// The login for a share; `typed` is what the keyring or a person said.
pub(crate) fn read(
    share: &SmbShare,
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
    typed: Option<String>,
) -> Result<Login> {
    let Said { user, domain, password } = gather(share, file, &environment)?;
    let Some(password) = password.or(typed) else {
        if let Some(ticket) = ticket(&environment) {
            let user = share.user.clone().unwrap_or_default();
            return Ok(Login { user, ticket: Some(ticket), ..Login::default() });
        }
        let shown = file.map(|file| format!(" in {}", file.display())).unwrap_or_default();
        return Err(fail::usage(format!("no password for {}{shown}; {HOW}", share.host)));
    };
    let Some(user) = user else {
        return Err(nobody(share));
    };
    let (within, user) = parts(&user);
    let domain = domain.or(within.map(str::to_string)).unwrap_or_default();
    Ok(Login { user: user.to_string(), domain, password, ticket: None })
}

/// The Kerberos tickets of the user, where they are in a file: other kinds of caches are not read.
fn ticket(environment: &impl Fn(&str) -> Option<String>) -> Option<Ticket> {
    let named = environment("KRB5CCNAME")?;
    let path = named.strip_prefix("FILE:").unwrap_or(&named);
    let config = environment("KRB5_CONFIG").unwrap_or_else(|| "/etc/krb5.conf".into());
    let ticket = Ticket { cache: path.into(), config: config.into() };
    path.starts_with('/').then_some(ticket)
}

/// The value of a line `NAME=VALUE`: all behind the sign but blanks at the line's start; of a
/// password, blanks at its end too are part of it.
pub(crate) fn value(text: &str, names: &[&str]) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let name = name.trim();
        let is_named = names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted));
        let value = match name.to_ascii_lowercase().starts_with("pass") {
            // mount.cifs allows a blank on either side of the sign.
            true => value.strip_prefix(' ').unwrap_or(value),
            false => value.trim(),
        };
        is_named.then(|| value.trim_end_matches('\r').to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> SmbShare {
        SmbShare::parse(text).unwrap().unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_mount_cifs_is_read_and_must_be_its_owner_s_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login");
        std::fs::write(&path, "username = me\npassword=hunter2 =\ndomain=WORK\n").unwrap();
        let from = |name: &str, mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            read(&share(name), Some(&path), |_| Some("of the environment".into()), None)
        };
        let login = from("//nas/x", 0o600).unwrap();
        assert_eq!((&*login.user, &*login.domain), ("me", "WORK"));
        assert_eq!(login.password, "hunter2 =");
        let named = from("smb://HOME;you@nas/x", 0o400).unwrap();
        assert_eq!((&*named.user, &*named.domain), ("you", "HOME"));
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let line = fail::one_line(&from("//nas/x", mode).unwrap_err());
            assert!(line.contains("chmod 600") && !line.contains("hunter2"), "{line}");
        }
        std::fs::write(&path, "username=me\n").unwrap();
        let line = fail::one_line(&from("//nas/x", 0o600).unwrap_err());
        assert!(line.contains("no password for nas"), "{line}");
        let gone = read(&share("//nas/x"), Some(&dir.path().join("gone")), |_| None, None);
        assert!(fail::one_line(&gone.unwrap_err()).contains("open the credentials"));
    }

    #[test]
    fn the_environment_gives_a_password() {
        let set = |name: &str| match name {
            "PASSWD" => Some("hunter2".to_string()),
            "USER" => Some(r"WORK\me".to_string()),
            _ => None,
        };
        let login = read(&share("//nas/x"), None, set, None).unwrap();
        assert_eq!((&*login.user, &*login.domain, &*login.password), ("me", "WORK", "hunter2"));
        assert!(!format!("{login:?}").contains("hunter2"));
        assert_eq!(missing(&share("//nas/x"), None, set).unwrap(), None);
        let none = read(&share("//me@nas/x"), None, |_| None, None).unwrap_err();
        assert_eq!(fail::exit_code(&none), 2);
        assert!(fail::one_line(&none).contains("--credentials FILE"));
    }

    #[test]
    fn a_ticket_stands_in_for_a_password() {
        let tickets = |name: &'static str| {
            move |wanted: &str| (wanted == "KRB5CCNAME").then(|| name.to_string())
        };
        let named = share("//me@nas/x");
        for cache in ["FILE:/run/tickets", "/run/tickets"] {
            let login = read(&named, None, tickets(cache), None).unwrap();
            let ticket = login.ticket.unwrap();
            assert_eq!((&*login.user, ticket.cache.to_str()), ("me", Some("/run/tickets")));
            assert_eq!(ticket.config.to_str(), Some("/etc/krb5.conf"));
            assert_eq!(missing(&named, None, tickets(cache)).unwrap(), None, "nobody is asked");
        }
        assert!(read(&named, None, tickets("KEYRING:persistent:0"), None).is_err());
        let login = read(&named, None, tickets("/run/tickets"), Some("typed".into())).unwrap();
        assert!(login.ticket.is_none(), "a password is stronger");
    }

    #[test]
    fn what_stands_nowhere_is_looked_for_in_the_keyring_and_asked_for() {
        let named = share("//me@nas/x");
        let wanted = missing(&named, None, |_| None).unwrap().unwrap();
        assert_eq!(wanted.what, "password of me at nas");
        assert!(wanted.is_typed);
        assert_eq!(secret(&named, |_| None).unwrap(), wanted);
        let login = read(&named, None, |_| None, Some("typed".into())).unwrap();
        assert_eq!((&*login.user, &*login.password), ("me", "typed"));
        let nobody = share("//nas/x");
        assert_eq!(missing(&nobody, None, |_| None).unwrap(), None);
        assert_eq!(fail::exit_code(&secret(&nobody, |_| None).unwrap_err()), 2);
        // The user and the domain of a file count as those of the name.
        let place = |named: &str| missing(&share(named), None, |_| None).unwrap().unwrap().place;
        assert_eq!(place("smb://WORK;me@nas/x").user, r"work\me");
    }
}
