//! WinFsp's calls, decoded: what each of them means is said in `volume`, `data`, `change` and `list`.
#![allow(unsafe_code)]

use super::facts::{Basic, Info};
use super::list::Item;
use super::security::Descriptor;
use super::told::{Told, told};
use super::volume::{Making, Open, Opened, Volume};
use crate::ntstatus::Status;
use covefs_cache::Notice;
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::mpsc::Sender;
use tokio::sync::mpsc;
use winfsp::filesystem::{
    DirInfo, DirMarker, FileInfo, FileSecurity, FileSystemContext, OpenFileInfo, VolumeInfo,
    WideNameInfo,
};
use winfsp::notify::{Notifier, NotifyInfo, NotifyingFileSystemContext};
use winfsp::{FspError, Result, U16CStr};

/// FILE_DIRECTORY_FILE, FILE_NON_DIRECTORY_FILE (wdm.h).
const DIRECTORY_FILE: u32 = 0x1;
const NON_DIRECTORY_FILE: u32 = 0x40;
/// FspCleanupDelete (winfsp.h).
const CLEANUP_DELETE: u32 = 0x1;
/// Changes told at once; the rest is told a moment later.
const TOLD_MAX: usize = 256;
/// Units of a path that is told.
const PATH_UNITS: usize = 2048;

/// One drive.
pub(super) struct Context {
    pub(super) volume: Volume,
    pub(super) security: Descriptor,
    /// What is to be told to Explorer.
    pub(super) notices: Mutex<Option<mpsc::Receiver<Notice>>>,
    /// Hears when WinFsp ends the drive.
    pub(super) ended: Mutex<Sender<()>>,
}

impl From<Status> for FspError {
    fn from(status: Status) -> FspError {
        FspError::NTSTATUS(status.0 as i32)
    }
}

impl Context {
    fn opened(&self, opened: Opened, asked: &U16CStr, into: &mut OpenFileInfo) -> Open {
        fill(into.as_mut(), &opened.info);
        // As the share spells it: case-preserving.
        if opened.path != asked.as_slice() && opened.path.len() <= asked.len() {
            into.set_normalized_name(&opened.path, None);
        }
        opened.open
    }

