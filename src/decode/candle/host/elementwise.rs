//! What is done to the numbers of a row one by one.

use super::kernels::add_up;
use crate::simd::{self, Kernel, exp2, max, mul_add};

const LANES: usize = 8;

/// Rows over their root mean square, times the weights.
pub(super) fn rms_norm(x: &[f32], weights: &[f32], eps: f32) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    simd::run(RmsNorm { x, weights, eps, y: &mut y });
    y
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weights: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let width = self.weights.len();
        for (x, y) in self.x.chunks_exact(width).zip(self.y.chunks_exact_mut(width)) {
            let (blocks, rest) = x.as_chunks::<LANES>();
            let mut sums = [0.0f32; LANES];
            for block in blocks {
                for l in 0..LANES {
                    sums[l] = mul_add::<FMA>(block[l], block[l], sums[l]);
                }
            }
            let square = add_up(sums) + rest.iter().map(|x| x * x).sum::<f32>();
            let scale = 1.0 / (square / width as f32 + self.eps).sqrt();
            for ((y, &x), &weight) in y.iter_mut().zip(x).zip(self.weights) {
                *y = x * scale * weight;
            }
        }
    }
}

/// From rows of gates and what they let through, `[2 width]` each, to `silu(gate)·other`, `[width]` each.
pub(super) fn gated(gate_up: &[f32], width: usize) -> Vec<f32> {
    let mut y = vec![0.0; gate_up.len() / 2];
    simd::run(Gated { gate_up, width, y: &mut y });
    y
}

struct Gated<'a> {
    gate_up: &'a [f32],
    width: usize,
    y: &'a mut [f32],
}

impl Kernel for Gated<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        /// Beyond it the exponential overflows, and the gate is closed to the last bit anyway.
        const CLOSED: f32 = -126.0;

        let width = self.width;
        for (x, y) in self.gate_up.chunks_exact(2 * width).zip(self.y.chunks_exact_mut(width)) {
            let (gate, up) = x.split_at(width);
            for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
                let x = max(gate * std::f32::consts::LOG2_E, CLOSED);
                *y = gate / (1.0 + exp2::<FMA>(-x)) * up;
            }
        }
    }
}

/// `to += x`.
pub(super) fn add(to: &mut [f32], x: &[f32]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
}

/// Turns the pairs of a head, half of it apart, by their angles.
pub(super) fn turn(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_open_and_closed_where_they_should_be() {
        for gate in [-1e30f32, -200.0, -88.0, -20.0, -1.0, -1e-20, 0.0, 0.5, 3.0, 90.0, 1e30] {
            let exact = f64::from(gate) / (1.0 + (-f64::from(gate)).exp()) * 2.0;
            let found = f64::from(gated(&[gate, 2.0], 1)[0]);
            assert!((found - exact).abs() <= 1e-6 * exact.abs() + 1e-7, "{gate}: {found}, exactly {exact}");
        }
        assert!(gated(&[f32::NAN, 1.0], 1)[0].is_nan());
    }

    #[test]
    fn a_row_over_its_root_mean_square() {
        let x: Vec<f32> = (0..19).map(|i| i as f32 - 7.0).collect();
        let weights: Vec<f32> = (0..19).map(|i| 1.0 + i as f32).collect();
        let square: f32 = x.iter().map(|x| x * x).sum::<f32>() / 19.0;
        for (i, y) in rms_norm(&x, &weights, 0.5).into_iter().enumerate() {
            assert!((y - x[i] * weights[i] / (square + 0.5).sqrt()).abs() < 1e-4);
        }
    }
}
