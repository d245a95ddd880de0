//! Room in the cache: what is used, what is reserved, and what was used how recently.
//!
//! Used is what the file system allocated (E2), counted at every store. A byte is stored only
//! under a reservation made before any content lock is taken (E1). Recency is per extent, in two
//! segments: first use goes to probation, a second one to protected, so that one scan cannot
//! flush the working set (E3). The kernel answers repeated reads from its own pages, so a second
//! open of the file counts as a second use of what was there before it.

use crate::attr::ContentId;
use crate::broken::{Broken, is_broken};
use crate::limits;
use lru::LruCache;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// One extent of one content.
pub(crate) type ExtentKey = (ContentId, u32);

/// The counters of the cache.
pub(crate) struct Space {
    limit: AtomicU64,
    data: AtomicU64,
    journal: AtomicU64,
    reserved: AtomicU64,
    /// Used bytes were counted after the start; until then nothing is stored.
    ready: AtomicBool,
    /// The disk's own free bytes are above what the user wants kept.
    /// The most that may be used for the disk to keep what is to stay free of it.
    ceiling: AtomicU64,
    /// Room may have come free.
    pub freed: Notify,
    heat: Mutex<Heat>,
}

/// Room promised to one store; given back when dropped.
pub(crate) struct Reservation {
    space: Arc<Space>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.reserved.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

impl Space {
    pub(crate) fn new(limit: u64) -> Self {
        Space {
            limit: AtomicU64::new(limit),
            data: AtomicU64::new(0),
            journal: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            ceiling: AtomicU64::new(u64::MAX),
            freed: Notify::new(),
            heat: Mutex::new(Heat::default()),
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Allocated bytes of data files and journal.
    pub(crate) fn used(&self) -> u64 {
        self.data.load(Ordering::SeqCst) + self.journal.load(Ordering::SeqCst)
    }

    /// One data file took `before` bytes and takes `now`.
    pub(crate) fn account(&self, before: u64, now: u64) {
        if now >= before {
            self.data.fetch_add(now - before, Ordering::SeqCst);
            return;
        }
        let less = before - now;
        let update = |data: u64| Some(data.saturating_sub(less));
        let _ = self.data.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update);
        self.freed.notify_waiters();
    }

    /// Allocated bytes of data files, as they were counted one by one.
    pub(crate) fn data(&self) -> u64 {
        self.data.load(Ordering::SeqCst)
    }

    /// All data files were looked at, and take this instead of `before`. Nothing is corrected when
    /// any of them changed meanwhile.
    pub(crate) fn correct(&self, before: u64, now: u64) -> bool {
        let order = Ordering::SeqCst;
        self.data.compare_exchange(before, now, order, order).is_ok()
    }

    pub(crate) fn set_journal(&self, bytes: u64) {
        self.journal.store(bytes, Ordering::SeqCst);
    }

    /// The disk has so much free, of which so much has to stay.
    pub(crate) fn set_disk_free(&self, free: u64, keep: u64) {
        let most = self.used().saturating_add(free).saturating_sub(keep);
        self.ceiling.store(most, Ordering::Relaxed);
    }

    /// The most that may be used now.
    fn bound(&self) -> u64 {
        self.limit().min(self.ceiling.load(Ordering::Relaxed))
    }

    /// Others have filled the disk: what is clean goes.
    pub(crate) fn is_over(&self) -> bool {
        self.is_ready() && self.used() > self.bound()
    }

    /// The count of what lay in `data/` at the start is complete.
    pub(crate) fn set_ready(&self, data_bytes: u64) {
        self.data.fetch_add(data_bytes, Ordering::SeqCst);
        self.ready.store(true, Ordering::SeqCst);
        self.freed.notify_waiters();
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// Bytes that have to go before `bytes` more fit.
    pub(crate) fn shortfall(&self, bytes: u64) -> u64 {
        let wanted = self.used() + self.reserved.load(Ordering::SeqCst) + bytes;
        wanted.saturating_sub(self.bound())
    }

    /// Promises room, or `None` where there is none now.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        if !self.is_ready() {
            return None;
        }
        let take = |reserved: u64| {
            let wanted = self.used() + reserved + bytes;
            (wanted <= self.bound() || is_broken(Broken::Limit)).then_some(reserved + bytes)
        };
        self.reserved.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).ok()?;
        Some(Reservation { space: self.clone(), bytes })
    }

