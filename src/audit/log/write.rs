//! Writing a log.

use std::io::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Header, LogError, LogErrorKind, RawHeader};
use crate::audit::law::LoggedLaw;
use crate::audit::record::{Laws, Record};
use crate::pmf::Token;
use crate::trace::{Precision, Values};

/// Writes a log, line by line.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    header: Header,
    line: u64,
}

#[derive(Serialize)]
struct RawRecord<'a> {
    drafts: Vec<Vec<Token>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    draft: Option<Vec<Vec<Option<Row>>>>,
    target: Vec<Vec<Option<Row>>>,
    output: &'a [Token],
}

#[derive(Serialize)]
struct RawFlat<'a> {
    drafts: [Token; 0],
    target: Option<Row>,
    output: &'a [Token],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Row {
    Packed(String),
    Top { tokens: Vec<Token>, values: Vec<Option<f64>>, tail: f64 },
}

impl<W: Write> Writer<W> {
    /// Writes the header. Without a precision full laws are packed in f32, and the header says so.
    ///
    /// # Errors
    /// The header cannot be written.
    pub fn new(output: W, mut header: Header) -> Result<Self, LogError> {
        header.precision.get_or_insert(Precision::F32);
        let raw = RawHeader::from(&header);
        let mut writer = Writer { output, header, line: 0 };
        writer.line(&raw)?;
        Ok(writer)
    }

    /// Writes a round.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn write(&mut self, record: &Record) -> Result<(), LogError> {
        let (draft, mut target) = record.laws();
        let output = record.output();
        if record.paths() == 0 {
            let target = target.remove(0).remove(0).map(|law| self.row(&law));
            return self.line(&RawFlat { drafts: [], target, output });
        }
        let rows = |laws: Laws| -> Vec<Vec<Option<Row>>> {
            let path =
                |laws: Vec<Option<Arc<LoggedLaw>>>| laws.into_iter().map(|law| law.map(|law| self.row(&law))).collect();
            laws.into_iter().map(path).collect()
        };
        let drafts = (0..record.paths()).map(|path| record.path(path)).collect();
        let draft = draft.iter().flatten().any(Option::is_some).then(|| rows(draft));
        let target = rows(target);
        self.line(&RawRecord { drafts, draft, target, output })
    }

    /// What is written to, everything having been handed over.
    ///
    /// # Errors
    /// It does not take all of it.
    pub fn finish(mut self) -> Result<W, LogError> {
        self.output.flush().map_err(|error| LogError { line: self.line, kind: LogErrorKind::Io(error) })?;
        Ok(self.output)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), LogError> {
        self.line += 1;
        let line = self.line;
        let error = |kind| LogError { line, kind };
        let text = serde_json::to_vec(value).map_err(|json| error(LogErrorKind::Json(json)))?;
        let written = self.output.write_all(&text).and_then(|()| self.output.write_all(b"\n"));
        written.map_err(|io| error(LogErrorKind::Io(io)))
    }

    fn row(&self, law: &LoggedLaw) -> Row {
        let value = |mass: f64| if self.header.values == Values::Logits { mass.ln() } else { mass };
        match law {
            LoggedLaw::Full(law) => {
                let precision = self.header.precision.unwrap_or(Precision::F32);
                let mut bytes = Vec::with_capacity(law.vocab() * precision.size());
                for &mass in law.as_slice() {
                    // No probability and no logarithm of one is too large.
                    precision.encode(value(mass), &mut bytes);
                }
                Row::Packed(STANDARD.encode(bytes))
            }
            LoggedLaw::Top(law) => Row::Top {
                tokens: law.tokens().to_vec(),
                // JSON has no −∞.
                values: law.masses().iter().map(|&mass| Some(value(mass)).filter(|value| value.is_finite())).collect(),
                tail: law.tail(),
            },
        }
    }
}
