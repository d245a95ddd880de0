//! What to fetch before it is asked for: pure, one pattern per handle.
//!
//! A first touch fetches what it needs, rounded to blocks. Only proven sequential reading grows a
//! window, by doubling; a jump closes it. The reference is the on-demand readahead of Linux
//! (mm/readahead.c), with windows made for a network instead of a disk.

use crate::limits;
use std::ops::Range;

/// How one handle reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pattern {
    /// Where the next sequential read begins.
    next: u64,
    /// Reads in a row that began where the one before ended.
    run: u32,
    /// How far ahead to fetch, in bytes.
    window: u64,
    /// Up to where was fetched ahead.
    ahead: u64,
}

/// Reads that the kernel splits or reorders by this much still count as sequential.
const SLACK: u64 = 256 << 10;
/// Reads in a row that prove a sequential reader.
const PROVEN: u32 = 3;

impl Pattern {
    /// A read of `range`; returns what to fetch ahead now, maybe nothing.
    pub(crate) fn read(&mut self, range: &Range<u64>, size: u64) -> Range<u64> {
        let near = range.start <= self.next + SLACK && range.start + SLACK >= self.next;
        if self.run > 0 && near {
            self.run += 1;
            self.next = self.next.max(range.end);
        } else {
            // A long first read at the beginning is the kernel's own readahead: half a proof.
            let long = range.start == 0 && range.end >= limits::BLOCK;
            *self = Pattern { next: range.end, run: 1 + u32::from(long), ..Pattern::default() };
        }
        if self.run < PROVEN {
            return 0..0;
        }
        let asked = range.end - range.start;
        self.window = (self.window * 2).clamp(asked.max(limits::BLOCK) * 4, limits::READAHEAD);
        // Half of the window is still ahead: one longer fetch later beats many short ones now.
        if self.ahead > range.end + self.window / 2 {
            return 0..0;
        }
        let start = self.ahead.max(range.end);
        let end = (range.end + self.window).min(size);
        self.ahead = self.ahead.max(end);
        if start < end { start..end } else { 0..0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 30;

    #[test]
    fn a_single_read_fetches_nothing_ahead() {
        let mut pattern = Pattern::default();
        assert!(pattern.read(&(0..4096), SIZE).is_empty());
        let mut pattern = Pattern::default();
        assert!(pattern.read(&(1 << 20..(1 << 20) + 4096), SIZE).is_empty());
    }

    #[test]
    fn random_reads_fetch_nothing_ahead() {
        let mut pattern = Pattern::default();
        for step in 0..1000u64 {
            let at = step * 7_919_000_017 % SIZE / 4096 * 4096;
            assert!(pattern.read(&(at..at + 4096), SIZE).is_empty(), "read {step}");
        }
    }

    #[test]
    fn sequential_reads_open_the_window_to_its_bound() {
        let mut pattern = Pattern::default();
        let (mut ahead, mut at) = (0, 0);
        while at < 256 << 20 {
            let range = pattern.read(&(at..at + (128 << 10)), SIZE);
            assert!(range.is_empty() || range.start >= ahead, "nothing is asked for twice");
            ahead = ahead.max(range.end);
            at += 128 << 10;
            assert!(ahead <= at + limits::READAHEAD);
        }
        assert!(ahead >= at + limits::READAHEAD / 2, "the pipe is kept full");
    }

    #[test]
    fn a_jump_closes_the_window_and_the_end_bounds_it() {
        let mut pattern = Pattern::default();
        for step in 0..10u64 {
            pattern.read(&(step * 65536..(step + 1) * 65536), SIZE);
        }
        assert!(pattern.read(&(500 << 20..(500 << 20) + 4096), SIZE).is_empty());
        let mut pattern = Pattern::default();
        for step in 0..3u64 {
            let ahead = pattern.read(&(step * 65536..(step + 1) * 65536), 200 << 10);
            assert!(ahead.end <= 200 << 10);
        }
    }
}
