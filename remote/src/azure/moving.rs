//! Moving a file or directory to another name.

use super::change::rename_call;
use super::facts::{Facts, Shape};
use super::fail::{self, Code};
use super::http::{Call, Scope};
use super::lease::Lease;
use super::name;
use super::share::{Share, is_gone, no_sense};
use crate::{Error, ErrorKind, Expect, Metadata, RemotePath, Result, Version};
use reqwest::Method;
use std::sync::Arc;

/// What is moved, and where to.
struct Move<'a> {
    share: &'a Arc<Share>,
    from: &'a RemotePath,
    to: &'a RemotePath,
}

/// Moves the entry that `version` names.
pub(super) async fn rename(
    share: &Arc<Share>,
    from: &RemotePath,
    version: &Version,
    to: &RemotePath,
    expect: Expect,
) -> Result<Metadata> {
    let about = |kind, path| Err(Error::new(kind, "rename", path));
    if from.is_root() || to.is_root() {
        return about(ErrorKind::Unsupported, if from.is_root() { from } else { to });
    }
    name::check("rename", &share.root, to)?;
    let is_case = from != to && name::is_same(from, to);
    let step = Move { share, from, to };
    let found = match share.look("rename", from).await {
        // Killed between the two steps of a change of case.
        Err(error) if is_case && is_gone(&error) => {
            return step.finish_case(version).await?.ok_or(error);
        }
        found => found?,
    };
    if !found.version().same_object(version) {
        return about(ErrorKind::VersionChanged, from);
    }
    if from != to && !is_case && name::is_within(to, from) {
        return about(ErrorKind::Unsupported, to);
    }
    if is_case {
        return step.change_case(found).await;
    }
    let target = match expect {
        Expect::Absent if from != to => None,
        Expect::Absent | Expect::Any | Expect::Version(_) => {
            share.look_if_any("rename", to).await?
        }
    };
    check_target(share, to, &found, target.as_ref(), expect)?;
    if from == to {
        return Ok(share.metadata(&found));
    }
    match found.shape {
        Shape::File => step.file(found, version, target, expect).await,
        Shape::Dir => step.dir(found, target).await,
    }
}

fn check_target(
    share: &Share,
    to: &RemotePath,
    found: &Facts,
    target: Option<&Facts>,
    expect: Expect,
) -> Result<()> {
    let kind = match (expect, target) {
        (Expect::Any | Expect::Absent, None) => return Ok(()),
        (Expect::Absent, Some(_)) => ErrorKind::Exists,
        (Expect::Version(_), None) => ErrorKind::VersionChanged,
        (Expect::Version(version), Some(target))
            if !share.metadata(target).version.same_content(&version) =>
        {
            ErrorKind::VersionChanged
        }
        (Expect::Any | Expect::Version(_), Some(target)) => match (found.shape, target.shape) {
            (Shape::File, Shape::Dir) => ErrorKind::IsADirectory,
            (Shape::Dir, Shape::File) => ErrorKind::NotADirectory,
            (Shape::File, Shape::File) | (Shape::Dir, Shape::Dir) => return Ok(()),
        },
    };
    Err(Error::new(kind, "rename", to))
}

