//! The layout of the optimal coupling, token by token.

use super::style::COLOURS;
use crate::optimal::Optimal;
use crate::pmf::Token;
use crate::problem::Problem;

/// The largest vocabulary whose layout is drawn: a picture whose parts can be told apart.
pub const MAX_REGIONS: usize = COLOURS.len();

/// A token, the labels it owns, and what that makes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// What it is called in a picture.
    pub name: String,
    /// `p`, the probability of being drafted.
    pub draft: f64,
    /// `m`, that of being selected among the drafts.
    pub selected: f64,
    /// `q`, that of being put out.
    pub target: f64,
    /// The intervals of `[0, 1]` that its labels lie in; none if it is never drafted.
    pub segments: Vec<(f64, f64)>,
    /// The first token of the same ratio `p/q`: they share one region.
    pub shares_with: Option<Token>,
}

/// The regions of all tokens, in their order, named by number.
pub fn regions(problem: &Problem) -> Vec<Region> {
    let optimal = Optimal::new(problem.clone());
    let (p, q) = (problem.draft().as_slice(), problem.target().as_slice());
    let k = problem.k() as i32;
    let region = |token: usize| {
        let segments = optimal.region(token as Token);
        let length: f64 = segments.iter().map(|s| s.len).sum();
        let mass: f64 = segments.iter().map(|s| s.hi().powi(k) - s.lo.powi(k)).sum();
        let first = (0..token as Token).find(|&other| std::ptr::eq(optimal.region(other), segments));
        Region {
            name: token.to_string(),
            draft: p[token],
            selected: if length > 0.0 { p[token] * (mass / length) } else { 0.0 },
            target: q[token],
            segments: segments.iter().map(|s| (s.lo, s.hi())).collect(),
            shares_with: first.filter(|_| !segments.is_empty()),
        }
    };
    (0..p.len()).map(region).collect()
}
