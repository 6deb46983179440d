//! From a pair of language models to text: what a model must offer, and the lossless loop on top of it.
//!
//! [`Model`] is the trait that a decoder implements; [`Speculative`] drafts with one, checks with another and yields
//! tokens that have exactly the second one's law. Feature `candle` holds a decoder for Llama checkpoints.

mod adapt;
#[cfg(feature = "candle")]
pub mod candle;
mod model;
mod speculative;
mod statistics;

pub use model::{Extension, Model};
pub use speculative::{Finish, GenerateError, Progress, Request, Settings, Speculative, Tokens};
pub use statistics::Statistics;
