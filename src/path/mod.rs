//! Verifying whole draft paths: `K` drafts of up to `L` tokens against the target's scores along them.
//!
//! The drafts are independent paths of the draft model; where they agree they share nodes of a [`DraftTree`]. A
//! verifier picks a node of the tree, whose tokens are output, and one token more, so that the output continues with
//! *exactly* the target's law:
//!
//! ```text
//! Σ_trees P(tree)·law(tree)(y₁…yₜ) = q(y₁)·q(y₂|y₁)···q(yₜ|y₁…yₜ₋₁)
//! ```
//!
//! once every output shorter than `t` is continued with the target's own law. There are five:
//!
//! | name | type | source |
//! |---|---|---|
//! | `token:<rule>` | [`TokenRecursion`] | Sun et al. 2023 (SpecTr, arXiv 2310.15141): one rule of this crate a level |
//! | `block` | [`Block`] | Sun et al. 2024 (arXiv 2403.10444), one path |
//! | `traversal` | [`Traversal`] | Weng et al. 2025 (arXiv 2505.12398) |
//! | `path` | [`PathCoupling`] | nested order-statistic layouts, derived for this crate |
//! | `spread` | [`SpreadCoupling`] | the same with the labels of a token spread out, derived for this crate |

mod block;
mod chain;
mod coins;
mod coupling;
mod edged;
mod outcome;
mod recursion;
mod row;
mod spread;
mod traversal;
mod tree;
mod verifier;

use std::fmt;

pub use block::Block;
pub use chain::{Chain, ChainError};
pub use coins::{Coins, Purpose, RoundCoins};
pub use coupling::{DEFAULT_LOSS, MAX_LAW_LENGTH, PathCoupling};
pub use outcome::{Outcome, OutcomeLaw, Stop};
pub use recursion::TokenRecursion;
pub use row::{LogitRow, Row};
pub use spread::{Explanation, SpreadCoupling, Toss};
pub use traversal::Traversal;
pub use tree::{DraftTree, MAX_LENGTH, ROOT, Round};
pub use verifier::{UnknownVerifier, Verifier};

use crate::coupling::MAX_TUPLES;
use crate::pmf::Token;
use crate::problem::MAX_DRAFTS;
use crate::scan::ScanError;
use crate::selector::SelectError;

/// A rule that decides how far the drafts of a round are followed, and with what token the text goes on.
///
/// The contract: the drafts being independent paths from the laws that the round holds, the output (the tokens down to
/// the node, then the next one) continued with the target's law has the target's law; and for independent uniform coins
/// [`verify`](PathVerifier::verify) gives an outcome with the law that [`law`](PathVerifier::law) names.
pub trait PathVerifier<R: Row> {
    /// The exact law of the outcome given the drafts: the specification, which tests enumerate, and from which the
    /// expected accepted length of recorded drafts is computed.
    ///
    /// # Errors
    /// The verifier does not take this number or kind of drafts, or a row of scores is refused.
    fn law(&self, round: &Round<R>) -> Result<OutcomeLaw, PathError>;

    /// Verifies the round: the fast path.
    ///
    /// # Errors
    /// As [`law`](PathVerifier::law).
    fn verify(&self, round: &Round<R>, coins: &dyn Coins) -> Result<Outcome, PathError>;
}

/// Why drafts were refused or could not be verified.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PathError {
    /// The number of paths is out of range.
    Paths {
        /// The offending number.
        paths: usize,
    },
    /// A path would be longer than [`MAX_LENGTH`] tokens.
    Length {
        /// The offending length.
        length: usize,
    },
    /// Tokens were to be drafted at a node that is no open leaf.
    NoLeaf {
        /// The node.
        node: usize,
    },
    /// A path ends at a node from which another one goes on.
    Uneven {
        /// The path that ends.
        path: usize,
        /// Its length.
        length: usize,
    },
    /// A token is outside the vocabulary.
    OutOfVocabulary {
        /// The path.
        path: usize,
        /// Which of its tokens.
        depth: usize,
        /// The token.
        token: Token,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// A token has probability 0 under its own draft law: it was drawn from another one.
    NotDrawn {
        /// The path.
        path: usize,
        /// Which of its tokens.
        depth: usize,
        /// The token.
        token: Token,
    },
    /// Two laws of a round are over vocabularies of different size.
    Vocabulary {
        /// The node.
        node: usize,
        /// The size of the one.
        draft: usize,
        /// The size of the other.
        other: usize,
    },
    /// The verifier takes one path only.
    OnePath {
        /// Its name.
        verifier: &'static str,
        /// The number of paths.
        paths: usize,
    },
    /// The rule needs drafts drawn without replacement, and a round's are independent.
    Drawn {
        /// The rule's name.
        rule: &'static str,
    },
    /// The exact law would have to enumerate too many virtual paths.
    LawLength {
        /// The length of the longest path.
        length: usize,
        /// The longest one allowed.
        most: usize,
    },
    /// The expected length would have to enumerate too many draft tuples.
    Tuples {
        /// The size of the vocabulary.
        vocab: usize,
        /// The number of drafts.
        drafts: usize,
    },
    /// A token rule refused the drafts at a node.
    Select {
        /// The node.
        node: usize,
        /// Why.
        error: SelectError,
    },
    /// The scores at a node are no laws.
    Scores {
        /// The node.
        node: usize,
        /// Why.
        error: ScanError,
    },
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathError::Paths { paths } => write!(f, "{paths} paths; there must be 1 to {MAX_DRAFTS}"),
            PathError::Length { length } => write!(f, "a path of {length} tokens; {MAX_LENGTH} is the most"),
            PathError::NoLeaf { node } => write!(f, "node {node} is not a leaf at which paths are still open"),
            PathError::Uneven { path, length } => write!(
                f,
                "path {path} ends after {length} tokens where another one goes on: whether a path ends may depend only \
                 on its tokens"
            ),
            PathError::OutOfVocabulary { path, depth, token, vocab } => {
                write!(f, "token {depth} of path {path} is {token}, outside the vocabulary of {vocab}")
            }
            PathError::NotDrawn { path, depth, token } => write!(
                f,
                "token {depth} of path {path} is {token}, which has probability 0 under its draft law: \
                 was it drawn after another temperature or filter?"
            ),
            PathError::Vocabulary { node, draft, other } => {
                write!(f, "at node {node} a law is over {draft} tokens, another of the round over {other}")
            }
            PathError::OnePath { verifier, paths } => {
                write!(f, "{verifier} takes one path, not {paths}; traversal and path are its forms for several")
            }
            PathError::Drawn { rule } => {
                write!(f, "{rule} needs drafts drawn without replacement; the paths of a round are independent")
            }
            PathError::LawLength { length, most } => write!(
                f,
                "the exact law of the path coupling enumerates 2^L virtual paths of each draft: {length} tokens are \
                 more than the {most} allowed"
            ),
            PathError::Tuples { vocab, drafts } => {
                write!(f, "{drafts} drafts of {vocab} tokens make more than {MAX_TUPLES} tuples to enumerate")
            }
            PathError::Select { node, error } => write!(f, "at node {node}: {error}"),
            PathError::Scores { node, error } => write!(f, "at node {node}: {error}"),
        }
    }
}

impl std::error::Error for PathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PathError::Select { error, .. } => Some(error),
            PathError::Scores { error, .. } => Some(error),
            _ => None,
        }
    }
}
