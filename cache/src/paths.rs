//! Requests to the share against renames of directories, which change the paths of all below (S4).
//!
//! A rename of a directory takes its paths alone, and only if nothing is under way at or below
//! them: it never queues, so it holds up nobody but for the moment of the rename itself. Everything
//! else shares; whoever finds a rename under way above or below waits for its end.

use covefs_remote::RemotePath;
use std::sync::Mutex;
use tokio::sync::Notify;

/// The paths that requests are under way at.
#[derive(Default)]
pub(crate) struct Paths {
    taken: Mutex<Vec<Taken>>,
    freed: Notify,
}

struct Taken {
    number: u64,
    path: RemotePath,
    alone: bool,
    /// A change of ours, not a look.
    change: bool,
}

/// Paths that are taken until this is dropped.
pub(crate) struct Hold<'a> {
    paths: &'a Paths,
    numbers: Vec<u64>,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.paths.lock().retain(|taken| !self.numbers.contains(&taken.number));
        self.paths.freed.notify_waiters();
    }
}

impl Paths {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Taken>> {
        self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes the paths for a change, alone or shared, unless that has to wait. Two changes of one
    /// path never go on at once: the later would take the earlier for somebody else's.
    pub(crate) fn try_take(&self, wanted: &[RemotePath], alone: bool) -> Option<Hold<'_>> {
        self.try_hold(wanted, alone, true)
    }

    fn try_hold(&self, wanted: &[RemotePath], alone: bool, change: bool) -> Option<Hold<'_>> {
        let mut taken = self.lock();
        // Only what lies below a renamed directory changes its path.
        let meets = |path: &RemotePath, other: &Taken| {
            alone && other.path.is_within(path)
                || other.alone && path.is_within(&other.path)
                || change && other.change && *path == other.path
        };
        if wanted.iter().any(|path| taken.iter().any(|other| meets(path, other))) {
            return None;
        }
        let first = taken.iter().map(|taken| taken.number).max().unwrap_or(0) + 1;
        let numbers: Vec<u64> = (first..).take(wanted.len()).collect();
        for (number, path) in numbers.iter().zip(wanted) {
            taken.push(Taken { number: *number, path: path.clone(), alone, change });
        }
        Some(Hold { paths: self, numbers })
    }

    /// Shares a path; waits while a rename above or below it is under way.
    pub(crate) async fn share(&self, path: &RemotePath) -> Hold<'_> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(hold) = self.try_hold(std::slice::from_ref(path), false, false) {
                return hold;
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_excludes_what_lies_below_and_nothing_else() {
        let paths = Paths::default();
        let at = |text: &str| [RemotePath::parse(text.as_bytes())];
        let below = paths.try_take(&at("a/b/c"), false).unwrap();
        assert!(paths.try_take(&at("a/b"), true).is_none());
        let beside = paths.try_take(&at("a/x"), true).unwrap();
        assert!(paths.try_take(&at("a/x/y"), false).is_none());
        assert!(paths.try_take(&at("a/b"), false).is_some());
        assert!(paths.try_take(&at("a"), false).is_some());
        drop((below, beside));
        assert!(paths.try_take(&at("a/b"), true).is_some());
    }
}
