//! One request as the service sees it, and its answer.

use crate::error::{Error, Result, message};
use crate::names;
use crate::time::Ticks;
use crate::xml::Xml;
use bytes::Bytes;
use hyper::{HeaderMap, Method};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Metadata by lower-cased name.
pub type Metadata = BTreeMap<String, String>;

const METADATA_BYTES_MAX: usize = 8 * 1024;

/// A request, read whole.
pub struct Call {
    /// GET, PUT, ...
    pub method: Method,
    /// As it was sent: signatures are over this.
    pub raw_path: String,
    /// What stands after `?`, as it was sent.
    pub raw_query: String,
    /// Decoded parts of the path, the account first. An escaped slash separates, too.
    pub path: Vec<String>,
    /// Lower-cased names and decoded values.
    pub query: Vec<(String, String)>,
    /// As they were sent.
    pub headers: HeaderMap,
    /// Empty if there is none.
    pub body: Bytes,
    /// Whether it came over TLS.
    pub secure: bool,
    /// Who sent it.
    pub peer: IpAddr,
}

impl Call {
    /// Takes a request apart.
    pub fn new(
        parts: &hyper::http::request::Parts,
        body: Bytes,
        secure: bool,
        peer: IpAddr,
    ) -> Result<Call> {
        let raw_path = parts.uri.path().to_owned();
        let raw_query = parts.uri.query().unwrap_or_default().to_owned();
        let path = decode_path(&raw_path)?;
        let query = decode_query(&raw_query)?;
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        Ok(Call { method, raw_path, raw_query, path, query, headers, body, secure, peer })
    }

    /// A header's value, if it was sent and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.get(name)?;
        std::str::from_utf8(value.as_bytes()).ok().map(str::trim)
    }

    /// A header's value, which must be there.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.header(name).ok_or_else(|| Error::missing_header(name))
    }

    /// A header that is `true` or `false` or absent, which is false.
    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.header(name) {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(Error::header(name, value)),
        }
    }

    /// A header that is a number.
    pub fn number(&self, name: &str) -> Result<Option<u64>> {
        let Some(value) = self.header(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| Error::header(name, value))
    }

    /// A query parameter's value; None if it is absent or empty.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The share's name.
    pub fn share(&self) -> &str {
        self.path.get(1).map_or("", String::as_str)
    }

    /// The components below the share, checked.
    pub fn components(&self) -> Result<Vec<String>> {
        names::components(self.path.get(2..).unwrap_or_default(), self.flag(DOT)?)
    }

    /// The metadata that was sent. The header `x-ms-meta` alone names none.
    pub fn metadata(&self) -> Result<Metadata> {
        let mut metadata = Metadata::new();
        let mut bytes = 0;
        for (header, value) in &self.headers {
            let Some(name) = header.as_str().strip_prefix("x-ms-meta-") else { continue };
            if name.is_empty() {
                return Err(Error::new("EmptyMetadataKey"));
            }
            if !names::metadata_name_is_valid(name) {
                return Err(Error::new("InvalidMetadata"));
            }
            let value = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
            bytes += name.len() + value.len();
            metadata.insert(name.to_owned(), value);
        }
        if bytes > METADATA_BYTES_MAX {
            return Err(Error::new("MetadataTooLarge"));
        }
        Ok(metadata)
    }

    /// A URL that a header names, of this server: its path below the account and its query.
    pub fn source(&self, header: &str, dot_header: &str) -> Result<Source> {
        let url = self.required(header)?;
        let wrong = || Error::header(header, url);
        let rest = url.split_once("://").map(|(_, rest)| rest).ok_or_else(wrong)?;
        let (host, rest) = rest.split_at(rest.find('/').ok_or_else(wrong)?);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = decode_path(path).map_err(|_| wrong())?;
        if path.len() < 2 {
            return Err(wrong());
        }
        let components = names::components(&path[2..], self.flag(dot_header)?)?;
        let (account, share) = (path[0].clone(), path[1].clone());
        let query = decode_query(query).map_err(|_| wrong())?;
        Ok(Source { host: host.to_owned(), account, share, components, query })
    }

    /// The request's answer must not depend on a snapshot.
    pub fn refuse_snapshot(&self) -> Result<()> {
        match self.query("sharesnapshot") {
            None => Ok(()),
            Some(id) => {
                let reason = "Snapshots cannot be changed.";
                Err(Error::query("InvalidQueryParameterValue", "sharesnapshot", id, reason))
            }
        }
    }
}

