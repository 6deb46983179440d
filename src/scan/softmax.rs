//! One row alone: its largest logit and its normaliser.

use super::error::ScanError;
use super::exponentials::{BLOCK, Masses, Probabilities};
use crate::pmf::{Coin, MAX_VOCAB, Token};
use crate::simd::{self, Kernel};

/// What turns a row of logits into its softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Softmax {
    pub(super) max: f32,
    /// The logarithm of the denominator.
    pub(super) log_sum: f64,
}

impl Softmax {
    /// Adds up a row's exponentials in f64. `O(V)`.
    ///
    /// # Errors
    /// A logit is NaN or +∞, or all are −∞; `row` is its name in the error.
    pub fn new(row: &'static str, logits: &[f32]) -> Result<Self, ScanError> {
        if let Some(error) = bad_logit(row, logits) {
            return Err(error);
        }
        let max = checked_max(row, logits)?;
        let mut sum = 0.0;
        let mut block = [0.0; BLOCK];
        for logits in logits.chunks(BLOCK) {
            simd::run(Probabilities { logits, log_sum: f64::from(max), into: &mut block });
            sum += block[..logits.len()].iter().sum::<f64>();
        }
        Ok(Softmax { max, log_sum: f64::from(max) + sum.ln() })
    }

    /// The probability of a token of this logit.
    pub fn mass(self, logit: f32) -> f64 {
        let x = f64::from(logit) - self.log_sum;
        simd::run(Masses { draft: x, target: x }).0
    }

    /// A token of the row by inversion, by the same exponentials as [`LogitPair`]'s: what has no mass there never comes
    /// out. `O(V)`.
    pub fn draw(self, logits: &[f32], coin: Coin) -> Token {
        let mut block = [0.0; BLOCK];
        let (mut cumulative, mut found) = (0.0, 0);
        for (i, logits) in logits.chunks(BLOCK).enumerate() {
            simd::run(Probabilities { logits, log_sum: self.log_sum, into: &mut block });
            for (j, &mass) in block[..logits.len()].iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
                cumulative += mass;
                found = i * BLOCK + j;
                if coin.get() < cumulative {
                    return found as Token;
                }
            }
        }
        // Rounding kept the sum below the coin: the last token of any mass.
        found as Token
    }
}

/// The largest number of a row; NaN is passed over.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 32];
    let (blocks, rest) = row.as_chunks::<32>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = simd::max(x, *lane);
        }
    }
    rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |a, &b| simd::max(b, a))
}

/// [`largest`] of the first `sample` of every `stretch` numbers.
struct Max<'a> {
    row: &'a [f32],
    stretch: usize,
    sample: usize,
}

impl Kernel for Max<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f32 {
        let stretches = self.row.chunks(self.stretch);
        stretches.map(|x| largest(&x[..self.sample.min(x.len())])).fold(f32::NEG_INFINITY, simd::max)
    }
}

/// A large logit of a row, if it has one that is no NaN: the largest of one in 64 of a long row.
pub(super) fn sampled_max(row: &[f32]) -> f32 {
    const ALL: usize = 8192;
    let (stretch, sample) = if row.len() <= ALL { (ALL, ALL) } else { (4096, 64) };
    simd::run(Max { row, stretch, sample })
}

/// The largest logit of a row.
///
/// # Errors
/// It is +∞, all are −∞, or all are NaN or −∞; a NaN beside a finite logit goes unnoticed.
pub(super) fn checked_max(row: &'static str, logits: &[f32]) -> Result<f32, ScanError> {
    match simd::run(Max { row: logits, stretch: MAX_VOCAB, sample: MAX_VOCAB }) {
        f32::NEG_INFINITY => Err(bad_logit(row, logits).unwrap_or(ScanError::AllMasked { row })),
        f32::INFINITY => Err(bad_logit(row, logits).unwrap_or(ScanError::AllMasked { row })),
        max => Ok(max),
    }
}

/// The first logit of a row that is NaN or +∞.
fn bad_logit(row: &'static str, logits: &[f32]) -> Option<ScanError> {
    let token = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY)?;
    Some(ScanError::Logit { row, token, value: logits[token] })
}
