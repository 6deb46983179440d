//! A decoder for checkpoints of the Llama architecture in the Hugging Face layout, its tokenizer, and a small pair of
//! models that is part of the crate.
//!
//! [`Llama`] is a [`Model`](crate::decode::Model) that owns its keys and values, so that a tree of drafts costs one
//! forward pass and a rejected draft costs nothing to forget. [`embedded`] gives a pair to try things with;
//! [`Llama::load`] and [`Tokenizer::load`] read checkpoints from a directory. Nothing is ever downloaded.

#[cfg(feature = "candle-cuda")]
mod address;
#[cfg(feature = "candle-cuda")]
mod batch;
mod cache;
mod checkpoint;
mod config;
#[cfg(feature = "candle-cuda")]
mod cuda;
mod device;
#[cfg(feature = "candle-cuda")]
mod fused;
mod host;
mod llama;
mod pair;
mod resident;
mod rope;
mod tensors;
mod tokenizer;
mod tree;
mod weights;

pub use candle_core::{DType, Device, Tensor};
pub use config::{Config, ConfigError, Family};
#[cfg(feature = "candle-cuda")]
pub use cuda::{CudaSampler, CudaSamplerError, DeviceLaw};
pub use device::{DeviceError, parse_device};
pub use llama::{CallError, Llama, LoadError};
pub use pair::{Pair, PairError, embedded};
pub use resident::{DeviceRow, Resident};
pub use tokenizer::{TextStream, Tokenizer, TokenizerError};
pub use weights::WeightsError;
