//! Where WinFsp is not: the calls that its context makes.

use super::rig::{Calls, wide};
use crate::options::MountOptions;
use crate::winfsp::Answer;
use crate::winfsp::facts::{Basic, Info};
use crate::winfsp::volume::{Making, Open, Settings, Volume};
use covefs_cache::{Owner, Vfs};
use std::sync::Arc;
use tokio::runtime::Handle;

/// So many names in a page.
const PAGE: usize = 7;

pub struct Drive {
    pub volume: Volume,
}

impl Drive {
    pub fn new(vfs: Arc<Vfs>, runtime: Handle, options: &MountOptions) -> Drive {
        let settings = Settings {
            label: "docs".into(),
            marks_cold: !options.extra.iter().any(|option| option == "fixed-disk"),
            read_only: options.read_only,
            owner: Owner { uid: 0, gid: 0 },
        };
        Drive { volume: Volume { vfs, runtime, settings } }
    }

    /// The path that opening says, where it is not the one that was asked for.
    pub fn normalized(&self, path: &str) -> String {
        let opened = self.volume.open(&wide(path), None, 0x80).unwrap();
        self.volume.close(opened.open);
        let found = String::from_utf16(&opened.path).unwrap();
        if found == path { String::new() } else { found }
    }
}

impl Calls for Drive {
    fn vfs(&self) -> &Arc<Vfs> {
        &self.volume.vfs
    }

    fn open_as(&self, path: &str, wants_dir: Option<bool>, access: u32) -> Answer<(Open, Info)> {
        let opened = self.volume.open(&wide(path), wants_dir, access)?;
        Ok((opened.open, opened.info))
    }

    fn create_as(&self, path: &str, is_dir: bool, attributes: u32) -> Answer<(Open, Info)> {
        let opened = self.volume.create(&wide(path), &Making { is_dir, attributes })?;
        Ok((opened.open, opened.info))
    }

    fn read(&self, open: &Open, offset: u64, len: usize) -> Answer<Vec<u8>> {
        self.volume.read(open, offset, len)
    }

    fn put(&self, open: &Open, bytes: &[u8], offset: Option<u64>, limited: bool) -> Answer<u32> {
        Ok(self.volume.write(open, bytes, offset, limited)?.0)
    }

    fn info(&self, open: &Open) -> Answer<Info> {
        self.volume.info_of(open)
    }

    fn size(&self, open: &Open, size: u64, allocation: bool) -> Answer<Info> {
        self.volume.set_size(open, size, allocation)
    }

    fn overwrite(&self, open: &Open, attributes: u32, replaces: bool) -> Answer<Info> {
        self.volume.overwrite(open, attributes, replaces)
    }

    fn basic(&self, open: &Open, wish: Basic) -> Answer<Info> {
        self.volume.set_basic(open, &wish)
    }

    fn can_delete(&self, open: &Open, path: &str) -> Answer<()> {
        self.volume.can_delete(open, &wide(path))
    }

    fn cleanup(&self, open: &Open, path: &str, removes: bool) {
        self.volume.cleanup(open, Some(&wide(path)), removes);
    }

    fn close(&self, open: Open) {
        self.volume.close(open);
    }

    fn rename(&self, open: &Open, from: &str, to: &str, replaces: bool) -> Answer<()> {
        self.volume.rename(open, &wide(from), &wide(to), replaces)
    }

    fn page(
        &self,
        open: &Open,
        marker: Option<&str>,
        pattern: Option<&str>,
    ) -> Answer<Vec<(String, Info)>> {
        let (marker, pattern) = (marker.map(wide), pattern.map(wide));
        let mut page = Vec::new();
        self.volume.list(open, marker.as_deref(), pattern.as_deref(), &mut |item| {
            if page.len() < PAGE {
                page.push((String::from_utf16(&item.name).unwrap(), item.info));
                return false;
            }
            true
        })?;
        Ok(page)
    }

    fn one(&self, open: &Open, name: &str) -> Answer<String> {
        let item = self.volume.item(open, &wide(name))?;
        Ok(String::from_utf16(&item.name).unwrap())
    }

    fn reparse(&self, path: &str) -> Answer<Vec<u8>> {
        self.volume.reparse_point(&wide(path))
    }

    fn flush(&self, open: Option<&Open>) -> Answer<()> {
        self.volume.flush(open).map(drop)
    }

    fn space(&self) -> Answer<(u64, u64)> {
        let space = self.volume.space()?;
        Ok((space.total_bytes, space.free_bytes))
    }
}
