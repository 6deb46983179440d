//! The driver: contexts, memory, streams, run-time compilation, launches. With `dlpack` and `decoder` the only `unsafe` of the feature.
//!
//! What the rest of `gpu` may rely on: a [`Buffer`] is memory of its device for as long as it lives, a [`Kernel`] was
//! compiled for the device and takes as many arguments of such sizes as it is launched with.

// Driver calls have no other form.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_void;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, result, sys};
use cudarc::nvrtc::{self, Ptx};
use half::{bf16, f16};

use super::GpuError;
use super::source::{self, File};

/// An NVIDIA GPU with the kernels of this crate: the only way to any of them. Clones share it.
#[derive(Clone, Debug)]
pub struct Device(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Arc<CudaContext>,
    /// The compute capability, major and minor.
    capability: (i32, i32),
    multiprocessors: u32,
    /// The most shared memory that a block may ask for, and what a multiprocessor has for all of them.
    shared_limit: u32,
    shared_of_multiprocessor: u32,
    modules: Mutex<HashMap<u64, Arc<CudaModule>>>,
}

impl Device {
    /// The GPU with this number, by the driver's count from 0. Keeps the device's primary context, which is the one
    /// that PyTorch, candle and others on the CUDA runtime use too: their pointers are valid here.
    ///
    /// # Errors
    /// [`GpuError::NoDriver`] where there is no driver, [`GpuError::NoDevice`] where it has no such device,
    /// [`GpuError::Driver`] if the driver fails.
    pub fn new(ordinal: usize) -> Result<Self, GpuError> {
        if !is_present(&DRIVER) {
            return Err(GpuError::NoDriver);
        }
        let found = CudaContext::device_count().map_err(|error| match error.0 {
            sys::cudaError_enum::CUDA_ERROR_NO_DEVICE => GpuError::NoDevice { ordinal, found: 0 },
            _ => GpuError::Driver(error),
        })?;
        let found = usize::try_from(found).unwrap_or(0);
        if ordinal >= found {
            return Err(GpuError::NoDevice { ordinal, found });
        }
        let context = CudaContext::new(ordinal)?;
        let capability = context.compute_capability()?;
        let attribute = |attribute| context.attribute(attribute).map(|value| u32::try_from(value).unwrap_or(0));
        use sys::CUdevice_attribute_enum as Attribute;
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let shared_limit = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let shared_of_multiprocessor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?;
        Ok(Device(Arc::new(Inner {
            context,
            capability,
            multiprocessors,
            shared_limit,
            shared_of_multiprocessor,
            modules: Mutex::default(),
        })))
    }

    /// The driver's name of the device.
    ///
    /// # Errors
    /// The driver fails.
    pub fn name(&self) -> Result<String, GpuError> {
        Ok(self.0.context.name()?)
    }

    /// Its number, by the driver's count from 0.
    pub fn ordinal(&self) -> usize {
        self.0.context.ordinal()
    }

    /// The compute capability, major and minor: (9, 0) for Hopper.
    pub fn capability(&self) -> (i32, i32) {
        self.0.capability
    }

    /// The number of multiprocessors.
    pub fn multiprocessors(&self) -> u32 {
        self.0.multiprocessors
    }

    /// The most shared memory that a block may ask for, in bytes.
    pub(super) fn shared_limit(&self) -> u32 {
        self.0.shared_limit
    }

    /// The shared memory of a multiprocessor, for all its blocks together, in bytes.
    pub(super) fn shared_of_multiprocessor(&self) -> u32 {
        self.0.shared_of_multiprocessor
    }

    /// The most blocks of a cluster, which share their memory: 16 from Hopper on, 1 before.
    pub(super) fn widest_cluster(&self) -> usize {
        if self.0.capability.0 >= 9 { 16 } else { 1 }
    }

    /// A new stream, ordered with no other.
    ///
    /// # Errors
    /// The driver fails.
    pub fn stream(&self) -> Result<Stream, GpuError> {
        Ok(Stream(self.0.context.new_stream()?))
    }

    /// A stream that another library owns, by its handle (`CUstream`, `cudaStream_t`); 0 is the default stream.
    ///
    /// # Safety
    /// The handle is a stream of this device's primary context, and outlives the returned value.
    pub unsafe fn stream_from_raw(&self, handle: u64) -> Stream {
        // SAFETY: promised by the caller.
        Stream(unsafe { self.0.context.wrap_borrowed_stream(handle as usize as sys::CUstream) })
    }

