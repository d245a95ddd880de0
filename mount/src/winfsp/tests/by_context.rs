//! WinFsp's own calls, without its driver: `FileSystemContext`, called directly.
#![allow(unsafe_code)]

use super::rig::Calls;
use crate::options::MountOptions;
use crate::winfsp::context::Context;
use crate::winfsp::facts::{Basic, Info};
use crate::winfsp::volume::Open;
use crate::winfsp::{Answer, Status, host};
use covefs_cache::Vfs;
use std::sync::Arc;
use tokio::runtime::Handle;
use winfsp::filesystem::{
    DirInfo, DirMarker, FileInfo, FileSystemContext, OpenFileInfo, VolumeInfo,
};
use winfsp::{FspError, U16CStr, U16CString};

/// A page of names.
const PAGE_BYTES: usize = 1200;

pub struct Drive {
    pub context: Context,
}

impl Drive {
    pub fn new(vfs: Arc<Vfs>, runtime: Handle, options: &MountOptions) -> Drive {
        let _loaded = winfsp::winfsp_init().unwrap();
        let (ended, _) = std::sync::mpsc::channel();
        Drive { context: host::context(vfs, runtime, options, ended).unwrap() }
    }
}

fn wide(text: &str) -> U16CString {
    U16CString::from_str(text).unwrap()
}

fn answer<T>(result: Result<T, FspError>) -> Answer<T> {
    result.map_err(|error| Status(error.to_ntstatus() as u32))
}

fn info(from: &FileInfo) -> Info {
    Info {
        attributes: from.file_attributes,
        reparse_tag: from.reparse_tag,
        allocation: from.allocation_size,
        size: from.file_size,
        created: from.creation_time,
        accessed: from.last_access_time,
        written: from.last_write_time,
        changed: from.change_time,
        index: from.index_number,
    }
}

/// As WinFsp lays it out: `OpenFileInfo` has no constructor.
#[repr(C)]
struct Raw {
    info: FileInfo,
    name: *mut u16,
    name_len: u16,
}

/// What an opening call fills, and the name that it says.
fn opening<T>(
    call: impl FnOnce(&mut OpenFileInfo) -> Result<T, FspError>,
) -> Answer<(T, Info, Vec<u16>)> {
    let mut name = vec![0_u16; 4096];
    let raw = Raw { info: FileInfo::default(), name: name.as_mut_ptr(), name_len: 0 };
    // SAFETY: the two have one layout, which the size checks; the name has room for any of a test.
    let mut opened = unsafe { std::mem::transmute::<Raw, OpenFileInfo>(raw) };
    let made = answer(call(&mut opened))?;
    name.truncate(usize::from(opened.normalized_name_size()) / 2);
    Ok((made, info(opened.as_ref()), name))
}

impl Drive {
    /// The path that opening says, where it is not the one that was asked for.
    pub fn normalized(&self, path: &str) -> String {
        let opened = opening(|info| self.context.open(&wide(path), 0, 0x80, info));
        let (open, _, name) = opened.unwrap();
        self.context.close(open);
        String::from_utf16(&name).unwrap()
    }
}

impl Calls for Drive {
    fn vfs(&self) -> &Arc<Vfs> {
        &self.context.volume.vfs
    }

    fn open_as(&self, path: &str, wants_dir: Option<bool>, access: u32) -> Answer<(Open, Info)> {
        let path = wide(path);
        let options = wants_dir.map_or(0, |dir| if dir { 0x1 } else { 0x40 });
        // As WinFsp does: the descriptor first.
        let mut descriptor = [0_u8; 1024];
        let room: &mut [std::ffi::c_void] = unsafe {
            // SAFETY: a slice of bytes, for the call.
            std::slice::from_raw_parts_mut(descriptor.as_mut_ptr().cast(), descriptor.len())
        };
        let security = answer(self.context.get_security_by_name(&path, Some(room), |_| None))?;
        assert!(!security.reparse && security.sz_security_descriptor > 20);
        assert_eq!(descriptor[0], 1, "a descriptor of revision 1");
        let (open, info, _) = opening(|info| self.context.open(&path, options, access, info))?;
        assert_eq!(security.attributes, info.attributes);
        Ok((open, info))
    }

    fn create_as(&self, path: &str, is_dir: bool, attributes: u32) -> Answer<(Open, Info)> {
        let options = if is_dir { 0x1 } else { 0x40 };
        let path = wide(path);
        let (open, info, _) = opening(|info| {
            let context = &self.context;
            context.create(&path, options, 0x3, attributes, None, 0, None, false, info)
        })?;
        Ok((open, info))
    }

