//! Rounds of a batch: chains end to end as vLLM holds them, and trees of parents.

use draftpick::Token;
use draftpick::engine::{Chained, Followed, PairSampling, Shape, chain, follow, verify};
use draftpick::path::{Coins, Verifier};

use crate::error::Failure;
use crate::sampling::{DraftpickSampling, sampling};

/// What takes the place of a token where there is none.
pub const PLACEHOLDER: i32 = -1;

/// A verifier by its name.
pub fn verifier(name: &str) -> Result<Verifier, Failure> {
    name.parse().map_err(Failure::argument)
}

/// A token from what C has.
pub fn token(value: i32, place: impl FnOnce() -> String) -> Result<Token, Failure> {
    Token::try_from(value).map_err(|_| Failure::input(format!("{} is {value}; a token is at least 0", place())))
}

/// All tokens of an array.
pub fn tokens(name: &str, values: &[i32]) -> Result<Vec<Token>, Failure> {
    values.iter().enumerate().map(|(i, &value)| token(value, || format!("{name}[{i}]"))).collect()
}

/// A matrix of rows.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The rows and what lies between them.
    pub values: &'a [f32],
    /// The length of a row.
    pub vocab: usize,
    /// From the start of a row to the start of the next.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// A row.
    pub fn row(&self, at: usize) -> &'a [f32] {
        &self.values[at * self.stride..][..self.vocab]
    }
}

/// A ragged batch: request `i` has the drafts from `starts[i]` up to and without `starts[i + 1]`.
pub struct Chains<'a> {
    pub tokens: Vec<Token>,
    pub starts: Vec<usize>,
    pub draft: Option<Rows<'a>>,
    pub target: Rows<'a>,
    pub bonus: Vec<Token>,
    pub sampling: Option<&'a [DraftpickSampling]>,
}

/// The first draft of each request, and the end of the last, from the cumulative counts; `most` drafts a request.
pub fn starts(cumulative: &[i32], most: usize) -> Result<Vec<usize>, Failure> {
    let mut starts = vec![0];
    for (request, &end) in cumulative.iter().enumerate() {
        let start = starts[request];
        match usize::try_from(end) {
            Ok(end) if end >= start && end - start <= most => starts.push(end),
            _ => {
                return Err(Failure::input(format!(
                    "cu_num_draft_tokens[{request}] is {end}; it must be from {start} to {}, as a request has {most} drafts \
                     at most",
                    start.saturating_add(most)
                )));
            }
        }
    }
    Ok(starts)
}

impl Chains<'_> {
    /// The output of a request: kept drafts and one token more.
    pub fn verify(&self, request: usize, verifier: Verifier, coins: &dyn Coins) -> Result<Vec<Token>, Failure> {
        let start = self.starts[request];
        let tokens = &self.tokens[start..self.starts[request + 1]];
        let draft = self.draft.map(|rows| move |depth: usize| rows.row(start + depth));
        let draft = draft.as_ref().map(|draft| draft as &dyn Fn(usize) -> _);
        let target = |depth: usize| self.target.row(start + depth);
        let sampling = sampling(self.sampling, request);
        let Chained { accepted, next } = chain(tokens, draft, target, &sampling, verifier, coins)?;
        Ok([&tokens[..accepted], &[next.unwrap_or(self.bonus[request])]].concat())
    }
}

/// A tree, its pointers made slices.
pub struct Tree<'a> {
    /// The token of each node; that of the root is not looked at.
    pub tokens: &'a [i32],
    /// The node before each node, −1 for the root.
    pub parents: &'a [i32],
    /// The draft model's logits after each node, if there are any; `None` for drafts that were not drawn at random.
    pub draft: Option<Vec<Option<&'a [f32]>>>,
    /// The target model's logits after each node, if there are any.
    pub target: Vec<Option<&'a [f32]>>,
    /// How they become laws.
    pub sampling: PairSampling,
}

/// What came out of a tree.
pub struct Decided {
    /// The tokens output.
    pub tokens: Vec<Token>,
    /// The node at which the output leaves the tree.
    pub node: usize,
}

impl Tree<'_> {
    /// Verifies the tree.
    pub fn verify(&self, verifier: Verifier, coins: &dyn Coins) -> Result<Decided, Failure> {
        let parents: Vec<i64> = self.parents.iter().map(|&parent| parent.into()).collect();
        let shape = Shape::new(&parents)?;
        // The root's token is the last of the text; some engines hold none there.
        let token = |(node, &value): (usize, &i32)| match node {
            0 => Ok(0),
            _ => token(value, || format!("tokens[{node}]")),
        };
        let tokens = self.tokens.iter().enumerate().map(token).collect::<Result<Vec<_>, _>>()?;
        let target = |node: usize| self.target[node];
        let Followed { nodes, next } = match &self.draft {
            Some(draft) => {
                let inner = self.parents.iter().skip(1).filter_map(|&parent| usize::try_from(parent).ok());
                if let Some(node) = inner.into_iter().find(|&node| draft[node].is_none()) {
                    return Err(Failure::input(format!("draft_logits[{node}] is NULL, and node {node} has children")));
                }
                let draft = |node: usize| draft[node].unwrap_or_default();
                verify(&shape, &tokens, draft, target, &self.sampling, verifier, coins)?
            }
            None => follow(&shape, &tokens, target, &self.sampling.target, coins)?,
        };
        let output = nodes.iter().map(|&node| tokens[node]).chain(next).collect();
        Ok(Decided { tokens: output, node: nodes.last().copied().unwrap_or(0) })
    }
}
