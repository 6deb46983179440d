//! The trees of tokens, on the host: which node stands where, and whom it may attend to.

use std::collections::BTreeMap;
use std::ops::Range;

use super::llama::CallError;
use crate::decode::Extension;

/// A sequence's tree. The tokens of its root lie in slots `0..kept` of the cache, node `i ≥ 1` in slot `kept + i − 1`.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    kept: usize,
    /// The parent of node `i + 1`.
    parents: Vec<usize>,
    /// The number of tokens from the start of the sequence to node `i + 1`.
    lengths: Vec<usize>,
}

impl Tree {
    /// The number of nodes, the root among them.
    pub fn nodes(&self) -> usize {
        self.parents.len() + 1
    }

    /// The number of tokens of the root.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The number of slots in use.
    pub fn slots(&self) -> usize {
        self.kept + self.parents.len()
    }

    /// The number of tokens from the start of the sequence to a node.
    fn length(&self, node: usize) -> usize {
        if node == 0 { self.kept } else { self.lengths[node - 1] }
    }

    fn push(&mut self, parent: usize) {
        self.lengths.push(self.length(parent) + 1);
        self.parents.push(parent);
    }

    /// The nodes from the root, which is not among them, to `node`, the last one first.
    fn way_back(&self, node: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(node), |&node| (node != 0).then(|| self.parents[node - 1])).filter(|&node| node != 0)
    }

    /// Which slots to keep to make `node` the root, beyond those of the root: in order. `None` if there is no such node.
    pub fn way(&self, node: usize) -> Option<Vec<usize>> {
        if node >= self.nodes() {
            return None;
        }
        let mut way: Vec<usize> = self.way_back(node).map(|node| self.kept + node - 1).collect();
        way.reverse();
        Some(way)
    }

    /// Makes a node the root whose way has `tokens` tokens, once the cache holds them in its first slots.
    pub fn keep(&mut self, tokens: usize) {
        *self = Tree { kept: self.kept + tokens, ..Tree::default() };
    }
}

/// The slots on a node's way, its own the last one, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// Slots `0..first`.
    pub first: usize,
    /// The others.
    pub then: Vec<usize>,
}

impl Sight {
    pub fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.first).chain(self.then.iter().copied())
    }
}

/// The new nodes of one sequence in a call.
#[derive(Debug)]
pub(super) struct Part {
    pub sequence: usize,
    /// Their rows in the batch.
    pub rows: Range<usize>,
    /// The tree with the new nodes.
    pub tree: Tree,
}

impl Part {
    /// The slot of the first new node.
    pub fn first_slot(&self) -> usize {
        self.tree.slots() - self.rows.len()
    }

    /// Whether the new nodes in `rows` may attend to every slot below `slots`.
    pub fn sees_all(&self, rows: Range<usize>, slots: usize) -> bool {
        // A node's length is the number of slots on its way.
        rows.len() == 1 && self.tree.lengths[self.index(rows.start)] == slots
    }

    /// For each of the new nodes in `rows` (numbers from 0 within the part): 0 for each slot below `slots` that is on
    /// its way, −∞ for the others. Row-major.
    pub fn mask(&self, rows: Range<usize>, slots: usize) -> Vec<f32> {
        let mut mask = vec![f32::NEG_INFINITY; rows.len() * slots];
        for (row, new) in mask.chunks_exact_mut(slots).zip(rows) {
            row[..self.tree.kept].fill(0.0);
            for node in self.tree.way_back(self.index(new) + 1) {
                row[self.tree.kept + node - 1] = 0.0;
            }
        }
        mask
    }

    /// What a new node may attend to.
    pub fn sight(&self, new: usize) -> Sight {
        let mut then = Vec::new();
        for node in self.tree.way_back(self.index(new) + 1) {
            // Where a way is as long as its last slot allows, it leaves none out.
            if self.tree.length(node) == self.tree.kept + node {
                then.reverse();
                return Sight { first: self.tree.length(node), then };
            }
            then.push(self.tree.kept + node - 1);
        }
        then.reverse();
        Sight { first: self.tree.kept, then }
    }

    /// The index into the tree's lists of a new node.
    fn index(&self, new: usize) -> usize {
        self.tree.parents.len() - self.rows.len() + new
    }
}

/// A call, checked: its nodes sorted by sequence.
#[derive(Debug)]
pub(super) struct Plan {
    pub parts: Vec<Part>,
    /// By row of the batch.
    pub tokens: Vec<u32>,
    /// The number of tokens before each token, by row of the batch.
    pub positions: Vec<usize>,
    /// The rows of the batch whose scores are wanted, in the order of the call.
    pub scored: Vec<u32>,
}

