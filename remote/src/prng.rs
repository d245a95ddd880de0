//! Random numbers for jitter, names and faults: small, seedable, not for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};

/// An xorshift64* generator.
#[derive(Clone, Debug)]
pub(crate) struct Prng(u64);

impl Prng {
    /// The same seed, the same numbers.
    pub(crate) fn seeded(seed: u64) -> Self {
        // The state must never be zero, and near seeds must not give near beginnings.
        let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Prng(mixed | 1)
    }

    /// Different in every process and at every call.
    pub(crate) fn unseeded() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::Prng;

    #[test]
    fn numbers_stay_below_the_bound_and_differ() {
        let mut prng = Prng::seeded(0);
        let drawn: Vec<u64> = (0..1000).map(|_| prng.below(10)).collect();
        assert!((0..10).all(|wanted| drawn.contains(&wanted)) && drawn.iter().all(|got| *got < 10));
        assert_ne!(Prng::seeded(1).next(), Prng::seeded(2).next());
    }
}
