//! The calls of Windows that requests stand for, below one directory, by handles.
#![allow(unsafe_code)]

use crate::smb::list::CLASS;
use crate::smb::wire::{Answer, CHAINED, Op, Open, access, class, options};
use bytes::Bytes;
use smb2::msg::query_info::InfoType;
use smb2::types::FileId;
use smb2::types::status::NtStatus;
use std::collections::HashMap;
use std::ffi::c_void;
use std::fs::OpenOptions;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::*;
use windows_sys::Win32::Foundation::*;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_BACKUP_SEMANTICS, FILE_LIST_DIRECTORY, FILE_READ_ATTRIBUTES, FILE_SHARE_READ,
    FILE_SHARE_WRITE, FILE_TRAVERSE, ReadDirectoryChangesW, SYNCHRONIZE,
};
use windows_sys::Win32::System::IO::{
    CancelIoEx, GetOverlappedResult, IO_STATUS_BLOCK, OVERLAPPED,
};
use windows_sys::Win32::System::Threading::CreateEventW;

/// Classes that have calls of their own, or another one that says more.
const EXTENDED_ATTRIBUTES: u8 = 15;
const FS_ATTRIBUTES: i32 = 5;

/// The name goes when we close it, whoever reads the file still.
const DELETE_AT_ONCE: u32 = 0x1 | 0x2;

/// FILE_READ_ONLY_VOLUME.
const READ_ONLY_VOLUME: u32 = 0x8_0000;

/// File systems that number a file by where its name stands: moved, it would be another one.
const WITHOUT_NUMBERS: [&str; 2] = ["FAT", "exFAT"];

/// Where the root's handle stands in what a rename is told.
const RENAME_ROOT: std::ops::Range<usize> = 8..16;

type Outcome<T> = Result<T, NtStatus>;

/// A directory, and what is open below it.
pub(super) struct Tree {
    root: OwnedHandle,
    opened: Mutex<Opened>,
    /// Nobody can change anything on its disk.
    pub(super) is_read_only: bool,
}

#[derive(Default)]
struct Opened {
    files: HashMap<u64, Arc<File>>,
    last: u64,
}

/// An open entry; of a directory that is watched, the handle by which it is.
struct File {
    handle: OwnedHandle,
    watched: OnceLock<Arc<OwnedHandle>>,
}

impl Tree {
    /// Opens the directory. Others may use it as they like, but neither move nor remove it.
    pub(super) fn open(path: &Path) -> io::Result<Tree> {
        let wanted = FILE_LIST_DIRECTORY | FILE_TRAVERSE | FILE_READ_ATTRIBUTES | SYNCHRONIZE;
        let root = OpenOptions::new()
            .access_mode(wanted)
            .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path)?;
        if !root.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let root = OwnedHandle::from(root);
        let volume = query_volume(&root, FS_ATTRIBUTES, 256).unwrap_or_default();
        let flags = volume.first_chunk().map_or(0, |flags| u32::from_le_bytes(*flags));
        let (units, _) = volume.get(12..).unwrap_or_default().as_chunks();
        let kind: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        let kind = String::from_utf16_lossy(&kind);
        if WITHOUT_NUMBERS.iter().any(|known| kind.starts_with(known)) {
            let text = format!("{kind} has no lasting numbers of files; NTFS and ReFS have");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let is_read_only = flags & READ_ONLY_VOLUME != 0;
        Ok(Tree { root, opened: Mutex::default(), is_read_only })
    }

    /// Makes these calls in this order. Chained ones are about what the one before was about; what follows an
    /// entry that could not be opened fails as that did.
    pub(super) fn run(&self, ops: Vec<Op>) -> Vec<Outcome<Answer>> {
        let mut chained = Err(NtStatus::INVALID_PARAMETER);
        let mut came = Vec::with_capacity(ops.len());
        for op in ops {
            came.push(match op {
                Op::Create { wire, open } => {
                    chained = create(&self.root, &wire, &open).map(|handle| self.keep(handle));
                    chained.map(Answer::Opened)
                }
                op => {
                    chained = which(about(&op), chained);
                    chained.and_then(|file| self.call(op, file))
                }
            });
        }
        came
    }

