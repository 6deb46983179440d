//! The inner loops, in AVX2 and fused multiply–adds where the processor has them.
//!
//! Compilers do not find the vectors of these loops dependably, and miss them by a factor of ten: the registers are
//! named here. Each function has a plain form, which says what it computes, for all other processors. Both add up in
//! the same order; they differ by the rounding of the fused operations.

// Calling functions that are compiled for more than the baseline, and reading eight numbers at a time.
#![allow(unsafe_code)]
// Indices say which register is meant.
#![allow(clippy::needless_range_loop)]

use crate::simd::mul_add;

/// Numbers in a register.
const LANES: usize = 8;

/// Outputs of a tile: two registers.
pub(super) const TILE: usize = 2 * LANES;

/// `[p][r][l] = Σ_i x[i][r]·panels[p][i][l]`, added up in the order of `i`.
pub(super) fn tile<const N: usize, const P: usize>(
    x: &[[f32; N]],
    panels: [&[[f32; TILE]]; P],
) -> [[[f32; TILE]; N]; P] {
    #[cfg(target_arch = "x86_64")]
    if avx2::is_there() {
        // SAFETY: the processor has AVX2 and FMA.
        return unsafe { avx2::tile(x, panels) };
    }
    let mut sums = [[[0.0; TILE]; N]; P];
    for (sums, panel) in sums.iter_mut().zip(panels) {
        for (x, w) in x.iter().zip(panel) {
            for (sums, &x) in sums.iter_mut().zip(x) {
                for (sum, &w) in sums.iter_mut().zip(w) {
                    *sum = mul_add::<false>(x, w, *sum);
                }
            }
        }
    }
    sums
}

/// `into[i] = scale·Σ_d query[d]·keys[at[i] + d]`.
pub(super) fn scores(query: &[f32], keys: &[f32], at: &[usize], scale: f32, into: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if avx2::is_there() {
        // SAFETY: the processor has AVX2 and FMA.
        return unsafe { avx2::scores(query, keys, at, scale, into) };
    }
    for (&at, into) in at.iter().zip(into) {
        let key = &keys[at..at + query.len()];
        let mut sums = [0.0; LANES];
        for (query, key) in query.chunks(LANES).zip(key.chunks(LANES)) {
            for ((sum, &q), &k) in sums.iter_mut().zip(query).zip(key) {
                *sum = mul_add::<false>(q, k, *sum);
            }
        }
        *into = add_up(sums) * scale;
    }
}

/// `into[d] = Σ_i shares[i]·values[at[i] + d]`, added up in the order of `i`.
pub(super) fn gather(values: &[f32], at: &[usize], shares: &[f32], into: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if avx2::is_there() {
        // SAFETY: the processor has AVX2 and FMA.
        return unsafe { avx2::gather(values, at, shares, into) };
    }
    into.fill(0.0);
    for (&at, &share) in at.iter().zip(shares) {
        for (into, &value) in into.iter_mut().zip(&values[at..]) {
            *into = mul_add::<false>(share, value, *into);
        }
    }
}

