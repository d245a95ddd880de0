//! Looking at entries: stat, listings, the share's identity and its space.
//!
//! "Not found" is believed only when the root is still the one that was opened, no file stands
//! where a directory is needed, and the entry does not stand aside while another takes its name.

use super::facts::Facts;
use super::fail::{Fail, Outcome};
use super::mfsymlink;
use super::name;
use super::session::{Link, Session};
use super::wire::{self, CHAINED, Open, access, options};
use crate::{ErrorKind, Metadata, RemotePath, ShareIdentity, Usage};
use futures_util::stream::{self, StreamExt};
use smb2::msg::directory_info::{DirectoryInfoEntry, parse_entries};
use smb2::msg::query_directory::{
    FileInformationClass, QueryDirectoryFlags, QueryDirectoryRequest, QueryDirectoryResponse,
};
use smb2::msg::query_info::InfoType;
use smb2::pack::{ReadCursor, Unpack};
use smb2::types::Command;
use smb2::types::status::NtStatus;
use std::collections::HashSet;
use std::sync::Arc;

/// Bytes of names in one answer.
const LIST_BYTES: u32 = 256 << 10;

/// Symlinks of a listing that are read at a time.
const LINKS_AT_ONCE: usize = 32;

/// Looks at a name whose file comes and goes.
const LOOKS_MAX: usize = 4;

const FS_VOLUME: u8 = 1;
const FS_FULL_SIZE: u8 = 7;

/// What stands at a path.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) facts: Facts,
    /// Of a symlink.
    pub(super) target: Option<Vec<u8>>,
}

/// Entries of a listing that were not handed out yet.
#[derive(Clone)]
pub(super) struct Rest {
    pub(super) entries: Arc<Vec<(Vec<u8>, Metadata)>>,
    pub(super) at: usize,
}

/// What moves faster than we look is there, somewhere.
fn moves(fail: Fail) -> Fail {
    match fail.kind {
        ErrorKind::NotFound => Fail::saying(ErrorKind::Busy, "others replace it all the time"),
        _ => fail,
    }
}

/// Volume and root of a connected share (X1).
pub(super) async fn identity(link: &Arc<Link>, dir: &RemotePath) -> Outcome<ShareIdentity> {
    let wire = name::to_wire(&RemotePath::root(), dir)?;
    let open = Open { options: options::DIRECTORY, ..Open::existing(access::READ_ATTRIBUTES) };
    let ops = vec![
        open.op(&wire),
        wire::query(CHAINED),
        wire::query_of(CHAINED, InfoType::Filesystem, FS_VOLUME, 0, 1024),
        wire::close(CHAINED),
    ];
    let mut answers = link.ask(ops).await?;
    answers.done(0).map_err(|fail| match fail.kind {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Fail::saying(ErrorKind::IdentityChanged, format!("the share has no directory {dir}"))
        }
        _ => fail,
    })?;
    let root = answers.facts(1)?;
    let volume = answers.info(2)?;
    let serial =
        volume.get(8..).and_then(|rest| rest.first_chunk()).map(|it| u32::from_le_bytes(*it));
    let serial = serial.ok_or(ErrorKind::Protocol)?;
    Ok(ShareIdentity(format!("smb:{serial:08x}:{:016x}", root.id)))
}

impl Session {
    /// The path as it is sent.
    pub(super) fn wire(&self, path: &RemotePath) -> Outcome<String> {
        name::to_wire(&self.config.dir, path)
    }

    /// What the share says of an entry.
    pub(super) fn metadata(&self, link: &Link, seen: &Seen) -> Metadata {
        seen.facts.metadata(seen.target.clone(), &self.config.defaults, link.now())
    }

    /// Verifies that the root is still the one that was opened.
    pub(super) async fn witness(&self, link: &Arc<Link>) -> Outcome<()> {
        self.check(&identity(link, &self.config.dir).await?)
    }

    /// What stands at `path`, a file that stands aside included.
    pub(super) async fn look(&self, link: &Arc<Link>, path: &RemotePath) -> Outcome<Seen> {
        let mut seen = self.look_at(link, path).await;
        for _ in 0..LOOKS_MAX {
            match seen {
                Err(fail) if fail.kind == ErrorKind::NotFound => {
                    let there = self.missing(link, path, fail).await?;
                    seen = self.look_at(link, &there).await;
                    if let Ok(seen) = &mut seen
                        && there != *path
                    {
                        seen.facts = seen.facts.clone().shown();
                    }
                }
                seen => return seen,
            }
        }
        seen.map_err(moves)
    }

