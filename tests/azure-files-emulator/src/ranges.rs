//! Marks over ranges of bytes: which are written, which were cleared.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a range is marked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// Holds data.
    Written,
    /// Was made a hole.
    Cleared,
}

/// A map from disjoint ranges to marks; neighbours of one mark are merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// start -> (end, mark); ends are exclusive.
    spans: BTreeMap<u64, (u64, Mark)>,
}

impl Ranges {
    /// Forgets what `start..end` was marked as.
    pub fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let before = self.spans.range(..start).next_back().map(|(at, span)| (*at, *span));
        if let Some((at, (stop, mark))) = before.filter(|(_, (stop, _))| *stop > start) {
            self.spans.insert(at, (start, mark));
            if stop > end {
                self.spans.insert(end, (stop, mark));
            }
        }
        let inside: Vec<u64> = self.spans.range(start..end).map(|(at, _)| *at).collect();
        for at in inside {
            let removed = self.spans.remove(&at);
            if let Some((stop, mark)) = removed.filter(|(stop, _)| *stop > end) {
                self.spans.insert(end, (stop, mark));
            }
        }
    }

    /// Marks `start..end`, whatever it was before.
    pub fn mark(&mut self, start: u64, end: u64, mark: Mark) {
        if start >= end {
            return;
        }
        self.remove(start, end);
        let (mut first, mut last) = (start, end);
        if let Some((at, (stop, kind))) = self.spans.range(..start).next_back()
            && (*stop, *kind) == (start, mark)
        {
            first = *at;
        }
        if let Some((stop, kind)) = self.spans.get(&end).copied()
            && kind == mark
        {
            self.spans.remove(&end);
            last = stop;
        }
        self.spans.insert(first, (last, mark));
    }

    /// Marks as `later` does, over what is marked here.
    pub fn overlay(&mut self, later: &Ranges) {
        for (start, (end, mark)) in &later.spans {
            self.mark(*start, *end, *mark);
        }
    }

    /// The marked ranges within `start..end`, in order, ends exclusive.
    pub fn within(&self, start: u64, end: u64) -> Vec<(u64, u64, Mark)> {
        let before = self.spans.range(..start).next_back();
        let inside = before.into_iter().chain(self.spans.range(start..end.max(start)));
        inside
            .map(|(at, (stop, mark))| ((*at).max(start), (*stop).min(end), *mark))
            .filter(|(at, stop, _)| at < stop)
            .collect()
    }

    /// How many bytes are marked.
    pub fn bytes(&self) -> u64 {
        self.spans.iter().map(|(start, (end, _))| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mark::{Cleared, Written};

    #[test]
    fn marks_are_as_in_an_array() {
        // A plain array says what is right; the operations are of a small generator.
        let mut plain = [None; 64];
        let mut ranges = Ranges::default();
        let mut state = 7u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % bound
        };
        for _ in 0..5000 {
            let start = next(64);
            let end = start + next(65 - start);
            let mark = [None, Some(Written), Some(Cleared)][next(3) as usize];
            plain[start as usize..end as usize].fill(mark);
            match mark {
                Some(mark) => ranges.mark(start, end, mark),
                None => ranges.remove(start, end),
            }
            let mut seen = [None; 64];
            for (at, stop, mark) in ranges.within(0, 64) {
                seen[at as usize..stop as usize].fill(Some(mark));
            }
            assert_eq!(seen, plain);
            let pairs: Vec<_> = ranges.within(0, 64);
            assert!(pairs.windows(2).all(|two| two[0].1 < two[1].0 || two[0].2 != two[1].2));
        }
    }
}
