//! Share names: what `covefs mount SHARE` can name, and what to say of those it cannot.

use crate::azure::AzureShare;
use crate::credentials;
use crate::fail;
use crate::login;
use crate::secret::Wanted;
use crate::smb::SmbShare;
use crate::system::files;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

const SCHEMES: &str = "dir:/path (a directory of this machine, a mounted disk or an NFS export), \
                       azfiles://ACCOUNT/SHARE (an Azure file share) and \
                       smb://HOST/SHARE (an SMB 3 share)";

/// A share that this version can mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Share {
    /// A directory, as an absolute path without symlinks where it can be reached.
    Dir(PathBuf),
    /// An Azure file share.
    Azure(AzureShare),
    /// An SMB 3 share.
    Smb(SmbShare),
}

impl Share {
    /// Reads a share name. Says nothing yet about whether the share is there.
    pub(crate) fn parse(text: &OsStr) -> Result<Share> {
        let shown = text.to_string_lossy();
        refuse_secrets(&shown)?;
        let Some(path) = text.as_encoded_bytes().strip_prefix(b"dir:") else {
            return match AzureShare::parse(&shown) {
                Some(share) => Ok(Share::Azure(share?)),
                None => match SmbShare::parse(&shown) {
                    Some(share) => Ok(Share::Smb(share?)),
                    None => Err(unknown(&shown)),
                },
            };
        };
        if path.is_empty() {
            return Err(fail::usage("dir: needs a path, like dir:/srv/share"));
        }
        let path = std::path::absolute(files::name(path)).context("find the share's path")?;
        Ok(Share::Dir(resolved(&path)))
    }

    /// The share's name in messages, `cache.json` and `status`: the same one however it was
    /// written.
    pub(crate) fn canonical(&self) -> String {
        match self {
            Share::Dir(path) => format!("dir:{}", path.display()),
            Share::Azure(share) => share.canonical(),
            Share::Smb(share) => share.canonical(),
        }
    }

    /// What the default cache directory's name is made from: exact even where the path is no
    /// text.
    pub(crate) fn identity_bytes(&self) -> Vec<u8> {
        match self {
            Share::Dir(path) => [b"dir:", &*files::bytes(path.as_os_str())].concat(),
            Share::Azure(share) => share.canonical().into_bytes(),
            Share::Smb(share) => share.canonical().into_bytes(),
        }
    }

    /// The secret that a keyring may keep for it; `None`: it needs none.
    pub(crate) fn secret(&self) -> Result<Option<Wanted>> {
        match self {
            Share::Dir(_) => Ok(None),
            Share::Azure(share) => Ok(Some(credentials::secret(&share.account))),
            Share::Smb(share) => login::secret(share, |name| std::env::var(name).ok()).map(Some),
        }
    }

    /// Refuses a secret that cannot be one.
    pub(crate) fn check_secret(&self, text: &str) -> Result<()> {
        match self {
            Share::Dir(_) | Share::Smb(_) => Ok(()),
            Share::Azure(share) => credentials::of_text(&share.account, text, None).map(drop),
        }
    }

    /// The last part of the name.
    pub(crate) fn short_name(&self) -> String {
        match self {
            Share::Dir(path) => {
                path.file_name().map_or_else(|| "root".into(), |n| n.to_string_lossy().into())
            }
            Share::Azure(share) => share.short_name(),
            Share::Smb(share) => share.short_name(),
        }
    }

    /// The path that a mountpoint, a cache or a log must stay out of (U2).
    pub(crate) fn local_path(&self) -> Option<&Path> {
        match self {
            Share::Dir(path) => Some(path),
            Share::Azure(_) | Share::Smb(_) => None,
        }
    }

    /// Refuses a share that cannot be what the user means. A missing one is refused only when
    /// there is no cache to go on with: it may be a disk that is not mounted yet. Others are only
    /// found out about by opening them.
    pub(crate) fn check(&self, has_cache: bool) -> Result<()> {
        let path = match self {
            Share::Dir(path) => path,
            Share::Azure(_) | Share::Smb(_) => return Ok(()),
        };
        let shown = self.canonical();
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => match std::fs::read_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    bail!("no permission to read the share {shown}; ask its owner, or use sudo")
                }
                _ => Ok(()),
            },
            Ok(_) => bail!("the share {shown} is not a directory; name the directory it is in"),
            Err(_) if has_cache => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("the share {shown} does not exist; make the directory, or check the name")
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                bail!("no permission to reach the share {shown}; ask its owner, or use sudo")
            }
            Err(error) => bail!("the share {shown} cannot be reached: {error}"),
        }
    }
}

/// `covefs snapshots`: what of a share can be mounted as it was.
pub(crate) fn snapshots(share: &OsStr, file: Option<&Path>) -> Result<()> {
    match Share::parse(share)? {
        Share::Azure(share) => crate::azure::snapshots(&share, file),
        Share::Smb(share) => crate::smb::snapshots(&share, file),
        Share::Dir(_) => Err(fail::usage("a directory has no snapshots that covefs can list")),
    }
}

