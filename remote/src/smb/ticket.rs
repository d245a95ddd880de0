//! Logging in by a Kerberos ticket, as `kinit` leaves it in a file, instead of by a password.
//!
//! The file is read anew at each login: whoever renews a ticket renews it there. A ticket for the
//! server is used as it is; else the one for all (TGT) gets one, of the KDC that the configuration of
//! Kerberos names for the realm. Nothing is written back.

use super::fail::{Fail, Outcome};
use crate::{ErrorKind, Timestamp};
use smb2::auth::kerberos::KerberosCredentials;
use smb2::auth::kerberos::ccache::{CCache, parse_ccache};
use smb2::client::connection::Connection;
use smb2::client::session::Session as Keys;
use std::path::PathBuf;

/// What servers of files are called in tickets.
const SERVICE: &str = "cifs";

/// Where a ticket is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// The user's tickets: a file as MIT's Kerberos has it.
    pub cache: PathBuf,
    /// Where the KDC of a realm is: a `krb5.conf`.
    pub config: PathBuf,
}

/// Logs in by a ticket for `host`. `user`: whose it has to be, where somebody said.
pub(super) async fn log_in(
    connection: &mut Connection,
    ticket: &Ticket,
    user: &str,
    host: &str,
) -> Outcome<Keys> {
    let (mut cache, config) = read(ticket.clone()).await?;
    let refused = |text: String| Fail::saying(ErrorKind::Unauthenticated, text);
    let shown = ticket.cache.display();
    let principal = cache.default_principal.clone();
    let owner = principal.components.join("/");
    if !user.is_empty() && !user.eq_ignore_ascii_case(&owner) {
        return Err(refused(format!("the ticket in {shown} is of {owner}, not of {user}")));
    }
    let now = Timestamp::now().seconds;
    cache.credentials.retain(|ticket| i64::from(ticket.endtime) > now);
    let has_own = cache.find_service_ticket(SERVICE, host, &principal.realm).is_some();
    if !has_own && cache.find_tgt(&principal.realm).is_none() {
        return Err(refused(format!("no ticket in {shown} holds any more; get one with kinit")));
    }
    let kdc = kdc_of(&config, &principal.realm);
    if !has_own && kdc.is_none() {
        return Err(refused(format!(
            "{} names no kdc of the realm {}; write one there, or get the ticket with kvno {SERVICE}/{host}",
            ticket.config.display(),
            principal.realm
        )));
    }
    let credentials = KerberosCredentials {
        username: owner,
        password: String::new(),
        realm: principal.realm,
        kdc_address: kdc.unwrap_or_default().to_owned(),
    };
    Ok(Keys::setup_kerberos_from_ccache(connection, &credentials, host, &cache).await?)
}

/// The tickets, and the text of the configuration; there may be none.
async fn read(ticket: Ticket) -> Outcome<(CCache, String)> {
    let reading = tokio::task::spawn_blocking(move || {
        let refused = |text: String| Fail::saying(ErrorKind::Unauthenticated, text);
        let shown = ticket.cache.display();
        let bytes = std::fs::read(&ticket.cache)
            .map_err(|error| refused(format!("the tickets in {shown}: {error}; kinit gets one")))?;
        let cache = parse_ccache(&bytes).map_err(|error| refused(format!("{shown}: {error}")))?;
        Ok((cache, std::fs::read_to_string(&ticket.config).unwrap_or_default()))
    });
    reading.await.unwrap_or_else(|_| Err(ErrorKind::Io.into()))
}

/// The first `kdc` of a realm in a `krb5.conf`.
fn kdc_of<'a>(config: &'a str, realm: &str) -> Option<&'a str> {
    let mut section = "";
    let mut within = "";
    for line in config.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[') {
            (section, within) = (name.trim_end_matches(']'), "");
            continue;
        }
        if line.starts_with('}') {
            within = "";
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        match value.trim() {
            "{" => within = name.trim(),
            kdc if section == "realms" && within == realm && name.trim() == "kdc" => {
                return Some(kdc);
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kdc_of_a_realm_is_found() {
        let config = "# kdc = none\n[libdefaults]\n default_realm = A.TEST\n kdc = no\n[realms]\n \
                      A.TEST = {\n  admin_server = no\n  kdc = a.test:88\n  kdc = second\n }\n \
                      B.TEST = {\n\tkdc=b.test\n }\n[domain_realm]\n kdc = no\n";
        assert_eq!(kdc_of(config, "A.TEST"), Some("a.test:88"));
        assert_eq!(kdc_of(config, "B.TEST"), Some("b.test"));
        assert_eq!(kdc_of(config, "C.TEST"), None);
        assert_eq!(kdc_of("", "A.TEST"), None);
    }
}
