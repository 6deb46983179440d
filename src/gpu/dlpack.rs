//! Rows of logits in a tensor of another library, taken over by DLPack: an address with what is there, and whom to tell when it
//! is no longer needed.
//!
//! The structures are those of DLPack 1 (<https://dmlc.github.io/dlpack/latest/c_api.html>), in both forms: the one with a version
//! and the older one without.

// The tensor is what its producer says.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::NonNull;

use super::GpuError;
use super::launch::{Device, Format, Rows};

/// The major version of DLPack that is understood.
const MAJOR: u32 = 1;

/// `kDLCUDA`: the memory of an NVIDIA GPU.
const CUDA: i32 = 2;

/// `kDLFloat` and `kDLBfloat`.
const FLOAT: u8 = 2;
const BFLOAT: u8 = 4;

/// The most axes: sequences, paths, positions, tokens.
const MAX_AXES: i32 = 4;

/// `DLDevice`: the kind of a device, and its number.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DLDevice {
    /// The kind; 2 is an NVIDIA GPU.
    pub device_type: i32,
    /// Its number.
    pub device_id: i32,
}

/// `DLDataType`: the type of an element.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DLDataType {
    /// The kind; 2 is IEEE floating point, 4 bfloat16.
    pub code: u8,
    /// The bits of a lane.
    pub bits: u8,
    /// The numbers in an element.
    pub lanes: u16,
}

/// `DLTensor`: an array, not owned.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DLTensor {
    /// Where it is, less `byte_offset`.
    pub data: *mut c_void,
    /// On which device.
    pub device: DLDevice,
    /// The number of axes.
    pub ndim: i32,
    /// What it holds.
    pub dtype: DLDataType,
    /// `[ndim]`: the lengths of the axes.
    pub shape: *mut i64,
    /// `[ndim]`: elements from one index to the next; null: compact, the last axis the fastest.
    pub strides: *mut i64,
    /// Bytes from `data` to the first element.
    pub byte_offset: u64,
}

/// `DLManagedTensor`: an array with its owner, before DLPack 1.
#[repr(C)]
#[derive(Debug)]
pub struct DLManagedTensor {
    /// The array.
    pub dl_tensor: DLTensor,
    /// The owner's.
    pub manager_ctx: *mut c_void,
    /// To be called once with the structure's address when the array is no longer needed; null: nothing.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensor)>,
}

/// `DLPackVersion`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DLPackVersion {
    /// Another one has another layout.
    pub major: u32,
    /// Another one adds to the meaning of numbers.
    pub minor: u32,
}

/// `DLManagedTensorVersioned`: an array with its owner.
#[repr(C)]
#[derive(Debug)]
pub struct DLManagedTensorVersioned {
    /// Of another major version nothing behind `deleter` is looked at.
    pub version: DLPackVersion,
    /// The owner's.
    pub manager_ctx: *mut c_void,
    /// To be called once with the structure's address when the array is no longer needed; null: nothing.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensorVersioned)>,
    /// Bits: whether it is only to be read, was copied, and others.
    pub flags: u64,
    /// The array.
    pub dl_tensor: DLTensor,
}

