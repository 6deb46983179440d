//! Tensors of other libraries in the memory of a GPU, taken over by DLPack.

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use draftpick::gpu::Format;
use draftpick::gpu::dlpack::{DLManagedTensor, DLManagedTensorVersioned, DlpackError, Tensor};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::array::refused;
use crate::cuda::Rows;

/// What a capsule is called, and what it is called once it was consumed.
const VERSIONED: [&CStr; 2] = [c"dltensor_versioned", c"used_dltensor_versioned"];
const LEGACY: [&CStr; 2] = [c"dltensor", c"used_dltensor"];

/// Rows of logits in the memory of a GPU that another library lent; given back when this is dropped.
#[pyclass(frozen, unsendable, module = "draftpick._draftpick")]
pub struct CudaRows {
    tensor: Tensor,
}

#[pymethods]
impl CudaRows {
    /// Consumes the capsule that `__dlpack__` returned, of a tensor on the GPU with this number.
    #[new]
    fn new(capsule: &Bound<'_, PyAny>, ordinal: usize) -> PyResult<Self> {
        let taken = match consumed(capsule, VERSIONED)? {
            // SAFETY: the capsule owned the tensor and has handed it over; Python keeps the memory until it is given back, and
            // whoever calls sees to the order of work.
            Some(tensor) => unsafe { Tensor::versioned(tensor.cast::<DLManagedTensorVersioned>(), ordinal) },
            None => match consumed(capsule, LEGACY)? {
                // SAFETY: as above.
                Some(tensor) => unsafe { Tensor::legacy(tensor.cast::<DLManagedTensor>(), ordinal) },
                None => return Err(refused("what __dlpack__ gave is no capsule of a tensor, or was taken before")),
            },
        };
        Ok(CudaRows { tensor: taken.map_err(|error: DlpackError| refused(error))? })
    }

    /// The lengths of the axes.
    #[getter]
    fn shape(&self) -> Vec<usize> {
        self.tensor.shape().to_vec()
    }

    /// Address, type, how many rows, from one to the next, their length.
    #[getter]
    fn rows(&self) -> Rows {
        let dtype = match self.tensor.format() {
            Format::F32 => "float32",
            Format::F16 => "float16",
            Format::Bf16 => "bfloat16",
        };
        let tensor = &self.tensor;
        (tensor.address(), dtype.into(), tensor.len(), tensor.stride(), tensor.vocab())
    }
}

/// The pointer of a capsule of the first name, which then has the second: its own destructor leaves the tensor alone.
fn consumed(capsule: &Bound<'_, PyAny>, [name, used]: [&'static CStr; 2]) -> PyResult<Option<NonNull<()>>> {
    let name: *const c_char = name.as_ptr();
    // SAFETY: an object, and a string that lives for ever; it may be anything but a capsule of this name.
    if unsafe { ffi::PyCapsule_IsValid(capsule.as_ptr(), name) } == 0 {
        return Ok(None);
    }
    // SAFETY: a capsule of this name.
    let pointer = NonNull::new(unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), name) });
    // SAFETY: as above; the new name lives for ever.
    if pointer.is_none() || unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), used.as_ptr()) } != 0 {
        return Err(PyErr::fetch(capsule.py()));
    }
    Ok(pointer.map(NonNull::cast))
}
