//! List Directories and Files.

use super::Context;
use crate::call::{Call, Reply};
use crate::crypto;
use crate::error::{Error, Result};
use crate::names;
use crate::store::{Entry, Kind, Node};
use crate::xml::{Xml, fits_xml};
use std::ops::Bound;

/// Entries, ranges or handles of a page, if a request names no number.
pub const PAGE_ENTRIES_MAX: usize = 5000;

#[derive(Default)]
struct Include {
    timestamps: bool,
    etag: bool,
    attributes: bool,
    permission_key: bool,
}

impl Include {
    fn of(call: &Call) -> Result<Include> {
        let mut include = Include::default();
        let text = call.query("include").unwrap_or_default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.to_ascii_lowercase().as_str() {
                "timestamps" => include.timestamps = true,
                "etag" => include.etag = true,
                "attributes" => include.attributes = true,
                "permissionkey" => include.permission_key = true,
                _ => {
                    let code = "InvalidQueryParameterValue";
                    return Err(Error::query(code, "include", word, "It is not known."));
                }
            }
        }
        Ok(include)
    }
}

/// How many entries a page may have.
pub fn page_entries(call: &Call, most: usize) -> Result<usize> {
    let Some(text) = call.query("maxresults") else { return Ok(PAGE_ENTRIES_MAX.min(most)) };
    let wrong = |code| Error::query(code, "maxresults", text, "It must be 1 to 5000.");
    let asked: i64 = text.parse().map_err(|_| wrong("InvalidQueryParameterValue"))?;
    if asked < 1 {
        return Err(wrong("OutOfRangeQueryParameterValue"));
    }
    let asked = usize::try_from(asked).unwrap_or(usize::MAX);
    Ok(asked.min(PAGE_ENTRIES_MAX).min(most))
}

/// What a marker of this server says.
pub fn marker(call: &Call) -> Result<Option<String>> {
    let Some(text) = call.query("marker") else { return Ok(None) };
    let decoded = crypto::from_base64_url(text).and_then(|bytes| String::from_utf8(bytes).ok());
    let wrong = || Error::query("InvalidQueryParameterValue", "marker", text, "It is not known.");
    decoded.map(Some).ok_or_else(wrong)
}

/// Echoes what was asked. Clients take the next page's parameters from there.
pub fn echo(xml: &mut Xml, call: &Call) {
    if let Some(marker) = call.query("marker") {
        xml.element("Marker", marker);
    }
    if let Some(most) = call.query("maxresults") {
        xml.element("MaxResults", most);
    }
}

/// List Directories and Files.
pub fn list(context: &mut Context<'_>) -> Result<Reply> {
    let call = context.call;
    let include = Include::of(call)?;
    let most = page_entries(call, context.config.page_entries_max)?;
    let path = call.components()?;
    let tree = context.tree()?;
    let dir = tree.directory(&path)?;
    let prefix = tree.key(call.query("prefix").unwrap_or_default());
    let start = match marker(call)? {
        Some(last) => Bound::Excluded(last),
        None => Bound::Included(prefix.clone()),
    };
    let rest = tree.entries(dir).range((start, Bound::Unbounded));
    let mut rest = rest.take_while(|(key, _)| key.starts_with(&prefix)).peekable();
    let mut xml = begin(context, &path);
    match call.query("prefix") {
        Some(prefix) => xml.name_element("Prefix", prefix),
        None => xml.element("Prefix", ""),
    }
    echo(&mut xml, call);
    xml.element("DirectoryId", &dir.to_string());
    xml.open("Entries");
    let mut last = "";
    for _ in 0..most {
        let Some((key, entry)) = rest.next() else { break };
        write_entry(&mut xml, entry, tree.node(entry.id), &include);
        last = key;
    }
    xml.close();
    let more = rest.peek().is_some();
    xml.element(
        "NextMarker",
        &if more { crypto::base64_url(last.as_bytes()) } else { String::new() },
    );
    Ok(Reply::xml(200, xml))
}

fn begin(context: &Context<'_>, path: &[String]) -> Xml {
    let call = context.call;
    let path = path.join("/");
    let mut attributes = vec![("ServiceEndpoint", context.endpoint())];
    attributes.push(("ShareName", call.share().to_owned()));
    if let Some(snapshot) = call.query("sharesnapshot") {
        attributes.push(("ShareSnapshot", snapshot.to_owned()));
    }
    if fits_xml(&path) {
        attributes.push(("DirectoryPath", path));
    } else {
        attributes.push(("Encoded", "true".to_owned()));
        attributes.push(("DirectoryPath", names::percent_encode(&path)));
    }
    let attributes: Vec<_> =
        attributes.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Xml::new("EnumerationResults", &attributes)
}

fn write_entry(xml: &mut Xml, entry: &Entry, node: &Node, include: &Include) {
    let is_directory = matches!(node.kind, Kind::Directory(_));
    xml.open(if is_directory { "Directory" } else { "File" });
    xml.name_element("Name", &entry.name);
    xml.element("FileId", &node.id.to_string());
    xml.open("Properties");
    if !is_directory {
        xml.element("Content-Length", &node.size_bytes().to_string());
    }
    if include.timestamps {
        xml.element("CreationTime", &node.times.created.iso());
        xml.element("LastAccessTime", &node.times.accessed.iso());
        xml.element("LastWriteTime", &node.times.written.iso());
        xml.element("ChangeTime", &node.times.changed.iso());
        xml.element("Last-Modified", &node.stamp.rfc1123());
    }
    if include.etag {
        xml.element("Etag", &format!("\"{}\"", node.stamp.etag()));
    }
    xml.close();
    if include.attributes {
        xml.element("Attributes", &node.attributes.text());
    }
    if include.permission_key {
        xml.element("PermissionKey", &node.permission_key);
    }
    xml.close();
}

impl Context<'_> {
    /// The address of the account, as the request had it.
    pub fn endpoint(&self) -> String {
        let scheme = if self.call.secure { "https" } else { "http" };
        let host = self.call.header("host").unwrap_or("127.0.0.1");
        format!("{scheme}://{host}/{}/", self.account.name)
    }
}
