//! The few calls of Windows for which there is no safe library.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use tokio::net::windows::named_pipe::{NamedPipeClient, NamedPipeServer, ServerOptions};
use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_ACCESS_DENIED, GetLastError, HANDLE_FLAG_INHERIT, INVALID_HANDLE_VALUE,
    SetHandleInformation, WAIT_TIMEOUT,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{CreateDirectoryW, SYNCHRONIZE};
use windows_sys::Win32::System::Console::{
    GetStdHandle, STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
};
use windows_sys::Win32::System::Pipes::GetNamedPipeServerProcessId;
use windows_sys::Win32::System::Threading::{OpenProcess, WaitForSingleObject};

/// From now on programs that this one starts do not inherit its standard input and outputs.
pub(super) fn keep_from_children() {
    for which in [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE] {
        // SAFETY: a handle of this process, or none; whether it could be done is of no consequence.
        unsafe {
            let handle = GetStdHandle(which);
            if !handle.is_null() && handle != INVALID_HANDLE_VALUE {
                SetHandleInformation(handle, HANDLE_FLAG_INHERIT, 0);
            }
        }
    }
}

/// Whether there is a process with this number that has not ended.
pub(super) fn is_running(pid: u32) -> bool {
    // SAFETY: the handle is closed once, and used between.
    unsafe {
        let process = OpenProcess(SYNCHRONIZE, 0, pid);
        if process.is_null() {
            return GetLastError() == ERROR_ACCESS_DENIED;
        }
        let running = WaitForSingleObject(process, 0) == WAIT_TIMEOUT;
        CloseHandle(process);
        running
    }
}

/// Calls with security attributes that hold this descriptor, as `owner_only` makes it.
fn with_attributes<T>(descriptor: &[u8], call: impl FnOnce(&mut SECURITY_ATTRIBUTES) -> T) -> T {
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor.as_ptr().cast_mut().cast::<c_void>(),
        bInheritHandle: 0,
    };
    call(&mut attributes)
}

/// An instance of a pipe that only those in the descriptor may open.
pub(super) fn create_pipe(
    name: &str,
    is_first: bool,
    descriptor: &[u8],
) -> io::Result<NamedPipeServer> {
    let mut options = ServerOptions::new();
    options.first_pipe_instance(is_first).reject_remote_clients(true);
    with_attributes(descriptor, |attributes| {
        // SAFETY: the attributes and the descriptor in them live over the call.
        unsafe {
            let attributes = (&raw mut *attributes).cast();
            options.create_with_security_attributes_raw(name, attributes)
        }
    })
}

/// The process at the other end of a pipe.
pub(super) fn server_process(pipe: &NamedPipeClient) -> io::Result<u32> {
    let mut pid = 0;
    // SAFETY: the handle is open, and the number lives over the call.
    let told = unsafe { GetNamedPipeServerProcessId(pipe.as_raw_handle(), &raw mut pid) };
    if told == 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// A new directory that only those in the descriptor may use.
pub(super) fn create_dir(dir: &Path, descriptor: &[u8]) -> io::Result<()> {
    let path: Vec<u16> = dir.as_os_str().encode_wide().chain([0]).collect();
    with_attributes(descriptor, |attributes| {
        // SAFETY: the path ends with a zero; the attributes and the descriptor in them live over the
        // call.
        let made = unsafe { CreateDirectoryW(path.as_ptr(), attributes) };
        if made == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    })
}
