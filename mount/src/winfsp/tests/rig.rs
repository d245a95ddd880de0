//! Drives without a driver: a share, caches of it on the local disk, and what programs do to them.

#[cfg(windows)]
pub use super::by_context::Drive;
#[cfg(unix)]
pub use super::by_volume::Drive;
use super::given;
use crate::options::MountOptions;
use crate::winfsp::facts::{Basic, Info, attribute};
use crate::winfsp::volume::Open;
use crate::winfsp::{Answer, Status};
use azure_files_emulator::Emulator;
use covefs_cache::{Config, MinFree, Vfs};
use covefs_remote::Remote;
use covefs_remote::azure::{Account, AzureConfig, AzureRemote};
use covefs_remote::smb::{SmbConfig, SmbRemote};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Generic rights of a program that reads and writes.
pub const ALL: u32 = 0x1 | 0x2 | 0x4 | 0x20;
/// FILE_READ_ATTRIBUTES.
pub const LOOK: u32 = 0x80;
/// FILE_LIST_DIRECTORY.
pub const LIST: u32 = 0x1;

/// What is shared: closed when it is dropped.
enum Share {
    Azure(Emulator),
    Dir(tempfile::TempDir),
    /// Of a Samba server that somebody else runs.
    Smb(SmbConfig),
}

/// A share and the drives that it is mounted as.
pub struct Rig {
    share: Share,
    remote: Arc<dyn Remote>,
    dir: tempfile::TempDir,
    runtime: Runtime,
    drives: Vec<Drive>,
}

/// Runs a check on an empty drive of each kind of share that this system has.
pub fn on_each(check: impl Fn(&Rig, &Drive)) {
    on_each_as(|_| (), check);
}

/// The same with an option or two.
pub fn on_each_as(choose: impl Fn(&mut MountOptions), check: impl Fn(&Rig, &Drive)) {
    for mut rig in shares().map(Rig::new) {
        let options = options(&choose);
        rig.mount(&options);
        check(&rig, &rig.drives[0]);
        rig.end();
    }
}

/// Two drives of one share.
pub fn on_each_two(check: impl Fn(&Rig, &Drive, &Drive)) {
    for mut rig in shares().map(Rig::new) {
        let options = options(&|_| ());
        rig.mount(&options);
        rig.mount(&options);
        check(&rig, &rig.drives[0], &rig.drives[1]);
        rig.end();
    }
}

fn options(choose: &impl Fn(&mut MountOptions)) -> MountOptions {
    let mut options = MountOptions::new("X:", "azfiles://account/docs");
    choose(&mut options);
    options
}

fn shares() -> impl Iterator<Item = Share> {
    let azure = || {
        let emulator = Emulator::start(azure_files_emulator::Config::default()).unwrap();
        emulator.create_share("docs");
        Share::Azure(emulator)
    };
    let here = [Share::Dir(tempfile::tempdir().unwrap()), azure()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let smb = runtime.block_on(given::fresh("plain"));
    here.into_iter().chain(smb.map(Share::Smb))
}

impl Rig {
    /// Whether the share gives a file the same name in other letters. Wine 8 does not on its disks, and says
    /// that it did.
    pub fn changes_case(&self) -> bool {
        let Share::Dir(dir) = &self.share else { return true };
        let [small, capital] = ["case", "CASE"].map(|name| dir.path().join(name));
        std::fs::write(&small, "").unwrap();
        std::fs::rename(&small, &capital).unwrap();
        let listed = std::fs::read_dir(dir.path()).unwrap();
        let changes = listed.map(|entry| entry.unwrap().file_name()).any(|name| name == "CASE");
        std::fs::remove_file(&capital).unwrap();
        changes
    }

    fn new(share: Share) -> Rig {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let remote: Arc<dyn Remote> = match &share {
            Share::Azure(emulator) => {
                let account = Account::from_connection_string(&emulator.connection_string());
                let config = AzureConfig::new(account.unwrap(), "docs");
                let _inside = runtime.enter();
                Arc::new(AzureRemote::new(config).unwrap())
            }
            Share::Smb(config) => {
                let _inside = runtime.enter();
                Arc::new(SmbRemote::new(config.clone()))
            }
            Share::Dir(dir) => {
                let root = dir.path().to_owned();
                Arc::new(covefs_remote::local::LocalRemote::open(root).unwrap())
            }
        };
        Rig { share, remote, dir: tempfile::tempdir().unwrap(), runtime, drives: Vec::new() }
    }

    fn mount(&mut self, options: &MountOptions) {
        let number = self.drives.len();
        let mut config = config(self.dir.path().join(format!("cache-{number}")));
        config.site = format!("site-{number}");
        config.read_only = options.read_only;
        let vfs = self.runtime.block_on(Vfs::start(config, self.remote.clone())).unwrap();
        self.drives.push(Drive::new(vfs, self.runtime.handle().clone(), options));
    }

    /// Everything is on the share.
    pub fn upload(&self, drive: &Drive) {
        drive.vfs().sync_now();
        self.runtime.block_on(drive.vfs().sync_wait(&|_| ())).unwrap();
    }

    /// Nothing of a file is here any more.
    pub fn evict(&self, drive: &Drive, path: &str) -> u64 {
        self.upload(drive);
        let path = covefs_remote::RemotePath::parse(path.replace('\\', "/").as_bytes());
        self.until("what is dropped was counted", || {
            self.runtime.block_on(drive.vfs().evict(&path)).ok().filter(|freed| *freed > 0)
        })
    }

    /// What must come, within bounds.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "in vain: {what}");
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(10)).await });
        }
    }

    fn end(mut self) {
        for drive in self.drives.drain(..) {
            self.runtime.block_on(drive.vfs().shutdown());
        }
    }
}

