//! What each selector costs, part by part: to prepare it, to make a selection that accepts, to make one that resamples.
//!
//! `cargo bench --bench selectors` runs all groups; a regular expression picks some: `-- '^select/'`,
//! `-- 'optimal-linear/V=128256'`. Before anything is timed the fast paths are held to the reference: the acceptance of
//! the selectors prepared from f32 logits to that of the laws in f64.

mod inputs;

use std::cell::LazyCell;
use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use draftpick::{Coin, Pmf, Problem, Rule, Sampling, Selection, Selector, Token, bound};
use inputs::{Input, draw, inputs, prepare};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const VOCABS: [usize; 4] = [1_000, 8_000, 32_000, 128_256];
const KS: [usize; 5] = [1, 2, 4, 8, 16];

/// How far below the optimum ratio classes may leave the acceptance.
const CLASSES: f64 = 1e-4;
/// How far f32 logits may move an acceptance.
const F32: f64 = 1e-6;

/// The selections that one benchmark goes round, so that it does not time the luck of one.
const SELECTIONS: usize = 16;
/// The draws among which they are looked for.
const DRAWS: usize = 2_000;
/// The rarest outcome that is timed, as a probability: among so many draws it does not fail to come up.
const RAREST: f64 = 0.01;

/// Two laws of one vocabulary, as logits and as probabilities.
struct Case {
    vocab: usize,
    input: Input,
    problem: Problem,
}

impl Case {
    fn new(vocab: usize) -> Self {
        let input = inputs(vocab).swap_remove(0);
        let pmf = |logits: &[f32]| Pmf::from_logits(logits, &Sampling::default()).expect("the inputs are finite");
        let problem = Problem::new(pmf(&input.draft), pmf(&input.target), 1).expect("the rows are equally long");
        Case { vocab, input, problem }
    }

    fn problem(&self, k: usize) -> Problem {
        self.problem.clone().with_k(k).expect("k is in range")
    }

    /// Fast path against reference. The acceptance of `rrs-wor` is an estimate and says nothing to six digits.
    fn check(&self, k: usize) {
        let problem = self.problem(k);
        let optimum = bound::alpha_star(&problem);
        for rule in rules(k).filter(|rule| *rule != Rule::RecursiveDistinct) {
            let found = prepare(rule, &self.input, k).acceptance().value;
            let (expected, tolerance) = match rule {
                // An error in the draft mass of a set enters `p(H)^k` with a factor `k`.
                Rule::Optimal => (optimum, k as f64 * F32),
                Rule::OptimalLinear => (optimum, CLASSES),
                _ => (rule.prepare(&problem).acceptance().value, F32),
            };
            // Not `difference > tolerance`: a NaN must fail.
            let agree = (found - expected).abs() <= tolerance;
            let Input { name, .. } = self.input;
            assert!(agree, "{rule}, {name}, V = {}, k = {k}: accepts {found}, not {expected}", self.vocab);
        }
    }

    /// Whether the rule resamples often enough to be found doing so. `rrs-wor` does; to estimate how often takes long.
    fn resamples(&self, rule: Rule, k: usize) -> bool {
        rule == Rule::RecursiveDistinct || prepare(rule, &self.input, k).acceptance().value <= 1.0 - RAREST
    }
}

fn rules(k: usize) -> impl Iterator<Item = Rule> {
    Rule::ALL.into_iter().filter(move |rule| rule.takes(k))
}

/// Drafts and coins with whose selections `wanted` agrees.
fn selections(
    case: &Case,
    rule: Rule,
    k: usize,
    selector: &dyn Selector,
    wanted: fn(Selection) -> bool,
) -> Vec<(Vec<Token>, Vec<Coin>)> {
    let mut rng = StdRng::seed_from_u64(11);
    let mut found = Vec::with_capacity(SELECTIONS);
    for _ in 0..DRAWS {
        let drafts = draw(rule, case.problem.draft(), k, &mut rng);
        let coins: Vec<Coin> = (0..drafts.len() + 2).map(|_| rng.random()).collect();
        if wanted(selector.select(&drafts, &coins).expect("the drafts were drawn")) {
            found.push((drafts, coins));
            if found.len() == SELECTIONS {
                break;
            }
        }
    }
    assert!(!found.is_empty(), "{rule}, V = {}, k = {k}: no such selection in {DRAWS}", case.vocab);
    found
}

