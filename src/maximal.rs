//! Maximal coupling of one draft (`k` = 1): the smallest selector, the one to copy.
//!
//! Leviathan et al. 2023 (arXiv 2211.17192), Chen et al. 2023 (arXiv 2302.01318). In their notation:
//!
//! ```text
//! X ~ p                                the draft
//! with probability min(1, q(X)/p(X))   output X
//! otherwise                            output Y ~ (q − p)₊ / Σ (q − p)₊
//! ```
//!
//! No coupling of `p` and `q` agrees more often than `Σ min(p, q)`, which this one attains.

use crate::pmf::{Coin, Token};
use crate::problem::{Laws, Problem};
use crate::selector::{
    Acceptance, SelectError, Selection, Selector, accept_probability, add_residual, check_drafts, draw_residual,
    split_coins, sum_over,
};

/// The maximal coupling of one draft with the target. Uses the accept coin and the residual coin.
#[derive(Clone, Debug)]
pub struct Maximal<L = Problem> {
    laws: L,
    acceptance: f64,
    residual: f64,
}

fn residual(_: Token, p: f64, q: f64) -> f64 {
    (q - p).max(0.0)
}

impl<L: Laws> Maximal<L> {
    /// Prepares the coupling for one draft, whatever the `k` of the problem. `O(V)`.
    pub fn new(laws: L) -> Self {
        let acceptance = sum_over(&laws, |_, p, q| p.min(q));
        let residual = sum_over(&laws, residual);
        Maximal { laws, acceptance, residual }
    }
}

impl<L: Laws> Selector for Maximal<L> {
    fn drafts(&self) -> usize {
        1
    }

    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError> {
        check_drafts(&self.laws, 1, drafts)?;
        let mut law = vec![0.0; self.laws.vocab()];
        let (p, q) = self.laws.masses(drafts[0]);
        let accept = accept_probability(q, p);
        law[drafts[0] as usize] = accept;
        add_residual(&mut law, &self.laws, 1.0 - accept, residual)?;
        Ok(law)
    }

    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError> {
        check_drafts(&self.laws, 1, drafts)?;
        let coins = split_coins(1, coins)?;
        let (p, q) = self.laws.masses(drafts[0]);
        // Strictly below: a coin of 0 must not accept a token of target probability 0.
        if coins.accept.get() < accept_probability(q, p) {
            return Ok(Selection::Draft(0));
        }
        draw_residual(&self.laws, self.residual, coins.residual, residual).map(Selection::Residual)
    }

    fn acceptance(&self) -> Acceptance {
        Acceptance::exact(self.acceptance)
    }
}
