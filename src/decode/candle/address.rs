//! Where candle's tensors are in a GPU's memory, for kernels that are not candle's.

// A stream is given by its handle.
#![allow(unsafe_code)]

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, DeviceRepr};
use candle_core::{CudaDevice, CudaStorage, DType, DeviceLocation, Result, Storage, Tensor};

use crate::gpu::{self, GpuError};

/// The device of a candle device, and the stream that candle uses. The stream is candle's: keep `candle` as long.
pub(super) fn gpu_of(candle: &CudaDevice) -> std::result::Result<(gpu::Device, gpu::Stream), GpuError> {
    let ordinal = match candle.location() {
        DeviceLocation::Cuda { gpu_id } => gpu_id,
        _ => 0,
    };
    let device = gpu::Device::new(ordinal)?;
    // SAFETY: candle computes in the primary context too; its device outlives what is made of it, see above.
    let stream = unsafe { device.stream_from_raw(candle.cuda_stream().cu_stream() as usize as u64) };
    Ok((device, stream))
}

/// The device address of the first number of a contiguous tensor.
pub(super) fn address(tensor: &Tensor) -> Result<u64> {
    if !tensor.is_contiguous() {
        candle_core::bail!("a tensor of strides {:?} has no rows one after the other", tensor.stride());
    }
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        candle_core::bail!("the tensor is not on a GPU");
    };
    let start = match tensor.dtype() {
        DType::U8 => start::<u8>(storage)?,
        DType::F32 => start::<f32>(storage)?,
        DType::F16 => start::<half::f16>(storage)?,
        DType::BF16 => start::<half::bf16>(storage)?,
        DType::F64 => start::<f64>(storage)?,
        DType::I32 => start::<i32>(storage)?,
        DType::I64 => start::<i64>(storage)?,
        other => candle_core::bail!("tensors of {other:?} are not given to kernels"),
    };
    Ok(start + (layout.start_offset() * tensor.dtype().size_in_bytes()) as u64)
}

fn start<T: CudaDType + DeviceRepr>(storage: &CudaStorage) -> Result<u64> {
    let slice = storage.as_cuda_slice::<T>()?;
    // The guard would record an event for other streams; there is one.
    let (address, _guard) = slice.device_ptr(slice.stream());
    Ok(address)
}