/// Calls `bench` for every vocabulary, `k` and rule.
fn each(group: &mut BenchmarkGroup<WallTime>, cases: &[Case], bench: impl Fn(&mut Timed, &Case, Rule, usize)) {
    for case in cases {
        for k in KS {
            for rule in rules(k) {
                // Preparations of milliseconds: few and equally long samples, or one would take a minute.
                let slow = case.vocab > 100_000 && matches!(rule, Rule::Optimal | Rule::RecursiveDistinct);
                group.sampling_mode(if slow { SamplingMode::Flat } else { SamplingMode::Auto });
                group.sample_size(if slow { 10 } else { 20 });
                group.measurement_time(Duration::from_millis(if slow { 1_000 } else { 400 }));
                let id = BenchmarkId::new(rule.name(), format_args!("V={} k={k}", case.vocab));
                bench(&mut Timed { group, id }, case, rule, k);
            }
        }
    }
}

/// A benchmark that has its name and wants to know what to time.
struct Timed<'a, 'c> {
    group: &'a mut BenchmarkGroup<'c, WallTime>,
    id: BenchmarkId,
}

impl Timed<'_, '_> {
    fn run(&mut self, mut f: impl FnMut()) {
        self.group.bench_function(self.id.clone(), |bencher| bencher.iter(&mut f));
    }

    /// One selection a call, of those that `wanted` agrees with, from a selector prepared from logits.
    fn run_selections(&mut self, case: &Case, rule: Rule, k: usize, wanted: fn(Selection) -> bool) {
        // A benchmark that the filter leaves out prepares nothing.
        let prepared = LazyCell::new(|| {
            let selector = prepare(rule, &case.input, k);
            let selections = selections(case, rule, k, &*selector, wanted);
            (selector, selections)
        });
        let mut next = 0;
        self.group.bench_function(self.id.clone(), |bencher| {
            let (selector, selections) = &*prepared;
            bencher.iter(|| {
                let (drafts, coins) = &selections[next % selections.len()];
                next += 1;
                selector.select(black_box(drafts), black_box(coins))
            });
        });
    }
}

fn bench(criterion: &mut Criterion) {
    // `cargo test --benches` only wants to see it run.
    let quick = std::env::args().any(|argument| argument == "--test");
    let cases: Vec<Case> = VOCABS.into_iter().take(if quick { 1 } else { VOCABS.len() }).map(Case::new).collect();
    for case in &cases {
        KS.into_iter().for_each(|k| case.check(k));
    }
    let mut group = criterion.benchmark_group("prepare");
    each(&mut group, &cases, |timed, case, rule, k| {
        let problem = LazyCell::new(|| case.problem(k));
        timed.run(|| drop(black_box(rule.prepare(black_box(&problem)))));
    });
    group.finish();
    let mut group = criterion.benchmark_group("prepare from logits");
    each(&mut group, &cases, |timed, case, rule, k| {
        timed.run(|| drop(black_box(prepare(rule, black_box(&case.input), k))));
    });
    group.finish();
    let mut group = criterion.benchmark_group("select");
    each(&mut group, &cases, |timed, case, rule, k| {
        timed.run_selections(case, rule, k, |selection| matches!(selection, Selection::Draft(_)));
    });
    group.finish();
    let mut group = criterion.benchmark_group("resample");
    each(&mut group, &cases, |timed, case, rule, k| {
        if case.resamples(rule, k) {
            timed.run_selections(case, rule, k, |selection| matches!(selection, Selection::Residual(_)));
        }
    });
    group.finish();
}

criterion_group! {
    name = benches;
    // Short, since there are hundreds: the whole takes some minutes.
    config = Criterion::default().warm_up_time(Duration::from_millis(100)).nresamples(10_000);
    targets = bench
}
criterion_main!(benches);
