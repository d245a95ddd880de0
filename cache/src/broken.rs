//! Invariants that tests break on purpose, to see that they are looked at: `COVEFS_BROKEN=what` in
//! a build of this crate's own tests breaks one, in any other build nothing does. `ci/broken.sh` breaks
//! one after the other, and fails where the tests pass.

/// What can be broken, by its name in `COVEFS_BROKEN`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    /// What is acknowledged is not journalled (J2).
    Journal,
    /// An upload replaces whatever the share has, seen or not (X1).
    VersionCheck,
    /// A share that does not answer counts as one that has nothing.
    UnknownIsGone,
    /// The index learns of bytes that no fdatasync covers (D3).
    PresentUnsynced,
    /// What is written while an upload runs counts as sent (S1).
    WriteDuringUpload,
    /// A delete does not wait for the uploads acknowledged before it (S3).
    DeleteFirst,
    /// Room is never refused (E1).
    Limit,
    /// A hole is made before its absence is durable (D2, D3).
    HoleFirst,
}

/// Whether this is broken on purpose.
#[cfg(not(test))]
pub(crate) fn is_broken(_: Broken) -> bool {
    false
}

#[cfg(test)]
pub(crate) fn is_broken(what: Broken) -> bool {
    static ASKED: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("COVEFS_BROKEN").ok());
    ASKED.as_ref().is_some_and(|asked| *asked == format!("{what:?}"))
}
