//! Choosing the number and length of drafts by what they were worth so far.
//!
//! A round of `K` paths of `L` tokens yields `1 + Σ_{d ≤ L} A_K(d)` tokens, `A_K(d)` being the share of rounds that keep
//! `d` drafted tokens, and costs `L` draft calls and one target call over up to `K·L + 1` tokens. Both are estimated from
//! the rounds before; the next round takes the `K` and `L` with the most tokens a second.
//!
//! Lossless all the same: the choice depends on earlier rounds and on the clock, never on the drafts of its own round.

use std::time::Duration;

/// How much a round counts against the ones before.
const MEMORY: f64 = 0.95;

/// Every so many rounds another number of paths is tried, at full length.
const EXPLORE: u64 = 16;

/// Chooses `K` and `L`.
#[derive(Clone, Debug)]
pub(super) struct Adaptive {
    length: usize,
    arms: Vec<Arm>,
    round: u64,
    /// Seconds of a target call, as `base + per_token·tokens`: running sums of a weighted least-squares line.
    target: Line,
}

/// What is known of a number of paths.
#[derive(Clone, Debug)]
struct Arm {
    paths: usize,
    /// Rounds so far, each worth [`MEMORY`] of the next, at each depth; and those that kept a token there.
    drafted: Vec<f64>,
    kept: Vec<f64>,
    /// Seconds of one draft call, and the calls they are the mean of.
    draft_seconds: f64,
    draft_calls: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        for (sum, value) in
            [(&mut self.weight, 1.0), (&mut self.x, x), (&mut self.y, y), (&mut self.xx, x * x), (&mut self.xy, x * y)]
        {
            *sum = *sum * MEMORY + value;
        }
    }

    fn at(&self, x: f64) -> f64 {
        let (mean_x, mean_y) = (self.x / self.weight, self.y / self.weight);
        let spread = self.xx / self.weight - mean_x * mean_x;
        // A longer call is no faster; with all calls alike there is no slope to see.
        let slope = if spread > 1e-9 { ((self.xy / self.weight - mean_x * mean_y) / spread).max(0.0) } else { 0.0 };
        (mean_y + slope * (x - mean_x)).max(f64::MIN_POSITIVE)
    }
}

impl Adaptive {
    /// Up to `paths` paths of up to `length` tokens.
    pub fn new(paths: usize, length: usize) -> Self {
        let mut numbers: Vec<usize> = (0..).map(|i| 1 << i).take_while(|&k| k < paths).collect();
        numbers.push(paths);
        let arm = |paths| Arm {
            paths,
            drafted: vec![0.0; length],
            kept: vec![0.0; length],
            draft_seconds: 0.0,
            draft_calls: 0.0,
        };
        Adaptive { length, arms: numbers.into_iter().map(arm).collect(), round: 0, target: Line::default() }
    }

    /// `K` and `L` of the next round.
    pub fn choose(&mut self) -> (usize, usize) {
        let turn = self.round;
        self.round += 1;
        // Each number of paths in turn, at first and now and then.
        let tried = turn / EXPLORE;
        if turn < 2 * self.arms.len() as u64 {
            return (self.arms[turn as usize % self.arms.len()].paths, self.length);
        }
        if turn.is_multiple_of(EXPLORE) {
            return (self.arms[tried as usize % self.arms.len()].paths, self.length);
        }
        let (mut best, mut choice) = (0.0, (self.arms[0].paths, 0));
        for arm in &self.arms {
            let mut tokens = 1.0;
            for length in 0..=self.length {
                if length > 0 {
                    tokens += arm.survival(length - 1);
                }
                let nodes = (arm.paths * length + 1) as f64;
                let seconds = length as f64 * arm.draft_seconds + self.target.at(nodes);
                if tokens / seconds > best {
                    (best, choice) = (tokens / seconds, (arm.paths, length));
                }
            }
        }
        choice
    }

    /// Records a round: the paths and the longest path's length, the tokens kept, and what it took.
    pub fn record(&mut self, drafts: (usize, usize), kept: usize, nodes: usize, draft: Duration, target: Duration) {
        self.target.add(nodes as f64, target.as_secs_f64());
        let (paths, longest) = drafts;
        let Some(arm) = self.arms.iter_mut().find(|arm| arm.paths == paths) else {
            return;
        };
        for depth in 0..longest.min(arm.drafted.len()) {
            arm.drafted[depth] = arm.drafted[depth] * MEMORY + 1.0;
            arm.kept[depth] = arm.kept[depth] * MEMORY + f64::from(depth < kept);
        }
        if longest > 0 {
            let seconds = draft.as_secs_f64() / longest as f64;
            arm.draft_calls = arm.draft_calls * MEMORY + 1.0;
            arm.draft_seconds += (seconds - arm.draft_seconds) / arm.draft_calls;
        }
    }
}

impl Arm {
    /// The share of rounds that keep more than `depth` drafted tokens.
    fn survival(&self, depth: usize) -> f64 {
        if self.drafted[depth] > 0.0 { self.kept[depth] / self.drafted[depth] } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays rounds of a made-up machine and counts how often each choice is made at the end.
    fn settle(acceptance: impl Fn(usize) -> f64, draft: f64, target: impl Fn(usize) -> f64) -> (usize, usize) {
        let mut adaptive = Adaptive::new(8, 8);
        let mut counts = std::collections::HashMap::new();
        let mut state = 1u64;
        for round in 0..2000 {
            let (paths, length) = adaptive.choose();
            let mut kept = 0;
            while kept < length {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if (state >> 11) as f64 / (1u64 << 53) as f64 >= acceptance(paths) {
                    break;
                }
                kept += 1;
            }
            let nodes = paths * length + 1;
            let seconds = |s: f64| Duration::from_secs_f64(s);
            adaptive.record((paths, length), kept, nodes, seconds(draft * length as f64), seconds(target(nodes)));
            if round >= 1000 {
                *counts.entry((paths, length)).or_insert(0) += 1;
            }
        }
        counts.into_iter().max_by_key(|(_, count)| *count).unwrap().0
    }

    #[test]
    fn a_free_draft_is_used_to_the_full_and_a_useless_one_not_at_all() {
        let (paths, length) = settle(|paths| 1.0 - 0.4f64.powi(paths as i32), 1e-6, |_| 1e-2);
        assert!(paths == 8 && length == 8, "{paths} paths of {length}");
        let (_, length) = settle(|_| 0.02, 1e-2, |nodes| 1e-2 + 1e-3 * nodes as f64);
        assert_eq!(length, 0);
    }

    #[test]
    fn where_every_token_costs_the_paths_are_few_and_short() {
        let (paths, length) = settle(|_| 0.5, 1e-3, |nodes| 1e-2 + 2e-3 * nodes as f64);
        assert!(paths == 1 && (1..=4).contains(&length), "{paths} paths of {length}");
    }
}
