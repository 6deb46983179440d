//! Attention of one new node to the tokens on its way.

use super::super::config::Config;
use super::super::tree::Sight;
use super::kernels::{add_up, gather, scores};
use crate::simd::{self, Kernel, exp2, max, mul_add};

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
        let Attend { config, queries, keys, values, sight, into } = self;
        let &Config { heads, kv_heads, head_dim, .. } = config;
        let width = kv_heads * head_dim;
        // Scores are powers of two: one multiplication for the scale and the base.
        let scale = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        let at: Vec<usize> = sight.slots().map(|slot| slot * width).collect();
        let mut shares = vec![0.0; at.len()];
        let rows = queries.chunks_exact(head_dim).zip(into.chunks_exact_mut(head_dim));
        for (head, (query, into)) in rows.enumerate() {
            let start = head / (heads / kv_heads) * head_dim;
            scores(query, &keys[start..], &at, scale, &mut shares);
            let sum = simd::run(Exponentials(&mut shares));
            gather(&values[start..], &at, &shares, into);
            into.iter_mut().for_each(|x| *x /= sum);
        }
    }
}

/// Replaces scores by `2^(score − the largest)`, and adds these up. A NaN or an infinity among them makes the sum NaN.
struct Exponentials<'a>(&'a mut [f32]);

impl Kernel for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f32 {
        let mut largest = f32::NEG_INFINITY;
        for &score in self.0.iter() {
            largest = max(score, largest);
        }
        for score in self.0.iter_mut() {
            let x = *score - largest;
            // `exp2` takes a NaN for a number; its product with 0 is none.
            *score = mul_add::<FMA>(0.0, x, exp2::<FMA>(x));
        }
        let mut sums = [0.0f32; LANES];
        for block in self.0.chunks(LANES) {
            for (sum, &share) in sums.iter_mut().zip(block) {
                *sum += share;
            }
        }
        add_up(sums)
    }
}
