//! From two rows of f32 logits to prepared selectors, without normalising them.
//!
//! An engine that holds both models' logits need not normalise them first. [`Scan::new`] goes through the two rows
//! together and keeps, for each class of the ratio `p/q`, the draft mass `P` and the target mass `Q` of its tokens:
//!
//! ```text
//! d  = draft logit − target logit                       the log-ratio, but for a constant
//! n  = round(d/δ),  y = d − n·δ                          its class, and its place in it
//! P_n += e^draft,   Q_n += e^draft·e^(−y)                e^target = e^draft·e^(−n·δ)·e^(−y)
//! ```
//!
//! One exponential a token: the second factor is a polynomial of degree 2, since `|y| ≤ δ/2` is small, and the third is
//! one number a class. Both normalisers are sums over the classes. From there the selectors need no further pass:
//! [`Scan::optimal`] lays out the classes' edges; [`Scan::kseq`] finds `rho` in a class and reads that class's tokens
//! again. The probabilities of single tokens are computed from their logits when they are drafted, in f64.
//!
//! **Accuracy.** The class sums add f32 exponentials in f64, which makes the normalisers good to 2e-7. Where a draft mass
//! is raised to the power `k` the error is multiplied by `k`, and probabilities that differ by less than 1e-6 of
//! themselves count as equal: the output law is the target's within a total variation of 1e-6 + `k`·2e-7. Tests compare it
//! with [`Problem`](crate::Problem), which is exact; 1e-8 was measured for two drafts.
//! A residual is drawn by adding up blocks of tokens in f32 first: another few 1e-7 of the residual (a count of roundings, not
//! a measurement; a chi-square test holds the draw to its law).

use std::fmt;
use std::ops::{ControlFlow, Range};

use crate::classes::Edges;
use crate::kseq::{Active, Bracket, KSeq};
use crate::maximal::Maximal;
use crate::optimal::{DEFAULT_CLASSES, Optimal, OptimalLinear, Precision};
use crate::pmf::{Coin, MAX_VOCAB, Token};
use crate::problem::{Band, Excess, Laws, ProblemError, Visit, check_k, draw_one_by_one, for_each_token};
use crate::recursive::{Recursive, RecursiveDistinct};
use crate::simd::{self, Kernel, ROUND, exp_f64, exp2, mul_add};

/// Tokens handled at a time: few enough to stay in the first-level cache, a multiple of every vector length.
const BLOCK: usize = 128;

/// Two rows of f32 logits of one position, as laws: `p` and `q` are their softmaxes.
#[derive(Clone, Copy, Debug)]
pub struct LogitPair<'a> {
    draft: &'a [f32],
    target: &'a [f32],
    /// The logarithms of the softmaxes' denominators.
    draft_log_sum: f64,
    target_log_sum: f64,
    /// How the tokens were counted.
    grid: Grid,
    /// The cell of grid class −1 in the ratio grid of the selector, and that grid's last cell.
    first_cell: i64,
    last_cell: i64,
}

impl<'a> LogitPair<'a> {
    /// Two rows of one length whose softmaxes are known. For rules that ask for masses and blocks: no token was counted,
    /// and there are no bands.
    pub(crate) fn new(draft: (&'a [f32], Softmax), target: (&'a [f32], Softmax)) -> Self {
        LogitPair {
            draft: draft.0,
            target: target.0,
            draft_log_sum: draft.1.log_sum,
            target_log_sum: target.1.log_sum,
            grid: Grid::new(1, draft.1.max, target.1.max),
            first_cell: 0,
            last_cell: 0,
        }
    }
}

