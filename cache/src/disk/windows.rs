//! What Windows has beyond `std::fs`: sparse files, their holes, locks of one byte, what a volume is.
//!
//! Paths are those of a canonical directory (`\\?\C:\...`), so that no name is too long. Under Wine
//! neither holes nor allocated ranges exist: `abilities` finds that out by trying.
#![allow(unsafe_code)]

use super::suitable::Filesystem;
use super::{Abilities, DiskSpace, Held};
use crate::ranges::RangeSet;
use std::ffi::c_void;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::ptr::{null, null_mut};
use windows_sys::Wdk::System::SystemInformation::{
    NtQuerySystemInformation, SystemTimeOfDayInformation,
};
use windows_sys::Win32::Foundation::*;
use windows_sys::Win32::Storage::FileSystem::*;
use windows_sys::Win32::System::IO::{DeviceIoControl, OVERLAPPED};
use windows_sys::Win32::System::Ioctl::*;
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RegGetValueW};

/// File systems to advise.
pub(super) const GOOD: &str = "NTFS, ReFS";

/// Where there are no holes, whole files go instead.
pub(super) const GOES_WITHOUT_HOLES: bool = true;

/// The lock is a byte that no file has: bytes that are locked cannot be read by others.
const LOCKED_BYTE: u64 = 1 << 62;

/// Ranges that one call may tell of.
const RANGES: usize = 64;

/// To read and write; the directory's access list is the files' too.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

/// A file of somebody else's, to make it durable: that takes the right to write.
pub(super) fn open_to_sync(path: &Path) -> io::Result<File> {
    options().open(path)
}

/// A new directory. Below a user's profile it is that user's.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().create(dir)
}

/// Reads what one call reads, at the offset that the call carries: that the handle's own moves
/// is of no consequence, nobody reads by it.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(buffer, offset)
}

/// Writes all, at the offsets that the calls carry.
pub(super) fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    // A write past the end of a file that is not sparse fills the gap.
    if offset > file.metadata()?.len() {
        make_sparse(file)?;
    }
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Cuts or extends; what is added is a hole.
pub(super) fn set_len(file: &File, len: u64) -> io::Result<()> {
    if len > file.metadata()?.len() {
        make_sparse(file)?;
    }
    file.set_len(len)
}

/// Makes a hole; the length stays.
pub(super) fn punch(file: &File, range: Range<u64>) -> io::Result<()> {
    let end = range.end.min(file.metadata()?.len());
    if range.start >= end {
        return Ok(());
    }
    make_sparse(file)?;
    let range =
        FILE_ZERO_DATA_INFORMATION { FileOffset: range.start as i64, BeyondFinalZero: end as i64 };
    control(file, FSCTL_SET_ZERO_DATA, Some(&range), &mut []).map(drop)
}

/// From now on holes of the file take no room.
fn make_sparse(file: &File) -> io::Result<()> {
    let sparse = FILE_SET_SPARSE_BUFFER { SetSparse: true };
    control(file, FSCTL_SET_SPARSE, Some(&sparse), &mut []).map(drop)
}

