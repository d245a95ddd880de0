//! Words of the benchmarks: times of steps, and two of them side by side.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Each step is done so often; the median counts.
pub const ROUNDS: usize = 3;

pub fn write_file(path: &Path, bytes: u64, block: &[u8]) {
    let mut file = File::create(path).unwrap();
    (0..bytes / block.len() as u64).for_each(|_| file.write_all(block).unwrap());
}

/// Returns how many bytes there were.
pub fn read_file(path: &Path) -> u64 {
    let (mut buffer, mut bytes) = (vec![0; 128 << 10], 0);
    let mut file = File::open(path).unwrap();
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return bytes,
            count => bytes += count as u64,
        }
    }
}

pub fn time<T>(step: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    step();
    begin.elapsed()
}

pub fn median<T>(mut step: impl FnMut() -> T) -> Duration {
    middle((0..ROUNDS).map(|_| time(&mut step)).collect())
}

pub fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// How fast the second is, as a part of the first one's speed.
pub fn ratio(first: Duration, second: Duration) -> f64 {
    first.as_secs_f64() / second.as_secs_f64()
}

pub fn show_rate(what: &str, bytes: u64, first: Duration, second: Duration) {
    let rate =
        |time: Duration| format!("{:.0} MiB/s", bytes as f64 / 1048576.0 / time.as_secs_f64());
    println!("{what:<44} {:>10} {:>10} {:>7.2}", rate(first), rate(second), ratio(first, second));
}

pub fn show_each(what: &str, count: usize, first: Duration, second: Duration) {
    let each = |time: Duration| format!("{:.1} us", time.as_secs_f64() * 1e6 / count as f64);
    println!("{what:<44} {:>10} {:>10} {:>7.2}", each(first), each(second), ratio(first, second));
}
