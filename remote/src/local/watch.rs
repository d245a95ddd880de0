//! Changes of directories as the system tells of them (X7): of those that were listed lately.
//!
//! inotify speaks of what is done on this machine: of what others do on an NFS export, or under
//! another mount's pages through a mapping, it knows nothing. What it does not tell, and what there
//! are no watches left for, the next listing finds.
//!
//! A watch is on the directory itself, whatever its path is. When it moves, its path here is wrong,
//! and so are those of all below it: their watches go, which is told as `Change::In`, so that who
//! still wants to know lists them again.

use crate::{Change, ChangeStream, RemotePath};
use futures_util::stream::{self, StreamExt};
use lru::LruCache;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::net::unix::pipe;

/// Directories watched at once: half of what many systems allow to a user. Of more the one that was
/// listed least recently is let go.
const DIRS_MAX: usize = 4096;

/// What is read of the system at once: some hundred changes.
const BUFFER_BYTES: usize = 32 << 10;

const WANTED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Whoever watches the share now.
#[derive(Clone, Default)]
pub(super) struct Watchers(Arc<Mutex<Vec<Weak<Watch>>>>);

/// The watches of one of them.
struct Watch {
    inotify: OwnedFd,
    /// The path of each watch, most recently listed first.
    dirs: Mutex<LruCache<i32, RemotePath>>,
    /// That there are no more watches was said.
    said: AtomicBool,
}

impl Watchers {
    /// The changes from now on; `None` where the system has no more of what that takes.
    pub(super) fn stream(&self) -> Option<ChangeStream> {
        let started = Watch::new().and_then(|watch| {
            // It waits for any descriptor that can be read.
            let ready = pipe::Receiver::from_owned_fd_unchecked(watch.inotify.try_clone()?)?;
            Ok((Arc::new(watch), ready))
        });
        match started {
            Ok((watch, ready)) => {
                self.lock().push(Arc::downgrade(&watch));
                Some(changes(watch, ready))
            }
            Err(error) => {
                tracing::warn!(%error, "nothing tells of changes of the share: listings find them");
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Watch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches an open directory from now on, for everybody. Where that cannot be, it is not.
    pub(super) fn arm(&self, dir: BorrowedFd<'_>, path: &RemotePath) {
        let watching: Vec<Arc<Watch>> = {
            let mut all = self.lock();
            all.retain(|watch| watch.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        watching.iter().for_each(|watch| watch.arm(dir, path));
    }
}

impl Watch {
    fn new() -> io::Result<Watch> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let many = NonZeroUsize::new(DIRS_MAX).expect("it is not zero");
        Ok(Watch { inotify, dirs: Mutex::new(LruCache::new(many)), said: AtomicBool::new(false) })
    }

    fn dirs(&self) -> std::sync::MutexGuard<'_, LruCache<i32, RemotePath>> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Through the descriptor: no rename or symlink leads to another directory than is listed.
    fn arm(&self, dir: BorrowedFd<'_>, path: &RemotePath) {
        let at = format!("/proc/self/fd/{}", dir.as_raw_fd());
        // Held, so that no event of a watch comes before its path is known.
        let mut dirs = self.dirs();
        match inotify::add_watch(&self.inotify, at, WANTED) {
            Ok(number) => {
                let dropped = dirs.push(number, path.clone());
                if let Some((oldest, _)) = dropped.filter(|(oldest, _)| *oldest != number) {
                    self.let_go(oldest);
                }
            }
            Err(errno) if !self.said.swap(true, Ordering::Relaxed) => {
                let why = match errno {
                    Errno::NOSPC => "fs.inotify.max_user_watches is used up".into(),
                    errno => errno.to_string(),
                };
                tracing::warn!(%path, why, "a directory is not watched: listings find its changes");
            }
            Err(_) => {}
        }
    }

    fn let_go(&self, number: i32) {
        // The system may have done so already.
        let _ = inotify::remove_watch(&self.inotify, number);
    }

    /// Some of what there is to tell; `WouldBlock` when there is nothing.
    fn read(&self) -> io::Result<Vec<Change>> {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut reader = Reader::new(&self.inotify, buffer.spare_capacity_mut());
        let mut changes = Vec::new();
        loop {
            let event = reader.next()?;
            let name = event.file_name().map(|name| name.to_bytes());
            self.translate(event.wd(), event.events(), name, &mut changes);
            if reader.is_buffer_empty() {
                return Ok(changes);
            }
        }
    }

    fn translate(
        &self,
        number: i32,
        what: ReadFlags,
        name: Option<&[u8]>,
        changes: &mut Vec<Change>,
    ) {
        if what.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT) {
            changes.push(Change::Lost);
        }
        let mut dirs = self.dirs();
        let Some(path) = dirs.peek(&number).cloned() else { return };
        if what.contains(ReadFlags::IGNORED) {
            dirs.pop(&number);
            return;
        }
        changes.push(Change::At(match name {
            Some(name) => path.join(name),
            None => path.clone(),
        }));
        if what.contains(ReadFlags::MOVE_SELF) {
            let astray: Vec<i32> = dirs
                .iter()
                .filter(|(_, other)| other.is_within(&path))
                .map(|(number, _)| *number)
                .collect();
            for number in astray {
                changes.extend(dirs.pop(&number).map(Change::In));
                self.let_go(number);
            }
        }
    }
}

/// The watches live as long as this.
fn changes(watch: Arc<Watch>, ready: pipe::Receiver) -> ChangeStream {
    let next = |(watch, ready): (Arc<Watch>, pipe::Receiver)| async {
        match next(&watch, &ready).await {
            Ok(changes) => Some((stream::iter(changes), (watch, ready))),
            Err(error) => {
                tracing::warn!(%error, "changes of the share are not told any more");
                None
            }
        }
    };
    stream::unfold((watch, ready), next).flatten().boxed()
}

async fn next(watch: &Watch, ready: &pipe::Receiver) -> io::Result<Vec<Change>> {
    loop {
        ready.readable().await?;
        match ready.try_io(|| watch.read()) {
            Ok(changes) if changes.is_empty() => {}
            Err(error) if is_passing(&error) => {}
            read => return read,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
