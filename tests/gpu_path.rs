//! Drafted trees on the GPU against the CPU: the same node and the same next token, coin for coin.
//!
//! Where there is no device, each test says so and does nothing.

use draftpick::gpu::{
    Buffer, Device, Draws, Forest, GpuError, Outcomes, Rows, Score, Shaping, Stream, TreeRule, TreeVerifier, Trees,
};
use draftpick::path::{
    Block, Coins, DraftTree, LogitRow, Outcome, PathCoupling, PathError, PathVerifier, Purpose, ROOT, Round,
    RoundCoins, Row, SpreadCoupling,
};
use draftpick::{Coin, Token};
use half::bf16;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;

/// How far a coin may be from where the GPU's outcome begins: the stated accuracy from f32 logits, over the probability
/// of what the coin decides between.
const BOUNDS: [f64; 4] = [1e-6, 1e-5, 1e-4, 1e-3];

fn device() -> Option<Device> {
    match Device::new(0) {
        Ok(device) => Some(device),
        Err(error @ (GpuError::NoDriver | GpuError::NoDevice { .. })) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A pair of rows with much in common: one Zipf law, two noises.
fn logits(rng: &mut StdRng, vocab: usize, noise: f32) -> [Vec<f32>; 2] {
    let slope = rng.random_range(0.2..1.6f32);
    let mut rows = [Vec::with_capacity(vocab), Vec::with_capacity(vocab)];
    for token in 0..vocab {
        let base = -slope * ((token * 7919 % vocab) as f32 + 1.0).ln();
        for row in &mut rows {
            let noise: f32 = noise * rng.sample::<f32, _>(StandardNormal);
            row.push(bf16::from_f32(base + noise).to_f32());
        }
    }
    rows
}

struct Case {
    vocab: usize,
    trees: usize,
    paths: usize,
    length: usize,
    noise: f32,
}

/// Rounds drafted on the CPU: trees of all sizes up to the case's, ending early now and then.
fn rounds(case: &Case, seed: u64) -> Vec<(Round<LogitRow>, RoundCoins)> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..case.trees)
        .map(|i| {
            let coins = RoundCoins { seed: seed + i as u64, start: 5 * i as u64 };
            let full = i % 3 != 0;
            let paths = if full { case.paths } else { rng.random_range(1..=case.paths) };
            let length = if full { case.length } else { rng.random_range(1..=case.length) };
            let mut tree = DraftTree::new(paths).unwrap();
            let mut targets = Vec::new();
            for _ in 0..length {
                for leaf in tree.open() {
                    let [draft, target] = logits(&mut rng, case.vocab, case.noise);
                    targets.push((leaf, target));
                    for child in tree.draw(leaf, LogitRow::new("draft", draft).unwrap(), &coins).unwrap() {
                        if tree.token(child) % 16 == 3 && i % 2 == 0 {
                            tree.end(child).unwrap();
                        }
                    }
                }
            }
            let round = tree.score(|node| {
                let row = match targets.iter().find(|target| target.0 == node) {
                    Some((_, target)) => target.clone(),
                    None => logits(&mut rng, case.vocab, case.noise)[1].clone(),
                };
                Ok::<_, PathError>(LogitRow::new("target", row).unwrap())
            });
            (round.unwrap(), coins)
        })
        .collect()
}

const RULES: [TreeRule; 2] = [TreeRule::Path, TreeRule::Spread];

fn on_cpu(rule: TreeRule, round: &Round<LogitRow>, coins: &dyn Coins) -> Outcome {
    match (round.tree().paths(), rule) {
        ([_], _) => Block.verify(round, coins).unwrap(),
        (_, TreeRule::Path) => PathCoupling::default().verify(round, coins).unwrap(),
        (_, TreeRule::Spread) => SpreadCoupling::default().verify(round, coins).unwrap(),
    }
}

/// The rows of a batch on the device: row `i` of each model is that of pair `i`.
struct OnDevice<T> {
    draft: Buffer<T>,
    target: Buffer<T>,
    draft_rows: Buffer<i32>,
    target_rows: Buffer<i32>,
    nodes: Buffer<i32>,
    tokens: Buffer<i32>,
    lengths: Buffer<i32>,
    paths_of: Buffer<i32>,
    seeds: Buffer<u64>,
    starts: Buffer<u64>,
}

