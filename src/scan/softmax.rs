//! One row alone: its largest logit and its normaliser.

use super::error::ScanError;
use super::exponentials::{BLOCK, Masses, Probabilities};
use crate::pmf::{Coin, MAX_VOCAB, Token};
use crate::simd::{self, Kernel, exp2};

/// What turns a row of logits into its softmax, and what tokens are drawn from it by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Softmax {
    pub(super) max: f32,
    /// The logarithm of the denominator.
    pub(super) log_sum: f64,
    /// The sum of `e^(logit − max)` of each block.
    blocks: Box<[f64]>,
}

impl Softmax {
    /// Adds up the exponentials of a row of which [`check`] found the largest logit: in f32 by blocks, the blocks in f64,
    /// so that the normaliser is good to 2e-7. `O(V)`.
    pub fn new(max: f32, logits: &[f32]) -> Self {
        let (whole, rest) = logits.as_chunks::<BLOCK>();
        let mut blocks = Vec::with_capacity(whole.len() + 1);
        simd::run(BlockSums { logits: whole, max, into: &mut blocks });
        let mut block = [0.0; BLOCK];
        simd::run(Probabilities { logits: rest, log_sum: f64::from(max), into: &mut block });
        blocks.push(block[..rest.len()].iter().sum());
        let log_sum = f64::from(max) + blocks.iter().sum::<f64>().ln();
        Softmax { max, log_sum, blocks: blocks.into() }
    }

    /// The probability of a token of this logit.
    pub fn mass(&self, logit: f32) -> f64 {
        let x = f64::from(logit) - self.log_sum;
        simd::run(Masses { draft: x, target: x }).0
    }

    /// A token of the row by inversion: the block by the sums, in it the token by the same exponentials as
    /// [`LogitPair`](super::LogitPair)'s. What has no mass there never comes out. `O(V/BLOCK)`.
    pub fn draw(&self, logits: &[f32], coin: Coin) -> Token {
        let scale = (f64::from(self.max) - self.log_sum).exp();
        let mut below = 0.0;
        for (i, sum) in self.blocks.iter().enumerate() {
            if coin.get() < below + sum * scale
                && let Some(token) = self.draw_in_block(logits, i, coin.get() - below)
            {
                return token;
            }
            below += sum * scale;
        }
        // Rounding kept the sum below the coin: the last token of any mass.
        let last = (0..self.blocks.len()).rev().find_map(|i| self.draw_in_block(logits, i, f64::INFINITY));
        last.expect("the largest logit has mass")
    }

    /// The token of a block at which the sum of the masses exceeds the threshold, or the last of any mass.
    fn draw_in_block(&self, logits: &[f32], i: usize, threshold: f64) -> Option<Token> {
        let logits = logits.chunks(BLOCK).nth(i)?;
        let mut block = [0.0; BLOCK];
        simd::run(Probabilities { logits, log_sum: self.log_sum, into: &mut block });
        let (mut cumulative, mut found) = (0.0, None);
        for (j, &mass) in block[..logits.len()].iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
            cumulative += mass;
            found = Some((i * BLOCK + j) as Token);
            if threshold < cumulative {
                break;
            }
        }
        found
    }
}

/// The sum of `e^(logit − max)` of each block, in f32.
struct BlockSums<'a> {
    logits: &'a [[f32; BLOCK]],
    max: f32,
    into: &'a mut Vec<f64>,
}

impl Kernel for BlockSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        const LANES: usize = 32;
        for block in self.logits {
            let mut sums = [0f32; LANES];
            for logits in block.as_chunks::<LANES>().0 {
                for (sum, &logit) in sums.iter_mut().zip(logits) {
                    *sum += exp2::<FMA>((logit - self.max) * std::f32::consts::LOG2_E);
                }
            }
            self.into.push(sums.iter().map(|&sum| f64::from(sum)).sum());
        }
    }
}

/// Checks a row and finds its largest logit, in one pass.
///
/// # Errors
/// A logit is NaN or +∞, or all are −∞; `row` is its name in the error.
pub(crate) fn check(row: &'static str, logits: &[f32]) -> Result<f32, ScanError> {
    match simd::run(Check(logits)) {
        (max, true) if max > f32::NEG_INFINITY => Ok(max),
        _ => Err(bad_logit(row, logits).unwrap_or(ScanError::AllMasked { row })),
    }
}

/// The largest number of a row, and whether all are below +∞: NaN is not.
struct Check<'a>(&'a [f32]);

impl Kernel for Check<'_> {
    type Output = (f32, bool);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (f32, bool) {
        const LANES: usize = 32;
        let (mut lanes, mut refused) = ([f32::NEG_INFINITY; LANES], [0u32; LANES]);
        let (blocks, rest) = self.0.as_chunks::<LANES>();
        for block in blocks {
            for j in 0..LANES {
                lanes[j] = simd::max(block[j], lanes[j]);
                refused[j] |= u32::from(!(block[j] < f32::INFINITY));
            }
        }
        let max = rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |a, &b| simd::max(b, a));
        (max, refused.iter().all(|&refused| refused == 0) && rest.iter().all(|&x| x < f32::INFINITY))
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
