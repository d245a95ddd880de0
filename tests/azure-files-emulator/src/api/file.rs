//! Files, but for ranges, leases, renames and copies.

use super::Context;
use super::properties::Wishes;
use super::range::{RANGE_BYTES_MAX, check_md5, requested_range};
use crate::call::{Call, Metadata, Reply};
use crate::content::Content;
use crate::crypto;
use crate::error::{Error, Result};
use crate::store::{Attributes, CONTENT_HEADERS, CopyStatus, FileData, Kind, Node};
use crate::time::Ticks;

const FILE_BYTES_MAX: u64 = 4 << 40;

fn checked_size(bytes: u64) -> Result<u64> {
    if bytes > FILE_BYTES_MAX { Err(Error::new("OutOfRangeInput")) } else { Ok(bytes) }
}

fn content_headers(call: &Call) -> [Option<String>; 6] {
    CONTENT_HEADERS.map(|(sent, _)| call.header(sent).filter(|v| !v.is_empty()).map(str::to_owned))
}

/// Create File: replaces what is there. Newer versions may bring the first bytes along.
pub fn create(context: &mut Context<'_>) -> Result<Reply> {
    let (call, stamp) = (context.call, context.stamp());
    let kind = call.required("x-ms-type")?;
    if !kind.eq_ignore_ascii_case("file") {
        return Err(Error::header("x-ms-type", kind));
    }
    call.required("x-ms-content-length")?;
    let size_bytes = checked_size(call.number("x-ms-content-length")?.unwrap_or_default())?;
    if call.body.len() as u64 > size_bytes {
        return Err(Error::header("Content-Length", &call.body.len().to_string()));
    }
    check_md5(call)?;
    let (metadata, wishes) = (call.metadata()?, Wishes::of(call, stamp)?);
    let mut content = Content::zeros(size_bytes);
    content.write(0, &call.body, context.share()?.epoch);
    let data = FileData { content, headers: content_headers(call), ..FileData::default() };
    let id =
        context.place_file(NewFile { data, metadata, wishes, read_only_goes: false }, stamp)?;
    let reply = Reply::new(201).with("x-ms-request-server-encrypted", "true");
    Ok(context.with_properties(reply, context.share()?.tree.node(id)))
}

/// A file that is to be.
pub struct NewFile {
    /// Its bytes and headers.
    pub data: FileData,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its properties.
    pub wishes: Wishes,
    /// Whether it may take the place of a read-only file.
    pub read_only_goes: bool,
}

impl Context<'_> {
    /// Puts a file where the request says, in place of what file may be there. All of it or
    /// nothing happens.
    pub fn place_file(&mut self, new: NewFile, stamp: Ticks) -> Result<u64> {
        let NewFile { data, metadata, wishes, read_only_goes } = new;
        let path = self.call.components()?;
        let lease_id = self.call.header("x-ms-lease-id");
        let there = self.share_mut()?.tree.find(&path)?;
        let new_id = self.store.new_id();
        let mut node = match there {
            None => {
                if lease_id.is_some() {
                    return Err(Error::new("LeaseNotPresentWithFileOperation"));
                }
                let parent = self.share()?.tree.parent(&path)?;
                Node::new(new_id, parent, Kind::File(Box::new(data)), Attributes::ARCHIVE, stamp)
            }
            Some(id) => self.replaced(id, data, read_only_goes, stamp)?,
        };
        node.metadata = metadata;
        if there.is_some() && self.config.create_over_gives_new_id {
            node.id = new_id;
        }
        let (id, parent) = (node.id, node.parent);
        let share = self.share_mut()?;
        node.permission_key = share.tree.node(parent).permission_key.clone();
        let before = there.map(|id| share.tree.node(id).clone());
        share.tree.put(node);
        if let Err(error) = wishes.apply(share, id, parent) {
            share.tree.forget(id);
            before.into_iter().for_each(|node| share.tree.put(node));
            return Err(error);
        }
        // A file is born with the attribute, whatever else it is to have.
        let node = share.tree.node_mut(id);
        node.attributes = node.attributes.and(Attributes::ARCHIVE);
        let name = path.last().expect("files are below the root");
        match there {
            None => share.tree.link(parent, name, id),
            Some(old) if old != id => share.tree.exchange(parent, name, id),
            Some(_) => {}
        }
        Ok(id)
    }

    /// The node that a file becomes when another is created over it.
    fn replaced(
        &self,
        id: u64,
        data: FileData,
        read_only_goes: bool,
        stamp: Ticks,
    ) -> Result<Node> {
        let share = self.share()?;
        let old = share.tree.node(id);
        let generation = old.file()?.generation + 1;
        old.check_no_copy()?;
        old.lease.check_write(self.call.header("x-ms-lease-id"))?;
        self.access.check("w")?;
        if !read_only_goes {
            old.check_writable()?;
        }
        share.check_handles(id, false)?;
        share.check_handles(id, true)?;
        let kind = Kind::File(Box::new(FileData { generation, ..data }));
        let mut lease = old.lease.clone();
        lease.written();
        // With an id of its own it takes the place of one name alone.
        let links = if self.config.create_over_gives_new_id { 1 } else { old.links };
        let node = Node::new(id, old.parent, kind, Attributes::ARCHIVE, stamp);
        Ok(Node { lease, links, ..node })
    }

    fn with_file_headers(&self, reply: Reply, node: &Node) -> Result<Reply> {
        let file = node.file()?;
        let (status, state, duration) = node.lease.texts();
        let mut reply = reply
            .with_metadata(&node.metadata)
            .with("x-ms-type", "File")
            .with("x-ms-server-encrypted", "true")
            .with("Accept-Ranges", "bytes")
            .with("x-ms-lease-status", status)
            .with("x-ms-lease-state", state)
            .with_some("x-ms-lease-duration", duration);
        if let Some(copy) = &file.copy {
            let size = copy.size_bytes;
            reply = reply
                .with("x-ms-copy-id", copy.id.as_str())
                .with("x-ms-copy-source", copy.source.as_str())
                .with("x-ms-copy-status", copy.status.text());
            let pending = copy.status == CopyStatus::Pending;
            let done = if copy.status == CopyStatus::Success { size } else { 0 };
            let ended = (!pending).then(|| copy.completed.rfc1123());
            reply = reply
                .with("x-ms-copy-progress", format!("{done}/{size}"))
                .with_some("x-ms-copy-completion-time", ended);
        }
        Ok(self.with_properties(reply, node))
    }

    /// The content headers of a file; a SAS may say others.
    fn with_content_headers(&self, mut reply: Reply, file: &FileData, md5: Option<&str>) -> Reply {
        let overrides = [("rsct", 0), ("rsce", 1), ("rscl", 2), ("rscc", 3), ("rscd", 5)];
        for (at, (_, name)) in CONTENT_HEADERS.iter().enumerate() {
            let parameter = overrides.iter().find(|(_, of)| *of == at).map(|(name, _)| *name);
            let other = parameter.and_then(|name| self.call.query(name));
            let stored = if at == 4 { md5 } else { file.headers[at].as_deref() };
            let default = (at == 0).then_some("application/octet-stream");
            reply = reply.with_some(name, other.or(stored).or(default));
        }
        reply
    }
}