fn upload<T: Score>(
    device: &Device,
    forest: &Forest,
    rounds: &[(Round<LogitRow>, RoundCoins)],
    vocab: usize,
    number: impl Fn(f32) -> T,
) -> OnDevice<T> {
    let (mut draft, mut target) = (Vec::new(), Vec::new());
    let (mut draft_rows, mut target_rows) = (Vec::new(), Vec::new());
    for (round, _) in rounds {
        for node in ROOT..round.tree().len() {
            let row = draft_rows.len() as i32;
            let add = |rows: &mut Vec<T>, law: Option<&LogitRow>| match law {
                Some(law) => rows.extend(law.as_slice().iter().map(|&x| number(x))),
                None => rows.extend((0..vocab).map(|_| number(f32::NAN))),
            };
            let pair = round.pair(node);
            add(&mut draft, pair.map(|pair| pair.0));
            add(&mut target, round.target(node));
            draft_rows.push(if pair.is_some() { row } else { -1 });
            target_rows.push(if round.target(node).is_some() { row } else { -1 });
        }
    }
    OnDevice {
        draft: device.upload(&draft).unwrap(),
        target: device.upload(&target).unwrap(),
        draft_rows: device.upload(&draft_rows).unwrap(),
        target_rows: device.upload(&target_rows).unwrap(),
        nodes: device.upload(&forest.nodes).unwrap(),
        tokens: device.upload(&forest.tokens).unwrap(),
        lengths: device.upload(&forest.lengths).unwrap(),
        paths_of: device.upload(&forest.paths_of).unwrap(),
        seeds: device.upload(&rounds.iter().map(|(_, coins)| coins.seed).collect::<Vec<_>>()).unwrap(),
        starts: device.upload(&rounds.iter().map(|(_, coins)| coins.start).collect::<Vec<_>>()).unwrap(),
    }
}

fn verify<T: Score>(
    device: &Device,
    verifier: &TreeVerifier,
    forest: &Forest,
    rows: &OnDevice<T>,
    vocab: usize,
) -> Outcomes {
    let mut outcomes = verifier.outcomes(forest.trees(), forest.pairs(), forest.paths, forest.length).unwrap();
    let trees = Trees {
        draft: Rows::new(&rows.draft, vocab, vocab),
        target: Rows::new(&rows.target, vocab, vocab),
        vocab,
        draft_rows: (&rows.draft_rows).into(),
        target_rows: (&rows.target_rows).into(),
        shaping: Shaping::default(),
        trees: forest.trees(),
        pairs: forest.pairs(),
        paths: forest.paths,
        length: forest.length,
        nodes: (&rows.nodes).into(),
        tokens: (&rows.tokens).into(),
        lengths: (&rows.lengths).into(),
        paths_of: (&rows.paths_of).into(),
        seeds: (&rows.seeds).into(),
        starts: (&rows.starts).into(),
    };
    let stream = device.stream().unwrap();
    // Twice: the second call finds everything as the first left it.
    verifier.verify(&stream, &trees, &mut outcomes).unwrap();
    verifier.verify(&stream, &trees, &mut outcomes).unwrap();
    stream.synchronize().unwrap();
    outcomes
}

/// What the GPU says of each tree.
fn outcomes(forest: &Forest, rounds: &[(Round<LogitRow>, RoundCoins)], found: &Outcomes) -> Vec<Result<Outcome, i32>> {
    let (accepted, winners) = (found.accepted.read().unwrap(), found.winners.read().unwrap());
    let (output, flags) = (found.output.read().unwrap(), found.flags.read().unwrap());
    rounds
        .iter()
        .enumerate()
        .map(|(i, (round, _))| {
            let output = &output[i * (forest.length + 1)..][..forest.length + 1];
            if accepted[i] < 0 {
                assert!(output.iter().all(|token| *token == -1) && flags[i] != 0);
                return Err(flags[i]);
            }
            let depth = accepted[i] as usize;
            let node = round.tree().paths()[winners[i] as usize][depth];
            let tokens: Vec<i32> = round.tree().tokens(node).iter().map(|&token| token as i32).collect();
            assert_eq!(output[..depth], tokens);
            assert!(output[depth + 1..].iter().all(|token| *token == -1));
            let next = (output[depth] >= 0).then_some(output[depth] as Token);
            Ok(Outcome { node, next })
        })
        .collect()
}

