//! What a language model must offer to draft or to check.

use crate::pmf::Token;

/// A language model that scores trees of continuations. The same trait serves the draft model and the target model.
///
/// Each sequence (a prompt and what was generated for it) has a *tree*. Node 0 is its root: the tokens kept so far,
/// none at first. Every token appended is a new node, numbered 1, 2, … in the order of appending, and a child of an
/// earlier node. When a round is over, [`keep`](Model::keep) makes one node the root, and the numbers start again.
///
/// The contract:
///
/// 1. The row of a node holds the model's logits for the token that follows *exactly* the tokens from the start of the
///    sequence over the root to that node. Nodes that are not on this way have no influence on it.
/// 2. It does not depend on what else is in the batch, nor on the calls by which the tokens got there, but for the
///    rounding of the arithmetic.
///
/// A model without a cache keeps the tokens of the tree and scores each node's way anew; one with a cache keeps keys
/// and values for each node and lets each new one attend to its way alone. The loop never asks for anything else, so
/// nothing of its rounds, drafts or coins needs to be known here.
pub trait Model {
    /// The scores after one node: one logit for each token of the vocabulary, on the host or on a device.
    type Row;

    /// Why a call failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The number of logits in a row.
    fn vocab(&self) -> usize;

    /// Appends nodes, of any number of sequences, in one forward pass. Returns the rows of those that are `scored`, in
    /// order.
    ///
    /// # Errors
    /// A parent that does not exist, a token outside the vocabulary, a sequence longer than the model's context. The
    /// trees are then as before the call.
    fn extend(&mut self, new: &[Extension]) -> Result<Vec<Self::Row>, Self::Error>;

    /// Makes `node` the root of its sequence: the tokens on the way to it are kept, all other nodes are dropped. `None`
    /// forgets the sequence, which is then as empty as one never used.
    ///
    /// # Errors
    /// There is no such node. The tree is then as before the call.
    fn keep(&mut self, sequence: usize, node: Option<usize>) -> Result<(), Self::Error>;
}

/// A token to append to a sequence's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Which sequence; any number, an unused one starts an empty sequence.
    pub sequence: usize,
    /// The node it follows: 0 for the root, or an earlier node, also one appended in the same call.
    pub parent: usize,
    /// The token.
    pub token: Token,
    /// Whether the scores after it are wanted.
    pub scored: bool,
}