    /// Memory for `len` values, all bits 0.
    ///
    /// # Errors
    /// [`GpuError::Driver`], for want of memory mostly.
    pub fn zeros<T: Plain>(&self, len: usize) -> Result<Buffer<T>, GpuError> {
        let (buffer, bytes) = self.allocate(len)?;
        // SAFETY: so many bytes were just allocated there.
        unsafe { result::memset_d8_sync(buffer.pointer, 0, bytes) }?;
        wait_for_default_stream()?;
        Ok(buffer)
    }

    /// Memory for `len` values, and its size in bytes: to be written before anything reads it.
    fn allocate<T: Plain>(&self, len: usize) -> Result<(Buffer<T>, usize), GpuError> {
        self.0.context.bind_to_thread()?;
        let bytes = len.checked_mul(size_of::<T>()).ok_or(GpuError::TooLarge { len })?.max(1);
        // SAFETY: the context is current; both callers write all of the memory before they hand it on.
        let pointer = unsafe { result::malloc_sync(bytes) }?;
        Ok((Buffer { device: self.clone(), pointer, len, values: PhantomData }, bytes))
    }

    /// A copy of `values` on the device.
    ///
    /// # Errors
    /// As [`zeros`](Device::zeros).
    pub fn upload<T: Plain>(&self, values: &[T]) -> Result<Buffer<T>, GpuError> {
        let (mut buffer, _) = self.allocate(values.len())?;
        buffer.write(values)?;
        Ok(buffer)
    }

    /// A kernel of one of the crate's files, compiled with these definitions (`NAME=VALUE`) for this device. Compiled
    /// once in a process, and taken from the cache on disk if it has been compiled there before.
    pub(super) fn kernel(&self, file: File, defines: &[&str], name: &str) -> Result<Kernel, GpuError> {
        let text = source::expanded(file);
        let (major, minor) = self.0.capability;
        let key = hash(&(&text, defines, major, minor));
        let known = self.modules().get(&key).cloned();
        let module = match known {
            Some(module) => module,
            None => {
                let (image, _) = cached_or_compiled(file, &text, defines, (major, minor))?;
                let module = self.0.context.load_module(Ptx::from_binary(image))?;
                self.modules().insert(key, module.clone());
                module
            }
        };
        let function = module.load_function(name)?;
        Kernel::new(self.clone(), function)
    }

