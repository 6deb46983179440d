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
    Acceptance, SelectError, SelectThenAccept, Selection, Selector, check_drafts, split_coins, sum_over,
};

/// The maximal coupling of one draft with the target. Uses the accept coin and the residual coin.
#[derive(Clone, Debug)]
pub struct Maximal<L = Problem> {
    laws: L,
    residual: f64,
}

impl<L: Laws> Maximal<L> {
    /// Prepares the coupling for one draft, whatever the `k` of the problem. `O(V)`.
    pub fn new(laws: L) -> Self {
        let mut selector = Maximal { laws, residual: 0.0 };
        selector.residual = sum_over(&selector.laws, selector.residual());
        selector
    }
}

impl<L: Laws> SelectThenAccept for Maximal<L> {
    type Laws = L;

    fn laws(&self) -> &L {
        &self.laws
    }

    /// The only draft is always the one selected.
    fn selected(&self, _: Token, p: f64, _: f64) -> f64 {
        p
    }

    fn residual_total(&self) -> f64 {
        self.residual
    }
}

impl<L: Laws> Selector for Maximal<L> {
    fn drafts(&self) -> usize {
        1
    }

    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError> {
        check_drafts(&self.laws, 1, drafts)?;
        Ok(self.output_law(drafts, &[1.0]))
    }

    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError> {
        check_drafts(&self.laws, 1, drafts)?;
        self.accept_or_resample(drafts, 0, &split_coins(1, coins)?)
    }

    /// `Σ min(p, q)`. `O(V)`.
    fn acceptance(&self) -> Acceptance {
        Acceptance::exact(self.overlap())
    }
}
