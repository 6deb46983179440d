//! The functions of `draftpick.h`: pointers become slices, panics statuses.

use std::ffi::{CStr, c_char};

use draftpick::path::{Coins, LogitRow, Purpose, RoundCoins, Row};
use draftpick::{Coin, Sampling, Token};

pub use crate::coins::DraftpickPurpose;
use crate::coins::Tossed;
pub use crate::error::DraftpickStatus;
use crate::error::{Failure, guarded, last};
pub use crate::sampling::DraftpickSampling;
use crate::sampling::pair;
pub use crate::selector::DraftpickSelector;
use crate::selector::{self, Selected};
pub use crate::types::{DraftpickChains, DraftpickCoins, DraftpickPositions, DraftpickToss, DraftpickTree};
use crate::verify::{self, Chains, Decided, PLACEHOLDER, Rows, Tree};

/// The version of this interface. It grows when a program built against an older header would no longer work.
pub const DRAFTPICK_ABI_VERSION: u32 = 1;

fn checked<T>(name: &str, pointer: *const T, len: usize) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::argument(format!("{name} is NULL")));
    }
    if !pointer.is_aligned() {
        return Err(Failure::argument(format!("{name} is not aligned to {} bytes", align_of::<T>())));
    }
    match len.checked_mul(size_of::<T>()).is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        true => Ok(()),
        false => Err(Failure::argument(format!("{name} has {len} elements, more than memory holds"))),
    }
}

/// # Safety
/// `pointer` is null or points to `len` elements, which are not changed during `'a`.
unsafe fn slice<'a, T>(name: &str, pointer: *const T, len: usize) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    checked(name, pointer, len)?;
    // SAFETY: not null, aligned and of a size that memory holds; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// # Safety
/// As [`slice`]; null is none.
unsafe fn optional<'a, T>(name: &str, pointer: *const T, len: usize) -> Result<Option<&'a [T]>, Failure> {
    // SAFETY: the caller's promise.
    if pointer.is_null() { Ok(None) } else { unsafe { slice(name, pointer, len) }.map(Some) }
}

/// # Safety
/// As [`slice`], for one element.
unsafe fn one<'a, T>(name: &str, pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    Ok(&unsafe { slice(name, pointer, 1) }?[0])
}

/// # Safety
/// As [`slice`], for `count` rows.
unsafe fn rows<'a>(
    name: &str,
    pointer: *const f32,
    (count, vocab, stride): (usize, usize, usize),
) -> Result<Rows<'a>, Failure> {
    let stride = if stride == 0 { vocab } else { stride };
    if stride < vocab {
        return Err(Failure::argument(format!("the rows of {name} are {stride} apart and {vocab} long")));
    }
    let whole = count.saturating_sub(1).checked_mul(stride).and_then(|before| before.checked_add(vocab));
    let len = if count == 0 { 0 } else { whole.unwrap_or(usize::MAX) };
    // SAFETY: the caller's promise.
    Ok(Rows { values: unsafe { slice(name, pointer, len) }?, vocab, stride })
}

/// # Safety
/// `pointer` points to room for `values`, as [`checked`] says.
unsafe fn store<T: Copy>(pointer: *mut T, values: &[T]) {
    // SAFETY: the caller's promise, and nobody else's memory is in `values`.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), pointer, values.len()) };
}

/// # Safety
/// `pointer` is null or points to room for a value.
unsafe fn store_one<T: Copy>(name: &str, pointer: *mut T, value: T) -> Result<(), Failure> {
    checked(name, pointer, 1)?;
    // SAFETY: not null and aligned; the room is the caller's promise.
    unsafe { store(pointer, &[value]) };
    Ok(())
}

/// # Safety
/// `pointer` is null or points to a string that ends with a zero byte and is not changed during `'a`.
unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Result<&'a str, Failure> {
    checked(name, pointer, 1)?;
    // SAFETY: not null; the end is the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| Failure::argument(format!("{name} is not in UTF-8")))
}

/// # Safety
/// `selector` is null or came from a `draftpick_selector_from_…` and was not freed.
unsafe fn handle<'a>(selector: *const DraftpickSelector) -> Result<&'a DraftpickSelector, Failure> {
    checked("selector", selector, 1)?;
    // SAFETY: not null; the rest is the caller's promise.
    Ok(unsafe { &*selector })
}

