//! stat, list, identity and usage.

use super::*;
use covefs_remote::{Kind, NameRule, PageToken};

pub async fn the_root_is_a_directory(share: Share) {
    let root = share.stat(&path("")).await.unwrap();
    assert_eq!((root.kind, root.size), (Kind::Dir, 0));
    assert!(entries(&share, "").await.is_empty());
    assert_eq!(share.identity().await.unwrap(), share.identity().await.unwrap());
    let usage = share.usage().await.unwrap();
    assert!(usage.total_bytes >= usage.free_bytes && usage.total_bytes > 0);
}

/// rule S5: else a change of ours would look like another's at the next listing.
pub async fn what_a_change_answers_is_what_stands(share: Share) {
    let check = async |name: &str, answered: Metadata| {
        assert_eq!(version(&share, name).await, answered.version, "{name}, by its name");
        let listed = entries(&share, "").await;
        assert_eq!(listed[name.as_bytes()].version, answered.version, "{name}, listed");
    };
    let made = put(&share, "f", b"one").await;
    check("f", made.clone()).await;
    let upload = Upload::of("two").with(Attrs { mode: Some(0o600), ..Attrs::default() });
    let replaced = send(&share, "f", upload, Expect::Version(made.version)).await.unwrap();
    check("f", replaced.clone()).await;
    let moved = share.rename(&path("f"), &replaced.version, &path("g"), Expect::Absent).await;
    let moved = moved.unwrap();
    check("g", moved.clone()).await;
    let other = put(&share, "h", b"three").await;
    let over = Expect::Version(other.version);
    let moved = share.rename(&path("g"), &moved.version, &path("h"), over).await.unwrap();
    check("h", moved.clone()).await;
    let attrs = Attrs { mode: Some(0o640), ..Attrs::default() };
    let set = share.set_attrs(&path("h"), &moved.version, &attrs).await.unwrap();
    check("h", set).await;
}

pub async fn what_is_missing_is_not_found(share: Share) {
    mkdir(&share, "d").await;
    let file = put(&share, "f", b"x").await;
    for missing in ["x", "d/x", "x/y", "x/y/z"] {
        assert_eq!(kind(share.stat(&path(missing)).await), ErrorKind::NotFound, "{missing}");
        assert_eq!(kind(share.list(&path(missing), None).await), ErrorKind::NotFound, "{missing}");
        let read = share.read(&path(missing), 0..1, &file.version).await;
        assert_eq!(kind(read), ErrorKind::NotFound, "{missing}");
    }
}

pub async fn a_file_is_no_directory(share: Share) {
    // rule X1: an entry below a file is not "gone".
    let file = put(&share, "f", b"x").await;
    for below in ["f/x", "f/x/y"] {
        assert_eq!(kind(share.stat(&path(below)).await), ErrorKind::NotADirectory, "{below}");
        let read = share.read(&path(below), 0..1, &file.version).await;
        assert_eq!(kind(read), ErrorKind::NotADirectory);
        assert_eq!(kind(share.remove(&path(below), Expect::Any).await), ErrorKind::NotADirectory);
    }
    assert_eq!(kind(share.list(&path("f"), None).await), ErrorKind::NotADirectory);
}

pub async fn metadata_tells_size_kind_and_version(share: Share) {
    let made = put(&share, "f", b"hello").await;
    let dir = mkdir(&share, "d").await;
    assert_eq!((made.kind, made.size), (Kind::File, 5));
    assert_eq!((made.version.content.size, made.version.content.mtime), (5, made.mtime));
    assert_eq!((dir.kind, dir.size, dir.version.content.size), (Kind::Dir, 0, 0));
    assert_eq!(share.stat(&path("f")).await.unwrap().version, made.version);
    assert_eq!(share.stat(&path("d")).await.unwrap().version.content, dir.version.content);
    let again = put(&share, "f", b"world").await;
    assert_ne!(again.version.object, made.version.object);
    assert!(!again.version.same_content(&made.version));
}

pub async fn a_listing_says_what_stat_says(share: Share) {
    put(&share, "f", b"hello").await;
    mkdir(&share, "d").await;
    put(&share, "d/inner", b"").await;
    let listed = entries(&share, "").await;
    assert_eq!(names(&share, "").await, ["d", "f"]);
    assert_eq!(names(&share, "d").await, ["inner"]);
    for (name, metadata) in listed {
        assert!(metadata.xattrs.as_ref().is_none_or(Vec::is_empty), "{:?}", metadata.xattrs);
        let mut one = share.stat(&RemotePath::root().join(&name)).await.unwrap();
        (one.atime, one.young) = (metadata.atime, metadata.young);
        one.xattrs.clone_from(&metadata.xattrs);
        assert_eq!(metadata, one);
    }
}

pub async fn pages_cover_a_directory(share: Share) {
    mkdir(&share, "d").await;
    let mut wanted = Vec::new();
    for number in 0..25 {
        let name = format!("n{number:02}");
        put(&share, &format!("d/{name}"), name.as_bytes()).await;
        wanted.push(name);
    }
    assert_eq!(names(&share, "d").await, wanted);
    let odd = PageToken(Arc::new("of another share"));
    assert_eq!(kind(share.list(&path("d"), Some(odd)).await), ErrorKind::Protocol);
}

pub async fn names_are_bytes(share: Share) {
    if share.limits().names != NameRule::Bytes {
        return skip("holds no names but text");
    }
    for name in [&b"\xff\xfe"[..], b"a\nb", b" ", b"caf\xe9", b"con", b"a:b*", b"trailing."] {
        let at = RemotePath::root().join(name);
        let upload = Arc::new(Upload::of(name));
        let made = share.replace(&at, upload, Expect::Absent, TEMP).await.unwrap();
        assert_eq!(share.stat(&at).await.unwrap().version, made.version);
        assert!(entries(&share, "").await.contains_key(name));
        share.remove(&at, Expect::Version(made.version)).await.unwrap();
    }
    assert!(entries(&share, "").await.is_empty());
}

pub async fn names_that_cannot_be_held_are_refused(share: Share) {
    let file = put(&share, "f", b"x").await;
    let long = vec![b'n'; share.limits().name_bytes_max + 1];
    for (name, wanted) in [
        (&b".."[..], ErrorKind::NameInvalid),
        (b".", ErrorKind::NameInvalid),
        (b"nul\0", ErrorKind::NameInvalid),
        (&long, ErrorKind::NameTooLong),
    ] {
        let at = RemotePath::root().join(name);
        let upload = Arc::new(Upload::of("x"));
        assert_eq!(kind(share.replace(&at, upload, Expect::Absent, TEMP).await), wanted);
        assert_eq!(kind(share.create_dir(&at, &Attrs::default()).await), wanted);
        let renamed = share.rename(&path("f"), &file.version, &at, Expect::Absent).await;
        assert_eq!(kind(renamed), wanted);
    }
    assert_eq!(names(&share, "").await, ["f"]);
}
