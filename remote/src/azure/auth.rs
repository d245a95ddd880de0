//! Who we are to the account: a shared key that signs every request, a token (SAS) that goes with
//! every URL, or one of Entra ID that goes with every request. None is ever shown: `Debug` hides them, errors and logs do not hold them.

use super::entra::Tokens;
use crate::RemotePath;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::HeaderMap;
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;

/// What proves that we may.
#[derive(Clone)]
pub(super) enum Credential {
    /// The account's key.
    Key(Vec<u8>),
    /// The parameters of a shared access signature, decoded.
    Sas(Vec<(String, String)>),
    /// What Entra ID gives.
    Tokens(Arc<Tokens>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Credential::Key(_) => "Key(..)",
            Credential::Sas(_) => "Sas(..)",
            Credential::Tokens(_) => "Tokens(..)",
        })
    }
}

impl Credential {
    /// Reads an account key.
    pub(super) fn key(text: &str) -> Result<Credential, &'static str> {
        match BASE64.decode(text.trim()) {
            Ok(key) if !key.is_empty() => Ok(Credential::Key(key)),
            _ => Err("the account key is not the base64 text that the portal shows"),
        }
    }

    /// Reads a shared access signature, with or without a leading `?`.
    pub(super) fn sas(text: &str) -> Result<Credential, &'static str> {
        let mut parameters = Vec::new();
        for part in text.trim().trim_start_matches('?').split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or(NOT_A_SAS)?;
            let value = super::url::decode(value).ok_or(NOT_A_SAS)?;
            parameters.push((name.to_ascii_lowercase(), value));
        }
        match parameters.iter().any(|(name, value)| name == "sig" && !value.is_empty()) {
            true => Ok(Credential::Sas(parameters)),
            false => Err(NOT_A_SAS),
        }
    }
}

const NOT_A_SAS: &str = "the SAS token is not one: it looks like sv=...&sp=...&sig=...";

/// A request as it will be sent.
pub(super) struct ToSign<'a> {
    pub(super) method: &'a str,
    /// With its escapes, as it stands in the URL.
    pub(super) path: &'a str,
    /// Names and values without escapes.
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: &'a HeaderMap,
    /// Bytes of the body.
    pub(super) length: usize,
}

/// The value of the `Authorization` header.
pub(super) fn authorization(account: &str, key: &[u8], request: &ToSign<'_>) -> String {
    let signature = sign(key, &string_to_sign(account, request));
    format!("SharedKey {account}:{signature}")
}

/// A token for reading one file of a share, until then (a service SAS of a file).
pub(super) fn read_token(
    key: &[u8],
    account: &str,
    (share, path): (&str, &RemotePath),
    (version, until): (&str, &str),
) -> Vec<(&'static str, String)> {
    let names: Vec<_> = path.names().map(String::from_utf8_lossy).collect();
    let resource = format!("/file/{account}/{share}/{}", names.join("/"));
    // Permissions, start, end, what; policy, addresses, protocols; version; five headers of answers.
    let text = format!("r\n\n{until}\n{resource}\n\n\n\n{version}\n\n\n\n\n");
    let signature = sign(key, text.as_bytes());
    [("sv", version), ("se", until), ("sr", "f"), ("sp", "r"), ("sig", &signature)]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
}

fn sign(key: &[u8], text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    BASE64.encode(mac.finalize().into_bytes())
}