    fn call(&self, op: Op, id: FileId) -> Outcome<Answer> {
        if let Op::Close(_) = op {
            return self.close(id);
        }
        let file = self.find(id)?;
        let bytes = match op {
            Op::Query { of, class, about, bytes, .. } => {
                query(&file.handle, of, class, about, bytes)?
            }
            Op::Read { offset, length, .. } => read(&file.handle, offset, length)?,
            Op::List { restarts, bytes, .. } => list(&file.handle, restarts, bytes)?,
            Op::Set { of, class, about, buffer, .. } => {
                self.set(&file.handle, of, class, about, &buffer)?;
                return Ok(Answer::Done);
            }
            Op::Write { offset, data, .. } => {
                write(&file.handle, offset, &data)?;
                return Ok(Answer::Done);
            }
            Op::Flush(_) => {
                flush(&file.handle)?;
                return Ok(Answer::Done);
            }
            Op::Create { .. } | Op::Close(_) | Op::Notify { .. } | Op::Control { .. } => {
                return Err(NtStatus::NOT_SUPPORTED);
            }
        };
        Ok(Answer::Bytes(bytes.into()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, handle: OwnedHandle) -> FileId {
        let mut opened = self.lock();
        opened.last += 1;
        let persistent = opened.last;
        opened.files.insert(persistent, Arc::new(File { handle, watched: OnceLock::new() }));
        FileId { persistent, volatile: 0 }
    }

    fn find(&self, file: FileId) -> Outcome<Arc<File>> {
        self.lock().files.get(&file.persistent).cloned().ok_or(NtStatus::FILE_CLOSED)
    }

    fn close(&self, file: FileId) -> Outcome<Answer> {
        let closed = self.lock().files.remove(&file.persistent);
        // Outside of the lock: it may take its time.
        closed.map(|_| Answer::Done).ok_or(NtStatus::FILE_CLOSED)
    }

    fn set(
        &self,
        file: &OwnedHandle,
        of: InfoType,
        number: u8,
        about: u32,
        buffer: &[u8],
    ) -> Outcome<()> {
        let mut told = Aligned::of(buffer);
        match (of, number) {
            (InfoType::Security, _) => {
                // SAFETY: the handle is open; a descriptor as Windows wrote it, whole and aligned.
                checked(unsafe { NtSetSecurityObject(file.as_raw_handle(), about, told.start()) })
            }
            (_, EXTENDED_ATTRIBUTES) => {
                let mut done = IO_STATUS_BLOCK::default();
                let (start, length) = (told.start(), buffer.len() as u32);
                // SAFETY: the handle is open, and the buffer as long as is said.
                checked(unsafe { NtSetEaFile(file.as_raw_handle(), &raw mut done, start, length) })
            }
            (_, class::RENAME) => {
                let root = self.root.as_raw_handle() as u64;
                told.bytes_mut()[RENAME_ROOT].copy_from_slice(&root.to_le_bytes());
                inform(file, FileRenameInformation, &mut told)
            }
            (_, class::DISPOSITION) if buffer == [1] => {
                let mut at_once = Aligned::of(&DELETE_AT_ONCE.to_le_bytes());
                match inform(file, FileDispositionInformationEx, &mut at_once) {
                    // Disks other than NTFS.
                    Err(
                        NtStatus::INVALID_PARAMETER
                        | NtStatus::INVALID_INFO_CLASS
                        | NtStatus::NOT_SUPPORTED
                        | NtStatus::NOT_IMPLEMENTED
                        | NtStatus::INVALID_DEVICE_REQUEST,
                    ) => inform(file, FileDispositionInformation, &mut told),
                    done => done,
                }
            }
            (_, number) => inform(file, i32::from(number), &mut told),
        }
    }

    /// Begins to wait for the next changes below an open directory.
    pub(super) fn watch(&self, file: FileId, filter: u32, bytes: u32) -> io::Result<Watching> {
        let file = self.find(file).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        let handle = match file.watched.get() {
            Some(handle) => handle.clone(),
            None => {
                // Not for one call after the other: those of the other handle would wait for this one.
                let open =
                    Open { access: access::READ, options: options::DIRECTORY, ..Open::existing(0) };
                let opened = create(&file.handle, "", &open)
                    .map_err(|status| io::Error::other(status.to_string()))?;
                file.watched.get_or_init(|| Arc::new(opened)).clone()
            }
        };
        Watching::begin(handle, filter, bytes)
    }
}

/// The file that a request names; of an opening one, none yet.
fn about(op: &Op) -> FileId {
    match op {
        Op::Create { .. } => CHAINED,
        Op::Close(file) | Op::Flush(file) => *file,
        Op::Query { file, .. }
        | Op::Set { file, .. }
        | Op::Read { file, .. }
        | Op::Write { file, .. }
        | Op::List { file, .. }
        | Op::Notify { file, .. }
        | Op::Control { file, .. } => *file,
    }
}

/// The file that is meant.
fn which(file: FileId, chained: Outcome<FileId>) -> Outcome<FileId> {
    if file == CHAINED { chained } else { Ok(file) }
}

/// Bytes as the calls want them: aligned.
struct Aligned {
    words: Vec<u64>,
    length: usize,
}

impl Aligned {
    fn new(length: usize) -> Aligned {
        Aligned { words: vec![0; length.div_ceil(8).max(1)], length }
    }

    fn of(bytes: &[u8]) -> Aligned {
        let mut aligned = Aligned::new(bytes.len());
        aligned.bytes_mut().copy_from_slice(bytes);
        aligned
    }

    fn start(&mut self) -> *mut c_void {
        self.words.as_mut_ptr().cast()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the words are at least as many bytes, all of them initialised.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.length) }
    }

