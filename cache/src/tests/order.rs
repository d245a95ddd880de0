//! Rules that random runs do not see broken: when a delete is sent, and that room is refused.

use super::rig::*;
use crate::config::MinFree;
use crate::disk::{Disk, MemoryDisk};
use crate::limits;
use covefs_remote::fault::{Fault, Rule};
use std::time::Duration;

/// rule S3: what was moved by copy and delete is never missing on the share: were this machine lost
/// in between, the file would be.
#[test]
fn a_delete_is_sent_after_the_upload_that_it_stands_behind() {
    let rig = Rig::with(&[("a", pattern(1, 1000))]);
    let bytes = rig.read("a").unwrap();
    let slow = Fault::Delay(Duration::from_secs(2));
    rig.remote.inject(Rule::new("replace", slow));
    let fh = rig.create("b", WRITE).unwrap();
    rig.write_at(fh, 0, &bytes).unwrap();
    rig.close(fh);
    rig.rm("a").unwrap();
    rig.pause(Duration::from_secs(1));
    assert_eq!((rig.there("a"), rig.there("b")), (Some(bytes.clone()), None));
    rig.sync().unwrap();
    assert_eq!((rig.there("a"), rig.there("b")), (None, Some(bytes)));
}

/// rule E1: more is written, and read, than the limit holds.
#[test]
fn allocated_bytes_never_pass_the_limit() {
    stay_within_the_limit(Rig::with(&[]));
}

/// The same where only whole contents give their room back.
#[test]
fn allocated_bytes_never_pass_the_limit_without_holes() {
    let rig = Rig::with(&[]);
    rig.disk.make_no_holes();
    stay_within_the_limit(rig);
}

fn stay_within_the_limit(mut rig: Rig) {
    rig.stop();
    rig.config.limit_bytes = limits::CACHE_FLOOR;
    rig.start();
    let within = |rig: &Rig, what: &str| {
        let taken = rig.allocated();
        assert!(taken <= limits::CACHE_FLOOR, "{taken} bytes after {what}");
    };
    const MIB: usize = 1 << 20;
    for file in 0..3 {
        let name = format!("file-{file}");
        let fh = rig.create(&name, WRITE).unwrap();
        for part in 0..25 {
            rig.write_at(fh, (part * MIB) as u64, &pattern(file, MIB)).unwrap();
            within(&rig, "a write");
        }
        rig.close(fh);
    }
    rig.sync().unwrap();
    for file in 0..3 {
        let fh = rig.open(&format!("file-{file}"), READ).unwrap();
        for part in 0..25 {
            let bytes = rig.read_at(fh, (part * MIB) as u64, MIB).unwrap();
            assert!(bytes == pattern(file, MIB), "part {part} of file-{file} is another one");
            within(&rig, "a read");
        }
        rig.close(fh);
    }
}

/// What is to stay free of the disk stays free, and is given back when others fill the disk.
#[test]
fn min_free_is_kept() {
    const MIB: u64 = 1 << 20;
    let mut rig = Rig::with(&[("a", pattern(1, 3 << 20)), ("b", pattern(2, 3 << 20))]);
    rig.stop();
    rig.disk = MemoryDisk::new(40 * MIB);
    rig.config.limit_bytes = limits::CACHE_FLOOR;
    let free = rig.disk.space().unwrap().free;
    rig.start();
    let taken = free - rig.disk.space().unwrap().free;
    rig.config.min_free = MinFree::Bytes(free - taken - 4 * MIB);
    rig.stop();
    rig.start();
    for name in ["a", "b"] {
        rig.read(name).unwrap();
        rig.pause(Duration::from_secs(5));
    }
    let left = rig.disk.space().unwrap().free;
    assert!(left >= free - taken - 4 * MIB, "{left} bytes are free");
    let reads = rig.remote.bytes_read();
    rig.read("b").unwrap();
    assert_eq!(rig.remote.bytes_read(), reads, "what there is room for is kept");
    // More is to stay free, as if others had filled the disk: what is clean goes.
    rig.config.min_free = MinFree::Bytes(free - taken);
    rig.stop();
    rig.start();
    rig.pause(Duration::from_secs(5));
    let left = rig.disk.space().unwrap().free;
    assert!(left + MIB / 4 >= free - taken, "{left} bytes are free");
}

