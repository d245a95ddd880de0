//! The share of the demo, and the hand that others have on it: a directory of this machine, or an
//! Azure share of a server in this very process, reached over TLS; on Windows without, where only
//! certificates in the system's own store are trusted. The server is the one that the
//! tests use; it keeps all in memory and ends with the demo.

use super::sample::{self, Comparison, Sample};
use anyhow::{Context, Result};
use azure_files_emulator::{Config, Emulator};
use std::fs;
use std::path::{Path, PathBuf};

/// The name of the share on the server.
const NAME: &str = "sample";

/// What is mounted.
pub(super) enum Share {
    /// A directory.
    Dir(PathBuf),
    /// A share of this server, whose certificate lies in the file.
    Azure { server: Box<Emulator>, authority: Option<PathBuf> },
}

impl Share {
    /// A directory at this place.
    pub(super) fn dir(at: &Path) -> Result<Share> {
        fs::create_dir_all(at).with_context(|| format!("make {}", at.display()))?;
        Ok(Share::Dir(at.to_path_buf()))
    }

    /// A share of a server that begins now; what it needs on the disk goes below `root`.
    pub(super) fn azure(root: &Path) -> Result<Share> {
        let config = Config { tls: cfg!(unix), ..Config::default() };
        let server = Emulator::start(config).context("start the server")?;
        server.create_share(NAME);
        let file = root.join("server.pem");
        let authority = match server.authority_pem() {
            Some(pem) => {
                fs::write(&file, pem).with_context(|| format!("write {}", file.display()))?;
                Some(file)
            }
            None => None,
        };
        Ok(Share::Azure { server: Box::new(server), authority })
    }

    /// As `covefs mount` is told it.
    pub(super) fn name(&self) -> String {
        match self {
            Share::Dir(dir) => format!("dir:{}", dir.display()),
            Share::Azure { server, .. } => format!("azfiles://{}/{NAME}", server.account()),
        }
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        match self {
            Share::Dir(dir) => dir.display().to_string(),
            Share::Azure { server, .. } => format!("{}/{NAME}", server.endpoint()),
        }
    }

    /// Variables of `covefs mount`: the login, and whom to trust.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        match self {
            Share::Dir(_) => Vec::new(),
            Share::Azure { server, authority } => {
                let login = ("AZURE_STORAGE_CONNECTION_STRING", server.connection_string());
                let trusted = authority.iter().map(|file| file.display().to_string());
                [login].into_iter().chain(trusted.map(|file| ("SSL_CERT_FILE", file))).collect()
            }
        }
    }

    /// Puts the sample there.
    pub(super) fn fill(&self, scratch: &Path) -> Result<Sample> {
        let Share::Azure { server, .. } = self else {
            return sample::write(scratch).context("write the sample share");
        };
        fs::create_dir_all(scratch).with_context(|| format!("make {}", scratch.display()))?;
        let sample = sample::write(scratch).context("write the sample")?;
        let mut dirs = vec![scratch.to_path_buf()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                match path.is_dir() {
                    true => dirs.push(path),
                    false => {
                        let name = path.strip_prefix(scratch)?.to_string_lossy();
                        let name = name.replace(std::path::MAIN_SEPARATOR, "/");
                        server.write(NAME, &name, &fs::read(&path)?);
                    }
                }
            }
        }
        fs::remove_dir_all(scratch).with_context(|| format!("remove {}", scratch.display()))?;
        Ok(sample)
    }

    /// The bytes of a file there.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        match self {
            Share::Dir(dir) => fs::read(dir.join(name)).with_context(|| format!("read {name}")),
            Share::Azure { server, .. } => {
                server.read(NAME, name).with_context(|| format!("the share has no {name}"))
            }
        }
    }

    /// Somebody else writes a file there.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Share::Dir(dir) => fs::write(dir.join(name), bytes).context("edit on the share"),
            Share::Azure { server, .. } => {
                server.write(NAME, name, bytes);
                Ok(())
            }
        }
    }

    /// Number of files, and their bytes.
    pub(super) fn measure(&self) -> Result<(u64, u64)> {
        match self {
            Share::Dir(dir) => Ok(sample::measure(dir)?),
            Share::Azure { server, .. } => {
                let entries = server.walk(NAME);
                let files = entries.iter().filter(|entry| !entry.is_directory);
                Ok(files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.size_bytes)))
            }
        }
    }

    /// How what the drive has differs.
    pub(super) fn compare(&self, drive: &Path) -> Result<Comparison> {
        let server = match self {
            Share::Dir(dir) => return sample::compare(dir, drive).context("read everything"),
            Share::Azure { server, .. } => server,
        };
        let mut found = Comparison::default();
        for entry in server.walk(NAME).into_iter().filter(|entry| !entry.is_directory) {
            let here = fs::read(drive.join(&entry.name)).context("read everything")?;
            match self.read(&entry.name)? == here {
                true => found.bytes += entry.size_bytes,
                false => found.different.push(entry.name),
            }
        }
        Ok(found)
    }
}