/// # Safety
/// `out` is null or points to room for a pointer.
unsafe fn hand_out(
    out: *mut *mut DraftpickSelector,
    make: impl FnOnce() -> Result<DraftpickSelector, Failure>,
) -> Result<(), Failure> {
    checked("selector", out, 1)?;
    let selector = Box::into_raw(Box::new(make()?));
    // SAFETY: not null and aligned; the room is the caller's promise.
    unsafe { out.write(selector) };
    Ok(())
}

/// Runs `call` with the coins of a request.
///
/// # Safety
/// `toss` may be called with `context`.
unsafe fn with_coins<T>(
    coins: &DraftpickCoins,
    call: impl FnOnce(&dyn Coins) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(toss) = coins.toss else {
        return call(&RoundCoins { seed: coins.seed, start: coins.position });
    };
    let context = coins.context;
    // SAFETY: the caller gave the function for this, with what it is called with.
    let tossed = Tossed::new(move |purpose, depth, draft| unsafe { toss(context, purpose, depth, draft) });
    let result = call(&tossed);
    tossed.checked(result)
}

/// The version of the interface of the library that is loaded: compare it with DRAFTPICK_ABI_VERSION.
#[unsafe(no_mangle)]
pub extern "C" fn draftpick_abi_version() -> u32 {
    DRAFTPICK_ABI_VERSION
}

/// The version of the library, as in "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn draftpick_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Why the last call of this thread that failed did so. Valid until the next call of this thread that fails; "" if none
/// has.
#[unsafe(no_mangle)]
pub extern "C" fn draftpick_last_error() -> *const c_char {
    last(CStr::as_ptr).unwrap_or(c"".as_ptr())
}

/// The largest probability with which any rule accepts one of k independent drafts: alpha*. O(V log V).
///
/// draft and target hold `vocab` probabilities each, which add up to 1 within 1e-9.
///
/// # Safety
/// The pointers point to as much as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_alpha_star(
    draft: *const f64,
    target: *const f64,
    vocab: usize,
    k: usize,
    alpha: *mut f64,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe {
        let value = selector::alpha_star(slice("draft", draft, vocab)?, slice("target", target, vocab)?, k)?;
        store_one("alpha", alpha, value)
    })
}

/// The coin of a seed and a position with one address: what DraftpickCoins without `toss` stands for. purpose is a
/// DraftpickPurpose; draft the draft's number, 0 where there is none to tell apart.
///
/// # Safety
/// `coin` has room for one number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_coin(
    seed: u64,
    position: u64,
    purpose: u32,
    depth: usize,
    draft: usize,
    coin: *mut f64,
) -> DraftpickStatus {
    guarded(|| {
        let all = Purpose::ALL.get(purpose as usize);
        let purpose = *all.ok_or_else(|| Failure::argument(format!("purpose is {purpose}; there are 0 to 4")))?;
        let value = RoundCoins { seed, start: position }.coin(purpose, depth, draft).get();
        // SAFETY: the caller's promise.
        unsafe { store_one("coin", coin, value) }
    })
}

/// Draws a token from `vocab` logits by a coin in [0, 1), after sampling (NULL: none): how drafts are to be drawn. One of
/// probability 0 never comes out.
///
/// # Safety
/// The pointers point to as much as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_draw(
    logits: *const f32,
    vocab: usize,
    sampling: *const DraftpickSampling,
    coin: f64,
    token: *mut i32,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe {
        let logits = slice("logits", logits, vocab)?;
        let sampling = crate::sampling::sampling(optional("sampling", sampling, 1)?, 0);
        let coin = Coin::new(coin).map_err(Failure::input)?;
        let filtered;
        let logits = match sampling == Sampling::default() {
            true => logits,
            false => {
                filtered = sampling.apply(logits).map_err(Failure::input)?;
                &filtered
            }
        };
        let drawn = LogitRow::of("draft", logits).map_err(Failure::input)?.draw(coin);
        store_one("token", token, drawn as i32)
    })
}

/// Prepares a rule for k drafts of one position from `vocab` probabilities of each model, which are copied.
///
/// rule is "maximal" (k = 1), "rrs", "rrs-wor", "kseq", "optimal" or "optimal-linear". *selector is written only on
/// success, and to be freed by draftpick_selector_free.
///
/// # Safety
/// The pointers point to as much as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_selector_from_probabilities(
    rule: *const c_char,
    draft: *const f64,
    target: *const f64,
    vocab: usize,
    k: usize,
    selector: *mut *mut DraftpickSelector,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe {
        let rule = text("rule", rule)?;
        let (draft, target) = (slice("draft", draft, vocab)?, slice("target", target, vocab)?);
        hand_out(selector, || DraftpickSelector::from_probabilities(rule, draft, target, k))
    })
}

