//! A log audited in one pass, in memory that does not grow with it.

use std::io::BufRead;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Header, LogError, LogErrorKind, Reader};
use crate::audit::{Audit, KnownRule, Look, Settings};

/// How much of a log is held in memory at a time: lines are read until they have so many bytes or are so many.
const BATCH_BYTES: usize = 16 << 20;
const BATCH_LINES: usize = 1024;

/// How a log is audited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pass {
    /// The probability with which an honest log is refused, however long it is. In `(0, 1)`.
    pub level: f64,
    /// The rule that the engine follows, in place of what the header says; `Some(None)` where that is not to be believed.
    pub rule: Option<Option<KnownRule>>,
    /// How far the logged laws may be from those that the engine used, in total variation, in place of what the header says.
    pub accuracy: Option<f64>,
    /// On how many rounds, at least, the engine is compared with the rules.
    pub compared: usize,
    /// The number of threads, at least 1. What is found does not depend on it.
    pub threads: usize,
}

impl Default for Pass {
    /// Level 1e-3, what the header says, 500 rounds, one thread.
    fn default() -> Self {
        let Settings { level, compared, .. } = Settings::default();
        Pass { level, rule: None, accuracy: None, compared, threads: 1 }
    }
}

impl<R: BufRead> Reader<R> {
    /// Audits what is left of the log; returns the audit and the header as it was taken. After each batch of lines `progress`
    /// is told the number of bytes, and may end the pass there: the evidence is valid wherever one stops.
    ///
    /// # Errors
    /// A line cannot be read or is malformed: of several the first. The rule does not take a round's drafts. There is no
    /// round.
    ///
    /// # Panics
    /// If the level or the accuracy is out of range.
    pub fn audit(
        &mut self,
        pass: &Pass,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(Audit, Header), LogError> {
        let mut header = self.header().clone();
        header.rule = pass.rule.unwrap_or(header.rule);
        header.accuracy = pass.accuracy.unwrap_or(header.accuracy);
        let mut audit = Audit::new(Settings {
            level: pass.level,
            rule: header.rule,
            drawn: header.drawn,
            accuracy: header.accuracy,
            compared: pass.compared,
        });
        let mut lines: Vec<(u64, Vec<u8>)> = Vec::new();
        loop {
            let (mut count, mut bytes) = (0, 0);
            while count < BATCH_LINES && bytes < BATCH_BYTES {
                if lines.len() == count {
                    lines.push((0, Vec::new()));
                }
                let Some(number) = self.next_line(&mut lines[count].1)? else {
                    break;
                };
                lines[count].0 = number;
                bytes += lines[count].1.len();
                count += 1;
            }
            if count == 0 {
                break;
            }
            let (first, plan, format) = (audit.rounds(), audit.plan(), self.format());
            let look = |i: usize| -> Result<Look, LogError> {
                let (line, text) = &lines[i];
                let record = format.record(*line, text)?;
                let refused = |error| LogError { line: *line, kind: LogErrorKind::Applied(error) };
                plan.look(first + i as u64, &record).map_err(refused)
            };
            // An error is the line's own, so that the first in the order of the log is the one returned.
            for look in spread(count, pass.threads, look) {
                audit.add(look?);
            }
            if progress(bytes as u64).is_break() {
                break;
            }
        }
        match audit.rounds() {
            0 => Err(LogError { line: 2, kind: LogErrorKind::NoRounds }),
            _ => Ok((audit, header)),
        }
    }
}

/// What `work` makes of each number below `count`, in order.
fn spread<T: Send>(count: usize, threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return done;
            }
            done.push((i, work(i)));
        }
    };
    let mut all = thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(worker)).collect();
        let mut all = worker();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, value)| value).collect()
}
