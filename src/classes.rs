//! Ratio classes: a vocabulary of any size as a mixture over some thousand ratios `p/q`.
//!
//! The layout of the optimal coupling sees a token only through its ratio. A token of masses `(p, q)` whose ratio
//! lies between two edges `r₁ < r₂` is *exactly* a mixture of two virtual tokens that sit on them:
//!
//! ```text
//! p = p₁ + p₂        q = p₁/r₁ + p₂/r₂
//! ```
//!
//! so the edges, each with the draft mass of all its virtual tokens, can be laid out in place of the vocabulary: one
//! pass, no sort. The outermost edges are 0 and ∞. A token below the lowest finite edge puts all its draft mass
//! there and what target mass is left over on ratio 0, which is never drafted; one above the highest puts there as
//! much draft mass as its target mass asks for and the rest on ratio ∞.

use crate::layout::Item;
use crate::problem::{Band, Excess, Laws, ON_EDGE, for_each_token, reaches};

/// The highest finite edge, as a natural logarithm.
///
/// The minimising set of the bound ends at the ratio `1/(k·P^(k−1))`, `P` being its draft mass. Where that is above
/// the highest edge, the set's loss is at most `P^k < P·e⁻⁸/k`, which is below 1.2e-5 for every `k`: there is nothing
/// to gain from finer classes.
const LOG_HIGHEST: f64 = 8.0;

/// The most edges that a class is divided by at a time.
const NEW_EDGES: usize = 32;

/// The edges, on an equally spaced grid in the logarithm of the ratio, of which some may have been dropped.
#[derive(Clone, Debug)]
pub(crate) struct Edges {
    /// The logarithm of the lowest point of the grid.
    log_lowest: f64,
    /// The inverse of the grid's spacing, as a logarithm.
    per_width: f64,
    /// The inverse ratio half-way up a class, over that of its lower edge.
    half: f64,
    /// The lowest class of each cell of the grid: cell 0 is below the lowest point.
    class_of: Vec<u32>,
    /// The lowest class of each class's cells.
    first_of: Vec<u32>,
    /// `1/r` of each finite edge, lowest ratio first; then 0, the infinite edge.
    inverses: Vec<f64>,
}

/// `x^k`, inlined: as a call of a function for each class it is a good part of preparing.
#[inline(always)]
fn power(mut x: f64, k: usize) -> f64 {
    let (mut power, mut k) = (if k % 2 == 1 { x } else { 1.0 }, k / 2);
    while k > 0 {
        x *= x;
        if k % 2 == 1 {
            power *= x;
        }
        k /= 2;
    }
    power
}

/// The draft mass that a token, or the sum of a class, has on the upper one of its two edges, `high` and `low` being their
/// inverse ratios.
#[inline(always)]
fn upper_part(p: f64, q: f64, high: f64, low: f64) -> f64 {
    // p₁ + p₂ = p and p₁·high + p₂·low = q. Rounding may step over the ends, and where the edges are close it is most of a
    // small difference: what is on the lower edge but for rounding is on it.
    let above = p * high - q;
    if above > ON_EDGE * q { (above / (high - low)).min(p) } else { 0.0 }
}

/// The two edges of a token and its draft mass on each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Split {
    /// The lower edge; the upper one is the next.
    pub lower: usize,
    pub p_lower: f64,
    pub p_upper: f64,
}

/// The edges that have draft mass, as a layout's items.
pub(crate) struct EdgeItems {
    /// Highest ratio first.
    pub items: Vec<Item>,
    /// The edge of each item.
    pub edge_of: Vec<u32>,
    /// The item of each edge.
    pub item_of: Vec<u32>,
}

impl Edges {
    /// The spacing of `classes` classes for `k` drafts, as a logarithm. The lowest finite edge is `1/k`: a token
    /// below it is always accepted, since no rule selects a token more than `k` times as often as it is drafted.
    pub fn width(classes: usize, k: usize) -> f64 {
        ((k as f64).ln() + LOG_HIGHEST) / (classes - 2) as f64
    }

    /// Edges `width` apart of which one is the ratio `e^anchor`, covering the ratios from `1/k` up.
    pub fn new(width: f64, anchor: f64, k: usize) -> Self {
        Self::spanning(width, anchor, -(k as f64).ln())
    }

