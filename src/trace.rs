//! Recorded scores of a draft and a target model, in the safetensors format.
//!
//! A trace file holds two tensors, `draft` and `target`, each `[N, V]`: `N` positions, and in each the two models'
//! scores of all `V` tokens, in f64, f32, f16 or bf16. Its metadata entry `values` says what they are: `logits` (also
//! when there is no such entry) or `probabilities`. From Python:
//!
//! ```python
//! safetensors.numpy.save_file({"draft": p, "target": q}, "trace.safetensors", {"values": "logits"})
//! ```
//!
//! A [`PathTrace`] holds scores along drafted paths. Everything is checked on reading, and a file that is wrong is refused
//! with the tensor, row and column named.

mod error;
mod path;
mod scores;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;

pub use error::{Place, Tensor, TraceError};
pub use path::{PREFIX_TOLERANCE, PathTrace};
pub use scores::{MAX_FILE_BYTES, Precision, Values};

use crate::pmf::{Pmf, Sampling};
use crate::problem::Problem;
use scores::{Container, Scores, read_file};

const SHAPE: &str = "[N, V]";

/// Scores of two models at the same positions; owning one is the proof that every row is a law.
///
/// ```
/// use draftpick::trace::{Precision, Trace, Values};
///
/// let draft = [vec![0.0, -1.0, -2.0], vec![0.5, 0.5, f64::NEG_INFINITY]];
/// let target = [vec![-1.0, 0.0, -2.0], vec![0.25, 0.0, 0.25]];
/// let trace = Trace::new(Values::Logits, Precision::F32, &draft, &target)?;
/// let problem = trace.problem(1, 2)?;
/// assert_eq!(problem.draft().as_slice(), [0.5, 0.5, 0.0]);
/// # Ok::<(), draftpick::trace::TraceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trace {
    /// The file as it is: rows are decoded when asked for.
    bytes: Cow<'static, [u8]>,
    values: Values,
    draft: Scores,
    target: Scores,
}