    fn cut(mut self, length: usize) -> Vec<u8> {
        let length = length.min(self.length);
        self.bytes_mut()[..length].to_vec()
    }
}

/// What a call says; a buffer that was too short for all was filled.
fn checked(status: NTSTATUS) -> Outcome<()> {
    let status = NtStatus(status as u32);
    let is_done = (status.0 as i32) >= 0 || status == NtStatus::BUFFER_OVERFLOW;
    if is_done { Ok(()) } else { Err(status) }
}

/// Opens what has this name below `root`; an empty one is the root itself. No link is followed.
fn create(root: &OwnedHandle, wire: &str, open: &Open) -> Outcome<OwnedHandle> {
    let mut name: Vec<u16> = wire.encode_utf16().collect();
    let length = u16::try_from(2 * name.len()).map_err(|_| NtStatus::OBJECT_NAME_INVALID)?;
    let name = UNICODE_STRING { Length: length, MaximumLength: length, Buffer: name.as_mut_ptr() };
    let attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: root.as_raw_handle(),
        ObjectName: &raw const name,
        Attributes: OBJ_CASE_INSENSITIVE | OBJ_DONT_REPARSE,
        SecurityDescriptor: null(),
        SecurityQualityOfService: null(),
    };
    let mut options = open.options;
    if open.access & access::SYNCHRONIZE != 0 {
        options |= FILE_SYNCHRONOUS_IO_NONALERT;
    }
    // What moves, removes or makes a name; bytes are flushed as a whole.
    if open.access & access::WRITE == 0 && open.access & access::DELETE != 0 {
        options |= FILE_WRITE_THROUGH;
    }
    let (mut handle, mut done) = (null_mut(), IO_STATUS_BLOCK::default());
    // SAFETY: the root is open; name, attributes and both results live over the call.
    checked(unsafe {
        NtCreateFile(
            &raw mut handle,
            open.access,
            &raw const attributes,
            &raw mut done,
            null(),
            open.attributes,
            open.share,
            open.disposition as u32,
            options,
            null(),
            0,
        )
    })?;
    // SAFETY: a new handle, that nobody else has.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

