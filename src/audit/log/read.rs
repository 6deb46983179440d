//! Reading a log line by line.

use std::io::{BufRead, Read};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::{LogError, LogErrorKind, RowError};
use super::value::{RawRecord, RawTop, Tokens, Value};
use super::{Header, RawHeader};
use crate::audit::law::{LoggedLaw, TopLaw};
use crate::audit::record::{Field, Laws, Record};
use crate::pmf::{Pmf, PmfError, Sampling, Token};
use crate::trace::{Precision, Values};

/// The longest line read, 1 GiB: 64 paths of 8 tokens with full scores in f32 of 128,000 tokens take a quarter of it.
pub const MAX_LINE_BYTES: u64 = 1 << 30;

/// How far probabilities that are written out may be from adding up to 1: they were mostly computed in f32.
const WRITTEN_TOLERANCE: f64 = 1e-4;

/// The lines of a log.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    line: u64,
    format: Format,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// There is no header, or it is malformed.
    pub fn new(input: R) -> Result<Self, LogError> {
        let placeholder = Header::new(1, Values::Logits, None);
        let mut reader = Reader { input, line: 0, format: Format { header: placeholder } };
        let mut line = Vec::new();
        if reader.next_line(&mut line)?.is_none() {
            return Err(LogError { line: 1, kind: LogErrorKind::NoHeader });
        }
        let header = serde_json::from_slice::<RawHeader>(&line).map_err(LogErrorKind::Json).and_then(Header::try_from);
        reader.format.header = header.map_err(|kind| LogError { line: 1, kind })?;
        Ok(reader)
    }

    /// What the log holds.
    pub fn header(&self) -> &Header {
        &self.format.header
    }

    /// What makes records of the lines.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Replaces the content of `line` by the next line of the log and returns its number; `None` at the end.
    ///
    /// # Errors
    /// The line cannot be read or is too long.
    pub fn next_line(&mut self, line: &mut Vec<u8>) -> Result<Option<u64>, LogError> {
        line.clear();
        let number = self.line + 1;
        let error = |kind| LogError { line: number, kind };
        let mut limited = self.input.by_ref().take(MAX_LINE_BYTES + 1);
        let bytes = limited.read_until(b'\n', line).map_err(|io| error(LogErrorKind::Io(io)))?;
        if bytes as u64 > MAX_LINE_BYTES {
            return Err(error(LogErrorKind::TooLong));
        }
        if bytes == 0 {
            return Ok(None);
        }
        self.line = number;
        Ok(Some(number))
    }

    /// The next round; `None` at the end.
    ///
    /// # Errors
    /// The line cannot be read, or is malformed.
    pub fn next_record(&mut self) -> Result<Option<Record>, LogError> {
        let mut line = Vec::new();
        match self.next_line(&mut line)? {
            Some(number) => self.format.record(number, &line).map(Some),
            None => Ok(None),
        }
    }
}

/// What makes records of lines: the header.
#[derive(Clone, Debug)]
pub struct Format {
    header: Header,
}

impl Format {
    /// Makes a record of a line; `number` is for the error.
    ///
    /// # Errors
    /// The line is malformed.
    pub fn record(&self, number: u64, line: &[u8]) -> Result<Record, LogError> {
        self.parse(line).map_err(|kind| LogError { line: number, kind })
    }

    fn parse(&self, line: &[u8]) -> Result<Record, LogErrorKind> {
        let raw: RawRecord = serde_json::from_slice(line).map_err(LogErrorKind::Json)?;
        let paths = raw.drafts.iter().filter(|draft| matches!(draft, Tokens::Path(_))).count();
        if paths > 0 && paths < raw.drafts.len() {
            let wanted = "tokens, or paths of tokens, not both";
            return Err(LogErrorKind::Shape { field: Field::Drafts, wanted });
        }
        let drafts: Vec<Vec<Token>> = raw
            .drafts
            .into_iter()
            .map(|draft| match draft {
                Tokens::One(token) => vec![token],
                Tokens::Path(tokens) => tokens,
            })
            .collect();
        let (draft, target) = if paths > 0 {
            (self.nested(Field::Draft, raw.draft)?, self.nested(Field::Target, raw.target)?)
        } else {
            (self.single(Field::Draft, raw.draft, drafts.len())?, self.single(Field::Target, raw.target, drafts.len())?)
        };
        Record::new(self.header.vocab, &drafts, draft, target, raw.output).map_err(LogErrorKind::Record)
    }

    /// The one law of `count` drafts of the next token.
    fn single(&self, field: Field, value: Value, count: usize) -> Result<Laws, LogErrorKind> {
        if field == Field::Draft && matches!(value, Value::Null) {
            return Ok(Laws::new());
        }
        let law = self.law(field, value).map_err(|error| LogErrorKind::Row { field, place: None, error })?;
        let (paths, length) = match field {
            Field::Draft => (count, 1),
            _ => (count.max(1), if count == 0 { 1 } else { 2 }),
        };
        let mut laws: Laws = vec![vec![None; length]; paths];
        if let Some(first) = laws.first_mut() {
            first[0] = Some(Arc::new(law));
        }
        Ok(laws)
    }

