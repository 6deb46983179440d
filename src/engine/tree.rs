//! Draft trees as engines hold them: a token and a parent for each node.

use super::{EngineError, PairSampling, round, row};
use crate::path::{Coins, PathVerifier, Purpose, Row, Verifier};
use crate::pmf::{Sampling, Token};

/// The shape of a draft tree: node 0 is the root, where the text ends so far, and every other node comes after its parent.
///
/// Each leaf is the end of one path. Siblings may have the same token: paths that happened to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    children: Vec<Vec<usize>>,
    paths: Vec<Vec<usize>>,
}

impl Shape {
    /// Reads the parents, −1 for the root. `O(nodes·depth)`.
    ///
    /// # Errors
    /// There is no root, or a parent is no earlier node.
    pub fn new(parents: &[i64]) -> Result<Self, EngineError> {
        let mut children = vec![Vec::new(); parents.len()];
        for (node, &parent) in parents.iter().enumerate() {
            match usize::try_from(parent) {
                Ok(earlier) if earlier < node => children[earlier].push(node),
                Err(_) if node == 0 && parent == -1 => {}
                _ => return Err(EngineError::Parent { node, parent }),
            }
        }
        if children.is_empty() {
            return Err(EngineError::NoRoot);
        }
        let way = |leaf: usize| {
            let mut nodes = vec![leaf];
            while let Ok(parent) = usize::try_from(parents[nodes[nodes.len() - 1]]) {
                nodes.push(parent);
            }
            nodes.reverse();
            nodes
        };
        let leaves = (0..children.len()).filter(|&node| children[node].is_empty());
        let paths = leaves.map(way).collect();
        Ok(Shape { children, paths })
    }

    /// The number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether nothing was drafted: there is the root alone.
    pub fn is_empty(&self) -> bool {
        self.len() == 1
    }

    /// The nodes of each path, from the root to a leaf, in the order of the leaves.
    pub fn paths(&self) -> &[Vec<usize>] {
        &self.paths
    }

    /// The tokens of each path.
    ///
    /// # Errors
    /// The number of tokens is not that of the nodes.
    pub fn path_tokens(&self, tokens: &[Token]) -> Result<Vec<Vec<Token>>, EngineError> {
        self.check(tokens)?;
        Ok(self.paths.iter().map(|path| path[1..].iter().map(|&node| tokens[node]).collect()).collect())
    }

    fn check(&self, tokens: &[Token]) -> Result<(), EngineError> {
        match tokens.len() == self.len() {
            true => Ok(()),
            false => Err(EngineError::Tokens { nodes: self.len(), tokens: tokens.len() }),
        }
    }
}

/// How far a tree was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The nodes whose tokens are output, in order; the root is not among them.
    pub nodes: Vec<usize>,
    /// The token after them; `None` where the target has no row.
    pub next: Option<Token>,
}

/// Verifies a tree whose leaves are the ends of independent paths: `draft(i)` are the logits that the children of node `i`
/// were drawn from, asked of inner nodes only, `target(i)` the target's after the node.
///
/// Where `target` has no row after a leaf it ends there without a next token.
///
/// # Errors
/// As [`round`]; the verifier does not take the paths.
pub fn verify<'a>(
    shape: &Shape,
    tokens: &[Token],
    draft: impl Fn(usize) -> &'a [f32],
    target: impl Fn(usize) -> Option<&'a [f32]>,
    sampling: &PairSampling,
    verifier: Verifier,
    coins: &dyn Coins,
) -> Result<Followed, EngineError> {
    let paths = shape.path_tokens(tokens)?;
    let paths: Vec<&[Token]> = paths.iter().map(Vec::as_slice).collect();
    let node = |path: usize, depth: usize| shape.paths[path][depth];
    let round =
        round(&paths, |path, depth| draft(node(path, depth)), |path, depth| target(node(path, depth)), sampling)?;
    let outcome = verifier.verify(&round, coins)?;
    let path = round.tree().paths_through(outcome.node)[0];
    let nodes = shape.paths[path][1..=outcome.accepted(&round)].to_vec();
    Ok(Followed { nodes, next: outcome.next })
}

/// Verifies drafts that were not drawn at random: n-grams, the `k` most probable tokens, anything that is the same
/// whenever the text is the same.
///
/// The target's own next token is drawn at each node, by the coin ([`Purpose::Residual`], depth, 0); where a child has it
/// the way goes on from there. That is lossless whatever the tree, and no rule keeps more of such drafts: an output token
/// has the target's law, and it is among the children with their target mass. Reads only the rows that it passes.
/// Where `target` has no row it ends without a next token: the caller has one, drawn from the target by other means. `O(V)`
/// a token.
///
/// # Errors
/// The number of tokens is not that of the nodes; a row that is passed is refused, alone or under the sampling.
pub fn follow<'a>(
    shape: &Shape,
    tokens: &[Token],
    target: impl Fn(usize) -> Option<&'a [f32]>,
    sampling: &Sampling,
    coins: &dyn Coins,
) -> Result<Followed, EngineError> {
    shape.check(tokens)?;
    let (mut node, mut nodes) = (0, Vec::new());
    loop {
        let depth = nodes.len();
        let Some(logits) = target(node) else {
            return Ok(Followed { nodes, next: None });
        };
        let law = row("target", (0, depth), logits, sampling)?;
        let next = law.draw(coins.coin(Purpose::Residual, depth, 0));
        match shape.children[node].iter().copied().find(|&child| tokens[child] == next) {
            Some(child) => {
                nodes.push(child);
                node = child;
            }
            None => return Ok(Followed { nodes, next: Some(next) }),
        }
    }
}
