//! Drawing from a residual: whole blocks by f32 sums, the one block in which the token lies in f64.

use std::ops::ControlFlow;

use super::exponentials::BLOCK;
use super::grid::Grid;
use super::logits::LogitPair;
use crate::pmf::Token;
use crate::problem::{Band, Excess, Laws, for_each_token};
use crate::simd::{self, Kernel, LANES, exp2, mul_add, sum_of_lanes};

impl LogitPair<'_> {
    /// [`Laws::draw`] from a band that ends where cells do: from the end of the vocabulary that is nearer to the token, if
    /// the total says which.
    pub(super) fn draw_by_blocks(
        &self,
        band: Option<&Band>,
        threshold: f64,
        total: f64,
        mass: &dyn Fn(f64, f64) -> f64,
        estimate: &Excess,
    ) -> Option<Token> {
        let whole = self.draft.len() / BLOCK;
        let is_last = threshold > 0.5 * total;
        let mut skip = self.skip(band, estimate);
        skip.from_end = is_last;
        skip.threshold = if is_last { total - threshold } else { threshold };
        // What is no whole block is the first stretch from the end.
        if is_last && !self.draft.len().is_multiple_of(BLOCK) {
            let found = self.draw_in_block(band, whole, &skip, mass);
            if found.is_enough {
                return found.token;
            }
            skip.cumulative += found.sum;
        }
        // The block in which the sum of the estimates passes the threshold, and there the token in f64.
        while skip.done < whole {
            (skip.done, skip.cumulative) = skip.over(band);
            if skip.done < whole {
                let block = if is_last { whole - 1 - skip.done } else { skip.done };
                if let Some(token) = self.draw_in_block(band, block, &skip, mass).token {
                    return Some(token);
                }
                skip.done += 1;
            }
        }
        // Rounding kept the sum below the threshold, or the token is in what is no whole block: the last of any mass in the
        // order of the sum.
        let all = Skip { threshold: f64::INFINITY, ..skip };
        let mut blocks = 0..self.draft.len().div_ceil(BLOCK);
        let in_block = |block| self.draw_in_block(band, block, if block == whole { &skip } else { &all }, mass).token;
        if is_last { blocks.find_map(in_block) } else { blocks.rev().find_map(in_block) }
    }

    /// [`Laws::total`], whole blocks in f32.
    pub(super) fn total_by_blocks(&self, band: Option<&Band>, excess: &Excess) -> f64 {
        let (whole, mut total) = self.skip(band, excess).over(band);
        let rest = LogitPair { draft: &self.draft[whole * BLOCK..], target: &self.target[whole * BLOCK..], ..*self };
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
            draft: self.draft.as_chunks().0,
            target: self.target.as_chunks().0,
            grid: self.grid,
            within: band.map_or((f32::NEG_INFINITY, f32::INFINITY), |band| self.rounded_within(band)),
            references: (draft_ref, target_ref),
            of_q: (excess.of_q * scale_q) as f32,
            of_p: (excess.of_p * scale_p) as f32,
            least: (excess.least * scale_q) as f32,
            from_end: false,
            done: 0,
            cumulative: 0.0,
            threshold: f64::INFINITY,
        }
    }

    /// Goes through a block in the order of the pass, the tokens of the band in f64.
    fn draw_in_block(
        &self,
        band: Option<&Band>,
        block: usize,
        skip: &Skip<'_, true>,
        mass: &dyn Fn(f64, f64) -> f64,
    ) -> Found {
        let start = block * BLOCK;
        let end = (start + BLOCK).min(self.draft.len());
        let block = LogitPair { draft: &self.draft[start..end], target: &self.target[start..end], ..*self };
        let mut found = Found { token: None, sum: 0.0, is_enough: false };
        block.blocks(&mut |_, p, q| {
            for i in 0..p.len() {
                let i = if skip.from_end { p.len() - 1 - i } else { i };
                let (p, q) = (p[i], q[i]);
                if band.is_none_or(|band| band.cells.contains(&block.cell(i))) && mass(p, q) > 0.0 {
                    found.sum += mass(p, q);
                    found.token = Some((start + i) as Token);
                    if skip.is_enough(skip.cumulative + found.sum) {
                        found.is_enough = true;
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        });
        found
    }
}

/// What a block holds.
struct Found {
    /// The token at which the sum reached the threshold, or the last of any mass.
    token: Option<Token>,
    /// The sum of the masses up to the token.
    sum: f64,
    is_enough: bool,
}

/// Passes over whole blocks of tokens, from the start or from the end, until the sum of their [`Excess`], by exponentials
/// in f32, reaches the threshold. Returns how many blocks come before the one where it does, and the sum before that.
#[derive(Clone, Copy)]
struct Skip<'a, const BAND: bool> {
    draft: &'a [[f32; BLOCK]],
    target: &'a [[f32; BLOCK]],
    grid: Grid,
    /// If `BAND`, the differences of the tokens to add up, as [`LogitPair::rounded_within`] gives them.
    within: (f32, f32),
    /// What the logits of each row are taken less: the logarithms of the denominators, in f32.
    references: (f32, f32),
    of_q: f32,
    of_p: f32,
    least: f32,
    from_end: bool,
    /// The blocks passed over already.
    done: usize,
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
        let Skip { draft, target, grid, within, references, of_q, of_p, least, .. } = self;
        let Skip { from_end, done, cumulative, threshold, .. } = self;
        Skip { draft, target, grid, within, references, of_q, of_p, least, from_end, done, cumulative, threshold }
    }
}

impl<const BAND: bool> Skip<'_, BAND> {
    /// Whether the sum has reached the threshold. From the end it is the sum with the token, less the total: a token that
    /// starts at the threshold from the start ends at it from the end.
    #[inline(always)]
    fn is_enough(&self, sum: f64) -> bool {
        if self.from_end { sum >= self.threshold } else { sum > self.threshold }
    }
}

impl<const BAND: bool> Kernel for Skip<'_, BAND> {
    type Output = (usize, f64);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (usize, f64) {
        use std::f32::consts::LOG2_E;
        let mut cumulative = self.cumulative;
        let count = self.draft.len();
        for done in self.done..count {
            let block = if self.from_end { count - 1 - done } else { done };
            let (draft, target) = (&self.draft[block], &self.target[block]);
            let mut sums = [0f32; LANES];
            for (draft, target) in draft.as_chunks::<LANES>().0.iter().zip(target.as_chunks::<LANES>().0) {
                for j in 0..LANES {
                    let p = exp2::<FMA>((draft[j] - self.references.0) * LOG2_E);
                    let q = exp2::<FMA>((target[j] - self.references.1) * LOG2_E);
                    let mass = simd::max(mul_add::<FMA>(p, self.of_p, q * self.of_q), q * self.least);
                    let rounded = self.grid.rounded(draft[j] - target[j]);
                    let above = if rounded >= self.within.0 { mass } else { 0.0 };
                    let within = if rounded < self.within.1 { above } else { 0.0 };
                    sums[j] += if BAND { within } else { mass };
                }
            }
            let sum = sum_of_lanes(sums);
            if self.is_enough(cumulative + sum) {
                return (done, cumulative);
            }
            cumulative += sum;
        }
        (count, cumulative)
    }
}
