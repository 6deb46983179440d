//! The forward pass on the CPU, in loops over slices.
//!
//! A call scores a few dozen nodes of a small model, or a few of a larger one: too little for each operation to be a
//! tensor's. Here the rows of a call are cut into as many shares as there are threads; a thread takes its share through a
//! whole layer, and they meet once a layer, when the keys and values of all new nodes must be there.
//!
//! Every number is added up in an order that does not depend on the other rows: the logits of a node are the same, in
//! every bit, alone and in a tree, in any batch, and after any rollback.

mod attention;
mod elementwise;
mod kernels;
mod linear;

use std::collections::HashMap;

use candle_core::Tensor;
use rayon::prelude::*;

use self::attention::Attend;
use self::elementwise::{add, gated, rms_norm, turn};
use self::linear::Linear;
use super::checkpoint::{Checkpoint, Joined};
use super::config::Config;
use super::rope::Rope;
use super::tree::{Plan, Sight};

/// The multiplications of a call below which it stays on one thread: about 0.1 ms, some times what it takes to wake
/// another one.
const THREADED_WORK: usize = 6_000_000;

/// The most rows that a thread takes through a layer at a time: enough to read the weights for, few enough to stay in
/// its cache.
const SHARE: usize = 48;

/// A layer's weights.
struct Layer {
    attention_norm: Vec<f32>,
    qkv: Linear,
    output: Linear,
    mlp_norm: Vec<f32>,
    gate_up: Linear,
    down: Linear,
}

/// Keys and values of a sequence's slots in one layer, `[slots, kv_heads, head_dim]` each.
#[derive(Clone, Default)]
struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// What a new node needs to know of itself.
struct Row {
    /// Its part of the call.
    part: usize,
    /// The number of tokens before it.
    position: usize,
    sight: Sight,
}

/// A model's weights on the CPU, and the keys and values of all sequences.
pub(super) struct Host {
    config: Config,
    /// `[vocab, hidden]`; none if the head's weights are the embedding.
    embedding: Option<Vec<f32>>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Linear,
    rope: Rope,
    /// By sequence, then by layer.
    caches: HashMap<usize, Vec<Cache>>,
}

impl Host {
    /// Packs a checkpoint that is on the CPU, in f32.
    pub fn new(checkpoint: &Checkpoint, config: Config) -> candle_core::Result<Self> {
        let Checkpoint { embedding, layers, norm, head } = checkpoint;
        let packed = layers.iter().map(|layer| {
            Ok(Layer {
                attention_norm: numbers(&layer.attention_norm)?,
                qkv: linear(&layer.qkv)?,
                output: linear(&layer.output)?,
                mlp_norm: numbers(&layer.mlp_norm)?,
                gate_up: linear(&layer.gate_up)?,
                down: linear(&layer.down)?,
            })
        });
        let layers = packed.collect::<candle_core::Result<_>>()?;
        let head_weights = head.as_ref().unwrap_or(embedding);
        Ok(Host {
            layers,
            norm: numbers(norm)?,
            head: Linear::new(&numbers(head_weights)?, config.hidden, None),
            embedding: head.is_some().then(|| numbers(embedding)).transpose()?,
            rope: Rope::new(&config),
            caches: HashMap::new(),
            config,
        })
    }

    /// The logits of the nodes that are scored. Writes to slots that no tree uses yet.
    pub fn run(&mut self, plan: &Plan) -> Vec<Vec<f32>> {
        let layer = self.layers.first().map_or(0, |layer| {
            [&layer.qkv, &layer.output, &layer.gate_up, &layer.down].map(Linear::work).into_iter().sum()
        });
        let work = plan.tokens.len() * layer * self.layers.len() + plan.scored.len() * self.head.work();
        let threads = rayon::current_num_threads();
        if work < THREADED_WORK || threads == 1 {
            return self.pass(plan, 1);
        }
        // The whole pass within the pool: its threads then find each other awake.
        rayon::scope(|_| self.pass(plan, threads))
    }

