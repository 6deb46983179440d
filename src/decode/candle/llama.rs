//! The decoder: weights, forward pass, and what it offers to the loop.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};
use candle_nn::rotary_emb::rope_thd;

use super::cache::Cache;
use super::config::{self, Config, ConfigError};
use super::rope::Rope;
use super::tree::{Part, Plan, Tree};
use super::weights::{Weights, WeightsError};
use crate::decode::{Extension, Model};
use crate::pmf::Token;

/// The most new nodes of one sequence whose attention is computed at once: it bounds the memory that a long prompt
/// takes, and changes nothing else.
const ATTENTION_ROWS: usize = 512;

/// Why a checkpoint could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A JSON file of the checkpoint cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        error: std::io::Error,
    },
    /// The configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tensors were refused.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The device does not compute in this type.
    #[error("cannot compute in {dtype:?} on the {device}, only in {supported}")]
    Precision {
        /// The type.
        dtype: DType,
        /// The device.
        device: &'static str,
        /// The types that it computes in.
        supported: &'static str,
    },
    /// The device failed.
    #[error("the device failed: {0}")]
    Backend(#[from] candle_core::Error),
}

/// Why a call of a [`Llama`] failed. The trees are as before the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The parent of a new node does not exist.
    #[error("extension {index}: sequence {sequence} has nodes 0 to {}, not {parent}", nodes - 1)]
    Parent {
        /// The number of the extension in the call, from 0.
        index: usize,
        /// The sequence.
        sequence: usize,
        /// The parent asked for.
        parent: usize,
        /// The number of nodes at this point of the call.
        nodes: usize,
    },
    /// A token is outside the vocabulary.
    #[error("extension {index}: token {token} is outside the vocabulary of {vocab}")]
    Token {
        /// The number of the extension in the call, from 0.
        index: usize,
        /// The token.
        token: Token,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// A sequence would be longer than the model's context.
    #[error("extension {index}: sequence {sequence} would have {length} tokens, the context is {context}")]
    Context {
        /// The number of the extension in the call, from 0.
        index: usize,
        /// The sequence.
        sequence: usize,
        /// The number of tokens with this one.
        length: usize,
        /// The most that the model takes.
        context: usize,
    },
    /// The node to keep does not exist.
    #[error("sequence {sequence} has nodes 0 to {}, not {node}", nodes - 1)]
    Node {
        /// The sequence.
        sequence: usize,
        /// The node asked for.
        node: usize,
        /// The number of nodes.
        nodes: usize,
    },
    /// The device failed.
    #[error("the device failed: {0}")]
    Backend(#[from] candle_core::Error),
}

/// `x ↦ x W + b`, with the weights as `[in, out]`.
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Of weights stored as `[out, in]`.
    fn new(weight: &Tensor, bias: Option<Tensor>) -> candle_core::Result<Self> {
        let weight = weight.t()?;
        // On the CPU a transposed view would be packed anew in every product. cuBLAS reads either.
        let weight = if weight.device().is_cpu() { weight.contiguous()? } else { weight };
        Ok(Linear { weight, bias })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = x.matmul(&self.weight)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
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
    ) -> Result<Linear, LoadError> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for &(name, outputs) in parts {
            weights.push(self.take(&format!("{prefix}.{name}.weight"), &[outputs, inputs])?);
            if biased {
                biases.push(self.take(&format!("{prefix}.{name}.bias"), &[outputs])?);
            }
        }
        let bias = if biased { Some(Tensor::cat(&biases, 0)?) } else { None };
        Ok(Linear::new(&Tensor::cat(&weights, 0)?, bias)?)
    }
}

struct Layer {
    attention_norm: Tensor,
    /// To queries, keys and values, one after the other.
    qkv: Linear,
    output: Linear,
    mlp_norm: Tensor,
    /// To the gate and to what it is multiplied with, one after the other.
    gate_up: Linear,
    down: Linear,
}

#[derive(Default)]
struct Sequence {
    tree: Tree,
    cache: Cache,
}

