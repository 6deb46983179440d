//! Attention of one new node to the tokens on its way.

use super::super::config::Config;
use super::super::tree::Sight;
use crate::simd::{self, Kernel, exp2, max, mul_add};

/// Dimensions of a head that are added up in registers at a time.
const WIDE: usize = 32;

/// And where fewer are left. Heads have even numbers of them.
const NARROW: usize = 2;

/// Numbers added up side by side.
const LANES: usize = 8;

/// What the heads of one node gather, `[heads, head_dim]`.
///
/// Numbers are added up in the order of the way, wherever in the cache it lies: a node's attention is the same, in every
/// bit, in a tree, alone, and after its way was kept.
pub(super) struct Attend<'a> {
    pub config: &'a Config,
    /// `[heads, head_dim]`, turned.
    pub queries: &'a [f32],
    /// `[slots, kv_heads, head_dim]` each.
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub sight: &'a Sight,
    pub into: &'a mut [f32],
}

impl Attend<'_> {
    pub fn run(self) {
        simd::run(self);
    }
}

impl Kernel for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Attend { config, queries, keys, values, sight, into } = self;
        let &Config { heads, kv_heads, head_dim, .. } = config;
        let width = kv_heads * head_dim;
        // Scores are powers of two: one multiplication for the scale and the base.
        let scale = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        let mut shares = Vec::with_capacity(sight.len());
        for (head, (query, into)) in queries.chunks_exact(head_dim).zip(into.chunks_exact_mut(head_dim)).enumerate() {
            let start = head / (heads / kv_heads) * head_dim;
            let at = |slot: usize| slot * width + start..slot * width + start + head_dim;
            shares.clear();
            shares.extend(sight.slots().map(|slot| dot::<FMA>(query, &keys[at(slot)]) * scale));
            let sum = exponentials::<FMA>(&mut shares);
            let (wide, rest) = into.as_chunks_mut::<WIDE>();
            let (narrow, _) = rest.as_chunks_mut::<NARROW>();
            let values_from = |dimension: usize| sight.slots().map(move |slot| &values[at(slot)][dimension..]);
            let narrow_from = wide.len() * WIDE;
            for (block, into) in wide.iter_mut().enumerate() {
                *into = mean::<FMA, WIDE>(values_from(block * WIDE), &shares, sum);
            }
            for (block, into) in narrow.iter_mut().enumerate() {
                *into = mean::<FMA, NARROW>(values_from(narrow_from + block * NARROW), &shares, sum);
            }
        }
    }
}

/// The mean of the first `W` dimensions, weighted by shares that add up to `sum`.
#[inline(always)]
fn mean<'a, const FMA: bool, const W: usize>(
    values: impl Iterator<Item = &'a [f32]>,
    shares: &[f32],
    sum: f32,
) -> [f32; W] {
    let mut sums = [0.0f32; W];
    for (values, &share) in values.zip(shares) {
        let (values, _) = values.as_chunks::<W>();
        for l in 0..W {
            sums[l] = mul_add::<FMA>(share, values[0][l], sums[l]);
        }
    }
    sums.map(|x| x / sum)
}

#[inline(always)]
fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for l in 0..LANES {
            sums[l] = mul_add::<FMA>(a[l], b[l], sums[l]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    add_up(sums) + rest
}

/// Replaces scores by `2^(score − the largest)`, and adds these up. A NaN or an infinity among them makes the sum NaN.
#[inline(always)]
fn exponentials<const FMA: bool>(scores: &mut [f32]) -> f32 {
    let mut largest = f32::NEG_INFINITY;
    for &score in scores.iter() {
        largest = max(score, largest);
    }
    let (blocks, rest) = scores.as_chunks_mut::<LANES>();
    let mut sums = [0.0f32; LANES];
    for block in blocks {
        for l in 0..LANES {
            block[l] = exponential::<FMA>(block[l] - largest);
            sums[l] += block[l];
        }
    }
    for (score, sum) in rest.iter_mut().zip(&mut sums) {
        *score = exponential::<FMA>(*score - largest);
        *sum += *score;
    }
    add_up(sums)
}

/// `exp2` takes a NaN for a number; its product with 0 is none.
#[inline(always)]
fn exponential<const FMA: bool>(x: f32) -> f32 {
    mul_add::<FMA>(0.0, x, exp2::<FMA>(x))
}

#[inline(always)]
pub(super) fn add_up(s: [f32; LANES]) -> f32 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}
