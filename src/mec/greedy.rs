//! The greedy coupling, and what no coupling can go below.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::MecError;
use super::coupling::{Coupling, surprise};
use crate::pmf::{Pmf, Token};
use crate::sum::Sum;

/// The most cells of a product law: 1 GiB of them.
const MAX_CELLS: u64 = 1 << 26;

/// What is left of a symbol's mass. Ordered by the mass; among equals the first symbol is the largest.
#[derive(Clone, Copy, PartialEq)]
struct Left {
    mass: f64,
    symbol: Token,
}

impl Eq for Left {}

impl Ord for Left {
    fn cmp(&self, other: &Self) -> Ordering {
        self.mass.total_cmp(&other.mass).then(other.symbol.cmp(&self.symbol))
    }
}

impl PartialOrd for Left {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What is left of a marginal: the symbols that were not touched yet, which are sorted once and used in order, and what was
/// left of others. One heap for both would be walked from top to bottom, through all of the memory, for each of them.
struct Stock {
    /// Ascending.
    whole: Vec<Left>,
    rests: BinaryHeap<Left>,
}

impl Stock {
    fn new(marginal: &Pmf) -> Self {
        let masses = (0..).zip(marginal.as_slice()).filter(|(_, mass)| **mass > 0.0);
        let mut whole: Vec<Left> = masses.map(|(symbol, &mass)| Left { mass, symbol }).collect();
        whole.sort_unstable();
        Stock { whole, rests: BinaryHeap::new() }
    }

    fn largest(&self) -> Option<Left> {
        self.whole.last().max(self.rests.peek()).copied()
    }

