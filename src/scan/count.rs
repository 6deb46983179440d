//! The pass over the two rows in f32 vectors: the masses of each class.

use super::exponentials::BLOCK;
use super::grid::{COUNTED, Grid};
use crate::simd::{Kernel, LANES, ROUND, exp2_of_fraction, max, mul_add, scaled, sum_of_lanes};

/// The pass. Afterwards `counts[n]` holds, for class `n`, the sums of `e^(draft − reference)` and of
/// `e^(draft − reference − y)`, `y` being how far a difference is above its class's middle.
pub(super) struct Count<'a> {
    pub draft: &'a [f32],
    pub target: &'a [f32],
    pub grid: Grid,
    /// The power of two that draft exponentials are taken relative to: that of a large one, not above the largest.
    pub exponent: f32,
    pub counts: &'a mut [[f64; 2]; COUNTED],
}

/// What a pass leaves besides the counts.
pub(super) struct Pass {
    /// The logarithm of what the exponentials were taken relative to.
    pub reference: f64,
    /// The starts of the blocks with a token whose difference is outside the classes or not finite: not counted.
    pub strays: Vec<usize>,
}

/// The order in which the masses of [`LANES`] tokens are stored: what interleaves two vectors with fewest shuffles.
const STORED: [usize; LANES] = [0, 2, 4, 6, 1, 3, 5, 7];

/// The least power of two of an exponential, relative to the reference: what is smaller counts as that.
const LEAST: f32 = -125.0;

/// How far above the reference a power of two is noticed to be. Below, sums are finite in f32.
const HIGHEST: u32 = 96;

/// The exponentials of a block, not yet added to the counts.
#[derive(Clone, Copy)]
struct Block {
    /// [`Grid::rounded`], as bits.
    rounded: [u32; BLOCK],
    masses: [[f32; 2]; BLOCK],
}

/// What was seen of a block as a whole.
struct Seen {
    /// The first token's [`Grid::rounded`], as bits, and where another token's is different.
    first: u32,
    differ: u32,
    /// Not below 256 if a power of two is above [`HIGHEST`].
    rise: u32,
    /// The sums of the masses.
    sums: [f64; 2],
}

impl Block {
    const EMPTY: Block = Block { rounded: [ROUND.to_bits(); BLOCK], masses: [[0.0; 2]; BLOCK] };

    /// Adds the masses of [`LANES`] tokens to their classes.
    #[inline(always)]
    fn add(rounded: &[u32; LANES], masses: &[[f32; 2]; LANES], counts: &mut [[f64; 2]; COUNTED]) {
        for (token, mass) in STORED.into_iter().zip(masses) {
            let count = &mut counts[rounded[token] as usize & (COUNTED - 1)];
            *count = [count[0] + f64::from(mass[0]), count[1] + f64::from(mass[1])];
        }
    }

    #[inline(always)]
    fn add_all(&self, counts: &mut [[f64; 2]; COUNTED]) {
        for (rounded, masses) in self.rounded.as_chunks().0.iter().zip(self.masses.as_chunks().0) {
            Self::add(rounded, masses, counts);
        }
    }

    /// Makes the masses of tokens outside the classes nothing.
    fn drop_strays(&mut self) {
        let groups = self.rounded.as_chunks::<LANES>().0.iter().zip(self.masses.as_chunks_mut::<LANES>().0);
        for (rounded, masses) in groups {
            for (token, mass) in STORED.into_iter().zip(masses) {
                if (rounded[token] ^ ROUND.to_bits()) as usize >= COUNTED {
                    *mass = [0.0; 2];
                }
            }
        }
    }
}

/// What a token is counted by: the same for all of a pass.
#[derive(Clone, Copy)]
struct Unit {
    grid: Grid,
    width: f32,
    round: f32,
    lowest: f32,
}

/// One token, as counted.
struct Token {
    /// [`Grid::rounded`].
    rounded: f32,
    /// The power of two of its draft exponential, relative to the reference, as a number that ends in it.
    power: f32,
    p: f32,
    q: f32,
}

impl Unit {
    #[inline(always)]
    fn new(grid: Grid, exponent: f32) -> Self {
        let lowest = (exponent + LEAST) / std::f32::consts::LOG2_E;
        Unit { grid, width: 1.0 / grid.per_width, round: ROUND - exponent, lowest }
    }

    #[inline(always)]
    fn masses<const FMA: bool>(self, draft: f32, target: f32) -> Token {
        use std::f32::consts::LOG2_E;
        // ln 2 in two parts: n·LN2_HIGH is exact for |n| < 2¹².
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let Unit { grid, width, round, lowest } = self;
        let d = draft - target;
        let rounded = grid.rounded(d);
        // e^(−y) to the second order: y is at most half a class, and y³/6 below 4e-8.
        let share = mul_add::<FMA>(d, grid.per_width, grid.magic - rounded);
        let v = mul_add::<FMA>(mul_add::<FMA>(share, 0.5 * width * width, -width), share, 1.0);
        // e^draft = 2^n·2^f. Nothing is subtracted from the logit first, and nothing rounded but f.
        let x = max(draft, lowest);
        let power = mul_add::<FMA>(x, LOG2_E, round);
        let n = power - round;
        let f = if FMA { mul_add::<FMA>(x, LOG2_E, -n) } else { (x - n * LN2_HIGH - n * LN2_LOW) * LOG2_E };
        let p = scaled(exp2_of_fraction::<FMA>(f), power);
        Token { rounded, power, p, q: p * v }
    }
}

/// What one token was counted as in a pass: the sums of `e^(draft − reference)` and `e^(draft − reference − y)` had this
/// of it, to the last bit.
pub(super) struct CountOne {
    pub draft: f32,
    pub target: f32,
    pub grid: Grid,
    pub exponent: f32,
}