impl Trace {
    /// Reads and checks a file. See [`Trace::from_bytes`].
    ///
    /// # Errors
    /// The file cannot be read, is larger than [`MAX_FILE_BYTES`], or is refused by [`Trace::from_bytes`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TraceError> {
        Self::from_bytes(read_file(path.as_ref())?)
    }

    /// Checks the bytes of a safetensors file. `O(N V)`.
    ///
    /// # Errors
    /// The bytes are cut off or no safetensors file; a tensor is missing, or of the wrong rank or type; the shapes
    /// differ; there are no rows, no columns, or more columns than [`MAX_VOCAB`](crate::pmf::MAX_VOCAB); a logit is NaN
    /// or +∞, or a whole row −∞; a probability is negative, infinite or NaN, or a row's sum is not 1 within
    /// [`Precision::sum_tolerance`].
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, TraceError> {
        let file = Container::parse(bytes.into())?;
        let draft = file.scores(Tensor::Draft, SHAPE, 2)?;
        let target = file.scores(Tensor::Target, SHAPE, 2)?;
        if draft.shape != target.shape {
            let (shape, other_shape) = (draft.shape, target.shape);
            let (tensor, other) = (Tensor::Draft, Tensor::Target);
            return Err(TraceError::Shapes { tensor, shape, other, other_shape, wanted: "the same [N, V]" });
        }
        for row in 0..draft.shape[0] {
            for scores in [&draft, &target] {
                scores.check(&file.bytes, &[row], scores.place(&[row]))?;
            }
        }
        Ok(Trace { values: file.values, bytes: file.bytes, draft, target })
    }

    /// The trace that comes with the command line: 84 positions of a small pair of models with 4,096 tokens.
    #[cfg(feature = "cli")]
    pub fn embedded() -> Self {
        Self::from_bytes(include_bytes!("../assets/tiny-pair.safetensors").as_slice())
            .expect("the embedded trace is read by a test")
    }

    /// Makes a trace of rows of scores, rounded to `precision`.
    ///
    /// # Errors
    /// A row of another length than the first; a finite score too large for `precision`; or what
    /// [`Trace::from_bytes`] refuses.
    pub fn new(
        values: Values,
        precision: Precision,
        draft: &[Vec<f64>],
        target: &[Vec<f64>],
    ) -> Result<Self, TraceError> {
        let (draft_shape, draft) = encode(Tensor::Draft, precision, draft)?;
        let (target_shape, target) = encode(Tensor::Target, precision, target)?;
        let view = |shape, data| TensorView::new(precision.dtype(), shape, data).map_err(TraceError::Format);
        let tensors =
            [(Tensor::Draft.name(), view(draft_shape, &draft)?), (Tensor::Target.name(), view(target_shape, &target)?)];
        let metadata = HashMap::from([("values".to_string(), values.name().to_string())]);
        let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(TraceError::Format)?;
        Self::from_bytes(bytes)
    }

    /// Writes the trace to a file. A file that is already there is replaced only once all is written.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), TraceError> {
        let path = path.as_ref();
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.partial", std::process::id()));
        fs::write(&partial, &self.bytes).and_then(|()| fs::rename(&partial, path)).map_err(|error| {
            // The first error is the one to report.
            let _ = fs::remove_file(&partial);
            TraceError::Io { action: "write", path: path.into(), error }
        })
    }

    /// The trace as the bytes of its file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number `N` of positions.
    pub fn rows(&self) -> usize {
        self.draft.shape[0]
    }

    /// The size of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.draft.vocab()
    }

    /// What the numbers are.
    pub fn values(&self) -> Values {
        self.values
    }

    /// The type of the draft model's scores and of the target model's.
    pub fn precisions(&self) -> (Precision, Precision) {
        (self.draft.precision(), self.target.precision())
    }

    /// The draft law of a position.
    ///
    /// # Errors
    /// There is no such row.
    pub fn draft(&self, row: usize) -> Result<Pmf, TraceError> {
        self.draft_with(row, &Sampling::default())
    }

    /// The target law of a position.
    ///
    /// # Errors
    /// There is no such row.
    pub fn target(&self, row: usize) -> Result<Pmf, TraceError> {
        self.target_with(row, &Sampling::default())
    }

    /// The draft law of a position under temperature and filters.
    ///
    /// # Errors
    /// There is no such row, or a sampling parameter is outside its range.
    pub fn draft_with(&self, row: usize, sampling: &Sampling) -> Result<Pmf, TraceError> {
        self.law(&self.draft, row, sampling)
    }

    /// The target law of a position under temperature and filters.
    ///
    /// # Errors
    /// There is no such row, or a sampling parameter is outside its range.
    pub fn target_with(&self, row: usize, sampling: &Sampling) -> Result<Pmf, TraceError> {
        self.law(&self.target, row, sampling)
    }

    /// The problem of a position with `k` drafts.
    ///
    /// # Errors
    /// There is no such row, or `k` is not in `1..=`[`MAX_DRAFTS`](crate::problem::MAX_DRAFTS).
    pub fn problem(&self, row: usize, k: usize) -> Result<Problem, TraceError> {
        Ok(Problem::new(self.draft(row)?, self.target(row)?, k)?)
    }

    fn law(&self, scores: &Scores, row: usize, sampling: &Sampling) -> Result<Pmf, TraceError> {
        let place = scores.place(&[row]);
        if row >= self.rows() {
            return Err(TraceError::OutOfRange { place });
        }
        scores.law(&self.bytes, &[row], sampling).map_err(|error| TraceError::Sampling { place, error })
    }
}

/// The shape and the bytes of rows of scores.
fn encode(tensor: Tensor, precision: Precision, rows: &[Vec<f64>]) -> Result<(Vec<usize>, Vec<u8>), TraceError> {
    let vocab = rows.first().map_or(0, Vec::len);
    let mut bytes = Vec::new();
    for (row, scores) in rows.iter().enumerate() {
        if scores.len() != vocab {
            return Err(TraceError::Ragged { tensor, row, len: scores.len(), vocab });
        }
        for (column, &value) in scores.iter().enumerate() {
            if !precision.encode(value, &mut bytes) {
                return Err(TraceError::Overflow { tensor, row, column, value, precision });
            }
        }
    }
    Ok((vec![rows.len(), vocab], bytes))
}
