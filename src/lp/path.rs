//! The linear program over whole paths: the most drafted tokens that any lossless verifier keeps.
//!
//! For every tuple of drafts, choose a node of its tree:
//!
//! ```text
//! maximise    Σ_D Σ_v depth(v)·x(D, v)
//! subject to  Σ_v x(D, v) = P(D)                      for every tuple D, v over the nodes of its tree
//!             A(v·y) ≤ A(v)·q(y | v)                  for every prefix v·y, A(v) = Σ_D Σ_{w below or at v} x(D, w)
//! ```
//!
//! `A(v)` is the probability that `v` is output from the drafts. The text after `v` is the target's whatever the drafts
//! were, hence the second line; and whatever satisfies it can be completed to a lossless verifier by drawing the next
//! token from what is missing.

use std::collections::{BTreeMap, BTreeSet};

use super::simplex::{Program, maximise};
use super::{LpError, Side, Solver};
use crate::path::Chain;
use crate::pmf::Token;

/// The most variables: a simplex solver takes minutes for a few times as many.
pub const MAX_PATH_VARIABLES: usize = 20_000;

/// Why the program over paths was not solved.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PathLpError {
    /// The program has more than [`MAX_PATH_VARIABLES`] variables.
    #[error(
        "{paths} paths and {drafts} drafts make a program of more than {MAX_PATH_VARIABLES} variables: take fewer drafts, \
         shorter paths or fewer tokens"
    )]
    TooLarge {
        /// The number of different paths.
        paths: usize,
        /// The number of drafts.
        drafts: usize,
    },
    /// The solver failed.
    #[error(transparent)]
    Solver(#[from] LpError),
}

/// The largest expected number of drafted tokens that a lossless verifier keeps, of `drafts` independent paths of the
/// whole length of the chain. Solved by good_lp.
///
/// Tuples that differ only in order are one. The number of variables grows as `V^(L·K)`.
///
/// # Errors
/// More than [`MAX_PATH_VARIABLES`] variables, or the solver fails.
pub fn path_optimum(chain: &Chain, drafts: usize) -> Result<f64, PathLpError> {
    let paths = chain.sequences(chain.length());
    let too_large = PathLpError::TooLarge { paths: paths.len(), drafts };
    let probabilities: Vec<f64> = paths.iter().map(|path| chain.draft_probability(path)).collect();
    let mut tuples: BTreeMap<Vec<usize>, f64> = BTreeMap::from([(Vec::new(), 1.0)]);
    for _ in 0..drafts {
        let mut longer = BTreeMap::new();
        for (tuple, probability) in &tuples {
            for (i, path) in probabilities.iter().enumerate().filter(|(_, path)| **path > 0.0) {
                let mut tuple = tuple.clone();
                tuple.insert(tuple.partition_point(|&j| j < i), i);
                *longer.entry(tuple).or_insert(0.0) += probability * path;
            }
            if longer.len() > MAX_PATH_VARIABLES {
                return Err(too_large);
            }
        }
        tuples = longer;
    }
    // The nodes of each tuple's tree, as prefixes.
    let trees: Vec<(f64, BTreeSet<&[Token]>)> = tuples
        .iter()
        .map(|(tuple, &probability)| {
            let nodes = tuple.iter().flat_map(|&i| (1..=chain.length()).map(move |t| (i, t)));
            (probability, nodes.map(|(i, t)| &paths[i][..t]).collect())
        })
        .collect();
    if trees.iter().map(|(_, nodes)| nodes.len()).sum::<usize>() > MAX_PATH_VARIABLES {
        return Err(too_large);
    }
    // One variable a node but the root, which takes the rest: its share of the tuple's probability. In shares, since a
    // simplex solver's tolerances are absolute.
    let mut gain = Vec::new();
    let mut constraints = Vec::new();
    let mut kept: BTreeMap<&[Token], Vec<(usize, f64)>> = BTreeMap::new();
    for (probability, nodes) in &trees {
        let first = gain.len();
        for node in nodes {
            for t in 1..=node.len() {
                kept.entry(&node[..t]).or_default().push((gain.len(), *probability));
            }
            gain.push(probability * node.len() as f64);
        }
        constraints.push(((first..gain.len()).map(|x| (x, 1.0)).collect(), 1.0));
    }
    for (node, terms) in &kept {
        let Some((&token, parent)) = node.split_last() else {
            continue;
        };
        let q = chain.target(parent).as_slice()[token as usize];
        let mut terms: BTreeMap<usize, f64> = terms.iter().copied().collect();
        // A(root) = 1 is the bound itself.
        for &(x, probability) in kept.get(parent).into_iter().flatten() {
            *terms.entry(x).or_default() -= q * probability;
        }
        constraints.push((terms.into_iter().collect(), if parent.is_empty() { q } else { 0.0 }));
    }
    let x = maximise(&Program { gain: gain.clone(), constraints }, Solver::GoodLp, Side::Primal)?;
    Ok(x.iter().zip(&gain).map(|(x, gain)| x * gain).sum())
}
