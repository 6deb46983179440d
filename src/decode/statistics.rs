//! What the loop counts and times.

use std::time::Duration;

/// Counts and times of the rounds of a [`Speculative`](super::Speculative).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// The number of rounds, each request's counted by itself.
    pub rounds: u64,
    /// The number of tokens that came out, the ones not drafted included.
    pub tokens: u64,
    /// The sum of the squares of the rounds' numbers of tokens.
    pub squares: u64,
    /// `drafted[d]`: the rounds in which some path was longer than `d` tokens.
    pub drafted: Vec<u64>,
    /// `accepted[d]`: the rounds that kept more than `d` drafted tokens.
    pub accepted: Vec<u64>,
    /// The number of forward passes of the draft model, each for all requests together.
    pub draft_calls: u64,
    /// The number of forward passes of the target model.
    pub target_calls: u64,
    /// The time in the draft model. Where a device computes while the host goes on, the wait for it falls to the next
    /// time that something is read back: to [`draw`](Statistics::draw) and [`verify`](Statistics::verify).
    pub draft: Duration,
    /// The time in the target model.
    pub target: Duration,
    /// The time from the target's scores to the tokens.
    pub verify: Duration,
    /// The time in which drafts were drawn from the draft's scores.
    pub draw: Duration,
    /// The time in which the models dropped what was not kept.
    pub keep: Duration,
}

impl Statistics {
    pub(super) fn count(&mut self, longest: usize, kept: usize, tokens: usize) {
        self.rounds += 1;
        self.tokens += tokens as u64;
        self.squares += (tokens * tokens) as u64;
        if self.drafted.len() < longest {
            self.drafted.resize(longest, 0);
            self.accepted.resize(longest, 0);
        }
        self.drafted[..longest].iter_mut().for_each(|rounds| *rounds += 1);
        self.accepted[..kept].iter_mut().for_each(|rounds| *rounds += 1);
    }

    /// The block efficiency: tokens for each round, that is for each check by the target model. NaN before the first.
    pub fn block_efficiency(&self) -> f64 {
        self.tokens as f64 / self.rounds as f64
    }

    /// The standard error of [`block_efficiency`](Statistics::block_efficiency), rounds taken as independent.
    pub fn standard_error(&self) -> f64 {
        let (n, mean) = (self.rounds as f64, self.block_efficiency());
        ((self.squares as f64 / n - mean * mean).max(0.0) / (n - 1.0).max(1.0)).sqrt()
    }

    /// The share of the rounds that kept their `d + 1`-th drafted token, for each depth `d` drafted at.
    pub fn acceptance_by_depth(&self) -> Vec<f64> {
        self.accepted.iter().zip(&self.drafted).map(|(&kept, &drafted)| kept as f64 / drafted as f64).collect()
    }

    /// Adds what was counted and timed elsewhere.
    pub fn add(&mut self, other: &Statistics) {
        self.rounds += other.rounds;
        self.tokens += other.tokens;
        self.squares += other.squares;
        add_up(&mut self.drafted, &other.drafted);
        add_up(&mut self.accepted, &other.accepted);
        self.draft_calls += other.draft_calls;
        self.target_calls += other.target_calls;
        self.draft += other.draft;
        self.target += other.target;
        self.verify += other.verify;
        self.draw += other.draw;
        self.keep += other.keep;
    }

    /// All that was timed.
    pub fn time(&self) -> Duration {
        self.draft + self.target + self.verify + self.draw + self.keep
    }
}

fn add_up(counts: &mut Vec<u64>, others: &[u64]) {
    counts.resize(counts.len().max(others.len()), 0);
    counts.iter_mut().zip(others).for_each(|(count, other)| *count += other);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_in_two_places_adds_up() {
        let rounds = [(3, 2, 3), (1, 0, 1), (2, 2, 3), (4, 1, 2)];
        let count = |rounds: &[(usize, usize, usize)]| {
            let mut statistics =
                Statistics { draft_calls: 5, verify: Duration::from_millis(3), ..Statistics::default() };
            rounds.iter().for_each(|&(longest, kept, tokens)| statistics.count(longest, kept, tokens));
            statistics
        };
        let mut sum = count(&rounds[..2]);
        sum.add(&count(&rounds[2..]));
        let all = count(&rounds);
        assert_eq!((sum.draft_calls, sum.time()), (10, 2 * all.time()));
        assert_eq!((sum.drafted.clone(), sum.accepted.clone()), (all.drafted.clone(), all.accepted.clone()));
        assert_eq!(sum.block_efficiency(), all.block_efficiency());
        assert_eq!(sum.standard_error(), all.standard_error());
    }
}
