//! Extended attributes: lists of names and values, as `FILE_FULL_EA_INFORMATION` has them (MS-FSCC 2.4.16).
//!
//! `user.colour` here is `colour` there. A server folds case in these names, may give them back in
//! capitals (NTFS does), and takes an empty value for a removal. To read them a file has to be opened
//! in a way that disturbs other clients' leases on it, so nobody is asked who has none: how many bytes a file
//! has of them, each listing and each look says.

use super::fail::{Fail, Outcome};
use super::look::{Seen, there};
use super::name;
use super::session::{Link, Session};
use super::wire::{self, CHAINED, Open, access};
use crate::{Attrs, ErrorKind, Kind, Metadata, RemotePath, Xattrs};
use bytes::Bytes;
use smb2::msg::query_info::InfoType;
use smb2::types::status::NtStatus;
use std::sync::Arc;

pub(super) const CLASS: u8 = 15;

/// Of one list, asked for or sent: what one credit pays for.
pub(super) const LIST_BYTES: u32 = 64 << 10;

/// The only namespace that there is.
const PREFIX: &[u8] = b"user.";

/// With the prefix it is as long as a name may be here.
const NAME_BYTES_MAX: usize = 250;

/// A name that nobody has: removing it says whether there can be any.
const NOBODYS: &[u8] = b"covefs.none";

/// Looks at a file that others replace meanwhile.
const LOOKS_MAX: usize = 4;

/// There are none on this share, or none of this name.
const NOT_SUPPORTED: NtStatus = NtStatus(0xC000_004F);
const NONE_ON_FILE: NtStatus = NtStatus(0xC000_0052);

impl Session {
    /// What stands at `path`, with its extended attributes.
    pub(super) async fn look_whole(
        &self,
        link: &Arc<Link>,
        path: &RemotePath,
    ) -> Outcome<Metadata> {
        for _ in 0..LOOKS_MAX {
            let seen = self.look(link, path).await?;
            let mut metadata = self.metadata(link, &seen);
            if !self.has_xattrs() || !matches!(metadata.kind, Kind::File | Kind::Dir) {
                return Ok(metadata);
            }
            // A file that stands aside does so for as long as nobody may put it back.
            for path in [Some(path.clone()), name::aside(path)].into_iter().flatten() {
                if metadata.xattrs.is_none() {
                    metadata.xattrs = self.read_xattrs(link, &path, &seen).await?;
                }
            }
            if metadata.xattrs.is_some() {
                return Ok(metadata);
            }
        }
        Err(Fail::saying(ErrorKind::Busy, "others replace it all the time"))
    }

    /// `None`: nothing stands there, or something else.
    async fn read_xattrs(
        &self,
        link: &Arc<Link>,
        path: &RemotePath,
        seen: &Seen,
    ) -> Outcome<Option<Xattrs>> {
        let ops = vec![
            Open::existing(access::READ_EXTENDED | access::READ_ATTRIBUTES).op(&self.wire(path)?),
            wire::query(CHAINED),
            ask(),
            wire::close(CHAINED),
        ];
        let mut answers = link.ask(ops).await?;
        match there(answers.done(0))? {
            Ok(()) if answers.facts(1)?.id == seen.facts.id => told(answers.bytes(2)).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether the share keeps extended attributes: only a server that says so has none.
    pub(super) async fn keeps_xattrs(&self, link: &Arc<Link>) -> Outcome<bool> {
        let wire = self.wire(&RemotePath::root())?;
        let (wanted, question) = match self.scope.read_only || link.is_read_only {
            true => (access::READ_EXTENDED, ask()),
            false => (access::WRITE_EXTENDED, wire::set(CHAINED, CLASS, entry(NOBODYS, &[]))),
        };
        let ops = vec![Open::existing(wanted).op(&wire), question, wire::close(CHAINED)];
        let mut answers = link.ask(ops).await?;
        match answers.done(0) {
            // The root alone may be closed to us.
            Err(fail) if is_refusal(&fail) => return Ok(true),
            opened => opened?,
        }
        match answers.done(1) {
            Err(fail) if is_refusal(&fail) => Ok(fail.is(NONE_ON_FILE)),
            done => done.map(|()| true),
        }
    }
}

/// What a file is to have.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Those with an empty value are removed.
    pub(super) xattrs: &'a Xattrs,
    /// And so are all others.
    pub(super) are_all: bool,
}

impl Wanted<'_> {
    /// What these attributes say of it, if anything.
    pub(super) fn of(attrs: &Attrs) -> Option<Wanted<'_>> {
        attrs.xattrs.as_ref().map(|xattrs| Wanted { xattrs, are_all: attrs.xattrs_are_all })
    }
}

