//! What users do with files, at a site or from outside, and what the model makes of the answers.

use super::super::User;
use super::model::{children, has_parent, hold, is_refusal, make};
use super::{LOOKS, Outcome, Tokens, World};
use crate::error::{Error, ErrorKind, Result};
use crate::tests::rig::*;
use covefs_remote::Kind;
use covefs_remote::memory::Entry;

impl World {
    pub(super) fn use_it(&mut self, site: usize, act: &User) -> Result<()> {
        let rig = &self.sites[site];
        match act {
            User::Create(path) => self.create(site, path),
            User::Write(path, len) => {
                if self.sites[site].is_free(path).is_ok() {
                    self.create(site, path)?;
                }
                let token = self.token(site, *len);
                self.put(site, path, token)
            }
            User::Copy(from, to, len) => self.copy(site, from, to, *len),
            User::Truncate(path, which) => self.truncate(site, path, *which),
            User::Move(from, to) => self.mv(site, from, to),
            User::Exchange(one, other) => self.exchange(site, one, other),
            User::Remove(path) => self.remove(site, path),
            User::MakeDir(path) => {
                let done = rig.mkdir(path);
                self.did(site, &done, |tree| make(tree, path, None))
            }
            User::RemoveDir(path) => {
                let done = rig.rmdir(path);
                self.did(site, &done, |tree| {
                    let is_dir = tree.get(path) == Some(&None) && children(tree, path) == 0;
                    is_dir.then(|| tree.remove(path)).map(drop)
                })
            }
            User::Chmod(path, mode) => rig.chmod(path, *mode),
            User::Read(path) => self.read(site, path).map(drop),
            User::Evict(path) => rig.evict(path).map(drop),
            User::Fsync(path) => {
                rig.on(path, |fh| rig.fsync(fh))?;
                let held = self.seen(site, path)?;
                self.are_durable(&held);
                Ok(())
            }
            User::List => rig.paths().map(drop),
        }
    }

    pub(super) fn are_durable(&mut self, tokens: &Tokens) {
        tokens.iter().for_each(|token| self.tokens[*token].durable = true);
    }

    fn exchange(&mut self, site: usize, one: &str, other: &str) -> Result<()> {
        let done = self.sites[site].exchange(one, other);
        self.did(site, &done, |tree| {
            let (first, second) = (tree.get(one)?.clone(), tree.get(other)?.clone());
            if first.is_none() || second.is_none() {
                return None;
            }
            tree.insert(one.to_owned(), second);
            tree.insert(other.to_owned(), first);
            Some(())
        })
    }

    pub(super) fn create(&mut self, site: usize, path: &str) -> Result<()> {
        let rig = &self.sites[site];
        let how = crate::attr::OpenMode { exclusive: true, ..WRITE };
        let made = rig.is_free(path).and_then(|()| rig.create(path, how));
        let done = made.map(|fh| rig.close(fh));
        if done.is_ok() {
            self.note(site, path, Tokens::new());
        }
        self.did(site, &done, |tree| make(tree, path, Some(Tokens::new())))
    }

    /// The file holds this, as it is now.
    pub(super) fn note(&mut self, site: usize, path: &str, tokens: Tokens) {
        // Another site's file that has just taken the name is known already.
        let mtime = self.sites[site].mtime(path);
        if let Some(mtime) = mtime.filter(|mtime| !self.unseen.contains(mtime)) {
            self.states.entry(mtime).or_insert(tokens);
        }
    }

    /// What a user of the site would find in the file, without reading it if that can be.
    pub(super) fn seen(&mut self, site: usize, path: &str) -> Result<Tokens> {
        let mtime = self.sites[site].mtime(path);
        match mtime.and_then(|mtime| self.states.get(&mtime)) {
            Some(tokens) => Ok(tokens.clone()),
            None => self.read(site, path),
        }
    }

    /// Does something to what a user of the site sees under a name, and tells what that was.
    pub(super) fn knowing<T>(
        &mut self,
        site: usize,
        path: &str,
        act: impl Fn(&Rig) -> Result<T>,
    ) -> Result<(Tokens, Result<T>)> {
        for _ in 0..LOOKS {
            let changed = self.sites[site].mtime(path);
            let seen = self.seen_at(site, path)?;
            if let Some(done) = self.sites[site].while_seen(path, changed, &act) {
                return Ok((seen, done));
            }
        }
        Err(Error::new(ErrorKind::Stale, "see a file that stays the same"))
    }

