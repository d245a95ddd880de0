//! Our own changes are not taken for somebody else's, whatever becomes of their answers.

use super::*;

/// rule S4: an upload arrives, its answer is lost, and before anybody asks, the same bytes are
/// written again. Those are newer than what arrived.
#[test]
fn what_is_written_after_a_lost_answer_is_sent() {
    let rig = Rig::new();
    rig.save("a", &pattern(1, 1000)).unwrap();
    rig.sync();
    let lost = Fault::After(RemoteKind::Timeout);
    rig.remote.inject(Rule::new("replace", lost).times(1));
    rig.edit("a", 0, &pattern(2, 1000)).unwrap();
    rig.until("the upload arrived", |rig| rig.there("a") == Some(pattern(2, 1000)));
    rig.edit("a", 0, &pattern(3, 1000)).unwrap();
    rig.sync();
    same(&rig.there("a").unwrap(), &pattern(3, 1000));
    assert_eq!(rig.share_files(), ["a"]);
}

/// rule S4: an upload arrives and its answer is lost; the file is removed and another made under
/// its name before anybody asks. There is no conflict with ourselves.
#[test]
fn a_lost_upload_is_no_conflict_for_the_next_file_of_its_name() {
    for link in [false, true] {
        let rig = Rig::new();
        rig.remote.inject(Rule::new("replace", Fault::After(RemoteKind::Timeout)).times(1));
        rig.save("a", b"first").unwrap();
        rig.until("it arrived", |rig| rig.there("a").is_some());
        rig.unlink("a").unwrap();
        if link { rig.symlink("a", b"target") } else { rig.save("a", b"second") }.unwrap();
        rig.sync();
        assert_eq!(rig.share_files(), ["a"], "link: {link}");
        assert_eq!(rig.there("a"), if link { None } else { Some(b"second".to_vec()) });
        assert_eq!(rig.conflicts(), []);
    }
}

/// A share that was away may be asked for so late: who waits for it is as patient.
const LATE_PROBE: Duration = Duration::from_secs(15);

/// Once it is out of reach the share stays so until it is healed: nobody finds out what became of
/// a change before the scene is set.
fn stays_away(rig: &Rig) {
    rig.remote.inject(Rule::new("identity", Fault::Before(RemoteKind::Unreachable)));
}

/// rule X5: where names are exchanged, a rename over another file that is cut off in the middle
/// leaves the old file under the name that ours had. It goes when the outcome is found out.
#[test]
fn a_rename_cut_off_after_the_exchange_leaves_nothing() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), "ours");
        memory.write_file(&path("b"), "old");
        config.timeout = LATE_PROBE;
    });
    assert_eq!(rig.names("").unwrap(), ["a", "b"]);
    rig.remote.inject(Rule::new("rename", Fault::Before(RemoteKind::Timeout)).times(1));
    stays_away(&rig);
    rig.mv("a", "b").unwrap();
    rig.until("the rename failed", |rig| rig.remote.faults() > 0);
    for (from, to) in [("b", "t"), ("a", "b"), ("t", "a")] {
        assert!(rig.memory.move_path(&path(from), &path(to)));
    }
    rig.remote.heal();
    rig.sync();
    assert_eq!(rig.share_files(), ["b"]);
    assert_eq!(rig.there("b").unwrap(), b"ours");
    assert_eq!(rig.names("").unwrap(), ["b"]);
    assert_eq!(rig.conflicts(), []);
}

/// rule X5: an upload leaves what it replaced under its temporary name. When that is not what was
/// seen there before, it is somebody's edit: it gets a name.
#[test]
fn an_upload_cut_off_after_the_exchange_removes_only_what_was_seen() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("d/a.txt"), "old");
        config.timeout = LATE_PROBE;
    });
    assert_eq!(rig.read("d/a.txt").unwrap(), b"old");
    rig.remote.inject(Rule::new("replace", Fault::After(RemoteKind::Timeout)).times(1));
    stays_away(&rig);
    rig.edit("d/a.txt", 0, b"new bytes").unwrap();
    rig.until("the upload arrived", |rig| rig.there("d/a.txt") == Some(b"new bytes".to_vec()));
    rig.memory.write_file(&path(&format!("d/{}", temporary_name(&rig))), "edited there");
    rig.remote.heal();
    rig.sync();
    let files = rig.share_files();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[0].starts_with("d/a-kept-") && files[0].ends_with(".txt"), "{files:?}");
    assert_eq!(rig.there(&files[0]).unwrap(), b"edited there");
    assert_eq!(rig.there("d/a.txt").unwrap(), b"new bytes");
}