/// Gives the file with this number these extended attributes. Returns all that it has then: what the server
/// refuses for good is left as it was.
pub(super) async fn put(
    link: &Arc<Link>,
    wire: &str,
    id: u64,
    wanted: Wanted<'_>,
) -> Outcome<Xattrs> {
    match try_put(link, wire, id, wanted, false).await {
        // Whole lists are refused for one that is too big.
        Err(fail) if is_refusal(&fail) => {
            tracing::warn!(status = ?fail.status, "extended attributes are refused");
            match try_put(link, wire, id, wanted, true).await {
                Err(fail) if is_refusal(&fail) => Ok(Xattrs::new()),
                put => put,
            }
        }
        put => put,
    }
}

async fn try_put(
    link: &Arc<Link>,
    wire: &str,
    id: u64,
    wanted: Wanted<'_>,
    one_by_one: bool,
) -> Outcome<Xattrs> {
    let open = access::READ_EXTENDED | access::WRITE_EXTENDED | access::READ_ATTRIBUTES;
    let ops = vec![Open::existing(open).op(wire), wire::query(CHAINED), ask()];
    let mut answers = link.ask(ops).await?;
    answers.done(0)?;
    if answers.facts(1)?.id != id {
        return Err(Fail::saying(ErrorKind::Busy, "another file has taken its place"));
    }
    let there = told(answers.bytes(2))?;
    let handle = answers.handle.ok_or(ErrorKind::Protocol)?;
    let changes = changes(&there, wanted);
    if !one_by_one {
        let sets = lists(&changes).into_iter().map(|list| wire::set(handle.id, CLASS, list));
        let sets: Vec<wire::Op> = sets.collect();
        let count = sets.len();
        let mut answers = handle.finish(sets).await?;
        (0..count).try_for_each(|at| answers.done(at))?;
        return Ok(changed(&there, &changes));
    }
    let mut now = there.clone();
    for change in changes {
        let set = wire::set(handle.id, CLASS, entry(change.0, change.1));
        match handle.ask(vec![set]).await?.done(0) {
            Ok(()) => now = changed(&now, &[change]),
            Err(fail) if is_refusal(&fail) => {}
            Err(fail) => return Err(fail),
        }
    }
    handle.close().await;
    Ok(now)
}

/// Whether it would be refused again.
pub(super) fn is_refusal(fail: &Fail) -> bool {
    !fail.is_unknown() && !fail.kind.is_transient()
}

fn ask() -> wire::Op {
    wire::query_of(CHAINED, InfoType::File, CLASS, 0, LIST_BYTES)
}

/// What was answered: that there are none, a server says by an error.
fn told(list: Outcome<Bytes>) -> Outcome<Xattrs> {
    match list {
        Err(fail) if fail.is(NONE_ON_FILE) || fail.is(NOT_SUPPORTED) => Ok(Xattrs::new()),
        list => parse(&list?),
    }
}

/// Which of those has this name.
fn find(there: &Xattrs, name: &[u8]) -> Option<usize> {
    let exact = there.iter().position(|(other, _)| other == name);
    exact.or_else(|| there.iter().position(|(other, _)| other.eq_ignore_ascii_case(name)))
}

/// A name without its prefix, and its new value: an empty one removes.
type Change<'a> = (&'a [u8], &'a [u8]);

/// What has to change so that `there` becomes as it is wanted.
fn changes<'a>(there: &'a Xattrs, wanted: Wanted<'a>) -> Vec<Change<'a>> {
    let is_so = |name: &[u8], value: &Vec<u8>| match find(there, name) {
        Some(at) => there[at].1 == *value,
        None => value.is_empty(),
    };
    let set = wanted.xattrs.iter().filter(|(name, value)| !is_so(name, value));
    let set = set.map(|(name, value)| (&name[..], &value[..]));
    let others = there.iter().filter(|_| wanted.are_all);
    let removed = others.filter(|(name, _)| find(wanted.xattrs, name).is_none());
    let all = removed.map(|(name, _)| (&name[..], &[][..])).chain(set);
    all.filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value))).collect()
}

