//! The least entropy itself, where there are few symbols.

use std::collections::HashMap;

use super::MecError;
use super::coupling::{Coupling, surprise};
use crate::pmf::{Pmf, Token};

/// The most symbols of positive probability that [`exact`] takes of either marginal.
pub const MAX_EXACT: usize = 5;

/// The coupling of least entropy of two marginals.
///
/// Entropy is concave, so that its least value is at a vertex of the transport polytope. The cells of a vertex form a
/// forest, which has a leaf: a symbol all of whose mass is in one cell. Taking leaf after leaf, a vertex is a sequence
/// of steps "all that the smaller of these two symbols has left goes into their cell". All sequences are tried; those that
/// leave the same masses are continued once. Exponential in the number of symbols.
///
/// # Errors
/// A marginal has more than [`MAX_EXACT`] symbols of positive probability.
pub fn exact(first: &Pmf, second: &Pmf) -> Result<Coupling, MecError> {
    let mut left = [Vec::new(), Vec::new()];
    for (marginal, (law, left)) in [first, second].into_iter().zip(&mut left).enumerate() {
        let symbols = law.support();
        if symbols > MAX_EXACT {
            return Err(MecError::Size { marginal, symbols, most: MAX_EXACT });
        }
        left.extend((0..).zip(law.as_slice().iter().copied()).filter(|(_, mass)| *mass > 0.0));
    }
    let mut known = HashMap::new();
    let [mut rows, mut columns] = left;
    least(&rows, &columns, &mut known);
    let mut coupling = Coupling::empty(vec![first.vocab(), second.vocab()]);
    while !rows.is_empty() && !columns.is_empty() {
        let step = least(&rows, &columns, &mut known).1;
        let mass = rows[step.0].1.min(columns[step.1].1);
        coupling.push([rows[step.0].0, columns[step.1].0], mass);
        (rows, columns) = after(&rows, &columns, step);
    }
    Ok(coupling)
}

/// A symbol and what is left of its mass.
type Left = (Token, f64);

/// The masses left, without regard to order or to the last bits.
type Key = (Vec<u64>, Vec<u64>);

/// What is left below this is the rounding of the subtractions before.
const ROUNDING: f64 = 1e-14;

fn key(rows: &[Left], columns: &[Left]) -> Key {
    let sorted = |left: &[Left]| {
        let mut masses: Vec<u64> = left.iter().map(|left| (left.1 / ROUNDING).round() as u64).collect();
        masses.sort_unstable();
        masses
    };
    (sorted(rows), sorted(columns))
}

fn after(rows: &[Left], columns: &[Left], (i, j): (usize, usize)) -> (Vec<Left>, Vec<Left>) {
    let mass = rows[i].1.min(columns[j].1);
    let without = |left: &[Left], place: usize| {
        let mut left = left.to_vec();
        left[place].1 -= mass;
        left.retain(|left| left.1 > ROUNDING);
        left
    };
    (without(rows, i), without(columns, j))
}

/// The least entropy of what is left, and the step that it begins with.
fn least(rows: &[Left], columns: &[Left], known: &mut HashMap<Key, f64>) -> (f64, (usize, usize)) {
    let mut best = (f64::INFINITY, (0, 0));
    for i in 0..rows.len() {
        for j in 0..columns.len() {
            let mass = rows[i].1.min(columns[j].1);
            let (rows, columns) = after(rows, columns, (i, j));
            let rest = if rows.is_empty() || columns.is_empty() {
                0.0
            } else {
                let key = key(&rows, &columns);
                match known.get(&key) {
                    Some(&rest) => rest,
                    None => {
                        let rest = least(&rows, &columns, known).0;
                        known.insert(key, rest);
                        rest
                    }
                }
            };
            let bits = surprise(mass) + rest;
            if bits < best.0 {
                best = (bits, (i, j));
            }
        }
    }
    best
}
