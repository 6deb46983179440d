//! The kernels as a C library, so that a benchmark in Python can call them on PyTorch's memory and stream, beside others.

#![allow(unsafe_code)]

mod filters;
mod trees;

use draftpick::gpu::{
    CoinSource, Device, Format, GpuError, Pairs, Rows, Selections, Shaping, TokenRule, TokenSelector, View,
};

/// A prepared rule with room for its results.
pub struct Handle {
    device: Device,
    selector: TokenSelector,
    format: Format,
    vocab: usize,
    into: Selections,
}

/// A call; addresses are device memory, 0 for what is left out.
#[repr(C)]
pub struct Call {
    draft: u64,
    target: u64,
    draft_rows: u64,
    target_rows: u64,
    tokens: u64,
    coins: u64,
    seeds: u64,
    starts: u64,
    stream: u64,
    stride: i64,
    rows: i64,
    pairs: i64,
    k: i64,
}

fn open(rule: i32, format: i32, vocab: usize, pairs: usize) -> Result<Handle, GpuError> {
    let rule = [TokenRule::Maximal, TokenRule::KSeq, TokenRule::OptimalLinear][rule as usize];
    let format = [Format::F32, Format::F16, Format::Bf16][format as usize];
    let device = Device::new(0)?;
    let selector = TokenSelector::new(&device, rule, format, vocab)?;
    let into = Selections::new(&device, rule, pairs)?;
    Ok(Handle { device, selector, format, vocab, into })
}

/// Prepares a rule (0 maximal, 1 k-SEQ, 2 optimal-linear) for a format (0 f32, 1 f16, 2 bf16); null after an error, which
/// is printed.
#[unsafe(no_mangle)]
pub extern "C" fn draftpick_open(rule: i32, format: i32, vocab: i64, pairs: i64) -> *mut Handle {
    match open(rule, format, vocab as usize, pairs as usize) {
        Ok(handle) => Box::into_raw(Box::new(handle)),
        Err(error) => {
            eprintln!("{error}");
            std::ptr::null_mut()
        }
    }
}

/// Where the results are: the drafts accepted, the tokens, the flags and log-sums.
///
/// # Safety
/// `handle` came from [`draftpick_open`]; `into` has room for three addresses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_results(handle: *const Handle, into: *mut u64) {
    // SAFETY: promised by the caller.
    unsafe {
        let results = &(*handle).into;
        *into = results.selected.address();
        *into.add(1) = results.output.address();
        *into.add(2) = results.stats.address();
    }
}

/// Submits a call; 0, or 1 after an error, which is printed.
///
/// # Safety
/// `handle` came from [`draftpick_open`] and is in no other call; `call` and what it names are as the library asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_select(handle: *mut Handle, call: *const Call) -> i32 {
    // SAFETY: promised by the caller, here and below.
    let (handle, call) = unsafe { (&mut *handle, &*call) };
    let (pairs, k, rows) = (call.pairs as usize, call.k as usize, call.rows as usize);
    let rows_at = |address| unsafe { Rows::from_raw(address, handle.format, rows, call.stride as usize) };
    let some = |address| (address != 0).then(|| unsafe { View::from_raw(address, pairs) });
    let coins = match call.coins {
        0 => CoinSource::Philox {
            seeds: unsafe { View::from_raw(call.seeds, pairs) },
            starts: unsafe { View::from_raw(call.starts, pairs) },
            depths: None,
        },
        coins => CoinSource::Given(unsafe { View::from_raw(coins, pairs * (k + 2)) }),
    };
    let pairs = Pairs {
        draft: rows_at(call.draft),
        target: rows_at(call.target),
        vocab: handle.vocab,
        pairs,
        k,
        draft_rows: some(call.draft_rows),
        target_rows: some(call.target_rows),
        tokens: unsafe { View::from_raw(call.tokens, pairs * k) },
        counts: None,
        shaping: Shaping::default(),
        coins,
    };
    let stream = unsafe { handle.device.stream_from_raw(call.stream) };
    match handle.selector.select(&stream, &pairs, &mut handle.into) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

/// Frees a prepared rule.
///
/// # Safety
/// `handle` came from [`draftpick_open`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_close(handle: *mut Handle) {
    // SAFETY: promised by the caller.
    drop(unsafe { Box::from_raw(handle) });
}
