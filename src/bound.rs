//! What any selection rule can reach, in closed form.
//!
//! The acceptance of a rule for `k` independent drafts is at most
//!
//! ```text
//! α* = 1 + min_H [ q(H) − p(H)^k ]      over all sets H of tokens,
//! ```
//!
//! because draft tuples that lie wholly inside `H` can only be served by tokens of `H`; by max-flow–min-cut the bound
//! is attained, and a minimising `H` is a prefix of the tokens by `p/q` descending (Hu et al. 2025, arXiv 2502.18779).

use crate::pmf::{Pmf, Token};
use crate::problem::{Laws, Problem, ProblemError, check_k};
use crate::ratio::ByRatio;

/// `1 − (1 − x)^k` for `x` in `[0, 1]`, without the cancellation of the plain form for small `x`: the probability
/// that one of `k` independent tries succeeds.
pub(crate) fn any_of(x: f64, k: usize) -> f64 {
    // At x = 1: log1p is −∞ and expm1 of that −1.
    -f64::exp_m1(k as f64 * f64::ln_1p(-x.min(1.0)))
}

/// The optimum of a problem and the set that proves it.
#[derive(Clone, Debug, PartialEq)]
pub struct MinCut {
    /// `α*`, the largest acceptance of any rule.
    pub acceptance: f64,
    /// The minimising set `H`, most over-drafted token first; empty when `α* = 1`.
    pub tokens: Vec<Token>,
}

/// `α*`: the largest acceptance that any rule reaches on the problem. `O(V log V)`.
///
/// # Examples
/// ```
/// use draftpick::{Pmf, Problem, bound};
///
/// let problem = Problem::new(Pmf::new([0.5, 0.3, 0.2])?, Pmf::new([0.2, 0.3, 0.5])?, 2)?;
/// assert!((bound::alpha_star(&problem) - 0.86).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn alpha_star(problem: &Problem) -> f64 {
    cut(&ByRatio::new(problem), problem.k()).0
}

/// `α*` and a set `H` that attains the minimum. `O(V log V)`.
pub fn min_cut(problem: &Problem) -> MinCut {
    let ratios = ByRatio::new(problem);
    let (acceptance, len) = cut(&ratios, problem.k());
    MinCut { acceptance, tokens: ratios[..len].iter().map(|entry| entry.token).collect() }
}

/// How `α*` grows with the number of drafts: one value for each of `ks`. `O(V log V + V·|ks|)`.
///
/// # Errors
/// The vocabularies differ in size, or one of `ks` is not in `1..=64`.
pub fn growth(draft: &Pmf, target: &Pmf, ks: &[usize]) -> Result<Vec<f64>, ProblemError> {
    ks.iter().try_for_each(|&k| check_k(k))?;
    let problem = Problem::new(draft.clone(), target.clone(), 1)?;
    let ratios = ByRatio::new(&problem);
    Ok(ks.iter().map(|&k| cut(&ratios, k).0).collect())
}

/// The share of `α*` that k-SEQ always reaches: `1 − (1 − 1/k)^k`, falling from 1 to `1 − 1/e` (Sun et al. 2023,
/// arXiv 2310.15141, Theorem 1).
///
/// # Errors
/// `k` is not in `1..=64`.
pub fn guarantee(k: usize) -> Result<f64, ProblemError> {
    check_k(k)?;
    Ok(any_of(1.0 / k as f64, k))
}

/// The optimum for `k` drafts, and how many tokens of the ratio order the minimising set takes.
pub(crate) fn cut(ratios: &ByRatio, k: usize) -> (f64, usize) {
    // 1 + q(H) − p(H)^k = q(H) + any_of(p outside H, k): both terms without cancellation.
    // The mass outside is added up from the far end, where it becomes small. The empty set gives exactly 1.
    let mut tails = vec![0.0; ratios.len() + 1];
    for (i, entry) in ratios.iter().enumerate().rev() {
        tails[i] = tails[i + 1] + entry.p;
    }
    let mut best = (1.0, 0);
    let mut inside = 0.0;
    for (i, entry) in ratios.iter().enumerate() {
        inside += entry.q;
        let value = inside + any_of(tails[i + 1], k);
        if value < best.0 {
            best = (value, i + 1);
        }
    }
    best
}

/// `Σ min(p, q)`: the acceptance of a single draft, the same number as [`alpha_star`] at `k` = 1. `O(V)`.
pub fn overlap<L: Laws>(laws: &L) -> f64 {
    crate::selector::sum_over(laws, |_, p, q| p.min(q))
}
