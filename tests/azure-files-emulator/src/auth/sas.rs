//! Shared access signatures: of the account, of a share or file, with a stored policy or without,
//! signed by the account key or by a user delegation key.

use super::{Access, Account, Target, token};
use crate::call::Call;
use crate::crypto;
use crate::error::{Error, Result};
use crate::names::percent_encode;
use crate::operation::Operation;
use crate::store::Policy;
use crate::time::Ticks;
use std::net::IpAddr;

/// The parameters of a token.
struct Token<'a>(&'a [(String, String)]);

impl Token<'_> {
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    fn lines(&self, names: &[&str]) -> String {
        names.iter().map(|name| self.get(name)).collect::<Vec<_>>().join("\n")
    }
}

/// Checks the SAS in `query` and says what it grants.
pub fn check(
    account: &Account,
    call: &Call,
    query: &[(String, String)],
    operation: Operation,
    target: &Target<'_>,
    now: Ticks,
) -> Result<Access> {
    let token = Token(query);
    let of_account = !token.get("ss").is_empty();
    let text = match of_account {
        true => account_string(account, &token),
        false => service_string(account, &token, target)?,
    };
    let key = match token.get("skoid").is_empty() {
        true => account.key.clone(),
        false => token::delegation_key(account, |name| token.get(name).to_owned()),
    };
    if crypto::sign(&key, &text) != token.get("sig") {
        let detail = format!("Signature did not match. String to sign used was {text}");
        return Err(Error::authentication(detail));
    }
    let policy = stored_policy(&token, target)?;
    check_times(&token, policy, now)?;
    if !token.get("skoid").is_empty() {
        let ends = Ticks::parse_iso(token.get("ske"));
        if ends.is_none_or(|ends| ends <= now) {
            return Err(Error::authentication("The delegation key has expired.".to_owned()));
        }
    }
    check_line(&token, call)?;
    if of_account {
        check_account(&token, operation)?;
    } else {
        let too_much = match token.get("sr") {
            "f" => operation.needs().0 != 'o',
            _ => operation.needs().0 == 's' || is_of_the_share_itself(operation),
        };
        if too_much {
            return Err(Error::new("AuthorizationPermissionMismatch"));
        }
    }
    let stored = policy.map_or("", |policy| &policy.permission);
    Ok(Access::Letters(format!("{}{stored}", token.get("sp"))))
}

const ISSUED_VERSION: &str = "2025-01-05";

/// An account SAS for all resource types.
pub fn issue_account(account: &Account, permissions: &str, expiry: &str) -> String {
    let pairs = [
        ("sv", ISSUED_VERSION),
        ("ss", "f"),
        ("srt", "sco"),
        ("sp", permissions),
        ("se", expiry),
        ("spr", "https,http"),
    ];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let text = account_string(account, &Token(&pairs));
    as_query(&pairs, &crypto::sign(&account.key, &text))
}

/// A SAS of one share.
pub fn issue_share(account: &Account, share: &str, permissions: &str, expiry: &str) -> String {
    let pairs = [("sv", ISSUED_VERSION), ("sr", "s"), ("sp", permissions), ("se", expiry)];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let text = resource_string(&Token(&pairs), &format!("/file/{}/{share}", account.name));
    as_query(&pairs, &crypto::sign(&account.key, &text))
}

fn as_query(pairs: &[(String, String)], signature: &str) -> String {
    let signature = ("sig".to_owned(), signature.to_owned());
    let all = pairs.iter().chain(std::iter::once(&signature));
    let all = all.map(|(name, value)| format!("{name}={}", percent_encode(value)));
    all.collect::<Vec<_>>().join("&")
}

fn account_string(account: &Account, token: &Token<'_>) -> String {
    let mut names = vec!["sp", "ss", "srt", "st", "se", "sip", "spr", "sv"];
    if token.get("sv") >= "2020-12-06" {
        names.push("ses");
    }
    format!("{}\n{}\n", account.name, token.lines(&names))
}

