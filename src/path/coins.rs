//! The coins of one round, each addressed by what it is for.
//!
//! A round of speculative decoding draws drafts, labels, acceptances and residuals. Losslessness needs every one of
//! them to have its own coin, and reproducibility needs each to get the same coin whatever else is in the batch and on
//! whatever device. Both follow from a counter-based generator: a coin is a function of what it is for.

use crate::pmf::Coin;

/// What a coin decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// The next token of a draft.
    Draft,
    /// Which of a drafted token's two virtual tokens it is (path coupling).
    Edge,
    /// The label of a draft, or its own acceptance in the rules that try one draft after the other.
    Label,
    /// An acceptance.
    Accept,
    /// The token that follows the accepted ones.
    Residual,
}

impl Purpose {
    /// All purposes, each at the place of its [`number`](Purpose::number).
    pub const ALL: [Purpose; 5] = [Purpose::Draft, Purpose::Edge, Purpose::Label, Purpose::Accept, Purpose::Residual];

    /// The number of the purpose in an address: part of what makes two machines agree on a coin.
    pub fn number(self) -> u32 {
        match self {
            Purpose::Draft => 0,
            Purpose::Edge => 1,
            Purpose::Label => 2,
            Purpose::Accept => 3,
            Purpose::Residual => 4,
        }
    }
}

/// A source of coins: independent uniform numbers, one for each address.
///
/// Implemented by [`RoundCoins`] and by functions. Asking twice for the same address must give the same coin.
pub trait Coins {
    /// The coin of `purpose` at `depth` tokens below the round's root, for the `draft`-th draft (0 where there is no
    /// draft to tell apart).
    fn coin(&self, purpose: Purpose, depth: usize, draft: usize) -> Coin;
}

impl<F: Fn(Purpose, usize, usize) -> Coin> Coins for F {
    fn coin(&self, purpose: Purpose, depth: usize, draft: usize) -> Coin {
        self(purpose, depth, draft)
    }
}

/// The coins of the round that starts at one position of one request: Philox4x32-10 (Salmon et al. 2011) with the
/// request's seed as the key and the address as the counter.
///
/// The address holds the position at which the round *starts* besides the depth. Two rounds may draft for the same
/// position of the text, and whether the first one got there depends on the coins it used for it; the second must not
/// use them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundCoins {
    /// The request's seed.
    pub seed: u64,
    /// The number of tokens before the round's first.
    pub start: u64,
}

impl Coins for RoundCoins {
    fn coin(&self, purpose: Purpose, depth: usize, draft: usize) -> Coin {
        let what = purpose.number() << 16 | draft as u32;
        let counter = [self.start as u32, (self.start >> 32) as u32, depth as u32, what];
        let [high, low, ..] = philox(counter, [self.seed as u32, (self.seed >> 32) as u32]);
        let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
        Coin::new(bits as f64 * (0.5 * f64::EPSILON)).expect("53 bits times 2⁻⁵³ are in [0, 1)")
    }
}

/// Philox4x32 with ten rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    for _ in 0..10 {
        let (a, b) = (MULTIPLIERS[0] * u64::from(counter[0]), MULTIPLIERS[1] * u64::from(counter[2]));
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that come with the authors' Random123 library.
    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let answer = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox(counter, [0xa409_3822, 0x299f_31d0]), answer);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn every_part_of_the_address_counts() {
        let at = |seed, start, purpose, depth, draft| RoundCoins { seed, start }.coin(purpose, depth, draft);
        let one = at(1, 2, Purpose::Label, 3, 4);
        assert_eq!(one, at(1, 2, Purpose::Label, 3, 4));
        let others = [
            at(0, 2, Purpose::Label, 3, 4),
            at(1 + (1 << 40), 2, Purpose::Label, 3, 4),
            at(1, 1, Purpose::Label, 3, 4),
            at(1, 2 + (1 << 40), Purpose::Label, 3, 4),
            at(1, 2, Purpose::Accept, 3, 4),
            at(1, 2, Purpose::Label, 2, 4),
            at(1, 2, Purpose::Label, 3, 5),
        ];
        assert!(others.iter().all(|other| *other != one));
    }
}
