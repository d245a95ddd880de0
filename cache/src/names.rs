//! Names: looking up, making, removing, renaming, and the attributes behind them.
//!
//! Every change here is local: checked against what is known, journalled, done. What the share
//! thinks of it is sync's business.

use crate::attr::*;
use crate::error::{Error, ErrorKind, Result};
use crate::files::Pinned;
use crate::handle::FileHandle;
use crate::journal::Record;
use crate::lend::Way;
use crate::limits;
use crate::node::{DirtyAttrs, Node, Place};
use crate::step::{Asked, Need, Step};
use crate::tree::Tree;
use crate::vfs::Vfs;
use covefs_remote::{Kind, NameRule, Remote, Timestamp};

/// Returns from the function with `Wait` when the step has to wait.
macro_rules! ready {
    ($step:expr) => {
        match $step {
            $crate::step::Step::Done(value) => value,
            $crate::step::Step::Wait(need) => return Ok($crate::step::Step::Wait(need)),
        }
    };
}

/// What Windows, and shares with its rules, do not take as the name of anything.
fn windows_fault(name: &[u8]) -> Option<ErrorKind> {
    let Ok(text) = std::str::from_utf8(name) else { return Some(ErrorKind::NameInvalid) };
    let is_odd = |symbol: char| symbol.is_control() || "\\:*?\"<>|".contains(symbol);
    if text.contains(is_odd) || text.ends_with(['.', ' ']) || is_device(text) {
        return Some(ErrorKind::NameInvalid);
    }
    (text.encode_utf16().count() > limits::NAME_UNITS_MAX).then_some(ErrorKind::NameTooLong)
}

/// The same of a share that stores reserved characters as private ones, three bytes each.
fn mapped_fault(name: &[u8], bytes_max: usize) -> Option<ErrorKind> {
    let Ok(text) = std::str::from_utf8(name) else { return Some(ErrorKind::NameInvalid) };
    // Those that stand for reserved ones would come back as these.
    let is_private = |symbol: char| ('\u{f001}'..='\u{f029}').contains(&symbol);
    if text.contains(is_private) || is_device(text) {
        return Some(ErrorKind::NameInvalid);
    }
    let is_mapped = |symbol: char| symbol < ' ' || "\\:*?\"<>|".contains(symbol);
    let mapped = text.chars().filter(|symbol| is_mapped(*symbol)).count();
    let mapped = mapped + usize::from(text.ends_with(['.', ' ']));
    let is_long =
        text.encode_utf16().count() > limits::NAME_UNITS_MAX || name.len() + 2 * mapped > bytes_max;
    is_long.then_some(ErrorKind::NameTooLong)
}

/// Names of devices, which stand for these in every directory.
fn is_device(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let port = name.strip_prefix("COM").or(name.strip_prefix("LPT")).unwrap_or_default();
    let is_port = matches!(port.as_bytes(), [b'1'..=b'9']);
    is_port || ["CON", "PRN", "AUX", "NUL", "CLOCK$"].contains(&name.as_str())
}

/// Puts what setattr changes, but for the size, into the node; says whether there is anything.
fn take_attrs(node: &mut Node, change: &SetAttr, now: Timestamp) -> bool {
    let owner = change.uid.is_some() || change.gid.is_some();
    let mode = match change.mode {
        Some(mode) => mode & 0o7777,
        None if owner || change.drops_set_id => node.mode_after_change(),
        None => node.mode,
    };
    let sets_mode = change.mode.is_some() || mode != node.mode;
    let times = change.atime.is_some() || change.mtime.is_some();
    node.mode = mode;
    node.uid = change.uid.unwrap_or(node.uid);
    node.gid = change.gid.unwrap_or(node.gid);
    node.atime = change.atime.map_or(node.atime, |at| at.or(now));
    node.mtime = change.mtime.map_or(node.mtime, |at| at.or(now));
    node.ctime = now;
    let dirty = &mut node.dirty_attrs;
    dirty.mode |= sets_mode;
    dirty.owner |= owner;
    dirty.times |= times;
    sets_mode || owner || times
}