impl LogitPair<'_> {
    /// The cell that a token was counted in.
    fn cell(&self, token: usize) -> usize {
        let d = self.draft[token] - self.target[token];
        match self.grid.class(d) {
            Some(class) => (self.first_cell + class as i64 + 1).clamp(0, self.last_cell) as usize,
            None if self.grid.is_below(self.draft[token], d) => 0,
            None => self.last_cell as usize,
        }
    }

    /// The differences, in classes and after adding [`ROUND`], of the tokens counted in the cells of a band: from the
    /// first number up to and without the second.
    fn rounded_within(&self, band: &Band) -> (f32, f32) {
        let first = |cell: usize| {
            let class = (cell as i64 - self.first_cell - 1).clamp(0, COUNTED as i64);
            f32::from_bits(self.grid.first_bits().wrapping_add(class as u32))
        };
        let (from, to) = (band.cells.start, band.cells.end);
        (
            if from == 0 { f32::NEG_INFINITY } else { first(from) },
            if to as i64 > self.last_cell { f32::INFINITY } else { first(to) },
        )
    }

    /// The token of a block, if it is in the band, at which the sum of the masses exceeds the threshold, or the last of
    /// any mass.
    fn draw_in_block(
        &self,
        band: Option<&Band>,
        start: usize,
        threshold: f64,
        mass: &dyn Fn(f64, f64) -> f64,
    ) -> Option<Token> {
        let end = (start + BLOCK).min(self.draft.len());
        let block = LogitPair { draft: &self.draft[start..end], target: &self.target[start..end], ..*self };
        let (mut cumulative, mut found) = (0.0, None);
        block.blocks(&mut |_, p, q| {
            for (i, (&p, &q)) in p.iter().zip(q).enumerate() {
                if band.is_none_or(|band| band.cells.contains(&block.cell(i))) && mass(p, q) > 0.0 {
                    cumulative += mass(p, q);
                    found = Some((start + i) as Token);
                    if threshold < cumulative {
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        });
        found
    }
}

/// Passes over blocks of tokens as long as the sum of their [`Excess`], by exponentials in f32, is not above the
/// threshold. Returns the start of the block where it is, or of the rest that is no whole block, and the sum before it.
struct Skip<'a> {
    draft: &'a [f32],
    target: &'a [f32],
    per_width: f32,
    /// The differences of the tokens to add up, as [`LogitPair::rounded_within`] gives them.
    within: (f32, f32),
    /// What the logits of each row are taken less: the logarithms of the denominators, in f32.
    references: (f32, f32),
    of_q: f32,
    of_p: f32,
    least: f32,
    start: usize,
    cumulative: f64,
    threshold: f64,
}

impl Kernel for Skip<'_> {
    type Output = (usize, f64);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (usize, f64) {
        const LANES: usize = 16;
        let (draft, _) = self.draft[self.start..].as_chunks::<BLOCK>();
        let (target, _) = self.target[self.start..].as_chunks::<BLOCK>();
        let mut cumulative = self.cumulative;
        let (mut start, log2_e) = (self.start, std::f32::consts::LOG2_E);
        let mut masses = [0f32; BLOCK];
        for (draft, target) in draft.iter().zip(target) {
            for j in 0..BLOCK {
                // Not fused, as in `Grid::class`.
                let rounded = (draft[j] - target[j]) * self.per_width + ROUND;
                let p = exp2::<FMA>((draft[j] - self.references.0) * log2_e);
                let q = exp2::<FMA>((target[j] - self.references.1) * log2_e);
                let mass = simd::max(mul_add::<FMA>(p, self.of_p, q * self.of_q), q * self.least);
                let inside = (rounded >= self.within.0) & (rounded < self.within.1);
                masses[j] = if inside { mass } else { 0.0 };
            }
            let mut sums = [0f32; LANES];
            for masses in masses.as_chunks::<LANES>().0 {
                for j in 0..LANES {
                    sums[j] += masses[j];
                }
            }
            let sum: f64 = sums.iter().map(|&sum| f64::from(sum)).sum();
            if self.threshold < cumulative + sum {
                break;
            }
            cumulative += sum;
            start += BLOCK;
        }
        (start, cumulative)
    }
}

