//! Losslessness as an equation: for every rule, Σ over all draft tuples of P(drafts)·law(drafts) equals the target.
//!
//! `cargo test --test exactness -- --nocapture` prints the largest deviations.

mod common;

use common::{SHAPES, Shape, for_each_tuple, optimum_over_subsets, problem};
use draftpick::optimal::OptimalLinear;
use draftpick::{Coin, Pmf, Problem, Rule, Selector, bound};
use proptest::prelude::*;

/// The bound asked of every rule on every problem.
const EXACT: f64 = 1e-12;

/// The largest deviation of the output law from the target, and of the enumerated acceptance from the one claimed.
fn deviation(selector: &dyn Selector, problem: &Problem) -> (f64, f64) {
    let target = problem.target().as_slice();
    let mut output = vec![0.0; target.len()];
    let mut total = 0.0;
    // The probability that the output is among the drafts: at least the acceptance, which does not count a residual
    // draw that happens to repeat a draft.
    let mut served = 0.0;
    for_each_tuple(problem.draft(), selector.drafts(), selector.drawn(), &mut |drafts, mass| {
        total += mass;
        let law = selector
            .law(drafts)
            .unwrap_or_else(|error| panic!("{error} for {drafts:?} of probability {mass:e}: {problem:?}"));
        assert!(law.iter().all(|share| *share >= 0.0), "negative or NaN share in {law:?} for {drafts:?}");
        for (token, (sum, share)) in output.iter_mut().zip(&law).enumerate() {
            *sum += mass * share;
            if drafts.contains(&(token as u32)) {
                served += mass * share;
            }
        }
    });
    assert!((total - 1.0).abs() < 1e-12, "the tuples have mass {total}");
    let worst = output.iter().zip(target).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    (worst, selector.acceptance().value - served)
}

fn check(problem: &Problem) -> Result<f64, String> {
    let mut worst = 0.0f64;
    for rule in Rule::ALL.into_iter().filter(|rule| rule.takes(problem.k())) {
        let selector = rule.prepare(problem);
        let (output, excess) = deviation(&*selector, problem);
        // Not `output > EXACT`: a NaN must fail.
        if !(output <= EXACT) {
            return Err(format!("{rule}: the output law is off by {output:e} on {problem:?}"));
        }
        if !(excess <= EXACT) {
            return Err(format!("{rule} claims {excess:e} more acceptance than it has on {problem:?}"));
        }
        worst = worst.max(output);
    }
    Ok(worst)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn every_rule_is_lossless(
        shape in prop::sample::select(SHAPES.to_vec()),
        vocab in 1usize..=6,
        k in 1usize..=4,
        seed in any::<u64>(),
    ) {
        let problem = problem(shape, vocab, k, seed);
        if let Err(message) = check(&problem) {
            return Err(TestCaseError::fail(message));
        }
    }
}

/// Classes divided until the optimum is attained: few classes to begin with leave more to divide.
#[test]
fn divided_classes_attain_the_optimum_and_are_lossless() {
    let (mut gap, mut output, mut problems) = (0.0f64, 0.0f64, 0);
    for shape in SHAPES {
        for vocab in 1..=6 {
            for k in 1..=4 {
                for seed in 200..220 {
                    let problem = problem(shape, vocab, k, seed);
                    let selector = OptimalLinear::exact(problem.clone());
                    let short = (selector.acceptance().value - bound::alpha_star(&problem)).abs();
                    assert!(short <= EXACT, "off the optimum by {short:e}: {problem:?}");
                    let (off, excess) = deviation(&selector, &problem);
                    assert!(off <= EXACT && excess <= EXACT, "{off:e} {excess:e}: {problem:?}");
                    (gap, output, problems) = (gap.max(short), output.max(off), problems + 1);
                }
            }
        }
    }
    for seed in 0..40 {
        let problem = problem(SHAPES[seed % SHAPES.len()], 2000, 2 + seed % 9, seed as u64);
        let selector = OptimalLinear::exact(problem.clone());
        let short = (selector.acceptance().value - bound::alpha_star(&problem)).abs();
        assert!(short <= EXACT, "off the optimum by {short:e} at V = 2000, seed {seed}");
        gap = gap.max(short);
    }
    println!("divided classes, {problems} problems: |acceptance − α*| ≤ {gap:.2e}, |Σ P·law − q| ≤ {output:.2e}");
}