fn service_string(account: &Account, token: &Token<'_>, target: &Target<'_>) -> Result<String> {
    let below = match token.get("sr") {
        "s" => String::new(),
        "f" => format!("/{}", target.path.join("/")),
        other => {
            return Err(Error::authentication(format!("sr={other} is not known here.")));
        }
    };
    let resource = format!("/file/{}/{}{below}", account.name, target.share);
    Ok(resource_string(token, &resource))
}

fn resource_string(token: &Token<'_>, resource: &str) -> String {
    let signer: &[&str] = match token.get("skoid").is_empty() {
        true => &["si"],
        false => &["skoid", "sktid", "skt", "ske", "sks", "skv", "skdutid", "sduoid"],
    };
    let begin = token.lines(&["sp", "st", "se"]);
    let end = token.lines(&["sip", "spr", "sv", "rscc", "rscd", "rsce", "rscl", "rsct"]);
    format!("{begin}\n{resource}\n{}\n{end}", token.lines(signer))
}

fn stored_policy<'a>(token: &Token<'_>, target: &Target<'a>) -> Result<Option<&'a Policy>> {
    let id = token.get("si");
    if id.is_empty() {
        return Ok(None);
    }
    let policies = target.stored.map_or(&[][..], |share| &share.policies);
    let policy = policies.iter().find(|policy| policy.id == id);
    let policy =
        policy.ok_or_else(|| Error::authentication(format!("No policy is named {id}.")))?;
    let pairs = [("st", &policy.start), ("se", &policy.expiry), ("sp", &policy.permission)];
    match pairs.iter().find(|(name, value)| !value.is_empty() && !token.get(name).is_empty()) {
        None => Ok(Some(policy)),
        Some((name, _)) => {
            Err(Error::authentication(format!("{name} is in the token and in its policy.")))
        }
    }
}

fn check_times(token: &Token<'_>, policy: Option<&Policy>, now: Ticks) -> Result<()> {
    let either = |name: &str, stored: Option<&String>| {
        let sent = token.get(name);
        if sent.is_empty() { stored.cloned().unwrap_or_default() } else { sent.to_owned() }
    };
    let start = either("st", policy.map(|policy| &policy.start));
    let expiry = either("se", policy.map(|policy| &policy.expiry));
    let malformed = || Error::authentication("Signature fields not well formed.".to_owned());
    let expired = |what: &str| Error::authentication(format!("Signature not valid: {what}"));
    if !start.is_empty() && Ticks::parse_iso(&start).ok_or_else(malformed)? > now {
        return Err(expired(&format!("it starts at {start}, now is {}.", now.iso())));
    }
    if Ticks::parse_iso(&expiry).ok_or_else(malformed)? <= now {
        return Err(expired(&format!("it expired at {expiry}, now is {}.", now.iso())));
    }
    Ok(())
}

/// The protocol and the address that a token may be used over and from.
fn check_line(token: &Token<'_>, call: &Call) -> Result<()> {
    if token.get("spr") == "https" && !call.secure {
        return Err(Error::new("AuthorizationProtocolMismatch"));
    }
    let allowed = token.get("sip");
    if allowed.is_empty() {
        return Ok(());
    }
    let (first, last) = allowed.split_once('-').unwrap_or((allowed, allowed));
    let within = match (first.parse::<IpAddr>(), last.parse::<IpAddr>()) {
        (Ok(first), Ok(last)) => first <= call.peer && call.peer <= last,
        _ => false,
    };
    if within { Ok(()) } else { Err(Error::new("AuthorizationSourceIPMismatch")) }
}

