//! Changes of names and attributes: rename, remove, set attributes, new directories and symlinks.
//!
//! A file is leased, compared, changed. Directories have no leases: one that is moved is compared
//! before and after and moved back if it was another, and only an empty one can be removed.

use super::facts::{Facts, Shape, put_pairs};
use super::fail::{self, Code};
use super::http::{Call, Scope};
use super::lease::Lease;
use super::posix::{self, Posix};
use super::share::{Share, is_gone, no_sense};
use super::{name, time};
use crate::{Attrs, Error, ErrorKind, Expect, Metadata, RemotePath, Result, Version};
use reqwest::Method;
use std::sync::Arc;

fn is_version(share: &Share, facts: &Facts, version: &Version) -> bool {
    let found = share.metadata(facts).version;
    match facts.shape {
        Shape::File => found.same_content(version),
        Shape::Dir => found.same_object(version),
    }
}

/// Removes a file, symlink or empty directory.
pub(super) async fn remove(share: &Arc<Share>, path: &RemotePath, expect: Expect) -> Result<()> {
    if path.is_root() {
        return Err(Error::new(ErrorKind::Unsupported, "remove", path));
    }
    let found = share.look("remove", path).await?;
    check_removed(share, path, &found, expect)?;
    if found.shape == Shape::Dir {
        return remove_dir(share, path, found.file_id).await;
    }
    let (lease, found) = Lease::take(share, "remove", path, found).await?;
    let removed = match check_removed(share, path, &found, expect) {
        Ok(()) => remove_file(share, path, &found, &lease).await,
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => lease.forget(),
        Err(_) => lease.release().await,
    }
    removed
}

fn check_removed(share: &Share, path: &RemotePath, found: &Facts, expect: Expect) -> Result<()> {
    let kind = match expect {
        Expect::Absent => ErrorKind::Exists,
        Expect::Version(version) if !is_version(share, found, &version) => {
            ErrorKind::VersionChanged
        }
        Expect::Any | Expect::Version(_) => return Ok(()),
    };
    Err(Error::new(kind, "remove", path))
}

/// Removes a file that we have leased: sent twice, it removes no other one.
async fn remove_file(share: &Share, path: &RemotePath, found: &Facts, lease: &Lease) -> Result<()> {
    let is_closed = posix::is_read_only(found);
    if is_closed {
        set_attributes(share, path, found, lease, false).await?;
    }
    let call = Call::new(Method::DELETE, Scope::File, "remove", path).lease(Some(lease.id()));
    match share.http.send_again(&call).await {
        Ok(_) => Ok(()),
        // The first of two was made: under the lease nobody else could.
        Err(error) if is_gone(&error) || fail::code(&error) == Some(Code::LeaseLost) => {
            match share.look_if_any("remove", path).await? {
                Some(now) if now.file_id == found.file_id => Err(error),
                _ => Ok(()),
            }
        }
        Err(error) => {
            if is_closed {
                // As it was; the error that counts is the first one.
                let _ = set_attributes(share, path, found, lease, true).await;
            }
            Err(error)
        }
    }
}

/// Sets or takes away what keeps everybody from changing a file.
async fn set_attributes(
    share: &Share,
    path: &RemotePath,
    found: &Facts,
    lease: &Lease,
    is_closed: bool,
) -> Result<()> {
    let mode = Some(if is_closed { 0o444 } else { 0o644 });
    let attrs = Attrs { mode, ..Attrs::default() };
    let attributes = Posix::of(found).attributes(&found.attributes, &attrs, Shape::File);
    let call = Call::new(Method::PUT, Scope::File, "set_attrs", path)
        .query("comp", "properties")
        .header("x-ms-file-attributes", &attributes)
        .header("x-ms-file-last-write-time", "preserve")
        .lease(Some(lease.id()));
    share.http.send_again(&call).await.map(drop)
}