fn query(file: &OwnedHandle, of: InfoType, number: u8, about: u32, bytes: u32) -> Outcome<Vec<u8>> {
    if of == InfoType::Filesystem {
        return query_volume(file, i32::from(number), bytes);
    }
    let (mut told, mut done) = (Aligned::new(bytes as usize), IO_STATUS_BLOCK::default());
    let (raw, start) = (file.as_raw_handle(), told.start());
    if of == InfoType::Security {
        let mut needed = 0;
        // SAFETY: the handle is open, and the buffer as long as is said.
        checked(unsafe { NtQuerySecurityObject(raw, about, start, bytes, &raw mut needed) })?;
        return Ok(told.cut(needed as usize));
    }
    // SAFETY: as above; results live over the calls, which are synchronous.
    checked(unsafe {
        match number {
            EXTENDED_ATTRIBUTES => {
                NtQueryEaFile(raw, &raw mut done, start, bytes, false, null(), 0, null(), true)
            }
            number => NtQueryInformationFile(raw, &raw mut done, start, bytes, i32::from(number)),
        }
    })?;
    Ok(told.cut(done.Information))
}

fn query_volume(file: &OwnedHandle, number: i32, bytes: u32) -> Outcome<Vec<u8>> {
    let (mut told, mut done) = (Aligned::new(bytes as usize), IO_STATUS_BLOCK::default());
    let (raw, start) = (file.as_raw_handle(), told.start());
    // SAFETY: the handle is open, and the buffer as long as is said.
    checked(unsafe { NtQueryVolumeInformationFile(raw, &raw mut done, start, bytes, number) })?;
    Ok(told.cut(done.Information))
}

fn inform(file: &OwnedHandle, number: i32, told: &mut Aligned) -> Outcome<()> {
    let mut done = IO_STATUS_BLOCK::default();
    let (start, length) = (told.start(), told.length as u32);
    // SAFETY: the handle is open, and the buffer as long as is said.
    checked(unsafe {
        NtSetInformationFile(file.as_raw_handle(), &raw mut done, start, length, number)
    })
}

fn list(file: &OwnedHandle, restarts: bool, bytes: u32) -> Outcome<Vec<u8>> {
    let (mut told, mut done) = (Aligned::new(bytes as usize), IO_STATUS_BLOCK::default());
    let start = told.start();
    // SAFETY: the handle is open and synchronous, and the buffer as long as is said.
    checked(unsafe {
        NtQueryDirectoryFile(
            file.as_raw_handle(),
            null_mut(),
            None,
            null(),
            &raw mut done,
            start,
            bytes,
            CLASS as i32,
            false,
            null(),
            restarts,
        )
    })?;
    Ok(told.cut(done.Information))
}

/// What one call reads.
fn read(file: &OwnedHandle, offset: u64, length: u32) -> Outcome<Vec<u8>> {
    let (mut told, mut done) = (vec![0; length as usize], IO_STATUS_BLOCK::default());
    let (start, offset) = (told.as_mut_ptr().cast(), offset as i64);
    // SAFETY: the handle is open and synchronous, and the buffer as long as is said.
    checked(unsafe {
        NtReadFile(
            file.as_raw_handle(),
            null_mut(),
            None,
            null(),
            &raw mut done,
            start,
            length,
            &raw const offset,
            null(),
        )
    })?;
    told.truncate(done.Information);
    Ok(told)
}

/// Writes all.
fn write(file: &OwnedHandle, mut offset: u64, mut bytes: &[u8]) -> Outcome<()> {
    while !bytes.is_empty() {
        let mut done = IO_STATUS_BLOCK::default();
        let at = offset as i64;
        // SAFETY: the handle is open and synchronous, and the buffer as long as is said.
        checked(unsafe {
            NtWriteFile(
                file.as_raw_handle(),
                null_mut(),
                None,
                null(),
                &raw mut done,
                bytes.as_ptr().cast(),
                bytes.len() as u32,
                &raw const at,
                null(),
            )
        })?;
        if done.Information == 0 {
            return Err(NtStatus::DISK_FULL);
        }
        offset += done.Information as u64;
        bytes = &bytes[done.Information.min(bytes.len())..];
    }
    Ok(())
}

