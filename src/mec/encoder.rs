//! Entropy-bounded information maximisation: the code `T` of `X` that keeps most of it within `H(T) ≤ R`.

use super::MecError;
use super::coupling::{Coupling, entropy, surprise};
use crate::pmf::{Pmf, Token};

/// The most symbols whose partitions [`partitions`] goes through: 115,975 of them.
pub const MAX_PARTITIONED: usize = 10;

/// By how many bits a code may be above its rate: the entropy of a code whose rate was asked for exactly may come out above
/// it by rounding.
const ROUNDING: f64 = 1e-12;

/// A map from the symbols of `X` to those of a code `T`, in general a random one.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder {
    /// The joint law of `X` and `T`.
    joint: Coupling,
}

impl Encoder {
    /// A deterministic code of at most `rate` bits, after the greedy search of Ebrahimi et al. 2024 (arXiv 2410.21666):
    ///
    /// ```text
    /// if R ≥ H(X): T = X
    /// while merging the two most likely symbols leaves H(T) > R: merge them
    /// merge the pair that brings H(T) to R or below and takes the least from it
    /// ```
    ///
    /// The published search ends with the two least likely symbols if they suffice, which is then the same, and else with
    /// the two most likely ones, which is one of the pairs.
    ///
    /// A deterministic code loses nothing that it does not merge, `I(X; T) = H(T)`, and no code has more than `R`. What is
    /// missing to `R` is at most `h(p₂)`, the binary entropy of the second most likely symbol's probability: it is less
    /// than what merging the two most likely symbols would have taken last, which for masses `a ≥ b` is
    /// `(a + b)·h(b/(a + b)) ≤ h(b)`, and `b ≤ p₂`. `O(n log n)`.
    ///
    /// # Errors
    /// The rate is negative or not a number.
    pub fn deterministic(source: &Pmf, rate: f64) -> Result<Self, MecError> {
        if !(rate >= 0.0) {
            return Err(MecError::Rate { rate });
        }
        let limit = rate + ROUNDING;
        let mut symbols: Vec<(f64, Token)> =
            source.as_slice().iter().copied().zip(0..).filter(|(mass, _)| *mass > 0.0).collect();
        symbols.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut bits = entropy(source.as_slice());
        // How many of the most likely symbols are one, and their mass.
        let (mut merged, mut top) = (1, symbols[0].0);
        while merged < symbols.len() && bits - lost(top, symbols[merged].0) > limit {
            bits -= lost(top, symbols[merged].0);
            top += symbols[merged].0;
            merged += 1;
        }
        // Most likely first: the merged ones stay ahead of all others.
        let groups: Vec<f64> = std::iter::once(top).chain(symbols[merged..].iter().map(|symbol| symbol.0)).collect();
        let pair = if bits > limit { cheapest_pair(&groups, bits - limit) } else { None };
        let code = |place: usize| {
            let group = (place + 1).saturating_sub(merged);
            match pair {
                Some((into, from)) if group == from => into,
                Some((_, from)) if group > from => group - 1,
                _ => group,
            }
        };
        let codes = groups.len() - usize::from(pair.is_some());
        let mut joint = Coupling::empty(vec![source.vocab(), codes]);
        for (place, &(mass, symbol)) in symbols.iter().enumerate() {
            joint.push([symbol, code(place) as Token], mass);
        }
        Ok(Encoder { joint })
    }