async fn remove_dir(share: &Share, path: &RemotePath, file_id: u64) -> Result<()> {
    let call = Call::new(Method::DELETE, Scope::Dir, "remove", path);
    let call = &call;
    let removed = share.http.repeat(call, |tries| async move {
        match share.http.send(call).await {
            Ok(_) => Ok(()),
            // The first of two was made; or else somebody did it, which is as good.
            Err(error) if tries > 1 && is_gone(&error) => Ok(()),
            Err(error) if fail::is_unsure(&error) => {
                match share.look_if_any("remove", path).await? {
                    Some(now) if now.file_id == file_id => Err(error),
                    _ => Ok(()),
                }
            }
            Err(error) => Err(error),
        }
    });
    share.witnessed(path, removed.await).await
}

/// Sets attributes of the object that `version` names.
pub(super) async fn set_attrs(
    share: &Arc<Share>,
    path: &RemotePath,
    version: &Version,
    attrs: &Attrs,
) -> Result<Metadata> {
    let check = |found: &Facts| match found.version().same_object(version) {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::VersionChanged, "set_attrs", path)),
    };
    let found = share.look("set_attrs", path).await?;
    check(&found)?;
    if attrs.xattrs.as_ref().is_some_and(|xattrs| !xattrs.is_empty()) {
        return Err(Error::new(ErrorKind::Unsupported, "set_attrs", path));
    }
    if attrs.is_empty() {
        return Ok(share.metadata(&found));
    }
    let (lease, found) = match found.shape {
        Shape::File => {
            let (lease, found) = Lease::take(share, "set_attrs", path, found).await?;
            (Some(lease), found)
        }
        Shape::Dir => (None, found),
    };
    let set = match check(&found) {
        Ok(()) => set_all(share, path, &found, attrs, lease.as_ref()).await,
        Err(error) => Err(error),
    };
    if let Some(lease) = lease {
        lease.release().await;
    }
    share.witnessed(path, set).await
}

async fn set_all(
    share: &Share,
    path: &RemotePath,
    found: &Facts,
    attrs: &Attrs,
    lease: Option<&Lease>,
) -> Result<Metadata> {
    let scope = scope_of(found.shape);
    let mut posix = Posix::of(found);
    // Everybody may follow a symlink; its own bits mean nothing.
    let mode = attrs.mode.filter(|_| !posix.is_link());
    let attrs = &Attrs { mode, ..attrs.clone() };
    posix.set(attrs, found.shape, &share.defaults);
    if let Some(atime) = attrs.atime {
        posix.set_atime(atime);
    }
    let pairs = posix.clone().into_pairs(&found.pairs);
    let id = lease.map(Lease::id);
    if pairs != found.pairs {
        if let Some(lease) = lease.filter(|_| posix::is_read_only(found)) {
            set_attributes(share, path, found, lease, false).await?;
        }
        let mut call =
            Call::new(Method::PUT, scope, "set_attrs", path).query("comp", "metadata").lease(id);
        put_pairs(&mut call.headers, &pairs);
        share.http.send_again(&call).await?;
    }
    // Last, for it sets what says that the rest is done; and it moves the time of change.
    let mtime = attrs.mtime.map_or_else(|| "preserve".into(), time::iso);
    let call = Call::new(Method::PUT, scope, "set_attrs", path)
        .query("comp", "properties")
        .header("x-ms-file-attributes", &posix.attributes(&found.attributes, attrs, found.shape))
        .header("x-ms-file-last-write-time", &mtime)
        .lease(id);
    share.http.send_again(&call).await?;
    let now = match found.shape {
        Shape::File => share.file("set_attrs", path).await?,
        Shape::Dir => share.dir("set_attrs", path).await?,
    };
    Ok(share.metadata(&now))
}

fn scope_of(shape: Shape) -> Scope {
    match shape {
        Shape::File => Scope::File,
        Shape::Dir => Scope::Dir,
    }
}

