//! A drive under load whose server is killed every few seconds, and one whose share is full.

use crate::Site;
use crate::common::{
    Entry, Random, Tree, detach, env_number, is_root, pattern, read_tree, same_trees, seed,
    succeed, until,
};
use crate::samba::PLAIN;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// More than any single request may take, the server being there or not.
const HUNG: Duration = Duration::from_secs(30);
const WRITERS: usize = 2;
const NAMES: u64 = 40;
const BYTES_MAX: u64 = 200_000;

/// One program that works in a directory of its own until it is told to stop: what it has there
/// then, how many changes it made, and how long the slowest of them took.
fn work(root: &Path, name: &str, seed: u64, stop: &AtomicBool) -> (Tree, u64, Duration) {
    let mut random = Random::new(seed);
    let (mut tree, mut changes, mut slowest) = (Tree::new(), 0, Duration::ZERO);
    fs::create_dir(root.join(name)).unwrap();
    tree.insert(name.into(), Entry::Dir);
    while !stop.load(Ordering::Relaxed) {
        let path = PathBuf::from(name).join(format!("f{}", random.below(NAMES)));
        let other = PathBuf::from(name).join(format!("f{}", random.below(NAMES)));
        let begin = Instant::now();
        match (random.below(10), tree.contains_key(&path)) {
            (0, true) => {
                fs::remove_file(root.join(&path)).unwrap();
                tree.remove(&path);
            }
            (1..=2, true) if path != other => {
                fs::rename(root.join(&path), root.join(&other)).unwrap();
                let moved = tree.remove(&path).unwrap();
                tree.insert(other, moved);
            }
            (3..=5, true) => {
                let found = fs::read(root.join(&path)).unwrap();
                assert!(tree[&path] == Entry::File(found), "{} is another", path.display());
            }
            _ => {
                let length = random.below(BYTES_MAX) as usize;
                let bytes = pattern(random.next(), length);
                let mut file = fs::File::create(root.join(&path)).unwrap();
                file.write_all(&bytes).unwrap();
                if random.percent(2000) {
                    file.sync_all().unwrap();
                }
                tree.insert(path, Entry::File(bytes));
            }
        }
        slowest = slowest.max(begin.elapsed());
        changes += 1;
        std::thread::park_timeout(Duration::from_millis(random.below(20)));
    }
    (tree, changes, slowest)
}

/// Killed and started again every few seconds, the server loses nothing, and nobody hangs.
/// `COVEFS_STORM_SECONDS=600` for longer.
#[test]
fn a_server_that_is_killed_again_and_again_under_load_loses_nothing() {
    let Some(mut site) = Site::over("killed-server", PLAIN) else { return };
    site.drive.add_argument("--debounce=200ms");
    site.drive.start();
    let seed = seed("storm");
    let mut random = Random::new(seed);
    let (stop, mnt) = (AtomicBool::new(false), site.drive.mnt.clone());
    let length = Duration::from_secs(env_number("COVEFS_STORM_SECONDS", 20));
    let (begin, mut kills) = (Instant::now(), 0);
    let worked: Vec<(Tree, u64, Duration)> = std::thread::scope(|scope| {
        let work_as = |number: usize| {
            let (mnt, stop) = (&mnt, &stop);
            let own = seed.wrapping_add(number as u64);
            scope.spawn(move || work(mnt, &format!("w{number}"), own, stop))
        };
        let workers: Vec<_> = (0..WRITERS).map(work_as).collect();
        while begin.elapsed() < length && !workers.iter().any(|worker| worker.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(random.between(1000, 3500)));
            site.server.kill();
            std::thread::park_timeout(Duration::from_millis(random.below(1500)));
            site.server.run();
            kills += 1;
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let changes: u64 = worked.iter().map(|(_, changes, _)| changes).sum();
    let slowest = worked.iter().map(|(_, _, slowest)| *slowest).max().unwrap();
    assert!(slowest < HUNG, "a request took {slowest:?}");
    let expected: Tree = worked.into_iter().flat_map(|(tree, ..)| tree).collect();
    site.drive.wait_online(true);
    site.drive.sync();
    same_trees("the drive", &expected, &read_tree(&site.drive.mnt));
    let conflicts = site.drive.covefs("conflicts", &["--json"]);
    assert_eq!(conflicts.trim(), "[]", "nobody else was there");
    // What a killed server kept aside is put right by whoever looks.
    let disk = site.server.disk(PLAIN);
    until("nothing of ours is left on the share", Duration::from_secs(60), || {
        let _ = read_tree(&site.drive.mnt);
        let named = read_tree(&disk);
        !named.keys().any(|path| path.to_string_lossy().contains(".~covefs-"))
    });
    same_trees("the share", &expected, &read_tree(&disk));
    println!("{kills} kills, {changes} operations, slowest {slowest:?}: 0 lost, 0 hung");
}

/// What does not fit the share stays here, and goes up once there is room.
#[test]
fn a_full_share_loses_nothing() {
    let Some(mut site) = Site::over("full", PLAIN) else { return };
    if !is_root() || !Path::new("/dev/loop-control").exists() {
        return;
    }
    let image = site.drive.scratch("disk").join("image");
    fs::File::create(&image).unwrap().set_len(48 << 20).unwrap();
    succeed(Command::new("mkfs.ext4").arg("-q").arg(&image), HUNG);
    let disk = site.server.disk(PLAIN);
    succeed(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&disk), HUNG);
    let disk = SmallDisk(disk);
    site.drive.allow("the share is full");
    site.drive.start();
    fs::write(site.at("before"), pattern(1, 100_000)).unwrap();
    site.drive.sync();
    let filler = disk.0.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    for size in [1 << 20, 4096] {
        while file.write_all(&vec![1; size]).is_ok() {}
        let _ = file.sync_all();
    }
    drop(file);
    for number in 0..5 {
        fs::write(site.at(&format!("f{number}")), pattern(number, 1 << 20)).unwrap();
    }
    fs::write(site.at("before"), pattern(2, 150_000)).unwrap();
    let _ = site.drive.try_covefs("sync", &[]);
    until("an upload is refused", Duration::from_secs(60), || {
        let log = fs::read_to_string(site.drive.log_file()).unwrap();
        log.contains("an upload failed") || log.contains("the share is full")
    });
    for number in 0..5 {
        site.same_here(&format!("f{number}"), &pattern(number, 1 << 20));
    }
    site.same_here("before", &pattern(2, 150_000));
    site.same_there("before", &pattern(1, 100_000));
    assert!(site.drive.status()["cache"]["dirty_bytes"].as_u64().unwrap() > 0);
    fs::remove_file(&filler).unwrap();
    site.drive.sync();
    for number in 0..5 {
        site.same_there(&format!("f{number}"), &pattern(number, 1 << 20));
    }
    site.same_there("before", &pattern(2, 150_000));
    site.assert_clean();
    site.drive.unmount();
    site.server.kill();
}

/// A small file system of the test's own, mounted from a file.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        detach(&self.0);
    }
}
