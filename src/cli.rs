//! The command line: every command and flag, with the help that a user of a drive reads.

use crate::config::{Layer, Origin};
use crate::fail;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// A cloud file share as a local drive, with a size-limited cache on the local disk.
#[derive(Parser, Debug)]
#[command(name = "covefs", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 not understood, 3 not everything uploaded."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Mount a share as a drive; returns when the drive is usable
    #[command(args_override_self = true)]
    Mount(Box<MountArgs>),
    /// Unmount a drive; what is not uploaded yet stays safe in the cache (exit code 3)
    Unmount {
        /// Where the drive is mounted
        #[arg(value_hint = ValueHint::DirPath)]
        mountpoint: PathBuf,
        /// Upload everything first
        #[arg(long)]
        wait: bool,
        /// Detach a drive whose covefs has died
        #[arg(long)]
        force: bool,
    },
    /// Start uploading now
    Sync {
        /// Where the drive is mounted
        #[arg(value_hint = ValueHint::DirPath)]
        mountpoint: PathBuf,
        /// Return when the share has everything
        #[arg(long)]
        wait: bool,
    },
    /// Show what a drive holds, what is not uploaded yet, and whether the share answers
    Status {
        /// Where the drive is mounted; without it, all drives
        #[arg(value_hint = ValueHint::DirPath)]
        mountpoint: Option<PathBuf>,
        /// Also caches that hold unsaved changes but are not mounted
        #[arg(long, conflicts_with = "mountpoint")]
        all: bool,
        /// For programs: an object with MOUNTPOINT, a list without
        #[arg(long)]
        json: bool,
        /// Show it again every second, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// List the files that were changed here and on the share at once; both versions were kept
    Conflicts {
        /// Where the drive is mounted
        #[arg(value_hint = ValueHint::DirPath)]
        mountpoint: PathBuf,
        /// Take this one off the list; the files stay
        #[arg(long, value_name = "PATH")]
        dismiss: Option<PathBuf>,
        /// For programs: a list of objects
        #[arg(long)]
        json: bool,
    },
    /// Fetch whole files or directories into the cache, to have them without the share
    Hydrate(Paths),
    /// Drop files from the cache to free space; they stay on the share
    Evict(Paths),
    /// Keep files or directories in the cache, fetching what is missing
    Pin(Paths),
    /// No longer keep them
    Unpin(Paths),
    /// Say in words what is known of a file: what is local, what it waits for
    Why {
        /// A file or directory on a drive
        #[arg(value_hint = ValueHint::AnyPath)]
        path: PathBuf,
    },
    /// Take away the lock (lease) that another client has on a file of an Azure share, so that a change
    /// made here can go up
    Unlock(Paths),
    /// Change the cache's size limit of a mounted drive
    Resize {
        /// Where the drive is mounted
        #[arg(value_hint = ValueHint::DirPath)]
        mountpoint: PathBuf,
        /// The new limit, like 20GiB
        size: String,
    },
    /// Verify a cache: its bytes against their checksums, its journal against both
    Check {
        /// A cache directory that is not mounted; with --scrub a mountpoint
        #[arg(value_hint = ValueHint::DirPath)]
        path: PathBuf,
        /// Drop what is wrong and can be fetched again; never an edit that is not uploaded
        #[arg(long)]
        repair: bool,
        /// Verify the bytes that a mounted drive has cached, while it is in use; what is wrong is
        /// fetched again
        #[arg(long, conflicts_with = "repair")]
        scrub: bool,
    },
    /// List the snapshots of an Azure or SMB share; each line can be mounted, read-only
    Snapshots {
        /// The share: azfiles://ACCOUNT/SHARE or smb://HOST/SHARE
        share: OsString,
        /// A file with the login of the share
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        credentials: Option<PathBuf>,
    },
    /// Keep the password or key of a share in your keyring, where `covefs mount` finds it
    Login {
        /// The share: smb://USER@HOST/SHARE (for all shares of the server) or
        /// azfiles://ACCOUNT/SHARE (for all of the account). What is kept is asked for, or read from
        /// standard input
        share: OsString,
    },
    /// Take it out of your keyring again
    Logout {
        /// The share, as for `covefs login`
        share: OsString,
    },
    /// Mount a sample share and show what the drive does
    Demo {
        /// Without a person: verify every claim, clean up, fail on any surprise
        #[arg(long)]
        check: bool,
        /// Over an Azure share, of a test server that runs as long as the demo
        #[arg(long)]
        azure: bool,
    },
    /// Mount a share whenever Windows starts, by a service
    #[cfg(windows)]
    Service {
        /// What to do with it.
        #[command(subcommand)]
        what: ServiceCommand,
    },
    /// Print the completions for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// `covefs service`.
#[cfg(windows)]
#[derive(Subcommand, Debug)]
pub(crate) enum ServiceCommand {
    /// Make a service that mounts a share, and start it; other users may use the drive
    #[command(args_override_self = true)]
    Install(Box<MountArgs>),
    /// Stop a service and take it away; its cache stays
    Uninstall {
        /// Where its drive is mounted
        mountpoint: PathBuf,
    },
    /// What Windows calls
    #[command(args_override_self = true, hide = true)]
    Run(Box<MountArgs>),
}

/// Paths on a drive.
#[derive(Args, Debug)]
pub(crate) struct Paths {
    /// Files or directories on a drive
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
}

/// `covefs mount`. Values stay texts here: they are parsed together with those of the other
/// places, by the same rules (see `config`).
#[derive(Args, Debug)]
pub(crate) struct MountArgs {
    /// The share: dir:/path, azfiles://ACCOUNT/SHARE[/DIR] or smb://HOST/SHARE[/DIR]
    pub share: OsString,
    #[cfg_attr(unix, doc = "An empty directory where the drive appears")]
    #[cfg_attr(
        windows,
        doc = "Where the drive appears: a free letter (X:), a directory that does not exist yet, or \\\\covefs\\NAME"
    )]
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: PathBuf,
    /// The most that the cache may take of the disk [default: the smaller of 20GiB and half of
    /// what is free]
    #[arg(long, value_name = "SIZE")]
    pub cache_size: Option<String>,
    /// Where the cache is kept; it holds edits that are not uploaded yet
    #[cfg_attr(
        unix,
        doc = "[default: /var/lib/covefs/... as root, else ~/.local/state/covefs/...]"
    )]
    #[cfg_attr(windows, doc = "[default: %LOCALAPPDATA%\\covefs\\...]")]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache_dir: Option<PathBuf>,
    /// How much of the cache's disk stays free [default: 5%]
    #[arg(long, value_name = "SIZE|PERCENT")]
    pub min_free: Option<String>,
    /// Drop what was not used for so long, like 30d; not edits and pins [default: none]
    #[arg(long, value_name = "TIME")]
    pub max_age: Option<String>,
    /// How soon changes made elsewhere show up here, at the latest [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub freshness: Option<String>,
    /// Let the share tell of such changes, where it can (a dir: share on Linux): they show at once
    /// then [default: on]
    #[arg(long, value_name = "on|off")]
    pub watch: Option<String>,
    /// This computer's name in the names of conflict copies [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// Nothing can be changed through this drive
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "yes|no")]
    pub read_only: Option<String>,
    /// When fsync and close return: once it is safe on this disk, or on the share [default: local]
    #[arg(long, value_name = "local|share")]
    pub sync: Option<String>,
    /// Other users of this computer may use the drive, as file permissions say [default: yes as
    /// root]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "yes|no")]
    pub allow_other: Option<String>,
    /// Owner of the files, where the share has none [default: you]
    #[arg(long, value_name = "NUMBER")]
    pub uid: Option<String>,
    /// Group of the files, where the share has none [default: yours]
    #[arg(long, value_name = "NUMBER")]
    pub gid: Option<String>,
    /// Permissions of files, where the share has none [default: 0644]
    #[arg(long, value_name = "OCTAL")]
    pub file_mode: Option<String>,
    /// Permissions of directories, where the share has none [default: 0755]
    #[arg(long, value_name = "OCTAL")]
    pub dir_mode: Option<String>,
    /// A file with the login of the share (AZURE_STORAGE_KEY=..., or username= and password=),
    /// which only you can read; without one: variables, your keyring (see `covefs login`), and for
    /// SMB the terminal. A dir: share needs none
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub credentials: Option<PathBuf>,
    /// Encryption of an SMB share: where the server can, or not at all, or never [default: auto]
    #[arg(long, value_name = "auto|required|off")]
    pub smb_encrypt: Option<String>,
    /// How long a read waits for the share before it fails [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Where to log [default: covefs.log in the cache directory]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,
    /// A file with these settings, without the --
    #[cfg_attr(unix, doc = "[default: ~/.config/covefs.toml and /etc/covefs.toml]")]
    #[cfg_attr(windows, doc = "[default: %APPDATA%\\covefs.toml]")]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Serve all reads through covefs itself; else, as root on Linux 6.9 or later, the kernel reads whole
    /// cached files from the disk without it
    #[arg(long)]
    pub no_passthrough: bool,
    /// Stay in the foreground and log to the terminal too
    #[arg(long)]
    pub foreground: bool,
    /// The same settings as in /etc/fstab: cache-size=10GiB,allow_other,ro,nonempty,...
    #[arg(short = 'o', value_name = "OPT[,OPT]")]
    pub options: Vec<OsString>,
    /// Quiet time before an upload; for tests
    #[arg(long, hide = true)]
    pub debounce: Option<String>,
    /// How long a file is unchanged before the kernel reads it by itself; for tests
    #[arg(long, hide = true)]
    pub lend_age: Option<String>,
    /// Threads that serve the kernel
    #[arg(long, hide = true)]
    pub threads: Option<String>,
    /// Ignore unknown `-o` words, as mount(8) -s asks
    #[arg(long, hide = true)]
    pub sloppy: bool,
    /// Called by mount(8), which wants no word on success
    #[arg(long = "by-mount8", hide = true)]
    pub by_mount8: bool,
    /// Standard input holds the secret that the keyring had, or a person typed
    #[arg(long, hide = true)]
    pub password_piped: bool,
    /// Standard output is the pipe to the waiting parent (see `relay`)
    #[arg(long, hide = true)]
    pub relay: bool,
}

