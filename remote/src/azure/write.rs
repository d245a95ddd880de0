//! One `replace`: a temporary file beside its place, filled in parallel, put in place by a rename.
//!
//! ```text
//!   look -> create temp (zeros) -> put ranges -> rounds -> new name:  rename, refused if it is taken
//!                                                       -> old file:  lease, compare, rename over it
//! ```
//!
//! Parts that did not change the service copies by itself from the file that is replaced. It may have
//! changed by then: so the comparison before the end is of all of it, attributes too.
//!
//! What is sent twice because an answer was lost may arrive late, too: so after such an answer no
//! round may write the same bytes anew, and a temporary file that was given up is removed, so that
//! no rename finds it. Under a lease a late change is refused.

use super::facts::{Facts, Shape, put_pairs};
use super::fail::{self, Code};
use super::http::{Call, Scope};
use super::lease::Lease;
use super::name;
use super::posix::Posix;
use super::share::{Share, is_gone, no_sense};
use super::time;
use crate::{Attrs, Error, ErrorKind, Expect, Metadata, RemotePath, Result, Round, Source};
use futures_util::stream::{self, TryStreamExt};
use reqwest::Method;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The most that one request may carry.
pub(super) const PART_BYTES: u64 = 4 << 20;

/// Parts of one file on their way at once.
const PARTS_AT_ONCE: usize = 4;

/// Parts that the service copies at once: they cost the line nothing.
const COPIES_AT_ONCE: usize = 16;

/// The largest file.
const FILE_BYTES_MAX: u64 = 4 << 40;

/// A smaller upload costs less than looking first whether its name is free.
const LOOK_FIRST_BYTES: u64 = 4 << 20;

/// The longest wait for the removal of a temporary file that was given up.
const ABANDON_WAIT: Duration = Duration::from_secs(10);

/// A file that is not in place yet. Dropped, its temporary file is removed by a task.
struct Upload {
    share: Arc<Share>,
    path: RemotePath,
    temp: RemotePath,
    file_id: u64,
    /// Whether some bytes may still be on their way.
    is_in_doubt: AtomicBool,
    /// The ETag of what stands at the place, where parts of it may be copied.
    copied_from: Option<u128>,
    /// Whether any was.
    has_copied: AtomicBool,
    is_over: bool,
}

/// Makes `path` the content of `source`.
pub(super) async fn replace(
    share: &Arc<Share>,
    path: &RemotePath,
    source: &dyn Source,
    expect: Expect,
    temp: &[u8],
) -> Result<Metadata> {
    let Some((parent, _)) = path.split() else {
        return Err(Error::new(ErrorKind::IsADirectory, "replace", path));
    };
    let temp_path = parent.join(temp);
    name::check("replace", &share.root, path)?;
    name::check("replace", &share.root, &temp_path)?;
    let (mut size, mut ranges) = (source.size(), source.data());
    // Better now than after ten gigabytes. A small new file finds out when it is put in place.
    let old = match expect == Expect::Absent && size <= LOOK_FIRST_BYTES {
        true => None,
        false => share.look_if_any("replace", path).await?,
    };
    check(share, path, old.as_ref(), expect)?;
    if let (Some(old), Expect::Version(_)) = (&old, expect) {
        share.check_free("replace", path, old).await?;
    }
    let mut upload = Upload::begin(share, path, temp_path, size, old.as_ref()).await?;
    upload.copied_from = copyable(share, old.as_ref(), expect);
    let mut is_first = true;
    let sent = loop {
        if let Err(error) = upload.fill(source, &ranges, size, is_first).await {
            break Err(error);
        }
        is_first = false;
        match source.next_round().await {
            Ok(Round::Resend { size: now, ranges: again }) => {
                ranges = again;
                if let Err(error) = upload.begin_round(now, now != size).await {
                    break Err(error);
                }
                size = now;
            }
            Ok(Round::Settled(attrs)) => break upload.finish(size, expect, &attrs, old).await,
            Err(error) => break Err(error),
        }
    };
    match sent {
        Ok(metadata) => {
            upload.is_over = true;
            Ok(metadata)
        }
        Err(error) => {
            upload.abandon().await;
            Err(error)
        }
    }
}