/// Of a mode, what a share with a read-only attribute alone keeps.
const WRITE_BITS: u32 = 0o222;

/// Names that are ours on the share (X2): hidden here and refused.
pub(crate) const OUR_PREFIX: &[u8] = b".~covefs-";

/// Returns when the directory's names have to be asked for first.
macro_rules! fresh {
    ($vfs:expr, $tree:expr, $asked:expr, $dir:expr, $name:expr) => {
        if let Some(need) = $vfs.stale(&mut $tree, $asked, $dir, $name)? {
            return Ok($crate::step::Step::Wait(need));
        }
    };
}
pub(crate) use {fresh, ready};

impl Vfs {
    /// Refuses names that the share cannot hold or that are ours (U7).
    fn check_name(&self, name: &[u8]) -> Result<()> {
        let limits = self.remote.limits();
        let refuse = |kind| Err(Error::new(kind, "use the name"));
        if name.len() > limits.name_bytes_max {
            return refuse(ErrorKind::NameTooLong);
        }
        if name.is_empty() || name.starts_with(OUR_PREFIX) || name.contains(&0) {
            return refuse(ErrorKind::NameInvalid);
        }
        match limits.names {
            NameRule::Bytes => Ok(()),
            NameRule::Windows => windows_fault(name).map_or(Ok(()), refuse),
            NameRule::Mapped => {
                let fault = mapped_fault(name, limits.name_bytes_max);
                fault.map_or(Ok(()), refuse)
            }
        }
    }

    /// Refuses a place that the share cannot have beside, or below, what is there (U7).
    fn check_place(
        &self,
        tree: &mut Tree,
        dir: Ino,
        name: &[u8],
        moving: Option<&Node>,
    ) -> Result<()> {
        self.refuse_twin(tree, dir, name, moving.map_or(dir, |moving| moving.ino))?;
        self.check_length(tree, dir, name, moving)
    }

    /// To the share a name that differs in case alone is the same: what has it keeps it. Said now,
    /// not when it is uploaded. `moving`: who may change the case of his own name.
    fn refuse_twin(&self, tree: &mut Tree, dir: Ino, name: &[u8], moving: Ino) -> Result<()> {
        // Where there are two already, what has the very name is what is meant.
        if self.remote.limits().case_sensitive || tree.child(dir, name)?.is_some() {
            return Ok(());
        }
        match tree.twin(dir, name)?.filter(|twin| twin.ino != moving) {
            Some(_) => Err(Error::new(ErrorKind::Exists, "make a name that differs in case alone")),
            None => Ok(()),
        }
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        // A share that was out of reach at the start may be found to be so later.
        if self.config.read_only || self.remote.limits().read_only {
            return Err(Error::new(ErrorKind::ReadOnly, "change a read-only mount"));
        }
        Ok(())
    }

    /// What a name of a directory stands for.
    pub fn lookup(&self, asked: Asked, parent: Ino, name: &[u8]) -> Result<Step<Lookup>> {
        if name.len() > self.remote.limits().name_bytes_max {
            return Err(Error::new(ErrorKind::NameTooLong, "look up the name"));
        }
        let mut tree = self.tree();
        let dir = tree.need_dir(parent)?;
        fresh!(self, tree, asked, &dir, Some(name));
        let ttl = self.ttl(&mut tree, &dir, Some(name));
        Ok(Step::Done(match tree.child(parent, name)? {
            Some(node) => Lookup::Found(Entry { attr: self.stat(&mut tree, &node)?, ttl }),
            None if !dir.listed && dir.base.is_some() && !self.reach.is_online() => {
                return Err(Error::new(ErrorKind::Offline, "look up a name never listed"));
            }
            None => Lookup::Missing(ttl),
        }))
    }

