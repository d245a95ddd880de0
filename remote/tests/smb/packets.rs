//! What a change costs on a long line.

use crate::line::{Counter, Line};
use crate::samba::{PLAIN, Samba};
use crate::suite::{Share, Upload, get, path, send};
use covefs_remote::Expect;
use covefs_remote::smb::{Encrypt, SmbConfig, SmbRemote};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_small_file_takes_three_round_trips() {
    let Some(samba) = Samba::start() else { return };
    let line = Line::to(samba.port, Counter::default());
    let config = SmbConfig { port: line.port, encrypt: Encrypt::Off, ..samba.config(PLAIN) };
    let share: Share = Arc::new(SmbRemote::new(config));
    share.stat(&path("")).await.unwrap();
    line.watcher.take();
    send(&share, "f", Upload::of("small"), Expect::Absent).await.unwrap();
    let counted = line.watcher.take();
    // Made and filled, while it is asked whether the name is free and nothing stands aside; attributes;
    // the name.
    assert_eq!((counted.round_trips, counted.packets), (3, 5), "{counted:?}");
    assert_eq!(get(&share, "f").await, b"small");
}
