//! Data files that the kernel reads by itself (FUSE passthrough): which, and what may not happen to
//! them meanwhile.
//!
//! ```text
//!   open to read, whole -> Lent -> registered with the kernel -> reads and mappings pass us by
//! ```
//!
//! All handles of an inode are of one kind (P1): the kernel's pages, or the data file itself. Who opens
//! a lent file to write writes through us all the same; but its mappings are of the data file, so what
//! they write nobody tells of (P2): from then on all of it counts as changed.
//!
//! A mapping outlives its handle, this process and the mount. Whether anybody still has a data file is
//! asked of the disk (`Held`), before bytes of it go, and before what was sent counts as all there is.

use crate::attr::{ContentId, OpenMode};
use crate::disk::{Held, Readable};
use crate::error::{Error, Result};
use crate::file::{Content, File, data_path};
use crate::limits;
use crate::step::{Asked, Need, Step};
use crate::vfs::Vfs;
use covefs_remote::Timestamp;
use std::any::Any;
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// What the kernel may do, and how much it does.
pub(crate) struct Lending {
    /// Seconds for which a file has to be unchanged; below 0 nothing is lent.
    age: AtomicI64,
    bytes: Arc<AtomicU64>,
    /// Contents that were lent in this run, and that nobody was found not to have any more.
    given: Mutex<HashSet<ContentId>>,
}

impl Default for Lending {
    fn default() -> Self {
        Lending { age: AtomicI64::new(-1), bytes: Arc::default(), given: Mutex::default() }
    }
}

impl Lending {
    pub(crate) fn is_on(&self) -> bool {
        self.age.load(Ordering::Relaxed) >= 0
    }

    pub(crate) fn given(&self) -> MutexGuard<'_, HashSet<ContentId>> {
        self.given.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A data file that the kernel reads by itself, until the last handle that has this is closed.
pub struct Lent {
    side: Mutex<Side>,
    size: u64,
    bytes: Arc<AtomicU64>,
}

/// Who has the file.
enum Side {
    Ours(Readable),
    /// What the session keeps of it.
    Kernels(Box<dyn Any + Send + Sync>),
}

impl Lent {
    /// Registers the file with the kernel, once. What comes of that is kept as long as handles are
    /// open.
    pub fn register<T: Any + Send + Sync>(
        &self,
        register: impl FnOnce(&Readable) -> io::Result<T>,
    ) -> io::Result<()> {
        let mut side = self.side();
        if let Side::Ours(file) = &*side {
            let registered = register(file)?;
            *side = Side::Kernels(Box::new(registered));
        }
        Ok(())
    }

    /// What came of it.
    pub fn registered<T: Any, R>(&self, with: impl FnOnce(&T) -> R) -> Option<R> {
        match &*self.side() {
            Side::Ours(_) => None,
            Side::Kernels(registered) => registered.downcast_ref().map(with),
        }
    }