    /// Edges `width` apart of which one is the ratio `e^anchor`, covering the ratios from `e^log_lowest` up.
    pub fn spanning(width: f64, anchor: f64, log_lowest: f64) -> Self {
        let first = ((log_lowest - anchor) / width).floor();
        let last = ((LOG_HIGHEST - anchor) / width).ceil();
        let log_lowest = anchor + first * width;
        // e^(−j·width) as a product of two powers, each computed once: an exponential for every 32nd edge is enough.
        let steps: [f64; 32] = std::array::from_fn(|j| (-(j as f64) * width).exp());
        let count = (last - first) as usize + 1;
        let mut inverses: Vec<f64> = Vec::with_capacity(count + steps.len());
        for start in (0..count).step_by(steps.len()) {
            let base = (-(anchor + (first + start as f64) * width)).exp();
            inverses.extend(steps.map(|step| base * step));
        }
        inverses.truncate(count);
        inverses.push(0.0);
        let class_of: Vec<u32> = (0..inverses.len() as u32).collect();
        let half = (-0.5 * width).exp();
        Edges { log_lowest, per_width: 1.0 / width, half, first_of: class_of.clone(), class_of, inverses }
    }

    /// The number of edges, the infinite one included; also the number of classes.
    pub fn len(&self) -> usize {
        self.inverses.len()
    }

    /// The inverse ratio of an edge; 0 for the infinite one, which is the last.
    pub fn inverse(&self, edge: usize) -> f64 {
        self.inverses[edge]
    }

    /// The logarithm of the lowest finite edge.
    pub fn log_lowest(&self) -> f64 {
        self.log_lowest
    }

    /// The class of a token: 0 below the lowest edge, `j + 1` from edge `j` up to the next.
    pub fn class(&self, p: f64, q: f64) -> usize {
        let place = ((p / q).ln() - self.log_lowest) * self.per_width;
        // As an integer: 0 for what is below and for 0/0, the last class for infinity.
        let cell = ((place + 1.0) as usize).min(self.class_of.len() - 1);
        let mut class = self.class_of[cell] as usize;
        // Rounding may have put the token on the wrong side of an edge; the band decides.
        while class > 0 && !reaches(p, q, self.inverses[class - 1]) {
            class -= 1;
        }
        while class + 1 < self.len() && reaches(p, q, self.inverses[class]) && p > 0.0 {
            class += 1;
        }
        class
    }

    /// The draft and target mass of each class. `O(V)`.
    pub fn count<L: Laws>(&self, laws: &L) -> Vec<(f64, f64)> {
        let mut classes = vec![(0.0, 0.0); self.len()];
        for_each_token(laws, |_, p, q| {
            if p > 0.0 || q > 0.0 {
                let class = &mut classes[self.class(p, q)];
                *class = (class.0 + p, class.1 + q);
            }
        });
        classes
    }

    /// The draft mass on each edge, given the masses of each class.
    pub fn draft_masses(&self, classes: &[(f64, f64)]) -> Vec<f64> {
        let mut masses = Vec::with_capacity(self.len());
        // What the classes up to here have put on the next edge.
        let mut mass = classes[0].0;
        masses.extend(classes[1..].iter().zip(self.inverses.windows(2)).map(|(&(p, q), edges)| {
            let upper = upper_part(p, q, edges[0], edges[1]);
            std::mem::replace(&mut mass, upper) + (p - upper)
        }));
        masses.push(mass);
        masses
    }

    /// What a layout is made of, given the masses of each class: the edges that have draft mass, highest ratio first.
    pub fn items(&self, classes: &[(f64, f64)]) -> EdgeItems {
        let masses = self.draft_masses(classes);
        let mut found =
            EdgeItems { items: Vec::with_capacity(self.len()), edge_of: Vec::new(), item_of: vec![0; self.len()] };
        for edge in (0..self.len()).rev() {
            if masses[edge] > 0.0 {
                found.items.push(Item { p: masses[edge], q: masses[edge] * self.inverse(edge) });
                found.edge_of.push(edge as u32);
            }
            // No draft has a share on an edge without mass; what rounding makes look like one goes to a neighbour.
            found.item_of[edge] = (found.items.len() as u32).saturating_sub(1);
        }
        found
    }

    /// Drops edges as long as no class becomes heavier and wider than `loss` allows, so that there is less to lay out;
    /// the masses of the classes that remain.
    ///
    /// A mixture on edges `w` apart (in the logarithm of the ratio) loses at most about `w²/8` of the mass between
    /// them, wherever the layout tells ratios apart. Each class that remains loses at most `loss`, or is as narrow as
    /// it was.
    pub fn thinned(self, classes: Vec<(f64, f64)>, loss: f64) -> (Edges, Vec<(f64, f64)>) {
        let width = 1.0 / self.per_width;
        let (mut mass, mut cells) = (0.0, 0.0);
        self.keeping(&classes, |edge| {
            // The edge stays if what is below it, with the class above, is enough.
            let here = classes.get(edge + 1).map_or(0.0, |&(p, q)| p.max(q));
            (mass, cells) = (mass + here, cells + 1.0);
            let spread = cells * width;
            let is_kept = mass * spread * spread > 8.0 * loss;
            if is_kept {
                (mass, cells) = (here, 1.0);
            }
            is_kept
        })
    }