    /// Says how long the descriptor is; copies it where there is room.
    fn describe(&self, into: Option<&mut [c_void]>) -> Result<u64> {
        let bytes = self.security.bytes();
        if let Some(into) = into {
            if into.len() < bytes.len() {
                return Err(Status::BUFFER_OVERFLOW.into());
            }
            // SAFETY: a slice of `c_void` is one of bytes; it is long enough, and not ours.
            unsafe {
                let into = into.as_mut_ptr().cast::<u8>();
                into.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
        Ok(bytes.len() as u64)
    }
}

impl FileSystemContext for Context {
    type FileContext = Open;

    fn get_security_by_name(
        &self,
        file_name: &U16CStr,
        security_descriptor: Option<&mut [c_void]>,
        reparse_point_resolver: impl FnOnce(&U16CStr) -> Option<FileSecurity>,
    ) -> Result<FileSecurity> {
        let found = match self.volume.find(file_name.as_slice()) {
            Ok(found) => found,
            // A link may lead on from somewhere above.
            Err(status) => match reparse_point_resolver(file_name) {
                Some(security) => return Ok(security),
                None => return Err(status.into()),
            },
        };
        let info = self.volume.info(&found.attr, found.dir());
        let sz_security_descriptor = self.describe(security_descriptor)?;
        let attributes = info.attributes;
        Ok(FileSecurity { reparse: false, sz_security_descriptor, attributes })
    }

    fn open(
        &self,
        file_name: &U16CStr,
        create_options: u32,
        granted_access: u32,
        file_info: &mut OpenFileInfo,
    ) -> Result<Open> {
        let wants_dir = match create_options & (DIRECTORY_FILE | NON_DIRECTORY_FILE) {
            DIRECTORY_FILE => Some(true),
            NON_DIRECTORY_FILE => Some(false),
            _ => None,
        };
        let opened = self.volume.open(file_name.as_slice(), wants_dir, granted_access)?;
        Ok(self.opened(opened, file_name, file_info))
    }

    fn close(&self, context: Open) {
        self.volume.close(context);
    }

    fn create(
        &self,
        file_name: &U16CStr,
        create_options: u32,
        _granted_access: u32,
        file_attributes: u32,
        _security_descriptor: Option<&[c_void]>,
        _allocation_size: u64,
        _extra_buffer: Option<&[u8]>,
        _extra_buffer_is_reparse_point: bool,
        file_info: &mut OpenFileInfo,
    ) -> Result<Open> {
        let is_dir = create_options & DIRECTORY_FILE != 0;
        let making = Making { is_dir, attributes: file_attributes };
        let opened = self.volume.create(file_name.as_slice(), &making)?;
        Ok(self.opened(opened, file_name, file_info))
    }

    fn cleanup(&self, context: &Open, file_name: Option<&U16CStr>, flags: u32) {
        let removes = flags & CLEANUP_DELETE != 0;
        self.volume.cleanup(context, file_name.map(U16CStr::as_slice), removes);
    }

    fn flush(&self, context: Option<&Open>, file_info: &mut FileInfo) -> Result<()> {
        if let Some(info) = self.volume.flush(context)? {
            fill(file_info, &info);
        }
        Ok(())
    }

    fn get_file_info(&self, context: &Open, file_info: &mut FileInfo) -> Result<()> {
        fill(file_info, &self.volume.info_of(context)?);
        Ok(())
    }

    fn get_security(&self, _context: &Open, into: Option<&mut [c_void]>) -> Result<u64> {
        self.describe(into)
    }

    fn overwrite(
        &self,
        context: &Open,
        file_attributes: u32,
        replace_file_attributes: bool,
        _allocation_size: u64,
        _extra_buffer: Option<&[u8]>,
        file_info: &mut FileInfo,
    ) -> Result<()> {
        let info = self.volume.overwrite(context, file_attributes, replace_file_attributes)?;
        fill(file_info, &info);
        Ok(())
    }

    fn read_directory(
        &self,
        context: &Open,
        pattern: Option<&U16CStr>,
        marker: DirMarker,
        buffer: &mut [u8],
    ) -> Result<u32> {
        let (mut cursor, mut full) = (0, false);
        let pattern = pattern.map(U16CStr::as_slice);
        self.volume.list(context, marker.inner(), pattern, &mut |item| {
            full = !line(item).append_to_buffer(buffer, &mut cursor);
            full
        })?;
        if !full {
            DirInfo::<255>::finalize_buffer(buffer, &mut cursor);
        }
        Ok(cursor)
    }

    fn rename(
        &self,
        context: &Open,
        file_name: &U16CStr,
        new_file_name: &U16CStr,
        replace_if_exists: bool,
    ) -> Result<()> {
        let (from, to) = (file_name.as_slice(), new_file_name.as_slice());
        Ok(self.volume.rename(context, from, to, replace_if_exists)?)
    }

    fn set_basic_info(
        &self,
        context: &Open,
        file_attributes: u32,
        _creation_time: u64,
        last_access_time: u64,
        last_write_time: u64,
        _last_change_time: u64,
        file_info: &mut FileInfo,
    ) -> Result<()> {
        let (accessed, written) = (last_access_time, last_write_time);
        let wish = Basic { attributes: file_attributes, accessed, written };
        fill(file_info, &self.volume.set_basic(context, &wish)?);
        Ok(())
    }

    fn set_delete(&self, context: &Open, file_name: &U16CStr, delete_file: bool) -> Result<()> {
        match delete_file {
            true => Ok(self.volume.can_delete(context, file_name.as_slice())?),
            false => Ok(()),
        }
    }

    fn set_file_size(
        &self,
        context: &Open,
        new_size: u64,
        set_allocation_size: bool,
        file_info: &mut FileInfo,
    ) -> Result<()> {
        fill(file_info, &self.volume.set_size(context, new_size, set_allocation_size)?);
        Ok(())
    }

    fn read(&self, context: &Open, buffer: &mut [u8], offset: u64) -> Result<u32> {
        let bytes = self.volume.read(context, offset, buffer.len())?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len() as u32)
    }

    fn write(
        &self,
        context: &Open,
        buffer: &[u8],
        offset: u64,
        write_to_eof: bool,
        constrained_io: bool,
        file_info: &mut FileInfo,
    ) -> Result<u32> {
        let offset = (!write_to_eof).then_some(offset);
        let (written, info) = self.volume.write(context, buffer, offset, constrained_io)?;
        fill(file_info, &info);
        Ok(written)
    }

    fn get_dir_info_by_name(
        &self,
        context: &Open,
        file_name: &U16CStr,
        out_dir_info: &mut DirInfo,
    ) -> Result<()> {
        let item = self.volume.item(context, file_name.as_slice())?;
        out_dir_info.reset();
        fill(out_dir_info.file_info_mut(), &item.info);
        out_dir_info.set_name_raw(&*item.name)
    }

    fn get_volume_info(&self, out_volume_info: &mut VolumeInfo) -> Result<()> {
        let space = self.volume.space()?;
        out_volume_info.total_size = space.total_bytes;
        out_volume_info.free_size = space.free_bytes;
        out_volume_info.set_volume_label(&self.volume.settings.label);
        Ok(())
    }

    fn get_reparse_point_by_name(
        &self,
        file_name: &U16CStr,
        _is_directory: bool,
        buffer: &mut [u8],
    ) -> Result<u64> {
        put(&self.volume.reparse_point(file_name.as_slice())?, buffer)
    }

    fn get_reparse_point(
        &self,
        _context: &Open,
        file_name: &U16CStr,
        buffer: &mut [u8],
    ) -> Result<u64> {
        put(&self.volume.reparse_point(file_name.as_slice())?, buffer)
    }

    fn dispatcher_stopped(&self, normally: bool) {
        if !normally {
            tracing::error!("WinFsp ended the drive");
        }
        let ended = self.ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Nobody may wait for it any more.
        let _ = ended.send(());
    }
}

impl NotifyingFileSystemContext<Vec<Told>> for Context {
    fn should_notify(&self) -> Option<Vec<Told>> {
        let mut notices = self.notices.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let notices = notices.as_mut()?;
        let mut all = Vec::new();
        while all.len() < TOLD_MAX
            && let Ok(notice) = notices.try_recv()
        {
            all.extend(told(&self.volume.vfs, &notice));
        }
        (!all.is_empty()).then_some(all)
    }

