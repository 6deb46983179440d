//! Choosing the number and length of drafts by what they were worth so far.
//!
//! A round of `K` paths of `L` tokens yields `1 + Σ_{d ≤ L} A_K(d)` tokens, `A_K(d)` being the share of rounds that keep
//! `d` drafted tokens, and costs `L` draft calls and one target call over up to `K·L + 1` tokens. Both are estimated from
//! the rounds before; the next round takes the `K` and `L` with the most tokens a second. A small share of the time goes into
//! rounds that only look whether another `K` has become worth it.
//!
//! Lossless all the same: the choice depends on earlier rounds and on the clock, never on the drafts of its own round.

use std::time::Duration;

/// How much a round's times count against those of the round before.
const MEMORY: f64 = 0.95;

/// The same of the tokens it kept, which chance moves more.
const MEMORY_KEPT: f64 = 0.98;

/// The tokens that the mean over all depths counts for at each depth.
const PRIOR: f64 = 4.0;

/// The standard errors by which a share of tokens kept may be better than it seems: what is known little is tried.
const HOPE: f64 = 0.5;

/// The share of the time that rounds of other numbers of paths, at full length, may take. The first round of each does not
/// count.
const EXPLORED: f64 = 0.03;

/// Chooses `K` and `L`.
#[derive(Clone, Debug)]
pub(super) struct Adaptive {
    length: usize,
    arms: Vec<Arm>,
    target: Costs,
    /// The arm that is tried next.
    turn: usize,
    /// Whether the present round only tries it.
    explores: bool,
    /// Seconds of all rounds, and of those that only tried an arm.
    spent: f64,
    explored: f64,
}

/// What is known of a number of paths.
#[derive(Clone, Debug)]
struct Arm {
    paths: usize,
    /// Rounds so far, each worth [`MEMORY_KEPT`] of the next, that kept all tokens above a depth; and those that kept a
    /// token there.
    reached: Vec<f64>,
    kept: Vec<f64>,
    /// Seconds of one draft call, and the calls they are the mean of.
    draft_seconds: f64,
    draft_calls: f64,
}

/// What target calls over so many tokens take: means over calls of like size, as the time may jump where it pleases (a
/// matrix library changes its method, a GPU fills another wave).
#[derive(Clone, Debug, Default)]
struct Costs {
    /// By size, smallest first.
    sizes: Vec<Cost>,
}

/// Calls of like size.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Four bins to an octave.
    bin: u32,
    weight: f64,
    tokens: f64,
    seconds: f64,
}

impl Costs {
    fn add(&mut self, tokens: usize, seconds: f64) {
        let tokens = tokens.max(1) as f64;
        let bin = (4.0 * tokens.log2()).round() as u32;
        let place = self.sizes.binary_search_by_key(&bin, |cost| cost.bin).unwrap_or_else(|place| {
            self.sizes.insert(place, Cost { bin, weight: 0.0, tokens, seconds });
            place
        });
        let cost = &mut self.sizes[place];
        cost.weight = cost.weight * MEMORY + 1.0;
        cost.tokens += (tokens - cost.tokens) / cost.weight;
        cost.seconds += (seconds - cost.seconds) / cost.weight;
    }

    /// Between sizes seen, the line. Beyond them the best that may be hoped for, so that hope is put to the test: fewer
    /// tokens cost in proportion less, more tokens no more.
    fn at(&self, tokens: f64) -> f64 {
        let above = self.sizes.partition_point(|cost| cost.tokens < tokens);
        let seconds = match (above.checked_sub(1).map(|below| self.sizes[below]), self.sizes.get(above)) {
            (Some(low), Some(high)) => {
                low.seconds + (high.seconds - low.seconds) * (tokens - low.tokens) / (high.tokens - low.tokens)
            }
            (None, Some(high)) => high.seconds * tokens / high.tokens,
            (Some(low), None) => low.seconds,
            (None, None) => 1.0,
        };
        seconds.max(f64::MIN_POSITIVE)
    }
}

