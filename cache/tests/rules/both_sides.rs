//! Changes here and there: both are kept, or one wins as it should.

use super::*;

/// rule S5: a chmod here and an edit in place there are both kept, and the edit is seen.
#[test]
fn an_edit_there_is_seen_after_a_chmod_here() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), pattern(1, 1000));
        config.freshness = Duration::from_millis(300);
    });
    same(&rig.read("a").unwrap(), &pattern(1, 1000));
    rig.memory.write_file(&path("a"), pattern(2, 1000));
    rig.set("a", SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    rig.sync();
    rig.age();
    same(&rig.read("a").unwrap(), &pattern(2, 1000));
}

/// rule S5: the same, with an edit here after it: theirs is not overwritten unseen.
#[test]
fn an_edit_there_is_not_overwritten_after_a_chmod_here() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), pattern(1, 1000));
        config.freshness = Duration::from_secs(3600);
    });
    same(&rig.read("a").unwrap(), &pattern(1, 1000));
    rig.memory.write_file(&path("a"), pattern(2, 1000));
    rig.set("a", SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    rig.sync();
    rig.edit("a", 0, b"mine").unwrap();
    rig.sync();
    let all: Vec<_> = rig.share_files().iter().map(|name| rig.there(name).unwrap()).collect();
    assert!(all.contains(&pattern(2, 1000)), "{:?}", rig.share_files());
}

/// rule S5: the same of a file that is saved there as a new one under the old name.
#[test]
fn a_mode_set_here_and_a_save_there_are_both_kept() {
    for open in [false, true] {
        let rig = Rig::with(|memory, _| memory.write_file(&path("a"), pattern(1, 1000)));
        let fh = rig.open("a", READ).unwrap();
        same(&rig.read_at(fh, 0, 1000).unwrap(), &pattern(1, 1000));
        if !open {
            rig.close(fh);
        }
        rig.memory.remove_path(&path("a"));
        rig.memory.write_file(&path("a"), pattern(2, 2000));
        rig.set("a", SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
        rig.sync();
        rig.age();
        same(&rig.read("a").unwrap(), &pattern(2, 2000));
        rig.sync();
        rig.evict("a");
        rig.age();
        assert_eq!(rig.find("a").unwrap().mode & 0o777, 0o600, "open: {open}");
        assert_eq!(rig.memory.tree().len(), 1);
        assert_eq!(rig.conflicts(), []);
    }
}

/// Our own utimes on a file that is open and not whole: the rest can still be read.
#[test]
fn a_cold_file_is_read_on_after_utimes() {
    let bytes = pattern(1, 40 * BLOCK);
    let rig = Rig::with(|memory, _| memory.write_file(&path("a"), bytes.clone()));
    let fh = rig.open("a", READ).unwrap();
    assert_eq!(rig.read_at(fh, 0, 10).unwrap(), bytes[..10]);
    let time = SetTime::At(Timestamp { seconds: 1_000_000_000, nanos: 0 });
    rig.set("a", SetAttr { mtime: Some(time), ..SetAttr::default() }).unwrap();
    rig.sync();
    let at = 30 * BLOCK;
    assert_eq!(rig.read_at(fh, at as u64, 10).unwrap(), bytes[at..at + 10]);
    rig.close(fh);
}

/// rules D5, S6: a file that is edited here and not whole goes from the share. What we have of it
/// is made anew, and the gaps are told of.
#[test]
fn an_edited_file_that_is_not_whole_outlives_its_base() {
    for listed_first in [false, true] {
        let size = 40 << 20;
        let rig = Rig::with(|memory, config| {
            config.limit_bytes = 64 << 20;
            memory.write_file(&path("d/a"), pattern(1, size));
            config.debounce = Duration::from_secs(3600);
        });
        rig.edit("d/a", 0, b"mine").unwrap();
        rig.memory.remove_path(&path("d/a"));
        if listed_first {
            rig.age();
            assert_eq!(rig.names("d").unwrap(), ["a"]);
        }
        rig.sync();
        let there = rig.there("d/a").unwrap();
        assert_eq!(there.len(), size);
        assert_eq!(&there[..4], b"mine");
        let conflicts = rig.conflicts();
        assert_eq!(conflicts.len(), 1, "listed first: {listed_first}");
        assert!(!conflicts[0].missing.is_empty(), "the gaps are told of");
    }
}

/// The clean bytes of an edited file whose base is gone are the only copy: they are not evicted.
#[test]
fn clean_bytes_of_an_edited_file_that_is_gone_there_stay() {
    let bytes = pattern(1, 8 << 20);
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("d/a"), bytes.clone());
        config.debounce = Duration::from_secs(3600);
    });
    same(&rig.read("d/a").unwrap(), &bytes);
    rig.edit("d/a", 0, b"mine").unwrap();
    rig.memory.remove_path(&path("d/a"));
    rig.age();
    assert_eq!(rig.names("d").unwrap(), ["a"]);
    rig.evict("d");
    rig.sync();
    let there = rig.there("d/a").unwrap();
    assert_eq!(&there[..4], b"mine");
    assert!(there[4..] == bytes[4..], "bytes were lost");
}

