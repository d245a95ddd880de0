//! What the index keeps of contents: per extent the present ranges, the checksums, and whether it
//! was used twice. A record is written only after the bytes were synced (D3).

use crate::attr::ContentId;
use crate::error::{Error, ErrorKind, Result};
use crate::file::Content;
use crate::index::{Index, Op, Tree as Table};
use crate::limits;
use crate::ranges::RangeSet;
use crate::space::{ExtentKey, Standing};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One extent, as the index has it. Offsets count from the extent's begin.
#[derive(Serialize, Deserialize)]
pub(crate) struct ExtentRecord {
    present: Vec<(u32, u32)>,
    /// Block in the extent and checksum.
    crcs: Vec<(u8, u32)>,
    protected: bool,
    /// When it was last used, in seconds since 1970.
    used: u64,
}

fn key(content: ContentId, extent: u32) -> Vec<u8> {
    let mut key = content.0.to_be_bytes().to_vec();
    key.extend_from_slice(&extent.to_be_bytes());
    key
}

fn extent_of(key: &[u8]) -> Option<(ContentId, u32)> {
    let content = u64::from_be_bytes(key.get(..8)?.try_into().ok()?);
    let extent = u32::from_be_bytes(key.get(8..12)?.try_into().ok()?);
    Some((ContentId(content), extent))
}

pub(crate) fn decode(bytes: &[u8]) -> Result<ExtentRecord> {
    postcard::from_bytes(bytes)
        .map_err(|_| Error::new(ErrorKind::Io, "decode an extent of the index"))
}

fn put(key: Vec<u8>, record: &ExtentRecord) -> Op {
    let value = postcard::to_stdvec(record).expect("a record is plain data");
    Op::Put(Table::Extents, key, value)
}

/// What is present of a content by the index, and its checksums.
pub(crate) fn load(
    index: &dyn Index,
    content: ContentId,
) -> Result<(RangeSet, BTreeMap<u64, u32>)> {
    let mut present = RangeSet::new();
    let mut crcs = BTreeMap::new();
    let prefix = content.0.to_be_bytes();
    for (key, value) in index.scan(Table::Extents, &prefix, None, usize::MAX)? {
        let Some((_, extent)) = extent_of(&key) else { continue };
        let base = u64::from(extent) * limits::EXTENT;
        let record = decode(&value)?;
        for (start, end) in record.present {
            present.insert(base + u64::from(start)..base + u64::from(end));
        }
        let first = base / limits::BLOCK;
        crcs.extend(record.crcs.iter().map(|(block, crc)| (first + u64::from(*block), *crc)));
    }
    Ok((present, crcs))
}

/// The changes that remove all records of a content.
pub(crate) fn keys(index: &dyn Index, content: ContentId) -> Result<Vec<Op>> {
    let found = index.scan(Table::Extents, &content.0.to_be_bytes(), None, usize::MAX)?;
    Ok(found.into_iter().map(|(key, _)| Op::Delete(Table::Extents, key)).collect())
}

/// The changes that make the index say what is present in these extents of a content now.
pub(crate) fn ops(
    id: ContentId,
    content: &Content,
    present: &RangeSet,
    extents: impl Iterator<Item = u32>,
    standing: impl Fn(u32) -> Standing,
) -> Vec<Op> {
    let mut ops = Vec::new();
    for extent in extents {
        let base = u64::from(extent) * limits::EXTENT;
        let range = base..base + limits::EXTENT;
        let parts = present.intersect(&range);
        if parts.is_empty() {
            ops.push(Op::Delete(Table::Extents, key(id, extent)));
            continue;
        }
        let first = base / limits::BLOCK;
        let blocks = first..first + limits::EXTENT / limits::BLOCK;
        let crcs = content.crcs.range(blocks);
        let Standing { protected, used } = standing(extent);
        let record = ExtentRecord {
            present: parts
                .iter()
                .map(|part| ((part.start - base) as u32, (part.end - base) as u32))
                .collect(),
            crcs: crcs.map(|(block, crc)| ((block - first) as u8, *crc)).collect(),
            protected,
            used,
        };
        ops.push(put(key(id, extent), &record));
    }
    ops
}

/// The change that makes the index say how an extent stands; none where it has no such extent.
pub(crate) fn restamp(
    index: &dyn Index,
    extent: ExtentKey,
    standing: Standing,
) -> Result<Option<Op>> {
    let key = key(extent.0, extent.1);
    let Some(bytes) = index.get(Table::Extents, &key)? else { return Ok(None) };
    let Standing { protected, used } = standing;
    let record = ExtentRecord { protected, used, ..decode(&bytes)? };
    Ok(Some(put(key, &record)))
}

/// One extent of the index, for the heat after a start.
pub(crate) struct Warm {
    pub content: ContentId,
    pub extent: u32,
    pub bytes: u32,
    pub standing: Standing,
}

/// All extents of the index, in pieces, by their order of last use within a piece's caller.
pub(crate) fn warm(
    index: &dyn Index,
    after: Option<&[u8]>,
) -> Result<(Vec<Warm>, Option<Vec<u8>>)> {
    let found = index.scan(Table::Extents, &[], after, limits::SCAN)?;
    let last = found.last().map(|(key, _)| key.clone());
    let mut warm = Vec::with_capacity(found.len());
    for (key, value) in &found {
        let Some((content, extent)) = extent_of(key) else { continue };
        let record = decode(value)?;
        let bytes = record.present.iter().map(|(start, end)| end - start).sum();
        let standing = Standing { protected: record.protected, used: record.used };
        warm.push(Warm { content, extent, bytes, standing });
    }
    Ok((warm, last))
}
