//! The one table from the filesystem's kinds of error to NTSTATUS.

use covefs_cache::ErrorKind;

/// What Windows calls the outcome of a request (ntstatus.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status(pub u32);

#[allow(missing_docs)]
#[cfg_attr(not(windows), allow(dead_code))]
impl Status {
    pub(crate) const BUFFER_OVERFLOW: Status = Status(0x8000_0005);
    pub(crate) const BUFFER_TOO_SMALL: Status = Status(0xC000_0023);
    pub(crate) const OBJECT_NAME_INVALID: Status = Status(0xC000_0033);
    pub(crate) const OBJECT_NAME_NOT_FOUND: Status = Status(0xC000_0034);
    pub(crate) const OBJECT_NAME_COLLISION: Status = Status(0xC000_0035);
    pub(crate) const OBJECT_PATH_NOT_FOUND: Status = Status(0xC000_003A);
    pub(crate) const INVALID_PARAMETER: Status = Status(0xC000_000D);
    pub(crate) const INVALID_HANDLE: Status = Status(0xC000_0008);
    pub(crate) const END_OF_FILE: Status = Status(0xC000_0011);
    pub(crate) const ACCESS_DENIED: Status = Status(0xC000_0022);
    pub(crate) const DISK_FULL: Status = Status(0xC000_007F);
    pub(crate) const MEDIA_WRITE_PROTECTED: Status = Status(0xC000_00A2);
    pub(crate) const IO_TIMEOUT: Status = Status(0xC000_00B5);
    pub(crate) const FILE_IS_A_DIRECTORY: Status = Status(0xC000_00BA);
    pub(crate) const NOT_SUPPORTED: Status = Status(0xC000_00BB);
    pub(crate) const DIRECTORY_NOT_EMPTY: Status = Status(0xC000_0101);
    pub(crate) const NOT_A_DIRECTORY: Status = Status(0xC000_0103);
    pub(crate) const CANNOT_DELETE: Status = Status(0xC000_0121);
    pub(crate) const FILE_CLOSED: Status = Status(0xC000_0128);
    pub(crate) const IO_DEVICE_ERROR: Status = Status(0xC000_0185);
    pub(crate) const NOT_A_REPARSE_POINT: Status = Status(0xC000_0275);
    pub(crate) const FILE_TOO_LARGE: Status = Status(0xC000_0904);
    pub(crate) const FILE_IS_OFFLINE: Status = Status(0xC000_0267);
    pub(crate) const NO_EAS_ON_FILE: Status = Status(0xC000_0052);
}

/// What a program sees of an error. No default arm: a new kind has to be thought about here.
pub(crate) fn status(kind: ErrorKind) -> Status {
    match kind {
        ErrorKind::NotFound => Status::OBJECT_NAME_NOT_FOUND,
        // As if the server had closed it: the program opens it again and gets the new version.
        ErrorKind::Stale => Status::FILE_CLOSED,
        ErrorKind::Exists => Status::OBJECT_NAME_COLLISION,
        ErrorKind::NotADirectory => Status::NOT_A_DIRECTORY,
        ErrorKind::IsADirectory => Status::FILE_IS_A_DIRECTORY,
        ErrorKind::NotEmpty => Status::DIRECTORY_NOT_EMPTY,
        ErrorKind::PermissionDenied | ErrorKind::NotPermitted | ErrorKind::Refused => {
            Status::ACCESS_DENIED
        }
        ErrorKind::ReadOnly => Status::MEDIA_WRITE_PROTECTED,
        ErrorKind::NoSpace => Status::DISK_FULL,
        // Too long is invalid too: so does NTFS answer a name of 256 characters.
        ErrorKind::NameInvalid | ErrorKind::NameTooLong => Status::OBJECT_NAME_INVALID,
        // A directory moved into itself.
        ErrorKind::Invalid | ErrorKind::Loop | ErrorKind::OutOfRange => Status::INVALID_PARAMETER,
        ErrorKind::TooLarge => Status::FILE_TOO_LARGE,
        ErrorKind::NoAttribute => Status::NO_EAS_ON_FILE,
        ErrorKind::Unsupported => Status::NOT_SUPPORTED,
        ErrorKind::BadHandle => Status::INVALID_HANDLE,
        ErrorKind::NoData => Status::END_OF_FILE,
        ErrorKind::Offline => Status::FILE_IS_OFFLINE,
        ErrorKind::Timeout => Status::IO_TIMEOUT,
        ErrorKind::Io => Status::IO_DEVICE_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_what_ntfs_would_say() {
        let table = [
            (ErrorKind::NotFound, 0xC000_0034),
            (ErrorKind::Exists, 0xC000_0035),
            (ErrorKind::NotEmpty, 0xC000_0101),
            (ErrorKind::NameTooLong, 0xC000_0033),
            (ErrorKind::NoSpace, 0xC000_007F),
            (ErrorKind::ReadOnly, 0xC000_00A2),
            (ErrorKind::PermissionDenied, 0xC000_0022),
            (ErrorKind::IsADirectory, 0xC000_00BA),
            (ErrorKind::NotADirectory, 0xC000_0103),
            (ErrorKind::Offline, 0xC000_0267),
        ];
        for (kind, expected) in table {
            assert_eq!(status(kind), Status(expected), "{kind:?}");
        }
    }
}
