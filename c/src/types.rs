//! What the functions are handed: sizes and pointers, read by `ffi`.

use std::ffi::c_void;

use crate::coins::DraftpickPurpose;
use crate::sampling::DraftpickSampling;

/// A number in [0, 1), uniform and independent of all others, the same whenever it is asked for with the same address. It
/// must not throw, jump out, or call draftpick_last_error for the call that it is part of.
pub type DraftpickToss =
    Option<unsafe extern "C" fn(context: *mut c_void, purpose: DraftpickPurpose, depth: usize, draft: usize) -> f64>;

/// The coins of one request: by seed and position, or tossed by the caller. Independent of those that drew the drafts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DraftpickCoins {
    /// The request's seed. The same seed and position give the same coins: never use a pair of them for two rounds.
    pub seed: u64,
    /// The number of tokens before the round's first.
    pub position: u64,
    /// NULL for coins by seed and position; else it is called, on the calling thread, in their place.
    pub toss: DraftpickToss,
    /// What `toss` is given.
    pub context: *mut c_void,
}

/// A batch of positions, at each of which k tokens were drafted.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DraftpickPositions {
    /// The number of positions.
    pub count: usize,
    /// The number of drafts at each, 1 to 64.
    pub k: usize,
    /// The size of the vocabulary.
    pub vocab: usize,
    /// [count, k] tokens, drawn from the draft law.
    pub drafts: *const i32,
    /// [count, vocab] logits of the draft model, read in place.
    pub draft_logits: *const f32,
    /// From one row of draft_logits to the next, in elements; 0 for vocab.
    pub draft_stride: usize,
    /// [count, vocab] logits of the target model, read in place.
    pub target_logits: *const f32,
    /// From one row of target_logits to the next, in elements; 0 for vocab.
    pub target_stride: usize,
    /// [count], what the drafts were drawn with; NULL if the logits have it applied.
    pub draft_sampling: *const DraftpickSampling,
    /// [count], what the output is to be drawn with; NULL if the logits have it applied.
    pub target_sampling: *const DraftpickSampling,
    /// [count]
    pub coins: *const DraftpickCoins,
}

/// A ragged batch of drafted chains, one a request, end to end: as vLLM's rejection sampler takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DraftpickChains {
    /// The number of requests B.
    pub requests: usize,
    /// The most drafts of a request; the output has one column more.
    pub max_spec_len: usize,
    /// The size of the vocabulary.
    pub vocab: usize,
    /// [N] the drafts of all requests.
    pub draft_token_ids: *const i32,
    /// [B] the number of drafts of the requests up to this one, itself included; the last is N.
    pub cu_num_draft_tokens: *const i32,
    /// [N, vocab] the probabilities that each draft was drawn by, after temperature and filters; NULL for drafts that were
    /// not drawn at random (n-grams).
    pub draft_probs: *const f32,
    /// From one row of draft_probs to the next, in elements; 0 for vocab.
    pub draft_stride: usize,
    /// [N, vocab] the target's logits at each draft, read in place.
    pub target_logits: *const f32,
    /// From one row of target_logits to the next, in elements; 0 for vocab.
    pub target_stride: usize,
    /// [B] what follows if all drafts of a request are kept, drawn from the target.
    pub bonus_token_ids: *const i32,
    /// [B], applied to target_logits (temperature 0: a greedy request); NULL if they have it applied.
    pub sampling: *const DraftpickSampling,
    /// [B]
    pub coins: *const DraftpickCoins,
}

/// A drafted tree with both models' logits: node 0 is the root, the text so far, and every other node is a drafted token
/// that comes after its parent.
///
/// Each leaf is the end of one of K independently drafted paths, 1 to 64; paths that agree may share nodes or not. K paths
/// of L tokens are such a tree too, of 1 + K L nodes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DraftpickTree {
    /// The number of nodes.
    pub nodes: usize,
    /// The size of the vocabulary.
    pub vocab: usize,
    /// [nodes] tokens[0] is not looked at.
    pub tokens: *const i32,
    /// [nodes] parents[0] is -1.
    pub parents: *const i32,
    /// [nodes] the draft model's logits after each node, from which its children were drawn; NULL for a leaf, where they are
    /// not looked at. NULL for the whole: the drafts were not drawn at random (n-grams, the best k).
    pub draft_logits: *const *const f32,
    /// [nodes] the target model's logits after each node; NULL for a leaf at which the text ends.
    pub target_logits: *const *const f32,
    /// What the drafts were drawn with; NULL if the logits have it applied.
    pub draft_sampling: *const DraftpickSampling,
    /// What the output is to be drawn with; NULL if the logits have it applied.
    pub target_sampling: *const DraftpickSampling,
    /// The coins of the tree.
    pub coins: DraftpickCoins,
}
