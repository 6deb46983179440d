//! The spread coupling: the path coupling with labels spread as far as they can be.
//!
//! ```text
//! label:   each node has a law of labels on [0,1], the root the uniform one; a token's law is made from its node's by a
//!          density over its places, so that Σ_y p(y)·law_y is the node's again        K labels i.i.d. uniform on [0,1]
//! select:  each path draws a label from the law of its last node; the largest wins
//!          its law, token by token:  a(y | node) = M(y)/M(node),  M = the probability that the winner passes
//! accept:  block verification of the winner, with a in place of the draft law
//! ```
//!
//! Losslessness asks for nothing more than that: the labels are uniform whatever the densities, so `a` is the exact law
//! of the winner, and block verification is lossless for any draft law. In the path coupling
//! ([`PathCoupling`](super::PathCoupling)) the densities are those of disjoint regions. That is more than accepting as
//! much as possible at a node needs, and a region that is narrow leaves nothing to choose from further down. Here each
//! law is as near to its node's as it can be with nothing lost at the node (`spread/layout.rs`; `docs/math.md`, section 14).
//!
//! A token's law is the mixture of those of its two ratio edges ([`classes`](crate::classes)); which one it is on is not
//! drawn. So every node has one law, and the exact law of an outcome needs no enumeration.

mod explain;
mod label;
mod layout;

pub use explain::{Explanation, Toss};

use super::block::{Block, keep_probability, pair};
use super::coins::{Coins, Purpose};
use super::coupling::DEFAULT_LOSS;
use super::edged::{Edged, edged};
use super::outcome::{Outcome, OutcomeLaw, Stop, add_target, dense, from_target, next_or_target};
use super::row::Row;
use super::row::sealed::Prepare;
use super::tree::{ROOT, Round};
use super::{Chain, PathError, PathVerifier};
use crate::pmf::{Coin, Pmf, Token};
use crate::problem::{Excess, Laws, MAX_DRAFTS, for_each_token};
use crate::selector::accept_probability;
use crate::sum::Sum;
use crate::winner::winning_shares;
use label::Label;
use layout::Spread;

/// The spread coupling. With one path it is block verification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpreadCoupling {
    loss: f64,
}

impl Default for SpreadCoupling {
    fn default() -> Self {
        SpreadCoupling { loss: DEFAULT_LOSS }
    }
}

impl SpreadCoupling {
    /// The coupling with ratio classes that may each cost `loss` of the acceptance at a node; 0 for the finest classes
    /// there are. The output law is exactly the target's for any of them.
    ///
    /// A negative `loss`, or NaN, is taken for 0.
    pub fn with_loss(loss: f64) -> Self {
        SpreadCoupling { loss: loss.max(0.0) }
    }

    /// The expected number of drafted tokens that are kept of `drafts` paths of a chain, in closed form:
    /// `Σ A(x¹…xᵗ)` over all prefixes, `A(child) = min(A(parent)·q, M(child))`. `O(V^L)` nodes.
    ///
    /// # Errors
    /// `drafts` is out of range.
    pub fn expected_accepted(&self, chain: &Chain, drafts: usize) -> Result<f64, PathError> {
        if !(1..=MAX_DRAFTS).contains(&drafts) {
            return Err(PathError::Paths { paths: drafts });
        }
        let mut sum = Sum::default();
        // The prefix, its state, P_t, and M.
        let mut nodes = vec![(Vec::new(), State::root(), 1.0, 1.0)];
        while let Some((prefix, state, weight, wins)) = nodes.pop() {
            if prefix.len() == chain.length() {
                continue;
            }
            let (draft, target) = (chain.draft(&prefix), chain.target(&prefix));
            let error = |error| PathError::Scores { node: ROOT, error };
            let node = if state.is_settled {
                Node::Even(Pmf::pair(draft, target).map_err(error)?)
            } else {
                let edged = Edged::count(draft, target, drafts, self.loss).map_err(error)?;
                Node::spread(edged, &state.label, weight, drafts)
            };
            for token in 0..chain.vocab() as Token {
                let (p, q) = node.laws().masses(token);
                if p > 0.0 {
                    let (weight, wins) = (node.weight_after(weight, p, q), wins * node.selected(p, q));
                    let is_settled = state.is_settled || weight < LEAST_WEIGHT;
                    let child = State { label: node.label_after(&state.label, p, q), is_settled };
                    sum.add(wins * weight);
                    nodes.push(([&prefix[..], &[token]].concat(), child, weight, wins));
                }
            }
        }
        Ok(sum.value())
    }
}

