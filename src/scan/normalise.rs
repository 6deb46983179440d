//! The class sums of two rows, and with them the normalisers.

use std::ops::Range;

use super::count::{Count, Pass};
use super::error::ScanError;
use super::exponentials::{BLOCK, Probabilities};
use super::grid::{COUNTED, Grid};
use super::softmax::{checked_max, sampled_max};
use crate::simd;

/// How far apart the rows' largest logits may be for their differences to be taken in f32: up to here the rounding of
/// a difference is below 1e-6. Rows further apart are counted in f64, at several times the cost.
const MAX_GAP: f64 = 16.0;

/// The largest logits may be this far from 0 for exponentials in f32: whole numbers of ln 2 are subtracted exactly.
const MAX_LOGIT: f32 = 2048.0;

/// Masses that the classes do not hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beyond {
    /// Of tokens below the classes, draft and target.
    pub below: (f64, f64),
    /// Of tokens above them.
    pub above: (f64, f64),
}

/// Two rows, normalised and counted.
#[derive(Clone, Debug)]
pub(super) struct Classes {
    pub grid: Grid,
    /// The draft and target mass of each class from the first to the last that has any token.
    pub masses: Vec<(f64, f64)>,
    /// The class that `masses` starts with.
    pub first: usize,
    pub beyond: Beyond,
    /// The logarithms of the softmaxes' denominators.
    pub draft_log_sum: f64,
    pub target_log_sum: f64,
    pub pass: Option<InVectors>,
}

/// The whole blocks were counted in f32.
#[derive(Clone, Copy, Debug)]
pub(super) struct InVectors {
    /// As in [`Count`].
    pub exponent: f32,
    /// The number of tokens in whole blocks.
    pub whole: usize,
}

impl Classes {
    /// Counts the tokens of two rows of one length.
    ///
    /// # Errors
    /// A logit NaN or +∞; a row all −∞.
    pub fn new(draft: &[f32], target: &[f32], k: usize) -> Result<Self, ScanError> {
        let between = |(draft, target): (f32, f32)| Grid::new(k, f64::from(draft) - f64::from(target));
        // Large logits do for the largest: only the range of f32 and the place of the grid hang on them.
        let large = (sampled_max(draft), sampled_max(target));
        if large.0.is_finite()
            && large.1.is_finite()
            && let Some(sums) = Sums::new(draft, target, between(large), large)?
        {
            let classes = sums.normalised();
            if classes.grid.reaches(classes.offset()) {
                return Ok(classes);
            }
        }
        let largest = (checked_max("draft", draft)?, checked_max("target", target)?);
        let classes = Self::relative_to(draft, target, between(largest), largest)?;
        if classes.grid.reaches(classes.offset()) {
            return Ok(classes);
        }
        Self::relative_to(draft, target, Grid::new(k, classes.offset()), largest)
    }

    fn relative_to(draft: &[f32], target: &[f32], grid: Grid, largest: (f32, f32)) -> Result<Self, ScanError> {
        let sums = Sums::new(draft, target, grid, largest)?;
        Ok(sums.expect("no logit is above the largest").normalised())
    }

    /// What turns a difference of logits into a log-ratio.
    pub fn offset(&self) -> f64 {
        self.draft_log_sum - self.target_log_sum
    }
}

/// Sums of exponentials.
struct Sums {
    grid: Grid,
    /// As [`Count`] makes them.
    counts: Vec<[f64; 2]>,
    beyond: Beyond,
    /// The logarithms of what the exponentials of the rows are taken relative to.
    references: (f64, f64),
    pass: Option<InVectors>,
}

/// Classes that are normalised together.
const GROUP: usize = 16;

impl Sums {
    /// Adds up two rows, relative to a large logit of each. `None` if there are too much larger ones.
    ///
    /// # Errors
    /// A logit NaN or +∞.
    fn new(draft: &[f32], target: &[f32], grid: Grid, large: (f32, f32)) -> Result<Option<Self>, ScanError> {
        let mut counts = vec![[0.0; 2]; COUNTED];
        let is_near = grid.centre().abs() <= MAX_GAP && large.0.abs() <= MAX_LOGIT;
        let whole = draft.len() / BLOCK * BLOCK;
        let (references, strays, pass) = if is_near {
            let exponent = (large.0 * std::f32::consts::LOG2_E).round();
            let counts = counts.as_mut_slice().try_into().expect("there are COUNTED of them");
            let Some(pass) = simd::run(Count { draft, target, grid, exponent, counts }) else {
                return Ok(None);
            };
            let Pass { reference, strays } = pass;
            ((reference, reference - grid.centre()), strays, Some(InVectors { exponent, whole }))
        } else {
            ((f64::from(large.0), f64::from(large.1)), Vec::new(), None)
        };
        let rest = pass.map_or(0, |pass| pass.whole);
        let mut sums = Sums { grid, counts, beyond: Beyond::default(), references, pass };
        let blocks = strays.into_iter().map(|start| (start, false));
        for (start, is_uncounted) in blocks.chain((rest..draft.len()).step_by(BLOCK).map(|start| (start, true))) {
            let end = (start + BLOCK).min(draft.len());
            if !sums.add_carefully(start, &draft[start..end], &target[start..end], is_uncounted)? {
                return Ok(None);
            }
        }
        Ok(Some(sums))
    }

