//! The rotary position embedding (Su et al. 2021), with the scalings for long contexts that Llama checkpoints use.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Result, Tensor};

use super::config::{Config, RopeScaling};

/// Cosines and sines, computed on the host as far as positions were asked for.
pub(super) struct Rope {
    /// Radians a position, one for each pair of dimensions.
    frequencies: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    pub fn new(config: &Config) -> Self {
        Rope { frequencies: frequencies(config), cos: Vec::new(), sin: Vec::new() }
    }

    /// Computes what is missing of the first `positions` positions.
    pub fn reach(&mut self, positions: usize) {
        for position in self.cos.len() / self.frequencies.len()..positions {
            // In f32, as in the library that the checkpoints were trained with.
            let angles = self.frequencies.iter().map(|frequency| position as f32 * frequency);
            self.cos.extend(angles.clone().map(f32::cos));
            self.sin.extend(angles.map(f32::sin));
        }
    }

    /// Cosines and sines at a position that was reached.
    pub fn row(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        let row = position * half..(position + 1) * half;
        (&self.cos[row.clone()], &self.sin[row])
    }

    /// Cosines and sines at the positions given, each `[positions, head_dim / 2]`.
    pub fn at(&mut self, positions: &[usize], device: &Device, dtype: DType) -> Result<(Tensor, Tensor)> {
        self.reach(positions.iter().max().map_or(0, |&last| last + 1));
        let shape = (positions.len(), self.frequencies.len());
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for &position in positions {
            let row = self.row(position);
            cos.extend_from_slice(row.0);
            sin.extend_from_slice(row.1);
        }
        let tensor = |rows| Tensor::from_vec(rows, shape, device)?.to_dtype(dtype);
        Ok((tensor(cos)?, tensor(sin)?))
    }
}

/// `theta^(−2i / head_dim)`, scaled.
fn frequencies(config: &Config) -> Vec<f32> {
    let scale = |frequency: f64| match config.rope_scaling {
        RopeScaling::Default => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            // How often the pair turns within the context of the training, from slow to fast.
            let turns = original_context * frequency / TAU;
            let fast = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
            (1.0 - fast) * frequency / factor + fast * frequency
        }
    };
    let size = config.head_dim as f64;
    (0..config.head_dim / 2).map(|i| scale(config.rope_theta.powf(-2.0 * i as f64 / size)) as f32).collect()
}
