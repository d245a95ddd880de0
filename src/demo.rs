//! `covefs demo`: a sample share, mounted with a small cache, and a walk through what the drive
//! does. Every claim it makes is checked as it is made; `--check` does the same without a person
//! and cleans up. `--azure` does it over an Azure share of a server in this process.

mod claims;
mod sample;
mod share;

use crate::client::{self, Drive};
use crate::control::Request;
use crate::drive;
use crate::size::{format_size, format_took};
use crate::status;
use crate::system::user::User;
use crate::system::{mountpoint, unmount};
use crate::text::{count, say};
use anyhow::{Context, Result, bail};
use claims::Claims;
use share::Share;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The least that a cache may have, and less than half of the sample share.
const LIMIT: &str = "64MiB";
/// Shorter than the default, so that nobody has to wait for the edit.
const FRESHNESS: Duration = Duration::from_secs(2);
/// How long something that happens in the background may take before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the demo's parts are.
struct Stage {
    root: PathBuf,
    share: PathBuf,
    mountpoint: PathBuf,
    cache_dir: PathBuf,
}

impl Stage {
    fn new(base: &Path) -> Stage {
        let root = base.join("demo");
        let part = |name: &str| root.join(name);
        Stage { share: part("share"), mountpoint: part("drive"), cache_dir: part("cache"), root }
    }

    /// The share, empty.
    fn share(&self, azure: bool) -> Result<Share> {
        std::fs::create_dir_all(&self.root)
            .with_context(|| format!("make {}", self.root.display()))?;
        if azure { Share::azure(&self.root) } else { Share::dir(&self.share) }
    }

    /// Takes away what an earlier demo left, mounted or dead.
    fn clear(&self) -> Result<()> {
        if drive::is_mounted(&self.mountpoint)? {
            let unmounted = unmount::unmount(&self.mountpoint, false, true);
            if drive::is_mounted(&self.mountpoint)? {
                unmounted.context("the earlier demo is in the way")?;
                unmount::detach_dead(&self.mountpoint).context("detach the earlier demo")?;
            }
        }
        match std::fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.root.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The demo. Fails on any surprise, then too leaving nothing mounted with `--check`.
pub(crate) fn run(check: bool, azure: bool) -> Result<()> {
    let stage = Stage::new(&User::current().state_base()?);
    // A directory is no share there.
    let azure = azure || cfg!(windows);
    if drive::is_mounted(&stage.mountpoint)? {
        say!("An earlier demo is still mounted; it goes first.");
    }
    stage.clear()?;
    let share = stage.share(azure)?;
    let walked = walk(&stage, &share);
    if check || walked.is_err() {
        let cleaned = stage.clear();
        let claims = walked?;
        cleaned?;
        say!("\n{} verified, nothing left behind.", count(claims, "claim"));
        return Ok(());
    }
    farewell(&stage, &share);
    if azure {
        wait_for_end(&stage.mountpoint)?;
        stage.clear()?;
    }
    Ok(())
}

/// The server is part of this process: it goes on until the drive is unmounted, or Ctrl-C.
fn wait_for_end(mountpoint: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                result = &mut interrupted => return result.context("wait for Ctrl-C"),
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
            if !drive::is_mounted(mountpoint)? {
                return Ok(());
            }
        }
    })
}

fn walk(stage: &Stage, share: &Share) -> Result<u64> {
    let mut claims = Claims::default();
    let sample = prepare(stage, share)?;
    mount(stage, share)?;
    let drive = client::drive(&stage.mountpoint)?;
    claims.hold("the cache is where it was asked to be", drive.cache_dir == stage.cache_dir)?;
    browse(stage, &drive, &sample, &mut claims)?;
    read_twice(stage, share, &drive, &mut claims)?;
    edit_on_share(stage, share, &mut claims)?;
    edit_on_drive(stage, share, &mut claims)?;
    overflow(stage, share, &drive, &mut claims)?;
    evict(stage, share, &drive, &mut claims)?;
    Ok(claims.number())
}

fn prepare(stage: &Stage, share: &Share) -> Result<sample::Sample> {
    heading("1. A share");
    mountpoint::make(&stage.mountpoint)
        .with_context(|| format!("make {}", stage.mountpoint.display()))?;
    let sample = share.fill(&stage.share)?;
    say!(
        "{} in {}: documents, pictures and recordings, {}.",
        count(sample.files, "file"),
        share.place(),
        format_size(sample.bytes)
    );
    Ok(sample)
}