impl MountArgs {
    /// What the flags say.
    pub(crate) fn layer(&self) -> Layer {
        let mut layer = Layer::new(Origin::Flags);
        layer.put("cache-size", self.cache_size.as_ref());
        layer.put("cache-dir", self.cache_dir.as_ref());
        layer.put("min-free", self.min_free.as_ref());
        layer.put("max-age", self.max_age.as_ref());
        layer.put("freshness", self.freshness.as_ref());
        layer.put("watch", self.watch.as_ref());
        layer.put("site", self.site.as_ref());
        layer.put("read-only", self.read_only.as_ref());
        layer.put("sync", self.sync.as_ref());
        layer.put("allow-other", self.allow_other.as_ref());
        layer.put("uid", self.uid.as_ref());
        layer.put("gid", self.gid.as_ref());
        layer.put("file-mode", self.file_mode.as_ref());
        layer.put("dir-mode", self.dir_mode.as_ref());
        layer.put("credentials", self.credentials.as_ref());
        layer.put("smb-encrypt", self.smb_encrypt.as_ref());
        layer.put("timeout", self.timeout.as_ref());
        layer.put("log", self.log.as_ref());
        layer.put("no-passthrough", self.no_passthrough.then_some("true"));
        layer.put("debounce", self.debounce.as_ref());
        layer.put("lend-age", self.lend_age.as_ref());
        layer.put("threads", self.threads.as_ref());
        layer
    }
}

