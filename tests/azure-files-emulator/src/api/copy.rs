//! Copy File and Abort Copy File. Copies are done when they are answered.

use super::Context;
use super::properties::Wishes;
use crate::call::{Call, Reply, SOURCE_DOT};
use crate::crypto;
use crate::error::{Error, Result};
use crate::store::{Attributes, CopyState, FileData};

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
    let id = crypto::guid();
    let copy = CopyState {
        id: id.clone(),
        source: call.header(SOURCE).unwrap_or_default().to_owned(),
        size_bytes: file.content.size_bytes(),
        completed: stamp,
    };
    let (content, headers) = (file.content.without_history(), file.headers.clone());
    let metadata = if sent.is_empty() { node.metadata.clone() } else { sent };
    let data = FileData { content, headers, copy: Some(copy), generation: 0 };
    if call.flag("x-ms-file-copy-ignore-readonly")? {
        allow_writes(context)?;
    }
    context.place_file(data, metadata, wishes, stamp)?;
    Ok(Reply::new(202).stamped(stamp).with("x-ms-copy-id", id).with("x-ms-copy-status", "success"))
}

/// Takes the read-only attribute from the destination, if there is one.
fn allow_writes(context: &mut Context<'_>) -> Result<()> {
    let path = context.call.components()?;
    let share = context.share_mut()?;
    if let Some(id) = share.tree.find(&path)? {
        let node = share.tree.node_mut(id);
        node.attributes = Attributes(node.attributes.0 & !Attributes::READ_ONLY.0);
    }
    Ok(())
}

/// Abort Copy File: none is ever pending here.
pub fn abort(context: &mut Context<'_>) -> Result<Reply> {
    let call: &Call = context.call;
    let id = call.query("copyid").unwrap_or_default();
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    if lengths != [8, 4, 4, 4, 12] {
        let reason = "copyid must be a GUID.";
        return Err(Error::query("InvalidQueryParameterValue", "copyid", id, reason));
    }
    context.file()?;
    Err(Error::new("NoPendingCopyOperation"))
}