/// The smallest of the bounds by which one coin has to be moved for the CPU to say what the GPU says.
fn excuse(rule: TreeRule, round: &Round<LogitRow>, coins: &RoundCoins, found: &Outcome) -> Option<f64> {
    let length = round.tree().paths().iter().map(|nodes| nodes.len() - 1).max().unwrap_or(0);
    let paths = round.tree().paths().len();
    let purposes = [Purpose::Edge, Purpose::Label, Purpose::Accept, Purpose::Residual];
    for bound in BOUNDS {
        for purpose in purposes {
            for depth in 0..=length {
                for path in 0..paths {
                    for step in [-bound, bound] {
                        let moved = |p: Purpose, d: usize, w: usize| {
                            let coin = coins.coin(p, d, w);
                            if (p, d, w) != (purpose, depth, path) {
                                return coin;
                            }
                            Coin::new((coin.get() + step).clamp(0.0, Coin::LAST.get())).unwrap()
                        };
                        if on_cpu(rule, round, &moved) == *found {
                            return Some(bound);
                        }
                    }
                }
            }
        }
    }
    None
}

/// What a rule came to: trees, those that differ with a coin near an edge, by how near, and those that are wrong.
#[derive(Default)]
struct Tally {
    trees: usize,
    excused: Vec<f64>,
    wrong: usize,
}

fn compare<T: Score>(device: &Device, case: &Case, seed: u64, number: impl Fn(f32) -> T, tallies: &mut [Tally; 2]) {
    let rounds = rounds(case, seed);
    let forest = Forest::new(rounds.iter().map(|(round, _)| round.tree()));
    let rows = upload(device, &forest, &rounds, case.vocab, number);
    for (rule, tally) in RULES.into_iter().zip(tallies) {
        let verifier = TreeVerifier::new(device, rule, T::FORMAT, case.vocab).unwrap();
        let found = verify(device, &verifier, &forest, &rows, case.vocab);
        for (i, (found, (round, coins))) in outcomes(&forest, &rounds, &found).iter().zip(&rounds).enumerate() {
            tally.trees += 1;
            let expected = on_cpu(rule, round, coins);
            let place = format!("{rule:?}, V = {}, {} x {}, tree {i}", case.vocab, case.paths, case.length);
            let Ok(found) = found else {
                println!("{place}: refused with {:#x}, not {expected:?}", found.unwrap_err());
                tally.wrong += 1;
                continue;
            };
            if *found != expected {
                let bound = excuse(rule, round, coins, found);
                println!("{place}: {found:?}, not {expected:?}; coin within {bound:?}");
                match bound {
                    Some(bound) => tally.excused.push(bound),
                    None => tally.wrong += 1,
                }
            }
        }
    }
}

#[test]
fn outcomes_are_those_of_the_cpu() {
    let Some(device) = device() else {
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
    for (rule, Tally { trees, excused, wrong }) in RULES.into_iter().zip(&tallies) {
        println!(
            "{rule:?}: {trees} trees, {wrong} wrong; {} more differ with a coin in its bound: {excused:?}",
            excused.len()
        );
    }
    for Tally { trees, excused, wrong } in &tallies {
        assert!(*wrong == 0 && excused.len() * 200 <= *trees);
    }
}

#[test]
fn trees_with_a_wrong_row_or_token_are_refused_alone() {
    let Some(device) = device() else {
        return;
    };
    let case = Case { vocab: 100, trees: 9, paths: 3, length: 3, noise: 0.5 };
    let rounds = rounds(&case, 3);
    let mut forest = Forest::new(rounds.iter().map(|(round, _)| round.tree()));
    let tree = |i: usize| forest.first[i];
    let (nan, infinite, masked, outside) = (tree(1), tree(2), tree(4), 5);
    forest.tokens[outside * forest.paths * forest.length] = 100;
    let rows = upload(&device, &forest, &rounds, case.vocab, |x| x);
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
    let found = verify(device, &verifier, forest, rows, vocab);
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
        first: (&first).into(),
        coins: (&coins).into(),
    };
    verifier.draw(stream, &draws, &mut drawn).unwrap();
    stream.synchronize().unwrap();
    drawn.tokens.read().unwrap()
}

#[test]
fn drafts_are_drawn_as_on_the_cpu() {
    let Some(device) = device() else {
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
