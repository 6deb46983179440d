//! How far each selector is from the floor: the time from two rows of f32 logits to a selected token, over the time
//! that the softmaxes of the two rows take alone.
//!
//! `cargo bench --bench floor` prints one table; `cargo bench --bench floor -- kseq optimal` only those selectors.
//! Everything is timed in one process, floor and selectors in turn, and each figure is the median of the ratios of
//! neighbouring timings: a machine that changes its speed changes both.

mod inputs;
#[path = "floors/softmax.rs"]
mod softmax;

use std::hint::black_box;
use std::time::{Duration, Instant};

use draftpick::{Coin, Pmf, Rule, Sampling};
use inputs::{Input, draw, inputs, prepare};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Figures {
    over_floor: f64,
    prepare: Duration,
    select: Duration,
    floor: Duration,
}

fn measure(rule: Rule, input: &Input, k: usize, rounds: usize) -> Figures {
    let mut rng = StdRng::seed_from_u64(11);
    let law = Pmf::from_logits(&input.draft, &Sampling::default()).expect("the inputs are finite");
    let (mut p, mut q) = (vec![0.0; input.draft.len()], vec![0.0; input.draft.len()]);
    let (mut ratios, mut prepares, mut selects, mut floors) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let drafts = draw(rule, &law, k, &mut rng);
        let coins: Vec<Coin> = (0..drafts.len() + 2).map(|_| rng.random()).collect();

        let start = Instant::now();
        softmax::softmax(black_box(&input.draft), &mut p);
        softmax::softmax(black_box(&input.target), &mut q);
        black_box((&p, &q));
        let floor = start.elapsed();

        let start = Instant::now();
        let selector = prepare(rule, black_box(input), k);
        let prepared = start.elapsed();
        black_box(selector.select(&drafts, &coins).expect("the drafts were drawn"));
        let all = start.elapsed();

        // A second selection, in which the accept coin is 0: no residual draw where the target allows the token.
        let mut accepting = coins.clone();
        accepting[drafts.len()] = Coin::ZERO;
        let start = Instant::now();
        black_box(selector.select(&drafts, &accepting).expect("the drafts were drawn"));
        selects.push(start.elapsed().as_secs_f64());
        ratios.push(all.as_secs_f64() / floor.as_secs_f64());
        prepares.push(prepared.as_secs_f64());
        floors.push(floor.as_secs_f64());
    }
    Figures {
        over_floor: median(ratios),
        prepare: Duration::from_secs_f64(median(prepares)),
        select: Duration::from_secs_f64(median(selects)),
        floor: Duration::from_secs_f64(median(floors)),
    }
}

fn main() {
    // `cargo bench` and `cargo test --benches` pass flags that mean nothing here; the latter only wants to see it run.
    let quick = std::env::args().any(|argument| argument == "--test");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let vocabs: &[usize] = if quick { &[1_000] } else { &[32_000, 128_256] };
    let ks: &[usize] = if quick { &[2] } else { &[2, 4, 8] };
    println!("(f32 logits of both rows → prepared selector → one selection) / (softmax of the two rows)");
    println!("medians of ratios; 'select' is one more selection, accepted where the rule allows it");
    println!(
        "{:<15} {:>7} {:>2} {:<9} {:>8} {:>12} {:>11} {:>10}",
        "selector", "V", "k", "input", "× floor", "prepare", "select", "floor"
    );
    for &vocab in vocabs {
        let inputs = inputs(vocab);
        for rule in Rule::ALL {
            for &k in ks {
                if rule == Rule::Maximal && k != ks[0]
                    || !(wanted.is_empty() || wanted.iter().any(|w| w == rule.name()))
                {
                    continue;
                }
                for input in &inputs {
                    let rounds = match rule {
                        _ if quick => 3,
                        Rule::KSeq | Rule::OptimalLinear | Rule::Maximal => 101,
                        _ => 15,
                    };
                    let figures = measure(rule, input, k, rounds);
                    println!(
                        "{:<15} {:>7} {:>2} {:<9} {:>8.2} {:>10.1} µs {:>8.2} µs {:>7.1} µs",
                        rule.name(),
                        vocab,
                        if rule == Rule::Maximal { 1 } else { k },
                        input.name,
                        figures.over_floor,
                        figures.prepare.as_secs_f64() * 1e6,
                        figures.select.as_secs_f64() * 1e6,
                        figures.floor.as_secs_f64() * 1e6,
                    );
                }
            }
        }
    }
}
