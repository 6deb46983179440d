//! Two rows of f32 logits as laws.

use std::ops::ControlFlow;

use super::count::CountOne;
use super::exponentials::{BLOCK, Masses, Probabilities};
use super::find::tokens_with;
use super::grid::{COUNTED, Grid};
use super::normalise::InVectors;
use super::softmax::Softmax;
use crate::pmf::Token;
use crate::problem::{Band, Counted, Excess, Laws, Visit, draw_one_by_one};
use crate::simd;

/// Two rows of f32 logits of one position, as laws: `p` and `q` are their softmaxes.
#[derive(Clone, Copy, Debug)]
pub struct LogitPair<'a> {
    pub(super) draft: &'a [f32],
    pub(super) target: &'a [f32],
    /// The logarithms of the softmaxes' denominators.
    pub(super) draft_log_sum: f64,
    pub(super) target_log_sum: f64,
    /// How the tokens were counted.
    pub(super) grid: Grid,
    pub(super) pass: Option<InVectors>,
    /// The cell of grid class −1 in the ratio grid of the selector, and that grid's last cell.
    pub(super) first_cell: i64,
    pub(super) last_cell: i64,
}

impl<'a> LogitPair<'a> {
    /// Two rows of one length whose softmaxes are known. For rules that ask for masses and blocks: no token was counted,
    /// and there are no bands.
    pub(crate) fn new(draft: (&'a [f32], &Softmax), target: (&'a [f32], &Softmax)) -> Self {
        LogitPair {
            draft: draft.0,
            target: target.0,
            draft_log_sum: draft.1.log_sum,
            target_log_sum: target.1.log_sum,
            grid: Grid::new(1, f64::from(draft.1.max) - f64::from(target.1.max)),
            pass: None,
            first_cell: 0,
            last_cell: 0,
        }
    }
}

impl LogitPair<'_> {
    /// The cell that a token was counted in.
    pub(super) fn cell(&self, token: usize) -> usize {
        let d = self.draft[token] - self.target[token];
        match self.grid.class(d) {
            Some(class) => (self.first_cell + class as i64 + 1).clamp(0, self.last_cell) as usize,
            None if self.grid.is_below(self.draft[token], d) => 0,
            None => self.last_cell as usize,
        }
    }

    /// The differences, as [`Grid::rounded`] has them, of the tokens counted in the cells of a band: from the first number
    /// up to and without the second.
    pub(super) fn rounded_within(&self, band: &Band) -> (f32, f32) {
        let first = |cell: usize| {
            let class = (cell as i64 - self.first_cell - 1).clamp(0, COUNTED as i64);
            Grid::first_of(class as usize)
        };
        let (from, to) = (band.cells.start, band.cells.end);
        (
            if from == 0 { f32::NEG_INFINITY } else { first(from) },
            if to as i64 > self.last_cell { f32::INFINITY } else { first(to) },
        )
    }
}

impl Laws for LogitPair<'_> {
    fn vocab(&self) -> usize {
        self.draft.len()
    }

    fn masses(&self, token: Token) -> (f64, f64) {
        let place = token as usize;
        simd::run(Masses {
            draft: f64::from(self.draft[place]) - self.draft_log_sum,
            target: f64::from(self.target[place]) - self.target_log_sum,
        })
    }

    fn counted(&self, token: Token) -> Option<Counted> {
        let place = token as usize;
        let InVectors { exponent, .. } = self.pass.filter(|pass| place < pass.whole)?;
        let (draft, target) = (self.draft[place], self.target[place]);
        let class = self.grid.class(draft - target)?;
        let cell = usize::try_from(self.first_cell + class as i64 + 1).ok()?;
        (cell <= self.last_cell as usize).then(|| {
            let (p, q) = simd::run(CountOne { draft, target, grid: self.grid, exponent });
            Counted { cell, over_middle: f64::from(q) / f64::from(p) }
        })
    }

    /// The normalisers are sums of f32 exponentials.
    fn accuracy(&self) -> f64 {
        1e-6
    }

    fn draw(
        &self,
        band: Option<&Band>,
        threshold: f64,
        total: f64,
        mass: &dyn Fn(f64, f64) -> f64,
        estimate: &Excess,
    ) -> Option<Token> {
        if band.is_some_and(|band| band.ends_of_cells != (true, true)) {
            return draw_one_by_one(self, band, threshold, mass);
        }
        self.draw_by_blocks(band, threshold, total, mass, estimate)
    }

    fn total(&self, band: Option<&Band>, excess: &Excess) -> f64 {
        self.total_by_blocks(band, excess)
    }

    fn in_band(&self, band: &Band, visit: &mut dyn FnMut(Token, f64, f64) -> ControlFlow<()>) {
        // By the difference of the logits first, which needs no exponential; with room for its rounding in f32.
        let offset = self.draft_log_sum - self.target_log_sum;
        let room = 1e-4 + offset.abs() * f64::from(f32::EPSILON);
        let low = band.from.map_or(f64::NEG_INFINITY, |from| offset - from.ln() - room) as f32;
        let high = band.to.map_or(f64::INFINITY, |to| offset - to.ln() + room) as f32;
        let _ = tokens_with(self.draft, self.target, (low, high), |token| {
            let (p, q) = self.masses(token as Token);
            if band.contains_counted(self.cell(token), p, q) {
                visit(token as Token, p, q)
            } else {
                ControlFlow::Continue(())
            }
        });
    }

    fn blocks(&self, visit: &mut Visit<'_>) {
        let (mut p, mut q) = ([0.0; BLOCK], [0.0; BLOCK]);
        for (i, (draft, target)) in self.draft.chunks(BLOCK).zip(self.target.chunks(BLOCK)).enumerate() {
            simd::run(Probabilities { logits: draft, log_sum: self.draft_log_sum, into: &mut p });
            simd::run(Probabilities { logits: target, log_sum: self.target_log_sum, into: &mut q });
            if visit(i * BLOCK, &p[..draft.len()], &q[..draft.len()]).is_break() {
                return;
            }
        }
    }
}