fn flush(file: &OwnedHandle) -> Outcome<()> {
    let mut done = IO_STATUS_BLOCK::default();
    // SAFETY: the handle is open.
    checked(unsafe { NtFlushBuffersFile(file.as_raw_handle(), &raw mut done) })
}

/// A question for changes that is on its way; it ends when this is dropped.
pub(super) struct Watching {
    handle: Arc<OwnedHandle>,
    asked: Option<Box<Asked>>,
}

/// What Windows writes to until the question is answered.
struct Asked {
    handle: Arc<OwnedHandle>,
    event: OwnedHandle,
    told: Aligned,
    state: OVERLAPPED,
    is_over: bool,
}

// SAFETY: the pointers in its state are to itself, and used by one thread at a time.
unsafe impl Send for Asked {}

impl Watching {
    fn begin(handle: Arc<OwnedHandle>, filter: u32, bytes: u32) -> io::Result<Watching> {
        // SAFETY: an event of our own without name; the handle is new.
        let event = unsafe {
            let event = CreateEventW(null(), 1, 0, null());
            if event.is_null() {
                return Err(io::Error::last_os_error());
            }
            OwnedHandle::from_raw_handle(event)
        };
        let (told, state) = (Aligned::new(bytes as usize), OVERLAPPED::default());
        let asking = handle.clone();
        let mut asked = Box::new(Asked { handle: asking, event, told, state, is_over: false });
        asked.state.hEvent = asked.event.as_raw_handle();
        let (start, state) = (asked.told.start(), &raw mut asked.state);
        // SAFETY: buffer and state are on the heap, and stay there until the answer: see `Asked::drop`.
        let begun = unsafe {
            ReadDirectoryChangesW(
                handle.as_raw_handle(),
                start,
                bytes,
                1,
                filter,
                null_mut(),
                state,
                None,
            )
        };
        if begun == 0 {
            let error = io::Error::last_os_error();
            asked.is_over = true;
            return Err(match error.raw_os_error().map(|code| code as u32) {
                Some(ERROR_INVALID_FUNCTION | ERROR_NOT_SUPPORTED) => {
                    io::ErrorKind::Unsupported.into()
                }
                _ => error,
            });
        }
        Ok(Watching { handle, asked: Some(asked) })
    }

    /// What has changed; nothing, where Windows has forgotten some of it.
    pub(super) async fn next(mut self) -> io::Result<Bytes> {
        let asked = self.asked.take().ok_or(io::ErrorKind::NotFound)?;
        match tokio::task::spawn_blocking(move || asked.wait()).await {
            Ok(told) => told,
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // SAFETY: the handle is open. What waits for an answer gets one: that nobody wants it.
        unsafe { CancelIoEx(self.handle.as_raw_handle(), null()) };
    }
}

impl Asked {
    fn wait(mut self: Box<Self>) -> io::Result<Bytes> {
        let mut written = 0;
        let (handle, state) = (self.handle.as_raw_handle(), &raw const self.state);
        // SAFETY: handle and state are those of the question.
        let done = unsafe { GetOverlappedResult(handle, state, &raw mut written, 1) };
        let error = io::Error::last_os_error();
        self.is_over = true;
        match error.raw_os_error().map(|code| code as u32) {
            _ if done != 0 => {
                let length = self.told.length.min(written as usize);
                Ok(Bytes::copy_from_slice(&self.told.bytes_mut()[..length]))
            }
            Some(ERROR_NOTIFY_ENUM_DIR) => Ok(Bytes::new()),
            _ => Err(error),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut written = 0;
        let (handle, state) = (self.handle.as_raw_handle(), &raw const self.state);
        // SAFETY: handle and state are those of the question; after this Windows writes to neither.
        unsafe {
            CancelIoEx(handle, state);
            GetOverlappedResult(handle, state, &raw mut written, 1);
        }
    }
}
