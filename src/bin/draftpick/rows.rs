//! Work on many rows: all processors, and a progress bar once it takes long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long it takes until a progress bar appears.
const PATIENCE: Duration = Duration::from_secs(1);

/// What `work` makes of each row, in order.
pub fn map<T: Send>(count: usize, work: impl Fn(usize) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    let bar = Bar::new(count as u64);
    let rows = spread(count, |row| {
        let value = work(row)?;
        bar.advance(1);
        Ok(value)
    })?;
    bar.finish();
    Ok(rows)
}

/// A progress bar that appears once the work takes long.
pub struct Bar {
    bar: ProgressBar,
    start: Instant,
}

impl Bar {
    /// A bar of a length.
    pub fn new(length: u64) -> Self {
        let bar = ProgressBar::hidden();
        bar.set_length(length);
        Bar { bar, start: Instant::now() }
    }

    /// A bar of a number of bytes.
    pub fn of_bytes(length: u64) -> Self {
        let bar = Self::new(length);
        let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {eta}");
        bar.bar.set_style(style.expect("the template is one"));
        bar
    }

    /// So much more is done.
    pub fn advance(&self, by: u64) {
        self.bar.inc(by);
        if self.bar.is_hidden() && self.start.elapsed() > PATIENCE {
            // Draws nothing unless standard error is a terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// What `work` makes of each row, in order, on all processors.
fn spread<T: Send>(count: usize, work: impl Fn(usize) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let worker = || -> anyhow::Result<Vec<(usize, T)>> {
        let mut done = Vec::new();
        loop {
            let row = next.fetch_add(1, Ordering::Relaxed);
            if row >= count {
                return Ok(done);
            }
            done.push((row, work(row)?));
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
    rows.sort_by_key(|(row, _)| *row);
    Ok(rows.into_iter().map(|(_, value)| value).collect())
}