impl Adaptive {
    /// Up to `paths` paths of up to `length` tokens.
    pub fn new(paths: usize, length: usize) -> Self {
        let mut numbers: Vec<usize> = (0..).map(|i| 1 << i).take_while(|&k| k < paths).collect();
        numbers.push(paths);
        let arm = |paths| Arm {
            paths,
            reached: vec![0.0; length],
            kept: vec![0.0; length],
            draft_seconds: 0.0,
            draft_calls: 0.0,
        };
        Adaptive {
            length,
            arms: numbers.into_iter().map(arm).collect(),
            target: Costs::default(),
            turn: 0,
            explores: false,
            spent: 0.0,
            explored: 0.0,
        }
    }

    /// `K` and `L` of the next round.
    pub fn choose(&mut self) -> (usize, usize) {
        if self.length == 0 {
            return (self.arms[0].paths, 0);
        }
        // Each number of paths once, then those that the time set aside for it allows.
        let untried = self.arms.iter().position(|arm| arm.draft_calls == 0.0);
        let next = &self.arms[self.turn % self.arms.len()];
        self.explores = untried.is_none() && self.explored + self.seconds(next, self.length) <= EXPLORED * self.spent;
        if let Some(untried) = untried {
            return (self.arms[untried].paths, self.length);
        }
        if self.explores {
            self.turn += 1;
            return (self.arms[(self.turn - 1) % self.arms.len()].paths, self.length);
        }
        let (mut best, mut choice) = (0.0, (self.arms[0].paths, 0));
        for arm in &self.arms {
            let (mut tokens, mut survival) = (1.0, 1.0);
            for length in 0..=self.length {
                if length > 0 {
                    survival *= arm.share(length - 1);
                    tokens += survival;
                }
                let speed = tokens / self.seconds(arm, length);
                if speed > best {
                    (best, choice) = (speed, (arm.paths, length));
                }
            }
        }
        choice
    }

    /// What a round is expected to take.
    fn seconds(&self, arm: &Arm, length: usize) -> f64 {
        length as f64 * arm.draft_seconds + self.target.at((arm.paths * length + 1) as f64)
    }

    /// Records a round.
    pub fn record(&mut self, played: &Played) {
        let Played { paths, length, kept, calls, nodes, draft, target } = *played;
        self.target.add(nodes, target.as_secs_f64());
        let seconds = (draft + target).as_secs_f64();
        self.spent += seconds;
        self.explored += if self.explores { seconds } else { 0.0 };
        let Some(arm) = self.arms.iter_mut().find(|arm| arm.paths == paths) else {
            return;
        };
        for depth in 0..length.min(arm.kept.len()) {
            arm.reached[depth] = arm.reached[depth] * MEMORY_KEPT + f64::from(depth <= kept);
            arm.kept[depth] = arm.kept[depth] * MEMORY_KEPT + f64::from(depth < kept);
        }
        if calls > 0 {
            let seconds = draft.as_secs_f64() / calls as f64;
            arm.draft_calls = arm.draft_calls * MEMORY + 1.0;
            arm.draft_seconds += (seconds - arm.draft_seconds) / arm.draft_calls;
        }
    }
}

/// A round of one text as it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Played {
    /// The number of paths that was chosen; a text may allow fewer.
    pub paths: usize,
    /// The length of its longest path.
    pub length: usize,
    /// The drafted tokens kept.
    pub kept: usize,
    /// The calls of the draft model, whichever texts of the batch they were for.
    pub calls: usize,
    /// The tokens that the target model was given, per text.
    pub nodes: usize,
    /// What all draft calls of the round took, and what the target call took.
    pub draft: Duration,
    pub target: Duration,
}

impl Arm {
    /// The share of tokens kept at a depth, of those whose predecessors were, and some hope.
    fn share(&self, depth: usize) -> f64 {
        let mean = (self.kept.iter().sum::<f64>() + 1.0) / (self.reached.iter().sum::<f64>() + 1.0);
        let tokens = self.reached[depth] + PRIOR;
        let share = ((self.kept[depth] + PRIOR * mean) / tokens).min(1.0);
        (share + HOPE * (share * (1.0 - share) / tokens).sqrt()).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up machine: what a path's next token is kept with, and seconds of a draft call and of a target call.
    struct Machine<'a> {
        acceptance: &'a dyn Fn(usize) -> f64,
        draft: f64,
        target: &'a dyn Fn(usize) -> f64,
    }