impl Laws for LogitPair<'_> {
    fn vocab(&self) -> usize {
        self.draft.len()
    }

    fn masses(&self, token: Token) -> (f64, f64) {
        let place = token as usize;
        simd::run(Masses {
            draft: f64::from(self.draft[place]) - self.draft_log_sum,
            target: f64::from(self.target[place]) - self.target_log_sum,
        })
    }

    /// The normalisers are sums of f32 exponentials.
    fn accuracy(&self) -> f64 {
        1e-6
    }

    fn draw(
        &self,
        band: Option<&Band>,
        threshold: f64,
        mass: &dyn Fn(f64, f64) -> f64,
        estimate: &Excess,
    ) -> Option<Token> {
        if band.is_some_and(|band| band.ends_of_cells != (true, true)) {
            return draw_one_by_one(self, band, threshold, mass);
        }
        let (draft, target) = (self.draft, self.target);
        let (draft_ref, target_ref) = (self.draft_log_sum as f32, self.target_log_sum as f32);
        let scale_p = (f64::from(draft_ref) - self.draft_log_sum).exp();
        let scale_q = (f64::from(target_ref) - self.target_log_sum).exp();
        let within = band.map_or((f32::NEG_INFINITY, f32::INFINITY), |band| self.rounded_within(band));
        // The block in which the sum of the estimates passes the threshold, and there the token in f64.
        let (mut start, mut cumulative) = (0, 0.0);
        while start < draft.len() {
            (start, cumulative) = simd::run(Skip {
                draft,
                target,
                per_width: self.grid.per_width,
                within,
                references: (draft_ref, target_ref),
                of_q: (estimate.of_q * scale_q) as f32,
                of_p: (estimate.of_p * scale_p) as f32,
                least: (estimate.least * scale_q) as f32,
                start,
                cumulative,
                threshold,
            });
            if let Some(token) = self.draw_in_block(band, start, threshold - cumulative, mass) {
                return Some(token);
            }
            start += BLOCK;
        }
        // Rounding kept the sum below the threshold: the last token of any mass.
        let blocks = (0..draft.len()).step_by(BLOCK).rev();
        blocks.into_iter().find_map(|start| self.draw_in_block(band, start, f64::INFINITY, mass))
    }

    fn in_band(&self, band: &Band, visit: &mut dyn FnMut(Token, f64, f64) -> ControlFlow<()>) {
        // By the difference of the logits first, which needs no exponential; with room for its rounding in f32.
        let offset = self.draft_log_sum - self.target_log_sum;
        let room = 1e-4 + offset.abs() * f64::from(f32::EPSILON);
        let low = band.from.map_or(f64::NEG_INFINITY, |from| offset - from.ln() - room) as f32;
        let high = band.to.map_or(f64::INFINITY, |to| offset - to.ln() + room) as f32;
        let _ = tokens_with(self.draft, self.target, (low, high), |token| {
            let (p, q) = self.masses(token as Token);
            if band.contains_counted(self.cell(token), p, q) {
                visit(token as Token, p, q)
            } else {
                ControlFlow::Continue(())
            }
        });
    }

    fn blocks(&self, visit: &mut Visit<'_>) {
        let (mut p, mut q) = ([0.0; BLOCK], [0.0; BLOCK]);
        for (i, (draft, target)) in self.draft.chunks(BLOCK).zip(self.target.chunks(BLOCK)).enumerate() {
            simd::run(Probabilities { logits: draft, log_sum: self.draft_log_sum, into: &mut p });
            simd::run(Probabilities { logits: target, log_sum: self.target_log_sum, into: &mut q });
            if visit(i * BLOCK, &p[..draft.len()], &q[..draft.len()]).is_break() {
                return;
            }
        }
    }
}

/// `e^x` of two numbers, by the same instructions as for a whole block: the same numbers come out.
struct Masses {
    draft: f64,
    target: f64,
}

impl Kernel for Masses {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (f64, f64) {
        (exp_f64::<FMA>(self.draft), exp_f64::<FMA>(self.target))
    }
}

/// `e^(logit − log_sum)` of a block.
struct Probabilities<'a> {
    logits: &'a [f32],
    log_sum: f64,
    into: &'a mut [f64; BLOCK],
}

impl Kernel for Probabilities<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (p, &logit) in self.into.iter_mut().zip(self.logits) {
            *p = exp_f64::<FMA>(f64::from(logit) - self.log_sum);
        }
    }
}

/// What one pass over the two rows of logits found; prepares selectors in `O(classes)`.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    laws: LogitPair<'a>,
    grid: Grid,
    /// The draft and target mass of each class from the first to the last that has any token.
    classes: Vec<(f64, f64)>,
    /// The class that `classes` starts with.
    first_class: usize,
    beyond: Beyond,
    k: usize,
}

/// Why two rows of logits were refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScanError {
    /// The rows are empty, or longer than [`MAX_VOCAB`].
    Vocabulary {
        /// Their length.
        len: usize,
    },
    /// The rows differ in length, or `k` is out of range.
    Problem(ProblemError),
    /// A logit is NaN or +∞.
    Logit {
        /// `"draft"` or `"target"`.
        row: &'static str,
        /// The token.
        token: usize,
        /// The offending value.
        value: f32,
    },
    /// All logits of a row are −∞.
    AllMasked {
        /// `"draft"` or `"target"`.
        row: &'static str,
    },
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::Vocabulary { len } => write!(f, "rows of {len} logits; there must be 1 to {MAX_VOCAB}"),
            ScanError::Problem(error) => error.fmt(f),
            ScanError::Logit { row, token, value } => {
                write!(f, "the {row} logit of token {token} is {value}; it must be finite, or -inf for a masked token")
            }
            ScanError::AllMasked { row } => write!(f, "all {row} logits are -inf: no token is left"),
        }
    }
}

impl std::error::Error for ScanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ScanError::Problem(error) => Some(error),
            _ => None,
        }
    }
}

/// The number of classes that the pass counts in.
const COUNTED: usize = 4096;

/// Half of [`COUNTED`]: the class of the difference that the rows' largest logits have.
const MIDDLE: i32 = COUNTED as i32 / 2;

