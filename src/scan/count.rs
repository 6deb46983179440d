//! The one pass over the two rows: the masses of each class.

use std::ops::Range;

use super::error::ScanError;
use super::exponentials::{BLOCK, Probabilities};
use super::grid::{COUNTED, Grid};
use crate::simd::{self, Kernel, ROUND, exp2, mul_add};

/// How far apart the rows' largest logits may be for their differences to be taken in f32: up to here the rounding of
/// a difference is below 1e-6. Rows further apart are counted in f64, at several times the cost.
pub(super) const MAX_GAP: f64 = 16.0;

/// The pass over the rows. Afterwards `counts[n]` holds, for class `n`, the sums of `e^(draft − max)` and of
/// `e^(draft − max − y)`. Returns the starts of the blocks that were left out: the last, if it is not whole, and those
/// where a difference is outside the classes or not finite.
pub(super) struct Count<'a> {
    pub draft: &'a [f32],
    pub target: &'a [f32],
    pub grid: Grid,
    pub counts: &'a mut [[f64; 2]],
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
pub(super) fn count_carefully(
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

/// The classes from the first to the last that has any token.
pub(super) fn occupied(counts: &[[f64; 2]]) -> Range<usize> {
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
pub(super) struct Beyond {
    /// Of tokens below the classes, draft and target.
    pub below: (f64, f64),
    /// Of tokens above them.
    pub above: (f64, f64),
}
