//! The order in which a tree is gone through, as its names say it: down into directories and up again.

use crate::attr::Ino;
use crate::error::Result;
use crate::node::{Node, Place};
use crate::tree::Tree;
use covefs_remote::Kind;

/// An entry follows another one that stands so few before it: some are passed over.
pub(super) const NEAR: usize = 8;
/// Levels between two directories of which one follows the other.
const LEVELS: usize = 16;
/// Entries looked at in one step.
const PAGE: usize = 64;
/// Steps of one look for files, and for directories that are to be listed.
const STEPS: usize = 64;
const STEPS_OF_DIRS: usize = 16;

/// How somebody goes through a tree, and how far up he has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tour {
    /// The directory that all of it is below.
    pub top: Ino,
    /// A directory's files come before what is in its directories; else both go by name.
    pub files_first: bool,
}

/// Up to where the entries of a tree were looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct At {
    pub place: Place,
    /// The files of its directory are behind it: its directories are looked at.
    pub dirs: bool,
}

impl At {
    /// Before all of a directory.
    pub(super) fn begin(dir: Ino) -> At {
        At::after(Place::new(dir, b""))
    }

    pub(super) fn after(place: Place) -> At {
        At { place, dirs: false }
    }
}

/// What a look forward has found.
#[derive(Default)]
pub(super) struct Found {
    pub files: Vec<Node>,
    /// A directory whose names are not known: nothing behind it was looked at.
    pub unlisted: Option<Ino>,
    /// There is no more.
    pub is_end: bool,
}

/// The way up from a directory: its place, that of the directory which it lies in, and so on.
pub(super) fn way_up(tree: &mut Tree, dir: Ino) -> Result<Vec<Place>> {
    let mut above: Vec<Place> = Vec::new();
    let mut at = dir;
    while above.len() < LEVELS
        && let Some(place) = tree.get(at)?.and_then(|node| node.place).filter(|_| at != Ino::ROOT)
    {
        at = place.parent;
        above.push(place);
    }
    Ok(above)
}

/// Whether somebody who has read in `before` comes to `dir`, which has this way up, next: down into it, up to it,
/// or to one that stands close after it or after one that it lies in. Says after which name of `dir` he
/// begins, and below what both are.
pub(super) fn follows(
    tree: &mut Tree,
    before: Ino,
    dir: Ino,
    above: &[Place],
) -> Result<Option<(At, Ino)>> {
    if above.iter().any(|place| place.parent == before) {
        return Ok(Some((At::begin(dir), before)));
    }
    let mut from = before;
    for _ in 0..LEVELS {
        let place = tree.get(from)?.and_then(|node| node.place).filter(|_| from != Ino::ROOT);
        let Some(place) = place else { break };
        if place.parent == dir {
            return Ok(Some((At::after(place), dir)));
        }
        if let Some(branch) = above.iter().find(|branch| branch.parent == place.parent) {
            let is_near = stands(tree, &place, branch, Kind::Dir)? == Stands::After;
            return Ok(is_near.then(|| (At::begin(dir), place.parent)));
        }
        from = place.parent;
    }
    Ok(None)
}

/// Where an entry stands beside another one of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stands {
    /// Close after it.
    After,
    /// Close before it.
    Before,
    Elsewhere,
}

pub(super) fn stands(tree: &mut Tree, last: &Place, place: &Place, kind: Kind) -> Result<Stands> {
    let (first, second, found) = match place.name > last.name {
        true => (last, place, Stands::After),
        false => (place, last, Stands::Before),
    };
    let mut next = tree.children(first.parent, Some(&first.name), PAGE)?;
    next.retain(|node| node.kind == kind);
    let is_near = next.iter().take(NEAR).any(|node| node.place.as_ref() == Some(second));
    Ok(if is_near { found } else { Stands::Elsewhere })
}

/// Of two directories of which one lies below the other, not too deep, the one above.
pub(super) fn higher(tree: &mut Tree, one: Ino, other: Ino) -> Result<Ino> {
    let mut at = one;
    for _ in 0..LEVELS {
        if at == other {
            return Ok(other);
        }
        let Some(place) = tree.get(at)?.and_then(|node| node.place) else { break };
        at = place.parent;
    }
    Ok(one)
}

