//! The fast path against the specification: `select` has the law that `law` names, and its output the target's.
//!
//! Frequencies, so the answers are p-values: a test fails below [`SIGNIFICANT`], and rules that are wrong on purpose
//! must fall below it at the same sample size. Run with `--nocapture` for the p-values.

mod common;

use common::chi_square::{p_value, tail};
use common::{SHAPES, Shape, draw, for_each_tuple, problem};
use draftpick::maximal::Maximal;
use draftpick::{Acceptance, Coin, Drawn, Pmf, Problem, Rule, SelectError, Selection, Selector, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The probability that all tests of this file together raise a false alarm, and the most tests it is shared among.
const LEVEL: f64 = 1e-6;
const TESTS: usize = 10_000;
const SIGNIFICANT: f64 = LEVEL / TESTS as f64;

/// The selections of each test, of right rules and of wrong ones.
const ROUNDS: usize = 100_000;
/// The same for more than 8 drafts, where a selection takes 100 times as long.
const ROUNDS_OF_MANY: usize = 10_000;

fn rounds(drafts: usize) -> usize {
    if drafts > 8 { ROUNDS_OF_MANY } else { ROUNDS }
}

/// The problems of the frequency tests: every shape with small vocabularies, two larger vocabularies.
fn problems(vocabs: &[usize], ks: &[usize]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (i, shape) in SHAPES.into_iter().enumerate() {
        for (&vocab, &k) in vocabs.iter().flat_map(|vocab| ks.iter().map(move |k| (vocab, k))) {
            problems.push(problem(shape, vocab, k, (1000 * i + 10 * vocab + k) as u64));
        }
    }
    for (shape, k) in [(Shape::Ordinary, 8), (Shape::Spiky, 8), (Shape::Sparse, 64)] {
        problems.push(problem(shape, 300, k, k as u64));
    }
    problems
}

fn rules(k: usize) -> impl Iterator<Item = Rule> {
    Rule::ALL.into_iter().filter(move |rule| rule.takes(k))
}

fn fresh(coins: &mut [Coin], rng: &mut StdRng) {
    coins.fill_with(|| rng.random());
}

/// The p-value of selections from one tuple of drafts, against the law of the output given these.
fn select_p_value(selector: &dyn Selector, drafts: &[Token], law: &[f64], seed: u64) -> f64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut counts = vec![0; law.len()];
    let mut coins = vec![Coin::ZERO; drafts.len() + 2];
    for _ in 0..rounds(drafts.len()) {
        fresh(&mut coins, &mut rng);
        counts[selector.select(drafts, &coins).unwrap().token(drafts) as usize] += 1;
    }
    p_value(&counts, law)
}

/// The p-value of selections from drafts drawn anew from `draft` each time, against the target law.
fn output_p_value(selector: &dyn Selector, draft: &Pmf, target: &Pmf, seed: u64) -> f64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut counts = vec![0; target.vocab()];
    let mut drafts = vec![0; selector.drafts()];
    let mut coins = vec![Coin::ZERO; drafts.len() + 2];
    for _ in 0..rounds(drafts.len()) {
        draw(draft, selector.drawn(), &mut rng, &mut drafts);
        fresh(&mut coins, &mut rng);
        counts[selector.select(&drafts, &coins).unwrap().token(&drafts) as usize] += 1;
    }
    p_value(&counts, target.as_slice())
}

/// Checks the p-values of right rules and prints the smallest.
fn judge(name: &str, p_values: &[(f64, String)]) {
    assert!(p_values.len() <= TESTS / 2, "{} tests: the level is not shared among so many", p_values.len());
    let (least, which) = p_values.iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    println!("{name}: least p-value of {}: {least:.2e}", p_values.len());
    assert!(*least >= SIGNIFICANT, "{name}: {which}: p-value {least:e}");
}

#[test]
fn the_chi_square_tail_has_its_known_values() {
    for (degrees, x, expected) in [
        // The 5 % points of the tables.
        (1, 3.841458820694124, 0.05),
        (10, 18.307038053275146, 0.05),
        (100, 124.34211340400407, 0.05),
        // Closed forms.
        (2, 3.0, (-1.5f64).exp()),
        (4, 1.0, 1.5 * (-0.5f64).exp()),
        (4, 200.0, 101.0 * (-100f64).exp()),
        (3, 0.0, 1.0),
    ] {
        approx::assert_relative_eq!(tail(degrees, x), expected, max_relative = 1e-9);
    }
    // Small cells are one cell, and what cannot happen must not.
    assert_eq!(p_value(&[100, 0, 0], &[1.0, 0.0, 0.0]), 1.0);
    assert_eq!(p_value(&[99, 1, 0], &[1.0, 0.0, 0.0]), 0.0);
    approx::assert_relative_eq!(p_value(&[60, 38, 2], &[0.5, 0.47, 0.03]), tail(1, 4.0), max_relative = 1e-12);
}

