//! What to fetch before it is asked for: pure, one pattern per handle.
//!
//! A first touch fetches what it needs, rounded to blocks. Only proven sequential reading opens a
//! window, as many times as long as what was read so far; a jump closes it. The reference is the on-demand readahead of Linux
//! (mm/readahead.c), with windows made for a network instead of a disk. What was fetched ahead and
//! is gone when its turn comes had no room: the window shrinks, as Linux' does when it thrashes.

use crate::limits;
use std::ops::Range;

/// How one handle reads.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// Where the next sequential read begins.
    next: u64,
    /// What was passed over on the way there: its read may come yet.
    passed: Range<u64>,
    /// Reads in a row that began where the one before ended.
    run: u32,
    /// Their bytes.
    read: u64,
    /// How far ahead to fetch, in bytes.
    window: u64,
    /// Up to where was fetched ahead.
    ahead: u64,
    /// The largest window for which there was room, in bytes.
    room: u64,
}

impl Default for Pattern {
    fn default() -> Self {
        let room = limits::READAHEAD;
        Pattern { next: 0, passed: 0..0, run: 0, read: 0, window: 0, ahead: 0, room }
    }
}

/// Reads that the kernel splits or reorders by this much still count as sequential, or by their own
/// length: two requests are answered at once, in either order.
const SLACK: u64 = 256 << 10;
/// A window is so many times what was read in order: 2 MiB open it as far as it goes.
const TIMES: u64 = 16;
/// Reads in a row that prove a sequential reader.
const PROVEN: u32 = 3;
/// A window that had no room grows again by a byte for so many that are read.
const GROWS_BY: u64 = 16;

impl Pattern {
    /// A read of `range`; returns what to fetch ahead now, maybe nothing.
    pub(crate) fn read(&mut self, range: &Range<u64>, size: u64) -> Range<u64> {
        let asked = range.end - range.start;
        let is_next =
            range.start <= self.next + SLACK.max(asked) && range.start + SLACK >= self.next;
        let was_passed = self.passed.contains(&range.start);
        if self.run > 0 && (is_next || was_passed) {
            if range.start > self.next {
                self.passed = self.next..range.start;
            }
            self.run += 1;
            self.read += asked;
            self.next = self.next.max(range.end);
        } else {
            // A long first read at the beginning is the kernel's own readahead: half a proof.
            let long = range.start == 0 && range.end >= limits::BLOCK;
            let (next, run, room) = (range.end, 1 + u32::from(long), self.room);
            *self = Pattern { next, run, read: asked, room, ..Pattern::default() };
        }
        if self.run < PROVEN || range.end < self.next {
            return 0..0;
        }
        self.room = (self.room + asked / GROWS_BY).min(limits::READAHEAD);
        self.window = (self.read * TIMES).min(self.room);
        if self.window < limits::BLOCK {
            return 0..0;
        }
        // Most of the window is still ahead: one longer fetch later beats many short ones now.
        if self.ahead + limits::FLIGHT.min(self.window / 2) > range.end + self.window {
            return 0..0;
        }
        let start = self.ahead.max(range.end);
        let end = (range.end + self.window).min(size);
        self.ahead = self.ahead.max(end);
        if start < end { start..end } else { 0..0 }
    }

    /// The bytes at `at` are not here, and nothing brings them.
    pub(crate) fn missed(&mut self, at: u64) {
        // Before what was read last, it was passed over: two requests changed places.
        if self.run >= PROVEN && (self.next..self.ahead).contains(&at) {
            self.room = self.window / 2;
            self.window = 0;
            self.ahead = at;
        }
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
        assert!(ahead + limits::FLIGHT >= at + limits::READAHEAD, "the pipe is kept full");
    }

    #[test]
    fn a_window_without_room_shrinks_and_grows_again() {
        const STEP: u64 = 128 << 10;
        let mut pattern = Pattern::default();
        let fetched = |pattern: &mut Pattern, reads: Range<u64>, missing: bool| {
            let mut sum = 0;
            for at in reads.map(|read| read * STEP) {
                if missing {
                    pattern.missed(at);
                }
                let ahead = pattern.read(&(at..at + STEP), SIZE);
                sum += ahead.end - ahead.start;
            }
            sum as f64 / STEP as f64
        };
        let without = fetched(&mut pattern, 0..1000, true);
        assert!(without < 300.0, "{without} fetched for nothing");
        let with = fetched(&mut pattern, 1000..7000, false);
        assert!(with > 5900.0, "{with} of 6000");
        assert_eq!(pattern.room, limits::READAHEAD);
    }

    /// Requests of the kernel, each begun before the one before it was answered, in either order.
    #[test]
    fn requests_that_change_places_are_sequential() {
        let mut pattern = Pattern::default();
        let mut at = 0;
        let mut asked = 0;
        for round in 0..100 {
            let len: u64 = [128 << 10, 256 << 10, 1 << 20][round.min(2)];
            // The kernel doubles what it asks for, up to a bound.
            let second = (len * 2).min(1 << 20);
            for range in [at + len..at + len + second, at..at + len] {
                if range.start >= asked {
                    pattern.missed(range.start);
                }
                let ahead = pattern.read(&range, SIZE);
                asked = asked.max(ahead.end);
            }
            at += len + second;
            assert_eq!(pattern.room, limits::READAHEAD, "round {round}");
            assert!(round < 2 || asked >= at + limits::READAHEAD / 2, "round {round}: {asked}");
        }
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
