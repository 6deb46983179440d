//! A checked probability distribution over a vocabulary, and the coins that draw from it.

mod sampling;

use std::fmt;

use rand::distr::{Distribution, StandardUniform};
use rand::{Rng, RngExt};

pub use sampling::Sampling;

use crate::sum::Sum;

/// A token: an index into the vocabulary.
pub type Token = u32;

/// The largest vocabulary accepted, 2²⁰ tokens: four times the largest in use (262,144).
pub const MAX_VOCAB: usize = 1 << 20;

/// How far the sum of probabilities given to [`Pmf::new`] may be from 1.
///
/// Wide enough for a distribution that was normalised in f64 over 2²⁰ tokens, far too narrow for one that was not.
pub const SUM_TOLERANCE: f64 = 1e-9;

/// A uniform random number in `[0, 1)`, the only kind of randomness in this crate.
///
/// Every random step takes its coins as arguments, so that the CPU, a GPU and a recording agree token for token.
/// `rng.random::<Coin>()` draws one.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct Coin(f64);

impl Coin {
    /// The smallest coin, 0.
    pub const ZERO: Coin = Coin(0.0);
    /// The largest coin, the last number below 1: 1 − 2⁻⁵³.
    pub const LAST: Coin = Coin(1.0 - f64::EPSILON / 2.0);

    /// Checks that `value` lies in `[0, 1)`.
    ///
    /// # Errors
    /// [`CoinError`] if it does not, or is NaN.
    pub fn new(value: f64) -> Result<Self, CoinError> {
        if (0.0..1.0).contains(&value) { Ok(Coin(value)) } else { Err(CoinError { value }) }
    }

    /// The number itself.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Distribution<Coin> for StandardUniform {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> Coin {
        // 53 random bits, a multiple of 2⁻⁵³: always below 1.
        Coin(rng.random::<f64>())
    }
}

/// A number that is no coin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoinError {
    value: f64,
}

impl fmt::Display for CoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a coin must be in [0, 1), not {}", self.value)
    }
}

impl std::error::Error for CoinError {}

/// A probability distribution over the tokens `0..len`.
///
/// Every entry is finite and non-negative and they add up to 1 within rounding; owning a `Pmf` is the proof.
#[derive(Clone, Debug, PartialEq)]
pub struct Pmf {
    probabilities: Box<[f64]>,
}

/// Why a [`Pmf`] was refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PmfError {
    /// There are no entries.
    Empty,
    /// There are more than [`MAX_VOCAB`] entries.
    TooLong {
        /// The number of entries.
        len: usize,
    },
    /// A probability or weight is negative, infinite or NaN.
    Weight {
        /// The token.
        token: usize,
        /// The offending value.
        value: f64,
    },
    /// The probabilities do not add up to 1 within [`SUM_TOLERANCE`].
    Sum {
        /// What they add up to.
        sum: f64,
    },
    /// All weights are 0, or they add up to more than f64 holds.
    NoMass {
        /// What they add up to.
        sum: f64,
    },
    /// A logit is NaN or +∞ (−∞ is allowed: a masked token).
    Logit {
        /// The token.
        token: usize,
        /// The offending value.
        value: f64,
    },
    /// Every logit is −∞.
    AllMasked {
        /// The number of logits.
        len: usize,
    },
    /// The token of a point mass is outside the vocabulary.
    Token {
        /// The token.
        token: Token,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// A sampling parameter is outside its range.
    Parameter {
        /// Its name.
        name: &'static str,
        /// The offending value.
        value: f64,
        /// The values allowed.
        range: &'static str,
    },
}

impl fmt::Display for PmfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PmfError::Empty => write!(f, "a distribution needs at least one token"),
            PmfError::TooLong { len } => {
                write!(f, "{len} tokens are more than the {MAX_VOCAB} supported")
            }
            PmfError::Weight { token, value } => {
                write!(f, "the probability of token {token} is {value}; it must be finite and not negative")
            }
            PmfError::Sum { sum } => write!(
                f,
                "the probabilities add up to {sum}, not 1 (unnormalised weights are taken by Pmf::from_weights)"
            ),
            PmfError::NoMass { sum } => {
                write!(f, "the weights add up to {sum}; at least one must be positive and the sum finite")
            }
            PmfError::Logit { token, value } => {
                write!(f, "the logit of token {token} is {value}; it must be finite, or -inf for a masked token")
            }
            PmfError::AllMasked { len } => write!(f, "all {len} logits are -inf: no token is left"),
            PmfError::Token { token, vocab } => {
                write!(f, "token {token} is outside the vocabulary of {vocab}")
            }
            PmfError::Parameter { name, value, range } => {
                write!(f, "{name} is {value}; it must be {range}")
            }
        }
    }
}

