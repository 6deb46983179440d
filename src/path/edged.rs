//! A node's two laws as masses on ratio edges.

use super::PathError;
use super::row::sealed::Counted;
use super::row::{Range, Row};
use super::tree::Round;
use crate::classes::{EdgeItems, Edges, Split};
use crate::layout::Item;
use crate::pmf::{Coin, Token};
use crate::problem::{Excess, Laws};
use crate::scan::ScanError;

/// How far below `1/K` the ratio edges reach, as a logarithm. A path may be selected more than `K` times as often as its
/// last token is drafted if its first tokens were selected less often than they were drafted; by more than a factor of
/// 400 that is not worth anything.
const HEADROOM: f64 = 6.0;

/// The two laws at an inner node as virtual tokens on ratio edges.
pub(super) struct Edged<L> {
    pub laws: L,
    pub edges: Edges,
    /// The draft and target mass of each class.
    pub classes: Vec<(f64, f64)>,
    /// The draft and target mass of each edge that is drafted, highest ratio first.
    pub items: Vec<Item>,
    /// The item of each edge, and the edge of each item.
    item_of: Vec<u32>,
    edge_of: Vec<u32>,
    /// The target mass on ratio 0, which is never drafted.
    pub undrafted: f64,
}

/// The laws at an inner node of a round, counted for `k` paths.
///
/// # Errors
/// The scores are refused.
pub(super) fn edged<R: Row>(
    round: &Round<R>,
    node: usize,
    k: usize,
    loss: f64,
) -> Result<Edged<R::Pair<'_>>, PathError> {
    let (draft, target) = round.pair(node).expect("the node has children, and so a draft law");
    Edged::count(draft, target, k, loss).map_err(|error| PathError::Scores { node, error })
}

impl<L: Laws> Edged<L> {
    /// Counts the tokens of two rows for `k` paths.
    ///
    /// # Errors
    /// The scores are refused.
    pub fn count<'a, R: Row<Pair<'a> = L>>(
        draft: &'a R,
        target: &'a R,
        k: usize,
        loss: f64,
    ) -> Result<Self, ScanError> {
        let range = Range { k, log_lowest: -(k as f64).ln() - HEADROOM };
        let Counted { laws, edges, classes } = R::count(draft, target, range)?;
        let (edges, classes) = edges.thinned(classes, loss);
        let EdgeItems { items, edge_of, item_of } = edges.items(&classes);
        let undrafted = (classes[0].1 - classes[0].0 * edges.inverse(0)).max(0.0);
        Ok(Edged { laws, edges, classes, items, item_of, edge_of, undrafted })
    }

    /// The edges that the tokens of a class are on.
    pub fn edges_of(&self, class: usize) -> std::ops::RangeInclusive<usize> {
        class.saturating_sub(1)..=class
    }

    /// Masses of the lowest and of the highest ratio that a token of a class may have.
    pub fn ends(&self, class: usize) -> [(f64, f64); 2] {
        let low = class.checked_sub(1).map_or((0.0, 1.0), |edge| (1.0, self.edges.inverse(edge)));
        [low, (1.0, self.edges.inverse(class))]
    }

    /// The item of an edge.
    pub fn item(&self, edge: usize) -> usize {
        self.item_of[edge.min(self.item_of.len() - 1)] as usize
    }

    /// A token's items, with its draft mass on each.
    pub fn split(&self, p: f64, q: f64) -> [(usize, f64); 2] {
        let Split { lower, p_lower, p_upper } = self.edges.split(p, q);
        [(self.item(lower), p_lower), (self.item(lower + 1), p_upper)]
    }

    /// A token of an item, by its draft mass on the edge. Two passes over the ratios of a class at most.
    pub fn draw_on(&self, item: usize, coin: Coin) -> Option<Token> {
        let edge = self.edge_of[item] as usize;
        // An edge holds the upper parts of the class below it and the lower parts of the one above.
        let classes = edge..(edge + 2).min(self.edges.len());
        let share = |class: usize| {
            let split = self.edges.split_sum(class, self.classes[class].0, self.classes[class].1);
            if split.lower == edge { split.p_lower } else { split.p_upper }
        };
        let mut threshold = coin.get() * self.items[item].p;
        for class in classes.clone() {
            if threshold < share(class)
                && let Some(token) = self.draw(class, threshold, share(class), &self.edges.part(class, edge))
            {
                return Some(token);
            }
            threshold -= share(class);
        }
        // Rounding kept the sum below the coin: the last token of any mass.
        classes.rev().find_map(|class| self.draw(class, f64::INFINITY, share(class), &self.edges.part(class, edge)))
    }

    /// A token by its target mass on ratio 0.
    pub fn draw_undrafted(&self, coin: Coin) -> Option<Token> {
        let excess = Excess { of_q: 1.0, of_p: -self.edges.inverse(0), least: 0.0 };
        self.draw(0, coin.get() * self.undrafted, self.undrafted, &excess)
    }

    /// The token of a class at which the sum of `excess`, `total` in all, exceeds the threshold; never one of target mass 0.
    pub fn draw(&self, class: usize, threshold: f64, total: f64, excess: &Excess) -> Option<Token> {
        let mass = |p, q| if q > 0.0 { excess.of(p, q) } else { 0.0 };
        self.laws.draw(Some(&self.edges.band(class)), threshold, total, &mass, excess)
    }
}
