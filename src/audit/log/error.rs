//! What can be wrong with a log.

use std::io;

use base64::DecodeError;
use thiserror::Error;

use super::MAX_LINE_BYTES;
use crate::audit::law::TopLawError;
use crate::audit::record::{Field, RecordError};
use crate::audit::rule::{RuleError, UnknownKnownRule};
use crate::pmf::PmfError;

/// A line of a log that was refused, or could not be read or written.
#[derive(Debug, Error)]
#[error("line {line}: {kind}")]
pub struct LogError {
    /// The line, counted from 1.
    pub line: u64,
    /// Why.
    #[source]
    pub kind: LogErrorKind,
}

/// Why a line was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogErrorKind {
    /// The operating system could not read or write.
    #[error("cannot be read or written: {0}")]
    Io(io::Error),
    /// The file has no lines.
    #[error(
        "there is no header; the first line must be one, as in {{\"format\":\"draftpick-log\",\"version\":1,\"vocab\":32000}}"
    )]
    NoHeader,
    /// The line is longer than [`MAX_LINE_BYTES`].
    #[error("longer than the {MAX_LINE_BYTES} bytes read into memory; log the most probable tokens only")]
    TooLong,
    /// The line is no JSON, or not of the form it should have.
    #[error("{0}")]
    Json(serde_json::Error),
    /// An entry of the header has a value that it cannot have.
    #[error("{field}: '{value}'; it must be {wanted}")]
    Header {
        /// The entry.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// The rule in the header is not known.
    #[error("rule: {0}")]
    Rule(UnknownKnownRule),
    /// Sampling parameters in the header are out of range.
    #[error("{field}: {error}")]
    Sampling {
        /// Which.
        field: &'static str,
        /// Why.
        error: PmfError,
    },
    /// A field has another shape than `drafts` makes necessary.
    #[error("{field}: must be {wanted}")]
    Shape {
        /// The field.
        field: Field,
        /// What it must be.
        wanted: &'static str,
    },
    /// A law is none.
    #[error("{field}{}: {error}", brackets(place))]
    Row {
        /// The field.
        field: Field,
        /// The path and the position, where there are paths.
        place: Option<(usize, usize)>,
        /// Why.
        error: RowError,
    },
    /// The parts of the round do not fit together.
    #[error("{0}")]
    Record(RecordError),
    /// The rule that the engine is said to follow does not take the round's drafts.
    #[error("rule: {0}")]
    Applied(RuleError),
    /// The header is all there is.
    #[error("there are no rounds after the header")]
    NoRounds,
}

fn brackets(place: &Option<(usize, usize)>) -> String {
    place.map(|(path, position)| format!("[{path}][{position}]")).unwrap_or_default()
}

/// Why a law was refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum RowError {
    /// A string is not in base64.
    #[error("not in base64: {0}")]
    Base64(DecodeError),
    /// There are numbers in a string and the header does not say of what type.
    #[error("numbers are packed in a string; the header must say their 'precision'")]
    NoPrecision,
    /// A string holds another number of bytes than the vocabulary takes.
    #[error("{given} bytes are packed in the string; {expected} are {vocab} numbers in {precision}")]
    Bytes {
        /// The number of bytes.
        given: usize,
        /// The number wanted.
        expected: usize,
        /// The size of the vocabulary.
        vocab: usize,
        /// The type of a number.
        precision: crate::trace::Precision,
    },
    /// There are not as many numbers as tokens.
    #[error("{given} numbers; the vocabulary has {vocab} tokens")]
    Length {
        /// The number of numbers.
        given: usize,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// The numbers are no law.
    #[error("{0}")]
    Law(PmfError),
    /// The listed tokens and the rest are no law.
    #[error("{0}")]
    Top(TopLawError),
    /// A logit of a listed token is NaN or +∞, or all are −∞.
    #[error("the logit of token {token} is {value}; it must be finite, or null for a masked token, not for all")]
    Logit {
        /// The token.
        token: u32,
        /// The offending value.
        value: f64,
    },
    /// Sampling parameters cannot be applied to listed tokens.
    #[error("only some tokens are listed, and the header asks for temperature or filters: list the tokens after them")]
    Sampling,
    /// The probabilities do not add up to 1.
    #[error("the probabilities add up to {sum}, not to 1 within {tolerance} (logits need values = 'logits')")]
    Sum {
        /// What they add up to.
        sum: f64,
        /// How far that may be from 1.
        tolerance: f64,
    },
    /// Something else stands where scores belong.
    #[error("scores are a list of numbers, a string that packs them, or an object with 'tokens', 'values' and 'tail'")]
    Form,
}