/// Drafts that can be drawn, if hardly ever, and of which the target allows none, from laws that else agree: rounding may
/// leave no residual to draw from. There is a law for them all the same, of tokens that the target allows, and `select` has it.
#[test]
fn drafts_less_likely_than_rounding_have_a_law() {
    const ROUNDS: u32 = 1000;
    let cases: [(&[f64], &[f64], &[u32]); 6] = [
        (&[0.999999, 1e-6], &[1.0, 0.0], &[1, 1, 1]),
        (&[1.0, 1e-20], &[1.0, 0.0], &[1]),
        (&[1.0, 1e-20], &[1.0, 0.0], &[1, 1]),
        // Distinct drafts too.
        (&[1.0, 1e-20, 1e-20], &[1.0, 0.0, 0.0], &[1, 2]),
        (&[0.5, 0.5, 1e-20, 1e-20], &[0.5, 0.5, 0.0, 0.0], &[3, 2]),
        (&[0.7, 1e-30, 0.3, 1e-20, 0.0], &[0.7, 0.0, 0.3, 0.0, 0.0], &[3, 1, 3, 3]),
    ];
    let mut without_residual = 0;
    for (p, q, drafts) in cases {
        let problem = Problem::new(Pmf::new(p).unwrap(), Pmf::new(q).unwrap(), drafts.len()).unwrap();
        check(&problem).unwrap();
        let repeats = (1..drafts.len()).any(|i| drafts[..i].contains(&drafts[i]));
        let takes = |rule: &Rule| rule.takes(drafts.len()) && !(*rule == Rule::RecursiveDistinct && repeats);
        for rule in Rule::ALL.into_iter().filter(takes) {
            let selector = rule.prepare(&problem);
            let law = selector.law(drafts).unwrap_or_else(|error| panic!("{rule}, {drafts:?} of {p:?}: {error}"));
            assert!((law.iter().sum::<f64>() - 1.0).abs() <= EXACT, "{rule}: {law:?}");
            assert!(law.iter().zip(q).all(|(law, q)| *q > 0.0 || *law == 0.0), "{rule}: {law:?}");
            without_residual += u32::from(law.iter().zip(q).all(|(law, q)| (law - q).abs() <= EXACT));
            // Whatever the other coins, the residual's decides.
            let mut counts = vec![0u32; q.len()];
            for round in 0..ROUNDS {
                let other = Coin::new(f64::from(round * 7 % ROUNDS) / f64::from(ROUNDS)).unwrap();
                let mut coins = vec![other; drafts.len() + 2];
                coins[drafts.len() + 1] = Coin::new((f64::from(round) + 0.5) / f64::from(ROUNDS)).unwrap();
                counts[selector.select(drafts, &coins).unwrap().token(drafts) as usize] += 1;
            }
            for (count, law) in counts.into_iter().zip(law) {
                let off = (f64::from(count) / f64::from(ROUNDS) - law).abs();
                assert!(off <= 1.0 / f64::from(ROUNDS), "{rule}, {drafts:?} of {p:?}: select is off by {off}");
            }
            for coin in [Coin::ZERO, Coin::LAST] {
                let token = selector.select(drafts, &vec![coin; drafts.len() + 2]).unwrap().token(drafts);
                assert!(q[token as usize] > 0.0, "{rule} gave token {token}");
            }
        }
    }
    assert!(without_residual > 20, "{without_residual} laws are the target's");
}

#[test]
fn the_largest_deviation_over_a_fixed_set_of_problems() {
    let mut problems = 0;
    let mut worst = 0.0f64;
    for shape in SHAPES {
        for vocab in 1..=6 {
            for k in 1..=4 {
                for seed in 0..60 {
                    worst = worst.max(check(&problem(shape, vocab, k, seed)).unwrap());
                    problems += 1;
                }
            }
        }
    }
    println!("largest |Σ P·law − q| over {problems} problems and all rules: {worst:.2e}");
}

