//! What a start may believe of bytes that only we have, after a power cut or a damaged journal.
//!
//! What no fdatasync covered and is a hole now falls back to the base. What was written over
//! something on the share never replaces it when bytes may be missing: it goes up as a copy (J6).
//! What nobody has any more is never made up: a file of which nothing is left is not uploaded.

use crate::attr::ContentId;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::extents;
use crate::file::data_path;
use crate::index::Index;
use crate::journal::{ByteRange, ContentSet, Journal, Live, LiveContent, Record};
use crate::node::Node;
use crate::ranges::RangeSet;
use crate::tree::Tree;
use crate::vfs::Vfs;

impl Vfs {
    /// What was about to change when the process stopped, and did not, is in step. Were it taken
    /// for changed and the share removed or replaced it, zeros would go up for its bytes.
    pub(crate) fn drop_unchanged(&self) -> Result<()> {
        let unchanged: Vec<(Node, ContentId)> = self.journal.live(|live| {
            let nodes = live.nodes.values().filter(|node| {
                let settled =
                    !live.sent.contains_key(&node.ino) && !live.suspects.contains(&node.ino);
                node.dirty_content && node.base.is_some() && settled
            });
            let of = |node: &Node| {
                let id = node.content?;
                live.contents.get(&id)?.is_unchanged().then(|| (node.clone(), id))
            };
            nodes.filter_map(of).collect()
        });
        let mut tree = self.tree();
        for (node, id) in unchanged {
            if self.files.get(id).is_some() {
                continue;
            }
            let Some(mut node) = tree.get(node.ino)? else { continue };
            node.dirty_content = false;
            // What the index says is present may have been written over.
            let records = vec![self.presence_forgotten(id)?, Record::ContentGone(id)];
            self.commit(&mut tree, &[node], records, true)?;
        }
        Ok(())
    }
}

/// What a disk writes at once.
const PAGE: u64 = 4096;
/// Fewer zeros amid other bytes are a program's.
const ZEROS: usize = 8;

/// What is looked at.
pub(crate) struct Doubted<'a> {
    pub disk: &'a dyn Disk,
    pub index: &'a dyn Index,
    pub journal: &'a Journal,
}

/// Looks at every content that the journal has, which takes as long as there are dirty files.
pub(crate) fn settle(parts: Doubted<'_>, tree: &mut Tree) -> Result<()> {
    let contents = parts.journal.live(|live| live.contents.clone());
    let mut looked = false;
    for (id, content) in contents {
        redo(parts.disk, id, &content)?;
        let stored = stored(parts.disk, id)?;
        let mut data = content.dirty();
        for ranges in content.generations.values() {
            data.subtract(&ranges.zeros);
        }
        let mut lost = data.clone();
        if let Some(stored) = &stored {
            lost.subtract(stored);
        }
        let node = parts
            .journal
            .live(|live| live.nodes.values().find(|node| node.content == Some(id)).cloned());
        let gaps = gaps(&content, node.as_ref());
        let sure = !content.power_cut && content.suspect.is_empty();
        if sure && lost.is_empty() && gaps.is_empty() {
            continue;
        }
        // What the index says is present may have been written over.
        parts.index.apply(&extents::keys(parts.index, id)?)?;
        looked = true;
        let Some(node) = node else { continue };
        // What was synced and is gone all the same had a name: a cut whose record is lost took it.
        let never_was =
            stored.is_none() || lost == data && lost == content.suspect.intersection(&lost);
        if node.base.is_none() && !lost.is_empty() && never_was {
            drop_made(&parts, tree, id, &node)?;
            continue;
        }
        let zeros = zeros(parts.disk, id, &content.suspect)?;
        let found = Found { lost, gaps, zeros };
        parts.journal.append(&verdict(&parts, id, &content, &node, found))?;
        if let Some(settled) = parts.journal.live(|live| live.contents.get(&id).cloned()) {
            redo(parts.disk, id, &settled)?;
        }
    }
    if looked {
        parts.index.flush_durable()?;
    }
    parts.journal.sync()
}

/// Cuts and holes are journalled before they are made: they are made again.
fn redo(disk: &dyn Disk, id: ContentId, content: &LiveContent) -> Result<()> {
    let data = match disk.open(&data_path(id), false) {
        Ok(data) => data,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::disk("open a data file", error)),
    };
    let cut = match data.len() {
        Ok(len) if len > content.size => data.set_len(content.size),
        other => other.map(drop),
    };
    let mut zeros = content.generations.values().flat_map(|ranges| ranges.zeros.iter());
    let holes = zeros.try_for_each(|range| data.punch(range));
    cut.and(holes).map_err(|error| Error::disk("cut a data file", error))
}

/// The ranges that the data file has; `None` where there is none.
fn stored(disk: &dyn Disk, id: ContentId) -> Result<Option<RangeSet>> {
    let data = match disk.open(&data_path(id), false) {
        Ok(data) => data,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::disk("open a data file", error)),
    };
    let stored = data.len().and_then(|len| data.data_ranges(0..len));
    stored.map(Some).map_err(|error| Error::disk("look at a data file", error))
}

