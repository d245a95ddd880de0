//! What a directory must hold: a plain tree in memory, and what each operation does to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// A file keeps its lineage through renames; all bytes it ever had belong to it.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    Dir,
    File { lineage: u64, bytes: Arc<Vec<u8>> },
    Link(String),
}

#[derive(Clone, Debug)]
pub enum Op {
    Create { path: String, lineage: u64 },
    Write { path: String, offset: u64, bytes: Arc<Vec<u8>>, append: bool },
    Truncate { path: String, size: u64 },
    Zero { path: String, offset: u64, len: u64 },
    Rename { from: String, to: String },
    Exchange { one: String, other: String },
    Unlink { path: String },
    Mkdir { path: String },
    Rmdir { path: String },
    Symlink { path: String, target: String },
    Fsync { path: String },
}

/// How much of an operation came about. The kernel may cut a write into several requests, each
/// of whole pages; everything else is one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Portion {
    Nothing,
    Bytes(usize),
    All,
}

impl Op {
    /// The paths that it names; a directory's children move with it.
    pub fn paths(&self) -> Vec<&str> {
        match self {
            Op::Create { path, .. } | Op::Write { path, .. } | Op::Truncate { path, .. } => {
                vec![path]
            }
            Op::Zero { path, .. } | Op::Unlink { path } | Op::Mkdir { path } => vec![path],
            Op::Rmdir { path } | Op::Symlink { path, .. } | Op::Fsync { path } => vec![path],
            Op::Rename { from, to } => vec![from, to],
            Op::Exchange { one, other } => vec![one, other],
        }
    }

    /// What may have come about when no answer came.
    pub fn portions(&self) -> Vec<Portion> {
        let mut portions = vec![Portion::Nothing];
        if let Op::Write { offset, bytes, .. } = self {
            let first = 4096 - (*offset % 4096) as usize;
            portions.extend((first..bytes.len()).step_by(4096).map(Portion::Bytes));
        }
        portions.push(Portion::All);
        portions
    }
}

#[derive(Clone, Default)]
pub struct Tree(pub BTreeMap<String, Node>);

impl Tree {
    pub fn bytes(&self, path: &str) -> &Arc<Vec<u8>> {
        match self.0.get(path) {
            Some(Node::File { bytes, .. }) => bytes,
            _ => panic!("the model has no file {path}"),
        }
    }

    pub fn len(&self, path: &str) -> u64 {
        self.bytes(path).len() as u64
    }

    pub fn files(&self) -> Vec<String> {
        self.of(|node| matches!(node, Node::File { .. }))
    }

    pub fn dirs(&self) -> Vec<String> {
        self.of(|node| matches!(node, Node::Dir))
    }

    fn of(&self, wanted: impl Fn(&Node) -> bool) -> Vec<String> {
        self.0.iter().filter(|(_, node)| wanted(node)).map(|(path, _)| path.clone()).collect()
    }

    /// `path` itself and everything below it.
    pub fn below(&self, path: &str) -> Vec<String> {
        let inside = format!("{path}/");
        let kept = self.0.keys().filter(|key| *key == path || key.starts_with(&inside));
        kept.cloned().collect()
    }

    pub fn apply(&mut self, op: &Op, portion: Portion) {
        if portion == Portion::Nothing {
            return;
        }
        match op {
            Op::Create { path, lineage } => {
                let node = Node::File { lineage: *lineage, bytes: Arc::default() };
                self.0.insert(path.clone(), node);
            }
            Op::Write { path, offset, bytes, .. } => {
                let len = match portion {
                    Portion::Bytes(len) => len,
                    _ => bytes.len(),
                };
                self.overwrite(path, *offset as usize, &bytes[..len]);
            }
            Op::Truncate { path, size } => self.file(path).resize(*size as usize, 0),
            Op::Zero { path, offset, len } => {
                let file = self.file(path);
                let end = file.len().min((*offset + *len) as usize);
                let start = end.min(*offset as usize);
                file[start..end].fill(0);
            }
            Op::Rename { from, to } => self.rename(from, to),
            Op::Exchange { one, other } => {
                let (first, second) = (self.0.remove(one), self.0.remove(other));
                self.0.insert(one.clone(), second.expect("in the model"));
                self.0.insert(other.clone(), first.expect("in the model"));
            }
            Op::Unlink { path } | Op::Rmdir { path } => {
                self.0.remove(path).expect("in the model");
            }
            Op::Mkdir { path } => {
                self.0.insert(path.clone(), Node::Dir);
            }
            Op::Symlink { path, target } => {
                self.0.insert(path.clone(), Node::Link(target.clone()));
            }
            Op::Fsync { .. } => {}
        }
    }

    fn file(&mut self, path: &str) -> &mut Vec<u8> {
        match self.0.get_mut(path) {
            Some(Node::File { bytes, .. }) => Arc::make_mut(bytes),
            _ => panic!("the model has no file {path}"),
        }
    }

    pub fn put(&mut self, path: &str, bytes: Vec<u8>) {
        *self.file(path) = bytes;
    }

    fn overwrite(&mut self, path: &str, offset: usize, bytes: &[u8]) {
        let file = self.file(path);
        let end = offset + bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[offset..end].copy_from_slice(bytes);
    }

    fn rename(&mut self, from: &str, to: &str) {
        for old in self.below(from) {
            let node = self.0.remove(&old).expect("just listed");
            self.0.insert(format!("{to}{}", &old[from.len()..]), node);
        }
    }
}

