//! The real disk: `std::fs` and rustix below one directory.
//!
//! Holes, reservation and SEEK_DATA are Linux's; on other unix systems they answer `Unsupported`,
//! and so [`super::suitable`] refuses the directory before anything is stored in it.

use super::{Disk, DiskFile, DiskSpace, Listed};
use crate::error::{Error, Result};
use crate::ranges::RangeSet;
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory on a disk.
pub struct RealDisk {
    dir: PathBuf,
    boot: u64,
}

impl RealDisk {
    /// Opens a directory, making it (for its owner only, U1) if it is missing.
    pub fn open(dir: PathBuf) -> Result<Self> {
        let open = || -> io::Result<PathBuf> {
            make_dirs(&dir)?;
            dir.canonicalize()
        };
        let absolute =
            open().map_err(|e| Error::disk("open the cache directory", e).at(show(&dir)))?;
        Ok(RealDisk { dir: absolute, boot: boot_id() })
    }

    /// Which machine and which directory this is, as text: another one after a copy.
    pub fn home(&self) -> String {
        use std::os::unix::fs::MetadataExt;
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let number = std::fs::metadata(&self.dir).map_or(0, |metadata| metadata.ino());
        format!("{} {number}", machine.trim())
    }

    fn path(&self, path: &str) -> PathBuf {
        debug_assert!(
            path.split('/').all(|name| !name.is_empty() && name != "." && name != ".."),
            "not a path of ours: {path:?}"
        );
        self.dir.join(path)
    }

    fn dir_path(&self, dir: &str) -> PathBuf {
        if dir.is_empty() { self.dir.clone() } else { self.path(dir) }
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).truncate(false).mode(0o600);
        let file = match options.open(&path) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                make_dirs(parent(&path))?;
                options.open(&path)?
            }
            other => other?,
        };
        Ok(Arc::new(RealFile { file }))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let to = self.path(to);
        make_dirs(parent(&to))?;
        fs::rename(self.path(from), to)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.path(path).try_exists()
    }

    fn allocated(&self, path: &str) -> io::Result<u64> {
        Ok(fs::symlink_metadata(self.path(path))?.blocks() * 512)
    }

    fn list(&self, dir: &str, recursive: bool) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        let mut waiting = vec![(self.dir_path(dir), String::new())];
        while let Some((path, prefix)) = waiting.pop() {
            let entries = match fs::read_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in entries {
                let entry = entry?;
                // Every name of ours is ASCII; another's is shown as well as it can be.
                let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
                let facts = match entry.metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    other => other?,
                };
                if facts.is_dir() {
                    if recursive {
                        waiting.push((entry.path(), format!("{path}/")));
                    }
                } else if facts.is_file() {
                    let allocated = facts.blocks() * 512;
                    found.push(Listed { path, len: facts.len(), allocated });
                }
            }
        }
        Ok(found)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_directory(&self.dir_path(dir))
    }

    fn sync_all(&self) -> io::Result<()> {
        sync_filesystem(&File::open(&self.dir)?)
    }

    fn space(&self) -> io::Result<DiskSpace> {
        let facts = rustix::fs::statvfs(&self.dir)?;
        let unit = facts.f_frsize.max(1);
        Ok(DiskSpace { total: facts.f_blocks * unit, free: facts.f_bavail * unit })
    }

    fn boot_id(&self) -> u64 {
        self.boot
    }

    fn index_path(&self) -> Option<PathBuf> {
        Some(self.dir.join("meta.sled"))
    }

    fn write_small(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(path);
        make_dirs(parent(&path))?;
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_directory(parent(&path))
    }

    fn read_small(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(path))
    }
}

/// A file on a disk.
pub(super) struct RealFile {
    pub file: File,
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        allocate(&self.file, true, range)
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        allocate(&self.file, false, range)
    }

    fn sync_data(&self) -> io::Result<()> {
        // std asks for F_FULLFSYNC on macOS, where a plain fsync stops at the drive's cache.
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    fn data_ranges(&self, within: Range<u64>) -> io::Result<RangeSet> {
        data_ranges(&self.file, within)
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, punch: bool, range: Range<u64>) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    if range.is_empty() {
        return Ok(());
    }
    let keep = FallocateFlags::KEEP_SIZE;
    let flags = if punch { keep | FallocateFlags::PUNCH_HOLE } else { keep };
    let len = range.end - range.start;
    loop {
        match rustix::fs::fallocate(file, flags, range.start, len) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(_file: &File, _punch: bool, _range: Range<u64>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn data_ranges(file: &File, within: Range<u64>) -> io::Result<RangeSet> {
    use rustix::fs::{SeekFrom, seek};
    let mut found = RangeSet::new();
    let mut at = within.start;
    while at < within.end {
        // ENXIO: no data from here to the end. The descriptor's own offset moves; nobody uses it.
        let start = match seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            other => other?,
        };
        if start >= within.end {
            break;
        }
        let end = match seek(file, SeekFrom::Hole(start)) {
            // Cut meanwhile.
            Err(Errno::NXIO) => break,
            other => other?,
        };
        found.insert(start..end.min(within.end));
        at = end;
    }
    Ok(found)
}

#[cfg(not(target_os = "linux"))]
fn data_ranges(_file: &File, _within: Range<u64>) -> io::Result<RangeSet> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn sync_filesystem(dir: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(dir)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_filesystem(_dir: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn boot_id() -> u64 {
    match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => {
            let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
            let whole = u128::from_str_radix(&digits, 16).unwrap_or_else(|_| unlike_any());
            (whole as u64) ^ ((whole >> 64) as u64)
        }
        Err(_) => unlike_any() as u64,
    }
}

#[cfg(not(target_os = "linux"))]
fn boot_id() -> u64 {
    unlike_any() as u64
}

/// A number for a boot that cannot be told from others.
fn unlike_any() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |time| time.as_nanos()) ^ (u128::from(std::process::id()) << 32)
}

/// Makes a directory and those above it, each durable in the one above.
fn make_dirs(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    make_dirs(parent(dir))?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_directory(parent(dir)),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ if path.is_absolute() => path,
        _ => Path::new("."),
    }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(super) fn show(path: &Path) -> String {
    path.display().to_string()
}
