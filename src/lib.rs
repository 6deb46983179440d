#![doc = include_str!("../README.md")]

pub mod audit;
pub mod bound;
mod classes;
pub mod coupling;
pub mod decode;
pub mod engine;
pub mod exchange;
#[cfg(feature = "cuda")]
pub mod gpu;
pub mod kseq;
pub mod layout;
#[cfg(feature = "lp")]
pub mod lp;
pub mod maximal;
pub mod mec;
pub mod optimal;
pub mod path;
#[cfg(feature = "picture")]
pub mod picture;
pub mod pmf;
pub mod problem;
mod ratio;
pub mod recursive;
pub mod rule;
pub mod scan;
pub mod selector;
mod simd;
mod sum;
#[cfg(feature = "trace")]
pub mod trace;
mod winner;

pub use pmf::{Coin, Pmf, Sampling, Token};
pub use problem::{Laws, Problem};
pub use rule::Rule;
pub use selector::{Acceptance, Drawn, SelectError, Selection, Selector};

// Runs without a GPU, and whether or not the crate is built for one.
#[cfg(all(test, feature = "half"))]
#[path = "gpu/kernels/filter_tests.rs"]
mod filter_tests;
#[cfg(test)]
#[path = "gpu/kernels/tests.rs"]
mod kernel_tests;

// The chapters of the book: their code runs as tests.
#[cfg(all(doctest, feature = "cli"))]
mod book;
