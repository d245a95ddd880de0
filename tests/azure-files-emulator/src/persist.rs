//! Keeps the account in a directory from run to run: `account.json` has everything but bytes,
//! `data/VERSION` the bytes of one version of one file, which never change. What is written is
//! put in place by a rename, `account.json` last: a server that is killed leaves what it saved
//! before.

use crate::content::{Content, advance_versions_past};
use crate::store::Store;
use crate::time::{Clock, Ticks};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where the account is kept.
pub struct Disk {
    root: PathBuf,
    /// Held as long as the server runs.
    _lock: File,
    saving: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct Saved<S> {
    last_stamp: Ticks,
    store: S,
}

/// What is to be written: made while the account stands still, written after.
pub struct Image {
    json: Vec<u8>,
    contents: BTreeMap<u64, Content>,
}

impl Image {
    /// The account as it is now. Bytes are not copied.
    pub fn of(store: &Store, clock: &Clock) -> io::Result<Image> {
        let json = serde_json::to_vec(&Saved { last_stamp: clock.last_stamp(), store })?;
        let files = store.trees().flat_map(|tree| tree.nodes()).filter_map(|node| node.file().ok());
        let contents = files.map(|file| (file.content.version(), file.content.clone())).collect();
        Ok(Image { json, contents })
    }
}

impl Disk {
    /// Opens or makes the directory. It is one server's at a time.
    pub fn open(root: &Path) -> io::Result<Disk> {
        fs::create_dir_all(root.join("data"))?;
        let lock = File::create(root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("{} is another server's", root.display());
                return Err(io::Error::other(text));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Disk { root: root.to_owned(), _lock: lock, saving: Mutex::new(()) })
    }

    /// What the last run left; nothing, if there was none.
    pub fn load(&self, clock: &Clock) -> io::Result<Store> {
        let json = match fs::read(self.root.join("account.json")) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Store::default()),
            Err(error) => return Err(error),
        };
        let Saved { last_stamp, mut store } = serde_json::from_slice::<Saved<Store>>(&json)?;
        clock.advance_past(last_stamp);
        let mut loaded = BTreeMap::new();
        for node in store.trees_mut().flat_map(|tree| tree.nodes_mut()) {
            let Ok(file) = node.file_mut() else { continue };
            let version = file.content.version();
            advance_versions_past(version);
            // Snapshots share the bytes of what did not change since.
            let bytes = match loaded.get(&version) {
                Some(bytes) => bytes,
                None => {
                    let bytes = self.read(&file.content)?;
                    loaded.entry(version).or_insert(bytes)
                }
            };
            file.content.share_bytes(bytes);
        }
        Ok(store)
    }

    fn data(&self, version: u64) -> PathBuf {
        self.root.join("data").join(version.to_string())
    }

    fn read(&self, content: &Content) -> io::Result<Content> {
        let mut bytes = content.clone();
        let mut file = File::open(self.data(content.version()))?;
        for (start, length) in content.places() {
            let mut part = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut part)?;
            bytes.restore(start, &part);
        }
        Ok(bytes)
    }

    /// Writes what is not there yet, and removes what is of no use any more.
    pub fn save(&self, image: &Image) -> io::Result<()> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        for (version, content) in &image.contents {
            let path = self.data(*version);
            if !path.exists() {
                self.put(&path, |file| write_content(file, content))?;
            }
        }
        self.put(&self.root.join("account.json"), |file| file.write_all(&image.json))?;
        for entry in fs::read_dir(self.root.join("data"))? {
            let entry = entry?;
            let version = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if version.is_some_and(|version| !image.contents.contains_key(&version)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn put(&self, path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let unfinished = self.root.join("unfinished");
        let mut file = File::create(&unfinished)?;
        write(&mut file)?;
        fs::rename(unfinished, path)
    }
}

fn write_content(file: &mut File, content: &Content) -> io::Result<()> {
    file.set_len(content.size_bytes())?;
    for (start, bytes) in content.parts() {
        file.seek(SeekFrom::Start(start))?;
        file.write_all(bytes)?;
    }
    Ok(())
}
