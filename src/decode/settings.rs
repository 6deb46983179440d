//! What to generate, how, and what comes of it.

use crate::path::{PathCoupling, Verifier};
use crate::pmf::{Sampling, Token};

/// How a [`Speculative`](super::Speculative) drafts and checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The number `K` of drafted paths, 1 to [`MAX_DRAFTS`](crate::problem::MAX_DRAFTS).
    pub paths: usize,
    /// The length `L` of a path, up to [`MAX_LENGTH`](crate::path::MAX_LENGTH). 0 is plain decoding: the draft model is not
    /// called.
    pub length: usize,
    /// What picks among the paths.
    pub verifier: Verifier,
    /// How the target's logits become the law of the text.
    pub sampling: Sampling,
    /// How the draft's logits become the law of the drafts: whatever it is, the text has the target's law.
    pub draft_sampling: Sampling,
    /// Tokens that end a text. They are part of it.
    pub stop: Vec<Token>,
    /// Tokens from here on are masked in both models: what a model's padded vocabulary has beyond the tokenizer's.
    /// `None`: only what the target model lacks is masked in the draft's.
    pub vocab: Option<usize>,
    /// Whether `paths` and `length`, here and in a [`Request`], are upper limits, within which each round takes what the
    /// rounds before suggest. The text then depends on the clock as well as on the seed; its law does not.
    pub adaptive: bool,
}

impl Default for Settings {
    /// Four paths of five tokens, the path coupling, no temperature, no filters, nothing that ends a text.
    fn default() -> Self {
        Settings {
            paths: 4,
            length: 5,
            verifier: Verifier::Path(PathCoupling::default()),
            sampling: Sampling::default(),
            draft_sampling: Sampling::default(),
            stop: Vec::new(),
            vocab: None,
            adaptive: false,
        }
    }
}

/// A text to be continued. [`Request::default`] has no prompt, which [`add`](super::Speculative::add) refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The tokens that it starts with; at least one.
    pub prompt: Vec<Token>,
    /// Keys all random numbers of the request: the same seed gives the same text, whatever else is in the batch, as
    /// long as the models' scores are the same.
    pub seed: u64,
    /// The most tokens to generate.
    pub limit: usize,
    /// The number of paths of this text, in place of [`Settings::paths`].
    pub paths: Option<usize>,
    /// The length of its paths, in place of [`Settings::length`].
    pub length: Option<usize>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// One of [`Settings::stop`] came out.
    Stop,
    /// [`Request::limit`] was reached.
    Limit,
}

/// What a round added to one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The request, as [`Speculative::add`](super::Speculative::add) numbered it.
    pub request: usize,
    /// The new tokens, at least one.
    pub tokens: Vec<Token>,
    /// Set if the text ends with them.
    pub finish: Option<Finish>,
}
