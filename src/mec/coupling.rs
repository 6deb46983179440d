//! A joint law of several variables, by its cells.

use crate::pmf::{Pmf, Token};
use crate::sum::Sum;

/// The entropy of a list of masses, in bits: `−Σ x·log₂ x`. Masses of 0 count nothing.
pub fn entropy(masses: &[f64]) -> f64 {
    Sum::of(masses.iter().map(|&mass| surprise(mass)))
}

/// `−x·log₂ x`, 0 at 0.
pub(super) fn surprise(mass: f64) -> f64 {
    if mass > 0.0 { -mass * mass.log2() } else { 0.0 }
}

/// A joint law of some variables: the cells of positive mass. A greedy coupling of `m` marginals of `n` symbols has at most
/// `m·n` of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Coupling {
    /// The number of symbols of each variable.
    vocabs: Vec<usize>,
    /// The symbols of each cell, one for each variable, cell after cell.
    symbols: Vec<Token>,
    masses: Vec<f64>,
}

impl Coupling {
    pub(super) fn empty(vocabs: Vec<usize>) -> Self {
        Coupling { vocabs, symbols: Vec::new(), masses: Vec::new() }
    }

    pub(super) fn push(&mut self, symbols: impl IntoIterator<Item = Token>, mass: f64) {
        self.symbols.extend(symbols);
        self.masses.push(mass);
        debug_assert_eq!(self.symbols.len(), self.masses.len() * self.vocabs.len());
    }

    /// The number of variables.
    pub fn variables(&self) -> usize {
        self.vocabs.len()
    }

    /// The number of symbols of a variable.
    ///
    /// # Panics
    /// If there is no such variable.
    pub fn vocab(&self, variable: usize) -> usize {
        self.vocabs[variable]
    }

    /// The cells of positive mass: the symbol of each variable, and the mass.
    pub fn cells(&self) -> impl ExactSizeIterator<Item = (&[Token], f64)> {
        self.symbols.chunks_exact(self.vocabs.len()).zip(self.masses.iter().copied())
    }

    /// The joint entropy, in bits.
    pub fn entropy(&self) -> f64 {
        entropy(&self.masses)
    }

    /// The law of one variable. `O(V + cells)`.
    ///
    /// # Panics
    /// If there is no such variable.
    pub fn marginal(&self, variable: usize) -> Vec<f64> {
        let mut sums = vec![Sum::default(); self.vocabs[variable]];
        for (symbols, mass) in self.cells() {
            sums[symbols[variable] as usize].add(mass);
        }
        sums.into_iter().map(Sum::value).collect()
    }

    /// How far the marginals are from laws that they should be: the largest difference over all symbols.
    ///
    /// # Panics
    /// If there is another number of laws than of variables, or one is over another number of symbols.
    pub fn marginal_error(&self, laws: &[&Pmf]) -> f64 {
        assert_eq!(laws.len(), self.variables(), "one law for each variable");
        let mut worst = 0.0f64;
        for (variable, law) in laws.iter().enumerate() {
            assert_eq!(law.vocab(), self.vocabs[variable], "the symbols of variable {variable}");
            for (have, want) in self.marginal(variable).iter().zip(law.as_slice()) {
                worst = worst.max((have - want).abs());
            }
        }
        worst
    }

    /// The mutual information of two variables, in bits.
    ///
    /// # Panics
    /// Unless there are exactly two variables.
    pub fn information(&self) -> f64 {
        assert_eq!(self.variables(), 2, "the mutual information of two variables");
        (entropy(&self.marginal(0)) + entropy(&self.marginal(1)) - self.entropy()).max(0.0)
    }

    /// The law of the second of two variables, given a symbol of the first; `None` if that has no mass. `O(cells)`.
    ///
    /// # Panics
    /// Unless there are exactly two variables.
    pub fn given_first(&self, symbol: Token) -> Option<Pmf> {
        self.given(0, symbol)
    }

    /// The law of the first of two variables, given a symbol of the second; `None` if that has no mass. `O(cells)`.
    ///
    /// # Panics
    /// Unless there are exactly two variables.
    pub fn given_second(&self, symbol: Token) -> Option<Pmf> {
        self.given(1, symbol)
    }

    fn given(&self, variable: usize, symbol: Token) -> Option<Pmf> {
        assert_eq!(self.variables(), 2, "the law of one variable given the other");
        let other = 1 - variable;
        let mut masses = vec![0.0; self.vocabs[other]];
        for (symbols, mass) in self.cells().filter(|(symbols, _)| symbols[variable] == symbol) {
            masses[symbols[other] as usize] += mass;
        }
        Pmf::from_weights(masses).ok()
    }
}
