//! Work on many rows: all processors, and a progress bar once it takes long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};

/// How long it takes until a progress bar appears.
const PATIENCE: Duration = Duration::from_secs(1);

/// What `work` makes of each row, in order.
pub fn map<T: Send>(count: usize, work: impl Fn(usize) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    let bar = ProgressBar::hidden();
    bar.set_length(count as u64);
    let (start, next) = (Instant::now(), AtomicUsize::new(0));
    let worker = || -> anyhow::Result<Vec<(usize, T)>> {
        let mut done = Vec::new();
        loop {
            let row = next.fetch_add(1, Ordering::Relaxed);
            if row >= count {
                return Ok(done);
            }
            done.push((row, work(row)?));
            bar.inc(1);
            if bar.is_hidden() && start.elapsed() > PATIENCE {
                // Draws nothing unless standard error is a terminal.
                bar.set_draw_target(ProgressDrawTarget::stderr());
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(count);
    let mut rows = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut rows = Vec::with_capacity(count);
        for worker in workers {
            rows.extend(worker.join().expect("a worker does not panic")?);
        }
        anyhow::Ok(rows)
    })?;
    bar.finish_and_clear();
    rows.sort_by_key(|(row, _)| *row);
    Ok(rows.into_iter().map(|(_, value)| value).collect())
}
