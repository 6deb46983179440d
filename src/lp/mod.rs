//! The best coupling of `k` drafts with the target, as a linear program with a certificate.
//!
//! Optimal transport with membership cost, from SpecTr: Sun et al. 2023 (arXiv 2310.15141). The drafts are drawn
//! i.i.d. from `p`; only a token that is among them earns anything. A coupling pays by the *set* of the drafts, so
//! tuples with the same set are one row:
//!
//! ```text
//! maximise    Σ_S Σ_{y ∈ S} π(S, y)            the acceptance, P(Y ∈ {X₁ … X_k})
//! subject to  Σ_{y ∈ S} π(S, y) ≤ P(S)         P(S): the probability that the drafts have exactly the set S
//!             Σ_{S ∋ y} π(S, y) ≤ q(y)
//!             π ≥ 0
//!
//! its dual:
//! minimise    Σ_S P(S)·a(S) + Σ_y q(y)·b(y)
//! subject to  a(S) + b(y) ≥ 1 for y ∈ S,   a, b ≥ 0
//! ```
//!
//! What either side leaves over is rejected mass: it is coupled as a product, which completes the plan to one with
//! the exact marginals `P` and `q`. [`Solution::verify`] checks plan and dual against the problem with none of the
//! code that found them; equal values prove the optimum.
//!
//! For small problems only, to teach and to judge other code by: the number of variables grows like `V^k`. The value
//! itself has a closed form that takes `O(V log V)`.
//!
//! ```
//! use draftpick::lp::{Solver, solve};
//! use draftpick::{Pmf, Problem};
//!
//! let problem = Problem::new(Pmf::new([0.5, 0.3, 0.2])?, Pmf::new([0.2, 0.3, 0.5])?, 2)?;
//! let solution = solve(&problem, Solver::MaxFlow)?;
//! assert!((solution.objective - 0.86).abs() < 1e-12);
//! solution.verify(&problem, 1e-12)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod certificate;
mod flow;
mod path;
mod rows;
mod simplex;

use std::fmt;
use std::str::FromStr;

use ndarray::Array2;
use thiserror::Error;

pub use certificate::{CertificateError, Marginal};
pub use path::{MAX_PATH_VARIABLES, PathLpError, path_optimum};

use crate::pmf::Token;
use crate::problem::Problem;

/// The most variables that a simplex solver is given: those of 32 tokens and 3 drafts (15,904), where primal and dual
/// together take 3 to 4 s on one core. The time grows like the square of the number.
pub const MAX_SIMPLEX_VARIABLES: u128 = 16_000;

/// The most variables that the max-flow solver is given: those of 64 tokens and 3 drafts (129,088), which take 3 s on
/// one core. With as many variables in more rows (2 drafts) it takes up to three times as long.
pub const MAX_FLOW_VARIABLES: u128 = 1 << 17;

/// The most entries that a plan may have, rows times vocabulary: 2²⁴, 128 MiB of f64.
pub const MAX_PLAN_ENTRIES: u128 = 1 << 24;

/// What solves the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Solver {
    /// The simplex method of microlp, through good_lp. Its own tolerance is 1e-10.
    GoodLp,
    /// The simplex method of minilp, an independent second opinion. Feature `minilp`. Its own tolerance is 1e-8: on
    /// laws with entries near that, objective and plan are off by a few times as much.
    #[cfg(feature = "minilp")]
    Minilp,
    /// The maximum flow of petgraph (Dinic 1970) over integer capacities: exact to rounding on any laws, and the
    /// fastest.
    MaxFlow,
}

impl Solver {
    /// All solvers that this build has, in the order in which tables list them.
    pub const ALL: &[Solver] = &[
        Solver::GoodLp,
        #[cfg(feature = "minilp")]
        Solver::Minilp,
        Solver::MaxFlow,
    ];

    /// The name used on the command line and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Solver::GoodLp => "good_lp",
            #[cfg(feature = "minilp")]
            Solver::Minilp => "minilp",
            Solver::MaxFlow => "max-flow",
        }
    }

    /// The most variables it is given.
    pub fn limit(self) -> u128 {
        if self == Solver::MaxFlow { MAX_FLOW_VARIABLES } else { MAX_SIMPLEX_VARIABLES }
    }
}

impl fmt::Display for Solver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No solver of this build has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no solver is called '{name}'; there are {}", names())]
pub struct UnknownSolver {
    name: String,
}