/// What stands at the place is as expected, and no directory.
fn check(share: &Share, path: &RemotePath, old: Option<&Facts>, expect: Expect) -> Result<()> {
    let kind = match (expect, old) {
        (Expect::Any | Expect::Absent, None) => return Ok(()),
        (Expect::Absent, Some(_)) => ErrorKind::Exists,
        (_, Some(old)) if old.shape == Shape::Dir => ErrorKind::IsADirectory,
        (Expect::Any, Some(_)) => return Ok(()),
        (Expect::Version(_), None) => ErrorKind::NotFound,
        (Expect::Version(version), Some(old)) => {
            match share.metadata(old).version.same_content(&version) {
                true => return Ok(()),
                false => ErrorKind::VersionChanged,
            }
        }
    };
    Err(Error::new(kind, "replace", path))
}

/// The state that parts may be copied from: exactly the one that is expected, of which the rest was made.
fn copyable(share: &Share, old: Option<&Facts>, expect: Expect) -> Option<u128> {
    let found = share.metadata(old?).version;
    (expect == Expect::Version(found)).then_some(found.object)
}

impl Upload {
    /// Makes the temporary file, `size` bytes of nothing.
    async fn begin(
        share: &Arc<Share>,
        path: &RemotePath,
        temp: RemotePath,
        size: u64,
        old: Option<&Facts>,
    ) -> Result<Upload> {
        check_size(path, size)?;
        let mut call = Call::new(Method::PUT, Scope::File, "replace", &temp)
            .header("x-ms-type", "file")
            .header("x-ms-content-length", &size.to_string());
        for (name, value) in old.iter().flat_map(|old| &old.content_headers) {
            call.headers.insert(name.clone(), value.clone());
        }
        let mut upload = Upload {
            share: share.clone(),
            path: path.clone(),
            temp: temp.clone(),
            file_id: 0,
            is_in_doubt: AtomicBool::new(false),
            copied_from: None,
            has_copied: AtomicBool::new(false),
            is_over: false,
        };
        // Not made again after a lost answer: arriving late, it would wipe out the bytes.
        let made = match share.http.send(&call).await {
            Ok(answer) => Facts::of_headers(&answer.headers, Shape::File, size)
                .ok_or_else(|| no_sense("replace", path)),
            Err(error) => Err(share.why(&temp, error).await),
        };
        match made {
            Ok(facts) => {
                upload.file_id = facts.file_id;
                Ok(upload)
            }
            Err(error) => {
                match error.kind == ErrorKind::Protocol || fail::is_unsure(&error) {
                    true => upload.abandon().await,
                    false => upload.is_over = true,
                }
                Err(Error { path: path.clone(), ..error })
            }
        }
    }

    /// Before bytes are sent that were sent already.
    async fn begin_round(&self, size: u64, is_resized: bool) -> Result<()> {
        if self.is_in_doubt.load(Ordering::Relaxed) {
            let error = Error::new(ErrorKind::Timeout, "replace", &self.path);
            return Err(error.caused_by("older bytes may still be on their way"));
        }
        if !is_resized {
            return Ok(());
        }
        check_size(&self.path, size)?;
        let call = Call::new(Method::PUT, Scope::File, "replace", &self.temp)
            .query("comp", "properties")
            .header("x-ms-content-length", &size.to_string())
            .header("x-ms-file-permission", "preserve");
        self.piece(&call).await
    }

    /// Sends these ranges part by part, those of zeros only where something was before.
    async fn fill(
        &self,
        source: &dyn Source,
        ranges: &[Range<u64>],
        size: u64,
        is_first: bool,
    ) -> Result<()> {
        let parts = ranges.iter().flat_map(|range| parts(range.start..range.end.min(size)));
        let may_copy =
            is_first && self.copied_from.is_some() && self.share.copies.load(Ordering::Relaxed);
        let is_copied = |part: &Range<u64>| may_copy && source.is_unchanged(part);
        let (copied, sent): (Vec<_>, Vec<_>) = parts.partition(is_copied);
        stream::iter(copied.into_iter().map(Ok))
            .try_for_each_concurrent(COPIES_AT_ONCE, |part| self.copy(source, part))
            .await?;
        stream::iter(sent.into_iter().map(Ok))
            .try_for_each_concurrent(PARTS_AT_ONCE, |part| self.put(source, part, is_first))
            .await
    }

