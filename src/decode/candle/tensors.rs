//! The forward pass in tensor operations, for a GPU.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};
use candle_nn::rotary_emb::rope_thd;

use super::cache::Cache;
use super::checkpoint::{Checkpoint, Joined};
use super::config::Config;
#[cfg(feature = "candle-cuda")]
use super::fused::{Call, Fused};
use super::rope::Rope;
use super::tree::{Part, Plan};

/// The most new nodes of one sequence whose attention is computed at once: it bounds the memory that a long prompt
/// takes, and changes nothing else.
const ATTENTION_ROWS: usize = 512;

/// `x ↦ x W + b`, with the weights as `[in, out]`.
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn new(joined: Joined) -> candle_core::Result<Self> {
        // cuBLAS reads a transposed view as it is.
        Ok(Linear { weight: joined.weight.t()?, bias: joined.bias })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = x.matmul(&self.weight)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

struct Layer {
    attention_norm: Tensor,
    qkv: Linear,
    output: Linear,
    mlp_norm: Tensor,
    gate_up: Linear,
    down: Linear,
}

/// A model's weights on a device, and the keys and values of all sequences.
pub(super) struct Tensors {
    config: Config,
    device: Device,
    dtype: DType,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Linear,
    rope: Rope,
    caches: HashMap<usize, Cache>,
    #[cfg(feature = "candle-cuda")]
    fused: Option<Fused>,
}

impl Tensors {
    /// Of a checkpoint that is on the device in the type that is computed in.
    pub fn new(checkpoint: Checkpoint, config: Config, device: &Device, dtype: DType) -> candle_core::Result<Self> {
        let Checkpoint { embedding, layers, norm, head } = checkpoint;
        let layers = layers.into_iter().map(|layer| {
            Ok(Layer {
                attention_norm: layer.attention_norm,
                qkv: Linear::new(layer.qkv)?,
                output: Linear::new(layer.output)?,
                mlp_norm: layer.mlp_norm,
                gate_up: Linear::new(layer.gate_up)?,
                down: Linear::new(layer.down)?,
            })
        });
        Ok(Tensors {
            layers: layers.collect::<candle_core::Result<_>>()?,
            norm,
            head: Linear::new(Joined { weight: head.unwrap_or_else(|| embedding.clone()), bias: None })?,
            embedding,
            rope: Rope::new(&config),
            device: device.clone(),
            dtype,
            caches: HashMap::new(),
            #[cfg(feature = "candle-cuda")]
            fused: Fused::new(&config, device, dtype)?,
            config,
        })
    }

    /// The logits of the nodes that are scored, `[scored, vocab]`, f32. Writes to slots that no tree uses yet.
    pub fn run(&mut self, plan: &Plan) -> candle_core::Result<Tensor> {
        let Tensors { config, device, dtype, .. } = self;
        if plan.tokens.is_empty() {
            return Tensor::zeros((0, config.vocab), DType::F32, device);
        }
        for part in &plan.parts {
            let cache = self.caches.entry(part.sequence).or_default();
            cache.reserve(part.tree.slots(), part.first_slot(), config, device, *dtype)?;
        }
        let x = self.embedding.index_select(&Tensor::new(plan.tokens.as_slice(), device)?, 0)?;
        #[cfg(feature = "candle-cuda")]
        if let Some(fused) = &mut self.fused
            && let Some(call) = fused.call(plan, &mut self.rope)?
        {
            return self.run_fused(x, plan, &call);
        }
        self.run_by_operations(x, plan)
    }

    /// The layers by candle's own operations.
    fn run_by_operations(&mut self, mut x: Tensor, plan: &Plan) -> candle_core::Result<Tensor> {
        let Tensors { config, device, dtype, .. } = self;
        let masks = plan.parts.iter().map(|part| masks_of(part, device, *dtype));
        let masks = masks.collect::<candle_core::Result<Vec<_>>>()?;
        let (cos, sin) = self.rope.at(&plan.positions, device, *dtype)?;
        let eps = config.norm_eps as f32;
        for (index, layer) in self.layers.iter().enumerate() {
            let qkv = layer.qkv.forward(&rms_norm(&x, &layer.attention_norm, eps)?)?;
            let attended = attention(index, &qkv, &cos, &sin, plan, &masks, &self.caches, config)?;
            x = (x + layer.output.forward(&attended)?)?;
            let gate_up = layer.gate_up.forward(&rms_norm(&x, &layer.mlp_norm, eps)?)?;
            let gate = gate_up.narrow(1, 0, config.intermediate)?.silu()?;
            let gated = (gate * gate_up.narrow(1, config.intermediate, config.intermediate)?)?;
            x = (x + layer.down.forward(&gated)?)?;
        }
        let Some(scored) = self.scored(x, plan)? else {
            return Tensor::zeros((0, self.config.vocab), DType::F32, &self.device);
        };
        self.head.forward(&rms_norm(&scored, &self.norm, eps)?)?.to_dtype(DType::F32)
    }

    /// The same with few launches.
    #[cfg(feature = "candle-cuda")]
    fn run_fused(&self, x: Tensor, plan: &Plan, call: &Call) -> candle_core::Result<Tensor> {
        let Some(fused) = &self.fused else {
            candle_core::bail!("there are no kernels");
        };
        let eps = self.config.norm_eps as f32;
        // What the kernels add to is a copy of rows of the embedding, which nothing else holds.
        let mut added = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = fused.add_norm(&x, added.as_ref(), &layer.attention_norm, eps)?;
            let qkv = layer.qkv.forward(&normed)?;
            let caches = plan.parts.iter().map(|part| &self.caches[&part.sequence]);
            let attended = layer.output.forward(&fused.attention(index, &qkv, call, caches)?)?;
            let normed = fused.add_norm(&x, Some(&attended), &layer.mlp_norm, eps)?;
            let gated = fused.gate(&layer.gate_up.forward(&normed)?)?;
            added = Some(layer.down.forward(&gated)?);
        }
        let x = match added {
            Some(added) => (x + added)?,
            None => x,
        };
        let Some(scored) = self.scored(x, plan)? else {
            return Tensor::zeros((0, self.config.vocab), DType::F32, &self.device);
        };
        let normed = fused.add_norm(&scored, None, &self.norm, eps)?;
        self.head.forward(&normed)?.to_dtype(DType::F32)
    }

    /// The rows of the nodes that are scored, in the order of the call; `None` if there are none.
    fn scored(&self, x: Tensor, plan: &Plan) -> candle_core::Result<Option<Tensor>> {
        if plan.scored.is_empty() {
            return Ok(None);
        }
        if plan.scored.iter().copied().eq(0..plan.tokens.len() as u32) {
            return Ok(Some(x));
        }
        x.index_select(&Tensor::new(plan.scored.as_slice(), &self.device)?, 0).map(Some)
    }

    /// Keeps the slots of `way`, in order, after the first `kept` slots; all others are dropped.
    pub fn keep(&mut self, sequence: usize, kept: usize, way: &[usize]) -> candle_core::Result<()> {
        self.caches.get(&sequence).map_or(Ok(()), |cache| cache.gather(kept, way, &self.device))
    }

    /// Drops all slots of a sequence.
    pub fn forget(&mut self, sequence: usize) {
        self.caches.remove(&sequence);
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
    caches: &HashMap<usize, Cache>,
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
        let cache = &caches[&part.sequence];
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
