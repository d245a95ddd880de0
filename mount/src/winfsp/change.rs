//! Attributes, overwriting, removing and renaming.

use super::Answer;
use super::facts::{self, Basic, Info, attribute};
use super::path;
use super::volume::{Found, Open, Volume};
use crate::ntstatus::Status;
use covefs_cache::{Ino, Kind, RenameMode, SetAttr};
use tracing::warn;

impl Volume {
    /// Empties an open file; `replaces`: the attributes too, else they are added to.
    pub(super) fn overwrite(&self, open: &Open, attributes: u32, replaces: bool) -> Answer<Info> {
        self.check_writable()?;
        self.bytes(open, true)?;
        let mode = self.attr(open)?.mode;
        let asks = replaces || attributes & attribute::READONLY != 0;
        let mode = asks.then(|| facts::with_readonly(mode, attributes));
        let change = SetAttr { size: Some(0), mode, ..SetAttr::default() };
        self.ask("overwrite", |vfs, asked| vfs.setattr(asked, open.ino, None, &change))?;
        self.changed(open)
    }

    /// Sets what Windows may set of attributes and times; the creation time stays.
    pub(super) fn set_basic(&self, open: &Open, wish: &Basic) -> Answer<Info> {
        self.check_writable()?;
        let attr = self.attr(open)?;
        let mut change = facts::changes(wish, attr.kind, attr.mode);
        change.mode = change.mode.filter(|mode| *mode != attr.mode);
        if change != SetAttr::default() {
            self.ask("setattr", |vfs, asked| vfs.setattr(asked, open.ino, None, &change))?;
        }
        self.changed(open)
    }

    /// What stands at the path of an open file, if that is still it: else somebody else's file
    /// would be removed or renamed in its stead.
    fn still_there(&self, open: &Open, path: &[u16]) -> Answer<(Found, Ino, Vec<u8>)> {
        let found = self.find(path)?;
        match found.place.clone() {
            None => Err(Status::ACCESS_DENIED),
            Some(_) if found.attr.ino != open.ino => Err(Status::OBJECT_NAME_NOT_FOUND),
            Some((dir, name)) => Ok((found, dir, name)),
        }
    }

    /// Whether it could be removed when it is closed.
    pub(super) fn can_delete(&self, open: &Open, path: &[u16]) -> Answer<()> {
        self.check_writable()?;
        let (found, ..) = self.still_there(open, path)?;
        if facts::is_readonly(&found.attr) {
            return Err(Status::CANNOT_DELETE);
        }
        if open.kind == Kind::Dir && !self.is_empty(open.ino)? {
            return Err(Status::DIRECTORY_NOT_EMPTY);
        }
        Ok(())
    }

    /// The program has closed it. There is nobody to hear of a failure.
    pub(super) fn cleanup(&self, open: &Open, path: Option<&[u16]>, removes: bool) {
        let outcome = match path {
            Some(path) if removes => self.remove(open, path),
            _ => match open.written() {
                Some(fh) => self.ask("close", |vfs, asked| vfs.flush(asked, fh)),
                None => Ok(()),
            },
        };
        if let Err(status) = outcome {
            let status = format!("{:08x}", status.0);
            warn!(ino = open.ino.0, removes, status, "what a close was to do was not done");
        }
    }

    fn remove(&self, open: &Open, path: &[u16]) -> Answer<()> {
        self.check_writable()?;
        let (_, dir, name) = self.still_there(open, path)?;
        match open.kind {
            Kind::Dir => self.ask("rmdir", |vfs, asked| vfs.rmdir(asked, dir, &name)),
            _ => self.ask("unlink", |vfs, asked| vfs.unlink(asked, dir, &name)),
        }
    }

    /// Moves an open file; a file in its way goes if it `replaces`, a directory never does.
    pub(super) fn rename(
        &self,
        open: &Open,
        from: &[u16],
        to: &[u16],
        replaces: bool,
    ) -> Answer<()> {
        self.check_writable()?;
        let (_, from_dir, from_name) = self.still_there(open, from)?;
        let names = path::split(to)?;
        let (to_dir, last) = self.walk(&names)?;
        let to_dir = to_dir.attr.ino;
        let Some(last) = last else { return Err(Status::ACCESS_DENIED) };
        let mv = |name: &[u8], mode: RenameMode| {
            self.ask("rename", |vfs, asked| {
                vfs.rename(asked, from_dir, &from_name, to_dir, name, mode)
            })
        };
        match self.child(to_dir, last)? {
            Some((_, target)) if target.ino == open.ino => {
                // Its own name in another case, or the very same.
                let name = last.spellings().next().unwrap_or_default();
                mv(name, RenameMode::NoReplace)
            }
            Some(_) if !replaces => Err(Status::OBJECT_NAME_COLLISION),
            Some((_, target)) if target.kind == Kind::Dir || facts::is_readonly(&target) => {
                Err(Status::ACCESS_DENIED)
            }
            Some(_) if open.kind == Kind::Dir => Err(Status::ACCESS_DENIED),
            Some((name, _)) => mv(&name, RenameMode::Replace),
            None => {
                let mut outcome = Err(Status::OBJECT_NAME_INVALID);
                for spelling in last.spellings() {
                    outcome = mv(spelling, RenameMode::NoReplace);
                    if outcome != Err(Status::OBJECT_NAME_INVALID) {
                        break;
                    }
                }
                outcome
            }
        }
    }
}
