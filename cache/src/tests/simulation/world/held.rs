//! Files that stay open: while others rename, replace and remove them, here and elsewhere.

use super::super::Held;
use super::model::hold;
use super::{Tokens, World};
use crate::attr::Fh;
use crate::error::{Error, ErrorKind, Result};
use crate::tests::rig::*;

/// As many as that; who opens more closes the oldest.
const HELD_MAX: usize = 3;

impl World {
    pub(super) fn use_held(&mut self, site: usize, act: &Held) -> Result<()> {
        if let Held::Open(path) = act {
            let fh = self.sites[site].open(path, READ_WRITE)?;
            self.held[site].push(fh);
            if self.held[site].len() > HELD_MAX {
                self.let_go(site, 0);
            }
            return Ok(());
        }
        let Some(fh) = self.held[site].last().copied() else { return Ok(()) };
        match act {
            Held::Open(_) => Ok(()),
            Held::Write(len) => self.write_held(site, fh, *len),
            Held::Read => self.read_held(site, fh).map(drop),
            Held::Fsync => {
                let tokens = self.read_held(site, fh)?;
                self.sites[site].fsync(fh)?;
                self.are_durable(&tokens);
                Ok(())
            }
            Held::Close => {
                self.let_go(site, self.held[site].len() - 1);
                Ok(())
            }
        }
    }

    pub(super) fn let_go(&mut self, site: usize, at: usize) {
        let fh = self.held[site].remove(at);
        self.sites[site].close(fh);
    }

    /// All of it, which is one state of the file.
    fn read_held(&mut self, site: usize, fh: Fh) -> Result<Tokens> {
        let bytes = self.sites[site].read_at(fh, 0, 1 << 24)?;
        (0..2).for_each(|site| self.note_missing(site));
        self.parse(&bytes).map_err(|wrong| {
            Error::new(ErrorKind::Invalid, "read").at(format!("an open file at {site}: {wrong}"))
        })
    }

    fn write_held(&mut self, site: usize, fh: Fh, len: usize) -> Result<()> {
        let number = self.token(site, len);
        let rig = &self.sites[site];
        let before = rig.place_of(fh).and_then(|path| {
            let tokens = self.states.get(&rig.mtime(&path)?)?;
            Some((path, tokens.clone()))
        });
        self.unsafe_puts[site].insert(number);
        let (rig, token) = (&self.sites[site], &self.tokens[number]);
        let done = rig.write_at(fh, token.offset, &token.bytes);
        // What was removed here goes with its last close; what others took away gets a name again.
        let kept = done.is_ok() && !rig.is_removed(fh);
        let path = rig.place_of(fh);
        self.tokens[number].torn = !kept;
        self.tokens[number].wanted = kept;
        match (before, &path) {
            (Some((before, mut tokens)), Some(path)) if kept && before == *path => {
                tokens.insert(number);
                self.note(site, path, tokens);
            }
            (_, Some(path)) => {
                let changed = self.sites[site].mtime(path);
                changed.map(|changed| self.states.remove(&changed));
            }
            _ => {}
        }
        match path {
            Some(path) => self.did(site, &done, |tree| hold(tree, &path, number)),
            None => done,
        }
    }
}
