//! The same for drafted trees.

use draftpick::gpu::{Device, Format, GpuError, Outcomes, Rows, Shaping, TreeRule, TreeVerifier, Trees, View};

/// A verifier with room for its outcomes.
pub struct TreeHandle {
    device: Device,
    verifier: TreeVerifier,
    format: Format,
    vocab: usize,
    into: Outcomes,
}

/// A call; addresses are device memory.
#[repr(C)]
pub struct TreeCall {
    draft: u64,
    target: u64,
    draft_rows: u64,
    target_rows: u64,
    nodes: u64,
    tokens: u64,
    lengths: u64,
    paths_of: u64,
    seeds: u64,
    starts: u64,
    stream: u64,
    stride: i64,
    drafts: i64,
    targets: i64,
    trees: i64,
    pairs: i64,
    paths: i64,
    length: i64,
}

fn open(
    rule: i32,
    format: i32,
    vocab: usize,
    [trees, pairs, paths, length]: [usize; 4],
) -> Result<TreeHandle, GpuError> {
    let rule = [TreeRule::Path, TreeRule::Spread][rule as usize];
    let format = [Format::F32, Format::F16, Format::Bf16][format as usize];
    let device = Device::new(0)?;
    let verifier = TreeVerifier::new(&device, rule, format, vocab)?;
    let into = verifier.outcomes(trees, pairs, paths, length)?;
    Ok(TreeHandle { device, verifier, format, vocab, into })
}

/// Prepares a rule (0 path, 1 spread) for a format (0 f32, 1 f16, 2 bf16) and so many trees, pairs, paths and tokens of a
/// path; null after an error, which is printed.
///
/// # Safety
/// `sizes` holds four numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_open_trees(
    rule: i32,
    format: i32,
    vocab: i64,
    sizes: *const i64,
) -> *mut TreeHandle {
    // SAFETY: promised by the caller.
    let sizes = unsafe { *sizes.cast::<[i64; 4]>() };
    match open(rule, format, vocab as usize, sizes.map(|size| size as usize)) {
        Ok(handle) => Box::into_raw(Box::new(handle)),
        Err(error) => {
            eprintln!("{error}");
            std::ptr::null_mut()
        }
    }
}

/// Where the outcomes are: the number of accepted tokens of each tree, the flags.
///
/// # Safety
/// `handle` came from [`draftpick_open_trees`]; `into` has room for two addresses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_outcomes(handle: *const TreeHandle, into: *mut u64) {
    // SAFETY: promised by the caller.
    unsafe {
        let outcomes = &(*handle).into;
        *into = outcomes.accepted.address();
        *into.add(1) = outcomes.flags.address();
    }
}

/// Submits a call; 0, or 1 after an error, which is printed.
///
/// # Safety
/// `handle` came from [`draftpick_open_trees`] and is in no other call; `call` and what it names are as the library asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_verify(handle: *mut TreeHandle, call: *const TreeCall) -> i32 {
    // SAFETY: promised by the caller, here and below.
    let (handle, call) = unsafe { (&mut *handle, &*call) };
    let rows_at =
        |address, rows: i64| unsafe { Rows::from_raw(address, handle.format, rows as usize, call.stride as usize) };
    let [trees, pairs, paths, length] = [call.trees, call.pairs, call.paths, call.length].map(|size| size as usize);
    let numbers = |address, len| unsafe { View::from_raw(address, len) };
    let asked = Trees {
        draft: rows_at(call.draft, call.drafts),
        target: rows_at(call.target, call.targets),
        vocab: handle.vocab,
        draft_rows: numbers(call.draft_rows, pairs),
        target_rows: numbers(call.target_rows, pairs),
        shaping: Shaping::default(),
        trees,
        pairs,
        paths,
        length,
        nodes: numbers(call.nodes, trees * paths * (length + 1)),
        tokens: numbers(call.tokens, trees * paths * length),
        lengths: numbers(call.lengths, trees * paths),
        paths_of: numbers(call.paths_of, pairs),
        seeds: unsafe { View::from_raw(call.seeds, trees) },
        starts: unsafe { View::from_raw(call.starts, trees) },
    };
    let stream = unsafe { handle.device.stream_from_raw(call.stream) };
    match handle.verifier.verify(&stream, &asked, &mut handle.into) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

/// Frees a verifier.
///
/// # Safety
/// `handle` came from [`draftpick_open_trees`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_close_trees(handle: *mut TreeHandle) {
    // SAFETY: promised by the caller.
    drop(unsafe { Box::from_raw(handle) });
}
