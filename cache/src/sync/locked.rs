//! Files that another client keeps locked on the share (X3). Nothing of ours replaces, moves or
//! removes them meanwhile. `status` says so from the first refusal on; what is to be uploaded goes
//! beside its file after a quarter of an hour, and `covefs unlock` takes the lock away. How long it
//! has been is not kept over a restart.

use super::Failure;
use super::plan::View;
use super::run::Outcome;
use crate::attr::Ino;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::node::{Node, Place};
use crate::vfs::Vfs;
use covefs_remote::attempt::in_foreground;
use covefs_remote::{Error as RemoteError, ErrorKind as RemoteKind, Kind, Remote, RemotePath};

impl Vfs {
    /// A replace, or a rename over a file, was refused because the file at `path` is locked.
    pub(super) async fn resolve_locked(
        &self,
        view: &View,
        place: &Place,
        path: &RemotePath,
        error: RemoteError,
    ) -> Result<Outcome> {
        let failure = self.sync.failure(view.node.ino);
        let met = failure.and_then(|failure| failure.locked_for()).unwrap_or_default();
        if met < limits::LOCKED {
            return self.retry(error);
        }
        // The lock keeps nobody from reading: a copy has all bytes, or waits for them.
        let whole = !view.node.dirty_content
            || self.complete(&view.node).await? && self.is_whole(&view.node)?;
        let Some(found) = self.look(path).await?.filter(|_| whole) else {
            return self.retry(error);
        };
        let why = "another client kept it locked";
        match view.node.base {
            Some(_) if view.node.is_moved() => self.beside(view, place, &found, why).await,
            _ => self.step_aside(view, place, why, Some(&found)).await,
        }
    }

    fn is_whole(&self, node: &Node) -> Result<bool> {
        let file = self.bytes_of(&mut self.tree(), node)?;
        Ok(file.is_none_or(|file| file.lock().is_whole()))
    }

    /// Takes away the lock that another client has on a file of the share, and goes on with what
    /// waits for it. Error `Refused` where nobody has one, and where there are no such locks.
    pub async fn unlock(&self, path: &RemotePath) -> Result<()> {
        if self.config.read_only {
            return Err(Error::refused("unlock", "the drive is read-only".into()));
        }
        let node = self.find_to_unlock(path).await?;
        if node.kind == Kind::Dir {
            return Err(Error::refused(
                "unlock",
                "it is a directory: only files are locked".into(),
            ));
        }
        let mut unlocked = false;
        for there in self.paths_there(&node)? {
            match in_foreground(self.remote.unlock(&there)).await {
                Ok(had_one) => unlocked |= had_one,
                Err(error) if error.kind == RemoteKind::NotFound => {}
                Err(error) if error.kind == RemoteKind::Unsupported => {
                    let why = "this kind of share has no locks that could be taken away".into();
                    return Err(Error::refused("unlock", why));
                }
                Err(error) => {
                    self.reach.failed(error.kind);
                    return Err(error.into());
                }
            }
        }
        self.sync.poke_now(node.ino);
        match unlocked {
            true => Ok(()),
            false => Err(Error::refused("unlock", "no other client keeps it locked".into())),
        }
    }

    /// The file of this name; or the one that was removed here and that the share still has.
    async fn find_to_unlock(&self, path: &RemotePath) -> Result<Node> {
        let missing = match self.find(path).await {
            Err(error) if error.kind == ErrorKind::NotFound => error,
            found => return found,
        };
        let Some((dir, name)) = path.split() else { return Err(missing) };
        let dir = self.find(&dir).await?;
        self.tree().base_child(&Place::new(dir.ino, name))?.ok_or(missing)
    }

    /// Where the share may have a file that keeps this node from going up.
    fn paths_there(&self, node: &Node) -> Result<Vec<RemotePath>> {
        let mut tree = self.tree();
        let mut paths: Vec<RemotePath> = tree.base_path(node.ino)?.into_iter().collect();
        if let Some(place) = &node.place
            && let Some(path) = tree.remote_path_of(place)?
            && !paths.contains(&path)
        {
            paths.push(path);
        }
        Ok(paths)
    }

    /// What `status` says of files that others keep locked.
    pub(crate) fn locked_messages(&self) -> Vec<String> {
        let mut locked = self.sync.locked();
        locked.sort_by_key(|(_, failure)| failure.locked);
        let more = locked.len().saturating_sub(limits::LOCKED_NAMED);
        let named = locked.iter().take(limits::LOCKED_NAMED);
        let mut messages: Vec<String> =
            named.map(|(ino, failure)| self.locked_in_words(*ino, failure)).collect();
        if more > 0 {
            messages.push(format!("{more} more files are kept locked by other clients"));
        }
        messages
    }

    /// Which file, for how long, what happens then, and what can be done.
    pub(crate) fn locked_in_words(&self, ino: Ino, failure: &Failure) -> String {
        let (node, here, there) = {
            let mut tree = self.tree();
            let node = tree.get(ino).ok().flatten();
            (node, tree.path(ino).ok().flatten(), tree.base_path(ino).ok().flatten())
        };
        // A removed file has only the name that the share still knows.
        let mark = if here.is_some() { "" } else { " (removed here)" };
        let path = here.or(there).unwrap_or_default().to_string();
        let path = self.config.mountpoint.join(path.trim_start_matches('/'));
        let path = path.display();
        let met = failure.locked_for().unwrap_or_default();
        let left = limits::LOCKED.saturating_sub(met).as_secs().div_ceil(60);
        let goes_up = node.is_some_and(|node| node.place.is_some() && node.dirty_content);
        let then = match goes_up && left > 0 {
            true => format!("in {left} minutes ours goes up beside it"),
            false => "it is tried again".to_owned(),
        };
        let met = met.as_secs() / 60;
        format!(
            "{path}{mark}: another client has kept it locked for {met} minutes; {then}; to take the \
             lock away: covefs unlock {path}"
        )
    }
}
