//! Problems to test on, and oracles too simple to be wrong. The oracles know the definitions, not the library's code.
#![allow(dead_code)] // Each test program uses its own part.

pub mod chi_square;

use draftpick::{Drawn, Pmf, Problem, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What a pair of laws looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Weights uniform in (0, 1).
    Ordinary,
    /// Weights from 1 down to 1e-9, log-uniform.
    Spiky,
    /// Ordinary weights, about half of them 0.
    Sparse,
    /// Weights 1, 2 or 3: many equal ratios.
    Ties,
    /// p = q.
    Equal,
    /// No token in both supports.
    Disjoint,
    /// A point mass on one side or both.
    Point,
    /// p and q uniform within a few roundings.
    Nearly,
}

pub const SHAPES: [Shape; 8] = [
    Shape::Ordinary,
    Shape::Spiky,
    Shape::Sparse,
    Shape::Ties,
    Shape::Equal,
    Shape::Disjoint,
    Shape::Point,
    Shape::Nearly,
];

fn weights(shape: Shape, vocab: usize, rng: &mut StdRng) -> Vec<f64> {
    let mut weights: Vec<f64> = (0..vocab)
        .map(|_| match shape {
            Shape::Spiky => 10f64.powf(-9.0 * rng.random::<f64>()),
            Shape::Sparse if rng.random::<bool>() => 0.0,
            Shape::Ties => f64::from(rng.random_range(1..=3u32)),
            Shape::Nearly => 1.0 + 4.0 * f64::EPSILON * f64::from(rng.random_range(0..3u32)),
            _ => rng.random::<f64>() + 1e-3,
        })
        .collect();
    if weights.iter().all(|w| *w == 0.0) {
        weights[rng.random_range(0..vocab)] = 1.0;
    }
    weights
}

/// The laws of one problem of a shape, from a seed.
pub fn laws(shape: Shape, vocab: usize, seed: u64) -> (Pmf, Pmf) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut p, mut q) = (weights(shape, vocab, &mut rng), weights(shape, vocab, &mut rng));
    match shape {
        Shape::Equal => q.clone_from(&p),
        Shape::Disjoint if vocab > 1 => {
            let split = rng.random_range(1..vocab);
            p[split..].fill(0.0);
            q[..split].fill(0.0);
        }
        Shape::Point => {
            let side = rng.random_range(0..3u32);
            for (pmf, points) in [(&mut p, side != 1), (&mut q, side != 0)] {
                if points {
                    let token = rng.random_range(0..vocab);
                    pmf.fill(0.0);
                    pmf[token] = 1.0;
                }
            }
        }
        _ => {}
    }
    (Pmf::from_weights(p).unwrap(), Pmf::from_weights(q).unwrap())
}

pub fn problem(shape: Shape, vocab: usize, k: usize, seed: u64) -> Problem {
    let (p, q) = laws(shape, vocab, seed);
    Problem::new(p, q, k).unwrap()
}

/// Calls `visit(tuple, probability)` for every tuple of `k` drafts of positive probability.
pub fn for_each_tuple(p: &Pmf, k: usize, drawn: Drawn, visit: &mut dyn FnMut(&[Token], f64)) {
    fn extend(
        p: &Pmf,
        k: usize,
        drawn: Drawn,
        tuple: &mut Vec<Token>,
        mass: f64,
        visit: &mut dyn FnMut(&[Token], f64),
    ) {
        if tuple.len() == k {
            return visit(tuple, mass);
        }
        // What can still be drawn, added up afresh: not 1 minus what was drawn, which cancels.
        let open = |token: &Token| drawn == Drawn::Independent || !tuple.contains(token);
        let tokens: Vec<Token> = (0..p.vocab() as Token).filter(open).collect();
        let left: f64 = tokens.iter().map(|&token| p.get(token).unwrap()).sum();
        for token in tokens {
            let share = p.get(token).unwrap() / left;
            if share > 0.0 {
                tuple.push(token);
                extend(p, k, drawn, tuple, mass * share, visit);
                tuple.pop();
            }
        }
    }
    extend(p, k, drawn, &mut Vec::new(), 1.0, visit);
}

/// Draws a tuple of drafts.
pub fn draw(p: &Pmf, drawn: Drawn, rng: &mut StdRng, tuple: &mut [Token]) {
    let tokens = || (0..).zip(p.as_slice()).filter(|(_, share)| **share > 0.0);
    match drawn {
        Drawn::Independent => tuple.fill_with(|| {
            let mut left = rng.random::<f64>();
            let drawn = tokens().find(|(_, share)| {
                left -= *share;
                left < 0.0
            });
            // The last token also takes what rounding leaves.
            drawn.or(tokens().last()).unwrap().0
        }),
        // A race of exponential clocks of rates p: each to ring is the next drawn from what the others left.
        Drawn::WithoutReplacement => {
            let mut clock = |(token, share): (Token, &f64)| (-(1.0 - rng.random::<f64>()).ln() / share, token);
            let mut rings: Vec<(f64, Token)> = tokens().map(&mut clock).collect();
            rings.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            tuple.iter_mut().zip(rings).for_each(|(draft, (_, token))| *draft = token);
        }
    }
}

/// `α* = 1 + min_H q(H) − p(H)^k` over all subsets `H`.
pub fn optimum_over_subsets(problem: &Problem) -> f64 {
    let (p, q) = (problem.draft().as_slice(), problem.target().as_slice());
    let sum =
        |masses: &[f64], set: u32| -> f64 { (0..masses.len()).filter(|i| set >> i & 1 == 1).map(|i| masses[i]).sum() };
    (0..1u32 << p.len())
        .map(|set| 1.0 + sum(q, set) - sum(p, set).powi(problem.k() as i32))
        .fold(f64::INFINITY, f64::min)
}