    /// The same; nothing where there is no file.
    pub(super) fn seen_at(&mut self, site: usize, path: &str) -> Result<Tokens> {
        match self.sites[site].find(path) {
            Ok(attr) if attr.kind == Kind::File => self.seen(site, path),
            Ok(_) => Ok(Tokens::new()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Tokens::new()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn read(&mut self, site: usize, path: &str) -> Result<Tokens> {
        let bytes = self.sites[site].read(path)?;
        (0..2).for_each(|site| self.note_missing(site));
        self.parse(&bytes).map_err(|wrong| {
            Error::new(ErrorKind::Invalid, "read").at(format!("{path} at {site}: {wrong}"))
        })
    }

    /// The writes that these bytes hold; an error when they hold anything else.
    pub(super) fn parse(&self, bytes: &[u8]) -> Outcome<Tokens> {
        let mut found = Tokens::new();
        let mut end = 0;
        for (number, token) in self.tokens.iter().enumerate() {
            let start = (token.offset as usize).min(bytes.len());
            end = (token.offset as usize + token.bytes.len()).min(bytes.len());
            let part = &bytes[start..end];
            if part == token.bytes {
                found.insert(number);
            } else if part.iter().any(|byte| *byte != 0) {
                let told = |at: usize| self.missing.contains(&(at as u64..at as u64 + 1));
                let mut bytes = part.iter().zip(&token.bytes).enumerate();
                let known = bytes.all(|(at, (found, wrote))| {
                    found == wrote || *found == 0 && (token.torn || told(start + at))
                });
                if !known {
                    return Err(format!("a part of write {number} only, from {start} on"));
                }
            }
        }
        match bytes[end..].iter().any(|byte| *byte != 0) {
            true => Err("bytes that nobody wrote".into()),
            false => Ok(found),
        }
    }

    pub(super) fn put(&mut self, site: usize, path: &str, number: usize) -> Result<()> {
        let rig = &self.sites[site];
        let fh = match rig.open(path, WRITE) {
            Ok(fh) => fh,
            Err(error) => {
                // Nothing was made: the same as if it had not been tried.
                return match is_refusal(error.kind) {
                    true => self.did(site, &Err(error), |tree| hold(tree, path, number)),
                    false => Err(error),
                };
            }
        };
        let before = self.seen(site, path).ok();
        self.unsafe_puts[site].insert(number);
        let (rig, token) = (&self.sites[site], &self.tokens[number]);
        let done = rig.write_at(fh, token.offset, &token.bytes);
        rig.close(fh);
        let token = &mut self.tokens[number];
        match &done {
            Ok(()) => {
                if !token.wanted {
                    // From now on it is this site that has to keep it.
                    (token.durable, token.site, token.wanted) = (false, site, true);
                }
            }
            Err(_) => token.torn = true,
        }
        match before.filter(|_| done.is_ok()) {
            Some(mut tokens) => {
                tokens.insert(number);
                self.note(site, path, tokens);
            }
            None => {
                let mtime = self.sites[site].mtime(path);
                mtime.map(|mtime| self.states.remove(&mtime));
            }
        }
        self.did(site, &done, |tree| hold(tree, path, number))
    }

    pub(super) fn copy(&mut self, site: usize, from: &str, to: &str, len: usize) -> Result<()> {
        let tokens = self.read(site, from)?;
        if self.sites[site].find(to).is_ok() {
            self.cut(site, to, 0)?;
        } else {
            self.create(site, to)?;
        }
        for token in tokens {
            self.put(site, to, token)?;
        }
        let token = self.token(site, len);
        self.put(site, to, token)
    }

    pub(super) fn truncate(&mut self, site: usize, path: &str, which: u64) -> Result<()> {
        let ends: Vec<u64> = self.tokens.iter().map(|token| token.offset).collect();
        let size = match ends.len() {
            0 => 0,
            count => ends[which as usize % count],
        };
        self.cut(site, path, size)
    }

    pub(super) fn cut(&mut self, site: usize, path: &str, size: u64) -> Result<()> {
        self.sites[site].find(path)?;
        self.cuts[site] += 1;
        let (before, done) = self.knowing(site, path, |rig| rig.resize(path, size))?;
        let (kept, lost): (Tokens, Tokens) =
            before.into_iter().partition(|token| self.tokens[*token].offset < size);
        if !done.as_ref().is_err_and(|error| is_refusal(error.kind)) {
            self.unwanted(&lost);
        }
        if done.is_ok() {
            self.note(site, path, kept);
        }
        let offsets: Vec<u64> = self.tokens.iter().map(|token| token.offset).collect();
        self.did(site, &done, |tree| {
            let tokens = tree.get_mut(path)?.as_mut()?;
            tokens.retain(|token| offsets[*token] < size);
            Some(())
        })
    }

    /// Somebody who had them removed them.
    pub(super) fn unwanted(&mut self, tokens: &Tokens) {
        tokens.iter().for_each(|token| self.tokens[*token].wanted = false);
    }

    pub(super) fn mv(&mut self, site: usize, from: &str, to: &str) -> Result<()> {
        let (mut replaced, done) = self.knowing(site, to, |rig| rig.mv(from, to))?;
        if from == to {
            replaced.clear();
        }
        if !done.as_ref().is_err_and(|error| is_refusal(error.kind)) {
            self.unwanted(&replaced);
        }
        self.did(site, &done, |tree| {
            let moving = tree.get(from)?.clone();
            let target = tree.get(to).cloned();
            if !has_parent(tree, to) || to.starts_with(&format!("{from}/")) {
                return None;
            }
            if from == to {
                return Some(());
            }
            match (&moving, &target) {
                (_, None) | (Some(_), Some(Some(_))) => {}
                (None, Some(None)) if children(tree, to) == 0 => {}
                _ => return None,
            }
            let inside = format!("{from}/");
            let below: Vec<String> =
                tree.keys().filter(|path| path.starts_with(&inside)).cloned().collect();
            tree.remove(from);
            tree.insert(to.to_owned(), moving);
            for path in below {
                let node = tree.remove(&path).expect("listed");
                tree.insert(format!("{to}/{}", &path[inside.len()..]), node);
            }
            Some(())
        })
    }

    pub(super) fn remove(&mut self, site: usize, path: &str) -> Result<()> {
        let (seen, done) = self.knowing(site, path, |rig| rig.rm(path))?;
        if !done.as_ref().is_err_and(|error| is_refusal(error.kind)) {
            self.unwanted(&seen);
        }
        self.did(site, &done, |tree| {
            let is_file = tree.get(path)?.is_some();
            is_file.then(|| tree.remove(path)).map(drop)
        })
    }

    pub(super) fn write_outside(&mut self, path: &str, len: usize) -> Option<usize> {
        let memory = self.sites[0].memory.clone();
        let tree = memory.tree();
        let at = crate::tests::rig::path(path);
        let mut bytes = match tree.get(&at) {
            Some(Entry::File(bytes)) => bytes.to_vec(),
            Some(_) => return None,
            None => Vec::new(),
        };
        if at.split().is_some_and(|(dir, _)| !dir.is_root() && tree.get(&dir) != Some(&Entry::Dir))
        {
            return None;
        }
        let number = self.token(2, len);
        let token = &mut self.tokens[number];
        (token.wanted, token.durable) = (true, true);
        let (start, end) = (token.offset as usize, token.offset as usize + len);
        bytes.resize(bytes.len().max(end), 0);
        bytes[start..end].copy_from_slice(&token.bytes);
        memory.write_file(&at, bytes.clone());
        Some(number)
    }

    pub(super) fn remove_outside(&mut self, path: &str) -> Result<()> {
        let memory = self.sites[0].memory.clone();
        let at = crate::tests::rig::path(path);
        if let Some(bytes) = memory.read_file(&at) {
            let seen = self.parse(&bytes).map_err(|wrong| {
                Error::new(ErrorKind::Invalid, "remove").at(format!("{path}: {wrong}"))
            })?;
            self.unwanted(&seen);
            memory.remove_path(&at);
        }
        Ok(())
    }
}