/// The finest class width. The pass does not know the normalisers yet: counted from the rows' largest logits, the
/// log-ratio is off by at most ln 2²⁰ < 14. With the `[−ln 64, 8]` that the coupling looks at, half of the classes
/// must span 22.
const MIN_WIDTH: f64 = 22.0 / (MIDDLE - 2) as f64;

/// How far apart the rows' largest logits may be for their differences to be taken in f32: up to here the rounding of
/// a difference is below 1e-6. Rows further apart are counted in f64, at several times the cost.
const MAX_GAP: f64 = 16.0;

/// The classes of a pass: class `n` is centred on the difference `(n − MIDDLE + aligned)·width` of logits.
#[derive(Clone, Copy, Debug)]
struct Grid {
    draft_max: f32,
    target_max: f32,
    /// Classes per unit of log-ratio.
    per_width: f32,
    aligned: i32,
}

impl Grid {
    fn new(k: usize, draft_max: f32, target_max: f32) -> Self {
        let per_width = Edges::width(DEFAULT_CLASSES, k).max(MIN_WIDTH).recip() as f32;
        let aligned = ((f64::from(draft_max) - f64::from(target_max)) * f64::from(per_width)).round();
        // Rounding by `ROUND` works below 2²². Further off no difference is inside the classes, and the tokens are
        // counted by their own log-ratio.
        Grid { draft_max, target_max, per_width, aligned: aligned.clamp(-2e6, 2e6) as i32 }
    }

    fn width(self) -> f64 {
        1.0 / f64::from(self.per_width)
    }

    /// The difference of logits, before normalisation, that a class is centred on.
    fn middle(self, class: usize) -> f64 {
        f64::from(class as i32 - MIDDLE + self.aligned) * self.width()
    }

    /// The class of a difference; `None` outside the classes and for NaN.
    fn class(self, d: f32) -> Option<usize> {
        let class = (d * self.per_width + ROUND).to_bits().wrapping_sub(self.first_bits()) as usize;
        (class < COUNTED).then_some(class)
    }

    /// Whether a token whose difference is in no class counts as below them: without draft mass, or rather the target's.
    fn is_below(self, draft: f32, d: f32) -> bool {
        draft == f32::NEG_INFINITY || f64::from(d) < f64::from(self.draft_max) - f64::from(self.target_max)
    }

    /// The bits of [`ROUND`] plus the number of class 0. Where the sum of a number and `ROUND` is outside the classes,
    /// infinite or NaN, its bits are too.
    #[inline(always)]
    fn first_bits(self) -> u32 {
        ROUND.to_bits().wrapping_add_signed(self.aligned - MIDDLE)
    }
}

/// The pass over the rows. Afterwards `counts[n]` holds, for class `n`, the sums of `e^(draft − max)` and of
/// `e^(draft − max − y)`. Returns the starts of the blocks that were left out: the last, if it is not whole, and those
/// where a difference is outside the classes or not finite.
struct Count<'a> {
    draft: &'a [f32],
    target: &'a [f32],
    grid: Grid,
    counts: &'a mut [[f64; 2]],
}

impl Kernel for Count<'_> {
    type Output = Vec<usize>;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> Vec<usize> {
        let (draft, _) = self.draft.as_chunks::<BLOCK>();
        let (target, _) = self.target.as_chunks::<BLOCK>();
        let whole = draft.len() * BLOCK;
        let mut left_out = Vec::new();
        if whole < self.draft.len() {
            left_out.push(whole);
        }
        let counts: &mut [[f64; 2]; COUNTED] = self.counts.try_into().expect("the caller made COUNTED of them");
        let per_width = self.grid.per_width;
        let width = 1.0 / per_width;
        let first_bits = self.grid.first_bits();
        let log2_e = std::f32::consts::LOG2_E;
        let mut class = [0u32; BLOCK];
        let mut masses = [[0f32; 2]; BLOCK];
        let (mut p, mut q) = ([0f32; BLOCK], [0f32; BLOCK]);
        for (i, (draft, target)) in draft.iter().zip(target).enumerate() {
            let mut all = 0u32;
            for j in 0..BLOCK {
                let d = draft[j] - target[j];
                // Not fused, as in `Grid::class`.
                let rounded = d * per_width + ROUND;
                class[j] = rounded.to_bits().wrapping_sub(first_bits);
                all |= class[j];
                // e^(−y) to the second order: y is at most half a class, and y³/6 below 4e-8.
                let share = mul_add::<FMA>(d, per_width, ROUND - rounded);
                let v = mul_add::<FMA>(mul_add::<FMA>(share, 0.5 * width * width, -width), share, 1.0);
                // Subtracted first: the rounding of a product with a large logit would be one of all masses.
                p[j] = exp2::<FMA>((draft[j] - self.grid.draft_max) * log2_e);
                q[j] = p[j] * v;
            }
            if all >= COUNTED as u32 {
                left_out.push(i * BLOCK);
                continue;
            }
            let mut differ = 0;
            for j in 0..BLOCK {
                differ |= class[j] ^ class[0];
                masses[j] = [p[j], q[j]];
            }
            if differ == 0 {
                // Equal classes one after the other would wait for each other's sums: they are added up first.
                let mut sums = [[0f32; 2]; 8];
                for masses in masses.as_chunks::<8>().0 {
                    for (sum, mass) in sums.iter_mut().zip(masses) {
                        *sum = [sum[0] + mass[0], sum[1] + mass[1]];
                    }
                }
                let count = &mut counts[class[0] as usize & (COUNTED - 1)];
                for sum in sums {
                    *count = [count[0] + f64::from(sum[0]), count[1] + f64::from(sum[1])];
                }
            } else {
                for (class, mass) in class.iter().zip(&masses) {
                    let count = &mut counts[*class as usize & (COUNTED - 1)];
                    *count = [count[0] + f64::from(mass[0]), count[1] + f64::from(mass[1])];
                }
            }
        }
        left_out
    }
}

