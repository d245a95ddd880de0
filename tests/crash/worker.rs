//! One thread's load on its own directory of the mount, beside a model of what must come of it.

use super::model::{History, Node, Op, Portion, Tree};
use crate::common::{Random, first_difference};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Files grow no further; with the big cold ones a round moves some 100 MB.
const SIZE_MAX: u64 = 8 << 20;
const FILES_MAX: usize = 40;
const DIRS_MAX: usize = 10;
/// Handles that stay open between operations.
const HANDLES_MAX: usize = 6;

pub struct Worker {
    /// Its directory's name, below share and mount.
    pub name: String,
    dir: PathBuf,
    pub tree: Tree,
    pub history: Option<History>,
    random: Random,
    handles: HashMap<String, File>,
    in_flight: Option<Op>,
    last_name: u64,
    pub acknowledged: u64,
}

impl Worker {
    pub fn new(name: String, mnt: &Path, tree: Tree, random: Random) -> Worker {
        Worker {
            dir: mnt.join(&name),
            name,
            tree,
            history: None,
            random,
            handles: HashMap::new(),
            in_flight: None,
            last_name: 0,
            acknowledged: 0,
        }
    }

    /// Works until `stop`, or until a call fails; once `dying` that is the expected end, and the
    /// operation stays in flight.
    pub fn work(&mut self, stop: &AtomicBool, dying: &AtomicBool) -> Result<(), String> {
        let ended = self.work_on(stop, dying);
        self.handles.clear();
        ended
    }

