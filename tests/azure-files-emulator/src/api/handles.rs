//! Handles that SMB clients have open; here the server's owner opens them.

use super::Context;
use super::list::{echo, marker, page_entries};
use crate::call::Reply;
use crate::crypto;
use crate::error::{Error, Result};
use crate::store::{Handle, Share};
use crate::xml::Xml;

/// The handles of what is named; with `x-ms-recursive`, of what is below, too.
fn handles(context: &Context<'_>) -> Result<Vec<Handle>> {
    let call = context.call;
    let (share, id) = (context.share()?, context.node()?.id);
    let recursive = call.flag("x-ms-recursive")?;
    let tree = &share.tree;
    let concerned = |handle: &&Handle| {
        let below = || recursive && tree.has(handle.node) && tree.is_within(handle.node, id);
        handle.node == id || below()
    };
    let mut found: Vec<Handle> = share.handles.iter().filter(concerned).cloned().collect();
    found.sort_by_key(|handle| handle.id);
    Ok(found)
}

/// List Handles.
pub fn list(context: &mut Context<'_>) -> Result<Reply> {
    let call = context.call;
    let most = page_entries(call, context.config.page_entries_max)?;
    let after = match marker(call)? {
        Some(text) => text.parse().map_err(|_| Error::new("InvalidQueryParameterValue"))?,
        None => 0,
    };
    let rest: Vec<Handle> =
        handles(context)?.into_iter().filter(|handle| handle.id > after).collect();
    let share = context.share()?;
    let mut xml = Xml::new("EnumerationResults", &[]);
    echo(&mut xml, call);
    xml.open("Entries");
    for handle in rest.iter().take(most) {
        write_handle(&mut xml, share, handle);
    }
    xml.close();
    let last = rest.get(most.saturating_sub(1)).filter(|_| rest.len() > most);
    let next = last.map(|handle| crypto::base64_url(handle.id.to_string().as_bytes()));
    xml.element("NextMarker", &next.unwrap_or_default());
    Ok(Reply::xml(200, xml))
}

fn write_handle(xml: &mut Xml, share: &Share, handle: &Handle) {
    let node = share.tree.has(handle.node).then(|| share.tree.node(handle.node));
    xml.open("Handle");
    xml.element("HandleId", &handle.id.to_string());
    xml.name_element("Path", &handle.path);
    xml.element("FileId", &handle.node.to_string());
    xml.element("ParentId", &node.map_or(0, |node| node.parent).to_string());
    xml.element("SessionId", "9301000000000001");
    xml.element("ClientIp", "127.0.0.1:50000");
    xml.element("ClientName", "smb-client");
    xml.element("OpenTime", &handle.opened.rfc1123());
    xml.open("AccessRightList");
    xml.element("AccessRight", "Read");
    xml.element("AccessRight", "Write");
    xml.close();
    xml.close();
}

/// Force Close Handles.
pub fn close(context: &mut Context<'_>) -> Result<Reply> {
    let wanted = context.call.required("x-ms-handle-id")?;
    let mut found = handles(context)?;
    if wanted != "*" {
        let id: u64 = wanted.parse().map_err(|_| Error::header("x-ms-handle-id", wanted))?;
        found.retain(|handle| handle.id == id);
    }
    let share = context.share_mut()?;
    share.handles.retain(|open| !found.iter().any(|handle| handle.id == open.id));
    Ok(Reply::new(200)
        .with("x-ms-number-of-handles-closed", found.len().to_string())
        .with("x-ms-number-of-handles-failed", "0"))
}