/// The name of the last upload's temporary file, from the journal.
fn temporary_name(rig: &Rig) -> String {
    let journal = std::fs::read_dir(rig.config.cache_dir.join("journal")).unwrap();
    let mut found = None;
    for segment in journal {
        let bytes = std::fs::read(segment.unwrap().path()).unwrap();
        for start in (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b".~covefs-")) {
            let name = bytes[start..]
                .iter()
                .take_while(|b| b.is_ascii_alphanumeric() || b".~-".contains(b));
            found = Some(name.map(|byte| char::from(*byte)).collect());
        }
    }
    found.expect("an upload was begun")
}

/// rule S4: the same while the upload is still under way.
#[test]
fn an_upload_under_way_is_no_conflict_for_the_next_file_of_its_name() {
    let rig = Rig::new();
    let gate = Gate::new();
    let stall = Fault::Stall { bytes: 2, gate: gate.clone() };
    rig.remote.inject(Rule::new("replace", stall).times(1));
    rig.save("a", b"first").unwrap();
    rig.wait(gate.arrived(1));
    // It would come after the upload and before the removal.
    rig.remote.inject(Rule::new("symlink", Fault::Delay(Duration::from_millis(150))).times(1));
    rig.remote.inject(Rule::new("remove", Fault::Delay(Duration::from_millis(300))).times(1));
    rig.unlink("a").unwrap();
    rig.symlink("a", b"target").unwrap();
    rig.pause(Duration::from_millis(50));
    gate.open();
    rig.sync();
    assert_eq!(rig.share_files(), ["a"]);
    assert_eq!(rig.there("a"), None);
    assert_eq!(rig.conflicts(), []);
}

/// rule S4: an upload arrives, another file is renamed over it here, and the process is killed
/// before it knows of the upload. There is no conflict with ourselves.
#[test]
fn a_lost_upload_is_no_conflict_for_what_is_renamed_over_it() {
    for round in 0..8 {
        let mut rig = Rig::with(|memory, _| memory.write_file(&path("a"), "old"));
        assert_eq!(rig.read("a").unwrap(), b"old");
        rig.remote.inject(Rule::new("replace", Fault::Late(Duration::from_secs(60))).times(1));
        rig.edit("a", 0, b"first").unwrap();
        rig.until("it arrived", |rig| rig.there("a") == Some(b"first".to_vec()));
        rig.save("t", b"second").unwrap();
        rig.mv("t", "a").unwrap();
        // Found out at the first start, gone on with at the second.
        rig.config.debounce = Duration::from_secs(3600);
        for _ in 0..2 {
            rig.crash(Index::Deleted);
            rig.start();
        }
        rig.sync();
        assert_eq!(rig.share_files(), ["a"], "round {round}");
        assert_eq!(rig.there("a").unwrap(), b"second");
        assert_eq!(rig.conflicts(), []);
    }
}

/// rule S4: a directory or link is made on the share, the process is killed before it knows, and
/// what it was made for was removed or renamed meanwhile. Nothing of it stays or comes back.
#[test]
fn what_was_made_before_a_crash_does_not_come_back() {
    for (kind, then) in [("dir", "rm"), ("dir", "mv"), ("link", "rm"), ("link", "mv")] {
        let mut rig = Rig::with(|memory, _| memory.write_file(&path("d/other"), "x"));
        assert_eq!(rig.names("d").unwrap(), ["other"]);
        let op = if kind == "dir" { "create_dir" } else { "symlink" };
        rig.remote.inject(Rule::new(op, Fault::Late(Duration::from_secs(60))).times(1));
        if kind == "dir" { rig.mkdir("d/a") } else { rig.symlink("d/a", b"target") }.unwrap();
        rig.until("it was made", |rig| rig.memory.tree().contains_key(&path("d/a")));
        match (kind, then) {
            ("dir", "rm") => rig.rmdir("d/a"),
            (_, "rm") => rig.unlink("d/a"),
            _ => rig.mv("d/a", "d/b"),
        }
        .unwrap();
        rig.crash(Index::Deleted);
        rig.start();
        rig.sync();
        rig.age();
        let wanted: &[&str] = if then == "rm" { &["other"] } else { &["b", "other"] };
        assert_eq!(rig.names("d").unwrap(), wanted, "{kind} {then}");
        let there = rig.memory.tree();
        assert!(!there.contains_key(&path("d/a")), "{kind} {then}");
        assert_eq!(rig.conflicts(), [], "{kind} {then}");
    }
}

