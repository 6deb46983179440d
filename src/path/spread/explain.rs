//! How the spread coupling decides a round, number by number: for teaching and for looking into a decision.

use super::label::Piece;
use super::{Nodes, SpreadCoupling};
use crate::layout::Segment;
use crate::path::PathError;
use crate::path::block::keep_probability;
use crate::path::coins::{Coins, Purpose};
use crate::path::outcome::{Outcome, dense, next_or_target};
use crate::path::row::Row;
use crate::path::tree::{ROOT, Round};
use crate::pmf::Token;
use crate::problem::{Laws, for_each_token};
use crate::sum::Sum;

/// A round that the [`SpreadCoupling`] has decided, with every number that decided it.
///
/// The [`outcome`](Explanation::outcome) is that of [`verify`](crate::path::PathVerifier::verify) for the same coins. With one
/// path the numbers are those of block verification, and every label law is the uniform one.
///
/// ```
/// use draftpick::path::{Chain, PathVerifier, RoundCoins, SpreadCoupling};
/// use draftpick::Pmf;
///
/// let (p, q) = (Pmf::new([0.5, 0.3, 0.2])?, Pmf::new([0.2, 0.3, 0.5])?);
/// let chain = Chain::new(2, |_| (p.clone(), q.clone()))?;
/// let round = chain.round(&[&[0, 2], &[2, 1]])?;
/// let coins = RoundCoins { seed: 1, start: 0 };
/// let explanation = SpreadCoupling::default().explain(&round, &coins)?;
/// assert!(explanation.labels().iter().all(|&label| label <= explanation.labels()[explanation.winner()]));
/// assert_eq!(explanation.outcome(), SpreadCoupling::default().verify(&round, &coins)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Explanation<'r, R: Row> {
    nodes: Nodes<'r, R>,
    labels: Vec<f64>,
    winner: usize,
    tosses: Vec<Toss>,
    outcome: Outcome,
}

/// A coin that decides whether a node is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Toss {
    /// The node.
    pub node: usize,
    /// `h_t`, the probability of keeping it, given that nothing below it was kept.
    pub keep: f64,
    /// The coin: below `keep`, and the node is kept.
    pub coin: f64,
}

impl Toss {
    /// Whether the node is kept.
    pub fn is_kept(&self) -> bool {
        self.coin < self.keep
    }
}

impl SpreadCoupling {
    /// Decides a round as [`verify`](crate::path::PathVerifier::verify) does and keeps what decided it. Slower: every node of the
    /// tree is prepared, whether it can still win or not.
    ///
    /// # Errors
    /// As `verify`.
    pub fn explain<'r, R: Row>(&self, round: &'r Round<R>, coins: &dyn Coins) -> Result<Explanation<'r, R>, PathError> {
        let paths = round.tree().paths();
        let mut nodes = Nodes::new(round, self.loss);
        if let (1, Some(root)) = (paths.len(), &mut nodes.states[ROOT]) {
            // The only path wins with any label.
            root.is_settled = true;
        }
        for path in paths {
            path.windows(2).try_for_each(|step| nodes.reach(step[0], step[1]))?;
            nodes.weigh(path)?;
        }
        let last = |path: usize| paths[path][paths[path].len() - 1];
        let length = paths.iter().map(|path| path.len() - 1).max().unwrap_or(0);
        let label = |path: usize| nodes.label(last(path)).draw(coins.coin(Purpose::Label, length, path));
        let labels: Vec<f64> = (0..paths.len()).map(label).collect();
        let winner = (1..labels.len()).fold(0, |best, path| if labels[path] > labels[best] { path } else { best });
        let mut explanation =
            Explanation { nodes, labels, winner, tosses: Vec::new(), outcome: Outcome { node: ROOT, next: None } };
        for (depth, &node) in paths[winner].iter().enumerate().rev() {
            let keep = explanation.keep(node);
            let toss = Toss { node, keep, coin: coins.coin(Purpose::Accept, depth, 0).get() };
            explanation.tosses.push(toss);
            if toss.is_kept() {
                let coin = coins.coin(Purpose::Residual, depth, 0);
                let inner = explanation.nodes.nodes[node].as_ref();
                let drawn = inner.and_then(|inner| inner.residuals(explanation.weight(node)).draw(coin));
                explanation.outcome = next_or_target(round, node, coin, drawn);
                break;
            }
        }
        Ok(explanation)
    }
}

