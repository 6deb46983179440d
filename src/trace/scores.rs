//! A file's bytes, and the rows of scores in them.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::error::{Place, Tensor, TraceError};
use crate::pmf::{MAX_VOCAB, Pmf, PmfError, SUM_TOLERANCE, Sampling};

/// The largest file read, 4 GiB: 8,192 rows of two models' scores in f16 at 131,072 tokens.
///
/// A trace is held in memory as it is in the file; the size is looked at before anything is read.
pub const MAX_FILE_BYTES: u64 = 1 << 32;

/// What the numbers of a trace are: the metadata entry `values`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// Logits, in natural units, up to a constant for each row: log-probabilities are logits too.
    #[default]
    Logits,
    /// Probabilities. A row need only add up to 1 within [`Precision::sum_tolerance`], and is normalised in f64.
    Probabilities,
}

impl Values {
    /// What the metadata entry says.
    pub fn name(self) -> &'static str {
        match self {
            Values::Logits => "logits",
            Values::Probabilities => "probabilities",
        }
    }
}

/// The type of a tensor of scores. Rows are converted to f64, exactly, before anything is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// IEEE double precision.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Precision::F64 => "f64",
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
        })
    }
}

impl Precision {
    /// How far the sum of a row of probabilities may be from 1.
    ///
    /// - f64: 1e-9, as [`SUM_TOLERANCE`].
    /// - f32: 1e-4. Whoever normalised the row added up to 2²⁰ numbers in f32, which leaves about √V · 2⁻²⁴ = 6e-5.
    /// - f16 and bf16: 2e-2. bf16 rounds each probability by up to 2⁻⁸ = 0.4 %, all in one direction at worst, and
    ///   rounds the normaliser as well if it is kept in bf16; f16 rounds by only 2⁻¹¹ but loses
    ///   probabilities below 2⁻²⁵, up to 0.8 % of the mass at 262,144 tokens.
    pub fn sum_tolerance(self) -> f64 {
        match self {
            Precision::F64 => SUM_TOLERANCE,
            Precision::F32 => 1e-4,
            Precision::F16 | Precision::Bf16 => 2e-2,
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            Precision::F64 => Dtype::F64,
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
            Precision::Bf16 => Dtype::BF16,
        }
    }

    fn of(tensor: Tensor, dtype: Dtype) -> Result<Self, TraceError> {
        match dtype {
            Dtype::F64 => Ok(Precision::F64),
            Dtype::F32 => Ok(Precision::F32),
            Dtype::F16 => Ok(Precision::F16),
            Dtype::BF16 => Ok(Precision::Bf16),
            _ => Err(TraceError::ElementType { tensor, dtype, wanted: "F64, F32, F16 or BF16" }),
        }
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Precision::F64 => 8,
            Precision::F32 => 4,
            Precision::F16 | Precision::Bf16 => 2,
        }
    }

    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f64> {
        // safetensors is little-endian, and does not promise alignment.
        match self {
            Precision::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Precision::F32 => bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            Precision::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f64()).collect(),
            Precision::Bf16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f64()).collect(),
        }
    }

    /// Appends the nearest number of this precision; `false` if `value` is finite and that number is not.
    pub(crate) fn encode(self, value: f64, bytes: &mut Vec<u8>) -> bool {
        let rounded = match self {
            Precision::F64 => {
                bytes.extend(value.to_le_bytes());
                value
            }
            Precision::F32 => {
                bytes.extend((value as f32).to_le_bytes());
                f64::from(value as f32)
            }
            Precision::F16 => {
                bytes.extend(f16::from_f64(value).to_le_bytes());
                f16::from_f64(value).to_f64()
            }
            Precision::Bf16 => {
                bytes.extend(bf16::from_f64(value).to_le_bytes());
                bf16::from_f64(value).to_f64()
            }
        };
        rounded.is_finite() || !value.is_finite()
    }
}

/// Reads a whole file, refusing one above [`MAX_FILE_BYTES`] before reading it.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, TraceError> {
    let io = |error| TraceError::Io { action: "read", path: path.into(), error };
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(TraceError::TooLarge { bytes });
    }
    let mut buffer = Vec::with_capacity(bytes as usize);
    // A pipe has no size beforehand.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut buffer).map_err(io)?;
    match buffer.len() as u64 {
        bytes if bytes > MAX_FILE_BYTES => Err(TraceError::TooLarge { bytes }),
        _ => Ok(buffer),
    }
}

/// A safetensors file whose header was read.
pub(super) struct Container {
    metadata: Metadata,
    /// Where the tensors' bytes start.
    start: usize,
    pub bytes: Cow<'static, [u8]>,
    pub values: Values,
}

