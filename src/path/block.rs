//! Block verification of one path: the whole path is looked at before any of its tokens is given up.
//!
//! Sun et al. 2024 (arXiv 2403.10444), in its notation but for `p` and `q`, which are the draft's and the target's here:
//!
//! ```text
//! P₀ = 1,  P_t = min(P_{t−1}·q(x_t)/p(x_t), 1)
//! S_t = Σ_x (P_t·q(x) − p(x))₊,   h_t = S_t/(S_t + 1 − P_t) for t < L,   h_L = P_L
//! keep the longest prefix x_1..x_t whose coin is below h_t
//! then output Y ∝ (P_t·q − p)₊, or ∝ q if t = L
//! ```
//!
//! A path that ends early is one that nothing is drafted after: `p = 0` there makes `h` and the law of `Y` what they
//! are at `L`.

use super::coins::{Coins, Purpose};
use super::outcome::{Outcome, OutcomeLaw, Stop, add_target, dense, from_target, next_or_target, normalised};
use super::row::Row;
use super::tree::Round;
use super::{PathError, PathVerifier};
use crate::problem::{Excess, Laws};
use crate::selector::{accept_probability, sum_over};

/// Block verification (Sun et al. 2024). Takes one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block;

/// `P_t` along the nodes of the path.
fn weights<R: Row>(round: &Round<R>) -> Result<Vec<f64>, PathError> {
    let [nodes] = round.tree().paths() else {
        return Err(PathError::OnePath { verifier: "block", paths: round.tree().paths().len() });
    };
    let mut weights = vec![1.0];
    for nodes in nodes.windows(2) {
        let token = round.tree().token(nodes[1]);
        let laws = pair(round, nodes[0])?;
        let (p, q) = laws.masses(token);
        weights.push(accept_probability(weights[weights.len() - 1] * q, p, laws.accuracy()));
    }
    Ok(weights)
}

/// Both laws at an inner node.
pub(super) fn pair<R: Row>(round: &Round<R>, node: usize) -> Result<R::Pair<'_>, PathError> {
    let (draft, target) = round.pair(node).expect("the node has children, and so a draft law");
    R::pair(draft, target).map_err(|error| PathError::Scores { node, error })
}

/// `h_t` for the `S_t` and `P_t` of an inner node. Without residual nothing can be output there.
pub(super) fn keep_probability(residual: f64, weight: f64) -> f64 {
    if residual > 0.0 { residual / (residual + (1.0 - weight)) } else { 0.0 }
}

/// `(P_t·q − p)₊`.
fn residual(weight: f64) -> Excess {
    Excess { of_q: weight, of_p: -1.0, least: 0.0 }
}

impl<R: Row> PathVerifier<R> for Block {
    fn law(&self, round: &Round<R>) -> Result<OutcomeLaw, PathError> {
        let weights = weights(round)?;
        let nodes = &round.tree().paths()[0];
        let mut law = OutcomeLaw::default();
        let last = nodes.len() - 1;
        let next = round.target(nodes[last]).map(dense).unwrap_or_default();
        law.add(Stop { node: nodes[last], probability: weights[last], next });
        let mut left = 1.0 - weights[last];
        for (&node, &weight) in nodes.iter().zip(&weights).rev().skip(1) {
            let laws = pair(round, node)?;
            let residual = residual(weight);
            let keep = keep_probability(sum_over(&laws, |_, p, q| residual.of(p, q)), weight);
            if let Some(next) = normalised(&laws, |p, q| residual.of(p, q)) {
                law.add(Stop { node, probability: left * keep, next });
                left *= 1.0 - keep;
            }
        }
        add_target(&mut law, round, left);
        Ok(law)
    }

    fn verify(&self, round: &Round<R>, coins: &dyn Coins) -> Result<Outcome, PathError> {
        let weights = weights(round)?;
        let nodes = &round.tree().paths()[0];
        let last = nodes.len() - 1;
        let accepts = |depth: usize, probability: f64| coins.coin(Purpose::Accept, depth, 0).get() < probability;
        if accepts(last, weights[last]) {
            let coin = coins.coin(Purpose::Residual, last, 0);
            return Ok(Outcome { node: nodes[last], next: round.target(nodes[last]).map(|target| target.draw(coin)) });
        }
        for depth in (0..last).rev() {
            let (node, weight) = (nodes[depth], weights[depth]);
            let laws = pair(round, node)?;
            let residual = residual(weight);
            let total = laws.total(None, &residual);
            if accepts(depth, keep_probability(total, weight)) {
                let coin = coins.coin(Purpose::Residual, depth, 0);
                let next = laws.draw(None, coin.get() * total, total, &|p, q| residual.of(p, q), &residual);
                return Ok(next_or_target(round, node, coin, next));
            }
        }
        Ok(from_target(round, coins))
    }
}