/// Counts a block in f64, whatever its logits.
///
/// # Errors
/// A logit NaN or +∞.
fn count_carefully(
    start: usize,
    draft: &[f32],
    target: &[f32],
    grid: Grid,
    counts: &mut [[f64; 2]],
    beyond: &mut Beyond,
) -> Result<(), ScanError> {
    for (row, logits) in [("draft", draft), ("target", target)] {
        if let Some(i) = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY) {
            return Err(ScanError::Logit { row, token: start + i, value: logits[i] });
        }
    }
    let (mut p, mut q) = ([0.0; BLOCK], [0.0; BLOCK]);
    simd::run(Probabilities { logits: draft, log_sum: f64::from(grid.draft_max), into: &mut p });
    simd::run(Probabilities { logits: target, log_sum: f64::from(grid.target_max), into: &mut q });
    for (i, (&p, &q)) in p[..draft.len()].iter().zip(&q).enumerate() {
        let d = draft[i] - target[i];
        match grid.class(d) {
            Some(class) => {
                let y = f64::from(draft[i]) - f64::from(target[i]) - grid.middle(class);
                counts[class][0] += p;
                counts[class][1] += p * (-y).exp();
            }
            None if grid.is_below(draft[i], d) => {
                beyond.below = (beyond.below.0 + p, beyond.below.1 + q);
            }
            None => beyond.above = (beyond.above.0 + p, beyond.above.1 + q),
        }
    }
    Ok(())
}

/// The largest number of a row; NaN is passed over.
struct Max<'a>(&'a [f32]);

impl Kernel for Max<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; 32];
        let (blocks, rest) = self.0.as_chunks::<32>();
        for block in blocks {
            for (lane, &x) in lanes.iter_mut().zip(block) {
                *lane = simd::max(x, *lane);
            }
        }
        rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |a, &b| simd::max(b, a))
    }
}

