//! What the file system below the root can do, tried out; and how full it is.

use super::fail::{Outcome, is_unsupported};
use super::list::PAGE_ENTRIES;
use super::read::CHUNK_BYTES;
use super::resolve::Place;
use super::root::View;
use super::swap;
use crate::prng::Prng;
use crate::{Limits, NameRule, Usage, XattrRule};
use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat, unlinkat};

/// The limits of the share. Where nothing can be made, a file system is taken to fold no case but
/// on a Mac, and to have no exchange; a change finds out for itself.
pub(super) fn limits(view: &View) -> Outcome<Limits> {
    let found = fstatvfs(&view.root)?;
    let (exchange, case_sensitive) =
        try_out(view).unwrap_or((false, cfg!(not(target_os = "macos"))));
    Ok(Limits {
        part_bytes: CHUNK_BYTES,
        page_entries: PAGE_ENTRIES,
        names: NameRule::Bytes,
        name_bytes_max: usize::try_from(found.f_namemax).unwrap_or(255),
        path_max: None,
        case_sensitive,
        has_modes: true,
        has_symlinks: true,
        xattrs: if has_xattrs(view) { XattrRule::Any } else { XattrRule::None },
        exchange,
        quick_stat: true,
        whole_files: 1,
        read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// Exchanges two files, and looks for one of them in capitals; `None` where we may not make any.
fn try_out(view: &View) -> Option<(bool, bool)> {
    let random = Prng::unseeded().next();
    let names = ["a", "b"].map(|end| format!(".~covefs-probe-{random:016x}-{end}"));
    let place = |name| Some(Place { dir: view.root.try_clone().ok()?, name });
    let (one, other) = (place(names[0].as_bytes())?, place(names[1].as_bytes())?);
    let capitals = names[0].to_uppercase();
    let found = create(&one).and_then(|()| create(&other)).map(|()| {
        let has_capitals = place(capitals.as_bytes()).is_some_and(|place| place.facts().is_ok());
        (swap::exchange(&one, &other).is_ok(), !has_capitals)
    });
    for place in [&one, &other] {
        let _ = unlinkat(&place.dir, place.name, AtFlags::empty());
    }
    found.ok()
}

fn create(place: &Place<'_>) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(&place.dir, place.name, flags, Mode::RUSR | Mode::WUSR).map(drop)
}

fn has_xattrs(view: &View) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = openat(&view.root, c".", flags, Mode::empty())
        .and_then(|root| rustix::fs::flistxattr(root, &mut [0_u8; 0]));
    !matches!(listed, Err(errno) if is_unsupported(errno))
}

/// Size and free space.
pub(super) fn usage(view: &View) -> Outcome<Usage> {
    let found = fstatvfs(&view.root)?;
    Ok(Usage {
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_files: found.f_files,
        free_files: found.f_favail,
    })
}