#[test]
fn select_has_the_law_it_claims() {
    let mut p_values = Vec::new();
    for problem in problems(&[1, 2, 4, 6], &[1, 2, 4]) {
        let mut rng = StdRng::seed_from_u64(1);
        for rule in rules(problem.k()) {
            let selector = rule.prepare(&problem);
            let (mut drafts, mut others) = (vec![0; selector.drafts()], vec![0; selector.drafts()]);
            draw(problem.draft(), selector.drawn(), &mut rng, &mut drafts);
            match selector.drawn() {
                // All drafts the same.
                Drawn::Independent => others.fill(drafts[0]),
                Drawn::WithoutReplacement => draw(problem.draft(), selector.drawn(), &mut rng, &mut others),
            }
            for drafts in [drafts, others] {
                let law = selector.law(&drafts).unwrap();
                let p_value = select_p_value(&*selector, &drafts, &law, p_values.len() as u64);
                p_values.push((p_value, format!("{rule} with {drafts:?} on {problem:?}")));
            }
        }
    }
    judge("select against law", &p_values);
}

#[test]
fn the_output_has_the_target_law() {
    let mut p_values = Vec::new();
    for problem in problems(&[1, 3, 6], &[1, 2, 4]) {
        for rule in rules(problem.k()) {
            let selector = rule.prepare(&problem);
            let p_value = output_p_value(&*selector, problem.draft(), problem.target(), p_values.len() as u64);
            p_values.push((p_value, format!("{rule} on {problem:?}")));
        }
    }
    judge("output against target", &p_values);
}

/// The maximal coupling with a mistake.
struct Mistaken {
    problem: Problem,
    right: Maximal,
    /// Added to the probability of accepting.
    eagerness: f64,
    /// Whether the target is resampled from instead of the residual.
    resamples_target: bool,
}

impl Mistaken {
    fn new(problem: &Problem, eagerness: f64, resamples_target: bool) -> Self {
        Mistaken { problem: problem.clone(), right: Maximal::new(problem.clone()), eagerness, resamples_target }
    }
}

impl Selector for Mistaken {
    fn drafts(&self) -> usize {
        1
    }

    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError> {
        self.right.law(drafts)
    }

    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError> {
        let (p, q) = (self.problem.draft().as_slice(), self.problem.target().as_slice());
        let token = drafts[0] as usize;
        if coins[1].get() < q[token] / p[token] + self.eagerness {
            return Ok(Selection::Draft(0));
        }
        let residual = p.iter().zip(q).map(|(p, q)| if self.resamples_target { *q } else { (q - p).max(0.0) });
        Ok(Selection::Residual(Pmf::from_weights(residual.collect::<Vec<_>>()).unwrap().pick(coins[2])))
    }

    fn acceptance(&self) -> Acceptance {
        self.right.acceptance()
    }
}

/// Any rule whose accept coin is the coin of the first draft over again.
struct SharesCoin<'a>(Box<dyn Selector + 'a>);

impl Selector for SharesCoin<'_> {
    fn drafts(&self) -> usize {
        self.0.drafts()
    }

    fn law(&self, drafts: &[Token]) -> Result<Vec<f64>, SelectError> {
        self.0.law(drafts)
    }

    fn select(&self, drafts: &[Token], coins: &[Coin]) -> Result<Selection, SelectError> {
        let mut coins = coins.to_vec();
        coins[drafts.len()] = coins[0];
        self.0.select(drafts, &coins)
    }

    fn acceptance(&self) -> Acceptance {
        self.0.acceptance()
    }
}

fn vector(p: &[f64], q: &[f64], k: usize) -> Problem {
    Problem::new(Pmf::new(p).unwrap(), Pmf::new(q).unwrap(), k).unwrap()
}

#[track_caller]
fn rejected(name: &str, p_value: f64) {
    println!("{name}: p-value {p_value:.2e}");
    assert!(p_value < SIGNIFICANT, "{name} passes: p-value {p_value:e}");
}