/// What a file has that had `there`, after these changes.
fn changed(there: &Xattrs, changes: &[Change<'_>]) -> Xattrs {
    let mut now = there.clone();
    for (name, value) in changes {
        let name = [PREFIX, name].concat();
        match (find(&now, &name), value.is_empty()) {
            (Some(at), true) => drop(now.remove(at)),
            (Some(at), false) => now[at].1 = value.to_vec(),
            (None, true) => {}
            (None, false) => now.push((name, value.to_vec())),
        }
    }
    now.sort();
    now
}

/// These changes, in lists that go in one request each.
fn lists(changes: &[Change<'_>]) -> Vec<Vec<u8>> {
    let mut lists: Vec<Vec<u8>> = Vec::new();
    // Where the last entry of the last list begins: it says how far the next one is.
    let mut last = 0;
    for (name, value) in changes {
        let entry = entry(name, value);
        match lists.last_mut() {
            Some(list) if list.len() + 3 + entry.len() <= LIST_BYTES as usize => {
                list.resize(list.len().next_multiple_of(4), 0);
                let distance = (list.len() - last) as u32;
                list[last..last + 4].copy_from_slice(&distance.to_le_bytes());
                last = list.len();
                list.extend_from_slice(&entry);
            }
            _ => {
                lists.push(entry);
                last = 0;
            }
        }
    }
    lists
}

/// Distance to the next entry, flags, lengths of name and value, name and a zero, value.
fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut entry = vec![0; 5];
    entry.push(name.len() as u8);
    entry.extend_from_slice(&(value.len() as u16).to_le_bytes());
    for part in [name, &[0], value] {
        entry.extend_from_slice(part);
    }
    entry
}

/// What a list says, sorted by name; what is longer than a name may be here is left out.
pub(super) fn parse(mut list: &[u8]) -> Outcome<Xattrs> {
    let short = || Fail::saying(ErrorKind::Protocol, "a list of extended attributes is cut short");
    let mut found = Xattrs::new();
    while !list.is_empty() {
        let head: &[u8; 8] = list.first_chunk().ok_or_else(short)?;
        let distance = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let length = usize::from(u16::from_le_bytes([head[6], head[7]]));
        let value_at = 8 + usize::from(head[5]) + 1;
        let name = list.get(8..value_at - 1).ok_or_else(short)?;
        let value = list.get(value_at..value_at + length).ok_or_else(short)?;
        if (1..=NAME_BYTES_MAX).contains(&name.len()) {
            found.push(([PREFIX, name].concat(), value.to_vec()));
        }
        list = match distance {
            0 => &[],
            // No entry lies in another one.
            _ if distance < value_at + length => return Err(short()),
            _ => list.get(distance..).filter(|rest| !rest.is_empty()).ok_or_else(short)?,
        };
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattrs(list: &[(&str, &[u8])]) -> Xattrs {
        list.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn lists_come_back_and_a_cut_one_is_refused() {
        let wanted = xattrs(&[("user.a", b"1"), ("user.bc", &[7; 1000]), ("user.d", &[0, 255])]);
        let (none, all) = (Xattrs::new(), Wanted { xattrs: &wanted, are_all: true });
        let sent = lists(&changes(&none, all));
        let [list] = &sent[..] else { panic!("they fit in one") };
        assert_eq!(parse(list).unwrap(), wanted);
        for length in 1..list.len() {
            assert!(parse(&list[..length]).is_err(), "{length}");
        }
        assert_eq!(parse(&[]).unwrap(), []);
        // The next one lies nowhere, or in this one.
        for distance in [200, 8] {
            let mut wrong = entry(b"a", b"1");
            wrong.resize(40, 0);
            wrong[0] = distance;
            assert!(parse(&wrong).is_err());
        }
    }

    #[test]
    fn only_what_differs_is_sent_in_lists_that_fit() {
        let all = [
            ("user.GONE", &b"1"[..]),
            ("user.SAME", b"2"),
            ("user.SET", b"3"),
            ("user.THEIRS", b""),
        ];
        let there = xattrs(&all);
        let all =
            [("user.gone", &b""[..]), ("user.never", b""), ("user.new", b"5"), ("user.same", b"2")];
        let mut wanted = xattrs(&all);
        wanted.extend(xattrs(&[("user.set", b"4")]));
        let all = [(&b"gone"[..], &b""[..]), (b"new", b"5"), (b"set", b"4")];
        let some = Wanted { xattrs: &wanted, are_all: false };
        let sent = changes(&there, some);
        assert_eq!(sent, all);
        let now = changed(&there, &sent);
        let all = [
            ("user.SAME", &b"2"[..]),
            ("user.SET", b"4"),
            ("user.THEIRS", b""),
            ("user.new", b"5"),
        ];
        assert_eq!(now, xattrs(&all));
        assert!(lists(&changes(&now, some)).is_empty());
        let others = changes(&now, Wanted { are_all: true, ..some });
        assert_eq!(others, [(&b"THEIRS"[..], &b""[..])]);
        let many: Xattrs = (b'a'..=b'j')
            .map(|letter| ([PREFIX, &[letter]].concat(), vec![letter; 15_000]))
            .collect();
        let none = Xattrs::new();
        let sent = lists(&changes(&none, Wanted { xattrs: &many, are_all: true }));
        assert!(sent.len() > 2 && sent.iter().all(|list| list.len() <= LIST_BYTES as usize));
        let told: Xattrs = sent.iter().flat_map(|list| parse(list).unwrap()).collect();
        assert_eq!(told, many);
    }
}
