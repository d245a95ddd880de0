//! remove.

use super::*;

pub async fn what_was_seen_is_removed(share: Share) {
    let file = put(&share, "f", b"x").await.version;
    let dir = mkdir(&share, "d").await.version;
    share.remove(&path("f"), Expect::Version(file)).await.unwrap();
    share.remove(&path("d"), Expect::Version(dir)).await.unwrap();
    assert!(names(&share, "").await.is_empty());
    let again = share.remove(&path("f"), Expect::Version(file)).await;
    assert_eq!(kind(again), ErrorKind::NotFound);
}

pub async fn what_changed_stays(share: Share) {
    // rule X5
    let old = put(&share, "f", b"x").await.version;
    put(&share, "f", b"yy").await;
    let lost = share.remove(&path("f"), Expect::Version(old)).await;
    assert_eq!(kind(lost), ErrorKind::VersionChanged);
    assert_eq!(
        (get(&share, "f").await, names(&share, "").await),
        (b"yy".to_vec(), vec!["f".into()])
    );
    let dir = mkdir(&share, "d").await.version;
    share.remove(&path("d"), Expect::Any).await.unwrap();
    put(&share, "d", b"a file now").await;
    let lost = share.remove(&path("d"), Expect::Version(dir)).await;
    assert_eq!(kind(lost), ErrorKind::VersionChanged);
    share.remove(&path("f"), Expect::Any).await.unwrap();
    assert_eq!(names(&share, "").await, ["d"]);
}

pub async fn a_full_directory_stays(share: Share) {
    let dir = mkdir(&share, "d").await.version;
    put(&share, "d/f", b"x").await;
    for expect in [Expect::Version(dir), Expect::Any] {
        assert_eq!(kind(share.remove(&path("d"), expect).await), ErrorKind::NotEmpty);
    }
    assert_eq!(get(&share, "d/f").await, b"x");
    assert!(share.remove(&path(""), Expect::Any).await.is_err(), "the root was removed");
}

pub async fn of_many_removers_exactly_one_does_it(share: Share) {
    let version = put(&share, "f", b"x").await.version;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let share = share.clone();
            tokio::spawn(
                async move { share.remove(&path("f"), Expect::Version(version)).await.is_ok() },
            )
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!((winners, names(&share, "").await.len()), (1, 0));
}
