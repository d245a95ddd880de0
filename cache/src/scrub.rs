//! Verifying cached bytes against their checksums: of contents in use, beside their readers and
//! writers, and the checksums themselves (D1).
//!
//! What rotted on the local disk goes with its extent, as eviction drops it, and is fetched again.
//! What the share does not have has no checksum and is never touched.

use crate::attr::{ContentId, Ino, Notice};
use crate::error::{Error, Result};
use crate::fetch::Reader;
use crate::file::{Content, File, block_range, note_crcs};
use crate::limits;
use crate::start::CheckReport;
use crate::status::Progress;
use crate::vfs::Vfs;
use covefs_remote::RemotePath;
use std::collections::BTreeMap;
use std::ops::Range;

/// What was found of one content.
#[derive(Default)]
struct Found {
    checked_bytes: u64,
    rotten: Vec<Range<u64>>,
}

impl Vfs {
    /// Compares what is cached of every file with its checksums; what is wrong is dropped and
    /// fetched again, at once if the share can be reached. `progress` counts files.
    pub async fn scrub(&self, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<CheckReport> {
        self.until_ready().await;
        let files = self.on_disk(|vfs| vfs.files_below(&RemotePath::root())).await??;
        let mut report = CheckReport::default();
        let total = files.len() as u64;
        for (done, (ino, content)) in files.into_iter().enumerate() {
            progress(Progress { done: done as u64, total });
            let Some(id) = content else { continue };
            let found = self.on_disk(move |vfs| vfs.scrub_content(id)).await??;
            report.files += u64::from(found.checked_bytes > 0);
            report.checked_bytes += found.checked_bytes;
            if !found.rotten.is_empty() {
                self.heal(ino, id, &found.rotten, &mut report).await?;
            }
        }
        Ok(report)
    }

    /// Drops the rotten blocks of a content, tells of them, and fetches them.
    async fn heal(
        &self,
        ino: Ino,
        id: ContentId,
        rotten: &[Range<u64>],
        report: &mut CheckReport,
    ) -> Result<()> {
        let ranges = rotten.iter().cloned().collect();
        let all = rotten.to_vec();
        let kept = self.on_disk(move |vfs| {
            vfs.drop_extents(id, &ranges)?;
            let file = vfs.load(id)?;
            let kept = still_here(&file, all);
            vfs.unload_if_idle(&file);
            Ok::<_, Error>(kept)
        });
        let kept = kept.await??;
        // What the kernel read of it may be as rotten.
        self.notify(Notice::Inode(ino));
        let shown = self.tree().path(ino)?.unwrap_or_default().to_string();
        for range in rotten {
            let mut problem =
                format!("{shown}: the block at {} is not what was stored", range.start);
            if kept.contains(range) {
                problem += "; it stays as long as a program has the file open or mapped: end that, and check again";
            }
            tracing::error!("{problem}");
            report.problems.push(problem);
        }
        let file = {
            let mut tree = self.tree();
            match tree.get(ino)?.filter(|node| node.content == Some(id)) {
                Some(node) => self.keep_loaded(&mut tree, node)?,
                None => return Ok(()),
            }
        };
        for range in rotten.iter().filter(|range| !kept.contains(range)) {
            let len = range.end - range.start;
            let fetched = self.read_content(&file.file, range.start, len, Reader::User).await;
            report.repaired.push(match fetched {
                Ok(_) => format!("{shown}: the block at {} was fetched again", range.start),
                Err(error) => format!("{shown}: dropped, and fetched when it is read ({error})"),
            });
        }
        Ok(())
    }

    fn scrub_content(&self, id: ContentId) -> Result<Found> {
        let file = self.load(id)?;
        let blocks: Vec<u64> = file.lock().crcs.keys().copied().collect();
        let mut found = Found::default();
        let mut bytes = vec![0; limits::BLOCK as usize];
        for block in blocks {
            // It may have been written over, evicted or fetched anew since.
            let content = file.lock();
            let Some((range, crc)) = checkable(&content, block) else { continue };
            let Some(data) = file.data(false)? else { break };
            let part = &mut bytes[..(range.end - range.start) as usize];
            let read = data.read_at(part, range.start);
            drop(content);
            let read = read.map_err(|error| Error::disk("read a data file", error))?;
            found.checked_bytes += read as u64;
            if read < part.len() || crc32fast::hash(part) != crc {
                found.rotten.push(range);
            }
        }
        self.unload_if_idle(&file);
        Ok(found)
    }
}

/// Those of the rotten ranges that could not be dropped: somebody has the data file past us (P2).
fn still_here(file: &File, mut rotten: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut content = file.lock();
    if file.is_ours_alone(&mut content) {
        // What is here again was fetched by a reader since.
        return Vec::new();
    }
    rotten.retain(|range| content.present.overlaps(range));
    rotten
}

/// A block that is as the share has it and whole here, with its checksum.
fn checkable(content: &Content, block: u64) -> Option<(Range<u64>, u32)> {
    let crc = *content.crcs.get(&block)?;
    let range = block_range(block, content.size);
    let is_here = !range.is_empty() && content.present.contains(&range);
    let is_ours = content.has_dirty(&range) || content.zeros.overlaps(&range);
    (is_here && !is_ours && !content.latched).then_some((range, crc))
}

impl File {
    /// What an upload read is what the share will have: its checksums count, but for what was
    /// written over since the upload froze it.
    pub(crate) fn note_sent(&self, offset: u64, bytes: &[u8]) {
        let size = self.lock().size;
        let mut sums = BTreeMap::new();
        note_crcs(&mut sums, &(offset..offset + bytes.len() as u64), bytes, size);
        let mut content = self.lock();
        sums.retain(|block, _| {
            let range = block_range(*block, size);
            content.size == size
                && content.present.contains(&range)
                && !content.dirty.overlaps(&range)
        });
        content.crcs.extend(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// An upload read two blocks; meanwhile the file was cut to nothing, or in the middle of one.
    #[test]
    fn what_was_cut_while_it_was_sent_has_no_checksum() {
        for (size, blocks) in [(0, 0), (10, 1), (limits::BLOCK + 10, 2), (5 * limits::BLOCK, 4)] {
            let mut content = Content::new(size, Default::default(), None);
            content.present.insert(0..size);
            let disk = Arc::new(crate::disk::MemoryDisk::new(1 << 20));
            let file = File::new(ContentId(1), disk, content);
            for offset in [0, 2 * limits::BLOCK] {
                file.note_sent(offset, &vec![7; 2 * limits::BLOCK as usize][..]);
            }
            assert_eq!(file.lock().crcs.len(), blocks, "{size} bytes");
        }
    }
}
