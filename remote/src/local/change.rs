//! Changes of names and attributes: rename, remove, set attributes, new directories and symlinks.

use super::fail::{Fail, Outcome};
use super::node::{self, Node};
use super::resolve::Place;
use super::root::View;
use super::stat::{self, Facts};
use super::turn::Turn;
use super::{list, swap};
use crate::{Attrs, ErrorKind, Expect, Kind, Metadata, RemotePath, Version};
use rustix::fs::{AtFlags, Mode, RawMode, mkdirat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// Permission bits of a new directory that nobody named any for, less the umask.
const DIR_MODE_DEFAULT: u32 = 0o755;

/// What a rename is asked to do.
pub(super) struct Rename {
    pub(super) from: RemotePath,
    pub(super) version: Version,
    pub(super) to: RemotePath,
    pub(super) expect: Expect,
    /// Whether `A` and `a` are one name here.
    pub(super) folds_case: bool,
}

/// Moves an entry.
pub(super) fn rename(view: &View, wanted: &Rename) -> Outcome<Metadata> {
    let Rename { from, to, .. } = wanted;
    let source = view.place(from)?;
    find(view, &source, &wanted.version)?;
    let about_to = |fail: Fail| fail.about(to);
    let place = view.place(to).map_err(about_to)?;
    if from != to && to.is_within(from) {
        return Err(ErrorKind::Unsupported.into());
    }
    let turn = Turn::take(&[&source, &place]);
    let moved = find(view, &source, &wanted.version)?;
    let target = place.facts_if_any().map_err(|errno| about_to(errno.into()))?;
    // A file system that folds case finds the entry itself under its new name.
    let is_itself = wanted.folds_case
        && from != to
        && target.as_ref().is_some_and(|target| target.id == moved.id);
    if is_itself {
        renameat(&source.dir, source.name, &place.dir, place.name)?;
    } else {
        check_target(&place, &moved, target.as_ref(), view.dev, wanted.expect).map_err(about_to)?;
        if from != to {
            swap_names(view, &source, &place, &moved, wanted).map_err(about_to)?;
        }
    }
    drop(turn);
    swap::sync_dir(&place)?;
    swap::sync_dir(&source)?;
    stat::stat(view, to).map_err(about_to)
}

/// What has this name, if it is the object that `version` names.
fn find(view: &View, place: &Place<'_>, version: &Version) -> Outcome<Facts> {
    let facts = place.facts()?;
    match facts.version(view.dev).same_object(version) {
        true => Ok(facts),
        false => Err(ErrorKind::VersionChanged.into()),
    }
}

fn check_target(
    place: &Place<'_>,
    moved: &Facts,
    target: Option<&Facts>,
    root_dev: u64,
    expect: Expect,
) -> Outcome<()> {
    stat::check(target, root_dev, expect, ErrorKind::VersionChanged)?;
    let Some(target) = target.filter(|target| target.id != moved.id) else {
        return Ok(());
    };
    match (moved.kind == Kind::Dir, target.kind == Kind::Dir) {
        (false, true) => Err(ErrorKind::IsADirectory.into()),
        (true, false) => Err(ErrorKind::NotADirectory.into()),
        (true, true) if !list::is_empty(place.dir.as_fd(), place.name)? => {
            Err(ErrorKind::NotEmpty.into())
        }
        (true, true) | (false, false) => Ok(()),
    }
}

fn swap_names(
    view: &View,
    source: &Place<'_>,
    place: &Place<'_>,
    moved: &Facts,
    wanted: &Rename,
) -> Outcome<()> {
    let arrived = |place: &Place<'_>| -> Outcome<bool> {
        Ok(place.facts_if_any()?.is_some_and(|facts| facts.id == moved.id))
    };
    match wanted.expect {
        Expect::Any => {
            renameat(&source.dir, source.name, &place.dir, place.name).map_err(swap::not_empty)?;
        }
        Expect::Absent => {
            swap::rename_absent(source, place)?;
            if !arrived(place)? {
                // Something else had just taken the old name.
                swap::put_back(place, source)?;
                return Err(Fail::from(ErrorKind::VersionChanged).about(&wanted.from));
            }
        }
        Expect::Version(_) => {
            match swap::exchange(source, place) {
                Ok(()) => {}
                Err(errno) if swap::is_refused(errno) => {
                    renameat(&source.dir, source.name, &place.dir, place.name)
                        .map_err(swap::not_empty)?;
                    return Ok(());
                }
                Err(Errno::NOENT) => return Err(ErrorKind::VersionChanged.into()),
                Err(errno) => return Err(errno.into()),
            }
            let removed = match arrived(place)? {
                // The old one has the old name now.
                true => swap::remove_in(None, source, view.dev, wanted.expect),
                false => Err(Fail::from(ErrorKind::VersionChanged).about(&wanted.from)),
            };
            match removed {
                Ok(()) => {}
                // Somebody took it away themselves.
                Err(fail) if fail.kind == ErrorKind::NotFound => {}
                Err(fail) => return Err(exchange_back(source, place, fail)),
            }
        }
    }
    Ok(())
}