/// Where the winner is kept less often than this, the next tokens all have the label law of the node, and so have those
/// after them: a better choice among the paths there could gain about as many tokens as this says, and it would need a
/// pass over the scores of every node.
const LEAST_WEIGHT: f64 = 0.01;

/// What is known of a path once it has passed a node.
struct State {
    label: Label,
    /// Whether labels tell no more apart from here on.
    is_settled: bool,
}

impl State {
    fn root() -> Self {
        State { label: Label::uniform(), is_settled: false }
    }
}

/// An inner node, with its next tokens' laws of labels.
enum Node<L> {
    Spread(Box<Edged<L>>, Spread),
    /// All are the node's own.
    Even(L),
}

impl<L: Laws> Node<L> {
    fn spread(edged: Edged<L>, label: &Label, weight: f64, k: usize) -> Self {
        let spread = Spread::new(label, &edged.items, weight, k);
        Node::Spread(Box::new(edged), spread)
    }

    fn laws(&self) -> &L {
        match self {
            Node::Spread(edged, _) => &edged.laws,
            Node::Even(laws) => laws,
        }
    }

    /// `a`: the probability that the winner goes on with a token of these masses.
    fn selected(&self, p: f64, q: f64) -> f64 {
        match self {
            Node::Spread(edged, spread) => {
                edged.split(p, q).into_iter().map(|(item, share)| share * spread.gain(item)).sum()
            }
            Node::Even(_) => p,
        }
    }

    /// `P_t` after a token of these masses, given that before it.
    fn weight_after(&self, weight: f64, p: f64, q: f64) -> f64 {
        accept_probability(weight * q, self.selected(p, q), self.laws().accuracy())
    }

    /// The law of labels after a token of these masses.
    fn label_after(&self, label: &Label, p: f64, q: f64) -> Label {
        match self {
            Node::Spread(edged, spread) => {
                label.through(&spread.mixed(&edged.split(p, q).map(|(item, share)| (item, share / p))))
            }
            Node::Even(_) => label.clone(),
        }
    }

    /// `(P_t·q − a)₊`, class by class.
    fn residuals(&self, weight: f64) -> Residuals<'_, L> {
        let sums = match self {
            Node::Spread(edged, spread) => residuals(edged, spread, weight),
            Node::Even(laws) => vec![laws.total(None, &even_excess(weight))],
        };
        Residuals { node: self, weight, sums }
    }

    /// `(P_t·q − a)₊` of every token.
    fn residual_of_each(&self, weight: f64) -> Vec<f64> {
        let mut residuals = vec![0.0; self.laws().vocab()];
        for_each_token(self.laws(), |token, p, q| {
            let selected = if p > 0.0 { self.selected(p, q) } else { 0.0 };
            residuals[token as usize] = (weight * q - selected).max(0.0);
        });
        residuals
    }
}

/// `P_t·q − p`.
fn even_excess(weight: f64) -> Excess {
    Excess { of_q: weight, of_p: -1.0, least: 0.0 }
}

/// `P_t·q − a` of the tokens of a class: linear in their masses.
fn excess<L: Laws>(edged: &Edged<L>, spread: &Spread, class: usize, weight: f64) -> Excess {
    let mut excess = Excess { of_q: weight, of_p: 0.0, least: 0.0 };
    for edge in edged.edges_of(class) {
        let (part, gain) = (edged.edges.part(class, edge), spread.gain(edged.item(edge)));
        excess.of_q -= gain * part.of_q;
        excess.of_p -= gain * part.of_p;
    }
    excess
}

/// The sum of `(P_t·q − a)₊` over each class: from the sums of the class where all its tokens have one sign, which all
/// classes but the one in which `H` ends have; there by a pass over its tokens.
fn residuals<L: Laws>(edged: &Edged<L>, spread: &Spread, weight: f64) -> Vec<f64> {
    let residual = |(class, &(p, q)): (usize, &(f64, f64))| {
        if !(q > 0.0) {
            return 0.0;
        }
        let excess = excess(edged, spread, class, weight);
        let [low, high] = edged.ends(class).map(|(p, q)| excess.of_q * q + excess.of_p * p);
        match () {
            () if low <= 0.0 && high <= 0.0 => 0.0,
            () if low >= 0.0 && high >= 0.0 => excess.of(p, q),
            () => edged.laws.total(Some(&edged.edges.band(class)), &excess),
        }
    };
    edged.classes.iter().enumerate().map(residual).collect()
}

