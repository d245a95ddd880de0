//! SMB and POSIX properties of files and directories: as they are sent and as they are answered.

use super::Context;
use crate::call::{Call, Reply};
use crate::error::{Error, Result};
use crate::store::{Attributes, Kind, Node, Permission, Share, Times};
use crate::time::Ticks;

const PERMISSION_BYTES_MAX: usize = 8 * 1024;
const POSIX_HEADERS: [&str; 3] = ["x-ms-owner", "x-ms-group", "x-ms-mode"];

/// What a request wants a node's properties to be; None keeps what is (or takes the default).
#[derive(Default)]
pub struct Wishes {
    attributes: Option<Attributes>,
    created: Option<Ticks>,
    /// When the bytes are to have changed.
    pub written: Option<Ticks>,
    changed: Option<Ticks>,
    permission: Option<Wish>,
    posix: [Option<String>; 3],
}

enum Wish {
    Inherit,
    Key(String),
    Text(Permission),
}

impl Wishes {
    /// Reads the headers. `now` is what `now` means.
    pub fn of(call: &Call, now: Ticks) -> Result<Wishes> {
        let time = |name: &str| wished_time(call, name, now);
        Ok(Wishes {
            attributes: wished_attributes(call)?,
            created: time("x-ms-file-creation-time")?,
            written: time("x-ms-file-last-write-time")?,
            changed: time("x-ms-file-change-time")?,
            permission: wished_permission(call)?,
            posix: POSIX_HEADERS.map(|name| call.header(name).map(str::to_owned)),
        })
    }

    /// Makes them so. `parent` has what is inherited.
    pub fn apply(self, share: &mut Share, id: u64, parent: u64) -> Result<()> {
        let inherited = share.tree.node(parent).permission_key.clone();
        let key = match self.permission {
            None => None,
            Some(Wish::Inherit) => Some(inherited),
            Some(Wish::Text(permission)) => Some(share.add_permission(permission)),
            Some(Wish::Key(key)) if share.permissions.contains_key(&key) => Some(key),
            Some(Wish::Key(_)) => return Err(Error::new("FileInvalidPermissionKey")),
        };
        let node = share.tree.node_mut(id);
        if let Some(attributes) = self.attributes {
            let is_directory = node.is_directory();
            if attributes.has(Attributes::DIRECTORY) && !is_directory {
                return Err(Error::header("x-ms-file-attributes", &attributes.text()));
            }
            let always = if is_directory { Attributes::DIRECTORY } else { Attributes::NONE };
            node.attributes = attributes.and(always);
        }
        node.permission_key = key.unwrap_or(std::mem::take(&mut node.permission_key));
        let Times { created, written, changed, .. } = &mut node.times;
        for (time, wish) in
            [(created, self.created), (written, self.written), (changed, self.changed)]
        {
            *time = wish.unwrap_or(*time);
        }
        for (value, wish) in node.posix.iter_mut().zip(self.posix) {
            if wish.is_some() {
                *value = wish;
            }
        }
        Ok(())
    }
}

impl Wishes {
    /// A copy's: properties of which the request says `source` are the source's.
    pub fn take_from_source(&mut self, call: &Call, source: &Node, permission: Option<String>) {
        let asks =
            |name: &str| call.header(name).is_some_and(|text| text.eq_ignore_ascii_case("source"));
        let times = source.times;
        if asks("x-ms-file-attributes") {
            self.attributes = Some(source.attributes);
        }
        if asks("x-ms-file-creation-time") {
            self.created = Some(times.created);
        }
        if asks("x-ms-file-last-write-time") {
            self.written = Some(times.written);
        }
        if asks("x-ms-file-change-time") {
            self.changed = Some(times.changed);
        }
        self.permission = permission.map(Wish::Key).or(self.permission.take());
    }
}

/// A time that is to be set: None if the header is absent or says to keep it.
pub fn wished_time(call: &Call, name: &str, now: Ticks) -> Result<Option<Ticks>> {
    match call.header(name) {
        None => Ok(None),
        Some(text) if text.eq_ignore_ascii_case("preserve") => Ok(None),
        Some(text) if text.eq_ignore_ascii_case("now") => Ok(Some(now)),
        // Copies look at that themselves.
        Some(text) if text.eq_ignore_ascii_case("source") => Ok(None),
        Some(text) => Ticks::parse_iso(text).map(Some).ok_or_else(|| Error::header(name, text)),
    }
}

fn wished_attributes(call: &Call) -> Result<Option<Attributes>> {
    let name = "x-ms-file-attributes";
    let Some(text) = call.header(name) else { return Ok(None) };
    if text.eq_ignore_ascii_case("preserve") || text.eq_ignore_ascii_case("source") {
        return Ok(None);
    }
    Attributes::parse(text).map(Some).ok_or_else(|| Error::header(name, text))
}

fn wished_permission(call: &Call) -> Result<Option<Wish>> {
    let (text, key) = ("x-ms-file-permission", "x-ms-file-permission-key");
    match (call.header(text), call.header(key)) {
        (Some(_), Some(value)) => Err(Error::header(key, value)),
        (None, None) => Ok(None),
        (None, Some(value)) => Ok(Some(Wish::Key(value.to_owned()))),
        (Some(value), None) if value.eq_ignore_ascii_case("preserve") => Ok(None),
        (Some(value), None) if value.eq_ignore_ascii_case("inherit") => Ok(Some(Wish::Inherit)),
        (Some(value), None) if value.is_empty() || value.len() > PERMISSION_BYTES_MAX => {
            Err(Error::header(text, value))
        }
        (Some(value), None) => {
            let format = call.header("x-ms-file-permission-format").unwrap_or("Sddl");
            let (text, format) = (value.to_owned(), format.to_owned());
            Ok(Some(Wish::Text(Permission { text, format })))
        }
    }
}

impl Context<'_> {
    /// The properties that calls about files and directories answer with.
    pub fn with_properties(&self, reply: Reply, node: &Node) -> Reply {
        let times = &node.times;
        let is_nfs = self.share().is_ok_and(Share::is_nfs);
        let kind = match node.kind {
            Kind::Directory(_) => "Directory",
            Kind::File(_) => "Regular",
            Kind::Link(_) => "SymLink",
        };
        let mut reply = reply
            .stamped(node.stamp)
            .with("x-ms-file-creation-time", times.created.iso())
            .with("x-ms-file-last-write-time", times.written.iso())
            .with("x-ms-file-change-time", times.changed.iso())
            .with("x-ms-file-id", node.id.to_string())
            .with("x-ms-file-parent-id", node.parent.to_string());
        if !is_nfs {
            return reply
                .with("x-ms-file-permission-key", node.permission_key.as_str())
                .with("x-ms-file-attributes", node.attributes.text());
        }
        reply = reply.with("x-ms-file-file-type", kind);
        let mode = if node.is_directory() { "0755" } else { "0644" };
        for ((name, value), default) in POSIX_HEADERS.iter().zip(&node.posix).zip(["0", "0", mode])
        {
            reply = reply.with(name, value.as_deref().unwrap_or(default));
        }
        reply.with("x-ms-link-count", node.links.to_string())
    }
}
