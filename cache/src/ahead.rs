//! What a directory holds, fetched before it is asked for: whoever opens its files in order, or lists
//! its directories in order, finds the next ones here, and so does who goes through a whole tree (`order`).
//! `readahead` does the same within a file.
//!
//! Only a proven order is followed, and only what is small: on a long line these cost a round trip
//! each, not bytes. Nothing waits for what is guessed; what is not here in time, or failed, its user
//! asks for himself. A guess is never the reason to keep bytes (`Heat::guessed`), and all that is on
//! its way is a small part of the cache, so that it drives out nothing that was used twice.

mod order;

use crate::attr::Ino;
use crate::error::Result;
use crate::fetch::Wanted;
use crate::file::File;
use crate::limits;
use crate::node::{Node, Place};
use crate::tree::Tree;
use crate::vfs::Vfs;
use covefs_remote::{Kind, Remote};
use lru::LruCache;
use order::{At, Stands, Tour};
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Entries in order that prove a walk.
const PROVEN: u32 = 3;
/// Of the last ones who read files in order, one may be who comes to another directory.
const READERS: usize = 4;
/// He goes on within so long.
const LATELY: Duration = Duration::from_secs(60);
/// Directories in a row that he only goes down through.
const PASSED: u32 = 4;
/// Files in a row that were not fetched, though others were: he reads in no order that is known here.
const MISSES: u32 = 3;
/// Directories that were listed ahead are come to this often before one looks further again.
const LOOK_EVERY: u32 = 4;

/// Who goes through what.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<Walkers>);

struct Walkers {
    /// Who opens the files of which directory.
    readers: LruCache<Ino, Walk>,
    /// Who lists directory after directory, by the last one.
    listers: LruCache<Ino, Lister>,
    /// Directories that were listed ahead and nobody came to yet.
    listed: LruCache<Ino, Instant>,
}

impl Default for Walkers {
    fn default() -> Self {
        let many = NonZeroUsize::new(limits::WALKS).expect("limits are not zero");
        let (readers, listers, listed) =
            (LruCache::new(many), LruCache::new(many), LruCache::new(many));
        Walkers { readers, listers, listed }
    }
}

/// How the files of a directory are come to. It goes on from directory to directory.
#[derive(Clone, Default)]
struct Walk {
    last: Option<Place>,
    /// Files in a row that followed the one before.
    run: u32,
    /// Those in a row that had not been fetched, though others had.
    misses: u32,
    /// Those of the directory where it is now.
    here: u32,
    /// Directories that it went on to, and how many of the last ones only to go down further.
    further: u32,
    passed: u32,
    /// Since the last file he has looked into another directory.
    looks: bool,
    /// When he came to the last file or directory.
    at: Option<Instant>,
    /// How it does that.
    tour: Option<Tour>,
    window: usize,
    /// What was fetched ahead and nobody came to yet, in order.
    coming: VecDeque<Place>,
    /// Up to where entries were looked at.
    upto: Option<At>,
    /// There are no more in this directory.
    is_end: bool,
    /// The next one is in this directory, which is being listed.
    waits_for: Option<Ino>,
}

/// How directories are come to.
struct Lister {
    /// Directories in a row that followed the one before.
    run: u32,
    /// The directory that all of them are below.
    top: Ino,
    window: usize,
    /// Files of some are read in order.
    is_read: bool,
}

impl Walk {
    /// Somebody came to this entry. Returns how many more to fetch ahead now. `follows` says whether it
    /// stands close after another one.
    fn step(
        &mut self,
        place: &Place,
        is_cold: bool,
        stands: impl FnOnce(&Place) -> Result<Stands>,
    ) -> Result<usize> {
        if let Some(at) = self.coming.iter().position(|coming| coming == place) {
            self.coming.drain(..=at);
            self.misses = 0;
        } else if !is_cold || self.last.as_ref() == Some(place) {
            return Ok(0);
        } else {
            let stands = self.last.as_ref().map_or(Ok(Stands::Elsewhere), stands)?;
            // Of several who go on together one is late.
            if stands == Stands::Before && self.run > 1 {
                return Ok(0);
            }
            if stands != Stands::After || self.misses >= MISSES {
                *self = Walk::first(place);
                return Ok(0);
            }
            self.miss();
        }
        self.run += 1;
        self.here += 1;
        (self.passed, self.looks) = (0, false);
        (self.last, self.at) = (Some(place.clone()), Some(Instant::now()));
        Ok(if self.run < PROVEN { 0 } else { self.wanted() })
    }

