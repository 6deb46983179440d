//! Finding tokens by the difference of their logits, without an exponential.

use std::ops::ControlFlow;

use crate::simd::{self, Kernel};

/// Calls `visit` with each token whose difference of logits is in `[low, high]`, or NaN, until it says stop.
pub(super) fn tokens_with(
    draft: &[f32],
    target: &[f32],
    (low, high): (f32, f32),
    mut visit: impl FnMut(usize) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for (i, (draft, target)) in draft.chunks(STRIDE).zip(target.chunks(STRIDE)).enumerate() {
        for (j, mut found) in simd::run(Find { draft, target, low, high }).into_iter().enumerate() {
            while found != 0 {
                let token = j * 32 + found.trailing_zeros() as usize;
                if token < draft.len() {
                    visit(i * STRIDE + token)?;
                }
                found &= found - 1;
            }
        }
    }
    ControlFlow::Continue(())
}

/// Tokens that [`Find`] looks at in one call.
const STRIDE: usize = 4096;

/// Which of up to [`STRIDE`] tokens have a difference of logits in `[low, high]`, or NaN: one bit each. The bits beyond
/// the end mean nothing.
struct Find<'a> {
    draft: &'a [f32],
    target: &'a [f32],
    low: f32,
    high: f32,
}

impl Kernel for Find<'_> {
    type Output = [u32; STRIDE / 32];

    #[inline(always)]
    fn run<const FMA: bool>(self) -> [u32; STRIDE / 32] {
        let look = |draft: &[f32; 32], target: &[f32; 32]| {
            let mut found = 0;
            for j in 0..32 {
                let d = draft[j] - target[j];
                found |= u32::from(!(d < self.low || d > self.high)) << j;
            }
            found
        };
        let mut masks = [0; STRIDE / 32];
        let (draft, draft_rest) = self.draft.as_chunks::<32>();
        let (target, target_rest) = self.target.as_chunks::<32>();
        for ((mask, draft), target) in masks.iter_mut().zip(draft).zip(target) {
            *mask = look(draft, target);
        }
        if !draft_rest.is_empty() {
            let mut rest = ([0.0; 32], [0.0; 32]);
            rest.0[..draft_rest.len()].copy_from_slice(draft_rest);
            rest.1[..target_rest.len()].copy_from_slice(target_rest);
            masks[draft.len()] = look(&rest.0, &rest.1);
        }
        masks
    }
}

/// Whether all differences of logits in `[low, high]` are the same.
pub(super) struct IsOneDifference<'a> {
    pub draft: &'a [f32],
    pub target: &'a [f32],
    pub low: f32,
    pub high: f32,
}

impl Kernel for IsOneDifference<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> bool {
        const LANES: usize = 32;
        let (mut lowest, mut highest) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (draft, draft_rest) = self.draft.as_chunks::<LANES>();
        let (target, target_rest) = self.target.as_chunks::<LANES>();
        let mut look = |draft: &[f32; LANES], target: &[f32; LANES]| {
            for j in 0..LANES {
                let d = draft[j] - target[j];
                let outside = !(d >= self.low && d <= self.high);
                let (low, high) =
                    (if outside { f32::INFINITY } else { d }, if outside { f32::NEG_INFINITY } else { d });
                lowest[j] = if low < lowest[j] { low } else { lowest[j] };
                highest[j] = if high > highest[j] { high } else { highest[j] };
            }
        };
        for (draft, target) in draft.iter().zip(target) {
            look(draft, target);
        }
        let mut rest = ([f32::NAN; LANES], [f32::NAN; LANES]);
        rest.0[..draft_rest.len()].copy_from_slice(draft_rest);
        rest.1[..target_rest.len()].copy_from_slice(target_rest);
        look(&rest.0, &rest.1);
        let lowest = lowest.iter().fold(f32::INFINITY, |a, &b| a.min(b));
        highest.iter().all(|&high| high == lowest || high == f32::NEG_INFINITY)
    }
}