/// One call of the file system's own; says how many answers it wrote.
fn control<Q>(
    file: &File,
    code: u32,
    question: Option<&Q>,
    answers: &mut [FILE_ALLOCATED_RANGE_BUFFER],
) -> io::Result<usize> {
    let mut written = 0;
    let question_len = question.map_or(0, |_| size_of::<Q>() as u32);
    // SAFETY: the handle is open; both buffers are as long as is said, and live over the call, which
    // is synchronous.
    let done = unsafe {
        DeviceIoControl(
            file.as_raw_handle(),
            code,
            question.map_or(null(), |question| (&raw const *question).cast::<c_void>()),
            question_len,
            answers.as_mut_ptr().cast(),
            size_of_val(answers) as u32,
            &raw mut written,
            null_mut(),
        )
    };
    let count = written as usize / size_of::<FILE_ALLOCATED_RANGE_BUFFER>();
    if done != 0 {
        return Ok(count);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error().map(|code| code as u32) {
        Some(ERROR_MORE_DATA) => Ok(count),
        Some(ERROR_NOT_SUPPORTED | ERROR_INVALID_FUNCTION) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        _ => Err(error),
    }
}

/// The parts of a range that are not holes.
pub(super) fn data_ranges(file: &File, within: Range<u64>) -> io::Result<RangeSet> {
    let within = within.start..within.end.min(file.metadata()?.len());
    let mut found = RangeSet::new();
    let mut at = within.start;
    while at < within.end {
        let ask =
            FILE_ALLOCATED_RANGE_BUFFER { FileOffset: at as i64, Length: (within.end - at) as i64 };
        let mut answers = [FILE_ALLOCATED_RANGE_BUFFER::default(); RANGES];
        let count = control(file, FSCTL_QUERY_ALLOCATED_RANGES, Some(&ask), &mut answers)?;
        for range in &answers[..count] {
            let start = (range.FileOffset as u64).max(within.start);
            let end = (range.FileOffset as u64 + range.Length as u64).min(within.end);
            if start < end {
                found.insert(start..end);
            }
            at = at.max(end);
        }
        if count < RANGES {
            break;
        }
    }
    Ok(found)
}

/// Allocates blocks past the end; the length stays.
pub(super) fn reserve(file: &File, range: Range<u64>) -> io::Result<()> {
    // Less than there is would cut the file.
    if range.end <= allocated(file)?.max(file.metadata()?.len()) {
        return Ok(());
    }
    let wanted = FILE_ALLOCATION_INFO { AllocationSize: range.end as i64 };
    // SAFETY: the handle is open, and the call reads one FILE_ALLOCATION_INFO.
    let done = unsafe {
        SetFileInformationByHandle(
            file.as_raw_handle(),
            FileAllocationInfo,
            (&raw const wanted).cast(),
            size_of::<FILE_ALLOCATION_INFO>() as u32,
        )
    };
    match said(done) {
        // Wine: what is written later finds room or not.
        Err(error) if error.raw_os_error() == Some(ERROR_CALL_NOT_IMPLEMENTED as i32) => Ok(()),
        other => other,
    }
}

/// Bytes that the disk keeps for a file.
pub(super) fn allocated(file: &File) -> io::Result<u64> {
    let mut standard = FILE_STANDARD_INFO::default();
    information(file, FileStandardInfo, &mut standard)?;
    // Of a sparse file that is what it could take; this is what it does.
    let mut compressed = FILE_COMPRESSION_INFO::default();
    let sparse = file_attributes(file)? & FILE_ATTRIBUTE_SPARSE_FILE != 0;
    if sparse && information(file, FileCompressionInfo, &mut compressed).is_ok() {
        return Ok(compressed.CompressedFileSize as u64);
    }
    Ok(standard.AllocationSize as u64)
}

fn file_attributes(file: &File) -> io::Result<u32> {
    use std::os::windows::fs::MetadataExt;
    Ok(file.metadata()?.file_attributes())
}

/// The same of one that was listed.
pub(super) fn allocated_at(path: &Path, _facts: &Metadata) -> io::Result<u64> {
    allocated(&OpenOptions::new().access_mode(FILE_READ_ATTRIBUTES).open(path)?)
}

fn information<T>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS, into: &mut T) -> io::Result<()> {
    let size = size_of::<T>() as u32;
    // SAFETY: the handle is open, and at most `size` bytes are written into plain numbers.
    let done = unsafe {
        let into = (&raw mut *into).cast();
        GetFileInformationByHandleEx(file.as_raw_handle(), class, into, size)
    };
    said(done)
}

fn said(done: i32) -> io::Result<()> {
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the names in a directory durable, where the file system flushes directories; where it
/// refuses, its own log of names is what there is.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    let opened = OpenOptions::new().write(true).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(dir);
    let refused = |error: &io::Error| {
        let code = error.raw_os_error().map(|code| code as u32);
        let codes = [ERROR_ACCESS_DENIED, ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED];
        code.is_some_and(|code| codes.contains(&code) || code == ERROR_INVALID_HANDLE)
    };
    match opened.and_then(|dir| dir.sync_all()) {
        Err(error) if refused(&error) => Ok(()),
        other => other,
    }
}

/// Only an administrator may flush a volume.
pub(super) fn sync_filesystem(_dir: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What the disk below a directory can do.
pub(super) fn abilities(dir: &Path) -> io::Result<Abilities> {
    let path = dir.join(format!("holes-{}.tmp", std::process::id()));
    let file = options().create(true).truncate(true).open(&path)?;
    let tried = write_at(&file, &[1; 4096], 0)
        .and_then(|()| punch(&file, 0..4096))
        .and_then(|()| data_ranges(&file, 0..4096));
    drop(file);
    std::fs::remove_file(&path)?;
    let holes = match tried {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
        Err(error) => return Err(error),
    };
    Ok(Abilities { holes, syncs_at_once: false })
}

/// Size of the disk below a directory, and what is free for us.
pub(super) fn space(dir: &Path) -> io::Result<DiskSpace> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: the path ends with a zero; both numbers live over the call.
    let done = unsafe {
        GetDiskFreeSpaceExW(wide(dir).as_ptr(), &raw mut free, &raw mut total, null_mut())
    };
    said(done)?;
    Ok(DiskSpace { total, free })
}

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// The same until the machine starts again: when it did, by a clock that nobody sets.
pub(super) fn boot_id() -> Option<u64> {
    // SYSTEM_TIMEOFDAY_INFORMATION: at 0 when it started, at 32 how far that was moved since when
    // the clock was set.
    let mut facts = [0_u64; 6];
    // SAFETY: at most 48 bytes are written.
    let status = unsafe {
        NtQuerySystemInformation(
            SystemTimeOfDayInformation,
            facts.as_mut_ptr().cast(),
            size_of_val(&facts) as u32,
            null_mut(),
        )
    };
    Some(facts[0].wrapping_sub(facts[4])).filter(|boot| status >= 0 && *boot != 0)
}

