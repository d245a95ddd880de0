//! What the answers come from: the filesystem, or in tests a stand-in.

use covefs_cache::{Asked, Fh, Need, Result, Step, Vfs};
use std::future::Future;

/// What is asked for answers: the filesystem, or in tests a stand-in.
pub(crate) trait Drive: Send + Sync + 'static {
    /// See `Vfs::wait`. Dropped when it takes longer than `WAIT_MAX`.
    fn wait(&self, asked: Asked, need: Need) -> impl Future<Output = Result<()>> + Send;
    /// See `Vfs::read`.
    fn read(
        &self,
        asked: Asked,
        fh: Fh,
        range: (u64, usize),
        out: &mut Vec<u8>,
    ) -> Result<Step<()>>;
    /// See `Vfs::read_cold`. Dropped when it takes longer than `WAIT_MAX`.
    fn read_cold(
        &self,
        asked: Asked,
        fh: Fh,
        range: (u64, usize),
    ) -> impl Future<Output = Result<Vec<u8>>> + Send;
}

impl Drive for Vfs {
    async fn wait(&self, asked: Asked, need: Need) -> Result<()> {
        Vfs::wait(self, asked, need).await
    }

    fn read(
        &self,
        asked: Asked,
        fh: Fh,
        (offset, len): (u64, usize),
        out: &mut Vec<u8>,
    ) -> Result<Step<()>> {
        Vfs::read(self, asked, fh, offset, len, out)
    }

    async fn read_cold(
        &self,
        asked: Asked,
        fh: Fh,
        (offset, len): (u64, usize),
    ) -> Result<Vec<u8>> {
        Vfs::read_cold(self, asked, fh, offset, len).await
    }
}