impl<R: Row> Explanation<'_, R> {
    /// The label of each path.
    pub fn labels(&self) -> &[f64] {
        &self.labels
    }

    /// The path with the largest label, the first of equal ones.
    pub fn winner(&self) -> usize {
        self.winner
    }

    /// The coins that were tossed along the winner, from its last node up to the one that is kept.
    pub fn tosses(&self) -> &[Toss] {
        &self.tosses
    }

    /// What comes out.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The law of the label of a path that passes `node`: stretches of labels from the lowest up, over each of which the law is
    /// even, with their shares of it. The shares add up to 1.
    pub fn label_law(&self, node: usize) -> Vec<(Segment, f64)> {
        pieces(self.nodes.label(node).pieces())
    }

    /// The same for a path that goes on from the inner node `node` with `token`, whether one was drafted or not; empty for
    /// a leaf, and for a token that cannot be drafted.
    pub fn label_law_after(&self, node: usize, token: Token) -> Vec<(Segment, f64)> {
        let Some(inner) = &self.nodes.nodes[node] else { return Vec::new() };
        let (p, q) = inner.laws().masses(token);
        if !(p > 0.0) {
            return Vec::new();
        }
        pieces(inner.label_after(self.nodes.label(node), p, q).pieces())
    }

    /// `a`, the law of the winner's next token at `node`, given that the winner passes it: token by token; empty for a leaf.
    pub fn selected(&self, node: usize) -> Vec<f64> {
        let Some(inner) = &self.nodes.nodes[node] else { return Vec::new() };
        let mut law = vec![0.0; self.nodes.round.vocab()];
        for_each_token(inner.laws(), |token, p, q| {
            law[token as usize] = if p > 0.0 { inner.selected(p, q) } else { 0.0 };
        });
        law
    }

    /// `P_t`: the probability that the winner is kept down to `node`, given that it passes it.
    pub fn weight(&self, node: usize) -> f64 {
        self.nodes.weight(node)
    }

    /// `S_t = Σ (P_t·q − a)₊` at an inner node; `None` for a leaf.
    pub fn residual(&self, node: usize) -> Option<f64> {
        self.nodes.nodes[node].as_ref().map(|inner| inner.residuals(self.weight(node)).total())
    }

    /// `h_t`: the probability of keeping `node`, given that the winner passes it and nothing below it is kept.
    pub fn keep(&self, node: usize) -> f64 {
        match self.residual(node) {
            // For certain, also where rounding left no residual.
            _ if node == ROOT => 1.0,
            Some(residual) => keep_probability(residual, self.weight(node)),
            None => self.weight(node),
        }
    }

    /// The law of the token that follows if `node` is kept: `∝ (P_t·q − a)₊`, the target's own at a leaf, and at the root if
    /// rounding left that nothing; empty where the text ends or nothing can follow.
    pub fn next_law(&self, node: usize) -> Vec<f64> {
        let target = || self.nodes.round.target(node).map(dense).unwrap_or_default();
        let Some(inner) = &self.nodes.nodes[node] else {
            return target();
        };
        let mut law = inner.residual_of_each(self.weight(node));
        let total = Sum::of(law.iter().copied());
        if !(total > 0.0) {
            return if node == ROOT { target() } else { Vec::new() };
        }
        law.iter_mut().for_each(|mass| *mass /= total);
        law
    }
}

fn pieces(pieces: &[Piece]) -> Vec<(Segment, f64)> {
    pieces.iter().map(|piece| (piece.segment, piece.mass)).collect()
}