    fn read(&self, open: &Open, offset: u64, len: usize) -> Answer<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = answer(self.context.read(open, &mut bytes, offset))?;
        bytes.truncate(read as usize);
        Ok(bytes)
    }

    fn put(&self, open: &Open, bytes: &[u8], offset: Option<u64>, limited: bool) -> Answer<u32> {
        let mut info = FileInfo::default();
        let (at, to_end) = (offset.unwrap_or(u64::MAX), offset.is_none());
        let written = answer(self.context.write(open, bytes, at, to_end, limited, &mut info))?;
        assert_eq!(self::info(&info).size, self.info(open)?.size);
        Ok(written)
    }

    fn info(&self, open: &Open) -> Answer<Info> {
        let mut info = FileInfo::default();
        answer(self.context.get_file_info(open, &mut info))?;
        Ok(self::info(&info))
    }

    fn size(&self, open: &Open, size: u64, allocation: bool) -> Answer<Info> {
        let mut info = FileInfo::default();
        answer(self.context.set_file_size(open, size, allocation, &mut info))?;
        Ok(self::info(&info))
    }

    fn overwrite(&self, open: &Open, attributes: u32, replaces: bool) -> Answer<Info> {
        let mut info = FileInfo::default();
        answer(self.context.overwrite(open, attributes, replaces, 0, None, &mut info))?;
        Ok(self::info(&info))
    }

    fn basic(&self, open: &Open, wish: Basic) -> Answer<Info> {
        let mut info = FileInfo::default();
        let (accessed, written) = (wish.accessed, wish.written);
        let context = &self.context;
        let set = context.set_basic_info(open, wish.attributes, 0, accessed, written, 0, &mut info);
        answer(set)?;
        Ok(self::info(&info))
    }

    fn can_delete(&self, open: &Open, path: &str) -> Answer<()> {
        answer(self.context.set_delete(open, &wide(path), true))
    }

    fn cleanup(&self, open: &Open, path: &str, removes: bool) {
        self.context.cleanup(open, Some(&*wide(path)), u32::from(removes));
    }

    fn close(&self, open: Open) {
        self.context.close(open);
    }

    fn rename(&self, open: &Open, from: &str, to: &str, replaces: bool) -> Answer<()> {
        answer(self.context.rename(open, &wide(from), &wide(to), replaces))
    }

    fn page(
        &self,
        open: &Open,
        marker: Option<&str>,
        pattern: Option<&str>,
    ) -> Answer<Vec<(String, Info)>> {
        let (marker, pattern) = (marker.map(wide), pattern.map(wide));
        // SAFETY: a marker is one pointer to a name, or none.
        let marker =
            unsafe { std::mem::transmute::<Option<&U16CStr>, DirMarker<'_>>(marker.as_deref()) };
        let mut buffer = vec![0_u8; PAGE_BYTES];
        let context = &self.context;
        let filled = context.read_directory(open, pattern.as_deref(), marker, &mut buffer);
        Ok(lines(&buffer[..answer(filled)? as usize]))
    }

    fn one(&self, open: &Open, name: &str) -> Answer<String> {
        let mut line = DirInfo::<255>::new();
        answer(self.context.get_dir_info_by_name(open, &wide(name), &mut line))?;
        // SAFETY: plain numbers, as long as it says itself.
        let bytes = unsafe {
            let len = size_of::<DirInfo<255>>();
            std::slice::from_raw_parts((&raw const line).cast::<u8>(), len)
        };
        Ok(lines(bytes).remove(0).0)
    }

    fn reparse(&self, path: &str) -> Answer<Vec<u8>> {
        let mut buffer = vec![0; 16 << 10];
        let path = wide(path);
        let got = answer(self.context.get_reparse_point_by_name(&path, false, &mut buffer))?;
        buffer.truncate(got as usize);
        Ok(buffer)
    }

    fn flush(&self, open: Option<&Open>) -> Answer<()> {
        answer(self.context.flush(open, &mut FileInfo::default()))
    }

    fn space(&self) -> Answer<(u64, u64)> {
        // SAFETY: plain numbers.
        let mut volume: VolumeInfo = unsafe { std::mem::zeroed() };
        answer(self.context.get_volume_info(&mut volume))?;
        Ok((volume.total_size, volume.free_size))
    }
}

/// FSP_FSCTL_DIR_INFO, one behind the other, each at a multiple of 8.
fn lines(buffer: &[u8]) -> Vec<(String, Info)> {
    const HEAD: usize = size_of::<DirInfo<0>>();
    let mut found = Vec::new();
    let mut at = 0;
    while at + HEAD <= buffer.len() {
        let len = usize::from(u16::from_le_bytes([buffer[at], buffer[at + 1]]));
        if len < HEAD {
            break;
        }
        // SAFETY: an entry has a FileInfo at 8, which is plain numbers.
        let facts = unsafe { buffer.as_ptr().add(at + 8).cast::<FileInfo>().read_unaligned() };
        let name = buffer[at + HEAD..at + len].chunks_exact(2);
        let name: Vec<u16> = name.map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        found.push((String::from_utf16(&name).unwrap(), info(&facts)));
        at += len.next_multiple_of(8);
    }
    found
}
