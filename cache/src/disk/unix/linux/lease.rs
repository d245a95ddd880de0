//! Who else has a file: asked of the kernel by trying to lease it (fcntl(2), F_SETLEASE).
//!
//! A write lease is granted where nobody else has the file open in any way, a read lease where nobody
//! has it open for writing. Mappings count as the open file that they were made of.
#![allow(unsafe_code)]

use super::super::super::Held;
use libc::c_int;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Which signal tells of an opening (fcntl(2)); the crate has no name for it.
const F_SETSIG: c_int = 10;

/// The file, to be read by others; `None` on file systems without leases.
pub(in super::super::super) fn lend(path: &Path) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    // Refused, because we have it open, or granted: either way it can be asked later.
    Ok(lease(&file, libc::F_WRLCK)?.map(|_| file))
}

/// Who has it besides us, who must not.
pub(in super::super::super) fn held(path: &Path) -> io::Result<Held> {
    let file = File::open(path)?;
    Ok(match lease(&file, libc::F_WRLCK)? {
        // Without leases nothing was ever lent.
        None | Some(true) => Held::Nobody,
        Some(false) if lease(&file, libc::F_RDLCK)? == Some(true) => Held::Readers,
        Some(false) => Held::Writers,
    })
}

/// Takes a lease and gives it back; says whether it was to be had, `None` where there are none.
fn lease(file: &File, kind: c_int) -> io::Result<Option<bool>> {
    // Who opens the file in between is told of by a signal; SIGIO, the default, would end us.
    set(file, F_SETSIG, libc::SIGURG)?;
    match set(file, libc::F_SETLEASE, kind) {
        Ok(()) => set(file, libc::F_SETLEASE, libc::F_UNLCK).map(|()| Some(true)),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN) => Ok(Some(false)),
            // Not on this file system, or not for this process.
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS | libc::EACCES | libc::EPERM) => {
                Ok(None)
            }
            _ => Err(error),
        },
    }
}

fn set(file: &File, what: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, and these commands take a number.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), what, value) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    // rule P2
    #[test]
    fn readers_and_writers_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "bytes").unwrap();
        assert_eq!(held(&path).unwrap(), Held::Nobody);
        let lent = lend(&path).unwrap().expect("a file system with leases");
        assert_eq!(held(&path).unwrap(), Held::Readers);
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(held(&path).unwrap(), Held::Writers);
        drop(lent);
        assert_eq!(held(&path).unwrap(), Held::Writers);
        drop(writer);
        assert_eq!(held(&path).unwrap(), Held::Nobody);
    }

    /// A directory is no file to lease, as are all on file systems without leases.
    #[test]
    fn where_there_are_no_leases_nothing_is_lent_and_nobody_has_anything() {
        let dir = tempfile::tempdir().unwrap();
        assert!(lend(dir.path()).unwrap().is_none());
        assert_eq!(held(dir.path()).unwrap(), Held::Nobody);
    }
}
