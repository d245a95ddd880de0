//! The account key's signature of a request.

use super::{Account, SKEW_SECONDS_MAX};
use crate::call::Call;
use crate::crypto;
use crate::error::{Error, Result};
use crate::time::Ticks;
use std::collections::BTreeMap;

const SIGNED_HEADERS: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// Checks `ACCOUNT:SIGNATURE`.
pub fn check(account: &Account, call: &Call, credentials: &str, now: Ticks) -> Result<()> {
    let malformed = || Error::authentication("The Authorization header is malformed.".to_owned());
    let (name, signature) = credentials.split_once(':').ok_or_else(malformed)?;
    if name != account.name {
        let detail = format!("The account {name} is not this server's.");
        return Err(Error::authentication(detail));
    }
    check_date(call, now)?;
    let texts = [Order::Culture, Order::Bytes].map(|order| string_to_sign(call, name, order));
    if texts.iter().any(|text| crypto::sign(&account.key, text) == signature.trim()) {
        return Ok(());
    }
    Err(Error::authentication(format!(
        "The MAC signature found in the HTTP request '{signature}' is not the same as any \
         computed signature. Server used following string to sign: '{}'.",
        texts[0]
    )))
}

fn check_date(call: &Call, now: Ticks) -> Result<()> {
    let sent = call.header("x-ms-date").or_else(|| call.header("date"));
    let date = sent.and_then(Ticks::parse_rfc1123);
    match date {
        Some(date) if (date.seconds() - now.seconds()).abs() <= SKEW_SECONDS_MAX => Ok(()),
        Some(_) => Err(Error::authentication(format!(
            "Request date header too old: '{}'",
            sent.unwrap_or_default()
        ))),
        None => Err(Error::authentication("The Date header is missing or malformed.".to_owned())),
    }
}

/// How canonicalized headers are sorted: clients differ where metadata names mix letters,
/// digits, `-` and `_`.
#[derive(Clone, Copy)]
pub enum Order {
    /// Hyphens count last, `_` before digits before letters.
    Culture,
    /// By their bytes.
    Bytes,
}

/// What is signed.
pub fn string_to_sign(call: &Call, account: &str, order: Order) -> String {
    let mut text = format!("{}\n", call.method.as_str().to_uppercase());
    for name in SIGNED_HEADERS {
        let dated = name == "date" && call.headers.contains_key("x-ms-date");
        let value = call.header(name).filter(|_| !dated).unwrap_or_default();
        let is_zero = name == "content-length" && value == "0";
        text.push_str(if is_zero { "" } else { value });
        text.push('\n');
    }
    let mut headers: Vec<(&str, String)> = Vec::new();
    for name in call.headers.keys().map(|name| name.as_str()) {
        if name.starts_with("x-ms-") {
            let values = call.headers.get_all(name).iter();
            let values: Vec<String> = values
                .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
                .collect();
            headers.push((name, values.join(",")));
        }
    }
    match order {
        Order::Bytes => headers.sort(),
        Order::Culture => headers.sort_by_key(|(name, _)| (weights(name), name.to_string())),
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}:{value}\n"));
    }
    text.push_str(&format!(
        "/{account}{}",
        if call.raw_path.is_empty() { "/" } else { &call.raw_path }
    ));
    let mut query: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in &call.query {
        query.entry(name).or_default().push(value);
    }
    for (name, mut values) in query {
        values.sort_unstable();
        text.push_str(&format!("\n{name}:{}", values.join(",")));
    }
    text
}