impl Kernel for CountOne {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (f32, f32) {
        let token = Unit::new(self.grid, self.exponent).masses::<FMA>(self.draft, self.target);
        (token.p, token.q)
    }
}

/// Computes a block. Meanwhile adds the block before to the counts if `ADD`: that is work for other units of the
/// processor. Adds up the masses if `SUM`.
struct Look<'a, const ADD: bool, const SUM: bool> {
    draft: &'a [f32; BLOCK],
    target: &'a [f32; BLOCK],
    grid: Grid,
    exponent: f32,
    into: &'a mut Block,
    before: &'a Block,
    counts: &'a mut [[f64; 2]; COUNTED],
}

impl<const ADD: bool, const SUM: bool> Look<'_, ADD, SUM> {
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Seen {
        let Look { draft, target, grid, exponent, into, before, counts } = self;
        let unit = Unit::new(grid, exponent);
        let first = grid.rounded(draft[0] - target[0]).to_bits();
        let (mut differ, mut rise) = ([0; LANES], [0; LANES]);
        let mut sums = [[0.0; LANES]; 2];
        let (draft, target) = (draft.as_chunks::<LANES>().0, target.as_chunks::<LANES>().0);
        let (rounded_of, masses_of) = (into.rounded.as_chunks_mut::<LANES>().0, into.masses.as_chunks_mut::<LANES>().0);
        let (rounded_before, masses_before) =
            (before.rounded.as_chunks::<LANES>().0, before.masses.as_chunks::<LANES>().0);
        for i in 0..BLOCK / LANES {
            let (draft, target) = (&draft[i], &target[i]);
            let mut all = [0; LANES];
            let (mut p, mut q) = ([0f32; LANES], [0f32; LANES]);
            for j in 0..LANES {
                let token = unit.masses::<FMA>(draft[j], target[j]);
                all[j] = token.rounded.to_bits();
                differ[j] |= all[j] ^ first;
                rise[j] |= token.power.to_bits().wrapping_sub(ROUND.to_bits() + HIGHEST - 255);
                (p[j], q[j]) = (token.p, token.q);
                if SUM {
                    sums[0][j] += p[j];
                    sums[1][j] += q[j];
                }
            }
            rounded_of[i] = all;
            // Written out in the order of `STORED`, or the compiler does not find the shuffles.
            let masses = &mut masses_of[i];
            for j in 0..LANES / 2 {
                masses[j] = [p[2 * j], q[2 * j]];
            }
            for j in 0..LANES / 2 {
                masses[LANES / 2 + j] = [p[2 * j + 1], q[2 * j + 1]];
            }
            if ADD {
                Block::add(&rounded_before[i], &masses_before[i], counts);
            }
        }
        let any = |bits: [u32; LANES]| bits.into_iter().fold(0, |a, b| a | b);
        Seen { first, differ: any(differ), rise: any(rise), sums: sums.map(sum_of_lanes) }
    }
}

/// What is left to do for the block before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Its masses are to be added to their classes.
    Waits,
    /// Nothing: all its tokens were in one class. The next one is likely like it.
    WasAlike,
    Nothing,
}

impl Kernel for Count<'_> {
    type Output = Option<Pass>;

    /// The whole blocks. `None` if a draft logit is too far above the reference.
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Option<Pass> {
        let (draft, _) = self.draft.as_chunks::<BLOCK>();
        let (target, _) = self.target.as_chunks::<BLOCK>();
        let Count { grid, exponent, counts, .. } = self;
        let mut strays = Vec::new();
        let mut blocks = [Block::EMPTY; 2];
        let [into, before] = &mut blocks;
        let (mut into, mut before) = (into, before);
        let mut state = Before::Nothing;
        for (i, (draft, target)) in draft.iter().zip(target).enumerate() {
            let seen = match state {
                Before::Waits => {
                    Look::<true, false> { draft, target, grid, exponent, into, before, counts }.run::<FMA>()
                }
                Before::WasAlike => {
                    Look::<false, true> { draft, target, grid, exponent, into, before, counts }.run::<FMA>()
                }
                Before::Nothing => {
                    Look::<false, false> { draft, target, grid, exponent, into, before, counts }.run::<FMA>()
                }
            };
            if seen.rise >= 256 {
                return None;
            }
            let are_inside = ((seen.differ | (seen.first ^ ROUND.to_bits())) as usize) < COUNTED;
            if are_inside && seen.differ == 0 {
                // Equal classes one after the other would wait for each other's sums: they are added up first.
                let sums = if state == Before::WasAlike {
                    seen.sums
                } else {
                    into.masses
                        .iter()
                        .fold([0.0; 2], |sum, mass| [sum[0] + f64::from(mass[0]), sum[1] + f64::from(mass[1])])
                };
                let count = &mut counts[seen.first as usize & (COUNTED - 1)];
                *count = [count[0] + sums[0], count[1] + sums[1]];
                state = Before::WasAlike;
                continue;
            }
            if !are_inside {
                strays.push(i * BLOCK);
                into.drop_strays();
            }
            std::mem::swap(&mut into, &mut before);
            state = Before::Waits;
        }
        if state == Before::Waits {
            before.add_all(counts);
        }
        // log₂ e is rounded to f32. With one rounding for f that makes every logit a share of 1.3e-8 larger, which is
        // nothing for their differences; but the reference may be far from 0.
        let unit = if FMA { 1.0 / f64::from(std::f32::consts::LOG2_E) } else { std::f64::consts::LN_2 };
        Some(Pass { reference: f64::from(exponent) * unit, strays })
    }
}
