//! The exchange layout: labels in order, but for what neighbours in the order exchange.
//!
//! As in [`layout`](crate::layout) there are *items* of draft mass `P` and target mass `Q`, ordered by `P/Q` descending,
//! every draft gets a label by its item, and the largest of `k` labels wins. There an item has a region to itself. Here it
//! has an interval, the intervals in order, and shares it:
//!
//! ```text
//! len    = P/S, S = ΣP            interval [start, start + len], end to end
//! X      = the mean of k·u^(k−1) over the interval                     it ascends along the order
//! diff   = Q − len·X              what the item lacks (deficit), or exceeds (surplus, −diff), with all labels at home
//! H      = the first items with the least sum of diff                  `head` of them
//! match  = deficits with surpluses, in H from its end on, outside from its end on too, by running sums
//! swap   = where θ of a deficit i is matched with a surplus o, each puts θ/(X_o − X_i) of its length of labels into the
//!          other's interval
//! ```
//!
//! A swap takes as much length from an interval as it brings, so the labels of all items together stay uniform on `[0, 1]`;
//! it moves `θ` of mass from `o` to `i`. A deficit's partners come later in the order, so the gap is positive, and
//! `X_i ≤ Q_i/len_i ≤ Q_o/len_o ≤ X_o` keeps the lengths within the intervals. In `H` all deficits are matched, outside all
//! surpluses: the selected masses are `m ≥ Q` in `H` and `m ≤ Q` outside, which is all that the optimum needs. Proofs are in
//! `docs/math.md`, section 15. It is sums only: no majorant and no search for windows, and no threshold at which a law of
//! labels jumps.
//!
//! It is the inverse transform martingale coupling (Jourdain and Margheriti 2020, arXiv 1808.01390) of discrete laws, applied
//! on either side of the end of `H`.

use crate::layout::Segment;
use crate::pmf::Coin;
use crate::simd::{self, Kernel};

/// An interval for each item, and what the items exchange.
#[derive(Clone, Debug)]
pub struct ExchangeLayout {
    /// The inverse of the items' total draft mass.
    per_mass: f64,
    /// The draft mass of each item, positive.
    drafted: Vec<f64>,
    /// `Q/P` of each item, ascending.
    inverses: Vec<f64>,
    /// Where each interval starts, and where the last one ends.
    starts: Vec<f64>,
    /// The mean of `k·u^(k−1)` over each interval.
    in_order: Vec<f64>,
    /// The deficits between the end of `H` and each boundary of items, added up.
    deficits: Vec<f64>,
    /// The surpluses likewise.
    surpluses: Vec<f64>,
    /// `m/P` of each item.
    densities: Vec<f64>,
    /// The number of items in `H`.
    head: usize,
    /// What is matched in `H`, and outside.
    matched: [f64; 2],
}

/// What an item lacks or exceeds, in coordinates on its side of the end of `H`.
struct Imbalance<'a> {
    /// Where the item's part begins.
    base: f64,
    /// How much it is, at least 0.
    amount: f64,
    /// How much of it is below what is matched; negative if that ends before the part begins.
    matched: f64,
    /// The running sums of the other kind, from the end of `H` on.
    others: &'a [f64],
}

/// What an item shares with another: coordinates from its own base on, and labels.
struct Shared {
    partner: usize,
    from: f64,
    to: f64,
    /// The share of the item's labels at these coordinates that lie with the partner.
    away: f64,
}

impl ExchangeLayout {
    /// The layout of items given by draft mass and `Q/P`, in order of `Q/P` ascending. `O(n)`.
    ///
    /// Every draft mass is positive and no two `Q/P` are equal; `k ≥ 1`.
    pub(crate) fn new(drafted: Vec<f64>, inverses: Vec<f64>, k: usize) -> Self {
        let n = drafted.len();
        // Four sums side by side: one alone waits for every addition.
        let (fours, rest) = drafted.as_chunks::<4>();
        let sums = fours.iter().fold([0.0; 4], |sums, four| std::array::from_fn(|i| sums[i] + four[i]));
        let per_mass = 1.0 / (sums.iter().sum::<f64>() + rest.iter().sum::<f64>());
        let mut starts = Vec::with_capacity(n + 1);
        let mut end = 0.0;
        starts.push(0.0);
        starts.extend(drafted.iter().map(|p| {
            end += p * per_mass;
            end
        }));
        let mut in_order = vec![1.0; n];
        simd::run(MeanDensities { ends: &starts, k: k as u32, into: &mut in_order });
        let mut layout = ExchangeLayout {
            per_mass,
            drafted,
            inverses,
            starts,
            in_order,
            deficits: vec![0.0; n + 1],
            surpluses: vec![0.0; n + 1],
            densities: Vec::new(),
            head: 0,
            matched: [0.0; 2],
        };
        let diffs: Vec<f64> = (0..n).map(|item| layout.diff(item)).collect();
        let (mut sum, mut least) = (0.0f64, 0.0f64);
        for (item, diff) in diffs.iter().enumerate() {
            sum += diff;
            if sum < least {
                (least, layout.head) = (sum, item + 1);
            }
        }
        layout.match_up(diffs);
        layout
    }

