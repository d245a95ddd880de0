//! Listings.
//!
//! A server lists a directory name by name: what moves meanwhile may be met at neither of its
//! names. So the directory is looked at before and after: where it stood still, the listing is of
//! one moment. Else it is made again, and in the end whoever misses a name has to ask for it (X1).

use super::facts::Facts;
use super::fail::Outcome;
use super::look::{Seen, look_inside, there};
use super::place;
use super::session::{Link, Session};
use super::wire::{self, CHAINED, Op, Open, access, options};
use super::{mfsymlink, name};
use crate::prng::Prng;
use crate::{ErrorKind, Metadata, RemotePath};
use futures_util::stream::{self, StreamExt};
use smb2::msg::directory_info::{DirectoryInfoEntry, parse_entries};
use smb2::msg::query_directory::FileInformationClass;
use smb2::types::status::NtStatus;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of names in one answer.
const LIST_BYTES: u32 = 256 << 10;

/// What is asked for of each.
pub(super) const CLASS: FileInformationClass = FileInformationClass::FileIdBothDirectoryInformation;

/// Symlinks of a listing that are read at a time.
const LINKS_AT_ONCE: usize = 32;

/// Listings of a directory that does not stand still, and what is between two of them. Those of
/// more entries are not made again: single names of them are asked for anyway (K4).
const LISTS_MAX: usize = 3;
const LIST_AGAIN_MAX: usize = 5000;
const WAIT: Duration = Duration::from_millis(20);

/// Files that one listing puts back where they belong.
const PUT_BACK_MAX: usize = 16;

/// Entries of a listing that were not handed out yet.
#[derive(Clone)]
pub(super) struct Rest {
    pub(super) entries: Arc<Vec<(Vec<u8>, Metadata)>>,
    pub(super) at: usize,
    /// See `Page`.
    pub(super) one_moment: bool,
}

/// An entry: its name, what is said of it, and where it is below the directory, on the wire.
struct Found {
    name: Vec<u8>,
    facts: Facts,
    wire: String,
    /// Its file stands aside, and nothing has its name.
    is_aside: bool,
}

/// What came of one directory.
struct Listed {
    entries: Vec<DirectoryInfoEntry>,
    still: Still,
}

/// Whether the directory changed while it was listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Still {
    Yes,
    /// Not as far as one can see: its last change is too young to tell it from another one.
    Perhaps,
    No,
}

impl Session {
    /// All entries of a directory.
    pub(super) async fn entries(&self, link: &Arc<Link>, dir: &RemotePath) -> Outcome<Rest> {
        let wire = self.wire(dir)?;
        let (listed, witness) = tokio::join!(list_still(link, &wire), self.witness(link));
        let (mut found, still) = match listed {
            Ok(listed) => listed,
            Err(fail) if fail.kind == ErrorKind::NotFound => {
                // Directories do not stand aside for long: nobody lists one there.
                self.missing(link, dir, fail).await?;
                return Err(ErrorKind::Busy.into());
            }
            Err(fail) => return Err(fail),
        };
        witness?;
        let one_moment = still == Still::Yes;
        let replaced = show_what_stands_aside(&mut found);
        self.put_back_all(link, dir, &found).await;
        self.finish_all(link, dir, replaced).await;
        self.remove_empty_holders(link, dir, &found).await;
        let seen = stream::iter(found).map(|Found { name, facts, wire: below, .. }| {
            let below = if wire.is_empty() { below } else { format!("{wire}\\{below}") };
            async move {
                if !mfsymlink::may_be(facts.is_dir(), facts.size) {
                    return Ok((name, Seen { facts, target: None }));
                }
                match look_inside(link, &below, facts.clone()).await {
                    Err(fail) if fail.kind == ErrorKind::NotFound => {
                        Ok((name, Seen { facts, target: None }))
                    }
                    seen => seen.map(|seen| (name, seen)),
                }
            }
        });
        let seen: Vec<Outcome<(Vec<u8>, Seen)>> = seen.buffered(LINKS_AT_ONCE).collect().await;
        let entries = seen
            .into_iter()
            .map(|seen| seen.map(|(name, seen)| (name, self.metadata(link, &seen))))
            .collect::<Outcome<Vec<_>>>()?;
        Ok(Rest { entries: Arc::new(entries), at: 0, one_moment })
    }