    /// The names from the root to a node; `None` where it has none any more.
    pub fn names_to(&self, ino: Ino) -> Result<Option<Vec<Vec<u8>>>> {
        let path = self.tree().path(ino)?;
        Ok(path.map(|path| path.names().map(<[u8]>::to_vec).collect()))
    }

    /// The kernel drops references. Nothing here is kept for them: any number can be looked up.
    pub fn forget(&self, _ino: Ino, _lookups: u64) {}

    /// What stat shows.
    pub fn getattr(&self, asked: Asked, ino: Ino, _fh: Option<Fh>) -> Result<Step<Entry>> {
        let mut tree = self.tree();
        let node = tree.need(ino)?;
        let Some(place) = node.place.clone().filter(|_| ino != Ino::ROOT) else {
            let ttl = self.config.freshness;
            return Ok(Step::Done(Entry { attr: self.stat(&mut tree, &node)?, ttl }));
        };
        let dir = tree.need_dir(place.parent)?;
        fresh!(self, tree, asked, &dir, Some(&place.name));
        // The answer may have changed the node.
        let node = tree.need(ino)?;
        let ttl = self.ttl(&mut tree, &dir, Some(&place.name));
        Ok(Step::Done(Entry { attr: self.stat(&mut tree, &node)?, ttl }))
    }

    /// What stat shows by what is known here, whatever its age.
    pub fn known(&self, ino: Ino) -> Result<Attr> {
        let mut tree = self.tree();
        let node = tree.need(ino)?;
        self.stat(&mut tree, &node)
    }

    /// The same as `attr`, with the links of a directory counted.
    pub(crate) fn stat(&self, tree: &mut Tree, node: &Node) -> Result<Attr> {
        let mut attr = self.attr(node);
        if node.kind == Kind::Dir && node.place.is_some() {
            attr.nlink = tree.dir_links(node)?;
        }
        Ok(attr)
    }

    /// Attributes as they are now; a content in use knows size and times better than its node.
    pub(crate) fn attr(&self, node: &Node) -> Attr {
        let mut attr = Attr {
            ino: node.ino,
            kind: node.kind,
            size: node.size,
            blocks: 0,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            nlink: if node.kind == Kind::Dir { 2 } else { 1 },
            atime: node.atime,
            mtime: node.mtime,
            ctime: node.ctime,
            btime: node.btime,
        };
        if node.place.is_none() {
            attr.nlink = 0;
        }
        if node.kind == Kind::File {
            let mut allocated = 0;
            if let Some(id) = node.content {
                match self.files.get(id) {
                    Some(file) => {
                        let content = file.lock();
                        attr.size = content.size;
                        attr.mtime = content.mtime;
                        attr.ctime = content.ctime.max(node.ctime);
                        allocated = content.allocated;
                    }
                    None => allocated = self.files.allocated(&*self.disk, id),
                }
            }
            // Never 0 for a file with bytes: tar would take it for a hole (R4).
            attr.blocks = (allocated / 512).max(u64::from(attr.size > 0));
        }
        attr
    }

    /// Changes attributes; a new size changes the content.
    pub fn setattr(
        &self,
        asked: Asked,
        ino: Ino,
        _fh: Option<Fh>,
        change: &SetAttr,
    ) -> Result<Step<Entry>> {
        self.check_writable()?;
        if let Some(size) = change.size {
            let pinned = {
                let mut tree = self.tree();
                let node = tree.need(ino)?;
                match node.kind {
                    Kind::File => self.keep_loaded(&mut tree, node)?,
                    Kind::Dir => return Err(Error::new(ErrorKind::IsADirectory, "set the size")),
                    _ => return Err(Error::new(ErrorKind::Invalid, "set the size")),
                }
            };
            ready!(self.truncate(asked, &pinned.file, size)?);
        }
        let mut tree = self.tree();
        let mut node = tree.need(ino)?;
        let now = self.clock.now();
        let marks = take_attrs(&mut node, change, now);
        if marks {
            let mut records = Vec::new();
            if let Some(file) = node.content.and_then(|id| self.files.get(id)) {
                let mut content = file.lock();
                content.mtime = change.mtime.map_or(content.mtime, |at| at.or(now));
                content.ctime = now;
                node.size = content.size;
                node.mtime = content.mtime;
            }
            if let Some(id) = node.content.filter(|_| node.dirty_content) {
                // The journal keeps the time with the content: the last word on it counts.
                records.extend(self.journal.live(|live| {
                    let live = live.contents.get(&id)?;
                    let generation = live.generations.keys().last().copied().unwrap_or(1);
                    let (size, mtime) = (live.size, node.mtime);
                    Some(Record::Truncated { content: id, generation, size, mtime })
                }));
            }
            self.changed(&mut tree, vec![node.clone()], records, false)?;
        }
        let attr = self.stat(&mut tree, &node)?;
        Ok(Step::Done(Entry { attr, ttl: self.config.freshness }))
    }

