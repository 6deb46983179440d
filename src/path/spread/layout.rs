//! The next tokens' label laws: spread as far as the winner's law allows.
//!
//! A node has a law of labels; `w` is the share of each stretch of its places in the winner's law, a convex function of
//! the place when added up from below, since larger labels win more often. Items are the node's ratio edges, masses `p`
//! and `q`, by `p/q` descending. Each gets a law of places with density `f ≥ 0`, so that `Σ p·f = 1` at every place; it
//! is then selected with probability `p·g`, `g` the mean of `w` under its law. With `P` the probability that the winner
//! is to be kept down to the node:
//!
//! ```text
//! H = the items of highest ratio that minimise P·q(H) − w(p(H))      H gets the lowest p(H) places, the others the rest
//! in H:      p·g ≥ P·q       elsewhere:   p·g ≤ P·q                  hence Σ min(P·q, p·g) is the largest possible
//!
//! spread(items, bound l on p·g):                                     l = α·q − β·p
//!     λ = the largest share of their laws that may be uniform over all their places: with the share 1 − λ that is
//!         left over, the items must still be able to reach their bounds. What hinders is some i items of highest
//!         ratio, whose rest can have no less than the lowest places give:
//!         λ·p(i)·w̄ + (1 − λ)·w(p(i)) ≤ l(i)
//!     at λ the bound is tight for these i: the rest of their laws is on the lowest places, that of the others above.
//!     spread(the i items, (l − λ·p·w̄)/(1 − λ)), spread(the others, likewise)
//! ```
//!
//! Every number is a sum over items: there is no search. A law is a mixture of uniform laws on nested stretches. Proofs are
//! in `docs/math.md`, section 14.

use super::label::{Label, Piece};
use crate::layout::{Item, Segment};

/// What is asked of the probabilities with which items are selected.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtLeast,
    AtMost,
    Exactly,
}

/// Places over which items have a share of their laws.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    places: Segment,
    /// Of the law of each item.
    share: f64,
    /// The stretch that this one is inside.
    parent: Option<u32>,
}

/// The laws of places of a node's items.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    stretches: Vec<Stretch>,
    /// The innermost stretch of each item.
    innermost: Vec<u32>,
    /// `g`: how many times as often an item is selected as it is drafted.
    gains: Vec<f64>,
}

/// Items still to be spread.
#[derive(Clone, Copy)]
struct Task {
    first: usize,
    end: usize,
    /// Where their places begin.
    lo: f64,
    bound: Bound,
    /// The bound `of_q·q − of_p·p`.
    of_q: f64,
    of_p: f64,
    /// What is left of the items' laws, and the gain from what is not.
    left: f64,
    gained: f64,
    parent: Option<u32>,
}

/// Below this share of its own size a difference is rounding.
const ROUNDING: f64 = 1e-12;

/// An item as it enters the construction.
struct Share {
    /// Its draft mass, as a share of all: its places.
    p: f64,
    q: f64,
    /// What its places would have of the winner's law if they came in order.
    w: f64,
}

impl Spread {
    /// Spreads the items, each with `p > 0` and by `p/q` descending, over the places of a label.
    pub fn new(label: &Label, items: &[Item], weight: f64, k: usize) -> Self {
        let total: f64 = items.iter().map(|item| item.p).sum();
        let winning = label.winning(items.iter().map(|item| item.p / total), k);
        let shares: Vec<Share> =
            items.iter().zip(winning).map(|(item, w)| Share { p: item.p / total, q: item.q, w }).collect();
        // H: its size and its places.
        let (mut at, mut loss) = ((0.0, 0.0, 0.0), 0.0);
        let mut over = (0, 0.0);
        for (i, share) in shares.iter().enumerate() {
            at = (at.0 + share.p, at.1 + share.q, at.2 + share.w);
            if weight * at.1 - at.2 < loss {
                (loss, over) = (weight * at.1 - at.2, (i + 1, at.0));
            }
        }
        let mut spread =
            Spread { stretches: Vec::new(), innermost: vec![0; items.len()], gains: vec![0.0; items.len()] };
        let (lo, of_q, of_p, left, gained, parent) = (0.0, weight, 0.0, 1.0, 0.0, None);
        let in_h = Task { first: 0, end: over.0, lo, bound: Bound::AtLeast, of_q, of_p, left, gained, parent };
        let mut tasks = vec![Task { first: over.0, end: items.len(), lo: over.1, bound: Bound::AtMost, ..in_h }, in_h];
        while let Some(task) = tasks.pop() {
            if task.first < task.end {
                spread.solve(task, &shares[task.first..task.end], &mut tasks);
            }
        }
        spread
    }

