//! Leases: nobody else changes, moves or removes a file while we compare and act (X3).
//!
//! The service's file leases never end by themselves. So that a site that was killed in between
//! locks nothing for ever, the id of a lease is made from the file's number and from the CACHEID,
//! which is on the disk before anything is asked for: the next run takes up its own lease, whatever
//! it then does with the file, and `stat` lets go of one that is left over.
//!
//! One id for all of a site's changes of a file means that they must take turns here (`Turns`).

use super::facts::{Facts, Shape, etag};
use super::fail::{self, Code};
use super::http::{Call, Scope};
use super::share::{Share, is_gone};
use crate::prng::Prng;
use crate::{Error, ErrorKind, RemotePath, Result};
use reqwest::Method;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// What users are told of a lease that is not ours.
const FOREIGN: &str = "another client holds a lease on it";

/// Who takes leases: the cache of this name; until it is told, one of a random name.
pub(super) struct Owner(Mutex<String>);

impl Default for Owner {
    fn default() -> Self {
        let mut prng = Prng::unseeded();
        Owner(Mutex::new(format!("{:016x}{:016x}", prng.next(), prng.next())))
    }
}

impl Owner {
    /// The cache that asks.
    pub(super) fn is(&self, cache_id: &str) {
        *self.lock() = cache_id.to_owned();
    }

    /// The id of our lease on a file, in the form of a GUID.
    fn lease_id(&self, file_id: u64) -> String {
        let digest = Sha256::digest(format!("covefs lease {} {file_id}", self.lock()));
        let hex: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        parts.join("-")
    }

    /// A temporary name for what is made in two steps and was not given one.
    pub(super) fn link_name(&self) -> String {
        let number = Prng::unseeded().next();
        format!(".~covefs-{}-{number}", self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files that somebody here holds the lease of, or is about to.
#[derive(Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<u64>>,
    freed: Notify,
}

impl Turns {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(share: &Arc<Share>, file_id: u64) -> Turn {
        loop {
            let freed = share.turns.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if share.turns.lock().insert(file_id) {
                return Turn { share: share.clone(), file_id };
            }
            freed.await;
        }
    }

    fn try_take(share: &Arc<Share>, file_id: u64) -> Option<Turn> {
        let is_ours = share.turns.lock().insert(file_id);
        is_ours.then(|| Turn { share: share.clone(), file_id })
    }
}

/// The right to use our lease of a file; ends when dropped.
struct Turn {
    share: Arc<Share>,
    file_id: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.share.turns.lock().remove(&self.file_id);
        self.share.turns.freed.notify_waiters();
    }
}

/// A lease that we hold. Dropped, it is released by a task: a caller that gave up must not leave
/// a file locked.
pub(super) struct Lease {
    held: Option<Held>,
}

struct Held {
    turn: Turn,
    path: RemotePath,
    id: String,
}

impl Lease {
    /// Takes the lease of the file `found` at `path`, and says what stands there under it: the
    /// same, unless it changed just before.
    pub(super) async fn take(
        share: &Arc<Share>,
        op: &'static str,
        path: &RemotePath,
        found: Facts,
    ) -> Result<(Lease, Facts)> {
        debug_assert_eq!(found.shape, Shape::File, "directories have no leases");
        let turn = Turns::take(share, found.file_id).await;
        let id = share.owner.lease_id(found.file_id);
        let call = Call::new(Method::PUT, Scope::File, op, path)
            .query("comp", "lease")
            .header("x-ms-lease-action", "acquire")
            .header("x-ms-lease-duration", "-1")
            .header("x-ms-proposed-lease-id", &id);
        let lease = Lease { held: Some(Held { turn, path: path.clone(), id }) };
        let answer = match share.http.send_again(&call).await {
            Ok(answer) => answer,
            Err(error) if fail::is_unsure(&error) => return Err(error),
            Err(error) => {
                lease.forget();
                return Err(share.why(path, held_by_another(error)).await);
            }
        };
        // Taking a lease leaves the ETag as it is.
        let now = answer.headers.get("etag").and_then(|text| text.to_str().ok()).map(etag);
        if now == Some(found.etag) {
            return Ok((lease, found));
        }
        match share.file(op, path).await {
            Ok(facts) if facts.file_id == found.file_id => Ok((lease, facts)),
            Ok(_) => {
                lease.release().await;
                Err(Error::new(ErrorKind::VersionChanged, op, path))
            }
            Err(error) => {
                lease.release().await;
                Err(share.why(path, error).await)
            }
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.held.as_ref().expect("held until it is released or forgotten").id
    }

    /// The file is at another path now, and the lease with it.
    pub(super) fn moved(&mut self, path: &RemotePath) {
        if let Some(held) = &mut self.held {
            held.path = path.clone();
        }
    }

    /// There is nothing to release: the file is gone, and the lease with it.
    pub(super) fn forget(mut self) {
        self.held = None;
    }

    pub(super) async fn release(mut self) {
        if let Some(held) = self.held.take() {
            held.release().await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(held.release());
        }
    }
}

impl Held {
    async fn release(self) {
        let call = release_call(&self.path, &self.id);
        match self.turn.share.http.send_again(&call).await {
            Err(error) if !is_over(&error) => {
                tracing::warn!(%error, "a lease of ours stays until the next change");
            }
            _ => {}
        }
    }
}

fn release_call<'a>(path: &'a RemotePath, id: &str) -> Call<'a> {
    Call::new(Method::PUT, Scope::File, "release lease", path)
        .query("comp", "lease")
        .header("x-ms-lease-action", "release")
        .header("x-ms-lease-id", id)
}

