//! From a pair of language models to text: what a model must offer, and the lossless loop on top of it.
//!
//! [`Model`] is the trait that a decoder implements; [`Speculative`] drafts with one, checks with another and yields
//! tokens that have exactly the second one's law. A [`Sampler`] does both where the scores are: on the host, or on a
//! device, whose rows then never leave it. Feature `candle` holds a decoder for Llama checkpoints.

mod adapt;
#[cfg(feature = "candle")]
pub mod candle;
#[doc = include_str!("../../docs/embedding.md")]
pub mod embedding {}
mod error;
mod model;
mod sampler;
mod sequence;
mod settings;
mod speculative;
mod statistics;

pub use error::{GenerateError, SampleError};
pub use model::{Extension, Model};
pub use sampler::{HostSampler, Leaf, Sampler, Source};
pub use settings::{Finish, Progress, Request, Settings};
pub use speculative::{Speculative, Tokens};
pub use statistics::Statistics;
