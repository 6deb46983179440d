//! The classes of differences of logits that the pass counts in.

use crate::classes::Edges;
use crate::optimal::DEFAULT_CLASSES;
use crate::simd::ROUND;

/// The number of classes that the pass counts in.
pub(super) const COUNTED: usize = 4096;

/// Half of [`COUNTED`]: the class of the difference that the grid is centred on.
const MIDDLE: i32 = COUNTED as i32 / 2;

/// The finest class width: half of the classes span 22. The pass does not know the normalisers yet. Counted from the rows'
/// largest logits, the log-ratio is off by at most ln 2²⁰ < 14, and the coupling looks at `[−ln 64, 8]`.
const MIN_WIDTH: f64 = 22.0 / (MIDDLE - 2) as f64;

/// The log-ratios that the couplings look at, however many drafts: from below `1/64` with the headroom of the path
/// coupling to above the highest edge.
const LOOKED_AT: (f64, f64) = (-10.2, 8.1);

/// The classes of a pass: class `n` is centred on the difference `(n − MIDDLE + aligned)·width` of logits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// The difference of logits that it is centred on, but for rounding.
    centre: f64,
    /// Classes per unit of log-ratio.
    pub per_width: f32,
    aligned: i32,
    /// What [`Grid::rounded`] adds: [`ROUND`], and the distance of class 0 from the difference 0.
    pub magic: f32,
}

impl Grid {
    /// The grid for `k` drafts around a difference of logits.
    pub fn new(k: usize, centre: f64) -> Self {
        let per_width = Edges::width(DEFAULT_CLASSES, k).max(MIN_WIDTH).recip() as f32;
        // Even: a difference half-way between two classes goes to the same one wherever the grid is centred, since adding
        // `ROUND` rounds it to the even number. Rows in few bits have many such differences.
        let aligned = 2.0 * (0.5 * centre * f64::from(per_width)).round();
        // Rounding by `ROUND` works below 2²². Further off no difference is inside the classes, and the tokens are
        // counted by their own log-ratio.
        let aligned = aligned.clamp(-2e6, 2e6) as i32;
        Grid { centre, per_width, aligned, magic: ROUND + (MIDDLE - aligned) as f32 }
    }

    pub fn width(self) -> f64 {
        1.0 / f64::from(self.per_width)
    }

    /// The difference of logits that it is centred on.
    pub fn centre(self) -> f64 {
        self.centre
    }

    /// The difference of logits, before normalisation, that a class is centred on.
    pub fn middle(self, class: usize) -> f64 {
        f64::from(class as i32 - MIDDLE + self.aligned) * self.width()
    }

    /// Whether the classes hold all log-ratios that matter, if the normalisers differ by `offset`.
    pub fn reaches(self, offset: f64) -> bool {
        self.middle(0) - offset <= LOOKED_AT.0 && self.middle(COUNTED - 1) - offset >= LOOKED_AT.1
    }

    /// A difference rounded to its class, as a number that grows with it: class `n` is [`ROUND`] and `n`, to be read from
    /// the low bits. What is outside the classes, infinite or NaN, differs from `ROUND` in other bits too. Not fused: all
    /// copies of a kernel must agree.
    #[inline(always)]
    pub fn rounded(self, d: f32) -> f32 {
        d * self.per_width + self.magic
    }

    /// The class of a difference; `None` outside the classes and for NaN.
    pub fn class(self, d: f32) -> Option<usize> {
        let class = (self.rounded(d).to_bits() ^ ROUND.to_bits()) as usize;
        (class < COUNTED).then_some(class)
    }

    /// The least [`Grid::rounded`] of a class.
    pub fn first_of(class: usize) -> f32 {
        ROUND + class as f32
    }

    /// Whether a token whose difference is in no class counts as below them: without draft mass, or rather the target's.
    pub fn is_below(self, draft: f32, d: f32) -> bool {
        draft == f32::NEG_INFINITY || f64::from(d) < self.centre
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_tie_goes_does_not_depend_on_the_centre() {
        // Classes of 22/2046: every other half is the end of one.
        for k in [1, 2, 8] {
            let at_zero = Grid::new(k, 0.0);
            for centre in (-40..40).map(|i| f64::from(i) * 0.037) {
                let grid = Grid::new(k, centre);
                for half in -12..12 {
                    let d = half as f32 / 2.0;
                    let number = |grid: Grid| grid.class(d).map(|class| class as i32 + grid.aligned);
                    assert_eq!(number(grid), number(at_zero), "{d} with {k} drafts around {centre}");
                }
            }
        }
    }
}
