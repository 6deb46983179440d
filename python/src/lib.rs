//! The extension module behind the Python package `draftpick`: arrays in, arrays out, no mathematics.
//!
//! Every function here takes NumPy arrays of one exact type; `draftpick/_arrays.py` makes those of what the caller has. The
//! rows of logits are read where they lie. The GIL is released while the library works. Whatever the library refuses is a
//! `ValueError` with its message, and the row of the batch in front.

mod array;
mod audit;
mod coins;
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
mod cuda;
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
mod dlpack;
mod parallel;
mod paths;
mod problem;
mod sampling;
mod select;
mod trees;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _draftpick {
    #[pymodule_export]
    use super::audit::{Auditor, audit_file};
    #[pymodule_export]
    use super::coins::philox;
    #[cfg(feature = "cuda")]
    #[pymodule_export]
    use super::cuda::CudaDevice;
    #[cfg(feature = "cuda")]
    #[pymodule_export]
    use super::dlpack::CudaRows;
    #[pymodule_export]
    use super::parallel::{get_num_threads, set_num_threads};
    #[pymodule_export]
    use super::paths::{outcome_law, verify_paths};
    #[pymodule_export]
    use super::problem::{PreparedSelector, alpha_star, measure, rule_names, solve};
    #[pymodule_export]
    use super::sampling::draw;
    #[pymodule_export]
    use super::select::{PreparedBatch, select};
    #[pymodule_export]
    use super::trees::{follow_tree, verify_chains, verify_tree};
}
