//! Changes as the server tells of them (X7): of all that is below the root, whoever makes them.
//!
//! A request is kept with the server, which answers it when something has changed. It has a
//! connection of its own: what waits for hours must not be in the way of what waits for an answer,
//! and ends with its connection alone. A server that falls silent is found out by echoes. Between
//! two requests the server remembers what changes; what does not fit it says to have forgotten.
//!
//! Servers tell of what clients do. Of edits on the server's own disk Samba tells in the root at
//! most, so the next listing finds these.

use super::fail::Outcome;
use super::name;
use super::session::Session;
use super::wire::{self, Handle, Op, Open, access, options};
use crate::watch::{CHANGES_MAX, stream};
use crate::{Change, ChangeStream, ErrorKind, RemotePath};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, ready, select};
use smb2::msg::change_notify::{
    FILE_NOTIFY_CHANGE_ATTRIBUTES, FILE_NOTIFY_CHANGE_CREATION, FILE_NOTIFY_CHANGE_DIR_NAME,
    FILE_NOTIFY_CHANGE_FILE_NAME, FILE_NOTIFY_CHANGE_LAST_WRITE, FILE_NOTIFY_CHANGE_SIZE,
};
use std::sync::Arc;
use tokio::sync::broadcast::{Sender, channel};

/// Bytes of one answer, and of what the server remembers: what one credit pays for.
const ANSWER_BYTES: u32 = 64 << 10;

/// Whatever of an entry is shown.
const WANTED: u32 = FILE_NOTIFY_CHANGE_FILE_NAME
    | FILE_NOTIFY_CHANGE_DIR_NAME
    | FILE_NOTIFY_CHANGE_ATTRIBUTES
    | FILE_NOTIFY_CHANGE_SIZE
    | FILE_NOTIFY_CHANGE_LAST_WRITE
    | FILE_NOTIFY_CHANGE_CREATION;

/// What is told next; never dropped before its answer but with the connection.
type Next = BoxFuture<'static, Outcome<Vec<Change>>>;

/// The changes from now on; `None` where the server tells of none.
pub(super) async fn watch(session: &Session) -> Outcome<Option<ChangeStream>> {
    let link = session.another_link().await?;
    let open = Open {
        options: options::DIRECTORY,
        ..Open::existing(access::READ | access::READ_ATTRIBUTES)
    };
    let (root, _) = link.open(&session.wire(&RemotePath::root())?, open).await?;
    let root = Arc::new(root);
    // What is asked first the server takes up first: when it answers the second question, the
    // first one counts.
    let second = root.ask(vec![wire::query(root.id)]).boxed();
    let first = match select(next(root.clone()), second).await {
        Either::Left((Err(fail), _)) if fail.kind == ErrorKind::Unsupported => return Ok(None),
        Either::Left((told, _)) => ready(Ok(told?)).boxed(),
        Either::Right((answers, first)) => {
            answers?.done(0)?;
            first
        }
    };
    let (sender, changes) = channel(CHANGES_MAX);
    tokio::spawn(tell(root, first, sender));
    Ok(Some(stream(changes)))
}

/// Passes on what is told, until nobody listens or the connection breaks.
async fn tell(root: Arc<Handle>, first: Next, sender: Sender<Change>) {
    let mut told = first;
    loop {
        let heard = tokio::select! {
            () = sender.closed() => return,
            heard = &mut told => heard,
        };
        match heard {
            Ok(changes) => changes.into_iter().for_each(|change| drop(sender.send(change))),
            Err(fail) => {
                let why = fail.reason();
                return tracing::debug!(why, "the server does not tell of changes any more");
            }
        }
        told = next(root.clone());
    }
}

/// Asks for what changes next.
fn next(root: Arc<Handle>) -> Next {
    let asked = async move {
        let op = Op::Notify { file: root.id, filter: WANTED, bytes: ANSWER_BYTES };
        // By our own hand: it ends when nobody listens any more.
        let told = root.link().clone().send(vec![op]).await?.bytes(0)?;
        Ok(parse(&told).unwrap_or_else(|| vec![Change::Lost]))
    };
    asked.boxed()
}

/// The entries of an answer. `None`: the server has forgotten some, or says what nobody understands.
pub(super) fn parse(answer: &[u8]) -> Option<Vec<Change>> {
    let number = |entry: &[u8], at: usize| {
        let bytes = entry.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let mut changes = Vec::new();
    let mut entry = answer;
    loop {
        let name = entry.get(12..)?.get(..number(entry, 8)?)?;
        let units: Vec<u16> =
            name.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        let wire = String::from_utf16(&units).ok()?;
        let mut names = wire.split('\\').filter(|name| !name.is_empty()).map(name::from_wire);
        let path = names.try_fold(RemotePath::root(), |dir, name| {
            RemotePath::is_name(&name).then(|| dir.join(&name))
        });
        changes.push(Change::At(path?));
        match number(entry, 0)? {
            0 => return Some(changes),
            // Entries that lie within one another would be many, of an answer that is short.
            offset if offset < 12 + name.len() => return None,
            offset => entry = entry.get(offset..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(next: u32, name: &str) -> Vec<u8> {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut bytes =
            [next.to_le_bytes(), [3, 0, 0, 0], (name.len() as u32).to_le_bytes()].concat();
        bytes.extend(name);
        bytes.resize(bytes.len().max(next as usize), 0);
        bytes
    }

    #[test]
    fn an_answer_names_paths_as_listings_do() {
        let answer = [entry(24, "d\\a\u{f022}b"), entry(0, "f")].concat();
        let at = |name: &str| Change::At(RemotePath::parse(name.as_bytes()));
        assert_eq!(parse(&answer), Some(vec![at("d/a:b"), at("f")]));
    }

    #[test]
    fn what_is_not_understood_is_told_as_lost() {
        // rule X7: an empty answer is how servers say that there was too much.
        let lone = [&entry(0, "")[..8], &[2, 0, 0, 0], &[0x00, 0xd8]].concat();
        let astray = entry(4000, "f")[..20].to_vec();
        let within = [entry(4, "abc"), entry(0, "f")].concat();
        for answer in
            [vec![], entry(0, "abc")[..16].to_vec(), astray, lone, within, entry(0, "a/b")]
        {
            assert_eq!(parse(&answer), None, "{answer:?}");
        }
    }
}
