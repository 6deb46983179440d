//! Exponentials in f64, of one token and of a block, by the same instructions.

use crate::simd::{Kernel, exp_f64};

/// Tokens handled at a time: few enough to stay in the first-level cache, a multiple of every vector length.
pub(super) const BLOCK: usize = 128;

/// `e^x` of two numbers, by the same instructions as for a whole block: the same numbers come out.
pub(super) struct Masses {
    pub draft: f64,
    pub target: f64,
}

impl Kernel for Masses {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (f64, f64) {
        (exp_f64::<FMA>(self.draft), exp_f64::<FMA>(self.target))
    }
}

/// `e^(logit − log_sum)` of a block.
pub(super) struct Probabilities<'a> {
    pub logits: &'a [f32],
    pub log_sum: f64,
    pub into: &'a mut [f64; BLOCK],
}

impl Kernel for Probabilities<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (p, &logit) in self.into.iter_mut().zip(self.logits) {
            *p = exp_f64::<FMA>(f64::from(logit) - self.log_sum);
        }
    }
}
