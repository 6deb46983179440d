//! k-SEQ: the drafts one after the other, each against the same discounted target.
//!
//! Sun et al. 2023 (SpecTr, arXiv 2310.15141), Algorithm 2. In the paper's notation:
//!
//! ```text
//! beta(rho)  = Σ_y min(p(y), q(y)/rho)
//! p_acc(rho) = 1 − (1 − beta)^k
//! rho*       = the root of p_acc(rho) = rho·beta(rho) on [1, k]
//! for i = 1..k:  with probability min(1, q(X_i)/(rho·p(X_i)))  output X_i
//! otherwise      output Y ∝ q(y) − min(p(y), q(y)/rho)·p_acc/beta
//! ```
//!
//! Every `rho` in `[rho*, k]` gives a lossless rule; the smallest accepts most, at least `1 − (1 − 1/k)^k` times as
//! often as the best rule there is.
//!
//! Two departures, both exact:
//!
//! 1. `p_acc` is evaluated as `−expm1(k·log1p(−beta))`: the plain form cancels for small `beta`.
//! 2. The bisection sums over a token only while `rho` may still fall on either side of its ratio `q/p`; the others
//!    enter through two running sums. This makes the search linear in `V`.

use crate::bound::any_of;
use crate::pmf::{Coin, Token};
use crate::problem::{Laws, Problem, for_each_token};
use crate::selector::{
    Acceptance, SelectError, Selection, Selector, accept_probability, add_residual, check_drafts, draw_residual,
    split_coins, sum_over,
};

/// The k-SEQ rule at `rho*`. Uses one coin a draft and the residual coin.
#[derive(Clone, Debug)]
pub struct KSeq<L = Problem> {
    laws: L,
    k: usize,
    rho: f64,
    p_acc: f64,
    /// `p_acc / beta`, what a draft's discounted mass is worth after `k` tries.
    tries: f64,
}

/// A token whose ratio `q/p` lies inside the bracket of `rho`.
#[derive(Clone, Copy)]
struct Active {
    ratio: f64,
    p: f64,
    q: f64,
}

/// An excess `p_acc − rho·beta` that is rounding of 0: both terms are sums of at most 1.
///
/// Where `q ≤ rho·p` for all tokens and `k` is large the excess is flat, `−(1 − beta)^k`, and may be below the rounding of
/// 1 over a long stretch: the smallest `rho` of it is wanted, not one that rounding picks.
const ROUNDING: f64 = 4.0 * f64::EPSILON;

/// `rho*`: the upper end of a bracket that bisection has closed to neighbouring numbers. `O(V)`.
pub(crate) fn rho_star<L: Laws>(laws: &L, k: usize) -> f64 {
    // beta(rho) = whole + discounted/rho + Σ_active min(p, q/rho)
    let (mut whole, mut discounted) = (0.0, 0.0);
    let mut active = Vec::new();
    let (mut lower, mut upper) = (1.0, k as f64);
    for_each_token(laws, |_, p, q| {
        if p > 0.0 && q > 0.0 {
            let ratio = q / p;
            if ratio <= lower {
                discounted += q;
            } else if ratio >= upper {
                whole += p;
            } else {
                active.push(Active { ratio, p, q });
            }
        }
    });
    let excess = |rho: f64, whole: f64, discounted: f64, active: &[Active]| {
        let beta = whole + discounted / rho + active.iter().map(|a| a.p.min(a.q / rho)).sum::<f64>();
        any_of(beta, k) - rho * beta
    };
    if excess(1.0, whole, discounted, &active) <= ROUNDING {
        return 1.0;
    }
    loop {
        let middle = 0.5 * (lower + upper);
        if middle <= lower || middle >= upper {
            return upper;
        }
        if excess(middle, whole, discounted, &active) > ROUNDING {
            lower = middle;
            active.retain(|a| {
                let keep = a.ratio > lower;
                discounted += if keep { 0.0 } else { a.q };
                keep
            });
        } else {
            upper = middle;
            active.retain(|a| {
                let keep = a.ratio < upper;
                whole += if keep { 0.0 } else { a.p };
                keep
            });
        }
    }
}

impl KSeq<Problem> {
    /// Prepares the rule for the problem's `k`. `O(V)`.
    pub fn new(problem: Problem) -> Self {
        let k = problem.k();
        Self::with_laws(problem, k)
    }
}

impl<L: Laws> KSeq<L> {
    /// Prepares the rule for `k` drafts of any laws; `k` is in `1..=64`. `O(V)`.
    pub(crate) fn with_laws(laws: L, k: usize) -> Self {
        let rho = rho_star(&laws, k);
        let beta = sum_over(&laws, |_, p, q| p.min(q / rho)).min(1.0);
        let p_acc = any_of(beta, k);
        let tries = if beta > 0.0 { p_acc / beta } else { 0.0 };
        KSeq { laws, k, rho, p_acc, tries }
    }

    /// The discount `rho*`, in `[1, k]`.
    pub fn rho(&self) -> f64 {
        self.rho
    }

    fn accept(&self, token: Token) -> f64 {
        let (p, q) = self.laws.masses(token);
        accept_probability(q, self.rho * p)
    }

    fn residual(&self) -> impl Fn(Token, f64, f64) -> f64 {
        let (rho, tries) = (self.rho, self.tries);
        move |_, p: f64, q: f64| (q - p.min(q / rho) * tries).max(0.0)
    }
}

impl<L: Laws> Selector for KSeq<L> {
    fn drafts(&self) -> usize {
        self.k
    }

    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError> {
        check_drafts(&self.laws, self.k, drafts)?;
        let mut law = vec![0.0; self.laws.vocab()];
        let mut left = 1.0;
        for &token in drafts {
            let accept = self.accept(token);
            law[token as usize] += left * accept;
            left *= 1.0 - accept;
        }
        add_residual(&mut law, &self.laws, left, self.residual())?;
        Ok(law)
    }

    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError> {
        check_drafts(&self.laws, self.k, drafts)?;
        let coins = split_coins(self.k, coins)?;
        for (i, (&token, coin)) in drafts.iter().zip(coins.drafts).enumerate() {
            // Strictly below: a coin of 0 must not accept a token of target probability 0.
            if coin.get() < self.accept(token) {
                return Ok(Selection::Draft(i));
            }
        }
        draw_residual(&self.laws, 1.0 - self.p_acc, coins.residual, self.residual()).map(Selection::Residual)
    }

    fn acceptance(&self) -> Acceptance {
        Acceptance::exact(self.p_acc)
    }
}
