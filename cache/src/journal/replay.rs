//! Opening the journal: from the files in `journal/` to the state they stand for.
//!
//! ```text
//!   0000000000000007.log      a segment
//!   0000000000000008.log.tmp  a fold that was being written: removed
//!   journal.bad-3             a segment set aside because of damage
//!   journal.bad-4-torn        bytes that were being written when the process stopped
//!   damaged                   there was damage that nobody has dealt with yet
//! ```
//!
//! Replay stops at the first thing that is wrong: a bad frame, a segment that does not follow the
//! one before. A torn end is cut off and the log goes on there. After damage, in this order: the
//! mark `damaged` is made, what was replayed is folded into a new segment, the segments with and
//! after the damage are set aside, those before it removed, and the log goes on behind the fold. A
//! crash in between finds the damage again, or the fold and the mark.

use super::frame::{FRAME_HEADER, Found, Header, Kind, Reader, SEGMENT_HEADER, Tail};
use super::live::Live;
use super::record::Record;
use super::segment::{self, DIR, Segment, number_of, unreadable};
use super::{JournalLimits, Replayed};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::limits;
use std::io;

const MARK: &str = "journal/damaged";
const BAD: &str = "journal.bad-";
const TORN: &str = "-torn";
/// No `Follows` alone in a frame is longer.
const FIRST_FRAME: u64 = FRAME_HEADER as u64 + 2 + 2 * 10;

/// An open journal.
pub(super) struct Opened {
    pub live: Live,
    pub current: Segment,
    /// Numbers and lengths of the segments before it.
    pub closed: Vec<(u64, u64)>,
    pub replayed: Replayed,
}

/// Where replay has come to.
#[derive(Default)]
struct Replay {
    live: Live,
    frames: u64,
    /// Boots that wrote frames, the last one last.
    boots: Vec<u64>,
    /// Segments replayed to their end, or to the tear in the last one.
    done: Vec<Done>,
    stop: Option<Stop>,
}

#[derive(Clone, Copy)]
struct Done {
    number: u64,
    end: u64,
    is_fold: bool,
}

/// Why replay did not come to the end of the last segment.
enum Stop {
    Torn {
        end: u64,
    },
    /// In this segment or between it and the one before.
    Damage {
        number: u64,
        reason: &'static str,
    },
}

pub(super) fn open(disk: &dyn Disk, boot: u64, limits: &JournalLimits) -> Result<Opened> {
    let marked = disk.exists(MARK).map_err(unreadable)?;
    let mut numbers = segments(disk).map_err(unreadable)?;
    let mut set_aside = Vec::new();
    if let Some(fold) = newest_fold(disk, &numbers).map_err(unreadable)? {
        let old: Vec<u64> = numbers.iter().copied().filter(|number| *number < fold).collect();
        drop_segments(disk, &old, marked, &mut set_aside).map_err(tidying)?;
        numbers.retain(|number| *number >= fold);
    }
    let mut replay = Replay::default();
    replay.run(disk, &numbers, boot).map_err(unreadable)?;
    let other_boot = replay.boots.last().is_some_and(|last| *last != boot);
    if other_boot {
        replay.live.power_was_cut();
    }
    let mut whole = !marked;
    let current = match replay.stop {
        Some(Stop::Damage { number, reason }) => {
            whole = false;
            tracing::error!(segment = number, reason, "the journal is damaged; go on without it");
            replay.go_on_after_damage(disk, &numbers, number, boot, limits, &mut set_aside)?
        }
        Some(Stop::Torn { end }) => {
            let last = replay.done.last().expect("a tear is at the end of a segment").number;
            cut_torn(disk, last, end, &mut set_aside).map_err(tidying)?;
            replay.go_on(disk, boot, limits)?
        }
        None => replay.go_on(disk, boot, limits)?,
    };
    let closed = replay.done.iter().filter(|done| done.number != current.number);
    let closed = closed.map(|done| (done.number, done.end)).collect();
    let frames = replay.frames;
    let replayed = Replayed { whole, frames, set_aside, other_boot };
    Ok(Opened { live: replay.live, current, closed, replayed })
}