fn checked_max(row: &'static str, logits: &[f32]) -> Result<f32, ScanError> {
    match simd::run(Max(logits)) {
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

/// The classes from the first to the last that has any token.
fn occupied(counts: &[[f64; 2]]) -> Range<usize> {
    // Eight at a time: most are empty.
    let is_occupied = |counts: &[[f64; 2]]| counts.iter().map(|count| count[0]).sum::<f64>() > 0.0;
    let chunks = || counts.chunks(8);
    match (chunks().position(is_occupied), chunks().rposition(is_occupied)) {
        (Some(first), Some(last)) => first * 8..(last * 8 + 8).min(counts.len()),
        _ => 0..0,
    }
}

/// Masses that the classes do not hold, as shares of the rows' largest exponentials.
#[derive(Clone, Copy, Debug, Default)]
struct Beyond {
    /// Of tokens below the classes, draft and target.
    below: (f64, f64),
    /// Of tokens above them.
    above: (f64, f64),
}

impl<'a> Scan<'a> {
    /// Reads the two rows, for `k` drafts. `O(V)`.
    ///
    /// The rows must be what the drafts were drawn from and what the output is to be drawn from: after temperature,
    /// and with filtered tokens set to −∞.
    ///
    /// # Errors
    /// Rows empty, too long or of different length; `k` out of range; a logit NaN or +∞; a row all −∞.
    ///
    /// # Examples
    /// ```
    /// use draftpick::{Coin, Selector, scan::Scan};
    ///
    /// let (draft, target) = ([1.0f32, 0.5, -2.0], [0.5f32, 1.0, 0.0]);
    /// let selector = Scan::new(&draft, &target, 2)?.optimal();
    /// let coins = [0.3, 0.8, 0.1, 0.6].map(|c| Coin::new(c).unwrap());
    /// let token = selector.select(&[0, 1], &coins)?.token(&[0, 1]);
    /// assert!(token < 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(draft: &'a [f32], target: &'a [f32], k: usize) -> Result<Self, ScanError> {
        check_k(k).map_err(ScanError::Problem)?;
        if draft.len() != target.len() {
            let error = ProblemError::Vocabulary { draft: draft.len(), target: target.len() };
            return Err(ScanError::Problem(error));
        }
        if !(1..=MAX_VOCAB).contains(&draft.len()) {
            return Err(ScanError::Vocabulary { len: draft.len() });
        }
        let draft_max = checked_max("draft", draft)?;
        let target_max = checked_max("target", target)?;
        let grid = Grid::new(k, draft_max, target_max);
        let mut counts = vec![[0.0; 2]; COUNTED];
        let mut beyond = Beyond::default();
        let careful = if (f64::from(draft_max) - f64::from(target_max)).abs() <= MAX_GAP {
            simd::run(Count { draft, target, grid, counts: &mut counts })
        } else {
            (0..draft.len()).step_by(BLOCK).collect()
        };
        for start in careful {
            let end = (start + BLOCK).min(draft.len());
            count_carefully(start, &draft[start..end], &target[start..end], grid, &mut counts, &mut beyond)?;
        }
        // From here on all masses are shares of the largest exponential of their own row.
        let gap = f64::from(draft_max) - f64::from(target_max);
        let occupied = occupied(&counts);
        let mut classes: Vec<(f64, f64)> = Vec::with_capacity(occupied.len());
        let mut factor = (gap - grid.middle(occupied.start)).exp();
        let step = (-grid.width()).exp();
        let (mut draft_sum, mut target_sum) = (beyond.below.0 + beyond.above.0, beyond.below.1 + beyond.above.1);
        for [p, shifted] in &counts[occupied.clone()] {
            let q = shifted * factor;
            draft_sum += p;
            target_sum += q;
            classes.push((*p, q));
            factor *= step;
        }
        let (draft_share, target_share) = (1.0 / draft_sum, 1.0 / target_sum);
        for (p, q) in classes.iter_mut().chain([&mut beyond.below, &mut beyond.above]) {
            *p *= draft_share;
            *q *= target_share;
        }
        let laws = LogitPair {
            draft,
            target,
            draft_log_sum: f64::from(draft_max) + draft_sum.ln(),
            target_log_sum: f64::from(target_max) + target_sum.ln(),
            grid,
            first_cell: 0,
            last_cell: 0,
        };
        Ok(Scan { laws, grid, classes, first_class: occupied.start, beyond, k })
    }

    /// The two rows as laws.
    pub fn laws(&self) -> LogitPair<'a> {
        self.laws
    }

    /// What turns a difference of logits into a log-ratio.
    fn offset(&self) -> f64 {
        self.laws.draft_log_sum - self.laws.target_log_sum
    }

    /// The order-statistic coupling over ratio classes. `O(classes)`.
    pub fn optimal(&self) -> OptimalLinear<LogitPair<'a>> {
        self.order_statistic(Precision::Classes)
    }

    /// The order-statistic coupling over ratio classes, divided until the optimum is attained. `O(classes)`, and a pass
    /// over the logits for each class that is divided.
    pub fn optimal_exact(&self) -> OptimalLinear<LogitPair<'a>> {
        self.order_statistic(Precision::Exact)
    }

    fn order_statistic(&self, precision: Precision) -> OptimalLinear<LogitPair<'a>> {
        let (laws, edges, classes) = self.counted(-(self.k as f64).ln());
        OptimalLinear::with_counts(laws, self.k, edges, classes, precision)
    }

    /// The tokens as counted between the ratio edges from `e^log_lowest` up.
    pub(crate) fn counted(&self, log_lowest: f64) -> (LogitPair<'a>, Edges, Vec<(f64, f64)>) {
        let width = self.grid.width();
        // The log-ratio of the lower end of the lowest class.
        let lowest = self.grid.middle(0) - 0.5 * width - self.offset();
        let edges = Edges::spanning(width, lowest, log_lowest);
        // Class c of the grid lies between the edges first + c and first + c + 1, which is their class first + c + 1.
        let first = ((lowest - edges.log_lowest()) / width).round() as i64;
        let last = edges.len() - 1;
        let mut classes = vec![(0.0, 0.0); edges.len()];
        // Those that would be class 0 or less are all class 0, and so at the other end.
        let start = first + self.first_class as i64 + 1;
        let count = self.classes.len();
        let from = usize::try_from(1 - start).unwrap_or(0).min(count);
        let to = usize::try_from(last as i64 - start).unwrap_or(0).clamp(from, count);
        let sum = |classes: &[(f64, f64)], beyond: (f64, f64)| {
            classes.iter().fold(beyond, |sum, masses| (sum.0 + masses.0, sum.1 + masses.1))
        };
        classes[0] = sum(&self.classes[..from], self.beyond.below);
        classes[last] = sum(&self.classes[to..], self.beyond.above);
        if from < to {
            let place = (start + from as i64) as usize;
            classes[place..place + (to - from)].copy_from_slice(&self.classes[from..to]);
        }
        let laws = LogitPair { first_cell: first, last_cell: last as i64, ..self.laws };
        (laws, edges, classes)
    }

    /// The order-statistic coupling with a region for every token. `O(V log V)`.
    pub fn optimal_sorted(&self) -> Optimal<LogitPair<'a>> {
        Optimal::with_laws(self.laws, self.k)
    }

    /// The maximal coupling of one draft, whatever `k`. `O(V)`.
    pub fn maximal(&self) -> Maximal<LogitPair<'a>> {
        Maximal::new(self.laws)
    }

    /// Recursive rejection of drafts drawn with replacement. `O(k·V)`.
    pub fn recursive(&self) -> Recursive<LogitPair<'a>> {
        Recursive::with_laws(self.laws, self.k)
    }

    /// Recursive rejection of drafts drawn without replacement. `O(V log V)`.
    pub fn recursive_distinct(&self) -> RecursiveDistinct<LogitPair<'a>> {
        RecursiveDistinct::with_laws(self.laws, self.k)
    }

    /// k-SEQ. `O(classes)`, and another pass over the logits for the tokens of `rho`'s class.
    pub fn kseq(&self) -> KSeq<LogitPair<'a>> {
        let (k, count) = (self.k, self.classes.len());
        // ln rho at the boundary below class c is `top − c·width`: rho falls as c rises.
        let width = self.grid.width();
        let top = self.offset() - self.grid.middle(self.first_class) + 0.5 * width;
        let rho = |boundary: usize| (top - boundary as f64 * width).exp();
        // What is below a boundary counts whole, what is above it discounted.
        let mut whole = vec![self.beyond.below.0; count + 1];
        let mut discounted = vec![self.beyond.above.1; count + 1];
        for c in 0..count {
            whole[c + 1] = whole[c] + self.classes[c].0;
        }
        for c in (0..count).rev() {
            discounted[c] = discounted[c + 1] + self.classes[c].1;
        }
        let at = |boundary: usize| Bracket {
            lower: 1.0,
            upper: k as f64,
            whole: whole[boundary],
            discounted: discounted[boundary],
            active: Vec::new(),
        };
        // The boundaries inside [1, k], highest rho first; the last valid one ends the bracket.
        let first = (((top - (k as f64).ln()) / width).ceil().max(0.0) as usize).min(count);
        let end = ((top / width).floor().max(0.0) as usize + 1).clamp(first, count + 1);
        let boundaries: Vec<usize> = (first..end).collect();
        let valid = boundaries.partition_point(|&boundary| at(boundary).is_valid(rho(boundary), k));
        // The class between the last valid boundary and the first invalid one; where all are invalid, or valid, what is
        // before the first class, or after the last, and has no tokens.
        let bracket = match (first + valid).checked_sub(1) {
            None => Bracket { lower: rho(0).clamp(1.0, k as f64), ..at(0) },
            Some(class) if class == count => Bracket { upper: rho(count).clamp(1.0, k as f64), ..at(count) },
            Some(class) => Bracket {
                lower: rho(class + 1).clamp(1.0, k as f64),
                upper: rho(class).clamp(1.0, k as f64),
                whole: whole[class],
                discounted: discounted[class + 1],
                active: self.active(class),
            },
        };
        let (rho, beta) = bracket.close(k);
        KSeq::with_rho(self.laws, k, rho, beta)
    }

    /// The tokens of one of the `classes`. Tokens of one and the same ratio, as in a pair of equal rows, come as one.
    fn active(&self, class: usize) -> Vec<Active> {
        let Some(&(p, q)) = self.classes.get(class).filter(|(p, q)| *p > 0.0 && *q > 0.0) else {
            return Vec::new();
        };
        let class = self.first_class + class;
        let LogitPair { draft, target, .. } = self.laws;
        let (low, high) = (self.grid.middle(class), self.grid.width());
        let (low, high) = ((low - 0.51 * high) as f32, (low + 0.51 * high) as f32);
        // A class that holds much may hold it at one ratio: equal rows, uniform rows. That is cheap to see.
        if p > CLUSTER && simd::run(IsOneDifference { draft, target, low, high }) {
            return vec![Active { ratio: q / p, p, q }];
        }
        let mut logits = (Vec::new(), Vec::new());
        let _ = tokens_with(draft, target, (low, high), |token| {
            if self.grid.class(draft[token] - target[token]) == Some(class) {
                logits.0.push(draft[token]);
                logits.1.push(target[token]);
            }
            ControlFlow::Continue(())
        });
        let mut active = Vec::with_capacity(logits.0.len());
        let class = LogitPair { draft: &logits.0, target: &logits.1, ..self.laws };
        for_each_token(&class, |_, p, q| {
            if p > 0.0 && q > 0.0 {
                active.push(Active { ratio: q / p, p, q });
            }
        });
        active
    }
}