    /// The rest of replacements whose site was killed before it removed the old file.
    async fn finish_all(&self, link: &Arc<Link>, dir: &RemotePath, replaced: Vec<Vec<u8>>) {
        let count = if self.leaves_all() { 0 } else { PUT_BACK_MAX };
        for name in replaced.into_iter().take(count) {
            let path = dir.join(&name);
            if let Err(fail) = place::finish(self, link, &path).await {
                tracing::debug!(%path, kind = ?fail.kind, "what it replaced stays aside");
            }
        }
    }

    /// Directories for files with long names whose site was killed before it moved anything there.
    async fn remove_empty_holders(&self, link: &Arc<Link>, dir: &RemotePath, found: &[Found]) {
        let is_idle =
            |entry: &&Found| name::is_holder(&entry.name) && entry.facts.is_settled(link.now());
        if self.leaves_all() {
            return;
        }
        for holder in found.iter().filter(is_idle).take(PUT_BACK_MAX) {
            place::remove_holder(self, link, &dir.join(&holder.name)).await;
        }
    }

    /// What a site left aside that was killed in the middle gets its name back: nobody but us knows
    /// where else it is. Who is still at it, holds it (X4).
    async fn put_back_all(&self, link: &Arc<Link>, dir: &RemotePath, found: &[Found]) {
        if self.leaves_all() {
            return;
        }
        for entry in found.iter().filter(|entry| entry.is_aside).take(PUT_BACK_MAX) {
            let path = dir.join(&entry.name);
            if let Err(fail) = place::put_back(self, link, &path).await {
                tracing::debug!(%path, kind = ?fail.kind, "it stays aside");
            }
        }
    }
}

impl Found {
    /// `None` of the ways to itself and up, and of what no server has: it would be another path.
    fn of(entry: DirectoryInfoEntry) -> Option<Found> {
        let name = name::from_wire(&entry.file_name);
        let facts = Facts::of_entry(&entry);
        let is_name = RemotePath::is_name(&name);
        is_name.then_some(Found { name, facts, wire: entry.file_name, is_aside: false })
    }
}

/// A file that stands aside is listed under its own name while nothing else has it: to everybody
/// else the instant without it never was. Returns the names that have been taken, where what stands
/// aside is as it was when it was replaced.
fn show_what_stands_aside(found: &mut Vec<Found>) -> Vec<Vec<u8>> {
    let fold = |name: &[u8]| String::from_utf8_lossy(name).to_lowercase();
    let mut replaced = Vec::new();
    let is_any = |entry: &Found| entry.is_aside || name::is_aside_of(&entry.name).is_some();
    if !found.iter().any(is_any) {
        return replaced;
    }
    let plain = found.iter().filter(|entry| !entry.is_aside);
    let present: HashSet<String> = plain.map(|entry| fold(&entry.name)).collect();
    for entry in found.iter_mut() {
        let own = name::is_aside_of(&entry.name).map(<[u8]>::to_vec);
        let Some(own) = own.or_else(|| entry.is_aside.then(|| entry.name.clone())) else {
            continue;
        };
        match present.contains(&fold(&own)) {
            true if entry.facts.is_marked() => replaced.push(own),
            true => {}
            // The name on the wire stays: that is where the file is.
            false if !entry.facts.is_dir() => {
                (entry.name, entry.is_aside) = (own, true);
                entry.facts = entry.facts.clone().shown();
            }
            false => {}
        }
    }
    found.retain(|entry| !entry.is_aside || !present.contains(&fold(&entry.name)));
    replaced
}

/// One directory with all that stands aside in it; again, while it changes under our hands.
async fn list_still(link: &Arc<Link>, wire: &str) -> Outcome<(Vec<Found>, Still)> {
    let mut prng = Prng::unseeded();
    let mut lists = 1;
    loop {
        let Listed { entries, mut still } = list(link, wire).await?;
        let mut found: Vec<Found> = entries.into_iter().filter_map(Found::of).collect();
        if !add_held(link, wire, &mut found).await? {
            still = Still::No;
        }
        if still != Still::No || lists == LISTS_MAX || found.len() > LIST_AGAIN_MAX {
            return Ok((found, still));
        }
        lists += 1;
        let wait = prng.below(WAIT.as_nanos() as u64 + 1);
        tokio::time::sleep(Duration::from_nanos(wait)).await;
    }
}

