//! Open files and directories.

use crate::attr::{Fh, Ino, OpenMode};
use crate::error::{Error, ErrorKind, Result};
use crate::file::File;
use crate::kept::Items;
use crate::lend::Lent;
use crate::readahead::Pattern;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

/// One open file.
pub(crate) struct FileHandle {
    pub file: Arc<File>,
    pub mode: OpenMode,
    /// The kernel has the data file for it.
    pub lent: Option<Arc<Lent>>,
    /// Locked before the content (see `lib.rs`).
    reading: Mutex<Reading>,
}

impl FileHandle {
    pub(crate) fn new(file: Arc<File>, mode: OpenMode, lent: Option<Arc<Lent>>) -> Self {
        FileHandle { file, mode, lent, reading: Mutex::default() }
    }

    pub(crate) fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// How a handle reads.
#[derive(Default)]
pub(crate) struct Reading {
    pub pattern: Pattern,
    /// The extent it was last seen in, so that each pass counts as one use (E3).
    pub extent: Option<u32>,
}

/// One open directory.
pub(crate) struct DirHandle {
    pub ino: Ino,
    pub fh: Fh,
    /// The names at the first read, or after a rewind; or those that the kernel keeps.
    items: Mutex<Option<Items>>,
}

impl DirHandle {
    pub(crate) fn items(&self) -> Option<Items> {
        self.items.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    pub(crate) fn keep(&self, items: Option<Items>) {
        *self.items.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = items;
    }
}

/// All handles of the mount.
#[derive(Default)]
pub(crate) struct Handles {
    files: RwLock<HashMap<u64, Arc<FileHandle>>>,
    dirs: RwLock<HashMap<u64, Arc<DirHandle>>>,
    next: AtomicU64,
}

fn bad_handle() -> Error {
    Error::new(ErrorKind::BadHandle, "find the handle")
}

impl Handles {
    pub(crate) fn add_file(&self, handle: FileHandle) -> Fh {
        let fh = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut files = self.files.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        files.insert(fh, Arc::new(handle));
        Fh(fh)
    }

    pub(crate) fn file(&self, fh: Fh) -> Result<Arc<FileHandle>> {
        let files = self.files.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        files.get(&fh.0).cloned().ok_or_else(bad_handle)
    }

    pub(crate) fn remove_file(&self, fh: Fh) -> Option<Arc<FileHandle>> {
        self.files.write().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(&fh.0)
    }

    pub(crate) fn add_dir(&self, ino: Ino) -> Arc<DirHandle> {
        let fh = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let handle = Arc::new(DirHandle { ino, fh: Fh(fh), items: Mutex::new(None) });
        let mut dirs = self.dirs.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        dirs.insert(fh, handle.clone());
        handle
    }

    pub(crate) fn dir(&self, fh: Fh) -> Result<Arc<DirHandle>> {
        let dirs = self.dirs.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        dirs.get(&fh.0).cloned().ok_or_else(bad_handle)
    }

    pub(crate) fn remove_dir(&self, fh: Fh) -> Option<Arc<DirHandle>> {
        self.dirs.write().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(&fh.0)
    }
}
