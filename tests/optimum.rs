//! The optimal rule against every other way to the optimum: linear programs, max-flow, closed form, subsets.
//!
//! `cargo test --test optimum -- --nocapture` prints the largest deviations.
#![cfg(all(feature = "lp", feature = "minilp"))]

mod common;

use common::{SHAPES, Shape, optimum_over_subsets, problem};
use draftpick::lp::{Solver, solve};
use draftpick::{Rule, bound};

#[test]
fn the_optimal_rule_attains_what_every_solver_finds() {
    // The largest |optimal − solver| on ordinary problems and on spiky ones, whose smallest entries are below the
    // simplex solvers' tolerances.
    let mut worst = [[0.0f64; Solver::ALL.len()]; 2];
    let (mut closed, mut problems) = (0.0f64, [0, 0]);
    for shape in SHAPES {
        let spiky = usize::from(shape == Shape::Spiky);
        for vocab in 1..=6 {
            for k in 1..=4 {
                for seed in 300..325 {
                    let problem = problem(shape, vocab, k, seed);
                    let optimal = Rule::Optimal.prepare(&problem).acceptance().value;
                    for other in [bound::alpha_star(&problem), optimum_over_subsets(&problem)] {
                        closed = closed.max((optimal - other).abs());
                    }
                    for (i, solver) in Solver::ALL.iter().copied().enumerate() {
                        let solution = solve(&problem, solver).unwrap_or_else(|error| panic!("{error}: {problem:?}"));
                        worst[spiky][i] = worst[spiky][i].max((optimal - solution.objective).abs());
                    }
                    problems[spiky] += 1;
                }
            }
        }
    }
    println!("|optimal − closed form or subsets| ≤ {closed:.1e} on {} problems", problems[0] + problems[1]);
    for (i, solver) in Solver::ALL.iter().copied().enumerate() {
        println!(
            "|optimal − {solver}| ≤ {:.1e} on {} ordinary problems, {:.1e} on {} spiky ones",
            worst[0][i], problems[0], worst[1][i], problems[1]
        );
        let spiky = if solver == Solver::MaxFlow { 1e-9 } else { 1e-6 };
        assert!(worst[0][i] <= 1e-9 && worst[1][i] <= spiky, "{solver}: {:?}", worst);
    }
    assert!(closed <= 1e-9, "{closed:e}");
}