/// Makes a directory.
pub(super) async fn create_dir(
    share: &Share,
    path: &RemotePath,
    attrs: &Attrs,
) -> Result<Metadata> {
    if path.is_root() {
        return Err(Error::new(ErrorKind::Exists, "create_dir", path));
    }
    name::check("create_dir", &share.root, path)?;
    let mut posix = Posix::default();
    posix.set(attrs, Shape::Dir, &share.defaults);
    let dir = ["Directory".to_string()];
    let mut call = Call::new(Method::PUT, Scope::Dir, "create_dir", path)
        .header("x-ms-file-attributes", &posix.attributes(&dir, attrs, Shape::Dir));
    if let Some(mtime) = attrs.mtime {
        call = call.header("x-ms-file-last-write-time", &time::iso(mtime));
    }
    put_pairs(&mut call.headers, &posix.clone().into_pairs(&Vec::new()));
    match share.http.send(&call).await {
        Ok(answer) => {
            let facts = Facts::of_headers(&answer.headers, Shape::Dir, 0)
                .ok_or_else(|| no_sense("create_dir", path))?;
            Ok(posix.metadata(&facts, &share.defaults))
        }
        // A file of that name, or one above.
        Err(error) if fail::code(&error) == Some(Code::ResourceTypeMismatch) => {
            match share.look("create_dir", path).await {
                Ok(_) => Err(Error { kind: ErrorKind::Exists, ..error }),
                Err(why) => Err(why),
            }
        }
        Err(error) => Err(share.why(path, error).await),
    }
}

/// Makes a symlink: an empty file that says so, finished before it gets its name.
pub(super) async fn symlink(
    share: &Arc<Share>,
    path: &RemotePath,
    target: &[u8],
    attrs: &Attrs,
) -> Result<Metadata> {
    let Some((parent, _)) = path.split() else {
        return Err(Error::new(ErrorKind::Exists, "symlink", path));
    };
    name::check("symlink", &share.root, path)?;
    if target.is_empty() {
        return Err(Error::new(ErrorKind::NameInvalid, "symlink", path));
    }
    let temp = parent.join(share.owner.link_name().as_bytes());
    let mut posix = Posix::link(target);
    posix.set(&Attrs { mode: None, ..attrs.clone() }, Shape::File, &share.defaults);
    let archive = ["Archive".to_string()];
    let attributes = posix.attributes(&archive, &Attrs::default(), Shape::File);
    let mut call = Call::new(Method::PUT, Scope::File, "symlink", &temp)
        .header("x-ms-type", "file")
        .header("x-ms-content-length", "0")
        .header("x-ms-file-attributes", &attributes);
    if let Some(mtime) = attrs.mtime {
        call = call.header("x-ms-file-last-write-time", &time::iso(mtime));
    }
    put_pairs(&mut call.headers, &posix.clone().into_pairs(&Vec::new()));
    let answer = match share.http.send_again(&call).await {
        Ok(answer) => answer,
        Err(error) => {
            let why = share.why(&temp, error).await;
            return Err(Error { path: path.clone(), ..why });
        }
    };
    let made = Facts::of_headers(&answer.headers, Shape::File, 0)
        .ok_or_else(|| no_sense("symlink", path))?;
    let rename = rename_call(share, "symlink", &temp, path, Shape::File);
    match share.rename(&rename, made.file_id, 0).await {
        Ok(facts) => Ok(posix.metadata(&facts, &share.defaults)),
        Err(error) => {
            let discard = Call::new(Method::DELETE, Scope::File, "symlink", &temp);
            if let Err(error) = share.http.send(&discard).await {
                tracing::debug!(%error, "a temporary file stays for now");
            }
            Err(share.why(path, error).await)
        }
    }
}

/// A rename that takes no name that is taken.
pub(super) fn rename_call<'a>(
    share: &Share,
    op: &'static str,
    from: &RemotePath,
    to: &'a RemotePath,
    shape: Shape,
) -> Call<'a> {
    Call::new(Method::PUT, scope_of(shape), op, to)
        .query("comp", "rename")
        .header("x-ms-file-rename-source", &share.http.address(from))
        .header("x-ms-source-allow-trailing-dot", "true")
}
