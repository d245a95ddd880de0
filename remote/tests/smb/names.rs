//! Names that Windows reserves, symlinks, and case.

use crate::samba::{PLAIN, Samba};
use crate::suite::{Share, get, kind, names, path, put};
use covefs_remote::{Attrs, ErrorKind, Expect, Kind};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn reserved_names_are_mapped_as_the_kernel_does() {
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let wanted = ["a:b", "trailing ", "trailing.", r#"what? <no> |*| "quoted" \"#];
    for name in wanted {
        let made = put(&share, name, name.as_bytes()).await;
        assert_eq!(share.stat(&path(name)).await.unwrap().version, made.version);
        assert_eq!(get(&share, name).await, name.as_bytes());
    }
    assert_eq!(names(&share, "").await, wanted);
    assert!(samba.names(PLAIN).contains(&"a\u{f022}b".to_string()), "{:?}", samba.names(PLAIN));
    for name in wanted {
        share.remove(&path(name), Expect::Any).await.unwrap();
    }
    assert!(samba.names(PLAIN).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn case_folds_and_can_be_changed() {
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let made = put(&share, "Readme", b"x").await;
    assert_eq!(share.stat(&path("README")).await.unwrap().version, made.version);
    let moved = share.rename(&path("Readme"), &made.version, &path("README"), Expect::Absent).await;
    assert!(moved.unwrap().version.same_content(&made.version));
    assert_eq!(names(&share, "").await, ["README"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlink_is_a_file_that_other_systems_read_as_one() {
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    share.symlink(&path("link"), b"Hello", &Attrs::default()).await.unwrap();
    let file = std::fs::read(samba.disk(PLAIN).join("link")).unwrap();
    let start = b"XSym\n0005\n8b1a9953c4611296a827abf8c47804d7\nHello\n";
    assert!(file.len() == 1067 && file.starts_with(start));
    // One that they made, and a file of that size that is none.
    std::fs::write(samba.disk(PLAIN).join("copy"), &file).unwrap();
    std::fs::write(samba.disk(PLAIN).join("plain"), [b'x'; 1067]).unwrap();
    let listed = crate::suite::entries(&share, "").await;
    assert_eq!(listed[&b"copy"[..]].target.as_deref(), Some(&b"Hello"[..]));
    assert_eq!((listed[&b"plain"[..]].kind, listed[&b"plain"[..]].size), (Kind::File, 1067));
    let long = share.symlink(&path("long"), &[b'x'; 1025], &Attrs::default()).await;
    assert_eq!(kind(long), ErrorKind::NameTooLong);
}
