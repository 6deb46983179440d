//! Why rows of logits were refused.

use std::fmt;

use crate::pmf::MAX_VOCAB;
use crate::problem::ProblemError;

/// Why two rows of logits were refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScanError {
    /// The rows are empty, or longer than [`MAX_VOCAB`].
    Vocabulary {
        /// Their length.
        len: usize,
    },
    /// The rows differ in length, or `k` is out of range.
    Problem(ProblemError),
    /// A logit is NaN or +∞.
    Logit {
        /// `"draft"` or `"target"`.
        row: &'static str,
        /// The token.
        token: usize,
        /// The offending value.
        value: f32,
    },
    /// All logits of a row are −∞.
    AllMasked {
        /// `"draft"` or `"target"`.
        row: &'static str,
    },
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::Vocabulary { len } => write!(f, "rows of {len} logits; there must be 1 to {MAX_VOCAB}"),
            ScanError::Problem(error) => error.fmt(f),
            ScanError::Logit { row, token, value } => {
                write!(f, "the {row} logit of token {token} is {value}; it must be finite, or -inf for a masked token")
            }
            ScanError::AllMasked { row } => write!(f, "all {row} logits are -inf: no token is left"),
        }
    }
}

impl std::error::Error for ScanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ScanError::Problem(error) => Some(error),
            _ => None,
        }
    }
}