/// Why a tensor holds no rows of logits that the kernels could read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DlpackError {
    /// The structure is of a version whose layout is not known.
    #[error("the tensor is of DLPack {major}, which this library does not know")]
    Version {
        /// The major version.
        major: u32,
    },
    /// The tensor is elsewhere.
    #[error("the tensor is on device {id} of DLPack's type {kind}, not on GPU {wanted} (type 2)")]
    Elsewhere {
        /// The kind of its device.
        kind: i32,
        /// The number of its device.
        id: i32,
        /// The number of the GPU.
        wanted: usize,
    },
    /// The elements are no logits.
    #[error(
        "the elements are of DLPack's type {code} with {bits} bits and {lanes} lanes; \
         logits are f32 (2, 32 bits), f16 (2, 16) or bf16 (4, 16), with one lane"
    )]
    Type {
        /// The kind of a number.
        code: u8,
        /// Its bits.
        bits: u8,
        /// The numbers in an element.
        lanes: u16,
    },
    /// The number of axes is none of rows.
    #[error("the tensor has {ndim} axes; there must be 1 to {MAX_AXES}, the last one that of the vocabulary")]
    Axes {
        /// Their number.
        ndim: i32,
    },
    /// The lengths of the axes cannot be.
    #[error(
        "the shape {shape:?} is none: lengths are at least 0, that of the vocabulary at least 1, and all can be addressed"
    )]
    Shape {
        /// The lengths.
        shape: Vec<i64>,
    },
    /// The logits of a row are apart, or its rows unevenly so.
    #[error(
        "shape {shape:?} with strides {strides:?} is no even sequence of rows, each without gaps: make the tensor contiguous first"
    )]
    Strides {
        /// The lengths of the axes.
        shape: Vec<i64>,
        /// Elements from one index to the next.
        strides: Vec<i64>,
    },
    /// The address is null, lies between elements, or is none.
    #[error("address {address:#x} and offset {offset} are none of elements of {size} bytes")]
    Address {
        /// The address of the memory.
        address: u64,
        /// Bytes from there to the first element.
        offset: u64,
        /// The bytes of an element.
        size: usize,
    },
}

/// A tensor of logits that was taken over: its rows can be read until it is dropped, which tells its owner.
#[derive(Debug)]
pub struct Tensor {
    // Held for what its drop does.
    _owner: Owner,
    address: u64,
    format: Format,
    rows: usize,
    stride: usize,
    shape: Vec<usize>,
}

/// What has to be told when the tensor is no longer needed: the one who made it, once.
#[derive(Debug)]
enum Owner {
    Legacy(NonNull<DLManagedTensor>),
    Versioned(NonNull<DLManagedTensorVersioned>),
}

impl Drop for Owner {
    fn drop(&mut self) {
        match *self {
            Owner::Legacy(tensor) => {
                // SAFETY: the structure is valid until its deleter is called, by the promise to `Tensor`; this is the only call.
                if let Some(deleter) = unsafe { tensor.as_ref() }.deleter {
                    // SAFETY: as above.
                    unsafe { deleter(tensor.as_ptr()) }
                }
            }
            Owner::Versioned(tensor) => {
                // SAFETY: as above; every version has the deleter in this place.
                if let Some(deleter) = unsafe { std::ptr::addr_of!((*tensor.as_ptr()).deleter).read() } {
                    // SAFETY: as above.
                    unsafe { deleter(tensor.as_ptr()) }
                }
            }
        }
    }
}

impl Tensor {
    /// Takes over a tensor of `[V]`, `[N, V]`, `[B, N, V]` or `[B, K, N, V]` logits in the memory of `device`. It is told when it is
    /// no longer needed once, and also where it is refused.
    ///
    /// # Safety
    /// The structure is valid, and nobody else calls its deleter. Until that is called the memory holds what it says, and
    /// nothing writes it while work reads it. That the work which made it comes before the work that reads it, in its stream or
    /// by an event, is the caller's to see to.
    ///
    /// # Errors
    /// [`GpuError::Dlpack`].
    pub unsafe fn from_versioned(tensor: NonNull<DLManagedTensorVersioned>, device: &Device) -> Result<Self, GpuError> {
        // SAFETY: promised by the caller.
        Ok(unsafe { Self::versioned(tensor, device.ordinal()) }?)
    }

    /// The same of the older structure, without a version.
    ///
    /// # Safety
    /// As [`from_versioned`](Tensor::from_versioned).
    ///
    /// # Errors
    /// [`GpuError::Dlpack`].
    pub unsafe fn from_legacy(tensor: NonNull<DLManagedTensor>, device: &Device) -> Result<Self, GpuError> {
        // SAFETY: promised by the caller.
        Ok(unsafe { Self::legacy(tensor, device.ordinal()) }?)
    }