    /// Adds up deficits and surpluses away from the end of `H`, and from that the selected masses. `diffs` are what each item
    /// lacks with all labels at home.
    fn match_up(&mut self, diffs: Vec<f64>) {
        let head = self.head;
        let (inside, outside) = diffs.split_at(head);
        let deficits = self.deficits.split_at_mut(head);
        let surpluses = self.surpluses.split_at_mut(head);
        self.matched = [
            add_up(inside.iter().zip(deficits.0.iter_mut().zip(surpluses.0)).rev()),
            add_up(outside.iter().zip(deficits.1[1..].iter_mut().zip(&mut surpluses.1[1..]))),
        ];
        let mut densities = diffs;
        for (item, density) in densities.iter_mut().enumerate() {
            // In H a deficit is made up for whole and a surplus as far as it is matched, outside it is the other way round.
            // Either way a density is on its side of Q/P, and on it where all is matched.
            let inverse = self.inverses[item];
            *density = if item < head {
                let (base, end) = (self.surpluses[item + 1], self.surpluses[item]);
                let matched = self.matched[0];
                if end <= matched { inverse } else { self.partly(item, -(matched - base).max(0.0)).max(inverse) }
            } else {
                let (base, end) = (self.deficits[item], self.deficits[item + 1]);
                let matched = self.matched[1];
                if end <= matched { inverse } else { self.partly(item, (matched - base).max(0.0)).min(inverse) }
            };
        }
        self.densities = densities;
    }

    /// `m/P` of an item that is selected by `gain` more often than with all its labels at home.
    fn partly(&self, item: usize, gain: f64) -> f64 {
        let in_order = self.in_order[item] * self.per_mass;
        // Hardly ever other than 0: a division for each item would be felt.
        if gain == 0.0 { in_order } else { in_order + gain / self.drafted[item] }
    }

    fn length(&self, item: usize) -> f64 {
        self.drafted[item] * self.per_mass
    }

    /// `Q` less what is selected with all labels at home.
    fn diff(&self, item: usize) -> f64 {
        self.drafted[item] * self.inverses[item] - self.length(item) * self.in_order[item]
    }