/// A password in a share name would show in `ps`, in the mount table and in every log.
fn refuse_secrets(shown: &str) -> Result<()> {
    let where_to = "put it in a file that only you can read and name that with --credentials FILE";
    if shown.starts_with("dir:") {
        return Ok(());
    }
    let authority = shown.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    if authority.rsplit_once('@').is_some_and(|(login, _)| login.contains(':')) {
        return Err(fail::usage(format!("a share name may not hold a password; {where_to}")));
    }
    let query = shown.split_once('?').map_or("", |(_, query)| query).to_ascii_lowercase();
    let secrets = ["sig=", "password=", "pass=", "key=", "accountkey=", "token="];
    if query.split('&').any(|part| secrets.iter().any(|secret| part.starts_with(secret))) {
        return Err(fail::usage(format!("a share name may not hold a key; {where_to}")));
    }
    Ok(())
}

fn unknown(shown: &str) -> anyhow::Error {
    let lower = shown.to_ascii_lowercase();
    if lower.starts_with("smb:") {
        return fail::usage(format!("'{shown}' is written smb://HOST/SHARE"));
    }
    if lower.starts_with("azure:") || lower.starts_with("azfiles:") {
        return fail::usage(format!("'{shown}' is written azfiles://ACCOUNT/SHARE"));
    }
    if shown.starts_with(['/', '.']) {
        return fail::usage(format!("'{shown}' has no scheme; for a directory write dir:{shown}"));
    }
    fail::usage(format!("'{shown}' is no share that covefs knows; it can mount {SCHEMES}"))
}

/// The path without symlinks; of one that is not there (a disk not mounted yet), as far as it
/// goes.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut upper = path;
    loop {
        if let Ok(found) = files::canonical(upper) {
            return missing.iter().rev().fold(found, |path, name| path.join(name));
        }
        let (Some(name), Some(parent)) = (upper.file_name(), upper.parent()) else {
            return path.to_path_buf();
        };
        missing.push(name.to_os_string());
        upper = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn refused(text: &str) -> (u8, String) {
        let error = Share::parse(OsStr::new(text)).unwrap_err();
        (fail::exit_code(&error), fail::one_line(&error))
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_is_one_share_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let named = |name: &str| {
            Share::parse(OsStr::new(&format!("dir:{}/{name}", dir.path().display()))).unwrap()
        };
        assert_eq!(named("real"), Share::Dir(real.clone()));
        assert_eq!(named("link"), named("real/"));
        assert_eq!(named("real").short_name(), "real");
        assert_eq!(named("gone/below").canonical(), {
            let parent = real.parent().unwrap();
            format!("dir:{}/gone/below", parent.display())
        });
    }

    #[cfg(unix)]
    #[test]
    fn relative_paths_are_resolved() {
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(Share::parse(OsStr::new("dir:x")).unwrap(), Share::Dir(here.join("x")));
    }

    #[test]
    fn names_that_are_almost_right_are_put_right() {
        for text in ["smb:nas/photos", "SMB:/nas/x"] {
            assert!(refused(text).1.contains("smb://HOST/SHARE"), "{text}");
        }
        for text in ["azure://acme/files", "azfiles:acme/files"] {
            assert!(refused(text).1.contains("azfiles://ACCOUNT/SHARE"), "{text}");
        }
    }

    #[test]
    fn unknown_schemes_name_what_there_is() {
        for text in ["ftp://host/x", "s3:bucket", "photos", ""] {
            let (code, line) = refused(text);
            assert_eq!(code, 2, "{text}");
            for scheme in ["dir:/path", "azfiles://ACCOUNT/SHARE", "smb://HOST/SHARE"] {
                assert!(line.contains(scheme), "{line}");
            }
        }
        assert!(refused("/srv/share").1.contains("dir:/srv/share"));
        assert_eq!(refused("dir:").0, 2);
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for text in [
            "smb://me:hunter2@nas/photos",
            "https://acme.file.core.windows.net/files?sv=1&sig=hunter2",
            "azfiles://acme/files?AccountKey=hunter2",
            "azfiles://acme:hunter2@x/files",
        ] {
            let (code, line) = refused(text);
            assert_eq!(code, 2);
            assert!(line.contains("--credentials") && !line.contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn a_missing_share_is_refused_only_without_a_cache() {
        let dir = tempfile::tempdir().unwrap();
        let share = Share::Dir(dir.path().join("gone"));
        let error = share.check(false).unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
        share.check(true).unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let error = Share::Dir(dir.path().join("file")).check(true).unwrap_err().to_string();
        assert!(error.contains("not a directory"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_share_or_an_error(rest: String, bytes in vec(any::<u8>(), 0..40)) {
            for scheme in ["", "dir:", "smb://", "//", "\\\\", "azfiles://", "https://"] {
                let text = [scheme.as_bytes(), rest.as_bytes()].concat();
                for text in [&text[..], &bytes] {
                    if let Ok(share) = Share::parse(&files::name(text)) {
                        let _ = (share.canonical(), share.short_name(), share.identity_bytes());
                    }
                }
            }
        }
    }
}
