//! Verifying a cache that nobody has mounted: checksums against data files, journal against both.

use crate::attr::ContentId;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::extents;
use crate::file::{block_range, data_path};
use crate::index::Index;
use crate::journal::{Journal, Replayed, is_torn};
use crate::limits;
use crate::start::CheckReport;
use std::collections::HashSet;

pub(crate) fn check(
    disk: &dyn Disk,
    index: &dyn Index,
    journal: &Journal,
    replayed: &Replayed,
    repair: bool,
) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    for name in replayed.set_aside.iter().filter(|name| !is_torn(name)) {
        report
            .problems
            .push(format!("a damaged part of the journal was set aside: journal/{name}"));
    }
    let mut contents = HashSet::new();
    let mut after = None;
    loop {
        let (found, last) = extents::warm(index, after.as_deref())?;
        contents.extend(found.iter().map(|extent| extent.content));
        match last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    for content in contents {
        if let Some(problem) = check_content(disk, index, journal, content, &mut report)? {
            report.problems.push(problem);
            if repair {
                index.apply(&extents::keys(index, content)?)?;
                let fetched = "its bytes are fetched again when they are read";
                report.repaired.push(format!("{}: {fetched}", data_path(content)));
            }
        }
    }
    check_journal(disk, journal, &mut report)?;
    if repair {
        index.flush_durable()?;
    }
    Ok(report)
}

/// Compares clean blocks with their checksums; what is dirty has none.
fn check_content(
    disk: &dyn Disk,
    index: &dyn Index,
    journal: &Journal,
    content: ContentId,
    report: &mut CheckReport,
) -> Result<Option<String>> {
    let (mut present, crcs) = extents::load(index, content)?;
    journal.live(|live| {
        present.subtract(&live.absent_ranges(content));
        if let Some(live) = live.contents.get(&content) {
            present.subtract(&live.dirty());
            present.truncate(live.base_end);
        }
    });
    let path = data_path(content);
    let data = match disk.open(&path, false) {
        Ok(data) => data,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((!present.is_empty()).then(|| format!("{path} is missing")));
        }
        Err(error) => return Err(Error::disk("open a data file", error)),
    };
    report.files += 1;
    let failed = |error| Error::disk("read a data file", error);
    let len = data.len().map_err(failed)?;
    let stored = data.data_ranges(0..len).map_err(failed)?;
    let mut bytes = vec![0; limits::BLOCK as usize];
    for (block, crc) in crcs {
        let range = block_range(block, len);
        let start = range.start;
        // A hole counts as absent at the next start; part of a block has no checksum.
        if range.is_empty() || !present.contains(&range) || !stored.contains(&range) {
            continue;
        }
        let part = &mut bytes[..(range.end - range.start) as usize];
        data.read_at(part, start).map_err(failed)?;
        report.checked_bytes += part.len() as u64;
        if crc32fast::hash(part) != crc {
            return Ok(Some(format!("{path}: the block at {start} is not what was fetched")));
        }
    }
    Ok(None)
}

/// Bytes that only we have must be where the journal says.
fn check_journal(disk: &dyn Disk, journal: &Journal, report: &mut CheckReport) -> Result<()> {
    let dirty = journal.live(|live| {
        let dirty = live.contents.iter().filter(|(_, content)| {
            content.generations.values().any(|ranges| {
                let mut data = ranges.dirty.clone();
                data.subtract(&ranges.zeros);
                !data.is_empty()
            })
        });
        dirty.map(|(id, _)| *id).collect::<Vec<_>>()
    });
    for content in dirty {
        let path = data_path(content);
        if !disk.exists(&path).map_err(|error| Error::disk("look at a data file", error))? {
            report.problems.push(format!("{path}: bytes that only this cache had are gone"));
        }
    }
    let recovered = disk.list("recovered", true);
    let recovered = recovered.map_err(|error| Error::disk("list recovered/", error))?;
    if !recovered.is_empty() {
        report.problems.push(format!("{} files nobody claims lie in recovered/", recovered.len()));
    }
    Ok(())
}