#[test]
fn the_tests_reject_an_eager_rule_and_one_that_resamples_the_target() {
    let problem = vector(&[0.5, 0.3, 0.2], &[0.1, 0.3, 0.6], 1);
    let right = Mistaken::new(&problem, 0.0, false);
    let law = right.law(&[0]).unwrap();
    let both = |rule: &Mistaken| {
        [select_p_value(rule, &[0], &law, 1), output_p_value(rule, problem.draft(), problem.target(), 1)]
    };
    for p_value in both(&right) {
        assert!(p_value >= SIGNIFICANT, "without a mistake it is the maximal coupling: p-value {p_value:e}");
    }
    for (name, wrong) in [
        ("accepts with 2 % more", Mistaken::new(&problem, 0.02, false)),
        ("accepts with 2 % less", Mistaken::new(&problem, -0.02, false)),
        ("resamples the target", Mistaken::new(&problem, 0.0, true)),
    ] {
        let [select, output] = both(&wrong);
        rejected(&format!("{name}, select against law"), select);
        rejected(&format!("{name}, output against target"), output);
    }
}

#[test]
fn the_tests_reject_drafts_of_another_temperature() {
    for k in [1, 2, 4] {
        let problem = vector(&[0.5, 0.3, 0.15, 0.05], &[0.1, 0.3, 0.2, 0.4], k);
        let warmer: Vec<f64> = problem.draft().as_slice().iter().map(|p| p.powf(1.0 / 1.2)).collect();
        let warmer = Pmf::from_weights(warmer).unwrap();
        for rule in rules(k).filter(|rule| rule.prepare(&problem).acceptance().value < 1.0 - 1e-9) {
            let p_value = output_p_value(&*rule.prepare(&problem), &warmer, problem.target(), 1);
            rejected(&format!("{rule} with {k} drafts of temperature 1.2"), p_value);
        }
    }
}

#[test]
fn the_tests_reject_a_label_coin_that_is_also_the_accept_coin() {
    // The labels of tokens 0 and 1 interleave, so a label decides the winner even among different tokens; and one of them
    // is selected too often, so that the accept coin matters.
    let problem = vector(&[0.5, 0.4, 0.1], &[8.0 / 23.0, 7.0 / 23.0, 8.0 / 23.0], 2);
    let drafts = [0, 1];
    let mut tested = 0;
    for rule in rules(2) {
        let selector = rule.prepare(&problem);
        // A rule that leaves the accept coin alone is none the worse.
        let select = |accept| {
            let half = Coin::new(0.5).unwrap();
            selector.select(&drafts, &[half, half, accept, half])
        };
        if select(Coin::ZERO) == select(Coin::LAST) {
            continue;
        }
        tested += 1;
        let law = selector.law(&drafts).unwrap();
        let wrong = SharesCoin(selector);
        let p_value = output_p_value(&wrong, problem.draft(), problem.target(), 1);
        rejected(&format!("{rule} with a shared coin, output against target"), p_value);
        let p_value = select_p_value(&wrong, &drafts, &law, 1);
        rejected(&format!("{rule} with a shared coin, select against law"), p_value);
    }
    assert!(tested > 0);
}

/// All vectors of `n` coins that are each 0 or the last one; for many coins those that differ from their neighbours in
/// at most one place.
fn extreme_coins(n: usize) -> Vec<Vec<Coin>> {
    let pick = |last: bool| if last { Coin::LAST } else { Coin::ZERO };
    if n <= 6 {
        return (0..1u32 << n).map(|bits| (0..n).map(|i| pick(bits >> i & 1 == 1)).collect()).collect();
    }
    let odd_one = |at: usize, last: bool| (0..n).map(|i| pick((i == at) != last)).collect();
    (0..=n).flat_map(|at| [odd_one(at, false), odd_one(at, true)]).collect()
}

#[test]
fn extreme_coins_select_what_the_target_allows() {
    let mut selections = 0u64;
    for seed in 0..2 {
        for shape in SHAPES {
            for (vocab, k) in (1..=6).flat_map(|vocab| (1..=4).map(move |k| (vocab, k))) {
                let problem = problem(shape, vocab, k, seed);
                for rule in rules(k) {
                    let selector = rule.prepare(&problem);
                    let coins = extreme_coins(selector.drafts() + 2);
                    for_each_tuple(problem.draft(), selector.drafts(), selector.drawn(), &mut |drafts, _| {
                        for coins in &coins {
                            selections += 1;
                            check_extreme(rule, &*selector, &problem, drafts, coins);
                        }
                    });
                }
            }
        }
    }
    for problem in problems(&[], &[]) {
        let mut rng = StdRng::seed_from_u64(2);
        for rule in rules(problem.k()) {
            let selector = rule.prepare(&problem);
            let mut drafts = vec![0; selector.drafts()];
            for _ in 0..20 {
                draw(problem.draft(), selector.drawn(), &mut rng, &mut drafts);
                for coins in extreme_coins(drafts.len() + 2) {
                    selections += 1;
                    check_extreme(rule, &*selector, &problem, &drafts, &coins);
                }
            }
        }
    }
    println!("{selections} selections with extreme coins");
}