/// The sum of some lanes.
pub(super) fn add_up(s: [f32; LANES]) -> f32 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{__m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps};

    use super::{LANES, TILE, add_up};

    pub fn is_there() -> bool {
        std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
    }

    #[target_feature(enable = "avx2,fma")]
    fn load(from: &[f32; LANES]) -> __m256 {
        // SAFETY: eight numbers are there to be read, at any alignment.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[target_feature(enable = "avx2,fma")]
    fn numbers(register: __m256) -> [f32; LANES] {
        // SAFETY: a register is eight numbers, and any bits are a number.
        unsafe { std::mem::transmute(register) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn tile<const N: usize, const P: usize>(x: &[[f32; N]], panels: [&[[f32; TILE]]; P]) -> [[[f32; TILE]; N]; P] {
        let panels = panels.map(|panel| &panel[..x.len()]);
        let mut sums = [[[_mm256_setzero_ps(); 2]; N]; P];
        for (i, x) in x.iter().enumerate() {
            for p in 0..P {
                let (w, _) = panels[p][i].as_chunks::<LANES>();
                let (low, high) = (load(&w[0]), load(&w[1]));
                for r in 0..N {
                    let x = _mm256_set1_ps(x[r]);
                    sums[p][r][0] = _mm256_fmadd_ps(x, low, sums[p][r][0]);
                    sums[p][r][1] = _mm256_fmadd_ps(x, high, sums[p][r][1]);
                }
            }
        }
        let mut out = [[[0.0; TILE]; N]; P];
        for p in 0..P {
            for r in 0..N {
                out[p][r][..LANES].copy_from_slice(&numbers(sums[p][r][0]));
                out[p][r][LANES..].copy_from_slice(&numbers(sums[p][r][1]));
            }
        }
        out
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn scores(query: &[f32], keys: &[f32], at: &[usize], scale: f32, into: &mut [f32]) {
        let (query_blocks, query_rest) = query.as_chunks::<LANES>();
        for (&at, into) in at.iter().zip(into) {
            let (key_blocks, key_rest) = keys[at..at + query.len()].as_chunks::<LANES>();
            let mut sums = _mm256_setzero_ps();
            for (query, key) in query_blocks.iter().zip(key_blocks) {
                sums = _mm256_fmadd_ps(load(query), load(key), sums);
            }
            let mut sums = numbers(sums);
            for ((sum, &q), &k) in sums.iter_mut().zip(query_rest).zip(key_rest) {
                *sum = q.mul_add(k, *sum);
            }
            *into = add_up(sums) * scale;
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn gather(values: &[f32], at: &[usize], shares: &[f32], into: &mut [f32]) {
        /// Registers that are filled at a time.
        const BLOCK: usize = 4;

        let mut done = 0;
        while done + BLOCK * LANES <= into.len() {
            let mut sums = [_mm256_setzero_ps(); BLOCK];
            for (&at, &share) in at.iter().zip(shares) {
                let (values, _) = values[at + done..at + done + BLOCK * LANES].as_chunks::<LANES>();
                let share = _mm256_set1_ps(share);
                for b in 0..BLOCK {
                    sums[b] = _mm256_fmadd_ps(share, load(&values[b]), sums[b]);
                }
            }
            for b in 0..BLOCK {
                into[done + b * LANES..done + (b + 1) * LANES].copy_from_slice(&numbers(sums[b]));
            }
            done += BLOCK * LANES;
        }
        let rest = &mut into[done..];
        rest.fill(0.0);
        for (&at, &share) in at.iter().zip(shares) {
            for (into, &value) in rest.iter_mut().zip(&values[at + done..]) {
                *into = share.mul_add(value, *into);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: usize, len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn tiles_are_sums_of_products() {
        fn check<const N: usize, const P: usize>() {
            let (x, w) = (numbers(1, 9 * N), numbers(2, 9 * P * TILE));
            let ((x, _), (w, _)) = (x.as_chunks::<N>(), w.as_chunks::<TILE>());
            let panels = std::array::from_fn(|p| &w[p * 9..(p + 1) * 9]);
            for (p, tile) in tile::<N, P>(x, panels).iter().enumerate() {
                for r in 0..N {
                    for l in 0..TILE {
                        let exact: f64 = (0..9).map(|i| f64::from(x[i][r]) * f64::from(panels[p][i][l])).sum();
                        assert!((f64::from(tile[r][l]) - exact).abs() < 1e-5);
                    }
                }
            }
        }
        check::<1, 1>();
        check::<1, 4>();
        check::<2, 1>();
        check::<3, 1>();
        check::<6, 1>();
    }

    #[test]
    fn scores_and_means_are_sums_of_products() {
        for size in [2, 8, 10, 32, 50, 64] {
            let (query, cache) = (numbers(3, size), numbers(4, 20 * size));
            let at: Vec<usize> = [0, 1, 2, 7, 19].iter().map(|slot| slot * size).collect();
            let mut found = vec![0.0; at.len()];
            scores(&query, &cache, &at, 0.5, &mut found);
            for (&at, &score) in at.iter().zip(&found) {
                let exact: f64 = (0..size).map(|d| f64::from(query[d]) * f64::from(cache[at + d])).sum();
                assert!((f64::from(score) - 0.5 * exact).abs() < 1e-5);
            }
            let mut into = vec![f32::NAN; size];
            gather(&cache, &at, &found, &mut into);
            for (d, &x) in into.iter().enumerate() {
                let exact: f64 = at.iter().zip(&found).map(|(at, &s)| f64::from(s) * f64::from(cache[at + d])).sum();
                assert!((f64::from(x) - exact).abs() < 1e-5);
            }
        }
    }
}
