//! The share: one trait that every kind of share implements, and the words for paths,
//! metadata, versions and errors that the other rooms use too.
//!
//! A `Remote` is the authority on everything that is not dirty here. It never learns of the
//! cache, of inodes or handles. A lost update is an error of its own (`Expect`), never a habit,
//! and an answer that did not come is never taken for "gone" (`ErrorKind::existence`).

pub mod attempt;
pub mod azure;
mod error;
pub mod fault;
#[doc(hidden)]
pub mod fuzz;
#[cfg(unix)]
pub mod local;
pub mod memory;
mod metadata;
mod path;
mod prng;
pub mod smb;
mod watch;

pub use error::{Error, ErrorKind, Existence, Result};
pub use metadata::{
    Attrs, ContentMark, Expect, Kind, Limits, Metadata, NameRule, ShareIdentity, Timestamp, Usage,
    Version, XattrRule, Xattrs,
};
pub use path::{PathLength, RemotePath};
#[cfg(windows)]
pub use smb::folder as local;
pub use watch::{Change, ChangeStream};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use futures_util::stream::{BoxStream, StreamExt};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a read, in order, in chunks of the remote's choosing. What comes after an error means nothing.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Where the next page of a listing begins; only the remote that made it can read it.
#[derive(Clone)]
pub struct PageToken(pub Arc<dyn Any + Send + Sync>);

/// One page of a directory: names with full metadata (of xattrs no more than that there are none), in no promised order.
pub struct Page {
    /// Name and metadata of each entry; never `.` or `..`.
    pub entries: Vec<(Vec<u8>, Metadata)>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<PageToken>,
    /// Whether what the listing lacks was not there. `false`: a name may have moved while it was
    /// made, and whoever misses one has to ask for it by itself, as after several pages.
    pub one_moment: bool,
}

/// What `Source::next_round` says after everything asked for was sent.
pub enum Round {
    /// These bytes changed while others were sent: send them again, then ask again. The object is
    /// `size` bytes long now.
    Resend {
        /// The size the object has now, in bytes.
        size: u64,
        /// What has to be read and written again; what lies past `size` is left out.
        ranges: Vec<Range<u64>>,
    },
    /// What was sent is one state that the file really had; give it these attributes.
    Settled(Attrs),
}

/// What is uploaded: a file that may be written to while it is read.
#[async_trait]
pub trait Source: Send + Sync {
    /// The size in bytes at the start of the upload.
    fn size(&self) -> u64;
    /// The ranges that may hold anything but zeros, ascending; the rest are holes.
    fn data(&self) -> Vec<Range<u64>>;
    /// Whether all bytes of `range` are, as of the start of the upload, those that the version has which
    /// `replace` expects: a share that can takes them from there. What changes later is sent again.
    fn is_unchanged(&self, range: &Range<u64>) -> bool;
    /// Exactly the bytes of `range`, which lies below the size last told.
    async fn read(&self, range: Range<u64>) -> Result<Bytes>;
    /// Asked when all was sent; see `Round`. Bounded: it settles after a few rounds.
    async fn next_round(&self) -> Result<Round>;
}

/// A share. All methods may be called at once from many tasks. Every returned `Metadata` was true
/// at some moment between call and return. Paths are relative to the share's root; the root is
/// the empty path.
#[async_trait]
pub trait Remote: Send + Sync {
    /// What this share can hold and what it promises.
    fn limits(&self) -> &Limits;

    /// Who asks: the name of a cache, the same at its next start and no other's. Told before anything is
    /// changed, so that what an earlier run left locked is known as ours (X3).
    fn introduce(&self, cache_id: &str);

    /// Which share this is; changes when another one is found in its place (rule X1).
    async fn identity(&self) -> Result<ShareIdentity>;

    /// One entry, with its xattrs where the share tells them without being asked. A symlink is not
    /// followed.
    async fn stat(&self, path: &RemotePath) -> Result<Metadata>;

    /// One entry, with its xattrs where the share keeps such (`Limits::has_xattrs`).
    async fn stat_with_xattrs(&self, path: &RemotePath) -> Result<Metadata> {
        self.stat(path).await
    }

