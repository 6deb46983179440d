//! Selectors prepared from two rows of f32 logits agree with those prepared from exact probabilities.
//!
//! `cargo test --test scan -- --nocapture` prints the largest deviations.

mod common;

use common::for_each_tuple;
use draftpick::scan::{Scan, ScanError};
use draftpick::{Coin, Laws, Pmf, Problem, Rule, Sampling, Selector, bound};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The stated bound: f32 exponentials and f32 differences of logits.
const STATED: f64 = 1e-6;

/// Two rows of logits of very different make-up, by number.
fn rows(kind: usize, vocab: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut noise = |size: f32| size * (rng.random::<f32>() + rng.random::<f32>() - 1.0);
    let zipf = |i: usize| -1.1 * ((i * 31 % vocab) as f32 + 2.0).ln();
    let mut draft: Vec<f32> = (0..vocab).map(|i| zipf(i) + noise(2.0)).collect();
    let mut target: Vec<f32> = draft.iter().map(|x| x + noise(3.0)).collect();
    match kind {
        // The same constant added to all logits of a row changes nothing.
        1 => {
            draft.iter_mut().for_each(|x| *x += 300.0);
            target.iter_mut().for_each(|x| *x -= 200.0);
        }
        2 => target.clone_from(&draft),
        3 => (draft, target) = (vec![1.5; vocab], vec![-7.0; vocab]),
        // Masked tokens, as after top-k: on the draft's side, the target's, both.
        4 => {
            for i in 0..vocab - 1 {
                if i % 3 == 0 {
                    draft[i] = f32::NEG_INFINITY;
                }
                if i % 4 == 0 {
                    target[i] = f32::NEG_INFINITY;
                }
            }
        }
        // Ratios far beyond the classes.
        5 => {
            for i in 0..vocab / 2 {
                draft[i] -= 40.0;
                target[vocab - 1 - i] -= 60.0;
            }
        }
        // All ratios inside one class.
        6 => target = draft.iter().map(|x| x + noise(1e-3)).collect(),
        // The same constant added to both rows: close enough to each other for f32, and far from 0.
        7 => {
            draft.iter_mut().for_each(|x| *x += 301.7);
            target.iter_mut().for_each(|x| *x += 301.7);
        }
        _ => {}
    }
    (draft, target)
}

const KINDS: usize = 8;

fn exact(draft: &[f32], target: &[f32], k: usize) -> Problem {
    let pmf = |logits: &[f32]| Pmf::from_logits(logits, &Sampling::default()).unwrap();
    Problem::new(pmf(draft), pmf(target), k).unwrap()
}

fn selectors<'a>(scan: &Scan<'a>) -> Vec<(Rule, Box<dyn Selector + 'a>)> {
    vec![
        (Rule::Maximal, Box::new(scan.maximal())),
        (Rule::Recursive, Box::new(scan.recursive())),
        (Rule::RecursiveDistinct, Box::new(scan.recursive_distinct())),
        (Rule::KSeq, Box::new(scan.kseq())),
        (Rule::Optimal, Box::new(scan.optimal_sorted())),
        (Rule::OptimalLinear, Box::new(scan.optimal_exact())),
        (Rule::OptimalLinear, Box::new(scan.optimal())),
    ]
}

#[test]
fn the_output_law_is_the_targets_within_the_stated_bound() {
    let mut worst = 0.0f64;
    for kind in 0..KINDS {
        for vocab in 1..=5 {
            for k in 1..=3 {
                for seed in 0..10 {
                    let (draft, target) = rows(kind, vocab, seed);
                    let problem = exact(&draft, &target, k);
                    let scan = Scan::new(&draft, &target, k).unwrap();
                    for (rule, selector) in selectors(&scan) {
                        let mut output = vec![0.0; vocab];
                        for_each_tuple(problem.draft(), selector.drafts(), selector.drawn(), &mut |drafts, mass| {
                            let law = selector.law(drafts).unwrap();
                            output.iter_mut().zip(law).for_each(|(sum, share)| *sum += mass * share);
                        });
                        let distance = output.iter().zip(problem.target().as_slice()).map(|(a, b)| (a - b).abs());
                        let distance = 0.5 * distance.sum::<f64>();
                        assert!(distance <= STATED, "{rule}, kind {kind}, V {vocab}, k {k}, seed {seed}: {distance:e}");
                        worst = worst.max(distance);
                    }
                }
            }
        }
    }
    println!("largest total variation between output and target, all rules from f32 logits: {worst:.2e}");
}

