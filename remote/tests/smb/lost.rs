//! A server that is killed in the middle: nothing acknowledged is lost, nothing hangs.

use crate::samba::{LONG, PLAIN, Samba};
use crate::suite::{Share, Upload, get, path, put};
use covefs_remote::attempt::{AttemptConfig, Guarded};
use covefs_remote::{Error, Existence, Expect, Metadata, Remote};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What the program holds, with little patience.
fn guarded(samba: &Samba) -> Share {
    let config = AttemptConfig { tries_max: 3, ..AttemptConfig::default() };
    Arc::new(Guarded::new(Arc::new(samba.remote(PLAIN)), config))
}

/// Asks until there is an answer.
async fn ask(share: &Share, name: &str) -> Metadata {
    let end = Instant::now() + LONG;
    loop {
        match share.stat(&path(name)).await {
            Ok(found) => return found,
            Err(error) => {
                assert_eq!(error.kind.existence(), Existence::Unknown, "taken for gone: {error}");
                assert!(Instant::now() < end, "no answer: {error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

/// One site's file, replaced over and over; returns the bytes that it must have.
async fn edit(
    share: Share,
    name: String,
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
) -> Vec<u8> {
    let mut bytes = b"begin".to_vec();
    let mut version = ask(&share, &name).await.version;
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let next = format!("{name} {number}").repeat(1 + (number % 7) as usize * 3000).into_bytes();
        let temp = format!(".~covefs-{name}-{number}");
        let upload = Arc::new(Upload::of(next.clone()));
        let at = Instant::now();
        let sent: Result<Metadata, Error> =
            share.replace(&path(&name), upload, Expect::Version(version), temp.as_bytes()).await;
        assert!(at.elapsed() < LONG, "hung for {:?}", at.elapsed());
        match sent {
            Ok(placed) => (bytes, version) = (next, placed.version),
            Err(error) => {
                assert!(error.kind.is_transient(), "{error}");
                // Unknown: it is one of the two.
                let found = ask(&share, &name).await;
                if found.size == next.len() as u64 {
                    bytes = next;
                }
                version = found.version;
            }
        }
        made.fetch_add(1, Ordering::Relaxed);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_under_load_loses_nothing() {
    // rule X4
    let Some(mut samba) = Samba::start() else { return };
    let share = guarded(&samba);
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut sites = Vec::new();
    for number in 0..4 {
        let name = format!("f{number}");
        put(&share, &name, b"begin").await;
        sites.push((
            name.clone(),
            tokio::spawn(edit(guarded(&samba), name, stop.clone(), made.clone())),
        ));
    }
    for _ in 0..6 {
        let before = made.load(Ordering::Relaxed);
        let end = Instant::now() + LONG;
        while made.load(Ordering::Relaxed) < before + 12 {
            assert!(Instant::now() < end, "no progress: {}", samba.log());
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        samba.kill();
        samba.run();
    }
    stop.store(true, Ordering::Relaxed);
    for (name, site) in sites {
        let wanted = tokio::time::timeout(LONG, site).await.unwrap().unwrap();
        let got = get(&share, &name).await;
        assert!(got == wanted, "{name}: {} bytes, not {}", got.len(), wanted.len());
    }
    assert!(made.load(Ordering::Relaxed) > 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_was_cut_off_is_undone_or_finished() {
    // rule X4
    let Some(samba) = Samba::start() else { return };
    let share: Share = Arc::new(samba.remote(PLAIN));
    let old = put(&share, "f", b"old").await;
    let disk = samba.disk(PLAIN);
    let aside = disk.join(".~covefs-move-of-f");
    std::fs::rename(disk.join("f"), &aside).unwrap();
    // To everybody the file is where it was.
    assert!(share.stat(&path("f")).await.unwrap().version.same_content(&old.version));
    assert_eq!(crate::suite::names(&share, "").await, ["f"]);
    assert_eq!(get(&share, "f").await, b"old");
    let new = Upload::of("new");
    let taken = crate::suite::send(&share, "f", new, Expect::Absent).await;
    assert_eq!(crate::suite::kind(taken), covefs_remote::ErrorKind::Exists);
    let new = Upload::of("new");
    let placed = crate::suite::send(&share, "f", new, Expect::Version(old.version)).await.unwrap();
    assert_eq!((get(&share, "f").await, samba.names(PLAIN)), (b"new".to_vec(), vec!["f".into()]));
    // One that was in place already: what stands aside is kept where people see it.
    std::fs::write(&aside, "older").unwrap();
    let newer = Upload::of("newer");
    crate::suite::send(&share, "f", newer, Expect::Version(placed.version)).await.unwrap();
    let names = samba.names(PLAIN);
    assert!(names.len() == 2 && names[0] == "f" && names[1].starts_with("f-kept-"), "{names:?}");
    assert_eq!(std::fs::read(disk.join(&names[1])).unwrap(), b"older");
    // Of one with a long name that was cut off before it began nothing is left.
    let holder = disk.join(".~covefs-move-in-0123456789abcdef");
    std::fs::create_dir(&holder).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    std::fs::File::open(&holder).unwrap().set_modified(old).unwrap();
    let end = Instant::now() + LONG;
    while holder.exists() {
        assert!(Instant::now() < end, "it stays: {:?}", samba.names(PLAIN));
        crate::suite::names(&share, "").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // And so for a removal.
    std::fs::rename(disk.join("f"), &aside).unwrap();
    let version = share.stat(&path("f")).await.unwrap().version;
    share.remove(&path("f"), Expect::Version(version)).await.unwrap();
    assert_eq!(samba.names(PLAIN), names[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hangs_on_a_server_that_says_nothing() {
    // rule K3
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let login = covefs_remote::smb::Login::default();
    let mut config = covefs_remote::smb::SmbConfig::new("127.0.0.1", "share", login);
    config.port = silent.local_addr().unwrap().port();
    let share = covefs_remote::smb::SmbRemote::new(config);
    let at = Instant::now();
    let error = share.stat(&path("f")).await.unwrap_err();
    assert!(error.kind.is_offline() && at.elapsed() < Duration::from_secs(20), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_login_or_share_is_told_and_says_nothing_of_files() {
    let Some(samba) = Samba::start() else { return };
    let mut config = samba.config(PLAIN);
    config.login.password = "wrong".into();
    let refused = covefs_remote::smb::SmbRemote::new(config).stat(&path("f")).await.unwrap_err();
    assert_eq!(refused.kind, covefs_remote::ErrorKind::Unauthenticated);
    assert!(!format!("{refused} {refused:?}").contains("wrong"));
    let none = samba.remote("nowhere").stat(&path("f")).await.unwrap_err();
    assert_eq!(none.kind, covefs_remote::ErrorKind::IdentityChanged);
    let mut config = samba.config(PLAIN);
    config.dir = path("no/such/dir");
    let none = covefs_remote::smb::SmbRemote::new(config).stat(&path("f")).await.unwrap_err();
    assert_eq!(none.kind, covefs_remote::ErrorKind::IdentityChanged);
    assert!(!format!("{:?}", samba.config(PLAIN)).contains("hunter2"), "a password is shown");
}
