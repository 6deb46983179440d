//! The forward pass on an NVIDIA GPU with few launches: cuBLAS for the matrix products, the crate's own kernels for all
//! that is between them.

// The kernels are given addresses of candle's tensors.
#![allow(unsafe_code)]

use candle_core::{DType, Device, Result, Tensor};

use super::address::{address, gpu_of};
use super::cache::Cache;
use super::config::Config;
use super::rope::Rope;
use super::tree::Plan;
use crate::gpu::GpuError;
use crate::gpu::decoder::{DecoderKernels, Heads, MAX_HEAD_DIM, NewNodes, Number, Shared, Slots};

/// The kernels, and the rotary embedding's tables on the device.
pub(super) struct Fused {
    kernels: DecoderKernels,
    heads: Heads,
    device: Device,
    dtype: DType,
    /// `[positions, head_dim/2]`, f32.
    cosines: Tensor,
    sines: Tensor,
}

/// The nodes of a call on the device: `Nodes` of `decoder.cu`, and who they are.
pub(super) struct Call {
    meta: Tensor,
    parts: Vec<NewNodes>,
}

fn failed(error: GpuError) -> candle_core::Error {
    candle_core::Error::wrap(error)
}

impl Fused {
    /// For a model on a GPU; `None` elsewhere, and for heads that the kernels do not take.
    pub fn new(config: &Config, device: &Device, dtype: DType) -> Result<Option<Self>> {
        let (Device::Cuda(candle), true) = (device, config.head_dim <= MAX_HEAD_DIM) else {
            return Ok(None);
        };
        let number = match dtype {
            DType::F32 => Number::F32,
            DType::F16 => Number::F16,
            DType::BF16 => Number::Bf16,
            _ => return Ok(None),
        };
        let (gpu, stream) = gpu_of(candle).map_err(failed)?;
        let heads = Heads { heads: config.heads, kv_heads: config.kv_heads, size: config.head_dim };
        // SAFETY: all tensors of this device are used in one stream, candle's; there is nothing to wait for by events,
        // which would be made and destroyed with every tensor.
        unsafe { candle.disable_event_tracking() };
        let none = Tensor::zeros((1, config.head_dim / 2), DType::F32, device)?;
        let kernels = DecoderKernels::new(&gpu, stream, number).map_err(failed)?;
        Ok(Some(Fused { kernels, heads, device: device.clone(), dtype, cosines: none.clone(), sines: none }))
    }

    /// What a call says of its nodes; `None` if one sees more slots than the kernels take.
    pub fn call(&mut self, plan: &Plan, rope: &mut Rope) -> Result<Option<Call>> {
        let nodes = plan.tokens.len();
        let longest = plan.positions.iter().max().map_or(0, |&last| last + 1);
        if longest > self.kernels.most_seen(self.heads) {
            return Ok(None);
        }
        if longest > self.cosines.dim(0)? {
            let positions: Vec<usize> = (0..longest.next_power_of_two().max(1024)).collect();
            (self.cosines, self.sines) = rope.at(&positions, &self.device, DType::F32)?;
        }
        let int = |x: usize| x as i32;
        let mut meta: Vec<i32> = plan.positions.iter().map(|&position| int(position)).collect();
        let (mut begins, mut others, mut parts) = (Vec::with_capacity(nodes), Vec::new(), Vec::new());
        for part in &plan.parts {
            let (count, first_row, first_slot) = (part.rows.len(), part.rows.start, part.first_slot());
            let most_seen = plan.positions[part.rows.clone()].iter().max().map_or(0, |&last| last + 1);
            parts.push(NewNodes { nodes, first_row, count, first_slot, most_seen });
            for new in 0..count {
                let sight = part.sight(new);
                meta.push(int(sight.first));
                begins.push(int(others.len()));
                others.extend(sight.then);
            }
        }
        meta.extend(begins);
        meta.extend(others.into_iter().map(int));
        let len = meta.len();
        Ok(Some(Call { meta: Tensor::from_vec(meta, len, &self.device)?, parts }))
    }

    fn empty(&self, shape: (usize, usize)) -> Result<Tensor> {
        // SAFETY: every kernel below writes all of its result before anything reads it.
        unsafe { Tensor::empty(shape, self.dtype, &self.device) }
    }

    /// Adds `y` to `x`, in place; then the norm of `x` by its root mean square, times `weight`.
    pub fn add_norm(&self, x: &Tensor, y: Option<&Tensor>, weight: &Tensor, eps: f32) -> Result<Tensor> {
        let shape = x.dims2()?;
        let normed = self.empty(shape)?;
        let (at, y) = (address(x)?, y.map_or(Ok(0), address)?);
        let addresses = [at, y, address(weight)?, at, address(&normed)?];
        // SAFETY: the tensors have these shapes and this type; `x` is the caller's alone, see `Tensors::run_fused`; what
        // candle frees is reused in the order of its stream.
        unsafe { self.kernels.add_norm(addresses, shape, eps) }.map_err(failed)?;
        Ok(normed)
    }

    /// From queries, keys and values of all new nodes, `[nodes, (heads + 2 kv_heads) head_dim]`, to what the heads
    /// gather, `[nodes, heads head_dim]`. Keys and values go to each sequence's cache.
    pub fn attention<'a>(
        &self,
        layer: usize,
        qkv: &Tensor,
        call: &Call,
        caches: impl Iterator<Item = &'a Cache>,
    ) -> Result<Tensor> {
        let Heads { heads, size, .. } = self.heads;
        let out = self.empty((qkv.dim(0)?, heads * size))?;
        let (cosines, sines) = (address(&self.cosines)?, address(&self.sines)?);
        let shared = Shared { cosines, sines, meta: address(&call.meta)? };
        let (qkv, to) = (address(qkv)?, address(&out)?);
        for (&new, cache) in call.parts.iter().zip(caches) {
            let (keys, values) = cache.layer(layer)?;
            let slots = Slots { keys: address(&keys)?, values: address(&values)?, capacity: keys.dim(1)? };
            // SAFETY: as above; the cache has room for the new slots, and `call` says of each node what is in its sequence.
            unsafe {
                self.kernels.store(qkv, shared, slots, new, self.heads).map_err(failed)?;
                self.kernels.attend(qkv, shared, slots, to, new, self.heads).map_err(failed)?;
            }
        }
        Ok(out)
    }

    /// `silu(gate)·up` of rows `[gate | up]`.
    pub fn gate(&self, gate_up: &Tensor) -> Result<Tensor> {
        let (rows, both) = gate_up.dims2()?;
        let out = self.empty((rows, both / 2))?;
        // SAFETY: as above.
        unsafe { self.kernels.gate(address(gate_up)?, address(&out)?, (rows, both / 2)) }.map_err(failed)?;
        Ok(out)
    }
}