    pub(crate) fn heat(&self) -> MutexGuard<'_, Heat> {
        self.heat.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// How recently, and how often, extents were used.
pub(crate) struct Heat {
    probation: LruCache<ExtentKey, Extent>,
    protected: LruCache<ExtentKey, Extent>,
    protected_bytes: u64,
    /// How often each content was opened for reading; only of contents with extents here.
    opens: BTreeMap<ContentId, Opens>,
    pub pinned: BTreeSet<ContentId>,
    /// Seconds since 1970, as of the last round of settling, and of the last look at all extents.
    now: u64,
    looked: u64,
}

#[derive(Clone, Copy)]
struct Extent {
    bytes: u32,
    /// The content's opens when this extent was last used.
    opens: u32,
    /// When it was last used, and what the index says of that.
    used: u64,
    saved: u64,
}

/// What the index keeps of an extent's use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Standing {
    /// Used more than once.
    pub protected: bool,
    /// When it was last used, in seconds since 1970.
    pub used: u64,
}

#[derive(Default)]
struct Opens {
    count: u32,
    extents: u32,
}

impl Default for Heat {
    fn default() -> Self {
        Heat {
            probation: LruCache::unbounded(),
            protected: LruCache::unbounded(),
            protected_bytes: 0,
            opens: BTreeMap::new(),
            pinned: BTreeSet::new(),
            now: 0,
            looked: 0,
        }
    }
}

impl Heat {
    /// A handle was opened for reading.
    pub(crate) fn opened(&mut self, content: ContentId) {
        self.opens.entry(content).or_default().count += 1;
    }

    /// The time goes on; whether the last look at all extents is so many seconds ago.
    pub(crate) fn set_now(&mut self, seconds: u64, look_every: u64) -> bool {
        self.now = seconds;
        let due = seconds.abs_diff(self.looked) >= look_every;
        if due {
            self.looked = seconds;
        }
        due
    }

    /// Bytes were stored in an extent, or became clean.
    pub(crate) fn stored(&mut self, key: ExtentKey, bytes: u32) {
        if let Some(extent) = self.protected.get_mut(&key) {
            self.protected_bytes += u64::from(bytes.saturating_sub(extent.bytes));
            extent.bytes = extent.bytes.max(bytes);
            extent.used = self.now;
        } else if let Some(extent) = self.probation.get_mut(&key) {
            extent.bytes = extent.bytes.max(bytes);
            extent.used = self.now;
        } else {
            self.put(key, bytes, Standing { protected: false, used: self.now }, 0);
        }
    }

    /// The first bytes of a content were fetched before it was opened: the open for which they are
    /// is no second use.
    pub(crate) fn guessed(&mut self, content: ContentId) {
        if let Some(extent) = self.probation.peek_mut(&(content, 0)) {
            extent.opens = extent.opens.max(1);
        }
    }

    /// An extent that an earlier run has used.
    pub(crate) fn restored(&mut self, key: ExtentKey, bytes: u32, standing: Standing) {
        if self.standing(&key).is_none() {
            // A clock that was ahead must not keep it for ever.
            let standing = Standing { used: standing.used.min(self.now), ..standing };
            self.put(key, bytes, standing, standing.used);
        }
    }

    fn put(&mut self, key: ExtentKey, bytes: u32, standing: Standing, saved: u64) {
        let opens = self.opens.entry(key.0).or_default();
        opens.extents += 1;
        let extent = Extent { bytes, opens: opens.count, used: standing.used, saved };
        if standing.protected {
            self.protected_bytes += u64::from(bytes);
            self.protected.put(key, extent);
        } else {
            self.probation.put(key, extent);
        }
    }

    /// A handle came to this extent: the first time since the extent was stored counts little.
    pub(crate) fn used(&mut self, key: ExtentKey, limit: u64) {
        let opens = self.opens.get(&key.0).map_or(0, |opens| opens.count);
        if let Some(extent) = self.protected.get_mut(&key) {
            extent.opens = opens;
            extent.used = self.now;
            return;
        }
        let Some(extent) = self.probation.get_mut(&key) else { return };
        extent.used = self.now;
        if opens > extent.opens {
            self.promote(key, limit);
        }
    }

