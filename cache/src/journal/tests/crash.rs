//! kill -9 and power cuts at any point.

use super::*;
use crate::disk::DiskOp;

/// What a run does besides appending, chosen per frame.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Step {
    Append,
    Durable,
    Fold,
    /// A fold that cannot be put in its place: the log goes on in two segments.
    FailedFold,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Append),
        2 => Just(Step::Durable),
        2 => Just(Step::Fold),
        2 => Just(Step::FailedFold),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 40)
}

/// How far a run came: frames acknowledged, and of these the ones that must survive a power cut.
struct Ran {
    acknowledged: usize,
    durable: usize,
    /// One more frame may be there: the answer to it was lost, or was an error.
    unknown: bool,
}

fn run(disk: &MemoryDisk, frames: &[Vec<Record>], steps: &[Step]) -> Ran {
    let mut ran = Ran { acknowledged: 0, durable: 0, unknown: false };
    let Ok((mut journal, _)) = Journal::open_with(Arc::new(disk.clone()), TINY) else { return ran };
    for (frame, step) in frames.iter().zip(steps) {
        if *step == Step::Fold && journal.compact().is_err() && disk.is_killed() {
            return ran;
        }
        if *step == Step::FailedFold {
            disk.fail_next(DiskOp::Rename, std::io::ErrorKind::Other);
            journal.compact().unwrap_err();
            if disk.is_killed() {
                return ran;
            }
        }
        if *step == Step::Reopen {
            drop(journal);
            match Journal::open_with(Arc::new(disk.clone()), TINY) {
                Ok((opened, replayed)) => {
                    assert!(replayed.whole, "{replayed:?}");
                    journal = opened;
                    // Opening syncs what it replayed.
                    ran.durable = ran.acknowledged;
                }
                Err(_) => return ran,
            }
        }
        ran.unknown = true;
        if journal.append(frame).is_err() {
            return ran;
        }
        ran.unknown = false;
        ran.acknowledged += 1;
        if matches!(step, Step::Durable | Step::FailedFold) {
            if journal.sync().is_err() {
                return ran;
            }
            ran.durable = ran.acknowledged;
        }
    }
    ran
}

/// After kill -9 exactly what was acknowledged is there (or one frame more, whose answer was lost).
fn check_killed(disk: &MemoryDisk, frames: &[Vec<Record>], ran: &Ran) {
    disk.crash();
    let (journal, replayed) = open(disk);
    assert!(replayed.whole && !replayed.other_boot, "{replayed:?}");
    let state = state_of(&journal);
    let one_more = ran.unknown && state == sum(&frames[..ran.acknowledged + 1]);
    if !one_more {
        assert_eq!(state, sum(&frames[..ran.acknowledged]), "after {} frames", ran.acknowledged);
    }
    journal.append(&[Record::Suspect(Ino(77))]).unwrap();
    disk.crash();
    let (journal, replayed) = open(disk);
    assert!(replayed.whole && replayed.set_aside.is_empty(), "{replayed:?}");
    assert!(journal.live(|live| live.suspects.contains(&Ino(77))), "the log goes on");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// rule J7: killed in the middle of any write.
    #[test]
    fn killed_at_any_byte(frames: Frames, steps in steps(), bytes in 0..4000u64) {
        let disk = MemoryDisk::new(u64::MAX);
        open(&disk);
        disk.kill_after_bytes(bytes);
        let ran = run(&disk, &frames.0, &steps);
        check_killed(&disk, &frames.0, &ran);
    }

    /// rule J7: killed before any change of the disk: in the middle of folding and of opening too.
    #[test]
    fn killed_at_any_change(frames: Frames, steps in steps(), ops in 0..120u64) {
        let disk = MemoryDisk::new(u64::MAX);
        disk.kill_after_ops(ops);
        let ran = run(&disk, &frames.0, &steps);
        check_killed(&disk, &frames.0, &ran);
    }

    /// rule J6: after a power cut the state is one that there was, not older than the last sync.
    #[test]
    fn a_power_cut_keeps_what_was_synced(
        frames: Frames, steps in steps(), ops in 0..160u64, seed: u64,
    ) {
        let disk = MemoryDisk::new(u64::MAX);
        disk.kill_after_ops(ops);
        let ran = run(&disk, &frames.0, &steps);
        disk.power_loss(seed);
        let (journal, first) = open(&disk);
        let state = state_of(&journal);
        let last = (ran.acknowledged + usize::from(ran.unknown)).min(frames.0.len());
        let found = (ran.durable..=last)
            .any(|count| state == after_power_cut(sum(&frames.0[..count])));
        prop_assert!(found, "{} to {}: {:?}", ran.durable, last, state);
        drop(journal);
        // Found once, said until it is settled.
        let (journal, again) = open(&disk);
        prop_assert_eq!(again.whole, first.whole);
        prop_assert_eq!(state_of(&journal), state);
        journal.damage_settled().unwrap();
        drop(journal);
        prop_assert!(open(&disk).1.whole);
    }

    /// rule J3: folding changes nothing that counts.
    #[test]
    fn folding_at_any_point_changes_nothing(frames: Frames, steps in steps()) {
        let disk = MemoryDisk::new(u64::MAX);
        let ran = run(&disk, &frames.0, &steps);
        prop_assert_eq!(ran.acknowledged, frames.0.len());
        let (journal, _) = open(&disk);
        prop_assert_eq!(state_of(&journal), sum(&frames.0));
        journal.compact().unwrap();
        let folded = state_of(&journal);
        drop(journal);
        let (journal, _) = open(&disk);
        prop_assert_eq!(state_of(&journal), folded);
    }
}

