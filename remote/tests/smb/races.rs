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
        // What a busy moment kept from being removed goes with the next looks.
        let end = Instant::now() + LONG;
        loop {
            let mut left = names(&sites[0], "").await;
            left.retain(|name| name != "f" && !name.starts_with("f-kept-"));
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "{left:?}");
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

/// What a listing says of a name: it has it, or lacks it for certain, or cannot tell.
async fn is_listed(share: &Share, name: &str) -> Option<bool> {
    let (mut after, mut is_certain) = (None, true);
    loop {
        let page = share.list(&path(""), after).await.unwrap();
        if page.entries.iter().any(|(listed, _)| listed == name.as_bytes()) {
            return Some(true);
        }
        is_certain &= page.one_moment && page.next.is_none();
        match page.next {
            Some(next) => after = Some(next),
            None => return is_certain.then_some(false),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_listing_takes_what_is_replaced_for_gone() {
    // rule X1: a listing goes from name to name, and the file from one to the other meanwhile.
    let Some(samba) = Samba::start() else { return };
    for number in 0..500 {
        let filler = format!("{}{number}", "filler".repeat(20));
        std::fs::write(samba.disk(PLAIN).join(filler), "").unwrap();
    }
    let long = "n".repeat(255);
    for name in ["f", &long] {
        let (writer, reader): (Share, Share) =
            (Arc::new(samba.remote(PLAIN)), Arc::new(samba.remote(PLAIN)));
        let mut version = put(&writer, name, b"0").await.version;
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (stop, name_there) = (over.clone(), name.to_owned());
        let looking = tokio::spawn(async move {
            let (mut lists, mut unsure) = (0, 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                match is_listed(&reader, &name_there).await {
                    Some(is_there) => assert!(is_there, "gone in listing {lists}"),
                    None => {
                        unsure += 1;
                        match reader.stat(&path(&name_there)).await {
                            Ok(_) => {}
                            Err(error) => assert_eq!(error.kind, ErrorKind::Busy, "{error}"),
                        }
                    }
                }
                lists += 1;
            }
            (lists, unsure)
        });
        for round in 0..150 {
            let (upload, expect) = (Upload::of(format!("{round}")), Expect::Version(version));
            version = crate::suite::send(&writer, name, upload, expect).await.unwrap().version;
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        let (lists, unsure) = looking.await.unwrap();
        println!("{lists} listings, {unsure} without it");
        assert!(lists > 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_a_directory_that_stands_still_is_of_one_moment() {
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    put(&share, "f", b"f").await;
    // Young, one change looks like the next.
    assert_eq!(is_listed(&share, "g").await, None);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    std::fs::File::open(samba.disk(PLAIN)).unwrap().set_modified(old).unwrap();
    let end = Instant::now() + LONG;
    while is_listed(&share, "g").await != Some(false) {
        assert!(Instant::now() < end, "no listing is certain");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
