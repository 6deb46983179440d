//! Traversal verification: from the leaves of the draft tree to its root.
//!
//! Weng et al. 2025 (arXiv 2505.12398). Every node gets the probability `P` with which it is to be kept, from its parent's
//! as in block verification; the leaves are tried first, in the order in which they were drafted. A subtree that was
//! given up leaves its parent with what is left of the target law there:
//!
//! ```text
//! verify(v, P):                                     q' = q(·|v)
//!     for each draft x drawn at v, in order:
//!         verify(child x, min(P·q'(x)/p(x), 1)); if something was kept there, done
//!         S = Σ (P·q' − p)₊;   P = S/(S + 1 − P);   q' ∝ (P·q' − p)₊      (with the P before)
//!     keep v with probability P, the next token from q'; otherwise give v up
//! ```
//!
//! Two details for independent drafts:
//!
//! 1. Drafts that agree share a node, whose subtree then holds several drafts. The node is kept with probability `P`
//!    however many there are, so nothing above it changes.
//! 2. A draft that repeats a token given up before is still a draw from `p`: it cannot be kept, as `q'(x) = 0`, but `q'`
//!    and `P` move on once more.

use super::block::{keep_probability, pair};
use super::coins::{Coins, Purpose};
use super::outcome::{Outcome, OutcomeLaw, Stop, dense};
use super::row::Row;
use super::tree::{ROOT, Round};
use super::{PathError, PathVerifier};
use crate::pmf::{Coin, Token};
use crate::problem::{Laws, for_each_token};
use crate::selector::accept_probability;
use crate::sum::Sum;

/// Traversal verification (Weng et al. 2025). With one path it is block verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traversal;

/// What is left of an inner node.
struct State {
    p: Vec<f64>,
    q: Vec<f64>,
    weight: f64,
    accuracy: f64,
}

impl State {
    fn new<R: Row>(round: &Round<R>, node: usize, weight: f64) -> Result<Self, PathError> {
        let laws = pair(round, node)?;
        let (mut p, mut q) = (vec![0.0; laws.vocab()], vec![0.0; laws.vocab()]);
        for_each_token(&laws, |token, draft, target| (p[token as usize], q[token as usize]) = (draft, target));
        Ok(State { p, q, weight, accuracy: laws.accuracy() })
    }

    /// The probability with which the child of token `x` is to be kept.
    fn child_weight(&self, x: Token) -> f64 {
        let x = x as usize;
        accept_probability(self.weight * self.q[x], self.p[x], self.accuracy)
    }

    /// A draft was given up.
    fn give_up(&mut self) {
        let mut sum = Sum::default();
        for (q, p) in self.q.iter_mut().zip(&self.p) {
            *q = (self.weight * *q - p).max(0.0);
            sum.add(*q);
        }
        let residual = sum.value();
        self.weight = keep_probability(residual, self.weight);
        if residual > 0.0 {
            self.q.iter_mut().for_each(|q| *q /= residual);
        }
    }

    fn draw(&self, coin: Coin) -> Option<Token> {
        let threshold = coin.get() * self.q.iter().sum::<f64>();
        let (mut cumulative, mut found) = (0.0, None);
        for (token, &mass) in self.q.iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
            cumulative += mass;
            found = Some(token as Token);
            if threshold < cumulative {
                break;
            }
        }
        found
    }
}

/// The drafts at an inner node in order: the child of each, and whether an earlier draft had the same.
fn drafts<R>(round: &Round<R>, node: usize) -> impl Iterator<Item = (usize, bool)> + '_ {
    let tree = round.tree();
    tree.paths_through(node).iter().map(move |&path| {
        let child = tree.paths()[path][tree.depth(node) + 1];
        (child, tree.paths_through(child)[0] != path)
    })
}

/// Adds what is kept at or below `node`, which is reached with probability `reached`; the probability of giving it up.
fn law_below<R: Row>(
    round: &Round<R>,
    node: usize,
    weight: f64,
    reached: f64,
    law: &mut OutcomeLaw,
) -> Result<f64, PathError> {
    if round.pair(node).is_none() {
        let next = round.target(node).map(dense).unwrap_or_default();
        law.add(Stop { node, probability: reached * weight, next });
        return Ok(reached * (1.0 - weight));
    }
    let mut state = State::new(round, node, weight)?;
    let mut reached = reached;
    for (child, repeats) in drafts(round, node) {
        if !repeats {
            reached = law_below(round, child, state.child_weight(round.tree().token(child)), reached, law)?;
        }
        // Without a chance of being given up the child leaves nothing, not even rounding, to the others.
        if reached <= 0.0 {
            return Ok(0.0);
        }
        state.give_up();
    }
    law.add(Stop { node, probability: reached * state.weight, next: state.q });
    Ok(reached * (1.0 - state.weight))
}

fn verify_below<R: Row>(
    round: &Round<R>,
    node: usize,
    weight: f64,
    coins: &dyn Coins,
) -> Result<Option<Outcome>, PathError> {
    let depth = round.tree().depth(node);
    let path = round.tree().paths_through(node)[0];
    let keeps = |weight: f64| coins.coin(Purpose::Accept, depth, path).get() < weight;
    let coin = coins.coin(Purpose::Residual, depth, path);
    if round.pair(node).is_none() {
        let next = round.target(node);
        return Ok(keeps(weight).then(|| Outcome { node, next: next.map(|target| target.draw(coin)) }));
    }
    let mut state = State::new(round, node, weight)?;
    for (child, repeats) in drafts(round, node) {
        if !repeats
            && let Some(kept) = verify_below(round, child, state.child_weight(round.tree().token(child)), coins)?
        {
            return Ok(Some(kept));
        }
        state.give_up();
    }
    if !keeps(state.weight) {
        return Ok(None);
    }
    let next = state.draw(coin).ok_or(PathError::NoResidual { node })?;
    Ok(Some(Outcome { node, next: Some(next) }))
}

impl<R: Row> PathVerifier<R> for Traversal {
    fn law(&self, round: &Round<R>) -> Result<OutcomeLaw, PathError> {
        let mut law = OutcomeLaw::default();
        law_below(round, ROOT, 1.0, 1.0, &mut law)?;
        Ok(law)
    }

    /// `O(V)` for every draft token that is given up.
    fn verify(&self, round: &Round<R>, coins: &dyn Coins) -> Result<Outcome, PathError> {
        verify_below(round, ROOT, 1.0, coins)?.ok_or(PathError::NoResidual { node: ROOT })
    }
}