    /// The laws along paths.
    fn nested(&self, field: Field, value: Value) -> Result<Laws, LogErrorKind> {
        let shape = || LogErrorKind::Shape { field, wanted: "for each path a list of scores, or nulls" };
        let paths = match value {
            Value::Null if field == Field::Draft => return Ok(Laws::new()),
            Value::List(paths) => paths,
            _ => return Err(shape()),
        };
        let mut laws = Laws::with_capacity(paths.len());
        for (path, rows) in paths.into_iter().enumerate() {
            let Value::List(rows) = rows else {
                return Err(shape());
            };
            let mut path_laws = Vec::with_capacity(rows.len());
            for (position, row) in rows.into_iter().enumerate() {
                let place = Some((path, position));
                path_laws.push(match row {
                    Value::Null => None,
                    row => {
                        let law = self.law(field, row).map_err(|error| LogErrorKind::Row { field, place, error })?;
                        Some(Arc::new(law))
                    }
                });
            }
            laws.push(path_laws);
        }
        Ok(laws)
    }

    fn law(&self, field: Field, value: Value) -> Result<LoggedLaw, RowError> {
        let sampling = match field {
            Field::Draft => &self.header.draft_sampling,
            _ => &self.header.sampling,
        };
        match value {
            Value::Packed(text) => {
                let precision = self.header.precision.ok_or(RowError::NoPrecision)?;
                let bytes = STANDARD.decode(text.as_bytes()).map_err(RowError::Base64)?;
                let vocab = self.header.vocab;
                let expected = vocab * precision.size();
                if bytes.len() != expected {
                    return Err(RowError::Bytes { given: bytes.len(), expected, vocab, precision });
                }
                self.full(precision.decode(&bytes), precision.sum_tolerance(), sampling)
            }
            Value::Numbers(numbers) => {
                if numbers.len() != self.header.vocab {
                    return Err(RowError::Length { given: numbers.len(), vocab: self.header.vocab });
                }
                self.full(numbers, WRITTEN_TOLERANCE, sampling)
            }
            Value::Top(top) if *sampling == Sampling::default() => self.top(top),
            Value::Top(_) => Err(RowError::Sampling),
            Value::Null | Value::Number(_) | Value::List(_) => Err(RowError::Form),
        }
    }

    /// The law that a row of scores stands for, one a token, as the header says. `field` is [`Field::Draft`] or
    /// [`Field::Target`].
    ///
    /// # Errors
    /// There are not as many scores as tokens, or they are no law, alone or under the sampling.
    pub fn scores(&self, field: Field, scores: Vec<f64>) -> Result<LoggedLaw, RowError> {
        self.law(field, Value::Numbers(scores))
    }

    fn full(&self, mut scores: Vec<f64>, tolerance: f64, sampling: &Sampling) -> Result<LoggedLaw, RowError> {
        if self.header.values == Values::Probabilities {
            if let Some(token) = scores.iter().position(|&p| !(p >= 0.0 && p.is_finite())) {
                return Err(RowError::Law(PmfError::Weight { token, value: scores[token] }));
            }
            let sum: f64 = scores.iter().sum();
            if !((sum - 1.0).abs() <= tolerance) {
                return Err(RowError::Sum { sum, tolerance });
            }
            if *sampling == Sampling::default() {
                return Pmf::from_weights(scores).map(LoggedLaw::Full).map_err(RowError::Law);
            }
            scores.iter_mut().for_each(|score| *score = score.ln());
        }
        Pmf::from_logits(&scores, sampling).map(LoggedLaw::Full).map_err(RowError::Law)
    }

    /// Logits are known up to a constant, which the mass of the rest fixes.
    fn top(&self, RawTop { tokens, values, tail }: RawTop) -> Result<LoggedLaw, RowError> {
        if values.len() != tokens.len() {
            let error = crate::audit::TopLawError::Length { tokens: tokens.len(), masses: values.len() };
            return Err(RowError::Top(error));
        }
        if !(0.0..1.0).contains(&tail) {
            return Err(RowError::Top(crate::audit::TopLawError::Tail { value: tail }));
        }
        let mut masses: Vec<f64> = values.into_iter().map(|value| value.unwrap_or(f64::NEG_INFINITY)).collect();
        let mut tolerance = match self.header.precision {
            Some(precision) if precision != Precision::F64 => precision.sum_tolerance(),
            _ => WRITTEN_TOLERANCE,
        };
        if self.header.values == Values::Logits {
            let max = masses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let wrong = |value: f64| value.is_nan() || value == f64::INFINITY || max == f64::NEG_INFINITY;
            if let Some(place) = masses.iter().position(|&value| wrong(value)) {
                return Err(RowError::Logit { token: tokens[place], value: masses[place] });
            }
            masses.iter_mut().for_each(|mass| *mass = (*mass - max).exp());
            let sum: f64 = masses.iter().sum();
            masses.iter_mut().for_each(|mass| *mass *= (1.0 - tail) / sum);
            tolerance = crate::audit::DEFAULT_TOLERANCE;
        }
        let law = TopLaw::new(self.header.vocab, &tokens, &masses, tail, tolerance);
        law.map(LoggedLaw::Top).map_err(RowError::Top)
    }
}