    /// Takes a mass from the largest.
    fn take(&mut self, mass: f64) {
        let largest = if self.whole.last() > self.rests.peek() { self.whole.pop() } else { self.rests.pop() };
        if let Some(Left { mass: before, symbol }) = largest
            && before > mass
        {
            self.rests.push(Left { mass: before - mass, symbol });
        }
    }
}

/// The greedy minimum-entropy coupling of any number of marginals.
///
/// ```text
/// until nothing is left:
///     take the largest mass left of each marginal; r = the smallest of them
///     the cell of their symbols gets r, and each loses r
/// ```
///
/// Kocaoglu et al. 2017 (arXiv 1611.04035). Every step uses up a symbol, so that there are at most as many cells as symbols
/// in all. For two marginals its entropy is within `log₂(e)/e ≈ 0.53` bit of the least (Compton et al. 2023, arXiv
/// 2302.11838), for more within 1.22. `O(n log n)` for `n` symbols in all.
///
/// What rounding leaves of one marginal when another is used up is nobody's: the marginals hold within the rounding of
/// their sums.
///
/// # Errors
/// There is no marginal.
pub fn greedy(marginals: &[&Pmf]) -> Result<Coupling, MecError> {
    if marginals.is_empty() {
        return Err(MecError::NoMarginal);
    }
    let mut stocks: Vec<Stock> = marginals.iter().map(|marginal| Stock::new(marginal)).collect();
    let mut coupling = Coupling::empty(marginals.iter().map(|marginal| marginal.vocab()).collect());
    let mut largest = Vec::with_capacity(stocks.len());
    loop {
        largest.clear();
        // `map_while`: once one marginal is used up, what others have left is rounding.
        largest.extend(stocks.iter().map_while(Stock::largest));
        if largest.len() < stocks.len() {
            return Ok(coupling);
        }
        let mass = largest.iter().map(|left| left.mass).fold(f64::INFINITY, f64::min);
        coupling.push(largest.iter().map(|left| left.symbol), mass);
        stocks.iter_mut().for_each(|stock| stock.take(mass));
    }
}

/// The product law: the coupling of most entropy, to compare with.
///
/// # Errors
/// There is no marginal, or the product has more than 2²⁶ cells.
pub fn independent(marginals: &[&Pmf]) -> Result<Coupling, MecError> {
    if marginals.is_empty() {
        return Err(MecError::NoMarginal);
    }
    let supports: Vec<Vec<(Token, f64)>> = marginals
        .iter()
        .map(|marginal| (0..).zip(marginal.as_slice().iter().copied()).filter(|(_, mass)| *mass > 0.0).collect())
        .collect();
    let cells = supports.iter().try_fold(1u64, |cells, support| cells.checked_mul(support.len() as u64));
    let Some(cells) = cells.filter(|&cells| cells <= MAX_CELLS) else {
        return Err(MecError::Cells { cells, most: MAX_CELLS });
    };
    let mut coupling = Coupling::empty(marginals.iter().map(|marginal| marginal.vocab()).collect());
    for cell in 0..cells {
        let mut rest = cell;
        let mut symbols = vec![0; supports.len()];
        let mut mass = 1.0;
        for (place, support) in symbols.iter_mut().zip(&supports).rev() {
            let (symbol, share) = support[(rest % support.len() as u64) as usize];
            rest /= support.len() as u64;
            *place = symbol;
            mass *= share;
        }
        coupling.push(symbols, mass);
    }
    Ok(coupling)
}

/// A number of bits that no coupling of the marginals has less entropy than; 0 for none. `O(n log n)`.
///
/// The larger of two bounds, both at least the largest entropy of a marginal:
///
/// - *majorisation* (Cicalese et al. 2019, arXiv 1901.07530): each marginal adds up cells of the joint law, so that no `j`
///   cells hold more than the `j` largest masses of any marginal. The law whose `j` largest masses add up to the
///   least of those sums is the most predictable one that does not violate this;
/// - *the profile* (in the manner of Compton et al. 2023): a cell is no more likely than its symbol in any marginal, so that
///   the probability of a surprise `−log₂ mass` above `t` is at least the largest that a marginal has; entropy is the
///   integral of it over `t`.
pub fn lower_bound(marginals: &[&Pmf]) -> f64 {
    let mut sorted: Vec<Vec<f64>> = marginals
        .iter()
        .map(|marginal| {
            let mut masses: Vec<f64> = marginal.as_slice().iter().copied().filter(|mass| *mass > 0.0).collect();
            masses.sort_unstable_by(|a, b| b.total_cmp(a));
            masses
        })
        .collect();
    let profile = profile(&sorted);
    majorisation(&mut sorted).max(profile)
}

/// The entropy of the greatest law below all marginals in the order of majorisation.
pub(super) fn majorisation(sorted: &mut [Vec<f64>]) -> f64 {
    let longest = sorted.iter().map(Vec::len).max().unwrap_or(0);
    let mut sums = vec![Sum::default(); sorted.len()];
    let (mut below, mut bits) = (0.0, Sum::default());
    for j in 0..longest {
        for (sum, masses) in sums.iter_mut().zip(sorted.iter()) {
            sum.add(masses.get(j).copied().unwrap_or(0.0));
        }
        let least = sums.iter().map(|sum| sum.value()).fold(f64::INFINITY, f64::min);
        bits.add(surprise((least - below).max(0.0)));
        below = least;
    }
    bits.value()
}

/// The integral over `t` of the largest probability that a marginal's surprise is above `t`.
fn profile(sorted: &[Vec<f64>]) -> f64 {
    let mut steps: Vec<(f64, usize, f64)> = Vec::with_capacity(sorted.iter().map(Vec::len).sum());
    for (marginal, masses) in sorted.iter().enumerate() {
        steps.extend(masses.iter().map(|&mass| (-mass.log2(), marginal, mass)));
    }
    steps.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut above = vec![1.0f64; sorted.len()];
    let (mut from, mut bits) = (0.0, Sum::default());
    for (surprise, marginal, mass) in steps {
        bits.add((surprise - from) * above.iter().copied().fold(0.0, f64::max));
        above[marginal] -= mass;
        from = surprise;
    }
    bits.value()
}