    fn modules(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<CudaModule>>> {
        self.0.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue of work on a device, in order.
#[derive(Clone, Debug)]
pub struct Stream(Arc<CudaStream>);

impl Stream {
    /// Waits for all work submitted so far.
    ///
    /// # Errors
    /// The driver fails, or work submitted earlier did.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        Ok(self.0.synchronize()?)
    }
}

/// Values that are nothing but their bits: any bits are a value.
///
/// # Safety
/// The type has no padding, no invalid bit pattern and no destructor.
pub unsafe trait Plain: Copy + 'static {}

// SAFETY: numbers.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for i64 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for f64 {}
// SAFETY: as above.
unsafe impl Plain for f16 {}
// SAFETY: as above.
unsafe impl Plain for bf16 {}
// SAFETY: two doubles and four ints, 32 bytes without a gap.
unsafe impl Plain for super::RowStats {}
// SAFETY: two doubles.
unsafe impl Plain for [f64; 2] {}
// SAFETY: 27 numbers of 8 bytes and 4 of 4: no gap.
unsafe impl Plain for super::select::Call {}
// SAFETY: 4 and 4 and 8 bytes, without a gap.
unsafe impl Plain for super::select::Grid {}
// SAFETY: 32 numbers of 8 bytes and 8 of 4: no gap.
unsafe impl Plain for super::path::TreeCall {}
// SAFETY: 11 numbers of 8 bytes and 4 of 4: no gap.
unsafe impl Plain for super::path::DrawCall {}
// SAFETY: 11 numbers of 8 bytes and 6 of 4: no gap.
unsafe impl Plain for super::filter::FilterCall {}

/// Waits until what was written is there: such a call may return while the device still works at it, on the default stream, which
/// other streams do not wait for.
fn wait_for_default_stream() -> Result<(), GpuError> {
    // SAFETY: no stream is the default stream of the current context.
    Ok(unsafe { result::stream::synchronize(std::ptr::null_mut()) }?)
}

/// Memory of a device, freed when dropped.
///
/// Reading and writing wait for the default stream only: call [`Stream::synchronize`] first where another stream works
/// on it, and keep the buffer alive until then.
#[derive(Debug)]
pub struct Buffer<T> {
    device: Device,
    pointer: sys::CUdeviceptr,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Plain> Buffer<T> {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device address of the first value.
    pub fn address(&self) -> u64 {
        self.pointer
    }

    /// A copy of all values.
    ///
    /// # Errors
    /// The driver fails, or a kernel that ran before did.
    pub fn read(&self) -> Result<Vec<T>, GpuError> {
        self.device.0.context.bind_to_thread()?;
        let mut values: Vec<T> = Vec::with_capacity(self.len);
        let bytes = self.len * size_of::<T>();
        // SAFETY: the vector has room for `bytes` bytes, any bits are a `T`, and the device holds as many.
        unsafe {
            let into = std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), bytes);
            result::memcpy_dtoh_sync(into, self.pointer)?;
            values.set_len(self.len);
        }
        Ok(values)
    }

    /// Overwrites all values.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Panics
    /// If the number of values is another.
    pub fn write(&mut self, values: &[T]) -> Result<(), GpuError> {
        assert_eq!(values.len(), self.len, "a buffer is overwritten as a whole");
        self.device.0.context.bind_to_thread()?;
        // SAFETY: the buffer has room for exactly these values, and nothing else refers to it mutably.
        unsafe { result::memcpy_htod_sync(self.pointer, values) }?;
        wait_for_default_stream()
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // Errors have nowhere to go; a context that is gone has freed its memory.
        if self.device.0.context.bind_to_thread().is_ok() {
            // SAFETY: allocated by `Device::zeros`, and freed here only. The driver waits for work that uses it.
            let _ = unsafe { result::free_sync(self.pointer) };
        }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arg<'a> {
    /// A structure, by its bits.
    Block(&'a [u8]),
    /// A device address, or 0.
    Address(u64),
    U64(u64),
    I32(i32),
    U32(u32),
}

impl Arg<'_> {
    fn size(&self) -> usize {
        match self {
            Arg::Block(bits) => bits.len(),
            Arg::Address(_) | Arg::U64(_) => 8,
            Arg::I32(_) | Arg::U32(_) => 4,
        }
    }

    fn pointer(&self) -> *mut c_void {
        match self {
            Arg::Block(bits) => bits.as_ptr().cast_mut().cast(),
            Arg::Address(x) | Arg::U64(x) => std::ptr::from_ref(x).cast_mut().cast(),
            Arg::I32(x) => std::ptr::from_ref(x).cast_mut().cast(),
            Arg::U32(x) => std::ptr::from_ref(x).cast_mut().cast(),
        }
    }
}

/// How many threads a kernel is launched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Blocks; a multiple of `cluster`.
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared: u32,
    /// Blocks of a cluster; 1 on devices before Hopper.
    pub cluster: u32,
    /// Whether it may start before the kernel ahead of it has ended, for whose end it then waits by itself; only from
    /// Hopper on.
    pub follows: bool,
}

/// A compiled kernel.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    device: Device,
    function: CudaFunction,
    /// The sizes of its parameters.
    parameters: Vec<usize>,
}

impl Kernel {
    fn new(device: Device, function: CudaFunction) -> Result<Self, GpuError> {
        let mut parameters = Vec::new();
        loop {
            let (mut offset, mut size) = (0, 0);
            // SAFETY: the function is loaded, and both results point to numbers of this frame. The driver says "invalid
            // value" for the index after the last parameter.
            let found =
                unsafe { sys::cuFuncGetParamInfo(function.cu_function(), parameters.len(), &mut offset, &mut size) };
            match found {
                sys::cudaError_enum::CUDA_SUCCESS => parameters.push(size),
                sys::cudaError_enum::CUDA_ERROR_INVALID_VALUE => break,
                other => other.result()?,
            }
        }
        use sys::CUfunction_attribute_enum as Attribute;
        // As much dynamic shared memory as the device has, and clusters of 16: a launch asks for what it needs.
        let fixed = function.get_attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
        let most = i32::try_from(device.shared_limit()).unwrap_or(i32::MAX) - fixed;
        function.set_attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most)?;
        if device.capability().0 >= 9 {
            function.set_attribute(Attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1)?;
        }
        Ok(Kernel { device, function, parameters })
    }

    /// Submits the kernel to the stream and returns at once.
    ///
    /// Not `unsafe` for the modules of `gpu`, which alone can call it, because of what they promise: each address is
    /// that of a live buffer, or given with an `unsafe` promise to this crate, of the size that the kernel documents.
    ///
    /// # Panics
    /// If the number or the sizes of the arguments are not the kernel's.
    pub fn launch(&self, stream: &Stream, shape: Shape, args: &[Arg<'_>]) -> Result<(), GpuError> {
        let sizes = args.iter().map(Arg::size);
        assert!(sizes.eq(self.parameters.iter().copied()), "arguments {args:?} for parameters {:?}", self.parameters);
        if shape.blocks == 0 {
            return Ok(());
        }
        self.device.0.context.bind_to_thread()?;
        let mut pointers: Vec<*mut c_void> = args.iter().map(Arg::pointer).collect();
        use sys::CUlaunchAttributeID_enum::{
            CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        };
        let attribute = |id, value| sys::CUlaunchAttribute_st { id, pad: [0; 4], value };
        let mut attributes = Vec::new();
        if shape.cluster > 1 {
            let cluster = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: shape.cluster, y: 1, z: 1 };
            let value = sys::CUlaunchAttributeValue_union { clusterDim: cluster };
            attributes.push(attribute(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value));
        }
        if shape.follows {
            let value = sys::CUlaunchAttributeValue_union { programmaticStreamSerializationAllowed: 1 };
            attributes.push(attribute(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, value));
        }
        let config = sys::CUlaunchConfig_st {
            gridDimX: shape.blocks,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: shape.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shape.shared,
            hStream: stream.0.cu_stream(),
            attrs: attributes.as_mut_ptr(),
            numAttrs: attributes.len() as u32,
        };
        // SAFETY: the function belongs to the current context, there is a pointer to an argument of the right size for
        // each of its parameters, the attributes outlive the call. What the addresses promise is said above.
        let launched = unsafe {
            sys::cuLaunchKernelEx(&config, self.function.cu_function(), pointers.as_mut_ptr(), std::ptr::null_mut())
        };
        Ok(launched.result()?)
    }
}

