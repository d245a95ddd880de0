//! replace: expectations, rounds, holes, what is carried over.

use super::*;
use covefs_remote::{Timestamp, XattrRule};

pub async fn absent_makes_only_new_files(share: Share) {
    let made = send(&share, "f", Upload::of("one"), Expect::Absent).await.unwrap();
    assert_eq!(get(&share, "f").await, b"one");
    let again = send(&share, "f", Upload::of("two"), Expect::Absent).await;
    assert_eq!(kind(again), ErrorKind::Exists);
    assert_eq!(version(&share, "f").await, made.version);
    mkdir(&share, "d").await;
    let over = send(&share, "d", Upload::of("two"), Expect::Absent).await;
    assert_eq!(kind(over), ErrorKind::Exists);
    assert_eq!(names(&share, "").await, ["d", "f"]);
}

pub async fn a_version_is_replaced_only_by_who_knows_it(share: Share) {
    // rule X5
    let one = put(&share, "f", b"one").await.version;
    let two = send(&share, "f", Upload::of("two"), Expect::Version(one)).await.unwrap().version;
    let lost = send(&share, "f", Upload::of("three"), Expect::Version(one)).await;
    assert_eq!(kind(lost), ErrorKind::VersionChanged);
    assert_eq!(get(&share, "f").await, b"two");
    share.remove(&path("f"), Expect::Version(two)).await.unwrap();
    let gone = send(&share, "f", Upload::of("three"), Expect::Version(two)).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
    assert!(names(&share, "").await.is_empty(), "a temporary file stays");
}

pub async fn any_replaces_whatever_is_there(share: Share) {
    put(&share, "f", b"one").await;
    put(&share, "f", b"two").await;
    assert_eq!(get(&share, "f").await, b"two");
    assert_eq!(names(&share, "").await, ["f"]);
}

