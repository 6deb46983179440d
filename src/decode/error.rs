//! What can go wrong on the way to a text.

use std::fmt;

use crate::path::PathError;
use crate::pmf::PmfError;
use crate::scan::ScanError;

/// Why generating failed. The text so far stands; the request cannot go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum GenerateError<D, T> {
    /// The draft model failed.
    Draft(D),
    /// The target model failed.
    Target(T),
    /// The scores were refused, or the drafts could not be drawn or verified.
    Sample(SampleError),
    /// The prompt has no token.
    EmptyPrompt,
    /// A setting is out of range.
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The values allowed.
        range: &'static str,
    },
    /// A model returned another number of rows than were asked for.
    Rows {
        /// `"draft"` or `"target"`.
        model: &'static str,
        /// The number wanted.
        expected: usize,
        /// The number returned.
        given: usize,
    },
}

/// Why scores were refused, or drafts could not be drawn or verified.
#[derive(Debug)]
#[non_exhaustive]
pub enum SampleError {
    /// A model's scores or their sampling were refused.
    Sampling {
        /// `"draft"` or `"target"`.
        model: &'static str,
        /// Why.
        error: PmfError,
    },
    /// A model's scores are no law.
    Scores(ScanError),
    /// A row has another length than the model's vocabulary.
    RowLength {
        /// `"draft"` or `"target"`.
        model: &'static str,
        /// The vocabulary.
        expected: usize,
        /// The length.
        given: usize,
    },
    /// The drafts could not be verified.
    Path(PathError),
    /// A [`Sampler`](super::Sampler) answered for another number of rows, leaves or rounds than it was asked about.
    Answers {
        /// What it was asked about.
        asked: &'static str,
        /// Their number.
        expected: usize,
        /// The number of answers.
        given: usize,
    },
    /// The device that holds the scores failed, or does not do what the settings ask for.
    Device(Box<dyn std::error::Error + Send + Sync>),
}

impl<D: fmt::Display, T: fmt::Display> fmt::Display for GenerateError<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GenerateError::Draft(error) => write!(f, "draft model: {error}"),
            GenerateError::Target(error) => write!(f, "target model: {error}"),
            GenerateError::Sample(error) => error.fmt(f),
            GenerateError::EmptyPrompt => write!(f, "the prompt has no token"),
            GenerateError::Setting { name, value, range } => write!(f, "{name} is {value}; it must be {range}"),
            GenerateError::Rows { model, expected, given } => {
                write!(f, "the {model} model returned {given} rows of scores for {expected} nodes")
            }
        }
    }
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SampleError::Sampling { model, error } => write!(f, "{model} scores: {error}"),
            SampleError::Scores(error) => error.fmt(f),
            SampleError::RowLength { model, expected, given } => {
                write!(f, "the {model} model returned a row of {given} scores; its vocabulary has {expected}")
            }
            SampleError::Path(error) => error.fmt(f),
            SampleError::Answers { asked, expected, given } => {
                write!(f, "the sampler gave {given} answers for {expected} {asked}")
            }
            SampleError::Device(error) => error.fmt(f),
        }
    }
}

impl<D: std::error::Error + 'static, T: std::error::Error + 'static> std::error::Error for GenerateError<D, T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            GenerateError::Draft(error) => Some(error),
            GenerateError::Target(error) => Some(error),
            GenerateError::Sample(error) => error.source(),
            _ => None,
        }
    }
}

impl std::error::Error for SampleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SampleError::Sampling { error, .. } => Some(error),
            SampleError::Scores(error) => Some(error),
            SampleError::Path(error) => Some(error),
            SampleError::Device(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl<D, T> From<SampleError> for GenerateError<D, T> {
    fn from(error: SampleError) -> Self {
        GenerateError::Sample(error)
    }
}

impl<D, T> From<PathError> for GenerateError<D, T> {
    fn from(error: PathError) -> Self {
        GenerateError::Sample(SampleError::Path(error))
    }
}
