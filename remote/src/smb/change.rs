//! Changes of names and attributes: rename, remove, set attributes, new directories and symlinks.

use super::extended::{self, Wanted};
use super::facts::{self, Facts, SETTABLE};
use super::fail::{Fail, Outcome};
use super::look::Seen;
use super::mfsymlink;
use super::place::{self, Mover, Patience};
use super::session::{Link, Session};
use super::wire::{self, Basic, CHAINED, Handle, Open, access, options, share};
use crate::{Attrs, ErrorKind, Expect, Metadata, RemotePath, Version};
use std::sync::Arc;

/// What a rename is asked to do.
pub(super) struct Rename {
    pub(super) from: RemotePath,
    pub(super) version: Version,
    pub(super) to: RemotePath,
    pub(super) expect: Expect,
}

/// Moves an entry; waits a while for others who have it open.
pub(super) async fn rename(session: Arc<Session>, wanted: Rename) -> Outcome<Metadata> {
    let Rename { from, to, .. } = &wanted;
    session.wire(from)?;
    session.wire(to).map_err(|fail| fail.about(to))?;
    if from != to && to.is_within(from) {
        return Err(ErrorKind::Unsupported.into());
    }
    if from.is_root() || to.is_root() {
        return Err(Fail::from(ErrorKind::Unsupported));
    }
    let mut patience = Patience::new();
    loop {
        match try_rename(&session, &wanted).await {
            Err(fail) if fail.kind == ErrorKind::Busy && patience.goes_on().await => {}
            done => return done,
        }
    }
}

async fn try_rename(session: &Arc<Session>, wanted: &Rename) -> Outcome<Metadata> {
    let Rename { from, version, to, expect } = wanted;
    let about_to = |fail: Fail| fail.about(to);
    let link = session.link().await?;
    let (source, moved) = open_to_move(session, &link, from).await?;
    if !moved.version().same_object(version) {
        return Err(ErrorKind::VersionChanged.into());
    }
    let target = match session.look(&link, to).await {
        Ok(seen) => Some(seen.facts),
        Err(fail) if fail.kind == ErrorKind::NotFound => None,
        Err(fail) => return Err(about_to(fail)),
    };
    // The share folds case: an entry is found under its new name too.
    let is_itself = target.as_ref().is_some_and(|target| target.id == moved.id);
    if !(is_itself && from != to) {
        check_target(session, &link, to, &moved, target.as_ref(), *expect)
            .await
            .map_err(about_to)?;
    }
    if from != to {
        place::settle_aside(session, &link, from, &moved).await?;
    }
    let mover = Mover::Open(&source);
    let placed = match &target {
        _ if from == to => Ok(moved),
        Some(target) if !is_itself => {
            let version = target.version();
            place::replace(session, &link, mover, to, &version, moved.is_dir()).await
        }
        _ => place::move_in(session, &link, mover, to).await,
    };
    placed.map_err(|fail| about_to(meant(fail, *expect, target.is_some())))?;
    source.close().await;
    let seen = session.look_at(&link, to).await.map_err(about_to)?;
    Ok(session.metadata(&link, &seen))
}

/// What a refused move says, where something changed after it was looked at.
fn meant(fail: Fail, expect: Expect, had_target: bool) -> Fail {
    match (fail.kind, expect) {
        // Servers refuse it while something below a directory is open.
        (ErrorKind::PermissionDenied, _) => fail.of_kind(ErrorKind::Busy),
        (ErrorKind::Exists | ErrorKind::VersionChanged, Expect::Any) => {
            fail.of_kind(ErrorKind::Busy)
        }
        (ErrorKind::Exists, Expect::Version(_)) => fail.of_kind(ErrorKind::VersionChanged),
        (ErrorKind::NotFound, Expect::Version(_)) if had_target => {
            fail.of_kind(ErrorKind::VersionChanged)
        }
        _ => fail,
    }
}

async fn open_to_move(
    session: &Session,
    link: &Arc<Link>,
    path: &RemotePath,
) -> Outcome<(Handle, Facts)> {
    let wanted = access::DELETE | access::READ_ATTRIBUTES;
    let open = Open { options: options::NO_FOLLOW, ..Open::existing(wanted) };
    match link.open(&session.wire(path)?, open).await {
        Err(fail) if fail.kind == ErrorKind::NotFound => {
            session.missing(link, path, fail).await?;
            // Put back, it can be moved.
            drop(place::hold_at(session, link, path).await?);
            Err(ErrorKind::Busy.into())
        }
        opened => opened,
    }
}

async fn check_target(
    session: &Session,
    link: &Arc<Link>,
    to: &RemotePath,
    moved: &Facts,
    target: Option<&Facts>,
    expect: Expect,
) -> Outcome<()> {
    facts::check(target, expect, ErrorKind::VersionChanged)?;
    let Some(target) = target.filter(|target| target.id != moved.id) else {
        return Ok(());
    };
    match (moved.is_dir(), target.is_dir()) {
        (false, true) => Err(ErrorKind::IsADirectory.into()),
        (true, false) => Err(ErrorKind::NotADirectory.into()),
        (true, true) if !session.entries(link, to).await?.entries.is_empty() => {
            Err(ErrorKind::NotEmpty.into())
        }
        (true, true) | (false, false) => Ok(()),
    }
}

