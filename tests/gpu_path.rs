//! Drafted trees on the GPU against the CPU: the same node and the same next token, coin for coin.
//!
//! Where there is no device, each test says so and does nothing.

#[path = "gpu/device.rs"]
mod device;
#[path = "gpu/trees.rs"]
mod trees;

use std::collections::HashSet;

use draftpick::Coin;
use draftpick::gpu::{Buffer, Device, Draws, Forest, Rows, Score, Shaping, Stream, TreeRule, TreeVerifier};
use draftpick::path::{DraftTree, LogitRow, PathError, Purpose, ROOT, Round, RoundCoins, Row};
use half::bf16;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use device::device;
use trees::{Case, OnDevice, RULES, Raw, Tally, logits, on_cpu, outcomes, rounds, upload, verify};

fn compare<T: Score>(device: &Device, case: &Case, seed: u64, number: impl Fn(f32) -> T, tallies: &mut [Tally; 2]) {
    let rounds = rounds(case, seed, |row| row);
    let forest = Forest::new(rounds.iter().map(|(round, _)| round.tree()));
    let rows = upload(device, &forest, &rounds, case.vocab, &Raw::new(), number);
    for (rule, tally) in RULES.into_iter().zip(tallies) {
        let verifier = TreeVerifier::new(device, rule, T::FORMAT, case.vocab).unwrap();
        let found = verify(device, &verifier, &forest, &rows, case.vocab, Shaping::default());
        tally.add(rule, case, &rounds, &outcomes(&forest, &rounds, &found));
    }
}

#[test]
fn outcomes_are_those_of_the_cpu() {
    let Some(device) = device("trees") else {
        return;
    };
    let mut tallies = [Tally::default(), Tally::default()];
    let mut run = |case: Case, bf16_only: bool, seed: u64| {
        compare(&device, &case, seed, bf16::from_f32, &mut tallies);
        if !bf16_only {
            compare(&device, &case, seed + 1000, |x| x, &mut tallies);
        }
    };
    for (i, vocab) in [1, 2, 31, 33, 257, 4096].into_iter().enumerate() {
        for (paths, length) in [(1, 5), (2, 3), (4, 5), (8, 8), (16, 4)] {
            for noise in [0.3, 1.0] {
                let trees = if vocab > 1000 { 12 } else { 48 };
                run(Case { vocab, trees, paths, length, noise }, false, 100 * i as u64 + paths as u64);
            }
        }
    }
    run(Case { vocab: 64, trees: 3, paths: 2, length: 32, noise: 0.1 }, false, 7);
    run(Case { vocab: 64, trees: 512, paths: 4, length: 4, noise: 0.5 }, true, 8);
    for (vocab, trees) in [(50_257, 6), (128_256, 6), (151_936, 4)] {
        run(Case { vocab, trees, paths: 4, length: 4, noise: 0.5 }, true, vocab as u64);
        run(Case { vocab, trees, paths: 1, length: 5, noise: 0.5 }, true, vocab as u64 + 1);
    }
    for (rule, tally) in RULES.into_iter().zip(&tallies) {
        tally.report(&format!("{rule:?}"));
    }
}

#[test]
fn trees_with_a_wrong_row_or_token_are_refused_alone() {
    let Some(device) = device("refused trees") else {
        return;
    };
    let case = Case { vocab: 100, trees: 9, paths: 3, length: 3, noise: 0.5 };
    let rounds = rounds(&case, 3, |row| row);
    let mut forest = Forest::new(rounds.iter().map(|(round, _)| round.tree()));
    let tree = |i: usize| forest.first[i];
    let (nan, infinite, masked, outside) = (tree(1), tree(2), tree(4), 5);
    forest.tokens[outside * forest.paths * forest.length] = 100;
    let rows = upload(&device, &forest, &rounds, case.vocab, &Raw::new(), |x| x);
    let edit = |buffer: &Buffer<f32>, pair: usize, values: &dyn Fn(&mut [f32])| {
        let mut logits = buffer.read().unwrap();
        values(&mut logits[pair * case.vocab..][..case.vocab]);
        logits
    };
    let mut rows = rows;
    let logits = edit(&rows.draft, nan, &|row| row[17] = f32::NAN);
    rows.draft.write(&logits).unwrap();
    let logits = edit(&rows.target, infinite, &|row| row[99] = f32::INFINITY);
    rows.target.write(&logits).unwrap();
    let logits = edit(&rows.target, masked, &|row| row.fill(f32::NEG_INFINITY));
    rows.target.write(&logits).unwrap();
    for rule in RULES {
        refused(&device, rule, &rounds, &forest, &rows, case.vocab);
    }
}