impl std::error::Error for PmfError {}

/// A number type that logits come in: f64, f32 and, with feature `half`, f16 and bf16.
pub trait Logit: Copy + sealed::Sealed {
    /// The same number in f64 (exact for every implementor).
    fn to_f64(self) -> f64;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f64 {}
    impl Sealed for f32 {}
    #[cfg(feature = "half")]
    impl Sealed for half::f16 {}
    #[cfg(feature = "half")]
    impl Sealed for half::bf16 {}
}

impl Logit for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}

impl Logit for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

#[cfg(feature = "half")]
impl Logit for half::f16 {
    fn to_f64(self) -> f64 {
        half::f16::to_f64(self)
    }
}

#[cfg(feature = "half")]
impl Logit for half::bf16 {
    fn to_f64(self) -> f64 {
        half::bf16::to_f64(self)
    }
}

impl Pmf {
    /// Takes probabilities that already add up to 1.
    ///
    /// The sum is made 1 within rounding by one division; a sum further from 1 than [`SUM_TOLERANCE`] is refused.
    ///
    /// # Errors
    /// No entries or too many; an entry negative, infinite or NaN; a sum that is not 1.
    pub fn new(probabilities: impl Into<Vec<f64>>) -> Result<Self, PmfError> {
        let probabilities = probabilities.into();
        let sum = checked_sum(&probabilities)?;
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(PmfError::Sum { sum });
        }
        Ok(Self::scaled(probabilities, sum))
    }

    /// Takes non-negative weights of any positive finite sum and normalises them.
    ///
    /// # Errors
    /// No entries or too many; an entry negative, infinite or NaN; a sum that is 0 or infinite.
    pub fn from_weights(weights: impl Into<Vec<f64>>) -> Result<Self, PmfError> {
        let weights = weights.into();
        let sum = checked_sum(&weights)?;
        if !(sum > 0.0 && sum.is_finite()) {
            return Err(PmfError::NoMass { sum });
        }
        Ok(Self::scaled(weights, sum))
    }

    /// The distribution that a decoder samples from: softmax of the logits after temperature and filters,
    /// computed in f64 whatever the type of the logits.
    ///
    /// `O(V)`; with top-k or top-p on average.
    ///
    /// # Errors
    /// No entries or too many; a logit NaN or +∞; all logits −∞; a sampling parameter outside its range.
    pub fn from_logits<L: Logit>(logits: &[L], sampling: &Sampling) -> Result<Self, PmfError> {
        Self::from_weights(sampling.scores(logits)?.into_iter().map(f64::exp).collect::<Vec<_>>())
    }

    /// The distribution that gives each of `vocab` tokens the same probability.
    ///
    /// # Errors
    /// `vocab` is 0 or too large.
    pub fn uniform(vocab: usize) -> Result<Self, PmfError> {
        check_len(vocab)?;
        Ok(Self::scaled(vec![1.0; vocab], vocab as f64))
    }

    /// The distribution that gives `token` probability 1.
    ///
    /// # Errors
    /// `vocab` is 0 or too large, or `token` is outside it.
    pub fn point(vocab: usize, token: Token) -> Result<Self, PmfError> {
        check_len(vocab)?;
        let mut probabilities = vec![0.0; vocab];
        *probabilities.get_mut(token as usize).ok_or(PmfError::Token { token, vocab })? = 1.0;
        Ok(Self::scaled(probabilities, 1.0))
    }

    fn scaled(mut weights: Vec<f64>, sum: f64) -> Self {
        if sum != 1.0 {
            for weight in &mut weights {
                *weight /= sum;
            }
        }
        Pmf { probabilities: weights.into() }
    }

    /// The size of the vocabulary, tokens of probability 0 included.
    pub fn vocab(&self) -> usize {
        self.probabilities.len()
    }

    /// The probability of `token`; `None` outside the vocabulary.
    pub fn get(&self, token: Token) -> Option<f64> {
        self.probabilities.get(token as usize).copied()
    }

    /// All probabilities, by token.
    pub fn as_slice(&self) -> &[f64] {
        &self.probabilities
    }

    /// The number of tokens of positive probability.
    pub fn support(&self) -> usize {
        self.probabilities.iter().filter(|&&p| p > 0.0).count()
    }

    /// The token whose stretch of the cumulative distribution holds `coin`: inverse-CDF sampling, `O(V)`.
    ///
    /// A token of probability 0 never comes out, whatever the coin.
    pub fn pick(&self, coin: Coin) -> Token {
        let mut cumulative = 0.0;
        let mut last = 0;
        for (token, &p) in self.probabilities.iter().enumerate() {
            if p > 0.0 {
                cumulative += p;
                last = token;
                if coin.get() < cumulative {
                    break;
                }
            }
        }
        // Past the loop's end the coin lies above a sum that rounding left below 1: it belongs to the last token.
        last as Token
    }
}

