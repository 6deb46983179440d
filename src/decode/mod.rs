//! From a pair of language models to text: what a model must offer, and the lossless loop on top of it.

#[cfg(feature = "candle")]
pub mod candle;
mod model;

pub use model::{Extension, Model};
