//! Listings that the kernel keeps: who opens such a directory again reads it without asking us.
//!
//! ```text
//!   opened, alone -> the kernel drops what it had -> read from the start: put -> opened again: kept
//!                                                                    names change: forgotten
//! ```
//!
//! What the kernel keeps of a directory comes from whatever handles read, and when an answer of ours got into
//! it nobody tells. So a listing counts as kept only if, since the kernel was told to drop what it had, one handle
//! alone has read, nobody was in the middle of reading then, and no name has changed since. (A handle that has
//! read to the end adds nothing more; closing is told late.) A program that reads on in the middle, where the
//! kernel lost a page, needs the same list: it is held here as long as it is kept.

use crate::attr::{DirItem, Fh, Ino};
use crate::limits;
use lru::LruCache;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The lines of a listing.
pub(crate) type Items = Arc<Vec<DirItem>>;

/// What the kernel keeps of which directories, and who has them open. Guarded by the tree's lock.
pub(crate) struct Kept {
    lists: LruCache<Ino, List>,
    /// Lines of all lists.
    lines: usize,
    open: HashMap<Ino, Open>,
}

struct List {
    /// `None` while it is read.
    items: Option<Items>,
    by: Fh,
    since: Instant,
}

impl List {
    fn lines(&self) -> usize {
        self.items.as_ref().map_or(0, |items| items.len())
    }
}

#[derive(Default)]
struct Open {
    handles: u32,
    /// Those that have begun to read and not come to the end.
    reading: Vec<Fh>,
    /// The one whose reading will be what the kernel has.
    alone: Option<Fh>,
}

impl Kept {
    pub(crate) fn new() -> Self {
        Kept { lists: LruCache::unbounded(), lines: 0, open: HashMap::new() }
    }

    /// Opens a directory. `Some`: the kernel has all of it, not older than this; else it has to drop
    /// what it has.
    pub(crate) fn opened(&mut self, dir: Ino, fh: Fh, age_max: Duration) -> Option<Items> {
        let list = self.lists.get(&dir).filter(|list| list.since.elapsed() < age_max);
        let items = list.and_then(|list| list.items.clone());
        let open = self.open.entry(dir).or_default();
        open.handles += 1;
        open.alone = (items.is_none() && open.reading.is_empty()).then_some(fh);
        if items.is_none() {
            self.forget(dir);
        }
        items
    }

    /// A handle begins to read from the start. `Some`: what it has to read, as others did; else it ends
    /// with `was_read`.
    pub(crate) fn is_read(&mut self, dir: Ino, fh: Fh) -> Option<Items> {
        let open = self.open.get_mut(&dir)?;
        if !open.reading.contains(&fh) {
            open.reading.push(fh);
        }
        let alone = open.alone.take() == Some(fh);
        let items = self.lists.get(&dir).and_then(|list| list.items.clone());
        if items.is_some() {
            return items;
        }
        self.forget(dir);
        if alone {
            self.lists.put(dir, List { items: None, by: fh, since: Instant::now() });
        }
        None
    }

    /// A handle reads on in this list.
    pub(crate) fn goes_on(&mut self, dir: Ino, fh: Fh, items: &Items) {
        let Some(open) = self.open.get_mut(&dir) else { return };
        if !open.reading.contains(&fh) {
            open.reading.push(fh);
        }
        let list = self.lists.peek(&dir).and_then(|list| list.items.as_ref());
        if !list.is_some_and(|kept| Arc::ptr_eq(kept, items)) {
            open.alone = None;
            self.forget(dir);
        }
    }

    /// A handle has come to the end.
    pub(crate) fn ended(&mut self, dir: Ino, fh: Fh) {
        if let Some(open) = self.open.get_mut(&dir) {
            open.reading.retain(|other| *other != fh);
        }
    }

    /// What it has read; no name changed since unless it was told.
    pub(crate) fn was_read(&mut self, dir: Ino, fh: Fh, items: &Items) {
        let list = self.lists.get_mut(&dir);
        let Some(list) = list.filter(|list| list.by == fh && list.items.is_none()) else { return };
        list.items = Some(items.clone());
        self.lines += items.len();
        while self.lines > limits::KEPT_LINES {
            let Some((_, list)) = self.lists.pop_lru() else { break };
            self.lines -= list.lines();
        }
    }

    /// A handle is closed.
    pub(crate) fn closed(&mut self, dir: Ino, fh: Fh) {
        self.ended(dir, fh);
        let Some(open) = self.open.get_mut(&dir) else { return };
        open.handles -= 1;
        if open.handles == 0 {
            self.open.remove(&dir);
        }
    }

    /// What is in the directory, or above it, is not what it was.
    pub(crate) fn forget(&mut self, dir: Ino) {
        if let Some(list) = self.lists.pop(&dir) {
            self.lines -= list.lines();
        }
    }

    /// Lines of all lists.
    #[cfg(test)]
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use covefs_remote::Kind;

    const DIR: Ino = Ino(7);
    const LONG: Duration = Duration::from_secs(3600);

    fn items(count: usize) -> Items {
        let item = |at: u64| DirItem {
            ino: Ino(100 + at),
            kind: Kind::File,
            name: at.to_string().into_bytes(),
            next_offset: at + 1,
            entry: None,
        };
        Arc::new((0..count as u64).map(item).collect())
    }