/// The names of the driver's library and of the run-time compiler's, all of them names that cudarc tries as well.
const DRIVER: [&str; 3] = ["libcuda.so", "libcuda.so.1", "nvcuda.dll"];
const COMPILER: [&str; 3] = ["libnvrtc.so", "libnvrtc.so.13", "nvrtc64_130_0.dll"];

/// Whether a library can be loaded. Where cudarc loads it at run time, its first call panics if not; cudarc's own answer
/// is not to be had where another crate, candle for one, has it link against the library.
fn is_present(names: &[&str]) -> bool {
    // SAFETY: the initialisers are those of NVIDIA's libraries.
    names.iter().any(|name| unsafe { libloading::Library::new(*name) }.is_ok())
}

/// Where compiled kernels are kept: `$DRAFTPICK_CUDA_CACHE`, nowhere if that is empty; else `draftpick` in the user's
/// cache directory.
fn cache_directory() -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os("DRAFTPICK_CUDA_CACHE") {
        return (!directory.is_empty()).then(|| PathBuf::from(directory));
    }
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    caches.map(|caches| caches.join("draftpick"))
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// The machine code of a file, from the cache or by compiling it, and then the compiler's warnings. The cache goes by the text, the definitions, the
/// device's architecture and the compiler's version; a cache that cannot be read or written is gone without.
pub(super) fn cached_or_compiled(
    file: File,
    text: &str,
    defines: &[&str],
    capability: (i32, i32),
) -> Result<(Vec<u8>, String), GpuError> {
    let compiler = is_present(&COMPILER).then(compiler_version).transpose()?;
    let directory = cache_directory();
    // Without a compiler, what any version of it left will do.
    let versions = compiler.map_or(vec![(13, 3), (13, 2), (13, 1), (13, 0)], |version| vec![version]);
    let path = |version: (i32, i32)| {
        let name = format!("{}-{:016x}.cubin", file.name, hash(&(text, defines, capability, version)));
        directory.as_ref().map(|directory| directory.join(name))
    };
    if let Some(image) = versions.iter().filter_map(|version| std::fs::read(path(*version)?).ok()).next() {
        return Ok((image, String::new()));
    }
    let Some(version) = compiler else {
        return Err(GpuError::NoCompiler);
    };
    let (image, log) = compile(file, text, defines, capability)?;
    if let Some(path) = path(version) {
        // Written beside and renamed: a reader sees all of it or nothing.
        let partial = path.with_extension(format!("{}", std::process::id()));
        let written = std::fs::create_dir_all(path.parent().unwrap_or(&path))
            .and_then(|()| std::fs::write(&partial, &image))
            .and_then(|()| std::fs::rename(&partial, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
    }
    Ok((image, log))
}

fn compiler_version() -> Result<(i32, i32), GpuError> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both point to numbers of this frame.
    unsafe { nvrtc::sys::nvrtcVersion(&mut major, &mut minor) }.result()?;
    Ok((major, minor))
}

/// Compiles a text for devices of a compute capability, by NVRTC: the machine code, and the compiler's warnings. Needs
/// no device.
///
/// # Errors
/// [`GpuError::NoCompiler`], or [`GpuError::Compile`] with what the compiler says.
fn compile(
    file: File,
    text: &str,
    defines: &[&str],
    (major, minor): (i32, i32),
) -> Result<(Vec<u8>, String), GpuError> {
    if !is_present(&COMPILER) {
        return Err(GpuError::NoCompiler);
    }
    let to_c = |text: &str| std::ffi::CString::new(text).expect("the sources have no zero bytes");
    let (text, name) = (to_c(text), to_c(file.name));
    let program = nvrtc::result::create_program(&text, Some(&name))?;
    let mut options = vec![format!("--gpu-architecture=sm_{major}{minor}"), "--std=c++17".into()];
    options.extend(["--display-error-number", "--device-as-default-execution-space"].map(String::from));
    options.extend(defines.iter().map(|define| format!("-D{define}")));
    let mut image = Vec::new();
    // SAFETY: `program` was just created and is destroyed at the end; the image has the size that was asked for.
    let outcome = unsafe {
        nvrtc::result::compile_program(program, &options).and_then(|()| {
            let mut size = 0;
            nvrtc::sys::nvrtcGetCUBINSize(program, &mut size).result()?;
            image.resize(size, 0u8);
            nvrtc::sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()).result()
        })
    };
    // SAFETY: as above; the log is a C string.
    let log = unsafe {
        let log = nvrtc::result::get_program_log(program);
        nvrtc::result::destroy_program(program)?;
        log.map(|log| log.iter().map(|&byte| byte as u8 as char).take_while(|byte| *byte != '\0').collect())
    };
    let log: String = log.unwrap_or_default();
    match outcome {
        Ok(()) => Ok((image, log)),
        Err(_) => Err(GpuError::Compile { file: file.name, log }),
    }
}