/// A power cut cannot be told from a second one before what the first one took was looked at.
#[test]
fn what_a_power_cut_may_have_taken_stays_known_until_it_is_settled() {
    let disk = MemoryDisk::new(u64::MAX);
    let (journal, _) = open(&disk);
    let touched = Record::Touched {
        content: ContentId(5),
        generation: 1,
        base_end: 100,
        size: 100,
        mtime: Timestamp::default(),
    };
    journal.append_durable(&[touched, wrote(5, 1, 10..30, 100)]).unwrap();
    disk.power_loss(0);
    let (journal, replayed) = open(&disk);
    assert!(replayed.other_boot);
    // The next start is killed too, after it wrote something: same boot, but not settled.
    journal.append(&[wrote(5, 1, 10..20, 100)]).unwrap();
    disk.crash();
    let (journal, replayed) = open(&disk);
    assert!(!replayed.other_boot);
    journal.compact().unwrap();
    journal.live(|live| {
        let content = &live.contents[&ContentId(5)];
        assert_eq!(content.suspect, (20..30).into());
        assert!(content.power_cut);
    });
    let lost = vec![(25..30).into()];
    journal.append(&[Record::Settled { content: ContentId(5), lost }]).unwrap();
    disk.crash();
    let (journal, _) = open(&disk);
    journal.live(|live| {
        let content = &live.contents[&ContentId(5)];
        assert_eq!(content.dirty(), (10..25).into());
        assert!(!content.power_cut && content.suspect.is_empty());
    });
}

/// STYLE 18: after a failed fdatasync nothing that was written can be trusted to become durable.
#[test]
fn a_failed_sync_or_write_latches() {
    for op in [DiskOp::SyncData, DiskOp::Write] {
        let disk = MemoryDisk::new(u64::MAX);
        let (journal, _) = open(&disk);
        journal.append_durable(&[wrote(1, 1, 0..1, 1)]).unwrap();
        let before = state_of(&journal);
        disk.fail_next(op, std::io::ErrorKind::StorageFull);
        let error = journal.append_durable(&[wrote(1, 1, 1..2, 2)]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Io, "NoSpace would promise that it was not appended");
        let calls: [fn(&Journal) -> Result<()>; 4] = [
            |journal| journal.append(&[Record::Suspect(Ino(1))]),
            |journal| journal.append_freeing(&[Record::Suspect(Ino(1))]),
            Journal::sync,
            Journal::compact,
        ];
        for call in calls {
            assert_eq!(call(&journal).unwrap_err().kind, ErrorKind::Io);
        }
        disk.power_loss(3);
        let (journal, _) = open(&disk);
        let state = state_of(&journal);
        let with_second =
            after_power_cut(sum([&vec![wrote(1, 1, 0..1, 1)], &vec![wrote(1, 1, 1..2, 2)]]));
        assert!(state == after_power_cut(before) || state == with_second);
    }
}

/// Appends, syncs and folds of several threads at once end in the state that the log replays to.
#[test]
fn threads_share_syncs_and_folds() {
    let disk = MemoryDisk::new(u64::MAX);
    let (journal, _) = open(&disk);
    std::thread::scope(|scope| {
        for thread in 1..5u64 {
            let journal = &journal;
            scope.spawn(move || {
                for at in 0..200 {
                    let record = wrote(thread, 1, at * 10..at * 10 + 5, at * 10 + 5);
                    journal.append(std::slice::from_ref(&record)).unwrap();
                    match at % 7 {
                        0 => journal.sync().unwrap(),
                        3 => journal.compact().unwrap(),
                        _ => {}
                    }
                }
                journal.sync().unwrap();
            });
        }
    });
    let state = state_of(&journal);
    for thread in 1..5 {
        assert_eq!(state.contents[&ContentId(thread)].dirty().range_count(), 200);
    }
    disk.power_loss(1);
    let (journal, replayed) = open(&disk);
    assert!(replayed.whole, "{replayed:?}");
    assert_eq!(state_of(&journal), after_power_cut(state));
}
