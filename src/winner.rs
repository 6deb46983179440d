//! Which of several independent labels is the largest: the exact law, for checking.

use crate::layout::Segment;

/// The law of one label: mass spread evenly over each segment, or concentrated where the segment is a point.
struct LabelLaw(Vec<(Segment, f64)>);

impl LabelLaw {
    /// The probability of a label below `u`, or at most `u`.
    fn below(&self, u: f64, or_equal: bool) -> f64 {
        let share = |s: &Segment| match () {
            () if u < s.lo || (u == s.lo && !(s.is_empty() && or_equal)) => 0.0,
            () if u >= s.hi() => 1.0,
            () => (u - s.lo) / s.len,
        };
        self.0.iter().map(|(s, mass)| mass * share(s)).sum()
    }
}

/// The law of a label uniform in a region, as pieces.
pub(crate) fn region_law(region: &[Segment]) -> Vec<(Segment, f64)> {
    let length: f64 = region.iter().map(|s| s.len).sum();
    if length > 0.0 {
        region.iter().map(|&s| (s, s.len / length)).filter(|piece| piece.1 > 0.0).collect()
    } else {
        vec![(region[0], 1.0)]
    }
}

/// The probability that each draft has the largest label, the first of equal ones winning, given the pieces of the labels'
/// laws.
pub(crate) fn winner_law(labels: &[Vec<(Segment, f64)>]) -> Vec<f64> {
    winning_shares(labels).into_iter().map(|shares| shares.iter().sum()).collect()
}

/// The probability that each piece of each label's law has the largest label, the first of equal ones winning.
///
/// For a piece of mass `w` of label `i` it is `w` times the mean of `Π_{j≠i} F_j` over the piece. Between the ends of the
/// other labels' pieces that is a polynomial of degree at most `k − 1`, which Gauss–Legendre quadrature with `⌈k/2⌉`
/// nodes integrates exactly. A mean over a piece needs no digits of the piece's length.
pub(crate) fn winning_shares(labels: &[Vec<(Segment, f64)>]) -> Vec<Vec<f64>> {
    let mut ends: Vec<f64> = labels.iter().flatten().flat_map(|(s, _)| [s.lo, s.hi()]).collect();
    ends.sort_unstable_by(f64::total_cmp);
    ends.dedup();
    let laws: Vec<LabelLaw> = labels.iter().map(|pieces| LabelLaw(pieces.clone())).collect();
    // Each distribution function right below and right above the ends.
    let table = |or_equal: bool| -> Vec<Vec<f64>> {
        laws.iter().map(|law| ends.iter().map(|&end| law.below(end, or_equal)).collect()).collect()
    };
    let (below, above) = (table(false), table(true));
    let rule = gauss_legendre(labels.len().div_ceil(2));
    let others = |i: usize| (0..labels.len()).filter(move |&j| j != i);
    let share = |i: usize, (piece, mass): (Segment, f64)| {
        let from = ends.partition_point(|&end| end < piece.lo);
        let to = ends.partition_point(|&end| end < piece.hi());
        if from == to {
            return mass * others(i).map(|j| if j > i { above[j][from] } else { below[j][from] }).product::<f64>();
        }
        let (mut mean, mut width) = (0.0, 0.0);
        for e in from..to {
            let part = ends[e + 1] - ends[e];
            for &(node, weight) in &rule {
                let t = 0.5 * (1.0 + node);
                let at = |j: usize| above[j][e] + t * (below[j][e + 1] - above[j][e]);
                mean += 0.5 * part * weight * others(i).map(at).product::<f64>();
            }
            width += part;
        }
        mass * mean / width
    };
    labels.iter().enumerate().map(|(i, pieces)| pieces.iter().map(|&piece| share(i, piece)).collect()).collect()
}

/// Nodes and weights of the `n`-point Gauss–Legendre rule on `[−1, 1]`: Newton's method on the Legendre polynomial.
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    (0..n)
        .map(|i| {
            let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut derivative = 0.0;
            for _ in 0..20 {
                let (mut previous, mut value) = (1.0, x);
                for m in 2..=n {
                    let m = m as f64;
                    (previous, value) = (value, ((2.0 * m - 1.0) * x * value - (m - 1.0) * previous) / m);
                }
                derivative = n as f64 * (x * value - previous) / (x * x - 1.0);
                let step = value / derivative;
                x -= step;
                if step.abs() < 1e-16 {
                    break;
                }
            }
            (x, 2.0 / ((1.0 - x * x) * derivative * derivative))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn quadrature_integrates_polynomials_of_degree_two_n_minus_one() {
        for n in 1..=32 {
            let rule = gauss_legendre(n);
            for degree in 0..2 * n as i32 {
                let exact = if degree % 2 == 0 { 2.0 / f64::from(degree + 1) } else { 0.0 };
                let sum: f64 = rule.iter().map(|(x, w)| w * x.powi(degree)).sum();
                assert_abs_diff_eq!(sum, exact, epsilon = 1e-13);
            }
        }
    }
}
