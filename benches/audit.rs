//! What an audit finds, how soon, and at what speed. `cargo bench --bench audit` prints everything; `-- alarms`,
//! `-- found` and `-- speed` one part.
//!
//! - *alarms*: how many of 1,000 honest logs are refused at level 0.05, over every rule.
//! - *found*: after how many tokens each mistake is found at level 0.001, on the recorded scores that come along: the
//!   median and the 90 % point over 20 logs. Among them outputs that are off by 1 % in total variation.
//! - *speed*: rounds and rows of scores a second on one thread, from the bytes of a log to the evidence in it, and the
//!   highest memory of the process.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Instant;

use draftpick::audit::log::{Header, Reader, Writer};
use draftpick::audit::simulate::{Chain, Engine, Mistake, records};
use draftpick::audit::{Audit, KnownRule, Record, Settings, Test};
use draftpick::trace::{Precision, Trace, Values};
use draftpick::{Drawn, Pmf, Sampling};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LOGS: u64 = 1_000;
const ROUNDS: usize = 400;
const SEEDS: u64 = 20;
/// The most tokens of a log in which a mistake is looked for.
const MOST_TOKENS: u64 = 400_000;

/// Every rule, and the number and length of its paths.
const HONEST: [(&str, usize, usize); 10] = [
    ("maximal", 1, 1),
    ("block", 1, 3),
    ("rrs", 3, 1),
    ("rrs-wor", 3, 1),
    ("kseq", 4, 1),
    ("kseq", 3, 2),
    ("optimal", 2, 2),
    ("optimal-linear", 4, 1),
    ("traversal", 3, 2),
    ("path", 3, 2),
];

/// Eight pairs of laws over 50 tokens.
fn small(seed: u64) -> Chain {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut draft, mut target) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let logits: Vec<f64> = (0..50).map(|_| -3.0 * rng.random::<f64>().ln()).collect();
        for (laws, noise) in [(&mut draft, 3.0), (&mut target, 1.0)] {
            let weights = logits.iter().map(|logit| (logit + noise * (rng.random::<f64>() - 0.5)).exp());
            laws.push(Pmf::from_weights(weights.collect::<Vec<_>>()).expect("positive weights"));
        }
    }
    Chain::new(draft, target).expect("as many rows of both")
}

/// The recorded scores of the pair that comes along.
fn recorded(sampling: &Sampling) -> Chain {
    let trace = Trace::embedded();
    let rows = || 0..trace.rows();
    let draft = rows().map(|row| trace.draft_with(row, sampling).expect("a row of the trace")).collect();
    let target = rows().map(|row| trace.target_with(row, sampling).expect("a row of the trace")).collect();
    Chain::new(draft, target).expect("as many rows of both")
}

fn settings(level: f64, rule: Option<KnownRule>) -> Settings {
    let drawn = if rule == Some(KnownRule::Distinct) { Drawn::WithoutReplacement } else { Drawn::Independent };
    Settings { level, rule, drawn, compared: 0, ..Settings::default() }
}

fn add(audit: &mut Audit, record: &Record) {
    let look = audit.plan().look(audit.rounds(), record).expect("the rule takes the drafts");
    audit.add(look);
}

fn alarms() {
    let (mut refused, mut by_test) = (0, [0; 3]);
    let mut tokens = 0;
    for log in 0..LOGS {
        let (name, paths, length) = HONEST[log as usize % HONEST.len()];
        let rule: KnownRule = name.parse().expect("a rule's name");
        let chain = small(log);
        let mut audit = Audit::new(settings(0.05, Some(rule)));
        for record in records(&chain, Engine::Honest(rule), paths, length, log).take(ROUNDS) {
            add(&mut audit, &record.expect("the rule takes the drafts"));
        }
        refused += u32::from(!audit.is_lossless());
        for (count, tested) in by_test.iter_mut().zip(audit.tested()) {
            *count += u32::from(tested.rejected_after.is_some());
        }
        tokens += audit.tokens();
    }
    println!(
        "alarms: {refused} of {LOGS} honest logs of {ROUNDS} rounds ({tokens} tokens) refused at level 0.05; output {}, \
         drafts {}, rule {}",
        by_test[0], by_test[1], by_test[2]
    );
}

/// The share of unchecked drafts that makes the output of a chain off by 1 % in total variation.
fn one_percent(draft: &[Pmf], target: &[Pmf]) -> f64 {
    let distance =
        |(p, q): (&Pmf, &Pmf)| p.as_slice().iter().zip(q.as_slice()).map(|(p, q)| (p - q).max(0.0)).sum::<f64>();
    0.01 * draft.len() as f64 / draft.iter().zip(target).map(distance).sum::<f64>()
}