impl Container {
    pub fn parse(bytes: Cow<'static, [u8]>) -> Result<Self, TraceError> {
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| match error {
            // The header announces its own length and each tensor's.
            SafeTensorError::HeaderTooSmall
            | SafeTensorError::InvalidHeaderLength
            | SafeTensorError::MetadataIncompleteBuffer => TraceError::Truncated { bytes: bytes.len() },
            error => TraceError::Format(error),
        })?;
        let values = match metadata.metadata().as_ref().and_then(|entries| entries.get("values")) {
            None => Values::default(),
            Some(value) => [Values::Logits, Values::Probabilities]
                .into_iter()
                .find(|values| values.name() == value)
                .ok_or_else(|| TraceError::Values { value: value.clone() })?,
        };
        Ok(Container { metadata, start: size_of::<u64>() + header, bytes, values })
    }

    /// A tensor's header entry, with the rank checked and no dimension 0.
    pub fn info(&self, tensor: Tensor, wanted: &'static str, rank: usize) -> Result<&TensorInfo, TraceError> {
        let info = self.metadata.info(tensor.name()).ok_or_else(|| {
            let mut found: Vec<_> = self.metadata.tensors().into_keys().collect();
            found.sort();
            TraceError::Missing { tensor, found }
        })?;
        let shape = info.shape.clone();
        if shape.len() != rank {
            return Err(TraceError::Rank { tensor, shape, wanted });
        }
        if shape.contains(&0) {
            return Err(TraceError::Empty { tensor, shape });
        }
        Ok(info)
    }

    /// The bytes of a tensor.
    pub fn data(&self, info: &TensorInfo) -> &[u8] {
        // In range: the header was checked against the length of the file.
        &self.bytes[self.start + info.data_offsets.0..self.start + info.data_offsets.1]
    }

    /// A tensor of scores; what is in it is not looked at yet.
    pub fn scores(&self, tensor: Tensor, wanted: &'static str, rank: usize) -> Result<Scores, TraceError> {
        let info = self.info(tensor, wanted, rank)?;
        let precision = Precision::of(tensor, info.dtype)?;
        let vocab = info.shape[rank - 1];
        if vocab > MAX_VOCAB {
            return Err(TraceError::Vocabulary { tensor, vocab });
        }
        let start = self.start + info.data_offsets.0;
        Ok(Scores { tensor, values: self.values, precision, start, shape: info.shape.clone() })
    }
}

/// Where a tensor of scores lies in its file.
#[derive(Clone, Debug)]
pub(super) struct Scores {
    tensor: Tensor,
    values: Values,
    precision: Precision,
    start: usize,
    pub shape: Vec<usize>,
}

impl Scores {
    pub fn vocab(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The row's bytes; `row` has one index for each dimension but the last, all in range.
    pub fn raw<'a>(&self, bytes: &'a [u8], row: &[usize]) -> &'a [u8] {
        let flat = row.iter().zip(&self.shape).fold(0, |flat, (index, size)| flat * size + index);
        let len = self.vocab() * self.precision.size();
        &bytes[self.start + flat * len..self.start + (flat + 1) * len]
    }

    /// The law in a row that [`check`](Scores::check) has passed.
    ///
    /// # Errors
    /// Only the sampling parameters can be wrong.
    pub fn law(&self, bytes: &[u8], row: &[usize], sampling: &Sampling) -> Result<Pmf, PmfError> {
        let mut scores = self.precision.decode(self.raw(bytes, row));
        if self.values == Values::Probabilities {
            if *sampling == Sampling::default() {
                return Pmf::from_weights(scores);
            }
            for score in &mut scores {
                *score = score.ln();
            }
        }
        Pmf::from_logits(&scores, sampling)
    }

    /// Refuses a row that is no law, naming the column.
    pub fn check(&self, bytes: &[u8], row: &[usize], place: Place) -> Result<(), TraceError> {
        let scores = self.precision.decode(self.raw(bytes, row));
        match self.values {
            Values::Logits => {
                if let Some(column) = scores.iter().position(|&s| s.is_nan() || s == f64::INFINITY) {
                    return Err(TraceError::Logit { place, column, value: scores[column] });
                }
                if scores.iter().all(|&s| s == f64::NEG_INFINITY) {
                    return Err(TraceError::AllMasked { place, vocab: scores.len() });
                }
            }
            Values::Probabilities => {
                if let Some(column) = scores.iter().position(|&s| !(s >= 0.0 && s.is_finite())) {
                    return Err(TraceError::Probability { place, column, value: scores[column] });
                }
                let sum: f64 = scores.iter().sum();
                let tolerance = self.precision.sum_tolerance();
                if !(0.0..=tolerance).contains(&(sum - 1.0).abs()) {
                    return Err(TraceError::Sum { place, sum, tolerance });
                }
            }
        }
        Ok(())
    }

    /// The place of a row, for messages.
    pub fn place(&self, row: &[usize]) -> Place {
        match *row {
            [row, path, position] => Place { tensor: self.tensor, row, step: Some((path, position)) },
            _ => Place { tensor: self.tensor, row: row[0], step: None },
        }
    }
}