    /// Adds the tokens of a block outside the classes, and the others too if they are `uncounted` yet, in f64. Says
    /// whether it could: not if a logit is far above the reference.
    ///
    /// # Errors
    /// A logit NaN or +∞.
    fn add_carefully(
        &mut self,
        start: usize,
        draft: &[f32],
        target: &[f32],
        uncounted: bool,
    ) -> Result<bool, ScanError> {
        // Far below the greatest power of f64.
        const HIGHEST: f64 = 600.0;
        let (mut p, mut q) = ([0.0; BLOCK], [0.0; BLOCK]);
        for (row, logits, reference, masses) in
            [("draft", draft, self.references.0, &mut p), ("target", target, self.references.1, &mut q)]
        {
            if let Some(i) = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY) {
                return Err(ScanError::Logit { row, token: start + i, value: logits[i] });
            }
            if logits.iter().any(|&x| f64::from(x) - reference > HIGHEST) {
                return Ok(false);
            }
            simd::run(Probabilities { logits, log_sum: reference, into: masses });
        }
        for (i, (&p, &q)) in p[..draft.len()].iter().zip(&q).enumerate() {
            let d = draft[i] - target[i];
            match self.grid.class(d) {
                Some(class) if uncounted => {
                    let y = f64::from(draft[i]) - f64::from(target[i]) - self.grid.middle(class);
                    let count = &mut self.counts[class];
                    *count = [count[0] + p, count[1] + p * exp_of_less(y)];
                }
                Some(_) => {}
                None if self.grid.is_below(draft[i], d) => {
                    let below = &mut self.beyond.below;
                    *below = (below.0 + p, below.1 + q);
                }
                None => {
                    let above = &mut self.beyond.above;
                    *above = (above.0 + p, above.1 + q);
                }
            }
        }
        Ok(true)
    }

    /// The masses as shares of 1.
    fn normalised(self) -> Classes {
        let Sums { grid, counts, mut beyond, references, pass } = self;
        let occupied = occupied(&counts);
        let mut masses: Vec<(f64, f64)> = Vec::with_capacity(occupied.len());
        // e^target = e^draft·e^(−y)·e^(−middle).
        let steps: [f64; GROUP] = std::array::from_fn(|j| (-(j as f64) * grid.width()).exp());
        let step = (-(GROUP as f64) * grid.width()).exp();
        let mut factor = (references.0 - references.1 - grid.middle(occupied.start)).exp();
        let mut sums = [[0.0; 2]; GROUP];
        for counts in counts[occupied.clone()].as_chunks::<GROUP>().0 {
            for j in 0..GROUP {
                let (p, q) = (counts[j][0], counts[j][1] * (factor * steps[j]));
                sums[j] = [sums[j][0] + p, sums[j][1] + q];
                masses.push((p, q));
            }
            factor *= step;
        }
        let beyond_classes = (beyond.below.0 + beyond.above.0, beyond.below.1 + beyond.above.1);
        let (draft_sum, target_sum) =
            sums.iter().fold(beyond_classes, |sum, masses| (sum.0 + masses[0], sum.1 + masses[1]));
        let (draft_share, target_share) = (1.0 / draft_sum, 1.0 / target_sum);
        for (p, q) in masses.iter_mut().chain([&mut beyond.below, &mut beyond.above]) {
            *p *= draft_share;
            *q *= target_share;
        }
        Classes {
            grid,
            masses,
            first: occupied.start,
            beyond,
            draft_log_sum: references.0 + draft_sum.ln(),
            target_log_sum: references.1 + target_sum.ln(),
            pass,
        }
    }
}

/// `e^(−y)` for `y` of at most a class's width in size, by its series up to the fifth power.
fn exp_of_less(y: f64) -> f64 {
    1.0 - y * (1.0 - y / 2.0 * (1.0 - y / 3.0 * (1.0 - y / 4.0 * (1.0 - y / 5.0))))
}

/// The classes from the first to the last that has any token, in whole groups.
fn occupied(counts: &[[f64; 2]]) -> Range<usize> {
    // No mass is negative: where no bit is set there is none.
    let is_occupied = |group: &[[f64; 2]; GROUP]| group.iter().fold(0, |bits, count| bits | count[0].to_bits()) != 0;
    let groups = counts.as_chunks::<GROUP>().0;
    match (groups.iter().position(is_occupied), groups.iter().rposition(is_occupied)) {
        (Some(first), Some(last)) => first * GROUP..(last + 1) * GROUP,
        _ => 0..0,
    }
}