fn check_account(token: &Token<'_>, operation: Operation) -> Result<()> {
    if !token.get("ss").contains('f') {
        return Err(Error::new("AuthorizationServiceMismatch"));
    }
    let (kind, letters) = operation.needs();
    if !token.get("srt").contains(kind) {
        return Err(Error::new("AuthorizationResourceTypeMismatch"));
    }
    // Policies and delegation keys are for those who have the key or a token.
    match letters.is_empty() {
        true => Err(Error::new("AuthorizationFailure")),
        false => Ok(()),
    }
}

fn is_of_the_share_itself(operation: Operation) -> bool {
    operation.needs().0 == 'c' && operation != Operation::ListDirectory
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEVELOPMENT_KEY;

    fn account() -> Account {
        let key = crypto::from_base64(DEVELOPMENT_KEY).unwrap();
        Account::new("devstoreaccount1", key)
    }

    fn pairs(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
        parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[track_caller]
    fn check_service(path: &[&str], parameters: &[(&str, &str)], text: &str, signature: &str) {
        let account = account();
        let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        let target = Target { share: "docs", stored: None, path: &path };
        let made = service_string(&account, &Token(&pairs(parameters)), &target).unwrap();
        assert_eq!(made, text);
        assert_eq!(crypto::sign(&account.key, &made), signature);
    }

    #[test]
    fn the_vector_of_an_account_sas() {
        let parameters = pairs(&[
            ("sp", "rwdlc"),
            ("ss", "f"),
            ("srt", "sco"),
            ("st", "2026-01-02T03:04:05Z"),
            ("se", "2030-01-01T00:00:00Z"),
            ("spr", "https,http"),
            ("sv", "2026-10-06"),
        ]);
        let text = account_string(&account(), &Token(&parameters));
        let expected = "devstoreaccount1\nrwdlc\nf\nsco\n2026-01-02T03:04:05Z\n\
            2030-01-01T00:00:00Z\n\nhttps,http\n2026-10-06\n\n";
        assert_eq!(text, expected);
        let signature = crypto::sign(&account().key, &text);
        assert_eq!(signature, "YwuAX0xv6BcldheFs38Ghl8B9x2rr2yaafuW+1cSYas=");
    }

    #[test]
    fn the_vector_of_a_share_sas() {
        let parameters = [
            ("sr", "s"),
            ("sp", "rcwdl"),
            ("st", "2026-01-02T03:04:05Z"),
            ("se", "2030-01-01T00:00:00Z"),
            ("sv", "2025-01-05"),
        ];
        check_service(
            &["any"],
            &parameters,
            "rcwdl\n2026-01-02T03:04:05Z\n2030-01-01T00:00:00Z\n/file/devstoreaccount1/docs\n\n\n\n\
             2025-01-05\n\n\n\n\n",
            "xIwGX+EHCNpyWRwOgpXB0HkAxkKKfBjptXWCUgCaiiI=",
        );
    }

    #[test]
    fn the_vector_of_a_file_sas() {
        let parameters = [
            ("sr", "f"),
            ("sp", "r"),
            ("se", "2030-01-01T00:00:00Z"),
            ("rscd", "attachment; filename=x.txt"),
            ("sv", "2025-01-05"),
        ];
        check_service(
            &["a b", "r\u{e9}sum\u{e9}%.txt"],
            &parameters,
            "r\n\n2030-01-01T00:00:00Z\n/file/devstoreaccount1/docs/a b/r\u{e9}sum\u{e9}%.txt\n\n\n\n\
             2025-01-05\n\nattachment; filename=x.txt\n\n\n",
            "vwt9Cshj4rC4sxREjPE6eYmNFJVN6bnx7snwu1WGwXo=",
        );
    }

    #[test]
    fn the_vector_of_a_stored_policy() {
        check_service(
            &[],
            &[("sr", "s"), ("si", "reader"), ("sv", "2025-01-05")],
            "\n\n\n/file/devstoreaccount1/docs\nreader\n\n\n2025-01-05\n\n\n\n\n",
            "ZwKWAbWXI/XlxhiwgGY61KxNcYTy4RDVlXch9RvlCAg=",
        );
    }
}