    /// Has the service copy a part, or sends it where it does not.
    async fn copy(&self, source: &dyn Source, part: Range<u64>) -> Result<()> {
        // Asked anew, so that whoever watches over the upload sees that it goes on.
        if source.is_unchanged(&part) {
            let call = range_call(&self.temp, &part)
                .header("x-ms-source-range", &format!("bytes={}-{}", part.start, part.end - 1));
            self.has_copied.store(true, Ordering::Relaxed);
            let call = self.share.http.copying_from(call, &self.path).await?;
            let Err(error) = self.piece(&call).await else { return Ok(()) };
            if error.kind.is_transient() {
                tracing::debug!(%error, "a part was not copied");
            } else {
                tracing::info!(%error, "this share does not copy parts by itself");
                self.share.copies.store(false, Ordering::Relaxed);
            }
        }
        self.put(source, part, true).await
    }

    async fn put(&self, source: &dyn Source, part: Range<u64>, is_first: bool) -> Result<()> {
        let bytes = source.read(part.clone()).await?;
        if bytes.len() as u64 != part.end - part.start {
            let error = Error::new(ErrorKind::Source, "replace", &self.path);
            return Err(error.caused_by("the source gave another number of bytes"));
        }
        if is_first && bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.piece(&range_call(&self.temp, &part).body(bytes)).await
    }

    /// A change of the temporary file that may be made twice, one right after the other.
    async fn piece(&self, call: &Call<'_>) -> Result<()> {
        let http = &self.share.http;
        let sent = http.repeat(call, |_| async {
            let sent = http.send(call).await;
            if sent.as_ref().is_err_and(fail::is_unsure) {
                self.is_in_doubt.store(true, Ordering::Relaxed);
            }
            sent
        });
        match sent.await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Err(self.temp_is_gone(error)),
            Err(error) => Err(Error { path: self.path.clone(), ..error }),
        }
    }

    /// Nothing is said of the place itself by this.
    fn temp_is_gone(&self, error: Error) -> Error {
        let kind = ErrorKind::Busy;
        let source = Some("its directory was moved, or somebody took its temporary file".into());
        Error { kind, path: self.path.clone(), source, ..error }
    }

    /// Attributes and the place.
    async fn finish(
        &self,
        size: u64,
        expect: Expect,
        attrs: &Attrs,
        old: Option<Facts>,
    ) -> Result<Metadata> {
        let share = &self.share;
        let (lease, old) = match (expect, old) {
            (Expect::Version(_), Some(old)) => {
                let (lease, old) = Lease::take(share, "replace", &self.path, old).await?;
                let checked = check(share, &self.path, Some(&old), expect)
                    .and_then(|()| self.check_copies(&old));
                if let Err(error) = checked {
                    lease.release().await;
                    return Err(error);
                }
                (Some(lease), Some(old))
            }
            (_, old) => (None, old),
        };
        let put = self.put_in_place(size, expect, attrs, old.as_ref(), lease.as_ref()).await;
        match (put, lease) {
            (Ok(metadata), lease) => {
                // The lease went with what was replaced.
                lease.into_iter().for_each(Lease::forget);
                Ok(metadata)
            }
            (Err(error), Some(lease)) => {
                lease.release().await;
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// That what parts were copied from is still as it was. Where only attributes changed, all is to do again.
    fn check_copies(&self, old: &Facts) -> Result<()> {
        let now = self.share.metadata(old).version.object;
        match self.has_copied.load(Ordering::Relaxed) && self.copied_from != Some(now) {
            true => {
                let error = Error::new(ErrorKind::Busy, "replace", &self.path);
                Err(error.caused_by("it changed while parts of it were copied"))
            }
            false => Ok(()),
        }
    }

    async fn put_in_place(
        &self,
        size: u64,
        expect: Expect,
        attrs: &Attrs,
        old: Option<&Facts>,
        lease: Option<&Lease>,
    ) -> Result<Metadata> {
        let share = &self.share;
        let mut posix = Posix::default();
        let mut call = Call::new(Method::PUT, Scope::File, "replace", &self.path)
            .query("comp", "rename")
            .header("x-ms-file-rename-source", &share.http.address(&self.temp))
            .header("x-ms-source-allow-trailing-dot", "true");
        // X6: what is replaced passes on what it was given.
        let archive = ["Archive".to_string()];
        let (mut attributes, mut pairs) = (&archive[..], &Vec::new());
        if let Some(old) = old.filter(|old| !Posix::of(old).is_link()) {
            (posix, attributes, pairs) =
                (Posix::of(old).without_atime(), &old.attributes, &old.pairs);
            call = call.header("x-ms-file-creation-time", &time::iso(old.btime));
            if let Some(key) = &old.permission_key {
                let name = reqwest::header::HeaderName::from_static("x-ms-file-permission-key");
                call.headers.insert(name, key.clone());
            }
        }
        posix.set(attrs, Shape::File, &share.defaults);
        call =
            call.header("x-ms-file-attributes", &posix.attributes(attributes, attrs, Shape::File));
        put_pairs(&mut call.headers, &posix.clone().into_pairs(pairs));
        if let Some(mtime) = attrs.mtime {
            call = call.header("x-ms-file-last-write-time", &time::iso(mtime));
        }
        if expect != Expect::Absent {
            call = call
                .header("x-ms-file-rename-replace-if-exists", "true")
                .header("x-ms-file-rename-ignore-readonly", "true");
        }
        if let Some(lease) = lease {
            call = call.header("x-ms-destination-lease-id", lease.id());
        }
        let facts = share.rename(&call, self.file_id, size).await;
        let facts = match facts {
            Err(error) if fail::code(&error) == Some(Code::ResourceNotFound) => {
                return Err(self.temp_is_gone(error));
            }
            Err(error) => return Err(share.why(&self.path, error).await),
            Ok(facts) => facts,
        };
        Ok(posix.metadata(&facts, &share.defaults))
    }

    /// Gives up: the temporary file goes, unless the share is out of reach.
    async fn abandon(mut self) {
        self.is_over = true;
        let removed = discard(&self.share, &self.temp);
        if tokio::time::timeout(ABANDON_WAIT, removed).await.is_err() {
            tracing::debug!(path = %self.temp, "a temporary file stays for now");
        }
    }
}

/// Removes a temporary file. Such names are one site's alone (X2).
async fn discard(share: &Share, temp: &RemotePath) {
    let call = Call::new(Method::DELETE, Scope::File, "remove temporary file", temp);
    if let Err(error) = share.http.send(&call).await {
        tracing::debug!(%error, "a temporary file stays for now");
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.is_over {
            let (share, temp) = (self.share.clone(), self.temp.clone());
            runtime.spawn(async move { discard(&share, &temp).await });
        }
    }
}

/// The writing of a part.
fn range_call<'a>(temp: &'a RemotePath, part: &Range<u64>) -> Call<'a> {
    Call::new(Method::PUT, Scope::File, "replace", temp)
        .query("comp", "range")
        .header("x-ms-write", "update")
        .header("x-ms-range", &format!("bytes={}-{}", part.start, part.end - 1))
}

