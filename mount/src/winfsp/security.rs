//! Who may use the drive: one security descriptor for all that is in it.
#![allow(unsafe_code)]

use std::io;
use windows::Win32::Foundation::{CloseHandle, HANDLE, HLOCAL, LocalFree};
use windows::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows::Win32::Security::{
    GetTokenInformation, PSECURITY_DESCRIPTOR, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};
use windows::core::{HSTRING, PWSTR};

/// A self-relative security descriptor, by its bytes.
pub(super) struct Descriptor(Vec<u8>);

impl Descriptor {
    /// Full access for the user who mounts, the system and administrators; or for everybody.
    pub(super) fn new(allow_other: bool) -> io::Result<Descriptor> {
        let user = user_sid()?;
        let others = if allow_other { "(A;;FA;;;WD)" } else { "" };
        let text = format!("O:{user}G:{user}D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;{user}){others}");
        from_text(text).map(Descriptor)
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A self-relative security descriptor, by its bytes: full access for the user of this process, the system
/// and administrators, and nobody else; also to what is made in a directory that has it.
pub fn owner_only() -> io::Result<Vec<u8>> {
    let user = user_sid()?;
    from_text(format!("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;{user})"))
}

fn from_text(text: String) -> io::Result<Vec<u8>> {
    let mut found = PSECURITY_DESCRIPTOR::default();
    let mut len = 0;
    // SAFETY: both results live over the call; what it allocates is copied, then freed once.
    unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            &HSTRING::from(text),
            SDDL_REVISION_1,
            &raw mut found,
            Some(&raw mut len),
        )?;
        let bytes = std::slice::from_raw_parts(found.0.cast::<u8>(), len as usize).to_vec();
        LocalFree(Some(HLOCAL(found.0)));
        Ok(bytes)
    }
}

/// The user of this process, as text.
fn user_sid() -> io::Result<String> {
    let mut token = HANDLE::default();
    // Of u64, so that the structure in front of the number is aligned.
    let mut buffer = [0_u64; 32];
    let mut len = 0;
    // SAFETY: the handle is closed once; the buffer is as long as is said, and holds the TOKEN_USER
    // with the number that it points to; the text is copied, then freed once.
    unsafe {
        OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token)?;
        let into = Some(buffer.as_mut_ptr().cast());
        let got =
            GetTokenInformation(token, TokenUser, into, size_of_val(&buffer) as u32, &raw mut len);
        CloseHandle(token)?;
        got?;
        let user = &*buffer.as_ptr().cast::<TOKEN_USER>();
        let mut text = PWSTR::null();
        ConvertSidToStringSidW(user.User.Sid, &raw mut text)?;
        let sid = text.to_string();
        LocalFree(Some(HLOCAL(text.0.cast())));
        sid.map_err(io::Error::other)
    }
}
