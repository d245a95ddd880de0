//! The directory tree of a share. Copying one is cheap: nodes are shared until they change.

use super::SMB_DEFAULT_PERMISSION;
use super::node::{Attributes, Kind, Node};
use crate::error::{Error, Result};
use crate::names::fold;
use crate::time::Ticks;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The id of each share's root directory.
pub const ROOT: u64 = 0;

/// A name in a directory.
#[derive(Clone, Serialize, Deserialize)]
pub struct Entry {
    /// With its case.
    pub name: String,
    /// What it names.
    pub id: u64,
}

/// Directories and files by id.
#[derive(Clone, Serialize, Deserialize)]
pub struct Tree {
    nodes: HashMap<u64, Arc<Node>>,
    /// NFS shares tell `a` from `A`.
    case_sensitive: bool,
}

impl Tree {
    /// A root directory alone.
    pub fn new(now: Ticks, case_sensitive: bool) -> Tree {
        let mut tree = Tree { nodes: HashMap::new(), case_sensitive };
        let directory = Kind::Directory(BTreeMap::new());
        let root = Node::new(ROOT, ROOT, directory, Attributes::DIRECTORY, now);
        tree.put(Node { permission_key: SMB_DEFAULT_PERMISSION.to_owned(), ..root });
        tree
    }

    /// The text by which this share compares names.
    pub fn key(&self, name: &str) -> String {
        if self.case_sensitive { name.to_owned() } else { fold(name) }
    }

    /// A node that is known to be there.
    pub fn node(&self, id: u64) -> &Node {
        self.nodes.get(&id).expect("an id in a tree is of a node in it")
    }

    /// A node that is known to be there, to change.
    pub fn node_mut(&mut self, id: u64) -> &mut Node {
        Arc::make_mut(self.nodes.get_mut(&id).expect("an id in a tree is of a node in it"))
    }

    /// Whether there is a node of that id.
    pub fn has(&self, id: u64) -> bool {
        self.nodes.contains_key(&id)
    }

