//! read: ranges, ends, versions.

use super::*;
use covefs_remote::Timestamp;

pub async fn any_range_of_a_file(share: Share) {
    let bytes = pattern((3 << 20) + 5, 1);
    let version = put(&share, "f", &bytes).await.version;
    let len = bytes.len() as u64;
    for range in [0..len, 0..1, 5..5, 1000..2_000_000, (1 << 20) - 1..(1 << 20) + 1, len - 1..len] {
        let got = read_range(&share, "f", range.clone(), &version).await.unwrap();
        assert!(got == bytes[range.start as usize..range.end as usize], "{range:?}");
    }
}

pub async fn a_read_ends_with_the_file(share: Share) {
    let version = put(&share, "f", b"hello").await.version;
    assert_eq!(read_range(&share, "f", 3..100, &version).await.unwrap(), b"lo");
    assert_eq!(read_range(&share, "f", 0..u64::MAX, &version).await.unwrap(), b"hello");
    assert_eq!(read_range(&share, "f", 5..6, &version).await.unwrap(), b"");
    assert_eq!(read_range(&share, "f", 1 << 40..1 << 41, &version).await.unwrap(), b"");
    let empty = put(&share, "empty", b"").await.version;
    assert_eq!(read_range(&share, "empty", 0..10, &empty).await.unwrap(), b"");
}

pub async fn another_version_is_not_read(share: Share) {
    let old = put(&share, "f", b"one").await.version;
    let new = put(&share, "f", b"two").await.version;
    for range in [0..3, 0..0, 100..200] {
        let read = read_range(&share, "f", range, &old).await;
        assert_eq!(kind(read), ErrorKind::VersionChanged);
    }
    assert_eq!(read_range(&share, "f", 0..3, &new).await.unwrap(), b"two");
}

pub async fn attributes_do_not_make_another_content(share: Share) {
    // rule S5
    let version = put(&share, "f", b"one").await.version;
    let atime = Some(Timestamp { seconds: 1_000_000_000, nanos: 0 });
    let attrs = Attrs { mode: Some(0o600), atime, ..Attrs::default() };
    let after = share.set_attrs(&path("f"), &version, &attrs).await.unwrap().version;
    assert!(after.same_content(&version));
    if share.limits().has_modes {
        assert_ne!(after.object, version.object);
    }
    assert_eq!(read_range(&share, "f", 0..3, &version).await.unwrap(), b"one");
}

/// Each answer is what `read` says of that file, whatever the others are.
pub async fn small_files_are_read_several_at_once(share: Share) {
    let mut files = Vec::new();
    for number in 0..12 {
        let name = format!("f{number}");
        let version = put(&share, &name, &pattern(1000 * number, number as u64)).await.version;
        files.push((path(&name), version));
    }
    let all = share.read_whole(&files).await;
    assert_eq!(all.len(), files.len());
    for (number, bytes) in all.into_iter().enumerate() {
        assert!(bytes.unwrap() == pattern(1000 * number, number as u64), "{number}");
    }
    // Gone, changed and of another kind, in the middle of the others.
    share.remove(&path("f2"), Expect::Any).await.unwrap();
    put(&share, "f5", b"another").await;
    share.remove(&path("f8"), Expect::Any).await.unwrap();
    mkdir(&share, "f8").await;
    for (number, read) in share.read_whole(&files).await.into_iter().enumerate() {
        match number {
            2 => assert_eq!(kind(read), ErrorKind::NotFound),
            5 => assert_eq!(kind(read), ErrorKind::VersionChanged),
            8 => assert_eq!(kind(read), ErrorKind::IsADirectory),
            _ => assert!(read.unwrap() == pattern(1000 * number, number as u64), "{number}"),
        }
    }
    assert!(share.read_whole(&[]).await.is_empty());
}

pub async fn a_directory_is_not_read(share: Share) {
    let dir = mkdir(&share, "d").await.version;
    assert_eq!(kind(share.read(&path("d"), 0..1, &dir).await), ErrorKind::IsADirectory);
    assert_eq!(kind(share.read(&path(""), 0..1, &dir).await), ErrorKind::IsADirectory);
}

pub async fn a_read_goes_on_when_the_name_goes_to_another_file(share: Share) {
    let bytes = pattern(3 << 20, 2);
    let version = put(&share, "f", &bytes).await.version;
    let mut stream = share.read(&path("f"), 0..3 << 20, &version).await.unwrap();
    let mut got = stream.next().await.unwrap().unwrap().to_vec();
    put(&share, "f", &pattern(3 << 20, 3)).await;
    // All of the old bytes, or an error: never a mixture.
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => got.extend_from_slice(&chunk),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::VersionChanged);
                assert!(bytes.starts_with(&got));
                return;
            }
        }
    }
    assert!(got == bytes);
}