fn config(cache_dir: PathBuf) -> Config {
    Config {
        cache_dir,
        share: "docs".into(),
        mountpoint: PathBuf::from("X:"),
        limit_bytes: 256 << 20,
        min_free: MinFree::Bytes(0),
        max_age: None,
        freshness: Duration::from_millis(20),
        watch: false,
        site: "here".into(),
        read_only: false,
        sync_share: false,
        timeout: Duration::from_secs(20),
        debounce: Duration::from_millis(10),
        uid: 0,
        gid: 0,
        file_mode: 0o644,
        dir_mode: 0o755,
    }
}

/// What each kind of drive does by its own calls.
pub trait Calls {
    fn vfs(&self) -> &Arc<Vfs>;
    fn open_as(&self, path: &str, wants_dir: Option<bool>, access: u32) -> Answer<(Open, Info)>;
    fn create_as(&self, path: &str, is_dir: bool, attributes: u32) -> Answer<(Open, Info)>;
    fn read(&self, open: &Open, offset: u64, len: usize) -> Answer<Vec<u8>>;
    fn put(&self, open: &Open, bytes: &[u8], offset: Option<u64>, limited: bool) -> Answer<u32>;
    fn info(&self, open: &Open) -> Answer<Info>;
    fn size(&self, open: &Open, size: u64, allocation: bool) -> Answer<Info>;
    fn overwrite(&self, open: &Open, attributes: u32, replaces: bool) -> Answer<Info>;
    fn basic(&self, open: &Open, wish: Basic) -> Answer<Info>;
    fn can_delete(&self, open: &Open, path: &str) -> Answer<()>;
    fn cleanup(&self, open: &Open, path: &str, removes: bool);
    fn close(&self, open: Open);
    fn rename(&self, open: &Open, from: &str, to: &str, replaces: bool) -> Answer<()>;
    /// The names that one call tells, and their attributes.
    fn page(
        &self,
        open: &Open,
        marker: Option<&str>,
        pattern: Option<&str>,
    ) -> Answer<Vec<(String, Info)>>;
    fn one(&self, open: &Open, name: &str) -> Answer<String>;
    fn reparse(&self, path: &str) -> Answer<Vec<u8>>;
    fn flush(&self, open: Option<&Open>) -> Answer<()>;
    fn space(&self) -> Answer<(u64, u64)>;

    fn open(&self, path: &str) -> Answer<Open> {
        self.open_as(path, None, ALL).map(|(open, _)| open)
    }

    fn write(&self, open: &Open, offset: u64, bytes: &[u8]) -> Answer<u32> {
        self.put(open, bytes, Some(offset), false)
    }

    /// The handle of a program, closed.
    fn done(&self, open: Open, path: &str) {
        self.cleanup(&open, path, false);
        self.close(open);
    }

    fn make(&self, path: &str, bytes: &[u8]) {
        let (open, _) = self.create_as(path, false, attribute::NORMAL).unwrap();
        if !bytes.is_empty() {
            assert_eq!(self.write(&open, 0, bytes), Ok(bytes.len() as u32));
        }
        self.done(open, path);
    }

    fn mkdir(&self, path: &str) {
        let (open, info) = self.create_as(path, true, attribute::DIRECTORY).unwrap();
        assert_eq!(info.attributes, attribute::DIRECTORY);
        self.done(open, path);
    }

    fn content(&self, path: &str) -> Answer<Vec<u8>> {
        let (open, info) = self.open_as(path, Some(false), ALL)?;
        let bytes = match info.size {
            0 => Ok(Vec::new()),
            size => self.read(&open, 0, size as usize),
        };
        self.done(open, path);
        bytes
    }

    fn look(&self, path: &str) -> Answer<Info> {
        let (open, info) = self.open_as(path, None, LOOK)?;
        assert_eq!(self.info(&open), Ok(info), "{path}");
        self.done(open, path);
        Ok(info)
    }

    fn remove(&self, path: &str) -> Answer<()> {
        let (open, _) = self.open_as(path, None, LOOK)?;
        let outcome = self.can_delete(&open, path);
        self.cleanup(&open, path, outcome.is_ok());
        self.close(open);
        outcome
    }

    fn mv(&self, from: &str, to: &str, replaces: bool) -> Answer<()> {
        let (open, _) = self.open_as(from, None, LOOK)?;
        let outcome = self.rename(&open, from, to, replaces);
        self.done(open, if outcome.is_ok() { to } else { from });
        outcome
    }

    fn names(&self, path: &str) -> Vec<String> {
        let (open, _) = self.open_as(path, Some(true), LIST).unwrap();
        let mut names: Vec<String> = Vec::new();
        loop {
            let page = self.page(&open, names.last().map(|name| &**name), None).unwrap();
            if page.is_empty() {
                break;
            }
            names.extend(page.into_iter().map(|(name, _)| name));
        }
        self.done(open, path);
        names
    }

    fn is_missing(&self, path: &str) -> bool {
        self.look(path) == Err(Status::OBJECT_NAME_NOT_FOUND)
    }
}

#[cfg(not(windows))]
pub fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}
