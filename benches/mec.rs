//! The time of the greedy minimum-entropy coupling of two random laws, and what it is over sorting their masses.
//!
//! `cargo bench --bench mec`. The largest marginal error and the certified gap of each coupling are printed first.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use draftpick::{Pmf, mec};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn greedy(c: &mut Criterion) {
    let mut group = c.benchmark_group("mec");
    group.sample_size(10);
    for symbols in [1_000, 10_000, 100_000, 1_000_000] {
        let mut rng = StdRng::seed_from_u64(7);
        let mut law = || Pmf::from_weights((0..symbols).map(|_| rng.random::<f64>()).collect::<Vec<_>>()).unwrap();
        let (p, q) = (law(), law());
        let coupling = mec::greedy(&[&p, &q]).unwrap();
        println!(
            "{symbols} symbols: {} cells, marginals within {:.1e}, entropy {:.4} bits, none has less than {:.4}",
            coupling.cells().len(),
            coupling.marginal_error(&[&p, &q]),
            coupling.entropy(),
            mec::lower_bound(&[&p, &q]),
        );
        group.bench_function(BenchmarkId::new("greedy", symbols), |b| b.iter(|| mec::greedy(&[&p, &q])));
        group.bench_function(BenchmarkId::new("sort both", symbols), |b| {
            let copies = || (p.as_slice().to_vec(), q.as_slice().to_vec());
            b.iter_batched(
                copies,
                |(mut p, mut q)| {
                    p.sort_unstable_by(f64::total_cmp);
                    q.sort_unstable_by(f64::total_cmp);
                    black_box((p, q))
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, greedy);
criterion_main!(benches);