/// Drafts of which the target allows none, and that f32 cannot tell from impossible: short rows, and whole blocks.
#[test]
fn drafts_less_likely_than_rounding_have_a_law() {
    const ROUNDS: u32 = 100;
    for vocab in [4, 129, 1000] {
        for (logit, drafts) in [(-14.0, vec![1, 1, 1]), (-46.0, vec![1]), (-46.0, vec![1, 1]), (-46.0, vec![1, 2])] {
            let (mut draft, mut target) = (vec![f32::NEG_INFINITY; vocab], vec![f32::NEG_INFINITY; vocab]);
            for row in [&mut draft, &mut target] {
                (row[0], row[vocab - 1]) = (0.0, -1.0);
            }
            draft[1..3].fill(logit);
            let problem = exact(&draft, &target, drafts.len());
            let allows = |token: usize| problem.target().as_slice()[token] > 0.0;
            let scan = Scan::new(&draft, &target, drafts.len()).unwrap();
            let repeats = (1..drafts.len()).any(|i| drafts[..i].contains(&drafts[i]));
            for (rule, selector) in selectors(&scan) {
                if !rule.takes(drafts.len()) || (rule == Rule::RecursiveDistinct && repeats) {
                    continue;
                }
                let at = format!("{rule}, V {vocab}, {drafts:?}");
                let law = selector.law(&drafts).unwrap_or_else(|error| panic!("{at}: {error}"));
                assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{at}");
                assert!(law.iter().enumerate().all(|(token, share)| allows(token) || *share == 0.0), "{at}");
                let mut first = 0;
                for round in 0..ROUNDS {
                    let coin = Coin::new((f64::from(round) + 0.5) / f64::from(ROUNDS)).unwrap();
                    let token = selector.select(&drafts, &vec![coin; drafts.len() + 2]).unwrap().token(&drafts);
                    assert!(allows(token as usize), "{at}: token {token}");
                    first += u32::from(token == 0);
                }
                let off = (f64::from(first) / f64::from(ROUNDS) - law[0]).abs();
                assert!(off <= 1.0 / f64::from(ROUNDS), "{at}: select is off by {off}");
            }
        }
    }
}

/// Whole blocks go through the f32 pass; the short rows above do not.
#[test]
fn the_output_law_of_a_longer_vocabulary_is_the_targets_within_the_stated_bound() {
    let mut worst = 0.0f64;
    for kind in 0..KINDS {
        let (draft, target) = rows(kind, 256, 21);
        let problem = exact(&draft, &target, 2);
        let scan = Scan::new(&draft, &target, 2).unwrap();
        let selectors: [Box<dyn Selector>; 3] =
            [Box::new(scan.kseq()), Box::new(scan.optimal()), Box::new(scan.optimal_exact())];
        for selector in selectors {
            let mut output = [0.0; 256];
            for_each_tuple(problem.draft(), 2, selector.drawn(), &mut |drafts, mass| {
                let law = selector.law(drafts).unwrap();
                output.iter_mut().zip(law).for_each(|(sum, share)| *sum += mass * share);
            });
            let distance = output.iter().zip(problem.target().as_slice()).map(|(a, b)| (a - b).abs());
            let distance = 0.5 * distance.sum::<f64>();
            assert!(distance <= STATED, "kind {kind}: {distance:e}");
            worst = worst.max(distance);
        }
    }
    println!("largest total variation at V = 256, k-SEQ and optimal-linear from f32 logits: {worst:.2e}");
}

