//! A site that is killed between any two of its calls: the next one finds every file, whole, at its name, and
//! puts in order what was left. And somebody who writes to the file between two of its calls.

use super::*;
use crate::{Attrs, Expect, Remote, Round, Source, Version};
use bytes::Bytes;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::time::Instant;
use tokio::runtime::Runtime;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// The life of a site, in calls; far away while it is not armed.
struct Life {
    left: AtomicI64,
    is_over: AtomicBool,
    /// Chains that are being made.
    running: AtomicI64,
    /// It is not killed then, but somebody writes this file, if he can.
    edits: Option<PathBuf>,
    was_edited: AtomicBool,
}

/// What came of a site.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Through,
    Killed,
    Edited,
    /// Nobody could write to the file at that moment.
    Refused,
}

/// A disk that loses its site: what that has open is closed, as by the system.
struct Mortal {
    disk: Mutex<Option<Arc<Disk>>>,
    life: Arc<Life>,
}

struct MortalFolder {
    folder: Folder,
    life: Arc<Life>,
}

fn killed() -> Fail {
    Fail::saying(ErrorKind::Unreachable, "killed")
}

#[async_trait]
impl Dial for MortalFolder {
    async fn dial(&self) -> Outcome<Link> {
        if self.life.edits.is_none() && self.life.is_over.load(Ordering::SeqCst) {
            return Err(killed());
        }
        let root = self.folder.root.clone();
        let tree = Arc::new(Tree::open(&root).map_err(no_root)?);
        let (threads, is_broken) = (self.folder.threads.clone(), AtomicBool::new(false));
        let disk = Arc::new(Disk { tree, threads, is_broken });
        let mortal = Mortal { disk: Mutex::new(Some(disk)), life: self.life.clone() };
        Ok(Link { carrier: Box::new(mortal), ..self.folder.dial().await? })
    }
}

#[async_trait]
impl Carrier for Mortal {
    async fn carry(&self, mut ops: Vec<Op>) -> Outcome<Vec<Outcome<Answer>>> {
        let life = &self.life;
        life.running.fetch_add(1, Ordering::SeqCst);
        let count = ops.len() as i64;
        let mut left = life.left.fetch_sub(count, Ordering::SeqCst).clamp(0, count);
        if let Some(file) = life.edits.as_ref().filter(|_| left < count) {
            let first = !life.is_over.swap(true, Ordering::SeqCst);
            if first && std::fs::write(file, "edit").is_ok() {
                life.was_edited.store(true, Ordering::SeqCst);
            }
            left = count;
        }
        let disk = self.disk.lock().unwrap().clone();
        ops.truncate(left as usize);
        let came = match disk {
            Some(disk) if !ops.is_empty() => disk.carry(ops).await,
            _ => Ok(Vec::new()),
        };
        if left < count {
            life.is_over.store(true, Ordering::SeqCst);
            self.disk.lock().unwrap().take();
        }
        life.running.fetch_sub(1, Ordering::SeqCst);
        if left < count { Err(killed()) } else { came }
    }

    fn is_broken(&self) -> bool {
        self.life.edits.is_none() && self.life.is_over.load(Ordering::SeqCst)
    }

    fn give_up(&self) {}
}

struct Text(&'static str);

#[async_trait]
impl Source for Text {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn data(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.size()).collect()
    }

    fn is_unchanged(&self, _: &Range<u64>) -> bool {
        false
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        Ok(Bytes::from_static(&self.0.as_bytes()[range.start as usize..range.end as usize]))
    }

    async fn next_round(&self) -> Result<Round> {
        Ok(Round::Settled(Attrs::default()))
    }
}

/// What the killed site was at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Replace,
    RenameOver,
    Remove,
}

fn path(name: &str) -> RemotePath {
    RemotePath::parse(name.as_bytes())
}

async fn put(share: &LocalRemote, name: &str, text: &'static str, expect: Expect) -> Version {
    let temp = b".~covefs-0123456789abcdef-1";
    let made = share.replace(&path(name), Arc::new(Text(text)), expect, temp).await;
    made.unwrap().version
}

async fn make(
    share: &LocalRemote,
    change: Change,
    name: &str,
    seen: Version,
    moved: Version,
) -> Result<()> {
    let (at, expect) = (path(name), Expect::Version(seen));
    match change {
        Change::Replace => {
            let temp = b".~covefs-0123456789abcdef-1";
            share.replace(&at, Arc::new(Text("new")), expect, temp).await.map(drop)
        }
        Change::RenameOver => share.rename(&path("ours"), &moved, &at, expect).await.map(drop),
        Change::Remove => share.remove(&at, expect).await,
    }
}

