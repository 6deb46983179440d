//! Selection on an NVIDIA GPU: from both models' logits in its memory to tokens, reading the scores once.
//!
//! ```text
//! count     a cluster of blocks a row pair: both rows into shared memory, normalisers, ratio cells      (count.cuh)
//! decide    a block a row pair: what the rule makes of the cells, which draft is accepted               (plan.cuh, exchange.cuh)
//! draw      a cluster a rejected row pair: the rows again                                               (draw.cuh)
//! ```
//!
//! [`Device::new`] is the only way in; where there is no driver it says so with a typed error. The kernels are CUDA C++
//! in `kernels/`, part of the crate as text, compiled for the device at hand when they are first used, and kept in
//! memory and on disk (`$DRAFTPICK_CUDA_CACHE`, else `draftpick` in the user's cache directory).
//!
//! Nothing of the size `batch × k × V` is ever written, nothing waits for the host, and all work goes to the caller's
//! stream: it can be captured in a CUDA graph.
//!
//! # What the counting kernel leaves of a row pair
//!
//! The numbers of `Scan` on the CPU, in the same cells, for a row of each model:
//!
//! - a [`RowStats`]: the logarithms of both softmax denominators, and which stretch of the ratio grid its cells are;
//! - two integers for each of its cells: the draft mass `P` and the target mass `Q` of the cell's tokens, in units of 2⁻⁴⁰
//!   (the target mass of the last cell of 2⁻⁴²). Integers, so that the blocks of a cluster may add theirs in any order.
//!
//! A token of logits `(d, t)` has the grid number `n = round((d − t)·per_width)`, in f32, and lies in the cell
//! `clamp(n − first + 1, 0, cells − 1)`. Cell 0 also takes what is below the lowest edge and has no draft mass at all, the
//! last cell what is above the highest or has no target mass: nothing lies beyond the cells. Finite edge `j` is the
//! upper end of cell `j`; its log-ratio `ln(p/q)` is `(first + j − ½)·width − (draft_log_sum − target_log_sum)`. The last
//! edge, number `cells − 1`, is infinite.
//!
//! The largest logits of the rows are needed for the normalisers only, and are not kept.

#[cfg(feature = "candle-cuda")]
pub(crate) mod decoder;
pub mod dlpack;
mod filter;
mod launch;
mod path;
mod probe;
mod select;
mod source;

use cudarc::driver::DriverError;
use cudarc::nvrtc::result::NvrtcError;

pub use filter::{Each, Filter, Filtered, Filters};
pub use launch::{Buffer, Device, Format, Plain, Rows, Score, Stream, View};
pub use path::{Drawn, Draws, Forest, MAX_LENGTH, MAX_PATHS, Outcomes, TreeRule, TreeVerifier, Trees};
pub use probe::compile_kernels;
pub use select::{CoinSource, MAX_VOCAB, Pairs, Selections, Shaping, TokenRule, TokenSelector};

/// The most cells of a row pair, and the distance from one row pair's cells to the next one's.
pub const MAX_CELLS: usize = 1600;

/// What the counting kernel leaves of a row pair besides the masses of its cells; `RowStats` of `kernels/row.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStats {
    /// `ln Σ e^logit` of the draft row.
    pub draft_log_sum: f64,
    /// `ln Σ e^logit` of the target row.
    pub target_log_sum: f64,
    /// The grid number of cell 1.
    pub first: i32,
    /// The number of cells, which is that of the edges.
    pub cells: i32,
    /// Why the row pair is refused; 0 if it is not.
    pub flags: i32,
    /// What the flags are about, or −1.
    pub token: i32,
}

/// Why the GPU cannot be used, or a call was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// There is no NVIDIA driver.
    #[error("no NVIDIA driver was found (libcuda.so): install it, or run on the CPU")]
    NoDriver,
    /// The driver has no such device.
    #[error("device {ordinal} was asked for, but the driver has {found} devices")]
    NoDevice {
        /// The number asked for.
        ordinal: usize,
        /// The number of devices.
        found: usize,
    },
    /// The kernels are not in the cache, and there is no compiler to compile them.
    #[error("no run-time compiler was found (libnvrtc.so): install the CUDA toolkit, or put it on LD_LIBRARY_PATH")]
    NoCompiler,
    /// The compiler refuses a file of kernels, or warns where warnings are errors.
    #[error("{file} does not compile without a warning:\n{log}")]
    Compile {
        /// The file.
        file: &'static str,
        /// What the compiler says.
        log: String,
    },
    /// The compiler fails in some other way.
    #[error("the run-time compiler failed: {0:?}")]
    Compiler(NvrtcError),
    /// The driver fails. An error of a kernel is reported by a later call.
    #[error("the driver failed: {0}")]
    Driver(DriverError),
    /// The device computes something else than the CPU: [`Device::check`] says what.
    #[error("the device fails its check: {what} should be {expected:?} and is {found:?}")]
    Check {
        /// What was asked of the device.
        what: &'static str,
        /// What the CPU says.
        expected: f64,
        /// What the device says.
        found: f64,
    },
    /// The vocabulary is too large, or not the one that the selector was made for.
    #[error("rows of {vocab} logits; there must be 1 to {MAX_VOCAB}, and as many as the selector was made for")]
    Vocabulary {
        /// The logits of a row.
        vocab: usize,
    },
    /// The logits are in another format than the selector was made for.
    #[error("the logits are in {format:?}, another format than the selector was made for")]
    Format {
        /// Their format.
        format: Format,
    },
    /// The number of drafts is out of range.
    #[error("room for {k} drafts; there must be at most {}", crate::problem::MAX_DRAFTS)]
    Drafts {
        /// Their number.
        k: usize,
    },
    /// The number of paths is out of range.
    #[error("trees of {paths} paths; there must be 1 to {MAX_PATHS}, and no more than there is room for")]
    Paths {
        /// Their number.
        paths: usize,
    },
    /// Paths are longer than there is room for.
    #[error("paths of {length} tokens are longer than the {MAX_LENGTH} allowed, or than there is room for")]
    PathLength {
        /// The tokens of the longest.
        length: usize,
    },
    /// More pairs of rows than there is room for, or than fit into one call.
    #[error("{pairs} pairs of rows are more than there is room for")]
    Pairs {
        /// Their number.
        pairs: usize,
    },
    /// A tensor of another library holds no rows of logits that can be read.
    #[error(transparent)]
    Dlpack(#[from] dlpack::DlpackError),
    /// A parameter of a filter is out of range.
    #[error("{name} is {value}; it must be {range}")]
    Parameter {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The values allowed.
        range: &'static str,
    },
    /// An array is too short.
    #[error("{given} {what} were given, {wanted} are needed")]
    Length {
        /// Which array.
        what: &'static str,
        /// Its length.
        given: usize,
        /// The least length.
        wanted: usize,
    },
    /// More values than can be addressed.
    #[error("a buffer of {len} values was asked for")]
    TooLarge {
        /// Their number.
        len: usize,
    },
}

impl From<DriverError> for GpuError {
    fn from(error: DriverError) -> Self {
        GpuError::Driver(error)
    }
}

impl From<NvrtcError> for GpuError {
    fn from(error: NvrtcError) -> Self {
        GpuError::Compiler(error)
    }
}