/// rule D3: killed at any moment of an eviction, no hole is read as bytes, on a disk too that cannot tell
/// the two apart.
#[test]
fn a_hole_is_made_after_its_absence_is_durable() {
    let bytes = pattern(1, 300_000);
    for ops in 0..8 {
        let mut rig = Rig::with(&[("a", bytes.clone())]);
        rig.disk.hide_holes();
        rig.read("a").unwrap();
        rig.pause(Duration::from_secs(5));
        rig.settle().unwrap();
        rig.index_is_durable();
        // While it is open its data file stays, and gets holes.
        let _open = rig.open("a", READ).unwrap();
        rig.disk.kill_after_ops(ops);
        let _ = rig.evict("a");
        rig.stop();
        rig.disk.crash();
        // It has what was flushed, and nothing since.
        (0..20).for_each(|seed| rig.index.lose_unflushed(seed));
        rig.start();
        assert!(rig.read("a").unwrap() == bytes, "killed at change {ops}: other bytes");
    }
}

/// What the tests below read at once.
const SIZE: usize = 4_000_000;

/// Where the disk makes no holes a content goes whole, killed at any moment: what was dropped comes from
/// the share again, never as zeros.
#[test]
fn a_content_goes_whole_where_there_are_no_holes() {
    let bytes = pattern(1, SIZE);
    for ops in 0..8 {
        let mut rig = Rig::with(&[("a", bytes.clone())]);
        rig.disk.make_no_holes();
        let before = rig.allocated();
        rig.read("a").unwrap();
        rig.pause(Duration::from_secs(5));
        rig.settle().unwrap();
        rig.index_is_durable();
        let full = rig.allocated();
        let open = rig.open("a", READ).unwrap();
        // The last one ends in peace.
        if ops < 7 {
            rig.disk.kill_after_ops(ops);
        }
        let evicted = rig.evict("a");
        if ops == 7 {
            evicted.unwrap();
            assert_eq!(rig.allocated(), before, "all of it went");
            let reads = rig.remote.bytes_read();
            assert!(rig.read_at(open, 2_000_000, 9_000).unwrap() == bytes[2_000_000..2_009_000]);
            assert!(rig.remote.bytes_read() > reads, "read from the share");
        }
        assert!(full >= before + SIZE as u64);
        rig.stop();
        rig.disk.crash();
        (0..20).for_each(|seed| rig.index.lose_unflushed(seed));
        rig.start();
        assert!(rig.read("a").unwrap() == bytes, "killed at change {ops}: other bytes");
    }
}

/// Of a file that is edited nothing can go there before it is on the share: to drop a part would take
/// the edit along.
#[test]
fn an_edited_content_stays_where_there_are_no_holes() {
    let mut bytes = pattern(1, SIZE);
    let rig = Rig::with(&[("a", bytes.clone())]);
    rig.disk.make_no_holes();
    rig.read("a").unwrap();
    rig.remote.offline(true);
    rig.edit("a", 2_000_000, &[7; 100]).unwrap();
    bytes[2_000_000..2_000_100].fill(7);
    assert_eq!(rig.evict("a").unwrap(), 0);
    assert!(rig.read("a").unwrap() == bytes);
    rig.remote.offline(false);
    rig.until_online();
    rig.sync().unwrap();
    assert!(rig.evict("a").unwrap() >= SIZE as u64);
    assert!(rig.read("a").unwrap() == bytes && rig.there("a").unwrap() == bytes);
}
