//! Rename File and Rename Directory: one step, also for a tree.

use super::Context;
use super::properties::Wishes;
use crate::call::{Call, Reply, SOURCE_DOT};
use crate::error::{Error, Result};
use crate::store::{ROOT, Share};

const SOURCE: &str = "x-ms-file-rename-source";

/// Renames a directory or a file.
pub fn rename(context: &mut Context<'_>, directory: bool) -> Result<Reply> {
    let (call, stamp) = (context.call, context.stamp());
    let to = call.components()?;
    let source = call.source(SOURCE, SOURCE_DOT)?;
    let wrong_source = || Error::header(SOURCE, call.header(SOURCE).unwrap_or_default());
    if source.account != context.account.name || source.share != call.share() {
        return Err(wrong_source());
    }
    context.check_source(&source, "w")?;
    let (metadata, wishes) = (call.metadata()?, Wishes::of(call, stamp)?);
    let share = context.share_mut()?;
    let from = &source.components;
    let missing = || Error::new("ResourceNotFound");
    let id = share.tree.find(from).ok().flatten().filter(|id| *id != ROOT).ok_or_else(missing)?;
    if share.tree.node(id).is_directory() != directory {
        return Err(Error::new("ResourceTypeMismatch"));
    }
    share.tree.node(id).lease.check_write(call.header("x-ms-source-lease-id"))?;
    check_source_handles(share, id)?;
    let (old_parent, new_parent) = (share.tree.parent(from)?, share.tree.parent(&to)?);
    if directory && share.tree.is_within(new_parent, id) {
        return Err(wrong_source());
    }
    let (old_name, name) = (from.last().ok_or_else(missing)?, to.last().ok_or_else(wrong_source)?);
    let there = share.tree.find(&to)?.filter(|there| *there != id);
    if let Some(there) = there {
        check_replaced(share, call, there)?;
    }
    // New properties are refused, if they are, before anything is moved.
    let before = share.tree.node(id).clone();
    share.tree.node_mut(id).touch(stamp);
    if let Err(error) = wishes.apply(share, id, new_parent) {
        share.tree.put(before);
        return Err(error);
    }
    // The name may be another of the same file's.
    let taken = share.tree.child(new_parent, name).is_some();
    let same = (old_parent, share.tree.key(old_name)) == (new_parent, share.tree.key(name));
    if taken && !same {
        share.tree.unlink(new_parent, name);
    }
    share.tree.rename((old_parent, old_name), (new_parent, name));
    let node = share.tree.node_mut(id);
    node.lease.written();
    if !metadata.is_empty() {
        node.metadata = metadata;
    }
    if let (Some(kind), Ok(file)) = (call.header("x-ms-content-type"), node.file_mut()) {
        file.headers[0] = Some(kind.to_owned());
    }
    let reply = Reply::new(200).with("x-ms-request-server-encrypted", "true");
    Ok(context.with_properties(reply, context.share()?.tree.node(id)))
}

/// Whether the rename may take the place of the file that has the name.
fn check_replaced(share: &Share, call: &Call, id: u64) -> Result<()> {
    let node = share.tree.node(id);
    if !call.flag("x-ms-file-rename-replace-if-exists")? || node.is_directory() {
        return Err(Error::new("ResourceAlreadyExists"));
    }
    node.lease.check_write(call.header("x-ms-destination-lease-id"))?;
    if !call.flag("x-ms-file-rename-ignore-readonly")? {
        node.check_writable()?;
    }
    share.check_handles(id, true)
}

/// Nobody may have the source, or anything below it, open without sharing its deletion.
fn check_source_handles(share: &Share, id: u64) -> Result<()> {
    let in_the_way = share.handles.iter().any(|handle| {
        !handle.shares_delete
            && share.tree.has(handle.node)
            && (handle.node == id || share.tree.is_within(handle.node, id))
    });
    if in_the_way { Err(Error::new("SharingViolation")) } else { Ok(()) }
}
