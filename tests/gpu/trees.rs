//! Drafted trees, verified on the CPU and on the device.

// Shared by several tests, each of which uses a part.
#![allow(dead_code)]

use std::collections::HashMap;

use draftpick::gpu::{Buffer, Device, Forest, Outcomes, Rows, Score, Shaping, TreeRule, TreeVerifier, Trees};
use draftpick::path::{
    Block, Coins, DraftTree, LogitRow, Outcome, PathCoupling, PathError, PathVerifier, Purpose, ROOT, Round,
    RoundCoins, SpreadCoupling,
};
use draftpick::{Coin, Token};
use half::bf16;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;

/// How far a coin may be from where the GPU's outcome begins: the stated accuracy from f32 logits, over the probability
/// of what the coin decides between.
const BOUNDS: [f64; 4] = [1e-6, 1e-5, 1e-4, 1e-3];

/// A pair of rows with much in common: one Zipf law, two noises.
pub fn logits(rng: &mut StdRng, vocab: usize, noise: f32) -> [Vec<f32>; 2] {
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

pub struct Case {
    pub vocab: usize,
    pub trees: usize,
    pub paths: usize,
    pub length: usize,
    pub noise: f32,
}

/// Rounds drafted on the CPU: trees of all sizes up to the case's, ending early now and then. The laws are what `law_of` makes
/// of rows.
pub fn rounds(
    case: &Case,
    seed: u64,
    mut law_of: impl FnMut(Vec<f32>) -> Vec<f32>,
) -> Vec<(Round<LogitRow>, RoundCoins)> {
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
                    let [draft, target] = logits(&mut rng, case.vocab, case.noise).map(&mut law_of);
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
                    None => law_of(logits(&mut rng, case.vocab, case.noise)[1].clone()),
                };
                Ok::<_, PathError>(LogitRow::new("target", row).unwrap())
            });
            (round.unwrap(), coins)
        })
        .collect()
}

pub const RULES: [TreeRule; 2] = [TreeRule::Path, TreeRule::Spread];

pub fn on_cpu(rule: TreeRule, round: &Round<LogitRow>, coins: &dyn Coins) -> Outcome {
    match (round.tree().paths(), rule) {
        ([_], _) => Block.verify(round, coins).unwrap(),
        (_, TreeRule::Path) => PathCoupling::default().verify(round, coins).unwrap(),
        (_, TreeRule::Spread) => SpreadCoupling::default().verify(round, coins).unwrap(),
    }
}

/// The rows that others were made of, by their bits.
pub type Raw = HashMap<Vec<u32>, Vec<f32>>;

pub fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}

fn raw_of<'a>(raw: &'a Raw, row: &'a [f32]) -> &'a [f32] {
    if raw.is_empty() { row } else { &raw[&bits(row)] }
}

/// The rows of a batch on the device: row `i` of each model is that of pair `i`.
pub struct OnDevice<T> {
    pub draft: Buffer<T>,
    pub target: Buffer<T>,
    pub draft_rows: Buffer<i32>,
    pub target_rows: Buffer<i32>,
    pub nodes: Buffer<i32>,
    pub tokens: Buffer<i32>,
    pub lengths: Buffer<i32>,
    pub paths_of: Buffer<i32>,
    pub seeds: Buffer<u64>,
    pub starts: Buffer<u64>,
}

pub fn upload<T: Score>(
    device: &Device,
    forest: &Forest,
    rounds: &[(Round<LogitRow>, RoundCoins)],
    vocab: usize,
    raw: &Raw,
    number: impl Fn(f32) -> T,
) -> OnDevice<T> {
    let (mut draft, mut target) = (Vec::new(), Vec::new());
    let (mut draft_rows, mut target_rows) = (Vec::new(), Vec::new());
    for (round, _) in rounds {
        for node in ROOT..round.tree().len() {
            let row = draft_rows.len() as i32;
            let add = |rows: &mut Vec<T>, law: Option<&LogitRow>| match law {
                Some(law) => rows.extend(raw_of(raw, law.as_slice()).iter().map(|&x| number(x))),
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

pub fn verify<T: Score>(
    device: &Device,
    verifier: &TreeVerifier,
    forest: &Forest,
    rows: &OnDevice<T>,
    vocab: usize,
    shaping: Shaping<'_>,
) -> Outcomes {
    let mut outcomes = verifier.outcomes(forest.trees(), forest.pairs(), forest.paths, forest.length).unwrap();
    let trees = Trees {
        draft: Rows::new(&rows.draft, vocab, vocab),
        target: Rows::new(&rows.target, vocab, vocab),
        vocab,
        draft_rows: (&rows.draft_rows).into(),
        target_rows: (&rows.target_rows).into(),
        shaping,
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
pub fn outcomes(
    forest: &Forest,
    rounds: &[(Round<LogitRow>, RoundCoins)],
    found: &Outcomes,
) -> Vec<Result<Outcome, i32>> {
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
pub fn excuse(rule: TreeRule, round: &Round<LogitRow>, coins: &RoundCoins, found: &Outcome) -> Option<f64> {
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
pub struct Tally {
    pub trees: usize,
    pub excused: Vec<f64>,
    pub wrong: usize,
}

impl Tally {
    /// Holds what the device found of each tree to the CPU's outcome.
    pub fn add(
        &mut self,
        rule: TreeRule,
        case: &Case,
        rounds: &[(Round<LogitRow>, RoundCoins)],
        found: &[Result<Outcome, i32>],
    ) {
        for (i, (found, (round, coins))) in found.iter().zip(rounds).enumerate() {
            self.trees += 1;
            let expected = on_cpu(rule, round, coins);
            let place = format!("{rule:?}, V = {}, {} x {}, tree {i}", case.vocab, case.paths, case.length);
            let Ok(found) = found else {
                println!("{place}: refused with {:#x}, not {expected:?}", found.unwrap_err());
                self.wrong += 1;
                continue;
            };
            if *found != expected {
                let bound = excuse(rule, round, coins, found);
                println!("{place}: {found:?}, not {expected:?}; coin within {bound:?}");
                match bound {
                    Some(bound) => self.excused.push(bound),
                    None => self.wrong += 1,
                }
            }
        }
    }

    /// Prints the counts; panics if a tree is wrong, or more than one in 200 excused.
    pub fn report(&self, what: &str) {
        let Tally { trees, excused, wrong } = self;
        println!(
            "{what}: {trees} trees, {wrong} wrong; {} more differ with a coin in its bound: {excused:?}",
            excused.len()
        );
        assert!(*wrong == 0 && excused.len() * 200 <= *trees, "{what}: {wrong} trees are wrong");
    }
}