    /// [`from_versioned`](Tensor::from_versioned) for the GPU with this number, which is not looked for.
    ///
    /// # Safety
    /// As there.
    ///
    /// # Errors
    /// [`DlpackError`].
    pub unsafe fn versioned(tensor: NonNull<DLManagedTensorVersioned>, ordinal: usize) -> Result<Self, DlpackError> {
        let owner = Owner::Versioned(tensor);
        // SAFETY: every version has its number in this place.
        let DLPackVersion { major, .. } = unsafe { std::ptr::addr_of!((*tensor.as_ptr()).version).read() };
        if major != MAJOR {
            return Err(DlpackError::Version { major });
        }
        // SAFETY: promised by the caller, now that the layout is known.
        unsafe { Self::taken(owner, std::ptr::addr_of!((*tensor.as_ptr()).dl_tensor), ordinal) }
    }

    /// [`from_legacy`](Tensor::from_legacy) for the GPU with this number, which is not looked for.
    ///
    /// # Safety
    /// As there.
    ///
    /// # Errors
    /// [`DlpackError`].
    pub unsafe fn legacy(tensor: NonNull<DLManagedTensor>, ordinal: usize) -> Result<Self, DlpackError> {
        // SAFETY: promised by the caller.
        unsafe { Self::taken(Owner::Legacy(tensor), std::ptr::addr_of!((*tensor.as_ptr()).dl_tensor), ordinal) }
    }

    /// A copy of the structure is looked at: dropping `owner`, which an error does, may free it.
    unsafe fn taken(owner: Owner, tensor: *const DLTensor, ordinal: usize) -> Result<Self, DlpackError> {
        // SAFETY: valid until the owner is told, by the caller's promise.
        let DLTensor { data, device, ndim, dtype, shape, strides, byte_offset } = unsafe { tensor.read() };
        let DLDevice { device_type: kind, device_id: id } = device;
        if kind != CUDA || usize::try_from(id) != Ok(ordinal) {
            return Err(DlpackError::Elsewhere { kind, id, wanted: ordinal });
        }
        let DLDataType { code, bits, lanes } = dtype;
        let format = match (code, bits, lanes) {
            (FLOAT, 32, 1) => Format::F32,
            (FLOAT, 16, 1) => Format::F16,
            (BFLOAT, 16, 1) => Format::Bf16,
            _ => return Err(DlpackError::Type { code, bits, lanes }),
        };
        if !(1..=MAX_AXES).contains(&ndim) || shape.is_null() {
            return Err(DlpackError::Axes { ndim });
        }
        let axes = ndim as usize;
        // SAFETY: as many numbers as there are axes, by the caller's promise.
        let shape = unsafe { std::slice::from_raw_parts(shape, axes) };
        // SAFETY: as above.
        let strides = (!strides.is_null()).then(|| unsafe { std::slice::from_raw_parts(strides, axes) });
        let wrong_shape = || DlpackError::Shape { shape: shape.to_vec() };
        let lengths: Vec<usize> =
            shape.iter().map(|&length| usize::try_from(length).map_err(|_| wrong_shape())).collect::<Result<_, _>>()?;
        let (vocab, outer) = (lengths[axes - 1], &lengths[..axes - 1]);
        let bytes = lengths.iter().try_fold(format.size(), |bytes, &length| bytes.checked_mul(length));
        if vocab == 0 || bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            return Err(wrong_shape());
        }
        let (rows, stride) = match strides {
            None => (outer.iter().product(), vocab),
            Some(strides) => {
                let wrong = || DlpackError::Strides { shape: shape.to_vec(), strides: strides.to_vec() };
                if vocab > 1 && strides[axes - 1] != 1 {
                    return Err(wrong());
                }
                even(outer, &strides[..axes - 1])
                    .map(|(rows, stride)| (rows, stride.unwrap_or(vocab)))
                    .ok_or_else(wrong)?
            }
        };
        let (address, size) = (data as u64, format.size());
        let first = address.checked_add(byte_offset);
        let wrong_address = DlpackError::Address { address, offset: byte_offset, size };
        let first =
            first.filter(|first| (rows == 0 || address != 0) && first % size as u64 == 0).ok_or(wrong_address)?;
        Ok(Tensor { _owner: owner, address: first, format, rows, stride, shape: lengths })
    }

    /// The rows, axis by axis, the last one but that of the vocabulary the fastest.
    pub fn rows(&self) -> Rows<'_> {
        // SAFETY: promised by whom the tensor was taken over from, until it is dropped.
        unsafe { Rows::from_raw(self.address, self.format, self.rows, self.stride) }
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The logits of a row.
    pub fn vocab(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// The format of the logits.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The device address of the first logit.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Logits from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }
}