    /// A file that somebody without privileges wrote to loses its set-id bits, as on any disk.
    pub fn drop_set_id(&self, ino: Ino) -> Result<()> {
        let mut tree = self.tree();
        let Some(mut node) = tree.get(ino)? else { return Ok(()) };
        let mode = node.mode_after_change();
        if mode == node.mode {
            return Ok(());
        }
        node.mode = mode;
        node.ctime = self.clock.now();
        node.dirty_attrs.mode = true;
        self.changed(&mut tree, vec![node], Vec::new(), false)
    }

    /// Commits a change of ours to nodes and wakes sync for them.
    pub(crate) fn changed(
        &self,
        tree: &mut Tree,
        nodes: Vec<Node>,
        extra: Vec<Record>,
        freeing: bool,
    ) -> Result<()> {
        self.changed_in(tree, nodes, Vec::new(), extra, freeing)
    }

    /// The same with the directories that names appear in or go from, in one frame (J2).
    fn changed_in(
        &self,
        tree: &mut Tree,
        mut nodes: Vec<Node>,
        dirs: Vec<Node>,
        extra: Vec<Record>,
        freeing: bool,
    ) -> Result<()> {
        let change = self.next_change();
        for node in &mut nodes {
            if node.is_nothing() && node.ino != Ino::ROOT {
                node.dirty_content = false;
                node.dirty_attrs = DirtyAttrs::default();
            }
            node.change = change;
        }
        let changed = nodes.len();
        nodes.extend(dirs.into_iter().map(|dir| self.touched_dir(dir)));
        self.commit(tree, &nodes, extra, freeing)?;
        for node in nodes[..changed].iter().filter(|node| node.is_dirty()) {
            self.sync.poke(node.ino);
        }
        Ok(())
    }

    /// What a symlink holds.
    pub fn readlink(&self, _asked: Asked, ino: Ino) -> Result<Step<Vec<u8>>> {
        let node = self.tree().need(ino)?;
        let target = node.target.ok_or_else(|| Error::new(ErrorKind::Invalid, "read the link"))?;
        Ok(Step::Done(target))
    }

    /// A node that exists here only, owned as its directory wants it.
    fn new_node(&self, dir: &Node, name: &[u8], kind: Kind, owner: Owner, mode: u32) -> Node {
        let now = self.clock.now();
        let modes = self.remote.limits().has_modes;
        let inherits = dir.mode & 0o2000 != 0;
        let set_gid = if inherits && kind == Kind::Dir { 0o2000 } else { 0 };
        let fallback = match kind {
            Kind::Dir => self.config.dir_mode,
            // Whether a file may be written is kept by every share.
            _ if mode & WRITE_BITS == 0 => self.config.file_mode & !WRITE_BITS,
            _ => self.config.file_mode,
        };
        Node {
            ino: Ino(self.next_number()),
            kind,
            place: Some(Place::new(dir.ino, name)),
            base: None,
            mode: if modes { mode & 0o7777 | set_gid } else { fallback },
            uid: if modes { owner.uid } else { self.config.uid },
            gid: match (modes, inherits) {
                (true, true) => dir.gid,
                (true, false) => owner.gid,
                _ => self.config.gid,
            },
            size: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            target: None,
            xattrs: Some(Vec::new()),
            content: None,
            dirty_attrs: DirtyAttrs::default(),
            dirty_content: true,
            listed: true,
            change: 0,
        }
    }