    /// One page of `dir`. Errors: `NotFound`, `NotADirectory`.
    async fn list(&self, dir: &RemotePath, after: Option<PageToken>) -> Result<Page>;

    /// The bytes of `range` of exactly the content `version` names, whatever its attributes are
    /// now; fails with `VersionChanged`, at the start or in the middle, when the content is
    /// another. Shorter than `range` only where the file ends.
    async fn read(
        &self,
        path: &RemotePath,
        range: Range<u64>,
        version: &Version,
    ) -> Result<ByteStream>;

    /// Small files whole, for nobody who waits: each as `read` would give it, in this order. A share that
    /// can asks for all of them at once (`Limits::whole_files`).
    async fn read_whole(&self, files: &[(RemotePath, Version)]) -> Vec<Result<Bytes>> {
        let each = files.iter().map(|(path, version)| async move {
            gather(self.read(path, 0..version.content.size, version).await?).await
        });
        join_all(each).await
    }

    /// Makes `path` the whole content of `source`: written under the name `temp` in the same
    /// directory, then put in place at once, so that no reader sees a half. The old object's owner,
    /// mode and xattrs are kept where the settled attributes do not name them (X6). Errors:
    /// `VersionChanged` when `expect` names a version and the content part there is another;
    /// `NotFound` when nothing is there, or no directory to put it in; `Exists` when it expects
    /// `Absent` and something is; `IsADirectory`.
    async fn replace(
        &self,
        path: &RemotePath,
        source: Arc<dyn Source>,
        expect: Expect,
        temp: &[u8],
    ) -> Result<Metadata>;

    /// Moves `from`, whose file id must be that of `version`, to `to`. What is at `to` must be
    /// what `expect` says, as for `replace`; a replaced directory must be empty (`NotEmpty`), and
    /// only a directory replaces one (`IsADirectory`, `NotADirectory`). `NotFound` tells of `from`
    /// or of a parent; where a version is expected at `to` and nothing is, it is `VersionChanged`.
    /// The error's path says which of the two it is about.
    async fn rename(
        &self,
        from: &RemotePath,
        version: &Version,
        to: &RemotePath,
        expect: Expect,
    ) -> Result<Metadata>;

    /// Removes a file, symlink or empty directory. Errors: `NotFound`; `VersionChanged` when the
    /// content part (of a directory: its file id) is not the expected one; `NotEmpty`.
    async fn remove(&self, path: &RemotePath, expect: Expect) -> Result<()>;

    /// Sets what `attrs` names, leaves the rest. The file id must be that of `version`. Of extended
    /// attributes, here and in `replace`, what the share does not take stays away, and the answer says so.
    async fn set_attrs(
        &self,
        path: &RemotePath,
        version: &Version,
        attrs: &Attrs,
    ) -> Result<Metadata>;

    /// A new empty directory, perhaps without its xattrs, as the answer says. Errors: `Exists`, `NotFound`
    /// (parent).
    async fn create_dir(&self, path: &RemotePath, attrs: &Attrs) -> Result<Metadata>;

    /// A new symlink holding `target`. Errors: `Exists`, `NotFound` (parent), `Unsupported`.
    async fn symlink(&self, path: &RemotePath, target: &[u8], attrs: &Attrs) -> Result<Metadata>;

    /// Takes the lock of a file away from the client that holds it (`Locked`); whether one did.
    /// `Unsupported`: the share knows no such locks.
    async fn unlock(&self, path: &RemotePath) -> Result<bool>;

    /// Size and free space of the share.
    async fn usage(&self) -> Result<Usage>;

    /// What happens to the share from now on, as far as it tells; see `Change`. `None`: it tells
    /// nothing. A directory counts from its next listing on, which is armed before its names are
    /// read (X7); until then, and where the share has no more watches, nobody tells of it.
    async fn watch(&self) -> Result<Option<ChangeStream>>;
}

/// All that comes, in one piece.
async fn gather<E>(
    mut chunks: BoxStream<'_, std::result::Result<Bytes, E>>,
) -> std::result::Result<Bytes, E> {
    let mut all = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all.freeze())
}