    fn work_on(&mut self, stop: &AtomicBool, dying: &AtomicBool) -> Result<(), String> {
        while !stop.load(Ordering::SeqCst) {
            if self.random.percent(5)
                && let Err(error) = self.read_somewhere()
            {
                return if dying.load(Ordering::SeqCst) { Ok(()) } else { Err(error) };
            }
            for op in self.choose() {
                if let Err(error) = self.one(op) {
                    if dying.load(Ordering::SeqCst) {
                        return Ok(());
                    }
                    let op = brief(&self.in_flight.take());
                    return Err(format!("{}: {op} failed: {error}", self.name));
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, op: Op) -> io::Result<()> {
        let mut after = self.tree.clone();
        if let Some(history) = &mut self.history {
            after.apply(&op, Portion::All);
            history.note(&op, &self.tree, &after);
        }
        drop(after);
        self.in_flight = Some(op.clone());
        self.perform(&op)?;
        self.in_flight = None;
        self.tree.apply(&op, Portion::All);
        self.acknowledged += 1;
        Ok(())
    }

    fn perform(&mut self, op: &Op) -> io::Result<()> {
        let at = |path: &str| self.dir.join(path);
        match op {
            Op::Create { path, .. } => {
                let mut options = File::options();
                let file = options.read(true).write(true).create_new(true).open(at(path))?;
                self.hold(path, file);
                Ok(())
            }
            Op::Write { path, bytes, append: true, .. } => {
                let mut file = File::options().append(true).open(at(path))?;
                io::Write::write_all(&mut file, bytes)
            }
            Op::Write { path, offset, bytes, .. } => {
                self.handle(path)?.write_all_at(bytes, *offset)
            }
            Op::Truncate { path, size } => self.handle(path)?.set_len(*size),
            Op::Zero { path, offset, len } => {
                let punch = rustix::fs::FallocateFlags::PUNCH_HOLE;
                let flags = punch | rustix::fs::FallocateFlags::KEEP_SIZE;
                Ok(rustix::fs::fallocate(self.handle(path)?, flags, *offset, *len)?)
            }
            Op::Rename { from, to } => {
                self.let_go(from);
                self.let_go(to);
                fs::rename(self.dir.join(from), self.dir.join(to))
            }
            Op::Exchange { one, other } => {
                self.let_go(one);
                self.let_go(other);
                let (one, other) = (self.dir.join(one), self.dir.join(other));
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let cwd = rustix::fs::CWD;
                Ok(rustix::fs::renameat_with(cwd, &one, cwd, &other, flags)?)
            }
            Op::Unlink { path } => {
                self.let_go(path);
                fs::remove_file(self.dir.join(path))
            }
            Op::Mkdir { path } => fs::create_dir(at(path)),
            Op::Rmdir { path } => fs::remove_dir(at(path)),
            Op::Symlink { path, target } => std::os::unix::fs::symlink(target, at(path)),
            Op::Fsync { path } => self.handle(path)?.sync_all(),
        }
    }

    fn handle(&mut self, path: &str) -> io::Result<&File> {
        if !self.handles.contains_key(path) {
            let file = File::options().read(true).write(true).open(self.dir.join(path))?;
            self.hold(path, file);
        }
        Ok(&self.handles[path])
    }

    fn hold(&mut self, path: &str, file: File) {
        if self.handles.len() >= HANDLES_MAX {
            self.handles.clear();
        }
        self.handles.insert(path.to_owned(), file);
    }

    fn let_go(&mut self, path: &str) {
        let inside = format!("{path}/");
        self.handles.retain(|held, _| held != path && !held.starts_with(&inside));
    }

    /// What was acknowledged must be what a reader gets, at once.
    fn read_somewhere(&mut self) -> Result<(), String> {
        let files = self.tree.files();
        let Some(path) = self.random.pick(&files) else { return Ok(()) };
        let bytes = self.tree.bytes(path);
        let start = self.random.below(bytes.len() as u64) as usize;
        let len = self.random.between(1, 128 << 10) as usize;
        let expected = &bytes[start..bytes.len().min(start + len)];
        let mut found = vec![0; expected.len()];
        let read = File::open(self.dir.join(path))
            .and_then(|file| file.read_exact_at(&mut found, start as u64));
        let told = format!("{}/{path}: read of {} bytes at {start}", self.name, found.len());
        read.map_err(|error| format!("{told}: {error}"))?;
        let wrong = first_difference(expected, &found);
        wrong.map_or(Ok(()), |wrong| Err(format!("{told} (offsets from there): {wrong}")))
    }

    /// The next operation, or the next few that belong together.
    fn choose(&mut self) -> Vec<Op> {
        let files = self.tree.files();
        let Some(path) = self.random.pick(&files).cloned() else { return self.create() };
        match self.random.below(100) {
            0..30 => self.write(path, false),
            30..38 => self.write(path, true),
            38..45 => self.truncate(path),
            45..48 => self.punch(path),
            48..60 => self.save(path),
            60..70 => self.create(),
            70..78 => self.rename(path),
            78..82 => self.rename_dir(),
            82..84 => self.exchange(path),
            84..89 => vec![Op::Unlink { path }],
            89..92 if self.tree.dirs().len() < DIRS_MAX => {
                vec![Op::Mkdir { path: self.fresh("d", "") }]
            }
            89..94 => self.rmdir(),
            94..95 => self.symlink(),
            _ => vec![Op::Fsync { path }],
        }
    }

    fn write(&mut self, path: String, append: bool) -> Vec<Op> {
        let size = self.tree.len(&path);
        let hole = if self.random.percent(10) { 64 << 10 } else { 0 };
        let offset = if append { size } else { self.random.below(size + hole + 1) };
        let len_max = if self.random.percent(10) { 64 << 10 } else { 6 << 10 };
        let len = self.random.between(1, len_max);
        if offset + len > SIZE_MAX {
            return vec![Op::Truncate { path, size: size / 2 }];
        }
        let bytes = Arc::new(self.random.bytes(len as usize));
        vec![Op::Write { path, offset, bytes, append }]
    }

    fn truncate(&mut self, path: String) -> Vec<Op> {
        let size = self.tree.len(&path);
        let to = match self.random.below(4) {
            0 => 0,
            1 => (size + self.random.below(100 << 10)).min(SIZE_MAX),
            _ => size - self.random.below(size.min(300 << 10) + 1),
        };
        vec![Op::Truncate { path, size: to }]
    }

    fn punch(&mut self, path: String) -> Vec<Op> {
        let size = self.tree.len(&path);
        let offset = self.random.below(size + 1);
        let len = self.random.between(1, 200 << 10);
        vec![Op::Zero { path, offset, len }]
    }

    /// An editor's save: a temporary file beside it, fsync, rename over. A third of the editors
    /// move the old one to a backup first.
    fn save(&mut self, path: String) -> Vec<Op> {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        let temporary = join(&parent, &format!(".{}.tmp", self.number()));
        let len = self.random.between(1, 40 << 10) as usize;
        let bytes = Arc::new(self.random.bytes(len));
        let lineage = self.lineage();
        let mut ops = vec![Op::Create { path: temporary.clone(), lineage }];
        ops.push(Op::Write { path: temporary.clone(), offset: 0, bytes, append: false });
        if self.random.percent(70) {
            ops.push(Op::Fsync { path: temporary.clone() });
        }
        if self.tree.0.len() < FILES_MAX && self.random.percent(33) {
            ops.push(Op::Rename { from: path.clone(), to: format!("{path}.bak") });
        }
        ops.push(Op::Rename { from: temporary, to: path });
        ops
    }

    fn create(&mut self) -> Vec<Op> {
        let files = self.tree.files();
        if files.len() >= FILES_MAX {
            let path = self.random.pick(&files).expect("just counted").clone();
            return vec![Op::Unlink { path }];
        }
        let path = self.fresh("f", ".txt");
        let lineage = self.lineage();
        let mut ops = vec![Op::Create { path: path.clone(), lineage }];
        if self.random.percent(80) {
            let len = self.random.between(1, 30 << 10) as usize;
            let bytes = Arc::new(self.random.bytes(len));
            ops.push(Op::Write { path, offset: 0, bytes, append: false });
        }
        ops
    }

    fn rename(&mut self, from: String) -> Vec<Op> {
        let files = self.tree.files();
        let over = self.random.pick(&files).filter(|to| **to != from).cloned();
        let to = match over {
            Some(to) if self.random.percent(40) => to,
            _ => self.fresh("r", ".dat"),
        };
        vec![Op::Rename { from, to }]
    }

    fn rename_dir(&mut self) -> Vec<Op> {
        let dirs = self.tree.dirs();
        let Some(from) = self.random.pick(&dirs).cloned() else { return Vec::new() };
        let to = self.fresh("m", "");
        if to.starts_with(&format!("{from}/")) {
            return Vec::new();
        }
        vec![Op::Rename { from, to }]
    }

    fn exchange(&mut self, one: String) -> Vec<Op> {
        let files = self.tree.files();
        let other = self.random.pick(&files).filter(|other| **other != one).cloned();
        other.map(|other| Op::Exchange { one, other }).into_iter().collect()
    }

    fn rmdir(&mut self) -> Vec<Op> {
        let mut dirs = self.tree.dirs();
        dirs.retain(|dir| self.tree.below(dir).len() == 1);
        let Some(path) = self.random.pick(&dirs).cloned() else { return Vec::new() };
        vec![Op::Rmdir { path }]
    }

    fn symlink(&mut self) -> Vec<Op> {
        let old = self.tree.0.iter().find(|(_, node)| matches!(node, Node::Link(_)));
        if let Some((path, _)) = old.filter(|_| self.random.percent(50)) {
            return vec![Op::Unlink { path: path.clone() }];
        }
        let target = format!("../target-{}", self.number());
        vec![Op::Symlink { path: self.fresh("l", ""), target }]
    }

    /// A path that is not taken, in one of the directories.
    fn fresh(&mut self, start: &str, end: &str) -> String {
        let mut dirs = self.tree.dirs();
        dirs.push(String::new());
        let parent = self.random.pick(&dirs).expect("the top at least").clone();
        join(&parent, &format!("{start}{}{end}", self.number()))
    }

    fn number(&mut self) -> u64 {
        self.last_name += 1;
        self.last_name
    }

    fn lineage(&mut self) -> u64 {
        self.random.next()
    }

    /// After a restart: what became of the operation in flight? One of its outcomes must be what
    /// the mount shows, and from now on it is what happened.
    pub fn settle(&mut self) -> Result<(), String> {
        let Some(op) = self.in_flight.take() else { return Ok(()) };
        let mut wrong = String::new();
        for portion in op.portions() {
            let mut tree = self.tree.clone();
            tree.apply(&op, portion);
            let paths = op.paths();
            let differs = paths.iter().find_map(|path| {
                let says = differs(&self.dir.join(path), tree.0.get(*path))?;
                Some(format!("\n  if {portion:?} came about: {path} {says}"))
            });
            let Some(differs) = differs else {
                self.tree = tree;
                return Ok(());
            };
            wrong += &differs;
        }
        if self.is_torn(&op) {
            return Ok(());
        }
        let op = brief(&Some(op));
        Err(format!("{}: {op} was in flight, and no outcome of it is there:{wrong}", self.name))
    }

    /// Whether a write that nobody was told of arrived in parts, which then become the model. What
    /// goes over known bytes is journalled before it is written, what goes past them after it
    /// (rule J4), so it may end at the old size.
    fn is_torn(&mut self, op: &Op) -> bool {
        let Op::Write { path, offset, bytes, .. } = op else { return false };
        let Ok(found) = fs::read(self.dir.join(path)) else { return false };
        let old = self.tree.bytes(path);
        let start = *offset as usize;
        let is_old = |at: usize| old.get(at).is_some_and(|old| *old == found[at]);
        let is_new = |at: usize| {
            at.checked_sub(start).and_then(|at| bytes.get(at)).is_some_and(|new| *new == found[at])
        };
        let torn = found.len() == old.len() && (0..found.len()).all(|at| is_old(at) || is_new(at));
        if torn {
            self.tree.put(path, found);
        }
        torn
    }

    /// All paths of this directory below `root` are those of the model; with `contents`, all
    /// their bytes too.
    pub fn compare(&self, root: &Path, contents: bool) -> Result<(), String> {
        let root = root.join(&self.name);
        let found = list(&root);
        let extra = found.iter().find(|path| !self.tree.0.contains_key(*path));
        if let Some(path) = extra {
            return Err(format!("{}/{path}: should not be there", self.name));
        }
        for (path, node) in &self.tree.0 {
            let wrong = if contents {
                differs(&root.join(path), Some(node))
            } else {
                (!found.contains(path)).then(|| "is missing".to_owned())
            };
            if let Some(wrong) = wrong {
                return Err(format!("{}/{path}: {wrong}", self.name));
            }
        }
        Ok(())
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

/// An operation without its bytes.
fn brief(op: &Option<Op>) -> String {
    match op {
        Some(Op::Write { path, offset, bytes, append }) => {
            format!("Write {path} {offset}+{} append {append}", bytes.len())
        }
        Some(op) => format!("{op:?}"),
        None => "nothing".to_owned(),
    }
}

/// How what is at `path` differs from `node`, in words.
fn differs(path: &Path, node: Option<&Node>) -> Option<String> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => Some(found.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Some(error.to_string()),
    };
    match (node, found) {
        (None, None) => None,
        (Some(_), None) => Some("is missing".to_owned()),
        (None, Some(_)) => Some("should not be there".to_owned()),
        (Some(Node::Dir), Some(kind)) if kind.is_dir() => None,
        (Some(Node::Link(target)), Some(kind)) if kind.is_symlink() => {
            let points = fs::read_link(path).ok()?;
            (points != Path::new(target)).then(|| format!("points to {}", points.display()))
        }
        (Some(Node::Link(target)), Some(kind)) if kind.is_file() => {
            // As an SMB server has it on its disk.
            let found = fs::read_to_string(path).unwrap_or_default();
            let points = found.strip_prefix("XSym\n").and_then(|rest| rest.lines().nth(2));
            (points != Some(&**target)).then(|| format!("points to {points:?}"))
        }
        (Some(Node::File { bytes, .. }), Some(kind)) if kind.is_file() => match fs::read(path) {
            Ok(found) => first_difference(bytes, &found),
            Err(error) => Some(error.to_string()),
        },
        (Some(_), Some(kind)) => Some(format!("is a {kind:?}")),
    }
}

/// All paths below a directory.
pub fn list(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![String::new()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = join(&dir, entry.file_name().to_str().expect("names of ours"));
            if entry.file_type().unwrap().is_dir() {
                dirs.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}