/// A decoder of the Llama architecture with its own cache of keys and values.
///
/// Each sequence's tree is kept on the device. A call is one forward pass: the projections run over all new nodes of all
/// sequences together, the attention sequence by sequence, and each new node attends to the tokens on its way only.
/// Its [`Row`](Model::Row)s are `f32` on the host; [`forward`](Llama::forward) leaves them on the device.
pub struct Llama {
    config: Config,
    device: Device,
    dtype: DType,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Linear,
    rope: Rope,
    sequences: HashMap<usize, Sequence>,
    end_of_text: Vec<Token>,
}

impl Llama {
    /// Loads a checkpoint in the Hugging Face layout: a directory with `config.json` and either `model.safetensors` or
    /// `model.safetensors.index.json` and the files it names. Weights may be in bf16, f16 or f32.
    ///
    /// The model computes in `dtype`: f32, or on a GPU also f16 or bf16. `None` stands for f32 on the CPU, and elsewhere
    /// for the type of the checkpoint.
    ///
    /// # Errors
    /// A file cannot be read; `config.json` is refused by [`Config::from_json`]; a tensor is missing, cut off, of another
    /// shape or type, or of no use; the device does not compute in `dtype`, or runs out of memory.
    pub fn load(dir: impl AsRef<Path>, device: &Device, dtype: impl Into<Option<DType>>) -> Result<Self, LoadError> {
        let dir = dir.as_ref();
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|error| LoadError::Io { path, error })
        };
        let config = Config::from_json(&read("config.json")?)?;
        let mut model = Self::new(config, Weights::open(dir)?, device, dtype.into())?;
        // It is optional, and has the last word about the end of a text.
        if dir.join("generation_config.json").exists() {
            let end_of_text = config::end_of_text(&read("generation_config.json")?)?;
            if !end_of_text.is_empty() {
                model.end_of_text = end_of_text;
            }
        }
        Ok(model)
    }

    /// Loads a checkpoint from memory: the text of its `config.json`, and the bytes of its one safetensors file.
    ///
    /// # Errors
    /// As [`Llama::load`].
    pub fn from_bytes(
        config: &str,
        weights: impl Into<Cow<'static, [u8]>>,
        device: &Device,
        dtype: impl Into<Option<DType>>,
    ) -> Result<Self, LoadError> {
        Self::new(Config::from_json(config)?, Weights::from_bytes(weights)?, device, dtype.into())
    }

    fn new(config: Config, weights: Weights, device: &Device, dtype: Option<DType>) -> Result<Self, LoadError> {
        const EMBEDDING: &str = "model.embed_tokens.weight";

        let dtype = match dtype {
            Some(dtype) => dtype,
            None if device.is_cpu() => DType::F32,
            // If the tensor is missing, that is the error below.
            None => weights.dtype(EMBEDDING).unwrap_or(DType::F32),
        };
        // On the CPU neither the products nor the norms are there in every type.
        let (supported, name, device_name): (&[DType], _, _) = if device.is_cpu() {
            (&[DType::F32], "f32", "CPU")
        } else {
            (&[DType::F32, DType::F16, DType::BF16], "f32, f16 and bf16", "GPU")
        };
        if !supported.contains(&dtype) {
            return Err(LoadError::Precision { dtype, device: device_name, supported: name });
        }

        let Config { vocab, hidden, intermediate, head_dim, .. } = config;
        let (q, kv) = (config.heads * head_dim, config.kv_heads * head_dim);
        let mut loader = Loader { weights, device, dtype };

        let embedding = loader.take(EMBEDDING, &[vocab, hidden])?;
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            let prefix = format!("model.layers.{layer}");
            let (attention, mlp) = (format!("{prefix}.self_attn"), format!("{prefix}.mlp"));
            let qkv = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
            let gate_up = [("gate_proj", intermediate), ("up_proj", intermediate)];
            layers.push(Layer {
                attention_norm: loader.take(&format!("{prefix}.input_layernorm.weight"), &[hidden])?,
                qkv: loader.join(&attention, &qkv, hidden, config.qkv_bias)?,
                output: loader.join(&attention, &[("o_proj", hidden)], q, config.output_bias)?,
                mlp_norm: loader.take(&format!("{prefix}.post_attention_layernorm.weight"), &[hidden])?,
                gate_up: loader.join(&mlp, &gate_up, hidden, config.mlp_bias)?,
                down: loader.join(&mlp, &[("down_proj", hidden)], intermediate, config.mlp_bias)?,
            });
        }
        let norm = loader.take("model.norm.weight", &[hidden])?;
        let head = if config.tied { embedding.clone() } else { loader.take("lm_head.weight", &[vocab, hidden])? };
        let head = Linear::new(&head, None)?;
        // Old files hold the frequencies of the rotary embedding; some hold the tied head once more.
        let tied = config.tied;
        loader.weights.finish(|name| name.ends_with(".rotary_emb.inv_freq") || (tied && name == "lm_head.weight"))?;

        Ok(Llama {
            rope: Rope::new(&config),
            end_of_text: config.end_of_text().to_vec(),
            sequences: HashMap::new(),
            device: device.clone(),
            config,
            dtype,
            embedding,
            layers,
            norm,
            head,
        })
    }

    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type it computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The tokens that end a text, by `generation_config.json` or else by `config.json`. Empty if neither says.
    pub fn end_of_text(&self) -> &[Token] {
        &self.end_of_text
    }

    /// As [`Model::extend`], with the rows as one tensor on the device: `[scored, vocab]`, f32.
    ///
    /// # Errors
    /// As [`Model::extend`], or the device fails.
    pub fn forward(&mut self, new: &[Extension]) -> Result<Tensor, CallError> {
        let sequences = &self.sequences;
        let tree = |sequence| sequences.get(&sequence).map_or_else(Tree::default, |sequence| sequence.tree.clone());
        let plan = Plan::new(new, tree, self.config.vocab, self.config.context)?;
        let logits = self.run(&plan)?;
        for part in plan.parts {
            if let Some(sequence) = self.sequences.get_mut(&part.sequence) {
                sequence.tree = part.tree;
            }
        }
        Ok(logits)
    }

    /// The forward pass. It writes to slots that no tree uses yet, and changes no tree.
    fn run(&mut self, plan: &Plan) -> candle_core::Result<Tensor> {
        let Llama { config, device, dtype, .. } = self;
        if plan.tokens.is_empty() {
            return Tensor::zeros((0, config.vocab), DType::F32, device);
        }
        let mut masks = Vec::new();
        for part in &plan.parts {
            let sequence = self.sequences.entry(part.sequence).or_default();
            sequence.cache.reserve(part.tree.slots(), part.first_slot(), config, device, *dtype)?;
            masks.push(masks_of(part, device, *dtype)?);
        }
        let (cos, sin) = self.rope.at(&plan.positions, device, *dtype)?;
        let eps = config.norm_eps as f32;

        let mut x = self.embedding.index_select(&Tensor::new(plan.tokens.as_slice(), device)?, 0)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let qkv = layer.qkv.forward(&rms_norm(&x, &layer.attention_norm, eps)?)?;
            let attended = attention(index, &qkv, &cos, &sin, plan, &masks, &self.sequences, config)?;
            x = (x + layer.output.forward(&attended)?)?;
            let gate_up = layer.gate_up.forward(&rms_norm(&x, &layer.mlp_norm, eps)?)?;
            let gate = gate_up.narrow(1, 0, config.intermediate)?.silu()?;
            let gated = (gate * gate_up.narrow(1, config.intermediate, config.intermediate)?)?;
            x = (x + layer.down.forward(&gated)?)?;
        }
        if plan.scored.is_empty() {
            return Tensor::zeros((0, config.vocab), DType::F32, device);
        }
        let in_order = plan.scored.iter().copied().eq(0..plan.tokens.len() as u32);
        let scored = if in_order { x } else { x.index_select(&Tensor::new(plan.scored.as_slice(), device)?, 0)? };
        self.head.forward(&rms_norm(&scored, &self.norm, eps)?)?.to_dtype(DType::F32)
    }
}

