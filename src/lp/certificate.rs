//! The check of a solution. It shares no code with what finds one: it imports the problem and the solution only.

use std::fmt;

use thiserror::Error;

use super::{Rows, Solution};
use crate::pmf::Token;
use crate::problem::Problem;

/// A row or a column of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marginal {
    /// The row with this index.
    Row(usize),
    /// The column of this token.
    Column(usize),
}

impl fmt::Display for Marginal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Marginal::Row(row) => write!(f, "row {row}"),
            Marginal::Column(token) => write!(f, "column {token}"),
        }
    }
}

/// Which condition of optimality a solution breaks, where and by how much.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A part of the solution does not have the size that the others have.
    #[error("{part} has {len} entries; the rest of the solution needs {expected}")]
    Shape {
        /// The part.
        part: &'static str,
        /// Its length.
        len: usize,
        /// The length it must have; of the list of rows, at least.
        expected: usize,
    },
    /// A row is no set or tuple of draftable tokens, or not after the row before it.
    #[error("row {row} holds {drafts:?}: no {} in lexicographic order", rows_name(*rows))]
    Drafts {
        /// The row.
        row: usize,
        /// What it holds.
        drafts: Vec<Token>,
        /// What the rows are.
        rows: Rows,
    },
    /// A row's probability is not what the draft law gives it.
    #[error("row {row} has weight {weight}; the draft law gives it {expected}")]
    Weight {
        /// The row.
        row: usize,
        /// The solution's weight.
        weight: f64,
        /// The probability from the problem.
        expected: f64,
    },
    /// The rows do not add up to 1: some are missing.
    #[error("the rows have probability {total} together, not 1")]
    Total {
        /// The sum of the rows' probabilities.
        total: f64,
    },
    /// An entry of the plan is negative or NaN.
    #[error("the plan is {value} in row {row}, column {column}: a coupling is not negative")]
    Negative {
        /// The row.
        row: usize,
        /// The token.
        column: usize,
        /// The entry.
        value: f64,
    },
    /// A row or column of the plan does not add up to its probability.
    #[error("{marginal} of the plan adds up to {sum}, not {expected}")]
    Marginal {
        /// Which.
        marginal: Marginal,
        /// Its sum.
        sum: f64,
        /// The probability from the problem.
        expected: f64,
    },
    /// A price is negative or NaN.
    #[error("the dual of {marginal} is {value}: prices are not negative")]
    Price {
        /// Which.
        marginal: Marginal,
        /// The price.
        value: f64,
    },
    /// The prices of a row and of a token it holds add up to less than 1.
    #[error("the duals of row {row} and of column {column}, which it holds, add up to {sum}: less than 1")]
    Dual {
        /// The row.
        row: usize,
        /// The token.
        column: usize,
        /// The sum of the two prices.
        sum: f64,
    },
    /// The plan accepts more or less than the objective says.
    #[error("the plan accepts {value}, the objective says {objective}")]
    PlanValue {
        /// The accepted mass of the plan.
        value: f64,
        /// The solution's objective.
        objective: f64,
    },
    /// The dual's value is not the objective: the solution is not proved optimal.
    #[error("the dual has value {value}, the objective says {objective}: the gap leaves the optimum unproved")]
    Gap {
        /// The dual's value.
        value: f64,
        /// The solution's objective.
        objective: f64,
    },
}

fn rows_name(rows: Rows) -> &'static str {
    match rows {
        Rows::Sets => "set of tokens that can be drafted",
        Rows::Tuples => "tuple of tokens that can be drafted",
    }
}

impl Solution {
    /// Proves that the solution is optimal for `problem`, within `tolerance` in every condition: the plan is a
    /// coupling of the drafts with `q`, the dual is feasible, and both have the value of the objective.
    ///
    /// The rows' probabilities are derived anew. `O(rows · V)`, and `O(2^s)` for a set of `s` tokens.
    ///
    /// # Errors
    /// The first condition that fails. A NaN anywhere, `tolerance` included, fails.
    pub fn verify(&self, problem: &Problem, tolerance: f64) -> Result<(), CertificateError> {
        let q = problem.target().as_slice();
        let close = |a: f64, b: f64| (a - b).abs() <= tolerance;
        self.check_shapes(q.len())?;

        let mut weights = Vec::with_capacity(self.weights.len());
        for (row, drafts) in self.drafts.iter().enumerate() {
            let after = row == 0 || self.drafts[row - 1] < *drafts;
            if !(after && is_row(problem, drafts, self.rows)) {
                return Err(CertificateError::Drafts { row, drafts: drafts.clone(), rows: self.rows });
            }
            let (weight, expected) = (self.weights[row], probability(problem, drafts, self.rows));
            if !close(weight, expected) {
                return Err(CertificateError::Weight { row, weight, expected });
            }
            let sum = self.plan.row(row).sum();
            if !close(sum, expected) {
                return Err(CertificateError::Marginal { marginal: Marginal::Row(row), sum, expected });
            }
            weights.push(expected);
        }
        let total = weights.iter().sum();
        if !close(total, 1.0) {
            return Err(CertificateError::Total { total });
        }
        for (column, &expected) in q.iter().enumerate() {
            let sum = self.plan.column(column).sum();
            if !close(sum, expected) {
                return Err(CertificateError::Marginal { marginal: Marginal::Column(column), sum, expected });
            }
        }
        for ((row, column), &value) in self.plan.indexed_iter() {
            if !at_least(value, -tolerance) {
                return Err(CertificateError::Negative { row, column, value });
            }
        }
        self.check_prices(tolerance)?;

        let accepted = |row: usize| {
            let drafts = &self.drafts[row];
            // A tuple may hold a token twice; it is accepted once.
            let first = drafts.iter().enumerate().filter(|(i, token)| !drafts[..*i].contains(token));
            first.map(|(_, &token)| self.plan[[row, token as usize]]).sum::<f64>()
        };
        let value = (0..self.drafts.len()).map(accepted).sum();
        if !close(value, self.objective) {
            return Err(CertificateError::PlanValue { value, objective: self.objective });
        }
        let value = product(&weights, &self.dual.row) + product(q, &self.dual.column);
        if !close(value, self.objective) {
            return Err(CertificateError::Gap { value, objective: self.objective });
        }
        Ok(())
    }

