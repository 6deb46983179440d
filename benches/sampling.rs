//! The filters of `Sampling::apply` on a row of f32 logits, beside a softmax of the row, the floor, and top-p by a full sort.
//!
//! `cargo bench --bench sampling`. Rows: Zipf's law, one whose tokens are all alike, and one without any order to rely on.

#[path = "inputs/mod.rs"]
#[allow(dead_code)]
mod inputs;
#[path = "floors/softmax.rs"]
mod softmax;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use draftpick::Sampling;

/// Top-p as its definition says it: every token in order.
fn sorted(logits: &[f32], top_p: f64) -> Vec<f32> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_unstable_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(a.cmp(&b)));
    let most = f64::from(logits[order[order.len() - 1]]);
    let masses: Vec<f64> = order.iter().map(|&token| (f64::from(logits[token]) - most).exp()).collect();
    let total: f64 = masses.iter().sum();
    let mut dropped = 0.0;
    let mut kept = logits.to_vec();
    for (&token, mass) in order.iter().zip(&masses).take(order.len() - 1) {
        dropped += mass;
        if dropped / total > 1.0 - top_p {
            break;
        }
        kept[token] = f32::NEG_INFINITY;
    }
    kept
}

fn filters(c: &mut Criterion) {
    let quick = std::env::args().any(|argument| argument == "--test");
    let plain = Sampling::default();
    let filters = [
        ("temperature", Sampling { temperature: 0.8, ..plain }),
        ("top-k 50", Sampling { top_k: Some(50), ..plain }),
        ("top-p 0.9", Sampling { top_p: Some(0.9), ..plain }),
        ("min-p 0.05", Sampling { min_p: Some(0.05), ..plain }),
        ("all", Sampling { temperature: 0.8, top_k: Some(50), top_p: Some(0.9), min_p: Some(0.05) }),
    ];
    for vocab in if quick { vec![1_000] } else { vec![8_192, 32_000, 128_256] } {
        for input in inputs::inputs(vocab) {
            let row = match input.name {
                "zipf" | "uniform" => input.draft,
                "distinct" => input.target,
                _ => continue,
            };
            let mut group = c.benchmark_group(format!("sampling/V={vocab} {}", input.name));
            group.sample_size(20).measurement_time(Duration::from_millis(500)).warm_up_time(Duration::from_millis(200));
            let mut out = vec![0.0; vocab];
            group.bench_function("softmax", |b| b.iter(|| softmax::softmax(black_box(&row), black_box(&mut out))));
            for (name, sampling) in &filters {
                group.bench_function(*name, |b| {
                    b.iter(|| sampling.apply(black_box(&row)).expect("the rows are finite"))
                });
            }
            group.bench_function("top-p 0.9, sorted", |b| b.iter(|| sorted(black_box(&row), 0.9)));
            group.finish();
        }
    }
}

criterion_group!(benches, filters);
criterion_main!(benches);