    fn first(place: &Place) -> Walk {
        let (last, at) = (Some(place.clone()), Some(Instant::now()));
        Walk { last, at, run: 1, here: 1, ..Walk::default() }
    }

    /// An entry that follows was not fetched ahead. Where others were, it is perhaps come to in the other order.
    fn miss(&mut self) {
        if !self.coming.is_empty() {
            self.misses += 1;
            self.coming.clear();
            if let Some(tour) = &mut self.tour {
                tour.files_first = !tour.files_first;
            }
        }
        self.look_again_from(None);
    }

    fn look_again_from(&mut self, upto: Option<At>) {
        (self.upto, self.is_end, self.waits_for) = (upto, false, None);
    }

    /// How many more to fetch ahead: a few at a time, for a server that does one after the other would
    /// keep whoever asks it next waiting for all of them.
    fn wanted(&mut self) -> usize {
        let (most, few) = (limits::WALK_LAST, limits::WALK_FIRST.min(self.window / 2));
        if self.coming.len() + few > self.window.min(most) && self.window > 0 {
            return 0;
        }
        self.window = (self.window * 2).clamp(limits::WALK_FIRST, most);
        self.window.saturating_sub(self.coming.len())
    }

    /// Whether so many files of a directory were read that those of the next one may be, too.
    fn is_of_a_reader(&self) -> bool {
        self.here >= if self.further == 0 { PROVEN } else { 1 }
    }

    /// Its user came to the next directory, and begins there; he was below `top` so far. What is coming from
    /// `here` on lies below it.
    fn go_on(&mut self, begin: At, top: Ino, here: Option<usize>) {
        let left = here.unwrap_or(self.coming.len());
        self.coming.drain(..left);
        if self.further == 0 {
            // He may only look.
            self.window = 0;
        } else if left > self.here as usize {
            // He leaves more than he reads.
            self.window = self.window.min(limits::WALK_FIRST / 2);
        }
        (self.last, self.at) = (Some(begin.place.clone()), Some(Instant::now()));
        if here.is_none() {
            self.look_again_from(Some(begin));
        }
        let files_first = self.tour.is_some_and(|tour| tour.files_first);
        self.tour = Some(Tour { top, files_first });
        self.passed = if self.here == 0 { self.passed + 1 } else { 0 };
        (self.here, self.further, self.is_end) = (0, self.further + 1, false);
    }
}

impl Vfs {
    /// Somebody opens the file at `place`, which is cold if he has to wait for the share: the next ones
    /// are fetched if he comes to them in order.
    pub(crate) fn opened_file(&self, tree: &mut Tree, place: &Place, is_cold: bool) -> Result<()> {
        let Some(mut all) = self.walkers() else { return Ok(()) };
        let dir = place.parent;
        let comes_new = match all.readers.peek(&dir) {
            Some(walk) => is_cold && !walk.is_of_a_reader() && walk.last.as_ref() != Some(place),
            None => true,
        };
        if comes_new {
            self.go_on_to(tree, &mut all, dir, false)?;
        }
        let walk = all.readers.get_or_insert_mut(dir, Walk::default);
        let was_reader = walk.is_of_a_reader();
        let stands = |last: &Place| order::stands(tree, last, place, Kind::File);
        let wanted = walk.step(place, is_cold, stands)?;
        let (files, dirs) = self.next_files(tree, walk, wanted)?;
        if walk.is_of_a_reader()
            && !was_reader
            && let Some(lister) = all.listers.get_mut(&dir)
        {
            lister.is_read = true;
        }
        self.list_ahead(tree, &mut all, &dirs);
        drop(all);
        self.fetch_ahead(files);
        Ok(())
    }