/// Mounts as a user would: by the command.
fn mount(stage: &Stage, share: &Share) -> Result<()> {
    heading("2. Mounted as a drive");
    let name = share.name();
    for (variable, value) in share.variables() {
        // One may want to mount it a second time; the key is the one that every emulator has.
        say!("$ export {variable}='{value}'");
    }
    say!("$ {} mount {name} {} --cache-size {LIMIT}", program(), stage.mountpoint.display());
    let began = Instant::now();
    let output = Command::new(std::env::current_exe().context("find this program's file")?)
        .arg("mount")
        .args([name.as_ref(), stage.mountpoint.as_os_str()])
        .args(["--cache-size", LIMIT, "--freshness", &format!("{}s", FRESHNESS.as_secs())])
        .arg("--cache-dir")
        .arg(&stage.cache_dir)
        .envs(share.variables())
        .stdin(Stdio::null())
        .output()
        .context("run covefs mount")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}", said.trim().trim_start_matches("covefs: "));
    }
    say!("Usable after {}.", format_took(began.elapsed()));
    Ok(())
}

fn browse(
    stage: &Stage,
    drive: &Drive,
    sample: &sample::Sample,
    claims: &mut Claims,
) -> Result<()> {
    heading("3. Browsing");
    let began = Instant::now();
    let (files, bytes) = sample::measure(&stage.mountpoint).context("walk the drive")?;
    let took = began.elapsed();
    say!("All {} listed with their sizes in {}.", count(files, "file"), format_took(took));
    claims.hold("every file is listed", files == sample.files)?;
    claims.hold("every size is right", bytes == sample.bytes)?;
    let fetched = status::ask(drive)?.reads.fetched_bytes;
    claims.hold("browsing fetches no contents", fetched == 0)?;
    say!("Fetched for that: {}.", format_size(fetched));
    Ok(())
}

fn read_twice(stage: &Stage, share: &Share, drive: &Drive, claims: &mut Claims) -> Result<()> {
    heading("4. A file read for the first time, and again");
    let before = status::ask(drive)?;
    let (cold, cold_took) = timed_read(&stage.mountpoint.join(sample::RECORDING))?;
    let between = status::ask(drive)?;
    let (hot, hot_took) = timed_read(&stage.mountpoint.join(sample::RECORDING))?;
    let after = status::ask(drive)?;
    let size = cold.len() as u64;
    let shown = format_size(size);
    say!("Cold: {shown} fetched from the share and kept, in {}.", format_took(cold_took));
    say!("Hot:  the same bytes without the share, in {}.", format_took(hot_took));
    let original = share.read(sample::RECORDING)?;
    claims.hold("the cold read is identical to the share's file", cold == original)?;
    claims.hold("the hot read is identical too", hot == original)?;
    let fetched = between.reads.fetched_bytes - before.reads.fetched_bytes;
    claims.hold("the cold read came from the share", fetched >= size)?;
    let again = after.reads.fetched_bytes - between.reads.fetched_bytes;
    claims.hold("the hot read fetched nothing", again == 0)
}

fn timed_read(path: &Path) -> Result<(Vec<u8>, Duration)> {
    let began = Instant::now();
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok((bytes, began.elapsed()))
}

fn edit_on_share(stage: &Stage, share: &Share, claims: &mut Claims) -> Result<()> {
    heading("5. Somebody edits a file on the share");
    let here = stage.mountpoint.join(sample::DOCUMENT);
    // Known here before, so that the old text is what the drive would show.
    let old = std::fs::read(&here)?;
    let new = [&old[..], b"\nA colleague added this line.\n"].concat();
    share.write(sample::DOCUMENT, &new)?;
    let began = Instant::now();
    let arrived = eventually(|| std::fs::read(&here).is_ok_and(|now| now == new));
    say!(
        "The drive shows it after {} (asked for: at most {} s).",
        format_took(began.elapsed()),
        FRESHNESS.as_secs()
    );
    claims.hold("the edit made on the share arrived", arrived)?;
    // Far beyond the bound: a busy machine is slow at everything.
    claims.hold("it arrived in time", began.elapsed() < PATIENCE)
}