    fn notify(&self, all: Vec<Told>, notifier: &Notifier) {
        for told in all {
            let mut info = NotifyInfo::<PATH_UNITS>::new();
            (info.action, info.filter) = (told.action, told.filter);
            // A path that does not fit is found by looking again.
            if info.set_name_raw(&*told.path).is_ok() {
                notifier.notify(&info);
            }
        }
    }
}

fn line(item: &Item) -> DirInfo<255> {
    let mut line = DirInfo::new();
    fill(line.file_info_mut(), &item.info);
    if line.set_name_raw(&*item.name).is_err() {
        tracing::warn!(units = item.name.len(), "a name is too long for Windows");
    }
    line
}

fn fill(into: &mut FileInfo, info: &Info) {
    into.file_attributes = info.attributes;
    into.reparse_tag = info.reparse_tag;
    into.allocation_size = info.allocation;
    into.file_size = info.size;
    into.creation_time = info.created;
    into.last_access_time = info.accessed;
    into.last_write_time = info.written;
    into.change_time = info.changed;
    into.index_number = info.index;
    into.hard_links = 0;
    into.ea_size = 0;
}

/// Without room nothing is written: whoever only asks whether it is one gives none.
fn put(bytes: &[u8], into: &mut [u8]) -> Result<u64> {
    if into.is_empty() {
        return Ok(0);
    }
    let room = into.get_mut(..bytes.len()).ok_or(Status::BUFFER_TOO_SMALL)?;
    room.copy_from_slice(bytes);
    Ok(bytes.len() as u64)
}