    /// An item's part of the running sums. It is what the sums grow by, not `diff`: a partner sees the sums, and where both
    /// see the same they exchange the same, whatever rounding made of it.
    fn imbalance(&self, item: usize) -> Imbalance<'_> {
        let is_inside = item < self.head;
        let (near, far) = if is_inside { (item + 1, item) } else { (item, item + 1) };
        let lacks = self.deficits[far] > self.deficits[near];
        let (own, others) = if lacks { (&self.deficits, &self.surpluses) } else { (&self.surpluses, &self.deficits) };
        let (matched, others) =
            if is_inside { (self.matched[0], &others[..=self.head]) } else { (self.matched[1], &others[self.head..]) };
        Imbalance { base: own[near], amount: own[far] - own[near], matched: matched - own[near], others }
    }

    /// What an item shares at a coordinate from its base on, below what is matched. All is counted from the item's base: its
    /// part may be shorter than the distance of two neighbouring numbers there.
    fn shared(&self, item: usize, imbalance: &Imbalance, at: f64) -> Shared {
        let &Imbalance { base, amount, matched, others } = imbalance;
        let (partner, from, to) = if item < self.head {
            let partner = others.partition_point(|&sum| sum - base > at) - 1;
            (partner, others[partner + 1], others[partner])
        } else {
            let place = others.partition_point(|&sum| sum - base <= at) - 1;
            (self.head + place, others[place], others[place + 1])
        };
        // Both sides take the least that any of the three allows: a swap that rounding cuts short is cut short on both.
        let gap = (self.in_order[partner] - self.in_order[item]).abs();
        let (own, theirs) = (amount / self.length(item), (to - from) / self.length(partner));
        let away = if gap > 0.0 { own / gap.max(own).max(theirs) } else { 0.0 };
        Shared { partner, from: (from - base).max(0.0), to: (to - base).min(amount).min(matched), away }
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.drafted.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.drafted.is_empty()
    }

    /// The number of items in `H`, the first ones: those that are not selected too rarely. The others are not selected
    /// too often.
    pub fn head(&self) -> usize {
        self.head
    }

    /// An item's own interval of labels.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn interval(&self, item: usize) -> Segment {
        Segment { lo: self.starts[item], len: self.length(item) }
    }

    /// `p/q` of an item's tokens, infinite where the target rules them out.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn ratio(&self, item: usize) -> f64 {
        self.inverses[item].recip()
    }

    /// `m/p` of an item's tokens: how much more often one is selected than it is drafted, from 0 to `k`.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn density(&self, item: usize) -> f64 {
        self.densities[item]
    }

    /// The label at the share `coin` of an item's law: first the intervals of its partners, in the order of the items, then
    /// its own. `O(number of partners + log n)`.
    ///
    /// So a small change of the masses moves a label by little: the intervals of partners next to each other follow on each
    /// other, and how much of the law is with them hangs on all of them together.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn label(&self, item: usize, coin: Coin) -> f64 {
        let away: f64 = self.partners(item).map(|(_, weight)| weight).sum();
        if coin.get() < away {
            // In H partners come up from the last to the first.
            let backwards = item < self.head;
            let wanted = if backwards { away - coin.get() } else { coin.get() };
            let mut before = 0.0;
            let mut found = None;
            for (partner, weight) in self.partners(item).filter(|(_, weight)| *weight > 0.0) {
                found = Some((partner, share(wanted, before, before + weight)));
                before += weight;
                if wanted < before {
                    break;
                }
            }
            if let Some((partner, place)) = found {
                let theirs = self.interval(partner);
                return theirs.lo + theirs.len * if backwards { 1.0 - place } else { place };
            }
        }
        let own = self.interval(item);
        own.lo + own.len * share(coin.get(), away, 1.0)
    }

    /// The items that an item exchanges with, with the probability of its labels in their intervals.
    fn partners(&self, item: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let imbalance = self.imbalance(item);
        let end = imbalance.amount.min(imbalance.matched);
        let mut at = 0.0;
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let Shared { partner, from, to, away } = self.shared(item, &imbalance, at);
                at = to;
                (partner, (to - from) / imbalance.amount * away)
            })
        })
    }

    /// The law of an item's labels: intervals over which it is even, with the probability of each. The item's own comes
    /// first, then its partners'. `O(number of partners + log n)`.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn law(&self, item: usize) -> Vec<(Segment, f64)> {
        let mut law = vec![(self.interval(item), 1.0)];
        law.extend(self.partners(item).map(|(partner, weight)| (self.interval(partner), weight)));
        law[0].1 -= law[1..].iter().map(|(_, weight)| weight).sum::<f64>();
        law[0].1 = law[0].1.max(0.0);
        law
    }
}

/// The running sums of deficits and of surpluses; the lesser of their totals.
fn add_up<'a>(diffs: impl Iterator<Item = (&'a f64, (&'a mut f64, &'a mut f64))>) -> f64 {
    let (mut lack, mut excess) = (0.0, 0.0);
    for (diff, (deficits, surpluses)) in diffs {
        lack += diff.max(0.0);
        excess += (-diff).max(0.0);
        (*deficits, *surpluses) = (lack, excess);
    }
    f64::min(lack, excess)
}

/// The mean of `k·u^(k−1)` over the intervals between neighbouring `ends`, all at a time: as [`Segment::mean_density`] has it, step by step.
/// `into` holds ones.
struct MeanDensities<'a> {
    ends: &'a [f64],
    k: u32,
    into: &'a mut [f64],
}