/// All that was ever true since it began: with a cut journal acknowledged changes may be gone,
/// but whatever is found must come from here.
#[derive(Default)]
pub struct History {
    /// Lineages that ever had a name, in whatever directory: with a directory's rename cut, what
    /// was moved into it is where it was before. Of a directory or link, none.
    at: HashMap<String, HashSet<u64>>,
    layers: HashMap<u64, Vec<Layer>>,
    sizes: HashMap<u64, HashSet<usize>>,
    touched: HashSet<String>,
}

/// Bytes that a file once had at an offset.
struct Layer {
    offset: usize,
    bytes: Arc<Vec<u8>>,
}

impl History {
    /// Begins with what is on the share.
    pub fn of(tree: &Tree) -> History {
        let mut history = History::default();
        for (path, node) in &tree.0 {
            history.stands(path, node);
            if let Node::File { lineage, bytes } = node {
                let layer = Layer { offset: 0, bytes: bytes.clone() };
                history.layers.entry(*lineage).or_default().push(layer);
            }
        }
        history
    }

    /// From here on paths count as untouched again.
    pub fn all_synced(&mut self) {
        self.touched.clear();
    }

    /// Notes what `op` is about to do; `before` and `after` are the whole trees.
    pub fn note(&mut self, op: &Op, before: &Tree, after: &Tree) {
        for path in op.paths() {
            for tree in [before, after] {
                for path in tree.below(path) {
                    self.stands(&path, &tree.0[&path]);
                    self.touched.insert(path);
                }
            }
            self.layer(op, path, before, after);
        }
        // The share may exchange the two names before it removes the old file. Killed in between, with the
        // record of the rename cut, nobody knows any more that what stands at `from` was to go.
        if let Op::Rename { from, to } = op
            && let Some(replaced) = before.0.get(to)
        {
            self.stands(from, replaced);
        }
    }

    fn layer(&mut self, op: &Op, path: &str, before: &Tree, after: &Tree) {
        let Some(Node::File { lineage, bytes: new }) = after.0.get(path) else { return };
        let old = match before.0.get(path) {
            Some(Node::File { bytes, .. }) => bytes.len(),
            _ => 0,
        };
        let mut layers = Vec::new();
        match op {
            Op::Write { offset, bytes, .. } => {
                let offset = *offset as usize;
                if offset > old {
                    layers.push(zeros(old, offset - old));
                }
                layers.push(Layer { offset, bytes: bytes.clone() });
                let sizes = self.sizes.entry(*lineage).or_default();
                for portion in op.portions() {
                    if let Portion::Bytes(len) = portion {
                        sizes.insert(old.max(offset + len));
                    }
                }
            }
            // Longer: a hole. Shorter: if this record is cut, the old size may come back, but
            // its bytes are gone.
            Op::Truncate { .. } => {
                layers.push(zeros(old.min(new.len()), old.abs_diff(new.len())));
            }
            Op::Zero { offset, len, .. } => layers.push(zeros(*offset as usize, *len as usize)),
            _ => {}
        }
        self.layers.entry(*lineage).or_default().extend(layers);
    }

    fn stands(&mut self, path: &str, node: &Node) {
        let lineages = self.at.entry(name_of(path).to_owned()).or_default();
        if let Node::File { lineage, bytes } = node {
            lineages.insert(*lineage);
            self.sizes.entry(*lineage).or_default().insert(bytes.len());
        }
    }

    pub fn is_untouched(&self, path: &str) -> bool {
        !self.touched.contains(path)
    }

    /// Whether something ever had this name.
    pub fn knows(&self, name: &str) -> bool {
        self.at.contains_key(name)
    }

    /// Whether `bytes` can come from a file that once had this name: each byte is one that the
    /// file had at this offset, or in one of `gaps` a zero. `Err` says which is not.
    pub fn explains(&self, name: &str, bytes: &[u8], gaps: &[Range<u64>]) -> Result<(), String> {
        let Some(lineages) = self.at.get(name) else {
            return Err(format!("{name}: nothing ever had this name"));
        };
        let mut wrong = Vec::new();
        for lineage in lineages {
            match self.foreign(*lineage, bytes, gaps) {
                Some(why) => wrong.push(why),
                None => return Ok(()),
            }
        }
        if wrong.is_empty() {
            wrong.push("no file ever had this name".to_owned());
        }
        Err(format!("{name}: {}", wrong.join(", or: it ")))
    }

    fn foreign(&self, lineage: u64, bytes: &[u8], gaps: &[Range<u64>]) -> Option<String> {
        if !self.sizes[&lineage].contains(&bytes.len()) {
            let mut sizes: Vec<&usize> = self.sizes[&lineage].iter().collect();
            sizes.sort();
            return Some(format!("was never {} bytes long, but {sizes:?}", bytes.len()));
        }
        let mut known = vec![false; bytes.len()];
        for gap in gaps {
            let end = bytes.len().min(gap.end as usize);
            for at in gap.start as usize..end {
                known[at] |= bytes[at] == 0;
            }
        }
        for layer in self.layers.get(&lineage).map_or(&[][..], Vec::as_slice) {
            let start = layer.offset.min(bytes.len());
            let found = bytes[start..].iter().zip(&*layer.bytes);
            for (known, (found, had)) in known[start..].iter_mut().zip(found) {
                *known |= found == had;
            }
        }
        let offset = known.iter().position(|known| !known)?;
        Some(format!("had never a byte {:#04x} at offset {offset}", bytes[offset]))
    }
}

/// The last part of a path.
pub fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn zeros(offset: usize, len: usize) -> Layer {
    Layer { offset, bytes: Arc::new(vec![0; len]) }
}