    /// Gives the items of a task what they share of its places; what is left is two tasks more.
    fn solve(&mut self, task: Task, shares: &[Share], tasks: &mut Vec<Task>) {
        let Task { first, end, lo, bound, of_q, of_p, left, gained, .. } = task;
        let wanted = |share: &Share| of_q * share.q - of_p * share.p;
        let (mut len, mut mass, mut all) = (0.0, 0.0, 0.0);
        for share in shares {
            (len, mass, all) = (len + share.p, mass + share.w, all + wanted(share));
        }
        let mean = mass / len;
        let (mut places, mut w, mut l) = (0.0, 0.0, 0.0);
        let (mut even, mut tight) = (1.0, None);
        for (i, share) in shares[..shares.len() - 1].iter().enumerate() {
            (places, w, l) = (places + share.p, w + share.w, l + wanted(share));
            // What an even law gives the first items above the least they can have, and what they may have.
            let given = places * mean - w;
            let room = if bound == Bound::AtLeast { (mass - w) - (all - l) } else { l - w };
            if given > ROUNDING * mass && room < even * given {
                (even, tight) = (room.max(0.0) / given, Some((first + i + 1, places)));
            }
        }
        let rest = left * (1.0 - even);
        let tight = tight.filter(|_| rest > ROUNDING);
        let share = if tight.is_some() { left * even } else { left };
        let this = self.stretches.len() as u32;
        self.stretches.push(Stretch { places: Segment { lo, len }, share, parent: task.parent });
        let Some((middle, places)) = tight else {
            self.innermost[first..end].fill(this);
            self.gains[first..end].fill(gained + left * mean);
            return;
        };
        let rest = Task {
            of_q: of_q / (1.0 - even),
            of_p: (of_p + even * mean) / (1.0 - even),
            left: rest,
            gained: gained + share * mean,
            parent: Some(this),
            ..task
        };
        // The tight side has its bounds exactly.
        let (lower, upper) = if bound == Bound::AtLeast { (bound, Bound::Exactly) } else { (Bound::Exactly, bound) };
        tasks.push(Task { first: middle, lo: lo + places, bound: upper, ..rest });
        tasks.push(Task { end: middle, bound: lower, ..rest });
    }

    /// How many times as often as it is drafted an item is selected.
    pub fn gain(&self, item: usize) -> f64 {
        self.gains[item]
    }

    /// The law of places of a token that has the given shares of its draft mass on one or two items, as stretches from
    /// the lowest up, each with its share.
    pub fn mixed(&self, token: &[(usize, f64)]) -> Vec<Piece> {
        let chains: Vec<Vec<Stretch>> = token
            .iter()
            .filter(|(_, weight)| *weight > 0.0)
            .map(|&(item, weight)| {
                let mut chain = Vec::new();
                let mut at = Some(self.innermost[item]);
                while let Some(i) = at {
                    let stretch = self.stretches[i as usize];
                    chain.push(Stretch { share: stretch.share * weight, ..stretch });
                    at = stretch.parent;
                }
                chain
            })
            .collect();
        let mut cuts: Vec<f64> =
            chains.iter().flatten().flat_map(|stretch| [stretch.places.lo, stretch.places.hi()]).collect();
        cuts.sort_unstable_by(f64::total_cmp);
        cuts.dedup();
        let mut parts: Vec<Piece> = Vec::with_capacity(cuts.len());
        for cut in cuts.windows(2) {
            let (lo, len) = (cut[0], cut[1] - cut[0]);
            let covers = |stretch: &&Stretch| stretch.places.lo <= lo && stretch.places.hi() >= cut[1];
            let density: f64 =
                chains.iter().flatten().filter(covers).map(|stretch| stretch.share / stretch.places.len).sum();
            if density > 0.0 {
                parts.push(Piece { segment: Segment { lo, len }, mass: density * len });
            }
        }
        // Stretches shorter than the distance of two neighbouring numbers are no wider than a cut.
        for stretch in chains.iter().flatten().filter(|stretch| stretch.places.hi() <= stretch.places.lo) {
            let at = parts.partition_point(|part| part.segment.lo < stretch.places.lo);
            parts.insert(at, Piece { segment: stretch.places, mass: stretch.share });
        }
        parts
    }
}
