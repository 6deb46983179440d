//! The classes of differences of logits that the pass counts in.

use crate::classes::Edges;
use crate::optimal::DEFAULT_CLASSES;
use crate::simd::ROUND;

/// The number of classes that the pass counts in.
pub(super) const COUNTED: usize = 4096;

/// Half of [`COUNTED`]: the class of the difference that the rows' largest logits have.
const MIDDLE: i32 = COUNTED as i32 / 2;

/// The finest class width. The pass does not know the normalisers yet: counted from the rows' largest logits, the
/// log-ratio is off by at most ln 2²⁰ < 14. With the `[−ln 64, 8]` that the coupling looks at, half of the classes
/// must span 22.
const MIN_WIDTH: f64 = 22.0 / (MIDDLE - 2) as f64;

/// The classes of a pass: class `n` is centred on the difference `(n − MIDDLE + aligned)·width` of logits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub draft_max: f32,
    pub target_max: f32,
    /// Classes per unit of log-ratio.
    pub per_width: f32,
    aligned: i32,
}

impl Grid {
    pub fn new(k: usize, draft_max: f32, target_max: f32) -> Self {
        let per_width = Edges::width(DEFAULT_CLASSES, k).max(MIN_WIDTH).recip() as f32;
        let aligned = ((f64::from(draft_max) - f64::from(target_max)) * f64::from(per_width)).round();
        // Rounding by `ROUND` works below 2²². Further off no difference is inside the classes, and the tokens are
        // counted by their own log-ratio.
        Grid { draft_max, target_max, per_width, aligned: aligned.clamp(-2e6, 2e6) as i32 }
    }

    pub fn width(self) -> f64 {
        1.0 / f64::from(self.per_width)
    }

    /// The difference of logits, before normalisation, that a class is centred on.
    pub fn middle(self, class: usize) -> f64 {
        f64::from(class as i32 - MIDDLE + self.aligned) * self.width()
    }

    /// The class of a difference; `None` outside the classes and for NaN.
    pub fn class(self, d: f32) -> Option<usize> {
        let class = (d * self.per_width + ROUND).to_bits().wrapping_sub(self.first_bits()) as usize;
        (class < COUNTED).then_some(class)
    }

    /// Whether a token whose difference is in no class counts as below them: without draft mass, or rather the target's.
    pub fn is_below(self, draft: f32, d: f32) -> bool {
        draft == f32::NEG_INFINITY || f64::from(d) < f64::from(self.draft_max) - f64::from(self.target_max)
    }

    /// The bits of [`ROUND`] plus the number of class 0. Where the sum of a number and `ROUND` is outside the classes,
    /// infinite or NaN, its bits are too.
    #[inline(always)]
    pub fn first_bits(self) -> u32 {
        ROUND.to_bits().wrapping_add_signed(self.aligned - MIDDLE)
    }
}