fn names() -> String {
    Solver::ALL.iter().map(|solver| solver.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Solver {
    type Err = UnknownSolver;

    fn from_str(name: &str) -> Result<Self, UnknownSolver> {
        let found = Solver::ALL.iter().copied().find(|solver| solver.name() == name);
        found.ok_or_else(|| UnknownSolver { name: name.into() })
    }
}

/// What the rows of the program are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// The sets of tokens that `k` drafts can have: all nonempty sets of at most `k` tokens of the support of `p`.
    Sets,
    /// The draft tuples themselves, as the program is usually stated: the same value with far more rows.
    Tuples,
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Rows::Sets => "draft sets",
            Rows::Tuples => "draft tuples",
        })
    }
}

/// Which of the two programs a solver was at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The coupling.
    Primal,
    /// The prices.
    Dual,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::Primal => "primal",
            Side::Dual => "dual",
        })
    }
}

/// How a solver failed. Both programs have an optimum, so each of these is the solver's own rounding or a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It found no feasible point.
    Infeasible,
    /// It found no largest value.
    Unbounded,
    /// Anything else: it stopped early, or met an internal error.
    Stopped,
}

/// Why there is no solution.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum LpError {
    /// The program has more variables than the solver manages in a few seconds.
    #[error(
        "the program over {rows} has {} variables, {solver} takes at most {limit}: {}",
        count(*variables),
        advice(*solver, *variables)
    )]
    TooLarge {
        /// The solver asked for.
        solver: Solver,
        /// What the rows are.
        rows: Rows,
        /// The number of variables; `u128::MAX` if there are more.
        variables: u128,
        /// The solver's [`limit`](Solver::limit).
        limit: u128,
    },
    /// The plan would have more than [`MAX_PLAN_ENTRIES`] entries.
    #[error(
        "the plan over {rows} has {} entries, more than the {MAX_PLAN_ENTRIES} that are kept: \
         bound::alpha_star gives the optimum of any size",
        count(*entries)
    )]
    PlanTooLarge {
        /// What the rows are.
        rows: Rows,
        /// The number of entries, rows times vocabulary; `u128::MAX` if there are more.
        entries: u128,
    },
    /// The solver failed.
    #[error("{solver} failed on the {side} program: {message}")]
    Solver {
        /// The solver.
        solver: Solver,
        /// The program it was solving.
        side: Side,
        /// How it failed.
        failure: Failure,
        /// What it said.
        message: String,
    },
}

fn count(n: u128) -> String {
    if n == u128::MAX { "more than 10^38".into() } else { n.to_string() }
}

fn advice(solver: Solver, variables: u128) -> &'static str {
    if solver != Solver::MaxFlow && variables <= MAX_FLOW_VARIABLES {
        "the max-flow solver takes this size"
    } else {
        "bound::alpha_star gives the optimum of any size"
    }
}

/// A coupling, its value and the dual that bounds every other coupling's.
///
/// The fields are open because a solution is a claim, not a proof: [`verify`](Solution::verify) is what makes it one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Solution {
    /// The largest `P(Y ∈ {X₁ … X_k})`: α*, in `[0, 1]` within rounding.
    pub objective: f64,
    /// What the rows are.
    pub rows: Rows,
    /// The tokens of each row, in lexicographic order: of a set ascending, of a tuple in the order drawn.
    pub drafts: Vec<Vec<Token>>,
    /// The probability of each row; they add up to 1.
    pub weights: Vec<f64>,
    /// The coupling, rows × vocabulary: `plan[[i, y]]` is `P(row i, Y = y)`, rejected mass included. Its row sums are
    /// `weights`, its column sums `q`.
    pub plan: Array2<f64>,
    /// The dual solution.
    pub dual: Dual,
}

/// Prices that bound the acceptance of every coupling from above by `Σ P(S)·a(S) + Σ q(y)·b(y)`.
///
/// The max-flow solver's are 0 and 1, a cut: with `H` the tokens of price 1, `a(S) = 1` for the sets not inside `H`,
/// and the value is `q(H) + 1 − p(H)^k`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dual {
    /// `a`, for each row.
    pub row: Vec<f64>,
    /// `b`, for each token of the vocabulary.
    pub column: Vec<f64>,
}