impl Kernel for MeanDensities<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        const CHUNK: usize = 64;
        for (start, into) in (0..).step_by(CHUNK).zip(self.into.chunks_mut(CHUNK)) {
            let ends = &self.ends[start..=start + into.len()];
            let mut powers = [0.0; CHUNK + 1];
            powers[..ends.len()].copy_from_slice(ends);
            let mut bit = (1u32 << (31 - self.k.leading_zeros())) >> 1;
            while bit > 0 {
                for (i, h) in into.iter_mut().enumerate() {
                    *h *= powers[i + 1] + powers[i];
                }
                powers.iter_mut().for_each(|power| *power *= *power);
                if self.k & bit != 0 {
                    for (i, h) in into.iter_mut().enumerate() {
                        *h = ends[i + 1] * *h + powers[i];
                    }
                    powers.iter_mut().zip(ends).for_each(|(power, end)| *power *= end);
                }
                bit >>= 1;
            }
        }
    }
}

/// Where `at` lies between `from` and `to`, as a number in `[0, 1)`, whatever rounding did to the three.
fn share(at: f64, from: f64, to: f64) -> f64 {
    let share = (at - from) / (to - from);
    // Not `max`: what is no number, of nothing over nothing, becomes 0 as well.
    if share > 0.0 { share.min(Coin::LAST.get()) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::mean_density;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Draft masses and `Q/P` of items: ordinary, spiky, sparse, tied, equal, disjoint, a point on either side.
    fn items(seed: u64) -> (Vec<f64>, Vec<f64>) {
        let mut rng = StdRng::seed_from_u64(seed);
        let shape = seed % 8;
        let vocab = rng.random_range(1..=if seed.is_multiple_of(5) { 300 } else { 12usize });
        let split = rng.random_range(1..=vocab);
        let mut law = |side: usize| -> Vec<f64> {
            let point = rng.random_range(0..vocab);
            let mut weight = |token: usize| match shape {
                1 => 10f64.powf(-9.0 * rng.random::<f64>()),
                2 if rng.random::<bool>() => 0.0,
                3 => f64::from(rng.random_range(1..=3u32)),
                4 if (token < split) == (side == 0) => 0.0,
                5 | 6 if (shape == 5) == (side == 0) && token != point => 0.0,
                _ => rng.random::<f64>() + 1e-3,
            };
            let mut law: Vec<f64> = (0..vocab).map(&mut weight).collect();
            law[point] += 1e-3;
            let total: f64 = law.iter().sum();
            law.iter().map(|w| w / total).collect()
        };
        let p = law(0);
        let q = if shape == 7 { p.clone() } else { law(1) };
        let mut tokens: Vec<(f64, f64)> = p.into_iter().zip(q).filter(|(p, _)| *p > 0.0).collect();
        tokens.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
        let (mut drafted, mut inverses): (Vec<f64>, Vec<f64>) = (vec![], vec![]);
        for (p, q) in tokens {
            if inverses.last() == Some(&(q / p)) {
                *drafted.last_mut().unwrap() += p;
            } else {
                drafted.push(p);
                inverses.push(q / p);
            }
        }
        (drafted, inverses)
    }

    fn cases() -> impl Iterator<Item = (u64, usize, ExchangeLayout)> {
        (0..1600u64).map(|seed| {
            let k = 1 + (seed / 8 % 16) as usize;
            let (drafted, inverses) = items(seed);
            (seed, k, ExchangeLayout::new(drafted, inverses, k))
        })
    }

    type Law = Vec<(Segment, f64)>;

    /// How far the labels of all items are from even, and how far the items' masses from those claimed.
    fn off(layout: &ExchangeLayout, k: usize, law: impl Fn(usize) -> Law) -> (f64, f64) {
        let mut total = vec![0.0; layout.len()];
        let mut masses = 0.0f64;
        for item in 0..layout.len() {
            let (mut mean, mut weights) = (0.0, 0.0);
            for (segment, weight) in law(item) {
                assert!(weight >= 0.0);
                // Intervals without length to speak of start at the same number: any of them will do.
                let place = layout.starts.partition_point(|&start| start <= segment.lo) - 1;
                total[place.min(layout.len() - 1)] += layout.length(item) * weight;
                mean += weight * segment.mean_density(k as u32);
                weights += weight;
            }
            assert!((weights - 1.0f64).abs() < 1e-14);
            masses = masses.max((layout.length(item) * mean - layout.drafted[item] * layout.density(item)).abs());
        }
        let even = total.iter().enumerate().map(|(i, mass)| (mass - layout.length(i)).abs()).fold(0.0, f64::max);
        (even, masses)
    }

    /// How far the densities are from one side of `Q/P` in `H` and from the other outside, and the acceptance from the
    /// optimum.
    fn short(layout: &ExchangeLayout, k: usize) -> (f64, f64) {
        let (mut sides, mut kept, mut least) = (0.0f64, 0.0, 0.0f64);
        let (mut p, mut q) = (0.0, 0.0);
        for item in 0..layout.len() {
            let (mass, target) = (layout.drafted[item], layout.drafted[item] * layout.inverses[item]);
            let excess = layout.density(item) - layout.inverses[item];
            sides = sides.max(if item < layout.head() { -excess } else { excess });
            kept += target.min(mass * layout.density(item));
            (p, q) = (p + mass, q + target);
            least = least.min(q - f64::powi(p, k as i32));
        }
        (sides, 1.0 + least - kept - (1.0 - p.powi(k as i32)))
    }

    #[test]
    fn labels_are_even_masses_right_and_the_optimum_attained() {
        let (mut even, mut masses, mut gap, mut partners) = (0.0f64, 0.0f64, 0.0f64, 0);
        for (seed, k, layout) in cases() {
            let (uneven, wrong) = off(&layout, k, |item| layout.law(item));
            let (sides, short) = short(&layout, k);
            assert!(uneven <= 1e-13 && wrong <= 1e-13, "seed {seed}: {uneven:e}, {wrong:e}");
            assert!(sides <= 0.0, "seed {seed}: the wrong side of Q/P by {sides:e}");
            assert!(short.abs() <= 1e-13, "seed {seed}: off the optimum by {short:e}");
            (even, masses, gap) = (even.max(uneven), masses.max(wrong), gap.max(short.abs()));
            partners = (0..layout.len()).map(|item| layout.law(item).len() - 1).max().unwrap_or(0).max(partners);
        }
        println!("labels even to {even:.1e}, masses to {masses:.1e}, optimum to {gap:.1e}; up to {partners} partners");
        assert!(partners > 10);
    }

    #[test]
    fn wrong_layouts_are_found_out() {
        let (mut one_sided, mut at_home, mut ends) = (0, 0, 0);
        for (_, k, layout) in cases() {
            let lacks = |item: usize| layout.diff(item) > 0.0;
            let home = |item: usize| vec![(layout.interval(item), 1.0)];
            let (uneven, _) = off(&layout, k, |item| if lacks(item) { layout.law(item) } else { home(item) });
            one_sided += usize::from(uneven > 1e-3);
            let (uneven, masses) = off(&layout, k, home);
            assert!(uneven <= 1e-15);
            at_home += usize::from(masses > 1e-3);
            // H of one item more: matched and laid out as well as that can be.
            if layout.head() < layout.len() {
                let mut other = layout.clone();
                other.head += 1;
                (other.deficits[other.head], other.surpluses[other.head]) = (0.0, 0.0);
                other.match_up((0..other.len()).map(|item| other.diff(item)).collect());
                let (sides, gap) = short(&other, k);
                ends += usize::from(sides > 1e-3 || gap > 1e-3 || off(&other, k, |item| other.law(item)).1 > 1e-3);
            }
        }
        assert!(one_sided > 200 && at_home > 200 && ends > 200, "{one_sided} {at_home} {ends}");
    }

    /// The largest difference between the law of an item's labels and what evenly spaced coins give.
    fn off_label(layout: &ExchangeLayout, item: usize) -> f64 {
        const COINS: usize = 2000;
        let label = |i: usize| layout.label(item, Coin::new((i as f64 + 0.5) / COINS as f64).unwrap());
        let mut labels: Vec<f64> = (0..COINS).map(label).collect();
        labels.sort_unstable_by(f64::total_cmp);
        let law = layout.law(item);
        // The distribution functions at the labels. Segments without digits of their own are points.
        let below = |at: f64| -> f64 {
            let share = |s: &Segment| if s.hi() > s.lo { ((at - s.lo) / (s.hi() - s.lo)).clamp(0.0, 1.0) } else { 0.5 };
            law.iter().map(|(s, weight)| weight * if at < s.lo { 0.0 } else { share(s) }).sum()
        };
        labels
            .iter()
            .enumerate()
            .map(|(i, &at)| (below(at) - (i as f64 + 0.5) / COINS as f64).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn labels_follow_their_law() {
        let mut worst = 0.0f64;
        for (seed, _, layout) in cases().step_by(7) {
            // Each piece of the law may be off by one coin at either end. Intervals shorter than the distance of
            // neighbouring numbers are points.
            for item in (0..layout.len()).step_by(1 + layout.len() / 20).filter(|&item| layout.length(item) > 1e-12) {
                let off = off_label(&layout, item);
                let bound = 1e-3 * layout.law(item).len() as f64 + 1e-3;
                assert!(off <= bound, "seed {seed}, item {item}: {off:e}");
                worst = worst.max(off);
            }
        }
        println!("labels are off their law by {worst:.1e}");
    }

    /// Items that lack or exceed less than the running sums have digits for. Places reckoned in those sums have no
    /// digits there: such an item's labels would be a few points, or all with a partner.
    #[test]
    fn what_rounding_lacks_moves_no_labels() {
        let mut tiny = 0;
        for seed in 0..200u64 {
            let (n, k) = (40, 4);
            let mass = |i: u64| 1.0 + ((i * 7919 + seed * 104_729) % 97) as f64 / 97.0;
            let total: f64 = (0..n).map(mass).sum();
            let drafted: Vec<f64> = (0..n).map(|i| mass(i) / total).collect();
            let mut start = 0.0;
            let balanced = |&p: &f64| {
                start += p;
                mean_density(start - p, start, k as u32)
            };
            let mut inverses: Vec<f64> = drafted.iter().map(balanced).collect();
            // All are balanced within rounding, but for one that lacks and one that exceeds.
            (inverses[3], inverses[30]) = (inverses[4] * 0.999_999, inverses[29] * 1.000_000_1);
            let layout = ExchangeLayout::new(drafted, inverses, k);
            for item in 0..layout.len() {
                tiny += usize::from(layout.diff(item) != 0.0 && layout.diff(item).abs() < 1e-18);
                let off = off_label(&layout, item);
                assert!(off <= 1e-3 * layout.law(item).len() as f64 + 1e-3, "seed {seed}, item {item}: {off:e}");
            }
        }
        assert!(tiny > 100, "{tiny}");
    }

    #[test]
    fn the_law_has_no_jumps() {
        // A millionth of a millionth of draft mass more or less moves it by about as much, also where H ends elsewhere.
        let (mut ends, mut worst) = (0, 0.0f64);
        for seed in 0..2000u64 {
            let mut rng = StdRng::seed_from_u64(seed);
            let k = rng.random_range(2..=8usize);
            let mut inverses: Vec<f64> =
                (0..8).map(|_| 0.2 * rng.random_range(1..=3u32 + seed as u32 % 8) as f64).collect();
            inverses.sort_unstable_by(f64::total_cmp);
            inverses.dedup();
            let drafted: Vec<f64> = inverses.iter().map(|_| rng.random::<f64>() + 0.05).collect();
            // Targets scaled so that H ends where it just begins to: the least sum is 0, at the empty H and at another.
            let excess = |scale: f64| {
                let scaled = inverses.iter().map(|inverse| inverse * scale).collect();
                let layout = ExchangeLayout::new(drafted.clone(), scaled, k);
                (layout.head(), layout)
            };
            let (mut low, mut high) = (1e-3, 1e3);
            for _ in 0..200 {
                let middle = 0.5 * (low + high);
                if excess(middle).0 > 0 { low = middle } else { high = middle }
            }
            let ((before, a), (after, b)) = (excess(low), excess(high));
            assert!(before > 0 && after == 0);
            ends += usize::from(before > 1);
            for item in 0..a.len() {
                let mean = |layout: &ExchangeLayout| {
                    layout.law(item).iter().map(|(s, w)| w * (s.lo + 0.5 * s.len)).sum::<f64>()
                };
                worst = worst.max((mean(&a) - mean(&b)).abs()).max((a.density(item) - b.density(item)).abs());
            }
        }
        println!("{ends} ends of H moved by several items, the means of labels by {worst:.1e}");
        assert!(ends > 200 && worst < 1e-9, "{ends} {worst:e}");
    }
}
