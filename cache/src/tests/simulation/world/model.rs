//! What a site may have made, by the answers it gave.

use super::{Mode, Tokens, World};
use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;

/// What a site made: files with the writes they hold, directories with `None`.
pub(super) type Tree = BTreeMap<String, Option<Tokens>>;

impl World {
    /// Changes the models as the answer says: those in which it could not have been are no more.
    pub(super) fn did(
        &mut self,
        site: usize,
        done: &Result<()>,
        change: impl Fn(&mut Tree) -> Option<()>,
    ) -> Result<()> {
        let changed = |tree: &Tree| {
            let mut tree = tree.clone();
            change(&mut tree).map(|()| tree)
        };
        let models = &mut self.models[site];
        let after: Vec<Tree> = match done {
            Ok(()) => models.iter().filter_map(changed).collect(),
            Err(error) if is_refusal(error.kind) => {
                models.iter().filter(|tree| changed(tree).is_none()).cloned().collect()
            }
            Err(_) => models.iter().filter_map(changed).chain(models.iter().cloned()).collect(),
        };
        if self.mode == Mode::Apart {
            if after.is_empty() {
                let told = format!("answered {done:?}, which cannot be: {models:?}");
                return Err(Error::new(ErrorKind::Invalid, "follow").at(told));
            }
            *models = after;
            models.sort();
            models.dedup();
        }
        match done {
            Ok(()) => Ok(()),
            Err(error) => Err(Error::new(error.kind, "do a step").at(error.to_string())),
        }
    }
}

/// What a user meets now and then, and what a share out of reach says.
pub(super) fn is_usual(kind: ErrorKind) -> bool {
    is_refusal(kind)
        || matches!(
            kind,
            ErrorKind::Offline
                | ErrorKind::NoSpace
                | ErrorKind::Stale
                | ErrorKind::Timeout
                | ErrorKind::PermissionDenied
                | ErrorKind::Io
        )
}

/// It was not done, because of what is there.
pub(super) fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::Exists
            | ErrorKind::NotEmpty
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::Loop
    )
}

pub(super) fn has_parent(tree: &Tree, path: &str) -> bool {
    path.rsplit_once('/').is_none_or(|(dir, _)| tree.get(dir) == Some(&None))
}

pub(super) fn children(tree: &Tree, path: &str) -> usize {
    let inside = format!("{path}/");
    tree.keys().filter(|other| other.starts_with(&inside)).count()
}

pub(super) fn make(tree: &mut Tree, path: &str, node: Option<Tokens>) -> Option<()> {
    let may = has_parent(tree, path) && !tree.contains_key(path);
    may.then(|| tree.insert(path.to_owned(), node)).map(drop)
}

pub(super) fn hold(tree: &mut Tree, path: &str, token: usize) -> Option<()> {
    tree.get_mut(path)?.as_mut()?.insert(token);
    Some(())
}