/// A few tokens hold all the mass: no error of theirs is averaged out. A token is on two edges of ratio by shares that
/// differ by a hundred times as much as its masses do; they must be the shares that the classes were counted with.
#[test]
fn the_output_law_of_a_few_likely_tokens_is_the_targets_within_the_stated_bound() {
    let mut worst = 0.0f64;
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut row = || -> Vec<f32> { (0..256).map(|_| rng.random::<f32>() - 30.0).collect() };
        let (mut draft, mut target) = (row(), row());
        for _ in 0..4 {
            let token = rng.random_range(0..256);
            (draft[token], target[token]) = (2.0 * rng.random::<f32>(), 2.0 * rng.random::<f32>());
        }
        let problem = exact(&draft, &target, 2);
        let scan = Scan::new(&draft, &target, 2).unwrap();
        let selectors: [Box<dyn Selector>; 3] =
            [Box::new(scan.kseq()), Box::new(scan.optimal()), Box::new(scan.optimal_exact())];
        for selector in selectors {
            let mut output = [0.0; 256];
            for_each_tuple(problem.draft(), 2, selector.drawn(), &mut |drafts, mass| {
                // What is left out is 1e-10 altogether.
                if mass > 1e-12 {
                    let law = selector.law(drafts).unwrap();
                    output.iter_mut().zip(law).for_each(|(sum, share)| *sum += mass * share);
                }
            });
            let distance = output.iter().zip(problem.target().as_slice()).map(|(a, b)| (a - b).abs());
            worst = worst.max(0.5 * distance.sum::<f64>());
        }
    }
    println!("largest total variation with few likely tokens, from f32 logits: {worst:.2e}");
    assert!(worst <= STATED, "{worst:e}");
}

#[test]
fn acceptances_agree_with_the_exact_ones() {
    let (mut optimal, mut kseq) = (0.0f64, 0.0f64);
    for kind in 0..KINDS {
        for vocab in [1, 2, 31, 127, 128, 129, 500, 4096] {
            for k in [1, 2, 4, 8, 64] {
                let (draft, target) = rows(kind, vocab, 77);
                let problem = exact(&draft, &target, k);
                let scan = Scan::new(&draft, &target, k).unwrap();
                let alpha = bound::alpha_star(&problem);
                let gap = alpha - scan.optimal().acceptance().value;
                assert!(gap.abs() < 1e-4, "optimal: kind {kind}, V {vocab}, k {k}: {gap:e} under {alpha}");
                optimal = optimal.max(gap.abs());
                let gap = alpha - scan.optimal_exact().acceptance().value;
                assert!(gap.abs() < STATED, "optimal, exact: kind {kind}, V {vocab}, k {k}: {gap:e} under {alpha}");
                let expected = Rule::KSeq.prepare(&problem).acceptance().value;
                let gap = expected - scan.kseq().acceptance().value;
                assert!(gap.abs() < STATED, "k-SEQ: kind {kind}, V {vocab}, k {k}: {gap:e} from {expected}");
                kseq = kseq.max(gap.abs());
            }
        }
    }
    println!("largest |acceptance − exact one| from f32 logits: optimal-linear {optimal:.2e}, k-SEQ {kseq:.2e}");
}

#[test]
fn masses_are_the_softmaxes() {
    for kind in 0..KINDS {
        let (draft, target) = rows(kind, 1000, 5);
        let problem = exact(&draft, &target, 2);
        let laws = Scan::new(&draft, &target, 2).unwrap().laws();
        for token in 0..1000 {
            let (p, q) = laws.masses(token);
            let (exact_p, exact_q) = problem.masses(token);
            assert!((p - exact_p).abs() <= STATED * exact_p && (q - exact_q).abs() <= STATED * exact_q);
        }
    }
}