    /// All nodes, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(Arc::as_ref)
    }

    /// The ids of all nodes, in no order.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// All nodes, in no order, to change.
    pub fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.values_mut().map(Arc::make_mut)
    }

    /// Adds or replaces a node.
    pub fn put(&mut self, node: Node) {
        self.nodes.insert(node.id, Arc::new(node));
    }

    /// The entries of a directory, by folded name.
    pub fn entries(&self, dir: u64) -> &BTreeMap<String, Entry> {
        match &self.node(dir).kind {
            Kind::Directory(entries) => entries,
            _ => unreachable!("only directories are asked for entries"),
        }
    }

    fn entries_mut(&mut self, dir: u64) -> &mut BTreeMap<String, Entry> {
        match &mut self.node_mut(dir).kind {
            Kind::Directory(entries) => entries,
            _ => unreachable!("only directories are asked for entries"),
        }
    }

    /// What a directory has under that name.
    pub fn child(&self, dir: u64, name: &str) -> Option<&Entry> {
        self.entries(dir).get(&self.key(name))
    }

    /// The directory that a path's last name is in.
    pub fn parent(&self, path: &[String]) -> Result<u64> {
        let mut dir = ROOT;
        for name in path.split_last().map_or(path, |(_, parents)| parents) {
            let entry = self.child(dir, name).ok_or_else(|| Error::new("ParentNotFound"))?;
            if !self.node(entry.id).is_directory() {
                return Err(Error::new("ParentNotFound"));
            }
            dir = entry.id;
        }
        Ok(dir)
    }

    /// What a path names, if anything; its directory must be there.
    pub fn find(&self, path: &[String]) -> Result<Option<u64>> {
        let Some(name) = path.last() else { return Ok(Some(ROOT)) };
        let dir = self.parent(path)?;
        Ok(self.child(dir, name).map(|entry| entry.id))
    }

    /// What a path names.
    pub fn resolve(&self, path: &[String]) -> Result<u64> {
        self.find(path)?.ok_or_else(|| Error::new("ResourceNotFound"))
    }

    /// The directory that a path names.
    pub fn directory(&self, path: &[String]) -> Result<u64> {
        let id = self.resolve(path)?;
        match self.node(id).is_directory() {
            true => Ok(id),
            false => Err(Error::new("ResourceTypeMismatch")),
        }
    }

    /// The file or link that a path names.
    pub fn file(&self, path: &[String]) -> Result<u64> {
        let id = self.resolve(path)?;
        match self.node(id).is_directory() {
            false => Ok(id),
            true => Err(Error::new("ResourceTypeMismatch")),
        }
    }

    /// Names a node that is in the tree.
    pub fn link(&mut self, dir: u64, name: &str, id: u64) {
        let key = self.key(name);
        let name = name.to_owned();
        let before = self.entries_mut(dir).insert(key, Entry { name, id });
        assert!(before.is_none(), "a name is free before it is given");
        if self.node(id).parent != dir {
            self.node_mut(id).parent = dir;
        }
    }

    /// Takes a name away, and the node, if that was its last.
    pub fn unlink(&mut self, dir: u64, name: &str) {
        let key = self.key(name);
        let entry = self.entries_mut(dir).remove(&key).expect("a name is there before it goes");
        self.lose_name(entry.id, dir);
    }

    /// A node has one name less, which was in `dir`.
    fn lose_name(&mut self, id: u64, dir: u64) {
        if self.node(id).links == 1 {
            self.nodes.remove(&id);
            return;
        }
        self.node_mut(id).links -= 1;
        if self.node(id).parent == dir {
            let names_it = |node: &&Node| match &node.kind {
                Kind::Directory(entries) => entries.values().any(|entry| entry.id == id),
                _ => false,
            };
            let parent = self.nodes().find(names_it).map(|node| node.id);
            self.node_mut(id).parent = parent.expect("a node with a link left has a name left");
        }
    }

    /// Takes a name away and, if it is a directory's, all that is in it.
    pub fn unlink_tree(&mut self, dir: u64, name: &str) {
        let id = self.child(dir, name).expect("a name is there before it goes").id;
        if self.node(id).is_directory() {
            let below: Vec<String> =
                self.entries(id).values().map(|entry| entry.name.clone()).collect();
            for name in below {
                self.unlink_tree(id, &name);
            }
        }
        self.unlink(dir, name);
    }

    /// Makes a name, which keeps its case, the name of another node; what it named goes.
    pub fn exchange(&mut self, dir: u64, name: &str, id: u64) {
        let key = self.key(name);
        let entry = self.entries_mut(dir).get_mut(&key).expect("a name is there to be exchanged");
        let old = std::mem::replace(&mut entry.id, id);
        self.lose_name(old, dir);
    }

    /// Takes back a node that never had a name.
    pub fn forget(&mut self, id: u64) {
        self.nodes.remove(&id);
    }

    /// Moves a name; the node keeps its id.
    pub fn rename(&mut self, from: (u64, &str), to: (u64, &str)) {
        let key = self.key(from.1);
        let entry = self.entries_mut(from.0).remove(&key).expect("a name is there before it goes");
        self.link(to.0, to.1, entry.id);
    }

    /// Whether `dir` is `of` or lies below it.
    pub fn is_within(&self, dir: u64, of: u64) -> bool {
        let mut at = dir;
        while at != of && at != ROOT {
            at = self.node(at).parent;
        }
        at == of
    }

    /// All that a directory holds at any depth: paths and ids, parents before children.
    pub fn walk(&self, dir: u64) -> Vec<(String, u64)> {
        let mut found: Vec<(String, u64)> = Vec::new();
        let mut dirs = vec![(String::new(), dir)];
        while let Some((path, dir)) = dirs.pop() {
            for entry in self.entries(dir).values() {
                let below = if path.is_empty() {
                    entry.name.clone()
                } else {
                    format!("{path}/{}", entry.name)
                };
                if self.node(entry.id).is_directory() {
                    dirs.push((below.clone(), entry.id));
                }
                found.push((below, entry.id));
            }
        }
        found
    }

    /// How many bytes hold data.
    pub fn allocated_bytes(&self) -> u64 {
        let of = |node: &Node| node.file().map_or(0, |file| file.content.allocated_bytes());
        self.nodes().map(of).sum()
    }
}
