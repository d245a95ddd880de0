//! Looking at entries: stat, the share's identity and its space.
//!
//! "Not found" is believed only when the root is still the one that was opened, no file stands
//! where a directory is needed, and the entry does not stand aside while another takes its name.
//! A file that is replaced again and again may slip from look to look: so the directory has to
//! stand still meanwhile, or the looks are repeated.

use super::facts::Facts;
use super::fail::{Fail, Outcome};
use super::mfsymlink;
use super::name;
use super::place;
use super::session::{Link, Session};
use super::wire::{self, CHAINED, Open, access, options};
use crate::prng::Prng;
use crate::{ErrorKind, Kind, Metadata, RemotePath, ShareIdentity, Usage, Xattrs};
use smb2::msg::query_info::InfoType;
use smb2::pack::ReadCursor;
use smb2::types::status::NtStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Looks at a name whose file comes and goes.
const LOOKS_MAX: usize = 4;

/// Looks for a missing name in a directory that does not stand still, and what is between two: of
/// chance length, so that they do not keep step with whoever replaces it.
const ABSENCES_MAX: usize = 4;
const WAIT: Duration = Duration::from_millis(8);

const FS_VOLUME: u8 = 1;
const FS_FULL_SIZE: u8 = 7;

/// What stands at a path.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) facts: Facts,
    /// Of a symlink.
    pub(super) target: Option<Vec<u8>>,
}

/// What was looked for, or what its absence says; other failures say nothing of it.
pub(super) fn there<T>(looked: Outcome<T>) -> Outcome<Result<T, Fail>> {
    match looked {
        Err(gone) if gone.kind == ErrorKind::NotFound => Ok(Err(gone)),
        Err(other) => Err(other),
        Ok(there) => Ok(Ok(there)),
    }
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
    let volume = answers.bytes(2)?;
    let serial =
        volume.get(8..).and_then(|rest| rest.first_chunk()).map(|it| u32::from_le_bytes(*it));
    let serial = serial.ok_or(ErrorKind::Protocol)?;
    let at = link.snapshot.as_ref().map(|snapshot| format!("@{snapshot}")).unwrap_or_default();
    Ok(ShareIdentity(format!("{}:{serial:08x}:{:016x}{at}", link.scheme, root.id)))
}

impl Session {
    /// The path as it is sent.
    pub(super) fn wire(&self, path: &RemotePath) -> Outcome<String> {
        name::to_wire(&self.scope.dir, path)
    }

    /// What the share says of an entry.
    pub(super) fn metadata(&self, link: &Link, seen: &Seen) -> Metadata {
        let mut said = seen.facts.metadata(seen.target.clone(), &self.scope.defaults, link.now());
        let is_counted = self.has_xattrs() && self.counts_xattrs.load(Ordering::Relaxed);
        let has_none = is_counted && !seen.facts.has_xattrs();
        let may_have = matches!(said.kind, Kind::File | Kind::Dir);
        said.xattrs = (has_none && may_have).then(Xattrs::new);
        said
    }

    /// The same of what was given these extended attributes, where it was.
    pub(super) fn metadata_of(&self, link: &Link, seen: &Seen, given: Option<Xattrs>) -> Metadata {
        let said = self.metadata(link, seen);
        if said.xattrs.is_some() && given.as_ref().is_some_and(|given| !given.is_empty()) {
            // ksmbd says of every file that it has none.
            self.counts_xattrs.store(false, Ordering::Relaxed);
        }
        Metadata { xattrs: given.or(said.xattrs), ..said }
    }

    /// Verifies that the root is still the one that was opened.
    pub(super) async fn witness(&self, link: &Arc<Link>) -> Outcome<()> {
        self.check(&identity(link, &self.scope.dir).await?)
    }

    /// What stands at `path`, a file that stands aside included.
    pub(super) async fn look(&self, link: &Arc<Link>, path: &RemotePath) -> Outcome<Seen> {
        let mut seen = self.look_at(link, path).await;
        for _ in 0..LOOKS_MAX {
            match seen {
                Err(fail) if fail.kind == ErrorKind::NotFound => {
                    let mut there = self.missing(link, path, fail).await?;
                    if there != *path && !self.leaves_all() {
                        // Left there by a site that was killed; who is at it, holds it.
                        let put_back = place::put_back(self, link, path).await;
                        there = if put_back.is_ok() { path.clone() } else { there };
                    }
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

    /// Whether nothing is at `path` or aside, as far as one look tells: enough to begin with.
    pub(super) async fn seems_free(&self, link: &Arc<Link>, path: &RemotePath) -> Outcome<bool> {
        let (here, aside) =
            tokio::join!(look_plain_at(self, link, path), self.has_none_aside(link, path));
        Ok(there(here)?.is_err() && aside?)
    }

    /// The same of aside alone.
    pub(super) async fn has_none_aside(
        &self,
        link: &Arc<Link>,
        path: &RemotePath,
    ) -> Outcome<bool> {
        let aside = name::aside(path).ok_or(ErrorKind::IsADirectory)?;
        Ok(there(look_plain_at(self, link, &aside).await)?.is_err())
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
        let (witness, there) = tokio::join!(self.witness(link), self.nowhere(link, path, &aside));
        witness?;
        let fail = match there? {
            Ok(there) => return Ok(there),
            Err(gone) => gone,
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

    /// Looks for a missing file until it is certain that it is neither at its name nor aside: `Ok`
    /// where it is, else what its absence says.
    async fn nowhere(
        &self,
        link: &Arc<Link>,
        path: &RemotePath,
        aside: &RemotePath,
    ) -> Outcome<Result<RemotePath, Fail>> {
        let dir = path.split().map_or_else(RemotePath::root, |(dir, _)| dir);
        let mut prng = Prng::unseeded();
        let mut now = link.now();
        let mut before = there(look_plain_at(self, link, &dir).await)?;
        for looks in 1.. {
            let (found_aside, found) =
                tokio::join!(look_plain_at(self, link, aside), look_plain_at(self, link, path));
            let after = there(look_plain_at(self, link, &dir).await)?;
            let is_certain = match (&before, &after) {
                (Ok(before), Ok(after)) => before.same_change(after) && before.is_settled(now),
                (before, after) => before.is_err() && after.is_err(),
            };
            match (there(found)?, there(found_aside)?) {
                (Ok(_), _) => return Ok(Ok(path.clone())),
                (_, Ok(_)) => return Ok(Ok(aside.clone())),
                (Err(gone), _) if is_certain || looks == ABSENCES_MAX => return Ok(Err(gone)),
                _ => {}
            }
            let wait = prng.below(WAIT.as_nanos() as u64 + 1);
            tokio::time::sleep(Duration::from_nanos(wait)).await;
            (now, before) = (link.now(), after);
        }
        Err(ErrorKind::Busy.into())
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
        let sizes = answers.bytes(1)?;
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

pub(super) async fn look_plain_at(
    session: &Session,
    link: &Arc<Link>,
    path: &RemotePath,
) -> Outcome<Facts> {
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
pub(super) async fn look_inside(link: &Arc<Link>, wire: &str, facts: Facts) -> Outcome<Seen> {
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
