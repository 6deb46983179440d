//! A selection rule as what it is: a coupling of the draft tuples with the output.

use std::fmt;

use ndarray::{Array1, Array2, Axis};

use crate::pmf::{Pmf, Token};
use crate::selector::{Drawn, SelectError, Selector};

/// The largest number of draft tuples that are enumerated.
pub const MAX_TUPLES: usize = 1 << 20;

/// The joint law of draft tuple and output under a rule, tuple by tuple: for checking and for teaching.
///
/// The rows of [`joint`](Coupling::joint) add up to the tuples' probabilities, the columns, if the rule is lossless, to
/// the target law.
#[derive(Clone, Debug)]
pub struct Coupling {
    drafts: Vec<Vec<Token>>,
    probabilities: Array1<f64>,
    joint: Array2<f64>,
}

/// Why a coupling was not enumerated.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CouplingError {
    /// There are more than [`MAX_TUPLES`] draft tuples.
    TooLarge {
        /// The size of the draft law's support.
        support: usize,
        /// The number of drafts.
        drafts: usize,
    },
    /// The rule has no law for a tuple that can be drawn.
    Law {
        /// The tuple.
        drafts: Vec<Token>,
        /// The rule's reason.
        error: SelectError,
    },
}

impl fmt::Display for CouplingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CouplingError::TooLarge { support, drafts } => {
                write!(f, "{drafts} drafts of {support} tokens make more than {MAX_TUPLES} tuples")
            }
            CouplingError::Law { drafts, error } => write!(f, "drafts {drafts:?}: {error}"),
        }
    }
}

impl std::error::Error for CouplingError {}

impl Coupling {
    /// Enumerates all draft tuples of positive probability under `draft`, the law that the rule was prepared for.
    /// `O(V^k)` laws of the rule.
    ///
    /// # Errors
    /// More than [`MAX_TUPLES`] tuples, or a tuple that the rule has no law for.
    ///
    /// # Examples
    /// ```
    /// use draftpick::{Pmf, Problem, Rule, coupling::Coupling};
    ///
    /// let problem = Problem::new(Pmf::new([0.5, 0.5])?, Pmf::new([0.75, 0.25])?, 2)?;
    /// let rule = Rule::Optimal.prepare(&problem);
    /// let coupling = Coupling::enumerate(&*rule, problem.draft())?;
    /// assert!((coupling.output()[0] - 0.75).abs() < 1e-12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn enumerate(selector: &dyn Selector, draft: &Pmf) -> Result<Self, CouplingError> {
        let (support, k) = (draft.support(), selector.drafts());
        let small = u32::try_from(k).ok().and_then(|k| support.checked_pow(k)).is_some_and(|n| n <= MAX_TUPLES);
        if !small {
            return Err(CouplingError::TooLarge { support, drafts: k });
        }
        let mut tuples = vec![(Vec::new(), 1.0)];
        for _ in 0..k {
            tuples = tuples.iter().flat_map(|tuple| extensions(tuple, draft, selector.drawn())).collect();
        }
        let mut joint = Array2::zeros((tuples.len(), draft.vocab()));
        for ((drafts, probability), mut row) in tuples.iter().zip(joint.axis_iter_mut(Axis(0))) {
            let law = selector.law(drafts).map_err(|error| CouplingError::Law { drafts: drafts.clone(), error })?;
            row.assign(&(Array1::from(law) * *probability));
        }
        let (drafts, probabilities): (Vec<_>, Vec<_>) = tuples.into_iter().unzip();
        Ok(Coupling { drafts, probabilities: probabilities.into(), joint })
    }

    /// The draft tuples, in lexicographic order.
    pub fn drafts(&self) -> &[Vec<Token>] {
        &self.drafts
    }

    /// The probability of each tuple, in `[0, 1]`.
    pub fn probabilities(&self) -> &Array1<f64> {
        &self.probabilities
    }

    /// The probability of each tuple (row) together with each output token (column).
    pub fn joint(&self) -> &Array2<f64> {
        &self.joint
    }

    /// The law of the output: the sums of the columns.
    pub fn output(&self) -> Array1<f64> {
        self.joint.sum_axis(Axis(0))
    }
}

/// A draft tuple with its probability.
type Tuple = (Vec<Token>, f64);

/// The tuple with one more draft, in all ways of positive probability.
fn extensions(tuple: &Tuple, draft: &Pmf, drawn: Drawn) -> Vec<Tuple> {
    let (drafts, probability) = tuple;
    let open = |token: &Token| drawn == Drawn::Independent || !drafts.contains(token);
    let masses = draft.as_slice().iter().enumerate().map(|(token, &p)| (token as Token, p));
    let masses: Vec<(Token, f64)> = masses.filter(|(token, p)| *p > 0.0 && open(token)).collect();
    // What is left to draw, added up afresh: 1 minus what was drawn cancels.
    let left = match drawn {
        Drawn::Independent => 1.0,
        Drawn::WithoutReplacement => masses.iter().map(|(_, p)| p).sum(),
    };
    masses.into_iter().map(|(token, p)| ([&drafts[..], &[token]].concat(), probability * (p / left))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Problem, Rule};
    use approx::assert_abs_diff_eq;

    #[test]
    fn every_rule_couples_its_drafts_with_the_target() {
        let problem =
            Problem::new(Pmf::new([0.5, 0.3, 0.0, 0.2]).unwrap(), Pmf::new([0.2, 0.3, 0.1, 0.4]).unwrap(), 3).unwrap();
        for rule in Rule::ALL {
            let coupling = Coupling::enumerate(&*rule.prepare(&problem), problem.draft()).unwrap();
            for (output, q) in coupling.output().iter().zip(problem.target().as_slice()) {
                assert_abs_diff_eq!(output, q, epsilon = 1e-13);
            }
            let rows = coupling.joint().sum_axis(Axis(1));
            for (row, probability) in rows.iter().zip(coupling.probabilities()) {
                assert_abs_diff_eq!(row, probability, epsilon = 1e-13);
            }
            assert!(coupling.drafts().is_sorted());
        }
    }

    #[test]
    fn refuses_what_it_cannot_enumerate() {
        let uniform = Pmf::uniform(1000).unwrap();
        let problem = Problem::new(uniform.clone(), uniform, 64).unwrap();
        let error = Coupling::enumerate(&*Rule::KSeq.prepare(&problem), problem.draft()).unwrap_err();
        assert_eq!(error, CouplingError::TooLarge { support: 1000, drafts: 64 });
    }
}