/// The draft mass of a class from which on it is worth a look whether all of it has one ratio.
const CLUSTER: f64 = 0.25;

/// Whether all differences of logits in `[low, high]` are the same.
struct IsOneDifference<'a> {
    draft: &'a [f32],
    target: &'a [f32],
    low: f32,
    high: f32,
}

impl Kernel for IsOneDifference<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> bool {
        const LANES: usize = 32;
        let (mut lowest, mut highest) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (draft, draft_rest) = self.draft.as_chunks::<LANES>();
        let (target, target_rest) = self.target.as_chunks::<LANES>();
        let mut look = |draft: &[f32; LANES], target: &[f32; LANES]| {
            for j in 0..LANES {
                let d = draft[j] - target[j];
                let outside = !(d >= self.low && d <= self.high);
                let (low, high) =
                    (if outside { f32::INFINITY } else { d }, if outside { f32::NEG_INFINITY } else { d });
                lowest[j] = if low < lowest[j] { low } else { lowest[j] };
                highest[j] = if high > highest[j] { high } else { highest[j] };
            }
        };
        for (draft, target) in draft.iter().zip(target) {
            look(draft, target);
        }
        let mut rest = ([f32::NAN; LANES], [f32::NAN; LANES]);
        rest.0[..draft_rest.len()].copy_from_slice(draft_rest);
        rest.1[..target_rest.len()].copy_from_slice(target_rest);
        look(&rest.0, &rest.1);
        let lowest = lowest.iter().fold(f32::INFINITY, |a, &b| a.min(b));
        highest.iter().all(|&high| high == lowest || high == f32::NEG_INFINITY)
    }
}