#[test]
fn acceptances_agree_with_each_other_and_with_the_subsets() {
    let (mut optimal, mut problems) = (0.0f64, 0);
    for shape in SHAPES {
        for vocab in 1..=6 {
            for k in 1..=6 {
                for seed in 100..160 {
                    let problem = problem(shape, vocab, k, seed);
                    let optimum = optimum_over_subsets(&problem);
                    let closed = bound::alpha_star(&problem);
                    assert!((closed - optimum).abs() <= 1e-12, "closed form {closed}, subsets {optimum}: {problem:?}");
                    for rule in Rule::ALL.into_iter().filter(|rule| rule.takes(k)) {
                        // Without replacement another optimum holds.
                        if rule == Rule::RecursiveDistinct {
                            continue;
                        }
                        let acceptance = rule.prepare(&problem).acceptance().value;
                        assert!(acceptance <= optimum + 1e-12, "{rule} beats the optimum: {problem:?}");
                        if rule == Rule::Optimal {
                            let gap = (acceptance - optimum).abs();
                            assert!(gap <= 1e-9, "optimal is off by {gap:e}: {problem:?}");
                            optimal = optimal.max(gap);
                        }
                        if rule == Rule::KSeq {
                            let least = bound::guarantee(k).unwrap() * optimum;
                            assert!(acceptance >= least - 1e-12, "k-SEQ misses its guarantee: {problem:?}");
                        }
                    }
                    problems += 1;
                }
            }
        }
    }
    println!("largest |optimal − optimum over subsets| over {problems} problems: {optimal:.2e}");
}

#[test]
fn test_vectors() {
    let acceptance = |rule: Rule, problem: &Problem| rule.prepare(problem).acceptance().value;
    type Vector<'a> = (&'a [f64], &'a [f64], usize, f64, f64, f64);
    let (first, second): (&[f64], &[f64]) = (&[0.5, 0.3, 0.2], &[0.2, 0.3, 0.5]);
    let vectors: [Vector; 7] = [
        (first, second, 1, 0.7, 1.0, 0.7),
        (first, second, 2, 0.86, 1.4567764363, 0.7913552873),
        (first, second, 3, 0.988, 1.7925930283, 0.8585186057),
        (first, second, 4, 1.0, 2.0300358391, 0.9060071678),
        (&[0.5, 0.5], &[0.75, 0.25], 2, 1.0, 1.3090169944, 0.9045084972),
        (&[0.9, 0.1], &[0.1, 0.9], 4, 0.4439, 3.2831039454, 0.4283103945),
        (&[0.7, 0.2, 0.1], &[0.1, 0.2, 0.7], 3, 0.571, 2.3718432387, 0.5371843239),
    ];
    for (p, q, k, alpha, rho, p_acc) in vectors {
        let problem = Problem::new(Pmf::new(p).unwrap(), Pmf::new(q).unwrap(), k).unwrap();
        let kseq = draftpick::kseq::KSeq::new(problem.clone());
        for (computed, expected, epsilon) in [
            (bound::alpha_star(&problem), alpha, 1e-12),
            (acceptance(Rule::Optimal, &problem), alpha, 1e-12),
            (kseq.rho(), rho, 5e-10),
            (kseq.acceptance().value, p_acc, 5e-10),
        ] {
            approx::assert_abs_diff_eq!(computed, expected, epsilon = epsilon);
        }
    }
    for (k, expected) in [(2, 0.76), (3, 0.808), (4, 0.8464)] {
        let problem = Problem::new(Pmf::new(first).unwrap(), Pmf::new(second).unwrap(), k).unwrap();
        approx::assert_abs_diff_eq!(acceptance(Rule::Recursive, &problem), expected, epsilon = 1e-12);
    }
}

#[test]
fn shapes_are_what_they_say() {
    let equal = problem(Shape::Equal, 4, 2, 1);
    assert_eq!(equal.draft(), equal.target());
    assert_eq!(bound::alpha_star(&problem(Shape::Disjoint, 5, 2, 1)), 0.0);
}