/// Where a page that was lost shows: it is as it was when it was last synced, with zeros for what
/// was written into it since. Zeros that a program wrote look the same, but seldom come alone.
fn zeros(disk: &dyn Disk, id: ContentId, within: &RangeSet) -> Result<RangeSet> {
    let mut zeros = RangeSet::new();
    let Some(stored) = stored(disk, id)? else { return Ok(zeros) };
    let failed = |error| Error::disk("look at a data file", error);
    let data = disk.open(&data_path(id), false).map_err(failed)?;
    let mut page = [0; PAGE as usize];
    for range in stored.intersection(within).iter() {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min((start / PAGE + 1) * PAGE);
            let bytes = &mut page[..(end - start) as usize];
            let len = data.read_at(bytes, start).map_err(failed)?;
            let mut at = 0;
            for run in bytes[..len].chunk_by(|one, next| (*one == 0) == (*next == 0)) {
                let at_edge = at == 0 || at + run.len() == len;
                if run[0] == 0 && (at_edge || run.len() >= ZEROS) {
                    let first = start + at as u64;
                    zeros.insert(first..first + run.len() as u64);
                }
                at += run.len();
            }
            start = end;
        }
    }
    Ok(zeros)
}

/// Ranges that are neither ours nor the base's; only a journal that lost its end has any.
fn gaps(content: &LiveContent, node: Option<&Node>) -> RangeSet {
    let mut covered = content.dirty();
    if node.is_some_and(|node| node.base.is_some()) && content.base_end > 0 {
        covered.insert(0..content.base_end);
    }
    covered.missing(&(0..content.size)).into_iter().collect()
}

/// A new file of which nothing is left never was; what it was to replace on the share stays.
fn drop_made(parts: &Doubted<'_>, tree: &mut Tree, id: ContentId, node: &Node) -> Result<()> {
    tracing::warn!(ino = node.ino.0, "a new file lost all its bytes: it is dropped");
    // What was renamed from there goes on to its new name.
    let replaced = parts.journal.live(|live| replaced(live, node).cloned());
    let replaced = replaced.filter(|old| old.place.is_none());
    // Had its upload arrived, the share has it as a file of its own, and nobody removed it.
    let mut records =
        vec![Record::NodeGone(node.ino), Record::ContentGone(id), Record::SentGone(node.ino)];
    records.extend(replaced.iter().map(|old| Record::NodeGone(old.ino)));
    parts.journal.append(&records)?;
    tree.erase(node.ino)?;
    let Some(mut old) = replaced else { return Ok(()) };
    let Some(base) = &mut old.base else { return Ok(()) };
    // Another version than any: the next listing brings it as it is now.
    base.version = Default::default();
    old.place = Some(base.place.clone());
    old.content = None;
    old.xattrs = None;
    old.dirty_content = false;
    old.dirty_attrs = Default::default();
    tree.store(&[old])
}

/// What a look at a data file found.
struct Found {
    /// Ours, and a hole now.
    lost: RangeSet,
    /// Neither ours nor the base's.
    gaps: RangeSet,
    /// Not synced, and zeros in a page that has other bytes.
    zeros: RangeSet,
}

fn verdict(
    parts: &Doubted<'_>,
    id: ContentId,
    content: &LiveContent,
    node: &Node,
    found: Found,
) -> Vec<Record> {
    let Found { lost, gaps, mut zeros } = found;
    let mut records = Vec::new();
    let generation = content.generations.keys().last().copied().unwrap_or(1);
    let (size, mtime) = (content.size, content.mtime);
    // What was synced over the base is not the base's again.
    let mut of_base = lost.intersection(&content.suspect);
    of_base.truncate(content.base_end);
    let mut suspect = content.suspect.clone();
    let mut missing = lost;
    missing.union_with(&gaps);
    suspect.union_with(&missing);
    suspect.subtract(&of_base);
    missing.subtract(&of_base);
    zeros.subtract(&of_base);
    missing.union_with(&zeros);
    records.push(Record::Settled { content: id, lost: of_base.iter().map(Into::into).collect() });
    // A fetch may fill the page that they are in: what is a hole now is written down.
    for gap in missing.iter() {
        let range = ByteRange::from(gap);
        records.push(Record::Zeroed { content: id, generation, range, size, mtime });
    }
    let doubtful = !suspect.is_empty() || !of_base.is_empty();
    if !suspect.is_empty() {
        // Whoever finds the upload on the share, or makes a copy, has to know which: of these the
        // zeros are missing, the rest may be older than what was written last.
        let set = ContentSet::Suspect;
        records.push(Record::ContentRanges { content: id, set, ranges: suspect });
    }
    let missing = !missing.is_empty() || !content.missing().is_empty();
    if doubtful && (missing || replaces(parts.journal, node)) {
        tracing::warn!(ino = node.ino.0, "bytes may be missing: it goes up as a copy");
        records.push(Record::Suspect(node.ino));
    }
    records
}

/// What the share has under the name that the node has here.
fn replaced<'a>(live: &'a Live, node: &Node) -> Option<&'a Node> {
    live.nodes.values().find(|other| {
        let base = other.base.as_ref().map(|base| &base.place);
        other.ino != node.ino && base.is_some() && base == node.place.as_ref()
    })
}

/// Whether uploading the node would replace something on the share.
fn replaces(journal: &Journal, node: &Node) -> bool {
    node.base.is_some() || journal.live(|live| replaced(live, node).is_some())
}