/// A file changed on both sides: what the share has keeps the name, ours goes beside it.
fn conflict(here: impl Fn(&Rig), there: impl Fn(&Rig), wanted: &[(&str, &str)], conflicts: usize) {
    for seen in [false, true] {
        let rig = Rig::with(|memory, config| {
            memory.write_file(&path("d/a"), "base");
            memory.write_dir(&path("d/empty"));
            config.debounce = Duration::from_secs(3600);
        });
        assert_eq!(rig.read("d/a").unwrap(), b"base");
        here(&rig);
        there(&rig);
        if seen {
            rig.age();
            rig.names("d").unwrap();
        }
        rig.sync();
        rig.age();
        let names: Vec<_> = wanted.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(rig.share_files(), names, "seen before the upload: {seen}");
        for (name, text) in wanted {
            assert_eq!(rig.there(name).unwrap(), text.as_bytes(), "{name}, seen: {seen}");
            assert_eq!(rig.read(name).unwrap(), text.as_bytes(), "{name}, seen: {seen}");
        }
        assert_eq!(rig.conflicts().len(), conflicts, "seen: {seen}: {:?}", rig.conflicts());
    }
}

#[test]
fn edit_and_edit() {
    conflict(
        |rig| rig.save("d/a", b"mine").unwrap(),
        |rig| rig.memory.write_file(&path("d/a"), "theirs"),
        &[("d/a", "theirs"), ("d/a-here", "mine")],
        1,
    );
    conflict(
        |rig| rig.save("d/a", b"same").unwrap(),
        |rig| rig.memory.write_file(&path("d/a"), "same"),
        &[("d/a", "same")],
        0,
    );
}

#[test]
fn edit_and_delete() {
    conflict(
        |rig| rig.save("d/a", b"mine").unwrap(),
        |rig| assert!(rig.memory.remove_path(&path("d/a"))),
        &[("d/a", "mine")],
        0,
    );
    conflict(
        |rig| rig.save("d/a", b"mine").unwrap(),
        |rig| assert!(rig.memory.remove_path(&path("d"))),
        &[("d/a", "mine")],
        0,
    );
    conflict(
        |rig| rig.unlink("d/a").unwrap(),
        |rig| rig.memory.write_file(&path("d/a"), "theirs"),
        &[("d/a", "theirs")],
        0,
    );
}

#[test]
fn create_and_create() {
    conflict(
        |rig| rig.save("d/b", b"mine").unwrap(),
        |rig| rig.memory.write_file(&path("d/b"), "theirs"),
        &[("d/a", "base"), ("d/b", "theirs"), ("d/b-here", "mine")],
        1,
    );
    conflict(
        |rig| rig.save("d/b", b"same").unwrap(),
        |rig| rig.memory.write_file(&path("d/b"), "same"),
        &[("d/a", "base"), ("d/b", "same")],
        0,
    );
    conflict(
        |rig| {
            rig.mkdir("d/e").unwrap();
            rig.save("d/e/mine", b"mine").unwrap();
        },
        |rig| rig.memory.write_file(&path("d/e/theirs"), "theirs"),
        &[("d/a", "base"), ("d/e/mine", "mine"), ("d/e/theirs", "theirs")],
        0,
    );
    conflict(
        |rig| rig.save("d/e", b"mine").unwrap(),
        |rig| rig.memory.write_file(&path("d/e/theirs"), "theirs"),
        &[("d/a", "base"), ("d/e-here", "mine"), ("d/e/theirs", "theirs")],
        1,
    );
}

#[test]
fn rename_and_edit() {
    conflict(
        |rig| rig.mv("d/a", "d/b").unwrap(),
        |rig| rig.memory.write_file(&path("d/a"), "theirs"),
        &[("d/b", "theirs")],
        0,
    );
    conflict(
        |rig| rig.save("d/a", b"mine").unwrap(),
        |rig| assert!(rig.memory.move_path(&path("d/a"), &path("d/b"))),
        &[("d/a", "mine"), ("d/b", "base")],
        0,
    );
}

/// rule S6: a file that is open and not whole is removed here, and its other bytes are gone from the
/// share: the removal waits for nobody, and the edit there wins.
#[test]
fn an_open_file_is_removed_though_its_rest_is_gone() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), pattern(1, 40 * BLOCK));
        config.freshness = Duration::from_secs(3600);
        // Nothing is asked for again and again.
        config.timeout = Duration::from_secs(2);
    });
    let fh = rig.open("a", READ).unwrap();
    same(&rig.read_at(fh, 0, 10).unwrap(), &pattern(1, 10));
    rig.memory.write_file(&path("a"), pattern(2, 50 * BLOCK));
    rig.unlink("a").unwrap();
    rig.sync();
    assert_eq!(rig.there("a").unwrap(), pattern(2, 50 * BLOCK));
    same(&rig.read("a").unwrap(), &pattern(2, 50 * BLOCK));
    rig.close(fh);
}

/// A directory that is removed here and filled there stays, with what is in it.
#[test]
fn rmdir_and_fill() {
    conflict(
        |rig| rig.rmdir("d/empty").unwrap(),
        |rig| rig.memory.write_file(&path("d/empty/theirs"), "theirs"),
        &[("d/a", "base"), ("d/empty/theirs", "theirs")],
        0,
    );
}
