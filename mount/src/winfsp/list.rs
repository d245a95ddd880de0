//! Listing a directory: names in one order, each listing whole from its beginning, and gone on with
//! behind any name, whether that is still there or not.

use super::Answer;
use super::facts::Info;
use super::path::{folded, units};
use super::pattern;
use super::volume::{Open, Volume};
use crate::ntstatus::Status;
use covefs_cache::{Attr, DirItem, Ino, Kind};
use std::sync::Arc;

/// One line of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Item {
    order: Order,
    pub name: Vec<u16>,
    pub info: Info,
}

/// `.` and `..` come first, then names, case aside.
type Order = (u8, Vec<u16>, Vec<u16>);

const DOT: u16 = b'.' as u16;

fn order(name: &[u16]) -> Order {
    let rank = match name {
        [DOT] => 0,
        [DOT, DOT] => 1,
        _ => 2,
    };
    (rank, folded(name), name.to_vec())
}

impl Volume {
    /// Calls `add` for each line behind `marker` that the pattern means, until it says that it is full
    /// (true).
    pub(super) fn list(
        &self,
        open: &Open,
        marker: Option<&[u16]>,
        pattern: Option<&[u16]>,
        add: &mut dyn FnMut(&Item) -> bool,
    ) -> Answer<()> {
        if open.kind != Kind::Dir {
            return Err(Status::NOT_A_DIRECTORY);
        }
        let known = open.items.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let items = match known.filter(|_| marker.is_some()) {
            Some(items) => items,
            None => {
                let items = Arc::new(self.items(open.ino)?);
                let mut known = open.items.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                *known = Some(items.clone());
                items
            }
        };
        let behind = marker.map(order);
        let begin = behind.map_or(0, |marker| items.partition_point(|item| item.order <= marker));
        let meant = |item: &&Item| pattern.is_none_or(|meant| pattern::matches(meant, &item.name));
        // The last one is full, or there is no more.
        let _full = items[begin..].iter().filter(meant).any(add);
        Ok(())
    }

    /// The line of one name.
    pub(super) fn item(&self, open: &Open, name: &[u16]) -> Answer<Item> {
        let (name, attr) = self
            .child(open.ino, &super::path::name(name)?)?
            .ok_or(Status::OBJECT_NAME_NOT_FOUND)?;
        Ok(self.line(units(&name), &attr, open.ino))
    }

    fn line(&self, name: Vec<u16>, attr: &Attr, dir: Ino) -> Item {
        Item { order: order(&name), info: self.info(attr, Some(dir)), name }
    }

    fn items(&self, dir: Ino) -> Answer<Vec<Item>> {
        let mut found = Vec::new();
        self.each_name(dir, &mut |item| {
            found.extend(item.entry.map(|entry| (units(&item.name), entry.attr)));
        })?;
        let mut items: Vec<Item> =
            found.iter().map(|(name, attr)| self.line(name.clone(), attr, dir)).collect();
        if dir != Ino::ROOT {
            let here = self.ask("getattr", |vfs, asked| vfs.getattr(asked, dir, None))?.attr;
            let above = self.above(dir)?;
            items.push(self.line(vec![DOT], &here, dir));
            items.push(self.line(vec![DOT; 2], &above, dir));
        }
        items.sort_by(|one, other| one.order.cmp(&other.order));
        Ok(items)
    }

    fn above(&self, dir: Ino) -> Answer<Attr> {
        let path = self.vfs.names_to(dir);
        let path = path.map_err(|error| super::volume::refuse("list", &error))?;
        let path = path.unwrap_or_default();
        let above = &path[..path.len().saturating_sub(1)];
        Ok(self.find(&super::path::join(above.iter().map(|name| &**name)))?.attr)
    }

    /// Every name of a directory with its attributes, but `.` and `..`.
    pub(super) fn each_name(&self, dir: Ino, each: &mut dyn FnMut(&DirItem)) -> Answer<()> {
        let fh = self.ask("opendir", |vfs, asked| vfs.opendir(asked, dir))?.fh;
        let listed = self.ask("readdir", |vfs, asked| {
            vfs.readdir(asked, fh, 0, true, &mut |item| {
                if item.entry.is_some() {
                    each(item);
                }
                false
            })
        });
        self.vfs.releasedir(fh);
        listed
    }
}
