//! `select` allocates nothing, whatever comes out of it.
#![allow(unsafe_code)] // A global allocator cannot be written without.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Shape, draw, problem};
use draftpick::{Coin, Rule, Selection};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The system's allocator, counting what each thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator unchanged. Counting allocates nothing itself: the counter
// is a constant-initialised thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, that is, from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(f: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.get();
    let value = f();
    (ALLOCATIONS.get() - before, value)
}

#[test]
fn select_allocates_nothing() {
    assert_eq!(allocations(|| std::hint::black_box(Box::new(1))).0, 1, "the count is not counting");
    let mut rng = StdRng::seed_from_u64(4);
    for rule in Rule::ALL {
        let (mut accepted, mut resampled) = (0, 0);
        for k in [1, 3, 16].into_iter().filter(|&k| rule.takes(k)) {
            for shape in [Shape::Ordinary, Shape::Spiky, Shape::Disjoint] {
                let problem = problem(shape, 60, k, 5);
                let selector = rule.prepare(&problem);
                let (mut drafts, mut coins) = (vec![0; selector.drafts()], vec![Coin::ZERO; selector.drafts() + 2]);
                for _ in 0..200 {
                    draw(problem.draft(), selector.drawn(), &mut rng, &mut drafts);
                    coins.fill_with(|| rng.random());
                    let (count, selection) = allocations(|| selector.select(&drafts, &coins));
                    assert_eq!(count, 0, "{rule} with {k} drafts allocates: {selection:?}");
                    let (count, again) = allocations(|| selector.select_with(&drafts, &mut rng));
                    assert_eq!(count, 0, "{rule} with {k} drafts allocates for its coins: {again:?}");
                    match selection.unwrap() {
                        Selection::Draft(_) => accepted += 1,
                        Selection::Residual(_) => resampled += 1,
                    }
                }
            }
        }
        assert!(accepted > 0 && resampled > 0, "{rule}: {accepted} accepted, {resampled} resampled");
    }
}