#[track_caller]
fn check_extreme(rule: Rule, selector: &dyn Selector, problem: &Problem, drafts: &[Token], coins: &[Coin]) {
    let selection = match selector.select(drafts, coins) {
        Ok(selection) => selection,
        Err(error) => panic!("{rule}: {error}: {drafts:?} with {coins:?} on {problem:?}"),
    };
    let q = problem.target().get(selection.token(drafts)).unwrap();
    assert!(q > 0.0, "{rule}: {selection:?} of target probability 0: {drafts:?} with {coins:?} on {problem:?}");
}

#[test]
fn equal_laws_are_always_accepted() {
    let mut rng = StdRng::seed_from_u64(3);
    for (vocab, k) in (1..=6).flat_map(|vocab| (1..=4).map(move |k| (vocab, k))).chain([(300, 8), (300, 64)]) {
        for seed in 0..10 {
            let problem = problem(Shape::Equal, vocab, k, seed);
            for rule in rules(k) {
                let selector = rule.prepare(&problem);
                let acceptance = selector.acceptance();
                assert!(acceptance.value >= 1.0 - 1e-12, "{rule}: {acceptance:?} on {problem:?}");
                let mut drafts = vec![0; selector.drafts()];
                let mut all_coins = extreme_coins(drafts.len() + 2);
                all_coins.extend((0..20).map(|_| (0..drafts.len() + 2).map(|_| rng.random()).collect::<Vec<Coin>>()));
                for coins in all_coins {
                    draw(problem.draft(), selector.drawn(), &mut rng, &mut drafts);
                    let selection = selector.select(&drafts, &coins);
                    assert!(
                        matches!(selection, Ok(Selection::Draft(_))),
                        "{rule}: {selection:?}: {drafts:?} with {coins:?} on {problem:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    for k in [1, 3] {
        // Token 3 is never drafted.
        let problem = vector(&[0.4, 0.3, 0.2, 0.0, 0.1], &[0.2, 0.2, 0.2, 0.2, 0.2], k);
        for rule in rules(k) {
            let selector = rule.prepare(&problem);
            assert_eq!(selector.drafts(), k);
            let good: Vec<Token> = (0..k as Token).collect();
            let with_last = |token: Token| {
                let mut drafts = good.clone();
                drafts[k - 1] = token;
                drafts
            };
            let refuses = |drafts: &[Token], expected: SelectError, words: &[&str]| {
                let coins = vec![Coin::ZERO; k + 2];
                assert_eq!(selector.select(drafts, &coins).as_ref(), Err(&expected), "{rule}: {drafts:?}");
                assert_eq!(selector.law(drafts).as_ref(), Err(&expected), "{rule}: {drafts:?}");
                let message = expected.to_string();
                words.iter().for_each(|word| assert!(message.contains(word), "'{message}' does not say {word}"));
            };
            for given in [k - 1, k + 1] {
                let drafts: Vec<Token> = (0..given as Token).collect();
                let words = [&given.to_string()[..], &k.to_string()];
                refuses(&drafts, SelectError::DraftCount { expected: k, given }, &words);
            }
            let draft = k - 1;
            for token in [5, Token::MAX] {
                let words = [&token.to_string()[..], "vocabulary of 5"];
                refuses(&with_last(token), SelectError::OutOfVocabulary { draft, token, vocab: 5 }, &words);
            }
            let words = [&format!("draft {draft} is token 3")[..], "probability 0"];
            refuses(&with_last(3), SelectError::NotDrawn { draft, token: 3 }, &words);
            for given in [0, k + 1, k + 3] {
                let coins = vec![Coin::ZERO; given];
                let expected = SelectError::CoinCount { expected: k + 2, given };
                assert_eq!(selector.select(&good, &coins), Err(expected), "{rule}");
            }
            let repeats = selector.select(&with_last(0), &vec![Coin::ZERO; k + 2]);
            match selector.drawn() {
                Drawn::WithoutReplacement if k > 1 => {
                    refuses(&with_last(0), SelectError::Repeated { draft, token: 0 }, &["repeats token 0"]);
                }
                _ => assert!(repeats.is_ok(), "{rule}: {repeats:?}"),
            }
        }
    }
}