impl Replay {
    fn run(&mut self, disk: &dyn Disk, numbers: &[u64], boot: u64) -> io::Result<()> {
        for (at, number) in numbers.iter().enumerate() {
            let is_last = at + 1 == numbers.len();
            let mut reader = Reader::open(disk.open(&segment::path(*number), false)?, *number)?;
            self.stop = match reader.header()? {
                Some(header) if header.number == *number => {
                    self.segment(&mut reader, header, is_last, boot)?
                }
                // Made for a fold, and stopped before its header was written: `go_on` removes it.
                None if is_last && reader.is_unbegun()? => None,
                _ => Some(Stop::Damage { number: *number, reason: "bad segment header" }),
            };
            if self.stop.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn segment(
        &mut self,
        reader: &mut Reader,
        header: Header,
        is_last: bool,
        boot: u64,
    ) -> io::Result<Option<Stop>> {
        let number = header.number;
        let damage = |reason| Ok(Some(Stop::Damage { number, reason }));
        let is_fold = matches!(header.kind, Kind::Fold { .. });
        let mut at = SEGMENT_HEADER;
        let mut is_first = true;
        while let Found::Frame { boot, records, next } = reader.frame(at)? {
            if is_first && !is_fold && !self.is_followed_by(&records) {
                return damage("does not follow the segment before it");
            }
            is_first = false;
            self.frame(boot, &records);
            at = next;
        }
        let tail = match header.kind {
            Kind::Fold { end } if end == at => Tail::Clean,
            Kind::Fold { .. } => return damage("a folded segment is cut short"),
            Kind::Log => reader.tail(at, boot)?,
        };
        match tail {
            // Begun for a fold and not appended to: `go_on` removes it.
            Tail::Clean if is_first && !is_fold && is_last => return Ok(None),
            // Its first frame, which is a short one, was under way: the same.
            Tail::Torn if is_first && is_last && reader.len() < at + FIRST_FRAME => {
                return Ok(None);
            }
            Tail::Clean if is_first && !is_fold => return damage("an empty segment"),
            Tail::Torn if is_first || !is_last => return damage("a frame is cut short"),
            Tail::Damage => return damage("a bad frame"),
            Tail::Clean | Tail::Torn => {}
        }
        self.done.push(Done { number, end: at, is_fold });
        Ok((tail == Tail::Torn).then_some(Stop::Torn { end: at }))
    }

    /// Whether a segment with this first frame follows the one that was replayed last.
    fn is_followed_by(&self, first: &[Record]) -> bool {
        let [Record::Follows { segment, end }, ..] = first else { return false };
        match self.done.last() {
            None => *segment == 0,
            // A fold takes the place of the segment it was made from, which had the number below.
            Some(last) if last.is_fold && segment + 1 == last.number => true,
            Some(last) => (*segment, *end) == (last.number, last.end),
        }
    }

    fn frame(&mut self, boot: u64, records: &[Record]) {
        if self.boots.last() != Some(&boot) {
            if !self.boots.is_empty() {
                self.live.power_was_cut();
            }
            self.boots.push(boot);
        }
        for record in records {
            self.live.apply(record);
        }
        self.frames += 1;
    }

    /// Goes on where the log ends: in its last segment, or in a new one behind a fold.
    fn go_on(&mut self, disk: &dyn Disk, boot: u64, limits: &JournalLimits) -> Result<Segment> {
        let last = self.done.last().copied();
        // What a crash left of a segment that was never appended to.
        let kept = last.map_or(0, |last| last.number);
        for number in segments(disk).map_err(unreadable)? {
            if number > kept {
                disk.remove(&segment::path(number)).map_err(tidying)?;
            }
        }
        for done in &self.done {
            // Replayed is not durable: the last run may have been killed before its sync.
            let file = disk.open(&segment::path(done.number), false).map_err(unreadable)?;
            file.sync_data().map_err(tidying)?;
            if !done.is_fold && Some(done.number) == last.map(|last| last.number) {
                disk.sync_dir(DIR).map_err(tidying)?;
                return Segment::resume(file, done.number, done.end, limits);
            }
        }
        let (number, end) = last.map_or((0, 0), |last| (last.number, last.end));
        let mut next = Segment::begin(disk, number + 1, limits)?;
        let follows = Record::Follows { segment: number, end };
        let frame = super::Frame::encode(&[follows])?;
        next.append(frame, boot).map_err(tidying)?;
        next.file.sync_data().map_err(tidying)?;
        Ok(next)
    }

    fn go_on_after_damage(
        &mut self,
        disk: &dyn Disk,
        numbers: &[u64],
        damaged: u64,
        boot: u64,
        limits: &JournalLimits,
        set_aside: &mut Vec<String>,
    ) -> Result<Segment> {
        disk.write_small(MARK, b"").map_err(tidying)?;
        let fold = numbers.last().map_or(1, |last| last + 1);
        let end = segment::write_fold(disk, fold, boot, self.live.clone())?;
        let (good, bad): (Vec<u64>, Vec<u64>) =
            numbers.iter().partition(|number| **number < damaged);
        drop_segments(disk, &bad, true, set_aside).map_err(tidying)?;
        drop_segments(disk, &good, false, set_aside).map_err(tidying)?;
        self.done = vec![Done { number: fold, end, is_fold: true }];
        self.go_on(disk, boot, limits)
    }
}

/// The numbers of the segments, in order. Removes what was being written when the process stopped.
fn segments(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in disk.list(DIR, false)? {
        if file.path.ends_with(".tmp") {
            disk.remove(&format!("{DIR}/{}", file.path))?;
        } else if let Some(number) = number_of(&file.path) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn newest_fold(disk: &dyn Disk, numbers: &[u64]) -> io::Result<Option<u64>> {
    for number in numbers.iter().rev() {
        let file = disk.open(&segment::path(*number), false)?;
        match Reader::open(file, *number)?.header()? {
            Some(Header { kind: Kind::Fold { .. }, number: own }) if own == *number => {
                return Ok(Some(*number));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Removes segments, or renames them to `journal.bad-N`.
fn drop_segments(
    disk: &dyn Disk,
    numbers: &[u64],
    keep: bool,
    set_aside: &mut Vec<String>,
) -> io::Result<()> {
    for number in numbers {
        let path = segment::path(*number);
        if keep {
            let aside = format!("{DIR}/{BAD}{}", next_bad(disk)?);
            disk.rename(&path, &aside)?;
            set_aside.push(aside);
        } else {
            disk.remove(&path)?;
        }
    }
    if numbers.is_empty() { Ok(()) } else { disk.sync_dir(DIR) }
}

/// Whether what was set aside is bytes that were being written when the process stopped, no damage.
pub(crate) fn is_torn(name: &str) -> bool {
    name.ends_with(TORN)
}

/// Copies what lies behind the last good frame to a file of its own and cuts it off.
fn cut_torn(disk: &dyn Disk, number: u64, end: u64, set_aside: &mut Vec<String>) -> io::Result<()> {
    let file = disk.open(&segment::path(number), false)?;
    let mut reader = Reader::open(file.clone(), number)?;
    let longest = FRAME_HEADER + limits::JOURNAL_FRAME as usize;
    let bytes = reader.bytes(end, longest)?;
    let aside = format!("{DIR}/{BAD}{}{TORN}", next_bad(disk)?);
    // Nobody was told that it is there: a full disk may go without the copy.
    let copied = disk.open(&aside, true).and_then(|copy| copy.write_at(bytes, 0));
    match copied {
        Ok(()) => set_aside.push(aside),
        Err(error) => tracing::info!(%error, "keep no copy of the torn end of the journal"),
    }
    file.set_len(end)?;
    file.sync_data()?;
    let mut torn: Vec<(u64, String)> = bad_files(disk)?;
    torn.retain(|(_, name)| is_torn(name));
    for (_, name) in &torn[..torn.len().saturating_sub(limits::JOURNAL_TORN)] {
        disk.remove(&format!("{DIR}/{name}"))?;
    }
    Ok(())
}

fn next_bad(disk: &dyn Disk) -> io::Result<u64> {
    Ok(bad_files(disk)?.last().map_or(1, |(last, _)| last + 1))
}

/// What was set aside, oldest first.
fn bad_files(disk: &dyn Disk) -> io::Result<Vec<(u64, String)>> {
    let files = disk.list(DIR, false)?;
    let numbered = files.into_iter().filter_map(|file| {
        let digits = file.path.strip_prefix(BAD)?.trim_end_matches(TORN);
        Some((digits.parse().ok()?, file.path))
    });
    let mut found: Vec<(u64, String)> = numbered.collect();
    found.sort_unstable();
    Ok(found)
}

/// Forgets that there was damage.
pub(super) fn unmark(disk: &dyn Disk) -> Result<()> {
    match disk.remove(MARK) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.and_then(|()| disk.sync_dir(DIR)).map_err(tidying),
    }
}

fn tidying(error: io::Error) -> Error {
    Error::disk("tidy up the journal", error)
}