/// Get File.
pub fn get(context: &mut Context<'_>) -> Result<Reply> {
    let call = context.call;
    let node = context.file()?;
    let file = node.file()?;
    let size = file.content.size_bytes();
    let wants_md5 = call.flag("x-ms-range-get-content-md5")?;
    let stored = file.headers[4].as_deref();
    let Some((start, end)) = requested_range(call)? else {
        let reply = context.with_content_headers(Reply::new(200), file, stored);
        let reply = context.with_file_headers(reply, node)?;
        return Ok(Reply { body: file.content.read(0, size), ..reply });
    };
    if start >= size {
        return Err(Error::new("InvalidRange"));
    }
    let end = end.map_or(size, |end| end.saturating_add(1).min(size));
    if wants_md5 && end - start > RANGE_BYTES_MAX {
        return Err(Error::new("OutOfRangeInput"));
    }
    let body = file.content.read(start, end);
    let md5 = wants_md5.then(|| crypto::md5(body.iter().map(|part| &part[..])));
    let reply = Reply::new(206)
        .with("Content-Range", format!("bytes {start}-{}/{size}", end - 1))
        .with_some("x-ms-content-md5", stored);
    let reply = context.with_content_headers(reply, file, md5.as_deref());
    let reply = context.with_file_headers(reply, node)?;
    Ok(Reply { body, ..reply })
}

/// Get File Properties.
pub fn head(context: &mut Context<'_>) -> Result<Reply> {
    let node = context.file()?;
    let file = node.file()?;
    let reply = context.with_content_headers(Reply::new(200), file, file.headers[4].as_deref());
    let reply = context.with_file_headers(reply, node)?;
    Ok(Reply { length: Some(file.content.size_bytes()), ..reply })
}

/// Set File Properties; with a size, Resize File.
pub fn set_properties(context: &mut Context<'_>) -> Result<Reply> {
    let (call, stamp) = (context.call, context.stamp());
    let size = call.number("x-ms-content-length")?.map(checked_size).transpose()?;
    let wishes = Wishes::of(call, stamp)?;
    let id = context.file_to_write()?;
    let share = context.share_mut()?;
    let epoch = share.epoch;
    let before = share.tree.node(id).clone();
    let node = share.tree.node_mut(id);
    node.touch(stamp);
    let file = node.file_mut()?;
    let headers = content_headers(call);
    if CONTENT_HEADERS.iter().any(|(name, _)| call.headers.contains_key(*name)) {
        file.headers = headers;
    }
    if let Some(size) = size.filter(|size| *size != file.content.size_bytes()) {
        file.content.resize(size, epoch);
        node.times.written = stamp;
    }
    if let Err(error) = wishes.apply(share, id, before.parent) {
        share.tree.put(before);
        return Err(error);
    }
    share.tree.node_mut(id).lease.written();
    let reply = Reply::new(200).with("x-ms-request-server-encrypted", "true");
    Ok(context.with_properties(reply, context.share()?.tree.node(id)))
}

/// Set File Metadata.
pub fn set_metadata(context: &mut Context<'_>) -> Result<Reply> {
    let (metadata, stamp) = (context.call.metadata()?, context.stamp());
    let id = context.file_to_write()?;
    let node = context.share_mut()?.tree.node_mut(id);
    node.check_writable()?;
    node.metadata = metadata;
    context.finish_write(id, stamp)?;
    Ok(Reply::new(200).stamped(stamp).with("x-ms-request-server-encrypted", "true"))
}

/// Delete File.
pub fn delete(context: &mut Context<'_>) -> Result<Reply> {
    let path = context.call.components()?;
    let id = context.file_to_write()?;
    let share = context.share_mut()?;
    share.tree.node(id).check_writable()?;
    // Unlike a rename, a deletion waits for nobody: any open handle is in its way.
    if share.handles.iter().any(|handle| handle.node == id) {
        return Err(Error::new("SharingViolation"));
    }
    let links = share.tree.node(id).links - 1;
    let parent = share.tree.parent(&path)?;
    share.tree.unlink(parent, path.last().expect("files are below the root"));
    let links = share.is_nfs().then(|| links.to_string());
    Ok(Reply::new(202).with_some("x-ms-link-count", links))
}
