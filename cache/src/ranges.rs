//! Sets of bytes of a file, as sorted half-open ranges: what is present, dirty, zero, synced.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// A set of `u64` positions. Ranges in it are not empty, do not overlap and do not touch, so two
/// equal sets are equal structures. An empty range given to any method stands for no bytes.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct RangeSet {
    /// Start of each range to its end.
    ranges: BTreeMap<u64, u64>,
    /// Bytes in all of them, kept as a running sum because space is counted by it.
    total: u64,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        RangeSet::default()
    }

    /// Adds a range; says how many bytes were not in the set before.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let Range { mut start, mut end } = range;
        let before = self.total;
        if let Some((&first, &first_end)) = self.ranges.range(..=start).next_back()
            && first_end >= start
        {
            if first_end >= end {
                return 0;
            }
            start = first;
        }
        while let Some((&next, &next_end)) = self.ranges.range(start..=end).next() {
            self.ranges.remove(&next);
            self.total -= next_end - next;
            end = end.max(next_end);
        }
        self.ranges.insert(start, end);
        self.total += end - start;
        self.total - before
    }

    /// Takes a range out; says how many bytes of it were in the set.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let before = self.total;
        if let Some((&first, &first_end)) = self.ranges.range(..range.start).next_back()
            && first_end > range.start
        {
            self.ranges.insert(first, range.start);
            self.total -= first_end - range.start;
            if first_end > range.end {
                self.ranges.insert(range.end, first_end);
                self.total += first_end - range.end;
                return before - self.total;
            }
        }
        while let Some((&next, &next_end)) = self.ranges.range(range.clone()).next() {
            self.ranges.remove(&next);
            self.total -= next_end - next;
            if next_end > range.end {
                self.ranges.insert(range.end, next_end);
                self.total += next_end - range.end;
            }
        }
        before - self.total
    }

    /// Takes out everything from `end` on.
    pub fn truncate(&mut self, end: u64) {
        self.remove(end..u64::MAX);
    }

    /// Takes out everything.
    pub fn clear(&mut self) {
        *self = RangeSet::new();
    }

    /// Whether all of the range is in the set; true of an empty range.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty() || self.first_missing_from(range.start) >= range.end
    }

    /// Whether any byte of the range is in the set.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        self.parts(range).next().is_some()
    }

    /// The parts of the range that are in the set, in order.
    pub fn intersect(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        self.parts(range).collect()
    }

    /// The parts of the range that are not in the set, in order.
    pub fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for part in self.parts(range) {
            if part.start > at {
                gaps.push(at..part.start);
            }
            at = part.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// The first position at or after `at` that is not in the set.
    pub fn first_missing_from(&self, at: u64) -> u64 {
        match self.ranges.range(..=at).next_back() {
            Some((_, &end)) if end > at => end,
            _ => at,
        }
    }

    /// The first position at or after `at` that is in the set.
    pub fn first_present_from(&self, at: u64) -> Option<u64> {
        if self.first_missing_from(at) > at {
            return Some(at);
        }
        self.ranges.range(at..).next().map(|(&start, _)| start)
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + ExactSizeIterator + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges it has.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// How many bytes are in it.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The end of the last range; 0 of an empty set.
    pub fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// Adds all of the other set.
    pub fn union_with(&mut self, other: &RangeSet) {
        if self.ranges.len() >= other.ranges.len() {
            for range in other.iter() {
                self.insert(range);
            }
        } else {
            // The smaller into the bigger: a sync joins a few ranges to a great many.
            let smaller = std::mem::replace(self, other.clone());
            for range in smaller.iter() {
                self.insert(range);
            }
        }
    }

    /// Takes out all of the other set.
    pub fn subtract(&mut self, other: &RangeSet) {
        if self.is_empty() {
            return;
        }
        for range in other.iter() {
            self.remove(range);
        }
    }

    /// What is in both.
    pub fn intersection(&self, other: &RangeSet) -> RangeSet {
        let (few, many) =
            if self.ranges.len() < other.ranges.len() { (self, other) } else { (other, self) };
        few.iter().flat_map(|range| many.intersect(&range)).collect()
    }

    /// Panics where the structure is not what the type's doc says.
    pub fn check_invariants(&self) {
        let mut total = 0;
        let mut last = None;
        for range in self.iter() {
            assert!(range.start < range.end, "empty range {range:?}");
            assert!(last.is_none_or(|end| end < range.start), "touching ranges at {range:?}");
            total += range.end - range.start;
            last = Some(range.end);
        }
        assert_eq!(total, self.total, "the running sum is wrong");
    }

    /// What [`RangeSet::intersect`] lists, without the list.
    fn parts(&self, within: &Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let Range { start, end } = *within;
        let first = self.ranges.range(..=start).next_back().map_or(start, |(&first, _)| first);
        self.ranges
            .range(first..)
            .take_while(move |(from, _)| **from < end)
            .map(move |(&from, &to)| from.max(start)..to.min(end))
            .filter(|part| !part.is_empty())
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut set = RangeSet::new();
        set.extend(ranges);
        set
    }
}

impl Extend<Range<u64>> for RangeSet {
    fn extend<T: IntoIterator<Item = Range<u64>>>(&mut self, ranges: T) {
        for range in ranges {
            self.insert(range);
        }
    }
}

impl From<Range<u64>> for RangeSet {
    fn from(range: Range<u64>) -> Self {
        RangeSet::from_iter([range])
    }
}

impl From<RangeSet> for Vec<(u64, u64)> {
    fn from(set: RangeSet) -> Self {
        set.ranges.into_iter().collect()
    }
}

impl TryFrom<Vec<(u64, u64)>> for RangeSet {
    type Error = &'static str;

    fn try_from(pairs: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        let mut set = RangeSet::new();
        for (start, end) in pairs {
            if start >= end {
                return Err("a range ends before it starts");
            }
            set.insert(start..end);
        }
        Ok(set)
    }
}

impl fmt::Debug for RangeSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: u64 = 64;

    fn bits(set: &RangeSet) -> Vec<bool> {
        (0..SPAN).map(|at| set.contains(&(at..at + 1))).collect()
    }

    fn range() -> impl Strategy<Value = Range<u64>> {
        (0..SPAN, 0..SPAN).prop_map(|(a, b)| a.min(b)..a.max(b))
    }

    fn set() -> impl Strategy<Value = RangeSet> {
        prop::collection::vec((any::<bool>(), range()), 0..12).prop_map(|steps| {
            let mut set = RangeSet::new();
            for (add, range) in steps {
                if add {
                    set.insert(range)
                } else {
                    set.remove(range)
                };
            }
            set
        })
    }

    proptest! {
        #[test]
        fn one_set_behaves_as_a_bitmap(steps in prop::collection::vec((0..3, range()), 0..24)) {
            let mut set = RangeSet::new();
            let mut map = vec![false; SPAN as usize];
            for (what, range) in steps {
                let count = |map: &[bool]| map.iter().filter(|bit| **bit).count() as u64;
                let before = count(&map);
                let cut = if what == 2 { range.start..SPAN } else { range.clone() };
                map[cut.start as usize..cut.end as usize].fill(what == 0);
                match what {
                    0 => prop_assert_eq!(set.insert(range), count(&map) - before),
                    1 => prop_assert_eq!(set.remove(range), before - count(&map)),
                    _ => set.truncate(range.start),
                }
                set.check_invariants();
                prop_assert_eq!(&bits(&set), &map);
                prop_assert_eq!(set.total(), count(&map));
                prop_assert_eq!(set.is_empty(), count(&map) == 0);
            }
        }

        #[test]
        fn questions_agree_with_a_bitmap(set in set(), range in range(), at in 0..SPAN) {
            let map = bits(&set);
            let slots = range.start as usize..range.end as usize;
            let inside: RangeSet = set.intersect(&range).into_iter().collect();
            let gaps: RangeSet = set.missing(&range).into_iter().collect();
            for (slot, set) in map.iter().enumerate() {
                let one = slot as u64..slot as u64 + 1;
                let within = slots.contains(&slot);
                prop_assert_eq!(inside.contains(&one), within && *set);
                prop_assert_eq!(gaps.contains(&one), within && !set);
            }
            prop_assert_eq!(set.contains(&range), map[slots.clone()].iter().all(|bit| *bit));
            prop_assert_eq!(set.overlaps(&range), map[slots].iter().any(|bit| *bit));
            let from = |want: bool| (at..SPAN).find(|at| map[*at as usize] == want);
            prop_assert_eq!(set.first_missing_from(at), from(false).unwrap_or(set.end()));
            prop_assert_eq!(set.first_present_from(at), from(true));
        }

        #[test]
        fn two_sets_behave_as_bitmaps(a in set(), b in set()) {
            let both = |op: fn(bool, bool) -> bool| -> Vec<bool> {
                bits(&a).into_iter().zip(bits(&b)).map(|(a, b)| op(a, b)).collect()
            };
            let mut union = a.clone();
            union.union_with(&b);
            let mut rest = a.clone();
            rest.subtract(&b);
            let shared = a.intersection(&b);
            for set in [&union, &rest, &shared] {
                set.check_invariants();
            }
            prop_assert_eq!(bits(&union), both(|a, b| a || b));
            prop_assert_eq!(bits(&rest), both(|a, b| a && !b));
            prop_assert_eq!(bits(&shared), both(|a, b| a && b));
            let bytes = postcard::to_stdvec(&a).unwrap();
            prop_assert_eq!(postcard::from_bytes::<RangeSet>(&bytes).unwrap(), a);
        }
    }

    #[test]
    fn a_damaged_set_is_refused() {
        let bytes = postcard::to_stdvec(&vec![(5u64, 5u64)]).unwrap();
        assert!(postcard::from_bytes::<RangeSet>(&bytes).is_err());
    }
}
