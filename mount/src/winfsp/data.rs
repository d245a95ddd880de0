//! Bytes and sizes of open files, and of the drive.

use super::Answer;
use super::facts::Info;
use super::volume::{Open, Volume};
use crate::ntstatus::Status;
use covefs_cache::{Asked, Ino, Need, SetAttr, Statfs, Step};

impl Volume {
    /// Up to `len` bytes; fewer only at the file's end.
    pub(super) fn read(&self, open: &Open, offset: u64, len: usize) -> Answer<Vec<u8>> {
        let fh = self.bytes(open, false)?;
        let asked = Asked::now().blocking();
        let mut bytes = Vec::new();
        loop {
            match self.vfs.read(asked, fh, offset, len, &mut bytes) {
                Ok(Step::Done(())) => break,
                Ok(Step::Wait(Need::Bytes(..))) => {
                    let cold = self.vfs.read_cold(asked, fh, offset, len);
                    bytes = self.in_time("read", asked, cold)?;
                    break;
                }
                Ok(Step::Wait(need)) => self.met("read", asked, need)?,
                Err(error) => return Err(super::volume::refuse("read", &error)),
            }
        }
        if bytes.is_empty() && len > 0 { Err(Status::END_OF_FILE) } else { Ok(bytes) }
    }

    /// Writes at an offset or at the end. `constrained`: the size stays, what lies past it is left
    /// out (that is how mapped pages are written).
    pub(super) fn write(
        &self,
        open: &Open,
        bytes: &[u8],
        offset: Option<u64>,
        constrained: bool,
    ) -> Answer<(u32, Info)> {
        self.check_writable()?;
        let fh = self.bytes(open, true)?;
        // WinFsp has one writer past the end at a time.
        let size = self.attr(open)?.size;
        let offset = offset.unwrap_or(size);
        let mut bytes = bytes;
        if constrained {
            let room = size.saturating_sub(offset).min(bytes.len() as u64);
            bytes = &bytes[..room as usize];
        }
        let mut written = 0;
        if !bytes.is_empty() {
            written = self.ask("write", |vfs, asked| vfs.write(asked, fh, offset, bytes))?;
        }
        Ok((written as u32, self.changed(open)?))
    }

    /// Makes a file durable here, or, without one, every file.
    pub(super) fn flush(&self, open: Option<&Open>) -> Answer<Option<Info>> {
        let Some(open) = open else {
            self.ask("flush", |vfs, asked| vfs.sync_disk(asked))?;
            return Ok(None);
        };
        match open.written() {
            Some(fh) => self.ask("fsync", |vfs, asked| vfs.fsync(asked, fh))?,
            // Names, or what another handle wrote.
            None => self.ask("flush", |vfs, asked| vfs.sync_disk(asked))?,
        }
        self.changed(open).map(Some)
    }

    /// Sets the size. `allocation`: only how much is kept for the file, which cuts it if that is less.
    pub(super) fn set_size(&self, open: &Open, size: u64, allocation: bool) -> Answer<Info> {
        self.check_writable()?;
        if !allocation || size < self.attr(open)?.size {
            let change = SetAttr { size: Some(size), ..SetAttr::default() };
            self.ask("set size", |vfs, asked| vfs.setattr(asked, open.ino, None, &change))?;
        }
        self.changed(open)
    }

    /// Size and free space of the share.
    pub(super) fn space(&self) -> Answer<Statfs> {
        self.ask("statfs", |vfs, asked| vfs.statfs(asked))
    }

    pub(super) fn check_writable(&self) -> Answer<()> {
        if self.settings.read_only { Err(Status::MEDIA_WRITE_PROTECTED) } else { Ok(()) }
    }

    /// Whether a directory has nothing in it.
    pub(super) fn is_empty(&self, dir: Ino) -> Answer<bool> {
        let mut names = 0;
        self.each_name(dir, &mut |_| names += 1)?;
        Ok(names == 0)
    }
}
