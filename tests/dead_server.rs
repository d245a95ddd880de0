//! Nothing hangs: drives whose server takes what it is asked and never answers, answers a byte a
//! second, or is gone. What is here goes on; what is not ends with an error, in time.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../remote/tests/samba/mod.rs"]
mod samba;

use azure_files_emulator::{Config, Emulator};
use common::{Behaviour, Drive, Link, pattern, run, until, within};
use samba::{PLAIN, Samba};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// `--timeout` of the drives here.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What has to ask the share ends within it: the timeout, and what a slow machine needs.
const ENDS: Duration = Duration::from_secs(15);
/// Readers that wait for the share at the same time.
const READERS: usize = 100;
const SHARE: &str = "docs";

/// What a drive says of such servers.
const SAID: &[&str] = &[
    "the share is out of reach",
    "the outcome of a change stays unknown",
    "an upload failed; it is tried again",
    "the replaced file stays aside",
];

/// A server, and a hand to put files on it.
enum Server {
    Azure(Emulator),
    Samba(Samba),
}

impl Server {
    fn put(&self, name: &str, bytes: &[u8]) {
        match self {
            Server::Azure(emulator) => emulator.write(SHARE, name, bytes),
            Server::Samba(samba) => {
                let at = samba.disk(PLAIN).join(name);
                fs::create_dir_all(at.parent().unwrap()).unwrap();
                fs::write(at, bytes).unwrap();
            }
        }
    }

    fn get(&self, name: &str) -> Option<Vec<u8>> {
        match self {
            Server::Azure(emulator) => emulator.read(SHARE, name),
            Server::Samba(samba) => fs::read(samba.disk(PLAIN).join(name)).ok(),
        }
    }
}

struct Site {
    /// First, so that it ends before its line does.
    drive: Drive,
    link: Link,
    server: Server,
}

const ARGS: [&str; 4] = ["--timeout", "2s", "--debounce", "200ms"];

fn azure() -> Option<Site> {
    let server = Emulator::start(Config::default()).unwrap();
    server.create_share(SHARE);
    let link = Link::to(server.address().port());
    let share = format!("azfiles://{}/{SHARE}", server.account());
    let own = format!(":{}/", server.address().port());
    let login = server.connection_string().replace(&own, &format!(":{}/", link.port));
    let login = [("AZURE_STORAGE_CONNECTION_STRING", &*login)];
    let drive = Drive::over("dead-azure", &share, &login, &ARGS);
    Some(Site { drive, link, server: Server::Azure(server) })
}

fn smb() -> Option<Site> {
    let server = Samba::start()?;
    let link = Link::to(server.port);
    let share = format!("smb://127.0.0.1:{}/{PLAIN}", link.port);
    let login = server.login_file();
    let args = [&ARGS[..], &["--credentials", login.to_str().unwrap()]].concat();
    let drive = Drive::over("dead-smb", &share, &[], &args);
    Some(Site { drive, link, server: Server::Samba(server) })
}

impl Site {
    fn at(&self, name: &str) -> PathBuf {
        self.drive.mnt.join(name)
    }

    /// Runs it on a thread of its own, and says how long it took.
    fn timed<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        let begin = Instant::now();
        let done = within(what, ENDS, work);
        println!("{what}: {:.1?}, {:?}", begin.elapsed(), done.as_ref().err());
        done
    }

    /// The first thing that needs the share takes its time; then all know that it is away.
    fn goes_on_without_it(&self, cold: usize) {
        let at = |name: &str| self.at(name);
        let path = at(&format!("cold/{cold}"));
        self.timed("read what is not here", || fs::read(path)).unwrap_err();
        let path = at("never/looked/at");
        self.timed("list what was never listed", || fs::read_dir(path).map(drop)).unwrap_err();
        let path = at("hot");
        let hot = self.timed("read what is here", || fs::read(path)).unwrap();
        assert_eq!(hot, pattern(1, 300_000));
        let path = at("");
        self.timed("list the root", || Ok(fs::read_dir(path)?.count())).unwrap();
        let path = at("hot");
        self.timed("stat", || fs::metadata(path)).unwrap();
        let path = at(&format!("new-{cold}"));
        self.timed("write and sync", move || {
            fs::write(&path, pattern(9, 5000))?;
            fs::File::open(path)?.sync_all()
        })
        .unwrap();
        let (old, new) = (at(&format!("new-{cold}")), at(&format!("moved-{cold}")));
        self.timed("rename", || fs::rename(old, new)).unwrap();
        let path = at(&format!("dir-{cold}"));
        self.timed("mkdir", || fs::create_dir(path)).unwrap();
        let path = at(&format!("gone-{cold}"));
        self.timed("unlink", || fs::remove_file(path)).unwrap();
    }

    /// Many wait for the share; whoever needs none of it does not wait for them.
    fn readers_stand_in_nobodys_way(&self) {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let path = self.at(&format!("many/{number}"));
                std::thread::spawn(move || fs::read(path))
            })
            .collect();
        let begin = Instant::now();
        for _ in 0..200 {
            assert_eq!(fs::read(self.at("hot")).unwrap().len(), 300_000);
        }
        println!("200 hot reads of 300 kB beside {READERS} cold ones: {:.1?}", begin.elapsed());
        within("the readers", ENDS + TIMEOUT, || {
            readers.into_iter().for_each(|reader| drop(reader.join().unwrap()));
        });
    }
}

fn nothing_hangs(site: Option<Site>) {
    let Some(mut site) = site else { return };
    SAID.iter().for_each(|text| site.drive.allow(text));
    let cases = [Behaviour::Silent, Behaviour::Drips, Behaviour::Gone];
    site.server.put("hot", &pattern(1, 300_000));
    site.server.put("never/looked/at/file", b"x");
    for number in 0..READERS {
        site.server.put(&format!("many/{number}"), &pattern(2, 200_000));
    }
    for number in 0..cases.len() {
        site.server.put(&format!("cold/{number}"), &pattern(3, 200_000));
        site.server.put(&format!("gone-{number}"), b"x");
    }
    site.drive.start();
    for (number, behaviour) in cases.into_iter().enumerate() {
        for dir in ["", "never", "cold", "many"] {
            assert!(fs::read_dir(site.at(dir)).unwrap().count() > 0);
        }
        assert_eq!(fs::read(site.at("hot")).unwrap(), pattern(1, 300_000));
        println!("{behaviour:?}");
        site.link.set(behaviour);
        site.readers_stand_in_nobodys_way();
        site.goes_on_without_it(number);
        let status = within("status", ENDS, {
            let mut status = Command::new(env!("CARGO_BIN_EXE_covefs"));
            status.arg("status").arg(&site.drive.mnt).arg("--json");
            move || run(&mut status, ENDS)
        });
        assert!(status.status.success());
        let begin = Instant::now();
        site.drive.unmount_dirty();
        println!("unmount: {:.1?}", begin.elapsed());
        site.link.set(Behaviour::Answers);
        site.drive.start();
        site.drive.sync();
        until("the removal is on the share", ENDS, || {
            site.server.get(&format!("gone-{number}")).is_none()
        });
        let moved = site.server.get(&format!("moved-{number}")).unwrap();
        assert_eq!(moved, pattern(9, 5000));
    }
    site.drive.drain_and_wipe();
}

#[test]
fn a_drive_of_an_azure_share_does_not_hang() {
    nothing_hangs(azure());
}

#[test]
fn a_drive_of_an_smb_share_does_not_hang() {
    nothing_hangs(smb());
}
