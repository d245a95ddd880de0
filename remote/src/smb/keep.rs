//! What a replacement takes over from what it replaces (X6): owner and access list, alternate data
//! streams, extended attributes. Birth and attributes go with its times (`write`).
//!
//! What the login may not read or set is left as the directory gives it; what fails otherwise fails
//! the replacement, which is tried again. What others write to a stream after it was copied is found
//! when the file is compared, where the server takes it for a write to the file, as Samba does.

use super::extended;
use super::fail::Outcome;
use super::look::there;
use super::session::{Link, Session};
use super::wire::{self, CHAINED, Handle, Open, access, options, share};
use crate::{ErrorKind, RemotePath};
use bytes::Bytes;
use smb2::msg::create::CreateDisposition;
use smb2::msg::query_info::InfoType;
use smb2::types::status::NtStatus;
use std::sync::Arc;

/// Owner, group and access list; and the access list alone, which is what can be set without a
/// privilege.
const SECURITY: u32 = 0x7;
const ACCESS_LIST: u32 = 0x4;

const STREAMS: u8 = 22;

/// Of one answer: what one credit pays for.
const ANSWER_BYTES: u32 = 64 << 10;

/// Bytes of a stream that go at a time.
const PART_BYTES: u32 = 256 << 10;

/// What stands at `path` has these.
struct Kept {
    security: Option<Bytes>,
    streams: Vec<Stream>,
    extended: Option<Bytes>,
}

/// A stream beside the file's own bytes.
#[derive(PartialEq, Eq, Debug)]
struct Stream {
    /// As it stands behind the file's name: `:name:$DATA`.
    name: String,
    size: u64,
}

/// Gives the file that is open as `ours` under the name `temp` what the one at `path` has.
pub(super) async fn carry_over(
    session: &Session,
    link: &Arc<Link>,
    path: &RemotePath,
    temp: &RemotePath,
    ours: &Handle,
) -> Outcome<()> {
    let (old, new) = (session.wire(path)?, session.wire(temp)?);
    let Some(kept) = look(link, &old).await? else { return Ok(()) };
    for stream in &kept.streams {
        let copied = copy(link, &old, &new, stream).await;
        if !is_kept(copied)? {
            tracing::warn!(%path, stream = stream.name, "a stream of what is replaced is not kept");
        }
    }
    if let Some(extended) = kept.extended.filter(|extended| !extended.is_empty()) {
        let open = Open::existing(access::WRITE_EXTENDED);
        let set = wire::set(CHAINED, extended::CLASS, extended.into());
        if !is_kept(set_by(link, &new, open, set).await)? {
            tracing::warn!(%path, "extended attributes of what is replaced are not kept");
        }
    }
    let Some(security) = kept.security else { return Ok(()) };
    if !is_kept(carry_security(link, &new, ours, security.into()).await)? {
        tracing::debug!(%path, "the access list is not kept");
    }
    Ok(())
}

/// A refusal for good is no reason to fail.
fn is_kept(set: Outcome<()>) -> Outcome<bool> {
    match set {
        Ok(()) => Ok(true),
        Err(fail) if extended::is_refusal(&fail) => Ok(false),
        Err(fail) => Err(fail),
    }
}

/// What the file there has; `None` where there is none.
async fn look(link: &Arc<Link>, wire: &str) -> Outcome<Option<Kept>> {
    let about = |class| wire::query_of(CHAINED, InfoType::File, class, 0, ANSWER_BYTES);
    let all = access::READ_SECURITY | access::READ_EXTENDED | access::READ_ATTRIBUTES;
    for wanted in [all, access::READ_ATTRIBUTES] {
        let ops = vec![
            Open::existing(wanted).op(wire),
            about(STREAMS),
            about(extended::CLASS),
            wire::query_of(CHAINED, InfoType::Security, 0, SECURITY, ANSWER_BYTES),
            wire::close(CHAINED),
        ];
        let mut answers = link.ask(ops).await?;
        match there(answers.done(0)) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(None),
            Err(fail) if fail.kind == ErrorKind::PermissionDenied && wanted == all => continue,
            Err(fail) => return Err(fail),
        }
        // A server without streams or attributes says so.
        let streams = answers.bytes(1).map_or_else(|_| Vec::new(), |it| streams(&it));
        let (extended, security) = (answers.bytes(2).ok(), answers.bytes(3).ok());
        return Ok(Some(Kept { security, streams, extended }));
    }
    Ok(None)
}