    /// The outermost edges and those of the others that are to be kept, asked for from the lowest on, and the masses of
    /// the classes between them.
    fn keeping(&self, classes: &[(f64, f64)], mut keep: impl FnMut(usize) -> bool) -> (Edges, Vec<(f64, f64)>) {
        // Few are kept, as a rule.
        const CAPACITY: usize = 256;
        let (mut inverses, mut merged) = (Vec::with_capacity(CAPACITY), Vec::with_capacity(CAPACITY));
        let mut class_of = Vec::with_capacity(classes.len());
        let (mut class, mut sum) = (0, (0.0, 0.0));
        // Each class with the edge above it.
        for (edge, (&masses, &inverse)) in classes.iter().zip(&self.inverses).enumerate() {
            class_of.push(class);
            sum = (sum.0 + masses.0, sum.1 + masses.1);
            let is_outermost = edge == 0 || edge + 2 >= self.len();
            if keep(edge) || is_outermost {
                inverses.push(inverse);
                merged.push(sum);
                (class, sum) = (class + 1, (0.0, 0.0));
            }
        }
        let first_of = (0..class).collect();
        (
            Edges {
                log_lowest: self.log_lowest,
                per_width: self.per_width,
                half: self.half,
                class_of,
                first_of,
                inverses,
            },
            merged,
        )
    }

    /// The class in which the mixture on its two edges loses acceptance, the one that loses most; `None` if the
    /// mixtures attain the optimum.
    ///
    /// The loss of a set of highest ratio is `P^k − Q`. At the ends of the classes virtual and real tokens have the same
    /// sums, so no loss found there is the mixture's fault. Inside a class the virtual tokens have one more point, after
    /// the upper edge's share; `P^k − Q` is convex in between. Where it is nowhere above the loss at the ends, the
    /// optimum of the virtual tokens is a bound that the real ones attain: the optimum.
    pub fn losing_class(&self, classes: &[(f64, f64)], k: usize) -> Option<usize> {
        const ROUNDING: f64 = 1e-14;
        let loss = |p: f64, q: f64| power(p, k) - q;
        let (mut p, mut q, mut at_ends, mut inside, mut losing) = (0.0, 0.0, 0.0f64, 0.0, None);
        for (class, masses) in classes.iter().enumerate().rev().filter(|(_, class)| class.0 > 0.0) {
            let upper = self.split_sum(class, masses.0, masses.1).p_upper;
            let here = loss(p + upper, q + upper * self.inverses[class]);
            if here > inside {
                (inside, losing) = (here, Some(class));
            }
            (p, q) = (p + masses.0, q + masses.1);
            at_ends = at_ends.max(loss(p, q));
        }
        losing.filter(|_| inside > at_ends + ROUNDING)
    }

    /// Puts new edges inside a class, at ratios of its `tokens` (given by their masses), and divides its masses among
    /// the new classes. Says whether there was anything to divide.
    pub fn refine(&mut self, class: usize, tokens: &[(f64, f64)], classes: &mut Vec<(f64, f64)>) -> bool {
        let band = self.band(class);
        let (above, below) = (band.from.unwrap_or(f64::INFINITY), band.to.unwrap_or(f64::NEG_INFINITY));
        let drafted = tokens.iter().filter(|(p, _)| *p > 0.0);
        // Edges that differ by rounding alone would tell nothing apart.
        let is_below = |a: f64, b: f64| a < b * (1.0 - 4.0 * ON_EDGE);
        let is_inside = |r: &f64| is_below(below, *r) && is_below(*r, above);
        let mut ratios: Vec<f64> = drafted.map(|(p, q)| q / p).filter(is_inside).collect();
        ratios.sort_unstable_by(|a, b| b.total_cmp(a));
        ratios.dedup_by(|r, kept| !is_below(*r, *kept));
        // Few tokens get an edge each; of many, some, and the class that still loses is refined again.
        let step = ratios.len().div_ceil(NEW_EDGES).max(1);
        let new: Vec<f64> = ratios.into_iter().step_by(step).collect();
        if new.is_empty() {
            return false;
        }
        let mut divided = vec![(0.0, 0.0); new.len() + 1];
        for &(p, q) in tokens {
            let part = &mut divided[new.partition_point(|&inverse| reaches(p, q, inverse))];
            *part = (part.0 + p, part.1 + q);
        }
        let (count, first) = (new.len() as u32, self.first_of[class]);
        classes.splice(class..=class, divided);
        self.inverses.splice(class..class, new);
        let shift = |c: &mut u32| *c += if *c > class as u32 { count } else { 0 };
        self.class_of.iter_mut().for_each(shift);
        self.first_of.iter_mut().for_each(shift);
        self.first_of.splice(class..class, std::iter::repeat_n(first, count as usize));
        true
    }