    /// Somebody lists a directory: the next ones are listed, or their files fetched, if he does so in order.
    pub(crate) fn opened_dir(&self, tree: &mut Tree, dir: Ino, is_cold: bool) -> Result<()> {
        let Some(mut all) = self.walkers() else { return Ok(()) };
        let mut files = Vec::new();
        if !is_cold
            && !all.readers.contains(&dir)
            && self.go_on_to(tree, &mut all, dir, true)?
            && let Some(walk) = all.readers.get_mut(&dir)
        {
            let wanted = walk.wanted();
            (files, _) = self.next_files(tree, walk, wanted)?;
        }
        let was_listed = all.listed.pop(&dir).is_some();
        if is_cold || was_listed {
            let next = self.next_dirs(tree, &mut all.listers, dir, is_cold)?;
            self.list_ahead(tree, &mut all, &next);
        }
        drop(all);
        self.fetch_ahead(files);
        Ok(())
    }

    /// `None` while nothing is to be fetched ahead: uploads that make room go first (E1).
    fn walkers(&self) -> Option<MutexGuard<'_, Walkers>> {
        let may = self.reach.is_online() && !self.sync.is_hurried();
        may.then(|| self.ahead.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Directories to list for whoever has come to this one, if that is in an order.
    fn next_dirs(
        &self,
        tree: &mut Tree,
        listers: &mut LruCache<Ino, Lister>,
        dir: Ino,
        is_cold: bool,
    ) -> Result<Vec<Node>> {
        if listers.get(&dir).is_some() {
            return Ok(Vec::new());
        }
        let above = order::way_up(tree, dir)?;
        let mut lister = Lister { run: 0, top: dir, window: 0, is_read: false };
        let last: Vec<Ino> = listers.iter().take(READERS).map(|(last, _)| *last).collect();
        for before in last {
            if let Some((_, top)) = order::follows(tree, before, dir, &above)?
                && let Some(found) = listers.pop(&before)
            {
                lister = found;
                lister.top = order::higher(tree, lister.top, top)?;
                break;
            }
        }
        lister.run += 1;
        let mut next = Vec::new();
        // What is ahead reaches further than to the next look.
        if lister.run >= PROVEN && (is_cold || lister.run.is_multiple_of(LOOK_EVERY)) {
            let most = if lister.is_read { limits::WALK_READ } else { limits::WALK_LAST };
            lister.window = (lister.window * 2).clamp(limits::WALK_FIRST, most);
            let tour = Tour { top: lister.top, files_first: false };
            let is_old = |tree: &mut Tree, dir: &Node| self.is_old(tree, dir);
            next = order::unlisted_after(tree, &At::begin(dir), tour, lister.window, is_old)?;
        }
        listers.push(dir, lister);
        Ok(next)
    }

    /// Whoever read the files of a directory in order, and comes to this one next, goes on here; one who only looks
    /// into it may be ahead of who reads, by one directory. Says whether there is one.
    fn go_on_to(
        &self,
        tree: &mut Tree,
        all: &mut Walkers,
        dir: Ino,
        only_looks: bool,
    ) -> Result<bool> {
        let passes = |walk: &Walk| walk.further > 0 && walk.passed < PASSED;
        let lately = |walk: &Walk| walk.at.is_some_and(|at| at.elapsed() < LATELY);
        let walks = || all.readers.iter().take_while(|(_, walk)| lately(walk));
        let readers = walks().filter(|(_, walk)| walk.is_of_a_reader()).take(READERS);
        let others = walks().filter(|(_, walk)| !walk.is_of_a_reader() && passes(walk));
        let found = readers.map(|(dir, walk)| (*dir, true, walk.looks));
        let others = others.take(READERS).map(|(dir, walk)| (*dir, false, walk.looks));
        let found: Vec<_> = found.chain(others).collect();
        let above = if found.is_empty() { Vec::new() } else { order::way_up(tree, dir)? };
        for (before, reads, looks) in found {
            if before == dir || only_looks && looks {
                continue;
            }
            let Some((begin, top)) = order::follows(tree, before, dir, &above)? else { continue };
            // Without reading anything he goes down at most.
            if !reads && top != before {
                continue;
            }
            let Some(walk) = all.readers.peek_mut(&before) else { continue };
            walk.looks |= only_looks;
            // Another one may be who still reads there.
            let stays = only_looks || walk.coming.iter().any(|coming| coming.parent == before);
            let mut walk = Walk { looks: false, ..walk.clone() };
            if !stays {
                all.readers.pop(&before);
            }
            let top = match &walk.tour {
                Some(tour) => order::higher(tree, tour.top, top)?,
                None => top,
            };
            let here = order::first_below(tree, walk.coming.iter(), dir)?;
            walk.go_on(begin, top, here);
            if only_looks {
                walk.window = walk.window.min(limits::WALK_FIRST / 2);
            }
            all.readers.push(dir, walk);
            return Ok(true);
        }
        Ok(false)
    }

    /// The next files of a walk, at most so many, and directories behind them that are to be listed. Whoever
    /// has read in a second directory is expected in the ones after it, too.
    fn next_files(
        &self,
        tree: &mut Tree,
        walk: &mut Walk,
        wanted: usize,
    ) -> Result<(Vec<Node>, Vec<Node>)> {
        // As at most opens.
        if wanted == 0 {
            return Ok(Default::default());
        }
        let tour = walk.tour;
        let is_listed = |dir| tree.get(dir).map(|node| node.is_none_or(|node| node.listed));
        if walk.waits_for.map_or(Ok(true), is_listed)? {
            walk.waits_for = None;
        }
        let begin = walk.last.clone().map(At::after);
        let at = walk.upto.clone().or(begin);
        let is_over = walk.waits_for.is_some() || walk.is_end && tour.is_none();
        let at = at.filter(|_| !is_over);
        let Some(mut at) = at else { return Ok(Default::default()) };
        let found = order::files_after(tree, &mut at, tour, wanted)?;
        // Whoever lists them on his way has a look for them (`next_dirs`); here is who does not.
        let dirs = match tour.filter(|_| found.unlisted.is_some()) {
            Some(tour) => {
                let is_old = |tree: &mut Tree, dir: &Node| self.is_old(tree, dir);
                order::unlisted_after(tree, &at, tour, limits::WALK_READ, is_old)?
            }
            None => Vec::new(),
        };
        walk.upto = Some(at);
        (walk.waits_for, walk.is_end) = (found.unlisted, found.is_end && tour.is_none());
        walk.coming.extend(found.files.iter().filter_map(|node| node.place.clone()));
        Ok((found.files, dirs))
    }

    /// Whether a directory would have to be asked for anew; not one that is known to be big.
    fn is_old(&self, tree: &mut Tree, dir: &Node) -> bool {
        let info = tree.dir_info(dir.ino);
        !info.big && info.verified.is_none_or(|at| self.is_long_ago(at))
    }

    fn is_long_ago(&self, at: Instant) -> bool {
        at.elapsed() > self.config.freshness / 2
    }

    /// Lists directories whose listing would have to be asked for anew, each once: some cannot be listed.
    fn list_ahead(&self, tree: &mut Tree, all: &mut Walkers, dirs: &[Node]) {
        for dir in dirs.iter().filter(|dir| dir.base.is_some()) {
            let asked = all.listed.peek(&dir.ino).is_some_and(|at| !self.is_long_ago(*at));
            if !asked && self.is_old(tree, dir) {
                all.listed.push(dir.ino, Instant::now());
                self.ask_ahead(dir.ino);
            }
        }
    }

    /// Fetches small files whole.
    fn fetch_ahead(&self, mut files: Vec<Node>) {
        files.retain(|node| (1..=limits::SMALL).contains(&node.size) && !node.is_dirty());
        if files.is_empty() {
            return;
        }
        let mut room = limits::READAHEAD.min(self.space.limit() / limits::WALK_PART);
        let vfs = self.arc();
        self.spawn("fetch ahead", async move {
            let done = vfs.on_disk(move |vfs| {
                let at_once = vfs.remote.limits().whole_files;
                let (mut together, mut bytes) = (Vec::new(), 0);
                for node in files {
                    let Some(left) = room.checked_sub(node.size) else { break };
                    room = left;
                    let Ok(Some(file)) = vfs.clean_file(node.ino) else { continue };
                    if at_once == 1 || node.size > limits::BLOCK {
                        vfs.fetch_whole_ahead(&file);
                        continue;
                    }
                    // On a slow line eight of the largest would take seconds.
                    if together.len() == at_once || bytes + node.size > limits::BLOCK {
                        vfs.fetch_together(std::mem::take(&mut together));
                        bytes = 0;
                    }
                    bytes += node.size;
                    together.push(file);
                }
                vfs.fetch_together(together);
            });
            if let Err(error) = done.await {
                tracing::debug!(%error, "files are not fetched ahead");
            }
        });
    }

    /// The content of a node that has nothing of ours.
    fn clean_file(&self, ino: Ino) -> Result<Option<Arc<File>>> {
        let mut tree = self.tree();
        let node = tree.get(ino)?.filter(|node| node.base.is_some() && !node.is_dirty());
        let node = node.filter(|node| node.place.is_some());
        node.map(|node| self.file_of(&mut tree, node)).transpose()
    }

    fn fetch_whole_ahead(&self, file: &Arc<File>) {
        let mut content = file.lock();
        let size = content.size.min(limits::SMALL);
        for part in content.present.missing(&(0..size)) {
            self.flights_for(file, &mut content, &part, Wanted::Ahead);
        }
        drop(content);
        self.unload_if_idle(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: usize) -> Place {
        Place::new(Ino(7), format!("{number:04}").as_bytes())
    }

    fn number(place: &Place) -> usize {
        std::str::from_utf8(&place.name).unwrap().parse().unwrap()
    }

    /// Comes to these numbers, of entries that are all cold until they are fetched ahead; returns
    /// up to where was fetched, and the most that was on its way.
    fn walk(numbers: impl Iterator<Item = usize>) -> (usize, usize) {
        let (mut walk, mut until, mut most) = (Walk::default(), 0, 0);
        for now in numbers {
            let stands = |last: &Place| {
                let last = number(last);
                Ok(match now.abs_diff(last) <= order::NEAR {
                    true if now > last => Stands::After,
                    true => Stands::Before,
                    false => Stands::Elsewhere,
                })
            };
            let is_cold = !walk.coming.contains(&place(now));
            let wanted = walk.step(&place(now), is_cold, stands).unwrap();
            if wanted == 0 {
                continue;
            }
            let after = number(walk.coming.back().unwrap_or(&place(now)));
            assert!(after >= until, "nothing is fetched twice");
            until = after + wanted;
            walk.coming.extend((after + 1..=until).map(place));
            most = most.max(walk.coming.len());
        }
        (until, most)
    }

    #[test]
    fn a_walk_in_order_is_followed_and_runs_ahead_to_its_bound() {
        let (until, most) = walk(0..1000);
        assert!(until >= 1000, "up to {until}");
        assert!(most <= limits::WALK_LAST && most > limits::WALK_LAST / 2, "{most} on their way");
    }

    #[test]
    fn two_in_order_prove_nothing_and_neither_does_disorder() {
        assert_eq!(walk(0..2).0, 0);
        assert_eq!(walk((0..1000).rev()).0, 0);
        assert_eq!(walk((0..1000).map(|step| step * 7919 % 1000)).0, 0);
    }

    #[test]
    fn entries_that_are_passed_over_end_no_walk() {
        assert!(walk((0..1000).filter(|number| number % 3 == 0)).0 >= 1000);
        // From the sixth to the thirteenth, past what was fetched.
        assert!(walk((0..6).chain(13..1000)).0 >= 1000);
        // Of two who go through it together one is a little late.
        let together = (0..1000).map(|step| if step % 2 == 0 { step + 3 } else { step });
        assert!(walk(together).0 >= 990);
    }
}