/// Prepares a rule for k drafts of one position from `vocab` logits of each model, which are copied. The sampling may be
/// NULL: the logits have it applied, with filtered tokens at -INFINITY. The rest is as in
/// draftpick_selector_from_probabilities.
///
/// # Safety
/// The pointers point to as much as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_selector_from_logits(
    rule: *const c_char,
    draft: *const f32,
    target: *const f32,
    vocab: usize,
    draft_sampling: *const DraftpickSampling,
    target_sampling: *const DraftpickSampling,
    k: usize,
    selector: *mut *mut DraftpickSelector,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe {
        let rule = text("rule", rule)?;
        let (draft, target) = (slice("draft", draft, vocab)?, slice("target", target, vocab)?);
        let (own, others) =
            (optional("draft_sampling", draft_sampling, 1)?, optional("target_sampling", target_sampling, 1)?);
        hand_out(selector, || DraftpickSelector::from_logits(rule, draft, target, &pair(own, others, 0), k))
    })
}

/// Frees a selector; NULL is none. No other thread may be using it.
///
/// # Safety
/// The selector came from this library and was not freed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_selector_free(selector: *mut DraftpickSelector) {
    if !selector.is_null() {
        guarded(|| {
            // SAFETY: it came from Box::into_raw, once.
            drop(unsafe { Box::from_raw(selector) });
            Ok(())
        });
    }
}

/// The number of drafts that the selector takes: k, but for "rrs-wor" where the draft law has fewer tokens.
///
/// # Safety
/// The selector is one; drafts has room for one number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_selector_drafts(
    selector: *const DraftpickSelector,
    drafts: *mut usize,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe { store_one("drafts", drafts, handle(selector)?.drafts()) })
}

/// The probability that a draft is accepted; standard_error, which may be NULL, is 0 if it is exact.
///
/// # Safety
/// The selector is one; the outputs have room for one number each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_selector_acceptance(
    selector: *const DraftpickSelector,
    acceptance: *mut f64,
    standard_error: *mut f64,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe {
        let (value, error) = handle(selector)?.acceptance();
        store_one("acceptance", acceptance, value)?;
        if standard_error.is_null() { Ok(()) } else { store_one("standard_error", standard_error, error) }
    })
}

/// The law of the output given `count` drafts: `vocab` probabilities, as many as the selector has tokens.
///
/// # Safety
/// The selector is one; the pointers point to as much as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_selector_law(
    selector: *const DraftpickSelector,
    drafts: *const i32,
    count: usize,
    law: *mut f64,
    vocab: usize,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe {
        let selector = handle(selector)?;
        if vocab != selector.vocab() {
            let own = selector.vocab();
            return Err(Failure::argument(format!("law has room for {vocab} tokens; the selector has {own}")));
        }
        let values = selector.law(&verify::tokens("drafts", slice("drafts", drafts, count)?)?)?;
        checked("law", law, vocab)?;
        store(law, &values);
        Ok(())
    })
}

/// Selects among `count` drafts. The coins are those of depth 0: one DRAFTPICK_PURPOSE_LABEL a draft, one ACCEPT, one RESIDUAL.
///
/// token becomes the output token; accepted, which may be NULL, the draft that it is, or -1 if none was accepted.
///
/// # Safety
/// The selector is one; the pointers point to as much as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_selector_select(
    selector: *const DraftpickSelector,
    drafts: *const i32,
    count: usize,
    coins: *const DraftpickCoins,
    token: *mut i32,
    accepted: *mut i32,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe {
        let selector = handle(selector)?;
        let drafts = verify::tokens("drafts", slice("drafts", drafts, count)?)?;
        let selected = with_coins(one("coins", coins)?, |coins| selector.select(&drafts, coins))?;
        store_selected(&[selected], "token", token, accepted)
    })
}