/// The machine, by a name of its own.
pub(super) fn machine() -> Option<String> {
    let zero_ended = |text: &str| text.encode_utf16().chain([0]).collect::<Vec<u16>>();
    let key = zero_ended("SOFTWARE\\Microsoft\\Cryptography");
    let value = zero_ended("MachineGuid");
    let mut text = [0_u16; 64];
    let mut len = size_of_val(&text) as u32;
    // SAFETY: both names end with a zero; at most `len` bytes are written.
    let status = unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            key.as_ptr(),
            value.as_ptr(),
            RRF_RT_REG_SZ,
            null_mut(),
            text.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (status == ERROR_SUCCESS).then(|| until_zero(&text))
}

fn until_zero(text: &[u16]) -> String {
    let end = text.iter().position(|unit| *unit == 0).unwrap_or(text.len());
    String::from_utf16_lossy(&text[..end])
}

/// The directory's number on its disk.
pub(super) fn number(dir: &Path) -> io::Result<u64> {
    let mut options = OpenOptions::new();
    options.access_mode(FILE_READ_ATTRIBUTES).custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    let mut facts = BY_HANDLE_FILE_INFORMATION::default();
    let dir = options.open(dir)?;
    // SAFETY: the handle is open, and the call writes one BY_HANDLE_FILE_INFORMATION.
    said(unsafe { GetFileInformationByHandle(dir.as_raw_handle(), &raw mut facts) })?;
    Ok(u64::from(facts.nFileIndexHigh) << 32 | u64::from(facts.nFileIndexLow))
}

/// Takes a lock until the file is closed, alone or with others; says whether it did.
pub(super) fn try_lock(file: &File, alone: bool) -> io::Result<bool> {
    let alone = if alone { LOCKFILE_EXCLUSIVE_LOCK } else { 0 };
    let mut place = OVERLAPPED::default();
    place.Anonymous.Anonymous.Offset = LOCKED_BYTE as u32;
    place.Anonymous.Anonymous.OffsetHigh = (LOCKED_BYTE >> 32) as u32;
    // SAFETY: the handle is open and synchronous, so `place` is used during the call only.
    let done = unsafe {
        let how = LOCKFILE_FAIL_IMMEDIATELY | alone;
        LockFileEx(file.as_raw_handle(), how, 0, 1, 0, &raw mut place)
    };
    match said(done) {
        Err(error) if error.raw_os_error() == Some(ERROR_LOCK_VIOLATION as i32) => Ok(false),
        Err(error) if error.raw_os_error() == Some(ERROR_IO_PENDING as i32) => Ok(false),
        other => other.map(|()| true),
    }
}

/// What a directory lies on.
pub(super) fn filesystem(dir: &Path) -> io::Result<Filesystem> {
    let mut root = [0_u16; 1024];
    let mut name = [0_u16; 64];
    // SAFETY: the path ends with a zero; each buffer is as long as is said, and the root that the
    // first call writes ends with a zero.
    let (kind, done) = unsafe {
        let path = wide(dir);
        said(GetVolumePathNameW(path.as_ptr(), root.as_mut_ptr(), root.len() as u32))?;
        let kind = GetDriveTypeW(root.as_ptr());
        let done = GetVolumeInformationW(
            root.as_ptr(),
            null_mut(),
            0,
            null_mut(),
            null_mut(),
            null_mut(),
            name.as_mut_ptr(),
            name.len() as u32,
        );
        (kind, done)
    };
    said(done)?;
    // winbase.h: DRIVE_REMOTE and DRIVE_RAMDISK.
    Ok(match (kind, until_zero(&name)) {
        (4, _) => Filesystem::Far("a network drive"),
        (6, _) => Filesystem::Memory("a RAM disk"),
        (_, name) if name.to_ascii_uppercase().contains("FAT") => Filesystem::Weak(name),
        (_, name) => Filesystem::Local(name),
    })
}

/// No kernel reads data files by itself here.
pub(super) fn lend(_path: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// So nobody else has them.
pub(super) fn held(_path: &Path) -> io::Result<Held> {
    Ok(Held::Nobody)
}