/// `mv a t; mkdir a; mv t a/old` in one debounce: the new directory waits for the name, the old
/// one for its new directory. And the same one level deeper.
#[test]
fn a_directory_moves_into_a_new_one_of_its_own_name() {
    for deeper in [false, true] {
        let mut rig = Rig::with(|memory, config| {
            memory.write_file(&path("a/sub/f"), "bytes");
            config.debounce = Duration::from_millis(200);
        });
        rig.names("a/sub").unwrap();
        rig.mv("a", "t").unwrap();
        rig.mkdir("a").unwrap();
        let wanted = if deeper {
            rig.mv("t/sub", "a/sub").unwrap();
            rig.mv("t", "a/sub/old").unwrap();
            "a/sub/f"
        } else {
            rig.mv("t", "a/old").unwrap();
            "a/old/sub/f"
        };
        rig.sync();
        assert_eq!(rig.share_files(), [wanted]);
        rig.crash(Index::Deleted);
        rig.start();
        assert_eq!(rig.read(wanted).unwrap(), b"bytes");
        assert_eq!(rig.names("").unwrap(), ["a"]);
    }
}

/// `mv d/sub t; rmdir d; mv t d` in one debounce: the directory waits for the name, and the one
/// that has it for its last child to go.
#[test]
fn a_directory_is_replaced_by_one_of_its_own() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("d/sub/f"), "bytes");
        config.debounce = Duration::from_millis(200);
    });
    rig.names("d/sub").unwrap();
    rig.mv("d/sub", "t").unwrap();
    rig.rmdir("d").unwrap();
    rig.mv("t", "d").unwrap();
    rig.sync();
    assert_eq!(rig.share_files(), ["d/f"]);
    assert_eq!(rig.read("d/f").unwrap(), b"bytes");
    assert_eq!(rig.names("").unwrap(), ["d"]);
}

/// rule S3: `mkdir new; touch new/f; rm -r old; mv new old` in one debounce: the delete waits for
/// the upload, the upload for the directory, the directory for the delete.
#[test]
fn a_new_directory_takes_the_name_of_a_removed_one() {
    for kind in ["file", "dir"] {
        let rig = Rig::with(|memory, config| {
            match kind {
                "file" => memory.write_file(&path("old"), "old"),
                _ => memory.write_dir(&path("old")),
            }
            config.debounce = Duration::from_millis(300);
        });
        rig.find("old").unwrap();
        rig.mkdir("new").unwrap();
        rig.save("new/f", b"bytes").unwrap();
        if kind == "file" { rig.unlink("old") } else { rig.rmdir("old") }.unwrap();
        rig.mv("new", "old").unwrap();
        rig.sync();
        assert_eq!(rig.there("old/f").unwrap(), b"bytes");
        assert_eq!(rig.share_files(), ["old/f"]);
    }
}

/// rule S3: a file that is renamed or written over another is never missing on the share.
#[test]
fn a_replaced_file_is_never_missing_there() {
    for how in ["rename", "save", "link"] {
        let rig = Rig::with(|memory, config| {
            memory.write_file(&path("a"), "old");
            memory.write_file(&path("b"), "new");
            // Of a removal and a new file both are known before either is sent.
            config.debounce = Duration::from_secs(3600);
        });
        assert_eq!(rig.names("").unwrap(), ["a", "b"]);
        match how {
            "rename" => rig.mv("b", "a").unwrap(),
            "save" => {
                rig.unlink("a").unwrap();
                rig.save("a", b"new").unwrap();
            }
            _ => {
                rig.symlink("t", b"target").unwrap();
                rig.sync();
                rig.mv("t", "a").unwrap();
            }
        }
        rig.vfs().sync_now();
        rig.until("it arrived", |rig| {
            assert!(rig.memory.tree().contains_key(&path("a")), "{how}");
            rig.there("a") != Some(b"old".to_vec())
        });
        rig.sync();
        assert_eq!(rig.remote.requests("remove"), 0, "{how}");
        assert_eq!(rig.share_files().len(), if how == "rename" { 1 } else { 2 });
    }
}
