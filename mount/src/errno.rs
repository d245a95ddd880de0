//! The one table from the filesystem's kinds of error to errno.

use covefs_cache::ErrorKind;
use fuser::Errno;

/// What a program sees of an error. No default arm: a new kind has to be thought about here.
pub(crate) fn errno(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::Stale => Errno::ESTALE,
        ErrorKind::Exists => Errno::EEXIST,
        ErrorKind::NotADirectory => Errno::ENOTDIR,
        ErrorKind::IsADirectory => Errno::EISDIR,
        ErrorKind::NotEmpty => Errno::ENOTEMPTY,
        ErrorKind::PermissionDenied => Errno::EACCES,
        ErrorKind::NotPermitted | ErrorKind::Refused => Errno::EPERM,
        ErrorKind::ReadOnly => Errno::EROFS,
        ErrorKind::NoSpace => Errno::ENOSPC,
        ErrorKind::NameInvalid | ErrorKind::Invalid => Errno::EINVAL,
        ErrorKind::NameTooLong => Errno::ENAMETOOLONG,
        // rename(2): EINVAL for a directory moved into itself. ELOOP comes from the kernel, which
        // walks the symlinks.
        ErrorKind::Loop => Errno::EINVAL,
        ErrorKind::TooLarge => Errno::EFBIG,
        ErrorKind::NoAttribute => Errno::NO_XATTR,
        ErrorKind::OutOfRange => Errno::ERANGE,
        // Not ENOSYS: the kernel takes that as "never ask again" for the whole mount.
        ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        ErrorKind::BadHandle => Errno::EBADF,
        ErrorKind::NoData => Errno::ENXIO,
        // Programs know EIO from every disk; ETIMEDOUT from read(2) they have never seen (K3).
        ErrorKind::Offline | ErrorKind::Timeout | ErrorKind::Io => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_what_a_local_disk_would_say() {
        let table = [
            (ErrorKind::NotFound, Errno::ENOENT),
            (ErrorKind::Stale, Errno::ESTALE),
            (ErrorKind::NotPermitted, Errno::EPERM),
            (ErrorKind::PermissionDenied, Errno::EACCES),
            (ErrorKind::NameInvalid, Errno::EINVAL),
            (ErrorKind::Loop, Errno::EINVAL),
            (ErrorKind::NoAttribute, Errno::NO_XATTR),
            (ErrorKind::OutOfRange, Errno::ERANGE),
            (ErrorKind::Unsupported, Errno::EOPNOTSUPP),
            (ErrorKind::BadHandle, Errno::EBADF),
            (ErrorKind::NoData, Errno::ENXIO),
            (ErrorKind::TooLarge, Errno::EFBIG),
        ];
        for (kind, expected) in table {
            assert_eq!(errno(kind).code(), expected.code(), "{kind:?}");
        }
    }

    // rule K3
    #[test]
    fn what_cannot_be_reached_is_an_io_error() {
        for kind in [ErrorKind::Offline, ErrorKind::Timeout, ErrorKind::Io] {
            assert_eq!(errno(kind).code(), Errno::EIO.code(), "{kind:?}");
        }
    }
}