fn check_size(path: &RemotePath, size: u64) -> Result<()> {
    match size > FILE_BYTES_MAX {
        true => Err(Error::new(ErrorKind::TooLarge, "replace", path)),
        false => Ok(()),
    }
}

/// A range cut at multiples of what one request may carry.
fn parts(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let end = range.end.min((at / PART_BYTES + 1) * PART_BYTES);
        let part = at..end;
        at = end;
        (!part.is_empty()).then_some(part)
    })
}

impl Share {
    /// Sends a rename of a file, and says what stands at its target then. After a lost answer the
    /// target is asked whether it has the number of the file that was to come.
    pub(super) async fn rename(&self, call: &Call<'_>, file_id: u64, size: u64) -> Result<Facts> {
        let sent = self.http.repeat(call, |tries| async move {
            if tries > 1
                && let Some(facts) = self.has_arrived(call, file_id).await?
            {
                return Ok(facts);
            }
            match self.http.send(call).await {
                Ok(answer) => Facts::of_headers(&answer.headers, Shape::File, size)
                    .ok_or_else(|| no_sense(call.op, call.path)),
                // The first one was made after all.
                Err(error) if tries > 1 && is_gone(&error) => {
                    self.has_arrived(call, file_id).await?.ok_or(error)
                }
                Err(error) => Err(error),
            }
        });
        sent.await
    }

    async fn has_arrived(&self, call: &Call<'_>, file_id: u64) -> Result<Option<Facts>> {
        match self.file(call.op, call.path).await {
            Ok(facts) => Ok(Some(facts).filter(|facts| facts.file_id == file_id)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_at_multiples_and_cover_all() {
        let cut = |range| parts(range).collect::<Vec<_>>();
        assert_eq!(cut(5..5), []);
        assert_eq!(cut(3 << 20..(3 << 20) + 100).len(), 1);
        let all = cut((4 << 20) - 1..(8 << 20) + 1);
        assert_eq!(all, [(4 << 20) - 1..4 << 20, 4 << 20..8 << 20, 8 << 20..(8 << 20) + 1]);
    }
}
