//! One drafted chain with the probabilities that its tokens were drawn by: what vLLM's rejection sampler is handed.

use super::{EngineError, PairSampling, Shape, follow, round};
use crate::path::{Coins, PathVerifier, Verifier};
use crate::pmf::{Sampling, Token};

/// How far the probabilities of a row may be from adding up to 1: what rounding to f32 explains at any vocabulary.
pub const PROBABILITY_TOLERANCE: f64 = 1e-4;

/// How far a chain was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chained {
    /// The number of drafted tokens that are output.
    pub accepted: usize,
    /// The token after them; `None` if all were kept, as the caller has one then, drawn from the target: the bonus token.
    pub next: Option<Token>,
}

/// Verifies a drafted chain: `draft(t)` are the probabilities that token `t` was drawn by, after temperature and filters,
/// `target(t)` the target's logits before it, to which `sampling` is applied.
///
/// Without `draft` the tokens were not drawn at random, and they are [followed](follow); so they are where the target is
/// greedy, whatever they were drawn from. `O(V)` a token.
///
/// # Errors
/// A row of probabilities is no law; the verifier or a draft is refused; a row of logits is refused, alone or under the
/// sampling.
///
/// # Examples
/// ```
/// use draftpick::engine::chain;
/// use draftpick::path::RoundCoins;
/// use draftpick::Sampling;
///
/// // Greedy: the drafts 1 and 2 are kept while they are what the target finds most probable.
/// let target = [[0.0f32, 9.0, 0.0], [0.0, 0.0, 9.0]];
/// let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
/// let coins = RoundCoins { seed: 1, start: 0 };
/// let kept = chain(&[1, 2], None, |t| &target[t], &greedy, "block".parse()?, &coins)?;
/// assert_eq!((kept.accepted, kept.next), (2, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn chain<'a>(
    tokens: &[Token],
    draft: Option<&dyn Fn(usize) -> &'a [f32]>,
    target: impl Fn(usize) -> &'a [f32],
    sampling: &Sampling,
    verifier: Verifier,
    coins: &dyn Coins,
) -> Result<Chained, EngineError> {
    let length = tokens.len();
    let target = |depth: usize| (depth < length).then(|| target(depth));
    match draft {
        Some(draft) if sampling.temperature != 0.0 && length > 0 => {
            let rows = (0..length).map(|depth| logarithms(draft(depth), depth)).collect::<Result<Vec<_>, _>>()?;
            // What the drafts were drawn with is in their probabilities.
            let sampling = PairSampling { draft: Sampling::default(), target: *sampling };
            let round = round(&[tokens], |_, depth| &rows[depth], |_, depth| target(depth), &sampling)?;
            let outcome = verifier.verify(&round, coins)?;
            Ok(Chained { accepted: outcome.accepted(&round), next: outcome.next })
        }
        _ => {
            let parents: Vec<i64> = (-1..length as i64).collect();
            let nodes: Vec<Token> = [&[0], tokens].concat();
            let followed = follow(&Shape::new(&parents)?, &nodes, target, sampling, coins)?;
            Ok(Chained { accepted: followed.nodes.len(), next: followed.next })
        }
    }
}

/// A row of probabilities as logits.
fn logarithms(probabilities: &[f32], depth: usize) -> Result<Vec<f32>, EngineError> {
    if let Some(token) = probabilities.iter().position(|p| !(*p >= 0.0 && p.is_finite())) {
        return Err(EngineError::Probability { depth, token: token as Token, value: probabilities[token] });
    }
    let sum: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
    if !((sum - 1.0).abs() <= PROBABILITY_TOLERANCE) {
        return Err(EngineError::ProbabilitySum { depth, sum });
    }
    Ok(probabilities.iter().map(|p| p.ln()).collect())
}