    /// The directory with a changed name in it. Its times are a local matter: the share sets its
    /// own when the change arrives there.
    pub(crate) fn touched_dir(&self, mut dir: Node) -> Node {
        let now = self.clock.now();
        dir.mtime = now;
        dir.ctime = now;
        dir
    }

    /// A new empty directory.
    pub fn mkdir(
        &self,
        asked: Asked,
        owner: Owner,
        parent: Ino,
        name: &[u8],
        mode: u32,
    ) -> Result<Step<Entry>> {
        let make = |vfs: &Vfs, dir: &Node| Ok(vfs.new_node(dir, name, Kind::Dir, owner, mode));
        self.make(asked, parent, name, make)
    }

    /// A new symlink.
    pub fn symlink(
        &self,
        asked: Asked,
        owner: Owner,
        parent: Ino,
        name: &[u8],
        target: &[u8],
    ) -> Result<Step<Entry>> {
        if !self.remote.limits().has_symlinks {
            return Err(Error::new(ErrorKind::NotPermitted, "make a symlink on this share"));
        }
        if target.is_empty() || target.len() > 4095 {
            let kind = if target.is_empty() { ErrorKind::NotFound } else { ErrorKind::NameTooLong };
            return Err(Error::new(kind, "make a symlink"));
        }
        self.make(asked, parent, name, |vfs, dir| {
            let mut node = vfs.new_node(dir, name, Kind::Symlink, owner, 0o777);
            node.target = Some(target.to_vec());
            node.size = target.len() as u64;
            Ok(node)
        })
    }

    fn make(
        &self,
        asked: Asked,
        parent: Ino,
        name: &[u8],
        make: impl FnOnce(&Vfs, &Node) -> Result<Node>,
    ) -> Result<Step<Entry>> {
        self.check_writable()?;
        self.check_name(name)?;
        let mut tree = self.tree();
        let dir = tree.need_dir(parent)?;
        fresh!(self, tree, asked, &dir, Some(name));
        if tree.child(parent, name)?.is_some() {
            return Err(Error::new(ErrorKind::Exists, "make a name"));
        }
        self.check_place(&mut tree, parent, name, None)?;
        let node = make(self, &dir)?;
        self.changed_in(&mut tree, vec![node.clone()], vec![dir], Vec::new(), false)?;
        Ok(Step::Done(Entry { attr: self.attr(&node), ttl: self.config.freshness }))
    }

    /// Opens a file of this name, making it where there is none.
    pub fn create(
        &self,
        asked: Asked,
        owner: Owner,
        parent: Ino,
        name: &[u8],
        mode: u32,
        how: OpenMode,
    ) -> Result<Step<(Entry, Opened)>> {
        self.check_writable()?;
        self.check_name(name)?;
        let existing = {
            let mut tree = self.tree();
            let dir = tree.need_dir(parent)?;
            fresh!(self, tree, asked, &dir, Some(name));
            match tree.child(parent, name)? {
                Some(_) if how.exclusive => {
                    return Err(Error::new(ErrorKind::Exists, "create a file"));
                }
                Some(node) => node,
                None => {
                    self.check_place(&mut tree, parent, name, None)?;
                    let mut node = self.new_node(&dir, name, Kind::File, owner, mode);
                    let content = ContentId(self.next_number());
                    node.content = Some(content);
                    let touched = Record::Touched {
                        content,
                        generation: 1,
                        base_end: 0,
                        size: 0,
                        mtime: node.mtime,
                    };
                    let (nodes, dirs) = (vec![node.clone()], vec![dir]);
                    self.changed_in(&mut tree, nodes, dirs, vec![touched], false)?;
                    // Nothing may have to wait from here on: asked again, the name would exist.
                    let pinned = self.keep_loaded(&mut tree, node.clone())?;
                    let attr = self.attr(&node);
                    drop(tree);
                    let opened = self.add_handle(node.ino, &pinned, how);
                    let opened = opened.expect("nobody reads what was just made");
                    let entry = Entry { attr, ttl: self.config.freshness };
                    return Ok(Step::Done((entry, opened)));
                }
            }
        };
        let opened = ready!(self.open(asked, existing.ino, how)?);
        let entry = Entry { attr: self.attr(&existing), ttl: self.config.freshness };
        Ok(Step::Done((entry, opened)))
    }