    impl Machine<'_> {
        /// Plays 2,000 rounds; the choice made most often in the second thousand, and tokens a second over all.
        fn settle(&self) -> ((usize, usize), f64) {
            let mut adaptive = Adaptive::new(8, 8);
            let mut counts = std::collections::HashMap::new();
            let mut state = 1u64;
            let (mut tokens, mut seconds) = (0, 0.0);
            for round in 0..2000 {
                let (paths, length) = adaptive.choose();
                let mut kept = 0;
                while kept < length {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    if (state >> 11) as f64 / (1u64 << 53) as f64 >= (self.acceptance)(paths) {
                        break;
                    }
                    kept += 1;
                }
                let nodes = paths * length + 1;
                let (draft, target) = (self.draft * length as f64, (self.target)(nodes));
                let duration = Duration::from_secs_f64;
                let (draft_time, target_time) = (duration(draft), duration(target));
                let calls = length;
                adaptive.record(&Played { paths, length, kept, calls, nodes, draft: draft_time, target: target_time });
                (tokens, seconds) = (tokens + kept + 1, seconds + draft + target);
                if round >= 1000 {
                    *counts.entry((paths, length)).or_insert(0) += 1;
                }
            }
            (counts.into_iter().max_by_key(|(_, count)| *count).unwrap().0, tokens as f64 / seconds)
        }

        /// Tokens a second of the best numbers that it may choose.
        fn best(&self) -> f64 {
            let speed = |paths: usize, length: usize| {
                let tokens: f64 = (0..=length).map(|depth| (self.acceptance)(paths).powi(depth as i32)).sum();
                tokens / (self.draft * length as f64 + (self.target)(paths * length + 1))
            };
            let all = [1, 2, 4, 8].into_iter().flat_map(|paths| (0..=8).map(move |length| (paths, length)));
            all.map(|(paths, length)| speed(paths, length)).fold(0.0, f64::max)
        }
    }

    #[test]
    fn a_free_draft_is_used_to_the_full_and_a_useless_one_not_at_all() {
        let acceptance = |paths| 1.0 - 0.4f64.powi(paths as i32);
        let ((paths, length), _) = Machine { acceptance: &acceptance, draft: 1e-6, target: &|_| 1e-2 }.settle();
        assert!(paths == 8 && length == 8, "{paths} paths of {length}");
        let target = |nodes| 1e-2 + 1e-3 * nodes as f64;
        let ((_, length), _) = Machine { acceptance: &|_| 0.02, draft: 1e-2, target: &target }.settle();
        assert_eq!(length, 0);
    }

    #[test]
    fn where_every_token_costs_the_paths_are_few_and_short() {
        let target = |nodes| 1e-2 + 2e-3 * nodes as f64;
        let ((paths, length), _) = Machine { acceptance: &|_| 0.5, draft: 1e-3, target: &target }.settle();
        assert!(paths == 1 && (1..=4).contains(&length), "{paths} paths of {length}");
    }

    /// Costs that are no line: the first is near that of the pair that comes along on two cores, where a call over 41 tokens
    /// takes 18 times as long as one over a single token.
    #[test]
    fn little_is_lost_against_the_best_numbers() {
        let acceptance = |paths| 1.0 - 0.45f64.powf(1.0 + 0.5 * (paths as f64).ln());
        let steep = |nodes: usize| 1e-3 * if nodes <= 2 { nodes as f64 } else { 1.2 + 0.4 * (nodes - 2) as f64 };
        let steps = |nodes: usize| 1e-2 * nodes.div_ceil(16) as f64;
        let flat = |nodes: usize| 1e-2 + 1e-5 * nodes as f64;
        let targets: [&dyn Fn(usize) -> f64; 3] = [&steep, &steps, &flat];
        for (i, target) in targets.into_iter().enumerate() {
            for draft in [1e-5, 3e-4, 3e-3] {
                let machine = Machine { acceptance: &acceptance, draft, target };
                let share = machine.settle().1 / machine.best();
                assert!(share > 0.8, "target {i}, draft {draft}: {share:.3} of the best");
            }
        }
    }
}