    /// The same of nothing but this name.
    pub(super) async fn look_at(&self, link: &Arc<Link>, path: &RemotePath) -> Outcome<Seen> {
        let wire = self.wire(path)?;
        let facts = look_plain(link, &wire).await?;
        match mfsymlink::may_be(facts.is_dir(), facts.size) {
            true => look_inside(link, &wire, facts).await,
            false => Ok(Seen { facts, target: None }),
        }
    }

    /// Where the file of a missing name is: it stands aside, or it has come back meanwhile. Else
    /// what its absence means.
    pub(super) async fn missing(
        &self,
        link: &Arc<Link>,
        path: &RemotePath,
        fail: Fail,
    ) -> Outcome<RemotePath> {
        let Some((mut parent, _)) = path.split() else {
            return Err(fail.of_kind(ErrorKind::IdentityChanged));
        };
        let Some(aside) = name::aside(path).filter(|aside| self.wire(aside).is_ok()) else {
            return Err(fail);
        };
        // In this order: what was put in place meanwhile is not aside any more.
        let looks = async {
            match look_plain_at(self, link, &aside).await {
                Ok(_) => Ok(aside),
                Err(gone) if gone.kind == ErrorKind::NotFound => {
                    look_plain_at(self, link, path).await.map(|_| path.clone())
                }
                Err(other) => Err(other),
            }
        };
        let (witness, there) = tokio::join!(self.witness(link), looks);
        witness?;
        let fail = match there {
            Err(gone) if gone.kind == ErrorKind::NotFound => gone,
            there => return there,
        };
        if fail.is(NtStatus::OBJECT_NAME_NOT_FOUND) {
            return Err(fail);
        }
        // A directory above is missing, or a file stands there.
        while let Some((above, _)) = parent.split() {
            match look_plain_at(self, link, &parent).await {
                Ok(facts) if !facts.is_dir() => return Err(ErrorKind::NotADirectory.into()),
                Ok(_) => break,
                Err(fail) if fail.kind == ErrorKind::NotFound => parent = above,
                Err(fail) => return Err(fail),
            }
        }
        Err(fail)
    }