    fn side(&self) -> MutexGuard<'_, Side> {
        self.side.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// What an upload of a file has to know that may be changed unseen.
pub(crate) enum Unseen {
    /// The share has what the data file has.
    Nothing,
    /// It is to be sent, as the data file was changed last; `None` where that cannot be told.
    Send(Option<SystemTime>),
}

/// How a handle reaches the bytes.
pub(crate) enum Way {
    /// Through us and the kernel's pages.
    Pages,
    /// The kernel reads the data file.
    Lent(Arc<Lent>),
    /// Through us, beside handles that the kernel serves.
    Beside(Arc<Lent>),
    /// As the last, once `claim` has said that it may be changed unseen.
    Claim,
}

impl Vfs {
    /// The kernel may read data files by itself of files that are unchanged for so long; or no longer
    /// any (`None`).
    pub fn may_lend(&self, age: Option<Duration>) {
        let age = age.map_or(-1, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        self.lending.age.store(age, Ordering::Relaxed);
    }

    /// Chooses for a new handle, and counts it.
    pub(crate) fn way(&self, file: &File, content: &mut Content, how: OpenMode) -> Way {
        let Some(lent) = content.lent.upgrade() else {
            if let Some(lent) = self.lend(file, content, how) {
                return Way::Lent(lent);
            }
            content.in_pages += 1;
            return Way::Pages;
        };
        match (how.read, how.write) {
            (true, true) if !content.unseen => Way::Claim,
            (_, false) if !content.latched => Way::Lent(lent),
            _ => Way::Beside(lent),
        }
    }

    fn lend(&self, file: &File, content: &mut Content, how: OpenMode) -> Option<Arc<Lent>> {
        let (size, lent) = (content.size, self.lending.bytes.load(Ordering::Relaxed));
        let age = self.clock.now().seconds.saturating_sub(content.mtime.seconds);
        let may = self.lending.is_on()
            && age >= self.lending.age.load(Ordering::Relaxed)
            && !how.write
            && content.in_pages == 0
            && size >= limits::LEND
            && lent + size <= self.space.limit() / 2
            && content.is_whole()
            && content.zeros.is_empty()
            && !content.is_held()
            && !content.latched;
        if !may {
            return None;
        }
        let found = self.disk.lend(&data_path(file.id)).and_then(|found| {
            let len = found.as_ref().map_or(Ok(0), Readable::len);
            len.map(|len| found.filter(|_| len == size))
        });
        let found = match found {
            Ok(found) => found?,
            Err(error) => {
                tracing::debug!(%error, content = file.id.0, "not lent");
                return None;
            }
        };
        self.lending.given().insert(file.id);
        self.lending.bytes.fetch_add(size, Ordering::Relaxed);
        let (side, bytes) = (Mutex::new(Side::Ours(found)), self.lending.bytes.clone());
        let lent = Arc::new(Lent { side, size, bytes });
        content.lent = Arc::downgrade(&lent);
        content.shared = true;
        // Nobody tells us of reads (R2).
        content.delivered = true;
        Some(lent)
    }

    /// All of a lent file counts as changed, durably, before anybody can change it unseen (P2).
    pub(crate) fn claim(&self, asked: Asked, file: &Arc<File>) -> Result<Step<()>> {
        if !asked.may_block {
            return Ok(Step::Wait(Need::Thread));
        }
        let holes = file.lock().zeros.total();
        {
            let ready = self.ready_to_change(asked, file, holes)?;
            let (mut content, _room) = match ready {
                Step::Done(ready) => ready,
                Step::Wait(need) => return Ok(Step::Wait(need)),
            };
            if content.zeros.total() > holes {
                // There are more by now.
                return Ok(Step::Wait(Need::Unheld(file.id)));
            }
            while file.fill_hole(&mut content, &self.space)?.is_some() {}
            file.claim(&mut content, &self.journal)?;
            content.unseen = true;
            content.seen = None;
        }
        self.sync_data(file)?;
        self.journal.sync()?;
        self.tree().kernel_forgets(file.node());
        self.sync.poke(file.node());
        Ok(Step::Done(()))
    }

    /// Makes zeros of the holes of what may be changed unseen: a write into one nobody would tell of, and the
    /// next start would make it a hole again (P2). Others get at the content between the pieces.
    pub(crate) fn fill_unseen(
        &self,
        file: &File,
        mut content: MutexGuard<'_, Content>,
    ) -> Result<()> {
        if !content.unseen || content.zeros.is_empty() {
            return Ok(());
        }
        content.cutting = true;
        drop(content);
        let filled = loop {
            let mut content = file.lock();
            let filled = file.fill_hole(&mut content, &self.space).and_then(|part| match part {
                Some(part) => file.log_found(&mut content, &self.journal, part).map(|()| true),
                None => Ok(false),
            });
            match filled {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        file.lock().cutting = false;
        file.changed.notify_waiters();
        filled
    }

    /// A handle that the kernel served was closed: all of the file was used.
    pub(crate) fn was_lent(&self, file: &File) {
        let extents = file.lock().size.div_ceil(limits::EXTENT) as u32;
        let mut heat = self.space.heat();
        (0..extents).for_each(|extent| heat.used((file.id, extent), self.space.limit()));
    }

    /// Whether somebody may have the data file of a content that is being loaded, from a handle or
    /// a process that is gone; and whether to write to it.
    pub(crate) fn was_left(&self, file: &File) -> (bool, bool) {
        let is_older = file.id.0 >> limits::NUMBER_BITS != self.site.start;
        if !is_older && !self.lending.given().contains(&file.id) {
            return (false, false);
        }
        let held = file.held();
        if held == Held::Nobody {
            self.lending.given().remove(&file.id);
        }
        (held != Held::Nobody, held == Held::Writers)
    }

    /// Looks for changes that nobody told of, before an upload. They are dated, so that the upload
    /// has a time of its own.
    pub(crate) async fn changed_unseen(&self, file: &Arc<File>) -> Result<Unseen> {
        if !file.lock().unseen {
            return Ok(Unseen::Send(None));
        }
        let file = file.clone();
        self.on_disk(move |vfs| vfs.look_unseen(&file)).await?
    }

    fn look_unseen(&self, file: &Arc<File>) -> Result<Unseen> {
        {
            let mut content = file.lock();
            // Who has it open may map it yet. Else what is sent from here on is all there will be.
            content.unseen = content.writers > 0 || file.held() == Held::Writers;
        }
        // From here on the first write to each page is dated anew.
        self.sync_data(file)?;
        let now = file.modified();
        let mut content = file.lock();
        if content.unseen && now.is_some() && content.seen == now {
            return Ok(Unseen::Nothing);
        }
        // Killed before it was filled, a hole may be there, and may have been written into since.
        if !content.cutting
            && !content.zeros.is_empty()
            && let Some(data) = file.data(false)?
        {
            let stored = data.data_ranges(0..content.size);
            let stored = stored.map_err(|error| Error::disk("look at a data file", error))?;
            for found in content.zeros.intersection(&stored).iter() {
                file.log_found(&mut content, &self.journal, found.clone())?;
                content.zeros.remove(found);
            }
            let _room = self.space.reserve(content.zeros.total());
            self.fill_unseen(file, content)?;
            content = file.lock();
        }
        if let Some(now) = now.map(Timestamp::from) {
            content.mtime = content.mtime.max(now);
        }
        Ok(Unseen::Send(now))
    }

    /// Whether all that is known of a file's bytes is on the share, though it counts as dirty.
    pub(crate) fn is_sent_but_unseen(&self, file: &File) -> bool {
        let content = file.lock();
        content.unseen && content.seen.is_some() && content.seen == file.modified()
    }
}

impl File {
    /// Who has the data file besides us. Under the content's lock, so that nobody begins to.
    pub(crate) fn held(&self) -> Held {
        if !self.close_data() {
            return Held::Writers;
        }
        match self.disk.held(&data_path(self.id)) {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Held::Nobody,
            Err(error) => {
                tracing::debug!(%error, content = self.id.0, "taken for held");
                Held::Writers
            }
        }
    }

    /// Whether bytes of the data file may go: nobody has it past us.
    pub(crate) fn is_ours_alone(&self, content: &mut Content) -> bool {
        if content.lent.strong_count() > 0 {
            return false;
        }
        content.shared = content.shared && self.held() != Held::Nobody;
        !content.shared
    }

    /// When the data file last changed; `None` where the next change could have the same time.
    fn modified(&self) -> Option<SystemTime> {
        let modified = self.data(false).ok().flatten()?.modified().ok()?;
        let is_over = modified.elapsed().is_ok_and(|age| age >= limits::FILE_TIME_GRAIN);
        is_over.then_some(modified)
    }
}
