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

    /// The items that an item exchanges with, in order, with the probability of its labels in their intervals. `O(log n)` for the
    /// first.
    fn partners(&self, item: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        // All is counted from the item's base: its part may be shorter than the distance of two neighbouring numbers there.
        let Imbalance { base, amount, matched, others } = self.imbalance(item);
        let is_inside = item < self.head;
        let end = amount.min(matched);
        let mut place = match () {
            () if !(end > 0.0) => others.len(),
            // The sums fall towards the end of H, and rise from there on.
            () if is_inside => others.partition_point(|&sum| sum - base >= end) - 1,
            () => others.partition_point(|&sum| sum - base <= 0.0) - 1,
        };
        let first = if is_inside { 0 } else { self.head };
        let per_length = 1.0 / self.length(item);
        let needed = amount * per_length;
        std::iter::from_fn(move || {
            while place + 1 < others.len() {
                let (near, far) = if is_inside { (place + 1, place) } else { (place, place + 1) };
                let (from, to) = ((others[near] - base).max(0.0), (others[far] - base).min(end));
                let beyond = if is_inside { others[far] - base <= 0.0 } else { from >= end };
                if beyond {
                    break;
                }
                let partner = first + place;
                place += 1;
                if to > from {
                    let gap = (self.in_order[partner] - self.in_order[item]).abs();
                    // Both sides divide by the most that any of the three asks for: a swap that rounding cuts short is cut
                    // short on both.
                    let (theirs, length) = (others[far] - others[near], self.length(partner));
                    let most = gap.max(needed);
                    let most = if theirs > most * length { theirs / length } else { most };
                    return Some((partner, if gap > 0.0 { (to - from) / most * per_length } else { 0.0 }));
                }
            }
            None
        })
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
        let mut before = 0.0;
        for (partner, weight) in self.partners(item) {
            let upto = before + weight;
            if coin.get() < upto {
                let theirs = self.interval(partner);
                return theirs.lo + theirs.len * share(coin.get(), before, upto);
            }
            before = upto;
        }
        let own = self.interval(item);
        own.lo + own.len * share(coin.get(), before, 1.0)
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

/// The mean of `k·u^(k−1)` over the intervals between neighbouring `ends`, many at a time: as [`Segment::mean_density`] has
/// it, step by step. `into` holds ones.
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
mod tests;
