//! Products with a weight matrix, packed once for the loop that reads it.

use crate::simd::{self, Kernel, mul_add};

/// Outputs computed side by side: two AVX2 registers.
const LANES: usize = 16;

/// Rows that share one pass over a panel: 6 rows of two registers, two of weights and one of `x` fill the sixteen that
/// AVX2 has.
const ROWS: usize = 6;

/// `x ↦ x W + b`.
///
/// The weights lie in panels of [`LANES`] outputs, `[panels, inputs, LANES]`: a product reads them front to back, one
/// panel stays in the cache while all rows pass. Each output is one sum in the order of the inputs, so a row's outputs
/// do not depend, in any bit, on the rows beside it.
pub(super) struct Linear {
    panels: Vec<f32>,
    bias: Option<Vec<f32>>,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    /// Of weights stored as `[outputs, inputs]`.
    pub fn new(weights: &[f32], inputs: usize, bias: Option<Vec<f32>>) -> Self {
        let outputs = weights.len() / inputs;
        let mut panels = vec![0.0; outputs.div_ceil(LANES) * inputs * LANES];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let panel = &mut panels[output / LANES * inputs * LANES..];
            for (lanes, &weight) in panel.chunks_exact_mut(LANES).zip(row) {
                lanes[output % LANES] = weight;
            }
        }
        Linear { panels, bias, inputs, outputs }
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The number of multiplications for one row.
    pub fn work(&self) -> usize {
        self.inputs * self.outputs
    }

    /// The weights of one output.
    pub fn weights(&self, output: usize) -> impl Iterator<Item = f32> + '_ {
        let panel = &self.panels[output / LANES * self.inputs * LANES..][..self.inputs * LANES];
        panel.iter().skip(output % LANES).step_by(LANES).copied()
    }

    /// From `[rows, inputs]` to `[rows, outputs]`.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / self.inputs * self.outputs];
        self.forward_into(x, &mut y.chunks_exact_mut(self.outputs).collect::<Vec<_>>());
        y
    }

    /// From `[rows, inputs]` to one slice a row.
    pub fn forward_into(&self, x: &[f32], y: &mut [&mut [f32]]) {
        simd::run(Product { linear: self, x, y });
    }
}

struct Product<'a, 'y> {
    linear: &'a Linear,
    x: &'a [f32],
    y: &'a mut [&'y mut [f32]],
}

impl Kernel for Product<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Product { linear, x, y } = self;
        let inputs = linear.inputs;
        // Blocks of up to ROWS rows, as even as can be: [inputs, rows of the block] each.
        let blocks = y.len().div_ceil(ROWS).max(1);
        let starts: Vec<usize> = (0..=blocks).map(|block| block * y.len() / blocks).collect();
        let mut packed = vec![0.0; x.len()];
        for rows in starts.windows(2) {
            let n = rows[1] - rows[0];
            let block = &mut packed[rows[0] * inputs..rows[1] * inputs];
            for (r, x) in x[rows[0] * inputs..rows[1] * inputs].chunks_exact(inputs).enumerate() {
                block.iter_mut().skip(r).step_by(n).zip(x).for_each(|(to, &x)| *to = x);
            }
        }
        let size = inputs * LANES;
        let panels = linear.panels.len() / size;
        // A few rows alone do not keep the arithmetic units busy: they take several panels at a time.
        let step = match y.len() {
            1 => 4,
            2 => 2,
            _ => 1,
        };
        let mut panel = 0;
        while panel < panels {
            let taken = if panel + step <= panels { step } else { 1 };
            let weights = &linear.panels[panel * size..(panel + taken) * size];
            let bias = linear.bias.as_ref().map(|bias| &bias[panel * LANES..]);
            for rows in starts.windows(2) {
                let block = &packed[rows[0] * inputs..rows[1] * inputs];
                let y = &mut y[rows[0]..rows[1]];
                match (y.len(), taken) {
                    (1, 4) => tile::<FMA, 1, 4>(block, weights, panel, bias, y),
                    (1, _) => tile::<FMA, 1, 1>(block, weights, panel, bias, y),
                    (2, 2) => tile::<FMA, 2, 2>(block, weights, panel, bias, y),
                    (2, _) => tile::<FMA, 2, 1>(block, weights, panel, bias, y),
                    (3, _) => tile::<FMA, 3, 1>(block, weights, panel, bias, y),
                    (4, _) => tile::<FMA, 4, 1>(block, weights, panel, bias, y),
                    (5, _) => tile::<FMA, 5, 1>(block, weights, panel, bias, y),
                    (6, _) => tile::<FMA, 6, 1>(block, weights, panel, bias, y),
                    _ => {}
                }
            }
            panel += taken;
        }
    }
}

/// The outputs of `PANELS` panels for `N` rows.
#[inline(always)]
fn tile<const FMA: bool, const N: usize, const PANELS: usize>(
    x: &[f32],
    weights: &[f32],
    first: usize,
    bias: Option<&[f32]>,
    y: &mut [&mut [f32]],
) {
    let (x, _) = x.as_chunks::<N>();
    let (weights, _) = weights.as_chunks::<LANES>();
    let inputs = x.len();
    let panels: [&[[f32; LANES]]; PANELS] = std::array::from_fn(|p| &weights[p * inputs..(p + 1) * inputs]);
    let mut sums = [[[0.0f32; LANES]; PANELS]; N];
    for i in 0..inputs {
        for p in 0..PANELS {
            let w = &panels[p][i];
            for r in 0..N {
                for l in 0..LANES {
                    sums[r][p][l] = mul_add::<FMA>(x[i][r], w[l], sums[r][p][l]);
                }
            }
        }
    }
    for (sums, y) in sums.iter().zip(y) {
        for (p, sums) in sums.iter().enumerate() {
            let y = &mut y[(first + p) * LANES..];
            match bias {
                Some(bias) => {
                    let bias = &bias[p * LANES..];
                    y.iter_mut().zip(sums).zip(bias).for_each(|((y, &sum), &bias)| *y = sum + bias);
                }
                None => y.iter_mut().zip(sums).for_each(|(y, &sum)| *y = sum),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u32, len: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn a_product_is_the_sum_over_the_inputs_whatever_the_rows_beside_it() {
        for (inputs, outputs) in [(1, 1), (3, 16), (24, 50), (64, 64), (7, 97)] {
            let weights = numbers(1, inputs * outputs);
            let bias = (outputs % 2 == 0).then(|| numbers(2, outputs));
            let linear = Linear::new(&weights, inputs, bias.clone());
            for output in 0..outputs {
                assert!(linear.weights(output).eq(weights[output * inputs..(output + 1) * inputs].iter().copied()));
            }
            let x = numbers(3, 20 * inputs);
            let alone: Vec<Vec<f32>> = x.chunks_exact(inputs).map(|x| linear.forward(x)).collect();
            for (x, y) in x.chunks_exact(inputs).zip(&alone) {
                for (output, (row, &y)) in weights.chunks_exact(inputs).zip(y).enumerate() {
                    let exact: f64 = x.iter().zip(row).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                    let exact = exact + bias.as_ref().map_or(0.0, |bias| f64::from(bias[output]));
                    assert!((f64::from(y) - exact).abs() < 1e-5, "{inputs} × {outputs}: {y}, exactly {exact}");
                }
            }
            for rows in 0..=20 {
                assert_eq!(linear.forward(&x[..rows * inputs]), alone[..rows].concat(), "{rows} rows");
            }
        }
    }
}