/// Prepares a rule at every position of a batch and selects among its drafts.
///
/// tokens becomes the [count] output tokens; accepted, which may be NULL, the [count] drafts that they are, or -1 where none
/// was accepted. If one position is refused, nothing is written. O(V) a position for "optimal-linear", "kseq" and "maximal".
///
/// # Safety
/// The pointers point to as much as is said, also those in the batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_select(
    rule: *const c_char,
    batch: *const DraftpickPositions,
    tokens: *mut i32,
    accepted: *mut i32,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe {
        let batch = one("batch", batch)?;
        let &DraftpickPositions { count, k, vocab, .. } = batch;
        let rule = selector::rule(text("rule", rule)?, k)?;
        let drafts = verify::tokens("drafts", slice("drafts", batch.drafts, count.saturating_mul(k))?)?;
        let draft = rows("draft_logits", batch.draft_logits, (count, vocab, batch.draft_stride))?;
        let target = rows("target_logits", batch.target_logits, (count, vocab, batch.target_stride))?;
        let own = optional("draft_sampling", batch.draft_sampling, count)?;
        let others = optional("target_sampling", batch.target_sampling, count)?;
        let select = |(i, coins): (usize, &DraftpickCoins)| {
            let pair = pair(own, others, i);
            let drafts = &drafts[i * k..][..k];
            let select =
                |coins: &dyn Coins| selector::select(rule, (draft.row(i), target.row(i)), &pair, drafts, coins);
            with_coins(coins, select).map_err(|failure| failure.of_request(i, count))
        };
        let coins = slice("coins", batch.coins, count)?;
        let selected = coins.iter().enumerate().map(select).collect::<Result<Vec<_>, _>>()?;
        store_selected(&selected, "tokens", tokens, accepted)
    })
}

/// # Safety
/// Both point to room for as many as were selected; `accepted` may be null.
unsafe fn store_selected(
    selected: &[Selected],
    name: &str,
    tokens: *mut i32,
    accepted: *mut i32,
) -> Result<(), Failure> {
    if selected.is_empty() {
        return Ok(());
    }
    checked(name, tokens, selected.len())?;
    if !accepted.is_null() {
        checked("accepted", accepted, selected.len())?;
        let drafts = selected.iter().map(|&(_, draft)| draft.map_or(PLACEHOLDER, |draft| draft as i32));
        // SAFETY: the caller's promise.
        unsafe { store(accepted, &drafts.collect::<Vec<_>>()) };
    }
    // SAFETY: the caller's promise. A vocabulary has 2^20 tokens at most.
    unsafe { store(tokens, &selected.iter().map(|&(token, _)| token as i32).collect::<Vec<_>>()) };
    Ok(())
}

/// Stores rows of tokens, each filled up to `width` with -1.
///
/// # Safety
/// `output` is null or points to room for so many rows, none of which is longer than `width`.
unsafe fn store_padded<'a>(
    (name, output): (&str, *mut i32),
    width: usize,
    rows: impl ExactSizeIterator<Item = &'a [Token]>,
) -> Result<(), Failure> {
    checked(name, output, width.saturating_mul(rows.len()))?;
    for (row, tokens) in rows.enumerate() {
        let tokens = tokens.iter().map(|&token| token as i32).chain(std::iter::repeat(PLACEHOLDER));
        for (column, token) in tokens.take(width).enumerate() {
            // SAFETY: the caller's promise.
            unsafe { output.add(row * width + column).write(token) };
        }
    }
    Ok(())
}

/// Verifies one drafted chain for each request of a ragged batch.
///
/// verifier is "block", "path" or "traversal" (the same for a chain), or "token:RULE" for SpecTr's recursion over a rule. output
/// becomes [requests, max_spec_len + 1] tokens: the drafts that are kept, one token more, then -1. If one request is refused,
/// nothing is written.
///
/// # Safety
/// The pointers point to as much as is said, also those in the batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_verify_chains(
    verifier: *const c_char,
    batch: *const DraftpickChains,
    output: *mut i32,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe {
        let batch = one("batch", batch)?;
        let &DraftpickChains { requests, max_spec_len, vocab, .. } = batch;
        let verifier = verify::verifier(text("verifier", verifier)?)?;
        let starts = verify::starts(slice("cu_num_draft_tokens", batch.cu_num_draft_tokens, requests)?, max_spec_len)?;
        let count = starts[requests];
        let draft = match batch.draft_probs.is_null() {
            true => None,
            false => Some(rows("draft_probs", batch.draft_probs, (count, vocab, batch.draft_stride))?),
        };
        let chains = Chains {
            tokens: verify::tokens("draft_token_ids", slice("draft_token_ids", batch.draft_token_ids, count)?)?,
            starts,
            draft,
            target: rows("target_logits", batch.target_logits, (count, vocab, batch.target_stride))?,
            bonus: verify::tokens("bonus_token_ids", slice("bonus_token_ids", batch.bonus_token_ids, requests)?)?,
            sampling: optional("sampling", batch.sampling, requests)?,
        };
        let one = |(i, coins): (usize, &DraftpickCoins)| {
            with_coins(coins, |coins| chains.verify(i, verifier, coins))
                .map_err(|failure| failure.of_request(i, requests))
        };
        let coins = slice("coins", batch.coins, requests)?;
        let kept = coins.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
        if requests == 0 {
            return Ok(());
        }
        store_padded(("output", output), max_spec_len.saturating_add(1), kept.iter().map(Vec::as_slice))
    })
}

