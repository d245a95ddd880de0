//! Called by mount(8) as `mount.covefs` or `mount.fuse.covefs`: its arguments become those of
//! `covefs mount`.

use crate::fail;
use anyhow::Result;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The command line to run; `None`: nothing is to be done.
pub(crate) fn command_line(arguments: Vec<OsString>) -> Result<Option<Vec<OsString>>> {
    if !arguments.first().is_some_and(|name| is_helper(name)) {
        return Ok(Some(arguments));
    }
    match translate(&arguments[1..])? {
        Translated::Mount(line) => Ok(Some(line)),
        Translated::Nothing => Ok(None),
    }
}

/// What mount(8) asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Translated {
    /// Run this command line instead.
    Mount(Vec<OsString>),
    /// `-f`: only pretend.
    Nothing,
}

/// Whether this is the name that mount(8) calls its helpers by.
fn is_helper(argv0: &OsStr) -> bool {
    let name = Path::new(argv0).file_name().unwrap_or_default();
    name == "mount.covefs" || name == "mount.fuse.covefs"
}

/// `SHARE MNT [-sfnvw] [-r] [-N ns] [-t type] [-o options]` in any order.
fn translate(arguments: &[OsString]) -> Result<Translated> {
    let mut words: Vec<&OsString> = Vec::new();
    let mut out: Vec<OsString> = vec!["covefs".into(), "mount".into(), "--by-mount8".into()];
    let mut fake = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(letters) = argument.as_bytes().strip_prefix(b"-").filter(|l| !l.is_empty()) else {
            words.push(argument);
            continue;
        };
        match letters {
            b"o" | b"t" | b"N" => {
                let value = rest.next().ok_or_else(|| {
                    fail::usage(format!("{} needs a value", argument.to_string_lossy()))
                })?;
                if letters == b"o" {
                    out.extend(["-o".into(), value.clone()]);
                }
            }
            [b'o', joined @ ..] => out.extend(["-o".into(), OsStr::from_bytes(joined).into()]),
            letters => {
                for letter in letters {
                    match letter {
                        b'f' => fake = true,
                        b's' => out.push("--sloppy".into()),
                        b'r' => out.push("--read-only".into()),
                        b'n' | b'v' | b'w' => {}
                        other => {
                            let shown = char::from(*other);
                            return Err(fail::usage(format!("unknown mount option -{shown}")));
                        }
                    }
                }
            }
        }
    }
    let [share, mountpoint] = words[..] else {
        return Err(fail::usage(
            "usage: mount.covefs SHARE MOUNTPOINT [-sfnvrw] [-o OPT[,OPT...]]",
        ));
    };
    if fake {
        return Ok(Translated::Nothing);
    }
    out.extend(["--".into(), share.clone(), mountpoint.clone()]);
    Ok(Translated::Mount(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn known_by_its_name() {
        assert!(is_helper(OsStr::new("/sbin/mount.covefs")));
        assert!(is_helper(OsStr::new("mount.fuse.covefs")));
        assert!(!is_helper(OsStr::new("/usr/bin/covefs")));
    }

    #[test]
    fn the_order_of_mount8_is_understood() {
        let expected = Translated::Mount(words(
            "covefs mount --by-mount8 -o rw,cache-size=1GiB -- dir:/srv/share /mnt/x",
        ));
        for text in [
            "dir:/srv/share /mnt/x -o rw,cache-size=1GiB",
            "dir:/srv/share /mnt/x -n -v -o rw,cache-size=1GiB -t fuse.covefs",
            "-nv -orw,cache-size=1GiB dir:/srv/share /mnt/x",
        ] {
            assert_eq!(translate(&words(text)).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn sloppy_fake_and_read_only() {
        assert_eq!(translate(&words("a b -f")).unwrap(), Translated::Nothing);
        let Translated::Mount(line) = translate(&words("dir:/a /b -sr")).unwrap() else {
            panic!("not a mount");
        };
        assert!(line.contains(&"--sloppy".into()) && line.contains(&"--read-only".into()));
        for text in ["dir:/a", "dir:/a /b /c", "dir:/a /b -o", "dir:/a /b -q"] {
            assert_eq!(fail::exit_code(&translate(&words(text)).unwrap_err()), 2, "{text}");
        }
    }
}