/// What is left of the target's law at a node: its sum over each class, or over all tokens of a node that has none.
struct Residuals<'n, L> {
    node: &'n Node<L>,
    weight: f64,
    sums: Vec<f64>,
}

impl<L: Laws> Residuals<'_, L> {
    fn total(&self) -> f64 {
        self.sums.iter().sum()
    }

    /// A token from the law proportional to them.
    fn draw(&self, coin: Coin) -> Option<Token> {
        let draw = |class: usize, threshold: f64| match self.node {
            Node::Spread(edged, spread) => {
                edged.draw(class, threshold, self.sums[class], &excess(edged, spread, class, self.weight))
            }
            Node::Even(laws) => {
                let excess = even_excess(self.weight);
                laws.draw(None, threshold, self.sums[class], &|p, q| excess.of(p, q), &excess)
            }
        };
        let mut threshold = coin.get() * self.total();
        for (class, &sum) in self.sums.iter().enumerate() {
            if threshold < sum
                && let Some(token) = draw(class, threshold)
            {
                return Some(token);
            }
            threshold -= sum;
        }
        // Rounding kept the sum below the coin: the last token of any mass.
        (0..self.sums.len()).rev().filter(|&class| self.sums[class] > 0.0).find_map(|class| draw(class, f64::INFINITY))
    }
}

/// What is prepared of a round, by node.
struct Nodes<'r, R: Row> {
    round: &'r Round<R>,
    loss: f64,
    states: Vec<Option<State>>,
    /// `P_t`, where it is known.
    weights: Vec<Option<f64>>,
    nodes: Vec<Option<Node<R::Pair<'r>>>>,
}

impl<'r, R: Row> Nodes<'r, R> {
    fn new(round: &'r Round<R>, loss: f64) -> Self {
        let len = round.tree().len();
        let mut states: Vec<Option<State>> = (0..len).map(|_| None).collect();
        states[ROOT] = Some(State::root());
        let mut weights = vec![None; len];
        weights[ROOT] = Some(1.0);
        Nodes { round, loss, states, weights, nodes: (0..len).map(|_| None).collect() }
    }

    /// Goes on from a node that was reached to one of its children: its law of labels.
    fn reach(&mut self, node: usize, child: usize) -> Result<(), PathError> {
        if self.states[child].is_some() {
            return Ok(());
        }
        let state = self.states[node].as_ref().expect("a path reaches its nodes in order");
        if state.is_settled {
            self.states[child] = Some(State { label: state.label.clone(), is_settled: true });
            return Ok(());
        }
        let weight = self.weight(node);
        if self.nodes[node].is_none() {
            let k = self.round.tree().paths().len();
            self.nodes[node] = Some(Node::spread(edged(self.round, node, k, self.loss)?, &state.label, weight, k));
        }
        let prepared = self.node(node);
        let (p, q) = prepared.laws().masses(self.round.tree().token(child));
        let after = prepared.weight_after(weight, p, q);
        let label = prepared.label_after(&state.label, p, q);
        self.weights[child] = Some(after);
        self.states[child] = Some(State { label, is_settled: after < LEAST_WEIGHT });
        Ok(())
    }

    /// Finds `P_t` along a path whose nodes were reached.
    fn weigh(&mut self, path: &[usize]) -> Result<(), PathError> {
        for step in path.windows(2) {
            if self.weights[step[1]].is_none() {
                if self.nodes[step[0]].is_none() {
                    self.nodes[step[0]] = Some(Node::Even(pair(self.round, step[0])?));
                }
                let node = self.node(step[0]);
                let (p, q) = node.laws().masses(self.round.tree().token(step[1]));
                self.weights[step[1]] = Some(node.weight_after(self.weight(step[0]), p, q));
            }
        }
        Ok(())
    }

    fn label(&self, node: usize) -> &Label {
        &self.states[node].as_ref().expect("the node was reached").label
    }

    fn weight(&self, node: usize) -> f64 {
        self.weights[node].expect("the path was weighed")
    }