/// A block of a part's rows, counted from 0, and the mask over the slots that they may see, `[rows, slots]`; `None`
/// where they see all of them.
type Block = (Range<usize>, Option<Tensor>);

fn masks_of(part: &Part, device: &Device, dtype: DType) -> candle_core::Result<Vec<Block>> {
    let mut blocks = Vec::new();
    for start in (0..part.rows.len()).step_by(ATTENTION_ROWS) {
        let rows = start..(start + ATTENTION_ROWS).min(part.rows.len());
        // No node sees the slots of later ones.
        let slots = part.first_slot() + rows.end;
        let mask = if part.sees_all(rows.clone(), slots) {
            None
        } else {
            let mask = part.mask(rows.clone(), slots);
            Some(Tensor::from_vec(mask, (rows.len(), slots), device)?.to_dtype(dtype)?)
        };
        blocks.push((rows, mask));
    }
    Ok(blocks)
}

/// From queries, keys and values of all new nodes, `[nodes, (heads + 2 kv_heads) head_dim]`, to what the heads gather,
/// `[nodes, heads head_dim]`.
#[allow(clippy::too_many_arguments)]
fn attention(
    layer: usize,
    qkv: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    plan: &Plan,
    masks: &[Vec<Block>],
    sequences: &HashMap<usize, Sequence>,
    config: &Config,
) -> candle_core::Result<Tensor> {
    let &Config { heads, kv_heads, head_dim, .. } = config;
    let nodes = qkv.dim(0)?;
    let scale = 1.0 / (head_dim as f64).sqrt();

    let turned = qkv.narrow(1, 0, (heads + kv_heads) * head_dim)?.contiguous()?;
    let turned = rope_thd(&turned.reshape((1, nodes, heads + kv_heads, head_dim))?, cos, sin)?.squeeze(0)?;
    // [heads, nodes, head_dim] from here on.
    let queries = turned.narrow(1, 0, heads)?.transpose(0, 1)?;
    let keys = turned.narrow(1, heads, kv_heads)?.transpose(0, 1)?;
    let values = qkv.narrow(1, (heads + kv_heads) * head_dim, kv_heads * head_dim)?;
    let values = values.reshape((nodes, kv_heads, head_dim))?.transpose(0, 1)?;

    let mut gathered = Vec::new();
    for (part, blocks) in plan.parts.iter().zip(masks) {
        let (start, len) = (part.rows.start, part.rows.len());
        let cache = &sequences[&part.sequence].cache;
        let new_keys = keys.narrow(1, start, len)?.contiguous()?;
        let new_values = values.narrow(1, start, len)?.contiguous()?;
        let (all_keys, all_values) = cache.append(layer, part.first_slot(), &new_keys, &new_values)?;
        for (rows, mask) in blocks {
            let (rows, slots) = (rows.start..rows.end, part.first_slot() + rows.end);
            let n = rows.len();
            // Heads that share keys and values are neighbours: their queries are further rows of the same product.
            let q = queries.narrow(1, start + rows.start, n)?.contiguous()?;
            let q = q.reshape((kv_heads, heads / kv_heads * n, head_dim))?;
            let scores = (q.matmul(&all_keys.narrow(1, 0, slots)?.t()?)? * scale)?;
            let scores = match mask {
                Some(mask) => scores.reshape((heads, n, slots))?.broadcast_add(mask)?,
                None => scores,
            };
            let shares = softmax_last_dim(&scores)?.reshape((kv_heads, heads / kv_heads * n, slots))?;
            let out = shares.matmul(&all_values.narrow(1, 0, slots)?)?;
            gathered.push(out.reshape((heads, n, head_dim))?.transpose(0, 1)?.reshape((n, heads * head_dim))?);
        }
    }
    match gathered.as_slice() {
        [one] => Ok(one.clone()),
        all => Tensor::cat(all, 0),
    }
}

impl Model for Llama {
    type Row = Vec<f32>;
    type Error = CallError;

    fn vocab(&self) -> usize {
        self.config.vocab
    }

    fn extend(&mut self, new: &[Extension]) -> Result<Vec<Vec<f32>>, CallError> {
        let logits = self.forward(new)?;
        Ok(logits.to_vec2()?)
    }

    fn keep(&mut self, sequence: usize, node: Option<usize>) -> Result<(), CallError> {
        let Some(node) = node else {
            self.sequences.remove(&sequence);
            return Ok(());
        };
        let Some(Sequence { tree, cache }) = self.sequences.get_mut(&sequence) else {
            return if node == 0 { Ok(()) } else { Err(CallError::Node { sequence, node, nodes: 1 }) };
        };
        let way = tree.way(node).ok_or(CallError::Node { sequence, node, nodes: tree.nodes() })?;
        cache.gather(tree.kept(), &way, &self.device)?;
        tree.keep(way.len());
        Ok(())
    }
}
