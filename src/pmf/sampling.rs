//! Temperature and filters: from logits to the distribution that a decoder samples from.

use super::{Logit, PmfError, check_len};
use crate::simd::{self, Kernel, exp_f64};
use crate::sum::Sum;

/// How logits become a distribution: temperature, then top-k, then top-p, then min-p, the order in which Hugging
/// Face transformers applies its logits processors.
///
/// `Sampling::default()` changes nothing: temperature 1 and no filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; finite and at least 0. 0 is greedy: all mass on the largest logit, the lowest token
    /// winning a tie.
    pub temperature: f64,
    /// Keeps the tokens whose logit is at least the `top_k`-th largest (ties with it stay). At least 1.
    pub top_k: Option<usize>,
    /// Keeps the most probable tokens until their mass reaches `top_p`, at least one. In `[0, 1]`.
    pub top_p: Option<f64>,
    /// Keeps the tokens at least `min_p` times as probable as the most probable one. In `[0, 1]`.
    pub min_p: Option<f64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 1.0, top_k: None, top_p: None, min_p: None }
    }
}

impl Sampling {
    pub(crate) fn check(&self) -> Result<(), PmfError> {
        let parameter = |name, value, range| Err(PmfError::Parameter { name, value, range });
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return parameter("temperature", self.temperature, "finite and at least 0");
        }
        if self.top_k == Some(0) {
            return parameter("top_k", 0.0, "at least 1");
        }
        for (name, value) in [("top_p", self.top_p), ("min_p", self.min_p)] {
            if let Some(value) = value
                && !(0.0..=1.0).contains(&value)
            {
                return parameter(name, value, "in [0, 1]");
            }
        }
        Ok(())
    }

    /// The logits after temperature and filters: what [`Pmf::from_logits`](super::Pmf::from_logits) takes the exponentials
    /// of, in f32, with −∞ for the tokens that were filtered out. The largest is 0.
    ///
    /// # Errors
    /// As [`Pmf::from_logits`](super::Pmf::from_logits).
    pub fn apply(&self, logits: &[f32]) -> Result<Vec<f32>, PmfError> {
        Ok(self.scores(logits)?.into_iter().map(|score| score as f32).collect())
    }

    /// The logarithms of the probabilities, but for a constant: the largest is 0.
    pub(super) fn scores<L: Logit>(&self, logits: &[L]) -> Result<Vec<f64>, PmfError> {
        self.check()?;
        check_len(logits.len())?;
        let mut scores: Vec<f64> = logits.iter().map(|logit| logit.to_f64()).collect();
        let (mut argmax, mut max) = (0, f64::NEG_INFINITY);
        for (token, &score) in scores.iter().enumerate() {
            if score.is_nan() || score == f64::INFINITY {
                return Err(PmfError::Logit { token, value: score });
            }
            if score > max {
                (argmax, max) = (token, score);
            }
        }
        if max == f64::NEG_INFINITY {
            return Err(PmfError::AllMasked { len: scores.len() });
        }
        if self.temperature == 0.0 {
            scores.fill(f64::NEG_INFINITY);
            scores[argmax] = 0.0;
            return Ok(scores);
        }
        // Shifted before it is divided: a small temperature must not overflow.
        for score in &mut scores {
            // 0 has no sign: equal logits are told apart by nothing but their tokens.
            *score = (*score - max) / self.temperature + 0.0;
        }
        if let Some(k) = self.top_k {
            keep_top_k(&mut scores, k);
        }
        if let Some(mass) = self.top_p {
            keep_top_p(&mut scores, mass);
        }
        if let Some(share) = self.min_p {
            // The scores are log-ratios to the most probable token. Only next to the threshold does it take the exponential.
            let near = share.ln();
            for score in &mut scores {
                if *score < near - NEAR || (*score < near + NEAR && score.exp() < share) {
                    *score = f64::NEG_INFINITY;
                }
            }
        }
        Ok(scores)
    }
}

/// By far more than the rounding of a logarithm or an exponential.
const NEAR: f64 = 1e-9;

fn keep_top_k(scores: &mut [f64], k: usize) {
    if k >= scores.len() {
        return;
    }
    let mut ranked = scores.to_vec();
    let (_, &mut threshold, _) = ranked.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    for score in scores {
        if *score < threshold {
            *score = f64::NEG_INFINITY;
        }
    }
}

