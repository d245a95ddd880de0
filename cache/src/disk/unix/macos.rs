//! What only macOS has: holes by fcntl, a session number for each boot, file systems by name. It is
//! type-checked; nobody has run it.
#![allow(unsafe_code)]

use super::super::suitable::Filesystem;
use super::super::{Abilities, Held};
use super::write_at;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;

/// File systems to advise.
pub(in super::super) const GOOD: &str = "APFS";

/// A hole begins and ends where a block does.
const BLOCK: u64 = 4096;

/// What the disk below a directory can do; one that makes no holes is refused.
pub(in super::super) fn abilities(_dir: &Path) -> io::Result<Abilities> {
    Ok(Abilities { holes: true, syncs_at_once: false })
}

/// Makes a hole of the whole blocks of a range, and zeros of the rest; the length stays.
pub(in super::super) fn punch(file: &File, range: Range<u64>) -> io::Result<()> {
    let range = range.start..range.end.min(file.metadata()?.len());
    if range.is_empty() {
        return Ok(());
    }
    let first = range.start.next_multiple_of(BLOCK);
    let last = range.end / BLOCK * BLOCK;
    if first >= last {
        return zero(file, range);
    }
    zero(file, range.start..first)?;
    zero(file, last..range.end)?;
    let hole = libc::fpunchhole_t {
        fp_flags: 0,
        reserved: 0,
        fp_offset: first as libc::off_t,
        fp_length: (last - first) as libc::off_t,
    };
    // SAFETY: the descriptor is open, and the call reads one fpunchhole_t.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PUNCHHOLE, &raw const hole) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Less than two blocks of them.
fn zero(file: &File, range: Range<u64>) -> io::Result<()> {
    let zeros = [0; 2 * BLOCK as usize];
    write_at(file, &zeros[..(range.end - range.start) as usize], range.start)
}

/// Allocates blocks past the end; the length stays.
pub(in super::super) fn reserve(file: &File, range: Range<u64>) -> io::Result<()> {
    let have = super::allocated(file)?;
    if range.end <= have {
        return Ok(());
    }
    let mut store = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: (range.end - have) as libc::off_t,
        fst_bytesalloc: 0,
    };
    // SAFETY: the descriptor is open, and the call reads and writes one fstore_t.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw mut store) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// There is no such call here.
pub(in super::super) fn sync_filesystem(_dir: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The same until the machine starts again.
pub(in super::super) fn boot_id() -> Option<u64> {
    let mut text = [0_u8; 64];
    let mut len = text.len();
    // SAFETY: the name ends with a zero, and at most `len` bytes are written.
    let done = unsafe {
        libc::sysctlbyname(
            c"kern.bootsessionuuid".as_ptr(),
            text.as_mut_ptr().cast(),
            &raw mut len,
            std::ptr::null_mut(),
            0,
        )
    };
    let text = CStr::from_bytes_until_nul(&text).ok().filter(|_| done == 0)?;
    let digits: String = text.to_string_lossy().chars().filter(char::is_ascii_hexdigit).collect();
    let whole = u128::from_str_radix(&digits, 16).ok()?;
    Some((whole as u64) ^ ((whole >> 64) as u64))
}

/// The machine, by a name of its own.
pub(in super::super) fn machine() -> Option<String> {
    let mut id = [0_u8; 16];
    let patience = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    // SAFETY: the call writes 16 bytes and reads one timespec.
    let done = unsafe { libc::gethostuuid(id.as_mut_ptr(), &raw const patience) };
    (done == 0).then(|| id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a directory lies on.
pub(in super::super) fn filesystem(dir: &Path) -> io::Result<Filesystem> {
    let facts = rustix::fs::statfs(dir)?;
    let name: String = facts
        .f_fstypename
        .iter()
        .map(|byte| *byte as u8 as char)
        .take_while(|symbol| *symbol != '\0')
        .collect();
    Ok(match &*name {
        "nfs" => Filesystem::Far("nfs"),
        "smbfs" => Filesystem::Far("smbfs"),
        "afpfs" => Filesystem::Far("afpfs"),
        "webdav" => Filesystem::Far("webdav"),
        "macfuse" | "osxfuse" => Filesystem::Far("fuse"),
        "tmpfs" => Filesystem::Memory("tmpfs"),
        "msdos" | "exfat" => Filesystem::Weak(name),
        _ => Filesystem::Local(name),
    })
}

/// No kernel reads data files by itself here.
pub(in super::super) fn lend(_path: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// So nobody else has them.
pub(in super::super) fn held(_path: &Path) -> io::Result<Held> {
    Ok(Held::Nobody)
}
