//! Symbolic and hard links, on NFS shares only.

use super::Context;
use super::properties::Wishes;
use crate::call::Reply;
use crate::error::{Error, Result};
use crate::names;
use crate::store::{Attributes, Kind, Node};

const LINKS_MAX: u64 = 178;
const TARGET: &str = "x-ms-file-target-file";

/// SMB shares have no links.
fn check_protocol(context: &Context<'_>) -> Result<()> {
    match context.share()?.is_nfs() {
        true => Ok(()),
        false => Err(Error::new("UnsupportedHeader")),
    }
}

/// Create Symbolic Link.
pub fn create_symbolic(context: &mut Context<'_>) -> Result<Reply> {
    check_protocol(context)?;
    let (call, stamp) = (context.call, context.stamp());
    let path = call.components()?;
    let target = call.required("x-ms-link-text")?.to_owned();
    let (metadata, wishes) = (call.metadata()?, Wishes::of(call, stamp)?);
    let id = context.store.new_id();
    let share = context.share_mut()?;
    if share.tree.find(&path)?.is_some() {
        return Err(Error::new("ResourceAlreadyExists"));
    }
    let parent = share.tree.parent(&path)?;
    let node = Node::new(id, parent, Kind::Link(target), Attributes::NONE, stamp);
    share.tree.put(Node { metadata, ..node });
    if let Err(error) = wishes.apply(share, id, parent) {
        share.tree.forget(id);
        return Err(error);
    }
    share.tree.link(parent, path.last().expect("the root is there"), id);
    Ok(context.with_properties(Reply::new(201), context.share()?.tree.node(id)))
}

/// Get Symbolic Link.
pub fn get_symbolic(context: &mut Context<'_>) -> Result<Reply> {
    check_protocol(context)?;
    let node = context.node()?;
    match &node.kind {
        Kind::Link(target) => {
            Ok(Reply::new(200).stamped(node.stamp).with("x-ms-link-text", target.as_str()))
        }
        _ => Err(Error::new("ResourceTypeMismatch")),
    }
}

/// Create Hard Link: another name of a file.
pub fn create_hard(context: &mut Context<'_>) -> Result<Reply> {
    check_protocol(context)?;
    let (call, stamp) = (context.call, context.stamp());
    let path = call.components()?;
    let target: Vec<String> = call
        .required(TARGET)?
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| names::percent_decode(part).ok_or_else(|| Error::new("InvalidUri")))
        .collect::<Result<_>>()?;
    let share = context.share_mut()?;
    let id = share.tree.file(&target)?;
    if share.tree.find(&path)?.is_some() {
        return Err(Error::new("ResourceAlreadyExists"));
    }
    let parent = share.tree.parent(&path)?;
    let node = share.tree.node_mut(id);
    if node.links >= LINKS_MAX {
        return Err(Error::header(TARGET, &target.join("/")));
    }
    node.links += 1;
    node.touch(stamp);
    share.tree.link(parent, path.last().expect("the root is there"), id);
    Ok(context.with_properties(Reply::new(201), context.share()?.tree.node(id)))
}
