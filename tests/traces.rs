//! What the rules attain on real models' scores: the embedded trace.
//!
//! `cargo test --test traces -- --nocapture` prints the largest gaps.

#![cfg(feature = "trace")]

use draftpick::optimal::OptimalLinear;
use draftpick::trace::{PathTrace, Trace};
use draftpick::{Drawn, Problem, Rule, Selector, bound};

/// With 62 drafts the linear-time rule loses most on the embedded trace.
const KS: [usize; 6] = [1, 2, 4, 8, 16, 62];

/// How far the exact rules may be from the closed form, and an inequality from holding.
const EXACT: f64 = 1e-12;

/// Ratio classes, and how far below the optimum the linear-time rule may be with so many.
const CLASSES: [(usize, f64); 2] = [(256, 2e-4), (1024, 2e-5)];

/// The largest gaps seen.
struct Gaps {
    /// `|optimal − α*|`.
    optimal: f64,
    /// `α* − optimal-linear`, for each of [`CLASSES`].
    linear: [f64; 2],
    /// `|α* − optimal-linear|` with classes divided until the optimum is attained.
    exact: f64,
    /// `α*` less the best rule of independent drafts that does not aim at it.
    others: f64,
    /// The least k-SEQ over its guarantee: a ratio, at least 1.
    guarantee: f64,
}

impl Gaps {
    fn none() -> Self {
        Gaps { optimal: 0.0, linear: [0.0; 2], exact: 0.0, others: 0.0, guarantee: f64::INFINITY }
    }

    fn print(&self, name: &str) {
        let Gaps { optimal, linear: [coarse, fine], exact, others, guarantee } = self;
        println!("{name}: |optimal − α*| ≤ {optimal:.1e}, α* − optimal-linear ≤ {coarse:.1e}, {fine:.1e}, {exact:.1e}");
        println!("    α* − the best other rule ≤ {others:.3}, k-SEQ ≥ {guarantee:.3} × its guarantee");
    }

    fn check(&mut self, name: &str, problem: &Problem) {
        let k = problem.k();
        let optimum = bound::alpha_star(problem);
        let optimal = Rule::Optimal.prepare(problem).acceptance().value;
        // Not `gap > EXACT`: a NaN must fail.
        let gap = (optimal - optimum).abs();
        assert!(gap <= EXACT, "{name}, k = {k}: optimal attains {optimal}, not {optimum}");
        self.optimal = self.optimal.max(gap);
        for ((classes, tolerance), worst) in CLASSES.into_iter().zip(&mut self.linear) {
            let linear = OptimalLinear::with_classes(problem.clone(), classes).unwrap().acceptance().value;
            let gap = optimum - linear;
            assert!((-EXACT..=tolerance).contains(&gap), "{name}, k = {k}: {classes} classes are {gap:e} short");
            *worst = worst.max(gap);
        }
        let gap = (optimum - OptimalLinear::exact(problem.clone()).acceptance().value).abs();
        assert!(gap <= EXACT, "{name}, k = {k}: classes divided are {gap:e} off");
        self.exact = self.exact.max(gap);
        let mut best = 0.0f64;
        for rule in Rule::ALL.into_iter().filter(|rule| rule.takes(k)) {
            let selector = rule.prepare(problem);
            // Without replacement another optimum holds.
            if selector.drawn() == Drawn::Independent {
                let acceptance = selector.acceptance().value;
                assert!(acceptance <= optimal + EXACT, "{name}, k = {k}: {rule} attains {acceptance} > {optimal}");
                if !rule.name().starts_with("optimal") {
                    best = best.max(acceptance);
                }
            }
        }
        self.others = self.others.max(optimum - best);
        let (kseq, least) = (Rule::KSeq.prepare(problem).acceptance().value, bound::guarantee(k).unwrap() * optimum);
        assert!(kseq >= least - EXACT, "{name}, k = {k}: k-SEQ attains {kseq}, guaranteed are {least}");
        self.guarantee = self.guarantee.min(kseq / least);
    }
}

#[test]
fn the_rules_attain_what_they_promise_on_the_embedded_trace() {
    let trace = Trace::embedded();
    for k in KS {
        let mut gaps = Gaps::none();
        for row in 0..trace.rows() {
            gaps.check(&format!("row {row}"), &trace.problem(row, k).unwrap());
        }
        gaps.print(&format!("k = {k}"));
    }
}

#[test]
fn the_rules_attain_what_they_promise_along_drafted_paths() {
    let bytes = &include_bytes!("../assets/tiny-pair-paths.safetensors")[..];
    let trace = PathTrace::from_bytes(bytes).unwrap();
    for k in KS {
        let mut gaps = Gaps::none();
        for i in 0..trace.rows() * trace.paths() * trace.length() {
            let (row, path, t) =
                (i / trace.length() / trace.paths(), i / trace.length() % trace.paths(), i % trace.length());
            let (draft, target) = (trace.draft(row, path, t).unwrap(), trace.target(row, path, t).unwrap());
            gaps.check(&format!("row {row}, path {path}, token {t}"), &Problem::new(draft, target, k).unwrap());
        }
        gaps.print(&format!("k = {k}, along paths"));
    }
}
