//! Previous versions: which there are, and looking at one.

use crate::samba::{PLAIN, SNAPS, Samba};
use crate::suite::{Share, get, names, path, put};
use covefs_remote::smb::{SmbConfig, SmbRemote, Snapshot};
use covefs_remote::{Attrs, ErrorKind, Expect, Remote};
use std::sync::Arc;

const FIRST: &str = "GMT-2020.01.02-03.04.05";
const SECOND: &str = "GMT-2021.06.07-08.09.10";

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_listed_and_stays_as_it_was() {
    let Some(samba) = Samba::start() else { return };
    assert!(SmbRemote::snapshots(samba.config(PLAIN)).await.unwrap().is_empty());
    let kept = samba.disk(SNAPS).join(".snapshots");
    for (name, bytes) in [(SECOND, "later"), (FIRST, "old")] {
        let root = kept.join(format!("@{name}"));
        std::fs::create_dir_all(root.join("d")).unwrap();
        std::fs::write(root.join("d/f"), bytes).unwrap();
        std::fs::write(root.join(format!("of-{bytes}")), "x").unwrap();
    }
    let share: Share = Arc::new(samba.remote(SNAPS));
    share.create_dir(&path("d"), &Attrs::default()).await.unwrap();
    put(&share, "d/f", b"new").await;
    let listed = SmbRemote::snapshots(samba.config(SNAPS)).await.unwrap();
    let shown: Vec<String> = listed.iter().map(ToString::to_string).collect();
    assert_eq!(shown, [FIRST, SECOND]);
    let of = |snapshot| SmbConfig { snapshot: Some(snapshot), ..samba.config(SNAPS) };
    let old = SmbRemote::new(of(listed[0].clone()));
    assert!(old.limits().read_only);
    assert!(old.watch().await.unwrap().is_none(), "nothing changes there");
    assert_ne!(old.identity().await.unwrap(), share.identity().await.unwrap());
    old.usage().await.unwrap();
    let old: Share = Arc::new(old);
    assert_eq!(names(&old, "d").await, ["f"]);
    assert!(names(&old, "").await.contains(&"of-old".to_string()));
    assert_eq!(get(&old, "d/f").await, b"old");
    assert_eq!(get(&share, "d/f").await, b"new");
    assert_eq!(old.stat(&path("n")).await.unwrap_err().kind, ErrorKind::NotFound);
    let refused = old.remove(&path("d/f"), Expect::Any).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::ReadOnly);
    let below = SmbRemote::new(SmbConfig { dir: path("d"), ..of(listed[1].clone()) });
    assert_eq!(get(&(Arc::new(below) as Share), "f").await, b"later");
    let never = SmbRemote::new(of(Snapshot::parse("GMT-2001.01.01-00.00.00").unwrap()));
    assert_eq!(never.identity().await.unwrap_err().kind, ErrorKind::IdentityChanged);
}
