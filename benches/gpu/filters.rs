//! Filters for `filters.py`.

use draftpick::gpu::{Device, Each, Filter, Filtered, Filters, Format, GpuError, Rows};

/// A prepared filter with room for its results.
pub struct Handle {
    device: Device,
    filter: Filter,
    format: Format,
    vocab: usize,
    into: Filtered,
}

/// A call: one set of parameters for all rows.
#[repr(C)]
pub struct FilterCall {
    logits: u64,
    stream: u64,
    stride: i64,
    rows: i64,
    top_k: i32,
    top_p: f32,
    min_p: f32,
}

fn open(format: i32, vocab: usize, rows: usize) -> Result<Handle, GpuError> {
    let format = [Format::F32, Format::F16, Format::Bf16][format as usize];
    let device = Device::new(0)?;
    let (filter, into) = (Filter::new(&device, format, vocab)?, Filtered::new(&device, rows)?);
    Ok(Handle { device, filter, format, vocab, into })
}

/// Prepares a filter for a format (0 f32, 1 f16, 2 bf16); null after an error, which is printed.
#[unsafe(no_mangle)]
pub extern "C" fn draftpick_filter_open(format: i32, vocab: i64, rows: i64) -> *mut Handle {
    match open(format, vocab as usize, rows as usize) {
        Ok(handle) => Box::into_raw(Box::new(handle)),
        Err(error) => {
            eprintln!("{error}");
            std::ptr::null_mut()
        }
    }
}

/// Where the results are: thresholds, ties, flags.
///
/// # Safety
/// `handle` came from [`draftpick_filter_open`]; `into` has room for three addresses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_filter_results(handle: *const Handle, into: *mut u64) {
    // SAFETY: promised by the caller.
    unsafe {
        let results = &(*handle).into;
        *into = results.least.address();
        *into.add(1) = results.tie.address();
        *into.add(2) = results.flags.address();
    }
}

/// Submits a call; 0, or 1 after an error, which is printed.
///
/// # Safety
/// `handle` came from [`draftpick_filter_open`] and is in no other call; `call` and what it names are as the library asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_filter(handle: *mut Handle, call: *const FilterCall) -> i32 {
    // SAFETY: promised by the caller, here and below.
    let (handle, call) = unsafe { (&mut *handle, &*call) };
    let rows = call.rows as usize;
    let filters = Filters {
        logits: unsafe { Rows::from_raw(call.logits, handle.format, rows, call.stride as usize) },
        vocab: handle.vocab,
        count: rows,
        rows: None,
        scale: None,
        top_k: Some(Each::All(call.top_k)),
        top_p: Some(Each::All(call.top_p)),
        min_p: Some(Each::All(call.min_p)),
    };
    let stream = unsafe { handle.device.stream_from_raw(call.stream) };
    match handle.filter.find(&stream, &filters, &mut handle.into) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

/// Frees a prepared filter.
///
/// # Safety
/// `handle` came from [`draftpick_filter_open`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_filter_close(handle: *mut Handle) {
    // SAFETY: promised by the caller.
    drop(unsafe { Box::from_raw(handle) });
}
