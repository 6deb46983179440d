//! Minimum-entropy couplings, and what they are used for with a bottleneck in between.
//!
//! The rules of the rest of this crate couple drafts and output so that they *agree* as often as possible. The other
//! classical aim is a joint law of given marginals that is as *predictable* as possible: of least entropy `H(X, Y)`, which
//! is to say of most mutual information `I(X; Y) = H(X) + H(Y) − H(X, Y)`. It is NP-hard. This module holds
//!
//! - [`greedy`]: a coupling of any number of marginals in `O(n log n)` (Kocaoglu et al. 2017, arXiv 1611.04035), within
//!   `log₂(e)/e ≈ 0.53` bit of the least entropy for two (Compton et al. 2023, arXiv 2302.11838);
//! - [`lower_bound`]: what no coupling goes below, so that every answer carries a certified gap;
//! - [`exact`]: the least entropy itself, for a handful of symbols;
//! - [`Encoder`]: the map `X → T` of most information under a limit on `H(T)` (entropy-bounded information
//!   maximisation), and [`Bottleneck`], the chain `X – T – Y` of given marginals (Ebrahimi et al. 2024, arXiv 2410.21666);
//! - [`game`]: a message carried in the actions of an agent that still acts by its policy (Sokota et al. 2022, arXiv
//!   2107.08295).
//!
//! All entropies are in bits.
//!
//! ```
//! use draftpick::{Pmf, mec};
//!
//! let (p, q) = (Pmf::new([0.5, 0.3, 0.2])?, Pmf::new([0.6, 0.4])?);
//! let coupling = mec::greedy(&[&p, &q])?;
//! let least = mec::lower_bound(&[&p, &q]);
//! assert!(coupling.entropy() >= least && coupling.entropy() < least + 0.53);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bottleneck;
mod coupling;
mod encoder;
mod exact;
pub mod game;
mod greedy;

use std::fmt;

pub use bottleneck::Bottleneck;
pub use coupling::{Coupling, entropy};
pub use encoder::{Encoder, MAX_PARTITIONED, partitions};
pub use exact::{MAX_EXACT, exact};
pub use greedy::{greedy, independent, lower_bound};

/// Why a coupling or an encoder was refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MecError {
    /// There is no marginal.
    NoMarginal,
    /// A marginal has more symbols than the method takes.
    Size {
        /// Which marginal, from 0.
        marginal: usize,
        /// Its symbols of positive probability.
        symbols: usize,
        /// The most there may be.
        most: usize,
    },
    /// The product of the marginals has too many cells to be held.
    Cells {
        /// How many there would be, if that is a number of 64 bits.
        cells: Option<u64>,
        /// The most there may be.
        most: u64,
    },
    /// A rate is negative or not a number.
    Rate {
        /// The rate, in bits.
        rate: f64,
    },
}

impl fmt::Display for MecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MecError::NoMarginal => write!(f, "there is no marginal to couple"),
            MecError::Size { marginal, symbols, most } => {
                write!(f, "marginal {marginal} has {symbols} symbols of positive probability; at most {most} are taken")
            }
            MecError::Cells { cells: Some(cells), most } => {
                write!(f, "the product of the marginals has {cells} cells; at most {most} are taken")
            }
            MecError::Cells { cells: None, most } => {
                write!(f, "the product of the marginals has more than 2⁶⁴ cells; at most {most} are taken")
            }
            MecError::Rate { rate } => write!(f, "the rate is {rate}; it must be a number of bits, 0 or more"),
        }
    }
}

impl std::error::Error for MecError {}
