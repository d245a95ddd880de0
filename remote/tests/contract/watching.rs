//! watch: whatever tells of changes tells of all that is in directories listed since.

use super::*;
use covefs_remote::{Change, ChangeStream};
use std::time::Duration;

/// Longer than any share takes to tell what it tells.
const SOON: Duration = Duration::from_secs(20);

/// `None` where the share cannot tell.
async fn watching(share: &Share) -> Option<ChangeStream> {
    let changes = share.watch().await.unwrap();
    if changes.is_none() {
        skip("tells of no changes");
    }
    changes
}

/// Waits until this is told.
pub async fn told(changes: &mut ChangeStream, wanted: Change) {
    let heard = async {
        while let Some(change) = changes.next().await {
            if change == wanted {
                return;
            }
        }
        panic!("it ended before {wanted:?}")
    };
    let heard = tokio::time::timeout(SOON, heard).await;
    assert!(heard.is_ok(), "not told: {wanted:?}");
}

pub fn at(name: &str) -> Change {
    Change::At(path(name))
}

pub async fn every_change_of_a_listed_directory_is_told(share: Share) {
    mkdir(&share, "d").await;
    let Some(mut changes) = watching(&share).await else { return };
    entries(&share, "").await;
    entries(&share, "d").await;
    let file = put(&share, "d/f", b"one").await;
    told(&mut changes, at("d/f")).await;
    let file = send(&share, "d/f", Upload::of("two"), Expect::Version(file.version)).await.unwrap();
    told(&mut changes, at("d/f")).await;
    let file = share.rename(&path("d/f"), &file.version, &path("g"), Expect::Absent).await.unwrap();
    // In whichever order.
    let mut both = [at("d/f"), at("g")].to_vec();
    while !both.is_empty() {
        let change = tokio::time::timeout(SOON, changes.next()).await.expect("told in time");
        both.retain(|wanted| Some(wanted) != change.as_ref());
    }
    let attrs = Attrs { mtime: Some(Default::default()), ..Attrs::default() };
    let file = share.set_attrs(&path("g"), &file.version, &attrs).await.unwrap();
    told(&mut changes, at("g")).await;
    share.remove(&path("g"), Expect::Version(file.version)).await.unwrap();
    told(&mut changes, at("g")).await;
    mkdir(&share, "d/e").await;
    told(&mut changes, at("d/e")).await;
    if share.limits().has_symlinks {
        share.symlink(&path("d/l"), b"x", &Attrs::default()).await.unwrap();
        told(&mut changes, at("d/l")).await;
    }
}

/// rule X7: between the listing and the first look at the stream nothing is missed.
pub async fn it_is_armed_before_it_returns(share: Share) {
    mkdir(&share, "d").await;
    let Some(mut changes) = watching(&share).await else { return };
    entries(&share, "d").await;
    let names: Vec<String> = (0..100).map(|number| format!("d/n{number}")).collect();
    for name in &names {
        put(&share, name, b"x").await;
    }
    for name in &names {
        told(&mut changes, at(name)).await;
    }
}

pub async fn everybody_who_watches_is_told(share: Share) {
    let Some(mut one) = watching(&share).await else { return };
    let Some(mut other) = watching(&share).await else { return };
    entries(&share, "").await;
    put(&share, "f", b"x").await;
    told(&mut one, at("f")).await;
    drop(one);
    entries(&share, "").await;
    put(&share, "g", b"x").await;
    told(&mut other, at("g")).await;
}