fn refused(
    device: &Device,
    rule: TreeRule,
    rounds: &[(Round<LogitRow>, RoundCoins)],
    forest: &Forest,
    rows: &OnDevice<f32>,
    vocab: usize,
) {
    let verifier = TreeVerifier::new(device, rule, f32::FORMAT, vocab).unwrap();
    let found = verify(device, &verifier, forest, rows, vocab, Shaping::default());
    let flags = found.flags.read().unwrap();
    let accepted = found.accepted.read().unwrap();
    for i in 0..rounds.len() {
        let expected = match i {
            1 => 1,
            2 => 2,
            4 => 8,
            5 => 32,
            _ => 0,
        };
        assert_eq!(flags[i], expected, "tree {i}");
        assert_eq!(accepted[i] < 0, expected != 0, "tree {i}");
    }
    // The others are what they were.
    let intact: Vec<usize> = (0..rounds.len()).filter(|&i| flags[i] == 0).collect();
    let output = found.output.read().unwrap();
    for i in intact {
        let (round, coins) = &rounds[i];
        let expected = on_cpu(rule, round, coins);
        let tokens: Vec<i32> = expected.tokens(round).iter().map(|&token| token as i32).collect();
        assert_eq!(output[i * (forest.length + 1)..][..tokens.len()], tokens, "tree {i}");
    }
}

/// Drafts that the target forbids, and a residual of no more than rounding: the token is the target's own, or one of what
/// rounding has left, which is much the same law here. On the CPU too.
#[test]
fn drafts_that_the_target_forbids_end_in_its_law() {
    let Some(device) = device("forbidden drafts") else {
        return;
    };
    let last = |_: Purpose, _: usize, _: usize| Coin::LAST;
    for (vocab, paths, length) in [(2, 1, 1), (2, 3, 2), (5_000, 1, 2), (5_000, 2, 1), (5_000, 4, 3)] {
        let row = |logit: f32| [vec![0.0; vocab - 1], vec![logit]].concat();
        let law = |logit: f32| LogitRow::new("forbidden", row(logit)).unwrap();
        let rounds: Vec<_> = (0..16)
            .map(|seed| {
                let mut tree = DraftTree::new(paths).unwrap();
                for _ in 0..length {
                    for leaf in tree.open() {
                        tree.draw(leaf, law((vocab as f32 * 1e-9).ln()), &last).unwrap();
                    }
                }
                let round = tree.score(|_| Ok::<_, PathError>(law(f32::NEG_INFINITY))).unwrap();
                assert_eq!(round.tree().token(round.tree().paths()[0][1]), vocab as u32 - 1);
                (round, RoundCoins { seed, start: 0 })
            })
            .collect();
        let forest = Forest::new(rounds.iter().map(|(round, _)| round.tree()));
        let rows = upload(&device, &forest, &rounds, vocab, &Raw::new(), |x| x);
        for rule in RULES {
            let verifier = TreeVerifier::new(&device, rule, f32::FORMAT, vocab).unwrap();
            let found = verify(&device, &verifier, &forest, &rows, vocab, Shaping::default());
            let mut seen = HashSet::new();
            let mut places = 0.0;
            for (found, (round, coins)) in outcomes(&forest, &rounds, &found).into_iter().zip(&rounds) {
                let place = format!("{rule:?} {vocab} {paths} x {length} seed {}", coins.seed);
                for outcome in [found.expect(&place), on_cpu(rule, round, coins)] {
                    assert_eq!(outcome.node, ROOT, "{place}");
                    let next = outcome.next.expect(&place);
                    assert!((next as usize) < vocab - 1, "{place}: {next} is forbidden");
                    seen.insert(next);
                    places += (f64::from(next) + 0.5) / (vocab - 1) as f64 / (2 * rounds.len()) as f64;
                }
            }
            // Uniform: of 16 draws the mean's standard error is 0.07.
            assert!((places - 0.5).abs() < 0.2, "{rule:?} {vocab} {paths} x {length}: mean place {places}");
            assert!(seen.len() >= (vocab - 1).min(8), "{rule:?} {vocab} {paths} x {length}: {seen:?}");
        }
    }
}

