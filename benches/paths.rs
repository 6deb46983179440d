//! What verifying whole paths costs for each drafted node, over two floors.
//!
//! `cargo bench --bench paths` prints one table; `cargo bench --bench paths -- path traversal` only those verifiers, and
//! `V=128256` only that vocabulary. The scores are f32 logits. Everything is timed in one process, floors and
//! verifiers in turn, again and again. Of each round and set of coins the shortest time counts, which others on the
//! machine disturbed least; a figure is the sum of these over the rounds and sets, over that of the floor.

#[path = "floors/largest.rs"]
mod largest;
#[path = "floors/softmax.rs"]
mod softmax;

use std::hint::black_box;
use std::time::Instant;

use draftpick::path::{DraftTree, LogitRow, PathError, PathVerifier, Round, RoundCoins, Verifier};

/// How the two models' laws at a node look.
#[derive(Clone, Copy)]
enum Input {
    /// Two noisy views of one Zipf law: the ordinary case.
    Zipf,
    /// The same with so little noise that hardly any path loses before its end.
    Close,
    /// Laws with little in common: most rounds end at the root, with a residual draw.
    Distinct,
}

const INPUTS: [(&str, Input); 3] = [("zipf", Input::Zipf), ("close", Input::Close), ("distinct", Input::Distinct)];

/// SplitMix64: a cheap source of noise for some ten million logits.
struct Noise(u64);

impl Noise {
    /// The sum of four uniform numbers, centred, times `size`.
    fn next(&mut self, size: f32) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let sum: u64 = (0..4).map(|i| x >> (16 * i) & 0xffff).sum();
        size * (sum as f32 / 65_536.0 - 2.0)
    }
}

/// The logits of both models at a node. Every node has its own.
fn rows(vocab: usize, input: Input, node: u64) -> [Vec<f32>; 2] {
    let mut noise = Noise(node << 32);
    let turn = noise.0.wrapping_mul(0x2545_f491_4f6c_dd1d) as usize % vocab;
    let zipf = (0..vocab).map(|i| -1.1 * (((i + turn) * 7919 % vocab) as f32 + 3.0).ln());
    let draft: Vec<f32> = zipf.map(|x| x + noise.next(1.0)).collect();
    let target = match input {
        Input::Zipf => draft.iter().map(|x| x + noise.next(2.0)).collect(),
        Input::Close => draft.iter().map(|x| x + noise.next(0.03)).collect(),
        Input::Distinct => (0..vocab).map(|_| noise.next(6.0)).collect(),
    };
    [draft, target]
}

fn row(name: &'static str, logits: Vec<f32>) -> LogitRow {
    LogitRow::new(name, logits).expect("the inputs are finite")
}

/// A drafted and scored round.
fn round(vocab: usize, paths: usize, length: usize, input: Input, seed: u64) -> Round<LogitRow> {
    let coins = RoundCoins { seed, start: 0 };
    let key = |node: usize| seed << 16 | node as u64;
    let mut tree = DraftTree::new(paths).expect("the number of paths is in range");
    let mut targets: Vec<Option<LogitRow>> = Vec::new();
    for _ in 0..length {
        for node in tree.open() {
            let [draft, target] = rows(vocab, input, key(node));
            tree.draw(node, row("draft", draft), &coins).expect("the node is an open leaf");
            targets.resize(tree.len(), None);
            targets[node] = Some(row("target", target));
        }
    }
    for node in tree.open() {
        let [_, target] = rows(vocab, input, key(node));
        targets[node] = Some(row("target", target));
    }
    tree.score(|node| Ok::<_, PathError>(targets[node].take().expect("every node was scored"))).expect("one vocabulary")
}

/// The pairs of rows at the nodes from which drafts went on.
fn pairs(round: &Round<LogitRow>) -> impl Iterator<Item = [&[f32]; 2]> {
    (0..round.tree().len())
        .filter_map(|node| round.pair(node).map(|(draft, target)| [draft, target].map(LogitRow::as_slice)))
}

/// Reads the rows once.
fn read(round: &Round<LogitRow>) {
    for row in pairs(round).flatten() {
        black_box(largest::largest(black_box(row)));
    }
}

/// Seconds that `work` takes.
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Sets of coins that every round is verified with: how much a verifier has to look at depends on them.
const COINS: u64 = 4;

struct Figures {
    per_node: f64,
    over_reading: f64,
    over_softmax: f64,
}

