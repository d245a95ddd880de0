//! Directories, but for listing and renaming them.

use super::Context;
use super::properties::Wishes;
use crate::call::Reply;
use crate::error::{Error, Result};
use crate::store::{Attributes, Kind, Node, ROOT};
use std::collections::BTreeMap;

/// Create Directory.
pub fn create(context: &mut Context<'_>) -> Result<Reply> {
    let (call, stamp) = (context.call, context.stamp());
    let path = call.components()?;
    let (metadata, wishes) = (call.metadata()?, Wishes::of(call, stamp)?);
    let id = context.store.new_id();
    let share = context.share_mut()?;
    if share.tree.find(&path)?.is_some() {
        return Err(Error::new("ResourceAlreadyExists"));
    }
    let (parent, name) = (share.tree.parent(&path)?, path.last().expect("the root is there"));
    let directory = Kind::Directory(BTreeMap::new());
    let node = Node::new(id, parent, directory, Attributes::DIRECTORY, stamp);
    let permission_key = share.tree.node(parent).permission_key.clone();
    share.tree.put(Node { metadata, permission_key, ..node });
    if let Err(error) = wishes.apply(share, id, parent) {
        share.tree.forget(id);
        return Err(error);
    }
    share.tree.link(parent, name, id);
    let reply = Reply::new(201).with("x-ms-request-server-encrypted", "true");
    Ok(context.with_properties(reply, context.share()?.tree.node(id)))
}

/// Get Directory Properties.
pub fn get_properties(context: &mut Context<'_>) -> Result<Reply> {
    let tree = context.tree()?;
    let node = tree.node(tree.directory(&context.call.components()?)?);
    let reply = Reply::new(200).with_metadata(&node.metadata).with("x-ms-server-encrypted", "true");
    Ok(context.with_properties(reply, node))
}

/// The id of the directory that is named, to change.
fn directory_to_write(context: &mut Context<'_>) -> Result<u64> {
    let path = context.call.components()?;
    context.share_mut()?.tree.directory(&path)
}

/// Set Directory Properties.
pub fn set_properties(context: &mut Context<'_>) -> Result<Reply> {
    let stamp = context.stamp();
    let wishes = Wishes::of(context.call, stamp)?;
    let id = directory_to_write(context)?;
    let share = context.share_mut()?;
    let before = share.tree.node(id).clone();
    share.tree.node_mut(id).touch(stamp);
    if let Err(error) = wishes.apply(share, id, before.parent) {
        share.tree.put(before);
        return Err(error);
    }
    let reply = Reply::new(200).with("x-ms-request-server-encrypted", "true");
    Ok(context.with_properties(reply, context.share()?.tree.node(id)))
}

/// Set Directory Metadata.
pub fn set_metadata(context: &mut Context<'_>) -> Result<Reply> {
    let (metadata, stamp) = (context.call.metadata()?, context.stamp());
    let id = directory_to_write(context)?;
    let node = context.share_mut()?.tree.node_mut(id);
    node.metadata = metadata;
    node.touch(stamp);
    Ok(Reply::new(200).stamped(stamp).with("x-ms-request-server-encrypted", "true"))
}

/// Delete Directory: of an empty one.
pub fn delete(context: &mut Context<'_>) -> Result<Reply> {
    let path = context.call.components()?;
    let id = directory_to_write(context)?;
    let share = context.share_mut()?;
    if id == ROOT {
        return Err(Error::new("CannotDeleteFileOrDirectory"));
    }
    if !share.tree.entries(id).is_empty() {
        return Err(Error::new("DirectoryNotEmpty"));
    }
    share.tree.node(id).check_writable()?;
    share.check_handles(id, true)?;
    let parent = share.tree.parent(&path)?;
    share.tree.unlink(parent, path.last().expect("it is not the root"));
    Ok(Reply::new(202))
}