    fn check_shapes(&self, vocab: usize) -> Result<(), CertificateError> {
        let rows = self.drafts.len();
        let largest = self.drafts.iter().map(|drafts| drafts.len()).max().unwrap_or(0);
        // All nonempty subsets of a set are rows too; this also bounds what deriving its probability costs.
        let subsets = 1usize.checked_shl(largest as u32).map_or(usize::MAX, |subsets| subsets - 1);
        if self.rows == Rows::Sets && rows < subsets {
            return Err(CertificateError::Shape { part: "the list of rows", len: rows, expected: subsets });
        }
        let lengths = [
            ("the list of weights", self.weights.len(), rows),
            ("a column of the plan", self.plan.nrows(), rows),
            ("a row of the plan", self.plan.ncols(), vocab),
            ("the dual of the rows", self.dual.row.len(), rows),
            ("the dual of the columns", self.dual.column.len(), vocab),
        ];
        match lengths.into_iter().find(|(_, len, expected)| len != expected) {
            Some((part, len, expected)) => Err(CertificateError::Shape { part, len, expected }),
            None => Ok(()),
        }
    }

    fn check_prices(&self, tolerance: f64) -> Result<(), CertificateError> {
        let rows = self.dual.row.iter().enumerate().map(|(i, &price)| (Marginal::Row(i), price));
        let columns = self.dual.column.iter().enumerate().map(|(i, &price)| (Marginal::Column(i), price));
        for (marginal, value) in rows.chain(columns) {
            if !at_least(value, -tolerance) {
                return Err(CertificateError::Price { marginal, value });
            }
        }
        for (row, drafts) in self.drafts.iter().enumerate() {
            for &token in drafts {
                let column = token as usize;
                let sum = self.dual.row[row] + self.dual.column[column];
                if !at_least(sum, 1.0 - tolerance) {
                    return Err(CertificateError::Dual { row, column, sum });
                }
            }
        }
        Ok(())
    }
}

/// False for a NaN, which `value < bound` would let pass.
fn at_least(value: f64, bound: f64) -> bool {
    value >= bound
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Whether `drafts` is a row of the program: 1 to `k` ascending tokens, or `k` in any order, all draftable.
fn is_row(problem: &Problem, drafts: &[Token], rows: Rows) -> bool {
    let shape = match rows {
        Rows::Sets => (1..=problem.k()).contains(&drafts.len()) && drafts.is_sorted_by(|a, b| a < b),
        Rows::Tuples => drafts.len() == problem.k(),
    };
    shape && drafts.iter().all(|&token| problem.draft().get(token).is_some_and(|p| p > 0.0))
}

/// The probability of a row, in the plainest way. For a set by inclusion–exclusion over its subsets `T`: `Σ ± p(T)^k`,
/// whose absolute error, all that is asked of it here, is below 2⁻⁵²·2^|set|.
fn probability(problem: &Problem, drafts: &[Token], rows: Rows) -> f64 {
    let p: Vec<f64> = drafts.iter().map(|&token| problem.draft().as_slice()[token as usize]).collect();
    match rows {
        Rows::Tuples => p.iter().product(),
        Rows::Sets => {
            let subset = |bits: u64| {
                let mass: f64 = (0..p.len()).filter(|i| bits >> i & 1 == 1).map(|i| p[i]).sum();
                let sign = if (p.len() - bits.count_ones() as usize).is_multiple_of(2) { 1.0 } else { -1.0 };
                sign * mass.powi(problem.k() as i32)
            };
            (0..1u64 << p.len()).map(subset).sum()
        }
    }
}
