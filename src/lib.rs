//! Lossless draft selection for speculative decoding, by optimal transport.

pub mod maximal;
pub mod pmf;
pub mod problem;
pub mod rule;
pub mod selector;

pub use pmf::{Coin, Pmf, Sampling, Token};
pub use problem::{Laws, Problem};
pub use rule::Rule;
pub use selector::{Acceptance, Drawn, SelectError, Selection, Selector};
