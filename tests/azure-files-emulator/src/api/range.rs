//! Ranges of a file: putting, clearing, listing what holds data and what changed.

use super::Context;
use super::list::{marker, page_entries};
use super::properties::wished_time;
use crate::call::{Call, Reply, SOURCE_DOT};
use crate::crypto;
use crate::error::{Error, Result};
use crate::ranges::Mark;
use crate::store::{Node, Snapshot, Tree};
use crate::time::Ticks;
use crate::xml::Xml;

/// What one Put Range may carry.
pub const RANGE_BYTES_MAX: u64 = 4 << 20;

/// The range that a request names: its first byte and, if it is said, its last.
/// `x-ms-range` goes before `Range`.
pub fn requested_range(call: &Call) -> Result<Option<(u64, Option<u64>)>> {
    let name = if call.headers.contains_key("x-ms-range") { "x-ms-range" } else { "range" };
    match call.header(name) {
        None => Ok(None),
        Some(text) => parse_range(text).map(Some).ok_or_else(|| Error::header(name, text)),
    }
}

fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let start = start.parse().ok()?;
    let end = if end.is_empty() { None } else { Some(end.parse().ok()?) };
    end.is_none_or(|end| start <= end).then_some((start, end))
}

/// A range of which both ends are said; the end that is returned is exclusive.
fn whole_range(call: &Call) -> Result<(u64, u64)> {
    let range = requested_range(call)?.ok_or_else(|| Error::missing_header("x-ms-range"))?;
    let wrong = || Error::header("x-ms-range", call.header("x-ms-range").unwrap_or_default());
    let (start, end) = (range.0, range.1.ok_or_else(wrong)?);
    Ok((start, end.checked_add(1).ok_or_else(wrong)?))
}

/// The body must have the MD5 that is said, if one is.
pub fn check_md5(call: &Call) -> Result<()> {
    let Some(sent) = call.header("content-md5") else { return Ok(()) };
    if crypto::from_base64(sent).is_none_or(|md5| md5.len() != 16) {
        return Err(Error::new("InvalidMd5"));
    }
    let computed = crypto::md5([&call.body[..]]);
    if computed == sent {
        return Ok(());
    }
    let details = vec![("UserSpecifiedMd5", sent.to_owned()), ("ServerCalculatedMd5", computed)];
    Err(Error { details, ..Error::new("Md5Mismatch") })
}

/// Put Range with `x-ms-write: update`.
pub fn put(context: &mut Context<'_>) -> Result<Reply> {
    let call = context.call;
    let mode = call.required("x-ms-write")?;
    if !mode.eq_ignore_ascii_case("update") {
        return Err(Error::header("x-ms-write", mode));
    }
    let (start, end) = whole_range(call)?;
    if end - start > RANGE_BYTES_MAX {
        return Err(Error::new("RequestBodyTooLarge"));
    }
    if call.body.len() as u64 != end - start {
        return Err(Error::header("Content-Length", &call.body.len().to_string()));
    }
    check_md5(call)?;
    let reply = write(context, start, &call.body)?;
    Ok(reply.with("Content-MD5", crypto::md5([&call.body[..]])))
}

/// Puts bytes into the file that is named.
fn write(context: &mut Context<'_>, start: u64, bytes: &[u8]) -> Result<Reply> {
    let (id, written, stamp) = range_to_write(context, start + bytes.len() as u64)?;
    let share = context.share_mut()?;
    share.check_room(bytes.len() as u64)?;
    let epoch = share.epoch;
    share.tree.node_mut(id).file_mut()?.content.write(start, bytes, epoch);
    finish(context, id, written, stamp)
}

/// The file, what its last-write time is to be, and the moment; `end` must be within the file.
fn range_to_write(context: &mut Context<'_>, end: u64) -> Result<(u64, Option<Ticks>, Ticks)> {
    let stamp = context.stamp();
    let name = "x-ms-file-last-write-time";
    let written = match context.call.header(name) {
        None => Some(stamp),
        Some(_) => wished_time(context.call, name, stamp)?,
    };
    let id = context.file_to_write()?;
    let node = context.share()?.tree.node(id);
    node.check_writable()?;
    if end > node.file()?.content.size_bytes() {
        return Err(Error::new("InvalidRange"));
    }
    Ok((id, written, stamp))
}

fn finish(
    context: &mut Context<'_>,
    id: u64,
    written: Option<Ticks>,
    stamp: Ticks,
) -> Result<Reply> {
    let times = &mut context.share_mut()?.tree.node_mut(id).times;
    times.written = written.unwrap_or(times.written);
    let node = context.finish_write(id, stamp)?;
    Ok(Reply::new(201)
        .stamped(node.stamp)
        .with("x-ms-file-last-write-time", node.times.written.iso())
        .with("x-ms-request-server-encrypted", "true"))
}

/// Put Range with `x-ms-write: clear`.
pub fn clear(context: &mut Context<'_>) -> Result<Reply> {
    let call = context.call;
    let (start, end) = whole_range(call)?;
    if !call.body.is_empty() {
        return Err(Error::header("Content-Length", &call.body.len().to_string()));
    }
    let (id, written, stamp) = range_to_write(context, end)?;
    let share = context.share_mut()?;
    let epoch = share.epoch;
    share.tree.node_mut(id).file_mut()?.content.clear(start, end, epoch);
    finish(context, id, written, stamp)
}