    /// The better of [`deterministic`](Encoder::deterministic) and the codes that use up the rest of the rate: one symbol
    /// of a group that was merged gets a code word of its own, used at random with the probability that makes
    /// `H(T) = rate`. Near a deterministic code the optimum is of this form. `O(n)` root searches beyond it.
    ///
    /// # Errors
    /// The rate is negative or not a number.
    pub fn new(source: &Pmf, rate: f64) -> Result<Self, MecError> {
        let plain = Self::deterministic(source, rate)?;
        let codes = plain.code_law();
        let bits = entropy(&codes);
        let mut best = (plain.information(), None);
        for (cell, (symbols, mass)) in plain.joint.cells().enumerate() {
            let group = codes[symbols[1] as usize];
            // A symbol that is a group of its own has nothing to gain.
            if !(group > mass) {
                continue;
            }
            // H(T) as a share `s` of the symbol goes to the new code word.
            let with = |s: f64| bits - surprise(group) + surprise(group - s * mass) + surprise(s * mass);
            let share = share_at(&with, rate, mass, group);
            // H(T | X) is the symbol's mass times h(s).
            let information = with(share) - mass * (surprise(share) + surprise(1.0 - share));
            if information > best.0 {
                best = (information, Some((cell, share)));
            }
        }
        let Some((split, share)) = best.1 else { return Ok(plain) };
        let word = codes.len() as Token;
        let mut joint = Coupling::empty(vec![source.vocab(), codes.len() + 1]);
        for (cell, (symbols, mass)) in plain.joint.cells().enumerate() {
            if cell != split {
                joint.push(symbols.iter().copied(), mass);
                continue;
            }
            let (moved, kept) = (mass * share, mass * (1.0 - share));
            if kept > 0.0 {
                joint.push(symbols.iter().copied(), kept);
            }
            joint.push([symbols[0], word], moved);
        }
        Ok(Encoder { joint })
    }

    /// The joint law of `X` and `T`.
    pub fn joint(&self) -> &Coupling {
        &self.joint
    }

    /// The law of `T`.
    pub fn code_law(&self) -> Vec<f64> {
        self.joint.marginal(1)
    }

    /// `H(T)`, in bits.
    pub fn rate(&self) -> f64 {
        entropy(&self.code_law())
    }

    /// `I(X; T)`, in bits.
    pub fn information(&self) -> f64 {
        self.joint.information()
    }
}

/// What merging two symbols takes from the entropy.
fn lost(a: f64, b: f64) -> f64 {
    surprise(a) + surprise(b) - surprise(a + b)
}

/// Of the pairs of groups that take at least `needed` from the entropy when they are merged, the one that takes the least:
/// the larger group first. If rounding leaves none, the two largest. `None` for fewer than two groups.
fn cheapest_pair(groups: &[f64], needed: f64) -> Option<(usize, usize)> {
    let mut best = (f64::INFINITY, (groups.len() > 1).then_some((0, 1)));
    for (i, &a) in groups.iter().enumerate() {
        // The smaller the other group, the less it takes.
        let enough = groups[i + 1..].partition_point(|&b| lost(a, b) >= needed);
        if enough > 0 && lost(a, groups[i + enough]) < best.0 {
            best = (lost(a, groups[i + enough]), Some((i, i + enough)));
        }
    }
    best.1
}

/// The largest share whose entropy `with(share)` is at most `rate`: the entropy rises with the share up to where the new
/// code word is as likely as what is left of the group.
fn share_at(with: &impl Fn(f64) -> f64, rate: f64, mass: f64, group: f64) -> f64 {
    let (mut low, mut high) = (0.0, (0.5 * group / mass).min(1.0));
    if with(high) <= rate {
        return high;
    }
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if with(middle) <= rate { low = middle } else { high = middle }
    }
    low
}

/// The entropy of every deterministic code of the source, in bits, ascending: the points that a curve of information
/// against rate can be compared with.
///
/// # Errors
/// The source has more than [`MAX_PARTITIONED`] symbols of positive probability.
pub fn partitions(source: &Pmf) -> Result<Vec<f64>, MecError> {
    let masses: Vec<f64> = source.as_slice().iter().copied().filter(|mass| *mass > 0.0).collect();
    if masses.len() > MAX_PARTITIONED {
        return Err(MecError::Size { marginal: 0, symbols: masses.len(), most: MAX_PARTITIONED });
    }
    let mut found = Vec::new();
    place(&masses, &mut Vec::new(), &mut found);
    found.sort_by(f64::total_cmp);
    Ok(found)
}

/// Puts the next symbol into each of the groups so far, and into one of its own.
fn place(masses: &[f64], groups: &mut Vec<f64>, found: &mut Vec<f64>) {
    let Some((&mass, rest)) = masses.split_first() else {
        found.push(entropy(groups));
        return;
    };
    for group in 0..groups.len() {
        let before = groups[group];
        groups[group] += mass;
        place(rest, groups, found);
        groups[group] = before;
    }
    groups.push(mass);
    place(rest, groups, found);
    groups.pop();
}