pub async fn of_many_at_once_exactly_one_wins(share: Share) {
    // rule X5
    for round in 0..10_u8 {
        let base = put(&share, "f", &[round]).await.version;
        let tasks: Vec<_> = (0..8_u8)
            .map(|number| {
                let share = share.clone();
                tokio::spawn(async move {
                    let temp = format!(".~covefs-test-{number}");
                    let upload = Arc::new(Upload::of([round, number]));
                    let expect = Expect::Version(base);
                    share.replace(&path("f"), upload, expect, temp.as_bytes()).await
                })
            })
            .collect();
        let mut winners = Vec::new();
        for (number, task) in (0_u8..).zip(tasks) {
            match task.await.unwrap() {
                Ok(_) => winners.push(number),
                Err(error) => assert_eq!(error.kind, ErrorKind::VersionChanged, "{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert_eq!(get(&share, "f").await, [round, winners[0]]);
        assert_eq!(names(&share, "").await, ["f"]);
    }
}

pub async fn of_many_new_ones_exactly_one_is_made(share: Share) {
    let tasks: Vec<_> = (0..8_u8)
        .map(|number| {
            let share = share.clone();
            tokio::spawn(async move {
                let temp = format!(".~covefs-test-{number}");
                let upload = Arc::new(Upload::of([number]));
                share.replace(&path("f"), upload, Expect::Absent, temp.as_bytes()).await.is_ok()
            })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!((winners, names(&share, "").await), (1, vec!["f".to_string()]));
}

pub async fn rounds_send_what_changed_meanwhile(share: Share) {
    let first = pattern(2 << 20, 1);
    let mut second = first.clone();
    second[100..200].fill(1);
    let mut third = second[..1 << 20].to_vec();
    third[..10].fill(2);
    let mut fourth = third.clone();
    fourth.resize(3 << 20, 9);
    let upload = Upload::of(first)
        .then(second, std::iter::once(100..200).collect())
        .then(third, vec![0..10, (1 << 20)..(2 << 20)])
        .then(fourth.clone(), std::iter::once((1 << 20)..(3 << 20)).collect());
    let made = send(&share, "f", upload, Expect::Absent).await.unwrap();
    assert_eq!(made.size, 3 << 20);
    assert!(get(&share, "f").await == fourth);
}

/// What did not change the share may take from what it has; what changes while that is done is sent.
pub async fn what_is_unchanged_stays_as_it_was(share: Share) {
    let before = pattern(13 << 20, 1);
    let base = put(&share, "f", &before).await.version;
    let mut changed = before.clone();
    changed[5 << 20..(5 << 20) + 10].fill(7);
    let mut later = changed.clone();
    later[100..200].fill(8);
    later.truncate((12 << 20) + 5);
    let upload = Upload::of(changed)
        .unchanged_in(vec![0..5 << 20, (5 << 20) + 10..13 << 20])
        .then(later.clone(), std::iter::once(100..200).collect());
    let made = send(&share, "f", upload, Expect::Version(base)).await.unwrap();
    assert_eq!(made.size, later.len() as u64);
    assert!(get(&share, "f").await == later);
    // Known to be of another version than the one that is there.
    let upload = Upload::of(before.clone()).unchanged_in(std::iter::once(0..13 << 20).collect());
    let lost = send(&share, "f", upload, Expect::Version(base)).await;
    assert_eq!(kind(lost), ErrorKind::VersionChanged);
    assert!(get(&share, "f").await == later);
    let upload = Upload::of(before.clone()).unchanged_in(std::iter::once(0..13 << 20).collect());
    send(&share, "f", upload, Expect::Any).await.unwrap();
    assert!(get(&share, "f").await == before);
}

pub async fn holes_are_not_read_and_read_as_zeros(share: Share) {
    let mut bytes = vec![0; 8 << 20];
    bytes[3 << 20..(3 << 20) + 100].fill(5);
    let data: Vec<_> = std::iter::once(3 << 20..(3 << 20) + 100).collect();
    let upload = Arc::new(Upload::of(bytes.clone()).sparse(data.clone()));
    share.replace(&path("f"), upload.clone(), Expect::Absent, TEMP).await.unwrap();
    assert!(get(&share, "f").await == bytes);
    assert_eq!(upload.was_read(), data);
    let all_hole = Upload::of(vec![0; 1000]).sparse(Vec::new());
    send(&share, "hole", all_hole, Expect::Absent).await.unwrap();
    assert_eq!(get(&share, "hole").await, [0; 1000]);
}

pub async fn a_source_that_breaks_leaves_nothing(share: Share) {
    let old = put(&share, "f", b"old").await.version;
    for (name, expect) in [("f", Expect::Version(old)), ("new", Expect::Absent)] {
        let sent = share.replace(&path(name), Arc::new(Broken), expect, TEMP).await;
        assert_eq!(kind(sent), ErrorKind::Source);
    }
    assert_eq!(names(&share, "").await, ["f"]);
    assert_eq!(get(&share, "f").await, b"old");
}

pub async fn a_directory_is_not_replaced(share: Share) {
    let dir = mkdir(&share, "d").await.version;
    for expect in [Expect::Any, Expect::Version(dir)] {
        let over = send(&share, "d", Upload::of("x"), expect).await;
        assert_eq!(kind(over), ErrorKind::IsADirectory);
        let over = send(&share, "", Upload::of("x"), expect).await;
        assert_eq!(kind(over), ErrorKind::IsADirectory);
    }
    assert_eq!(names(&share, "").await, ["d"]);
}

pub async fn a_missing_parent_is_told(share: Share) {
    put(&share, "f", b"x").await;
    let below = send(&share, "d/f", Upload::of("x"), Expect::Absent).await;
    assert_eq!(kind(below), ErrorKind::NotFound);
    let below = send(&share, "f/f", Upload::of("x"), Expect::Any).await;
    assert_eq!(kind(below), ErrorKind::NotADirectory);
}

pub async fn attributes_come_with_the_bytes(share: Share) {
    let mtime = Timestamp { seconds: 1_234_567_890, nanos: 123_456_700 };
    let attrs = Attrs { mtime: Some(mtime), mode: Some(0o751), ..Attrs::default() };
    let upload = Upload::of("x").with(attrs);
    let made = send(&share, "f", upload, Expect::Absent).await.unwrap();
    assert_eq!((made.mtime, made.version.content.mtime), (mtime, mtime));
    if share.limits().has_modes {
        assert_eq!(made.mode, Some(0o751));
    }
    assert_eq!(share.stat(&path("f")).await.unwrap().version, made.version);
}

pub async fn what_is_replaced_passes_on_its_attributes(share: Share) {
    // rule X6
    share.identity().await.unwrap();
    let xattrs = xattrs(&[("user.color", b"red")]);
    let has_xattrs = share.limits().has_xattrs();
    let attrs =
        Attrs { mode: Some(0o640), xattrs: has_xattrs.then(|| xattrs.clone()), ..Attrs::default() };
    let upload = Upload::of("one").with(attrs);
    let one = send(&share, "f", upload, Expect::Absent).await.unwrap();
    let two = send(&share, "f", Upload::of("two"), Expect::Version(one.version)).await.unwrap();
    assert_eq!((two.mode, two.uid, two.gid), (one.mode, one.uid, one.gid));
    let found = share.stat_with_xattrs(&path("f")).await.unwrap();
    assert_eq!(found.xattrs, has_xattrs.then_some(xattrs));
    let none = match share.limits().xattrs {
        XattrRule::Windows => super::xattrs(&[("user.color", b"")]),
        XattrRule::Any | XattrRule::None => Vec::new(),
    };
    let attrs = Attrs { mode: Some(0o600), xattrs: Some(none), ..Attrs::default() };
    let upload = Upload::of("three").with(attrs);
    let three = send(&share, "f", upload, Expect::Version(two.version)).await.unwrap();
    if share.limits().has_modes {
        assert_eq!(three.mode, Some(0o600));
    }
    assert_eq!(three.xattrs, has_xattrs.then(Vec::new));
}
