//! Recorded scores along `K` drafted paths of `L` tokens.

use std::borrow::Cow;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::error::{Place, Tensor, TraceError};
use super::scores::{Container, Scores, read_file};
use crate::pmf::{Pmf, Sampling, Token};
use crate::problem::MAX_DRAFTS;

/// How far apart, in total variation, two paths' laws for the same prefix may be.
///
/// They are one law scored twice, perhaps in batches of another shape: half-precision logits around 10 are rounded by
/// 0.004, so two kernels may differ by half a percent. Another context differs by far more.
pub const PREFIX_TOLERANCE: f64 = 1e-2;

const SHAPE: &str = "[N, K, L, V]";
const TARGET_SHAPE: &str = "[N, K, L + 1, V], with the draft's N, K, L and V";
const TOKENS_SHAPE: &str = "[N, K, L], with the draft's N, K and L";

/// Recorded drafts: in each of `rows` contexts, `paths` paths of `length` drafted tokens, the draft model's scores
/// before each token and the target model's before each token and after the last.
///
/// Owning one is the proof that every row of scores is a law, every token could have been drawn from its draft law, and
/// paths that share a prefix share the laws along it (within [`PREFIX_TOLERANCE`]).
#[derive(Clone, Debug)]
pub struct PathTrace {
    bytes: Cow<'static, [u8]>,
    tokens: Vec<Token>,
    draft: Scores,
    target: Scores,
}