/// Whether the lease is gone without us.
fn is_over(error: &Error) -> bool {
    is_gone(error) || fail::code(error) == Some(Code::LeaseLost)
}

fn held_by_another(error: Error) -> Error {
    match fail::code(&error) {
        Some(Code::LeaseTaken) => Error { source: Some(FOREIGN.into()), ..error },
        _ => error,
    }
}

/// Ends a lease of another client; whether there was one.
pub(super) async fn break_foreign(share: &Arc<Share>, path: &RemotePath) -> Result<bool> {
    let found = share.look("unlock", path).await?;
    if found.shape == Shape::Dir {
        return Err(Error::new(ErrorKind::IsADirectory, "unlock", path));
    }
    if !found.is_leased {
        return Ok(false);
    }
    // A change of ours under way comes to its end first; what an earlier run left goes as ours.
    let turn = Turns::take(share, found.file_id).await;
    if !share.is_foreign(path, &turn).await? {
        return Ok(false);
    }
    let call = Call::new(Method::PUT, Scope::File, "unlock", path)
        .query("comp", "lease")
        .header("x-ms-lease-action", "break");
    match share.http.send_again(&call).await {
        Ok(_) => {
            tracing::info!(%path, "broke the lease of another client, as somebody asked for");
            Ok(true)
        }
        // Released in the meantime.
        Err(error) if fail::code(&error) == Some(Code::LeaseLost) => Ok(false),
        Err(error) => Err(share.why(path, error).await),
    }
}

impl Share {
    /// Whether somebody else holds the lease of a file: known before anything is sent.
    pub(super) async fn check_free(
        self: &Arc<Self>,
        op: &'static str,
        path: &RemotePath,
        found: &Facts,
    ) -> Result<()> {
        if !found.is_leased || found.shape == Shape::Dir {
            return Ok(());
        }
        // A change of ours under way has it.
        let Some(turn) = Turns::try_take(self, found.file_id) else { return Ok(()) };
        match self.is_foreign(path, &turn).await? {
            true => Err(Error::new(ErrorKind::Locked, op, path).caused_by(FOREIGN)),
            false => Ok(()),
        }
    }

    /// Whether a lease is left on a file once ours is given back.
    async fn is_foreign(self: &Arc<Self>, path: &RemotePath, turn: &Turn) -> Result<bool> {
        let release = release_call(path, &self.owner.lease_id(turn.file_id));
        match self.http.send_again(&release).await {
            Ok(_) => Ok(false),
            Err(error) => match fail::code(&error) {
                Some(Code::LeaseTaken) => Ok(true),
                Some(Code::LeaseLost) => Ok(false),
                _ => Err(self.why(path, error).await),
            },
        }
    }

    /// Lets go of a lease of ours that nobody here uses: an earlier run was killed holding it.
    pub(super) async fn let_go(self: &Arc<Self>, path: &RemotePath, facts: &Facts) {
        let Some(turn) = Turns::try_take(self, facts.file_id) else { return };
        let call = release_call(path, &self.owner.lease_id(facts.file_id));
        if self.http.send(&call).await.is_ok() {
            tracing::info!(%path, "released a lease that an earlier run left");
        }
        drop(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_finds_its_own_leases_again() {
        // rule X3
        let (one, again, other) = (Owner::default(), Owner::default(), Owner::default());
        assert_ne!(one.lease_id(7), again.lease_id(7));
        one.is("0123456789abcdef");
        again.is("0123456789abcdef");
        other.is("fedcba9876543210");
        assert_eq!(one.lease_id(7), again.lease_id(7));
        assert_ne!(one.lease_id(7), one.lease_id(8));
        assert_ne!(one.lease_id(7), other.lease_id(7));
        let id = one.lease_id(7);
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
    }
}
