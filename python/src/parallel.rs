//! The rows of a batch on several threads.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;

use crate::array::refused;

/// The number of threads; 0 for as many as the machine offers.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The number of processors. Asked once: the answer takes 40 µs of reading files.
static PROCESSORS: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// The logits read from which on a second thread is worth starting: it takes some 20 µs, as does reading these.
const WORTH_A_THREAD: usize = 1 << 17;

/// Sets the number of threads that a batch is spread over.
#[pyfunction]
pub fn set_num_threads(threads: usize) -> PyResult<()> {
    if threads == 0 {
        return Err(refused("the number of threads is 0; it must be at least 1"));
    }
    THREADS.store(threads, Ordering::Relaxed);
    Ok(())
}

/// The number of threads that a batch is spread over.
#[pyfunction]
pub fn get_num_threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => *PROCESSORS,
        threads => threads,
    }
}

/// `work` for each of `rows`, each of which reads about `cost` logits.
///
/// The threads live for the call only. A pool would outlive a `fork` as a lock that nobody opens again, and engines fork.
pub fn map<T: Send>(rows: usize, cost: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let worth = rows.saturating_mul(cost) / WORTH_A_THREAD;
    let threads = get_num_threads().min(rows).min(worth.max(1));
    if threads == 1 {
        return (0..rows).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let row = next.fetch_add(1, Ordering::Relaxed);
            if row >= rows {
                return done;
            }
            done.push((row, work(row)));
        }
    };
    let mut results: Vec<Option<T>> = (0..rows).map(|_| None).collect();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let mut store = |done: Vec<(usize, T)>| done.into_iter().for_each(|(row, value)| results[row] = Some(value));
        store(take());
        for other in others {
            match other.join() {
                Ok(done) => store(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    results.into_iter().map(|value| value.expect("every row was taken once")).collect()
}
