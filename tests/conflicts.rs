//! What comes of a change here and another one there to the same thing: every pair (rule S7).
//!
//! `tests/conflicts/table.txt` has a line for each pair of kinds, some with more, and
//! `docs/SEMANTICS.md` shows the same lines. Each is tried in three ways: the drive learns of the other
//! change only when it uploads its own, or sees it in a listing before, or is killed and started in
//! between.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "../cache/tests/harness/mod.rs"]
mod harness;

use covefs_cache::*;
use covefs_remote::memory::Entry as Held;
use covefs_remote::{Attrs, Remote};
use harness::*;
use std::collections::BTreeSet;
use std::time::Duration;

const TABLE: &str = include_str!("conflicts/table.txt");
const DOCS: &str = include_str!("../docs/SEMANTICS.md");

/// What the share has before, and the drive has seen of it: `d/a`, `d/b` and the directory `e`.
const BASE: &[(&str, &str)] = &[("d/a", "base"), ("d/b", "other")];

/// The kinds of change of which every pair has to be there.
const KINDS: &[(&str, &[&str])] = &[
    ("create", &["create", "make"]),
    ("write", &["write", "replace"]),
    ("set attributes", &["mode"]),
    ("rename file", &["move file"]),
    ("rename directory", &["move directory"]),
    ("delete file", &["remove file"]),
    ("delete directory", &["remove directory"]),
];

/// When the drive learns of what was done there.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Learns {
    AtUpload,
    Before,
    AfterARestart,
}

/// One change: `create d/n`, `move directory d f`.
fn words(change: &str) -> (&str, Vec<&str>) {
    let all: Vec<&str> = change.split(' ').collect();
    let verb = if matches!(all[1], "file" | "directory") {
        all[..2].join(" ").len()
    } else {
        all[0].len()
    };
    (&change[..verb], change[verb + 1..].split(' ').collect())
}

