//! Builds that are broken on purpose, to see that the tests find it: one cargo feature for each
//! invariant, none of them in a build that anybody uses. `ci/broken.sh` makes them one after the other, and
//! fails where the tests pass.

/// What is acknowledged is not journalled (J2).
pub(crate) const JOURNAL: bool = cfg!(feature = "broken-journal");
/// An upload replaces whatever the share has, seen or not (X1).
pub(crate) const VERSION_CHECK: bool = cfg!(feature = "broken-version-check");
/// A share that does not answer counts as one that has nothing.
pub(crate) const UNKNOWN_IS_GONE: bool = cfg!(feature = "broken-unknown-is-gone");
/// The index learns of bytes that no fdatasync covers (D3).
pub(crate) const PRESENT_UNSYNCED: bool = cfg!(feature = "broken-present-unsynced");
/// What is written while an upload runs counts as sent (S1).
pub(crate) const WRITE_DURING_UPLOAD: bool = cfg!(feature = "broken-write-during-upload");
/// A delete does not wait for the uploads acknowledged before it (S3).
pub(crate) const DELETE_FIRST: bool = cfg!(feature = "broken-delete-first");
/// Room is never refused (E1).
pub(crate) const LIMIT: bool = cfg!(feature = "broken-limit");
/// A hole is made before its absence is durable (D2, D3).
pub(crate) const HOLE_FIRST: bool = cfg!(feature = "broken-hole-first");