/// Scores are counted by these: tokens of up to e⁻²⁴ in steps of 0.0117, and one more bin for the rest.
const BINS: usize = 2049;
const BINS_PER_UNIT: f64 = 2048.0 / 24.0;

/// The bin of a score of at most 0, the highest scores first.
fn bin(score: f64) -> usize {
    // A cast saturates: −∞ too is in the last.
    ((score * -BINS_PER_UNIT) as usize).min(BINS - 1)
}

/// `e^score` of each.
struct Exponentials<'a> {
    scores: &'a [f64],
    into: &'a mut [f64],
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (mass, &score) in self.into.iter_mut().zip(self.scores) {
            *mass = exp_f64::<FMA>(score);
        }
    }
}

/// Drops the least probable tokens while the mass dropped stays within `1 − top_p`; of equal tokens the lower goes
/// first. The most probable token always stays. The largest score is 0.
///
/// `O(V)` on average: nothing is sorted. Bins of like scores go as a whole as long as they may; the next one is halved by rank
/// until the cut is found.
fn keep_top_p(scores: &mut [f64], top_p: f64) {
    let mut masses = vec![0.0; scores.len()];
    simd::run(Exponentials { scores, into: &mut masses });
    let mut bins = vec![0.0; BINS];
    for (&score, mass) in scores.iter().zip(&masses) {
        bins[bin(score)] += mass;
    }
    let total = Sum::of(bins.iter().copied());
    let fits = |dropped: f64| dropped / total <= 1.0 - top_p;
    let mut below = Sum::default();
    let mut cut = BINS - 1;
    while cut > 0 && fits(below.value() + bins[cut]) {
        below.add(bins[cut]);
        cut -= 1;
    }
    let mut rest: Vec<usize> = (0..scores.len()).filter(|&token| bin(scores[token]) == cut).collect();
    if cut == 0 {
        // Without the most probable one, of equal ones the last.
        let last = rest.iter().copied().max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        rest.retain(|&token| Some(token) != last);
    }
    for score in scores.iter_mut() {
        *score = if bin(*score) > cut { f64::NEG_INFINITY } else { *score };
    }
    // Equal ones, as rows in few bits have them, are in order.
    let in_order = rest.windows(2).all(|pair| scores[pair[0]] == scores[pair[1]]);
    let (mut low, mut high) = (0, rest.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if !in_order {
            let by_rank = |&a: &usize, &b: &usize| scores[a].total_cmp(&scores[b]).then(a.cmp(&b));
            rest[low..high].select_nth_unstable_by(middle - low, by_rank);
        }
        let mut sum = below;
        rest[low..=middle].iter().for_each(|&token| sum.add(masses[token]));
        if fits(sum.value()) {
            (low, below) = (middle + 1, sum);
        } else {
            high = middle;
        }
    }
    for &token in &rest[..low] {
        scores[token] = f64::NEG_INFINITY;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pmf::Pmf;

    fn probabilities(logits: &[f64], sampling: Sampling) -> Vec<f64> {
        Pmf::from_logits(logits, &sampling).unwrap().as_slice().to_vec()
    }

    fn logs(weights: &[f64]) -> Vec<f64> {
        weights.iter().map(|w: &f64| w.ln()).collect()
    }

    #[test]
    fn filters_apply_in_order() {
        let logits = logs(&[0.4, 0.3, 0.2, 0.1]);
        let default = Sampling::default();
        let close = |a: Vec<f64>, b: [f64; 4]| {
            a.iter().zip(b).for_each(|(a, b)| approx::assert_abs_diff_eq!(*a, b, epsilon = 1e-14));
        };
        close(probabilities(&logits, default), [0.4, 0.3, 0.2, 0.1]);
        close(probabilities(&logits, Sampling { top_k: Some(2), ..default }), [4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        // 0.1 + 0.2 may go: what stays reaches 0.65.
        close(probabilities(&logits, Sampling { top_p: Some(0.65), ..default }), [4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        close(probabilities(&logits, Sampling { top_p: Some(0.0), ..default }), [1.0, 0.0, 0.0, 0.0]);
        close(probabilities(&logits, Sampling { min_p: Some(0.6), ..default }), [4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        // Top-k first: of (4/7, 3/7) the second is inside 0.6, of the full row it would not be the last kept.
        close(probabilities(&logits, Sampling { top_k: Some(2), top_p: Some(0.5), ..default }), [1.0, 0.0, 0.0, 0.0]);
        close(
            probabilities(&logits, Sampling { temperature: 0.5, ..default }),
            [16.0, 9.0, 4.0, 1.0].map(|w| w / 30.0),
        );
    }

    #[test]
    fn ties_at_the_top_k_threshold_stay() {
        let kept = probabilities(&[1.0, 2.0, 1.0, 0.0], Sampling { top_k: Some(2), ..Sampling::default() });
        assert_eq!(kept.iter().filter(|&&p| p > 0.0).count(), 3);
    }

    #[test]
    fn zeros_of_both_signs_are_one_tie() {
        let half = Sampling { top_p: Some(0.5), ..Sampling::default() };
        assert_eq!(probabilities(&[0.0, -0.0, 0.0, -0.0], half), [0.0, 0.0, 0.5, 0.5]);
    }

    #[test]
    fn temperature_zero_is_greedy_and_tiny_temperatures_do_not_overflow() {
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(probabilities(&[1.0, 3.0, 3.0], greedy), [0.0, 1.0, 0.0]);
        let tiny = Sampling { temperature: 1e-300, ..Sampling::default() };
        assert_eq!(probabilities(&[1e30, -1e30], tiny), [1.0, 0.0]);
    }

    /// The definition of top-p, with all tokens sorted: which are kept, and how near the mass dropped comes to its limit, as a
    /// share of all.
    fn sorted(scores: &[f64], top_p: f64) -> (Vec<bool>, f64) {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let total = Sum::of(order.iter().map(|&token| scores[token].exp()));
        let mut dropped = Sum::default();
        let (mut kept, mut nearest) = (vec![true; scores.len()], f64::INFINITY);
        for &token in &order[..order.len() - 1] {
            dropped.add(scores[token].exp());
            nearest = nearest.min((dropped.value() / total - (1.0 - top_p)).abs());
            if dropped.value() / total > 1.0 - top_p {
                break;
            }
            kept[token] = false;
        }
        (kept, nearest)
    }

    fn agrees(scores: &[f64], top_p: f64) {
        let (expected, nearest) = sorted(scores, top_p);
        let mut given = scores.to_vec();
        keep_top_p(&mut given, top_p);
        let kept: Vec<bool> = given.iter().map(|&score| score > f64::NEG_INFINITY).collect();
        // A masked token is no token either way.
        let expected: Vec<bool> =
            expected.iter().zip(scores).map(|(&kept, &s)| kept && s > f64::NEG_INFINITY).collect();
        assert!(kept == expected || nearest < 1e-12, "{scores:?} at {top_p}: {kept:?}, not {expected:?}");
    }

    proptest! {
        #[test]
        fn top_p_keeps_what_sorting_keeps(
            scores in prop::collection::vec(
                prop_oneof![6 => -20.0..0.0, 3 => (-4i32..=0).prop_map(f64::from), 1 => Just(f64::NEG_INFINITY), 1 => -800.0..0.0],
                1..200,
            ),
            top_p in prop_oneof![4 => 0.0..=1.0, 1 => Just(0.0), 1 => Just(1.0), 2 => 0.9..1.0],
        ) {
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assume!(most > f64::NEG_INFINITY);
            agrees(&scores.iter().map(|score| score - most).collect::<Vec<_>>(), top_p);
        }
    }

    #[test]
    fn top_p_of_large_rows_is_that_of_sorting() {
        let row = |of: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..50_000).map(of).collect() };
        let zipf = row(&|i| -1.1 * ((i * 7919 % 50_000) as f64 + 1.0).ln());
        let steps = row(&|i| -((i % 7) as f64));
        let equal = row(&|_| 0.0);
        for scores in [&zipf, &steps, &equal] {
            for top_p in [0.0, 0.1, 0.5, 0.9, 0.95, 0.999, 1.0] {
                agrees(scores, top_p);
            }
        }
    }
}
