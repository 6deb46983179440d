//! The tensors of a checkpoint under the names that the Hugging Face layout gives them.

use candle_core::{DType, Device, Tensor};

use super::config::Config;
use super::llama::LoadError;
use super::weights::{Weights, WeightsError};

/// The embedding, by which the type of a checkpoint is told.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";

/// Projections of the same input as one, their outputs one after the other.
pub(super) struct Joined {
    /// `[outputs, inputs]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Option<Tensor>,
}

/// A layer's tensors.
pub(super) struct LayerTensors {
    pub attention_norm: Tensor,
    /// To queries, keys and values.
    pub qkv: Joined,
    pub output: Joined,
    pub mlp_norm: Tensor,
    /// To the gate and to what it is multiplied with.
    pub gate_up: Joined,
    pub down: Joined,
}

/// All tensors of a model.
pub(super) struct Checkpoint {
    /// `[vocab, hidden]`.
    pub embedding: Tensor,
    pub layers: Vec<LayerTensors>,
    pub norm: Tensor,
    /// `[vocab, hidden]`; none if it is the embedding.
    pub head: Option<Tensor>,
}

impl Checkpoint {
    /// Takes all tensors that the configuration asks for, on the device and in the type given.
    ///
    /// # Errors
    /// A tensor is missing, cut off, of another shape or type, or of no use; or the device fails.
    pub fn load(weights: Weights, config: &Config, device: &Device, dtype: DType) -> Result<Self, LoadError> {
        let &Config { vocab, hidden, intermediate, head_dim, tied, .. } = config;
        let (q, kv) = (config.heads * head_dim, config.kv_heads * head_dim);
        let mut loader = Loader { weights, device, dtype };

        let embedding = loader.take(EMBEDDING, &[vocab, hidden])?;
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            let prefix = format!("model.layers.{layer}");
            let (attention, mlp) = (format!("{prefix}.self_attn"), format!("{prefix}.mlp"));
            let qkv = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
            let gate_up = [("gate_proj", intermediate), ("up_proj", intermediate)];
            layers.push(LayerTensors {
                attention_norm: loader.take(&format!("{prefix}.input_layernorm.weight"), &[hidden])?,
                qkv: loader.join(&attention, &qkv, hidden, config.qkv_bias)?,
                output: loader.join(&attention, &[("o_proj", hidden)], q, config.output_bias)?,
                mlp_norm: loader.take(&format!("{prefix}.post_attention_layernorm.weight"), &[hidden])?,
                gate_up: loader.join(&mlp, &gate_up, hidden, config.mlp_bias)?,
                down: loader.join(&mlp, &[("down_proj", hidden)], intermediate, config.mlp_bias)?,
            });
        }
        let norm = loader.take("model.norm.weight", &[hidden])?;
        let head = if tied { None } else { Some(loader.take("lm_head.weight", &[vocab, hidden])?) };
        // Old files hold the frequencies of the rotary embedding; some hold the tied head once more.
        loader.weights.finish(|name| name.ends_with(".rotary_emb.inv_freq") || (tied && name == "lm_head.weight"))?;
        Ok(Checkpoint { embedding, layers, norm, head })
    }
}

/// The tensors of a checkpoint on their way to the device.
struct Loader<'a> {
    weights: Weights,
    device: &'a Device,
    dtype: DType,
}

impl Loader<'_> {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, WeightsError> {
        self.weights.take(name, shape, self.device, self.dtype)
    }

    /// Some projections of the same input, each with its number of outputs, as one.
    fn join(
        &mut self,
        prefix: &str,
        parts: &[(&str, usize)],
        inputs: usize,
        biased: bool,
    ) -> Result<Joined, LoadError> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for &(name, outputs) in parts {
            weights.push(self.take(&format!("{prefix}.{name}.weight"), &[outputs, inputs])?);
            if biased {
                biases.push(self.take(&format!("{prefix}.{name}.bias"), &[outputs])?);
            }
        }
        let bias = if biased { Some(Tensor::cat(&biases, 0)?) } else { None };
        Ok(Joined { weight: Tensor::cat(&weights, 0)?, bias })
    }
}
