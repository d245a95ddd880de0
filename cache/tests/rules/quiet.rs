//! rule S5: bytes that were written over on the share with as many others, and whose time was set
//! back (`touch -r`, encrypted containers): only the mark of the object tells.

use super::*;

const LEN: usize = 3 * BLOCK;

/// A drive that has all of `a`, and looks at the share seldom.
fn rig() -> Rig {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), pattern(1, LEN));
        config.freshness = Duration::from_secs(3600);
        // Nothing is sent before the scene is set.
        config.debounce = Duration::from_secs(3600);
    });
    same(&rig.read_in("a"), &pattern(1, LEN));
    rig
}

/// What the share has in the end of all that was written to `a`.
#[track_caller]
fn all_there(rig: &Rig, expected: &[(&str, Vec<u8>)]) {
    rig.sync();
    let mut names = rig.share_files();
    names.sort();
    assert_eq!(names, expected.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, bytes) in expected {
        assert!(rig.there(name).unwrap() == *bytes, "{name} holds other bytes");
    }
}

#[test]
fn it_is_read_at_the_next_look() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), pattern(1, LEN));
        config.freshness = Duration::from_millis(300);
    });
    same(&rig.read("a").unwrap(), &pattern(1, LEN));
    rig.memory.write_file_quietly(&path("a"), pattern(2, LEN));
    rig.age();
    same(&rig.read("a").unwrap(), &pattern(2, LEN));
}

#[test]
fn an_edit_here_does_not_overwrite_it() {
    let rig = rig();
    rig.edit("a", 0, b"mine").unwrap();
    rig.memory.write_file_quietly(&path("a"), pattern(2, LEN));
    let mut mine = pattern(1, LEN);
    mine[..4].copy_from_slice(b"mine");
    all_there(&rig, &[("a", pattern(2, LEN)), ("a-here", mine)]);
    assert_eq!(rig.conflicts().len(), 1);
}

#[test]
fn a_removal_here_does_not_remove_it() {
    let rig = rig();
    rig.memory.write_file_quietly(&path("a"), pattern(2, LEN));
    rig.unlink("a").unwrap();
    all_there(&rig, &[("a", pattern(2, LEN))]);
    same(&rig.read("a").unwrap(), &pattern(2, LEN));
}

#[test]
fn a_save_here_does_not_replace_it() {
    let rig = rig();
    rig.memory.write_file_quietly(&path("a"), pattern(2, LEN));
    rig.save("new", b"mine").unwrap();
    rig.mv("new", "a").unwrap();
    all_there(&rig, &[("a", pattern(2, LEN)), ("a-here", b"mine".to_vec())]);
}

#[test]
fn it_is_seen_after_a_rename_or_a_chmod_here() {
    for renamed in [false, true] {
        let mut rig = rig();
        rig.memory.write_file_quietly(&path("a"), pattern(2, LEN));
        let name = match renamed {
            true => rig.mv("a", "b").map(|()| "b").unwrap(),
            false => {
                let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
                rig.set("a", mode).map(|_| "a").unwrap()
            }
        };
        all_there(&rig, &[(name, pattern(2, LEN))]);
        assert_eq!(rig.conflicts(), []);
        // The drive looks at the share anew.
        rig.stop();
        rig.start();
        same(&rig.read(name).unwrap(), &pattern(2, LEN));
    }
}

#[test]
fn it_is_seen_after_a_rename_of_an_edit_here() {
    let rig = rig();
    rig.memory.write_file_quietly(&path("a"), pattern(2, LEN));
    rig.edit("a", 0, b"mine").unwrap();
    rig.mv("a", "b").unwrap();
    let mut mine = pattern(1, LEN);
    mine[..4].copy_from_slice(b"mine");
    all_there(&rig, &[("b", pattern(2, LEN)), ("b-here", mine)]);
}

/// A mode or an owner set there explains the mark: nothing is fetched again, nothing conflicts.
#[test]
fn attributes_set_there_are_no_edit() {
    let rig = rig();
    let mode = Attrs { mode: Some(0o640), ..Attrs::default() };
    rig.memory.set_attrs_of(&path("a"), &mode);
    rig.edit("a", 0, b"mine").unwrap();
    let mut mine = pattern(1, LEN);
    mine[..4].copy_from_slice(b"mine");
    all_there(&rig, &[("a", mine)]);
    rig.memory.set_attrs_of(&path("a"), &Attrs { mode: Some(0o644), ..Attrs::default() });
    rig.unlink("a").unwrap();
    all_there(&rig, &[]);
    assert_eq!(rig.conflicts(), []);
}

#[test]
fn attributes_set_there_let_the_bytes_stay() {
    let rig = Rig::with(|memory, config| {
        memory.write_file(&path("a"), pattern(1, LEN));
        config.freshness = Duration::from_millis(300);
    });
    same(&rig.read_in("a"), &pattern(1, LEN));
    rig.memory.set_attrs_of(&path("a"), &Attrs { mode: Some(0o640), ..Attrs::default() });
    rig.age();
    assert_eq!(rig.find("a").unwrap().mode & 0o777, 0o640);
    assert!(rig.is_here("a"));
}
