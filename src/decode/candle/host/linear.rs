//! Products with a weight matrix, packed once for the loop that reads it.

use super::kernels::{TILE, tile};

/// Rows that share one pass over a panel: 6 rows of two registers, two of weights and one of `x` fill the sixteen that
/// AVX2 has.
const ROWS: usize = 6;

/// Panels that one row alone takes at a time.
const PANELS: usize = 4;

/// `x ↦ x W + b`.
///
/// The weights lie in panels of [`TILE`] outputs, `[panels, inputs, TILE]`: a product reads them front to back, one
/// panel stays in the cache while all rows pass. Each output is one sum in the order of the inputs, so a row's outputs
/// do not depend, in any bit, on the rows beside it.
pub(super) struct Linear {
    panels: Vec<f32>,
    /// `[panels, TILE]`; zeros where there is none.
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    /// Of weights stored as `[outputs, inputs]`.
    pub fn new(weights: &[f32], inputs: usize, bias: Option<Vec<f32>>) -> Self {
        let outputs = weights.len() / inputs;
        let mut panels = vec![0.0; outputs.div_ceil(TILE) * inputs * TILE];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let panel = &mut panels[output / TILE * inputs * TILE..];
            for (lanes, &weight) in panel.chunks_exact_mut(TILE).zip(row) {
                lanes[output % TILE] = weight;
            }
        }
        let mut bias = bias.unwrap_or_default();
        bias.resize(outputs.next_multiple_of(TILE), 0.0);
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
        let panel = &self.panels[output / TILE * self.inputs * TILE..][..self.inputs * TILE];
        panel.iter().skip(output % TILE).step_by(TILE).copied()
    }

    /// From `[rows, inputs]` to `[rows, outputs]`.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / self.inputs * self.outputs];
        self.forward_into(x, &mut y.chunks_exact_mut(self.outputs).collect::<Vec<_>>());
        y
    }

    /// From `[rows, inputs]` to one slice a row.
    pub fn forward_into(&self, x: &[f32], y: &mut [&mut [f32]]) {
        // Blocks of up to ROWS rows, as even as can be, `[inputs, rows]` each.
        let blocks = y.len().div_ceil(ROWS);
        let ends = |block: usize| block * y.len() / blocks..(block + 1) * y.len() / blocks;
        let rows: Vec<_> = (0..blocks).map(ends).collect();
        let mut packed = vec![0.0; x.len()];
        for rows in &rows {
            let block = &mut packed[rows.start * self.inputs..rows.end * self.inputs];
            for (r, x) in x.chunks_exact(self.inputs).skip(rows.start).take(rows.len()).enumerate() {
                block.iter_mut().skip(r).step_by(rows.len()).zip(x).for_each(|(to, &x)| *to = x);
            }
        }
        // One row alone does not keep the arithmetic units busy: it takes several panels at a time.
        let step = if y.len() == 1 { PANELS } else { 1 };
        let panels = self.bias.len() / TILE;
        let mut panel = 0;
        while panel < panels {
            let taken = if panel + step <= panels { step } else { 1 };
            for rows in &rows {
                let x = &packed[rows.start * self.inputs..rows.end * self.inputs];
                let y = &mut y[rows.clone()];
                match (y.len(), taken) {
                    (1, PANELS) => self.tile::<1, PANELS>(x, panel, y),
                    (1, _) => self.tile::<1, 1>(x, panel, y),
                    (2, _) => self.tile::<2, 1>(x, panel, y),
                    (3, _) => self.tile::<3, 1>(x, panel, y),
                    (4, _) => self.tile::<4, 1>(x, panel, y),
                    (5, _) => self.tile::<5, 1>(x, panel, y),
                    _ => self.tile::<ROWS, 1>(x, panel, y),
                }
            }
            panel += taken;
        }
    }

    /// The outputs of the `P` panels from `first` on for `N` rows.
    fn tile<const N: usize, const P: usize>(&self, x: &[f32], first: usize, y: &mut [&mut [f32]]) {
        let (x, _) = x.as_chunks::<N>();
        let (weights, _) = self.panels.as_chunks::<TILE>();
        let panel = |p| &weights[(first + p) * self.inputs..(first + p + 1) * self.inputs];
        let sums = tile(x, std::array::from_fn::<_, P, _>(panel));
        for (panel, sums) in (first..).zip(&sums) {
            let bias = &self.bias[panel * TILE..(panel + 1) * TILE];
            for (sums, y) in sums.iter().zip(y.iter_mut()) {
                let y = y[panel * TILE..].iter_mut();
                y.zip(sums).zip(bias).for_each(|((y, &sum), &bias)| *y = sum + bias);
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