fn drawn<T: Score>(
    device: &Device,
    stream: &Stream,
    rows: &[Vec<f32>],
    coins: &[Vec<Coin>],
    number: impl Fn(f32) -> T,
) -> Vec<i32> {
    let vocab = rows[0].len();
    let verifier = TreeVerifier::new(device, TreeRule::Path, T::FORMAT, vocab).unwrap();
    let logits: Vec<T> = rows.iter().flatten().map(|&x| number(x)).collect();
    let logits = device.upload(&logits).unwrap();
    let mut first = vec![0];
    coins.iter().for_each(|coins| first.push(first[first.len() - 1] + coins.len() as i32));
    let all: Vec<f64> = coins.iter().flatten().map(|coin| coin.get()).collect();
    let order: Vec<i32> = (0..rows.len() as i32).collect();
    let (first, order, coins) =
        (device.upload(&first).unwrap(), device.upload(&order).unwrap(), device.upload(&all).unwrap());
    let mut drawn = verifier.drawn(rows.len(), all.len()).unwrap();
    let draws = Draws {
        logits: Rows::new(&logits, vocab, vocab),
        vocab,
        laws: rows.len(),
        rows: (&order).into(),
        scale: None,
        least: None,
        tie: None,
        first: (&first).into(),
        coins: (&coins).into(),
    };
    verifier.draw(stream, &draws, &mut drawn).unwrap();
    stream.synchronize().unwrap();
    drawn.tokens.read().unwrap()
}

#[test]
fn drafts_are_drawn_as_on_the_cpu() {
    let Some(device) = device("drafts") else {
        return;
    };
    let stream = device.stream().unwrap();
    let mut rng = StdRng::seed_from_u64(9);
    let (mut count, mut near) = (0, 0);
    for vocab in [1, 31, 33, 4096, 50_257, 128_256] {
        let rows: Vec<Vec<f32>> = (0..12).map(|_| logits(&mut rng, vocab, 0.5)[0].clone()).collect();
        let coins: Vec<Vec<Coin>> = (0..rows.len())
            .map(|i| {
                let mut coins: Vec<Coin> = (0..i % 5).map(|_| Coin::new(rng.random()).unwrap()).collect();
                coins.extend([Coin::ZERO, Coin::LAST]);
                coins
            })
            .collect();
        for bits in [false, true] {
            let found = match bits {
                true => drawn(&device, &stream, &rows, &coins, bf16::from_f32),
                false => drawn(&device, &stream, &rows, &coins, |x| x),
            };
            let mut found = found.into_iter();
            for (row, coins) in rows.iter().zip(&coins) {
                let law = LogitRow::new("draft", row.clone()).unwrap();
                for &coin in coins {
                    let token = found.next().unwrap();
                    let moved = |step: f64| Coin::new((coin.get() + step).clamp(0.0, Coin::LAST.get())).unwrap();
                    count += 1;
                    if token != law.draw(coin) as i32 {
                        near += 1;
                        let range = law.draw(moved(-1e-7)) as i32..=law.draw(moved(1e-7)) as i32;
                        assert!(range.contains(&token), "V = {vocab}: {token} is not in {range:?}");
                    }
                }
            }
        }
    }
    println!("{count} tokens drawn, {near} with a coin within 1e-7 of the next token");
    assert!(near * 50 <= count);
}
