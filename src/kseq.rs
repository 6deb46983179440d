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
use crate::problem::{Excess, Laws, Problem, for_each_token};
use crate::selector::{
    Acceptance, SelectError, Selection, Selector, accept_probability, add_residual, check_drafts, drawn_or_possible,
    split_coins, sum_over,
};
use crate::sum::Sum;

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

/// A token, or several of one ratio, that `rho` may still fall on either side of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Active {
    /// `q/p`.
    pub ratio: f64,
    pub p: f64,
    pub q: f64,
}

/// An excess `p_acc − rho·beta` that is rounding of 0: both terms are sums of at most 1.
///
/// Where `q ≤ rho·p` for all tokens and `k` is large the excess is flat, `−(1 − beta)^k`, and may be below the rounding
/// of 1 over a long stretch: the smallest `rho` of it is wanted, not one that rounding picks.
const ROUNDING: f64 = 4.0 * f64::EPSILON;

/// An interval that holds `rho*`, and what `beta` is inside it:
/// `beta(rho) = whole + discounted/rho + Σ_active min(p, q/rho)`.
#[derive(Clone, Debug)]
pub(crate) struct Bracket {
    pub lower: f64,
    pub upper: f64,
    /// `Σ p` over the tokens with `q/p` above the interval.
    pub whole: f64,
    /// `Σ q` over those with `q/p` below it.
    pub discounted: f64,
    pub active: Vec<Active>,
}

impl Bracket {
    /// `[1, k]`. `O(V)`.
    fn widest<L: Laws>(laws: &L, k: usize) -> Self {
        let mut bracket = Bracket { lower: 1.0, upper: k as f64, whole: 0.0, discounted: 0.0, active: Vec::new() };
        let (mut whole, mut discounted) = (Sum::default(), Sum::default());
        for_each_token(laws, |_, p, q| {
            if p > 0.0 && q > 0.0 {
                let ratio = q / p;
                if ratio <= bracket.lower {
                    discounted.add(q);
                } else if ratio >= bracket.upper {
                    whole.add(p);
                } else {
                    bracket.active.push(Active { ratio, p, q });
                }
            }
        });
        (bracket.whole, bracket.discounted) = (whole.value(), discounted.value());
        bracket
    }

    fn beta(&self, rho: f64) -> f64 {
        let active = Sum::of(self.active.iter().map(|a| a.p.min(a.q / rho)));
        (self.whole + self.discounted / rho + active).min(1.0)
    }

    /// Whether `rho` is at or above the root of `p_acc(rho) = rho·beta(rho)`.
    pub fn is_valid(&self, rho: f64, k: usize) -> bool {
        let beta = self.beta(rho);
        any_of(beta, k) - rho * beta <= ROUNDING
    }

    /// `rho*` and `beta(rho*)`: bisects until the ends are neighbouring numbers and returns the upper one. The active
    /// tokens that one half decides are added up once, so that all rounds together are `O(|active|)` unless many
    /// tokens have the very ratio `rho*`.
    pub fn close(mut self, k: usize) -> (f64, f64) {
        if self.is_valid(self.lower, k) {
            return (self.lower, self.beta(self.lower));
        }
        loop {
            let middle = 0.5 * (self.lower + self.upper);
            if middle <= self.lower || middle >= self.upper {
                return (self.upper, self.beta(self.upper));
            }
            if self.is_valid(middle, k) {
                self.upper = middle;
                for a in self.active.extract_if(.., |a| a.ratio >= middle) {
                    self.whole += a.p;
                }
            } else {
                self.lower = middle;
                for a in self.active.extract_if(.., |a| a.ratio <= middle) {
                    self.discounted += a.q;
                }
            }
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
        let (rho, beta) = Bracket::widest(&laws, k).close(k);
        Self::with_rho(laws, k, rho, beta)
    }

    /// The rule at a valid `rho`, given `beta(rho)`.
    pub(crate) fn with_rho(laws: L, k: usize, rho: f64, beta: f64) -> Self {
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
        accept_probability(q, self.rho * p, self.laws.accuracy())
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
        add_residual(&mut law, &self.laws, drafts, left, self.residual());
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
        let residual = self.residual();
        let total = match 1.0 - self.p_acc {
            // A difference that small is rounding: what the masses add up to is another number.
            total if total <= self.laws.accuracy() => sum_over(&self.laws, &residual),
            total => total,
        };
        let threshold = coins.residual.get() * total;
        // q − min(p, q/rho)·tries is the larger of the two differences.
        let excess = Excess { of_q: 1.0, of_p: -self.tries, least: (1.0 - self.tries / self.rho).max(0.0) };
        let drawn = self.laws.draw(None, threshold, total, &|p, q| residual(0, p, q), &excess);
        Ok(drawn_or_possible(&self.laws, drafts, coins.residual, drawn))
    }

    fn acceptance(&self) -> Acceptance {
        Acceptance::exact(self.p_acc)
    }
}