impl Distribution<Token> for Pmf {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> Token {
        self.pick(rng.random())
    }
}

fn check_len(len: usize) -> Result<(), PmfError> {
    match len {
        0 => Err(PmfError::Empty),
        len if len > MAX_VOCAB => Err(PmfError::TooLong { len }),
        _ => Ok(()),
    }
}

fn checked_sum(weights: &[f64]) -> Result<f64, PmfError> {
    check_len(weights.len())?;
    match weights.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
        Some(token) => Err(PmfError::Weight { token, value: weights[token] }),
        None => Ok(Sum::of(weights.iter().copied())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_distribution() {
        assert_eq!(Pmf::new([]), Err(PmfError::Empty));
        assert_eq!(Pmf::new([0.5, -0.5, 1.0]), Err(PmfError::Weight { token: 1, value: -0.5 }));
        assert!(matches!(Pmf::new([0.5, f64::NAN]), Err(PmfError::Weight { token: 1, .. })));
        assert!(matches!(Pmf::new([f64::INFINITY]), Err(PmfError::Weight { token: 0, .. })));
        assert!(matches!(Pmf::new([0.5, 0.4]), Err(PmfError::Sum { .. })));
        assert!(matches!(Pmf::from_weights([0.0, 0.0]), Err(PmfError::NoMass { .. })));
        assert!(matches!(Pmf::from_weights([f64::MAX, f64::MAX]), Err(PmfError::NoMass { .. })));
        assert!(matches!(Pmf::uniform(MAX_VOCAB + 1), Err(PmfError::TooLong { .. })));
        assert!(matches!(Pmf::point(3, 3), Err(PmfError::Token { token: 3, vocab: 3 })));
        let default = Sampling::default();
        assert!(matches!(Pmf::from_logits(&[0.0, f64::NAN], &default), Err(PmfError::Logit { token: 1, .. })));
        assert!(matches!(Pmf::from_logits(&[f32::INFINITY], &default), Err(PmfError::Logit { token: 0, .. })));
        assert_eq!(Pmf::from_logits(&[f32::NEG_INFINITY; 4], &default), Err(PmfError::AllMasked { len: 4 }));
        for sampling in [
            Sampling { temperature: -1.0, ..default },
            Sampling { temperature: f64::NAN, ..default },
            Sampling { top_k: Some(0), ..default },
            Sampling { top_p: Some(1.5), ..default },
            Sampling { min_p: Some(f64::NAN), ..default },
        ] {
            assert!(matches!(Pmf::from_logits(&[0.0], &sampling), Err(PmfError::Parameter { .. })));
        }
    }

    #[test]
    fn impossible_tokens_never_come_out() {
        let pmf = Pmf::new([0.0, 0.1, 0.0, 0.9 - 1e-13, 1e-13, 0.0]).unwrap();
        assert_eq!(pmf.pick(Coin::ZERO), 1);
        assert_eq!(pmf.pick(Coin::LAST), 4);
        assert_eq!(Pmf::point(3, 1).unwrap().pick(Coin::LAST), 1);
        for i in 0..1000 {
            let token = pmf.pick(Coin::new(f64::from(i) / 1000.0).unwrap());
            assert!(pmf.get(token).unwrap() > 0.0);
        }
    }

    #[test]
    fn coins_are_below_one() {
        assert!(Coin::new(1.0).is_err() && Coin::new(-0.1).is_err() && Coin::new(f64::NAN).is_err());
        assert_eq!(Coin::new(Coin::LAST.get()), Ok(Coin::LAST));
    }

    #[cfg(feature = "half")]
    #[test]
    fn half_precision_logits_are_normalised_in_f64() {
        let logits = [0.5, -1.25, 3.0].map(half::f16::from_f64);
        let wide = logits.map(|l| l.to_f64());
        let default = Sampling::default();
        assert_eq!(Pmf::from_logits(&logits, &default), Pmf::from_logits(&wide, &default));
        let brain = logits.map(|l| half::bf16::from_f64(l.to_f64()));
        assert_eq!(Pmf::from_logits(&brain, &default), Pmf::from_logits(&wide, &default));
    }
}