/// Adds the files with long names that stand aside: each in a directory of its own. `false`: one
/// of these is empty, and its file somewhere else by now.
async fn add_held(link: &Arc<Link>, wire: &str, found: &mut Vec<Found>) -> Outcome<bool> {
    let holders = found.iter().filter(|entry| name::is_holder(&entry.name));
    let holders: Vec<String> = holders.map(|entry| entry.wire.clone()).collect();
    let mut is_whole = true;
    for holder in holders {
        let below = if wire.is_empty() { holder.clone() } else { format!("{wire}\\{holder}") };
        let held = there(list(link, &below).await)?.map_or_else(|_| Vec::new(), |it| it.entries);
        let held: Vec<Found> = held.into_iter().filter_map(Found::of).collect();
        is_whole &= !held.is_empty();
        found.extend(held.into_iter().map(|entry| {
            let wire = format!("{holder}\\{}", entry.wire);
            Found { wire, is_aside: true, ..entry }
        }));
    }
    Ok(is_whole)
}

/// The names in any bytes that stand for a part of a listing; for fuzzing.
pub(super) fn names(bytes: &[u8]) -> Vec<Vec<u8>> {
    let entries = parse_entries(CLASS, bytes).unwrap_or_default();
    entries.into_iter().filter_map(Found::of).map(|found| found.name).collect()
}

/// One directory, in as many answers as it takes.
async fn list(link: &Arc<Link>, wire: &str) -> Outcome<Listed> {
    let ask = |file, restarts| Op::List { file, restarts, bytes: LIST_BYTES };
    let open = Open {
        options: options::DIRECTORY,
        ..Open::existing(access::READ | access::READ_ATTRIBUTES)
    };
    let now = link.now();
    let mut answers = link
        .ask(vec![
            open.op(wire),
            wire::query(CHAINED),
            ask(CHAINED, true),
            // Most directories fit in one answer: here the server says that it was the last.
            ask(CHAINED, false),
        ])
        .await?;
    answers.done(0)?;
    let before = answers.facts(1)?;
    let handle = answers.handle.take().ok_or(ErrorKind::Protocol)?;
    let mut entries = Vec::new();
    let mut at = 2;
    loop {
        if at == answers.len() {
            (answers, at) = (handle.ask(vec![ask(handle.id, false)]).await?, 0);
        }
        let told = match answers.bytes(at) {
            // The root of an empty disk has not even itself.
            Err(fail) if fail.is(NtStatus::NO_MORE_FILES) || fail.is(NtStatus::NO_SUCH_FILE) => {
                break;
            }
            told => told?,
        };
        entries.extend(parse_entries(CLASS, &told)?);
        at += 1;
    }
    let last = wire::query(handle.id);
    let after = handle.finish(vec![last]).await?.facts(0)?;
    let still = match (before.same_change(&after), before.is_settled(now)) {
        (false, _) => Still::No,
        (true, false) => Still::Perhaps,
        (true, true) => Still::Yes,
    };
    Ok(Listed { entries, still })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], id: u64) -> Found {
        let mut bytes = [0; 76];
        bytes[64] = id as u8;
        let facts = Facts::parse(&bytes).unwrap();
        let wire = String::from_utf8_lossy(name).into_owned();
        Found { name: name.to_vec(), facts, wire, is_aside: false }
    }

    #[test]
    fn what_stands_aside_is_listed_while_nothing_has_its_name() {
        // rule X4
        let mut found = vec![entry(b".~covefs-move-of-a", 1), entry(b"b", 2)];
        show_what_stands_aside(&mut found);
        assert_eq!((&found[0].name[..], found[0].facts.id), (&b"a"[..], 1));
        let mut found = vec![entry(b".~covefs-move-of-a", 1), entry(b"A", 2)];
        assert!(show_what_stands_aside(&mut found).is_empty());
        assert_eq!(&found[0].name[..], b".~covefs-move-of-a");
        // As it was when it was replaced.
        found[0].facts.atime = found[0].facts.mark();
        assert_eq!(show_what_stands_aside(&mut found), [b"a"]);
        // With a name so long that it stands in a directory of its own.
        let held = || Found { is_aside: true, ..entry(b"long", 3) };
        let mut found = vec![entry(b"b", 2), held()];
        show_what_stands_aside(&mut found);
        assert_eq!((&found[1].name[..], found[1].is_aside), (&b"long"[..], true));
        let mut found = vec![entry(b"Long", 2), held()];
        show_what_stands_aside(&mut found);
        assert_eq!(found.len(), 1);
    }
}
