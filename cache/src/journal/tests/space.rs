//! How much room the log takes, and what it does when there is none.

use super::*;

/// Numbers as they are in a real run: start number << 40 | counter, gigabytes of file.
const CONTENT: u64 = (1234 << 40) | 56_789;

#[test]
fn one_write_takes_less_than_64_bytes() {
    let record = wrote(CONTENT, 100, (10 << 30)..(10 << 30) + 4096, 11 << 30);
    // rule J3
    assert!(Frame::encode(&[record]).unwrap().len() < 64);
}

/// rule J3: random writes over a large file make a log that grows by the write, not by what was
/// written before, and folding bounds it.
#[test]
fn random_writes_keep_the_log_linear() {
    let disk = MemoryDisk::new(u64::MAX);
    let limits = JournalLimits { fold_bytes: 1 << 20, fold_ratio: 4, ..TINY };
    let (journal, _) = Journal::open_with(Arc::new(disk.clone()), limits).unwrap();
    let blocks = (10u64 << 30) / 4096;
    let mut at = 1u64;
    let (mut longest, mut folds) = (0, 0);
    for _ in 0..60_000 {
        // One in 512 blocks is used, so that writes meet and the live set has an end.
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let start = (at >> 33) % (blocks / 512) * 512 * 4096;
        let before = journal.len_bytes();
        journal.append(&[wrote(CONTENT, 1, start..start + 4096, 10 << 30)]).unwrap();
        assert!(journal.len_bytes() - before < 64);
        folds += u32::from(journal.compact_if_due().unwrap());
        longest = longest.max(journal.len_bytes());
    }
    assert!(folds >= 1, "60,000 writes of 56 bytes make 3 MiB");
    assert!(longest < 2 << 20, "{longest}");
    let state = state_of(&journal);
    drop(journal);
    assert_eq!(state_of(&open(&disk).0), state);
}

/// rule J3: a content of more ranges than a frame can take is folded in pieces.
#[test]
fn a_content_of_a_million_ranges_is_folded() {
    let mut live = Live::default();
    let dirty: crate::ranges::RangeSet =
        (0..1_000_000u64).map(|at| at << 40..(at << 40) + 4096).collect();
    let mut content = LiveContent { size: u64::MAX, ..LiveContent::default() };
    content.suspect = dirty.clone();
    content.generations.insert(3, GenRanges { dirty, zeros: Default::default() });
    content.generations.insert(4, GenRanges::default());
    live.contents.insert(ContentId(1), content);
    let disk = MemoryDisk::new(u64::MAX);
    let path = segment::path(2);
    assert!(segment::write_fold(&disk, 2, 1, live.clone()).unwrap() > limits::JOURNAL_FRAME);
    assert!(disk.exists(&path).unwrap());
    assert!(state_of(&open(&disk).0) == live);
}

/// rule J9: a full disk refuses what takes room, and still takes what frees it.
#[test]
fn a_full_disk_can_be_emptied() {
    let disk = MemoryDisk::new(1 << 20);
    let (journal, _) = open(&disk);
    let hog = disk.open("data/hog", true).unwrap();
    let free = disk.space().unwrap().free;
    hog.reserve(0..free).unwrap();
    let mut frames = vec![vec![]];
    let error = loop {
        let frame = vec![wrote(1, 1, 0..frames.len() as u64, 1 << 20)];
        match journal.append(&frame) {
            Ok(()) => frames.push(frame),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::NoSpace);
    assert!(frames.len() > 500, "48 KiB of frames fit, {} did", frames.len());
    assert_eq!(journal.append(&[wrote(1, 1, 0..1, 1)]).unwrap_err().kind, ErrorKind::NoSpace);
    assert_eq!(journal.compact().unwrap_err().kind, ErrorKind::NoSpace, "and nothing breaks");
    for epoch in 0..200 {
        let ranges = vec![(0..4 << 20).into()];
        let frame = vec![Record::Absent { content: ContentId(2), epoch, ranges }];
        journal.append_freeing(&frame).unwrap();
        frames.push(frame);
    }
    journal.sync().unwrap();
    // A restart on the full disk finds the blocks of the last run.
    disk.crash();
    let (journal, replayed) = open(&disk);
    assert!(replayed.whole);
    assert_eq!(state_of(&journal), sum(&frames));
    assert_eq!(journal.append(&[wrote(1, 1, 0..1, 1)]).unwrap_err().kind, ErrorKind::NoSpace);
    journal.append_freeing(&[Record::IndexFlushed { epoch: 1 }]).unwrap();
    disk.remove("data/hog").unwrap();
    journal.append(&[wrote(1, 1, 0..1, 1)]).unwrap();
}

/// rule E2: what the journal takes is known, and what was allocated ahead of a closed segment is
/// given back.
#[test]
fn allocated_bytes_are_counted() {
    let disk = MemoryDisk::new(u64::MAX);
    let (journal, _) = open(&disk);
    let counted = |journal: &Journal| {
        let files = disk.list("journal", false).unwrap();
        assert_eq!(journal.bytes_allocated(), files.iter().map(|file| file.allocated).sum::<u64>());
        journal.bytes_allocated()
    };
    assert!(counted(&journal) >= TINY.ahead_bytes);
    for at in 0..5000 {
        journal.append(&[wrote(1, 1, 0..at, 1 << 20)]).unwrap();
    }
    assert!(counted(&journal) > journal.len_bytes());
    disk.fail_next(crate::disk::DiskOp::Rename, std::io::ErrorKind::Other);
    journal.compact().unwrap_err();
    let slack = counted(&journal) - journal.len_bytes();
    assert!(slack < TINY.ahead_bytes + 3 * 4096, "{slack}");
    journal.compact().unwrap();
    assert!(counted(&journal) < 2 * TINY.ahead_bytes);
}

#[test]
fn a_frame_that_is_too_long_is_refused_whole() {
    let disk = MemoryDisk::new(u64::MAX);
    let (journal, _) = open(&disk);
    let ranges = vec![ByteRange { start: 1 << 62, end: 1 << 63 }; 1 << 20];
    let record = Record::Absent { content: ContentId(1), epoch: 1, ranges };
    assert_eq!(journal.append(&[record]).unwrap_err().kind, ErrorKind::TooLarge);
    journal.append(&[wrote(1, 1, 0..1, 1)]).unwrap();
}

/// The same on the file system that this runs on: blocks ahead, folding, restart.
#[cfg(unix)]
#[test]
fn a_real_disk_allocates_ahead_and_gives_back() {
    let dir = tempfile::tempdir().unwrap();
    if let Err(error) = crate::disk::suitable(dir.path()) {
        eprintln!("not tested here: {error}");
        return;
    }
    let disk: Arc<dyn Disk> = Arc::new(crate::disk::RealDisk::open(dir.path().to_owned()).unwrap());
    let (journal, replayed) = Journal::open(disk.clone()).unwrap();
    assert!(replayed.whole && !replayed.other_boot);
    assert!(journal.bytes_allocated() >= limits::JOURNAL_AHEAD);
    journal.append_durable(&[wrote(1, 1, 0..5, 9)]).unwrap();
    journal.compact().unwrap();
    journal.append(&[wrote(1, 1, 7..9, 9)]).unwrap();
    let (state, allocated) = (state_of(&journal), journal.bytes_allocated());
    assert!(allocated < limits::JOURNAL_AHEAD + (1 << 20), "one segment's worth: {allocated}");
    drop(journal);
    let (journal, replayed) = Journal::open(disk).unwrap();
    assert!(replayed.whole && !replayed.other_boot && replayed.set_aside.is_empty());
    assert_eq!(state_of(&journal), state);
}