fn weights(name: &str) -> Vec<(u8, char)> {
    let weight = |c: char| match c {
        'a'..='z' => (2, c),
        '0'..='9' => (1, c),
        _ => (0, c),
    };
    name.chars().filter(|c| *c != '-').map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEVELOPMENT_KEY;
    use bytes::Bytes;
    use std::net::{IpAddr, Ipv4Addr};

    const BASE: [(&str, &str); 2] =
        [("x-ms-date", "Fri, 02 Jan 2026 03:04:05 GMT"), ("x-ms-version", "2025-01-05")];

    fn call(method: &str, target: &str, headers: &[(&str, &str)]) -> Call {
        let mut request = hyper::Request::builder().method(method).uri(target);
        for (name, value) in BASE.iter().chain(headers) {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Call::new(&parts, Bytes::new(), false, IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap()
    }

    #[track_caller]
    fn check_vector(account: &str, call: &Call, text: &str, signature: &str) {
        let key = crypto::from_base64(DEVELOPMENT_KEY).unwrap();
        let signed = string_to_sign(call, account, Order::Culture);
        assert_eq!(signed, text);
        assert_eq!(crypto::sign(&key, &signed), signature);
        let account = Account::new(account, key);
        let then = Ticks::parse_iso("2026-01-02T03:10:00Z").unwrap();
        let good = format!("{}:{signature}", account.name);
        assert_eq!(check(&account, call, &good, then), Ok(()));
        let late = Ticks::parse_iso("2026-01-02T03:20:00Z").unwrap();
        assert_eq!(check(&account, call, &good, late).unwrap_err().code, "AuthenticationFailed");
        let bad = good.replace(':', ":A");
        let refused = check(&account, call, &bad, then).unwrap_err();
        assert!(refused.details[0].1.contains(text), "the refusal says what was signed");
    }

    #[test]
    fn vector_1_creating_a_share_path_style() {
        let target = "http://127.0.0.1:10004/devstoreaccount1/docs?restype=share";
        check_vector(
            "devstoreaccount1",
            &call("PUT", target, &[("content-length", "0")]),
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 02 Jan 2026 03:04:05 GMT\n\
             x-ms-version:2025-01-05\n/devstoreaccount1/devstoreaccount1/docs\nrestype:share",
            "20vdOdHCMpuR32XAZMOJCDIJ0wUAHJhhktrhkprMAyc=",
        );
    }

    #[test]
    fn vector_2_a_range_of_a_file_with_escapes_in_its_name() {
        let target =
            "https://acct1.file.core.windows.net/docs/a%20b/r%C3%A9sum%C3%A9%25.txt?comp=range";
        let headers = [
            ("content-length", "5"),
            ("content-type", "application/octet-stream"),
            ("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="),
            ("x-ms-write", "update"),
            ("x-ms-range", "bytes=0-4"),
        ];
        check_vector(
            "acct1",
            &call("PUT", target, &headers),
            "PUT\n\n\n5\nXUFAKrxLKna5cZ2REBfFkg==\napplication/octet-stream\n\n\n\n\n\n\n\
             x-ms-date:Fri, 02 Jan 2026 03:04:05 GMT\nx-ms-range:bytes=0-4\n\
             x-ms-version:2025-01-05\nx-ms-write:update\n\
             /acct1/docs/a%20b/r%C3%A9sum%C3%A9%25.txt\ncomp:range",
            "fuzAlUUGLiBVHY+pPJZbGGV3cpG80rAYAb5Tuq53nlA=",
        );
    }

    #[test]
    fn vector_3_a_listing_with_many_parameters() {
        let target = "https://acct1.file.core.windows.net/docs/a%20b?restype=directory&comp=list\
            &prefix=x%2By&maxresults=100&include=Timestamps,Etag\
            &sharesnapshot=2026-01-02T03:04:05.0000000Z";
        check_vector(
            "acct1",
            &call("GET", target, &[("x-ms-file-extended-info", "true")]),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 02 Jan 2026 03:04:05 GMT\n\
             x-ms-file-extended-info:true\nx-ms-version:2025-01-05\n/acct1/docs/a%20b\ncomp:list\n\
             include:Timestamps,Etag\nmaxresults:100\nprefix:x+y\nrestype:directory\n\
             sharesnapshot:2026-01-02T03:04:05.0000000Z",
            "zXf7G2SBiQR1XdE+6dfXqYk92acPQCRNktg9wmmbCz8=",
        );
    }

    #[test]
    fn vector_4_an_escaped_slash_stays_escaped() {
        let target = "https://acct1.file.core.windows.net/docs/a%2Fb?restype=directory";
        check_vector(
            "acct1",
            &call("PUT", target, &[]),
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 02 Jan 2026 03:04:05 GMT\n\
             x-ms-version:2025-01-05\n/acct1/docs/a%2Fb\nrestype:directory",
            "+Ggf9Myw/Cmp0ZhF75kipyOMcegS/krj00Kr5bMmzBY=",
        );
    }

    #[test]
    fn vector_5_metadata_in_the_order_of_the_service() {
        let target = "https://acct1.file.core.windows.net/docs/f?comp=metadata";
        let headers = [
            ("x-ms-meta-aa", "1"),
            ("x-ms-meta-a_b", "2"),
            ("x-ms-meta-a1", "3"),
            ("x-ms-meta-b", "4"),
            ("content-length", "0"),
        ];
        let call = call("PUT", target, &headers);
        check_vector(
            "acct1",
            &call,
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 02 Jan 2026 03:04:05 GMT\n\
             x-ms-meta-a_b:2\nx-ms-meta-a1:3\nx-ms-meta-aa:1\nx-ms-meta-b:4\n\
             x-ms-version:2025-01-05\n/acct1/docs/f\ncomp:metadata",
            "WJxcRqZTEa5Tvqp5iF/VcenELjPj1yGOQOL6L1YznxY=",
        );
        // Clients that sort by bytes are let in, too.
        let key = crypto::from_base64(DEVELOPMENT_KEY).unwrap();
        let account = Account::new("acct1", key);
        let signature = crypto::sign(&account.key, &string_to_sign(&call, "acct1", Order::Bytes));
        let then = Ticks::parse_iso("2026-01-02T03:04:05Z").unwrap();
        assert_eq!(check(&account, &call, &format!("acct1:{signature}"), then), Ok(()));
    }
}
