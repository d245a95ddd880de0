//! What a directory holds, fetched before it is asked for: whoever opens its files in order, or lists
//! its directories in order, finds the next ones here. `readahead` does the same within a file.
//!
//! Only a proven order is followed, and only what is small: on a long line these cost a round trip
//! each, not bytes. Nothing waits for what is guessed; what is not here in time, or failed, its user
//! asks for himself. A guess is never the reason to keep bytes (`Heat::guessed`), and all that is on
//! its way is a small part of the cache, so that it drives out nothing that was used twice.

use crate::attr::Ino;
use crate::error::Result;
use crate::fetch::Wanted;
use crate::limits;
use crate::node::{Node, Place};
use crate::tree::Tree;
use crate::vfs::Vfs;
use covefs_remote::Kind;
use lru::LruCache;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

/// Entries in order that prove a walk.
const PROVEN: u32 = 3;
/// An entry follows another one that stands so few before it: some are passed over.
const NEAR: usize = 8;

/// Who walks through which directory; files and directories of one are walked apart.
pub(crate) struct Ahead(Mutex<Walks>);

type Walks = LruCache<(Ino, bool), Walk>;

impl Default for Ahead {
    fn default() -> Self {
        let many = NonZeroUsize::new(limits::WALKS).expect("limits are not zero");
        Ahead(Mutex::new(LruCache::new(many)))
    }
}

/// How the entries of a directory are come to.
#[derive(Default)]
struct Walk {
    last: Vec<u8>,
    /// Entries in a row that followed the one before.
    run: u32,
    window: usize,
    /// What was fetched ahead and nobody came to yet, in order.
    coming: VecDeque<Vec<u8>>,
    /// Of directories: the files of the last one are read in order.
    reads_files: bool,
}

impl Walk {
    /// Somebody came to this name. Returns after which one to fetch ahead now, and how many.
    /// `follows` says whether the name stands close after another one.
    fn step(
        &mut self,
        name: &[u8],
        is_cold: bool,
        follows: impl FnOnce(&[u8]) -> Result<bool>,
    ) -> Result<Option<(Vec<u8>, usize)>> {
        if let Some(at) = self.coming.iter().position(|coming| coming == name) {
            self.coming.drain(..=at);
        } else if !is_cold || name == self.last {
            return Ok(None);
        } else if self.last.is_empty() || !follows(&self.last)? {
            *self = Walk { last: name.to_vec(), run: 1, ..Walk::default() };
            return Ok(None);
        }
        self.run += 1;
        self.last = name.to_vec();
        if self.run < PROVEN || self.coming.len() > self.window / 2 {
            return Ok(None);
        }
        self.window = (self.window * 2).clamp(limits::WALK_FIRST, limits::WALK_LAST);
        let after = self.coming.back().unwrap_or(&self.last).clone();
        Ok(Some((after, self.window - self.coming.len())))
    }

    /// Nobody has come to any yet, but these are fetched: who comes to one of them comes in order.
    fn expecting(coming: VecDeque<Vec<u8>>) -> Walk {
        Walk { run: PROVEN - 1, window: limits::WALK_FIRST, coming, ..Walk::default() }
    }

    /// Whether the walk came to another directory just now, by one whose files were read in order. Said
    /// once: the files of this one have to be read too.
    fn goes_on(&mut self, name: &[u8], was_there: bool) -> bool {
        self.last == name && !was_there && std::mem::take(&mut self.reads_files)
    }
}

impl Vfs {
    /// Somebody uses the entry at `place`, which is cold if he has to wait for the share: the next
    /// ones are fetched if he comes to them in order.
    pub(crate) fn walked(
        &self,
        tree: &mut Tree,
        place: &Place,
        kind: Kind,
        is_cold: bool,
    ) -> Result<()> {
        // Uploads that make room go first (E1).
        if !self.reach.is_online() || self.sync.is_hurried() {
            return Ok(());
        }
        let mut walks = self.ahead.0.lock().unwrap_or_else(PoisonError::into_inner);
        let walk = walks.get_or_insert_mut((place.parent, kind == Kind::Dir), Walk::default);
        let follows = |last: &[u8]| {
            let next = tree.children(place.parent, Some(last), NEAR)?;
            Ok(next.iter().any(|node| node.place.as_ref() == Some(place)))
        };
        let was_there = walk.last == place.name;
        let ahead = walk.step(&place.name, is_cold, follows)?;
        let goes_on = walk.goes_on(&place.name, was_there);
        if kind == Kind::File && walk.run == PROVEN {
            let above = tree.get(place.parent)?.and_then(|dir| dir.place);
            let above = above.and_then(|above| walks.get_mut(&(above.parent, true)));
            above.into_iter().for_each(|above| above.reads_files = true);
        }
        if goes_on && !is_cold {
            self.begin_ahead(tree, &mut walks, place)?;
        }
        let Some(walk) = walks.get_mut(&(place.parent, kind == Kind::Dir)) else { return Ok(()) };
        let Some((after, count)) = ahead else { return Ok(()) };
        let mut next = tree.children(place.parent, Some(&after), count)?;
        next.retain(|node| node.kind == kind);
        walk.coming.extend(next.iter().filter_map(|node| Some(node.place.as_ref()?.name.clone())));
        drop(walks);
        match kind {
            Kind::Dir => self.list_ahead(tree, &next),
            _ => self.fetch_ahead(next),
        }
        Ok(())
    }

