//! The rows of the program: how many there are, which, and their probabilities.

use super::Rows;
use crate::pmf::Token;
use crate::problem::{MAX_DRAFTS, Problem};

/// The number of rows; `u128::MAX` if there are more. `O(k)` beyond reading the laws.
pub(super) fn count(problem: &Problem, rows: Rows) -> u128 {
    let support = problem.draft().support() as u128;
    match rows {
        Rows::Sets => (1..=problem.k() as u128).fold(0, |sum: u128, size| sum.saturating_add(choose(support, size))),
        Rows::Tuples => support.saturating_pow(problem.k() as u32),
    }
}

/// The number of variables; `u128::MAX` if there are more. `O(k)` beyond reading the laws.
pub(super) fn variables(problem: &Problem, rows: Rows) -> u128 {
    let (p, q) = (problem.draft().as_slice(), problem.target().as_slice());
    let shared = p.iter().zip(q).filter(|&(&p, &q)| p > 0.0 && q > 0.0).count() as u128;
    let others = problem.draft().support() as u128 - 1;
    // The number of rows that hold one given token.
    let holding = match rows {
        Rows::Sets => (0..problem.k() as u128).fold(0, |sum: u128, size| sum.saturating_add(choose(others, size))),
        Rows::Tuples => match (others + 1).checked_pow(problem.k() as u32) {
            Some(tuples) => tuples - others.pow(problem.k() as u32),
            None => u128::MAX,
        },
    };
    shared.saturating_mul(holding)
}

/// `n` over `m`, or `u128::MAX` if an intermediate product is larger.
fn choose(n: u128, m: u128) -> u128 {
    if m > n {
        return 0;
    }
    let m = m.min(n - m);
    (0..m).try_fold(1u128, |product, i| Some(product.checked_mul(n - i)? / (i + 1))).unwrap_or(u128::MAX)
}

/// All rows in lexicographic order, and the probability of each.
///
/// `O(k²)` a set, `O(k)` a tuple. Only positive terms are added and multiplied, so that each probability has full
/// relative precision (inclusion–exclusion, the usual formula, cancels).
pub(super) fn enumerate(problem: &Problem, rows: Rows) -> (Vec<Vec<Token>>, Vec<f64>) {
    let p = problem.draft().as_slice();
    let support: Vec<Token> = (0..p.len()).filter(|&y| p[y] > 0.0).map(|y| y as Token).collect();
    let mut found = (Vec::new(), Vec::new());
    match rows {
        Rows::Sets => {
            let mut exact = vec![0.0; problem.k() + 1];
            exact[0] = 1.0;
            let mut sets = Sets { p, binomials: &binomials(), found: &mut found };
            sets.extend(&mut Vec::new(), &support, &exact);
        }
        Rows::Tuples => extend_tuple(&mut Vec::new(), 1.0, p, problem.k(), &support, &mut found),
    }
    found
}

struct Sets<'a> {
    p: &'a [f64],
    binomials: &'a [[f64; MAX_DRAFTS + 1]],
    found: &'a mut (Vec<Vec<Token>>, Vec<f64>),
}

impl Sets<'_> {
    /// Adds all sets that extend `set` by one or more of the tokens `later`.
    ///
    /// `exact[m]` is the probability that `m` draws have exactly the set `set`. With one more token `t`, drawn `c`
    /// times: `exact'[m] = Σ_{c=1..m} (m over c) p(t)^c exact[m − c]`.
    fn extend(&mut self, set: &mut Vec<Token>, later: &[Token], exact: &[f64]) {
        let k = exact.len() - 1;
        if set.len() == k {
            return;
        }
        for (i, &token) in later.iter().enumerate() {
            let p = self.p[token as usize];
            let mut extended = vec![0.0; k + 1];
            for m in 1..=k {
                let mut power = 1.0;
                for c in 1..=m {
                    power *= p;
                    extended[m] += self.binomials[m][c] * power * exact[m - c];
                }
            }
            set.push(token);
            self.found.0.push(set.clone());
            self.found.1.push(extended[k]);
            self.extend(set, &later[i + 1..], &extended);
            set.pop();
        }
    }
}

/// Pascal's triangle up to [`MAX_DRAFTS`]: sums of positive numbers.
fn binomials() -> Vec<[f64; MAX_DRAFTS + 1]> {
    let mut rows = vec![[0.0; MAX_DRAFTS + 1]; MAX_DRAFTS + 1];
    for n in 0..=MAX_DRAFTS {
        rows[n][0] = 1.0;
        for m in 1..=n {
            rows[n][m] = rows[n - 1][m - 1] + rows[n - 1][m];
        }
    }
    rows
}

fn extend_tuple(
    tuple: &mut Vec<Token>,
    weight: f64,
    p: &[f64],
    k: usize,
    support: &[Token],
    found: &mut (Vec<Vec<Token>>, Vec<f64>),
) {
    if tuple.len() == k {
        found.0.push(tuple.clone());
        found.1.push(weight);
        return;
    }
    for &token in support {
        tuple.push(token);
        extend_tuple(tuple, weight * p[token as usize], p, k, support, found);
        tuple.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pmf::Pmf;

    #[test]
    fn counts_are_those_of_the_rows_enumerated() {
        let p = Pmf::from_weights([1.0, 0.0, 2.0, 3.0, 1.0]).unwrap();
        let q = Pmf::from_weights([1.0, 2.0, 0.0, 3.0, 1.0]).unwrap();
        for k in 1..=6 {
            let problem = Problem::new(p.clone(), q.clone(), k).unwrap();
            for rows in [Rows::Sets, Rows::Tuples] {
                let (drafts, weights) = enumerate(&problem, rows);
                assert_eq!(count(&problem, rows), drafts.len() as u128);
                let holding = |y| drafts.iter().filter(|drafts| drafts.contains(&y)).count() as u128;
                assert_eq!(variables(&problem, rows), holding(0) + holding(3) + holding(4));
                // Adding 4096 tuples one by one loses a digit or two.
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-13);
            }
        }
    }

    #[test]
    fn set_weights_keep_their_relative_precision() {
        // P({0, 1}) over 3 draws is 3ab(a + b); inclusion–exclusion leaves no digit of it.
        let b = 1e-17;
        let problem = Problem::new(Pmf::new([1.0, b]).unwrap(), Pmf::uniform(2).unwrap(), 3).unwrap();
        let (sets, weights) = enumerate(&problem, Rows::Sets);
        assert_eq!(sets, [vec![0], vec![0, 1], vec![1]]);
        for (weight, expected) in weights.into_iter().zip([1.0, 3.0 * b, b * b * b]) {
            assert!((weight / expected - 1.0).abs() < 1e-15, "{weight} is not {expected}");
        }
    }
}
