//! What can be wrong with what an engine hands over.

use std::fmt;

use crate::path::PathError;
use crate::pmf::{PmfError, Token};
use crate::scan::ScanError;
use crate::selector::SelectError;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EngineError {
    /// The rule does not take this number of drafts.
    Drafts {
        /// The rule's name.
        rule: &'static str,
        /// The number of drafts.
        drafts: usize,
    },
    /// A row of logits, or the sampling parameters for it, were refused.
    Sampling {
        /// `"draft"` or `"target"`.
        row: &'static str,
        /// The path that the row belongs to; 0 where there is one only.
        path: usize,
        /// The number of drafted tokens before it.
        depth: usize,
        /// Why.
        error: PmfError,
    },
    /// The logits are no law, or not over one vocabulary.
    Scores {
        /// The path that the row belongs to; 0 where there is one only.
        path: usize,
        /// The number of drafted tokens before it.
        depth: usize,
        /// Why.
        error: ScanError,
    },
    /// The target's logits are missing inside a path.
    NoTarget {
        /// The path.
        path: usize,
        /// The number of drafted tokens before the row.
        depth: usize,
    },
    /// A node's parent is not an earlier node, or the root has one.
    Parent {
        /// The node.
        node: usize,
        /// What was given as its parent.
        parent: i64,
    },
    /// The tree has no root.
    NoRoot,
    /// The number of tokens is not that of the nodes.
    Tokens {
        /// The number of nodes, the root included.
        nodes: usize,
        /// The number of tokens.
        tokens: usize,
    },
    /// A draft probability is negative or not finite.
    Probability {
        /// The number of drafted tokens before the row.
        depth: usize,
        /// The token whose probability it is.
        token: Token,
        /// The probability.
        value: f32,
    },
    /// The draft probabilities of a row do not add up to 1.
    ProbabilitySum {
        /// The number of drafted tokens before the row.
        depth: usize,
        /// Their sum.
        sum: f64,
    },
    /// The drafts were refused.
    Select(SelectError),
    /// The paths were refused, or could not be verified.
    Path(PathError),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Where a row is; nothing for the first, which may be the only one.
        fn at(path: usize, depth: usize) -> String {
            if (path, depth) == (0, 0) { String::new() } else { format!(" (path {path}, after {depth} tokens)") }
        }
        match self {
            EngineError::Drafts { rule, drafts } => write!(f, "{rule} takes one draft, not {drafts}"),
            EngineError::Sampling { row, path, depth, error } => write!(f, "{row} row{}: {error}", at(*path, *depth)),
            EngineError::Scores { path, depth, error } => write!(f, "{error}{}", at(*path, *depth)),
            EngineError::NoTarget { path, depth } => {
                write!(f, "no target logits after {depth} tokens of path {path}, where the path goes on")
            }
            EngineError::Parent { node: 0, parent } => {
                write!(f, "node 0 is the root: its parent must be -1, not {parent}")
            }
            EngineError::Parent { node, parent } => {
                write!(f, "the parent of node {node} is {parent}; it must be an earlier node")
            }
            EngineError::NoRoot => write!(f, "a tree needs at least its root"),
            EngineError::Tokens { nodes, tokens } => {
                write!(f, "{tokens} tokens for a tree of {nodes} nodes; the root has one too, which is not looked at")
            }
            EngineError::Probability { depth, token, value } => {
                write!(f, "the draft probability of token {token} is {value} (draft token {depth} of the request)")
            }
            EngineError::ProbabilitySum { depth, sum } => {
                write!(f, "the draft probabilities add up to {sum}, not 1 (draft token {depth} of the request)")
            }
            EngineError::Select(error) => error.fmt(f),
            EngineError::Path(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            EngineError::Sampling { error, .. } => Some(error),
            EngineError::Scores { error, .. } => Some(error),
            EngineError::Select(error) => Some(error),
            EngineError::Path(error) => Some(error),
            _ => None,
        }
    }
}
