//! Commands about a whole drive: sync, conflicts, resize, scrub; and `check` of a cache.

use crate::client::{self, Drive, Refused};
use crate::control::{Answer, Request};
use crate::fail::{self, NotUploaded, Silent};
use crate::mounts;
use crate::place;
use crate::progress::Bar;
use crate::size::{self, format_size};
use crate::system::{daemon, files};
use crate::text::{count, escaped, escaped_bytes, say};
use anyhow::{Result, bail};
use covefs_cache::{CheckReport, ConflictRecord};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// A daemon that was unmounted makes its journal durable and ends; a slow disk may need this.
const END_WITHIN: Duration = Duration::from_secs(60);

/// Waits for the daemon of a drive that was unmounted.
pub(crate) fn wait_for_end(pid: u32, drive: &Drive) -> Result<()> {
    let deadline = Instant::now() + END_WITHIN;
    while daemon::is_running(pid) {
        if Instant::now() > deadline {
            bail!(
                "{} is unmounted, but its process {pid} is still busy with the cache",
                drive.mountpoint.display()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Exit code 3 while the share does not have everything (U6).
pub(crate) fn report_dirty(cache_dir: &Path) -> Result<()> {
    match covefs_cache::summary(cache_dir) {
        Ok(Some(summary)) if summary.dirty > 0 => Err(NotUploaded(format!(
            "unmounted; {} ({}) not uploaded yet, safe in {}: mount again to upload",
            count(summary.dirty, "change"),
            format_size(summary.dirty_bytes),
            cache_dir.display()
        ))
        .into()),
        Ok(_) => Ok(()),
        // The unmount itself went well; somebody else may have mounted the cache already.
        Err(error) => {
            eprintln!("covefs: {}", escaped(&error.to_string()));
            Ok(())
        }
    }
}

/// `covefs sync`.
pub(crate) fn sync(mountpoint: &Path, wait: bool) -> Result<()> {
    let drive = client::drive(mountpoint)?;
    let mut bar = Bar::new("uploading", false);
    let answer = client::ask(&drive, &Request::Sync { wait }, &mut |now| bar.show(now));
    bar.finish();
    match answer {
        Ok(_) => Ok(()),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) if refused.offline => Err(NotUploaded(format!(
                "not everything is uploaded: {}; it is safe in the cache",
                refused.message
            ))
            .into()),
            _ => Err(error),
        },
    }
}

/// `covefs resize`.
pub(crate) fn resize(mountpoint: &Path, limit: &str) -> Result<()> {
    let limit = size::parse_size(limit).map_err(|reason| fail::usage(format!("SIZE: {reason}")))?;
    let drive = client::drive(mountpoint)?;
    let disk = place::disk_of(&drive.cache_dir)?;
    let limit_bytes = place::choose_limit(Some(limit), None, &drive.cache_dir, disk)?;
    client::ask(&drive, &Request::Resize { limit_bytes }, &mut |_| {}).map(drop)
}

/// `covefs conflicts`.
pub(crate) fn conflicts(mountpoint: &Path, dismiss: Option<&Path>, json: bool) -> Result<()> {
    let drive = client::drive(mountpoint)?;
    if let Some(path) = dismiss {
        let listed = path.strip_prefix(&drive.mountpoint).unwrap_or(path);
        let request = Request::Dismiss { path: files::on_share(listed) };
        return match client::ask(&drive, &request, &mut |_| {})? {
            Answer::Count(0) => bail!("no conflict at {}; `covefs conflicts` lists them", {
                escaped(&path.to_string_lossy())
            }),
            _ => Ok(()),
        };
    }
    let Answer::Conflicts(list) = client::ask(&drive, &Request::Conflicts, &mut |_| {})? else {
        bail!("the covefs of {} answered something else", drive.mountpoint.display());
    };
    if json {
        let list: Vec<Value> = list.iter().map(conflict_json).collect();
        say!("{:#}", Value::from(list));
    } else if list.is_empty() {
        say!("no conflicts");
    } else {
        for conflict in &list {
            say!("{}", conflict_text(conflict));
        }
    }
    Ok(())
}

fn conflict_json(conflict: &ConflictRecord) -> Value {
    let mut value = json!({
        "id": conflict.id,
        "at": conflict.at.seconds,
        "path": String::from_utf8_lossy(conflict.path.as_bytes()),
        "copy": conflict.copy.as_ref().map(|copy| String::from_utf8_lossy(copy.as_bytes())),
        "reason": conflict.reason,
        "missing": conflict.missing,
    });
    // A name that is no text is given exactly too (U7).
    for (field, path) in
        [("path_bytes", Some(&conflict.path)), ("copy_bytes", conflict.copy.as_ref())]
    {
        if let Some(path) = path.filter(|path| std::str::from_utf8(path.as_bytes()).is_err()) {
            value[field] = path.as_bytes().into();
        }
    }
    value
}

fn conflict_text(conflict: &ConflictRecord) -> String {
    let mut text = escaped_bytes(conflict.path.as_bytes());
    if let Some(copy) = &conflict.copy {
        text.push_str(&format!("\n  yours is   {}", escaped_bytes(copy.as_bytes())));
    }
    text.push_str(&format!("\n  reason     {}", escaped(&conflict.reason)));
    if !conflict.missing.is_empty() {
        let bytes = conflict.missing.iter().map(|(start, end)| end.saturating_sub(*start)).sum();
        text.push_str(&format!(
            "\n  missing    {} of your copy are zeros: they were never here",
            format_size(bytes)
        ));
    }
    text
}

/// `covefs check`.
pub(crate) fn check(cache_dir: &Path, repair: bool) -> Result<()> {
    let shown = cache_dir.display();
    if !place::is_cache(cache_dir) {
        if is_mounted(cache_dir).unwrap_or(false) {
            bail!("{shown} is a mounted drive: `covefs check --scrub {shown}` verifies it");
        }
        bail!("{shown} is no cache directory; `covefs status` shows where a drive's cache is");
    }
    let report = covefs_cache::check(cache_dir, repair)?;
    show_report(&report);
    if report.problems.is_empty() || (repair && report.repaired.len() >= report.problems.len()) {
        return Ok(());
    }
    if !repair {
        bail!("{shown} has problems; `covefs check {shown} --repair` mends what it can");
    }
    Err(Silent.into())
}

/// `covefs check --scrub`.
pub(crate) fn scrub(mountpoint: &Path) -> Result<()> {
    if place::is_cache(mountpoint) {
        let shown = mountpoint.display();
        bail!("{shown} is a cache directory: name the mountpoint, or leave --scrub out");
    }
    let drive = client::drive(mountpoint)?;
    let mut bar = Bar::new("verifying", false);
    let answer = client::ask(&drive, &Request::Scrub, &mut |now| bar.show(now));
    bar.finish();
    match answer? {
        Answer::Checked(report) => {
            show_report(&report);
            Ok(())
        }
        _ => bail!("the covefs of {} is of another version", drive.mountpoint.display()),
    }
}

fn show_report(report: &CheckReport) {
    for line in report.problems.iter().chain(&report.repaired) {
        say!("{}", escaped(line));
    }
    say!(
        "{} looked at, {} compared, {} found, {} repaired",
        count(report.files, "file"),
        format_size(report.checked_bytes),
        count(report.problems.len() as u64, "problem"),
        report.repaired.len()
    );
}

/// Whether a drive is mounted there; the demo asks.
pub(crate) fn is_mounted(mountpoint: &Path) -> Result<bool> {
    Ok(mounts::at(mountpoint)?.is_some_and(|mount| mount.is_covefs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use covefs_remote::{RemotePath, Timestamp};

    #[test]
    fn conflicts_name_both_files() {
        let conflict = ConflictRecord {
            id: 1,
            at: Timestamp { seconds: 5, nanos: 0 },
            path: RemotePath::parse(b"a/b\xff.txt"),
            copy: Some(RemotePath::parse(b"a/b-berlin.txt")),
            reason: "edited on both sides".into(),
            missing: vec![(0, 2048)],
        };
        let text = conflict_text(&conflict);
        assert!(text.starts_with("a/b\\xff.txt\n  yours is   a/b-berlin.txt\n"), "{text}");
        assert!(text.contains("2.0 KiB of your copy are zeros"), "{text}");
        let value = conflict_json(&conflict);
        assert_eq!(value["path_bytes"][3], 255);
        assert!(value["copy_bytes"].is_null());
    }

    #[test]
    fn a_directory_without_a_cache_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(dir.path(), false).unwrap_err().to_string();
        assert!(error.contains("is no cache directory"), "{error}");
    }
}
