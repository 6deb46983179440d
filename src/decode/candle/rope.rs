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

    /// Cosines and sines at the positions given, each `[positions, head_dim / 2]`.
    pub fn at(&mut self, positions: &[usize], device: &Device, dtype: DType) -> Result<(Tensor, Tensor)> {
        let half = self.frequencies.len();
        let known = self.cos.len() / half;
        let wanted = positions.iter().max().map_or(0, |&last| last + 1);
        for position in known..wanted {
            // In f32, as in the library that the checkpoints were trained with.
            let angles = self.frequencies.iter().map(|frequency| position as f32 * frequency);
            self.cos.extend(angles.clone().map(f32::cos));
            self.sin.extend(angles.map(f32::sin));
        }
        let rows = |table: &[f32]| {
            let rows = positions.iter().flat_map(|&position| &table[position * half..(position + 1) * half]);
            Tensor::from_vec(rows.copied().collect::<Vec<f32>>(), (positions.len(), half), device)?.to_dtype(dtype)
        };
        Ok((rows(&self.cos)?, rows(&self.sin)?))
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