    fn pass(&mut self, plan: &Plan, threads: usize) -> Vec<Vec<f32>> {
        let Host { config, embedding, layers, norm, head, rope, caches } = self;
        let &mut Config { hidden, heads, kv_heads, head_dim, .. } = config;
        let eps = config.norm_eps as f32;
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let nodes = plan.tokens.len();
        rope.reach(plan.positions.iter().max().map_or(0, |&last| last + 1));
        let rope = &*rope;

        let mut x = Vec::with_capacity(nodes * hidden);
        for &token in &plan.tokens {
            match embedding {
                Some(embedding) => x.extend_from_slice(&embedding[token as usize * hidden..][..hidden]),
                None => x.extend(head.weights(token as usize)),
            }
        }
        let mut rows = Vec::with_capacity(nodes);
        let mut own: Vec<Vec<Cache>> = Vec::with_capacity(plan.parts.len());
        for (part, of) in plan.parts.iter().enumerate() {
            own.push(caches.remove(&of.sequence).unwrap_or_else(|| vec![Cache::default(); layers.len()]));
            let new = of.rows.clone().zip(0..);
            rows.extend(new.map(|(row, new)| Row { part, position: plan.positions[row], sight: of.sight(new) }));
        }

        let mut qkv = vec![0.0; nodes * (q + 2 * kv)];
        let project = |layer: &Layer, x: &[f32], qkv: &mut [f32]| {
            let mut qkv: Vec<_> = qkv.chunks_exact_mut(q + 2 * kv).collect();
            layer.qkv.forward_into(&rms_norm(x, &layer.attention_norm, eps), &mut qkv);
        };
        let shares = Shares { threads, nodes };
        if let Some(first) = layers.first() {
            shares.each((&mut x, hidden), (&mut qkv, q + 2 * kv), |_, x, qkv| project(first, x, qkv));
        }
        for (index, layer) in layers.iter().enumerate() {
            for (part, caches) in plan.parts.iter().zip(&mut own) {
                let Cache { keys, values } = &mut caches[index];
                keys.truncate(part.first_slot() * kv);
                values.truncate(part.first_slot() * kv);
                for row in part.rows.clone() {
                    let (new_keys, new_values) = qkv[row * (q + 2 * kv)..][q..q + 2 * kv].split_at_mut(kv);
                    let (cos, sin) = rope.row(plan.positions[row]);
                    new_keys.chunks_exact_mut(head_dim).for_each(|key| turn(key, cos, sin));
                    keys.extend_from_slice(new_keys);
                    values.extend_from_slice(new_values);
                }
            }
            let next = layers.get(index + 1);
            shares.each((&mut x, hidden), (&mut qkv, q + 2 * kv), |first, x, qkv| {
                let mut attended = vec![0.0; x.len() / hidden * q];
                let of_row = qkv.chunks_exact_mut(q + 2 * kv).zip(attended.chunks_exact_mut(q));
                for (row, (qkv, into)) in rows[first..].iter().zip(of_row) {
                    let queries = &mut qkv[..q];
                    let (cos, sin) = rope.row(row.position);
                    queries.chunks_exact_mut(head_dim).for_each(|query| turn(query, cos, sin));
                    let Cache { keys, values } = &own[row.part][index];
                    Attend { config, queries, keys, values, sight: &row.sight, into }.run();
                }
                add(x, &layer.output.forward(&attended));
                let gate_up = layer.gate_up.forward(&rms_norm(x, &layer.mlp_norm, eps));
                add(x, &layer.down.forward(&gated(&gate_up, layer.down.inputs())));
                if let Some(next) = next {
                    project(next, x, qkv);
                }
            });
        }
        for (part, own) in plan.parts.iter().zip(own) {
            caches.insert(part.sequence, own);
        }

        let mut scored = Vec::with_capacity(plan.scored.len() * hidden);
        for &row in &plan.scored {
            scored.extend_from_slice(&x[row as usize * hidden..][..hidden]);
        }
        let mut logits: Vec<Vec<f32>> = plan.scored.iter().map(|_| vec![0.0; head.outputs()]).collect();
        Shares { threads, nodes: plan.scored.len() }.each((&mut scored, hidden), (&mut logits, 1), |_, x, logits| {
            let mut logits: Vec<_> = logits.iter_mut().map(Vec::as_mut_slice).collect();
            head.forward_into(&rms_norm(x, norm, eps), &mut logits);
        });
        logits
    }

    /// Keeps the slots of `way`, in order, after the first `kept` slots; all others are dropped.
    pub fn keep(&mut self, sequence: usize, kept: usize, way: &[usize]) {
        let width = self.config.kv_heads * self.config.head_dim;
        for Cache { keys, values } in self.caches.get_mut(&sequence).into_iter().flatten() {
            for all in [keys, values] {
                // A way's slots ascend: none is overwritten before it was moved.
                for (to, &from) in (kept..).zip(way).filter(|(to, from)| to != *from) {
                    all.copy_within(from * width..(from + 1) * width, to * width);
                }
                all.truncate((kept + way.len()) * width);
            }
        }
    }

    /// Drops all slots of a sequence.
    pub fn forget(&mut self, sequence: usize) {
        self.caches.remove(&sequence);
    }
}

/// How the rows of a pass are divided among threads.
#[derive(Clone, Copy)]
struct Shares {
    threads: usize,
    nodes: usize,
}

impl Shares {
    /// Calls `work` for each share with the number of its first row and the share of two arrays, whose rows have the
    /// widths given.
    fn each<A: Send, B: Send>(
        self,
        (a, a_width): (&mut [A], usize),
        (b, b_width): (&mut [B], usize),
        work: impl Fn(usize, &mut [A], &mut [B]) + Sync,
    ) {
        let rows = self.nodes.div_ceil(self.threads).clamp(1, SHARE);
        if self.threads == 1 {
            let shares = a.chunks_mut(rows * a_width).zip(b.chunks_mut(rows * b_width));
            shares.enumerate().for_each(|(share, (a, b))| work(share * rows, a, b));
        } else {
            let shares = a.par_chunks_mut(rows * a_width).zip(b.par_chunks_mut(rows * b_width));
            shares.enumerate().for_each(|(share, (a, b))| work(share * rows, a, b));
        }
    }
}

fn numbers(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn linear(joined: &Joined) -> candle_core::Result<Linear> {
    let bias = joined.bias.as_ref().map(numbers).transpose()?;
    Ok(Linear::new(&numbers(&joined.weight)?, joined.weight.dim(1)?, bias))
}
