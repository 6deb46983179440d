//! How far k-SEQ is from the optimum: its guarantee, and the worst problems that a search finds.
//!
//! `cargo run --release --example bounds`
//!
//! k-SEQ accepts at least `1 − (1 − 1/k)^k` of what any rule can (Sun et al. 2023). For each `k` the search starts from
//! random laws over a few tokens and climbs: it changes one law a little, and keeps what makes k-SEQ's share of
//! the optimum smaller.

use draftpick::kseq::KSeq;
use draftpick::{Pmf, Problem, Selector, bound};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const STARTS: usize = 40;
const STEPS: usize = 1500;

/// k-SEQ's share of the optimum.
fn share(p: &[f64], q: &[f64], k: usize) -> Option<f64> {
    let problem = Problem::new(Pmf::from_weights(p).ok()?, Pmf::from_weights(q).ok()?, k).ok()?;
    let optimum = bound::alpha_star(&problem);
    // Where next to nothing can be accepted, the share is a quotient of roundings.
    (optimum > 1e-3).then(|| KSeq::new(problem).acceptance().value / optimum)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(" k   guarantee   worst found   p                          q");
    for k in [1, 2, 3, 4, 8] {
        let mut rng = StdRng::seed_from_u64(k as u64);
        let mut worst = (f64::INFINITY, Vec::new(), Vec::new());
        for start in 0..STARTS {
            let symbols = 2 + start % 3;
            let mut random = || (0..symbols).map(|_| rng.random::<f64>()).collect::<Vec<f64>>();
            let (mut p, mut q) = (random(), random());
            let Some(mut best) = share(&p, &q, k) else { continue };
            for step in 0..STEPS {
                let (mut new_p, mut new_q) = (p.clone(), q.clone());
                let law = if rng.random::<bool>() { &mut new_p } else { &mut new_q };
                let token = rng.random_range(0..symbols);
                // Wide steps at first, narrow ones at the end.
                let width = 2.0 * (1.0 - step as f64 / STEPS as f64) + 0.01;
                law[token] *= (width * (rng.random::<f64>() - 0.5)).exp();
                if let Some(found) = share(&new_p, &new_q, k).filter(|found| *found < best) {
                    (p, q, best) = (new_p, new_q, found);
                }
            }
            if best < worst.0 {
                worst = (best, p, q);
            }
        }
        let (found, p, q) = worst;
        let guarantee = bound::guarantee(k)?;
        let law = |weights: &[f64]| {
            let total: f64 = weights.iter().sum();
            weights.iter().map(|weight| format!("{:.4}", weight / total)).collect::<Vec<_>>().join(" ")
        };
        println!("{k:>2}   {guarantee:>9.6}   {found:>11.6}   {:<26} {}", law(&p), law(&q));
        assert!(found >= guarantee - 1e-12, "k-SEQ falls below its guarantee");
    }
    Ok(())
}
