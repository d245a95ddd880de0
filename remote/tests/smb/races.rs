//! Sites and other clients at one file at once.

use crate::samba::{LONG, PLAIN, Samba};
use crate::suite::{Share, Upload, get, names, path, put};
use covefs_remote::{ErrorKind, Expect};
use std::sync::Arc;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_edit_of_another_client_is_never_replaced_unseen() {
    // rule X4
    let Some(samba) = Samba::start() else { return };
    let samba = Arc::new(samba);
    let sites: Vec<Share> = (0..2).map(|_| Arc::new(samba.remote(PLAIN)) as Share).collect();
    let mut won = 0;
    for round in 0..12_u32 {
        let base = put(&sites[0], "f", format!("base {round}").as_bytes()).await.version;
        let edit = format!("edit of another {round}").into_bytes();
        let (server, theirs) = (samba.clone(), edit.clone());
        let other = tokio::task::spawn_blocking(move || {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), theirs).unwrap();
            // Refused while a site holds the file; Samba says "access denied" where the name goes
            // to another file while it looks.
            let put = format!("put {} f", file.path().display());
            let end = Instant::now() + LONG;
            while let Err(said) = server.tries(PLAIN, &put) {
                let is_race = said.contains("SHARING_VIOLATION") || said.contains("ACCESS_DENIED");
                assert!(is_race && Instant::now() < end, "{said}");
            }
        });
        let replaced: Vec<_> = sites
            .iter()
            .enumerate()
            .map(|(site, share)| {
                let share = share.clone();
                tokio::spawn(async move {
                    let temp = format!(".~covefs-{site}-{round}");
                    let upload = Arc::new(Upload::of(format!("site {site} {round}")));
                    share.replace(&path("f"), upload, Expect::Version(base), temp.as_bytes()).await
                })
            })
            .collect();
        let mut winners = 0;
        for replaced in replaced {
            match replaced.await.unwrap() {
                Ok(_) => winners += 1,
                Err(error) => assert_eq!(error.kind, ErrorKind::VersionChanged, "{error}"),
            }
        }
        other.await.unwrap();
        assert!(winners <= 1, "both replaced the same version");
        won += winners;
        // Theirs came last, or nobody had seen it.
        assert_eq!(get(&sites[1], "f").await, edit, "round {round}, {winners} replaced");
        for name in names(&sites[0], "").await {
            assert!(name == "f" || name.starts_with("f-kept-"), "{name}");
        }
    }
    assert!(won > 0, "no site ever won: nothing was raced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_is_replaced_is_never_missing() {
    // rule X1
    let Some(samba) = Samba::start() else { return };
    let (writer, reader): (Share, Share) =
        (Arc::new(samba.remote(PLAIN)), Arc::new(samba.remote(PLAIN)));
    let mut version = put(&writer, "f", b"0").await.version;
    let looking = tokio::spawn(async move {
        let mut looks = 0;
        loop {
            let found = reader.stat(&path("f")).await;
            match found {
                Ok(found) if found.size == 4 => return looks,
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind, ErrorKind::Busy, "{error}"),
            }
            looks += 1;
        }
    });
    for round in 0..100 {
        let bytes = format!("{}", round % 10);
        let expect = Expect::Version(version);
        let sent = crate::suite::send(&writer, "f", Upload::of(bytes), expect).await;
        version = sent.unwrap().version;
    }
    put(&writer, "f", b"over").await;
    assert!(looking.await.unwrap() > 10);
}
