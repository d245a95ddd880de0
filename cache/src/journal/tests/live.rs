//! What single records mean.

use super::*;

fn live(records: &[Record]) -> LiveContent {
    let mut live = Live::default();
    for record in records {
        live.apply(record);
        live.contents.values().for_each(LiveContent::check_invariants);
    }
    live.contents.remove(&ContentId(1)).unwrap()
}

const TIME: Timestamp = Timestamp { seconds: 7, nanos: 0 };
const CONTENT: ContentId = ContentId(1);

fn touched(base_end: u64) -> Record {
    Record::Touched { content: CONTENT, generation: 1, base_end, size: base_end, mtime: TIME }
}

fn truncated(generation: u64, size: u64) -> Record {
    Record::Truncated { content: CONTENT, generation, size, mtime: TIME }
}

fn zeroed(generation: u64, range: Range<u64>, size: u64) -> Record {
    Record::Zeroed { content: CONTENT, generation, range: range.into(), size, mtime: TIME }
}

fn clean_up_to(generation: u64, base_end: u64) -> Record {
    Record::CleanUpTo { content: CONTENT, generation, base_end }
}

#[test]
fn writes_and_zeros_replace_one_another() {
    let content = live(&[touched(100), zeroed(1, 10..50, 100), wrote(1, 2, 20..30, 100)]);
    assert_eq!(content.generations[&1].zeros, [10..20, 30..50].into_iter().collect());
    assert_eq!(content.generations[&1].dirty, (10..50).into(), "frozen ranges stay dirty");
    assert_eq!(content.dirty(), (10..50).into());
    assert_eq!(content.unsynced, (20..30).into());
    let content = live(&[touched(100), wrote(1, 1, 0..90, 100), zeroed(1, 10..50, 100)]);
    assert_eq!(content.unsynced, [0..10, 50..90].into_iter().collect(), "zeros need no sync");
}

#[test]
fn what_lies_past_the_smallest_size_since_the_base_is_ours() {
    // rule J5
    let content = live(&[touched(100), truncated(1, 40), wrote(1, 1, 80..90, 90)]);
    assert_eq!((content.base_end, content.size), (40, 90));
    assert_eq!(content.dirty(), (80..90).into());
    let content = live(&[touched(100), wrote(1, 1, 0..90, 100), truncated(1, 40)]);
    assert_eq!((content.dirty(), content.unsynced), ((0..40).into(), (0..40).into()));
}

#[test]
fn what_was_cut_off_since_an_upload_began_is_not_the_new_base() {
    // rule S1: generation 1 was uploaded with 200 bytes; meanwhile it was cut to 50 and grew again.
    let mut records = vec![touched(100), wrote(1, 1, 100..200, 200)];
    records.extend([truncated(2, 50), wrote(1, 2, 250..300, 300)]);
    let content = live(&[&records[..], &[clean_up_to(1, 200)]].concat());
    assert_eq!((content.base_end, content.size), (50, 300));
    assert_eq!(content.dirty(), (250..300).into());
    // Without the cut all of the uploaded version counts, though the file is longer now.
    let grown = [touched(100), wrote(1, 1, 100..200, 200), wrote(1, 2, 250..300, 300)];
    let content = live(&[&grown[..], &[clean_up_to(1, 200)]].concat());
    assert_eq!(content.base_end, 200);
    // The cut of an earlier generation is in what was uploaded.
    let cut = [touched(100), truncated(1, 50), wrote(1, 1, 150..200, 200), clean_up_to(1, 200)];
    let content = live(&cut);
    assert_eq!((content.base_end, content.is_dirty()), (200, false));
}

#[test]
fn a_content_is_dirty_by_its_size_alone() {
    assert!(!live(&[touched(100)]).is_dirty());
    assert!(live(&[touched(100), truncated(1, 200)]).is_dirty());
    let content = live(&[touched(100), truncated(1, 200), clean_up_to(1, 200)]);
    assert!(!content.is_dirty() && content.touched, "it stays until ContentGone");
}

#[test]
fn a_sync_covers_what_was_written_before_it_began() {
    // rule J6
    let began = Record::SyncBegan { content: CONTENT };
    let mut records = vec![touched(100), wrote(1, 1, 0..10, 100), began.clone()];
    records.push(wrote(1, 1, 5..20, 100));
    let content = live(&records);
    assert_eq!((&content.syncing, &content.unsynced), (&(0..10).into(), &(5..20).into()));
    records.push(Record::Synced { content: CONTENT });
    let content = live(&records);
    assert_eq!((content.syncing.total(), content.unsynced), (0, (5..20).into()));
    // The sync failed, a later one does not forget what it should have covered.
    records.pop();
    records.push(began);
    assert_eq!(live(&records).syncing, (0..20).into());
}

#[test]
fn absences_hold_until_the_index_knows() {
    // rule D3
    let mut live = Live::default();
    let absent = |epoch, range: Range<u64>| Record::Absent {
        content: CONTENT,
        epoch,
        ranges: vec![range.into()],
    };
    for record in [absent(1, 0..10), absent(2, 20..30), Record::ContentGone(CONTENT)] {
        live.apply(&record);
    }
    assert_eq!(live.absent_ranges(CONTENT).total(), 20, "in step is not present");
    live.apply(&Record::IndexFlushed { epoch: 1 });
    assert_eq!(live.absent_ranges(CONTENT), (20..30).into());
    assert_eq!(live.index_epoch, 1);
}

#[test]
fn folding_keeps_dirty_nodes_and_all_above_them() {
    // rule J1
    let mut live = Live::default();
    let mut moved = node(10, 3, false);
    moved.base.as_mut().unwrap().place.parent = Ino(5);
    let clean = [node(2, 1, false), node(3, 2, false), node(4, 1, false), node(5, 4, false)];
    let other = [node(6, 2, false), node(7, 6, false)];
    for node in clean.into_iter().chain(other).chain([moved]) {
        live.apply(&Record::Node(Box::new(node)));
    }
    live.prune();
    let mut left: Vec<u64> = live.nodes.keys().map(|ino| ino.0).collect();
    left.sort_unstable();
    assert_eq!(left, [2, 3, 4, 5, 10], "above the new place and above the base");
}
