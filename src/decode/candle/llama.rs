//! The decoder: what it offers to the loop.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::checkpoint::{Checkpoint, EMBEDDING};
use super::config::{self, Config, ConfigError};
use super::host::Host;
use super::tensors::Tensors;
use super::tree::{Plan, Tree};
use super::weights::{Weights, WeightsError};
use crate::decode::{Extension, Model};
use crate::pmf::Token;

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

/// What runs the forward pass. Both keep keys and values in slots, and compute the same.
enum Backend {
    Host(Box<Host>),
    Device(Box<Tensors>),
}

/// A decoder of the Llama architecture with its own cache of keys and values.
///
/// Each sequence's tree is kept on the device. A call is one forward pass: the projections run over all new nodes of all
/// sequences together, and each new node attends to the tokens on its way only. Its [`Row`](Model::Row)s are `f32` on the
/// host; [`forward`](Llama::forward) leaves them on the device.
///
/// On the CPU a node's logits are the same in every bit, whatever else is in the call, and by whatever calls and
/// rollbacks its tokens got there. On a GPU they are within the rounding of the type that it computes in.
pub struct Llama {
    config: Config,
    device: Device,
    dtype: DType,
    backend: Backend,
    trees: HashMap<usize, Tree>,
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

        let checkpoint = Checkpoint::load(weights, &config, device, dtype)?;
        let backend = if device.is_cpu() {
            Backend::Host(Box::new(Host::new(&checkpoint, config.clone())?))
        } else {
            Backend::Device(Box::new(Tensors::new(checkpoint, config.clone(), device, dtype)?))
        };
        Ok(Llama {
            end_of_text: config.end_of_text().to_vec(),
            trees: HashMap::new(),
            device: device.clone(),
            config,
            dtype,
            backend,
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
        let plan = self.plan(new)?;
        let logits = match &mut self.backend {
            Backend::Host(host) => {
                let shape = (plan.scored.len(), self.config.vocab);
                Tensor::from_vec(host.run(&plan).concat(), shape, &self.device)?
            }
            Backend::Device(tensors) => tensors.run(&plan)?,
        };
        self.grow(plan);
        Ok(logits)
    }

    fn plan(&self, new: &[Extension]) -> Result<Plan, CallError> {
        let tree = |sequence| self.trees.get(&sequence).cloned().unwrap_or_default();
        Plan::new(new, tree, self.config.vocab, self.config.context)
    }

    /// Takes over the trees of a call that succeeded.
    fn grow(&mut self, plan: Plan) {
        self.trees.extend(plan.parts.into_iter().map(|part| (part.sequence, part.tree)));
    }
}

impl Model for Llama {
    type Row = Vec<f32>;
    type Error = CallError;

    fn vocab(&self) -> usize {
        self.config.vocab
    }

    fn extend(&mut self, new: &[Extension]) -> Result<Vec<Vec<f32>>, CallError> {
        let plan = self.plan(new)?;
        let rows = match &mut self.backend {
            Backend::Host(host) => host.run(&plan),
            Backend::Device(tensors) => tensors.run(&plan)?.to_vec2()?,
        };
        self.grow(plan);
        Ok(rows)
    }

    fn keep(&mut self, sequence: usize, node: Option<usize>) -> Result<(), CallError> {
        let Some(node) = node else {
            self.trees.remove(&sequence);
            match &mut self.backend {
                Backend::Host(host) => host.forget(sequence),
                Backend::Device(tensors) => tensors.forget(sequence),
            }
            return Ok(());
        };
        let Some(tree) = self.trees.get_mut(&sequence) else {
            return if node == 0 { Ok(()) } else { Err(CallError::Node { sequence, node, nodes: 1 }) };
        };
        let way = tree.way(node).ok_or(CallError::Node { sequence, node, nodes: tree.nodes() })?;
        match &mut self.backend {
            Backend::Host(host) => host.keep(sequence, tree.kept(), &way),
            Backend::Device(tensors) => tensors.keep(sequence, tree.kept(), &way)?,
        }
        tree.keep(way.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far the logits of the two backends may be apart: sums in another order.
    const SAME: f32 = 1e-4;

    /// A checkpoint of the tests' data on the CPU, by loops and by tensor operations.
    fn both(name: &str) -> [Llama; 2] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let load = || Llama::load(&dir, &Device::Cpu, None).unwrap();
        let (host, mut tensors) = (load(), load());
        let config = tensors.config.clone();
        let checkpoint = Checkpoint::load(Weights::open(&dir).unwrap(), &config, &Device::Cpu, DType::F32).unwrap();
        let device = Tensors::new(checkpoint, config, &Device::Cpu, DType::F32).unwrap();
        tensors.backend = Backend::Device(Box::new(device));
        [host, tensors]
    }

    /// Trees of three sequences at random, grown in several calls, and rolled back to random nodes. Another layer's
    /// keys, a mask that is off by one, or a slot that was not moved show as differences.
    #[test]
    fn loops_and_tensors_give_the_same_logits() {
        let variants = ["biased", "grouped-sharded", "linear-f16-tied", "llama3-bf16", "mistral", "qwen2"];
        let variants = variants.map(|name| format!("tests/data/variants/{name}"));
        for name in variants.iter().map(String::as_str).chain(["assets/tiny-pair/target", "assets/tiny-pair/draft"]) {
            let mut models = both(name);
            let vocab = models[0].vocab();
            let mut state = 7u64;
            let mut below = |n: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize % n
            };
            // The number of tokens up to each node of each sequence.
            let mut lengths: [Vec<usize>; 3] = std::array::from_fn(|_| vec![0]);
            let mut worst = 0.0f32;
            for round in 0..24 {
                let size = 1 + below(if round % 6 == 5 { 70 } else { 12 });
                let new: Vec<Extension> = (0..size)
                    .map(|_| {
                        let sequence = below(3);
                        let lengths = &mut lengths[sequence];
                        // Every second time a chain goes on, otherwise it branches anywhere; the context is 64.
                        let parent = if below(2) == 0 { lengths.len() - 1 } else { below(lengths.len()) };
                        let parent = if lengths[parent] < 60 { parent } else { 0 };
                        lengths.push(lengths[parent] + 1);
                        Extension { sequence, parent, token: below(vocab) as Token, scored: below(4) > 0 }
                    })
                    .collect();
                let [host, tensors] = models.each_mut().map(|model| model.extend(&new).unwrap());
                assert_eq!(host.len(), tensors.len());
                for (a, b) in host.iter().flatten().zip(tensors.iter().flatten()) {
                    let difference = (a - b).abs();
                    assert!(difference <= SAME, "{name}, round {round}: {a} and {b}");
                    worst = worst.max(difference);
                }
                let sequence = below(3);
                let node = below(lengths[sequence].len());
                let kept = Some(node).filter(|&node| lengths[sequence][node] < 40 && below(8) > 0);
                models.iter_mut().for_each(|model| model.keep(sequence, kept).unwrap());
                lengths[sequence] = vec![kept.map_or(0, |node| lengths[sequence][node])];
            }
            println!("{name}: largest difference {worst:e}");
        }
    }
}