/// Verifies `count` trees, each for a text of its own.
///
/// verifier is "path" or "spread", "traversal", "block" (one path), or "token:RULE" for SpecTr's recursion over a rule; it is
/// not looked at where a tree has no draft logits. tokens becomes [count, room]: what is output of each tree, then -1; a room
/// of the longest path's length and one more is enough. lengths becomes the [count] numbers of tokens; nodes, which may be
/// NULL, the [count] nodes at which the output leaves the trees, whose ways are to be kept in caches. If one tree is refused,
/// nothing is written.
///
/// # Safety
/// The pointers point to as much as is said, also those in the trees.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn draftpick_verify_trees(
    verifier: *const c_char,
    trees: *const DraftpickTree,
    count: usize,
    tokens: *mut i32,
    room: usize,
    lengths: *mut usize,
    nodes: *mut i32,
) -> DraftpickStatus {
    // SAFETY: the caller's promise.
    guarded(|| unsafe {
        let verifier = verify::verifier(text("verifier", verifier)?)?;
        let trees = slice("trees", trees, count)?;
        let verify = |tree: &DraftpickTree| {
            let read = tree_of(tree)?;
            fits(with_coins(&tree.coins, |coins| read.verify(verifier, coins))?, room)
        };
        let verify = |(i, tree): (usize, &DraftpickTree)| verify(tree).map_err(|failure| failure.of_request(i, count));
        let decided = trees.iter().enumerate().map(verify).collect::<Result<Vec<_>, _>>()?;
        store_decided(&decided, tokens, room, lengths, nodes)
    })
}

fn fits(decided: Decided, room: usize) -> Result<Decided, Failure> {
    match decided.tokens.len() {
        len if len > room => Err(Failure::argument(format!("{len} tokens were output; there is room for {room}"))),
        _ => Ok(decided),
    }
}

/// # Safety
/// The pointers in the tree point to as much as it says, and that is not changed during `'a`.
unsafe fn tree_of<'a>(tree: &DraftpickTree) -> Result<Tree<'a>, Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        let rows = |name: &str, pointers: *const *const f32| -> Result<Vec<Option<&'a [f32]>>, Failure> {
            slice(name, pointers, tree.nodes)?.iter().map(|&row| optional(name, row, tree.vocab)).collect()
        };
        let draft = if tree.draft_logits.is_null() { None } else { Some(rows("draft_logits", tree.draft_logits)?) };
        Ok(Tree {
            tokens: slice("tokens", tree.tokens, tree.nodes)?,
            parents: slice("parents", tree.parents, tree.nodes)?,
            draft,
            target: rows("target_logits", tree.target_logits)?,
            sampling: pair(
                optional("draft_sampling", tree.draft_sampling, 1)?,
                optional("target_sampling", tree.target_sampling, 1)?,
                0,
            ),
        })
    }
}

/// # Safety
/// The outputs have room for as many trees as were decided; `nodes` may be null.
unsafe fn store_decided(
    decided: &[Decided],
    tokens: *mut i32,
    room: usize,
    lengths: *mut usize,
    nodes: *mut i32,
) -> Result<(), Failure> {
    if decided.is_empty() {
        return Ok(());
    }
    checked("lengths", lengths, decided.len())?;
    if !nodes.is_null() {
        checked("nodes", nodes, decided.len())?;
    }
    // SAFETY: the caller's promise; each fits its room.
    unsafe {
        store_padded(("tokens", tokens), room, decided.iter().map(|one| &one.tokens[..]))?;
        store(lengths, &decided.iter().map(|one| one.tokens.len()).collect::<Vec<_>>());
        if !nodes.is_null() {
            store(nodes, &decided.iter().map(|one| one.node as i32).collect::<Vec<_>>());
        }
    }
    Ok(())
}