    /// The first files of the directory at `place`, whose user has read those of the one before.
    fn begin_ahead(&self, tree: &mut Tree, walks: &mut Walks, place: &Place) -> Result<()> {
        let Some(dir) = tree.child(place.parent, &place.name)? else { return Ok(()) };
        let mut first = tree.children(dir.ino, None, limits::WALK_FIRST)?;
        first.retain(|node| node.kind == Kind::File);
        let coming = first.iter().filter_map(|node| Some(node.place.as_ref()?.name.clone()));
        let walk = walks.get_or_insert_mut((dir.ino, false), Walk::default);
        if walk.last.is_empty() && walk.coming.is_empty() {
            *walk = Walk::expecting(coming.collect());
            self.fetch_ahead(first);
        }
        Ok(())
    }

    /// Lists directories whose listing would have to be asked for anew, but for those that are
    /// known to be big.
    fn list_ahead(&self, tree: &mut Tree, dirs: &[Node]) {
        for dir in dirs.iter().filter(|dir| dir.base.is_some()) {
            let info = tree.dir_info(dir.ino);
            let is_old = |at: tokio::time::Instant| at.elapsed() > self.config.freshness / 2;
            if !info.big && info.verified.is_none_or(is_old) {
                self.ask_ahead(dir.ino);
            }
        }
    }

    /// Fetches small files whole.
    fn fetch_ahead(&self, mut files: Vec<Node>) {
        files.retain(|node| (1..=limits::SMALL).contains(&node.size) && !node.is_dirty());
        let mut room = limits::READAHEAD.min(self.space.limit() / limits::WALK_PART);
        let vfs = self.arc();
        self.spawn("fetch ahead", async move {
            let done = vfs.on_disk(move |vfs| {
                for node in files {
                    let Some(left) = room.checked_sub(node.size) else { break };
                    room = left;
                    vfs.fetch_whole_ahead(node.ino)?;
                }
                Ok(())
            });
            if let Ok(Err(error)) | Err(error) = done.await {
                tracing::debug!(%error, "files are not fetched ahead");
            }
        });
    }

    fn fetch_whole_ahead(&self, ino: Ino) -> Result<()> {
        let file = {
            let mut tree = self.tree();
            let node = tree.get(ino)?.filter(|node| node.base.is_some() && !node.is_dirty());
            let Some(node) = node.filter(|node| node.place.is_some()) else { return Ok(()) };
            self.file_of(&mut tree, node)?
        };
        let mut content = file.lock();
        let size = content.size.min(limits::SMALL);
        for part in content.present.missing(&(0..size)) {
            self.flights_for(&file, &mut content, &part, Wanted::Ahead);
        }
        drop(content);
        self.unload_if_idle(&file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Vec<u8> {
        format!("{number:04}").into_bytes()
    }

    /// Comes to these numbers, of entries that are all cold until they are fetched ahead; returns
    /// up to where was fetched, and the most that was on its way.
    fn walk(numbers: impl Iterator<Item = usize>) -> (usize, usize) {
        let (mut walk, mut until, mut most) = (Walk::default(), 0, 0);
        for number in numbers {
            let is_near = |last: &[u8]| {
                let last: usize = std::str::from_utf8(last).unwrap().parse().unwrap();
                Ok((1..=NEAR).contains(&number.wrapping_sub(last)))
            };
            let is_cold = !walk.coming.contains(&name(number));
            let ahead = walk.step(&name(number), is_cold, is_near).unwrap();
            let Some((after, count)) = ahead else { continue };
            let after: usize = String::from_utf8(after).unwrap().parse().unwrap();
            assert!(after >= until, "nothing is fetched twice");
            until = after + count;
            walk.coming.extend((after + 1..=until).map(name));
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
    }
}
