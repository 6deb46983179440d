//! Rows to filter, and whether a threshold leaves the tokens that the CPU's filters leave.

// Shared by several tests, each of which uses a part.
#![allow(dead_code)]

use rand::RngExt;
use rand::rngs::StdRng;

/// The kinds of rows.
pub const KINDS: [&str; 7] = ["random", "tied", "flat", "peaked", "masked", "falling", "zeros"];

/// A row, rounded to a format.
pub fn row(rng: &mut StdRng, kind: &str, vocab: usize, rounded: impl Fn(f32) -> f32) -> Vec<f32> {
    let mut noise = || 3.0 * ((0..4).map(|_| rng.random::<f32>()).sum::<f32>() - 2.0);
    let logit = |token: usize, noise: f32| match kind {
        "random" => noise,
        "tied" => noise.round(),
        "flat" => 0.25,
        "peaked" if token == vocab / 2 => 12.0,
        "peaked" => 0.1 * noise - 8.0,
        "masked" if noise < -0.5 && token > 0 => f32::NEG_INFINITY,
        "masked" => noise,
        "falling" => 9.0 - 1.1 * ((token * 7919 % vocab) as f32 + 3.0).ln(),
        // About 0, with both its signs.
        _ => [0.0, -0.0, -1e-3, 1.5][(noise.abs() * 10.0) as usize % 4],
    };
    (0..vocab).map(|token| rounded(logit(token, noise()))).collect()
}

/// What is asked of a filter; numbers that f32 holds.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub top_k: usize,
    pub top_p: f32,
    pub min_p: f32,
}

/// What the comparison of a row came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The same tokens.
    Same,
    /// Other tokens; the mass that they drop is as near to top-p's limit as is allowed for: how near, over the bound.
    Near(f64),
    /// Other tokens for no such reason.
    Wrong(String),
}

/// The stated accuracy of a mass that is dropped: a share of itself, and of all.
const BOUND: [f64; 2] = [1e-6, 1e-8];

/// Holds a threshold and its tie to what the CPU leaves of a row of scaled logits: `left`, −∞ for what it drops.
pub fn judge(row: &[f32], left: &[f32], asked: Asked, least: f32, tie: i32) -> Verdict {
    let below = |token: usize| row[token] < least || (row[token] == least && (token as i32) < tie);
    let differs = |token: &usize| {
        let kept = row[*token] > f32::NEG_INFINITY && !below(*token);
        kept != (left[*token] > f32::NEG_INFINITY)
    };
    let filtered = asked.top_k < row.len() || asked.top_p < 1.0;
    let Some(token) = (0..row.len()).find(differs) else {
        // Of top-k and top-p the threshold is a logit that is left.
        let lowest =
            (0..row.len()).filter(|&token| !below(token)).map(|token| row[token]).fold(f32::INFINITY, f32::min);
        return match () {
            () if filtered && asked.min_p == 0.0 && least != lowest => {
                Verdict::Wrong(format!("the threshold is {least:e}, the least logit left {lowest:e}"))
            }
            () if !filtered && asked.min_p == 0.0 && least != f32::NEG_INFINITY => {
                Verdict::Wrong(format!("the threshold is {least:e} without a filter"))
            }
            () => Verdict::Same,
        };
    };
    let kept = (0..row.len()).filter(|&token| !below(token)).count();
    let expected = left.iter().filter(|x| **x > f32::NEG_INFINITY).count();
    let what = format!(
        "{kept} tokens are left above {least:e} (tie {tie}), {expected} on the CPU; first at token {token}, logit {:e}",
        row[token]
    );
    // Top-p alone may round: what is dropped of what top-k leaves, up to the first token kept.
    let mut alive: Vec<usize> = (0..row.len()).collect();
    alive.sort_by(|&a, &b| row[a].total_cmp(&row[b]).then(a.cmp(&b)));
    if asked.top_k < row.len() {
        let lowest = row[alive[row.len() - asked.top_k]];
        alive.retain(|&token| row[token] >= lowest);
    }
    let Some(&most) = alive.last() else { return Verdict::Wrong(what) };
    let mass = |token: usize| (f64::from(row[token]) - f64::from(row[most])).exp();
    let total: f64 = alive.iter().map(|&token| mass(token)).sum();
    let dropped: f64 = alive.iter().filter(|&&token| below(token)).map(|&token| mass(token)).sum();
    let first = alive.iter().find(|&&token| !below(token)).map_or(0.0, |&token| mass(token));
    let limit = (1.0 - f64::from(asked.top_p)) * total;
    let over = (dropped - limit).max(limit - dropped - first) / (BOUND[0] * limit + BOUND[1] * total);
    if asked.top_p < 1.0 && over <= 1.0 {
        Verdict::Near(over)
    } else {
        Verdict::Wrong(format!("{what}; {over:e} bounds"))
    }
}