    fn promote(&mut self, key: ExtentKey, limit: u64) {
        let Some(mut extent) = self.probation.pop(&key) else { return };
        extent.opens = self.opens.get(&key.0).map_or(0, |opens| opens.count);
        self.protected_bytes += u64::from(extent.bytes);
        self.protected.put(key, extent);
        // What no longer fits is as new again, at the head of probation.
        while self.protected_bytes > limit / 100 * limits::PROTECTED_PERCENT {
            let Some((old, extent)) = self.protected.pop_lru() else { break };
            self.protected_bytes -= u64::from(extent.bytes);
            self.probation.put(old, extent);
        }
    }

    /// The next extents to go, at least `bytes` of them where there are so many; they are taken
    /// out: `stored` puts back what could not go.
    pub(crate) fn victims(&mut self, bytes: u64, limit: u64) -> Vec<ExtentKey> {
        let mut found = Vec::new();
        let mut sum = 0;
        let mut chances = self.probation.len();
        while sum < bytes {
            let next = match self.probation.pop_lru() {
                Some((key, extent)) if chances > 0 && self.was_reused(&key, &extent) => {
                    chances -= 1;
                    self.probation.put(key, extent);
                    self.promote(key, limit);
                    continue;
                }
                Some(next) => next,
                None => match self.protected.pop_lru() {
                    Some((key, extent)) => {
                        self.protected_bytes -= u64::from(extent.bytes);
                        (key, extent)
                    }
                    None => break,
                },
            };
            sum += u64::from(next.1.bytes);
            self.left(next.0.0);
            found.push(next.0);
        }
        found
    }

    fn was_reused(&self, key: &ExtentKey, extent: &Extent) -> bool {
        self.opens.get(&key.0).is_some_and(|opens| opens.count > extent.opens)
    }

    fn left(&mut self, content: ContentId) {
        if let Some(opens) = self.opens.get_mut(&content) {
            opens.extents = opens.extents.saturating_sub(1);
            if opens.extents == 0 {
                self.opens.remove(&content);
            }
        }
    }

    /// A content is gone. Its extents, were there any left, are found empty when their turn comes.
    pub(crate) fn forget_content(&mut self, content: ContentId) {
        self.opens.remove(&content);
        self.pinned.remove(&content);
    }

    /// Contents with extents here.
    pub(crate) fn contents(&self) -> u64 {
        self.opens.values().filter(|opens| opens.extents > 0).count() as u64
    }

    /// How an extent stands; `None` when nothing of it is here.
    pub(crate) fn standing(&self, key: &ExtentKey) -> Option<Standing> {
        let protected = self.protected.peek(key);
        let extent = protected.or_else(|| self.probation.peek(key))?;
        Some(Standing { protected: protected.is_some(), used: extent.used })
    }

    /// Extents last used before `seconds`; they are taken out: `stored` puts back what stays.
    pub(crate) fn unused_since(&mut self, seconds: u64) -> Vec<ExtentKey> {
        let all = self.probation.iter().chain(self.protected.iter());
        let old = all.filter(|(_, extent)| extent.used < seconds);
        let old: Vec<ExtentKey> = old.map(|(key, _)| *key).collect();
        for key in &old {
            if let Some(extent) = self.protected.pop(key) {
                self.protected_bytes -= u64::from(extent.bytes);
            }
            self.probation.pop(key);
            self.left(key.0);
        }
        old
    }

    /// Extents of which the index says that they were last used more than so many seconds before
    /// they were; from now on it is taken to know.
    pub(crate) fn unsaved(&mut self, seconds: u64) -> Vec<(ExtentKey, Standing)> {
        let mut found = Vec::new();
        for (protected, part) in [(true, &mut self.protected), (false, &mut self.probation)] {
            for (key, extent) in part.iter_mut().filter(|(_, e)| e.used > e.saved + seconds) {
                extent.saved = extent.used;
                found.push((*key, Standing { protected, used: extent.used }));
            }
        }
        found
    }
}
