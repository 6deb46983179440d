//! Which of several independent labels is the largest: the exact law, for checking.

use crate::layout::{Layout, Segment};

/// Where the label of one draft may lie: it is uniform in the region of one item, or of one of two chosen at random.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    /// The item, and the probability of it.
    pub first: (usize, f64),
    /// The other item, and the probability of it.
    pub second: (usize, f64),
}

impl Placement {
    pub fn certain(item: usize) -> Self {
        Placement { first: (item, 1.0), second: (item, 0.0) }
    }
}

/// The law of one label: mass spread evenly over each segment, or concentrated where the segment is a point.
struct LabelLaw(Vec<(Segment, f64)>);

impl LabelLaw {
    fn new(layout: &Layout, placement: &Placement) -> Self {
        let mut pieces = Vec::new();
        for (item, weight) in [placement.first, placement.second] {
            let region = layout.region(item);
            let length: f64 = region.iter().map(|s| s.len).sum();
            if weight > 0.0 && length > 0.0 {
                pieces.extend(region.iter().map(|&s| (s, weight * s.len / length)).filter(|piece| piece.1 > 0.0));
            } else if weight > 0.0 {
                pieces.push((region[0], weight));
            }
        }
        LabelLaw(pieces)
    }

    fn density(&self, u: f64) -> f64 {
        self.0.iter().filter(|(s, _)| s.lo < u && u < s.hi()).map(|(s, mass)| mass / s.len).sum()
    }

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

/// The probability that each draft has the largest label, the first of equal ones winning.
///
/// `P(i) = ∫ f_i(u) Π_{j≠i} F_j(u) du`. Between the segments' ends the integrand is a polynomial of degree at most
/// `k − 1`, which Gauss–Legendre quadrature with `⌈k/2⌉` nodes integrates exactly.
pub(crate) fn winner_law(layout: &Layout, placements: &[Placement]) -> Vec<f64> {
    let labels: Vec<LabelLaw> = placements.iter().map(|placement| LabelLaw::new(layout, placement)).collect();
    let mut ends: Vec<f64> = labels.iter().flat_map(|l| &l.0).flat_map(|(s, _)| [s.lo, s.hi()]).collect();
    ends.sort_unstable_by(f64::total_cmp);
    ends.dedup();
    let rule = gauss_legendre(labels.len().div_ceil(2));
    let mut law = vec![0.0; labels.len()];
    for ends in ends.windows(2) {
        let (middle, half) = (0.5 * (ends[0] + ends[1]), 0.5 * (ends[1] - ends[0]));
        let densities: Vec<f64> = labels.iter().map(|label| label.density(middle)).collect();
        for &(node, weight) in &rule {
            let u = middle + half * node;
            let below: Vec<f64> = labels.iter().map(|label| label.below(u, false)).collect();
            for i in (0..labels.len()).filter(|&i| densities[i] > 0.0) {
                let others: f64 = (0..labels.len()).filter(|&j| j != i).map(|j| below[j]).product();
                law[i] += half * weight * densities[i] * others;
            }
        }
    }
    for (i, label) in labels.iter().enumerate() {
        for &(point, mass) in label.0.iter().filter(|(s, _)| s.is_empty()) {
            let others = (0..labels.len()).filter(|&j| j != i).map(|j| labels[j].below(point.lo, j > i));
            law[i] += mass * others.product::<f64>();
        }
    }
    law
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