/// The number of indices of some axes, and the one stride with which they follow each other, if there are two; `None` if there is
/// no such stride, or it goes backwards.
fn even(lengths: &[usize], strides: &[i64]) -> Option<(usize, Option<usize>)> {
    let mut found: Option<(usize, usize)> = None;
    if lengths.contains(&0) {
        return Some((0, None));
    }
    // From the fastest axis on; of an axis of one index the stride says nothing.
    for (&length, &stride) in lengths.iter().zip(strides).rev().filter(|(length, _)| **length > 1) {
        let stride = usize::try_from(stride).ok()?;
        found = match found {
            None => Some((length, stride)),
            Some((count, step)) if step.checked_mul(count) == Some(stride) => Some((count * length, step)),
            Some(_) => return None,
        };
    }
    Some(found.map_or((1, None), |(count, step)| (count, Some(step))))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A tensor made by hand, which counts the calls of its deleter.
    struct Made {
        told: Box<AtomicUsize>,
        shape: Vec<i64>,
        strides: Option<Vec<i64>>,
        data: u64,
        device: DLDevice,
        dtype: DLDataType,
        ndim: i32,
        byte_offset: u64,
        major: u32,
    }

    unsafe extern "C" fn told(tensor: *mut DLManagedTensor) {
        // SAFETY: `Made::legacy` made it, of a box, with the address of its counter.
        let tensor = unsafe { Box::from_raw(tensor) };
        // SAFETY: as above.
        unsafe { &*tensor.manager_ctx.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
    }

    unsafe extern "C" fn versioned_told(tensor: *mut DLManagedTensorVersioned) {
        // SAFETY: as in `told`.
        let tensor = unsafe { Box::from_raw(tensor) };
        // SAFETY: as above.
        unsafe { &*tensor.manager_ctx.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
    }

    impl Made {
        fn new(shape: &[i64], strides: Option<&[i64]>) -> Self {
            Made {
                told: Box::default(),
                shape: shape.to_vec(),
                strides: strides.map(<[i64]>::to_vec),
                data: 4096,
                device: DLDevice { device_type: 2, device_id: 3 },
                dtype: DLDataType { code: 2, bits: 32, lanes: 1 },
                ndim: shape.len() as i32,
                byte_offset: 0,
                major: 1,
            }
        }

        fn tensor(&mut self) -> DLTensor {
            DLTensor {
                data: self.data as *mut c_void,
                device: self.device,
                ndim: self.ndim,
                dtype: self.dtype,
                shape: self.shape.as_mut_ptr(),
                strides: self.strides.as_mut().map_or(std::ptr::null_mut(), Vec::as_mut_ptr),
                byte_offset: self.byte_offset,
            }
        }

        fn context(&self) -> *mut c_void {
            std::ptr::from_ref::<AtomicUsize>(&self.told).cast_mut().cast()
        }

        /// Taken over on GPU 3, in the older form.
        fn legacy(&mut self) -> Result<Tensor, DlpackError> {
            let managed =
                DLManagedTensor { dl_tensor: self.tensor(), manager_ctx: self.context(), deleter: Some(told) };
            // SAFETY: valid, and handed over; nothing reads the memory that it speaks of.
            unsafe { Tensor::legacy(NonNull::from(Box::leak(Box::new(managed))), 3) }
        }

        fn versioned(&mut self) -> Result<Tensor, DlpackError> {
            let managed = DLManagedTensorVersioned {
                version: DLPackVersion { major: self.major, minor: 7 },
                manager_ctx: self.context(),
                deleter: Some(versioned_told),
                flags: 1,
                dl_tensor: self.tensor(),
            };
            // SAFETY: as above.
            unsafe { Tensor::versioned(NonNull::from(Box::leak(Box::new(managed))), 3) }
        }

        fn times_told(&self) -> usize {
            self.told.load(Ordering::Relaxed)
        }

        /// Refused in both forms, with its owner told once each time.
        #[track_caller]
        fn refused(mut self, expected: &DlpackError, text: &str) {
            assert!(expected.to_string().contains(text), "{expected}");
            assert_eq!(&self.legacy().expect_err(text), expected);
            assert_eq!(self.times_told(), 1, "{text}");
            assert_eq!(&self.versioned().expect_err(text), expected);
            assert_eq!(self.times_told(), 2, "{text}");
        }

        /// Taken over in both forms: address, rows, stride and shape; its owner is told when it is dropped.
        #[track_caller]
        fn taken(mut self, address: u64, rows: usize, stride: usize) -> Format {
            for tensor in [Made::legacy, Made::versioned] {
                let before = self.times_told();
                let tensor = tensor(&mut self).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!((tensor.address(), tensor.len(), tensor.stride()), (address, rows, stride));
                assert_eq!(tensor.shape().iter().map(|&length| length as i64).collect::<Vec<_>>(), self.shape);
                assert_eq!(tensor.vocab() as i64, self.shape[self.shape.len() - 1]);
                let of = tensor.rows();
                assert_eq!((of.address, of.rows, of.stride, of.format), (address, rows, stride, tensor.format()));
                assert_eq!(self.times_told(), before);
                drop(tensor);
                assert_eq!(self.times_told(), before + 1);
            }
            // SAFETY: as in `legacy`.
            self.legacy().map(|tensor| tensor.format()).unwrap_or_else(|error| panic!("{error}"))
        }
    }

    #[test]
    fn layouts_are_those_of_the_specification() {
        // On machines with pointers of 64 bits.
        if size_of::<usize>() == 8 {
            assert_eq!((size_of::<DLTensor>(), size_of::<DLManagedTensor>()), (48, 64));
            assert_eq!(size_of::<DLManagedTensorVersioned>(), 80);
            let offsets = [
                std::mem::offset_of!(DLTensor, device),
                std::mem::offset_of!(DLTensor, ndim),
                std::mem::offset_of!(DLTensor, dtype),
                std::mem::offset_of!(DLTensor, shape),
                std::mem::offset_of!(DLTensor, strides),
                std::mem::offset_of!(DLTensor, byte_offset),
                std::mem::offset_of!(DLManagedTensor, deleter),
                std::mem::offset_of!(DLManagedTensorVersioned, manager_ctx),
                std::mem::offset_of!(DLManagedTensorVersioned, deleter),
                std::mem::offset_of!(DLManagedTensorVersioned, flags),
                std::mem::offset_of!(DLManagedTensorVersioned, dl_tensor),
            ];
            assert_eq!(offsets, [8, 16, 20, 24, 32, 40, 56, 8, 16, 24, 32]);
        }
    }

    #[test]
    fn rows_are_found_in_one_to_four_axes() {
        assert_eq!(Made::new(&[7], None).taken(4096, 1, 7), Format::F32);
        Made::new(&[5, 7], None).taken(4096, 5, 7);
        Made::new(&[5, 7], Some(&[9, 1])).taken(4096, 5, 9);
        Made::new(&[2, 5, 7], None).taken(4096, 10, 7);
        Made::new(&[2, 5, 7], Some(&[45, 9, 1])).taken(4096, 10, 9);
        Made::new(&[2, 3, 5, 7], Some(&[135, 45, 9, 1])).taken(4096, 30, 9);
        // One index: its stride is of no account, of any axis.
        Made::new(&[2, 1, 7], Some(&[50, 3, 1])).taken(4096, 2, 50);
        Made::new(&[1, 5, 7], Some(&[-1, 9, 1])).taken(4096, 5, 9);
        Made::new(&[1, 7], Some(&[0, 1])).taken(4096, 1, 7);
        Made::new(&[5, 1], Some(&[4, 8])).taken(4096, 5, 4);
        // One row for all, and no row.
        Made::new(&[5, 7], Some(&[0, 1])).taken(4096, 5, 0);
        Made { data: 0, ..Made::new(&[0, 7], None) }.taken(0, 0, 7);
        Made::new(&[3, 0, 7], Some(&[9, 9, 1])).taken(4096, 0, 7);
        Made { byte_offset: 12, ..Made::new(&[5, 7], None) }.taken(4108, 5, 7);
        for (code, format) in [(2, Format::F16), (4, Format::Bf16)] {
            let half = DLDataType { code, bits: 16, lanes: 1 };
            assert_eq!(Made { dtype: half, byte_offset: 2, ..Made::new(&[5, 7], None) }.taken(4098, 5, 7), format);
        }
    }

    #[test]
    fn what_is_no_row_of_logits_is_refused_and_its_owner_told() {
        let plain = || Made::new(&[5, 7], None);
        for (device_type, device_id) in [(1, 0), (2, 0), (2, -3), (3, 3), (13, 3), (10, 3)] {
            let expected = DlpackError::Elsewhere { kind: device_type, id: device_id, wanted: 3 };
            Made { device: DLDevice { device_type, device_id }, ..plain() }.refused(&expected, "not on GPU 3");
        }
        for (code, bits, lanes) in
            [(2, 64, 1), (2, 8, 1), (4, 32, 1), (0, 32, 1), (1, 16, 1), (5, 64, 1), (2, 32, 4), (2, 32, 0)]
        {
            let expected = DlpackError::Type { code, bits, lanes };
            Made { dtype: DLDataType { code, bits, lanes }, ..plain() }.refused(&expected, "logits are f32");
        }
        for ndim in [0, -1, 5] {
            let made = Made { ndim, ..Made::new(&[1, 1, 1, 5, 7], None) };
            made.refused(&DlpackError::Axes { ndim }, &format!("{ndim} axes"));
        }
        for shape in [vec![5, 0], vec![-5, 7], vec![5, -7], vec![i64::MAX, 7], vec![1 << 40, 1 << 30], vec![0]] {
            Made::new(&shape, None).refused(&DlpackError::Shape { shape: shape.clone() }, "is none");
        }
        for (shape, strides) in [
            (vec![5, 7], vec![1, 5]),
            (vec![5, 7], vec![14, 2]),
            (vec![5, 7], vec![-7, 1]),
            (vec![7], vec![2]),
            (vec![2, 5, 7], vec![50, 9, 1]),
            (vec![2, 5, 7], vec![7, 14, 1]),
            (vec![2, 3, 5, 7], vec![200, 45, 9, 1]),
            (vec![2, 3, 5, 7], vec![i64::MAX, 45, 9, 1]),
        ] {
            let expected = DlpackError::Strides { shape: shape.clone(), strides: strides.clone() };
            Made::new(&shape, Some(&strides)).refused(&expected, "contiguous first");
        }
        for (data, byte_offset) in [(0, 0), (0, 64), (4097, 0), (4096, 2), (u64::MAX - 3, 8)] {
            let expected = DlpackError::Address { address: data, offset: byte_offset, size: 4 };
            Made { data, byte_offset, ..plain() }.refused(&expected, "elements of 4 bytes");
        }
        for major in [0, 2] {
            let mut made = Made { major, ..plain() };
            assert_eq!(made.versioned().unwrap_err(), DlpackError::Version { major });
            assert_eq!(made.times_told(), 1);
        }
    }

    #[test]
    fn a_tensor_without_a_deleter_is_nobodys() {
        let mut made = Made::new(&[5, 7], None);
        let mut managed = DLManagedTensor { dl_tensor: made.tensor(), manager_ctx: made.context(), deleter: None };
        // SAFETY: valid, and used no longer than it is.
        let tensor = unsafe { Tensor::legacy(NonNull::from(&mut managed), 3) }.unwrap();
        drop(tensor);
        assert_eq!(made.times_told(), 0);
    }
}
