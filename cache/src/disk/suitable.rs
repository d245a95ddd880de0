//! Which directories can hold a cache (U1).

use super::real::{RealFile, show};
use super::{DiskFile, system};
use crate::error::{Error, ErrorKind, Result};
use crate::ranges::RangeSet;
use std::fs;
use std::io;
use std::path::Path;

/// Refuses a directory that cannot hold a cache (U1): what cleaners or a reboot empty, what lies
/// on a network or on another FUSE file system, and what cannot punch holes.
pub fn suitable(dir: &Path) -> Result<()> {
    let refuse = |reason: String| {
        Err(Error {
            source: Some(reason.into()),
            ..Error::new(ErrorKind::Unsupported, "use the cache directory").at(show(dir))
        })
    };
    let failed = |e| Error::disk("look at the cache directory", e).at(show(dir));
    let name = system::filesystem(dir).map_err(failed)?;
    let good = system::GOOD;
    let advice = format!("choose a directory on a local disk ({good}) with --cache-dir");
    match name {
        Filesystem::Memory(name) => {
            refuse(format!("it is on {name}, which a reboot empties; {advice}"))
        }
        Filesystem::Far(name) => {
            refuse(format!("it is on {name}, which is no local disk; {advice}"))
        }
        Filesystem::Weak(name) => {
            refuse(format!("it is on {name}, where a power cut may take names back; {advice}"))
        }
        Filesystem::Local(_) if system::GOES_WITHOUT_HOLES => Ok(()),
        Filesystem::Local(name) => match probe(dir) {
            Ok(true) => Ok(()),
            Ok(false) => refuse(format!("it is on {name}, which cannot punch holes; {advice}")),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                refuse(format!("it is on {name}, which cannot punch holes; {advice}"))
            }
            Err(error) => Err(failed(error)),
        },
    }
}

/// What a directory lies on, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(dead_code)] // Not every system has each of them.
pub(super) enum Filesystem {
    Memory(&'static str),
    Far(&'static str),
    /// Keeps no log of names.
    Weak(String),
    Local(String),
}

/// Whether a punched file shows the hole and gives its blocks back.
fn probe(dir: &Path) -> io::Result<bool> {
    const SIZE: u64 = 4 << 20;
    let path = dir.join(format!("probe-{}.tmp", std::process::id()));
    let file = system::options().create(true).truncate(true).open(&path)?;
    let tried = (|| {
        let file = RealFile { file, holes: true };
        file.write_at(&vec![1; SIZE as usize], 0)?;
        file.reserve(SIZE..2 * SIZE)?;
        // Some file systems allocate when they write back, and count only then.
        file.sync_data()?;
        let full = file.allocated()?;
        file.punch(0..SIZE / 2)?;
        file.sync_data()?;
        let holes = file.data_ranges(0..SIZE)? == RangeSet::from(SIZE / 2..SIZE);
        Ok(holes && file.allocated()? < full)
    })();
    fs::remove_file(&path)?;
    tried
}
