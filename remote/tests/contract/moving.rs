//! rename.

use super::*;

async fn mv(share: &Share, from: &str, to: &str, expect: Expect) -> Result<Metadata> {
    let version = version(share, from).await;
    share.rename(&path(from), &version, &path(to), expect).await
}

pub async fn files_and_directories_keep_their_identity(share: Share) {
    mkdir(&share, "d").await;
    mkdir(&share, "e").await;
    let file = put(&share, "d/f", b"x").await;
    let moved = mv(&share, "d/f", "e/g", Expect::Absent).await.unwrap();
    assert!(moved.version.same_content(&file.version));
    let dir = version(&share, "e").await;
    let moved = mv(&share, "e", "d/e", Expect::Absent).await.unwrap();
    assert!(moved.version.same_object(&dir));
    assert_eq!(get(&share, "d/e/g").await, b"x");
    assert_eq!(names(&share, "").await, ["d"]);
}

pub async fn an_existing_name_is_not_taken(share: Share) {
    put(&share, "a", b"a").await;
    put(&share, "b", b"b").await;
    mkdir(&share, "d").await;
    for to in ["b", "d", "a"] {
        assert_eq!(kind(mv(&share, "a", to, Expect::Absent).await), ErrorKind::Exists, "{to}");
    }
    assert_eq!(get(&share, "a").await, b"a");
    assert_eq!(get(&share, "b").await, b"b");
}

pub async fn a_target_is_replaced_only_by_who_knows_it(share: Share) {
    put(&share, "a", b"a").await;
    let old = put(&share, "b", b"b").await.version;
    let new = put(&share, "b", b"bb").await.version;
    let lost = mv(&share, "a", "b", Expect::Version(old)).await.unwrap_err();
    assert_eq!((lost.kind, lost.path), (ErrorKind::VersionChanged, path("b")));
    assert_eq!(names(&share, "").await, ["a", "b"]);
    let moved = mv(&share, "a", "b", Expect::Version(new)).await.unwrap();
    assert_eq!(moved.size, 1);
    assert_eq!(get(&share, "b").await, b"a");
    assert_eq!(names(&share, "").await, ["b"]);
    put(&share, "c", b"c").await;
    let absent = mv(&share, "c", "x", Expect::Version(new)).await.unwrap_err();
    assert_eq!((absent.kind, absent.path), (ErrorKind::VersionChanged, path("x")));
}

pub async fn any_replaces_a_file(share: Share) {
    put(&share, "a", b"a").await;
    put(&share, "b", b"b").await;
    mv(&share, "a", "b", Expect::Any).await.unwrap();
    assert_eq!(
        (get(&share, "b").await, names(&share, "").await),
        (b"a".to_vec(), vec!["b".into()])
    );
}

pub async fn the_moved_object_must_be_the_one_meant(share: Share) {
    let old = put(&share, "a", b"a").await.version;
    put(&share, "a", b"another").await;
    let lost = share.rename(&path("a"), &old, &path("b"), Expect::Absent).await.unwrap_err();
    assert_eq!((lost.kind, lost.path), (ErrorKind::VersionChanged, path("a")));
    let gone = share.rename(&path("x"), &old, &path("b"), Expect::Absent).await.unwrap_err();
    assert_eq!((gone.kind, gone.path), (ErrorKind::NotFound, path("x")));
    let nowhere = mv(&share, "a", "d/b", Expect::Absent).await.unwrap_err();
    assert_eq!((nowhere.kind, nowhere.path), (ErrorKind::NotFound, path("d/b")));
    assert_eq!(names(&share, "").await, ["a"]);
}

pub async fn only_empty_directories_are_replaced(share: Share) {
    mkdir(&share, "d").await;
    put(&share, "d/f", b"x").await;
    let full = mkdir(&share, "full").await.version;
    put(&share, "full/f", b"y").await;
    let empty = mkdir(&share, "empty").await.version;
    for expect in [Expect::Version(full), Expect::Any] {
        assert_eq!(kind(mv(&share, "d", "full", expect).await), ErrorKind::NotEmpty);
    }
    assert_eq!(get(&share, "full/f").await, b"y");
    mv(&share, "d", "empty", Expect::Version(empty)).await.unwrap();
    assert_eq!(get(&share, "empty/f").await, b"x");
    assert_eq!(names(&share, "").await, ["empty", "full"]);
}

pub async fn kinds_are_not_replaced_by_one_another(share: Share) {
    let dir = mkdir(&share, "d").await.version;
    let file = put(&share, "f", b"x").await.version;
    let over = mv(&share, "f", "d", Expect::Version(dir)).await;
    assert_eq!(kind(over), ErrorKind::IsADirectory);
    let over = mv(&share, "d", "f", Expect::Version(file)).await;
    assert_eq!(kind(over), ErrorKind::NotADirectory);
    assert_eq!(names(&share, "").await, ["d", "f"]);
}

pub async fn a_directory_does_not_go_below_itself(share: Share) {
    mkdir(&share, "d").await;
    mkdir(&share, "d/e").await;
    for to in ["d/x", "d/e/x"] {
        assert_eq!(kind(mv(&share, "d", to, Expect::Absent).await), ErrorKind::Unsupported);
    }
    assert_eq!(names(&share, "d").await, ["e"]);
}

pub async fn a_changed_file_still_moves(share: Share) {
    // rule S5: place and content are compared apart.
    let version = put(&share, "a", b"a").await.version;
    let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
    share.set_attrs(&path("a"), &version, &attrs).await.unwrap();
    share.rename(&path("a"), &version, &path("b"), Expect::Absent).await.unwrap();
    assert_eq!(get(&share, "b").await, b"a");
}
