//! What the demo claims: each claim is checked where it is made.

use anyhow::{Result, bail};

/// Counts claims that held.
#[derive(Default)]
pub(super) struct Claims(u64);

impl Claims {
    /// Says the claim, or fails with it.
    pub(super) fn hold(&mut self, claim: &str, held: bool) -> Result<()> {
        if !held {
            bail!("the demo found a surprise: it is not so that {claim}");
        }
        self.0 += 1;
        println!("  ok: {claim}");
        Ok(())
    }

    /// How many held.
    pub(super) fn number(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_claim_ends_the_demo() {
        let mut claims = Claims::default();
        claims.hold("one is one", true).unwrap();
        let error = claims.hold("one is two", false).unwrap_err().to_string();
        assert!(error.contains("one is two"), "{error}");
        assert_eq!(claims.number(), 1);
    }
}