    /// Opens a file.
    pub fn open(&self, asked: Asked, ino: Ino, how: OpenMode) -> Result<Step<Opened>> {
        if how.write || how.truncate {
            self.check_writable()?;
        }
        let mut tree = self.tree();
        let node = tree.need(ino)?;
        match node.kind {
            Kind::File => {}
            Kind::Dir => return Err(Error::new(ErrorKind::IsADirectory, "open a file")),
            Kind::Symlink => return Err(Error::new(ErrorKind::Invalid, "open a symlink")),
            Kind::Special => return Err(Error::new(ErrorKind::NotPermitted, "open a device")),
        }
        if let Some(place) = &node.place {
            let dir = tree.need_dir(place.parent)?;
            fresh!(self, tree, asked, &dir, Some(&place.name));
        }
        let node = tree.need(ino)?;
        let place = node.place.clone().filter(|_| how.read && !how.truncate);
        let pinned = self.keep_loaded(&mut tree, node)?;
        if let Some(place) = place {
            let is_cold = !pinned.file.lock().is_whole();
            self.opened_file(&mut tree, &place, is_cold)?;
        }
        drop(tree);
        if how.truncate {
            ready!(self.truncate(asked, &pinned.file, 0)?);
        }
        loop {
            if let Some(opened) = self.add_handle(ino, &pinned, how) {
                return Ok(Step::Done(opened));
            }
            ready!(self.claim(asked, &pinned.file)?);
        }
    }

    /// `None`: the file has to be claimed first (P2).
    fn add_handle(&self, ino: Ino, pinned: &Pinned, how: OpenMode) -> Option<Opened> {
        let file = pinned.file.clone();
        let (lent, direct, unseen) = {
            let mut content = file.lock();
            let (lent, direct) = match self.way(&file, &mut content, how) {
                Way::Claim => return None,
                Way::Pages => (None, false),
                Way::Lent(lent) => (Some(lent), false),
                Way::Beside(lent) => (Some(lent), true),
            };
            content.handles += 1;
            content.writers += u32::from(how.write);
            (lent, direct, content.unseen)
        };
        let keep_cache = {
            let mut tree = self.tree();
            // What is written beside the kernel's pages makes them old.
            if unseen || direct && how.write {
                tree.kernel_forgets(ino);
            }
            lent.is_none() && tree.kernel_reads(ino, file.id)
        };
        if how.read {
            self.space.heat().opened(file.id);
        }
        let no_flush = !how.write || !self.config.sync_share;
        let fh = self.handles.add_file(FileHandle::new(file, how, lent.clone()));
        Some(Opened { fh, keep_cache, no_flush, lent, direct })
    }

