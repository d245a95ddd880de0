//! The share of the model, and the hand that others have on it: in memory, or an Azure share of a
//! server in this process.

use crate::harness::path;
use azure_files_emulator::{Config, Emulator, LeaseState};
use covefs_remote::azure::{Account, AzureConfig, AzureRemote};
use covefs_remote::memory::{Entry as Held, MemoryRemote};
use covefs_remote::{Kind, Metadata, Remote};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The share's name on the server.
const NAME: &str = "docs";

pub enum Share {
    Memory(Arc<MemoryRemote>),
    Azure(Box<Emulator>),
}

impl Share {
    pub fn memory() -> Share {
        Share::Memory(Arc::new(MemoryRemote::new()))
    }

    pub fn azure() -> Share {
        let server = Emulator::start(Config::default()).unwrap();
        server.create_share(NAME);
        Share::Azure(Box::new(server))
    }

    /// The way to it, as a process that begins has it: it remembers nothing.
    pub fn remote(&self) -> Arc<dyn Remote> {
        match self {
            Share::Memory(memory) => memory.clone(),
            Share::Azure(server) => {
                let account = Account::from_connection_string(&server.connection_string());
                Arc::new(AzureRemote::new(AzureConfig::new(account.unwrap(), NAME)).unwrap())
            }
        }
    }

    pub fn write_dir(&self, at: &str) {
        match self {
            Share::Memory(memory) => memory.write_dir(&path(at)),
            Share::Azure(server) => server.create_dir(NAME, at),
        }
    }

    pub fn write(&self, at: &str, bytes: &[u8]) {
        match self {
            Share::Memory(memory) => memory.write_file(&path(at), bytes.to_vec()),
            Share::Azure(server) => server.write(NAME, at, bytes),
        }
    }

    pub fn remove(&self, at: &str) -> bool {
        match self {
            Share::Memory(memory) => memory.remove_path(&path(at)),
            Share::Azure(server) => server.remove(NAME, at),
        }
    }

    /// Whether nothing is on it that a site has there only while it is at it.
    pub fn is_at_rest(&self) -> bool {
        let Share::Azure(server) = self else { return true };
        let passing = |name: &str| name.contains(".~covefs-");
        server
            .walk(NAME)
            .iter()
            .all(|entry| !passing(&entry.name) && !matches!(entry.lease, LeaseState::Leased(_)))
    }

    /// All that it has.
    pub async fn tree(&self) -> BTreeMap<String, (Held, Metadata)> {
        let remote = self.remote();
        let names: Vec<String> = match self {
            Share::Memory(memory) => {
                let tree = memory.tree();
                tree.keys().map(|at| at.to_string().trim_start_matches('/').to_owned()).collect()
            }
            Share::Azure(server) => server.walk(NAME).into_iter().map(|entry| entry.name).collect(),
        };
        let mut all = BTreeMap::new();
        for name in names {
            let found = remote.stat(&path(&name)).await.unwrap();
            let held = match found.kind {
                Kind::Dir => Held::Dir,
                Kind::Symlink => Held::Symlink(found.target.clone().unwrap()),
                Kind::File | Kind::Special => Held::File(self.read(&name).into()),
            };
            all.insert(name, (held, found));
        }
        all
    }

    fn read(&self, at: &str) -> Vec<u8> {
        match self {
            Share::Memory(memory) => memory.read_file(&path(at)).unwrap().to_vec(),
            Share::Azure(server) => server.read(NAME, at).unwrap(),
        }
    }
}