/// A site makes the change, and after so many calls it is killed, or somebody writes to the file.
fn lives(
    root: &Path,
    change: Change,
    name: &str,
    edits: Option<PathBuf>,
    (seen, moved): (Version, Version),
    calls: i64,
) -> End {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let life = Arc::new(Life {
        left: AtomicI64::new(i64::MAX),
        is_over: AtomicBool::new(false),
        running: AtomicI64::new(0),
        edits,
        was_edited: AtomicBool::new(false),
    });
    let folder = Folder { root: root.into(), threads: Arc::new(Semaphore::new(THREADS_MAX)) };
    let scope = LocalRemote::scope(None, false);
    let mortal = Box::new(MortalFolder { folder, life: life.clone() });
    let share = SmbRemote::of(Session::new(scope, mortal), PAGE_ENTRIES, 1);
    runtime.block_on(share.stat(&path(name))).unwrap();
    life.left.store(calls, Ordering::SeqCst);
    let name = name.to_owned();
    let changing = runtime.spawn(async move { make(&share, change, &name, seen, moved).await });
    let end = Instant::now() + LONG;
    let is_done = || {
        let is_dead = life.edits.is_none() && life.is_over.load(Ordering::SeqCst);
        changing.is_finished() || is_dead && life.running.load(Ordering::SeqCst) == 0
    };
    while !is_done() {
        assert!(Instant::now() < end, "neither killed nor through");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    runtime.shutdown_timeout(LONG);
    match (life.is_over.load(Ordering::SeqCst), life.was_edited.load(Ordering::SeqCst)) {
        (false, _) => End::Through,
        (true, true) => End::Edited,
        (true, false) if life.edits.is_some() => End::Refused,
        (true, false) => End::Killed,
    }
}

async fn content(share: &LocalRemote, name: &str) -> Option<Bytes> {
    use futures_util::StreamExt;
    let seen = match share.stat(&path(name)).await {
        Err(error) if error.kind == ErrorKind::NotFound => return None,
        seen => seen.unwrap().version,
    };
    let mut stream = share.read(&path(name), 0..9, &seen).await.unwrap();
    Some(stream.next().await.unwrap().unwrap())
}

async fn names(share: &LocalRemote) -> Vec<String> {
    let page = share.list(&RemotePath::root(), None).await.unwrap();
    page.entries.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect()
}

fn on_disk(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// All that must be so after a site was killed, as the next one finds it.
async fn check(root: &Path, change: Change, name: &str, story: &str) {
    let next = LocalRemote::open(root.to_owned()).unwrap();
    let listed = names(&next).await;
    let found = content(&next, name).await;
    let found = found.as_deref();
    match change {
        Change::Remove => assert!(matches!(found, None | Some(b"old")), "{story}: {found:?}"),
        _ => assert!(matches!(found, Some(b"old" | b"new")), "{story}: {found:?}"),
    }
    assert_eq!(listed.iter().any(|listed| listed == name), found.is_some(), "{story}: {listed:?}");
    // Programs find it too.
    let seen = std::fs::read(root.join(name)).ok();
    assert_eq!(seen.as_deref(), found, "{story}: {:?}", on_disk(root));
    if change == Change::RenameOver && found == Some(b"old") {
        assert_eq!(content(&next, "ours").await.as_deref(), Some(&b"new"[..]), "{story}");
    }
    // What was replaced is not kept beside it, as an edit of somebody else would be.
    put(&next, name, "next", Expect::Any).await;
    assert_eq!(content(&next, name).await.as_deref(), Some(&b"next"[..]), "{story}");
    for left in on_disk(root) {
        assert!(left == name || left == "ours", "{story}: left {left}");
    }
}

/// Makes the change with a cut or an edit at each of its calls, and says what came of it.
fn at_each_call(change: Change, name: &str, edits: bool, check: impl Fn(&Path, End, &str)) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    for calls in 0.. {
        let root = dir.path().join(calls.to_string());
        std::fs::create_dir(&root).unwrap();
        let share = LocalRemote::open(root.clone()).unwrap();
        let seen = runtime.block_on(async {
            let seen = put(&share, name, "old", Expect::Absent).await;
            (seen, put(&share, "ours", "new", Expect::Absent).await)
        });
        let end = lives(&root, change, name, edits.then(|| root.join(name)), seen, calls);
        check(&root, end, &format!("{change:?}, at call {calls}"));
        if end == End::Through {
            assert!(calls > 5, "{change:?}: nothing was cut");
            return;
        }
    }
}

fn killed_everywhere(change: Change, name: &str) {
    let runtime = Runtime::new().unwrap();
    at_each_call(change, name, false, |root, _, story| {
        runtime.block_on(check(root, change, name, story));
    });
}

/// rule X4: what was not seen is neither replaced nor removed.
#[test]
fn an_edit_between_any_two_calls_is_kept() {
    for change in [Change::Replace, Change::RenameOver, Change::Remove] {
        let ends = Mutex::new(Vec::new());
        at_each_call(change, "f", true, |root, end, story| {
            ends.lock().unwrap().push(end);
            let holds = |name: &String| std::fs::read(root.join(name)).unwrap() == b"edit";
            let left = on_disk(root);
            assert!(end != End::Edited || left.iter().any(holds), "{story}: {left:?}");
        });
        let ends = ends.into_inner().unwrap();
        assert!(ends.contains(&End::Edited) && ends.contains(&End::Refused), "{change:?}");
    }
}

// rule X4
#[test]
fn a_site_killed_while_it_replaces_a_file_loses_none() {
    killed_everywhere(Change::Replace, "f");
}

#[test]
fn a_site_killed_while_it_renames_over_a_file_loses_none() {
    killed_everywhere(Change::RenameOver, "f");
}

#[test]
fn a_site_killed_while_it_removes_a_file_leaves_it_or_not() {
    killed_everywhere(Change::Remove, "f");
}

/// So long that it stands aside in a directory of its own.
#[test]
fn a_file_with_a_long_name_is_found_again() {
    killed_everywhere(Change::Replace, &"n".repeat(240));
}

/// rule K3: a disk that hangs takes so many threads and no more.
#[tokio::test(start_paused = true)]
async fn a_hung_disk_is_told_as_one() {
    let threads = Arc::new(Semaphore::new(1));
    let (hang, hung) = std::sync::mpsc::channel::<()>();
    let stuck = tokio::spawn({
        let threads = threads.clone();
        async move { block(&threads, move || hung.recv().is_err()).await }
    });
    while threads.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let (late, ()) = tokio::join!(block(&threads, || ()), async {
        tokio::task::yield_now().await;
        tokio::time::advance(THREAD_WAIT).await;
    });
    assert_eq!(late.unwrap_err().kind, ErrorKind::Timeout);
    drop(hang);
    assert!(stuck.await.unwrap().is_ok_and(|hung| hung));
}
