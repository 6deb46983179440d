//! Logs of any engine, in JSON Lines.
//!
//! The first line says what the log holds ([`Header`]), every other line is one round. `docs/audit.md` describes the
//! format. A [`Reader`] hands out lines, a [`Format`] makes records of them, and may do so on several threads; neither
//! holds more than the line at hand. A line that is wrong is refused with its number and the field. [`Reader::audit`] audits a
//! whole log, and [`Summary`] holds what that comes to.

mod error;
mod pass;
mod read;
mod summary;
mod value;
mod write;

use serde::{Deserialize, Serialize};

pub use error::{LogError, LogErrorKind, RowError};
pub use pass::Pass;
pub use read::{Format, MAX_LINE_BYTES, Reader};
pub use summary::{
    AcceptanceSummary, FindingSummary, KeptSummary, MeanSummary, PowerSummary, RuleSummary, Summary, TestSummary,
    VerifierSummary,
};
pub use write::Writer;

use super::rule::KnownRule;
use crate::trace::{Precision, Values};
use crate::{Drawn, Sampling};

/// What the `format` entry of a header says.
pub const FORMAT: &str = "draftpick-log";

/// The version of the format.
pub const VERSION: u32 = 1;

/// What a log holds: its first line.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The size of the vocabulary.
    pub vocab: usize,
    /// What the numbers of a law are.
    pub values: Values,
    /// The type of numbers packed in strings.
    pub precision: Option<Precision>,
    /// How far the logged laws may be from those that the engine used, in total variation.
    pub accuracy: f64,
    /// The rule that the engine is said to follow.
    pub rule: Option<KnownRule>,
    /// How the drafts are said to be drawn.
    pub drawn: Drawn,
    /// How the target's laws are made of the logged scores.
    pub sampling: Sampling,
    /// The same for the draft's.
    pub draft_sampling: Sampling,
}

impl Header {
    /// A header for full or cut off laws over `vocab` tokens, of which nothing else is said.
    pub fn new(vocab: usize, values: Values, precision: Option<Precision>) -> Self {
        Header {
            vocab,
            values,
            precision,
            accuracy: accuracy(precision),
            rule: None,
            drawn: Drawn::Independent,
            sampling: Sampling::default(),
            draft_sampling: Sampling::default(),
        }
    }
}

/// How far laws may be from those that were used if they were logged with this precision and the log does not say.
///
/// An engine computes its softmax in f32, whatever is logged: 1e-6. Rounding logits of about 10 to f16 moves each by up
/// to 0.004 and the law by some 0.1 % in total variation, to bf16 eight times as much.
fn accuracy(precision: Option<Precision>) -> f64 {
    match precision {
        Some(Precision::F64) => 1e-9,
        Some(Precision::F32) | None => 1e-6,
        Some(Precision::F16) => 2e-3,
        Some(Precision::Bf16) => 1.6e-2,
    }
}

/// A header as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawHeader {
    format: String,
    version: u32,
    vocab: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    precision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accuracy: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drawn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sampling: Option<RawSampling>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    draft_sampling: Option<RawSampling>,
    /// Whatever the engine wants to say of itself.
    #[serde(default, skip_serializing)]
    #[allow(dead_code)]
    note: serde::de::IgnoredAny,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawSampling {
    #[serde(default = "one")]
    temperature: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    top_k: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_p: Option<f64>,
}

fn one() -> f64 {
    1.0
}

const PRECISIONS: [Precision; 4] = [Precision::F64, Precision::F32, Precision::F16, Precision::Bf16];
const VALUES: [Values; 2] = [Values::Logits, Values::Probabilities];

fn drawn_name(drawn: Drawn) -> &'static str {
    match drawn {
        Drawn::Independent => "independent",
        Drawn::WithoutReplacement => "without-replacement",
    }
}

