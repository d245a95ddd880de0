//! What the service says of one entry, in an answer's headers or in a listing.

use super::time;
use crate::{ContentMark, Timestamp, Version};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

/// File or directory: the service knows no other kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    File,
    Dir,
}

/// Metadata: names in small letters without their prefix, and values.
pub(super) type Pairs = Vec<(HeaderName, HeaderValue)>;

/// The prefix of metadata in headers.
const META: &str = "x-ms-meta-";

/// Properties that say what the bytes are; a new content under the old name keeps them.
const CONTENT_HEADERS: [(&str, &str); 5] = [
    ("content-type", "x-ms-content-type"),
    ("content-encoding", "x-ms-content-encoding"),
    ("content-language", "x-ms-content-language"),
    ("cache-control", "x-ms-cache-control"),
    ("content-disposition", "x-ms-content-disposition"),
];

/// One state of one entry.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) shape: Shape,
    pub(super) file_id: u64,
    /// Of a file.
    pub(super) size: u64,
    pub(super) etag: u128,
    /// `Archive`, `ReadOnly`, ...
    pub(super) attributes: Vec<String>,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) btime: Timestamp,
    /// Only listings tell.
    pub(super) atime: Option<Timestamp>,
    pub(super) permission_key: Option<HeaderValue>,
    /// What only an answer about the entry itself has: metadata, and content headers under the
    /// names that set them.
    pub(super) pairs: Pairs,
    pub(super) content_headers: Pairs,
    /// Whether anybody holds its lease; listings do not tell.
    pub(super) is_leased: bool,
    /// When the service said so, in whole seconds.
    pub(super) asked: Option<Timestamp>,
}

impl Facts {
    /// Reads an answer about an entry; `None` where it misses what every such answer has.
    pub(super) fn of_headers(headers: &HeaderMap, shape: Shape, size: u64) -> Option<Facts> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let time = |name: &str| time::parse_iso(text(name)?);
        let mtime = time("x-ms-file-last-write-time")?;
        let pairs = headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(META)?;
            Some((HeaderName::try_from(name).ok()?, value.clone()))
        });
        let content_headers = CONTENT_HEADERS.iter().filter_map(|(from, to)| {
            Some((HeaderName::from_static(to), headers.get(*from)?.clone()))
        });
        Some(Facts {
            shape,
            file_id: text("x-ms-file-id")?.parse().ok()?,
            size: if shape == Shape::File { size } else { 0 },
            etag: etag(text("etag")?),
            attributes: attributes(text("x-ms-file-attributes")?),
            mtime,
            ctime: time("x-ms-file-change-time").unwrap_or(mtime),
            btime: time("x-ms-file-creation-time")?,
            atime: None,
            permission_key: headers.get("x-ms-file-permission-key").cloned(),
            pairs: pairs.collect(),
            content_headers: content_headers.collect(),
            is_leased: text("x-ms-lease-status") == Some("locked"),
            asked: text("date").and_then(time::parse_http),
        })
    }

    /// The mark of this state. A directory's content part is its number alone.
    pub(super) fn version(&self) -> Version {
        let content = match self.shape {
            Shape::File => {
                ContentMark { file_id: self.file_id, size: self.size, mtime: self.mtime }
            }
            Shape::Dir => ContentMark { file_id: self.file_id, ..ContentMark::default() },
        };
        Version { object: self.etag, content }
    }

    pub(super) fn has(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|known| known.eq_ignore_ascii_case(attribute))
    }

    /// The value of a metadata name, as text.
    pub(super) fn meta(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known.as_str() == name)?;
        found.1.to_str().ok()
    }

    /// Whether the last write is so near that the next may get the same time: dates are told in
    /// whole seconds. A time far ahead was set by somebody.
    pub(super) fn is_young(&self) -> bool {
        let age = self.asked.map_or(0, |asked| asked.seconds - self.mtime.seconds);
        self.shape == Shape::File && (-60..=1).contains(&age)
    }
}

/// Puts metadata into a request.
pub(super) fn put_pairs(headers: &mut HeaderMap, pairs: &Pairs) {
    for (name, value) in pairs {
        if let Ok(name) = HeaderName::try_from(format!("{META}{name}")) {
            headers.insert(name, value.clone());
        }
    }
}

/// `ReadOnly | Archive`, with or without blanks.
pub(super) fn attributes(text: &str) -> Vec<String> {
    text.split('|').map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).collect()
}

/// As many bits of an opaque text as a version holds. Listings and headers may quote it or not.
pub(super) fn etag(text: &str) -> u128 {
    let digest = Sha256::digest(text.trim_matches('"').as_bytes());
    let mut bits = [0; 16];
    bits.copy_from_slice(&digest[..16]);
    u128::from_le_bytes(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(parse).collect()
    }

    const ANSWER: &[(&str, &str)] = &[
        ("etag", "\"0x8DA0123456789AB\""),
        ("date", "Wed, 03 Feb 2021 04:05:09 GMT"),
        ("x-ms-file-id", "13835128424026341376"),
        ("x-ms-file-attributes", "ReadOnly | Archive"),
        ("x-ms-file-last-write-time", "2021-02-03T04:05:06.7654321Z"),
        ("x-ms-file-creation-time", "2021-02-03T04:05:05.0000000Z"),
        ("x-ms-file-permission-key", "1*2"),
        ("x-ms-meta-color", "red"),
        ("content-type", "text/plain"),
        ("content-length", "7"),
    ];

    #[test]
    fn an_answer_is_read_whole() {
        let facts = Facts::of_headers(&headers(ANSWER), Shape::File, 7).unwrap();
        assert_eq!((facts.file_id, facts.size), (13_835_128_424_026_341_376, 7));
        assert_eq!(facts.mtime, Timestamp { seconds: 1_612_325_106, nanos: 765_432_100 });
        assert_eq!((facts.ctime, facts.has("readonly")), (facts.mtime, true));
        assert_eq!((facts.meta("color"), facts.meta("colour")), (Some("red"), None));
        assert_eq!(facts.content_headers[0].0.as_str(), "x-ms-content-type");
        assert_eq!(facts.etag, etag("0x8DA0123456789AB"));
        let mut set = HeaderMap::new();
        put_pairs(&mut set, &facts.pairs);
        assert_eq!(set["x-ms-meta-color"], "red");
        let dir = Facts::of_headers(&headers(ANSWER), Shape::Dir, 7).unwrap();
        assert_eq!((dir.size, dir.version().content.mtime), (0, Timestamp::default()));
    }

    #[test]
    fn what_is_missing_makes_no_facts() {
        for missing in ["etag", "x-ms-file-id", "x-ms-file-last-write-time"] {
            let rest: Vec<_> =
                ANSWER.iter().filter(|(name, _)| *name != missing).copied().collect();
            assert!(Facts::of_headers(&headers(&rest), Shape::File, 7).is_none(), "{missing}");
        }
    }

    #[test]
    fn a_write_of_this_second_is_young() {
        let mut facts = Facts::of_headers(&headers(ANSWER), Shape::File, 7).unwrap();
        assert!(!facts.is_young());
        facts.asked = time::parse_http("Wed, 03 Feb 2021 04:05:07 GMT");
        assert!(facts.is_young());
        facts.mtime.seconds += 3600;
        assert!(!facts.is_young(), "somebody set that time");
        facts.asked = None;
        assert!(facts.is_young(), "nobody knows");
    }
}
