//! Names of covefs on the share that nobody is at any more (X2): temporary ones of uploads, and users'
//! files in transit.
//!
//! What a site itself left it knows, and removes or finishes at its next start. What a site left that never came
//! back goes by age, and only by the share's own clock: a clock here that is wrong would take an upload
//! under way for an old one. It is known from the first change of ours on.

use crate::journal::{Record, SentRecord, SentWhat};
use crate::limits;
use crate::names::OUR_PREFIX;
use crate::vfs::Vfs;
use covefs_remote::{Expect, Kind, Metadata, Remote, RemotePath, Timestamp};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What begins the name of a user's file or directory in transit.
const MOVING: &[u8] = b".~covefs-move-";

/// What begins the name that it gets if nobody knows the one it had.
const FOUND: &[u8] = b"covefs-found-";

/// What the share's clock said last, and when.
#[derive(Default)]
pub(crate) struct ShareClock(Mutex<Option<(Timestamp, Instant)>>);

impl ShareClock {
    /// An answer to a change of ours: it was made at this time there.
    pub(crate) fn learn(&self, changed: &Metadata) {
        let mut known = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if known.is_none_or(|(time, _)| time < changed.ctime) {
            *known = Some((changed.ctime, Instant::now()));
        }
    }

    /// For how long an entry has not been changed; `None` while the clock is not known.
    fn age(&self, entry: &Metadata) -> Option<Duration> {
        let (time, at) = (*self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))?;
        let last = entry.ctime.max(entry.mtime).max(entry.btime);
        let seconds = u64::try_from(time.seconds.saturating_sub(last.seconds)).unwrap_or(0);
        Some(Duration::from_secs(seconds) + at.elapsed())
    }
}

/// Temporary files that may be on the share and that no upload is at any more: of an earlier run, and of
/// uploads that the line broke off.
#[derive(Default)]
pub(crate) struct Leftovers {
    paths: Mutex<BTreeSet<RemotePath>>,
    added: Notify,
}

