//! `select` allocates nothing, whatever comes out of it and whatever the selector was prepared from.
#![allow(unsafe_code)] // A global allocator cannot be written without.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Shape, draw, problem};
use draftpick::scan::Scan;
use draftpick::{Coin, Problem, Rule, Selection, Selector};
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

/// Logits whose softmaxes are the problem's laws, but for rounding; masked where a law has nothing.
fn logits(problem: &Problem) -> (Vec<f32>, Vec<f32>) {
    let of = |law: &[f64]| law.iter().map(|p| p.ln() as f32).collect();
    (of(problem.draft().as_slice()), of(problem.target().as_slice()))
}

fn from_logits<'a>(rule: Rule, scan: &Scan<'a>) -> Box<dyn Selector + 'a> {
    match rule {
        Rule::Maximal => Box::new(scan.maximal()),
        Rule::Recursive => Box::new(scan.recursive()),
        Rule::RecursiveDistinct => Box::new(scan.recursive_distinct()),
        Rule::KSeq => Box::new(scan.kseq()),
        Rule::Optimal => Box::new(scan.optimal_exact()),
        Rule::OptimalLinear => Box::new(scan.optimal()),
        _ => unreachable!("every rule has its constructor above"),
    }
}

#[test]
fn select_allocates_nothing() {
    assert_eq!(allocations(|| std::hint::black_box(Box::new(1))).0, 1, "the count is not counting");
    let mut rng = StdRng::seed_from_u64(4);
    for rule in Rule::ALL {
        // The outcomes of selectors prepared from probabilities, and from logits.
        let mut outcomes = [(0, 0); 2];
        for k in [1, 3, 16].into_iter().filter(|&k| rule.takes(k)) {
            // The last is longer than the blocks that logits are read by.
            for (shape, vocab) in
                [(Shape::Ordinary, 60), (Shape::Spiky, 60), (Shape::Disjoint, 60), (Shape::Ordinary, 500)]
            {
                let problem = problem(shape, vocab, k, 5);
                let rows = logits(&problem);
                let scan = Scan::new(&rows.0, &rows.1, k).unwrap();
                let selectors = [rule.prepare(&problem), from_logits(rule, &scan)];
                for (selector, outcomes) in selectors.iter().zip(&mut outcomes) {
                    let (mut drafts, mut coins) = (vec![0; selector.drafts()], vec![Coin::ZERO; selector.drafts() + 2]);
                    for _ in 0..200 {
                        draw(problem.draft(), selector.drawn(), &mut rng, &mut drafts);
                        coins.fill_with(|| rng.random());
                        let (count, selection) = allocations(|| selector.select(&drafts, &coins));
                        assert_eq!(count, 0, "{rule} with {k} drafts allocates: {selection:?}");
                        let (count, again) = allocations(|| selector.select_with(&drafts, &mut rng));
                        assert_eq!(count, 0, "{rule} with {k} drafts allocates for its coins: {again:?}");
                        match selection.unwrap() {
                            Selection::Draft(_) => outcomes.0 += 1,
                            Selection::Residual(_) => outcomes.1 += 1,
                        }
                    }
                }
            }
        }
        for (accepted, resampled) in outcomes {
            assert!(accepted > 0 && resampled > 0, "{rule}: {accepted} accepted, {resampled} resampled");
        }
    }
}