/// The bits of a value, as an argument that a kernel takes by value.
pub(super) fn bits<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: the type has no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// Values in device memory, borrowed: of a [`Buffer`], or of another library.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    address: u64,
    len: usize,
    values: PhantomData<&'a [T]>,
}

impl<T> View<'_, T> {
    /// The number of values.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The device address of the first value.
    pub fn address(self) -> u64 {
        self.address
    }

    /// `len` values at a device address.
    ///
    /// # Safety
    /// Until the work that is given the view is done, the address is one of the device that does it, aligned for `T`, with
    /// `len` values there that nothing writes.
    pub unsafe fn from_raw(address: u64, len: usize) -> Self {
        View { address, len, values: PhantomData }
    }
}

impl<'a, T: Plain> From<&'a Buffer<T>> for View<'a, T> {
    fn from(buffer: &'a Buffer<T>) -> Self {
        View { address: buffer.address(), len: buffer.len(), values: PhantomData }
    }
}

/// The number formats of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl Format {
    /// The definition that kernels are compiled with for it.
    pub(super) fn define(self) -> &'static str {
        match self {
            Format::F32 => "DTYPE=0",
            Format::F16 => "DTYPE=1",
            Format::Bf16 => "DTYPE=2",
        }
    }

    /// The bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::Bf16 => 2,
        }
    }
}

/// Numbers that logits may be held in.
pub trait Score: Plain {
    /// Their format.
    const FORMAT: Format;
}

impl Score for f32 {
    const FORMAT: Format = Format::F32;
}

impl Score for f16 {
    const FORMAT: Format = Format::F16;
}

impl Score for bf16 {
    const FORMAT: Format = Format::Bf16;
}

/// Rows of logits in device memory, borrowed. Any stride; rows that begin at multiples of 16 bytes are read fastest.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub(super) address: u64,
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) stride: usize,
    values: PhantomData<&'a [u8]>,
}

impl<'a> Rows<'a> {
    /// Rows of `vocab` logits, each `stride` logits after the one before: as many as are whole.
    pub fn new<T: Score>(logits: &'a Buffer<T>, vocab: usize, stride: usize) -> Self {
        let rows = match logits.len().checked_sub(vocab) {
            Some(rest) => rest / stride.max(1) + 1,
            None => 0,
        };
        Rows { address: logits.address(), format: T::FORMAT, rows, stride, values: PhantomData }
    }

    /// Rows of logits at a device address: what a DLPack tensor of two dimensions with unit stride in the last one says.
    ///
    /// # Safety
    /// Until the work that is given the rows is done, the address is one of the device that does it, aligned for the
    /// format; each of the rows, `stride` numbers apart, has as many logits as the call says; nothing writes them.
    pub unsafe fn from_raw(address: u64, format: Format, rows: usize, stride: usize) -> Self {
        Rows { address, format, rows, stride, values: PhantomData }
    }
}