/// Calls `visit` with each token whose difference of logits is in `[low, high]`, or NaN, until it says stop.
fn tokens_with(
    draft: &[f32],
    target: &[f32],
    (low, high): (f32, f32),
    mut visit: impl FnMut(usize) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for (i, (draft, target)) in draft.chunks(STRIDE).zip(target.chunks(STRIDE)).enumerate() {
        for (j, mut found) in simd::run(Find { draft, target, low, high }).into_iter().enumerate() {
            while found != 0 {
                let token = j * 32 + found.trailing_zeros() as usize;
                if token < draft.len() {
                    visit(i * STRIDE + token)?;
                }
                found &= found - 1;
            }
        }
    }
    ControlFlow::Continue(())
}

/// Tokens that [`Find`] looks at in one call.
const STRIDE: usize = 4096;

/// Which of up to [`STRIDE`] tokens have a difference of logits in `[low, high]`, or NaN: one bit each. The bits beyond
/// the end mean nothing.
struct Find<'a> {
    draft: &'a [f32],
    target: &'a [f32],
    low: f32,
    high: f32,
}

impl Kernel for Find<'_> {
    type Output = [u32; STRIDE / 32];

    #[inline(always)]
    fn run<const FMA: bool>(self) -> [u32; STRIDE / 32] {
        let look = |draft: &[f32; 32], target: &[f32; 32]| {
            let mut found = 0;
            for j in 0..32 {
                let d = draft[j] - target[j];
                found |= u32::from(!(d < self.low || d > self.high)) << j;
            }
            found
        };
        let mut masks = [0; STRIDE / 32];
        let (draft, draft_rest) = self.draft.as_chunks::<32>();
        let (target, target_rest) = self.target.as_chunks::<32>();
        for ((mask, draft), target) in masks.iter_mut().zip(draft).zip(target) {
            *mask = look(draft, target);
        }
        if !draft_rest.is_empty() {
            let mut rest = ([0.0; 32], [0.0; 32]);
            rest.0[..draft_rest.len()].copy_from_slice(draft_rest);
            rest.1[..target_rest.len()].copy_from_slice(target_rest);
            masks[draft.len()] = look(&rest.0, &rest.1);
        }
        masks
    }
}

/// What turns a row of logits into its softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Softmax {
    max: f32,
    /// The logarithm of the denominator.
    log_sum: f64,
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
