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
use super::outcome::{Outcome, OutcomeLaw, Stop, add_target, dense, from_target, next_or_target};
use super::row::Row;
use super::row::sealed::Prepare;
use super::tree::{ROOT, Round};
use super::{Chain, PathError, PathVerifier};
use crate::pmf::{Coin, Pmf, Token};
use crate::problem::{Excess, Laws, for_each_token};
use crate::selector::accept_probability;
use crate::sum::Sum;

/// Traversal verification (Weng et al. 2025). With one path it is block verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traversal;

impl Traversal {
    /// The expected number of drafted tokens that are kept of `drafts` paths of a chain, exactly. A subtree keeps something with the
    /// same probability however many paths pass it (`docs/math.md`, 12.6), so it is enough to enumerate the next tokens
    /// at each node: `O(V^K)` tuples.
    ///
    /// # Errors
    /// `drafts` is out of range, or there are more than [`MAX_TUPLES`](crate::coupling::MAX_TUPLES) tuples of next tokens.
    pub fn expected_accepted(self, chain: &Chain, drafts: usize) -> Result<f64, PathError> {
        chain.check_tuples(drafts)?;
        expected_below(chain, &[], 1.0, drafts)
    }
}

/// The expected number of tokens kept below a prefix that `drafts` paths pass and that is verified with `weight`.
fn expected_below(chain: &Chain, prefix: &[Token], weight: f64, drafts: usize) -> Result<f64, PathError> {
    if prefix.len() == chain.length() {
        return Ok(0.0);
    }
    let (draft, target) = (chain.draft(prefix), chain.target(prefix));
    let drafted: Vec<Token> =
        draft.as_slice().iter().zip(0..).filter(|(p, _)| **p > 0.0).map(|(_, token)| token).collect();
    let mut expected = Sum::default();
    for tuple in 0..drafted.len().pow(drafts as u32) {
        let token = |place: usize| drafted[tuple / drafted.len().pow(place as u32) % drafted.len()];
        let tuple: Vec<Token> = (0..drafts).map(token).collect();
        let laws = Pmf::pair(draft, target).map_err(|error| PathError::Scores { node: ROOT, error })?;
        let mut state = State::new(laws, weight);
        let mut reached: f64 = tuple.iter().map(|&token| draft.as_slice()[token as usize]).product();
        for (place, &token) in tuple.iter().enumerate() {
            if !tuple[..place].contains(&token) {
                let weight = state.child_weight(token);
                let through = tuple.iter().filter(|&&other| other == token).count();
                let below = expected_below(chain, &[prefix, &[token]].concat(), weight, through)?;
                expected.add(reached * (weight + below));
                reached *= 1.0 - weight;
            }
            if reached <= 0.0 {
                break;
            }
            state.give_up();
        }
    }
    Ok(expected.value())
}

/// What is left of an inner node: `q' = (of_q·q − of_p·p)₊`, whatever was given up. Another draft given up leaves
/// `(P·(of_q·q − of_p·p)₊ − p)₊`, and where the inner part is cut off the outer one is, too.
struct State<L> {
    laws: L,
    of_q: f64,
    of_p: f64,
    weight: f64,
}

impl<L: Laws> State<L> {
    /// The node with nothing given up.
    fn new(laws: L, weight: f64) -> Self {
        State { laws, of_q: 1.0, of_p: 0.0, weight }
    }

    fn excess(&self) -> Excess {
        Excess { of_q: self.of_q, of_p: -self.of_p, least: 0.0 }
    }

    /// The probability with which the child of token `x` is to be kept.
    fn child_weight(&self, x: Token) -> f64 {
        let (p, q) = self.laws.masses(x);
        accept_probability(self.weight * self.excess().of(p, q), p, self.laws.accuracy())
    }

    /// A draft was given up. `O(V)`.
    fn give_up(&mut self) {
        (self.of_q, self.of_p) = (self.weight * self.of_q, self.weight * self.of_p + 1.0);
        let residual = self.laws.total(None, &self.excess());
        self.weight = keep_probability(residual, self.weight);
        let share = if residual > 0.0 { residual.recip() } else { 0.0 };
        (self.of_q, self.of_p) = (self.of_q * share, self.of_p * share);
    }

    fn draw(&self, coin: Coin) -> Option<Token> {
        let excess = self.excess();
        self.laws.draw(None, coin.get(), 1.0, &|p, q| excess.of(p, q), &excess)
    }

    fn dense(&self) -> Vec<f64> {
        let mut law = vec![0.0; self.laws.vocab()];
        let excess = self.excess();
        for_each_token(&self.laws, |token, p, q| law[token as usize] = excess.of(p, q));
        law
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
    let mut state = State::new(pair(round, node)?, weight);
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
    law.add(Stop { node, probability: reached * state.weight, next: state.dense() });
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
    let mut state = State::new(pair(round, node)?, weight);
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
    Ok(Some(next_or_target(round, node, coin, state.draw(coin))))
}

impl<R: Row> PathVerifier<R> for Traversal {
    fn law(&self, round: &Round<R>) -> Result<OutcomeLaw, PathError> {
        let mut law = OutcomeLaw::default();
        let left = law_below(round, ROOT, 1.0, 1.0, &mut law)?;
        add_target(&mut law, round, left);
        Ok(law)
    }

    /// `O(V)` for every draft token that is given up.
    fn verify(&self, round: &Round<R>, coins: &dyn Coins) -> Result<Outcome, PathError> {
        Ok(verify_below(round, ROOT, 1.0, coins)?.unwrap_or_else(|| from_target(round, coins)))
    }
}