    /// Removes a file or symlink; open ones live until they are closed.
    pub fn unlink(&self, asked: Asked, parent: Ino, name: &[u8]) -> Result<Step<()>> {
        self.check_writable()?;
        let mut tree = self.tree();
        let dir = tree.need_dir(parent)?;
        fresh!(self, tree, asked, &dir, Some(name));
        let node = tree.child(parent, name)?;
        let node = node.ok_or_else(|| Error::new(ErrorKind::NotFound, "remove a file"))?;
        if node.kind == Kind::Dir {
            return Err(Error::new(ErrorKind::IsADirectory, "remove a file"));
        }
        let (node, records) = self.without_place(node);
        self.changed_in(&mut tree, vec![node.clone()], vec![dir], records, true)?;
        drop(tree);
        self.dropped(&node);
        Ok(Step::Done(()))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, asked: Asked, parent: Ino, name: &[u8]) -> Result<Step<()>> {
        self.check_writable()?;
        let mut tree = self.tree();
        let dir = tree.need_dir(parent)?;
        fresh!(self, tree, asked, &dir, Some(name));
        let node = tree.child(parent, name)?;
        let node = node.ok_or_else(|| Error::new(ErrorKind::NotFound, "remove a directory"))?;
        if node.kind != Kind::Dir {
            return Err(Error::new(ErrorKind::NotADirectory, "remove a directory"));
        }
        fresh!(self, tree, asked, &node, None);
        if tree.has_children(node.ino)? {
            return Err(Error::new(ErrorKind::NotEmpty, "remove a directory"));
        }
        let (node, records) = self.without_place(node);
        self.changed_in(&mut tree, vec![node], vec![dir], records, true)?;
        Ok(Step::Done(()))
    }

    /// The node as it is once its name is gone, with what the journal says of its content.
    pub(crate) fn without_place(&self, mut node: Node) -> (Node, Vec<Record>) {
        node.place = None;
        node.ctime = self.clock.now();
        node.dirty_content = false;
        let mut records = Vec::new();
        if let Some(content) = node.content
            && self.journal.live(|live| live.contents.contains_key(&content))
        {
            records.push(Record::ContentGone(content));
        }
        (node, records)
    }

    /// The bytes of a node whose name is gone: dropped now, or with the last close.
    pub(crate) fn dropped(&self, node: &Node) {
        let Some(id) = node.content else { return };
        if let Some(file) = self.files.get(id) {
            let mut content = file.lock();
            content.orphan = true;
            // Its journal records are gone: what is written from here on is nobody's to upload.
            content.touched = true;
            drop(content);
            self.closed(&file);
        } else {
            self.drop_content(id);
            let mut tree = self.tree();
            if matches!(tree.get(node.ino), Ok(Some(now)) if now.is_nothing()) {
                let _ = tree.erase(node.ino);
            }
        }
    }