/// Solves the program over draft sets.
///
/// Seconds at the [`limit`](Solver::limit) of the solver, which is checked before anything is built: a problem of any
/// size is answered or refused at once.
///
/// # Errors
/// [`LpError::TooLarge`] or [`LpError::PlanTooLarge`] if the program is too large; [`LpError::Solver`] if the solver
/// failed.
pub fn solve(problem: &Problem, solver: Solver) -> Result<Solution, LpError> {
    solve_over(problem, solver, Rows::Sets)
}

/// Solves the program over the rows of one's choice; both have the same value.
///
/// # Errors
/// As [`solve`].
pub fn solve_over(problem: &Problem, solver: Solver, rows: Rows) -> Result<Solution, LpError> {
    let variables = rows::variables(problem, rows);
    if variables > solver.limit() {
        return Err(LpError::TooLarge { solver, rows, variables, limit: solver.limit() });
    }
    let entries = rows::count(problem, rows).saturating_mul(problem.draft().vocab() as u128);
    if entries > MAX_PLAN_ENTRIES {
        return Err(LpError::PlanTooLarge { rows, entries });
    }

    let (drafts, weights) = rows::enumerate(problem, rows);
    let (transport, columns) = Transport::new(problem, &drafts, &weights);
    let optimum = match solver {
        Solver::MaxFlow => flow::solve(&transport),
        simplex => simplex::solve(&transport, simplex)?,
    };

    let q = problem.target().as_slice();
    let mut plan = Array2::zeros((drafts.len(), q.len()));
    for (&(row, column), &mass) in transport.edges.iter().zip(&optimum.shipped) {
        plan[[row, columns[column]]] += mass;
    }
    couple_rejected(&mut plan, &weights, q);
    // A token that the target never outputs has no column: its price is free, and 1 is always enough.
    let mut column: Vec<f64> = q.iter().map(|&q| if q > 0.0 { 0.0 } else { 1.0 }).collect();
    for (&token, &price) in columns.iter().zip(&optimum.demand_price) {
        column[token] = price;
    }
    let objective = optimum.shipped.iter().sum();
    Ok(Solution { objective, rows, drafts, weights, plan, dual: Dual { row: optimum.supply_price, column } })
}

/// The program as the solvers see it: ship as much as possible from supplies to demands along the edges.
struct Transport {
    supply: Vec<f64>,
    demand: Vec<f64>,
    /// Pairs (supply, demand): the variables.
    edges: Vec<(usize, usize)>,
}

/// What a solver makes of a [`Transport`].
struct Optimum {
    /// For each edge.
    shipped: Vec<f64>,
    supply_price: Vec<f64>,
    demand_price: Vec<f64>,
}

impl Transport {
    /// Also returns the token of each demand: those that can be drafted and output.
    fn new(problem: &Problem, drafts: &[Vec<Token>], weights: &[f64]) -> (Self, Vec<usize>) {
        let (p, q) = (problem.draft().as_slice(), problem.target().as_slice());
        let tokens: Vec<usize> = (0..q.len()).filter(|&y| p[y] > 0.0 && q[y] > 0.0).collect();
        let mut edges = Vec::new();
        for (row, drafts) in drafts.iter().enumerate() {
            for (i, token) in drafts.iter().enumerate() {
                // A tuple that repeats a token has one edge to it.
                if !drafts[..i].contains(token)
                    && let Ok(column) = tokens.binary_search(&(*token as usize))
                {
                    edges.push((row, column));
                }
            }
        }
        let demand = tokens.iter().map(|&y| q[y]).collect();
        (Transport { supply: weights.to_vec(), demand, edges }, tokens)
    }
}

/// Couples what the rows and the columns have left, row by row in proportion to what the columns have left.
///
/// In an optimal plan no row and column of one variable both have mass left, so nothing is accepted here.
fn couple_rejected(plan: &mut Array2<f64>, weights: &[f64], q: &[f64]) {
    // A solver's rounding can ship more than there is; that is no mass to couple.
    let left = |(has, sent): (&f64, f64)| (has - sent).max(0.0);
    let rows: Vec<f64> = weights.iter().zip(plan.rows().into_iter().map(|row| row.sum())).map(left).collect();
    let columns: Vec<f64> = q.iter().zip(plan.columns().into_iter().map(|column| column.sum())).map(left).collect();
    let total = columns.iter().sum::<f64>();
    if total > 0.0 {
        for (mut row, left) in plan.rows_mut().into_iter().zip(rows) {
            row.iter_mut().zip(&columns).for_each(|(mass, column)| *mass += left * (column / total));
        }
    }
}
