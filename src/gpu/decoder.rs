//! What a Llama computes between its matrix products: the kernels of `decoder.cu`.
//!
//! Addresses are of another library's memory. Every function here is `unsafe` for that alone: until the work is done the
//! memory lives, has the size that is said, and nothing else writes it.

#![allow(unsafe_code)]

use super::GpuError;
use super::launch::{Arg, Device, Kernel, Shape, Stream};
use super::source::DECODER;

const NORM_THREADS: u32 = 256;
const ATTEND_THREADS: u32 = 256;
const ATTEND_WARPS: usize = 8;
const GATE_THREADS: u32 = 256;

/// The largest heads: a lane sums 4 pairs of dimensions.
pub(crate) const MAX_HEAD_DIM: usize = 256;

/// The type of weights and activations; `DTYPE` of `decoder.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F32,
    F16,
    Bf16,
}

/// The kernels, compiled for one device and type.
#[derive(Debug)]
pub(crate) struct DecoderKernels {
    stream: Stream,
    shared_limit: usize,
    add_norm: Kernel,
    store: Kernel,
    attend: Kernel,
    gate: Kernel,
}

/// The heads of an attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub size: usize,
}

/// The new nodes of one sequence: `count` rows of a call of `nodes` from `first_row` on, in slots from `first_slot` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewNodes {
    pub nodes: usize,
    pub first_row: usize,
    pub count: usize,
    pub first_slot: usize,
    /// The most slots that one of them sees.
    pub most_seen: usize,
}

/// What all layers of a call share: the tables of the rotary embedding, and `Nodes` of `decoder.cu`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    pub cosines: u64,
    pub sines: u64,
    pub meta: u64,
}

/// Keys and values of one sequence in one layer, `[kv_heads, capacity, size]` each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    pub keys: u64,
    pub values: u64,
    pub capacity: usize,
}

impl DecoderKernels {
    /// Compiles them, or takes them from the cache.
    ///
    /// # Errors
    /// As for any kernel.
    pub fn new(device: &Device, stream: Stream, number: Number) -> Result<Self, GpuError> {
        let define = ["DTYPE=0", "DTYPE=1", "DTYPE=2"][number as usize];
        let kernel = |name| device.kernel(DECODER, &[define], name);
        Ok(DecoderKernels {
            stream,
            shared_limit: device.shared_limit() as usize,
            add_norm: kernel("decoder_add_norm")?,
            store: kernel("decoder_store")?,
            attend: kernel("decoder_attend")?,
            gate: kernel("decoder_gate")?,
        })
    }

    /// The most slots that a node may see.
    pub fn most_seen(&self, heads: Heads) -> usize {
        (self.shared_limit - 1024) / 4 - heads.size * (1 + ATTEND_WARPS)
    }

    /// `sum = x + y`, `normed = sum/rms(sum)·weight`, `rows` rows of `width`; `sum` may be `x`. Without `y`, 0, the sum is
    /// `x` and is not written.
    pub unsafe fn add_norm(
        &self,
        [x, y, weight, sum, normed]: [u64; 5],
        (rows, width): (usize, usize),
        eps: f32,
    ) -> Result<(), GpuError> {
        let shape =
            Shape { blocks: rows as u32, threads: NORM_THREADS, shared: 4 * width as u32, cluster: 1, follows: false };
        let addresses = [x, y, weight, sum, normed].map(Arg::Address);
        let [x, y, weight, sum, normed] = addresses;
        let args = [x, y, weight, sum, normed, Arg::I32(width as i32), Arg::U32(eps.to_bits())];
        self.add_norm.launch(&self.stream, shape, &args)
    }

    /// Turns the new keys and stores them and the values.
    pub unsafe fn store(
        &self,
        qkv: u64,
        shared: Shared,
        slots: Slots,
        new: NewNodes,
        heads: Heads,
    ) -> Result<(), GpuError> {
        let blocks = (new.count * heads.kv_heads) as u32;
        let shape = Shape { blocks, threads: heads.size.clamp(32, 256) as u32, shared: 0, cluster: 1, follows: false };
        let int = |x: usize| Arg::I32(x as i32);
        let args = [
            Arg::Address(qkv),
            Arg::Address(shared.cosines),
            Arg::Address(shared.sines),
            Arg::Address(shared.meta),
            Arg::Address(slots.keys),
            Arg::Address(slots.values),
            int(new.nodes),
            int(new.first_row),
            int(new.first_slot),
            int(slots.capacity),
            int(heads.heads),
            int(heads.kv_heads),
            int(heads.size),
        ];
        self.store.launch(&self.stream, shape, &args)
    }

    /// Attention of the new nodes to what each sees; `out` is `[nodes, heads, size]`.
    pub unsafe fn attend(
        &self,
        qkv: u64,
        shared: Shared,
        slots: Slots,
        out: u64,
        new: NewNodes,
        heads: Heads,
    ) -> Result<(), GpuError> {
        let blocks = (new.count * heads.heads) as u32;
        let floats = heads.size * (1 + ATTEND_WARPS) + new.most_seen;
        let shape = Shape { blocks, threads: ATTEND_THREADS, shared: 4 * floats as u32, cluster: 1, follows: false };
        let int = |x: usize| Arg::I32(x as i32);
        let scale = (1.0 / (heads.size as f64).sqrt()) as f32;
        let args = [
            Arg::Address(qkv),
            Arg::Address(shared.cosines),
            Arg::Address(shared.sines),
            Arg::Address(shared.meta),
            Arg::Address(slots.keys),
            Arg::Address(slots.values),
            Arg::Address(out),
            int(new.nodes),
            int(new.first_row),
            int(slots.capacity),
            int(heads.heads),
            int(heads.kv_heads),
            int(heads.size),
            Arg::U32(scale.to_bits()),
        ];
        self.attend.launch(&self.stream, shape, &args)
    }

    /// `silu(gate)·up` of `rows` rows `[gate | up]`, `width` each.
    pub unsafe fn gate(&self, gate_up: u64, out: u64, (rows, width): (usize, usize)) -> Result<(), GpuError> {
        let numbers = rows * width;
        let blocks = numbers.div_ceil(GATE_THREADS as usize) as u32;
        let shape = Shape { blocks, threads: GATE_THREADS, shared: 0, cluster: 1, follows: false };
        let args = [Arg::Address(gate_up), Arg::Address(out), Arg::U64(numbers as u64), Arg::I32(width as i32)];
        self.gate.launch(&self.stream, shape, &args)
    }
}