/// The twelve standard values, the `x-ms-` headers, then the resource.
fn string_to_sign(account: &str, request: &ToSign<'_>) -> Vec<u8> {
    let header = |name: &str| request.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    let length = if request.length == 0 { String::new() } else { request.length.to_string() };
    let values: [&[u8]; 12] = [
        request.method.as_bytes(),
        header("content-encoding"),
        header("content-language"),
        length.as_bytes(),
        header("content-md5"),
        header("content-type"),
        header("date"),
        header("if-modified-since"),
        header("if-match"),
        header("if-none-match"),
        header("if-unmodified-since"),
        header("range"),
    ];
    let mut text = Vec::new();
    for value in values {
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    let mut ours: Vec<_> =
        request.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-ms-")).collect();
    ours.sort_by_cached_key(|(name, _)| order_of(name.as_str()));
    for (name, value) in ours {
        text.extend_from_slice(name.as_str().as_bytes());
        text.push(b':');
        text.extend_from_slice(value.as_bytes().trim_ascii());
        text.push(b'\n');
    }
    text.extend_from_slice(format!("/{account}{}", request.path).as_bytes());
    let mut query: Vec<(String, &str)> =
        request.query.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
    query.sort();
    for (at, (name, value)) in query.iter().enumerate() {
        let again = at > 0 && query[at - 1].0 == *name;
        let line = if again { format!(",{value}") } else { format!("\n{name}:{value}") };
        text.extend_from_slice(line.as_bytes());
    }
    text
}

/// The service's order of header names: hyphens count only between equals, `_` comes before
/// digits, digits before letters.
fn order_of(name: &str) -> (Vec<u8>, String) {
    let plain = name.bytes().filter(|byte| *byte != b'-');
    let first = plain.map(|byte| if byte == b'_' { b'!' } else { byte }).collect();
    (first, name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    /// The publicly documented key of the development account.
    const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KB\
                       HBeksoGMGw==";
    const NONE: &[(&str, &str)] = &[];

    fn key() -> Vec<u8> {
        match Credential::key(KEY).unwrap() {
            Credential::Key(key) => key,
            Credential::Sas(_) | Credential::Tokens(_) => unreachable!(),
        }
    }

    fn headers(more: &[(&str, &str)]) -> HeaderMap {
        let always =
            [("x-ms-date", "Fri, 02 Jan 2026 03:04:05 GMT"), ("x-ms-version", "2025-01-05")];
        let pairs = always.iter().chain(more).map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        });
        pairs.collect()
    }

    fn signed(
        account: &str,
        (method, path, length): (&str, &str, usize),
        query: &[(&str, &str)],
        more: &[(&str, &str)],
    ) -> (String, String) {
        let headers = headers(more);
        let request = ToSign { method, path, query, headers: &headers, length };
        let text = string_to_sign(account, &request);
        (sign(&key(), &text), String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_path_style_request_names_the_account_twice() {
        let call = ("PUT", "/devstoreaccount1/docs", 0);
        let (signature, text) = signed("devstoreaccount1", call, &[("restype", "share")], NONE);
        let wanted = "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 02 Jan 2026 03:04:05 GMT\n\
                      x-ms-version:2025-01-05\n/devstoreaccount1/devstoreaccount1/docs\nrestype:share";
        assert_eq!(text, wanted);
        assert_eq!(signature, "20vdOdHCMpuR32XAZMOJCDIJ0wUAHJhhktrhkprMAyc=");
    }

    #[test]
    fn a_body_and_its_headers_are_signed() {
        let call = ("PUT", "/docs/a%20b/r%C3%A9sum%C3%A9%25.txt", 5);
        let more = [
            ("content-type", "application/octet-stream"),
            ("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="),
            ("x-ms-write", "update"),
            ("x-ms-range", "bytes=0-4"),
        ];
        let (signature, _) = signed("acct1", call, &[("comp", "range")], &more);
        assert_eq!(signature, "fuzAlUUGLiBVHY+pPJZbGGV3cpG80rAYAb5Tuq53nlA=");
    }

    #[test]
    fn the_query_is_signed_decoded_and_sorted() {
        let query = [
            ("restype", "directory"),
            ("comp", "list"),
            ("prefix", "x+y"),
            ("maxresults", "100"),
            ("include", "Timestamps,Etag"),
            ("sharesnapshot", "2026-01-02T03:04:05.0000000Z"),
        ];
        let more = [("x-ms-file-extended-info", "true")];
        let (signature, _) = signed("acct1", ("GET", "/docs/a%20b", 0), &query, &more);
        assert_eq!(signature, "zXf7G2SBiQR1XdE+6dfXqYk92acPQCRNktg9wmmbCz8=");
    }

    #[test]
    fn an_escaped_slash_stays_escaped() {
        let query = [("restype", "directory")];
        let (signature, _) = signed("acct1", ("PUT", "/docs/a%2Fb", 0), &query, NONE);
        assert_eq!(signature, "+Ggf9Myw/Cmp0ZhF75kipyOMcegS/krj00Kr5bMmzBY=");
    }

    #[test]
    fn metadata_is_in_the_service_s_order() {
        let more = [
            ("x-ms-meta-aa", "1"),
            ("x-ms-meta-a_b", "2"),
            ("x-ms-meta-a1", "3"),
            ("x-ms-meta-b", "4"),
        ];
        let (signature, _) = signed("acct1", ("PUT", "/docs/f", 0), &[("comp", "metadata")], &more);
        assert_eq!(signature, "WJxcRqZTEa5Tvqp5iF/VcenELjPj1yGOQOL6L1YznxY=");
    }

    // Tokens are made elsewhere; these say that our HMAC and base64 are the service's.
    #[test]
    fn tokens_have_the_signatures_of_the_service() {
        let account = "devstoreaccount1\nrwdlc\nf\nsco\n2026-01-02T03:04:05Z\n\
                       2030-01-01T00:00:00Z\n\nhttps,http\n2026-10-06\n\n";
        let share = "rwdlc\n2026-01-02T03:04:05Z\n2030-01-01T00:00:00Z\n\
                     /file/devstoreaccount1/docs\n\n\n\n2025-01-05\n\n\n\n\n";
        let share = share.replacen("rwdlc", "rcwdl", 1);
        let file = "r\n\n2030-01-01T00:00:00Z\n/file/devstoreaccount1/docs/a b/r\u{e9}sum\u{e9}%.txt\
                    \n\n\n\n2025-01-05\n\nattachment; filename=x.txt\n\n\n";
        let policy = "\n\n\n/file/devstoreaccount1/docs\nreader\n\n\n2025-01-05\n\n\n\n\n";
        for (text, wanted) in [
            (account, "YwuAX0xv6BcldheFs38Ghl8B9x2rr2yaafuW+1cSYas="),
            (&*share, "xIwGX+EHCNpyWRwOgpXB0HkAxkKKfBjptXWCUgCaiiI="),
            (file, "vwt9Cshj4rC4sxREjPE6eYmNFJVN6bnx7snwu1WGwXo="),
            (policy, "ZwKWAbWXI/XlxhiwgGY61KxNcYTy4RDVlXch9RvlCAg="),
        ] {
            assert_eq!(sign(&key(), text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn a_token_is_read_decoded_and_hidden() {
        let Ok(Credential::Sas(parameters)) = Credential::sas("?sv=2025-01-05&sp=r&sig=a%2Bb%3D")
        else {
            panic!("not read");
        };
        assert_eq!(parameters[2], ("sig".into(), "a+b=".into()));
        for wrong in ["", "hunter2", "sv=1&sig=", "sv=1"] {
            assert!(Credential::sas(wrong).is_err(), "{wrong}");
        }
        assert!(Credential::key("not base64!").is_err());
        assert_eq!(format!("{:?}", Credential::key(KEY).unwrap()), "Key(..)");
    }
}