impl Move<'_> {
    /// Moves a file that is leased, over one that is leased and compared or to a free name.
    async fn file(
        &self,
        found: Facts,
        version: &Version,
        target: Option<Facts>,
        expect: Expect,
    ) -> Result<Metadata> {
        let Move { share, from, to } = *self;
        let (mut lease, found) = Lease::take(share, "rename", from, found).await?;
        let moved = match found.version().same_object(version) {
            true => self.over(&found, &lease, target, expect).await,
            false => Err(Error::new(ErrorKind::VersionChanged, "rename", from)),
        };
        if moved.is_ok() {
            lease.moved(to);
        }
        lease.release().await;
        let facts = moved?;
        let now = Facts { pairs: found.pairs.clone(), ..facts };
        Ok(share.metadata(&now))
    }

    async fn over(
        &self,
        found: &Facts,
        lease: &Lease,
        target: Option<Facts>,
        expect: Expect,
    ) -> Result<Facts> {
        let Move { share, from, to } = *self;
        let mut call = rename_call(share, "rename", from, to, Shape::File)
            .header("x-ms-source-lease-id", lease.id());
        if expect != Expect::Absent {
            call = call
                .header("x-ms-file-rename-replace-if-exists", "true")
                .header("x-ms-file-rename-ignore-readonly", "true");
        }
        let over = match (expect, target) {
            (Expect::Version(_), Some(target)) => {
                let (over, target) = Lease::take(share, "rename", to, target).await?;
                if let Err(error) = check_target(share, to, found, Some(&target), expect) {
                    over.release().await;
                    return Err(error);
                }
                call = call.header("x-ms-destination-lease-id", over.id());
                Some(over)
            }
            _ => None,
        };
        match share.rename(&call, found.file_id, found.size).await {
            Ok(facts) => {
                over.into_iter().for_each(Lease::forget);
                Ok(facts)
            }
            Err(error) => {
                if let Some(over) = over {
                    over.release().await;
                }
                Err(self.why(error).await)
            }
        }
    }

    /// Moves a directory; an empty one in its way is removed first.
    async fn dir(&self, found: Facts, target: Option<Facts>) -> Result<Metadata> {
        let Move { share, from, to } = *self;
        if target.is_some() {
            let call = Call::new(Method::DELETE, Scope::Dir, "rename", to);
            share.http.send(&call).await?;
        }
        let moved = match self.send(from, to, &found).await {
            Ok(moved) => moved,
            Err(error) => {
                if target.is_some() {
                    // As it was; the error that counts is the first one.
                    let _ =
                        share.http.send(&Call::new(Method::PUT, Scope::Dir, "rename", to)).await;
                }
                return Err(self.why(error).await);
            }
        };
        if moved.file_id != found.file_id {
            // Another directory had just taken the old name.
            self.send(to, from, &moved).await?;
            return Err(Error::new(ErrorKind::VersionChanged, "rename", from));
        }
        Ok(share.metadata(&Facts { pairs: found.pairs, ..moved }))
    }

    /// One rename to a free name. After a lost answer the number of what is at `to` tells.
    async fn send(&self, from: &RemotePath, to: &RemotePath, found: &Facts) -> Result<Facts> {
        let share = self.share;
        let call = rename_call(share, "rename", from, to, found.shape);
        if found.shape == Shape::File {
            return share.rename(&call, found.file_id, found.size).await;
        }
        let call = &call;
        let sent = share.http.repeat(call, |tries| async move {
            if tries > 1
                && let Some(facts) = self.dir_at(to, found.file_id).await?
            {
                return Ok(facts);
            }
            match share.http.send(call).await {
                Ok(answer) => Facts::of_headers(&answer.headers, Shape::Dir, 0)
                    .ok_or_else(|| no_sense("rename", to)),
                // The first one was made after all.
                Err(error) if tries > 1 && is_gone(&error) => {
                    self.dir_at(to, found.file_id).await?.ok_or(error)
                }
                Err(error) => Err(error),
            }
        });
        sent.await
    }

    /// The directory of this number at a path, if it is there.
    async fn dir_at(&self, path: &RemotePath, file_id: u64) -> Result<Option<Facts>> {
        match self.share.dir("rename", path).await {
            Ok(facts) => Ok(Some(facts).filter(|facts| facts.file_id == file_id)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which of the two names an error is about, and what it says.
    async fn why(&self, error: Error) -> Error {
        let (from, to) = (self.from, self.to);
        match fail::code(&error) {
            Some(Code::ResourceNotFound) => self.share.why(from, error).await,
            _ => self.share.why(to, error).await,
        }
    }

    /// `A` becomes `a`: where the share takes that for a name that is taken, by way of a third.
    async fn change_case(&self, found: Facts) -> Result<Metadata> {
        let Move { share, from, to } = *self;
        let (lease, found) = match found.shape {
            Shape::File => {
                let (lease, found) = Lease::take(share, "rename", from, found).await?;
                (Some(lease), found)
            }
            Shape::Dir => (None, found),
        };
        // The lease goes along; its name is the same one to the share.
        let moved = self.send_held(from, to, &found, lease.as_ref()).await;
        let moved = match moved {
            Err(error) if error.kind == ErrorKind::Exists => {
                let aside = self.aside(found.file_id);
                match self.send_held(from, &aside, &found, lease.as_ref()).await {
                    Ok(_) => match self.send_held(&aside, to, &found, lease.as_ref()).await {
                        Ok(moved) => Ok(moved),
                        Err(error) => {
                            self.send_held(&aside, from, &found, lease.as_ref()).await?;
                            Err(error)
                        }
                    },
                    Err(error) => Err(error),
                }
            }
            moved => moved,
        };
        if let Some(lease) = lease {
            lease.release().await;
        }
        match moved {
            Ok(moved) => Ok(share.metadata(&Facts { pairs: found.pairs, ..moved })),
            Err(error) => Err(self.why(error).await),
        }
    }

    async fn send_held(
        &self,
        from: &RemotePath,
        to: &RemotePath,
        found: &Facts,
        lease: Option<&Lease>,
    ) -> Result<Facts> {
        let Some(lease) = lease else { return self.send(from, to, found).await };
        let call = rename_call(self.share, "rename", from, to, found.shape)
            .header("x-ms-source-lease-id", lease.id());
        // A change of case is asked for at the same name: no answer tells the two apart.
        self.share.rename(&call, found.file_id, found.size).await
    }

    /// Where an entry stands between the two steps of a change of case: of the kind that nobody
    /// cleans up (X2).
    fn aside(&self, file_id: u64) -> RemotePath {
        let (parent, _) = self.to.split().expect("the root is not moved");
        parent.join(format!(".~covefs-move-case-{file_id:016x}").as_bytes())
    }

    /// Goes on with a change of case that was cut off, if there is one.
    async fn finish_case(&self, version: &Version) -> Result<Option<Metadata>> {
        let aside = self.aside(version.content.file_id);
        let Some(found) = self.share.look_if_any("rename", &aside).await? else { return Ok(None) };
        if !found.version().same_object(version) {
            return Ok(None);
        }
        let step = Move { from: &aside, ..*self };
        let (lease, found) = match found.shape {
            Shape::File => {
                let (lease, found) = Lease::take(self.share, "rename", &aside, found).await?;
                (Some(lease), found)
            }
            Shape::Dir => (None, found),
        };
        let moved = step.send_held(&aside, self.to, &found, lease.as_ref()).await;
        if let Some(mut lease) = lease {
            if moved.is_ok() {
                lease.moved(self.to);
            }
            lease.release().await;
        }
        Ok(Some(self.share.metadata(&Facts { pairs: found.pairs, ..moved? })))
    }
}