fn here(rig: &Rig, change: &str) {
    let (verb, at) = words(change);
    match verb {
        "create" => rig.save(at[0], b"mine").unwrap(),
        "make" => rig.mkdir(at[0]).unwrap(),
        "write" => rig.edit(at[0], 0, b"mine").unwrap(),
        "replace" => {
            rig.save("d/new", b"mine").unwrap();
            rig.mv("d/new", at[0]).unwrap();
        }
        "mode" => {
            rig.set(at[0], SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
        }
        "move file" | "move directory" => rig.mv(at[0], at[1]).unwrap(),
        "remove file" => rig.unlink(at[0]).unwrap(),
        "remove directory" => {
            for name in rig.names(at[0]).unwrap() {
                rig.unlink(&format!("{}/{name}", at[0])).unwrap();
            }
            rig.rmdir(at[0]).unwrap();
        }
        _ => panic!("{change}: no such change"),
    }
}

fn there(rig: &Rig, change: &str) {
    let (verb, at) = words(change);
    let first = path(at[0]);
    match verb {
        "create" | "write" => rig.memory.write_file(&first, "theirs"),
        "make" => rig.memory.write_dir(&first),
        "replace" => {
            rig.memory.remove_path(&first);
            rig.memory.write_file(&first, "theirs");
        }
        "mode" => rig.wait(async {
            let found = rig.memory.stat(&first).await.unwrap();
            let attrs = Attrs { mode: Some(0o640), ..Attrs::default() };
            rig.memory.set_attrs(&first, &found.version, &attrs).await.unwrap();
        }),
        "move file" | "move directory" => assert!(rig.memory.move_path(&first, &path(at[1]))),
        "remove file" | "remove directory" => assert!(rig.memory.remove_path(&first)),
        _ => panic!("{change}: no such change"),
    }
}

/// All of the share, in one line: files with their text, and with their mode where it was set.
fn share(rig: &Rig) -> String {
    let mut told = Vec::new();
    for (path, held) in rig.memory.tree() {
        let name = path.to_string().trim_start_matches('/').to_owned();
        match held {
            Held::File(bytes) => {
                let mode = rig.wait(rig.memory.stat(&path)).unwrap().mode.unwrap();
                let mode = if mode == 0o644 { String::new() } else { format!("({mode:o})") };
                told.push(format!("{name}{mode}={}", String::from_utf8(bytes.to_vec()).unwrap()));
            }
            Held::Dir
                if !rig
                    .memory
                    .tree()
                    .keys()
                    .any(|other| *other != path && other.is_within(&path)) =>
            {
                told.push(format!("{name}/"));
            }
            _ => {}
        }
    }
    told.join(" ")
}

/// What the drive shows of it, in the same words.
fn drive(rig: &Rig, dir: &str) -> Vec<String> {
    let mut told = Vec::new();
    let names = rig.names(dir).unwrap();
    if names.is_empty() && !dir.is_empty() {
        told.push(format!("{dir}/"));
    }
    for name in names {
        let at = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        let attr = rig.find(&at).unwrap();
        if attr.kind == covefs_remote::Kind::Dir {
            told.extend(drive(rig, &at));
            continue;
        }
        let text = String::from_utf8(rig.read(&at).unwrap()).unwrap();
        let mode = attr.mode & 0o7777;
        let mode = if mode == 0o644 { String::new() } else { format!("({mode:o})") };
        told.push(format!("{at}{mode}={text}"));
    }
    told.sort();
    told
}

/// What is left of the two changes: the share, and how many conflicts were told of.
fn outcome(mine: &str, theirs: &str, learns: Learns) -> std::result::Result<String, String> {
    let mut rig = Rig::with(|memory, config| {
        for (name, text) in BASE {
            memory.write_file(&path(name), *text);
        }
        memory.write_dir(&path("e"));
        config.debounce = Duration::from_secs(3600);
    });
    let before = drive(&rig, "");
    here(&rig, mine);
    there(&rig, theirs);
    match learns {
        Learns::AtUpload => {}
        Learns::Before => {
            rig.age();
            drop(drive(&rig, ""));
        }
        Learns::AfterARestart => {
            rig.crash(Index::Kept);
            rig.start();
        }
    }
    rig.sync();
    rig.age();
    let _ = drive(&rig, "");
    rig.sync();
    let left = share(&rig);
    let mut sorted: Vec<&str> = left.split(' ').collect();
    sorted.sort();
    let shown = drive(&rig, "");
    if shown != sorted {
        return Err(format!(
            "the drive shows {shown:?}, the share has {sorted:?}, before {before:?}"
        ));
    }
    Ok(match rig.conflicts().len() {
        0 => left,
        count => format!("{left}; {count} told"),
    })
}

/// The lines of the table: here, there, what is left.
fn table() -> Vec<[&'static str; 3]> {
    let lines = TABLE.lines().filter(|line| line.starts_with('|') && line.contains('`'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let cells: Vec<&str> = cells.iter().map(|cell| cell.trim_matches('`')).collect();
            cells.try_into().unwrap_or_else(|_| panic!("three cells: {line}"))
        })
        .collect()
}

fn check_all(learns: Learns) {
    let mut wrong = Vec::new();
    for [mine, theirs, wanted] in table() {
        match outcome(mine, theirs, learns) {
            Ok(left) if left == wanted => {}
            Ok(left) => wrong
                .push(format!("| `{mine}` | `{theirs}` | `{left}` |   the table says `{wanted}`")),
            Err(told) => wrong.push(format!("| `{mine}` | `{theirs}` |   {told}")),
        }
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{learns:?}: {count} end otherwise:\n{}", wrong.join("\n"));
}

/// rule S7
#[test]
fn pairs_of_changes_that_meet_at_the_upload_end_as_the_table_says() {
    check_all(Learns::AtUpload);
}

#[test]
fn pairs_of_changes_that_were_seen_before_end_as_the_table_says() {
    check_all(Learns::Before);
}

#[test]
fn pairs_of_changes_end_as_the_table_says_over_a_restart() {
    check_all(Learns::AfterARestart);
}

#[test]
fn the_table_has_every_pair_and_the_documents_show_it() {
    let kind = |change| {
        let verb = words(change).0;
        KINDS.iter().find(|(_, verbs)| verbs.contains(&verb)).expect("a kind").0
    };
    let pairs: BTreeSet<(&str, &str)> =
        table().iter().map(|[mine, theirs, _]| (kind(mine), kind(theirs))).collect();
    for (mine, _) in KINDS {
        for (theirs, _) in KINDS {
            assert!(
                pairs.contains(&(*mine, *theirs)),
                "{mine} here, {theirs} there: not in the table"
            );
        }
    }
    assert!(
        DOCS.contains(TABLE.trim()),
        "docs/SEMANTICS.md does not show tests/conflicts/table.txt"
    );
}
