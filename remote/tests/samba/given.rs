//! A Samba server that somebody else runs and names by a variable: for tests that cannot start one,
//! under Wine. Each share of a test is a new directory of it.

use covefs_remote::smb::{Login, SmbConfig, SmbRemote};
use covefs_remote::{Attrs, Remote, RemotePath};
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

/// Set by `ci/windows/samba.sh`: the port on the loopback.
const PORT: &str = "COVEFS_TEST_SMB_PORT";

/// The one account there.
const USER: &str = "root";
const PASSWORD: &str = "hunter2";

/// An empty directory of a share of that server; `None` where there is no server, said aloud where
/// there should be one.
pub async fn fresh(share: &str) -> Option<SmbConfig> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let Ok(port) = std::env::var(PORT) else {
        if cfg!(windows) {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test").to_owned();
            let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: no Samba server is named");
        }
        return None;
    };
    let port = port.parse().unwrap();
    let (user, password) = (USER.into(), PASSWORD.into());
    let login = Login { user, password, ..Login::default() };
    let whole = SmbConfig { port, ..SmbConfig::new("127.0.0.1", share, login) };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = RemotePath::parse(format!("{}-{number}", std::process::id()).as_bytes());
    SmbRemote::new(whole.clone()).create_dir(&dir, &Attrs::default()).await.unwrap();
    Some(SmbConfig { dir, ..whole })
}
