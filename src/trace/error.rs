//! What can be wrong with a trace.

use std::fmt;
use std::io;
use std::path::PathBuf;

use safetensors::{Dtype, SafeTensorError};
use thiserror::Error;

use super::scores::Precision;
use crate::pmf::{MAX_VOCAB, PmfError};
use crate::problem::{MAX_DRAFTS, ProblemError};

/// A tensor of a trace file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tensor {
    /// The draft model's scores.
    Draft,
    /// The target model's scores.
    Target,
    /// The drafted tokens of a path trace.
    Tokens,
}

impl Tensor {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Tensor::Draft => "draft",
            Tensor::Target => "target",
            Tensor::Tokens => "tokens",
        }
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A row of scores, or a token, by where it lies in its tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tensor.
    pub tensor: Tensor,
    /// The first index.
    pub row: usize,
    /// The path and the position on it, in a path trace.
    pub step: Option<(usize, usize)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor '{}', row {}", self.tensor, self.row)?;
        match self.step {
            Some((path, position)) => write!(f, ", path {path}, position {position}"),
            None => Ok(()),
        }
    }
}

/// Why a trace was refused, or could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The operating system could not read or write the file.
    #[error("cannot {action} '{}': {error}", path.display())]
    Io {
        /// `"read"` or `"write"`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What it answered.
        error: io::Error,
    },
    /// The file is larger than [`MAX_FILE_BYTES`](super::MAX_FILE_BYTES).
    #[error("the file has {bytes} bytes, more than the {} read into memory; split it by rows", super::MAX_FILE_BYTES)]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The file ends before the header or the last tensor does, or goes on after it.
    #[error("the safetensors file is cut off or damaged: its {bytes} bytes are not what its header announces")]
    Truncated {
        /// Its size.
        bytes: usize,
    },
    /// The file is not in the safetensors format.
    #[error("not a safetensors file: {0}")]
    Format(SafeTensorError),
    /// A tensor is missing.
    #[error("no tensor is called '{tensor}'; the file holds {}", list(found))]
    Missing {
        /// The tensor.
        tensor: Tensor,
        /// The names that are there, sorted.
        found: Vec<String>,
    },
    /// The metadata entry `values` is neither `logits` nor `probabilities`.
    #[error("the metadata entry 'values' is '{value}'; it must be 'logits' or 'probabilities'")]
    Values {
        /// What it is.
        value: String,
    },
    /// A tensor has elements of a type that is not read.
    #[error("tensor '{tensor}' holds {dtype:?}; it must hold {wanted}")]
    ElementType {
        /// The tensor.
        tensor: Tensor,
        /// The type of its elements.
        dtype: Dtype,
        /// The types that are read.
        wanted: &'static str,
    },
    /// A tensor has the wrong number of dimensions.
    #[error("tensor '{tensor}' has shape {shape:?}; it must be {wanted}")]
    Rank {
        /// The tensor.
        tensor: Tensor,
        /// Its shape.
        shape: Vec<usize>,
        /// The dimensions wanted, by name.
        wanted: &'static str,
    },
    /// Two tensors do not fit together.
    #[error(
        "tensor '{tensor}' has shape {shape:?} and tensor '{other}' has shape {other_shape:?}; they must be {wanted}"
    )]
    Shapes {
        /// The one.
        tensor: Tensor,
        /// Its shape.
        shape: Vec<usize>,
        /// The other.
        other: Tensor,
        /// Its shape.
        other_shape: Vec<usize>,
        /// The dimensions wanted, by name.
        wanted: &'static str,
    },
    /// A dimension is 0.
    #[error("tensor '{tensor}' has shape {shape:?}: there is nothing in it")]
    Empty {
        /// The tensor.
        tensor: Tensor,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The vocabulary is larger than [`MAX_VOCAB`].
    #[error("tensor '{tensor}' has {vocab} columns, more than the {MAX_VOCAB} tokens supported")]
    Vocabulary {
        /// The tensor.
        tensor: Tensor,
        /// The number of columns.
        vocab: usize,
    },
    /// There are more paths than [`MAX_DRAFTS`].
    #[error("tensor '{}' has {paths} paths a row, more than the {MAX_DRAFTS} supported", Tensor::Tokens)]
    Paths {
        /// The number of paths.
        paths: usize,
    },
    /// A row given to [`Trace::new`](super::Trace::new) has another length than the first.
    #[error("tensor '{tensor}', row {row} has {len} columns, the first row {vocab}")]
    Ragged {
        /// The tensor.
        tensor: Tensor,
        /// The row.
        row: usize,
        /// Its length.
        len: usize,
        /// The length of the first row.
        vocab: usize,
    },
    /// A finite score given to [`Trace::new`](super::Trace::new) is beyond the largest that the precision holds.
    #[error("tensor '{tensor}', row {row}, column {column}: {value} is too large for {precision}")]
    Overflow {
        /// The tensor.
        tensor: Tensor,
        /// The row.
        row: usize,
        /// The column.
        column: usize,
        /// The score.
        value: f64,
        /// The precision.
        precision: Precision,
    },
    /// A logit is NaN or +∞.
    #[error("{place}, column {column}: the logit is {value}; it must be finite, or -inf for a masked token")]
    Logit {
        /// The row.
        place: Place,
        /// The column.
        column: usize,
        /// The offending value.
        value: f64,
    },
    /// All logits of a row are −∞.
    #[error("{place}: all {vocab} logits are -inf, no token is left")]
    AllMasked {
        /// The row.
        place: Place,
        /// The number of columns.
        vocab: usize,
    },
    /// A probability is negative, infinite or NaN.
    #[error("{place}, column {column}: the probability is {value}; it must be finite and not negative")]
    Probability {
        /// The row.
        place: Place,
        /// The column.
        column: usize,
        /// The offending value.
        value: f64,
    },
    /// The probabilities of a row do not add up to 1.
    #[error("{place}: the probabilities add up to {sum}, not to 1 within {tolerance} (logits need values = 'logits')")]
    Sum {
        /// The row.
        place: Place,
        /// What they add up to.
        sum: f64,
        /// The tolerance of the row's [`Precision`].
        tolerance: f64,
    },
    /// A token of a path is outside the vocabulary.
    #[error("{place}: the token is {token}, outside the vocabulary of {vocab}")]
    Token {
        /// Where the token is.
        place: Place,
        /// The token.
        token: i128,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// A token of a path has probability 0 under its own draft law.
    #[error("{place}: token {token} has probability 0 under the draft scores there, so it cannot have been drawn")]
    NotDrawn {
        /// Where the token is.
        place: Place,
        /// The token.
        token: u32,
    },
    /// Two paths agree up to a position, but not in the scores recorded there.
    #[error(
        "{place}: path {other} leads to the same place, but its scores there are another law \
         (total variation {distance})"
    )]
    Disagreement {
        /// The later path's row.
        place: Place,
        /// The earlier path.
        other: usize,
        /// The total variation between the two laws.
        distance: f64,
    },
    /// The trace has no such row (or path, or position).
    #[error("{place} was asked for, which the trace does not have")]
    OutOfRange {
        /// What was asked for.
        place: Place,
    },
    /// The sampling parameters do not make a law of the scores.
    #[error("{place}: {error}")]
    Sampling {
        /// The row.
        place: Place,
        /// Why.
        error: PmfError,
    },
    /// The number of drafts is not supported.
    #[error(transparent)]
    Problem(#[from] ProblemError),
}

fn list(names: &[String]) -> String {
    match names {
        [] => "no tensors".into(),
        names => names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", "),
    }
}
