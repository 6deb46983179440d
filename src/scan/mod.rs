//! From two rows of f32 logits to prepared selectors, without normalising them.
//!
//! An engine that holds both models' logits need not normalise them first. [`Scan::new`] goes through the two rows
//! together and keeps, for each class of the ratio `p/q`, the draft mass `P` and the target mass `Q` of its tokens:
//!
//! ```text
//! d  = draft logit − target logit                       the log-ratio, but for a constant
//! n  = round(d/δ),  y = d − n·δ                          its class, and its place in it
//! P_n += e^draft,   Q_n += e^draft·e^(−y)                e^target = e^draft·e^(−n·δ)·e^(−y)
//! ```
//!
//! One exponential a token: the second factor is a polynomial of degree 2, since `|y| ≤ δ/2` is small, and the third is
//! one number a class. Both normalisers are sums over the classes. From there the selectors need no further pass:
//! [`Scan::optimal`] lays out the classes' edges; [`Scan::kseq`] finds `rho` in a class and reads that class's tokens
//! again. The probabilities of single tokens are computed from their logits when they are drafted, in f64.
//!
//! **Accuracy.** The class sums add f32 exponentials in f64, which makes the normalisers good to 2e-7. Where a draft mass
//! is raised to the power `k` the error is multiplied by `k`, and probabilities that differ by less than 1e-6 of
//! themselves count as equal: the output law is the target's within a total variation of 1e-6 + `k`·2e-7. Tests compare it
//! with [`Problem`](crate::Problem), which is exact; 4e-8 was measured for two drafts.
//! A residual is drawn by adding up blocks of tokens in f32 first: another few 1e-7 of the residual (a count of roundings, not
//! a measurement; a chi-square test holds the draw to its law).

mod count;
mod error;
mod exponentials;
mod find;
mod grid;
mod logits;
mod normalise;
mod prepare;
mod residual;
mod softmax;

use crate::pmf::MAX_VOCAB;
use crate::problem::{ProblemError, check_k};
pub use error::ScanError;
pub use logits::LogitPair;
use normalise::Classes;
pub(crate) use softmax::{Softmax, check};

/// The classes that a unit of log-ratio is counted in, for `k` drafts: what another implementation of the pass needs to
/// count alike.
#[cfg(feature = "cuda")]
pub(crate) fn classes_per_unit(k: usize) -> f32 {
    grid::Grid::new(k, 0.0).per_width
}

/// What one pass over the two rows of logits found; prepares selectors in `O(classes)`.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    laws: LogitPair<'a>,
    classes: Classes,
    k: usize,
}

impl<'a> Scan<'a> {
    /// Reads the two rows, for `k` drafts. `O(V)`.
    ///
    /// The rows must be what the drafts were drawn from and what the output is to be drawn from: after temperature,
    /// and with filtered tokens set to −∞.
    ///
    /// # Errors
    /// Rows empty, too long or of different length; `k` out of range; a logit NaN or +∞; a row all −∞.
    ///
    /// # Examples
    /// ```
    /// use draftpick::{Coin, Selector, scan::Scan};
    ///
    /// let (draft, target) = ([1.0f32, 0.5, -2.0], [0.5f32, 1.0, 0.0]);
    /// let selector = Scan::new(&draft, &target, 2)?.optimal();
    /// let coins = [0.3, 0.8, 0.1, 0.6].map(|c| Coin::new(c).unwrap());
    /// let token = selector.select(&[0, 1], &coins)?.token(&[0, 1]);
    /// assert!(token < 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(draft: &'a [f32], target: &'a [f32], k: usize) -> Result<Self, ScanError> {
        check_k(k).map_err(ScanError::Problem)?;
        if draft.len() != target.len() {
            let error = ProblemError::Vocabulary { draft: draft.len(), target: target.len() };
            return Err(ScanError::Problem(error));
        }
        if !(1..=MAX_VOCAB).contains(&draft.len()) {
            return Err(ScanError::Vocabulary { len: draft.len() });
        }
        let classes = Classes::new(draft, target, k)?;
        let laws = LogitPair {
            draft,
            target,
            draft_log_sum: classes.draft_log_sum,
            target_log_sum: classes.target_log_sum,
            grid: classes.grid,
            pass: classes.pass,
            first_cell: 0,
            last_cell: 0,
        };
        Ok(Scan { laws, classes, k })
    }

    /// The two rows as laws.
    pub fn laws(&self) -> LogitPair<'a> {
        self.laws
    }
}
