//! What an engine calls: rows of raw f32 logits, sampling parameters and coins in, tokens out.
//!
//! The rules of this crate take laws. An engine holds logits, as rows of tensors that it will use again, and a sampling
//! configuration for each request. The functions here read the rows in place, copy only those that a temperature or a
//! filter changes, and say in every error which row was wrong. They work on one request; a batch is a loop.
//!
//! | what was drafted | function |
//! |---|---|
//! | `k` tokens for one position | [`select`] |
//! | `K` independent paths, or one | [`round`], then any [`PathVerifier`](crate::path::PathVerifier) |
//! | the same as a tree of parents, one path for each leaf | [`Shape`], then [`verify`] |
//! | one chain, with the probabilities that it was drawn by | [`chain`] |
//! | tokens that were not drawn at random (n-grams, the best `k`) | [`Shape`], then [`follow`] |

mod chain;
mod error;
mod tree;

use std::borrow::Cow;

pub use chain::{Chained, PROBABILITY_TOLERANCE, chain};
pub use error::EngineError;
pub use tree::{Followed, Shape, follow, verify};

use crate::path::{DraftTree, LogitRow, PathError, ROOT, Round};
use crate::pmf::{Coin, PmfError, Sampling, Token};
use crate::rule::Rule;
use crate::scan::Scan;
use crate::selector::Selection;

/// A row of logits as the law it stands for: read in place, or filtered.
pub type EngineRow<'a> = LogitRow<Cow<'a, [f32]>>;

/// How the two models' logits become the laws of drafts and output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairSampling {
    /// What the drafts were drawn with.
    pub draft: Sampling,
    /// What the output is to be drawn with.
    pub target: Sampling,
}

impl From<Sampling> for PairSampling {
    /// The same for both models.
    fn from(sampling: Sampling) -> Self {
        PairSampling { draft: sampling, target: sampling }
    }
}

/// The logits under a sampling configuration. Copied only if that changes anything.
fn filtered<'a>(logits: &'a [f32], sampling: &Sampling) -> Result<Cow<'a, [f32]>, PmfError> {
    if *sampling == Sampling::default() { Ok(Cow::Borrowed(logits)) } else { sampling.apply(logits).map(Cow::Owned) }
}

/// One row of a round, at `depth` tokens along `path`.
fn row<'a>(
    name: &'static str,
    (path, depth): (usize, usize),
    logits: &'a [f32],
    sampling: &Sampling,
) -> Result<EngineRow<'a>, EngineError> {
    let logits = filtered(logits, sampling).map_err(|error| EngineError::Sampling { row: name, path, depth, error })?;
    LogitRow::of(name, logits).map_err(|error| EngineError::Scores { path, depth, error })
}

/// Prepares `rule` for one position and selects among its drafts: [`Scan`] and [`Selector::select`]
/// (`coins`: one a draft, then two). `O(V)`; `O(V log V)` with top-p, and with [`Rule::RecursiveDistinct`].
///
/// [`Selector::select`]: crate::Selector::select
///
/// # Errors
/// The rule does not take this number of drafts; the rows are refused, alone or under the sampling; the drafts or the
/// number of coins are refused.
///
/// # Examples
/// ```
/// use draftpick::engine::{PairSampling, select};
/// use draftpick::{Coin, Rule};
///
/// let (draft, target) = ([1.0f32, 0.5, -2.0], [0.5f32, 1.0, 0.0]);
/// let coins = [0.3, 0.8, 0.1, 0.6].map(|c| Coin::new(c).unwrap());
/// let selection = select(Rule::OptimalLinear, (&draft, &target), &PairSampling::default(), &[0, 1], &coins)?;
/// assert!(selection.token(&[0, 1]) < 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn select(
    rule: Rule,
    (draft, target): (&[f32], &[f32]),
    sampling: &PairSampling,
    drafts: &[Token],
    coins: &[Coin],
) -> Result<Selection, EngineError> {
    if !rule.takes(drafts.len()) {
        return Err(EngineError::Drafts { rule: rule.name(), drafts: drafts.len() });
    }
    let filter = |row, logits, sampling| {
        filtered(logits, sampling).map_err(|error| EngineError::Sampling { row, path: 0, depth: 0, error })
    };
    let (draft, target) = (filter("draft", draft, &sampling.draft)?, filter("target", target, &sampling.target)?);
    let scan =
        Scan::new(&draft, &target, drafts.len()).map_err(|error| EngineError::Scores { path: 0, depth: 0, error })?;
    rule.prepare_scan(&scan).select(drafts, coins).map_err(EngineError::Select)
}

/// The round that recorded paths make: `draft(i, t)` are the logits that token `t` of path `i` was drawn from,
/// `target(i, t)` the target's after the first `t` tokens of the path.
///
/// Where paths share a prefix the rows of the first of them are asked for only. Where `target` has no row after a whole
/// path the round ends there without a next token: the caller has one, drawn from the target by other means.
///
/// # Errors
/// The paths are none, too many, too long, or one ends where another goes on; a token is outside the vocabulary or has
/// probability 0 under its own law; a row is refused, alone or under the sampling; a target row is missing that is needed.
pub fn round<'a>(
    paths: &[&[Token]],
    draft: impl Fn(usize, usize) -> &'a [f32],
    target: impl Fn(usize, usize) -> Option<&'a [f32]>,
    sampling: &PairSampling,
) -> Result<Round<EngineRow<'a>>, EngineError> {
    let mut tree =
        DraftTree::recorded(paths, |path, depth| row("draft", (path, depth), draft(path, depth), &sampling.draft))?;
    let place = |tree: &DraftTree<_>, node: usize| (tree.paths_through(node)[0], tree.depth(node));
    for node in (0..tree.len()).filter(|&node| node != ROOT && tree.children(node).is_empty()).collect::<Vec<_>>() {
        let (path, depth) = place(&tree, node);
        if target(path, depth).is_none() {
            tree.end(node)?;
        }
    }
    let places: Vec<_> = (0..tree.len()).map(|node| place(&tree, node)).collect();
    tree.score(|node| {
        let (path, depth) = places[node];
        let logits = target(path, depth).ok_or(EngineError::NoTarget { path, depth })?;
        row("target", (path, depth), logits, &sampling.target)
    })
}

impl From<PathError> for EngineError {
    fn from(error: PathError) -> Self {
        EngineError::Path(error)
    }
}
