//! The tree of the share in memory: nodes by number, names in directories, a clock that ticks.

use crate::{
    Attrs, ContentMark, ErrorKind, Expect, Kind, Limits, Metadata, NameRule, RemotePath, Timestamp,
    Version, Xattrs,
};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

/// The number of the root directory.
pub(super) const ROOT: u64 = 1;

/// When the clock starts: fixed, so that runs repeat.
const EPOCH_SECONDS: i64 = 1_600_000_000;

pub(super) type Outcome<T> = std::result::Result<T, ErrorKind>;

/// The entries of a directory, name and number, by the name's folded form.
pub(super) type Children = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

/// Some entries of a directory, and the folded name of the last when more follow.
pub(super) type Listed = (Vec<(Vec<u8>, Metadata)>, Option<Vec<u8>>);

/// What a node holds.
pub(super) enum Body {
    File(Bytes),
    Dir(Children),
    Symlink(Vec<u8>),
}

struct Node {
    body: Body,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Timestamp,
    ctime: Timestamp,
    atime: Timestamp,
    btime: Timestamp,
    xattrs: Xattrs,
    /// The tick of the last change of anything.
    changed: u64,
    /// What it says of its last write: `Metadata::young`.
    young: bool,
}

/// All nodes. Invariant: every node but the root is named exactly once.
pub(super) struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
    ticks: u64,
    limits: Limits,
}

impl Tree {
    pub(super) fn new(limits: Limits) -> Self {
        let mut tree = Tree { nodes: HashMap::new(), next: ROOT, ticks: 0, limits };
        tree.insert(Body::Dir(BTreeMap::new()));
        tree
    }

    /// One tick is a millisecond, and every change is one: no two states share a time.
    fn tick(&mut self) -> Timestamp {
        self.ticks += 1;
        let seconds = EPOCH_SECONDS + (self.ticks / 1000) as i64;
        Timestamp { seconds, nanos: (self.ticks % 1000) as u32 * 1_000_000 }
    }

    pub(super) fn pass(&mut self, time: std::time::Duration) {
        self.ticks += time.as_millis() as u64;
    }

    pub(super) fn insert(&mut self, body: Body) -> u64 {
        let now = self.tick();
        let mode = match body {
            Body::File(_) => 0o644,
            Body::Dir(_) => 0o755,
            Body::Symlink(_) => 0o777,
        };
        let id = self.next;
        self.next += 1;
        let node = Node {
            body,
            mode,
            uid: 0,
            gid: 0,
            mtime: now,
            ctime: now,
            atime: now,
            btime: now,
            xattrs: Vec::new(),
            changed: self.ticks,
            young: false,
        };
        self.nodes.insert(id, node);
        id
    }

    fn node(&self, id: u64) -> &Node {
        self.nodes.get(&id).expect("every number handed out names a node until it is removed")
    }

    fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("every number handed out names a node until it is removed")
    }

    fn fold(&self, name: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(name) {
            Ok(text) if !self.limits.case_sensitive => text.to_lowercase().into_bytes(),
            _ => name.to_vec(),
        }
    }

    fn children(&self, id: u64) -> Outcome<&Children> {
        match &self.node(id).body {
            Body::Dir(children) => Ok(children),
            Body::File(_) | Body::Symlink(_) => Err(ErrorKind::NotADirectory),
        }
    }

    pub(super) fn resolve(&self, path: &RemotePath) -> Outcome<u64> {
        let mut id = ROOT;
        for name in path.names() {
            let children = self.children(id)?;
            id = children.get(&self.fold(name)).ok_or(ErrorKind::NotFound)?.1;
        }
        Ok(id)
    }

    /// The directory of `path`, its name, and what stands there now. The root has none:
    /// `Unsupported`.
    pub(super) fn slot(&self, path: &RemotePath) -> Outcome<(u64, Vec<u8>, Option<u64>)> {
        let (parent, name) = path.split().ok_or(ErrorKind::Unsupported)?;
        let parent = self.resolve(&parent)?;
        let held = self.children(parent)?.get(&self.fold(name)).map(|(_, id)| *id);
        Ok((parent, name.to_vec(), held))
    }

    pub(super) fn check_name(&self, name: &[u8]) -> Outcome<()> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&0) {
            return Err(ErrorKind::NameInvalid);
        }
        if name.len() > self.limits.name_bytes_max {
            return Err(ErrorKind::NameTooLong);
        }
        match self.limits.names {
            NameRule::Bytes => Ok(()),
            NameRule::Mapped => {
                std::str::from_utf8(name).map(drop).map_err(|_| ErrorKind::NameInvalid)
            }
            NameRule::Windows => {
                let text = std::str::from_utf8(name).map_err(|_| ErrorKind::NameInvalid)?;
                let odd = |letter: char| letter < ' ' || "\\:*?\"<>|".contains(letter);
                match text.contains(odd) || text.ends_with(['.', ' ']) {
                    true => Err(ErrorKind::NameInvalid),
                    false => Ok(()),
                }
            }
        }
    }

    /// Whether `held` is what `expect` says; `missing` is the answer where a version is expected
    /// and nothing stands.
    pub(super) fn check(
        &self,
        held: Option<u64>,
        expect: Expect,
        missing: ErrorKind,
    ) -> Outcome<()> {
        match (expect, held) {
            (Expect::Any, _) | (Expect::Absent, None) => Ok(()),
            (Expect::Absent, Some(_)) => Err(ErrorKind::Exists),
            (Expect::Version(_), None) => Err(missing),
            (Expect::Version(version), Some(id)) => match self.version(id).same_content(&version) {
                true => Ok(()),
                false => Err(ErrorKind::VersionChanged),
            },
        }
    }

    pub(super) fn check_object(&self, id: u64, version: &Version) -> Outcome<()> {
        if self.version(id).same_object(version) { Ok(()) } else { Err(ErrorKind::VersionChanged) }
    }

    pub(super) fn is_dir(&self, id: u64) -> bool {
        matches!(self.node(id).body, Body::Dir(_))
    }

    pub(super) fn is_empty_dir(&self, id: u64) -> bool {
        matches!(&self.node(id).body, Body::Dir(children) if children.is_empty())
    }

    pub(super) fn content(&self, id: u64) -> Outcome<Bytes> {
        match &self.node(id).body {
            Body::File(bytes) => Ok(bytes.clone()),
            Body::Dir(_) => Err(ErrorKind::IsADirectory),
            Body::Symlink(_) => Err(ErrorKind::VersionChanged),
        }
    }

    /// The bytes of exactly the expected version, if they stand there.
    pub(super) fn expected_content(&self, path: &RemotePath, expect: Expect) -> Option<Bytes> {
        let Expect::Version(version) = expect else { return None };
        let id = self.resolve(path).ok().filter(|id| self.version(*id) == version)?;
        self.content(id).ok()
    }

    /// Writes into the file itself, as an editor on the share does: same number, new time.
    pub(super) fn set_content(&mut self, id: u64, bytes: Bytes) {
        let now = self.tick();
        let ticks = self.ticks;
        let node = self.node_mut(id);
        node.body = Body::File(bytes);
        (node.mtime, node.ctime, node.changed) = (now, now, ticks);
    }

    /// The same within the tick of its last change, by which nobody can tell.
    pub(super) fn set_content_again(&mut self, id: u64, bytes: Bytes) {
        self.node_mut(id).body = Body::File(bytes);
    }

    pub(super) fn set_young(&mut self, id: u64, young: bool) {
        self.node_mut(id).young = young;
    }

    /// Gives `id` the name; what had it is forgotten with all below.
    pub(super) fn link(&mut self, parent: u64, name: &[u8], id: u64) {
        let key = self.fold(name);
        let now = self.tick();
        let ticks = self.ticks;
        let node = self.node_mut(parent);
        (node.mtime, node.ctime, node.changed) = (now, now, ticks);
        let old = match &mut node.body {
            Body::Dir(children) => children.insert(key, (name.to_vec(), id)),
            Body::File(_) | Body::Symlink(_) => None,
        };
        if let Some((_, old)) = old.filter(|(_, old)| *old != id) {
            self.forget(old);
        }
        let node = self.node_mut(id);
        (node.ctime, node.changed) = (now, ticks);
    }

    /// Takes the name away; the node stays for whoever links it again.
    pub(super) fn unlink(&mut self, parent: u64, name: &[u8]) {
        let key = self.fold(name);
        let now = self.tick();
        let ticks = self.ticks;
        let node = self.node_mut(parent);
        (node.mtime, node.ctime, node.changed) = (now, now, ticks);
        if let Body::Dir(children) = &mut node.body {
            children.remove(&key);
        }
    }

    pub(super) fn forget(&mut self, id: u64) {
        if let Some(Node { body: Body::Dir(children), .. }) = self.nodes.remove(&id) {
            for (_, child) in children.into_values() {
                self.forget(child);
            }
        }
    }

    pub(super) fn set_attrs(&mut self, id: u64, attrs: &Attrs) {
        let now = self.tick();
        let ticks = self.ticks;
        let node = self.node_mut(id);
        node.mode = attrs.mode.map_or(node.mode, |mode| mode & 0o7777);
        node.uid = attrs.uid.unwrap_or(node.uid);
        node.gid = attrs.gid.unwrap_or(node.gid);
        node.mtime = attrs.mtime.unwrap_or(node.mtime);
        node.atime = attrs.atime.unwrap_or(node.atime);
        if let Some(xattrs) = &attrs.xattrs {
            node.xattrs.clone_from(xattrs);
            node.xattrs.sort();
        }
        (node.ctime, node.changed) = (now, ticks);
    }

    /// X6: what `new` takes over from the file whose place it gets.
    pub(super) fn carry_over(&mut self, old: u64, new: u64) {
        let from = self.node(old);
        if !matches!(from.body, Body::File(_)) {
            return;
        }
        let (mode, uid, gid, btime) = (from.mode, from.uid, from.gid, from.btime);
        let xattrs = from.xattrs.clone();
        let node = self.node_mut(new);
        (node.mode, node.uid, node.gid, node.btime) = (mode, uid, gid, btime);
        node.xattrs = xattrs;
    }

    pub(super) fn version(&self, id: u64) -> Version {
        let node = self.node(id);
        let (size, mtime) = match &node.body {
            Body::File(bytes) => (bytes.len() as u64, node.mtime),
            Body::Symlink(target) => (target.len() as u64, node.mtime),
            Body::Dir(_) => (0, Timestamp::default()),
        };
        let content = ContentMark { file_id: id, size, mtime };
        Version { object: u128::from(node.changed), content }
    }

    pub(super) fn metadata(&self, id: u64, with_xattrs: bool) -> Metadata {
        let node = self.node(id);
        let version = self.version(id);
        let (kind, target) = match &node.body {
            Body::File(_) => (Kind::File, None),
            Body::Dir(_) => (Kind::Dir, None),
            Body::Symlink(target) => (Kind::Symlink, Some(target.clone())),
        };
        let has_xattrs = with_xattrs && self.limits.has_xattrs() && kind != Kind::Symlink;
        Metadata {
            kind,
            size: version.content.size,
            mtime: node.mtime,
            ctime: node.ctime,
            atime: node.atime,
            btime: node.btime,
            mode: self.limits.has_modes.then_some(node.mode),
            uid: self.limits.has_modes.then_some(node.uid),
            gid: self.limits.has_modes.then_some(node.gid),
            target,
            xattrs: has_xattrs.then(|| node.xattrs.clone()),
            version,
            young: node.young,
        }
    }

    /// The entries of a directory after the folded name `after`, at most `count`, and whether
    /// more follow.
    pub(super) fn entries(&self, dir: u64, after: Option<&[u8]>, count: usize) -> Outcome<Listed> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.children(dir)?.range::<[u8], _>((from, Unbounded));
        let mut entries = Vec::new();
        let mut last = None;
        for (key, (name, id)) in rest.by_ref().take(count) {
            entries.push((name.clone(), self.metadata(*id, false)));
            last = Some(key.clone());
        }
        Ok((entries, last.filter(|_| rest.next().is_some())))
    }

    /// Calls `visit` with every path but the root's.
    pub(super) fn walk(
        &self,
        id: u64,
        path: &RemotePath,
        visit: &mut dyn FnMut(RemotePath, &Body),
    ) {
        if let Body::Dir(children) = &self.node(id).body {
            for (name, child) in children.values() {
                let path = path.join(name);
                visit(path.clone(), &self.node(*child).body);
                self.walk(*child, &path, visit);
            }
        }
    }
}
