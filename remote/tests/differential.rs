//! A directory and the share in memory, given the same requests at random, answer alike.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "contract/suite.rs"]
mod suite;

use covefs_remote::local::LocalRemote;
use covefs_remote::memory::MemoryRemote;
use covefs_remote::{Attrs, ErrorKind, Expect, Kind, Version};
use proptest::prelude::*;
use std::sync::Arc;
use suite::{Share, TEMP, Upload, entries, get, path};

/// Few names in few directories, so that requests meet.
const PATHS: [&str; 8] = ["a", "b", "c", "a/a", "a/b", "b/a", "b/b", "a/a/a"];

#[derive(Clone, Copy, Debug)]
enum Want {
    Any,
    Absent,
    Seen,
    Stale,
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Vec<u8>, Want),
    Rename(usize, usize, Want),
    Remove(usize, Want),
    Mkdir(usize),
    Symlink(usize),
    Chmod(usize, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || 0..PATHS.len();
    let want = || {
        prop_oneof![
            1 => Just(Want::Any),
            3 => Just(Want::Absent),
            4 => Just(Want::Seen),
            1 => Just(Want::Stale)
        ]
    };
    let bytes = proptest::collection::vec(any::<u8>(), 0..20);
    let step = prop_oneof![
        4 => (at(), bytes, want()).prop_map(|(at, bytes, want)| Step::Put(at, bytes, want)),
        4 => (at(), at(), want()).prop_map(|(from, to, want)| Step::Rename(from, to, want)),
        2 => (at(), want()).prop_map(|(at, want)| Step::Remove(at, want)),
        4 => at().prop_map(Step::Mkdir),
        1 => at().prop_map(Step::Symlink),
        1 => (at(), 0_u32..0o1000).prop_map(|(at, mode)| Step::Chmod(at, mode | 0o700)),
    ];
    proptest::collection::vec(step, 1..60)
}

async fn seen(share: &Share, at: usize) -> Version {
    share.stat(&path(PATHS[at])).await.map(|found| found.version).unwrap_or_default()
}

async fn expect(share: &Share, at: usize, want: Want) -> Expect {
    match want {
        Want::Any => Expect::Any,
        Want::Absent => Expect::Absent,
        Want::Seen => Expect::Version(seen(share, at).await),
        Want::Stale => Expect::Version(Version::default()),
    }
}

async fn make(share: &Share, step: &Step) -> Option<ErrorKind> {
    let none = Attrs::default();
    match step {
        Step::Put(at, bytes, want) => {
            let expect = expect(share, *at, *want).await;
            let source = Arc::new(Upload::of(bytes.clone()));
            share.replace(&path(PATHS[*at]), source, expect, TEMP).await.err()
        }
        Step::Rename(from, to, want) => {
            let (version, expect) = (seen(share, *from).await, expect(share, *to, *want).await);
            let (from, to) = (path(PATHS[*from]), path(PATHS[*to]));
            share.rename(&from, &version, &to, expect).await.err()
        }
        Step::Remove(at, want) => {
            let expect = expect(share, *at, *want).await;
            share.remove(&path(PATHS[*at]), expect).await.err()
        }
        Step::Mkdir(at) => share.create_dir(&path(PATHS[*at]), &none).await.err(),
        Step::Symlink(at) => share.symlink(&path(PATHS[*at]), b"b", &none).await.err(),
        Step::Chmod(at, mode) => {
            let attrs = Attrs { mode: Some(*mode), ..none };
            let version = seen(share, *at).await;
            share.set_attrs(&path(PATHS[*at]), &version, &attrs).await.err()
        }
    }
    .map(|error| error.kind)
}

/// Everything of a share that does not depend on where it is.
async fn picture(share: &Share) -> Vec<(String, Kind, Option<u32>, Vec<u8>)> {
    let (mut found, mut dirs) = (Vec::new(), vec![String::new()]);
    while let Some(dir) = dirs.pop() {
        for (name, metadata) in entries(share, &dir).await {
            let name = format!("{dir}/{}", String::from_utf8(name).unwrap());
            let bytes = match metadata.kind {
                Kind::File => get(share, &name).await,
                Kind::Symlink => metadata.target.unwrap(),
                Kind::Dir | Kind::Special => Vec::new(),
            };
            if metadata.kind == Kind::Dir {
                dirs.push(name.clone());
            }
            // A symlink's own mode means nothing.
            let mode = metadata.mode.filter(|_| metadata.kind != Kind::Symlink);
            found.push((name, metadata.kind, mode, bytes));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_directory_answers_as_the_reference_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let local: Share = Arc::new(LocalRemote::open(dir.path().to_path_buf()).unwrap());
            let memory: Share = Arc::new(MemoryRemote::new());
            for step in &steps {
                let (here, there) = (make(&local, step).await, make(&memory, step).await);
                assert_eq!(here, there, "{step:?}");
            }
            assert_eq!(picture(&local).await, picture(&memory).await);
        });
    }
}
