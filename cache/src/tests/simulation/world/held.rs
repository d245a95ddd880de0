//! Files that stay open: while others rename, replace and remove them, here and elsewhere.

use super::super::Held;
use super::model::hold;
use super::{Tokens, World};
use crate::attr::{ContentId, Fh, OpenMode};
use crate::disk::Loan;
use crate::error::{Error, ErrorKind, Result};
use crate::tests::rig::*;
use covefs_remote::Kind;

/// As many as that; who opens more closes the oldest.
const HELD_MAX: usize = 3;

/// A file that a program has open.
pub(super) struct HeldFile {
    fh: Fh,
    writes: bool,
    /// The kernel reads the data file for it, which held this, after so many cuts of whatever file.
    lent: Option<(Loan, Tokens, u64)>,
}

/// A file that a program has in a mapping, with room for one write.
pub(super) struct Mapping {
    /// While the process lives that gave it out.
    pub(super) fh: Option<Fh>,
    loan: Loan,
    path: String,
    content: ContentId,
    /// The write, until it is made.
    number: Option<usize>,
}

impl World {
    pub(super) fn use_held(&mut self, site: usize, act: &Held) -> Result<()> {
        let last = self.held[site].len().checked_sub(1);
        let writable = self.held[site].iter().rposition(|held| held.writes);
        match (act, last, writable) {
            (Held::Open(path), ..) => self.hold(site, path, READ_WRITE),
            (Held::OpenToRead(path), ..) => self.hold(site, path, READ),
            (Held::Map(path, len), ..) => self.map(site, path, *len),
            (Held::WriteMapped, ..) => self.write_mapped(site),
            (Held::Unmap, ..) => {
                if let Some(mapping) = self.mapped[site].pop() {
                    self.unmap(site, mapping);
                }
                Ok(())
            }
            (Held::Write(len), _, Some(at)) => {
                let fh = self.held[site][at].fh;
                self.write_held(site, fh, *len)
            }
            (Held::Read, Some(at), _) => self.read_held(site, at).map(drop),
            (Held::Fsync, _, Some(at)) => {
                let tokens = self.read_held(site, at)?;
                self.sites[site].fsync(self.held[site][at].fh)?;
                self.are_durable(&tokens);
                Ok(())
            }
            (Held::Close, Some(at), _) => {
                self.let_go(site, at);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn hold(&mut self, site: usize, path: &str, how: OpenMode) -> Result<()> {
        let rig = &self.sites[site];
        let fh = rig.open(path, how)?;
        let lent = rig.lent(fh, false).filter(|_| !how.write);
        let lent = match lent {
            Some(loan) => {
                let tokens = self.parsed(site, &loan.read())?;
                Some((loan, tokens, self.cuts[site]))
            }
            None => None,
        };
        self.held[site].push(HeldFile { fh, writes: how.write, lent });
        if self.held[site].len() > HELD_MAX {
            self.let_go(site, 0);
        }
        Ok(())
    }

    pub(super) fn let_go(&mut self, site: usize, at: usize) {
        let HeldFile { fh, lent, .. } = self.held[site].remove(at);
        drop(lent);
        self.sites[site].close(fh);
    }

    /// All of it, which is one state of the file.
    fn read_held(&mut self, site: usize, at: usize) -> Result<Tokens> {
        let held = &self.held[site][at];
        let bytes = match &held.lent {
            Some((loan, ..)) => loan.read(),
            None => self.sites[site].read_at(held.fh, 0, 1 << 24)?,
        };
        let found = self.parsed(site, &bytes)?;
        if let Some((_, had, cuts)) = &self.held[site][at].lent
            && *cuts == self.cuts[site]
            && !had.is_subset(&found)
        {
            let told = format!("an open file at {site} had {had:?} and has {found:?}");
            return Err(Error::new(ErrorKind::Invalid, "read").at(told));
        }
        Ok(found)
    }

    fn parsed(&mut self, site: usize, bytes: &[u8]) -> Result<Tokens> {
        (0..2).for_each(|site| self.note_missing(site));
        self.parse(bytes).map_err(|wrong| {
            Error::new(ErrorKind::Invalid, "read").at(format!("an open file at {site}: {wrong}"))
        })
    }

    /// Maps a file, if the kernel has it to give. What is to be written is zeros before.
    fn map(&mut self, site: usize, path: &str, len: usize) -> Result<()> {
        if !self.sites[site].lends
            || !self.online[site]
            || self.sites[site].find(path)?.kind != Kind::File
        {
            return Ok(());
        }
        let before = self.seen(site, path)?;
        let number = self.token(site, len);
        let end = self.tokens[number].offset + len as u64;
        let rig = &self.sites[site];
        let size = rig.find(path)?.size;
        rig.edit(path, size, &vec![0; end.saturating_sub(size) as usize])?;
        self.note(site, path, before);
        self.sync(site)?;
        // What comes from the share has no holes here.
        let rig = &self.sites[site];
        rig.evict(path)?;
        rig.read(path)?;
        let reader = rig.open(path, READ)?;
        let opened = rig.lent(reader, false).map(|_| rig.open(path, READ_WRITE));
        rig.close(reader);
        let Some(opened) = opened else { return Ok(()) };
        let fh = opened?;
        let found = rig.lent(fh, true).zip(rig.content_at(path));
        let Some((loan, content)) = found else {
            rig.close(fh);
            return Ok(());
        };
        let path = path.to_owned();
        self.mapped[site].push(Mapping { fh: Some(fh), loan, path, content, number: Some(number) });
        Ok(())
    }

    /// A write that nobody tells of; where the file is another one by now, or was cut, none.
    fn write_mapped(&mut self, site: usize) -> Result<()> {
        let waiting = self.mapped[site].iter_mut().rev().find(|mapping| mapping.number.is_some());
        let Some(mapping) = waiting else { return Ok(()) };
        let rig = &self.sites[site];
        let Some(changed) = rig.mtime(&mapping.path) else { return Ok(()) };
        if rig.content_at(&mapping.path) != Some(mapping.content) {
            return Ok(());
        }
        let number = mapping.number.take().expect("just looked");
        let token = &mut self.tokens[number];
        if !mapping.loan.write(&token.bytes, token.offset, rig.tick()) {
            return Ok(());
        }
        (token.durable, token.site, token.wanted) = (false, site, true);
        self.unsafe_puts[site].insert(number);
        self.unseen.insert(changed);
        self.states.remove(&changed);
        self.told.mapped += 1;
        let path = mapping.path.clone();
        self.did(site, &Ok(()), |tree| hold(tree, &path, number))
    }

    fn unmap(&mut self, site: usize, mapping: Mapping) {
        drop(mapping.loan);
        if let Some(fh) = mapping.fh {
            self.sites[site].close(fh);
        }
    }

    pub(super) fn unmap_all(&mut self, site: usize) {
        while let Some(mapping) = self.mapped[site].pop() {
            self.unmap(site, mapping);
        }
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
