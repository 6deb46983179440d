//! What comes out of a round.

use super::coins::{Coins, Purpose};
use super::row::Row;
use super::tree::{ROOT, Round};
use crate::pmf::{Coin, Token};
use crate::problem::{Laws, for_each_token};
use crate::sum::Sum;

/// How a round was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The node whose tokens are output.
    pub node: usize,
    /// The token after them; `None` if the text ends at the node.
    pub next: Option<Token>,
}

impl Outcome {
    /// The number of drafted tokens that are output.
    pub fn accepted<R>(&self, round: &Round<R>) -> usize {
        round.tree().depth(self.node)
    }

    /// All tokens of the output.
    pub fn tokens<R>(&self, round: &Round<R>) -> Vec<Token> {
        let mut tokens = round.tree().tokens(self.node);
        tokens.extend(self.next);
        tokens
    }
}

/// The law of an [`Outcome`] given the drafts.
#[derive(Clone, Debug, Default)]
pub struct OutcomeLaw {
    stops: Vec<Stop>,
}

/// One way a round may end.
#[derive(Clone, Debug)]
pub struct Stop {
    /// The node whose tokens are output.
    pub node: usize,
    /// The probability of stopping there in this way.
    pub probability: f64,
    /// The law of the next token; empty if the text ends at the node.
    pub next: Vec<f64>,
}

impl OutcomeLaw {
    /// Adds a way of ending.
    pub fn add(&mut self, stop: Stop) {
        if stop.probability > 0.0 {
            self.stops.push(stop);
        }
    }

    /// All ways of ending; several may be at one node.
    pub fn stops(&self) -> &[Stop] {
        &self.stops
    }

    /// The sum of all probabilities: 1 within rounding.
    pub fn total(&self) -> f64 {
        Sum::of(self.stops.iter().map(|stop| stop.probability))
    }

    /// The expected number of drafted tokens that are output.
    pub fn expected_accepted<R>(&self, round: &Round<R>) -> f64 {
        Sum::of(self.stops.iter().map(|stop| stop.probability * round.tree().depth(stop.node) as f64))
    }
}

// Where nothing is kept, not even the root, rounding has left the root's residual no mass: with any, the root is kept for
// certain. The residual's mass is the probability that nothing below the root is kept, so that this one is no more than
// rounding either: below 1e-13 from probabilities in f64, a few 1e-7 from f32 logits. The root is then kept after all, and
// the next token drawn from the target's own law there: whatever the target does not allow cannot come out.

/// Adds what becomes of a round in which nothing is kept, with the probability of that.
pub(super) fn add_target<R: Row>(law: &mut OutcomeLaw, round: &Round<R>, probability: f64) {
    if probability > 0.0 {
        law.add(Stop { node: ROOT, probability, next: round.target(ROOT).map(dense).unwrap_or_default() });
    }
}

/// What becomes of a round in which nothing was kept.
pub(super) fn from_target<R: Row>(round: &Round<R>, coins: &dyn Coins) -> Outcome {
    next_or_target(round, ROOT, coins.coin(Purpose::Residual, 0, 0), None)
}

/// The node is kept, and `drawn` follows it; if no token had any mass for the same reason, the target's draw by `coin`.
pub(super) fn next_or_target<R: Row>(round: &Round<R>, node: usize, coin: Coin, drawn: Option<Token>) -> Outcome {
    Outcome { node, next: drawn.or_else(|| round.target(node).map(|target| target.draw(coin))) }
}

/// The law proportional to `mass`; `None` if nothing has mass.
pub(super) fn normalised<L: Laws>(laws: &L, mass: impl Fn(f64, f64) -> f64) -> Option<Vec<f64>> {
    let mut law = vec![0.0; laws.vocab()];
    for_each_token(laws, |token, p, q| law[token as usize] = mass(p, q).max(0.0));
    let total = Sum::of(law.iter().copied());
    (total > 0.0).then(|| law.into_iter().map(|mass| mass / total).collect())
}

/// The whole law of a row, token by token.
pub(super) fn dense<R: Row>(row: &R) -> Vec<f64> {
    (0..row.vocab()).map(|token| row.mass(token as Token)).collect()
}
