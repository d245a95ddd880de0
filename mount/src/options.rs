//! What a mount is told: our own options, and which of the world's generic ones mean something.

use crate::limits::PASSTHROUGH_AGE;
use std::path::PathBuf;
use std::time::Duration;

/// How a share is mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountOptions {
    /// An existing directory; on Windows `X:`, a directory that does not exist yet, or `\\covefs\NAME`.
    pub mountpoint: PathBuf,
    /// Its name in the mount table. No secrets: everybody can read it.
    pub source: String,
    /// Whether every change is refused (EROFS), by the kernel.
    pub read_only: bool,
    /// Whether other users than the one who mounts may use it.
    pub allow_other: bool,
    /// Threads that read the kernel's requests, at least 1. (1 where it is not Linux.)
    pub threads: usize,
    /// How long a whole cached file has to be unchanged for the kernel to read it by itself, where it
    /// can (Linux 6.9 and later, as root); `None`: it never does.
    pub passthrough: Option<Duration>,
    /// What `filter_options` said is known.
    pub extra: Vec<String>,
}

impl MountOptions {
    /// Read-write, for the user who mounts, with 4 threads and passthrough.
    pub fn new(mountpoint: impl Into<PathBuf>, source: impl Into<String>) -> Self {
        MountOptions {
            mountpoint: mountpoint.into(),
            source: source.into(),
            read_only: false,
            allow_other: false,
            threads: 4,
            passthrough: Some(PASSTHROUGH_AGE),
            extra: Vec::new(),
        }
    }
}

/// What the kernel hears of as a flag.
const KNOWN: [&str; 11] = [
    "ro", "rw", "suid", "nosuid", "exec", "noexec", "atime", "noatime", "dirsync", "sync", "async",
];

/// On Windows: a disk like any other, which is indexed and whose pictures are drawn.
pub(crate) const FIXED_DISK: &str = "fixed-disk";

/// Said by mount(8), fstab and habit, and nothing to do: the default, meant for others, or (dev)
/// never granted.
const WITHOUT_EFFECT: [&str; 27] = [
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "nofail",
    "_netdev",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "diratime",
    "nodiratime",
    "dev",
    "nodev",
    "silent",
    "loud",
    "iversion",
    "noiversion",
    "default_permissions",
];

/// Sorts `-o` options (each may hold several, with commas) into those for `MountOptions::extra`
/// and those that nobody here knows: ours to look at, or the user's to correct. Options without
/// effect are in neither. Of two that contradict each other the last is kept, as in mount(8).
pub fn filter_options(options: &[String]) -> (Vec<String>, Vec<String>) {
    let mut known: Vec<String> = Vec::new();
    let mut unknown = Vec::new();
    for option in options.iter().flat_map(|several| several.split(',')).map(str::trim) {
        if KNOWN.contains(&option) || (cfg!(windows) && option == FIXED_DISK) {
            let contrary = contrary(option);
            known.retain(|earlier| earlier != option && Some(earlier.as_str()) != contrary);
            known.push(option.to_owned());
        } else if !is_without_effect(option) {
            unknown.push(option.to_owned());
        }
    }
    (known, unknown)
}

fn is_without_effect(option: &str) -> bool {
    let prefixes = ["x-", "X-", "comment=", "uhelper=", "helper="];
    option.is_empty()
        || WITHOUT_EFFECT.contains(&option)
        || prefixes.iter().any(|prefix| option.starts_with(prefix))
}

fn contrary(option: &str) -> Option<&'static str> {
    let pairs = [
        ("ro", "rw"),
        ("suid", "nosuid"),
        ("exec", "noexec"),
        ("atime", "noatime"),
        ("sync", "async"),
    ];
    pairs.iter().find_map(|(one, other)| match option {
        _ if option == *one => Some(*other),
        _ if option == *other => Some(*one),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &[&str], known: &[&str], unknown: &[&str]) {
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        let (found, left) = filter_options(&options);
        assert_eq!(found, known, "{options:?}");
        assert_eq!(left, unknown, "{options:?}");
    }

    // rule K5
    #[test]
    fn what_fstab_says_is_sorted() {
        check(&["rw,relatime,_netdev,nofail,defaults"], &["rw"], &[]);
        check(&["x-systemd.automount", "comment=a share,noauto,user", ""], &[], &[]);
        check(&["ro", "noexec,nosuid,nodev"], &["ro", "noexec", "nosuid"], &[]);
        check(&["dev", "suid"], &["suid"], &[]);
        check(&["cache-size=1G,noatime"], &["noatime"], &["cache-size=1G"]);
        check(&["allow_other", "nonempty"], &[], &["allow_other", "nonempty"]);
    }

    #[test]
    fn the_last_word_counts() {
        check(&["ro,rw"], &["rw"], &[]);
        check(&["rw", "ro"], &["ro"], &[]);
        check(&["noexec,exec,noexec"], &["noexec"], &[]);
        check(&["sync,async"], &["async"], &[]);
    }
}