impl PathTrace {
    /// Reads and checks a file. See [`PathTrace::from_bytes`].
    ///
    /// # Errors
    /// The file cannot be read, is too large, or is refused by [`PathTrace::from_bytes`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TraceError> {
        Self::from_bytes(read_file(path.as_ref())?)
    }

    /// Checks the bytes of a safetensors file: `tokens` `[N, K, L]` of any integer type, `draft` `[N, K, L, V]` and
    /// `target` `[N, K, L + 1, V]` as in [`Trace`](super::Trace). `O(N K L V)`.
    ///
    /// # Errors
    /// As [`Trace::from_bytes`](super::Trace::from_bytes); a token outside the vocabulary or of draft probability 0;
    /// two paths whose laws differ at a prefix they share.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, TraceError> {
        let file = Container::parse(bytes.into())?;
        let draft = file.scores(Tensor::Draft, SHAPE, 4)?;
        let target = file.scores(Tensor::Target, TARGET_SHAPE, 4)?;
        let info = file.info(Tensor::Tokens, TOKENS_SHAPE, 3)?;
        let [rows, paths, length, vocab] = draft.shape[..] else { unreachable!("the rank was checked") };
        for (tensor, shape, fits, wanted) in [
            (Tensor::Target, &target.shape, target.shape == [rows, paths, length + 1, vocab], TARGET_SHAPE),
            (Tensor::Tokens, &info.shape, info.shape == [rows, paths, length], TOKENS_SHAPE),
        ] {
            if !fits {
                let (shape, other_shape) = (shape.clone(), draft.shape.clone());
                return Err(TraceError::Shapes { tensor, shape, other: Tensor::Draft, other_shape, wanted });
            }
        }
        if paths > MAX_DRAFTS {
            return Err(TraceError::Paths { paths });
        }
        let tokens = read_tokens(&file, info, vocab)?;
        let trace = PathTrace { bytes: file.bytes, tokens, draft, target };
        for row in 0..rows {
            for path in 0..paths {
                trace.check_path(row, path)?;
            }
        }
        Ok(trace)
    }

    /// The number `N` of contexts.
    pub fn rows(&self) -> usize {
        self.draft.shape[0]
    }

    /// The number `K` of paths drafted in each.
    pub fn paths(&self) -> usize {
        self.draft.shape[1]
    }

    /// The number `L` of tokens in a path.
    pub fn length(&self) -> usize {
        self.draft.shape[2]
    }

    /// The size of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.draft.vocab()
    }

    /// The tokens of a path.
    ///
    /// # Errors
    /// There is no such row or path.
    pub fn tokens(&self, row: usize, path: usize) -> Result<&[Token], TraceError> {
        if row >= self.rows() || path >= self.paths() {
            let place = Place { tensor: Tensor::Tokens, row, step: Some((path, 0)) };
            return Err(TraceError::OutOfRange { place });
        }
        Ok(self.path(row, path))
    }

    /// The draft law before token `position` (`0..length`) of a path.
    ///
    /// # Errors
    /// There is no such row, path or position.
    pub fn draft(&self, row: usize, path: usize, position: usize) -> Result<Pmf, TraceError> {
        self.law(&self.draft, [row, path, position])
    }

    /// The target law before token `position` of a path; after the last one at `position` = `length`.
    ///
    /// # Errors
    /// There is no such row, path or position.
    pub fn target(&self, row: usize, path: usize, position: usize) -> Result<Pmf, TraceError> {
        self.law(&self.target, [row, path, position])
    }

    fn law(&self, scores: &Scores, index: [usize; 3]) -> Result<Pmf, TraceError> {
        let place = scores.place(&index);
        if index.iter().zip(&scores.shape).any(|(index, size)| index >= size) {
            return Err(TraceError::OutOfRange { place });
        }
        scores.law(&self.bytes, &index, &Sampling::default()).map_err(|error| TraceError::Sampling { place, error })
    }

    fn path(&self, row: usize, path: usize) -> &[Token] {
        let start = (row * self.paths() + path) * self.length();
        &self.tokens[start..start + self.length()]
    }

    fn check_path(&self, row: usize, path: usize) -> Result<(), TraceError> {
        let tokens = self.path(row, path);
        for position in 0..=self.length() {
            let twin = (0..path).find(|&other| self.path(row, other)[..position] == tokens[..position]);
            let index = [row, path, position];
            for scores in [&self.draft, &self.target] {
                if position < scores.shape[2] {
                    scores.check(&self.bytes, &index, scores.place(&index))?;
                    if let Some(other) = twin {
                        self.check_twins(scores, index, other)?;
                    }
                }
            }
            if let Some(&token) = tokens.get(position)
                && self.draft(row, path, position)?.get(token) == Some(0.0)
            {
                let place = Place { tensor: Tensor::Tokens, row, step: Some((path, position)) };
                return Err(TraceError::NotDrawn { place, token });
            }
        }
        Ok(())
    }

    /// Checks that path `other` has the law at `index` too, as it leads to the same prefix.
    fn check_twins(&self, scores: &Scores, index: [usize; 3], other: usize) -> Result<(), TraceError> {
        let [row, _, position] = index;
        let twin = [row, other, position];
        if scores.raw(&self.bytes, &index) == scores.raw(&self.bytes, &twin) {
            return Ok(());
        }
        let (one, two) = (self.law(scores, index)?, self.law(scores, twin)?);
        let distance = one.as_slice().iter().zip(two.as_slice()).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
        if !(0.0..=PREFIX_TOLERANCE).contains(&distance) {
            return Err(TraceError::Disagreement { place: scores.place(&index), other, distance });
        }
        Ok(())
    }
}

fn read_tokens(file: &Container, info: &TensorInfo, vocab: usize) -> Result<Vec<Token>, TraceError> {
    let data = file.data(info);
    let tokens: Vec<i128> = match info.dtype {
        Dtype::U8 => data.iter().map(|&b| b.into()).collect(),
        Dtype::I8 => data.iter().map(|&b| (b as i8).into()).collect(),
        Dtype::U16 => data.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b).into()).collect(),
        Dtype::I16 => data.as_chunks().0.iter().map(|b| i16::from_le_bytes(*b).into()).collect(),
        Dtype::U32 => data.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b).into()).collect(),
        Dtype::I32 => data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
        Dtype::U64 => data.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b).into()).collect(),
        Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b).into()).collect(),
        dtype => {
            return Err(TraceError::ElementType { tensor: Tensor::Tokens, dtype, wanted: "integers, I8 to U64" });
        }
    };
    let (paths, length) = (info.shape[1], info.shape[2]);
    let check = |(at, token): (usize, i128)| match Token::try_from(token) {
        Ok(small) if (small as usize) < vocab => Ok(small),
        _ => {
            let step = Some((at / length % paths, at % length));
            let place = Place { tensor: Tensor::Tokens, row: at / length / paths, step };
            Err(TraceError::Token { place, token, vocab })
        }
    };
    tokens.into_iter().enumerate().map(check).collect()
}
