//! The real disk: `std::fs` below one directory, and what the system has beyond it.

use super::system;
use super::{Abilities, Disk, DiskFile, DiskSpace, Held, Listed, Readable};
use crate::error::{Error, Result};
use crate::ranges::RangeSet;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Zeros are written so many at once where the disk makes no holes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A directory on a disk.
pub struct RealDisk {
    dir: PathBuf,
    boot: u64,
    abilities: Abilities,
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
        let abilities = system::abilities(&absolute)
            .map_err(|e| Error::disk("look at the cache directory", e).at(show(&dir)))?;
        let boot = system::boot_id().unwrap_or_else(unlike_any);
        Ok(RealDisk { dir: absolute, boot, abilities })
    }

    /// Which machine and which directory this is, as text: another one after a copy.
    pub fn home(&self) -> String {
        let number = system::number(&self.dir).unwrap_or_default();
        format!("{} {number}", system::machine().unwrap_or_default())
    }

    /// Makes directories of one directory, durable at the end: much cheaper than each by itself when
    /// its first file is made.
    pub(crate) fn make_dirs(
        &self,
        above: &str,
        names: impl Iterator<Item = String>,
    ) -> io::Result<()> {
        let above = self.path(above);
        make_dirs(&above)?;
        let mut is_new = false;
        for name in names {
            match system::make_dir(&above.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    is_new = true;
                }
            }
        }
        if is_new { system::sync_directory(&above) } else { Ok(()) }
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
        let mut options = system::options();
        options.create(create).truncate(false);
        let file = match options.open(&path) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                make_dirs(parent(&path))?;
                options.open(&path)?
            }
            other => other?,
        };
        Ok(Arc::new(RealFile { file, holes: self.abilities.holes }))
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
        let path = self.path(path);
        system::allocated_at(&path, &fs::symlink_metadata(&path)?)
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
                    let allocated = match system::allocated_at(&entry.path(), &facts) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        other => other?,
                    };
                    found.push(Listed { path, len: facts.len(), allocated });
                }
            }
        }
        Ok(found)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        system::sync_directory(&self.dir_path(dir))
    }

    fn sync_all(&self) -> io::Result<()> {
        system::sync_filesystem(&self.dir)
    }

    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn lend(&self, path: &str) -> io::Result<Option<Readable>> {
        Ok(system::lend(&self.path(path))?.map(|file| Readable { file }))
    }

    fn held(&self, path: &str) -> io::Result<Held> {
        system::held(&self.path(path))
    }

    fn space(&self) -> io::Result<DiskSpace> {
        system::space(&self.dir)
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
        let file = system::options().create(true).truncate(true).open(&temporary)?;
        system::write_at(&file, bytes, 0)?;
        file.sync_all()?;
        // Some systems rename no file that is open.
        drop(file);
        fs::rename(&temporary, &path)?;
        system::sync_directory(parent(&path))
    }

    fn read_small(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(path))
    }
}

/// A file on a disk.
pub(super) struct RealFile {
    pub file: File,
    pub holes: bool,
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match system::read_at(&self.file, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        system::write_at(&self.file, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        system::set_len(&self.file, len)
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        if self.holes {
            return system::punch(&self.file, range);
        }
        let end = range.end.min(self.len()?);
        let mut at = range.start;
        while at < end {
            let part = &ZEROS[..(end - at).min(ZEROS.len() as u64) as usize];
            self.write_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        system::reserve(&self.file, range)
    }

    fn sync_data(&self) -> io::Result<()> {
        // std asks for F_FULLFSYNC on macOS, where a plain fsync stops at the drive's cache.
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocated(&self) -> io::Result<u64> {
        system::allocated(&self.file)
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    fn data_ranges(&self, within: Range<u64>) -> io::Result<RangeSet> {
        match self.holes {
            true => system::data_ranges(&self.file, within),
            false => Ok(std::iter::once(within.start..within.end.min(self.len()?)).collect()),
        }
    }
}

/// A number for a boot that cannot be told from others.
fn unlike_any() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |time| time.as_nanos() as u64) ^ (u64::from(std::process::id()) << 32)
}

/// Makes a directory and those above it, each durable in the one above.
fn make_dirs(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    make_dirs(parent(dir))?;
    match system::make_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => system::sync_directory(parent(dir)),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ if path.is_absolute() => path,
        _ => Path::new("."),
    }
}

pub(super) fn show(path: &Path) -> String {
    path.display().to_string()
}