/// Says that trailing dots belong to names.
pub const DOT: &str = "x-ms-allow-trailing-dot";
/// The same of the names in a source URL.
pub const SOURCE_DOT: &str = "x-ms-source-allow-trailing-dot";

/// What a copy or a rename takes.
pub struct Source {
    /// Host and port.
    pub host: String,
    /// Whose.
    pub account: String,
    /// Its share.
    pub share: String,
    /// Below the share.
    pub components: Vec<String>,
    /// Lower-cased names and decoded values.
    pub query: Vec<(String, String)>,
}

impl Source {
    /// A query parameter's value.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn decode_path(raw: &str) -> Result<Vec<String>> {
    let mut path = Vec::new();
    for segment in raw.split('/').filter(|segment| !segment.is_empty()) {
        let decoded = names::percent_decode(segment).ok_or_else(|| Error::new("InvalidUri"))?;
        path.extend(decoded.split('/').filter(|part| !part.is_empty()).map(str::to_owned));
    }
    Ok(path)
}

fn decode_query(raw: &str) -> Result<Vec<(String, String)>> {
    let invalid = || Error::new("InvalidUri");
    let mut query = Vec::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = names::percent_decode(name).ok_or_else(invalid)?.to_lowercase();
        query.push((name, names::percent_decode(value).ok_or_else(invalid)?));
    }
    Ok(query)
}

/// An answer.
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Parts of the body, in order.
    pub body: Vec<Bytes>,
    /// What `Content-Length` says where the body is left out (HEAD).
    pub length: Option<u64>,
}

impl Reply {
    /// An answer without a body.
    pub fn new(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Vec::new(), length: None }
    }

    /// An XML body.
    pub fn xml(status: u16, xml: Xml) -> Reply {
        let reply = Reply::new(status).with("Content-Type", "application/xml");
        Reply { body: vec![Bytes::from(xml.finish())], ..reply }
    }

    /// A JSON body.
    pub fn json(status: u16, value: &serde_json::Value) -> Reply {
        let reply = Reply::new(status).with("Content-Type", "application/json");
        Reply { body: vec![Bytes::from(value.to_string())], ..reply }
    }

    /// With one header more.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With one header more, if there is a value.
    pub fn with_some(self, name: &str, value: Option<impl Into<String>>) -> Reply {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With the ETag and the modification time that belong to a stamp.
    pub fn stamped(self, stamp: Ticks) -> Reply {
        let etag = format!("\"{}\"", stamp.etag());
        self.with("ETag", etag).with("Last-Modified", stamp.rfc1123())
    }

    /// With one header for each metadata.
    pub fn with_metadata(mut self, metadata: &Metadata) -> Reply {
        for (name, value) in metadata {
            self = self.with(&format!("x-ms-meta-{name}"), value.as_str());
        }
        self
    }

    /// How long the body is.
    pub fn body_bytes(&self) -> u64 {
        self.length.unwrap_or_else(|| self.body.iter().map(|part| part.len() as u64).sum())
    }

    /// The answer that tells an error.
    pub fn error(error: &Error, request_id: &str, now: Ticks) -> Reply {
        let mut xml = Xml::new("Error", &[]);
        xml.element("Code", error.code);
        let text = message(error.code);
        let text = format!("{text}\nRequestId:{request_id}\nTime:{}", now.iso());
        xml.element("Message", &text);
        for (name, value) in &error.details {
            xml.element(name, value);
        }
        Reply::xml(error.status(), xml).with("x-ms-error-code", error.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_decoded() {
        assert_eq!(
            decode_path("/acct/docs/a%2Fb/c+d%20/").unwrap(),
            ["acct", "docs", "a", "b", "c+d "]
        );
        let query = decode_query("comp=list&include=&Prefix=x%2By&sharesnapshot=a:b").unwrap();
        let pairs: Vec<_> = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected =
            [("comp", "list"), ("include", ""), ("prefix", "x+y"), ("sharesnapshot", "a:b")];
        assert_eq!(pairs, expected);
    }
}