/// Put Range From URL, of a file of this server.
pub fn put_from_url(context: &mut Context<'_>) -> Result<Reply> {
    let call = context.call;
    let (start, end) = whole_range(call)?;
    let source = call.source("x-ms-copy-source", SOURCE_DOT)?;
    // Other than a copy of a whole file, the request's own key is not good for the source.
    if source.query("sig").is_none() && call.header("x-ms-copy-source-authorization").is_none() {
        return Err(Error::new("CannotVerifyCopySource").with_status(403));
    }
    let range = call
        .header("x-ms-source-range")
        .map(|text| parse_range(text).ok_or_else(|| Error::header("x-ms-source-range", text)));
    let (from, to) = range.transpose()?.unwrap_or((0, Some(end - start - 1)));
    let to = to.map_or(from + (end - start), |to| to.saturating_add(1));
    if to - from != end - start {
        return Err(Error::header("x-ms-source-range", &format!("bytes={from}-{}", to - 1)));
    }
    if to - from > RANGE_BYTES_MAX {
        return Err(Error::new("RequestBodyTooLarge"));
    }
    let snapshot = source.query("sharesnapshot").map(str::to_owned);
    let content = &context.source_node(&source, snapshot.as_deref())?.file()?.content;
    if to > content.size_bytes() {
        return Err(Error::new("InvalidRange"));
    }
    let bytes = content.read(from, to).concat();
    let crc64 = crypto::base64(&crypto::crc64(&bytes).to_le_bytes());
    let matches = call.header("x-ms-source-if-match-crc64").is_none_or(|sent| sent == crc64);
    let differs = call.header("x-ms-source-if-none-match-crc64").is_none_or(|sent| sent != crc64);
    if !matches || !differs {
        return Err(Error::new("SourceConditionNotMet"));
    }
    Ok(write(context, start, &bytes)?.with("x-ms-content-crc64", crc64))
}

/// List Ranges: what holds data, or what changed since a snapshot.
pub fn list(context: &mut Context<'_>) -> Result<Reply> {
    let call = context.call;
    let node = context.file()?;
    let content = &node.file()?.content;
    let (start, end) = match requested_range(call)? {
        Some((start, end)) => (start, end.map_or(u64::MAX, |end| end.saturating_add(1))),
        None => (0, u64::MAX),
    };
    let start = match marker(call)? {
        Some(next) => next.parse().map_err(|_| Error::new("InvalidQueryParameterValue"))?,
        None => start,
    };
    let found = match call.query("prevsharesnapshot") {
        None => content.allocated(start, end),
        Some(previous) => {
            let share = context.share()?;
            let earlier = share.snapshots.get(previous);
            let earlier = earlier.ok_or_else(|| Error::new("PreviousSnapshotNotFound"))?;
            check_same_file(context, node, earlier)?;
            content.changed_since(earlier.epoch, start, end)
        }
    };
    let most =
        page_entries(call, if call.query("maxresults").is_some() { 5000 } else { usize::MAX })?;
    let most = if call.query("maxresults").is_some() { most } else { usize::MAX };
    let mut xml = Xml::new("Ranges", &[]);
    for (from, to, mark) in found.iter().take(most) {
        xml.open(if *mark == Mark::Written { "Range" } else { "ClearRange" });
        xml.element("Start", &from.to_string());
        xml.element("End", &(to - 1).to_string());
        xml.close();
    }
    if let Some((next, _, _)) = found.get(most) {
        xml.element("NextMarker", &crypto::base64_url(next.to_string().as_bytes()));
    }
    let reply = Reply::xml(200, xml).stamped(node.stamp);
    Ok(reply.with("x-ms-content-length", content.size_bytes().to_string()))
}

/// Differences are of one file: not of one that took its place since, and of one that was renamed
/// only for clients that know about renames.
fn check_same_file(context: &Context<'_>, node: &Node, earlier: &Snapshot) -> Result<()> {
    let call = context.call;
    let then: &Tree = &earlier.tree;
    let mismatch = || Error::new("FileGenerationMismatch");
    let before = match then.find(&call.components()?).ok().flatten() {
        Some(id) if id == node.id => then.node(id),
        _ if then.has(node.id) && call.flag("x-ms-file-support-rename")? => then.node(node.id),
        Some(_) => return Err(mismatch()),
        None if then.has(node.id) => return Err(mismatch()),
        None => return Err(Error::new("ResourceNotFound")),
    };
    match before.file()?.generation == node.file()?.generation {
        true => Ok(()),
        false => Err(mismatch()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_a_start_and_perhaps_an_end() {
        assert_eq!(parse_range("bytes=0-4"), Some((0, Some(4))));
        assert_eq!(parse_range("bytes=7-"), Some((7, None)));
        for bad in ["0-4", "bytes=-4", "bytes=4-3", "bytes=a-b", "bytes=1"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