    /// All entries of a directory.
    pub(super) async fn entries(
        &self,
        link: &Arc<Link>,
        dir: &RemotePath,
    ) -> Outcome<Vec<(Vec<u8>, Metadata)>> {
        let wire = self.wire(dir)?;
        let (listed, witness) = tokio::join!(list(link, &wire), self.witness(link));
        let listed = match listed {
            Ok(listed) => listed,
            Err(fail) if fail.kind == ErrorKind::NotFound => {
                // Directories do not stand aside for long: nobody lists one there.
                self.missing(link, dir, fail).await?;
                return Err(ErrorKind::Busy.into());
            }
            Err(fail) => return Err(fail),
        };
        witness?;
        let mut found: Vec<(Vec<u8>, Facts, String)> = Vec::with_capacity(listed.len());
        for entry in listed {
            let name = name::from_wire(&entry.file_name);
            if name != b"." && name != b".." {
                found.push((name, Facts::of_entry(&entry), entry.file_name));
            }
        }
        show_what_stands_aside(&mut found);
        let seen = stream::iter(found).map(|(name, facts, file_name)| {
            let below = if wire.is_empty() { file_name } else { format!("{wire}\\{file_name}") };
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
        seen.into_iter()
            .map(|seen| seen.map(|(name, seen)| (name, self.metadata(link, &seen))))
            .collect()
    }

    /// Size and free space.
    pub(super) async fn space(&self, link: &Arc<Link>) -> Outcome<Usage> {
        let wire = self.wire(&RemotePath::root())?;
        let ops = vec![
            Open::existing(access::READ_ATTRIBUTES).op(&wire),
            wire::query_of(CHAINED, InfoType::Filesystem, FS_FULL_SIZE, 0, 64),
            wire::close(CHAINED),
        ];
        let mut answers = link.ask(ops).await?;
        answers.done(0)?;
        let sizes = answers.info(1)?;
        let sizes: &[u8; 32] = sizes.first_chunk().ok_or(ErrorKind::Protocol)?;
        let mut cursor = ReadCursor::new(sizes);
        let (total, free, _) =
            (cursor.read_u64_le()?, cursor.read_u64_le()?, cursor.read_u64_le()?);
        let unit = u64::from(cursor.read_u32_le()?) * u64::from(cursor.read_u32_le()?);
        Ok(Usage {
            total_bytes: total.saturating_mul(unit),
            free_bytes: free.saturating_mul(unit),
            total_files: 0,
            free_files: 0,
        })
    }
}

/// A file that stands aside is listed under its own name while nothing else has it: to everybody
/// else the instant without it never was.
fn show_what_stands_aside(found: &mut [(Vec<u8>, Facts, String)]) {
    let fold = |name: &[u8]| String::from_utf8_lossy(name).to_lowercase();
    if found.iter().all(|(name, ..)| name::is_aside_of(name).is_none()) {
        return;
    }
    let present: HashSet<String> = found.iter().map(|(name, ..)| fold(name)).collect();
    for (name, facts, _) in found.iter_mut() {
        let own = name::is_aside_of(name).map(<[u8]>::to_vec);
        // The name on the wire stays: that is where the file is.
        if let Some(own) = own.filter(|own| !present.contains(&fold(own)) && !facts.is_dir()) {
            (*name, *facts) = (own, facts.clone().shown());
        }
    }
}

async fn look_plain_at(session: &Session, link: &Arc<Link>, path: &RemotePath) -> Outcome<Facts> {
    look_plain(link, &session.wire(path)?).await
}

pub(super) async fn look_plain(link: &Arc<Link>, wire: &str) -> Outcome<Facts> {
    let open = Open::existing(access::READ_ATTRIBUTES);
    let ops = vec![open.op(wire), wire::query(CHAINED), wire::close(CHAINED)];
    let mut answers = link.ask(ops).await?;
    answers.done(0)?;
    answers.facts(1)
}

/// Finds out whether a file of that size is a symlink.
async fn look_inside(link: &Arc<Link>, wire: &str, facts: Facts) -> Outcome<Seen> {
    let ops = vec![
        Open::existing(access::READ | access::READ_ATTRIBUTES).op(wire),
        wire::query(CHAINED),
        wire::read(CHAINED, 0, mfsymlink::FILE_BYTES as u32),
        wire::close(CHAINED),
    ];
    let mut answers = link.ask(ops).await?;
    match answers.done(0) {
        // Who may not read it cannot follow it either.
        Err(fail) if matches!(fail.kind, ErrorKind::PermissionDenied | ErrorKind::Busy) => {
            return Ok(Seen { facts, target: None });
        }
        done => done?,
    }
    let facts = answers.facts(1)?;
    let target = match mfsymlink::may_be(facts.is_dir(), facts.size) {
        true => mfsymlink::parse(&answers.bytes(2)?),
        false => None,
    };
    Ok(Seen { facts, target })
}

/// One directory, in as many answers as it takes.
async fn list(link: &Arc<Link>, wire: &str) -> Outcome<Vec<DirectoryInfoEntry>> {
    const CLASS: FileInformationClass = FileInformationClass::FileIdBothDirectoryInformation;
    let ask = |file_id, flags| {
        let body = QueryDirectoryRequest {
            file_information_class: CLASS,
            flags: QueryDirectoryFlags(flags),
            file_index: 0,
            file_id,
            output_buffer_length: LIST_BYTES,
            file_name: "*".into(),
        };
        wire::other(Command::QueryDirectory, body, LIST_BYTES)
    };
    let open = Open {
        options: options::DIRECTORY,
        ..Open::existing(access::READ | access::READ_ATTRIBUTES)
    };
    let first = vec![open.op(wire), ask(CHAINED, QueryDirectoryFlags::RESTART_SCANS)];
    let mut answers = link.ask(first).await?;
    answers.done(0)?;
    let handle = answers.handle.take().ok_or(ErrorKind::Protocol)?;
    let mut entries = Vec::new();
    let mut at = 1;
    loop {
        let body = match answers.body(at) {
            Err(fail) if fail.is(NtStatus::NO_MORE_FILES) => break,
            body => body?,
        };
        let answer = QueryDirectoryResponse::unpack(&mut ReadCursor::new(&body))?;
        entries.extend(parse_entries(CLASS, &answer.output_buffer)?);
        answers = handle.ask(vec![ask(handle.id, 0)]).await?;
        at = 0;
    }
    drop(handle);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], id: u64) -> (Vec<u8>, Facts, String) {
        let mut bytes = [0; 72];
        bytes[64] = id as u8;
        (name.to_vec(), Facts::parse(&bytes).unwrap(), String::from_utf8_lossy(name).into_owned())
    }

    #[test]
    fn what_stands_aside_is_listed_while_nothing_has_its_name() {
        // rule X4
        let mut found = vec![entry(b".~covefs-move-of-a", 1), entry(b"b", 2)];
        show_what_stands_aside(&mut found);
        assert_eq!((&found[0].0[..], found[0].1.id), (&b"a"[..], 1));
        let mut found = vec![entry(b".~covefs-move-of-a", 1), entry(b"A", 2)];
        show_what_stands_aside(&mut found);
        assert_eq!(&found[0].0[..], b".~covefs-move-of-a");
    }
}