/// All streams but the file's own bytes. Each entry: where the next one is, the name's length, size,
/// allocation, name.
fn streams(mut list: &[u8]) -> Vec<Stream> {
    let mut found = Vec::new();
    let number = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    while let (Some(next), Some(length)) = (number(list, 0), number(list, 4)) {
        let size =
            list.get(8..).and_then(|rest| rest.first_chunk()).map(|it| u64::from_le_bytes(*it));
        let (Some(size), Some(name)) = (size, list.get(24..24 + length)) else { break };
        let (units, _) = name.as_chunks::<2>();
        let name: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        let name = String::from_utf16_lossy(&name);
        if name != "::$DATA" && name.starts_with(':') {
            found.push(Stream { name, size });
        }
        match list.get(next..) {
            Some(rest) if next > 0 => list = rest,
            _ => break,
        }
    }
    found
}

async fn copy(link: &Arc<Link>, old: &str, new: &str, stream: &Stream) -> Outcome<()> {
    let [old, new] = [old, new].map(|wire| format!("{wire}{}", stream.name));
    let read = Open::existing(access::READ | access::READ_ATTRIBUTES);
    let (from, _) = link.open(&old, read).await?;
    let write = Open {
        disposition: CreateDisposition::FileOverwriteIf,
        ..Open::new(access::WRITE | access::READ_ATTRIBUTES, share::NONE, options::NO_DIRECTORY)
    };
    let (to, _) = link.open(&new, write).await?;
    let part = PART_BYTES.min(link.read_bytes_max).min(link.write_bytes_max).max(1);
    let mut at = 0;
    while at < stream.size {
        let mut answers = from.ask(vec![wire::read(from.id, at, part)]).await?;
        let bytes = match answers.bytes(0) {
            // It was cut meanwhile.
            Err(fail) if fail.is(NtStatus::END_OF_FILE) => break,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len() as u64;
        to.ask(vec![wire::write(to.id, at, bytes.into())]).await?.done(0)?;
        at += length;
    }
    from.close().await;
    let flush = wire::flush(to.id);
    to.finish(vec![flush]).await?.done(0)
}

async fn set_by(link: &Arc<Link>, wire: &str, open: Open, set: wire::Op) -> Outcome<()> {
    let ops = vec![open.op(wire), set, wire::close(CHAINED)];
    let mut answers = link.ask(ops).await?;
    answers.done(0)?;
    answers.done(1)
}

/// Owner, group and access list, or what of them may be set.
async fn carry_security(
    link: &Arc<Link>,
    wire: &str,
    ours: &Handle,
    security: Vec<u8>,
) -> Outcome<()> {
    let own = wire::query_of(ours.id, InfoType::Security, 0, SECURITY, ANSWER_BYTES);
    let own = ours.ask(vec![own]).await?.bytes(0)?;
    if own == security {
        return Ok(());
    }
    if owners(&own) != owners(&security) {
        let open = Open::existing(access::WRITE_OWNER | access::WRITE_SECURITY);
        let all = wire::set_of(CHAINED, InfoType::Security, 0, SECURITY, security.clone());
        if is_kept(set_by(link, wire, open, all).await)? {
            return Ok(());
        }
    }
    let set = wire::set_of(ours.id, InfoType::Security, 0, ACCESS_LIST, security);
    ours.ask(vec![set]).await?.done(0)
}

/// Owner and group of a security descriptor. Where they stand is said behind its first four bytes;
/// a SID has a count of numbers in its second byte.
fn owners(descriptor: &[u8]) -> [Option<&[u8]>; 2] {
    [4, 8].map(|place| {
        let at = u32::from_le_bytes(*descriptor.get(place..)?.first_chunk()?) as usize;
        let sid = descriptor.get(at..)?;
        sid.get(..8 + 4 * usize::from(*sid.get(1)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(next: u32, name: &str, size: u64) -> Vec<u8> {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut bytes = next.to_le_bytes().to_vec();
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        bytes.extend(name);
        bytes
    }

    #[test]
    fn streams_are_found_and_a_cut_list_ends() {
        let mut list = entry(40, "::$DATA", 9);
        list.resize(40, 0);
        list.extend(entry(0, ":a:$DATA", 7));
        let a = Stream { name: ":a:$DATA".into(), size: 7 };
        assert_eq!(streams(&list), [a]);
        for length in 0..list.len() {
            assert!(streams(&list[..length]).is_empty(), "{length}");
        }
        // Says that it is its own next one.
        assert_eq!(streams(&entry(0, ":b:$DATA", 1)).len(), 1);
    }

    #[test]
    fn owners_are_where_the_descriptor_says() {
        let mut descriptor = vec![1, 0, 0, 0x80, 20, 0, 0, 0, 32, 0, 0, 0];
        descriptor.resize(20, 0);
        let [one, two] = [5_u8, 6].map(|last| [1, 1, 0, 0, 0, 0, 0, 5, last, 0, 0, 0]);
        descriptor.extend([one, two].concat());
        assert_eq!(owners(&descriptor), [Some(&one[..]), Some(&two[..])]);
        assert_eq!(owners(&descriptor[..40]), [Some(&one[..]), None]);
        assert_eq!(owners(&[]), [None, None]);
    }
}
