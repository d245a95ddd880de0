//! What has the share of a crash test: a directory of this machine, or a server in this process.

use crate::common::{connections_to, until};
use crate::model::{Node, Tree};
use azure_files_emulator::{Config, Emulator, LeaseState};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The share's name on the server.
const SHARE: &str = "docs";

/// Metadata that makes a file of the share a symlink: its target in base64.
const LINK: &str = "covefslink";

pub enum Share {
    /// Where what the share has lies on a disk.
    Dir(PathBuf),
    /// A server, and where what it has is written out to be looked at.
    Azure { server: Emulator, copy: tempfile::TempDir },
}

impl Share {
    /// An Azure share, its name as `covefs mount` is told it, and the login.
    pub fn azure() -> (Share, String, String) {
        let server = Emulator::start(Config::default()).unwrap();
        server.create_share(SHARE);
        let named = format!("azfiles://{}/{SHARE}", server.account());
        let login = server.connection_string();
        (Share::Azure { server, copy: tempfile::tempdir().unwrap() }, named, login)
    }

    /// Puts a tree below its root.
    pub fn lay_out(&self, name: &str, tree: &Tree) {
        match self {
            Share::Dir(root) => lay_out_on_disk(&root.join(name), tree),
            Share::Azure { server, .. } => {
                server.create_dir(SHARE, name);
                for (path, node) in &tree.0 {
                    let path = format!("{name}/{path}");
                    match node {
                        Node::Dir => server.create_dir(SHARE, &path),
                        Node::File { bytes, .. } => server.write(SHARE, &path, bytes),
                        Node::Link(_) => panic!("a tree begins without symlinks"),
                    }
                }
            }
        }
    }

    /// Returns when all is done that a killed site had sent: what it makes after the next one has looked
    /// for it is somebody else's to that one, and stays.
    pub fn until_quiet(&self) {
        if let Share::Azure { server, .. } = self {
            let port = server.address().port();
            let quiet = || connections_to(port) == 0;
            until("the server did what it was asked", Duration::from_secs(20), quiet);
        }
    }

    /// What a server was asked about the name that this is about: its last calls, in order.
    pub fn calls_about(&self, wrong: &str) -> String {
        let Share::Azure { server, .. } = self else { return String::new() };
        let path = wrong.split(": ").find(|part| part.contains('/')).unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        let log = server.log();
        let calls = log.iter().enumerate().filter(|(_, call)| call.path.contains(name));
        calls.map(|(at, call)| format!("\n  {at} {call:?}")).collect()
    }

    /// Nothing on it is locked, so that all others can go on.
    pub fn check_unlocked(&self) -> Result<(), String> {
        let Share::Azure { server, .. } = self else { return Ok(()) };
        let entries = server.walk(SHARE);
        let held = entries.iter().find(|entry| matches!(entry.lease, LeaseState::Leased(_)));
        held.map_or(Ok(()), |entry| Err(format!("{} stays leased", entry.name)))
    }

    /// A directory that holds what the share has now.
    pub fn look(&self) -> PathBuf {
        let (server, copy) = match self {
            Share::Dir(root) => return root.clone(),
            Share::Azure { server, copy } => (server, copy.path().join("share")),
        };
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        for entry in server.walk(SHARE) {
            // A site that is killed between the two steps of a new symlink leaves an empty file: until
            // it looks into the directory or, its cache gone, for a week (X2).
            if entry.name.contains("/.~covefs-") && entry.metadata.contains_key(LINK) {
                continue;
            }
            let path = copy.join(&entry.name);
            match entry.metadata.get(LINK) {
                _ if entry.is_directory => fs::create_dir(path).unwrap(),
                Some(target) => {
                    let target = std::ffi::OsString::from_vec(BASE64.decode(target).unwrap());
                    std::os::unix::fs::symlink(target, path).unwrap();
                }
                None => fs::write(path, server.read(SHARE, &entry.name).unwrap()).unwrap(),
            }
        }
        copy
    }
}

fn lay_out_on_disk(root: &Path, tree: &Tree) {
    fs::create_dir_all(root).unwrap();
    for (path, node) in &tree.0 {
        match node {
            Node::Dir => fs::create_dir(root.join(path)).unwrap(),
            Node::File { bytes, .. } => fs::write(root.join(path), &**bytes).unwrap(),
            Node::Link(target) => std::os::unix::fs::symlink(target, root.join(path)).unwrap(),
        }
    }
}