/// The first of these that lies in a directory, or below it.
pub(super) fn first_below<'a>(
    tree: &mut Tree,
    places: impl Iterator<Item = &'a Place>,
    dir: Ino,
) -> Result<Option<usize>> {
    let mut last = None;
    for (at, place) in places.enumerate() {
        if last == Some(place.parent) {
            continue;
        }
        if place.parent == dir || higher(tree, place.parent, dir)? == dir {
            return Ok(Some(at));
        }
        last = Some(place.parent);
    }
    Ok(None)
}

/// The next files after `at`, at most so many; on a tour those of other directories too. Moves `at` on.
pub(super) fn files_after(
    tree: &mut Tree,
    at: &mut At,
    tour: Option<Tour>,
    wanted: usize,
) -> Result<Found> {
    let mut found = Found::default();
    for _ in 0..STEPS {
        let left = wanted - found.files.len();
        if left == 0 {
            break;
        }
        let limit = if tour.is_some() { left.max(NEAR) } else { left };
        let page = tree.children(at.place.parent, Some(&at.place.name), limit)?;
        let is_last = page.len() < limit;
        let mut down = None;
        for node in page {
            if found.files.len() == wanted {
                break;
            }
            let Some(place) = node.place.clone() else { continue };
            let enters = tour.is_some_and(|tour| at.dirs || !tour.files_first);
            match node.kind {
                Kind::Dir if enters && !node.listed => {
                    found.unlisted = Some(node.ino);
                    return Ok(found);
                }
                Kind::Dir if enters => down = Some(node.ino),
                Kind::File if !at.dirs => found.files.push(node),
                _ => {}
            }
            at.place = place;
            if down.is_some() {
                break;
            }
        }
        if let Some(dir) = down {
            *at = At::begin(dir);
        } else if is_last && found.files.len() < wanted {
            let Some(tour) = tour else {
                found.is_end = true;
                break;
            };
            if !go_up(tree, at, tour)? {
                found.is_end = true;
                break;
            }
        }
    }
    Ok(found)
}

/// At the end of a directory's files or of all of it: to its directories, or behind it; `false`: that was all.
fn go_up(tree: &mut Tree, at: &mut At, tour: Tour) -> Result<bool> {
    let dir = at.place.parent;
    if tour.files_first && !at.dirs {
        *at = At { place: Place::new(dir, b""), dirs: true };
        return Ok(true);
    }
    let is_top = dir == tour.top || dir == Ino::ROOT;
    let place = tree.get(dir)?.and_then(|node| node.place).filter(|_| !is_top);
    let Some(place) = place else { return Ok(false) };
    *at = At { place, dirs: tour.files_first };
    Ok(true)
}

/// Directories on the way from `at` on that are to be listed, so that they are when somebody comes there.
/// `is_old` says of one that is listed whether that is too long ago.
pub(super) fn unlisted_after(
    tree: &mut Tree,
    at: &At,
    tour: Tour,
    wanted: usize,
    is_old: impl Fn(&mut Tree, &Node) -> bool,
) -> Result<Vec<Node>> {
    let (mut at, mut found) = (at.clone(), Vec::new());
    if tour.files_first && !at.dirs {
        at = At::begin(at.place.parent);
    }
    at.dirs = true;
    let mut uncounted = 0;
    for _ in 0..STEPS_OF_DIRS {
        if found.len() >= wanted {
            break;
        }
        let page = tree.children(at.place.parent, Some(&at.place.name), PAGE)?;
        let is_last = page.len() < PAGE;
        let mut down = None;
        for node in page {
            let Some(place) = node.place.clone() else { continue };
            at.place = place;
            if node.kind != Kind::Dir {
                continue;
            }
            // In most there are only files: where nobody counted, the first names tell.
            let has_dirs = match tree.known_subdirs(node.ino).filter(|_| node.listed) {
                Some(count) => count > 0,
                None if node.listed && uncounted < STEPS_OF_DIRS => {
                    uncounted += 1;
                    let names = tree.lines(node.ino, None, PAGE)?;
                    names.iter().any(|line| line.kind == Kind::Dir)
                }
                None => false,
            };
            down = has_dirs.then_some(node.ino);
            if !node.listed || is_old(tree, &node) {
                found.push(node);
            }
            if down.is_some() || found.len() >= wanted {
                break;
            }
        }
        match down {
            Some(dir) => at = At { dirs: true, ..At::begin(dir) },
            None if found.len() >= wanted => break,
            None if is_last && !go_up(tree, &mut at, tour)? => break,
            None => {}
        }
        at.dirs = true;
    }
    Ok(found)
}