/// Long rows whose large logits a look at one logit in 64 does not find, or finds misleading.
#[test]
fn rows_that_a_sample_misjudges_are_counted_all_the_same() {
    const VOCAB: usize = 20_000;
    let base = rows(0, VOCAB, 31);
    let with = |change: &dyn Fn(&mut [f32], &mut [f32])| {
        let (mut draft, mut target) = base.clone();
        change(&mut draft, &mut target);
        (draft, target)
    };
    let (flat, mut peaked) = (vec![0.0; 1 << 18], vec![0.0; 1 << 18]);
    peaked[1000] = 40.0;
    let cases = [
        ("nothing special", base.clone()),
        ("a draft logit above the range of f32", with(&|draft, _| draft[2000] = 150.0)),
        ("a target logit above that of f64", with(&|_, target| target[2000] = 900.0)),
        ("a target logit far above all", with(&|_, target| target[2000] = 40.0)),
        ("both", with(&|draft, target| (draft[2000], target[2000]) = (200.0, 170.0))),
        (
            "a sample of masked tokens",
            with(&|draft, target| {
                for row in [draft, target] {
                    row.iter_mut().enumerate().filter(|(i, _)| i % 4096 < 64).for_each(|(_, x)| *x = f32::NEG_INFINITY);
                }
            }),
        ),
        (
            "a sample of one row's tail and the other's top",
            with(&|draft, target| {
                for i in (0..VOCAB).filter(|i| i % 4096 < 64) {
                    (draft[i], target[i]) = (draft[i] - 30.0, target[i] + 8.0);
                }
            }),
        ),
        ("normalisers farther apart than the largest logits", (peaked.clone(), flat.clone())),
        ("the same, the other way round", (flat, peaked)),
    ];
    for (name, (draft, target)) in cases {
        let problem = exact(&draft, &target, 4);
        let scan = Scan::new(&draft, &target, 4).unwrap();
        let laws = scan.laws();
        for token in (0..draft.len() as u32).step_by(997).chain([1000, 2000]) {
            let ((p, q), (exact_p, exact_q)) = (laws.masses(token), problem.masses(token));
            assert!((p - exact_p).abs() <= STATED * exact_p, "{name}: {p:e} of {exact_p:e} for token {token}");
            assert!((q - exact_q).abs() <= STATED * exact_q, "{name}: {q:e} of {exact_q:e} for token {token}");
        }
        let gap = bound::alpha_star(&problem) - scan.optimal_exact().acceptance().value;
        assert!(gap.abs() < STATED, "{name}: the optimum is missed by {gap:e}");
        let gap = Rule::KSeq.prepare(&problem).acceptance().value - scan.kseq().acceptance().value;
        assert!(gap.abs() < STATED, "{name}: k-SEQ is off by {gap:e}");
    }
}

#[test]
fn impossible_tokens_never_come_out() {
    let mut rng = StdRng::seed_from_u64(3);
    for kind in 0..KINDS {
        for vocab in [1, 5, 200, 1000] {
            let (draft, target) = rows(kind, vocab, 9);
            let problem = exact(&draft, &target, 4);
            let scan = Scan::new(&draft, &target, 4).unwrap();
            for (rule, selector) in selectors(&scan) {
                for round in 0..60 {
                    let mut drafts: Vec<u32> = Vec::new();
                    let mut weights = problem.draft().as_slice().to_vec();
                    while drafts.len() < selector.drafts() {
                        let token = rng.sample(Pmf::from_weights(weights.clone()).unwrap());
                        drafts.push(token);
                        if rule == Rule::RecursiveDistinct {
                            weights[token as usize] = 0.0;
                        }
                    }
                    let coins: Vec<Coin> = (0..drafts.len() + 2)
                        .map(|_| match round % 3 {
                            0 => Coin::ZERO,
                            1 => Coin::LAST,
                            _ => rng.random(),
                        })
                        .collect();
                    let token = selector.select(&drafts, &coins).unwrap().token(&drafts);
                    assert!(problem.target().get(token).unwrap() > 0.0, "{rule} gave token {token}, kind {kind}");
                }
            }
        }
    }
}

