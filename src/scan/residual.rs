//! Drawing from a residual: whole blocks by f32 sums, the one block in which the token lies in f64.

use std::ops::ControlFlow;

use super::exponentials::BLOCK;
use super::grid::Grid;
use super::logits::LogitPair;
use crate::pmf::Token;
use crate::problem::{Band, Excess, Laws, for_each_token};
use crate::simd::{self, Kernel, LANES, exp2, mul_add, sum_of_lanes};

impl LogitPair<'_> {
    /// [`Laws::draw`] from a band that ends where cells do.
    pub(super) fn draw_by_blocks(
        &self,
        band: Option<&Band>,
        threshold: f64,
        mass: &dyn Fn(f64, f64) -> f64,
        estimate: &Excess,
    ) -> Option<Token> {
        let skip = self.skip(band, estimate);
        // The block in which the sum of the estimates passes the threshold, and there the token in f64.
        let (mut start, mut cumulative) = (0, 0.0);
        while start < self.draft.len() {
            (start, cumulative) = Skip { start, cumulative, threshold, ..skip }.over(band);
            if let Some(token) = self.draw_in_block(band, start, threshold - cumulative, mass) {
                return Some(token);
            }
            start += BLOCK;
        }
        // Rounding kept the sum below the threshold: the last token of any mass.
        let blocks = (0..self.draft.len()).step_by(BLOCK).rev();
        blocks.into_iter().find_map(|start| self.draw_in_block(band, start, f64::INFINITY, mass))
    }

    /// [`Laws::total`], whole blocks in f32.
    pub(super) fn total_by_blocks(&self, band: Option<&Band>, excess: &Excess) -> f64 {
        let (start, mut total) = self.skip(band, excess).over(band);
        let rest = LogitPair { draft: &self.draft[start..], target: &self.target[start..], ..*self };
        for_each_token(&rest, |token, p, q| {
            if band.is_none_or(|band| band.cells.contains(&rest.cell(token as usize))) {
                total += excess.of(p, q);
            }
        });
        total
    }

    /// The pass over all blocks, for the tokens of a band.
    fn skip(&self, band: Option<&Band>, excess: &Excess) -> Skip<'_, true> {
        let (draft_ref, target_ref) = (self.draft_log_sum as f32, self.target_log_sum as f32);
        let scale_p = (f64::from(draft_ref) - self.draft_log_sum).exp();
        let scale_q = (f64::from(target_ref) - self.target_log_sum).exp();
        Skip {
            draft: self.draft,
            target: self.target,
            grid: self.grid,
            within: band.map_or((f32::NEG_INFINITY, f32::INFINITY), |band| self.rounded_within(band)),
            references: (draft_ref, target_ref),
            of_q: (excess.of_q * scale_q) as f32,
            of_p: (excess.of_p * scale_p) as f32,
            least: (excess.least * scale_q) as f32,
            start: 0,
            cumulative: 0.0,
            threshold: f64::INFINITY,
        }
    }

    /// The token of a block, if it is in the band, at which the sum of the masses exceeds the threshold, or the last of
    /// any mass.
    fn draw_in_block(
        &self,
        band: Option<&Band>,
        start: usize,
        threshold: f64,
        mass: &dyn Fn(f64, f64) -> f64,
    ) -> Option<Token> {
        let end = (start + BLOCK).min(self.draft.len());
        let block = LogitPair { draft: &self.draft[start..end], target: &self.target[start..end], ..*self };
        let (mut cumulative, mut found) = (0.0, None);
        block.blocks(&mut |_, p, q| {
            for (i, (&p, &q)) in p.iter().zip(q).enumerate() {
                if band.is_none_or(|band| band.cells.contains(&block.cell(i))) && mass(p, q) > 0.0 {
                    cumulative += mass(p, q);
                    found = Some((start + i) as Token);
                    if threshold < cumulative {
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        });
        found
    }
}

/// Passes over blocks of tokens as long as the sum of their [`Excess`], by exponentials in f32, is not above the
/// threshold. Returns the start of the block where it is, or of the rest that is no whole block, and the sum before it.
#[derive(Clone, Copy)]
struct Skip<'a, const BAND: bool> {
    draft: &'a [f32],
    target: &'a [f32],
    grid: Grid,
    /// If `BAND`, the differences of the tokens to add up, as [`LogitPair::rounded_within`] gives them.
    within: (f32, f32),
    /// What the logits of each row are taken less: the logarithms of the denominators, in f32.
    references: (f32, f32),
    of_q: f32,
    of_p: f32,
    least: f32,
    start: usize,
    cumulative: f64,
    threshold: f64,
}

impl<'a> Skip<'a, true> {
    /// Runs it, over all tokens if there is no band.
    fn over(self, band: Option<&Band>) -> (usize, f64) {
        if band.is_some() { simd::run(self) } else { simd::run(self.of_all()) }
    }

    /// The same of all tokens, whatever their difference.
    fn of_all(self) -> Skip<'a, false> {
        let Skip { draft, target, grid, within, references, of_q, of_p, least, start, cumulative, threshold } = self;
        Skip { draft, target, grid, within, references, of_q, of_p, least, start, cumulative, threshold }
    }
}

impl<const BAND: bool> Kernel for Skip<'_, BAND> {
    type Output = (usize, f64);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (usize, f64) {
        use std::f32::consts::LOG2_E;
        let (draft, _) = self.draft[self.start..].as_chunks::<BLOCK>();
        let (target, _) = self.target[self.start..].as_chunks::<BLOCK>();
        let (mut start, mut cumulative) = (self.start, self.cumulative);
        for (draft, target) in draft.iter().zip(target) {
            let mut sums = [0f32; LANES];
            for (draft, target) in draft.as_chunks::<LANES>().0.iter().zip(target.as_chunks::<LANES>().0) {
                for j in 0..LANES {
                    let p = exp2::<FMA>((draft[j] - self.references.0) * LOG2_E);
                    let q = exp2::<FMA>((target[j] - self.references.1) * LOG2_E);
                    let mass = simd::max(mul_add::<FMA>(p, self.of_p, q * self.of_q), q * self.least);
                    let rounded = self.grid.rounded(draft[j] - target[j]);
                    let inside = !BAND || (rounded >= self.within.0) & (rounded < self.within.1);
                    sums[j] += if inside { mass } else { 0.0 };
                }
            }
            let sum = sum_of_lanes(sums);
            if self.threshold < cumulative + sum {
                break;
            }
            cumulative += sum;
            start += BLOCK;
        }
        (start, cumulative)
    }
}