fn found() {
    let plain = Sampling::default();
    let filtered = Sampling { top_k: Some(50), ..plain };
    let trace = Trace::embedded();
    let laws = |draft: bool| -> Vec<Pmf> {
        let row = |row| if draft { trace.draft(row) } else { trace.target(row) };
        (0..trace.rows()).map(|i| row(i).expect("a row of the trace")).collect()
    };
    let share = one_percent(&laws(true), &laws(false));
    println!("found: tokens at level 0.001, median and 90 % point over {SEEDS} logs; 4,096 tokens");
    for (name, mistake, sampling, paths, length) in [
        ("coin of 0 accepts, 8-bit coins, top-k 50", Mistake::LaxCoin { bits: 8 }, &filtered, 1, 1),
        ("coin of 0 accepts, 11-bit coins, top-k 50", Mistake::LaxCoin { bits: 11 }, &filtered, 1, 1),
        ("bonus token from the row before", Mistake::BonusFromRowBefore, &plain, 1, 1),
        ("bonus token from the row before, K 4, L 3", Mistake::BonusFromRowBefore, &plain, 4, 3),
        ("draft temperature 0.7 ignored", Mistake::DraftTemperature(1.0 / 0.7), &plain, 1, 1),
        ("draft temperature 0.9 ignored", Mistake::DraftTemperature(1.0 / 0.9), &plain, 1, 1),
        ("draft temperature 1.3 ignored", Mistake::DraftTemperature(1.0 / 1.3), &plain, 1, 1),
        ("residual from the target", Mistake::ResidualFromTarget, &plain, 1, 1),
        ("residual from the target, K 4", Mistake::ResidualFromTarget, &plain, 4, 1),
        ("off by 1 %: drafts not checked", Mistake::Unchecked(share), &plain, 1, 1),
    ] {
        let chain = recorded(sampling);
        let mut tokens: Vec<Option<u64>> = (0..SEEDS)
            .map(|seed| {
                let mut audit = Audit::new(settings(0.001, None));
                for record in records(&chain, Engine::Mistaken(mistake), paths, length, 1 + seed) {
                    add(&mut audit, &record.expect("the number of paths is in range"));
                    let first = audit.tested().into_iter().filter_map(|tested| tested.rejected_after).min();
                    if first.is_some() || audit.tokens() > MOST_TOKENS {
                        return first;
                    }
                }
                None
            })
            .collect();
        // What was not found comes last.
        tokens.sort_unstable_by_key(|tokens| tokens.unwrap_or(u64::MAX));
        let at = |share: f64| tokens[(share * (SEEDS - 1) as f64) as usize].map_or("–".into(), |n| n.to_string());
        println!("  {name:<44} {:>8} {:>8}", at(0.5), at(0.9));
    }
}

/// A pair of laws over a vocabulary, as the other benchmarks have it.
fn zipf(vocab: usize) -> Chain {
    let mut rng = StdRng::seed_from_u64(7);
    let logits: Vec<f64> = (0..vocab).map(|i| -1.1 * ((i * 7919 % vocab) as f64 + 3.0).ln()).collect();
    let mut law = |noise: f64| {
        let weights = logits.iter().map(|x| (x + noise * (rng.random::<f64>() - 0.5)).exp());
        Pmf::from_weights(weights.collect::<Vec<_>>()).expect("positive weights")
    };
    Chain::new(vec![law(1.0)], vec![law(2.0)]).expect("as many rows of both")
}

/// The seconds that this thread has run; off Linux those that have passed.
fn processor_time() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let passed = START.elapsed().as_secs_f64();
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = spent.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or(passed, |nanoseconds| nanoseconds * 1e-9)
}

fn speed() {
    println!(
        "speed: one thread, processor time, from the bytes to the evidence; one draft a round, three rows of scores"
    );
    for (vocab, precision, top, rounds) in [
        (4_096, Precision::F32, None, 4_000),
        (128_256, Precision::F32, None, 60),
        (128_256, Precision::F16, None, 60),
        (128_256, Precision::F32, Some(64), 10_000),
    ] {
        let chain = zipf(vocab);
        let chain = top.map_or(chain.clone(), |most| chain.logging_top(most));
        let header = Header::new(vocab, Values::Logits, Some(precision));
        let mut writer = Writer::new(Vec::new(), header).expect("a vector takes all");
        let engine = Engine::Honest("maximal".parse().expect("a rule's name"));
        let mut rows = 0;
        for record in records(&chain, engine, 1, 1, 3).take(rounds) {
            rows += 3;
            writer.write(&record.expect("one path")).expect("a vector takes all");
        }
        let bytes = writer.finish().expect("a vector takes all");
        let time = |work: &mut dyn FnMut()| {
            let times = (0..3).map(|_| {
                let start = processor_time();
                work();
                processor_time() - start
            });
            times.fold(f64::INFINITY, f64::min)
        };
        let parsed = time(&mut || {
            let mut reader = Reader::new(&bytes[..]).expect("what was written");
            while let Some(record) = reader.next_record().expect("what was written") {
                black_box(record);
            }
        });
        let all = time(&mut || {
            let mut reader = Reader::new(&bytes[..]).expect("what was written");
            let mut audit = Audit::new(settings(0.001, None));
            while let Some(record) = reader.next_record().expect("what was written") {
                add(&mut audit, &record);
            }
            assert_eq!(audit.tested()[0].test, Test::Output);
        });
        let form = top.map_or("full".into(), |most| format!("top {most}"));
        println!(
            "  V {vocab:>7} {precision} {form:<7} {:>9.0} rounds/s {:>9.0} rows/s; {:>3.0} % of it reading; {:.0} MB/s",
            rounds as f64 / all,
            f64::from(rows) / all,
            100.0 * parsed / all,
            bytes.len() as f64 / all / 1e6
        );
    }
    // Linux only; elsewhere there is nothing to say.
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("  {line}"));
    }
}

fn main() {
    let picked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let parts: [(&str, fn()); 3] = [("alarms", alarms), ("found", found), ("speed", speed)];
    for (name, part) in parts {
        if picked.is_empty() || picked.iter().any(|pick| pick == name) {
            part();
        }
    }
}