    /// The ratios of a class.
    pub fn band(&self, class: usize) -> Band {
        let first = self.first_of[class];
        let cells = self.class_of.partition_point(|&c| c < first)..self.class_of.partition_point(|&c| c <= first);
        Band {
            ends_of_cells: (class == first as usize, self.first_of.get(class + 1) != Some(&first)),
            cells,
            from: class.checked_sub(1).map(|edge| self.inverses[edge]),
            to: (class + 1 < self.len()).then(|| self.inverses[class]),
        }
    }

    /// The share of its draft mass that a token counted in a cell has on the upper edge, and the class, given its `q/p` over
    /// that of the cell's middle. `None` where the sums do not have the token like that: below and above the grid, where
    /// edges were dropped and where a class was divided.
    pub fn counted_share(&self, cell: usize, over_middle: f64) -> Option<(usize, f64)> {
        let class = self.class_of[cell] as usize;
        let is_first = cell > 0 && (self.class_of[cell - 1] as usize) < class;
        let is_last = self.class_of.get(cell + 1) == Some(&(class as u32 + 1));
        (is_first && is_last).then(|| {
            let (high, low) = (self.inverses[class - 1], self.inverses[class]);
            (class, upper_part(1.0, high * self.half * over_middle, high, low))
        })
    }

    /// Splits a token of masses `p > 0` and `q ≥ 0`.
    pub fn split(&self, p: f64, q: f64) -> Split {
        self.split_sum(self.class(p, q), p, q)
    }

    /// The draft mass on one of its two edges that a token of a class has: what [`split_sum`](Edges::split_sum) gives, as
    /// a linear function of its masses.
    pub fn part(&self, class: usize, edge: usize) -> Excess {
        let Some(lower) = class.checked_sub(1) else {
            return Excess { of_q: 0.0, of_p: 1.0, least: 0.0 };
        };
        let (high, low) = (self.inverses[lower], self.inverses[lower + 1]);
        let per_gap = 1.0 / (high - low);
        if edge == lower {
            Excess { of_q: per_gap, of_p: -low * per_gap, least: 0.0 }
        } else {
            Excess { of_q: -per_gap, of_p: high * per_gap, least: 0.0 }
        }
    }

    /// Splits the sum of tokens of one class: the split is linear.
    pub fn split_sum(&self, class: usize, p: f64, q: f64) -> Split {
        let Some(lower) = class.checked_sub(1) else {
            return Split { lower: 0, p_lower: p, p_upper: 0.0 };
        };
        let (high, low) = (self.inverses[lower], self.inverses[lower + 1]);
        let p_upper = upper_part(p, q, high, low);
        Split { lower, p_lower: p - p_upper, p_upper }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn a_split_keeps_both_masses_between_the_finite_edges() {
        let edges = Edges::new(Edges::width(256, 4), 0.0, 4);
        for i in 0..1000 {
            let (p, q) = (0.3, 0.3 * (-1.3 + 0.0113 * f64::from(i)).exp().recip());
            let split = edges.split(p, q);
            let (high, low) = (edges.inverse(split.lower), edges.inverse(split.lower + 1));
            assert!(split.p_lower >= 0.0 && split.p_upper >= 0.0);
            assert_relative_eq!(split.p_lower + split.p_upper, p, max_relative = 1e-14);
            assert_relative_eq!(split.p_lower * high + split.p_upper * low, q, max_relative = 1e-12);
        }
    }

    #[test]
    fn the_outermost_edges_take_everything() {
        let edges = Edges::new(Edges::width(64, 2), 0.0, 2);
        let last = edges.len() - 1;
        assert_eq!(edges.split(0.5, 0.0), Split { lower: last - 1, p_lower: 0.0, p_upper: 0.5 });
        assert_eq!(edges.split(1e-9, 0.9), Split { lower: 0, p_lower: 1e-9, p_upper: 0.0 });
        // Equal masses sit on an edge of their own.
        let split = edges.split(0.25, 0.25);
        assert_relative_eq!(split.p_lower.max(split.p_upper), 0.25, max_relative = 1e-12);
    }
}
