//! What a drive costs without a kernel before it: single operations on a mounted cache over a share in
//! memory, all of them of what is here. `cargo bench --bench inner`.
#![allow(clippy::unwrap_used)]

#[path = "../cache/tests/harness/mod.rs"]
mod harness;

use covefs_cache::{Ino, RenameMode, Vfs};
use criterion::{Criterion, Throughput};
use harness::{OWNER, READ, Rig, TRUNCATE, WRITE, pattern};
use std::time::Duration;

/// Nothing is looked at again or uploaded while it is measured.
const LATER: Duration = Duration::from_secs(3600);
const NAMES: usize = 1000;
const BIG_BYTES: usize = 32 << 20;

fn main() {
    // `cargo test --benches` only wants to know that it can run.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let rig = Rig::with(|_, config| {
        (config.freshness, config.debounce) = (LATER, LATER);
        config.limit_bytes = 4 << 30;
    });
    let mut criterion = Criterion::default().configure_from_args();
    names(&rig, &mut criterion);
    reads(&rig, &mut criterion);
    writes(&rig, &mut criterion);
    criterion.final_summary();
}

fn names(rig: &Rig, criterion: &mut Criterion) {
    rig.mkdir("dir").unwrap();
    for number in 0..NAMES {
        rig.save(&format!("dir/{number}"), b"some").unwrap();
    }
    let (dir, file) = (rig.find("dir").unwrap().ino, rig.find("dir/500").unwrap().ino);
    let mut group = criterion.benchmark_group("names");
    group.bench_function("attributes", |bench| {
        bench.iter(|| rig.ask(|vfs, asked| vfs.getattr(asked, file, None)).unwrap());
    });
    group.bench_function("look up a name", |bench| {
        bench.iter(|| rig.ask(|vfs, asked| vfs.lookup(asked, dir, b"500")).unwrap());
    });
    group.bench_function("list 1,000 names with attributes", |bench| {
        bench.iter(|| assert_eq!(list(rig, dir), NAMES + 2));
    });
    group.bench_function("rename there and back", |bench| {
        bench.iter(|| {
            for (from, to) in [("500", "moved"), ("moved", "500")] {
                let (from, to) = (from.as_bytes(), to.as_bytes());
                let moved =
                    |vfs: &Vfs, asked| vfs.rename(asked, dir, from, dir, to, RenameMode::Replace);
                rig.ask(moved).unwrap();
            }
        });
    });
    group.bench_function("make, write 4 KiB, close and remove a file", |bench| {
        let bytes = pattern(1, 4096);
        bench.iter(|| {
            let made = |vfs: &Vfs, asked| vfs.create(asked, OWNER, dir, b"new", 0o644, TRUNCATE);
            let fh = rig.ask(made).unwrap().1.fh;
            rig.write_at(fh, 0, &bytes).unwrap();
            rig.vfs().release(fh);
            rig.ask(|vfs, asked| vfs.unlink(asked, dir, b"new")).unwrap();
        });
    });
    group.finish();
}

fn list(rig: &Rig, dir: Ino) -> usize {
    let fh = rig.ask(|vfs, asked| vfs.opendir(asked, dir)).unwrap().fh;
    let mut lines = 0;
    rig.ask(|vfs, asked| {
        vfs.readdir(asked, fh, 0, true, &mut |_| {
            lines += 1;
            false
        })
    })
    .unwrap();
    rig.vfs().releasedir(fh);
    lines
}

fn reads(rig: &Rig, criterion: &mut Criterion) {
    rig.save("big", &pattern(2, BIG_BYTES)).unwrap();
    let ino = rig.find("big").unwrap().ino;
    let mut group = criterion.benchmark_group("reads");
    group.bench_function("open and close", |bench| {
        bench.iter(|| {
            let opened = rig.ask(|vfs, asked| vfs.open(asked, ino, READ)).unwrap();
            rig.vfs().release(opened.fh);
        });
    });
    let fh = rig.open("big", READ).unwrap();
    let mut out = Vec::new();
    for bytes in [4 << 10, 128 << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("read {} KiB", bytes >> 10), |bench| {
            let mut at = 0;
            bench.iter(|| {
                at = (at + bytes as u64) % BIG_BYTES as u64;
                rig.ask(|vfs, asked| vfs.read(asked, fh, at, bytes, &mut out)).unwrap();
            });
        });
    }
    rig.close(fh);
    group.finish();
}

fn writes(rig: &Rig, criterion: &mut Criterion) {
    let fh = rig.open("big", WRITE).unwrap();
    let mut group = criterion.benchmark_group("writes");
    for bytes in [4 << 10, 128 << 10, 1 << 20] {
        let data = pattern(3, bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("write {} KiB over what is there", bytes >> 10), |bench| {
            let mut at = 0;
            bench.iter(|| {
                at = (at + bytes as u64) % BIG_BYTES as u64;
                rig.write_at(fh, at, &data).unwrap();
            });
        });
    }
    rig.close(fh);
    group.finish();
}