impl Leftovers {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<RemotePath>> {
        self.paths.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Vfs {
    /// What the journal names before any upload of this run is an earlier one's.
    pub(crate) fn find_leftovers(&self) {
        *self.leftovers.lock() = self.journal.live(|live| live.temps.iter().cloned().collect());
    }

    /// An upload gave this up, and the share may not have heard of it.
    pub(crate) fn leave(&self, temp: RemotePath) {
        self.leftovers.lock().insert(temp);
        self.leftovers.added.notify_one();
    }

    /// On the share a directory went from one path to another, and with it what uploads have in it: what the
    /// journal is to say of that.
    pub(crate) fn leftovers_move(&self, from: &RemotePath, to: &RemotePath) -> Vec<Record> {
        let temps = self.journal.live(|live| live.temps.clone());
        let mut records = Vec::new();
        let mut left = self.leftovers.lock();
        for old in temps {
            let Some(new) = old.moved(from, to) else { continue };
            if left.remove(&old) {
                left.insert(new.clone());
            }
            records.extend([Record::TempGone(old), Record::Temp(new)]);
        }
        records
    }

    /// Removes what is left, whenever the share answers.
    pub(crate) async fn remove_leftovers_for_ever(&self) {
        let mut pause = Duration::ZERO;
        loop {
            tokio::time::sleep(pause).await;
            self.reach.wait(true).await;
            self.remove_leftovers().await;
            pause = match self.leftovers.lock().is_empty() {
                true => Duration::ZERO,
                false => (pause * 2).clamp(limits::RETRY_FIRST, limits::RETRY_LAST),
            };
            if pause.is_zero() {
                self.leftovers.added.notified().await;
                pause = limits::RETRY_FIRST;
            }
        }
    }

    /// The same at once, as far as the share answers.
    pub(crate) async fn clean_up(&self) {
        if self.reach.is_online() && !self.leftovers.lock().is_empty() {
            self.remove_leftovers().await;
        }
    }

    /// Removes from the share what is left half made (X2).
    async fn remove_leftovers(&self) {
        if self.config.read_only {
            return;
        }
        let left = self.leftovers.lock().clone();
        for path in left {
            if self.is_unsure_of(&path) {
                continue;
            }
            let removed = self.remote.remove(&path, Expect::Any).await;
            // Gone from there may mean that it is elsewhere by now.
            if removed.as_ref().is_err_and(|error| error.kind.is_transient())
                || self.is_unsure_of(&path)
            {
                continue;
            }
            match self.journal.append_freeing(&[Record::TempGone(path.clone())]) {
                Ok(()) => {
                    self.leftovers.lock().remove(&path);
                }
                Err(error) => tracing::warn!(%error, "a leftover stays noted"),
            }
        }
    }

    /// Whether something else is to be asked first: where names are exchanged, the replaced bytes may stand
    /// there; and while a directory is being renamed, or may have been, nobody knows where what is in it is.
    pub(crate) fn is_unsure_of(&self, temp: &RemotePath) -> bool {
        let sent: Vec<SentRecord> = self.journal.live(|live| live.sent.values().cloned().collect());
        let name = temp.split().map(|(_, name)| name);
        let mut tree = self.tree();
        sent.iter().any(|sent| match &sent.what {
            SentWhat::Bytes(bytes) => Some(&*bytes.temp) == name,
            SentWhat::Move => tree
                .base_path(sent.ino)
                .is_ok_and(|from| from.is_some_and(|from| temp.is_within(&from))),
            SentWhat::Made { .. } | SentWhat::Removed(_) => false,
        })
    }

    /// Whether the user is to see a name of covefs: something of theirs that has been in transit for
    /// a day, so that whoever moved it will hardly put it back.
    pub(crate) fn is_stranded(&self, name: &[u8], entry: &Metadata) -> bool {
        name.starts_with(MOVING)
            && self.share_clock.age(entry).is_some_and(|age| age > limits::STRANDED)
    }

    /// Gives a name again to what we had in transit when its directory was moved elsewhere: where it
    /// was to go, it can no longer be found to go there (S6).
    pub(crate) fn put_back(&self, path: &RemotePath, entry: &Metadata) {
        let Some((dir, name)) = path.split() else { return };
        let ours = format!("{}{}-", String::from_utf8_lossy(MOVING), self.site.cache_id);
        let still = || {
            self.journal.live(|live| {
                let bases = live.nodes.values().filter_map(|node| node.base.as_ref());
                let sent = live.sent.values().map(|sent| &sent.place);
                bases.map(|base| &base.place).chain(sent).any(|place| place.name == name)
            })
        };
        if !name.starts_with(ours.as_bytes()) || self.config.read_only || still() {
            return;
        }
        let kept = dir.join(&[FOUND, &name[ours.len()..]].concat());
        let (vfs, path, version) = (self.arc(), path.clone(), entry.version);
        self.spawn("put back what was in transit", async move {
            match vfs.remote.rename(&path, &version, &kept, Expect::Absent).await {
                Ok(_) => vfs.message(
                    &kept.to_string(),
                    format!("what was renamed here while its directory was moved there is {kept}"),
                ),
                Err(error) => tracing::debug!(%error, %path, "it stays in transit"),
            }
        });
    }

    /// Removes what some other site broke off a week ago, or longer, or this one in an earlier run.
    pub(crate) fn remove_abandoned(&self, path: RemotePath, entry: &Metadata) {
        let name = path.split().map(|(_, name)| name.to_vec()).unwrap_or_default();
        let temporary = name.starts_with(OUR_PREFIX) && !name.starts_with(MOVING);
        let old = || self.share_clock.age(entry).is_some_and(|age| age > limits::ABANDONED);
        let in_use = || self.journal.live(|live| live.temps.contains(&path));
        let goes = || self.is_left_by_us(&name, entry) || old() && !in_use();
        if !temporary || entry.kind == Kind::Dir || self.config.read_only || !goes() {
            return;
        }
        let (vfs, version) = (self.arc(), entry.version);
        self.spawn("remove what was abandoned", async move {
            match vfs.remote.remove(&path, Expect::Version(version)).await {
                Ok(()) => tracing::info!(%path, "what was broken off is removed"),
                Err(error) => tracing::debug!(%error, "what was broken off stays"),
            }
        });
    }

    /// Whether this is a temporary name of this cache, which has one owner at a time, and nothing under
    /// way needs it: a site that is killed between the two steps of a new symlink leaves one that no
    /// journal names, and where the directory of an upload was moved, none finds it.
    fn is_left_by_us(&self, name: &[u8], entry: &Metadata) -> bool {
        let ours = format!(".~covefs-{}-", self.site.cache_id);
        let is_needed = || {
            let left = self.leftovers.lock().clone();
            self.journal.live(|live| {
                let uploads = live.temps.difference(&left).filter_map(RemotePath::split);
                let links = live.sent.values().any(|sent| match &sent.what {
                    SentWhat::Made { target, .. } => {
                        target.is_some() && self.sync.is_under_way(sent.ino)
                    }
                    SentWhat::Bytes(bytes) => bytes.temp == name,
                    SentWhat::Move | SentWhat::Removed(_) => false,
                });
                links || uploads.into_iter().any(|(_, temp)| temp == name)
            })
        };
        entry.kind != Kind::Dir && name.starts_with(ours.as_bytes()) && !is_needed()
    }

    /// Removes what this site left in a directory that is to go, and that nobody sees in it: else it
    /// would come back. Whether there was anything.
    pub(crate) async fn empty_of_ours(&self, dir: &RemotePath) -> covefs_remote::Result<bool> {
        let mut removed = false;
        let mut after = None;
        loop {
            let page = self.remote.list(dir, after).await?;
            for (name, entry) in page.entries {
                if !self.is_left_by_us(&name, &entry) {
                    continue;
                }
                match self.remote.remove(&dir.join(&name), Expect::Version(entry.version)).await {
                    Ok(()) => removed = true,
                    Err(error) => tracing::debug!(%error, "what was broken off stays"),
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(removed);
            }
        }
    }
}