/// Undoes an exchange of two names. Both objects have a name all the time, whatever others do.
fn exchange_back(source: &Place<'_>, place: &Place<'_>, fail: Fail) -> Fail {
    match swap::exchange(source, place) {
        Ok(()) => fail,
        Err(errno) => {
            let text = format!("the two names stay exchanged: {errno}");
            Fail::saying(ErrorKind::Io, text)
        }
    }
}

/// Removes a file, symlink or empty directory.
pub(super) fn remove(view: &View, path: &RemotePath, expect: Expect) -> Outcome<()> {
    swap::remove(&view.place(path)?, view.dev, expect)
}

/// Sets attributes of the object that `version` names.
pub(super) fn set_attrs(
    view: &View,
    path: &RemotePath,
    version: &Version,
    attrs: &Attrs,
) -> Outcome<Metadata> {
    let check = |facts: &Facts| match facts.version(view.dev).same_object(version) {
        true => Ok(()),
        false => Err(Fail::from(ErrorKind::VersionChanged)),
    };
    let node = match path.is_root() {
        true => Node::open_root(view)?,
        false => {
            let place = view.place(path)?;
            let facts = place.facts()?;
            check(&facts)?;
            if facts.kind == Kind::Symlink {
                node::set_symlink_attrs(&place, attrs)?;
                return Ok(stat::entry(place.dir.as_fd(), place.name, view.dev)?);
            }
            Node::open(&place)?
        }
    };
    check(&stat::of_fd(node.fd())?)?;
    node.set_attrs(attrs)?;
    stat::full(view, &node)
}

/// Makes a directory; with the very mode that `attrs` names, whatever the umask.
pub(super) fn create_dir(view: &View, path: &RemotePath, attrs: &Attrs) -> Outcome<Metadata> {
    let place = new_place(view, path)?;
    // Nobody gets in before its own bits are set.
    let mode = if attrs.mode.is_some() { 0o700 } else { DIR_MODE_DEFAULT };
    mkdirat(&place.dir, place.name, Mode::from_raw_mode(mode as RawMode))?;
    let made = Node::open(&place).and_then(|node| {
        node.set_attrs(attrs)?;
        swap::sync_dir(&place)?;
        stat::full(view, &node)
    });
    made.inspect_err(|_| {
        let _ = unlinkat(&place.dir, place.name, AtFlags::REMOVEDIR);
    })
}

/// Makes a symlink.
pub(super) fn symlink(
    view: &View,
    path: &RemotePath,
    target: &[u8],
    attrs: &Attrs,
) -> Outcome<Metadata> {
    let place = new_place(view, path)?;
    if target.is_empty() {
        return Err(ErrorKind::NameInvalid.into());
    }
    symlinkat(target, &place.dir, place.name)?;
    let made = node::set_symlink_attrs(&place, attrs).and_then(|()| {
        swap::sync_dir(&place)?;
        Ok(stat::entry(place.dir.as_fd(), place.name, view.dev)?)
    });
    made.inspect_err(|_| {
        let _ = unlinkat(&place.dir, place.name, AtFlags::empty());
    })
}

/// Where something new goes; the root is there already.
fn new_place<'a>(view: &View, path: &'a RemotePath) -> Outcome<Place<'a>> {
    if path.is_root() { Err(ErrorKind::Exists.into()) } else { view.place(path) }
}