/// Removes a file, symlink or empty directory: it is compared and deleted by one open file that
/// nobody else can write, move or delete meanwhile.
pub(super) async fn remove(session: Arc<Session>, path: RemotePath, expect: Expect) -> Outcome<()> {
    if path.is_root() {
        return Err(ErrorKind::Unsupported.into());
    }
    let mut patience = Patience::new();
    loop {
        match try_remove(&session, &path, expect).await {
            Err(fail) if fail.kind == ErrorKind::Busy && patience.goes_on().await => {}
            done => return done,
        }
    }
}

async fn try_remove(session: &Arc<Session>, path: &RemotePath, expect: Expect) -> Outcome<()> {
    let link = session.link().await?;
    let (held, facts) = place::hold_at(session, &link, path).await?;
    facts::check(Some(&facts), expect, ErrorKind::NotFound)?;
    place::settle_aside(session, &link, path, &facts).await?;
    place::discard(held, &facts).await
}

/// Sets attributes of the object that `version` names.
pub(super) async fn set_attrs(
    session: &Arc<Session>,
    path: &RemotePath,
    version: &Version,
    attrs: &Attrs,
) -> Outcome<Metadata> {
    let link = session.link().await?;
    let xattrs =
        Wanted::of(attrs).filter(|wanted| session.has_xattrs() || !wanted.xattrs.is_empty());
    if xattrs.is_some() && !session.has_xattrs() {
        return Err(ErrorKind::Unsupported.into());
    }
    let wanted = access::READ_ATTRIBUTES | access::WRITE_ATTRIBUTES;
    let (handle, held) = match link.open(&session.wire(path)?, Open::existing(wanted)).await {
        Err(fail) if fail.kind == ErrorKind::NotFound => {
            session.missing(&link, path, fail).await?;
            return Err(ErrorKind::Busy.into());
        }
        opened => opened?,
    };
    if !held.version().same_object(version) {
        return Err(ErrorKind::VersionChanged.into());
    }
    // Times come last: the other changes may move them.
    let kept = match xattrs {
        Some(wanted) => Some(extended::put(&link, &session.wire(path)?, held.id, wanted).await?),
        None => None,
    };
    let basic = basic(attrs, &held);
    let set = wire::set_basic(handle.id, basic);
    handle.finish(vec![set]).await?.done(0)?;
    let seen = session.look_at(&link, path).await?;
    match seen.facts.version().same_object(version) {
        true => Ok(session.metadata_of(&link, &seen, kept)),
        false => Err(ErrorKind::VersionChanged.into()),
    }
}

/// What of `attrs` the share keeps: times, and a file's write bits as the read-only attribute.
fn basic(attrs: &Attrs, held: &Facts) -> Basic {
    let settable = held.attributes & SETTABLE;
    let changed =
        attrs.mode.filter(|_| !held.is_dir()).map(|mode| facts::with_mode(settable, mode));
    let attributes = changed.filter(|changed| *changed != settable);
    Basic {
        btime: 0,
        atime: attrs.atime.map_or(0, facts::to_ticks),
        mtime: attrs.mtime.map_or(0, facts::to_ticks),
        attributes: attributes.map_or(0, |set| if set == 0 { facts::NORMAL } else { set }),
    }
}

/// Makes a directory.
pub(super) async fn create_dir(
    session: &Arc<Session>,
    path: &RemotePath,
    attrs: &Attrs,
) -> Outcome<Metadata> {
    let wanted = access::READ_ATTRIBUTES | access::WRITE_ATTRIBUTES;
    let open = Open::new(wanted, share::ALL, options::DIRECTORY);
    let facts = create(session, path, open, Vec::new(), attrs).await?;
    let link = session.link().await?;
    Ok(session.metadata(&link, &Seen { facts, target: None }))
}

/// Makes a symlink: its file is whole in one packet.
pub(super) async fn symlink(
    session: &Arc<Session>,
    path: &RemotePath,
    target: &[u8],
    attrs: &Attrs,
) -> Outcome<Metadata> {
    let file = mfsymlink::file(target)?;
    let wanted = access::WRITE | access::READ_ATTRIBUTES | access::WRITE_ATTRIBUTES;
    let open = Open::new(wanted, share::NONE, options::NO_DIRECTORY);
    let write = vec![wire::write(CHAINED, 0, file)];
    let facts = create(session, path, open, write, attrs).await?;
    let link = session.link().await?;
    let seen = Seen { facts, target: Some(target.to_vec()) };
    Ok(session.metadata(&link, &seen))
}

/// Makes something new, fills it and sets its times.
async fn create(
    session: &Arc<Session>,
    path: &RemotePath,
    open: Open,
    fill: Vec<wire::Op>,
    attrs: &Attrs,
) -> Outcome<Facts> {
    if path.is_root() {
        return Err(ErrorKind::Exists.into());
    }
    let link = session.link().await?;
    let wire = session.wire(path)?;
    let times = Basic {
        atime: attrs.atime.map_or(0, facts::to_ticks),
        mtime: attrs.mtime.map_or(0, facts::to_ticks),
        attributes: 0,
        btime: 0,
    };
    let mut ops = vec![open.op(&wire)];
    ops.extend(fill);
    ops.push(wire::set_basic(CHAINED, times));
    ops.push(wire::query(CHAINED));
    let last = ops.len() - 1;
    ops.push(wire::close(CHAINED));
    let mut answers = link.ask(ops).await?;
    match answers.done(0) {
        Err(fail) if fail.kind == ErrorKind::NotFound => {
            return Err(match session.missing(&link, path, fail).await {
                Ok(_) => ErrorKind::Exists.into(),
                Err(fail) => fail,
            });
        }
        done => done?,
    }
    for at in 1..last {
        answers.done(at)?;
    }
    answers.facts(last)
}
