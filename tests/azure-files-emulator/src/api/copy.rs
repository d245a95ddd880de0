//! Copy File and Abort Copy File. Copies are done when they are answered, unless the server was
//! told that they shall stay pending.

use super::Context;
use super::file::NewFile;
use super::properties::Wishes;
use crate::call::{Call, Reply, SOURCE_DOT};
use crate::content::Content;
use crate::crypto;
use crate::error::{Error, Result};
use crate::store::{CopyState, CopyStatus, FileData};

const SOURCE: &str = "x-ms-copy-source";

/// Copy File.
pub fn copy(context: &mut Context<'_>) -> Result<Reply> {
    let (call, stamp) = (context.call, context.stamp());
    let mut wishes = Wishes::of(call, stamp)?;
    let sent = call.metadata()?;
    let source = call.source(SOURCE, SOURCE_DOT)?;
    let snapshot = source.query("sharesnapshot").map(str::to_owned);
    let node = context.source_node(&source, snapshot.as_deref())?;
    let mode = call.header("x-ms-file-permission-copy-mode").unwrap_or_default();
    let permission = (mode.eq_ignore_ascii_case("source") && source.share == call.share())
        .then(|| node.permission_key.clone());
    wishes.take_from_source(call, node, permission);
    let file = node.file()?;
    let (id, pending) = (crypto::guid(), context.config.copies_pending);
    let copy = CopyState {
        id: id.clone(),
        source: call.header(SOURCE).unwrap_or_default().to_owned(),
        size_bytes: file.content.size_bytes(),
        completed: stamp,
        status: if pending { CopyStatus::Pending } else { CopyStatus::Success },
        rest: pending.then(|| file.content.without_history()),
    };
    let (status, headers) = (copy.status.text(), file.headers.clone());
    let content = match pending {
        true => Content::zeros(copy.size_bytes),
        false => file.content.without_history(),
    };
    let metadata = if sent.is_empty() { node.metadata.clone() } else { sent };
    let data = FileData { content, headers, copy: Some(copy), generation: 0 };
    let read_only_goes = call.flag("x-ms-file-copy-ignore-readonly")?;
    context.place_file(NewFile { data, metadata, wishes, read_only_goes }, stamp)?;
    Ok(Reply::new(202).stamped(stamp).with("x-ms-copy-id", id).with("x-ms-copy-status", status))
}

/// Abort Copy File: an empty file is left.
pub fn abort(context: &mut Context<'_>) -> Result<Reply> {
    let call: &Call = context.call;
    let id = call.query("copyid").unwrap_or_default();
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    if lengths != [8, 4, 4, 4, 12] {
        let reason = "copyid must be a GUID.";
        return Err(Error::query("InvalidQueryParameterValue", "copyid", id, reason));
    }
    let stamp = context.stamp();
    let path = call.components()?;
    let share = context.share_mut()?;
    let node = share.tree.node_mut(share.tree.file(&path)?);
    node.lease.check_write(call.header("x-ms-lease-id"))?;
    let file = node.file_mut()?;
    let pending = |copy: &&mut CopyState| copy.status == CopyStatus::Pending && copy.id == id;
    let copy = file.copy.as_mut().filter(pending);
    let copy = copy.ok_or_else(|| Error::new("NoPendingCopyOperation"))?;
    (copy.status, copy.rest, copy.completed) = (CopyStatus::Aborted, None, stamp);
    file.content = Content::zeros(0);
    node.touch(stamp);
    Ok(Reply::new(204))
}