    fn node(&self, node: usize) -> &Node<R::Pair<'r>> {
        self.nodes[node].as_ref().expect("a path went on from the node")
    }
}

impl<R: Row> PathVerifier<R> for SpreadCoupling {
    /// One pass over the vocabulary for each node, and `O(V)` for each next token's law.
    fn law(&self, round: &Round<R>) -> Result<OutcomeLaw, PathError> {
        let paths = round.tree().paths();
        if let [_] = paths {
            return Block.law(round);
        }
        let mut nodes = Nodes::new(round, self.loss);
        for path in paths {
            path.windows(2).try_for_each(|step| nodes.reach(step[0], step[1]))?;
            nodes.weigh(path)?;
        }
        let labels: Vec<Vec<_>> = paths
            .iter()
            .map(|path| {
                let pieces = nodes.label(path[path.len() - 1]).pieces();
                pieces.iter().map(|piece| (piece.segment, piece.mass)).collect()
            })
            .collect();
        let mut law = OutcomeLaw::default();
        for (path, shares) in paths.iter().zip(winning_shares(&labels)) {
            let mut left: f64 = shares.iter().sum();
            let leaf = path[path.len() - 1];
            let weight = nodes.weight(leaf);
            let next = round.target(leaf).map(dense).unwrap_or_default();
            law.add(Stop { node: leaf, probability: left * weight, next });
            left *= 1.0 - weight;
            for &node in path.iter().rev().skip(1) {
                let weight = nodes.weight(node);
                let mut next = nodes.node(node).residual_of_each(weight);
                let total = Sum::of(next.iter().copied());
                let keep = keep_probability(total, weight);
                if left * keep > 0.0 {
                    next.iter_mut().for_each(|mass| *mass /= total);
                    law.add(Stop { node, probability: left * keep, next });
                    left *= 1.0 - keep;
                }
            }
            add_target(&mut law, round, left);
        }
        Ok(law)
    }

    /// One pass over the vocabulary for each node of a path that may still win; up to two more for a node at which it is
    /// decided whether the winner is kept, and one for the next token.
    fn verify(&self, round: &Round<R>, coins: &dyn Coins) -> Result<Outcome, PathError> {
        let paths = round.tree().paths();
        if let [_] = paths {
            return Block.verify(round, coins);
        }
        let mut nodes = Nodes::new(round, self.loss);
        // A path whose highest label is below another one's lowest has lost.
        let mut alive: Vec<usize> = (0..paths.len()).collect();
        let length = paths.iter().map(|path| path.len() - 1).max().unwrap_or(0);
        let at = |path: usize, depth: usize| paths[path][depth.min(paths[path].len() - 1)];
        for depth in 0..length {
            for &path in &alive {
                if let Some(&child) = paths[path].get(depth + 1) {
                    nodes.reach(paths[path][depth], child)?;
                }
            }
            let label = |path: usize| nodes.label(at(path, depth + 1));
            let highest = alive.iter().map(|&path| label(path).bottom()).fold(f64::NEG_INFINITY, f64::max);
            alive.retain(|&path| label(path).top() >= highest);
        }
        let (mut winner, mut best) = (alive[0], f64::NEG_INFINITY);
        for path in alive {
            let label = nodes.label(at(path, length)).draw(coins.coin(Purpose::Label, length, path));
            if label > best {
                (winner, best) = (path, label);
            }
        }
        let path = &paths[winner];
        nodes.weigh(path)?;
        let accepts = |depth: usize, probability: f64| coins.coin(Purpose::Accept, depth, 0).get() < probability;
        let last = path.len() - 1;
        if accepts(last, nodes.weight(path[last])) {
            let coin = coins.coin(Purpose::Residual, last, 0);
            return Ok(Outcome { node: path[last], next: round.target(path[last]).map(|target| target.draw(coin)) });
        }
        for (depth, &node) in path[..last].iter().enumerate().rev() {
            let weight = nodes.weight(node);
            let residuals = nodes.node(node).residuals(weight);
            if accepts(depth, keep_probability(residuals.total(), weight)) {
                let coin = coins.coin(Purpose::Residual, depth, 0);
                return Ok(next_or_target(round, node, coin, residuals.draw(coin)));
            }
        }
        Ok(from_target(round, coins))
    }
}
