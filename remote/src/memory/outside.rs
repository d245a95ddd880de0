//! A hand for tests: what somebody else does to the share in memory, and a look at all of it.

use super::MemoryRemote;
use super::tree::{Body, ROOT, Tree};
use crate::{Attrs, Change, RemotePath};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What stands at a path, as `MemoryRemote::tree` tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A directory.
    Dir,
    /// A file with these bytes.
    File(Bytes),
    /// A symlink holding this.
    Symlink(Vec<u8>),
}

impl MemoryRemote {
    /// From outside: writes a file in place (its number stays), making it and the directories
    /// above it where there are none. Panics where a directory or symlink is in the way.
    pub fn write_file(&self, path: &RemotePath, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let mut state = self.state();
        let tree = &mut state.tree;
        let (parent, _) = path.split().expect("a file has a name");
        let made = make_dirs(tree, &parent);
        let (parent, name, held) = tree.slot(path).expect("its directories were just made");
        match held {
            Some(id) => {
                assert!(tree.content(id).is_ok(), "{path} is no file");
                tree.set_content(id, bytes);
            }
            None => {
                let id = tree.insert(Body::File(bytes));
                tree.link(parent, &name, id);
            }
        }
        drop(state);
        self.tell_all(made.into_iter().chain([path.clone()]));
    }

    fn tell_all(&self, paths: impl IntoIterator<Item = RemotePath>) {
        paths.into_iter().for_each(|path| self.tell(Change::At(path)));
    }

    /// From outside: writes bytes of the same number into a file and sets its time back, as some
    /// programs do for every file that they change. Panics where there is no such file.
    pub fn write_file_quietly(&self, path: &RemotePath, bytes: impl Into<Bytes>) {
        let mut state = self.state();
        let tree = &mut state.tree;
        let id = tree.resolve(path).expect("there is a file");
        let before = tree.metadata(id, false);
        tree.set_content(id, bytes.into());
        tree.set_attrs(id, &Attrs { mtime: Some(before.mtime), ..Attrs::default() });
        assert_eq!(tree.version(id).content, before.version.content, "of the same number");
        drop(state);
        self.tell_all([path.clone()]);
    }

    /// From outside: whether a file's last write is too recent to tell it from the next one. Panics
    /// where there is nothing.
    pub fn set_young(&self, path: &RemotePath, young: bool) {
        let mut state = self.state();
        let id = state.tree.resolve(path).expect("there is something");
        state.tree.set_young(id, young);
    }

    /// From outside: writes bytes of the same number into a file within the tick of its last change:
    /// its mark stays. Panics where there is no such file.
    pub fn write_file_again(&self, path: &RemotePath, bytes: impl Into<Bytes>) {
        let mut state = self.state();
        let tree = &mut state.tree;
        let id = tree.resolve(path).expect("there is a file");
        let before = tree.version(id);
        tree.set_content_again(id, bytes.into());
        assert_eq!(tree.version(id), before, "of the same number");
        drop(state);
        self.tell_all([path.clone()]);
    }

    /// From outside: sets attributes. Panics where there is nothing.
    pub fn set_attrs_of(&self, path: &RemotePath, attrs: &Attrs) {
        let mut state = self.state();
        let id = state.tree.resolve(path).expect("there is something");
        state.tree.set_attrs(id, attrs);
        drop(state);
        self.tell_all([path.clone()]);
    }

    /// From outside: a directory and all above it, where there are none.
    pub fn write_dir(&self, path: &RemotePath) {
        let made = make_dirs(&mut self.state().tree, path);
        self.tell_all(made);
    }

    /// The bytes of a file; `None` where there is no file.
    pub fn read_file(&self, path: &RemotePath) -> Option<Bytes> {
        let state = self.state();
        state.tree.resolve(path).and_then(|id| state.tree.content(id)).ok()
    }

    /// From outside: removes an entry with all below it; whether there was one.
    pub fn remove_path(&self, path: &RemotePath) -> bool {
        let mut state = self.state();
        let Ok((parent, name, Some(id))) = state.tree.slot(path) else {
            return false;
        };
        state.tree.unlink(parent, &name);
        state.tree.forget(id);
        drop(state);
        self.tell_all([path.clone()]);
        true
    }

    /// From outside: moves an entry over whatever is at `to`; whether there was one and a
    /// directory to put it in.
    pub fn move_path(&self, from: &RemotePath, to: &RemotePath) -> bool {
        let mut state = self.state();
        let Ok((old_parent, old_name, Some(id))) = state.tree.slot(from) else {
            return false;
        };
        let Ok((parent, name, _)) = state.tree.slot(to) else {
            return false;
        };
        state.tree.unlink(old_parent, &old_name);
        state.tree.link(parent, &name, id);
        drop(state);
        self.tell_all([from.clone(), to.clone()]);
        true
    }

    /// From outside: somebody keeps what has this path locked, until `unlock`.
    pub fn lock_path(&self, path: &RemotePath) {
        self.state().locked.insert(path.clone());
    }

    /// Time goes by.
    pub fn pass(&self, time: std::time::Duration) {
        self.state().tree.pass(time);
    }

    /// Every entry but the root.
    pub fn tree(&self) -> BTreeMap<RemotePath, Entry> {
        let mut found = BTreeMap::new();
        self.state().tree.walk(ROOT, &RemotePath::root(), &mut |path, body| {
            let entry = match body {
                Body::Dir(_) => Entry::Dir,
                Body::File(bytes) => Entry::File(bytes.clone()),
                Body::Symlink(target) => Entry::Symlink(target.clone()),
            };
            found.insert(path, entry);
        });
        found
    }

    /// Plays another share: what `identity` says from now on. The tree stays.
    pub fn set_identity(&self, identity: &str) {
        self.state().identity = identity.into();
    }

    /// Forgets all entries, as an unmounted disk shows it.
    pub fn clear(&self) {
        self.state().tree = Tree::new(self.limits.clone());
        self.tell(Change::Lost);
    }
}

/// Returns what was not there yet.
fn make_dirs(tree: &mut Tree, path: &RemotePath) -> Vec<RemotePath> {
    let mut made = Vec::new();
    let mut above = RemotePath::root();
    for name in path.names() {
        above = above.join(name);
        let (parent, name, held) = tree.slot(&above).expect("its directory was just made");
        if held.is_none() {
            let id = tree.insert(Body::Dir(BTreeMap::new()));
            tree.link(parent, &name, id);
            made.push(above.clone());
        }
    }
    made
}