/// Verifies every round with every set of coins, floors in between, until `seconds` have passed.
fn measure(verifier: Verifier, rounds: &[Round<LogitRow>], seconds: f64) -> Figures {
    let mut out = vec![0.0; rounds[0].vocab()];
    // The shortest times, summed over the rounds.
    let (mut verified, mut reading, mut softmaxes, mut nodes) = (0.0, 0.0, 0.0, 0);
    for round in rounds {
        let mut best = [f64::INFINITY; COINS as usize + 2];
        let begin = Instant::now();
        for repeat in 0.. {
            if repeat >= 3 && begin.elapsed().as_secs_f64() > seconds / rounds.len() as f64 {
                break;
            }
            let mut keep = |place: usize, taken: f64| best[place] = best[place].min(taken);
            for start in 0..COINS {
                let coins = RoundCoins { seed: 3, start };
                // A row keeps the sums that were once made of it: every verification has its own rows.
                let fresh = round.clone();
                let verify = || {
                    black_box(verifier.verify(black_box(&fresh), &coins).expect("a valid round"));
                };
                keep(start as usize, time(verify));
            }
            keep(COINS as usize, time(|| read(round)));
            let normalise = || {
                for row in pairs(round).flatten() {
                    softmax::softmax(black_box(row), &mut out);
                    black_box(&out);
                }
            };
            keep(COINS as usize + 1, time(normalise));
        }
        let [coins @ .., read_once, normalised] = best;
        verified += coins.iter().sum::<f64>() / COINS as f64;
        reading += read_once;
        softmaxes += normalised;
        nodes += pairs(round).count();
    }
    Figures { per_node: verified / nodes as f64, over_reading: verified / reading, over_softmax: verified / softmaxes }
}

/// What checking the rows costs, which comes before any verification, over reading them.
fn rows_over_reading(round: &Round<LogitRow>) -> f64 {
    let (mut reading, mut checked) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..7 {
        let copies: Vec<_> = pairs(round).flatten().map(<[f32]>::to_vec).collect();
        reading = reading.min(time(|| read(round)));
        checked = checked.min(time(|| copies.into_iter().for_each(|logits| drop(black_box(row("target", logits))))));
    }
    checked / reading
}

fn main() {
    // `cargo bench` and `cargo test --benches` pass flags that mean nothing here; the latter only wants to see it run.
    let quick = std::env::args().any(|argument| argument == "--test");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str, prefix: &str| {
        let mut of_kind = wanted.iter().filter(|wanted| wanted.starts_with("V=") == (prefix == "V=")).peekable();
        of_kind.peek().is_none() || of_kind.any(|wanted| wanted.strip_prefix(prefix) == Some(name))
    };
    let vocabs: &[usize] = if quick { &[1_000] } else { &[4_096, 32_000, 128_256] };
    println!("verifying a round of f32 logits, over reading the rows of its nodes once and over their softmaxes");
    println!("a node is one that drafts went on from: it has two rows");
    println!(
        "{:<21} {:>7} {:>2} {:>2} {:<9} {:>6} {:>12} {:>10} {:>10}",
        "verifier", "V", "K", "L", "input", "nodes", "time a node", "× reading", "× softmax"
    );
    for &vocab in vocabs.iter().filter(|vocab| is_wanted(&vocab.to_string(), "V=")) {
        for (paths, length) in [(1, 5), (4, 5), (8, 8)] {
            for (name, input) in INPUTS {
                let rounds: Vec<_> = (0..3).map(|seed| round(vocab, paths, length, input, seed)).collect();
                let nodes = rounds.iter().map(|round| pairs(round).count()).sum::<usize>() / rounds.len();
                let line = |verifier: &str, figures: [String; 3]| {
                    let [per_node, reading, softmax] = figures;
                    println!(
                        "{verifier:<21} {vocab:>7} {paths:>2} {length:>2} {name:<9} {nodes:>6} {per_node:>12} \
                         {reading:>10} {softmax:>10}"
                    );
                };
                for verifier in ["token:kseq", "token:optimal-linear", "block", "traversal", "path", "spread"] {
                    if !is_wanted(verifier, "") || verifier == "block" && paths > 1 {
                        continue;
                    }
                    let figures =
                        measure(verifier.parse().expect("a verifier"), &rounds, if quick { 0.0 } else { 0.4 });
                    line(
                        verifier,
                        [
                            format!("{:.1} µs", figures.per_node * 1e6),
                            format!("{:.2}", figures.over_reading),
                            format!("{:.2}", figures.over_softmax),
                        ],
                    );
                }
                line("(checking the rows)", ["".into(), format!("{:.2}", rows_over_reading(&rounds[0])), "".into()]);
            }
        }
    }
}
