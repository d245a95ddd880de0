//! Putting one entry in another's place without losing what others wrote meanwhile (rule X4).
//!
//! ```text
//!            temp   name   aside
//!   before   ours   old    -        old is opened for deletion: nobody writes it, moves it or
//!                                   opens it so while we hold it; it is compared
//!   1        ours   -      old      looked at, listed or read, the name still says "old"
//!   2        -      ours   old      no step takes a name that is taken
//!   3        -      ours   -
//! ```
//!
//! No server puts one file over another that somebody holds open, and to close it first would let
//! others write it unseen. So there is an instant without the name; 1 and 2 are on their way
//! together, and between them is no more than the server's own time.
//!
//! Cut off after 1, whoever sees old aside puts it back: nobody holds it any more. So who moves or
//! removes what has the name makes sure before that nothing stands aside. Cut off after 2,
//! whoever sees it removes it if it is still as it was compared: that says a mark on it, its time
//! of access, set just before 1. Else the next replacement of that name gives it a visible name
//! beside it: whether all that is in it was seen, nobody knows.
//!
//! A change whose answer was lost is asked for by the file's number, over a new connection.

use super::facts::{Facts, NORMAL, READ_ONLY, SETTABLE};
use super::fail::{Fail, Outcome};
use super::look::{Seen, look_plain, there};
use super::session::{Link, Session};
use super::wire::{self, Basic, CHAINED, Handle, Open, access, options, share};
use super::{mfsymlink, name};
use crate::prng::Prng;
use crate::{ErrorKind, Expect, Metadata, RemotePath, Version, Xattrs};
use smb2::msg::create::CreateDisposition;
use smb2::types::status::NtStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long we wait for others to close what they have open, or for a server that comes back,
/// before we say so: well within the 30 s that a request has.
const PATIENCE: Duration = Duration::from_secs(10);
const WAIT_FIRST: Duration = Duration::from_millis(5);
const WAIT_LAST: Duration = Duration::from_millis(250);

/// Bytes of a name that are kept, so that a suffix fits.
const NAME_BYTES_KEPT: usize = 230;

/// Waits for others, in bounds.
pub(super) struct Patience {
    end: Instant,
    wait: Duration,
    prng: Prng,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { end: Instant::now() + PATIENCE, wait: WAIT_FIRST, prng: Prng::unseeded() }
    }

    /// Waits a little before another try; `false` when there was enough of that.
    pub(super) async fn goes_on(&mut self) -> bool {
        let nanos = self.wait.as_nanos() as u64;
        let wait = Duration::from_nanos(nanos / 2 + self.prng.below(nanos / 2 + 1));
        self.wait = (self.wait * 2).min(WAIT_LAST);
        let goes_on = Instant::now() + wait < self.end;
        if goes_on {
            tokio::time::sleep(wait).await;
        }
        goes_on
    }
}

/// Our finished file, on its way from `temp` to a name in the same directory.
pub(super) struct Ours {
    pub(super) session: Arc<Session>,
    pub(super) path: RemotePath,
    pub(super) temp: RemotePath,
    pub(super) facts: Facts,
    /// What it has in its place: a server hides it, and notes that, while its name has a dot.
    pub(super) attributes: u32,
    /// What it was given.
    pub(super) xattrs: Option<Xattrs>,
}