#[test]
fn bad_rows_are_named() {
    let good = [0.0f32; 300];
    let with = |at: usize, value: f32| {
        let mut row = good;
        row[at] = value;
        row
    };
    for at in [0, 127, 200, 299] {
        for value in [f32::NAN, f32::INFINITY] {
            let bad = with(at, value);
            assert!(matches!(
                Scan::new(&bad, &good, 2),
                Err(ScanError::Logit { row: "draft", token, .. }) if token == at
            ));
            assert!(matches!(
                Scan::new(&good, &bad, 2),
                Err(ScanError::Logit { row: "target", token, .. }) if token == at
            ));
        }
    }
    // Where a sample of a long row does not see it.
    let long = vec![0.0f32; 20_000];
    for value in [f32::NAN, f32::INFINITY] {
        let mut bad = long.clone();
        bad[2000] = value;
        let names = |result, name| matches!(result, Err(ScanError::Logit { row, token: 2000, .. }) if row == name);
        assert!(names(Scan::new(&bad, &long, 2), "draft"));
        assert!(names(Scan::new(&long, &bad, 2), "target"));
        assert!(names(Scan::new(&bad, &bad, 2), "draft"));
    }
    let masked = [f32::NEG_INFINITY; 300];
    assert!(matches!(Scan::new(&masked, &good, 2), Err(ScanError::AllMasked { row: "draft" })));
    assert!(matches!(Scan::new(&good, &masked, 2), Err(ScanError::AllMasked { row: "target" })));
    assert!(matches!(Scan::new(&[], &[], 2), Err(ScanError::Vocabulary { len: 0 })));
    assert!(matches!(Scan::new(&good, &good[1..], 2), Err(ScanError::Problem(_))));
    assert!(matches!(Scan::new(&good, &good, 0), Err(ScanError::Problem(_))));
    assert!(matches!(Scan::new(&good, &good, 65), Err(ScanError::Problem(_))));
}

/// The residual draw from logits is made of stretches added up in f32: what it selects has the law that `law` names. A
/// chi-square test at level 1e-6 with fixed seeds, which must fail a law with every second token it gives a quarter too likely.
#[test]
fn selections_from_logits_have_their_law() {
    const ROUNDS: u64 = 200_000;
    for (vocab, seed) in [(70usize, 1u64), (1000, 2), (5000, 3)] {
        let mut rng = StdRng::seed_from_u64(seed);
        let row = |rng: &mut StdRng| -> Vec<f32> { (0..vocab).map(|_| 3.0 * rng.random::<f32>()).collect() };
        let (draft, target) = (row(&mut rng), row(&mut rng));
        let scan = Scan::new(&draft, &target, 2).unwrap();
        let rules: [(&str, Box<dyn Selector + '_>); 3] = [
            ("kseq", Box::new(scan.kseq())),
            ("optimal", Box::new(scan.optimal())),
            ("rrs", Box::new(scan.recursive())),
        ];
        for (name, rule) in rules {
            // Twice the token that is kept most rarely, so that most selections draw from the residual.
            let law = |token: usize| rule.law(&[token as u32; 2]).unwrap();
            let tokens = (0..vocab).step_by(vocab.div_ceil(100));
            let worst = tokens.map(|token| (law(token)[token], token)).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1;
            let (drafts, law) = ([worst as u32; 2], law(worst));
            let mut counts = vec![0u64; vocab];
            for _ in 0..ROUNDS {
                counts[rule.select_with(&drafts, &mut rng).unwrap().token(&drafts) as usize] += 1;
            }
            let p = common::chi_square::p_value(&counts, &law);
            assert!(p > 1e-6, "{name}, V {vocab}: p-value {p:e}");
            // The control.
            let mut given = 0;
            let mut wrong: Vec<f64> = law
                .iter()
                .map(|p| {
                    given += usize::from(*p > 0.0);
                    if given % 2 == 0 { 1.25 * p } else { *p }
                })
                .collect();
            let total: f64 = wrong.iter().sum();
            wrong.iter_mut().for_each(|p| *p /= total);
            let p = common::chi_square::p_value(&counts, &wrong);
            assert!(p < 1e-6, "{name}, V {vocab}: the control passes with {p:e}");
        }
    }
}