    /// Moves a name, replaces another, or swaps the two.
    pub fn rename(
        &self,
        asked: Asked,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<Step<()>> {
        self.check_writable()?;
        self.check_name(new_name)?;
        let mut tree = self.tree();
        let from_dir = tree.need_dir(parent)?;
        let to_dir = tree.need_dir(new_parent)?;
        fresh!(self, tree, asked, &from_dir, Some(name));
        fresh!(self, tree, asked, &to_dir, Some(new_name));
        let moving = tree.child(parent, name)?;
        let moving = moving.ok_or_else(|| Error::new(ErrorKind::NotFound, "rename"))?;
        let target = tree.child(new_parent, new_name)?;
        if target.as_ref().is_some_and(|target| target.ino == moving.ino) {
            return Ok(Step::Done(()));
        }
        self.check_place(&mut tree, new_parent, new_name, Some(&moving))?;
        if moving.kind == Kind::Dir && tree.is_within(new_parent, moving.ino)? {
            return Err(Error::new(ErrorKind::Loop, "move a directory into itself"));
        }
        if let Some(need) = self.check_target(&mut tree, asked, &moving, target.as_ref(), mode)? {
            return Ok(Step::Wait(need));
        }
        if mode == RenameMode::Exchange
            && let Some(target) = &target
            && target.kind == Kind::Dir
            && tree.is_within(parent, target.ino)?
        {
            return Err(Error::new(ErrorKind::Loop, "move a directory into itself"));
        }
        let now = self.clock.now();
        let mut moving = moving;
        let old_place = moving.place.replace(Place::new(new_parent, new_name));
        moving.ctime = now;
        let mut nodes = vec![moving];
        let mut records = Vec::new();
        let mut gone = None;
        match (target, mode) {
            (Some(mut target), RenameMode::Exchange) => {
                target.place = old_place;
                target.ctime = now;
                nodes.push(target);
            }
            (Some(target), _) => {
                let (target, more) = self.without_place(target);
                records = more;
                gone = Some(target.clone());
                // First, so that the mover's record finds the place free.
                nodes.insert(0, target);
            }
            (None, _) => {}
        }
        let mut dirs = vec![from_dir];
        if new_parent != parent {
            dirs.push(to_dir);
        }
        self.changed_in(&mut tree, nodes, dirs, records, false)?;
        drop(tree);
        if let Some(gone) = gone {
            self.dropped(&gone);
        }
        Ok(Step::Done(()))
    }

    /// Whether the destination may be what it is; a directory's emptiness may have to be asked.
    fn check_target(
        &self,
        tree: &mut Tree,
        asked: Asked,
        moving: &Node,
        target: Option<&Node>,
        mode: RenameMode,
    ) -> Result<Option<Need>> {
        let refuse = |kind| Err(Error::new(kind, "rename"));
        let Some(target) = target else {
            return if mode == RenameMode::Exchange {
                refuse(ErrorKind::NotFound)
            } else {
                Ok(None)
            };
        };
        match mode {
            RenameMode::NoReplace => refuse(ErrorKind::Exists),
            RenameMode::Exchange => Ok(None),
            RenameMode::Replace => match (moving.kind == Kind::Dir, target.kind == Kind::Dir) {
                (true, false) => refuse(ErrorKind::NotADirectory),
                (false, true) => refuse(ErrorKind::IsADirectory),
                (false, false) => Ok(None),
                (true, true) => {
                    if let Some(need) = self.stale(tree, asked, target, None)? {
                        return Ok(Some(need));
                    }
                    if tree.has_children(target.ino)? {
                        return refuse(ErrorKind::NotEmpty);
                    }
                    Ok(None)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_windows_does_not_take_are_known() {
        for good in ["a", "con.txt", "COM0", "com10", ".hidden", "a b", "\u{20ac}"] {
            assert_eq!(windows_fault(good.as_bytes()), None, "{good}");
        }
        for bad in ["a:b", "a ", "a.", "con", "Lpt9", "clock$", "\u{81}", "a\tb", "\\"] {
            assert_eq!(windows_fault(bad.as_bytes()), Some(ErrorKind::NameInvalid), "{bad}");
        }
        assert_eq!(windows_fault(b"\xff"), Some(ErrorKind::NameInvalid));
        for good in ["a:b", "what? <no> |*|", "trailing.", "trailing ", "tab\t", "\\"] {
            assert_eq!(mapped_fault(good.as_bytes(), 255), None, "{good}");
        }
        for bad in [&b"\xff"[..], "\u{f022}".as_bytes(), b"aux", b"Com1"] {
            assert_eq!(mapped_fault(bad, 255), Some(ErrorKind::NameInvalid), "{bad:?}");
        }
        // A reserved one is three bytes there; who counts characters counts one.
        let colons = ":".repeat(86);
        assert_eq!(mapped_fault(&colons.as_bytes()[1..], 255), None);
        assert_eq!(mapped_fault(colons.as_bytes(), 255), Some(ErrorKind::NameTooLong));
        assert_eq!(mapped_fault(colons.as_bytes(), 765), None);
        // Characters count, not bytes; two of them make a symbol beyond the first 65,536.
        for (symbol, fits) in [("\u{20ac}", 255), ("\u{1f600}", 127)] {
            assert_eq!(windows_fault(symbol.repeat(fits).as_bytes()), None);
            let long = symbol.repeat(fits + 1);
            assert_eq!(windows_fault(long.as_bytes()), Some(ErrorKind::NameTooLong));
        }
    }
}