/// What takes the free name.
#[derive(Clone, Copy)]
pub(super) enum Mover<'a> {
    /// What has this name; it gets these attributes.
    Path(&'a RemotePath, u32),
    /// What is open.
    Open(&'a Handle),
}

impl Ours {
    /// Puts it at its name if what is there is as expected; else all is as it was.
    pub(super) async fn put(&self, expect: Expect) -> Outcome<Metadata> {
        let mut patience = Patience::new();
        let mut fail = match self.try_put(expect).await {
            Err(fail) => fail,
            done => return done,
        };
        while fail.kind == ErrorKind::Busy || fail.is_unknown() {
            if !patience.goes_on().await {
                break;
            }
            let asked = match fail.is_unknown() {
                true => self.outcome(expect).await,
                false => Ok(None),
            };
            fail = match asked {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => match self.try_put(expect).await {
                    Err(fail) => fail,
                    done => return done,
                },
                Err(fail) => fail,
            };
        }
        Err(fail)
    }

    async fn try_put(&self, expect: Expect) -> Outcome<Metadata> {
        let link = self.session.link().await?;
        let wanted = match expect {
            // Even then only what was seen is replaced, as it was seen.
            Expect::Any => match self.session.look(&link, &self.path).await {
                Ok(seen) => Some(seen.facts.version()),
                Err(fail) if fail.kind == ErrorKind::NotFound => None,
                Err(fail) => return Err(fail),
            },
            Expect::Version(version) => Some(version),
            Expect::Absent => None,
        };
        let mover = Mover::Path(&self.temp, self.attributes);
        let placed = match wanted {
            Some(version) => {
                replace(&self.session, &link, mover, &self.path, &version, false).await
            }
            None => move_in(&self.session, &link, mover, &self.path).await,
        };
        let facts = placed.map_err(|fail| match fail.kind {
            // Another one came in between: it is looked at too.
            ErrorKind::VersionChanged | ErrorKind::NotFound | ErrorKind::Exists
                if expect == Expect::Any =>
            {
                fail.of_kind(ErrorKind::Busy)
            }
            _ => fail,
        })?;
        self.metadata(&link, facts).await
    }

    async fn metadata(&self, link: &Arc<Link>, facts: Facts) -> Outcome<Metadata> {
        let seen = match mfsymlink::may_be(facts.is_dir(), facts.size) {
            true => self.session.look_at(link, &self.path).await?,
            false => Seen { facts, target: None },
        };
        Ok(self.session.metadata_of(link, &seen, self.xattrs.clone()))
    }

    /// Asks whether a put was made whose answer was lost; `None`: it was not.
    async fn outcome(&self, expect: Expect) -> Outcome<Option<Metadata>> {
        let link = self.session.link().await?;
        let at = |seen: Outcome<Seen>| match seen {
            Ok(seen) => Ok(Some(seen.facts)),
            Err(fail) if fail.kind == ErrorKind::NotFound => Ok(None),
            Err(fail) => Err(fail),
        };
        let there = at(self.session.look_at(&link, &self.path).await)?;
        if let Some(there) = there.filter(|there| there.id == self.facts.id) {
            if let Expect::Version(version) = expect {
                self.finish(&link, &version).await;
            }
            return self.metadata(&link, there).await.map(Some);
        }
        match at(self.session.look_at(&link, &self.temp).await)? {
            Some(temp) if temp.id == self.facts.id => Ok(None),
            _ => Err(Fail::saying(ErrorKind::Timeout, "whether it was put in place is unknown")),
        }
    }

    /// Removes what stands aside, if it is what was to be replaced.
    async fn finish(&self, link: &Arc<Link>, version: &Version) {
        let Some(aside) = name::aside(&self.path) else { return };
        let finished = async {
            let (old, facts) = hold(link, &self.session.wire(&aside)?).await?;
            match facts.is_version(version) {
                true => discard(old, &facts).await,
                false => Ok(()),
            }
        };
        if let Err(fail) = finished.await {
            tracing::debug!(%aside, kind = ?fail.kind, "what was replaced stays aside");
        }
    }
}

/// Opens an entry so that nobody writes it, moves it or does the same until we close it.
pub(super) async fn hold(link: &Arc<Link>, wire: &str) -> Outcome<(Handle, Facts)> {
    let wanted = access::DELETE | access::READ_ATTRIBUTES | access::WRITE_ATTRIBUTES;
    let open = Open { share: share::READ, options: options::NO_FOLLOW, ..Open::existing(wanted) };
    match link.open(wire, open.clone()).await {
        // Samba says so too where another file took the name while it looked.
        Err(fail) if fail.kind == ErrorKind::PermissionDenied => link.open(wire, open).await,
        held => held,
    }
}

/// The same by path; a file that stands aside is put back first.
pub(super) async fn hold_at(
    session: &Session,
    link: &Arc<Link>,
    path: &RemotePath,
) -> Outcome<(Handle, Facts)> {
    let wire = session.wire(path)?;
    match hold(link, &wire).await {
        Err(fail) if fail.kind == ErrorKind::NotFound => {
            let there = session.missing(link, path, fail).await?;
            if there == *path {
                return hold(link, &wire).await.map_err(in_motion);
            }
            put_back(session, link, path).await.map_err(in_motion)?;
            hold(link, &wire).await.map_err(in_motion)
        }
        held => held,
    }
}

/// Gives a file that stands aside its name back, if nobody is at it.
pub(super) async fn put_back(
    session: &Session,
    link: &Arc<Link>,
    path: &RemotePath,
) -> Outcome<()> {
    let aside = name::aside(path).ok_or(ErrorKind::IsADirectory)?;
    let (wire, aside_wire) = (session.wire(path)?, session.wire(&aside)?);
    let facts = look_plain(link, &aside_wire).await?.shown();
    let mut ops = moving(&aside_wire, &wire, facts.attributes);
    // Before its end: the mark goes.
    let unmarked = Basic { atime: link.now(), ..Basic::default() };
    ops.insert(3, wire::set_basic(CHAINED, unmarked));
    let mut answers = link.ask(ops).await?;
    answers.done(0)?;
    answers.done(1)?;
    remove_holder_of(session, link, path).await;
    Ok(())
}

/// Removes what an earlier replacement left aside, if it is as it was when that one compared it and
/// nobody is at it. Whether it is gone.
pub(super) async fn finish(
    session: &Session,
    link: &Arc<Link>,
    path: &RemotePath,
) -> Outcome<bool> {
    let aside = name::aside(path).ok_or(ErrorKind::IsADirectory)?;
    let (old, facts) = hold(link, &session.wire(&aside)?).await.map_err(in_motion)?;
    if !facts.is_marked() {
        return Ok(false);
    }
    discard(old, &facts).await?;
    remove_holder_of(session, link, path).await;
    Ok(true)
}

/// Makes the directory that a file with a long name stands aside in.
async fn make_holder(session: &Session, link: &Arc<Link>, path: &RemotePath) -> Outcome<()> {
    let Some(holder) = name::holder(path) else { return Ok(()) };
    let disposition = CreateDisposition::FileOpenIf;
    let open = Open::new(access::READ_ATTRIBUTES, share::ALL, options::DIRECTORY);
    let open = Open { disposition, ..open };
    let made = link.ask(vec![open.op(&session.wire(&holder)?), wire::close(CHAINED)]).await;
    made?.done(0).map_err(in_motion)
}

/// Removes it, unless a file stands there.
pub(super) async fn remove_holder(session: &Session, link: &Arc<Link>, holder: &RemotePath) {
    let removed = async {
        let (held, facts) = hold(link, &session.wire(holder)?).await?;
        discard(held, &facts).await
    };
    if let Err(fail) = removed.await {
        tracing::debug!(%holder, kind = ?fail.kind, "it stays");
    }
}

async fn remove_holder_of(session: &Session, link: &Arc<Link>, path: &RemotePath) {
    if let Some(holder) = name::holder(path) {
        remove_holder(session, link, &holder).await;
    }
}

/// It was there an instant ago: somebody is at it.
fn in_motion(fail: Fail) -> Fail {
    match fail.kind {
        ErrorKind::NotFound | ErrorKind::Exists => fail.of_kind(ErrorKind::Busy),
        _ => fail,
    }
}

/// Moves what has the name `from` to a name that nothing has, and gives it these attributes.
async fn move_to(link: &Arc<Link>, from: &str, to: &str, attributes: u32) -> Outcome<Facts> {
    let mut answers = link.ask(moving(from, to, attributes)).await?;
    answers.done(0)?;
    answers.done(1)?;
    answers.facts(3)
}

fn moving(from: &str, to: &str, attributes: u32) -> Vec<wire::Op> {
    let wanted = access::DELETE | access::READ_ATTRIBUTES | access::WRITE_ATTRIBUTES;
    let open = Open { options: options::NO_FOLLOW, ..Open::existing(wanted) };
    vec![
        open.op(from),
        wire::rename(CHAINED, to, false),
        wire::set_basic(CHAINED, Basic { attributes: noted(attributes), ..Basic::default() }),
        wire::query(CHAINED),
        wire::close(CHAINED),
    ]
}

/// Moves to a free name: `Exists` when it is taken. Not to be dropped in the middle.
pub(super) async fn move_in(
    session: &Session,
    link: &Arc<Link>,
    mover: Mover<'_>,
    path: &RemotePath,
) -> Outcome<Facts> {
    let wire = session.wire(path)?;
    match mover {
        Mover::Path(from, attributes) => {
            let missing = |fail: Fail| match fail.is(NtStatus::OBJECT_NAME_NOT_FOUND) {
                true => Fail::saying(ErrorKind::Io, "somebody took the temporary file"),
                false => fail,
            };
            let ops = moving(&session.wire(from)?, &wire, attributes);
            let mut answers = link.clone().send(ops).await?;
            answers.done(0).map_err(missing)?;
            answers.done(1)?;
            answers.facts(3)
        }
        Mover::Open(handle) => {
            let ops = vec![wire::rename(handle.id, &wire, false), wire::query(CHAINED)];
            let mut answers = link.clone().send(ops).await?;
            answers.done(0)?;
            answers.facts(1)
        }
    }
}

/// Puts the mover in the place of what is of this version. `takes_dirs`: a directory may be
/// replaced by one.
pub(super) async fn replace(
    session: &Session,
    link: &Arc<Link>,
    mover: Mover<'_>,
    path: &RemotePath,
    version: &Version,
    takes_dirs: bool,
) -> Outcome<Facts> {
    let (old, facts) = hold_at(session, link, path).await?;
    if facts.is_dir() && !takes_dirs {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !facts.is_version(version) {
        return Err(ErrorKind::VersionChanged.into());
    }
    let aside = name::aside(path).ok_or(ErrorKind::IsADirectory)?;
    let (wire, aside_wire) = (session.wire(path)?, session.wire(&aside)?);
    make_holder(session, link, path).await?;
    // Both at once: the name is missing for as long as the server takes from one to the other.
    let marked = Basic { atime: facts.mark(), ..Basic::default() };
    let aside_first = link
        .clone()
        .send(vec![wire::set_basic(old.id, marked), wire::rename(CHAINED, &aside_wire, false)]);
    let (moved, placed) = tokio::join!(aside_first, move_in(session, link, mover, path));
    match moved?.done(1) {
        Err(fail) if fail.kind == ErrorKind::Exists => {
            clear_aside(session, link, path, &facts).await?;
            return Err(ErrorKind::Busy.into());
        }
        moved => moved.map_err(in_motion)?,
    }
    let placed = match placed {
        // It was the first after all, and met the old one.
        Err(fail) if fail.kind == ErrorKind::Exists => move_in(session, link, mover, path).await,
        placed => placed,
    };
    let fail = match placed {
        Ok(placed) => {
            // The change itself is made, so a failure is no error.
            if let Err(fail) = discard(old, &facts).await {
                tracing::warn!(%path, kind = ?fail.kind, "the replaced file stays aside");
            }
            remove_holder_of(session, link, path).await;
            return Ok(placed);
        }
        Err(fail) if fail.is_unknown() => return Err(fail),
        Err(fail) => fail,
    };
    // A server that hides what begins with a dot has noted that by now.
    let atime = facts.atime.max(0);
    let attributes = Basic { atime, attributes: noted(facts.attributes), ..Basic::default() };
    let back = vec![wire::rename(old.id, &wire, false), wire::set_basic(CHAINED, attributes)];
    let back = old.ask(back).await?.done(0);
    remove_holder_of(session, link, path).await;
    match back {
        Ok(()) if fail.kind == ErrorKind::Exists => Err(ErrorKind::VersionChanged.into()),
        Ok(()) => Err(fail),
        Err(taken) if taken.kind == ErrorKind::Exists => {
            // Somebody made another file while nothing had the name: both stay.
            let kept = kept(path)?;
            old.ask(vec![wire::rename(old.id, &session.wire(&kept)?, false)]).await?.done(0)?;
            let text = format!("its name was taken meanwhile; it is kept as {kept}");
            Err(Fail::saying(ErrorKind::VersionChanged, text))
        }
        Err(other) => Err(other),
    }
}

/// Before a name is given up: what an earlier replacement of it left aside would be put back there.
/// To be asked while the name is held: what stands aside then is of no replacement under way.
pub(super) async fn settle_aside(
    session: &Session,
    link: &Arc<Link>,
    path: &RemotePath,
    facts: &Facts,
) -> Outcome<()> {
    let Some(aside) = name::aside(path) else { return Ok(()) };
    // Of a name that is too long to stand aside nothing does.
    let Ok(wire) = session.wire(&aside) else { return Ok(()) };
    match there(look_plain(link, &wire).await)? {
        Ok(_) => clear_aside(session, link, path, facts).await,
        Err(_) => Ok(()),
    }
}

/// Makes room where an earlier replacement left its old file aside: that goes if all of it had been
/// seen, else it gets a name that people see. `facts`: of what has its name now.
async fn clear_aside(
    session: &Session,
    link: &Arc<Link>,
    path: &RemotePath,
    facts: &Facts,
) -> Outcome<()> {
    if finish(session, link, path).await? {
        return Ok(());
    }
    let aside = name::aside(path).ok_or(ErrorKind::IsADirectory)?;
    let (aside, kept) = (session.wire(&aside)?, session.wire(&kept(path)?)?);
    move_to(link, &aside, &kept, facts.attributes).await.map_err(in_motion)?;
    tracing::warn!(%path, "what an earlier replacement had left aside is kept beside it");
    Ok(())
}

/// Attributes as they are set: 0 would leave them.
fn noted(attributes: u32) -> u32 {
    match attributes & SETTABLE {
        0 => NORMAL,
        settable => settable,
    }
}

/// Deletes what is held, and closes it.
pub(super) async fn discard(held: Handle, facts: &Facts) -> Outcome<()> {
    let mut ops = Vec::new();
    let is_read_only = facts.attributes & READ_ONLY != 0 && !facts.is_dir();
    if is_read_only {
        let attributes = noted(facts.attributes & !READ_ONLY);
        ops.push(wire::set_basic(held.id, Basic { attributes, ..Basic::default() }));
    }
    let id = if is_read_only { CHAINED } else { held.id };
    ops.push(wire::set_deleted(id));
    let at = ops.len() - 1;
    held.finish(ops).await?.done(at)
}

/// A visible name beside `path` for bytes that nobody asked for.
fn kept(path: &RemotePath) -> Outcome<RemotePath> {
    let (dir, name) = path.split().ok_or(ErrorKind::IsADirectory)?;
    let name = String::from_utf8_lossy(name);
    let mut bytes = 0;
    let fits = |symbol: &char| {
        // A reserved one is stored as three.
        bytes += if symbol.is_ascii_alphanumeric() { 1 } else { symbol.len_utf8().max(3) };
        bytes <= NAME_BYTES_KEPT
    };
    let cut: String = name.chars().take_while(fits).collect();
    let mark = Prng::unseeded().next() as u32;
    Ok(dir.join(format!("{cut}-kept-{mark:08x}").as_bytes()))
}