impl RawSampling {
    fn new(sampling: &Sampling) -> Option<Self> {
        let Sampling { temperature, top_k, top_p, min_p } = *sampling;
        (*sampling != Sampling::default()).then_some(RawSampling { temperature, top_k, top_p, min_p })
    }

    fn sampling(self) -> Sampling {
        let RawSampling { temperature, top_k, top_p, min_p } = self;
        Sampling { temperature, top_k, top_p, min_p }
    }
}

impl From<&Header> for RawHeader {
    fn from(header: &Header) -> Self {
        RawHeader {
            format: FORMAT.into(),
            version: VERSION,
            vocab: header.vocab,
            values: Some(header.values.name().into()),
            precision: header.precision.map(|precision| precision.to_string()),
            accuracy: Some(header.accuracy),
            rule: header.rule.map(KnownRule::name),
            drawn: Some(drawn_name(header.drawn).into()),
            sampling: RawSampling::new(&header.sampling),
            draft_sampling: RawSampling::new(&header.draft_sampling),
            note: serde::de::IgnoredAny,
        }
    }
}

impl TryFrom<RawHeader> for Header {
    type Error = LogErrorKind;

    fn try_from(raw: RawHeader) -> Result<Self, LogErrorKind> {
        let header = |field, value: &str, wanted| LogErrorKind::Header { field, value: value.into(), wanted };
        if raw.format != FORMAT {
            return Err(header("format", &raw.format, "draftpick-log"));
        }
        if raw.version != VERSION {
            return Err(header("version", &raw.version.to_string(), "1"));
        }
        if !(1..=crate::pmf::MAX_VOCAB).contains(&raw.vocab) {
            return Err(header("vocab", &raw.vocab.to_string(), "1 to 1048576 tokens"));
        }
        let values = match &raw.values {
            None => Values::default(),
            Some(name) => VALUES
                .into_iter()
                .find(|values| values.name() == name)
                .ok_or_else(|| header("values", name, "logits or probabilities"))?,
        };
        let precision = match &raw.precision {
            None => None,
            Some(name) => PRECISIONS
                .into_iter()
                .find(|precision| precision.to_string() == *name)
                .map(Some)
                .ok_or_else(|| header("precision", name, "f64, f32, f16 or bf16"))?,
        };
        if (values, precision) == (Values::Probabilities, Some(Precision::F16)) {
            // It loses probabilities below 6e-8, and what is 0 cannot be output.
            return Err(header("precision", "f16", "f64, f32 or bf16 for probabilities; log logits in f16"));
        }
        let accuracy = raw.accuracy.unwrap_or_else(|| accuracy(precision));
        if !(0.0..1.0).contains(&accuracy) {
            return Err(header("accuracy", &accuracy.to_string(), "a total variation in [0, 1)"));
        }
        let rule = match &raw.rule {
            None => None,
            Some(name) => Some(name.parse::<KnownRule>().map_err(LogErrorKind::Rule)?),
        };
        let drawn = match &raw.drawn {
            None if rule == Some(KnownRule::Distinct) => Drawn::WithoutReplacement,
            None => Drawn::Independent,
            Some(name) => [Drawn::Independent, Drawn::WithoutReplacement]
                .into_iter()
                .find(|drawn| drawn_name(*drawn) == name)
                .ok_or_else(|| header("drawn", name, "independent or without-replacement"))?,
        };
        let sampling = raw.sampling.map(RawSampling::sampling).unwrap_or_default();
        let draft_sampling = raw.draft_sampling.map(RawSampling::sampling).unwrap_or_default();
        for (field, sampling) in [("sampling", &sampling), ("draft_sampling", &draft_sampling)] {
            // Any row shows whether the parameters are in range.
            sampling.apply(&[0.0]).map_err(|error| LogErrorKind::Sampling { field, error })?;
        }
        Ok(Header { vocab: raw.vocab, values, precision, accuracy, rule, drawn, sampling, draft_sampling })
    }
}