fn edit_on_drive(stage: &Stage, share: &Share, claims: &mut Claims) -> Result<()> {
    heading("6. You save a file on the drive");
    let text = b"Written on the drive, safe on this disk at once.\n";
    let here = stage.mountpoint.join("documents/from the drive.txt");
    let began = Instant::now();
    std::fs::write(&here, text).context("write on the drive")?;
    say!("Saved in {}; the upload follows by itself.", format_took(began.elapsed()));
    say!("$ {} sync {} --wait", program(), stage.mountpoint.display());
    let began = Instant::now();
    drive::sync(&stage.mountpoint, true)?;
    say!("The share has it after {}.", format_took(began.elapsed()));
    let there = share.read("documents/from the drive.txt");
    claims.hold("the share has the saved file", there.is_ok_and(|there| there == text))?;
    let (files, _) = share.measure()?;
    let (here, _) = sample::measure(&stage.mountpoint)?;
    claims.hold("the share has no file more than the drive", files == here)
}

fn overflow(stage: &Stage, share: &Share, drive: &Drive, claims: &mut Claims) -> Result<()> {
    heading("7. More than the cache holds");
    let began = Instant::now();
    let same = share.compare(&stage.mountpoint)?;
    let took = began.elapsed();
    let status = status::ask(drive)?;
    say!(
        "All {} read in {}; the cache holds {} of at most {}.",
        format_size(same.bytes),
        format_took(took),
        format_size(status.cache.used_bytes),
        format_size(status.cache.limit_bytes)
    );
    claims.hold("every file is identical to the share's", same.different.is_empty())?;
    claims.hold("the share is bigger than the cache", same.bytes > status.cache.limit_bytes)?;
    let fits = status.cache.used_bytes <= status.cache.limit_bytes;
    claims.hold("the cache stays within its limit", fits)?;
    claims.hold("the share answers", status.online)
}

fn evict(stage: &Stage, share: &Share, drive: &Drive, claims: &mut Claims) -> Result<()> {
    heading("8. Making room by hand");
    let path = covefs_remote::RemotePath::root();
    let before = status::ask(drive)?.cache.used_bytes;
    say!("$ {} evict {}", program(), stage.mountpoint.display());
    client::ask(drive, &Request::Evict { path }, &mut |_| {})?;
    let after = status::ask(drive)?.cache.used_bytes;
    say!("From {} to {}; the files stay on the share.", format_size(before), format_size(after));
    claims.hold("evicting frees space", after < before)?;
    let (again, _) = timed_read(&stage.mountpoint.join(sample::PICTURE))?;
    let original = share.read(sample::PICTURE)?;
    claims.hold("an evicted file is read as before", again == original)
}

fn farewell(stage: &Stage, share: &Share) {
    let program = program();
    let mountpoint = stage.mountpoint.display();
    say!("\nThe drive stays mounted. Try:");
    let there = match share {
        Share::Dir(dir) => format!("cat {}/hello.txt", dir.display()),
        Share::Azure { .. } => format!("{program} status {mountpoint}"),
    };
    for line in [
        format!("{} {mountpoint}/documents", if cfg!(windows) { "dir" } else { "ls -l" }),
        format!("{program} status {mountpoint}"),
        format!("{program} why '{mountpoint}/{}'", sample::RECORDING),
        format!("{program} hydrate {mountpoint}/pictures"),
        format!("echo hello > {mountpoint}/hello.txt; sleep 5; {there}"),
        format!("{program} unmount {mountpoint}"),
    ] {
        say!("  {line}");
    }
    match share {
        Share::Dir(_) => say!("The next demo takes it away and starts anew."),
        Share::Azure { .. } => {
            say!("The server ends, and all goes, when the drive is unmounted or with Ctrl-C here.")
        }
    }
}

fn heading(text: &str) {
    say!("\n{text}");
}

fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the user has to type to run this program.
fn program() -> String {
    let this = std::env::current_exe().ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("covefs")).find(|it| it.exists());
    let resolved = |path: PathBuf| path.canonicalize().ok();
    if found.and_then(resolved).is_some_and(|found| Some(found) == this.clone().and_then(resolved))
    {
        return "covefs".into();
    }
    this.map_or_else(|| "covefs".into(), |this| this.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_lie_apart() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::new(&crate::share::resolved(dir.path()));
        let log = stage.cache_dir.join("covefs.log");
        crate::place::check_apart(Some(&stage.share), &stage.mountpoint, &stage.cache_dir, &log)
            .unwrap();
    }
}
