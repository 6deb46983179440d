//! What comes out of a round.

use super::tree::Round;
use crate::pmf::Token;
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

/// The law proportional to `mass`; `None` if nothing has mass.
pub(super) fn normalised<L: Laws>(laws: &L, mass: impl Fn(f64, f64) -> f64) -> Option<Vec<f64>> {
    let mut law = vec![0.0; laws.vocab()];
    for_each_token(laws, |token, p, q| law[token as usize] = mass(p, q).max(0.0));
    let total = Sum::of(law.iter().copied());
    (total > 0.0).then(|| law.into_iter().map(|mass| mass / total).collect())
}

/// The whole law of a row, token by token.
pub(super) fn dense<R: super::Row>(row: &R) -> Vec<f64> {
    (0..row.vocab()).map(|token| row.mass(token as Token)).collect()
}
