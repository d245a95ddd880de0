//! Finding WinFsp where its installer put it: it is loaded when the first drive is mounted, so that
//! everything else works without.
#![allow(unsafe_code)]

use windows::Win32::System::LibraryLoader::LoadLibraryW;
use windows::Win32::System::Registry::{
    HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RRF_SUBKEY_WOW6432KEY, RegGetValueW,
};
use windows::core::{HSTRING, w};

#[cfg(target_arch = "x86_64")]
const DLL: &str = "winfsp-x64.dll";
#[cfg(target_arch = "aarch64")]
const DLL: &str = "winfsp-a64.dll";

/// Loads WinFsp; says whether it is there.
pub(super) fn load() -> bool {
    if let Some(dir) = dir() {
        let path = HSTRING::from(format!("{dir}\\bin\\{DLL}"));
        // SAFETY: WinFsp's library does nothing when it is loaded but to prepare itself. It stays.
        if let Err(error) = unsafe { LoadLibraryW(&path) } {
            tracing::warn!(%error, %path, "WinFsp is installed and cannot be loaded");
        }
    }
    // Loaded already, or beside the program.
    winfsp::winfsp_init().is_ok()
}

/// Where the installer says that it is.
fn dir() -> Option<String> {
    let mut text = [0_u16; 512];
    let mut len = size_of_val(&text) as u32;
    // SAFETY: at most `len` bytes are written; both numbers and the text live over the call.
    let found = unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            w!("SOFTWARE\\WinFsp"),
            w!("InstallDir"),
            RRF_RT_REG_SZ | RRF_SUBKEY_WOW6432KEY,
            None,
            Some(text.as_mut_ptr().cast()),
            Some(&raw mut len),
        )
    };
    let end = text.iter().position(|unit| *unit == 0)?;
    let dir = String::from_utf16_lossy(&text[..end]);
    found.is_ok().then(|| dir.trim_end_matches('\\').to_owned())
}