/// Parses a command line. `Err` holds the exit code, everything was printed: help in full, a
/// mistake on one line.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Cli, u8> {
    Cli::try_parse_from(arguments).map_err(|error| {
        let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        if wanted || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return if wanted { 0 } else { 2 };
        }
        fail::report(&fail::usage(one_line(&error.to_string(), arguments)));
        2
    })
}

fn one_line(rendered: &str, arguments: &[OsString]) -> String {
    let first = rendered.split("\n\n").next().unwrap_or_default();
    let first = first.trim_start_matches("error: ");
    let words: Vec<&str> = first.split_whitespace().collect();
    let command = arguments.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    let help = match command {
        "" => "covefs --help".to_string(),
        word if word.starts_with('-') || words.contains(&"unrecognized") => "covefs --help".into(),
        word => format!("covefs {word} --help"),
    };
    format!("{}; see {help}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Cli {
        Cli::try_parse_from(line.split_whitespace()).unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_contract_s_lines_are_understood() {
        for line in [
            "covefs mount dir:/s /m --cache-size 10GiB --cache-dir /c --min-free 5% --max-age none",
            "covefs mount dir:/s /m --freshness 10s --site h --read-only --sync share --allow-other",
            "covefs mount dir:/s /m --uid 1 --gid 1 --file-mode 0644 --dir-mode 0755 --timeout 30s",
            "covefs mount --log f --config f --credentials f --no-passthrough --foreground dir:/s /m",
            "covefs mount dir:/s /m -o cache-size=1G,ro -o nonempty",
            "covefs mount //h/s /m --smb-encrypt required",
            "covefs mount --allow-other=no dir:/s /m",
            "covefs mount dir:/s /m --freshness 1s --freshness 2s --watch off",
            "covefs unmount /m --wait --force",
            "covefs sync /m --wait",
            "covefs status /m --json --watch",
            "covefs status --all",
            "covefs conflicts /m --dismiss a/b --json",
            "covefs hydrate a b",
            "covefs evict a",
            "covefs pin a",
            "covefs unpin a",
            "covefs why a",
            "covefs unlock a b",
            "covefs resize /m 20GiB",
            "covefs check /c --repair",
            "covefs check /m --scrub",
            "covefs snapshots azfiles://acme/docs --credentials f",
            "covefs login smb://me@nas/docs",
            "covefs logout azfiles://acme/docs",
            "covefs demo --check",
            "covefs demo --azure --check",
            "covefs completions bash",
        ] {
            parsed(line);
        }
    }

    #[test]
    fn switches_do_not_swallow_the_share() {
        let Command::Mount(args) = parsed("covefs mount --allow-other dir:/s /m").command else {
            panic!("not a mount");
        };
        assert_eq!(args.share, "dir:/s");
        assert_eq!(args.layer().values["allow-other"], "true");
    }

    #[test]
    fn mistakes_are_one_line() {
        for (line, wanted) in [
            ("covefs mount", "covefs mount --help"),
            ("covefs mount dir:/s /m --cache-sise 1G", "covefs mount --help"),
            ("covefs frobnicate", "covefs --help"),
            ("covefs hydrate", "<PATH>"),
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let error = Cli::try_parse_from(&words).unwrap_err();
            let text = one_line(&error.to_string(), &words);
            assert!(!text.contains('\n') && text.contains(wanted), "{text}");
        }
    }
}
