//! Bytes on the disk that are not what was written.

use super::super::frame::FRAME_HEADER;
use super::*;

/// Appends frames to a new journal; returns where each of them begins, and where the last one ends.
fn filled(disk: &MemoryDisk, frames: &[Vec<Record>]) -> Vec<u64> {
    let (journal, _) = open(disk);
    let mut borders = vec![journal.len_bytes()];
    for frame in frames {
        journal.append_durable(frame).unwrap();
        borders.push(journal.len_bytes());
    }
    disk.crash();
    borders
}

/// How many of the frames lie before a damaged byte.
fn good_before(borders: &[u64], at: u64) -> usize {
    borders[1..].iter().filter(|end| **end <= at).count()
}

const FIRST: &str = "journal/0000000000000001.log";

fn flip(disk: &MemoryDisk, path: &str, at: u64, mask: u8) {
    let file = disk.open(path, false).unwrap();
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, at).unwrap(), 1);
    file.write_at(&[byte[0] ^ mask], at).unwrap();
    file.sync_data().unwrap();
}

/// Whether damage at this place looks like a torn end: the last frame after a power cut, or the
/// last frame's header, which may now claim more than the file has.
fn may_be_torn(borders: &[u64], at: u64, power: bool) -> bool {
    let last = borders[borders.len() - 2];
    at >= last && (power || at < last + FRAME_HEADER as u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// rule J7: replay stops at the first bad frame, sets the rest aside and goes on elsewhere.
    #[test]
    fn nothing_behind_damage_is_replayed(
        frames: Frames, at: prop::sample::Index, mask in 1..=255u8, power: bool,
    ) {
        let disk = MemoryDisk::new(u64::MAX);
        let borders = filled(&disk, &frames.0);
        let at = at.index(*borders.last().unwrap() as usize) as u64;
        flip(&disk, FIRST, at, mask);
        if power {
            disk.power_loss(0);
        }
        let good = good_before(&borders, at);
        let (journal, replayed) = open(&disk);
        let expected = sum(&frames.0[..good]);
        let expected = if power && good > 0 { after_power_cut(expected) } else { expected };
        prop_assert_eq!(state_of(&journal), expected.clone());
        prop_assert!(!replayed.whole || may_be_torn(&borders, at, power), "{borders:?} {at} {mask} {power} {replayed:?}");
        prop_assert_eq!(replayed.set_aside.len(), 1);
        prop_assert!(disk.exists(&replayed.set_aside[0]).unwrap());
        journal.append(&[Record::Suspect(Ino(9))]).unwrap();
        disk.crash();
        let (journal, again) = open(&disk);
        prop_assert_eq!(again.whole, replayed.whole);
        prop_assert!(again.set_aside.is_empty());
        let mut expected = expected;
        expected.suspects.insert(Ino(9));
        prop_assert_eq!(state_of(&journal), expected);
    }

    /// rule J7: a crash while damage is being dealt with leads to the same state, and never to a
    /// journal that calls itself whole.
    #[test]
    fn a_crash_while_damage_is_set_aside_hides_nothing(
        frames: Frames, at: prop::sample::Index, ops in 0..24u64, cut: Option<u64>,
    ) {
        let disk = MemoryDisk::new(u64::MAX);
        let borders = filled(&disk, &frames.0);
        let at = at.index(*borders.last().unwrap() as usize) as u64;
        flip(&disk, FIRST, at, 1);
        let good = good_before(&borders, at);
        disk.kill_after_ops(ops);
        let _ = Journal::open_with(Arc::new(disk.clone()), TINY);
        match cut {
            Some(seed) => disk.power_loss(seed),
            None => disk.crash(),
        }
        let (journal, replayed) = open(&disk);
        let expected = sum(&frames.0[..good]);
        let state = state_of(&journal);
        let is_cut = cut.is_some() && state == after_power_cut(expected.clone());
        prop_assert!(is_cut || state == expected);
        prop_assert!(!replayed.whole || may_be_torn(&borders, at, cut.is_some()));
    }
}

/// A flipped bit in a length claims all that follows as its own; that is not a torn end.
#[test]
fn a_long_claim_over_good_frames_is_damage() {
    let disk = MemoryDisk::new(u64::MAX);
    let frames: Vec<_> = (0..20).map(|at| vec![wrote(1, 1, at..at + 1, 99)]).collect();
    let borders = filled(&disk, &frames);
    flip(&disk, FIRST, borders[10] + 1, 0x40);
    let (journal, replayed) = open(&disk);
    assert!(!replayed.whole);
    assert_eq!(state_of(&journal), sum(&frames[..10]));
}

#[test]
fn a_torn_end_is_cut_off_and_the_log_goes_on_there() {
    let frames: Vec<_> = (0..3).map(|at| vec![wrote(1, 1, at..at + 1, 99)]).collect();
    for round in 1..60 {
        let disk = MemoryDisk::new(u64::MAX);
        filled(&disk, &frames);
        for torn in 0..4 {
            let (journal, _) = open(&disk);
            disk.kill_after_bytes(round);
            let more = vec![wrote(1, 2, 200..900, 900); 4];
            assert!(journal.append(&more).is_err());
            disk.crash();
            let (journal, replayed) = open(&disk);
            assert!(replayed.whole && replayed.set_aside.len() == 1, "{torn} {replayed:?}");
            assert_eq!(state_of(&journal), sum(&frames));
            drop(journal);
            disk.crash();
        }
        let bad = disk.list("journal", false).unwrap().into_iter();
        assert_eq!(bad.filter(|file| file.path.ends_with("-torn")).count(), 2);
    }
}

#[test]
fn a_missing_segment_is_damage() {
    let disk = MemoryDisk::new(u64::MAX);
    let (journal, _) = open(&disk);
    journal.append(&[wrote(1, 1, 0..1, 9)]).unwrap();
    journal.compact().unwrap();
    journal.append(&[wrote(1, 1, 1..2, 9)]).unwrap();
    disk.crash();
    disk.remove("journal/0000000000000002.log").unwrap();
    let (journal, replayed) = open(&disk);
    assert!(!replayed.whole && state_of(&journal) == Live::default(), "{replayed:?}");
}

/// Cut at the border of a frame or within one, its end looks clean or torn: only the segment
/// behind it knows better.
#[test]
fn a_shortened_segment_before_another_is_damage() {
    for more in [0, 20] {
        let disk = MemoryDisk::new(u64::MAX);
        let (journal, _) = open(&disk);
        let short = journal.len_bytes() + more;
        journal.append(&[wrote(1, 1, 0..1, 9)]).unwrap();
        disk.fail_next(crate::disk::DiskOp::Rename, std::io::ErrorKind::Other);
        journal.compact().unwrap_err();
        journal.append(&[wrote(1, 1, 1..2, 9)]).unwrap();
        disk.crash();
        disk.open(FIRST, false).unwrap().set_len(short).unwrap();
        let (journal, replayed) = open(&disk);
        assert!(!replayed.whole && state_of(&journal) == Live::default(), "{replayed:?}");
    }
}

#[test]
fn a_shortened_fold_is_damage() {
    let disk = MemoryDisk::new(u64::MAX);
    let (journal, _) = open(&disk);
    journal.append(&[wrote(1, 1, 0..1, 9)]).unwrap();
    journal.compact().unwrap();
    disk.crash();
    disk.open("journal/0000000000000002.log", false).unwrap().set_len(40).unwrap();
    let (_, replayed) = open(&disk);
    assert!(!replayed.whole);
    assert_eq!(replayed.set_aside.len(), 2, "the fold and the segment behind it");
}
