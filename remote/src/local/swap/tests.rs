//! What others do between our two exchanges, step by step (rule X5).

use super::*;
use crate::RemotePath;
use rustix::fs::CWD;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

fn open_dir(path: &Path) -> OwnedFd {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn place<'a>(path: &Path, name: &'a [u8]) -> Place<'a> {
    Place { dir: open_dir(path), name }
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Calls `then` with a file of ours that has this content, at `temp` on its way to `name`.
fn with_ours<T>(path: &Path, temp: &str, content: &str, then: impl FnOnce(&Ours<'_>) -> T) -> T {
    fs::write(path.join(temp), content).unwrap();
    let file = fs::File::open(path.join(temp)).unwrap();
    let facts = stat::of_fd(file.as_fd()).unwrap();
    then(&Ours {
        temp: place(path, temp.as_bytes()),
        file: file.as_fd(),
        id: facts.id,
        version: facts.version(facts.id.dev),
        root_dev: facts.id.dev,
    })
}

/// `name` holds "theirs" and `temp` ours; both were just exchanged; then others do something, and
/// we take ours back.
fn taken_back(others: impl FnOnce(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::write(path.join("name"), "theirs").unwrap();
    with_ours(path, "temp", "ours", |ours| {
        let to = place(path, b"name");
        exchange(&ours.temp, &to).unwrap();
        others(path);
        ours.take_back(&to).unwrap();
    });
    dir
}

#[test]
fn an_edit_between_look_and_exchange_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path(), place(dir.path(), b"name"));
    fs::write(path.join("name"), "seen").unwrap();
    let seen = to.facts().unwrap();
    let seen = seen.version(seen.id.dev);
    fs::write(path.join("name"), "edited since").unwrap();
    let put = with_ours(path, "temp", "ours", |ours| ours.swap(&to, &seen, Turn::take(&[&to])));
    assert_eq!(put.unwrap_err().kind, ErrorKind::VersionChanged);
    assert_eq!(fs::read(path.join("name")).unwrap(), b"edited since");
    assert_eq!(fs::read(path.join("temp")).unwrap(), b"ours");
    fs::remove_file(path.join("name")).unwrap();
    fs::create_dir(path.join("name")).unwrap();
    let put = with_ours(path, "temp", "ours", |ours| ours.swap(&to, &seen, Turn::take(&[&to])));
    assert_eq!(put.unwrap_err().kind, ErrorKind::IsADirectory);
    assert!(path.join("name").is_dir());
    fs::remove_dir(path.join("name")).unwrap();
    fs::write(path.join("name"), "seen again").unwrap();
    let seen = to.facts().unwrap();
    let seen = seen.version(seen.id.dev);
    with_ours(path, "temp", "ours", |ours| ours.swap(&to, &seen, Turn::take(&[&to]))).unwrap();
    assert_eq!(
        (names(path), fs::read(path.join("name")).unwrap()),
        (vec!["name".into()], b"ours".into())
    );
}

#[test]
fn ours_comes_back_and_theirs_stays() {
    let dir = taken_back(|_| {});
    assert_eq!(fs::read(dir.path().join("name")).unwrap(), b"theirs");
    assert_eq!(fs::read(dir.path().join("temp")).unwrap(), b"ours");
}

#[test]
fn a_file_put_over_ours_stays_in_place() {
    let dir = taken_back(|path| {
        fs::write(path.join("newer"), "newer").unwrap();
        fs::rename(path.join("newer"), path.join("name")).unwrap();
    });
    // Whoever put it there may never have seen what we held.
    let names = names(dir.path());
    assert_eq!((names.len(), &*names[0]), (2, "name"));
    assert_eq!(fs::read(dir.path().join("name")).unwrap(), b"newer");
    assert_eq!(fs::read(dir.path().join(&names[1])).unwrap(), b"theirs");
}

#[test]
fn sites_without_turns_each_get_their_own_back() {
    for _ in 0..20 {
        let others = std::cell::RefCell::new(Vec::new());
        let dir = taken_back(|path| {
            // Each exchanges after the one before, and all go back at once.
            for number in 0..4 {
                let (path, temp) = (path.to_path_buf(), format!("temp{number}"));
                let (done, wait) = std::sync::mpsc::channel();
                others.borrow_mut().push(std::thread::spawn(move || {
                    with_ours(&path, &temp, &temp, |ours| {
                        let to = place(&path, b"name");
                        exchange(&ours.temp, &to).unwrap();
                        done.send(()).unwrap();
                        ours.take_back(&to).unwrap();
                    });
                }));
                wait.recv().unwrap();
            }
        });
        others.take().into_iter().for_each(|other| other.join().unwrap());
        let found = names(dir.path());
        assert_eq!(found, ["name", "temp", "temp0", "temp1", "temp2", "temp3"]);
        assert_eq!(fs::read(dir.path().join("name")).unwrap(), b"theirs");
        assert_eq!(fs::read(dir.path().join("temp")).unwrap(), b"ours");
        for temp in &found[2..] {
            assert_eq!(fs::read(dir.path().join(temp)).unwrap(), temp.as_bytes());
        }
    }
}

#[test]
fn what_ours_stood_for_returns_when_ours_was_removed() {
    let dir = taken_back(|path| fs::remove_file(path.join("name")).unwrap());
    assert_eq!(names(dir.path()), ["name"]);
    assert_eq!(fs::read(dir.path().join("name")).unwrap(), b"theirs");
}

#[test]
fn an_edit_of_ours_is_kept_beside() {
    let dir = taken_back(|path| fs::write(path.join("name"), "ours and an edit").unwrap());
    let names = names(dir.path());
    assert_eq!((names.len(), &*names[0]), (2, "name"));
    assert!(names[1].starts_with("name-kept-"), "{names:?}");
    assert_eq!(fs::read(dir.path().join("name")).unwrap(), b"theirs");
    assert_eq!(fs::read(dir.path().join(&names[1])).unwrap(), b"ours and an edit");
}

#[test]
fn what_cannot_go_back_is_kept_beside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("aside"), "old").unwrap();
    fs::write(dir.path().join("name"), "new").unwrap();
    let fail = put_back(&place(dir.path(), b"aside"), &place(dir.path(), b"name")).unwrap_err();
    let error = fail.into_error("remove", &RemotePath::parse(b"name"));
    let names = names(dir.path());
    assert_eq!((error.kind, names.len()), (ErrorKind::VersionChanged, 2));
    assert!(error.to_string().contains(&names[1]), "{error}");
    assert_eq!(fs::read(dir.path().join(&names[1])).unwrap(), b"old");
}