impl Plan {
    /// Checks a call against the trees and the model's limits.
    pub fn new(
        new: &[Extension],
        tree: impl Fn(usize) -> Tree,
        vocab: usize,
        context: usize,
    ) -> Result<Self, CallError> {
        let mut by_sequence: BTreeMap<usize, (Tree, Vec<usize>)> = BTreeMap::new();
        for (index, extension) in new.iter().enumerate() {
            let &Extension { sequence, parent, token, .. } = extension;
            let (tree, indices) = by_sequence.entry(sequence).or_insert_with(|| (tree(sequence), Vec::new()));
            if parent >= tree.nodes() {
                return Err(CallError::Parent { index, sequence, parent, nodes: tree.nodes() });
            }
            if token as usize >= vocab {
                return Err(CallError::Token { index, token, vocab });
            }
            if tree.length(parent) >= context {
                return Err(CallError::Context { index, sequence, length: tree.length(parent) + 1, context });
            }
            tree.push(parent);
            indices.push(index);
        }

        let mut plan = Plan { parts: Vec::new(), tokens: Vec::new(), positions: Vec::new(), scored: Vec::new() };
        let mut row_of = vec![0; new.len()];
        for (sequence, (tree, indices)) in by_sequence {
            let start = plan.tokens.len();
            let rows = start..start + indices.len();
            let first = tree.parents.len() - indices.len();
            for (row, index) in rows.clone().zip(indices) {
                row_of[index] = row as u32;
                plan.tokens.push(new[index].token);
                plan.positions.push(tree.lengths[first + row - start] - 1);
            }
            plan.parts.push(Part { sequence, rows, tree });
        }
        plan.scored = new.iter().zip(row_of).filter(|(extension, _)| extension.scored).map(|(_, row)| row).collect();
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sequence: usize, parent: usize, token: u32) -> Extension {
        Extension { sequence, parent, token, scored: true }
    }

    #[test]
    fn nodes_see_their_way_only() {
        let mut tree = Tree::default();
        tree.push(0);
        tree.push(1);
        assert_eq!(tree.way(2), Some(vec![0, 1]));
        tree.keep(2);
        //   root (2 tokens) ─ 1 ─ 2
        //                     └── 3     and on another way from the root: 4
        let calls = [at(7, 0, 10), at(7, 1, 11), at(7, 1, 12), at(7, 0, 13)];
        let plan = Plan::new(&calls, |_| tree.clone(), 100, 10).unwrap();
        assert_eq!(plan.positions, [2, 3, 3, 2]);
        let part = &plan.parts[0];
        assert_eq!((part.sequence, part.rows.clone(), part.first_slot(), part.tree.slots()), (7, 0..4, 2, 6));
        let see = |row: usize| part.mask(row..row + 1, 6).iter().map(|&x| x == 0.0).collect::<Vec<_>>();
        assert_eq!(see(0), [true, true, true, false, false, false]);
        assert_eq!(see(1), [true, true, true, true, false, false]);
        assert_eq!(see(2), [true, true, true, false, true, false]);
        assert_eq!(see(3), [true, true, false, false, false, true]);
        let sight = |first, then: &[usize]| Sight { first, then: then.into() };
        let sights: Vec<_> = (0..4).map(|row| part.sight(row)).collect();
        assert_eq!(sights, [sight(3, &[]), sight(4, &[]), sight(3, &[4]), sight(2, &[5])]);
        assert!(part.sees_all(0..1, 3) && part.sees_all(1..2, 4) && !part.sees_all(2..3, 5));
        assert_eq!(part.tree.way(3), Some(vec![2, 4]));
        assert_eq!(part.tree.way(0), Some(vec![]));
        assert_eq!(part.tree.way(5), None);
    }

    #[test]
    fn sequences_are_brought_together_and_rows_keep_the_order_of_the_call() {
        let mut calls = [at(5, 0, 50), at(2, 0, 20), at(5, 1, 51), at(2, 1, 21)];
        calls[1].scored = false;
        let plan = Plan::new(&calls, |_| Tree::default(), 100, 10).unwrap();
        assert_eq!(plan.tokens, [20, 21, 50, 51]);
        assert_eq!(plan.positions, [0, 1, 0, 1]);
        assert_eq!(plan.scored, [2, 3, 1]);
    }
}