    fn read(kept: &mut Kept, dir: Ino, fh: u64, items: &Items) {
        if kept.is_read(dir, Fh(fh)).is_none() {
            kept.was_read(dir, Fh(fh), items);
        }
    }

    /// Opens and reads to the end, and says whether the kernel had it. It is closed later.
    fn list(kept: &mut Kept, dir: Ino, fh: u64, items: &Items) -> bool {
        let had = kept.opened(dir, Fh(fh), LONG);
        if had.is_none() {
            read(kept, dir, fh, items);
            kept.ended(dir, Fh(fh));
        }
        had.is_some()
    }

    #[test]
    fn what_was_read_alone_is_kept_until_a_name_changes() {
        let mut kept = Kept::new();
        let items = items(3);
        let seen: Vec<bool> = (1..4).map(|fh| list(&mut kept, DIR, fh, &items)).collect();
        assert_eq!(seen, [false, true, true]);
        kept.forget(DIR);
        assert!(!list(&mut kept, DIR, 4, &items));
        assert!(list(&mut kept, DIR, 5, &items));
        assert!(kept.opened(DIR, Fh(6), Duration::ZERO).is_none(), "too old");
        (1..7).for_each(|fh| kept.closed(DIR, Fh(fh)));
        assert!(kept.open.is_empty());
    }

    /// Two that read at once may each have given the kernel a part.
    #[test]
    fn what_two_read_at_once_is_kept_only_if_it_is_one_list() {
        let (mut kept, first, second) = (Kept::new(), items(3), items(4));
        assert!(kept.opened(DIR, Fh(1), LONG).is_none());
        assert!(kept.opened(DIR, Fh(2), LONG).is_none());
        read(&mut kept, DIR, 1, &first);
        read(&mut kept, DIR, 2, &second);
        assert!(kept.opened(DIR, Fh(3), LONG).is_none());
        read(&mut kept, DIR, 3, &second);
        assert!(kept.opened(DIR, Fh(4), LONG).is_none(), "two are in the middle");
        (1..5).for_each(|fh| kept.closed(DIR, Fh(fh)));
        // The one that the kernel was last told to drop all for gives its list to the others.
        assert!(kept.opened(DIR, Fh(5), LONG).is_none());
        assert!(kept.opened(DIR, Fh(6), LONG).is_none());
        read(&mut kept, DIR, 6, &second);
        assert!(kept.is_read(DIR, Fh(5)).is_some_and(|items| Arc::ptr_eq(&items, &second)));
        assert!(kept.opened(DIR, Fh(7), LONG).is_some());
    }

    /// A handle that goes back reads an old list into what the kernel keeps.
    #[test]
    fn a_second_reading_of_one_handle_is_not_kept() {
        let (mut kept, old, new) = (Kept::new(), items(3), items(4));
        assert!(!list(&mut kept, DIR, 1, &old));
        kept.forget(DIR);
        read(&mut kept, DIR, 1, &new);
        kept.ended(DIR, Fh(1));
        assert!(kept.opened(DIR, Fh(2), LONG).is_none());
        kept.goes_on(DIR, Fh(1), &old);
        read(&mut kept, DIR, 2, &new);
        assert!(kept.opened(DIR, Fh(3), LONG).is_none());
        // To read the list that is kept does no harm.
        kept.ended(DIR, Fh(1));
        kept.ended(DIR, Fh(2));
        assert!(!list(&mut kept, DIR, 4, &new));
        assert!(kept.is_read(DIR, Fh(3)).is_some_and(|items| Arc::ptr_eq(&items, &new)));
        kept.goes_on(DIR, Fh(3), &new);
        assert!(list(&mut kept, DIR, 5, &new));
    }

    /// A list is read without the lock.
    #[test]
    fn a_name_that_changes_while_the_list_is_read_is_noticed() {
        let (mut kept, items) = (Kept::new(), items(3));
        assert!(kept.opened(DIR, Fh(1), LONG).is_none());
        assert!(kept.is_read(DIR, Fh(1)).is_none());
        kept.forget(DIR);
        kept.was_read(DIR, Fh(1), &items);
        kept.closed(DIR, Fh(1));
        assert!(kept.opened(DIR, Fh(2), LONG).is_none());
        assert!(kept.is_read(DIR, Fh(2)).is_none());
        assert!(kept.opened(DIR, Fh(3), LONG).is_none(), "it is not there yet");
        kept.was_read(DIR, Fh(2), &items);
        assert!(kept.opened(DIR, Fh(4), LONG).is_none());
    }

    #[test]
    fn lists_are_bounded() {
        let mut kept = Kept::new();
        let third = items(limits::KEPT_LINES / 3);
        for dir in 0..10 {
            assert!(!list(&mut kept, Ino(dir), dir, &third));
            assert!(kept.lines() <= limits::KEPT_LINES);
        }
        assert!(list(&mut kept, Ino(9), 20, &third));
        assert!(!list(&mut kept, Ino(0), 21, &third));
        let large = items(limits::KEPT_LINES + 1);
        assert!(!list(&mut kept, DIR, 22, &large) && !list(&mut kept, DIR, 23, &large));
        (0..10).for_each(|dir| kept.forget(Ino(dir)));
        assert_eq!(kept.lines(), 0);
    }
}
